//! What a search in the inbox finds, without a plain text in the data directory: ids, a readable id, a tag, and by their
//! HMACs a whole address and the words of a visitor's name.
//!
//! A tag finds along the tag's own index, in the list's order and without an end. Who is found by a name or an address are
//! the newest [`VISITORS_MAX`] at most; then it takes another word to find the others.

use super::inbox::{Along, Filter, Place, Sort, merged};
use super::names;
use crate::core::state::Status;
use ingest::id::{AgentId, ConversationId, GroupId, TenantId};
use ingest::seal::KeyFile;
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Visitors that one query looks at.
const VISITORS_MAX: i64 = 200;
/// Conversations of a visitor that one query looks at, the newest.
const CONVERSATIONS_MAX: i64 = 200;

/// A query, as it's looked up.
#[derive(Debug, Clone)]
pub struct Search {
    /// The query as a tag.
    tag: String,
    /// The query as a readable id.
    readable_id: String,
    /// The query as an address.
    email_hmac: String,
    /// All of one of these have to be found in a name.
    names: Vec<Vec<String>>,
    /// The query as a conversation's or a visitor's id.
    id: Option<[u8; 16]>,
}

impl Search {
    /// Reads a query of the tenant's agents; `email_hmac` is by what an address of these letters is looked up.
    #[must_use]
    pub fn new(key_file: &KeyFile, tenant: TenantId, query: &str, email_hmac: String) -> Self {
        let query = query.trim();
        Self {
            tag: query.to_owned(),
            readable_id: query.to_lowercase(),
            email_hmac,
            names: names::asked(key_file, tenant, query),
            id: query.parse::<ConversationId>().ok().map(|id| *id.bytes()),
        }
    }
}

/// Where what was found stands in the list, after `after`; in no order, and of a tag's `limit` at most.
pub(super) fn places(
    connection: &Connection,
    filter: &Filter,
    search: &Search,
    sort: Sort,
    after: Place,
    limit: usize,
) -> rusqlite::Result<Vec<Place>> {
    let mut places = merged(connection, filter, &[Along::Tag(&search.tag)], sort, after, limit)?;
    let mut found = BTreeSet::new();
    if let Some(id) = search.id {
        found.extend(conversation(connection, filter.tenant, id)?);
    }
    for visitor in visitors(connection, filter.tenant, search)? {
        found.extend(conversations(connection, filter.tenant, visitor)?);
    }
    for row in found {
        let place = (if sort.by_creation() { row.created_at } else { row.updated_at }, row.id);
        let fits = sort.is_later(place, after) && row.fits(filter);
        if fits && is_tagged(connection, &row.id, filter.tag.as_deref())? {
            places.push(place);
        }
    }
    Ok(places)
}

/// What a conversation's indexes say of it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    id: [u8; 16],
    status: String,
    agent: Option<[u8; 16]>,
    group: Option<[u8; 16]>,
    updated_at: i64,
    created_at: i64,
}

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            status: row.get(1)?,
            agent: row.get(2)?,
            group: row.get(3)?,
            updated_at: row.get(4)?,
            created_at: row.get(5)?,
        })
    }

    fn fits(&self, filter: &Filter) -> bool {
        let agent = self.agent.map(|id| AgentId(Uuid::from_bytes(id)));
        let group = self.group.map(|id| GroupId(Uuid::from_bytes(id)));
        filter.visible.covers(agent, group)
            && filter.status.map(Status::as_str).is_none_or(|status| self.status == status)
            && filter.assignee.is_none_or(|agent| self.agent == agent.map(|agent| *agent.bytes()))
            && filter.group.is_none_or(|group| self.group == Some(*group.bytes()))
    }
}

fn conversation(connection: &Connection, tenant: TenantId, id: [u8; 16]) -> rusqlite::Result<Option<Row>> {
    let sql =
        "SELECT id, status, agent, group_id, updated_at, created_at FROM conversations WHERE id = ?1 AND tenant = ?2";
    connection.prepare_cached(sql)?.query_row((id, tenant.bytes()), Row::read).optional()
}

const CONVERSATIONS: &str = "SELECT c.id, c.status, c.agent, c.group_id, c.updated_at, c.created_at
     FROM conversations AS c INDEXED BY conversations_visitor
     WHERE c.visitor = ?1 AND c.tenant = ?2 ORDER BY c.updated_at DESC LIMIT ?3";

fn conversations(connection: &Connection, tenant: TenantId, visitor: [u8; 16]) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(CONVERSATIONS)?;
    let rows = statement.query_map((visitor, tenant.bytes(), CONVERSATIONS_MAX), Row::read)?;
    rows.collect()
}

fn is_tagged(connection: &Connection, id: &[u8; 16], tag: Option<&str>) -> rusqlite::Result<bool> {
    let Some(tag) = tag else { return Ok(true) };
    let sql = "SELECT EXISTS (SELECT 1 FROM conversation_tags WHERE id = ?1 AND tag = ?2)";
    connection.prepare_cached(sql)?.query_row((id, tag), |row| row.get(0))
}

/// Who is found; whoever was merged is found as the one they turned out to be. Erased people have nothing to be found by
/// but their ids: the words about them are gone, and their readable id isn't looked at.
fn visitors(connection: &Connection, tenant: TenantId, search: &Search) -> rusqlite::Result<BTreeSet<[u8; 16]>> {
    let mut found = BTreeSet::new();
    let mut add = |sql: &str, params: &[&dyn rusqlite::ToSql]| -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            found.insert(row.get(0)?);
        }
        Ok(())
    };
    let tenant = tenant.bytes();
    if let Some(id) = search.id {
        add("SELECT coalesce(merged_into, id) FROM visitors WHERE id = ?1 AND tenant = ?2", &[&id, tenant])?;
    }
    let sql = "SELECT coalesce(merged_into, id) FROM visitors
               WHERE tenant = ?1 AND readable_id = ?2 AND NOT erased LIMIT ?3";
    add(sql, &[tenant, &search.readable_id, &VISITORS_MAX])?;
    let sql = "SELECT visitor FROM visitor_emails WHERE tenant = ?1 AND email_hmac = ?2 LIMIT ?3";
    add(sql, &[tenant, &search.email_hmac, &VISITORS_MAX])?;
    for name in &search.names {
        let [first, rest @ ..] = name.as_slice() else { continue };
        let rest = serde_json::Value::from(rest).to_string();
        let sql = "SELECT n.visitor FROM visitor_names AS n
                   WHERE n.tenant = ?1 AND n.name_hmac = ?2
                     AND NOT EXISTS (SELECT 1 FROM json_each(?3) AS other
                                     WHERE NOT EXISTS (SELECT 1 FROM visitor_names AS o INDEXED BY visitor_names_visitor
                                                       WHERE o.visitor = n.visitor AND o.name_hmac = other.value))
                   ORDER BY n.at DESC LIMIT ?4";
        add(sql, &[tenant, first, &rest, &VISITORS_MAX])?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hundreds of visitors may be looked at: their conversations' rows must not be.
    #[test]
    fn a_visitors_conversations_are_read_off_an_index_alone() {
        let connection = Connection::open_in_memory().expect("a database");
        crate::store::create_tables(&connection).expect("tables");
        let sql = format!("EXPLAIN QUERY PLAN {CONVERSATIONS}");
        let plan: String = connection.query_row(&sql, [None::<i64>; 3], |row| row.get(3)).expect("a plan");
        assert!(plan.starts_with("SEARCH c USING COVERING INDEX"), "{plan}");
    }
}
