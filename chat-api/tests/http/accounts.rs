//! Sign-up, signing in, sessions, roles.

use crate::support::{Call, OPERATOR, PASSWORD, Server, text};
use axum::http::Method;
use serde_json::{Value, json};

fn log_in(email: &str, password: &str) -> Call {
    Call::post("/v1/auth/login", json!({ "email": email, "password": password }))
}

/// Sign-up makes a tenant, its owner and a session in one answer; the same name makes another slug.
#[tokio::test]
async fn sign_up_makes_a_tenant_and_its_owner() {
    let server = Server::start();
    let body = json!({ "name": "Åcme & Co", "adminName": "Ada", "adminEmail": "Ada@Acme.Example", "adminPassword": PASSWORD, "timeZone": "Europe/Berlin" });
    let made = server.call(Call::post("/v1/tenants", body.clone())).await.expect(201);
    assert_eq!(
        (made["tenant"]["name"].as_str(), made["tenant"]["timeZone"].as_str()),
        (Some("Åcme & Co"), Some("Europe/Berlin"))
    );
    assert_eq!(
        (made["agent"]["role"].as_str(), made["agent"]["email"].as_str()),
        (Some("owner"), Some("Ada@acme.example"))
    );
    assert_eq!(made["expires_in"], 900);
    let me = server.call(Call::get("/v1/auth/me").token(&text(&made["access_token"]))).await.expect(200);
    assert_eq!((&me["id"], &me["tenant"]["id"]), (&made["agent"]["id"], &made["tenant"]["id"]));

    let again = server.call(Call::post("/v1/tenants", body)).await.expect(201);
    assert_ne!(again["tenant"]["id"], made["tenant"]["id"]);
    assert_eq!(text(&again["tenant"]["slug"]), format!("{}-2", text(&made["tenant"]["slug"])));
}

/// Unknown address, wrong password and a foreign tenant answer alike; an address in two tenants asks which.
#[tokio::test]
async fn log_in_tells_strangers_nothing() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    server.call(log_in(" OWNER@acme.example ", PASSWORD)).await.expect(200);
    let wrong = server.call(log_in(&acme.email, "wrong password")).await;
    let unknown = server.call(log_in("nobody@acme.example", PASSWORD)).await;
    assert_eq!((wrong.status.as_u16(), unknown.status.as_u16()), (401, 401));
    assert_eq!(wrong.json, unknown.json);
    let body = json!({ "email": acme.email, "password": PASSWORD, "tenant": globex.slug });
    assert_eq!(server.call(Call::post("/v1/auth/login", body)).await.expect(401), wrong.json);

    let body = json!({ "name": "Twin", "email": acme.email, "password": PASSWORD });
    server.call(Call::post("/v1/agents", body).token(&globex.token)).await.expect(201);
    assert_eq!(server.call(log_in(&acme.email, "wrong password")).await.expect(401), wrong.json);
    assert_eq!(server.call(log_in(&acme.email, PASSWORD)).await.expect(422)["code"], "tenant_required");
    for tenant in [&globex.slug, &globex.id] {
        let body = json!({ "email": acme.email, "password": PASSWORD, "tenant": tenant });
        let signed_in = server.call(Call::post("/v1/auth/login", body)).await.expect(200);
        assert_eq!(signed_in["agent"]["name"], "Twin");
    }
}

fn refresh(token: &str) -> Call {
    Call::post("/v1/auth/refresh", json!({ "refresh_token": token }))
}

/// A refresh token works once; using it again ends the whole family, the access tokens too.
#[tokio::test]
async fn a_reused_refresh_token_ends_its_family() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let first = server.call(refresh(&acme.refresh_token)).await.expect(200);
    let second = server.call(refresh(&text(&first["refresh_token"]))).await.expect(200);
    let access = text(&second["access_token"]);
    server.call(Call::get("/v1/auth/me").token(&access)).await.expect(200);

    let reused = server.call(refresh(&acme.refresh_token)).await.expect(401);
    assert_eq!(reused["code"], "invalid_refresh_token");
    server.call(refresh(&text(&second["refresh_token"]))).await.expect(401);
    for token in [&acme.token, &access] {
        server.call(Call::get("/v1/auth/me").token(token)).await.expect(401);
    }
    server.call(refresh("rft_nonsense")).await.expect(401);
}

#[tokio::test]
async fn log_out_ends_the_session() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let other = server.call(log_in(&acme.email, PASSWORD)).await.expect(200);
    server.call(Call::new(Method::POST, "/v1/auth/logout").token(&acme.token)).await.expect(200);
    server.call(Call::get("/v1/auth/me").token(&acme.token)).await.expect(401);
    server.call(refresh(&acme.refresh_token)).await.expect(401);
    let token = text(&other["refresh_token"]);
    server.call(Call::get("/v1/auth/me").token(&text(&other["access_token"]))).await.expect(200);
    server.call(Call::post("/v1/auth/logout", json!({ "refresh_token": token }))).await.expect(200);
    server.call(refresh(&token)).await.expect(401);
}

