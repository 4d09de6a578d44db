//! Instants and dates that a caller gives.

use super::{FieldFault, FieldResult};
use ingest::time::Timestamp;

/// The earliest instant that a caller may give, 1970: what is earlier is a program's word for none (year 1, 1601, 1899).
pub const TIME_MIN: Timestamp = Timestamp(0);
/// The latest, the end of 2099: what is later is a program's word for never (9999-12-31). Every function of time and every
/// report can hold what lies between, in nanoseconds and in all zones.
pub const TIME_MAX: Timestamp = Timestamp(4_102_444_799_999);
/// Longer than any form of a time.
const TIME_BYTES_MAX: usize = 64;

/// An instant: RFC 3339 with `Z` or an offset, in letters of either case, `T` or a space between; fractions beyond
/// milliseconds are cut, and a second 60 is the next one's start. From 1970 to 2099.
///
/// # Errors
/// `invalid_time`, `time_without_zone`, `time_out_of_range`.
pub fn time(field: &str, text: &str) -> FieldResult<Timestamp> {
    let at = Some(text).filter(|text| text.len() <= TIME_BYTES_MAX).ok_or_else(|| invalid_time(field))?;
    match Timestamp::parse_rfc3339(at) {
        Some(at) => in_range(field, at),
        None if Timestamp::parse_rfc3339(&format!("{at}Z")).is_some() => {
            let detail = format!("'{field}' has no zone: an RFC 3339 time ends in Z or an offset, as +02:00");
            Err(FieldFault::new(field, "time_without_zone", detail))
        }
        None => Err(invalid_time(field)),
    }
}

fn invalid_time(field: &str) -> FieldFault {
    let detail = format!("'{field}' is an RFC 3339 time, for example 2026-01-31T09:00:00Z");
    FieldFault::new(field, "invalid_time", detail)
}

fn in_range(field: &str, at: Timestamp) -> FieldResult<Timestamp> {
    if (TIME_MIN..=TIME_MAX).contains(&at) {
        return Ok(at);
    }
    Err(FieldFault::new(field, "time_out_of_range", format!("'{field}' is from 1970 to 2099")))
}

/// A date, `YYYY-MM-DD`, from 1970 to 2099.
///
/// # Errors
/// `invalid_date`, `time_out_of_range`.
pub(super) fn date(field: &str, text: &str) -> FieldResult<()> {
    let start = Some(text).filter(|text| text.len() == 10);
    let start = start.and_then(|date| Timestamp::parse_rfc3339(&format!("{date}T00:00:00Z")));
    let start =
        start.ok_or_else(|| FieldFault::new(field, "invalid_date", format!("'{field}' has dates as YYYY-MM-DD")))?;
    in_range(field, start).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_zone_and_a_range() {
        for (text, at) in [
            ("2020-05-12T19:44:40.5+02:00", "2020-05-12T17:44:40.500Z"),
            ("2020-05-12t17:44:40z", "2020-05-12T17:44:40.000Z"),
            ("2020-05-12 17:44:40.123456789-00:00", "2020-05-12T17:44:40.123Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
            ("2099-12-31T23:59:59.999Z", "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(time("at", text).expect(text).to_string(), at, "{text}");
        }
        for (code, texts) in [
            ("time_without_zone", &["2020-05-12T17:44:40", "2020-05-12 17:44:40.5"][..]),
            (
                "invalid_time",
                &["", "yesterday", "2020-05-12", "1589305480", "2020-05-12T25:00:00Z", "2020-02-30T10:00:00Z"],
            ),
            ("invalid_time", &["+12020-05-12T17:44:40Z", "2020-05-12T17:44Z", "2020-05-12T17:44:40 Europe/Berlin"]),
            ("time_out_of_range", &["0001-01-01T00:00:00Z", "1601-01-01T00:00:00Z", "1899-12-30T00:00:00Z"]),
            ("time_out_of_range", &["1970-01-01T00:59:59+01:00", "2100-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]),
        ] {
            for text in texts {
                assert_eq!(time("at", text).expect_err(text).code, code, "{text}");
            }
        }
        assert_eq!(time("at", &"2".repeat(1_000_000)).expect_err("long").code, "invalid_time");
    }

    #[test]
    fn dates_have_a_form_and_a_range() {
        assert!(date("d", "2024-02-29").is_ok());
        for (text, code) in
            [("2023-02-29", "invalid_date"), ("2024-2-9", "invalid_date"), ("9999-12-31", "time_out_of_range")]
        {
            assert_eq!(date("d", text).expect_err(text).code, code);
        }
    }
}
