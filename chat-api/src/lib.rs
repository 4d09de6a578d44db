//! The chat API: commands, decide/apply, state, routes, sockets.
//!
//! - [`check`]: what a field must look like, by whatever way it comes in.
//! - [`core`]: the pure core. Start at [`core::decide`](fn@core::decide).
//! - [`store`]: state as SQLite rows. [`domain`]: core and store as the writer's state machine.
//! - [`app`]: what every route shares. [`http`]: the routes. [`auth`]: who is calling. [`view`]: what is shown.
//! - [`activity`]: what widgets did lately. [`live`]: sockets and the hub that feeds them from the log.
//! - `encoding`: texts in UTF-16, as UTF-8.
//! - [`sources`]: rows on their way into a tenant's own tables.
//! - [`presence`]: who is there, and what follows when they are gone. [`timers`]: what happens by itself.
//!   [`breaks`]: when the server itself was away.
//! - [`files`]: the bytes of what was sent. [`erasure`]: forgetting a person. [`import`]: transcripts in and out. [`limits`]: how often somebody may call, and
//!   from where.

pub mod activity;
pub mod app;
pub mod auth;
pub mod breaks;
pub mod check;
pub mod core;
pub mod domain;
pub(crate) mod encoding;
pub mod erasure;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod import;
pub mod limits;
pub mod live;
pub mod presence;
pub mod sources;
pub mod store;
pub mod timers;
pub mod view;
