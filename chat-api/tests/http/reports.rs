//! `/v0`: tokens and their scopes, and the shape of its errors. What queries answer is tested where they run.

use crate::support::{Call, Server, Tenant, text};
use axum::http::Method;
use serde_json::{Value, json};

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
    ];
    for call in calls {
        let answer = server.call(call).await.expect(200);
        assert_eq!((&answer["data"], &answer["rows"]), (&json!([{ "one": 1 }]), &json!(1)));
        assert!(answer["meta"].is_array() && answer["statistics"].is_object());
    }
    for (path, status) in [
        ("/v0/sql", 400),
        ("/v0/sql?q=SELEKT", 400),
        ("/v0/sql?q=SELECT+1+FORMAT+CSV", 400),
        ("/v0/sql?q=DROP+TABLE+x", 403),
        ("/v0/sql?q=SELECT+*+FROM+nothing", 404),
        ("/v0/pipes/nothing.json", 404),
        ("/v0/pipes/usage.csv", 400),
        ("/v0/pipes/usage.json?q=SELECT+1", 400),
    ] {
        let refused = server.call(Call::get(path).token(&token)).await.expect(status);
        assert!(refused["error"].is_string(), "{path}");
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
