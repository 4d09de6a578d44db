//! The HTTP door: accepts, finds a place, serves HTTP/1.1 with upgrades, drains at the end. Start at [`serve`].

use super::Waits;
use super::body::{AnswerBody, PacedBody};
use super::places::{Door, Place, Places};
use super::stream::PacedStream;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Bytes of a request's head, answered 431: the longest path that hyper takes (64 KiB, 414) and as much of headers. hyper takes
/// at most 100 headers.
const HEAD_BYTES_MAX: usize = 128 * 1024;
/// Bytes of a request or an answer that a connection holds on their way from or to its socket.
const BUFFER_BYTES_MAX: usize = 128 * 1024;
/// To whom there is no place for; not waited for.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
    retry-after: 5\r\nconnection: close\r\ncontent-length: 144\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"code\":\"too_many_connections\",\
    \"detail\":\"too many connections; try again later\"}";

/// Serves until `stop`; then no more is accepted, what is under way is finished, and who is idle is let go.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    (places, waits): (Arc<Places>, Waits),
    set_up: fn(&mut TcpStream),
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    // Once for all: else every request would do it.
    let router = router.with_state::<()>(());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                note_panic(ended);
                continue;
            }
        };
        let (mut stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                places.failed_to_accept(Door::Http, &error).await;
                continue;
            }
        };
        set_up(&mut stream);
        match places.take(Door::Http, peer.ip()) {
            Some(place) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(connection(stream, peer, Arc::new(place), router, waits, stop));
            }
            // The first bytes of a socket always fit; who sent a request already may not get to see them.
            None => drop(stream.try_write(TURNED_AWAY)),
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        note_panic(ended);
    }
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "an HTTP connection has panicked");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: Arc<Place>,
    router: Router,
    waits: Waits,
    stop: CancellationToken,
) {
    let io = TokioIo::new(PacedStream::new(stream, Arc::clone(&place), waits.unread));
    let held = Arc::clone(&place);
    let service = service_fn(move |request| answer(request, peer, Arc::clone(&held), router.clone(), waits));
    let mut builder = http1::Builder::new();
    // hyper's own time for a head runs between requests too, where a proxy's connection may wait for long; [`Places`] tells
    // the two apart.
    builder.header_read_timeout(None::<Duration>).max_header_size(HEAD_BYTES_MAX).max_buf_size(BUFFER_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            outcome = connection.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "an HTTP connection ended");
                }
                return;
            }
            () = place.must_leave() => {
                // A request may have come in just then: it's answered, and is the last one.
                if !place.is_busy() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
            () = stop.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    place: Arc<Place>,
    router: Router,
    waits: Waits,
) -> Result<Response<AnswerBody>, Infallible> {
    place.busy();
    let mut request = request.map(|body| Body::new(PacedBody::new(body, waits.body)));
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = router.oneshot(request).await?;
    let waits_for_more = response.status() != StatusCode::SWITCHING_PROTOCOLS;
    Ok(response.map(|body| AnswerBody::new(body, waits_for_more.then_some(place))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_turned_away_gets_a_whole_answer() {
        let text = std::str::from_utf8(TURNED_AWAY).expect("a text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        let problem: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(problem["code"], "too_many_connections");
    }
}
