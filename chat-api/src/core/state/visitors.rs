//! The people who write through a widget.

use ingest::id::{TenantId, VisitorId};
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
    /// Id in the system it was imported from.
    pub external_id: Option<String>,
    /// The welcome mail was requested.
    pub welcomed: bool,
    /// First seen.
    pub created_at: Timestamp,
}
