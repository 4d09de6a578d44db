//! `/v0`: tokens and their scopes, and the shape of its errors. What queries answer is tested where they run.

use crate::support::{Call, Server, Tenant, text};
use axum::http::Method;
use serde_json::{Value, json};
use sql::{Caller, Format, RowFilters};

async fn token(server: &Server, tenant: &Tenant, scopes: Value) -> String {
    let call = Call::post("/v0/tokens/", json!({ "name": "t", "scopes": scopes })).token(&tenant.token);
    text(&server.call(call).await.expect(200)["token"])
}

#[tokio::test]
async fn sql_is_sent_in_any_place() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let token = token(&server, &acme, json!([])).await;
    let calls = [
        Call::get("/v0/sql?q=SELECT%201%20AS%20one").token(&token),
        Call::get(format!("/v0/sql?q=SELECT+1+AS+one&token={token}")),
        Call::new(Method::POST, "/v0/sql?q=SELECT+1+AS+one").token(&token),
        Call::new(Method::POST, "/v0/sql").raw("SELECT 1 AS one FORMAT JSON").token(&token),
        Call::new(Method::POST, "/v0/sql")
            .header("content-type", "application/x-www-form-urlencoded")
            .raw("q=SELECT+1+AS+one")
            .token(&token),
        // As `curl -d` sends it.
        Call::new(Method::POST, "/v0/sql")
            .header("content-type", "application/x-www-form-urlencoded")
            .raw("SELECT 1 AS one FORMAT JSON")
            .token(&token),
    ];
    for call in calls {
        let answer = server.call(call).await.expect(200);
        assert_eq!((&answer["data"], &answer["rows"]), (&json!([{ "one": 1 }]), &json!(1)));
        assert!(answer["meta"].is_array() && answer["statistics"].is_object());
    }
    for (path, status) in [
        ("/v0/sql", 400),
        ("/v0/sql?q=SELEKT", 400),
        ("/v0/sql?q=SELECT+1+FORMAT+Pretty", 400),
        ("/v0/sql?q=DROP+TABLE+x", 403),
        ("/v0/sql?q=SELECT+*+FROM+nothing", 404),
        ("/v0/pipes/nothing.json", 404),
        ("/v0/pipes/nothing", 404),
        ("/v0/pipes/nothing/openapi.json", 404),
        ("/v0/pipes/usage.xlsx", 404),
        ("/v0/pipes/usage.json.json", 404),
        ("/v0/pipes/usage.json?granularity=decade", 400),
        ("/v0/pipes/usage.json?q=SELEKT", 400),
        ("/v0/pipes/usage.json?q=DROP+TABLE+_", 403),
        ("/v0/pipes/usage.json?q=SELECT+*+FROM+agents", 403),
        ("/v0/nothing", 404),
    ] {
        let refused = server.call(Call::get(path).token(&token)).await.expect(status);
        assert!(refused["error"].is_string(), "{path}");
    }
    let long = format!("SELECT '{}'", "x".repeat(300_000));
    for (call, status) in [
        (Call::delete("/v0/sql"), 405),
        (Call::new(Method::POST, "/v0/sql"), 411),
        (Call::new(Method::POST, "/v0/sql").raw(long), 413),
        (
            Call::new(Method::POST, "/v0/sql")
                .header("content-type", "application/x-www-form-urlencoded")
                .raw("sql=SELECT+1"),
            400,
        ),
        (Call::new(Method::POST, "/v0/sql").raw([0xff, 0xfe]), 400),
        (Call::post("/v0/pipes/usage.json", json!({ "granularity": { "a": 1 } })), 400),
        (Call::post("/v0/pipes/usage.json", json!({ "granularity": "decade" })), 400),
        (
            Call::new(Method::POST, "/v0/pipes/usage.json")
                .header("content-type", "application/x-www-form-urlencoded")
                .raw("granularity=decade"),
            400,
        ),
    ] {
        let refused = server.call(call.token(&token)).await.expect(status);
        assert!(refused["error"].is_string(), "{refused}");
    }
}

