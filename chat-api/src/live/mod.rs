//! Realtime: sockets, and the hub that feeds them from the log.
//!
//! - [`hub`]: follows the log and pushes every committed event to who subscribed. Start at [`LiveHub::run`].
//! - [`topics`]: who listens to which conversation and how far each has got. [`inbox`]: the agents' list, coalesced.
//! - [`outbox`]: what waits to be written to one socket; [`queued`]: the bytes in all of them. [`seats`]: open sockets, by person and session.
//! - [`socket`]: the WebSocket route and its first frame. Start at [`realtime`]. [`connection`]: all that follows.
//! - [`subscriptions`]: what one socket listens to. [`wire`]: its writes, reads and farewell. [`feed`]: what it gets;
//!   [`sse`]: the same as server-sent events.
//! - [`presence`]: who is there, for the other side. [`queue`]: places, for visitors who wait.
//! - [`catch_up`]: history from the log. [`frames`]: the JSON of both directions. [`credential`]: who is calling.
//!
//! The log is the buffer. A subscription is *behind* until it has read the log up to where the hub is, then *live*; a
//! gap makes it behind again. So nothing is lost or repeated, and a long history takes no memory: a page at a time, read
//! when there is room for it ([`Reading`](crate::limits::Reading)).

mod catch_up;
mod connection;
mod credential;
mod feed;
mod frames;
pub mod hub;
mod inbox;
mod outbox;
mod presence;
mod queue;
mod queued;
mod seats;
pub mod socket;
mod sse;
mod subscriptions;
mod topics;
mod wire;

pub use credential::Person;
pub use hub::{Limits, LiveHub};
pub use socket::realtime;
pub use sse::stream;

use crate::http::surface::{BODY, Routes};

/// The socket's route.
pub fn routes() -> Routes {
    Routes::new("Realtime")
        .get("/v1/realtime", realtime, BODY, "A WebSocket; its first frame carries the token.")
        .statuses(&[101])
}
