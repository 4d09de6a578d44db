//! Visitors are seen and changed as their conversations are: by every route, in every list, through whatever names them.

use super::callers::{Caller, Ids, World, body, filled, id_of, is_for_agents, names, own_path, same_404, wants};
use super::visitors::vouched;
use crate::support::{Call, Reply, Server, Tenant, next_millisecond, text};
use axum::http::Method;
use chat_api::domain::ChatDomain;
use chat_api::http::routes;
use chat_api::store;
use ingest::id::ConversationId;
use ingest::payload::Permission;
use ingest::writer::Domain as _;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What is of a visitor, and so of the groups in which they are.
const OF_VISITORS: [&str; 4] = ["visitor", "chat", "thread", "file"];

async fn group(server: &Server, tenant: &Tenant, name: &str, members: &[&str]) -> String {
    let made = server.call(Call::post("/v1/groups", json!({ "name": name })).token(&tenant.token)).await.expect(201);
    let path = format!("/v1/groups/{}/agents", text(&made["id"]));
    server.call(Call::post(path, json!({ "agentIds": members })).token(&tenant.token)).await.expect(200);
    text(&made["id"])
}

/// Puts a conversation into a group.
async fn put(server: &Server, tenant: &Tenant, chat: &str, group: Value) {
    let call = Call::patch(format!("/v1/conversations/{chat}"), json!({ "groupId": group }));
    server.call(call.token(&tenant.token)).await.expect(200);
}

/// Everything of a visitor whose conversation is another group's answers as what never was, by every route that names
/// anything of theirs, to an agent who holds every other permission; and nothing changes.
#[tokio::test]
async fn every_route_about_another_groups_visitor() {
    let mut world = World::new().await;
    let acme = world.acme.clone();
    let elsewhere = group(&world.server, &acme, "Elsewhere", &[]).await;
    let caller = world.lacking(Permission::ConversationsReadAll).await;
    let mut wrong = Vec::new();
    let mut tried = 0;
    for route in &routes().take().0 {
        let about = names(route.path).into_iter().any(|name| OF_VISITORS.contains(&id_of(route.path, name)));
        if !about || !is_for_agents(route) {
            continue;
        }
        tried += 1;
        let (theirs, _) = world.fresh(&acme, &wants(route)).await;
        put(&world.server, &acme, &theirs["chat"], json!(elsewhere)).await;
        let mut unknown: Ids = theirs.clone();
        unknown.extend(OF_VISITORS.map(|name| (name, ConversationId::fresh().to_string())));
        let before = world.mark();
        let body = body(route).map(|body| filled(&body.to_string(), &theirs));
        let calls = [&theirs, &unknown].map(|ids| (own_path(route, ids), body.clone()));
        wrong.extend(same_404(&world, route, &caller, calls, "of another group").await.err());
        if world.mark() != before {
            wrong.push(format!("{} {}: something changed", route.method, route.path));
        }
    }
    assert!(tried > 25, "the routes are read: {tried}");
    assert!(wrong.is_empty(), "{} routes aren't so:\n{}", wrong.len(), wrong.join("\n"));
}

/// No list and no log names them either, whatever is asked for.
#[tokio::test]
async fn no_list_shows_another_groups_visitor() {
    let mut world = World::new().await;
    let acme = world.acme.clone();
    let elsewhere = group(&world.server, &acme, "Elsewhere", &[]).await;
    let caller = world.lacking(Permission::ConversationsReadAll).await;
    let started = json!({ "name": "Zebulon", "email": "zebulon@quick.example", "initialMessage": "xylophone" });
    let session = world.server.session(&acme, started).await;
    let visitor = text(&session["visitorId"]);
    let chat = text(&session["conversationId"]);
    let change = Call::patch(format!("/v1/visitors/{visitor}"), json!({ "name": "Zebulon Q" })).token(&acme.token);
    let readable = text(&world.server.call(change).await.expect(200)["readableId"]);
    put(&world.server, &acme, &chat, json!(elsewhere)).await;
    let call = async |path: &str| {
        let (name, value) = caller.credential.clone().expect("a token");
        world.server.call(Call::get(path).header(name, &value)).await
    };
    for query in ["", "?q=zebulon@quick.example", &format!("?q={readable}"), &format!("?q={visitor}"), "?q=Zebulon"] {
        for list in ["/v1/visitors", "/v1/conversations"] {
            let page = call(&format!("{list}{query}")).await;
            assert_eq!((page.status.as_u16(), &page.json["items"]), (200, &json!([])), "{list}{query}: {}", page.text);
        }
    }
    // That something was done stands in the audit log; to whom, by name, is for who sees them.
    let audit = call("/v1/audit").await;
    assert!(audit.text.contains(&visitor) && !audit.text.contains("Zebulon"), "{}", audit.text);
    let owners = world.server.call(Call::get("/v1/audit").token(&acme.token)).await;
    assert!(owners.text.contains("Zebulon Q"), "{}", owners.text);
    // An export has all groups' conversations.
    assert_eq!(call("/v1/export/conversations").await.expect(403)["code"], "forbidden");
}

