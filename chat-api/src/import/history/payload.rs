//! An event of a line, checked and its names resolved, as what the log holds. Start at [`payload`].

use super::describe::attachment_metadata;
use super::{By, EventType, HistoryEvent};
use crate::core::command::ImportedEvent;
use ingest::event::Actor;
use ingest::payload::{
    AgentAssigned, AgentUnassigned, Candidate, ConversationClosed, ConversationQueued, ConversationRated,
    ConversationReopened, ConversationResolved, ConversationSnoozed, ConversationStale, ConversationStarted,
    ConversationTagged, ConversationTransferred, ConversationUpdated, MessagePosted, NotePosted, Payload, StaleReason,
};
use ingest::seal::{PersonKey, SealError, Sealed};
use ingest::time::Timestamp;
use std::str::FromStr;

/// Where a conversation's first event comes from.
pub(super) struct Beginning<'a> {
    pub external_id: &'a str,
    pub visitor_has_email: bool,
}

/// Why an event isn't made.
#[derive(Debug)]
pub(super) enum PayloadError {
    /// No randomness is to be had.
    Seal(SealError),
    /// A field isn't there that [`check`](super::check) asks for, or a name wasn't resolved.
    Unchecked,
}

impl From<SealError> for PayloadError {
    fn from(error: SealError) -> Self {
        Self::Seal(error)
    }
}

/// An id of this tenant, as a resolved name is one.
fn id<T: FromStr>(name: Option<&String>) -> Result<T, PayloadError> {
    optional_id(name)?.ok_or(PayloadError::Unchecked)
}

fn optional_id<T: FromStr>(name: Option<&String>) -> Result<Option<T>, PayloadError> {
    name.map(|name| name.parse().map_err(|_| PayloadError::Unchecked)).transpose()
}

fn actor(by: &By) -> Result<Actor, PayloadError> {
    Ok(match by {
        By::Visitor(name) => Actor::Visitor(id(Some(name))?),
        By::Agent(name) => Actor::Agent(id(Some(name))?),
        By::Bot | By::System => Actor::System,
        By::Operator => Actor::Operator,
    })
}

/// The event with its texts sealed under the visitor's key: whoever wrote them, erasing the visitor erases them.
pub(super) fn payload(
    event: HistoryEvent,
    key: &PersonKey,
    beginning: &Beginning<'_>,
) -> Result<ImportedEvent, PayloadError> {
    let at = Timestamp::parse_rfc3339(&event.at).ok_or(PayloadError::Unchecked)?;
    let actor = actor(&event.by)?;
    let payload = match event.r#type {
        EventType::ConversationStarted => started(event, beginning)?.into(),
        EventType::Message => message(event, key)?.into(),
        EventType::AgentJoined => assigned(event, key)?.into(),
        _ => other(event, key)?,
    };
    Ok(ImportedEvent { at, actor, payload })
}

fn seal(key: &PersonKey, text: Option<&String>) -> Result<Option<Sealed>, PayloadError> {
    Ok(text.map(|text| key.seal(text)).transpose()?)
}

fn started(event: HistoryEvent, beginning: &Beginning<'_>) -> Result<ConversationStarted, PayloadError> {
    let By::Visitor(visitor) = &event.by else { return Err(PayloadError::Unchecked) };
    Ok(ConversationStarted {
        visitor_id: id(Some(visitor))?,
        visitor_has_email: beginning.visitor_has_email,
        chatbot_id: optional_id(event.chatbot.as_ref())?,
        group_id: optional_id(event.group.flatten().as_ref())?,
        thread_id: id(event.thread.as_ref())?,
        tags: event.tags,
        external_id: Some(beginning.external_id.to_owned()),
        skills: event.skills,
        continues: optional_id(event.continues.as_ref())?,
        exact: event.exact.unwrap_or(true),
    })
}

fn message(event: HistoryEvent, key: &PersonKey) -> Result<MessagePosted, PayloadError> {
    let text = event.text.ok_or(PayloadError::Unchecked)?;
    let metadata = match &event.attachment {
        Some(file) => Some(attachment_metadata(file, event.metadata.map(|own| own.0))),
        None => event.metadata.map(|own| own.0),
    };
    let metadata = metadata.map(|object| serde_json::Value::Object(object).to_string());
    Ok(MessagePosted {
        thread_id: id(event.thread.as_ref())?,
        author_type: event.from.unwrap_or_else(|| event.by.author()),
        content_chars: u32::try_from(text.chars().count()).unwrap_or(u32::MAX),
        content: key.seal(&text)?,
        client_id: event.client_id,
        metadata: seal(key, metadata.as_ref())?,
        file_id: None,
    })
}

