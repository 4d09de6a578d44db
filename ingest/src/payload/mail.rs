//! The outbox of e-mails.

use crate::id::{ChallengeId, ConversationId, InvitationId, MailId, PersonId};
use serde::{Deserialize, Serialize};

/// What an e-mail says; the sink has the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailKind {
    /// To the visitor, at their first message.
    Welcome,
    /// To an agent who is offline, at a new conversation.
    NewConversation,
    /// To an agent who wants to sign in: the code of the challenge.
    Otp,
    /// To an agent who forgot the password: the link of the challenge.
    PasswordReset,
    /// To someone who is invited to the tenant: the link of the invitation.
    Invitation,
}

const MINUTE_MS: i64 = 60 * 1_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

impl MailKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Welcome, Self::NewConversation, Self::Otp, Self::PasswordReset, Self::Invitation];

    /// How long it is good from when it was requested: a code or a link is void then, and news are no news any more.
    #[must_use]
    pub const fn valid_ms(self) -> i64 {
        match self {
            Self::Otp => 10 * MINUTE_MS,
            Self::PasswordReset => HOUR_MS,
            Self::Invitation => 7 * DAY_MS,
            Self::Welcome | Self::NewConversation => DAY_MS,
        }
    }

    /// Somebody waits for it in front of a screen: it goes before what is only to be known.
    #[must_use]
    pub const fn is_urgent(self) -> bool {
        match self {
            Self::Otp | Self::PasswordReset | Self::Invitation => true,
            Self::Welcome | Self::NewConversation => false,
        }
    }

    /// The word in the log and in the reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::NewConversation => "new_conversation",
            Self::Otp => "otp",
            Self::PasswordReset => "password_reset",
            Self::Invitation => "invitation",
        }
    }
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
    /// The conversation it is about; since v2 optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<ConversationId>,
    /// The visitor's readable id, for the subject; empty without a visitor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub readable_id: String,
    /// Since v2: the code or the link in it follows from this challenge. The sink derives it when it sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge_id: Option<ChallengeId>,
    /// Since v2: the link in it follows from this invitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation_id: Option<InvitationId>,
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
    /// A stable word: `no_address`, `refused`, `gave_up`, `expired`, `address_limit`, `tenant_limit`, `unknown`.
    pub reason: String,
}
