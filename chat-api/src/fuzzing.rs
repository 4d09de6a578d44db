//! What takes a caller's bytes here, as fuzzers and the replay of their corpora call it. Nothing of the product does.

use crate::auth::scopes;
use crate::check;
use crate::encoding::Utf8;
use crate::files::kinds::Sniffer;
use crate::files::names;
use crate::import::{is_readable, parse, transcript};
use ingest::payload::Scope;
use ingest::time::Timestamp;
use sql::{EndpointName, Params};
use std::io::Read as _;

/// Reads a line of an import, in whatever encoding.
///
/// # Panics
/// When something would be imported that the API refuses.
pub fn transcript(line: &[u8]) {
    let mut text = Vec::new();
    Utf8::new(line).read_to_end(&mut text).expect("memory is read");
    let (text, now) = (parse::without_mark(&text), Timestamp::now());
    if !is_readable(text, now) {
        return;
    }
    let Ok((transcript, _)) = transcript::check(text, now) else { return };
    assert_eq!(check::tags("tags", &transcript.tags).as_ref(), Ok(&transcript.tags));
    for party in std::iter::once(&transcript.visitor).chain(&transcript.agent) {
        assert_eq!(check::id("id", &party.id), Ok(()));
        assert_eq!(check::optional_name("name", party.name.as_deref()).as_ref(), Ok(&party.name));
        assert_eq!(check::optional_email("email", party.email.as_deref()).as_ref(), Ok(&party.email));
    }
    for message in &transcript.messages {
        assert!(check::content("text", &message.text).is_ok() && check::time("at", &message.at).is_ok());
    }
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
