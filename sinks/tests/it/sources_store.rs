//! Rows of the tenants' own data sources: flush, merge, restart, replacement, deletion; at every place where a crash can be.

use crate::story::tenant;
use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use ingest::event::{Actor, Event, Origin};
use ingest::id::{DataSourceId, EventId};
use ingest::log::Record;
use ingest::payload::{
    DataSourceCreated, DataSourceDeleted, DataSourceReplaced, Payload, Rows, RowsAppended, SourceColumn,
};
use ingest::time::Timestamp;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sinks::parquet::manifest::create_tables;
use sinks::parquet::sources::manifest::{self, SourcePlan};
use sinks::parquet::{FactConfig, SourceDef, SourceStore};
use std::sync::Arc;

fn columns() -> Vec<SourceColumn> {
    let column = |name: &str, kind: &str| SourceColumn {
        name: name.to_owned(),
        r#type: kind.parse().unwrap(),
        nullable: false,
        path: vec![name.to_owned()],
    };
    vec![column("n", "Int64"), column("tags", "Array(String)")]
}

fn id(name: &str) -> DataSourceId {
    DataSourceId::derived(&[name.as_bytes()])
}

struct Bench {
    dir: tempfile::TempDir,
    connection: rusqlite::Connection,
    store: SourceStore,
    log: Vec<Arc<Record>>,
}

impl Bench {
    fn new() -> Self {
        let (dir, connection) = (tempfile::tempdir().unwrap(), rusqlite::Connection::open_in_memory().unwrap());
        create_tables(&connection).unwrap();
        let store = SourceStore::open(dir.path(), manifest::load(&connection).unwrap(), Vec::new(), config()).unwrap();
        Self { dir, connection, store, log: Vec::new() }
    }

    fn log(&mut self, payload: impl Into<Payload>) {
        let event = Event {
            id: EventId::fresh(),
            tenant: tenant("acme"),
            conversation: None,
            seq: 0,
            occurred_at: Timestamp(0),
            recorded_at: Timestamp(0),
            origin: Origin::Live,
            actor: Actor::System,
            cause: None,
            request: None,
            payload: payload.into(),
        };
        self.log.push(Arc::new(Record { offset: self.log.len() as u64, body: event.encode(), event }));
    }

    fn create(&mut self, name: &str) {
        self.log(DataSourceCreated { source_id: id(name), name: name.to_owned(), columns: columns() });
    }

    fn append(&mut self, name: &str, generation: u32, rows: std::ops::Range<i64>) {
        let count = u32::try_from(rows.end - rows.start).unwrap();
        let rows: Vec<String> = rows.map(|n| format!("[{n},[\"x\"]]")).collect();
        let rows = Rows::from_json(format!("[{}]", rows.join(","))).unwrap();
        self.log(RowsAppended { source_id: id(name), generation, quarantined: false, count, rows });
    }

    fn apply(&self) {
        self.store.apply(&self.log).unwrap();
    }

    fn commit(&self, plan: SourcePlan) {
        manifest::commit(&self.connection, &plan).unwrap();
        self.store.finish(plan);
    }

    fn flush(&self) {
        if let Some(plan) = self.store.begin_flush().unwrap() {
            self.commit(plan);
        }
    }

    /// As after a crash: what isn't in the manifest is gone from the disk, what isn't in files from memory.
    fn restart(&mut self) {
        let mut living: Vec<SourceDef> = Vec::new();
        for record in &self.log {
            match &record.event.payload {
                Payload::DataSourceCreated(made) => {
                    living.push(SourceDef::new(tenant("acme"), made.source_id, &made.name, &made.columns));
                }
                Payload::DataSourceDeleted(gone) => living.retain(|def| def.id != gone.source_id),
                _ => {}
            }
        }
        let manifest = manifest::load(&self.connection).unwrap();
        self.store = SourceStore::open(self.dir.path(), manifest, living, config()).unwrap();
        self.apply();
    }

    /// The numbers in a table, sorted.
    fn numbers(&self, table: &str) -> Option<Vec<i64>> {
        let snapshot = self.store.snapshot(tenant("acme"), table)?;
        let mut batches = snapshot.batches;
        for file in &snapshot.files {
            let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file.path()).unwrap()).unwrap();
            batches.extend(reader.build().unwrap().map(Result::unwrap));
        }
        let values = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        let mut values: Vec<i64> = values.collect();
        values.sort_unstable();
        Some(values)
    }

    fn files(&self) -> usize {
        fn count(dir: &std::path::Path) -> usize {
            let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
        }
        count(self.dir.path())
    }
}

fn config() -> FactConfig {
    FactConfig { compact_files: 2, ..FactConfig::default() }
}

fn numbers(range: std::ops::Range<i64>) -> Option<Vec<i64>> {
    Some(range.collect())
}

