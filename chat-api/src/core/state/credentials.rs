//! Mailed codes and links, and invitations.

use ingest::id::{AgentId, ChallengeId, InvitationId, RoleId, TenantId};
use ingest::payload::{ChallengeKind, Role};
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A code or a link that was mailed; it follows from the id and is stored nowhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Challenge {
    /// Its id.
    pub id: ChallengeId,
    /// The tenant.
    pub tenant: TenantId,
    /// Whose.
    pub agent: AgentId,
    /// What it is for.
    pub kind: ChallengeKind,
    /// The agent's epoch when it was made.
    pub epoch: u32,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Wrong tries.
    pub failures: u32,
    /// It was used.
    pub used: bool,
}

/// Someone is asked to join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its id; the agent that comes of it has the same.
    pub id: InvitationId,
    /// The tenant.
    pub tenant: TenantId,
    /// Address.
    pub email: Sealed,
    /// For look-ups.
    pub email_hmac: String,
    /// The role they get.
    pub role: Role,
    /// A custom role, which counts instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_role: Option<RoleId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When they came.
    pub accepted_at: Option<Timestamp>,
}

impl Invitation {
    /// The agent that comes of it.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        AgentId(self.id.0)
    }
}
