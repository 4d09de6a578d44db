//! The hub: follows the log and pushes every committed live event to the sockets that subscribed, once and in order.
//!
//! It is fed from the log and not by handlers, so an event is durable before anyone sees it, and whatever writes to the
//! log (routes, jobs, timers, another process) is pushed the same way.

use super::catch_up::Historian;
use super::credential::Person;
use super::frames;
use super::inbox::Inbox;
use super::queue::Queue;
use super::queued::Queued;
use super::seats::Seats;
use super::topics::Topics;
use crate::view::{Views, visitor_may_see};
use axum::extract::ws::Utf8Bytes;
use ingest::event::{Event, Origin};
use ingest::id::{ConversationId, TenantId};
use ingest::log::{LogReader, Offset, Record};
use ingest::payload::{Payload, Resource};
use ingest::sqlite::ReadPool;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Records read at once.
const BATCH_RECORDS: usize = 512;
/// Pause after the first failed read of the log; doubles up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// What one process, one tenant, one person and one socket may take; the defaults are production's.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sockets of the process. An idle one holds some 10 KiB, so all of them 200 MiB, and the kernel's buffers.
    pub sockets_max: usize,
    /// Sockets of a tenant.
    pub sockets_per_tenant_max: usize,
    /// Sockets from an address; an IPv6 /64 is one.
    pub sockets_per_ip_max: usize,
    /// Sockets of an agent or a visitor: tabs and devices.
    pub sockets_per_person_max: usize,
    /// Subscriptions of a socket.
    pub subscriptions_max: usize,
    /// Frames that may wait for a slow socket.
    pub queue_frames_max: usize,
    /// Their bytes.
    pub queue_bytes_max: usize,
    /// For the first frame.
    pub auth_timeout: Duration,
    /// Between pings; two without an answer end the socket.
    pub ping_every: Duration,
    /// For the peer to take any bytes at all.
    pub write_timeout: Duration,
    /// For sockets to close when the server stops.
    pub shutdown_timeout: Duration,
    /// Client frames at once, and how many come back a second.
    pub frames_burst: u32,
    /// See `frames_burst`.
    pub frames_per_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sockets_max: 20_000,
            sockets_per_tenant_max: 10_000,
            sockets_per_ip_max: 1_000,
            sockets_per_person_max: 64,
            subscriptions_max: 50,
            queue_frames_max: 256,
            queue_bytes_max: 1024 * 1024,
            auth_timeout: Duration::from_secs(10),
            ping_every: Duration::from_secs(25),
            write_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(5),
            frames_burst: 200,
            frames_per_s: 50,
        }
    }
}

/// All open sockets of the process and what they listen to.
#[derive(Default)]
pub struct LiveHub {
    pub(super) limits: Limits,
    pub(super) seats: Arc<Seats>,
    pub(super) topics: Topics,
    pub(super) inbox: Inbox,
    pub(super) queue: Queue,
    pub(super) historian: Historian,
    /// What waits in the sockets' queues.
    pub(super) queued: Queued,
    /// The server stops and waits no longer: sockets that are left are dropped.
    pub(super) abandoned: CancellationToken,
}

