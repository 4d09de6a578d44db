//! A tenant, its agents and what they set up.

use ingest::id::{AgentId, ChatbotId, GroupId, RoleId, SessionId, TenantId, TokenId};
use ingest::payload::{
    AgentStatus, Holiday, OpeningHours, PermissionSet, Role, RoutingStrategy, Scope, SlaTargets, TokenLimits,
};
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// A customer of the installation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Display name.
    pub name: String,
    /// Unique, for URLs and the command line.
    pub slug: String,
    /// IANA name.
    pub time_zone: String,
    /// What it set for itself.
    #[serde(default)]
    pub settings: TenantSettings,
    /// Sign-up.
    pub created_at: Timestamp,
}

/// What a tenant set for itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantSettings {
    /// When it answers; empty is always.
    pub opening_hours: Vec<OpeningHours>,
    /// Days off.
    pub holidays: Vec<Holiday>,
    /// What it promises.
    pub sla_targets: SlaTargets,
    /// Life of a visitor's session token.
    pub session_hours: u32,
    /// How long a visitor who went away can come back to the same thread.
    pub standby_minutes: u32,
    /// How long a thread may lie idle.
    pub idle_minutes: u32,
    /// From resolved to closed.
    pub auto_close_days: u32,
    /// Whether a visitor must give an address.
    pub require_email: bool,
    /// Which of the metrics' definitions its reports follow.
    #[serde(default = "first_metrics", skip_serializing_if = "is_first_metrics")]
    pub metrics_version: u32,
}

/// The definitions of tenants that are older than the choice.
fn first_metrics() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_first_metrics(version: &u32) -> bool {
    *version == first_metrics()
}

impl Default for TenantSettings {
    fn default() -> Self {
        Self {
            opening_hours: Vec::new(),
            holidays: Vec::new(),
            sla_targets: SlaTargets::default(),
            session_hours: 24,
            standby_minutes: 10,
            idle_minutes: 30,
            auto_close_days: 7,
            require_email: false,
            metrics_version: first_metrics(),
        }
    }
}

/// A tenant's user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Where they work.
    pub tenant: TenantId,
    /// Display name.
    pub name: Sealed,
    /// Address; none when imported.
    pub email: Option<Sealed>,
    /// For look-ups.
    pub email_hmac: Option<String>,
    /// They have used something that was mailed to this address. Anyone can sign up with anyone's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub address_proven: bool,
    /// argon2id in PHC form.
    pub password_hash: Option<String>,
    /// Rises whenever the agent must sign in again; sessions and challenges of an earlier one are void.
    #[serde(default)]
    pub epoch: u32,
    /// Phone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Sealed>,
    /// A picture's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<Sealed>,
    /// Where the last sign-ins came from, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_ips: Vec<Sealed>,
    /// Built-in role.
    pub role: Role,
    /// A custom role, which counts instead of the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_role: Option<RoleId>,
    /// Permissions on top of the role.
    #[serde(default, skip_serializing_if = "PermissionSet::is_empty")]
    pub allow: PermissionSet,
    /// Permissions taken away; they win.
    #[serde(default, skip_serializing_if = "PermissionSet::is_empty")]
    pub deny: PermissionSet,
    /// What conversations can ask for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub skills: BTreeSet<String>,
    /// Own word.
    pub status: AgentStatus,
    /// Takes new chats.
    pub accepting_chats: bool,
    /// Limit for automatic assignment.
    pub max_concurrent_chats: u32,
    /// Active conversations now.
    pub active_chats: u32,
    /// Last time a chat was given or taken away; ties go to the longest idle.
    pub idle_since: Timestamp,
    /// Id in the system it was imported from.
    pub external_id: Option<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was removed; it can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

impl Agent {
    /// A living owner: built in, no custom role.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.role == Role::Owner && self.custom_role.is_none() && self.deleted_at.is_none()
    }

    /// What the agent may do, with `role` being the custom role's permissions, if it has one that is there.
    #[must_use]
    pub fn permissions(&self, custom_role: Option<&CustomRole>) -> PermissionSet {
        self.role_permissions(custom_role).with(self.allow).without(self.deny)
    }

    /// What the agent's role alone holds.
    #[must_use]
    pub fn role_permissions(&self, custom_role: Option<&CustomRole>) -> PermissionSet {
        match self.custom_role {
            // A custom role that was deleted holds nothing.
            Some(_) => custom_role
                .filter(|role| role.deleted_at.is_none())
                .map_or(PermissionSet::NONE, |role| role.permissions),
            None => self.role.permissions(),
        }
    }
}

/// A role that a tenant made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CustomRole {
    /// Its id.
    pub id: RoleId,
    /// The tenant.
    pub tenant: TenantId,
    /// Unique among the living of the tenant.
    pub name: String,
    /// What it holds.
    pub permissions: PermissionSet,
    /// Rises whenever those who have it must sign in again.
    #[serde(default)]
    pub epoch: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// When it was deleted; it can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

/// A department.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// The tenant.
    pub tenant: TenantId,
    /// Unique among the living of the tenant.
    pub name: String,
    /// In words.
    pub description: String,
    /// How its conversations are given out.
    pub strategy: RoutingStrategy,
    /// Takes what names no group.
    pub is_default: bool,
    /// Who is in it.
    pub members: BTreeSet<AgentId>,
    /// Who got the last conversation by round robin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_assigned: Option<AgentId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// When it was deleted; it can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

/// A signed-in session: a family of refresh tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The tenant.
    pub tenant: TenantId,
    /// Whose.
    pub agent: AgentId,
    /// Hex SHA-256 of the only refresh token that is good.
    pub refresh_sha256: String,
    /// End of the family.
    pub expires_at: Timestamp,
    /// Ended before.
    pub closed: bool,
    /// The agent's epoch when they signed in.
    #[serde(default)]
    pub epoch: u32,
    /// The epoch of the agent's custom role then.
    #[serde(default)]
    pub role_epoch: u32,
}

impl Session {
    /// Whether it's still good for `agent`, who has the custom role `role`: not closed, not over, nothing about the
    /// agent's rights or credentials has changed since.
    #[must_use]
    pub fn is_open(&self, agent: &Agent, role: Option<&CustomRole>, now: Timestamp) -> bool {
        !self.closed
            && self.expires_at > now
            && (self.tenant, self.agent) == (agent.tenant, agent.id)
            && agent.deleted_at.is_none()
            && self.epoch == agent.epoch
            && self.role_epoch == role.map_or(0, |role| role.epoch)
    }
}

/// An embeddable widget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chatbot {
    /// Its id.
    pub id: ChatbotId,
    /// The tenant.
    pub tenant: TenantId,
    /// Display name.
    pub name: String,
    /// Public key.
    pub api_key: String,
    /// Origins a browser may come from.
    pub allowed_origins: Vec<String>,
    /// First words.
    pub greeting: String,
    /// Said while waiting.
    pub waiting_text: String,
    /// How the widget looks; the widget's own JSON.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub theme: Map<String, Value>,
    /// The department of conversations that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_group: Option<GroupId>,
    /// Which identity secret holds; the secret follows from it and is stored nowhere.
    #[serde(default)]
    pub secret_version: u32,
    /// Conversations started through it.
    #[serde(default)]
    pub sessions: u64,
    /// When the last one was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_session_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// When it was deleted; it can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

/// A `/v0` token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// The tenant.
    pub tenant: TenantId,
    /// Display name.
    pub name: String,
    /// Hex SHA-256.
    pub sha256: String,
    /// What it may read.
    pub scopes: Vec<Scope>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// How often it may call, if that's limited.
    pub limits: Option<TokenLimits>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}
