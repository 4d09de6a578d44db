//! The audit log: who did what to whom, and no secrets.

use crate::support::{Call, PASSWORD, Server, text};
use chat_api::core::state::AuditEntry;
use chat_api::domain::ChatDomain;
use chat_api::store::{self, hash};
use ingest::writer::Domain as _;
use rusqlite::Connection;
use serde_json::{Value, json};

/// Each change is a line, newest first, with its actor and whom it was about, page by page, for who may read it.
#[tokio::test]
async fn changes_are_listed_newest_first() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let (bob, token) = server.agent(&acme, "Bob", "agent").await;
    server.call(Call::patch("/v1/tenants/me", json!({ "idleMinutes": 20 })).token(&acme.token)).await.expect(200);
    let change = json!({ "name": "Robert", "phone": "+49 30 123", "role": "supervisor" });
    server.call(Call::patch(format!("/v1/agents/{bob}"), change).token(&acme.token)).await.expect(200);
    server.call(Call::get("/v1/audit").token(&token)).await.expect(401);

    let mut entries = Vec::new();
    let mut query = String::new();
    loop {
        let page = server.call(Call::get(format!("/v1/audit?limit=2{query}")).token(&acme.token)).await.expect(200);
        entries.extend(page["items"].as_array().expect("items").clone());
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        query = format!("&cursor={cursor}");
    }
    let types: Vec<String> = entries.iter().map(|entry| text(&entry["type"])).collect();
    let expected = [
        "agent.updated",
        "tenant.updated",
        "session.opened",
        "agent.created",
        "chatbot.created",
        "session.opened",
        "agent.created",
        "tenant.created",
    ];
    assert_eq!(types, expected);
    let updated = &entries[0];
    assert_eq!(updated["actor"], json!({ "kind": "agent", "id": acme.owner, "name": "Owner" }));
    assert_eq!(updated["about"], json!({ "kind": "agent", "id": bob, "name": "Robert" }));
    assert_eq!(updated["fields"], json!(["agentId", "name", "phone", "role"]));
    assert_eq!(updated["details"], json!({ "role": "supervisor" }));
    assert_eq!(entries[1]["details"], json!({ "idleMinutes": 20 }));

    let foreign = server.call(Call::get("/v1/audit").token(&globex.token)).await;
    assert!(!foreign.text.contains(&acme.owner) && !foreign.text.contains(&bob));
    let supervisor = server.log_in(&acme, "bob@acme.example", PASSWORD).await.expect(200);
    let denied = Call::get("/v1/audit").token(&text(&supervisor["access_token"]));
    assert_eq!(server.call(denied).await.expect(403)["code"], "forbidden");
}

/// What is deleted and restored is a line by its own name, whatever kind of thing it is.
#[tokio::test]
async fn deleted_and_restored_things_are_listed_by_their_kind() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let things = [
        ("groups", "group", json!({ "name": "Sales" })),
        ("tags", "tag", json!({ "name": "vip" })),
        ("canned-responses", "canned_response", json!({ "shortcut": "hi", "text": "Hello" })),
        ("chatbots", "chatbot", json!({ "name": "Other" })),
        ("roles", "role", json!({ "name": "Night", "permissions": [] })),
    ];
    for (route, kind, body) in things {
        let made = server.call(Call::post(format!("/v1/{route}"), body).token(&acme.token)).await.expect(201);
        let path = format!("/v1/{route}/{}", text(&made["id"]));
        server.call(Call::delete(&path).token(&acme.token)).await.expect(200);
        let restore = Call::post(format!("{path}/restore"), json!({})).token(&acme.token);
        server.call(restore).await.expect(200);
        let page = server.call(Call::get("/v1/audit?limit=3").token(&acme.token)).await.expect(200);
        for (entry, done) in page["items"].as_array().expect("items").iter().zip(["restored", "deleted", "created"]) {
            assert_eq!(entry["type"], format!("{kind}.{done}"));
            assert_eq!((&entry["about"]["kind"], &entry["about"]["id"]), (&json!(kind), &made["id"]), "{entry}");
        }
    }
}

