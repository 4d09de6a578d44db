//! Groups, tags, canned responses, chatbots; their deletion.

use super::set;
use crate::core::state::{CannedResponse, Chatbot, Group, Key, State, Tag};
use ingest::event::Event;
use ingest::payload::{Payload, Resource};
use ingest::time::Timestamp;
use std::collections::BTreeSet;

pub(super) fn apply(state: &mut State, event: &Event) {
    apply_group(state, event);
    apply_words(state, event);
    apply_chatbot(state, event);
    match &event.payload {
        Payload::ResourceDeleted(change) => set_deleted(state, change.0, event, Some(event.occurred_at)),
        Payload::ResourceRestored(change) => set_deleted(state, change.0, event, None),
        _ => {}
    }
}

fn set_deleted(state: &mut State, resource: Resource, event: &Event, deleted_at: Option<Timestamp>) {
    macro_rules! mark {
        ($map:ident, $key:ident, $id:expr) => {
            if let Some(found) = state.$map.get_mut(&$id) {
                found.deleted_at = deleted_at;
                found.updated_at = event.occurred_at;
                state.dirty.insert(Key::$key($id));
            }
        };
    }
    match resource {
        Resource::Group(id) => mark!(groups, Group, id),
        Resource::Tag(id) => mark!(tags, Tag, id),
        Resource::CannedResponse(id) => mark!(canned_responses, CannedResponse, id),
        Resource::Chatbot(id) => mark!(chatbots, Chatbot, id),
    }
}

fn apply_group(state: &mut State, event: &Event) {
    let (tenant, at) = (event.tenant, event.occurred_at);
    let id = match &event.payload {
        Payload::GroupCreated(made) => {
            let group = Group {
                id: made.group_id,
                tenant,
                name: made.name.clone(),
                description: made.description.clone(),
                strategy: made.routing_strategy,
                is_default: made.is_default,
                members: BTreeSet::new(),
                last_assigned: None,
                created_at: at,
                updated_at: at,
                deleted_at: None,
            };
            state.groups.insert(made.group_id, group);
            if let Some(roster) = state.rosters.get_mut(&tenant) {
                roster.groups.insert(made.group_id);
            }
            made.group_id
        }
        Payload::GroupUpdated(change) => {
            let Some(group) = state.groups.get_mut(&change.group_id) else { return };
            set(&mut group.name, change.name.as_ref());
            set(&mut group.description, change.description.as_ref());
            set(&mut group.strategy, change.routing_strategy.as_ref());
            set(&mut group.is_default, change.is_default.as_ref());
            group.updated_at = at;
            change.group_id
        }
        Payload::GroupMembersChanged(change) => {
            let Some(group) = state.groups.get_mut(&change.group_id) else { return };
            group.members.extend(change.add.iter().copied());
            group.members.retain(|agent| !change.remove.contains(agent));
            group.updated_at = at;
            change.group_id
        }
        // Whose turn it is goes by what happened here.
        Payload::AgentAssigned(assigned)
            if assigned.strategy == "round_robin" && event.origin == ingest::event::Origin::Live =>
        {
            let group = assigned.group_id.and_then(|id| state.groups.get_mut(&id));
            let Some(group) = group else { return };
            group.last_assigned = Some(assigned.agent_id);
            group.id
        }
        _ => return,
    };
    state.dirty.insert(Key::Group(id));
}

fn apply_words(state: &mut State, event: &Event) {
    let (tenant, at) = (event.tenant, event.occurred_at);
    match &event.payload {
        Payload::TagCreated(made) => {
            let tag = Tag {
                id: made.tag_id,
                tenant,
                name: made.name.clone(),
                color: made.color.clone(),
                created_at: at,
                updated_at: at,
                deleted_at: None,
            };
            state.tags.insert(made.tag_id, tag);
            state.dirty.insert(Key::Tag(made.tag_id));
        }
        Payload::TagUpdated(change) => {
            let Some(tag) = state.tags.get_mut(&change.tag_id) else { return };
            set(&mut tag.name, change.name.as_ref());
            set(&mut tag.color, change.color.as_ref());
            tag.updated_at = at;
            state.dirty.insert(Key::Tag(change.tag_id));
        }
        Payload::CannedResponseCreated(made) => {
            let response = CannedResponse {
                id: made.canned_response_id,
                tenant,
                shortcut: made.shortcut.clone(),
                text: made.text.clone(),
                group: made.group_id,
                created_at: at,
                updated_at: at,
                deleted_at: None,
            };
            state.canned_responses.insert(made.canned_response_id, response);
            state.dirty.insert(Key::CannedResponse(made.canned_response_id));
        }
        Payload::CannedResponseUpdated(change) => {
            let Some(response) = state.canned_responses.get_mut(&change.canned_response_id) else { return };
            set(&mut response.shortcut, change.shortcut.as_ref());
            set(&mut response.text, change.text.as_ref());
            set(&mut response.group, change.group_id.as_ref());
            response.updated_at = at;
            state.dirty.insert(Key::CannedResponse(change.canned_response_id));
        }
        _ => {}
    }
}

fn apply_chatbot(state: &mut State, event: &Event) {
    let (tenant, at) = (event.tenant, event.occurred_at);
    let id = match &event.payload {
        Payload::ChatbotCreated(made) => {
            let chatbot = Chatbot {
                id: made.chatbot_id,
                tenant,
                name: made.name.clone(),
                api_key: made.api_key.clone(),
                allowed_origins: made.allowed_origins.clone(),
                greeting: made.greeting.clone(),
                waiting_text: made.waiting_text.clone(),
                theme: made.theme.clone(),
                default_group: made.default_group_id,
                secret_version: 1,
                sessions: 0,
                last_session_at: None,
                created_at: at,
                updated_at: at,
                deleted_at: None,
            };
            state.chatbots.insert(made.chatbot_id, chatbot);
            made.chatbot_id
        }
        Payload::ChatbotUpdated(change) => {
            let Some(found) = state.chatbots.get_mut(&change.chatbot_id) else { return };
            set(&mut found.name, change.name.as_ref());
            set(&mut found.allowed_origins, change.allowed_origins.as_ref());
            set(&mut found.greeting, change.greeting.as_ref());
            set(&mut found.waiting_text, change.waiting_text.as_ref());
            set(&mut found.theme, change.theme.as_ref());
            set(&mut found.default_group, change.default_group_id.as_ref());
            found.updated_at = at;
            change.chatbot_id
        }
        Payload::ChatbotRotated(change) => {
            let Some(found) = state.chatbots.get_mut(&change.chatbot_id) else { return };
            set(&mut found.api_key, change.api_key.as_ref());
            set(&mut found.secret_version, change.secret_version.as_ref());
            found.updated_at = at;
            change.chatbot_id
        }
        Payload::ConversationStarted(made) => {
            let Some(found) = made.chatbot_id.and_then(|id| state.chatbots.get_mut(&id)) else { return };
            found.sessions += 1;
            found.last_session_at = Some(at);
            found.id
        }
        _ => return,
    };
    state.dirty.insert(Key::Chatbot(id));
}
