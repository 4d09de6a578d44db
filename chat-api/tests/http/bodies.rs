//! Bad input: every refusal is a problem with a status, a code and the field; nothing is written.

use crate::support::{Call, PASSWORD, Server, text};
use axum::http::Method;
use serde_json::{Value, json};

fn problem(json: &Value) -> (Option<&str>, Option<&str>) {
    (json["code"].as_str(), json["field"].as_str())
}

/// No route takes fields it doesn't know, and none takes a tenant.
#[tokio::test]
async fn unknown_fields_are_named() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let session = server.session(&acme, json!({ "initialMessage": "hello" })).await;
    let (visitor, agent) = (text(&session["sessionToken"]), acme.token.clone());
    let chat = text(&session["conversationId"]);
    let agent_id = &acme.owner;
    let bodies = [
        (
            Method::POST,
            "/v1/tenants".to_owned(),
            "",
            json!({ "name": "A", "adminName": "A", "adminEmail": "a@b.c", "adminPassword": PASSWORD }),
        ),
        (Method::PATCH, "/v1/tenants/me".to_owned(), &*agent, json!({})),
        (Method::POST, "/v1/auth/login".to_owned(), "", json!({ "email": "a@b.c", "password": PASSWORD })),
        (Method::POST, "/v1/auth/refresh".to_owned(), "", json!({ "refresh_token": "x" })),
        (
            Method::POST,
            "/v1/agents".to_owned(),
            &*agent,
            json!({ "name": "A", "email": "a@b.c", "password": PASSWORD }),
        ),
        (Method::PATCH, format!("/v1/agents/{agent_id}"), &*agent, json!({})),
        (Method::PUT, format!("/v1/agents/{agent_id}/status"), &*agent, json!({ "status": "online" })),
        (Method::POST, "/v1/chatbots".to_owned(), &*agent, json!({ "name": "A" })),
        (Method::PATCH, format!("/v1/chatbots/{}", acme.chatbot), &*agent, json!({})),
        (
            Method::POST,
            format!("/v1/threads/{}/events", text(&session["threadId"])),
            &*agent,
            json!({ "type": "message", "content": "x" }),
        ),
        (Method::POST, format!("/v1/conversations/{chat}/assign"), &*agent, json!({ "agentId": agent_id })),
        (Method::POST, format!("/v1/conversations/{chat}/take"), &*agent, json!({})),
        (Method::POST, format!("/v1/conversations/{chat}/tags"), &*agent, json!({})),
        (Method::POST, "/v1/widget/events".to_owned(), &*visitor, json!({ "content": "x" })),
        (Method::POST, "/v1/widget/rating".to_owned(), &*visitor, json!({ "score": 5 })),
        (Method::POST, "/v1/widget/end".to_owned(), &*visitor, json!({})),
    ];
    let events = server.app.writer.reader().end();
    for (method, path, token, body) in bodies {
        for field in ["tenantId", "tenant_id", "authorTypes"] {
            let mut body = body.clone();
            body[field] = json!(acme.id);
            let call = Call::new(method.clone(), &path).json(body);
            let call = if token.is_empty() { call } else { call.token(token) };
            let refused = server.call(call).await.expect(422);
            assert_eq!(problem(&refused), (Some("unknown_field"), Some(field)), "{path}");
        }
    }
    let session =
        Call::post("/v1/widget/session", json!({ "tenantId": acme.id })).header("x-chatbot-key", &acme.chatbot_key);
    assert_eq!(problem(&server.call(session).await.expect(422)), (Some("unknown_field"), Some("tenantId")));
    assert_eq!(server.app.writer.reader().end(), events, "nothing was written");
}

