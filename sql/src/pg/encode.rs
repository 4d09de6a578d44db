//! Values of a result as Postgres writes them, in text and in binary. Start at [`write`].

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone, Timelike};
use chrono_tz::Tz;

use super::types::{PgType, Scalar};

/// 2000-01-01, where Postgres counts from, in seconds since 1970.
const EPOCH_S: i64 = 946_684_800;
const DAY_S: i64 = 86_400;
const SECOND_US: i64 = 1_000_000;
/// Microseconds since 1970 that Postgres and our calendar have: from 24 November 4714 before our era, with which its days
/// begin, to the end of the year 262,000. What is outside is NULL.
const RANGE_US: std::ops::Range<i64> = -210_866_803_200_000_000..8_205_785_827_200_000_000;

enum Datum<'a> {
    Bool(bool),
    Int(i64),
    Single(f32),
    Float(f64),
    Digits(String),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    /// Days since 1970.
    Date(i64),
    /// Microseconds of the day.
    Time(i64),
    /// Microseconds since 1970.
    Timestamp(i64),
    Interval {
        months: i32,
        days: i32,
        microseconds: i64,
    },
    List(ArrayRef),
}

/// Appends the value in one row of a column; true, and nothing appended, when it is NULL.
/// # Errors  Only for a value that arrow itself can't show.
pub(super) fn write(
    array: &dyn Array,
    row: usize,
    kind: PgType,
    format: i16,
    zone: Tz,
    out: &mut Vec<u8>,
) -> Result<bool, ArrowError> {
    let Some(datum) = datum(array, row)?.filter(is_in_range) else { return Ok(true) };
    if format == 1 {
        binary(datum, kind, zone, out)?;
    } else {
        text(datum, kind, zone, out)?;
    }
    Ok(false)
}

fn datum(array: &dyn Array, row: usize) -> Result<Option<Datum<'_>>, ArrowError> {
    if array.is_null(row) || array.data_type().is_null() {
        return Ok(None);
    }
    Ok(Some(match array.data_type() {
        DataType::Boolean => Datum::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Datum::Int(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Datum::Int(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Datum::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Datum::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => Datum::Int(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => Datum::Int(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => Datum::Int(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => Datum::Digits(array.as_primitive::<UInt64Type>().value(row).to_string()),
        DataType::Float32 => Datum::Single(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Datum::Float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => Datum::Digits(array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Decimal256(..) => Datum::Digits(array.as_primitive::<Decimal256Type>().value_as_string(row)),
        DataType::Utf8 => Datum::Text(array.as_string::<i32>().value(row).into()),
        DataType::LargeUtf8 => Datum::Text(array.as_string::<i64>().value(row).into()),
        DataType::Utf8View => Datum::Text(array.as_string_view().value(row).into()),
        DataType::Binary => Datum::Bytes(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Datum::Bytes(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => Datum::Bytes(array.as_binary_view().value(row)),
        DataType::Date32 => Datum::Date(array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Date64 => Datum::Date(array.as_primitive::<Date64Type>().value(row).div_euclid(DAY_S * 1_000)),
        DataType::Time32(_) | DataType::Time64(_) => Datum::Time(time(array, row)),
        DataType::Timestamp(unit, _) => Datum::Timestamp(timestamp(array, row, *unit)),
        DataType::Interval(unit) => interval(array, row, *unit),
        DataType::Duration(unit) => Datum::Interval { months: 0, days: 0, microseconds: duration(array, row, *unit) },
        DataType::List(_) => Datum::List(array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Datum::List(array.as_list::<i64>().value(row)),
        DataType::Dictionary(..) => {
            let key = array.slice(row, 1).as_any_dictionary().normalized_keys()[0];
            return datum(array.as_any_dictionary().values().as_ref(), key);
        }
        _ => {
            let text = ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).to_string();
            Datum::Text(text.into())
        }
    }))
}

fn is_in_range(datum: &Datum<'_>) -> bool {
    match datum {
        Datum::Date(days) => RANGE_US.contains(&days.saturating_mul(DAY_S * SECOND_US)),
        Datum::Timestamp(microseconds) => RANGE_US.contains(microseconds),
        // Others have no calendar.
        _ => true,
    }
}

fn time(array: &dyn Array, row: usize) -> i64 {
    match array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            i64::from(array.as_primitive::<Time32SecondType>().value(row)) * SECOND_US
        }
        DataType::Time32(_) => i64::from(array.as_primitive::<Time32MillisecondType>().value(row)) * 1_000,
        DataType::Time64(TimeUnit::Microsecond) => array.as_primitive::<Time64MicrosecondType>().value(row),
        _ => array.as_primitive::<Time64NanosecondType>().value(row) / 1_000,
    }
}

fn timestamp(array: &dyn Array, row: usize, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row).saturating_mul(SECOND_US),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row).saturating_mul(1_000),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000),
    }
}

fn duration(array: &dyn Array, row: usize, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<DurationSecondType>().value(row).saturating_mul(SECOND_US),
        TimeUnit::Millisecond => array.as_primitive::<DurationMillisecondType>().value(row).saturating_mul(1_000),
        TimeUnit::Microsecond => array.as_primitive::<DurationMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<DurationNanosecondType>().value(row).div_euclid(1_000),
    }
}

fn interval(array: &dyn Array, row: usize, unit: IntervalUnit) -> Datum<'static> {
    match unit {
        IntervalUnit::YearMonth => {
            let months = array.as_primitive::<IntervalYearMonthType>().value(row);
            Datum::Interval { months, days: 0, microseconds: 0 }
        }
        IntervalUnit::DayTime => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            Datum::Interval { months: 0, days: value.days, microseconds: i64::from(value.milliseconds) * 1_000 }
        }
        IntervalUnit::MonthDayNano => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            Datum::Interval { months: value.months, days: value.days, microseconds: value.nanoseconds / 1_000 }
        }
    }
}

