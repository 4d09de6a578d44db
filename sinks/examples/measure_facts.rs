//! Measures the facts: rows applied a second, a flush of 100,000 rows, a compaction, a snapshot, memory.
//!
//! `cargo run --release -p sinks --example measure_facts`

#![allow(clippy::unwrap_used, reason = "a measurement, not the product")]

use ingest::event::{Actor, Event, Origin};
use ingest::id::{AgentId, ConversationId, EventId, PersonId, TenantId, ThreadId, VisitorId};
use ingest::log::Record;
use ingest::payload::{AuthorType, ConversationStarted, MessagePosted, Payload};
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use rusqlite::Connection;
use sinks::parquet::{FactConfig, FactStore, Table, manifest};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages of a conversation.
const MESSAGES: u64 = 18;

/// A conversation's events, visitor and agent in turns, ten seconds apart.
fn conversation(tenant: TenantId, number: i64) -> impl Iterator<Item = Event> {
    let (conversation, visitor_id, agent) = (ConversationId::fresh(), VisitorId::fresh(), AgentId::fresh());
    let thread_id = ThreadId::fresh();
    (0..=MESSAGES).map(move |n| {
        let author_type = if n % 2 == 1 { AuthorType::Visitor } else { AuthorType::Agent };
        let at = Timestamp(1_700_000_000_000 + number * 60_000 + i64::try_from(n).unwrap() * 10_000);
        let payload: Payload = if n == 0 {
            ConversationStarted {
                visitor_id,
                visitor_has_email: false,
                chatbot_id: None,
                group_id: None,
                thread_id,
                tags: vec!["billing".into()],
                external_id: None,
                skills: Vec::new(),
                continues: None,
                exact: false,
            }
            .into()
        } else {
            let content = Sealed { person: PersonId(visitor_id.0), ciphertext: String::new() };
            MessagePosted {
                thread_id,
                author_type,
                content,
                content_chars: 80,
                client_id: None,
                metadata: None,
                file_id: None,
            }
            .into()
        };
        Event {
            id: EventId::fresh(),
            tenant,
            conversation: Some(conversation),
            seq: n + 1,
            occurred_at: at,
            recorded_at: at,
            origin: Origin::Live,
            actor: if n % 2 == 1 { Actor::Visitor(visitor_id) } else { Actor::Agent(agent) },
            cause: None,
            request: None,
            payload,
        }
    })
}

/// Resident memory of this process in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = Connection::open(dir.path().join("manifest.db")).unwrap();
    manifest::create_tables(&sqlite).unwrap();
    let facts = dir.path().join("facts");
    let store = FactStore::open(&facts, manifest::load(&sqlite).unwrap(), FactConfig::default()).unwrap();
    let tenant = TenantId::fresh();
    let mut offset = 0;
    for round in 0..9 {
        let events = (0..5_263).flat_map(|n| conversation(tenant, round * 5_263 + n));
        let records: Vec<_> = events
            .map(|event| {
                offset += 1;
                Arc::new(Record { offset: offset - 1, body: String::new(), event })
            })
            .collect();
        let before = resident();
        let ((), applied) = timed(|| {
            for batch in records.chunks(256) {
                store.apply(batch, &|_, _| unreachable!("every fold is in memory")).unwrap();
            }
        });
        let after = resident();
        let rows = store.tail_rows();
        let (snapshot, looked) = timed(|| store.snapshot(tenant, Table::Messages));
        let (plan, written) = timed(|| store.begin_flush().unwrap().unwrap());
        let bytes: u64 = plan.added().iter().map(|file| file.bytes).sum();
        manifest::commit_flush(&sqlite, &plan).unwrap();
        store.finish_flush(plan);
        println!(
            "{} events in {applied:?} ({:.0}/s), {rows} rows, memory +{} MiB; snapshot {looked:?} in {} batches; flush {written:?}, {} KiB",
            records.len(),
            f64::from(u32::try_from(records.len()).unwrap()) / applied.as_secs_f64(),
            after.saturating_sub(before),
            snapshot.batches.len(),
            bytes / 1024,
        );
    }
    while let (Some(plan), took) = timed(|| store.begin_compaction().unwrap()) {
        println!(
            "compaction of {} files to {} rows: {took:?}, resident {} MiB",
            plan.removed().len(),
            plan.rows(),
            resident()
        );
        manifest::commit_flush(&sqlite, &plan).unwrap();
        store.finish_flush(plan);
    }
    let (verified, took) = timed(|| store.verify().unwrap());
    println!("verify: {verified:?} in {took:?}");
}
