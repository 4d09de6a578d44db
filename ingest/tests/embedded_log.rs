//! The embedded log on a real disk: the conformance suite, and damage that must be noticed and named.

use ingest::conformance::{self, event};
use ingest::sqlite::{DataDir, OpenError};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

fn open(path: &Path) -> Result<conformance::Opened, OpenError> {
    let dir = DataDir::open(path, None, true)?;
    let (connection, log, _key_file) = dir.open_database()?;
    Ok((connection, Box::new(log)))
}

#[test]
fn the_embedded_log_conforms() {
    let dir = tempfile::tempdir().expect("temp dir");
    conformance::run(|| open(dir.path()).expect("opens"));
}

/// 3,000 events whose middle is in the database file and whose end is in the WAL, as after a kill.
fn filled(path: &Path, checkpointed: bool) {
    let (connection, mut log) = open(path).expect("opens");
    for batch in 0..12 {
        connection.execute_batch("BEGIN IMMEDIATE").expect("begins");
        let records =
            log.append(&connection, (0..250).map(|n| event(batch * 250 + n, 100)).collect()).expect("appends");
        connection.execute_batch("COMMIT").expect("commits");
        log.committed(&records);
    }
    if checkpointed {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("checkpoint");
    } else {
        // A killed process leaves its WAL behind; closing the connection would fold it in.
        for file in ["parlance.db", "parlance.db-wal", "log.head"] {
            fs::copy(path.join(file), path.join(format!("{file}.killed"))).expect("copied");
        }
        drop((connection, log));
        for file in ["parlance.db", "parlance.db-wal", "log.head"] {
            fs::rename(path.join(format!("{file}.killed")), path.join(file)).expect("renamed");
        }
        drop(fs::remove_file(path.join("parlance.db-shm")));
    }
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("reads");
    file.write_all_at(&[byte[0] ^ 0x20], at).expect("writes");
}

fn find(path: &Path, text: &str) -> u64 {
    let bytes = fs::read(path).expect("reads");
    bytes.windows(text.len()).rposition(|window| window == text.as_bytes()).expect("the text is in the file") as u64
}

#[test]
fn a_kill_loses_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    filled(dir.path(), false);
    assert_eq!(open(dir.path()).expect("opens").1.reader().end(), 3_000);
}

#[test]
fn a_flipped_byte_near_the_end_stops_the_start_and_names_the_offset() {
    let dir = tempfile::tempdir().expect("temp dir");
    filled(dir.path(), true);
    let database = dir.path().join("parlance.db");
    flip(&database, find(&database, "\"timeZone\":\"2998\""));
    let error = open(dir.path()).err().expect("damaged").to_string();
    assert!(error.contains("offset 2998") && error.contains("backup"), "{error}");
}

#[test]
fn a_flipped_byte_far_back_is_found_by_verify_and_named() {
    let dir = tempfile::tempdir().expect("temp dir");
    filled(dir.path(), true);
    let database = dir.path().join("parlance.db");
    flip(&database, find(&database, "\"timeZone\":\"77\""));
    let (connection, _log) = open(dir.path()).expect("the start checks the end of the log only");
    let error = ingest::sqlite::log::verify_chain(&connection, 0, |_| {}).expect_err("damaged").to_string();
    assert!(error.contains("offset 77:"), "{error}");
}

#[test]
fn a_database_that_was_cut_short_is_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    filled(dir.path(), true);
    let database = dir.path().join("parlance.db");
    let length = fs::metadata(&database).expect("there").len();
    OpenOptions::new().write(true).open(&database).expect("opens").set_len(length - 5_000).expect("cut");
    let error = open(dir.path()).err().expect("cut").to_string();
    assert!(error.contains("parlance.db") && error.contains(&format!("byte {}", length - 5_000)), "{error}");
}

/// SQLite itself drops a damaged end of its WAL in silence; the head file knows what was acknowledged.
#[test]
fn a_cut_or_flipped_wal_is_refused_because_acknowledged_events_are_missing() {
    let cut = |wal: &Path| {
        let length = fs::metadata(wal).expect("there").len();
        OpenOptions::new().write(true).open(wal).expect("opens").set_len(length * 2 / 3).expect("cut");
    };
    let flipped = |wal: &Path| flip(wal, fs::metadata(wal).expect("there").len() / 2);
    for damage in [&cut as &dyn Fn(&Path), &flipped] {
        let dir = tempfile::tempdir().expect("temp dir");
        filled(dir.path(), false);
        damage(&dir.path().join("parlance.db-wal"));
        let error = open(dir.path()).err().expect("damaged").to_string();
        assert!(error.contains("3000 events were acknowledged"), "{error}");
    }
}
