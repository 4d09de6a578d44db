//! Visitors' sessions: starting one, and saying who the visitor is. What follows in one is in [`widget`](super::widget).
//!
//! Whoever starts a session is a new, anonymous visitor, unless the tenant's server vouches for them by a hash of their
//! `userId`: then they are the same visitor everywhere, by an id that is derived from it. A typed address proves nothing.

use super::extract::Write;
use super::problem::{Outcome, Problem};
use super::write::{self, Sealer, command};
use super::{tenants, widget};
use crate::app::App;
use crate::auth::identity::{self, IdentityError};
use crate::auth::tokens::VisitorSession;
use crate::auth::{VisitorCaller, tokens};
use crate::check;
use crate::core::CommandKind;
use crate::core::command::{NewMessage, NewVisitor};
use crate::core::state::{Chatbot, Conversation, Status};
use crate::import::look_up;
use crate::limits::ClientIp;
use crate::live::Person;
use crate::store::read;
use crate::view::Audience;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::{Extension, Json};
use ingest::event::{Actor, RequestKey};
use ingest::id::{ChatbotId, ConversationId, GroupId, TenantId, ThreadId, VisitorId};
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Characters kept of a header that tells about the browser.
const HEADER_CHARS_MAX: usize = 500;
/// Skills that a session can ask for.
const SKILLS_MAX: usize = 20;

/// The body of `POST /v1/widget/session`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StartSession {
    pub(super) name: Option<String>,
    pub(super) email: Option<String>,
    pub(super) phone: Option<String>,
    pub(super) group_id: Option<String>,
    pub(super) initial_message: Option<String>,
    pub(super) metadata: Option<Map<String, Value>>,
    pub(super) user_id: Option<String>,
    pub(super) user_hash: Option<String>,
    pub(super) user_hash_exp: Option<i64>,
    #[serde(default)]
    pub(super) skills: Vec<String>,
}

/// A session as the widget gets it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    session_token: String,
    expires_at: String,
    visitor_id: VisitorId,
    conversation_id: ConversationId,
    thread_id: ThreadId,
    status: Status,
    queue_position: Option<u64>,
    realtime: Realtime,
}

#[derive(Serialize, JsonSchema)]
struct Realtime {
    url: String,
}

/// `POST /v1/widget/session`.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    Extension(chatbot): Extension<Arc<Chatbot>>,
    client: ClientIp,
    headers: HeaderMap,
    write: Write<StartSession>,
) -> Outcome<(StatusCode, Json<Session>)> {
    write.public_key()?;
    let request = write.request(&app, format!("chatbot:{}", chatbot.id));
    let chat = start(&app, &chatbot, &headers, client, request, &write.body).await?;
    Ok((StatusCode::CREATED, Json(session(&app, chatbot.id, &chat, None)?)))
}

/// Starts a conversation with a new visitor, or with one whom the tenant's server vouches for.
pub(super) async fn start(
    app: &App,
    chatbot: &Chatbot,
    headers: &HeaderMap,
    client: ClientIp,
    request: Option<RequestKey>,
    body: &StartSession,
) -> Outcome<Conversation> {
    let address = client.0.map(|address| address.to_string());
    let browser = browser(headers, address, body.metadata.as_ref())?;
    let claim = claim(body.user_id.as_deref(), body.user_hash.as_deref(), body.user_hash_exp)?;
    let claim = claim.map(|claim| claim.verify(app, chatbot)).transpose()?;
    let visitor = claim.as_ref().map_or_else(VisitorId::fresh, |user| user.visitor);
    let sealer = Sealer::for_new(app, visitor)?;
    let typed = Typed { name: body.name.as_deref(), email: body.email.as_deref(), phone: body.phone.as_deref() };
    let mut new = new_visitor(app, chatbot.tenant, &sealer, visitor, typed, claim.as_ref())?;
    new.metadata = Some(sealer.seal(&browser)?);
    let message = body.initial_message.as_deref().map(|text| message(&sealer, "initialMessage", text)).transpose()?;
    let unknown_group = || Problem::not_found("group").at("groupId");
    let group_id: Option<GroupId> =
        body.group_id.as_deref().map(|id| id.parse().map_err(|_| unknown_group())).transpose()?;
    let skills = check::skills("skills", &body.skills, SKILLS_MAX)?;
    let conversation_id = ConversationId::fresh();
    let kind =
        CommandKind::StartSession { visitor: new, conversation_id, chatbot_id: chatbot.id, group_id, skills, message };
    let command = command(chatbot.tenant, Actor::Visitor(visitor), request, kind);
    let answer = write::submit(app, sealer.submission(command)).await?;
    let chat = match answer.repeated {
        Some(record) => {
            let id = record.conversation.ok_or_else(|| Problem::internal(&"a session without its conversation"))?;
            write::conversation(app, chatbot.tenant, id)?
        }
        None => {
            *answer.conversation.ok_or_else(|| Problem::internal(&"a session that was just started isn't there"))?
        }
    };
    app.presence.seen(chat.tenant, Person::Visitor(chat.visitor));
    Ok(chat)
}

