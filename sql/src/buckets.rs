//! Periods in pieces: minutes, hours, days, weeks (from Monday) and months of a zone's wall clock.
//!
//! `first_day(unit, date)` gives the day that begins a date's week or month; `bucket_starts(unit, start, end, zone)` the instants at
//! which the pieces of a period begin, for charts that show those without facts too. An hour that a clock change skips has
//! no piece, one that it repeats has one. Its arguments are constants: a column of them would make a list a row. Pure.
//! Start at [`Unit::starts`].

use std::sync::Arc;

use arrow::array::{AsArray, Date32Array, ListArray, TimestampMillisecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, TimeUnit};
use chrono::{DateTime, Datelike, Months, NaiveDate};
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use crate::zone;

/// Pieces of a period that are listed at most, and days that it may have: two years of hours, 54 of days, weeks or months. Each
/// is a row of a report, and each half day a look at the zone.
pub const BUCKETS_MAX: i64 = 20_000;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// 1970-01-01 was a Thursday.
const MONDAY: i64 = -3;

/// What a period is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Unit {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

impl Unit {
    /// By the name that reports' parameters have.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "minute" => Some(Self::Minute),
            "hour" => Some(Self::Hour),
            "day" => Some(Self::Day),
            "week" => Some(Self::Week),
            "month" => Some(Self::Month),
            _ => None,
        }
    }

    /// Whether the pieces between two instants, in milliseconds, are few enough to be listed.
    pub(crate) fn fits(self, from_ms: i64, to_ms: i64) -> bool {
        let shortest = match self {
            Self::Minute => MINUTE_MS,
            Self::Hour => 60 * MINUTE_MS,
            Self::Day | Self::Week | Self::Month => DAY_MS,
        };
        zone::RANGE_MS.contains(&from_ms)
            && zone::RANGE_MS.contains(&to_ms)
            && to_ms.saturating_sub(from_ms) / shortest <= BUCKETS_MAX
    }

    /// The beginning of the piece that holds a wall-clock time, both in milliseconds as if they were UTC.
    fn floor(self, local_ms: i64) -> Option<i64> {
        let to = |unit: i64| Some(local_ms.div_euclid(unit) * unit);
        match self {
            Self::Minute => to(MINUTE_MS),
            Self::Hour => to(60 * MINUTE_MS),
            Self::Day => to(DAY_MS),
            Self::Week | Self::Month => {
                let day = i32::try_from(local_ms.div_euclid(DAY_MS)).ok()?;
                self.first_day(day).map(|day| i64::from(day) * DAY_MS)
            }
        }
    }

    /// The beginning of the piece after the one that begins at `local_ms`.
    fn next(self, local_ms: i64) -> Option<i64> {
        match self {
            Self::Minute => local_ms.checked_add(MINUTE_MS),
            Self::Hour => local_ms.checked_add(60 * MINUTE_MS),
            Self::Day => local_ms.checked_add(DAY_MS),
            Self::Week => local_ms.checked_add(7 * DAY_MS),
            Self::Month => {
                let first = DateTime::from_timestamp_millis(local_ms)?.date_naive();
                let next = first.checked_add_months(Months::new(1))?.and_hms_opt(0, 0, 0)?;
                Some(next.and_utc().timestamp_millis())
            }
        }
    }

    /// The first day of a day's week or month, in days since 1970; of other units the day itself. `None` for a day that no
    /// calendar has.
    fn first_day(self, day: i32) -> Option<i32> {
        match self {
            Self::Minute | Self::Hour | Self::Day => Some(day),
            Self::Week => day.checked_sub(i32::try_from((i64::from(day) - MONDAY).rem_euclid(7)).ok()?),
            Self::Month => {
                // 719,163 days lie between the first day that chrono counts from and 1970.
                let date = NaiveDate::from_num_days_from_ce_opt(day.checked_add(719_163)?)?;
                day.checked_sub(i32::try_from(date.day0()).ok()?)
            }
        }
    }

    /// The first instant of each piece that a period touches, `from_ms` for the one that it begins in. At most
    /// [`BUCKETS_MAX`] and the zone's clock changes, for a period that [`fits`](Self::fits).
    pub(crate) fn starts(self, zone: Tz, from_ms: i64, to_ms: i64) -> Vec<i64> {
        let mut starts = Vec::new();
        let mut listed = i64::MIN;
        for (start, end, offset) in zone::steady(zone, from_ms, to_ms) {
            let mut piece = self.floor(start + offset);
            while let Some(local) = piece.filter(|local| local - offset < end) {
                // Clocks that go back show a piece again.
                if local > listed {
                    starts.push((local - offset).max(start));
                    listed = local;
                }
                piece = self.next(local);
            }
        }
        starts
    }
}

