//! Passwords, codes and links by mail, invitations: what ends, what is good once, what strangers learn.

use crate::support::{Call, PASSWORD, Reply, Server, text};
use chat_api::auth::challenges;
use chat_api::core::command::{Command, CommandKind};
use chat_api::core::state::Mail;
use ingest::event::Actor;
use ingest::id::{AgentId, ChallengeId, EventId};
use ingest::payload::{ChallengeKind, MailKind};
use ingest::time::Timestamp;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const NEW_PASSWORD: &str = "another horse battery";

fn me(token: &str) -> Call {
    Call::get("/v1/auth/me").token(token)
}

fn refresh(token: &Value) -> Call {
    Call::post("/v1/auth/refresh", json!({ "refresh_token": token }))
}

/// No session survives a changed password: not the one it was changed in, not another device's, not a refresh token.
#[tokio::test]
async fn a_changed_password_ends_every_session() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (_, colleague) = server.agent(&acme, "Bob", "agent").await;
    let other = server.log_in(&acme, &acme.email, PASSWORD).await.expect(200);
    let change = |current: &str, new: &str, token: &str| {
        Call::post("/v1/auth/password/change", json!({ "currentPassword": current, "newPassword": new })).token(token)
    };
    let wrong = server.call(change("wrong password", NEW_PASSWORD, &acme.token)).await.expect(403);
    assert_eq!((&wrong["code"], &wrong["field"]), (&json!("invalid_credentials"), &json!("currentPassword")));
    server.call(change(PASSWORD, "short", &acme.token)).await.expect(422);
    server.call(me(&acme.token)).await.expect(200);

    let changed = server.call(change(PASSWORD, NEW_PASSWORD, &acme.token)).await.expect(200);
    for token in [&acme.token, &text(&other["access_token"])] {
        server.call(me(token)).await.expect(401);
    }
    for token in [&json!(acme.refresh_token), &other["refresh_token"]] {
        server.call(refresh(token)).await.expect(401);
    }
    server.call(me(&text(&changed["access_token"]))).await.expect(200);
    let renewed = server.call(refresh(&changed["refresh_token"])).await.expect(200);
    server.call(me(&text(&renewed["access_token"]))).await.expect(200);
    server.log_in(&acme, &acme.email, PASSWORD).await.expect(401);
    server.log_in(&acme, &acme.email, NEW_PASSWORD).await.expect(200);
    server.call(me(&colleague)).await.expect(200);
}

fn code(server: &Server, mail: &Mail) -> String {
    challenges::code(&server.app.key_file, mail.challenge.expect("a challenge"))
}

fn reset_token(server: &Server, mail: &Mail) -> String {
    challenges::reset_token(&server.app.key_file, mail.challenge.expect("a challenge"))
}

/// A code that isn't this one.
fn another(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().expect("digits") + 1) % 1_000_000)
}

async fn ask(server: &Server, route: &str, email: &str) {
    let answer = server.call(Call::post(route, json!({ "email": email }))).await;
    assert_eq!(answer.expect(200), json!({}));
}

async fn verify(server: &Server, email: &str, code: &str) -> Reply {
    server.call(Call::post("/v1/auth/otp/verify", json!({ "email": email, "code": code }))).await
}

async fn reset(server: &Server, token: &str, password: &str) -> Reply {
    server.call(Call::post("/v1/auth/password/reset", json!({ "token": token, "password": password }))).await
}

/// A mailed code signs in, once. Only the newest one does.
#[tokio::test]
async fn a_code_signs_in_once() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    ask(&server, "/v1/auth/otp", " OWNER@acme.example ").await;
    let first = server.wait_for_mails(MailKind::Otp, 1).await.remove(0);
    assert_eq!(first.person.0.to_string(), acme.owner);
    ask(&server, "/v1/auth/otp", &acme.email).await;
    let second = server.wait_for_mails(MailKind::Otp, 2).await.remove(1);
    let (old, good) = (code(&server, &first), code(&server, &second));
    if old != good {
        assert_eq!(verify(&server, &acme.email, &old).await.expect(401)["code"], "invalid_code");
    }
    let signed_in = verify(&server, &acme.email, &good).await.expect(200);
    assert_eq!(signed_in["agent"]["id"], json!(acme.owner));
    server.call(me(&text(&signed_in["access_token"]))).await.expect(200);
    server.call(refresh(&signed_in["refresh_token"])).await.expect(200);
    verify(&server, &acme.email, &good).await.expect(401);
    let bytes = server.database();
    for secret in [&good, &old] {
        let quoted = format!("\"{secret}\"");
        assert!(!bytes.windows(8).any(|window| window == quoted.as_bytes()), "a code is stored");
    }
}

