//! Visitors, for agents: `/v1/visitors`. Looking them up, changing, blocking and erasing them.

use super::check;
use super::extract::{Id, Nothing, Params, Write, page_size, require};
use super::page::{Held, Page, before_time, time_cursor};
use super::problem::{Outcome, Problem};
use super::surface::{Routes, Way};
use super::write::{self, Sealer, command};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::core::CommandKind;
use crate::core::state::{Conversation, Visitor};
use crate::erasure;
use crate::import::{email_hmac, look_up};
use crate::limits::Reader;
use crate::live::Person;
use crate::store::read;
use crate::view::{ConversationView, VisitorView};
use axum::Json;
use axum::extract::State;
use ingest::id::{ConversationId, TenantId, VisitorId};
use ingest::payload::Permission;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    const READ: &[Way] = &[Way::May(Permission::VisitorsRead)];
    const WRITE: &[Way] = &[Way::May(Permission::VisitorsWrite)];
    Routes::new("Visitors, for agents")
        .get("/v1/visitors", list, READ, "The tenant's visitors, the newest first.")
        .get("/v1/visitors/{id}", show, READ, "One visitor.")
        .patch("/v1/visitors/{id}", change, WRITE, "Changes what is known of a visitor.")
        .delete("/v1/visitors/{id}", erase, &[Way::May(Permission::VisitorsErase)], "Erases the person for good.")
        .get("/v1/visitors/{id}/conversations", chats, READ, "The visitor's conversations.")
        .post("/v1/visitors/{id}/block", block, WRITE, "Blocks a visitor, who reads on and writes no more.")
        .post("/v1/visitors/{id}/unblock", unblock, WRITE, "Lets a blocked visitor write again.")
        .post("/v1/conversations/{id}/block", block_conversation, WRITE, "Blocks the visitor of a conversation.")
}

fn visitor(app: &App, tenant: TenantId, id: VisitorId) -> Outcome<Visitor> {
    app.pool.read(|connection| read::visitor(connection, tenant, id))?.ok_or_else(|| Problem::not_found("visitor"))
}

fn view(app: &App, visitor: &Visitor) -> Outcome<VisitorView> {
    let person = Person::Visitor(visitor.id);
    let online = app.presence.is_present(visitor.tenant, person);
    Ok(app.views.visitor(visitor, online, app.presence.last_seen(visitor.tenant, person))?)
}

fn shown(app: &App, tenant: TenantId, id: VisitorId) -> Outcome<Json<VisitorView>> {
    Ok(Json(view(app, &visitor(app, tenant, id)?)?))
}

