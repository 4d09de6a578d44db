//! Mails through the whole server: one welcome to the visitor, one notice to an agent who is offline; into the spool, and
//! to a real SMTP server. How the sink copes with a server that misbehaves is tested in `sinks/tests/`.

#[allow(dead_code, clippy::unwrap_used, reason = "shared with the sink's own tests, which use all of it")]
#[path = "../sinks/tests/it/mail_server.rs"]
mod mail_server;
#[path = "../sinks/tests/it/python.rs"]
mod python;
mod support;

use ingest::payload::MailKind;
use mail_server::{MailServer, closed_port};
use reqwest::Method;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{Server, Tenant};

async fn wait_for(what: &str, mut found: impl FnMut() -> bool) {
    for _ in 0..200 {
        if found() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited 10 s for {what}");
}

fn mails(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "eml"));
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).expect("readable")).collect()
}

/// A tenant whose owner has signed in by a mailed code, so that the address is known to be theirs.
async fn verified(server: &Server, spool: &Path) -> Tenant {
    let tenant = server.tenant("Postal").await;
    server.post("/v1/auth/otp", "", json!({ "email": tenant.email })).await;
    let mail = mail_to(spool, &tenant.email, "sign-in code").await;
    let code = after(&mail, "code to sign in to Postal is ");
    let signed_in = server.post("/v1/auth/otp/verify", "", json!({ "email": tenant.email, "code": code })).await;
    assert_eq!(signed_in["agent"]["id"], json!(tenant.agent));
    tenant
}

/// The visitor of a new conversation, with the agent offline.
async fn new_conversation(server: &Server, tenant: &Tenant) {
    let path = format!("/v1/agents/{}/status", tenant.agent);
    let (status, _) = server.call(Method::PUT, &path, &tenant.token, Some(json!({ "status": "offline" }))).await;
    assert!(status.is_success());
    let body = json!({ "name": "Zoë", "email": "zoe@mail.example", "initialMessage": "Is anybody there?" });
    let session = server.session(&tenant.chatbot_key, body).await;
    // More messages send no more mails.
    let token = session["sessionToken"].as_str().expect("a token");
    for number in 0..3 {
        server.post("/v1/widget/events", token, json!({ "content": format!("hello {number}") })).await;
    }
}

fn check(mails: &[String]) {
    let to = |address: &str| {
        mails
            .iter()
            .filter(|mail| mail.contains(&format!("<{address}>")) || mail.contains(&format!("To: {address}")))
            .count()
    };
    assert_eq!(to("zoe@mail.example"), 1, "one welcome: {mails:?}");
    assert_eq!(to("owner@postal.example"), 1, "one notice: {mails:?}");
    assert!(!mails.iter().any(|mail| mail.contains("anybody there")), "mails don't repeat what was said");
}

#[tokio::test]
async fn the_spool_has_one_welcome_and_one_notice() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let spool = dir.path().join("spool");
    let tenant = verified(&server, &spool).await;
    new_conversation(&server, &tenant).await;
    // The code was one.
    wait_for("three mails", || mails(&spool).len() == 3).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut about_it = mails(&spool);
    about_it.retain(|mail| !mail.contains("sign-in code"));
    check(&about_it);
    server.stop();
}

#[tokio::test]
async fn an_smtp_server_gets_one_welcome_and_one_notice_even_when_it_was_away() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let tenant = verified(&server, &dir.path().join("spool")).await;
    server.stop();
    // Mails wait while nothing listens; a restart with the same data directory sends them.
    let away = format!("smtp://127.0.0.1:{}?tls=off", closed_port());
    let server = Server::start(dir.path(), &["--mail", &away]);
    new_conversation(&server, &tenant).await;
    for tries in 0.. {
        let (_, ready) = server.call(Method::GET, "/readyz", "", None).await;
        if ready.to_string().contains("mails wait") {
            break;
        }
        assert!(tries < 200, "the missing mail server isn't named on /readyz: {ready}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.stop();

    let smtp = MailServer::start();
    let there = format!("smtp://127.0.0.1:{}?tls=off", smtp.port);
    let server = Server::start(dir.path(), &["--mail", &there]);
    wait_for("two mails", || smtp.taken().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut recipients: Vec<String> = smtp.taken().into_iter().flat_map(|mail| mail.rcpt_tos).collect();
    recipients.sort();
    assert_eq!(recipients, ["owner@postal.example", "zoe@mail.example"]);
    for mail in smtp.taken() {
        assert!(!mail.text.contains("anybody there") && !mail.html.contains("anybody there"));
    }
    server.stop();
    // What was sent is not sent again by the next start.
    let server = Server::start(dir.path(), &["--mail", &there]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(smtp.taken().len(), 2, "a restart repeats nothing");
    server.stop();
}

/// The body of a mail in the spool, its transfer encoding undone as far as codes and links need it.
fn body(mail: &str) -> String {
    mail.replace("=\r\n", "").replace("=3D", "=")
}

/// The one mail to an address that contains a word.
async fn mail_to(spool: &Path, address: &str, word: &str) -> String {
    let find = || mails(spool).iter().map(|mail| body(mail)).find(|mail| mail.contains(address) && mail.contains(word));
    wait_for(word, || find().is_some()).await;
    find().expect("found")
}

fn after<'a>(mail: &'a str, start: &str) -> &'a str {
    let rest = &mail[mail.find(start).expect("in the mail") + start.len()..];
    rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).next().unwrap_or_default()
}

