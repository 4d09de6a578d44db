//! What takes callers' text and bytes, each as a function of bytes: for the fuzzer (`cargo xtask fuzz`) and for the test that
//! replays what it found (`tests/corpus.rs`). None may panic, overflow its stack, or take long. Start at [`TARGETS`].

/// A function of bytes, by the name of its folder in `corpus/`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("template", |bytes| text(bytes, sql::fuzzing::template)),
    ("datafile", |bytes| text(bytes, sql::fuzzing::datafile)),
    ("statement", |bytes| text(bytes, sql::fuzzing::statement)),
    ("condition", |bytes| text(bytes, sql::fuzzing::condition)),
    ("wire_statement", |bytes| text(bytes, sql::fuzzing::wire_statement)),
    ("wire_messages", sql::fuzzing::wire_messages),
    ("transcript", chat_api::fuzzing::transcript),
    ("file_name", |bytes| text(bytes, chat_api::fuzzing::file_name)),
    ("scopes", chat_api::fuzzing::scopes),
];

/// Runs a target.
///
/// # Panics
/// When there is none of that name, or when it finds a fault.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(bytes);
}

/// Bytes that aren't UTF-8 never reach what takes texts.
fn text(bytes: &[u8], target: fn(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        target(text);
    }
}
