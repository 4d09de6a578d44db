//! Mail: somebody's address is typed again and again, a tenant uses the server to write to strangers, recipients hang. Others'
//! mails arrive all the while, codes first, and strangers get few mails with nothing to click on.

use crate::hostile_mail_server::{HostileServer, Letter, Step, Wrong};
use crate::siege;
use crate::support::{PASSWORD, Server, Tenant, http_client};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Sessions of the flood.
const FLOOD: usize = 1_500;
/// Within this every mail of others has arrived.
const ARRIVES_MAX: Duration = Duration::from_secs(15);
const ADDRESSES_OFF: [&str; 6] = ["--limit", "session_ip=off", "--limit", "sign_up_ip=off", "--limit", "login_ip=off"];

fn url(server: &HostileServer) -> String {
    format!("smtp://{}?tls=off", server.address)
}

/// Starts so many sessions through a chatbot, some at once; `address` says who types what.
async fn sessions(server: &Server, chatbot_key: &str, count: usize, address: impl Fn(usize) -> String) {
    let http = http_client(60);
    let mut under_way = JoinSet::new();
    for number in 0..count {
        let body = json!({ "name": "V", "email": address(number), "initialMessage": "hello" });
        let request = http.post(format!("{}/v1/widget/session", server.base)).header("x-chatbot-key", chatbot_key);
        let sending = request.json(&body).send();
        under_way.spawn(async move { sending.await.expect("an answer").status() });
        if under_way.len() >= 16 {
            assert_eq!(under_way.join_next().await.expect("one").expect("no panic"), 201);
        }
    }
    while let Some(status) = under_way.join_next().await {
        assert_eq!(status.expect("no panic"), 201);
    }
}

