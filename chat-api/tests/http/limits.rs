//! How often somebody may call, and whom the server takes them for.

use crate::support::{Call, ORIGIN, PASSWORD, Reply, Server, Setup, Tenant, text};
use axum::http::Method;
use chat_api::limits::Rates;
use serde_json::json;

/// No limits but these.
fn limited(limits: &[(&str, &str)]) -> Server {
    let mut rates = Rates::off();
    limits.iter().for_each(|(name, rate)| rates.set(name, rate).expect("a limit"));
    Server::start_with(Setup { rates, ..Setup::default() })
}

#[track_caller]
fn refused(reply: Reply) {
    let wait: u64 = reply.header("retry-after").expect("seconds").parse().expect("a number");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(reply.expect(429)["code"], "rate_limited");
}

/// The contract's defaults, by address: sign-up 10, login 20, sessions 60, at once.
#[tokio::test]
async fn public_routes_have_the_contracts_bursts_an_address() {
    let server = Server::start_with(Setup { rates: Rates::default(), ..Setup::default() });
    for (path, burst) in [("/v1/tenants", 10), ("/v1/auth/login", 20)] {
        let call = |address: &str| server.call(Call::post(path, json!({})).by_ip(address));
        for _ in 0..burst {
            call("1.2.3.4").await.expect(422);
        }
        refused(call("1.2.3.4").await);
        call("1.2.3.5").await.expect(422);
    }
    let acme = server.tenant("Acme").await;
    let start = |address: &str| {
        let call = Call::post("/v1/widget/session", json!({})).header("x-chatbot-key", &acme.chatbot_key);
        server.call(call.header("origin", ORIGIN).by_ip(address))
    };
    for _ in 0..60 {
        start("2001:db8::1").await.expect(201);
    }
    let over = start("2001:db8::ffff").await;
    assert_eq!(over.header("access-control-allow-origin"), Some(ORIGIN), "the page sees why");
    refused(over);
    start("2001:db8:0:1::1").await.expect(201);
}

#[tokio::test]
async fn an_account_is_guessed_at_so_often_from_wherever() {
    let server = limited(&[("login_account", "3+1/min")]);
    let acme = server.tenant("Acme").await;
    let login = |email: &str, password: &str, address: &str| {
        server.call(Call::post("/v1/auth/login", json!({ "email": email, "password": password })).by_ip(address))
    };
    for (guess, address) in [("first guess", "1.1.1.1"), ("second guess", "2.2.2.2"), ("third guess", "3.3.3.3")] {
        login(&acme.email, guess, address).await.expect(401);
    }
    refused(login(&acme.email.to_uppercase(), PASSWORD, "4.4.4.4").await);
    // An address that nobody has is limited like one that somebody has.
    for _ in 0..3 {
        login("nobody@acme.example", PASSWORD, "1.1.1.1").await.expect(401);
    }
    refused(login("nobody@acme.example", PASSWORD, "1.1.1.1").await);
}

async fn chat(server: &Server, tenant: &Tenant) -> String {
    text(&server.session(tenant, json!({ "initialMessage": "Hi" })).await["sessionToken"])
}

#[tokio::test]
async fn visitors_agents_and_chatbots_have_their_own_buckets() {
    let server = limited(&[("visitor", "3+1/min"), ("agent", "5+1/min"), ("session_chatbot", "2+1/min")]);
    let (acme, other) = (server.tenant("Acme").await, server.tenant("Other").await);
    let (first, second) = (chat(&server, &acme).await, chat(&server, &acme).await);
    let key =
        |tenant: &Tenant| Call::post("/v1/widget/session", json!({})).header("x-chatbot-key", &tenant.chatbot_key);
    refused(server.call(key(&acme)).await);
    server.call(key(&other)).await.expect(201);
    for _ in 0..3 {
        server.call(Call::get("/v1/widget/conversation").token(&first)).await.expect(200);
    }
    refused(server.call(Call::post("/v1/widget/events", json!({ "content": "more" })).token(&first)).await);
    server.call(Call::get("/v1/widget/conversation").token(&second)).await.expect(200);
    // The owner has made the chatbot already.
    for _ in 0..4 {
        server.call(Call::get("/v1/auth/me").token(&acme.token)).await.expect(200);
    }
    refused(server.call(Call::get("/v1/conversations").token(&acme.token)).await);
    server.call(Call::get("/v1/auth/me").token(&other.token)).await.expect(200);
    // What is wrong with a token is said before how often it came.
    server.call(Call::get("/v1/auth/me").token("nonsense")).await.expect(401);
}

/// The support's proxies are 10.0.0.0/8.
#[tokio::test]
async fn forwarded_addresses_count_only_from_trusted_proxies() {
    let server = limited(&[("sign_up_ip", "1+1/min")]);
    let call = |from: &str, forwarded: &str| {
        server.call(Call::post("/v1/tenants", json!({})).by_ip(from).header("x-forwarded-for", forwarded))
    };
    call("1.2.3.4", "7.0.0.1").await.expect(422);
    refused(call("1.2.3.4", "7.0.0.2").await);
    call("10.0.0.1", "7.0.0.1").await.expect(422);
    refused(call("10.9.9.9", "6.6.6.6, 7.0.0.1, 10.0.0.7").await);
    call("10.0.0.1", "7.0.0.1, 6.6.6.6").await.expect(422);
    refused(call("10.0.0.2", "1.2.3.4").await);
}

#[tokio::test]
async fn preflights_are_not_counted() {
    let server = limited(&[("sign_up_ip", "1+1/min")]);
    for _ in 0..3 {
        let call = Call::new(Method::OPTIONS, "/v1/tenants").header("origin", "https://inbox.example");
        let reply = server.call(call.header("access-control-request-method", "POST").by_ip("1.2.3.4")).await;
        assert_eq!(reply.status.as_u16(), 204);
    }
    server.call(Call::post("/v1/tenants", json!({})).by_ip("1.2.3.4")).await.expect(422);
}
