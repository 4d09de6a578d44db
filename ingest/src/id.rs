//! Ids: UUIDv7 newtypes, so that a conversation's id can't be passed where a tenant's is expected.
//! Fresh ids are made at the edge (they arrive in commands); derived ids come from their cause, see [`derive_uuid`].

use ring::digest::{Context, SHA256};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::{InstanceType, Schema, SchemaObject};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
pub use uuid::Uuid;

/// Text that isn't an id of this kind. The route that got it answers 404, as for an unknown id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read {kind} id: expected a UUID")]
pub struct InvalidId {
    /// The kind of id that was expected, for example `conversation`.
    pub kind: &'static str,
}

/// The JSON schema of a text in a format, for example `uuid`.
pub(crate) fn text_of(format: &str) -> Schema {
    let kind = Some(InstanceType::String.into());
    SchemaObject { instance_type: kind, format: Some(format.to_owned()), ..SchemaObject::default() }.into()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new UUIDv7. Not for the pure core: ids arrive in the command.
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id that follows from its cause; the same parts give the same id on every replay.
            #[must_use]
            pub fn derived(parts: &[&[u8]]) -> Self {
                Self(derive_uuid($kind, parts))
            }

            /// The 16 bytes, as stored in key columns.
            #[must_use]
            pub fn bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // Only the hyphenated form: one id has one spelling in logs, caches and URLs.
                if text.len() != 36 {
                    return Err(InvalidId { kind: $kind });
                }
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { kind: $kind })
            }
        }

        impl JsonSchema for $name {
            fn is_referenceable() -> bool {
                false
            }

            fn schema_name() -> String {
                stringify!($name).to_owned()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                text_of("uuid")
            }
        }
    )*};
}

ids! {
    /// A customer of the installation; owns everything else.
    TenantId = "tenant";
    /// A tenant's user.
    AgentId = "agent";
    /// A person who writes through a widget.
    VisitorId = "visitor";
    /// Whoever a sealed text is about: a visitor or an agent, by the same UUID.
    PersonId = "person";
    /// An embeddable widget with an API key.
    ChatbotId = "chatbot";
    /// A department with a routing strategy.
    GroupId = "group";
    /// A conversation between one visitor and the tenant.
    ConversationId = "conversation";
    /// A phase of a conversation.
    ThreadId = "thread";
    /// One event of the log.
    EventId = "event";
    /// A `/v0` API token.
    TokenId = "token";
    /// An agent's signed-in session (a family of refresh tokens).
    SessionId = "session";
    /// A requested e-mail.
    MailId = "mail";
    /// A custom role of a tenant.
    RoleId = "role";
    /// A tag of a tenant's list.
    TagId = "tag";
    /// A canned response.
    CannedResponseId = "canned response";
    /// An invitation to join a tenant.
    InvitationId = "invitation";
    /// A one-time code or link that was mailed.
    ChallengeId = "challenge";
    /// A file of a conversation.
    FileId = "file";
    /// A data source of a tenant.
    DataSourceId = "data source";
    /// An endpoint of a tenant.
    PipeId = "pipe";
}

impl From<VisitorId> for PersonId {
    fn from(id: VisitorId) -> Self {
        Self(id.0)
    }
}

impl From<AgentId> for PersonId {
    fn from(id: AgentId) -> Self {
        Self(id.0)
    }
}

/// A UUIDv7-shaped id from SHA-256 over length-prefixed parts; its time field is zero, so it sorts first.
#[must_use]
pub fn derive_uuid(kind: &str, parts: &[&[u8]]) -> Uuid {
    let mut hash = Context::new(&SHA256);
    for part in std::iter::once(kind.as_bytes()).chain(parts.iter().copied()) {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finish();
    let mut bytes = [0_u8; 16];
    bytes[6..].copy_from_slice(&digest.as_ref()[..10]);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Part boundaries count: ("ab", "c") and ("a", "bc") are different causes.
    #[test]
    fn derived_ids_depend_on_every_part_and_boundary() {
        let id = |parts: &[&[u8]]| EventId::derived(parts);
        assert_eq!(id(&[b"ab", b"c"]), id(&[b"ab", b"c"]));
        assert_ne!(id(&[b"ab", b"c"]), id(&[b"a", b"bc"]));
        assert_ne!(EventId::derived(&[b"x"]).0, MailId::derived(&[b"x"]).0);
        assert_eq!(id(&[b"x"]).0.get_version_num(), 7);
    }

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        let id = TenantId::fresh();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.0.simple().to_string().parse::<TenantId>().is_err());
        assert!("nonsense".parse::<TenantId>().is_err());
    }
}
