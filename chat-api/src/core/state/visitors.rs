//! The people who write through a widget.

use ingest::id::{AgentId, TenantId, VisitorId};
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A person who writes through a widget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Visitor {
    /// Its id.
    pub id: VisitorId,
    /// The tenant.
    pub tenant: TenantId,
    /// Two words and a number.
    pub readable_id: String,
    /// Name as typed.
    pub name: Option<Sealed>,
    /// Address as typed.
    pub email: Option<Sealed>,
    /// Phone as typed.
    pub phone: Option<Sealed>,
    /// JSON about browser and page.
    pub metadata: Option<Sealed>,
    /// Where they were last seen to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Sealed>,
    /// Id in the system it was imported from, of old imports.
    pub external_id: Option<String>,
    /// Id in the system it was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_ref: Option<Sealed>,
    /// The tenant's own id of them, vouched for; none for anonymous ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Sealed>,
    /// Who they turned out to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<VisitorId>,
    /// The welcome mail was requested.
    pub welcomed: bool,
    /// Who got a conversation of theirs last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_agent: Option<AgentId>,
    /// Can't write since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_at: Option<Timestamp>,
    /// Their texts can't be read since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
    /// First seen.
    pub created_at: Timestamp,
}

impl Visitor {
    /// Someone the tenant vouched for.
    #[must_use]
    pub fn is_identified(&self) -> bool {
        self.user_id.is_some()
    }
}
