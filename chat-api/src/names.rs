//! Brings up to date by what visitors' names are found, after an update that changed it: once, beside the traffic.

use crate::app::App;
use crate::core::state::Visitor;
use crate::store::names::{self, Added};
use crate::view::ViewError;
use ingest::writer::WriteError;
use std::time::Duration;

/// Visitors at a time: their words are written in one transaction.
const PAGE: i64 = 200;
/// Between two pages, so that chats come first.
const PAUSE: Duration = Duration::from_millis(20);

/// Why names couldn't be brought up to date. What is done stays done.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// They can't be read.
    #[error("failed to read visitors' names: {0}")]
    Read(#[from] ViewError),
    /// The writer's.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Adds the words without accents of every visitor who was named before they counted; gives how many visitors were found by
/// other words before. Nothing to do, after the first time.
///
/// # Errors
/// See [`NamesError`]; it goes on from there the next time.
pub async fn bring_up_to_date(app: &App) -> Result<u64, NamesError> {
    let mut changed = 0;
    loop {
        let page = app.pool.read(|connection| names::outdated(connection, PAGE)).map_err(ViewError::from)?;
        let Some(page) = page else { return Ok(changed) };
        let upto = page.last().map(|visitor| visitor.id);
        let mut added = Vec::new();
        for visitor in &page {
            added.extend(words_of(app, visitor)?);
        }
        changed += added.len() as u64;
        app.writer.transact(move |connection| names::add(connection, &added, upto)).await?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a visitor is found by from now on, as of when.
fn words_of(app: &App, visitor: &Visitor) -> Result<Option<(Added, i64)>, ViewError> {
    let Some(name) = app.views.shown(visitor.name.as_ref())?.filter(|name| names::was_other(name)) else {
        return Ok(None);
    };
    // Who was merged is found as who they turned out to be.
    let found = visitor.merged_into.unwrap_or(visitor.id);
    let since = app.pool.read(|connection| names::since(connection, found))?;
    let hmacs = names::name_hmacs(&app.key_file, visitor.tenant, &name);
    Ok(since.map(|at| (Added { visitor: found, tenant: visitor.tenant, hmacs }, at)))
}
