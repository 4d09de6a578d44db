//! Two more documents' contracts: `/chats`, `/agents` and `/api/v1`, over the same conversations.

use crate::support::{Call, ORIGIN, Server, Tenant, text};
use axum::http::Method;
use chat_api::core::{Command, CommandKind};
use ingest::event::Actor;
use ingest::id::EventId;
use ingest::payload::Trigger;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn start_chat(tenant: &Tenant, body: Value) -> Call {
    Call::post("/chats", body).header("x-chatbot-key", &tenant.chatbot_key)
}

/// The only conversation of a tenant, as soon as there is one.
async fn first_chat(server: &Server, tenant: &Tenant) -> Value {
    for _ in 0..200 {
        let list = server.call(Call::get("/v1/conversations").token(&tenant.token)).await.expect(200);
        if let Some(chat) = list["items"].as_array().and_then(|items| items.first()) {
            return chat.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no conversation came");
}

async fn take(server: &Server, tenant: &Tenant, chat: &str) {
    let call = Call::new(Method::POST, format!("/v1/conversations/{chat}/take")).token(&tenant.token);
    server.call(call).await.expect(200);
}

/// The answer comes as soon as someone has the chat, with the name; nobody within a second is `null`.
#[tokio::test]
async fn post_chats_waits_for_an_assignment() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let started = Instant::now();
    let call = start_chat(&acme, json!({ "name": "Vera", "message": "Hello?" }));
    let assign = async {
        let chat = first_chat(&server, &acme).await;
        take(&server, &acme, &text(&chat["id"])).await;
    };
    let (made, ()) = tokio::join!(server.call(call), assign);
    assert!(started.elapsed() < Duration::from_millis(900), "it waited although someone had taken it");
    let token = made.header("x-session-token").expect("a token").to_owned();
    let made = made.expect(200);
    assert_eq!(made["agent_name"], "Owner");
    let chat = server.call(Call::get(format!("/v1/conversations/{}", text(&made["chat_id"]))).token(&acme.token)).await;
    assert_eq!(chat.expect(200)["name"], "Vera", "the same conversation as everywhere else");
    let opened = server.call(Call::get("/v1/widget/conversation").token(&token)).await.expect(200);
    assert_eq!(opened["conversation"]["id"], made["chat_id"], "the token is a session's");

    let started = Instant::now();
    let waited = server.call(start_chat(&acme, json!({ "message": "Anyone?" }))).await.expect(200);
    assert_eq!(waited["agent_name"], Value::Null);
    assert!(started.elapsed() >= Duration::from_secs(1), "it gave up too early");
    let started = Instant::now();
    server.call(start_chat(&acme, json!({}))).await.expect(200);
    assert!(started.elapsed() < Duration::from_millis(900), "without a message nobody is to be waited for");
}

/// An agent starts a chat for someone on the phone: no session token leaves.
#[tokio::test]
async fn post_chats_by_an_agent() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let made = server.call(Call::post("/chats", json!({ "name": "Caller" })).token(&acme.token)).await;
    assert_eq!(made.header("x-session-token"), None);
    let chat = text(&made.expect(200)["chat_id"]);
    server.call(Call::get(format!("/v1/conversations/{chat}")).token(&acme.token)).await.expect(200);
    let (_, viewer) = server.agent(&acme, "Vic", "viewer").await;
    server.call(Call::post("/chats", json!({})).token(&viewer)).await.expect(403);
    server.call(Call::post("/chats", json!({}))).await.expect(401);
    let foreign = start_chat(&acme, json!({})).header("origin", "https://evil.example");
    assert_eq!(server.call(foreign).await.expect(403)["code"], "origin_not_allowed");
    let own = server.call(start_chat(&acme, json!({})).header("origin", ORIGIN)).await;
    assert_eq!(own.header("access-control-allow-origin"), Some(ORIGIN));
    let refused = server.call(start_chat(&acme, json!({ "mesage": "x" })).header("origin", ORIGIN)).await;
    assert_eq!(refused.header("access-control-allow-origin"), Some(ORIGIN), "a page can read why");
    assert_eq!(refused.expect(422)["field"], "mesage");
    assert_eq!(server.call(start_chat(&acme, json!({ "message": " " }))).await.expect(422)["field"], "message");
}

/// What was said, for the tenant's agents and for that session alone; notes stay among agents.
#[tokio::test]
async fn get_chats_gives_the_messages() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let session = server.session(&acme, json!({ "initialMessage": "one" })).await;
    let other = server.session(&acme, json!({ "initialMessage": "other" })).await;
    let (chat, thread) = (text(&session["conversationId"]), text(&session["threadId"]));
    take(&server, &acme, &chat).await;
    for (kind, words) in [("message", "two"), ("note", "secret"), ("message", "three")] {
        let body = json!({ "type": kind, "content": words });
        server.call(Call::post(format!("/v1/threads/{thread}/events"), body).token(&acme.token)).await.expect(201);
    }
    let get = |token: &str| server.call(Call::get(format!("/chats/{chat}")).token(token));
    for token in [&acme.token, &text(&session["sessionToken"])] {
        assert_eq!(get(token).await.expect(200), json!({ "messages": ["one", "two", "three"] }));
    }
    for token in [&globex.token, &text(&other["sessionToken"])] {
        assert_eq!(get(token).await.expect(404)["code"], "not_found");
    }
    server.call(Call::get(format!("/chats/{chat}"))).await.expect(401);
    let by_key = Call::get(format!("/chats/{chat}")).header("x-chatbot-key", &acme.chatbot_key);
    server.call(by_key).await.expect(401);
}

