//! Events of a conversation, for both sides: pages of history, and posting messages and notes.

use super::extract::Write;
use super::files::NewFile;
use super::page::Items;
use super::problem::{Outcome, Problem};
use super::widget;
use super::write::{self, Sealer, command};
use crate::app::App;
use crate::auth::{AgentCaller, VisitorCaller};
use crate::check;
use crate::core::command::NewMessage;
use crate::core::state::Conversation;
use crate::core::{Command, CommandKind};
use crate::domain::Answer;
use crate::store::read::Place;
use crate::view::{EventView, visitor_may_see};
use axum::http::StatusCode;
use ingest::event::{Actor, Event, RequestKey};
use ingest::id::{ConversationId, PersonId, TenantId};
use ingest::sqlite::EmbeddedLog;
use ingest::sqlite::page::{PageFill, RowPage};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Events read at once.
const HISTORY_PAGE: usize = 200;

/// Where a page of history starts and how long it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the parameters of the contract")]
pub struct EventParams {
    pub after: Option<u64>,
    pub limit: Option<usize>,
}

/// Message or note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Public.
    Message,
    /// Among agents.
    Note,
}

/// What is to be posted, as it was sent.
#[derive(Clone, Copy)]
pub struct Posted<'a> {
    /// Message or note.
    pub kind: Kind,
    /// The text.
    pub content: &'a str,
    /// The sender's own id for it.
    pub client_id: Option<&'a str>,
    /// The sender's JSON object.
    pub metadata: Option<&'a Map<String, Value>>,
    /// The file that it brings.
    pub file: Option<&'a NewFile>,
}

/// Who posts.
#[derive(Clone, Copy)]
pub enum Author<'a> {
    /// An agent.
    Agent(&'a AgentCaller),
    /// A visitor.
    Visitor(&'a VisitorCaller),
}

impl Author<'_> {
    fn tenant(self) -> TenantId {
        match self {
            Self::Agent(agent) => agent.tenant,
            Self::Visitor(visitor) => visitor.tenant,
        }
    }

    fn actor(self) -> Actor {
        match self {
            Self::Agent(agent) => agent.actor(),
            Self::Visitor(visitor) => visitor.actor(),
        }
    }

    fn sender(self) -> String {
        match self {
            Self::Agent(agent) => agent.sender(),
            Self::Visitor(visitor) => visitor.sender(),
        }
    }

    async fn submit(self, app: &App, command: Command) -> Outcome<Answer> {
        match self {
            Self::Agent(_) => write::submit(app, command).await,
            Self::Visitor(visitor) => widget::submit(app, visitor, command).await,
        }
    }
}

/// Events of a conversation with `seq` above `after` that `wanted` takes: at most `limit`, and no more bytes than a page has.
/// Pages without one are passed over, one after the other, while others take their turns; a request's time ends it.
///
/// # Errors
/// 500 when the log can't be read.
pub async fn some(
    app: &App,
    conversation: ConversationId,
    after: u64,
    limit: usize,
    wanted: impl Fn(&Event) -> bool,
) -> Outcome<RowPage<u64, Event>> {
    let mut from = after;
    let mut page = PageFill::new(limit);
    loop {
        let records = EmbeddedLog::history(&app.pool, conversation, from, HISTORY_PAGE)?;
        let next = records.next;
        for (seq, record) in records.items {
            let bytes = record.body.len();
            let event = Some(record.event).filter(&wanted);
            if !page.add(seq, event, bytes) {
                return Ok(page.done());
            }
        }
        match next {
            None => return Ok(page.done()),
            // What was passed over isn't held against the page: for who reads by seq, an empty one is the end.
            Some(next) if page.is_empty() => {
                (page, from) = (PageFill::new(limit), next);
                tokio::task::yield_now().await;
            }
            Some(next) => from = next,
        }
    }
}

