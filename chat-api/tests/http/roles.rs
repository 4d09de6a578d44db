//! Custom roles, and attempts to get more by them than one has.

use crate::support::{Call, PASSWORD, Server, Tenant, text};
use axum::http::Method;
use serde_json::{Value, json};

async fn role(server: &Server, tenant: &Tenant, name: &str, permissions: &[&str]) -> String {
    let body = json!({ "name": name, "permissions": permissions });
    text(&server.call(Call::post("/v1/roles", body).token(&tenant.token)).await.expect(201)["id"])
}

fn restore(id: &str) -> Call {
    Call::new(Method::POST, format!("/v1/roles/{id}/restore"))
}

/// Roles are made, listed, changed, deleted and restored; a name is unique among the living, whatever its case.
#[tokio::test]
async fn roles_are_made_changed_deleted_and_restored() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let night = role(&server, &acme, "Night shift", &["conversations:reply", "conversations:read"]).await;
    let path = format!("/v1/roles/{night}");
    let shown = server.call(Call::get(&path).token(&acme.token)).await.expect(200);
    assert_eq!(shown["permissions"], json!(["conversations:read", "conversations:reply"]));
    let twin = json!({ "name": "NIGHT SHIFT", "permissions": [] });
    let twin = || Call::post("/v1/roles", twin.clone()).token(&acme.token);
    assert_eq!(server.call(twin()).await.expect(409)["code"], "name_taken");
    let bad = json!({ "name": "Bad", "permissions": ["world:rule"] });
    server.call(Call::post("/v1/roles", bad).token(&acme.token)).await.expect(422);

    let renamed = server.call(Call::patch(&path, json!({ "name": "night shift" })).token(&acme.token)).await;
    assert_eq!(renamed.expect(200)["name"], "night shift");
    let deleted = server.call(Call::delete(&path).token(&acme.token)).await.expect(200);
    assert!(deleted["deletedAt"].is_string());
    let listed = server.call(Call::get("/v1/roles").token(&acme.token)).await.expect(200);
    assert_eq!(listed["items"], json!([]));
    let all = server.call(Call::get("/v1/roles?deleted=true").token(&acme.token)).await.expect(200);
    assert_eq!(all["items"][0]["id"], json!(night));
    server.call(Call::patch(&path, json!({ "name": "x" })).token(&acme.token)).await.expect(409);
    let twin = text(&server.call(twin()).await.expect(201)["id"]);
    assert_eq!(server.call(restore(&night).token(&acme.token)).await.expect(409)["code"], "name_taken");
    server.call(Call::delete(format!("/v1/roles/{twin}")).token(&acme.token)).await.expect(200);
    let back = server.call(restore(&night).token(&acme.token)).await.expect(200);
    assert_eq!(back["deletedAt"], Value::Null);

    let known = server.call(Call::get("/v1/permissions").token(&acme.token)).await.expect(200);
    let reply = known["items"].as_array().expect("items").iter().find(|item| item["name"] == "conversations:reply");
    assert_eq!(reply.expect("known")["roles"], json!(["owner", "admin", "supervisor", "agent"]));
}

/// A custom role counts instead of a built-in one; what is done to it ends the sessions of everyone who has it.
#[tokio::test]
async fn a_custom_role_holds_and_its_change_ends_sessions() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let tagger = role(&server, &acme, "Tagger", &["conversations:read", "settings:write"]).await;
    let (bob, _) = server.agent(&acme, "Bob", "admin").await;
    let (_, eve) = server.agent(&acme, "Eve", "agent").await;
    let given = Call::patch(format!("/v1/agents/{bob}"), json!({ "role": tagger })).token(&acme.token);
    assert_eq!(server.call(given).await.expect(200)["role"], json!(tagger));
    let log_in = async || text(&server.log_in(&acme, "bob@acme.example", PASSWORD).await.expect(200)["access_token"]);
    let me = |token: &str| Call::get("/v1/auth/me").token(token);
    let set = |token: &str| Call::patch("/v1/tenants/me", json!({ "idleMinutes": 20 })).token(token);
    let first = log_in().await;
    let seen = server.call(me(&first)).await.expect(200);
    assert_eq!(seen["effectivePermissions"], json!(["conversations:read", "settings:write"]));
    server.call(set(&first)).await.expect(200);
    server.call(Call::get("/v1/audit").token(&first)).await.expect(403);

    let path = format!("/v1/roles/{tagger}");
    server.call(Call::patch(&path, json!({ "name": "Labeller" })).token(&acme.token)).await.expect(200);
    server.call(me(&first)).await.expect(200);
    server.call(Call::patch(&path, json!({ "permissions": ["audit:read"] })).token(&acme.token)).await.expect(200);
    server.call(me(&first)).await.expect(401);
    let second = log_in().await;
    server.call(set(&second)).await.expect(403);
    server.call(Call::get("/v1/audit").token(&second)).await.expect(200);
    server.call(Call::delete(&path).token(&acme.token)).await.expect(200);
    server.call(me(&second)).await.expect(401);
    let third = log_in().await;
    assert_eq!(server.call(me(&third)).await.expect(200)["effectivePermissions"], json!([]));
    server.call(restore(&tagger).token(&acme.token)).await.expect(200);
    for token in [&first, &second, &third] {
        server.call(me(token)).await.expect(401);
    }
    server.call(me(&eve)).await.expect(200);
}