/// Nothing in it could be used or belongs to a person: no hash, no token, no address, no phone.
#[tokio::test]
async fn the_audit_log_holds_no_secret() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    server.agent(&acme, "Bob", "agent").await;
    server.call(Call::post("/v0/tokens", json!({ "name": "t" })).token(&acme.token)).await.expect(200);
    let invite = json!({ "email": "new@acme.example", "role": "agent" });
    server.call(Call::post("/v1/invitations", invite).token(&acme.token)).await.expect(201);
    let change = json!({ "currentPassword": PASSWORD, "newPassword": "another horse battery" });
    let changed = server.call(Call::post("/v1/auth/password/change", change).token(&acme.token)).await.expect(200);
    let token = text(&changed["access_token"]);
    let audit = server.call(Call::get("/v1/audit").token(&token)).await;
    let rows: Vec<String> = server
        .app
        .pool
        .read(|connection| {
            let mut statement = connection.prepare("SELECT body FROM audit")?;
            statement.query_map([], |row| row.get(0))?.collect()
        })
        .expect("rows");
    let all = format!("{}{}", audit.text, rows.join("\n"));
    for word in ["password.changed", "invitation.created", "token.created"] {
        assert!(all.contains(word), "{word}");
    }
    for secret in ["argon2", "@acme.example", &acme.chatbot_key, "\"c\":", &acme.refresh_token] {
        assert!(!all.contains(secret), "{secret} is in the audit log");
    }
    let hashes = audit.json["items"].as_array().expect("items").iter().flat_map(|item| {
        item["details"]
            .as_object()
            .expect("details")
            .values()
            .filter_map(Value::as_str)
            .map(str::len)
            .collect::<Vec<_>>()
    });
    assert!(hashes.max().unwrap_or(0) < 40, "no value is as long as a hash");
}

/// The log alone gives the same state and the same audit log again.
#[tokio::test]
async fn a_replay_makes_the_same_state_and_audit_log() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let role = json!({ "name": "Night", "permissions": ["conversations:read"] });
    let role = text(&server.call(Call::post("/v1/roles", role).token(&acme.token)).await.expect(201)["id"]);
    let (bob, _) = server.agent(&acme, "Bob", &role).await;
    let invite = json!({ "email": "new@acme.example", "role": role });
    server.call(Call::post("/v1/invitations", invite).token(&acme.token)).await.expect(201);
    server.call(Call::post("/v1/auth/otp", json!({ "email": acme.email }))).await.expect(200);
    server.wait_for_mails(ingest::payload::MailKind::Otp, 1).await;
    let wrong = json!({ "email": acme.email, "code": "000000" });
    server.call(Call::post("/v1/auth/otp/verify", wrong)).await;
    server
        .call(Call::patch(format!("/v1/roles/{role}"), json!({ "permissions": [] })).token(&acme.token))
        .await
        .expect(200);
    // An address that is given up and taken again, by someone whose id comes later or earlier.
    server.call(Call::delete(format!("/v1/agents/{bob}")).token(&acme.token)).await.expect(200);
    server.agent(&acme, "Bob", "agent").await;
    server.call(Call::delete(format!("/v1/roles/{role}")).token(&acme.token)).await.expect(200);

    let replayed = Connection::open_in_memory().expect("a database");
    store::create_tables(&replayed).expect("tables");
    let mut domain = ChatDomain::default();
    let reader = server.app.writer.reader();
    let mut next = 0;
    while next < reader.end() {
        for record in reader.read(next, 100).expect("the log") {
            domain.replay(&replayed, &record.event).expect("applies");
            next = record.offset + 1;
        }
        domain.flush(&replayed).expect("saves");
    }
    let audit = |connection: &Connection| -> rusqlite::Result<Vec<AuditEntry>> {
        let page = store::read::audit(connection, acme.id.parse().expect("an id"), None, 1_000)?;
        Ok(page.into_values().collect())
    };
    let (stored, entries) =
        server.app.pool.read(|connection| Ok((hash::state_hash(connection)?, audit(connection)?))).expect("reads");
    assert_eq!(hash::state_hash(&replayed).expect("reads"), stored);
    assert!(entries.len() > 10);
    assert_eq!(audit(&replayed).expect("reads"), entries);
}