/// The body of `POST /v1/widget/identify`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Identify {
    user_id: String,
    user_hash: String,
    user_hash_exp: i64,
    name: Option<String>,
    email: Option<String>,
}

/// `POST /v1/widget/identify`: the anonymous history of this browser becomes the identified visitor's. Answers a new
/// session token, which opens all of their conversations; the old one only reads its own from here on, until that ends.
pub(super) async fn identify(
    State(app): State<Arc<App>>,
    caller: VisitorCaller,
    write: Write<Identify>,
) -> Outcome<(HeaderMap, Json<Session>)> {
    let body = &write.body;
    let chatbot = app.pool.read(|connection| read::chatbot(connection, caller.tenant, caller.chatbot))?;
    let chatbot = chatbot.ok_or_else(|| Problem::unauthorized("the chatbot of this session is gone"))?;
    let claim = Claim { user_id: &body.user_id, user_hash: &body.user_hash, expires_s: body.user_hash_exp };
    let user = claim.verify(&app, &chatbot)?;
    let sealer = Sealer::for_new(&app, user.visitor)?;
    let typed = Typed { name: body.name.as_deref(), email: body.email.as_deref(), phone: None };
    let target = new_visitor(&app, caller.tenant, &sealer, user.visitor, typed, Some(&user))?;
    let request = write.request(&app, caller.sender());
    let kind = CommandKind::IdentifyVisitor { source: caller.subject, target };
    let command = command(caller.tenant, caller.actor(), request, kind);
    write::submit(&app, sealer.submission(command)).await?;
    let chat = write::conversation(&app, caller.tenant, caller.conversation)?;
    app.presence.seen(chat.tenant, Person::Visitor(chat.visitor));
    let before = Some(caller.subject).filter(|before| *before != chat.visitor).or(caller.before);
    let session = session(&app, caller.chatbot, &chat, before)?;
    let mut headers = HeaderMap::new();
    widget::set_token(&mut headers, &session.session_token);
    Ok((headers, Json(session)))
}

/// Whom a page says the visitor is, with the tenant's hash.
struct Claim<'a> {
    user_id: &'a str,
    user_hash: &'a str,
    expires_s: i64,
}

/// Someone the tenant vouched for.
struct User {
    id: String,
    visitor: VisitorId,
}

fn claim<'a>(
    user_id: Option<&'a str>,
    user_hash: Option<&'a str>,
    expires_s: Option<i64>,
) -> Outcome<Option<Claim<'a>>> {
    let missing = |field: &str| {
        let detail = format!("'userId', 'userHash' and 'userHashExp' come together; '{field}' is missing");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "missing_field", detail).at(field)
    };
    if user_id.is_none() && user_hash.is_none() && expires_s.is_none() {
        return Ok(None);
    }
    let user_id = user_id.ok_or_else(|| missing("userId"))?;
    let user_hash = user_hash.ok_or_else(|| missing("userHash"))?;
    let expires_s = expires_s.ok_or_else(|| missing("userHashExp"))?;
    Ok(Some(Claim { user_id, user_hash, expires_s }))
}

