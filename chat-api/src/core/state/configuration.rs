//! Tags and canned responses.

use ingest::id::{CannedResponseId, GroupId, TagId, TenantId};
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A tag of the tenant's list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    /// Its id.
    pub id: TagId,
    /// The tenant.
    pub tenant: TenantId,
    /// Unique among the living of the tenant.
    pub name: String,
    /// `#rrggbb`.
    pub color: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// When it was deleted; it can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

/// A text that agents send by a shortcut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CannedResponse {
    /// Its id.
    pub id: CannedResponseId,
    /// The tenant.
    pub tenant: TenantId,
    /// Unique among the living of the tenant.
    pub shortcut: String,
    /// What is sent.
    pub text: String,
    /// For one department only.
    pub group: Option<GroupId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// When it was deleted; it can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

/// How names are compared: two that differ only in case are one.
#[must_use]
pub fn name_key(name: &str) -> String {
    name.to_lowercase()
}
