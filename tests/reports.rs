//! The main job on real traffic: 4,765 real support dialogues imported, and every tenant's reports right to the
//! millisecond, through HTTP with that tenant's token.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use support::{Server, http_client, run, shared};

/// The default period is the last 30 days; the dialogues are of May 2020.
const PERIOD: &str = "date_from=2020-01-01&date_to=2021-01-01&time_zone=UTC";

async fn rows(server: &Server, endpoint: &str, token: &str) -> Vec<Value> {
    let answer = server.get(&format!("/v0/pipes/{endpoint}&{PERIOD}"), token).await;
    let rows = answer["data"].as_array().expect("rows").clone();
    assert_eq!(answer["rows"], rows.len());
    rows
}

/// Seconds agree to three decimals, shares to four.
fn close(found: &Value, expected: &Value, tolerance: f64, what: &str) {
    let (found, expected) = (found.as_f64().expect(what), expected.as_f64().expect(what));
    assert!((found - expected).abs() <= tolerance, "{what}: {found} instead of {expected}");
}

async fn check_tenant(server: &Server, slug: &str, token: &str, expected: &Value) {
    let usage = &rows(server, "usage.json?granularity=total", token).await[0];
    for key in ["conversations", "resolved", "messages_visitor", "messages_agent", "visitors", "agents"] {
        assert_eq!(usage[key], expected[key], "{slug} {key}");
    }
    assert_eq!(usage["messages_bot"], 0);
    for (endpoint, key) in [
        ("first_response", "first_response_seconds"),
        ("reply_time", "reply_seconds"),
        ("resolution_time", "resolution_seconds"),
    ] {
        let row = &rows(server, &format!("{endpoint}.json?by=none"), token).await[0];
        let wanted = &expected[key];
        assert_eq!(row["count"], wanted["count"], "{slug} {endpoint}");
        for (column, name) in [("avg_s", "avg"), ("p50_s", "p50"), ("p90_s", "p90")] {
            close(&row[column], &wanted[name], 0.000_501, &format!("{slug} {endpoint} {column}"));
        }
        // The parts add up to the whole, whatever they are grouped by.
        for by in ["day", "agent"] {
            let parts = rows(server, &format!("{endpoint}.json?by={by}"), token).await;
            let sum: i64 = parts.iter().map(|part| part["count"].as_i64().expect("a count")).sum();
            assert_eq!(sum, row["count"], "{slug} {endpoint} by {by}");
        }
    }
    let csat = &rows(server, "csat.json?by=none", token).await[0];
    assert_eq!(csat["count"], expected["rating"]["count"], "{slug} csat");
    close(&csat["avg"], &expected["rating"]["avg"], 0.000_051, &format!("{slug} csat"));

    let messages =
        |row: &Value| row["messages_visitor"].as_i64().unwrap_or(0) + row["messages_agent"].as_i64().unwrap_or(0);
    let mut by_day = BTreeMap::new();
    for row in rows(server, "usage.json?granularity=day", token).await {
        by_day.insert(row["bucket"].as_str().expect("a day")[..10].to_owned(), messages(&row));
    }
    by_day.retain(|_, count| *count > 0);
    let wanted = expected["messages_by_day"].as_object().expect("days");
    assert_eq!(by_day, wanted.iter().map(|(day, count)| (day.clone(), count.as_i64().expect("a count"))).collect());
    let mut by_hour: BTreeMap<String, i64> = BTreeMap::new();
    for row in rows(server, "usage.json?granularity=hour", token).await {
        let hour: u32 = row["bucket"].as_str().expect("an hour")[11..13].parse().expect("an hour");
        *by_hour.entry(hour.to_string()).or_default() += messages(&row);
    }
    by_hour.retain(|_, count| *count > 0);
    let wanted = expected["messages_by_hour_utc"].as_object().expect("hours");
    assert_eq!(by_hour, wanted.iter().map(|(hour, count)| (hour.clone(), count.as_i64().expect("a count"))).collect());
}

fn expected() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(shared("expected_metrics.json")).expect("readable");
    serde_json::from_str::<Value>(&text).expect("JSON").as_object().expect("tenants").clone()
}

#[tokio::test]
async fn every_tenants_reports_are_right() {
    let dir = tempfile::tempdir().expect("temp dir");
    let dialogues = shared("support_dialogues.ndjson.gz");
    let import = ["import", dialogues.to_str().expect("UTF-8"), "--tenant-field", "tenant"];
    assert_eq!(run(dir.path(), &import).trim(), "imported=4765 skipped=0 quarantined=0");
    let hash = run(dir.path(), &["verify"]);
    assert_eq!(run(dir.path(), &import).trim(), "imported=0 skipped=4765 quarantined=0");
    assert_eq!(run(dir.path(), &["verify"]), hash, "importing again changes nothing");

    let expected = expected();
    assert_eq!(expected.len(), 13);
    let tokens: Vec<(String, String)> = expected
        .keys()
        .map(|slug| (slug.clone(), run(dir.path(), &["token", "create", "--tenant", slug]).trim().to_owned()))
        .collect();
    let server = Server::start(dir.path(), &[]);
    for (slug, token) in &tokens {
        check_tenant(&server, slug, token, &expected[slug]).await;
    }
    usage_partials_add_up(&server, &tokens, &expected).await;
    server.stop();

    let before = run(dir.path(), &["verify"]);
    assert_eq!(run(dir.path(), &["rebuild"]), before, "a rebuild gives the same state");
    let server = Server::start(dir.path(), &[]);
    for (slug, token) in &tokens {
        check_tenant(&server, slug, token, &expected[slug]).await;
    }
    server.stop();
    no_effects_of_history(dir.path());
}

