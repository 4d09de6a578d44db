//! Which visitors an agent sees: a table of who sees whom, kept up as conversations are saved. Start at [`page`].
//!
//! A row is a visitor and a [`Grantee`]: a group in which they have a conversation, no group, or an agent who has one of
//! theirs. It follows from the conversations, so a rebuild makes it again. A list for an agent merges a stream for each
//! grantee that the agent is, each read in order off one index: a page reads its own rows of each, and no others.

use super::load::parse;
use super::read::TimeKey;
use crate::core::state::{Conversation, Visitor};
use crate::core::visibility::Visible;
use ingest::id::{AgentId, ConversationId, GroupId, TenantId, VisitorId};
use ingest::sqlite::page::{PageFill, RowPage};
use rusqlite::{Connection, OptionalExtension as _};
use std::cmp::Reverse;
use uuid::Uuid;

/// Conversations of a visitor that are looked at for one that still is in the group, or with the agent, that its row says.
const WITNESSES_MAX: i64 = 100;

/// Makes the table, and fills it from the conversations that were there before it.
///
/// # Errors
/// SQLite's.
pub fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'visitor_access')";
    if connection.query_row(sql, [], |row| row.get(0))? {
        return Ok(());
    }
    // `created_at` is the visitor's, and NULL for those who aren't listed.
    connection.execute_batch(
        "CREATE TABLE visitor_access (
             visitor BLOB NOT NULL, grantee BLOB NOT NULL, tenant BLOB NOT NULL, created_at INTEGER,
             PRIMARY KEY (visitor, grantee)
         ) WITHOUT ROWID, STRICT;
         CREATE INDEX visitor_access_listed ON visitor_access (tenant, grantee, created_at, visitor)
             WHERE created_at IS NOT NULL;
         INSERT OR IGNORE INTO visitor_access
             SELECT c.visitor, c.grantee, c.tenant, v.created_at
             FROM (SELECT visitor, tenant, coalesce(group_id, x'') AS grantee FROM conversations
                   UNION SELECT visitor, tenant, agent FROM conversations WHERE agent IS NOT NULL) AS c
             LEFT JOIN visitors AS v ON v.id = c.visitor AND v.merged_into IS NULL AND NOT v.erased;",
    )
}

/// Through what a visitor is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grantee {
    /// A conversation of no group: everyone who reads conversations.
    NoGroup,
    /// One of this group.
    Group(GroupId),
    /// One that this agent has.
    Agent(AgentId),
}

impl Grantee {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::NoGroup => &[],
            Self::Group(group) => group.bytes(),
            Self::Agent(agent) => agent.bytes(),
        }
    }

    /// What somebody is who doesn't see all.
    fn of(visible: &Visible) -> Vec<Self> {
        match visible {
            Visible::Nothing | Visible::All => Vec::new(),
            Visible::Own { agent, groups } => {
                let groups = groups.iter().copied().map(Self::Group);
                groups.chain([Self::NoGroup, Self::Agent(*agent)]).collect()
            }
        }
    }

    /// Through what a conversation of this group and this agent shows its visitor.
    fn of_row(group: Option<GroupId>, agent: Option<AgentId>) -> impl Iterator<Item = Self> {
        let group = group.map_or(Self::NoGroup, Self::Group);
        std::iter::once(group).chain(agent.map(Self::Agent))
    }

    /// How its conversations are looked up, and by what.
    fn look_up(self) -> (&'static str, Option<[u8; 16]>) {
        match self {
            Self::NoGroup => (OF_GROUP, None),
            Self::Group(group) => (OF_GROUP, Some(*group.bytes())),
            Self::Agent(agent) => (OF_AGENT, Some(*agent.bytes())),
        }
    }

    /// Some of the visitor's conversations that give it.
    pub(super) fn conversations(
        self,
        connection: &Connection,
        visitor: VisitorId,
    ) -> rusqlite::Result<Vec<ConversationId>> {
        let (sql, key) = self.look_up();
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map((visitor.bytes(), key, WITNESSES_MAX), |row| row.get::<_, [u8; 16]>(0))?;
        rows.map(|id| id.map(|id| ConversationId(Uuid::from_bytes(id)))).collect()
    }
}

const OF_GROUP: &str = "SELECT id FROM conversations INDEXED BY conversations_visitor_group
     WHERE visitor = ?1 AND group_id IS ?2 LIMIT ?3";
const OF_AGENT: &str = "SELECT id FROM conversations INDEXED BY conversations_visitor_agent
     WHERE visitor = ?1 AND agent IS ?2 LIMIT ?3";

/// What a conversation's row says of who sees its visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    visitor: VisitorId,
    group: Option<GroupId>,
    agent: Option<AgentId>,
}

impl From<&Conversation> for Shown {
    fn from(chat: &Conversation) -> Self {
        Self { visitor: chat.visitor, group: chat.group, agent: chat.agent }
    }
}

