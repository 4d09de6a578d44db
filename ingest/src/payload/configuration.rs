//! What a tenant sets up for its conversations: groups, tags, canned responses, chatbots.

use super::present;
use crate::id::{AgentId, CannedResponseId, ChatbotId, GroupId, TagId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How a group's conversations are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoutingStrategy {
    /// Each in turn.
    RoundRobin,
    /// Whoever has most free slots; ties go to the longest idle.
    LeastLoaded,
    /// The visitor's last agent, else least loaded.
    Sticky,
    /// Who has all the skills that were asked for, else the best overlap, else least loaded.
    Skills,
}

impl RoutingStrategy {
    /// The word in the API and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastLoaded => "least_loaded",
            Self::Sticky => "sticky",
            Self::Skills => "skills",
        }
    }
}

/// Fields of `chatbot_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChatbotCreated {
    /// The new chatbot.
    pub chatbot_id: ChatbotId,
    /// Display name.
    pub name: String,
    /// Public key: it stands in web pages.
    pub api_key: String,
    /// Origins a browser may come from; empty allows none from browsers.
    pub allowed_origins: Vec<String>,
    /// First words of the widget.
    pub greeting: String,
    /// Said while no agent has joined.
    pub waiting_text: String,
    /// How the widget looks: a JSON object that the widget knows to read.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub theme: Map<String, Value>,
    /// The department of conversations that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_group_id: Option<GroupId>,
}

/// Fields of `chatbot_updated`; absent ones stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChatbotUpdated {
    /// The chatbot.
    pub chatbot_id: ChatbotId,
    /// New display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New list of origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_origins: Option<Vec<String>>,
    /// New greeting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greeting: Option<String>,
    /// New waiting text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_text: Option<String>,
    /// New theme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theme: Option<Map<String, Value>>,
    /// New default department; `null` takes it away.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub default_group_id: Option<Option<GroupId>>,
}

/// Fields of `chatbot_rotated`; what is absent stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChatbotRotated {
    /// The chatbot.
    pub chatbot_id: ChatbotId,
    /// New public key; the old one stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// New version of the identity secret, which is derived and stored nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_version: Option<u32>,
}

/// Fields of `group_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupCreated {
    /// The new group.
    pub group_id: GroupId,
    /// Unique among the living of the tenant.
    pub name: String,
    /// In words.
    pub description: String,
    /// How its conversations are given out.
    pub routing_strategy: RoutingStrategy,
    /// Takes conversations that name no group.
    pub is_default: bool,
}

/// Fields of `group_updated`; absent ones stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupUpdated {
    /// The group.
    pub group_id: GroupId,
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// New strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_strategy: Option<RoutingStrategy>,
    /// Takes conversations that name no group, from here on or no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_default: Option<bool>,
}

impl GroupUpdated {
    /// A change of nothing.
    #[must_use]
    pub fn nothing(group_id: GroupId) -> Self {
        Self { group_id, name: None, description: None, routing_strategy: None, is_default: None }
    }
}

/// Fields of `group_members_changed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupMembersChanged {
    /// The group.
    pub group_id: GroupId,
    /// Who joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<AgentId>,
    /// Who left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<AgentId>,
}

/// Fields of `tag_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TagCreated {
    /// The new tag.
    pub tag_id: TagId,
    /// Unique among the living of the tenant.
    pub name: String,
    /// `#rrggbb`.
    pub color: String,
}

/// Fields of `tag_updated`; absent ones stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TagUpdated {
    /// The tag.
    pub tag_id: TagId,
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New color.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
}

/// Fields of `canned_response_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CannedResponseCreated {
    /// The new response.
    pub canned_response_id: CannedResponseId,
    /// What an agent types for it, unique among the living of the tenant.
    pub shortcut: String,
    /// What it becomes.
    pub text: String,
    /// For one department only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<GroupId>,
}

/// Fields of `canned_response_updated`; absent ones stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CannedResponseUpdated {
    /// The response.
    pub canned_response_id: CannedResponseId,
    /// New shortcut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<String>,
    /// New text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// New department; `null` gives it to all.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub group_id: Option<Option<GroupId>>,
}

/// What can be deleted and restored the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case", deny_unknown_fields)]
pub enum Resource {
    /// A department.
    Group(GroupId),
    /// A tag of the tenant's list.
    Tag(TagId),
    /// A canned response.
    CannedResponse(CannedResponseId),
    /// A widget.
    Chatbot(ChatbotId),
}

impl Resource {
    /// Its kind, for people.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Group(_) => "group",
            Self::Tag(_) => "tag",
            Self::CannedResponse(_) => "canned response",
            Self::Chatbot(_) => "chatbot",
        }
    }
}

/// Fields of `resource_deleted`: `kind` and `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceDeleted(pub Resource);

/// Fields of `resource_restored`: `kind` and `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceRestored(pub Resource);
