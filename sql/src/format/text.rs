//! CSV and TSV as ClickHouse writes them. In CSV every text and time is quoted and quotes are doubled; in TSV control
//! characters, quotes and backslashes are escaped; a list is its text with escaped items in single quotes.

use std::io::Write;

use arrow::array::Array;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;

use crate::cell::{Cell, cell, double, single};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Csv,
    Tsv,
}

impl Style {
    pub(super) fn separator(self) -> u8 {
        match self {
            Self::Csv => b',',
            Self::Tsv => b'\t',
        }
    }

    fn text(self, out: &mut Vec<u8>, text: &str) {
        match self {
            Self::Csv => quoted(out, text.as_bytes()),
            Self::Tsv => escaped(out, text),
        }
    }
}

/// The line of names.
pub(super) fn names(out: &mut Vec<u8>, schema: &Schema, style: Style) {
    for (i, field) in schema.fields().iter().enumerate() {
        if i > 0 {
            out.push(style.separator());
        }
        style.text(out, field.name());
    }
    out.push(b'\n');
}

pub(super) fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize, style: Style) -> Result<(), ArrowError> {
    match cell(array, row)? {
        Cell::Null => out.extend_from_slice(b"\\N"),
        Cell::Text(text) => style.text(out, text),
        Cell::Made(text) => style.text(out, &text),
        Cell::Time(time) => style.text(out, &time),
        Cell::List(items) if style == Style::Csv => {
            let mut text = Vec::new();
            list(&mut text, items.as_ref())?;
            quoted(out, &text);
        }
        Cell::List(items) => list(out, items.as_ref())?,
        plain => number(out, &plain)?,
    }
    Ok(())
}

/// What looks the same everywhere.
fn number(out: &mut Vec<u8>, cell: &Cell<'_>) -> Result<(), ArrowError> {
    match cell {
        Cell::Bool(b) => write!(out, "{b}")?,
        Cell::Int(n) => write!(out, "{n}")?,
        Cell::UInt(n) => write!(out, "{n}")?,
        Cell::Float(n) if n.is_nan() => out.extend_from_slice(b"nan"),
        Cell::Single(n) if n.is_nan() => out.extend_from_slice(b"nan"),
        Cell::Float(n) => double(out, *n),
        Cell::Single(n) => single(out, *n),
        Cell::Decimal(digits) => out.extend_from_slice(digits.as_bytes()),
        Cell::Null | Cell::Text(_) | Cell::Made(_) | Cell::Time(_) | Cell::List(_) => {}
    }
    Ok(())
}

fn list(out: &mut Vec<u8>, items: &dyn Array) -> Result<(), ArrowError> {
    let item = |out: &mut Vec<u8>, text: &str| {
        out.push(b'\'');
        escaped(out, text);
        out.push(b'\'');
    };
    out.push(b'[');
    for row in 0..items.len() {
        if row > 0 {
            out.push(b',');
        }
        match cell(items, row)? {
            Cell::Null => out.extend_from_slice(b"NULL"),
            Cell::Text(text) => item(out, text),
            Cell::Made(text) => item(out, &text),
            Cell::Time(time) => item(out, &time),
            Cell::List(items) => list(out, items.as_ref())?,
            plain => number(out, &plain)?,
        }
    }
    out.push(b']');
    Ok(())
}

fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'\x08' => out.extend_from_slice(b"\\b"),
            b'\x0c' => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\0' => out.extend_from_slice(b"\\0"),
            b'\'' => out.extend_from_slice(b"\\'"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            byte => out.push(byte),
        }
    }
}
