//! For whoever runs it: is it alive, is it ready, where is what. None of these needs a credential or tells about tenants.

use super::problem::{Outcome, Problem};
use super::surface::{ANYONE, Routes};
use crate::app::{App, Health};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    Routes::new("Operations")
        .get("/healthz", alive, ANYONE, "Whether the process answers.")
        .get("/readyz", ready, ANYONE, "Each dependency by name: 'ok', or what is wrong.")
        .statuses(&[200, 503])
        .get("/v1/status", status, ANYONE, "The whole system: its addresses, and the state of each component.")
}

#[derive(Serialize, JsonSchema)]
struct Alive {
    status: &'static str,
}

async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// What each dependency says.
async fn probe(app: Arc<App>) -> Outcome<Vec<(&'static str, Health)>> {
    // Probes may wait for a disk or a server.
    let states = tokio::task::spawn_blocking(move || app.probes.iter().map(|(name, probe)| (*name, probe())).collect());
    states.await.map_err(|error| Problem::internal(&error))
}

#[derive(Serialize, JsonSchema)]
struct Readiness {
    /// `ready` or `not ready`.
    status: &'static str,
    /// By name: `ok`, `ok, but …`, or what is wrong.
    dependencies: BTreeMap<&'static str, String>,
}

async fn ready(State(app): State<Arc<App>>) -> Outcome<(StatusCode, Json<Readiness>)> {
    let states = probe(app).await?;
    let fine = !states.iter().any(|(_, health)| matches!(health, Health::Failing(_)));
    let words = |health| match health {
        Health::Fine => "ok".to_owned(),
        Health::Slow(what) => format!("ok, but {what}"),
        Health::Failing(what) => what,
    };
    let dependencies = states.into_iter().map(|(name, health)| (name, words(health))).collect();
    let (status, word) = if fine { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    Ok((status, Json(Readiness { status: word, dependencies })))
}

/// Where everything is and how it does; what exactly is wrong is `/readyz`'s to say.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SystemStatus {
    name: &'static str,
    version: &'static str,
    /// `ok`, or `degraded` while any component is.
    status: &'static str,
    public_url: String,
    /// Where HTTP listens.
    http: Option<String>,
    /// Where PostgreSQL's wire is served; `null` when it isn't.
    pg: Option<String>,
    /// Where Arrow Flight is served; `null` when it isn't.
    flight: Option<String>,
    components: Vec<Component>,
}

/// A part of the system.
#[derive(Serialize, JsonSchema)]
struct Component {
    name: &'static str,
    /// `ok` or `degraded`.
    state: &'static str,
}

async fn status(State(app): State<Arc<App>>) -> Outcome<Json<SystemStatus>> {
    let word = |fine: bool| if fine { "ok" } else { "degraded" };
    let states = probe(Arc::clone(&app)).await?;
    let fine = states.iter().all(|(_, health)| *health == Health::Fine);
    let components = states.into_iter().map(|(name, health)| Component { name, state: word(health == Health::Fine) });
    let config = &app.config;
    Ok(Json(SystemStatus {
        name: "parlance",
        version: env!("CARGO_PKG_VERSION"),
        status: word(fine),
        public_url: config.public_url.clone(),
        http: config.http_address.clone(),
        pg: config.pg_address.clone(),
        flight: config.flight_address.clone(),
        components: components.collect(),
    }))
}
