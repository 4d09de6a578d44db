//! Hostile text through every door: each route that the server itself lists, in each of its paths, parameters and bodies,
//! and the statements of the Postgres wire. None may kill, stop or fill the server, and none is a fault of ours (500).
//! A new route, or a new parameter of one, is in it by being listed.

use crate::siege::{Siege, at_default_limits_and_with_rates_off};
use crate::support::{OPERATOR, PASSWORD, http_client};
use futures_util::StreamExt as _;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// Requests under way.
const AT_ONCE: usize = 16;
/// A request that isn't answered by then has stopped the server; streams answer with their head.
const ANSWER_MAX_S: u64 = 30;
/// Of a text within a path or a query; servers and proxies take no more.
const URL_TEXT_BYTES: usize = 3_000;

/// Texts that break parsers, each in its own way.
fn texts() -> Vec<(&'static str, String)> {
    vec![
        ("a backslash at the end of a quote", "NODE n\nSQL >\n    %\n    SELECT {{ 'abc\\".to_owned()),
        ("a template of operators", format!("NODE n\nSQL >\n    %\n    SELECT {{{{ 1{} }}}}", "+1".repeat(30_000))),
        ("a template of brackets", format!("NODE n\nSQL >\n    %\n    {{{{ {} }}}}", "(".repeat(60_000))),
        ("a value that doubles", format!("%{{% set a = 'aaaa' %}}{}", "{% set a = a + a %}".repeat(40))),
        ("suffixes of a type", format!("SELECT CAST(NULL AS INT{})", "[]".repeat(14_000))),
        ("a type in a text", format!("SELECT arrow_cast(NULL, '{}Int8{}')", "List(".repeat(3_000), ")".repeat(3_000))),
        ("zones of zones", format!("SELECT now(){}", " AT TIME ZONE 'UTC'".repeat(3_000))),
        ("names of names", format!("SELECT a{}", ".a".repeat(20_000))),
        ("brackets", "(".repeat(60_000)),
        ("signs", format!("SELECT {}1", "-".repeat(60_000))),
        ("negations", format!("SELECT {}1", "NOT ".repeat(15_000))),
        ("lists of lists", "[".repeat(60_000)),
        ("objects of objects", "{\"a\":".repeat(12_000)),
        ("a comment without an end", format!("SELECT 1 {}", "/*".repeat(30_000))),
        ("lines", "\n".repeat(200_000)),
        ("a long word", "x".repeat(300_000)),
        ("what is no text", "\u{0}\u{1}\u{fffd}\u{202e}\u{feff}'\"\\`${{%}}\r\n".repeat(500)),
        ("a pattern", format!("SELECT regexp_like('{0}', '({0}*)*b')", "a".repeat(30))),
    ]
}

/// A request as it is sent.
struct Attempt {
    what: String,
    method: Method,
    path: String,
    kind: &'static str,
    body: Option<String>,
}

/// How a text comes into an operation, wherever it reads one.
fn attempts(path: &str, method: &str, operation: &Value) -> Vec<Attempt> {
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let of = |place: &str| -> Vec<String> {
        let here = parameters.iter().filter(|parameter| parameter["in"] == place);
        here.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned)).collect()
    };
    let (names, queries) = (of("path"), of("query"));
    let plain = names.iter().fold(path.to_owned(), |path, name| path.replace(&format!("{{{name}}}"), "x"));
    let content = operation["requestBody"]["content"].as_object().cloned().unwrap_or_default();
    let method: Method = method.to_uppercase().parse().expect("a method");
    let mut attempts = Vec::new();
    let mut add = |what: &str, path: String, kind, body| {
        attempts.push(Attempt { what: what.to_owned(), method: method.clone(), path, kind, body });
    };
    for (what, text) in texts() {
        let in_url: String = text.chars().take(URL_TEXT_BYTES).collect();
        let in_url: String = in_url.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for name in &names {
            add(what, path.replace(&format!("{{{name}}}"), &in_url).replace(['{', '}'], ""), "text/plain", None);
        }
        for name in &queries {
            add(what, format!("{plain}?{name}={in_url}"), "text/plain", None);
        }
        if method != Method::GET || plain.starts_with("/v0/") {
            let with_name = format!("{plain}?name=door&format=ndjson");
            add(what, with_name.clone(), "text/plain", Some(text.clone()));
            add(what, with_name.clone(), "application/json", Some(text.clone()));
            add(what, with_name, "application/x-www-form-urlencoded", Some(format!("q={in_url}")));
        }
        for (kind, shape) in &content {
            let schema = &shape["schema"];
            if kind == "application/json" {
                add(what, plain.clone(), "application/json", Some(filled(schema, &text).to_string()));
                for name in schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name) {
                    let mut body = filled(schema, "x");
                    body[name] = filled(&schema["properties"][name], &text);
                    add(what, plain.clone(), "application/json", Some(body.to_string()));
                }
            }
        }
    }
    attempts
}

/// A value of a schema, every text in it this one.
fn filled(schema: &Value, text: &str) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    if let Some(properties) = schema["properties"].as_object() {
        return properties.iter().map(|(name, schema)| (name.clone(), filled(schema, text))).collect();
    }
    let kind = schema["type"].as_array().map_or(&schema["type"], |kinds| &kinds[0]);
    match kind.as_str() {
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("array") => json!([filled(&schema["items"], text)]),
        Some("object") => json!({ text: text }),
        _ => json!(text),
    }
}

