//! What agents do with conversations: notes, transfer, stale, snooze, read; what happens by itself; who may see what.

use crate::support::{Call, Reply, Server, Tenant, text};
use axum::http::Method;
use chat_api::timers;
use ingest::id::GroupId;
use ingest::time::Timestamp;
use serde_json::{Value, json};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

async fn act(server: &Server, token: &str, chat: &str, action: &str, body: Value) -> Reply {
    server.call(Call::post(format!("/v1/conversations/{chat}/{action}"), body).token(token)).await
}

async fn show(server: &Server, token: &str, chat: &str) -> Reply {
    server.call(Call::get(format!("/v1/conversations/{chat}")).token(token)).await
}

async fn say(server: &Server, visitor: &str, words: &str) -> Reply {
    server.call(Call::post("/v1/widget/events", json!({ "content": words })).token(visitor)).await
}

/// What agents see of a conversation, one word an event: the code, or the type.
async fn story(server: &Server, token: &str, chat: &str) -> Vec<String> {
    let threads = threads(server, token, chat).await;
    let path = format!("/v1/threads/{}/events?limit=200", text(&threads[0]["id"]));
    let page = server.call(Call::get(path).token(token)).await.expect(200);
    let word = |event: &Value| text(event["metadata"].get("code").unwrap_or(&event["type"]));
    page["items"].as_array().expect("events").iter().map(word).collect()
}

async fn threads(server: &Server, token: &str, chat: &str) -> Vec<Value> {
    let page = server.call(Call::get(format!("/v1/conversations/{chat}/threads")).token(token)).await.expect(200);
    page["items"].as_array().expect("threads").clone()
}

async fn reasons(server: &Server, token: &str, chat: &str) -> Vec<Option<String>> {
    let threads = threads(server, token, chat).await;
    threads.iter().map(|thread| thread["closedReason"].as_str().map(str::to_owned)).collect()
}

/// A group with members.
async fn group(server: &Server, tenant: &Tenant, name: &str, members: &[&str]) -> String {
    let made = server.call(Call::post("/v1/groups", json!({ "name": name })).token(&tenant.token)).await.expect(201);
    let path = format!("/v1/groups/{}/agents", text(&made["id"]));
    server.call(Call::post(path, json!({ "agentIds": members })).token(&tenant.token)).await.expect(200);
    text(&made["id"])
}

async fn started(server: &Server, tenant: &Tenant) -> (String, String) {
    let body =
        json!({ "name": "Vera", "email": "vera@example.com", "initialMessage": "hi", "metadata": { "plan": "pro" } });
    let session = server.session(tenant, body).await;
    (text(&session["sessionToken"]), text(&session["conversationId"]))
}

async fn after(server: &Server, ms: i64) -> usize {
    let now = Timestamp::now().plus_ms(ms);
    timers::fire_due(&server.app.writer, &server.app.pool, now).await.expect("timers")
}

async fn active_chats(server: &Server, tenant: &Tenant, agent: &str) -> Value {
    server.call(Call::get(format!("/v1/agents/{agent}")).token(&tenant.token)).await.expect(200)["activeChats"].clone()
}

#[tokio::test]
async fn a_conversation_shows_all_its_fields_and_takes_notes() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (visitor, chat) = started(&server, &acme).await;
    act(&server, &acme.token, &chat, "take", json!({})).await.expect(200);
    let patch = |body: Value| {
        server.call(Call::new(Method::PATCH, format!("/v1/conversations/{chat}")).json(body).token(&acme.token))
    };
    let noted = patch(json!({ "notes": "calls back on Friday" })).await.expect(200);
    let seq = noted["lastSeq"].clone();
    assert_eq!(patch(json!({ "notes": "calls back on Friday" })).await.expect(200)["lastSeq"], seq, "already so");
    let shown = show(&server, &acme.token, &chat).await.expect(200);
    assert_eq!((&shown["notes"], &shown["metadata"]), (&json!("calls back on Friday"), &json!({ "plan": "pro" })));
    assert_eq!((&shown["agentName"], &shown["agentEmail"]), (&json!("Owner"), &json!(acme.email)));
    assert_eq!(
        (&shown["stale"], &shown["snoozedUntil"], &shown["unreadCount"]),
        (&json!(false), &json!(null), &json!(1))
    );
    for field in [
        "id",
        "visitorId",
        "name",
        "email",
        "status",
        "groupId",
        "assignedAgentId",
        "activeThreadId",
        "tags",
        "lastSeq",
        "lastMessage",
        "queuePosition",
        "createdAt",
        "updatedAt",
    ] {
        assert!(shown.get(field).is_some(), "{field}");
    }
    let seen = server.call(Call::get("/v1/widget/conversation").token(&visitor)).await;
    assert!(!seen.text.contains("Friday") && !seen.text.contains("notes"), "{}", seen.text);
    assert_eq!(patch(json!({ "notes": null })).await.expect(200)["notes"], json!(null));
    assert_eq!(patch(json!({ "groupId": GroupId::fresh() })).await.expect(404)["field"], "groupId");
    assert_eq!(patch(json!({ "status": "closed" })).await.expect(422)["field"], "status");
    let log = std::fs::read(server.data_dir().join("parlance.db-wal")).expect("the log");
    assert!(!log.windows(6).any(|bytes| bytes == b"Friday"), "notes are sealed");
}

