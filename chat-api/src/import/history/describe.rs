//! An event of the log as an event of a line, by this tenant's own ids: what an export writes, and an import compares with.
//!
//! Start at [`describe`]: an exhaustive match, so a new kind of event doesn't compile until it's written or left out here.

use super::{Attachment, By, CandidateLine, EventType, HistoryEvent, OwnFields};
use crate::view::FileAbout;
use ingest::event::{Actor, Event, Origin};
use ingest::payload::{
    AgentAssigned, AuthorType, ConversationStarted, IMPORTED_UNRESOLVED, MessagePosted, Payload, StaleReason,
};
use ingest::seal::{Sealed, Text, Unreadable};
use serde_json::{Map, Value, json};

/// What stands in the place of a text that can't be read. That something was said there is no secret, and whoever looks for
/// it must find out.
const UNREADABLE: &str = "[this message can't be read]";
/// The field of a message's metadata that names a file which isn't here.
pub(super) const ATTACHMENT: &str = "attachment";

/// How texts are opened.
struct Opener<F>(F);

impl<E, F: Fn(&Sealed) -> Result<Text, E>> Opener<F> {
    /// Nothing is left of the words of who was erased.
    fn text(&self, sealed: &Sealed) -> Result<Option<String>, E> {
        Ok(match (self.0)(sealed)? {
            Text::Readable(words) => Some(words),
            Text::Unreadable(Unreadable::Erased) => None,
            Text::Unreadable(Unreadable::Damaged) => Some(UNREADABLE.to_owned()),
        })
    }

    fn option(&self, sealed: Option<&Sealed>) -> Result<Option<String>, E> {
        sealed.map_or(Ok(None), |sealed| self.text(sealed))
    }

    /// A JSON object; of one that can't be read nothing is said.
    fn object(&self, sealed: Option<&Sealed>) -> Result<Option<Map<String, Value>>, E> {
        Ok(self.option(sealed)?.and_then(|text| serde_json::from_str(&text).ok()))
    }
}

/// The event as one of a line; `None` for one that no line has: what isn't a conversation's, what an import writes by itself,
/// and the words of who was erased.
///
/// # Errors
/// Those of `open`.
pub(in crate::import) fn describe<E>(
    event: &Event,
    open: impl Fn(&Sealed) -> Result<Text, E>,
) -> Result<Option<HistoryEvent>, E> {
    let open = Opener(open);
    let mut line = HistoryEvent { at: event.occurred_at.to_string(), by: by(event.actor), ..HistoryEvent::default() };
    let text = |id: &dyn std::fmt::Display| Some(id.to_string());
    match &event.payload {
        Payload::ConversationStarted(data) => started(&mut line, data, event.origin),
        Payload::MessagePosted(data) => return message(line, data, &open),
        Payload::NotePosted(data) => {
            line.r#type = EventType::Note;
            line.thread = text(&data.thread_id);
            line.client_id.clone_from(&data.client_id);
            line.text = open.text(&data.content)?;
            return Ok(Some(line).filter(|line| line.text.is_some()));
        }
        Payload::ConversationQueued(data) => {
            line.r#type = EventType::Queued;
            line.thread = text(&data.thread_id);
            line.trigger = Some(data.trigger);
            line.group = data.group_id.map(|id| text(&id));
        }
        Payload::AgentAssigned(data) => {
            assigned(&mut line, data);
            line.reason = open.option(data.reason.as_ref())?;
        }
        Payload::AgentUnassigned(data) => {
            line.r#type = EventType::AgentLeft;
            line.agent = text(&data.agent_id);
            line.trigger = Some(data.trigger);
        }
        Payload::ConversationResolved(data) => {
            line.r#type = EventType::Resolved;
            line.thread = text(&data.thread_id);
            line.agent = data.agent_id.map(|id| id.to_string());
            line.reason.clone_from(&data.reason);
        }
        Payload::ConversationReopened(data) => {
            line.r#type = EventType::Reopened;
            line.thread = text(&data.thread_id);
        }
        // Where it's imported it ends there, and by itself.
        Payload::ConversationClosed(data) if data.reason == IMPORTED_UNRESOLVED => return Ok(None),
        Payload::ConversationClosed(data) => {
            line.r#type = EventType::Closed;
            line.agent = data.agent_id.map(|id| id.to_string());
            line.reason = Some(data.reason.clone());
        }
        Payload::ConversationRated(data) => {
            line.r#type = EventType::Rated;
            line.thread = text(&data.thread_id);
            line.score = Some(data.score);
            line.agent = data.agent_id.map(|id| id.to_string());
            line.comment = open.option(data.comment.as_ref())?;
        }
        Payload::ConversationTagged(data) => {
            line.r#type = EventType::Tagged;
            line.add.clone_from(&data.add);
            line.remove.clone_from(&data.remove);
        }
        Payload::ConversationUpdated(data) => {
            line.r#type = EventType::Changed;
            line.group = data.group_id.map(|group| group.map(|id| id.to_string()));
            line.notes = match &data.notes {
                Some(notes) => Some(open.option(notes.as_ref())?),
                None => None,
            };
        }
        Payload::ConversationTransferred(data) => {
            line.r#type = EventType::Transferred;
            line.thread = text(&data.thread_id);
            line.from_agent = data.from_agent_id.map(|id| id.to_string());
            line.agent = data.agent_id.map(|id| id.to_string());
            line.group = data.group_id.map(|id| text(&id));
        }
        Payload::ConversationStale(data) => {
            line.r#type = EventType::Stale;
            line.thread = text(&data.thread_id);
            line.agent = data.agent_id.map(|id| id.to_string());
            line.reason = Some(stale_word(data.reason).to_owned());
        }
        Payload::ConversationSnoozed(data) => {
            line.r#type = EventType::Snoozed;
            line.until = data.until.map(|until| until.to_string());
        }
        left_out => return Ok(is_left_out(left_out)),
    }
    Ok(Some(line))
}

