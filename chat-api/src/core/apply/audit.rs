//! The audit log: a line for every event that changes who may do what, or how the tenant is set up.
//!
//! It follows from the event alone, so a replay makes it again. What may be shown is listed by name: a field that
//! nobody listed shows up by its name only, so a new secret can't slip in.

use crate::core::state::{AuditEntry, State};
use ingest::event::Event;
use ingest::payload::{Payload, Resource};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The beginnings of event types that are audited; what follows is what was done.
const SUBJECTS: [&str; 15] = [
    "tenant_",
    "agent_",
    "ownership_",
    "role_",
    "group_",
    "tag_",
    "canned_response_",
    "chatbot_",
    "token_",
    "password_",
    "challenge_",
    "invitation_",
    "session_",
    "data_source_",
    "pipe_",
];
/// Audited types of visitors; others are everyday business.
const VISITORS: [&str; 5] =
    ["visitor_merged", "visitor_blocked", "visitor_unblocked", "visitor_erased", "visitor_updated"];
/// Everyday business all the same.
const EVERYDAY: [&str; 3] = ["agent_status_changed", "session_refreshed", "session_renewed"];
/// Ids that say whom an event is about, the most telling first, with the kind of thing they name.
const ABOUT: [(&str, &str); 16] = [
    ("toAgentId", "agent"),
    ("targetVisitorId", "visitor"),
    ("visitorId", "visitor"),
    ("agentId", "agent"),
    ("roleId", "role"),
    ("groupId", "group"),
    ("tagId", "tag"),
    ("cannedResponseId", "canned_response"),
    ("chatbotId", "chatbot"),
    ("tokenId", "token"),
    ("invitationId", "invitation"),
    ("challengeId", "challenge"),
    ("sessionId", "session"),
    ("sourceId", "data_source"),
    ("pipeId", "pipe"),
    ("tenantId", "tenant"),
];
/// Fields whose values are shown beside ids.
const SHOWN: [&str; 28] = [
    "role",
    "customRole",
    "permissions",
    "allow",
    "deny",
    "skills",
    "maxConcurrentChats",
    "kind",
    "reason",
    "expiresAt",
    "sourceVisitorId",
    "targetVisitorId",
    "mergedAt",
    "fromAgentId",
    "toAgentId",
    "agentIds",
    "add",
    "remove",
    "timeZone",
    "sessionHours",
    "standbyMinutes",
    "idleMinutes",
    "autoCloseDays",
    "requireEmail",
    "metricsVersion",
    "allowedOrigins",
    "routingStrategy",
    "isDefault",
];

pub(super) fn apply(state: &mut State, event: &Event) {
    if event.conversation.is_some() || event.origin != ingest::event::Origin::Live {
        return;
    }
    let resource = resource(&event.payload);
    let named = resource.map(|(kind, done, _)| format!("{kind}.{done}"));
    let Some(kind) = named.or_else(|| audited(event.payload.kind())) else { return };
    let body: Value = serde_json::from_str(&event.encode()).unwrap_or_default();
    let data = body.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
    let id = |name: &str| data.get(name).and_then(Value::as_str).and_then(|text| Uuid::parse_str(text).ok());
    let about = ABOUT.iter().find_map(|(name, kind)| Some((id(name)?, *kind)));
    let about = resource.map(|(kind, _, id)| (id, kind)).or(about);
    let details: Map<String, Value> =
        data.iter().filter(|(name, _)| SHOWN.contains(&name.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect();
    state.audit.push(AuditEntry {
        id: event.id,
        tenant: event.tenant,
        at: event.recorded_at,
        actor: event.actor,
        kind,
        about_kind: about.map(|(_, kind)| kind.to_owned()),
        about: about.map(|(id, _)| id),
        fields: data.keys().cloned().collect(),
        details,
    });
}

/// What was deleted or restored, of those things that go the same way: its kind, what was done, its id.
fn resource(payload: &Payload) -> Option<(&'static str, &'static str, Uuid)> {
    let (resource, done) = match payload {
        Payload::ResourceDeleted(change) => (change.0, "deleted"),
        Payload::ResourceRestored(change) => (change.0, "restored"),
        _ => return None,
    };
    Some(match resource {
        Resource::Group(id) => ("group", done, id.0),
        Resource::Tag(id) => ("tag", done, id.0),
        Resource::CannedResponse(id) => ("canned_response", done, id.0),
        Resource::Chatbot(id) => ("chatbot", done, id.0),
    })
}

/// `agent_updated` as `agent.updated`; none for what isn't audited.
fn audited(kind: &str) -> Option<String> {
    if EVERYDAY.contains(&kind) {
        return None;
    }
    if VISITORS.contains(&kind) {
        return Some(kind.replacen('_', ".", 1));
    }
    SUBJECTS.iter().find_map(|subject| {
        let done = kind.strip_prefix(subject)?;
        Some(format!("{}.{done}", subject.trim_end_matches('_')))
    })
}
