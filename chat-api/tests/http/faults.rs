//! When something goes wrong here: every fault is a problem document, and the server goes on.

use crate::support::{Call, Server, Setup, text};
use axum::Router;
use axum::http::Method;
use axum::routing::get;
use serde_json::json;
use std::time::Duration;

async fn panics() -> &'static str {
    panic!("a handler's own fault")
}

#[tokio::test]
async fn a_panicking_handler_is_a_500_and_the_server_lives() {
    let more = Router::new().route("/panics", get(panics));
    let server = Server::start_with(Setup { more, ..Setup::default() });
    for _ in 0..3 {
        let reply = server.call(Call::get("/panics")).await;
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        assert!(!reply.text.contains("own fault"), "causes stay in the log");
        assert_eq!(reply.expect(500)["code"], "internal");
    }
    server.call(Call::get("/healthz")).await.expect(200);
    server.tenant("Acme").await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_and_its_key_tells_what_became_of_it() {
    let server = Server::start_with(Setup { request_time_max: Duration::from_millis(300), ..Setup::default() });
    let acme = server.tenant("Acme").await;
    let token = text(&server.session(&acme, json!({})).await["sessionToken"]);
    // The writer is busy with something else.
    let writer = server.app.writer.clone();
    let busy = tokio::spawn(async move {
        let sleep = |_: &rusqlite::Connection| {
            std::thread::sleep(Duration::from_millis(1_200));
            Ok(())
        };
        writer.transact(sleep).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let post = || Call::post("/v1/widget/events", json!({ "content": "Hi" })).token(&token).key("the-first-message");
    let reply = server.call(post()).await;
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.expect(503)["code"], "timed_out");
    busy.await.expect("no panic").expect("written");
    let again = server.call(post()).await;
    assert!([200, 201].contains(&again.status.as_u16()), "{}", again.text);
    let shown = server.call(Call::get("/v1/widget/conversation").token(&token)).await.expect(200);
    let messages = shown["events"].as_array().expect("events").iter().filter(|event| event["type"] == "message");
    assert_eq!(messages.count(), 1, "the abandoned request's message and no other");
}

#[tokio::test]
async fn a_write_that_fails_is_a_503_that_says_when_to_try_again() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let token = text(&server.session(&acme, json!({})).await["sessionToken"]);
    server.app.writer.stop().await;
    let reply = server.call(Call::post("/v1/widget/events", json!({ "content": "Hi" })).token(&token)).await;
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(reply.expect(503)["status"], 503);
    server.call(Call::get("/v1/widget/conversation").token(&token)).await.expect(200);
}

/// Whatever the answer: no guessing, no framing, no telling, nothing that runs.
#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let more = Router::new().route("/panics", get(panics));
    let server = Server::start_with(Setup { more, ..Setup::default() });
    let preflight = Call::new(Method::OPTIONS, "/v1/conversations").header("access-control-request-method", "POST");
    for (call, status) in [
        (Call::get("/healthz"), 200),
        (Call::get("/v1/conversations"), 401),
        (Call::get("/nowhere"), 404),
        (Call::new(Method::DELETE, "/healthz"), 405),
        (Call::post("/v1/tenants", json!({})), 422),
        (Call::get("/panics"), 500),
        (preflight.header("origin", "https://inbox.example"), 204),
    ] {
        let reply = server.call(call).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{status} {name}");
        }
        assert_eq!(reply.header("strict-transport-security"), None, "only where the server is reached over TLS");
        assert_eq!(reply.status.as_u16(), status);
    }
}