impl LiveHub {
    /// A hub with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A hub with other limits; for tests and benches.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Open sockets now.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.seats.count()
    }

    /// Follows the log from `from` on. On `cancel` it pushes what is committed by then, closes every socket (1001) and
    /// returns when they are gone; after [`Limits::shutdown_timeout`] those that are left are dropped without a word.
    pub async fn run(
        self: Arc<Self>,
        reader: Arc<dyn LogReader>,
        views: Arc<Views>,
        pool: ReadPool,
        from: Offset,
        cancel: CancellationToken,
    ) {
        let following = self.follow(reader.as_ref(), &views, &pool, from, &cancel);
        tokio::select! {
            () = following => {}
            () = self.inbox.run(Arc::clone(&views), pool.clone(), &self.queued) => {}
            () = self.queue.run(Arc::clone(&views), pool.clone()) => {}
        }
        self.seats.stop();
        if tokio::time::timeout(self.limits.shutdown_timeout, self.seats.emptied()).await.is_err() {
            // Peers that don't read. A write would hold them longer than the server lives.
            tracing::warn!(sockets = self.sockets(), "closing sockets whose peers don't read; they resume");
            self.abandoned.cancel();
            self.seats.emptied().await;
        }
    }

    async fn follow(
        &self,
        reader: &dyn LogReader,
        views: &Views,
        pool: &ReadPool,
        from: Offset,
        cancel: &CancellationToken,
    ) {
        let mut end = reader.watch_end();
        let mut next = from;
        let mut pause = RETRY_PAUSE_MIN;
        let mut stop_at = None;
        loop {
            if stop_at.is_none() && cancel.is_cancelled() {
                stop_at = Some(reader.end());
            }
            if stop_at.is_some_and(|stop| next >= stop) {
                return;
            }
            match reader.read(next, BATCH_RECORDS) {
                Ok(records) => {
                    pause = RETRY_PAUSE_MIN;
                    let Some(last) = records.last() else {
                        tokio::select! {
                            changed = end.changed() => if changed.is_err() { return cancel.cancelled().await },
                            () = cancel.cancelled() => {}
                        }
                        continue;
                    };
                    next = last.offset + 1;
                    self.publish_all(&records, views, pool);
                    // The sockets that share this thread write before the next batch.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    tracing::error!(%error, offset = next, "failed to follow the log; nothing is pushed until it reads");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = cancel.cancelled() => return,
                    }
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        }
    }

    fn publish_all(&self, records: &[Arc<Record>], views: &Views, pool: &ReadPool) {
        let pushes: u64 = records.iter().map(|record| self.publish(&record.event, views, pool)).sum();
        if pushes > 0 {
            metrics::counter!("parlance_pushes_total").increment(pushes);
        }
    }

    fn publish(&self, event: &Event, views: &Views, pool: &ReadPool) -> u64 {
        views.note(event);
        self.end_sockets(event);
        match &event.payload {
            Payload::AgentUpdated(change) => self.seats.review_person(event.tenant, Person::Agent(change.agent_id)),
            Payload::AgentStatusChanged(change) => self.show_agent(views, pool, event.tenant, change.agent_id),
            Payload::ConversationRead(read) => {
                let key = (event.tenant, read.conversation_id);
                let frame = frames::read(read.conversation_id, read.reader, read.seq);
                [true, false].into_iter().for_each(|agents| self.topics.relay_to(key, agents, &frame));
                self.inbox.mark(event.tenant, read.conversation_id);
            }
            // Who is in which group.
            // A chatbot's visitors go with it.
            Payload::ResourceDeleted(change) if matches!(change.0, Resource::Chatbot(_)) => {
                self.seats.review(event.tenant, false);
            }
            Payload::GroupMembersChanged(_) | Payload::ResourceDeleted(_) | Payload::ResourceRestored(_) => {
                self.seats.review(event.tenant, true);
            }
            // To whom the conversations of deleted groups come.
            Payload::GroupUpdated(change) if change.is_default.is_some() => self.seats.review(event.tenant, true),
            Payload::GroupCreated(made) if made.is_default => self.seats.review(event.tenant, true),
            Payload::VisitorBlocked(change) => {
                self.seats.end_person(event.tenant, Person::Visitor(change.visitor_id));
            }
            // They come back as who they are now.
            Payload::VisitorMerged(merged) => {
                self.seats.end_person(event.tenant, Person::Visitor(merged.source_visitor_id));
            }
            Payload::VisitorErased(erased) => {
                self.seats.end_person(event.tenant, Person::Visitor(erased.visitor_id));
            }
            _ => {}
        }
        let Some(conversation) = event.conversation else { return 0 };
        if event.origin != Origin::Live {
            return 0;
        }
        self.inbox.mark(event.tenant, conversation);
        let key = (event.tenant, conversation);
        let mut pushes = 0;
        if self.topics.advance(key, event.seq, visitor_may_see(event)) {
            // Agents and visitors see the same JSON of an event that both may see, so it's made once for all.
            let frame = render(event, views).and_then(|text| self.queued.frame(event.tenant, text));
            pushes = self.topics.deliver(key, event.seq, frame.as_ref());
        }
        if moves(&event.payload) {
            self.topics.review(key);
            self.queue.mark(event.tenant);
        }
        if let Payload::AgentAssigned(_) = event.payload {
            self.show_agent_of(views, pool, key);
        }
        pushes
    }

    /// Ends the sockets of sessions that an event has ended.
    fn end_sockets(&self, event: &Event) {
        let end = |agent| self.seats.end_person(event.tenant, Person::Agent(agent));
        match &event.payload {
            Payload::SessionClosed(closed) => self.seats.end_session(closed.session_id),
            Payload::AgentUpdated(change) if change.ends_sessions() => end(change.agent_id),
            Payload::AgentDeleted(change) => end(change.agent_id),
            Payload::PasswordChanged(change) => end(change.agent_id),
            Payload::OwnershipTransferred(change) => {
                end(change.from_agent_id);
                end(change.to_agent_id);
            }
            Payload::RoleUpdated(change) if change.permissions.is_some() => self.seats.end_role(change.role_id),
            Payload::RoleDeleted(change) => self.seats.end_role(change.role_id),
            Payload::RoleRestored(change) => self.seats.end_role(change.role_id),
            _ => {}
        }
    }

    /// Tells the others in a conversation that `person` is typing. The caller has checked that the conversation is
    /// theirs. Once a second at most; more is dropped without a word.
    pub fn typing(&self, views: &Views, tenant: TenantId, conversation: ConversationId, person: Person) {
        let key = (tenant, conversation);
        if !self.topics.may_type(key, person) {
            return;
        }
        let name = match person {
            Person::Agent(id) => views.agent_name(tenant, id),
            Person::Visitor(id) => views.visitor_name(tenant, id),
        };
        let name = name.unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to look a name up; typing is shown without it");
            None
        });
        self.topics.relay_typing(key, person, &frames::typing(conversation, person, name.as_deref()));
    }
}

/// Whether an event may have changed who sees its conversation.
fn moves(payload: &Payload) -> bool {
    !matches!(
        payload,
        Payload::MessagePosted(_)
            | Payload::NotePosted(_)
            | Payload::ConversationTagged(_)
            | Payload::ConversationRated(_)
            | Payload::ConversationResolved(_)
    )
}

/// The frame of an event; `None` when it can't be made now, and whoever needs it reads the log later.
fn render(event: &Event, views: &Views) -> Option<Utf8Bytes> {
    match views.event(event) {
        Ok(view) => view.as_ref().map(frames::event),
        Err(error) => {
            tracing::warn!(%error, event = %event.id, "failed to show an event; its subscribers read it from the log");
            None
        }
    }
}