/// After five wrong tries the right code is wrong too; tries in parallel count like others.
#[tokio::test]
async fn five_wrong_tries_void_a_code() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    ask(&server, "/v1/auth/otp", &acme.email).await;
    let mail = server.wait_for_mails(MailKind::Otp, 1).await.remove(0);
    let good = code(&server, &mail);
    let wrong = another(&good);
    let tries = (0..12).map(|_| verify(&server, &acme.email, &wrong));
    for reply in futures_util::future::join_all(tries).await {
        reply.expect(401);
    }
    let failures = server
        .app
        .pool
        .read(|connection| chat_api::store::read::challenge(connection, mail.challenge.expect("a challenge")));
    assert_eq!(failures.expect("reads").expect("is there").failures, 5);
    verify(&server, &acme.email, &good).await.expect(401);
}

/// Strangers learn nothing: known and unknown addresses get the same answer after the same time, and only known ones
/// a mail. Not too many of them either.
#[tokio::test]
async fn unknown_addresses_get_the_same_answer() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    for route in ["/v1/auth/otp", "/v1/auth/password/forgot"] {
        for email in [&*acme.email, "nobody@acme.example"] {
            let started = Instant::now();
            ask(&server, route, email).await;
            assert!(started.elapsed() >= Duration::from_millis(300), "{route} {email}");
        }
        let other = json!({ "email": acme.email, "tenant": "no-such-tenant" });
        assert_eq!(server.call(Call::post(route, other)).await.expect(200), json!({}));
        server.call(Call::post(route, json!({ "email": "nonsense" }))).await.expect(422);
    }
    let mail = server.wait_for_mails(MailKind::Otp, 1).await.remove(0);
    let wrong = another(&code(&server, &mail));
    let started = Instant::now();
    let unknown = verify(&server, "nobody@acme.example", &wrong).await.expect(401);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(verify(&server, &acme.email, &wrong).await.expect(401), unknown);
    verify(&server, &acme.email, "12345").await.expect(422);

    let asked = (0..8).map(|_| ask(&server, "/v1/auth/otp", &acme.email));
    futures_util::future::join_all(asked).await;
    server.wait_for_mails(MailKind::Otp, 5).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.mails(MailKind::Otp).len(), 5, "five an hour");
    assert_eq!(server.mails(MailKind::PasswordReset).len(), 1);
}

/// A mailed link sets a new password, once, and ends every session; a changed one is no link.
#[tokio::test]
async fn a_link_resets_the_password_once() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    ask(&server, "/v1/auth/password/forgot", &acme.email).await;
    ask(&server, "/v1/auth/password/forgot", &acme.email).await;
    let mails = server.wait_for_mails(MailKind::PasswordReset, 2).await;
    let (first, second) = (reset_token(&server, &mails[0]), reset_token(&server, &mails[1]));
    let foreign = challenges::reset_token(&server.app.key_file, ChallengeId::fresh());
    let changed = first.replace("rst_", "inv_");
    for bad in [&foreign, &changed, &first[..first.len() - 1], "", "rst_"] {
        assert_eq!(reset(&server, bad, NEW_PASSWORD).await.expect(401)["code"], "invalid_token");
    }
    reset(&server, &first, "short").await.expect(422);
    server.call(me(&acme.token)).await.expect(200);

    assert_eq!(reset(&server, &first, NEW_PASSWORD).await.expect(200), json!({}));
    server.call(me(&acme.token)).await.expect(401);
    server.call(refresh(&json!(acme.refresh_token))).await.expect(401);
    server.log_in(&acme, &acme.email, PASSWORD).await.expect(401);
    server.log_in(&acme, &acme.email, NEW_PASSWORD).await.expect(200);
    for used in [&first, &second] {
        assert_eq!(reset(&server, used, PASSWORD).await.expect(401)["code"], "invalid_token");
    }
    server.log_in(&acme, &acme.email, NEW_PASSWORD).await.expect(200);
    let bytes = server.database();
    assert!(!bytes.windows(first.len()).any(|window| window == first.as_bytes()), "a link is stored");
}

