//! What a tenant sets up: groups and their members, tags, canned responses, chatbots; deleting and restoring them.
//!
//! Names are unique among the living, whatever their case. What is deleted stays as it is until it's restored.

use super::command::{Command, CommandKind as K};
use super::decide::{Emit, Rejection, require};
use super::grants::{self, Grant};
use super::state::{CannedResponse, Chatbot, Group, State, Tag, name_key};
use ingest::id::{AgentId, CannedResponseId, ChatbotId, GroupId, TagId, TenantId};
use ingest::payload::{
    ChatbotRotated, GroupMembersChanged, GroupUpdated, Permission, Resource, ResourceDeleted, ResourceRestored,
};
use ingest::time::Timestamp;

/// Agents in a group.
const MEMBERS_MAX: usize = 1_000;

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::CreateGroup(_) | K::UpdateGroup(_) | K::ChangeMembers(_) => {
            require(state, command, Permission::GroupsWrite, "manage groups")?;
            groups(state, command, emit)?;
        }
        K::CreateTag(_) | K::UpdateTag(_) => {
            require(state, command, Permission::TagsWrite, "manage tags")?;
            tags(state, command, emit)?;
        }
        K::CreateCannedResponse(_) | K::UpdateCannedResponse(_) => {
            require(state, command, Permission::CannedResponsesWrite, "manage canned responses")?;
            canned_responses(state, command, emit)?;
        }
        K::CreateChatbot(_) | K::UpdateChatbot(_) | K::RotateChatbot { .. } => {
            require(state, command, Permission::ChatbotsWrite, "manage chatbots")?;
            chatbots(state, command, emit)?;
        }
        K::Delete(resource) => {
            if !deleted(state, command, *resource)? {
                if let Resource::Group(id) = resource {
                    require_opened_by_deletion(state, command, *id)?;
                }
                emit.tenant(ResourceDeleted(*resource));
            }
        }
        K::Restore(resource) => {
            if deleted(state, command, *resource)? {
                check_restored_name(state, command.tenant, *resource)?;
                emit.tenant(ResourceRestored(*resource));
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The refusal to change what is deleted.
fn is_deleted(what: &str) -> Rejection {
    Rejection::new(409, "deleted", format!("this {what} is deleted; restore it first"))
}

fn living<T>(found: Option<T>, deleted_at: impl Fn(&T) -> Option<Timestamp>, what: &str) -> Result<T, Rejection> {
    let found = found.ok_or_else(|| Rejection::not_found(what))?;
    if deleted_at(&found).is_some() { Err(is_deleted(what)) } else { Ok(found) }
}

fn tag(state: &State, tenant: TenantId, id: TagId) -> Option<&Tag> {
    state.tags.get(&id).filter(|found| found.tenant == tenant)
}

fn canned_response(state: &State, tenant: TenantId, id: CannedResponseId) -> Option<&CannedResponse> {
    state.canned_responses.get(&id).filter(|found| found.tenant == tenant)
}

fn chatbot(state: &State, tenant: TenantId, id: ChatbotId) -> Option<&Chatbot> {
    state.chatbots.get(&id).filter(|found| found.tenant == tenant)
}

/// Whether it's deleted; and whether the caller may delete and restore it.
fn deleted(state: &State, command: &Command, resource: Resource) -> Result<bool, Rejection> {
    let permission = match resource {
        Resource::Group(_) => Permission::GroupsWrite,
        Resource::Tag(_) => Permission::TagsWrite,
        Resource::CannedResponse(_) => Permission::CannedResponsesWrite,
        Resource::Chatbot(_) => Permission::ChatbotsWrite,
    };
    require(state, command, permission, &format!("manage {}s", resource.kind()))?;
    let tenant = command.tenant;
    let deleted_at = match resource {
        Resource::Group(id) => state.group(tenant, id).map(|found| found.deleted_at),
        Resource::Tag(id) => tag(state, tenant, id).map(|found| found.deleted_at),
        Resource::CannedResponse(id) => canned_response(state, tenant, id).map(|found| found.deleted_at),
        Resource::Chatbot(id) => chatbot(state, tenant, id).map(|found| found.deleted_at),
    };
    deleted_at.map(|at| at.is_some()).ok_or_else(|| Rejection::not_found(resource.kind()))
}

fn check_restored_name(state: &State, tenant: TenantId, resource: Resource) -> Result<(), Rejection> {
    match resource {
        Resource::Group(id) => {
            state.group(tenant, id).map_or(Ok(()), |group| check_group_name(state, tenant, &group.name, id))
        }
        Resource::Tag(id) => tag(state, tenant, id).map_or(Ok(()), |tag| check_tag_name(state, tenant, &tag.name, id)),
        Resource::CannedResponse(id) => canned_response(state, tenant, id)
            .map_or(Ok(()), |response| check_shortcut(state, tenant, &response.shortcut, id)),
        Resource::Chatbot(_) => Ok(()),
    }
}

fn taken(code: &'static str, what: &str, name: &str, field: &'static str) -> Rejection {
    Rejection::new(409, code, format!("there is a {what} '{name}' already")).at(field)
}

fn check_group_name(state: &State, tenant: TenantId, name: &str, own: GroupId) -> Result<(), Rejection> {
    let key = name_key(name);
    let same = |group: &&Group| group.id != own && group.deleted_at.is_none() && name_key(&group.name) == key;
    let groups = state.rosters.get(&tenant).into_iter().flat_map(|roster| &roster.groups);
    match groups.filter_map(|id| state.groups.get(id)).find(same) {
        Some(group) => Err(taken("name_taken", "group", &group.name, "name")),
        None => Ok(()),
    }
}

fn check_tag_name(state: &State, tenant: TenantId, name: &str, own: TagId) -> Result<(), Rejection> {
    let key = name_key(name);
    let mut living = state.tags.values().filter(|tag| tag.tenant == tenant && tag.deleted_at.is_none());
    match living.find(|tag| tag.id != own && name_key(&tag.name) == key) {
        Some(tag) => Err(taken("name_taken", "tag", &tag.name, "name")),
        None => Ok(()),
    }
}

fn check_shortcut(state: &State, tenant: TenantId, shortcut: &str, own: CannedResponseId) -> Result<(), Rejection> {
    let key = name_key(shortcut);
    let mut living = state.canned_responses.values().filter(|one| one.tenant == tenant && one.deleted_at.is_none());
    match living.find(|one| one.id != own && name_key(&one.shortcut) == key) {
        Some(one) => Err(taken("shortcut_taken", "canned response", &one.shortcut, "shortcut")),
        None => Ok(()),
    }
}

/// A group that is named in a field has to live.
fn check_group(state: &State, tenant: TenantId, id: Option<GroupId>, field: &'static str) -> Result<(), Rejection> {
    let lives = |id: GroupId| state.group(tenant, id).is_some_and(|group| group.deleted_at.is_none());
    if id.is_none_or(lives) { Ok(()) } else { Err(Rejection::not_found("group").at(field)) }
}

fn groups(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let tenant = command.tenant;
    let found = |id: GroupId| living(state.group(tenant, id), |group| group.deleted_at, "group");
    match &command.kind {
        K::CreateGroup(made) => {
            check_group_name(state, tenant, &made.name, made.group_id)?;
            emit.tenant(made.clone());
            if made.is_default {
                take_default(state, tenant, made.group_id, emit);
            }
        }
        K::UpdateGroup(change) => {
            let group = found(change.group_id)?;
            if change.is_default.is_some_and(|is_default| is_default != group.is_default) {
                require_orphaned(state, command)?;
            }
            if let Some(name) = &change.name {
                check_group_name(state, tenant, name, change.group_id)?;
            }
            if *change != GroupUpdated::nothing(change.group_id) {
                emit.tenant(change.clone());
            }
            if change.is_default == Some(true) {
                take_default(state, tenant, change.group_id, emit);
            }
        }
        K::ChangeMembers(change) => {
            let group = found(change.group_id)?;
            if !change.add.is_empty() {
                grants::require(state, command, Grant::Membership(group.id))?;
            }
            for id in &change.add {
                let agent = state.agent(tenant, *id).filter(|agent| agent.deleted_at.is_none());
                agent.ok_or_else(|| Rejection::not_found("agent").at("agentIds"))?;
            }
            for id in &change.remove {
                state.agent(tenant, *id).ok_or_else(|| Rejection::not_found("agent"))?;
            }
            let mut add: Vec<AgentId> = change.add.iter().filter(|id| !group.members.contains(id)).copied().collect();
            add.sort_unstable();
            add.dedup();
            let remove: Vec<AgentId> = change.remove.iter().filter(|id| group.members.contains(id)).copied().collect();
            if group.members.len() + add.len() > MEMBERS_MAX {
                let detail = format!("a group has at most {MEMBERS_MAX} agents");
                return Err(Rejection::new(422, "too_many_members", detail).at("agentIds"));
            }
            if !add.is_empty() || !remove.is_empty() {
                emit.tenant(GroupMembersChanged { group_id: group.id, add, remove });
            }
        }
        _ => {}
    }
    Ok(())
}

/// What was a deleted group's comes to the default group, and without one to everyone: whoever changes which that is opens it
/// to others.
fn require_orphaned(state: &State, command: &Command) -> Result<(), Rejection> {
    let groups = state.groups_of_tenant(command.tenant).into_iter();
    let mut deleted = groups.filter(|group| group.deleted_at.is_some());
    deleted.try_for_each(|group| grants::require(state, command, Grant::Membership(group.id)))
}

/// A deleted group's conversations come to others; when it was the default, so do those that had come to it.
fn require_opened_by_deletion(state: &State, command: &Command, id: GroupId) -> Result<(), Rejection> {
    grants::require(state, command, Grant::Membership(id))?;
    match state.group(command.tenant, id) {
        Some(group) if group.is_default => require_orphaned(state, command),
        _ => Ok(()),
    }
}

/// One default a tenant, the last one set; a deleted one loses the mark too, so that its restoring takes nothing back.
fn take_default(state: &State, tenant: TenantId, by: GroupId, emit: &mut Emit<'_>) {
    let groups = state.rosters.get(&tenant).into_iter().flat_map(|roster| &roster.groups);
    for group in groups.filter_map(|id| state.groups.get(id)).filter(|group| group.is_default && group.id != by) {
        emit.tenant(GroupUpdated { is_default: Some(false), ..GroupUpdated::nothing(group.id) });
    }
}

fn tags(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let tenant = command.tenant;
    match &command.kind {
        K::CreateTag(made) => {
            check_tag_name(state, tenant, &made.name, made.tag_id)?;
            emit.tenant(made.clone());
        }
        K::UpdateTag(change) => {
            living(tag(state, tenant, change.tag_id), |tag| tag.deleted_at, "tag")?;
            if let Some(name) = &change.name {
                check_tag_name(state, tenant, name, change.tag_id)?;
            }
            if change.name.is_some() || change.color.is_some() {
                emit.tenant(change.clone());
            }
        }
        _ => {}
    }
    Ok(())
}

fn canned_responses(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let tenant = command.tenant;
    match &command.kind {
        K::CreateCannedResponse(made) => {
            check_shortcut(state, tenant, &made.shortcut, made.canned_response_id)?;
            check_group(state, tenant, made.group_id, "groupId")?;
            emit.tenant(made.clone());
        }
        K::UpdateCannedResponse(change) => {
            let id = change.canned_response_id;
            living(canned_response(state, tenant, id), |one| one.deleted_at, "canned response")?;
            if let Some(shortcut) = &change.shortcut {
                check_shortcut(state, tenant, shortcut, id)?;
            }
            check_group(state, tenant, change.group_id.flatten(), "groupId")?;
            if change.shortcut.is_some() || change.text.is_some() || change.group_id.is_some() {
                emit.tenant(change.clone());
            }
        }
        _ => {}
    }
    Ok(())
}

fn chatbots(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let tenant = command.tenant;
    let found = |id: ChatbotId| living(chatbot(state, tenant, id), |chatbot| chatbot.deleted_at, "chatbot");
    match &command.kind {
        K::CreateChatbot(made) => {
            check_group(state, tenant, made.default_group_id, "defaultGroupId")?;
            emit.tenant(made.clone());
        }
        K::UpdateChatbot(change) => {
            found(change.chatbot_id)?;
            check_group(state, tenant, change.default_group_id.flatten(), "defaultGroupId")?;
            emit.tenant(change.clone());
        }
        K::RotateChatbot { chatbot_id, api_key } => {
            let chatbot = found(*chatbot_id)?;
            if api_key.is_none() {
                grants::require(state, command, Grant::IdentitySecret)?;
            }
            let secret_version = api_key.is_none().then_some(chatbot.secret_version + 1);
            emit.tenant(ChatbotRotated { chatbot_id: *chatbot_id, api_key: api_key.clone(), secret_version });
        }
        _ => {}
    }
    Ok(())
}
