//! What handlers take from a request: strict JSON bodies with their idempotency key, ids, queries, callers.

use super::problem::{Outcome, Problem};
use crate::app::App;
use crate::auth::tokens::bearer;
use crate::auth::{AgentCaller, VisitorCaller, caller};
use crate::core::grants::Grant;
use crate::limits::{BucketKey, Limit};
use crate::live::Person;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use ingest::event::RequestKey;
use ingest::payload::Permission;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;
use std::sync::Arc;

/// Bytes of a JSON body; a message of 20,000 characters with its metadata is under half of it.
pub const JSON_BYTES_MAX: usize = 256 * 1024;
/// Characters of an idempotency key.
const KEY_CHARS_MAX: usize = 200;
/// Characters of an idempotency key on a public route: short ones could be another's.
pub const PUBLIC_KEY_CHARS_MIN: usize = 22;
/// Items of a page unless asked otherwise.
pub const PAGE_DEFAULT: usize = 50;
/// Items of a page at most.
pub const PAGE_MAX: usize = 200;

/// A write: its strictly read body, and what makes a repeat of it recognizable.
pub struct Write<T> {
    /// The body.
    pub body: T,
    /// The `Idempotency-Key`.
    pub key: Option<String>,
    /// Method, path and body: another one under the same key is a mismatch.
    pub fingerprint: Vec<u8>,
}

impl<T> Write<T> {
    /// The idempotency key as the command carries it.
    pub fn request(&self, app: &App, sender: String) -> Option<RequestKey> {
        self.request_as(app, sender, &self.fingerprint)
    }

    /// The same over another fingerprint; for bodies with a password, whose fast hash must not be stored.
    pub fn request_as(&self, app: &App, sender: String, fingerprint: &[u8]) -> Option<RequestKey> {
        let key = self.key.clone()?;
        Some(RequestKey { sender, key, body: app.key_file.lookup("request", fingerprint) })
    }

    /// Refuses a key that could be another's; for routes without a sender of their own.
    pub fn public_key(&self) -> Outcome<()> {
        match &self.key {
            Some(key) if key.chars().count() < PUBLIC_KEY_CHARS_MIN => {
                let detail = format!("an idempotency key has at least {PUBLIC_KEY_CHARS_MIN} characters here");
                Err(Problem::invalid("Idempotency-Key", detail))
            }
            _ => Ok(()),
        }
    }
}

/// The body of a write that says nothing; `{}` or no body at all.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl<T, S> FromRequest<S> for Write<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let key = idempotency_key(request.headers())?;
        let typed = request.headers().contains_key(header::CONTENT_TYPE);
        let json = typed && is_json(request.headers());
        let mut fingerprint = format!("{} {}\n", request.method(), request.uri().path()).into_bytes();
        let bytes = body(request, JSON_BYTES_MAX).await?;
        if !json && (typed || !bytes.is_empty()) {
            let detail = "send the body as application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
        }
        fingerprint.extend_from_slice(&bytes);
        // No body is an empty object: what it lacks is named like any missing field.
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        Ok(Self { body: parse(text)?, key, fingerprint })
    }
}

/// The `Idempotency-Key` of a write.
///
/// # Errors
/// 422 for one that can't be one.
pub fn idempotency_key(headers: &HeaderMap) -> Outcome<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY_CHARS_MAX).contains(&key.len()));
    // `c:` is where keys from `clientId` are.
    match key.filter(|key| !key.starts_with("c:")) {
        Some(key) => Ok(Some(key.to_owned())),
        None => {
            let detail =
                format!("an idempotency key has 1 to {KEY_CHARS_MAX} ASCII characters, the first two not 'c:'");
            Err(Problem::invalid("Idempotency-Key", detail))
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// The whole body, up to a limit.
///
/// # Errors
/// 413 over the limit, 400 when it breaks off.
pub async fn body(request: Request, max: usize) -> Outcome<Bytes> {
    let too_large = || {
        let detail = format!("the body has more than {max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    };
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > max as u64) {
        return Err(too_large());
    }
    let mut stream = request.into_body().into_data_stream();
    // One piece of memory, however small the pieces are that it comes in.
    let mut bytes = BytesMut::new();
    while let Some(piece) = stream.next().await {
        let broken = |_| Problem::new(StatusCode::BAD_REQUEST, "body_incomplete", "the body broke off");
        let piece = piece.map_err(broken)?;
        if bytes.len() + piece.len() > max {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// Reads JSON strictly.
///
/// # Errors
/// 400 with the position when it isn't JSON, 422 with the field when it isn't what is expected.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Outcome<T> {
    match axum::Json::<T>::from_bytes(bytes) {
        Ok(axum::Json(value)) => Ok(value),
        Err(JsonRejection::JsonDataError(error)) => Err(data_problem(&error.body_text())),
        Err(JsonRejection::JsonSyntaxError(error)) => {
            let detail = format!("the body isn't JSON: {}", after_colon(&error.body_text()));
            Err(Problem::new(StatusCode::BAD_REQUEST, "malformed_json", detail))
        }
        Err(other) => Err(Problem::internal(&other)),
    }
}

fn after_colon(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(_, rest)| rest)
}

/// From `…: path: reason at line 1 column 2`; the path is missing when the body itself is at fault.
fn data_problem(text: &str) -> Problem {
    let text = after_colon(text);
    let reason = text.rsplit_once(" at line ").map_or(text, |(reason, _)| reason);
    let quoted = |start: &str| {
        let rest = &reason[reason.find(start)? + start.len()..];
        rest.split_once('`').map(|(name, _)| name.to_owned())
    };
    let unprocessable =
        |code, detail: String, field: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).at(field);
    if let Some(field) = quoted("unknown field `") {
        return unprocessable("unknown_field", format!("there is no field '{field}' here"), field);
    }
    if let Some(field) = quoted("missing field `") {
        return unprocessable("missing_field", format!("'{field}' is missing"), field);
    }
    match reason.split_once(": ").filter(|(path, _)| !path.contains(' ')) {
        Some((path, reason)) => unprocessable("invalid_field", reason.to_owned(), path.to_owned()),
        None => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", reason),
    }
}

/// An id in the path. One that can't be read is as unknown as one that never was.
pub struct Id<T>(pub T);

impl<T, S> FromRequestParts<S> for Id<T>
where
    T: FromStr<Err = ingest::id::InvalidId> + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let unknown = Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such thing");
        let path = <Path<String> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let text = path.map_err(|_| unknown)?.0;
        text.parse().map(Self).map_err(|error: ingest::id::InvalidId| Problem::not_found(error.kind))
    }
}

/// Query parameters, read as strictly as bodies.
pub struct Params<T>(pub T);

impl<T, S> FromRequestParts<S> for Params<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => Err(data_problem(&error.body_text())),
        }
    }
}

