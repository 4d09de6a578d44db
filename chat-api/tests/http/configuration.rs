//! Groups, tags, canned responses and chatbots: made, changed, deleted and restored.

use crate::support::{Call, Reply, Server, Tenant, text};
use axum::http::Method;
use serde_json::{Value, json};

async fn send(server: &Server, tenant: &Tenant, method: Method, path: &str, body: Value) -> Reply {
    server.call(Call::new(method, path).json(body).token(&tenant.token)).await
}

async fn post(server: &Server, tenant: &Tenant, path: &str, body: Value) -> Reply {
    send(server, tenant, Method::POST, path, body).await
}

async fn items(server: &Server, tenant: &Tenant, path: &str) -> Vec<Value> {
    let page = server.call(Call::get(path).token(&tenant.token)).await.expect(200);
    page["items"].as_array().expect("items").clone()
}

/// Each kind the same way: made, unique whatever the case, changed, deleted, its name free, its restore in conflict.
#[tokio::test]
async fn names_are_unique_among_the_living_and_a_restore_that_collides_is_refused() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    for (path, field, more) in [
        ("/v1/groups", "name", json!({})),
        ("/v1/tags", "name", json!({ "color": "#FF8800" })),
        ("/v1/canned-responses", "shortcut", json!({ "text": "Hello!" })),
    ] {
        let body = |name: &str| {
            let mut body = more.clone();
            body[field] = json!(name);
            body
        };
        let made = post(&server, &acme, path, body("Größe")).await.expect(201);
        let one = format!("{path}/{}", text(&made["id"]));
        assert_eq!((&made[field], &made["deletedAt"]), (&json!("Größe"), &json!(null)));
        let taken = post(&server, &acme, path, body("gRÖSSE".replace("SS", "ß").as_str())).await.expect(409);
        assert_eq!((&taken["field"], text(&taken["code"]).ends_with("_taken")), (&json!(field), true), "{taken}");
        post(&server, &globex, path, body("größe")).await.expect(201);
        let second = post(&server, &acme, path, body("other")).await.expect(201);
        let other = format!("{path}/{}", text(&second["id"]));
        send(&server, &acme, Method::PATCH, &other, json!({ field: "GRÖßE" })).await.expect(409);
        send(&server, &acme, Method::PATCH, &one, json!({ field: "GRÖßE" })).await.expect(200);

        let gone = send(&server, &acme, Method::DELETE, &one, json!({})).await.expect(200);
        assert!(gone["deletedAt"].is_string());
        assert_eq!(send(&server, &acme, Method::DELETE, &one, json!({})).await.expect(200), gone, "deleted already");
        assert_eq!(
            send(&server, &acme, Method::PATCH, &one, json!({ field: "x" })).await.expect(409)["code"],
            "deleted"
        );
        assert_eq!(items(&server, &acme, path).await.len(), 1);
        assert_eq!(items(&server, &acme, &format!("{path}?deleted=true")).await, [gone]);
        send(&server, &acme, Method::PATCH, &other, json!({ field: "Größe" })).await.expect(200);
        let collides = post(&server, &acme, &format!("{one}/restore"), json!({})).await.expect(409);
        assert_eq!(collides["field"], *field);
        send(&server, &acme, Method::PATCH, &other, json!({ field: "free" })).await.expect(200);
        let back = post(&server, &acme, &format!("{one}/restore"), json!({})).await.expect(200);
        assert_eq!((&back[field], &back["deletedAt"]), (&json!("GRÖßE"), &json!(null)));
        assert_eq!(items(&server, &acme, path).await.len(), 2);
        let page = items(&server, &acme, &format!("{path}?limit=1")).await;
        assert_eq!(page.len(), 1);
    }
}

