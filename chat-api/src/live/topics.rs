//! Who listens to which conversation, and how far each has got.
//!
//! A subscriber is *behind* (reads the log by itself) or *live* (the hub pushes). It goes live only when it has read as
//! far as the hub has pushed, both compared under one lock, so no event falls between the two.

use super::credential::Person;
use super::outbox::{Item, Outbox};
use super::queued::LiveFrame;
use axum::extract::ws::Utf8Bytes;
use ingest::id::{ConversationId, TenantId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A person's typing in one conversation is relayed once in this time.
const TYPING_EVERY: Duration = Duration::from_secs(1);

/// A conversation of a tenant; the tenant comes from the credential.
pub(super) type Key = (TenantId, ConversationId);

/// Who a subscription belongs to.
#[derive(Clone)]
pub(super) struct Listener {
    pub(super) outbox: Arc<Outbox>,
    /// Tells this subscription from others of the same socket, earlier ones to the same conversation included.
    pub(super) subscription: u32,
    pub(super) person: Person,
}

struct Subscriber {
    listener: Listener,
    /// The last `seq` that was queued, or that this audience doesn't get.
    sent: u64,
    live: bool,
}

impl Subscriber {
    fn is(&self, outbox: u64, subscription: u32) -> bool {
        self.listener.outbox.id == outbox && self.listener.subscription == subscription
    }

    fn fall_behind(&mut self) {
        self.live = false;
        self.listener.outbox.push(Item::CatchUp { subscription: self.listener.subscription });
    }
}

#[derive(Default)]
struct Topic {
    /// The last `seq` that the hub came by since somebody listens.
    head: u64,
    subscribers: Vec<Subscriber>,
    typed: Vec<(Person, Instant)>,
}

impl Topic {
    /// The agents who listen, or the visitors.
    fn audience(&self, agents: bool) -> impl Iterator<Item = &Listener> {
        let listeners = self.subscribers.iter().map(|subscriber| &subscriber.listener);
        listeners.filter(move |listener| listener.person.is_agent() == agents)
    }
}

/// All topics of the process.
#[derive(Default)]
pub(super) struct Topics(Mutex<HashMap<Key, Topic>>);

impl Topics {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Topic>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a subscriber who is behind.
    pub(super) fn add(&self, key: Key, listener: Listener) {
        let mut topics = self.lock();
        topics.entry(key).or_default().subscribers.push(Subscriber { listener, sent: 0, live: false });
    }

    /// Takes a subscriber away.
    pub(super) fn remove(&self, key: Key, outbox: u64, subscription: u32) {
        let mut topics = self.lock();
        let Some(topic) = topics.get_mut(&key) else { return };
        topic.subscribers.retain(|subscriber| !subscriber.is(outbox, subscription));
        if topic.subscribers.is_empty() {
            topics.remove(&key);
        }
    }

    /// Makes a subscriber live who has everything up to `sent`; `false` when the hub is further: read on.
    pub(super) fn go_live(&self, key: Key, outbox: u64, subscription: u32, sent: u64) -> bool {
        let mut topics = self.lock();
        let Some(topic) = topics.get_mut(&key) else { return false };
        if topic.head > sent {
            return false;
        }
        let found = topic.subscribers.iter_mut().find(|subscriber| subscriber.is(outbox, subscription));
        let Some(subscriber) = found else { return false };
        (subscriber.live, subscriber.sent) = (true, sent);
        true
    }

    /// The hub comes by event `seq`. `true` when somebody needs its frame: then [`deliver`](Self::deliver) follows.
    /// Live subscribers for whom events are missing before this one fall behind.
    pub(super) fn advance(&self, key: Key, seq: u64, for_visitors: bool) -> bool {
        let mut topics = self.lock();
        let Some(topic) = topics.get_mut(&key) else { return false };
        topic.head = topic.head.max(seq);
        let mut wanted = false;
        for subscriber in topic.subscribers.iter_mut().filter(|subscriber| subscriber.live && subscriber.sent < seq) {
            if subscriber.sent + 1 != seq {
                subscriber.fall_behind();
            } else if for_visitors || subscriber.listener.person.is_agent() {
                wanted = true;
            } else {
                subscriber.sent = seq;
            }
        }
        wanted
    }

    /// Queues the frame for those whose next event it is, and counts them; without a frame they fall behind.
    pub(super) fn deliver(&self, key: Key, seq: u64, frame: Option<&LiveFrame>) -> u64 {
        let mut topics = self.lock();
        let Some(topic) = topics.get_mut(&key) else { return 0 };
        let mut pushes = 0;
        // Whoever went live since `advance` has read the log up to this event: `sent` says so.
        for subscriber in topic.subscribers.iter_mut().filter(|subscriber| subscriber.live && subscriber.sent < seq) {
            let Some(frame) = frame else {
                subscriber.fall_behind();
                continue;
            };
            let subscription = subscriber.listener.subscription;
            subscriber.listener.outbox.push(Item::Event { subscription, seq, frame: frame.clone() });
            subscriber.sent = seq;
            pushes += 1;
        }
        pushes
    }

    /// Who may see the conversation may have changed: every subscriber looks again, after what is queued.
    pub(super) fn review(&self, key: Key) {
        let topics = self.lock();
        for subscriber in topics.get(&key).into_iter().flat_map(|topic| &topic.subscribers) {
            let listener = &subscriber.listener;
            listener.outbox.push(Item::Review { subscription: Some(listener.subscription) });
        }
    }

    /// Whether typing by `person` is to be relayed now: somebody else listens, and it wasn't just relayed.
    pub(super) fn may_type(&self, key: Key, person: Person) -> bool {
        let mut topics = self.lock();
        let Some(topic) = topics.get_mut(&key) else { return false };
        if topic.subscribers.iter().all(|subscriber| subscriber.listener.person == person) {
            return false;
        }
        let now = Instant::now();
        topic.typed.retain(|(_, at)| now.duration_since(*at) < TYPING_EVERY);
        if topic.typed.iter().any(|(typist, _)| *typist == person) {
            return false;
        }
        topic.typed.push((person, now));
        true
    }

    /// Whether agents, or visitors, listen.
    pub(super) fn has(&self, key: Key, agents: bool) -> bool {
        let topics = self.lock();
        topics.get(&key).is_some_and(|topic| topic.audience(agents).next().is_some())
    }

    /// Queues a frame that nobody misses for the agents, or for the visitors.
    pub(super) fn relay_to(&self, key: Key, agents: bool, frame: &Utf8Bytes) {
        let topics = self.lock();
        let audience = topics.get(&key).into_iter().flat_map(|topic| topic.audience(agents));
        audience.for_each(|listener| listener.outbox.push_droppable(frame.clone()));
    }

    /// Queues a typing frame for everyone but `person`.
    pub(super) fn relay_typing(&self, key: Key, person: Person, frame: &Utf8Bytes) {
        let topics = self.lock();
        let Some(topic) = topics.get(&key) else { return };
        for subscriber in topic.subscribers.iter().filter(|subscriber| subscriber.listener.person != person) {
            subscriber.listener.outbox.push_droppable(frame.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::hub::Limits;
    use ingest::id::{AgentId, VisitorId};

    struct Story {
        topics: Topics,
        key: Key,
    }

    impl Story {
        fn new() -> Self {
            Self { topics: Topics::default(), key: (TenantId::fresh(), ConversationId::fresh()) }
        }

        fn subscribe(&self, person: Person) -> Arc<Outbox> {
            let outbox = Arc::new(Outbox::new(&Limits::default()));
            self.topics.add(self.key, Listener { outbox: Arc::clone(&outbox), subscription: 1, person });
            outbox
        }

        fn event(&self, seq: u64, for_visitors: bool) {
            if self.topics.advance(self.key, seq, for_visitors) {
                self.topics.deliver(self.key, seq, Some(&Utf8Bytes::from("{}").into()));
            }
        }

        fn go_live(&self, outbox: &Outbox, sent: u64) -> bool {
            self.topics.go_live(self.key, outbox.id, 1, sent)
        }
    }

    /// What is queued, one word an item: a seq, or `behind`.
    fn queued(outbox: &Outbox) -> String {
        let mut words = Vec::new();
        while let Some(item) = outbox.pop() {
            words.push(match item {
                Item::Event { seq, .. } => seq.to_string(),
                Item::Frame(_) => "frame".to_owned(),
                Item::CatchUp { .. } => "behind".to_owned(),
                Item::Review { .. } => "review".to_owned(),
            });
        }
        words.join(" ")
    }

    fn agent() -> Person {
        Person::Agent(AgentId::fresh())
    }

    #[test]
    fn going_live_waits_for_what_the_hub_came_by_meanwhile() {
        let story = Story::new();
        let outbox = story.subscribe(agent());
        story.event(4, true);
        assert!(!story.go_live(&outbox, 3), "event 4 would be lost");
        assert!(story.go_live(&outbox, 4));
        story.event(4, true);
        story.event(5, true);
        assert_eq!(queued(&outbox), "5");
    }

    #[test]
    fn a_gap_sends_the_subscriber_back_to_the_log() {
        let story = Story::new();
        let outbox = story.subscribe(agent());
        assert!(story.go_live(&outbox, 3));
        story.event(4, true);
        story.event(6, true);
        story.event(7, true);
        assert_eq!(queued(&outbox), "4 behind");
        assert!(!story.go_live(&outbox, 6));
        assert!(story.go_live(&outbox, 7));
    }

    #[test]
    fn notes_are_holes_for_visitors_and_not_gaps() {
        let story = Story::new();
        let (visitor, agent) = (story.subscribe(Person::Visitor(VisitorId::fresh())), story.subscribe(agent()));
        assert!(story.go_live(&visitor, 1) && story.go_live(&agent, 1));
        story.event(2, true);
        story.event(3, false);
        story.event(4, true);
        assert_eq!(queued(&visitor), "2 4");
        assert_eq!(queued(&agent), "2 3 4");
    }

    #[test]
    fn an_event_that_cannot_be_shown_now_is_read_from_the_log_later() {
        let story = Story::new();
        let outbox = story.subscribe(agent());
        assert!(story.go_live(&outbox, 0));
        assert!(story.topics.advance(story.key, 1, true));
        story.topics.deliver(story.key, 1, None);
        assert_eq!(queued(&outbox), "behind");
    }

    #[test]
    fn typing_reaches_the_others_once_a_second() {
        let story = Story::new();
        let (ada, visitor) = (agent(), Person::Visitor(VisitorId::fresh()));
        let outbox = story.subscribe(ada);
        assert!(!story.topics.may_type(story.key, ada), "nobody else is there");
        let other = story.subscribe(visitor);
        assert!(story.topics.may_type(story.key, ada));
        assert!(!story.topics.may_type(story.key, ada), "too soon");
        story.topics.relay_typing(story.key, ada, &"{}".into());
        assert_eq!((queued(&outbox), queued(&other)), (String::new(), "frame".to_owned()));
    }

    #[test]
    fn the_last_one_out_takes_the_topic_away() {
        let story = Story::new();
        let outbox = story.subscribe(agent());
        story.topics.remove(story.key, outbox.id, 1);
        assert!(story.topics.lock().is_empty());
    }
}
