//! Visitors: `/v1/widget`, public by a chatbot's key and then by the session token it gives.
//!
//! Every route here passes [`gate`] first: it finds the chatbot, checks `Origin` against its list, answers with CORS
//! headers, and renews a session token that nears its end.

use super::actions::Read;
use super::extract::{Nothing, Params, Write, origin, page_size};
use super::page::{Held, Items, before_time, time_cursor};
use super::problem::{Outcome, Problem};
use super::surface::{Routes, VISITOR, Way};
use super::write::{self, Sealer, command};
use super::{events, layers, sessions};
use crate::app::App;
use crate::auth::tokens::bearer;
use crate::auth::{VisitorCaller, caller};
use crate::check;
use crate::core::state::{Chatbot, Conversation};
use crate::core::visibility::Visible;
use crate::core::{Command, CommandKind};
use crate::domain::Answer;
use crate::limits::{BucketKey, ClientIp, Limit, Reader};
use crate::live::Person;
use crate::store::read as stored;
use crate::view::{Audience, ConversationView, EventView};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use ingest::event::RequestKey;
use ingest::id::{ConversationId, VisitorId};
use ingest::sqlite::RowPage;
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Where a renewed session token is.
pub(super) const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-session-token");

pub(super) fn routes() -> Routes {
    Routes::new("Visitors")
        .post("/v1/widget/session", sessions::open, &[Way::ChatbotKey], "Starts a visitor's session and conversation.")
        .post("/v1/widget/identify", sessions::identify, VISITOR, "Says who the visitor is, by the tenant's hash.")
        .post("/v1/widget/track", track, VISITOR, "Says what the visitor did on the page.")
        .get("/v1/widget/conversation", conversation, VISITOR, "The conversation and its events after a seq.")
        .get("/v1/widget/conversations", conversations, VISITOR, "The visitor's conversations.")
        .post("/v1/widget/events", post_event, VISITOR, "Writes a message; a repeated clientId gives the first one.")
        .answers::<EventView>(&[200, 201])
        .post("/v1/widget/rating", rate, VISITOR, "Rates the conversation.")
        .post("/v1/widget/end", end, VISITOR, "Ends the conversation: resolved, and writing again goes on in it.")
        .post("/v1/widget/read", read, VISITOR, "Says how far the visitor has read.")
        .merge(super::live::widget_routes())
        .around(|router| router.route_layer(from_fn(gate)))
}

/// Lets a request through whose chatbot allows its origin, and whose visitor may still write.
pub(super) async fn gate(Extension(app): Extension<Arc<App>>, mut request: Request, next: Next) -> Response {
    let origin = origin(request.headers()).map(str::to_owned);
    let (chatbot, caller) = match identify(&app, &mut request) {
        Ok(identified) => identified,
        Err(problem) => return readable(&app, problem.into_response(), origin.as_deref()),
    };
    if let Err(problem) = origin_allowed(&app, &chatbot, origin.as_deref()) {
        return problem.into_response();
    }
    let blocked = caller.as_ref().is_some_and(|caller| caller.blocked);
    let mut response = match hold(&app, &request, &chatbot, caller.as_ref()) {
        Ok(()) if blocked && request.method() != Method::GET => {
            Problem::new(StatusCode::FORBIDDEN, "visitor_blocked", "this visitor is blocked").into_response()
        }
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let failed = response.status().is_client_error() || response.status().is_server_error();
    app.activity.note(chatbot.id, Timestamp::now(), failed);
    if let Some(caller) = caller.filter(|caller| !caller.blocked) {
        renew(&app, &caller, response.headers_mut());
    }
    if let Some(origin) = origin {
        layers::allow_origin(response.headers_mut(), &origin);
    }
    response
}

/// Refuses pages that the chatbot isn't for. A request without an origin isn't a browser's.
pub(super) fn origin_allowed(app: &App, chatbot: &Chatbot, origin: Option<&str>) -> Outcome<()> {
    if origin.is_none_or(|origin| chatbot.allowed_origins.iter().any(|allowed| allowed == origin)) {
        return Ok(());
    }
    app.activity.note(chatbot.id, Timestamp::now(), true);
    let detail = "this chatbot doesn't allow this origin; add it to allowedOrigins";
    Err(Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail))
}

/// The chatbot of the key in the headers.
pub(super) fn chatbot_of_key(app: &App, headers: &HeaderMap) -> Outcome<Chatbot> {
    let key = headers.get("x-chatbot-key").and_then(|value| value.to_str().ok());
    let key = key.ok_or_else(|| Problem::unauthorized("send the chatbot's key as 'X-Chatbot-Key'"))?;
    let unknown = || Problem::new(StatusCode::UNAUTHORIZED, "invalid_chatbot_key", "there is no chatbot with this key");
    app.pool.read(|connection| stored::chatbot_by_key(connection, key))?.ok_or_else(unknown)
}

