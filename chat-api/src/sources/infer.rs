//! Columns from rows: what every value of a key can be. Nested objects become columns with `_` between the keys.
//!
//! All columns take NULL, except lists: what later rows lack was only guessed to be there.

use super::ROW_BYTES_MAX;
use super::columns::{COLUMNS_MAX, PATH_MAX, check_column_name};
use super::rows::{Body, BodyFormat};
use super::value::{date, time};
use ingest::payload::{ColumnType, SourceColumn};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Rows that are looked at.
const ROWS_MAX: usize = 10_000;

/// The items of lists that were all empty so far; never guessed of anything else.
const NOTHING: ColumnType = ColumnType::UInt8;

/// An object's pairs, in the order in which they were sent: so are the columns.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

/// What has been seen of a column: `None` before the first value.
type Seen = Option<ColumnType>;

/// The columns of a body's rows.
///
/// # Errors
/// When no row can be read, or there are too many columns.
pub fn infer(body: &Body<'_>) -> Result<Vec<SourceColumn>, String> {
    let mut found = Found::default();
    match body.format {
        BodyFormat::Json => {
            let (mut rows, mut outcome) = (0, Ok(()));
            body.values(|value| {
                rows += 1;
                // A longer one is no row, and its keys could be more than there is memory for.
                if value.len() <= ROW_BYTES_MAX
                    && let Ok(row) = serde_json::from_slice(value)
                {
                    outcome = found.object(&mut Vec::new(), row);
                }
                more(rows, &outcome)
            });
            outcome?;
        }
        BodyFormat::Csv { delimiter } => csv(body, delimiter, &mut found)?,
    }
    found.columns()
}

/// Of a CSV the first line has the names.
fn csv(body: &Body<'_>, delimiter: u8, found: &mut Found) -> Result<(), String> {
    let mut names: Option<Vec<String>> = None;
    let mut rows = 0;
    let mut outcome = Ok(());
    body.records(delimiter, |record| {
        if record.is_cut() {
            return ControlFlow::Continue(());
        }
        let texts: Option<Vec<&str>> = record.iter().map(|field| std::str::from_utf8(field).ok()).collect();
        let Some(texts) = texts else { return ControlFlow::Continue(()) };
        let Some(names) = &names else {
            names = Some(texts.iter().map(|text| text.trim().to_owned()).collect());
            return ControlFlow::Continue(());
        };
        rows += 1;
        for (name, text) in names.iter().zip(texts) {
            let seen = if text.is_empty() || text == "\\N" { None } else { Some(of_text(text, true)) };
            if let Err(error) = found.see(std::slice::from_ref(name), seen) {
                outcome = Err(error);
            }
        }
        more(rows, &outcome)
    });
    outcome
}

