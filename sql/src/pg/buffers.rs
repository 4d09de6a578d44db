//! What a connection reads into and writes from, counted in its account. Start at [`Buffers::count`].

use std::sync::Arc;

use bytes::BytesMut;

use super::proto::Out;
use crate::error::QueryError;
use crate::result_memory::{Account, Hold};

/// Answers are sent when this much is ready.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;
/// What a connection has besides, settings, names and TLS among it.
const CONNECTION_BYTES: usize = 32 * 1024;
/// An empty buffer that is no larger stays for the next message.
const KEPT_BYTES_MAX: usize = 2 * CHUNK_BYTES;

/// The count of a connection's buffers.
pub(super) struct Buffers {
    hold: Hold,
    /// The input's largest size since it was made: what is taken off it doesn't make it smaller.
    input_bytes: usize,
}

impl Buffers {
    /// Of a connection whose buffers are still small.
    /// # Errors  `ResultsFull`.
    pub(super) fn new(memory: &Arc<Account>) -> Result<Self, QueryError> {
        Ok(Self { hold: Hold::new(memory, CONNECTION_BYTES)?, input_bytes: 0 })
    }

    /// Counts what the buffers have now.
    /// # Errors  `ResultsFull`; then what was counted before still is.
    pub(super) fn count(&mut self, input: &BytesMut, out: &Out) -> Result<(), QueryError> {
        self.input_bytes = self.input_bytes.max(input.capacity());
        self.hold.resize(CONNECTION_BYTES + self.input_bytes + out.0.capacity())
    }

    /// Makes large buffers that are empty small again.
    pub(super) fn release(&mut self, input: &mut BytesMut, out: &mut Out) {
        if input.is_empty() && self.input_bytes > KEPT_BYTES_MAX {
            *input = BytesMut::new();
            self.input_bytes = 0;
        }
        if out.0.is_empty() && out.0.capacity() > KEPT_BYTES_MAX {
            out.0 = Vec::new();
        }
        let bytes = CONNECTION_BYTES + self.input_bytes + out.0.capacity();
        if bytes < self.hold.bytes() {
            // Less is never refused.
            let _ = self.hold.resize(bytes);
        }
    }
}
