//! The vocabulary: what can happen, each payload with its version.
//!
//! A payload never changes in place. A new field with a default is a new version of the same struct; `decode` reads
//! every version up to the newest and names what is newer. `tests/golden/` holds the bytes of every version.

mod accounts;
mod configuration;
mod conversations;
mod credentials;
mod mail;
mod permissions;
mod roles;
mod settings;
mod sources;
mod visitors;

pub use accounts::*;
pub use configuration::*;
pub use conversations::*;
pub use credentials::*;
pub use mail::*;
pub use permissions::*;
pub use roles::*;
pub use settings::*;
pub use sources::*;
pub use visitors::*;

use crate::event::DecodeError;
use serde::{Deserialize, Deserializer, Serialize as _};

/// Reads a field that may be `null`, which is not the same as absent: `null` takes away, absent leaves.
///
/// # Errors
/// The value's own.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

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
    TenantCreated = "tenant_created" v 2;
    /// A tenant's name or settings changed.
    TenantUpdated = "tenant_updated" v 4;
    /// A person of the tenant was added.
    AgentCreated = "agent_created" v 2;
    /// An agent's fields changed.
    AgentUpdated = "agent_updated" v 2;
    /// An agent was removed; it can be restored.
    AgentDeleted = "agent_deleted" v 1;
    /// A removed agent is back.
    AgentRestored = "agent_restored" v 1;
    /// The tenant has another owner.
    OwnershipTransferred = "ownership_transferred" v 1;
    /// The tenant made a role.
    RoleCreated = "role_created" v 1;
    /// A role's name or permissions changed.
    RoleUpdated = "role_updated" v 1;
    /// A role was deleted; it can be restored.
    RoleDeleted = "role_deleted" v 1;
    /// A deleted role is back.
    RoleRestored = "role_restored" v 1;
    /// An agent has another password.
    PasswordChanged = "password_changed" v 1;
    /// A code or a link was made for an agent; a mail carries it.
    ChallengeIssued = "challenge_issued" v 1;
    /// A wrong code was tried.
    ChallengeFailed = "challenge_failed" v 1;
    /// The code or the link was used.
    ChallengeUsed = "challenge_used" v 2;
    /// Someone was invited to the tenant.
    InvitationCreated = "invitation_created" v 1;
    /// They came.
    InvitationAccepted = "invitation_accepted" v 2;
    /// An agent went online, offline or away, or stopped or started accepting chats.
    AgentStatusChanged = "agent_status_changed" v 1;
    /// An agent signed in: a new family of refresh tokens.
    SessionOpened = "session_opened" v 2;
    /// A refresh token was used and replaced.
    SessionRefreshed = "session_refreshed" v 1;
    /// A session ended: sign-out, reuse of a rotated token, a changed password.
    SessionClosed = "session_closed" v 1;
    /// An embeddable widget was made.
    ChatbotCreated = "chatbot_created" v 2;
    /// A widget's fields changed.
    ChatbotUpdated = "chatbot_updated" v 2;
    /// A widget's key or its identity secret was replaced.
    ChatbotRotated = "chatbot_rotated" v 1;
    /// A department was made.
    GroupCreated = "group_created" v 1;
    /// A department's fields changed.
    GroupUpdated = "group_updated" v 1;
    /// Agents joined or left a department.
    GroupMembersChanged = "group_members_changed" v 1;
    /// A tag was put on the tenant's list.
    TagCreated = "tag_created" v 1;
    /// A tag's name or color changed.
    TagUpdated = "tag_updated" v 1;
    /// A canned response was made.
    CannedResponseCreated = "canned_response_created" v 1;
    /// A canned response's fields changed.
    CannedResponseUpdated = "canned_response_updated" v 1;
    /// A group, tag, canned response or chatbot was deleted; it can be restored.
    ResourceDeleted = "resource_deleted" v 1;
    /// A deleted one is there again.
    ResourceRestored = "resource_restored" v 1;
    /// A `/v0` token was made.
    TokenCreated = "token_created" v 2;
    /// A `/v0` token was taken back, for good.
    TokenRevoked = "token_revoked" v 1;
    /// The tenant made a data source.
    DataSourceCreated = "data_source_created" v 1;
    /// Rows came into a data source, or into its quarantine.
    RowsAppended = "rows_appended" v 1;
    /// A data source's rows were replaced by those of another generation.
    DataSourceReplaced = "data_source_replaced" v 1;
    /// A data source and its rows are gone.
    DataSourceDeleted = "data_source_deleted" v 1;
    /// The tenant published an endpoint, or a new version of one.
    PipePublished = "pipe_published" v 2;
    /// A tenant's endpoint is gone.
    PipeDeleted = "pipe_deleted" v 1;
    /// A person who writes through a widget was first seen.
    VisitorCreated = "visitor_created" v 2;
    /// A visitor's fields changed.
    VisitorUpdated = "visitor_updated" v 2;
    /// An anonymous visitor turned out to be a known one.
    VisitorMerged = "visitor_merged" v 1;
    /// A visitor did something on the page.
    VisitorTracked = "visitor_tracked" v 1;
    /// A visitor can write no more.
    VisitorBlocked = "visitor_blocked" v 1;
    /// A blocked visitor can write again.
    VisitorUnblocked = "visitor_unblocked" v 1;
    /// A person's texts can't be read any more, by anyone.
    VisitorErased = "visitor_erased" v 1;
    /// A conversation and its first thread began.
    ConversationStarted = "conversation_started" v 3;
    /// A public message.
    MessagePosted = "message_posted" v 2;
    /// A note among agents; visitors never see it.
    NotePosted = "note_posted" v 1;
    /// A conversation entered the queue.
    ConversationQueued = "conversation_queued" v 2;
    /// A conversation got its agent; a new thread began.
    AgentAssigned = "agent_assigned" v 2;
    /// A conversation lost its agent without getting another.
    AgentUnassigned = "agent_unassigned" v 1;
    /// A conversation was resolved; its thread closed.
    ConversationResolved = "conversation_resolved" v 2;
    /// A resolved conversation goes on in a new thread.
    ConversationReopened = "conversation_reopened" v 1;
    /// A conversation is read-only from here on.
    ConversationClosed = "conversation_closed" v 1;
    /// The visitor rated the conversation.
    ConversationRated = "conversation_rated" v 2;
    /// Tags were put on or taken off.
    ConversationTagged = "conversation_tagged" v 1;
    /// A conversation's notes or group changed.
    ConversationUpdated = "conversation_updated" v 1;
    /// A conversation was passed on; its thread closed and the next began.
    ConversationTransferred = "conversation_transferred" v 1;
    /// Nobody waits for an answer any more; the agent's slot is free.
    ConversationStale = "conversation_stale" v 1;
    /// A conversation was put aside for a while, or is back.
    ConversationSnoozed = "conversation_snoozed" v 1;
    /// Somebody read a conversation up to an event.
    ConversationRead = "conversation_read" v 1;
    /// An e-mail should be sent; the outbox.
    MailRequested = "mail_requested" v 2;
    /// The mail server took the e-mail, or it lies in the spool.
    MailSent = "mail_sent" v 1;
    /// The e-mail can't be sent, for good.
    MailFailed = "mail_failed" v 1;
}
