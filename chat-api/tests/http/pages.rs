//! Every list by its pages: whatever its items weigh, all pages together are the list, and none weighs more than a page may. The
//! lists are those of the API's own document, so a new one is in the table or fails here.

use crate::support::{Call, OPERATOR, Server, Tenant, next_millisecond, text};
use axum::http::Method;
use chat_api::http::routes;
use chat_api::http::surface::document;
use ingest::sqlite::PAGE_BYTES_MAX;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What stands around a page's items: an envelope, and in the widget's the conversation with its last message.
const AROUND_BYTES_MAX: usize = 100_000;

fn emoji(count: usize) -> String {
    "😀".repeat(count)
}

/// A list, as it's walked.
struct List {
    /// With a visitor's, the operator's or the owner's token.
    token: String,
    path: String,
    /// What must be in it, at least.
    items_min: usize,
    /// Its items are so large that a page ends by bytes.
    is_heavy: bool,
}

/// A tenant with something in every list.
struct World {
    server: Server,
    acme: Tenant,
    visitor: String,
    ids: BTreeMap<&'static str, String>,
}

impl World {
    async fn post(&self, path: &str, body: Value) -> Value {
        let reply = self.server.call(Call::post(path, body).token(&self.acme.token)).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.text);
        reply.json
    }

    async fn new() -> Self {
        let server = Server::start();
        let acme = server.tenant("Acme").await;
        let session = server.session(&acme, json!({ "initialMessage": "Hello" })).await;
        let ids = BTreeMap::from([("chat", text(&session["conversationId"])), ("thread", text(&session["threadId"]))]);
        let mut world = Self { server, acme, visitor: text(&session["sessionToken"]), ids };
        world.configure().await;
        world.talk().await;
        world
    }

    async fn configure(&self) {
        for number in 0..40 {
            let name = format!("n{number}");
            self.post("/v1/groups", json!({ "name": name, "description": emoji(2_000) })).await;
            self.post("/v1/tags", json!({ "name": name })).await;
            self.post("/v1/roles", json!({ "name": name, "permissions": ["conversations:read"] })).await;
            let texts = json!({ "name": name, "greeting": emoji(2_000), "waitingText": emoji(2_000) });
            self.post("/v1/chatbots", texts).await;
        }
        for number in 0..8 {
            let canned = json!({ "shortcut": format!("n{number}"), "text": emoji(20_000) });
            self.post("/v1/canned-responses", canned).await;
            let skills: Vec<String> = (0..100).map(|skill| format!("{skill}{}", emoji(190))).collect();
            let (agent, _) = self.server.agent(&self.acme, &format!("a{number}"), "agent").await;
            let change = Call::patch(format!("/v1/agents/{agent}"), json!({ "skills": skills }));
            self.server.call(change.token(&self.acme.token)).await.expect(200);
            self.server.tenant(&format!("T{number}")).await;
        }
        for number in 0..60 {
            let about = json!({ "name": format!("v{number}"), "metadata": { "about": emoji(1_900) } });
            self.server.session(&self.acme, about).await;
            next_millisecond().await;
        }
    }

    /// A long conversation of many threads, and several of one visitor.
    async fn talk(&mut self) {
        let (chat, thread) = (self.ids["chat"].clone(), self.ids["thread"].clone());
        for number in 0..12 {
            self.post(&format!("/v1/conversations/{chat}/take"), json!({})).await;
            let kind = if number % 3 == 0 { "note" } else { "message" };
            let said = json!({ "type": kind, "content": emoji(20_000) });
            self.post(&format!("/v1/threads/{thread}/events"), said).await;
            for action in ["unassign", "take", "resolve", "reopen"] {
                self.post(&format!("/v1/conversations/{chat}/{action}"), json!({})).await;
            }
        }
        let session = self.server.session(&self.acme, json!({ "initialMessage": emoji(20_000) })).await;
        let mut token = text(&session["sessionToken"]);
        let mut chat = text(&session["conversationId"]);
        for _ in 0..6 {
            self.post(&format!("/v1/conversations/{chat}/close"), json!({})).await;
            let again = Call::post("/v1/widget/events", json!({ "content": emoji(20_000) })).token(&token);
            let said = self.server.call(again).await;
            token = said.header("x-session-token").unwrap_or(&token).to_owned();
            chat = text(&said.expect(201)["conversationId"]);
            next_millisecond().await;
        }
        self.ids.insert("visitor", text(&session["visitorId"]));
        self.ids.insert("returned", token);
    }

    /// How a route's list is walked; `None` where a route has none.
    fn list(&self, path: &str) -> Option<List> {
        let (chat, thread, visitor) = (&self.ids["chat"], &self.ids["thread"], &self.ids["visitor"]);
        let owner = |path: &str, items_min, is_heavy| {
            Some(List { token: self.acme.token.clone(), path: path.to_owned(), items_min, is_heavy })
        };
        match path {
            "/v1/agents" => owner(path, 9, true),
            "/v1/audit" => owner(path, 150, false),
            "/v1/canned-responses" => owner(path, 8, true),
            "/v1/chatbots" => owner(path, 41, true),
            "/v1/conversations" => owner(path, 68, true),
            "/v1/conversations/{id}/assignments" => owner(&format!("/v1/conversations/{chat}/assignments"), 24, false),
            "/v1/conversations/{id}/threads" => owner(&format!("/v1/conversations/{chat}/threads"), 13, false),
            "/v1/groups" => owner(path, 40, true),
            "/v1/roles" => owner(path, 40, false),
            "/v1/tags" => owner(path, 40, false),
            "/v1/threads/{id}/events" => owner(&format!("/v1/threads/{thread}/events"), 60, true),
            "/v1/visitors" => owner(path, 62, true),
            "/v1/visitors/{id}/conversations" => owner(&format!("/v1/visitors/{visitor}/conversations"), 7, true),
            "/v1/operator/tenants" => owner(path, 9, false).map(|list| List { token: OPERATOR.to_owned(), ..list }),
            "/v1/widget/conversation" => owner(path, 50, true).map(|list| List { token: self.visitor.clone(), ..list }),
            "/v1/widget/conversations" => {
                owner(path, 7, true).map(|list| List { token: self.ids["returned"].clone(), ..list })
            }
            _ => None,
        }
    }

    /// All pages: the items' ids, and how many pages there were.
    async fn walk(&self, list: &List, limit: usize) -> (Vec<String>, usize) {
        let (mut ids, mut pages, mut go_on) = (Vec::new(), 0, String::new());
        loop {
            let path = format!("{}?limit={limit}{go_on}", list.path);
            let reply = self.server.call(Call::new(Method::GET, path.clone()).token(&list.token)).await;
            let bytes = reply.bytes.len();
            let page = reply.expect(200);
            let by_seq = page.get("nextCursor").is_none();
            let items = page.get("items").or(page.get("events")).and_then(Value::as_array).expect("items");
            assert!(items.len() <= limit, "{path}: {}", items.len());
            assert!(items.len() <= 1 || bytes <= PAGE_BYTES_MAX + AROUND_BYTES_MAX, "{path}: {bytes} bytes");
            ids.extend(items.iter().map(|item| text(item.get("id").unwrap_or(&item["eventId"]))));
            pages += 1;
            assert!(pages < 1_000, "{path} doesn't end");
            go_on = match (by_seq, items.last(), page["nextCursor"].as_str()) {
                (true, Some(last), _) => format!("&after={}", last["seq"]),
                (false, _, Some(cursor)) => format!("&cursor={cursor}"),
                _ => return (ids, pages),
            };
        }
    }
}

