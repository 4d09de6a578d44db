//! The queue over HTTP: who gets a conversation, when many decide at once, and what visitors are told while they wait.

use crate::support::{Call, Server, Tenant, text};
use axum::http::Method;
use chat_api::core::{Command, CommandKind};
use ingest::event::Actor;
use ingest::id::{ConversationId, EventId};
use ingest::payload::{Payload, Trigger};
use ingest::sqlite::EmbeddedLog;
use ingest::time::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the job does after a trigger.
async fn job(server: &Server, tenant: &Tenant, trigger: Trigger) {
    let kind = CommandKind::AssignQueue { trigger };
    let first_event = EventId::fresh();
    let tenant = tenant.id.parse().expect("an id");
    let command = Command { tenant, actor: Actor::System, first_event, request: None, cause: None, kind };
    drop(server.app.submit(command).await.expect("written").expect("allowed"));
}

async fn go(server: &Server, tenant: &Tenant, agent: &str, status: &str, capacity: Option<u32>) {
    if let Some(chats) = capacity {
        let body = json!({ "maxConcurrentChats": chats });
        let path = format!("/v1/agents/{agent}");
        server.call(Call::new(Method::PATCH, path).json(body).token(&tenant.token)).await.expect(200);
    }
    let path = format!("/v1/agents/{agent}/status");
    let call = Call::new(Method::PUT, path).json(json!({ "status": status })).token(&tenant.token);
    server.call(call).await.expect(200);
}

async fn group(server: &Server, tenant: &Tenant, name: &str, strategy: &str, agents: &[&str]) -> String {
    let body = json!({ "name": name, "routingStrategy": strategy });
    let made = server.call(Call::post("/v1/groups", body).token(&tenant.token)).await.expect(201);
    let id = text(&made["id"]);
    let body = json!({ "agentIds": agents });
    server.call(Call::post(format!("/v1/groups/{id}/agents"), body).token(&tenant.token)).await.expect(200);
    id
}

async fn conversation(server: &Server, tenant: &Tenant, id: &str) -> Value {
    server.call(Call::get(format!("/v1/conversations/{id}")).token(&tenant.token)).await.expect(200)
}

async fn start(server: &Server, tenant: &Tenant, group: &str) -> String {
    let body = json!({ "initialMessage": "hi", "groupId": group });
    text(&server.session(tenant, body).await["conversationId"])
}

fn assignments(server: &Server, chat: &str) -> usize {
    let id: ConversationId = chat.parse().expect("an id");
    let history = EmbeddedLog::history(&server.app.pool, id, 0, 1_000).expect("readable");
    history.values().filter(|record| matches!(record.event.payload, Payload::AgentAssigned(_))).count()
}

#[tokio::test]
async fn fifty_tasks_that_fight_over_one_conversation_end_with_one_agent_and_one_event() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let mut agents = Vec::new();
    for name in ["Bob", "Cleo", "Dan", "Eve", "Fay"] {
        let (id, token) = server.agent(&acme, name, "agent").await;
        go(&server, &acme, &id, "online", None).await;
        agents.push((id, token));
    }
    let session = server.session(&acme, json!({ "initialMessage": "hi" })).await;
    let chat = text(&session["conversationId"]);
    let fighters = (0..50_usize).map(|number| {
        let (server, acme, chat) = (&server, &acme, &chat);
        let token = &agents[number % agents.len()].1;
        async move {
            if number % 2 == 0 {
                job(server, acme, Trigger::FirstMessage).await;
                return;
            }
            let take = Call::new(Method::POST, format!("/v1/conversations/{chat}/take")).token(token);
            let reply = server.call(take).await;
            assert!(reply.status == 200 || reply.json["code"] == "already_assigned", "{}", reply.text);
        }
    });
    futures_util::future::join_all(fighters).await;
    let won = conversation(&server, &acme, &chat).await;
    assert_eq!(won["status"], "active");
    assert!(agents.iter().any(|(id, _)| won["assignedAgentId"] == **id));
    assert_eq!(assignments(&server, &chat), 1);
}

