//! The log port: what Parlance needs of a log, and what every adapter promises.
//!
//! Two sides: [`EventLog`] belongs to the one writer, [`LogReader`] to everyone else. An adapter earns the port by
//! passing [`conformance`](crate::conformance). Nothing here that Fluvio can't keep: no look-ups by key, no time travel.

use crate::event::{DecodeError, Event};
use std::sync::Arc;
use tokio::sync::watch;

/// Place of an event in the log: 0, 1, 2, … without holes.
pub type Offset = u64;

/// A stored event with its place and its bytes.
#[derive(Debug, PartialEq)]
pub struct Record {
    /// Place in the log.
    pub offset: Offset,
    /// The JSON as hashed and stored; what stream jobs read.
    pub body: String,
    /// The same, decoded.
    pub event: Event,
}

/// The writer's side. One writer owns it; it is called inside the writer's open transaction on the state.
pub trait EventLog: Send {
    /// Appends 1..=256 commands' events, in order, and gives each its offset.
    ///
    /// `Ok` plus the commit of `tx` means: the bytes survive a power cut (embedded: fsync of the commit; Fluvio: the
    /// acknowledgement waited for here). If `tx` is rolled back after `Ok`, the embedded log has forgotten the events;
    /// a remote log may still hold them, and the writer then catches up from it before the next append.
    ///
    /// # Errors
    /// `TooLarge`: never retry. `Unavailable`: nothing may be assumed; roll back, catch up, let the caller retry.
    fn append(&mut self, tx: &rusqlite::Connection, events: Vec<Event>) -> Result<Vec<Arc<Record>>, AppendError>;

    /// Told after the commit: readers may see the records from now on.
    fn committed(&mut self, records: &[Arc<Record>]);

    /// Told after a rollback: forget what was appended since the last commit.
    fn rolled_back(&mut self);

    /// The readers' side of this log.
    fn reader(&self) -> Arc<dyn LogReader>;
}

/// The readers' side: absolute offsets, in order, no holes, nothing that isn't committed.
pub trait LogReader: Send + Sync {
    /// One past the last committed offset; 0 for an empty log.
    fn end(&self) -> Offset;

    /// Up to `max` committed records from `from` on, fewer when they are large; empty exactly when `from` is at or past the end.
    ///
    /// # Errors
    /// `Damaged` names the offset whose bytes can't be trusted; `Gap` a missing one. Neither goes away by itself.
    fn read(&self, from: Offset, max: usize) -> Result<Vec<Arc<Record>>, ReadError>;

    /// Changes whenever the end does; for followers to wait on.
    fn watch_end(&self) -> watch::Receiver<Offset>;
}

/// An append that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// One event is larger than [`EVENT_BYTES_MAX`](crate::event::EVENT_BYTES_MAX). Never retry.
    #[error("failed to append: an event has {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The log can't take it now. Retry later.
    #[error("failed to append: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A read that can't be answered truthfully.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stored bytes are not what was written.
    #[error("failed to read the log at offset {offset}: {reason}; restore from a backup")]
    Damaged {
        /// Where.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// The log holds an event that this version can't read.
    #[error("failed to read the log at offset {offset}: {source}")]
    Undecodable {
        /// Where.
        offset: Offset,
        /// Why.
        source: DecodeError,
    },
    /// An offset is missing.
    #[error("failed to read the log: offset {expected} is missing, found {found}; restore from a backup")]
    Gap {
        /// The offset that should be there.
        expected: Offset,
        /// The next one that is.
        found: Offset,
    },
    /// The log can't be reached now. Retry later.
    #[error("failed to read the log: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}
