//! Where events have their effects: one folder a sink, none of which imports another.
//!
//! - [`parquet`]: the facts that reports read, as Parquet files with a manifest and a tail in memory.
//! - [`smtp`]: e-mail, to a spool of `.eml` files or to a mail server.
//!
//! Each folder has `config.rs` (what the installation may set) and `sink.rs` (start there). `sinks` knows `ingest` only.

pub mod parquet;
pub mod smtp;
