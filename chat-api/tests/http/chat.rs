//! A visitor and an agent talk.

use crate::support::{Call, Server, Tenant, next_millisecond, text};
use axum::http::Method;
use serde_json::{Value, json};

async fn events(server: &Server, token: &str, query: &str) -> Value {
    server.call(Call::get(format!("/v1/widget/conversation?{query}")).token(token)).await.expect(200)
}

fn seqs(events: &Value) -> Vec<u64> {
    events.as_array().expect("events").iter().map(|event| event["seq"].as_u64().expect("a seq")).collect()
}

async fn act(server: &Server, tenant: &Tenant, chat: &str, action: &str) -> Value {
    server
        .call(Call::new(Method::POST, format!("/v1/conversations/{chat}/{action}")).token(&tenant.token))
        .await
        .expect(200)
}

/// From the first word to the rating, and the same conversation again when the visitor comes back.
#[tokio::test]
async fn a_conversation_from_first_word_to_rating() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let session = server.session(&acme, json!({ "name": "Vera", "initialMessage": "Where is my parcel?" })).await;
    assert_eq!((&session["status"], &session["queuePosition"]), (&json!("pending"), &json!(1)));
    assert_eq!(session["realtime"]["url"], "ws://chat.test/v1/realtime");
    let (visitor, chat) = (text(&session["sessionToken"]), text(&session["conversationId"]));
    assert!(visitor.starts_with("wst_"));
    let opened = events(&server, &visitor, "").await;
    let codes: Vec<&str> = opened["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter_map(|event| event["metadata"]["code"].as_str())
        .collect();
    assert_eq!(codes, ["conversation_started", "agent_will_join"]);

    let taken = act(&server, &acme, &chat, "take").await;
    assert_eq!((&taken["status"], &taken["agentName"]), (&json!("active"), &json!("Owner")));
    // The first thread's id still names the conversation; the event joins the active thread.
    let path = format!("/v1/threads/{}/events", text(&session["threadId"]));
    let body = json!({ "type": "message", "content": "Let me look.", "authorType": "agent", "metadata": { "a": 1 } });
    let reply = server.call(Call::post(&path, body).token(&acme.token)).await.expect(201);
    assert_eq!((&reply["threadId"], &reply["author"]["name"]), (&taken["activeThreadId"], &json!("Owner")));
    assert_eq!(reply["metadata"], json!({ "a": 1 }));
    let impostor = json!({ "type": "message", "content": "I am the visitor", "authorType": "visitor" });
    assert_eq!(server.call(Call::post(&path, impostor).token(&acme.token)).await.expect(422)["field"], "authorType");

    assert_eq!(act(&server, &acme, &chat, "resolve").await["status"], "resolved");
    assert_eq!(act(&server, &acme, &chat, "resolve").await["status"], "resolved");
    let late = json!({ "type": "message", "content": "One more thing" });
    assert_eq!(
        server.call(Call::post(&path, late).token(&acme.token)).await.expect(409)["code"],
        "conversation_resolved"
    );
    let again = Call::post("/v1/widget/events", json!({ "content": "It came, thanks!" })).token(&visitor);
    assert_eq!(server.call(again).await.expect(201)["content"], "It came, thanks!");
    let now = events(&server, &visitor, "").await;
    assert_eq!(now["conversation"]["status"], "pending");
    let ended = server.call(Call::new(Method::POST, "/v1/widget/end").token(&visitor)).await.expect(200);
    assert_eq!(ended["status"], "resolved");
    let rated = Call::post("/v1/widget/rating", json!({ "score": 5, "comment": "quick" })).token(&visitor);
    assert_eq!(server.call(rated).await.expect(200)["rating"], 5);
    act(&server, &acme, &chat, "close").await;
    let closed = Call::post("/v1/widget/events", json!({ "content": "hello?" })).token(&visitor);
    let went_on = server.call(closed).await.expect(201);
    assert_ne!(went_on["conversationId"], json!(chat), "a closed conversation is read-only: the next one starts");

    let threads =
        server.call(Call::get(format!("/v1/conversations/{chat}/threads")).token(&acme.token)).await.expect(200);
    let reasons: Vec<&str> = threads["items"]
        .as_array()
        .expect("threads")
        .iter()
        .filter_map(|thread| thread["closedReason"].as_str())
        .collect();
    assert_eq!(reasons, ["agent_assigned", "resolved", "resolved"]);
    let given =
        server.call(Call::get(format!("/v1/conversations/{chat}/assignments")).token(&acme.token)).await.expect(200);
    assert_eq!((&given["items"][0]["chosen"], &given["items"][0]["strategy"]), (&json!(acme.owner), &json!("manual")));
}

