//! A data directory is opened with the key file that it was written with, or not at all: whatever the command, the wrong one
//! and a missing one are named, and nothing is written. `verify` opens all that is sealed.

mod support;

use ingest::id::PersonId;
use ingest::seal::{KeyFile, PersonKey};
use ring::digest::{SHA256, digest};
use rusqlite::Connection;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use support::{Server, data_file, parlance, run};

/// Every command that works on a data directory.
const COMMANDS: [&[&str]; 10] = [
    &["serve", "--listen", "127.0.0.1:0"],
    &["demo", "--listen", "127.0.0.1:0"],
    &["verify"],
    &["rebuild"],
    &["rebuild", "--views", "state"],
    &["tenant", "list"],
    &["tenant", "create", "--name", "More", "--email", "m@more.example"],
    &["token", "create", "--tenant", "acme"],
    &["export", "--tenant", "acme"],
    &["sql", "--tenant", "acme", "SELECT 1"],
];

/// A directory with sealed texts, as it is when nothing runs on it.
async fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let tenant = server.tenant("Acme").await;
    for name in ["Ann", "Bob", "Cid"] {
        let body = json!({ "name": name, "email": format!("{name}@mail.example"), "initialMessage": "Hello" });
        server.session(&tenant.chatbot_key, body).await;
    }
    server.stop();
    dir
}

/// The key file of another installation.
fn foreign_keys(dir: &Path) -> PathBuf {
    let path = dir.join("foreign.keys");
    KeyFile::open(&path, true).expect("made");
    path
}

/// What a command says when it refuses to work; one that goes on is ended, and fails the test.
fn refusal(dir: &Path, args: &[&str], key_file: Option<&Path>) -> String {
    let mut command = parlance();
    command.args(args).arg("--data-dir").arg(dir).stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(key_file) = key_file {
        command.arg("--key-file").arg(key_file);
    }
    let mut child = command.spawn().expect("the binary runs");
    for _ in 0..400 {
        if let Some(status) = child.try_wait().expect("a child") {
            let mut error = String::new();
            child.stderr.take().expect("piped").read_to_string(&mut error).expect("UTF-8");
            assert_eq!(status.code(), Some(1), "{args:?} must refuse: {error}");
            return error;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("ended");
    child.wait().expect("reaped");
    panic!("{args:?} went on");
}

/// The files that matter, by their hashes. SQLite's index of the WAL is made at every look, and an empty WAL is none.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !name.ends_with("-shm") && name != "parlance.lock" {
                let bytes = fs::read(&path).expect("readable");
                if !(name.ends_with("-wal") && bytes.is_empty()) {
                    found.insert(path, digest(&SHA256, &bytes).as_ref().to_vec());
                }
            }
        }
    }
    found
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("parlance.db")).expect("opens")
}

/// As a database of a version without check values is.
fn forget_check_values(dir: &Path) {
    database(dir).execute_batch("DROP TABLE key_check").expect("dropped");
}

fn check_values(dir: &Path) -> i64 {
    database(dir).query_row("SELECT count(*) FROM key_check", [], |row| row.get(0)).expect("a count")
}

fn every_command_refuses(dir: &Path, key_file: Option<&Path>, words: &[&str]) {
    let before = contents(dir);
    let import = data_file("support_dialogues.ndjson.gz");
    let import = ["import", import.to_str().expect("UTF-8"), "--tenant-field", "tenant"];
    for args in COMMANDS.into_iter().chain([&import[..]]) {
        let error = refusal(dir, args, key_file);
        assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
        for word in words {
            assert!(error.contains(word), "{args:?}: {word}: {error}");
        }
        assert!(contents(dir) == before, "{args:?} has written something");
    }
}

#[tokio::test]
async fn another_installations_key_file_is_refused_by_every_command() {
    let (dir, elsewhere) = (written().await, tempfile::tempdir().expect("temp dir"));
    let foreign = foreign_keys(elsewhere.path());
    let words = ["parlance.db", "foreign.keys", "--key-file", "nothing was changed"];
    every_command_refuses(dir.path(), Some(&foreign), &[&words[..], &["signing, lookup, wrapping"]].concat());
    // Neither does a killed server's WAL, in which the newest commits are, change when the wrong file is tried.
    let server = Server::start(dir.path(), &[]);
    server.tenant("Killed").await;
    server.kill();
    every_command_refuses(dir.path(), Some(&foreign), &words);
    // A database from before there were values is known by what is sealed in it.
    run(dir.path(), &["verify"]);
    forget_check_values(dir.path());
    every_command_refuses(dir.path(), Some(&foreign), &[&words[..], &["oldest keys of persons"]].concat());
    run(dir.path(), &["verify"]);
    assert_eq!(check_values(dir.path()), 3, "the right one is known from here on");
    run(dir.path(), &["verify"]);
}

#[tokio::test]
async fn a_missing_key_file_is_named_and_no_other_is_made() {
    let dir = written().await;
    let kept = dir.path().join("kept");
    fs::rename(dir.path().join("parlance.keys"), &kept).expect("moved");
    let words = ["parlance.db", "parlance.keys isn't there", "nothing was changed"];
    every_command_refuses(dir.path(), None, &words);
    // Nor is one made when the database itself is gone, and its log's head says that there was one.
    let gone = tempfile::tempdir().expect("temp dir");
    fs::rename(dir.path().join("parlance.db"), gone.path().join("parlance.db")).expect("moved");
    let error = refusal(dir.path(), &["serve", "--listen", "127.0.0.1:0"], None);
    assert!(error.contains("parlance.keys isn't there"), "{error}");
    fs::rename(gone.path().join("parlance.db"), dir.path().join("parlance.db")).expect("moved");
    fs::rename(&kept, dir.path().join("parlance.keys")).expect("moved");
    run(dir.path(), &["verify"]);
}

