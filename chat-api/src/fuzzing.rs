//! What takes a caller's bytes here, as fuzzers and the replay of their corpora call it. Nothing of the product does.

use crate::auth::scopes;
use crate::files::kinds::Sniffer;
use crate::files::names;
use ingest::payload::Scope;
use sql::{EndpointName, Params};

/// Reads a line of an import.
pub fn transcript(line: &[u8]) {
    crate::import::is_readable(line, ingest::time::Timestamp::now());
}

/// Makes a plain name of what a sender calls a file, and the header under which it is served.
///
/// # Panics
/// When the name could be a path, or the header isn't one.
pub fn file_name(name: &str) {
    let mut sniffer = Sniffer::default();
    sniffer.take(b"\x89PNG\r\n\x1a\n");
    let kind = sniffer.kind(None).expect("a picture");
    let plain = names::plain(Some(name), kind);
    assert!(!plain.contains(['/', '\\', '\0', '\n']), "{plain:?} could be a path");
    let header = names::attachment(&plain);
    assert!(axum::http::HeaderValue::from_str(&header).is_ok(), "{header:?} is no header");
}

/// Reads a token's scopes and uses them as a call does.
pub fn scopes(bytes: &[u8]) {
    let Ok(found) = serde_json::from_slice::<Vec<Scope>>(bytes) else { return };
    if scopes::check(&found).is_err() {
        return;
    }
    let scopes = scopes::Scopes::of(&found);
    drop(scopes.filters());
    let mut params = Params::new();
    scopes.fix(&EndpointName::of("usage"), &mut params);
}
