//! What the API says about itself: the OpenAPI document and its page.

use crate::support::{Call, Server};
use chat_api::http::routes;
use chat_api::http::surface::document;
use serde_json::Value;
use std::collections::BTreeSet;

/// Every `$ref` of the document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// The document is OpenAPI 3.1 and complete in itself: operations have their own ids, references lead somewhere, path
/// parameters are those of the path.
#[tokio::test]
async fn the_document_is_sound() {
    let server = Server::start();
    let served = server.call(Call::get("/openapi.json")).await;
    assert_eq!(served.header("content-type"), Some("application/json"));
    let document = served.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in found {
        let place = reference.trim_start_matches('#');
        assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_owned()), "two operations are {id}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let named: Vec<&str> = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            let wanted: Vec<&str> = path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
            assert_eq!(named, wanted, "{method} {path}");
        }
    }
}

/// Nothing is left open: every route says what it takes and gives, and who may.
#[test]
fn every_route_is_described() {
    let (list, _) = routes().take();
    let document = document(&list);
    for route in &list {
        let place = format!("{} {}", route.method, route.path);
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        assert!(route.summary.ends_with('.'), "{place}: the summary is a sentence");
        assert!(!route.who.is_empty(), "{place}: who may?");
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let shared = response["$ref"].as_str().and_then(|place| document.pointer(place.trim_start_matches('#')));
            let response = shared.unwrap_or(response);
            let shape = response["content"].as_object().and_then(|content| content.values().next());
            let open = shape.is_none_or(|shape| shape["schema"] == true || shape["schema"] == serde_json::json!({}));
            // Another protocol, or no body.
            assert!(!open || ["101", "204"].contains(&status.as_str()), "{place}: what does {status} give?");
        }
    }
}

/// The router is made of the list: what is listed is served, with that method and no other.
#[tokio::test]
async fn what_is_listed_is_served() {
    let server = Server::start();
    let (list, _) = routes().take();
    for route in &list {
        let path = route.path.replace(['{', '}'], "");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let listed = list.iter().any(|other| other.path == route.path && other.method == method);
            let call = Call::new(method.parse().expect("a method"), &path);
            let reply = server.call(call).await;
            assert_eq!(reply.status == 405, !listed, "{method} {path}: {}", reply.text);
        }
    }
}

/// The page needs nothing from elsewhere, and its policy lets nothing else in.
#[tokio::test]
async fn the_page_is_self_contained() {
    let server = Server::start();
    for (path, kind) in [("/docs", "text/html"), ("/docs/docs.js", "text/javascript"), ("/docs/docs.css", "text/css")] {
        let reply = server.call(Call::get(path)).await;
        assert!(reply.header("content-type").is_some_and(|found| found.starts_with(kind)), "{path}");
        let policy = reply.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(!reply.text.contains("http://") && !reply.text.contains("https://"), "{path} reaches elsewhere");
        assert!(!reply.text.contains("<style") && !reply.text.contains("onclick="), "{path} has inline code");
        reply.expect(200);
    }
}
