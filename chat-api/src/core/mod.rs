//! The pure core: no clock, no randomness, no IO. Time and ids arrive in the command; texts arrive sealed.
//!
//! - [`command`]: what can be asked; [`reads`]: what has to be loaded before it is decided.
//! - [`decide`](mod@decide): `decide(state, command, now) -> events | rejection`; one file a topic beside it.
//! - [`apply`](mod@apply): `apply(state, event)`, the only thing that changes state.
//! - [`visibility`]: what an agent sees; [`grants`]: what it takes to give something away.
//! - [`state`]: plain structs; `store/` keeps them as SQLite rows.

mod accounts;
mod actions;
mod agents;
pub mod apply;
mod assignment;
pub mod command;
mod configuration;
mod credentials;
pub mod decide;
pub mod grants;
mod growth;
mod history;
mod import;
mod lifecycle;
mod mail;
pub mod reads;
mod roles;
mod routing;
pub mod settings;
pub mod sources;
pub mod state;
pub mod visibility;
mod visitors;

pub use apply::apply;
pub use command::{Command, CommandKind};
pub use decide::{Decision, Rejection, decide};
pub use state::State;
