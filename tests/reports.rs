//! The main job on real traffic: 4,765 real support dialogues imported, and every tenant's reports right to the
//! millisecond, through HTTP with that tenant's token.

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use support::{Server, Tenant, data_file, http_client, run};

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

/// Nothing in the dialogues was reopened or rated twice: both versions of the definitions say what is expected.
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
    for version in [1, 2] {
        let csat = &rows(server, &format!("csat.json?by=none&version={version}"), token).await[0];
        assert_eq!(csat["count"], expected["rating"]["count"], "{slug} csat {version}");
        close(&csat["avg"], &expected["rating"]["avg"], 0.000_051, &format!("{slug} csat {version}"));
        let replies = &rows(server, &format!("reply_time.json?by=none&version={version}"), token).await[0];
        assert_eq!(replies["count"], expected["reply_seconds"]["count"], "{slug} replies {version}");
        close(&replies["avg_s"], &expected["reply_seconds"]["avg"], 0.000_501, &format!("{slug} replies {version}"));
    }

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
    let text = std::fs::read_to_string(data_file("expected_metrics.json")).expect("readable");
    serde_json::from_str::<Value>(&text).expect("JSON").as_object().expect("tenants").clone()
}

/// Waits until the facts hold what was imported while no server ran: who asks before is told to come again.
async fn caught_up(server: &Server, token: &str) {
    for _ in 0..60 {
        let path = "/v0/sql?q=SELECT%20count(*)%20AS%20n%20FROM%20messages";
        if server.call(Method::GET, path, token, None).await.0 != 503 {
            return;
        }
    }
    panic!("the facts stay behind the log");
}

