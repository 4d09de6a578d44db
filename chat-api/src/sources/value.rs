//! One value, as it was sent, to its logged form: JSON of the column's type, times as whole numbers.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use ingest::payload::{ColumnType, SourceColumn};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Years that dates and times may have, as ClickHouse has them.
const YEARS: std::ops::RangeInclusive<i32> = 1900..=2299;
/// Above this a whole number written as a fraction isn't exact.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Characters of a value in what is said about it.
const SHOWN_CHARS: usize = 40;

/// Writes a column's value; `None` is a value that the row lacks.
///
/// # Errors
/// Why it doesn't fit.
pub(super) fn encode(column: &SourceColumn, value: Option<&str>, out: &mut String) -> Result<(), String> {
    match value {
        None | Some("null") => match &column.r#type {
            ColumnType::Array(_) => out.push_str("[]"),
            _ if column.nullable => out.push_str("null"),
            _ if value.is_none() => return Err("a value is missing, and the column takes no NULL".to_owned()),
            _ => return Err("NULL, which the column doesn't take".to_owned()),
        },
        Some(value) => match &column.r#type {
            ColumnType::Array(item) => list(item, value, out)?,
            plain => scalar(plain, value, out)?,
        },
    }
    Ok(())
}

fn list(item: &ColumnType, value: &str, out: &mut String) -> Result<(), String> {
    let items: Vec<&RawValue> = serde_json::from_str(value).map_err(|_| expected("a list", value))?;
    out.push('[');
    for (at, value) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match value.get() {
            "null" => return Err("NULL in a list".to_owned()),
            value => scalar(item, value, out)?,
        }
    }
    out.push(']');
    Ok(())
}

fn expected(what: &str, value: &str) -> String {
    let shown: String = value.chars().take(SHOWN_CHARS).collect();
    let more = if shown.len() < value.len() { "…" } else { "" };
    format!("expected {what}, found {shown}{more}")
}

/// The text of a JSON string; of anything else `None`.
fn text(value: &str) -> Result<Option<Cow<'_, str>>, String> {
    let Some(inside) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return Ok(None) };
    if !inside.contains('\\') {
        return Ok(Some(Cow::Borrowed(inside)));
    }
    // Half of a character beyond U+FFFF is no text, though it's JSON.
    serde_json::from_str::<String>(value)
        .map(|text| Some(Cow::Owned(text)))
        .map_err(|error| format!("not a text: {error}"))
}

fn scalar(kind: &ColumnType, value: &str, out: &mut String) -> Result<(), String> {
    let text = text(value)?;
    if *kind == ColumnType::String {
        match text {
            // As it is: there is nothing to escape in it.
            Some(Cow::Borrowed(_)) => out.push_str(value),
            Some(Cow::Owned(text)) => quote(&text, out),
            None => quote(value, out),
        }
        return Ok(());
    }
    let plain = text.as_deref().unwrap_or(value).trim();
    match kind {
        ColumnType::Bool => match plain {
            "true" | "1" => out.push_str("true"),
            "false" | "0" => out.push_str("false"),
            _ => return Err(expected("true or false", value)),
        },
        ColumnType::Float32 | ColumnType::Float64 => {
            let number = plain.parse::<f64>().ok().filter(|number| {
                // As f32 reads them, `nan` and `inf` are numbers; in a table they are none.
                number.is_finite() && (*kind == ColumnType::Float64 || (*number as f32).is_finite())
            });
            let number = number.ok_or_else(|| expected("a number", value))?;
            // Written anew: a text may hold what is a number here and none in JSON, as `+1` or `.5`.
            let _ = write!(out, "{number:?}");
        }
        ColumnType::Date => {
            let date = date(plain).or_else(|| time(plain).map(|time| time.date_naive()));
            let date = date.ok_or_else(|| expected("a date as 2024-05-31", value))?;
            let _ = write!(out, "{}", date.signed_duration_since(NaiveDate::default()).num_days());
        }
        ColumnType::DateTime | ColumnType::DateTimeMs | ColumnType::DateTimeUs => {
            let _ = write!(out, "{}", instant(kind, plain, text.is_none(), value)?);
        }
        _ => whole(kind, plain, value, out)?,
    }
    Ok(())
}

