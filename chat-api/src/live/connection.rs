//! An authenticated socket: writes what the hub queued and what the log holds, reads what the client asks for.
//!
//! One task, one loop ([`Connection::step`]): write what is queued, then one page of history if a subscription is
//! behind, then wait. So a long history holds up neither live events nor the client's frames.

use super::catch_up;
use super::credential::Credential;
use super::frames::{self, ClientFrame, Close};
use super::outbox::{Item, Outbox};
use super::socket::auth_close;
use super::subscriptions::Subscriptions;
use super::wire::{Incoming, Wire};
use crate::app::App;
use crate::view::ViewError;
use axum::extract::ws::Utf8Bytes;
use futures_util::FutureExt as _;
use ingest::time::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Malformed frames, and frames over the rate, after which a socket is closed.
const STRIKES_MAX: u32 = 10;
/// Pings without an answer after which the peer counts as gone.
const PINGS_UNANSWERED_MAX: u32 = 2;
/// Queued frames written before anything else gets its turn.
const FRAMES_IN_ONE_GO: usize = 256;
/// Tries to read a page of history.
const READ_TRIES: u32 = 3;
/// Between them.
const READ_PAUSE: Duration = Duration::from_millis(300);
/// The topic that agents may subscribe to.
const INBOX: &str = "inbox";

/// An authenticated socket.
pub(super) struct Connection {
    app: Arc<App>,
    wire: Wire,
    outbox: Arc<Outbox>,
    credential: Credential,
    expires: Instant,
    subscriptions: Subscriptions,
    /// Subscriptions that read the log; each gets a page in turn.
    behind: VecDeque<u32>,
    next_ping: Instant,
    pings_unanswered: u32,
    strikes: u32,
    allowance: Allowance,
}

impl Connection {
    pub(super) fn new(app: Arc<App>, wire: Wire, outbox: Arc<Outbox>, credential: Credential) -> Self {
        let subscriptions =
            Subscriptions::new(Arc::clone(&app.live), Arc::clone(&outbox), credential.tenant(), credential.person());
        let limits = &app.live.limits;
        Self {
            expires: instant_of(credential.expires_at()),
            next_ping: Instant::now() + limits.ping_every,
            allowance: Allowance::new(limits.frames_burst, limits.frames_per_s),
            app,
            wire,
            outbox,
            credential,
            subscriptions,
            behind: VecDeque::new(),
            pings_unanswered: 0,
            strikes: 0,
        }
    }

    /// Serves the client until one side ends it.
    pub(super) async fn serve(&mut self) -> Close {
        loop {
            if let Err(close) = self.step().await {
                return close;
            }
        }
    }

    /// Ends all subscriptions; the wire is left, to say why.
    pub(super) fn into_wire(self) -> Wire {
        self.wire
    }

    async fn step(&mut self) -> Result<(), Close> {
        self.write_queued().await?;
        self.keep_time().await?;
        let incoming = if let Some(id) = self.behind.pop_front() {
            // On the heap: most sockets are rarely behind, and each would hold the room for it.
            Box::pin(self.catch_up(id)).await?;
            self.wire.next().now_or_never()
        } else {
            tokio::select! {
                incoming = self.wire.next() => Some(incoming),
                () = self.outbox.ready() => None,
                () = sleep_until(self.next_ping.min(self.expires)) => None,
            }
        };
        match incoming {
            Some(incoming) => Box::pin(self.receive(incoming?)).await,
            None => Ok(()),
        }
    }

    async fn write_queued(&mut self) -> Result<(), Close> {
        let mut written = false;
        for _ in 0..FRAMES_IN_ONE_GO {
            match self.outbox.pop() {
                Some(Item::Event { subscription, seq, frame }) => {
                    if !self.subscriptions.advance(subscription, seq) {
                        continue;
                    }
                    self.wire.feed(frame).await?;
                }
                Some(Item::Frame(frame)) => self.wire.feed(frame).await?,
                Some(Item::CatchUp { subscription }) => {
                    self.behind.push_back(subscription);
                    continue;
                }
                None => break,
            }
            written = true;
        }
        if written {
            self.wire.flush().await?;
        }
        match self.outbox.ending() {
            Some(ending) => Err(ending.into()),
            None => Ok(()),
        }
    }

    async fn keep_time(&mut self) -> Result<(), Close> {
        let now = Instant::now();
        if now >= self.expires {
            return Err(Close::Ended);
        }
        if now >= self.next_ping {
            if self.pings_unanswered >= PINGS_UNANSWERED_MAX {
                return Err(Close::Slow);
            }
            self.pings_unanswered += 1;
            self.next_ping = now + self.app.live.limits.ping_every;
            self.wire.ping().await?;
        }
        Ok(())
    }

    /// Writes one page of history; at its end the hub takes over.
    async fn catch_up(&mut self, id: u32) -> Result<(), Close> {
        let Some(subscription) = self.subscriptions.get(id) else { return Ok(()) };
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
        for (seq, frame) in page.events {
            if self.subscriptions.advance(id, seq) {
                self.wire.feed(frame).await?;
            }
        }
        self.wire.flush().await?;
        self.subscriptions.advance(id, page.last);
        if page.full || !self.subscriptions.go_live(subscription, page.last) {
            self.behind.push_back(id);
        }
        Ok(())
    }