/// Exceptions add and take away; taking away wins, and nobody lifts what was taken from them.
#[tokio::test]
async fn denials_win_and_are_not_lifted_by_the_denied() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (ada, _) = server.agent(&acme, "Ada", "admin").await;
    let patch = |body: Value| Call::patch(format!("/v1/agents/{ada}"), json!({ "permissions": body }));
    let both = json!({ "allow": ["settings:write", "billing:write"], "deny": ["settings:write"] });
    server.call(patch(both).token(&acme.token)).await.expect(200);
    let token = text(&server.log_in(&acme, "ada@acme.example", PASSWORD).await.expect(200)["access_token"]);
    let held = server.call(Call::get("/v1/auth/me").token(&token)).await.expect(200)["effectivePermissions"].clone();
    let held: Vec<String> = held.as_array().expect("a list").iter().map(text).collect();
    assert!(held.contains(&"billing:write".to_owned()) && !held.contains(&"settings:write".to_owned()), "{held:?}");
    let lift = server.call(patch(json!({ "deny": [] })).token(&token)).await.expect(403);
    assert_eq!(lift["code"], "more_than_own");
    server.call(Call::patch(format!("/v1/agents/{ada}"), json!({ "role": "owner" })).token(&token)).await.expect(403);
}

/// Someone who manages agents and roles, and holds little else, gets no more by any route.
#[tokio::test]
async fn nobody_gives_more_than_they_hold() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let own = ["agents:write", "roles:write", "conversations:read"];
    let manager = role(&server, &acme, "Manager", &own).await;
    let strong = role(&server, &acme, "Strong", &["settings:write"]).await;
    let gone = role(&server, &acme, "Gone", &["settings:write"]).await;
    server.call(Call::delete(format!("/v1/roles/{gone}")).token(&acme.token)).await.expect(200);
    let (mia, token) = server.agent(&acme, "Mia", &manager).await;
    let (ada, _) = server.agent(&acme, "Ada", "admin").await;
    let (old, _) = server.agent(&acme, "Old", "admin").await;
    server.call(Call::delete(format!("/v1/agents/{old}")).token(&acme.token)).await.expect(200);
    let (weak, _) = server.agent(&acme, "Weak", &role(&server, &acme, "Weak", &["conversations:read"]).await).await;
    let add = |role: &str| {
        let body = json!({ "name": "X", "email": "x@acme.example", "password": PASSWORD, "role": role });
        Call::post("/v1/agents", body)
    };
    let agent = |id: &str, body: Value| Call::patch(format!("/v1/agents/{id}"), body);
    let invite = |role: &str| Call::post("/v1/invitations", json!({ "email": "y@acme.example", "role": role }));
    let attempts = [
        add("admin"),
        add("owner"),
        add("agent"),
        add(&strong),
        invite("admin"),
        invite("owner"),
        invite(&strong),
        agent(&mia, json!({ "role": "admin" })),
        agent(&mia, json!({ "role": "owner" })),
        agent(&mia, json!({ "role": strong })),
        agent(&mia, json!({ "permissions": { "allow": ["settings:write"] } })),
        agent(&weak, json!({ "role": "supervisor" })),
        agent(&weak, json!({ "permissions": { "allow": ["ownership:transfer"] } })),
        agent(&ada, json!({ "email": "mine@acme.example" })),
        agent(&ada, json!({ "name": "Fool" })),
        agent(&ada, json!({ "role": "viewer" })),
        agent(&ada, json!({ "permissions": { "deny": ["agents:write"] } })),
        agent(&acme.owner, json!({ "email": "mine@acme.example" })),
        Call::delete(format!("/v1/agents/{ada}")),
        Call::delete(format!("/v1/agents/{}", acme.owner)),
        Call::new(Method::POST, format!("/v1/agents/{old}/restore")),
        Call::post("/v1/roles", json!({ "name": "Z", "permissions": ["settings:write"] })),
        Call::patch(format!("/v1/roles/{manager}"), json!({ "permissions": ["agents:write", "settings:write"] })),
        Call::patch(format!("/v1/roles/{strong}"), json!({ "permissions": [] })),
        Call::patch(format!("/v1/roles/{strong}"), json!({ "name": "Stronger" })),
        Call::delete(format!("/v1/roles/{strong}")),
        restore(&gone),
        Call::post("/v1/tenants/me/transfer-ownership", json!({ "agentId": mia })),
    ];
    let end = server.app.writer.reader().end();
    for attempt in attempts {
        let reply = server.call(attempt.clone().token(&token)).await;
        assert_eq!(reply.status.as_u16(), 403, "{attempt:?}: {}", reply.text);
    }
    assert_eq!(server.app.writer.reader().end(), end, "nothing was written");
    // What they hold themselves they may give.
    server.call(add(&manager).token(&token)).await.expect(201);
    server.call(agent(&weak, json!({ "permissions": { "allow": ["agents:write"] } })).token(&token)).await.expect(200);
    // An agent manages nobody, but has their own name and phone.
    let (bob, token) = server.agent(&acme, "Bob", "agent").await;
    for body in [json!({ "skills": ["x"] }), json!({ "email": "b@acme.example" }), json!({ "maxConcurrentChats": 99 })]
    {
        server.call(agent(&bob, body).token(&token)).await.expect(403);
    }
    server.call(agent(&bob, json!({ "name": "Robert", "phone": "1" })).token(&token)).await.expect(200);
    server.call(agent(&weak, json!({ "name": "Fool" })).token(&token)).await.expect(403);
    for call in [Call::delete(format!("/v1/agents/{weak}")), invite("viewer"), restore(&gone)] {
        server.call(call.token(&token)).await.expect(403);
    }
}
