//! [`crate::fuzzing`]'s part of the Postgres wire.

use std::sync::Arc;

use bytes::BytesMut;

use super::catalog::View;
use super::job::Job;
use super::params::any_value;
use super::proto::{Frame, Hello};
use super::session;
use super::types::{PgType, Scalar};
use crate::reads::Readable;
use crate::result_memory::ResultMemory;

/// Cuts a text into statements and prepares each, without the tenant's tables.
pub(crate) fn statement(text: &str) {
    /// No result is made here.
    const BYTES_MAX: usize = 0;
    let view = View {
        user: "fuzzed".to_owned(),
        database: "reports".to_owned(),
        pid: 1,
        settings: super::settings::defaults("fuzzed"),
        readable: Readable::All,
    };
    let view = Arc::new(view);
    let memory = ResultMemory::new(BYTES_MAX, BYTES_MAX, BYTES_MAX).tenant("fuzzed");
    for piece in session::split(text) {
        drop(piece.command());
        let values = [PgType::of(Scalar::Text), PgType::of(Scalar::Int4)].map(|kind| (kind, any_value(kind)));
        let job = Job {
            sql: piece.text.to_owned(),
            values: values.to_vec(),
            view: Arc::clone(&view),
            memory: Arc::clone(&memory),
        };
        drop(job.prepare(&[]));
    }
}

/// Reads messages until one is malformed or the bytes are used up.
pub(crate) fn messages(input: &mut BytesMut) {
    /// What a connection that has shown its password takes.
    const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
    while let Ok(Some(_)) = Hello::read(input) {}
    while let Ok(Some(_)) = Frame::read(input, MESSAGE_BYTES_MAX) {}
}
