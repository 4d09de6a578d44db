//! The sinks from the outside: facts against the metric definitions, crashes and real dialogues; mail against a spool
//! and a real server.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod dialogues;
mod facts_property;
mod facts_store;
mod log;
mod mail;
mod mail_server;
mod metric_stories;
mod python;
mod sources_store;
mod story;
