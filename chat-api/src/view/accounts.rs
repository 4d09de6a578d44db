//! Tenants, agents, roles, permissions, invitations, the audit log.

use super::{ViewError, Views, rfc3339, rfc3339_option};
use crate::core::state::{Agent, AuditEntry, CustomRole, Invitation, Tenant};
use ingest::event::Actor;
use ingest::id::{AgentId, EventId, InvitationId, RoleId, TenantId, VisitorId};
use ingest::payload::{AgentStatus, Holiday, OpeningHours, Permission, PermissionSet, Role, SlaTargets};
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// Addresses of sign-ins that are shown.
const RECENT_IPS_SHOWN: usize = 10;

/// A tenant as its agents see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct TenantView {
    pub id: TenantId,
    pub name: String,
    pub slug: String,
    pub time_zone: String,
    pub opening_hours: Vec<OpeningHours>,
    pub holidays: Vec<Holiday>,
    pub sla_targets: SlaTargets,
    pub session_hours: u32,
    pub standby_minutes: u32,
    pub idle_minutes: u32,
    pub auto_close_days: u32,
    pub require_email: bool,
    /// Which of the metrics' definitions the reports follow (docs/METRICS.md).
    pub metrics_version: u32,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
}

impl From<&Tenant> for TenantView {
    fn from(tenant: &Tenant) -> Self {
        let settings = tenant.settings.clone();
        Self {
            id: tenant.id,
            name: tenant.name.clone(),
            slug: tenant.slug.clone(),
            time_zone: tenant.time_zone.clone(),
            opening_hours: settings.opening_hours,
            holidays: settings.holidays,
            sla_targets: settings.sla_targets,
            session_hours: settings.session_hours,
            standby_minutes: settings.standby_minutes,
            idle_minutes: settings.idle_minutes,
            auto_close_days: settings.auto_close_days,
            require_email: settings.require_email,
            metrics_version: settings.metrics_version,
            created_at: tenant.created_at,
        }
    }
}

/// An agent. For colleagues who don't manage agents, `email`, `phone` and `permissions` are `null`, and `recentIps` is empty.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct AgentView {
    pub id: AgentId,
    pub name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    /// A built-in role's name or a custom role's id.
    pub role: String,
    pub permissions: Option<PermissionsView>,
    pub status: AgentStatus,
    pub accepting_chats: bool,
    pub max_concurrent_chats: u32,
    pub active_chats: u32,
    pub skills: BTreeSet<String>,
    pub avatar: Option<String>,
    /// Where they signed in from last, the newest first; empty for colleagues who don't manage agents.
    pub recent_ips: Vec<String>,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
    #[serde(serialize_with = "rfc3339_option")]
    pub deleted_at: Option<Timestamp>,
}

impl AgentView {
    /// Without what is theirs alone: addresses, telephone number, exceptions from the role.
    #[must_use]
    pub fn for_colleagues(self) -> Self {
        Self { email: None, phone: None, permissions: None, recent_ips: Vec::new(), ..self }
    }
}

/// What an agent holds on top of the role, and what is taken away.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct PermissionsView {
    pub allow: PermissionSet,
    pub deny: PermissionSet,
}

/// A custom role.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct RoleView {
    pub id: RoleId,
    pub name: String,
    pub permissions: PermissionSet,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
    #[serde(serialize_with = "rfc3339")]
    pub updated_at: Timestamp,
    #[serde(serialize_with = "rfc3339_option")]
    pub deleted_at: Option<Timestamp>,
}

impl From<&CustomRole> for RoleView {
    fn from(role: &CustomRole) -> Self {
        Self {
            id: role.id,
            name: role.name.clone(),
            permissions: role.permissions,
            created_at: role.created_at,
            updated_at: role.updated_at,
            deleted_at: role.deleted_at,
        }
    }
}

/// A permission that a role can hold.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct PermissionView {
    pub name: &'static str,
    pub description: &'static str,
    /// The built-in roles that hold it.
    pub roles: Vec<&'static str>,
}

