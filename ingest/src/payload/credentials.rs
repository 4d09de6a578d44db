//! How agents prove who they are: passwords, mailed codes and links, invitations. No secret is in an event: a code or a
//! link follows from the challenge's id and the installation's key.

use super::{MailKind, Role};
use crate::id::{AgentId, ChallengeId, InvitationId, RoleId};
use crate::seal::Sealed;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What a challenge is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeKind {
    /// Signs in, by a code of six digits.
    Otp,
    /// Sets a new password, by a link.
    PasswordReset,
}

impl ChallengeKind {
    /// What brings it.
    #[must_use]
    pub const fn mail(self) -> MailKind {
        match self {
            Self::Otp => MailKind::Otp,
            Self::PasswordReset => MailKind::PasswordReset,
        }
    }
}

/// Fields of `challenge_issued`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChallengeIssued {
    /// The code or the link follows from it.
    pub challenge_id: ChallengeId,
    /// Whose.
    pub agent_id: AgentId,
    /// What it is for.
    pub kind: ChallengeKind,
    /// The agent's epoch; the challenge is void when the agent has another.
    pub epoch: u32,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Fields of `challenge_failed`: a wrong code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChallengeFailed {
    /// The challenge.
    pub challenge_id: ChallengeId,
    /// Whose.
    pub agent_id: AgentId,
}

/// Fields of `challenge_used`: it is good for nothing any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChallengeUsed {
    /// The challenge.
    pub challenge_id: ChallengeId,
    /// Whose.
    pub agent_id: AgentId,
    /// Since v2: who used it reads what is mailed to the agent's address.
    #[serde(default)]
    pub proves_address: bool,
}

/// Fields of `password_changed`. Ends the agent's sessions and voids their challenges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PasswordChanged {
    /// Whose.
    pub agent_id: AgentId,
    /// argon2id in PHC form.
    pub password_hash: String,
    /// `change` or `reset`.
    pub reason: String,
}

/// Fields of `invitation_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InvitationCreated {
    /// The link follows from it; the agent that comes of it has the same id.
    pub invitation_id: InvitationId,
    /// Address, sealed under the key of the agent to be.
    pub email: Sealed,
    /// Hex HMAC of the normalized address.
    pub email_hmac: String,
    /// The role they get.
    pub role: Role,
    /// A custom role, which counts instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_role: Option<RoleId>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Fields of `invitation_accepted`; `agent_created` comes with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InvitationAccepted {
    /// The invitation.
    pub invitation_id: InvitationId,
    /// Since v2: who accepted it reads what is mailed to the agent's address.
    #[serde(default)]
    pub proves_address: bool,
}
