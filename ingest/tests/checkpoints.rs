//! The writer copies its WAL by the pages that are in use: a copy every so many pages, whatever a commit is, and whoever
//! reads meanwhile. Counted by the server's own counter.

use ingest::conformance::event;
use ingest::sqlite::checkpoint::WAL_PAGES_MAX;
use ingest::sqlite::{DataDir, ReadPool};
use ingest::time::Timestamp;
use ingest::writer::{Decided, Domain, ExecuteError, Writer};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

/// Characters of a message's event in these tests: some pages of its own.
const EVENT_BYTES: usize = 100_000;
/// Pages that a commit of one event surely writes.
const PAGES_A_COMMIT: i64 = 25;

/// Appends one event a command.
struct Appends(usize);

impl Domain for Appends {
    type Command = ();
    type Answer = ();
    type Rejection = ();

    fn execute(&mut self, _: &Connection, (): &(), _: Timestamp) -> Result<Decided<()>, ExecuteError<()>> {
        self.0 += 1;
        Ok(Decided { events: vec![event(self.0, EVENT_BYTES)], keys: Vec::new(), answer: () })
    }

    fn flush(&mut self, _: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }

    fn committed(&mut self) {}

    fn discard(&mut self) {}
}

/// Counts the copies of this process.
struct Checkpoints(Arc<AtomicU64>);

impl Recorder for Checkpoints {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == "parlance_checkpoints_total" {
            Counter::from_arc(Arc::clone(&self.0))
        } else {
            Counter::noop()
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

async fn commit(writer: &Writer<Appends>, commits: i64) {
    for _ in 0..commits {
        writer.submit(()).await.expect("written").expect("never refused");
    }
}

fn wal_bytes(dir: &Path) -> i64 {
    let bytes = std::fs::metadata(dir.join("parlance.db-wal")).expect("there is a WAL").len();
    i64::try_from(bytes).expect("a small file")
}

/// Holds the moment that it begins at until told to end.
fn long_reader(pool: ReadPool) -> (std::thread::JoinHandle<()>, mpsc::Sender<()>) {
    let (begun, has_begun) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let read = pool.read(|connection| {
            connection.query_row("SELECT count(*) FROM log", [], |row| row.get::<_, i64>(0))?;
            begun.send(()).expect("the test waits");
            // Its end is the test's word, or the test's end.
            let _told: Result<(), _> = ended.recv();
            Ok(())
        });
        read.expect("reads");
    });
    has_begun.recv().expect("the reader begins");
    (thread, end)
}

#[tokio::test]
async fn copies_follow_the_pages_and_not_the_commits() {
    let copies = Arc::new(AtomicU64::new(0));
    metrics::set_global_recorder(Checkpoints(Arc::clone(&copies))).expect("the only one");
    let copies = || i64::try_from(copies.load(Ordering::Relaxed)).expect("few");
    let dir = tempfile::tempdir().expect("temp dir");
    let data = DataDir::open(dir.path(), None, true).expect("opens");
    let (connection, log, _key_file) = data.open_database().expect("opens");
    let (writer, thread) = Writer::spawn(connection, Box::new(log), Appends(0)).expect("starts");

    // All is well: a copy every WAL_PAGES_MAX, and the file no longer than that.
    let commits = 5 * WAL_PAGES_MAX / PAGES_A_COMMIT;
    commit(&writer, commits).await;
    let (quiet, bytes) = (copies(), wal_bytes(dir.path()));
    assert!((4..=10).contains(&quiet), "{quiet} copies in {commits} commits of some {PAGES_A_COMMIT} pages");
    assert!(bytes < 2 * WAL_PAGES_MAX * 4_120, "{bytes} bytes");

    // One reader keeps an old moment: the WAL grows, and a copy that can't be whole is rarely tried.
    let (reader, end) = long_reader(data.read_pool());
    commit(&writer, commits).await;
    let tried = copies() - quiet;
    assert!((4..=40).contains(&tried), "{tried} copies in {commits} commits beside a reader");
    assert!(wal_bytes(dir.path()) > 4 * WAL_PAGES_MAX * 4_120, "the reader keeps it");

    // It ends: the WAL begins anew within WAL_PAGES_MAX and a little, and its file is cut.
    end.send(()).expect("it waits");
    reader.join().expect("it ends");
    commit(&writer, 2 * WAL_PAGES_MAX / PAGES_A_COMMIT).await;
    let bytes = wal_bytes(dir.path());
    assert!(bytes <= 2 * WAL_PAGES_MAX * 4_120 + 32, "{bytes} bytes");

    // Emptying it for an erasure doesn't confuse the count.
    writer.truncate_wal().await.expect("no reader is in the way");
    let before = copies();
    commit(&writer, 100).await;
    assert_eq!(copies(), before);
    writer.stop().await;
    thread.join().expect("ends");
}
