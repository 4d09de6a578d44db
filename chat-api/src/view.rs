//! What the API shows of state and events: JSON in camelCase, with sealed texts opened for who may read them.
//!
//! A text that can't be read shows as `null`, whatever the reason: its person was erased, or it or its key is damaged. It
//! never fails what it stands in, and [`ViewError`] has no word for it. Events and notes say why in their metadata. System
//! events are words made from facts ("Agent Ada joined"), so no name is ever stored in one.

mod accounts;
mod configuration;
mod queue;
mod visitors;

pub use accounts::*;
pub use configuration::*;
pub use queue::*;
pub use visitors::{Browser, VisitorView};

use crate::core::state::{Agent, Conversation, Status, Thread, Visitor, is_for_agents};
use crate::http::surface::describe::may_lack;
use crate::store::read;
use ingest::event::{Actor, Event};
use ingest::id::{AgentId, ConversationId, EventId, FileId, GroupId, PersonId, TenantId, ThreadId, VisitorId};
use ingest::payload::{AuthorType, Payload, StaleReason, Trigger};
use ingest::seal::{Sealed, Text};
use ingest::sqlite::{PersonKeys, ReadPool};
use ingest::time::Timestamp;
use lru::LruCache;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Names kept opened in memory.
const NAMES_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// A view couldn't be made. Retry later.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The read pool failed.
    #[error("failed to read: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] ingest::log::ReadError),
}

/// RFC 3339 with milliseconds.
pub(crate) fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

pub(crate) fn rfc3339_option<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}

fn rfc3339_option_option<S: Serializer>(at: &Option<Option<Timestamp>>, serializer: S) -> Result<S::Ok, S::Error> {
    rfc3339_option(&at.flatten(), serializer)
}

/// For whom a conversation is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Its visitor: without what is for agents, which is an agent's address, tags, notes and flags.
    Visitor,
    /// An agent.
    Agent {
        /// With the address of the agent who has it; else `null` stands there.
        contacts: bool,
    },
}

/// A conversation. Visitors get it without the agents' own fields; `agentEmail` is for who manages agents.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct ConversationView {
    pub id: ConversationId,
    pub visitor_id: VisitorId,
    pub readable_id: Option<String>,
    pub name: Option<String>,
    pub email: Option<String>,
    pub status: Status,
    pub group_id: Option<GroupId>,
    pub assigned_agent_id: Option<AgentId>,
    pub agent_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<Option<String>>")]
    pub agent_email: Option<Option<String>>,
    pub active_thread_id: Option<ThreadId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<Vec<String>>")]
    pub tags: Option<Vec<String>>,
    pub last_seq: u64,
    pub last_message: Option<LastMessageView>,
    pub unread_count: u64,
    pub queue_position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<Option<String>>")]
    pub notes: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<bool>")]
    pub stale: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339_option_option")]
    #[schemars(schema_with = "may_lack::<Option<Timestamp>>")]
    pub snoozed_until: Option<Option<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<serde_json::Map<String, Value>>")]
    pub metadata: Option<Value>,
    pub rating: Option<u8>,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
    #[serde(serialize_with = "rfc3339")]
    pub updated_at: Timestamp,
}

/// The newest public message, for lists.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct LastMessageView {
    pub content: Option<String>,
    pub author_type: String,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
}

/// A phase of a conversation.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct ThreadView {
    pub id: ThreadId,
    pub status: &'static str,
    pub closed_by: Option<String>,
    pub closed_reason: Option<String>,
    #[serde(serialize_with = "rfc3339_option")]
    pub closed_at: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
}

impl From<&Thread> for ThreadView {
    fn from(thread: &Thread) -> Self {
        let closed = thread.closed.as_ref();
        Self {
            id: thread.id,
            status: if closed.is_some() { "closed" } else { "active" },
            closed_by: closed.map(|closed| closed.by.clone()),
            closed_reason: closed.map(|closed| closed.reason.clone()),
            closed_at: closed.map(|closed| closed.at),
            created_at: thread.created_at,
        }
    }
}

