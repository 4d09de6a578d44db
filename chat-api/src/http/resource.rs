//! What the routes of agents, roles, groups, tags, canned responses and chatbots share: lists, deleting, restoring.

use super::extract::{Write, page_size};
use super::page::{Held, Page, after_id, id_cursor};
use super::problem::Outcome;
use super::write::{self, command};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::core::CommandKind;
use crate::core::state::RequestRecord;
use crate::store::read::{self, Listed, Listing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
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

/// A page of the tenant's, by id, those aside that `view` gives nothing for.
pub(super) async fn page<T: Listed, V: Serialize>(
    app: &App,
    caller: &AgentCaller,
    params: &ListParams,
    view: impl Fn(&T) -> Outcome<Option<V>>,
) -> Outcome<Held<Page<V>>> {
    let after = after_id(params.cursor.as_deref())?;
    let listing = Listing { after, deleted: params.deleted, limit: page_size(params.limit)? };
    let hold = app.limiter.reading.hold(caller.into()).await;
    let rows = app.pool.read(|connection| read::listed::<T>(connection, caller.tenant, listing))?;
    Page::of(hold, &rows, |id| id_cursor(*id), view)
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
