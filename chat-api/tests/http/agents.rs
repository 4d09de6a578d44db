//! Agents: their fields, removing and restoring them, owners.

use crate::support::{Call, PASSWORD, Server, Tenant, text};
use axum::http::Method;
use serde_json::{Value, json};

fn path(id: &str) -> String {
    format!("/v1/agents/{id}")
}

/// Every field that the contract names is stored, shown, changed one by one, and `null` takes away what may be missing.
#[tokio::test]
async fn an_agents_fields_are_stored_and_changed_one_by_one() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body = json!({
        "name": "Ada", "email": "Ada@ACME.example", "password": PASSWORD, "phone": "+49 30 123", "role": "supervisor",
        "status": "online", "acceptingChats": false, "maxConcurrentChats": 3, "skills": ["french", "billing", "french"],
        "avatar": "https://cdn.example/ada.png", "permissions": { "allow": ["audit:read"], "deny": ["tags:write"] },
    });
    let made = server.call(Call::post("/v1/agents", body).token(&acme.token)).await.expect(201);
    let ada = text(&made["id"]);
    let expected = json!({
        "name": "Ada", "email": "Ada@acme.example", "phone": "+49 30 123", "role": "supervisor", "status": "online",
        "acceptingChats": false, "maxConcurrentChats": 3, "activeChats": 0, "skills": ["billing", "french"],
        "avatar": "https://cdn.example/ada.png", "permissions": { "allow": ["audit:read"], "deny": ["tags:write"] },
        "recentIps": [], "deletedAt": null, "id": ada, "createdAt": made["createdAt"],
    });
    assert_eq!(made, expected);

    let patch = |body: Value| Call::patch(path(&ada), body).token(&acme.token);
    let changed = server.call(patch(json!({ "phone": null, "skills": [], "acceptingChats": true }))).await.expect(200);
    assert_eq!(
        (&changed["phone"], &changed["skills"], &changed["avatar"]),
        (&Value::Null, &json!([]), &made["avatar"])
    );
    assert_eq!((&changed["acceptingChats"], &changed["status"]), (&json!(true), &json!("online")));
    let changed = server.call(patch(json!({ "email": "ada.l@acme.example", "name": "Ada L." }))).await.expect(200);
    assert_eq!((&changed["email"], &changed["name"]), (&json!("ada.l@acme.example"), &json!("Ada L.")));
    server.log_in(&acme, "ada@acme.example", PASSWORD).await.expect(401);
    server.log_in(&acme, "ADA.L@acme.example", PASSWORD).await.expect(200);
    assert_eq!(server.call(patch(json!({ "email": acme.email }))).await.expect(409)["code"], "email_taken");

    for (body, field) in [
        (json!({ "avatar": "javascript:alert(1)" }), "avatar"),
        (json!({ "maxConcurrentChats": 1001 }), "maxConcurrentChats"),
        (json!({ "role": "emperor" }), "role"),
        (json!({ "recentIps": ["1.2.3.4"] }), "recentIps"),
        (json!({ "permissions": { "allow": ["world:rule"] } }), "permissions.allow[0]"),
    ] {
        assert_eq!(server.call(patch(body)).await.expect(422)["field"], field);
    }
}

/// Where someone signed in from is sealed, and shown to themselves and to who manages agents.
#[tokio::test]
async fn recent_addresses_are_for_their_owner_and_managers() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (bob, _) = server.agent(&acme, "Bob", "agent").await;
    let (_, colleague) = server.agent(&acme, "Cem", "agent").await;
    let log_in = json!({ "email": "bob@acme.example", "password": PASSWORD });
    let mut token = String::new();
    for address in ["203.0.113.9", "198.51.100.7", "203.0.113.9"] {
        let call = Call::post("/v1/auth/login", log_in.clone()).by_ip(address);
        token = text(&server.call(call).await.expect(200)["access_token"]);
    }
    for token in [&token, &acme.token] {
        let shown = server.call(Call::get(path(&bob)).token(token)).await.expect(200);
        assert_eq!(shown["recentIps"], json!(["203.0.113.9", "198.51.100.7"]));
    }
    let shown = server.call(Call::get(path(&bob)).token(&colleague)).await.expect(200);
    assert_eq!(shown["recentIps"], json!([]));
    let listed = server.call(Call::get("/v1/agents").token(&colleague)).await;
    assert!(!listed.text.contains("203.0.113.9"));
    let bytes = server.database();
    assert!(!bytes.windows(11).any(|window| window == b"203.0.113.9"), "an address is stored in clear");
}

async fn log_in(server: &Server, tenant: &Tenant, name: &str) -> String {
    let signed_in = server.log_in(tenant, &format!("{name}@{}.example", tenant.slug), PASSWORD).await.expect(200);
    text(&signed_in["access_token"])
}

