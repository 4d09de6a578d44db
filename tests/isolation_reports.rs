//! What a tenant reads in reports is its own: every table through every door, every endpoint, and what is said about
//! tables without reading them. Alpha has a row in every table, Beta has next to nothing, and asks.
//!
//! `cargo xtask mutants` takes the tenant's filter out of a copy of the product, runs these tests, and counts those that say
//! [`LEAK`]. A test here fails with those words for nothing else.

#[path = "../sql/tests/it/support/client.rs"]
mod client;
mod support;

use client::Client;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use support::{OPERATOR, Server, Tenant, http_client};
use tempfile::TempDir;

/// What a test here says when it sees what isn't Beta's.
const LEAK: &str = "another tenant's rows show";

struct World {
    dir: TempDir,
    server: Server,
    /// Where the Postgres wire is.
    pg: String,
    beta: Tenant,
}

impl World {
    /// A server with Beta, who has an agent and a row of its own.
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let (server, pg) = serve(dir.path()).await;
        let beta = server.tenant("Beta").await;
        let world = Self { dir, server, pg, beta };
        world.append(&world.beta, "orders", r#"{"order_id":"b1","secret":"beta's"}"#).await;
        world
    }

    /// The same, and Alpha.
    async fn with_alpha() -> (Self, Tenant, String) {
        let world = Self::start().await;
        let (alpha, chat) = world.alpha().await;
        (world, alpha, chat)
    }

    async fn append(&self, tenant: &Tenant, source: &str, rows: &str) {
        let url = format!("{}/v0/events?name={source}&wait=true", self.server.base);
        let request = http_client(60).post(url).bearer_auth(&tenant.token).body(rows.to_owned());
        assert_eq!(request.send().await.expect("an answer").status(), 200, "{source}");
    }

    /// Publishes a tenant's own endpoint.
    async fn publish(&self, tenant: &Tenant, name: &str, sql: &str) {
        let url = format!("{}/v0/pipes?name={name}", self.server.base);
        let request = http_client(60).post(url).bearer_auth(&tenant.token);
        let answer = request.body(format!("NODE n\nSQL >\n    {sql}\n")).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{sql}: {:?}", answer.text().await);
    }

    /// Status and body of a call; asks again while the facts are behind the log.
    async fn ask(&self, path: &str, query: &[(&str, &str)], token: &str) -> (u16, Value) {
        for _ in 0..30 {
            let request = http_client(60).get(format!("{}{path}", self.server.base)).query(query).bearer_auth(token);
            let answer = request.send().await.expect("an answer");
            let status = answer.status().as_u16();
            if status != 503 {
                return (status, answer.json().await.unwrap_or_default());
            }
        }
        panic!("the facts stay behind the log");
    }

    /// Rows of a call that must succeed.
    async fn rows(&self, path: &str, query: &[(&str, &str)], token: &str) -> Vec<Value> {
        let (status, answer) = self.ask(path, query, token).await;
        assert_eq!(status, 200, "{path} {query:?}: {answer}");
        answer["data"].as_array().expect("rows").clone()
    }

    async fn sql(&self, sql: &str, token: &str) -> Vec<Value> {
        self.rows("/v0/sql", &[("q", sql)], token).await
    }

    /// The one number of a statement.
    async fn number(&self, sql: &str, token: &str) -> i64 {
        self.sql(sql, token).await[0]["n"].as_i64().expect("a number")
    }

    fn wire(&self, tenant: &Tenant) -> Client {
        Client::start(&self.pg, &tenant.id, &tenant.report_token).expect("let in")
    }