#[tokio::test]
async fn capacity_is_never_exceeded_and_nobody_waits_while_a_member_is_free() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let mut agents = Vec::new();
    for (name, capacity) in [("Bob", 2), ("Cleo", 3), ("Dan", 4)] {
        let (id, _) = server.agent(&acme, name, "agent").await;
        go(&server, &acme, &id, "online", Some(capacity)).await;
        agents.push((id, capacity));
    }
    let ids: Vec<&str> = agents.iter().map(|(id, _)| id.as_str()).collect();
    let sales = group(&server, &acme, "Sales", "round_robin", &ids[..2]).await;
    let support = group(&server, &acme, "Support", "least_loaded", &ids[1..]).await;
    let sessions = (0..24).map(|number| {
        let (server, acme) = (&server, &acme);
        let group = if number % 2 == 0 { &sales } else { &support };
        async move {
            let chat = start(server, acme, group).await;
            job(server, acme, Trigger::FirstMessage).await;
            chat
        }
    });
    let chats = futures_util::future::join_all(sessions).await;
    let mut loads: BTreeMap<String, u32> = BTreeMap::new();
    let mut waiting: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for chat in &chats {
        let chat = conversation(&server, &acme, chat).await;
        match chat["assignedAgentId"].as_str() {
            Some(agent) => *loads.entry(agent.to_owned()).or_default() += 1,
            None => waiting
                .entry(text(&chat["groupId"]))
                .or_default()
                .push(chat["queuePosition"].as_u64().expect("a position")),
        }
    }
    let full: BTreeMap<String, u32> = agents.into_iter().collect();
    assert_eq!(loads, full, "every slot is taken, and no more");
    for positions in waiting.values_mut() {
        positions.sort_unstable();
        let from_one: Vec<u64> = (1..=positions.len() as u64).collect();
        assert_eq!(*positions, from_one, "positions are from 1 within the group");
    }
    assert_eq!(waiting.values().map(Vec::len).sum::<usize>(), 24 - 9);
}

#[tokio::test]
async fn each_decision_is_explained_from_the_log() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (bob, _) = server.agent(&acme, "Bob", "agent").await;
    let (cleo, _) = server.agent(&acme, "Cleo", "agent").await;
    go(&server, &acme, &bob, "online", Some(1)).await;
    go(&server, &acme, &cleo, "away", None).await;
    let sales = group(&server, &acme, "Sales", "round_robin", &[&bob, &cleo]).await;
    let chat = start(&server, &acme, &sales).await;
    let second = start(&server, &acme, &sales).await;
    job(&server, &acme, Trigger::FirstMessage).await;
    let path = format!("/v1/conversations/{second}/assign");
    server
        .call(Call::post(path, json!({ "agentId": bob, "reason": "knows her" })).token(&acme.token))
        .await
        .expect(200);
    job(&server, &acme, Trigger::SlotFreed).await;
    assert_eq!(conversation(&server, &acme, &second).await["assignedAgentId"], bob, "a person's decision stands");

    let path = |chat: &str| Call::get(format!("/v1/conversations/{chat}/assignments")).token(&acme.token);
    let explained = server.call(path(&chat)).await.expect(200);
    let item = &explained["items"][0];
    assert_eq!(explained["items"].as_array().map(Vec::len), Some(1));
    let told = (&item["trigger"], &item["strategy"], &item["chosen"]);
    assert_eq!(told, (&json!("first_message"), &json!("round_robin"), &json!(bob)));
    let expected = json!([
        { "agentId": bob, "load": 0, "capacity": 1, "eligible": true, "reason": "next in turn" },
        { "agentId": cleo, "load": 0, "capacity": 6, "eligible": false, "reason": "away" },
    ]);
    assert_eq!(item["candidates"], expected, "the owner is no member");
    let event: EventId = text(&item["eventId"]).parse().expect("an id");
    let history = EmbeddedLog::history(&server.app.pool, chat.parse().expect("an id"), 0, 100).expect("readable");
    assert!(history.values().any(|record| record.event.id == event));
    assert!(text(&item["at"]).ends_with('Z'));
    let by_hand = server.call(path(&second)).await.expect(200);
    assert_eq!((&by_hand["items"][0]["strategy"], &by_hand["items"][0]["candidates"]), (&json!("manual"), &json!([])));
    assert_eq!((&by_hand["items"][0]["reason"], &item["reason"]), (&json!("knows her"), &json!(null)));
    let globex = server.tenant("Globex").await;
    let foreign = Call::get(format!("/v1/conversations/{chat}/assignments")).token(&globex.token);
    server.call(foreign).await.expect(404);
}

