//! Transcripts in and out, as streams of NDJSON: `/v1/import`, `/v1/export`, and the operator's import.

use super::extract::{Params, require};
use super::operator::{Operator, tenant_by_slug};
use super::problem::{Outcome, Problem};
use super::surface::describe::Operation;
use super::surface::{OPERATOR, Routes, Way};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::import::{self, ImportError, ImportReport, LINE_BYTES_MAX, Owner};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use flate2::write::MultiGzDecoder;
use futures_util::{Stream, StreamExt as _, stream};
use ingest::event::Actor;
use ingest::id::{ConversationId, TenantId};
use ingest::payload::Permission;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::Arc;

/// How a gzip stream starts.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Compressed bytes inflated at once: at gzip's best ratio some 16 MiB come out.
const INFLATED_AT_ONCE: usize = 16 * 1024;

pub(super) fn routes() -> Routes {
    use Permission::{Export, Import};
    let ndjson = |operation: &mut Operation<'_>| {
        operation.takes("application/x-ndjson");
        operation.refuses(&[400, 415]);
    };
    Routes::new("Bulk")
        .post(
            "/v1/import/conversations",
            import_own,
            &[Way::May(Import)],
            "Imports transcripts, a line each; gzip allowed.",
        )
        .also(ndjson)
        .get("/v1/export/conversations", export, &[Way::May(Export)], "All conversations as NDJSON, importable again.")
        .also(|operation| operation.gives("application/x-ndjson"))
        .post("/v1/operator/import", import_any, OPERATOR, "Imports transcripts for any tenant.")
        .also(ndjson)
}

async fn import_own(State(app): State<Arc<App>>, caller: AgentCaller, request: Request) -> Outcome<Json<ImportReport>> {
    require(&caller, Permission::Import, "import conversations")?;
    import(&app, caller.actor(), Owner::Tenant(caller.tenant), request).await
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
    import(&app, Actor::Operator, owner, request).await
}

async fn import(app: &App, actor: Actor, owner: Owner, request: Request) -> Outcome<Json<ImportReport>> {
    let encoding = request.headers().get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    if encoding.is_some_and(|encoding| !matches!(encoding, "gzip" | "x-gzip" | "identity")) {
        let detail = "send NDJSON as it is, or compressed with gzip";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail));
    }
    let lines = lines(request.into_body());
    match app.importer(actor).import(owner, lines, |_| {}).await {
        Ok(report) => Ok(Json(report)),
        Err(ImportError::Write(error)) => Err(error.into()),
        Err(ImportError::Read { line, source }) => {
            let detail = format!("the body broke off after line {line}: {source}; what came before is imported");
            Err(Problem::new(StatusCode::BAD_REQUEST, "body_incomplete", detail))
        }
        Err(other) => Err(Problem::internal(&other)),
    }
}

/// A body's lines, inflated when it starts like gzip, however it's labelled.
fn lines(body: Body) -> impl Stream<Item = io::Result<Vec<u8>>> + Send {
    let lines = Lines { body: body.into_data_stream().boxed(), decoder: None, ready: VecDeque::new(), ended: false };
    stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await.transpose()?;
        Some((line, lines))
    })
}

struct Lines {
    body: stream::BoxStream<'static, Result<Bytes, axum::Error>>,
    /// Chosen by the first bytes.
    decoder: Option<Decoder>,
    ready: VecDeque<Vec<u8>>,
    ended: bool,
}

enum Decoder {
    Plain(Splitter),
    Gzip(Box<MultiGzDecoder<Splitter>>),
}

