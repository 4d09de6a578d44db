//! The HTTP API: axum routes by topic, and what surrounds them. Start at [`router`].
//!
//! - [`problem`]: every error on the wire. [`extract`]: strict bodies, ids, callers. [`check`]: what fields must look
//!   like. [`page`]: lists. [`write`](mod@write): commands and what comes back. `layers`: around every route.
//! - `tenants`, `sign_in`, `credentials`, `agents`, `roles`, `audit`, `groups`, `tags`, `canned_responses`, `chatbots`:
//!   the tenant's own, with what they share in `resource`. `widget`, `sessions`: visitors; `visitors`: the same, for
//!   agents. `conversations`, `actions`, `inbox`, `threads`, [`events`]: chats. `live`: typing and streams. `bulk`: import
//!   and export.
//! - `reports`, `tokens`: `/v0`, Tinybird's wire. `operations`: health and status. `operator`: what spans tenants.
//!
//! A handler reads like its route: check the caller, check the fields, send one command, show the outcome.

mod actions;
mod agents;
mod audit;
mod bulk;
mod canned_responses;
mod chatbots;
pub mod check;
mod conversations;
mod credentials;
pub mod events;
pub mod extract;
mod groups;
mod inbox;
mod layers;
mod live;
mod operations;
mod operator;
pub mod page;
pub mod problem;
mod reports;
mod resource;
mod roles;
mod sessions;
mod sign_in;
mod stats;
mod tags;
mod tenants;
mod threads;
mod tokens;
mod visitors;
mod widget;
pub mod write;

use crate::app::App;
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// Every route of the API.
pub fn router(app: Arc<App>) -> Router {
    router_with(app, Router::new())
}

/// The same with more routes under the same layers; for what only the binary can build.
pub fn router_with(app: Arc<App>, more: Router<Arc<App>>) -> Router {
    let routes = Router::new()
        .merge(tenants::routes())
        .merge(sign_in::routes())
        .merge(credentials::routes())
        .merge(agents::routes())
        .merge(roles::routes())
        .merge(audit::routes())
        .merge(groups::routes())
        .merge(tags::routes())
        .merge(canned_responses::routes())
        .merge(chatbots::routes())
        .merge(widget::routes(&app))
        .merge(visitors::routes())
        .merge(conversations::routes())
        .merge(actions::routes())
        .merge(threads::routes())
        .merge(live::routes())
        .merge(tokens::routes())
        .merge(reports::routes())
        .merge(operations::routes())
        .merge(operator::routes())
        .route_layer(from_fn_with_state(Arc::clone(&app), layers::time_limit))
        // Without a time limit: files take as long as they take, sockets stay open.
        .merge(bulk::routes())
        .route("/v1/realtime", get(crate::live::realtime))
        .merge(more)
        .fallback(layers::unknown_route)
        .method_not_allowed_fallback(layers::wrong_method);
    routes
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(Arc::clone(&app), layers::limit))
        .layer(from_fn_with_state(Arc::clone(&app), layers::cors))
        .layer(from_fn_with_state(Arc::clone(&app), layers::security))
        .layer(from_fn(layers::observe))
        .with_state(app)
}
