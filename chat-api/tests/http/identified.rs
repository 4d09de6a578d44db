//! What a token from before `identify` is good for after it, on every route a visitor has; and what was sent before and
//! comes again after.

use crate::support::{Call, Reply, Server, Tenant, text};
use crate::visitors::vouched;
use axum::http::Method;
use chat_api::auth::tokens;
use chat_api::http::routes;
use chat_api::http::surface::{Route, Way};
use ingest::time::Timestamp;
use serde_json::{Value, json};

const FORM: &str =
    "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nHello\r\n--XX--\r\n";

struct Story {
    server: Server,
    acme: Tenant,
    /// From before.
    old: String,
    /// What identify answered.
    new: String,
    chat: String,
    file: String,
    visitor: String,
}

/// Somebody writes on a shared browser and is identified there.
async fn story() -> Story {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let session = server.session(&acme, json!({ "name": "Ann", "initialMessage": "anonymous words" })).await;
    let (old, chat) = (text(&session["sessionToken"]), text(&session["conversationId"]));
    let sent = server.call(form("/v1/widget/files", &old)).await.expect(201);
    let body = vouched(&server, &acme, "u", json!({ "name": "Quintessa", "email": "quintessa@mail.example" }));
    let identified = server.call(Call::post("/v1/widget/identify", body).token(&old)).await.expect(200);
    let new = text(&identified["sessionToken"]);
    let visitor = text(&identified["visitorId"]);
    Story { server, acme, old, new, chat, file: text(&sent["file"]["id"]), visitor }
}

fn form(path: &str, token: &str) -> Call {
    Call::new(Method::POST, path).token(token).header("content-type", "multipart/form-data; boundary=XX").raw(FORM)
}

impl Story {
    async fn say(&self, token: &str, words: &str) -> Reply {
        self.server.call(Call::post("/v1/widget/events", json!({ "content": words })).token(token)).await
    }

    async fn act(&self, action: &str) {
        let path = format!("/v1/conversations/{}/{action}", self.chat);
        self.server.call(Call::new(Method::POST, path).token(&self.acme.token)).await.expect(200);
    }

    /// A route as a visitor calls it with a token.
    fn call(&self, route: &Route, token: &str) -> Call {
        let path = route.path.replace("{id}", &self.file).replace("{chat_id}", &self.chat);
        let path = path.replace("{user_id}", &self.visitor).replace("{conversation_id}", &self.chat);
        let body = match (route.method, route.path) {
            ("GET", _) | ("POST", "/v1/widget/end" | "/v1/widget/typing") => None,
            ("POST", "/v1/widget/files") => return form(&path, token),
            ("POST", "/v1/widget/identify") => Some(vouched(&self.server, &self.acme, "somebody else", json!({}))),
            ("POST", "/v1/widget/track") => Some(json!({ "name": "opened" })),
            ("POST", "/v1/widget/events") => Some(json!({ "content": "as Quintessa" })),
            ("POST", "/v1/widget/rating") => Some(json!({ "score": 1 })),
            ("POST", "/v1/widget/read") => Some(json!({ "seq": 1 })),
            ("POST", "/api/v1/messages") => {
                Some(json!({ "conversation_id": self.chat, "user_id": self.visitor, "message": "as Quintessa" }))
            }
            (method, path) => panic!("{method} {path}: how is it called?"),
        };
        let call = Call::new(route.method.parse().expect("a method"), path).token(token);
        match body {
            Some(body) => call.json(body),
            None => call,
        }
    }
}

fn visitors_routes() -> Vec<Route> {
    let (list, _) = routes().take();
    // What is no socket gets no further there; sockets have tests of their own.
    let theirs = |route: &Route| route.who.contains(&Way::Visitor) && route.path != "/v1/realtime";
    let list: Vec<Route> = list.into_iter().filter(theirs).collect();
    assert!(list.len() >= 14, "there are {}", list.len());
    list
}

