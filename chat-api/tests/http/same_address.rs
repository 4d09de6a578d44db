//! Anyone can sign up with anyone's address. What is known of it elsewhere changes nothing for whoever it belongs to: not
//! their sign-in, not their mails, not their limits, not their sessions.

use crate::support::{Call, PASSWORD, Reply, Server, Setup, Tenant, text};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chat_api::auth::challenges;
use chat_api::core::state::Mail;
use chat_api::limits::Rates;
use ingest::payload::MailKind;
use serde_json::{Value, json};
use std::time::Instant;

const THEIR_PASSWORD: &str = "a password of mallory";

/// Signs up with somebody's address, as anyone can.
async fn sign_up(server: &Server, name: &str, email: &str, password: &str) -> Value {
    let body = json!({ "name": name, "adminName": "M", "adminEmail": email, "adminPassword": password });
    server.call(Call::post("/v1/tenants", body)).await.expect(201)
}

async fn mallory(server: &Server, email: &str, count: usize) {
    for number in 0..count {
        sign_up(server, &format!("Mallory {number}"), email, THEIR_PASSWORD).await;
    }
}

async fn log_in(server: &Server, email: &str, password: &str) -> Reply {
    server.call(Call::post("/v1/auth/login", json!({ "email": email, "password": password }))).await
}

fn persons(mails: &[Mail]) -> Vec<String> {
    mails.iter().map(|mail| mail.person.0.to_string()).collect()
}

async fn ask(server: &Server, path: &str, email: &str) {
    server.call(Call::post(path, json!({ "email": email }))).await.expect(200);
}

/// Dozens of sign-ups, before the owner's own or after it: the password alone says whose account it is.
#[tokio::test]
async fn a_password_leads_to_its_own_account_whoever_else_has_the_address() {
    for (before, after) in [(0, 4), (6, 0), (30, 10)] {
        let server = Server::start();
        mallory(&server, "owner@acme.example", before).await;
        let acme = server.tenant("Acme").await;
        mallory(&server, &acme.email.to_uppercase(), after).await;
        let started = Instant::now();
        let signed_in = log_in(&server, &acme.email, PASSWORD).await.expect(200);
        let took = started.elapsed();
        assert_eq!(signed_in["agent"]["id"], json!(acme.owner));
        // Theirs lead to theirs, of which there are several: that is asked of nobody else.
        assert_eq!(log_in(&server, &acme.email, THEIR_PASSWORD).await.expect(422)["code"], "tenant_required");
        log_in(&server, &acme.email, "a wrong password").await.expect(401);
        let started = Instant::now();
        log_in(&server, "nobody@acme.example", PASSWORD).await.expect(401);
        println!("with {} accounts {took:?}, with none {:?}", before + after + 1, started.elapsed());
    }
}

/// An agent whose address was changed has a hash of another salt, and is found all the same.
#[tokio::test]
async fn a_changed_address_keeps_its_password() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (bob, _) = server.agent(&acme, "Bob", "agent").await;
    let change = Call::patch(format!("/v1/agents/{bob}"), json!({ "email": "robert@acme.example" }));
    server.call(change.token(&acme.token)).await.expect(200);
    mallory(&server, "robert@acme.example", 5).await;
    assert_eq!(log_in(&server, "robert@acme.example", PASSWORD).await.expect(200)["agent"]["id"], json!(bob));
    log_in(&server, "robert@acme.example", "a wrong password").await.expect(401);
    log_in(&server, "bob@acme.example", PASSWORD).await.expect(401);
}

