//! Groups, tags, canned responses and chatbots as the tenant sees them.

use super::{rfc3339, rfc3339_option};
use crate::core::state::{CannedResponse, Chatbot, Group, Tag};
use ingest::id::{AgentId, CannedResponseId, ChatbotId, GroupId, TagId};
use ingest::payload::RoutingStrategy;
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// A group.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct GroupView {
    pub id: GroupId,
    pub name: String,
    pub description: String,
    pub routing_strategy: RoutingStrategy,
    pub is_default: bool,
    pub agent_ids: Vec<AgentId>,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
    #[serde(serialize_with = "rfc3339")]
    pub updated_at: Timestamp,
    #[serde(serialize_with = "rfc3339_option")]
    pub deleted_at: Option<Timestamp>,
}

impl From<&Group> for GroupView {
    fn from(group: &Group) -> Self {
        Self {
            id: group.id,
            name: group.name.clone(),
            description: group.description.clone(),
            routing_strategy: group.strategy,
            is_default: group.is_default,
            agent_ids: group.members.iter().copied().collect(),
            created_at: group.created_at,
            updated_at: group.updated_at,
            deleted_at: group.deleted_at,
        }
    }
}

/// A tag of the tenant's list.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct TagView {
    pub id: TagId,
    pub name: String,
    pub color: String,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
    #[serde(serialize_with = "rfc3339")]
    pub updated_at: Timestamp,
    #[serde(serialize_with = "rfc3339_option")]
    pub deleted_at: Option<Timestamp>,
}

impl From<&Tag> for TagView {
    fn from(tag: &Tag) -> Self {
        Self {
            id: tag.id,
            name: tag.name.clone(),
            color: tag.color.clone(),
            created_at: tag.created_at,
            updated_at: tag.updated_at,
            deleted_at: tag.deleted_at,
        }
    }
}

/// A canned response.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct CannedResponseView {
    pub id: CannedResponseId,
    pub shortcut: String,
    pub text: String,
    pub group_id: Option<GroupId>,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
    #[serde(serialize_with = "rfc3339")]
    pub updated_at: Timestamp,
    #[serde(serialize_with = "rfc3339_option")]
    pub deleted_at: Option<Timestamp>,
}

impl From<&CannedResponse> for CannedResponseView {
    fn from(response: &CannedResponse) -> Self {
        Self {
            id: response.id,
            shortcut: response.shortcut.clone(),
            text: response.text.clone(),
            group_id: response.group,
            created_at: response.created_at,
            updated_at: response.updated_at,
            deleted_at: response.deleted_at,
        }
    }
}

/// A chatbot as the tenant sees it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct ChatbotView {
    pub id: ChatbotId,
    pub name: String,
    /// For who manages chatbots.
    pub api_key: Option<String>,
    pub allowed_origins: Vec<String>,
    pub greeting: String,
    pub waiting_text: String,
    pub theme: Map<String, Value>,
    pub default_group_id: Option<GroupId>,
    #[serde(serialize_with = "rfc3339")]
    pub created_at: Timestamp,
    #[serde(serialize_with = "rfc3339")]
    pub updated_at: Timestamp,
    #[serde(serialize_with = "rfc3339_option")]
    pub deleted_at: Option<Timestamp>,
}

impl From<&Chatbot> for ChatbotView {
    fn from(chatbot: &Chatbot) -> Self {
        Self {
            id: chatbot.id,
            name: chatbot.name.clone(),
            api_key: Some(chatbot.api_key.clone()),
            allowed_origins: chatbot.allowed_origins.clone(),
            greeting: chatbot.greeting.clone(),
            waiting_text: chatbot.waiting_text.clone(),
            theme: chatbot.theme.clone(),
            default_group_id: chatbot.default_group,
            created_at: chatbot.created_at,
            updated_at: chatbot.updated_at,
            deleted_at: chatbot.deleted_at,
        }
    }
}

/// How a chatbot does.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatbotStatusView {
    /// The last request with its key or one of its sessions.
    #[serde(serialize_with = "rfc3339_option")]
    pub last_seen: Option<Timestamp>,
    /// Conversations started through it, ever.
    pub sessions: u64,
    /// Requests of its widgets that were refused or failed, since `since`.
    pub errors: u64,
    /// Requests of its widgets, since `since`.
    pub requests: u64,
    /// When this server began to count requests.
    #[serde(serialize_with = "rfc3339")]
    pub since: Timestamp,
}
