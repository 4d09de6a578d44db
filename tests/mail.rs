//! Mails through the whole server, into the spool: one welcome to the visitor, one notice to an agent who is offline.
//! Delivery to a real SMTP server is tested where the sink is, in `sinks/tests/`.

mod support;

use reqwest::Method;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::Server;

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

/// The visitor of a new conversation, with the agent offline.
async fn new_conversation(server: &Server) {
    let tenant = server.tenant("Postal").await;
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
    new_conversation(&server).await;
    let spool = dir.path().join("spool");
    wait_for("two mails", || mails(&spool).len() == 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    check(&mails(&spool));
    server.stop();
}
