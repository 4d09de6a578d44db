//! The sinks from the outside: facts against the metric definitions, crashes and real dialogues; mail against a spool
//! and a real server.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod definitions;
mod dialogues;
mod facts_property;
mod facts_store;
mod hostile_mail;
#[allow(dead_code, reason = "shared with the tests of the whole server, which use all of it")]
mod hostile_mail_server;
mod log;
mod mail;
mod mail_server;
mod metric_stories;
mod python;
mod sources_store;
mod story;
