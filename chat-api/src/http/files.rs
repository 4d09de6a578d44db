//! Files of conversations: sent as `multipart/form-data`, served as attachments that no browser runs.
//!
//! A form has one part `file`, and may have `content` (what is said with it) and `clientId`. The file is sealed and written
//! while it comes in, then a message is posted that names it. What no event took is deleted again.

use super::extract::{Id, Write, idempotency_key, require};
use super::multipart::{FormError, Parts};
use super::problem::{Outcome, Problem};
use super::surface::describe::Operation;
use super::surface::{AGENT, Routes, VISITOR, Way};
use super::write::{self, Sealer};
use super::{events, threads, widget};
use crate::app::App;
use crate::auth::{AgentCaller, VisitorCaller};
use crate::core::state::StoredFile;
use crate::files::{FILE_BYTES_MAX, Files, Received, Upload, UploadError, names};
use crate::limits::FileSender;
use crate::store::read;
use crate::view::{EventView, FileAbout};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use ingest::id::{FileId, PersonId, TenantId, ThreadId};
use ingest::payload::Permission;
use multer::Field;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Bytes of a form beside its file: boundaries, headers, 20,000 characters of text.
const FORM_BYTES_MAX: u64 = 128 * 1024;
/// Bytes of a part that is a text.
const TEXT_BYTES_MAX: usize = 96 * 1024;
/// A form that takes longer has lost its sender.
const UPLOAD_TIME_MAX: Duration = Duration::from_secs(300);
/// Seconds after which another try may find a place.
const RETRY_AFTER_S: u64 = 5;

/// All of these are without the common time limit: files take as long as they take.
pub(super) fn routes() -> Routes {
    let visitors = Routes::new("Files")
        .post("/v1/widget/files", visitor_sends, VISITOR, "Sends a file to the conversation.")
        .also(form)
        .answers::<EventView>(&[200, 201])
        .get("/v1/widget/files/{id}", visitor_reads, VISITOR, "A file of the visitor's conversations.")
        .also(attachment)
        .around(|router| router.route_layer(from_fn(widget::gate)));
    Routes::new("Files")
        .post(
            "/v1/threads/{id}/files",
            agent_sends,
            &[Way::May(Permission::ConversationsReply)],
            "Sends a file to the conversation.",
        )
        .also(form)
        .answers::<EventView>(&[200, 201])
        .get("/v1/files/{id}", agent_reads, AGENT, "A file of a conversation that the agent may see.")
        .also(attachment)
        .merge(visitors)
}

fn form(operation: &mut Operation<'_>) {
    let says = "The same key and form repeat the first outcome for 24 h.";
    operation.header("Idempotency-Key", false, says, json!({ "type": "string", "minLength": 1, "maxLength": 200 }));
    operation.takes_form(json!({
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": { "type": "string", "format": "binary" },
            "content": { "type": "string" },
            "clientId": { "type": "string" },
        },
    }));
    operation.refuses(&[400, 404, 408, 409, 410, 413, 415, 422, 429, 503, 507]);
}

fn attachment(operation: &mut Operation<'_>) {
    operation.gives("*/*");
    operation.refuses(&[404, 410]);
}

/// A file on its way into an event.
pub struct NewFile {
    /// Its id.
    pub id: FileId,
    /// Under whose key it was sealed.
    pub person: PersonId,
    /// What the event says about it.
    pub about: FileAbout,
    /// Hex of the hash of its bytes.
    pub sha256: String,
}

/// A file in the data directory that nothing was done with yet; deleted unless it's kept.
struct Unclaimed {
    files: Arc<Files>,
    id: Option<FileId>,
}

impl Unclaimed {
    fn keep(mut self) -> Option<FileId> {
        self.id.take()
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            delete(&self.files, id);
        }
    }
}

fn delete(files: &Files, id: FileId) {
    if let Err(error) = files.remove(id) {
        tracing::warn!(%error, "failed to delete a file that no event names; trying again later");
    }
}

/// A form that was read; its file lies in the data directory.
struct Form {
    file: NewFile,
    content: String,
    client_id: Option<String>,
    write: Write<()>,
    sender: FileSender,
}

impl Form {
    fn posted(&self) -> events::Posted<'_> {
        events::Posted {
            kind: events::Kind::Message,
            content: &self.content,
            client_id: self.client_id.as_deref(),
            metadata: None,
            file: Some(&self.file),
        }
    }
}

async fn visitor_sends(State(app): State<Arc<App>>, caller: VisitorCaller, request: Request) -> Outcome<Response> {
    let sender = FileSender { tenant: caller.tenant, visitor: Some((caller.subject, caller.chatbot)) };
    let form = receive(&app, request, caller.subject.0, caller.visitor.into(), sender).await?;
    let said = widget::say(&app, &caller, caller.conversation, &form.write, form.posted()).await;
    settle(&app, &form, said.and_then(|(status, event)| widget::said(&app, &caller, status, event)))
}