/// A code and a link go to the owner's account among others; once it has used one, to no other account of the address.
#[tokio::test]
async fn mails_go_to_the_owners_account() {
    let server = Server::start();
    mallory(&server, "owner@acme.example", 4).await;
    let acme = server.tenant("Acme").await;
    mallory(&server, &acme.email, 4).await;
    ask(&server, "/v1/auth/otp", &acme.email).await;
    let mails = server.wait_for_mails(MailKind::Otp, 8).await;
    let own = mails.iter().find(|mail| mail.person.0.to_string() == acme.owner).expect("a code for the owner");
    let code = challenges::code(&server.app.key_file, own.challenge.expect("a challenge"));
    let verify = |code: &str| Call::post("/v1/auth/otp/verify", json!({ "email": acme.email, "code": code }));
    assert_eq!(server.call(verify(&code)).await.expect(200)["agent"]["id"], json!(acme.owner));

    // Now the address is known to be the owner's.
    mallory(&server, &acme.email, 4).await;
    for (path, kind, before) in
        [("/v1/auth/password/forgot", MailKind::PasswordReset, 0), ("/v1/auth/otp", MailKind::Otp, mails.len())]
    {
        ask(&server, path, &acme.email).await;
        server.wait_for_mails(kind, before + 1).await;
        let known: Vec<_> = mails.iter().map(|mail| mail.id).collect();
        let mut new = server.mails(kind);
        new.retain(|mail| !known.contains(&mail.id));
        assert_eq!(persons(&new), std::slice::from_ref(&acme.owner), "{path}");
    }
    let link = server.mails(MailKind::PasswordReset).remove(0);
    let token = challenges::reset_token(&server.app.key_file, link.challenge.expect("a challenge"));
    let reset = json!({ "token": token, "password": "yet another password" });
    server.call(Call::post("/v1/auth/password/reset", reset)).await.expect(200);
    assert_eq!(
        log_in(&server, &acme.email, "yet another password").await.expect(200)["agent"]["id"],
        json!(acme.owner)
    );
    assert_eq!(server.app.pool.read(chat_api::store::hash::state_hash).expect("a hash"), server.replayed_state_hash());
}

/// Who came with an invitation has proven the address; who then takes somebody else's has not.
#[tokio::test]
async fn an_address_is_proven_by_what_was_mailed_to_it() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let invited = |tenant: Tenant, email: &'static str, number: usize| {
        let server = &server;
        async move {
            let invite = json!({ "email": email, "role": "agent" });
            server.call(Call::post("/v1/invitations", invite).token(&tenant.token)).await.expect(201);
            let mail = server.wait_for_mails(MailKind::Invitation, number).await.remove(number - 1);
            let token = challenges::invitation_token(&server.app.key_file, mail.invitation.expect("an invitation"));
            let accept = json!({ "token": token, "name": "E", "password": PASSWORD });
            text(&server.call(Call::post("/v1/invitations/accept", accept)).await.expect(201)["agent"]["id"])
        }
    };
    let thief = invited(globex.clone(), "thief@globex.example", 1).await;
    let eve = invited(acme, "eve@acme.example", 2).await;
    let change = Call::patch(format!("/v1/agents/{thief}"), json!({ "email": "eve@acme.example" }));
    server.call(change.token(&globex.token)).await.expect(200);
    ask(&server, "/v1/auth/otp", "eve@acme.example").await;
    assert_eq!(persons(&server.wait_for_mails(MailKind::Otp, 1).await), [eve]);
    assert_eq!(server.app.pool.read(chat_api::store::hash::state_hash).expect("a hash"), server.replayed_state_hash());
}

/// Who guesses at an address, or asks for its mails, uses up strangers' turns; where its owner has signed in from before
/// there are others. Wrong codes from elsewhere leave the owner tries.
#[tokio::test]
async fn strangers_use_up_no_turns_of_the_owner() {
    const HOME: &str = "203.0.113.9";
    let mut rates = Rates::off();
    rates.set("login_account", "12+1/min").expect("a limit");
    let server = Server::start_with(Setup { rates, ..Setup::default() });
    let acme = server.tenant("Acme").await;
    let login = |password: &str, address: &str| {
        server.call(Call::post("/v1/auth/login", json!({ "email": acme.email, "password": password })).by_ip(address))
    };
    login(PASSWORD, HOME).await.expect(200);
    server.call(Call::post("/v1/auth/otp", json!({ "email": acme.email })).by_ip(HOME)).await.expect(200);
    let mail = server.wait_for_mails(MailKind::Otp, 1).await.remove(0);
    let code = challenges::code(&server.app.key_file, mail.challenge.expect("a challenge"));
    let wrong = format!("{:06}", (code.parse::<u32>().expect("digits") + 1) % 1_000_000);
    let verify = |code: &str, address: &str| {
        let body = json!({ "email": acme.email, "code": code });
        server.call(Call::post("/v1/auth/otp/verify", body).by_ip(address))
    };
    // Mallory signs in with the same address from where she is; that makes it no home of the owner's account.
    sign_up(&server, "Mallory", &acme.email, THEIR_PASSWORD).await;
    login(THEIR_PASSWORD, "198.51.100.7").await.expect(200);
    for _ in 0..6 {
        verify(&wrong, "198.51.100.7").await.expect(401);
    }
    for guess in ["one guess", "two guesses", "three guesses"] {
        login(guess, "198.51.100.7").await.expect(401);
    }
    for address in ["192.0.2.1", "192.0.2.2"] {
        assert_eq!(login(PASSWORD, address).await.expect(429)["code"], "rate_limited");
    }
    // From there her own account is left, and guessing goes no further.
    login(THEIR_PASSWORD, "198.51.100.7").await.expect(200);
    login(PASSWORD, "198.51.100.7").await.expect(401);
    assert_eq!(login(PASSWORD, HOME).await.expect(200)["agent"]["id"], json!(acme.owner));
    assert_eq!(verify(&code, HOME).await.expect(200)["agent"]["id"], json!(acme.owner));
}

