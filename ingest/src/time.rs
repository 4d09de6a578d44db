//! Instants as milliseconds since the Unix epoch, written as RFC 3339 UTC with milliseconds.
//!
//! The system's clock can be set, by an operator, by NTP, by a machine that wakes up. Everyone here asks [`Timestamp::now`],
//! and there a jump counts only when it has stood for [`CONFIRM_MS`]: a clock that says 2099 for a moment ends no token and
//! no conversation, and no event says so. Until then time goes on as before, by the clock that nobody sets. A machine that
//! slept has not jumped: its sleep is added to that clock ([`Moment::up_ms`]).

use crate::id::text_of;
use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

/// Small steps are followed at once: NTP's, and a reader's that was interrupted between two clocks.
const STEP_MS: i64 = 5_000;
/// A jump counts after it has stood for so long.
pub const CONFIRM_MS: i64 = 5 * 60 * 1_000;
/// No clock was read yet.
const UNREAD: i64 = i64::MIN;

/// An instant; milliseconds since 1970-01-01T00:00:00Z. In the log it's the integer, in the API RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The system clock, without jumps that have not stood yet. Not for the pure core: time arrives in the command.
    #[must_use]
    pub fn now() -> Self {
        Moment::now().wall
    }

    /// Reads RFC 3339 with any offset; fractions beyond milliseconds are cut. `None` for anything else.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        DateTime::parse_from_rfc3339(text).ok().map(|at| Self(at.timestamp_millis()))
    }

    /// Milliseconds from `earlier` to `self`; negative when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant moved by `milliseconds`.
    #[must_use]
    pub fn plus_ms(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

/// The time, by the clock that can be set and by the one that can't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since this process first looked, the machine's sleep included; goes on evenly.
    pub up_ms: i64,
    /// What [`Timestamp::now`] gives.
    pub wall: Timestamp,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        static CLOCK: GuardedClock = GuardedClock::new();
        CLOCK.now(&SystemClocks)
    }

    /// This moment, so many milliseconds later by both clocks.
    #[must_use]
    pub fn plus_ms(self, milliseconds: i64) -> Self {
        Self { up_ms: self.up_ms.saturating_add(milliseconds), wall: self.wall.plus_ms(milliseconds) }
    }
}

/// What a machine has of clocks.
trait Clocks {
    /// Milliseconds awake, by a clock that nobody sets, and milliseconds since 1970 as that clock is set.
    fn read(&self) -> (i64, i64);

    /// Milliseconds that the machine has slept since the first look. May read a file.
    fn slept_ms(&self) -> i64;
}

struct SystemClocks;

/// The first look: when it was, and for how long the machine had been up.
static FIRST_LOOK: LazyLock<(Instant, i64)> = LazyLock::new(|| (Instant::now(), machine_up_ms().unwrap_or(0)));

/// Linux counts sleep here, unlike in [`Instant`].
fn machine_up_ms() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    Some(seconds.parse::<i64>().ok()? * 1_000 + hundredths.parse::<i64>().ok()? * 10)
}

impl Clocks for SystemClocks {
    fn read(&self) -> (i64, i64) {
        let awake_ms = FIRST_LOOK.0.elapsed().as_millis();
        (i64::try_from(awake_ms).unwrap_or(i64::MAX), Utc::now().timestamp_millis())
    }

    fn slept_ms(&self) -> i64 {
        let Some(up_ms) = machine_up_ms() else { return 0 };
        up_ms - FIRST_LOOK.1 - self.read().0
    }
}

/// What the wall clock says more than the one that nobody sets; a jump is a change of that.
struct GuardedClock {
    trusted: AtomicI64,
    slept_ms: AtomicI64,
    doubts: AtomicBool,
    doubt: Mutex<Option<Doubt>>,
}

/// A jump that has not stood for long enough yet.
#[derive(Clone, Copy)]
struct Doubt {
    since_up_ms: i64,
    ahead: i64,
}

impl GuardedClock {
    const fn new() -> Self {
        let (trusted, slept_ms) = (AtomicI64::new(UNREAD), AtomicI64::new(0));
        Self { trusted, slept_ms, doubts: AtomicBool::new(false), doubt: Mutex::new(None) }
    }

    fn now(&self, clocks: &impl Clocks) -> Moment {
        let (awake_ms, wall) = clocks.read();
        let up_ms = awake_ms + self.slept_ms.load(Ordering::Relaxed);
        let trusted = self.trusted.load(Ordering::Relaxed);
        let ahead = wall.saturating_sub(up_ms);
        let follows = trusted == UNREAD || is_small(ahead, trusted);
        if follows && !self.doubts.load(Ordering::Relaxed) {
            if ahead != trusted {
                self.trusted.store(ahead, Ordering::Relaxed);
            }
            return Moment { up_ms, wall: Timestamp(wall) };
        }
        self.doubted(clocks)
    }

