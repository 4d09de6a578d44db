//! A result as Tinybird's JSON: `meta` with ClickHouse type names, `data` as objects, counts and statistics.
//! 64-bit integers are numbers, times are `YYYY-MM-DD hh:mm:ss[.fff]` in the column's zone, what JSON cannot hold
//! (NaN, infinities) is null. Start at [`encode`].

use std::io::Write;

use arrow::array::timezone::Tz;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, TimeZone};

use crate::engine::QueryResult;

/// The bytes of the whole answer.
/// # Errors  Only for a value that arrow itself cannot show.
pub(crate) fn encode(result: &QueryResult) -> Result<Vec<u8>, ArrowError> {
    let mut out = Vec::with_capacity(256 + result.bytes);
    out.extend_from_slice(b"{\"meta\":[");
    for (i, field) in result.schema.fields().iter().enumerate() {
        comma(&mut out, i);
        out.extend_from_slice(b"{\"name\":");
        text(&mut out, field.name());
        out.extend_from_slice(b",\"type\":");
        text(&mut out, &type_name(field));
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"data\":[");
    let names: Vec<Vec<u8>> = result.schema.fields().iter().map(|f| name_and_colon(f.name())).collect();
    let mut first = true;
    for batch in &result.batches {
        for row in 0..batch.num_rows() {
            out.extend_from_slice(if first { b"{" } else { b",{" });
            first = false;
            for (i, (column, name)) in batch.columns().iter().zip(&names).enumerate() {
                comma(&mut out, i);
                out.extend_from_slice(name);
                value(&mut out, column.as_ref(), row)?;
            }
            out.push(b'}');
        }
    }
    write!(
        out,
        "],\"rows\":{},\"rows_before_limit_at_least\":{},\"statistics\":{{\"elapsed\":{:.6},\"rows_read\":{},\"bytes_read\":{}}}}}",
        result.rows,
        result.rows_before_limit_at_least,
        result.elapsed.as_secs_f64(),
        result.rows_read,
        result.bytes_read
    )?;
    Ok(out)
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

fn value(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    if array.is_null(row) || array.data_type().is_null() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Boolean => write!(out, "{}", array.as_boolean().value(row))?,
        DataType::Int8 => write!(out, "{}", array.as_primitive::<Int8Type>().value(row))?,
        DataType::Int16 => write!(out, "{}", array.as_primitive::<Int16Type>().value(row))?,
        DataType::Int32 => write!(out, "{}", array.as_primitive::<Int32Type>().value(row))?,
        DataType::Int64 => write!(out, "{}", array.as_primitive::<Int64Type>().value(row))?,
        DataType::UInt8 => write!(out, "{}", array.as_primitive::<UInt8Type>().value(row))?,
        DataType::UInt16 => write!(out, "{}", array.as_primitive::<UInt16Type>().value(row))?,
        DataType::UInt32 => write!(out, "{}", array.as_primitive::<UInt32Type>().value(row))?,
        DataType::UInt64 => write!(out, "{}", array.as_primitive::<UInt64Type>().value(row))?,
        DataType::Float32 => float(out, f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => {
            out.extend_from_slice(array.as_primitive::<Decimal128Type>().value_as_string(row).as_bytes());
        }
        DataType::Utf8 => text(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => text(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => text(out, array.as_string_view().value(row)),
        DataType::Date32 => date(out, array.as_primitive::<Date32Type>().value_as_date(row)),
        DataType::Date64 => date(out, array.as_primitive::<Date64Type>().value_as_date(row)),
        DataType::Timestamp(unit, zone) => timestamp(out, array, row, *unit, zone.as_deref())?,
        DataType::List(_) => list(out, array.as_list::<i32>().value(row).as_ref())?,
        DataType::LargeList(_) => list(out, array.as_list::<i64>().value(row).as_ref())?,
        DataType::Dictionary(..) => {
            let one = array.slice(row, 1);
            let dictionary = one.as_any_dictionary();
            let key = dictionary.normalized_keys()[0];
            value(out, dictionary.values().as_ref(), key)?;
        }
        _ => text(out, &ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).to_string()),
    }
    Ok(())
}

fn list(out: &mut Vec<u8>, items: &dyn Array) -> Result<(), ArrowError> {
    out.push(b'[');
    for item in 0..items.len() {
        comma(out, item);
        value(out, items, item)?;
    }
    out.push(b']');
    Ok(())
}

fn float(out: &mut Vec<u8>, number: f64) {
    // serde_json writes the shortest digits that read back equal, and null for NaN and infinities.
    if number.is_finite() && number.fract() == 0.0 && number.abs() < 1e15 {
        let _ = write!(out, "{number:.0}");
    } else {
        let _ = serde_json::to_writer(out, &number);
    }
}

fn date(out: &mut Vec<u8>, date: Option<chrono::NaiveDate>) {
    match date {
        Some(date) => {
            let _ = write!(out, "\"{date}\"");
        }
        None => out.extend_from_slice(b"null"),
    }
}

fn timestamp(
    out: &mut Vec<u8>,
    array: &dyn Array,
    row: usize,
    unit: TimeUnit,
    zone: Option<&str>,
) -> Result<(), ArrowError> {
    let (instant, form) = match unit {
        TimeUnit::Second => {
            (DateTime::from_timestamp(array.as_primitive::<TimestampSecondType>().value(row), 0), "%Y-%m-%d %H:%M:%S")
        }
        TimeUnit::Millisecond => {
            let value = array.as_primitive::<TimestampMillisecondType>().value(row);
            (DateTime::from_timestamp_millis(value), "%Y-%m-%d %H:%M:%S%.3f")
        }
        TimeUnit::Microsecond => {
            let value = array.as_primitive::<TimestampMicrosecondType>().value(row);
            (DateTime::from_timestamp_micros(value), "%Y-%m-%d %H:%M:%S%.6f")
        }
        TimeUnit::Nanosecond => {
            let value = array.as_primitive::<TimestampNanosecondType>().value(row);
            (Some(DateTime::from_timestamp_nanos(value)), "%Y-%m-%d %H:%M:%S%.9f")
        }
    };
    let Some(instant) = instant else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    let local = match zone {
        None => instant.naive_utc(),
        Some(zone) => zone.parse::<Tz>()?.from_utc_datetime(&instant.naive_utc()).naive_local(),
    };
    write!(out, "\"{}\"", local.format(form))?;
    Ok(())
}
