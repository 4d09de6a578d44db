//! Ratings and waits over resolves and reopens, through the whole server: which definition a tenant's reports follow, and
//! what the other one says.

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use support::{Server, Tenant, http_client};

/// A conversation of one visitor with the agents of a tenant.
struct Chat<'a> {
    server: &'a Server,
    tenant: &'a Tenant,
    visitor: String,
    id: String,
}

impl<'a> Chat<'a> {
    async fn start(server: &'a Server, tenant: &'a Tenant) -> Self {
        let session = server.session(&tenant.chatbot_key, json!({ "initialMessage": "hello?" })).await;
        let text = |key: &str| session[key].as_str().expect("text").to_owned();
        let chat = Self { server, tenant, visitor: text("sessionToken"), id: text("conversationId") };
        chat.give(&tenant.agent).await;
        chat
    }

    /// Whoever the assignment job may have given it to.
    async fn give(&self, agent: &str) {
        let path = format!("/v1/conversations/{}/assign", self.id);
        self.server.post(&path, &self.tenant.token, json!({ "agentId": agent })).await;
    }

    async fn act(&self, what: &str, token: &str) -> Value {
        self.server.post(&format!("/v1/conversations/{}/{what}", self.id), token, json!({})).await
    }

    async fn writes(&self, words: &str) {
        self.server.post("/v1/widget/events", &self.visitor, json!({ "content": words })).await;
    }

    async fn answers(&self, token: &str) {
        let chat = self.server.get(&format!("/v1/conversations/{}", self.id), token).await;
        let thread = chat["activeThreadId"].as_str().expect("a thread");
        let body = json!({ "type": "message", "content": "here" });
        self.server.post(&format!("/v1/threads/{thread}/events"), token, body).await;
    }

    async fn rates(&self, score: u8, comment: Option<&str>) -> Value {
        let body = json!({ "score": score, "comment": comment });
        self.server.post("/v1/widget/rating", &self.visitor, body).await["rating"].clone()
    }
}

/// Another agent of the tenant: id and token.
async fn agent(server: &Server, tenant: &Tenant, name: &str) -> (String, String) {
    let email = format!("{name}@{}.example", tenant.slug);
    let body = json!({ "name": name, "email": email, "password": "battery staple", "role": "agent" });
    let made = server.post("/v1/agents", &tenant.token, body).await;
    let body = json!({ "email": email, "password": "battery staple", "tenant": tenant.id });
    let token = server.post("/v1/auth/login", "", body).await["access_token"].as_str().expect("a token").to_owned();
    (made["id"].as_str().expect("an id").to_owned(), token)
}

async fn follow(server: &Server, tenant: &Tenant, version: u32) {
    let body = json!({ "metricsVersion": version });
    let (status, shown) = server.call(Method::PATCH, "/v1/tenants/me", &tenant.token, Some(body)).await;
    assert!(status.is_success(), "{shown}");
    assert_eq!(shown["metricsVersion"], version);
}

async fn report(server: &Server, tenant: &Tenant, call: &str) -> Vec<Value> {
    let answer = server.get(&format!("/v0/pipes/{call}"), &tenant.report_token).await;
    answer["data"].as_array().unwrap_or_else(|| panic!("{call}: {answer}")).clone()
}

async fn sql(server: &Server, tenant: &Tenant, version: &str, statement: &str) -> Vec<Value> {
    let query = [("q", statement), ("version", version)];
    let request = http_client(60).get(format!("{}/v0/sql", server.base)).query(&query);
    let answer = request.bearer_auth(&tenant.report_token).send().await.expect("an answer");
    let answer: Value = answer.json().await.expect("JSON");
    answer["data"].as_array().unwrap_or_else(|| panic!("{statement}: {answer}")).clone()
}

/// A changed mind or a double click is one answer to one survey.
#[tokio::test]
async fn a_thread_has_one_rating() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let tenant = server.tenant("Ratings").await;
    let chat = Chat::start(&server, &tenant).await;
    chat.answers(&tenant.token).await;
    chat.act("resolve", &tenant.token).await;
    for (score, comment) in [(1, None), (3, None), (5, None), (5, Some("nice")), (5, Some("nice")), (5, None)] {
        assert_eq!(chat.rates(score, comment).await, score);
    }
    let written = "SELECT count(*) AS n FROM events WHERE kind = 'conversation_rated'";
    assert_eq!(sql(&server, &tenant, "", written).await, [json!({ "n": 4 })], "a repeat writes nothing");
    let one = json!({ "count": 1, "avg": 5, "csat": 1 });
    let each = json!({ "count": 4, "avg": 3.5, "csat": 0.5 });
    for (call, expected) in [("csat.json", &one), ("csat.json?version=2", &one), ("csat.json?version=1", &each)] {
        assert_eq!(report(&server, &tenant, call).await.first(), Some(expected), "{call}");
    }
    let work = &report(&server, &tenant, "agent_performance.json").await[0];
    assert_eq!((&work["ratings"], &work["rating_avg"]), (&json!(1), &json!(5)), "{work}");
    let count = "SELECT count(*) AS n FROM ratings";
    for (version, n) in [("", 1), ("1", 4), ("2", 1)] {
        assert_eq!(sql(&server, &tenant, version, count).await, [json!({ "n": n })], "version {version}");
    }

    // Late, with another agent by then: still of who resolved it; and the next resolve is rated anew.
    let (bob, bobs_token) = agent(&server, &tenant, "bob").await;
    chat.writes("and another thing").await;
    chat.give(&bob).await;
    assert_eq!(chat.rates(4, None).await, 4);
    chat.act("resolve", &bobs_token).await;
    assert_eq!(chat.rates(4, None).await, 4);
    let by_agent = "SELECT agent_id, score FROM ratings ORDER BY seq";
    let wanted = [json!({ "agent_id": tenant.agent, "score": 4 }), json!({ "agent_id": bob, "score": 4 })];
    assert_eq!(sql(&server, &tenant, "", by_agent).await, wanted);

    // The tenant's own choice, at once and for all its history.
    follow(&server, &tenant, 1).await;
    assert_eq!(report(&server, &tenant, "csat.json").await[0]["count"], 6);
    assert_eq!(report(&server, &tenant, "csat.json?version=2").await[0]["count"], 2);
    follow(&server, &tenant, 2).await;
    assert_eq!(report(&server, &tenant, "csat.json").await[0]["count"], 2);
    server.stop();
}

