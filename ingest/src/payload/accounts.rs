//! What happens to a tenant and its people: sign-up, agents, their sessions, chatbots, tokens.

use super::{Holiday, OpeningHours, PermissionSet, Role, SlaTargets, present};
use crate::id::{AgentId, RoleId, SessionId, TokenId};
use crate::seal::Sealed;
use crate::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

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
    /// Since v2: which of the metrics' definitions its reports follow; the first when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_version: Option<u32>,
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
    /// Since v2: when the tenant answers; empty is always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening_hours: Option<Vec<OpeningHours>>,
    /// Since v2: days off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holidays: Option<Vec<Holiday>>,
    /// Since v2: all promises, those that stay too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla_targets: Option<SlaTargets>,
    /// Since v2: life of a visitor's session token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_hours: Option<u32>,
    /// Since v2: how long a visitor who went away can come back to the same thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby_minutes: Option<u32>,
    /// Since v2: how long a thread may lie idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_minutes: Option<u32>,
    /// Since v2: from resolved to closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_close_days: Option<u32>,
    /// Since v2: whether a visitor must give an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_email: Option<bool>,
    /// Since v4: which of the metrics' definitions the reports follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_version: Option<u32>,
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
    /// Since v2: a custom role, which counts instead of the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_role: Option<RoleId>,
    /// Since v2: sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Sealed>,
    /// Since v2: a picture's URL, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<Sealed>,
    /// Since v2: what conversations can ask for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub skills: BTreeSet<String>,
    /// Since v2: permissions on top of the role.
    #[serde(default, skip_serializing_if = "PermissionSet::is_empty")]
    pub allow: PermissionSet,
    /// Since v2: permissions taken away; they win.
    #[serde(default, skip_serializing_if = "PermissionSet::is_empty")]
    pub deny: PermissionSet,
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
    /// Since v2, with `role`: the custom role that counts instead; none ends an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_role: Option<RoleId>,
    /// Since v2: new address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Sealed>,
    /// Since v2: the new address's HMAC, when it's another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_hmac: Option<String>,
    /// Since v2: new phone; `null` takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub phone: Option<Option<Sealed>>,
    /// Since v2: new picture; `null` takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub avatar: Option<Option<Sealed>>,
    /// Since v2: all skills, those that stay too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skills: Option<BTreeSet<String>>,
    /// Since v2: all permissions on top of the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<PermissionSet>,
    /// Since v2: all permissions taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny: Option<PermissionSet>,
}

impl AgentUpdated {
    /// A change of nothing.
    #[must_use]
    pub fn nothing(agent_id: AgentId) -> Self {
        Self {
            agent_id,
            name: None,
            role: None,
            max_concurrent_chats: None,
            custom_role: None,
            email: None,
            email_hmac: None,
            phone: None,
            avatar: None,
            skills: None,
            allow: None,
            deny: None,
        }
    }

    /// Whether the agent must sign in again: who they are to the server, or what they may do, has changed.
    #[must_use]
    pub fn ends_sessions(&self) -> bool {
        self.role.is_some() || self.allow.is_some() || self.deny.is_some() || self.email_hmac.is_some()
    }
}

/// Fields of `agent_deleted`: removed, but it can be restored. Ends the agent's sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentDeleted {
    /// The agent.
    pub agent_id: AgentId,
}

/// Fields of `agent_restored`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentRestored {
    /// The agent; offline, and not signed in.
    pub agent_id: AgentId,
}

/// Fields of `ownership_transferred`: one owner becomes an admin, another agent an owner. Ends the sessions of both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnershipTransferred {
    /// Who was an owner.
    pub from_agent_id: AgentId,
    /// Who is one now.
    pub to_agent_id: AgentId,
}

/// An agent's own word about being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// Since v2: where the agent signed in from, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Sealed>,
    /// Since v2: the agent's epoch; the session ends when the agent has another.
    #[serde(default)]
    pub epoch: u32,
    /// Since v2: the epoch of the agent's custom role.
    #[serde(default)]
    pub role_epoch: u32,
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

/// What a token may do with a resource. The names of the fields are those on the wire, which are Tinybird's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// `PIPES:` with READ, CREATE or DROP, `DATASOURCES:` with READ, APPEND, CREATE or DROP.
    pub r#type: String,
    /// A pipe's or table's name; `*` for all, and unless said.
    #[serde(default = "all_resources")]
    pub resource: String,
    /// Of a pipe: values of parameters that a caller can't change. Texts, numbers, booleans or lists of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fixed_params: BTreeMap<String, Value>,
    /// Of a table: the SQL condition that rows must meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

fn all_resources() -> String {
    "*".to_owned()
}

/// How often a token may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenLimits {
    /// Requests a second.
    pub rps: u32,
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
    /// How often it may call, if that's limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<TokenLimits>,
}

/// Fields of `token_revoked`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRevoked {
    /// The token.
    pub token_id: TokenId,
}
