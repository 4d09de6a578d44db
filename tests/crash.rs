//! `kill -9` at random moments, during an import and live traffic: nothing acknowledged is lost, nothing is doubled.
//!
//! Visitors write numbered messages under idempotency keys and try again after each kill, as a widget does. At the end
//! the log is recounted against what was acknowledged. The seed is printed; `PARLANCE_CRASH_SEED` replays it.

mod support;

use reqwest::{Client, Method};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{OPERATOR, Server, Tenant, caller, data_file, http_client, run};
use tokio::task::JoinSet;

/// At least 50 are asked for.
const KILLS: u64 = 55;
const VISITORS: usize = 12;
/// A quick disk lets a visitor write faster than one may.
const UNLIMITED: &[&str] = &["--limit", "all=off"];

/// A visitor between kills: the message under way, and what was acknowledged, by its number.
struct Visitor {
    token: String,
    conversation: String,
    next: u64,
    acknowledged: BTreeMap<u64, u64>,
}

/// Writes one message after the other until the server is gone.
async fn write(visitor: Arc<Mutex<Visitor>>, http: Client, base: String) {
    loop {
        let (token, number) = {
            let visitor = visitor.lock().expect("not poisoned");
            (visitor.token.clone(), visitor.next)
        };
        let body = json!({ "content": format!("message {number}"), "clientId": format!("client-{number}") });
        let sent = caller(&http, &base, Method::POST, "/v1/widget/events", &token, Some(body)).await;
        let Ok((status, event)) = sent else { return };
        if status.is_server_error() {
            return;
        }
        assert!(status.is_success(), "a message was refused: {status} {event}");
        let mut visitor = visitor.lock().expect("not poisoned");
        let seq = event["seq"].as_u64().expect("a seq");
        assert!(visitor.acknowledged.insert(number, seq).is_none(), "each number is acknowledged once");
        visitor.next += 1;
    }
}

async fn import(http: Client, base: String) -> bool {
    let bytes = std::fs::read(data_file("support_dialogues.ndjson.gz")).expect("readable");
    let request = http.post(format!("{base}/v1/operator/import?tenantField=tenant")).bearer_auth(OPERATOR);
    let sent = request.header("content-type", "application/x-ndjson").body(bytes).send().await;
    match sent {
        Ok(response) if response.status().is_success() => {
            let report: Value = response.json().await.unwrap_or_default();
            report["quarantined"].as_array().is_some_and(Vec::is_empty)
        }
        _ => false,
    }
}