async fn agent_sends(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(thread): Id<ThreadId>,
    request: Request,
) -> Outcome<Response> {
    let chat = threads::conversation(&app, &caller, thread)?;
    require(&caller, Permission::ConversationsReply, "write to visitors")?;
    // Whoever sends it, it belongs to the visitor: erasing them erases it.
    let sender = FileSender { tenant: caller.tenant, visitor: None };
    let form = receive(&app, request, caller.agent.0, chat.visitor.into(), sender).await?;
    let author = events::Author::Agent(&caller);
    let outcome = events::post(&app, author, read::Place::from(&chat), &form.write, form.posted()).await;
    settle(&app, &form, outcome.map(|(status, event)| (status, Json(event)).into_response()))
}

/// Deletes the bytes that no event took: of a refused request, and of a repeated one, whose event has its own. When it
/// isn't known what became of the event, they stay until it is.
fn settle(app: &App, form: &Form, outcome: Outcome<Response>) -> Outcome<Response> {
    let orphan = match &outcome {
        Ok(response) => response.status() != StatusCode::CREATED,
        Err(problem) => problem.status().is_client_error(),
    };
    if orphan {
        delete(&app.files, form.file.id);
        app.limiter.room.give_back_file(form.sender, form.file.about.size);
    }
    outcome
}

async fn receive(app: &App, request: Request, own: Uuid, person: PersonId, sender: FileSender) -> Outcome<Form> {
    let busy = || {
        let detail = "too many files are being sent; try again in a moment";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_uploads", detail).retry_after(RETRY_AFTER_S)
    };
    let _place = app.files.place(own).ok_or_else(busy)?;
    // As much as it may become, until it's known.
    let length = length(&request).unwrap_or(FILE_BYTES_MAX).min(FILE_BYTES_MAX);
    app.limiter.room.take_file(sender, length)?;
    let mut taken = Taken { app, sender, bytes: length };
    let form =
        tokio::time::timeout(UPLOAD_TIME_MAX, read_form(app, request, person, sender)).await.map_err(|_| {
            let detail = format!("the form took longer than {} s", UPLOAD_TIME_MAX.as_secs());
            Problem::new(StatusCode::REQUEST_TIMEOUT, "timed_out", detail)
        })??;
    taken.bytes = length.saturating_sub(form.file.about.size);
    Ok(form)
}

/// Room that was taken for a file; what is left of it when this is dropped is given back.
struct Taken<'a> {
    app: &'a App,
    sender: FileSender,
    bytes: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.app.limiter.room.give_back_file(self.sender, self.bytes);
    }
}

/// How long a request says that its body is.
fn length(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read_form(app: &App, request: Request, person: PersonId, sender: FileSender) -> Outcome<Form> {
    let key = idempotency_key(request.headers())?;
    let path = request.uri().path().to_owned();
    let mut parts = multipart(request)?;
    let (mut file, mut content, mut client_id) = (None, None, None);
    while let Some(mut part) = parts.next().await.map_err(|error| malformed(&error))? {
        let name = part.name().unwrap_or_default().to_owned();
        let seen = match &*name {
            "file" => file.is_some(),
            "content" => content.is_some(),
            "clientId" => client_id.is_some(),
            _ => {
                let detail = format!("there is no field '{name}' here");
                return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_field", detail).at(name));
            }
        };
        if seen {
            return Err(Problem::invalid(&*name, format!("'{name}' can be sent once")));
        }
        match &*name {
            "file" => {
                let id = FileId::fresh();
                let called = part.file_name().map(str::to_owned);
                let cipher = Sealer::for_known(app, person)?.file(id);
                let upload = app.files.receive(id, cipher).await.map_err(refused)?;
                let received = store(upload, &mut part, called.as_deref()).await?;
                let unclaimed = Unclaimed { files: Arc::clone(&app.files), id: Some(id) };
                file = Some((unclaimed, called, received));
            }
            "content" => content = Some(text(&name, &mut part).await?).filter(|text| !text.trim().is_empty()),
            _ => client_id = Some(text(&name, &mut part).await?),
        }
    }
    let missing = || Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "missing_field", "'file' is missing").at("file");
    let (unclaimed, called, received) = file.ok_or_else(missing)?;
    let name = names::plain(called.as_deref(), received.kind);
    // What is asked, however the form was put together.
    let fingerprint = ["POST", &path, &name, content.as_deref().unwrap_or_default(), &received.sha256].join("\n");
    let about = FileAbout { name, content_type: received.kind.media_type.to_owned(), size: received.size };
    // What follows sends it on its way: from here on it's settled by what becomes of its event.
    let id = unclaimed.keep().ok_or_else(missing)?;
    Ok(Form {
        content: content.unwrap_or_else(|| about.name.clone()),
        client_id,
        sender,
        write: Write { body: (), key, fingerprint: fingerprint.into_bytes() },
        file: NewFile { id, person, about, sha256: received.sha256 },
    })
}