fn more(rows: usize, outcome: &Result<(), String>) -> ControlFlow<()> {
    if rows < ROWS_MAX && outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

#[derive(Default)]
struct Found {
    places: HashMap<Vec<String>, usize>,
    columns: Vec<(Vec<String>, Seen)>,
}

impl Found {
    fn object(&mut self, path: &mut Vec<String>, Pairs(pairs): Pairs<'_>) -> Result<(), String> {
        for (key, value) in pairs {
            path.push(key);
            match serde_json::from_str(value.get()) {
                // Deeper ones are kept as their text.
                Ok(inner @ Pairs(_)) if path.len() < PATH_MAX && !inner.0.is_empty() => self.object(path, inner)?,
                _ => self
                    .see(path, serde_json::from_str(value.get()).map_or(Some(ColumnType::String), |v| of_value(&v)))?,
            }
            path.pop();
        }
        Ok(())
    }

    fn see(&mut self, path: &[String], seen: Seen) -> Result<(), String> {
        if let Some(at) = self.places.get(path) {
            let known = &mut self.columns[*at].1;
            *known = match (known.take(), seen) {
                (Some(one), Some(other)) => Some(both(one, other)),
                (one, other) => one.or(other),
            };
            return Ok(());
        }
        if self.columns.len() >= COLUMNS_MAX {
            return Err(format!("the rows have more than {COLUMNS_MAX} columns"));
        }
        self.places.insert(path.to_vec(), self.columns.len());
        self.columns.push((path.to_vec(), seen));
        Ok(())
    }

    fn columns(self) -> Result<Vec<SourceColumn>, String> {
        let mut columns: Vec<SourceColumn> = Vec::new();
        let all: Vec<Vec<String>> = self.columns.iter().map(|(path, _)| path.clone()).collect();
        for (path, seen) in self.columns {
            // An object in some rows and a value in others: the value is kept as text, and its parts aren't told apart.
            if (1..path.len()).any(|length| all.iter().any(|other| *other == path[..length])) {
                continue;
            }
            let name = unused(&columns, &normalized(&path.join("_")))?;
            let mixed = all.iter().any(|other| other.len() > path.len() && other.starts_with(&path));
            let r#type = match seen {
                _ if mixed => ColumnType::String,
                Some(ColumnType::Array(item)) if *item == NOTHING => ColumnType::Array(Box::new(ColumnType::String)),
                seen => seen.unwrap_or(ColumnType::String),
            };
            let nullable = !matches!(r#type, ColumnType::Array(_));
            columns.push(SourceColumn { name, r#type, nullable, path });
        }
        if columns.is_empty() { Err("no row can be read, so there are no columns".to_owned()) } else { Ok(columns) }
    }
}

fn normalized(name: &str) -> String {
    let mut text: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(80).collect();
    if !text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        text.insert(0, '_');
    }
    if check_column_name(&text).is_err() {
        text.insert(0, '_');
    }
    text
}

fn unused(columns: &[SourceColumn], name: &str) -> Result<String, String> {
    let taken = |name: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let others = (2..=COLUMNS_MAX).map(|number| format!("{name}_{number}"));
    let name = std::iter::once(name.to_owned()).chain(others).find(|name| !taken(name));
    name.ok_or_else(|| "too many columns have the same name".to_owned())
}

fn of_value(value: &Value) -> Seen {
    Some(match value {
        Value::Null => return None,
        Value::Bool(_) => ColumnType::Bool,
        Value::Number(number) if number.is_i64() => ColumnType::Int64,
        Value::Number(number) if number.is_u64() => ColumnType::UInt64,
        Value::Number(_) => ColumnType::Float64,
        Value::String(text) => of_text(text, false),
        Value::Array(items) => {
            let kinds = items.iter().map(|item| match item {
                Value::Object(_) | Value::Array(_) | Value::Null => None,
                plain => of_value(plain),
            });
            // A list of lists or objects is kept as its text.
            match kinds.collect::<Option<Vec<_>>>() {
                Some(kinds) => ColumnType::Array(Box::new(kinds.into_iter().reduce(both).unwrap_or(NOTHING))),
                None => ColumnType::String,
            }
        }
        Value::Object(_) => ColumnType::String,
    })
}

/// A text's type; `plain` when numbers are written as texts, as CSV has them.
fn of_text(text: &str, plain: bool) -> ColumnType {
    if date(text).is_some() {
        return ColumnType::Date;
    }
    if let Some(time) = time(text) {
        let fraction = time.timestamp_subsec_micros() % 1_000 != 0;
        return if fraction { ColumnType::DateTimeUs } else { ColumnType::DateTimeMs };
    }
    if !plain {
        return ColumnType::String;
    }
    match text {
        "true" | "false" => ColumnType::Bool,
        // A code with zeros in front is no number.
        _ if text.len() > 1 && text.starts_with('0') && !text.starts_with("0.") => ColumnType::String,
        _ if text.parse::<i64>().is_ok() => ColumnType::Int64,
        _ if text.parse::<f64>().is_ok_and(f64::is_finite) && !text.starts_with(['+', '.']) => ColumnType::Float64,
        _ => ColumnType::String,
    }
}

/// What holds both.
fn both(one: ColumnType, other: ColumnType) -> ColumnType {
    use ColumnType as T;
    match (one, other) {
        (one, other) if one == other => one,
        (NOTHING, kind) | (kind, NOTHING) => kind,
        (T::Int64, T::Float64) | (T::Float64, T::Int64) => T::Float64,
        (T::UInt64, T::Float64) | (T::Float64, T::UInt64) => T::Float64,
        // No type holds all of both exactly but text.
        (T::Date, T::DateTimeMs) | (T::DateTimeMs, T::Date) => T::DateTimeMs,
        (T::Date | T::DateTimeMs, T::DateTimeUs) | (T::DateTimeUs, T::Date | T::DateTimeMs) => T::DateTimeUs,
        (T::Array(one), T::Array(other)) => T::Array(Box::new(both(*one, *other))),
        _ => T::String,
    }
}
