//! `demo`: a server with three tenants and seeded, live traffic through the public API, and a page to look at it.
//!
//! [`people`] are the visitors and agents; they know nothing that a browser wouldn't. The page is in `dashboards/demo/`.

mod people;
mod tenants;

use crate::cli::DemoArgs;
use crate::client::Api;
use crate::ending::on_signal;
use crate::server::{Server, init_logs};
use anyhow::Context as _;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use chat_api::app::App;
use chat_api::limits::Rates;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use tenants::DemoTenant;
use tokio::task::JoinSet;

const PAGE: &str = include_str!("../../dashboards/demo/index.html");
const SCRIPT: &str = include_str!("../../dashboards/demo/demo.js");
const STYLE: &str = include_str!("../../dashboards/demo/demo.css");

/// The page runs its own script and style, and talks to its own server; nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Faster than people can be told apart, slower than anybody waits for.
const SPEEDS: RangeInclusive<f64> = 0.01..=1_000.0;
/// Visitors who talk at the same time, a tenant.
const VISITORS: usize = 3;

/// Runs until Ctrl-C or SIGTERM.
///
/// # Errors
/// Names what keeps the server from starting.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        SPEEDS.contains(&args.speed),
        "--speed '{}': expected a number from {} to {}",
        args.speed,
        SPEEDS.start(),
        SPEEDS.end()
    );
    // All of its people come from one address, and faster than people do.
    let mut settings = args.serve.resolve_over(Rates::off())?;
    // The demo's own noise stays out of the way; PARLANCE_LOG brings it back.
    init_logs(settings.log_json, "warn");
    settings.mail_from = "Parlance demo <demo@localhost>".to_owned();
    let facts: Arc<OnceLock<serde_json::Value>> = Arc::default();
    let mut server = Server::start_with(settings, pages(Arc::clone(&facts))).await?;
    let outcome = live(&mut server, &facts, (args.speed, args.seed)).await;
    server.stop().await;
    outcome
}

/// Lets people talk until a signal comes.
async fn live(
    server: &mut Server,
    facts: &OnceLock<serde_json::Value>,
    (speed, seed): (f64, u64),
) -> anyhow::Result<()> {
    let api = Api::new(&format!("http://{}", server.address))?;
    let tenants = tenants::open(&api, &server.app).await.context("failed to set the demo's tenants up")?;
    facts.get_or_init(|| tenants::describe(&tenants));
    print_sign_ins(&api, &tenants);
    let asked = on_signal()?;
    let mut traffic = start_people(&api, &tenants, speed, seed);
    let outcome = tokio::select! {
        () = asked.cancelled() => Ok(()),
        error = server.failure() => Err(error),
    };
    traffic.abort_all();
    while traffic.join_next().await.is_some() {}
    outcome
}

fn pages(facts: Arc<OnceLock<serde_json::Value>>) -> Router<Arc<App>> {
    fn typed(kind: &'static str, text: &'static str) -> axum::routing::MethodRouter<Arc<App>> {
        get(move || async move { ([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, POLICY)], text) })
    }
    let describe = get(move || async move {
        match facts.get() {
            Some(facts) => Json(facts.clone()).into_response(),
            None => axum::http::StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    });
    Router::new()
        .route("/", typed("text/html; charset=utf-8", PAGE))
        .route("/demo/demo.js", typed("text/javascript; charset=utf-8", SCRIPT))
        .route("/demo/demo.css", typed("text/css; charset=utf-8", STYLE))
        .route("/demo/tenants.json", describe)
}

fn print_sign_ins(api: &Api, tenants: &[DemoTenant]) {
    println!("\nParlance demo: open {}/ to chat and see the live numbers.\n", api.base());
    for tenant in tenants {
        println!("  {} (slug {})", tenant.name, tenant.slug);
        println!("    sign in     POST /v1/auth/login  {} / {}", tenant.email, tenants::PASSWORD);
        println!("    widget key  {}", tenant.chatbot_key);
        println!("    reports     {}/v0/pipes/usage.json?granularity=hour&token={}", api.base(), tenant.report_token);
    }
    println!("\nCtrl-C stops it.");
}

fn start_people(api: &Api, tenants: &[DemoTenant], speed: f64, seed: u64) -> JoinSet<()> {
    let mut traffic = JoinSet::new();
    for (place, tenant) in (0_u64..).zip(tenants) {
        for (number, token) in (0..).zip(&tenant.agent_tokens) {
            let dice = people::dice(seed, place, 1_000 + number);
            traffic.spawn(people::agent(api.clone(), token.clone(), dice, speed));
        }
        for number in 0..VISITORS as u64 {
            let dice = people::dice(seed, place, number);
            traffic.spawn(people::visitor(api.clone(), tenant.chatbot_key.clone(), dice, speed));
        }
    }
    traffic
}
