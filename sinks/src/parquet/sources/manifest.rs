//! Which files are rows of data sources: rows in SQLite that change together with the place in the log.

use super::super::manifest::{ManifestError, signed, unsigned};
use ingest::id::{DataSourceId, TenantId};
use ingest::log::Offset;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashMap;
use std::path::PathBuf;

/// Consumer name in the manifest.
const CONSUMER: &str = "sources";

/// The two tables of a data source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Its rows.
    Rows,
    /// Rows that didn't fit.
    Quarantine,
}

impl Part {
    /// The name in the manifest and in paths.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Quarantine => "quarantine",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Rows, Self::Quarantine].into_iter().find(|part| part.as_str() == text)
    }
}

/// Whose rows a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    pub(crate) source: DataSourceId,
    pub(crate) part: Part,
    /// Of rows; 0 for a quarantine, which outlives generations.
    pub(crate) generation: u32,
}

/// One file of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    pub(crate) sha256: String,
}

impl SourceFile {
    /// `<tenant>/<source>/<part>/<name>`, below the sources' directory.
    pub(crate) fn relative_path(&self) -> PathBuf {
        let Place { tenant, source, part, .. } = self.place;
        [tenant.to_string().as_str(), &source.to_string(), part.as_str(), &self.name].iter().collect()
    }
}

/// What SQLite knows of the rows of data sources.
#[derive(Debug, Clone, Default)]
pub struct SourceManifest {
    pub(crate) files: Vec<SourceFile>,
    /// The generation that counts, of those sources whose rows were ever replaced.
    pub(crate) generations: HashMap<DataSourceId, u32>,
    pub(crate) offset: Offset,
}

/// Files that were written, and which are gone, to be committed with [`commit`].
#[derive(Debug, Default)]
#[must_use = "a plan is committed and finished, or aborted"]
pub struct SourcePlan {
    pub(crate) added: Vec<SourceFile>,
    pub(crate) removed: Vec<SourceFile>,
    pub(crate) generations: Vec<(DataSourceId, u32)>,
    /// None for a compaction.
    pub(crate) offset: Option<Offset>,
}

impl SourcePlan {
    /// Rows in the files that it adds.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.added.iter().map(|file| file.rows).sum()
    }
}

/// Makes the tables if they aren't there.
pub(in crate::parquet) fn create_tables(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(
        "CREATE TABLE IF NOT EXISTS source_files (
            name       TEXT PRIMARY KEY,
            tenant     BLOB NOT NULL,
            source     BLOB NOT NULL,
            part       TEXT NOT NULL,
            generation INTEGER NOT NULL,
            bytes      INTEGER NOT NULL,
            rows       INTEGER NOT NULL,
            sha256     TEXT NOT NULL
         ) STRICT;
         CREATE TABLE IF NOT EXISTS source_generations (
            source     BLOB PRIMARY KEY,
            generation INTEGER NOT NULL
         ) STRICT;",
    )
}

pub(in crate::parquet) fn reset(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch("DELETE FROM source_files; DELETE FROM source_generations;")
}

/// Reads the manifest.
///
/// # Errors
/// [`ManifestError`]; `Damaged` says what to do.
pub fn load(conn: &Connection) -> Result<SourceManifest, ManifestError> {
    let mut statement = conn.prepare(
        "SELECT name, tenant, source, part, generation, bytes, rows, sha256 FROM source_files ORDER BY rowid",
    )?;
    let mut found = statement.query([])?;
    let mut files = Vec::new();
    while let Some(row) = found.next()? {
        let name: String = row.get(0)?;
        let part: String = row.get(3)?;
        let reason = || ManifestError::Damaged { reason: format!("file '{name}' has an unknown part") };
        let place = Place {
            tenant: TenantId(uuid::Uuid::from_bytes(row.get(1)?)),
            source: DataSourceId(uuid::Uuid::from_bytes(row.get(2)?)),
            part: Part::parse(&part).ok_or_else(reason)?,
            generation: row.get(4)?,
        };
        let (bytes, rows) = (unsigned(row.get(5)?), unsigned(row.get(6)?));
        files.push(SourceFile { place, bytes, rows, sha256: row.get(7)?, name });
    }
    let mut statement = conn.prepare("SELECT source, generation FROM source_generations")?;
    let generations = statement
        .query_map([], |row| Ok((DataSourceId(uuid::Uuid::from_bytes(row.get(0)?)), row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut statement = conn.prepare("SELECT next_offset FROM fact_offsets WHERE source = ?1")?;
    let offset = statement.query_row([CONSUMER], |row| row.get(0)).optional()?.map_or(0, unsigned);
    Ok(SourceManifest { files, generations, offset })
}

/// Records a plan. Call it inside the writer's transaction, commit, then finish the plan.
///
/// # Errors
/// [`ManifestError`]: roll back and abort the plan.
pub fn commit(conn: &Connection, plan: &SourcePlan) -> Result<(), ManifestError> {
    let mut remove = conn.prepare_cached("DELETE FROM source_files WHERE name = ?1")?;
    for file in &plan.removed {
        if remove.execute([&file.name])? != 1 {
            return Err(ManifestError::Damaged { reason: format!("file '{}' isn't in it", file.name) });
        }
    }
    let mut add = conn.prepare_cached("INSERT INTO source_files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    for SourceFile { place, name, bytes, rows, sha256 } in &plan.added {
        let (tenant, source) = (place.tenant.bytes(), place.source.bytes());
        let (bytes, rows) = (signed(*bytes), signed(*rows));
        add.execute(params![name, tenant, source, place.part.as_str(), place.generation, bytes, rows, sha256])?;
    }
    let mut store = conn.prepare_cached(
        "INSERT INTO source_generations VALUES (?1, ?2) ON CONFLICT (source) DO UPDATE SET generation = ?2",
    )?;
    for (source, generation) in &plan.generations {
        store.execute(params![source.bytes(), generation])?;
    }
    if let Some(offset) = plan.offset {
        let sql = "INSERT INTO fact_offsets (source, next_offset) VALUES (?1, ?2)
             ON CONFLICT (source) DO UPDATE SET next_offset = excluded.next_offset";
        conn.prepare_cached(sql)?.execute(params![CONSUMER, signed(offset)])?;
    }
    Ok(())
}
