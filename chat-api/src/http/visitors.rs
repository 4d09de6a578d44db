//! Visitors, for agents: `/v1/visitors`. Looking them up, changing, blocking and erasing them.
//!
//! Agents see those of whom they see a conversation; others aren't there for them ([`visibility`](crate::core::visibility)).

use super::extract::{Id, Nothing, Params, Write, page_size, require};
use super::page::{Held, Page, before_time, time_cursor};
use super::problem::{Outcome, Problem};
use super::surface::{Routes, Way};
use super::write::{self, Sealer, command};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::check;
use crate::core::CommandKind;
use crate::core::state::{Conversation, Visitor};
use crate::erasure;
use crate::import::{email_hmac, look_up};
use crate::limits::Reader;
use crate::live::Person;
use crate::store::{read, visitor_access};
use crate::view::{ConversationView, VisitorView};
use axum::Json;
use axum::extract::State;
use ingest::id::{ConversationId, VisitorId};
use ingest::payload::Permission;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    use Permission::{ConversationsReply, VisitorsErase, VisitorsRead, VisitorsWrite};
    const READ: &[Way] = &[Way::May(VisitorsRead)];
    const WRITE: &[Way] = &[Way::Holding(&[VisitorsRead, VisitorsWrite, ConversationsReply])];
    const ERASE: &[Way] = &[Way::Holding(&[VisitorsRead, VisitorsErase])];
    const BLOCK: &[Way] = &[Way::Holding(&[VisitorsWrite, ConversationsReply])];
    Routes::new("Visitors, for agents")
        .get("/v1/visitors", list, READ, "The visitors of conversations that the caller sees, the newest first.")
        .get("/v1/visitors/{id}", show, READ, "One visitor.")
        .patch("/v1/visitors/{id}", change, WRITE, "Changes what is known of a visitor.")
        .delete("/v1/visitors/{id}", erase, ERASE, "Erases the person for good.")
        .get("/v1/visitors/{id}/conversations", chats, READ, "The visitor's conversations, those that the caller sees.")
        .post("/v1/visitors/{id}/block", block, WRITE, "Blocks a visitor, who reads on and writes no more.")
        .post("/v1/visitors/{id}/unblock", unblock, WRITE, "Lets a blocked visitor write again.")
        .post("/v1/conversations/{id}/block", block_conversation, BLOCK, "Blocks the visitor of a conversation.")
}

/// A visitor whom the caller sees; others aren't there.
fn visitor(app: &App, caller: &AgentCaller, id: VisitorId) -> Outcome<Visitor> {
    require(caller, Permission::VisitorsRead, "read visitors")?;
    let seen = app.pool.read(|connection| match read::visitor(connection, caller.tenant, id)? {
        Some(found) if visitor_access::sees(connection, &caller.visible, &found)? => Ok(Some(found)),
        _ => Ok(None),
    });
    seen?.ok_or_else(|| Problem::not_found("visitor"))
}

fn view(app: &App, visitor: &Visitor) -> Outcome<VisitorView> {
    let person = Person::Visitor(visitor.id);
    let online = app.presence.is_present(visitor.tenant, person);
    Ok(app.views.visitor(visitor, online, app.presence.last_seen(visitor.tenant, person))?)
}

fn shown(app: &App, caller: &AgentCaller, id: VisitorId) -> Outcome<Json<VisitorView>> {
    Ok(Json(view(app, &visitor(app, caller, id)?)?))
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
    require(&caller, Permission::VisitorsRead, "read visitors")?;
    let limit = page_size(params.limit)?;
    let before = before_time(params.cursor.as_deref())?;
    let query = params.q.as_deref().map(str::trim).filter(|query| !query.is_empty());
    let hold = app.limiter.reading.hold(Reader::from(&caller)).await;
    let found = match query {
        Some(query) => {
            let readable_id = query.to_lowercase();
            let hmac = email_hmac(&app.key_file, query);
            let of = (caller.tenant, &caller.visible);
            let words = (&*readable_id, &*hmac);
            app.pool.read(|connection| visitor_access::named(connection, of, words, before, limit))?
        }
        None => {
            let page =
                |c: &rusqlite::Connection| visitor_access::page(c, caller.tenant, &caller.visible, before, limit);
            app.pool.read(page)?
        }
    };
    Page::of(hold, &found, |(at, id)| time_cursor(*at, *id), |found| view(&app, found).map(Some))
}

async fn show(State(app): State<Arc<App>>, caller: AgentCaller, Id(id): Id<VisitorId>) -> Outcome<Json<VisitorView>> {
    shown(&app, &caller, id)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PageParams {
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn chats(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<VisitorId>,
    Params(params): Params<PageParams>,
) -> Outcome<Held<Page<ConversationView>>> {
    let found = visitor(&app, &caller, id)?;
    let limit = page_size(params.limit)?;
    let before = before_time(params.cursor.as_deref())?.map(|(at, id)| (at, ConversationId(id)));
    let hold = app.limiter.reading.hold(Reader::from(&caller)).await;
    let of = (caller.tenant, &caller.visible);
    let chats = app.pool.read(|c| read::conversations_with(c, of, found.id, before, limit))?;
    let view = |chat: &Conversation| Ok(Some(app.views.conversation(chat, caller.audience_of(chat))?));
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
    let found = visitor(&app, &caller, visitor_id)?;
    // Before the texts are sealed: the writer asks the same.
    require(&caller, Permission::VisitorsWrite, "change visitors")?;
    require(&caller, Permission::ConversationsReply, "change visitors")?;
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
    shown(&app, &caller, visitor_id)
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
    visitor(&app, &caller, visitor_id)?;
    set_blocked(&app, &caller, &write, CommandKind::BlockVisitor { visitor_id }).await?;
    shown(&app, &caller, visitor_id)
}

async fn unblock(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(visitor_id): Id<VisitorId>,
    write: Write<Nothing>,
) -> Outcome<Json<VisitorView>> {
    visitor(&app, &caller, visitor_id)?;
    set_blocked(&app, &caller, &write, CommandKind::UnblockVisitor { visitor_id }).await?;
    shown(&app, &caller, visitor_id)
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
    let chat = write::visible(&app, &caller, id)?;
    Ok(Json(app.views.conversation(&chat, caller.audience_of(&chat))?))
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
    visitor(&app, &caller, visitor_id)?;
    let request = write.request(&app, caller.sender());
    let command = command(caller.tenant, caller.actor(), request, CommandKind::EraseVisitor { visitor_id });
    write::submit(&app, command).await?;
    erasure::sweep(&app, caller.tenant, visitor_id).await.map_err(|error| Problem::internal(&error))?;
    shown(&app, &caller, visitor_id)
}