/// What was mailed before is void once the address, the password or the agent is another, or the time is over.
#[tokio::test]
async fn a_challenge_is_void_after_a_change() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (bob, _) = server.agent(&acme, "Bob", "agent").await;
    let bob_id: AgentId = bob.parse().expect("an id");
    let path = format!("/v1/agents/{bob}");
    let mut count = 0;
    let mut challenge = async || {
        ask(&server, "/v1/auth/password/forgot", "bob@acme.example").await;
        count += 1;
        let mails = server.wait_for_mails(MailKind::PasswordReset, count).await;
        reset_token(&server, &mails[count - 1])
    };
    let token = challenge().await;
    for email in ["robert@acme.example", "bob@acme.example"] {
        server.call(Call::patch(&path, json!({ "email": email })).token(&acme.token)).await.expect(200);
    }
    reset(&server, &token, NEW_PASSWORD).await.expect(401);
    let token = challenge().await;
    server.call(Call::delete(&path).token(&acme.token)).await.expect(200);
    reset(&server, &token, NEW_PASSWORD).await.expect(401);
    let restore = Call::new(axum::http::Method::POST, format!("{path}/restore")).token(&acme.token);
    server.call(restore).await.expect(200);
    reset(&server, &token, NEW_PASSWORD).await.expect(401);

    let id = ChallengeId::fresh();
    let kind = CommandKind::IssueChallenge {
        challenge_id: id,
        agent_id: bob_id,
        kind: ChallengeKind::PasswordReset,
        from_known: false,
        expires_at: Timestamp::now().plus_ms(-1),
    };
    let tenant = acme.id.parse().expect("an id");
    let command =
        Command { tenant, actor: Actor::System, first_event: EventId::fresh(), request: None, cause: None, kind };
    server.app.submit(command).await.expect("writes").expect("accepted");
    let late = challenges::reset_token(&server.app.key_file, id);
    reset(&server, &late, NEW_PASSWORD).await.expect(401);
    server.log_in(&acme, "bob@acme.example", PASSWORD).await.expect(200);
}

/// An invitation makes an agent with its role, signed in, once.
#[tokio::test]
async fn an_invitation_is_accepted_once() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let invite = |email: &str, key: &str| {
        let body = json!({ "email": email, "role": "supervisor" });
        Call::post("/v1/invitations", body).token(&acme.token).key(key)
    };
    let made = server.call(invite("eve@acme.example", "one")).await.expect(201);
    assert_eq!((&made["email"], &made["role"]), (&json!("eve@acme.example"), &json!("supervisor")));
    assert_eq!(server.call(invite("eve@acme.example", "one")).await.expect(201), made, "a repeat invites nobody twice");
    assert_eq!(server.call(invite(&acme.email, "two")).await.expect(409)["code"], "email_taken");
    server.call(invite("eve@acme.example", "three")).await.expect(201);
    let mails = server.mails(MailKind::Invitation);
    let tokens: Vec<String> = mails
        .iter()
        .map(|mail| challenges::invitation_token(&server.app.key_file, mail.invitation.expect("an invitation")))
        .collect();
    assert_eq!(tokens.len(), 2);
    let accept = |token: &str| {
        Call::post("/v1/invitations/accept", json!({ "token": token, "name": "Eve", "password": NEW_PASSWORD }))
    };
    for bad in [&tokens[0].replace("inv_", "rst_"), &tokens[0][..60], ""] {
        assert_eq!(server.call(accept(bad)).await.expect(401)["code"], "invalid_token");
    }
    let eve = server.call(accept(&tokens[0]).by_ip("203.0.113.9")).await.expect(201);
    assert_eq!((&eve["agent"]["id"], &eve["agent"]["role"]), (&made["id"], &json!("supervisor")));
    assert_eq!(eve["agent"]["recentIps"], json!(["203.0.113.9"]));
    let seen = server.call(me(&text(&eve["access_token"]))).await.expect(200);
    assert_eq!((&seen["email"], &seen["name"]), (&json!("eve@acme.example"), &json!("Eve")));
    server.log_in(&acme, "eve@acme.example", NEW_PASSWORD).await.expect(200);
    assert_eq!(server.call(accept(&tokens[0])).await.expect(401)["code"], "invalid_token");
    assert_eq!(server.call(accept(&tokens[1])).await.expect(409)["code"], "email_taken");
    let bytes = server.database();
    assert!(!bytes.windows(16).any(|window| window == b"eve@acme.example"), "an address is stored in clear");
}
