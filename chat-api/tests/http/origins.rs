//! Which pages may call: a chatbot's own list for the widget, the configured list for everything else.

use crate::support::{Call, ORIGIN, Server, text};
use axum::http::Method;
use serde_json::json;

const ALLOW: &str = "access-control-allow-origin";

#[tokio::test]
async fn the_widget_is_for_its_chatbots_origins() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let start = |origin: Option<&str>| {
        let call = Call::post("/v1/widget/session", json!({})).header("x-chatbot-key", &acme.chatbot_key);
        match origin {
            Some(origin) => call.header("origin", origin),
            None => call,
        }
    };
    let allowed = server.call(start(Some(ORIGIN))).await;
    assert_eq!(allowed.header(ALLOW), Some(ORIGIN));
    let token = text(&allowed.expect(201)["sessionToken"]);
    server.call(start(None)).await.expect(201);
    let evil = [
        "https://evil.example",
        "https://shop.example.evil",
        "http://shop.example",
        "https://shop.example:8443",
        "null",
        "",
    ];
    for origin in evil {
        let refused = server.call(start(Some(origin))).await;
        assert_eq!(refused.header(ALLOW), None, "{origin}");
        assert_eq!(refused.expect(403)["code"], "origin_not_allowed");
        let events = Call::get("/v1/widget/conversation").token(&token).header("origin", origin);
        server.call(events).await.expect(403);
    }
    let reply = server.call(Call::get("/v1/widget/conversation").token(&token).header("origin", ORIGIN)).await;
    assert_eq!((reply.status.as_u16(), reply.header(ALLOW)), (200, Some(ORIGIN)));
    // A refusal is readable by the page too, also when the token doesn't tell whose page it is.
    let ended = Call::get("/v1/widget/conversation").token("wst_ended");
    let refused = server.call(ended.clone().header("origin", ORIGIN)).await;
    assert_eq!((refused.status.as_u16(), refused.header(ALLOW)), (401, Some(ORIGIN)));
    assert_eq!(server.call(ended.header("origin", "https://evil.example")).await.header(ALLOW), None);
    let bad = Call::post("/v1/widget/events", json!({ "content": "" })).token(&token).header("origin", ORIGIN);
    assert_eq!(server.call(bad).await.header(ALLOW), Some(ORIGIN));

    // An emptied list allows no browser, at once.
    let none = Call::new(Method::PATCH, format!("/v1/chatbots/{}", acme.chatbot)).json(json!({ "allowedOrigins": [] }));
    server.call(none.token(&acme.token)).await.expect(200);
    server.call(start(Some(ORIGIN))).await.expect(403);
    server.call(start(None)).await.expect(201);
}

#[tokio::test]
async fn preflights_are_answered_without_credentials() {
    let server = Server::start();
    server.tenant("Acme").await;
    let preflight = |path: &str, origin: &str| {
        let call = Call::new(Method::OPTIONS, path).header("origin", origin);
        server.call(call.header("access-control-request-method", "POST"))
    };
    let allowed = preflight("/v1/widget/session", ORIGIN).await;
    assert_eq!((allowed.status.as_u16(), allowed.header(ALLOW)), (204, Some(ORIGIN)));
    assert!(allowed.header("access-control-allow-headers").is_some_and(|names| names.contains("x-chatbot-key")));
    assert_eq!(preflight("/v1/widget/session", "https://evil.example").await.header(ALLOW), None);
    for path in ["/v1/conversations", "/v0/sql", "/v1/realtime"] {
        assert_eq!(preflight(path, ORIGIN).await.header(ALLOW), None, "the agents' API isn't the widget's");
        assert_eq!(preflight(path, "https://inbox.example").await.header(ALLOW), Some("https://inbox.example"));
    }
    for origin in ["https://inbox.example", "http://chat.test"] {
        assert_eq!(preflight("/v1/conversations", origin).await.header(ALLOW), Some(origin));
        let call = Call::get("/v1/conversations").header("origin", origin);
        assert_eq!(server.call(call).await.header(ALLOW), Some(origin));
    }
}
