//! Lists that callers page through. Each gives a [`RowPage`], so no list holds more than a page, whatever stands in its rows.

use crate::core::state::{Agent, AuditEntry, CannedResponse, Chatbot, CustomRole, Group, Tag, Tenant, Token};
use crate::store::load::parse;
use ingest::id::{TenantId, TokenId};
use ingest::sqlite::page::{self, RowPage};
use rusqlite::{Connection, Row};
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// A time and an id: the place in a list by time.
pub type TimeKey = (i64, Uuid);

/// What is listed by id, its deleted ones apart from the living.
pub trait Listed: DeserializeOwned {
    /// The table that holds it.
    const TABLE: &'static str;
}

macro_rules! listed {
    ($($entity:ident = $table:literal;)*) => {
        $(impl Listed for $entity {
            const TABLE: &'static str = $table;
        })*

        #[cfg(test)]
        const LISTED: &[&str] = &[$($table),*];
    };
}

listed! {
    Agent = "agents";
    CannedResponse = "canned_responses";
    Chatbot = "chatbots";
    CustomRole = "roles";
    Group = "groups";
    Tag = "tags";
}

/// Which part of a list by id is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Listing {
    /// Items behind this one.
    pub after: Option<Uuid>,
    /// The deleted ones instead of the living.
    pub deleted: bool,
    /// Items at most.
    pub limit: usize,
}

fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}

fn listed_sql(table: &str) -> String {
    format!(
        "SELECT id, json_extract(body, '$.deleted_at') IS NOT NULL, body FROM {table}
         WHERE tenant = ?1 AND id > ?2 ORDER BY id"
    )
}

/// A page of a tenant's, by id.
///
/// # Errors
/// SQLite's; so for every list here.
pub fn listed<T: Listed>(
    connection: &Connection,
    tenant: TenantId,
    listing: Listing,
) -> rusqlite::Result<RowPage<Uuid, T>> {
    let after = listing.after.map_or([0; 16], |id| *id.as_bytes());
    page::read(connection, &listed_sql(T::TABLE), (tenant.bytes(), after), listing.limit, |row| {
        let is_in_it = row.get::<_, bool>(1)? == listing.deleted;
        let item = if is_in_it { Some(parse(&row.get::<_, String>(2)?)?) } else { None };
        Ok((uuid(row, 0)?, item))
    })
}

/// The columns of a list by time: time, id, body.
fn timed<T: DeserializeOwned>(row: &Row<'_>) -> rusqlite::Result<(TimeKey, Option<T>)> {
    let item = parse(&row.get::<_, String>(2)?)?;
    Ok(((row.get(0)?, uuid(row, 1)?), Some(item)))
}

/// Before everything that there is.
const NEWEST: (i64, [u8; 16]) = (i64::MAX, [0xff; 16]);

fn before_key(before: Option<TimeKey>) -> (i64, [u8; 16]) {
    before.map_or(NEWEST, |(at, id)| (at, *id.as_bytes()))
}

const AUDIT: &str =
    "SELECT at, event, body FROM audit WHERE tenant = ?1 AND (at, event) < (?2, ?3) ORDER BY at DESC, event DESC";

/// A page of the tenant's audit log, newest first, from `before` (exclusive: time and event) on.
///
/// # Errors
/// SQLite's.
pub fn audit(
    connection: &Connection,
    tenant: TenantId,
    before: Option<TimeKey>,
    limit: usize,
) -> rusqlite::Result<RowPage<TimeKey, AuditEntry>> {
    let (at, event) = before_key(before);
    page::read(connection, AUDIT, (tenant.bytes(), at, event), limit, timed)
}

const TOKENS: &str = "SELECT id, json_extract(body, '$.revoked_at') IS NULL, body FROM tokens
     WHERE tenant = ?1 AND id > ?2 ORDER BY id";

/// A page of the tenant's `/v0` tokens that aren't revoked, by id.
///
/// # Errors
/// SQLite's.
pub fn tokens_after(
    connection: &Connection,
    tenant: TenantId,
    after: TokenId,
    limit: usize,
) -> rusqlite::Result<RowPage<TokenId, Token>> {
    page::read(connection, TOKENS, (tenant.bytes(), after.bytes()), limit, |row| {
        let item = if row.get(1)? { Some(parse(&row.get::<_, String>(2)?)?) } else { None };
        Ok((TokenId(uuid(row, 0)?), item))
    })
}

const TENANTS: &str = "SELECT slug, body FROM tenants WHERE slug > ?1 ORDER BY slug";

/// A page of all tenants, by slug; for the operator.
///
/// # Errors
/// SQLite's.
pub fn tenants_after(connection: &Connection, slug: &str, limit: usize) -> rusqlite::Result<RowPage<String, Tenant>> {
    let look = |row: &Row<'_>| Ok((row.get(0)?, Some(parse(&row.get::<_, String>(1)?)?)));
    page::read(connection, TENANTS, [slug], limit, look)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list that sorts, or looks for its start, reads all there is for a page.
    #[test]
    fn every_page_is_read_in_order_off_an_index() {
        let connection = Connection::open_in_memory().expect("a database");
        crate::store::create_tables(&connection).expect("tables");
        let listed = LISTED.iter().map(|table| listed_sql(table));
        let others = [AUDIT, TOKENS, TENANTS].map(str::to_owned);
        for sql in listed.chain(others) {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
            let nulls = vec![None::<i64>; statement.parameter_count()];
            let rows = statement.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>(3));
            let plan: Vec<String> = rows.expect("a plan").collect::<rusqlite::Result<_>>().expect("a plan");
            let [step] = plan.as_slice() else { panic!("{plan:?}\n{sql}") };
            assert!(step.starts_with("SEARCH") && step.contains(['<', '>']), "{step}\n{sql}");
        }
    }
}