/// A code, a reset's link and an invitation's link arrive by mail and work; no other part of the server knows them.
#[tokio::test]
async fn mailed_codes_and_links_work() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let spool = dir.path().join("spool");
    let tenant = verified(&server, &spool).await;

    server.post("/v1/auth/password/forgot", "", json!({ "email": tenant.email })).await;
    let mail = mail_to(&spool, &tenant.email, "set a new password").await;
    let token = after(&mail, "/reset-password#token=");
    let password = "another horse battery";
    server.post("/v1/auth/password/reset", "", json!({ "token": token, "password": password })).await;
    let signed_in = server.post("/v1/auth/login", "", json!({ "email": tenant.email, "password": password })).await;
    let owner = signed_in["access_token"].as_str().expect("a token");

    server.post("/v1/invitations", owner, json!({ "email": "eve@postal.example", "role": "agent" })).await;
    let mail = mail_to(&spool, "eve@postal.example", "invites you").await;
    let token = after(&mail, "/accept-invitation#token=");
    let body = json!({ "token": token, "name": "Eve", "password": password });
    let eve = server.post("/v1/invitations/accept", "", body).await;
    assert_eq!(eve["agent"]["role"], "agent");
    server.stop();
}

/// An agent and a visitor who are there by an import alone, with addresses that nobody here has typed.
async fn imported(server: &Server, tenant: &Tenant) -> (String, Vec<String>) {
    let line = |id: &str, resolved: bool| {
        json!({
            "id": id, "resolved": resolved,
            "visitor": { "id": "old", "name": "Old Customer", "email": "customer@old.example" },
            "agent": { "id": "left", "name": "Has Left", "email": "left@old.example" },
            "messages": [{ "at": "2024-05-01T10:00:00Z", "from": "visitor", "text": "hi" }],
        })
        .to_string()
    };
    let body = [line("1", true), line("2", false)].join("\n");
    let sent = support::http_client(60)
        .post(format!("{}/v1/import/conversations", server.base))
        .bearer_auth(&tenant.token)
        .body(body)
        .send();
    let report: serde_json::Value = sent.await.expect("an answer").json().await.expect("a report");
    assert_eq!(report["imported"], 2, "{report}");
    let agents = server.get("/v1/agents", &tenant.token).await;
    let found = agents["items"].as_array().expect("items").iter().find(|agent| agent["name"] == "Has Left");
    let found = found.expect("the imported agent");
    assert_eq!(found["email"], "left@old.example", "the owner may add agents, so they keep the address");
    let chats = server.get("/v1/conversations", &tenant.token).await;
    let chats = chats["items"].as_array().expect("items").iter();
    let ids = chats.map(|chat| chat["id"].as_str().expect("an id").to_owned()).collect();
    (found["id"].as_str().expect("an id").to_owned(), ids)
}

/// What may make a mail of a kind to somebody who was imported; whether it does, since they ask for it themselves.
async fn provoke(server: &Server, tenant: &Tenant, kind: MailKind, agent: &str, chats: &[String]) -> bool {
    let own = &tenant.token;
    match kind {
        // Their conversations go on, in every way that an agent has.
        MailKind::Welcome => {
            for chat in chats {
                for action in ["reopen", "take", "unassign", "resolve", "reopen"] {
                    server
                        .call(Method::POST, &format!("/v1/conversations/{chat}/{action}"), own, Some(json!({})))
                        .await;
                }
            }
            false
        }
        MailKind::NewConversation => {
            new_conversation(server, tenant).await;
            for chat in chats {
                let body = Some(json!({ "agentId": agent }));
                server.call(Method::POST, &format!("/v1/conversations/{chat}/assign"), own, body).await;
            }
            false
        }
        // They have no password, and a code needs one.
        MailKind::Otp => {
            server.post("/v1/auth/otp", "", json!({ "email": "left@old.example" })).await;
            false
        }
        MailKind::PasswordReset => {
            server.post("/v1/auth/password/forgot", "", json!({ "email": "left@old.example" })).await;
            true
        }
        // Somebody else's is nothing to them.
        MailKind::Invitation => {
            server.post("/v1/invitations", own, json!({ "email": "eve@postal.example", "role": "agent" })).await;
            false
        }
    }
}

/// Who is only imported gets no mail, of any kind, but what they ask for themselves.
#[tokio::test]
async fn who_is_only_imported_gets_no_mail() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let spool = dir.path().join("spool");
    let tenant = verified(&server, &spool).await;
    let (agent, chats) = imported(&server, &tenant).await;
    let mut expected = 0;
    for kind in MailKind::ALL {
        expected += usize::from(provoke(&server, &tenant, kind, &agent, &chats).await);
    }
    // Later mails than theirs are sent, so theirs would have been too.
    mail_to(&spool, "zoe@mail.example", "have your message").await;
    mail_to(&spool, "eve@postal.example", "invites you").await;
    mail_to(&spool, &tenant.email, "started a conversation").await;
    wait_for("what they asked for", || mails(&spool).iter().any(|mail| mail.contains("left@old.example"))).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let theirs: Vec<String> = mails(&spool).into_iter().filter(|mail| mail.contains("@old.example")).collect();
    assert_eq!(theirs.len(), expected, "{theirs:?}");
    assert!(theirs.iter().all(|mail| body(mail).contains("/reset-password#token=")), "{theirs:?}");
    server.stop();
}
