//! Format 2: a conversation a line, by its events. `docs/contracts/transcripts.md` is the format.
//!
//! A line has who took part and what happened, in order: [`History`] and its [`HistoryEvent`]s. Events name people, groups and
//! threads by the names that the line gives them, so nothing in a line is an id of this installation unless it's the same
//! tenant's.
//!
//! - `check.rs`: a line's bytes to a [`History`], or what is wrong with it.
//! - `describe.rs`: an event of the log as an event of a line, or why it's left out.
//! - `resolve.rs`: the names of a line to this tenant's ids.
//! - `payload.rs`: an event of a line, its names resolved, to what the log holds.
//! - `prepare.rs`: a line to a command: a new conversation, or what was added to one that is there. Start there.
//! - `stored.rs`: a conversation's events as they are stored, read in order to be compared.

pub(super) mod check;
pub(super) mod describe;
mod own_fields;
mod payload;
mod prepare;
mod resolve;
mod stored;

use super::parse::id_text;
use super::transcript::Party;
use ingest::payload::{AuthorType, Trigger, present};
pub(in crate::import) use own_fields::OwnFields;
use serde::{Deserialize, Serialize};

/// The number of this format, in `format` of a line.
pub const FORMAT: u8 = 2;

/// A conversation as it is exported, and imported again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct History {
    /// Which format the line has.
    pub format: u8,
    /// The conversation's id in its system.
    #[serde(deserialize_with = "id_text")]
    pub id: String,
    /// The tenant's slug, where a file has lines of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Events of the conversation that stand in lines before this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: u64,
    /// Whose conversation it is.
    pub visitor: VisitorParty,
    /// Who wrote in it before they turned out to be that visitor.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "check::visitors")]
    pub merged_visitors: Vec<VisitorParty>,
    /// Agents whom events name.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "check::parties")]
    pub agents: Vec<Party>,
    /// Groups that events name.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "check::parties")]
    pub groups: Vec<Named>,
    /// The chatbot that the first event names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chatbot: Option<Named>,
    /// What happened, in order.
    #[serde(deserialize_with = "check::events")]
    pub events: Vec<HistoryEvent>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A visitor of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VisitorParty {
    #[serde(deserialize_with = "id_text")]
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// What the page said of them: the tenant's own fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<OwnFields>,
}

/// A group or a chatbot of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Named {
    #[serde(deserialize_with = "id_text")]
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Who did something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A visitor, by their id in the line.
    Visitor(String),
    /// An agent, by their id in the line.
    Agent(String),
    /// An automation of the tenant.
    Bot,
    /// The system: a timer, the assignment.
    #[default]
    System,
    /// Whoever runs the installation.
    Operator,
}

/// What happened; the names that the API has for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    #[default]
    Message,
    Note,
    ConversationStarted,
    Queued,
    AgentJoined,
    AgentLeft,
    Resolved,
    Reopened,
    Closed,
    Rated,
    Tagged,
    Changed,
    Transferred,
    Stale,
    Snoozed,
}

/// A file that a message brought, by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachment {
    pub id: String,
    pub name: String,
    pub content_type: String,
    pub size: u64,
}

/// An agent who was looked at for an assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CandidateLine {
    pub agent: String,
    pub load: u32,
    pub capacity: u32,
    pub eligible: bool,
    pub reason: String,
}

