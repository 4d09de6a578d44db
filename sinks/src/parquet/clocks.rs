//! What the metrics measure time with: a stopwatch, a visitor's sessions, the thread under way. Pure.

use super::life::{ThreadRow, actor_word};
use ingest::event::{Actor, Event, Origin};
use ingest::id::{AgentId, ConversationId, GroupId, ThreadId};
use ingest::payload::Payload;
use ingest::time::Timestamp;

/// Why a conversation is resolved whose visitor went away and didn't come back.
pub(crate) const STANDBY_EXPIRED: &str = "standby_expired";

/// Seconds from `from` to `to`, exact to the millisecond.
pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    seconds_of(to.since(from))
}

/// Milliseconds as seconds.
pub(crate) fn seconds_of(milliseconds: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "spans of centuries still have fewer than 2^53 milliseconds")]
    let milliseconds = milliseconds as f64;
    milliseconds / 1000.0
}

/// Adds up the time in which something holds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Stopwatch {
    total_ms: i64,
    since: Option<Timestamp>,
    started: bool,
}

impl Stopwatch {
    /// From `at` on it holds, or doesn't.
    pub(crate) fn set(&mut self, holds: bool, at: Timestamp) {
        match (self.since, holds) {
            (None, true) => (self.since, self.started) = (Some(at), true),
            (Some(since), false) => {
                self.total_ms += at.since(since);
                self.since = None;
            }
            _ => {}
        }
    }

    /// Seconds up to `at`; `None` if it never held.
    pub(crate) fn read(&self, at: Timestamp) -> Option<f64> {
        self.started.then(|| seconds_of(self.total_ms + self.since.map_or(0, |since| at.since(since))))
    }
}

/// A visitor's sessions in one conversation: first to last activity, split where standby expired.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sessions {
    count: u32,
    ended_ms: i64,
    /// First and last activity of the one that may go on.
    current: Option<(Timestamp, Timestamp)>,
    /// Each event is at its own time, also of an import.
    exact: bool,
}

impl Sessions {
    /// Takes in the conversation's next event.
    pub(crate) fn see(&mut self, event: &Event) {
        if let Payload::ConversationStarted(data) = &event.payload {
            self.exact = data.exact;
        }
        if let Payload::ConversationResolved(data) = &event.payload
            && data.reason.as_deref() == Some(STANDBY_EXPIRED)
        {
            let (first, last) = self.current.take().unwrap_or_default();
            self.ended_ms += last.since(first);
        }
        // A transcript of messages dates the beginning and the rating by those, whoever wrote them.
        let dated = self.exact || event.origin == Origin::Live || matches!(event.payload, Payload::MessagePosted(_));
        if dated && matches!(event.actor, Actor::Visitor(_)) {
            let at = event.occurred_at;
            match &mut self.current {
                Some((_, last)) => *last = at.max(*last),
                None => {
                    self.count += 1;
                    self.current = Some((at, at));
                }
            }
        }
    }

    /// Whether each event is at its own time, also of an import.
    pub(crate) fn are_exact(&self) -> bool {
        self.exact
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Of all of them together; `None` before the first.
    pub(crate) fn seconds(&self) -> Option<f64> {
        let current = self.current.map_or(0, |(first, last)| last.since(first));
        (self.count > 0).then(|| seconds_of(self.ended_ms + current))
    }
}

/// The thread under way, or the last one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Thread {
    pub(crate) id: ThreadId,
    number: u32,
    started_at: Timestamp,
    ended: Option<(Timestamp, &'static str, String)>,
    /// As of the thread's end, once it has ended.
    agent: Option<AgentId>,
    group: Option<GroupId>,
    waiting_seconds: Option<f64>,
    handled: Stopwatch,
    /// What its resolve is taken for, as long as that stands.
    pub(crate) resolved_as: Option<&'static str>,
}

impl Thread {
    /// The thread that `event` begins, after `before`.
    pub(crate) fn open(id: ThreadId, before: Option<&Self>, event: &Event) -> Self {
        Self {
            id,
            number: before.map_or(0, |before| before.number) + 1,
            started_at: event.occurred_at,
            ended: None,
            agent: None,
            group: None,
            waiting_seconds: None,
            handled: Stopwatch::default(),
            resolved_as: None,
        }
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// It has its agent, who was waited for so long.
    pub(crate) fn assigned(&mut self, waiting_seconds: Option<f64>) {
        self.waiting_seconds = waiting_seconds;
    }

    /// How the conversation stands after an event of the thread: who has it where, and whether they work on it.
    pub(crate) fn stands(&mut self, agent: Option<AgentId>, group: Option<GroupId>, working: bool, at: Timestamp) {
        if !self.is_over() {
            (self.agent, self.group) = (agent, group);
            self.handled.set(working, at);
        }
    }

    /// The visitor has been away since then.
    pub(crate) fn away(&mut self, since: Timestamp) {
        self.handled.set(false, since);
    }

    /// `event` ends it, to the credit of `agent`; one that is over stays as it is.
    pub(crate) fn end(&mut self, event: &Event, reason: &str, agent: Option<AgentId>) -> bool {
        if self.is_over() {
            return false;
        }
        self.agent = agent.or(self.agent);
        self.handled.set(false, event.occurred_at);
        self.ended = Some((event.occurred_at, actor_word(event.actor), reason.to_owned()));
        true
    }

    /// The thread as of `seq`.
    pub(crate) fn row(&self, conversation_id: ConversationId, origin: Origin, seq: u64) -> ThreadRow {
        let (ended_at, ended_by, end_reason) = match &self.ended {
            Some((at, by, reason)) => (Some(*at), Some(*by), Some(reason.clone())),
            None => (None, None, None),
        };
        ThreadRow {
            thread_id: self.id,
            version: seq.cast_signed(),
            conversation_id,
            number: i64::from(self.number),
            started_at: self.started_at,
            ended_at,
            end_reason,
            ended_by,
            origin,
            agent_id: self.agent,
            group_id: self.group,
            waiting_seconds: self.waiting_seconds,
            handle_seconds: ended_at.filter(|_| self.agent.is_some()).and_then(|at| self.handled.read(at)),
            resolved_as: self.resolved_as,
        }
    }
}