/// Both functions.
pub(crate) fn functions() -> [ScalarUDF; 2] {
    let user_defined = || Signature::new(TypeSignature::UserDefined, Volatility::Immutable);
    [
        ScalarUDF::new_from_impl(FirstDay { signature: user_defined() }),
        ScalarUDF::new_from_impl(BucketStarts { signature: user_defined() }),
    ]
}

fn wrong(text: &str) -> DataFusionError {
    DataFusionError::Execution(text.to_owned())
}

fn unit_of(value: &ColumnarValue) -> DfResult<Unit> {
    let ColumnarValue::Scalar(value) = value else {
        return Err(wrong("the unit is a constant: minute, hour, day, week or month"));
    };
    value
        .try_as_str()
        .flatten()
        .and_then(Unit::parse)
        .ok_or_else(|| wrong("the unit is one of minute, hour, day, week and month"))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FirstDay {
    signature: Signature,
}

impl ScalarUDFImpl for FirstDay {
    fn name(&self) -> &'static str {
        "first_day"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        match given {
            [unit, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) | DataType::Null] if is_text(unit) => {
                Ok(vec![DataType::Utf8, DataType::Date32])
            }
            _ => Err(DataFusionError::Plan("first_day takes a unit and a date: first_day('week', day)".to_owned())),
        }
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Date32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let unit = unit_of(&args.args[0])?;
        let days = args.args[1].to_array(args.number_rows)?;
        let days = days.as_primitive::<Date32Type>();
        let first: Date32Array = days.unary_opt(|day| unit.first_day(day));
        Ok(ColumnarValue::Array(Arc::new(first)))
    }
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn instants() -> FieldRef {
    Arc::new(Field::new_list_field(instant(), true))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BucketStarts {
    signature: Signature,
}

impl ScalarUDFImpl for BucketStarts {
    fn name(&self) -> &'static str {
        "bucket_starts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        match given {
            [unit, DataType::Timestamp(..), DataType::Timestamp(..), zone] if is_text(unit) && is_text(zone) => {
                Ok(vec![DataType::Utf8, instant(), instant(), DataType::Utf8])
            }
            _ => Err(DataFusionError::Plan(
                "bucket_starts takes a unit, two timestamps and a time zone: the start, the end".to_owned(),
            )),
        }
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::List(instants()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = |place: usize| match &args.args[place] {
            ColumnarValue::Scalar(value) => Ok(value),
            ColumnarValue::Array(_) => Err(wrong("bucket_starts takes constants, no columns")),
        };
        let unit = unit_of(&args.args[0])?;
        let ends = [1, 2].map(|place| match constant(place)? {
            ScalarValue::TimestampMillisecond(Some(at), _) => Ok(*at),
            _ => Err(wrong("bucket_starts takes two timestamps, none of them NULL")),
        });
        let [from, to] = ends;
        let (from, to) = (from?, to?);
        let zone = constant(3)?.try_as_str().flatten().and_then(zone::parse_zone);
        let zone = zone.ok_or_else(|| wrong("bucket_starts takes a time zone of the IANA list"))?;
        if !unit.fits(from, to) {
            return Err(wrong(&format!(
                "bucket_starts lists at most {BUCKETS_MAX} buckets of at most {BUCKETS_MAX} days, from 1900 to 2199"
            )));
        }
        let starts = TimestampMillisecondArray::from(unit.starts(zone, from, to)).with_timezone("UTC");
        let list = ListArray::try_new(instants(), OffsetBuffer::from_lengths([starts.len()]), Arc::new(starts), None)?;
        Ok(ColumnarValue::Scalar(ScalarValue::List(Arc::new(list))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{NaiveDateTime, Timelike, Weekday};
    use proptest::prelude::*;

    const UNITS: [Unit; 5] = [Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month];

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).expect("an instant").timestamp_millis()
    }

    fn count(unit: Unit, zone: &str, from: &str, to: &str) -> usize {
        unit.starts(zone.parse().expect("a zone"), at(from), at(to)).len()
    }

    /// The wall clock's beginning of the piece, by the calendar's own words.
    fn slow_floor(unit: Unit, local: NaiveDateTime) -> NaiveDateTime {
        let date = local.date();
        let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0).expect("midnight");
        match unit {
            Unit::Minute => date.and_hms_opt(local.hour(), local.minute(), 0).expect("a minute"),
            Unit::Hour => date.and_hms_opt(local.hour(), 0, 0).expect("an hour"),
            Unit::Day => midnight(date),
            Unit::Week => midnight(date.week(Weekday::Mon).first_day()),
            Unit::Month => midnight(date.with_day(1).expect("a first")),
        }
    }

    #[test]
    fn days_of_clock_changes() {
        let spring = ("2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z");
        assert_eq!(count(Unit::Hour, "Europe/Berlin", spring.0, spring.1), 23);
        assert_eq!(count(Unit::Day, "Europe/Berlin", spring.0, spring.1), 1);
        let autumn = ("2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z");
        // The hour that comes twice is one bucket.
        assert_eq!(count(Unit::Hour, "Europe/Berlin", autumn.0, autumn.1), 24);
        // From 29 December to 2 January; Apia had no 30th.
        assert_eq!(count(Unit::Day, "Pacific/Apia", "2011-12-29T12:00:00Z", "2012-01-01T12:00:00Z"), 4);
    }

    #[test]
    fn what_is_too_long_does_not_fit() {
        let fits = |unit: Unit, from: &str, to: &str| unit.fits(at(from), at(to));
        assert!(fits(Unit::Minute, "2024-01-01T00:00:00Z", "2024-01-14T00:00:00Z"));
        assert!(!fits(Unit::Minute, "2014-01-01T00:00:00Z", "2024-01-01T00:00:00Z"));
        assert!(fits(Unit::Week, "1980-01-01T00:00:00Z", "2030-01-01T00:00:00Z"));
        assert!(!fits(Unit::Month, "1900-01-01T00:00:00Z", "2100-01-01T00:00:00Z"));
        assert!(!Unit::Day.fits(i64::MIN, i64::MAX));
    }

    #[test]
    fn first_days_of_odd_years() {
        let day = |text: &str| {
            let since = text.parse::<NaiveDate>().expect("a date") - NaiveDate::default();
            i32::try_from(since.num_days()).expect("near")
        };
        for (unit, date, first) in [
            (Unit::Week, "2024-05-26", "2024-05-20"),
            (Unit::Week, "1969-12-31", "1969-12-29"),
            (Unit::Month, "0001-01-31", "0001-01-01"),
            (Unit::Month, "9999-12-31", "9999-12-01"),
        ] {
            assert_eq!(unit.first_day(day(date)), Some(day(first)), "{date}");
        }
        assert_eq!(Unit::Month.first_day(i32::MAX), None);
        assert_eq!(Unit::Week.first_day(i32::MIN), None);
    }

    proptest! {
        /// As asking the wall clock each minute would find them.
        #[test]
        fn as_a_slow_look_finds_them(
            unit in prop::sample::select(UNITS.to_vec()),
            zone in prop::sample::select(vec![
                "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "UTC",
            ]),
            around in prop::sample::select(vec!["2024-03-28", "2018-11-01", "2011-12-27", "2024-10-05", "2024-10-25"]),
            from in 0_i64..4_000, length in 0_i64..9_000,
        ) {
            let zone: Tz = zone.parse().expect("a zone");
            let from = at(&format!("{around}T00:00:00Z")) / MINUTE_MS + from;
            let mut seen = std::collections::HashSet::new();
            let slow: Vec<i64> = (from..from + length)
                .filter(|minute| {
                    let at = DateTime::from_timestamp(minute * 60, 0).expect("near");
                    seen.insert(slow_floor(unit, at.with_timezone(&zone).naive_local()))
                })
                .map(|minute| minute * MINUTE_MS)
                .collect();
            prop_assert_eq!(unit.starts(zone, from * MINUTE_MS, (from + length) * MINUTE_MS), slow);
        }
    }
}
