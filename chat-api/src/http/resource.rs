//! What the routes of agents, roles, groups, tags, canned responses and chatbots share: lists, deleting, restoring.

use super::extract::{Write, page_size};
use super::page::{Page, after_id};
use super::problem::Outcome;
use super::write::{self, command};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::core::CommandKind;
use crate::core::state::RequestRecord;
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

/// Which part of a list is wanted.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    limit: Option<usize>,
    cursor: Option<String>,
    /// The deleted ones instead of the living.
    #[serde(default)]
    deleted: bool,
}

/// A page of a list that is short and ordered by id.
pub(super) fn page<T, V>(
    params: &ListParams,
    list: Vec<T>,
    key: impl Fn(&T) -> (Uuid, Option<Timestamp>),
    view: impl Fn(&T) -> Outcome<V>,
) -> Outcome<Page<V>> {
    let limit = page_size(params.limit)?;
    let after = after_id(params.cursor.as_deref())?;
    let list: Vec<T> = list.into_iter().filter(|item| key(item).1.is_some() == params.deleted).collect();
    Page::by_id(list, after, limit, |item| key(item).0).try_map(|item| view(&item))
}

/// Sends an agent's command; answers what an earlier request with the same key led to, if there was one.
pub(super) async fn submit<T>(
    app: &App,
    caller: &AgentCaller,
    write: &Write<T>,
    kind: CommandKind,
) -> Outcome<Option<RequestRecord>> {
    let request = write.request(app, caller.sender());
    let answer = write::submit(app, command(caller.tenant, caller.actor(), request, kind)).await?;
    Ok(answer.repeated)
}

/// The id of what a creation made: the fresh one, or the one that the same request made before.
pub(super) fn made_id(repeated: Option<RequestRecord>, fresh: Uuid) -> Uuid {
    repeated.and_then(|record| record.resource).unwrap_or(fresh)
}
