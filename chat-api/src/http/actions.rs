//! What agents do with a conversation beside talking and assigning: notes, transfer, snooze, read.

use super::conversations::act;
use super::extract::{Id, Write};
use super::problem::{Outcome, Problem};
use super::surface::{Routes, Way};
use super::write::{self, Sealer};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::check;
use crate::core::CommandKind;
use crate::core::command::TransferTo;
use crate::core::state::Conversation;
use crate::view::ConversationView;
use axum::Json;
use axum::extract::State;
use ingest::id::ConversationId;
use ingest::payload::{Permission, present};
use ingest::seal::Sealed;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    const REPLY: &[Way] = &[Way::May(Permission::ConversationsReply)];
    Routes::new("Conversations")
        .post("/v1/conversations/{id}/transfer", transfer, REPLY, "Hands it to another agent, or to a group's queue.")
        .post("/v1/conversations/{id}/snooze", snooze, REPLY, "Sets it aside until a time; `null` ends it.")
        .post("/v1/conversations/{id}/read", read, REPLY, "Says how far it's read.")
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Update {
    #[serde(default, deserialize_with = "present")]
    notes: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    group_id: Option<Option<String>>,
}

/// `PATCH /v1/conversations/{id}`.
pub(super) async fn update(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(conversation_id): Id<ConversationId>,
    write: Write<Update>,
) -> Outcome<Json<ConversationView>> {
    let chat = write::visible(&app, &caller, conversation_id)?;
    let notes = notes(&app, &chat, write.body.notes.as_ref())?;
    let unknown_group = || Problem::not_found("group").at("groupId");
    let group = write.body.group_id.as_ref();
    let group_id = group.map(|id| id.as_ref().map(|id| id.parse().map_err(|_| unknown_group())).transpose());
    let kind = CommandKind::UpdateConversation { conversation_id, notes, group_id: group_id.transpose()? };
    act(&app, &caller, &write, conversation_id, kind).await
}

/// The notes to be written; none when they are the same. Blank ones are none.
fn notes(app: &App, chat: &Conversation, new: Option<&Option<String>>) -> Outcome<Option<Option<Sealed>>> {
    let Some(new) = new else { return Ok(None) };
    let new = new.as_deref().filter(|text| !text.trim().is_empty());
    new.map(|text| check::content("notes", text)).transpose()?;
    if app.views.shown(chat.notes.as_ref())?.as_deref() == new {
        return Ok(None);
    }
    new.map(|text| Sealer::for_known(app, chat.visitor)?.seal(text)).transpose().map(Some)
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Transfer {
    agent_id: Option<String>,
    group_id: Option<String>,
    note: Option<String>,
}

async fn transfer(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(conversation_id): Id<ConversationId>,
    write: Write<Transfer>,
) -> Outcome<Json<ConversationView>> {
    let chat = write::visible(&app, &caller, conversation_id)?;
    let to = match (&write.body.agent_id, &write.body.group_id) {
        (Some(id), None) => TransferTo::Agent(id.parse().map_err(|_| Problem::not_found("agent").at("agentId"))?),
        (None, Some(id)) => TransferTo::Group(id.parse().map_err(|_| Problem::not_found("group").at("groupId"))?),
        _ => return Err(Problem::invalid("agentId", "give either 'agentId' or 'groupId'")),
    };
    let note = write.body.note.as_deref().filter(|text| !text.trim().is_empty());
    note.map(|text| check::content("note", text)).transpose()?;
    let note = note.map(|text| Sealer::for_known(&app, chat.visitor)?.seal(text)).transpose()?;
    act(&app, &caller, &write, conversation_id, CommandKind::Transfer { conversation_id, to, note }).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Snooze {
    #[serde(deserialize_with = "Option::deserialize")]
    until: Option<String>,
}

/// Until a time; `null` ends it.
async fn snooze(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(conversation_id): Id<ConversationId>,
    write: Write<Snooze>,
) -> Outcome<Json<ConversationView>> {
    let until = write.body.until.as_deref().map(|text| check::time("until", text)).transpose()?;
    act(&app, &caller, &write, conversation_id, CommandKind::Snooze { conversation_id, until }).await
}

/// How far somebody has read.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    /// Up to and with this event.
    pub(super) seq: u64,
}

async fn read(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(conversation_id): Id<ConversationId>,
    write: Write<Read>,
) -> Outcome<Json<ConversationView>> {
    let kind = CommandKind::Read { conversation_id, seq: write.body.seq };
    act(&app, &caller, &write, conversation_id, kind).await
}
