//! Visitors: sessions, who they are, blocking, standby, erasing.

use crate::support::{Call, ORIGIN, Server, Tenant, text};
use axum::http::Method;
use chat_api::auth::identity;
use chat_api::store::hash::state_hash;
use ingest::time::Timestamp;
use ring::hmac;
use serde_json::{Value, json};
use std::path::Path;

/// What the tenant's own server makes: hex(HMAC-SHA256(secret, userId + "." + userHashExp)).
fn user_hash(secret: &str, user: &str, expires_s: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hex::encode(hmac::sign(&key, format!("{user}.{expires_s}").as_bytes()))
}

fn soon() -> i64 {
    Timestamp::now().0 / 1_000 + 300
}

fn secret(server: &Server, tenant: &Tenant) -> String {
    identity::secret(&server.app.key_file, tenant.chatbot.parse().expect("an id"), 1)
}

/// The body of a session or an identification of `user`, with `more` fields.
pub(crate) fn vouched(server: &Server, tenant: &Tenant, user: &str, more: Value) -> Value {
    let expires = soon();
    let mut body = json!({
        "userId": user, "userHash": user_hash(&secret(server, tenant), user, expires), "userHashExp": expires,
    });
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    body
}

async fn visitor(server: &Server, tenant: &Tenant, id: &str) -> Value {
    server.call(Call::get(format!("/v1/visitors/{id}")).token(&tenant.token)).await.expect(200)
}

fn post(path: &str, token: &str) -> Call {
    Call::new(Method::POST, path).token(token)
}

async fn conversations(server: &Server, token: &str) -> Vec<String> {
    let listed = server.call(Call::get("/v1/widget/conversations").token(token)).await.expect(200);
    let mut ids: Vec<String> =
        listed["items"].as_array().expect("items").iter().map(|chat| text(&chat["id"])).collect();
    ids.sort();
    ids
}

async fn status(server: &Server, tenant: &Tenant, chat: &str) -> Value {
    server.call(Call::get(format!("/v1/conversations/{chat}")).token(&tenant.token)).await.expect(200)["status"].clone()
}

/// A hash vouches for one user, until its time, at one chatbot; anything else is a 401 that starts nothing.
#[tokio::test]
async fn a_wrong_or_expired_user_hash_is_401() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let session = |body: Value| {
        let call = Call::post("/v1/widget/session", body).header("x-chatbot-key", &acme.chatbot_key);
        server.call(call)
    };
    let past = soon() - 600;
    let own = secret(&server, &acme);
    let old = json!({ "userId": "u1", "userHash": user_hash(&own, "u1", past), "userHashExp": past });
    assert_eq!(session(old).await.expect(401)["code"], "user_hash_expired");
    for (user, hash) in [
        ("u1", user_hash(&own, "u2", soon())),
        ("u1", user_hash(&secret(&server, &globex), "u1", soon())),
        ("u1", user_hash(&own, "u1", soon() + 1)),
        ("u1", String::new()),
        ("u1", "not hex".to_owned()),
    ] {
        let body = json!({ "userId": user, "userHash": hash, "userHashExp": soon() });
        assert_eq!(session(body).await.expect(401)["code"], "invalid_user_hash");
    }
    assert_eq!(session(json!({ "userId": "u1" })).await.expect(422)["field"], "userHash");
    // Neither flags nor tenants are the page's to set.
    for (field, value) in [("verified", json!(true)), ("tenantId", json!(globex.id)), ("visitorId", json!("x"))] {
        assert_eq!(session(json!({ field: value })).await.expect(422)["code"], "unknown_field");
    }
    let listed = server.call(Call::get("/v1/visitors").token(&acme.token)).await.expect(200);
    assert_eq!(listed["items"], json!([]), "nothing was started");
}

/// A vouched-for user is the same visitor in every browser; another tenant's user of that name is someone else.
#[tokio::test]
async fn an_identified_visitor_is_the_same_everywhere() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let start = |more: Value| vouched(&server, &acme, "user-1", more);
    let one = server.session(&acme, start(json!({ "name": "Ada", "initialMessage": "from my phone" }))).await;
    let two = server.session(&acme, start(json!({ "email": "ada@example.com" }))).await;
    assert_eq!(one["visitorId"], two["visitorId"]);
    let mut both = [text(&one["conversationId"]), text(&two["conversationId"])];
    both.sort();
    assert_eq!(conversations(&server, &text(&two["sessionToken"])).await, both);
    let shown = visitor(&server, &acme, &text(&one["visitorId"])).await;
    assert_eq!(
        (&shown["name"], &shown["email"], &shown["userId"]),
        (&json!("Ada"), &json!("ada@example.com"), &json!("user-1"))
    );
    let other = server.session(&globex, vouched(&server, &globex, "user-1", json!({}))).await;
    assert_ne!(other["visitorId"], one["visitorId"]);
    let path = format!("/v1/visitors/{}", text(&other["visitorId"]));
    server.call(Call::get(path).token(&acme.token)).await.expect(404);
}