/// A conversation's row as it's stored.
pub(super) fn stored(connection: &Connection, id: ConversationId) -> rusqlite::Result<Option<Shown>> {
    let sql = "SELECT visitor, group_id, agent FROM conversations WHERE id = ?1";
    let row = |row: &rusqlite::Row<'_>| {
        let id = |at: usize| row.get::<_, Option<[u8; 16]>>(at).map(|id| id.map(Uuid::from_bytes));
        let visitor = VisitorId(Uuid::from_bytes(row.get(0)?));
        Ok(Shown { visitor, group: id(1)?.map(GroupId), agent: id(2)?.map(AgentId) })
    };
    connection.prepare_cached(sql)?.query_row([id.bytes()], row).optional()
}

/// Keeps up with a conversation that was saved; `before` is what its row said until then.
pub(super) fn conversation_saved(
    connection: &Connection,
    chat: &Conversation,
    before: Option<Shown>,
) -> rusqlite::Result<()> {
    let now = Shown::from(chat);
    if before == Some(now) {
        return Ok(());
    }
    // The visitor may not be there yet: a session's first event is the conversation's.
    let sql = "INSERT OR IGNORE INTO visitor_access VALUES (?1, ?2, ?3,
         (SELECT created_at FROM visitors WHERE id = ?1 AND merged_into IS NULL AND NOT erased))";
    let mut insert = connection.prepare_cached(sql)?;
    for grantee in Grantee::of_row(now.group, now.agent) {
        insert.execute((now.visitor.bytes(), grantee.bytes(), chat.tenant.bytes()))?;
    }
    let Some(before) = before else { return Ok(()) };
    for grantee in Grantee::of_row(before.group, before.agent) {
        let still = now.visitor == before.visitor && Grantee::of_row(now.group, now.agent).any(|own| own == grantee);
        if !still && !gives(connection, before.visitor, grantee)? {
            let sql = "DELETE FROM visitor_access WHERE visitor = ?1 AND grantee = ?2";
            connection.prepare_cached(sql)?.execute((before.visitor.bytes(), grantee.bytes()))?;
        }
    }
    Ok(())
}

/// Whether any of a visitor's conversations gives it.
fn gives(connection: &Connection, visitor: VisitorId, grantee: Grantee) -> rusqlite::Result<bool> {
    let (sql, key) = grantee.look_up();
    connection.prepare_cached(sql)?.exists((visitor.bytes(), key, 1))
}

/// Keeps up with a visitor who was saved: who was merged or erased is in no list.
pub(super) fn visitor_saved(connection: &Connection, visitor: &Visitor) -> rusqlite::Result<()> {
    let listed = visitor.merged_into.is_none() && visitor.erased_at.is_none();
    let created_at = listed.then_some(visitor.created_at.0);
    let sql = "UPDATE visitor_access SET created_at = ?2 WHERE visitor = ?1 AND created_at IS NOT ?2";
    connection.prepare_cached(sql)?.execute((visitor.id.bytes(), created_at)).map(drop)
}

/// Through what somebody who doesn't see all sees a visitor, up to `limit` of it. A visitor has as many rows as groups and
/// agents that had to do with them.
pub(super) fn grantees_among(
    connection: &Connection,
    visible: &Visible,
    visitor: VisitorId,
    limit: usize,
) -> rusqlite::Result<Vec<Grantee>> {
    let mut statement = connection.prepare_cached("SELECT grantee FROM visitor_access WHERE visitor = ?1")?;
    let mut rows = statement.query([visitor.bytes()])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        found.extend(grantee(visible, row.get_ref(0)?.as_blob()?));
    }
    Ok(found)
}

/// The grantee that a row names, if it's one of theirs.
fn grantee(visible: &Visible, bytes: &[u8]) -> Option<Grantee> {
    let Visible::Own { agent, groups } = visible else { return None };
    if bytes.is_empty() {
        return Some(Grantee::NoGroup);
    }
    let id = Uuid::from_slice(bytes).ok()?;
    if id == agent.0 {
        return Some(Grantee::Agent(*agent));
    }
    groups.get(&GroupId(id)).copied().map(Grantee::Group)
}

/// Whether somebody sees a visitor: by one of their conversations, or for seeing all. Whoever was merged is seen as the one
/// they turned out to be.
///
/// # Errors
/// SQLite's.
pub fn sees(connection: &Connection, visible: &Visible, visitor: &Visitor) -> rusqlite::Result<bool> {
    sees_id(connection, visible, visitor.merged_into.unwrap_or(visitor.id))
}

/// The same of one who wasn't merged.
fn sees_id(connection: &Connection, visible: &Visible, visitor: VisitorId) -> rusqlite::Result<bool> {
    match visible {
        Visible::Nothing => Ok(false),
        Visible::All => Ok(true),
        Visible::Own { .. } => Ok(!grantees_among(connection, visible, visitor, 1)?.is_empty()),
    }
}

/// Where a visitor stands in a list: when they were first seen, and their id.
type Place = (i64, [u8; 16]);

const LISTED: &str = "SELECT created_at, visitor FROM visitor_access INDEXED BY visitor_access_listed
     WHERE tenant = ?1 AND grantee = ?2 AND created_at IS NOT NULL AND (created_at, visitor) < (?3, ?4)
     ORDER BY created_at DESC, visitor DESC LIMIT ?5";

