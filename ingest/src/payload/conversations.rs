//! What happens in a conversation: messages, the queue, assignment, its end, its rating.

use super::present;
use crate::id::{AgentId, ChatbotId, ConversationId, FileId, GroupId, ThreadId, VisitorId};
use crate::seal::Sealed;
use crate::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Fields of `conversation_started`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationStarted {
    /// Whose conversation.
    pub visitor_id: VisitorId,
    /// The visitor has an address: a welcome mail can be sent.
    pub visitor_has_email: bool,
    /// The widget it came through; none when imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chatbot_id: Option<ChatbotId>,
    /// The department asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<GroupId>,
    /// The first thread.
    pub thread_id: ThreadId,
    /// Tags of an imported transcript.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The transcript's id in the system it was imported from, unique a tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Since v2: what the agent should know, for the strategy of that name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<String>,
    /// The visitor's closed conversation that it goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<ConversationId>,
    /// Since v3: an import's events are all that happened, each at its own time. Without it the beginning, the end and the
    /// rating of an imported conversation are dated by its messages.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
}

/// Why an imported conversation ends here that hadn't where it comes from.
pub const IMPORTED_UNRESOLVED: &str = "imported_unresolved";

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthorType {
    /// The visitor of the conversation.
    Visitor,
    /// A person of the tenant.
    Agent,
    /// An automation.
    Bot,
}

impl AuthorType {
    /// The word in the API, the log and the reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Visitor => "visitor",
            Self::Agent => "agent",
            Self::Bot => "bot",
        }
    }
}

/// Fields of `message_posted`. The author is the envelope's actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessagePosted {
    /// The active thread.
    pub thread_id: ThreadId,
    /// The kind of author, for jobs.
    pub author_type: AuthorType,
    /// The text, sealed under the visitor's key whoever wrote it: erasing the visitor erases the conversation's words.
    pub content: Sealed,
    /// Characters of the text.
    pub content_chars: u32,
    /// The sender's own id for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The sender's JSON object, sealed; for a file, what it is called and holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Sealed>,
    /// The file that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_id: Option<FileId>,
}

/// Fields of `note_posted`. The author is the envelope's actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotePosted {
    /// The active thread.
    pub thread_id: ThreadId,
    /// The text, sealed under the visitor's key.
    pub content: Sealed,
    /// The sender's own id for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
}

/// Why a conversation waits or was given to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The first message of a conversation.
    FirstMessage,
    /// A resolved conversation went on.
    Reopened,
    /// The agent gave it back.
    Unassigned,
    /// The agent went offline.
    AgentOffline,
    /// An agent came online or started accepting.
    AgentAvailable,
    /// A chat ended.
    SlotFreed,
    /// A person passed it on, to an agent or to a group.
    Transferred,
    /// A person decided.
    Manual,
}

impl Trigger {
    /// The word in the API, the log and the reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstMessage => "first_message",
            Self::Reopened => "reopened",
            Self::Unassigned => "unassigned",
            Self::AgentOffline => "agent_offline",
            Self::AgentAvailable => "agent_available",
            Self::SlotFreed => "slot_freed",
            Self::Transferred => "transferred",
            Self::Manual => "manual",
        }
    }
}

/// Fields of `conversation_queued`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationQueued {
    /// The active thread.
    pub thread_id: ThreadId,
    /// What put it there.
    pub trigger: Trigger,
    /// Place in the tenant's queue: smaller is served first. Conversations that come back get one below the first.
    pub rank: i64,
    /// The department it waits in from here on; absent when that stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<GroupId>,
}

/// One agent that was looked at for an assignment, as recorded facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Candidate {
    /// The agent.
    pub agent_id: AgentId,
    /// Chats at the time.
    pub load: u32,
    /// Chats at most.
    pub capacity: u32,
    /// Could have been chosen.
    pub eligible: bool,
    /// Why not, or why chosen.
    pub reason: String,
}

/// Fields of `agent_assigned`. The previous thread closed with reason `agent_assigned`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentAssigned {
    /// The agent who has it now.
    pub agent_id: AgentId,
    /// The agent who had it, when it was taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_agent_id: Option<AgentId>,
    /// The thread that begins.
    pub thread_id: ThreadId,
    /// Milliseconds since it was queued; absent when it didn't wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<i64>,
    /// What led to it.
    pub trigger: Trigger,
    /// The group's routing strategy, `least_loaded` without one, or `manual`.
    pub strategy: String,
    /// At most 20 of the agents that were looked at, the chosen one among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// The department that it waited in; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<GroupId>,
    /// Why, in the words of the person who decided; for agents only, under the visitor's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Sealed>,
}

/// Fields of `agent_unassigned`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentUnassigned {
    /// The agent who had it.
    pub agent_id: AgentId,
    /// Why.
    pub trigger: Trigger,
}

/// Fields of `conversation_resolved`. The resolver is the envelope's actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationResolved {
    /// The thread that closed.
    pub thread_id: ThreadId,
    /// Who had it, and gets the credit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Since v2: why its thread closed, unless by `resolved`: `standby_expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Fields of `conversation_reopened`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationReopened {
    /// The thread that begins.
    pub thread_id: ThreadId,
}

/// Fields of `conversation_closed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationClosed {
    /// `agent`, `visitor`, `auto_close`, or [`IMPORTED_UNRESOLVED`].
    pub reason: String,
    /// Who had it, if it was still active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
}

/// Fields of `conversation_rated`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationRated {
    /// The thread the rating closes.
    pub thread_id: ThreadId,
    /// 1 to 5.
    pub score: u8,
    /// The agent at resolve, or now; gets the credit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The visitor's words, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Sealed>,
    /// Since v2, with `comment`: by what the same words are known again (`PersonKey::mark`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment_mark: Option<String>,
}

/// Fields of `conversation_tagged`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationTagged {
    /// Put on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Taken off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// Fields of `conversation_updated`; absent ones stay, `null` clears.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationUpdated {
    /// The agents' own words about it, sealed under the visitor's key.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub notes: Option<Option<Sealed>>,
    /// The department.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub group_id: Option<Option<GroupId>>,
}

/// Fields of `conversation_transferred`. The thread closed with reason `transferred`; who passed it on is the actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationTransferred {
    /// The thread that begins.
    pub thread_id: ThreadId,
    /// Who had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_agent_id: Option<AgentId>,
    /// To whom; `agent_assigned` follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// To which department; `conversation_queued` follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<GroupId>,
}

/// Why nobody waits for an answer in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StaleReason {
    /// A person said so.
    Manual,
    /// Nobody wrote for the tenant's `idleMinutes`; the thread closed with it.
    Idle,
}

/// Fields of `conversation_stale`. The agent keeps the conversation without its slot until the visitor writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationStale {
    /// The active thread; closed when it went idle.
    pub thread_id: ThreadId,
    /// Why.
    pub reason: StaleReason,
    /// Whose slot is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
}

/// Fields of `conversation_snoozed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationSnoozed {
    /// Out of the way until then; none when it's back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Fields of `conversation_read`: outside of the conversation's `seq`. Who read is the envelope's actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConversationRead {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The visitor, or the agents together.
    pub reader: AuthorType,
    /// Up to and with this event; it only rises.
    pub seq: u64,
}