/// A page must see that its token ended, and the chatbot isn't known then: any that allows the origin will do.
fn readable(app: &App, mut response: Response, origin: Option<&str>) -> Response {
    if let Some(origin) = origin
        && app.pool.read(|connection| stored::any_chatbot_allows(connection, origin)).unwrap_or(false)
    {
        layers::allow_origin(response.headers_mut(), origin);
    }
    response
}

/// Holds a visitor to their limit, and without one a new session to those of its address and its chatbot; who writes, to
/// the quotas too. Every door of visitors passes here.
pub(super) fn hold(app: &App, request: &impl Asked, chatbot: &Chatbot, caller: Option<&VisitorCaller>) -> Outcome<()> {
    match caller {
        // By who the token is for: one from before an identification takes nothing from the identified visitor.
        Some(caller) => app.limiter.take(Limit::Visitor, BucketKey::id(*caller.subject.bytes()))?,
        None => {
            if let Some(address) = ClientIp::of(request.extensions()).0 {
                app.limiter.take(Limit::SessionIp, BucketKey::ip(address))?;
            }
            app.limiter.take(Limit::SessionChatbot, BucketKey::id(*chatbot.id.bytes()))?;
        }
    }
    if *request.method() != Method::GET {
        app.limiter.room.visitor(chatbot.tenant, chatbot.id, caller.map(|caller| caller.subject))?;
    }
    Ok(())
}

/// A request, whole or without its body.
pub(super) trait Asked {
    fn method(&self) -> &Method;
    fn extensions(&self) -> &Extensions;
}

impl Asked for Request {
    fn method(&self) -> &Method {
        self.method()
    }

    fn extensions(&self) -> &Extensions {
        self.extensions()
    }
}

impl Asked for Parts {
    fn method(&self) -> &Method {
        &self.method
    }

    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
}

/// Whose request it is: a chatbot's by its key for a new session, a visitor's by their token for all else.
fn identify(app: &App, request: &mut Request) -> Outcome<(Chatbot, Option<VisitorCaller>)> {
    if request.uri().path() == "/v1/widget/session" {
        let chatbot = chatbot_of_key(app, request.headers())?;
        request.extensions_mut().insert(Arc::new(chatbot.clone()));
        return Ok((chatbot, None));
    }
    let token = bearer(request.headers())
        .ok_or_else(|| Problem::unauthorized("send the visitor's session token as 'Authorization: Bearer wst_…'"))?;
    let (caller, chatbot) = caller::visitor(app, token)?;
    seen(app, &caller);
    request.extensions_mut().insert(caller.clone());
    Ok((chatbot, Some(caller)))
}

/// A visitor's request is a sign of life; not of someone identified by a token from before.
pub(super) fn seen(app: &App, caller: &VisitorCaller) {
    if !caller.is_limited() {
        app.presence.seen(caller.tenant, Person::Visitor(caller.visitor));
    }
}

/// Under a quarter of its life, a token is followed by a fresh one of the same person.
pub(super) fn renew(app: &App, caller: &VisitorCaller, headers: &mut HeaderMap) {
    if caller.is_limited() {
        return;
    }
    let left = caller.expires_at.since(Timestamp::now());
    if left >= caller.expires_at.since(caller.issued_at) / 4 || headers.contains_key(SESSION_TOKEN) {
        return;
    }
    match sessions::sign(app, caller.session_in(caller.conversation)) {
        Ok((token, _)) => set_token(headers, &token),
        // The old one still holds for a while; the next request tries again.
        Err(_) => tracing::warn!("failed to renew a session token"),
    }
}

/// The header with a fresh token for one of the visitor's conversations.
fn session_token(app: &App, caller: &VisitorCaller, id: ConversationId) -> Outcome<(HeaderName, HeaderValue)> {
    let (token, _) = sessions::sign(app, caller.session_in(id))?;
    let value = HeaderValue::from_str(&token).map_err(|error| Problem::internal(&error))?;
    Ok((SESSION_TOKEN, value))
}

/// Hands a session token to the page.
pub(super) fn set_token(headers: &mut HeaderMap, token: &str) {
    if let Ok(value) = HeaderValue::from_str(token) {
        headers.insert(SESSION_TOKEN, value);
    }
}