#[tokio::test]
async fn a_transfer_closes_the_thread_and_gives_the_conversation_to_an_agent() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let ((ada, ada_token), (bob, bob_token)) =
        (server.agent(&acme, "Ada", "agent").await, server.agent(&acme, "Bob", "agent").await);
    let (visitor, chat) = started(&server, &acme).await;
    act(&server, &ada_token, &chat, "take", json!({})).await.expect(200);
    let to_bob = json!({ "agentId": bob, "note": "knows parcels" });
    let lost = act(&server, &bob_token, &chat, "transfer", json!({ "agentId": bob })).await.expect(409);
    assert_eq!((&lost["code"], &lost["winner"]["id"]), (&json!("already_assigned"), &json!(ada)));
    let passed = act(&server, &ada_token, &chat, "transfer", to_bob.clone()).await.expect(200);
    assert_eq!((&passed["assignedAgentId"], &passed["status"]), (&json!(bob), &json!("active")));
    let again = act(&server, &ada_token, &chat, "transfer", to_bob).await.expect(200);
    assert_eq!(again["lastSeq"], passed["lastSeq"], "it holds already");
    assert_eq!(
        reasons(&server, &acme.token, &chat).await,
        [Some("agent_assigned".to_owned()), Some("transferred".to_owned()), None]
    );
    assert_eq!(story(&server, &acme.token, &chat).await[4..], ["note", "transferred", "agent_joined"]);
    assert_eq!(
        (active_chats(&server, &acme, &ada).await, active_chats(&server, &acme, &bob).await),
        (json!(0), json!(1))
    );
    let seen = server.call(Call::get("/v1/widget/conversation").token(&visitor)).await;
    assert!(seen.text.contains("Conversation transferred to Agent Bob") && !seen.text.contains("knows parcels"));
    for (body, status, field) in [
        (json!({}), 422, "agentId"),
        (json!({ "agentId": bob, "groupId": bob }), 422, "agentId"),
        (json!({ "agentId": "nobody" }), 404, "agentId"),
        (json!({ "groupId": GroupId::fresh() }), 404, "groupId"),
    ] {
        assert_eq!(act(&server, &acme.token, &chat, "transfer", body).await.expect(status)["field"], field);
    }
}

