//! What takes a caller's text or bytes, as fuzzers and the replay of their corpora call it: each by itself, on the thread of
//! the one who calls. Nothing of the product does.

use bytes::BytesMut;
use chrono_tz::Tz;

use crate::call::Params;
use crate::gate;
use crate::own::OwnPipe;
use crate::{pg, template};

/// Reads a template and renders it as a call would.
pub fn template(text: &str) {
    // What is refused is as good as what is rendered.
    drop(template::preview(text, &params(), Tz::UTC));
}

/// Reads a datafile and makes the statement of a call of it.
pub fn datafile(text: &str) {
    let Ok(pipe) = OwnPipe::parse("fuzzed", text) else { return };
    drop(pipe.statement(&params()));
}

/// Reads a statement and lets it through the gate.
pub fn statement(text: &str) {
    drop(gate::read(text));
}

/// Reads a token's row filter.
pub fn condition(text: &str) {
    drop(gate::condition(text));
}

/// Reads a statement of the Postgres wire and puts it into the engine's words.
pub fn wire_statement(text: &str) {
    pg::fuzzing::statement(text);
}

/// Reads a client's bytes: its start-up packet, then its messages.
pub fn wire_messages(bytes: &[u8]) {
    pg::fuzzing::messages(&mut BytesMut::from(bytes));
}

/// Values for the names that the corpora use.
fn params() -> Params {
    let names = ["x", "y", "z", "j", "q", "page", "date_from"];
    names.into_iter().map(|name| (name.to_owned(), vec!["1,2".to_owned()])).collect()
}
