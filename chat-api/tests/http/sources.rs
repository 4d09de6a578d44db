//! A tenant's own data sources and endpoints as state: names, retries, races, replay. Their rows are looked at where the
//! whole server runs.

use crate::support::{Call, Server, Tenant};
use axum::http::Method;
use chat_api::store::hash;
use serde_json::{Value, json};

fn post(path: &str, tenant: &Tenant, body: &str) -> Call {
    Call::new(Method::POST, path).raw(body).token(&tenant.token)
}

async fn rows(server: &Server, tenant: &Tenant, name: &str) -> (u64, u64) {
    let id = tenant.id.parse().expect("an id");
    let name = sql::TableName::of(name);
    let found = server.app.pool.read(|connection| chat_api::store::read::data_source(connection, id, &name));
    found.expect("read").map_or((0, 0), |source| (source.rows, source.quarantined))
}

#[tokio::test]
async fn a_repeat_adds_nothing() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let send = |body: &str, key: &str| server.call(post("/v0/events?name=orders&wait=true", &acme, body).key(key));
    for _ in 0..3 {
        let answer = send("{\"a\":1}\n{\"a\":2}\nbad", "k1").await.expect(200);
        assert_eq!(answer, json!({ "successful_rows": 2, "quarantined_rows": 1 }));
        assert_eq!(rows(&server, &acme, "orders").await, (2, 1));
    }
    send("{\"a\":3}", "k1").await.expect(400);
    send("{\"a\":3}", "k2").await.expect(200);
    assert_eq!(rows(&server, &acme, "orders").await, (3, 1));
}

/// Many first requests at once make one source, and every row is in it.
#[tokio::test]
async fn first_requests_at_once_make_one_source() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let bodies = ["{\"a\":1,\"b\":\"x\"}", "{\"b\":2}", "{\"c\":[1]}", "{\"a\":\"text\"}"];
    let calls = (0..40).map(|n| {
        let body = bodies[n % bodies.len()];
        let call = post("/v0/events?name=race", &acme, body).header("content-length", &body.len().to_string());
        server.call(call)
    });
    for answer in futures_util::future::join_all(calls).await {
        let counts = answer.expect(202);
        assert_eq!(
            counts["successful_rows"].as_u64().zip(counts["quarantined_rows"].as_u64()).map(|(a, b)| a + b),
            Some(1)
        );
    }
    let (good, bad) = rows(&server, &acme, "race").await;
    assert_eq!(good + bad, 40);
    let id = acme.id.parse().expect("an id");
    let all = server.app.pool.read(|connection| chat_api::store::read::data_sources(connection, id)).expect("read");
    assert_eq!(all.len(), 1);
}

#[tokio::test]
async fn the_log_gives_the_same_state_again() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let same = || {
        let state = server.app.pool.read(hash::state_hash).expect("a hash");
        assert_eq!(state, server.replayed_state_hash());
    };
    server.call(post("/v0/events?name=a", &acme, "{\"x\":1}\nbad")).await.expect(202);
    server.call(post("/v0/events?name=a", &acme, "{\"x\":2}")).await.expect(202);
    same();
    server.call(post("/v0/datasources?name=a&mode=replace&format=ndjson", &acme, "{\"x\":3}")).await.expect(200);
    assert_eq!(rows(&server, &acme, "a").await, (1, 1));
    server.call(post("/v0/datasources/a/truncate", &acme, "")).await.expect(200);
    assert_eq!(rows(&server, &acme, "a").await, (0, 1));
    same();
    for n in 0..30 {
        let path = format!("/v0/pipes?name=p&sql=SELECT+{n}+AS+n");
        assert_eq!(server.call(post(&path, &acme, "")).await.expect(200)["version"], n + 1);
    }
    // The same text again is no new version.
    assert_eq!(server.call(post("/v0/pipes?name=p&sql=SELECT+29+AS+n", &acme, "")).await.expect(200)["version"], 30);
    let show = |version: u32| server.call(Call::get(format!("/v0/pipes/p?version={version}")).token(&acme.token));
    show(10).await.expect(404);
    assert!(show(11).await.expect(200)["nodes"][0]["sql"].as_str().is_some_and(|sql| sql.contains("10")));
    let answer = server.call(Call::get("/v0/pipes/p.json").token(&acme.token)).await.expect(200);
    assert_eq!(answer["data"], json!([{ "n": 29 }]));
    same();
    server.call(Call::delete("/v0/pipes/p").token(&acme.token)).await.expect(204);
    server.call(Call::delete("/v0/datasources/a").token(&acme.token)).await.expect(204);
    same();
    let audit = server.call(Call::get("/v1/audit?limit=200").token(&acme.token)).await.expect(200).to_string();
    for line in ["data_source.created", "data_source.replaced", "data_source.deleted", "pipe.published", "pipe.deleted"]
    {
        assert!(audit.contains(line), "{line}: {audit}");
    }
    assert!(!audit.contains("rows"), "rows are everyday business");
}