/// Why the others are in no line, by kind; never any line.
fn is_left_out(payload: &Payload) -> Option<HistoryEvent> {
    match payload {
        // Events of a conversation, which stand above.
        Payload::ConversationStarted(_)
        | Payload::MessagePosted(_)
        | Payload::NotePosted(_)
        | Payload::ConversationQueued(_)
        | Payload::AgentAssigned(_)
        | Payload::AgentUnassigned(_)
        | Payload::ConversationResolved(_)
        | Payload::ConversationReopened(_)
        | Payload::ConversationClosed(_)
        | Payload::ConversationRated(_)
        | Payload::ConversationTagged(_)
        | Payload::ConversationUpdated(_)
        | Payload::ConversationTransferred(_)
        | Payload::ConversationStale(_)
        | Payload::ConversationSnoozed(_) => None,
        // How far somebody has read is theirs, of now and here, and in no report.
        Payload::ConversationRead(_) => None,
        // Who a line's visitors are stands in its head, merged ones apart; what they did on pages is no conversation.
        Payload::VisitorCreated(_)
        | Payload::VisitorUpdated(_)
        | Payload::VisitorMerged(_)
        | Payload::VisitorTracked(_)
        | Payload::VisitorBlocked(_)
        | Payload::VisitorUnblocked(_)
        | Payload::VisitorErased(_) => None,
        // The tenant, its people and what it set up: agents and groups stand in the head as far as events name them.
        Payload::TenantCreated(_)
        | Payload::TenantUpdated(_)
        | Payload::AgentCreated(_)
        | Payload::AgentUpdated(_)
        | Payload::AgentDeleted(_)
        | Payload::AgentRestored(_)
        | Payload::AgentStatusChanged(_)
        | Payload::OwnershipTransferred(_)
        | Payload::RoleCreated(_)
        | Payload::RoleUpdated(_)
        | Payload::RoleDeleted(_)
        | Payload::RoleRestored(_)
        | Payload::ChatbotCreated(_)
        | Payload::ChatbotUpdated(_)
        | Payload::ChatbotRotated(_)
        | Payload::GroupCreated(_)
        | Payload::GroupUpdated(_)
        | Payload::GroupMembersChanged(_)
        | Payload::TagCreated(_)
        | Payload::TagUpdated(_)
        | Payload::CannedResponseCreated(_)
        | Payload::CannedResponseUpdated(_)
        | Payload::ResourceDeleted(_)
        | Payload::ResourceRestored(_)
        | Payload::DataSourceCreated(_)
        | Payload::RowsAppended(_)
        | Payload::DataSourceReplaced(_)
        | Payload::DataSourceDeleted(_)
        | Payload::PipePublished(_)
        | Payload::PipeDeleted(_) => None,
        // What lets somebody in is never carried elsewhere.
        Payload::PasswordChanged(_)
        | Payload::ChallengeIssued(_)
        | Payload::ChallengeFailed(_)
        | Payload::ChallengeUsed(_)
        | Payload::InvitationCreated(_)
        | Payload::InvitationAccepted(_)
        | Payload::SessionOpened(_)
        | Payload::SessionRefreshed(_)
        | Payload::SessionClosed(_)
        | Payload::TokenCreated(_)
        | Payload::TokenRevoked(_) => None,
        // Mails were sent from here.
        Payload::MailRequested(_) | Payload::MailSent(_) | Payload::MailFailed(_) => None,
    }
}

