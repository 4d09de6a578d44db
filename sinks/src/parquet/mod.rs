//! The facts: columnar tables that follow the log, one set a tenant.
//!
//! - [`metrics`]: pure; the metric definitions (version 1) as a fold over one conversation's events. Start here.
//! - [`facts`]: the tables, their Arrow schemas, their rows; [`life`]: more of them, each from one list of columns.
//! - [`sink`]: [`FactStore`](sink::FactStore), which follows the log, answers snapshots, flushes and compacts.
//! - [`manifest`]: which files belong to the facts, in SQLite, committed together with the place in the log.
//! - `fold`: records of the log to rows, `clocks`: what it measures time with; `tail`: the newest rows in memory; `merge`: how rows of a table combine; `files`: Parquet on disk.
//!
//! - [`sources`]: the tenants' own data sources, tables that they fill themselves; a store of its own.
//!
//! **No personal text is in any fact.** Facts hold ids, times, counts and the tenant's own labels (tags); names,
//! addresses and words never enter, so erasing a person needs no rewrite of a fact file. Keep it so: a new column that
//! holds what a person typed would have to be found and rewritten on every erasure.
//!
//! A flush has three steps, because one thread of the process owns the write connection:
//! `begin_flush` writes files, the caller commits [`manifest::commit_flush`] in the writer's transaction, and
//! `finish_flush` swaps the files in. A crash between any two of them loses nothing and repeats nothing: files without
//! a manifest row are deleted on open, and the log is read again from the manifest's offset.

mod clocks;
pub mod config;
mod error;
pub mod facts;
mod files;
mod fold;
pub mod life;
pub mod manifest;
mod merge;
pub mod metrics;
pub mod sink;
pub mod sources;
mod tail;

pub use config::FactConfig;
pub use error::FactError;
pub use facts::{FactRow, Table, UsagePartial, Versions};
pub use files::{FactFile, FileError};
pub use fold::{History, HistoryError};
pub use manifest::{FlushPlan, Manifest};
pub use sink::{FactStore, Snapshot, Verified};
pub use sources::{SourceDef, SourceStore};
