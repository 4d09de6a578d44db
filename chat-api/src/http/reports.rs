//! Reports: `/v0/sql` and `/v0/pipes`, Tinybird's wire. Errors are `{"error": …}` here ([`V0Error`]).
//!
//! The tenant is the token's; scopes say which pipes and tables it reads, which rows, under which parameters. The engine
//! bounds the rest. How pipes are described is in `pipes`.

use super::extract::{JSON_BYTES_MAX, body, form};
use super::own_pipes;
use super::parts;
use super::pipes;
use super::pipes::Pipe;
use super::problem::Problem;
use super::surface::describe::Operation;
use super::surface::{REPORTS, Routes};
pub use super::v0::V0Error;
use super::v0::{answer, has_no_length};
use crate::app::App;
use crate::auth::TokenCaller;
use crate::auth::scopes::Right;
use crate::auth::wire::engine_caller;
use crate::core::state::Pipe as Stored;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use sql::{
    Answer, EndpointDescription, EndpointName, Format, MetricsVersion, Params, Published, QueryError, QueryResult,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn routes() -> Routes {
    Routes::new("Reports")
        .get("/v0/sql", sql, REPORTS, "Runs SQL over the tenant's tables; the SQL is 'q', a trailing FORMAT is obeyed.")
        .answers::<Rows>(&[200])
        .also(statement_query)
        .also(refusals)
        .post("/v0/sql", sql, REPORTS, "The same; the SQL is the body.")
        .answers::<Rows>(&[200])
        .also(|operation| operation.takes("text/plain"))
        .also(metrics_version)
        .also(refusals)
        .get("/v0/pipes", list, REPORTS, "The endpoints that the token may read.")
        .answers::<PipeList<'static>>(&[200])
        .get("/v0/pipes/{name}", pipe, REPORTS, "Runs an endpoint, as NAME.json; without the ending, describes it.")
        .answers::<PipeAnswer>(&[200])
        .also(|operation| {
            let words = "Of the tenant's own: which. Of one that ships: which of the metrics' definitions.";
            operation.query("version", words, json!({ "type": "string" }));
        })
        .also(refusals)
        .post("/v0/pipes/{name}", pipe, REPORTS, "The same, with parameters in the body.")
        .answers::<PipeAnswer>(&[200])
        .also(|operation| operation.takes_json::<BTreeMap<String, Value>>())
        .also(refusals)
        .get("/v0/pipes/{name}/openapi.json", open_api, REPORTS, "Describes an endpoint as OpenAPI.")
        .answers::<serde_json::Map<String, Value>>(&[200])
}

/// What a query can be refused with.
fn refusals(operation: &mut Operation<'_>) {
    operation.refuses(&[400, 404, 408, 411, 413, 503]);
}

/// Rows in Tinybird's JSON; for the document, the engine writes it.
#[derive(Serialize, JsonSchema)]
struct Rows {
    meta: Vec<Column>,
    data: Vec<serde_json::Map<String, Value>>,
    rows: u64,
    rows_before_limit_at_least: u64,
    statistics: Statistics,
}

/// A column and its type, in ClickHouse's words.
#[derive(Serialize, JsonSchema)]
struct Column {
    name: String,
    r#type: String,
}

/// What a query took.
#[derive(Serialize, JsonSchema)]
struct Statistics {
    /// Seconds.
    elapsed: f64,
    rows_read: u64,
    bytes_read: u64,
}

/// What a pipe's route gives: rows by `NAME.json`, else its description.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the document: the engine writes rows, the handler the rest")]
enum PipeAnswer {
    Rows(Rows),
    Pipe(Pipe<'static>),
}

#[derive(Serialize, JsonSchema)]
struct PipeList<'a> {
    pipes: Vec<Pipe<'a>>,
}

fn statement_query(operation: &mut Operation<'_>) {
    operation.query("q", "The SQL.", json!({ "type": "string" }));
    metrics_version(operation);
}

/// Which definitions the numbers follow.
fn metrics_version(operation: &mut Operation<'_>) {
    let words = "Of the metrics' definitions; the tenant's by default.";
    operation.query("version", words, json!({ "type": "string", "enum": ["1", "2"] }));
}

/// What the query took, and of that its wait for the newest events; in milliseconds, as browsers and proxies show it.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// In the statement's own format, else in `format`; a large answer is made as it is read.
async fn written(app: &App, result: QueryResult, format: Format) -> Result<Response, V0Error> {
    let format = result.format.unwrap_or(format);
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let timing = format!("fresh;dur={:.3}, query;dur={:.3}", ms(result.waited), ms(result.elapsed));
    let body = match app.reports.answer(result, format).await? {
        Answer::Whole(bytes) => Body::from(bytes),
        Answer::Parts(parts) => Body::from_stream(parts),
    };
    let content_type = format.content_type().to_owned();
    Ok(([(header::CONTENT_TYPE, content_type), (SERVER_TIMING, timing)], body).into_response())
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}

fn text(bytes: &[u8]) -> Result<&str, V0Error> {
    std::str::from_utf8(bytes).map_err(|_| V0Error::bad_request("the body is not UTF-8"))
}

fn first(pairs: Vec<(String, String)>, wanted: &str) -> Option<String> {
    pairs.into_iter().find(|(name, _)| name == wanted).map(|(_, value)| value)
}

/// `q`, from the query string, a form, or the raw body.
async fn statement(request: Request) -> Result<String, V0Error> {
    let given = |sql: &String| !sql.trim().is_empty();
    if let Some(sql) = first(form(request.uri().query().unwrap_or_default()), "q").filter(given) {
        return Ok(sql);
    }
    if has_no_length(&request) {
        let error = "send the SQL as 'q', or as a body with its Content-Length";
        return Err(V0Error::new(StatusCode::LENGTH_REQUIRED, error));
    }
    let is_form = is_form(request.headers());
    let bytes = body(request, JSON_BYTES_MAX).await?;
    let body = text(&bytes)?;
    // `curl -d SQL` says that it is a form, which holds no space, and sends the SQL as it is.
    let raw = || (!is_form || body.contains(char::is_whitespace)).then(|| body.to_owned());
    let found = first(form(body), "q").filter(|_| is_form).or_else(raw);
    found.filter(given).ok_or_else(|| V0Error::bad_request("send the SQL as 'q', or as the body"))
}

async fn sql(State(app): State<Arc<App>>, token: TokenCaller, request: Request) -> Response {
    let outcome = async {
        let version = first(form(request.uri().query().unwrap_or_default()), "version");
        let sql = statement(request).await?;
        let mut caller = engine_caller(&app, &token).map_err(Problem::from)?;
        if let Some(version) = version.filter(|version| !version.is_empty()) {
            caller.metrics = MetricsVersion::parse(&version)?;
        }
        let result = app.reports.query(&caller, &sql).await?;
        written(&app, result, Format::Json).await
    };
    answer(&token, outcome.await)
}

/// An endpoint: one that ships, or a version of the tenant's own.
enum Found<'a> {
    Shipped(&'a EndpointDescription),
    Own { stored: Box<Stored>, version: u32, published: Published },
}

impl Found<'_> {
    fn description(&self) -> &EndpointDescription {
        match self {
            Self::Shipped(description) => description,
            Self::Own { published, .. } => published.pipe.description(),
        }
    }
}