/// Codes and resets that strangers ask for take nothing from the owner, who asks from where they have signed in before.
#[tokio::test]
async fn strangers_use_up_no_codes_of_the_owner() {
    const HOME: &str = "203.0.113.9";
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body = json!({ "email": acme.email, "password": PASSWORD });
    server.call(Call::post("/v1/auth/login", body).by_ip(HOME)).await.expect(200);
    for (route, kind) in [("otp", MailKind::Otp), ("password/forgot", MailKind::PasswordReset)] {
        let ask = async |address: &str| {
            let ask = Call::post(format!("/v1/auth/{route}"), json!({ "email": acme.email }));
            server.call(ask.by_ip(address)).await.expect(200);
        };
        for _ in 0..12 {
            ask("198.51.100.7").await;
        }
        let theirs = server.wait_for_mails(kind, 5).await.len();
        assert_eq!(theirs, 5, "{route}");
        for asked in 1..=5 {
            ask(HOME).await;
            server.wait_for_mails(kind, theirs + asked).await;
        }
        ask(HOME).await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert_eq!(server.mails(kind).len(), 10, "{route}: there is an end to it");
    }
}

fn refresh(token: &str) -> Call {
    Call::post("/v1/auth/refresh", json!({ "refresh_token": token }))
}

/// The session's id stands in every access token: who reads one there can make up refresh tokens. They are refused, and
/// nothing else happens; only one that was given out, and used, ends the family.
#[tokio::test]
async fn a_made_up_refresh_token_ends_nothing() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let claims = BASE64.decode(acme.token.split('.').nth(1).expect("claims")).expect("base64");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    let session: uuid::Uuid = text(&claims["session"]).parse().expect("an id");
    let end = server.app.writer.reader().end();
    let given = BASE64.decode(&acme.refresh_token["rft_".len()..]).expect("base64");
    for length in [32, given.len() - 16] {
        let made_up = format!("rft_{}", BASE64.encode([session.as_bytes().as_slice(), &vec![7; length]].concat()));
        assert_eq!(server.call(refresh(&made_up)).await.expect(401)["code"], "invalid_refresh_token");
        let log_out = Call::post("/v1/auth/logout", json!({ "refresh_token": made_up }));
        server.call(log_out).await.expect(401);
    }
    for at in 0..given.len() {
        let mut changed = given.clone();
        changed[at] ^= 1;
        server.call(refresh(&format!("rft_{}", BASE64.encode(changed)))).await.expect(401);
    }
    assert_eq!(server.app.writer.reader().end(), end, "nothing was written");
    server.call(Call::get("/v1/auth/me").token(&acme.token)).await.expect(200);
    let next = server.call(refresh(&acme.refresh_token)).await.expect(200);
    // The old one was given out and used: that is a thief's or the robbed's.
    server.call(refresh(&acme.refresh_token)).await.expect(401);
    server.call(refresh(&text(&next["refresh_token"]))).await.expect(401);
    server.call(Call::get("/v1/auth/me").token(&acme.token)).await.expect(401);
}
