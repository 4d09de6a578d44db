//! Commands: what can be asked of the state, with time, ids and sealed texts in them.

use super::state::TimerKind;
use ingest::event::{Actor, Cause, RequestKey};
use ingest::id::{
    AgentId, ChallengeId, ChatbotId, ConversationId, DataSourceId, EventId, FileId, GroupId, InvitationId, MailId,
    PipeId, RoleId, SessionId, TenantId, TokenId, VisitorId,
};
use ingest::payload::{
    AgentStatus, AgentUpdated, AuthorType, CannedResponseCreated, CannedResponseUpdated, ChallengeKind, ChatbotCreated,
    ChatbotUpdated, DataSourceCreated, GroupCreated, GroupMembersChanged, GroupUpdated, InvitationCreated, Payload,
    PermissionSet, PublisherReads, Resource, Role, RoleCreated, RoleUpdated, Rows, Scope, TagCreated, TagUpdated,
    TenantUpdated, TokenLimits, Trigger,
};
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use std::collections::BTreeSet;

/// One request to the writer.
#[derive(Debug, Clone)]
pub struct Command {
    /// From the credential.
    pub tenant: TenantId,
    /// Who asks.
    pub actor: Actor,
    /// Events get this id and the ones after it.
    pub first_event: EventId,
    /// The idempotency key, if one was sent.
    pub request: Option<RequestKey>,
    /// The job row that led to it.
    pub cause: Option<Cause>,
    /// What is asked.
    pub kind: CommandKind,
}

/// An agent to be added.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields of `AgentCreated`")]
pub struct NewAgent {
    pub agent_id: AgentId,
    pub name: Sealed,
    pub email: Option<Sealed>,
    pub email_hmac: Option<String>,
    pub password_hash: Option<String>,
    pub role: Role,
    pub max_concurrent_chats: u32,
    pub external_id: Option<String>,
    pub details: AgentDetails,
}

/// What an agent may have and most start without.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields of `AgentCreated`")]
pub struct AgentDetails {
    pub custom_role: Option<RoleId>,
    pub phone: Option<Sealed>,
    pub avatar: Option<Sealed>,
    pub skills: BTreeSet<String>,
    pub allow: PermissionSet,
    pub deny: PermissionSet,
    /// Offline unless said.
    pub status: Option<AgentStatus>,
    /// Accepting unless said.
    pub accepting_chats: Option<bool>,
}

/// A session to be opened.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields of `SessionOpened`")]
pub struct NewSession {
    pub session_id: SessionId,
    pub refresh_sha256: String,
    pub expires_at: Timestamp,
    pub ip: Option<Sealed>,
}

/// What the right answer to a challenge does.
#[derive(Debug, Clone)]
pub enum ChallengeUse {
    /// Opens a session.
    SignIn(NewSession),
    /// Sets the password that has this hash.
    SetPassword(String),
    /// Nothing: the answer was wrong.
    Wrong,
}

/// By what a visitor is looked up; of what isn't said here nothing changes. It goes beside the log, not into it: erasing
/// must take it away.
#[derive(Debug, Clone, Default)]
pub struct LookUp {
    /// The HMAC of their address.
    pub email_hmac: Option<String>,
    /// HMACs of the words of their name.
    pub name_hmacs: Option<Vec<String>>,
}

/// A visitor of a session: made, or when they are known already, told what is new.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields of `VisitorCreated`")]
pub struct NewVisitor {
    pub visitor_id: VisitorId,
    pub readable_id: String,
    pub name: Option<Sealed>,
    pub email: Option<Sealed>,
    pub look_up: LookUp,
    pub phone: Option<Sealed>,
    pub metadata: Option<Sealed>,
    pub external_ref: Option<Sealed>,
    pub user_id: Option<Sealed>,
}

