//! `POST /v0/events` and what else brings rows into the tenant's own data sources: unpacked, checked, logged, answered.
//!
//! An answer comes after the commit, with or without `wait`. Reading and checking is done beside the sockets' threads.

use super::extract::{form, idempotency_key};
use super::problem::Problem;
use super::surface::describe::Operation;
use super::surface::{Routes, WRITERS};
use super::v0::{V0Error, answer, has_no_length};
use super::write::command;
use crate::app::App;
use crate::auth::TokenCaller;
use crate::auth::scopes::Right;
use crate::core::CommandKind;
use crate::core::sources::SOURCE_CHANGED;
use crate::core::state::DataSource;
use crate::encoding::{Utf8, is_utf16};
use crate::limits::{Buffer, Place};
use crate::sources::rows::{Body, BodyFormat};
use crate::sources::{self, Batch, CheckError, columns};
use crate::store::read;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use ingest::event::RequestKey;
use ingest::id::DataSourceId;
use ingest::payload::{DataSourceCreated, SourceColumn};
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use sql::TableName;
use std::sync::Arc;
use uuid::Uuid;

/// Bytes of the body of `/v0/events`, as Tinybird has it.
const EVENTS_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Bytes of a body once it's unpacked.
pub(super) const UNPACKED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a body that are read only to be refused.
const DISCARDED_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes that are unpacked at a time.
const UNPACK_STEP: usize = 64 * 1024;
/// Tries when the source was made, replaced or deleted by another request in between.
const TRIES: usize = 4;

pub(super) fn routes() -> Routes {
    Routes::new("Reports")
        .post(
            "/v0/events",
            events,
            WRITERS,
            "Appends NDJSON to a data source, which is made if there is none; durable when it answers.",
        )
        .answers::<Ingested>(&[200, 202])
        .also(|operation| operation.takes("application/x-ndjson"))
        .also(describe)
}

fn describe(operation: &mut Operation<'_>) {
    operation.query("name", "The data source.", json!({ "type": "string" }));
    operation.query("wait", "Answers 200 rather than 202.", json!({ "type": "boolean" }));
    operation.refuses(&[400, 403, 409, 411, 413, 507]);
}

/// What became of rows.
#[derive(Debug, Serialize, JsonSchema)]
struct Ingested {
    successful_rows: u64,
    /// They are in the data source's quarantine.
    quarantined_rows: u64,
}

async fn events(State(app): State<Arc<App>>, token: TokenCaller, request: Request) -> Response {
    let outcome = async {
        let query = form(request.uri().query().unwrap_or_default());
        let value = |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let name = value("name").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| V0Error::bad_request("send the data source's name as 'name'"))?;
        let name = writable(&app, &token, name)?;
        let wait = value("wait").is_some_and(|wait| wait.eq_ignore_ascii_case("true") || wait == "1");
        if has_no_length(&request) {
            let error = "send the rows as the body, with its Content-Length";
            return Err(V0Error::new(StatusCode::LENGTH_REQUIRED, error));
        }
        let mut place = app.limiter.intake.place(token.tenant);
        let request_key = idempotency_key(request.headers())?;
        let packed = packing(request.headers())?;
        let bytes = whole(request, EVENTS_BYTES_MAX, &mut place).await?;
        let sender = format!("{}:/v0/events", token.sender());
        let body = || fingerprint(&app, &[name.as_str().as_bytes()], &bytes);
        let request_key = request_key.map(|key| RequestKey { sender, key, body: body() });
        let format = BodyFormat::Json;
        let incoming = Incoming { name, bytes, place, packed, format, columns: None, replace: false, request_key };
        let done = take_in(&app, &token, incoming).await?;
        let ingested = Ingested { successful_rows: done.successful, quarantined_rows: done.quarantined };
        let status = if wait { StatusCode::OK } else { StatusCode::ACCEPTED };
        Ok((status, Json(ingested)).into_response())
    };
    answer(&token, outcome.await)
}

/// The name of a data source that the token may append to, or make.
pub(super) fn writable(app: &App, token: &TokenCaller, name: &str) -> Result<TableName, V0Error> {
    let name = source_name(app, name)?;
    if token.may(Right::AppendTable(&name)) || token.may(Right::CreateTable(&name)) {
        Ok(name)
    } else {
        Err(V0Error::forbidden(Right::AppendTable(&name)))
    }
}

