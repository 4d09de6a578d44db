//! The vocabulary: what can happen, each payload with its version.
//!
//! A payload never changes in place. A new field with a default is a new version of the same struct; `decode` reads
//! every version up to the newest and names what is newer. `tests/golden/` holds the bytes of every version.

use crate::event::DecodeError;
use crate::id::{
    AgentId, ChatbotId, ConversationId, GroupId, MailId, PersonId, SessionId, ThreadId, TokenId, VisitorId,
};
use crate::seal::Sealed;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

macro_rules! payloads {
    ($($(#[$doc:meta])* $variant:ident = $kind:literal v $version:literal;)*) => {
        /// What happened. One variant an event type; the struct of the same name holds its fields.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Payload {
            $($(#[$doc])* $variant($variant),)*
        }

        impl Payload {
            /// Every type with its newest version.
            pub const KINDS: &'static [(&'static str, u32)] = &[$(($kind, $version)),*];

            /// The type's name in the log, for example `message_posted`.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind,)* }
            }

            /// The version written today.
            #[must_use]
            pub fn version(&self) -> u32 {
                match self { $(Self::$variant(_) => $version,)* }
            }

            pub(crate) fn serialize_data<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(data) => data.serialize(serializer),)* }
            }

            pub(crate) fn decode(kind: &str, version: u32, data: &str) -> Result<Self, DecodeError> {
                match kind {
                    $($kind if version <= $version => Ok(Self::$variant(serde_json::from_str(data)?)),
                    $kind => Err(DecodeError::UnknownVersion { kind: kind.to_owned(), version, newest: $version }),)*
                    _ => Err(DecodeError::UnknownType { kind: kind.to_owned(), version }),
                }
            }
        }

        $(impl From<$variant> for Payload {
            fn from(data: $variant) -> Self {
                Self::$variant(data)
            }
        })*
    };
}

payloads! {
    /// A tenant signed up.
    TenantCreated = "tenant_created" v 1;
    /// A tenant's name or settings changed.
    TenantUpdated = "tenant_updated" v 1;
    /// A person of the tenant was added.
    AgentCreated = "agent_created" v 1;
    /// An agent's fields changed.
    AgentUpdated = "agent_updated" v 1;
    /// An agent went online, offline or away, or stopped or started accepting chats.
    AgentStatusChanged = "agent_status_changed" v 1;
    /// An agent signed in: a new family of refresh tokens.
    SessionOpened = "session_opened" v 1;
    /// A refresh token was used and replaced.
    SessionRefreshed = "session_refreshed" v 1;
    /// A session ended: sign-out, reuse of a rotated token, a changed password.
    SessionClosed = "session_closed" v 1;
    /// An embeddable widget was made.
    ChatbotCreated = "chatbot_created" v 1;
    /// A widget's fields changed.
    ChatbotUpdated = "chatbot_updated" v 1;
    /// A `/v0` token was made.
    TokenCreated = "token_created" v 1;
    /// A person who writes through a widget was first seen.
    VisitorCreated = "visitor_created" v 1;
    /// A visitor's fields changed.
    VisitorUpdated = "visitor_updated" v 1;
    /// A conversation and its first thread began.
    ConversationStarted = "conversation_started" v 1;
    /// A public message.
    MessagePosted = "message_posted" v 1;
    /// A note among agents; visitors never see it.
    NotePosted = "note_posted" v 1;
    /// A conversation entered the queue.
    ConversationQueued = "conversation_queued" v 1;
    /// A conversation got its agent; a new thread began.
    AgentAssigned = "agent_assigned" v 1;
    /// A conversation lost its agent without getting another.
    AgentUnassigned = "agent_unassigned" v 1;
    /// A conversation was resolved; its thread closed.
    ConversationResolved = "conversation_resolved" v 1;
    /// A resolved conversation goes on in a new thread.
    ConversationReopened = "conversation_reopened" v 1;
    /// A conversation is read-only from here on.
    ConversationClosed = "conversation_closed" v 1;
    /// The visitor rated the conversation.
    ConversationRated = "conversation_rated" v 1;
    /// Tags were put on or taken off.
    ConversationTagged = "conversation_tagged" v 1;
    /// An e-mail should be sent; the outbox.
    MailRequested = "mail_requested" v 1;
    /// The mail server took the e-mail, or it lies in the spool.
    MailSent = "mail_sent" v 1;
    /// The e-mail can't be sent, for good.
    MailFailed = "mail_failed" v 1;
}

/// Fields of `tenant_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantCreated {
    /// Display name; a company's, not a person's.
    pub name: String,
    /// Unique, lower case, for URLs and the command line.
    pub slug: String,
    /// IANA name, for days and hours in reports.
    pub time_zone: String,
}

/// Fields of `tenant_updated`; absent ones stay.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantUpdated {
    /// New display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New IANA time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// What an agent may do, built in; each includes those below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Works on conversations.
    Agent,
    /// Sees and steers all conversations and reports of the tenant.
    Supervisor,
    /// All but ownership.
    Admin,
    /// Everything.
    Owner,
}

impl Role {
    /// The word in the API and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Agent => "agent",
            Self::Supervisor => "supervisor",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// May write to visitors, and so be assigned to them.
    #[must_use]
    pub fn may_reply(self) -> bool {
        self >= Self::Agent
    }
}

