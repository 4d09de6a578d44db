//! Groups: `/v1/groups`, departments with a routing strategy, and who is in them.

use super::extract::{Id, Nothing, Params, Write};
use super::page::{Held, Page};
use super::problem::{Outcome, Problem};
use super::resource::{self, ListParams, made_id};
use super::surface::{AGENT, Routes, Way};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::check;
use crate::core::CommandKind;
use crate::core::state::Group;
use crate::store::read;
use crate::view::GroupView;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use ingest::id::{AgentId, GroupId, TenantId};
use ingest::payload::{GroupCreated, GroupMembersChanged, GroupUpdated, Permission, Resource, RoutingStrategy};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Agents of one request.
const AGENTS_MAX: usize = 1_000;

pub(super) fn routes() -> Routes {
    const WRITE: &[Way] = &[Way::May(Permission::GroupsWrite)];
    Routes::new("Groups")
        .post("/v1/groups", create, WRITE, "Makes a group.")
        .get("/v1/groups", list, AGENT, "The tenant's groups; with `deleted` the deleted ones.")
        .get("/v1/groups/{id}", show, AGENT, "One group.")
        .patch("/v1/groups/{id}", change, WRITE, "Changes a group.")
        .delete("/v1/groups/{id}", delete, WRITE, "Deletes a group.")
        .post("/v1/groups/{id}/restore", restore, WRITE, "Brings a deleted group back.")
        .post("/v1/groups/{id}/agents", add_agents, WRITE, "Puts agents into it.")
        .delete("/v1/groups/{id}/agents/{agentId}", remove_agent, WRITE, "Takes an agent out of it.")
}

fn view(app: &App, tenant: TenantId, id: GroupId) -> Outcome<Json<GroupView>> {
    let found = app.pool.read(|connection| read::group(connection, tenant, id))?;
    found.as_ref().map(|group| Json(GroupView::from(group))).ok_or_else(|| Problem::not_found("group"))
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    description: String,
    routing_strategy: Option<RoutingStrategy>,
    #[serde(default)]
    is_default: bool,
}

async fn create(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    write: Write<Create>,
) -> Outcome<(StatusCode, Json<GroupView>)> {
    let group_id = GroupId::fresh();
    let body = &write.body;
    let made = GroupCreated {
        group_id,
        name: check::name("name", &body.name)?,
        description: check::text("description", &body.description)?,
        routing_strategy: body.routing_strategy.unwrap_or(RoutingStrategy::LeastLoaded),
        is_default: body.is_default,
    };
    let repeated = resource::submit(&app, &caller, &write, CommandKind::CreateGroup(made)).await?;
    let id = GroupId(made_id(repeated, group_id.0));
    Ok((StatusCode::CREATED, view(&app, caller.tenant, id)?))
}

async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Held<Page<GroupView>>> {
    resource::page(&app, &caller, &params, |group: &Group| Ok(Some(GroupView::from(group)))).await
}

async fn show(State(app): State<Arc<App>>, caller: AgentCaller, Id(id): Id<GroupId>) -> Outcome<Json<GroupView>> {
    view(&app, caller.tenant, id)
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    name: Option<String>,
    description: Option<String>,
    routing_strategy: Option<RoutingStrategy>,
    is_default: Option<bool>,
}

async fn change(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(group_id): Id<GroupId>,
    write: Write<Change>,
) -> Outcome<Json<GroupView>> {
    let body = &write.body;
    let change = GroupUpdated {
        group_id,
        name: body.name.as_deref().map(|name| check::name("name", name)).transpose()?,
        description: body.description.as_deref().map(|text| check::text("description", text)).transpose()?,
        routing_strategy: body.routing_strategy,
        is_default: body.is_default,
    };
    resource::submit(&app, &caller, &write, CommandKind::UpdateGroup(change)).await?;
    view(&app, caller.tenant, group_id)
}

async fn delete(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<GroupId>,
    write: Write<Nothing>,
) -> Outcome<Json<GroupView>> {
    resource::submit(&app, &caller, &write, CommandKind::Delete(Resource::Group(id))).await?;
    view(&app, caller.tenant, id)
}

async fn restore(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<GroupId>,
    write: Write<Nothing>,
) -> Outcome<Json<GroupView>> {
    resource::submit(&app, &caller, &write, CommandKind::Restore(Resource::Group(id))).await?;
    view(&app, caller.tenant, id)
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AddAgents {
    agent_ids: Vec<String>,
}

async fn add_agents(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(group_id): Id<GroupId>,
    write: Write<AddAgents>,
) -> Outcome<Json<GroupView>> {
    let ids = &write.body.agent_ids;
    if ids.len() > AGENTS_MAX {
        return Err(Problem::invalid("agentIds", format!("'agentIds' has at most {AGENTS_MAX} entries")));
    }
    let parse = |id: &String| id.parse::<AgentId>().map_err(|_| Problem::not_found("agent").at("agentIds"));
    let add = ids.iter().map(parse).collect::<Outcome<Vec<_>>>()?;
    let change = GroupMembersChanged { group_id, add, remove: Vec::new() };
    resource::submit(&app, &caller, &write, CommandKind::ChangeMembers(change)).await?;
    view(&app, caller.tenant, group_id)
}

async fn remove_agent(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Path((group_id, agent_id)): Path<(String, String)>,
    write: Write<Nothing>,
) -> Outcome<Json<GroupView>> {
    let group_id = group_id.parse().map_err(|_| Problem::not_found("group"))?;
    let agent_id = agent_id.parse().map_err(|_| Problem::not_found("agent"))?;
    let change = GroupMembersChanged { group_id, add: Vec::new(), remove: vec![agent_id] };
    resource::submit(&app, &caller, &write, CommandKind::ChangeMembers(change)).await?;
    view(&app, caller.tenant, group_id)
}
