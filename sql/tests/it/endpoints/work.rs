//! The endpoints about the work itself, over a small fixture of two agents' days.

use super::{check, facts};
use crate::support::{Facts, caller, params};
use expect_test::expect;
use serde_json::{Value, json};
use sql::Opening;

/// Weekdays from nine to five in Berlin, and no work on Monday 2024-05-20.
fn opening() -> Opening {
    let mut opening = Opening::default();
    (0..5).for_each(|day| opening.add(day, 9 * 60, 17 * 60));
    assert!(opening.close("2024-05-20"));
    opening
}

fn assignment(id: &str, chat: &str, at: &str, agent: &str, strategy: &str, waited: Option<f64>) -> Value {
    json!({"event_id": id, "conversation_id": chat, "occurred_at": at, "agent_id": agent, "strategy": strategy,
           "trigger": "first_message", "actor_type": if strategy == "manual" { "agent" } else { "system" },
           "waiting_seconds": waited, "queue_trigger": waited.map(|_| "first_message"), "group_id": "sales"})
}

fn slot(agent: &str, chat: &str, from: &str, to: &str) -> Value {
    json!({"event_id": format!("{chat}{to}"), "conversation_id": chat, "agent_id": agent, "started_at": from,
           "ended_at": to, "snoozed": false})
}

fn status(agent: &str, at: &str, status: &str) -> Value {
    json!({"event_id": at, "agent_id": agent, "occurred_at": at, "recorded_at": at, "status": status})
}

/// Tuesday 2024-05-21 of anna (online 10:00 to 14:00 UTC) and ben.
fn day() -> Facts {
    let mut taken_over = assignment("a3", "c1", "2024-05-21T11:30:00Z", "ben", "manual", None);
    taken_over["previous_agent_id"] = json!("anna");
    let mut given_back = assignment("a4", "c3", "2024-05-21T12:00:00Z", "ben", "least_loaded", Some(120.0));
    given_back["queue_trigger"] = json!("agent_offline");
    given_back["agent_load"] = json!(3);
    given_back["agent_capacity"] = json!(6);
    Facts::default()
        .open(opening())
        .add(
            "acme",
            "assignments",
            &[
                assignment("a0", "c0", "2024-05-20T22:30:00Z", "anna", "round_robin", Some(10.0)),
                assignment("a1", "c1", "2024-05-21T10:00:00Z", "anna", "least_loaded", Some(30.0)),
                assignment("a2", "c2", "2024-05-21T11:00:00Z", "anna", "least_loaded", Some(90.5)),
                taken_over,
                given_back,
            ],
        )
        .add(
            "acme",
            "activity",
            &[
                // Two at a time from 11:00 to 11:30.
                slot("anna", "c1", "2024-05-21T10:00:00Z", "2024-05-21T11:30:00Z"),
                slot("anna", "c2", "2024-05-21T11:00:00Z", "2024-05-21T12:00:00Z"),
                slot("ben", "c1", "2024-05-21T11:30:00Z", "2024-05-21T12:30:00Z"),
            ],
        )
        .add(
            "acme",
            "presence",
            &[
                status("anna", "2024-05-21T10:00:00Z", "online"),
                status("anna", "2024-05-21T14:00:00Z", "offline"),
                status("ben", "2024-05-19T10:00:00Z", "online"),
                status("ben", "2024-05-21T12:00:00Z", "away"),
                // After the period: it must not end what is before.
                status("ben", "2024-05-25T12:00:00Z", "online"),
            ],
        )
        .add(
            "acme",
            "resolutions",
            &[
                json!({"event_id": "r1", "conversation_id": "c1", "occurred_at": "2024-05-21T12:30:00Z", "agent_id": "ben",
                       "resolved_by": "ben", "group_id": "sales", "resolution_seconds": 9_000.0, "handle_seconds": 3_600.0,
                       "assigned_at": "2024-05-21T11:30:00Z"}),
                json!({"event_id": "r2", "conversation_id": "c9", "occurred_at": "2024-05-21T12:40:00Z",
                       "resolved_by": "ben", "resolution_seconds": 60.0}),
            ],
        )
}