/// The routes whose query has a `limit`, or whose answer goes on.
fn listed() -> BTreeSet<String> {
    let (list, _) = routes().take();
    let document = document(&list);
    let mut found = BTreeSet::new();
    for route in list.iter().filter(|route| route.method == "GET") {
        let operation = &document["paths"][route.path]["get"];
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let is_paged = parameters.into_iter().any(|parameter| parameter["name"] == "limit");
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        let shape = schema["$ref"].as_str().and_then(|place| document.pointer(place.trim_start_matches('#')));
        let goes_on = shape.unwrap_or(schema)["properties"].get("nextCursor").is_some();
        if is_paged || goes_on {
            found.insert(route.path.to_owned());
        }
    }
    found
}

#[tokio::test]
async fn all_pages_of_every_list_are_the_list() {
    let world = World::new().await;
    let mut lists = listed();
    assert!(lists.remove("/v1/permissions"), "what there is to permit is part of the program");
    for path in lists {
        let list = world.list(&path).unwrap_or_else(|| panic!("{path}: what is in it?"));
        let (all, pages) = world.walk(&list, 200).await;
        let (by_three, _) = world.walk(&list, 3).await;
        assert_eq!(all, by_three, "{path}: whatever the limit");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{path}: each once");
        assert!(all.len() >= list.items_min, "{path}: {} items", all.len());
        // By seq, the last page is empty.
        let by_number =
            all.len().div_ceil(200) + usize::from(path.ends_with("/events") || path == "/v1/widget/conversation");
        assert!(!list.is_heavy || pages > by_number, "{path}: {pages} pages of {} items", all.len());
    }
}

