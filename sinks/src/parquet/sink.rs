//! The facts as they follow the log: fold, keep in memory, flush, compact, answer.
//!
//! Start at [`FactStore::apply`]; a query is [`FactStore::wait_for`], then [`FactStore::snapshot`]. One follower applies
//! and does the upkeep; any number of threads take snapshots meanwhile, and each sees every row exactly once.

use super::config::{FLUSH_EVENTS_FACTOR, FactConfig};
use super::error::{FactError, io_error, read_error};
use super::facts::{Table, UsagePartial, UsageRow};
use super::files::{self, FactFile, Written};
use super::fold::{Batch, History};
use super::manifest::{FlushPlan, Manifest, ManifestFile};
use super::merge::merge;
use super::metrics::ConversationMetrics;
use super::tail::TenantTail;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use ingest::durable;
use ingest::id::{ConversationId, EventId, TenantId};
use ingest::log::{Offset, Record};
use lru::LruCache;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// One moment of one tenant's table: the rows of `files` and of `batches` together, none twice.
///
/// A table with [`Table::versions`] may hold several versions of a row, and `usage_minute` several rows of a minute.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The table's schema.
    pub schema: SchemaRef,
    /// Flushed rows. Hold the `Arc` while reading: a merged file is deleted when nobody holds it.
    pub files: Vec<Arc<FactFile>>,
    /// Rows in memory.
    pub batches: Vec<RecordBatch>,
}

/// What [`FactStore::verify`] has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Files, all of them sound.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Their rows.
    pub rows: u64,
}

/// The facts of an installation; see the [module](self).
pub struct FactStore {
    dir: PathBuf,
    config: FactConfig,
    /// Held while records are applied, which also keeps two appliers apart.
    folds: Mutex<LruCache<ConversationId, ConversationMetrics>>,
    state: Mutex<State>,
    applied: watch::Sender<Offset>,
    usage_applied: watch::Sender<Offset>,
}

struct State {
    tails: HashMap<TenantId, TenantTail>,
    /// Rows of the flush under way: no longer in a tail, not yet in a file that counts.
    flushing: HashMap<(TenantId, Table), Vec<RecordBatch>>,
    files: BTreeMap<(TenantId, Table), Vec<Arc<FactFile>>>,
    next: Offset,
    usage_next: Offset,
    /// (log, usage) as the manifest has them.
    committed: (Offset, Offset),
    /// A plan is out.
    busy: bool,
}

impl State {
    fn tail_rows(&mut self) -> usize {
        self.tails.values_mut().map(TenantTail::rows).sum()
    }
}

