//! What one reader gets: queued frames, history, and what each subscription begins with. Sockets and event streams write
//! what comes out of here.
//!
//! Nothing here waits for a peer, only for room. [`Feed::queued`] first, then one page of [`Feed::catch_up`] if a subscription is
//! behind, then wait for the outbox: so a long history doesn't hold up what is new.

use super::catch_up;
use super::credential::{Credential, Person};
use super::frames::{self, Close, INBOX};
use super::outbox::{Item, Outbox};
use super::presence;
use super::queued::LiveFrame;
use super::socket::auth_close;
use super::subscriptions::Subscriptions;
use crate::app::App;
use crate::auth::AuthError;
use crate::limits::{Hold, Reader};
use crate::view::ViewError;
use axum::extract::ws::Utf8Bytes;
use ingest::id::{ConversationId, TenantId};
use ingest::sqlite::PAGE_BYTES_MAX;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Queued frames taken before anything else gets its turn.
const FRAMES_IN_ONE_GO: usize = 256;
/// Bytes of queued frames that are written without asking for room: all sockets together have little of it, and what is said in
/// most chats waits for nobody.
const UNHELD_BYTES_MAX: usize = 8 * 1024;
/// Tries to read a page of history.
const READ_TRIES: u32 = 3;
/// Between them.
const READ_PAUSE: Duration = Duration::from_millis(300);

/// Something to write.
pub(super) struct Frame {
    /// Of an event: where to resume after it.
    pub(super) seq: Option<u64>,
    /// JSON.
    pub(super) live: LiveFrame,
}

impl From<Utf8Bytes> for Frame {
    fn from(text: Utf8Bytes) -> Self {
        Self { seq: None, live: text.into() }
    }
}

/// What is written next, and the room that it takes until then; a small one takes none.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) frames: Vec<Frame>,
    pub(super) hold: Option<Hold>,
}

impl From<Vec<Frame>> for Batch {
    fn from(frames: Vec<Frame>) -> Self {
        Self { frames, hold: None }
    }
}

/// What a reader gets.
pub(super) struct Feed {
    app: Arc<App>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) credential: Credential,
    pub(super) subscriptions: Subscriptions,
    /// Subscriptions that read the log; each gets a page in turn.
    behind: VecDeque<u32>,
}

impl Feed {
    pub(super) fn new(app: Arc<App>, outbox: Arc<Outbox>, credential: Credential) -> Self {
        let subscriptions =
            Subscriptions::new(Arc::clone(&app.live), Arc::clone(&outbox), credential.tenant(), credential.person());
        Self { app, outbox, credential, subscriptions, behind: VecDeque::new() }
    }

    pub(super) fn tenant(&self) -> TenantId {
        self.credential.tenant()
    }

    /// Whether a page of history is to be read.
    pub(super) fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// What the hub has queued, or why it ends this. A large frame waits for room first.
    pub(super) async fn queued(&mut self) -> Result<Batch, Close> {
        let is_large = self.outbox.next_bytes() > UNHELD_BYTES_MAX;
        // On the heap: most sockets never wait, and each would hold the room for it.
        let hold = if is_large { Some(Box::pin(self.hold()).await?) } else { None };
        let bytes_max = if is_large { PAGE_BYTES_MAX } else { UNHELD_BYTES_MAX };
        let (mut frames, mut bytes) = (Vec::new(), 0);
        for _ in 0..FRAMES_IN_ONE_GO {
            bytes += self.outbox.next_bytes();
            // Whoever has room for a page takes one frame of any size.
            if bytes > bytes_max && !(is_large && frames.is_empty()) {
                break;
            }
            match self.outbox.pop() {
                Some(Item::Event { subscription, seq, frame }) => {
                    if self.subscriptions.advance(subscription, seq) {
                        frames.push(Frame { seq: Some(seq), live: frame });
                    }
                }
                Some(Item::Frame(frame)) => frames.push(Frame { seq: None, live: frame }),
                Some(Item::CatchUp { subscription }) => self.behind.push_back(subscription),
                Some(Item::Review { subscription }) => self.review(subscription, &mut frames)?,
                None => break,
            }
        }
        match self.outbox.ending() {
            // What came before the end is still written.
            Some(ending) if frames.is_empty() => Err(ending.into()),
            _ => Ok(Batch { frames, hold }),
        }
    }