/// Every route of a visitor's by the old token: it reads what it could read while that goes on, learns no name or address,
/// writes nothing, listens to nothing, and gets no token; at the conversation's end it's over, also if that goes on.
#[tokio::test]
async fn a_token_from_before_only_reads_its_own_until_that_ends() {
    let story = story().await;
    story.say(&story.new, "words of Quintessa").await.expect(201);
    let mark = || story.server.app.writer.reader().end();
    let before = mark();
    for route in visitors_routes() {
        let reply = story.server.call(story.call(&route, &story.old)).await;
        let found = (reply.status.as_u16(), reply.json["code"].as_str().unwrap_or_default());
        let place = format!("{} {}: {found:?} {}", route.method, route.path, reply.text);
        match (route.method, route.path) {
            ("GET", "/v1/widget/events/stream") => assert_eq!(found, (401, "unauthorized"), "{place}"),
            ("GET", _) => assert_eq!(found.0, 200, "{place}"),
            ("POST", "/v1/widget/identify") => assert_eq!(found, (409, "identified_as_other"), "{place}"),
            _ => assert_eq!(found, (403, "session_superseded"), "{place}"),
        }
        for word in ["Quintessa", "quintessa@mail.example"] {
            let said = reply.text.replace("words of Quintessa", "");
            assert!(!said.contains(word), "{place}");
        }
        assert_eq!(reply.header("x-session-token"), None, "{place}");
    }
    assert_eq!(mark(), before, "nothing was written");

    // The identified visitor goes on, on another device and in a conversation of its own.
    let body = vouched(&story.server, &story.acme, "u", json!({ "initialMessage": "elsewhere" }));
    let elsewhere = story.server.session(&story.acme, body).await;
    let listed = story.server.call(Call::get("/v1/widget/conversations").token(&story.old)).await;
    assert!(listed.text.contains(&story.chat) && !listed.text.contains("elsewhere"), "{}", listed.text);
    let path = format!("/chats/{}", text(&elsewhere["conversationId"]));
    story.server.call(Call::get(path).token(&story.old)).await.expect(404);

    // It ends, and goes on with the token that identify answered, in another conversation.
    story.act("close").await;
    let next = story.say(&story.new, "what comes later").await;
    assert!(next.header("x-session-token").is_some());
    assert_ne!(text(&next.expect(201)["conversationId"]), story.chat);
    for route in visitors_routes() {
        let reply = story.server.call(story.call(&route, &story.old)).await;
        assert_eq!(reply.status, 401, "{} {}: {}", route.method, route.path, reply.text);
        assert_eq!(reply.header("x-session-token"), None);
    }
}

/// A resolved conversation that is taken up again is something that comes later.
#[tokio::test]
async fn a_conversation_that_is_taken_up_again_has_ended_for_the_old_token() {
    let story = story().await;
    let read = || story.server.call(Call::get("/v1/widget/conversation").token(&story.old));
    // Who answers is no end.
    story.act("take").await;
    read().await.expect(200);
    story.act("resolve").await;
    read().await.expect(401);
    story.say(&story.new, "what comes later").await.expect(201);
    read().await.expect(401);
    story.server.call(Call::get("/v1/widget/conversation").token(&story.new)).await.expect(200);
}

/// Old tokens are renewed as long as they are somebody's own, and never into the identified visitor's.
#[tokio::test]
async fn an_old_token_is_not_renewed() {
    let story = story().await;
    let keys = &story.server.app.key_file;
    let claims = tokens::open_visitor(keys, &story.old).expect("a token");
    let almost_over = Timestamp::now().plus_ms(-23 * 60 * 60 * 1_000);
    let nearly = |subject| {
        let (conversation, chatbot) = (claims.conversation, claims.chatbot);
        tokens::sign_visitor(keys, claims.tenant, subject, conversation, chatbot, almost_over, 24).expect("signs").0
    };
    let user = story.visitor.parse().expect("an id");
    for (subject, renewed) in [(claims.sub, false), (user, true)] {
        for path in ["/v1/widget/conversation".to_owned(), format!("/chats/{}", story.chat)] {
            let reply = story.server.call(Call::get(path).token(&nearly(subject))).await;
            assert_eq!(reply.header("x-session-token").is_some(), renewed, "{}", reply.text);
            reply.expect(200);
        }
    }
}

