//! Contracts of two more documents, served as they are, in snake_case, over the same conversations as everywhere else.
//!
//! [`chats`]: `/chats` and `/agents`. [`messages`]: `/api/v1`. Here is what they share: who calls, and waiting for what
//! comes a moment later.

mod chats;
mod messages;

use super::extract::{self, origin};
use super::page::Items;
use super::piecewise::{self, At};
use super::problem::{Outcome, Problem};
use super::surface::Routes;
use super::surface::describe::{Operation, Part};
use super::{events, layers, sessions, widget};
use crate::app::App;
use crate::auth::tokens::{VISITOR_PREFIX, bearer};
use crate::auth::{AgentCaller, VisitorCaller, caller};
use crate::core::state::{Chatbot, Conversation};
use crate::limits::{ClientIp, Reader};
use crate::store::read;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use ingest::event::Event;
use ingest::id::{ConversationId, TenantId};
use ingest::payload::Payload;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long an answer waits for an assignment or a reply.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Events read at once when a whole conversation is read.
const PAGE: usize = 200;

pub(super) fn routes() -> Routes {
    chats::routes().merge(messages::routes())
}

/// Whether pages with a widget call this path.
pub(super) fn for_widgets(path: &str) -> bool {
    path == "/chats" || path.starts_with("/chats/") || path.starts_with("/api/v1/")
}

/// Whoever calls, by whichever credential there is; the chatbot's origins hold as for the widget.
struct Caller {
    who: Who,
    headers: HeaderMap,
    client: ClientIp,
}

enum Who {
    /// A page with a chatbot's key: it starts conversations and never reads them.
    Chatbot(Box<Chatbot>),
    /// A visitor with a session token.
    Visitor(VisitorCaller),
    /// A signed-in agent.
    Agent(AgentCaller),
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let headers = parts.headers.clone();
        let page = origin(&headers);
        let client = ClientIp::of(&parts.extensions);
        let who = match bearer(&headers) {
            Some(token) if token.starts_with(VISITOR_PREFIX) => {
                let (visitor, chatbot) = caller::visitor(app, token)?;
                widget::origin_allowed(app, &chatbot, page)?;
                widget::hold(app, &*parts, &chatbot, Some(&visitor))?;
                widget::seen(app, &visitor);
                Who::Visitor(visitor)
            }
            Some(token) => Who::Agent(extract::agent(app, token)?),
            None => {
                let chatbot = widget::chatbot_of_key(app, &headers)?;
                widget::origin_allowed(app, &chatbot, page)?;
                widget::hold(app, &*parts, &chatbot, None)?;
                Who::Chatbot(Box::new(chatbot))
            }
        };
        Ok(Self { who, headers, client })
    }
}

impl Part for Caller {
    fn describe(_: &mut Operation<'_>) {}
}

impl Caller {
    /// Headers of the answer: what lets a widget's page read it, and a fresh token when the old one nears its end.
    fn answer_headers(&self, app: &App) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match &self.who {
            Who::Agent(_) => return headers,
            Who::Visitor(visitor) if !visitor.blocked => widget::renew(app, visitor, &mut headers),
            Who::Visitor(_) | Who::Chatbot(_) => {}
        }
        if let Some(origin) = origin(&self.headers) {
            layers::allow_origin(&mut headers, origin);
        }
        headers
    }

    /// As whom the caller reads.
    fn reader(&self) -> Reader {
        match &self.who {
            Who::Chatbot(chatbot) => Reader::token(chatbot.tenant),
            Who::Visitor(visitor) => Reader::from(visitor),
            Who::Agent(agent) => Reader::from(agent),
        }
    }

    /// A conversation that the caller may read. Any other is as unknown as one that never was.
    fn conversation(&self, app: &App, id: &str) -> Outcome<Conversation> {
        let unknown = || Problem::not_found("conversation");
        let (tenant, id): (TenantId, ConversationId) = match (&self.who, id.parse()) {
            (Who::Chatbot(_), _) => return Err(Problem::unauthorized("a chatbot's key starts conversations only")),
            (_, Err(_)) => return Err(unknown()),
            (Who::Visitor(visitor), Ok(id)) => (visitor.tenant, id),
            (Who::Agent(agent), Ok(id)) => (agent.tenant, id),
        };
        let chat = app.pool.read(|connection| read::conversation(connection, tenant, id))?;
        let readable = |chat: &Conversation| match &self.who {
            Who::Visitor(visitor) => visitor.may_see(chat),
            Who::Agent(agent) => agent.may_see(chat),
            Who::Chatbot(_) => false,
        };
        chat.filter(readable).ok_or_else(unknown)
    }
}

/// Hands a session's token to who started it.
fn put_token(app: &App, chatbot: &Chatbot, chat: &Conversation, headers: &mut HeaderMap) -> Outcome<()> {
    let (token, _) = sessions::sign(app, sessions::session_of(chat, chatbot.id, None))?;
    widget::set_token(headers, &token);
    Ok(())
}

/// Looks again after every commit until there is something, or [`WAIT_MAX`] is over.
async fn wait_for<T>(app: &App, mut look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<Option<T>> {
    let deadline = Instant::now() + WAIT_MAX;
    let mut end = app.writer.reader().watch_end();
    loop {
        end.borrow_and_update();
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        match timeout_at(deadline, end.changed()).await {
            Ok(Ok(())) => {}
            // Time is over, or the server stops.
            _ => return Ok(None),
        }
    }
}

/// `{…"messages":[…]}`: the words of all that was said in a conversation, in order; those of an erased person are gone. `head` is
/// what stands before the words.
async fn transcript(app: &Arc<App>, caller: &Caller, chat: &Conversation, head: String) -> Outcome<Response> {
    let (shared, id) = (Arc::clone(app), chat.id);
    let make = move |at: At<u64>| {
        let (app, head) = (Arc::clone(&shared), head.clone());
        async move {
            let is_message = |event: &Event| matches!(event.payload, Payload::MessagePosted(_));
            let said = events::some(&app, id, at.after, PAGE, is_message).await?;
            let words = |event: &Event| Ok(app.views.event(event)?.and_then(|view| view.content));
            let (items, next) = Items::<String>::of(&said, words)?;
            Ok::<_, Problem>(piecewise::array(&head, &at, &items, next))
        }
    };
    let mut response = piecewise::answer(&app.limiter.reading, caller.reader(), At::start(0), make).await?;
    response.headers_mut().extend(caller.answer_headers(app));
    Ok(response)
}
