//! Business hours: `business_seconds(start, end)`, the part of a span that lies inside the tenant's opening hours and
//! outside its holidays.
//!
//! Opening hours are wall-clock stretches of weekdays, so the real time they cover is cut at every clock change: an hour
//! that happens twice counts twice, one that is skipped doesn't count. [`Calendar`] is pure; [`Clock`] is the function of one
//! call. A plan that other calls may run holds a function without hours ([`unbound`]); each call puts in its own ([`bound`]).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{AsArray, Float64Array};
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};
use chrono::{DateTime, Datelike, NaiveDate};
use chrono_tz::Tz;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::FunctionRegistry as _;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use crate::catalog::{TablesError, TenantTables};
use crate::error::fault;
use crate::zone;

const NAME: &str = "business_seconds";
const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: u32 = 24 * 60;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// When a tenant answers; the default is always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    /// By weekday, from Monday: minutes since midnight, sorted and apart; empty on all days is always.
    stretches: [Vec<(u32, u32)>; 7],
    holidays: BTreeSet<NaiveDate>,
}

impl Opening {
    /// Opens a weekday (0 is Monday) from one minute of the day (below 1,440) to another (at most 1,440), of the next day unless it
    /// is later. What is added again counts once. The part after midnight is the next day's, and its holiday's.
    pub fn add(&mut self, weekday: usize, from_minute: u32, to_minute: u32) {
        if from_minute >= DAY_MINUTES {
            return;
        }
        if to_minute > from_minute {
            return self.add_to_day(weekday, from_minute, to_minute.min(DAY_MINUTES));
        }
        self.add_to_day(weekday, from_minute, DAY_MINUTES);
        if to_minute > 0 {
            self.add_to_day((weekday + 1) % 7, 0, to_minute);
        }
    }

    fn add_to_day(&mut self, weekday: usize, from_minute: u32, to_minute: u32) {
        let Some(day) = self.stretches.get_mut(weekday) else { return };
        day.push((from_minute, to_minute));
        day.sort_unstable();
        day.dedup_by(|later, earlier| {
            let joined = later.0 <= earlier.1;
            if joined {
                earlier.1 = earlier.1.max(later.1);
            }
            joined
        });
    }

    /// Closes a day, `YYYY-MM-DD`; false when it is none.
    pub fn close(&mut self, date: &str) -> bool {
        let date = NaiveDate::parse_from_str(date, "%Y-%m-%d");
        date.map(|date| self.holidays.insert(date)).is_ok()
    }

    fn is_always(&self) -> bool {
        self.stretches.iter().all(Vec::is_empty)
    }

    /// The stretches of a date, in minutes since its midnight.
    fn of(&self, date: NaiveDate) -> &[(u32, u32)] {
        const WHOLE_DAY: &[(u32, u32)] = &[(0, 24 * 60)];
        if self.holidays.contains(&date) {
            return &[];
        }
        if self.is_always() { WHOLE_DAY } else { &self.stretches[date.weekday().num_days_from_monday() as usize] }
    }
}

/// Open stretches of real time, from one instant to another, with the sum of those before each.
#[derive(Debug)]
struct Calendar {
    /// Milliseconds since 1970 that it covers.
    from: i64,
    to: i64,
    /// Sorted, apart: (from, to, open milliseconds before it).
    open: Vec<(i64, i64, i64)>,
}

impl Calendar {
    fn new(opening: &Opening, zone: Tz, from: i64, to: i64) -> Self {
        let mut open: Vec<(i64, i64, i64)> = Vec::new();
        let mut sum = 0;
        for (start, end, offset_ms) in zone::steady(zone, from, to) {
            // Wall-clock time as if it were UTC, so that arithmetic is plain.
            let (local_start, local_end) = (start + offset_ms, end + offset_ms);
            let mut midnight = local_start.div_euclid(DAY_MS) * DAY_MS;
            while midnight < local_end {
                let date = date_of(midnight);
                for (from, to) in date.map_or(&[][..], |date| opening.of(date)) {
                    let lower = (midnight + i64::from(*from) * MINUTE_MS).max(local_start) - offset_ms;
                    let upper = (midnight + i64::from(*to) * MINUTE_MS).min(local_end) - offset_ms;
                    if lower < upper {
                        open.push((lower, upper, sum));
                        sum += upper - lower;
                    }
                }
                midnight += DAY_MS;
            }
        }
        Self { from, to, open }
    }