/// A removed agent's sessions end, their chats wait at the front again, their address is free; they can come back.
#[tokio::test]
async fn a_removed_agent_is_gone_and_can_be_restored() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (bob, token) = server.agent(&acme, "Bob", "agent").await;
    let signed_in = server.log_in(&acme, "bob@acme.example", PASSWORD).await.expect(200);
    let refresh = text(&signed_in["refresh_token"]);
    let held = text(&server.session(&acme, json!({ "initialMessage": "one" })).await["conversationId"]);
    server.call(Call::new(Method::POST, format!("/v1/conversations/{held}/take")).token(&token)).await.expect(200);
    let waiting = text(&server.session(&acme, json!({ "initialMessage": "two" })).await["conversationId"]);

    let removed = server.call(Call::delete(path(&bob)).token(&acme.token)).await.expect(200);
    assert!(removed["deletedAt"].is_string() && removed["status"] == "offline", "{removed}");
    let end = server.app.writer.reader().end();
    assert_eq!(server.call(Call::delete(path(&bob)).token(&acme.token)).await.expect(200), removed);
    assert_eq!(server.app.writer.reader().end(), end, "what holds already writes nothing");
    server.call(Call::get("/v1/auth/me").token(&token)).await.expect(401);
    server.call(Call::post("/v1/auth/refresh", json!({ "refresh_token": refresh }))).await.expect(401);
    server.log_in(&acme, "bob@acme.example", PASSWORD).await.expect(401);
    for (id, position) in [(&held, 1), (&waiting, 2)] {
        let chat = server.call(Call::get(format!("/v1/conversations/{id}")).token(&acme.token)).await.expect(200);
        assert_eq!((&chat["status"], &chat["queuePosition"]), (&json!("pending"), &json!(position)));
    }
    let ids = |list: Value| list["items"].as_array().expect("items").iter().map(|item| text(&item["id"])).collect();
    let living: Vec<String> = ids(server.call(Call::get("/v1/agents").token(&acme.token)).await.expect(200));
    assert_eq!(living, std::slice::from_ref(&acme.owner));
    let gone: Vec<String> = ids(server.call(Call::get("/v1/agents?deleted=true").token(&acme.token)).await.expect(200));
    assert_eq!(gone, std::slice::from_ref(&bob));
    let late = [
        Call::patch(path(&bob), json!({ "name": "Bert" })),
        Call::new(Method::PUT, format!("{}/status", path(&bob))).json(json!({ "status": "online" })),
    ];
    for (call, status) in late.into_iter().zip([409, 404]) {
        server.call(call.token(&acme.token)).await.expect(status);
    }

    let heir = json!({ "name": "Bob II", "email": "bob@acme.example", "password": PASSWORD });
    let heir = text(&server.call(Call::post("/v1/agents", heir).token(&acme.token)).await.expect(201)["id"]);
    let restore = || Call::new(Method::POST, format!("{}/restore", path(&bob))).token(&acme.token);
    assert_eq!(server.call(restore()).await.expect(409)["code"], "email_taken");
    server.call(Call::delete(path(&heir)).token(&acme.token)).await.expect(200);
    let restored = server.call(restore()).await.expect(200);
    assert_eq!((&restored["deletedAt"], &restored["status"]), (&Value::Null, &json!("offline")));
    server.call(Call::get("/v1/auth/me").token(&token)).await.expect(401);
    server.call(Call::post("/v1/auth/refresh", json!({ "refresh_token": refresh }))).await.expect(401);
    log_in(&server, &acme, "bob").await;
}

/// The last owner stays an owner, by whatever route; the ownership is handed over, and only by an owner.
#[tokio::test]
async fn the_last_owner_stays_until_the_ownership_is_transferred() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let (ada, admin) = server.agent(&acme, "Ada", "admin").await;
    let owner = path(&acme.owner);
    let transfer = |id: &str| Call::post("/v1/tenants/me/transfer-ownership", json!({ "agentId": id }));
    for call in [Call::delete(&owner), Call::patch(&owner, json!({ "role": "admin" }))] {
        assert_eq!(server.call(call.clone().token(&acme.token)).await.expect(409)["code"], "last_owner");
        assert_eq!(server.call(call.token(&admin)).await.expect(403)["code"], "forbidden");
    }
    let lock_out = json!({ "permissions": { "deny": ["agents:write"] } });
    server.call(Call::patch(&owner, lock_out).token(&acme.token)).await.expect(422);
    server.call(transfer(&ada).token(&admin)).await.expect(403);
    for id in [&*globex.owner, "nonsense"] {
        server.call(transfer(id).token(&acme.token)).await.expect(404);
    }

    server.call(transfer(&ada).token(&acme.token)).await.expect(200);
    for token in [&admin, &acme.token] {
        server.call(Call::get("/v1/auth/me").token(token)).await.expect(401);
    }
    let (ada_token, old) = (log_in(&server, &acme, "ada").await, log_in(&server, &acme, "owner").await);
    let roles = server.call(Call::get("/v1/agents").token(&ada_token)).await.expect(200);
    let roles: Vec<String> = roles["items"].as_array().expect("items").iter().map(|item| text(&item["role"])).collect();
    assert_eq!(roles, ["admin", "owner"]);
    server.call(transfer(&acme.owner).token(&old)).await.expect(403);
    assert_eq!(server.call(Call::delete(path(&ada)).token(&ada_token)).await.expect(409)["code"], "last_owner");
    // With a second owner one of them may go.
    server.call(Call::patch(&owner, json!({ "role": "owner" })).token(&ada_token)).await.expect(200);
    server.call(Call::delete(path(&ada)).token(&ada_token)).await.expect(200);
}