const ALL: &str = "SELECT created_at, id FROM visitors INDEXED BY visitors_created
     WHERE tenant = ?1 AND merged_into IS NULL AND NOT erased AND (created_at, id) < (?2, ?3)
     ORDER BY created_at DESC, id DESC LIMIT ?4";

/// A page of the tenant's visitors whom somebody sees and who are neither merged nor erased, newest first, from `before`
/// (exclusive: time and id) on. It reads at most `limit` rows for each group of theirs and two more.
///
/// # Errors
/// SQLite's.
pub fn page(
    connection: &Connection,
    tenant: TenantId,
    visible: &Visible,
    before: Option<TimeKey>,
    limit: usize,
) -> rusqlite::Result<RowPage<TimeKey, Visitor>> {
    let (at, id) = before.map_or((i64::MAX, [0xff; 16]), |(at, id)| (at, *id.as_bytes()));
    // With one more than the page has, it knows whether the list goes on.
    let wanted = limit + 1;
    let rows = wanted.cast_signed();
    let place = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let mut places: Vec<Place> = Vec::new();
    if *visible == Visible::All {
        let mut statement = connection.prepare_cached(ALL)?;
        let found = statement.query_map((tenant.bytes(), at, id, rows), place)?;
        places.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    let mut statement = connection.prepare_cached(LISTED)?;
    for grantee in Grantee::of(visible) {
        let found = statement.query_map((tenant.bytes(), grantee.bytes(), at, id, rows), place)?;
        places.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    places.sort_unstable_by_key(|place| Reverse(*place));
    places.dedup();
    places.truncate(wanted);
    let mut page = PageFill::new(limit);
    for place in places {
        if !add(connection, &mut page, tenant, place, true)? {
            break;
        }
    }
    Ok(page.done())
}

/// Adds a visitor to a page, or passes over one who isn't in the list; `false` when the page ends before them.
fn add(
    connection: &Connection,
    page: &mut PageFill<TimeKey, Visitor>,
    tenant: TenantId,
    (at, id): Place,
    is_listed: bool,
) -> rusqlite::Result<bool> {
    let mut text: Option<String> = None;
    if is_listed {
        let sql = "SELECT body FROM visitors WHERE id = ?1 AND tenant = ?2";
        let mut statement = connection.prepare_cached(sql)?;
        text = statement.query_row((id, tenant.bytes()), |row| row.get(0)).optional()?;
    }
    let bytes = text.as_ref().map_or(0, String::len);
    let visitor = text.as_deref().map(parse).transpose()?;
    Ok(page.add((at, Uuid::from_bytes(id)), visitor, bytes))
}

/// Visitors of a readable id, and of an address, that one query looks at, those with the last ids: whoever types another's
/// address can't make it long.
const NAMED_MAX: i64 = 1_000;

/// Those of them whom somebody sees, with this readable id, or with an address that has this HMAC; newest first, from
/// `before` on.
///
/// # Errors
/// SQLite's.
pub fn named(
    connection: &Connection,
    (tenant, visible): (TenantId, &Visible),
    (readable_id, email_hmac): (&str, &str),
    before: Option<TimeKey>,
    limit: usize,
) -> rusqlite::Result<RowPage<TimeKey, Visitor>> {
    let (at, id) = before.map_or((i64::MAX, [0xff; 16]), |(at, id)| (at, *id.as_bytes()));
    let sql = "SELECT created_at, id FROM visitors
         WHERE tenant = ?1 AND merged_into IS NULL AND NOT erased AND (created_at, id) < (?4, ?5)
             AND (id IN (SELECT id FROM visitors WHERE tenant = ?1 AND readable_id = ?2 ORDER BY id DESC LIMIT ?6)
                  OR id IN (SELECT visitor FROM visitor_emails WHERE tenant = ?1 AND email_hmac = ?3
                            ORDER BY visitor DESC LIMIT ?6))
         ORDER BY created_at DESC, id DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((tenant.bytes(), readable_id, email_hmac, at, id, NAMED_MAX))?;
    let mut page = PageFill::new(limit);
    while let Some(row) = rows.next()? {
        let place: Place = (row.get(0)?, row.get(1)?);
        let is_seen = sees_id(connection, visible, VisitorId(Uuid::from_bytes(place.1)))?;
        if !add(connection, &mut page, tenant, place, is_seen)? {
            break;
        }
    }
    Ok(page.done())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No list scans a table or sorts, and what is looked up for one visitor is a look-up.
    #[test]
    fn everything_is_read_off_an_index() {
        let connection = Connection::open_in_memory().expect("a database");
        crate::store::create_tables(&connection).expect("tables");
        for sql in [LISTED, ALL, OF_GROUP, OF_AGENT] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
            let nulls = vec![None::<i64>; statement.parameter_count()];
            let rows = statement.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>(3));
            let plan: Vec<String> = rows.expect("a plan").collect::<rusqlite::Result<_>>().expect("a plan");
            assert_eq!(plan.len(), 1, "{plan:?}\n{sql}");
            assert!(plan[0].starts_with("SEARCH") && plan[0].contains("INDEX"), "{plan:?}\n{sql}");
        }
    }
}
