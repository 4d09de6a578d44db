//! Each kind of mail: who gets it, why, and within which bounds. docs/SECURITY.md has this as a table, and a test holds it
//! to that.

use ingest::payload::MailKind;

/// What holds for a kind of mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Who is mailed.
    pub who: &'static str,
    /// What makes the server write it.
    pub why: &'static str,
    /// What bounds how many an address gets.
    pub bucket: &'static str,
    /// What bounds how many a tenant causes.
    pub budget: &'static str,
    /// How long it is good, in words of [`MailKind::valid_ms`].
    pub until: &'static str,
}

/// The policy of a kind.
#[must_use]
pub const fn policy(kind: MailKind) -> Policy {
    match kind {
        MailKind::Welcome => Policy {
            who: "the visitor, at the address that they typed, once each",
            why: "their first message",
            bucket: "`mail_recipient`, of this kind",
            budget: "`mail_tenant`, of this kind",
            until: "a day",
        },
        MailKind::NewConversation => Policy {
            who: "agents who are offline, may answer it, and have proven their address",
            why: "a conversation begins",
            bucket: "`mail_recipient`, of this kind",
            budget: "`mail_tenant`, of this kind",
            until: "a day",
        },
        MailKind::Otp => Policy {
            who: "agents with this address and a password; those who have proven it, if any has",
            why: "anyone asks for a code",
            bucket: "`mail_recipient`, of this kind, apart for who has proven the address; 5 an hour and account, and 5 more from where its owner has signed in",
            budget: "`mail_tenant`, of this kind, of who hasn't proven the address",
            until: "10 minutes",
        },
        MailKind::PasswordReset => Policy {
            who: "agents with this address; those who have proven it, if any has",
            why: "anyone asks for a new password",
            bucket: "`mail_recipient`, of this kind, apart for who has proven the address; 5 an hour and account, and 5 more from where its owner has signed in",
            budget: "`mail_tenant`, of this kind, of who hasn't proven the address",
            until: "an hour",
        },
        MailKind::Invitation => Policy {
            who: "whom an agent who may add agents invites",
            why: "the invitation",
            bucket: "`mail_recipient`, of this kind",
            budget: "`mail_tenant`, of this kind",
            until: "7 days",
        },
    }
}
