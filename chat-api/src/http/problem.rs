//! Errors on the wire: RFC 9457 `application/problem+json` with a stable `code`, and the `field` at fault.
//!
//! Whatever goes wrong ends here. A fault of ours is logged with its cause and answered without it.

use crate::app::App;
use crate::auth::passwords::PasswordError;
use crate::auth::tokens::TokenError;
use crate::auth::{AuthError, OperatorRefusal};
use crate::check::FieldFault;
use crate::core::Rejection;
use crate::limits::disk::Writes;
use crate::limits::{NoSpace, TooOften};
use crate::view::ViewError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ingest::id::{AgentId, TenantId};
use ingest::seal::SealError;
use ingest::sqlite::person_keys::PersonKeyError;
use ingest::writer::WriteError;
use serde_json::{Value, json};
use std::borrow::Cow;

/// Seconds after which a failed write is worth another try.
const RETRY_AFTER_S: u64 = 1;
/// Seconds after which a disk may have room again: somebody has to make it.
const DISK_RETRY_AFTER_S: u64 = 60;

/// An error as it's answered; boxed, so that what usually goes well stays small.
#[derive(Debug, Clone)]
pub struct Problem(Box<Words>);

#[derive(Debug, Clone)]
struct Words {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: String,
    field: Option<String>,
    winner: Option<Value>,
    retry_after_s: Option<u64>,
}

/// What a handler gives.
pub type Outcome<T> = Result<T, Problem>;

impl Problem {
    /// An error with its words.
    #[must_use]
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        let code = code.into();
        let detail = detail.into();
        Self(Box::new(Words { status, code, detail, field: None, winner: None, retry_after_s: None }))
    }

    /// A field that isn't as it must be.
    #[must_use]
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", detail).at(field)
    }

    /// The same answer for an unknown id, one that can't be read, and another tenant's.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Rejection::not_found(what).into()
    }

    /// No credential, or one that isn't good.
    #[must_use]
    pub fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// A fault of ours; the cause goes to the log.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here; the log says what")
    }

    /// With the field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// With the seconds to wait.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    /// The status, for those who answer in another shape.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The seconds to wait, for those who answer in another shape.
    #[must_use]
    pub fn seconds(&self) -> Option<u64> {
        self.0.retry_after_s
    }

    /// Whether it has this code.
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        self.0.code == code
    }

    /// The sentence, for those who answer in another shape.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// A decision against a command; a lost race names who won.
    pub fn rejected(app: &App, tenant: TenantId, rejection: Rejection) -> Self {
        let winner = rejection.winner;
        let mut problem = Self::from(rejection);
        problem.0.winner = winner.map(|id| winner_json(app, tenant, id));
        problem
    }
}

fn winner_json(app: &App, tenant: TenantId, id: AgentId) -> Value {
    // Without the name the answer is still right.
    let name = app.views.agent_name(tenant, id).ok().flatten();
    json!({ "id": id, "name": name.as_deref() })
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.0.status.canonical_reason().unwrap_or("Error");
        let mut body = json!({
            "type": "about:blank", "status": self.0.status.as_u16(), "title": title,
            "code": self.0.code, "detail": self.0.detail,
        });
        if let Some(field) = self.0.field {
            body["field"] = field.into();
        }
        if let Some(winner) = self.0.winner {
            body["winner"] = winner;
        }
        let mut response = (self.0.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.0.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<FieldFault> for Problem {
    fn from(fault: FieldFault) -> Self {
        Self::invalid(fault.field, fault.detail)
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let status = StatusCode::from_u16(rejection.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let problem = Self::new(status, rejection.code, rejection.detail);
        match rejection.field {
            Some(field) => problem.at(field),
            None => problem,
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        if let WriteError::TooLarge(_) = error {
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "event_too_large", error.to_string());
        }
        tracing::error!(%error, "a write failed");
        let detail = "it could not be written; try again with the same idempotency key";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "write_failed", detail).retry_after(RETRY_AFTER_S)
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid => Self::unauthorized("the token is invalid or expired"),
            AuthError::Sqlite(error) => error.into(),
        }
    }
}

impl From<OperatorRefusal> for Problem {
    fn from(refusal: OperatorRefusal) -> Self {
        match refusal {
            OperatorRefusal::Hidden => Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such route"),
            OperatorRefusal::Invalid => Self::unauthorized("send the operator's token as 'Authorization: Bearer …'"),
        }
    }
}

impl IntoResponse for OperatorRefusal {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

impl From<NoSpace> for Problem {
    fn from(none: NoSpace) -> Self {
        match none {
            NoSpace::UsedUp(used_up) => {
                let status = match used_up.retry_after_s {
                    Some(_) => StatusCode::TOO_MANY_REQUESTS,
                    None => StatusCode::PAYLOAD_TOO_LARGE,
                };
                let problem = Self::new(status, used_up.quota.code(), used_up.to_string());
                match used_up.retry_after_s {
                    Some(seconds) => problem.retry_after(seconds),
                    None => problem,
                }
            }
            NoSpace::Disk(low) => {
                let status = match low.writes {
                    Writes::Bulk => StatusCode::INSUFFICIENT_STORAGE,
                    Writes::Conversation => StatusCode::SERVICE_UNAVAILABLE,
                };
                Self::new(status, "disk_nearly_full", low.to_string()).retry_after(DISK_RETRY_AFTER_S)
            }
        }
    }
}

impl From<TooOften> for Problem {
    fn from(refusal: TooOften) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", refusal.to_string());
        problem.retry_after(refusal.retry_after_s)
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        Self::internal(&error)
    }
}

impl From<PersonKeyError> for Problem {
    fn from(error: PersonKeyError) -> Self {
        match error {
            PersonKeyError::Damaged(_) => {
                let detail = "what is known of this person can't be read, so nothing more is written about them";
                Self::new(StatusCode::GONE, "person_unreadable", detail)
            }
            PersonKeyError::Sqlite(_) | PersonKeyError::Seal(_) => Self::internal(&error),
        }
    }
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Self {
        Self::internal(&error)
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        Self::internal(&error)
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        Self::internal(&error)
    }
}

impl From<ingest::log::ReadError> for Problem {
    fn from(error: ingest::log::ReadError) -> Self {
        Self::internal(&error)
    }
}