#[tokio::test]
async fn every_tenants_reports_are_right() {
    let dir = tempfile::tempdir().expect("temp dir");
    let dialogues = data_file("support_dialogues.ndjson.gz");
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
    caught_up(&server, &tokens[0].1).await;
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
    let dialogues = data_file("support_dialogues.ndjson.gz");
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

/// A report's rows, of the last 30 days.
async fn report(server: &Server, tenant: &Tenant, call: &str) -> Vec<Value> {
    let answer = server.get(&format!("/v0/pipes/{call}"), &tenant.report_token).await;
    answer["data"].as_array().expect("rows").clone()
}

/// Asks until the answer fits: assignment and mail follow the log.
async fn eventually(server: &Server, tenant: &Tenant, call: &str, fits: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    for _ in 0..200 {
        let rows = report(server, tenant, call).await;
        if fits(&rows) {
            return rows;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{call} never came to that: {:?}", report(server, tenant, call).await);
}

/// One chat through the whole server: queued, assigned, answered, snoozed, resolved, rated; and what the reports say.
#[tokio::test]
async fn the_reports_tell_how_a_conversation_went() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let tenant = server.tenant("Life").await;
    let targets = json!({ "firstResponseSeconds": 60, "resolutionSeconds": 3600, "businessHours": true });
    let change = json!({ "slaTargets": targets, "timeZone": "Europe/Berlin" });
    let (status, changed) = server.call(Method::PATCH, "/v1/tenants/me", &tenant.token, Some(change)).await;
    assert!(status.is_success(), "{changed}");
    server.post("/v1/groups", &tenant.token, json!({ "name": "Sales" })).await;

    let body = json!({ "initialMessage": "hello?", "email": "vera@visitor.example" });
    let session = server.session(&tenant.chatbot_key, body).await;
    let chat = session["conversationId"].as_str().expect("an id");
    let assigned = |rows: &[Value]| rows.first().is_some_and(|row| row["status"] == "active");
    eventually(&server, &tenant, "conversation_list.json", assigned).await;
    let so_far = report(&server, &tenant, &format!("event_stream.json?conversation_id={chat}")).await;
    let thread = so_far.last().expect("events")["thread_id"].clone();
    let answer = json!({ "type": "message", "content": "hello!" });
    let events = format!("/v1/threads/{}/events", thread.as_str().expect("an id"));
    server.post(&events, &tenant.token, answer).await;
    server.post(&format!("/v1/conversations/{chat}/tags"), &tenant.token, json!({ "add": ["vip"] })).await;
    server.post(&format!("/v1/conversations/{chat}/resolve"), &tenant.token, json!({})).await;
    let visitor = session["sessionToken"].as_str().expect("a token");
    server.post("/v1/widget/rating", visitor, json!({ "score": 5 })).await;

    for call in ["waiting_time", "handle_time", "first_response", "resolution_time"] {
        for hours in ["calendar", "business"] {
            let rows = report(&server, &tenant, &format!("{call}.json?by=tag&hours={hours}")).await;
            assert_eq!(
                (rows.len(), &rows[0]["tag"], &rows[0]["count"]),
                (1, &json!("vip"), &json!(1)),
                "{call} {hours}"
            );
            assert!((0.0..60.0).contains(&rows[0]["avg_s"].as_f64().expect("seconds")), "{call}: {rows:?}");
        }
    }
    let work = &report(&server, &tenant, "agent_performance.json").await[0];
    let counts = ["assigned", "resolved", "resolution_rate", "messages", "ratings", "csat", "concurrency"];
    assert_eq!(counts.map(|key| work[key].as_f64()), [Some(1.0); 7], "{work}");
    assert_eq!(work["agent_id"], json!(tenant.agent));
    let share = |key: &str| work[key].as_f64().expect("a number");
    assert!(0.0 < share("occupancy") && share("occupancy") <= 1.0 && share("busy_s") <= share("online_s"), "{work}");
    let sla = &report(&server, &tenant, "sla.json").await[0];
    assert_eq!((sla["sla_met"].as_f64(), &sla["first_response_target_s"]), (Some(1.0), &json!(60)), "{sla}");
    let quality = &report(&server, &tenant, "assignment_quality.json?by=strategy").await[0];
    assert_eq!((&quality["strategy"], &quality["waited"]), (&json!("least_loaded"), &json!(1)), "{quality}");
    let outcomes = &report(&server, &tenant, "bot_outcomes.json").await[0];
    assert_eq!((&outcomes["resolved"], &outcomes["deflected"]), (&json!(1), &json!(0)));
    // It was rated.
    assert_eq!((&outcomes["confirmed"], &outcomes["assumed"]), (&json!(1), &json!(0)));
    let sent = |rows: &[Value]| rows.iter().any(|row| row["kind"] == "welcome" && row["sent"] == 1);
    eventually(&server, &tenant, "notification_outcomes.json?by=kind", sent).await;
    assert!(report(&server, &tenant, "queue.json").await.is_empty());
    assert_eq!(report(&server, &tenant, "busiest_hours.json").await.len(), 1);
    as_it_was(&server, &tenant, chat).await;
    let table = async |sql: &str| {
        let request = http_client(60).get(format!("{}/v0/sql", server.base)).query(&[("q", sql)]);
        let answer = request.bearer_auth(&tenant.report_token).send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")["data"].clone()
    };
    let threads = "SELECT number, end_reason, ended_by, agent_id IS NOT NULL AS held FROM threads ORDER BY number";
    let wanted = json!([
        { "number": 1, "end_reason": "agent_assigned", "ended_by": "system", "held": false },
        { "number": 2, "end_reason": "resolved", "ended_by": "agent", "held": true },
    ]);
    assert_eq!(table(threads).await, wanted);
    assert_eq!(table("SELECT name, members FROM groups").await, json!([{ "name": "Sales", "members": 0 }]));
    assert_eq!(
        table("SELECT has_email, identified FROM visitors").await,
        json!([{ "has_email": true, "identified": false }])
    );
    server.stop();
}

/// The conversation before its answer, by the time at which each event was recorded.
async fn as_it_was(server: &Server, tenant: &Tenant, chat: &str) {
    let rows = report(server, tenant, &format!("event_stream.json?conversation_id={chat}")).await;
    let kinds: Vec<&str> = rows.iter().map(|row| row["kind"].as_str().expect("a kind")).collect();
    let wanted = [
        "conversation_started",
        "message_posted",
        "conversation_queued",
        "agent_assigned",
        "message_posted",
        "conversation_tagged",
        "conversation_resolved",
        "conversation_rated",
    ];
    assert_eq!(kinds, wanted);
    assert_eq!(rows.last().expect("rows")["status"], "resolved");
    let at = rows[3]["recorded_at"].as_str().expect("a time").replace(' ', "T");
    let then = report(server, tenant, &format!("event_stream.json?conversation_id={chat}&at={at}Z")).await;
    assert_eq!(then, rows[..4]);
    assert_eq!(then[3]["status"], "active");
}

/// `docs/METRICS.md` names every column of every table and of every endpoint.
#[tokio::test]
async fn every_column_is_defined() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let tenant = server.tenant("Columns").await;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md");
    let text = std::fs::read_to_string(path).expect("readable");
    let defined = |name: &str| text.contains(&format!("`{name}`"));
    let mut seen = 0;
    let tables = server.get("/v0/datasources", &tenant.report_token).await;
    for table in tables["datasources"].as_array().expect("tables") {
        assert!(defined(table["name"].as_str().expect("a name")), "the table {}", table["name"]);
        for column in table["columns"].as_array().expect("columns") {
            assert!(defined(column["name"].as_str().expect("a name")), "{} of {}", column["name"], table["name"]);
            seen += 1;
        }
    }
    let pipes = server.get("/v0/pipes", &tenant.report_token).await;
    for pipe in pipes["pipes"].as_array().expect("pipes") {
        let name = pipe["name"].as_str().expect("a name");
        assert!(defined(name), "the endpoint {name}");
        let call = format!("/v0/pipes/{name}.json?conversation_id={}", tenant.agent);
        let answer = server.get(&call, &tenant.report_token).await;
        for column in answer["meta"].as_array().expect("columns") {
            assert!(defined(column["name"].as_str().expect("a name")), "{} of {name}", column["name"]);
            seen += 1;
        }
    }
    assert!(seen > 200, "{seen} columns");
    server.stop();
}

/// What a token or its endpoint says that was kept for another.
const OTHERS: &str = "another token's answer shows";

/// Kept answers: a token that is fixed to one name never gets what is another's, however alike the two are written.
#[tokio::test]
async fn kept_answers_of_fixed_values_are_told_apart() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = server.tenant("Acme").await;
    let sql = "SELECT {{String(who)}} AS who, count(*) AS n FROM messages";
    let body = json!({ "name": "mine", "nodes": [{ "name": "n", "sql": format!("%\n{sql}") }] });
    server.post("/v0/pipes", &all_rights(&server, &acme).await, body).await;
    for (n, who) in ["o'neil", "o''neil", "o'''neil", r"o\'neil", "o'neil"].into_iter().enumerate() {
        let scope = json!({ "type": "PIPES:READ", "resource": "mine", "fixed_params": { "who": who } });
        let token = scoped(&server, &acme, &format!("fixed {n}"), json!([scope])).await;
        for _ in 0..2 {
            let answer = server.get("/v0/pipes/mine.json?who=x", &token).await;
            assert_eq!(answer["data"][0]["who"], who, "{OTHERS}");
        }
    }
    server.stop();
}

