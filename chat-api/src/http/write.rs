//! From a request to the writer: commands, sealed texts, and what comes back.

use super::problem::{Outcome, Problem};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::core::command::MarkedComment;
use crate::core::state::{Conversation, RequestRecord};
use crate::core::{Command, CommandKind, decide};
use crate::domain::{Answer, Submission};
use crate::store::read;
use axum::http::StatusCode;
use ingest::event::{Actor, Event, RequestKey};
use ingest::id::{ConversationId, EventId, FileId, PersonId, TenantId};
use ingest::payload::Payload;
use ingest::seal::stream::FileCipher;
use ingest::seal::{PersonKey, Sealed};
use ingest::sqlite::{EmbeddedLog, NewPersonKey};
use ingest::time::Timestamp;
use std::sync::Arc;

/// A command with fresh ids.
pub fn command(tenant: TenantId, actor: Actor, request: Option<RequestKey>, kind: CommandKind) -> Command {
    Command { tenant, actor, first_event: EventId::fresh(), request, cause: None, kind }
}

/// Sends a command and waits until its outcome is durable.
///
/// # Errors
/// The decision against it, or 503.
pub async fn submit(app: &App, submission: impl Into<Submission>) -> Outcome<Answer> {
    let submission = submission.into();
    let tenant = submission.command.tenant;
    if submission.command.kind.is_growth() {
        app.limiter.room.text(tenant)?;
    }
    app.submit(submission).await?.map_err(|rejection| Problem::rejected(app, tenant, rejection))
}

/// What a request under this key led to, if it was sent before; without sending it.
///
/// # Errors
/// 422 for another body under the same key.
pub fn repeated(app: &App, request: RequestKey) -> Outcome<Option<RequestRecord>> {
    let found = app.pool.read(|connection| read::request(connection, &request))?;
    Ok(decide::repeated(found.as_ref(), &request, Timestamp::now())?)
}

/// Seals texts about one person for one command, and brings the person's key along when it's new.
pub struct Sealer {
    key: Arc<PersonKey>,
    new: Option<NewPersonKey>,
}

impl Sealer {
    /// For a person who is made by the command.
    ///
    /// # Errors
    /// 500 when the keys can't be read.
    pub fn for_new(app: &App, person: impl Into<PersonId>) -> Outcome<Self> {
        let (key, new) = app.keys.get_or_create(person.into())?;
        Ok(Self { key, new })
    }

    /// For a person who is there. One who was erased gets no new key: nothing more is written about them.
    ///
    /// # Errors
    /// 410 for an erased person.
    pub fn for_known(app: &App, person: impl Into<PersonId>) -> Outcome<Self> {
        match app.keys.get(person.into())? {
            Some(key) => Ok(Self { key, new: None }),
            None => Err(Problem::new(StatusCode::GONE, "person_erased", "this person's data was erased")),
        }
    }

    /// Seals a text.
    ///
    /// # Errors
    /// 500 without randomness.
    pub fn seal(&self, text: &str) -> Outcome<Sealed> {
        Ok(self.key.seal(text)?)
    }

    /// Seals a text that may be missing.
    ///
    /// # Errors
    /// 500 without randomness.
    pub fn seal_option(&self, text: Option<&str>) -> Outcome<Option<Sealed>> {
        text.map(|text| self.seal(text)).transpose()
    }

    /// Seals what is said with a rating.
    ///
    /// # Errors
    /// 500 without randomness.
    pub fn comment(&self, text: &str) -> Outcome<MarkedComment> {
        Ok(MarkedComment { text: self.seal(text)?, mark: self.key.mark("rating", text) })
    }

    /// Seals a file.
    #[must_use]
    pub fn file(&self, id: FileId) -> FileCipher {
        self.key.file(id)
    }

    /// The command with the keys it must carry.
    pub fn submission(self, command: Command) -> Submission {
        Submission { command, keys: self.new.into_iter().collect() }
    }
}

/// The message or note that a request posted: of the conversation's events from the first one it caused.
///
/// # Errors
/// 500 when the log can't be read.
pub fn posted_event(app: &App, record: &RequestRecord) -> Outcome<Option<Event>> {
    /// A message that reopens comes right after the reopening; nothing comes in between.
    const LOOKED_AT: usize = 2;
    let Some(conversation) = record.conversation else { return Ok(None) };
    let events = EmbeddedLog::history(&app.pool, conversation, record.seq.saturating_sub(1), LOOKED_AT)?;
    Ok(events.into_values().map(|record| record.event).find(is_posted))
}

/// Whether it's a message or a note.
#[must_use]
pub fn is_posted(event: &Event) -> bool {
    matches!(event.payload, Payload::MessagePosted(_) | Payload::NotePosted(_))
}

/// A conversation of the tenant.
///
/// # Errors
/// 404.
pub fn conversation(app: &App, tenant: TenantId, id: ConversationId) -> Outcome<Conversation> {
    app.pool
        .read(|connection| read::conversation(connection, tenant, id))?
        .ok_or_else(|| Problem::not_found("conversation"))
}

/// A conversation that an agent may see; to others it doesn't exist.
///
/// # Errors
/// 404.
pub fn visible(app: &App, caller: &AgentCaller, id: ConversationId) -> Outcome<Conversation> {
    let chat = conversation(app, caller.tenant, id)?;
    if caller.may_see(&chat) { Ok(chat) } else { Err(Problem::not_found("conversation")) }
}