/// A visitor's view: neither notes nor their numbers show. A token from before an identification doesn't learn who it was.
fn view(app: &App, caller: &VisitorCaller, chat: &Conversation) -> Outcome<ConversationView> {
    let mut view = app.views.conversation(chat, Audience::Visitor)?;
    view.last_seq = chat.last_shown_seq();
    if caller.is_limited() {
        (view.name, view.email) = (None, None);
    }
    Ok(view)
}

/// The conversation that the visitor's token is for.
pub(super) fn own_view(app: &App, caller: &VisitorCaller) -> Outcome<Json<ConversationView>> {
    Ok(Json(view(app, caller, &write::conversation(app, caller.tenant, caller.conversation)?)?))
}

/// Refuses what a token from before an identification can't do.
pub(super) fn superseded() -> Problem {
    let detail = "this visitor was identified since; go on with the session token that identify answered";
    Problem::new(StatusCode::FORBIDDEN, "session_superseded", detail)
}

/// Sends a visitor's command. What they sent before they were identified, and send again, isn't done again.
pub(super) async fn submit(app: &App, caller: &VisitorCaller, command: Command) -> Outcome<Answer> {
    if let (Some(before), Some(request)) = (caller.sender_before(), &command.request)
        && let Some(record) = write::repeated(app, RequestKey { sender: before, ..request.clone() })?
    {
        return Ok(Answer { events: Vec::new(), repeated: Some(record), conversation: None });
    }
    match write::submit(app, command).await {
        // As who sends it, the conversation is another's.
        Err(problem) if caller.is_limited() && problem.is("not_found") => Err(superseded()),
        outcome => outcome,
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Opened {
    conversation: ConversationView,
    events: Items<EventView>,
    last_seq: u64,
}

async fn conversation(
    State(app): State<Arc<App>>,
    caller: VisitorCaller,
    Params(params): Params<events::EventParams>,
) -> Outcome<Held<Opened>> {
    let limit = page_size(params.limit)?;
    let hold = app.limiter.reading.hold(Reader::from(&caller)).await;
    let chat = write::conversation(&app, caller.tenant, caller.conversation)?;
    let shown = |mut event: EventView| {
        if caller.is_limited() && event.author_type == "visitor" {
            event.author.name = None;
        }
        event
    };
    let events = events::page(&app, &chat, params.after.unwrap_or(0), limit, true, shown).await?;
    let conversation = view(&app, &caller, &chat)?;
    let last_seq = conversation.last_seq;
    Ok(Held::new(hold, Opened { conversation, events, last_seq }))
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "OwnConversations")]
struct Conversations {
    items: Items<ConversationView>,
    next_cursor: Option<String>,
    unread_total: u64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListParams {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Newest change first; `unreadTotal` counts in all of them, not in those of the page.
async fn conversations(
    State(app): State<Arc<App>>,
    caller: VisitorCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Held<Conversations>> {
    let limit = page_size(params.limit)?;
    let before = before_time(params.cursor.as_deref())?.map(|(at, id)| (at, ConversationId(id)));
    let hold = app.limiter.reading.hold(Reader::from(&caller)).await;
    let (chats, unread_total) = if caller.is_limited() {
        let chat = write::conversation(&app, caller.tenant, caller.conversation)?;
        let unread = chat.unread_by_visitor.count();
        (RowPage { items: vec![((chat.updated_at.0, chat.id.0), chat)], next: None }, unread)
    } else {
        app.pool.read(|connection| {
            // Their own, whoever has them.
            let of = (caller.tenant, &Visible::All);
            let chats = stored::conversations_with(connection, of, caller.visitor, before, limit)?;
            Ok((chats, stored::unread_by_visitor(connection, caller.tenant, caller.visitor)?))
        })?
    };
    let (items, next) = Items::of(&chats, |chat| view(&app, &caller, chat).map(Some))?;
    let next_cursor = next.map(|(at, id)| time_cursor(at, id));
    Ok(Held::new(hold, Conversations { items, next_cursor, unread_total }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PostEvent {
    content: String,
    client_id: Option<String>,
    r#type: Option<String>,
    metadata: Option<Map<String, Value>>,
}

async fn post_event(State(app): State<Arc<App>>, caller: VisitorCaller, write: Write<PostEvent>) -> Outcome<Response> {
    let body = &write.body;
    if body.r#type.as_deref().is_some_and(|kind| kind != "message") {
        return Err(Problem::invalid("type", "visitors post events of type 'message'"));
    }
    let posted = events::Posted {
        kind: events::Kind::Message,
        content: &body.content,
        client_id: body.client_id.as_deref(),
        metadata: body.metadata.as_ref(),
        file: None,
    };
    let (status, event) = say(&app, &caller, caller.conversation, &write, posted).await?;
    said(&app, &caller, status, event)
}

/// What a visitor hears of an event of theirs; the session token moves on with them.
pub(super) fn said(app: &App, caller: &VisitorCaller, status: StatusCode, event: EventView) -> Outcome<Response> {
    if event.conversation_id == caller.conversation {
        return Ok((status, Json(event)).into_response());
    }
    let token = session_token(app, caller, event.conversation_id)?;
    Ok((status, [token], Json(event)).into_response())
}

/// Posts to a conversation of the visitor's. A closed one is read-only: then it goes to the one that they went on to,
/// which is started if there is none.
pub(super) async fn say<T>(
    app: &App,
    caller: &VisitorCaller,
    id: ConversationId,
    write: &Write<T>,
    posted: events::Posted<'_>,
) -> Outcome<(StatusCode, EventView)> {
    let mut place = newest(app, caller, id)?;
    loop {
        match events::post(app, events::Author::Visitor(caller), place, write, posted).await {
            // Another tab was faster; each round is one conversation further.
            Err(problem) if problem.is("conversation_continued") => place = newest(app, caller, id)?,
            outcome => return outcome,
        }
    }
}

/// A conversation, or the last one that the visitor went on to since it was closed.
fn newest(app: &App, caller: &VisitorCaller, id: ConversationId) -> Outcome<stored::Place> {
    let found = app.pool.read(|connection| {
        let mut found = stored::place(connection, caller.tenant, id)?;
        while let Some(next) = found.and_then(|place| place.continued_in) {
            found = stored::place(connection, caller.tenant, next)?;
        }
        Ok(found)
    })?;
    found.ok_or_else(|| Problem::not_found("conversation"))
}

async fn read(
    State(app): State<Arc<App>>,
    caller: VisitorCaller,
    write: Write<Read>,
) -> Outcome<Json<ConversationView>> {
    let kind = CommandKind::Read { conversation_id: caller.conversation, seq: write.body.seq };
    let request = write.request(&app, caller.sender());
    submit(&app, &caller, command(caller.tenant, caller.actor(), request, kind)).await?;
    own_view(&app, &caller)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rate {
    score: u8,
    comment: Option<String>,
}

async fn rate(
    State(app): State<Arc<App>>,
    caller: VisitorCaller,
    write: Write<Rate>,
) -> Outcome<Json<ConversationView>> {
    let Rate { score, comment } = &write.body;
    check::rating("score", *score)?;
    let comment = comment.as_deref().filter(|text| !text.trim().is_empty());
    comment.map(|text| check::content("comment", text)).transpose()?;
    let sealer = Sealer::for_known(&app, caller.visitor)?;
    let comment = sealer.seal_option(comment)?;
    let kind = CommandKind::Rate { conversation_id: caller.conversation, score: *score, comment };
    let request = write.request(&app, caller.sender());
    submit(&app, &caller, command(caller.tenant, caller.actor(), request, kind)).await?;
    own_view(&app, &caller)
}

/// The visitor is done: resolved, so that writing again goes on in the same conversation.
async fn end(
    State(app): State<Arc<App>>,
    caller: VisitorCaller,
    write: Write<Nothing>,
) -> Outcome<Json<ConversationView>> {
    let kind = CommandKind::Resolve { conversation_id: caller.conversation };
    let request = write.request(&app, caller.sender());
    submit(&app, &caller, command(caller.tenant, caller.actor(), request, kind)).await?;
    own_view(&app, &caller)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Track {
    name: String,
    page: Option<String>,
    properties: Option<Map<String, Value>>,
}

/// What was tracked, as it was stored.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Tracked {
    visitor_id: VisitorId,
    name: String,
    page: Option<String>,
    properties: Option<Map<String, Value>>,
}

/// Something that the visitor did on the page: for the agents, and their page from here on.
async fn track(State(app): State<Arc<App>>, caller: VisitorCaller, write: Write<Track>) -> Outcome<Json<Tracked>> {
    let Track { name, page, properties } = &write.body;
    let name = check::name("name", name)?;
    let page = page.as_deref().map(|page| check::page_url("page", page)).transpose()?;
    let object = properties.as_ref().map(|object| check::metadata("properties", object)).transpose()?;
    let sealer = Sealer::for_known(&app, caller.visitor)?;
    let kind = CommandKind::TrackVisitor {
        visitor_id: caller.visitor,
        name: sealer.seal(&name)?,
        page: sealer.seal_option(page.as_deref())?,
        properties: sealer.seal_option(object.as_deref())?,
    };
    let request = write.request(&app, caller.sender());
    submit(&app, &caller, command(caller.tenant, caller.actor(), request, kind)).await?;
    Ok(Json(Tracked { visitor_id: caller.visitor, name, page, properties: properties.clone() }))
}
