//! `multipart/form-data`, a part at a time. What a part says of itself is held until it's whole, so it's bounded here, and so
//! is the number of parts; their contents are bounded by whoever takes them. Start at [`Parts::next`].

use axum::body::{Body, Bytes};
use futures_util::StreamExt as _;
use multer::{Constraints, Field, Multipart, SizeLimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes of what stands before a part's content: its name, a file's name, its type. One more piece of the connection's is
/// read before it's known.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Parts of a form; no form here has more fields than that.
const PARTS_MAX: usize = 32;

/// Why there is no next part.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormError {
    /// The form itself.
    #[error(transparent)]
    Form(#[from] multer::Error),
    /// A part says too much of itself.
    #[error("a part has more than {HEAD_BYTES_MAX} bytes before its content")]
    Head,
    /// Too many parts.
    #[error("the form has more than {PARTS_MAX} parts")]
    Parts,
}

/// A form's parts, one after the other.
pub(super) struct Parts {
    form: Multipart<'static>,
    head: Arc<Head>,
    count: usize,
}

/// What was read of the body since the last part ended.
#[derive(Default)]
struct Head {
    open: AtomicBool,
    bytes: AtomicUsize,
}

impl Head {
    fn is_too_long(&self) -> bool {
        self.open.load(Ordering::Relaxed) && self.bytes.load(Ordering::Relaxed) > HEAD_BYTES_MAX
    }
}

impl Parts {
    /// The parts of a body, which has at most so many bytes.
    pub(super) fn new(body: Body, boundary: String, bytes_max: u64) -> Self {
        let head = Arc::new(Head::default());
        let seen = Arc::clone(&head);
        let pieces = body.into_data_stream().map(move |piece| {
            let piece: Bytes = piece.map_err(std::io::Error::other)?;
            if seen.is_too_long() {
                return Err(std::io::Error::other("a part's head is too long"));
            }
            seen.bytes.fetch_add(piece.len(), Ordering::Relaxed);
            Ok(piece)
        });
        let limits = Constraints::new().size_limit(SizeLimit::new().whole_stream(bytes_max));
        Self { form: Multipart::with_constraints(pieces, boundary, limits), head, count: 0 }
    }

    /// The next part, once it has said what it is. The one before must have been read to its end.
    pub(super) async fn next(&mut self) -> Result<Option<Field<'static>>, FormError> {
        self.head.bytes.store(0, Ordering::Relaxed);
        self.head.open.store(true, Ordering::Relaxed);
        let field = self.form.next_field().await;
        let too_long = self.head.is_too_long();
        self.head.open.store(false, Ordering::Relaxed);
        let field = match field {
            Err(multer::Error::StreamReadFailed(_)) if too_long => return Err(FormError::Head),
            field => field?,
        };
        self.count += usize::from(field.is_some());
        if self.count > PARTS_MAX { Err(FormError::Parts) } else { Ok(field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::cell::Cell;

    /// The parts of a form that comes in pieces of 8 KiB, or why they end; and the bytes that were read of it.
    async fn read(start: &str, again: &str, bytes: usize) -> (usize, Option<FormError>, usize) {
        let whole = [start.as_bytes(), &again.as_bytes().repeat(bytes / again.len())].concat();
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let pieces: Vec<Bytes> = whole.chunks(8 * 1024).map(Bytes::copy_from_slice).collect();
        let pieces = stream::iter(pieces).then(move |piece| {
            count.fetch_add(piece.len(), Ordering::Relaxed);
            // As from a connection: the next piece is there when the task is polled again.
            async move {
                tokio::task::yield_now().await;
                std::io::Result::Ok(piece)
            }
        });
        let mut parts = Parts::new(Body::from_stream(pieces), "x".to_owned(), u64::MAX);
        let found = Cell::new(0);
        let error = loop {
            match parts.next().await {
                Ok(Some(mut part)) => {
                    found.set(found.get() + 1);
                    while let Ok(Some(_)) = part.chunk().await {}
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        (found.get(), error, sent.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn what_a_part_says_of_itself_is_bounded() {
        let named = "--x\r\ncontent-disposition: form-data; name=\"";
        for (start, again) in [(named, "a"), ("--x\r\n", "a: b\r\n"), ("--x\r\na: ", "b"), ("", "\r\n-")] {
            let (_, error, sent) = read(start, again, 4_000_000).await;
            assert!(matches!(error, Some(FormError::Head)), "{start:?} {again:?}: {error:?}");
            assert!(sent <= HEAD_BYTES_MAX + 3 * 8 * 1024, "{sent} bytes were read");
        }
    }

    #[tokio::test]
    async fn parts_are_bounded() {
        let part = "--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n\r\n";
        let (found, error, sent) = read("", part, 4_000_000).await;
        assert!(matches!(error, Some(FormError::Parts)), "{error:?}");
        // Each look for a part, and each for its end, may read a piece ahead.
        assert!(found == PARTS_MAX && sent <= 3 * PARTS_MAX * 8 * 1024, "{found} parts, {sent} bytes");
    }

    /// A part's content doesn't count as what it says of itself.
    #[tokio::test]
    async fn a_large_part_is_read() {
        let part = "--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n";
        let (found, error, sent) = read(part, "abcdefgh", 1_000_000).await;
        assert!(found == 1 && sent >= 1_000_000, "{sent}");
        assert!(matches!(error, Some(FormError::Form(_)) | None), "{error:?}");
    }
}
