//! Requested mails.

use ingest::id::{ChallengeId, ConversationId, InvitationId, MailId, PersonId, TenantId};
use ingest::payload::MailKind;
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};

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
    /// The conversation it is about.
    pub about: Option<ConversationId>,
    /// Where its code or link comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<ChallengeId>,
    /// Where its link comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<InvitationId>,
    /// The visitor's readable id.
    pub readable_id: String,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// What became of it.
    pub status: MailStatus,
}