/// Waits until the server has taken so many mails of which this holds.
async fn arrive(mail: &HostileServer, what: &str, count: usize, holds: impl Fn(&Letter) -> bool) {
    let started = Instant::now();
    loop {
        let arrived = mail.taken().iter().filter(|letter| holds(letter)).count();
        if arrived >= count {
            return;
        }
        assert!(started.elapsed() < ARRIVES_MAX, "{what}: {arrived} of {count} mails have arrived");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn others_mails_arrive(server: &Server, mail: &HostileServer, others: &[Tenant]) {
    for (number, other) in others.iter().enumerate() {
        sessions(server, &other.chatbot_key, 5, |n| format!("v{n}@shop{number}.example")).await;
    }
    arrive(mail, "others' welcomes", 5 * others.len(), |letter| letter.to.contains("@shop")).await;
    let asked = json!({ "email": others[0].email });
    server.post("/v1/auth/otp", "", asked).await;
    arrive(mail, "a code", 1, |letter| letter.to == others[0].email).await;
}

/// One stranger's sessions, all with one address, stop nobody's mail.
#[tokio::test]
async fn a_flood_to_one_address_stops_nobodys_mail() {
    let mail = HostileServer::start(None).await;
    let url = url(&mail);
    let flags = [&["--mail", &url, "--limit", "session_chatbot=off"][..], &ADDRESSES_OFF].concat();
    let by_default = AtomicBool::new(true);
    siege::at_default_limits_and_with_rates_off(&flags, async |siege| {
        let mut others = Vec::new();
        for number in 0..6 {
            others.push(siege.server.tenant(&format!("Shop{number}")).await);
        }
        sessions(&siege.server, &siege.attacker.chatbot_key, FLOOD, |_| "victim@mail.example".to_owned()).await;
        others_mails_arrive(&siege.server, &mail, &others).await;
        let flood = mail.taken().iter().filter(|letter| letter.to == "victim@mail.example").count();
        // By default an address gets so many of a kind at once, and one more in three minutes.
        let most = if by_default.swap(false, Ordering::Relaxed) { 20 + 1 } else { FLOOD };
        assert!((1..=most).contains(&flood), "{flood} of at most {most}");
        mail.forget();
    })
    .await;
}

/// Recipients that hang, at as many domains as the attacker likes, stop nobody's mail.
#[tokio::test]
async fn recipients_that_hang_stop_nobodys_mail() {
    let mail = HostileServer::start(Some((Step::Recipient, Wrong::Hang))).await;
    let url = url(&mail);
    let flags = [&["--mail", &url, "--limit", "session_chatbot=off"][..], &ADDRESSES_OFF].concat();
    siege::at_default_limits_and_with_rates_off(&flags, async |siege| {
        let others = [siege.server.tenant("Shop0").await, siege.server.tenant("Shop1").await];
        sessions(&siege.server, &siege.attacker.chatbot_key, 60, |n| format!("bad@d{n}.example")).await;
        others_mails_arrive(&siege.server, &mail, &others).await;
        mail.forget();
    })
    .await;
}

/// A tenant named with a link, agents with strangers' addresses, invitations, codes and one session: strangers get what a
/// new tenant may send, and nothing to click on that isn't the server's own.
#[tokio::test]
async fn a_tenant_is_no_relay() {
    let mail = HostileServer::start(None).await;
    let dir = tempfile::tempdir().expect("temp dir");
    let url = url(&mail);
    let flags = [&["--mail", &url, "--limit", "agent=off"][..], &ADDRESSES_OFF].concat();
    let server = Server::start(dir.path(), &flags);
    let words = "You have won! https://evil.example/claim or www.evil.example";
    let owner = "mallory@evil.example";
    let body = json!({ "name": words, "adminName": words, "adminEmail": owner, "adminPassword": PASSWORD });
    let made = server.post("/v1/tenants", "", body).await;
    let (token, slug) = (text(&made["access_token"]), text(&made["tenant"]["slug"]));
    for number in 0..60 {
        let email = format!("stranger{number}@agents.example");
        let agent = json!({ "name": words, "email": email, "password": PASSWORD, "role": "agent" });
        server.post("/v1/agents", &token, agent).await;
        for route in ["otp", "password/forgot"] {
            server.post(&format!("/v1/auth/{route}"), "", json!({ "email": email, "tenant": slug })).await;
        }
        let invited = json!({ "email": format!("stranger{number}@invited.example"), "role": "agent" });
        server.post("/v1/invitations", &token, invited).await;
    }
    let chatbot = server.post("/v1/chatbots", &token, json!({ "name": "Site", "allowedOrigins": [] })).await;
    sessions(&server, &text(&chatbot["apiKey"]), 60, |n| format!("stranger{n}@visitors.example")).await;
    settled(&server, &mail).await;
    // Long lines are folded.
    let letters: Vec<String> = mail.taken().iter().map(|letter| letter.content.replace("=\n", "")).collect();
    let count = |words: &str| letters.iter().filter(|letter| letter.contains(words)).count();
    assert_eq!(count("has started a conversation"), 0, "nobody of them has proven an address");
    for words in ["Thank you for writing", "You are invited", "Your code to sign in", "to set a new password for"] {
        assert!((1..=24).contains(&count(words)), "{words}: {}", count(words));
    }
    for letter in &letters {
        for link in ["evil.example/", "www.evil", "https://evil"] {
            assert!(!letter.contains(link), "{letter}");
        }
    }
    server.stop();
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected a text, found {value}")).to_owned()
}

/// Waits until no more mails come.
async fn settled(server: &Server, mail: &HostileServer) {
    let mut before = usize::MAX;
    while before != mail.taken().len() {
        before = mail.taken().len();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    let (status, _) = server.call(Method::GET, "/healthz", "", None).await;
    assert_eq!(status, 200);
}

/// A mail that hangs is not waited for when the server stops.
#[tokio::test]
async fn stopping_waits_for_no_mail() {
    let mail = HostileServer::start(Some((Step::Content, Wrong::Hang))).await;
    let dir = tempfile::tempdir().expect("temp dir");
    let url = url(&mail);
    let server = Server::start(dir.path(), &["--mail", &url]);
    let tenant = server.tenant("Acme").await;
    sessions(&server, &tenant.chatbot_key, 3, |n| format!("bad{n}@mail.example")).await;
    while mail.contents() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stopping = Instant::now();
    server.stop();
    assert!(stopping.elapsed() < Duration::from_secs(10), "{:?}", stopping.elapsed());
    // Their second and last try is after the start.
    mail.mend();
    let server = Server::start(dir.path(), &["--mail", &url]);
    arrive(&mail, "mails after a restart", 3, |letter| letter.to.starts_with("bad")).await;
    server.stop();
    assert_eq!(mail.contents(), 6);
}
