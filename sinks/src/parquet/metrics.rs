//! The metric definitions, versions 1 and 2, as a fold: events of one conversation to fact rows.
//!
//! Pure: no clock, no IO. Start at [`ConversationMetrics::apply`]. The definitions are in `docs/METRICS.md`; a changed
//! one is a new version beside the others, never an edit of one, and rows have the numbers of all of them. A fold is cheap
//! to make again from the conversation's own events, so none is ever stored. How conversations end is in [`endings`].

mod endings;

use super::clocks::{STANDBY_EXPIRED, Sessions, Stopwatch, Thread, seconds};
use super::facts::{ConversationRow, ConversationStatus, FactRow, MessageRow};
use super::life::{ActivityRow, AssignmentRow, EventRow};
use endings::{Ended, Unresolved};
use ingest::event::{Event, Origin};
use ingest::id::{AgentId, ChatbotId, ConversationId, GroupId, TenantId, ThreadId, VisitorId};
use ingest::payload::{
    AgentAssigned, AuthorType, ConversationStarted, ConversationTagged, MessagePosted, Payload, StaleReason, Trigger,
};
use ingest::time::Timestamp;

/// What the metrics need to remember of one conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationMetrics {
    tenant: TenantId,
    conversation: ConversationId,
    /// The last event applied; 0 before the first.
    seq: u64,
    status: ConversationStatus,
    visitor: Option<VisitorId>,
    chatbot: Option<ChatbotId>,
    group: Option<GroupId>,
    agent: Option<AgentId>,
    tags: Vec<String>,
    origin: Origin,
    started_at: Timestamp,
    updated_at: Timestamp,
    /// Where the current resolution time begins: the first event, or the last reopen.
    period_started_at: Timestamp,
    first_visitor_message_at: Option<Timestamp>,
    first_response_seconds: Option<f64>,
    /// The earliest visitor message that no human agent has answered.
    waiting_since: Option<Timestamp>,
    /// The same by definition 2: since the last resolve or close.
    waiting_since_v2: Option<Timestamp>,
    resolved_at: Option<Timestamp>,
    resolutions: u32,
    messages_visitor: u32,
    messages_agent: u32,
    messages_bot: u32,
    rating: Option<u8>,
    /// The thread of the newest rating.
    rated: Option<ThreadId>,
    /// The thread that a rating is of: the last that was resolved, or closed without a resolve.
    ended: Option<Ended>,
    resolved_by: Option<&'static str>,
    resolve_reason: Option<String>,
    /// Nobody waits for an answer: it takes no slot.
    stale: bool,
    /// Put aside.
    snoozed: bool,
    /// In the queue since then, put there by that.
    queued: Option<(Timestamp, Trigger)>,
    /// The agent whose slot it takes, since when, put aside or not.
    slot: Option<(AgentId, Timestamp, bool)>,
    assigned_at: Option<Timestamp>,
    /// Work since the assignment to who has it.
    handled: Stopwatch,
    assignments: u32,
    sessions: Sessions,
    thread: Option<Thread>,
    /// How an imported conversation stood that hadn't ended where it comes from; more of it may be imported.
    unresolved: Option<Box<Unresolved>>,
}

impl ConversationMetrics {
    /// The fold before the conversation's first event.
    #[must_use]
    pub fn new(tenant: TenantId, conversation: ConversationId) -> Self {
        Self {
            tenant,
            conversation,
            seq: 0,
            status: ConversationStatus::Pending,
            visitor: None,
            chatbot: None,
            group: None,
            agent: None,
            tags: Vec::new(),
            origin: Origin::Live,
            started_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            period_started_at: Timestamp::default(),
            first_visitor_message_at: None,
            first_response_seconds: None,
            waiting_since: None,
            waiting_since_v2: None,
            resolved_at: None,
            resolutions: 0,
            messages_visitor: 0,
            messages_agent: 0,
            messages_bot: 0,
            rating: None,
            rated: None,
            ended: None,
            resolved_by: None,
            resolve_reason: None,
            stale: false,
            snoozed: false,
            queued: None,
            slot: None,
            assigned_at: None,
            handled: Stopwatch::default(),
            assignments: 0,
            sessions: Sessions::default(),
            thread: None,
            unresolved: None,
        }
    }