/// Another tenant's agent or role is as unknown as one that never was, and nothing is written.
#[tokio::test]
async fn foreign_agents_and_roles_are_unknown() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let role = json!({ "name": "Night", "permissions": ["conversations:read"] });
    let role = text(&server.call(Call::post("/v1/roles", role).token(&acme.token)).await.expect(201)["id"]);
    let (bob, _) = server.agent(&globex, "Bob", "agent").await;
    let end = server.app.writer.reader().end();
    let routes = [
        (Method::GET, "/v1/agents/{}/stats", &acme.owner, None),
        (Method::DELETE, "/v1/agents/{}", &acme.owner, None),
        (Method::POST, "/v1/agents/{}/restore", &acme.owner, None),
        (Method::POST, "/v1/agents/{}/restore", &acme.owner, None),
        (Method::GET, "/v1/roles/{}", &role, None),
        (Method::PATCH, "/v1/roles/{}", &role, Some(json!({ "name": "Mine" }))),
        (Method::DELETE, "/v1/roles/{}", &role, None),
        (Method::POST, "/v1/roles/{}/restore", &role, None),
    ];
    for (method, route, id, body) in routes {
        let mut answers = Vec::new();
        for id in [id, "0190a1b2-0000-7000-8000-000000000001", "nonsense"] {
            let mut call = Call::new(method.clone(), route.replace("{}", id)).token(&globex.token);
            if let Some(body) = &body {
                call = call.json(body.clone());
            }
            answers.push(server.call(call).await.expect(404));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{method} {route}: {answers:?}");
    }
    let give = Call::patch(path(&bob), json!({ "role": role })).token(&globex.token);
    assert_eq!(server.call(give).await.expect(404)["field"], "role");
    let invite = json!({ "email": "eve@globex.example", "role": role });
    server.call(Call::post("/v1/invitations", invite).token(&globex.token)).await.expect(404);
    assert_eq!(server.app.writer.reader().end(), end, "nothing was written");
    let listed = server.call(Call::get("/v1/roles?deleted=true").token(&globex.token)).await.expect(200);
    assert_eq!(listed["items"], json!([]));
}

/// Numbers about a colleague take the permission to read reports.
#[tokio::test]
async fn a_colleagues_numbers_are_for_who_may_read_reports() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (_, bob) = server.agent(&acme, "Bob", "agent").await;
    server.call(Call::get(format!("{}/stats", path(&acme.owner))).token(&bob)).await.expect(403);
}

/// Wherever an agent is shown, their addresses are for themselves and for who manages agents.
#[tokio::test]
async fn contacts_of_colleagues_are_for_who_manages_agents() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (ada, ada_token) = server.agent(&acme, "Ada", "agent").await;
    let (_, sue) = server.agent(&acme, "Sue", "supervisor").await;
    server.call(Call::patch(path(&ada), json!({ "phone": "5550123" })).token(&acme.token)).await.expect(200);
    let session = server.session(&acme, json!({ "initialMessage": "hi" })).await;
    let chat = format!("/v1/conversations/{}", text(&session["conversationId"]));
    server.call(Call::new(Method::POST, format!("{chat}/take")).token(&ada_token)).await.expect(200);
    let routes = [
        (Method::GET, path(&ada)),
        (Method::GET, "/v1/agents".to_owned()),
        (Method::GET, chat.clone()),
        (Method::GET, "/v1/conversations".to_owned()),
        (Method::GET, format!("/v1/visitors/{}/conversations", text(&session["visitorId"]))),
        (Method::POST, format!("{chat}/typing")),
        (Method::POST, format!("{chat}/tags")),
        (Method::PUT, format!("{}/status", path(&ada))),
    ];
    for (method, path) in routes {
        let body = if method == Method::PUT { json!({ "status": "online" }) } else { json!({}) };
        for (token, sees) in [(&acme.token, true), (&ada_token, true), (&sue, false)] {
            let call = Call::new(method.clone(), &path).token(token);
            let call = if method == Method::GET { call } else { call.json(body.clone()) };
            let answer = server.call(call).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            assert_eq!(answer.text.contains("ada@acme.example"), sees, "{path}: {}", answer.text);
            assert!(sees || !answer.text.contains("5550123"), "{path}: {}", answer.text);
        }
    }
}
