//! Agents: `/v1/agents`. A removed one stays, for the history and to be restored, and can't sign in.

use super::extract::{Id, Nothing, Params, Write, require};
use super::page::{Held, Page};
use super::problem::{Outcome, Problem};
use super::resource::{self, ListParams};
use super::roles::parse_role;
use super::stats;
use super::surface::{AGENT, Routes, Way};
use super::tenants::MAX_CONCURRENT_CHATS;
use super::write::{self, Sealer, command};
use crate::app::App;
use crate::auth::{AgentCaller, passwords};
use crate::check;
use crate::core::CommandKind;
use crate::core::command::{AgentDetails, NewAgent};
use crate::core::state::Agent;
use crate::import::email_hmac;
use crate::store::read;
use crate::view::AgentView;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ingest::id::{AgentId, TenantId};
use ingest::payload::{AgentStatus, AgentUpdated, Permission, PermissionSet, Role, present};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Chats at once that an agent can be given.
const CHATS_MAX: u32 = 1_000;

pub(super) fn routes() -> Routes {
    use Permission::{AgentsWrite, ConversationsSteer, ReportsRead};
    Routes::new("Agents")
        .post("/v1/agents", create, &[Way::May(AgentsWrite)], "Adds an agent.")
        .get("/v1/agents", list, AGENT, "The tenant's agents; with `deleted` the removed ones.")
        .get("/v1/agents/{id}", show, AGENT, "One agent.")
        .patch("/v1/agents/{id}", change, &[Way::Oneself, Way::May(AgentsWrite)], "Changes an agent.")
        .delete("/v1/agents/{id}", remove, &[Way::May(AgentsWrite)], "Removes an agent, who can be restored.")
        .post("/v1/agents/{id}/restore", restore, &[Way::May(AgentsWrite)], "Brings a removed agent back.")
        .get(
            "/v1/agents/{id}/stats",
            stats::show,
            &[Way::Oneself, Way::May(ReportsRead)],
            "What an agent has to do and has done.",
        )
        .put(
            "/v1/agents/{id}/status",
            set_status,
            &[Way::Oneself, Way::May(ConversationsSteer)],
            "Sets an agent's status.",
        )
}

/// An agent of the tenant, removed or not.
pub(super) fn agent(app: &App, tenant: TenantId, id: AgentId) -> Outcome<Agent> {
    app.pool.read(|connection| read::agent(connection, tenant, id))?.ok_or_else(|| Problem::not_found("agent"))
}

/// An agent as the caller may see them.
fn shown(app: &App, caller: &AgentCaller, agent: &Agent) -> Outcome<AgentView> {
    let view = app.views.agent(agent)?;
    Ok(if caller.sees_contacts_of(agent.id) { view } else { view.for_colleagues() })
}

fn view(app: &App, caller: &AgentCaller, id: AgentId) -> Outcome<Json<AgentView>> {
    Ok(Json(shown(app, caller, &agent(app, caller.tenant, id)?)?))
}

fn capacity(value: Option<u32>) -> Outcome<Option<u32>> {
    Ok(check::number("maxConcurrentChats", value, 0..=CHATS_MAX)?)
}

