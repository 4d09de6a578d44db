//! Rows on their way into a tenant's own data source: read, checked against its columns, put into chunks for the log. Pure.
//!
//! - [`columns`]: names, types, Tinybird's schema text. `infer`: columns from the rows themselves.
//! - [`rows`]: a body to rows, JSON or CSV. `value`: one value to its logged form. `quarantine`: rows that don't fit.
//! - Start at [`check`].
//!
//! What goes into the log has been checked for good: whoever reads it there refuses nothing.

pub mod columns;
mod infer;
mod quarantine;
pub mod rows;
mod value;

pub use infer::infer;

use crate::core::command::RowChunk;
use columns::Tree;
use ingest::event::EVENT_BYTES_MAX;
use ingest::payload::{Rows, SourceColumn};
use ingest::time::Timestamp;
use rows::{Body, Row};
use std::ops::ControlFlow;

/// Bytes of the rows of one event; its envelope, with an idempotency key, takes what is left.
const CHUNK_BYTES_MAX: usize = EVENT_BYTES_MAX - 4 * 1_024;
/// Bytes that room is asked for at a time.
const HOLD_STEP: usize = 16 * 1024;
/// Bytes of one row, as it's sent and as it's logged.
pub const ROW_BYTES_MAX: usize = 128 * 1024;

/// A batch, ready for the log.
#[derive(Debug)]
pub struct Batch {
    /// In order; rows that fit before those that don't.
    pub chunks: Vec<RowChunk>,
    /// Rows that fit.
    pub successful: u64,
    /// Rows for the quarantine.
    pub quarantined: u64,
}

/// What is wrong with a row: the column, if it's one column's value, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    column: Option<usize>,
    reason: String,
}

impl Fault {
    fn row(reason: impl Into<String>) -> Self {
        Self { column: None, reason: reason.into() }
    }
}

/// Why a body isn't checked to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckError<F> {
    /// The body as a whole can't be read.
    Unreadable(String),
    /// There is no room for what comes of it.
    Full(F),
}

/// Checks every row of a body. `import_id` and `now` go into the quarantine. `hold` is asked for room for what is to be
/// logged, in bytes, before it's made: a short row of many columns, or one for the quarantine, becomes a long one.
///
/// # Errors
/// [`CheckError`]; `hold`'s error ends it.
pub fn check<F>(
    columns: &[SourceColumn],
    body: &Body,
    import_id: &str,
    now: Timestamp,
    hold: &mut dyn FnMut(usize) -> Result<(), F>,
) -> Result<Batch, CheckError<F>> {
    let tree = Tree::new(columns);
    let (mut good, mut bad) = (Chunks::new(false), Chunks::new(true));
    let (mut successful, mut quarantined) = (0, 0);
    let (mut text, mut room, mut full) = (String::new(), 0, None);
    let mut fits = |row: &str| {
        let bytes = row.len() + 2;
        if bytes > room {
            let step = bytes.max(HOLD_STEP);
            if let Err(error) = hold(step) {
                full = Some(error);
                return false;
            }
            room += step;
        }
        room -= bytes;
        true
    };
    let any = body.each(columns, |row| {
        text.clear();
        let mut faults = match encode(columns, &tree, &row, &mut text) {
            Ok(()) => Vec::new(),
            Err(faults) => faults,
        };
        if faults.is_empty() && text.len() > ROW_BYTES_MAX {
            faults.push(Fault::row(format!("the row takes more than {ROW_BYTES_MAX} bytes")));
        }
        let (chunks, count) = if faults.is_empty() {
            (&mut good, &mut successful)
        } else {
            text = quarantine::row(columns, &tree, &row, &faults, import_id, now);
            (&mut bad, &mut quarantined)
        };
        if !fits(&text) {
            return ControlFlow::Break(());
        }
        *count += 1;
        chunks.push(&text);
        ControlFlow::Continue(())
    });
    if let Some(full) = full {
        return Err(CheckError::Full(full));
    }
    any.map_err(CheckError::Unreadable)?;
    let mut chunks = good.finish();
    chunks.extend(bad.finish());
    Ok(Batch { chunks, successful, quarantined })
}

/// A row as an array of values in the columns' order.
fn encode(columns: &[SourceColumn], tree: &Tree, row: &Row<'_>, out: &mut String) -> Result<(), Vec<Fault>> {
    let values = row.values(columns, tree).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    out.push('[');
    for (at, (column, value)) in columns.iter().zip(&values).enumerate() {
        if at > 0 {
            out.push(',');
        }
        if let Err(reason) = value::encode(column, value.as_deref(), out) {
            faults.push(Fault { column: Some(at), reason });
        }
    }
    out.push(']');
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Rows being put into chunks.
struct Chunks {
    quarantined: bool,
    done: Vec<RowChunk>,
    text: String,
    count: u32,
}

impl Chunks {
    fn new(quarantined: bool) -> Self {
        Self { quarantined, done: Vec::new(), text: String::new(), count: 0 }
    }

    fn push(&mut self, row: &str) {
        if self.text.len() + row.len() + 2 > CHUNK_BYTES_MAX {
            self.close();
        }
        self.text.push(if self.count == 0 { '[' } else { ',' });
        self.text.push_str(row);
        self.count += 1;
    }

    fn close(&mut self) {
        if self.count == 0 {
            return;
        }
        self.text.push(']');
        let rows = Rows::from_json(std::mem::take(&mut self.text)).expect("rows are written as JSON");
        self.done.push(RowChunk { quarantined: self.quarantined, count: std::mem::take(&mut self.count), rows });
    }

    fn finish(mut self) -> Vec<RowChunk> {
        self.close();
        self.done
    }
}

#[cfg(test)]
mod tests;
