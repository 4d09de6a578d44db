//! The tenants' own data sources as they follow the log: rows in memory, Parquet files, one table and one quarantine
//! each. Beside the facts, with a manifest and an offset of its own.
//!
//! - `rows`: columns as Arrow, logged rows as batches. `tail`: the newest rows in memory. [`manifest`]: what SQLite knows.
//! - Start at [`SourceStore::apply`]; a query is [`SourceStore::wait_for`], [`SourceStore::tables`], then
//!   [`SourceStore::snapshot`].
//!
//! Rows carry the generation they belong to. Rows of a generation that is yet to come are kept apart, and seen when
//! `data_source_replaced` names it: a replacement is seen whole or not at all.

pub mod manifest;
mod rows;
mod tail;
mod upkeep;

use super::config::FactConfig;
use super::error::{FactError, io_error, read_error};
use super::files::{FactFile, Written};
use super::sink::{Snapshot, delete_orphans, reach};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use ingest::durable;
use ingest::id::{DataSourceId, TenantId};
use ingest::log::{Offset, Record};
use ingest::payload::{Payload, RowsAppended, SourceColumn};
use manifest::{Part, SourceFile, SourceManifest};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tail::ChunkTail;
use tokio::sync::watch;

/// What a quarantine's table is named: its source's name and this.
pub const QUARANTINE_SUFFIX: &str = "_quarantine";

/// A data source, as far as its rows are concerned.
#[derive(Debug, Clone)]
pub struct SourceDef {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: DataSourceId,
    /// Its name in SQL.
    pub name: Arc<str>,
    schema: SchemaRef,
    quarantine: SchemaRef,
}

impl SourceDef {
    /// A source of these columns.
    #[must_use]
    pub fn new(tenant: TenantId, id: DataSourceId, name: &str, columns: &[SourceColumn]) -> Self {
        let (schema, quarantine) = (rows::schema(columns), rows::quarantine_schema(columns));
        Self { tenant, id, name: name.into(), schema, quarantine }
    }

    fn schema(&self, part: Part) -> &SchemaRef {
        match part {
            Part::Rows => &self.schema,
            Part::Quarantine => &self.quarantine,
        }
    }
}

/// Rows of one place: in memory, on their way to a file, in files.
#[derive(Debug, Default)]
struct Stored {
    tail: ChunkTail,
    flushing: Vec<RecordBatch>,
    files: Vec<(SourceFile, Arc<FactFile>)>,
}

struct Source {
    def: Arc<SourceDef>,
    generation: u32,
    /// By part and generation; of rows the current one and those to come.
    stored: BTreeMap<(Part, u32), Stored>,
}

struct State {
    sources: HashMap<DataSourceId, Source>,
    names: HashMap<TenantId, BTreeMap<Arc<str>, DataSourceId>>,
    /// Files whose rows are gone, until a manifest without them is committed.
    gone: Vec<(SourceFile, Arc<FactFile>)>,
    /// Generations that the manifest doesn't have yet.
    switched: HashMap<DataSourceId, u32>,
    next: Offset,
    committed: Offset,
    /// Bytes of rows in memory, as they were logged.
    tail_bytes: usize,
    busy: bool,
}

/// Rows of the tenants' own data sources; see the [module](self).
pub struct SourceStore {
    dir: PathBuf,
    config: FactConfig,
    state: Mutex<State>,
    applied: watch::Sender<Offset>,
}

/// What a record of the log changes.
enum Change {
    Create(Arc<SourceDef>),
    Append(DataSourceId, Part, u32, RecordBatch, usize),
    Switch(DataSourceId, u32),
    Delete(DataSourceId),
}

