//! The event log in SQLite: table `log`, its hash chain, and the head file beside it.
//!
//! `hash = SHA-256(previous hash ‖ offset ‖ body)`. The newest records stay in memory, so that followers who keep up
//! never read the disk. The head file names the last commit: SQLite drops a damaged end of its WAL without a word, and
//! acknowledged events with it, so a log that ends before its head is refused.

use crate::event::{EVENT_BYTES_MAX, Event};
use crate::id::ConversationId;
use crate::log::{AppendError, EventLog, LogReader, Offset, ReadError, Record};
use crate::sqlite::page::{self, RowPage};
use crate::sqlite::pool::ReadPool;
use ring::digest::{Context, SHA256};
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// Records kept in memory for followers; about 4 MiB of chat messages.
const RECENT_RECORDS_MAX: usize = 4_096;
/// Bytes of those records: chunks of rows are as large as events get.
const RECENT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of records read at a time, the last one past it included.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Records at the end of the log whose chain is checked at every start.
const CHECKED_AT_START: u64 = 1_000;

/// A link of the hash chain.
pub type Hash = [u8; 32];

fn link(previous: &Hash, offset: Offset, body: &str) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(previous);
    context.update(&offset.to_le_bytes());
    context.update(body.as_bytes());
    let mut hash = [0_u8; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The end of the log as of the last commit, kept outside of SQLite. Not synced: after a power cut it may be older
/// than the log, never newer than what was acknowledged.
pub struct HeadFile(File);

impl HeadFile {
    /// Opens or makes it.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        File::options().read(true).write(true).create(true).truncate(false).open(path).map(Self)
    }

    fn read(&self) -> Option<(Offset, Hash)> {
        let mut text = [0_u8; 85];
        self.0.read_exact_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text).ok()?;
        let mut hash = [0_u8; 32];
        hex::decode_to_slice(&text[21..], &mut hash).ok()?;
        Some((text[..20].parse().ok()?, hash))
    }

    fn write(&self, end: Offset, hash: &Hash) -> std::io::Result<()> {
        self.0.write_all_at(format!("{end:020} {}", hex::encode(hash)).as_bytes(), 0)
    }
}

struct Shared {
    pool: ReadPool,
    recent: RwLock<Recent>,
    end: watch::Sender<Offset>,
}

/// The newest records, and their bytes.
#[derive(Default)]
struct Recent {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
}

impl Recent {
    fn extend(&mut self, records: &[Arc<Record>]) {
        self.bytes += records.iter().map(|record| record.body.len()).sum::<usize>();
        self.records.extend(records.iter().cloned());
        while self.records.len() > RECENT_RECORDS_MAX || (self.bytes > RECENT_BYTES_MAX && self.records.len() > 1) {
            self.bytes -= self.records.pop_front().map_or(0, |record| record.body.len());
        }
    }
}

/// The embedded [`EventLog`]. Appends run on the writer's connection; the commit's fsync makes them durable.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    head: HeadFile,
    // What the open transaction has appended, and what the last commit left.
    next: (Offset, Hash),
    committed: (Offset, Hash),
}

