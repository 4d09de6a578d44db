//! History from the log: pages of a conversation as frames, for subscriptions that are behind.

use super::credential::{Credential, Person};
use super::frames;
use crate::core::state::Conversation;
use crate::store::read;
use crate::view::{ViewError, Views, visitor_may_see};
use axum::extract::ws::Utf8Bytes;
use ingest::id::ConversationId;
use ingest::sqlite::{EmbeddedLog, ReadPool};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Events read at once; fewer where they are large.
const PAGE_EVENTS: usize = 200;
/// Pages read at the same time in the process: after a restart everyone resumes, and each reader is a connection.
const READERS_MAX: usize = 4;

/// The part of a conversation's history after some `seq`.
pub(super) struct Page {
    /// What the reader may see, by `seq`.
    pub(super) events: Vec<(u64, Utf8Bytes)>,
    /// The last `seq` looked at, visible or not; the one asked for when there was nothing.
    pub(super) last: u64,
    /// There is more.
    pub(super) full: bool,
}

impl Page {
    /// Bytes of its frames.
    pub(super) fn bytes(&self) -> usize {
        self.events.iter().map(|(_, frame)| frame.len()).sum()
    }
}

/// Reads pages for all sockets, a few at a time.
pub(super) struct Historian {
    readers: Semaphore,
}

impl Default for Historian {
    fn default() -> Self {
        Self { readers: Semaphore::new(READERS_MAX) }
    }
}

impl Historian {
    /// The next page after `after`. The conversation must have been found to be the reader's, and there must be room.
    pub(super) async fn page(
        &self,
        pool: &ReadPool,
        views: &Arc<Views>,
        conversation: ConversationId,
        after: u64,
        reader: Person,
    ) -> Result<Page, ViewError> {
        let (pool, views) = (pool.clone(), Arc::clone(views));
        let _reading = self.readers.acquire().await;
        let reading = tokio::task::spawn_blocking(move || page(&pool, &views, conversation, after, reader));
        match reading.await {
            Ok(page) => page,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

fn page(
    pool: &ReadPool,
    views: &Views,
    conversation: ConversationId,
    after: u64,
    reader: Person,
) -> Result<Page, ViewError> {
    let records = EmbeddedLog::history(pool, conversation, after, PAGE_EVENTS)?;
    let mut page = Page { events: Vec::new(), last: after, full: records.next.is_some() };
    for record in records.values() {
        page.last = record.event.seq;
        if (reader.is_agent() || visitor_may_see(&record.event))
            && let Some(view) = views.event(&record.event)?
        {
            page.events.push((record.event.seq, frames::event(&view)));
        }
    }
    Ok(page)
}

/// The conversation, if the reader may see it.
pub(super) fn find(pool: &ReadPool, id: ConversationId, reader: &Credential) -> rusqlite::Result<Option<Conversation>> {
    let found = pool.read(|connection| read::conversation(connection, reader.tenant(), id))?;
    Ok(found.filter(|chat| reader.may_see(chat)))
}
