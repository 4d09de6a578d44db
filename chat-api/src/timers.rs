//! What happens by itself: sends a command for every timer that is due. The rows follow from the conversations.
//!
//! A row that was set anew since it was read is ignored by `decide`, so nothing is lost or done twice when this stops.
//!
//! After a [break](crate::breaks) in the server's own time much may be due at once, and the people whom it concerns could do
//! nothing meanwhile. So what ends conversations waits for [`GRACE`], and then comes a few at a time ([`Extent`]).

use crate::breaks::{Break, Breaks};
use crate::core::state::TimerKind;
use crate::core::{Command, CommandKind};
use crate::domain::{ChatDomain, Submission};
use crate::store::read::{self, DueTimer};
use ingest::event::Actor;
use ingest::id::EventId;
use ingest::sqlite::ReadPool;
use ingest::time::{Moment, Timestamp};
use ingest::writer::{WriteError, Writer};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Timers that are due are looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Timers in one transaction.
const BATCH_TIMERS: usize = 128;
/// After a break people have so long to come back and go on.
const GRACE: Duration = Duration::from_secs(60);
/// After that, looks are careful until they find little, and for so long at most.
const CAREFUL: Duration = Duration::from_secs(5 * 60);
/// Timers of a careful look, so that there is time to notice if the clock is wrong.
const CAREFUL_TIMERS: usize = 16;

/// How much a look may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All that is due.
    All,
    /// The earliest few.
    Few,
    /// What only brings a conversation back.
    Harmless,
}

/// Which of the looks are careful. Pure.
#[derive(Debug)]
struct Caution {
    breaks: Breaks,
    grace_ends_ms: i64,
    careful_ends_ms: i64,
}

impl Caution {
    fn new() -> Self {
        Self { breaks: Breaks::new(LOOK_EVERY), grace_ends_ms: i64::MIN, careful_ends_ms: i64::MIN }
    }

    fn look(&mut self, now: Moment) -> Extent {
        if let Some(came_between) = self.breaks.look(now) {
            self.grace_ends_ms = now.up_ms.saturating_add(milliseconds(GRACE));
            self.careful_ends_ms = self.grace_ends_ms.saturating_add(milliseconds(CAREFUL));
            match came_between {
                Break::Start => {}
                Break::Pause(_) | Break::Jump(_) => {
                    metrics::counter!("parlance_breaks_total").increment(1);
                    let grace_s = GRACE.as_secs();
                    tracing::warn!(?came_between, grace_s, "the server's time had a break; timers wait");
                }
            }
        }
        if now.up_ms < self.grace_ends_ms {
            Extent::Harmless
        } else if now.up_ms < self.careful_ends_ms {
            Extent::Few
        } else {
            Extent::All
        }
    }