impl Lines {
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut head = Vec::new();
        while self.ready.is_empty() && !self.ended {
            match self.body.next().await {
                Some(chunk) => {
                    let chunk = chunk.map_err(io::Error::other)?;
                    head.extend_from_slice(&chunk);
                    if self.decoder.is_none() && head.len() < GZIP_MAGIC.len() {
                        continue;
                    }
                    self.feed(&std::mem::take(&mut head)).await?;
                }
                None => {
                    self.ended = true;
                    self.feed(&head).await?;
                    self.finish()?;
                }
            }
        }
        Ok(self.ready.pop_front())
    }

    async fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        let decoder = self.decoder.get_or_insert_with(|| {
            if bytes.starts_with(&GZIP_MAGIC) {
                Decoder::Gzip(Box::new(MultiGzDecoder::new(Splitter::default())))
            } else {
                Decoder::Plain(Splitter::default())
            }
        });
        match decoder {
            Decoder::Plain(splitter) => {
                splitter.write_all(bytes)?;
                self.ready.append(&mut splitter.lines);
            }
            Decoder::Gzip(gzip) => {
                for part in bytes.chunks(INFLATED_AT_ONCE) {
                    gzip.write_all(part)?;
                    self.ready.append(&mut gzip.get_mut().lines);
                    // Inflating holds the thread; others get a turn in between.
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let mut splitter = match self.decoder.take() {
            None => return Ok(()),
            Some(Decoder::Plain(splitter)) => splitter,
            Some(Decoder::Gzip(gzip)) => gzip.finish()?,
        };
        self.ready.append(&mut splitter.lines);
        if !splitter.open.is_empty() {
            self.ready.push_back(splitter.open);
        }
        Ok(())
    }
}

/// Cuts bytes into lines. Of a line that is too long it keeps just enough to be seen as too long.
#[derive(Default)]
struct Splitter {
    lines: VecDeque<Vec<u8>>,
    open: Vec<u8>,
}

impl Splitter {
    fn keep(&mut self, bytes: &[u8]) {
        let room = (LINE_BYTES_MAX + 1).saturating_sub(self.open.len());
        self.open.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl io::Write for Splitter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        if let Some(first) = parts.next() {
            self.keep(first);
        }
        for part in parts {
            self.lines.push_back(std::mem::take(&mut self.open));
            self.keep(part);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn export(State(app): State<Arc<App>>, caller: AgentCaller) -> Outcome<Response> {
    require(&caller, Permission::Export, "export conversations")?;
    let tenant = caller.tenant;
    let pages = stream::unfold(Some(None), move |after: Option<Option<ConversationId>>| {
        let app = Arc::clone(&app);
        async move {
            let after = after?;
            // A page reads hundreds of histories: not on a thread that others wait for.
            let page = tokio::task::spawn_blocking(move || export_page(&app, tenant, after)).await;
            match page {
                Ok(Ok(Some((bytes, last)))) => Some((Ok(bytes), Some(Some(last)))),
                Ok(Ok(None)) => None,
                Ok(Err(problem)) => Some((Err(io::Error::other(problem.detail().to_owned())), None)),
                Err(error) => Some((Err(io::Error::other(error)), None)),
            }
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"conversations.ndjson\""),
    ];
    Ok((headers, Body::from_stream(pages)).into_response())
}

fn export_page(
    app: &App,
    tenant: TenantId,
    after: Option<ConversationId>,
) -> Outcome<Option<(Vec<u8>, ConversationId)>> {
    let chats = import::export_page(&app.pool, tenant, after)?;
    let Some(last) = chats.last().map(|chat| chat.id) else { return Ok(None) };
    let mut bytes = Vec::new();
    for chat in &chats {
        if let Some(transcript) = import::export(&app.pool, &app.views, chat)? {
            serde_json::to_writer(&mut bytes, &transcript).map_err(|error| Problem::internal(&error))?;
            bytes.push(b'\n');
        }
    }
    Ok(Some((bytes, last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(chunks: Vec<Vec<u8>>) -> io::Result<Vec<String>> {
        let body = Body::from_stream(stream::iter(chunks.into_iter().map(io::Result::Ok)));
        let lines: Vec<io::Result<Vec<u8>>> = lines(body).collect().await;
        lines.into_iter().map(|line| line.map(|line| String::from_utf8_lossy(&line).into_owned())).collect()
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).expect("written");
        encoder.finish().expect("compressed")
    }

    /// Lines are the same wherever the chunks are cut, compressed or not, with or without a last newline.
    #[tokio::test]
    async fn lines_do_not_depend_on_chunks() {
        for text in ["one\ntwo\n\nfour", "one\ntwo\n\nfour\n"] {
            let expected = ["one", "two", "", "four"];
            for bytes in [text.as_bytes().to_vec(), gzip(text)] {
                for size in [1, 3, 1_000] {
                    let lines = read(bytes.chunks(size).map(<[u8]>::to_vec).collect()).await.expect("reads");
                    assert_eq!(lines, expected, "{size}");
                }
            }
        }
        assert!(read(Vec::new()).await.expect("reads").is_empty());
    }

    #[tokio::test]
    async fn a_cut_off_gzip_is_an_error() {
        let whole = gzip(&"line\n".repeat(10_000));
        assert!(read(vec![whole[..whole.len() / 2].to_vec()]).await.is_err());
    }
}
