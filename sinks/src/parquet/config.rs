//! What the facts may be told, each limit beside its reason.

/// Rows in memory before a flush. About 40 MB of Arrow data, and a restart folds that many rows again in about a second.
pub const FLUSH_ROWS: usize = 100_000;

/// Events since the last flush before the next, in multiples of [`FactConfig::flush_rows`]: events that make no fact
/// still have to be read again after a restart.
pub const FLUSH_EVENTS_FACTOR: usize = 4;

/// Files of one tenant's table before they are merged: a query opens each of them.
pub const COMPACT_FILES: usize = 8;

/// Rows of a merge's inputs at most, which bounds its memory (about 150 MB of messages). A file of more than half of
/// that is full and left alone, so that old facts aren't written again and again.
pub const COMPACT_ROWS: u64 = 500_000;

/// Conversations whose fold is kept; another one is folded again from its own events. About 700 bytes each.
pub const FOLDS: usize = 50_000;

/// Settings of a [`FactStore`](super::FactStore); the defaults are the constants of this module.
#[derive(Debug, Clone)]
pub struct FactConfig {
    /// See [`FLUSH_ROWS`].
    pub flush_rows: usize,
    /// See [`COMPACT_FILES`].
    pub compact_files: usize,
    /// See [`COMPACT_ROWS`].
    pub compact_rows: u64,
    /// See [`FOLDS`]; at least 1.
    pub folds: usize,
}

impl Default for FactConfig {
    fn default() -> Self {
        Self { flush_rows: FLUSH_ROWS, compact_files: COMPACT_FILES, compact_rows: COMPACT_ROWS, folds: FOLDS }
    }
}