/// `limit`, held to 1..=200.
///
/// # Errors
/// 422 outside of it.
pub fn page_size(limit: Option<usize>) -> Outcome<usize> {
    match limit {
        None => Ok(PAGE_DEFAULT),
        Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::invalid("limit", format!("'limit' is a number from 1 to {PAGE_MAX}"))),
    }
}

/// `Origin`, as a browser sends it.
#[must_use]
pub fn origin(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("unreadable"))
}

impl FromRequestParts<Arc<App>> for AgentCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)
            .ok_or_else(|| Problem::unauthorized("send an agent's access token as 'Authorization: Bearer …'"))?;
        agent(app, token)
    }
}

/// An agent who doesn't call too often; the request is a sign of life.
pub(super) fn agent(app: &App, token: &str) -> Outcome<AgentCaller> {
    let caller = caller::agent(app, token)?;
    app.limiter.take(Limit::Agent, BucketKey::id(*caller.agent.bytes()))?;
    app.presence.seen(caller.tenant, Person::Agent(caller.agent));
    Ok(caller)
}

impl FromRequestParts<Arc<App>> for VisitorCaller {
    type Rejection = Problem;

    /// The widget's gate has checked the token and the origin already and left the caller here.
    async fn from_request_parts(parts: &mut Parts, _app: &Arc<App>) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::unauthorized("send the visitor's session token as 'Authorization: Bearer wst_…'"))
    }
}

impl OptionalFromRequestParts<Arc<App>> for AgentCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Option<Self>, Problem> {
        match bearer(&parts.headers) {
            Some(token) => Ok(Some(agent(app, token)?)),
            None => Ok(None),
        }
    }
}

/// Refuses callers without a permission, for routes that write nothing and so ask no one else.
///
/// # Errors
/// 403.
pub fn require(caller: &AgentCaller, permission: Permission, what: &str) -> Outcome<()> {
    if caller.may(permission) { Ok(()) } else { Err(crate::core::Rejection::forbidden(what).into()) }
}

/// Refuses callers who would give, or be told, more than they hold; for routes that write nothing and so ask no one else.
///
/// # Errors
/// 403 `more_than_own`.
pub fn require_to_give(caller: &AgentCaller, grant: Grant<'_>) -> Outcome<()> {
    Ok(grant.check(caller.holder())?)
}

/// Reads `application/x-www-form-urlencoded`, in order.
#[must_use]
pub fn form(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name), percent_decode(value))
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let mut decoded = *byte;
        let mut used = 1;
        if *byte == b'+' {
            decoded = b' ';
        } else if *byte == b'%'
            && let Some(digits) = bytes.get(at + 1..at + 3)
            && let Ok(value) = hex::decode(digits)
        {
            decoded = value[0];
            used = 3;
        }
        out.push(decoded);
        at += used;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse as _;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "maxChats")]
        _max_chats: Option<u32>,
        #[serde(rename = "inner")]
        _inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "score")]
        _score: u8,
    }

    async fn refused(body: &str) -> (u16, String, Option<String>) {
        let problem = parse::<Sample>(body.as_bytes()).expect_err("refused");
        let status = problem.status().as_u16();
        let bytes = axum::body::to_bytes(problem.into_response().into_body(), 10_000).await.expect("body");
        let json: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        (status, json["code"].as_str().unwrap_or("").to_owned(), json["field"].as_str().map(str::to_owned))
    }

    /// The field at fault is named, however deep and whatever the fault.
    #[tokio::test]
    async fn a_bad_body_names_its_field() {
        let field = |name: &str| Some(name.to_owned());
        assert_eq!(refused(r#"{"tenantId":"x"}"#).await, (422, "unknown_field".to_owned(), field("tenantId")));
        assert_eq!(refused(r#"{"maxChats":"six"}"#).await, (422, "invalid_field".to_owned(), field("maxChats")));
        assert_eq!(refused(r#"{"inner":{}}"#).await, (422, "missing_field".to_owned(), field("score")));
        assert_eq!(refused("[1]").await.0, 422);
        assert_eq!(refused("{").await, (400, "malformed_json".to_owned(), None));
        assert_eq!(refused("{} x").await, (400, "malformed_json".to_owned(), None));
    }

    #[test]
    fn forms_are_decoded() {
        let pairs = form("q=SELECT+1%20%2B%201&a=%zz&b");
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, [("q", "SELECT 1 + 1"), ("a", "%zz"), ("b", "")]);
    }
}
