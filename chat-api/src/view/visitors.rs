//! Visitors as agents see them.

use super::{ViewError, Views, rfc3339, rfc3339_option};
use crate::core::state::Visitor;
use ingest::id::VisitorId;
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A visitor. What they typed and what their browser says is shown as it came: nothing of it is verified but `userId`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct VisitorView {
    pub id: VisitorId,
    pub readable_id: String,
    pub name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub user_agent: Option<String>,
    pub ip_address: Option<String>,
    pub referrer: Option<String>,
    pub page: Option<String>,
    pub metadata: Map<String, Value>,
    /// The tenant's own id of them; vouched for by its server.
    pub user_id: Option<String>,
    pub merged_into: Option<VisitorId>,
    pub blocked: bool,
    #[serde(serialize_with = "rfc3339_option")]
    pub blocked_at: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339_option")]
    pub erased_at: Option<Timestamp>,
    /// There now: a socket or a request in the last minute.
    pub online: bool,
    /// Since the server started.
    #[serde(serialize_with = "rfc3339_option")]
    pub last_seen_at: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
}

/// What is known of browser and page, as it's sealed in the visitor's `metadata`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct Browser {
    pub user_agent: Option<String>,
    pub ip_address: Option<String>,
    pub referrer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    pub metadata: Option<Map<String, Value>>,
}

impl Views {
    /// What is known of a visitor's browser and page; nothing when it can't be read.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn browser(&self, visitor: &Visitor) -> Result<Browser, ViewError> {
        let text = self.shown(visitor.metadata.as_ref())?;
        let mut browser: Browser = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        // What was tracked last is newer than what the session began with.
        if let Some(page) = self.shown(visitor.page.as_ref())? {
            browser.page = Some(page);
        }
        Ok(browser)
    }

    /// A visitor as agents see them.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn visitor(
        &self,
        visitor: &Visitor,
        online: bool,
        last_seen_at: Option<Timestamp>,
    ) -> Result<VisitorView, ViewError> {
        let browser = self.browser(visitor)?;
        Ok(VisitorView {
            id: visitor.id,
            readable_id: visitor.readable_id.clone(),
            name: self.shown(visitor.name.as_ref())?,
            email: self.shown(visitor.email.as_ref())?,
            phone: self.shown(visitor.phone.as_ref())?,
            user_agent: browser.user_agent,
            ip_address: browser.ip_address,
            referrer: browser.referrer,
            page: browser.page,
            metadata: browser.metadata.unwrap_or_default(),
            user_id: self.shown(visitor.user_id.as_ref())?,
            merged_into: visitor.merged_into,
            blocked: visitor.blocked_at.is_some(),
            blocked_at: visitor.blocked_at,
            erased_at: visitor.erased_at,
            online,
            last_seen_at,
            created_at: visitor.created_at,
        })
    }
}
