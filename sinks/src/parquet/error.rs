//! What can go wrong with the facts, and whether a retry helps.

use super::files::FileError;
use super::fold::HistoryError;
use ingest::id::ConversationId;
use ingest::log::Offset;
use std::path::{Path, PathBuf};

/// Facts that can't be read, written or reached.
#[derive(Debug, thiserror::Error)]
pub enum FactError {
    /// A file isn't what the manifest says. Never retry.
    #[error("failed to read fact file {path}: {reason}; facts are a view, recompute them with `parlance rebuild --views facts`", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: FileError,
    },
    /// The disk refused. Retry later: the rows are still in memory and in the log.
    #[error("failed to write facts at {path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: FileError,
    },
    /// A conversation's earlier events can't be read. Retry later; nothing of the batch was applied.
    #[error("failed to read the history of conversation {conversation}: {source}")]
    History {
        /// The conversation.
        conversation: ConversationId,
        /// Why.
        source: HistoryError,
    },
    /// A conversation's events don't follow each other. Never retry.
    #[error("failed to fold conversation {conversation}: its event {expected} is missing before {found}")]
    SeqGap {
        /// The conversation.
        conversation: ConversationId,
        /// The `seq` that should come.
        expected: u64,
        /// The `seq` that came.
        found: u64,
    },
    /// Records were left out. Read the log from `expected`.
    #[error("failed to apply log records: expected offset {expected}, got {found}")]
    OffsetGap {
        /// The next offset.
        expected: Offset,
        /// The offset given.
        found: Offset,
    },
    /// Another plan is neither finished nor aborted. Retry after that.
    #[error("failed to begin a flush: another one is not finished")]
    Busy,
    /// The facts didn't reach the wanted offset in time. Retry later.
    #[error("failed to wait for the facts: they are at offset {applied}, not yet at {wanted}")]
    Behind {
        /// Where they are.
        applied: Offset,
        /// Where they should have been.
        wanted: Offset,
    },
}

pub(crate) fn io_error(path: &Path, error: std::io::Error) -> FactError {
    FactError::Io { path: path.to_owned(), source: FileError::Io(error) }
}

pub(crate) fn read_error(path: &Path, error: FileError) -> FactError {
    let path = path.to_owned();
    if error.is_io() { FactError::Io { path, source: error } } else { FactError::Damaged { path, reason: error } }
}