    /// Open milliseconds before `at`, from the calendar's beginning on.
    fn before(&self, at: i64) -> i64 {
        let next = self.open.partition_point(|(from, _, _)| *from <= at);
        match next.checked_sub(1).map(|last| self.open[last]) {
            Some((from, to, sum)) => sum + at.min(to) - from,
            None => 0,
        }
    }
}

fn date_of(ms: i64) -> Option<NaiveDate> {
    DateTime::from_timestamp_millis(ms).map(|at| at.date_naive())
}

/// The business hours of one call.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Inner>);

struct Inner {
    source: Arc<dyn TenantTables>,
    tenant: Arc<str>,
    zone: Tz,
    /// Read when a statement first asks.
    opening: OnceLock<Opening>,
    /// Grows to what was asked for.
    calendar: Mutex<Option<Arc<Calendar>>>,
}

impl Clock {
    /// Of a tenant whose days are those of `zone`; nothing is read yet.
    pub(crate) fn new(source: &Arc<dyn TenantTables>, tenant: &Arc<str>, zone: &str) -> Self {
        Self(Arc::new(Inner {
            source: Arc::clone(source),
            tenant: Arc::clone(tenant),
            zone: zone::parse_zone(zone).unwrap_or(Tz::UTC),
            opening: OnceLock::new(),
            calendar: Mutex::default(),
        }))
    }

    /// `business_seconds(start, end)`. The hours are part of the function: each call has its own, and an answer is kept under
    /// the tenant's version, which changes with its settings.
    pub(crate) fn function(self) -> ScalarUDF {
        function(Some(self))
    }

    /// A calendar that covers the span.
    fn covering(&self, from: i64, to: i64) -> Result<Arc<Calendar>, TablesError> {
        let mut held = self.0.calendar.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, to) = match held.as_ref() {
            Some(held) if held.from <= from && to <= held.to => return Ok(Arc::clone(held)),
            Some(held) => (from.min(held.from), to.max(held.to)),
            None => (from, to),
        };
        let opening = match self.0.opening.get() {
            Some(opening) => opening,
            None => {
                let read = self.0.source.opening(&self.0.tenant)?;
                self.0.opening.get_or_init(|| read)
            }
        };
        // Whole days, so that the next batch rarely asks for a little more.
        let (from, to) = (from.div_euclid(DAY_MS) * DAY_MS, (to.div_euclid(DAY_MS) + 1) * DAY_MS);
        Ok(Arc::clone(held.insert(Arc::new(Calendar::new(opening, self.0.zone, from, to)))))
    }
}

fn function(clock: Option<Clock>) -> ScalarUDF {
    let signature = Signature::new(TypeSignature::UserDefined, Volatility::Immutable);
    ScalarUDF::new_from_impl(BusinessSeconds { clock, signature })
}

/// Whether it is `business_seconds`, of whatever call.
pub(crate) fn is_hours(function: &ScalarUDF) -> bool {
    function.inner().is::<BusinessSeconds>()
}

/// The plan without any call's hours, for a plan that others may run: nothing can be computed from them before
/// [`bound`].
/// # Errors  The plan can't be walked.
pub(crate) fn unbound(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    with(plan, &Arc::new(function(None)))
}

/// The plan with the hours of a call, whose session has them.
/// # Errors  The session has none.
pub(crate) fn bound(plan: LogicalPlan, state: &SessionState) -> DfResult<LogicalPlan> {
    with(plan, &state.udf(NAME)?)
}

/// The plan, each call of the function one of `function`.
fn with(plan: LogicalPlan, function: &Arc<ScalarUDF>) -> DfResult<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|part| match part {
                Expr::ScalarFunction(call) if is_hours(&call.func) => {
                    let func = Arc::clone(function);
                    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, ..call })))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })
    .data()
}

struct BusinessSeconds {
    /// `None` in a plan that is no call's.
    clock: Option<Clock>,
    signature: Signature,
}

impl BusinessSeconds {
    fn of(&self) -> Option<*const Inner> {
        self.clock.as_ref().map(|clock| Arc::as_ptr(&clock.0))
    }
}

impl std::fmt::Debug for BusinessSeconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("business_seconds")
    }
}

// A call has one clock.
impl PartialEq for BusinessSeconds {
    fn eq(&self, other: &Self) -> bool {
        self.of() == other.of()
    }
}

impl Eq for BusinessSeconds {}

impl std::hash::Hash for BusinessSeconds {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.of().hash(state);
    }
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

