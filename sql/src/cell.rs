//! One value of a result, whatever its arrow type: what every text format writes. Start at [`cell`].

use std::io::Write;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Offset as _, TimeZone};

/// A value to be written.
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    /// Apart, because its shortest digits are fewer.
    Single(f32),
    /// Digits that are written as they are.
    Decimal(String),
    Text(&'a str),
    /// Text that had to be made.
    Made(String),
    /// `YYYY-MM-DD[ hh:mm:ss[.fff]]` in the column's zone.
    Time(String),
    List(ArrayRef),
}

/// The value in one row of a column.
/// # Errors  Only for a value that arrow itself cannot show.
pub(crate) fn cell(array: &dyn Array, row: usize) -> Result<Cell<'_>, ArrowError> {
    if array.is_null(row) || array.data_type().is_null() {
        return Ok(Cell::Null);
    }
    Ok(match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Cell::Int(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Cell::Int(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Cell::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => Cell::UInt(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => Cell::UInt(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => Cell::UInt(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => Cell::UInt(array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => Cell::Single(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Cell::Float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => {
            Cell::Decimal(without_zeros(array.as_primitive::<Decimal128Type>().value_as_string(row)))
        }
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(row)),
        DataType::Date32 => date(array.as_primitive::<Date32Type>().value_as_date(row)),
        DataType::Date64 => date(array.as_primitive::<Date64Type>().value_as_date(row)),
        DataType::Timestamp(unit, zone) => timestamp(array, row, *unit, zone.as_deref())?,
        DataType::List(_) => Cell::List(array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Cell::List(array.as_list::<i64>().value(row)),
        DataType::Dictionary(..) => {
            let key = array.slice(row, 1).as_any_dictionary().normalized_keys()[0];
            cell(array.as_any_dictionary().values().as_ref(), key)?
        }
        _ => Cell::Made(ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).to_string()),
    })
}

/// `1.50` as `1.5`, `2.00` as `2`.
fn without_zeros(digits: String) -> String {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.').to_owned() } else { digits }
}

fn date(date: Option<chrono::NaiveDate>) -> Cell<'static> {
    date.map_or(Cell::Null, |date| Cell::Time(date.to_string()))
}

fn timestamp(array: &dyn Array, row: usize, unit: TimeUnit, zone: Option<&str>) -> Result<Cell<'static>, ArrowError> {
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
    let Some(instant) = instant else { return Ok(Cell::Null) };
    let utc = instant.naive_utc();
    let local = match zone {
        None => Some(utc),
        // The last hours that there are may have no wall clock.
        Some(zone) => utc.checked_add_offset(zone.parse::<Tz>()?.offset_from_utc_datetime(&utc).fix()),
    };
    Ok(local.map_or(Cell::Null, |local| Cell::Time(local.format(form).to_string())))
}

/// Digits as ClickHouse writes them: the shortest that read back equal, with an exponent from 1e21 up and below 1e-6.
/// `nan`, `inf` and `-inf` are words of CSV and TSV; JSON has none.
pub(crate) fn double(out: &mut Vec<u8>, n: f64) {
    number(out, n.abs(), n.is_finite(), &n);
}

/// The same in single precision.
pub(crate) fn single(out: &mut Vec<u8>, n: f32) {
    number(out, f64::from(n.abs()), n.is_finite(), &n);
}

fn number(out: &mut Vec<u8>, size: f64, finite: bool, n: &(impl std::fmt::Display + std::fmt::LowerExp)) {
    let plain = !finite || size == 0.0 || (1e-6..1e21).contains(&size);
    // Writing to memory cannot fail.
    let _ = if plain { write!(out, "{n}") } else { write!(out, "{n:e}") };
}