impl FactStore {
    /// Opens `dir` (made if missing) as `manifest` describes it, and deletes files that were written but never
    /// committed. Go on reading the log at [`applied`](Self::applied) and the usage job at
    /// [`usage_applied`](Self::usage_applied).
    ///
    /// # Errors
    /// `Damaged` names a listed file that is missing or has another size; `Io` when the directory can't be used.
    pub fn open(dir: &Path, manifest: Manifest, config: FactConfig) -> Result<Self, FactError> {
        durable::create_dirs(dir).map_err(|error| io_error(dir, error))?;
        let mut listed = HashSet::new();
        let mut by_table: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for file in &manifest.files {
            let path = dir.join(file.relative_path());
            let written = Written { bytes: file.bytes, rows: file.rows, sha256: file.sha256.clone() };
            let opened = FactFile::new(path.clone(), written);
            opened.check_size().map_err(|error| read_error(&path, error))?;
            listed.insert(path);
            by_table.entry((file.tenant, file.table)).or_default().push(Arc::new(opened));
        }
        delete_orphans(dir, &listed).map_err(|error| io_error(dir, error))?;
        let folds = NonZeroUsize::new(config.folds).unwrap_or(NonZeroUsize::MIN);
        Ok(Self {
            dir: dir.to_owned(),
            config,
            folds: Mutex::new(LruCache::new(folds)),
            state: Mutex::new(State {
                tails: HashMap::new(),
                flushing: HashMap::new(),
                files: by_table,
                next: manifest.offset,
                usage_next: manifest.usage_offset,
                committed: (manifest.offset, manifest.usage_offset),
                busy: false,
            }),
            applied: watch::Sender::new(manifest.offset),
            usage_applied: watch::Sender::new(manifest.usage_offset),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while changing the facts")
    }

    /// The next offset to read: the facts hold every event below it.
    #[must_use]
    pub fn applied(&self) -> Offset {
        *self.applied.borrow()
    }

    /// The same for usage rows: where the usage job goes on after a restart.
    #[must_use]
    pub fn usage_applied(&self) -> Offset {
        *self.usage_applied.borrow()
    }

    /// Changes whenever [`applied`](Self::applied) does.
    #[must_use]
    pub fn watch_applied(&self) -> watch::Receiver<Offset> {
        self.applied.subscribe()
    }

    /// Waits until the facts hold every event below `offset` (a log's end), at most `timeout`.
    ///
    /// # Errors
    /// `Behind` after the timeout.
    pub async fn wait_for(&self, offset: Offset, timeout: Duration) -> Result<(), FactError> {
        reach(&self.applied, offset, timeout).await
    }

    /// The same for usage rows; only for queries that read `usage_minute`.
    ///
    /// # Errors
    /// `Behind` after the timeout.
    pub async fn wait_for_usage(&self, offset: Offset, timeout: Duration) -> Result<(), FactError> {
        reach(&self.usage_applied, offset, timeout).await
    }

    /// Applies the next records of the log, all of them or none. Records applied before are skipped.
    ///
    /// `history` is asked for a conversation's earlier events when its fold isn't in memory.
    ///
    /// # Errors
    /// `OffsetGap`, `SeqGap`, `History`: nothing was applied.
    pub fn apply(&self, records: &[Arc<Record>], history: History<'_>) -> Result<(), FactError> {
        let mut folds = self.folds.lock().expect("nobody panics while folding");
        let mut next = self.applied();
        let mut batch = Batch::default();
        for record in records.iter().filter(|record| record.offset >= next).collect::<Vec<_>>() {
            if record.offset != next {
                return Err(FactError::OffsetGap { expected: next, found: record.offset });
            }
            next += 1;
            batch.fold(&record.event, &mut folds, history)?;
        }
        let mut state = self.state();
        for (tenant, row) in batch.rows {
            state.tails.entry(tenant).or_default().push(row);
        }
        for id in batch.order {
            let fold = batch.folds.remove(&id).expect("each touched conversation has its fold");
            if let Some(row) = fold.row() {
                state.tails.entry(fold.tenant()).or_default().push_conversation(row);
            }
            folds.put(id, fold);
        }
        state.next = next;
        self.applied.send_replace(next);
        Ok(())
    }

    /// Adds usage rows of the events below `through`, which is where the job stands now. Rows of events that were
    /// counted before are skipped, so the job may deliver more than once.
    pub fn apply_usage(&self, partials: Vec<UsagePartial>, through: Offset) {
        let mut state = self.state();
        let from = state.usage_next;
        for partial in partials.into_iter().filter(|partial| (from..through).contains(&partial.offset)) {
            let UsagePartial { tenant, minute, metric, value, .. } = partial;
            state.tails.entry(tenant).or_default().push_usage(UsageRow { minute, metric, value });
        }
        if through > from {
            state.usage_next = through;
            self.usage_applied.send_replace(through);
        }
    }

    /// One table at this moment. Cheap: at most a chunk of loose rows is converted, and only if it has changed.
    #[must_use]
    pub fn snapshot(&self, tenant: TenantId, table: Table) -> Snapshot {
        snapshot(&mut self.state(), tenant, table)
    }

    /// Every table at one and the same moment, in the order of [`Table::ALL`]; for queries that join.
    #[must_use]
    pub fn snapshots(&self, tenant: TenantId) -> [Snapshot; Table::ALL.len()] {
        let mut state = self.state();
        Table::ALL.map(|table| snapshot(&mut state, tenant, table))
    }

    /// Rows in memory, those of a flush under way left out.
    #[must_use]
    pub fn tail_rows(&self) -> usize {
        self.state().tail_rows()
    }

    /// It is time to flush: many rows in memory, or many events since the last flush.
    #[must_use]
    pub fn flush_due(&self) -> bool {
        let mut state = self.state();
        let events = (state.next - state.committed.0).max(state.usage_next - state.committed.1);
        !state.busy
            && (state.tail_rows() >= self.config.flush_rows
                || events >= (FLUSH_EVENTS_FACTOR * self.config.flush_rows) as u64)
    }

    /// Step 1 of a flush: writes every row in memory to files that don't count yet. `None` when there is nothing new.
    ///
    /// # Errors
    /// `Busy`; `Io` when the disk refuses, with the rows back in memory.
    pub fn begin_flush(&self) -> Result<Option<FlushPlan>, FactError> {
        let mut plan = {
            let mut state = self.state();
            if state.busy {
                return Err(FactError::Busy);
            }
            let offsets = (state.next, state.usage_next);
            let mut taken = Vec::new();
            for (tenant, mut tail) in std::mem::take(&mut state.tails) {
                for table in Table::ALL {
                    let batches = tail.table(table).take();
                    if !batches.is_empty() {
                        taken.push(((tenant, table), batches));
                    }
                }
            }
            if taken.is_empty() && offsets == state.committed {
                return Ok(None);
            }
            state.flushing = taken.iter().cloned().collect();
            state.busy = true;
            FlushPlan { added: Vec::new(), removed: Vec::new(), offsets: Some(offsets), taken }
        };
        for index in 0..plan.taken.len() {
            let ((tenant, table), batches) = &plan.taken[index];
            match self.write(*tenant, *table, batches.clone()) {
                Ok(file) => plan.added.push(file),
                Err(error) => {
                    self.abort_flush(plan);
                    return Err(error);
                }
            }
        }
        Ok(Some(plan))
    }

    /// Step 1 of a compaction: merges the files of one table that has too many. `None` when none has.
    ///
    /// # Errors
    /// `Busy`; `Damaged` names an input that isn't what was written; `Io` when the disk refuses.
    pub fn begin_compaction(&self) -> Result<Option<FlushPlan>, FactError> {
        let Some(((tenant, table), inputs)) = ({
            let mut state = self.state();
            if state.busy {
                return Err(FactError::Busy);
            }
            let due = state.files.iter().find_map(|(key, files)| Some((*key, self.to_merge(files)?)));
            state.busy = due.is_some();
            due
        }) else {
            return Ok(None);
        };
        let mut plan = FlushPlan { added: Vec::new(), removed: Vec::new(), offsets: None, taken: Vec::new() };
        match self.merge_files(tenant, table, &inputs) {
            Ok(file) => {
                plan.added.push(file);
                plan.removed.extend(inputs.iter().map(|file| listed(tenant, table, file)));
                Ok(Some(plan))
            }
            Err(error) => {
                self.abort_flush(plan);
                Err(error)
            }
        }
    }

    /// The smallest files that a merge takes together, if the table has too many that aren't full.
    fn to_merge(&self, files: &[Arc<FactFile>]) -> Option<Vec<Arc<FactFile>>> {
        let mut small: Vec<_> = files.iter().filter(|file| file.rows() <= self.config.compact_rows / 2).collect();
        if small.len() <= self.config.compact_files {
            return None;
        }
        small.sort_by_key(|file| file.rows());
        let mut rows = 0;
        let within = |file: &&&Arc<FactFile>| {
            rows += file.rows();
            rows <= self.config.compact_rows
        };
        let chosen: HashSet<_> = small.iter().take_while(within).map(|file| file.path()).collect();
        // In the order they were written, so that ties keep their place.
        Some(files.iter().filter(|file| chosen.contains(file.path())).cloned().collect())
    }

    fn merge_files(&self, tenant: TenantId, table: Table, inputs: &[Arc<FactFile>]) -> Result<ManifestFile, FactError> {
        let mut batches = Vec::new();
        for file in inputs {
            batches.extend(file.read(table).map_err(|error| read_error(file.path(), error))?);
        }
        self.write(tenant, table, batches)
    }

    fn write(&self, tenant: TenantId, table: Table, batches: Vec<RecordBatch>) -> Result<ManifestFile, FactError> {
        // A name is never used again: the file that had it may be about to be deleted.
        let name = format!("{}.parquet", EventId::fresh());
        let mut file = ManifestFile { tenant, table, name, bytes: 0, rows: 0, sha256: String::new() };
        let path = self.dir.join(file.relative_path());
        let written = files::write(&path, table, &merge(table, batches))
            .map_err(|source| FactError::Io { path: path.clone(), source })?;
        Written { bytes: file.bytes, rows: file.rows, sha256: file.sha256 } = written;
        Ok(file)
    }

    /// Step 3, after the commit of the plan: its files count, the rows in them leave the memory, replaced files go
    /// when their last reader is done.
    pub fn finish_flush(&self, plan: FlushPlan) {
        let mut state = self.state();
        state.flushing.clear();
        for file in plan.added {
            let path = self.dir.join(file.relative_path());
            let written = Written { bytes: file.bytes, rows: file.rows, sha256: file.sha256 };
            let files = state.files.entry((file.tenant, file.table)).or_default();
            files.push(Arc::new(FactFile::new(path, written)));
        }
        for file in plan.removed {
            let path = self.dir.join(file.relative_path());
            if let Some(files) = state.files.get_mut(&(file.tenant, file.table)) {
                files.iter().filter(|file| file.path() == path).for_each(|file| file.supersede());
                files.retain(|file| file.path() != path);
            }
        }
        if let Some(offsets) = plan.offsets {
            state.committed = offsets;
        }
        state.busy = false;
    }

    /// Instead of step 3, when the plan was not committed: its files are deleted, its rows are in memory as before.
    pub fn abort_flush(&self, plan: FlushPlan) {
        for file in &plan.added {
            let path = self.dir.join(file.relative_path());
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "failed to delete an uncommitted fact file");
            }
        }
        let mut state = self.state();
        state.flushing.clear();
        for ((tenant, table), batches) in plan.taken {
            state.tails.entry(tenant).or_default().table(table).put_back(batches);
        }
        state.busy = false;
    }

