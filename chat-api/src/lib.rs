//! The chat API: commands, decide/apply, state, routes, sockets.
//!
//! - [`core`]: the pure core. Start at [`core::decide`](fn@core::decide).
//! - [`store`]: state as SQLite rows. [`domain`]: core and store as the writer's state machine.
//! - [`app`]: what every route shares. [`http`]: the routes. [`auth`]: who is calling. [`view`]: what is shown.
//! - [`live`]: sockets and the hub that feeds them from the log.
//! - [`import`]: transcripts in and out.

pub mod app;
pub mod auth;
pub mod core;
pub mod domain;
pub mod http;
pub mod import;
pub mod live;
pub mod store;
pub mod view;