/// The anonymous history of a browser becomes the identified visitor's; the browser's old token still reads its own
/// conversation, and none of those that the visitor has elsewhere. What more it can't do is in `identified`.
#[tokio::test]
async fn anonymous_history_merges_into_the_identified_visitor() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let elsewhere = server.session(&acme, vouched(&server, &acme, "u", json!({ "initialMessage": "elsewhere" }))).await;
    let here = server.session(&acme, json!({ "name": "Ada", "initialMessage": "anonymous words" })).await;
    let (old, chat) = (text(&here["sessionToken"]), text(&here["conversationId"]));
    let body = vouched(&server, &acme, "u", json!({ "email": "ada@example.com" }));
    let key = "an-idempotency-key-of-identify";
    let identify = || Call::post("/v1/widget/identify", body.clone()).token(&old).key(key);
    let reply = server.call(identify()).await;
    let new = reply.header("x-session-token").expect("a new token").to_owned();
    let identified = reply.expect(200);
    assert_eq!(
        (&identified["visitorId"], &identified["conversationId"]),
        (&elsewhere["visitorId"], &here["conversationId"])
    );

    let mut both = [chat.clone(), text(&elsewhere["conversationId"])];
    both.sort();
    assert_eq!(conversations(&server, &new).await, both);
    assert_eq!(
        conversations(&server, &old).await,
        std::slice::from_ref(&chat),
        "the old token is for its own conversation"
    );
    for token in [&old, &new] {
        let opened = server.call(Call::get("/v1/widget/conversation").token(token)).await;
        assert!(opened.text.contains("anonymous words") && !opened.text.contains("elsewhere"), "{}", opened.text);
    }
    let more = |token: &str| server.call(Call::post("/v1/widget/events", json!({ "content": "more" })).token(token));
    more(&new).await.expect(201);
    assert_eq!(more(&old).await.expect(403)["code"], "session_superseded");
    // Again: nothing more happens. As someone else: no.
    server.call(identify()).await.expect(200);
    let again = Call::post("/v1/widget/identify", body.clone()).token(&new);
    assert_eq!(server.call(again).await.expect(200)["visitorId"], elsewhere["visitorId"]);
    let other = Call::post("/v1/widget/identify", vouched(&server, &acme, "v", json!({}))).token(&old);
    assert_eq!(server.call(other).await.expect(409)["code"], "identified_as_other");

    let shown = visitor(&server, &acme, &text(&elsewhere["visitorId"])).await;
    assert_eq!((&shown["name"], &shown["email"]), (&json!("Ada"), &json!("ada@example.com")));
    let source = visitor(&server, &acme, &text(&here["visitorId"])).await;
    assert_eq!(source["mergedInto"], elsewhere["visitorId"]);
    let listed = server.call(Call::get("/v1/visitors").token(&acme.token)).await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "a merged visitor is no other person");
    let path = format!("/v1/visitors/{}/conversations", text(&shown["id"]));
    let chats = server.call(Call::get(path).token(&acme.token)).await.expect(200);
    assert_eq!(chats["items"].as_array().map(Vec::len), Some(2));
}