    /// `seq` of the last event applied; 0 before the first.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whose conversation it is.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Applies the conversation's next event and appends the rows that it makes: one of `events`, and at most one of
    /// any other table but `threads`, of which a change of threads makes two.
    ///
    /// Events come in `seq` order; one at or below [`seq`](Self::seq) was applied before and changes nothing.
    pub fn apply(&mut self, event: &Event, rows: &mut Vec<FactRow>) {
        if event.seq <= self.seq {
            return;
        }
        if self.seq == 0 {
            self.origin = event.origin;
            self.started_at = event.occurred_at;
            self.period_started_at = event.occurred_at;
        }
        if Self::expires(event)
            && let Some(thread) = &mut self.thread
        {
            // The visitor was away: nobody was there to be handled after whatever happened last.
            thread.away(self.updated_at);
        }
        self.seq = event.seq;
        // Never earlier than before: readers leave out what lies before a period.
        self.updated_at = self.updated_at.max(event.occurred_at);
        self.sessions.see(event);
        let resumed = self.resume(event);
        let moved = self.change(event, rows) || resumed;
        self.settle(event, rows);
        let Some(thread) = &self.thread else { return };
        if moved {
            rows.push(FactRow::Thread(thread.row(self.conversation, self.origin, self.seq)));
        }
        rows.push(FactRow::Event(self.event(event, thread.id)));
    }

    /// The visitor's standby is over.
    fn expires(event: &Event) -> bool {
        matches!(&event.payload, Payload::ConversationResolved(data) if data.reason.as_deref() == Some(STANDBY_EXPIRED))
    }

    /// What the payload says; whether a thread began, or has another agent.
    fn change(&mut self, event: &Event, rows: &mut Vec<FactRow>) -> bool {
        match &event.payload {
            Payload::ConversationStarted(data) => {
                self.start(data);
                return self.open_thread(event, data.thread_id);
            }
            Payload::MessagePosted(data) => {
                // The thread before went idle.
                let opened = self.thread.as_ref().is_none_or(|thread| thread.id != data.thread_id);
                if data.author_type == AuthorType::Visitor {
                    (self.stale, self.snoozed) = (false, false);
                }
                let row = self.message(event, data);
                rows.push(FactRow::Message(row));
                return opened && self.open_thread(event, data.thread_id);
            }
            Payload::ConversationQueued(queued) => {
                self.group = queued.group_id.or(self.group);
                self.wait();
                // One that waited already changes its place, and has waited since then.
                self.queued.get_or_insert((event.occurred_at, queued.trigger));
            }
            Payload::AgentUnassigned(_) => self.wait(),
            Payload::AgentAssigned(data) => return self.assign(event, data, rows),
            Payload::ConversationResolved(data) => {
                let row = self.resolve(event, data, rows);
                rows.extend(row.map(FactRow::Resolution));
            }
            Payload::ConversationReopened(data) => {
                self.wait();
                self.period_started_at = event.occurred_at;
                (self.resolved_at, self.resolved_by, self.resolve_reason) = (None, None, None);
                self.take_resolve_as(None, rows);
                return self.open_thread(event, data.thread_id);
            }
            Payload::ConversationClosed(data) => self.close(event, data, rows),
            Payload::ConversationTransferred(data) => {
                self.end_thread(event, "transferred", None, rows);
                self.snoozed = false;
                self.group = data.group_id.or(self.group);
                return self.open_thread(event, data.thread_id);
            }
            Payload::ConversationUpdated(data) => self.group = data.group_id.unwrap_or(self.group),
            Payload::ConversationStale(data) => {
                if data.reason == StaleReason::Idle {
                    self.end_thread(event, "idle", None, rows);
                }
                self.stale = true;
                self.queued = None;
            }
            Payload::ConversationSnoozed(data) => self.snoozed = data.until.is_some(),
            Payload::ConversationRated(data) => {
                let row = self.rate(event, data, rows);
                rows.push(FactRow::Rating(row));
            }
            Payload::ConversationTagged(data) => self.tag(data),
            // Notes and whatever else belongs to the conversation only move its version.
            _ => {}
        }
        false
    }

