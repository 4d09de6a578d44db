//! `POST /api/v1/messages` and `GET /api/v1/user/{user_id}/messages/{conversation_id}`: one message in, one reply out.
//!
//! `user_id` is the caller's own word for the visitor, kept with what is known of their browser. It proves nothing: the
//! token says whose conversation it is, and the word must only fit it.

use super::{Caller, PAGE, Who, put_token, transcript, wait_for};
use crate::app::App;
use crate::check;
use crate::core::state::Conversation;
use crate::http::extract::Write;
use crate::http::problem::{Outcome, Problem};
use crate::http::sessions::{self, StartSession};
use crate::http::surface::{Routes, Way};
use crate::http::{events, widget};
use crate::store::read;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use ingest::id::ConversationId;
use ingest::payload::{AuthorType, Payload};
use ingest::sqlite::EmbeddedLog;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Where the caller's word for the visitor is in the visitor's metadata.
const USER_ID: &str = "user_id";

pub(super) fn routes() -> Routes {
    Routes::new("Messages (snake_case)")
        .post(
            "/api/v1/messages",
            post,
            &[Way::ChatbotKey, Way::Visitor],
            "Writes a message and waits up to a second for the reply.",
        )
        .get(
            "/api/v1/user/{user_id}/messages/{conversation_id}",
            list,
            &[Way::Visitor, Way::Agent],
            "What was said in a conversation.",
        )
        .answers::<Messages>(&[200])
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    /// Empty for the first message.
    conversation_id: String,
    user_id: String,
    message: String,
}

#[derive(Serialize, JsonSchema)]
struct Reply {
    conversation_id: ConversationId,
    user_id: String,
    /// What a bot or an agent said within a second; empty when nobody did.
    message: String,
}

async fn post(
    State(app): State<Arc<App>>,
    caller: Caller,
    write: Write<NewMessage>,
) -> Outcome<(HeaderMap, Json<Reply>)> {
    let body = &write.body;
    check::content("message", &body.message)?;
    if !body.user_id.is_empty() {
        check::name("user_id", &body.user_id)?;
    }
    let mut headers = caller.answer_headers(&app);
    let (chat, seq) = match &caller.who {
        Who::Chatbot(chatbot) if body.conversation_id.is_empty() => {
            write.public_key()?;
            let word = Map::from_iter([(USER_ID.to_owned(), Value::from(body.user_id.clone()))]);
            let session = StartSession {
                initial_message: Some(body.message.clone()),
                metadata: Some(word).filter(|_| !body.user_id.is_empty()),
                ..StartSession::default()
            };
            let request = write.request(&app, format!("chatbot:{}", chatbot.id));
            let chat = sessions::start(&app, chatbot, &caller.headers, caller.client, request, &session).await?;
            put_token(&app, chatbot, &chat, &mut headers)?;
            (chat, 0)
        }
        Who::Visitor(visitor) => {
            let chat = caller.conversation(&app, &body.conversation_id)?;
            fits(&app, &chat, &body.user_id)?;
            let posted = events::Posted {
                kind: events::Kind::Message,
                content: &body.message,
                client_id: None,
                metadata: None,
                file: None,
            };
            let (_, event) = widget::say(&app, visitor, chat.id, &write, posted).await?;
            (crate::http::write::conversation(&app, visitor.tenant, event.conversation_id)?, event.seq)
        }
        _ => {
            let detail = "send the chatbot's key for the first message, and then the session token it answered";
            return Err(Problem::unauthorized(detail));
        }
    };
    let message = reply(&app, &chat, seq).await?.unwrap_or_default();
    Ok((headers, Json(Reply { conversation_id: chat.id, user_id: name(&chat, &body.user_id), message })))
}

/// What someone on the other side says after `seq`, within a moment.
async fn reply(app: &App, chat: &Conversation, seq: u64) -> Outcome<Option<String>> {
    wait_for(app, || {
        let records = EmbeddedLog::history(&app.pool, chat.id, seq, PAGE)?;
        for event in records.values().map(|record| &record.event) {
            let is_reply =
                matches!(&event.payload, Payload::MessagePosted(said) if said.author_type != AuthorType::Visitor);
            if is_reply && let Some(words) = app.views.event(event)?.and_then(|view| view.content) {
                return Ok(Some(words));
            }
        }
        Ok(None)
    })
    .await
}

/// A caller without a word of their own is named by the visitor's id.
fn name(chat: &Conversation, user_id: &str) -> String {
    if user_id.is_empty() { chat.visitor.to_string() } else { user_id.to_owned() }
}

/// Refuses a word that isn't this visitor's, as if the conversation weren't there.
fn fits(app: &App, chat: &Conversation, user_id: &str) -> Outcome<()> {
    let visitor = app.pool.read(|connection| read::visitor(connection, chat.tenant, chat.visitor))?;
    let about = app.views.shown(visitor.and_then(|visitor| visitor.metadata).as_ref())?;
    let about: Option<Value> = about.and_then(|text| serde_json::from_str(&text).ok());
    let word = about.as_ref().and_then(|about| about["metadata"][USER_ID].as_str());
    if user_id == chat.visitor.to_string() || word.unwrap_or_default() == user_id {
        return Ok(());
    }
    Err(Problem::not_found("conversation"))
}

#[derive(Serialize, JsonSchema)]
struct Messages {
    conversation_id: ConversationId,
    user_id: String,
    messages: Vec<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((user_id, conversation_id)): Path<(String, String)>,
) -> Outcome<Response> {
    let chat = caller.conversation(&app, &conversation_id)?;
    fits(&app, &chat, &user_id)?;
    let head = format!("{{\"conversation_id\":{},\"user_id\":{},\"messages\":[", json!(chat.id), json!(user_id));
    transcript(&app, &caller, &chat, head).await
}
