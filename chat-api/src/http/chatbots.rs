//! Chatbots: `/v1/chatbots`. The API key is public, and shown to who manages chatbots; the identity secret is shown when it's
//! made, to who may see what it opens, and never again.

use super::extract::{Id, Nothing, Params, Write, require, require_to_give};
use super::page::{Held, Page};
use super::problem::{Outcome, Problem};
use super::resource::{self, ListParams, made_id};
use super::surface::describe::may_lack;
use super::surface::{AGENT, Routes, Way};
use crate::app::App;
use crate::auth::{AgentCaller, identity, tokens};
use crate::check;
use crate::core::CommandKind;
use crate::core::grants::Grant;
use crate::core::state::Chatbot;
use crate::store::read;
use crate::view::{ChatbotStatusView, ChatbotView};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ingest::id::{ChatbotId, GroupId, TenantId};
use ingest::payload::{ChatbotCreated, ChatbotUpdated, Permission, Resource, present};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// First words unless the tenant has its own.
const GREETING: &str = "Hi! How can we help?";
/// Said while waiting unless the tenant has its own.
const WAITING_TEXT: &str = "An agent will join shortly.";

pub(super) fn routes() -> Routes {
    const WRITE: &[Way] = &[Way::May(Permission::ChatbotsWrite)];
    const STATUS: &[Way] = &[Way::May(Permission::ChatbotsWrite), Way::May(Permission::ReportsRead)];
    Routes::new("Chatbots")
        .post("/v1/chatbots", create, WRITE, "Makes a chatbot; its identity secret is shown once.")
        .get("/v1/chatbots", list, AGENT, "The tenant's chatbots; with `deleted` the deleted ones.")
        .get("/v1/chatbots/{id}", show, AGENT, "One chatbot.")
        .patch("/v1/chatbots/{id}", change, WRITE, "Changes a chatbot.")
        .delete("/v1/chatbots/{id}", delete, WRITE, "Deletes a chatbot: its key and its sessions stop working.")
        .post("/v1/chatbots/{id}/restore", restore, WRITE, "Brings a deleted chatbot back.")
        .post("/v1/chatbots/{id}/rotate-key", rotate_key, WRITE, "Replaces the key, or the identity secret.")
        .get("/v1/chatbots/{id}/status", status, STATUS, "When it was last seen, its sessions and errors.")
}

fn chatbot(app: &App, tenant: TenantId, id: ChatbotId) -> Outcome<Chatbot> {
    let found = app.pool.read(|connection| read::chatbot(connection, tenant, id))?;
    found.ok_or_else(|| Problem::not_found("chatbot"))
}

/// A chatbot as the caller may see it.
fn shown(caller: &AgentCaller, chatbot: &Chatbot) -> ChatbotView {
    let view = ChatbotView::from(chatbot);
    if caller.may(Permission::ChatbotsWrite) { view } else { ChatbotView { api_key: None, ..view } }
}

fn view(app: &App, caller: &AgentCaller, id: ChatbotId) -> Outcome<Json<ChatbotView>> {
    Ok(Json(shown(caller, &chatbot(app, caller.tenant, id)?)))
}

/// The chatbot's identity secret, if the caller may have it: it opens the conversations of whomever it's used to name.
fn secret(app: &App, caller: &AgentCaller, chatbot: &Chatbot) -> Option<String> {
    require_to_give(caller, Grant::IdentitySecret).ok()?;
    Some(identity::secret(&app.key_file, chatbot.id, chatbot.secret_version))
}

fn group(id: &str) -> Outcome<GroupId> {
    id.parse().map_err(|_| Problem::not_found("group").at("defaultGroupId"))
}

fn theme(object: &Map<String, Value>) -> Outcome<Map<String, Value>> {
    check::metadata("theme", object)?;
    Ok(object.clone())
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    allowed_origins: Vec<String>,
    greeting: Option<String>,
    waiting_text: Option<String>,
    #[serde(default)]
    theme: Map<String, Value>,
    default_group_id: Option<String>,
}

/// A chatbot with the secret that was just made.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ChatbotWithSecret")]
struct WithSecret {
    #[serde(flatten)]
    chatbot: ChatbotView,
    /// Not in the answer to a repeat: it's shown once. Nor for who may not see all conversations and visitors: it opens them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<String>")]
    identity_secret: Option<String>,
}

