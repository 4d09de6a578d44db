//! Visitors: `/v1/widget`, public by a chatbot's key and then by the session token it gives.
//!
//! Every route here passes [`gate`] first: it finds the chatbot, checks `Origin` against its list, answers with CORS
//! headers, and renews a session token that nears its end.

use super::extract::{Nothing, Params, Write, origin, page_size};
use super::problem::{Outcome, Problem};
use super::write::{self, Sealer, command};
use super::{check, events, layers};
use crate::app::App;
use crate::auth::tokens::{self, bearer};
use crate::auth::{VisitorCaller, caller};
use crate::core::CommandKind;
use crate::core::command::{NewMessage, NewVisitor};
use crate::core::state::{Chatbot, Conversation, Status};
use crate::store::read;
use crate::view::{ConversationView, EventView};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use ingest::id::{ChatbotId, ConversationId, GroupId, TenantId, ThreadId, VisitorId};
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// Characters kept of a header that tells about the browser.
const HEADER_CHARS_MAX: usize = 500;
/// Where a renewed session token is.
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-session-token");

pub(super) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/v1/widget/session", post(start_session))
        .route("/v1/widget/conversation", get(conversation))
        .route("/v1/widget/conversations", get(conversations))
        .route("/v1/widget/events", post(post_event))
        .route("/v1/widget/rating", post(rate))
        .route("/v1/widget/end", post(end))
        .route_layer(from_fn_with_state(Arc::clone(app), gate))
}

/// Lets a request through whose chatbot allows its origin.
async fn gate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let identified = match identify(&app, &mut request) {
        Ok(identified) => identified,
        Err(problem) => return problem.into_response(),
    };
    let (chatbot, caller) = identified;
    let origin = origin(request.headers()).map(str::to_owned);
    if let Some(origin) = &origin
        && !chatbot.allowed_origins.contains(origin)
    {
        let detail = "this chatbot doesn't allow this origin; add it to allowedOrigins";
        return Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail).into_response();
    }
    let mut response = next.run(request).await;
    if let Some(caller) = caller {
        renew(&app, &caller, response.headers_mut());
    }
    if let Some(origin) = origin {
        layers::allow_origin(response.headers_mut(), &origin);
    }
    response
}

/// Whose request it is: a chatbot's by its key for a new session, a visitor's by their token for all else.
fn identify(app: &App, request: &mut Request) -> Outcome<(Chatbot, Option<VisitorCaller>)> {
    if request.uri().path() == "/v1/widget/session" {
        let key = request.headers().get("x-chatbot-key").and_then(|value| value.to_str().ok());
        let key = key.ok_or_else(|| Problem::unauthorized("send the chatbot's key as 'X-Chatbot-Key'"))?;
        let unknown =
            || Problem::new(StatusCode::UNAUTHORIZED, "invalid_chatbot_key", "there is no chatbot with this key");
        let chatbot = app.pool.read(|connection| read::chatbot_by_key(connection, key))?.ok_or_else(unknown)?;
        request.extensions_mut().insert(Arc::new(chatbot.clone()));
        return Ok((chatbot, None));
    }
    let token = bearer(request.headers())
        .ok_or_else(|| Problem::unauthorized("send the visitor's session token as 'Authorization: Bearer wst_…'"))?;
    let caller = caller::visitor(app, token)?;
    let chatbot = app
        .pool
        .read(|connection| read::chatbot(connection, caller.tenant, caller.chatbot))?
        .ok_or_else(|| Problem::unauthorized("the chatbot of this session is gone"))?;
    request.extensions_mut().insert(caller.clone());
    Ok((chatbot, Some(caller)))
}