/// A changed role ends what was signed in before; signed in again, it holds.
#[tokio::test]
async fn a_changed_role_holds_at_once() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (id, token) = server.agent(&acme, "Bob", "agent").await;
    let add = || Call::post("/v1/agents", json!({ "name": "Eve", "email": "eve@acme.example", "password": PASSWORD }));
    assert_eq!(server.call(add().token(&token)).await.expect(403)["code"], "forbidden");
    let patch = |role: &str| Call::patch(format!("/v1/agents/{id}"), json!({ "role": role })).token(&acme.token);
    server.call(patch("admin")).await.expect(200);
    server.call(Call::get("/v1/auth/me").token(&token)).await.expect(401);
    let token = text(&server.log_in(&acme, "bob@acme.example", PASSWORD).await.expect(200)["access_token"]);
    server.call(add().token(&token)).await.expect(201);
    assert_eq!(server.call(add().token(&token)).await.expect(409)["code"], "email_taken");
    server.call(patch("admin")).await.expect(200);
    server.call(Call::get("/v1/auth/me").token(&token)).await.expect(200);
    server.call(patch("viewer")).await.expect(200);
    server.call(Call::get("/v1/agents").token(&token)).await.expect(401);
    let token = text(&server.log_in(&acme, "bob@acme.example", PASSWORD).await.expect(200)["access_token"]);
    server.call(Call::get("/v1/agents").token(&token)).await.expect(200);
    server.call(Call::patch("/v1/tenants/me", json!({ "name": "Mine" })).token(&token)).await.expect(403);
}

#[tokio::test]
async fn tenants_and_agents_are_changed_and_listed() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let change =
        Call::new(Method::PATCH, "/v1/tenants/me").json(json!({ "name": "Acme Ltd", "timeZone": "Asia/Tokyo" }));
    let tenant = server.call(change.token(&acme.token)).await.expect(200);
    assert_eq!((&tenant["name"], &tenant["timeZone"]), (&json!("Acme Ltd"), &json!("Asia/Tokyo")));
    let (bob, token) = server.agent(&acme, "Bob", "agent").await;
    let status = Call::new(Method::PUT, format!("/v1/agents/{bob}/status")).json(json!({ "status": "online" }));
    let online = server.call(status.token(&token)).await.expect(200);
    assert_eq!((&online["status"], &online["acceptingChats"]), (&json!("online"), &json!(true)));
    let rename = Call::new(Method::PATCH, format!("/v1/agents/{bob}"))
        .json(json!({ "name": "Robert", "maxConcurrentChats": 2 }));
    let renamed = server.call(rename.token(&acme.token)).await.expect(200);
    assert_eq!((&renamed["name"], &renamed["maxConcurrentChats"]), (&json!("Robert"), &json!(2)));

    let mut names = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let query = cursor.as_str().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = server.call(Call::get(format!("/v1/agents?limit=1{query}")).token(&acme.token)).await.expect(200);
        names.extend(page["items"].as_array().expect("items").iter().map(|agent| text(&agent["name"])));
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(names, ["Owner", "Robert"]);
}

/// The operator makes tenants and tokens; without the token, or on a server without one, there is nothing to see.
#[tokio::test]
async fn the_operator_spans_tenants() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body = json!({ "name": "Globex", "ownerName": "Gil", "ownerEmail": "gil@globex.example" });
    let create = Call::post("/v1/operator/tenants", body);
    server.call(create.clone()).await.expect(401);
    server.call(create.clone().token(&acme.token)).await.expect(401);
    let made = server.call(create.token(OPERATOR)).await.expect(201);
    assert_eq!((&made["tenant"]["slug"], made["access_token"].is_null()), (&json!("globex"), true));
    let listed = server.call(Call::get("/v1/operator/tenants").token(OPERATOR)).await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
    let token =
        Call::post("/v1/operator/tenants/globex/tokens", json!({ "name": "sql", "scopes": [], "expiresAt": null }));
    let token = text(&server.call(token.token(OPERATOR)).await.expect(201)["token"]);
    assert!(token.starts_with("p."));
    server.call(Call::get("/v0/sql?q=SELECT+1+AS+one").token(&token)).await.expect(200);
    server.call(Call::post("/v1/operator/tenants/nobody/tokens", json!({})).token(OPERATOR)).await.expect(404);
}

/// Neither tokens nor passwords nor addresses lie in the data directory in clear.
#[tokio::test]
async fn secrets_are_not_stored_in_clear() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body = json!({ "name": "Visitor Vera", "email": "vera@mail.example", "initialMessage": "the parcel is lost" });
    let session = server.session(&acme, body).await;
    let made = server.call(Call::post("/v0/tokens", json!({ "name": "t" })).token(&acme.token)).await.expect(200);
    let bytes = server.database();
    let secrets = [
        PASSWORD,
        &acme.token,
        &acme.refresh_token,
        &text(&session["sessionToken"]),
        &text(&made["token"]),
        "owner@acme.example",
        "vera@mail.example",
        "Visitor Vera",
        "the parcel is lost",
    ];
    for secret in secrets {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} is stored in clear");
    }
}