/// For visitors notes leave holes in `seq` and nothing else: not in pages, not in `lastSeq`, not in views.
#[tokio::test]
async fn notes_are_invisible_to_visitors() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let session = server.session(&acme, json!({ "initialMessage": "one" })).await;
    let (visitor, chat) = (text(&session["sessionToken"]), text(&session["conversationId"]));
    act(&server, &acme, &chat, "take").await;
    let path = format!("/v1/threads/{}/events", text(&session["threadId"]));
    let say =
        |kind: &str, content: String| Call::post(&path, json!({ "type": kind, "content": content })).token(&acme.token);
    for number in 0..12 {
        server.call(say("note", format!("secret {number}"))).await.expect(201);
    }
    server.call(say("message", "two".to_owned())).await.expect(201);
    server.call(say("note", "secret end".to_owned())).await.expect(201);
    let tags = Call::post(format!("/v1/conversations/{chat}/tags"), json!({ "add": ["vip"] })).token(&acme.token);
    assert_eq!(server.call(tags).await.expect(200)["tags"], json!(["vip"]));

    let reply = server.call(Call::get("/v1/widget/conversation").token(&visitor)).await;
    assert!(!reply.text.contains("secret") && !reply.text.contains("vip"), "{}", reply.text);
    let all = reply.expect(200);
    assert_eq!(seqs(&all["events"]), [1, 2, 3, 4, 17]);
    assert_eq!((&all["lastSeq"], &all["conversation"]["lastSeq"]), (&json!(17), &json!(17)));
    assert_eq!(seqs(&events(&server, &visitor, "limit=2").await["events"]), [1, 2]);
    assert_eq!(
        seqs(&events(&server, &visitor, "after=3&limit=2").await["events"]),
        [4, 17],
        "limit counts visible events"
    );
    assert_eq!(seqs(&events(&server, &visitor, "after=17").await["events"]), [0_u64; 0], "an empty page is the end");

    let page = server.call(Call::get(format!("{path}?after=15&limit=3")).token(&acme.token)).await.expect(200);
    assert_eq!((seqs(&page["items"]), &page["lastSeq"]), (vec![16, 17, 18], &json!(19)));
}

/// One of many takers wins; the others learn who.
#[tokio::test]
async fn one_agent_wins_a_conversation() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let mut agents = Vec::new();
    for name in ["Bob", "Cleo", "Dan"] {
        agents.push(server.agent(&acme, name, "agent").await);
    }
    let session = server.session(&acme, json!({ "initialMessage": "hi" })).await;
    let path = format!("/v1/conversations/{}/take", text(&session["conversationId"]));
    let take = |token: &str| server.call(Call::new(Method::POST, &path).token(token));
    let (one, two, three) = tokio::join!(take(&agents[0].1), take(&agents[1].1), take(&agents[2].1));
    let replies = [one, two, three];
    let won: Vec<&Value> = replies.iter().filter(|reply| reply.status == 200).map(|reply| &reply.json).collect();
    assert_eq!(won.len(), 1);
    for lost in replies.iter().filter(|reply| reply.status != 200) {
        assert_eq!((lost.status.as_u16(), &lost.json["code"]), (409, &json!("already_assigned")));
        assert_eq!(lost.json["winner"], json!({ "id": won[0]["assignedAgentId"], "name": won[0]["agentName"] }));
    }
    let (viewer, token) = server.agent(&acme, "Vic", "viewer").await;
    server.call(Call::new(Method::POST, &path).token(&token)).await.expect(403);
    let assign = Call::post(path.replace("take", "assign"), json!({ "agentId": viewer })).token(&acme.token);
    assert_eq!(server.call(assign).await.expect(422)["code"], "agent_may_not_reply");
}

/// A list has pages that neither skip nor repeat; a status picks its own.
#[tokio::test]
async fn conversations_are_listed_newest_first() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let session = server.session(&acme, json!({ "initialMessage": format!("{number}") })).await;
        ids.push(text(&session["conversationId"]));
    }
    next_millisecond().await;
    act(&server, &acme, &ids[0], "take").await;
    let list = |query: String| server.call(Call::get(format!("/v1/conversations?{query}")).token(&acme.token));
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = list(format!("limit=2{cursor}")).await.expect(200);
        found.extend(page["items"].as_array().expect("items").iter().map(|chat| text(&chat["id"])));
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let expected: Vec<&String> = [0, 4, 3, 2, 1].iter().map(|index| &ids[*index]).collect();
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    assert_eq!(list("status=active".to_owned()).await.expect(200)["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(list("status=pending".to_owned()).await.expect(200)["items"].as_array().map(Vec::len), Some(4));
}

/// What is exported is importable; a bad line is told by its number.
#[tokio::test]
async fn transcripts_go_out_and_in() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let session = server.session(&acme, json!({ "initialMessage": "Hello there" })).await;
    act(&server, &acme, &text(&session["conversationId"]), "resolve").await;
    let exported = server.call(Call::get("/v1/export/conversations").token(&acme.token)).await;
    assert_eq!((exported.status.as_u16(), exported.text.lines().count()), (200, 1));
    let body = format!("{}\nnot json\n", exported.text.trim_end());
    let import = || Call::new(Method::POST, "/v1/import/conversations").raw(body.clone()).token(&globex.token);
    let report = server.call(import()).await.expect(200);
    assert_eq!((&report["imported"], &report["quarantined"][0]["line"]), (&json!(1), &json!(2)));
    assert_eq!(server.call(import()).await.expect(200)["skipped"], 1);
    let (_, token) = server.agent(&acme, "Bob", "agent").await;
    server.call(Call::get("/v1/export/conversations").token(&token)).await.expect(403);
}
