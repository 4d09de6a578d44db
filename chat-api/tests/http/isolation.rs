//! Tenants don't see each other, and credentials are good for what they are for.

use crate::support::{Call, Server, text};
use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chat_api::auth::tokens;
use ingest::id::{AgentId, ChatbotId, ConversationId, SessionId, TenantId, VisitorId};
use ingest::time::Timestamp;
use serde_json::{Value, json};

/// Another tenant's id, one that never was and one that can't be read answer the same 404, on every route with an id.
#[tokio::test]
async fn foreign_ids_are_unknown() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let session = server.session(&acme, json!({ "initialMessage": "hi" })).await;
    let (chat, thread) = (text(&session["conversationId"]), text(&session["threadId"]));
    let say = json!({ "type": "message", "content": "x" });
    let routes: [(Method, &str, &str, Option<Value>); 18] = [
        (Method::GET, "/v1/agents/{}", &acme.owner, None),
        (Method::PATCH, "/v1/agents/{}", &acme.owner, Some(json!({ "name": "Mallory" }))),
        (Method::PUT, "/v1/agents/{}/status", &acme.owner, Some(json!({ "status": "offline" }))),
        (Method::GET, "/v1/chatbots/{}", &acme.chatbot, None),
        (Method::PATCH, "/v1/chatbots/{}", &acme.chatbot, Some(json!({ "allowedOrigins": [] }))),
        (Method::GET, "/v1/conversations/{}", &chat, None),
        (Method::GET, "/v1/conversations/{}/threads", &chat, None),
        (Method::GET, "/v1/conversations/{}/assignments", &chat, None),
        (Method::POST, "/v1/conversations/{}/assign", &chat, Some(json!({ "agentId": globex.owner }))),
        (Method::POST, "/v1/conversations/{}/take", &chat, None),
        (Method::POST, "/v1/conversations/{}/unassign", &chat, None),
        (Method::POST, "/v1/conversations/{}/resolve", &chat, None),
        (Method::POST, "/v1/conversations/{}/reopen", &chat, None),
        (Method::POST, "/v1/conversations/{}/close", &chat, None),
        (Method::POST, "/v1/conversations/{}/tags", &chat, Some(json!({ "add": ["x"] }))),
        (Method::GET, "/v1/threads/{}/events", &thread, None),
        (Method::POST, "/v1/threads/{}/events", &thread, Some(say.clone())),
        (Method::POST, "/v1/threads/{}/events", &thread, Some(say)),
    ];
    let end = server.app.writer.reader().end();
    for (method, path, id, body) in routes {
        let mut answers = Vec::new();
        for id in [id, &ConversationId::fresh().to_string(), "nonsense", "..%2F", "0"] {
            let mut call = Call::new(method.clone(), path.replace("{}", id)).token(&globex.token);
            if let Some(body) = &body {
                call = call.json(body.clone());
            }
            answers.push(server.call(call).await.expect(404));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{method} {path}: {answers:?}");
    }
    // A foreign agent in a body is as unknown as one in a path.
    let assign =
        |id: &str| Call::post(format!("/v1/conversations/{chat}/assign"), json!({ "agentId": id })).token(&acme.token);
    for id in [&*globex.owner, "nonsense"] {
        server.call(assign(id)).await.expect(404);
    }
    assert_eq!(server.app.writer.reader().end(), end, "nothing was written");
    for path in ["/v1/conversations", "/v1/agents", "/v1/chatbots"] {
        let seen = server.call(Call::get(path).token(&globex.token)).await;
        assert!(!seen.text.contains(&chat) && !seen.text.contains(&acme.owner) && !seen.text.contains(&acme.chatbot));
    }
}

/// Forged, expired, foreign and misplaced tokens are all the same 401.
#[tokio::test]
async fn bad_tokens_are_refused() {
    let server = Server::start();
    let other = Server::start();
    let acme = server.tenant("Acme").await;
    let session = server.session(&acme, json!({})).await;
    let visitor = text(&session["sessionToken"]);
    let foreign = other.tenant("Acme").await;
    let claims = tokens::open_agent(&server.app.key_file, &acme.token).expect("our own token");
    let old = Timestamp::now().plus_ms(-3_600_000);
    let expired =
        tokens::sign_agent(&server.app.key_file, claims.tenant, claims.sub, claims.session, old).expect("signs");
    let sign = |tenant: TenantId, agent: AgentId, session: SessionId| {
        tokens::sign_agent(&server.app.key_file, tenant, agent, session, Timestamp::now()).expect("signs")
    };
    let no_session = sign(claims.tenant, claims.sub, SessionId::fresh());
    let no_tenant = sign(TenantId::fresh(), claims.sub, claims.session);
    let mut parts: Vec<&str> = acme.token.split('.').collect();
    let payload = String::from_utf8(BASE64.decode(parts[1]).expect("base64")).expect("text");
    let forged = BASE64.encode(payload.replace(&acme.id, &TenantId::fresh().to_string()));
    parts[1] = &forged;
    let forged = parts.join(".");
    let unsigned = format!(
        "{}.{}.",
        BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#),
        acme.token.split('.').nth(1).expect("a part")
    );

    let bad = [
        "",
        "nonsense",
        &visitor,
        visitor.trim_start_matches("wst_"),
        &foreign.token,
        &expired,
        &no_session,
        &no_tenant,
        &forged,
        &unsigned,
        &acme.refresh_token,
        &"x".repeat(10_000),
    ];
    let expected = server.call(Call::get("/v1/auth/me").token("x")).await.expect(401);
    for token in bad {
        assert_eq!(server.call(Call::get("/v1/auth/me").token(token)).await.expect(401), expected, "{token:.40}");
    }
    server.call(Call::get("/v1/auth/me")).await.expect(401);
    let keys = &server.app.key_file;
    let (conversation, chatbot) = (ConversationId::fresh(), ChatbotId::fresh());
    let now = Timestamp::now();
    let ghost = tokens::sign_visitor(keys, claims.tenant, VisitorId::fresh(), conversation, chatbot, now, 24);
    for token in
        ["", &acme.token, &format!("wst_{}", acme.token), visitor.trim_start_matches("wst_"), &ghost.expect("signs").0]
    {
        server.call(Call::get("/v1/widget/conversation").token(token)).await.expect(401);
    }
    let key = Call::post("/v1/widget/session", json!({})).header("x-chatbot-key", "pk_unknown");
    assert_eq!(server.call(key).await.expect(401)["code"], "invalid_chatbot_key");
}

/// A session token is renewed when under a quarter of its life is left, and not before.
#[tokio::test]
async fn an_old_session_token_is_renewed() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let session = server.session(&acme, json!({})).await;
    let token = text(&session["sessionToken"]);
    let claims = tokens::open_visitor(&server.app.key_file, &token).expect("our own token");
    let fresh = server.call(Call::get("/v1/widget/conversation").token(&token)).await;
    assert_eq!(fresh.header("x-session-token"), None);
    let then = Timestamp::now().plus_ms(-19 * 3_600_000);
    let keys = &server.app.key_file;
    let (old, _) = tokens::sign_visitor(keys, claims.tenant, claims.sub, claims.conversation, claims.chatbot, then, 24)
        .expect("signs");
    let reply = server.call(Call::get("/v1/widget/conversation").token(&old)).await;
    let renewed = reply.header("x-session-token").expect("renewed");
    server.call(Call::get("/v1/widget/conversation").token(renewed)).await.expect(200);
}