impl EmbeddedLog {
    pub(crate) fn open(connection: &Connection, pool: ReadPool, head: HeadFile) -> Result<Self, ReadError> {
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS log (
                 \"offset\" INTEGER PRIMARY KEY, conversation BLOB, seq INTEGER, body TEXT NOT NULL, hash BLOB NOT NULL
             ) STRICT;
             CREATE UNIQUE INDEX IF NOT EXISTS log_conversation ON log (conversation, seq) WHERE conversation IS NOT NULL;",
        )
        .map_err(unavailable)?;
        let end: Option<i64> =
            connection.query_row("SELECT max(\"offset\") FROM log", [], |row| row.get(0)).map_err(unavailable)?;
        let end = end.map_or(0, |last| last.cast_unsigned() + 1);
        let (_, hash) = verify_chain(connection, end.saturating_sub(CHECKED_AT_START), |_| {})?;
        check_head(connection, &head, end)?;
        head.write(end, &hash).map_err(|e| ReadError::Unavailable(Box::new(e)))?;
        let shared = Shared { pool, recent: RwLock::default(), end: watch::channel(end).0 };
        Ok(Self { shared: Arc::new(shared), head, next: (end, hash), committed: (end, hash) })
    }

    /// A page of one conversation's records, by `seq`: those above `after`, at most `max`, and no more bytes than a page has.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn history(
        pool: &ReadPool,
        conversation: ConversationId,
        after: u64,
        max: usize,
    ) -> Result<RowPage<u64, Record>, ReadError> {
        let sql = "SELECT \"offset\", body, seq FROM log WHERE conversation = ?1 AND seq > ?2 ORDER BY seq";
        let rows = pool.read(|connection| {
            page::read(connection, sql, (conversation.bytes(), after.cast_signed()), max, |row| {
                Ok((row.get::<_, i64>(2)?.cast_unsigned(), Some(offset_and_body(row)?)))
            })
        });
        rows.map_err(unavailable)?.try_map(|(offset, body)| record(offset, body))
    }
}

fn unavailable(error: rusqlite::Error) -> ReadError {
    ReadError::Unavailable(Box::new(error))
}

fn offset_and_body(row: &Row<'_>) -> rusqlite::Result<(Offset, String)> {
    Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
}

fn record(offset: Offset, body: String) -> Result<Record, ReadError> {
    match Event::decode(&body) {
        Ok(event) => Ok(Record { offset, body, event }),
        Err(source) => Err(ReadError::Undecodable { offset, source }),
    }
}

fn hash_before(connection: &Connection, offset: Offset) -> Result<Hash, ReadError> {
    if offset == 0 {
        return Ok([0; 32]);
    }
    let hash: Option<Hash> = connection
        .query_row("SELECT hash FROM log WHERE \"offset\" = ?1", [offset.cast_signed() - 1], |row| row.get(0))
        .optional()
        .map_err(|error| ReadError::Damaged { offset: offset - 1, reason: error.to_string() })?;
    hash.ok_or(ReadError::Gap { expected: offset - 1, found: offset })
}

/// The log must hold what the head file saw acknowledged.
fn check_head(connection: &Connection, head: &HeadFile, end: Offset) -> Result<(), ReadError> {
    let Some((head_end, head_hash)) = head.read() else { return Ok(()) };
    if head_end > end {
        let reason = format!("the log ends here, but {head_end} events were acknowledged: its tail was cut off");
        return Err(ReadError::Damaged { offset: end, reason });
    }
    if hash_before(connection, head_end)? != head_hash {
        let reason = "the event's hash is not the one that was acknowledged".to_owned();
        return Err(ReadError::Damaged { offset: head_end.saturating_sub(1), reason });
    }
    Ok(())
}

/// Checks every link from `from` on and gives the end and the last hash; `progress` gets each offset.
///
/// # Errors
/// The first offset whose bytes, hash or place is wrong.
pub fn verify_chain(
    connection: &Connection,
    from: Offset,
    mut progress: impl FnMut(Offset),
) -> Result<(Offset, Hash), ReadError> {
    let mut hash = hash_before(connection, from)?;
    let mut expected = from;
    let mut statement = connection
        .prepare("SELECT \"offset\", body, hash FROM log WHERE \"offset\" >= ?1 ORDER BY \"offset\"")
        .map_err(unavailable)?;
    let mut rows = statement.query([from.cast_signed()]).map_err(unavailable)?;
    loop {
        let damaged = |reason: String| ReadError::Damaged { offset: expected, reason };
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok((expected, hash)),
            Err(error) => return Err(damaged(error.to_string())),
        };
        let read = || Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Hash>(2)?));
        let (offset, body, stored) = read().map_err(|error: rusqlite::Error| damaged(error.to_string()))?;
        if offset.cast_unsigned() != expected {
            return Err(ReadError::Gap { expected, found: offset.cast_unsigned() });
        }
        hash = link(&hash, expected, &body);
        if hash != stored {
            return Err(damaged("the event's bytes don't match their hash".to_owned()));
        }
        progress(expected);
        expected += 1;
    }
}

