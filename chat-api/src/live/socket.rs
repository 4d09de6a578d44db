//! `GET /v1/realtime`: the upgrade, the first frame, and the farewell. What is in between is a [`Connection`].

use super::connection::Connection;
use super::credential::Credential;
use super::frames::{self, ClientFrame, Close};
use super::seats::{NoRoom, Seat};
use super::wire::{Incoming, Wire};
use crate::app::App;
use crate::auth::AuthError;
use crate::http::problem::Problem;
use crate::limits::ClientIp;
use axum::extract::State;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use ingest::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The largest client frame; larger ones end the socket with 1009.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Read buffer, held by every socket for its whole life; the library's default of 128 KiB is for few busy ones.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Frames are put together up to this much before they are written.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;
/// A full write buffer and the largest event in JSON, all escaped.
const WRITE_BUFFER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// `GET /v1/realtime`. The token comes in the first frame: browsers can't set headers here, and URLs end up in logs.
pub async fn realtime(
    State(app): State<Arc<App>>,
    client: ClientIp,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Ok(seat) = app.live.seats.take(&app.live.limits, client.0) else { return no_room().into_response() };
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .on_upgrade(move |socket| async move {
            let hub = Arc::clone(&app.live);
            tokio::select! {
                () = run(app, headers, socket, seat) => {}
                () = hub.abandoned.cancelled() => {}
            }
        })
}

pub(super) fn no_room() -> Problem {
    let detail = "no more sockets are taken now, in all or from your address; try again later";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_sockets", detail).retry_after(5)
}

async fn run(app: Arc<App>, headers: HeaderMap, socket: WebSocket, mut seat: Seat) {
    let mut wire = Wire::new(socket, Arc::clone(&seat.outbox), app.live.limits.write_timeout);
    // A socket is idle for hours: what it needs only at its beginning and end is on the heap and goes.
    let authenticated = Box::pin(authenticate(&app, &headers, &mut wire, &mut seat)).await;
    drop(headers);
    let (wire, close) = match authenticated {
        Ok(credential) => {
            let mut connection = Connection::new(Arc::clone(&app), wire, Arc::clone(&seat.outbox), credential);
            let close = connection.serve().await;
            (connection.into_wire(), close)
        }
        Err(close) => (wire, close),
    };
    if close == Close::Slow {
        metrics::counter!("parlance_slow_closes_total").increment(1);
    }
    tracing::debug!(socket = seat.outbox.id, code = close.code(), "socket closes");
    Box::pin(wire.close(close)).await;
}

async fn authenticate(app: &App, headers: &HeaderMap, wire: &mut Wire, seat: &mut Seat) -> Result<Credential, Close> {
    let limits = &app.live.limits;
    let first = async {
        loop {
            match wire.next().await? {
                Incoming::Text(text) => return Ok(text),
                Incoming::Binary => return Err(Close::Unauthorized),
                Incoming::Alive => {}
            }
        }
    };
    let first = tokio::select! {
        first = timeout(limits.auth_timeout, first) => first.map_err(|_| Close::Unauthorized)??,
        () = seat.outbox.ready() => return Err(Close::GoingAway),
    };
    let Ok(ClientFrame::Auth { token }) = serde_json::from_str(&first) else { return Err(Close::Unauthorized) };
    let credential = Credential::verify(app, &token).map_err(|error| auth_close(&error))?;
    if !credential.allows_origin(app, headers).map_err(|error| auth_close(&error))? {
        return Err(Close::Origin);
    }
    seat.own(credential.owner(), limits).map_err(|NoRoom| Close::Busy)?;
    // Again, now that the hub knows whose socket this is: it didn't hear of a session that was closed in between.
    let credential = Credential::verify(app, &token).map_err(|error| auth_close(&error))?;
    app.presence.heard(credential.tenant(), credential.person());
    wire.send(frames::ready()).await?;
    Ok(credential)
}

/// What a client is told whose token isn't good, or can't be checked.
pub(super) fn auth_close(error: &AuthError) -> Close {
    match error {
        AuthError::Invalid => Close::Unauthorized,
        AuthError::Sqlite(error) => {
            tracing::warn!(%error, "failed to check a socket's token");
            Close::Internal
        }
    }
}

/// When the wall clock will show `at`, on the clock that sleeps.
pub(super) fn instant_of(at: Timestamp) -> Instant {
    let left = u64::try_from(at.since(Timestamp::now())).unwrap_or(0);
    Instant::now() + Duration::from_millis(left)
}