/// A typed address is a word like any other: it leads to nobody's conversations.
#[tokio::test]
async fn a_typed_address_never_merges_anything() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body = json!({ "email": "ada@example.com", "initialMessage": "secret" });
    let one = server.session(&acme, body).await;
    let two = server.session(&acme, json!({ "email": "ADA@example.com " })).await;
    assert_ne!(one["visitorId"], two["visitorId"]);
    assert_eq!(conversations(&server, &text(&two["sessionToken"])).await, [text(&two["conversationId"])]);
    let found = |query: &str| server.call(Call::get(format!("/v1/visitors?q={query}")).token(&acme.token));
    assert_eq!(found("ada@example.com").await.expect(200)["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(found("da@example.com").await.expect(200)["items"], json!([]), "the whole address only");
    let shown = visitor(&server, &acme, &text(&one["visitorId"])).await;
    let named = found(&text(&shown["readableId"])).await.expect(200);
    assert_eq!(named["items"][0]["id"], one["visitorId"]);
}

/// What is known of browser and page is shown to agents, and follows what the page tracks.
#[tokio::test]
async fn agents_see_and_change_what_is_known_of_a_visitor() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body = json!({ "name": "Ada", "phone": "+49 30 1234", "metadata": { "plan": "pro" }, "skills": ["billing"] });
    let start = Call::post("/v1/widget/session", body)
        .header("x-chatbot-key", &acme.chatbot_key)
        .header("origin", ORIGIN)
        .header("user-agent", "Testfox/1.0")
        .header("referer", "https://shop.example/cart");
    let session = server.call(start).await.expect(201);
    let (id, token) = (text(&session["visitorId"]), text(&session["sessionToken"]));
    let shown = visitor(&server, &acme, &id).await;
    assert_eq!(shown["phone"], "+49 30 1234");
    assert_eq!((&shown["userAgent"], &shown["referrer"]), (&json!("Testfox/1.0"), &json!("https://shop.example/cart")));
    assert_eq!((&shown["metadata"], &shown["online"]), (&json!({ "plan": "pro" }), &json!(true)));
    let track = json!({ "name": "viewed", "page": "https://shop.example/shoes", "properties": { "size": 42 } });
    server.call(Call::post("/v1/widget/track", track).token(&token)).await.expect(200);
    assert_eq!(visitor(&server, &acme, &id).await["page"], "https://shop.example/shoes");

    let path = format!("/v1/visitors/{id}");
    let change = |body: Value, token: &str| server.call(Call::new(Method::PATCH, &path).json(body).token(token));
    let body = json!({ "name": "Ada L.", "email": "ada@example.com", "metadata": { "plan": "free" } });
    let changed = change(body, &acme.token).await.expect(200);
    assert_eq!((&changed["name"], &changed["email"]), (&json!("Ada L."), &json!("ada@example.com")));
    assert_eq!((&changed["userAgent"], &changed["metadata"]), (&json!("Testfox/1.0"), &json!({ "plan": "free" })));
    assert_eq!(change(json!({ "readableId": "x" }), &acme.token).await.expect(422)["field"], "readableId");
    let (_, viewer) = server.agent(&acme, "Vic", "viewer").await;
    change(json!({ "name": "Eve" }), &viewer).await.expect(403);
    let globex = server.tenant("Globex").await;
    for call in [
        Call::get(&path),
        Call::get(format!("{path}/conversations")),
        Call::new(Method::PATCH, &path).json(json!({ "name": "Eve" })),
        Call::new(Method::POST, format!("{path}/block")),
        Call::new(Method::POST, format!("{path}/unblock")),
        Call::new(Method::DELETE, &path),
    ] {
        server.call(call.token(&globex.token)).await.expect(404);
    }
}

/// A blocked visitor writes no more, under no session of theirs, and nobody waits for them.
#[tokio::test]
async fn a_blocked_visitor_is_refused_until_unblocked() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let session = server.session(&acme, vouched(&server, &acme, "u", json!({ "initialMessage": "rude" }))).await;
    let (token, chat) = (text(&session["sessionToken"]), text(&session["conversationId"]));
    let after = server.session(&acme, json!({ "initialMessage": "patient" })).await;
    assert_eq!(after["queuePosition"], 2);
    let (_, viewer) = server.agent(&acme, "Vic", "viewer").await;
    server.call(post(&format!("/v1/conversations/{chat}/block"), &viewer)).await.expect(403);
    let blocked = server.call(post(&format!("/v1/conversations/{chat}/block"), &acme.token)).await.expect(200);
    assert_eq!((&blocked["status"], &blocked["queuePosition"]), (&json!("closed"), &Value::Null));
    let path = format!("/v1/conversations/{}", text(&after["conversationId"]));
    assert_eq!(server.call(Call::get(path).token(&acme.token)).await.expect(200)["queuePosition"], 1);

    let say = || Call::post("/v1/widget/events", json!({ "content": "ruder" })).token(&token);
    assert_eq!(server.call(say()).await.expect(403)["code"], "visitor_blocked");
    let track = Call::post("/v1/widget/track", json!({ "name": "x" })).token(&token);
    assert_eq!(server.call(track).await.expect(403)["code"], "visitor_blocked");
    server.call(Call::get("/v1/widget/conversation").token(&token)).await.expect(200);
    let start = || {
        let body = vouched(&server, &acme, "u", json!({}));
        server.call(Call::post("/v1/widget/session", body).header("x-chatbot-key", &acme.chatbot_key))
    };
    assert_eq!(start().await.expect(403)["code"], "visitor_blocked");
    let path = format!("/v1/visitors/{}", text(&session["visitorId"]));
    let again = server.call(post(&format!("{path}/block"), &acme.token)).await.expect(200);
    assert_eq!(again["blocked"], true);
    let free = server.call(post(&format!("{path}/unblock"), &acme.token)).await.expect(200);
    assert_eq!((&free["blocked"], &free["blockedAt"]), (&json!(false), &Value::Null));
    start().await.expect(201);
}

