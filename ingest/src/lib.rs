//! The log: the event vocabulary, the port, its embedded adapter, and the one writer.
//!
//! - [`event`], [`payload`]: what happened, as JSON with versions. Start here.
//! - [`seal`]: personal text under a key of that person.
//! - [`log`]: the port; [`conformance`]: the suite that every adapter passes.
//! - [`sqlite`]: the data directory, the embedded log, person keys, the read-only pool.
//! - [`durable`]: files and directories that survive a power cut.
//! - [`writer`]: the one thread that decides, appends and commits.
//!
//! `ingest` knows no other crate of the workspace.

pub mod conformance;
pub mod durable;
pub mod event;
pub mod id;
pub mod log;
pub mod payload;
pub mod seal;
pub mod sqlite;
pub mod time;
pub mod writer;
