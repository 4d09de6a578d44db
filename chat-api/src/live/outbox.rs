//! What waits to be written to one socket. The hub puts in, the socket's task takes out; neither waits for the other.
//!
//! Bounded: whoever reads too slowly is ended, not waited for, and resumes from the log.

use super::hub::Limits;
use super::queued::LiveFrame;
use axum::extract::ws::Utf8Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Room kept by an empty queue; a burst's memory goes back.
const KEPT_ITEMS_MAX: usize = 32;

/// One thing to do for the socket's task.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// An event of a subscription; dropped when the subscription is over or has sent this `seq` already.
    Event { subscription: u32, seq: u64, frame: LiveFrame },
    /// A frame that belongs to no history.
    Frame(LiveFrame),
    /// The subscription fell behind: read the log from its last sent `seq` on.
    CatchUp { subscription: u32 },
    /// What its person may see has changed: look again, at one subscription or, with new rights, at all.
    Review { subscription: Option<u32> },
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Event { frame, .. } | Self::Frame(frame) => frame.text.len(),
            Self::CatchUp { .. } | Self::Review { .. } => 0,
        }
    }
}

/// Why the hub ends a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The queue was full.
    Slow,
    /// The session was closed or the role changed.
    Revoked,
    /// The server stops: what is queued is written first.
    GoingAway,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    ending: Option<Ending>,
}

/// The queue of one socket.
pub(super) struct Outbox {
    /// Unique in this process.
    pub(super) id: u64,
    frames_max: usize,
    bytes_max: usize,
    queue: Mutex<Queue>,
    ready: Notify,
    urgent: Notify,
}

impl Outbox {
    pub(super) fn new(limits: &Limits) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            frames_max: limits.queue_frames_max,
            bytes_max: limits.queue_bytes_max,
            queue: Mutex::default(),
            ready: Notify::new(),
            urgent: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an item; ends the socket when there is no room. A single frame of any size fits into an empty queue.
    pub(super) fn push(&self, item: Item) {
        let mut queue = self.lock();
        if queue.ending.is_some() {
            return;
        }
        let bytes = queue.bytes + item.bytes();
        if queue.items.len() >= self.frames_max || (bytes > self.bytes_max && !queue.items.is_empty()) {
            drop(queue);
            self.end(Ending::Slow);
            return;
        }
        queue.bytes = bytes;
        queue.items.push_back(item);
        drop(queue);
        self.ready.notify_one();
    }

    /// Queues a frame that nobody misses; a socket with much to write doesn't get it.
    pub(super) fn push_droppable(&self, frame: Utf8Bytes) {
        if self.lock().items.len() < self.frames_max / 2 {
            self.push(Item::Frame(frame.into()));
        }
    }

    /// Ends the socket; the first reason counts.
    pub(super) fn end(&self, ending: Ending) {
        let mut queue = self.lock();
        if queue.ending.is_some() {
            return;
        }
        queue.ending = Some(ending);
        if ending != Ending::GoingAway {
            // Freed here and not by the socket's task, which may be stuck in a write.
            queue.items = VecDeque::new();
            queue.bytes = 0;
            self.urgent.notify_one();
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// Bytes of the next item; 0 without one.
    pub(super) fn next_bytes(&self) -> usize {
        self.lock().items.front().map_or(0, Item::bytes)
    }

    /// The next item.
    pub(super) fn pop(&self) -> Option<Item> {
        let mut queue = self.lock();
        let item = queue.items.pop_front();
        match &item {
            Some(item) => queue.bytes -= item.bytes(),
            None if queue.items.capacity() > KEPT_ITEMS_MAX => queue.items = VecDeque::new(),
            None => {}
        }
        item
    }

    /// Why the socket is to end, if it is; for [`Ending::GoingAway`] only once the queue is empty.
    pub(super) fn ending(&self) -> Option<Ending> {
        let queue = self.lock();
        queue.ending.filter(|_| queue.items.is_empty())
    }

    /// Waits until there is an item or an ending. Only the socket's task may wait.
    pub(super) async fn ready(&self) {
        loop {
            {
                let queue = self.lock();
                if !queue.items.is_empty() || queue.ending.is_some() {
                    return;
                }
            }
            self.ready.notified().await;
        }
    }

    /// Waits until the socket must end without writing what it is writing. Only the socket's task may wait.
    pub(super) async fn urgent(&self) {
        self.urgent.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(frames: usize, bytes: usize) -> Outbox {
        Outbox::new(&Limits { queue_frames_max: frames, queue_bytes_max: bytes, ..Limits::default() })
    }

    fn frame(bytes: usize) -> Item {
        Item::Frame(Utf8Bytes::from("x".repeat(bytes)).into())
    }

    #[test]
    fn a_full_queue_ends_the_socket_and_frees_its_memory() {
        let full = outbox(2, 1_000);
        (0..3).for_each(|_| full.push(frame(1)));
        assert_eq!(full.ending(), Some(Ending::Slow));
        assert!(full.pop().is_none());
        let heavy = outbox(10, 1_000);
        heavy.push(frame(5_000));
        assert_eq!(heavy.ending(), None, "one large frame fits into an empty queue");
        heavy.push(frame(1));
        assert_eq!(heavy.ending(), Some(Ending::Slow));
    }

    #[test]
    fn a_stopping_server_lets_the_queue_empty_first() {
        let stopping = outbox(2, 1_000);
        stopping.push(frame(1));
        stopping.end(Ending::GoingAway);
        stopping.push(frame(1));
        assert_eq!(stopping.ending(), None);
        assert!(stopping.pop().is_some());
        assert!(stopping.pop().is_none(), "nothing is queued after the end");
        assert_eq!(stopping.ending(), Some(Ending::GoingAway));
    }

    #[test]
    fn typing_gives_way_to_events() {
        let busy = outbox(4, 1_000);
        (0..2).for_each(|_| busy.push(frame(1)));
        busy.push_droppable("t".into());
        assert_eq!(busy.lock().items.len(), 2);
        assert_eq!(busy.ending(), None);
    }
}