/// Two browsers of one person: each old token reads its own.
#[tokio::test]
async fn two_who_turn_out_to_be_one_keep_apart_what_they_hold() {
    let story = story().await;
    let other = story.server.session(&story.acme, json!({ "name": "Bob", "initialMessage": "other words" })).await;
    let token = text(&other["sessionToken"]);
    let body = vouched(&story.server, &story.acme, "u", json!({}));
    story.server.call(Call::post("/v1/widget/identify", body).token(&token)).await.expect(200);
    let theirs = text(&other["conversationId"]);
    let chats = async |token: &str| {
        let listed = story.server.call(Call::get("/v1/widget/conversations").token(token)).await.expect(200);
        let mut ids: Vec<String> =
            listed["items"].as_array().expect("items").iter().map(|chat| text(&chat["id"])).collect();
        ids.sort();
        ids
    };
    assert_eq!(chats(&story.old).await, std::slice::from_ref(&story.chat));
    assert_eq!(chats(&token).await, std::slice::from_ref(&theirs));
    let mut both = [story.chat.clone(), theirs];
    both.sort();
    assert_eq!(chats(&story.new).await, both);
}

/// What a visitor sent before they were identified, and sends again after, by either token, is the first one.
#[tokio::test]
async fn a_retry_across_identify_gives_the_first_outcome() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let session = server.session(&acme, json!({ "initialMessage": "hi" })).await;
    let old = text(&session["sessionToken"]);
    let sends: Vec<Call> = vec![
        Call::post("/v1/widget/events", json!({ "content": "once", "clientId": "c1" })),
        Call::post("/v1/widget/events", json!({ "content": "once by key" })).key("key-of-a-message"),
        form("/v1/widget/files", "").key("key-of-a-file"),
        Call::post("/v1/widget/track", json!({ "name": "opened" })).key("key-of-a-track"),
        Call::post("/v1/widget/read", json!({ "seq": 2 })).key("key-of-a-position"),
        Call::post("/v1/widget/rating", json!({ "score": 5 })).key("key-of-a-rating"),
    ];
    let send = |call: &Call, token: &str| server.call(call.clone().only_token(token));
    let mut first = Vec::new();
    for call in &sends {
        let reply = send(call, &old).await;
        assert!(reply.status.is_success(), "{}", reply.text);
        first.push(reply.json);
    }
    let body = vouched(&server, &acme, "u", json!({}));
    let identified = server.call(Call::post("/v1/widget/identify", body).token(&old)).await.expect(200);
    let new = text(&identified["sessionToken"]);
    let end = server.app.writer.reader().end();
    for token in [&new, &old] {
        for (call, first) in sends.iter().zip(&first) {
            let reply = send(call, token).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            assert_eq!(reply.json["id"], first["id"], "the same one: {}", reply.text);
        }
    }
    assert_eq!(server.app.writer.reader().end(), end, "nothing was written twice");
    let other = Call::post("/v1/widget/events", json!({ "content": "another", "clientId": "c1" }));
    assert_eq!(send(&other, &new).await.expect(422)["code"], "idempotency_mismatch");
    // A renewed token still knows, and so does one for the conversation that this one went on to.
    let path = format!("/v1/conversations/{}/close", text(&session["conversationId"]));
    server.call(Call::new(Method::POST, path).token(&acme.token)).await.expect(200);
    let next = send(&Call::post("/v1/widget/events", json!({ "content": "later" })), &new).await;
    let later = next.header("x-session-token").expect("a token").to_owned();
    assert_eq!(send(&sends[0], &later).await.json["id"], first[0]["id"]);
    let count = |page: &Value| page["events"].as_array().expect("events").len();
    let page = server.call(Call::get("/v1/widget/conversation").token(&later)).await.expect(200);
    assert_eq!(count(&page), 3, "started, said, waiting: {page}");
}
