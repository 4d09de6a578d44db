//! What the log keeps of whom, counted as it's written: a follower of the log adds every event's bytes to its visitor's,
//! its chatbot's and its tenant's counts, and stores them with the offset up to which they count. After a crash it goes on
//! from there, so nothing is lost and nothing counts twice. Start at [`follow`].

use super::quotas::{ByteQuota, COUNTS_MAX, Usage, Whose};
use crate::app::App;
use crate::store::{read, usage as stored};
use ingest::event::{Actor, Event, Origin};
use ingest::id::{ChatbotId, VisitorId};
use ingest::log::Record;
use ingest::payload::Payload;
use ingest::time::Timestamp;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Between two looks at the log. What is written meanwhile isn't counted yet, so it's short.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two times that the counts are stored.
const STORE_EVERY: Duration = Duration::from_secs(30);
/// Records read at a time.
const READ_MAX: usize = 1_024;
/// Visitors whose chatbot is known without looking; some 8 MiB.
const VISITORS_MAX: NonZeroUsize = NonZeroUsize::new(50_000).expect("not zero");

/// Counts until it's stopped. A log that can't be read or a store that can't be written is tried again: counts that lag are
/// better than none.
pub async fn follow(app: Arc<App>, stop: CancellationToken) {
    let mut follower = Follower { visitors: LruCache::new(VISITORS_MAX), next: None, app };
    let mut every = tokio::time::interval(LOOK_EVERY);
    let mut stored = Instant::now();
    loop {
        let last = tokio::select! { () = stop.cancelled() => true, _ = every.tick() => false };
        // Of a backlog much is read and decoded: not on a thread that others wait for.
        let (counting, stopping) = (follower, stop.clone());
        let counted = tokio::task::spawn_blocking(move || {
            let mut counting = counting;
            let outcome = counting.catch_up(&stopping);
            (counting, outcome)
        });
        let outcome;
        (follower, outcome) = match counted.await {
            Ok(counted) => counted,
            Err(error) => {
                tracing::error!(%error, "usage is not counted any more");
                return;
            }
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "failed to count what the log keeps; trying again");
        }
        if last || stored.elapsed() >= STORE_EVERY {
            stored = Instant::now();
            follower.store().await;
        }
        if last {
            return;
        }
    }
}

struct Follower {
    app: Arc<App>,
    /// The offset that isn't counted yet; none before the stored counts are read.
    next: Option<u64>,
    visitors: LruCache<VisitorId, Option<ChatbotId>>,
}

impl Follower {
    fn catch_up(&mut self, stop: &CancellationToken) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let app = Arc::clone(&self.app);
        let usage = &app.limiter.room.usage;
        let mut next = match self.next {
            Some(next) => next,
            None => {
                let (counts, next) = app.pool.read(|connection| stored::load(connection, COUNTS_MAX))?;
                usage.restore(counts);
                next
            }
        };
        self.next = Some(next);
        let reader = app.writer.reader();
        while next < reader.end() && !stop.is_cancelled() {
            let records = reader.read(next, READ_MAX)?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            for record in &records {
                self.count(usage, record)?;
            }
            self.next = Some(next);
        }
        Ok(())
    }

    fn count(&mut self, usage: &Usage, record: &Record) -> rusqlite::Result<()> {
        let Record { event, body, .. } = record;
        let tenant = *event.tenant.bytes();
        let daily = match &event.payload {
            Payload::RowsAppended(_) => ByteQuota::TenantRows,
            _ => ByteQuota::TenantText,
        };
        let mut of: Vec<(ByteQuota, Whose)> = vec![(ByteQuota::TenantLog, tenant), (daily, tenant)];
        if let (Actor::Visitor(visitor), Origin::Live) = (event.actor, event.origin) {
            of.push((ByteQuota::VisitorText, *visitor.bytes()));
            let chatbot = self.chatbot(visitor, event)?;
            of.extend(chatbot.map(|chatbot| (ByteQuota::ChatbotText, *chatbot.bytes())));
        }
        usage.add(&of, body.len() as u64, event.recorded_at.0);
        Ok(())
    }

    /// The chatbot that a visitor came through last.
    fn chatbot(&mut self, visitor: VisitorId, event: &Event) -> rusqlite::Result<Option<ChatbotId>> {
        if let Payload::ConversationStarted(started) = &event.payload {
            self.visitors.put(visitor, started.chatbot_id);
            return Ok(started.chatbot_id);
        }
        if let Some(known) = self.visitors.get(&visitor) {
            return Ok(*known);
        }
        let Some(id) = event.conversation else { return Ok(None) };
        let found = self.app.pool.read(|connection| read::conversation(connection, event.tenant, id))?;
        let chatbot = found.and_then(|chat| chat.chatbot);
        self.visitors.put(visitor, chatbot);
        Ok(chatbot)
    }

    /// Stores what changed, and up to where it counts.
    async fn store(&self) {
        let Some(next) = self.next else { return };
        let changed = self.app.limiter.room.usage.changed(Timestamp::now().0);
        if changed.is_empty() {
            return;
        }
        let outcome = self.app.writer.transact(move |connection| stored::save(connection, &changed, next)).await;
        if let Err(error) = outcome {
            tracing::warn!(%error, "failed to store what was used of quotas");
        }
    }
}
