//! The API's own description: `/openapi.json`, and a page at `/docs` that shows it.

use super::surface::{ANYONE, Route, Routes, document};
use axum::Extension;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

const PAGE: &str = include_str!("docs/index.html");
const SCRIPT: &str = include_str!("docs/docs.js");
const STYLE: &str = include_str!("docs/docs.css");
/// Everything the page needs is here.
const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'";

pub(super) fn routes() -> Routes {
    Routes::new("Documentation")
        .get("/openapi.json", openapi, ANYONE, "This document.")
        .answers::<serde_json::Map<String, serde_json::Value>>(&[200])
        .get("/docs", page, ANYONE, "This document as a page.")
        .also(|operation| operation.gives("text/html"))
        .get("/docs/docs.js", script, ANYONE, "The page's script.")
        .also(|operation| operation.gives("text/javascript"))
        .get("/docs/docs.css", style, ANYONE, "The page's style.")
        .also(|operation| operation.gives("text/css"))
}

/// The document of the routes that are served; made when it's first asked for.
pub(super) struct Document {
    routes: Vec<Route>,
    json: OnceLock<Bytes>,
}

impl Document {
    pub(super) fn new(routes: Vec<Route>) -> Self {
        Self { routes, json: OnceLock::new() }
    }

    fn json(&self) -> Bytes {
        self.json.get_or_init(|| document(&self.routes).to_string().into()).clone()
    }
}

async fn openapi(Extension(document): Extension<Arc<Document>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.json()).into_response()
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, PAGE_POLICY)], text).into_response()
}

async fn page() -> Response {
    file("text/html; charset=utf-8", PAGE)
}

async fn script() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
}

async fn style() -> Response {
    file("text/css; charset=utf-8", STYLE)
}
