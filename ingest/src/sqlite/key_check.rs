//! Whether a key file is the one that a database was written with: table `key_check`, a value derived from each key.
//!
//! A key file of another installation opens nothing, and what is written under it is unreadable with the right one. So it's
//! refused before anything is written. A database from before there were values gets them from a file that opens what is
//! sealed in it, or when nothing is.

use crate::id::PersonId;
use crate::seal::KeyFile;
use rusqlite::{Connection, OptionalExtension as _};

/// Person keys that a file is tried on where no values are kept. More than half must open: one may be damaged, and some may
/// have been made under another file before that was noticed.
const TRIED_KEYS: i64 = 101;

/// What a database says about a key file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It's the one.
    Known,
    /// Nothing speaks against it, and its values aren't kept yet: call [`keep`].
    New,
    /// It's another one's; what was compared.
    Foreign(String),
}

pub(super) const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS key_check (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT;";

/// Compares without writing; the database may be empty, or of any earlier version.
///
/// # Errors
/// SQLite's.
pub(super) fn compare(connection: &Connection, key_file: &KeyFile) -> rusqlite::Result<Verdict> {
    let mut known = 0;
    let mut foreign = Vec::new();
    if has_table(connection, "key_check")? {
        for (name, value) in key_file.check_values() {
            let kept: Option<Vec<u8>> = connection
                .prepare("SELECT value FROM key_check WHERE name = ?1")?
                .query_row([name], |row| row.get(0))
                .optional()?;
            match kept {
                Some(kept) if kept == value => known += 1,
                Some(_) => foreign.push(*name),
                None => {}
            }
        }
    }
    if !foreign.is_empty() {
        return Ok(Verdict::Foreign(format!("it has another key for {}", foreign.join(", "))));
    }
    if known == key_file.check_values().len() {
        return Ok(Verdict::Known);
    }
    if !has_table(connection, "person_keys")? {
        return Ok(Verdict::New);
    }
    let (opened, tried) = try_person_keys(connection, key_file)?;
    if tried > 0 && opened * 2 <= tried {
        return Ok(Verdict::Foreign(format!("it opens {opened} of the {tried} oldest keys of persons")));
    }
    Ok(Verdict::New)
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = ?1", [name], |row| {
        row.get(0)
    })
}

/// How many of the oldest keys it opens; ids begin with the time they were made at.
fn try_person_keys(connection: &Connection, key_file: &KeyFile) -> rusqlite::Result<(usize, usize)> {
    let mut statement = connection.prepare("SELECT person, wrapped FROM person_keys ORDER BY person LIMIT ?1")?;
    let mut rows = statement.query([TRIED_KEYS])?;
    let (mut opened, mut tried) = (0, 0);
    while let Some(row) = rows.next()? {
        let person = PersonId(uuid::Uuid::from_bytes(row.get(0)?));
        tried += 1;
        opened += usize::from(key_file.unwrap_key(person, row.get(1)?).is_ok());
    }
    Ok((opened, tried))
}

/// Keeps the values of a file that [`compare`] had nothing against; the table is there.
///
/// # Errors
/// SQLite's.
pub(super) fn keep(connection: &Connection, key_file: &KeyFile) -> rusqlite::Result<()> {
    let tx = connection.unchecked_transaction()?;
    for (name, value) in key_file.check_values() {
        tx.execute("INSERT OR IGNORE INTO key_check VALUES (?1, ?2)", (name, value))?;
    }
    tx.commit()
}
