//! E-mail: from the outbox in the log to a spool of `.eml` files or a mail server, and the outcome back as an event.
//!
//! - [`outbox`]: the loop: what is pending and who gets it; `queue`: which mail is tried when; `recipients`:
//!   how many an address gets. Start here.
//! - [`sink`]: [`Mailer`](sink::Mailer), the port with its two adapters, `spool` and `server`, chosen by URL.
//! - [`templates`]: the words; `message`: the bytes, safe against injected headers.
//! - [`config`]: the URL, the sender, the links.
//!
//! Delivery is at least once: between the server's yes and the outcome in the log a crash may come, and then the mail
//! is sent again, under the same Message-ID. In the spool it overwrites itself. Addresses and words are never logged.

pub mod config;
mod message;
pub mod outbox;
mod queue;
mod recipients;
mod server;
pub mod sink;
mod spool;
pub mod templates;

pub use config::{ConfigError, MailConfig, RecipientRate};
pub use message::{Mail, Recipient};
pub use outbox::{
    Clock, FailureReason, MailSource, Outbox, OutboxStatus, Outcome, PendingMail, SourceError, SystemClock,
};
pub use sink::{Mailer, SendError};
pub use spool::Spool;
pub use templates::Words;