impl SourceStore {
    /// Opens `dir` (made if missing) as `manifest` describes it; `living` are the sources there are by now.
    ///
    /// # Errors
    /// `Damaged` names a listed file that is missing or has another size; `Io` when the directory can't be used.
    pub fn open(
        dir: &Path,
        manifest: SourceManifest,
        living: Vec<SourceDef>,
        config: FactConfig,
    ) -> Result<Self, FactError> {
        durable::create_dirs(dir).map_err(|error| io_error(dir, error))?;
        let mut state = State {
            sources: HashMap::new(),
            names: HashMap::new(),
            gone: Vec::new(),
            switched: HashMap::new(),
            next: manifest.offset,
            committed: manifest.offset,
            tail_bytes: 0,
            busy: false,
        };
        for def in living {
            state.create(Arc::new(def));
        }
        for (id, generation) in manifest.generations {
            if let Some(source) = state.sources.get_mut(&id) {
                source.generation = generation;
            }
        }
        let mut listed = HashSet::new();
        for file in manifest.files {
            let path = dir.join(file.relative_path());
            let written = Written { bytes: file.bytes, rows: file.rows, sha256: file.sha256.clone() };
            let opened = Arc::new(FactFile::new(path.clone(), written));
            opened.check_size().map_err(|error| read_error(&path, error))?;
            listed.insert(path);
            match state.sources.get_mut(&file.place.source) {
                Some(source) => source.stored(file.place.part, file.place.generation).files.push((file, opened)),
                // Deleted since.
                None => state.gone.push((file, opened)),
            }
        }
        delete_orphans(dir, &listed).map_err(|error| io_error(dir, error))?;
        let applied = watch::Sender::new(state.next);
        Ok(Self { dir: dir.to_owned(), config, state: Mutex::new(state), applied })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while changing the rows of sources")
    }

    /// The next offset to read.
    #[must_use]
    pub fn applied(&self) -> Offset {
        *self.applied.borrow()
    }

    /// Waits until the rows of every event below `offset` are here, at most `timeout`.
    ///
    /// # Errors
    /// `Behind` after the timeout.
    pub async fn wait_for(&self, offset: Offset, timeout: Duration) -> Result<(), FactError> {
        reach(&self.applied, offset, timeout).await
    }

    /// A tenant's tables: each source and its quarantine, by name.
    #[must_use]
    pub fn tables(&self, tenant: TenantId) -> Vec<(Arc<str>, SchemaRef)> {
        let state = self.state();
        let names = state.names.get(&tenant).into_iter().flatten();
        let living = names.filter_map(|(name, id)| Some((name, state.sources.get(id)?)));
        living
            .flat_map(|(name, source)| {
                let quarantine = format!("{name}{QUARANTINE_SUFFIX}").into();
                [(Arc::clone(name), Arc::clone(&source.def.schema)), (quarantine, Arc::clone(&source.def.quarantine))]
            })
            .collect()
    }

    /// One of [`tables`](Self::tables) at this moment; `None` when there is no such table.
    #[must_use]
    pub fn snapshot(&self, tenant: TenantId, table: &str) -> Option<Snapshot> {
        let state = self.state();
        let names = state.names.get(&tenant)?;
        let (id, part) = match names.get(table) {
            Some(id) => (id, Part::Rows),
            None => (names.get(table.strip_suffix(QUARANTINE_SUFFIX)?)?, Part::Quarantine),
        };
        let source = state.sources.get(id)?;
        let generation = if part == Part::Rows { source.generation } else { 0 };
        let schema = Arc::clone(source.def.schema(part));
        let Some(stored) = source.stored.get(&(part, generation)) else {
            return Some(Snapshot { schema, files: Vec::new(), batches: Vec::new() });
        };
        let batches = stored.flushing.iter().chain(stored.tail.batches()).cloned().collect();
        Some(Snapshot { schema, files: stored.files.iter().map(|(_, file)| Arc::clone(file)).collect(), batches })
    }