#[tokio::test]
async fn every_format_has_its_content_type() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let token = token(&server, &acme, json!([])).await;
    for (format, kind, starts) in [
        ("JSON", "application/json", "{\"meta\":[{\"name\":\"a\",\"type\":\"Int64\"}"),
        ("JSONEachRow", "application/x-ndjson", "{\"a\":1}\n{\"a\":2}\n"),
        ("CSV", "text/csv", "1\n2\n"),
        ("CSVWithNames", "text/csv", "\"a\"\n1\n2\n"),
        ("TSV", "text/tab-separated-values", "1\n2\n"),
        ("TSVWithNames", "text/tab-separated-values", "a\n1\n2\n"),
        ("Parquet", "application/vnd.apache.parquet", "PAR1"),
        ("Arrow", "application/vnd.apache.arrow.file", "ARROW1"),
    ] {
        let sql = format!("SELECT a FROM (VALUES (1), (2)) AS t (a) ORDER BY a FORMAT {format}");
        let answer = server.call(Call::new(Method::POST, "/v0/sql").raw(sql).token(&token)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.text.starts_with(starts), "{format}: {}", answer.text);
        assert!(answer.header("content-type").is_some_and(|found| found.starts_with(kind)), "{format}");
    }
}

#[tokio::test]
async fn pipes_are_described() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let token = token(&server, &acme, json!([])).await;
    let all = server.call(Call::get("/v0/pipes").token(&token)).await.expect(200);
    let usage = server.call(Call::get("/v0/pipes/usage").token(&token)).await.expect(200);
    assert!(all["pipes"].as_array().expect("pipes").contains(&usage));
    for (key, value) in [("id", "usage"), ("name", "usage"), ("type", "endpoint")] {
        assert_eq!(usage[key], value);
    }
    assert_eq!(usage["url"], "http://chat.test/v0/pipes/usage.json");
    let node = &usage["nodes"][0];
    assert_eq!(node["id"], usage["endpoint"], "the node that answers");
    let params = node["params"].as_array().expect("params");
    let granularity = params.iter().find(|param| param["name"] == "granularity").expect("it's there");
    assert_eq!((&granularity["type"], &granularity["required"]), (&json!("String"), &json!(false)));

    let document = server.call(Call::get("/v0/pipes/usage/openapi.json").token(&token)).await.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    let mut expected: Vec<String> =
        ["json", "csv", "ndjson", "parquet", "arrow"].map(|format| format!("/v0/pipes/usage.{format}")).to_vec();
    expected.sort();
    assert_eq!(paths.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    let operation = &document["paths"]["/v0/pipes/usage.json"]["get"];
    let names: Vec<&Value> = operation["parameters"].as_array().expect("some").iter().map(|p| &p["name"]).collect();
    assert_eq!(names, params.iter().map(|param| &param["name"]).collect::<Vec<_>>());
}

/// What a token fixes, its holder can't change; and what they send doesn't matter.
#[tokio::test]
async fn fixed_parameters_cannot_be_overridden() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let fixed =
        |value: &str| json!([{ "type": "PIPES:READ", "resource": "usage", "fixed_params": { "granularity": value } }]);
    // The fixed value is refused whatever is sent, so it is the one that was read.
    let wrong = token(&server, &acme, fixed("decade")).await;
    for call in [
        Call::get("/v0/pipes/usage.json"),
        Call::get("/v0/pipes/usage.json?granularity=day&granularity=hour"),
        Call::post("/v0/pipes/usage.json?granularity=day", json!({ "granularity": ["day", "hour"] })),
    ] {
        let refused = server.call(call.token(&wrong)).await.expect(400);
        assert!(text(&refused["error"]).contains("decade"), "{refused}");
    }
    // A wrong value that is sent isn't even read. (There are no tables here, so the query itself finds none.)
    let right = token(&server, &acme, fixed("day")).await;
    server.call(Call::get("/v0/pipes/usage.json?granularity=decade").token(&right)).await.expect(404);
}

#[tokio::test]
async fn tokens_that_mean_nothing_are_refused() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    for (scopes, limits) in [
        (json!([{ "type": "DATASOURCES:READ", "resource": "messages", "filter": "1 = 1) OR (1 = 1" }]), json!(null)),
        (json!([{ "type": "DATASOURCES:READ", "resource": "messages", "filter": "a IN (SELECT 1)" }]), json!(null)),
        (json!([{ "type": "DATASOURCES:READ", "resource": "*", "filter": "a = 1" }]), json!(null)),
        (json!([{ "type": "PIPES:READ", "resource": "usage", "fixed_params": { "q": "SELECT 1" } }]), json!(null)),
        (json!([{ "type": "PIPES:READ", "resource": "usage", "surprise": 1 }]), json!(null)),
        (json!([]), json!({ "rps": 0 })),
        (json!([]), json!({ "rps": -1 })),
        (json!([]), json!({ "rpm": 1 })),
    ] {
        let body = json!({ "name": "t", "scopes": scopes, "limits": limits });
        let refused = server.call(Call::post("/v0/tokens/", body.clone()).token(&acme.token)).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text);
    }
}

