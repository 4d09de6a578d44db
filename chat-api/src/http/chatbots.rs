//! Chatbots: `/v1/chatbots`. The API key is public; the identity secret is shown once.

use super::agents::ListParams;
use super::check;
use super::extract::{Id, Params, Write, page_size};
use super::page::{Page, after_id};
use super::problem::{Outcome, Problem};
use super::write::{self, command};
use crate::app::App;
use crate::auth::{AgentCaller, tokens};
use crate::core::CommandKind;
use crate::store::read;
use crate::view::ChatbotView;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use ingest::id::{ChatbotId, TenantId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// First words unless the tenant has its own.
const GREETING: &str = "Hi! How can we help?";
/// Said while waiting unless the tenant has its own.
const WAITING_TEXT: &str = "An agent will join shortly.";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/chatbots", post(create).get(list)).route("/v1/chatbots/{id}", get(show).patch(change))
}

fn view(app: &App, tenant: TenantId, id: ChatbotId) -> Outcome<ChatbotView> {
    let chatbot = app.pool.read(|connection| read::chatbot(connection, tenant, id))?;
    chatbot.as_ref().map(ChatbotView::from).ok_or_else(|| Problem::not_found("chatbot"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    allowed_origins: Vec<String>,
    greeting: Option<String>,
    waiting_text: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    #[serde(flatten)]
    chatbot: ChatbotView,
    /// Not in the answer to a repeat: it's shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_secret: Option<String>,
}

async fn create(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    write: Write<Create>,
) -> Outcome<(StatusCode, Json<Created>)> {
    let body = &write.body;
    let chatbot_id = ChatbotId::fresh();
    let kind = CommandKind::CreateChatbot {
        chatbot_id,
        name: check::name("name", &body.name)?,
        api_key: tokens::new_chatbot_key()?,
        allowed_origins: check::origins("allowedOrigins", &body.allowed_origins)?,
        greeting: check::text("greeting", body.greeting.as_deref().unwrap_or(GREETING))?,
        waiting_text: check::text("waitingText", body.waiting_text.as_deref().unwrap_or(WAITING_TEXT))?,
    };
    let request = write.request(&app, caller.sender());
    let answer = write::submit(&app, command(caller.tenant, caller.actor(), request, kind)).await?;
    let repeated = answer.repeated.and_then(|record| record.resource).map(ChatbotId);
    let chatbot = view(&app, caller.tenant, repeated.unwrap_or(chatbot_id))?;
    let identity_secret = repeated.is_none().then(|| app.key_file.lookup("identity", chatbot_id.bytes()));
    Ok((StatusCode::CREATED, Json(Created { chatbot, identity_secret })))
}

async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Json<Page<ChatbotView>>> {
    let limit = page_size(params.limit)?;
    let chatbots = app.pool.read(|connection| read::chatbots(connection, caller.tenant))?;
    let after = after_id(params.cursor.as_deref())?;
    let page = Page::by_id(chatbots, after, limit, |chatbot| chatbot.id.0);
    Ok(Json(page.try_map(|chatbot| Outcome::Ok(ChatbotView::from(&chatbot)))?))
}

async fn show(State(app): State<Arc<App>>, caller: AgentCaller, Id(id): Id<ChatbotId>) -> Outcome<Json<ChatbotView>> {
    Ok(Json(view(&app, caller.tenant, id)?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    name: Option<String>,
    allowed_origins: Option<Vec<String>>,
    greeting: Option<String>,
    waiting_text: Option<String>,
}

async fn change(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(chatbot_id): Id<ChatbotId>,
    write: Write<Change>,
) -> Outcome<Json<ChatbotView>> {
    let body = &write.body;
    let kind = CommandKind::UpdateChatbot {
        chatbot_id,
        name: body.name.as_deref().map(|name| check::name("name", name)).transpose()?,
        allowed_origins: body
            .allowed_origins
            .as_deref()
            .map(|list| check::origins("allowedOrigins", list))
            .transpose()?,
        greeting: body.greeting.as_deref().map(|text| check::text("greeting", text)).transpose()?,
        waiting_text: body.waiting_text.as_deref().map(|text| check::text("waitingText", text)).transpose()?,
    };
    let request = write.request(&app, caller.sender());
    write::submit(&app, command(caller.tenant, caller.actor(), request, kind)).await?;
    Ok(Json(view(&app, caller.tenant, chatbot_id)?))
}