/// Another tenant's id is as unknown as one that never was, and nothing changes.
#[tokio::test]
async fn another_tenants_resources_are_unknown() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let group = post(&server, &acme, "/v1/groups", json!({ "name": "Sales" })).await.expect(201);
    let tag = post(&server, &acme, "/v1/tags", json!({ "name": "vip" })).await.expect(201);
    let canned = json!({ "shortcut": "hi", "text": "Hello!", "groupId": group["id"] });
    let canned = post(&server, &acme, "/v1/canned-responses", canned).await.expect(201);
    let unknown = "00000000-0000-7000-8000-000000000000";
    for (path, id) in [
        ("/v1/groups", text(&group["id"])),
        ("/v1/tags", text(&tag["id"])),
        ("/v1/canned-responses", text(&canned["id"])),
        ("/v1/chatbots", acme.chatbot.clone()),
    ] {
        for (method, rest) in [(Method::GET, ""), (Method::PATCH, ""), (Method::DELETE, ""), (Method::POST, "/restore")]
        {
            let at = |id: &str| format!("{path}/{id}{rest}");
            let foreign = send(&server, &globex, method.clone(), &at(&id), json!({})).await.expect(404);
            let never = send(&server, &globex, method, &at(unknown), json!({})).await.expect(404);
            assert_eq!(foreign, never);
        }
        let there = server.call(Call::get(format!("{path}/{id}")).token(&acme.token)).await.expect(200);
        assert_eq!(there["deletedAt"], json!(null));
    }
    for rest in ["rotate-key", "status"] {
        let method = if rest == "status" { Method::GET } else { Method::POST };
        let path = format!("/v1/chatbots/{}/{rest}", acme.chatbot);
        send(&server, &globex, method, &path, json!({})).await.expect(404);
    }
    let path = format!("/v1/groups/{}/agents", text(&group["id"]));
    post(&server, &globex, &path, json!({ "agentIds": [globex.owner] })).await.expect(404);
    let foreign = post(&server, &acme, &path, json!({ "agentIds": [acme.owner, globex.owner] })).await.expect(404);
    assert_eq!(foreign["field"], "agentIds");
    let there = server.call(Call::get(path.replace("/agents", "")).token(&acme.token)).await.expect(200);
    assert_eq!(there["agentIds"], json!([]), "all or none");
    for (path, body) in [
        ("/v1/canned-responses", json!({ "shortcut": "x", "text": "y", "groupId": group["id"] })),
        ("/v1/chatbots", json!({ "name": "x", "defaultGroupId": group["id"] })),
    ] {
        post(&server, &globex, path, body).await.expect(404);
    }
    let session = json!({ "groupId": group["id"] });
    let call = Call::post("/v1/widget/session", session).header("x-chatbot-key", &globex.chatbot_key);
    assert_eq!(server.call(call).await.expect(404)["field"], "groupId");
}

#[tokio::test]
async fn agents_join_and_leave_groups_and_one_group_is_the_default() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (bob, bobs_token) = server.agent(&acme, "Bob", "agent").await;
    let body = json!({ "name": "Sales", "description": "Before", "routingStrategy": "round_robin", "isDefault": true });
    let sales = post(&server, &acme, "/v1/groups", body).await.expect(201);
    assert_eq!((&sales["routingStrategy"], &sales["isDefault"]), (&json!("round_robin"), &json!(true)));
    let path = format!("/v1/groups/{}", text(&sales["id"]));
    let joined = json!({ "agentIds": [bob, acme.owner, bob] });
    let joined = post(&server, &acme, &format!("{path}/agents"), joined).await.expect(200);
    assert_eq!(joined["agentIds"].as_array().map(Vec::len), Some(2));
    let left = send(&server, &acme, Method::DELETE, &format!("{path}/agents/{bob}"), json!({})).await.expect(200);
    assert_eq!(left["agentIds"], json!([acme.owner]));
    let again = send(&server, &acme, Method::DELETE, &format!("{path}/agents/{bob}"), json!({})).await.expect(200);
    assert_eq!(again, left, "no member already");

    let support = json!({ "name": "Support", "isDefault": true });
    let support = post(&server, &acme, "/v1/groups", support).await.expect(201);
    let all = items(&server, &acme, "/v1/groups").await;
    let defaults: Vec<&Value> =
        all.iter().filter(|group| group["isDefault"] == true).map(|group| &group["id"]).collect();
    assert_eq!(defaults, [&support["id"]]);
    assert_eq!(all[0]["routingStrategy"], "round_robin");
    assert_eq!(all[1]["routingStrategy"], "least_loaded");
    let refused = json!({ "name": "X", "routingStrategy": "random" });
    assert_eq!(post(&server, &acme, "/v1/groups", refused).await.expect(422)["field"], "routingStrategy");

    for (method, path) in [
        (Method::POST, "/v1/groups".to_owned()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/restore")),
        (Method::POST, format!("{path}/agents")),
        (Method::DELETE, format!("{path}/agents/{bob}")),
    ] {
        let body = match (&method, path.as_str()) {
            (&Method::POST, "/v1/groups") => json!({ "name": "Mine" }),
            (&Method::POST, path) if path.ends_with("agents") => json!({ "agentIds": [] }),
            _ => json!({}),
        };
        let call = Call::new(method, path).json(body).token(&bobs_token);
        assert_eq!(server.call(call).await.expect(403)["code"], "forbidden");
    }
}

#[tokio::test]
async fn bad_fields_are_named() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let big = json!({ "x": "y".repeat(9_000) });
    for (path, body, field) in [
        ("/v1/tags", json!({ "name": "vip", "color": "red" }), "color"),
        ("/v1/tags", json!({ "name": " " }), "name"),
        ("/v1/tags", json!({ "name": "vip", "tenantId": acme.id }), "tenantId"),
        ("/v1/canned-responses", json!({ "shortcut": "two words", "text": "x" }), "shortcut"),
        ("/v1/canned-responses", json!({ "shortcut": "x", "text": " " }), "text"),
        ("/v1/groups", json!({ "name": "x", "description": "y".repeat(2_001) }), "description"),
        ("/v1/chatbots", json!({ "name": "x", "theme": big }), "theme"),
        ("/v1/chatbots", json!({ "name": "x", "theme": [] }), "theme"),
    ] {
        assert_eq!(post(&server, &acme, path, body).await.expect(422)["field"], field);
    }
    let (_, token) = server.agent(&acme, "Bob", "agent").await;
    for (path, body) in [
        ("/v1/tags", json!({ "name": "x" })),
        ("/v1/canned-responses", json!({ "shortcut": "x", "text": "y" })),
        ("/v1/chatbots", json!({ "name": "x" })),
    ] {
        server.call(Call::post(path, body).token(&token)).await.expect(403);
        server.call(Call::get(path).token(&token)).await.expect(200);
    }
}