/// What was said before a resolve waits for nothing after it.
#[tokio::test]
async fn a_wait_begins_anew_after_a_resolve() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let tenant = server.tenant("Waits").await;
    let chat = Chat::start(&server, &tenant).await;
    chat.answers(&tenant.token).await;
    chat.writes("thanks, bye").await;
    chat.act("resolve", &tenant.token).await;
    tokio::time::sleep(Duration::from_millis(3_000)).await;
    chat.writes("a new question").await;
    chat.give(&tenant.agent).await;
    chat.answers(&tenant.token).await;

    let replies = "SELECT reply_seconds, reply_seconds_v1, reply_seconds_v2 FROM messages
                   WHERE author_type = 'agent' ORDER BY seq";
    for (version, column) in [("", "reply_seconds_v2"), ("1", "reply_seconds_v1"), ("2", "reply_seconds_v2")] {
        let rows = sql(&server, &tenant, version, replies).await;
        let last = &rows[1];
        assert_eq!(last["reply_seconds"], last[column], "version {version}: {last}");
        assert!(
            last["reply_seconds_v1"].as_f64() >= Some(3.0) && last["reply_seconds_v2"].as_f64() < Some(3.0),
            "{last}"
        );
        let filtered = "SELECT count(*) AS n FROM messages WHERE reply_seconds >= 3";
        let n = i32::from(version == "1");
        assert_eq!(sql(&server, &tenant, version, filtered).await, [json!({ "n": n })], "version {version}");
    }
    // Whatever measures answers follows the same definition.
    let targets = json!({ "slaTargets": { "nextResponseSeconds": 2 } });
    let (status, answer) = server.call(Method::PATCH, "/v1/tenants/me", &tenant.token, Some(targets)).await;
    assert!(status.is_success(), "{answer}");
    for (version, late) in [("", false), ("&version=1", true), ("&version=2", false)] {
        let time = &report(&server, &tenant, &format!("reply_time.json?by=none{version}")).await[0];
        assert_eq!(time["p99_s"].as_f64() > Some(2.5), late, "{version}: {time}");
        let sla = &report(&server, &tenant, &format!("sla.json?by=none{version}")).await[0];
        assert_eq!(sla["next_response_met"].as_f64() < Some(1.0), late, "{version}: {sla}");
        let work = &report(&server, &tenant, &format!("agent_performance.json?by=none{version}")).await[0];
        assert_eq!(work["reply_avg_s"].as_f64() > Some(1.4), late, "{version}: {work}");
    }
    let (status, answer) =
        server.call(Method::GET, "/v0/pipes/reply_time.json?version=3", &tenant.report_token, None).await;
    assert_eq!((status.as_u16(), answer["error"].as_str().is_some_and(|error| error.contains("version"))), (400, true));
    server.stop();
}

/// What a narrow token may not see it sees under no definition.
#[tokio::test]
async fn a_row_filter_holds_under_every_definition() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let tenant = server.tenant("Narrow").await;
    let (bob, bobs_token) = agent(&server, &tenant, "bob").await;
    let chat = Chat::start(&server, &tenant).await;
    chat.act("resolve", &tenant.token).await;
    chat.rates(1, None).await;
    chat.writes("again").await;
    chat.give(&bob).await;
    chat.act("resolve", &bobs_token).await;
    chat.rates(5, None).await;
    let filter = format!("agent_id = '{bob}'");
    let scopes = json!([
        { "type": "DATASOURCES:READ", "resource": "ratings", "filter": filter },
        { "type": "PIPES:READ", "resource": "csat" },
    ]);
    let made = server.post("/v0/tokens/", &tenant.token, json!({ "name": "bob", "scopes": scopes })).await;
    let narrow = Tenant { report_token: made["token"].as_str().expect("a token").to_owned(), ..tenant.clone() };
    for version in ["1", "2"] {
        let seen = sql(&server, &narrow, version, "SELECT score FROM ratings").await;
        assert_eq!(seen, [json!({ "score": 5 })], "version {version}");
        let csat = report(&server, &narrow, &format!("csat.json?version={version}")).await;
        assert_eq!(csat, [json!({ "count": 1, "avg": 5, "csat": 1 })], "version {version}");
    }
    server.stop();
}
