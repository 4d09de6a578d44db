//! The state machine that the writer drives: load, decide, apply, save.

use crate::core::command::Command;
use crate::core::decide::{Decision, Rejection};
use crate::core::state::{Conversation, RequestRecord, State};
use crate::core::{apply, decide};
use crate::store;
use ingest::event::Event;
use ingest::sqlite::NewPersonKey;
use ingest::time::Timestamp;
use ingest::writer::{Decided, Domain, ExecuteError};
use rusqlite::Connection;

/// Entities kept in memory between batches. Past it all are forgotten and loaded again as needed.
const CACHED_ENTITIES_MAX: usize = 20_000;
/// Bytes of entities that were loaded or saved since: most have some 2 KiB, a conversation with notes and a long last message a
/// hundred times that. Past it, the same.
const CACHED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A command with the person keys its sealed texts need.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What is asked.
    pub command: Command,
    /// Keys that aren't stored yet.
    pub keys: Vec<NewPersonKey>,
}

impl From<Command> for Submission {
    fn from(command: Command) -> Self {
        Self { command, keys: Vec::new() }
    }
}

/// What a command led to.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What happened; empty when it already held, or for a repeated request.
    pub events: Vec<Event>,
    /// The idempotency key was used before: what it led to then.
    pub repeated: Option<RequestRecord>,
    /// The conversation that the command is about, as it is now.
    pub conversation: Option<Box<Conversation>>,
}

/// The chat domain over SQLite.
#[derive(Default)]
pub struct ChatDomain {
    state: State,
}

impl ChatDomain {
    /// Applies a stored event without deciding; for `rebuild` and `verify`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn replay(&mut self, connection: &Connection, event: &Event) -> rusqlite::Result<()> {
        store::load::load_for_apply(connection, &mut self.state, event)?;
        apply(&mut self.state, event);
        // Replay never decides, so it needs no roster, and one that lacks agents loaded later would be wrong.
        self.state.rosters.clear();
        Ok(())
    }
}

impl Domain for ChatDomain {
    type Command = Submission;
    type Answer = Answer;
    type Rejection = Rejection;

    fn execute(
        &mut self,
        tx: &Connection,
        submission: &Submission,
        now: Timestamp,
    ) -> Result<Decided<Answer>, ExecuteError<Rejection>> {
        let command = &submission.command;
        store::load::load(tx, &mut self.state, command.tenant, command.request.as_ref(), &command.reads())?;
        let decision = decide(&self.state, command, now).map_err(ExecuteError::Rejected)?;
        let (events, repeated) = match decision {
            Decision::Events(events) => (events, None),
            Decision::Repeated(record) => (Vec::new(), Some(record)),
        };
        store::persons::follow(tx, command, &events)?;
        store::persons::erase(tx, &self.state, command)?;
        for event in &events {
            store::load::load_for_apply(tx, &mut self.state, event)?;
            apply(&mut self.state, event);
        }
        let conversation = command.conversation().and_then(|id| self.state.conversations.get(&id)).cloned();
        let keys = if events.is_empty() { Vec::new() } else { submission.keys.clone() };
        let answer = Answer { events: events.clone(), repeated, conversation: conversation.map(Box::new) };
        Ok(Decided { events, keys, answer })
    }

    fn flush(&mut self, tx: &Connection) -> rusqlite::Result<()> {
        store::save::save(tx, &mut self.state)
    }

    fn committed(&mut self) {
        // Few and large; they are read again when one is published.
        self.state.pipes.clear();
        let state = &self.state;
        let people = state.conversations.len() + state.visitors.len() + state.files.len();
        let words = state.tags.len() + state.canned_responses.len() + state.data_sources.len();
        let cached = people + words + state.requests.len() + state.mails.len();
        if cached > CACHED_ENTITIES_MAX || state.bytes > CACHED_BYTES_MAX {
            self.state = State::default();
        }
    }

    fn discard(&mut self) {
        self.state = State::default();
    }
}