/// The endpoint, if it's there and the token may read it. What ships comes first: its names can't be taken.
async fn endpoint<'a>(
    app: &'a App,
    token: &TokenCaller,
    name: &EndpointName,
    version: Option<&str>,
) -> Result<Found<'a>, V0Error> {
    // First: what it may not read may be there or not.
    if !token.may(Right::ReadPipe(name)) {
        return Err(V0Error::forbidden(Right::ReadPipe(name)));
    }
    if let Some(known) = app.reports.endpoints().find(|endpoint| endpoint.name == name.as_str()) {
        return Ok(Found::Shipped(known));
    }
    let stored = own_pipes::stored(app, token, name)?.ok_or_else(|| QueryError::NoEndpoint(name.to_string()))?;
    let version = own_pipes::version(&stored, version)?;
    let (published, version) = (own_pipes::published(app, &stored, version).await?, version.version);
    Ok(Found::Own { stored: Box::new(stored), version, published })
}

async fn list(State(app): State<Arc<App>>, token: TokenCaller) -> Response {
    let (inner, reader) = (Arc::clone(&app), token.clone());
    let next = move |place| own_pipes::entry(&inner, &reader, place);
    answer(&token, parts::list(&app, token.tenant, "pipes", own_pipes::Place::Shipped(0), next).await)
}