    /// What the look has found.
    fn found(&mut self, extent: Extent, done: usize) {
        match extent {
            Extent::Few if done >= CAREFUL_TIMERS => {
                tracing::info!(done, "timers that a break held up go on, a few at a time");
            }
            Extent::Few => self.careful_ends_ms = i64::MIN,
            Extent::All | Extent::Harmless => {}
        }
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// What stands in the way of a timer. Nothing was done; it's tried again.
#[derive(Debug, thiserror::Error)]
pub enum TimerError {
    /// The rows couldn't be read.
    #[error("failed to read timers: {0}")]
    Read(#[from] rusqlite::Error),
    /// The commands couldn't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Fires timers until `stop`, by the time that `clock` tells.
pub async fn run(
    writer: Writer<ChatDomain>,
    pool: ReadPool,
    clock: impl Fn() -> Moment + Send,
    stop: CancellationToken,
) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut caution = Caution::new();
    loop {
        tokio::select! { () = stop.cancelled() => return, _ = every.tick() => {} }
        let now = clock();
        let extent = caution.look(now);
        match fire(&writer, &pool, now.wall, extent).await {
            Ok(done) => caution.found(extent, done),
            Err(error) => tracing::warn!(%error, "failed to do what is due; trying again"),
        }
    }
}

/// Does all that is due at `now`, earliest first, and says how many timers that were.
///
/// # Errors
/// See [`TimerError`].
pub async fn fire_due(writer: &Writer<ChatDomain>, pool: &ReadPool, now: Timestamp) -> Result<usize, TimerError> {
    fire(writer, pool, now, Extent::All).await
}

/// The same, as far as it reaches.
async fn fire(
    writer: &Writer<ChatDomain>,
    pool: &ReadPool,
    now: Timestamp,
    extent: Extent,
) -> Result<usize, TimerError> {
    let (mut done, mut refused) = (0, 0);
    let (only, most) = match extent {
        Extent::All => (None, usize::MAX),
        Extent::Few => (None, CAREFUL_TIMERS),
        Extent::Harmless => (Some(TimerKind::Snooze), usize::MAX),
    };
    loop {
        let batch = BATCH_TIMERS.min(most - done);
        if batch == 0 {
            return Ok(done);
        }
        // A timer whose command was refused stays in its row: the next look goes past it.
        let due = pool.read(|connection| read::due_timers(connection, now, only, refused, batch))?;
        if due.is_empty() {
            return Ok(done);
        }
        let outcomes = writer.submit_all(due.iter().map(command).collect(), None).await?;
        for (timer, outcome) in due.iter().zip(outcomes) {
            if outcome.is_ok_and(|answer| !answer.events.is_empty()) {
                done += 1;
            } else {
                refused += 1;
                tracing::debug!(conversation = %timer.conversation, kind = timer.kind.as_str(), "a timer did nothing");
            }
        }
    }
}

fn command(timer: &DueTimer) -> Submission {
    let kind: TimerKind = timer.kind;
    let (conversation_id, due_at) = (timer.conversation, timer.due_at);
    Command {
        tenant: timer.tenant,
        actor: Actor::System,
        // The same timer gives the same event, whoever fires it.
        first_event: EventId::derived(&[
            b"timers",
            conversation_id.bytes(),
            kind.as_str().as_bytes(),
            &due_at.0.to_le_bytes(),
        ]),
        request: None,
        cause: None,
        kind: CommandKind::TimerDue { conversation_id, kind, due_at },
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a second apart, but for what comes between; gives each look's extent, runs of the same one as a number.
    fn extents(script: &[(i64, i64, usize)]) -> Vec<(Extent, usize)> {
        let (mut caution, mut extents) = (Caution::new(), Vec::<(Extent, usize)>::new());
        let mut now = Moment { up_ms: 0, wall: Timestamp(1_700_000_000_000) };
        for (pause_ms, jump_ms, due) in script {
            now = Moment { up_ms: now.up_ms + 1_000 + pause_ms, wall: now.wall.plus_ms(1_000 + pause_ms + jump_ms) };
            let extent = caution.look(now);
            caution.found(extent, *due.min(&CAREFUL_TIMERS));
            match extents.last_mut() {
                Some((last, count)) if *last == extent => *count += 1,
                _ => extents.push((extent, 1)),
            }
        }
        extents
    }

    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

    #[test]
    fn after_a_break_timers_wait_and_then_come_a_few_at_a_time() {
        let quiet = [(0, 0, 0); 100];
        let start = (Extent::Harmless, 60);
        assert_eq!(extents(&quiet), [start, (Extent::Few, 1), (Extent::All, 39)], "a start is a break");
        for break_ in [(90_000, 0, 0), (3 * DAY_MS, 0, 0), (0, DAY_MS, 0), (0, -DAY_MS, 0)] {
            let mut script = quiet.to_vec();
            script.push(break_);
            script.extend([(0, 0, 0); 59]);
            // A thousand conversations are idle by now.
            script.extend([(0, 0, 1_000); 62]);
            script.extend([(0, 0, 3); 20]);
            assert_eq!(
                extents(&script)[2..],
                [(Extent::All, 39), (Extent::Harmless, 60), (Extent::Few, 63), (Extent::All, 19)],
                "{break_:?}"
            );
        }
        let mut flood = quiet.to_vec();
        flood.extend([(90_000, 0, 0)].into_iter().chain([(0, 0, 1_000); 500]));
        assert_eq!(
            extents(&flood)[3..],
            [(Extent::Harmless, 60), (Extent::Few, 300), (Extent::All, 141)],
            "more than that comes at any time, so it's no reason to wait for ever"
        );
        let late = [(4_000, 200, 0); 100];
        assert_eq!(extents(&late)[1..], [(Extent::Few, 1), (Extent::All, 87)], "a busy machine is no break");
    }
}