impl EventLog for EmbeddedLog {
    fn append(&mut self, tx: &Connection, events: Vec<Event>) -> Result<Vec<Arc<Record>>, AppendError> {
        let unavailable = |error: rusqlite::Error| AppendError::Unavailable(Box::new(error));
        let mut insert = tx.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5)").map_err(unavailable)?;
        let mut records = Vec::with_capacity(events.len());
        for event in events {
            let body = event.encode();
            if body.len() > EVENT_BYTES_MAX {
                return Err(AppendError::TooLarge { bytes: body.len(), max: EVENT_BYTES_MAX });
            }
            let (offset, previous) = self.next;
            let hash = link(&previous, offset, &body);
            let conversation = event.conversation.as_ref().map(ConversationId::bytes);
            let seq = conversation.map(|_| event.seq.cast_signed());
            insert.execute((offset.cast_signed(), conversation, seq, &body, &hash)).map_err(unavailable)?;
            self.next = (offset + 1, hash);
            records.push(Arc::new(Record { offset, body, event }));
        }
        Ok(records)
    }

    fn committed(&mut self, records: &[Arc<Record>]) {
        self.committed = self.next;
        if records.is_empty() {
            return;
        }
        let (end, hash) = self.committed;
        if let Err(error) = self.head.write(end, &hash) {
            tracing::warn!(%error, "failed to write log.head; a cut-off tail may go unnoticed at the next start");
        }
        let mut recent = self.shared.recent.write().unwrap_or_else(PoisonError::into_inner);
        recent.extend(records);
        drop(recent);
        self.shared.end.send_replace(end);
    }

    fn rolled_back(&mut self) {
        self.next = self.committed;
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::<Shared>::clone(&self.shared)
    }
}

impl LogReader for Shared {
    fn end(&self) -> Offset {
        *self.end.borrow()
    }

    fn read(&self, from: Offset, max: usize) -> Result<Vec<Arc<Record>>, ReadError> {
        let end = self.end();
        if from >= end {
            return Ok(Vec::new());
        }
        {
            let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(first) = recent.records.front().map(|record| record.offset)
                && first <= from
            {
                let skip = usize::try_from(from - first).unwrap_or(usize::MAX);
                let mut bytes = 0;
                let has_room = |record: &&Arc<Record>| {
                    let room = bytes < READ_BYTES_MAX;
                    bytes += record.body.len();
                    room
                };
                return Ok(recent.records.iter().skip(skip).take(max).take_while(has_room).cloned().collect());
            }
        }
        let rows = self
            .pool
            .read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT \"offset\", body FROM log WHERE \"offset\" >= ?1 AND \"offset\" < ?2 ORDER BY \"offset\" LIMIT ?3",
                )?;
                let mut found = statement.query((from.cast_signed(), end.cast_signed(), max.cast_signed()))?;
                let (mut rows, mut bytes) = (Vec::new(), 0);
                while bytes < READ_BYTES_MAX
                    && let Some(row) = found.next()?
                {
                    let row = offset_and_body(row)?;
                    bytes += row.1.len();
                    rows.push(row);
                }
                Ok(rows)
            })
            .map_err(unavailable)?;
        let mut records = Vec::with_capacity(rows.len());
        for (expected, (offset, body)) in (from..).zip(rows) {
            if offset != expected {
                return Err(ReadError::Gap { expected, found: offset });
            }
            records.push(Arc::new(record(offset, body)?));
        }
        if records.is_empty() && max > 0 {
            return Err(ReadError::Gap { expected: from, found: end });
        }
        Ok(records)
    }

    fn watch_end(&self) -> watch::Receiver<Offset> {
        self.end.subscribe()
    }
}