    /// The clocks run or stand as the conversation now stands; a slot that is free or another's makes its row.
    fn settle(&mut self, event: &Event, rows: &mut Vec<FactRow>) {
        let at = event.occurred_at;
        let agent = self.agent.filter(|_| self.status == ConversationStatus::Active);
        let slot = agent.filter(|_| !self.stale);
        if slot.map(|agent| (agent, self.snoozed)) != self.slot.map(|(agent, _, snoozed)| (agent, snoozed)) {
            if let Some((agent_id, started_at, snoozed)) = self.slot {
                rows.push(FactRow::Activity(ActivityRow {
                    event_id: event.id,
                    conversation_id: self.conversation,
                    agent_id,
                    started_at,
                    ended_at: at,
                    snoozed,
                }));
            }
            self.slot = slot.map(|agent| (agent, at, self.snoozed));
        }
        let working = slot.is_some() && !self.snoozed;
        self.handled.set(working, at);
        if let Some(thread) = &mut self.thread {
            thread.stands(agent, self.group, working, at);
        }
    }

    fn event(&self, event: &Event, thread_id: ThreadId) -> EventRow {
        EventRow {
            event_id: event.id,
            conversation_id: self.conversation,
            thread_id,
            seq: event.seq.cast_signed(),
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            origin: event.origin,
            kind: event.payload.kind(),
            actor: event.actor,
            status: self.status.as_str(),
            agent_id: self.agent,
            group_id: self.group,
        }
    }

    fn open_thread(&mut self, event: &Event, id: ThreadId) -> bool {
        self.thread = Some(Thread::open(id, self.thread.as_ref(), event));
        true
    }

    fn end_thread(&mut self, event: &Event, reason: &str, agent: Option<AgentId>, rows: &mut Vec<FactRow>) {
        let (conversation, origin, seq) = (self.conversation, self.origin, self.seq);
        if let Some(thread) = &mut self.thread
            && thread.end(event, reason, agent)
        {
            rows.push(FactRow::Thread(thread.row(conversation, origin, seq)));
        }
    }

    fn assign(&mut self, event: &Event, data: &AgentAssigned, rows: &mut Vec<FactRow>) -> bool {
        // A transfer has ended the thread before and begun this one.
        if self.thread.as_ref().is_none_or(|thread| thread.id != data.thread_id) {
            self.end_thread(event, "agent_assigned", None, rows);
            self.open_thread(event, data.thread_id);
        }
        let queued = self.queued.take();
        let waiting_seconds = queued.map(|(since, _)| seconds(since, event.occurred_at));
        if let Some(thread) = &mut self.thread {
            thread.assigned(waiting_seconds);
        }
        self.status = ConversationStatus::Active;
        self.agent = Some(data.agent_id);
        self.stale = false;
        self.handled = Stopwatch::default();
        self.assigned_at = Some(event.occurred_at);
        self.assignments += 1;
        let chosen = data.candidates.iter().find(|candidate| candidate.agent_id == data.agent_id);
        let count = |count: usize| (!data.candidates.is_empty()).then_some(count as i64);
        rows.push(FactRow::Assignment(AssignmentRow {
            event_id: event.id,
            conversation_id: self.conversation,
            thread_id: data.thread_id,
            seq: event.seq.cast_signed(),
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            origin: event.origin,
            actor: event.actor,
            agent_id: data.agent_id,
            previous_agent_id: data.previous_agent_id,
            group_id: data.group_id.or(self.group),
            strategy: data.strategy.clone(),
            trigger: data.trigger.as_str(),
            queue_trigger: queued.map(|(_, trigger)| trigger.as_str()),
            waiting_seconds,
            reason: chosen.map(|candidate| candidate.reason.clone()),
            candidates: count(data.candidates.len()),
            eligible: count(data.candidates.iter().filter(|candidate| candidate.eligible).count()),
            agent_load: chosen.map(|candidate| i64::from(candidate.load)),
            agent_capacity: chosen.map(|candidate| i64::from(candidate.capacity)),
        }));
        true
    }