/// A page of history: events with `seq` above `after`, at most `limit`, fewer where they are large; for visitors, `limit`
/// of those they may see. The hold must be there before it's read.
///
/// # Errors
/// 500 when the log or a key can't be read.
pub async fn page(
    app: &App,
    chat: &Conversation,
    after: u64,
    limit: usize,
    for_visitor: bool,
    shown: impl Fn(EventView) -> EventView,
) -> Outcome<Items<EventView>> {
    let events = some(app, chat.id, after, limit, |event| !for_visitor || visitor_may_see(event)).await?;
    let (items, _) = Items::of(&events, |event| Ok(app.views.event(event)?.map(&shown)))?;
    Ok(items)
}

/// Posts a message or a note; answers 201 with the event, or 200 with the first one for a repeat.
///
/// # Errors
/// 422 for what can't be said, 409 where nothing can be said any more.
pub async fn post<T>(
    app: &App,
    author: Author<'_>,
    place: Place,
    write: &Write<T>,
    posted: Posted<'_>,
) -> Outcome<(StatusCode, EventView)> {
    let content_chars = check::content("content", posted.content)?;
    posted.client_id.map(|id| check::id("clientId", id)).transpose()?;
    let metadata = posted.metadata.map(|object| check::metadata("metadata", object)).transpose()?;
    if posted.kind == Kind::Note && metadata.is_some() {
        return Err(Problem::invalid("metadata", "notes have no metadata"));
    }
    let request = request(app, author, place, write, &posted, metadata.as_deref());
    // Whoever writes, the words belong to the visitor: erasing them erases the conversation.
    let person = posted.file.map_or(PersonId::from(place.visitor), |file| file.person);
    let sealer = Sealer::for_known(app, person)?;
    let (conversation_id, content) = (place.conversation, sealer.seal(posted.content)?);
    let client_id = posted.client_id.map(str::to_owned);
    let kind = match posted.kind {
        Kind::Message => {
            let about = posted.file.map(|file| serde_json::to_string(&file.about)).transpose();
            let about = about.map_err(|error| Problem::internal(&error))?.or(metadata);
            let metadata = sealer.seal_option(about.as_deref())?;
            let file_id = posted.file.map(|file| file.id);
            let message = NewMessage { content, content_chars, client_id, metadata, file_id };
            CommandKind::PostMessage { conversation_id, message }
        }
        Kind::Note => CommandKind::PostNote { conversation_id, content, client_id },
    };
    let answer = author.submit(app, command(author.tenant(), author.actor(), request, kind)).await?;
    let (status, event) = match &answer.repeated {
        Some(record) => (StatusCode::OK, write::posted_event(app, record)?),
        None => (StatusCode::CREATED, answer.events.into_iter().find(write::is_posted)),
    };
    let view = event.as_ref().map(|event| app.views.event(event)).transpose()?.flatten();
    Ok((status, view.ok_or_else(|| Problem::internal(&"an event that was just posted isn't there"))?))
}

/// The `clientId` is the key where there is one. It stands for what is said and where, not for the path: the same
/// message may be sent again to the thread that is active by then.
fn request<T>(
    app: &App,
    author: Author<'_>,
    place: Place,
    write: &Write<T>,
    posted: &Posted<'_>,
    metadata: Option<&str>,
) -> Option<RequestKey> {
    let Some(client_id) = posted.client_id else { return write.request(app, author.sender()) };
    let note = if posted.kind == Kind::Note { "note" } else { "message" };
    // A visitor's session moves on from a closed conversation, and a repeat with it.
    let place = if matches!(author, Author::Visitor(_)) { String::new() } else { place.conversation.to_string() };
    let file = posted.file.map_or("", |file| &file.sha256);
    let said = [&place, note, metadata.unwrap_or_default(), file, posted.content].join("\n");
    let body = app.key_file.lookup("request", said.as_bytes());
    Some(RequestKey { sender: author.sender(), key: format!("c:{client_id}"), body })
}
