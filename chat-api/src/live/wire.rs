//! The socket itself: writes that end when the peer stalls or the hub says so, reads sorted by what they mean, and the
//! farewell.

use super::frames::Close;
use super::outbox::{Ending, Outbox};
use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::stream::FusedStream as _;
use futures_util::{SinkExt as _, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// For the client to answer a close frame, or to read it before the connection is gone.
const LINGER: Duration = Duration::from_secs(2);

/// What a client sent.
pub(super) enum Incoming {
    Text(Utf8Bytes),
    Binary,
    /// A ping or a pong.
    Alive,
}

/// A socket with its outbox.
pub(super) struct Wire {
    socket: WebSocket,
    outbox: Arc<Outbox>,
    write_timeout: Duration,
}

impl Wire {
    pub(super) fn new(socket: WebSocket, outbox: Arc<Outbox>, write_timeout: Duration) -> Self {
        Self { socket, outbox, write_timeout }
    }

    /// Writes a frame into the socket's buffer and, when that is full, the buffer to the peer.
    pub(super) async fn feed(&mut self, frame: Utf8Bytes) -> Result<(), Close> {
        let feeding = self.socket.feed(Message::Text(frame));
        guard(&self.outbox, self.write_timeout, feeding).await
    }

    /// Writes the buffer to the peer.
    pub(super) async fn flush(&mut self) -> Result<(), Close> {
        guard(&self.outbox, self.write_timeout, self.socket.flush()).await
    }

    /// Writes a frame to the peer.
    pub(super) async fn send(&mut self, frame: Utf8Bytes) -> Result<(), Close> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// Writes a protocol ping to the peer.
    pub(super) async fn ping(&mut self) -> Result<(), Close> {
        guard(&self.outbox, self.write_timeout, self.socket.send(Message::Ping(Bytes::new()))).await
    }

    /// The next thing the client sends. Nothing is lost when this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Incoming, Close> {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
            Some(Ok(Message::Binary(_))) => Ok(Incoming::Binary),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Incoming::Alive),
            Some(Ok(Message::Close(_))) | None => Err(Close::Gone),
            Some(Err(error)) => Err(refusal(&error)),
        }
    }

    /// Says why and ends the connection.
    pub(super) async fn close(mut self, close: Close) {
        let Some(frame) = close.frame() else {
            // Answers the client's close frame, if it sent one; if it's gone, this fails at once.
            let _answered = timeout(LINGER, self.socket.close()).await;
            return;
        };
        if !matches!(timeout(self.write_timeout, self.socket.send(Message::Close(Some(frame)))).await, Ok(Ok(()))) {
            return;
        }
        // A connection that is dropped with unread bytes is reset, and the client may never see the reason.
        let answer = async { while let Some(Ok(_)) = self.socket.next().await {} };
        let _answered = timeout(LINGER, answer).await;
        if matches!(close, Close::TooBig | Close::Protocol) && self.socket.is_terminated() {
            tokio::time::sleep(LINGER).await;
        }
    }
}

async fn guard(
    outbox: &Outbox,
    write_timeout: Duration,
    write: impl Future<Output = Result<(), axum::Error>>,
) -> Result<(), Close> {
    tokio::select! {
        biased;
        written = timeout(write_timeout, write) => match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Close::Gone),
            Err(_) => Err(Close::Slow),
        },
        () = outbox.urgent() => Err(outbox.ending().map_or(Close::Internal, Close::from)),
    }
}

impl From<Ending> for Close {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Slow => Self::Slow,
            Ending::Revoked => Self::Ended,
            Ending::GoingAway => Self::GoingAway,
        }
    }
}

/// What a failed read means. The WebSocket crate's error type is axum's private affair, its words aren't; a test holds
/// them to what they mean.
fn refusal(error: &axum::Error) -> Close {
    let words = error.to_string();
    if words.starts_with("Space limit exceeded") {
        Close::TooBig
    } else if words.starts_with("IO error") {
        Close::Gone
    } else {
        Close::Protocol
    }
}
