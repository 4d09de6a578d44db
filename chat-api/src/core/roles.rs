//! Custom roles. Nobody makes, changes, deletes or restores one that holds more than they do.

use super::agents::require_all;
use super::command::{Command, CommandKind as K};
use super::decide::{Emit, Rejection, require};
use super::reads::role_word;
use super::state::{CustomRole, State};
use ingest::id::RoleId;
use ingest::payload::{Permission, RoleCreated, RoleDeleted, RoleRestored, RoleUpdated};

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::CreateRole(made) => create(state, command, made, emit)?,
        K::UpdateRole(change) => update(state, command, change, emit)?,
        K::DeleteRole { role_id } => {
            let role = found(state, command, *role_id)?;
            if role.deleted_at.is_none() {
                require_all(state, command, role.permissions)?;
                emit.tenant(RoleDeleted { role_id: *role_id });
            }
        }
        K::RestoreRole { role_id } => {
            let role = found(state, command, *role_id)?;
            if role.deleted_at.is_some() {
                require_all(state, command, role.permissions)?;
                require_free(state, command, &role.name)?;
                emit.tenant(RoleRestored { role_id: *role_id });
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn found<'a>(state: &'a State, command: &Command, id: RoleId) -> Result<&'a CustomRole, Rejection> {
    let role = state.role(command.tenant, id).ok_or_else(|| Rejection::not_found("role"))?;
    require(state, command, Permission::RolesWrite, "manage roles")?;
    Ok(role)
}

fn require_free(state: &State, command: &Command, name: &str) -> Result<(), Rejection> {
    if state.taken.contains(&role_word(command.tenant, name)) {
        return Err(Rejection::new(409, "name_taken", format!("there is a role named '{name}'")).at("name"));
    }
    Ok(())
}

fn create(state: &State, command: &Command, made: &RoleCreated, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    require(state, command, Permission::RolesWrite, "manage roles")?;
    require_all(state, command, made.permissions)?;
    require_free(state, command, &made.name)?;
    emit.tenant(made.clone());
    Ok(())
}

fn update(state: &State, command: &Command, change: &RoleUpdated, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let role = found(state, command, change.role_id)?;
    if role.deleted_at.is_some() {
        return Err(Rejection::new(409, "role_deleted", "this role was deleted; restore it first"));
    }
    let name = change.name.clone().filter(|name| *name != role.name);
    let permissions = change.permissions.filter(|permissions| *permissions != role.permissions);
    if name.is_none() && permissions.is_none() {
        return Ok(());
    }
    require_all(state, command, role.permissions.with(permissions.unwrap_or_default()))?;
    if let Some(name) = &name
        && role_word(command.tenant, name) != role_word(command.tenant, &role.name)
    {
        require_free(state, command, name)?;
    }
    emit.tenant(RoleUpdated { role_id: role.id, name, permissions });
    Ok(())
}