/// Within standby the same token comes back to the same conversation and thread; after it the thread is closed, the slot
/// free, and the conversation resolved by the system.
#[tokio::test]
async fn a_visitor_comes_back_within_standby_and_not_after() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let session = server.session(&acme, json!({ "initialMessage": "hi" })).await;
    let (token, chat) = (text(&session["sessionToken"]), text(&session["conversationId"]));
    let waiting = text(&server.session(&acme, json!({})).await["conversationId"]);
    let taken = server.call(post(&format!("/v1/conversations/{chat}/take"), &acme.token)).await.expect(200);
    server.pass(9 * 60).await;
    let back = server.call(Call::get("/v1/widget/conversation").token(&token)).await.expect(200);
    assert_eq!(back["conversation"]["activeThreadId"], taken["activeThreadId"]);
    server.pass(9 * 60).await;
    assert_eq!(status(&server, &acme, &chat).await, "active", "coming back counts from there");
    server.pass(2 * 60).await;
    assert_eq!(status(&server, &acme, &chat).await, "resolved");
    assert_eq!(status(&server, &acme, &waiting).await, "pending", "nobody waits in it");
    let agent = server.call(Call::get(format!("/v1/agents/{}", acme.owner)).token(&acme.token)).await.expect(200);
    assert_eq!(agent["activeChats"], 0);
    let path = format!("/v1/conversations/{chat}/threads");
    let threads = server.call(Call::get(path).token(&acme.token)).await.expect(200);
    let last = threads["items"].as_array().expect("threads").last().expect("a thread").clone();
    assert_eq!((&last["closedReason"], &last["closedBy"]), (&json!("standby_expired"), &json!("system")));
    // The token still holds: writing reopens with a new thread.
    let say = Call::post("/v1/widget/events", json!({ "content": "I am back" })).token(&token);
    assert_ne!(server.call(say).await.expect(201)["threadId"], last["id"]);
    assert_eq!(status(&server, &acme, &chat).await, "pending");
}

/// An agent whose socket has gone silent goes offline after a minute and the chats go back to the front of the queue; one
/// who never had a socket stays as set.
#[tokio::test]
async fn a_silent_agent_goes_offline_and_the_chats_go_back() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (bob, bob_token) = server.agent(&acme, "Bob", "agent").await;
    let (cleo, cleo_token) = server.agent(&acme, "Cleo", "agent").await;
    for (id, token) in [(&bob, &bob_token), (&cleo, &cleo_token)] {
        let online = Call::new(Method::PUT, format!("/v1/agents/{id}/status")).json(json!({ "status": "online" }));
        server.call(online.token(token)).await.expect(200);
    }
    let first = server.session(&acme, json!({ "initialMessage": "first" })).await;
    let (chat, visitor) = (text(&first["conversationId"]), text(&first["sessionToken"]));
    server.call(post(&format!("/v1/conversations/{chat}/take"), &bob_token)).await.expect(200);
    server.session(&acme, json!({ "initialMessage": "second" })).await;
    let (tenant, person) = (acme.id.parse().expect("id"), chat_api::live::Person::Agent(bob.parse().expect("id")));
    server.app.presence.heard(tenant, person);
    server.pass(59).await;
    let status = |id: &str| {
        let call = Call::get(format!("/v1/agents/{id}")).token(&acme.token);
        async { server.call(call).await.expect(200)["status"].clone() }
    };
    assert_eq!(status(&bob).await, "online");
    server.pass(2).await;
    assert_eq!((status(&bob).await, status(&cleo).await), (json!("offline"), json!("online")));
    let now = server.call(Call::get("/v1/widget/conversation").token(&visitor)).await.expect(200);
    assert_eq!((&now["conversation"]["status"], &now["conversation"]["queuePosition"]), (&json!("pending"), &json!(1)));
}

