//! What the audit log shows of an event.

use ingest::event::Actor;
use ingest::id::{EventId, TenantId};
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// One line of a tenant's audit log. It's made from the event alone, and holds no secret and no sealed text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The event.
    pub id: EventId,
    /// The tenant.
    pub tenant: TenantId,
    /// When it was recorded.
    pub at: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// What was done, for example `agent.updated`.
    pub kind: String,
    /// What kind of thing it was done to, for example `agent`.
    pub about_kind: Option<String>,
    /// Which one.
    pub about: Option<Uuid>,
    /// The names of the event's fields.
    pub fields: Vec<String>,
    /// Those of them that may be shown.
    pub details: Map<String, Value>,
}