#[tokio::test]
async fn a_transfer_to_a_group_queues_the_conversation_there_and_others_see_it_no_more() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let ((ada, ada_token), (bob, bob_token)) =
        (server.agent(&acme, "Ada", "agent").await, server.agent(&acme, "Bob", "agent").await);
    let billing = group(&server, &acme, "Billing", &[&bob]).await;
    let (visitor, chat) = started(&server, &acme).await;
    act(&server, &ada_token, &chat, "take", json!({})).await.expect(200);
    let passed = act(&server, &ada_token, &chat, "transfer", json!({ "groupId": billing })).await.expect(200);
    assert_eq!(
        (&passed["status"], &passed["groupId"], &passed["queuePosition"]),
        (&json!("pending"), &json!(billing), &json!(1))
    );
    assert_eq!(active_chats(&server, &acme, &ada).await, json!(0));
    assert_eq!(story(&server, &acme.token, &chat).await[4..], ["transferred", "agent_left", "queued"]);
    let thread = text(&passed["activeThreadId"]);

    // Outside of the group it's as unknown as one that never was, on every route.
    let unknown = show(&server, &ada_token, &uuid()).await.expect(404);
    let say = json!({ "type": "message", "content": "x" });
    let routes: [(Method, String, Option<Value>); 18] = [
        (Method::GET, format!("/v1/conversations/{chat}"), None),
        (Method::PATCH, format!("/v1/conversations/{chat}"), Some(json!({ "notes": "x" }))),
        (Method::GET, format!("/v1/conversations/{chat}/threads"), None),
        (Method::GET, format!("/v1/conversations/{chat}/assignments"), None),
        (Method::POST, format!("/v1/conversations/{chat}/assign"), Some(json!({ "agentId": ada }))),
        (Method::POST, format!("/v1/conversations/{chat}/transfer"), Some(json!({ "agentId": ada }))),
        (Method::POST, format!("/v1/conversations/{chat}/take"), None),
        (Method::POST, format!("/v1/conversations/{chat}/unassign"), None),
        (Method::POST, format!("/v1/conversations/{chat}/resolve"), None),
        (Method::POST, format!("/v1/conversations/{chat}/reopen"), None),
        (Method::POST, format!("/v1/conversations/{chat}/close"), None),
        (Method::POST, format!("/v1/conversations/{chat}/stale"), None),
        (Method::POST, format!("/v1/conversations/{chat}/typing"), None),
        (Method::POST, format!("/v1/conversations/{chat}/tags"), Some(json!({ "add": ["x"] }))),
        (Method::POST, format!("/v1/conversations/{chat}/read"), Some(json!({ "seq": 1 }))),
        (Method::POST, format!("/v1/conversations/{chat}/snooze"), Some(json!({ "until": null }))),
        (Method::GET, format!("/v1/threads/{thread}/events"), None),
        (Method::POST, format!("/v1/threads/{thread}/events"), Some(say)),
    ];
    for (method, path, body) in routes {
        let mut call = Call::new(method, &path).token(&ada_token);
        if let Some(body) = body {
            call = call.json(body);
        }
        let answer = server.call(call).await.expect(404);
        assert_eq!(answer["code"], unknown["code"], "{path}");
    }
    let list = |token: String| server.call(Call::get("/v1/conversations").token(&token));
    assert!(!list(ada_token.clone()).await.text.contains(&chat));
    assert!(list(bob_token.clone()).await.text.contains(&chat));
    act(&server, &bob_token, &chat, "take", json!({})).await.expect(200);
    assert_eq!(say_words(&server, &visitor).await, 201);
}

fn uuid() -> String {
    GroupId::fresh().to_string()
}

async fn say_words(server: &Server, visitor: &str) -> u16 {
    say(server, visitor, "thanks").await.status.as_u16()
}

#[tokio::test]
async fn stale_frees_the_slot_until_the_visitor_writes() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (ada, ada_token) = server.agent(&acme, "Ada", "agent").await;
    let (_, bob_token) = server.agent(&acme, "Bob", "agent").await;
    let (visitor, chat) = started(&server, &acme).await;
    act(&server, &ada_token, &chat, "take", json!({})).await.expect(200);
    act(&server, &bob_token, &chat, "stale", json!({})).await.expect(403);
    let stale = act(&server, &ada_token, &chat, "stale", json!({})).await.expect(200);
    assert_eq!(
        (&stale["stale"], &stale["status"], &stale["assignedAgentId"]),
        (&json!(true), &json!("active"), &json!(ada))
    );
    assert_eq!(act(&server, &ada_token, &chat, "stale", json!({})).await.expect(200)["lastSeq"], stale["lastSeq"]);
    assert_eq!(active_chats(&server, &acme, &ada).await, json!(0));
    let until = Timestamp::now().plus_ms(DAY_MS).to_string();
    let snoozed = act(&server, &ada_token, &chat, "snooze", json!({ "until": until })).await.expect(200);
    assert_eq!(snoozed["snoozedUntil"], json!(until));
    say(&server, &visitor, "still there?").await.expect(201);
    let now = show(&server, &ada_token, &chat).await.expect(200);
    assert_eq!((&now["stale"], &now["snoozedUntil"], &now["status"]), (&json!(false), &json!(null), &json!("active")));
    assert_eq!(active_chats(&server, &acme, &ada).await, json!(1));
    assert_eq!(after(&server, 2 * DAY_MS).await, 1, "the snooze's timer is gone, idle is due");
    act(&server, &ada_token, &chat, "resolve", json!({})).await.expect(200);
    assert_eq!(active_chats(&server, &acme, &ada).await, json!(0), "a stale one gives no second slot back");
    assert_eq!(act(&server, &ada_token, &chat, "stale", json!({})).await.expect(409)["code"], "conversation_resolved");
}