impl ScalarUDFImpl for BusinessSeconds {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        match given {
            [DataType::Timestamp(..) | DataType::Null, DataType::Timestamp(..) | DataType::Null] => {
                Ok(vec![instant(), instant()])
            }
            _ => Err(DataFusionError::Plan("business_seconds takes two timestamps: the start and the end".to_owned())),
        }
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (starts, ends) = (
            arrays[0].as_primitive::<TimestampMillisecondType>(),
            arrays[1].as_primitive::<TimestampMillisecondType>(),
        );
        // Outside, nothing says when clocks change.
        let inside = |at: Option<i64>| at.filter(|at| zone::RANGE_MS.contains(at));
        let spans = || starts.iter().zip(ends.iter()).map(|(start, end)| Some((inside(start)?, inside(end)?)));
        let Some(first) = spans().flatten().map(|(start, end)| start.min(end)).min() else {
            return Ok(ColumnarValue::Array(Arc::new(Float64Array::new_null(starts.len()))));
        };
        let last = spans().flatten().map(|(start, end)| start.max(end)).max().unwrap_or(first);
        let unbound = || fault("business hours were asked for outside a call");
        let clock = self.clock.as_ref().ok_or_else(unbound)?;
        let calendar = clock.covering(first, last).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let seconds = spans().map(|span| {
            let (start, end) = span?;
            let open_ms = calendar.before(end) - calendar.before(start);
            // An end before its start is a negative span, as in subtraction.
            Some(open_ms as f64 / 1_000.0)
        });
        Ok(ColumnarValue::Array(Arc::new(seconds.collect::<Float64Array>())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Days, Timelike};
    use proptest::prelude::*;

    const ZONES: [&str; 6] =
        ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo"];

    fn seconds(opening: &Opening, zone: &str, start: &str, end: &str) -> i64 {
        let zone = zone.parse().expect("a zone");
        let at = |text: &str| DateTime::parse_from_rfc3339(text).expect("an instant").timestamp_millis();
        let calendar = Calendar::new(opening, zone, at(start), at(end));
        (calendar.before(at(end)) - calendar.before(at(start))) / 1_000
    }

    fn weekdays(from: u32, to: u32) -> Opening {
        let mut opening = Opening::default();
        (0..5).for_each(|day| opening.add(day, from * 60, to * 60));
        opening
    }

    #[test]
    fn a_weekend_between_two_days() {
        // Friday 16:00 to Monday 10:00 in Berlin (summer: UTC+2): an hour of Friday, an hour of Monday.
        let open = weekdays(9, 17);
        assert_eq!(seconds(&open, "Europe/Berlin", "2024-05-31T14:00:00Z", "2024-06-03T08:00:00Z"), 2 * 3_600);
    }

    #[test]
    fn a_holiday_counts_nothing() {
        let mut open = weekdays(9, 17);
        assert!(open.close("2024-06-03"));
        assert!(!open.close("Monday"));
        assert_eq!(seconds(&open, "Europe/Berlin", "2024-05-31T14:00:00Z", "2024-06-03T08:00:00Z"), 3_600);
    }

    /// Open around the clock: the day of the change has 23 or 25 hours; a night shift sees the hour go and come.
    #[test]
    fn clock_changes() {
        let always = Opening::default();
        assert_eq!(seconds(&always, "Europe/Berlin", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"), 23 * 3_600);
        let mut night = Opening::default();
        night.add(6, 60, 4 * 60);
        // 01:00 to 04:00 on the Sunday that skips 02:00 to 03:00, and on the one that has it twice.
        assert_eq!(seconds(&night, "Europe/Berlin", "2024-03-30T12:00:00Z", "2024-03-31T12:00:00Z"), 2 * 3_600);
        assert_eq!(seconds(&night, "Europe/Berlin", "2024-10-26T12:00:00Z", "2024-10-27T12:00:00Z"), 4 * 3_600);
    }

    #[test]
    fn stretches_that_touch_are_one() {
        let mut open = Opening::default();
        open.add(0, 600, 720);
        open.add(0, 540, 630);
        open.add(0, 720, 5_000);
        open.add(0, 1_440, 1_440);
        assert_eq!(open.stretches[0], [(540, 1_440)]);
        assert!(open.stretches[1].is_empty());
    }

    /// From Saturday to Monday: a night is one entry, Sunday's goes into Monday, and what overlaps counts once.
    #[test]
    fn nights_go_on_after_midnight() {
        let mut open = Opening::default();
        open.add(6, 22 * 60, 6 * 60);
        assert_eq!(
            (open.stretches[6].as_slice(), open.stretches[0].as_slice()),
            (&[(1_320, 1_440)][..], &[(0, 360)][..])
        );
        let berlin = |open: &Opening, from: &str, to: &str| seconds(open, "Europe/Berlin", from, to);
        // Sunday 2024-06-02 12:00 to Monday 12:00 there.
        assert_eq!(berlin(&open, "2024-06-02T10:00:00Z", "2024-06-03T10:00:00Z"), 8 * 3_600);
        open.add(0, 5 * 60, 9 * 60);
        assert_eq!(berlin(&open, "2024-06-02T10:00:00Z", "2024-06-03T10:00:00Z"), 11 * 3_600);
        // Monday is a holiday: its part of the night is closed, Sunday's isn't.
        assert!(open.close("2024-06-03"));
        assert_eq!(berlin(&open, "2024-06-02T10:00:00Z", "2024-06-03T10:00:00Z"), 2 * 3_600);
        let mut round = Opening::default();
        round.add(2, 540, 540);
        assert_eq!(
            (round.stretches[2].as_slice(), round.stretches[3].as_slice()),
            (&[(540, 1_440)][..], &[(0, 540)][..])
        );
        // The nights of Saturdays on which clocks change: 22:00 to 06:00 has 7 hours, then 9.
        let mut saturday = Opening::default();
        saturday.add(5, 22 * 60, 6 * 60);
        assert_eq!(berlin(&saturday, "2024-03-30T12:00:00Z", "2024-03-31T12:00:00Z"), 7 * 3_600);
        assert_eq!(berlin(&saturday, "2024-10-26T12:00:00Z", "2024-10-27T12:00:00Z"), 9 * 3_600);
    }

    /// A weekday and two minutes, as settings have them.
    type Entry = (usize, u32, u32);

    /// Minute by minute: the wall clock of each says whether the tenant is open, by an entry of its day or of the day before.
    fn slowly(entries: &[Entry], holidays: &BTreeSet<NaiveDate>, zone: Tz, from_minute: i64, to_minute: i64) -> i64 {
        (from_minute..to_minute)
            .filter(|minute| {
                let local = DateTime::from_timestamp(minute * 60, 0).expect("in range").with_timezone(&zone);
                let (of_day, date) = (local.hour() * 60 + local.minute(), local.date_naive());
                let weekday = date.weekday().num_days_from_monday() as usize;
                let open = entries.iter().any(|&(day, from, to)| {
                    if from < to {
                        day == weekday && (from..to).contains(&of_day)
                    } else {
                        (day == weekday && of_day >= from) || ((day + 1) % 7 == weekday && of_day < to)
                    }
                });
                (entries.is_empty() || open) && !holidays.contains(&date)
            })
            .count() as i64
            * 60
    }

    fn entries() -> impl Strategy<Value = (Vec<Entry>, BTreeSet<NaiveDate>)> {
        let entry = (0..7_usize, 0..1_440_u32, 0..1_441_u32);
        (prop::collection::vec(entry, 0..9), prop::collection::vec(0..400_u64, 0..6)).prop_map(|(entries, off)| {
            let first = NaiveDate::from_ymd_opt(2024, 1, 1).expect("a date");
            (entries, off.into_iter().filter_map(|day| first.checked_add_days(Days::new(day))).collect())
        })
    }

    proptest! {
        /// Around both clock changes of a year, in zones with whole, half and no changes, north and south.
        #[test]
        fn as_a_slow_count_says(
            (entries, holidays) in entries(), zone in 0..ZONES.len(), around in 0..3_usize, from in 0..8_000_i64, length in 0..9_000_i64,
        ) {
            let zone: Tz = ZONES[zone].parse().expect("a zone");
            // 2024-03-29, 2024-10-01 and 2018-11-01, in minutes: the last one when midnight was skipped in São Paulo.
            let from = [28_527_840, 28_795_680, 25_684_320][around] + from;
            let to = from + length;
            let mut opening = Opening { holidays: holidays.clone(), ..Opening::default() };
            entries.iter().for_each(|&(day, from, to)| opening.add(day, from, to));
            // The calendar begins somewhere before and ends after, as for a batch of spans.
            let calendar = Calendar::new(&opening, zone, (from - 777) * MINUTE_MS, (to + 555) * MINUTE_MS);
            let fast = (calendar.before(to * MINUTE_MS) - calendar.before(from * MINUTE_MS)) / 1_000;
            prop_assert_eq!(fast, slowly(&entries, &holidays, zone, from, to));
        }
    }
}
