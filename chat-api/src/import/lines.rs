//! An import's input, pulled a line at a time: unpacked and decoded step by step, never collected. Start at [`Lines::pull`].
//!
//! A line ends with LF, CRLF or CR; no JSON has one in it that isn't escaped or between its parts.
//! What is held is one line, at most [`LINE_BYTES_MAX`] of it, counted as it grows; of a longer one nothing is held, it's
//! read past. What may be unpacked is bounded by [`Unpacking`]: a small body can't become work without end.

use super::parse::LINE_BYTES_MAX;
use crate::encoding::Utf8;
use crate::limits::{Buffer, NoRoom, Place};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead as _, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a gzip stream starts.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Bytes that are unpacked at a time.
const STEP_BYTES: usize = 64 * 1024;
/// Up to so many unpacked bytes it doesn't matter how small they were packed.
const ANY_RATIO_BYTES: u64 = 16 * 1024 * 1024;

/// What an input may be unpacked to.
#[derive(Debug, Clone, Copy)]
pub struct Unpacking {
    /// Bytes in all.
    pub bytes_max: u64,
    /// Bytes for each packed one, after the first 16 MiB. Transcripts pack by 5 to 20; nothing but repeats passes 100.
    pub ratio_max: u64,
}

impl Unpacking {
    /// Of a request. What is larger comes in several, which changes nothing: conversations that are there are skipped.
    pub const REQUEST: Self = Self { bytes_max: 8 * 1024 * 1024 * 1024, ratio_max: 100 };
    /// Of a file of whoever has the data directory.
    pub const OWN_FILE: Self = Self { bytes_max: u64::MAX, ratio_max: u64::MAX };
}

/// What a pull came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Pulled {
    /// A line is in the buffer.
    Line,
    /// A line had more than [`LINE_BYTES_MAX`]; it's passed, and nothing of it is held.
    TooLong,
    /// There are no more.
    End,
}

/// Why nothing was pulled.
#[derive(Debug)]
pub enum PullError {
    /// The source's own, or what it unpacks to is too much (`FileTooLarge`).
    Io(io::Error),
    /// There is no room for more of the line now; a later pull goes on where this one stopped.
    Full(NoRoom),
}

/// An input's lines.
pub struct Lines<R: Read> {
    source: BufReader<Utf8<Unpacked<R>>>,
    /// The rest of this line is only read past.
    passing: bool,
    /// Whether anything of the line that is being read was seen.
    begun: bool,
    /// The last line ended with a CR, to which an LF may belong.
    after_cr: bool,
}

impl<R: Read> Lines<R> {
    /// The lines of `source`, unpacked when it starts like gzip, however it's labelled.
    ///
    /// # Errors
    /// The source's.
    pub fn new(mut source: R, unpacking: Unpacking) -> io::Result<Self> {
        let mut head = [0; 2];
        let mut seen = 0;
        while seen < head.len() {
            match source.read(&mut head[seen..]) {
                Ok(0) => break,
                Ok(read) => seen += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let packed = Arc::new(AtomicU64::new(0));
        let source = Counted { source: Cursor::new(head[..seen].to_vec()).chain(source), bytes: Arc::clone(&packed) };
        let decoder = if head == GZIP_MAGIC {
            Decoder::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(STEP_BYTES, source))))
        } else {
            Decoder::Plain(source)
        };
        let unpacked = Unpacked { decoder, packed, bytes: 0, unpacking };
        let source = BufReader::with_capacity(STEP_BYTES, Utf8::new(unpacked));
        Ok(Self { source, passing: false, begun: false, after_cr: false })
    }

    /// Pulls one line into the buffer, without its newline; the buffer is empty or holds what the last pull, which found no
    /// room, has of it.
    ///
    /// # Errors
    /// See [`PullError`].
    pub fn pull(&mut self, line: &mut Buffer, place: &mut Place) -> Result<Pulled, PullError> {
        loop {
            let chunk = match self.source.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(PullError::Io(error)),
            };
            if std::mem::take(&mut self.after_cr) && chunk.first() == Some(&b'\n') {
                self.source.consume(1);
                continue;
            }
            let at_end = chunk.is_empty();
            let newline = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let cr = newline.is_some_and(|at| chunk[at] == b'\r');
            let part = &chunk[..newline.unwrap_or(chunk.len())];
            if !self.passing && line.bytes().len() + part.len() > LINE_BYTES_MAX {
                line.clear(place);
                self.passing = true;
            }
            if !self.passing {
                line.extend(part, place).map_err(PullError::Full)?;
            }
            let used = part.len() + usize::from(newline.is_some());
            self.source.consume(used);
            self.begun |= used > 0;
            self.after_cr = cr;
            if newline.is_none() && !at_end {
                continue;
            }
            let begun = std::mem::take(&mut self.begun);
            return Ok(match (begun, std::mem::take(&mut self.passing)) {
                (false, _) => Pulled::End,
                (true, true) => Pulled::TooLong,
                (true, false) => Pulled::Line,
            });
        }
    }
}

