//! `verify`: the whole log, its hash chain, and every view against it.
//!
//! The log is replayed into an empty database beside the stored state; both must have the same hash. Every key of a person
//! and every sealed text must open with the key file. The Parquet files must be what their manifest says. All is read in
//! one snapshot, so it can run beside a server.

use crate::config::StoreArgs;
use crate::output::Progress;
use crate::wiring::facts::verify_offline;
use anyhow::{Context as _, bail};
use chat_api::domain::ChatDomain;
use chat_api::store::{self, hash};
use ingest::event::Event;
use ingest::id::ConversationId;
use ingest::log::Offset;
use ingest::seal::KeyFile;
use ingest::sqlite::{DataDir, ReadableCheck, log};
use ingest::writer::Domain as _;
use rusqlite::Connection;
use sinks::parquet::{Verified, manifest};
use std::collections::HashMap;
use std::process::ExitCode;

/// Events applied between two writes of the replayed state.
const FLUSH_EVERY: u64 = 2_000;

/// What was read, all of it sound.
#[derive(Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Findings {
    /// Events in the log.
    pub events: Offset,
    /// Parquet files.
    pub files: usize,
    /// Hex SHA-256 over the state.
    pub state_hash: String,
}

/// `verify` on a data directory: prints `state_hash=…`, or the place of the first damage and exits with 1.
///
/// # Errors
/// When the directory can't be opened at all.
pub fn run(place: StoreArgs) -> anyhow::Result<ExitCode> {
    let settings = place.resolve()?;
    let dir = DataDir::open(&settings.data_dir, settings.key_file.as_deref(), false)?;
    let findings = dir.open_database().map_err(anyhow::Error::from).and_then(|(connection, _log, key_file)| {
        store::create_tables(&connection)?;
        manifest::create_tables(&connection)?;
        let mut progress = Progress::new("events");
        let facts = || verify_offline(dir.path(), &connection);
        let findings = check(&connection, &key_file, facts, |done| progress.at(done));
        progress.finish();
        findings
    });
    match findings {
        Ok(findings) => {
            eprintln!("{} events, {} fact files", findings.events, findings.files);
            println!("state_hash={}", findings.state_hash);
            Ok(ExitCode::SUCCESS)
        }
        Err(damage) => {
            eprintln!("parlance: {damage:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Checks everything that `connection` sees, in one snapshot, and the files by `facts`; `progress` gets the events done.
///
/// # Errors
/// The first damage, with its place.
pub fn check(
    connection: &Connection,
    key_file: &KeyFile,
    facts: impl FnOnce() -> anyhow::Result<Verified>,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<Findings> {
    // Readers of a pool are in a transaction already.
    let snapshot = connection.is_autocommit().then(|| connection.unchecked_transaction()).transpose()?;
    let (events, state_hash) = check_snapshot(connection, key_file, &mut progress)?;
    drop(snapshot);
    Ok(Findings { events, files: facts()?.files, state_hash })
}

fn check_snapshot(
    connection: &Connection,
    key_file: &KeyFile,
    progress: &mut impl FnMut(u64),
) -> anyhow::Result<(Offset, String)> {
    check_pages(connection)?;
    let (events, _) = log::verify_chain(connection, 0, |_| {})?;
    // An unnamed database lives in a temporary file that SQLite deletes by itself.
    let replayed = Connection::open("")?;
    store::create_tables(&replayed)?;
    let mut readable = ReadableCheck::new(connection, key_file);
    replay(connection, &replayed, events, &mut |offset, event| {
        progress(offset + 1);
        readable.event(offset, event)
    })?;
    let (stored, expected) = (hash::state_hash(connection)?, hash::state_hash(&replayed)?);
    if stored != expected {
        let place = hash::first_difference(connection, &replayed)?.unwrap_or_default();
        bail!("the state is not what the log gives: first difference at {place}; run `parlance rebuild --views state`");
    }
    if let Some(unreadable) = readable.finish()? {
        bail!("{unreadable}");
    }
    Ok((events, stored))
}

fn check_pages(connection: &Connection) -> anyhow::Result<()> {
    let outcome: Result<String, _> = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    match outcome {
        Ok(outcome) if outcome == "ok" => Ok(()),
        Ok(damage) => bail!("parlance.db is damaged: {damage}; restore the directory from a backup"),
        Err(error) => Err(error).context("parlance.db is damaged; restore the directory from a backup"),
    }
}

/// Applies the log of `source`, up to `end`, to the empty state tables of `target`; `observe` gets each event before that.
///
/// # Errors
/// An event that can't be read, or whose `seq` isn't the next of its conversation.
pub fn replay(
    source: &Connection,
    target: &Connection,
    end: Offset,
    observe: &mut impl FnMut(Offset, &Event) -> rusqlite::Result<()>,
) -> anyhow::Result<()> {
    let mut domain = ChatDomain::default();
    let mut seqs: HashMap<ConversationId, u64> = HashMap::new();
    let mut statement = source.prepare("SELECT body FROM log WHERE \"offset\" < ?1 ORDER BY \"offset\"")?;
    let mut rows = statement.query([end.cast_signed()])?;
    let mut done = 0;
    target.execute_batch("SAVEPOINT replay")?;
    while let Some(row) = rows.next()? {
        let event =
            Event::decode(row.get_ref(0)?.as_str()?).with_context(|| format!("the log is damaged at offset {done}"))?;
        if let Some(conversation) = event.conversation {
            let seq = seqs.entry(conversation).or_default();
            *seq += 1;
            if *seq != event.seq {
                bail!(
                    "the log is damaged at offset {done}: conversation {conversation} goes from seq {} to {}",
                    *seq - 1,
                    event.seq
                );
            }
        }
        observe(done, &event)?;
        domain.replay(target, &event)?;
        done += 1;
        if done % FLUSH_EVERY == 0 {
            domain.flush(target)?;
            domain.committed();
        }
    }
    domain.flush(target)?;
    target.execute_batch("RELEASE replay")?;
    Ok(())
}
