//! Flushing and merging of sources' rows. As with facts, in three steps: files are written, the caller commits the plan in
//! the writer's transaction, and the plan is finished, or aborted. One thread does this and applies records.

use super::super::config::FLUSH_EVENTS_FACTOR;
use super::super::error::{FactError, read_error};
use super::super::files::{self, FactFile, Written};
use super::super::sink::Verified;
use super::manifest::{Place, SourceFile, SourcePlan};
use super::{SourceStore, State, Stored};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use ingest::id::EventId;
use std::fs;
use std::sync::Arc;

/// Bytes of rows in memory, as they were logged, before a flush; in Arrow about as many.
const FLUSH_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of a row group, for rows that are large.
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of the files that a merge takes together: it holds their rows in memory, several times as large.
const MERGE_BYTES: u64 = 24 * 1024 * 1024;

impl State {
    fn at(&mut self, place: &Place) -> Option<&mut Stored> {
        self.sources.get_mut(&place.source)?.stored.get_mut(&(place.part, place.generation))
    }
}

impl SourceStore {
    /// It is time to flush: many rows in memory, or many events since the last flush.
    #[must_use]
    pub fn flush_due(&self) -> bool {
        let state = self.state();
        let events = state.next - state.committed;
        !state.busy
            && (state.tail_bytes >= FLUSH_BYTES
                || state.tail_rows() >= FLUSH_EVENTS_FACTOR * self.config.flush_rows
                || events >= (FLUSH_EVENTS_FACTOR * self.config.flush_rows) as u64)
    }

    /// Rows in memory.
    #[must_use]
    pub fn tail_rows(&self) -> usize {
        self.state().tail_rows()
    }

    /// Step 1 of a flush. `None` when there is nothing new.
    ///
    /// # Errors
    /// `Busy`; `Io` when the disk refuses, with the rows back in memory.
    pub fn begin_flush(&self) -> Result<Option<SourcePlan>, FactError> {
        let (mut plan, taken) = {
            let mut state = self.state();
            if state.busy {
                return Err(FactError::Busy);
            }
            if state.next == state.committed {
                return Ok(None);
            }
            let mut taken = Vec::new();
            for source in state.sources.values_mut() {
                let def = Arc::clone(&source.def);
                for ((part, generation), stored) in &mut source.stored {
                    let place = Place { tenant: def.tenant, source: def.id, part: *part, generation: *generation };
                    stored.flushing = stored.tail.take();
                    if !stored.flushing.is_empty() {
                        taken.push((place, Arc::clone(def.schema(*part)), stored.flushing.clone()));
                    }
                }
            }
            state.busy = true;
            let plan = SourcePlan {
                added: Vec::new(),
                removed: state.gone.iter().map(|(file, _)| file.clone()).collect(),
                generations: state.switched.iter().map(|(id, generation)| (*id, *generation)).collect(),
                offset: Some(state.next),
            };
            (plan, taken)
        };
        for (place, schema, batches) in taken {
            match self.write(place, &schema, batches) {
                Ok(file) => plan.added.push(file),
                Err(error) => {
                    self.abort(plan);
                    return Err(error);
                }
            }
        }
        Ok(Some(plan))
    }

    /// Step 1 of a merge of small files. `None` when no table has too many.
    ///
    /// # Errors
    /// `Busy`; `Damaged` names an input that isn't what was written; `Io` when the disk refuses.
    pub fn begin_compaction(&self) -> Result<Option<SourcePlan>, FactError> {
        let Some((place, schema, inputs)) = ({
            let mut state = self.state();
            if state.busy {
                return Err(FactError::Busy);
            }
            let stored = state.sources.values().flat_map(|source| {
                source.stored.iter().map(move |((part, _), stored)| (source.def.schema(*part), stored))
            });
            let mut due = stored.filter_map(|(schema, stored)| {
                let inputs = self.to_merge(&stored.files)?;
                Some((inputs.first()?.0.place, Arc::clone(schema), inputs))
            });
            let due = due.next();
            state.busy = due.is_some();
            due
        }) else {
            return Ok(None);
        };
        let read = || {
            let mut batches = Vec::new();
            for (_, file) in &inputs {
                batches.extend(file.read_as(&schema).map_err(|error| read_error(file.path(), error))?);
            }
            self.write(place, &schema, batches)
        };
        let mut plan = SourcePlan::default();
        match read() {
            Ok(file) => {
                plan.added.push(file);
                plan.removed.extend(inputs.into_iter().map(|(file, _)| file));
                Ok(Some(plan))
            }
            Err(error) => {
                self.abort(plan);
                Err(error)
            }
        }
    }

