//! A request that is answered before its body was read, because of its head, a rate or a quota, or as it should have none. A
//! server that closes the connection then takes the answer away from who is still sending: a reset, where a status and a
//! reason were meant. So the rest is read and thrown away, up to a limit. Start at [`read_on`].

use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{Stream, StreamExt as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Bytes that are read for nothing: the largest file with its form. Whoever sends more hears nothing.
const UNREAD_BYTES_MAX: usize = 12 * 1024 * 1024;
/// How long they may take.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(10);
/// A body of so many bytes is in the kernel's buffers, or in hyper's, as soon as it's sent.
const SENT_AT_ONCE_BYTES: u64 = 16 * 1024;

/// Reads on, beside the answer, what nobody wants of a request's body: one at a time of a connection, which takes no other request
/// before.
pub async fn read_on(request: Request, next: Next) -> Response {
    let small = request.body().size_hint().upper().is_some_and(|bytes| bytes <= SENT_AT_ONCE_BYTES);
    // Who asks before sending the body doesn't send it once there is an answer.
    if small || request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let left = Left::default();
    let lend = |body: Body| Lent { body: Some(body.into_data_stream()), left: Arc::clone(&left) };
    let request = request.map(|body| Body::from_stream(lend(body)));
    let response = next.run(request).await;
    let rest = left.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(rest) = rest {
        tokio::spawn(tokio::time::timeout(UNREAD_TIME_MAX, discard(rest)));
    }
    response
}

async fn discard(mut rest: BodyDataStream) {
    let mut bytes = 0;
    while let Some(Ok(piece)) = rest.next().await {
        bytes += piece.len();
        if bytes > UNREAD_BYTES_MAX {
            return;
        }
    }
}

/// What of a body was not read, once whoever was to read it has dropped it.
type Left = Arc<Mutex<Option<BodyDataStream>>>;

/// A body on its way to who reads it.
struct Lent {
    /// `None` once it has ended.
    body: Option<BodyDataStream>,
    left: Left,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let piece = ready!(body.poll_next_unpin(context));
        if !matches!(piece, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(piece)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}