/// The stream job's rows, summed, are what the facts count.
async fn usage_partials_add_up(
    server: &Server,
    tokens: &[(String, String)],
    expected: &serde_json::Map<String, Value>,
) {
    for (slug, token) in tokens {
        let sql = "SELECT metric, sum(value) AS value FROM usage_minute GROUP BY metric ORDER BY metric";
        let request = http_client(60).get(format!("{}/v0/sql", server.base)).query(&[("q", sql)]);
        let answer: Value = request.bearer_auth(token).send().await.expect("an answer").json().await.expect("JSON");
        let sums: BTreeMap<&str, &Value> = answer["data"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| (row["metric"].as_str().expect("a metric"), &row["value"]))
            .collect();
        for key in ["conversations", "resolved", "messages_visitor", "messages_agent"] {
            assert_eq!(sums[key], &expected[slug][key], "{slug} {key}");
        }
    }
}

/// Imported history sends no mail and assigns nobody.
fn no_effects_of_history(dir: &std::path::Path) {
    let spooled = std::fs::read_dir(dir.join("spool")).map_or(0, Iterator::count);
    assert_eq!(spooled, 0, "no mail");
    let connection = rusqlite::Connection::open(dir.join("parlance.db")).expect("opens");
    let assigned = "SELECT count(*) FROM log WHERE json_extract(body, '$.type') IN ('agent_assigned', 'conversation_queued', 'mail_requested')";
    let count: i64 = connection.query_row(assigned, [], |row| row.get(0)).expect("a count");
    assert_eq!(count, 0, "no assignment, no queue");
}

/// What was exported can be imported into another installation, and gives the same reports.
#[tokio::test]
async fn an_export_is_importable_again() {
    let (first, second) = (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
    let dialogues = shared("support_dialogues.ndjson.gz");
    run(first.path(), &["import", dialogues.to_str().expect("UTF-8"), "--tenant-field", "tenant"]);
    let file = first.path().join("meeting.ndjson");
    let path = file.to_str().expect("UTF-8");
    run(first.path(), &["export", "--tenant", "meeting", path]);
    assert_eq!(
        run(first.path(), &["import", path, "--tenant", "meeting"]).trim(),
        "imported=0 skipped=121 quarantined=0"
    );

    run(second.path(), &["tenant", "create", "--name", "meeting", "--email", "owner@meeting.example"]);
    assert_eq!(
        run(second.path(), &["import", path, "--tenant", "meeting"]).trim(),
        "imported=121 skipped=0 quarantined=0"
    );
    let token = run(second.path(), &["token", "create", "--tenant", "meeting"]).trim().to_owned();
    let server = Server::start(second.path(), &[]);
    check_tenant(&server, "meeting", &token, &expected()["meeting"]).await;
}

/// Bad lines are quarantined by number and reason, and the good ones go through.
#[test]
fn bad_lines_are_quarantined_and_good_ones_imported() {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("mixed.ndjson");
    let good = r#"{"id":"t1","tenant":"shop","visitor":{"id":"v"},"agent":{"id":"a"},"messages":[{"at":"2020-05-12T17:44:40Z","from":"visitor","text":"Hello"}]}"#;
    let lines = [
        "not json at all".to_owned(),
        good.to_owned(),
        good.replace("t1", "t2").replace("\"tenant\":\"shop\",", ""),
        good.replace("t1", "t3").replace("Hello", "   "),
        good.replace("t1", "t4"),
    ];
    std::fs::write(&file, lines.join("\n")).expect("written");
    let data = dir.path().join("data");
    let output = support::run_any(&data, &["import", file.to_str().expect("UTF-8"), "--tenant-field", "tenant"]);
    assert_eq!(output.status.code(), Some(2), "the code says that lines were quarantined");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "imported=2 skipped=0 quarantined=3");
    let reasons = String::from_utf8_lossy(&output.stderr);
    for reason in ["line 1: not_json", "line 3: missing_tenant", "line 4: empty_message"] {
        assert!(reasons.contains(reason), "{reasons}");
    }
}

/// An agent's numbers are the reports' own: an answer is its author's, a resolve the assigned agent's.
#[tokio::test]
async fn an_agents_stats_come_from_the_reports() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let tenant = server.tenant("Numbers").await;
    let stats = async || server.get(&format!("/v1/agents/{}/stats", tenant.agent), &tenant.token).await;
    let none = stats().await;
    assert_eq!((&none["firstResponseSecondsP50"], none["resolvedToday"].as_u64()), (&Value::Null, Some(0)));
    let session = server.session(&tenant.chatbot_key, serde_json::json!({ "initialMessage": "hello?" })).await;
    let (chat, thread) = (&session["conversationId"], session["threadId"].as_str().expect("an id"));
    let chat = chat.as_str().expect("an id");
    server.post(&format!("/v1/conversations/{chat}/take"), &tenant.token, serde_json::json!({})).await;
    let answer = serde_json::json!({ "type": "message", "content": "hello!" });
    server.post(&format!("/v1/threads/{thread}/events"), &tenant.token, answer).await;
    let busy = stats().await;
    assert_eq!(busy["activeChats"], 1);
    assert!(busy["firstResponseSecondsP50"].as_f64().is_some_and(|seconds| (0.0..60.0).contains(&seconds)), "{busy}");
    let slots = busy["availableSlots"].as_u64().expect("a number");
    server.post(&format!("/v1/conversations/{chat}/resolve"), &tenant.token, serde_json::json!({})).await;
    let done = stats().await;
    assert_eq!((&done["activeChats"], &done["resolvedToday"]), (&serde_json::json!(0), &serde_json::json!(1)));
    assert_eq!(done["availableSlots"].as_u64(), Some(slots + 1));
    server.stop();
}