#[tokio::test]
async fn a_snooze_ends_at_its_time() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (_, chat) = started(&server, &acme).await;
    act(&server, &acme.token, &chat, "take", json!({})).await.expect(200);
    for bad in [json!("tomorrow"), json!(Timestamp::now().plus_ms(-1).to_string()), json!("2999-01-01T00:00:00Z")] {
        assert_eq!(
            act(&server, &acme.token, &chat, "snooze", json!({ "until": bad })).await.expect(422)["field"],
            "until"
        );
    }
    assert_eq!(act(&server, &acme.token, &chat, "snooze", json!({})).await.expect(422)["field"], "until");
    let until = Timestamp::now().plus_ms(60 * MINUTE_MS);
    act(&server, &acme.token, &chat, "snooze", json!({ "until": until.to_string() })).await.expect(200);
    assert_eq!(after(&server, 59 * MINUTE_MS).await, 0, "snoozed, it isn't idle");
    let until = Timestamp::now().plus_ms(20 * MINUTE_MS);
    act(&server, &acme.token, &chat, "snooze", json!({ "until": until.to_string() })).await.expect(200);
    assert_eq!(after(&server, 21 * MINUTE_MS).await, 1);
    assert_eq!(show(&server, &acme.token, &chat).await.expect(200)["snoozedUntil"], json!(null));
    assert_eq!(story(&server, &acme.token, &chat).await[4..], ["snoozed", "snoozed", "snooze_ended"]);
    assert_eq!(after(&server, 0).await, 0);
}

#[tokio::test]
async fn an_idle_thread_closes_and_a_message_opens_the_next() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (visitor, chat) = started(&server, &acme).await;
    assert_eq!(after(&server, 31 * MINUTE_MS).await, 0, "who waits for an agent isn't idle");
    act(&server, &acme.token, &chat, "take", json!({})).await.expect(200);
    assert_eq!(after(&server, 29 * MINUTE_MS).await, 0);
    assert_eq!(after(&server, 31 * MINUTE_MS).await, 1);
    let idle = show(&server, &acme.token, &chat).await.expect(200);
    assert_eq!(
        (&idle["stale"], &idle["status"], &idle["activeThreadId"]),
        (&json!(true), &json!("active"), &json!(null))
    );
    let closed = threads(&server, &acme.token, &chat).await[1].clone();
    assert_eq!((&closed["closedReason"], &closed["closedBy"]), (&json!("idle"), &json!("system")));
    assert_eq!(active_chats(&server, &acme, &acme.owner).await, json!(0));
    let event = say(&server, &visitor, "back").await.expect(201);
    let now = show(&server, &acme.token, &chat).await.expect(200);
    assert_eq!((&now["activeThreadId"], &now["stale"]), (&event["threadId"], &json!(false)));
    assert_eq!(threads(&server, &acme.token, &chat).await.len(), 3);
    assert_eq!(active_chats(&server, &acme, &acme.owner).await, json!(1));
}