/// Writing to memory can't fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => { let _ = write!($out, $($text)*); };
}

fn text(datum: Datum<'_>, kind: PgType, zone: Tz, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    match datum {
        Datum::Bool(value) => out.push(if value { b't' } else { b'f' }),
        Datum::Int(value) => {
            put!(out, "{value}");
        }
        Datum::Single(value) if !value.is_finite() => out.extend(not_finite(value.into())),
        Datum::Float(value) if !value.is_finite() => out.extend(not_finite(value)),
        Datum::Single(value) => crate::cell::single(out, value),
        Datum::Float(value) => crate::cell::double(out, value),
        Datum::Digits(digits) => out.extend(digits.as_bytes()),
        // A zero is no character of a Postgres text.
        Datum::Text(text) => out.extend(text.bytes().filter(|byte| *byte != 0)),
        Datum::Bytes(bytes) => {
            out.extend(b"\\x");
            for byte in bytes {
                put!(out, "{byte:02x}");
            }
        }
        Datum::Date(days) => {
            if let Some(date) = date(days) {
                put_date(date, out);
                out.extend(era(date));
            }
        }
        Datum::Time(microseconds) => clock(microseconds, out),
        Datum::Timestamp(microseconds) => moment(microseconds, kind.scalar == Scalar::TimestampTz, zone, out),
        Datum::Interval { months, days, microseconds } => interval_text(months, days, microseconds, out),
        Datum::List(items) => list_text(&items, zone, out)?,
    }
    Ok(())
}

fn not_finite(value: f64) -> &'static [u8] {
    if value.is_nan() {
        b"NaN"
    } else if value > 0.0 {
        b"Infinity"
    } else {
        b"-Infinity"
    }
}

fn date(days: i64) -> Option<NaiveDate> {
    DateTime::from_timestamp(days.checked_mul(DAY_S)?, 0).map(|at| at.date_naive())
}

