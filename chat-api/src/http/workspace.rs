//! What Tinybird's command line asks before it does anything: whose token this is, and where else it might be good.

use super::problem::Problem;
use super::surface::{REPORTS, Routes};
use super::v0::{V0Error, answer};
use crate::app::App;
use crate::auth::TokenCaller;
use crate::store::read;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    Routes::new("Reports")
        .get("/v0/workspace", workspace, REPORTS, "The tenant of the token, as Tinybird's tools know it.")
        .answers::<Workspace>(&[200])
        .get("/v1/workspace", workspace, REPORTS, "The same.")
        .answers::<Workspace>(&[200])
        .get("/v0/regions", regions, REPORTS, "This server, as the one region there is.")
        .answers::<Regions>(&[200])
}

/// A tenant in Tinybird's word.
#[derive(Debug, Serialize, JsonSchema)]
struct Workspace {
    /// What a JWT says as `workspace_id`, and the user of the Postgres wire.
    id: String,
    name: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Regions {
    regions: Vec<Region>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Region {
    name: &'static str,
    provider: &'static str,
    host: String,
    api_host: String,
}

async fn workspace(State(app): State<Arc<App>>, token: TokenCaller) -> Response {
    let found = app.pool.read(|connection| read::tenant(connection, token.tenant));
    let outcome = match found {
        Err(error) => Err(Problem::from(error).into()),
        // A tenant that goes takes its tokens with it.
        Ok(None) => Err(V0Error::new(StatusCode::FORBIDDEN, "invalid or expired token")),
        Ok(Some(tenant)) => Ok(Json(Workspace { id: tenant.id.to_string(), name: tenant.name }).into_response()),
    };
    answer(&token, outcome)
}

async fn regions(State(app): State<Arc<App>>, token: TokenCaller) -> Response {
    let url = app.config.public_url.trim_end_matches('/').to_owned();
    let here = Region { name: "parlance", provider: "parlance", host: url.clone(), api_host: url };
    answer(&token, Ok(Json(Regions { regions: vec![here] }).into_response()))
}
