//! Nobody mints, invites, publishes, signs or opens more than they hold. Attempts with permissions and roles are in `roles`.

use crate::support::{Call, PASSWORD, Reply, Server, Tenant, text};
use axum::http::Method;
use serde_json::{Value, json};

/// An agent who holds just this.
async fn agent_with(server: &Server, tenant: &Tenant, name: &str, permissions: &[&str]) -> (String, String) {
    let body = json!({ "name": name, "permissions": permissions });
    let role = server.call(Call::post("/v1/roles", body).token(&tenant.token)).await.expect(201);
    server.agent(tenant, name, &text(&role["id"])).await
}

async fn group(server: &Server, tenant: &Tenant, body: Value, members: &[&str]) -> String {
    let made = server.call(Call::post("/v1/groups", body).token(&tenant.token)).await.expect(201);
    let path = format!("/v1/groups/{}/agents", text(&made["id"]));
    server.call(Call::post(path, json!({ "agentIds": members })).token(&tenant.token)).await.expect(200);
    text(&made["id"])
}

#[track_caller]
fn refused(attempt: &Call, reply: &Reply) {
    let said = reply.json["code"].as_str().or(reply.json["error"].as_str()).unwrap_or_default();
    let more = said == "more_than_own" || said.starts_with("this takes permissions that you don't hold");
    assert!(reply.status == 403 && more, "{attempt:?}: {} {}", reply.status, reply.text);
}

/// Tokens, signatures and secrets do what their maker could do: each attempt by someone who holds all that it needs but what
/// it would open.
#[tokio::test]
async fn nobody_mints_or_signs_more_than_they_hold() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (_, minter) = agent_with(&server, &acme, "Minter", &["tokens:write", "conversations:read"]).await;
    let bots = ["chatbots:write", "conversations:read", "visitors:read", "visitors:write"];
    let (_, bots) = agent_with(&server, &acme, "Bots", &bots).await;
    let mint = |scopes: Value| Call::post("/v0/tokens", json!({ "name": "mine", "scopes": scopes }));
    let mut attempts = vec![(mint(json!([])), &minter), (Call::get("/v0/tokens/signing_key"), &minter)];
    for kind in chat_api::core::grants::ScopeKind::TEXTS {
        for resource in ["*", "mine"] {
            attempts.push((mint(json!([{ "type": kind, "resource": resource }])), &minter));
        }
    }
    // What a filter says of a table that isn't there isn't told either.
    let filter = json!([{ "type": "DATASOURCES:READ", "resource": "messages", "filter": "no_such_column = 1" }]);
    attempts.push((mint(filter), &minter));
    attempts.push((
        Call::post(format!("/v1/chatbots/{}/rotate-key", acme.chatbot), json!({ "what": "identitySecret" })),
        &bots,
    ));
    let end = server.app.writer.reader().end();
    for (attempt, token) in attempts {
        refused(&attempt, &server.call(attempt.clone().token(token)).await);
    }
    assert_eq!(server.app.writer.reader().end(), end, "nothing was written");
    // A chatbot may be made, and its key replaced; the secret isn't told.
    let made = server.call(Call::post("/v1/chatbots", json!({ "name": "New" })).token(&bots)).await.expect(201);
    assert!(made["apiKey"].is_string() && made.get("identitySecret").is_none(), "{made}");
    let rotate = format!("/v1/chatbots/{}/rotate-key", text(&made["id"]));
    server.call(Call::post(&rotate, json!({})).token(&bots)).await.expect(200);
    let secret = Call::post(&rotate, json!({ "what": "identitySecret" })).token(&acme.token);
    assert!(server.call(secret).await.expect(200)["identitySecret"].is_string());
    // Who reads reports may mint readers; who may do neither sees what there is, without a token's value, and takes it away.
    let (_, both) = agent_with(&server, &acme, "Both", &["tokens:write", "reports:read"]).await;
    let token = server.call(mint(json!([])).token(&both)).await.expect(200);
    let value = text(&token["token"]);
    let listed = server.call(Call::get("/v0/tokens").token(&minter)).await;
    assert!(listed.status == 200 && !listed.text.contains(&value), "{}", listed.text);
    let revoke = Call::delete(format!("/v0/tokens/{}", text(&token["id"]))).token(&minter);
    assert_eq!(server.call(revoke).await.status, 204);
}

