//! Traffic to facts: the same fold, usage job, flushes and compactions as on a server, without the log's disk.

use super::traffic::Traffic;
use crate::wiring::facts::partials;
use anyhow::Context as _;
use ingest::id::ConversationId;
use ingest::log::{Offset, Record};
use pipelines::{JobOutput, JobRunner, Sink};
use rusqlite::Connection;
use sinks::parquet::{FactConfig, FactStore, FlushPlan, manifest};
use std::path::Path;
use std::sync::Arc;

/// Events applied at a time.
const BATCH: usize = 1_024;

/// Rows in memory before a flush: ten times a server's, since each flush here writes files for all tenants at once. What lies
/// there after the compactions is the same.
const FLUSH_ROWS: usize = 1_000_000;

/// Events for each fold that is kept, so that none is forgotten before its conversation ends: there is no log to fold it from
/// again. A conversation has some 22, and one in twenty is reopened hours, seldom days, later.
const EVENTS_A_FOLD: usize = 200;

/// Writes the facts of `events` events into `facts`, listed in the database behind `connection`.
///
/// # Errors
/// When they can't be written.
pub fn fill(connection: &Connection, facts: &Path, traffic: &mut Traffic, events: usize) -> anyhow::Result<()> {
    manifest::create_tables(connection)?;
    let served = FactConfig::default();
    let config = FactConfig { flush_rows: FLUSH_ROWS, folds: served.folds.max(events / EVENTS_A_FOLD), ..served };
    let store = FactStore::open(facts, manifest::load(connection)?, config)?;
    let job = pipelines::jobs().into_iter().find(|job| job.sink == Sink::Usage).context("there is a usage job")?;
    let usage = JobRunner::new(job)?;
    let mut offset: Offset = 0;
    let mut left = events;
    while left > 0 {
        let batch: Vec<_> = traffic.take(BATCH.min(left)).map(|event| record(event, &mut offset)).collect();
        left -= batch.len();
        store.apply(&batch, &|id, _| Err(forgotten(id)))?;
        let JobOutput::Usage(rows) = usage.run(&batch)? else { anyhow::bail!("the usage job gives usage rows") };
        store.apply_usage(partials(&batch, rows), offset);
        if store.flush_due() {
            flush(connection, &store)?;
        }
    }
    flush(connection, &store)?;
    // The log is empty: what follows it starts at its beginning.
    connection.execute("DELETE FROM fact_offsets", ())?;
    Ok(())
}

fn record(event: ingest::event::Event, offset: &mut Offset) -> Arc<Record> {
    let record = Record { offset: *offset, body: event.encode(), event };
    *offset += 1;
    Arc::new(record)
}

fn forgotten(id: ConversationId) -> Box<dyn std::error::Error + Send + Sync> {
    format!("conversation {id} was forgotten before its end").into()
}

fn flush(connection: &Connection, store: &FactStore) -> anyhow::Result<()> {
    let commit = |plan: FlushPlan| -> anyhow::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        manifest::commit_flush(&transaction, &plan)?;
        transaction.commit()?;
        store.finish_flush(plan);
        Ok(())
    };
    if let Some(plan) = store.begin_flush()? {
        commit(plan)?;
    }
    while let Some(plan) = store.begin_compaction()? {
        commit(plan)?;
    }
    Ok(())
}
