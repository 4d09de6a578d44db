//! What happens in a conversation: messages, the queue, assignment, its end, its rating.

use crate::id::{AgentId, ChatbotId, GroupId, ThreadId, VisitorId};
use crate::seal::Sealed;
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
}

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The sender's JSON object, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Sealed>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A person decided.
    Manual,
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
}

/// One agent that was looked at for an assignment, as recorded facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// `least_loaded` or `manual`.
    pub strategy: String,
    /// At most 20 of the agents that were looked at, the chosen one among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
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
    /// `agent`, `visitor` or `imported_unresolved`.
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
