//! Who writes to the server while its files are watched: sign-ups, messages, uploads, rows, erasures. Each is noted when it
//! was acknowledged, and looked for afterwards.

use crate::support::{PASSWORD, Server, Tenant, caller, http_client};
use crate::trace::Notes;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Visitors of a tenant.
const VISITORS: usize = 3;
/// Rows of a batch; the first one's are enough to be written to a file when the server stops.
const ROWS: usize = 50;
const FIRST_ROWS: usize = 12_000;

/// A tenant with those who write there.
#[derive(Clone)]
pub struct Account {
    tenant: Tenant,
    append: String,
    visitors: Vec<Visitor>,
}

#[derive(Clone)]
struct Visitor {
    token: String,
    name: String,
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Signs a tenant up, with its first rows.
pub async fn account(server: &Server, notes: &Notes, name: &str) -> Account {
    let tenant = server.tenant(name).await;
    notes.acknowledged(&json!({ "kind": "tenant", "email": tenant.email }));
    let scopes = json!([{ "type": "DATASOURCES:APPEND", "resource": "orders" }]);
    let append = server.post("/v0/tokens/", &tenant.token, json!({ "name": "rows", "scopes": scopes })).await;
    let mut visitors = Vec::new();
    for number in 0..VISITORS {
        let session = server.session(&tenant.chatbot_key, json!({ "name": format!("Visitor {number}") })).await;
        visitors.push(Visitor { token: text(&session["sessionToken"]), name: format!("{name}-{number}") });
    }
    let account = Account { append: text(&append["token"]), tenant, visitors };
    rows(&http_client(60), &server.base, notes, &account, 0, FIRST_ROWS).await.expect("the first rows");
    account
}

/// Everybody writes for so long, or until the server is gone.
pub async fn write(server: &Server, notes: &Arc<Notes>, accounts: &[Account], round: usize, time: Duration) {
    let (http, base) = (http_client(60), server.base.clone());
    let ends = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for account in accounts {
        for visitor in &account.visitors {
            let (http, base, notes, visitor) = (http.clone(), base.clone(), Arc::clone(notes), visitor.clone());
            tasks.spawn(again(Arc::clone(&ends), 5, move |number| {
                message(http.clone(), base.clone(), Arc::clone(&notes), visitor.clone(), format!("{round}-{number}"))
            }));
        }
        let visitor = account.visitors[0].clone();
        let (http, base, notes, account) = (http.clone(), base.clone(), Arc::clone(notes), account.clone());
        let parts = (http.clone(), base.clone(), Arc::clone(&notes));
        tasks.spawn(again(Arc::clone(&ends), 40, move |number| {
            let (http, base, notes) = parts.clone();
            upload(http, base, notes, visitor.clone(), format!("{round}-{number}"))
        }));
        let parts = (http.clone(), base.clone(), Arc::clone(&notes), account.clone());
        tasks.spawn(again(Arc::clone(&ends), 60, move |number| {
            let (http, base, notes, account) = parts.clone();
            erase(http, base, notes, account, (round, number))
        }));
        tasks.spawn(again(Arc::clone(&ends), 30, move |number| {
            let (http, base, notes, account) = (http.clone(), base.clone(), Arc::clone(&notes), account.clone());
            // One source, so batch follows batch, over the rounds too.
            let from = FIRST_ROWS + (round * 1_000_000 + number) * ROWS;
            async move { rows(&http, &base, &notes, &account, from, ROWS).await }
        }));
    }
    let parts = (http, base, Arc::clone(notes));
    tasks.spawn(again(Arc::clone(&ends), 150, move |number| {
        let (http, base, notes) = parts.clone();
        sign_up(http, base, notes, format!("late{round}x{number}"))
    }));
    tokio::time::sleep(time).await;
    ends.store(true, Ordering::Relaxed);
    while let Some(outcome) = tasks.join_next().await {
        outcome.expect("the traffic's own checks hold");
    }
}

/// Does something again and again, with a pause, until it ends or `None` comes back.
async fn again<F: Future<Output = Option<()>>>(ends: Arc<AtomicBool>, pause_ms: u64, one: impl Fn(usize) -> F) {
    for number in 0.. {
        if ends.load(Ordering::Relaxed) || one(number).await.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
}

/// An answer that says yes; `None` when the server is gone.
async fn post(http: &Client, url: (&str, &str), token: &str, body: Value) -> Option<Value> {
    let (status, answer) = caller(http, url.0, Method::POST, url.1, token, Some(body)).await.ok()?;
    assert!(status.is_success(), "{}: {status} {answer}", url.1);
    Some(answer)
}

async fn message(http: Client, base: String, notes: Arc<Notes>, visitor: Visitor, number: String) -> Option<()> {
    let content = format!("message {number}");
    let body = json!({ "content": content, "clientId": number });
    let sent = post(&http, (&base, "/v1/widget/events"), &visitor.token, body).await?;
    let what = json!({ "kind": "message", "token": visitor.token, "seq": sent["seq"], "content": content });
    notes.acknowledged(&what);
    Some(())
}

async fn upload(http: Client, base: String, notes: Arc<Notes>, visitor: Visitor, number: String) -> Option<()> {
    let content = format!("the file {number} of {} ", visitor.name).repeat(300);
    let head = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n";
    let request = http.post(format!("{base}/v1/widget/files")).bearer_auth(&visitor.token);
    let request = request.header("content-type", "multipart/form-data; boundary=XX");
    let answer = request.body(format!("{head}{content}\r\n--XX--\r\n")).send().await.ok()?;
    assert_eq!(answer.status(), 201, "a file was refused");
    let sent: Value = answer.json().await.ok()?;
    let what = json!({ "kind": "file", "token": visitor.token, "id": sent["file"]["id"], "content": content });
    notes.acknowledged(&what);
    Some(())
}

async fn rows(http: &Client, base: &str, notes: &Notes, account: &Account, from: usize, count: usize) -> Option<()> {
    let rows: Vec<String> = (from..from + count).map(|id| json!({ "id": id }).to_string()).collect();
    let request = http.post(format!("{base}/v0/events?name=orders&wait=true")).bearer_auth(&account.append);
    let answer = request.body(rows.join("\n")).send().await.ok()?;
    assert_eq!(answer.status(), 200, "rows were refused");
    answer.bytes().await.ok()?;
    let what = json!({ "kind": "rows", "token": account.tenant.report_token, "from": from, "count": count });
    notes.acknowledged(&what);
    Some(())
}

/// All that a tenant can read of conversations.
async fn export(base: &str, token: &str) -> reqwest::Result<String> {
    let answer = http_client(60).get(format!("{base}/v1/export/conversations")).bearer_auth(token).send().await?;
    assert_eq!(answer.status(), 200, "an export");
    answer.text().await
}

async fn erase(
    http: Client,
    base: String,
    notes: Arc<Notes>,
    account: Account,
    (round, number): (usize, usize),
) -> Option<()> {
    let word = format!("harpsichord-{round}-{number}");
    let request = http.post(format!("{base}/v1/widget/session")).header("x-chatbot-key", &account.tenant.chatbot_key);
    let body = json!({ "name": word, "initialMessage": format!("I play the {word}") });
    let session: Value = request.json(&body).send().await.ok()?.json().await.ok()?;
    if number == 0 {
        let before = export(&base, &account.tenant.token).await.ok()?;
        assert!(before.contains(&format!("{word}\"")), "who isn't erased can be read");
    }
    let path = format!("/v1/visitors/{}", text(&session["visitorId"]));
    let (status, answer) = caller(&http, &base, Method::DELETE, &path, &account.tenant.token, None).await.ok()?;
    assert!(status.is_success(), "{path}: {status} {answer}");
    notes.acknowledged(&json!({ "kind": "erased", "email": account.tenant.email, "word": word }));
    Some(())
}

async fn sign_up(http: Client, base: String, notes: Arc<Notes>, name: String) -> Option<()> {
    let email = format!("owner@{name}.example");
    let body = json!({ "name": name, "adminName": "Ada", "adminEmail": email, "adminPassword": PASSWORD });
    post(&http, (&base, "/v1/tenants"), "", body).await?;
    notes.acknowledged(&json!({ "kind": "tenant", "email": email }));
    Some(())
}

/// Whether everything that was acknowledged is there.
pub async fn look_for(server: &Server, acknowledged: &[&Value]) -> Result<(), String> {
    let of = |kind: &'static str| acknowledged.iter().copied().filter(move |what| what["kind"] == kind);
    let mut tokens = BTreeMap::new();
    for what in of("tenant") {
        let login = json!({ "email": what["email"], "password": PASSWORD });
        let (status, answer) = server.call(Method::POST, "/v1/auth/login", "", Some(login)).await;
        if !status.is_success() {
            return Err(format!("the sign-up of {} is gone: {status}", what["email"]));
        }
        tokens.insert(text(&what["email"]), text(&answer["access_token"]));
    }
    messages(server, of("message").collect()).await?;
    for what in of("file") {
        let path = format!("/v1/widget/files/{}", text(&what["id"]));
        let request = http_client(60).get(format!("{}{path}", server.base)).bearer_auth(text(&what["token"]));
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let content = answer.text().await.unwrap_or_default();
        if status != 200 || content != text(&what["content"]) {
            return Err(format!("the file {} is gone: {status}, {} bytes", what["id"], content.len()));
        }
    }
    own_rows(server, of("rows").collect()).await?;
    let mut exports: BTreeMap<String, String> = BTreeMap::new();
    for what in of("erased") {
        let email = text(&what["email"]);
        if !exports.contains_key(&email) {
            let read = export(&server.base, &tokens[&email]).await.map_err(|error| error.to_string())?;
            exports.insert(email.clone(), read);
        }
        // What was erased later isn't yet: words are told apart by their end.
        if exports[&email].contains(&format!("{}\"", text(&what["word"]))) {
            return Err(format!("{} can be read again", what["word"]));
        }
    }
    Ok(())
}

/// By visitor: the texts that must be there, by their seq.
async fn messages(server: &Server, sent: Vec<&Value>) -> Result<(), String> {
    let mut expected: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
    for what in sent {
        let seq = what["seq"].as_u64().expect("a seq");
        expected.entry(text(&what["token"])).or_default().insert(seq, text(&what["content"]));
    }
    for (token, expected) in expected {
        let (mut found, mut after) = (BTreeMap::new(), 0);
        loop {
            let page = server.get(&format!("/v1/widget/conversation?limit=200&after={after}"), &token).await;
            let events = page["events"].as_array().expect("events").clone();
            let Some(last) = events.last() else { break };
            after = last["seq"].as_u64().expect("a seq");
            found.extend(events.iter().map(|event| (event["seq"].as_u64().expect("a seq"), event["content"].clone())));
        }
        for (seq, content) in expected {
            if found.get(&seq) != Some(&json!(content)) {
                return Err(format!("'{content}' isn't at {seq}: {:?}", found.get(&seq)));
            }
        }
    }
    Ok(())
}

async fn own_rows(server: &Server, sent: Vec<&Value>) -> Result<(), String> {
    let mut expected: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for what in sent {
        let (from, count) = (what["from"].as_u64().expect("a row"), what["count"].as_u64().expect("rows"));
        expected.entry(text(&what["token"])).or_default().extend(from..from + count);
    }
    for (token, expected) in expected {
        let sql = "SELECT id, count(*) AS n FROM orders GROUP BY id FORMAT JSON";
        let mut answer = (reqwest::StatusCode::SERVICE_UNAVAILABLE, Value::Null);
        // Until the facts have read the log.
        for _ in 0..100 {
            let request = http_client(60).post(format!("{}/v0/sql", server.base)).bearer_auth(&token).body(sql);
            let sent = request.send().await.map_err(|error| error.to_string())?;
            answer = (sent.status(), sent.json().await.unwrap_or_default());
            if answer.0 != 503 {
                break;
            }
        }
        if answer.0 != 200 {
            return Err(format!("the rows can't be read: {} {}", answer.0, answer.1));
        }
        let rows = answer.1["data"].as_array().expect("rows");
        let found: BTreeSet<u64> = rows.iter().map(|row| row["id"].as_u64().expect("an id")).collect();
        if let Some(lost) = expected.difference(&found).next() {
            return Err(format!("row {lost} is gone"));
        }
        if let Some(twice) = rows.iter().find(|row| row["n"] != 1) {
            return Err(format!("a row is there twice: {twice}"));
        }
    }
    Ok(())
}
