//! Places in the queue, how long they may take, and how a conversation left it.
//!
//! The estimate is the pace at which the line has moved in the last hour: with a place every 40 seconds, the third waits
//! about two minutes. The pace is kept in memory from the events that pass by; after a start nothing is known until
//! the line has moved, and nothing is said.

use super::{ViewError, Views, rfc3339};
use crate::core::state::Conversation;
use crate::store::read;
use ingest::event::{Event, Origin};
use ingest::id::{AgentId, ConversationId, EventId, GroupId, TenantId};
use ingest::payload::{AgentAssigned, Candidate, Payload, Trigger};
use ingest::time::Timestamp;
use lru::LruCache;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

/// Moves of a line that are remembered: enough for a steady average, few enough to follow a change.
const MOVES_MAX: usize = 20;
/// Moves that make a pace.
const MOVES_MIN: usize = 2;
/// A line that hasn't moved for so long has no pace.
const RECENT_MS: i64 = 60 * 60 * 1_000;
/// Lines that are followed.
const LINES_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueView {
    /// From 1, among those who wait for the same agents.
    pub position: u64,
    /// Seconds until an agent joins, about; `None` while it isn't known.
    pub eta_seconds: Option<u64>,
}

/// One decision about who gets a conversation, as it was recorded.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct AssignmentView {
    #[serde(serialize_with = "rfc3339")]
    pub at: Timestamp,
    pub trigger: Trigger,
    pub strategy: String,
    /// The chosen one first, at most 20; none for a person's decision.
    pub candidates: Vec<Candidate>,
    pub chosen: AgentId,
    /// The words of the person who decided.
    pub reason: Option<String>,
    pub event_id: EventId,
}

/// When lines moved: at the assignments of those who waited.
pub(super) struct Pace(Mutex<LruCache<Line, VecDeque<Timestamp>>>);

/// Who waits for the same agents: a tenant's group, or those of no group.
type Line = (TenantId, Option<GroupId>);

impl Pace {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(LINES_MAX)))
    }

    /// Takes note of a committed event.
    pub(super) fn note(&self, event: &Event) {
        let Payload::AgentAssigned(assigned) = &event.payload else { return };
        if event.origin != Origin::Live || assigned.waited_ms.is_none() {
            return;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let moves = lines.get_or_insert_mut((event.tenant, assigned.group_id), VecDeque::new);
        moves.push_back(event.occurred_at);
        if moves.len() > MOVES_MAX {
            moves.pop_front();
        }
    }

    /// Milliseconds from one place to the next, lately.
    fn place_ms(&self, tenant: TenantId, group: Option<GroupId>, now: Timestamp) -> Option<i64> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = lines.get(&(tenant, group))?.iter().filter(|at| now.since(**at) <= RECENT_MS);
        let (count, first) = recent.fold((0, None), |(count, first), at| (count + 1, first.or(Some(*at))));
        // The time since the last move counts: a line that stands still gets slower by the minute.
        (count >= MOVES_MIN).then_some(()).and(first).map(|first| now.since(first) / i64::try_from(count).unwrap_or(1))
    }

    fn eta_seconds(&self, tenant: TenantId, group: Option<GroupId>, position: u64, now: Timestamp) -> Option<u64> {
        let place_ms = u64::try_from(self.place_ms(tenant, group, now)?).ok()?;
        Some(place_ms.saturating_mul(position).div_ceil(1_000))
    }
}

impl Views {
    /// A decision from the event that recorded it.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn assignment(&self, event: &Event, assigned: &AgentAssigned) -> Result<AssignmentView, ViewError> {
        Ok(AssignmentView {
            at: event.occurred_at,
            trigger: assigned.trigger,
            strategy: assigned.strategy.clone(),
            candidates: assigned.candidates.clone(),
            chosen: assigned.agent_id,
            reason: self.shown(assigned.reason.as_ref())?,
            event_id: event.id,
        })
    }

    /// The place of a conversation that waits; `None` for one that doesn't.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn queue(&self, chat: &Conversation, now: Timestamp) -> Result<Option<QueueView>, ViewError> {
        let Some(queued) = chat.queued else { return Ok(None) };
        let (position, group) = self.pool.read(|connection| {
            let position = read::queue_position(connection, chat.tenant, chat.group, queued.rank)?;
            Ok((position, read::serving_group(connection, chat.tenant, chat.group)?))
        })?;
        let eta_seconds = self.pace.eta_seconds(chat.tenant, group, position, now);
        Ok(Some(QueueView { position, eta_seconds }))
    }

    /// The places of the first `max` of those who wait for the same agents as a conversation of `group`; for pushes
    /// after the line has moved.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn queue_line(
        &self,
        tenant: TenantId,
        group: Option<GroupId>,
        max: usize,
        now: Timestamp,
    ) -> Result<Vec<(ConversationId, QueueView)>, ViewError> {
        let (line, group) = self.pool.read(|connection| {
            let line = read::queue_line(connection, tenant, group, max)?;
            Ok((line, read::serving_group(connection, tenant, group)?))
        })?;
        let place = |(position, id)| {
            (id, QueueView { position, eta_seconds: self.pace.eta_seconds(tenant, group, position, now) })
        };
        Ok((1..).zip(line).map(place).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pace needs two moves; it slows down while nothing moves, and is forgotten after an hour.
    #[test]
    fn the_estimate_is_the_recent_pace_or_nothing() {
        let (pace, tenant) = (Pace::new(), TenantId::fresh());
        let now = Timestamp(10_000_000);
        let line = |moves: &[i64]| {
            let moves = moves.iter().map(|seconds| Timestamp(now.0 - seconds * 1_000)).collect();
            pace.0.lock().expect("lock").put((tenant, None), moves);
        };
        assert_eq!(pace.eta_seconds(tenant, None, 1, now), None, "nothing is known");
        line(&[90]);
        assert_eq!(pace.eta_seconds(tenant, None, 1, now), None, "one move is no pace");
        line(&[120, 80, 40]);
        assert_eq!(pace.eta_seconds(tenant, None, 1, now), Some(40));
        assert_eq!(pace.eta_seconds(tenant, None, 3, now), Some(120));
        assert_eq!(pace.eta_seconds(tenant, None, 1, Timestamp(now.0 + 120_000)), Some(80), "it stands still");
        line(&[7_200, 7_100]);
        assert_eq!(pace.eta_seconds(tenant, None, 1, now), None, "long ago");
        line(&[7_200, 100, 50]);
        assert_eq!(pace.eta_seconds(tenant, None, 1, now), Some(50));
    }
}
