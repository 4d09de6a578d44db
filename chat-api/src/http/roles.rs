//! Custom roles and what they can hold: `/v1/roles`, `/v1/permissions`.

use super::extract::{Id, Nothing, Params, Write};
use super::page::{Held, Items, Page};
use super::problem::{Outcome, Problem};
use super::resource::{self, ListParams};
use super::surface::{AGENT, Routes, Way};
use super::write::{self, command};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::check;
use crate::core::CommandKind;
use crate::core::state::CustomRole;
use crate::store::read;
use crate::view::{PermissionView, RoleView};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ingest::id::{RoleId, TenantId};
use ingest::payload::{Permission, PermissionSet, Role, RoleCreated, RoleUpdated};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    const WRITE: &[Way] = &[Way::May(Permission::RolesWrite)];
    Routes::new("Roles")
        .get("/v1/permissions", permissions, AGENT, "What a role can hold.")
        .post("/v1/roles", create, WRITE, "Makes a custom role.")
        .get("/v1/roles", list, AGENT, "The tenant's custom roles; with `deleted` the deleted ones.")
        .get("/v1/roles/{id}", show, AGENT, "One custom role.")
        .patch("/v1/roles/{id}", change, WRITE, "Changes a custom role; its agents sign in again.")
        .delete("/v1/roles/{id}", remove, WRITE, "Deletes a custom role; its agents hold nothing by it.")
        .post("/v1/roles/{id}/restore", restore, WRITE, "Brings a deleted custom role back.")
}

/// A role as requests name it: a built-in one's name, or a custom one's id. Whether that one is there, the writer says.
pub(super) fn parse_role(text: &str) -> Outcome<(Role, Option<RoleId>)> {
    let built_in = [Role::Owner, Role::Admin, Role::Supervisor, Role::Agent, Role::Viewer];
    if let Some(role) = built_in.into_iter().find(|role| role.as_str() == text) {
        return Ok((role, None));
    }
    match text.parse() {
        // What the agent would be without the custom role; it counts for nothing as long as there is one.
        Ok(id) => Ok((Role::Agent, Some(id))),
        Err(_) => {
            let detail = "'role' is owner, admin, supervisor, agent, viewer, or a custom role's id";
            Err(Problem::invalid("role", detail))
        }
    }
}

fn view(app: &App, tenant: TenantId, id: RoleId) -> Outcome<Json<RoleView>> {
    let role = app.pool.read(|connection| read::role(connection, tenant, id))?;
    Ok(Json(RoleView::from(&role.ok_or_else(|| Problem::not_found("role"))?)))
}

async fn permissions(_: AgentCaller) -> Outcome<Json<Page<PermissionView>>> {
    let items: Vec<_> = Permission::ALL.iter().copied().map(PermissionView::from).collect();
    Ok(Json(Page { items: Items::fixed(&items)?, next_cursor: None }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    permissions: PermissionSet,
}

async fn create(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    write: Write<Create>,
) -> Outcome<(StatusCode, Json<RoleView>)> {
    let role_id = RoleId::fresh();
    let name = check::name("name", &write.body.name)?;
    let kind = CommandKind::CreateRole(RoleCreated { role_id, name, permissions: write.body.permissions });
    let request = write.request(&app, caller.sender());
    let answer = write::submit(&app, command(caller.tenant, caller.actor(), request, kind)).await?;
    let id = answer.repeated.and_then(|record| record.resource).map_or(role_id, RoleId);
    Ok((StatusCode::CREATED, view(&app, caller.tenant, id)?))
}

/// The living roles; with `deleted=true` the deleted ones.
async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Held<Page<RoleView>>> {
    resource::page(&app, &caller, &params, |role: &CustomRole| Ok(Some(RoleView::from(role)))).await
}

async fn show(State(app): State<Arc<App>>, caller: AgentCaller, Id(id): Id<RoleId>) -> Outcome<Json<RoleView>> {
    view(&app, caller.tenant, id)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    name: Option<String>,
    permissions: Option<PermissionSet>,
}

async fn change(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(role_id): Id<RoleId>,
    write: Write<Change>,
) -> Outcome<Json<RoleView>> {
    let name = write.body.name.as_deref().map(|name| check::name("name", name)).transpose()?;
    let kind = CommandKind::UpdateRole(RoleUpdated { role_id, name, permissions: write.body.permissions });
    submit(&app, &caller, &write, role_id, kind).await
}

async fn remove(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(role_id): Id<RoleId>,
    write: Write<Nothing>,
) -> Outcome<Json<RoleView>> {
    submit(&app, &caller, &write, role_id, CommandKind::DeleteRole { role_id }).await
}

async fn restore(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(role_id): Id<RoleId>,
    write: Write<Nothing>,
) -> Outcome<Json<RoleView>> {
    submit(&app, &caller, &write, role_id, CommandKind::RestoreRole { role_id }).await
}

async fn submit<T>(
    app: &App,
    caller: &AgentCaller,
    write: &Write<T>,
    id: RoleId,
    kind: CommandKind,
) -> Outcome<Json<RoleView>> {
    let request = write.request(app, caller.sender());
    write::submit(app, command(caller.tenant, caller.actor(), request, kind)).await?;
    view(app, caller.tenant, id)
}
