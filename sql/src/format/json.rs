//! A result as Tinybird's JSON: `meta` with ClickHouse type names, `data` as objects, counts and statistics.
//! 64-bit integers are numbers, times are `YYYY-MM-DD hh:mm:ss[.fff]` in the column's zone, what JSON cannot hold
//! (NaN, infinities) is null.

use std::io::Write;

use arrow::array::Array;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;

use crate::call::QueryResult;
use crate::cell::{Cell, cell, double, single};

/// What comes before the rows.
pub(super) fn head(out: &mut Vec<u8>, schema: &Schema) {
    out.extend_from_slice(b"{\"meta\":[");
    for (i, field) in schema.fields().iter().enumerate() {
        comma(out, i);
        out.extend_from_slice(b"{\"name\":");
        text(out, field.name());
        out.extend_from_slice(b",\"type\":");
        text(out, &type_name(field));
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"data\":[");
}

/// What comes after them.
pub(super) fn tail(result: &QueryResult) -> String {
    format!(
        "],\"rows\":{},\"rows_before_limit_at_least\":{},\"statistics\":{{\"elapsed\":{:.6},\"rows_read\":{},\"bytes_read\":{}}}}}",
        result.rows,
        result.rows_before_limit_at_least,
        result.elapsed.as_secs_f64(),
        result.rows_read,
        result.bytes_read
    )
}

/// A column's name as it stands before each value.
pub(super) fn name_and_colon(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, name);
    out.push(b':');
    out
}

fn comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

pub(super) fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    // Writing to memory cannot fail, but the signature asks.
    match cell(array, row)? {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Bool(b) => write!(out, "{b}")?,
        Cell::Int(n) => write!(out, "{n}")?,
        Cell::UInt(n) => write!(out, "{n}")?,
        Cell::Float(n) if !n.is_finite() => out.extend_from_slice(b"null"),
        Cell::Single(n) if !n.is_finite() => out.extend_from_slice(b"null"),
        Cell::Float(n) => double(out, n),
        Cell::Single(n) => single(out, n),
        Cell::Decimal(digits) => out.extend_from_slice(digits.as_bytes()),
        Cell::Text(t) => text(out, t),
        Cell::Made(t) => text(out, &t),
        Cell::Time(t) => write!(out, "\"{t}\"")?,
        Cell::List(items) => {
            out.push(b'[');
            for item in 0..items.len() {
                comma(out, item);
                value(out, items.as_ref(), item)?;
            }
            out.push(b']');
        }
    }
    Ok(())
}

/// A column's type by its ClickHouse name. Arrays are never `Nullable` there; their items are.
pub fn type_name(field: &Field) -> String {
    let name = plain_name(field.data_type());
    match field.data_type() {
        DataType::List(_) | DataType::LargeList(_) => name,
        DataType::Null => name,
        DataType::Dictionary(_, value) if value.is_nested() => name,
        _ if field.is_nullable() => format!("Nullable({name})"),
        _ => name,
    }
}

fn plain_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Null => "Nullable(Nothing)",
        DataType::Boolean => "Bool",
        DataType::Int8 => "Int8",
        DataType::Int16 => "Int16",
        DataType::Int32 => "Int32",
        DataType::Int64 => "Int64",
        DataType::UInt8 => "UInt8",
        DataType::UInt16 => "UInt16",
        DataType::UInt32 => "UInt32",
        DataType::UInt64 => "UInt64",
        DataType::Float16 | DataType::Float32 => "Float32",
        DataType::Float64 => "Float64",
        DataType::Date32 | DataType::Date64 => "Date",
        DataType::Timestamp(unit, zone) => return timestamp_name(*unit, zone.as_deref()),
        DataType::Decimal128(precision, scale) => return format!("Decimal({precision}, {scale})"),
        DataType::List(item) | DataType::LargeList(item) => return format!("Array({})", type_name(item)),
        DataType::Dictionary(_, value) => return plain_name(value),
        _ => "String",
    };
    name.to_owned()
}

fn timestamp_name(unit: TimeUnit, zone: Option<&str>) -> String {
    let digits = match unit {
        TimeUnit::Second => None,
        TimeUnit::Millisecond => Some(3),
        TimeUnit::Microsecond => Some(6),
        TimeUnit::Nanosecond => Some(9),
    };
    match (digits, zone) {
        (None, None) => "DateTime".to_owned(),
        (None, Some(zone)) => format!("DateTime('{zone}')"),
        (Some(digits), None) => format!("DateTime64({digits})"),
        (Some(digits), Some(zone)) => format!("DateTime64({digits}, '{zone}')"),
    }
}
