//! The state hash: SHA-256 over every entity's stored JSON, by table and id.
//!
//! Entities hold personal texts sealed, so the hash covers ciphertext and doesn't change when a person is erased.
//! `requests` is left out: it is pruned by age. `audit` is left out: the log's own hash chain covers it.

use ring::digest::{Context, SHA256};
use rusqlite::Connection;

const HASHED: [&str; 17] = [
    "tenants",
    "agents",
    "roles",
    "groups",
    "tags",
    "canned_responses",
    "sessions",
    "challenges",
    "invitations",
    "chatbots",
    "tokens",
    "data_sources",
    "pipes",
    "visitors",
    "conversations",
    "files",
    "mails",
];

/// Hex of the hash; reads every row.
///
/// # Errors
/// SQLite's.
pub fn state_hash(connection: &Connection) -> rusqlite::Result<String> {
    let mut hash = Context::new(&SHA256);
    for table in HASHED {
        hash.update(table.as_bytes());
        let mut statement = connection.prepare(&format!("SELECT id, body FROM {table} ORDER BY id"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, body) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_str()?);
            hash.update(id);
            hash.update(&(body.len() as u64).to_le_bytes());
            hash.update(body.as_bytes());
        }
    }
    Ok(hex::encode(hash.finish()))
}

/// The first entity that differs between two databases, as `table id`; for `verify`'s message.
///
/// # Errors
/// SQLite's.
pub fn first_difference(left: &Connection, right: &Connection) -> rusqlite::Result<Option<String>> {
    for table in HASHED {
        let sql = format!("SELECT hex(id), body FROM {table} ORDER BY id");
        let (mut left, mut right) = (left.prepare(&sql)?, right.prepare(&sql)?);
        let (mut left, mut right) = (left.query([])?, right.query([])?);
        loop {
            let pair = |row: Option<&rusqlite::Row<'_>>| -> rusqlite::Result<Option<(String, String)>> {
                row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
            };
            let (one, two) = (pair(left.next()?)?, pair(right.next()?)?);
            if one != two {
                let id = one.or(two).map(|(id, _)| id).unwrap_or_default();
                return Ok(Some(format!("{table} {}", id.to_lowercase())));
            }
            if one.is_none() {
                break;
            }
        }
    }
    Ok(None)
}
