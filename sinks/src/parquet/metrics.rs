//! The metric definitions, version 1, as a fold: events of one conversation to fact rows.
//!
//! Pure: no clock, no IO. Start at [`ConversationMetrics::apply`]. The definitions are in `docs/METRICS.md`; a changed
//! one is a new version beside this one, never an edit of it. A fold is cheap to make again from the conversation's own
//! events, so none is ever stored.

use super::facts::{ConversationRow, ConversationStatus, FactRow, MessageRow, RatingRow, ResolutionRow};
use ingest::event::{Actor, Event, Origin};
use ingest::id::{AgentId, ChatbotId, ConversationId, GroupId, TenantId, VisitorId};
use ingest::payload::{
    AuthorType, ConversationResolved, ConversationStarted, ConversationTagged, MessagePosted, Payload,
};
use ingest::time::Timestamp;

/// The version of the definitions that this fold computes.
pub const DEFINITION_VERSION: u32 = 1;

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
    resolved_at: Option<Timestamp>,
    resolutions: u32,
    messages_visitor: u32,
    messages_agent: u32,
    messages_bot: u32,
    rating: Option<u8>,
}

/// Seconds from `from` to `to`, exact to the millisecond.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "spans of centuries still have fewer than 2^53 milliseconds")]
    let milliseconds = to.since(from) as f64;
    milliseconds / 1000.0
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
            resolved_at: None,
            resolutions: 0,
            messages_visitor: 0,
            messages_agent: 0,
            messages_bot: 0,
            rating: None,
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

    /// Applies the conversation's next event and appends the rows that it makes: at most one.
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
        self.seq = event.seq;
        self.updated_at = event.occurred_at;
        match &event.payload {
            Payload::ConversationStarted(data) => self.start(data),
            Payload::MessagePosted(data) => rows.push(FactRow::Message(self.message(event, data))),
            Payload::ConversationQueued(queued) => {
                self.group = queued.group_id.or(self.group);
                self.wait();
            }
            Payload::AgentUnassigned(_) => self.wait(),
            Payload::AgentAssigned(data) => {
                self.status = ConversationStatus::Active;
                self.agent = Some(data.agent_id);
            }
            Payload::ConversationResolved(data) => rows.extend(self.resolve(event, data).map(FactRow::Resolution)),
            Payload::ConversationReopened(_) => {
                self.wait();
                self.period_started_at = event.occurred_at;
                self.resolved_at = None;
            }
            Payload::ConversationClosed(data) => {
                self.status = ConversationStatus::Closed;
                self.agent = data.agent_id.or(self.agent);
            }
            Payload::ConversationRated(data) => {
                self.rating = Some(data.score);
                rows.push(FactRow::Rating(RatingRow {
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
                }));
            }
            Payload::ConversationTagged(data) => self.tag(data),
            // Notes and whatever else belongs to the conversation only move its version.
            _ => {}
        }
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
    }

    fn message(&mut self, event: &Event, data: &MessagePosted) -> MessageRow {
        let at = event.occurred_at;
        let (mut reply_seconds, mut first_response_seconds) = (None, None);
        match data.author_type {
            AuthorType::Visitor => {
                self.messages_visitor += 1;
                self.first_visitor_message_at.get_or_insert(at);
                self.waiting_since.get_or_insert(at);
            }
            AuthorType::Agent => {
                self.messages_agent += 1;
                reply_seconds = self.waiting_since.take().map(|since| seconds(since, at));
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
        }
    }

    fn resolve(&mut self, event: &Event, data: &ConversationResolved) -> Option<ResolutionRow> {
        self.status = ConversationStatus::Resolved;
        self.agent = data.agent_id.or(self.agent);
        self.resolved_at = Some(event.occurred_at);
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
        })
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
