//! Connections of every door, from the accepted socket to its end: how many there may be, of whom, and for how long one
//! may keep the server waiting.
//!
//! - [`places`]: all connections of the process, counted in all and by address; who must go when there is no room.
//! - [`pace`]: how long a peer keeps us waiting, less what it moves. Pure.
//! - [`stream`]: a socket whose peer must take what it is sent. [`body`]: a request whose sender must go on sending.
//! - [`http`]: the HTTP door. The Postgres wire comes in through [`places`] too, by [`sql::pg::Entrance`].
//!
//! | what a peer does | what ends it |
//! |---|---|
//! | connects and says nothing, sends half a request or a byte now and then, half a TLS handshake | [`Waits::header`] |
//! | stays after its request without another | [`Waits::idle`] |
//! | sends half a body, or a byte now and then; half a message of the Postgres wire | [`Waits::body`] |
//! | doesn't read, or a byte now and then | [`Waits::unread`] |
//! | opens many connections | [`places`] |

pub mod body;
pub mod http;
pub mod pace;
pub mod places;
pub mod stream;

use std::time::Duration;

/// How long a peer may keep us waiting, at every door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// From the connection, or from the first byte of a later request, to the end of the request's head; on the Postgres
    /// wire from the connection to the password, on a socket from the upgrade to the token.
    pub header: Duration,
    /// Between two requests on one connection. Longer than proxies keep a connection for (nginx: 60 s), or they would send
    /// requests into connections that are being closed. A socket is asked for a sign of life three times meanwhile.
    pub idle: Duration,
    /// For more of a body, or of a message of the Postgres wire, that has begun; see [`pace`].
    pub body: Duration,
    /// For room in the peer's window for what it is sent; see [`pace`].
    pub unread: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        let (header, idle) = (Duration::from_secs(10), Duration::from_secs(75));
        Self { header, idle, body: Duration::from_secs(30), unread: Duration::from_secs(30) }
    }
}
