//! A result as Tinybird's JSON: `meta` with ClickHouse type names, `data` as objects, counts and statistics.
//! 64-bit integers are numbers, times are `YYYY-MM-DD hh:mm:ss[.fff]` in the column's zone, what JSON cannot hold
//! (NaN, infinities) is null. Start at [`whole`].

use std::io::Write;

use arrow::array::Array;
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::error::ArrowError;

use super::{EncodeError, Output};
use crate::call::QueryResult;
use crate::cell::{Cell, cell, double, single};

/// One object with everything.
pub(super) fn whole(out: &mut Output, result: &QueryResult) -> Result<(), EncodeError> {
    out.bytes.extend_from_slice(b"{\"meta\":[");
    for (i, field) in result.schema.fields().iter().enumerate() {
        comma(&mut out.bytes, i);
        out.bytes.extend_from_slice(b"{\"name\":");
        text(&mut out.bytes, field.name());
        out.bytes.extend_from_slice(b",\"type\":");
        text(&mut out.bytes, &type_name(field));
        out.bytes.push(b'}');
    }
    out.bytes.extend_from_slice(b"],\"data\":[");
    objects(out, result, b",", b"")?;
    // Writing to memory cannot fail.
    let _ = write!(
        out.bytes,
        "],\"rows\":{},\"rows_before_limit_at_least\":{},\"statistics\":{{\"elapsed\":{:.6},\"rows_read\":{},\"bytes_read\":{}}}}}",
        result.rows,
        result.rows_before_limit_at_least,
        result.elapsed.as_secs_f64(),
        result.rows_read,
        result.bytes_read
    );
    Ok(())
}

/// One object a line.
pub(super) fn lines(out: &mut Output, result: &QueryResult) -> Result<(), EncodeError> {
    objects(out, result, b"", b"\n")
}

fn objects(out: &mut Output, result: &QueryResult, between: &[u8], after: &[u8]) -> Result<(), EncodeError> {
    let names: Vec<Vec<u8>> = result.schema.fields().iter().map(|f| name_and_colon(f.name())).collect();
    let mut first = true;
    for batch in &result.batches {
        for row in 0..batch.num_rows() {
            if !first {
                out.bytes.extend_from_slice(between);
            }
            first = false;
            out.bytes.push(b'{');
            for (i, (column, name)) in batch.columns().iter().zip(&names).enumerate() {
                comma(&mut out.bytes, i);
                out.bytes.extend_from_slice(name);
                value(&mut out.bytes, column.as_ref(), row)?;
            }
            out.bytes.push(b'}');
            out.bytes.extend_from_slice(after);
            out.check()?;
        }
    }
    Ok(())
}

fn comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

fn name_and_colon(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, name);
    out.push(b':');
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
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