/// An agent who goes on- and offline: assignments, and mails while offline.
async fn wander(tenant: Tenant, http: Client, base: String) {
    for turn in 0.. {
        let status = if turn % 2 == 0 { "offline" } else { "online" };
        let path = format!("/v1/agents/{}/status", tenant.agent);
        let body = json!({ "status": status, "acceptingChats": true });
        if caller(&http, &base, Method::PUT, &path, &tenant.token, Some(body)).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let body = json!({ "initialMessage": "Hello?", "email": format!("v{turn}@mail.example") });
        let request = http.post(format!("{base}/v1/widget/session")).header("x-chatbot-key", &tenant.chatbot_key);
        if request.json(&body).send().await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_and_double_nothing() {
    let seed = std::env::var("PARLANCE_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}: replay with PARLANCE_CRASH_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), UNLIMITED);
    let tenant = server.tenant("Crash").await;
    let mut visitors = Vec::new();
    for _ in 0..VISITORS {
        let session = server.session(&tenant.chatbot_key, json!({})).await;
        let text = |key: &str| session[key].as_str().expect("text").to_owned();
        let (token, conversation) = (text("sessionToken"), text("conversationId"));
        visitors.push(Arc::new(Mutex::new(Visitor { token, conversation, next: 0, acknowledged: BTreeMap::new() })));
    }
    server.kill();

    let mut imported = false;
    for _ in 0..KILLS {
        let server = Server::start(dir.path(), UNLIMITED);
        let http = http_client(30);
        let mut tasks = JoinSet::new();
        for visitor in &visitors {
            tasks.spawn(write(Arc::clone(visitor), http.clone(), server.base.clone()));
        }
        tasks.spawn(wander(tenant.clone(), http.clone(), server.base.clone()));
        let importing = (!imported).then(|| tokio::spawn(import(http.clone(), server.base.clone())));
        tokio::time::sleep(Duration::from_millis(30 + dice.u64(..500))).await;
        server.kill();
        while let Some(outcome) = tasks.join_next().await {
            outcome.expect("the traffic's own checks hold");
        }
        if let Some(importing) = importing {
            imported = importing.await.expect("the import task ends");
        }
    }

    let server = Server::start(dir.path(), UNLIMITED);
    let http = http_client(120);
    assert!(import(http, server.base.clone()).await, "the import goes through in the end");
    wait_for_quiet(dir.path()).await;
    let acknowledged: usize = visitors.iter().map(|v| v.lock().expect("not poisoned").acknowledged.len()).sum();
    println!("{KILLS} kills, {acknowledged} acknowledged messages");
    assert!(acknowledged > 100, "the traffic flowed");
    live_reports_equal_a_recount(&server, &tenant, dir.path()).await;
    imported_reports_are_right(&server, dir.path()).await;
    server.stop();

    let log = Connection::open(dir.path().join("parlance.db")).expect("opens");
    every_acknowledged_message_is_there_once(&log, &visitors);
    no_mail_and_no_assignment_twice(&log, dir.path());
    drop(log);
    let hash = run(dir.path(), &["verify"]);
    assert_eq!(run(dir.path(), &["rebuild"]), hash, "verify and rebuild agree");
}

/// Jobs and mails have caught up when the log stops growing.
async fn wait_for_quiet(dir: &Path) {
    let log = Connection::open(dir.join("parlance.db")).expect("opens");
    let state = || -> (i64, i64) {
        let events = log.query_row("SELECT count(*) FROM log", [], |row| row.get(0)).expect("a count");
        let pending = "SELECT count(*) FROM mails WHERE status = 'pending'";
        (events, log.query_row(pending, [], |row| row.get(0)).expect("a count"))
    };
    let mut before = state();
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = state();
        if now == before && now.1 == 0 {
            return;
        }
        before = now;
    }
    panic!("the jobs didn't come to rest: {before:?}");
}

fn events(log: &Connection, filter: &str) -> Vec<Value> {
    let sql = format!("SELECT body FROM log WHERE {filter} ORDER BY \"offset\"");
    let mut statement = log.prepare(&sql).expect("prepared");
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    rows.map(|body| serde_json::from_str(&body.expect("a body")).expect("JSON")).collect()
}

fn every_acknowledged_message_is_there_once(log: &Connection, visitors: &[Arc<Mutex<Visitor>>]) {
    let mut by_conversation: HashMap<String, BTreeMap<String, Vec<u64>>> = HashMap::new();
    for event in
        events(log, "json_extract(body, '$.type') = 'message_posted' AND json_extract(body, '$.origin') = 'live'")
    {
        if let Some(client) = event["data"]["clientId"].as_str() {
            let conversation = event["conversation"].as_str().expect("a conversation").to_owned();
            let seqs = by_conversation.entry(conversation).or_default().entry(client.to_owned()).or_default();
            seqs.push(event["seq"].as_u64().expect("a seq"));
        }
    }
    for visitor in visitors {
        let visitor = visitor.lock().expect("not poisoned");
        let stored = by_conversation.remove(&visitor.conversation).unwrap_or_default();
        for (number, seq) in &visitor.acknowledged {
            assert_eq!(stored.get(&format!("client-{number}")), Some(&vec![*seq]), "message {number}");
        }
        // At most the one that was under way at the last kill is there without an acknowledgement.
        assert!(stored.len() <= visitor.acknowledged.len() + 1, "nothing is there that wasn't sent");
    }
}

fn no_mail_and_no_assignment_twice(log: &Connection, dir: &Path) {
    let (mut requested, mut sent) = (BTreeSet::new(), BTreeSet::new());
    for event in events(log, "json_extract(body, '$.type') IN ('mail_requested', 'mail_sent', 'mail_failed')") {
        let mail = event["data"]["mailId"].as_str().expect("an id").to_owned();
        let seen = if event["type"] == "mail_requested" { &mut requested } else { &mut sent };
        assert!(seen.insert(mail), "a mail is requested once and ends once: {event}");
    }
    assert_eq!(requested, sent, "every mail that was requested was sent");
    let spooled: BTreeSet<String> = std::fs::read_dir(dir.join("spool"))
        .expect("a spool")
        .map(|file| file.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(spooled, requested, "one file a mail");
    assert!(!requested.is_empty(), "mails flowed");

    // Between two assignments of a conversation it went back to the queue, or a person took it over.
    let mut waiting: HashMap<String, bool> = HashMap::new();
    let mut assigned = 0;
    let kinds = "'conversation_queued', 'agent_assigned'";
    for event in events(log, &format!("json_extract(body, '$.type') IN ({kinds})")) {
        let conversation = event["conversation"].as_str().expect("a conversation").to_owned();
        let waits = waiting.entry(conversation).or_default();
        if event["type"] == "conversation_queued" {
            assert!(!*waits, "a conversation is queued once: {event}");
            *waits = true;
        } else {
            assert!(*waits, "a conversation is assigned once: {event}");
            *waits = false;
            assigned += 1;
        }
    }
    assert!(assigned > 0, "assignments flowed");
}

async fn live_reports_equal_a_recount(server: &Server, tenant: &Tenant, dir: &Path) {
    let log = Connection::open(dir.join("parlance.db")).expect("opens");
    let filter = |kind: &str| {
        format!("json_extract(body, '$.type') = '{kind}' AND json_extract(body, '$.tenant') = '{}'", tenant.id)
    };
    let recount = (events(&log, &filter("message_posted")).len(), events(&log, &filter("conversation_started")).len());
    let answer = server
        .get("/v0/pipes/usage.json?granularity=total&date_from=2000-01-01&date_to=2100-01-01", &tenant.report_token)
        .await;
    let row = &answer["data"][0];
    assert_eq!(row["messages_visitor"], recount.0, "messages, against a recount of the log");
    assert_eq!(row["conversations"], recount.1, "conversations, against a recount of the log");
}

async fn imported_reports_are_right(server: &Server, dir: &Path) {
    let text = std::fs::read_to_string(data_file("expected_metrics.json")).expect("readable");
    let expected: Value = serde_json::from_str(&text).expect("JSON");
    let log = Connection::open(dir.join("parlance.db")).expect("opens");
    let known: i64 = log.query_row("SELECT count(*) FROM tenants", [], |row| row.get(0)).expect("a count");
    assert_eq!(known, 14, "13 imported tenants and the live one");
    for (slug, expected) in expected.as_object().expect("tenants") {
        let path = format!("/v1/operator/tenants/{slug}/tokens");
        let made = server.post(&path, OPERATOR, json!({ "name": "check", "scopes": [] })).await;
        let token = made["token"].as_str().expect("a token");
        let period = "date_from=2020-01-01&date_to=2021-01-01&time_zone=UTC";
        let usage = server.get(&format!("/v0/pipes/usage.json?granularity=total&{period}"), token).await;
        for key in ["conversations", "resolved", "messages_visitor", "messages_agent", "visitors", "agents"] {
            assert_eq!(usage["data"][0][key], expected[key], "{slug} {key}");
        }
        let reply = server.get(&format!("/v0/pipes/reply_time.json?by=none&{period}"), token).await;
        let (found, wanted) = (&reply["data"][0], &expected["reply_seconds"]);
        assert_eq!(found["count"], wanted["count"], "{slug}");
        let off = found["avg_s"].as_f64().expect("avg") - wanted["avg"].as_f64().expect("avg");
        assert!(off.abs() < 0.000_501, "{slug} reply {off}");
    }
}
