//! An authenticated socket: writes what the hub queued and what the log holds, reads what the client asks for.
//!
//! One task, one loop ([`Connection::step`]): write what is queued, then one page of history if a subscription is
//! behind, then wait. So a long history holds up neither live events nor the client's frames.

use super::credential::Credential;
use super::feed::{Batch, Feed};
use super::frames::{self, ClientFrame, Close, INBOX};
use super::outbox::Outbox;
use super::socket::{auth_close, instant_of};
use super::wire::{Incoming, Wire};
use crate::app::App;
use axum::extract::ws::Utf8Bytes;
use futures_util::FutureExt as _;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

/// Malformed frames, and frames over the rate, after which a socket is closed.
const STRIKES_MAX: u32 = 10;
/// Pings without an answer after which the peer counts as gone.
const PINGS_UNANSWERED_MAX: u32 = 2;

/// An authenticated socket.
pub(super) struct Connection {
    app: Arc<App>,
    wire: Wire,
    feed: Feed,
    expires: Instant,
    next_ping: Instant,
    pings_unanswered: u32,
    strikes: u32,
    allowance: Allowance,
}

impl Connection {
    pub(super) fn new(app: Arc<App>, wire: Wire, outbox: Arc<Outbox>, credential: Credential) -> Self {
        let limits = &app.live.limits;
        Self {
            expires: instant_of(credential.expires_at()),
            next_ping: Instant::now() + limits.ping_every,
            allowance: Allowance::new(limits.frames_burst, limits.frames_per_s),
            feed: Feed::new(Arc::clone(&app), outbox, credential),
            app,
            wire,
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
        let incoming = if self.feed.is_behind() {
            // On the heap: most sockets are rarely behind, and each would hold the room for it.
            let page = Box::pin(self.feed.catch_up()).await?;
            self.write(page).await?;
            self.wire.next().now_or_never()
        } else {
            tokio::select! {
                incoming = self.wire.next() => Some(incoming),
                () = self.feed.outbox.ready() => None,
                () = sleep_until(self.next_ping.min(self.expires)) => None,
            }
        };
        match incoming {
            Some(incoming) => Box::pin(self.receive(incoming?)).await,
            None => Ok(()),
        }
    }

    async fn write_queued(&mut self) -> Result<(), Close> {
        let queued = self.feed.queued().await?;
        self.write(queued).await
    }

    /// The room that it takes is free again when all of it is written.
    async fn write(&mut self, batch: Batch) -> Result<(), Close> {
        if batch.frames.is_empty() {
            return Ok(());
        }
        for frame in batch.frames {
            self.wire.feed(frame.live.text).await?;
        }
        self.wire.flush().await
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

    async fn receive(&mut self, incoming: Incoming) -> Result<(), Close> {
        self.pings_unanswered = 0;
        self.app.presence.heard(self.feed.credential.tenant(), self.feed.credential.person());
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
                let _was_open = id.parse().is_ok_and(|conversation| self.feed.subscriptions.close(conversation));
                self.wire.send(frames::unsubscribed(Some(&id), None)).await
            }
            ClientFrame::Unsubscribe { conversation_id: None, topic: Some(topic) } if topic == INBOX => {
                self.feed.subscriptions.close_inbox();
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
        if !credential.renews(&self.feed.credential) {
            return Err(Close::Unauthorized);
        }
        self.expires = instant_of(credential.expires_at());
        self.feed.credential = credential;
        self.wire.send(frames::ready()).await
    }

    async fn subscribe(&mut self, text: &str, after: Option<u64>) -> Result<(), Close> {
        let Ok(conversation) = text.parse() else {
            return self.wire.send(frames::error_about("not_found", text)).await;
        };
        let (open, limit) = (&self.feed.subscriptions, self.app.live.limits.subscriptions_max);
        if open.len() >= limit && !open.contains(conversation) {
            return self.wire.send(frames::error_about("too_many_subscriptions", text)).await;
        }
        match self.feed.subscribe(conversation, after)? {
            Some(frames) => self.write(frames.into()).await,
            None => self.wire.send(frames::error_about("not_found", text)).await,
        }
    }

    async fn subscribe_inbox(&mut self) -> Result<(), Close> {
        let Some(agent) = self.feed.credential.inbox_reader() else {
            return self.wire.send(frames::error("forbidden")).await;
        };
        self.feed.subscriptions.open_inbox(agent.clone());
        self.wire.send(frames::subscribed_topic(INBOX)).await
    }

    async fn typing(&mut self, text: &str) -> Result<(), Close> {
        let conversation = text.parse().ok().filter(|conversation| self.feed.subscriptions.contains(*conversation));
        let Some(conversation) = conversation else {
            return self.wire.send(frames::error_about("not_found", text)).await;
        };
        if !self.feed.credential.may_reply() {
            return self.wire.send(frames::error_about("forbidden", text)).await;
        }
        let (tenant, person) = (self.feed.tenant(), self.feed.credential.person());
        self.app.live.typing(&self.app.views, tenant, conversation, person);
        Ok(())
    }
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
