//! Breaks in the server's own time: it was stopped, or starved, or the machine slept, or its clock was set. What people did
//! meanwhile it can't know, so nobody is held to that time. Pure; [`Breaks`] is asked by everything that looks for what is
//! over, at each of its looks.

use ingest::time::Moment;
use std::time::Duration;

/// A look that comes so much later than it should is a break.
const LATE_MS: i64 = 5_000;

/// What came between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// There was no look before this one.
    Start,
    /// So many milliseconds without a look.
    Pause(i64),
    /// The clock was set so many milliseconds forward, or back.
    Jump(i64),
}

/// Notices breaks, look by look.
#[derive(Debug)]
pub struct Breaks {
    every_ms: i64,
    last: Option<Moment>,
}

impl Breaks {
    /// For looks that should come this often.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self { every_ms: i64::try_from(every.as_millis()).unwrap_or(i64::MAX), last: None }
    }

    /// A look at this moment; what has come before it, if anything.
    pub fn look(&mut self, now: Moment) -> Option<Break> {
        let Some(last) = self.last.replace(now) else { return Some(Break::Start) };
        let went_ms = now.up_ms - last.up_ms;
        let jump_ms = now.wall.since(last.wall) - went_ms;
        if jump_ms.abs() > LATE_MS {
            return Some(Break::Jump(jump_ms));
        }
        (went_ms > self.every_ms.saturating_add(LATE_MS)).then_some(Break::Pause(went_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest::time::Timestamp;

    #[test]
    fn pauses_and_jumps_are_told_and_nothing_else() {
        let mut breaks = Breaks::new(Duration::from_secs(1));
        let mut now = Moment { up_ms: 50, wall: Timestamp(1_700_000_000_000) };
        let mut look = |up_ms: i64, jump_ms: i64| {
            now = Moment { up_ms: now.up_ms + up_ms, wall: now.wall.plus_ms(up_ms + jump_ms) };
            breaks.look(now)
        };
        assert_eq!(look(0, 0), Some(Break::Start));
        assert_eq!([look(1_000, 0), look(1_200, -30), look(5_900, 200)], [None; 3], "late, as busy machines are");
        assert_eq!(look(90_000, 0), Some(Break::Pause(90_000)), "stopped, or asleep");
        assert_eq!(look(1_000, 0), None, "once");
        assert_eq!(look(1_000, 3_600_000), Some(Break::Jump(3_600_000)));
        assert_eq!(look(1_000, -3_600_000), Some(Break::Jump(-3_600_000)));
        assert_eq!(look(1_000, 0), None);
    }
}