    /// The oldest small files that a merge takes together, if there are too many.
    fn to_merge(&self, files: &[(SourceFile, Arc<FactFile>)]) -> Option<Vec<(SourceFile, Arc<FactFile>)>> {
        let small = |(file, _): &&(SourceFile, Arc<FactFile>)| {
            file.rows <= self.config.compact_rows / 2 && file.bytes <= MERGE_BYTES / 2
        };
        let small: Vec<_> = files.iter().filter(small).collect();
        if small.len() <= self.config.compact_files {
            return None;
        }
        let (mut rows, mut bytes) = (0, 0);
        let within = |(file, _): &&&(SourceFile, Arc<FactFile>)| {
            rows += file.rows;
            bytes += file.bytes;
            rows <= self.config.compact_rows && bytes <= MERGE_BYTES
        };
        let chosen: Vec<_> = small.iter().take_while(within).map(|found| (*found).clone()).collect();
        (chosen.len() > 1).then_some(chosen)
    }

    fn write(&self, place: Place, schema: &SchemaRef, batches: Vec<RecordBatch>) -> Result<SourceFile, FactError> {
        let name = format!("{}.parquet", EventId::fresh());
        let mut file = SourceFile { place, name, bytes: 0, rows: 0, sha256: String::new() };
        let path = self.dir.join(file.relative_path());
        let properties = files::base_properties().set_max_row_group_bytes(Some(ROW_GROUP_BYTES)).build();
        let written = files::write_rows(&path, schema, properties, batches.into_iter().map(Ok))
            .map_err(|source| FactError::Io { path: path.clone(), source })?;
        Written { bytes: file.bytes, rows: file.rows, sha256: file.sha256 } = written;
        Ok(file)
    }

    /// Step 3, after the commit of the plan.
    pub fn finish(&self, plan: SourcePlan) {
        let mut state = self.state();
        for file in plan.removed {
            if let Some(stored) = state.at(&file.place)
                && let Some(at) = stored.files.iter().position(|(known, _)| known.name == file.name)
            {
                stored.files.remove(at).1.supersede();
            }
            if let Some(at) = state.gone.iter().position(|(known, _)| known.name == file.name) {
                state.gone.remove(at).1.supersede();
            }
        }
        let flushed = plan.offset.is_some();
        for file in plan.added {
            let path = self.dir.join(file.relative_path());
            let written = Written { bytes: file.bytes, rows: file.rows, sha256: file.sha256.clone() };
            let opened = Arc::new(FactFile::new(path, written));
            let Some(stored) = state.at(&file.place) else {
                state.gone.push((file, opened));
                continue;
            };
            // What was merged is older than what comes after it; flushed rows are the newest.
            let at = if flushed { stored.files.len() } else { 0 };
            stored.files.insert(at, (file, opened));
        }
        if let Some(offset) = plan.offset {
            state.committed = offset;
            state.tail_bytes = 0;
            state.switched.clear();
            let stored = state.sources.values_mut().flat_map(|source| source.stored.values_mut());
            stored.for_each(|stored| stored.flushing.clear());
        }
        state.busy = false;
    }

    /// Instead of step 3, when the plan was not committed: its files are deleted, its rows are in memory as before.
    pub fn abort(&self, plan: SourcePlan) {
        for file in &plan.added {
            let path = self.dir.join(file.relative_path());
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "failed to delete an uncommitted file of rows");
            }
        }
        let mut state = self.state();
        let stored = state.sources.values_mut().flat_map(|source| source.stored.values_mut());
        stored.for_each(|stored| {
            let flushing = std::mem::take(&mut stored.flushing);
            stored.tail.put_back(flushing);
        });
        state.busy = false;
    }

    /// Reads every byte of every file.
    ///
    /// # Errors
    /// `Damaged` names the first file that is missing, cut short or changed.
    pub fn verify(&self) -> Result<Verified, FactError> {
        let files: Vec<_> = {
            let state = self.state();
            let stored = state.sources.values().flat_map(|source| source.stored.values());
            let all = stored.flat_map(|stored| &stored.files).chain(&state.gone);
            all.map(|(_, file)| Arc::clone(file)).collect()
        };
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
