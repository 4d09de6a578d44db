//! A log in memory, a manifest in SQLite and a fact store on disk, with the three steps of a flush and a way to crash.

use crate::story::tenant;
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use ingest::event::Event;
use ingest::id::{ConversationId, TenantId};
use ingest::log::Record;
use ingest::time::Timestamp;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rusqlite::Connection;
use sinks::parquet::facts::{Table, UsagePartial, Versions};
use sinks::parquet::{FactConfig, FactError, FactStore, FlushPlan, HistoryError, Snapshot, manifest};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

pub struct Bench {
    pub log: Vec<Arc<Record>>,
    pub dir: tempfile::TempDir,
    pub sqlite: Connection,
    pub store: FactStore,
    pub config: FactConfig,
}

impl Bench {
    pub fn new(config: FactConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = Connection::open_in_memory().unwrap();
        manifest::create_tables(&sqlite).unwrap();
        let store = open(&dir, &sqlite, &config).unwrap();
        Self { log: Vec::new(), dir, sqlite, store, config }
    }

    pub fn append(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let offset = self.log.len() as u64;
            self.log.push(Arc::new(Record { offset, body: String::new(), event }));
        }
    }

    /// Applies up to `records` records that the facts don't have yet.
    pub fn apply(&self, records: usize) {
        let from = usize::try_from(self.store.applied()).unwrap();
        let to = self.log.len().min(from.saturating_add(records));
        self.store.apply(&self.log[from..to], &|id, after| self.history(id, after)).unwrap();
    }

    /// In pages of two, so that most histories have several.
    pub fn history(&self, id: ConversationId, after: u64) -> Result<Vec<Event>, HistoryError> {
        let own = |event: &&Event| event.conversation == Some(id) && event.seq > after;
        Ok(self.log.iter().map(|record| &record.event).filter(own).take(2).cloned().collect())
    }

    /// Feeds the usage rows of the events from `from` to before `through`: one a conversation event.
    pub fn feed_usage(&self, from: u64, through: u64) {
        let partial = |record: &Arc<Record>| UsagePartial {
            offset: record.offset,
            tenant: record.event.tenant,
            minute: Timestamp(record.event.occurred_at.0 / 60_000 * 60_000),
            metric: record.event.payload.kind().to_owned(),
            value: 1,
        };
        let (start, end) = (usize::try_from(from).unwrap(), usize::try_from(through).unwrap());
        self.store.apply_usage(self.log[start..end].iter().map(partial).collect(), through);
    }

    pub fn commit(&self, plan: &FlushPlan) {
        let transaction = self.sqlite.unchecked_transaction().unwrap();
        manifest::commit_flush(&transaction, plan).unwrap();
        transaction.commit().unwrap();
    }

    pub fn flush(&self) {
        if let Some(plan) = self.store.begin_flush().unwrap() {
            self.commit(&plan);
            self.store.finish_flush(plan);
        }
    }

    /// Compacts until nothing is due; returns how often.
    pub fn compact(&self) -> usize {
        let mut times = 0;
        while let Some(plan) = self.store.begin_compaction().unwrap() {
            self.commit(&plan);
            self.store.finish_flush(plan);
            times += 1;
        }
        times
    }

    /// The process dies and starts again, with whatever is on disk.
    pub fn restart(&mut self) {
        self.store = self.reopen().unwrap();
    }

    pub fn reopen(&self) -> Result<FactStore, FactError> {
        open(&self.dir, &self.sqlite, &self.config)
    }

    /// Fact files on disk, listed or not.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        fn walk(dir: &std::path::Path, found: &mut BTreeSet<PathBuf>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.extend([path]) }
            }
        }
        let mut found = BTreeSet::new();
        walk(self.dir.path(), &mut found);
        found
    }

    pub fn contents(&self) -> BTreeMap<(String, Table), Vec<String>> {
        contents(&self.store, &["acme", "globex"])
    }
}

fn open(dir: &tempfile::TempDir, sqlite: &Connection, config: &FactConfig) -> Result<FactStore, FactError> {
    FactStore::open(dir.path(), manifest::load(sqlite).unwrap(), config.clone())
}

/// Every row of a snapshot, as written and as in memory.
pub fn batches(snapshot: &Snapshot) -> Vec<RecordBatch> {
    let mut batches = snapshot.batches.clone();
    for file in &snapshot.files {
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(File::open(file.path()).unwrap()).unwrap().build().unwrap();
        let read: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        assert_eq!(read.iter().map(|batch| batch.num_rows() as u64).sum::<u64>(), file.rows());
        for batch in &read {
            assert_eq!(batch.schema().fields(), snapshot.schema.fields(), "files and memory have one schema");
        }
        batches.extend(read);
    }
    batches
}

/// Rows as cells of text.
pub fn rows(snapshot: &Snapshot) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches(snapshot) {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect()));
    }
    rows
}

/// What a reader makes of a table: newest versions, sums of usage, everything else as it is; sorted.
pub fn table(store: &FactStore, of: TenantId, table: Table) -> Vec<String> {
    let rows = rows(&store.snapshot(of, table));
    let mut lines: Vec<String> = match table {
        // The id is the first column, the version the second.
        versions if versions.versions().is_some() => {
            let mut newest: BTreeMap<String, (i64, Vec<String>)> = BTreeMap::new();
            let Versions { fixed, rising, .. } = versions.versions().expect("it has versions");
            let places = |names: &[&str]| -> Vec<usize> {
                names.iter().map(|name| versions.schema().index_of(name).unwrap()).collect()
            };
            let (fixed, rising) = (places(fixed), places(rising));
            let mut alike: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for row in rows {
                let cells: Vec<String> = fixed.iter().map(|&column| row[column].clone()).collect();
                let first = alike.entry(row[0].clone()).or_insert_with(|| cells.clone());
                assert_eq!(
                    *first, cells,
                    "versions differ in a column that readers filter by before they compare them"
                );
                let version = row[1].parse().unwrap();
                let kept = newest.entry(row[0].clone()).or_insert((0, Vec::new()));
                let (older, newer) = if version > kept.0 { (&kept.1, &row) } else { (&row, &kept.1) };
                let falls = |&column: &usize| older.get(column).is_some_and(|cell| *cell > newer[column]);
                assert!(!rising.iter().any(falls), "a newer version has less of a column that never falls");
                if version > kept.0 {
                    *kept = (version, row);
                }
            }
            newest.into_values().map(|(_, row)| row.join(" ")).collect()
        }
        Table::UsageMinute => {
            let mut sums: BTreeMap<(String, String), i64> = BTreeMap::new();
            for row in rows {
                *sums.entry((row[0].clone(), row[1].clone())).or_default() += row[2].parse::<i64>().unwrap();
            }
            sums.into_iter().map(|((minute, metric), sum)| format!("{minute} {metric} {sum}")).collect()
        }
        _ => rows.iter().map(|row| row.join(" ")).collect(),
    };
    lines.sort();
    lines
}

pub fn contents(store: &FactStore, tenants: &[&str]) -> BTreeMap<(String, Table), Vec<String>> {
    let all = tenants.iter().flat_map(|name| Table::ALL.map(|t| (*name, t)));
    all.map(|(name, t)| ((name.to_owned(), t), table(store, tenant(name), t))).collect()
}
