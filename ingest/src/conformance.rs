//! What every log adapter must do, as one suite: `conformance::run(&mut adapter)`.
//!
//! An adapter's own test opens it on something empty and real (a temp directory, a cluster on loopback) and calls
//! [`run`]; the closure opens the same log again, as a restart would.

use crate::event::{Actor, EVENT_BYTES_MAX, Event, Origin};
use crate::id::{EventId, TenantId};
use crate::log::{AppendError, EventLog, LogReader, Record};
use crate::payload::TenantUpdated;
use crate::time::Timestamp;
use rusqlite::Connection;
use std::sync::Arc;

/// An opened log with the connection whose transactions it rides in.
pub type Opened = (Connection, Box<dyn EventLog>);

/// A tenant event with a name of `bytes` characters.
#[must_use]
pub fn event(number: usize, bytes: usize) -> Event {
    Event {
        id: EventId::derived(&[b"conformance", &number.to_le_bytes()]),
        tenant: TenantId::derived(&[b"conformance"]),
        conversation: None,
        seq: 0,
        occurred_at: Timestamp(1_589_305_480_000),
        recorded_at: Timestamp(1_589_305_480_000),
        origin: Origin::Live,
        actor: Actor::Operator,
        cause: None,
        request: None,
        payload: TenantUpdated {
            name: Some("n".repeat(bytes)),
            time_zone: Some(number.to_string()),
            ..TenantUpdated::default()
        }
        .into(),
    }
}

fn append((connection, log): &mut Opened, events: Vec<Event>) -> Vec<Arc<Record>> {
    connection.execute_batch("BEGIN IMMEDIATE").expect("begins");
    let records = log.append(connection, events).expect("appends");
    connection.execute_batch("COMMIT").expect("commits");
    log.committed(&records);
    records
}

fn read_all(reader: &Arc<dyn LogReader>, page: usize) -> Vec<Arc<Record>> {
    let mut records: Vec<Arc<Record>> = Vec::new();
    loop {
        let next = reader.read(records.len() as u64, page).expect("reads");
        if next.is_empty() {
            return records;
        }
        assert!(next.len() <= page, "a page holds at most what was asked for");
        records.extend(next);
    }
}

/// Runs the whole suite on the log that `open` opens, which must be empty at first.
///
/// # Panics
/// With the promise that was broken.
pub fn run(open: impl Fn() -> Opened) {
    let mut opened = open();
    let reader = opened.1.reader();
    assert_eq!(reader.end(), 0, "an empty log ends at 0");
    assert!(reader.read(0, 10).expect("reads").is_empty(), "an empty log has nothing to read");

    offsets_are_contiguous_and_reads_are_exact(&mut opened);
    a_rollback_leaves_no_trace(&mut opened);
    an_oversized_event_is_refused(&mut opened);
    followers_are_woken(&mut opened);

    let before = read_all(&opened.1.reader(), 7);
    drop(opened);
    let mut opened = open();
    let after = read_all(&opened.1.reader(), 5_000);
    assert_eq!(before, after, "a restart changes nothing, whatever the page size");
    let next = append(&mut opened, vec![event(1_000_000, 10)]);
    assert_eq!(next[0].offset, after.len() as u64, "offsets go on after a restart");
    large_backlog_has_no_holes(&mut opened);
}

fn offsets_are_contiguous_and_reads_are_exact(opened: &mut Opened) {
    let events: Vec<Event> = (0..600).map(|number| event(number, number)).collect();
    for chunk in events.chunks(256) {
        append(opened, chunk.to_vec());
    }
    let records = read_all(&opened.1.reader(), 100);
    assert_eq!(records.len(), events.len());
    for (offset, (record, event)) in records.iter().zip(&events).enumerate() {
        assert_eq!(record.offset, offset as u64);
        assert_eq!(&record.event, event);
        assert_eq!(record.body, event.encode(), "the bytes are what was encoded");
    }
    let middle = opened.1.reader().read(599, 10).expect("reads");
    assert_eq!(middle.len(), 1, "a read starts at any absolute offset");
    assert!(opened.1.reader().read(5_000, 10).expect("reads").is_empty(), "past the end there is nothing");
}

fn a_rollback_leaves_no_trace(opened: &mut Opened) {
    let end = opened.1.reader().end();
    opened.0.execute_batch("BEGIN IMMEDIATE").expect("begins");
    opened.1.append(&opened.0, vec![event(70_000, 1)]).expect("appends");
    assert_eq!(opened.1.reader().end(), end, "readers never see what isn't committed");
    opened.0.execute_batch("ROLLBACK").expect("rolls back");
    opened.1.rolled_back();
    let records = append(opened, vec![event(70_001, 1)]);
    assert_eq!(records[0].offset, end, "the offset of a rolled back event is used again");
    assert_eq!(opened.1.reader().read(end, 10).expect("reads"), records);
}

fn an_oversized_event_is_refused(opened: &mut Opened) {
    let end = opened.1.reader().end();
    opened.0.execute_batch("BEGIN IMMEDIATE").expect("begins");
    let refused = opened.1.append(&opened.0, vec![event(80_000, EVENT_BYTES_MAX)]);
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    opened.0.execute_batch("ROLLBACK").expect("rolls back");
    opened.1.rolled_back();
    assert_eq!(opened.1.reader().end(), end);
}

fn followers_are_woken(opened: &mut Opened) {
    let mut end = opened.1.reader().watch_end();
    end.mark_unchanged();
    let records = append(opened, vec![event(90_000, 1)]);
    assert!(end.has_changed().expect("the log is open"), "a commit wakes followers");
    assert_eq!(*end.borrow_and_update(), records[0].offset + 1);
}

/// Past every memory of recent records and every fetch size; Fluvio's own consumer fails here at 1 MiB.
fn large_backlog_has_no_holes(opened: &mut Opened) {
    let start = opened.1.reader().end();
    for batch in 0..40 {
        append(opened, (0..256).map(|number| event(200_000 + batch * 256 + number, 200)).collect());
    }
    let records = read_all(&opened.1.reader(), 1_000);
    assert_eq!(records.len() as u64, start + 40 * 256);
    assert!(records.iter().enumerate().all(|(offset, record)| record.offset == offset as u64), "no holes, in order");
}
