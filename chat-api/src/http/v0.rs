//! What every `/v0` route shares: errors in Tinybird's shape, the caller of a token, what is left of its rate.

use super::extract::form;
use super::problem::Problem;
use crate::app::App;
use crate::auth::scopes::Right;
use crate::auth::tokens::bearer;
use crate::auth::{AuthError, TokenCaller, caller};
use crate::limits::{NoRoom, NoSpace, Quota};
use axum::Json;
use axum::body::HttpBody as _;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sql::QueryError;
use std::sync::Arc;

/// An error of `/v0`.
#[derive(Debug)]
pub struct V0Error {
    status: StatusCode,
    error: String,
    retry_after_s: Option<u64>,
    quota: Option<Quota>,
}

impl V0Error {
    /// An error with its words.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), retry_after_s: None, quota: None }
    }

    /// 400.
    pub fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// 429 for what there is no room for now.
    pub fn too_many(error: impl Into<String>) -> Self {
        Self { retry_after_s: Some(1), ..Self::new(StatusCode::TOO_MANY_REQUESTS, error) }
    }

    /// 403 for what the token has no scope for.
    pub fn forbidden(right: Right<'_>) -> Self {
        let error = format!("this token may not do this with '{}': it needs {right}", right.resource());
        Self::new(StatusCode::FORBIDDEN, error)
    }
}

impl IntoResponse for V0Error {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.error }))).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(quota) = self.quota {
            tell(quota, response.headers_mut());
        }
        response
    }
}

impl From<QueryError> for V0Error {
    fn from(error: QueryError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry = matches!(error, QueryError::Busy { .. } | QueryError::NotFresh(_) | QueryError::ResultsFull { .. });
        Self { retry_after_s: retry.then_some(1), ..Self::new(status, error.to_string()) }
    }
}

impl From<NoRoom> for V0Error {
    fn from(full: NoRoom) -> Self {
        match full {
            NoRoom::Request => {
                let error = "the rows take more memory than one request may have; send fewer at a time";
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, error)
            }
            NoRoom::Tenant => Self::too_many("too many rows of yours are under way; try again in a second"),
            NoRoom::Server => {
                let error = "too many rows are under way on this server; try again in a second";
                Self { retry_after_s: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error) }
            }
        }
    }
}

impl From<NoSpace> for V0Error {
    fn from(none: NoSpace) -> Self {
        let problem = Problem::from(none);
        let retry_after_s = problem.seconds();
        Self { retry_after_s, ..Self::new(problem.status(), problem.detail()) }
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
        let retry = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        Self { retry_after_s: retry.then_some(1), ..Self::new(status, problem.detail()) }
    }
}

/// A `POST` that says neither how long its body is nor that it comes in chunks has none.
pub(super) fn has_no_length(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == axum::http::Method::POST
        && !headers.contains_key(header::CONTENT_LENGTH)
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && request.body().is_end_stream()
}

/// Tinybird's names; all in whole seconds and requests.
fn tell(quota: Quota, headers: &mut HeaderMap) {
    headers.insert(HeaderName::from_static("x-ratelimit-limit"), quota.limit.into());
    headers.insert(HeaderName::from_static("x-ratelimit-remaining"), quota.remaining.into());
    headers.insert(HeaderName::from_static("x-ratelimit-reset"), quota.reset_s.into());
}

/// A handler's outcome, with what is left of its caller's rate.
pub(super) fn answer(token: &TokenCaller, outcome: Result<Response, V0Error>) -> Response {
    let mut response = outcome.into_response();
    if let Some(quota) = token.quota {
        tell(quota, response.headers_mut());
    }
    response
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
        let mut caller = caller::reports(app, token).map_err(|error| match error {
            AuthError::Invalid => V0Error::new(StatusCode::FORBIDDEN, "invalid or expired token"),
            AuthError::Sqlite(error) => Problem::from(error).into(),
        })?;
        caller.quota = caller.rate.map(|(key, rps)| app.limiter.take_of_token(key, rps));
        match caller.quota {
            Some(Quota { retry_after_s: Some(seconds), limit, .. }) => {
                let error = format!("this token may call {limit} times a second; try again in {seconds} s");
                let refused = V0Error::new(StatusCode::TOO_MANY_REQUESTS, error);
                Err(V0Error { retry_after_s: Some(seconds), quota: caller.quota, ..refused })
            }
            _ => Ok(caller),
        }
    }
}
