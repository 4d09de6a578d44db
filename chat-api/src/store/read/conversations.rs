//! Conversations as the API sees them.

use super::{Found, list};
use crate::core::state::{Conversation, Status};
use crate::core::visibility::Visible;
use crate::store::load::{body, parse};
use ingest::id::{AgentId, ConversationId, GroupId, TenantId, ThreadId, VisitorId};
use rusqlite::{Connection, OptionalExtension as _, Row};
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

/// A visitor's conversations, newest first.
///
/// # Errors
/// SQLite's.
pub fn conversations_of(connection: &Connection, visitor: VisitorId) -> rusqlite::Result<Vec<Conversation>> {
    let sql = "SELECT body FROM conversations WHERE visitor = ?1 ORDER BY updated_at DESC, id DESC LIMIT 200";
    list(connection, sql, [visitor.bytes()])
}

/// The conversations that an agent is having.
///
/// # Errors
/// SQLite's.
pub fn active_conversations_of(
    connection: &Connection,
    tenant: TenantId,
    agent: AgentId,
) -> rusqlite::Result<Vec<Conversation>> {
    let sql = "SELECT body FROM conversations WHERE agent = ?1 AND status = 'active' AND tenant = ?2";
    list(connection, sql, (agent.bytes(), tenant.bytes()))
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

/// Conversations, and where the next page goes on (after its time and id), if there is one.
pub type ConversationPage = (Vec<Conversation>, Option<(i64, ConversationId)>);

/// Conversations of a visitor that one page looks at for those that its reader sees. When it has found too few by then, it
/// is short, and the next one goes on from there.
const LOOKED_AT_MAX: usize = 5_000;

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
) -> rusqlite::Result<ConversationPage> {
    let (at, id) = before.map_or((i64::MAX, [0xff; 16]), |(at, id)| (at, *id.bytes()));
    let mut statement = connection.prepare_cached(CONVERSATIONS_WITH)?;
    let mut rows = statement.query((visitor.bytes(), tenant.bytes(), at, id, LOOKED_AT_MAX.cast_signed() + 1))?;
    let mut chats: Vec<Conversation> = Vec::new();
    let mut looked_at = None;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        if count == LOOKED_AT_MAX {
            return Ok((chats, looked_at));
        }
        count += 1;
        let uuid = |at: usize| row.get::<_, Option<[u8; 16]>>(at).map(|id| id.map(Uuid::from_bytes));
        let id = ConversationId(Uuid::from_bytes(row.get(1)?));
        looked_at = Some((row.get(0)?, id));
        if !visible.covers(uuid(2)?.map(AgentId), uuid(3)?.map(GroupId)) {
            continue;
        }
        if chats.len() == limit {
            let next = chats.last().map(|last| (last.updated_at.0, last.id));
            return Ok((chats, next));
        }
        chats.extend(conversation(connection, tenant, id)?);
    }
    Ok((chats, None))
}

const CONVERSATIONS_WITH: &str = "SELECT updated_at, id, agent, group_id
     FROM conversations INDEXED BY conversations_visitor
     WHERE visitor = ?1 AND tenant = ?2 AND (updated_at, id) < (?3, ?4)
     ORDER BY updated_at DESC, id DESC LIMIT ?5";

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