/// An agent of one group, a visitor who has a conversation there and one elsewhere.
struct Two {
    server: Server,
    acme: Tenant,
    ann: String,
    visitor: String,
    here: String,
    there: String,
}

impl Two {
    async fn start() -> Self {
        let server = Server::start();
        let acme = server.tenant("Acme").await;
        let (id, ann) = server.agent(&acme, "Ann", "agent").await;
        let ours = group(&server, &acme, "Ours", &[&id]).await;
        let other = group(&server, &acme, "Other", &[]).await;
        let mut chats = Vec::new();
        let mut visitor = String::new();
        for (group, words) in [(&ours, "to ours"), (&other, "to others")] {
            let body = vouched(&server, &acme, "u", json!({ "groupId": group, "initialMessage": words }));
            let session = server.session(&acme, body).await;
            visitor = text(&session["visitorId"]);
            chats.push(text(&session["conversationId"]));
        }
        let there = chats.pop().expect("two");
        let here = chats.pop().expect("two");
        Self { server, acme, ann, visitor, here, there }
    }

    async fn ann(&self, method: Method, path: &str, body: Value) -> Reply {
        let path = path.replace("{visitor}", &self.visitor).replace("{here}", &self.here);
        self.server.call(Call::new(method, path).json(body).token(&self.ann)).await
    }

    async fn owner(&self, method: Method, path: String) -> Value {
        self.server.call(Call::new(method, path).token(&self.acme.token)).await.expect(200)
    }

    async fn status(&self, chat: &str) -> Value {
        self.owner(Method::GET, format!("/v1/conversations/{chat}")).await["status"].clone()
    }
}

/// One conversation shows the visitor, and no other of theirs; what is known of them may be changed. A block takes the right
/// to close all that it closes, by either route, and an erasure to see all that it destroys.
#[tokio::test]
async fn a_block_takes_what_closing_each_conversation_takes() {
    let two = Two::start().await;
    let shown = two.ann(Method::GET, "/v1/visitors/{visitor}", json!({})).await.expect(200);
    assert_eq!(shown["id"], json!(two.visitor));
    let chats = two.ann(Method::GET, "/v1/visitors/{visitor}/conversations", json!({})).await.expect(200);
    let ids: Vec<&Value> = chats["items"].as_array().expect("items").iter().map(|chat| &chat["id"]).collect();
    assert_eq!((ids, &chats["nextCursor"]), (vec![&json!(two.here)], &Value::Null));
    let named = two.ann(Method::PATCH, "/v1/visitors/{visitor}", json!({ "name": "Ada" })).await.expect(200);
    assert_eq!(named["name"], "Ada");

    for path in ["/v1/visitors/{visitor}/block", "/v1/conversations/{here}/block"] {
        assert_eq!(two.ann(Method::POST, path, json!({})).await.expect(403)["code"], "forbidden", "{path}");
    }
    assert_eq!((two.status(&two.here).await, two.status(&two.there).await), (json!("pending"), json!("pending")));
    assert_eq!(two.owner(Method::GET, format!("/v1/visitors/{}", two.visitor)).await["blocked"], false);
    // Once the other group is done with them, it's the agent's own to end.
    two.owner(Method::POST, format!("/v1/conversations/{}/resolve", two.there)).await;
    let blocked = two.ann(Method::POST, "/v1/visitors/{visitor}/block", json!({})).await.expect(200);
    assert_eq!(blocked["blocked"], true);
    assert_eq!((two.status(&two.here).await, two.status(&two.there).await), (json!("closed"), json!("resolved")));
    two.ann(Method::POST, "/v1/visitors/{visitor}/unblock", json!({})).await.expect(200);
}

