//! What a person of a tenant may do: permissions, the built-in roles' sets of them, and what an agent has on top.

use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! permissions {
    ($($(#[doc = $doc:literal])* $variant:ident = $word:literal;)*) => {
        /// One thing that a role can hold.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Permission {
            $($(#[doc = $doc])* #[serde(rename = $word)] $variant,)*
        }

        impl Permission {
            /// Every permission, in the order of the API's list.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word in the API and the log.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// What it allows, as a sentence.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*).trim_ascii()),* }
            }
        }
    };
}

permissions! {
    /// Reads conversations of own groups, of no group, and own ones; notes and tags with them.
    ConversationsRead = "conversations:read";
    /// Reads all conversations of the tenant.
    ConversationsReadAll = "conversations:read_all";
    /// Writes, takes, resolves: works on the conversations that can be read; can be assigned to them.
    ConversationsReply = "conversations:reply";
    /// Assigns, transfers and takes away other agents' conversations; sets their status.
    ConversationsSteer = "conversations:steer";
    /// Reads the visitors of those conversations that can be read.
    VisitorsRead = "visitors:read";
    /// Changes, blocks and unblocks visitors of whom conversations can be read and replied to.
    VisitorsWrite = "visitors:write";
    /// Erases a person for good whose conversations can all be read.
    VisitorsErase = "visitors:erase";
    /// Reads the tenant's reports.
    ReportsRead = "reports:read";
    /// Manages the list of tags.
    TagsWrite = "tags:write";
    /// Manages canned responses.
    CannedResponsesWrite = "canned_responses:write";
    /// Manages groups, and who is in those whose conversations can be read.
    GroupsWrite = "groups:write";
    /// Manages chatbots.
    ChatbotsWrite = "chatbots:write";
    /// Invites, adds, changes and removes agents; sees their addresses.
    AgentsWrite = "agents:write";
    /// Manages custom roles, and gives them.
    RolesWrite = "roles:write";
    /// Changes the tenant's settings.
    SettingsWrite = "settings:write";
    /// Makes `/v0` tokens that do what oneself may; with reports, writes data sources and endpoints.
    TokensWrite = "tokens:write";
    /// Reads the audit log.
    AuditRead = "audit:read";
    /// Imports conversations.
    Import = "conversations:import";
    /// Exports all conversations, for who reads all.
    Export = "conversations:export";
    /// Pays.
    Billing = "billing:write";
    /// Hands the tenant to another owner.
    Ownership = "ownership:transfer";
}

/// A set of permissions; a list of words in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PermissionSet(u32);

impl PermissionSet {
    /// No permission.
    pub const NONE: Self = Self(0);

    /// Every permission.
    #[must_use]
    pub fn all() -> Self {
        Permission::ALL.iter().copied().collect()
    }

    /// Whether it holds a permission.
    #[must_use]
    pub fn has(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u32) != 0
    }

    /// Whether it holds all that another set holds.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets' permissions.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set's permissions that the other lacks.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Its permissions, in order.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.has(*permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, permission| bits | 1 << permission as u32))
    }
}

impl Serialize for PermissionSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for PermissionSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Permission>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl JsonSchema for PermissionSet {
    fn is_referenceable() -> bool {
        false
    }

    fn schema_name() -> String {
        "PermissionSet".to_owned()
    }

    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        Vec::<Permission>::json_schema(schemas)
    }
}

/// What an agent may do, built in; each includes those below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything but the tenant's administration.
    Viewer,
    /// Works on conversations of own groups.
    Agent,
    /// Sees and steers all conversations and reports of the tenant.
    Supervisor,
    /// All but billing and ownership.
    Admin,
    /// Everything.
    Owner,
}

impl Role {
    /// The word in the API and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Agent => "agent",
            Self::Supervisor => "supervisor",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// What the role holds.
    #[must_use]
    pub fn permissions(self) -> PermissionSet {
        use Permission as P;
        let agent = [P::ConversationsRead, P::ConversationsReply, P::VisitorsRead, P::VisitorsWrite];
        let supervisor =
            [P::ConversationsReadAll, P::ConversationsSteer, P::ReportsRead, P::TagsWrite, P::CannedResponsesWrite];
        match self {
            Self::Viewer => {
                [P::ConversationsRead, P::ConversationsReadAll, P::VisitorsRead, P::ReportsRead].into_iter().collect()
            }
            Self::Agent => agent.into_iter().collect(),
            Self::Supervisor => agent.into_iter().chain(supervisor).collect(),
            Self::Admin => PermissionSet::all().without([P::Billing, P::Ownership].into_iter().collect()),
            Self::Owner => PermissionSet::all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_grow_and_denials_win() {
        let set = |role: Role| role.permissions();
        assert!(set(Role::Owner).includes(set(Role::Admin)) && set(Role::Admin).includes(set(Role::Supervisor)));
        assert!(set(Role::Supervisor).includes(set(Role::Agent)));
        assert!(!set(Role::Viewer).has(Permission::ConversationsReply));
        assert!(!set(Role::Admin).has(Permission::Ownership));
        let reply: PermissionSet = [Permission::ConversationsReply].into_iter().collect();
        assert!(!set(Role::Agent).with(reply).without(reply).has(Permission::ConversationsReply));
        let json = serde_json::to_string(&reply).expect("JSON");
        assert_eq!(json, r#"["conversations:reply"]"#);
        assert_eq!(serde_json::from_str::<PermissionSet>(&json).expect("reads"), reply);
    }
}
