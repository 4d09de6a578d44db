//! What happens by itself: sends a command for every timer that is due. The rows follow from the conversations.
//!
//! A row that was set anew since it was read is ignored by `decide`, so nothing is lost or done twice when this stops.

use crate::core::state::TimerKind;
use crate::core::{Command, CommandKind};
use crate::domain::{ChatDomain, Submission};
use crate::store::read::{self, DueTimer};
use ingest::event::Actor;
use ingest::id::EventId;
use ingest::sqlite::ReadPool;
use ingest::time::Timestamp;
use ingest::writer::{WriteError, Writer};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Timers that are due are looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Timers in one transaction.
const BATCH_TIMERS: usize = 128;

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
    clock: impl Fn() -> Timestamp + Send,
    stop: CancellationToken,
) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! { () = stop.cancelled() => return, _ = every.tick() => {} }
        if let Err(error) = fire_due(&writer, &pool, clock()).await {
            tracing::warn!(%error, "failed to do what is due; trying again");
        }
    }
}

/// Does all that is due at `now`, earliest first, and says how many timers that were.
///
/// # Errors
/// See [`TimerError`].
pub async fn fire_due(writer: &Writer<ChatDomain>, pool: &ReadPool, now: Timestamp) -> Result<usize, TimerError> {
    let (mut done, mut refused) = (0, 0);
    loop {
        // A timer whose command was refused stays in its row: the next look goes past it.
        let due = pool.read(|connection| read::due_timers(connection, now, refused, BATCH_TIMERS))?;
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