/// Everybody's credentials on one request: each route takes the one that is its own.
struct Credentials {
    agent: String,
    visitor: String,
    reports: String,
    chatbot: String,
}

impl Credentials {
    async fn of(siege: &Siege) -> Self {
        let attacker = &siege.attacker;
        let types = ["PIPES:READ", "PIPES:CREATE", "DATASOURCES:READ", "DATASOURCES:CREATE", "DATASOURCES:APPEND"];
        let scopes: Vec<Value> = types.into_iter().map(|kind| json!({ "type": kind, "resource": "*" })).collect();
        let login = json!({ "email": attacker.email, "password": PASSWORD, "tenant": attacker.id });
        let agent = patient(siege, "/v1/auth/login", "", login).await;
        let token = agent["access_token"].as_str().expect("a token");
        let made = patient(siege, "/v0/tokens/", token, json!({ "name": "all", "scopes": scopes })).await;
        let session = siege.server.session(&attacker.chatbot_key, json!({ "name": "V" })).await;
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Self {
            agent: text(&agent["access_token"]),
            visitor: text(&session["sessionToken"]),
            reports: text(&made["token"]),
            chatbot: attacker.chatbot_key.clone(),
        }
    }

    fn for_operation(&self, operation: &Value) -> &str {
        let schemes = operation["security"].as_array().into_iter().flatten().filter_map(Value::as_object);
        let scheme = schemes.flat_map(serde_json::Map::keys).next().map(String::as_str);
        match scheme {
            Some("reports") => &self.reports,
            Some("visitor") => &self.visitor,
            Some("operator") => OPERATOR,
            _ => &self.agent,
        }
    }
}

async fn send(http: &Client, base: &str, token: &str, chatbot: &str, attempt: Attempt) {
    let Attempt { what, method, path, kind, body } = attempt;
    let request = http.request(method.clone(), format!("{base}{path}")).bearer_auth(token);
    let request = request.header("x-chatbot-key", chatbot).header("content-type", kind);
    let request = if let Some(body) = body { request.body(body) } else { request };
    let shown: String = path.chars().take(80).collect();
    let status = match request.send().await {
        Ok(answer) => answer.status(),
        Err(error) => panic!("{what} in {method} {shown} as {kind}: {error:?}"),
    };
    let ours = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
    assert!(!ours, "{what} in {method} {shown} as {kind}: {status}");
}

/// A connection that is kept may be closed in the very moment in which it's taken, so there is more than one try.
async fn alive(http: &Client, base: &str, after: &str) {
    for _ in 0..3 {
        let health = http.get(format!("{base}/healthz")).send().await;
        if health.is_ok_and(|answer| answer.status() == 200) {
            return;
        }
    }
    panic!("the server is gone after {after}");
}

/// A `POST` of the attacker's own, again once its rate allows it.
async fn patient(siege: &Siege, path: &str, token: &str, body: Value) -> Value {
    loop {
        let (status, answer) = siege.server.call(Method::POST, path, token, Some(body.clone())).await;
        if status != StatusCode::TOO_MANY_REQUESTS {
            assert!(status.is_success(), "POST {path}: {status} {answer}");
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn no_text_through_any_door_stops_the_server() {
    at_default_limits_and_with_rates_off(&["--pg-listen", "127.0.0.1:0"], async |siege| {
        let document = siege.server.get("/openapi.json", "").await;
        let http = http_client(ANSWER_MAX_S);
        let base = siege.server.base.as_str();
        let mut sent = 0;
        let mut credentials = Credentials::of(siege).await;
        for (path, operations) in document["paths"].as_object().expect("paths") {
            // Some routes end the credential that they are called with.
            let (status, _) = siege.server.call(Method::GET, "/v1/auth/me", &credentials.agent, None).await;
            if status == StatusCode::UNAUTHORIZED {
                credentials = Credentials::of(siege).await;
            }
            for (method, operation) in operations.as_object().expect("operations") {
                let attempts = attempts(path, method, operation);
                sent += attempts.len();
                let token = credentials.for_operation(operation);
                let sending =
                    attempts.into_iter().map(|attempt| send(&http, base, token, &credentials.chatbot, attempt));
                futures_util::stream::iter(sending).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
            }
        }
        assert!(sent > 1_000, "the list of routes is read: {sent}");
        alive(&http, base, "all of them").await;
        wire(siege).await;
    })
    .await;
}

/// The same texts as statements of the Postgres wire, simple and prepared.
async fn wire(siege: &Siege) {
    let status = siege.server.get("/v1/status", OPERATOR).await;
    let address = status["pg"].as_str().expect("an address").to_owned();
    let (user, token) = (siege.attacker.id.clone(), siege.attacker.report_token.clone());
    let asked = tokio::task::spawn_blocking(move || {
        for (what, text) in texts() {
            let text = text.replace('\0', "");
            let mut client = crate::client::Client::start(&address, &user, &token).expect("signed in");
            for answer in [client.simple(&text), client.extended(&text)] {
                if let Err(refusal) = answer {
                    assert_ne!(refusal.code, "XX000", "{what}: {}", refusal.message);
                    assert_ne!(refusal.code, "closed", "{what}: {}", refusal.message);
                }
            }
        }
    });
    tokio::time::timeout(Duration::from_secs(120), asked).await.expect("in time").expect("every text was answered");
}
