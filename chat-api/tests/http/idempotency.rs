//! A retry is harmless: the same key and body answer the first outcome, another body is refused.

use crate::support::{Call, PASSWORD, Server, text};
use axum::http::Method;
use serde_json::json;

const KEY: &str = "a-key-of-at-least-22-characters";

#[tokio::test]
async fn a_session_is_started_once() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let start = |key: &str, message: &str| {
        let body = json!({ "initialMessage": message });
        Call::post("/v1/widget/session", body).header("x-chatbot-key", &acme.chatbot_key).key(key)
    };
    let first = server.call(start(KEY, "hello")).await.expect(201);
    let end = server.app.writer.reader().end();
    let again = server.call(start(KEY, "hello")).await.expect(201);
    for field in ["visitorId", "conversationId", "threadId"] {
        assert_eq!(again[field], first[field]);
    }
    assert_eq!(server.app.writer.reader().end(), end, "nothing more is written");
    let opened = Call::get("/v1/widget/conversation").token(&text(&again["sessionToken"]));
    server.call(opened).await.expect(200);
    assert_eq!(server.call(start(KEY, "other")).await.expect(422)["code"], "idempotency_mismatch");
    assert_eq!(server.call(start("short", "hello")).await.expect(422)["field"], "Idempotency-Key");
    // Another chatbot's sender is another sender.
    let globex = server.tenant("Globex").await;
    let other = Call::post("/v1/widget/session", json!({ "initialMessage": "hello" }));
    let other = server.call(other.header("x-chatbot-key", &globex.chatbot_key).key(KEY)).await.expect(201);
    assert_ne!(other["conversationId"], first["conversationId"]);
}

/// The same client id answers the first event, also when the repeat comes at the same moment or reopened something.
#[tokio::test]
async fn a_message_is_posted_once() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let session = server.session(&acme, json!({ "initialMessage": "hello" })).await;
    let (visitor, chat) = (text(&session["sessionToken"]), text(&session["conversationId"]));
    let post = |content: &str| {
        server.call(Call::post("/v1/widget/events", json!({ "content": content, "clientId": "m1" })).token(&visitor))
    };
    server
        .call(Call::new(Method::POST, format!("/v1/conversations/{chat}/resolve")).token(&acme.token))
        .await
        .expect(200);
    let (one, two, three) = tokio::join!(post("again"), post("again"), post("again"));
    let mut statuses = [one.status.as_u16(), two.status.as_u16(), three.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 201]);
    assert_eq!((&one.json, &two.json), (&two.json, &three.json));
    assert_eq!(
        (&one.json["content"], &one.json["type"], &one.json["clientId"]),
        (&json!("again"), &json!("message"), &json!("m1"))
    );
    assert_eq!(post("other words").await.expect(422)["code"], "idempotency_mismatch");

    // An agent's client ids are their own, and hold across threads of the conversation.
    let listed =
        server.call(Call::get(format!("/v1/conversations/{chat}/threads")).token(&acme.token)).await.expect(200);
    let threads: Vec<String> =
        listed["items"].as_array().expect("threads").iter().map(|thread| text(&thread["id"])).collect();
    let note = |thread: &str| {
        let body = json!({ "type": "note", "content": "look", "clientId": "m1" });
        server.call(Call::post(format!("/v1/threads/{thread}/events"), body).token(&acme.token))
    };
    let first = note(&threads[0]).await.expect(201);
    assert_eq!(note(&threads[1]).await.expect(200)["id"], first["id"]);
}

#[tokio::test]
async fn resources_are_made_once() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let chatbot = || Call::post("/v1/chatbots", json!({ "name": "Two" })).token(&acme.token).key("k1");
    let (first, again) = (server.call(chatbot()).await.expect(201), server.call(chatbot()).await.expect(201));
    assert_eq!(first["id"], again["id"]);
    assert!(first["identitySecret"].is_string() && again["identitySecret"].is_null(), "a secret is shown once");
    let other = Call::post("/v1/chatbots", json!({ "name": "Three" })).token(&acme.token).key("k1");
    server.call(other).await.expect(422);
    let elsewhere = Call::post("/v0/tokens", json!({ "name": "Two" })).token(&acme.token).key("k1");
    server.call(elsewhere).await.expect(400);

    let agent = |password: &str| {
        let body = json!({ "name": "Bob", "email": "bob@acme.example", "password": password });
        Call::post("/v1/agents", body).token(&acme.token).key("k2")
    };
    let (first, again) =
        (server.call(agent(PASSWORD)).await.expect(201), server.call(agent(PASSWORD)).await.expect(201));
    assert_eq!(first["id"], again["id"]);

    let token = || Call::post("/v0/tokens", json!({ "name": "t" })).token(&acme.token).key("k3");
    let (first, again) = (server.call(token()).await.expect(200), server.call(token()).await.expect(200));
    assert_eq!(first["id"], again["id"]);
    assert!(first["token"].is_string() && again["token"].is_null(), "a secret is shown once");
}

/// A repeated sign-up answers the same tenant, and signs nobody in.
#[tokio::test]
async fn a_tenant_signs_up_once() {
    let server = Server::start();
    let sign_up = |name: &str| {
        let body =
            json!({ "name": name, "adminName": "Ada", "adminEmail": "ada@acme.example", "adminPassword": PASSWORD });
        server.call(Call::post("/v1/tenants", body).key(KEY))
    };
    let (one, two) = tokio::join!(sign_up("Acme"), sign_up("Acme"));
    let (one, two) = (one.expect(201), two.expect(201));
    assert_eq!((&one["tenant"], &one["agent"]), (&two["tenant"], &two["agent"]));
    let tokens = [&one, &two].iter().filter(|made| made["access_token"].is_string()).count();
    assert_eq!(tokens, 1);
    assert_eq!(sign_up("Globex").await.expect(422)["code"], "idempotency_mismatch");
}
