//! State as plain structs: what `decide` looks at and only `apply` changes.
//!
//! In production a [`State`] holds just what recent commands named, loaded from SQLite; in tests it holds everything.
//! [`State::dirty`] lists what has changed since it was last taken.

use ingest::id::{
    AgentId, ChatbotId, ConversationId, EventId, GroupId, MailId, PersonId, SessionId, TenantId, ThreadId, TokenId,
    VisitorId,
};
use ingest::payload::{AgentStatus, MailKind, Role, Scope};
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// A customer of the installation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Display name.
    pub name: String,
    /// Unique, for URLs and the command line.
    pub slug: String,
    /// IANA name.
    pub time_zone: String,
    /// Sign-up.
    pub created_at: Timestamp,
}

/// A tenant's user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Where they work.
    pub tenant: TenantId,
    /// Display name.
    pub name: Sealed,
    /// Address; none when imported.
    pub email: Option<Sealed>,
    /// For look-ups.
    pub email_hmac: Option<String>,
    /// argon2id in PHC form.
    pub password_hash: Option<String>,
    /// Built-in role.
    pub role: Role,
    /// Own word.
    pub status: AgentStatus,
    /// Takes new chats.
    pub accepting_chats: bool,
    /// Limit for automatic assignment.
    pub max_concurrent_chats: u32,
    /// Active conversations now.
    pub active_chats: u32,
    /// Last time a chat was given or taken away; ties go to the longest idle.
    pub idle_since: Timestamp,
    /// Id in the system it was imported from.
    pub external_id: Option<String>,
    /// When it was added.
    pub created_at: Timestamp,
}

impl Agent {
    /// May get a chat automatically: online, accepting, allowed to reply. Capacity is looked at apart.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.status == AgentStatus::Online && self.accepting_chats && self.role.may_reply()
    }
}

/// A signed-in session: a family of refresh tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The tenant.
    pub tenant: TenantId,
    /// Whose.
    pub agent: AgentId,
    /// Hex SHA-256 of the only refresh token that is good.
    pub refresh_sha256: String,
    /// End of the family.
    pub expires_at: Timestamp,
    /// Ended before.
    pub closed: bool,
}

/// An embeddable widget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chatbot {
    /// Its id.
    pub id: ChatbotId,
    /// The tenant.
    pub tenant: TenantId,
    /// Display name.
    pub name: String,
    /// Public key.
    pub api_key: String,
    /// Origins a browser may come from.
    pub allowed_origins: Vec<String>,
    /// First words.
    pub greeting: String,
    /// Said while waiting.
    pub waiting_text: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// A `/v0` token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// The tenant.
    pub tenant: TenantId,
    /// Display name.
    pub name: String,
    /// Hex SHA-256.
    pub sha256: String,
    /// What it may read.
    pub scopes: Vec<Scope>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A person who writes through a widget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Visitor {
    /// Its id.
    pub id: VisitorId,
    /// The tenant.
    pub tenant: TenantId,
    /// Two words and a number.
    pub readable_id: String,
    /// Name as typed.
    pub name: Option<Sealed>,
    /// Address as typed.
    pub email: Option<Sealed>,
    /// Phone as typed.
    pub phone: Option<Sealed>,
    /// JSON about browser and page.
    pub metadata: Option<Sealed>,
    /// Id in the system it was imported from.
    pub external_id: Option<String>,
    /// The welcome mail was requested.
    pub welcomed: bool,
    /// First seen.
    pub created_at: Timestamp,
}

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

/// What became of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailStatus {
    /// To be sent.
    Pending,
    /// Taken by the server, or in the spool.
    Sent,
    /// Given up.
    Failed,
}

/// A requested mail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mail {
    /// Its id.
    pub id: MailId,
    /// The tenant.
    pub tenant: TenantId,
    /// What it says.
    pub kind: MailKind,
    /// The recipient.
    pub person: PersonId,
    /// What it is about.
    pub about: ConversationId,
    /// The visitor's readable id.
    pub readable_id: String,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// What became of it.
    pub status: MailStatus,
}

/// What the command under an idempotency key led to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Keyed hash of the request's body.
    pub body: String,
    /// The first event it caused.
    pub event: EventId,
    /// The conversation it was about.
    pub conversation: Option<ConversationId>,
    /// That event's place in it.
    pub seq: u64,
    /// What it made, if it made something.
    pub resource: Option<Uuid>,
    /// When; forgotten after a day.
    pub at: Timestamp,
}

/// A tenant's agents and queue; loaded whole or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Roster {
    /// All agents of the tenant.
    pub agents: BTreeSet<AgentId>,
    /// Waiting conversations by rank.
    pub queue: BTreeMap<i64, ConversationId>,
}

/// Names one entity that has changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is the entity of that name")]
pub enum Key {
    Tenant(TenantId),
    Agent(AgentId),
    Session(SessionId),
    Chatbot(ChatbotId),
    Token(TokenId),
    Visitor(VisitorId),
    Conversation(ConversationId),
    Mail(MailId),
    /// Sender and key.
    Request(String, String),
}

/// All that `decide` may look at.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "each field holds the entities of that name")]
pub struct State {
    pub tenants: HashMap<TenantId, Tenant>,
    pub agents: HashMap<AgentId, Agent>,
    pub sessions: HashMap<SessionId, Session>,
    pub chatbots: HashMap<ChatbotId, Chatbot>,
    pub tokens: HashMap<TokenId, Token>,
    pub visitors: HashMap<VisitorId, Visitor>,
    pub conversations: HashMap<ConversationId, Conversation>,
    pub mails: HashMap<MailId, Mail>,
    pub requests: HashMap<(String, String), RequestRecord>,
    pub rosters: HashMap<TenantId, Roster>,
    /// Ids by unique words that were looked up: `slug:…`, `email:…` to the owner.
    pub taken: BTreeSet<String>,
    /// Changed since it was last taken.
    pub dirty: BTreeSet<Key>,
}

impl State {
    /// The tenant's conversation; another tenant's is as unknown as one that never was.
    #[must_use]
    pub fn conversation(&self, tenant: TenantId, id: ConversationId) -> Option<&Conversation> {
        self.conversations.get(&id).filter(|found| found.tenant == tenant)
    }

    /// The tenant's agent.
    #[must_use]
    pub fn agent(&self, tenant: TenantId, id: AgentId) -> Option<&Agent> {
        self.agents.get(&id).filter(|found| found.tenant == tenant)
    }
}