fn may_read(caller: &AgentCaller) -> Outcome<()> {
    require(caller, Permission::VisitorsRead, "read visitors")
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListParams {
    q: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Newest first. `q` is a whole address or a readable id: personal texts are sealed, so there is no part to search in.
async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Held<Page<VisitorView>>> {
    may_read(&caller)?;
    let limit = page_size(params.limit)?;
    let before = before_time(params.cursor.as_deref())?;
    let query = params.q.as_deref().map(str::trim).filter(|query| !query.is_empty());
    let hold = app.limiter.reading.hold(Reader::from(&caller)).await;
    let found = match query {
        Some(query) => {
            let (word, hmac) = (query.to_lowercase(), email_hmac(&app.key_file, query));
            app.pool.read(|c| read::visitors_named(c, caller.tenant, (&word, &hmac), before, limit))?
        }
        None => app.pool.read(|connection| read::visitors(connection, caller.tenant, before, limit))?,
    };
    Page::of(hold, &found, |(at, id)| time_cursor(*at, *id), |found| view(&app, found).map(Some))
}

async fn show(State(app): State<Arc<App>>, caller: AgentCaller, Id(id): Id<VisitorId>) -> Outcome<Json<VisitorView>> {
    may_read(&caller)?;
    shown(&app, caller.tenant, id)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PageParams {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Those of the visitor's conversations that the caller may see.
async fn chats(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<VisitorId>,
    Params(params): Params<PageParams>,
) -> Outcome<Held<Page<ConversationView>>> {
    may_read(&caller)?;
    let limit = page_size(params.limit)?;
    let before = before_time(params.cursor.as_deref())?.map(|(at, id)| (at, ConversationId(id)));
    let found = visitor(&app, caller.tenant, id)?;
    let hold = app.limiter.reading.hold(Reader::from(&caller)).await;
    let read = |c: &rusqlite::Connection| read::conversations_with(c, caller.tenant, found.id, before, limit);
    let chats = app.pool.read(read)?;
    let view = |chat: &Conversation| {
        let seen = caller.may_see(chat).then(|| app.views.conversation(chat, false));
        Ok(seen.transpose()?)
    };
    Page::of(hold, &chats, |(at, id)| time_cursor(*at, *id), view)
}

/// What an agent can say of a visitor. `readableId` follows from the id, `userId` is the tenant's server's to say.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    user_agent: Option<String>,
    ip_address: Option<String>,
    referrer: Option<String>,
    page: Option<String>,
    metadata: Option<Map<String, Value>>,
}

async fn change(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(visitor_id): Id<VisitorId>,
    write: Write<Change>,
) -> Outcome<Json<VisitorView>> {
    require(&caller, Permission::VisitorsWrite, "change visitors")?;
    let found = visitor(&app, caller.tenant, visitor_id)?;
    let body = &write.body;
    let name = body.name.as_deref().map(|text| check::name("name", text)).transpose()?;
    let email = body.email.as_deref().map(|text| check::email("email", text)).transpose()?;
    let phone = body.phone.as_deref().map(|text| check::name("phone", text)).transpose()?;
    let sealer = Sealer::for_known(&app, visitor_id)?;
    let browser = browser(&app, &found, body)?;
    let kind = CommandKind::UpdateVisitor {
        visitor_id,
        name: sealer.seal_option(name.as_deref())?,
        email: sealer.seal_option(email.as_deref())?,
        look_up: look_up(&app.key_file, caller.tenant, email.as_deref(), name.as_deref()),
        phone: sealer.seal_option(phone.as_deref())?,
        metadata: sealer.seal_option(browser.as_deref())?,
    };
    let request = write.request(&app, caller.sender());
    write::submit(&app, command(caller.tenant, caller.actor(), request, kind)).await?;
    shown(&app, caller.tenant, visitor_id)
}

/// What is known of the browser with the change in it, as JSON; `None` when nothing of it changes.
fn browser(app: &App, visitor: &Visitor, change: &Change) -> Outcome<Option<String>> {
    let mut browser = app.views.browser(visitor)?;
    let mut changed = false;
    for (field, text, place) in [
        ("userAgent", &change.user_agent, &mut browser.user_agent),
        ("ipAddress", &change.ip_address, &mut browser.ip_address),
        ("referrer", &change.referrer, &mut browser.referrer),
        ("page", &change.page, &mut browser.page),
    ] {
        if let Some(text) = text {
            *place = Some(check::page_url(field, text)?);
            changed = true;
        }
    }
    if let Some(metadata) = &change.metadata {
        check::metadata("metadata", metadata)?;
        browser.metadata = Some(metadata.clone());
        changed = true;
    }
    if !changed {
        return Ok(None);
    }
    serde_json::to_string(&browser).map(Some).map_err(|error| Problem::internal(&error))
}

async fn block(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(visitor_id): Id<VisitorId>,
    write: Write<Nothing>,
) -> Outcome<Json<VisitorView>> {
    set_blocked(&app, &caller, &write, CommandKind::BlockVisitor { visitor_id }).await?;
    shown(&app, caller.tenant, visitor_id)
}

async fn unblock(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(visitor_id): Id<VisitorId>,
    write: Write<Nothing>,
) -> Outcome<Json<VisitorView>> {
    set_blocked(&app, &caller, &write, CommandKind::UnblockVisitor { visitor_id }).await?;
    shown(&app, caller.tenant, visitor_id)
}

/// Blocks the visitor of a conversation.
async fn block_conversation(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<ConversationId>,
    write: Write<Nothing>,
) -> Outcome<Json<ConversationView>> {
    let visitor_id = write::visible(&app, &caller, id)?.visitor;
    set_blocked(&app, &caller, &write, CommandKind::BlockVisitor { visitor_id }).await?;
    Ok(Json(app.views.conversation(&write::conversation(&app, caller.tenant, id)?, false)?))
}

async fn set_blocked(app: &App, caller: &AgentCaller, write: &Write<Nothing>, kind: CommandKind) -> Outcome<()> {
    let request = write.request(app, caller.sender());
    write::submit(app, command(caller.tenant, caller.actor(), request, kind)).await.map(drop)
}

/// Erases the person for good. May be repeated: what was left by a failure is taken away then.
async fn erase(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(visitor_id): Id<VisitorId>,
    write: Write<Nothing>,
) -> Outcome<Json<VisitorView>> {
    let request = write.request(&app, caller.sender());
    let command = command(caller.tenant, caller.actor(), request, CommandKind::EraseVisitor { visitor_id });
    write::submit(&app, command).await?;
    erasure::sweep(&app, caller.tenant, visitor_id).await.map_err(|error| Problem::internal(&error))?;
    shown(&app, caller.tenant, visitor_id)
}
