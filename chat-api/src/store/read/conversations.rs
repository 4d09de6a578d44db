//! Conversations as the API sees them.

use super::{Found, TimeKey, each};
use crate::core::state::{Conversation, Status};
use crate::core::visibility::Visible;
use crate::store::load::{body, parse};
use ingest::id::{AgentId, ConversationId, GroupId, TenantId, ThreadId, VisitorId};
use ingest::sqlite::page::{PageFill, RowPage};
use rusqlite::{Connection, OptionalExtension as _, Params, Row};
use uuid::Uuid;

/// A conversation of the tenant.
///
/// # Errors
/// SQLite's.
pub fn conversation(connection: &Connection, tenant: TenantId, id: ConversationId) -> Found<Conversation> {
    body(connection, "SELECT body FROM conversations WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// Where a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The conversation.
    pub conversation: ConversationId,
    /// Whose it is: their key seals what is said in it.
    pub visitor: VisitorId,
    /// Where it went on once it was closed.
    pub continued_in: Option<ConversationId>,
}

impl From<&Conversation> for Place {
    fn from(chat: &Conversation) -> Self {
        let continued_in = chat.continued_in.filter(|_| chat.status == Status::Closed);
        Self { conversation: chat.id, visitor: chat.visitor, continued_in }
    }
}

/// Where a message to a conversation goes to. Every message of a visitor's asks this: only a closed one is decoded.
///
/// # Errors
/// SQLite's.
pub fn place(connection: &Connection, tenant: TenantId, id: ConversationId) -> Found<Place> {
    let sql =
        "SELECT visitor, CASE status WHEN 'closed' THEN body END FROM conversations WHERE id = ?1 AND tenant = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let row = |row: &Row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, Option<String>>(1)?));
    let found = statement.query_row((id.bytes(), tenant.bytes()), row).optional()?;
    let place = |(visitor, closed): ([u8; 16], Option<String>)| match closed {
        Some(body) => Ok(Place::from(&parse::<Conversation>(&body)?)),
        None => Ok(Place { conversation: id, visitor: VisitorId(Uuid::from_bytes(visitor)), continued_in: None }),
    };
    found.map(place).transpose()
}

/// A visitor's conversations, newest change first; 200 at most.
///
/// # Errors
/// SQLite's.
pub fn conversations_of(
    connection: &Connection,
    tenant: TenantId,
    visitor: VisitorId,
) -> rusqlite::Result<Vec<ConversationId>> {
    let sql = "SELECT id FROM conversations WHERE visitor = ?1 AND tenant = ?2
         ORDER BY updated_at DESC, id DESC LIMIT 200";
    ids(connection, sql, (visitor.bytes(), tenant.bytes()))
}

/// How many messages a visitor hasn't read in all of their 200 newest conversations.
///
/// # Errors
/// SQLite's.
pub fn unread_by_visitor(connection: &Connection, tenant: TenantId, visitor: VisitorId) -> rusqlite::Result<u64> {
    let sql = "SELECT body FROM conversations WHERE visitor = ?1 AND tenant = ?2
         ORDER BY updated_at DESC, id DESC LIMIT 200";
    let count = |chat: Conversation| chat.unread_by_visitor.count();
    Ok(each(connection, sql, (visitor.bytes(), tenant.bytes()), count)?.into_iter().sum())
}

/// The conversations that an agent is having.
///
/// # Errors
/// SQLite's.
pub fn active_conversations_of(
    connection: &Connection,
    tenant: TenantId,
    agent: AgentId,
) -> rusqlite::Result<Vec<ConversationId>> {
    let sql = "SELECT id FROM conversations WHERE agent = ?1 AND status = 'active' AND tenant = ?2";
    ids(connection, sql, (agent.bytes(), tenant.bytes()))
}

fn ids(connection: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<Vec<ConversationId>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, |row| row.get::<_, [u8; 16]>(0))?;
    rows.map(|id| id.map(|id| ConversationId(Uuid::from_bytes(id)))).collect()
}

/// The conversation that waits or is talked in, with its tenant and visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "ids by their names")]
pub struct OpenConversation {
    pub conversation: ConversationId,
    pub tenant: TenantId,
    pub visitor: VisitorId,
    /// Its newest event.
    pub updated_at: i64,
}

/// Every conversation of the installation that waits or is talked in.
///
/// # Errors
/// SQLite's.
pub fn open_conversations(connection: &Connection) -> rusqlite::Result<Vec<OpenConversation>> {
    let sql =
        "SELECT id, tenant, visitor, updated_at FROM conversations WHERE status = 'active' OR queue_rank IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(OpenConversation {
            conversation: ConversationId(Uuid::from_bytes(row.get(0)?)),
            tenant: TenantId(Uuid::from_bytes(row.get(1)?)),
            visitor: VisitorId(Uuid::from_bytes(row.get(2)?)),
            updated_at: row.get(3)?,
        })
    })?;
    rows.collect()
}

/// A page of those of a visitor's conversations that somebody sees, newest change first, from `before` (exclusive: time and
/// id) on. What isn't theirs is read past in the index.
///
/// # Errors
/// SQLite's.
pub fn conversations_with(
    connection: &Connection,
    (tenant, visible): (TenantId, &Visible),
    visitor: VisitorId,
    before: Option<(i64, ConversationId)>,
    limit: usize,
) -> rusqlite::Result<RowPage<TimeKey, Conversation>> {
    let (at, id) = before.map_or((i64::MAX, [0xff; 16]), |(at, id)| (at, *id.bytes()));
    let mut statement = connection.prepare_cached(CONVERSATIONS_WITH)?;
    let mut bodies = connection.prepare_cached("SELECT body FROM conversations WHERE id = ?1")?;
    let mut rows = statement.query((visitor.bytes(), tenant.bytes(), at, id))?;
    let mut page = PageFill::new(limit);
    while let Some(row) = rows.next()? {
        let uuid = |at: usize| row.get::<_, Option<[u8; 16]>>(at).map(|id| id.map(Uuid::from_bytes));
        let id: [u8; 16] = row.get(1)?;
        let is_seen = visible.covers(uuid(2)?.map(AgentId), uuid(3)?.map(GroupId));
        let text: Option<String> = if is_seen { Some(bodies.query_row([id], |row| row.get(0))?) } else { None };
        let bytes = text.as_ref().map_or(0, String::len);
        let chat = text.as_deref().map(parse).transpose()?;
        if !page.add((row.get(0)?, Uuid::from_bytes(id)), chat, bytes) {
            break;
        }
    }
    Ok(page.done())
}

const CONVERSATIONS_WITH: &str = "SELECT updated_at, id, agent, group_id
     FROM conversations INDEXED BY conversations_visitor
     WHERE visitor = ?1 AND tenant = ?2 AND (updated_at, id) < (?3, ?4)
     ORDER BY updated_at DESC, id DESC";

/// The conversation of a thread, whoever's it is: read it with the tenant next.
///
/// # Errors
/// SQLite's.
pub fn conversation_of_thread(connection: &Connection, thread: ThreadId) -> Found<ConversationId> {
    connection
        .prepare_cached("SELECT conversation FROM threads WHERE id = ?1")?
        .query_row([thread.bytes()], |row| row.get::<_, [u8; 16]>(0))
        .optional()
        .map(|id| id.map(|id| ConversationId(Uuid::from_bytes(id))))
}
