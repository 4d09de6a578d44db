//! The HTTP API from outside: requests in, answers out. One binary, a file a topic.

mod accounts;
mod agents;
mod assignment;
mod audit;
mod bodies;
mod callers;
mod chat;
mod configuration;
mod credentials;
mod erasing;
mod faults;
mod files;
mod grants;
mod histories;
mod idempotency;
mod identified;
mod importing;
mod isolation;
mod limits;
mod origins;
mod pages;
mod quotas;
mod reports;
mod roles;
mod same_address;
mod search;
mod seeds;
mod seen_by_all;
mod settings;
mod sources;
mod surface;
mod unreadable;
mod visibility;
mod visitors;
mod work;

#[path = "../support/mod.rs"]
mod support;
