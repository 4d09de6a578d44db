//! SQL templates: Tinybird's language, cut to what can be bound safely.
//! A text is read once into a tree ([`parse`]) and rendered for each call ([`render`]); a value never becomes text of
//! the SQL: it becomes a `$n`, and [`bind`] puts a literal in its place in the parsed statement.

mod bind;
mod lex;
mod parse;
mod render;
mod value;

pub(crate) use bind::bind;
pub(crate) use parse::{Template, parse};
pub(crate) use render::{Rendered, render};
pub(crate) use value::Value;

use std::collections::BTreeMap;

use chrono_tz::Tz;

/// The values of a call: each parameter's texts in the order they came, and the zone of wall-clock times.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    pub(crate) values: BTreeMap<String, Vec<String>>,
    pub(crate) zone: Tz,
}

#[cfg(test)]
mod tests;
