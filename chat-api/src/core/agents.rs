//! Who works for a tenant: agents are added, changed, removed, restored; the tenant changes hands.
//!
//! Two rules hold everywhere: nobody gives more permissions than they hold, or touches someone who holds more; and
//! owners are changed by owners only, the last one never.

use super::accounts::{give_back_all, set_agent_status};
use super::command::{Command, CommandKind as K, NewAgent};
use super::decide::{Emit, Rejection, require};
use super::grants::{self, Grant};
use super::reads::email_word;
use super::state::{Agent, State};
use ingest::event::Actor;
use ingest::id::{AgentId, RoleId};
use ingest::payload::{
    AgentDeleted, AgentRestored, AgentStatus, AgentStatusChanged, AgentUpdated, OwnershipTransferred, Permission,
    PermissionSet, Role,
};

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::CreateAgent(new) => create(state, command, new, emit)?,
        K::UpdateAgent { change, status, accepting_chats } => {
            update(state, command, change, emit)?;
            if status.is_some() || accepting_chats.is_some() {
                let agent = found(state, command, change.agent_id)?;
                let status = status.unwrap_or(agent.status);
                set_agent_status(state, command, agent.id, status, *accepting_chats, emit)?;
            }
        }
        K::DeleteAgent { agent_id } => delete(state, command, *agent_id, emit)?,
        K::RestoreAgent { agent_id } => restore(state, command, *agent_id, emit)?,
        K::TransferOwnership { agent_id } => transfer(state, command, *agent_id, emit)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn found<'a>(state: &'a State, command: &Command, id: AgentId) -> Result<&'a Agent, Rejection> {
    state.agent(command.tenant, id).ok_or_else(|| Rejection::not_found("agent"))
}

fn by_owner(state: &State, command: &Command) -> bool {
    match command.actor {
        Actor::Agent(id) => state.agent(command.tenant, id).is_some_and(Agent::is_owner),
        Actor::System | Actor::Operator => true,
        Actor::Visitor(_) => false,
    }
}

/// Refuses to give, or to touch someone who has, permissions that the one who asks doesn't hold.
pub(super) fn require_all(state: &State, command: &Command, permissions: PermissionSet) -> Result<(), Rejection> {
    grants::require(state, command, Grant::Permissions(permissions))
}

/// Refuses to let somebody into an agent's account who doesn't see the conversations of that agent's groups. The tenant's
/// roster has to be loaded.
fn require_groups(state: &State, command: &Command, agent: &Agent) -> Result<(), Rejection> {
    let groups = state.groups_of_tenant(agent.tenant).into_iter();
    let mut own = groups.filter(|group| group.deleted_at.is_none() && group.members.contains(&agent.id));
    own.try_for_each(|group| grants::require(state, command, Grant::Membership(group.id)))
}

/// What a role holds, after checking that it may be given: custom roles take a permission of their own.
pub(super) fn role_permissions(
    state: &State,
    command: &Command,
    role: Role,
    custom: Option<RoleId>,
) -> Result<PermissionSet, Rejection> {
    let Some(id) = custom else {
        if role == Role::Owner && !by_owner(state, command) {
            return Err(Rejection::forbidden("make owners").at("role"));
        }
        return Ok(role.permissions());
    };
    let found = state.role(command.tenant, id).filter(|role| role.deleted_at.is_none());
    let found = found.ok_or_else(|| Rejection::not_found("role").at("role"))?;
    require(state, command, Permission::RolesWrite, "give custom roles")?;
    Ok(found.permissions)
}

/// Refuses an address that a living agent of the tenant has.
pub(super) fn require_free(state: &State, command: &Command, email_hmac: &str) -> Result<(), Rejection> {
    if state.taken.contains(&email_word(command.tenant, email_hmac)) {
        return Err(Rejection::new(409, "email_taken", "an agent of this tenant has this address").at("email"));
    }
    Ok(())
}

fn create(state: &State, command: &Command, new: &NewAgent, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    require(state, command, Permission::AgentsWrite, "add agents")?;
    let details = &new.details;
    let role = role_permissions(state, command, new.role, details.custom_role)?;
    require_all(state, command, role.with(details.allow).without(details.deny))?;
    owner_is_whole(new.role, details.custom_role, details.allow, details.deny)?;
    if let Some(hmac) = &new.email_hmac {
        require_free(state, command, hmac)?;
    }
    emit.agent(new, emit.now());
    let status = details.status.unwrap_or(AgentStatus::Offline);
    let accepting_chats = details.accepting_chats.unwrap_or(true);
    if (status, accepting_chats) != (AgentStatus::Offline, true) {
        emit.tenant(AgentStatusChanged { agent_id: new.agent_id, status, accepting_chats });
    }
    Ok(())
}

/// An owner holds everything; exceptions could lock a tenant out of itself.
fn owner_is_whole(
    role: Role,
    custom: Option<RoleId>,
    allow: PermissionSet,
    deny: PermissionSet,
) -> Result<(), Rejection> {
    if role == Role::Owner && custom.is_none() && !(allow.is_empty() && deny.is_empty()) {
        let detail = "an owner holds every permission; make them an admin first";
        return Err(Rejection::new(422, "invalid_field", detail).at("permissions"));
    }
    Ok(())
}

