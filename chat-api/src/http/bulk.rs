//! Transcripts in and out, as streams of NDJSON: `/v1/import`, `/v1/export`, and the operator's import.
//!
//! Each tenant has one import and one export at a time, on a thread apart from the sockets'. A sender that keeps less than
//! [`PACE_BYTES`] a second, or a reader that takes nothing for [`UNREAD_MAX`], loses its turn.

use super::extract::{Params, require};
use super::operator::{Operator, tenant_by_slug};
use super::problem::{Outcome, Problem};
use super::surface::describe::Operation;
use super::surface::{OPERATOR, Routes, Way};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::import::{Exporter, ImportError, ImportReport, Owner, Reach, Shown, Unpacking};
use crate::limits::{BucketKey, NoRoom, NoTurn, Place, Turn};
use axum::Json;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use ingest::event::Actor;
use ingest::id::TenantId;
use ingest::payload::Permission;
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// An import's time for its whole body.
const IMPORT_TIME_MAX: Duration = Duration::from_secs(3_600);
/// How long an import may wait for its sender at all before its pace counts.
const PACE_AFTER: Duration = Duration::from_secs(30);
/// Bytes for each second of waiting that a sender has to keep up.
const PACE_BYTES: u64 = 1_024;
/// A reader of an export who takes nothing for this long is gone.
const UNREAD_MAX: Duration = Duration::from_secs(30);
/// Bytes of an export that are given to the connection at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Between two looks for room among what is under way.
const ROOM_LOOK: Duration = Duration::from_millis(50);
/// Seconds after which a turn may be free.
const RETRY_AFTER_S: u64 = 5;

pub(super) fn routes() -> Routes {
    use Permission::{ConversationsReadAll, Export, Import};
    let ndjson = |operation: &mut Operation<'_>| {
        operation.takes("application/x-ndjson");
        operation.refuses(&[400, 408, 413, 415, 429, 503, 507]);
    };
    Routes::new("Bulk")
        .post(
            "/v1/import/conversations",
            import_own,
            &[Way::May(Import)],
            "Imports transcripts, a line each; gzip allowed.",
        )
        .also(ndjson)
        .get(
            "/v1/export/conversations",
            export,
            &[Way::Holding(&[Export, ConversationsReadAll])],
            "All conversations as NDJSON, importable again.",
        )
        .also(|operation| {
            operation.gives("application/x-ndjson");
            operation.refuses(&[429, 503]);
        })
        .post("/v1/operator/import", import_any, OPERATOR, "Imports transcripts for any tenant.")
        .also(ndjson)
}

async fn import_own(State(app): State<Arc<App>>, caller: AgentCaller, request: Request) -> Outcome<Json<ImportReport>> {
    require(&caller, Permission::Import, "import conversations")?;
    let reach = Reach { visible: caller.visible.clone(), addresses: caller.may(Permission::AgentsWrite) };
    import(&app, (caller.actor(), reach), Owner::Tenant(caller.tenant), request).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Target {
    tenant: Option<String>,
    tenant_field: Option<String>,
}

async fn import_any(
    State(app): State<Arc<App>>,
    _: Operator,
    Params(target): Params<Target>,
    request: Request,
) -> Outcome<Json<ImportReport>> {
    let owner = match (target.tenant.as_deref(), target.tenant_field.as_deref()) {
        (Some(slug), None) => Owner::Tenant(tenant_by_slug(&app, slug)?.id),
        (None, Some("tenant")) => Owner::TenantField,
        _ => return Err(Problem::invalid("tenant", "send either 'tenant=SLUG' or 'tenantField=tenant'")),
    };
    import(&app, (Actor::Operator, Reach::ALL), owner, request).await
}

async fn import(
    app: &App,
    (actor, reach): (Actor, Reach),
    owner: Owner,
    request: Request,
) -> Outcome<Json<ImportReport>> {
    let encoding = request.headers().get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    if encoding.is_some_and(|encoding| !matches!(encoding, "gzip" | "x-gzip" | "identity")) {
        let detail = "send NDJSON as it is, or compressed with gzip";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail));
    }
    // What is for many tenants is the operator's own.
    let (key, tenant) = match owner {
        Owner::Tenant(tenant) => (BucketKey::id(*tenant.bytes()), tenant),
        Owner::TenantField => (BucketKey::text("operator"), TenantId::fresh()),
    };
    let turn = app.limiter.imports.take(key).map_err(|full| no_turn(full, "import"))?;
    let place = app.limiter.intake.place(tenant);
    let body = Incoming::new(request.into_body(), turn);
    match app.importer(actor, reach).run(owner, (body, Unpacking::REQUEST), place, |_| {}).await {
        Ok(report) => Ok(Json(report)),
        Err(ImportError::Write(error)) => Err(error.into()),
        Err(ImportError::Read { line, source }) => Err(unread(line, &source)),
        Err(error @ ImportError::Full { .. }) => {
            let detail = format!("{error}; what came before is imported");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_much_under_way", detail).retry_after(RETRY_AFTER_S))
        }
        Err(ImportError::NoSpace { none, .. }) => Err(none.into()),
        Err(other) => Err(Problem::internal(&other)),
    }
}

fn unread(line: u64, error: &io::Error) -> Problem {
    let (status, code, what) = match error.kind() {
        io::ErrorKind::FileTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "was refused"),
        io::ErrorKind::TimedOut => (StatusCode::REQUEST_TIMEOUT, "timed_out", "came too slowly"),
        _ => (StatusCode::BAD_REQUEST, "body_incomplete", "broke off"),
    };
    let detail = format!("the body {what} after line {line}: {error}; what came before is imported");
    Problem::new(status, code, detail)
}