#[tokio::test]
async fn a_resolved_conversation_is_closed_by_itself_and_the_next_message_starts_a_new_one() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (visitor, chat) = started(&server, &acme).await;
    act(&server, &acme.token, &chat, "resolve", json!({})).await.expect(200);
    say(&server, &visitor, "one more thing").await.expect(201);
    assert_eq!(after(&server, 8 * DAY_MS).await, 0, "it was reopened");
    act(&server, &acme.token, &chat, "resolve", json!({})).await.expect(200);
    assert_eq!(after(&server, 8 * DAY_MS).await, 1);
    let closed = show(&server, &acme.token, &chat).await.expect(200);
    assert_eq!(closed["status"], "closed");
    let read_only = act(&server, &acme.token, &chat, "reopen", json!({})).await.expect(409);
    assert_eq!(read_only["code"], "conversation_closed");

    let call =
        || Call::post("/v1/widget/events", json!({ "content": "hello again", "clientId": "c-1" })).token(&visitor);
    let first = server.call(call()).await;
    let token = first.header("x-session-token").expect("the session moves on").to_owned();
    let event = first.expect(201);
    let next = text(&event["conversationId"]);
    assert_ne!(next, chat);
    let repeated = server.call(call()).await;
    assert!(repeated.header("x-session-token").is_some());
    assert_eq!(repeated.expect(200)["id"], event["id"]);
    let opened = server.call(Call::get("/v1/widget/conversation").token(&token)).await.expect(200);
    assert_eq!(
        (&opened["conversation"]["id"], &opened["conversation"]["visitorId"]),
        (&json!(next), &closed["visitorId"])
    );
    assert_eq!(opened["conversation"]["queuePosition"], 1);
    // A tab that still has the old token writes to the same new one.
    let old = say(&server, &visitor, "me too").await;
    assert!(old.header("x-session-token").is_some());
    assert_eq!(old.expect(201)["conversationId"], json!(next));
    assert_eq!(show(&server, &acme.token, &chat).await.expect(200)["lastSeq"], closed["lastSeq"], "read-only");
    let mine = server.call(Call::get("/v1/widget/conversations").token(&token)).await.expect(200);
    assert_eq!(mine["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn many_tabs_start_one_new_conversation() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (visitor, chat) = started(&server, &acme).await;
    act(&server, &acme.token, &chat, "close", json!({})).await.expect(200);
    let (one, two, three) =
        tokio::join!(say(&server, &visitor, "1"), say(&server, &visitor, "2"), say(&server, &visitor, "3"));
    let ids: Vec<Value> = [one, two, three].map(|reply| reply.expect(201)["conversationId"].clone()).to_vec();
    assert!(ids.iter().all(|id| *id == ids[0] && *id != json!(chat)), "{ids:?}");
}

#[tokio::test]
async fn read_positions_rise_and_count_what_is_unread() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (visitor, chat) = started(&server, &acme).await;
    let other = server.session(&acme, json!({ "initialMessage": "other" })).await;
    act(&server, &acme.token, &chat, "take", json!({})).await.expect(200);
    say(&server, &visitor, "two").await.expect(201);
    let shown = show(&server, &acme.token, &chat).await.expect(200);
    assert_eq!(shown["unreadCount"], 2);
    let path = format!("/v1/threads/{}/events", text(&shown["activeThreadId"]));
    let reply = Call::post(&path, json!({ "type": "message", "content": "hello" })).token(&acme.token);
    let seq = server.call(reply).await.expect(201)["seq"].clone();
    let mine = || server.call(Call::get("/v1/widget/conversations").token(&visitor));
    assert_eq!(mine().await.expect(200)["unreadTotal"], 1);
    let read = server.call(Call::post("/v1/widget/read", json!({ "seq": seq })).token(&visitor)).await.expect(200);
    assert_eq!(read["unreadCount"], 0);
    assert_eq!(mine().await.expect(200)["unreadTotal"], 0);

    let first = act(&server, &acme.token, &chat, "read", json!({ "seq": 2 })).await.expect(200);
    assert_eq!((&first["unreadCount"], &first["lastSeq"]), (&json!(1), &seq), "a read is no event of the history");
    assert_eq!(first["updatedAt"], show(&server, &acme.token, &chat).await.expect(200)["updatedAt"]);
    let all = act(&server, &acme.token, &chat, "read", json!({ "seq": seq })).await.expect(200);
    assert_eq!(all["unreadCount"], 0);
    let end = server.app.writer.reader().end();
    assert_eq!(act(&server, &acme.token, &chat, "read", json!({ "seq": 1 })).await.expect(200)["unreadCount"], 0);
    assert_eq!(server.app.writer.reader().end(), end, "a position only rises");
    assert_eq!(act(&server, &acme.token, &chat, "read", json!({ "seq": 99 })).await.expect(422)["field"], "seq");
    let (_, viewer) = server.agent(&acme, "Vic", "viewer").await;
    act(&server, &viewer, &chat, "read", json!({ "seq": 1 })).await.expect(403);
    let theirs = show(&server, &acme.token, &text(&other["conversationId"])).await.expect(200);
    assert_eq!(theirs["unreadCount"], 1);
}

#[tokio::test]
async fn other_agents_conversations_need_a_steering_role() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (ada, ada_token) = server.agent(&acme, "Ada", "agent").await;
    let (bob, bob_token) = server.agent(&acme, "Bob", "agent").await;
    let (_, steering) = server.agent(&acme, "Sue", "supervisor").await;
    let (_, chat) = started(&server, &acme).await;
    act(&server, &ada_token, &chat, "take", json!({})).await.expect(200);
    for action in ["resolve", "close", "unassign", "stale"] {
        act(&server, &bob_token, &chat, action, json!({})).await.expect(403);
    }
    let lost = act(&server, &bob_token, &chat, "assign", json!({ "agentId": bob })).await.expect(409);
    assert_eq!(lost["winner"]["id"], json!(ada));
    let given = act(&server, &steering, &chat, "assign", json!({ "agentId": bob })).await.expect(200);
    assert_eq!(given["assignedAgentId"], json!(bob));
    act(&server, &steering, &chat, "resolve", json!({})).await.expect(200);
}

