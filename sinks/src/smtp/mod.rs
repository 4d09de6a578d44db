//! E-mail: from the outbox in the log to a spool of `.eml` files or a mail server, and the outcome back as an event.
//!
//! - [`outbox`]: the loop, and what it asks of the store. Start here. `queue`: which mail is tried when; `delivery`: one try;
//!   [`budgets`]: how many an address gets and a tenant sends; `hands`: whose mail is being handed over.
//! - [`sink`]: [`Mailer`](sink::Mailer), the port with its two adapters, `spool` and `server`, chosen by URL; `stream`: the
//!   connection under `server`.
//! - `address`: whom a mail goes to, in the form that servers take.
//! - [`templates`]: the words; `names`: names in them, without links; `message`: the bytes, safe against injected headers.
//! - [`policy`]: for each kind of mail who gets it, why, and within which bounds.
//! - [`config`]: the URL, the sender, the links.
//!
//! Delivery is at least once: between the server's yes and the outcome in the log a crash may come, and then the mail
//! is sent again, under the same Message-ID. In the spool it overwrites itself. Addresses and words are never logged.

mod address;
pub mod budgets;
pub mod config;
mod delivery;
mod hands;
mod message;
mod names;
pub mod outbox;
pub mod policy;
mod queue;
mod server;
pub mod sink;
mod spool;
mod stream;
pub mod templates;

pub use budgets::Standing;
pub use config::{ConfigError, MailConfig, MailRate};
pub use hands::CONCURRENCY;
pub use message::{Mail, Recipient};
pub use outbox::{
    Clock, DueMails, FailureReason, MailSource, Outbox, OutboxStatus, Outcome, PendingMail, SourceError, SystemClock,
    TenantCard, Tries,
};
pub use sink::{Mailer, SendError, SendProgress, SendStage};
pub use spool::Spool;
pub use templates::Words;