    async fn receive(&mut self, incoming: Incoming) -> Result<(), Close> {
        self.pings_unanswered = 0;
        if !self.allowance.take() {
            return self.strike(frames::error("rate_limited")).await;
        }
        let text = match incoming {
            Incoming::Alive => return Ok(()),
            Incoming::Binary => return self.strike(frames::malformed("expected a text frame")).await,
            Incoming::Text(text) => text,
        };
        let frame = match serde_json::from_str(&text) {
            Ok(frame) => frame,
            Err(error) => return self.strike(frames::malformed(error.to_string())).await,
        };
        match frame {
            ClientFrame::Ping {} => self.wire.send(frames::pong()).await,
            ClientFrame::Auth { token } => self.renew(&token).await,
            ClientFrame::Subscribe { conversation_id: Some(id), topic: None, after } => {
                self.subscribe(&id, after).await
            }
            ClientFrame::Subscribe { conversation_id: None, topic: Some(topic), after: None } if topic == INBOX => {
                self.subscribe_inbox().await
            }
            ClientFrame::Unsubscribe { conversation_id: Some(id), topic: None } => {
                // Also for one that isn't there: the client gets what it wants.
                let _was_open = id.parse().is_ok_and(|conversation| self.subscriptions.close(conversation));
                self.wire.send(frames::unsubscribed(Some(&id), None)).await
            }
            ClientFrame::Unsubscribe { conversation_id: None, topic: Some(topic) } if topic == INBOX => {
                self.subscriptions.close_inbox();
                self.wire.send(frames::unsubscribed(None, Some(INBOX))).await
            }
            ClientFrame::Subscribe { .. } | ClientFrame::Unsubscribe { .. } => {
                let expected = "expected either conversationId (with after) or topic \"inbox\"";
                self.strike(frames::malformed(expected)).await
            }
            ClientFrame::Typing { conversation_id } => self.typing(&conversation_id).await,
        }
    }

    /// Answers a frame that can't be served; too many of them end the socket.
    async fn strike(&mut self, answer: Utf8Bytes) -> Result<(), Close> {
        self.wire.send(answer).await?;
        self.strikes += 1;
        if self.strikes >= STRIKES_MAX { Err(Close::Malformed) } else { Ok(()) }
    }

    /// A later auth frame puts the end off, so that a client with a fresh token needn't come back.
    async fn renew(&mut self, token: &str) -> Result<(), Close> {
        let credential = Credential::verify(&self.app, token).map_err(|error| auth_close(&error))?;
        if !credential.renews(&self.credential) {
            return Err(Close::Unauthorized);
        }
        self.expires = instant_of(credential.expires_at());
        self.credential = credential;
        self.wire.send(frames::ready()).await
    }

    async fn subscribe(&mut self, text: &str, after: Option<u64>) -> Result<(), Close> {
        let Ok(conversation) = text.parse() else {
            return self.wire.send(frames::error_about("not_found", text)).await;
        };
        let limit = self.app.live.limits.subscriptions_max;
        if self.subscriptions.len() >= limit && !self.subscriptions.contains(conversation) {
            return self.wire.send(frames::error_about("too_many_subscriptions", text)).await;
        }
        let id = self.subscriptions.open(conversation);
        let (tenant, reader) = (self.credential.tenant(), self.subscriptions.person());
        let pool = &self.app.pool;
        let found = catch_up::find(pool, tenant, conversation, reader).map_err(|error| unreadable(&error.into()))?;
        let Some(chat) = found else {
            self.subscriptions.close(conversation);
            return self.wire.send(frames::error_about("not_found", text)).await;
        };
        let last_seq = catch_up::last_seq(pool, &chat, reader).map_err(|error| unreadable(&error))?;
        // A client can't have more than there is; one that says so gets what comes next.
        let after = after.map_or(chat.last_seq, |after| after.min(chat.last_seq));
        self.subscriptions.advance(id, after);
        self.wire.send(frames::subscribed(conversation, last_seq)).await?;
        let Some(subscription) = self.subscriptions.get(id) else { return Ok(()) };
        if after < chat.last_seq || !self.subscriptions.go_live(subscription, after) {
            self.behind.push_back(id);
        }
        Ok(())
    }

    async fn subscribe_inbox(&mut self) -> Result<(), Close> {
        if !self.subscriptions.person().is_agent() {
            return self.wire.send(frames::error("forbidden")).await;
        }
        self.subscriptions.open_inbox();
        self.wire.send(frames::subscribed_topic(INBOX)).await
    }

    async fn typing(&mut self, text: &str) -> Result<(), Close> {
        let conversation = text.parse().ok().filter(|conversation| self.subscriptions.contains(*conversation));
        let Some(conversation) = conversation else {
            return self.wire.send(frames::error_about("not_found", text)).await;
        };
        if !self.credential.may_reply() {
            return self.wire.send(frames::error_about("forbidden", text)).await;
        }
        self.app.live.typing(&self.app.views, self.credential.tenant(), conversation, self.subscriptions.person());
        Ok(())
    }
}

fn unreadable(error: &ViewError) -> Close {
    tracing::warn!(%error, "failed to read for a socket; its client resumes");
    Close::Internal
}

/// When the wall clock will show `at`, on the clock that sleeps.
fn instant_of(at: Timestamp) -> Instant {
    let left = u64::try_from(at.since(Timestamp::now())).unwrap_or(0);
    Instant::now() + Duration::from_millis(left)
}

/// A token bucket for the client's frames.
struct Allowance {
    left: f64,
    burst: f64,
    per_s: f64,
    at: Instant,
}

impl Allowance {
    fn new(burst: u32, per_s: u32) -> Self {
        Self { left: burst.into(), burst: burst.into(), per_s: per_s.into(), at: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * self.per_s).min(self.burst);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}
