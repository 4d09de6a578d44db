//! What surrounds every route: metrics and a log line, security headers, CORS, limits by address, time-outs, panics.

use super::extract::origin;
use super::problem::Problem;
use super::reports::V0Error;
use super::seeds;
use crate::app::App;
use crate::auth::caller;
use crate::limits::{BucketKey, ClientIp, Limit};
use crate::store::read;
use axum::Extension;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// Seconds for which a browser may remember a preflight's answer.
const PREFLIGHT_LIFE_S: &str = "600";
const ALLOW_HEADERS: &str = "authorization, content-type, idempotency-key, last-event-id, x-chatbot-key";
const ALLOW_METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
const EXPOSE_HEADERS: &str =
    "x-session-token, retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset";
/// Answers of the API are data: nothing in them may run or be framed. Pages bring their own policy.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// Counts and logs a request by its route, never by its path: ids, queries and addresses stay out.
pub async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    let labels = [("route", route.clone()), ("method", method.to_owned()), ("status", status.to_string())];
    metrics::counter!("parlance_http_requests_total", &labels).increment(1);
    if status >= 500 {
        metrics::counter!("parlance_http_errors_total", &labels[..2]).increment(1);
    }
    metrics::histogram!("parlance_http_request_seconds", &labels[..2]).record(elapsed);
    tracing::info!(target: "parlance::http", method, route, status, elapsed_us = elapsed.as_micros() as u64, "request");
    response
}

/// Methods are the caller's words; only known ones become labels.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

/// Adds the headers that keep browsers from guessing, framing and telling.
pub async fn security(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        // No page of another site may load an answer as an image or a script; reading it is up to CORS.
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if app.config.public_url.starts_with("https://") {
        let value = HeaderValue::from_static("max-age=31536000");
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(value);
    }
    response
}

/// Answers preflights, and lets browsers of configured origins read `/v1` and `/v0`. The widget's routes add their own
/// headers once they know the chatbot.
pub async fn cors(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(origin) = origin(request.headers()).map(str::to_owned) else { return next.run(request).await };
    let widget = request.uri().path().starts_with("/v1/widget/");
    let seeds = seeds::for_widgets(request.uri().path());
    let preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    // What says nothing of a chatbot, a preflight or a refusal, is for any that allows the origin; a request that is let
    // in is held to its own.
    let any_chatbot = || app.pool.read(|connection| read::any_chatbot_allows(connection, &origin)).unwrap_or(false);
    if !preflight {
        let mut response = next.run(request).await;
        let refused = seeds && !response.status().is_success();
        if !widget && caller::config_allows(&app, &origin) || refused && any_chatbot() {
            allow_origin(response.headers_mut(), &origin);
        }
        return response;
    }
    let for_widgets = widget || seeds;
    let allowed = !widget && caller::config_allows(&app, &origin) || for_widgets && any_chatbot();
    let mut response = StatusCode::NO_CONTENT.into_response();
    if allowed {
        let headers = response.headers_mut();
        allow_origin(headers, &origin);
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, ALLOW_METHODS),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS),
            (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_LIFE_S),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// Lets a browser at `origin` read this answer. Credentials are headers here, never cookies.
pub fn allow_origin(headers: &mut HeaderMap, origin: &str) {
    let Ok(value) = HeaderValue::from_str(origin) else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSE_HEADERS));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// Finds out where a request comes from, and holds what is public and costly to its address.
pub async fn limit(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let client = ClientIp::find(request.extensions(), request.headers(), &app.config.trusted_proxies);
    if let (Some(address), Some(limit)) = (client.0, limit_of(&request))
        && let Err(refusal) = app.limiter.take(limit, BucketKey::ip(address))
    {
        return Problem::from(refusal).into_response();
    }
    request.extensions_mut().insert(client);
    next.run(request).await
}

/// The limit by address of a route that needs no credential. Visitors' sessions have theirs in the widget's gate.
fn limit_of(request: &Request) -> Option<Limit> {
    if request.method() != Method::POST {
        return None;
    }
    match request.extensions().get::<MatchedPath>()?.as_str() {
        "/v1/tenants" => Some(Limit::SignUpIp),
        "/v1/auth/login"
        | "/v1/auth/otp"
        | "/v1/auth/otp/verify"
        | "/v1/auth/password/forgot"
        | "/v1/auth/password/reset"
        | "/v1/invitations/accept" => Some(Limit::LoginIp),
        _ => None,
    }
}

/// Gives up on a request that takes too long; its work may still be done, and its key says so.
pub async fn time_limit(Extension(app): Extension<Arc<App>>, request: Request, next: Next) -> Response {
    let max = app.config.request_time_max;
    match tokio::time::timeout(max, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("the request took longer than {} s", max.as_secs_f64());
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timed_out", detail).retry_after(1).into_response()
        }
    }
}

/// A panic is a fault of ours and ends one request, not the server.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer calls")]
pub fn panicked(panic: Box<dyn Any + Send>) -> Response<Body> {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Problem::internal(&format!("panic: {}", text.unwrap_or("of another type"))).into_response()
}

/// No such route. `/v0` has its own shape of errors.
pub async fn unknown_route(uri: Uri) -> Response {
    refusal(&uri, Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such route"))
}

/// A route, but not for this method; `Allow` names those it has.
pub async fn wrong_method(uri: Uri) -> Response {
    let detail = "this route doesn't take this method";
    refusal(&uri, Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail))
}

fn refusal(uri: &Uri, problem: Problem) -> Response {
    if uri.path().starts_with("/v0/") { V0Error::from(problem).into_response() } else { problem.into_response() }
}