macro_rules! history_event {
    ($($(#[$doc:meta])* $field:ident / $name:literal: $type:ty, $missing:expr $(, $with:literal)?;)*) => {
        /// An event of a line. Which fields a type has is a table: [`check::fields_of`].
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct HistoryEvent {
            /// When: RFC 3339, milliseconds are kept.
            pub at: String,
            /// What.
            pub r#type: EventType,
            /// Who.
            pub by: By,
            $($(#[$doc])* #[serde(rename = $name, default, skip_serializing_if = $missing $(, deserialize_with = $with)?)]
            pub $field: $type,)*
        }

        impl HistoryEvent {
            /// The names of the fields that it has beside those that all have.
            pub(super) fn present(&self) -> Vec<&'static str> {
                let nothing = Self::default();
                let mut names = Vec::new();
                $(if self.$field != nothing.$field {
                    names.push($name);
                })*
                names
            }
        }
    };
}

history_event! {
    /// The thread that it belongs to, or begins.
    thread / "thread": Option<String>, "Option::is_none";
    /// The kind of author of a message, where `by` doesn't say it.
    from / "from": Option<AuthorType>, "Option::is_none";
    /// What was said.
    text / "text": Option<String>, "Option::is_none";
    /// The sender's own id for it.
    client_id / "clientId": Option<String>, "Option::is_none";
    /// The file that it brought.
    attachment / "attachment": Option<Box<Attachment>>, "Option::is_none";
    /// The sender's own fields.
    metadata / "metadata": Option<OwnFields>, "Option::is_none";
    /// The agent whom it's about.
    agent / "agent": Option<String>, "Option::is_none";
    /// Who had it, when it was taken over.
    previous_agent / "previousAgent": Option<String>, "Option::is_none";
    /// Who passed it on had it.
    from_agent / "fromAgent": Option<String>, "Option::is_none";
    /// The group; `null` takes it out of all.
    group / "group": Option<Option<String>>, "Option::is_none", "present";
    /// The chatbot that it came through.
    chatbot / "chatbot": Option<String>, "Option::is_none";
    /// The closed conversation that it goes on from.
    continues / "continues": Option<String>, "Option::is_none";
    /// `false`: beginning, end and rating are dated by the messages.
    exact / "exact": Option<bool>, "Option::is_none";
    /// Tags it began with.
    tags / "tags": Vec<String>, "Vec::is_empty", "check::tags";
    /// What the agent should know.
    skills / "skills": Vec<String>, "Vec::is_empty", "check::tags";
    /// What put it into the queue, or led to the assignment.
    trigger / "trigger": Option<Trigger>, "Option::is_none";
    /// How the agent was chosen.
    strategy / "strategy": Option<String>, "Option::is_none";
    /// How long it had waited.
    waited_ms / "waitedMs": Option<i64>, "Option::is_none";
    /// Who was looked at for it.
    candidates / "candidates": Vec<CandidateLine>, "Vec::is_empty", "check::candidates";
    /// Why.
    reason / "reason": Option<String>, "Option::is_none";
    /// 1 to 5.
    score / "score": Option<u8>, "Option::is_none";
    /// The visitor's words about it.
    comment / "comment": Option<String>, "Option::is_none";
    /// Tags that were put on.
    add / "add": Vec<String>, "Vec::is_empty", "check::tags";
    /// Tags that were taken off.
    remove / "remove": Vec<String>, "Vec::is_empty", "check::tags";
    /// The agents' own words about the conversation; `null` takes them away.
    notes / "notes": Option<Option<String>>, "Option::is_none", "present";
    /// Out of the way until then; without it it's back.
    until / "until": Option<String>, "Option::is_none";
}

/// What a name of an event is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Visitor,
    Agent,
    Group,
    Chatbot,
    Thread,
    Conversation,
}

impl Name {
    /// What it is, in words.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Visitor => "visitor",
            Self::Agent => "agent",
            Self::Group => "group",
            Self::Chatbot => "chatbot",
            Self::Thread => "thread",
            Self::Conversation => "conversation",
        }
    }
}

impl HistoryEvent {
    /// Every name that it uses.
    pub(super) fn each_name<E>(&mut self, mut take: impl FnMut(Name, &mut String) -> Result<(), E>) -> Result<(), E> {
        match &mut self.by {
            By::Visitor(id) => take(Name::Visitor, id)?,
            By::Agent(id) => take(Name::Agent, id)?,
            By::Bot | By::System | By::Operator => {}
        }
        let agents = self.agent.iter_mut().chain(&mut self.previous_agent).chain(&mut self.from_agent);
        let looked_at = self.candidates.iter_mut().map(|candidate| &mut candidate.agent);
        agents.chain(looked_at).try_for_each(|id| take(Name::Agent, id))?;
        self.group.iter_mut().flatten().try_for_each(|id| take(Name::Group, id))?;
        self.chatbot.iter_mut().try_for_each(|id| take(Name::Chatbot, id))?;
        self.thread.iter_mut().try_for_each(|id| take(Name::Thread, id))?;
        self.continues.iter_mut().try_for_each(|id| take(Name::Conversation, id))
    }
}
