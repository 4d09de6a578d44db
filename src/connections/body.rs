//! The bodies of a request and of its answer: [`PacedBody`]'s sender must go on sending, and the end of an [`AnswerBody`] tells
//! the connection's place that it waits for the next request.

use super::pace::Pace;
use super::places::Place;
use axum::BoxError;
use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// A request's body as it comes in. What it fails with ends the connection: the rest of the body is never read.
pub struct PacedBody {
    body: Incoming,
    patience: Duration,
    pace: Pace,
    // Most bodies come with their head and never need it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl PacedBody {
    pub fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, pace: Pace::default(), timer: None }
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.pace.moved(Instant::now, frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let until = this.pace.waits(Instant::now(), this.patience);
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
                if timer.deadline() != until {
                    timer.as_mut().reset(until);
                }
                ready!(timer.as_mut().poll(cx));
                let error = io::Error::new(io::ErrorKind::TimedOut, "the body doesn't come");
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body.
pub struct AnswerBody {
    body: Body,
    _end: Option<EndOfAnswer>,
}

/// Dropped with the body, when all of it was given away.
struct EndOfAnswer(Arc<Place>);

impl Drop for EndOfAnswer {
    fn drop(&mut self) {
        self.0.idle();
    }
}

impl AnswerBody {
    /// A connection that becomes a socket waits for no further request.
    pub fn new(body: Body, place: Option<Arc<Place>>) -> Self {
        Self { body, _end: place.map(EndOfAnswer) }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