fn by(actor: Actor) -> By {
    match actor {
        Actor::Visitor(id) => By::Visitor(id.to_string()),
        Actor::Agent(id) => By::Agent(id.to_string()),
        Actor::System => By::System,
        Actor::Operator => By::Operator,
    }
}

pub(super) fn stale_word(reason: StaleReason) -> &'static str {
    match reason {
        StaleReason::Manual => "manual",
        StaleReason::Idle => "idle",
    }
}

fn started(line: &mut HistoryEvent, data: &ConversationStarted, origin: Origin) {
    line.r#type = EventType::ConversationStarted;
    line.by = By::Visitor(data.visitor_id.to_string());
    line.thread = Some(data.thread_id.to_string());
    line.group = data.group_id.map(|id| Some(id.to_string()));
    line.chatbot = data.chatbot_id.map(|id| id.to_string());
    line.continues = data.continues.map(|id| id.to_string());
    line.exact = (origin == Origin::Import && !data.exact).then_some(false);
    line.tags.clone_from(&data.tags);
    line.skills.clone_from(&data.skills);
}

fn message<E, F: Fn(&Sealed) -> Result<Text, E>>(
    mut line: HistoryEvent,
    data: &MessagePosted,
    open: &Opener<F>,
) -> Result<Option<HistoryEvent>, E> {
    let Some(words) = open.text(&data.content)? else { return Ok(None) };
    line.r#type = EventType::Message;
    if (&line.by, data.author_type) == (&By::System, AuthorType::Bot) {
        line.by = By::Bot;
    }
    line.from = (line.by.author() != data.author_type).then_some(data.author_type);
    line.thread = Some(data.thread_id.to_string());
    line.text = Some(words);
    line.client_id.clone_from(&data.client_id);
    let mut about = open.object(data.metadata.as_ref())?;
    let file = match data.file_id {
        Some(id) => about.take().and_then(|about| {
            let about: FileAbout = serde_json::from_value(Value::Object(about)).ok()?;
            Some(Attachment {
                id: id.to_string(),
                name: about.name,
                content_type: about.content_type,
                size: about.size,
            })
        }),
        // One that was imported by its name.
        None => about.as_mut().and_then(|about| {
            let file: Attachment = serde_json::from_value(about.get(ATTACHMENT)?.clone()).ok()?;
            about.remove(ATTACHMENT);
            Some(file)
        }),
    };
    line.attachment = file.map(Box::new);
    line.metadata = about.filter(|about| !about.is_empty()).map(OwnFields);
    Ok(Some(line))
}

/// The metadata of a message with a file that isn't here: what it was is in the message.
pub(super) fn attachment_metadata(attachment: &Attachment, own: Option<Map<String, Value>>) -> Map<String, Value> {
    let mut about = own.unwrap_or_default();
    about.insert(ATTACHMENT.to_owned(), json!(attachment));
    about
}

fn assigned(line: &mut HistoryEvent, data: &AgentAssigned) {
    line.r#type = EventType::AgentJoined;
    line.thread = Some(data.thread_id.to_string());
    line.agent = Some(data.agent_id.to_string());
    line.previous_agent = data.previous_agent_id.map(|id| id.to_string());
    line.waited_ms = data.waited_ms;
    line.trigger = Some(data.trigger);
    line.strategy = Some(data.strategy.clone());
    line.group = data.group_id.map(|id| Some(id.to_string()));
    let candidates = data.candidates.iter().map(|candidate| CandidateLine {
        agent: candidate.agent_id.to_string(),
        load: candidate.load,
        capacity: candidate.capacity,
        eligible: candidate.eligible,
        reason: candidate.reason.clone(),
    });
    line.candidates = candidates.collect();
}

impl By {
    /// The kind of author that a message by them has.
    pub(super) fn author(&self) -> AuthorType {
        match self {
            Self::Visitor(_) => AuthorType::Visitor,
            Self::Bot => AuthorType::Bot,
            Self::Agent(_) | Self::System | Self::Operator => AuthorType::Agent,
        }
    }
}