#[tokio::test]
async fn imported_conversations_start_no_timers() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let line = json!({
        "id": "t-1", "visitor": { "id": "v-1", "name": "Ann" }, "agent": { "id": "a-1", "name": "Abe" }, "tags": ["old"], "resolved": true, "rating": null,
        "messages": [{ "at": "2020-01-01T10:00:00Z", "from": "visitor", "text": "hello" }],
    });
    let call = Call::new(Method::POST, "/v1/import/conversations").raw(line.to_string()).token(&acme.token);
    let report = server.call(call).await.expect(200);
    assert_eq!(report["imported"], 1, "{report}");
    assert_eq!(after(&server, 400 * DAY_MS).await, 0);
}

#[tokio::test]
async fn the_inbox_is_filtered_sorted_and_paged() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let (ada, ada_token) = server.agent(&acme, "Ada", "agent").await;
    let (bob, bob_token) = server.agent(&acme, "Bob", "agent").await;
    let billing = group(&server, &acme, "Billing", &[&bob]).await;
    let (_, theirs) = started(&server, &globex).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(started(&server, &acme).await.1);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    act(&server, &ada_token, &ids[1], "take", json!({})).await.expect(200);
    act(&server, &acme.token, &ids[2], "transfer", json!({ "groupId": billing })).await.expect(200);
    act(&server, &bob_token, &ids[3], "take", json!({})).await.expect(200);
    act(&server, &acme.token, &ids[4], "tags", json!({ "add": ["vip", "a'b"] })).await.expect(200);
    act(&server, &acme.token, &ids[5], "resolve", json!({})).await.expect(200);
    let list = async |token: &str, query: &str| -> Vec<usize> {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/conversations?limit=2&{query}{cursor}");
            let reply = server.call(Call::get(path).token(token)).await;
            assert!(!reply.text.contains(&theirs));
            let page = reply.expect(200);
            let items = page["items"].as_array().expect("items");
            let place = |id: &str| ids.iter().position(|known| known == id).expect("one of ours");
            found.extend(items.iter().map(|chat| place(chat["id"].as_str().expect("an id"))));
            let Some(next) = page["nextCursor"].as_str() else { return found };
            cursor = format!("&cursor={next}");
        }
    };
    let owner = &*acme.token;
    assert_eq!(list(owner, "").await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(list(owner, "sort=updatedAt").await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(list(owner, "sort=createdAt").await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(list(owner, "sort=-createdAt&status=active").await, [3, 1]);
    assert_eq!(list(owner, "status=pending").await, [4, 2, 0]);
    assert_eq!(list(owner, &format!("assignee={ada}")).await, [1]);
    assert_eq!(list(&ada_token, "assignee=me").await, [1]);
    assert_eq!(list(owner, "assignee=none&status=pending").await, [4, 2, 0]);
    assert_eq!(list(owner, &format!("groupId={billing}")).await, [2]);
    assert_eq!(list(owner, "tag=vip").await, [4]);
    assert_eq!(list(owner, "tag=a%27b&status=pending").await, [4]);
    assert_eq!(list(owner, "tag=vip&status=active").await, [0; 0]);
    // Ada isn't in billing: what is in no group, and her own.
    assert_eq!(list(&ada_token, "").await, [5, 4, 3, 1, 0]);
    assert_eq!(list(&bob_token, "").await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(list(&ada_token, &format!("groupId={billing}")).await, [0; 0]);
    assert_eq!(list(&ada_token, "sort=createdAt").await, [0, 1, 3, 4, 5]);
    assert_eq!(list(owner, &format!("assignee={}", globex.owner)).await, [0; 0]);
    for (query, field) in [
        ("assignee=x", "assignee"),
        ("groupId=x", "groupId"),
        ("sort=x", "sort"),
        ("cursor=x", "cursor"),
        ("status=x", "status"),
        ("stat=x", "stat"),
    ] {
        let path = format!("/v1/conversations?{query}");
        assert_eq!(server.call(Call::get(path).token(owner)).await.expect(422)["field"], field);
    }
}