/// What a colleague has in hand is theirs to end, unless one steers.
#[tokio::test]
async fn a_block_ends_no_conversation_that_a_colleague_has() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (_, ann) = server.agent(&acme, "Ann", "agent").await;
    let (_, bob) = server.agent(&acme, "Bob", "agent").await;
    let (_, sue) = server.agent(&acme, "Sue", "supervisor").await;
    let session = server.session(&acme, json!({ "initialMessage": "rude" })).await;
    let chat = format!("/v1/conversations/{}", text(&session["conversationId"]));
    let visitor = format!("/v1/visitors/{}", text(&session["visitorId"]));
    let post = |path: String, token: &str| server.call(Call::new(Method::POST, path).token(token));
    post(format!("{chat}/take"), &bob).await.expect(200);
    let end = server.app.writer.reader().end();
    for path in [format!("{chat}/close"), format!("{chat}/block"), format!("{visitor}/block")] {
        assert_eq!(post(path.clone(), &ann).await.expect(403)["code"], "forbidden", "{path}");
    }
    assert_eq!(server.app.writer.reader().end(), end, "nothing was written");
    post(format!("{visitor}/block"), &sue).await.expect(200);
    let shown = server.call(Call::get(&chat).token(&acme.token)).await.expect(200);
    assert_eq!(shown["status"], "closed");
}

/// Erasing destroys every word of a person: it takes seeing every conversation of theirs.
#[tokio::test]
async fn an_erasure_takes_all_conversations_of_the_person() {
    let two = Two::start().await;
    let role = json!({ "name": "Eraser", "permissions":
        ["conversations:read", "conversations:reply", "visitors:read", "visitors:erase"] });
    let role = Call::post("/v1/roles", role).token(&two.acme.token);
    let role = text(&two.server.call(role).await.expect(201)["id"]);
    let (id, eve) = two.server.agent(&two.acme, "Eve", &role).await;
    let erase = || two.server.call(Call::delete(format!("/v1/visitors/{}", two.visitor)).token(&eve));
    erase().await.expect(404);
    let join = |group: &str| {
        let call = Call::post(format!("/v1/groups/{group}/agents"), json!({ "agentIds": [id] }));
        two.server.call(call.token(&two.acme.token))
    };
    let groups = two.owner(Method::GET, "/v1/groups".to_owned()).await;
    let groups: Vec<String> = groups["items"].as_array().expect("items").iter().map(|one| text(&one["id"])).collect();
    join(&groups[0]).await.expect(200);
    assert_eq!(erase().await.expect(403)["code"], "forbidden");
    assert_eq!(two.owner(Method::GET, format!("/v1/visitors/{}", two.visitor)).await["erasedAt"], Value::Null);
    join(&groups[1]).await.expect(200);
    assert!(erase().await.expect(200)["erasedAt"].is_string());
}

/// The visitors that an agent's list shows, page by page of `limit`; every page but the last is full.
async fn listed(server: &Server, token: &str, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut query = String::new();
    loop {
        let path = format!("/v1/visitors?limit={limit}{query}");
        let page = server.call(Call::get(path).token(token)).await.expect(200);
        let items = page["items"].as_array().expect("items");
        ids.extend(items.iter().map(|item| text(&item["id"])));
        let Some(cursor) = page["nextCursor"].as_str() else { return ids };
        assert_eq!(items.len(), limit, "a page is full");
        query = format!("&cursor={cursor}");
    }
}

