//! The outbox of e-mails.

use crate::id::{ConversationId, MailId, PersonId};
use serde::{Deserialize, Serialize};

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
