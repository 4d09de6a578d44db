//! `POST /chats`, `GET /chats/{chat_id}` and `PUT /agents/{agent_id}`: chats by snake_case.

use super::{Caller, Who, put_token, transcript, wait_for};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::check;
use crate::core::CommandKind;
use crate::core::state::{Chatbot, Conversation, Status};
use crate::http::agents;
use crate::http::extract::{Id, Write, require};
use crate::http::problem::{Outcome, Problem};
use crate::http::sessions::{self, StartSession};
use crate::http::surface::{Routes, Way};
use crate::http::write::{self, command};
use crate::store::read;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use ingest::id::{AgentId, ConversationId, TenantId};
use ingest::payload::{AgentUpdated, Permission};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    use Permission::ConversationsSteer;
    Routes::new("Chats (snake_case)")
        .post(
            "/chats",
            create,
            &[Way::ChatbotKey, Way::May(Permission::ConversationsReply)],
            "Starts a chat and waits up to a second for an agent.",
        )
        .get("/chats/{chat_id}", show, &[Way::Visitor, Way::Agent], "What was said in a chat.")
        .answers::<Transcript>(&[200])
        .put(
            "/agents/{agent_id}",
            change_agent,
            &[Way::Oneself, Way::May(ConversationsSteer)],
            "Sets whether an agent takes chats, and what they know.",
        )
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewChat {
    name: Option<String>,
    email: Option<String>,
    message: Option<String>,
    /// What the agent should know.
    #[serde(default)]
    skills: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct MadeChat {
    chat_id: ConversationId,
    agent_name: Option<String>,
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    write: Write<NewChat>,
) -> Outcome<(HeaderMap, Json<MadeChat>)> {
    let (chatbot, sender) = match &caller.who {
        Who::Chatbot(chatbot) => {
            write.public_key()?;
            ((**chatbot).clone(), format!("chatbot:{}", chatbot.id))
        }
        Who::Agent(agent) => {
            require(agent, Permission::ConversationsReply, "start chats")?;
            (first_chatbot(&app, agent.tenant)?, agent.sender())
        }
        Who::Visitor(_) => return Err(Problem::unauthorized("send a chatbot's key, or an agent's access token")),
    };
    let body = &write.body;
    body.message.as_deref().map(|text| check::content("message", text)).transpose()?;
    let session = StartSession {
        name: body.name.clone(),
        email: body.email.clone(),
        initial_message: body.message.clone(),
        skills: body.skills.clone(),
        ..StartSession::default()
    };
    let request = write.request(&app, sender);
    let chat = sessions::start(&app, &chatbot, &caller.headers, caller.client, request, &session).await?;
    let mut headers = caller.answer_headers(&app);
    if let Who::Chatbot(_) = caller.who {
        put_token(&app, &chatbot, &chat, &mut headers)?;
    }
    Ok((headers, Json(MadeChat { chat_id: chat.id, agent_name: agent_of(&app, &chat).await? })))
}

/// An agent's chats come through the tenant's oldest chatbot: a conversation has one.
fn first_chatbot(app: &App, tenant: TenantId) -> Outcome<Chatbot> {
    let oldest = app.pool.read(|connection| {
        let age = |chatbot: Chatbot| chatbot.deleted_at.is_none().then_some((chatbot.created_at, chatbot.id));
        let living = read::chatbots(connection, tenant, age)?;
        let oldest = living.into_iter().flatten().min();
        oldest.map(|(_, id)| read::chatbot(connection, tenant, id)).transpose()
    })?;
    let oldest = oldest.flatten();
    let detail = "the tenant has no chatbot that the chat could come through; make one";
    oldest.ok_or_else(|| Problem::new(StatusCode::CONFLICT, "no_chatbot", detail))
}

/// Who has the chat, within a moment. One that isn't queued gets nobody, so there is nothing to wait for.
async fn agent_of(app: &App, chat: &Conversation) -> Outcome<Option<String>> {
    if chat.agent.is_none() && (chat.status != Status::Pending || chat.queued.is_none()) {
        return Ok(None);
    }
    let agent = wait_for(app, || Ok(write::conversation(app, chat.tenant, chat.id)?.agent)).await?;
    let name = agent.map(|agent| app.views.agent_name(chat.tenant, agent)).transpose()?.flatten();
    Ok(name.map(|name| name.to_string()))
}

#[derive(Serialize, JsonSchema)]
struct Transcript {
    messages: Vec<String>,
}

async fn show(State(app): State<Arc<App>>, caller: Caller, Path(chat_id): Path<String>) -> Outcome<Response> {
    let chat = caller.conversation(&app, &chat_id)?;
    transcript(&app, &caller, &chat, "{\"messages\":[".to_owned()).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeAgent {
    available: Option<bool>,
    skills: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
struct ChangedAgent {
    agent_id: AgentId,
    available: bool,
    skills: BTreeSet<String>,
}

async fn change_agent(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(agent_id): Id<AgentId>,
    write: Write<ChangeAgent>,
) -> Outcome<Json<ChangedAgent>> {
    agents::agent(&app, caller.tenant, agent_id)?;
    if agent_id != caller.agent {
        require(&caller, Permission::ConversationsSteer, "change another agent's status")?;
    }
    let change =
        AgentUpdated { skills: agents::skills(write.body.skills.as_deref())?, ..AgentUpdated::nothing(agent_id) };
    let accepting_chats = write.body.available;
    let kind = CommandKind::UpdateAgent { change: Box::new(change), status: None, accepting_chats };
    let request = write.request(&app, caller.sender());
    write::submit(&app, command(caller.tenant, caller.actor(), request, kind)).await?;
    let agent = agents::agent(&app, caller.tenant, agent_id)?;
    Ok(Json(ChangedAgent { agent_id, available: agent.accepting_chats, skills: agent.skills }))
}
