//! `apply(state, event)`: the only thing that changes state. Pure; the same events give the same state.
//!
//! It never refuses: what is in the log has happened. An event about something that isn't loaded is skipped, which can
//! only be a roster or an agent's counters of a tenant that the command didn't name (see [`Reads`](super::command::Reads)).
//!
//! A file for each kind of entity; `mod.rs` asks each of them in turn.

mod accounts;
mod audit;
mod configuration;
mod conversations;
mod credentials;
mod mail;
mod sources;
mod timers;
mod visitors;

use super::state::{Key, RequestRecord, State};
use ingest::event::{Actor, Event};
use ingest::payload::Payload;
use uuid::Uuid;

/// Changes `state` by what happened.
pub fn apply(state: &mut State, event: &Event) {
    accounts::apply(state, event);
    configuration::apply(state, event);
    credentials::apply(state, event);
    audit::apply(state, event);
    visitors::apply(state, event);
    mail::apply(state, event);
    sources::apply(state, event);
    conversations::apply(state, event);
    if let Some(request) = &event.request {
        let record = RequestRecord {
            body: request.body.clone(),
            event: event.id,
            conversation: event.conversation,
            seq: event.seq,
            resource: resource_of(&event.payload),
            at: event.recorded_at,
        };
        state.requests.insert((request.sender.clone(), request.key.clone()), record);
        state.dirty.insert(Key::Request(request.sender.clone(), request.key.clone()));
    }
}

/// What an event made, for the answer to a repeated request.
fn resource_of(payload: &Payload) -> Option<Uuid> {
    match payload {
        Payload::AgentCreated(made) => Some(made.agent_id.0),
        Payload::RoleCreated(made) => Some(made.role_id.0),
        Payload::InvitationCreated(made) => Some(made.invitation_id.0),
        Payload::ChatbotCreated(made) => Some(made.chatbot_id.0),
        Payload::TokenCreated(made) => Some(made.token_id.0),
        Payload::GroupCreated(made) => Some(made.group_id.0),
        Payload::TagCreated(made) => Some(made.tag_id.0),
        Payload::CannedResponseCreated(made) => Some(made.canned_response_id.0),
        Payload::DataSourceCreated(made) => Some(made.source_id.0),
        Payload::PipePublished(made) => Some(made.pipe_id.0),
        Payload::VisitorCreated(made) => Some(made.visitor_id.0),
        _ => None,
    }
}

fn set<T: Clone>(field: &mut T, change: Option<&T>) {
    if let Some(value) = change {
        field.clone_from(value);
    }
}

/// `agent`, `visitor`, `system` or `operator`, for `closedBy`.
fn actor_word(actor: Actor) -> &'static str {
    match actor {
        Actor::Visitor(_) => "visitor",
        Actor::Agent(_) => "agent",
        Actor::System => "system",
        Actor::Operator => "operator",
    }
}