/// What has no pages is whole, however many parts it's made in.
#[tokio::test]
async fn lists_without_pages_are_whole() {
    let world = World::new().await;
    let (chat, token) = (&world.ids["chat"], &world.acme.token);
    let said = world.server.call(Call::get(format!("/chats/{chat}")).token(token)).await.expect(200);
    let words: Vec<usize> =
        said["messages"].as_array().expect("messages").iter().map(|word| text(word).len()).collect();
    assert_eq!(words, [vec![5], vec![80_000; 8]].concat(), "what was said, without notes");
    let mine = format!("/api/v1/user/{}/messages/{chat}", visitor_of(&world, chat).await);
    let same = world.server.call(Call::get(mine).token(&world.visitor)).await.expect(200);
    assert_eq!((&same["messages"], &same["conversation_id"]), (&said["messages"], &json!(chat)));

    let fixed: BTreeMap<String, String> = (0..40).map(|key| (format!("p{key}"), "x".repeat(4_000))).collect();
    let scopes = json!([{ "type": "PIPES:READ", "resource": "usage", "fixed_params": fixed }]);
    let mut names = Vec::new();
    for number in 0_usize..6 {
        let name = format!("token {number}");
        let made = world.post("/v0/tokens", json!({ "name": name, "scopes": scopes })).await;
        if number.is_multiple_of(2) {
            let revoke = Call::delete(format!("/v0/tokens/{}", text(&made["id"])));
            world.server.call(revoke.token(token)).await.expect(204);
        } else {
            names.push(name);
        }
    }
    let listed = world.server.call(Call::get("/v0/tokens").token(token)).await.expect(200);
    let listed: Vec<String> =
        listed["tokens"].as_array().expect("tokens").iter().map(|one| text(&one["name"])).collect();
    assert_eq!(listed, names, "those that aren't revoked");
    let revoke = Call::delete("/v0/tokens/token%201").token(token);
    world.server.call(revoke).await.expect(204);
    let again = Call::delete("/v0/tokens/token%201").token(token);
    world.server.call(again).await.expect(404);
    assert_eq!(world.server.app.limiter.reading.bytes(), 0, "what was read is taken");
}

async fn visitor_of(world: &World, chat: &str) -> String {
    let path = format!("/v1/conversations/{chat}");
    text(&world.server.call(Call::get(path).token(&world.acme.token)).await.expect(200)["visitorId"])
}