impl NewVisitor {
    /// Someone of whom nothing is known.
    #[must_use]
    pub fn anonymous(visitor_id: VisitorId, readable_id: String) -> Self {
        Self {
            visitor_id,
            readable_id,
            name: None,
            email: None,
            look_up: LookUp::default(),
            phone: None,
            metadata: None,
            external_ref: None,
            user_id: None,
        }
    }
}

/// A text to be posted.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields of `MessagePosted`")]
pub struct NewMessage {
    pub content: Sealed,
    pub content_chars: u32,
    pub client_id: Option<String>,
    pub metadata: Option<Sealed>,
    pub file_id: Option<FileId>,
}

/// What a visitor says with a rating.
#[derive(Debug, Clone)]
pub struct MarkedComment {
    /// The words.
    pub text: Sealed,
    /// By what the same words are known again.
    pub mark: String,
}

/// To whom a conversation is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferTo {
    /// A person; they have it at once.
    Agent(AgentId),
    /// A department; it waits there.
    Group(GroupId),
}

/// One message of an imported transcript.
#[derive(Debug, Clone)]
pub struct ImportedMessage {
    /// When it was said.
    pub at: Timestamp,
    /// Who said it.
    pub from: AuthorType,
    /// The text.
    pub content: Sealed,
    /// Its characters.
    pub content_chars: u32,
}

/// An imported transcript, checked: at least one message, times that don't go back.
#[derive(Debug, Clone)]
pub struct ImportedConversation {
    /// Derived from the tenant and the external id.
    pub conversation_id: ConversationId,
    /// Id in the other system, unique a tenant.
    pub external_id: String,
    /// Made unless it exists.
    pub visitor: NewVisitor,
    /// Made unless it exists; none for a conversation without an agent.
    pub agent: Option<NewAgent>,
    /// Tags.
    pub tags: Vec<String>,
    /// Was resolved.
    pub resolved: bool,
    /// 1 to 5.
    pub rating: Option<u8>,
    /// In order.
    pub messages: Vec<ImportedMessage>,
}

/// One event of an imported conversation, its texts sealed and its ids those of this tenant.
#[derive(Debug, Clone)]
pub struct ImportedEvent {
    /// When it happened.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// What happened.
    pub payload: Payload,
}

/// A group that an imported conversation names.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields of `GroupCreated`")]
pub struct ImportedGroup {
    pub group_id: GroupId,
    pub name: String,
}

/// An imported conversation's events, checked: all of them, the first one its beginning, or those that were added since.
#[derive(Debug, Clone)]
pub struct ImportedHistory {
    /// Derived from the tenant and the external id.
    pub conversation_id: ConversationId,
    /// Id in the other system, unique a tenant.
    pub external_id: String,
    /// The last event that the others follow on; 0 for a conversation that isn't there. Another one means that they were
    /// compared with something else.
    pub after_seq: u64,
    /// Whose conversation it is; made unless they exist.
    pub visitor: NewVisitor,
    /// Who wrote in it before they turned out to be that visitor; made unless they exist.
    pub merged: Vec<NewVisitor>,
    /// Made unless they exist.
    pub agents: Vec<NewAgent>,
    /// Made unless they exist.
    pub groups: Vec<ImportedGroup>,
    /// In order; at least one.
    pub events: Vec<ImportedEvent>,
}

/// Rows of one event, checked against their source's columns.
#[derive(Debug, Clone)]
pub struct RowChunk {
    /// Rows of the quarantine.
    pub quarantined: bool,
    /// How many.
    pub count: u32,
    /// The rows.
    pub rows: Rows,
}

/// What a delivery attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailOutcome {
    /// The server took it.
    Sent,
    /// For good, with a stable word.
    Failed(String),
}