/// What an endpoint is; of the tenant's own, also what an earlier version of it was.
async fn described(
    app: &App,
    token: &TokenCaller,
    name: &EndpointName,
    version: Option<&str>,
) -> Result<Response, V0Error> {
    Ok(match endpoint(app, token, name, version).await? {
        Found::Shipped(known) => Json(pipes::describe(&app.config.public_url, known)).into_response(),
        Found::Own { stored, version, published } => {
            let version = own_pipes::version(&stored, Some(&version.to_string()))?;
            Json(own_pipes::describe(app, &stored, version, &published.pipe)).into_response()
        }
    })
}

/// The datafile of one of the tenant's own endpoints.
async fn datafile(
    app: &App,
    token: &TokenCaller,
    name: &EndpointName,
    version: Option<&str>,
) -> Result<Response, V0Error> {
    match endpoint(app, token, name, version).await? {
        Found::Shipped(_) => Err(QueryError::NoEndpoint(format!("{name}.pipe")).into()),
        Found::Own { stored, version, .. } => {
            let text = own_pipes::version(&stored, Some(&version.to_string()))?.text.clone();
            Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
        }
    }
}

async fn open_api(State(app): State<Arc<App>>, token: TokenCaller, Path(name): Path<String>) -> Response {
    let found = endpoint(&app, &token, &EndpointName::of(&name), None).await;
    let document =
        |found: Found<'_>| Json(pipes::open_api(&app.config.public_url, found.description())).into_response();
    answer(&token, found.map(document))
}

async fn pipe(State(app): State<Arc<App>>, token: TokenCaller, Path(file): Path<String>, request: Request) -> Response {
    let version = first(form(request.uri().query().unwrap_or_default()), "version");
    let outcome = match file.rsplit_once('.') {
        None => described(&app, &token, &EndpointName::of(&file), version.as_deref()).await,
        Some((name, "pipe")) => datafile(&app, &token, &EndpointName::of(name), version.as_deref()).await,
        Some((name, extension)) => run(&app, &token, &EndpointName::of(name), extension, request).await,
    };
    answer(&token, outcome)
}

async fn run(
    app: &App,
    token: &TokenCaller,
    name: &EndpointName,
    extension: &str,
    request: Request,
) -> Result<Response, V0Error> {
    let found = endpoint(app, token, name, None).await?;
    let unknown = || {
        let known = pipes::EXTENSIONS.map(|(extension, _)| extension).join(", .");
        V0Error::new(StatusCode::NOT_FOUND, format!("'.{extension}' is not served; .{known} are"))
    };
    let format = Format::of_extension(extension).ok_or_else(unknown)?;
    let mut params = params(request).await?;
    let over = params.remove("q").and_then(|mut texts| texts.pop()).filter(|sql| !sql.trim().is_empty());
    token.scopes.fix(name, &mut params);
    let caller = engine_caller(app, token).map_err(Problem::from)?;
    let result = match (found, over) {
        (Found::Own { published, .. }, over) => app.reports.own(&caller, published, &params, over).await?,
        (Found::Shipped(_), Some(sql)) => app.reports.endpoint_over(&caller, name.as_str(), &params, &sql).await?,
        (Found::Shipped(_), None) => app.reports.endpoint(&caller, name.as_str(), &params).await?,
    };
    written(app, result, format).await
}

/// Parameters of the query string and of a form or JSON body; the body's come last.
async fn params(request: Request) -> Result<Params, V0Error> {
    let mut pairs = form(request.uri().query().unwrap_or_default());
    let is_form = is_form(request.headers());
    let bytes = body(request, JSON_BYTES_MAX).await?;
    let body = text(&bytes)?.trim();
    if is_form {
        pairs.extend(form(body));
    } else if !body.is_empty() {
        pairs.extend(json_params(body)?);
    }
    let mut params = Params::new();
    for (name, value) in pairs {
        params.entry(name).or_default().push(value);
    }
    Ok(params)
}

fn json_params(body: &str) -> Result<Vec<(String, String)>, V0Error> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(body)
        .map_err(|error| V0Error::bad_request(format!("the body is not a JSON object: {error}")))?;
    let mut pairs = Vec::new();
    for (name, value) in object {
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let value = match value {
                Value::Null => continue,
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => {
                    let error = format!("parameter `{name}`: expected a text, a number or a list of them");
                    return Err(V0Error::bad_request(error));
                }
            };
            pairs.push((name.clone(), value));
        }
    }
    Ok(pairs)
}
