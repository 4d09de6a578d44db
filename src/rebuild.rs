//! `rebuild`: deletes views and makes them again from the log. Sends nothing, appends nothing.

use crate::config::{Store, StoreArgs};
use crate::engine::Engine;
use crate::output::Progress;
use crate::verify;
use anyhow::Context as _;
use chat_api::store;
use ingest::sqlite::DataDir;
use rusqlite::Connection;
use sinks::parquet::manifest;

/// What can be deleted and made again.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// The state tables.
    State,
    /// The Parquet facts.
    Facts,
    /// The usage metrics; embedded, they lie with the facts and are rebuilt with them.
    Metrics,
}

/// `rebuild` on a data directory: prints `state_hash=…`.
///
/// # Errors
/// When the log can't be read; the old views stay then.
pub async fn run(place: StoreArgs, views: &[View]) -> anyhow::Result<()> {
    let settings = place.resolve()?;
    if views.iter().any(|view| *view != View::State) {
        drop_facts(&settings)?;
    }
    let engine = Engine::open(&settings, false)?;
    let outcome = rebuild(&engine, views).await;
    engine.close().await;
    println!("state_hash={}", outcome?);
    Ok(())
}

/// Deletes the facts before anything reads them: they may be what keeps the directory from being opened.
fn drop_facts(settings: &Store) -> anyhow::Result<()> {
    let dir = DataDir::open(&settings.data_dir, settings.key_file.as_deref(), false)?;
    let (connection, _log, _key_file) = dir.open_database()?;
    manifest::create_tables(&connection)?;
    manifest::reset(&connection)?;
    for views in ["facts", "sources"] {
        sinks::parquet::sink::reset_dir(&dir.path().join(views))?;
    }
    Ok(())
}

/// Rebuilds views of an open engine and gives the state's hash.
///
/// # Errors
/// When the log can't be read; the old state stays then.
pub async fn rebuild(engine: &Engine, views: &[View]) -> anyhow::Result<String> {
    if views.contains(&View::State) {
        engine.writer.transact(|connection| rebuild_state(connection).map_err(into_sqlite)).await?;
    }
    if views.contains(&View::Facts) || views.contains(&View::Metrics) {
        engine.facts.rebuild().await?;
    }
    engine.pool.read(store::hash::state_hash).context("failed to hash the state")
}

fn into_sqlite(error: anyhow::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}

/// Runs inside the writer's transaction: readers see the old state until the new one is whole.
fn rebuild_state(connection: &Connection) -> anyhow::Result<()> {
    store::clear_tables(connection)?;
    let end: i64 = connection.query_row("SELECT coalesce(max(\"offset\") + 1, 0) FROM log", [], |row| row.get(0))?;
    let mut progress = Progress::new("events");
    verify::replay(connection, connection, end.cast_unsigned(), &mut |offset, _| {
        progress.at(offset + 1);
        Ok(())
    })?;
    progress.finish();
    Ok(())
}
