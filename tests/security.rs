//! `docs/SECURITY.md` tells of every door and every limit, and names tests that exist. Both are read off the code: a route
//! through which something new comes in, or a limit that isn't listed with its value, fails here.

mod support;

use ingest::payload::MailKind;
use serde_json::Value;
use sinks::smtp::policy::{Policy, policy};
use std::collections::{BTreeMap, BTreeSet};
use support::Server;
use support::sources::{files, functions, quoted, root, rows};

const DOCUMENT: &str = "docs/SECURITY.md";
/// Every limit of the product: its name and its file, and its value as the code says it.
fn limits() -> BTreeMap<(String, String), String> {
    let mut limits = BTreeMap::new();
    let product = |path: &str| {
        path.contains("src/")
            && !["tests.rs", "bounds.rs", "fuzzing.rs"].iter().any(|end| path.ends_with(end))
            && !path.starts_with("src/bench/")
            && !path.starts_with("src/demo/")
    };
    for (path, text) in files().into_iter().filter(|(path, _)| product(path)) {
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for line in text.lines() {
            let Some((_, rest)) = line.split_once("const ") else { continue };
            let Some((name, rest)) = rest.split_once(':') else { continue };
            let Some((_, value)) = rest.split_once(" = ") else { continue };
            let is_limit = name.ends_with("_MAX") || name.contains("_MAX_");
            if is_limit && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
                limits.insert((name.to_owned(), path.clone()), value.trim_end_matches(';').to_owned());
            }
        }
    }
    limits
}

/// The rows of the table of limits: name, file and value.
fn listed() -> BTreeMap<(String, String), String> {
    let mut listed = BTreeMap::new();
    for row in rows(DOCUMENT) {
        let [name, place, value] =
            [0, 1, 2].map(|at| row.get(at).and_then(|cell| quoted(cell).next()).unwrap_or_default());
        if place.ends_with(".rs") {
            listed.insert((name.to_owned(), place.to_owned()), value.to_owned());
        }
    }
    listed
}

#[test]
fn every_limit_is_listed_with_its_value() {
    let (limits, listed) = (limits(), listed());
    assert!(limits.len() > 100, "the sources are read: {}", limits.len());
    let missing: Vec<_> = limits.iter().filter(|(name, value)| listed.get(*name) != Some(value)).collect();
    let gone: Vec<_> = listed.keys().filter(|name| !limits.contains_key(*name)).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "the table of limits lacks, or has other values for, {missing:#?}; gone {gone:#?}"
    );
}

/// Each kind of mail has a row that says of it what the code does.
#[test]
fn every_kind_of_mail_is_listed_with_its_bounds() {
    let rows = rows(DOCUMENT);
    for kind in MailKind::ALL {
        let Policy { who, why, bucket, budget, until } = policy(kind);
        let word = format!("`{}`", kind.as_str());
        let expected = [&word, who, why, bucket, budget, until];
        assert!(rows.iter().any(|row| row == &expected), "the table of mails lacks {expected:?}");
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let functions = functions();
    let text = std::fs::read_to_string(root().join(DOCUMENT)).expect("a document");
    // Names of tests are sentences; what is shorter is a code, a setting or a field.
    let names: BTreeSet<&str> = quoted(&text)
        .filter(|name| {
            name.matches('_').count() >= 4
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect();
    assert!(names.len() > 15, "the document is read: {}", names.len());
    for name in names {
        assert!(functions.contains(name), "there is no test {name}");
    }
}

/// What of the caller's comes in by a route, as the table of doors calls it.
fn door(path: &str, method: &str, operation: &Value) -> &'static str {
    let body = operation["requestBody"]["content"].as_object().and_then(|kinds| kinds.keys().next().cloned());
    match (path, body.as_deref()) {
        ("/v1/realtime", None) => "WebSocket",
        (path, None) if path.ends_with("/stream") => "event stream",
        ("/v0/sql", _) => "SQL",
        ("/v0/pipes/{name}", _) if method != "delete" => "endpoint call",
        ("/v0/pipes", _) if method == "post" => "datafile",
        ("/v0/events" | "/v0/datasources", _) if method == "post" => "rows",
        (path, _) if path.ends_with("/import/conversations") || path == "/v1/operator/import" => "import",
        (_, Some("application/json")) => "JSON body",
        (_, Some("multipart/form-data")) => "file upload",
        (_, None) => "path and query",
        (path, Some(kind)) => panic!("{method} {path} takes {kind}: which door is it?"),
    }
}

#[tokio::test]
async fn every_door_is_listed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let document = server.get("/openapi.json", "").await;
    let text = std::fs::read_to_string(root().join(DOCUMENT)).expect("a document");
    let listed: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| **")?.split_once("**")).map(|(door, _)| door).collect();
    let mut doors = BTreeSet::from(["Postgres start-up", "Postgres message", "HTTP head"]);
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            doors.insert(door(path, method, operation));
        }
    }
    assert_eq!(listed, doors);
}
