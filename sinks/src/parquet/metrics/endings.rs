//! How a conversation ends, for the metrics: resolves, closes and ratings, what they say of a thread, and an import that runs out.

use super::super::clocks::{Stopwatch, Thread, seconds};
use super::super::facts::{ConversationStatus, FactRow, RatingRow, ResolutionRow};
use super::super::life::actor_word;
use super::ConversationMetrics;
use ingest::event::{Actor, Event, Origin};
use ingest::id::{AgentId, GroupId, ThreadId};
use ingest::payload::{
    ConversationClosed, ConversationRated, ConversationResolved, IMPORTED_UNRESOLVED, Payload, Trigger,
};
use ingest::time::Timestamp;

/// What the end of an import puts aside, for a conversation that hadn't ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unresolved {
    pub(super) status: ConversationStatus,
    pub(super) agent: Option<AgentId>,
    pub(super) stale: bool,
    pub(super) snoozed: bool,
    pub(super) queued: Option<(Timestamp, Trigger)>,
    pub(super) handled: Stopwatch,
    pub(super) thread: Option<Thread>,
    pub(super) at: Timestamp,
}

/// A thread that ended, and whose it was then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ended {
    pub(super) thread: ThreadId,
    pub(super) agent: Option<AgentId>,
    pub(super) group: Option<GroupId>,
}

/// What the visitor said so: they rated it, or resolved it themselves.
const CONFIRMED: &str = "confirmed";
/// What was resolved without a word of the visitor since.
const ASSUMED: &str = "assumed";

impl ConversationMetrics {
    /// More of an import whose conversation hadn't ended: it stands as before its end here. Whether it does.
    pub(super) fn resume(&mut self, event: &Event) -> bool {
        // A transcript of messages has its rating after its end.
        let rated = matches!(event.payload, Payload::ConversationRated(_)) && !self.sessions.are_exact();
        if event.origin != Origin::Import || rated {
            return false;
        }
        let Some(before) = self.unresolved.take() else { return false };
        (self.status, self.agent) = (before.status, before.agent);
        (self.stale, self.snoozed, self.queued) = (before.stale, before.snoozed, before.queued);
        (self.handled, self.thread) = (before.handled, before.thread);
        let slot = self.agent.filter(|_| self.status == ConversationStatus::Active && !self.stale);
        // Up to the end its row is made already.
        self.slot = slot.map(|agent| (agent, before.at, self.snoozed));
        true
    }

    /// What the resolve of the thread that ended is taken for from here on; a change is a version of the thread.
    pub(super) fn take_resolve_as(&mut self, resolved_as: Option<&'static str>, rows: &mut Vec<FactRow>) {
        let (conversation, origin, seq) = (self.conversation, self.origin, self.seq);
        if let Some(thread) = self.thread.as_mut().filter(|thread| thread.resolved_as != resolved_as) {
            thread.resolved_as = resolved_as;
            rows.push(FactRow::Thread(thread.row(conversation, origin, seq)));
        }
    }

    pub(super) fn rate(&mut self, event: &Event, data: &ConversationRated, rows: &mut Vec<FactRow>) -> RatingRow {
        let of = self.ended.unwrap_or(Ended { thread: data.thread_id, agent: data.agent_id, group: self.group });
        (self.rating, self.rated) = (Some(data.score), Some(of.thread));
        // What is open again, or was left by its visitor, has no resolve that stands.
        if self.thread.as_ref().is_some_and(|thread| thread.resolved_as.is_some()) {
            self.take_resolve_as(Some(CONFIRMED), rows);
        }
        RatingRow {
            event_id: event.id,
            conversation_id: self.conversation,
            thread_id: data.thread_id,
            seq: event.seq,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            origin: event.origin,
            agent_id: data.agent_id,
            group_id: self.group,
            score: data.score,
            thread_id_v2: of.thread,
            agent_id_v2: of.agent,
            group_id_v2: of.group,
        }
    }

    pub(super) fn resolve(
        &mut self,
        event: &Event,
        data: &ConversationResolved,
        rows: &mut Vec<FactRow>,
    ) -> Option<ResolutionRow> {
        let reason = data.reason.as_deref();
        let said_so = matches!(event.actor, Actor::Visitor(_)) || self.rated == Some(data.thread_id);
        let resolved_as = reason.is_none().then_some(if said_so { CONFIRMED } else { ASSUMED });
        if let Some(thread) = self.thread.as_mut().filter(|thread| !thread.is_over()) {
            // The version that its end makes says so.
            thread.resolved_as = resolved_as;
        }
        self.end_thread(event, reason.unwrap_or("resolved"), data.agent_id, rows);
        self.take_resolve_as(resolved_as, rows);
        let handle_seconds = self.handled.read(event.occurred_at);
        self.end(ConversationStatus::Resolved, data.agent_id);
        self.waiting_since_v2 = None;
        self.ended = Some(Ended { thread: data.thread_id, agent: self.agent, group: self.group });
        self.resolved_at = Some(event.occurred_at);
        self.resolved_by = Some(actor_word(event.actor));
        self.resolve_reason.clone_from(&data.reason);
        // Standby and idle resolve as the system: that is housekeeping, not somebody's resolution.
        let Actor::Agent(resolved_by) = event.actor else { return None };
        self.resolutions += 1;
        Some(ResolutionRow {
            event_id: event.id,
            conversation_id: self.conversation,
            thread_id: data.thread_id,
            seq: event.seq,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            origin: event.origin,
            agent_id: data.agent_id,
            resolved_by,
            group_id: self.group,
            resolution_seconds: seconds(self.period_started_at, event.occurred_at),
            handle_seconds,
            assigned_at: self.assigned_at,
        })
    }

    pub(super) fn close(&mut self, event: &Event, data: &ConversationClosed, rows: &mut Vec<FactRow>) {
        if event.origin == Origin::Import && data.reason == IMPORTED_UNRESOLVED {
            self.unresolved = Some(Box::new(Unresolved {
                status: self.status,
                agent: self.agent,
                stale: self.stale,
                snoozed: self.snoozed,
                queued: self.queued,
                handled: self.handled,
                thread: self.thread.clone(),
                at: event.occurred_at,
            }));
        }
        self.end_thread(event, "closed", data.agent_id, rows);
        let was_resolved = self.status == ConversationStatus::Resolved;
        self.end(ConversationStatus::Closed, data.agent_id);
        if data.reason == IMPORTED_UNRESOLVED {
            return;
        }
        self.waiting_since_v2 = None;
        // What was resolved before ended there.
        if let Some(thread) = self.thread.as_ref().filter(|_| !was_resolved) {
            self.ended = Some(Ended { thread: thread.id, agent: self.agent, group: self.group });
        }
    }

    /// Nobody works on it or waits in it any more; the agent stays for the credit.
    pub(super) fn end(&mut self, status: ConversationStatus, agent: Option<AgentId>) {
        self.status = status;
        self.agent = agent.or(self.agent);
        (self.stale, self.snoozed, self.queued) = (false, false, None);
    }
}
