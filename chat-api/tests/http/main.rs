//! The HTTP API from outside: requests in, answers out. One binary, a file a topic.

mod accounts;
mod bodies;
mod chat;
mod idempotency;
mod isolation;
mod origins;
mod reports;
mod settings;

#[path = "../support/mod.rs"]
mod support;