    /// Alpha, with a row in every table: a conversation from its first word to its rating, and one that waits.
    async fn alpha(&self) -> (Tenant, String) {
        let server = &self.server;
        let alpha = server.tenant("Alpha").await;
        let promised = json!({ "slaTargets": { "firstResponseSeconds": 4711 } });
        assert!(server.call(Method::PATCH, "/v1/tenants/me", &alpha.token, Some(promised)).await.0.is_success());
        server.post("/v1/groups", &alpha.token, json!({ "name": "Alphas" })).await;
        let body = json!({ "initialMessage": "hello?", "email": "vera@alpha.example" });
        let session = server.session(&alpha.chatbot_key, body).await;
        let chat = session["conversationId"].as_str().expect("an id").to_owned();
        self.until(&alpha, "SELECT count(*) AS n FROM conversations WHERE agent_id IS NOT NULL").await;
        let shown = server.get(&format!("/v1/conversations/{chat}"), &alpha.token).await;
        let thread = shown["activeThreadId"].as_str().expect("a thread");
        let message = json!({ "type": "message", "content": "hello!" });
        server.post(&format!("/v1/threads/{thread}/events"), &alpha.token, message).await;
        server.post(&format!("/v1/conversations/{chat}/resolve"), &alpha.token, json!({})).await;
        let visitor = session["sessionToken"].as_str().expect("a token");
        server.post("/v1/widget/rating", visitor, json!({ "score": 5 })).await;
        let away = json!({ "status": "offline" });
        server.call(Method::PUT, &format!("/v1/agents/{}/status", alpha.agent), &alpha.token, Some(away)).await;
        server.session(&alpha.chatbot_key, json!({ "initialMessage": "anybody?" })).await;
        self.append(&alpha, "orders", "{\"order_id\":\"a1\",\"secret\":\"alpha's\"}\nnot a row").await;
        self.append(&alpha, "hidden", r#"{"secret":"alpha's"}"#).await;
        self.until(&alpha, "SELECT count(*) AS n FROM notifications").await;
        (alpha, chat)
    }

    /// Asks until there is something: assignment and mail follow the log.
    async fn until(&self, tenant: &Tenant, sql: &str) {
        for _ in 0..200 {
            if self.number(sql, &tenant.report_token).await > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("there never was anything: {sql}");
    }
}

async fn serve(dir: &Path) -> (Server, String) {
    let server = Server::start(dir, &["--pg-listen", "127.0.0.1:0"]);
    let status = server.get("/v1/status", OPERATOR).await;
    let pg = status["pg"].as_str().expect("an address").to_owned();
    (server, pg)
}

/// How many rows of a table Beta sees, by door.
async fn doors(world: &World, table: &str, key: &str) -> Vec<(&'static str, i64)> {
    let token = &world.beta.report_token;
    let len = |rows: usize| i64::try_from(rows).expect("few");
    let all = format!("SELECT * FROM {table}");
    let count = format!("SELECT count(*) AS n FROM {table}");
    let distinct = format!("SELECT count(*) AS n FROM (SELECT DISTINCT {key} FROM {table}) t");
    let joined = format!("SELECT count(DISTINCT a.{key}) AS n FROM {table} a JOIN {table} b ON a.{key} = b.{key}");
    world.publish(&world.beta, "mine", &all).await;
    let pipe = "/v0/pipes/mine.json";
    let mut wire = world.wire(&world.beta);
    vec![
        ("SQL", len(world.sql(&all, token).await.len())),
        ("count(*)", world.number(&count, token).await),
        ("DISTINCT", world.number(&distinct, token).await),
        ("a join", world.number(&joined, token).await),
        ("an own endpoint", len(world.rows(pipe, &[], token).await.len())),
        (
            "q over an endpoint",
            world.rows(pipe, &[("q", "SELECT count(*) AS n FROM _")], token).await[0]["n"].as_i64().expect("a number"),
        ),
        ("a simple query", len(wire.simple(&all).expect("rows").len())),
        ("a prepared statement", len(wire.extended(&all).expect("rows").len())),
    ]
}

/// Beta sees `own` rows of a table through every door, however many Alpha has.
async fn table_is_its_tenants(table: &str, key: &str, own: i64) {
    let (world, alpha, _) = World::with_alpha().await;
    let alphas = world.number(&format!("SELECT count(*) AS n FROM {table}"), &alpha.report_token).await;
    assert!(alphas > 0, "Alpha has nothing in {table} that could show");
    let seen = doors(&world, table, key).await;
    let leaks: Vec<&str> = seen.iter().filter(|(_, n)| *n > own).map(|(door, _)| *door).collect();
    assert!(leaks.is_empty(), "{LEAK}: {table} through {}", leaks.join(", "));
    assert!(seen.iter().all(|(_, n)| *n == own), "Beta's own rows of {table} are {own}: {seen:?}");
}

macro_rules! tables {
    ($($test:ident: $table:literal by $key:literal, $own:literal of its own;)*) => {$(
        #[tokio::test]
        async fn $test() {
            table_is_its_tenants($table, $key, $own).await;
        }
    )*};
}

tables! {
    activity_is_its_tenants: "activity" by "event_id", 0 of its own;
    agents_are_their_tenants: "agents" by "agent_id", 1 of its own;
    assignments_are_their_tenants: "assignments" by "event_id", 0 of its own;
    conversations_are_their_tenants: "conversations" by "conversation_id", 0 of its own;
    events_are_their_tenants: "events" by "event_id", 0 of its own;
    groups_are_their_tenants: "groups" by "group_id", 0 of its own;
    messages_are_their_tenants: "messages" by "event_id", 0 of its own;
    notifications_are_their_tenants: "notifications" by "event_id", 0 of its own;
    presence_is_its_tenants: "presence" by "event_id", 1 of its own;
    ratings_are_their_tenants: "ratings" by "event_id", 0 of its own;
    resolutions_are_their_tenants: "resolutions" by "event_id", 0 of its own;
    sla_targets_are_their_tenants: "sla_targets" by "target", 0 of its own;
    the_queue_is_its_tenants: "queue" by "conversation_id", 0 of its own;
    threads_are_their_tenants: "threads" by "thread_id", 0 of its own;
    usage_minutes_are_their_tenants: "usage_minute" by "metric", 0 of its own;
    visitors_are_their_tenants: "visitors" by "visitor_id", 0 of its own;
    own_sources_of_one_name_are_their_tenants: "orders" by "order_id", 1 of its own;
    quarantines_are_their_tenants: "orders_quarantine" by "c__import_id", 0 of its own;
}

/// What of an answer doesn't go with the clock: durations and shares are fractions.
fn steady(rows: Vec<Value>) -> Vec<Value> {
    let without = |mut row: Value| {
        if let Some(cells) = row.as_object_mut() {
            cells.retain(|_, cell| !cell.is_f64());
        }
        row
    };
    rows.into_iter().map(without).collect()
}

/// Beta's answer stays what it was when Alpha comes; `call` may name Alpha's conversation.
async fn endpoint_is_its_tenants(call: &str) {
    let world = World::start().await;
    let token = world.beta.report_token.clone();
    let path = |chat: &str| format!("/v0/pipes/{}", call.replace("{chat}", chat));
    let before = steady(world.rows(&path("nobody"), &[], &token).await);
    let (alpha, chat) = world.alpha().await;
    // Something of Beta's changes, so that no answer from before is kept.
    world.append(&world.beta, "tick", r#"{"n":1}"#).await;
    let after = steady(world.rows(&path(&chat), &[], &token).await);
    assert!(after == before, "{LEAK}: {call} gave {before:?}, and with Alpha {after:?}");
    let alphas = steady(world.rows(&path(&chat), &[], &alpha.report_token).await);
    assert_ne!(alphas, before, "Alpha has nothing in {call} that could show");
}

macro_rules! endpoints {
    ($($test:ident: $call:literal;)*) => {$(
        #[tokio::test]
        async fn $test() {
            endpoint_is_its_tenants($call).await;
        }
    )*};
}

endpoints! {
    agent_performance_is_the_tenants: "agent_performance.json";
    assignment_quality_is_the_tenants: "assignment_quality.json?by=strategy";
    bot_outcomes_are_the_tenants: "bot_outcomes.json";
    busiest_hours_are_the_tenants: "busiest_hours.json";
    conversation_list_is_the_tenants: "conversation_list.json";
    csat_is_the_tenants: "csat.json";
    event_stream_is_the_tenants: "event_stream.json?conversation_id={chat}";
    first_response_is_the_tenants: "first_response.json?by=agent";
    handle_time_is_the_tenants: "handle_time.json?by=agent";
    live_is_the_tenants: "live.json";
    notification_outcomes_are_the_tenants: "notification_outcomes.json?by=kind";
    queue_is_the_tenants: "queue.json";
    reply_time_is_the_tenants: "reply_time.json?by=agent";
    resolution_time_is_the_tenants: "resolution_time.json?by=agent";
    sla_is_the_tenants: "sla.json";
    usage_is_the_tenants: "usage.json?granularity=total";
    waiting_time_is_the_tenants: "waiting_time.json?by=agent";
}

/// A table that only Alpha has isn't there for Beta, by any name, and is in no list.
#[tokio::test]
async fn a_source_that_only_another_tenant_has_is_nowhere() {
    let (world, alpha, _) = World::with_alpha().await;
    assert_eq!(world.sql("SELECT secret FROM hidden", &alpha.report_token).await, [json!({ "secret": "alpha's" })]);
    let token = &world.beta.report_token;
    for table in ["hidden", "public.hidden", "hidden_quarantine"] {
        let (status, answer) = world.ask("/v0/sql", &[("q", &format!("SELECT * FROM {table}"))], token).await;
        assert!(status != 200, "{LEAK}: {table}: {answer}");
        assert_eq!(
            (status, &answer["error"]),
            (404, &json!(format!("no table named `{}`", table.replace("public.", ""))))
        );
        let found = world.wire(&world.beta).simple(&format!("SELECT * FROM {table}"));
        assert!(found.is_err(), "{LEAK}: {table} on the Postgres wire");
    }
    assert_eq!(world.ask("/v0/datasources/hidden", &[], token).await.0, 404);
}

/// What the catalogs list, and what errors propose.
#[tokio::test]
async fn catalogs_and_error_texts_name_the_own_tables_only() {
    let (world, alpha, _) = World::with_alpha().await;
    let mut wire = world.wire(&world.beta);
    let listing = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'";
    let theirs = format!("{:?}", world.wire(&alpha).simple(listing).expect("rows"));
    assert!(theirs.contains("hidden"), "{theirs}");
    for sql in [
        listing,
        "SELECT relname FROM pg_catalog.pg_class",
        "SELECT tablename FROM pg_tables",
        "SELECT table_name FROM information_schema.columns",
        "SELECT 'hidden'::regclass",
        "SELECT * FROM hiden",
        "SELECT nothing FROM orders",
    ] {
        for answer in [wire.simple(sql), wire.extended(sql)] {
            let shown = match answer {
                Ok(rows) => format!("{rows:?}"),
                Err(refusal) => refusal.message.replace("no table named `hidden`", ""),
            };
            assert!(!shown.contains("hidden"), "{LEAK}: {sql}: {shown}");
        }
    }
    let (_, answer) = world.ask("/v0/sql", &[("q", "SELECT * FROM hiden")], &world.beta.report_token).await;
    assert!(!answer.to_string().contains("hidden"), "{LEAK}: {answer}");
}

/// What of a source is counted and said without reading it.
#[tokio::test]
async fn descriptions_and_statistics_are_the_tenants() {
    let (world, _, _) = World::with_alpha().await;
    let token = &world.beta.report_token;
    let (_, described) = world.ask("/v0/datasources/orders", &[], token).await;
    assert_eq!(described["statistics"]["row_count"], 1, "{LEAK}: {described}");
    assert_eq!(described["statistics"]["quarantine_rows"], 0, "{LEAK}: {described}");
    let (_, listed) = world.ask("/v0/datasources", &[], token).await;
    assert!(!listed.to_string().contains("hidden"), "{LEAK}: {listed}");
    let plan = world.wire(&world.beta).simple("EXPLAIN SELECT count(*) FROM orders").expect("a plan");
    assert!(!format!("{plan:?}").contains("alpha"), "{LEAK}: {plan:?}");
}

/// Another tenant's endpoint isn't there, and one of the same name is the caller's.
#[tokio::test]
async fn own_endpoints_are_their_tenants() {
    let (world, alpha, _) = World::with_alpha().await;
    let sql = "SELECT secret FROM orders ORDER BY secret";
    world.publish(&alpha, "theirs", sql).await;
    world.publish(&alpha, "both", sql).await;
    world.publish(&world.beta, "both", sql).await;
    let token = &world.beta.report_token;
    assert_eq!(world.ask("/v0/pipes/theirs.json", &[], token).await.0, 404);
    let rows = world.rows("/v0/pipes/both.json", &[], token).await;
    assert!(!json!(rows).to_string().contains("alpha"), "{LEAK}: {rows:?}");
    assert_eq!(rows, [json!({ "secret": "beta's" })]);
}

/// A narrow token's filter narrows the tenant's rows; it is no way to others.
#[tokio::test]
async fn a_filter_widens_nothing() {
    let (world, _, _) = World::with_alpha().await;
    let scopes = json!([{ "type": "DATASOURCES:READ", "resource": "orders", "filter": "true OR secret = 'alpha''s'" }]);
    let made = json!({ "name": "wide", "scopes": scopes });
    let made = world.server.post("/v0/tokens/", &world.beta.token, made).await;
    let wide = made["token"].as_str().expect("a token");
    let rows = world.sql("SELECT secret FROM orders WHERE true OR secret = 'alpha''s'", wide).await;
    assert!(!json!(rows).to_string().contains("alpha"), "{LEAK}: {rows:?}");
    assert_eq!(rows, [json!({ "secret": "beta's" })]);
}

/// What Alpha has asked is kept for Alpha, and Beta's same question has Beta's answer, in either order.
#[tokio::test]
async fn kept_answers_are_their_tenants() {
    let (world, alpha, _) = World::with_alpha().await;
    let (a, b) = (&alpha.report_token, &world.beta.report_token);
    let count = "SELECT count(*) AS n FROM messages";
    let alphas = world.number(count, a).await;
    assert!(alphas > 0 && world.number(count, a).await == alphas);
    let betas = world.number(count, b).await;
    assert!(betas == 0, "{LEAK}: Beta is given {betas}, as Alpha was");
    let cached = "SELECT count(*) AS n FROM endpoint_stats WHERE cached";
    assert!(world.number(cached, a).await > 0, "an answer was kept");
    let usage = "/v0/pipes/usage.json?granularity=total";
    world.rows(usage, &[], a).await;
    let betas = world.rows(usage, &[], b).await;
    assert!(betas[0]["messages_visitor"] == 0, "{LEAK}: {betas:?}");
}

#[tokio::test]
async fn endpoint_stats_are_the_tenants() {
    let (world, alpha, _) = World::with_alpha().await;
    world.rows("/v0/pipes/live.json", &[], &alpha.report_token).await;
    let calls = "SELECT count(*) AS n FROM endpoint_stats";
    assert!(world.number(calls, &alpha.report_token).await > 0);
    let betas = world.number(calls, &world.beta.report_token).await;
    assert!(betas == 0, "{LEAK}: {betas} calls");
}

#[tokio::test]
async fn endpoint_errors_are_the_tenants() {
    let (world, alpha, _) = World::with_alpha().await;
    assert_eq!(world.ask("/v0/sql", &[("q", "SELECT alphas_word FROM messages")], &alpha.report_token).await.0, 400);
    let errors = "SELECT error FROM endpoint_errors";
    assert!(json!(world.sql(errors, &alpha.report_token).await).to_string().contains("alphas_word"));
    let betas = world.sql(errors, &world.beta.report_token).await;
    assert!(betas.is_empty(), "{LEAK}: {betas:?}");
}

/// From Parquet files too, where a count or the least and greatest value needs no row.
#[tokio::test]
async fn statistics_of_files_are_the_tenants() {
    let world = World::start().await;
    let alpha = world.server.tenant("Alpha").await;
    let stock =
        |from: usize, rows: usize| -> String { (from..from + rows).map(|n| format!("{{\"n\":{n}}}\n")).collect() };
    world.append(&alpha, "stock", &stock(1_000_000, 20_000)).await;
    world.append(&world.beta, "stock", &stock(0, 5)).await;
    let World { dir, server, beta, .. } = world;
    // So many rows are written to files when the server stops.
    server.stop();
    assert!(has_parquet(&dir.path().join("sources")), "rows are in files");
    let (server, pg) = serve(dir.path()).await;
    let world = World { dir, server, pg, beta };
    let sql = "SELECT count(*) AS n, min(n) AS least, max(n) AS most, count(DISTINCT n) AS kinds FROM stock";
    let betas = world.sql(sql, &world.beta.report_token).await;
    assert!(betas == [json!({ "n": 5, "least": 0, "most": 4, "kinds": 5 })], "{LEAK}: {betas:?}");
    let alphas = json!({ "n": 20_000, "least": 1_000_000, "most": 1_019_999, "kinds": 20_000 });
    assert_eq!(world.sql(sql, &alpha.report_token).await, [alphas]);
}

fn has_parquet(dir: &Path) -> bool {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("readable").path());
    let mut entries = entries.collect::<Vec<_>>().into_iter();
    entries.any(
        |path| if path.is_dir() { has_parquet(&path) } else { path.extension().is_some_and(|end| end == "parquet") },
    )
}