#[tokio::test]
async fn a_token_calls_as_often_as_it_may_and_is_told_so() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body = json!({ "name": "slow", "scopes": [], "limits": { "rps": 2 } });
    let made = server.call(Call::post("/v0/tokens/", body).token(&acme.token)).await.expect(200);
    assert_eq!(made["limits"], json!({ "rps": 2 }));
    let slow = text(&made["token"]);
    let ask = || server.call(Call::get("/v0/sql?q=SELECT+1").token(&slow));
    let first = ask().await;
    assert_eq!((first.status.as_u16(), first.header("x-ratelimit-limit")), (200, Some("2")));
    assert_eq!((first.header("x-ratelimit-remaining"), first.header("x-ratelimit-reset")), (Some("1"), Some("1")));
    assert_eq!(first.header("retry-after"), None);
    // An error counts too, and says what is left.
    let second = server.call(Call::get("/v0/sql?q=SELEKT").token(&slow)).await;
    assert_eq!((second.status.as_u16(), second.header("x-ratelimit-remaining")), (400, Some("0")));
    let third = ask().await;
    assert_eq!((third.status.as_u16(), third.header("retry-after")), (429, Some("1")), "{}", third.text);
    assert_eq!(third.header("x-ratelimit-remaining"), Some("0"));
    assert!(third.json["error"].is_string());
    // Nobody else is held up.
    let other = token(&server, &acme, json!([])).await;
    let answer = server.call(Call::get("/v0/sql?q=SELECT+1").token(&other)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-ratelimit-limit")), (200, None));
}

/// A JWT as any library makes it, from nothing but the key.
fn jwt(key: &str, claims: &Value) -> String {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
    format!("{signed}.{}", encode(ring::hmac::sign(&key, signed.as_bytes()).as_ref()))
}

#[tokio::test]
async fn a_tenant_signs_tokens_with_its_own_key() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let key_of =
        async |tenant: &Tenant| server.call(Call::get("/v0/tokens/signing_key").token(&tenant.token)).await.expect(200);
    let (own, others) = (key_of(&acme).await, key_of(&globex).await);
    assert_eq!((&own["workspace_id"], &own["algorithm"]), (&json!(acme.id), &json!("HS256")));
    let (own, others) = (text(&own["key"]), text(&others["key"]));
    assert_ne!(own, others);
    let (_, supervisor) = server.agent(&acme, "Sue", "supervisor").await;
    let reader = token(&server, &acme, json!([])).await;
    for token in [&supervisor, &reader] {
        server.call(Call::get("/v0/tokens/signing_key").token(token)).await.expect(403);
    }

    let soon = ingest::time::Timestamp::now().0 / 1_000 + 600;
    let usage = json!([{ "type": "PIPES:READ", "resource": "usage", "fixed_params": { "granularity": "decade" } }]);
    let claims = |exp: i64, scopes: &Value| json!({ "workspace_id": acme.id, "name": "front", "exp": exp, "scopes": scopes, "limits": { "rps": 5 } });
    let good = jwt(&own, &claims(soon, &usage));
    let call = Call::get(format!("/v0/pipes/usage.json?granularity=day&token={good}"));
    let refused = server.call(call).await;
    assert_eq!((refused.status.as_u16(), refused.header("x-ratelimit-remaining")), (400, Some("4")));
    assert!(refused.text.contains("decade"), "its fixed parameters hold: {}", refused.text);
    server.call(Call::get("/v0/pipes/csat.json").token(&good)).await.expect(403);
    server.call(Call::get("/v0/sql?q=SELECT+*+FROM+messages").token(&good)).await.expect(403);
    server.call(Call::get("/v0/tokens").token(&good)).await.expect(403);

    let mut foreign = claims(soon, &usage);
    foreign["workspace_id"] = json!(globex.id);
    for (why, token) in [
        ("expired", jwt(&own, &claims(soon - 1_200, &usage))),
        ("another's key", jwt(&others, &claims(soon, &usage))),
        ("another's tenant", jwt(&own, &foreign)),
        ("no scopes", jwt(&own, &claims(soon, &json!([])))),
        ("scopes that mean nothing", jwt(&own, &claims(soon, &json!([{ "type": "ADMIN", "resource": "*" }])))),
        ("cut", good[..good.len() - 4].to_owned()),
    ] {
        let refused = server.call(Call::get("/v0/pipes/usage.json").token(&token)).await.expect(403);
        assert!(refused["error"].is_string(), "{why}");
    }
}

