//! Roles that a tenant makes.

use super::PermissionSet;
use crate::id::RoleId;
use serde::{Deserialize, Serialize};

/// Fields of `role_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleCreated {
    /// The new role.
    pub role_id: RoleId,
    /// Display name, unique among the living of the tenant.
    pub name: String,
    /// What it holds.
    pub permissions: PermissionSet,
}

/// Fields of `role_updated`; absent ones stay. Other permissions end the sessions of everyone who has the role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleUpdated {
    /// The role.
    pub role_id: RoleId,
    /// New display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<PermissionSet>,
}

/// Fields of `role_deleted`: whoever has it holds nothing by it, until it's restored. Ends their sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleDeleted {
    /// The role.
    pub role_id: RoleId,
}

/// Fields of `role_restored`. Ends the sessions of everyone who has the role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleRestored {
    /// The role.
    pub role_id: RoleId,
}