fn no_turn(full: NoTurn, what: &str) -> Problem {
    let (status, code, detail) = match full {
        NoTurn::Own => {
            let detail = format!("an {what} of yours is under way; one at a time");
            (StatusCode::TOO_MANY_REQUESTS, format!("{what}_under_way"), detail)
        }
        NoTurn::All => {
            let detail = format!("too many {what}s are under way on this server; try again in a moment");
            (StatusCode::SERVICE_UNAVAILABLE, format!("too_many_{what}s"), detail)
        }
    };
    Problem::new(status, code, detail).retry_after(RETRY_AFTER_S)
}

/// A body, read on an import's thread. It holds the turn for as long as it's read.
struct Incoming {
    body: BodyDataStream,
    runtime: Handle,
    chunk: Bytes,
    started: Instant,
    waited: Duration,
    bytes: u64,
    _turn: Turn,
}

impl Incoming {
    fn new(body: Body, turn: Turn) -> Self {
        Self {
            body: body.into_data_stream(),
            runtime: Handle::current(),
            chunk: Bytes::new(),
            started: Instant::now(),
            waited: Duration::ZERO,
            bytes: 0,
            _turn: turn,
        }
    }

    /// How much longer its sender may keep it waiting.
    fn patience(&self) -> Duration {
        let pace = PACE_AFTER + Duration::from_secs(self.bytes / PACE_BYTES);
        pace.saturating_sub(self.waited).min(IMPORT_TIME_MAX.saturating_sub(self.started.elapsed()))
    }
}

impl Read for Incoming {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let (asked, patience) = (Instant::now(), self.patience());
            let body = &mut self.body;
            let next = self.runtime.block_on(async { tokio::time::timeout(patience, body.next()).await });
            self.waited += asked.elapsed();
            let slow = |_| {
                let (pace, whole) = (PACE_BYTES, IMPORT_TIME_MAX.as_secs());
                let reason = format!("a body keeps {pace} bytes a second and ends within {whole} s");
                io::Error::new(io::ErrorKind::TimedOut, reason)
            };
            match next.map_err(slow)? {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk.map_err(io::Error::other)?,
            }
            self.bytes += self.chunk.len() as u64;
        }
        let length = self.chunk.len().min(out.len());
        out[..length].copy_from_slice(&self.chunk.split_to(length));
        Ok(length)
    }
}

/// What an export's writer sends to its reader.
enum Piece {
    Bytes(Bytes),
    End,
}

async fn export(State(app): State<Arc<App>>, caller: AgentCaller) -> Outcome<Response> {
    require(&caller, Permission::Export, "export conversations")?;
    require(&caller, Permission::ConversationsReadAll, "export conversations of all groups")?;
    let key = BucketKey::id(*caller.tenant.bytes());
    let turn = app.limiter.exports.take(key).map_err(|full| no_turn(full, "export"))?;
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        // What ends without `End` breaks the answer off, so that nobody takes a part for the whole.
        let (agents, visitors) = (caller.may(Permission::AgentsWrite), caller.may(Permission::VisitorsRead));
        let exporter = Exporter::new(caller.tenant, Shown { agents, visitors });
        if let Err(error) = write_export(&app, exporter, caller.tenant, &send).await {
            tracing::warn!(%error, "an export ended early");
        }
        drop(turn);
    });
    let pieces = stream::unfold(Some(receive), async |receive| {
        let mut receive: mpsc::Receiver<Piece> = receive?;
        match receive.recv().await {
            Some(Piece::Bytes(bytes)) => Some((Ok(bytes), Some(receive))),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::other("the export ended early")), None)),
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"conversations.ndjson\""),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Writes all of a tenant's, as fast as it's taken; what isn't taken yet counts as under way.
async fn write_export(
    app: &Arc<App>,
    mut exporter: Exporter,
    tenant: TenantId,
    send: &mpsc::Sender<Piece>,
) -> io::Result<()> {
    let mut place = app.limiter.intake.place(tenant);
    loop {
        let shared = Arc::clone(app);
        // It reads histories: not on a thread that others wait for.
        let step = tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            let mut more = true;
            while more && out.len() < PIECE_BYTES {
                more = exporter.step(&shared.pool, &shared.views, &mut out).map_err(io::Error::other)?;
            }
            io::Result::Ok((exporter, out, more))
        });
        let out;
        let more;
        (exporter, out, more) = step.await.map_err(io::Error::other)??;
        hold(&mut place, out.len()).await?;
        let mut out = Bytes::from(out);
        while !out.is_empty() {
            let piece = out.split_to(out.len().min(PIECE_BYTES));
            send_piece(send, Piece::Bytes(piece)).await?;
        }
        place.give_back(place.bytes());
        if !more {
            return send_piece(send, Piece::End).await;
        }
    }
}

async fn send_piece(send: &mpsc::Sender<Piece>, piece: Piece) -> io::Result<()> {
    let sent = tokio::time::timeout(UNREAD_MAX, send.send(piece)).await;
    sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
}

/// Waits for room as long as a reader may keep others waiting.
async fn hold(place: &mut Place, bytes: usize) -> io::Result<()> {
    let asked = Instant::now();
    loop {
        match place.hold(bytes) {
            Ok(()) => return Ok(()),
            Err(NoRoom::Tenant | NoRoom::Server) if asked.elapsed() < UNREAD_MAX => tokio::time::sleep(ROOM_LOOK).await,
            Err(full) => return Err(io::Error::other(format!("there is no room for more: {full:?}"))),
        }
    }
}