    /// The conversation as it stands, its `seq` as the version; `None` before `conversation_started`.
    #[must_use]
    pub fn row(&self) -> Option<ConversationRow> {
        Some(ConversationRow {
            conversation_id: self.conversation,
            version: self.seq,
            status: self.status,
            visitor_id: self.visitor?,
            chatbot_id: self.chatbot,
            group_id: self.group,
            agent_id: self.agent,
            tags: self.tags.clone(),
            started_at: self.started_at,
            updated_at: self.updated_at,
            origin: self.origin,
            first_response_seconds: self.first_response_seconds,
            resolved_at: self.resolved_at,
            resolutions: self.resolutions,
            messages_visitor: self.messages_visitor,
            messages_agent: self.messages_agent,
            messages_bot: self.messages_bot,
            rating: self.rating,
            resolved_by: self.resolved_by,
            resolve_reason: self.resolve_reason.clone(),
            active_since: self.slot.map(|(_, since, _)| since),
            assignments: self.assignments,
            sessions: self.sessions.count(),
            session_seconds: self.sessions.seconds(),
            resolved_as: self.thread.as_ref().and_then(|thread| thread.resolved_as),
        })
    }

    fn start(&mut self, data: &ConversationStarted) {
        self.visitor = Some(data.visitor_id);
        self.chatbot = data.chatbot_id;
        self.group = data.group_id;
        self.tags.clone_from(&data.tags);
    }

    fn wait(&mut self) {
        self.status = ConversationStatus::Pending;
        self.agent = None;
        self.stale = false;
        self.handled = Stopwatch::default();
        self.assigned_at = None;
    }

    fn message(&mut self, event: &Event, data: &MessagePosted) -> MessageRow {
        let at = event.occurred_at;
        let (mut reply_seconds, mut reply_seconds_v2, mut first_response_seconds) = (None, None, None);
        match data.author_type {
            AuthorType::Visitor => {
                self.messages_visitor += 1;
                self.first_visitor_message_at.get_or_insert(at);
                self.waiting_since.get_or_insert(at);
                self.waiting_since_v2.get_or_insert(at);
            }
            AuthorType::Agent => {
                self.messages_agent += 1;
                reply_seconds = self.waiting_since.take().map(|since| seconds(since, at));
                reply_seconds_v2 = self.waiting_since_v2.take().map(|since| seconds(since, at));
                if let (None, Some(first)) = (self.first_response_seconds, self.first_visitor_message_at) {
                    first_response_seconds = Some(seconds(first, at));
                    self.first_response_seconds = first_response_seconds;
                }
            }
            // A bot's message ends no wait: the visitor still waits for a person.
            AuthorType::Bot => self.messages_bot += 1,
        }
        MessageRow {
            event_id: event.id,
            conversation_id: self.conversation,
            thread_id: data.thread_id,
            seq: event.seq,
            occurred_at: at,
            recorded_at: event.recorded_at,
            origin: event.origin,
            author_type: data.author_type,
            author: event.actor,
            group_id: self.group,
            content_chars: data.content_chars,
            reply_seconds,
            first_response_seconds,
            reply_seconds_v2,
        }
    }

    fn tag(&mut self, data: &ConversationTagged) {
        for tag in &data.add {
            if !self.tags.contains(tag) {
                self.tags.push(tag.clone());
            }
        }
        self.tags.retain(|tag| !data.remove.contains(tag));
    }
}