pub(super) fn skills(list: Option<&[String]>) -> Outcome<Option<BTreeSet<String>>> {
    let list = list.map(|list| check::tags("skills", list)).transpose()?;
    Ok(list.map(|list| list.into_iter().collect()))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Permissions {
    allow: Option<PermissionSet>,
    deny: Option<PermissionSet>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Create {
    name: String,
    email: String,
    password: String,
    phone: Option<String>,
    role: Option<String>,
    status: Option<AgentStatus>,
    accepting_chats: Option<bool>,
    max_concurrent_chats: Option<u32>,
    #[serde(default)]
    skills: Vec<String>,
    avatar: Option<String>,
    permissions: Option<Permissions>,
}

impl Create {
    /// What a repeat must say again: everything but the password, whose fast hash must not be stored anywhere.
    fn fingerprint(&self) -> String {
        let Self { name, email, phone, role, status, accepting_chats, max_concurrent_chats, skills, avatar, .. } = self;
        let permissions = self.permissions.as_ref().map(|set| (set.allow, set.deny));
        format!(
            "create agent {:?}",
            (name, email, phone, role, status, accepting_chats, max_concurrent_chats, skills, avatar, permissions)
        )
    }

    fn details(&self, sealer: &Sealer, role: Option<ingest::id::RoleId>) -> Outcome<AgentDetails> {
        let phone = check::optional_name("phone", self.phone.as_deref())?;
        let avatar = check::optional_url("avatar", self.avatar.as_deref())?;
        let set = |pick: fn(&Permissions) -> Option<PermissionSet>| {
            self.permissions.as_ref().and_then(pick).unwrap_or_default()
        };
        Ok(AgentDetails {
            custom_role: role,
            phone: sealer.seal_option(phone.as_deref())?,
            avatar: sealer.seal_option(avatar.as_deref())?,
            skills: check::tags("skills", &self.skills)?.into_iter().collect(),
            allow: set(|permissions| permissions.allow),
            deny: set(|permissions| permissions.deny),
            status: self.status,
            accepting_chats: self.accepting_chats,
        })
    }
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
    let (role, custom_role) = body.role.as_deref().map_or(Ok((Role::Agent, None)), parse_role)?;
    let max_concurrent_chats = capacity(body.max_concurrent_chats)?.unwrap_or(MAX_CONCURRENT_CHATS);
    let agent_id = AgentId::fresh();
    let sealer = Sealer::for_new(&app, agent_id)?;
    let details = body.details(&sealer, custom_role)?;
    let request = write.request_as(&app, caller.sender(), body.fingerprint().as_bytes());
    let email_hmac = email_hmac(&app.key_file, &email);
    let salt = passwords::Salt::of_address(&app.key_file, &email_hmac);
    let new = NewAgent {
        agent_id,
        name: sealer.seal(&name)?,
        email: Some(sealer.seal(&email)?),
        email_hmac: Some(email_hmac),
        password_hash: Some(passwords::hash(body.password.clone(), salt).await?),
        role,
        max_concurrent_chats,
        external_id: None,
        details,
    };
    let command = command(caller.tenant, caller.actor(), request, CommandKind::CreateAgent(new));
    let answer = write::submit(&app, sealer.submission(command)).await?;
    let id = answer.repeated.and_then(|record| record.resource).map_or(agent_id, AgentId);
    Ok((StatusCode::CREATED, view(&app, &caller, id)?))
}

/// The living agents; with `deleted=true` the removed ones.
async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Held<Page<AgentView>>> {
    resource::page(&app, &caller, &params, |agent: &Agent| shown(&app, &caller, agent).map(Some)).await
}

async fn show(State(app): State<Arc<App>>, caller: AgentCaller, Id(id): Id<AgentId>) -> Outcome<Json<AgentView>> {
    view(&app, &caller, id)
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    name: Option<String>,
    email: Option<String>,
    #[serde(default, deserialize_with = "present")]
    phone: Option<Option<String>>,
    role: Option<String>,
    status: Option<AgentStatus>,
    accepting_chats: Option<bool>,
    max_concurrent_chats: Option<u32>,
    skills: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    avatar: Option<Option<String>>,
    permissions: Option<Permissions>,
}

impl Change {
    fn checked(&self, app: &App, sealer: &Sealer, id: AgentId) -> Outcome<AgentUpdated> {
        let name = self.name.as_deref().map(|name| check::name("name", name)).transpose()?;
        let email = self.email.as_deref().map(|email| check::email("email", email)).transpose()?;
        let role = self.role.as_deref().map(parse_role).transpose()?;
        let seal = |text: Option<String>| sealer.seal_option(text.as_deref());
        let phone =
            self.phone.as_ref().map(|phone| seal(check::optional_name("phone", phone.as_deref())?)).transpose()?;
        let avatar =
            self.avatar.as_ref().map(|url| seal(check::optional_url("avatar", url.as_deref())?)).transpose()?;
        Ok(AgentUpdated {
            name: sealer.seal_option(name.as_deref())?,
            email: sealer.seal_option(email.as_deref())?,
            email_hmac: email.map(|email| email_hmac(&app.key_file, &email)),
            phone,
            avatar,
            role: role.map(|(role, _)| role),
            custom_role: role.and_then(|(_, custom)| custom),
            max_concurrent_chats: capacity(self.max_concurrent_chats)?,
            skills: skills(self.skills.as_deref())?,
            allow: self.permissions.as_ref().and_then(|permissions| permissions.allow),
            deny: self.permissions.as_ref().and_then(|permissions| permissions.deny),
            ..AgentUpdated::nothing(id)
        })
    }
}

async fn change(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<AgentId>,
    write: Write<Change>,
) -> Outcome<Json<AgentView>> {
    agent(&app, caller.tenant, id)?;
    let sealer = Sealer::for_known(&app, id)?;
    let kind = CommandKind::UpdateAgent {
        change: Box::new(write.body.checked(&app, &sealer, id)?),
        status: write.body.status,
        accepting_chats: write.body.accepting_chats,
    };
    submit(&app, &caller, &write, id, kind).await
}

async fn remove(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(agent_id): Id<AgentId>,
    write: Write<Nothing>,
) -> Outcome<Json<AgentView>> {
    submit(&app, &caller, &write, agent_id, CommandKind::DeleteAgent { agent_id }).await
}

async fn restore(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(agent_id): Id<AgentId>,
    write: Write<Nothing>,
) -> Outcome<Json<AgentView>> {
    submit(&app, &caller, &write, agent_id, CommandKind::RestoreAgent { agent_id }).await
}

#[derive(Deserialize, JsonSchema)]
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
    submit(&app, &caller, &write, agent_id, kind).await
}

async fn submit<T>(
    app: &App,
    caller: &AgentCaller,
    write: &Write<T>,
    id: AgentId,
    kind: CommandKind,
) -> Outcome<Json<AgentView>> {
    let request = write.request(app, caller.sender());
    write::submit(app, command(caller.tenant, caller.actor(), request, kind)).await?;
    view(app, caller, id)
}
