//! `conversation.updated` for agents who watch the tenant's inbox.
//!
//! A frame shows the conversation as it is now, so changes that come faster than frames can be made are one frame: a
//! busy tenant costs a bounded share of the machine, and a quiet one waits for nothing.

use super::frames;
use super::outbox::{Item, Outbox};
use super::queued::Queued;
use crate::auth::AgentCaller;
use crate::core::state::Conversation;
use crate::store::read;
use crate::view::{Audience, ViewError, Views};
use axum::extract::ws::Utf8Bytes;
use ingest::id::{ConversationId, TenantId};
use ingest::sqlite::ReadPool;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Changes within this time of the last frames are put together.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Making frames takes at most one part in this many of one core.
const PAUSE_FACTOR: u32 = 4;
/// A failed read is tried again after this, and what had no room.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Conversations rendered before other blocking work gets its turn.
const CHUNK: usize = 64;

/// A socket, and what its agent may see.
struct Watcher {
    outbox: Arc<Outbox>,
    agent: AgentCaller,
}

#[derive(Default)]
struct State {
    listeners: HashMap<TenantId, Vec<Watcher>>,
    changed: HashSet<(TenantId, ConversationId)>,
    /// Of tenants whose sockets' queues are full; looked at again at this time.
    deferred: HashSet<(TenantId, ConversationId)>,
    again_at: Option<tokio::time::Instant>,
}

impl State {
    /// What is to be shown now.
    fn take(&mut self) -> Vec<(TenantId, ConversationId)> {
        let mut changed: Vec<_> = self.changed.drain().collect();
        if self.again_at.is_some_and(|at| at <= tokio::time::Instant::now()) {
            self.again_at = None;
            changed.extend(self.deferred.drain());
        }
        changed
    }
}

/// Who watches, and what has changed for them.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    wake: Notify,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the socket gets every change that its agent may see; once however often it asks.
    pub(super) fn add(&self, agent: AgentCaller, outbox: &Arc<Outbox>) {
        let mut state = self.lock();
        let listeners = state.listeners.entry(agent.tenant).or_default();
        match listeners.iter_mut().find(|listener| listener.outbox.id == outbox.id) {
            Some(listener) => listener.agent = agent,
            None => listeners.push(Watcher { outbox: Arc::clone(outbox), agent }),
        }
    }

    /// The socket gets no more.
    pub(super) fn remove(&self, tenant: TenantId, outbox: u64) {
        let mut state = self.lock();
        let Some(listeners) = state.listeners.get_mut(&tenant) else { return };
        listeners.retain(|listener| listener.outbox.id != outbox);
        if listeners.is_empty() {
            state.listeners.remove(&tenant);
        }
    }

    /// The conversation has changed; nothing to do when nobody watches.
    pub(super) fn mark(&self, tenant: TenantId, conversation: ConversationId) {
        let mut state = self.lock();
        if !state.listeners.contains_key(&tenant) || !state.changed.insert((tenant, conversation)) {
            return;
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Makes and pushes frames for what changes; ends only by being dropped.
    pub(super) async fn run(&self, views: Arc<Views>, pool: ReadPool, queued: &Queued) {
        loop {
            let again_at = self.lock().again_at;
            tokio::select! {
                () = self.wake.notified() => {}
                () = until(again_at) => {}
            }
            let mut changed = self.lock().take();
            let started = Instant::now();
            while !changed.is_empty() {
                let chunk = changed.split_off(changed.len().saturating_sub(CHUNK));
                if !self.push(chunk, &views, &pool, queued).await {
                    // What is left is marked again with the chunk that failed.
                    changed.drain(..).for_each(|(tenant, conversation)| self.mark(tenant, conversation));
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
            tokio::time::sleep(PAUSE_MIN.max(started.elapsed() * (PAUSE_FACTOR - 1))).await;
        }
    }

    /// `false` when the conversations couldn't be read; they are marked again.
    async fn push(
        &self,
        chunk: Vec<(TenantId, ConversationId)>,
        views: &Arc<Views>,
        pool: &ReadPool,
        queued: &Queued,
    ) -> bool {
        let rendering = {
            let (chunk, views, pool) = (chunk.clone(), Arc::clone(views), pool.clone());
            tokio::task::spawn_blocking(move || render(&chunk, &views, &pool))
        };
        let frames = match rendering.await {
            Ok(Ok(frames)) => frames,
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed to show changed conversations to agents; trying again");
                chunk.into_iter().for_each(|(tenant, conversation)| self.mark(tenant, conversation));
                return false;
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let mut state = self.lock();
        let mut pushes = 0;
        for Changed { chat, with_contacts, without } in frames {
            let frames = (queued.frame(chat.tenant, with_contacts), queued.frame(chat.tenant, without));
            // Without room it's shown later, as it is then; its tenant's sockets are read too slowly.
            let (Some(with_contacts), Some(without)) = frames else {
                state.deferred.insert((chat.tenant, chat.id));
                state.again_at.get_or_insert_with(|| tokio::time::Instant::now() + RETRY_PAUSE);
                continue;
            };
            let listeners = state.listeners.get(&chat.tenant).into_iter().flatten();
            for listener in listeners.filter(|listener| listener.agent.may_see(&chat)) {
                let contacts = listener.agent.audience_of(&chat) == Audience::Agent { contacts: true };
                let frame = if contacts { &with_contacts } else { &without };
                listener.outbox.push(Item::Frame(frame.clone()));
                pushes += 1;
            }
        }
        metrics::counter!("parlance_pushes_total").increment(pushes);
        true
    }
}

/// Forever without a time.
async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A conversation that has changed, and its frames.
struct Changed {
    chat: Conversation,
    /// For who sees colleagues' addresses.
    with_contacts: Utf8Bytes,
    without: Utf8Bytes,
}

fn render(chunk: &[(TenantId, ConversationId)], views: &Views, pool: &ReadPool) -> Result<Vec<Changed>, ViewError> {
    let mut frames = Vec::with_capacity(chunk.len());
    for (tenant, id) in chunk {
        if let Some(chat) = pool.read(|connection| read::conversation(connection, *tenant, *id))? {
            let mut view = views.conversation(&chat, Audience::Agent { contacts: true })?;
            let with_contacts = frames::conversation_updated(&view);
            view.agent_email = Some(None);
            frames.push(Changed { chat, with_contacts, without: frames::conversation_updated(&view) });
        }
    }
    Ok(frames)
}