/// `available` is whether the agent takes chats.
#[tokio::test]
async fn put_agents_sets_availability() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (ada, ada_token) = server.agent(&acme, "Ada", "agent").await;
    let (_, bob_token) = server.agent(&acme, "Bob", "agent").await;
    let put = |token: &str, body: Value| {
        server.call(Call::new(Method::PUT, format!("/agents/{ada}")).json(body).token(token))
    };
    assert_eq!(put(&ada_token, json!({ "available": false })).await.expect(200)["available"], false);
    let shown = server.call(Call::get(format!("/v1/agents/{ada}")).token(&acme.token)).await.expect(200);
    assert_eq!(shown["acceptingChats"], false);
    assert_eq!(put(&acme.token, json!({ "available": true })).await.expect(200)["available"], true);
    put(&bob_token, json!({ "available": false })).await.expect(403);
    assert_eq!(put(&ada_token, json!({ "availabel": false })).await.expect(422)["field"], "availabel");
    // What somebody knows is for who manages agents to say.
    let skills = json!({ "skills": ["refunds", "french"] });
    assert_eq!(put(&acme.token, skills.clone()).await.expect(200)["skills"], json!(["french", "refunds"]));
    put(&ada_token, json!({ "skills": ["everything"] })).await.expect(403);
    let shown = server.call(Call::get(format!("/v1/agents/{ada}")).token(&acme.token)).await.expect(200);
    assert_eq!((&shown["skills"], &shown["acceptingChats"]), (&json!(["french", "refunds"]), &json!(true)));
}

/// A chat that asks for skills gets the agent who has them.
#[tokio::test]
async fn post_chats_honours_skills() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let group = json!({ "name": "Desk", "routingStrategy": "skills", "isDefault": true });
    let group = text(&server.call(Call::post("/v1/groups", group).token(&acme.token)).await.expect(201)["id"]);
    for name in ["Ada", "Bob"] {
        let (agent, _) = server.agent(&acme, name, "agent").await;
        let body = json!({ "skills": [name.to_lowercase()], "status": "online" });
        server.call(Call::patch(format!("/v1/agents/{agent}"), body).token(&acme.token)).await.expect(200);
        let add = Call::post(format!("/v1/groups/{group}/agents"), json!({ "agentIds": [agent] }));
        server.call(add.token(&acme.token)).await.expect(200);
    }
    for (skill, name) in [("bob", "Bob"), ("ada", "Ada"), ("bob", "Bob")] {
        let call = server.call(start_chat(&acme, json!({ "message": "Hello", "skills": [skill] })));
        let job = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let kind = CommandKind::AssignQueue { trigger: Trigger::FirstMessage };
            let (tenant, first_event) = (acme.id.parse().expect("an id"), EventId::fresh());
            let command = Command { tenant, actor: Actor::System, first_event, request: None, cause: None, kind };
            server.app.submit(command).await.expect("written").expect("allowed");
        };
        let (made, ()) = tokio::join!(call, job);
        assert_eq!(made.expect(200)["agent_name"], name);
    }
    let wrong = json!({ "message": "Hello", "skills": [""] });
    assert_eq!(server.call(start_chat(&acme, wrong)).await.expect(422)["field"], "skills");
}

/// One message in, the next reply out; empty when nobody answers within a second.
#[tokio::test]
async fn post_messages_answers_with_the_reply() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let first = json!({ "conversation_id": "", "user_id": "u-7", "message": "Hi" });
    let first = Call::post("/api/v1/messages", first).header("x-chatbot-key", &acme.chatbot_key);
    let made = server.call(first).await;
    let token = made.header("x-session-token").expect("a token").to_owned();
    let made = made.expect(200);
    assert_eq!((&made["user_id"], &made["message"]), (&json!("u-7"), &json!("")));
    let chat = text(&made["conversation_id"]);
    take(&server, &acme, &chat).await;

    let thread =
        server.call(Call::get(format!("/v1/conversations/{chat}/threads")).token(&acme.token)).await.expect(200);
    let thread = text(&thread["items"][0]["id"]);
    let next = json!({ "conversation_id": chat, "user_id": "u-7", "message": "Where is it?" });
    let call = server.call(Call::post("/api/v1/messages", next.clone()).token(&token));
    let answer = async {
        let path = format!("/chats/{chat}");
        while server.call(Call::get(&path).token(&acme.token)).await.json["messages"].as_array().map(Vec::len)
            != Some(2)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let body = json!({ "type": "message", "content": "On its way." });
        server.call(Call::post(format!("/v1/threads/{thread}/events"), body).token(&acme.token)).await.expect(201);
    };
    let (replied, ()) = tokio::join!(call, answer);
    assert_eq!(replied.expect(200), json!({ "conversation_id": chat, "user_id": "u-7", "message": "On its way." }));
    let list =
        |token: &str, user: &str| server.call(Call::get(format!("/api/v1/user/{user}/messages/{chat}")).token(token));
    let all = json!({ "conversation_id": chat, "user_id": "u-7", "messages": ["Hi", "Where is it?", "On its way."] });
    for token in [&token, &acme.token] {
        assert_eq!(list(token, "u-7").await.expect(200), all);
        list(token, "u-8").await.expect(404);
    }
    let globex = server.tenant("Globex").await;
    list(&globex.token, "u-7").await.expect(404);
    let by_key = Call::post("/api/v1/messages", next).header("x-chatbot-key", &acme.chatbot_key);
    server.call(by_key).await.expect(401);
    let elsewhere = json!({ "conversation_id": acme.id, "user_id": "u-7", "message": "x" });
    server.call(Call::post("/api/v1/messages", elsewhere).token(&token)).await.expect(404);
}
