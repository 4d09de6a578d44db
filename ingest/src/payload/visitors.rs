//! What happens to the people who write through a widget.

use crate::id::VisitorId;
use crate::seal::Sealed;
use serde::{Deserialize, Serialize};

/// Fields of `visitor_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VisitorCreated {
    /// The new visitor.
    pub visitor_id: VisitorId,
    /// Two words and a number, a function of the id.
    pub readable_id: String,
    /// Name, sealed under the visitor's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Sealed>,
    /// Address as typed, sealed; not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Sealed>,
    /// Phone number, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Sealed>,
    /// User agent, address, referrer, page and the page's own metadata as JSON, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Sealed>,
    /// The visitor's id in the system it was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// Fields of `visitor_updated`; absent ones stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VisitorUpdated {
    /// The visitor.
    pub visitor_id: VisitorId,
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Sealed>,
    /// New address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Sealed>,
    /// New phone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Sealed>,
}