async fn create(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    write: Write<Create>,
) -> Outcome<(StatusCode, Json<WithSecret>)> {
    let body = &write.body;
    let chatbot_id = ChatbotId::fresh();
    let made = ChatbotCreated {
        chatbot_id,
        name: check::name("name", &body.name)?,
        api_key: tokens::new_chatbot_key()?,
        allowed_origins: check::origins("allowedOrigins", &body.allowed_origins)?,
        greeting: check::text("greeting", body.greeting.as_deref().unwrap_or(GREETING))?,
        waiting_text: check::text("waitingText", body.waiting_text.as_deref().unwrap_or(WAITING_TEXT))?,
        theme: theme(&body.theme)?,
        default_group_id: body.default_group_id.as_deref().map(group).transpose()?,
    };
    let repeated = resource::submit(&app, &caller, &write, CommandKind::CreateChatbot(made)).await?;
    let fresh = repeated.is_none();
    let chatbot = chatbot(&app, caller.tenant, ChatbotId(made_id(repeated, chatbot_id.0)))?;
    let identity_secret = if fresh { secret(&app, &caller, &chatbot) } else { None };
    Ok((StatusCode::CREATED, Json(WithSecret { chatbot: shown(&caller, &chatbot), identity_secret })))
}

async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Held<Page<ChatbotView>>> {
    resource::page(&app, &caller, &params, |chatbot: &Chatbot| Ok(Some(shown(&caller, chatbot)))).await
}

async fn show(State(app): State<Arc<App>>, caller: AgentCaller, Id(id): Id<ChatbotId>) -> Outcome<Json<ChatbotView>> {
    view(&app, &caller, id)
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    name: Option<String>,
    allowed_origins: Option<Vec<String>>,
    greeting: Option<String>,
    waiting_text: Option<String>,
    theme: Option<Map<String, Value>>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "present")]
    default_group_id: Option<Option<String>>,
}

async fn change(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(chatbot_id): Id<ChatbotId>,
    write: Write<Change>,
) -> Outcome<Json<ChatbotView>> {
    let body = &write.body;
    let origins = body.allowed_origins.as_deref();
    let change = ChatbotUpdated {
        chatbot_id,
        name: body.name.as_deref().map(|name| check::name("name", name)).transpose()?,
        allowed_origins: origins.map(|list| check::origins("allowedOrigins", list)).transpose()?,
        greeting: body.greeting.as_deref().map(|text| check::text("greeting", text)).transpose()?,
        waiting_text: body.waiting_text.as_deref().map(|text| check::text("waitingText", text)).transpose()?,
        theme: body.theme.as_ref().map(theme).transpose()?,
        default_group_id: match &body.default_group_id {
            Some(Some(id)) => Some(Some(group(id)?)),
            Some(None) => Some(None),
            None => None,
        },
    };
    resource::submit(&app, &caller, &write, CommandKind::UpdateChatbot(change)).await?;
    view(&app, &caller, chatbot_id)
}

/// Its key and its sessions stop working.
async fn delete(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<ChatbotId>,
    write: Write<Nothing>,
) -> Outcome<Json<ChatbotView>> {
    resource::submit(&app, &caller, &write, CommandKind::Delete(Resource::Chatbot(id))).await?;
    view(&app, &caller, id)
}

async fn restore(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<ChatbotId>,
    write: Write<Nothing>,
) -> Outcome<Json<ChatbotView>> {
    resource::submit(&app, &caller, &write, CommandKind::Restore(Resource::Chatbot(id))).await?;
    view(&app, &caller, id)
}

/// What is replaced.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Rotated {
    #[default]
    ApiKey,
    IdentitySecret,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rotate {
    #[serde(default)]
    what: Rotated,
}

async fn rotate_key(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(chatbot_id): Id<ChatbotId>,
    write: Write<Rotate>,
) -> Outcome<Json<WithSecret>> {
    let is_secret = write.body.what == Rotated::IdentitySecret;
    let api_key = if is_secret { None } else { Some(tokens::new_chatbot_key()?) };
    let kind = CommandKind::RotateChatbot { chatbot_id, api_key };
    let repeated = resource::submit(&app, &caller, &write, kind).await?;
    let chatbot = chatbot(&app, caller.tenant, chatbot_id)?;
    let identity_secret = if is_secret && repeated.is_none() { secret(&app, &caller, &chatbot) } else { None };
    Ok(Json(WithSecret { chatbot: shown(&caller, &chatbot), identity_secret }))
}

async fn status(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<ChatbotId>,
) -> Outcome<Json<ChatbotStatusView>> {
    if !caller.may(Permission::ReportsRead) {
        require(&caller, Permission::ChatbotsWrite, "read a chatbot's numbers")?;
    }
    let chatbot = chatbot(&app, caller.tenant, id)?;
    let requests = app.activity.requests(id);
    Ok(Json(ChatbotStatusView {
        last_seen: requests.last.max(chatbot.last_session_at),
        sessions: chatbot.sessions,
        errors: requests.errors,
        requests: requests.count,
        since: app.activity.since,
    }))
}