/// What isn't JSON, isn't labelled JSON or is too large has its own status.
#[tokio::test]
async fn bodies_are_refused_by_kind() {
    let server = Server::start();
    let post = || Call::new(Method::POST, "/v1/auth/login");
    let json_type = |call: Call| call.header("content-type", "application/json; charset=utf-8");
    let cases: [(Call, u16, &str); 8] = [
        (json_type(post()).raw("{\"email\":"), 400, "malformed_json"),
        (json_type(post()).raw(vec![0xff, 0xfe]), 400, "malformed_json"),
        (json_type(post()).raw("[]"), 422, "invalid_body"),
        (json_type(post()).raw("{}"), 422, "missing_field"),
        (json_type(post()).raw(r#"{"email":1,"password":"x"}"#), 422, "invalid_field"),
        (post().raw("{}"), 415, "unsupported_media_type"),
        (post().header("content-type", "text/plain").raw("{}"), 415, "unsupported_media_type"),
        (json_type(post()).raw(vec![b' '; 300 * 1024]), 413, "body_too_large"),
    ];
    for (call, status, code) in cases {
        let reply = server.call(call).await;
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        let json = reply.expect(status);
        assert_eq!((json["code"].as_str(), json["status"].as_u64()), (Some(code), Some(u64::from(status))));
        assert!(json["title"].is_string() && json["type"].is_string() && json["detail"].is_string());
    }
    let reply = server.call(json_type(post()).raw("{\"email\":\n oops}")).await;
    assert!(text(&reply.json["detail"]).contains("line 2 column"), "{}", reply.text);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let server = Server::start();
    let unknown = server.call(Call::get("/v1/nothing")).await;
    assert_eq!(unknown.header("content-type"), Some("application/problem+json"));
    assert_eq!(unknown.expect(404)["code"], "not_found");
    let wrong = server.call(Call::new(Method::DELETE, "/v1/auth/login")).await;
    assert_eq!(wrong.header("allow"), Some("POST"));
    assert_eq!(wrong.expect(405)["code"], "method_not_allowed");
    assert!(server.call(Call::get("/v0/nothing")).await.expect(404)["error"].is_string());
}

/// Content is 1 to 20,000 characters, not blank, no NUL; names and addresses have their shape.
#[tokio::test]
async fn fields_are_checked() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let session = server.session(&acme, json!({})).await;
    let token = text(&session["sessionToken"]);
    for content in ["", " \n\t ", "a\u{0}b", &"é".repeat(20_001)] {
        let call = Call::post("/v1/widget/events", json!({ "content": content })).token(&token);
        assert_eq!(problem(&server.call(call).await.expect(422)), (Some("invalid_field"), Some("content")));
    }
    let most = Call::post("/v1/widget/events", json!({ "content": "𝒳".repeat(20_000) })).token(&token);
    server.call(most).await.expect(201);
    let metadata = json!({ "content": "x", "metadata": { "a": "y".repeat(9_000) } });
    let refused = server.call(Call::post("/v1/widget/events", metadata).token(&token)).await.expect(422);
    assert_eq!(problem(&refused), (Some("invalid_field"), Some("metadata")));

    let cases = [
        ("/v1/agents", json!({ "name": " ", "email": "a@b.c", "password": PASSWORD }), "name"),
        ("/v1/agents", json!({ "name": "x".repeat(201), "email": "a@b.c", "password": PASSWORD }), "name"),
        ("/v1/agents", json!({ "name": "A", "email": "not an address", "password": PASSWORD }), "email"),
        ("/v1/agents", json!({ "name": "A", "email": "a@b.c", "password": "short" }), "password"),
        ("/v1/agents", json!({ "name": "A", "email": "a@b.c", "password": PASSWORD, "role": "king" }), "role"),
        ("/v1/chatbots", json!({ "name": "A", "allowedOrigins": ["https://a.example/path"] }), "allowedOrigins"),
        ("/v1/widget/rating", json!({ "score": 6 }), "score"),
        ("/v1/widget/rating", json!({ "score": 0 }), "score"),
    ];
    for (path, body, field) in cases {
        let token = if path.starts_with("/v1/widget") { &token } else { &acme.token };
        let refused = server.call(Call::post(path, body).token(token)).await.expect(422);
        assert_eq!(refused["field"], field, "{path} {field}");
    }
    let zone = Call::new(Method::PATCH, "/v1/tenants/me").json(json!({ "timeZone": "Mars/Olympus" }));
    assert_eq!(server.call(zone.token(&acme.token)).await.expect(422)["field"], "timeZone");
    for query in ["limit=0", "limit=201", "limit=x", "cursor=zz", "assignee=us", "sort=name", "status=odd"] {
        let call = Call::get(format!("/v1/conversations?{query}")).token(&acme.token);
        server.call(call).await.expect(422);
    }
}

/// Health, readiness and status need no credential; every answer carries the security headers.
#[tokio::test]
async fn operations_are_public_and_hardened() {
    let server = Server::start();
    server.call(Call::get("/healthz")).await.expect(200);
    let ready = server.call(Call::get("/readyz")).await.expect(200);
    assert_eq!(ready["dependencies"]["log"], "ok");
    let reply = server.call(Call::get("/v1/status")).await;
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")]
    {
        assert_eq!(reply.header(name), Some(value));
    }
    let status = reply.expect(200);
    assert_eq!((&status["http"], &status["pg"]), (&json!("127.0.0.1:8080"), &Value::Null));
}
