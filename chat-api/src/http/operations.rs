//! For whoever runs it: is it alive, is it ready, where is what. None of these needs a credential or tells about tenants.

use super::problem::{Outcome, Problem};
use crate::app::App;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).route("/v1/status", get(status))
}

async fn alive() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Each dependency by name: `ok`, or what is wrong.
async fn ready(State(app): State<Arc<App>>) -> Outcome<(StatusCode, Json<Value>)> {
    // Probes may wait for a disk or a server.
    let states = tokio::task::spawn_blocking(move || {
        app.probes.iter().map(|(name, probe)| (*name, probe())).collect::<Vec<_>>()
    });
    let states = states.await.map_err(|error| Problem::internal(&error))?;
    let fine = states.iter().all(|(_, problem)| problem.is_none());
    let dependencies: Map<String, Value> = states
        .into_iter()
        .map(|(name, problem)| (name.to_owned(), problem.unwrap_or_else(|| "ok".to_owned()).into()))
        .collect();
    let (status, word) = if fine { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    Ok((status, Json(json!({ "status": word, "dependencies": dependencies }))))
}

async fn status(State(app): State<Arc<App>>) -> Json<Value> {
    let config = &app.config;
    Json(json!({
        "name": "parlance", "version": env!("CARGO_PKG_VERSION"), "publicUrl": config.public_url,
        "http": config.http_address, "pg": config.pg_address, "flight": config.flight_address,
    }))
}
