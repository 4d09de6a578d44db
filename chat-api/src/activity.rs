//! What the widgets of each chatbot did since this server started; for their status.

use ingest::id::ChatbotId;
use ingest::time::Timestamp;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

/// Chatbots that are counted; those that were silent longest are forgotten.
const CHATBOTS_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// Requests of one chatbot's widgets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// All of them.
    pub count: u64,
    /// Those that were refused or failed.
    pub errors: u64,
    /// The last one.
    pub last: Option<Timestamp>,
}

/// Counters by chatbot, in memory.
pub struct Activity {
    /// When counting began.
    pub since: Timestamp,
    chatbots: Mutex<LruCache<ChatbotId, Requests>>,
}

impl Default for Activity {
    fn default() -> Self {
        Self { since: Timestamp::now(), chatbots: Mutex::new(LruCache::new(CHATBOTS_MAX)) }
    }
}

impl Activity {
    /// Counts a request; `failed` when it was refused or failed.
    pub fn note(&self, chatbot: ChatbotId, at: Timestamp, failed: bool) {
        let mut chatbots = self.chatbots.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = chatbots.get_or_insert_mut(chatbot, Requests::default);
        requests.count += 1;
        requests.errors += u64::from(failed);
        requests.last = requests.last.max(Some(at));
    }

    /// What was counted of a chatbot.
    #[must_use]
    pub fn requests(&self, chatbot: ChatbotId) -> Requests {
        let mut chatbots = self.chatbots.lock().unwrap_or_else(PoisonError::into_inner);
        chatbots.get(&chatbot).copied().unwrap_or_default()
    }
}