    /// Room for a page, once it's this reader's turn; or why it ends before that.
    async fn hold(&self) -> Result<Hold, Close> {
        let (tenant, person) = (self.tenant(), self.credential.person());
        let reader = match person {
            Person::Agent(agent) => Reader::agent(tenant, agent),
            Person::Visitor(visitor) => Reader::visitor(tenant, visitor),
        };
        tokio::select! {
            hold = self.app.limiter.reading.hold(reader) => Ok(hold),
            () = self.outbox.urgent() => Err(self.outbox.ending().map_or(Close::Internal, Close::from)),
            () = self.app.live.abandoned.cancelled() => Err(Close::GoingAway),
        }
    }

    /// One page of history of the subscription whose turn it is; at its end the hub takes over.
    pub(super) async fn catch_up(&mut self) -> Result<Batch, Close> {
        let subscription = self.behind.pop_front().and_then(|id| self.subscriptions.get(id));
        let Some(subscription) = subscription else { return Ok(Batch::default()) };
        // Before it's read: who waits has read nothing.
        let mut hold = self.hold().await?;
        let mut tries = 1;
        let page = loop {
            let app = &self.app;
            let (conversation, reader) = (subscription.conversation, self.subscriptions.person());
            match app.live.historian.page(&app.pool, &app.views, conversation, subscription.sent, reader).await {
                Ok(page) => break page,
                Err(error) if tries == READ_TRIES => return Err(unreadable(&error)),
                Err(_) => {
                    tries += 1;
                    sleep(READ_PAUSE).await;
                }
            }
        };
        hold.becomes(page.bytes());
        let mut frames = Vec::with_capacity(page.events.len());
        for (seq, text) in page.events {
            if self.subscriptions.advance(subscription.id, seq) {
                frames.push(Frame { seq: Some(seq), live: text.into() });
            }
        }
        self.subscriptions.advance(subscription.id, page.last);
        if page.full || !self.subscriptions.go_live(subscription, page.last) {
            self.behind.push_back(subscription.id);
        }
        Ok(Batch { frames, hold: Some(hold) })
    }

    /// Begins a subscription; `None` when there is no such conversation for this reader.
    pub(super) fn subscribe(
        &mut self,
        conversation: ConversationId,
        after: Option<u64>,
    ) -> Result<Option<Vec<Frame>>, Close> {
        let app = Arc::clone(&self.app);
        let id = self.subscriptions.open(conversation);
        let reader = self.subscriptions.person();
        let found = catch_up::find(&app.pool, conversation, &self.credential);
        let Some(chat) = found.map_err(|error| unreadable(&error.into()))? else {
            self.subscriptions.close(conversation);
            return Ok(None);
        };
        let last_seq = if reader.is_agent() { chat.last_seq } else { chat.last_shown_seq() };
        // A client can't have more than there is; one that says so gets what comes next.
        let after = after.map_or(chat.last_seq, |after| after.min(chat.last_seq));
        self.subscriptions.advance(id, after);
        let mut frames = vec![frames::subscribed(conversation, last_seq).into()];
        frames.extend(presence::of_other(&app, &chat, reader).map(Frame::from));
        if !reader.is_agent() {
            self.subscriptions.wait(conversation);
        }
        let subscription = self.subscriptions.get(id);
        if subscription.is_some_and(|open| after < chat.last_seq || !self.subscriptions.go_live(open, after)) {
            self.behind.push_back(id);
        }
        Ok(Some(frames))
    }

    /// Ends what the person may no longer see.
    fn review(&mut self, subscription: Option<u32>, frames: &mut Vec<Frame>) -> Result<(), Close> {
        if subscription.is_none() {
            self.credential = self.credential.now(&self.app).map_err(|error| match error {
                AuthError::Invalid => Close::Ended,
                AuthError::Sqlite(_) => auth_close(&error),
            })?;
            match self.credential.inbox_reader() {
                Some(agent) if self.subscriptions.has_inbox() => self.subscriptions.open_inbox(agent.clone()),
                None if self.subscriptions.has_inbox() => {
                    self.subscriptions.close_inbox();
                    frames.push(frames::unsubscribed(None, Some(INBOX)).into());
                }
                _ => {}
            }
        }
        let ids = subscription.map_or_else(|| self.subscriptions.ids(), |id| vec![id]);
        for open in ids.into_iter().filter_map(|id| self.subscriptions.get(id)).collect::<Vec<_>>() {
            let found = catch_up::find(&self.app.pool, open.conversation, &self.credential);
            if found.map_err(|error| unreadable(&error.into()))?.is_none() {
                self.subscriptions.close(open.conversation);
                frames.push(frames::error_about("not_found", &open.conversation.to_string()).into());
            }
        }
        Ok(())
    }
}

fn unreadable(error: &ViewError) -> Close {
    tracing::warn!(%error, "failed to read for a socket; its client resumes");
    Close::Internal
}