/// Without a group everyone who may reply qualifies, owners too; a viewer never.
#[tokio::test]
async fn without_a_group_everyone_who_may_reply_qualifies() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (viewer, _) = server.agent(&acme, "Vic", "viewer").await;
    go(&server, &acme, &viewer, "online", None).await;
    let chat = text(&server.session(&acme, json!({ "initialMessage": "hi" })).await["conversationId"]);
    job(&server, &acme, Trigger::FirstMessage).await;
    assert_eq!(conversation(&server, &acme, &chat).await["queuePosition"], 1);
    go(&server, &acme, &acme.owner, "online", None).await;
    job(&server, &acme, Trigger::AgentAvailable).await;
    assert_eq!(conversation(&server, &acme, &chat).await["assignedAgentId"], acme.owner);
}

/// A session without words waits for its first message; then it has a place.
#[tokio::test]
async fn places_and_the_estimate_follow_the_line() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (bob, _) = server.agent(&acme, "Bob", "agent").await;
    go(&server, &acme, &bob, "online", Some(1)).await;
    let sales = group(&server, &acme, "Sales", "least_loaded", &[&bob]).await;
    let silent = server.session(&acme, json!({ "groupId": sales })).await;
    assert_eq!(silent["queuePosition"], json!(null));
    let mut chats = Vec::new();
    for _ in 0..4 {
        chats.push(start(&server, &acme, &sales).await);
    }
    let (tenant, group) = (acme.id.parse().expect("an id"), Some(sales.parse().expect("an id")));
    let line = || server.app.views.queue_line(tenant, group, 10, Timestamp::now()).expect("readable");
    let ids: Vec<String> = line().iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(ids, chats, "oldest first");
    assert!(line().iter().all(|(_, place)| place.eta_seconds.is_none()), "nothing is known yet");
    for chat in &chats[..2] {
        job(&server, &acme, Trigger::SlotFreed).await;
        let id: ConversationId = chat.parse().expect("an id");
        for record in EmbeddedLog::history(&server.app.pool, id, 0, 100).expect("readable").values() {
            server.app.views.note(&record.event);
        }
        let resolve = Call::new(Method::POST, format!("/v1/conversations/{chat}/resolve")).token(&acme.token);
        server.call(resolve).await.expect(200);
    }
    let places = line();
    let told: Vec<u64> = places.iter().map(|(_, place)| place.position).collect();
    assert_eq!(told, [1, 2]);
    let etas: Vec<u64> = places.iter().filter_map(|(_, place)| place.eta_seconds).collect();
    assert!(etas.len() == 2 && etas[0] <= etas[1], "{etas:?}");
    let mut chat = server.app.pool.read(|c| chat_api::store::read::conversation(c, tenant, places[1].0));
    let chat = chat.as_mut().expect("readable").take().expect("there");
    let own = server.app.views.queue(&chat, Timestamp::now()).expect("readable").expect("waits");
    assert_eq!(own.position, 2);
}