    #[cold]
    fn doubted(&self, clocks: &impl Clocks) -> Moment {
        let mut doubt = self.doubt.lock().unwrap_or_else(PoisonError::into_inner);
        // Again: between the two clocks this thread may have waited.
        let slept_ms = clocks.slept_ms();
        if !is_small(slept_ms, self.slept_ms.load(Ordering::Relaxed)) {
            self.slept_ms.store(slept_ms, Ordering::Relaxed);
        }
        let (awake_ms, wall) = clocks.read();
        let up_ms = awake_ms + self.slept_ms.load(Ordering::Relaxed);
        let trusted = self.trusted.load(Ordering::Relaxed);
        let ahead = wall.saturating_sub(up_ms);
        let believed = Moment { up_ms, wall: Timestamp(wall) };
        let held = Moment { up_ms, wall: Timestamp(up_ms.saturating_add(trusted)) };
        let (jump_s, wait_s) = (ahead.saturating_sub(trusted) / 1_000, CONFIRM_MS / 1_000);
        let known = doubt.filter(|known| is_small(known.ahead, ahead));
        let moment = match known {
            _ if is_small(ahead, trusted) => {
                *doubt = None;
                believed
            }
            Some(known) if up_ms - known.since_up_ms >= CONFIRM_MS => {
                *doubt = None;
                self.trusted.store(ahead, Ordering::Relaxed);
                tracing::warn!(jump_s, "the system clock's jump has stood, and counts now");
                believed
            }
            Some(_) => held,
            None => {
                *doubt = Some(Doubt { since_up_ms: up_ms, ahead });
                metrics::counter!("parlance_clock_jumps_total").increment(1);
                tracing::warn!(jump_s, wait_s, "the system clock has jumped; it counts when it has stood for a while");
                held
            }
        };
        self.doubts.store(doubt.is_some(), Ordering::Relaxed);
        moment
    }
}

fn is_small(one: i64, other: i64) -> bool {
    one.abs_diff(other) <= STEP_MS.unsigned_abs()
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_millis(self.0) {
            Some(at) => f.write_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{}ms", self.0),
        }
    }
}

/// As the API writes it.
impl JsonSchema for Timestamp {
    fn is_referenceable() -> bool {
        false
    }

    fn schema_name() -> String {
        "Timestamp".to_owned()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_of("date-time")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that a test sets: what it says more than the one that goes on evenly.
    struct Tested {
        clock: GuardedClock,
        up_ms: i64,
        slept_ms: i64,
        ahead: i64,
    }

    impl Clocks for (i64, i64, i64) {
        fn read(&self) -> (i64, i64) {
            (self.0, self.1)
        }

        fn slept_ms(&self) -> i64 {
            self.2
        }
    }

    impl Tested {
        fn new() -> Self {
            let mut tested = Self { clock: GuardedClock::new(), up_ms: 1_000, slept_ms: 0, ahead: 1_700_000_000_000 };
            assert_eq!(tested.off_after(0), 0);
            tested
        }

        /// By how much the time is off what it would be had nobody set the clock, so many milliseconds later.
        fn off_after(&mut self, ms: i64) -> i64 {
            self.up_ms += ms;
            let clocks = (self.up_ms - self.slept_ms, self.up_ms + self.ahead, self.slept_ms);
            let now = self.clock.now(&clocks);
            assert_eq!(now.up_ms, self.up_ms);
            now.wall.0 - (1_700_000_000_000 + self.up_ms)
        }
    }

    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

    #[test]
    fn a_jump_counts_when_it_has_stood() {
        for jump in [DAY_MS, -DAY_MS, 73 * 365 * DAY_MS, 6_000, -6_000] {
            let mut time = Tested::new();
            time.ahead += jump;
            for _ in 0..299 {
                assert_eq!(time.off_after(1_000), 0, "{jump}");
            }
            assert_eq!(time.off_after(1_000), 0, "its first second is when it was seen");
            assert_eq!(time.off_after(1_000), jump);
            assert_eq!(time.off_after(DAY_MS), jump);
        }
    }

    /// To 2099 and back within five minutes: nobody ever saw it.
    #[test]
    fn a_jump_that_is_taken_back_never_was() {
        let mut time = Tested::new();
        for _ in 0..10 {
            time.ahead += 73 * 365 * DAY_MS;
            assert_eq!((time.off_after(1), time.off_after(CONFIRM_MS - 1)), (0, 0));
            time.ahead -= 73 * 365 * DAY_MS;
            assert_eq!((time.off_after(1), time.off_after(1)), (0, 0));
        }
        // One jump after another: each has to stand.
        time.ahead += DAY_MS;
        assert_eq!(time.off_after(CONFIRM_MS / 2), 0);
        time.ahead += DAY_MS;
        assert_eq!((time.off_after(CONFIRM_MS / 2 + 1), time.off_after(CONFIRM_MS - 1)), (0, 0));
        assert_eq!(time.off_after(1), 2 * DAY_MS);
    }

    /// A machine that slept through the night: both clocks say so at once, and nothing has jumped.
    #[test]
    fn sleep_is_no_jump() {
        let mut time = Tested::new();
        for _ in 0..3 {
            time.slept_ms += 9 * 60 * 60 * 1_000;
            assert_eq!(time.off_after(9 * 60 * 60 * 1_000), 0);
            assert_eq!(time.off_after(1_000), 0);
            assert!(time.clock.doubt.lock().expect("not poisoned").is_none());
        }
        assert!(SystemClocks.slept_ms().abs() < 1_000, "this machine hasn't slept");
    }

    /// NTP corrects in small steps and by a clock that goes a little faster; those are followed at once.
    #[test]
    fn small_steps_are_followed() {
        let mut time = Tested::new();
        for step in [1, -1, 128, 4_000, -4_000, 300] {
            let before = time.off_after(0);
            time.ahead += step;
            assert_eq!(time.off_after(1_000), before + step);
        }
    }

    #[test]
    fn the_systems_clocks_go_on_together() {
        let before = Moment::now();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let after = Moment::now();
        assert!(after.up_ms >= before.up_ms + 19 && after.wall.since(before.wall) >= 19);
        assert!(after.wall.since(Timestamp(Utc::now().timestamp_millis())).abs() < 1_000);
    }

    #[test]
    fn rfc3339_goes_both_ways() {
        let at = Timestamp::parse_rfc3339("2020-05-12T19:44:40.5+02:00").expect("valid");
        assert_eq!(at.to_string(), "2020-05-12T17:44:40.500Z");
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }
}
