//! The event: an envelope around a [`Payload`], and its JSON form in the log.
//!
//! Pure. [`Event::encode`] gives the bytes that are hashed and stored, [`Event::decode`] reads them and refuses
//! what it doesn't know by name. Stream jobs read the same JSON with `json_get_*`.

use crate::id::{AgentId, ConversationId, EventId, TenantId, VisitorId};
use crate::payload::Payload;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The largest encoded event; a larger one is refused before anything is written.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// Where an event comes from. Imported events cause no assignment, mail, push, webhook or timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It happened here, as it was recorded.
    Live,
    /// It happened elsewhere, earlier.
    Import,
}

impl Origin {
    /// The word in the log and in the facts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Import => "import",
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum Actor {
    /// A visitor, through a widget session.
    Visitor(VisitorId),
    /// A person of the tenant.
    Agent(AgentId),
    /// A stream job or a timer of Parlance itself.
    System,
    /// Whoever runs the installation, through the command line or the operator token.
    Operator,
}

/// What made a job emit this event; replays and at-least-once delivery dedupe by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The job's name, as in its SQL file's header.
    pub job: String,
    /// The event whose row it was.
    pub event: EventId,
}

/// The idempotency key under which a command was sent; kept on the first event it caused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestKey {
    /// Whose key it is: keys are unique per sender, for example `visitor:0190…`.
    pub sender: String,
    /// The key as sent.
    pub key: String,
    /// Hex of the keyed hash of the request's body: another body under the same key is a mismatch.
    pub body: String,
}

/// One fact of the log. `seq` is gapless from 1 within a conversation and 0 for events outside of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Unique in the installation.
    pub id: EventId,
    /// The owner; from the credential, never from the request.
    pub tenant: TenantId,
    /// The conversation it belongs to, if any.
    pub conversation: Option<ConversationId>,
    /// Place in its conversation.
    pub seq: u64,
    /// When it happened; reports use this.
    pub occurred_at: Timestamp,
    /// When it was written here; time travel uses this.
    pub recorded_at: Timestamp,
    /// Live or imported.
    pub origin: Origin,
    /// Who did it.
    pub actor: Actor,
    /// The job row that led to it.
    pub cause: Option<Cause>,
    /// The idempotency key of the command.
    pub request: Option<RequestKey>,
    /// What happened.
    pub payload: Payload,
}

/// A stored event that can't be read. Never retry: the bytes or the version of Parlance are wrong.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the JSON of an event.
    #[error("failed to decode event: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A type this version doesn't know.
    #[error("failed to decode event: unknown type '{kind}' v{version}; it was written by a newer Parlance")]
    UnknownType {
        /// The type found.
        kind: String,
        /// Its version.
        version: u32,
    },
    /// A known type in a newer version.
    #[error("failed to decode event: '{kind}' v{version} is newer than v{newest}, the newest this Parlance reads")]
    UnknownVersion {
        /// The type found.
        kind: String,
        /// Its version.
        version: u32,
        /// The newest version known here.
        newest: u32,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeOut<'a, D: Serialize> {
    id: EventId,
    tenant: TenantId,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<ConversationId>,
    #[serde(skip_serializing_if = "is_zero")]
    seq: u64,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    origin: Origin,
    actor: Actor,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: &'a Option<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: &'a Option<RequestKey>,
    r#type: &'a str,
    v: u32,
    data: D,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(seq: &u64) -> bool {
    *seq == 0
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnvelopeIn<'a> {
    id: EventId,
    tenant: TenantId,
    conversation: Option<ConversationId>,
    #[serde(default)]
    seq: u64,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    origin: Origin,
    actor: Actor,
    cause: Option<Cause>,
    request: Option<RequestKey>,
    r#type: String,
    v: u32,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Event {
    /// The JSON that is stored and hashed; the same event gives the same bytes.
    #[must_use]
    pub fn encode(&self) -> String {
        struct Data<'a>(&'a Payload);
        impl Serialize for Data<'_> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize_data(serializer)
            }
        }
        let envelope = EnvelopeOut {
            id: self.id,
            tenant: self.tenant,
            conversation: self.conversation,
            seq: self.seq,
            occurred_at: self.occurred_at,
            recorded_at: self.recorded_at,
            origin: self.origin,
            actor: self.actor,
            cause: &self.cause,
            request: &self.request,
            r#type: self.payload.kind(),
            v: self.payload.version(),
            data: Data(&self.payload),
        };
        serde_json::to_string(&envelope).expect("an event's fields all have a JSON form")
    }

    /// Reads what [`encode`](Self::encode) wrote, in this or an earlier version.
    ///
    /// # Errors
    /// [`DecodeError`] names the type and version it doesn't know.
    pub fn decode(body: &str) -> Result<Self, DecodeError> {
        let envelope: EnvelopeIn = serde_json::from_str(body)?;
        Ok(Self {
            payload: Payload::decode(&envelope.r#type, envelope.v, envelope.data.get())?,
            id: envelope.id,
            tenant: envelope.tenant,
            conversation: envelope.conversation,
            seq: envelope.seq,
            occurred_at: envelope.occurred_at,
            recorded_at: envelope.recorded_at,
            origin: envelope.origin,
            actor: envelope.actor,
            cause: envelope.cause,
            request: envelope.request,
        })
    }
}
