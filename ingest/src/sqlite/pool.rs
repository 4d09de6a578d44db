//! Read-only connections to `parlance.db`, opened as needed and kept.
//!
//! Readers see whole commits only (WAL snapshots) and can't write, whatever statement reaches them.

use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections kept when idle; more are opened under load and closed after.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// Readers wait this long for a checkpoint that locks the file.
const BUSY_TIMEOUT_MS: u64 = 5_000;
/// Prepared statements kept a connection.
const STATEMENTS_MAX: usize = 64;

/// A pool of read-only connections; clones share it.
#[derive(Clone)]
pub struct ReadPool {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl ReadPool {
    /// A pool on the database file at `path`; opens nothing yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: Arc::new(path.to_owned()), idle: Arc::default() }
    }

    /// Runs `read` with a connection and shows it one moment, however many statements it runs: the file is locked and
    /// unlocked once. Blocks for as long as SQLite does, so long scans belong on a blocking thread.
    ///
    /// # Errors
    /// Whatever `read` or opening a connection gives.
    pub fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        connection.prepare_cached("BEGIN")?.execute(())?;
        let answer = read(&connection);
        // A connection whose transaction doesn't end isn't used again; reading needs no other outcome of it.
        connection.prepare_cached("COMMIT")?.execute(())?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(connection);
        }
        answer
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(self.path.as_path(), flags)?;
        connection.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }
}