#[test]
fn rows_go_from_memory_to_files_and_outlive_a_crash_at_any_step() {
    let mut bench = Bench::new();
    bench.create("a");
    bench.append("a", 1, 0..100);
    bench.apply();
    assert_eq!(bench.numbers("a"), numbers(0..100));
    // Written, not committed.
    drop(bench.store.begin_flush().unwrap().expect("rows"));
    bench.restart();
    assert_eq!((bench.numbers("a"), bench.files()), (numbers(0..100), 0));
    // Committed, not finished.
    let plan = bench.store.begin_flush().unwrap().expect("rows");
    manifest::commit(&bench.connection, &plan).unwrap();
    bench.restart();
    assert_eq!((bench.numbers("a"), bench.files(), bench.store.tail_rows()), (numbers(0..100), 1, 0));
    // Aborted: as before.
    bench.append("a", 1, 100..200);
    bench.apply();
    let plan = bench.store.begin_flush().unwrap().expect("rows");
    assert_eq!(bench.numbers("a"), numbers(0..200), "seen once while it is written");
    bench.store.abort(plan);
    assert_eq!((bench.numbers("a"), bench.files()), (numbers(0..200), 1));
    bench.flush();
    assert_eq!((bench.numbers("a"), bench.files(), bench.store.tail_rows()), (numbers(0..200), 2, 0));
    assert!(bench.store.begin_flush().unwrap().is_none(), "nothing is new");
    assert_eq!(bench.store.verify().unwrap().rows, 200);
}

#[test]
fn small_files_are_merged_and_readers_keep_what_they_hold() {
    let mut bench = Bench::new();
    bench.create("a");
    for n in 0..3 {
        bench.append("a", 1, n * 10..n * 10 + 10);
        bench.apply();
        bench.flush();
    }
    assert_eq!(bench.files(), 3);
    let held = bench.store.snapshot(tenant("acme"), "a").expect("there");
    let plan = bench.store.begin_compaction().unwrap().expect("too many");
    bench.commit(plan);
    assert_eq!(bench.numbers("a"), numbers(0..30));
    assert!(held.files.iter().all(|file| file.path().exists()));
    drop(held);
    assert_eq!(bench.files(), 1);
    assert!(bench.store.begin_compaction().unwrap().is_none());
    bench.restart();
    assert_eq!(bench.numbers("a"), numbers(0..30));
}

/// Rows of the next generation are seen when it's switched to, and those of the last are gone then; wherever a flush or
/// a crash comes in between.
#[test]
fn a_replacement_is_seen_whole() {
    for flush_at in 0..4 {
        let mut bench = Bench::new();
        bench.create("a");
        bench.append("a", 1, 0..10);
        bench.apply();
        if flush_at == 1 {
            bench.flush();
        }
        bench.append("a", 2, 100..105);
        bench.apply();
        if flush_at == 2 {
            bench.flush();
            bench.restart();
        }
        assert_eq!(bench.numbers("a"), numbers(0..10), "{flush_at}");
        bench.log(DataSourceReplaced { source_id: id("a"), generation: 2 });
        bench.apply();
        assert_eq!(bench.numbers("a"), numbers(100..105), "{flush_at}");
        if flush_at == 3 {
            bench.flush();
        }
        bench.restart();
        bench.append("a", 2, 105..110);
        bench.apply();
        bench.flush();
        bench.restart();
        assert_eq!(bench.numbers("a"), numbers(100..110), "{flush_at}");
        assert_eq!(bench.store.verify().unwrap().rows, 10, "{flush_at}");
    }
}

#[test]
fn a_deleted_source_is_gone_and_its_name_is_free() {
    let mut bench = Bench::new();
    bench.create("a");
    bench.append("a", 1, 0..10);
    bench.apply();
    bench.flush();
    bench.log(DataSourceDeleted { source_id: id("a") });
    bench.apply();
    assert_eq!(bench.numbers("a"), None);
    assert_eq!(bench.numbers("a_quarantine"), None);
    bench.log(DataSourceCreated { source_id: id("b"), name: "a".to_owned(), columns: columns() });
    bench.append("b", 1, 5..7);
    bench.apply();
    assert_eq!(bench.numbers("a"), numbers(5..7));
    // Its file is in the manifest still: the next flush takes it out.
    bench.restart();
    assert_eq!(bench.numbers("a"), numbers(5..7));
    bench.flush();
    assert_eq!(bench.files(), 1);
    bench.restart();
    assert_eq!((bench.numbers("a"), bench.store.tables(tenant("acme")).len()), (numbers(5..7), 2));
}

#[test]
fn tables_are_their_tenants() {
    let mut bench = Bench::new();
    bench.create("a");
    bench.append("a", 1, 0..1);
    bench.apply();
    assert!(bench.store.snapshot(tenant("globex"), "a").is_none());
    assert!(bench.store.tables(tenant("globex")).is_empty());
    let names: Vec<String> = bench.store.tables(tenant("acme")).iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["a", "a_quarantine"]);
}

/// It would fail again and again: it's left out, and what comes after it is seen.
#[test]
fn a_chunk_that_cannot_be_read_holds_nobody_up() {
    let mut bench = Bench::new();
    bench.create("a");
    let rows = Rows::from_json("[[\"no number\",[]]]".to_owned()).unwrap();
    bench.log(RowsAppended { source_id: id("a"), generation: 1, quarantined: false, count: 1, rows });
    bench.append("a", 1, 3..4);
    bench.apply();
    assert_eq!(bench.numbers("a"), numbers(3..4));
}