#[tokio::test]
async fn scopes_hold() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let pipe = token(&server, &acme, json!([{ "type": "PIPES:READ", "resource": "usage" }])).await;
    let names = |json: Value| json["pipes"].as_array().map(Vec::len);
    assert_eq!(names(server.call(Call::get("/v0/pipes").token(&pipe)).await.expect(200)), Some(1));
    server.call(Call::get("/v0/pipes/usage").token(&pipe)).await.expect(200);
    server.call(Call::get("/v0/pipes/csat.json").token(&pipe)).await.expect(403);
    server.call(Call::get("/v0/sql?q=SELECT+*+FROM+messages").token(&pipe)).await.expect(403);
    let table = token(&server, &acme, json!([{ "type": "DATASOURCES:READ", "resource": "messages" }])).await;
    server.call(Call::get("/v0/sql?q=SELECT+*+FROM+messages").token(&table)).await.expect(404);
    server.call(Call::get("/v0/sql?q=SELECT+*+FROM+messages,+agents").token(&table)).await.expect(403);
    server.call(Call::get("/v0/pipes/usage.json").token(&table)).await.expect(403);
}

/// A supervisor's sign-in reads reports too; nobody below, no stranger, no expired token.
#[tokio::test]
async fn credentials_of_v0() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (_, supervisor) = server.agent(&acme, "Sue", "supervisor").await;
    let (_, agent) = server.agent(&acme, "Bob", "agent").await;
    let ask = |token: &str| server.call(Call::get("/v0/sql?q=SELECT+1").token(token));
    ask(&supervisor).await.expect(200);
    for token in [&*agent, "p.nonsense", ""] {
        assert!(ask(token).await.expect(403)["error"].is_string());
    }
    server.call(Call::get("/v0/sql?q=SELECT+1")).await.expect(403);
    server.call(Call::post("/v0/tokens", json!({ "name": "t" })).token(&supervisor)).await.expect(403);
    for body in [
        json!({ "name": "t", "tenant": acme.id }),
        json!({ "name": "t", "scopes": [{ "type": "ALL", "resource": "*" }] }),
    ] {
        server.call(Call::post("/v0/tokens", body).token(&acme.token)).await.expect(400);
    }
    let past = Call::post("/v0/tokens/?expiration_time=1000", json!({ "name": "t" })).token(&acme.token);
    server.call(past).await.expect(400);
    let listed = server.call(Call::get("/v0/tokens").token(&acme.token)).await;
    assert!(!listed.text.contains("sha256"), "{}", listed.text);
}

/// A revoked token is nobody's from the next request on. Tokens go by id, or by a name that only one has; another
/// tenant's can't be named.
#[tokio::test]
async fn a_revoked_token_is_nobodys() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let make = async |tenant: &Tenant, name: &str| {
        let made =
            server.call(Call::post("/v0/tokens/", json!({ "name": name })).token(&tenant.token)).await.expect(200);
        (text(&made["id"]), text(&made["token"]))
    };
    let revoke = async |named: &str, status: u16| {
        let call = Call::delete(format!("/v0/tokens/{named}")).token(&acme.token);
        server.call(call).await.expect(status);
    };
    let ask = |token: &str| server.call(Call::get("/v0/sql?q=SELECT+1").token(token));
    let listed = async || {
        let listed = server.call(Call::get("/v0/tokens").token(&acme.token)).await.expect(200);
        listed["tokens"].as_array().expect("tokens").iter().map(|token| text(&token["id"])).collect::<Vec<_>>()
    };
    let ((leaked, token), (kept, other)) = (make(&acme, "shop").await, make(&acme, "shop").await);
    let (foreign, foreign_token) = make(&globex, "theirs").await;
    ask(&token).await.expect(200);
    revoke("shop", 409).await;
    revoke(&leaked, 204).await;
    assert!(ask(&token).await.expect(403)["error"].is_string());
    ask(&other).await.expect(200);
    assert_eq!(listed().await, [kept]);
    for gone in [&*leaked, &foreign, "theirs", "nobody", "0190a1b2-0000-7000-8000-000000000008"] {
        revoke(gone, 404).await;
    }
    revoke("shop", 204).await;
    ask(&other).await.expect(403);
    assert!(listed().await.is_empty());
    ask(&foreign_token).await.expect(200);
    let audit = server.call(Call::get("/v1/audit?limit=1").token(&acme.token)).await.expect(200);
    assert_eq!(audit["items"][0]["type"], "token.revoked");
}