/// `YYYY-MM-DD hh:mm:ss[.ffffff]`, with its offset where the session's zone is.
fn moment(microseconds: i64, is_zoned: bool, zone: Tz, out: &mut Vec<u8>) {
    let Some(at) = DateTime::from_timestamp_micros(microseconds) else { return };
    let local: NaiveDateTime = if is_zoned { at.with_timezone(&zone).naive_local() } else { at.naive_utc() };
    put_date(local.date(), out);
    out.push(b' ');
    clock(microseconds_of_day(local), out);
    if is_zoned {
        let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
        let (sign, seconds) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
        put!(out, "{sign}{:02}", seconds / 3_600);
        if seconds % 3_600 != 0 {
            put!(out, ":{:02}", seconds / 60 % 60);
        }
    }
    out.extend(era(local.date()));
}

/// Before our era the year is counted backwards, from 1; [`era`] says so.
fn put_date(date: NaiveDate, out: &mut Vec<u8>) {
    put!(out, "{:04}-{:02}-{:02}", date.year_ce().1, date.month(), date.day());
}

fn era(date: NaiveDate) -> &'static [u8] {
    if date.year_ce().0 { b"" } else { b" BC" }
}

fn microseconds_of_day(at: NaiveDateTime) -> i64 {
    i64::from(at.num_seconds_from_midnight()) * SECOND_US + i64::from(at.nanosecond()) / 1_000
}

/// `hh:mm:ss[.ffffff]`; more than 24 hours in intervals.
fn clock(microseconds: i64, out: &mut Vec<u8>) {
    let sign = if microseconds < 0 { "-" } else { "" };
    let all = microseconds.unsigned_abs();
    let (seconds, fraction) = (all / 1_000_000, all % 1_000_000);
    put!(out, "{sign}{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        put!(out, ".{}", digits.trim_end_matches('0'));
    }
}

fn interval_text(months: i32, days: i32, microseconds: i64, out: &mut Vec<u8>) {
    let mut parts = String::new();
    let mut part = |count: i32, word: &str| {
        if count != 0 {
            let _ = write!(parts, "{count} {word}{} ", if count == 1 { "" } else { "s" });
        }
    };
    part(months / 12, "year");
    part(months % 12, "mon");
    part(days, "day");
    if microseconds != 0 || parts.is_empty() {
        out.extend(parts.as_bytes());
        clock(microseconds, out);
    } else {
        out.extend(parts.trim_end().as_bytes());
    }
}

fn list_text(items: &ArrayRef, zone: Tz, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let kind = PgType::of_arrow(items.data_type());
    out.push(b'{');
    for row in 0..items.len() {
        if row > 0 {
            out.push(b',');
        }
        let mut item = Vec::new();
        if write(items.as_ref(), row, kind, 0, zone, &mut item)? {
            out.extend(b"NULL");
            continue;
        }
        let special = |byte: &u8| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || byte.is_ascii_whitespace();
        if item.is_empty() || item.iter().any(special) || item.eq_ignore_ascii_case(b"null") {
            out.push(b'"');
            for byte in item {
                if matches!(byte, b'"' | b'\\') {
                    out.push(b'\\');
                }
                out.push(byte);
            }
            out.push(b'"');
        } else {
            out.extend(item);
        }
    }
    out.push(b'}');
    Ok(())
}