/// A name that can be a data source's.
pub(super) fn source_name(app: &App, name: &str) -> Result<TableName, V0Error> {
    let shipped = app.reports.shipped_tables();
    columns::source_name(name, shipped.iter().map(|table| &*table.name)).map_err(V0Error::bad_request)
}

/// What says whether a request with the same key is the same request.
pub(super) fn fingerprint(app: &App, words: &[&[u8]], rows: &Buffer) -> String {
    let rows = ring::digest::digest(&ring::digest::SHA256, rows.bytes());
    let mut all = words.join(&b"\n"[..]);
    all.push(b'\n');
    all.extend_from_slice(rows.as_ref());
    app.key_file.lookup("request", &all)
}

/// The whole body. One that there is no room for is read on for a while and thrown away: who is still sending hears no
/// answer.
pub(super) async fn whole(request: Request, max: usize, place: &mut Place) -> Result<Buffer, V0Error> {
    let mut stream = request.into_body().into_data_stream();
    let (mut bytes, mut seen, mut refused) = (Buffer::new(max), 0, None);
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| V0Error::bad_request("the body broke off"))?;
        seen += piece.len();
        if seen > DISCARDED_BYTES_MAX {
            break;
        }
        if refused.is_none() {
            refused = if seen > max {
                Some(V0Error::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {max} bytes")))
            } else {
                bytes.extend(&piece, place).err().map(V0Error::from)
            };
            if refused.is_some() {
                bytes.clear(place);
            }
        }
    }
    refused.map_or(Ok(bytes), Err)
}

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
}

/// By `Content-Encoding`.
pub(super) fn packing(headers: &HeaderMap) -> Result<Packing, V0Error> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("unreadable").trim());
    match encoding.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "identity") => Ok(Packing::None),
        Some("gzip" | "x-gzip") => Ok(Packing::Gzip),
        Some(other) => Err(V0Error::bad_request(format!("the Content-Encoding '{other}' is not read; gzip is"))),
    }
}

/// The rows themselves, as UTF-8; what was packed is given back.
fn unpack(mut bytes: Buffer, packed: Packing, place: &mut Place) -> Result<Buffer, V0Error> {
    // Some send gzip without saying so; no row begins like this.
    let gzip = packed == Packing::Gzip || bytes.bytes().starts_with(&[0x1f, 0x8b]);
    if !gzip && !is_utf16(bytes.bytes()) {
        return Ok(bytes);
    }
    let mut out = Buffer::new(UNPACKED_BYTES_MAX);
    if gzip {
        read_all(Utf8::new(flate2::read::MultiGzDecoder::new(bytes.bytes())), &mut out, place)?;
    } else {
        read_all(Utf8::new(bytes.bytes()), &mut out, place)?;
    }
    bytes.clear(place);
    Ok(out)
}

fn read_all(mut reader: impl std::io::Read, out: &mut Buffer, place: &mut Place) -> Result<(), V0Error> {
    let mut step = vec![0; UNPACK_STEP];
    loop {
        let read = reader.read(&mut step);
        let read = read.map_err(|error| V0Error::bad_request(format!("failed to unpack the body: {error}")))?;
        if read == 0 {
            return Ok(());
        }
        if out.bytes().len() + read > UNPACKED_BYTES_MAX {
            let error = format!("the body has more than {UNPACKED_BYTES_MAX} bytes once it is unpacked");
            return Err(V0Error::new(StatusCode::PAYLOAD_TOO_LARGE, error));
        }
        out.extend(&step[..read], place)?;
    }
}

/// Rows on their way in.
pub(super) struct Incoming {
    pub(super) name: TableName,
    pub(super) bytes: Buffer,
    /// What holds them.
    pub(super) place: Place,
    pub(super) packed: Packing,
    pub(super) format: BodyFormat,
    /// Of the source to be made, if there is none; else they are inferred.
    pub(super) columns: Option<Vec<SourceColumn>>,
    /// In the place of all rows there are.
    pub(super) replace: bool,
    pub(super) request_key: Option<RequestKey>,
}