/// What is asked.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each variant is one route or job row; fields carry the payloads' names")]
pub enum CommandKind {
    CreateTenant {
        name: String,
        slug: String,
        time_zone: String,
        owner: Option<NewAgent>,
    },
    /// With the fields that change.
    UpdateTenant(Box<TenantUpdated>),
    CreateAgent(NewAgent),
    UpdateAgent {
        change: Box<AgentUpdated>,
        status: Option<AgentStatus>,
        accepting_chats: Option<bool>,
    },
    DeleteAgent {
        agent_id: AgentId,
    },
    RestoreAgent {
        agent_id: AgentId,
    },
    /// From the actor to this agent.
    TransferOwnership {
        agent_id: AgentId,
    },
    CreateRole(RoleCreated),
    UpdateRole(RoleUpdated),
    DeleteRole {
        role_id: RoleId,
    },
    RestoreRole {
        role_id: RoleId,
    },
    SetAgentStatus {
        agent_id: AgentId,
        status: AgentStatus,
        accepting_chats: Option<bool>,
    },
    /// The credential was checked when the agent had this epoch, if it matters.
    OpenSession {
        agent_id: AgentId,
        epoch: Option<u32>,
        session: NewSession,
    },
    /// The current password was checked when the agent had this epoch.
    ChangePassword {
        agent_id: AgentId,
        epoch: u32,
        password_hash: String,
        session: NewSession,
    },
    IssueChallenge {
        challenge_id: ChallengeId,
        agent_id: AgentId,
        kind: ChallengeKind,
        /// Asked for from where the agent has signed in before.
        from_known: bool,
        expires_at: Timestamp,
    },
    TryChallenge {
        challenge_id: ChallengeId,
        agent_id: AgentId,
        kind: ChallengeKind,
        /// From where the agent has signed in before.
        from_known: bool,
        then: ChallengeUse,
    },
    Invite(InvitationCreated),
    AcceptInvitation {
        invitation_id: InvitationId,
        name: Sealed,
        password_hash: String,
        max_concurrent_chats: u32,
        session: NewSession,
    },
    RefreshSession {
        session_id: SessionId,
        /// Of a token that this session was given, now or before.
        presented_sha256: String,
        refresh_sha256: String,
    },
    CloseSession {
        session_id: SessionId,
    },
    CreateChatbot(ChatbotCreated),
    UpdateChatbot(ChatbotUpdated),
    RotateChatbot {
        chatbot_id: ChatbotId,
        /// A new public key; without one the identity secret gets its next version.
        api_key: Option<String>,
    },
    CreateGroup(GroupCreated),
    UpdateGroup(GroupUpdated),
    ChangeMembers(GroupMembersChanged),
    CreateTag(TagCreated),
    UpdateTag(TagUpdated),
    CreateCannedResponse(CannedResponseCreated),
    UpdateCannedResponse(CannedResponseUpdated),
    Delete(Resource),
    Restore(Resource),
    CreateToken {
        token_id: TokenId,
        name: String,
        sha256: String,
        scopes: Vec<Scope>,
        expires_at: Option<Timestamp>,
        limits: Option<TokenLimits>,
    },
    RevokeToken {
        token_id: TokenId,
    },
    StartSession {
        visitor: NewVisitor,
        conversation_id: ConversationId,
        chatbot_id: ChatbotId,
        group_id: Option<GroupId>,
        /// What the agent should know.
        skills: Vec<String>,
        message: Option<NewMessage>,
    },
    /// The tenant vouches that an anonymous visitor is this one.
    IdentifyVisitor {
        source: VisitorId,
        target: NewVisitor,
    },
    UpdateVisitor {
        visitor_id: VisitorId,
        name: Option<Sealed>,
        email: Option<Sealed>,
        look_up: LookUp,
        phone: Option<Sealed>,
        metadata: Option<Sealed>,
    },
    TrackVisitor {
        visitor_id: VisitorId,
        name: Sealed,
        page: Option<Sealed>,
        properties: Option<Sealed>,
    },
    BlockVisitor {
        visitor_id: VisitorId,
    },
    UnblockVisitor {
        visitor_id: VisitorId,
    },
    EraseVisitor {
        visitor_id: VisitorId,
    },
    /// The visitor didn't come back in time.
    ExpireStandby {
        conversation_id: ConversationId,
        /// Nothing may have happened since it was looked at.
        last_seq: u64,
    },
    PostMessage {
        conversation_id: ConversationId,
        message: NewMessage,
    },
    PostNote {
        conversation_id: ConversationId,
        content: Sealed,
        client_id: Option<String>,
    },
    Assign {
        conversation_id: ConversationId,
        agent_id: AgentId,
        /// Why, in the words of who decides.
        reason: Option<Sealed>,
    },
    Take {
        conversation_id: ConversationId,
    },
    Unassign {
        conversation_id: ConversationId,
    },
    Resolve {
        conversation_id: ConversationId,
    },
    Reopen {
        conversation_id: ConversationId,
    },
    Close {
        conversation_id: ConversationId,
    },
    Transfer {
        conversation_id: ConversationId,
        to: TransferTo,
        note: Option<Sealed>,
    },
    /// Absent fields stay, `Some(None)` clears.
    UpdateConversation {
        conversation_id: ConversationId,
        notes: Option<Option<Sealed>>,
        group_id: Option<Option<GroupId>>,
    },
    MarkStale {
        conversation_id: ConversationId,
    },
    Snooze {
        conversation_id: ConversationId,
        until: Option<Timestamp>,
    },
    Read {
        conversation_id: ConversationId,
        seq: u64,
    },
    /// A row of `timers`; one that was set anew since is ignored.
    TimerDue {
        conversation_id: ConversationId,
        kind: TimerKind,
        due_at: Timestamp,
    },
    Rate {
        conversation_id: ConversationId,
        score: u8,
        comment: Option<MarkedComment>,
    },
    Tag {
        conversation_id: ConversationId,
        add: Vec<String>,
        remove: Vec<String>,
    },
    /// A row of `assignment_triggers`: give waiting conversations to whoever is free.
    AssignQueue {
        trigger: Trigger,
    },
    /// A row of `email_notifications`.
    RequestWelcome {
        conversation_id: ConversationId,
        readable_id: String,
    },
    /// A row of `email_notifications`.
    RequestAgentMails {
        conversation_id: ConversationId,
        readable_id: String,
    },
    RecordMail {
        mail_id: MailId,
        attempts: u32,
        outcome: MailOutcome,
    },
    Import(Box<ImportedConversation>),
    ImportHistory(Box<ImportedHistory>),
    CreateDataSource(Box<DataSourceCreated>),
    /// Checked against the columns of this source, or of the one that is to be made.
    AppendRows {
        name: String,
        source_id: DataSourceId,
        create: Option<Box<DataSourceCreated>>,
        /// In the place of all rows there are.
        replace: bool,
        chunks: Vec<RowChunk>,
    },
    DeleteDataSource {
        name: String,
    },
    PublishPipe {
        /// If there is none of this name.
        pipe_id: PipeId,
        name: String,
        text: String,
        /// What its publisher can read.
        reads: PublisherReads,
    },
    DeletePipe {
        name: String,
    },
}

impl Command {
    /// The conversation that the command is about, for the answer.
    #[must_use]
    pub fn conversation(&self) -> Option<ConversationId> {
        use CommandKind as K;
        match &self.kind {
            K::StartSession { conversation_id, .. }
            | K::ExpireStandby { conversation_id, .. }
            | K::PostMessage { conversation_id, .. }
            | K::PostNote { conversation_id, .. }
            | K::Assign { conversation_id, .. }
            | K::Take { conversation_id }
            | K::Unassign { conversation_id }
            | K::Resolve { conversation_id }
            | K::Reopen { conversation_id }
            | K::Close { conversation_id }
            | K::Transfer { conversation_id, .. }
            | K::UpdateConversation { conversation_id, .. }
            | K::MarkStale { conversation_id }
            | K::Snooze { conversation_id, .. }
            | K::Read { conversation_id, .. }
            | K::TimerDue { conversation_id, .. }
            | K::Rate { conversation_id, .. }
            | K::Tag { conversation_id, .. } => Some(*conversation_id),
            _ => None,
        }
    }
}