fn assigned(event: HistoryEvent, key: &PersonKey) -> Result<AgentAssigned, PayloadError> {
    let candidates = event.candidates.into_iter().map(|candidate| {
        Ok(Candidate {
            agent_id: id(Some(&candidate.agent))?,
            load: candidate.load,
            capacity: candidate.capacity,
            eligible: candidate.eligible,
            reason: candidate.reason,
        })
    });
    Ok(AgentAssigned {
        agent_id: id(event.agent.as_ref())?,
        previous_agent_id: optional_id(event.previous_agent.as_ref())?,
        thread_id: id(event.thread.as_ref())?,
        waited_ms: event.waited_ms,
        trigger: event.trigger.ok_or(PayloadError::Unchecked)?,
        strategy: event.strategy.ok_or(PayloadError::Unchecked)?,
        candidates: candidates.collect::<Result<_, PayloadError>>()?,
        group_id: optional_id(event.group.flatten().as_ref())?,
        reason: seal(key, event.reason.as_ref())?,
    })
}

/// The types that are made in a line or two.
fn other(event: HistoryEvent, key: &PersonKey) -> Result<Payload, PayloadError> {
    let agent_id = optional_id(event.agent.as_ref())?;
    let group = event.group.as_ref().map(|group| optional_id(group.as_ref())).transpose()?;
    let thread = || id(event.thread.as_ref());
    Ok(match event.r#type {
        EventType::Note => {
            let text = event.text.as_ref().ok_or(PayloadError::Unchecked)?;
            NotePosted { thread_id: thread()?, content: key.seal(text)?, client_id: event.client_id }.into()
        }
        EventType::Queued => ConversationQueued {
            thread_id: thread()?,
            trigger: event.trigger.ok_or(PayloadError::Unchecked)?,
            // Places in a queue are no history.
            rank: 0,
            group_id: group.flatten(),
        }
        .into(),
        EventType::AgentLeft => AgentUnassigned {
            agent_id: agent_id.ok_or(PayloadError::Unchecked)?,
            trigger: event.trigger.ok_or(PayloadError::Unchecked)?,
        }
        .into(),
        EventType::Resolved => ConversationResolved { thread_id: thread()?, agent_id, reason: event.reason }.into(),
        EventType::Reopened => ConversationReopened { thread_id: thread()? }.into(),
        EventType::Closed => {
            ConversationClosed { reason: event.reason.ok_or(PayloadError::Unchecked)?, agent_id }.into()
        }
        EventType::Rated => ConversationRated {
            thread_id: thread()?,
            score: event.score.ok_or(PayloadError::Unchecked)?,
            agent_id,
            comment: seal(key, event.comment.as_ref())?,
            comment_mark: None,
        }
        .into(),
        EventType::Tagged => ConversationTagged { add: event.add, remove: event.remove }.into(),
        EventType::Changed => {
            let notes = event.notes.map(|notes| seal(key, notes.as_ref())).transpose()?;
            ConversationUpdated { notes, group_id: group }.into()
        }
        EventType::Transferred => ConversationTransferred {
            thread_id: thread()?,
            from_agent_id: optional_id(event.from_agent.as_ref())?,
            agent_id,
            group_id: group.flatten(),
        }
        .into(),
        EventType::Stale => {
            let reason = match event.reason.as_deref() {
                Some("idle") => StaleReason::Idle,
                _ => StaleReason::Manual,
            };
            ConversationStale { thread_id: thread()?, reason, agent_id }.into()
        }
        EventType::Snoozed => {
            let until =
                event.until.as_deref().map(|until| Timestamp::parse_rfc3339(until).ok_or(PayloadError::Unchecked));
            ConversationSnoozed { until: until.transpose()? }.into()
        }
        EventType::Message | EventType::ConversationStarted | EventType::AgentJoined => {
            return Err(PayloadError::Unchecked);
        }
    })
}
