//! Reports: `/v0/sql` and `/v0/pipes`, Tinybird's wire. Errors are `{"error": …}` here.
//!
//! The tenant is the token's; scopes say which pipes and tables it reads. The engine bounds the rest.

use super::extract::{JSON_BYTES_MAX, body, form};
use super::problem::Problem;
use crate::app::App;
use crate::auth::tokens::bearer;
use crate::auth::{AuthError, TokenCaller, caller};
use crate::store::read;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use ingest::time::Timestamp;
use serde_json::{Value, json};
use sql::{Caller, EndpointDescription, QueryError, QueryResult};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a pipe's name can end with on Tinybird; only the first is served.
const FORMATS: [&str; 5] = [".json", ".csv", ".ndjson", ".parquet", ".arrow"];

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v0/sql", get(sql).post(sql))
        .route("/v0/pipes", get(list))
        .route("/v0/pipes/{name}", get(pipe).post(pipe))
}

/// An error of `/v0`.
#[derive(Debug)]
pub struct V0Error {
    status: StatusCode,
    error: String,
    retry_after: bool,
}

impl V0Error {
    /// An error with its words.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), retry_after: false }
    }
}

impl IntoResponse for V0Error {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.error }))).into_response();
        if self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, 1.into());
        }
        response
    }
}

impl From<QueryError> for V0Error {
    fn from(error: QueryError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = matches!(error, QueryError::Busy { .. } | QueryError::NotFresh(_));
        Self { status, error: error.to_string(), retry_after }
    }
}

impl From<Problem> for V0Error {
    fn from(problem: Problem) -> Self {
        // Tinybird's clients know 400 for what is malformed and 403 for every credential that isn't good.
        let status = match problem.status() {
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::UNSUPPORTED_MEDIA_TYPE => StatusCode::BAD_REQUEST,
            StatusCode::UNAUTHORIZED => StatusCode::FORBIDDEN,
            status => status,
        };
        let retry_after = status == StatusCode::SERVICE_UNAVAILABLE;
        Self { status, error: problem.detail().to_owned(), retry_after }
    }
}

impl FromRequestParts<Arc<App>> for TokenCaller {
    type Rejection = V0Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, V0Error> {
        let query = form(parts.uri.query().unwrap_or_default());
        let token = match bearer(&parts.headers).filter(|token| !token.is_empty()) {
            Some(token) => token,
            None => query.iter().find(|(name, _)| name == "token").map_or("", |(_, token)| token),
        };
        if token.is_empty() {
            let error = "a token is missing: send 'Authorization: Bearer …' or '?token='";
            return Err(V0Error::new(StatusCode::FORBIDDEN, error));
        }
        caller::reports(app, token).map_err(|error| match error {
            AuthError::Invalid => V0Error::new(StatusCode::FORBIDDEN, "invalid or expired token"),
            AuthError::Sqlite(error) => Problem::from(error).into(),
        })
    }
}

fn engine_caller(app: &App, token: &TokenCaller) -> Result<Caller, V0Error> {
    let tenant = app.pool.read(|connection| read::tenant(connection, token.tenant)).map_err(Problem::from)?;
    let time_zone = tenant.map_or_else(|| "UTC".to_owned(), |tenant| tenant.time_zone);
    Ok(Caller { tenant: token.tenant.to_string(), time_zone, now_ms: Timestamp::now().0 })
}

