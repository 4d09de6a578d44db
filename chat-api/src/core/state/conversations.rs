//! Conversations, their threads and their place in the queue.

use ingest::id::{AgentId, ChatbotId, ConversationId, GroupId, TenantId, ThreadId, VisitorId};
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where a conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No agent yet.
    Pending,
    /// An agent has it.
    Active,
    /// Done; goes on when the visitor writes.
    Resolved,
    /// Read-only.
    Closed,
}

impl Status {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Resolved => "resolved",
            Self::Closed => "closed",
        }
    }
}

/// A phase of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Its id.
    pub id: ThreadId,
    /// When it began.
    pub created_at: Timestamp,
    /// How it ended; `None` while it's active.
    pub closed: Option<ThreadClosed>,
}

/// How a thread ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadClosed {
    /// When.
    pub at: Timestamp,
    /// `agent`, `visitor`, `system` or `operator`.
    pub by: String,
    /// `agent_assigned`, `resolved`, `closed`.
    pub reason: String,
}

/// Place in the tenant's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Smaller is served first.
    pub rank: i64,
    /// When it was put there.
    pub since: Timestamp,
}

/// The newest message, for lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastMessage {
    /// Its text.
    pub content: Sealed,
    /// `visitor`, `agent` or `bot`.
    pub author_type: String,
    /// When.
    pub at: Timestamp,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// The tenant.
    pub tenant: TenantId,
    /// Whose.
    pub visitor: VisitorId,
    /// The widget; none when imported.
    pub chatbot: Option<ChatbotId>,
    /// The department.
    pub group: Option<GroupId>,
    /// Where it stands.
    pub status: Status,
    /// The agent who has it, or had it when it was resolved.
    pub agent: Option<AgentId>,
    /// In the queue; only while pending.
    pub queued: Option<Queued>,
    /// All phases; the last one is active unless it's closed.
    pub threads: Vec<Thread>,
    /// Tags, sorted.
    pub tags: BTreeSet<String>,
    /// Events so far.
    pub last_seq: u64,
    /// Public messages of visitors so far.
    pub visitor_messages: u64,
    /// The newest public message.
    pub last_message: Option<LastMessage>,
    /// 1 to 5.
    pub rating: Option<u8>,
    /// Id in the system it was imported from.
    pub external_id: Option<String>,
    /// First event.
    pub created_at: Timestamp,
    /// Newest event.
    pub updated_at: Timestamp,
}

impl Conversation {
    /// The thread that new events join: the last one, also when it's closed.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.threads.last().expect("a conversation starts with a thread")
    }
}
