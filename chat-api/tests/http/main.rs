//! The HTTP API from outside: requests in, answers out. One binary, a file a topic.

mod accounts;
mod agents;
mod audit;
mod bodies;
mod chat;
mod credentials;
mod idempotency;
mod isolation;
mod origins;
mod reports;
mod roles;
mod settings;

#[path = "../support/mod.rs"]
mod support;
