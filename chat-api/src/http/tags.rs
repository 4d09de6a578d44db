//! Tags: `/v1/tags`, the tenant's list of words for conversations, each with a color.

use super::extract::{Id, Nothing, Params, Write};
use super::page::{Held, Page};
use super::problem::{Outcome, Problem};
use super::resource::{self, ListParams, made_id};
use super::surface::{AGENT, Routes, Way};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::check;
use crate::core::CommandKind;
use crate::core::state::Tag;
use crate::store::read;
use crate::view::TagView;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ingest::id::{TagId, TenantId};
use ingest::payload::{Permission, Resource, TagCreated, TagUpdated};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// The color of a tag that says none.
const COLOR: &str = "#6b7280";

pub(super) fn routes() -> Routes {
    const WRITE: &[Way] = &[Way::May(Permission::TagsWrite)];
    Routes::new("Tags")
        .post("/v1/tags", create, WRITE, "Makes a tag.")
        .get("/v1/tags", list, AGENT, "The tenant's tags; with `deleted` the deleted ones.")
        .get("/v1/tags/{id}", show, AGENT, "One tag.")
        .patch("/v1/tags/{id}", change, WRITE, "Changes a tag.")
        .delete("/v1/tags/{id}", delete, WRITE, "Deletes a tag.")
        .post("/v1/tags/{id}/restore", restore, WRITE, "Brings a deleted tag back.")
}

fn view(app: &App, tenant: TenantId, id: TagId) -> Outcome<Json<TagView>> {
    let found = app.pool.read(|connection| read::tag(connection, tenant, id))?;
    found.as_ref().map(|tag| Json(TagView::from(tag))).ok_or_else(|| Problem::not_found("tag"))
}

/// `#rrggbb`, in lower case.
fn color(text: &str) -> Outcome<String> {
    let hex = text.strip_prefix('#').filter(|hex| hex.len() == 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match hex {
        Some(_) => Ok(text.to_ascii_lowercase()),
        None => Err(Problem::invalid("color", "'color' is written as #rrggbb")),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Create {
    name: String,
    color: Option<String>,
}

async fn create(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    write: Write<Create>,
) -> Outcome<(StatusCode, Json<TagView>)> {
    let tag_id = TagId::fresh();
    let name = check::name("name", &write.body.name)?;
    let made = TagCreated { tag_id, name, color: color(write.body.color.as_deref().unwrap_or(COLOR))? };
    let repeated = resource::submit(&app, &caller, &write, CommandKind::CreateTag(made)).await?;
    let id = TagId(made_id(repeated, tag_id.0));
    Ok((StatusCode::CREATED, view(&app, caller.tenant, id)?))
}

async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Held<Page<TagView>>> {
    resource::page(&app, &caller, &params, |tag: &Tag| Ok(Some(TagView::from(tag)))).await
}

async fn show(State(app): State<Arc<App>>, caller: AgentCaller, Id(id): Id<TagId>) -> Outcome<Json<TagView>> {
    view(&app, caller.tenant, id)
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    name: Option<String>,
    color: Option<String>,
}

async fn change(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(tag_id): Id<TagId>,
    write: Write<Change>,
) -> Outcome<Json<TagView>> {
    let name = write.body.name.as_deref().map(|name| check::name("name", name)).transpose()?;
    let color = write.body.color.as_deref().map(color).transpose()?;
    let change = TagUpdated { tag_id, name, color };
    resource::submit(&app, &caller, &write, CommandKind::UpdateTag(change)).await?;
    view(&app, caller.tenant, tag_id)
}

async fn delete(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<TagId>,
    write: Write<Nothing>,
) -> Outcome<Json<TagView>> {
    resource::submit(&app, &caller, &write, CommandKind::Delete(Resource::Tag(id))).await?;
    view(&app, caller.tenant, id)
}

async fn restore(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<TagId>,
    write: Write<Nothing>,
) -> Outcome<Json<TagView>> {
    resource::submit(&app, &caller, &write, CommandKind::Restore(Resource::Tag(id))).await?;
    view(&app, caller.tenant, id)
}