/// What became of them.
pub(super) struct TakenIn {
    pub(super) successful: u64,
    pub(super) quarantined: u64,
    pub(super) import_id: String,
}

/// Checks rows against the source that is there, or is made, and logs them. Their place goes where they are: who stops
/// waiting for the answer doesn't make them weigh less.
pub(super) async fn take_in(app: &Arc<App>, token: &TokenCaller, incoming: Incoming) -> Result<TakenIn, V0Error> {
    let Incoming { name, bytes, mut place, packed, format, columns, replace, request_key } = incoming;
    let import_id = Uuid::now_v7().to_string();
    app.limiter.room.rows(token.tenant, bytes.bytes().len() as u64)?;
    let unpacked = apart(move || unpack(bytes, packed, &mut place).map(|bytes| (bytes, place))).await?;
    let (mut bytes, mut place) = unpacked;
    let mut last = None;
    for _ in 0..TRIES {
        let known = source(app, token, &name)?;
        let (columns, id, create_as, before) = (columns.clone(), import_id.clone(), name.clone(), place.bytes());
        let check = move || {
            let checked = check(known, &create_as, columns, (bytes.bytes(), format), &id, &mut place)?;
            Ok((checked, bytes, place))
        };
        let checked;
        (checked, bytes, place) = apart(check).await?;
        let Checked { source_id, create, batch } = checked;
        let Batch { chunks, successful, quarantined } = batch;
        app.limiter.room.rows(token.tenant, chunks.iter().map(|chunk| chunk.rows.json().len() as u64).sum())?;
        let create = create.map(Box::new);
        let kind = CommandKind::AppendRows { name: name.to_string(), source_id, create, replace, chunks };
        let (writer, append) = (Arc::clone(app), command(token.tenant, token.actor(), request_key.clone(), kind));
        let written = tokio::spawn(async move { (writer.submit(append).await, place) });
        let outcome;
        (outcome, place) = written.await.map_err(|error| Problem::internal(&error))?;
        match outcome {
            Ok(Ok(_)) => {
                drop(bytes);
                return Ok(TakenIn { successful, quarantined, import_id });
            }
            Ok(Err(rejection)) if rejection.code == SOURCE_CHANGED => last = Some(rejection),
            Ok(Err(rejection)) => return Err(Problem::from(rejection).into()),
            Err(error) => return Err(Problem::from(error).into()),
        }
        // The checked rows are gone; the body is checked again.
        place.give_back(place.bytes() - before);
    }
    Err(last
        .map_or_else(|| V0Error::bad_request("the data source changes too often"), |last| Problem::from(last).into()))
}

/// The tenant's data source of this name.
pub(super) fn source(app: &App, token: &TokenCaller, name: &TableName) -> Result<Option<DataSource>, V0Error> {
    let found = app.pool.read(|connection| read::data_source(connection, token.tenant, name));
    Ok(found.map_err(Problem::from)?)
}

struct Checked {
    source_id: DataSourceId,
    create: Option<DataSourceCreated>,
    batch: Batch,
}

fn check(
    known: Option<DataSource>,
    name: &TableName,
    columns: Option<Vec<SourceColumn>>,
    (bytes, format): (&[u8], BodyFormat),
    import_id: &str,
    place: &mut Place,
) -> Result<Checked, V0Error> {
    let body = Body { bytes, format };
    let (source_id, columns, new) = match (known, columns) {
        (Some(source), _) => (source.id, source.columns, false),
        (None, Some(columns)) => (DataSourceId::fresh(), columns, true),
        (None, None) => (DataSourceId::fresh(), sources::infer(&body).map_err(V0Error::bad_request)?, true),
    };
    let mut hold = |bytes| place.hold(bytes);
    let batch =
        sources::check(&columns, &body, import_id, Timestamp::now(), &mut hold).map_err(|error| match error {
            CheckError::Unreadable(error) => V0Error::bad_request(error),
            CheckError::Full(full) => full.into(),
        })?;
    let create = new.then(|| DataSourceCreated { source_id, name: name.to_string(), columns });
    Ok(Checked { source_id, create, batch })
}

/// Runs what takes long where it holds up no socket.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T, V0Error> + Send + 'static) -> Result<T, V0Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| V0Error::from(Problem::internal(&error)))?
}