/// Every byte as `%XX`.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Without how long it took.
fn without_elapsed(bytes: &[u8]) -> Vec<u8> {
    const BEFORE: &[u8] = b"\"elapsed\":";
    let Some(at) = bytes.windows(BEFORE.len()).rposition(|window| window == BEFORE) else { return bytes.to_vec() };
    let (head, tail) = bytes.split_at(at + BEFORE.len());
    let end = tail.iter().position(|byte| *byte == b',').expect("more follows");
    [head, &tail[end..]].concat()
}

/// Whichever door an answer goes through, in whichever format: it has the bytes of the engine's own, a small one as one body
/// with its length, a large one in parts.
#[tokio::test]
async fn every_door_gives_every_format_whole_or_in_parts() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let token = token(&server, &acme, json!([])).await;
    let small = "SELECT 1 AS n, 'a \"text\"' AS t";
    // Square roots can't be compressed to less than a part.
    let rows: Vec<String> = (0..1_000).map(|row| format!("({row})")).collect();
    let columns: Vec<String> = (0..40).map(|column| format!("sqrt({column} + n * 41) AS c{column}")).collect();
    let large = format!("SELECT {} FROM (VALUES {}) AS v (n)", columns.join(", "), rows.join(","));
    for (pipe, sql) in [("small", small), ("large", &large)] {
        let publish = Call::new(Method::POST, format!("/v0/pipes?name={pipe}")).token(&acme.token);
        server.call(publish.raw(format!("NODE n\nSQL >\n    {sql}\n"))).await.expect(200);
    }
    let caller = || {
        let (tenant, time_zone) = (acme.id.clone(), "UTC".to_owned());
        let (readable, filters, metrics) = (sql::Readable::All, RowFilters::new(), sql::MetricsVersion::V1);
        Caller { tenant, time_zone, now_ms: 0, readable, filters, metrics }
    };
    for (pipe, sql) in [("small", small), ("large", &large)] {
        for (name, format) in Format::ALL {
            let result = server.app.reports.query(&caller(), sql).await.expect("a result");
            let whole = server.app.reports.encode(result, format).await.expect("written");
            let (asked, over) = (format!("{sql} FORMAT {name}"), format!("SELECT * FROM _ FORMAT {name}"));
            let form = "application/x-www-form-urlencoded";
            let mut doors = vec![
                ("POST /v0/sql", Call::new(Method::POST, "/v0/sql").raw(asked.clone())),
                (
                    "a form",
                    Call::new(Method::POST, "/v0/sql")
                        .header("content-type", form)
                        .raw(format!("q={}", escaped(&asked))),
                ),
                ("GET a pipe", Call::get(format!("/v0/pipes/{pipe}.json?q={}", escaped(&over)))),
                ("POST a pipe", Call::post(format!("/v0/pipes/{pipe}.csv"), json!({ "q": over }))),
            ];
            if pipe == "small" {
                doors.push(("GET /v0/sql", Call::get(format!("/v0/sql?q={}", escaped(&asked)))));
            }
            let endings = ["json", "csv", "ndjson", "parquet", "arrow"];
            let endings = endings.into_iter().filter(|ending| Format::of_extension(ending) == Some(format));
            doors.extend(endings.map(|ending| ("its ending", Call::get(format!("/v0/pipes/{pipe}.{ending}")))));
            for (door, call) in doors {
                let reply = server.call(call.token(&token)).await;
                assert_eq!(reply.status, 200, "{door}, {name} of {pipe}: {}", reply.text);
                assert_eq!(reply.header("content-type"), Some(format.content_type()), "{door}, {name} of {pipe}");
                let length = reply.header("content-length").map(str::to_owned);
                let expected = (pipe == "small").then(|| reply.bytes.len().to_string());
                assert_eq!(length, expected, "{door}, {name} of {pipe}: {} bytes", whole.len());
                assert!(without_elapsed(&reply.bytes) == without_elapsed(&whole), "{door}, {name} of {pipe}");
            }
        }
    }
}
