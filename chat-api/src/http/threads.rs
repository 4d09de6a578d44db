//! Events by thread, for agents: `/v1/threads/{threadId}/events`. Any thread of a conversation names all of it.

use super::events::{self, Author, EventParams, Kind, Posted};
use super::extract::{Id, Params, Write, page_size};
use super::page::{Held, Items};
use super::problem::{Outcome, Problem};
use super::surface::{AGENT, Routes, Way};
use super::write;
use crate::app::App;
use crate::auth::AgentCaller;
use crate::core::state::Conversation;
use crate::limits::Reader;
use crate::store::read;
use crate::view::EventView;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use ingest::id::ThreadId;
use ingest::payload::Permission;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    Routes::new("Events")
        .get("/v1/threads/{id}/events", list, AGENT, "Events after a seq. Any thread names its whole conversation.")
        .post(
            "/v1/threads/{id}/events",
            post_event,
            &[Way::May(Permission::ConversationsReply)],
            "Writes a message or a note.",
        )
        .answers::<EventView>(&[200, 201])
}

pub(super) fn conversation(app: &App, caller: &AgentCaller, thread: ThreadId) -> Outcome<Conversation> {
    let unknown = || Problem::not_found("thread");
    let id = app.pool.read(|connection| read::conversation_of_thread(connection, thread))?.ok_or_else(unknown)?;
    // A thread that isn't for the caller is as unknown as one that never was, down to the words.
    write::visible(app, caller, id).map_err(|problem| if problem.is("not_found") { unknown() } else { problem })
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Events {
    items: Items<EventView>,
    last_seq: u64,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(thread): Id<ThreadId>,
    Params(params): Params<EventParams>,
) -> Outcome<Held<Events>> {
    let limit = page_size(params.limit)?;
    let hold = app.limiter.reading.hold(Reader::from(&caller)).await;
    let chat = conversation(&app, &caller, thread)?;
    let items = events::page(&app, &chat, params.after.unwrap_or(0), limit, false, |event| event).await?;
    Ok(Held::new(hold, Events { items, last_seq: chat.last_seq }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PostEvent {
    r#type: String,
    content: String,
    client_id: Option<String>,
    metadata: Option<Map<String, Value>>,
    author_type: Option<String>,
}

async fn post_event(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(thread): Id<ThreadId>,
    write: Write<PostEvent>,
) -> Outcome<Response> {
    let chat = conversation(&app, &caller, thread)?;
    let body = &write.body;
    let kind = match body.r#type.as_str() {
        "message" => Kind::Message,
        "note" => Kind::Note,
        _ => return Err(Problem::invalid("type", "'type' is 'message' or 'note'")),
    };
    if body.author_type.as_deref().is_some_and(|author| author != "agent") {
        return Err(Problem::invalid("authorType", "you write as 'agent'"));
    }
    let (client_id, metadata) = (body.client_id.as_deref(), body.metadata.as_ref());
    let posted = Posted { kind, content: &body.content, client_id, metadata, file: None };
    let author = Author::Agent(&caller);
    let (status, event) = events::post(&app, author, read::Place::from(&chat), &write, posted).await?;
    Ok((status, Json(event)).into_response())
}
