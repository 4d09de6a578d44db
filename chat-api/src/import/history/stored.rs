//! A conversation's events as they are stored, as a line has them, in order: what is imported again is compared with these.
//!
//! Read a few at a time; what is held is those.

use super::HistoryEvent;
use super::describe::describe;
use crate::import::ImportError;
use ingest::event::Origin;
use ingest::id::ConversationId;
use ingest::sqlite::{EmbeddedLog, PersonKeys, ReadPool};
use std::collections::VecDeque;

/// Events that are read at a time; an event has at most 256 KiB.
const PAGE: usize = 16;

/// The events of one conversation that a line has, from the first.
pub(super) struct Stored<'a> {
    pool: &'a ReadPool,
    keys: &'a PersonKeys,
    conversation: ConversationId,
    after: u64,
    read: VecDeque<(Origin, HistoryEvent)>,
    /// Some of those that were given happened here.
    pub(super) went_on_here: bool,
}

impl<'a> Stored<'a> {
    pub(super) fn of(pool: &'a ReadPool, keys: &'a PersonKeys, conversation: ConversationId) -> Self {
        Self { pool, keys, conversation, after: 0, read: VecDeque::new(), went_on_here: false }
    }

    /// The next one; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<HistoryEvent>, ImportError> {
        while self.read.is_empty() {
            let page = EmbeddedLog::history(self.pool, self.conversation, self.after, PAGE)?;
            let Some((last, _)) = page.items.last() else { return Ok(None) };
            self.after = *last;
            for record in page.values() {
                let line = describe(&record.event, |sealed| self.keys.open(sealed))?;
                self.read.extend(line.map(|line| (record.event.origin, line)));
            }
        }
        Ok(self.read.pop_front().map(|(origin, line)| {
            self.went_on_here |= origin == Origin::Live;
            line
        }))
    }
}
