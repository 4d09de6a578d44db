//! A data directory that was damaged stops the commands with the file, the place and what to do.

mod support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use support::{data_file, run, run_any};

fn imported() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temp dir");
    let dialogues = data_file("support_dialogues.ndjson.gz");
    run(dir.path(), &["import", dialogues.to_str().expect("UTF-8"), "--tenant-field", "tenant"]);
    dir
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("reads");
    file.write_all_at(&[byte[0] ^ 0x01], at).expect("writes");
}

fn cut(path: &Path, bytes: u64) {
    let length = fs::metadata(path).expect("there").len();
    OpenOptions::new().write(true).open(path).expect("opens").set_len(length - bytes).expect("cut");
}

fn refusal(dir: &Path, args: &[&str]) -> String {
    let output = run_any(dir, args);
    assert_eq!(output.status.code(), Some(1), "{args:?} must fail");
    String::from_utf8(output.stderr).expect("UTF-8")
}

fn position(path: &Path, text: &str) -> u64 {
    let bytes = fs::read(path).expect("reads");
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("in the file") as u64
}

#[test]
fn a_flipped_byte_in_the_log_is_named_by_its_offset() {
    let dir = imported();
    let database = dir.path().join("parlance.db");
    let at = position(&database, "\"type\":\"message_posted\"");
    flip(&database, at + 10);
    let error = refusal(dir.path(), &["verify"]);
    assert!(error.contains("offset") && error.contains("hash") && error.contains("backup"), "{error}");
}

#[test]
fn a_flipped_byte_in_the_state_is_named_by_its_row() {
    let dir = imported();
    let database = dir.path().join("parlance.db");
    let connection = rusqlite::Connection::open(&database).expect("opens");
    let changed = connection
        .execute("UPDATE conversations SET body = replace(body, '\"rating\":5', '\"rating\":4') WHERE id = (SELECT id FROM conversations WHERE body LIKE '%\"rating\":5%' LIMIT 1)", [])
        .expect("changed");
    assert_eq!(changed, 1);
    drop(connection);
    let error = refusal(dir.path(), &["verify"]);
    assert!(error.contains("conversations ") && error.contains("rebuild --views state"), "{error}");
    run(dir.path(), &["rebuild", "--views", "state"]);
    run(dir.path(), &["verify"]);
}

#[test]
fn a_cut_off_database_is_refused_by_every_command() {
    let dir = imported();
    cut(&dir.path().join("parlance.db"), 10_000);
    for args in [&["verify"][..], &["serve", "--listen", "127.0.0.1:0"], &["tenant", "list"]] {
        let error = refusal(dir.path(), args);
        assert!(error.contains("parlance.db") && error.contains("cut off at byte"), "{args:?}: {error}");
    }
}

#[test]
fn a_log_that_lost_its_end_is_refused() {
    let dir = imported();
    let connection = rusqlite::Connection::open(dir.path().join("parlance.db")).expect("opens");
    connection.execute("DELETE FROM log WHERE \"offset\" > (SELECT max(\"offset\") - 5 FROM log)", []).expect("cut");
    drop(connection);
    let error = refusal(dir.path(), &["verify"]);
    assert!(error.contains("were acknowledged") && error.contains("cut off"), "{error}");
}

fn fact_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.join("facts")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "parquet") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn damaged_parquet_files_are_named_and_rebuilt() {
    let dir = imported();
    // A server flushes by itself when the rows in memory are many; the import of 100,000 events is enough.
    let files = fact_files(dir.path());
    assert!(!files.is_empty(), "the import has flushed facts");
    let file = files.iter().max_by_key(|file| fs::metadata(file).expect("there").len()).expect("a file");
    let whole = fs::read(file).expect("reads");
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();

    flip(file, whole.len() as u64 / 2);
    let error = refusal(dir.path(), &["verify"]);
    assert!(error.contains(&name) && error.contains("rebuild --views facts"), "{error}");

    fs::write(file, &whole[..whole.len() / 2]).expect("cut");
    let error = refusal(dir.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert!(error.contains(&name) && error.contains("rebuild --views facts"), "{error}");

    let hash = run(dir.path(), &["rebuild", "--views", "facts"]);
    assert_eq!(run(dir.path(), &["verify"]), hash);
}

#[test]
fn a_held_directory_says_who_holds_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = support::Server::start(dir.path(), &[]);
    let error = refusal(dir.path(), &["tenant", "list"]);
    assert!(error.contains(&format!("process {}", server.pid())), "{error}");
}