/// Fields of `agent_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentCreated {
    /// The new agent.
    pub agent_id: AgentId,
    /// Display name, sealed under the agent's key.
    pub name: Sealed,
    /// Address, sealed; imported agents have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Sealed>,
    /// Hex HMAC of the normalized address under the installation's key; look-ups go by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_hmac: Option<String>,
    /// argon2id in PHC form; without one the agent can't sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// Built-in role.
    pub role: Role,
    /// Chats at once before automatic assignment passes the agent by.
    pub max_concurrent_chats: u32,
    /// The agent's id in the system it was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// Fields of `agent_updated`; absent ones stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentUpdated {
    /// The agent.
    pub agent_id: AgentId,
    /// New display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Sealed>,
    /// New role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// New capacity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_chats: Option<u32>,
}

/// An agent's own word about being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// At work.
    Online,
    /// Not there.
    Offline,
    /// There, but not for new chats.
    Away,
}

impl AgentStatus {
    /// The word in the API, the log and the reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Away => "away",
        }
    }
}

/// Fields of `agent_status_changed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentStatusChanged {
    /// The agent.
    pub agent_id: AgentId,
    /// The status from here on.
    pub status: AgentStatus,
    /// Takes new chats.
    pub accepting_chats: bool,
}

/// Fields of `session_opened`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionOpened {
    /// The family of refresh tokens.
    pub session_id: SessionId,
    /// Whose.
    pub agent_id: AgentId,
    /// Hex SHA-256 of the current refresh token.
    pub refresh_sha256: String,
    /// End of the family.
    pub expires_at: Timestamp,
}

/// Fields of `session_refreshed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionRefreshed {
    /// The family.
    pub session_id: SessionId,
    /// Hex SHA-256 of the new refresh token.
    pub refresh_sha256: String,
}

/// Fields of `session_closed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionClosed {
    /// The family.
    pub session_id: SessionId,
    /// `logout` or `refresh_reused`.
    pub reason: String,
}

/// Fields of `chatbot_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChatbotCreated {
    /// The new chatbot.
    pub chatbot_id: ChatbotId,
    /// Display name.
    pub name: String,
    /// Public key: it stands in web pages.
    pub api_key: String,
    /// Origins a browser may come from; empty allows none from browsers.
    pub allowed_origins: Vec<String>,
    /// First words of the widget.
    pub greeting: String,
    /// Said while no agent has joined.
    pub waiting_text: String,
}

/// Fields of `chatbot_updated`; absent ones stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChatbotUpdated {
    /// The chatbot.
    pub chatbot_id: ChatbotId,
    /// New display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New list of origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_origins: Option<Vec<String>>,
    /// New greeting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greeting: Option<String>,
    /// New waiting text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_text: Option<String>,
}

/// What a token may do with a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scope {
    /// `PIPES:READ`, `DATASOURCES:READ` or `DATASOURCES:APPEND`.
    pub r#type: String,
    /// A pipe's or table's name; `*` for all.
    pub resource: String,
}

/// Fields of `token_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenCreated {
    /// The new token's id.
    pub token_id: TokenId,
    /// Display name.
    pub name: String,
    /// Hex SHA-256 of the token; the token itself is shown once.
    pub sha256: String,
    /// What it may read.
    pub scopes: Vec<Scope>,
    /// When it ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Fields of `visitor_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VisitorCreated {
    /// The new visitor.
    pub visitor_id: VisitorId,
    /// Two words and a number, a function of the id.
    pub readable_id: String,
    /// Name, sealed under the visitor's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Sealed>,
    /// Address as typed, sealed; not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Sealed>,
    /// Phone number, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Sealed>,
    /// User agent, address, referrer, page and the page's own metadata as JSON, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Sealed>,
    /// The visitor's id in the system it was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// Fields of `visitor_updated`; absent ones stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VisitorUpdated {
    /// The visitor.
    pub visitor_id: VisitorId,
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Sealed>,
    /// New address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Sealed>,
    /// New phone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Sealed>,
}

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

/// What an e-mail says; the sink has the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailKind {
    /// To the visitor, at their first message.
    Welcome,
    /// To an agent who is offline, at a new conversation.
    NewConversation,
}

/// Fields of `mail_requested`. Outside of the conversation's `seq`: mail is not part of its history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MailRequested {
    /// Derived from (job, source event, recipient): the same mail is requested once.
    pub mail_id: MailId,
    /// What it says.
    pub kind: MailKind,
    /// The recipient; the sink looks the address up when it sends.
    pub person_id: PersonId,
    /// What it is about.
    pub about: ConversationId,
    /// The visitor's readable id, for the subject.
    pub readable_id: String,
}

/// Fields of `mail_sent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MailSent {
    /// The mail.
    pub mail_id: MailId,
    /// Tries, this one included.
    pub attempts: u32,
}

/// Fields of `mail_failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MailFailed {
    /// The mail.
    pub mail_id: MailId,
    /// Tries, this one included.
    pub attempts: u32,
    /// A stable word: `no_address`, `refused`, `gave_up`.
    pub reason: String,
}