/// What really changes.
fn difference(agent: &Agent, change: &AgentUpdated) -> AgentUpdated {
    let mut change = change.clone();
    if change.role == Some(agent.role) && change.custom_role == agent.custom_role {
        (change.role, change.custom_role) = (None, None);
    }
    change.allow = change.allow.filter(|allow| *allow != agent.allow);
    change.deny = change.deny.filter(|deny| *deny != agent.deny);
    change.max_concurrent_chats = change.max_concurrent_chats.filter(|chats| *chats != agent.max_concurrent_chats);
    change.skills = change.skills.filter(|skills| *skills != agent.skills);
    change.email_hmac = change.email_hmac.filter(|hmac| agent.email_hmac.as_ref() != Some(hmac));
    change
}

fn update(state: &State, command: &Command, change: &AgentUpdated, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let agent = found(state, command, change.agent_id)?;
    if agent.deleted_at.is_some() {
        return Err(Rejection::new(409, "agent_deleted", "this agent was removed; restore them first"));
    }
    let change = difference(agent, change);
    if change == AgentUpdated::nothing(agent.id) {
        return Ok(());
    }
    let own = command.actor == Actor::Agent(agent.id);
    // Name, phone and picture are one's own affair.
    let managed = change.ends_sessions()
        || change.email.is_some()
        || change.skills.is_some()
        || change.max_concurrent_chats.is_some();
    if !own || managed {
        require(state, command, Permission::AgentsWrite, "change agents")?;
    }
    if !own {
        require_reach(state, command, agent)?;
        // Whoever has the address gets in by it.
        if change.email.is_some() {
            require_groups(state, command, agent)?;
        }
    }
    if change.role.is_some() || change.allow.is_some() || change.deny.is_some() {
        change_rights(state, command, agent, &change)?;
    }
    if let Some(hmac) = &change.email_hmac {
        require_free(state, command, hmac)?;
    }
    emit.tenant(change);
    Ok(())
}

/// Refuses to touch an owner, or someone who holds more.
fn require_reach(state: &State, command: &Command, agent: &Agent) -> Result<(), Rejection> {
    if agent.role == Role::Owner && agent.custom_role.is_none() && !by_owner(state, command) {
        return Err(Rejection::forbidden("change owners"));
    }
    require_all(state, command, agent.permissions(state.role_of(agent)))
}

fn change_rights(state: &State, command: &Command, agent: &Agent, change: &AgentUpdated) -> Result<(), Rejection> {
    let (role, custom, held) = match change.role {
        Some(role) => (role, change.custom_role, role_permissions(state, command, role, change.custom_role)?),
        None => (agent.role, agent.custom_role, agent.role_permissions(state.role_of(agent))),
    };
    let (allow, deny) = (change.allow.unwrap_or(agent.allow), change.deny.unwrap_or(agent.deny));
    owner_is_whole(role, custom, allow, deny)?;
    require_all(state, command, held.with(allow).without(deny))?;
    if agent.is_owner() && change.role.is_some() {
        require_another_owner(state, command, agent)?;
    }
    Ok(())
}

fn require_another_owner(state: &State, command: &Command, agent: &Agent) -> Result<(), Rejection> {
    let roster = state.rosters.get(&command.tenant);
    let mut agents = roster.into_iter().flat_map(|roster| &roster.agents).filter_map(|id| state.agents.get(id));
    if agents.any(|other| other.id != agent.id && other.is_owner()) {
        return Ok(());
    }
    Err(Rejection::new(409, "last_owner", "this is the last owner; transfer the ownership first"))
}

fn delete(state: &State, command: &Command, id: AgentId, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let agent = found(state, command, id)?;
    require(state, command, Permission::AgentsWrite, "remove agents")?;
    if agent.deleted_at.is_some() {
        return Ok(());
    }
    require_reach(state, command, agent)?;
    if agent.is_owner() {
        require_another_owner(state, command, agent)?;
    }
    emit.tenant(AgentDeleted { agent_id: id });
    give_back_all(state, command, id, emit);
    Ok(())
}

fn restore(state: &State, command: &Command, id: AgentId, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let agent = found(state, command, id)?;
    require(state, command, Permission::AgentsWrite, "restore agents")?;
    if agent.deleted_at.is_none() {
        return Ok(());
    }
    require_reach(state, command, agent)?;
    require_groups(state, command, agent)?;
    if let Some(hmac) = &agent.email_hmac {
        require_free(state, command, hmac)?;
    }
    emit.tenant(AgentRestored { agent_id: id });
    Ok(())
}

fn transfer(state: &State, command: &Command, to: AgentId, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let Actor::Agent(from) = command.actor else { return Err(Rejection::forbidden("transfer the ownership")) };
    if !by_owner(state, command) {
        return Err(Rejection::forbidden("transfer the ownership"));
    }
    let heir = state.agent(command.tenant, to).filter(|agent| agent.deleted_at.is_none());
    let heir = heir.ok_or_else(|| Rejection::not_found("agent"))?;
    if to == from {
        return Ok(());
    }
    if heir.password_hash.is_none() {
        let detail = "this agent can't sign in yet; they have to set a password first";
        return Err(Rejection::new(409, "agent_without_password", detail).at("agentId"));
    }
    emit.tenant(OwnershipTransferred { from_agent_id: from, to_agent_id: to });
    Ok(())
}
