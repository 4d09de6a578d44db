//! Tinybird's wire on a real server with real rows: every format, SQL over an endpoint, narrow tokens, a tenant's own
//! JWTs; and Tinybird's published clients, which only know another host.

#[path = "../sinks/tests/it/python.rs"]
mod python;
mod support;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{Server, Tenant, http_client};

/// verdin doesn't name what it needs.
const PYPI: &str = "verdin==0.5.3 requests==2.34.2";
const SDK: &str = "tinybird-python-sdk==0.3.7";
/// `tb`.
const TB: &str = "tinybird==5.0.2";
const NPM: [&str; 3] = ["@tinybirdco/sdk@0.0.84", "@chronark/zod-bird@1.0.0", "zod@4.1.12"];
/// Everything, in one row.
const TOTAL: &str = "granularity=total&date_from=2020-01-01&date_to=2100-01-01";

/// A tenant of whose rows every test asks: one message of a visitor.
async fn tenant(server: &Server, name: &str) -> Tenant {
    let tenant = server.tenant(name).await;
    server.session(&tenant.chatbot_key, json!({ "initialMessage": "hello?" })).await;
    tenant
}

async fn get(server: &Server, path: &str, token: &str) -> (u16, Vec<u8>) {
    let request = http_client(60).get(format!("{}{path}", server.base)).bearer_auth(token);
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.bytes().await.expect("a body").to_vec())
}

async fn sql(server: &Server, token: &str, q: &str) -> (u16, Value) {
    let request = http_client(60).post(format!("{}/v0/sql", server.base)).bearer_auth(token).body(q.to_owned());
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

async fn token(server: &Server, tenant: &Tenant, scopes: Value) -> String {
    let made = server.post("/v0/tokens/", &tenant.token, json!({ "name": "t", "scopes": scopes })).await;
    made["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn an_endpoint_answers_in_every_format() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = tenant(&server, "Acme").await;
    let json = server.get(&format!("/v0/pipes/usage.json?{TOTAL}"), &acme.report_token).await;
    let row = &json["data"][0];
    assert_eq!((&json["rows"], &row["messages_visitor"]), (&json!(1), &json!(1)));
    for extension in ["csv", "ndjson", "parquet", "arrow"] {
        let (status, bytes) = get(&server, &format!("/v0/pipes/usage.{extension}?{TOTAL}"), &acme.report_token).await;
        assert_eq!(status, 200, "{extension}");
        match extension {
            "ndjson" => assert_eq!(&serde_json::from_slice::<Value>(&bytes).expect("one line"), row),
            "csv" => {
                let text = String::from_utf8(bytes).expect("UTF-8");
                let lines: Vec<&str> = text.lines().collect();
                assert_eq!(lines.len(), 2, "{text}");
                assert!(lines[0].contains("\"messages_visitor\""), "{text}");
            }
            "parquet" => assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1")),
            _ => assert!(bytes.starts_with(b"ARROW1") && bytes.ends_with(b"ARROW1")),
        }
    }
    let over = "SELECT%20messages_visitor%20%2B%201%20AS%20n%20FROM%20_";
    let answer = server.get(&format!("/v0/pipes/usage.json?{TOTAL}&q={over}"), &acme.report_token).await;
    assert_eq!(answer["data"], json!([{ "n": 2 }]));
}

/// What a narrow token can't see, it can't see by any spelling; and another tenant's rows never.
#[tokio::test]
async fn narrow_tokens_stay_narrow() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let (acme, globex) = (tenant(&server, "Acme").await, tenant(&server, "Globex").await);
    let filtered =
        |condition: &str| json!([{ "type": "DATASOURCES:READ", "resource": "messages", "filter": condition }]);
    let nothing = token(&server, &acme, filtered("author_type = 'agent'")).await;
    let own = token(&server, &acme, filtered("author_type = 'visitor'")).await;
    for (q, count) in [
        ("SELECT count(*) AS n FROM messages", 1),
        ("SELECT count(*) AS n FROM public.messages", 1),
        ("SELECT count(*) AS n FROM tenant.public.messages WHERE author_type = 'visitor' OR true", 1),
    ] {
        assert_eq!(sql(&server, &nothing, q).await.1["data"], json!([{ "n": 0 }]), "{q}");
        assert_eq!(sql(&server, &own, q).await.1["data"], json!([{ "n": count }]), "{q}");
    }
    let divided = "SELECT sum(1 / (seq - seq)) AS n FROM messages";
    assert_eq!(sql(&server, &acme.report_token, divided).await.0, 400);
    assert_eq!(sql(&server, &nothing, divided).await.1["data"], json!([{ "n": null }]), "nothing was computed");
    assert_eq!(sql(&server, &own, "SELECT * FROM conversations").await.0, 403);

    // A filter that no column fits is refused when the token is made.
    let body = json!({ "name": "t", "scopes": filtered("no_such_column = 1") });
    let (status, refused) = server.call(reqwest::Method::POST, "/v0/tokens/", &acme.token, Some(body)).await;
    assert_eq!(status, 400, "{refused}");

    let both = json!([
        { "type": "PIPES:READ", "resource": "usage", "fixed_params": { "date_to": "2020-01-02" } },
        { "type": "DATASOURCES:READ", "resource": "messages", "filter": "author_type = 'agent'" },
    ]);
    let fixed = token(&server, &acme, both).await;
    let answer = server.get(&format!("/v0/pipes/usage.json?{TOTAL}"), &fixed).await;
    assert_eq!(answer["data"][0]["messages_visitor"], 0, "the period is fixed to an empty one");

    for token in [&globex.report_token, &nothing, &own, &fixed] {
        let (_, answer) = sql(&server, token, "SELECT conversation_id FROM messages").await;
        let (_, others) = sql(&server, &acme.report_token, "SELECT conversation_id FROM messages").await;
        let secret = others["data"][0]["conversation_id"].as_str().expect("an id");
        assert_eq!(answer.to_string().contains(secret), token == &own, "{answer}");
    }
}

#[tokio::test]
async fn tables_are_described_to_whom_may_read_them() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = tenant(&server, "Acme").await;
    let names = |answer: &Value| -> Vec<String> {
        let tables = answer["datasources"].as_array().expect("tables").iter();
        tables.map(|table| table["name"].as_str().expect("a name").to_owned()).collect()
    };
    let all = server.get("/v0/datasources", &acme.report_token).await;
    for table in ["messages", "conversations", "agents"] {
        assert!(names(&all).contains(&table.to_owned()), "{all}");
    }
    let one = token(&server, &acme, json!([{ "type": "DATASOURCES:READ", "resource": "messages" }])).await;
    assert_eq!(names(&server.get("/v0/datasources", &one).await), ["messages"]);
    let messages = server.get("/v0/datasources/messages", &one).await;
    // As a query says it.
    let (_, row) = sql(&server, &one, "SELECT * FROM messages LIMIT 0").await;
    let columns: Vec<Value> = messages["columns"]
        .as_array()
        .expect("columns")
        .iter()
        .map(|column| json!({ "name": column["name"], "type": column["type"] }))
        .collect();
    assert_eq!(json!(columns), row["meta"]);
    // Whether there is one of that name isn't told to whom it isn't for.
    for hidden in ["agents", "nothing"] {
        assert_eq!(get(&server, &format!("/v0/datasources/{hidden}"), &one).await.0, 403);
    }
}

