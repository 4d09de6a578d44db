//! Every endpoint over small fixtures: facts in, rows out.
//!
//! Here those that count messages, resolves and ratings, and what all endpoints share; [`work`] has those about the work
//! itself: queue, assignments, agents' time, promises, mails; [`conversations`] those about single conversations,
//! [`buckets`] weeks, months and rows without facts.

mod buckets;
mod conversations;
mod work;

use crate::support::{Facts, caller, params, show};
use expect_test::{Expect, expect};
use serde_json::json;
use sql::Reports;

/// One conversation answered and resolved twice, one that waits; Berlin is two hours ahead of UTC.
pub(crate) fn facts() -> Facts {
    let message =
        |seq: i64, at: &str, kind: &str, by: &str, group: Option<&str>, reply: Option<f64>, first: Option<f64>| {
            json!({"event_id": format!("e{seq}"), "conversation_id": if seq < 10 { "c1" } else { "c2" }, "seq": seq,
               "occurred_at": at, "author_type": kind, "author_id": by, "group_id": group, "reply_seconds": reply,
               "first_response_seconds": first})
        };
    let conversation = |id: &str, version: i64, status: &str, tags: serde_json::Value, at: &str| {
        let updated = if version == 1 { at } else { "2024-05-21T09:00:00Z" };
        json!({"conversation_id": id, "version": version, "status": status, "tags": tags, "started_at": at, "updated_at": updated})
    };
    Facts::default()
        .add(
            "acme",
            "messages",
            &[
                message(1, "2024-05-20T21:30:00Z", "visitor", "v1", None, None, None),
                message(2, "2024-05-20T21:30:10Z", "bot", "b1", None, None, None),
                message(3, "2024-05-20T21:30:40Z", "agent", "anna", Some("sales"), Some(40.0), Some(40.0)),
                message(4, "2024-05-20T22:30:00Z", "visitor", "v1", Some("sales"), None, None),
                message(5, "2024-05-20T22:30:20.500Z", "agent", "ben", Some("sales"), Some(20.5), None),
                message(11, "2024-05-21T08:00:00Z", "visitor", "v2", None, None, None),
                message(12, "2024-05-21T08:01:40Z", "agent", "ben", None, Some(100.0), Some(100.0)),
                message(13, "2024-04-01T00:00:00Z", "visitor", "old", None, None, None),
            ],
        )
        .add(
            "acme",
            "conversations",
            &[
                conversation("c1", 1, "pending", json!([]), "2024-05-20T21:30:00Z"),
                conversation("c2", 11, "active", json!(["vip"]), "2024-05-21T08:00:00Z"),
            ],
        )
        .add(
            "acme",
            "conversations",
            &[conversation("c1", 7, "resolved", json!(["vip", "refund"]), "2024-05-20T21:30:00Z")],
        )
        .add(
            "acme",
            "resolutions",
            &[
                json!({"event_id": "r1", "conversation_id": "c1", "occurred_at": "2024-05-20T21:40:00Z",
                       "agent_id": "anna", "resolved_by": "boss", "group_id": "sales", "resolution_seconds": 600.0}),
                json!({"event_id": "r2", "conversation_id": "c1", "occurred_at": "2024-05-20T22:40:00Z",
                       "resolved_by": "boss", "resolution_seconds": 900.25}),
            ],
        )
        .add(
            "acme",
            "ratings",
            &[
                json!({"conversation_id": "c1", "occurred_at": "2024-05-20T21:41:00Z", "agent_id": "anna", "score": 5}),
                json!({"conversation_id": "c1", "occurred_at": "2024-05-20T22:41:00Z", "score": 2}),
                json!({"conversation_id": "c2", "occurred_at": "2024-05-21T09:00:00Z", "agent_id": "ben", "score": 4}),
            ],
        )
        .add(
            "acme",
            "agents",
            &[
                json!({"agent_id": "anna", "status": "online", "max_concurrent_chats": 6, "active_chats": 2}),
                json!({"agent_id": "ben", "status": "online", "accepting_chats": false, "max_concurrent_chats": 6, "active_chats": 1}),
                json!({"agent_id": "cleo", "status": "offline", "max_concurrent_chats": 6, "active_chats": 0}),
                json!({"agent_id": "dan", "status": "online", "max_concurrent_chats": 6, "active_chats": 0,
                       "deleted_at": "2024-05-02T00:00:00Z"}),
            ],
        )
        .add(
            "acme",
            "queue",
            &[
                json!({"conversation_id": "c8", "position": 1, "waiting_since": "2024-06-01T11:58:30.500Z"}),
                json!({"conversation_id": "c9", "position": 2, "waiting_since": "2024-06-01T11:59:30Z"}),
            ],
        )
}

