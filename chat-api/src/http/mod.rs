//! The HTTP API: axum routes by topic, and what surrounds them. Start at [`routes`] and [`router`].
//!
//! - [`problem`]: every error on the wire. [`extract`]: strict bodies, ids, callers; what fields must look like is
//!   [`crate::check`]. [`page`]: lists, `piecewise`: those without pages. `multipart`: forms with files. [`write`](mod@write): commands and what comes back. `layers`, `unread`: around every route.
//! - `tenants`, `sign_in`, `credentials`, `accounts` (those of an address), `agents`, `roles`, `audit`, `groups`, `tags`, `canned_responses`, `chatbots`:
//!   the tenant's own, with what they share in `resource`. `widget`, `sessions`: visitors; `visitors`: the same, for
//!   agents. `conversations`, `actions`, `inbox`, `threads`, [`events`], `files`: chats. `live`: typing and streams.
//!   `bulk`: import and export.
//! - `reports`, `pipes`, `own_pipes`, `datasources`, `rows`, `workspace`, `tokens`, `v0`: `/v0`, Tinybird's wire. `operations`: health and status.
//!   `operator`: what spans tenants.
//! - `seeds`: two more contracts, in snake_case.
//! - [`surface`]: the list that the router, the OpenAPI document and the tests are made of. `docs`: that document, shown.
//!
//! A handler reads like its route: check the caller, check the fields, send one command, show the outcome.

mod accounts;
mod actions;
mod agents;
mod audit;
mod bulk;
mod canned_responses;
mod chatbots;
mod conversations;
mod credentials;
mod datasources;
mod docs;
pub mod events;
pub mod extract;
mod files;
mod groups;
mod inbox;
mod layers;
mod live;
mod multipart;
mod operations;
mod operator;
mod own_pipes;
pub mod page;
mod parts;
mod piecewise;
mod pipes;
pub mod problem;
mod reports;
mod resource;
mod roles;
mod rows;
mod seeds;
mod sessions;
mod sign_in;
mod stats;
pub mod surface;
mod tags;
mod tenants;
mod threads;
mod tokens;
mod unread;
mod v0;
mod visitors;
mod widget;
pub mod workspace;
mod write;

use crate::app::App;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use docs::Document;
use std::sync::Arc;
use surface::Routes;
use tower_http::catch_panic::CatchPanicLayer;

/// Every route of this crate, listed.
pub fn routes() -> Routes {
    Routes::new("Chat")
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
        .merge(widget::routes())
        .merge(visitors::routes())
        .merge(conversations::routes())
        .merge(actions::routes())
        .merge(threads::routes())
        .merge(live::routes())
        .merge(tokens::routes())
        .merge(reports::routes())
        .merge(own_pipes::routes())
        .merge(datasources::routes())
        .merge(rows::routes())
        .merge(workspace::routes())
        .merge(operations::routes())
        .merge(operator::routes())
        .merge(seeds::routes())
        .merge(docs::routes())
        .around(|router| router.route_layer(from_fn(layers::time_limit)))
        // Without a time limit: files take as long as they take, sockets stay open.
        .merge(bulk::routes())
        .merge(files::routes())
        .merge(crate::live::routes())
}

/// The API, ready to be served.
pub fn router(app: Arc<App>) -> Router {
    router_with(app, routes(), Router::new())
}

/// The same of these routes, with pages that aren't part of the API under the same layers.
pub fn router_with(app: Arc<App>, routes: Routes, pages: Router<Arc<App>>) -> Router {
    let (list, router) = routes.take();
    router
        .merge(pages)
        .fallback(layers::unknown_route)
        .method_not_allowed_fallback(layers::wrong_method)
        .layer(Extension(Arc::new(Document::new(list))))
        .layer(Extension(Arc::clone(&app)))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(Arc::clone(&app), layers::limit))
        .layer(from_fn_with_state(Arc::clone(&app), layers::cors))
        .layer(from_fn_with_state(Arc::clone(&app), layers::security))
        .layer(from_fn(layers::observe))
        .layer(from_fn(unread::read_on))
        .with_state(app)
}
