//! SQL templates: Tinybird's language, cut to what can be bound safely.
//! A text is read once into a tree ([`parse`]) and rendered for each call ([`render`]); a value never becomes text of
//! the SQL: it becomes a `$n`, and [`bind`] puts a literal in its place in the parsed statement.
//!
//! Anyone may publish one and anyone's values may meet it, so reading and rendering have a budget of steps and bytes ([`budget`]),
//! and trees and values a depth.

mod arithmetic;
mod bind;
mod budget;
mod compare;
mod expr;
mod functions;
mod json;
mod lex;
mod parse;
mod render;
mod value;

pub(crate) use bind::bind;
pub(crate) use budget::Budget;
pub use budget::{RENDER_BYTES_MAX, RENDER_STEPS_MAX, TEMPLATE_PARTS_MAX};
pub(crate) use parse::{Template, parse};
pub(crate) use render::{Literal, Rendered, render};
pub(crate) use value::Value;

use std::collections::BTreeMap;

use chrono_tz::Tz;

use crate::call::Params;
use crate::error::QueryError;

/// The values of a call: each parameter's texts in the order they came, and the zone of wall-clock times.
#[derive(Debug)]
pub(crate) struct Args<'a> {
    given: &'a Params,
    /// What stands in the place of what was given.
    set: BTreeMap<&'static str, Vec<String>>,
    pub(crate) zone: Tz,
}

impl<'a> Args<'a> {
    pub(crate) fn new(given: &'a Params, zone: Tz) -> Self {
        Self { given, set: BTreeMap::new(), zone }
    }

    /// Puts a text in the place of what was given; without one, nothing was.
    pub(crate) fn set(&mut self, name: &'static str, text: Option<String>) {
        self.set.insert(name, text.into_iter().collect());
    }

    pub(crate) fn texts(&self, name: &str) -> &[String] {
        self.set.get(name).or_else(|| self.given.get(name)).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What a template becomes for a call, with its values written as literals: for people to read. The engine runs the
/// parsed statement with the values bound, never this text.
/// # Errors  400 for a template that can't be loaded; as a call's for its parameters and its own `error()`.
pub fn preview(template: &str, params: &Params, zone: Tz) -> Result<String, QueryError> {
    let template = parse(template, &mut Budget::of_reading()).map_err(|e| QueryError::sql(e.to_string(), None))?;
    Ok(render(&template, &Args::new(params, zone), &mut Budget::of_rendering())?.preview())
}

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod tests;
