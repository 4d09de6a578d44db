//! Agents: `/v1/agents`.

use super::check;
use super::extract::{Id, Params, Write, page_size, require};
use super::page::{Page, after_id};
use super::problem::{Outcome, Problem};
use super::tenants::MAX_CONCURRENT_CHATS;
use super::write::{self, Sealer, command};
use crate::app::App;
use crate::auth::{AgentCaller, passwords};
use crate::core::CommandKind;
use crate::core::command::NewAgent;
use crate::core::state::Agent;
use crate::import::email_hmac;
use crate::store::read;
use crate::view::AgentView;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use ingest::id::{AgentId, TenantId};
use ingest::payload::{AgentStatus, Permission, Role};
use serde::Deserialize;
use std::sync::Arc;

/// Chats at once that an agent can be given.
const CHATS_MAX: u32 = 1_000;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/agents", post(create).get(list))
        .route("/v1/agents/{id}", get(show).patch(change))
        .route("/v1/agents/{id}/status", put(set_status))
}

/// An agent of the tenant.
pub(super) fn agent(app: &App, tenant: TenantId, id: AgentId) -> Outcome<Agent> {
    app.pool.read(|connection| read::agent(connection, tenant, id))?.ok_or_else(|| Problem::not_found("agent"))
}

fn view(app: &App, tenant: TenantId, id: AgentId) -> Outcome<Json<AgentView>> {
    Ok(Json(app.views.agent(&agent(app, tenant, id)?)?))
}

fn capacity(value: Option<u32>) -> Outcome<Option<u32>> {
    match value {
        Some(chats) if chats > CHATS_MAX => {
            Err(Problem::invalid("maxConcurrentChats", format!("'maxConcurrentChats' is at most {CHATS_MAX}")))
        }
        value => Ok(value),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Create {
    name: String,
    email: String,
    password: String,
    role: Option<Role>,
    max_concurrent_chats: Option<u32>,
}

async fn create(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    write: Write<Create>,
) -> Outcome<(StatusCode, Json<AgentView>)> {
    // Before the hash is computed: it isn't cheap.
    require(&caller, Permission::AgentsWrite, "add agents")?;
    let body = &write.body;
    let name = check::name("name", &body.name)?;
    let email = check::email("email", &body.email)?;
    check::password("password", &body.password)?;
    let role = body.role.unwrap_or(Role::Agent);
    let max_concurrent_chats = capacity(body.max_concurrent_chats)?.unwrap_or(MAX_CONCURRENT_CHATS);
    // Without the password: a fast hash of it must not be stored anywhere.
    let told = format!("create agent\n{name}\n{email}\n{}\n{max_concurrent_chats}", role.as_str());
    let request = write.request_as(&app, caller.sender(), told.as_bytes());
    let password_hash = Some(passwords::hash(body.password.clone()).await?);

    let agent_id = AgentId::fresh();
    let sealer = Sealer::for_new(&app, agent_id)?;
    let new = NewAgent {
        agent_id,
        name: sealer.seal(&name)?,
        email: Some(sealer.seal(&email)?),
        email_hmac: Some(email_hmac(&app.key_file, &email)),
        password_hash,
        role,
        max_concurrent_chats,
        external_id: None,
    };
    let command = command(caller.tenant, caller.actor(), request, CommandKind::CreateAgent(new));
    let answer = write::submit(&app, sealer.submission(command)).await?;
    let id = answer.repeated.and_then(|record| record.resource).map_or(agent_id, AgentId);
    Ok((StatusCode::CREATED, view(&app, caller.tenant, id)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    pub(super) limit: Option<usize>,
    pub(super) cursor: Option<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Json<Page<AgentView>>> {
    let limit = page_size(params.limit)?;
    let agents = app.pool.read(|connection| read::agents(connection, caller.tenant))?;
    let after = after_id(params.cursor.as_deref())?;
    let page = Page::by_id(agents, after, limit, |agent| agent.id.0);
    Ok(Json(page.try_map(|agent| app.views.agent(&agent))?))
}

async fn show(State(app): State<Arc<App>>, caller: AgentCaller, Id(id): Id<AgentId>) -> Outcome<Json<AgentView>> {
    view(&app, caller.tenant, id)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    name: Option<String>,
    role: Option<Role>,
    max_concurrent_chats: Option<u32>,
}

async fn change(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<AgentId>,
    write: Write<Change>,
) -> Outcome<Json<AgentView>> {
    agent(&app, caller.tenant, id)?;
    let body = &write.body;
    let name = body.name.as_deref().map(|name| check::name("name", name)).transpose()?;
    let sealer = Sealer::for_known(&app, id)?;
    let kind = CommandKind::UpdateAgent {
        agent_id: id,
        name: sealer.seal_option(name.as_deref())?,
        role: body.role,
        max_concurrent_chats: capacity(body.max_concurrent_chats)?,
    };
    let command = command(caller.tenant, caller.actor(), write.request(&app, caller.sender()), kind);
    write::submit(&app, sealer.submission(command)).await?;
    view(&app, caller.tenant, id)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SetStatus {
    status: AgentStatus,
    accepting_chats: Option<bool>,
}

async fn set_status(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(agent_id): Id<AgentId>,
    write: Write<SetStatus>,
) -> Outcome<Json<AgentView>> {
    let SetStatus { status, accepting_chats } = write.body;
    let kind = CommandKind::SetAgentStatus { agent_id, status, accepting_chats };
    let request = write.request(&app, caller.sender());
    write::submit(&app, command(caller.tenant, caller.actor(), request, kind)).await?;
    view(&app, caller.tenant, agent_id)
}