/// By the assignment's day in the zone: 22:30 UTC is the next day in Berlin.
#[tokio::test]
async fn waiting_time() {
    let r = day().reports();
    check(&r, "acme", "waiting_time", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        4 | 62.625 | 60.25 | 111.15 | 119.115
    "#]]).await;
    check(&r, "acme", "waiting_time?by=day&fill=false&time_zone=UTC", expect![[r#"
        day Nullable(Date) | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "2024-05-20" | 1 | 10 | 10 | 10 | 10
        "2024-05-21" | 3 | 80.16666666666667 | 90.5 | 114.1 | 119.41
    "#]]).await;
    check(&r, "acme", "waiting_time?by=day&fill=false", expect![[r#"
        day Nullable(Date) | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "2024-05-21" | 4 | 62.625 | 60.25 | 111.15 | 119.115
    "#]]).await;
    check(&r, "acme", "waiting_time?by=agent", expect![[r#"
        agent_id String | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "anna" | 3 | 43.5 | 30 | 78.4 | 89.28999999999999
        "ben" | 1 | 120 | 120 | 120 | 120
    "#]]).await;
    check(&r, "acme", "waiting_time?by=group&date_from=2024-05-21&date_to=2024-05-21 12:30", expect![[r#"
        group_id Nullable(String) | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "sales" | 2 | 20 | 20 | 28 | 29.8
    "#]]).await;
}

#[tokio::test]
async fn handle_time() {
    let r = day().reports();
    check(&r, "acme", "handle_time", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        1 | 3600 | 3600 | 3600 | 3600
    "#]]).await;
    check(&r, "acme", "handle_time?by=agent", expect![[r#"
        agent_id String | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "ben" | 1 | 3600 | 3600 | 3600 | 3600
    "#]]).await;
    check(&r, "nobody", "handle_time?hours=business", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        0 | null | null | null | null
    "#]]).await;
}

/// Berlin is open from nine to five; Monday the 20th is a holiday; clocks go forward on 2024-03-31.
#[tokio::test]
async fn business_hours() {
    let reply = |at: &str, seconds: f64| {
        json!({"event_id": at, "conversation_id": at, "occurred_at": at, "author_type": "agent",
        "author_id": "anna", "reply_seconds": seconds, "first_response_seconds": seconds})
    };
    let handled = |id: &str, at: &str, assigned: &str| {
        json!({"event_id": id, "conversation_id": id, "occurred_at": at,
        "agent_id": "anna", "resolved_by": "anna", "resolution_seconds": 7_200.0, "handle_seconds": 7_200.0,
        "assigned_at": assigned})
    };
    let mut aside = slot("anna", "h1", "2024-05-21T14:15:00Z", "2024-05-21T14:30:00Z");
    aside["snoozed"] = json!(true);
    let r = Facts::default()
        .open(opening())
        .add(
            "acme",
            "messages",
            &[
                // Friday 16:50 to Tuesday 09:05: ten minutes, a holiday, five minutes.
                reply("2024-05-21T07:05:00Z", 317_700.0),
                // Tuesday 10:00 to 10:01:40.250: all of it.
                reply("2024-05-21T08:01:40.250Z", 100.25),
                // Friday 2024-03-29 16:00 (UTC+1) to Monday 2024-04-01 10:00 (UTC+2): an hour and an hour.
                reply("2024-04-01T08:00:00Z", 234_000.0),
            ],
        )
        .add(
            "acme",
            "resolutions",
            &[
                handled("h1", "2024-05-21T15:30:00Z", "2024-05-21T13:45:00Z"),
                // All of it after five.
                handled("h2", "2024-05-21T18:00:00Z", "2024-05-21T16:00:00Z"),
            ],
        )
        .add(
            "acme",
            "activity",
            &[
                // Before the assignment that counts.
                slot("ben", "h1", "2024-05-21T12:00:00Z", "2024-05-21T13:45:00Z"),
                slot("anna", "h1", "2024-05-21T13:45:00Z", "2024-05-21T14:15:00Z"),
                aside,
                // Until 15:00 UTC it is before five.
                slot("anna", "h1", "2024-05-21T14:30:00Z", "2024-05-21T15:30:00Z"),
                slot("anna", "h2", "2024-05-21T16:00:00Z", "2024-05-21T18:00:00Z"),
            ],
        )
        .reports();
    check(&r, "acme", "reply_time?hours=business&date_from=2024-03-01&by=day&fill=false", expect![[r#"
        day Nullable(Date) | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "2024-04-01" | 1 | 7200 | 7200 | 7200 | 7200
        "2024-05-21" | 2 | 500.125 | 500.125 | 820.025 | 892.0024999999999
    "#]]).await;
    check(&r, "acme", "first_response?hours=business&by=agent&time_zone=Asia/Tokyo", expect![[r#"
        agent_id String | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "anna" | 2 | 500.125 | 500.125 | 820.025 | 892.0024999999999
    "#]]).await;
    check(&r, "acme", "resolution_time?hours=business", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        2 | 2700 | 2700 | 4860 | 5346
    "#]]).await;
    check(&r, "acme", "handle_time?hours=business", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        2 | 1800 | 1800 | 3240 | 3564
    "#]]).await;
    let sql = "SELECT business_seconds(TIMESTAMP '2024-05-31 14:00:00', TIMESTAMP '2024-06-03 08:00:00') AS s";
    let shown = crate::support::show(r.query(&crate::support::caller("acme"), sql).await);
    assert!(shown.ends_with("\n7200\n"), "{shown}");
}

#[tokio::test]
async fn agent_performance() {
    let message = |at: &str, by: &str, first: Option<f64>, reply: Option<f64>| {
        json!({"event_id": at, "conversation_id": "c1",
        "occurred_at": at, "author_type": "agent", "author_id": by, "first_response_seconds": first, "reply_seconds": reply})
    };
    let facts = day()
        .add("acme", "messages", &[
            message("2024-05-21T10:01:00Z", "anna", Some(60.0), Some(60.0)),
            message("2024-05-21T10:02:00Z", "anna", None, None),
            message("2024-05-21T10:03:00Z", "anna", None, Some(20.0)),
            json!({"conversation_id": "c1", "occurred_at": "2024-05-21T10:00:30Z", "author_type": "visitor", "author_id": "v1"}),
        ])
        .add("acme", "ratings", &[
            json!({"occurred_at": "2024-05-21T12:31:00Z", "agent_id": "ben", "score": 5}),
            json!({"occurred_at": "2024-05-21T12:32:00Z", "agent_id": "ben", "score": 2}),
        ])
        .add("acme", "presence", &[
            json!({"event_id": "carl", "agent_id": "carl", "status": "online", "occurred_at": "2024-06-01T10:00:00Z"}),
        ])
        // Still there at the end of the period: it counts up to then.
        .add("acme", "conversations", &[
            json!({"conversation_id": "c5", "version": 3, "agent_id": "ben", "active_since": "2024-05-21T13:00:00Z"}),
        ]);
    let r = facts.reports();
    // Berlin's 21st ends at 22:00 UTC. anna: online 4 h, busy 10 to 12, two chats for half an hour: 2.5 h of chats.
    // ben: online from 22:00 to 12:00 (14 h), 11:30 to 12:00 of it with a chat; busy 11:30 to 12:30 and 13:00 to 22:00.
    check(&r, "acme", "agent_performance?date_from=2024-05-21&date_to=2024-05-22", expect![[r#"
        agent_id Nullable(String) | assigned Int64 | resolved Int64 | resolution_rate Nullable(Float64) | messages Int64 | first_responses Int64 | first_response_avg_s Nullable(Float64) | first_response_p50_s Nullable(Float64) | replies Int64 | reply_avg_s Nullable(Float64) | reply_p50_s Nullable(Float64) | resolution_avg_s Nullable(Float64) | handle_avg_s Nullable(Float64) | ratings Int64 | rating_avg Nullable(Float64) | csat Nullable(Float64) | online_s Float64 | busy_s Float64 | active_s Float64 | occupancy Nullable(Float64) | concurrency Nullable(Float64)
        "anna" | 3 | 0 | 0 | 3 | 1 | 60 | 60 | 2 | 40 | 40 | null | null | 0 | null | null | 14400 | 7200 | 9000 | 0.5 | 1.25
        "ben" | 2 | 2 | 1 | 0 | 0 | null | null | 0 | null | null | 4530 | 3600 | 2 | 3.5 | 0.5 | 50400 | 36000 | 36000 | 0.03571428571428571 | 1
    "#]]).await;
    // It is noon UTC, 14:00 of Berlin's first of June: who is still there counts up to now.
    check(&r, "acme", "agent_performance?date_from=2024-06-01&date_to=2024-06-02", expect![[r#"
        agent_id Nullable(String) | assigned Int64 | resolved Int64 | resolution_rate Nullable(Float64) | messages Int64 | first_responses Int64 | first_response_avg_s Nullable(Float64) | first_response_p50_s Nullable(Float64) | replies Int64 | reply_avg_s Nullable(Float64) | reply_p50_s Nullable(Float64) | resolution_avg_s Nullable(Float64) | handle_avg_s Nullable(Float64) | ratings Int64 | rating_avg Nullable(Float64) | csat Nullable(Float64) | online_s Float64 | busy_s Float64 | active_s Float64 | occupancy Nullable(Float64) | concurrency Nullable(Float64)
        "ben" | 0 | 0 | null | 0 | 0 | null | null | 0 | null | null | null | null | 0 | null | null | 50400 | 50400 | 50400 | 1 | 1
        "carl" | 0 | 0 | null | 0 | 0 | null | null | 0 | null | null | null | null | 0 | null | null | 7200 | 0 | 0 | 0 | null
    "#]]).await;
}

#[tokio::test]
async fn assignment_quality() {
    let r = day().reports();
    check(&r, "acme", "assignment_quality", expect![[r#"
        assignments Int64 | by_person Int64 | waited Int64 | waiting_avg_s Nullable(Float64) | waiting_p50_s Nullable(Float64) | waiting_p90_s Nullable(Float64) | reassigned Int64 | reassigned_rate Nullable(Float64) | utilization Nullable(Float64)
        5 | 1 | 4 | 62.625 | 60.25 | 111.15 | 2 | 0.4 | 0.5
    "#]]).await;
    check(&r, "acme", "assignment_quality?by=strategy", expect![[r#"
        strategy String | assignments Int64 | by_person Int64 | waited Int64 | waiting_avg_s Nullable(Float64) | waiting_p50_s Nullable(Float64) | waiting_p90_s Nullable(Float64) | reassigned Int64 | reassigned_rate Nullable(Float64) | utilization Nullable(Float64)
        "least_loaded" | 3 | 0 | 3 | 80.16666666666667 | 90.5 | 114.1 | 1 | 0.3333333333333333 | 0.5
        "manual" | 1 | 1 | 0 | null | null | null | 1 | 1 | null
        "round_robin" | 1 | 0 | 1 | 10 | 10 | 10 | 0 | 0 | null
    "#]]).await;
    check(&r, "nobody", "assignment_quality", expect![[r#"
        assignments Int64 | by_person Int64 | waited Int64 | waiting_avg_s Nullable(Float64) | waiting_p50_s Nullable(Float64) | waiting_p90_s Nullable(Float64) | reassigned Int64 | reassigned_rate Nullable(Float64) | utilization Nullable(Float64)
        0 | 0 | 0 | null | null | null | 0 | null | null
    "#]]).await;
}

/// The same facts with `usage_minute` as the usage job makes it of them.
async fn with_minutes(facts: impl Fn() -> Facts) -> Facts {
    let sql = "SELECT date_trunc('minute', at) AS minute, metric, count(*) AS value FROM ( \
                 SELECT started_at AS at, 'conversations' AS metric FROM conversations \
                 UNION ALL SELECT occurred_at, 'messages_' || author_type FROM messages) each GROUP BY 1, 2";
    let made = facts().reports().query(&caller("acme"), sql).await.expect("runs");
    let made: serde_json::Value = serde_json::from_slice(&made.to_json().expect("JSON")).expect("valid JSON");
    let mut lines = made["data"].as_array().expect("rows").clone();
    lines.iter_mut().for_each(|line| line["minute"] = format!("{}Z", line["minute"].as_str().expect("a time")).into());
    facts().add("acme", "usage_minute", &lines)
}

/// Sums of minutes answer for whole minutes; a period that cuts one is counted.
#[tokio::test]
async fn a_period_that_cuts_minutes() {
    let at = |second: u32| format!("2024-05-20T10:{:02}:{:02}Z", second / 60, second % 60);
    let message = |second: u32| json!({"event_id": at(second), "seq": second, "occurred_at": at(second), "author_type": "visitor"});
    let lines: Vec<_> = (0..600).step_by(7).map(message).collect();
    let r = with_minutes(|| Facts::default().add("acme", "messages", &lines)).await.reports();
    for (from, to) in [(0, 600), (1, 599), (61, 119), (30, 90), (59, 60), (60, 61), (120, 180), (119, 181), (100, 100)]
    {
        let period = format!("date_from={}&date_to={}", at(from), at(to));
        let answer = r.endpoint(&caller("acme"), "busiest_hours", &params(&period)).await.expect("runs");
        // Ten minutes' sums, or all facts; what is in memory counts as read whole.
        assert_eq!(answer.rows_read, if from % 60 + to % 60 == 0 { 10 } else { lines.len() as u64 }, "{period}");
        let answer: serde_json::Value = serde_json::from_slice(&answer.to_json().expect("JSON")).expect("valid JSON");
        let expected = (0..600).step_by(7).filter(|second| (from..to).contains(second)).count();
        assert_eq!(answer["data"][0]["messages_visitor"].as_u64().unwrap_or(0), expected as u64, "{period}");
    }
}

/// The hours of the week in the zone; on the night of the change an hour is missing.
#[tokio::test]
async fn busiest_hours() {
    let r = with_minutes(facts).await.reports();
    check(&r, "acme", "busiest_hours", expect![[r#"
        weekday Nullable(Int64) | hour Nullable(Int64) | conversations Int64 | messages_visitor Int64 | messages_agent Int64
        1 | 23 | 1 | 1 | 1
        2 | 10 | 1 | 1 | 1
        2 | 0 | 0 | 1 | 1
    "#]]).await;
    check(&r, "acme", "busiest_hours?time_zone=UTC&date_from=2024-05-20&date_to=2024-05-21", expect![[r#"
        weekday Nullable(Int64) | hour Nullable(Int64) | conversations Int64 | messages_visitor Int64 | messages_agent Int64
        1 | 21 | 1 | 1 | 1
        1 | 22 | 0 | 1 | 1
    "#]]).await;
    let began = |at: &str| json!({"conversation_id": at, "version": 1, "started_at": at});
    let change = || {
        Facts::default().add("acme", "conversations", &[began("2024-03-31T00:59:59Z"), began("2024-03-31T01:00:00Z")])
    };
    let r = with_minutes(change).await.reports();
    check(&r, "acme", "busiest_hours?date_from=2024-03-31&date_to=2024-04-01", expect![[r#"
        weekday Nullable(Int64) | hour Nullable(Int64) | conversations Int64 | messages_visitor Int64 | messages_agent Int64
        7 | 1 | 1 | 0 | 0
        7 | 3 | 1 | 0 | 0
    "#]]).await;
}

#[tokio::test]
async fn sla() {
    let target = |target: &str, seconds: i64, business: bool| json!({"target": target, "target_seconds": seconds, "business_hours": business});
    let r = facts()
        .add("acme", "sla_targets", &[target("first_response", 40, false), target("resolution", 700, false)])
        .reports();
    check(&r, "acme", "sla", expect![[r#"
        first_response_target_s Nullable(Int64) | first_response_count Int64 | first_response_met Nullable(Float64) | next_response_target_s Nullable(Int64) | next_response_count Int64 | next_response_met Nullable(Float64) | resolution_target_s Nullable(Int64) | resolution_count Int64 | resolution_met Nullable(Float64) | sla_met Nullable(Float64)
        40 | 2 | 0.5 | null | 1 | null | 700 | 2 | 0.5 | 0.5
    "#]]).await;
    check(&r, "acme", "sla?by=agent", expect![[r#"
        agent_id String | first_response_target_s Nullable(Int64) | first_response_count Int64 | first_response_met Nullable(Float64) | next_response_target_s Nullable(Int64) | next_response_count Int64 | next_response_met Nullable(Float64) | resolution_target_s Nullable(Int64) | resolution_count Int64 | resolution_met Nullable(Float64) | sla_met Nullable(Float64)
        "anna" | 40 | 1 | 1 | null | 0 | null | 700 | 1 | 1 | 1
        "ben" | 40 | 1 | 0 | null | 1 | null | 700 | 0 | null | 0
        "boss" | 40 | 0 | null | null | 0 | null | 700 | 1 | 0 | 0
    "#]]).await;
    check(&r, "acme", "sla?by=tag", expect![[r#"
        tag Nullable(String) | first_response_target_s Nullable(Int64) | first_response_count Int64 | first_response_met Nullable(Float64) | next_response_target_s Nullable(Int64) | next_response_count Int64 | next_response_met Nullable(Float64) | resolution_target_s Nullable(Int64) | resolution_count Int64 | resolution_met Nullable(Float64) | sla_met Nullable(Float64)
        "refund" | 40 | 1 | 1 | null | 1 | null | 700 | 2 | 0.5 | 0.6666666666666666
        "vip" | 40 | 2 | 0.5 | null | 1 | null | 700 | 2 | 0.5 | 0.5
    "#]]).await;
    // In business hours: the 20th is a holiday, so what was answered then took no time.
    let r = facts()
        .open(opening())
        .add("acme", "sla_targets", &[target("first_response", 99, true), target("next_response", 20, true)])
        .reports();
    check(&r, "acme", "sla?by=day&fill=false", expect![[r#"
        day Nullable(Date) | first_response_target_s Nullable(Int64) | first_response_count Int64 | first_response_met Nullable(Float64) | next_response_target_s Nullable(Int64) | next_response_count Int64 | next_response_met Nullable(Float64) | resolution_target_s Nullable(Int64) | resolution_count Int64 | resolution_met Nullable(Float64) | sla_met Nullable(Float64)
        "2024-05-20" | 99 | 1 | 1 | 20 | 0 | null | null | 1 | null | 1
        "2024-05-21" | 99 | 1 | 0 | 20 | 1 | 1 | null | 1 | null | 0
    "#]]).await;
    check(&r, "nobody", "sla", expect![[r#"
        first_response_target_s Nullable(Int64) | first_response_count Int64 | first_response_met Nullable(Float64) | next_response_target_s Nullable(Int64) | next_response_count Int64 | next_response_met Nullable(Float64) | resolution_target_s Nullable(Int64) | resolution_count Int64 | resolution_met Nullable(Float64) | sla_met Nullable(Float64)
        null | 0 | null | null | 0 | null | null | 0 | null | null
    "#]]).await;
}

#[tokio::test]
async fn bot_outcomes() {
    let ended = |id: &str, at: &str, agent: i64, bot: i64, reason: Option<&str>| {
        json!({"conversation_id": id, "version": 9,
        "resolved_at": at, "updated_at": at, "messages_agent": agent, "messages_bot": bot, "resolve_reason": reason, "tags": ["vip"],
        "resolved_as": reason.is_none().then_some(if bot > 0 { "confirmed" } else { "assumed" })})
    };
    let r = Facts::default()
        .add(
            "acme",
            "conversations",
            &[
                ended("c1", "2024-05-20T21:59:59Z", 0, 2, None),
                ended("c2", "2024-05-20T22:00:00Z", 3, 1, None),
                ended("c3", "2024-05-21T10:00:00Z", 2, 0, None),
                ended("c4", "2024-05-21T10:00:00Z", 0, 0, None),
                // Its visitor left.
                ended("c5", "2024-05-21T11:00:00Z", 0, 1, Some("standby_expired")),
                json!({"conversation_id": "c6", "version": 2}),
            ],
        )
        .reports();
    check(
        &r,
        "acme",
        "bot_outcomes",
        expect![[r#"
            resolved Int64 | with_bot Int64 | handed_over Int64 | deflected Int64 | deflection Nullable(Float64) | confirmed Int64 | assumed Int64
            4 | 2 | 1 | 2 | 0.5 | 2 | 2
        "#]],
    )
    .await;
    check(&r, "acme", "bot_outcomes?by=day&fill=false", expect![[r#"
        day Nullable(Date) | resolved Int64 | with_bot Int64 | handed_over Int64 | deflected Int64 | deflection Nullable(Float64) | confirmed Int64 | assumed Int64
        "2024-05-20" | 1 | 1 | 0 | 1 | 1 | 1 | 0
        "2024-05-21" | 3 | 1 | 1 | 1 | 0.3333333333333333 | 1 | 2
    "#]]).await;
    check(
        &r,
        "nobody",
        "bot_outcomes",
        expect![[r#"
            resolved Int64 | with_bot Int64 | handed_over Int64 | deflected Int64 | deflection Nullable(Float64) | confirmed Int64 | assumed Int64
            0 | 0 | 0 | 0 | null | 0 | 0
        "#]],
    )
    .await;
}

#[tokio::test]
async fn notification_outcomes() {
    let asked = |id: &str, at: &str, kind: &str| json!({"event_id": at, "notification_id": id, "occurred_at": at, "outcome": "requested", "kind": kind});
    let came = |id: &str, at: &str, outcome: &str, reason: Option<&str>| {
        json!({"event_id": at, "notification_id": id,
        "occurred_at": at, "outcome": outcome, "reason": reason, "attempts": 1})
    };
    let r = Facts::default()
        .add(
            "acme",
            "notifications",
            &[
                // Requested before the period, sent in it.
                asked("m0", "2024-05-20T21:59:00Z", "welcome"),
                came("m0", "2024-05-20T22:00:00Z", "sent", None),
                asked("m1", "2024-05-21T10:00:00Z", "welcome"),
                came("m1", "2024-05-21T10:00:01Z", "bounced", Some("refused")),
                asked("m2", "2024-05-21T11:00:00Z", "otp"),
                came("m2", "2024-05-21T11:00:01Z", "suppressed", Some("no_address")),
                asked("m3", "2024-05-21T12:00:00Z", "otp"),
                came("m3", "2024-05-21T12:00:01Z", "failed", Some("gave_up")),
            ],
        )
        .reports();
    check(
        &r,
        "acme",
        "notification_outcomes?date_from=2024-05-21&date_to=2024-05-22",
        expect![[r#"
        requested Int64 | sent Int64 | delivered Int64 | opened Int64 | bounced Int64 | suppressed Int64 | failed Int64
        3 | 1 | 0 | 0 | 1 | 1 | 1
    "#]],
    )
    .await;
    check(&r, "acme", "notification_outcomes?date_from=2024-05-21&date_to=2024-05-22&by=kind", expect![[r#"
        kind Nullable(String) | requested Int64 | sent Int64 | delivered Int64 | opened Int64 | bounced Int64 | suppressed Int64 | failed Int64
        "otp" | 2 | 0 | 0 | 0 | 0 | 1 | 1
        "welcome" | 1 | 1 | 0 | 0 | 1 | 0 | 0
    "#]]).await;
    check(&r, "acme", "notification_outcomes?by=reason", expect![[r#"
        reason Nullable(String) | requested Int64 | sent Int64 | delivered Int64 | opened Int64 | bounced Int64 | suppressed Int64 | failed Int64
        "gave_up" | 0 | 0 | 0 | 0 | 0 | 0 | 1
        "no_address" | 0 | 0 | 0 | 0 | 0 | 1 | 0
        "refused" | 0 | 0 | 0 | 0 | 1 | 0 | 0
        null | 4 | 1 | 0 | 0 | 0 | 0 | 0
    "#]]).await;
    check(
        &r,
        "nobody",
        "notification_outcomes",
        expect![[r#"
        requested Int64 | sent Int64 | delivered Int64 | opened Int64 | bounced Int64 | suppressed Int64 | failed Int64
        0 | 0 | 0 | 0 | 0 | 0 | 0
    "#]],
    )
    .await;
}

#[tokio::test]
async fn queue() {
    let r = facts().reports();
    check(&r, "acme", "queue", expect![[r#"
        position Int64 | conversation_id String | group_id Nullable(String) | waiting_since DateTime64(3, 'UTC') | waiting_s Nullable(Float64)
        1 | "c8" | null | "2024-06-01 11:58:30.500" | 89.5
        2 | "c9" | null | "2024-06-01 11:59:30.000" | 30
    "#]]).await;
    check(&r, "nobody", "queue", expect![[r#"
        position Int64 | conversation_id String | group_id Nullable(String) | waiting_since DateTime64(3, 'UTC') | waiting_s Nullable(Float64)
    "#]]).await;
}
