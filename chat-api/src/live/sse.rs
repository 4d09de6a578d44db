//! The same as sockets, as server-sent events: one conversation, the same frames, one way.
//!
//! Each frame is a `data:` line; an event's `seq` is its `id:`, so a client that comes back says `Last-Event-ID`. The
//! token comes in the `Authorization` header, as everywhere: `EventSource` can't set it, `fetch` can. One in the URL isn't
//! taken, URLs end up in logs.

use super::credential::Credential;
use super::feed::{Batch, Feed, Frame};
use super::frames::{self, Close};
use super::seats::Seat;
use super::socket::{instant_of, no_room};
use crate::app::App;
use crate::auth::Caller;
use crate::http::problem::{Outcome, Problem};
use crate::limits::{ClientIp, Hold};
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use ingest::id::ConversationId;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// Milliseconds after which a client comes back.
const RETRY_MS: u32 = 2_000;

/// A stream of one conversation's frames, from `after` on or from now.
///
/// # Errors
/// 404 for a conversation that isn't the caller's to see, 503 when no more sockets are taken.
pub fn stream(
    app: &Arc<App>,
    caller: Caller,
    client: ClientIp,
    conversation: ConversationId,
    after: Option<u64>,
) -> Outcome<Response> {
    let limits = &app.live.limits;
    let credential = Credential::from(caller);
    let mut seat = app.live.seats.take(limits, client.0).map_err(|_| no_room())?;
    seat.own(credential.owner(), limits).map_err(|_| no_room())?;
    // Again, now that the hub knows whose it is: it didn't hear of a session that was closed in between.
    let credential = credential.now(app)?;
    let expires = instant_of(credential.expires_at());
    let mut feed = Feed::new(Arc::clone(app), Arc::clone(&seat.outbox), credential);
    let unreadable = |close: Close| Problem::internal(&close.word());
    let begun = feed.subscribe(conversation, after).map_err(unreadable)?;
    let frames = begun.ok_or_else(|| Problem::not_found("conversation"))?;
    let next_ping = Instant::now() + limits.ping_every;
    let first = format!("retry: {RETRY_MS}\n\n{}", text_of(&frames));
    let first = Some(Part { text: first, _hold: None });
    let unwritten = Arc::new(Semaphore::new(1));
    let events = Events { app: Arc::clone(app), first, unwritten, feed, expires, next_ping, ended: false, _seat: seat };
    events.heard();
    let body = stream::unfold(events, |mut events| async {
        let turn = Arc::clone(&events.unwritten).acquire_owned().await.ok()?;
        let part = events.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from_owner(Unwritten { part, _turn: turn })), events))
    });
    // The last header is for nginx, which would hold small parts back.
    let headers = [(header::CONTENT_TYPE.as_str(), "text/event-stream"), ("x-accel-buffering", "no")];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// What is written in one go, and the room that it takes.
struct Part {
    text: String,
    _hold: Option<Hold>,
}

impl From<String> for Part {
    fn from(text: String) -> Self {
        Self { text, _hold: None }
    }
}

impl From<Batch> for Part {
    fn from(batch: Batch) -> Self {
        let (text, mut hold) = (text_of(&batch.frames), batch.hold);
        if let Some(hold) = &mut hold {
            hold.becomes(text.len());
        }
        Self { text, _hold: hold }
    }
}

/// A part until the connection has written it; the next one is made then, so a stream that nobody reads holds one.
struct Unwritten {
    part: Part,
    _turn: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Unwritten {
    fn as_ref(&self) -> &[u8] {
        self.part.text.as_bytes()
    }
}

/// A stream being read. Dropping it gives its place back.
struct Events {
    app: Arc<App>,
    first: Option<Part>,
    unwritten: Arc<Semaphore>,
    feed: Feed,
    expires: Instant,
    next_ping: Instant,
    ended: bool,
    _seat: Seat,
}

impl Events {
    /// A stream that is read is a sign of life: one whose peer doesn't is closed by the system.
    fn heard(&self) {
        self.app.presence.heard(self.feed.credential.tenant(), self.feed.credential.person());
    }

    /// What to write next; `None` at the end.
    async fn next(&mut self) -> Option<Part> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.ended {
            return None;
        }
        let part = self.next_part().await.unwrap_or_else(|close| {
            self.ended = true;
            if close == Close::Slow {
                metrics::counter!("parlance_slow_closes_total").increment(1);
            }
            text_of(&[frames::error(close.word()).into()]).into()
        });
        Some(part)
    }

    async fn next_part(&mut self) -> Result<Part, Close> {
        loop {
            let mut batch = self.feed.queued().await?;
            if batch.frames.is_empty() && self.feed.is_behind() {
                batch = self.feed.catch_up().await?;
            }
            if !batch.frames.is_empty() {
                return Ok(batch.into());
            }
            if self.feed.is_behind() {
                continue;
            }
            tokio::select! {
                () = self.feed.outbox.ready() => {}
                () = sleep_until(self.expires) => return Err(Close::Ended),
                () = sleep_until(self.next_ping) => {
                    self.next_ping = Instant::now() + self.app.live.limits.ping_every;
                    self.heard();
                    return Ok(": ping\n\n".to_owned().into());
                }
                () = self.app.live.abandoned.cancelled() => return Err(Close::GoingAway),
            }
        }
    }
}

/// Frames are JSON on one line.
fn text_of(frames: &[Frame]) -> String {
    let mut text = String::new();
    for frame in frames {
        if let Some(seq) = frame.seq {
            let _infallible = writeln!(text, "id: {seq}");
        }
        let _infallible = write!(text, "data: {}\n\n", frame.live.text.as_str());
    }
    text
}
