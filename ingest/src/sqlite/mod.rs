//! The embedded default: everything in one data directory.
//!
//! - [`data_dir`]: the directory, its lock, `parlance.db`, and the checks at start.
//! - [`log`]: the event log in SQLite, with its hash chain and the head file.
//! - [`page`]: pages of rows, bounded by bytes; every list is read by them.
//! - [`checkpoint`]: when the WAL is copied into the database.
//! - [`person_keys`]: keys of persons, wrapped; neither log nor view. `key_check`: whose key file it is.
//! - [`readable`]: whether all that is sealed can be opened.
//! - [`pool`]: read-only connections.

pub mod checkpoint;
pub mod data_dir;
mod key_check;
pub mod log;
pub mod page;
pub mod person_keys;
pub mod pool;
pub mod readable;

pub use checkpoint::Checkpoints;
pub use data_dir::{DataDir, OpenError};
pub use log::EmbeddedLog;
pub use page::{PAGE_BYTES_MAX, RowPage};
pub use person_keys::{NewPersonKey, PersonKeys};
pub use pool::ReadPool;
pub use readable::ReadableCheck;
