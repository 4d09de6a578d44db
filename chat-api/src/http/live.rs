//! Realtime for those without a socket: server-sent events, and `typing`, which is relayed and never stored.

use super::extract::{Id, Nothing, Params, Write, require};
use super::problem::{Outcome, Problem};
use super::surface::{AGENT, Routes, VISITOR, Way};
use super::{widget, write};
use crate::app::App;
use crate::auth::{AgentCaller, Caller, VisitorCaller};
use crate::limits::ClientIp;
use crate::live::{self, Person};
use crate::view::ConversationView;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use ingest::id::ConversationId;
use ingest::payload::Permission;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// For agents.
pub(super) fn routes() -> Routes {
    Routes::new("Realtime")
        .post(
            "/v1/conversations/{id}/typing",
            agent_types,
            &[Way::May(Permission::ConversationsReply)],
            "Shows the visitor that somebody types.",
        )
        .get("/v1/conversations/{id}/events/stream", agent_stream, AGENT, "The socket's frames as server-sent events.")
        .also(|operation| operation.gives("text/event-stream"))
}

/// For visitors; behind the widget's gate.
pub(super) fn widget_routes() -> Routes {
    Routes::new("Realtime")
        .post("/v1/widget/typing", visitor_types, VISITOR, "Shows the agents that the visitor types.")
        .get("/v1/widget/events/stream", visitor_stream, VISITOR, "The socket's frames as server-sent events.")
        .also(|operation| operation.gives("text/event-stream"))
}

async fn agent_types(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<ConversationId>,
    _: Write<Nothing>,
) -> Outcome<Json<ConversationView>> {
    let chat = write::visible(&app, &caller, id)?;
    require(&caller, Permission::ConversationsReply, "reply to conversations")?;
    app.live.typing(&app.views, chat.tenant, chat.id, Person::Agent(caller.agent));
    Ok(Json(app.views.conversation(&chat, caller.audience_of(&chat))?))
}

async fn visitor_types(
    State(app): State<Arc<App>>,
    caller: VisitorCaller,
    _: Write<Nothing>,
) -> Outcome<Json<ConversationView>> {
    if caller.is_limited() {
        return Err(widget::superseded());
    }
    app.live.typing(&app.views, caller.tenant, caller.conversation, Person::Visitor(caller.visitor));
    widget::own_view(&app, &caller)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct From {
    after: Option<u64>,
}

/// Where to go on: what the client got last, or what it asks for the first time.
fn position(headers: &HeaderMap, from: &From) -> Outcome<Option<u64>> {
    let Some(last) = headers.get("last-event-id") else { return Ok(from.after) };
    let seq = last.to_str().ok().and_then(|last| last.parse().ok());
    seq.map(Some)
        .ok_or_else(|| Problem::invalid("Last-Event-ID", "'Last-Event-ID' is the id of an event of this stream"))
}

async fn agent_stream(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    client: ClientIp,
    Id(id): Id<ConversationId>,
    Params(from): Params<From>,
    headers: HeaderMap,
) -> Outcome<Response> {
    let after = position(&headers, &from)?;
    live::stream(&app, Caller::Agent(caller), client, id, after)
}

async fn visitor_stream(
    State(app): State<Arc<App>>,
    caller: VisitorCaller,
    client: ClientIp,
    Params(from): Params<From>,
    headers: HeaderMap,
) -> Outcome<Response> {
    let after = position(&headers, &from)?;
    let conversation = caller.conversation;
    live::stream(&app, Caller::Visitor(caller), client, conversation, after)
}