/// Kept answers and plans: the same statement by tokens with other row filters, before and after a row came that makes the
/// kept answers old.
#[tokio::test]
async fn kept_answers_and_plans_of_row_filters_are_told_apart() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = server.tenant("Acme").await;
    let writer = all_rights(&server, &acme).await;
    let names = ["o'neil", "o''neil", r"o\'neil"];
    let mut tokens = Vec::new();
    for who in names {
        append(&server, &writer, who).await;
        let filter = format!("who = '{}'", who.replace('\'', "''"));
        let scope = json!({ "type": "DATASOURCES:READ", "resource": "people", "filter": filter });
        tokens.push(scoped(&server, &acme, who, json!([scope])).await);
    }
    for round in 1..4 {
        for (who, token) in names.iter().zip(&tokens) {
            let asked = server.get("/v0/sql?q=SELECT+who,count(*)+AS+n+FROM+people+GROUP+BY+who", token).await;
            assert_eq!(asked["data"], json!([{ "who": who, "n": round }]), "{OTHERS}");
        }
        for who in names {
            append(&server, &writer, who).await;
        }
    }
    server.stop();
}

async fn append(server: &Server, token: &str, who: &str) {
    let request = http_client(30).post(format!("{}/v0/events?name=people&wait=true", server.base)).bearer_auth(token);
    let answer = request.body(json!({ "who": who }).to_string()).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
}

async fn scoped(server: &Server, tenant: &Tenant, name: &str, scopes: Value) -> String {
    let made = server.post("/v0/tokens/", &tenant.token, json!({ "name": name, "scopes": scopes })).await;
    made["token"].as_str().expect("a token").to_owned()
}

async fn all_rights(server: &Server, tenant: &Tenant) -> String {
    let types = ["PIPES:CREATE", "PIPES:READ", "DATASOURCES:READ", "DATASOURCES:CREATE", "DATASOURCES:APPEND"];
    let scopes: Vec<Value> = types.into_iter().map(|kind| json!({ "type": kind, "resource": "*" })).collect();
    scoped(server, tenant, "writer", json!(scopes)).await
}