/// Every file under `dir` that has one of these words in it, in any case.
fn files_with(dir: &Path, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, words));
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file").to_ascii_lowercase();
        let has = |word: &&&str| bytes.windows(word.len()).any(|window| window == word.to_ascii_lowercase().as_bytes());
        found.extend(words.iter().find(has).map(|word| format!("{}: {word}", path.display())));
    }
    found
}

/// Erasing leaves nothing that could be read: not the words, not the address, not the keys they were sealed under.
#[tokio::test]
async fn an_erased_person_is_nowhere() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body =
        json!({ "name": "Zebulon Quick", "email": "zebulon@quick.example", "initialMessage": "my xylophone broke" });
    let anonymous = server.session(&acme, body).await;
    let (old, chat) = (text(&anonymous["sessionToken"]), text(&anonymous["conversationId"]));
    let identify = Call::post("/v1/widget/identify", vouched(&server, &acme, "zebulon-42", json!({}))).token(&old);
    let identified = server.call(identify).await.expect(200);
    let (token, id) = (text(&identified["sessionToken"]), text(&identified["visitorId"]));
    server.call(Call::post("/v1/widget/events", json!({ "content": "and my harp" })).token(&token)).await.expect(201);
    let path = format!("/v1/visitors/{id}");
    let key_rows = |ids: &[&str]| {
        let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.parse().expect("an id")).collect();
        let count = |c: &rusqlite::Connection| {
            let mut rows = 0_i64;
            for id in &ids {
                let sql = "SELECT count(*) FROM person_keys WHERE person = ?1";
                rows += c.query_row(sql, [id.as_bytes()], |row| row.get::<_, i64>(0))?;
            }
            Ok(rows)
        };
        server.app.pool.read(count).expect("reads")
    };
    let source = text(&anonymous["visitorId"]);
    assert_eq!(key_rows(&[&id, &source]), 2);
    let wrapped: Vec<Vec<u8>> = [&id, &source]
        .map(|id| {
            let id: uuid::Uuid = id.parse().expect("an id");
            let sql = "SELECT wrapped FROM person_keys WHERE person = ?1";
            server.app.pool.read(|c| c.query_row(sql, [id.as_bytes()], |row| row.get(0))).expect("a key")
        })
        .to_vec();
    let (_, supervisor) = server.agent(&acme, "Sue", "supervisor").await;
    server.call(Call::new(Method::DELETE, &path).token(&supervisor)).await.expect(403);

    let erased = server.call(Call::new(Method::DELETE, &path).token(&acme.token)).await.expect(200);
    assert!(erased["erasedAt"].is_string() && erased["name"].is_null() && erased["email"].is_null(), "{erased}");
    let words = ["zebulon", "quick.example", "xylophone", "my harp"];
    assert_eq!(files_with(server.data_dir(), &words), [""; 0]);
    for key in &wrapped {
        for name in ["parlance.db", "parlance.db-wal"] {
            let bytes = std::fs::read(server.data_dir().join(name)).unwrap_or_default();
            assert!(!bytes.windows(key.len()).any(|window| window == key), "a destroyed key lies in {name}");
        }
    }
    assert_eq!(key_rows(&[&id, &source]), 0);
    for token in [&old, &token] {
        server.call(Call::get("/v1/widget/conversation").token(token)).await.expect(401);
    }
    let page = format!("/v1/threads/{}/events", text(&anonymous["threadId"]));
    let history = server.call(Call::get(page).token(&acme.token)).await;
    assert!(words.iter().all(|word| !history.text.to_lowercase().contains(word)), "{}", history.text);
    assert_eq!(
        history.expect(200)["items"].as_array().map(Vec::len),
        Some(5),
        "what happened stays, without its words"
    );
    assert_eq!(status(&server, &acme, &chat).await, "closed");
    let found = server.call(Call::get("/v1/visitors?q=zebulon@quick.example").token(&acme.token)).await.expect(200);
    assert_eq!(found["items"], json!([]));
    // Again is fine; and the person may come back, as someone new.
    server.call(Call::new(Method::DELETE, &path).token(&acme.token)).await.expect(200);
    let back = server.session(&acme, vouched(&server, &acme, "zebulon-42", json!({}))).await;
    assert_ne!(text(&back["visitorId"]), id);
    let replayed = server.replayed_state_hash();
    assert_eq!(server.app.pool.read(state_hash).expect("a hash"), replayed, "a rebuild gives the same state");
}