/// Who wrote an event.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct AuthorView {
    pub id: Option<String>,
    pub name: Option<String>,
}

/// An event of a conversation.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct EventView {
    pub id: EventId,
    pub conversation_id: ConversationId,
    pub thread_id: Option<ThreadId>,
    pub seq: u64,
    pub r#type: &'static str,
    pub author_type: &'static str,
    pub agent_id: Option<AgentId>,
    pub author: AuthorView,
    pub content: Option<String>,
    pub metadata: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<Option<FileView>>")]
    pub file: Option<FileView>,
    pub client_id: Option<String>,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
}

/// A file that a message brought. Its bytes are at `/v1/files/{id}`, for visitors at `/v1/widget/files/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "its id, and what is said about it")]
pub struct FileView {
    pub id: FileId,
    #[serde(flatten)]
    pub about: FileAbout,
}

/// What is said about a file; as JSON, sealed, in its message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileAbout {
    /// What it's saved as.
    pub name: String,
    /// Its media type, by its content.
    pub content_type: String,
    /// Its bytes.
    pub size: u64,
}

/// What the page said of itself when the session began; an empty object when it said nothing.
fn page_metadata(about: Option<String>) -> Value {
    let about = about.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    about.and_then(|about| about.get("metadata").filter(|data| data.is_object()).cloned()).unwrap_or(json!({}))
}

/// Whether visitors get this event; for them `seq` rises with holes.
#[must_use]
pub fn visitor_may_see(event: &Event) -> bool {
    event.conversation.is_some() && !is_for_agents(&event.payload)
}

/// Makes views: opens sealed texts and looks names up.
pub struct Views {
    pool: ReadPool,
    keys: Arc<PersonKeys>,
    names: Mutex<LruCache<PersonId, Option<Arc<str>>>>,
    /// How often names were forgotten: one that was opened before must not be kept after.
    forgotten: AtomicU64,
    pace: queue::Pace,
}

impl Views {
    /// Views over the read pool and the person keys.
    #[must_use]
    pub fn new(pool: ReadPool, keys: Arc<PersonKeys>) -> Self {
        Self {
            pool,
            keys,
            names: Mutex::new(LruCache::new(NAMES_MAX)),
            forgotten: AtomicU64::new(0),
            pace: queue::Pace::new(),
        }
    }

    /// Opens a text.
    ///
    /// # Errors
    /// See [`ViewError`]; so for every view.
    pub fn text(&self, sealed: &Sealed) -> Result<Text, ViewError> {
        Ok(self.keys.open(sealed)?)
    }

