//! Conversations, for agents: `/v1/conversations`, and what can be done with one.

use super::actions;
use super::events;
use super::extract::{Id, Nothing, Params, Write, page_size};
use super::inbox;
use super::page::{Held, Page, after_number, number_cursor};
use super::problem::{Outcome, Problem};
use super::surface::{AGENT, Routes, Way};
use super::write::{self, Sealer, command};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::check;
use crate::core::CommandKind;
use crate::core::state::Conversation;
use crate::limits::Reader;
use crate::view::{AssignmentView, ConversationView, ThreadView};
use axum::Json;
use axum::extract::State;
use ingest::event::Event;
use ingest::id::{AgentId, ConversationId};
use ingest::payload::{Payload, Permission};
use ingest::sqlite::page::PageFill;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    const REPLY: &[Way] = &[Way::May(Permission::ConversationsReply)];
    const READ: &[Way] = &[Way::May(Permission::ConversationsRead)];
    Routes::new("Conversations")
        .get("/v1/conversations", inbox::list, READ, "Those that the caller may see, filtered and sorted.")
        .get("/v1/conversations/{id}", show, AGENT, "One conversation.")
        .patch("/v1/conversations/{id}", actions::update, REPLY, "Changes its notes, or its group.")
        .get("/v1/conversations/{id}/threads", threads, AGENT, "Its threads, oldest first.")
        .get("/v1/conversations/{id}/assignments", assignments, AGENT, "Who was considered and chosen, each time.")
        .post("/v1/conversations/{id}/assign", assign, REPLY, "Gives it to an agent.")
        .post("/v1/conversations/{id}/take", take, REPLY, "Takes it; a lost race is 409 with the winner.")
        .post("/v1/conversations/{id}/unassign", unassign, REPLY, "Puts it back at the front of the queue.")
        .post("/v1/conversations/{id}/resolve", resolve, REPLY, "Resolves it.")
        .post("/v1/conversations/{id}/reopen", reopen, REPLY, "Reopens it with a new thread.")
        .post("/v1/conversations/{id}/close", close, REPLY, "Closes it: read-only from here on.")
        .post("/v1/conversations/{id}/stale", stale, REPLY, "Marks it as stale: the agent's slot is free.")
        .post("/v1/conversations/{id}/tags", tags, REPLY, "Puts tags on and takes tags off.")
}

async fn show(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<ConversationId>,
) -> Outcome<Json<ConversationView>> {
    let chat = write::visible(&app, &caller, id)?;
    Ok(Json(app.views.conversation(&chat, caller.audience_of(&chat))?))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PageParams {
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn threads(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<ConversationId>,
    Params(params): Params<PageParams>,
) -> Outcome<Held<Page<ThreadView>>> {
    let (limit, after) = (page_size(params.limit)?, after_number(params.cursor.as_deref())?);
    let hold = app.limiter.reading.hold(Reader::from(&caller)).await;
    let chat = write::visible(&app, &caller, id)?;
    let mut page = PageFill::new(limit);
    // By their number, from 1.
    let later = (1..).zip(&chat.threads).skip(usize::try_from(after).unwrap_or(usize::MAX));
    for (number, thread) in later {
        if !page.add(number, Some(thread), size_of_val(thread)) {
            break;
        }
    }
    Page::of(hold, &page.done(), |number| number_cursor(*number), |thread| Ok(Some(ThreadView::from(*thread))))
}

async fn assignments(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<ConversationId>,
    Params(params): Params<PageParams>,
) -> Outcome<Held<Page<AssignmentView>>> {
    let (limit, after) = (page_size(params.limit)?, after_number(params.cursor.as_deref())?);
    let hold = app.limiter.reading.hold(Reader::from(&caller)).await;
    let chat = write::visible(&app, &caller, id)?;
    let view = |event: &Event| match &event.payload {
        Payload::AgentAssigned(assigned) => Ok(Some(app.views.assignment(event, assigned)?)),
        _ => Ok(None),
    };
    let is_assignment = |event: &Event| matches!(event.payload, Payload::AgentAssigned(_));
    let events = events::some(&app, chat.id, after, limit, is_assignment).await?;
    Page::of(hold, &events, |seq| number_cursor(*seq), view)
}

/// Sends a command about a conversation that the caller may see, and answers how it is now.
pub(super) async fn act<T>(
    app: &App,
    caller: &AgentCaller,
    write: &Write<T>,
    id: ConversationId,
    kind: CommandKind,
) -> Outcome<Json<ConversationView>> {
    write::visible(app, caller, id)?;
    let request = write.request(app, caller.sender());
    let answer = write::submit(app, command(caller.tenant, caller.actor(), request, kind)).await?;
    // What somebody did themselves they may see done. A repeat does nothing, and shows what they see now.
    let seen = |chat: &Conversation| match answer.repeated {
        Some(_) => caller.may_see(chat),
        None => chat.tenant == caller.tenant,
    };
    let chat = answer.conversation.filter(|chat| seen(chat)).ok_or_else(|| Problem::not_found("conversation"))?;
    Ok(Json(app.views.conversation(&chat, caller.audience_of(&chat))?))
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Assign {
    agent_id: String,
    reason: Option<String>,
}

async fn assign(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(conversation_id): Id<ConversationId>,
    write: Write<Assign>,
) -> Outcome<Json<ConversationView>> {
    let agent_id: AgentId = write.body.agent_id.parse().map_err(|_| Problem::not_found("agent"))?;
    let chat = write::visible(&app, &caller, conversation_id)?;
    let reason = write.body.reason.as_deref().filter(|text| !text.trim().is_empty());
    reason.map(|text| check::content("reason", text)).transpose()?;
    let reason = reason.map(|text| Sealer::for_known(&app, chat.visitor)?.seal(text)).transpose()?;
    act(&app, &caller, &write, conversation_id, CommandKind::Assign { conversation_id, agent_id, reason }).await
}

#[derive(Deserialize, JsonSchema)]
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
    act(&app, &caller, &write, conversation_id, CommandKind::Tag { conversation_id, add, remove }).await
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
            act(&app, &caller, &write, conversation_id, CommandKind::$kind { conversation_id }).await
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
    stale = MarkStale;
}
