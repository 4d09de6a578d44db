//! Conversations, for agents: `/v1/conversations`, and what can be done with one.

use super::check;
use super::extract::{Id, Nothing, Params, Write, page_size};
use super::page::{Page, before_time, time_cursor};
use super::problem::{Outcome, Problem};
use super::write::{self, command};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::core::CommandKind;
use crate::core::state::{Conversation, Status};
use crate::store::read;
use crate::view::{ConversationView, ThreadView};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use ingest::id::{AgentId, ConversationId};
use ingest::payload::Payload;
use ingest::sqlite::EmbeddedLog;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Events read at once when a whole history is looked through.
const HISTORY_PAGE: usize = 500;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/conversations", get(list))
        .route("/v1/conversations/{id}", get(show))
        .route("/v1/conversations/{id}/threads", get(threads))
        .route("/v1/conversations/{id}/assignments", get(assignments))
        .route("/v1/conversations/{id}/assign", post(assign))
        .route("/v1/conversations/{id}/take", post(take))
        .route("/v1/conversations/{id}/unassign", post(unassign))
        .route("/v1/conversations/{id}/resolve", post(resolve))
        .route("/v1/conversations/{id}/reopen", post(reopen))
        .route("/v1/conversations/{id}/close", post(close))
        .route("/v1/conversations/{id}/tags", post(tags))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    status: Option<Status>,
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Json<Page<ConversationView>>> {
    const ALL: [Status; 4] = [Status::Pending, Status::Active, Status::Resolved, Status::Closed];
    let limit = page_size(params.limit)?;
    let before = before_time(params.cursor.as_deref())?.map(|(at, id)| (at, ConversationId(id)));
    let statuses = params.status.as_ref().map_or(&ALL[..], std::slice::from_ref);
    let mut chats: Vec<Conversation> = app.pool.read(|connection| {
        let mut chats = Vec::new();
        for status in statuses {
            chats.extend(read::conversations(connection, caller.tenant, *status, before, limit + 1)?);
        }
        Ok(chats)
    })?;
    chats.sort_by_key(|chat| std::cmp::Reverse((chat.updated_at, chat.id)));
    let more = chats.len() > limit;
    chats.truncate(limit);
    let last = chats.last().filter(|_| more);
    let next_cursor = last.map(|chat| time_cursor(chat.updated_at.0, chat.id.0));
    Ok(Json(Page { items: chats, next_cursor }.try_map(|chat| app.views.conversation(&chat, false))?))
}

async fn show(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<ConversationId>,
) -> Outcome<Json<ConversationView>> {
    let chat = write::conversation(&app, caller.tenant, id)?;
    Ok(Json(app.views.conversation(&chat, false)?))
}

async fn threads(State(app): State<Arc<App>>, caller: AgentCaller, Id(id): Id<ConversationId>) -> Outcome<Json<Value>> {
    let chat = write::conversation(&app, caller.tenant, id)?;
    let items: Vec<ThreadView> = chat.threads.iter().map(ThreadView::from).collect();
    Ok(Json(json!({ "items": items, "nextCursor": null })))
}

async fn assignments(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<ConversationId>,
) -> Outcome<Json<Value>> {
    let chat = write::conversation(&app, caller.tenant, id)?;
    let (mut items, mut after) = (Vec::new(), 0);
    loop {
        let records = EmbeddedLog::history(&app.pool, chat.id, after, HISTORY_PAGE)?;
        let Some(last) = records.last() else { break };
        after = last.event.seq;
        for event in records.iter().map(|record| &record.event) {
            if let Payload::AgentAssigned(assigned) = &event.payload {
                items.push(json!({
                    "at": event.occurred_at.to_string(), "trigger": assigned.trigger, "strategy": assigned.strategy,
                    "candidates": assigned.candidates, "chosen": assigned.agent_id, "eventId": event.id,
                }));
            }
        }
    }
    Ok(Json(json!({ "items": items, "nextCursor": null })))
}

/// Sends a command about a conversation and answers how it is now.
async fn act<T>(
    app: &App,
    caller: &AgentCaller,
    write: &Write<T>,
    kind: CommandKind,
) -> Outcome<Json<ConversationView>> {
    let request = write.request(app, caller.sender());
    let answer = write::submit(app, command(caller.tenant, caller.actor(), request, kind)).await?;
    // Also for a repeat: the command loads the conversation it names, and its own check is by tenant.
    let chat = answer.conversation.filter(|chat| chat.tenant == caller.tenant);
    let chat = chat.ok_or_else(|| Problem::not_found("conversation"))?;
    Ok(Json(app.views.conversation(&chat, false)?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Assign {
    agent_id: String,
}

async fn assign(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(conversation_id): Id<ConversationId>,
    write: Write<Assign>,
) -> Outcome<Json<ConversationView>> {
    let agent_id: AgentId = write.body.agent_id.parse().map_err(|_| Problem::not_found("agent"))?;
    act(&app, &caller, &write, CommandKind::Assign { conversation_id, agent_id }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tags {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

async fn tags(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(conversation_id): Id<ConversationId>,
    write: Write<Tags>,
) -> Outcome<Json<ConversationView>> {
    let add = check::tags("add", &write.body.add)?;
    let remove = check::tags("remove", &write.body.remove)?;
    act(&app, &caller, &write, CommandKind::Tag { conversation_id, add, remove }).await
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $kind:ident;)*) => {$(
        $(#[$doc])*
        async fn $name(
            State(app): State<Arc<App>>,
            caller: AgentCaller,
            Id(conversation_id): Id<ConversationId>,
            write: Write<Nothing>,
        ) -> Outcome<Json<ConversationView>> {
            act(&app, &caller, &write, CommandKind::$kind { conversation_id }).await
        }
    )*};
}

actions! {
    /// A lost race is 409 with the winner.
    take = Take;
    unassign = Unassign;
    resolve = Resolve;
    reopen = Reopen;
    close = Close;
}