/// Their own access tokens do no more at `/v0` than they may give.
#[tokio::test]
async fn an_access_token_does_what_its_agent_could_give() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (_, minter) = agent_with(&server, &acme, "Minter", &["tokens:write"]).await;
    let (_, reader) = agent_with(&server, &acme, "Reader", &["reports:read"]).await;
    let publish = || Call::new(Method::POST, "/v0/pipes?name=mine&sql=SELECT+1+AS+one");
    for (call, token) in [
        (Call::get("/v0/sql?q=SELECT+1"), &minter),
        (publish(), &minter),
        (publish(), &reader),
        (Call::new(Method::POST, "/v0/events?name=mine").raw(r#"{"one":1}"#), &reader),
    ] {
        server.call(call.token(token)).await.expect(403);
    }
    server.call(Call::get("/v0/sql?q=SELECT+1").token(&reader)).await.expect(200);
    server.call(publish().token(&acme.token)).await.expect(200);
}

/// A group is opened by who sees its conversations: to others, to oneself, by its deletion, by what is the default, and by the
/// address of somebody who is in it.
#[tokio::test]
async fn nobody_opens_conversations_that_they_do_not_see() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let held = ["groups:write", "agents:write", "conversations:read", "conversations:reply"];
    let (mia_id, mia) = agent_with(&server, &acme, "Mia", &held).await;
    let (weak, _) = agent_with(&server, &acme, "Weak", &["conversations:read"]).await;
    let (gone, _) = agent_with(&server, &acme, "Gone", &["conversations:read"]).await;
    let ours = group(&server, &acme, json!({ "name": "Ours" }), &[&mia_id]).await;
    let other = group(&server, &acme, json!({ "name": "Other" }), &[&weak, &gone]).await;
    let old = group(&server, &acme, json!({ "name": "Old" }), &[]).await;
    let default = group(&server, &acme, json!({ "name": "Default", "isDefault": true }), &[]).await;
    for path in [format!("/v1/groups/{old}"), format!("/v1/agents/{gone}")] {
        server.call(Call::delete(path).token(&acme.token)).await.expect(200);
    }
    let add =
        |group: &str, agent: &str| Call::post(format!("/v1/groups/{group}/agents"), json!({ "agentIds": [agent] }));
    let agent = |id: &str, body: Value| Call::patch(format!("/v1/agents/{id}"), body);
    let attempts = [
        add(&other, &mia_id),
        add(&other, &weak),
        add(&default, &mia_id),
        Call::delete(format!("/v1/groups/{other}")),
        Call::delete(format!("/v1/groups/{default}")),
        Call::patch(format!("/v1/groups/{ours}"), json!({ "isDefault": true })),
        Call::patch(format!("/v1/groups/{default}"), json!({ "isDefault": false })),
        agent(&weak, json!({ "email": "mine@acme.example" })),
        Call::new(Method::POST, format!("/v1/agents/{gone}/restore")),
    ];
    let end = server.app.writer.reader().end();
    for attempt in attempts {
        refused(&attempt, &server.call(attempt.clone().token(&mia)).await);
    }
    assert_eq!(server.app.writer.reader().end(), end, "nothing was written");
    // One's own group is one's to share, and what opens nothing is as it was.
    for call in [
        add(&ours, &weak),
        agent(&weak, json!({ "name": "Strong" })),
        Call::patch(format!("/v1/groups/{other}"), json!({ "name": "Others" })),
        Call::delete(format!("/v1/groups/{other}/agents/{weak}")),
        agent(&weak, json!({ "email": "weak@elsewhere.example" })),
    ] {
        server.call(call.token(&mia)).await.expect(200);
    }
    server.call(Call::post("/v1/groups", json!({ "name": "New" })).token(&mia)).await.expect(201);
    for call in [add(&default, &weak), Call::patch(format!("/v1/groups/{ours}"), json!({ "isDefault": true }))] {
        server.call(call.token(&acme.token)).await.expect(200);
    }
}

/// Who imports transcripts makes no account by it: an address that a transcript gives to its agent lets nobody in.
#[tokio::test]
async fn an_import_makes_no_account_that_its_sender_could_not() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (_, importer) = agent_with(&server, &acme, "Imp", &["conversations:import"]).await;
    let import = async |id: &str, email: &str, token: &str| {
        let message = json!({ "at": "2020-05-12T17:44:40Z", "from": "agent", "text": "hi" });
        let agent = json!({ "id": format!("agent-{id}"), "name": "Imported", "email": email });
        let line = json!({ "id": id, "visitor": { "id": "v" }, "agent": agent, "messages": [message] });
        let call = Call::new(Method::POST, "/v1/import/conversations").raw(line.to_string()).token(token);
        assert_eq!(server.call(call).await.expect(200)["imported"], 1);
    };
    import("one", "thief@evil.example", &importer).await;
    import("two", "known@acme.example", &acme.token).await;
    let agents = server.call(Call::get("/v1/agents").token(&acme.token)).await.expect(200);
    let imported = agents["items"].as_array().expect("items").iter().filter(|agent| agent["name"] == "Imported");
    let emails: Vec<&Value> = imported.map(|agent| &agent["email"]).collect();
    assert!(emails.contains(&&Value::Null) && emails.contains(&&json!("known@acme.example")), "{emails:?}");
    for email in ["thief@evil.example", "known@acme.example"] {
        server.call(Call::post("/v1/auth/password/forgot", json!({ "email": email }))).await.expect(200);
    }
    let mails = server.wait_for_mails(ingest::payload::MailKind::PasswordReset, 1).await;
    assert_eq!(mails.len(), 1, "one of them has an account");
    server.log_in(&acme, "thief@evil.example", PASSWORD).await.expect(401);
}