impl Claim<'_> {
    fn verify(&self, app: &App, chatbot: &Chatbot) -> Outcome<User> {
        check::id("userId", self.user_id)?;
        let secret = identity::secret(&app.key_file, chatbot.id, chatbot.secret_version);
        let checked = identity::verify(&secret, self.user_id, self.expires_s, self.user_hash, Timestamp::now());
        checked.map_err(|error| {
            let (code, field) = match error {
                IdentityError::Wrong => ("invalid_user_hash", "userHash"),
                IdentityError::Expired => ("user_hash_expired", "userHashExp"),
            };
            Problem::new(StatusCode::UNAUTHORIZED, code, error.to_string()).at(field)
        })?;
        let visitor = identified(app, chatbot.tenant, self.user_id)?;
        Ok(User { id: self.user_id.to_owned(), visitor })
    }
}

/// The visitor with the tenant's own id: derived from it, so that two sessions at once find the same one. After an
/// erasure the next in line: what was erased stays so, and the person may come back.
fn identified(app: &App, tenant: TenantId, user_id: &str) -> Outcome<VisitorId> {
    let hmac = identity::user_hmac(&app.key_file, tenant, user_id);
    let mut life = 0_u32;
    loop {
        let id = VisitorId::derived(&[b"user", hmac.as_bytes(), &life.to_be_bytes()]);
        let known = app.pool.read(|connection| read::visitor(connection, tenant, id))?;
        if known.is_none_or(|known| known.erased_at.is_none()) {
            return Ok(id);
        }
        life += 1;
    }
}

/// What a token is for whose visitor has this conversation.
pub(super) fn session_of(chat: &Conversation, chatbot: ChatbotId, before: Option<VisitorId>) -> VisitorSession {
    VisitorSession { tenant: chat.tenant, visitor: chat.visitor, before, conversation: chat.id, chatbot }
}

/// Signs a session token for as long as the tenant's sessions last.
pub(super) fn sign(app: &App, session: VisitorSession) -> Outcome<(String, Timestamp)> {
    let hours = tenants::tenant(app, session.tenant)?.settings.session_hours;
    Ok(tokens::sign_session(&app.key_file, session, Timestamp::now(), hours)?)
}

fn session(app: &App, chatbot: ChatbotId, chat: &Conversation, before: Option<VisitorId>) -> Outcome<Session> {
    let (session_token, expires_at) = sign(app, session_of(chat, chatbot, before))?;
    let view = app.views.conversation(chat, Audience::Visitor)?;
    Ok(Session {
        session_token,
        expires_at: expires_at.to_string(),
        visitor_id: chat.visitor,
        conversation_id: chat.id,
        thread_id: chat.thread().id,
        status: chat.status,
        queue_position: view.queue_position,
        realtime: Realtime { url: realtime_url(&app.config.public_url) },
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

/// What a visitor typed.
struct Typed<'a> {
    name: Option<&'a str>,
    email: Option<&'a str>,
    phone: Option<&'a str>,
}

fn new_visitor(
    app: &App,
    tenant: TenantId,
    sealer: &Sealer,
    id: VisitorId,
    typed: Typed<'_>,
    user: Option<&User>,
) -> Outcome<NewVisitor> {
    let name = check::optional_name("name", typed.name)?;
    let email = check::optional_email("email", typed.email)?;
    let phone = check::optional_name("phone", typed.phone)?;
    Ok(NewVisitor {
        name: sealer.seal_option(name.as_deref())?,
        email: sealer.seal_option(email.as_deref())?,
        look_up: look_up(&app.key_file, tenant, email.as_deref(), name.as_deref()),
        phone: sealer.seal_option(phone.as_deref())?,
        user_id: sealer.seal_option(user.map(|user| user.id.as_str()))?,
        ..NewVisitor::anonymous(id, pipelines::readable_id(&id.to_string()))
    })
}

fn message(sealer: &Sealer, field: &str, text: &str) -> Outcome<NewMessage> {
    let content_chars = check::content(field, text)?;
    Ok(NewMessage { content: sealer.seal(text)?, content_chars, client_id: None, metadata: None, file_id: None })
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