pub(crate) async fn check(reports: &Reports, tenant: &str, call: &str, expected: Expect) {
    let (name, query) = call.split_once('?').unwrap_or((call, ""));
    expected.assert_eq(&show(reports.endpoint(&caller(tenant), name, &params(query)).await));
}

#[tokio::test]
async fn usage() {
    let r = facts().reports();
    check(&r, "acme", "usage", expect![[r#"
        bucket DateTime | conversations Int64 | resolved Int64 | messages_visitor Int64 | messages_agent Int64 | messages_bot Int64 | visitors Int64 | agents Int64
        "2024-05-02 14:01:00" | 2 | 2 | 3 | 3 | 1 | 2 | 2
    "#]]).await;
    check(&r, "acme", "usage?granularity=day&fill=false", expect![[r#"
        bucket Nullable(Date) | conversations Int64 | resolved Int64 | messages_visitor Int64 | messages_agent Int64 | messages_bot Int64 | visitors Int64 | agents Int64
        "2024-05-20" | 1 | 1 | 1 | 1 | 1 | 1 | 1
        "2024-05-21" | 1 | 1 | 2 | 2 | 0 | 2 | 1
    "#]]).await;
    check(&r, "acme", "usage?granularity=hour&fill=false&time_zone=UTC&date_from=2024-05-20&date_to=2024-05-21", expect![[r#"
        bucket Nullable(DateTime) | conversations Int64 | resolved Int64 | messages_visitor Int64 | messages_agent Int64 | messages_bot Int64 | visitors Int64 | agents Int64
        "2024-05-20 21:00:00" | 1 | 1 | 1 | 1 | 1 | 1 | 1
        "2024-05-20 22:00:00" | 0 | 1 | 1 | 1 | 0 | 1 | 1
    "#]]).await;
    check(&r, "acme", "usage?granularity=minute&fill=false&date_from=2024-05-21 10:00&date_to=2024-05-21T10:01:00", expect![[r#"
        bucket Nullable(DateTime) | conversations Int64 | resolved Int64 | messages_visitor Int64 | messages_agent Int64 | messages_bot Int64 | visitors Int64 | agents Int64
        "2024-05-21 10:00:00" | 1 | 0 | 1 | 0 | 0 | 1 | 0
    "#]]).await;
    check(
        &r,
        "acme",
        "usage?granularity=decade",
        expect![[r#"
            400 parameter_invalid: parameter `granularity`: `decade` is not one of total, month, week, day, hour, minute
        "#]],
    )
    .await;
}

#[tokio::test]
async fn first_response() {
    let r = facts().reports();
    check(&r, "acme", "first_response", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        2 | 70 | 70 | 94 | 99.4
    "#]]).await;
    check(&r, "acme", "first_response?by=agent", expect![[r#"
        agent_id String | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "anna" | 1 | 40 | 40 | 40 | 40
        "ben" | 1 | 100 | 100 | 100 | 100
    "#]]).await;
    check(&r, "acme", "first_response?by=tag", expect![[r#"
        tag Nullable(String) | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "refund" | 1 | 40 | 40 | 40 | 40
        "vip" | 2 | 70 | 70 | 94 | 99.4
    "#]]).await;
}

#[tokio::test]
async fn reply_time() {
    let r = facts().reports();
    check(&r, "acme", "reply_time?by=none", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        3 | 53.5 | 40 | 88 | 98.8
    "#]]).await;
    check(&r, "acme", "reply_time?by=day&fill=false", expect![[r#"
        day Nullable(Date) | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "2024-05-20" | 1 | 40 | 40 | 40 | 40
        "2024-05-21" | 2 | 60.25 | 60.25 | 92.05 | 99.205
    "#]]).await;
    check(&r, "acme", "reply_time?by=day&fill=false&time_zone=UTC", expect![[r#"
        day Nullable(Date) | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "2024-05-20" | 2 | 30.25 | 30.25 | 38.05 | 39.805
        "2024-05-21" | 1 | 100 | 100 | 100 | 100
    "#]]).await;
    check(&r, "acme", "reply_time?by=group", expect![[r#"
        group_id Nullable(String) | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "sales" | 2 | 30.25 | 30.25 | 38.05 | 39.805
        null | 1 | 100 | 100 | 100 | 100
    "#]]).await;
}

#[tokio::test]
async fn resolution_time() {
    let r = facts().reports();
    check(&r, "acme", "resolution_time", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        2 | 750.125 | 750.125 | 870.225 | 897.2475
    "#]]).await;
    check(&r, "acme", "resolution_time?by=agent", expect![[r#"
        agent_id String | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "anna" | 1 | 600 | 600 | 600 | 600
        "boss" | 1 | 900.25 | 900.25 | 900.25 | 900.25
    "#]]).await;
}

#[tokio::test]
async fn csat() {
    let r = facts().reports();
    check(
        &r,
        "acme",
        "csat",
        expect![[r#"
            count Int64 | avg Nullable(Float64) | csat Nullable(Float64)
            3 | 3.6666666666666665 | 0.6666666666666666
        "#]],
    )
    .await;
    check(
        &r,
        "acme",
        "csat?by=agent",
        expect![[r#"
        agent_id Nullable(String) | count Int64 | avg Nullable(Float64) | csat Nullable(Float64)
        "anna" | 1 | 5 | 1
        "ben" | 1 | 4 | 1
        null | 1 | 2 | 0
    "#]],
    )
    .await;
    check(
        &r,
        "acme",
        "csat?by=tag",
        expect![[r#"
            tag Nullable(String) | count Int64 | avg Nullable(Float64) | csat Nullable(Float64)
            "refund" | 2 | 3.5 | 0.5
            "vip" | 3 | 3.6666666666666665 | 0.6666666666666666
        "#]],
    )
    .await;
}

#[tokio::test]
async fn live() {
    let r = facts().reports();
    check(
        &r,
        "acme",
        "live",
        expect![[r#"
        waiting Int64 | active Int64 | online_agents Int64 | available_slots Int64 | longest_wait_s Nullable(Float64)
        2 | 3 | 2 | 4 | 89.5
    "#]],
    )
    .await;
    check(
        &r,
        "nobody",
        "live",
        expect![[r#"
        waiting Int64 | active Int64 | online_agents Int64 | available_slots Int64 | longest_wait_s Nullable(Float64)
        0 | 0 | 0 | 0 | null
    "#]],
    )
    .await;
}

/// A tenant without facts gets one row of `total` and `by=none`, and none of the rest.
#[tokio::test]
async fn nothing_there() {
    let r = facts().reports();
    check(&r, "nobody", "usage?date_from=2024-05-01", expect![[r#"
        bucket DateTime | conversations Int64 | resolved Int64 | messages_visitor Int64 | messages_agent Int64 | messages_bot Int64 | visitors Int64 | agents Int64
        "2024-05-01 00:00:00" | 0 | 0 | 0 | 0 | 0 | 0 | 0
    "#]]).await;
    check(&r, "nobody", "usage?granularity=day&fill=false", expect![[r#"
        bucket Nullable(Date) | conversations Int64 | resolved Int64 | messages_visitor Int64 | messages_agent Int64 | messages_bot Int64 | visitors Int64 | agents Int64
    "#]]).await;
    check(&r, "nobody", "first_response", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        0 | null | null | null | null
    "#]]).await;
    check(
        &r,
        "nobody",
        "csat",
        expect![[r#"
        count Int64 | avg Nullable(Float64) | csat Nullable(Float64)
        0 | null | null
    "#]],
    )
    .await;
    check(
        &r,
        "nobody",
        "csat?by=tag",
        expect![[r#"
        tag Nullable(String) | count Int64 | avg Nullable(Float64) | csat Nullable(Float64)
    "#]],
    )
    .await;
}

#[tokio::test]
async fn parameters() {
    let r = facts().reports();
    check(
        &r,
        "acme",
        "csat?by=mood",
        expect![[r#"
            400 parameter_invalid: parameter `by`: `mood` is not one of none, day, week, month, agent, group, tag
        "#]],
    )
    .await;
    check(
        &r,
        "acme",
        "reply_time?hours=night",
        expect![[r#"
        400 parameter_invalid: parameter `hours`: `night` is not one of calendar, business
    "#]],
    )
    .await;
    check(
        &r,
        "acme",
        "csat?time_zone=Mars/Olympus",
        expect![[r#"
        400 parameter_invalid: parameter `time_zone`: is not a time zone of the IANA list, as Europe/Berlin or UTC
    "#]],
    )
    .await;
    check(
        &r,
        "acme",
        "csat?date_from=soon",
        expect![[r#"
        400 parameter_invalid: parameter `date_from`: is not a date or a date-time as 2024-05-31 or 2024-05-31 09:30:00
    "#]],
    )
    .await;
    check(
        &r,
        "acme",
        "csat?date_from=2024-05-02&date_to=2024-05-01",
        expect![[r#"
        400 parameter_invalid: parameter `date_to`: is before `date_from`
    "#]],
    )
    .await;
    check(
        &r,
        "acme",
        "csat?from=ts-sdk&token=x&q=x&format=json&colour=red&date_from=2024-05-21&by=",
        expect![[r#"
        count Int64 | avg Nullable(Float64) | csat Nullable(Float64)
        2 | 3 | 0.5
    "#]],
    )
    .await;
    // A value is bound, never SQL.
    check(
        &r,
        "acme",
        "csat?by=none' OR 1=1 --",
        expect![[r#"
            400 parameter_invalid: parameter `by`: `none' OR 1=1 --` is not one of none, day, week, month, agent, group, tag
        "#]],
    )
    .await;
    check(
        &r,
        "acme",
        "nosuch",
        expect![[r#"
        404 endpoint_not_found: no endpoint named `nosuch`
    "#]],
    )
    .await;
}

/// The last moment of the period is out, the first is in; a date is midnight in the zone.
#[tokio::test]
async fn edges() {
    let r = facts().reports();
    check(&r, "acme", "reply_time?date_from=2024-05-20 23:30:40&date_to=2024-05-21T00:30:20.500", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        1 | 40 | 40 | 40 | 40
    "#]]).await;
    check(&r, "acme", "reply_time?date_from=2024-05-20T21:30:40.001Z&date_to=2024-05-21T00:30:20.501", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        1 | 20.5 | 20.5 | 20.5 | 20.5
    "#]]).await;
    check(&r, "acme", "reply_time?date_from=2024-05-21&date_to=2024-05-22", expect![[r#"
        count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        2 | 60.25 | 60.25 | 92.05 | 99.205
    "#]]).await;
}

/// The header contract of each file names every column that comes out.
#[tokio::test]
async fn headers_name_the_columns() {
    let r = facts().reports();
    for endpoint in r.endpoints() {
        let header: String = endpoint.sql.lines().take_while(|l| l.starts_with("--")).collect::<Vec<_>>().join("\n");
        let first = format!("-- report: {} v1 | engine: datafusion", endpoint.name);
        assert!(header.starts_with(&first), "{header}");
        assert!(header.contains("-- params: "), "{header}");
        let required = if endpoint.name == "event_stream" { "conversation_id=c1" } else { "" };
        let result = r.endpoint(&caller("acme"), &endpoint.name, &params(required)).await.expect("runs");
        let columns = &header[header.find("-- columns: ").expect("columns")..];
        for field in result.schema.fields() {
            assert!(columns.contains(&format!("{} ", field.name())), "{}: {}", endpoint.name, field.name());
        }
    }
}

#[tokio::test]
async fn descriptions() {
    let r = facts().reports();
    let names: Vec<&str> = r.endpoints().map(|e| e.name.as_str()).collect();
    let shipped = [
        "agent_performance",
        "assignment_quality",
        "bot_outcomes",
        "busiest_hours",
        "conversation_list",
        "csat",
        "event_stream",
        "first_response",
        "handle_time",
        "live",
        "notification_outcomes",
        "queue",
        "reply_time",
        "resolution_time",
        "sla",
        "usage",
        "waiting_time",
    ];
    assert_eq!(names, shipped);
    // Every one takes the period and the zone, but those that tell of now or of one conversation.
    for endpoint in r.endpoints() {
        let takes = |name: &str| endpoint.parameters.iter().any(|p| p.name == name);
        let timeless = ["live", "queue", "event_stream"].contains(&endpoint.name.as_str());
        for name in ["date_from", "date_to", "time_zone"] {
            assert_eq!(takes(name), !timeless, "{name} of {}", endpoint.name);
        }
    }
    let usage = r.endpoints().find(|e| e.name == "usage").expect("usage");
    let parameters: Vec<String> = usage
        .parameters
        .iter()
        .map(|p| format!("{} {} {:?} {:?} {:?}", p.name, p.kind, p.default, p.description, p.allowed))
        .collect();
    expect![[r#"
        granularity String Some("total") Some("One row, or one a bucket") ["total", "month", "week", "day", "hour", "minute"]
        date_from DateTime None Some("First instant, the last 30 days by default") []
        time_zone String None Some("IANA name, the tenant zone by default") []
        date_to DateTime None Some("Instant after the last") []
        fill String Some("auto") Some("Rows for buckets without facts") ["auto", "true", "false"]"#]]
    .assert_eq(&parameters.join("\n"));
}