/// The secret is told when it's made and never again; a rotated key or a deletion ends what the old one opened.
#[tokio::test]
async fn a_chatbots_key_and_secret_rotate_and_end_with_it() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body = json!({ "name": "Shop", "theme": { "color": "#0a7cff" } });
    let create = || Call::post("/v1/chatbots", body.clone()).token(&acme.token).key("a-key-of-a-test");
    let made = server.call(create()).await.expect(201);
    let secret = text(&made["identitySecret"]);
    assert_eq!((secret.len(), &made["theme"]), (64, &json!({ "color": "#0a7cff" })));
    let repeat = server.call(create()).await.expect(201);
    assert_eq!((&repeat["id"], repeat.get("identitySecret")), (&made["id"], None));
    let path = format!("/v1/chatbots/{}", text(&made["id"]));
    let shown = server.call(Call::get(&path).token(&acme.token)).await;
    assert!(!shown.text.contains(&secret));
    let rotate = format!("{path}/rotate-key");
    let rotated = post(&server, &acme, &rotate, json!({ "what": "identitySecret" })).await.expect(200);
    assert_ne!(text(&rotated["identitySecret"]), secret);
    assert_eq!(rotated["apiKey"], made["apiKey"]);

    let session =
        |key: &Value| server.call(Call::post("/v1/widget/session", json!({})).header("x-chatbot-key", &text(key)));
    let token = text(&session(&made["apiKey"]).await.expect(201)["sessionToken"]);
    let fresh = post(&server, &acme, &rotate, json!({})).await.expect(200);
    assert_eq!(fresh.get("identitySecret"), None);
    assert_eq!(session(&made["apiKey"]).await.expect(401)["code"], "invalid_chatbot_key");
    session(&fresh["apiKey"]).await.expect(201);
    let open = || server.call(Call::get("/v1/widget/conversation").token(&token));
    open().await.expect(200);

    let group = post(&server, &acme, "/v1/groups", json!({ "name": "Sales" })).await.expect(201);
    let change = json!({ "defaultGroupId": group["id"], "theme": {} });
    let changed = send(&server, &acme, Method::PATCH, &path, change).await.expect(200);
    assert_eq!((&changed["defaultGroupId"], &changed["theme"]), (&group["id"], &json!({})));
    let routed = session(&fresh["apiKey"]).await.expect(201);
    let chat = Call::get(format!("/v1/conversations/{}", text(&routed["conversationId"]))).token(&acme.token);
    assert_eq!(server.call(chat).await.expect(200)["groupId"], group["id"]);
    let changed = send(&server, &acme, Method::PATCH, &path, json!({ "defaultGroupId": null })).await.expect(200);
    assert_eq!(changed["defaultGroupId"], json!(null));

    send(&server, &acme, Method::DELETE, &path, json!({})).await.expect(200);
    session(&fresh["apiKey"]).await.expect(401);
    open().await.expect(401);
    assert_eq!(post(&server, &acme, &rotate, json!({})).await.expect(409)["code"], "deleted");
    post(&server, &acme, &format!("{path}/restore"), json!({})).await.expect(200);
    session(&fresh["apiKey"]).await.expect(201);
    open().await.expect(200);
}

#[tokio::test]
async fn a_chatbots_status_counts_what_its_widgets_did() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let path = format!("/v1/chatbots/{}/status", acme.chatbot);
    let status = || server.call(Call::get(&path).token(&acme.token));
    let before = status().await.expect(200);
    assert_eq!((&before["lastSeen"], &before["sessions"], &before["errors"]), (&json!(null), &json!(0), &json!(0)));
    let session = server.session(&acme, json!({})).await;
    server.session(&acme, json!({})).await;
    let evil = Call::post("/v1/widget/session", json!({})).header("x-chatbot-key", &acme.chatbot_key);
    server.call(evil.header("origin", "https://evil.example")).await.expect(403);
    let blank = Call::post("/v1/widget/events", json!({ "content": " " })).token(&text(&session["sessionToken"]));
    server.call(blank).await.expect(422);
    let after = status().await.expect(200);
    assert_eq!((&after["sessions"], &after["errors"], &after["requests"]), (&json!(2), &json!(2), &json!(4)));
    assert!(text(&after["lastSeen"]) >= text(&after["since"]));
}