impl From<Permission> for PermissionView {
    fn from(permission: Permission) -> Self {
        let roles = [Role::Owner, Role::Admin, Role::Supervisor, Role::Agent, Role::Viewer];
        let holders = roles.into_iter().filter(|role| role.permissions().has(permission));
        Self {
            name: permission.as_str(),
            description: permission.description(),
            roles: holders.map(Role::as_str).collect(),
        }
    }
}

/// An invitation, without its link.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct InvitationView {
    pub id: InvitationId,
    pub email: Option<String>,
    pub role: String,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
    #[serde(serialize_with = "rfc3339")]
    pub expires_at: Timestamp,
    #[serde(serialize_with = "rfc3339_option")]
    pub accepted_at: Option<Timestamp>,
}

/// Who did something, or to whom it was done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct PartyView {
    pub kind: String,
    pub id: Option<String>,
    /// An agent's or a visitor's.
    pub name: Option<String>,
}

/// A line of the audit log.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct AuditView {
    pub id: EventId,
    pub r#type: String,
    pub actor: PartyView,
    pub about: Option<PartyView>,
    /// The names of what was set.
    pub fields: Vec<String>,
    /// Those values that are no secret and no personal text.
    pub details: Map<String, Value>,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
}

impl Views {
    /// Where an agent signed in from, each address once.
    pub(super) fn recent_ips(&self, agent: &Agent) -> Result<Vec<String>, ViewError> {
        let mut addresses: Vec<String> = Vec::new();
        for sealed in &agent.recent_ips {
            if let Some(address) = self.shown(Some(sealed))?
                && !addresses.contains(&address)
                && addresses.len() < RECENT_IPS_SHOWN
            {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// An invitation.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn invitation(&self, invitation: &Invitation) -> Result<InvitationView, ViewError> {
        let role = invitation.custom_role.map(|id| id.to_string());
        Ok(InvitationView {
            id: invitation.id,
            email: self.shown(Some(&invitation.email))?,
            role: role.unwrap_or_else(|| invitation.role.as_str().to_owned()),
            created_at: invitation.created_at,
            expires_at: invitation.expires_at,
            accepted_at: invitation.accepted_at,
        })
    }

    /// A line of the audit log, with the names of those who are still known; of visitors, of those whom its reader sees.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn audit(
        &self,
        entry: &AuditEntry,
        sees: impl Fn(VisitorId) -> rusqlite::Result<bool>,
    ) -> Result<AuditView, ViewError> {
        let (kind, id) = match entry.actor {
            Actor::Agent(id) => ("agent", Some(id.0)),
            Actor::Visitor(id) => ("visitor", Some(id.0)),
            Actor::System => ("system", None),
            Actor::Operator => ("operator", None),
        };
        let about = match (&entry.about_kind, entry.about) {
            (Some(kind), Some(id)) => Some(self.party(entry, kind, Some(id), &sees)?),
            _ => None,
        };
        Ok(AuditView {
            id: entry.id,
            r#type: entry.kind.clone(),
            actor: self.party(entry, kind, id, &sees)?,
            about,
            fields: entry.fields.clone(),
            details: entry.details.clone(),
            created_at: entry.at,
        })
    }

    fn party(
        &self,
        entry: &AuditEntry,
        kind: &str,
        id: Option<Uuid>,
        sees: &impl Fn(VisitorId) -> rusqlite::Result<bool>,
    ) -> Result<PartyView, ViewError> {
        let name: Option<Arc<str>> = match (kind, id) {
            ("agent", Some(id)) => self.agent_name(entry.tenant, AgentId(id))?,
            ("visitor", Some(id)) if sees(VisitorId(id))? => self.visitor_name(entry.tenant, VisitorId(id))?,
            _ => None,
        };
        let id = id.map(|id| id.to_string());
        Ok(PartyView { kind: kind.to_owned(), id, name: name.map(|name| name.to_string()) })
    }
}