fn run(command: &mut Command, needs: &str) -> String {
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => panic!(
            "failed to run {command:?}: {needs}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => panic!("failed to run {command:?}: {error}; {needs}"),
    }
}

/// A directory with the npm clients in it, made once a target directory.
fn node_modules() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tinybird-npm-1");
    let ready = dir.join("ready");
    if !ready.exists() {
        std::fs::create_dir_all(&dir).expect("made");
        std::fs::write(dir.join("package.json"), r#"{"private":true,"type":"module"}"#).expect("written");
        let needs = "the clients' tests need npm and its registry, to install Tinybird's clients once";
        let options = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact"];
        run(Command::new("npm").current_dir(&dir).args(options).args(NPM), needs);
        std::fs::write(&ready, "").expect("written");
    }
    dir
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

#[tokio::test]
async fn verdin_reads_by_changing_the_host() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = tenant(&server, "Acme").await;
    let mut client = Command::new(python::environment(PYPI).join("bin/python"));
    client.arg("-I").arg(script("verdin_reads.py")).args([&server.base, &acme.report_token]);
    // It prints lines of NDJSON as it reads them.
    assert_eq!(run(&mut client, "verdin and the server disagree").lines().last(), Some("ok"));
}

#[tokio::test]
async fn the_npm_clients_read_by_changing_the_host() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = tenant(&server, "Acme").await;
    // Modules are looked for beside the script.
    let at = node_modules().join("npm_reads.mjs");
    std::fs::copy(script("npm_reads.mjs"), &at).expect("copied");
    let mut client = Command::new("node");
    client.arg(at).args([&server.base, &acme.report_token, &acme.token]);
    assert_eq!(run(&mut client, "the npm clients and the server disagree").trim(), "ok");
}

