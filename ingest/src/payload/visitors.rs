//! What happens to the people who write through a widget.

use crate::id::{ConversationId, VisitorId};
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
    /// Until v1: the visitor's id in the system it was imported from, in plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Since v2: that id sealed, as it may well be an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_ref: Option<Sealed>,
    /// Since v2: the tenant's own id of a visitor whom it vouched for, sealed; the visitor's id is derived from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Sealed>,
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
    /// Since v2: what is known of browser and page, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Sealed>,
}

/// Fields of `visitor_merged`: an anonymous visitor turned out to be a known one. The source's conversations are the
/// target's from here on; their texts stay sealed under the source's key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VisitorMerged {
    /// Who was anonymous.
    pub source_visitor_id: VisitorId,
    /// Who they are.
    pub target_visitor_id: VisitorId,
    /// What changes its owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conversations: Vec<ConversationId>,
}

/// Fields of `visitor_tracked`: something that a visitor did on the page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VisitorTracked {
    /// The visitor.
    pub visitor_id: VisitorId,
    /// What they did, in the page's words, sealed.
    pub name: Sealed,
    /// Where, sealed; the visitor's page from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Sealed>,
    /// The page's JSON object, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<Sealed>,
}

/// Fields of `visitor_blocked`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VisitorBlocked {
    /// The visitor.
    pub visitor_id: VisitorId,
}

/// Fields of `visitor_unblocked`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VisitorUnblocked {
    /// The visitor.
    pub visitor_id: VisitorId,
}

/// Fields of `visitor_erased`: the keys of these persons were destroyed together with this event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VisitorErased {
    /// The visitor.
    pub visitor_id: VisitorId,
    /// Who was merged into them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<VisitorId>,
}
