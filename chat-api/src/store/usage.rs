//! What was used of quotas, as it's stored with the offset of the log up to which it counts. It lies beside the log like
//! keys of persons: a rebuild leaves it alone.

use ingest::sqlite::data_dir::{consumer_offset, set_consumer_offset};
use rusqlite::Connection;

/// The name under which its offset is.
const CONSUMER: &str = "usage";

/// A count: the quota's name, whose it is, how much was used, and when, in ms since 1970.
pub type StoredCount = (String, [u8; 16], u64, i64);

pub(super) fn create_table(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS usage (
             quota TEXT NOT NULL, whose BLOB NOT NULL, used INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (quota, whose)
         ) WITHOUT ROWID, STRICT",
    )
}

/// Stores counts, and the offset that isn't counted in them; those of nothing are deleted.
///
/// # Errors
/// SQLite's.
pub fn save(connection: &Connection, counts: &[StoredCount], next: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO usage VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (quota, whose) DO UPDATE SET used = ?3, at = ?4";
    let mut put = connection.prepare_cached(sql)?;
    let mut delete = connection.prepare_cached("DELETE FROM usage WHERE quota = ?1 AND whose = ?2")?;
    for (quota, whose, used, at_ms) in counts {
        if *used == 0 {
            delete.execute((quota, whose))?;
        } else {
            put.execute((quota, whose, i64::try_from(*used).unwrap_or(i64::MAX), at_ms))?;
        }
    }
    set_consumer_offset(connection, CONSUMER, next)
}

/// Counts that were stored, the largest first, at most so many; and the offset that isn't counted in them.
///
/// # Errors
/// SQLite's.
pub fn load(connection: &Connection, max: usize) -> rusqlite::Result<(Vec<StoredCount>, u64)> {
    let mut statement = connection.prepare("SELECT quota, whose, used, at FROM usage ORDER BY used DESC LIMIT ?1")?;
    let rows = statement.query_map([max.cast_signed()], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.cast_unsigned(), row.get(3)?))
    })?;
    Ok((rows.collect::<rusqlite::Result<_>>()?, consumer_offset(connection, CONSUMER)?))
}
