//! `queue` frames: visitors who wait see their place when it changes.
//!
//! One look at a tenant's queue a second at most, however fast it moves, and only for those who listen. A frame says how
//! it is now, so what changes faster than that is one frame.

use super::frames;
use super::outbox::Outbox;
use crate::store::read;
use crate::view::{QueueView, ViewError, Views};
use axum::extract::ws::Utf8Bytes;
use ingest::id::{ConversationId, GroupId, TenantId};
use ingest::sqlite::ReadPool;
use ingest::time::Timestamp;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Between two looks.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Looking takes at most one part in this many of one core.
const PAUSE_FACTOR: u32 = 4;

/// Places of a line that are told; who is further back hears nothing until the line has moved.
const LINE_MAX: usize = 10_000;

/// A place and the seconds it may take, of one who waits.
type Place = Option<QueueView>;

struct Waiter {
    conversation: ConversationId,
    outbox: Arc<Outbox>,
    /// What it was told.
    told: Place,
}

#[derive(Default)]
struct State {
    waiters: HashMap<TenantId, Vec<Waiter>>,
    changed: HashSet<TenantId>,
}

/// The visitors who listen to their own conversations.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the visitor's socket is told its place.
    pub(super) fn add(&self, tenant: TenantId, conversation: ConversationId, outbox: &Arc<Outbox>) {
        let waiter = Waiter { conversation, outbox: Arc::clone(outbox), told: None };
        self.lock().waiters.entry(tenant).or_default().push(waiter);
        self.mark(tenant);
    }

    /// And no longer.
    pub(super) fn remove(&self, tenant: TenantId, conversation: ConversationId, outbox: u64) {
        let mut state = self.lock();
        let Some(waiters) = state.waiters.get_mut(&tenant) else { return };
        waiters.retain(|waiter| waiter.conversation != conversation || waiter.outbox.id != outbox);
        if waiters.is_empty() {
            state.waiters.remove(&tenant);
        }
    }

    /// The tenant's queue may have moved; nothing to do when nobody listens.
    pub(super) fn mark(&self, tenant: TenantId) {
        let mut state = self.lock();
        if state.waiters.contains_key(&tenant) && state.changed.insert(tenant) {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Tells places as they change; ends only by being dropped.
    pub(super) async fn run(&self, views: Arc<Views>, pool: ReadPool) {
        loop {
            self.wake.notified().await;
            let changed: Vec<_> = self.lock().changed.drain().collect();
            let started = Instant::now();
            for tenant in changed {
                self.look(tenant, &views, &pool).await;
            }
            tokio::time::sleep(PAUSE_MIN.max(started.elapsed() * (PAUSE_FACTOR - 1))).await;
        }
    }

    async fn look(&self, tenant: TenantId, views: &Arc<Views>, pool: &ReadPool) {
        let listened: HashSet<_> =
            self.lock().waiters.get(&tenant).into_iter().flatten().map(|waiter| waiter.conversation).collect();
        let reading = {
            let (views, pool) = (Arc::clone(views), pool.clone());
            tokio::task::spawn_blocking(move || places(&views, &pool, tenant, listened))
        };
        let places = match reading.await {
            Ok(Ok(places)) => places,
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to read a queue; trying again");
                self.mark(tenant);
                return;
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let mut state = self.lock();
        for waiter in state.waiters.get_mut(&tenant).into_iter().flatten() {
            let Some(place) = places.get(&waiter.conversation) else { continue };
            if waiter.told != *place {
                waiter.told = *place;
                waiter.outbox.push_droppable(frame(waiter.conversation, *place));
            }
        }
    }
}

fn frame(conversation: ConversationId, place: Place) -> Utf8Bytes {
    frames::queue(conversation, place.map(|place| place.position), place.and_then(|place| place.eta_seconds))
}

fn places(
    views: &Views,
    pool: &ReadPool,
    tenant: TenantId,
    listened: HashSet<ConversationId>,
) -> Result<HashMap<ConversationId, Place>, ViewError> {
    let mut places: HashMap<_, Place> = HashMap::with_capacity(listened.len());
    // A line is read once, however many listen to it.
    let mut lines: HashMap<Option<GroupId>, HashSet<ConversationId>> = HashMap::new();
    pool.read(|connection| {
        for id in listened {
            match read::conversation(connection, tenant, id)? {
                Some(chat) if chat.queued.is_some() => drop(lines.entry(chat.group).or_default().insert(id)),
                _ => drop(places.insert(id, None)),
            }
        }
        Ok(())
    })?;
    for (group, waiting) in lines {
        let line = views.queue_line(tenant, group, LINE_MAX, Timestamp::now())?;
        places.extend(line.into_iter().filter(|(id, _)| waiting.contains(id)).map(|(id, place)| (id, Some(place))));
    }
    Ok(places)
}