/// Pages are full and in order however many visitors of others lie between, and follow what moves: transfers, assignments,
/// merges, erasures. A replay of the log gives the same.
#[tokio::test]
async fn pages_of_visitors_are_full_and_follow_the_conversations() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (ann_id, ann) = server.agent(&acme, "Ann", "agent").await;
    let ours = group(&server, &acme, "Ours", &[&ann_id]).await;
    let other = group(&server, &acme, "Other", &[]).await;
    let mut all = Vec::new();
    for number in 0..20 {
        let groups = [Some(&ours), Some(&other), Some(&other), None];
        let body = json!({ "groupId": groups[number % 4], "initialMessage": "hi" });
        let session = server.session(&acme, body).await;
        all.push((text(&session["visitorId"]), text(&session["conversationId"]), text(&session["sessionToken"])));
        next_millisecond().await;
    }
    let expect = async |numbers: &BTreeSet<usize>, when: &str| {
        let newest_first: Vec<String> = numbers.iter().rev().map(|number| all[*number].0.clone()).collect();
        for limit in [1, 2, 3, 200] {
            assert_eq!(listed(&server, &ann, limit).await, newest_first, "{when}, {limit} a page");
        }
        for (number, (visitor, ..)) in all.iter().enumerate() {
            let shown = server.call(Call::get(format!("/v1/visitors/{visitor}")).token(&ann)).await;
            let expected = if numbers.contains(&number) { 200 } else { 404 };
            assert_eq!(shown.status.as_u16(), expected, "{when}: {number}: {}", shown.text);
        }
    };
    let mut seen: BTreeSet<usize> = (0..20).filter(|number| matches!(number % 4, 0 | 3)).collect();
    expect(&seen, "at first").await;
    assert_eq!(listed(&server, &acme.token, 7).await.len(), 20);

    let send = |path: String, body: Value| server.call(Call::post(path, body).token(&acme.token));
    send(format!("/v1/conversations/{}/transfer", all[1].1), json!({ "groupId": ours })).await.expect(200);
    send(format!("/v1/conversations/{}/transfer", all[4].1), json!({ "groupId": other })).await.expect(200);
    send(format!("/v1/conversations/{}/assign", all[6].1), json!({ "agentId": ann_id })).await.expect(200);
    send(format!("/v1/conversations/{}/assign", all[9].1), json!({ "agentId": ann_id })).await.expect(200);
    send(format!("/v1/conversations/{}/assign", all[9].1), json!({ "agentId": acme.owner })).await.expect(200);
    seen.extend([1, 6]);
    seen.remove(&4);
    expect(&seen, "after transfers and assignments").await;

    // A second conversation in the own group, then the only one; who is seen by two isn't lost with one.
    let identify = async |number: usize| {
        let body = vouched(&server, &acme, "same", json!({}));
        let call = Call::post("/v1/widget/identify", body).token(&all[number].2);
        text(&server.call(call).await.expect(200)["visitorId"])
    };
    let target = identify(0).await;
    assert_eq!(identify(2).await, target);
    for number in [0, 2] {
        seen.remove(&number);
    }
    let mut ids: Vec<String> = seen.iter().rev().map(|number| all[*number].0.clone()).collect();
    ids.insert(0, target.clone());
    assert_eq!(listed(&server, &ann, 2).await, ids, "after a merge");
    // Whoever was merged is seen as the one they turned out to be.
    server.call(Call::get(format!("/v1/visitors/{}", all[2].0)).token(&ann)).await.expect(200);
    send(format!("/v1/conversations/{}/transfer", all[2].1), json!({ "groupId": ours })).await.expect(200);
    send(format!("/v1/conversations/{}/transfer", all[0].1), json!({ "groupId": other })).await.expect(200);
    assert_eq!(listed(&server, &ann, 2).await, ids, "the other conversation is ours now");
    send(format!("/v1/conversations/{}/transfer", all[2].1), json!({ "groupId": other })).await.expect(200);
    ids.remove(0);
    assert_eq!(listed(&server, &ann, 2).await, ids, "and none is");
    server.call(Call::delete(format!("/v1/visitors/{}", all[3].0)).token(&acme.token)).await.expect(200);
    ids.retain(|id| *id != all[3].0);
    assert_eq!(listed(&server, &ann, 2).await, ids, "after an erasure");
    server.call(Call::get(format!("/v1/visitors/{}", all[3].0)).token(&ann)).await.expect(200);
    assert_eq!(access(&server), replayed(&server), "a rebuild gives the same table");
}

