//! Canned responses: `/v1/canned-responses`, texts that agents send by a shortcut.

use super::extract::{Id, Nothing, Params, Write};
use super::page::{Held, Page};
use super::problem::{Outcome, Problem};
use super::resource::{self, ListParams, made_id};
use super::surface::{AGENT, Routes, Way};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::check;
use crate::core::CommandKind;
use crate::core::state::CannedResponse;
use crate::store::read;
use crate::view::CannedResponseView;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ingest::id::{CannedResponseId, GroupId};
use ingest::payload::{CannedResponseCreated, CannedResponseUpdated, Permission, Resource, present};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    const WRITE: &[Way] = &[Way::May(Permission::CannedResponsesWrite)];
    Routes::new("Canned responses")
        .post("/v1/canned-responses", create, WRITE, "Makes a canned response.")
        .get(
            "/v1/canned-responses",
            list,
            AGENT,
            "The canned responses of all and of own groups; with `deleted` the deleted ones.",
        )
        .get("/v1/canned-responses/{id}", show, AGENT, "One canned response.")
        .patch("/v1/canned-responses/{id}", change, WRITE, "Changes a canned response.")
        .delete("/v1/canned-responses/{id}", delete, WRITE, "Deletes a canned response.")
        .post("/v1/canned-responses/{id}/restore", restore, WRITE, "Brings a deleted canned response back.")
}

/// One department's own are for those who see its conversations, and for who manages canned responses.
fn sees(caller: &AgentCaller, response: &CannedResponse) -> bool {
    caller.may(Permission::CannedResponsesWrite)
        || response.group.is_none_or(|group| caller.visible.covers_group(group))
}

fn view(app: &App, caller: &AgentCaller, id: CannedResponseId) -> Outcome<Json<CannedResponseView>> {
    let found = app.pool.read(|connection| read::canned_response(connection, caller.tenant, id))?;
    let found = found.filter(|found| sees(caller, found)).ok_or_else(|| Problem::not_found("canned response"))?;
    Ok(Json(CannedResponseView::from(&found)))
}

/// What an agent types: a name without blanks.
fn shortcut(text: &str) -> Outcome<String> {
    let shortcut = check::name("shortcut", text)?;
    if shortcut.contains(char::is_whitespace) {
        return Err(Problem::invalid("shortcut", "'shortcut' has no blanks"));
    }
    Ok(shortcut)
}

fn text(text: &str) -> Outcome<String> {
    check::content("text", text)?;
    Ok(text.to_owned())
}

fn group(id: &str) -> Outcome<GroupId> {
    id.parse().map_err(|_| Problem::not_found("group").at("groupId"))
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Create {
    shortcut: String,
    text: String,
    group_id: Option<String>,
}

async fn create(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    write: Write<Create>,
) -> Outcome<(StatusCode, Json<CannedResponseView>)> {
    let canned_response_id = CannedResponseId::fresh();
    let made = CannedResponseCreated {
        canned_response_id,
        shortcut: shortcut(&write.body.shortcut)?,
        text: text(&write.body.text)?,
        group_id: write.body.group_id.as_deref().map(group).transpose()?,
    };
    let repeated = resource::submit(&app, &caller, &write, CommandKind::CreateCannedResponse(made)).await?;
    let id = CannedResponseId(made_id(repeated, canned_response_id.0));
    Ok((StatusCode::CREATED, view(&app, &caller, id)?))
}

async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Held<Page<CannedResponseView>>> {
    let view = |one: &CannedResponse| Ok(sees(&caller, one).then(|| CannedResponseView::from(one)));
    resource::page(&app, &caller, &params, view).await
}

async fn show(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<CannedResponseId>,
) -> Outcome<Json<CannedResponseView>> {
    view(&app, &caller, id)
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    shortcut: Option<String>,
    text: Option<String>,
    /// `null` gives it to all groups.
    #[serde(default, deserialize_with = "present")]
    group_id: Option<Option<String>>,
}

async fn change(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(canned_response_id): Id<CannedResponseId>,
    write: Write<Change>,
) -> Outcome<Json<CannedResponseView>> {
    let body = &write.body;
    let group_id = match &body.group_id {
        Some(Some(id)) => Some(Some(group(id)?)),
        Some(None) => Some(None),
        None => None,
    };
    let change = CannedResponseUpdated {
        canned_response_id,
        shortcut: body.shortcut.as_deref().map(shortcut).transpose()?,
        text: body.text.as_deref().map(text).transpose()?,
        group_id,
    };
    resource::submit(&app, &caller, &write, CommandKind::UpdateCannedResponse(change)).await?;
    view(&app, &caller, canned_response_id)
}

async fn delete(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<CannedResponseId>,
    write: Write<Nothing>,
) -> Outcome<Json<CannedResponseView>> {
    resource::submit(&app, &caller, &write, CommandKind::Delete(Resource::CannedResponse(id))).await?;
    view(&app, &caller, id)
}

async fn restore(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<CannedResponseId>,
    write: Write<Nothing>,
) -> Outcome<Json<CannedResponseView>> {
    resource::submit(&app, &caller, &write, CommandKind::Restore(Resource::CannedResponse(id))).await?;
    view(&app, &caller, id)
}