fn binary(datum: Datum<'_>, kind: PgType, zone: Tz, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    match datum {
        Datum::Bool(value) => out.push(value.into()),
        Datum::Int(value) => match kind.scalar {
            // The types were chosen to hold their columns' values.
            Scalar::Int2 => out.extend(i16::try_from(value).unwrap_or(i16::MAX).to_be_bytes()),
            Scalar::Int4 => out.extend(i32::try_from(value).unwrap_or(i32::MAX).to_be_bytes()),
            Scalar::Oid => out.extend(u32::try_from(value).unwrap_or(0).to_be_bytes()),
            _ => out.extend(value.to_be_bytes()),
        },
        Datum::Single(value) => out.extend(value.to_be_bytes()),
        Datum::Float(value) => out.extend(value.to_be_bytes()),
        Datum::Digits(digits) => numeric(&digits, out),
        Datum::Bytes(bytes) => out.extend(bytes),
        Datum::Date(days) => {
            let days = days - EPOCH_S / DAY_S;
            out.extend(i32::try_from(days).unwrap_or(i32::MAX).to_be_bytes());
        }
        Datum::Time(microseconds) => out.extend(microseconds.to_be_bytes()),
        Datum::Timestamp(microseconds) => {
            out.extend(microseconds.saturating_sub(EPOCH_S * SECOND_US).to_be_bytes());
        }
        Datum::Interval { months, days, microseconds } => {
            out.extend(microseconds.to_be_bytes());
            out.extend(days.to_be_bytes());
            out.extend(months.to_be_bytes());
        }
        Datum::List(items) => list_binary(&items, kind.scalar, zone, out)?,
        other @ Datum::Text(_) => text(other, kind, zone, out)?,
    }
    Ok(())
}

fn list_binary(items: &ArrayRef, scalar: Scalar, zone: Tz, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let kind = PgType::of(scalar);
    let nested = PgType::of_arrow(items.data_type()).is_array;
    let length = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    out.extend(i32::from(!items.is_empty()).to_be_bytes());
    out.extend(i32::from(items.null_count() > 0).to_be_bytes());
    out.extend(kind.oid().to_be_bytes());
    if items.is_empty() {
        return Ok(());
    }
    out.extend(length(items.len()).to_be_bytes());
    out.extend(1_i32.to_be_bytes());
    for row in 0..items.len() {
        let at = out.len();
        out.extend([0; 4]);
        let is_null = write(items.as_ref(), row, kind, i16::from(!nested), zone, out)?;
        let bytes = if is_null { -1 } else { length(out.len() - at - 4) };
        out[at..at + 4].copy_from_slice(&bytes.to_be_bytes());
    }
    Ok(())
}