/// Who sees whom, as it's stored.
fn rows(connection: &Connection) -> rusqlite::Result<Vec<(String, String, Option<i64>)>> {
    let sql = "SELECT hex(visitor), hex(grantee), created_at FROM visitor_access ORDER BY visitor, grantee";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

fn access(server: &Server) -> Vec<(String, String, Option<i64>)> {
    server.app.pool.read(rows).expect("rows")
}

/// The same from the log, saved after each event, and made anew over the conversations as an upgrade does.
fn replayed(server: &Server) -> Vec<(String, String, Option<i64>)> {
    let target = Connection::open_in_memory().expect("a database");
    store::create_tables(&target).expect("tables");
    let mut domain = ChatDomain::default();
    let reader = server.app.writer.reader();
    let mut next = 0;
    while next < reader.end() {
        for record in reader.read(next, 100).expect("the log") {
            domain.replay(&target, &record.event).expect("applies");
            domain.flush(&target).expect("saves");
            domain.discard();
            next = record.offset + 1;
        }
    }
    let replayed = rows(&target).expect("rows");
    target.execute_batch("DROP TABLE visitor_access").expect("dropped");
    store::create_tables(&target).expect("tables");
    assert_eq!(rows(&target).expect("rows"), replayed, "an upgrade fills the table");
    replayed
}

/// A repeat shows what its sender sees now: who has passed a conversation on isn't told what became of it.
#[tokio::test]
async fn a_repeat_shows_what_its_sender_sees_now() {
    let two = Two::start().await;
    let other = two.owner(Method::GET, format!("/v1/conversations/{}", two.there)).await["groupId"].clone();
    let body = json!({ "groupId": other });
    let pass_on = || {
        let call = Call::post(format!("/v1/conversations/{}/transfer", two.here), body.clone());
        two.server.call(call.token(&two.ann).key("once"))
    };
    assert_eq!(pass_on().await.expect(200)["groupId"], other);
    pass_on().await.expect(404);
    let rename = Call::patch(format!("/v1/visitors/{}", two.visitor), json!({ "name": "X" })).token(&two.ann);
    two.server.call(rename).await.expect(404);
}

/// What is imported in a visitor's name would open what is known of them to whoever imports it.
#[tokio::test]
async fn an_import_opens_no_visitor_of_another_group() {
    let mut world = World::new().await;
    let acme = world.acme.clone();
    let elsewhere = group(&world.server, &acme, "Elsewhere", &[]).await;
    let stranger = world.lacking(Permission::ConversationsReadAll).await;
    let line = |id: &str, resolved: bool| {
        let message = json!({ "at": "2020-05-12T17:44:40Z", "from": "visitor", "text": "hi" });
        let visitor = json!({ "id": "v", "name": "Zebulon" });
        json!({ "id": id, "visitor": visitor, "resolved": resolved, "messages": [message] }).to_string()
    };
    let import = async |line: String, caller: &Caller| {
        let (name, value) = caller.credential.clone().expect("a token");
        let call = Call::new(Method::POST, "/v1/import/conversations").raw(line).header(name, &value);
        world.server.call(call).await.expect(200)
    };
    assert_eq!(import(line("one", true), &Caller::owner(&acme)).await["imported"], 1);
    let listed = world.server.call(Call::get("/v1/conversations").token(&acme.token)).await.expect(200);
    put(&world.server, &acme, &text(&listed["items"][0]["id"]), json!(elsewhere)).await;
    let refused = import(line("two", true), &stranger).await;
    assert_eq!((&refused["imported"], &refused["quarantined"][0]["code"]), (&json!(0), &json!("not_found")));
    assert_eq!(import(line("two", true), &Caller::owner(&acme)).await["imported"], 1);
    // Whom everyone sees already isn't opened by it.
    assert_eq!(import(line("three", true), &stranger).await["imported"], 1);
}