/// A source that counts what is read of it.
struct Counted<R> {
    source: Chain<Cursor<Vec<u8>>, R>,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(out)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

enum Decoder<R: Read> {
    Plain(Counted<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Counted<R>>>>),
}

/// What comes out, and how much it is for what went in.
struct Unpacked<R: Read> {
    decoder: Decoder<R>,
    packed: Arc<AtomicU64>,
    bytes: u64,
    unpacking: Unpacking,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoder {
            Decoder::Plain(plain) => plain.read(out)?,
            Decoder::Gzip(gzip) => gzip.read(out)?,
        };
        self.bytes += read as u64;
        let Unpacking { bytes_max, ratio_max } = self.unpacking;
        if self.bytes > bytes_max {
            let reason = format!("it has more than {bytes_max} bytes once it is unpacked");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        if self.bytes > ANY_RATIO_BYTES && self.bytes / ratio_max > self.packed.load(Ordering::Relaxed) {
            let reason = format!("it unpacks to more than {ratio_max} times its size");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Intake;
    use ingest::id::TenantId;
    use std::io::Write as _;

    /// A source that gives so many bytes at a time.
    struct Drops(Cursor<Vec<u8>>, usize);

    impl Read for Drops {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(out.len());
            self.0.read(&mut out[..size])
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("written");
        encoder.finish().expect("compressed")
    }

    /// Lines as they are pulled, `None` for one that is too long; the most that was held.
    fn pull_all(source: impl Read, unpacking: Unpacking) -> io::Result<(Vec<Option<String>>, usize)> {
        let intake = Intake::default();
        let mut place = intake.place(TenantId::fresh());
        let mut line = Buffer::new(LINE_BYTES_MAX);
        let mut lines = Lines::new(source, unpacking)?;
        let (mut all, mut most) = (Vec::new(), 0);
        loop {
            let pulled = lines.pull(&mut line, &mut place);
            most = most.max(intake.bytes());
            match pulled {
                Ok(Pulled::Line) => all.push(Some(String::from_utf8_lossy(line.bytes()).into_owned())),
                Ok(Pulled::TooLong) => all.push(None),
                Ok(Pulled::End) => return Ok((all, most)),
                Err(PullError::Io(error)) => return Err(error),
                Err(PullError::Full(full)) => panic!("{full:?}"),
            }
            line.reset(&mut place);
        }
    }

    /// Lines are the same wherever the pieces are cut, compressed or not, with or without a last newline.
    #[test]
    fn lines_do_not_depend_on_pieces() {
        for text in ["one\ntwo\n\nfour", "one\ntwo\n\nfour\n"] {
            let expected = ["one", "two", "", "four"].map(|line| Some(line.to_owned()));
            // Two members of gzip, one after the other, are one stream.
            let members = [gzip(&text.as_bytes()[..5]), gzip(&text.as_bytes()[5..])].concat();
            for bytes in [text.as_bytes().to_vec(), gzip(text.as_bytes()), members] {
                for size in [1, 3, 1_000] {
                    let source = Drops(Cursor::new(bytes.clone()), size);
                    let (lines, _) = pull_all(source, Unpacking::REQUEST).expect("reads");
                    assert_eq!(lines, expected, "{size}");
                }
            }
        }
        for text in ["one\r\ntwo\r\n\r\nfour\r\n", "one\rtwo\r\rfour", "one\ntwo\r\n\rfour\r"] {
            let expected = ["one", "two", "", "four"].map(|line| Some(line.to_owned()));
            for size in [1, 2, 3, 1_000] {
                let source = Drops(Cursor::new(text.as_bytes().to_vec()), size);
                assert_eq!(pull_all(source, Unpacking::REQUEST).expect("reads").0, expected, "{text:?} {size}");
                let utf16 = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
                let source = Drops(Cursor::new(utf16), size);
                assert_eq!(pull_all(source, Unpacking::REQUEST).expect("reads").0, expected, "UTF-16 {text:?} {size}");
            }
        }
        for (nothing, lines) in [("", 0), ("\n", 1), ("\n\n", 2)] {
            assert_eq!(pull_all(nothing.as_bytes(), Unpacking::REQUEST).expect("reads").0.len(), lines);
        }
    }

    #[test]
    fn a_cut_off_gzip_is_an_error() {
        let whole = gzip("line\n".repeat(10_000).as_bytes());
        assert!(pull_all(&whole[..whole.len() / 2], Unpacking::REQUEST).is_err());
    }

    /// Of a line without an end nothing is kept, and the next one is read.
    #[test]
    fn a_line_that_is_too_long_is_passed() {
        let long = io::repeat(b'x').take(5 * LINE_BYTES_MAX as u64);
        let source = (&b"first\n"[..]).chain(long).chain(&b"\nlast"[..]);
        let (lines, most) = pull_all(source, Unpacking::REQUEST).expect("reads");
        assert_eq!(lines, [Some("first".to_owned()), None, Some("last".to_owned())]);
        assert!(most <= LINE_BYTES_MAX + STEP_BYTES, "{most} bytes were held");
        let endless = io::repeat(b'x').take(5 * LINE_BYTES_MAX as u64);
        assert_eq!(pull_all(endless, Unpacking::REQUEST).expect("reads").0, [None], "one that ends the input, too");
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let newlines = gzip(&vec![b'\n'; 2 * usize::try_from(ANY_RATIO_BYTES).expect("fits")]);
        let error = pull_all(&*newlines, Unpacking::REQUEST).expect_err("a thousandfold");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("100 times"), "{error}");
        let small = Unpacking { bytes_max: 10, ..Unpacking::REQUEST };
        let error = pull_all(&b"0123456789\n"[..], small).expect_err("too much, though nothing is packed");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