/// Digits in groups of four around the point: how many, the first one's weight, the sign, how many after the point.
fn numeric(digits: &str, out: &mut Vec<u8>) {
    let (sign, plain) = match digits.strip_prefix('-') {
        Some(plain) => (0x4000_u16, plain),
        None => (0, digits),
    };
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let whole = whole.trim_start_matches('0');
    let left = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let right = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let all = left.clone() + &right;
    // Both parts are ASCII digits in groups of four.
    let mut groups: Vec<u16> = (0..all.len() / 4).map(|at| all[at * 4..at * 4 + 4].parse().unwrap_or(0)).collect();
    let mut weight = i16::try_from(left.len() / 4).unwrap_or(i16::MAX) - 1;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let zeros = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..zeros);
    weight -= i16::try_from(zeros).unwrap_or(0);
    if groups.is_empty() {
        weight = 0;
    }
    let length = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes();
    out.extend(length(groups.len()));
    out.extend(weight.to_be_bytes());
    out.extend(if groups.is_empty() { 0 } else { sign }.to_be_bytes());
    out.extend(length(fraction.len()));
    groups.iter().for_each(|group| out.extend(group.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_text(array: &dyn Array) -> String {
        let mut out = Vec::new();
        let kind = PgType::of_arrow(array.data_type());
        let null = write(array, 0, kind, 0, chrono_tz::Europe::Berlin, &mut out).expect("shown");
        if null { "null".to_owned() } else { String::from_utf8(out).expect("UTF-8") }
    }

    #[test]
    fn texts_are_those_of_postgres() {
        use arrow::array::TimestampMillisecondArray;
        use arrow::array::{Decimal128Array, Float64Array, IntervalMonthDayNanoArray, ListArray, StringArray};
        use arrow::datatypes::IntervalMonthDayNano;
        let at = TimestampMillisecondArray::from(vec![1_714_557_600_120]);
        assert_eq!(as_text(&at), "2024-05-01 10:00:00.12");
        assert_eq!(as_text(&at.with_timezone("UTC")), "2024-05-01 12:00:00.12+02");
        assert_eq!(as_text(&Float64Array::from(vec![f64::NEG_INFINITY])), "-Infinity");
        assert_eq!(as_text(&Float64Array::from(vec![0.1])), "0.1");
        let decimal = Decimal128Array::from(vec![1_050]).with_precision_and_scale(10, 2).expect("fits");
        assert_eq!(as_text(&decimal), "10.50");
        let interval = |m, d, n| as_text(&IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(m, d, n)]));
        assert_eq!(interval(14, 1, 90_000_500_000), "1 year 2 mons 1 day 00:01:30.0005");
        assert_eq!(interval(0, 0, 0), "00:00:00");
        assert_eq!(interval(0, -1, 0), "-1 days");
        let items: ArrayRef =
            std::sync::Arc::new(StringArray::from(vec![Some("a b"), None, Some(""), Some("null"), Some("q\"\\")]));
        let field = std::sync::Arc::new(arrow::datatypes::Field::new("item", DataType::Utf8, true));
        let list = ListArray::new(field, arrow::buffer::OffsetBuffer::from_lengths([5]), items, None);
        assert_eq!(as_text(&list), r#"{"a b",NULL,"","null","q\"\\"}"#);
    }

    /// Postgres' words for years that it has, NULL in text and in binary for those that it hasn't.
    #[test]
    fn odd_years_are_shown_or_null() {
        use arrow::array::{Date32Array, TimestampMillisecondArray, TimestampSecondArray};
        let day = |year: i32| {
            let date = NaiveDate::from_ymd_opt(year, 12, 31).expect("a date");
            i32::try_from((date - NaiveDate::default()).num_days()).expect("near")
        };
        let at = |year: i32| TimestampMillisecondArray::from(vec![i64::from(day(year)) * 86_400_000]);
        for (year, date) in [
            (1, "0001-12-31"),
            (0, "0001-12-31 BC"),
            (-4712, "4713-12-31 BC"),
            (9999, "9999-12-31"),
            (12_345, "12345-12-31"),
        ] {
            assert_eq!(as_text(&Date32Array::from(vec![day(year)])), date);
            let (ours, era) = date.split_at(date.find(" BC").unwrap_or(date.len()));
            assert_eq!(as_text(&at(year)), format!("{ours} 00:00:00{era}"));
        }
        assert_eq!(as_text(&at(-1).with_timezone("UTC")), "0002-12-31 00:53:28+00:53 BC");
        let odd: [&dyn Array; 8] = [
            &Date32Array::from(vec![i32::MIN]),
            &Date32Array::from(vec![i32::MAX]),
            &Date32Array::from(vec![day(-4714)]),
            &TimestampSecondArray::from(vec![i64::MIN]),
            &TimestampSecondArray::from(vec![i64::MAX]),
            &TimestampMillisecondArray::from(vec![i64::MAX]),
            &at(-4714),
            &at(262_001),
        ];
        for array in odd {
            assert_eq!(as_text(array), "null", "{array:?}");
            let kind = PgType::of_arrow(array.data_type());
            assert!(write(array, 0, kind, 1, chrono_tz::UTC, &mut Vec::new()).expect("written"), "{array:?}");
        }
    }

    #[test]
    fn numbers_in_binary_are_groups_of_four_digits() {
        let groups = |digits: &str| {
            let mut out = Vec::new();
            numeric(digits, &mut out);
            out.chunks(2).map(|two| i16::from_be_bytes([two[0], two[1]])).collect::<Vec<_>>()
        };
        // Count, weight, sign, digits after the point, groups.
        assert_eq!(groups("12345.678"), [3, 1, 0, 3, 1, 2345, 6780]);
        assert_eq!(groups("-0.00012"), [2, -1, 0x4000, 5, 1, 2000]);
        assert_eq!(groups("0"), [0, 0, 0, 0]);
        assert_eq!(groups("0.00"), [0, 0, 0, 2]);
        assert_eq!(groups("10000"), [1, 1, 0, 0, 1]);
        assert_eq!(groups("18446744073709551615"), [5, 4, 0, 0, 1844, 6744, 737, 955, 1615]);
    }
}