    /// Applies the next records of the log, all of them or none. Records applied before are skipped.
    ///
    /// # Errors
    /// `OffsetGap`: nothing was applied.
    pub fn apply(&self, records: &[Arc<Record>]) -> Result<(), FactError> {
        let mut next = self.applied();
        let mut changes = Vec::new();
        let mut made: HashMap<DataSourceId, Arc<SourceDef>> = HashMap::new();
        for record in records.iter().filter(|record| record.offset >= next).collect::<Vec<_>>() {
            if record.offset != next {
                return Err(FactError::OffsetGap { expected: next, found: record.offset });
            }
            next += 1;
            match &record.event.payload {
                Payload::DataSourceCreated(event) => {
                    let def = SourceDef::new(record.event.tenant, event.source_id, &event.name, &event.columns);
                    let def = Arc::new(def);
                    made.insert(event.source_id, Arc::clone(&def));
                    changes.push(Change::Create(def));
                }
                Payload::RowsAppended(event) => {
                    let known = || self.state().sources.get(&event.source_id).map(|source| Arc::clone(&source.def));
                    let def = made.get(&event.source_id).cloned().or_else(known);
                    // None: deleted since, and so are its rows.
                    changes.extend(def.and_then(|def| append(&def, event, record.offset)));
                }
                Payload::DataSourceReplaced(event) => changes.push(Change::Switch(event.source_id, event.generation)),
                Payload::DataSourceDeleted(event) => changes.push(Change::Delete(event.source_id)),
                _ => {}
            }
        }
        let mut state = self.state();
        changes.into_iter().for_each(|change| state.change(change));
        state.next = next;
        self.applied.send_replace(next);
        Ok(())
    }
}

fn append(def: &SourceDef, event: &RowsAppended, offset: Offset) -> Option<Change> {
    let part = if event.quarantined { Part::Quarantine } else { Part::Rows };
    match rows::batch(def.schema(part), &event.rows) {
        Ok(batch) => {
            let generation = if event.quarantined { 0 } else { event.generation };
            Some(Change::Append(event.source_id, part, generation, batch, event.rows.json().len()))
        }
        // It would fail again and again, and nobody would see a newer row. The rows are in the log.
        Err(error) => {
            tracing::error!(offset, source = %event.source_id, %error, "failed to read a chunk of rows; left out");
            None
        }
    }
}

impl Source {
    fn stored(&mut self, part: Part, generation: u32) -> &mut Stored {
        self.stored.entry((part, generation)).or_default()
    }
}

impl State {
    fn create(&mut self, def: Arc<SourceDef>) {
        let names = self.names.entry(def.tenant).or_default();
        names.insert(Arc::clone(&def.name), def.id);
        self.sources.entry(def.id).or_insert(Source { def, generation: 1, stored: BTreeMap::new() });
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Create(def) => self.create(def),
            Change::Append(id, part, generation, batch, bytes) => {
                if let Some(source) = self.sources.get_mut(&id) {
                    source.stored(part, generation).tail.push(batch);
                    self.tail_bytes += bytes;
                }
            }
            Change::Switch(id, generation) => {
                let Some(source) = self.sources.get_mut(&id) else { return };
                source.generation = generation;
                let old = |key: &(Part, u32)| key.0 == Part::Rows && key.1 < generation;
                let keys: Vec<_> = source.stored.keys().copied().filter(old).collect();
                for stored in keys.iter().filter_map(|key| source.stored.remove(key)) {
                    self.gone.extend(stored.files);
                }
                self.switched.insert(id, generation);
            }
            Change::Delete(id) => {
                let Some(source) = self.sources.remove(&id) else { return };
                if let Some(names) = self.names.get_mut(&source.def.tenant)
                    && names.get(&source.def.name) == Some(&id)
                {
                    names.remove(&source.def.name);
                }
                self.gone.extend(source.stored.into_values().flat_map(|stored| stored.files));
                self.switched.remove(&id);
            }
        }
    }

    fn tail_rows(&self) -> usize {
        let stored = self.sources.values().flat_map(|source| source.stored.values());
        stored.map(|stored| stored.tail.rows()).sum()
    }
}