/// A token that may make data sources and read them.
async fn writer(server: &Server, tenant: &Tenant) -> String {
    token(server, tenant, json!([{ "type": "DATASOURCES:CREATE" }, { "type": "DATASOURCES:READ" }])).await
}

#[tokio::test]
async fn verdin_writes_by_changing_the_host() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = tenant(&server, "Acme").await;
    let mut client = Command::new(python::environment(PYPI).join("bin/python"));
    client.arg("-I").arg(script("verdin_writes.py")).args([&server.base, &writer(&server, &acme).await]);
    assert_eq!(run(&mut client, "verdin and the server disagree").lines().last(), Some("ok"));
}

#[tokio::test]
async fn the_npm_clients_write_by_changing_the_host() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = tenant(&server, "Acme").await;
    let at = node_modules().join("npm_writes.mjs");
    std::fs::copy(script("npm_writes.mjs"), &at).expect("copied");
    let mut client = Command::new("node");
    client.arg(at).args([&server.base, &writer(&server, &acme).await]);
    assert_eq!(run(&mut client, "the npm clients and the server disagree").trim(), "ok");
}

/// As browsers and proxies show it; of an answer that was kept too.
#[tokio::test]
async fn an_answer_says_what_it_took_and_waited_for() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = tenant(&server, "Acme").await;
    for path in ["/v0/sql?q=SELECT%20count(*)%20FROM%20messages", "/v0/pipes/usage.csv", "/v0/pipes/usage.csv"] {
        let request = http_client(60).get(format!("{}{path}", server.base)).bearer_auth(&acme.report_token);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        let timing = answer.headers()["server-timing"].to_str().expect("a text");
        let timing = timing.strip_prefix("fresh;dur=").and_then(|timing| timing.split_once(", query;dur="));
        let (fresh, query) = timing.expect("two timings");
        let ms = |text: &str| text.parse::<f64>().expect("milliseconds");
        assert!(ms(fresh) >= 0.0 && ms(query) > 0.0 && ms(fresh) <= ms(query), "{fresh} {query}");
    }
}

#[tokio::test]
async fn the_python_sdk_appends_by_changing_the_host() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = tenant(&server, "Acme").await;
    let mut client = Command::new(python::environment(SDK).join("bin/python"));
    client.arg("-I").arg(script("sdk_appends.py")).args([&server.base, &writer(&server, &acme).await]);
    assert_eq!(run(&mut client, "tinybird-python-sdk and the server disagree").trim(), "ok");
}

#[tokio::test]
async fn tb_reads_by_changing_the_host() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(&dir.path().join("data"), &[]);
    let acme = tenant(&server, "Acme").await;
    let bin = python::environment(TB).join("bin");
    // It keeps a file of what it was told in the directory it is called in.
    let home = dir.path().join("home");
    std::fs::create_dir(&home).expect("made");
    let tb = |arguments: &[&str]| {
        let mut tb = Command::new(bin.join("tb"));
        tb.current_dir(&home).env("HOME", &home).env("TB_VERSION_WARNING", "0").env_remove("TB_TOKEN");
        tb.args(["--cloud", "--host", &server.base, "--token", &acme.report_token]).args(arguments);
        run(&mut tb, "tb and the server disagree")
    };
    let rows = tb(&["--output", "json", "sql", "SELECT author_type, count(*) AS n FROM messages GROUP BY 1;"]);
    let rows: Value = serde_json::from_str(&rows).expect("JSON");
    assert_eq!(rows["data"], json!([{ "author_type": "visitor", "n": 1 }]));
    let csv = tb(&["--output", "csv", "sql", "SELECT 1 AS n, 'a' AS t"]);
    assert_eq!(csv.trim(), "\"n\",\"t\"\n1,\"a\"");
    let period = ["--granularity", "total", "--date_from", "2020-01-01", "--date_to", "2100-01-01"];
    let shown = tb(&[&["endpoint", "data", "usage"], &period[..]].concat());
    assert!(shown.contains("Pipe: usage") && shown.contains("messages_visitor"), "{shown}");
    let whose: Value = serde_json::from_slice(&std::fs::read(home.join(".tinyb")).expect("its file")).expect("JSON");
    assert_eq!((&whose["id"], &whose["name"]), (&json!(acme.id), &json!("Acme")));
}
