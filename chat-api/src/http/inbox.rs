//! The list of conversations that an agent may see: `GET /v1/conversations`.

use super::extract::{Params, page_size, require};
use super::page::{Held, Page, before_time, time_cursor};
use super::problem::{Outcome, Problem};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::check;
use crate::core::state::{Conversation, Status};
use crate::import::email_hmac;
use crate::limits::Reader;
use crate::store::inbox::{self, Filter, Sort};
use crate::store::search::Search;
use crate::view::ConversationView;
use axum::extract::State;
use ingest::id::ConversationId;
use ingest::payload::Permission;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ListParams {
    status: Option<Status>,
    assignee: Option<String>,
    group_id: Option<String>,
    tag: Option<String>,
    q: Option<String>,
    sort: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Filtered by all that is given, and by `q` to what is called so: see [`crate::store::search`]; newest change first unless `sort` says otherwise.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Held<Page<ConversationView>>> {
    let limit = page_size(params.limit)?;
    let after = before_time(params.cursor.as_deref())?.map(|(at, id)| (at, ConversationId(id)));
    let (filter, sort) = (filter(&app, &caller, &params)?, sort(params.sort.as_deref())?);
    let hold = app.limiter.reading.hold(Reader::from(&caller)).await;
    let chats = app.pool.read(|connection| inbox::page(connection, &filter, sort, after, limit))?;
    let view = |chat: &Conversation| Ok(Some(app.views.conversation(chat, caller.audience_of(chat))?));
    Page::of(hold, &chats, |(at, id)| time_cursor(*at, *id), view)
}

fn filter(app: &App, caller: &AgentCaller, params: &ListParams) -> Outcome<Filter> {
    require(caller, Permission::ConversationsRead, "read conversations")?;
    let not_an_agent = |_| Problem::invalid("assignee", "'assignee' is 'me', 'none' or an agent's id");
    let assignee = match params.assignee.as_deref() {
        None => None,
        Some("me") => Some(Some(caller.agent)),
        Some("none") => Some(None),
        Some(id) => Some(Some(id.parse().map_err(not_an_agent)?)),
    };
    let query = params.q.as_deref().map(str::trim).filter(|query| !query.is_empty());
    if let Some(query) = query {
        check::text("q", query)?;
    }
    let search = query.map(|query| Search::new(&app.key_file, caller.tenant, query, email_hmac(&app.key_file, query)));
    let not_a_group = |_| Problem::invalid("groupId", "'groupId' is a group's id");
    Ok(Filter {
        tenant: caller.tenant,
        visible: caller.visible.clone(),
        status: params.status,
        assignee,
        group: params.group_id.as_deref().map(str::parse).transpose().map_err(not_a_group)?,
        tag: params.tag.as_deref().map(|tag| check::name("tag", tag)).transpose()?,
        search,
    })
}

fn sort(word: Option<&str>) -> Outcome<Sort> {
    match word {
        None | Some("-updatedAt") => Ok(Sort::UpdatedDown),
        Some("updatedAt") => Ok(Sort::UpdatedUp),
        Some("-createdAt") => Ok(Sort::CreatedDown),
        Some("createdAt") => Ok(Sort::CreatedUp),
        Some(_) => {
            let detail = "'sort' is 'updatedAt' or 'createdAt', with a '-' before it for the newest first";
            Err(Problem::invalid("sort", detail))
        }
    }
}