    /// Reads every byte of every file.
    ///
    /// # Errors
    /// `Damaged` names the first file that is missing, cut short or changed, and what to do.
    pub fn verify(&self) -> Result<Verified, FactError> {
        let files: Vec<_> = self.state().files.values().flatten().cloned().collect();
        let mut verified = Verified::default();
        for file in files {
            file.verify().map_err(|error| read_error(file.path(), error))?;
            verified.files += 1;
            verified.bytes += file.bytes();
            verified.rows += file.rows();
        }
        Ok(verified)
    }
}

fn snapshot(state: &mut State, tenant: TenantId, table: Table) -> Snapshot {
    let key = (tenant, table);
    let mut batches = state.flushing.get(&key).cloned().unwrap_or_default();
    if let Some(tail) = state.tails.get_mut(&tenant) {
        batches.extend(tail.table(table).batches());
    }
    Snapshot { schema: table.schema(), files: state.files.get(&key).cloned().unwrap_or_default(), batches }
}

pub(super) async fn reach(
    position: &watch::Sender<Offset>,
    wanted: Offset,
    timeout: Duration,
) -> Result<(), FactError> {
    let mut receiver = position.subscribe();
    match tokio::time::timeout(timeout, receiver.wait_for(|applied| *applied >= wanted)).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(FactError::Behind { applied: *position.borrow(), wanted }),
    }
}

fn listed(tenant: TenantId, table: Table, file: &FactFile) -> ManifestFile {
    let name = file.path().file_name().expect("a fact file has a name").to_string_lossy().into_owned();
    ManifestFile { tenant, table, name, bytes: file.bytes(), rows: file.rows(), sha256: file.sha256().to_owned() }
}

/// Deletes what a crash left between writing and committing, and files that were merged but still read at the end.
pub(super) fn delete_orphans(dir: &Path, listed: &HashSet<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            delete_orphans(&path, listed)?;
        } else if !listed.contains(&path) && path.extension().is_some_and(|ext| ext == "parquet" || ext == "tmp") {
            tracing::info!(path = %path.display(), "deleting a fact file that was never committed or has been merged");
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Deletes every fact file. Commit [`manifest::reset`](super::manifest::reset) first; no store may be open.
///
/// # Errors
/// `Io`: what is left is deleted at the next open.
pub fn reset_dir(dir: &Path) -> Result<(), FactError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error(dir, error)),
        _ => Ok(()),
    }
}
