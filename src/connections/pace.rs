//! How long a peer keeps us waiting, less what it moves. A peer that moves nothing is given up after its patience is used up;
//! one that moves a byte now and then wins back what a byte is worth, so it comes to the same end. Only time in which we
//! wait for the peer counts, never what we take ourselves.

use std::time::Duration;
use tokio::time::Instant;

/// Bytes a second at which a peer loses no patience, however often it pauses. The slowest mobile networks do twice that.
const BYTES_PER_S_MIN: u64 = 2_048;

/// One peer's, in one direction.
#[derive(Debug, Default)]
pub struct Pace {
    lag: Duration,
    since: Option<Instant>,
}

impl Pace {
    /// It keeps us waiting, since now if it didn't before; gives the moment at which the patience is used up.
    pub fn waits(&mut self, now: Instant, patience: Duration) -> Instant {
        *self.since.get_or_insert(now) + patience.saturating_sub(self.lag)
    }

    /// It has moved so many bytes. The time is asked for only if it had kept us waiting.
    pub fn moved(&mut self, now: impl FnOnce() -> Instant, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.lag += now().saturating_duration_since(since);
        }
        if !self.lag.is_zero() {
            let worth_us = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1_000_000) / BYTES_PER_S_MIN;
            self.lag = self.lag.saturating_sub(Duration::from_micros(worth_us));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Seconds until a peer is given up that moves `bytes` after every pause; `None` when it never is within an hour.
    fn given_up_after(pause_ms: u64, bytes: usize) -> Option<u64> {
        let (mut pace, start, pause) = (Pace::default(), Instant::now(), Duration::from_millis(pause_ms));
        let mut now = start;
        while now < start + Duration::from_secs(3_600) {
            let until = pace.waits(now, PATIENCE);
            if until <= now + pause {
                return Some((until - start).as_secs());
            }
            now += pause;
            pace.moved(|| now, bytes);
        }
        None
    }

    #[test]
    fn patience_ends_for_nothing_and_for_next_to_nothing() {
        assert_eq!(given_up_after(60_000, 0), Some(30), "nothing at all");
        assert_eq!(given_up_after(1_000, 1), Some(30), "a byte a second");
        assert_eq!(given_up_after(29_000, 1_460), Some(30), "a packet now and then");
        assert_eq!(given_up_after(1_000, 1_024), Some(59), "half the slowest rate: twice the patience");
        assert_eq!(given_up_after(1_000, 2_048), None, "slow, and steady");
        assert_eq!(given_up_after(20_000, 65_536), None, "long pauses, and much at once");
    }
}