#[tokio::test]
async fn names_scopes_and_lengths() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let scopes = json!([{ "type": "DATASOURCES:APPEND", "resource": "Orders" }, { "type": "PIPES:CREATE" }]);
    let made =
        server.call(Call::post("/v0/tokens/", json!({ "name": "t", "scopes": scopes })).token(&acme.token)).await;
    assert_eq!(made.json["scopes"][1], json!({ "type": "PIPES:CREATE", "resource": "*" }), "{}", made.text);
    let token = made.json["token"].as_str().expect("a token").to_owned();
    let call = async |method: Method, path: &str, body: &str| {
        server.call(Call::new(method, path).raw(body).token(&token)).await.status.as_u16()
    };
    assert_eq!(call(Method::POST, "/v0/events?name=ORDERS", "{\"a\":1}").await, 202);
    assert_eq!(call(Method::POST, "/v0/events?name=others", "{\"a\":1}").await, 403);
    assert_eq!(call(Method::DELETE, "/v0/datasources/orders", "").await, 403);
    assert_eq!(call(Method::POST, "/v0/pipes?name=usage&sql=SELECT+1", "").await, 400);
    assert_eq!(call(Method::POST, "/v0/pipes?name=sla&sql=SELECT+1", "").await, 400);
    assert_eq!(call(Method::POST, "/v0/pipes?name=x&sql=SELECT+1+AS+a", "").await, 200);
    assert_eq!(call(Method::GET, "/v0/pipes/x.json", "").await, 403, "it may publish, not read");
    let none = Call::new(Method::POST, "/v0/events?name=orders").token(&token);
    assert_eq!(server.call(none).await.status.as_u16(), 411);
    let body = json!({ "name": "y", "description": "a\nNODE b", "nodes": [{ "name": "n", "sql": "SELECT 1 AS one\nTYPE materialized" }] });
    let refused = server.call(Call::post("/v0/pipes", body).token(&token)).await.expect(400);
    assert!(
        refused["error"].as_str().is_some_and(|error| error.contains("SQL")),
        "what is in a block stays in it: {refused}"
    );
    let body = json!({ "name": "y", "description": "a\nNODE b", "nodes": [{ "sql": "SELECT 1 AS one" }] });
    let made = server.call(Call::post("/v0/pipes", body).token(&token)).await.expect(200);
    assert_eq!(
        (&made["description"], made["nodes"].as_array().map(Vec::len)),
        (&json!("a\nNODE b"), Some(1)),
        "{made}"
    );
    let list: Value = server.call(Call::get("/v0/pipes").token(&acme.token)).await.expect(200);
    assert!(list["pipes"].as_array().is_some_and(|pipes| pipes.iter().any(|pipe| pipe["name"] == "y")));
}

/// Datafiles as people have them are published, and a call has the defaults of the file; SQL that a datafile would change is
/// refused where it isn't sent as one.
#[tokio::test]
async fn datafiles_as_people_have_them() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    for (text, expected) in [
        ("NODE n\nSQL >\n\n%\nSELECT 1 AS d\n\nTYPE endpoint\n", json!(1)),
        ("NODE a\nSQL >\nSELECT 1 AS d\n\nNODE b\nSQL >\nSELECT d FROM a\n\nTYPE endpoint\n", json!(1)),
        ("TAGS \"a,b\"\nNODE n\nSQL >\n    SELECT 1 AS d\nTYPE endpoint\n", json!(1)),
        ("NODE n\nSQL >\n%\nSELECT {{Int32(page, 2) * Int32(size, 10)}} AS d\n", json!(20)),
        ("NODE n\nSQL >\n%\nSELECT {{String(time_zone, 'of the file')}} AS d\n", json!("of the file")),
    ] {
        server.call(post("/v0/pipes?name=p", &acme, text)).await.expect(200);
        let answer = server.call(Call::get("/v0/pipes/p.json").token(&acme.token)).await.expect(200);
        assert_eq!(answer["data"][0]["d"], expected, "{text}");
    }
    let sql = "SELECT '\n # a' AS d";
    for body in [json!({ "name": "p", "sql": sql }), json!({ "name": "p", "nodes": [{ "name": "n", "sql": sql }] })] {
        let refused = server.call(Call::post("/v0/pipes", body).token(&acme.token)).await.expect(400);
        assert!(refused["error"].as_str().is_some_and(|error| error.contains("begins with '#'")), "{refused}");
    }
}

/// The same rows, in every way that programs write them.
#[tokio::test]
async fn rows_are_read_in_every_encoding() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let text = "{\"a\":1,\"b\":\"äöü 😀\"}\r\n{\"a\":2,\"b\":null}\r\n";
    let marked = format!("\u{FEFF}{text}");
    for (number, body) in [
        text.as_bytes().to_vec(),
        marked.clone().into_bytes(),
        text.replace("\r\n", "\r").into_bytes(),
        text.replace('{', "\u{FEFF}{").into_bytes(),
        utf16(&marked, u16::to_le_bytes),
        utf16(&marked, u16::to_be_bytes),
        utf16(text, u16::to_le_bytes),
        utf16("\u{FEFF}[{\"a\":1},{\"a\":2}]", u16::to_be_bytes),
    ]
    .into_iter()
    .enumerate()
    {
        let call =
            Call::new(Method::POST, format!("/v0/events?name=rows{number}&wait=true")).raw(body).token(&acme.token);
        let answer = server.call(call).await.expect(200);
        assert_eq!(answer, json!({ "successful_rows": 2, "quarantined_rows": 0 }), "{number}");
    }
    let csv = "a,b\r\n1,äöü 😀\r\n2,\"x\r\ny\"\r\n";
    for (number, body) in [
        csv.as_bytes().to_vec(),
        format!("\u{FEFF}{csv}").into_bytes(),
        csv.replace("\r\n", "\r").into_bytes(),
        utf16(&format!("\u{FEFF}{csv}"), u16::to_le_bytes),
        utf16(csv, u16::to_be_bytes),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/v0/datasources?name=csv{number}&mode=append&format=csv&schema=a%20Int64,b%20String");
        let answer = server.call(Call::new(Method::POST, path).raw(body).token(&acme.token)).await.expect(200);
        assert_eq!(answer["quarantined_rows"], 0, "{number}: {answer}");
        assert_eq!(rows(&server, &acme, &format!("csv{number}")).await, (2, 0), "{number}");
    }
}
