//! What a narrow token gets on the real server, however it writes a name and however it names a table: exactly what its scopes
//! say. Whoever publishes an endpoint gives others what they could read themselves, and no more. No siege: nothing here
//! takes long, it takes what isn't the taker's.
//!
//! `cargo xtask mutants` takes out what holds this, and counts the tests that say [`MORE`]; they say it for nothing else.

#[path = "../../sql/tests/it/support/ways.rs"]
mod ways;

use crate::client::Client;
use crate::support::{OPERATOR, Server, Tenant, http_client, run};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use ways::ways;

/// What a test here says when a token gets what it has no right to.
const MORE: &str = "more than its rights show";
/// Stands in every row, and for columns that no caller here names.
const MARKS: [&str; 2] = ["SECRET", "hidden_column"];

/// A tenant with a table that few may read, one that many may, and an endpoint over it.
struct World {
    dir: tempfile::TempDir,
    server: Server,
    acme: Tenant,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let server = Server::start(dir.path(), &["--pg-listen", "127.0.0.1:0", "--limit", "all=off"]);
        let acme = server.tenant("Acme").await;
        let world = Self { dir, server, acme };
        let hidden = json!({ "event_id": "SECRET", "hidden_column": "SECRET" });
        world.append("vault", &[hidden.clone(), hidden]).await;
        let row = |org: &str| json!({ "event_id": format!("row-of-{org}"), "org": org });
        world.append("kiosk", &[row("a"), row("b")]).await;
        let text = "%\n    SELECT event_id, org FROM kiosk WHERE org = {{String(org, 'b')}}";
        world.publish("kiosks", &node("n", text), &world.acme.token).await.expect("published");
        world
    }

    async fn append(&self, source: &str, rows: &[Value]) {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let path = format!("/v0/events?name={source}&wait=true");
        let (status, answer) = self.send(Method::POST, &path, &self.acme.token, text).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn token(&self, scopes: Value) -> String {
        let body = json!({ "name": "narrow", "scopes": scopes });
        let made = self.server.post("/v0/tokens/", &self.acme.token, body).await;
        made["token"].as_str().expect("a token").to_owned()
    }

    /// Signed by the tenant itself.
    async fn jwt(&self, scopes: Value) -> String {
        use base64::Engine as _;
        let key = self.server.get("/v0/tokens/signing_key", &self.acme.token).await;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let claims = json!({ "workspace_id": self.acme.id, "exp": 4_102_444_800_i64, "scopes": scopes });
        let signed = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key["key"].as_str().expect("a key").as_bytes());
        format!("{signed}.{}", encode(ring::hmac::sign(&key, signed.as_bytes()).as_ref()))
    }

    /// Publishes a datafile; `Err` is how it was refused.
    async fn publish(&self, name: &str, text: &str, token: &str) -> Result<Value, String> {
        let path = format!("/v0/pipes?name={name}");
        let (status, answer) = self.send(Method::POST, &path, token, text.to_owned()).await;
        if status == 200 { Ok(answer.parse().expect("JSON")) } else { Err(format!("{status} {answer}")) }
    }

    /// Status and text of a call; asks again while the facts are behind the log.
    async fn send(&self, method: Method, path: &str, token: &str, body: String) -> (u16, String) {
        for _ in 0..30 {
            let request = http_client(60).request(method.clone(), format!("{}{path}", self.server.base));
            let answer = request.bearer_auth(token).body(body.clone()).send().await.expect("an answer");
            let status = answer.status().as_u16();
            if status != 503 {
                let bytes = answer.bytes().await.expect("a body");
                return (status, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        panic!("the facts stay behind the log");
    }

    async fn get(&self, path: &str, token: &str) -> (u16, String) {
        self.send(Method::GET, path, token, String::new()).await
    }

    /// The rows of an endpoint that may be called.
    async fn rows(&self, path: &str, token: &str) -> Value {
        let (status, text) = self.get(path, token).await;
        assert_eq!(status, 200, "{path}: {text}");
        text.parse::<Value>().expect("JSON")["data"].clone()
    }

    async fn wire(&self, token: &str) -> Client {
        let status = self.server.get("/v1/status", OPERATOR).await;
        Client::start(status["pg"].as_str().expect("an address"), &self.acme.id, token).expect("let in")
    }
}

fn node(name: &str, sql: &str) -> String {
    format!("NODE {name}\nSQL >\n    {sql}\n\n")
}

/// Percent-encodes every byte, so that not one letter of a name stands in the path.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[track_caller]
fn nothing_shows(what: &str, answer: &str) {
    assert!(MARKS.iter().all(|mark| !answer.contains(mark)), "{MORE}: {what}: {answer}");
}

/// An answer without what the clock says.
fn steady(text: &str) -> String {
    let Ok(mut answer) = text.parse::<Value>() else { return text.to_owned() };
    if let Some(fields) = answer.as_object_mut() {
        fields.retain(|name, _| !matches!(name.as_str(), "statistics" | "import_id"));
    }
    answer.to_string()
}

/// Every way to ask a route of `/v0` about a thing by its name, with `NAME` in its place; from the server's own document.
async fn doors(world: &World) -> Vec<(Method, String)> {
    let document = world.server.get("/openapi.json", "").await;
    let mut doors = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        if !path.starts_with("/v0/") {
            continue;
        }
        for (method, operation) in operations.as_object().expect("operations") {
            let method: Method = method.to_uppercase().parse().expect("a method");
            let in_query = |parameter: &Value| parameter["name"] == "name" && parameter["in"] == "query";
            let asks = operation["parameters"].as_array().is_some_and(|all| all.iter().any(in_query));
            let place = path.replace("{name}", "NAME");
            match path.as_str() {
                "/v0/pipes/{name}" if method != Method::DELETE => {
                    doors.push((method.clone(), place.clone()));
                    for rest in ["json", "csv", "ndjson", "parquet", "arrow", "pipe"] {
                        doors.push((method.clone(), format!("{place}.{rest}?org=b")));
                    }
                    doors.push((method.clone(), format!("{place}.json?org=b&org=b&q=SELECT+*+FROM+_")));
                }
                path if path.contains("{name}") => doors.push((method, place)),
                path if asks => doors.push((method, format!("{path}?name=NAME&sql=SELECT+1+AS+one"))),
                _ => {}
            }
        }
    }
    doors
}

/// A name in any case, and encoded in any way, is the same name: a narrow token gets through every door what it gets with the
/// name as it's stored, with its fixed parameters and row filters. What only looks like the name is another.
#[tokio::test]
async fn a_narrow_token_gets_the_same_by_every_spelling() {
    let world = World::start().await;
    let scopes = |pipe: &str, table: &str| {
        json!([
            { "type": "PIPES:READ", "resource": pipe, "fixed_params": { "org": "a" } },
            { "type": "DATASOURCES:READ", "resource": table, "filter": "org = 'a'" },
        ])
    };
    let doors = doors(&world).await;
    assert!(doors.len() > 20, "{doors:?}");
    let mut tokens = Vec::new();
    for (pipe, table) in [("kiosks", "kiosk"), ("Kiosks", "Kiosk"), ("KIOSKS", "KIOSK")] {
        tokens.extend([world.token(scopes(pipe, table)).await, world.jwt(scopes(pipe, table)).await]);
    }
    let mut expected: BTreeMap<String, (u16, String)> = BTreeMap::new();
    for (method, door) in &doors {
        for stored in ["kiosks", "kiosk"] {
            let same = [stored.to_owned(), stored.to_uppercase(), format!("K{}", &stored[1..])];
            let spelled: Vec<String> = same.iter().cloned().chain([encoded(&same[0]), encoded(&same[1])]).collect();
            let others = [
                format!("\u{212a}{}", &stored[1..]),
                stored.replace('i', "\u{131}"),
                format!("{stored}%2E"),
                stored.replace('i', "\u{130}"),
                format!("\u{ff4b}{}", &stored[1..]),
                format!("{stored}%00"),
                format!("_%2F{stored}"),
            ];
            for (at, token) in tokens.iter().enumerate() {
                // What no token may is the same for all of them.
                for name in spelled.iter().chain(others.iter().filter(|_| at == 0)) {
                    let path = door.replace("NAME", name);
                    let (status, text) = world.send(method.clone(), &path, token, String::new()).await;
                    let answer = (status, steady(&text));
                    let what = format!("{method} {path} (token {at}): {status} {text}");
                    assert!(!text.contains("row-of-b"), "{MORE}: {what}");
                    nothing_shows(&what, &text);
                    if others.contains(name) {
                        assert!(status >= 400, "{MORE}: {what}");
                        continue;
                    }
                    let first = expected.entry(format!("{method} {door} {stored}")).or_insert_with(|| answer.clone());
                    assert_eq!(*first, answer, "by the stored name it is another answer: {what}");
                }
            }
        }
    }
    // The doors do open.
    let rows = world.rows("/v0/pipes/KIOSKS.json?org=b", &tokens[0]).await;
    assert_eq!(rows, json!([{ "event_id": "row-of-a", "org": "a" }]), "{MORE}: its parameter is fixed");
    let (status, shown) = world.get("/v0/datasources/KIOSK", &tokens[0]).await;
    let shown: Value = shown.parse().expect("JSON");
    assert_eq!(
        (status, &shown["statistics"], &shown["updated_at"]),
        (200, &Value::Null, &Value::Null),
        "{MORE}: {shown}"
    );
    let (_, all) = world.get("/v0/datasources/kiosk", &world.acme.report_token).await;
    assert!(all.contains("\"row_count\":2"), "{all}");
    assert_eq!(world.rows("/v0/sql?q=SELECT+org+FROM+Kiosk", &tokens[2]).await, json!([{ "org": "a" }]), "{MORE}");
    // In a body too, whatever is in the query, and as lists.
    for body in
        [json!({ "org": "b" }), json!({ "org": ["b", "b"] }), json!({ "org[]": ["b"], "ORG": "b", "org": null })]
    {
        for path in ["/v0/pipes/Kiosks.json", "/v0/pipes/kiosks.json?org=b&org%5B%5D=b"] {
            let (status, answer) = world.server.call(Method::POST, path, &tokens[4], Some(body.clone())).await;
            assert_eq!(
                (status.as_u16(), &answer["data"][0]["org"]),
                (200, &json!("a")),
                "{MORE}: {path} {body}: {answer}"
            );
        }
    }
    world.server.stop();
}

/// However SQL names a table, over HTTP or the Postgres wire, it takes a scope for it: no row, no count, no column's name.
#[tokio::test]
async fn a_table_without_a_scope_is_not_read_by_any_statement() {
    let world = World::start().await;
    let scopes =
        json!([{ "type": "DATASOURCES:READ", "resource": "kiosk" }, { "type": "PIPES:READ", "resource": "kiosks" }]);
    let token = world.token(scopes).await;
    let mut wire = world.wire(&token).await;
    for sql in ways("vault", "kiosk") {
        let (status, text) = world.send(Method::POST, "/v0/sql", &token, sql.clone()).await;
        nothing_shows(&sql, &text);
        assert_eq!(status, 403, "{MORE}: {sql}: {text}");
        let all = world.send(Method::POST, "/v0/sql", &world.acme.report_token, sql.clone()).await;
        assert_ne!(all.0, 403, "{sql}: {all:?}");
        // What somebody else has just been told isn't told again.
        let (status, text) = world.send(Method::POST, "/v0/sql", &token, sql.clone()).await;
        assert_eq!(status, 403, "{MORE}: {sql}: {text}");
        for answer in [wire.simple(&sql), wire.extended(&sql)] {
            nothing_shows(&sql, &format!("{answer:?}"));
            assert!(answer.is_err(), "{MORE}: {sql}: {answer:?}");
        }
        let (status, text) = world.get(&format!("/v0/pipes/kiosks.json?q={}", encoded(&sql)), &token).await;
        nothing_shows(&sql, &text);
        assert_eq!(status, 403, "{MORE}: {sql}: {text}");
    }
    for path in ["/v0/datasources", "/v0/datasources/vault", "/v0/datasources/vault_quarantine", "/v0/pipes"] {
        let (_, text) = world.get(path, &token).await;
        nothing_shows(path, &text);
    }
    for catalog in [
        "SELECT relname FROM pg_class",
        "SELECT attname FROM pg_attribute",
        "SELECT table_name || column_name FROM information_schema.columns",
    ] {
        let rows = format!("{:?}", wire.simple(catalog).expect("rows"));
        nothing_shows(catalog, &rows);
        assert!(!rows.contains("vault"), "{MORE}: {catalog}: {rows}");
    }
    world.server.stop();
}

/// Texts that name `kiosk` by default and `vault` with a parameter.
fn turncoats() -> Vec<(String, &'static str)> {
    let branch = "%\n    SELECT event_id FROM {% if String(t, 'k') == 'v' %} vault {% else %} kiosk {% end %}";
    let refuses = "%\n    {% if not defined(t) %} {{ error('no') }} {% end %} SELECT event_id FROM vault";
    vec![
        (node("a", branch), "t=v"),
        (node("a", branch) + &node("b", "SELECT * FROM a"), "t=v"),
        (node("a", refuses), "t=v"),
        (node("a", "%\n    SELECT event_id FROM {{ table(String(tbl, 'kiosk')) }}"), "tbl=vault"),
        (node("a", "%\n    SELECT event_id FROM {{ symbol(String(tbl, 'kiosk')) }}"), "tbl=vault"),
        (
            node("vault", "SELECT 'x' AS event_id")
                + &node("b", "%\n    SELECT event_id FROM {% if defined(t) %} public.vault {% else %} vault {% end %}"),
            "t=v",
        ),
    ]
}

/// Who may publish gives others what they may read themselves, with every parameter of a call; whoever calls.
#[tokio::test]
async fn an_endpoint_reads_what_its_publisher_could() {
    let world = World::start().await;
    let scopes = json!([{ "type": "PIPES:CREATE" }, { "type": "PIPES:READ" }, { "type": "DATASOURCES:READ", "resource": "Kiosk" }]);
    let caller = world.token(json!([{ "type": "PIPES:READ" }])).await;
    for publisher in [world.token(scopes.clone()).await, world.jwt(scopes.clone()).await] {
        for (text, with) in turncoats() {
            world.publish("p", &text, &publisher).await.expect(&text);
            for token in [&caller, &publisher, &world.acme.token, &world.acme.report_token] {
                for rest in ["", "&q=SELECT+*+FROM+_", "&q=SELECT+count(*)+AS+n+FROM+_"] {
                    let (status, answer) = world.get(&format!("/v0/pipes/p.json?{with}{rest}"), token).await;
                    nothing_shows(&text, &answer);
                    assert_eq!(status, 403, "{MORE}: {text}: {answer}");
                }
            }
            // The same text, published by one who may read the table, shows it to who may call it.
            world.publish("p", &text, &world.acme.token).await.expect(&text);
            let rows = world.rows(&format!("/v0/pipes/p.json?{with}"), &caller).await;
            assert_eq!(rows, json!([{ "event_id": "SECRET" }, { "event_id": "SECRET" }]), "{text}");
        }
        for sql in ways("vault", "kiosk") {
            let refused = world.publish("q", &node("a", &sql), &publisher).await.expect_err(&sql);
            nothing_shows(&sql, &refused);
            let shadow = node("vault", "SELECT 'x' AS event_id") + &node("b", &sql);
            // Some of these read the node and nothing else, and may.
            if world.publish("q", &shadow, &publisher).await.is_ok() {
                let (_, answer) = world.get("/v0/pipes/q.json", &world.acme.token).await;
                nothing_shows(&shadow, &answer);
            }
        }
    }
    world.server.stop();
}

/// A publisher's row filters hold in each call, beside the caller's own, after the publisher's token is revoked, and after a
/// rebuild: what was given stands in the log.
#[tokio::test]
async fn row_filters_of_the_publisher_stay_with_the_endpoint() {
    let mut world = World::start().await;
    let scopes = json!([
        { "type": "PIPES:CREATE" },
        { "type": "DATASOURCES:READ", "resource": "KIOSK", "filter": "org = 'a'" },
    ]);
    let publisher = world.token(scopes).await;
    world.publish("seen", &node("a", "SELECT org FROM kiosk"), &publisher).await.expect("published");
    let caller = world.token(json!([{ "type": "PIPES:READ" }])).await;
    let filter =
        json!([{ "type": "PIPES:READ" }, { "type": "DATASOURCES:READ", "resource": "kiosk", "filter": "org = 'b'" }]);
    let other = world.token(filter).await;
    let check = async |world: &World, when: &str| {
        for token in [&caller, &world.acme.token] {
            let rows = world.rows("/v0/pipes/seen.json", token).await;
            assert_eq!(rows, json!([{ "org": "a" }]), "{MORE}: {when}");
        }
        assert_eq!(world.rows("/v0/pipes/seen.json", &other).await, json!([]), "{MORE}: {when}: both filters hold");
    };
    check(&world, "at once").await;
    let listed = world.server.get("/v0/tokens", &world.acme.token).await;
    let tokens = listed["tokens"].as_array().expect("tokens");
    let made = tokens.iter().find(|token| token["scopes"][0]["type"] == "PIPES:CREATE").expect("the publisher's");
    let path = format!("/v0/tokens/{}", made["id"].as_str().expect("an id"));
    assert!(world.server.call(Method::DELETE, &path, &world.acme.token, None).await.0.is_success());
    check(&world, "after the publisher's token was revoked").await;
    let World { dir, server, acme } = world;
    server.stop();
    let verified = run(dir.path(), &["verify"]);
    assert_eq!(run(dir.path(), &["rebuild"]), verified);
    let server = Server::start(dir.path(), &[]);
    world = World { dir, server, acme };
    check(&world, "after a rebuild").await;
    // The owner publishes the same text: another version, with the owner's rights.
    let made = world.publish("seen", &node("a", "SELECT org FROM kiosk"), &world.acme.token).await.expect("published");
    assert_eq!(made["version"], 2);
    assert_eq!(world.rows("/v0/pipes/seen.json", &caller).await.as_array().map(Vec::len), Some(2));
    world.server.stop();
}