    /// A text as it's shown; `None` when there is none, or none that can be read.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn shown(&self, sealed: Option<&Sealed>) -> Result<Option<String>, ViewError> {
        match sealed {
            Some(sealed) => Ok(self.text(sealed)?.or_none()),
            None => Ok(None),
        }
    }

    /// Takes note of a committed event: a name may have changed, a queue may have moved.
    pub fn note(&self, event: &Event) {
        self.pace.note(event);
        let persons: Vec<PersonId> = match &event.payload {
            Payload::AgentUpdated(change) => vec![change.agent_id.into()],
            Payload::VisitorUpdated(change) => vec![change.visitor_id.into()],
            Payload::VisitorMerged(merged) => vec![merged.target_visitor_id.into()],
            Payload::VisitorErased(erased) => {
                std::iter::once(&erased.visitor_id).chain(&erased.merged).map(|id| PersonId::from(*id)).collect()
            }
            _ => return,
        };
        self.forget_names(&persons);
    }

    /// Forgets these persons' names.
    pub fn forget_names(&self, persons: &[PersonId]) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        self.forgotten.fetch_add(1, Ordering::Release);
        persons.iter().for_each(|person| drop(names.pop(person)));
    }

    fn name(
        &self,
        person: PersonId,
        sealed: impl FnOnce() -> rusqlite::Result<Option<Sealed>>,
    ) -> Result<Option<Arc<str>>, ViewError> {
        if let Some(name) = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(&person) {
            return Ok(name.clone());
        }
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let name: Option<Arc<str>> = self.shown(sealed()?.as_ref())?.map(Into::into);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if self.forgotten.load(Ordering::Acquire) == forgotten {
            names.put(person, name.clone());
        }
        drop(names);
        Ok(name)
    }

    /// An agent's name; `None` when they are unknown or erased.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn agent_name(&self, tenant: TenantId, id: AgentId) -> Result<Option<Arc<str>>, ViewError> {
        self.name(id.into(), || Ok(self.pool.read(|c| read::agent(c, tenant, id))?.map(|agent| agent.name)))
    }

    /// A visitor's name; `None` when they gave none, are unknown or erased.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn visitor_name(&self, tenant: TenantId, id: VisitorId) -> Result<Option<Arc<str>>, ViewError> {
        self.name(id.into(), || Ok(self.pool.read(|c| read::visitor(c, tenant, id))?.and_then(|found| found.name)))
    }

    /// An agent as they see themselves, and as who manages agents sees them.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn agent(&self, agent: &Agent) -> Result<AgentView, ViewError> {
        Ok(AgentView {
            id: agent.id,
            name: self.shown(Some(&agent.name))?,
            email: self.shown(agent.email.as_ref())?,
            phone: self.shown(agent.phone.as_ref())?,
            role: agent.custom_role.map_or_else(|| agent.role.as_str().to_owned(), |id| id.to_string()),
            permissions: Some(PermissionsView { allow: agent.allow, deny: agent.deny }),
            status: agent.status,
            accepting_chats: agent.accepting_chats,
            max_concurrent_chats: agent.max_concurrent_chats,
            active_chats: agent.active_chats,
            skills: agent.skills.clone(),
            avatar: self.shown(agent.avatar.as_ref())?,
            recent_ips: self.recent_ips(agent)?,
            created_at: agent.created_at,
            deleted_at: agent.deleted_at,
        })
    }

    /// A conversation, as its reader gets it.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn conversation(&self, chat: &Conversation, audience: Audience) -> Result<ConversationView, ViewError> {
        let for_visitor = audience == Audience::Visitor;
        let (tenant, agent_id) = (chat.tenant, chat.agent);
        let (visitor, agent, position): (Option<Visitor>, Option<Agent>, Option<u64>) =
            self.pool.read(|connection| {
                let agent = agent_id.map(|id| read::agent(connection, tenant, id)).transpose()?.flatten();
                let position =
                    chat.queued.map(|queued| read::queue_position(connection, tenant, chat.group, queued.rank));
                Ok((read::visitor(connection, tenant, chat.visitor)?, agent, position.transpose()?))
            })?;
        let last_message = match &chat.last_message {
            Some(last) => Some(LastMessageView {
                content: self.shown(Some(&last.content))?,
                author_type: last.author_type.clone(),
                created_at: last.at,
            }),
            None => None,
        };
        let unread = if for_visitor { &chat.unread_by_visitor } else { &chat.unread_by_agents };
        let about = visitor.as_ref().and_then(|visitor| visitor.metadata.as_ref()).filter(|_| !for_visitor);
        let metadata = page_metadata(self.shown(about)?);
        let contacts = agent.as_ref().filter(|_| audience == Audience::Agent { contacts: true });
        let agent_email = self.shown(contacts.and_then(|agent| agent.email.as_ref()))?;
        Ok(ConversationView {
            id: chat.id,
            visitor_id: chat.visitor,
            name: self.shown(visitor.as_ref().and_then(|visitor| visitor.name.as_ref()))?,
            email: self.shown(visitor.as_ref().and_then(|visitor| visitor.email.as_ref()))?,
            readable_id: visitor.map(|visitor| visitor.readable_id),
            status: chat.status,
            group_id: chat.group,
            assigned_agent_id: agent_id,
            agent_name: self.shown(agent.as_ref().map(|agent| &agent.name))?,
            agent_email: (!for_visitor).then_some(agent_email),
            active_thread_id: Some(chat.thread()).filter(|thread| thread.closed.is_none()).map(|thread| thread.id),
            tags: (!for_visitor).then(|| chat.tags.iter().cloned().collect()),
            last_seq: chat.last_seq,
            last_message,
            unread_count: unread.count(),
            queue_position: position,
            notes: if for_visitor { None } else { Some(self.shown(chat.notes.as_ref())?) },
            stale: (!for_visitor).then_some(chat.stale),
            snoozed_until: (!for_visitor).then_some(chat.snoozed_until),
            metadata: (!for_visitor).then_some(metadata),
            rating: chat.rating,
            created_at: chat.created_at,
            updated_at: chat.updated_at,
        })
    }

    /// An event of a conversation; `None` for events outside of one.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn event(&self, event: &Event) -> Result<Option<EventView>, ViewError> {
        let Some(conversation_id) = event.conversation else { return Ok(None) };
        let tenant = event.tenant;
        let mut view = EventView {
            id: event.id,
            conversation_id,
            thread_id: None,
            seq: event.seq,
            r#type: "system",
            author_type: "system",
            agent_id: None,
            author: AuthorView { id: None, name: None },
            content: None,
            metadata: json!({}),
            file: None,
            client_id: None,
            created_at: event.occurred_at,
        };
        match &event.payload {
            Payload::MessagePosted(message) => {
                view.r#type = "message";
                view.thread_id = Some(message.thread_id);
                self.content(&mut view, &message.content)?;
                view.client_id.clone_from(&message.client_id);
                if let Some(id) = message.file_id {
                    view.file = self.file(message.metadata.as_ref())?.map(|about| FileView { id, about });
                } else {
                    let metadata = self.shown(message.metadata.as_ref())?;
                    if let Some(metadata) = metadata.and_then(|text| serde_json::from_str(&text).ok()) {
                        view.metadata = metadata;
                    }
                }
                self.author(&mut view, event, Some(message.author_type))?;
            }
            Payload::NotePosted(note) => {
                view.r#type = "note";
                view.thread_id = Some(note.thread_id);
                self.content(&mut view, &note.content)?;
                view.client_id.clone_from(&note.client_id);
                self.author(&mut view, event, None)?;
            }
            payload => self.system(&mut view, tenant, payload)?,
        }
        Ok(Some(view))
    }

    /// What was said; or that it can't be read any more, and why.
    fn content(&self, view: &mut EventView, content: &Sealed) -> Result<(), ViewError> {
        match self.text(content)? {
            Text::Readable(words) => view.content = Some(words),
            Text::Unreadable(why) => view.metadata = json!({ "unreadable": why.as_str() }),
        }
        Ok(())
    }

    /// What a message's metadata says about its file; `None` when it can't be read.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn file(&self, metadata: Option<&Sealed>) -> Result<Option<FileAbout>, ViewError> {
        Ok(self.shown(metadata)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn author(&self, view: &mut EventView, event: &Event, kind: Option<AuthorType>) -> Result<(), ViewError> {
        view.author_type = kind.map_or("agent", AuthorType::as_str);
        let text = |name: Option<Arc<str>>| name.map(|name| name.to_string());
        view.author = match event.actor {
            Actor::Visitor(id) => {
                AuthorView { id: Some(id.to_string()), name: text(self.visitor_name(event.tenant, id)?) }
            }
            Actor::Agent(id) => {
                view.agent_id = Some(id);
                AuthorView { id: Some(id.to_string()), name: text(self.agent_name(event.tenant, id)?) }
            }
            Actor::System | Actor::Operator => AuthorView { id: None, name: None },
        };
        Ok(())
    }

    fn system(&self, view: &mut EventView, tenant: TenantId, payload: &Payload) -> Result<(), ViewError> {
        let named = |id: AgentId| -> Result<String, ViewError> {
            Ok(self.agent_name(tenant, id)?.map_or_else(|| "Agent".to_owned(), |name| format!("Agent {name}")))
        };
        let (thread, code, content) = match payload {
            Payload::ConversationStarted(made) => {
                (Some(made.thread_id), "conversation_started", "Conversation started".to_owned())
            }
            Payload::ConversationQueued(queued)
                if matches!(queued.trigger, Trigger::FirstMessage | Trigger::Reopened) =>
            {
                let words = self.waiting_text(tenant, view.conversation_id)?;
                (Some(queued.thread_id), "agent_will_join", words)
            }
            Payload::ConversationQueued(queued) => {
                (Some(queued.thread_id), "queued", "Waiting for an agent".to_owned())
            }
            Payload::AgentAssigned(assigned) => {
                view.agent_id = Some(assigned.agent_id);
                (Some(assigned.thread_id), "agent_joined", format!("{} joined", named(assigned.agent_id)?))
            }
            Payload::AgentUnassigned(left) => {
                view.agent_id = Some(left.agent_id);
                (None, "agent_left", format!("{} left", named(left.agent_id)?))
            }
            Payload::ConversationResolved(done) if done.reason.as_deref() == Some("standby_expired") => {
                (Some(done.thread_id), "standby_expired", "The visitor left".to_owned())
            }
            Payload::ConversationResolved(done) => {
                (Some(done.thread_id), "resolved", "Conversation resolved".to_owned())
            }
            Payload::ConversationReopened(again) => {
                (Some(again.thread_id), "reopened", "Conversation reopened".to_owned())
            }
            Payload::ConversationClosed(_) => (None, "closed", "Conversation closed".to_owned()),
            Payload::ConversationRated(rated) => {
                (Some(rated.thread_id), "rated", format!("Rated {} of 5", rated.score))
            }
            Payload::ConversationTagged(_) => (None, "tagged", "Tags changed".to_owned()),
            Payload::ConversationUpdated(changed) if changed.group_id.is_some() => {
                (None, "group_changed", "Group changed".to_owned())
            }
            Payload::ConversationUpdated(_) => (None, "notes_changed", "Notes changed".to_owned()),
            Payload::ConversationTransferred(passed) => {
                view.agent_id = passed.agent_id;
                let to = match (passed.agent_id, passed.group_id) {
                    (Some(agent), _) => format!(" to {}", named(agent)?),
                    (None, Some(group)) => self.group_name(tenant, group)?,
                    (None, None) => String::new(),
                };
                (Some(passed.thread_id), "transferred", format!("Conversation transferred{to}"))
            }
            Payload::ConversationStale(stale) => {
                let words = match stale.reason {
                    StaleReason::Manual => "Marked as stale",
                    StaleReason::Idle => "Nobody has written for a while",
                };
                (Some(stale.thread_id), "stale", words.to_owned())
            }
            Payload::ConversationSnoozed(snoozed) => match snoozed.until {
                Some(until) => (None, "snoozed", format!("Snoozed until {until}")),
                None => (None, "snooze_ended", "Back from being snoozed".to_owned()),
            },
            _ => (None, payload.kind(), String::new()),
        };
        view.thread_id = thread;
        view.content = Some(content);
        view.metadata = json!({ "code": code });
        Ok(())
    }

    fn group_name(&self, tenant: TenantId, id: GroupId) -> Result<String, ViewError> {
        let group = self.pool.read(|connection| read::group(connection, tenant, id))?;
        Ok(group.map(|group| format!(" to {}", group.name)).unwrap_or_default())
    }

    fn waiting_text(&self, tenant: TenantId, id: ConversationId) -> Result<String, ViewError> {
        let chatbot = self.pool.read(|connection| {
            let chatbot = read::conversation(connection, tenant, id)?.and_then(|chat| chat.chatbot);
            chatbot.map(|chatbot| read::chatbot(connection, tenant, chatbot)).transpose()
        })?;
        let text = chatbot.flatten().map(|chatbot| chatbot.waiting_text);
        Ok(text.unwrap_or_else(|| "An agent will join shortly.".to_owned()))
    }
}