async fn answer(app: &App, result: QueryResult) -> Result<Response, V0Error> {
    let json = app.reports.json(result).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

fn is_form(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}

fn text(bytes: &[u8]) -> Result<&str, V0Error> {
    std::str::from_utf8(bytes).map_err(|_| V0Error::new(StatusCode::BAD_REQUEST, "the body is not UTF-8"))
}

/// `q`, from the query string, a form, or the raw body.
async fn statement(request: Request) -> Result<String, V0Error> {
    let query = form(request.uri().query().unwrap_or_default());
    let is_form = is_form(&request);
    let bytes = body(request, JSON_BYTES_MAX).await?;
    let body = text(&bytes)?;
    let q = |pairs: Vec<(String, String)>| pairs.into_iter().find(|(name, _)| name == "q").map(|(_, q)| q);
    let found = q(query).or_else(|| if is_form { q(form(body)) } else { Some(body.to_owned()) });
    let missing = || V0Error::new(StatusCode::BAD_REQUEST, "send the SQL as 'q', or as the body");
    found.filter(|sql| !sql.trim().is_empty()).ok_or_else(missing)
}

async fn sql(State(app): State<Arc<App>>, token: TokenCaller, request: Request) -> Result<Response, V0Error> {
    let sql = statement(request).await?;
    if !token.scopes.is_empty() {
        let tables = app.reports.tables_named(&sql).await?;
        if let Some(table) = tables.iter().find(|table| !token.may("DATASOURCES:READ", table)) {
            let error = format!("this token may not read '{table}': it needs DATASOURCES:READ:{table}");
            return Err(V0Error::new(StatusCode::FORBIDDEN, error));
        }
    }
    let caller = engine_caller(&app, &token)?;
    let result = app.reports.query(&caller, &sql).await?;
    answer(&app, result).await
}

fn description(endpoint: &EndpointDescription) -> Value {
    json!({
        "id": endpoint.name, "name": endpoint.name, "description": endpoint.description, "type": "endpoint",
        "endpoint": endpoint.name, "url": format!("/v0/pipes/{}.json", endpoint.name),
        "nodes": [{ "name": endpoint.name, "sql": endpoint.sql, "params": endpoint.parameters }],
    })
}

async fn list(State(app): State<Arc<App>>, token: TokenCaller) -> Json<Value> {
    let readable = app.reports.endpoints().filter(|endpoint| token.may("PIPES:READ", &endpoint.name));
    Json(json!({ "pipes": readable.map(description).collect::<Vec<_>>() }))
}

async fn pipe(
    State(app): State<Arc<App>>,
    token: TokenCaller,
    Path(file): Path<String>,
    request: Request,
) -> Result<Response, V0Error> {
    let format = FORMATS.iter().find(|format| file.ends_with(**format));
    let name = format.map_or(&*file, |format| file.trim_end_matches(format));
    let known = app.reports.endpoints().find(|endpoint| endpoint.name == name);
    let Some(known) = known else { return Err(QueryError::NoEndpoint(name.to_owned()).into()) };
    if !token.may("PIPES:READ", name) {
        let error = format!("this token may not read '{name}': it needs PIPES:READ:{name}");
        return Err(V0Error::new(StatusCode::FORBIDDEN, error));
    }
    match format {
        None => Ok(Json(description(known)).into_response()),
        Some(format) if *format != FORMATS[0] => {
            let error = format!("'{}' is not served; '.json' is", format);
            Err(V0Error::new(StatusCode::BAD_REQUEST, error))
        }
        Some(_) => {
            let params = params(request).await?;
            if params.contains_key("q") {
                let error = "'q' over an endpoint's result is not served; send SQL to /v0/sql";
                return Err(V0Error::new(StatusCode::BAD_REQUEST, error));
            }
            let caller = engine_caller(&app, &token)?;
            let result = app.reports.endpoint(&caller, name, &params).await?;
            answer(&app, result).await
        }
    }
}

/// Parameters of the query string and of a form or JSON body; the body's come last.
async fn params(request: Request) -> Result<BTreeMap<String, Vec<String>>, V0Error> {
    let mut pairs = form(request.uri().query().unwrap_or_default());
    let is_form = is_form(&request);
    let bytes = body(request, JSON_BYTES_MAX).await?;
    let body = text(&bytes)?.trim();
    if is_form {
        pairs.extend(form(body));
    } else if !body.is_empty() {
        pairs.extend(json_params(body)?);
    }
    let mut params: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in pairs {
        params.entry(name).or_default().push(value);
    }
    Ok(params)
}

fn json_params(body: &str) -> Result<Vec<(String, String)>, V0Error> {
    let malformed = |error: String| V0Error::new(StatusCode::BAD_REQUEST, error);
    let object: serde_json::Map<String, Value> =
        serde_json::from_str(body).map_err(|error| malformed(format!("the body is not a JSON object: {error}")))?;
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
                _ => return Err(malformed(format!("parameter `{name}`: expected a text, a number or a list of them"))),
            };
            pairs.push((name.clone(), value));
        }
    }
    Ok(pairs)
}