/// Under a quarter of its life, a token is followed by a fresh one.
fn renew(app: &App, caller: &VisitorCaller, headers: &mut HeaderMap) {
    let now = Timestamp::now();
    if caller.expires_at.since(now) >= tokens::VISITOR_TOKEN_LIFE_S * 1_000 / 4 {
        return;
    }
    let signed =
        tokens::sign_visitor(&app.key_file, caller.tenant, caller.visitor, caller.conversation, caller.chatbot, now);
    match signed.map(|(token, _)| HeaderValue::from_str(&token)) {
        Ok(Ok(value)) => drop(headers.insert(SESSION_TOKEN, value)),
        // The old one still holds for hours; the next request tries again.
        _ => tracing::warn!("failed to renew a session token"),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StartSession {
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    group_id: Option<String>,
    initial_message: Option<String>,
    metadata: Option<Map<String, Value>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    session_token: String,
    expires_at: String,
    visitor_id: VisitorId,
    conversation_id: ConversationId,
    thread_id: ThreadId,
    status: Status,
    queue_position: Option<u64>,
    realtime: Value,
}

async fn start_session(
    State(app): State<Arc<App>>,
    Extension(chatbot): Extension<Arc<Chatbot>>,
    address: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    write: Write<StartSession>,
) -> Outcome<(StatusCode, Json<Session>)> {
    write.public_key()?;
    let address = address.map(|Extension(ConnectInfo(address))| address.ip().to_string());
    let browser = browser(&headers, address, write.body.metadata.as_ref())?;
    let (visitor, conversation_id) = (VisitorId::fresh(), ConversationId::fresh());
    let body = &write.body;
    let sealer = Sealer::for_new(&app, visitor)?;
    let new = new_visitor(&sealer, visitor, body, &browser)?;
    let message = body.initial_message.as_deref().map(|text| message(&sealer, "initialMessage", text)).transpose()?;
    let unknown_group = || Problem::not_found("group").at("groupId");
    let group_id: Option<GroupId> =
        body.group_id.as_deref().map(|id| id.parse().map_err(|_| unknown_group())).transpose()?;
    let kind = CommandKind::StartSession { visitor: new, conversation_id, chatbot_id: chatbot.id, group_id, message };
    let request = write.request(&app, format!("chatbot:{}", chatbot.id));
    let command = command(chatbot.tenant, ingest::event::Actor::Visitor(visitor), request, kind);
    let answer = write::submit(&app, sealer.submission(command)).await?;
    let chat = match answer.repeated {
        Some(record) => first_conversation(&app, record.resource.map(VisitorId))?,
        None => answer.conversation.map(|chat| *chat),
    };
    let chat = chat.ok_or_else(|| Problem::internal(&"a session that was just started isn't there"))?;
    Ok((StatusCode::CREATED, Json(session(&app, chatbot.id, &chat)?)))
}

/// The conversation that came with a visitor.
fn first_conversation(app: &App, visitor: Option<VisitorId>) -> Outcome<Option<Conversation>> {
    let Some(visitor) = visitor else { return Ok(None) };
    let chats = app.pool.read(|connection| read::conversations_of(connection, visitor))?;
    Ok(chats.into_iter().min_by_key(|chat| (chat.created_at, chat.id)))
}

fn session(app: &App, chatbot: ChatbotId, chat: &Conversation) -> Outcome<Session> {
    let now = Timestamp::now();
    let (session_token, expires_at) =
        tokens::sign_visitor(&app.key_file, chat.tenant, chat.visitor, chat.id, chatbot, now)?;
    let view = app.views.conversation(chat, true)?;
    Ok(Session {
        session_token,
        expires_at: expires_at.to_string(),
        visitor_id: chat.visitor,
        conversation_id: chat.id,
        thread_id: chat.thread().id,
        status: chat.status,
        queue_position: view.queue_position,
        realtime: json!({ "url": realtime_url(&app.config.public_url) }),
    })
}

fn realtime_url(public_url: &str) -> String {
    let base = public_url.trim_end_matches('/');
    let base = match base.split_once("://") {
        Some(("https", rest)) => format!("wss://{rest}"),
        Some((_, rest)) => format!("ws://{rest}"),
        None => format!("ws://{base}"),
    };
    format!("{base}/v1/realtime")
}

/// What is known of the browser, with the page's own metadata, as JSON.
fn browser(headers: &HeaderMap, address: Option<String>, metadata: Option<&Map<String, Value>>) -> Outcome<String> {
    if let Some(metadata) = metadata {
        check::metadata("metadata", metadata)?;
    }
    let header = |name: HeaderName| {
        let text = headers.get(name).and_then(|value| value.to_str().ok());
        text.map(|text| text.chars().take(HEADER_CHARS_MAX).collect::<String>())
    };
    let about = json!({
        "userAgent": header(header::USER_AGENT), "referrer": header(header::REFERER), "ipAddress": address,
        "metadata": metadata,
    });
    Ok(about.to_string())
}

fn new_visitor(sealer: &Sealer, id: VisitorId, body: &StartSession, browser: &str) -> Outcome<NewVisitor> {
    let name = check::optional_name("name", body.name.as_deref())?;
    let email = check::optional_email("email", body.email.as_deref())?;
    let phone = check::optional_name("phone", body.phone.as_deref())?;
    Ok(NewVisitor {
        visitor_id: id,
        readable_id: pipelines::readable_id(&id.to_string()),
        name: sealer.seal_option(name.as_deref())?,
        email: sealer.seal_option(email.as_deref())?,
        phone: sealer.seal_option(phone.as_deref())?,
        metadata: Some(sealer.seal(browser)?),
        external_id: None,
    })
}

fn message(sealer: &Sealer, field: &str, text: &str) -> Outcome<NewMessage> {
    let content_chars = check::content(field, text)?;
    Ok(NewMessage { content: sealer.seal(text)?, content_chars, client_id: None, metadata: None })
}

/// A visitor's view: neither notes nor their numbers show.
fn view(app: &App, chat: &Conversation) -> Outcome<ConversationView> {
    let mut view = app.views.conversation(chat, true)?;
    view.last_seq = events::last_seq(app, chat, true)?;
    Ok(view)
}

fn own_view(app: &App, tenant: TenantId, id: ConversationId) -> Outcome<Json<ConversationView>> {
    Ok(Json(view(app, &write::conversation(app, tenant, id)?)?))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Opened {
    conversation: ConversationView,
    events: Vec<EventView>,
    last_seq: u64,
}

async fn conversation(
    State(app): State<Arc<App>>,
    caller: VisitorCaller,
    Params(params): Params<events::EventParams>,
) -> Outcome<Json<Opened>> {
    let limit = page_size(params.limit)?;
    let chat = write::conversation(&app, caller.tenant, caller.conversation)?;
    let events = events::page(&app, &chat, params.after.unwrap_or(0), limit, true)?;
    let conversation = view(&app, &chat)?;
    let last_seq = conversation.last_seq;
    Ok(Json(Opened { conversation, events, last_seq }))
}

async fn conversations(State(app): State<Arc<App>>, caller: VisitorCaller) -> Outcome<Json<Value>> {
    let chats = app.pool.read(|connection| read::conversations_of(connection, caller.visitor))?;
    let items = chats.iter().filter(|chat| chat.tenant == caller.tenant).map(|chat| view(&app, chat));
    let items = items.collect::<Outcome<Vec<_>>>()?;
    Ok(Json(json!({ "items": items })))
}

#[derive(Deserialize)]
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
    };
    let author = events::Author { tenant: caller.tenant, actor: caller.actor(), sender: caller.sender() };
    let chat = write::conversation(&app, caller.tenant, caller.conversation)?;
    let (status, event) = events::post(&app, author, &chat, &write, posted).await?;
    Ok((status, Json(event)).into_response())
}

#[derive(Deserialize)]
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
    if !(1..=5).contains(score) {
        return Err(Problem::invalid("score", "'score' is a number from 1 to 5"));
    }
    let comment = comment.as_deref().filter(|text| !text.trim().is_empty());
    comment.map(|text| check::content("comment", text)).transpose()?;
    let sealer = Sealer::for_known(&app, caller.visitor)?;
    let comment = sealer.seal_option(comment)?;
    let kind = CommandKind::Rate { conversation_id: caller.conversation, score: *score, comment };
    let request = write.request(&app, caller.sender());
    write::submit(&app, command(caller.tenant, caller.actor(), request, kind)).await?;
    own_view(&app, caller.tenant, caller.conversation)
}

/// The visitor is done: resolved, so that writing again goes on in the same conversation.
async fn end(
    State(app): State<Arc<App>>,
    caller: VisitorCaller,
    write: Write<Nothing>,
) -> Outcome<Json<ConversationView>> {
    let kind = CommandKind::Resolve { conversation_id: caller.conversation };
    let request = write.request(&app, caller.sender());
    write::submit(&app, command(caller.tenant, caller.actor(), request, kind)).await?;
    own_view(&app, caller.tenant, caller.conversation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_realtime_url_follows_the_public_one() {
        assert_eq!(realtime_url("https://chat.example/"), "wss://chat.example/v1/realtime");
        assert_eq!(realtime_url("http://127.0.0.1:8080"), "ws://127.0.0.1:8080/v1/realtime");
    }
}
