//! SQL templates: Tinybird's language, cut to what can be bound safely.
//! A text is read once into a tree ([`parse`]) and rendered for each call ([`render`]); a value never becomes text of
//! the SQL: it becomes a `$n`, and [`bind`] puts a literal in its place in the parsed statement.

mod bind;
mod functions;
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

use crate::call::Params;
use crate::error::QueryError;

/// The values of a call: each parameter's texts in the order they came, and the zone of wall-clock times.
#[derive(Debug, Clone)]
pub(crate) struct Args {
    pub(crate) values: BTreeMap<String, Vec<String>>,
    pub(crate) zone: Tz,
}

/// What a template becomes for a call, with its values written as literals: for people to read. The engine runs the
/// parsed statement with the values bound, never this text.
/// # Errors  400 for a template that can't be loaded; as a call's for its parameters and its own `error()`.
pub fn preview(template: &str, params: &Params, zone: Tz) -> Result<String, QueryError> {
    let template = parse(template).map_err(|e| QueryError::sql(e.to_string(), None))?;
    Ok(render(&template, &Args { values: params.clone(), zone })?.preview())
}

#[cfg(test)]
mod tests;