fn quote(text: &str, out: &mut String) {
    // Writing to memory can't fail, and any text has a JSON form.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// From and to, inclusive; and whether there is a sign.
fn range(kind: &ColumnType) -> (i128, i128) {
    match kind {
        ColumnType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        ColumnType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        ColumnType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        ColumnType::UInt8 => (0, u8::MAX.into()),
        ColumnType::UInt16 => (0, u16::MAX.into()),
        ColumnType::UInt32 => (0, u32::MAX.into()),
        ColumnType::UInt64 => (0, u64::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    }
}

fn whole(kind: &ColumnType, plain: &str, value: &str, out: &mut String) -> Result<(), String> {
    let (min, max) = range(kind);
    let number = match plain {
        "true" => Some(1),
        "false" => Some(0),
        _ => plain.parse::<i128>().ok().or_else(|| {
            let number =
                plain.parse::<f64>().ok().filter(|number| number.fract() == 0.0 && number.abs() <= EXACT_MAX)?;
            Some(number as i128)
        }),
    };
    let number = number.filter(|number| (min..=max).contains(number));
    let number = number.ok_or_else(|| expected(&format!("a whole number from {min} to {max}"), value))?;
    let _ = write!(out, "{number}");
    Ok(())
}

fn instant(kind: &ColumnType, plain: &str, is_number: bool, value: &str) -> Result<i64, String> {
    let wrong = || expected("a time as 2024-05-31 09:30:00, 2024-05-31T09:30:00Z or in units since 1970", value);
    let time = if is_number {
        let number = plain.parse::<i64>().map_err(|_| wrong())?;
        match kind {
            ColumnType::DateTime => DateTime::from_timestamp(number, 0),
            ColumnType::DateTimeMs => DateTime::from_timestamp_millis(number),
            _ => DateTime::from_timestamp_micros(number),
        }
    } else {
        time(plain).or_else(|| Some(date(plain)?.and_time(NaiveTime::MIN).and_utc()))
    };
    let time = time.filter(|time| YEARS.contains(&chrono::Datelike::year(time))).ok_or_else(wrong)?;
    Ok(match kind {
        ColumnType::DateTime => time.timestamp(),
        ColumnType::DateTimeMs => time.timestamp_millis(),
        _ => time.timestamp_micros(),
    })
}

/// `2024-05-31`.
pub(super) fn date(text: &str) -> Option<NaiveDate> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&bytes[..4])?, digits(&bytes[5..7])?, digits(&bytes[8..])?);
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    YEARS.contains(&chrono::Datelike::year(&date)).then_some(date)
}

fn digits(bytes: &[u8]) -> Option<u32> {
    let digit = |sum: u32, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'));
    bytes.iter().try_fold(0, digit)
}

/// A date and a time of day with ` ` or `T` between, a fraction, and `Z` or an offset; without one it's UTC.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    let bytes = text.as_bytes();
    if bytes.len() < 16 || !matches!(bytes[10], b' ' | b'T') || bytes[13] != b':' || !text.is_ascii() {
        return None;
    }
    let date = date(&text[..10])?;
    let (hour, minute) = (digits(&bytes[11..13])?, digits(&bytes[14..16])?);
    let (second, rest) = match bytes.get(16) {
        Some(b':') => (digits(bytes.get(17..19)?)?, &text[19..]),
        _ => (0, &text[16..]),
    };
    let (nanos, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let length = rest.bytes().take_while(u8::is_ascii_digit).count();
            let kept = length.min(9);
            let fraction = digits(&rest.as_bytes()[..kept])? * 10_u32.pow(9 - u32::try_from(kept).ok()?);
            (if length == 0 { return None } else { fraction }, &rest[length..])
        }
        None => (0, rest),
    };
    let zone = offset(rest.trim_start())?;
    let time = date.and_hms_nano_opt(hour, minute, second, nanos)?.and_utc();
    time.checked_sub_signed(chrono::TimeDelta::minutes(zone))
}

/// Minutes east of UTC.
fn offset(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first() {
        None | Some(b'Z' | b'z') if text.len() <= 1 => return Some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return None,
    };
    let plain: Vec<u8> = text.bytes().skip(1).filter(|byte| *byte != b':').collect();
    let (hours, minutes) = match plain.len() {
        2 => (digits(&plain)?, 0),
        4 => (digits(&plain[..2])?, digits(&plain[2..])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then(|| sign * (i64::from(hours) * 60 + i64::from(minutes)))
}
