//! What one socket listens to. Dropping it ends all of it.

use super::LiveHub;
use super::credential::Person;
use super::outbox::Outbox;
use super::topics::{Key, Listener};
use crate::auth::AgentCaller;
use ingest::id::{ConversationId, TenantId};
use std::sync::Arc;

/// One conversation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    pub(super) conversation: ConversationId,
    /// Unique in the socket; a conversation that is subscribed again gets another.
    pub(super) id: u32,
    /// The last `seq` that was written.
    pub(super) sent: u64,
}

/// All of a socket's.
pub(super) struct Subscriptions {
    hub: Arc<LiveHub>,
    outbox: Arc<Outbox>,
    tenant: TenantId,
    person: Person,
    open: Vec<Subscription>,
    next_id: u32,
    inbox: bool,
}

impl Subscriptions {
    pub(super) fn new(hub: Arc<LiveHub>, outbox: Arc<Outbox>, tenant: TenantId, person: Person) -> Self {
        Self { hub, outbox, tenant, person, open: Vec::new(), next_id: 1, inbox: false }
    }

    pub(super) fn key(&self, conversation: ConversationId) -> Key {
        (self.tenant, conversation)
    }

    pub(super) fn person(&self) -> Person {
        self.person
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn contains(&self, conversation: ConversationId) -> bool {
        self.open.iter().any(|open| open.conversation == conversation)
    }

    pub(super) fn get(&self, id: u32) -> Option<Subscription> {
        self.open.iter().find(|open| open.id == id).copied()
    }

    /// Registers the conversation, behind, in the place of an earlier subscription to it. What is committed from here
    /// on is either found in the log by whoever reads it afterwards, or comes by the hub.
    pub(super) fn open(&mut self, conversation: ConversationId) -> u32 {
        self.close(conversation);
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let listener = Listener { outbox: Arc::clone(&self.outbox), subscription: id, person: self.person };
        self.hub.topics.add(self.key(conversation), listener);
        self.open.push(Subscription { conversation, id, sent: 0 });
        id
    }

    /// Ends the subscription to a conversation; `false` when there is none.
    pub(super) fn close(&mut self, conversation: ConversationId) -> bool {
        let Some(at) = self.open.iter().position(|open| open.conversation == conversation) else { return false };
        let closed = self.open.swap_remove(at);
        self.end(closed);
        true
    }

    /// Whether event `seq` of a subscription is still to be written; if so it counts as written.
    pub(super) fn advance(&mut self, id: u32, seq: u64) -> bool {
        match self.open.iter_mut().find(|open| open.id == id) {
            Some(open) if seq > open.sent => {
                open.sent = seq;
                true
            }
            _ => false,
        }
    }

    /// From here on the hub pushes, unless it is further than `sent`: then read on.
    pub(super) fn go_live(&self, subscription: Subscription, sent: u64) -> bool {
        self.hub.topics.go_live(self.key(subscription.conversation), self.outbox.id, subscription.id, sent)
    }

    /// Tells a visitor their place in the queue, while there is one.
    pub(super) fn wait(&self, conversation: ConversationId) {
        self.hub.queue.remove(self.tenant, conversation, self.outbox.id);
        self.hub.queue.add(self.tenant, conversation, &self.outbox);
    }

    fn end(&self, closed: Subscription) {
        self.hub.topics.remove(self.key(closed.conversation), self.outbox.id, closed.id);
        self.hub.queue.remove(self.tenant, closed.conversation, self.outbox.id);
    }

    /// Watches what this agent may see of the tenant's inbox.
    pub(super) fn open_inbox(&mut self, agent: AgentCaller) {
        self.inbox = true;
        self.hub.inbox.add(agent, &self.outbox);
    }

    /// Whether it watches the inbox.
    pub(super) fn has_inbox(&self) -> bool {
        self.inbox
    }

    /// All of them.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.open.iter().map(|open| open.id).collect()
    }

    /// Watches it no more.
    pub(super) fn close_inbox(&mut self) {
        if std::mem::take(&mut self.inbox) {
            self.hub.inbox.remove(self.tenant, self.outbox.id);
        }
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.close_inbox();
        for open in std::mem::take(&mut self.open) {
            self.end(open);
        }
    }
}
