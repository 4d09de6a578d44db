//! Which files are facts, and up to where in the log: rows in SQLite that change together in one transaction.
//!
//! Functions on a connection, because the one writer thread owns it and calls them inside its transaction.

use super::facts::Table;
use super::sources::manifest as sources;
use arrow::array::RecordBatch;
use ingest::id::TenantId;
use ingest::log::Offset;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::PathBuf;

/// Consumer name of the facts that are folded from the log.
const LOG: &str = "facts";
/// Consumer name of the usage rows that a stream job feeds.
const USAGE: &str = "usage";

/// One file of the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Whose facts.
    pub tenant: TenantId,
    /// Of which table.
    pub table: Table,
    /// File name, unique for good.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Hex SHA-256 of its bytes.
    pub sha256: String,
}

impl ManifestFile {
    /// `<tenant>/<table>/<name>`, below the facts directory.
    #[must_use]
    pub fn relative_path(&self) -> PathBuf {
        [self.tenant.to_string().as_str(), self.table.as_str(), &self.name].iter().collect()
    }
}

/// What SQLite knows of the facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Every file, oldest first.
    pub files: Vec<ManifestFile>,
    /// The next offset to read: the files hold everything below it.
    pub offset: Offset,
    /// The same for usage rows.
    pub usage_offset: Offset,
}

/// Files that were written (and which they replace), to be committed with [`commit_flush`].
/// Give it back to the store: `finish_flush` after the commit, `abort_flush` if there was none.
#[derive(Debug)]
#[must_use = "a plan is committed and finished, or aborted; until then the store flushes nothing else"]
pub struct FlushPlan {
    pub(crate) added: Vec<ManifestFile>,
    pub(crate) removed: Vec<ManifestFile>,
    /// (log, usage); a compaction moves neither.
    pub(crate) offsets: Option<(Offset, Offset)>,
    /// Rows to be put back into memory if the plan is aborted.
    pub(crate) taken: Vec<((TenantId, Table), Vec<RecordBatch>)>,
}

impl FlushPlan {
    /// Files that become facts.
    #[must_use]
    pub fn added(&self) -> &[ManifestFile] {
        &self.added
    }

    /// Files that they replace; none on a flush.
    #[must_use]
    pub fn removed(&self) -> &[ManifestFile] {
        &self.removed
    }

    /// Rows in the added files.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.added.iter().map(|file| file.rows).sum()
    }
}

/// The manifest can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// SQLite failed.
    #[error("failed to use the manifest of the facts: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row that this version didn't write. Never retry.
    #[error("failed to read the manifest of the facts: {reason}; recompute them with `parlance rebuild --views facts`")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
}

/// Makes the two tables if they aren't there.
///
/// # Errors
/// [`ManifestError::Sqlite`].
pub fn create_tables(conn: &Connection) -> Result<(), ManifestError> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS fact_files (
            name   TEXT PRIMARY KEY,
            tenant BLOB NOT NULL,
            tbl    TEXT NOT NULL,
            bytes  INTEGER NOT NULL,
            rows   INTEGER NOT NULL,
            sha256 TEXT NOT NULL
         ) STRICT;
         CREATE TABLE IF NOT EXISTS fact_offsets (
            source      TEXT PRIMARY KEY,
            next_offset INTEGER NOT NULL
         ) STRICT;",
    )?;
    Ok(sources::create_tables(conn)?)
}

/// Reads the manifest.
///
/// # Errors
/// [`ManifestError`]; `Damaged` says what to do.
pub fn load(conn: &Connection) -> Result<Manifest, ManifestError> {
    let mut statement = conn.prepare("SELECT name, tenant, tbl, bytes, rows, sha256 FROM fact_files ORDER BY rowid")?;
    let mut found = statement.query([])?;
    let mut files = Vec::new();
    while let Some(row) = found.next()? {
        let name: String = row.get(0)?;
        let damaged = |what: &str| ManifestError::Damaged { reason: format!("file '{name}' has an unknown {what}") };
        let tenant: [u8; 16] = row.get(1)?;
        let table: String = row.get(2)?;
        files.push(ManifestFile {
            tenant: tenant_from(tenant),
            table: Table::parse(&table).ok_or_else(|| damaged("table"))?,
            bytes: unsigned(row.get(3)?),
            rows: unsigned(row.get(4)?),
            sha256: row.get(5)?,
            name,
        });
    }
    Ok(Manifest { files, offset: offset(conn, LOG)?, usage_offset: offset(conn, USAGE)? })
}

fn tenant_from(bytes: [u8; 16]) -> TenantId {
    let digits = hex::encode(bytes);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-").parse().expect("16 bytes are an id")
}

fn offset(conn: &Connection, source: &str) -> Result<Offset, ManifestError> {
    let mut statement = conn.prepare("SELECT next_offset FROM fact_offsets WHERE source = ?1")?;
    Ok(statement.query_row([source], |row| row.get(0)).optional()?.map_or(0, unsigned))
}

// SQLite has signed integers only; sizes, counts and offsets stay far below 2^63.
pub(super) fn unsigned(stored: i64) -> u64 {
    stored.cast_unsigned()
}

pub(super) fn signed(value: u64) -> i64 {
    value.cast_signed()
}

/// Records a flush or a compaction. Call it inside the writer's transaction, commit, then `finish_flush`.
///
/// # Errors
/// [`ManifestError`]: roll back (or commit without it) and `abort_flush`.
pub fn commit_flush(conn: &Connection, plan: &FlushPlan) -> Result<(), ManifestError> {
    let mut remove = conn.prepare_cached("DELETE FROM fact_files WHERE name = ?1")?;
    for file in &plan.removed {
        if remove.execute([&file.name])? != 1 {
            return Err(ManifestError::Damaged { reason: format!("file '{}' isn't in it", file.name) });
        }
    }
    let mut add = conn.prepare_cached(
        "INSERT INTO fact_files (name, tenant, tbl, bytes, rows, sha256) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for file in &plan.added {
        let ManifestFile { tenant, table, name, bytes, rows, sha256 } = file;
        add.execute(params![name, tenant.bytes(), table.as_str(), signed(*bytes), signed(*rows), sha256])?;
    }
    if let Some((log, usage)) = plan.offsets {
        let mut store = conn.prepare_cached(
            "INSERT INTO fact_offsets (source, next_offset) VALUES (?1, ?2)
             ON CONFLICT (source) DO UPDATE SET next_offset = excluded.next_offset",
        )?;
        store.execute(params![LOG, signed(log)])?;
        store.execute(params![USAGE, signed(usage)])?;
    }
    Ok(())
}

/// Forgets every file and starts the log over; the files go with [`reset_dir`](super::sink::reset_dir) after the commit.
///
/// # Errors
/// [`ManifestError::Sqlite`].
pub fn reset(conn: &Connection) -> Result<(), ManifestError> {
    create_tables(conn)?;
    conn.execute_batch("DELETE FROM fact_files; DELETE FROM fact_offsets;")?;
    Ok(sources::reset(conn)?)
}