fn multipart(request: Request) -> Outcome<Parts> {
    let max = FILE_BYTES_MAX + FORM_BYTES_MAX;
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    if length(&request).is_some_and(|length| length > max) {
        return Err(refused(UploadError::TooLarge));
    }
    let boundary = text(header::CONTENT_TYPE).and_then(|kind| multer::parse_boundary(kind).ok()).ok_or_else(|| {
        let detail = "send the file as multipart/form-data with a boundary, in a part called 'file'";
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    })?;
    Ok(Parts::new(request.into_body(), boundary, max))
}

async fn store(mut upload: Upload, part: &mut Field<'_>, called: Option<&str>) -> Outcome<Received> {
    while let Some(bytes) = part.chunk().await.map_err(|error| broken(&error))? {
        upload.write(&bytes).await.map_err(refused)?;
    }
    upload.finish(called).await.map_err(refused)
}

async fn text(name: &str, part: &mut Field<'_>) -> Outcome<String> {
    let mut bytes = Vec::new();
    while let Some(more) = part.chunk().await.map_err(|error| broken(&error))? {
        bytes.extend_from_slice(&more);
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(Problem::invalid(name, format!("'{name}' has more than {TEXT_BYTES_MAX} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::invalid(name, format!("'{name}' isn't UTF-8")))
}

fn malformed(error: &FormError) -> Problem {
    match error {
        FormError::Form(error) => broken(error),
        FormError::Head | FormError::Parts => {
            Problem::new(StatusCode::BAD_REQUEST, "malformed_multipart", error.to_string())
        }
    }
}

fn broken(error: &multer::Error) -> Problem {
    use multer::Error as E;
    match error {
        E::StreamSizeExceeded { .. } => refused(UploadError::TooLarge),
        E::StreamReadFailed(_) | E::IncompleteStream | E::IncompleteFieldData { .. } | E::IncompleteHeaders => {
            Problem::new(StatusCode::BAD_REQUEST, "body_incomplete", "the body broke off")
        }
        other => {
            let detail = format!("the body isn't multipart/form-data: {other}");
            Problem::new(StatusCode::BAD_REQUEST, "malformed_multipart", detail)
        }
    }
}

fn refused(error: UploadError) -> Problem {
    let detail = error.to_string();
    match error {
        UploadError::TooLarge => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "file_too_large", detail).at("file"),
        UploadError::Type => {
            let detail =
                "pictures, recordings, PDF, office documents, ZIP and plain text can be sent; this is none of them";
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_file_type", detail).at("file")
        }
        UploadError::Empty => Problem::invalid("file", detail),
        UploadError::Io(_) | UploadError::Seal(_) => {
            tracing::error!(%error, "a file could not be stored");
            let detail = "the file could not be written; try again";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "write_failed", detail).retry_after(RETRY_AFTER_S)
        }
    }
}

async fn agent_reads(State(app): State<Arc<App>>, caller: AgentCaller, Id(id): Id<FileId>) -> Outcome<Response> {
    let file = stored(&app, caller.tenant, id)?;
    write::visible(&app, &caller, file.conversation).map_err(unknown_file)?;
    serve(&app, &file).await
}

async fn visitor_reads(State(app): State<Arc<App>>, caller: VisitorCaller, Id(id): Id<FileId>) -> Outcome<Response> {
    let file = stored(&app, caller.tenant, id)?;
    let chat = write::conversation(&app, caller.tenant, file.conversation).map_err(unknown_file)?;
    if !caller.may_see(&chat) {
        return Err(Problem::not_found("file"));
    }
    serve(&app, &file).await
}

fn stored(app: &App, tenant: TenantId, id: FileId) -> Outcome<StoredFile> {
    app.pool.read(|connection| read::file(connection, tenant, id))?.ok_or_else(|| Problem::not_found("file"))
}

/// A file that isn't for the caller is as unknown as one that never was, down to the words.
fn unknown_file(problem: Problem) -> Problem {
    if problem.is("not_found") { Problem::not_found("file") } else { problem }
}

/// Streams a file. Nothing in it may run or be shown in place, whatever it turns out to be.
async fn serve(app: &App, file: &StoredFile) -> Outcome<Response> {
    let gone = || Problem::new(StatusCode::GONE, "person_erased", "this person's data was erased");
    let person = file.metadata.as_ref().map_or(file.visitor.into(), |metadata| metadata.person);
    let key = app.keys.get(person)?.ok_or_else(gone)?;
    let unreadable = || Problem::new(StatusCode::GONE, "file_unreadable", "what was said of this file can't be read");
    let about = app.views.file(file.metadata.as_ref())?.ok_or_else(unreadable)?;
    let bytes =
        app.files.read(file.id, key.file(file.id), about.size).await.map_err(|error| Problem::internal(&error))?;
    let bytes = bytes.inspect(|chunk| {
        if let Err(error) = chunk {
            tracing::error!(%error, "a file could not be read");
        }
    });
    let value = |text: &str| HeaderValue::from_str(text).map_err(|error| Problem::internal(&error));
    let headers = [
        (header::CONTENT_TYPE, value(&about.content_type)?),
        (header::CONTENT_LENGTH, about.size.into()),
        (header::CONTENT_DISPOSITION, value(&names::attachment(&about.name))?),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private")),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}
