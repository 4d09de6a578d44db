//! What every signed-in person sees, whatever they may: every `GET` route by one who holds nothing, against the list in
//! docs/SECURITY.md, which is kept short.

use super::callers::{World, own_path, wants};
use crate::support::{Call, PASSWORD, Server, Tenant, text};
use chat_api::http::routes;
use chat_api::http::surface::{Route, Way};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SECURITY.md");
const HEADING: &str = "## What every signed-in person sees";

/// The routes of the list, each with its fields.
fn listed() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(DOCUMENT).expect("a document");
    let (_, section) = text.split_once(HEADING).expect("the list");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `GET "));
    rows.map(|row| {
        let mut words = row.split('`').skip(1).step_by(2).map(str::to_owned);
        let route = words.next().expect("a route");
        (route.trim_start_matches("GET ").to_owned(), words.collect())
    })
    .collect()
}

/// The names of what an answer says: of an item, where it's a list; of what is `null` or empty nothing is said.
fn said(answer: &Value) -> BTreeSet<String> {
    let says = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    let items = answer["items"].as_array().cloned().unwrap_or_else(|| vec![answer.clone()]);
    let fields = items.iter().filter_map(Value::as_object).flatten();
    fields.filter(|(_, value)| says(value)).map(|(name, _)| name.clone()).collect()
}

/// A public route tells them nothing that it doesn't tell others.
fn is_public(route: &Route) -> bool {
    route.who.iter().any(|way| matches!(way, Way::Anyone | Way::Body | Way::ChatbotKey))
}

/// Colleagues with all that there can be about them, and whoever holds nothing.
async fn people(server: &Server, acme: &Tenant) -> (String, String) {
    let colleague = json!({
        "name": "Colleague", "email": "colleague@secret.example", "password": PASSWORD, "phone": "+49 30 5550123",
        "role": "admin", "skills": ["french"], "avatar": "https://cdn.example/c.png",
        "permissions": { "deny": ["billing:write"] },
    });
    server.call(Call::post("/v1/agents", colleague).token(&acme.token)).await.expect(201);
    let log_in = json!({ "email": "colleague@secret.example", "password": PASSWORD });
    server.call(Call::post("/v1/auth/login", log_in).by_ip("203.0.113.9")).await.expect(200);
    let role = json!({ "name": "Nobody", "permissions": [] });
    let role = server.call(Call::post("/v1/roles", role).token(&acme.token)).await.expect(201);
    let (id, _) = server.agent(acme, "Nobody", &text(&role["id"])).await;
    let own = json!({ "phone": "+49 30 1", "skills": ["x"], "avatar": "https://cdn.example/n.png" });
    server.call(Call::patch(format!("/v1/agents/{id}"), own).token(&acme.token)).await.expect(200);
    let email = format!("nobody@{}.example", acme.slug);
    let token = text(&server.log_in(acme, &email, PASSWORD).await.expect(200)["access_token"]);
    (id, token)
}

/// An answer without oneself.
fn of_others(mut answer: Value, own: &str) -> Value {
    if let Some(items) = answer["items"].as_array_mut() {
        items.retain(|item| item["id"] != own);
    }
    answer
}

#[tokio::test]
async fn who_holds_nothing_sees_what_is_listed() {
    let mut world = World::new().await;
    let acme = world.acme.clone();
    let (own_id, nobody) = people(&world.server, &acme).await;
    let other_group = json!({ "name": "Elsewhere", "description": "d" });
    let group = world.server.call(Call::post("/v1/groups", other_group).token(&acme.token)).await.expect(201);
    let theirs = json!({ "shortcut": "theirs", "text": "of another group", "groupId": group["id"] });
    world.server.call(Call::post("/v1/canned-responses", theirs).token(&acme.token)).await.expect(201);
    let members = json!({ "agentIds": [acme.owner] });
    let path = format!("/v1/groups/{}/agents", text(&group["id"]));
    world.server.call(Call::post(path, members).token(&acme.token)).await.expect(200);
    // One of each, so that no list is empty.
    world.fresh(&acme, "{tag}{role}{canned}{chatbot}{group}").await;
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut tried = 0;
    for route in routes().take().0.iter().filter(|route| route.method == "GET" && !is_public(route)) {
        tried += 1;
        let (ids, _) = world.fresh(&acme, &wants(route)).await;
        let reply = world.server.call(Call::get(own_path(route, &ids)).token(&nobody)).await;
        let answer = of_others(reply.json, &own_id);
        let own = route.path == "/v1/auth/me";
        // What isn't JSON is said in full.
        let text = if answer.is_null() { reply.text } else { answer.to_string() };
        let secrets = ["@", "5550123", "203.0.113.9", "billing:write", &acme.chatbot_key, "of another group"];
        for secret in secrets.into_iter().filter(|_| !own && route.path != "/v1/permissions") {
            assert!(!text.contains(secret), "{}: {secret}: {text}", route.path);
        }
        if reply.status.is_success() {
            seen.insert(route.path.to_owned(), said(&answer));
        } else {
            let code = reply.status.as_u16();
            assert!(matches!(code, 400 | 401 | 403 | 404), "{}: {code} {text}", route.path);
        }
    }
    assert!(tried > 40, "the routes are read: {tried}");
    let listed = listed();
    let differ: Vec<String> = seen
        .iter()
        .filter(|(route, fields)| listed.get(*route) != Some(fields))
        .map(|(route, fields)| format!("{route} shows {fields:?}, listed {:?}", listed.get(route)))
        .chain(listed.keys().filter(|route| !seen.contains_key(*route)).map(|route| format!("{route} isn't seen")))
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
