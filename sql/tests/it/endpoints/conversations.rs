//! The endpoints about single conversations: a list of them, and the events of one.

use super::check;
use crate::support::Facts;
use expect_test::expect;
use serde_json::{Value, json};

#[tokio::test]
async fn conversation_list() {
    let chat = |id: &str, at: &str, status: &str, rating: Option<i64>, tags: Value| {
        json!({"conversation_id": id, "version": 2,
        "status": status, "visitor_id": "v1", "agent_id": "anna", "tags": tags, "started_at": at, "updated_at": at,
        "origin": "live", "rating": rating})
    };
    let r = Facts::default()
        .add(
            "acme",
            "conversations",
            &[
                chat("c1", "2024-05-20T10:00:00Z", "resolved", Some(5), json!(["vip"])),
                chat("c2", "2024-05-20T11:00:00Z", "active", None, json!([])),
                chat("c3", "2024-05-20T12:00:00Z", "resolved", Some(2), json!(["vip", "refund"])),
            ],
        )
        .reports();
    let list = async |query: &str| {
        let params = crate::support::params(query);
        let result = r.endpoint(&crate::support::caller("acme"), "conversation_list", &params).await;
        let json: Value = serde_json::from_slice(&result.expect(query).to_json().expect("JSON")).expect("JSON");
        let ids = json["data"].as_array().expect("rows").iter();
        ids.map(|row| row["conversation_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list("").await, "c3 c2 c1");
    assert_eq!(list("status=resolved").await, "c3 c1");
    assert_eq!(list("tag=refund").await, "c3");
    assert_eq!(list("rating=5&agent_id=anna&visitor_id=v1").await, "c1");
    assert_eq!(list("agent_id=ben").await, "");
    assert_eq!(list("page_size=2").await, "c3 c2");
    assert_eq!(list("page_size=2&page=1").await, "c1");
    assert_eq!(list("date_from=2024-05-20 13:00&date_to=2024-05-20 14:00").await, "c2");
    check(&r, "acme", "conversation_list?rating=2", expect![[r#"
        conversation_id String | status String | visitor_id String | agent_id Nullable(String) | group_id Nullable(String) | chatbot_id Nullable(String) | tags Array(Nullable(String)) | origin String | started_at DateTime64(3, 'UTC') | updated_at DateTime64(3, 'UTC') | resolved_at Nullable(DateTime64(3, 'UTC')) | first_response_s Nullable(Float64) | resolutions Int64 | assignments Nullable(Int64) | messages_visitor Int64 | messages_agent Int64 | messages_bot Int64 | rating Nullable(Int64) | session_s Nullable(Float64)
        "c3" | "resolved" | "v1" | "anna" | null | null | ["vip","refund"] | "live" | "2024-05-20 12:00:00.000" | "2024-05-20 12:00:00.000" | null | null | 0 | null | 0 | 0 | 0 | 2 | null
    "#]]).await;
    check(
        &r,
        "acme",
        "conversation_list?page_size=1001",
        expect![[r#"
        400 endpoint_refused: page_size is 1 to 1000
    "#]],
    )
    .await;
    check(
        &r,
        "acme",
        "conversation_list?page=-1",
        expect![[r#"
        400 endpoint_refused: page is 0 or more
    "#]],
    )
    .await;
    check(
        &r,
        "acme",
        "conversation_list?status=lost",
        expect![[r#"
        400 parameter_invalid: parameter `status`: `lost` is not one of pending, active, resolved, closed
    "#]],
    )
    .await;
}

/// By when it was recorded, not by when it happened: an import of yesterday's chat was not known yesterday.
#[tokio::test]
async fn event_stream() {
    let event = |seq: i64, kind: &str, happened: &str, recorded: &str, status: &str| {
        json!({"event_id": format!("e{seq}"),
        "conversation_id": "c1", "thread_id": "t1", "seq": seq, "kind": kind, "occurred_at": happened, "recorded_at": recorded,
        "origin": "import", "actor_type": "system", "status": status})
    };
    let r = Facts::default()
        .add(
            "acme",
            "events",
            &[
                event(2, "message_posted", "2024-05-01T00:01:00Z", "2024-05-20T10:00:00.500Z", "pending"),
                event(1, "conversation_started", "2024-05-01T00:00:00Z", "2024-05-20T10:00:00Z", "pending"),
                event(3, "conversation_resolved", "2024-05-01T00:02:00Z", "2024-05-20T10:00:01Z", "resolved"),
            ],
        )
        .add("globex", "events", &[event(4, "note_posted", "2024-05-01T00:02:00Z", "2024-05-20T10:00:01Z", "resolved")])
        .reports();
    check(&r, "acme", "event_stream?conversation_id=c1", expect![[r#"
        seq Int64 | event_id String | kind String | thread_id String | actor_type String | actor_id Nullable(String) | occurred_at DateTime64(3, 'UTC') | recorded_at DateTime64(3, 'UTC') | origin String | status String | agent_id Nullable(String) | group_id Nullable(String)
        1 | "e1" | "conversation_started" | "t1" | "system" | null | "2024-05-01 00:00:00.000" | "2024-05-20 10:00:00.000" | "import" | "pending" | null | null
        2 | "e2" | "message_posted" | "t1" | "system" | null | "2024-05-01 00:01:00.000" | "2024-05-20 10:00:00.500" | "import" | "pending" | null | null
        3 | "e3" | "conversation_resolved" | "t1" | "system" | null | "2024-05-01 00:02:00.000" | "2024-05-20 10:00:01.000" | "import" | "resolved" | null | null
    "#]]).await;
    check(&r, "acme", "event_stream?conversation_id=c1&at=2024-05-20T10:00:00.500Z", expect![[r#"
        seq Int64 | event_id String | kind String | thread_id String | actor_type String | actor_id Nullable(String) | occurred_at DateTime64(3, 'UTC') | recorded_at DateTime64(3, 'UTC') | origin String | status String | agent_id Nullable(String) | group_id Nullable(String)
        1 | "e1" | "conversation_started" | "t1" | "system" | null | "2024-05-01 00:00:00.000" | "2024-05-20 10:00:00.000" | "import" | "pending" | null | null
        2 | "e2" | "message_posted" | "t1" | "system" | null | "2024-05-01 00:01:00.000" | "2024-05-20 10:00:00.500" | "import" | "pending" | null | null
    "#]]).await;
    check(&r, "acme", "event_stream?conversation_id=c1&at=2024-05-02", expect![[r#"
        seq Int64 | event_id String | kind String | thread_id String | actor_type String | actor_id Nullable(String) | occurred_at DateTime64(3, 'UTC') | recorded_at DateTime64(3, 'UTC') | origin String | status String | agent_id Nullable(String) | group_id Nullable(String)
    "#]]).await;
    check(&r, "acme", "event_stream?conversation_id=c2", expect![[r#"
        seq Int64 | event_id String | kind String | thread_id String | actor_type String | actor_id Nullable(String) | occurred_at DateTime64(3, 'UTC') | recorded_at DateTime64(3, 'UTC') | origin String | status String | agent_id Nullable(String) | group_id Nullable(String)
    "#]]).await;
    check(
        &r,
        "acme",
        "event_stream",
        expect![[r#"
        400 parameter_invalid: parameter `conversation_id`: is required
    "#]],
    )
    .await;
}
