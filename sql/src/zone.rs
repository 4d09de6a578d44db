//! Time zones and the instants that parameters name. Pure.
//! A value without an offset is wall-clock time in the call's zone; a date is its midnight there.

use chrono::{DateTime, Duration, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeZone, Utc};
use chrono_tz::Tz;

/// 1900-01-01 and 2200-01-01, in milliseconds: the instants that parameters can name. Every engine type can hold them.
pub(crate) const RANGE_MS: std::ops::Range<i64> = -2_208_988_800_000..7_258_118_400_000;

/// Days a report covers when the call names no period.
pub(crate) const DEFAULT_DAYS: i64 = 30;

/// An IANA name, as `Europe/Berlin` or `UTC`.
pub(crate) fn parse_zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

/// `YYYY-MM-DD`, `YYYY-MM-DD[ T]hh:mm[:ss[.fff]]`, or with `Z` or `±hh:mm` at the end.
pub(crate) fn parse_instant(text: &str, zone: Tz) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return wall_clock(date.and_time(NaiveTime::MIN), zone);
    }
    if let Some(naive) = parse_naive(text) {
        return wall_clock(naive, zone);
    }
    DateTime::parse_from_rfc3339(text).ok().map(|t| t.with_timezone(&Utc)).filter(in_range)
}

fn parse_naive(text: &str) -> Option<NaiveDateTime> {
    const FORMS: [&str; 4] = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"];
    FORMS.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
}

/// The first instant that shows this wall clock. A time that a clock change skips is the moment of the change.
fn wall_clock(naive: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    // The longest gap on record is a day (zones that crossed the date line).
    const GAP_MINUTES_MAX: i64 = 24 * 60;
    let found = (0..=GAP_MINUTES_MAX).step_by(15).find_map(|minutes| {
        let naive = naive.checked_add_signed(Duration::minutes(minutes))?;
        match zone.from_local_datetime(&naive) {
            LocalResult::Single(t) | LocalResult::Ambiguous(t, _) => Some((minutes, t.with_timezone(&Utc))),
            LocalResult::None => None,
        }
    });
    let instant = match found? {
        (0, instant) => instant,
        // Back to the change itself: the first instant at which the zone's offset is the later one.
        (minutes, instant) => (0..minutes * 60)
            .map(|back| instant - Duration::seconds(back))
            .take_while(|t| t.with_timezone(&zone).naive_local() >= naive)
            .last()
            .unwrap_or(instant),
    };
    Some(instant).filter(in_range)
}

fn in_range(instant: &DateTime<Utc>) -> bool {
    RANGE_MS.contains(&instant.timestamp_millis())
}

/// The form in which an instant is bound: RFC 3339, milliseconds, `Z`.
pub(crate) fn instant_text(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn offset_ms(zone: Tz, ms: i64) -> i64 {
    let at = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()) * 1_000
}

/// The stretches from `from` to `to` in which the zone's offset stays, with that offset in milliseconds.
pub(crate) fn steady(zone: Tz, from: i64, to: i64) -> Vec<(i64, i64, i64)> {
    // Two changes within a day are not on record.
    const STEP_MS: i64 = 12 * 3_600_000;
    let mut found = Vec::new();
    let (mut start, mut at, mut offset) = (from, from, offset_ms(zone, from));
    while at < to {
        let next = (at + STEP_MS).min(to);
        let there = offset_ms(zone, next);
        if there != offset {
            let (mut low, mut high) = (at, next);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if offset_ms(zone, middle) == offset { low = middle } else { high = middle }
            }
            found.push((start, high, offset));
            (start, offset) = (high, there);
        }
        at = next;
    }
    if start < to {
        found.push((start, to, offset));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, zone: &str) -> Option<String> {
        parse_instant(text, zone.parse().expect("a zone")).map(instant_text)
    }

    #[test]
    fn dates_are_midnight_in_the_zone() {
        assert_eq!(at("2024-05-01", "Europe/Berlin").as_deref(), Some("2024-04-30T22:00:00.000Z"));
        assert_eq!(at("2024-05-01 10:30", "UTC").as_deref(), Some("2024-05-01T10:30:00.000Z"));
        assert_eq!(at("2024-05-01T10:30:00.250", "Asia/Tokyo").as_deref(), Some("2024-05-01T01:30:00.250Z"));
        assert_eq!(at("2024-05-01T10:30:00+02:00", "Asia/Tokyo").as_deref(), Some("2024-05-01T08:30:00.000Z"));
    }

    #[test]
    fn clock_changes() {
        // 02:30 does not exist on that day in Berlin: clocks go from 02:00 to 03:00 at 01:00Z.
        assert_eq!(at("2024-03-31 02:30:00", "Europe/Berlin").as_deref(), Some("2024-03-31T01:00:00.000Z"));
        // 02:30 happens twice; the first counts.
        assert_eq!(at("2024-10-27 02:30:00", "Europe/Berlin").as_deref(), Some("2024-10-27T00:30:00.000Z"));
        // A zone whose midnight is skipped.
        assert_eq!(at("2018-11-04", "America/Sao_Paulo").as_deref(), Some("2018-11-04T03:00:00.000Z"));
    }

    #[test]
    fn nonsense_is_none() {
        for text in ["", "yesterday", "2024-13-01", "2024-05-01 25:00", "9999-01-01", "2024-05-01'; DROP"] {
            assert_eq!(at(text, "UTC"), None, "{text}");
        }
    }
}
