//! Followers of the log, and the ports between crates that don't know each other.
//!
//! - [`disk`]: how full the disk is, and whether it takes a write.
//! - [`facts`]: the log and the usage job into the Parquet facts.
//! - [`jobs`]: the assignment and mail jobs' rows into commands.
//! - [`tables`]: facts and state as the tables that SQL sees; [`state_tables`]: those of the state.
//! - [`definitions`]: what those tables show under each version of the metrics' definitions.
//! - [`mail`]: the outbox over the state.
//! - [`follow`]: how a thread follows the log.

pub mod definitions;
pub mod disk;
pub mod facts;
pub mod follow;
pub mod jobs;
pub mod mail;
pub mod state_tables;
pub mod tables;
