//! State as plain structs: what `decide` looks at and only `apply` changes.
//!
//! In production a [`State`] holds just what recent commands named, loaded from SQLite; in tests it holds everything.
//! [`State::dirty`] lists what has changed since it was last taken.

mod accounts;
mod audit;
mod configuration;
mod conversations;
mod credentials;
mod mail;
mod queue;
mod sources;
mod visitors;

pub use accounts::*;
pub use audit::*;
pub use configuration::*;
pub use conversations::*;
pub use credentials::*;
pub use mail::*;
pub use queue::*;
pub use sources::*;
pub use visitors::*;

use ingest::id::{
    AgentId, CannedResponseId, ChallengeId, ChatbotId, ConversationId, DataSourceId, EventId, FileId, GroupId,
    InvitationId, MailId, PipeId, RoleId, SessionId, TagId, TenantId, TokenId, VisitorId,
};
use ingest::payload::{AgentStatus, Permission, PermissionSet};
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

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
    /// All agents of the tenant; their custom roles are loaded with them.
    pub agents: BTreeSet<AgentId>,
    /// All groups of the tenant.
    pub groups: BTreeSet<GroupId>,
    /// Who waits.
    pub queue: Queue,
}

/// Names one entity that has changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is the entity of that name")]
pub enum Key {
    Tenant(TenantId),
    Agent(AgentId),
    Role(RoleId),
    Group(GroupId),
    Tag(TagId),
    CannedResponse(CannedResponseId),
    Session(SessionId),
    Challenge(ChallengeId),
    Invitation(InvitationId),
    Chatbot(ChatbotId),
    Token(TokenId),
    DataSource(DataSourceId),
    Pipe(PipeId),
    Visitor(VisitorId),
    Conversation(ConversationId),
    File(FileId),
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
    pub roles: HashMap<RoleId, CustomRole>,
    pub groups: HashMap<GroupId, Group>,
    pub tags: HashMap<TagId, Tag>,
    pub canned_responses: HashMap<CannedResponseId, CannedResponse>,
    pub sessions: HashMap<SessionId, Session>,
    pub challenges: HashMap<ChallengeId, Challenge>,
    pub invitations: HashMap<InvitationId, Invitation>,
    pub chatbots: HashMap<ChatbotId, Chatbot>,
    pub tokens: HashMap<TokenId, Token>,
    pub data_sources: HashMap<DataSourceId, DataSource>,
    pub pipes: HashMap<PipeId, Pipe>,
    pub visitors: HashMap<VisitorId, Visitor>,
    pub conversations: HashMap<ConversationId, Conversation>,
    pub files: HashMap<FileId, StoredFile>,
    pub mails: HashMap<MailId, Mail>,
    pub requests: HashMap<(String, String), RequestRecord>,
    pub rosters: HashMap<TenantId, Roster>,
    /// How many data sources and endpoints a tenant has, if that was looked up.
    pub owned: HashMap<TenantId, Owned>,
    /// Ids by unique words that were looked up: `slug:…`, `email:…` to the owner.
    pub taken: BTreeSet<String>,
    /// Lines of the audit log since it was last taken.
    pub audit: Vec<AuditEntry>,
    /// Changed since it was last taken.
    pub dirty: BTreeSet<Key>,
    /// Of the entities that were loaded or saved since nothing was here, as JSON: no less than those that are here.
    pub bytes: usize,
}

impl State {
    /// The tenant's conversation; another tenant's is as unknown as one that never was.
    #[must_use]
    pub fn conversation(&self, tenant: TenantId, id: ConversationId) -> Option<&Conversation> {
        self.conversations.get(&id).filter(|found| found.tenant == tenant)
    }

    /// The tenant's visitor, merged, blocked, erased or none of it.
    #[must_use]
    pub fn visitor(&self, tenant: TenantId, id: VisitorId) -> Option<&Visitor> {
        self.visitors.get(&id).filter(|found| found.tenant == tenant)
    }

    /// A visitor's conversations, of those that were loaded, by id.
    #[must_use]
    pub fn conversations_of(&self, tenant: TenantId, visitor: VisitorId) -> Vec<&Conversation> {
        let mut own: Vec<&Conversation> =
            self.conversations.values().filter(|chat| chat.tenant == tenant && chat.visitor == visitor).collect();
        own.sort_by_key(|chat| chat.id);
        own
    }

    /// Who was merged into a visitor, of those that were loaded, by id.
    #[must_use]
    pub fn merged_into(&self, tenant: TenantId, visitor: VisitorId) -> Vec<VisitorId> {
        let of_them = |other: &&Visitor| other.tenant == tenant && other.merged_into == Some(visitor);
        let mut merged: Vec<VisitorId> = self.visitors.values().filter(of_them).map(|other| other.id).collect();
        merged.sort();
        merged
    }

    /// The tenant's agent, removed or not.
    #[must_use]
    pub fn agent(&self, tenant: TenantId, id: AgentId) -> Option<&Agent> {
        self.agents.get(&id).filter(|found| found.tenant == tenant)
    }

    /// The tenant's custom role, deleted or not.
    #[must_use]
    pub fn role(&self, tenant: TenantId, id: RoleId) -> Option<&CustomRole> {
        self.roles.get(&id).filter(|found| found.tenant == tenant)
    }

    /// The custom role that an agent has, deleted or not.
    #[must_use]
    pub fn role_of(&self, agent: &Agent) -> Option<&CustomRole> {
        agent.custom_role.and_then(|id| self.role(agent.tenant, id))
    }

    /// The tenant's group, deleted or not.
    #[must_use]
    pub fn group(&self, tenant: TenantId, id: GroupId) -> Option<&Group> {
        self.groups.get(&id).filter(|found| found.tenant == tenant)
    }

    /// What an agent may do now; a removed one nothing.
    #[must_use]
    pub fn permissions(&self, agent: &Agent) -> PermissionSet {
        if agent.deleted_at.is_some() {
            return PermissionSet::NONE;
        }
        agent.permissions(agent.custom_role.and_then(|id| self.roles.get(&id)))
    }

    /// Whether conversations can be given to an agent at all.
    #[must_use]
    pub fn may_reply(&self, agent: &Agent) -> bool {
        self.permissions(agent).has(Permission::ConversationsReply)
    }

    /// May get a chat automatically: online, accepting, allowed to reply. Capacity and group are looked at apart.
    #[must_use]
    pub fn is_available(&self, agent: &Agent) -> bool {
        agent.status == AgentStatus::Online && agent.accepting_chats && self.may_reply(agent)
    }
}