/// A backup that is put back somewhere else opens with its own keys, not with those of what is there.
#[tokio::test]
async fn a_restored_backup_needs_its_own_keys() {
    let (dir, place) = (written().await, written().await);
    let own = place.path().join("parlance.keys");
    let kept = place.path().join("kept.keys");
    fs::rename(&own, &kept).expect("moved");
    for file in ["parlance.db", "log.head"] {
        fs::copy(dir.path().join(file), place.path().join(file)).expect("copied");
    }
    let error = refusal(place.path(), &["tenant", "list"], Some(&kept));
    assert!(error.contains("kept.keys is not the key file"), "{error}");
    fs::copy(dir.path().join("parlance.keys"), &own).expect("copied");
    assert!(run(place.path(), &["tenant", "list"]).contains("acme"));
}

/// Where a first start was broken off, and what makes a directory so.
type BrokenOff = (&'static str, fn(&Path));

/// Wherever the first start was broken off, the second goes through.
#[test]
fn a_first_start_that_was_broken_off_is_made_up_for() {
    let states: [BrokenOff; 5] = [
        ("keys that were begun", |dir| fs::write(dir.join("parlance.keys.new"), "{\"sig").expect("written")),
        ("keys and no database", |dir| drop(KeyFile::open(&dir.join("parlance.keys"), true).expect("made"))),
        ("an empty database and no keys", |dir| fs::write(dir.join("parlance.db"), "").expect("written")),
        ("tables and no values", |dir| {
            run(dir, &["tenant", "create", "--name", "Gone", "--email", "g@gone.example"]);
            let tables = "DELETE FROM key_check; DELETE FROM person_keys;";
            database(dir).execute_batch(tables).expect("as before");
        }),
        ("some of the values", |dir| {
            run(dir, &["tenant", "create", "--name", "Gone", "--email", "g@gone.example"]);
            database(dir).execute_batch("DELETE FROM key_check WHERE name = 'lookup'").expect("deleted");
        }),
    ];
    for (state, make) in states {
        let dir = tempfile::tempdir().expect("temp dir");
        make(dir.path());
        run(dir.path(), &["tenant", "create", "--name", "Acme", "--email", "a@acme.example"]);
        assert_eq!(check_values(dir.path()), 3, "{state}");
        let elsewhere = tempfile::tempdir().expect("temp dir");
        refusal(dir.path(), &["tenant", "list"], Some(&foreign_keys(elsewhere.path())));
    }
}

/// A person who has texts, and their key as it is stored.
fn somebody(database: &Connection) -> PersonId {
    let sql = "SELECT body ->> '$.data.content.p' FROM log WHERE body ->> '$.type' = 'message_posted' LIMIT 1";
    let person: String = database.query_row(sql, [], |row| row.get(0)).expect("a message");
    person.parse().expect("an id")
}

#[tokio::test]
async fn verify_opens_every_key_and_every_text() {
    let dir = written().await;
    run(dir.path(), &["verify"]);
    let key_file = KeyFile::open(&dir.path().join("parlance.keys"), false).expect("opens");
    let person = somebody(&database(dir.path()));
    let other = key_file.wrap(&PersonKey::generate(person).expect("random")).expect("wraps");
    let kept: Vec<u8> = {
        let sql = "SELECT wrapped FROM person_keys WHERE person = ?1";
        database(dir.path()).query_row(sql, [person.bytes()], |row| row.get(0)).expect("a key")
    };
    let set = "INSERT OR REPLACE INTO person_keys VALUES (?1, ?2)";
    for (damage, wrapped, words) in [
        ("garbled", Some(vec![0; 60]), "1 keys of persons"),
        ("another", Some(other), "0 keys of persons"),
        ("lost", None, "0 keys of persons"),
    ] {
        let connection = database(dir.path());
        match wrapped {
            Some(wrapped) => connection.execute(set, (person.bytes(), wrapped)),
            None => connection.execute("DELETE FROM person_keys WHERE person = ?1", [person.bytes()]),
        }
        .expect("written");
        drop(connection);
        let error = refusal(dir.path(), &["verify"], None);
        let place = format!("texts of person {person}, the first at offset");
        assert!(
            error.contains(words) && error.contains(&place) && error.contains("parlance.keys"),
            "{damage}: {error}"
        );
    }
    database(dir.path()).execute(set, (person.bytes(), kept)).expect("written");
    run(dir.path(), &["verify"]);
}

/// A running server tells the same.
#[tokio::test]
async fn a_servers_own_verify_opens_them_too() {
    let dir = written().await;
    let server = Server::start(dir.path(), &[]);
    let person = somebody(&database(dir.path()));
    let sql = "UPDATE person_keys SET wrapped = zeroblob(60) WHERE person = ?1";
    database(dir.path()).execute(sql, [person.bytes()]).expect("written");
    let path = "/v1/operator/verify";
    let (status, answer) = server.call(reqwest::Method::POST, path, support::OPERATOR, None).await;
    assert_eq!(status, 500, "{answer}");
    assert!(answer["detail"].as_str().expect("a text").contains("1 keys of persons"), "{answer}");
}
