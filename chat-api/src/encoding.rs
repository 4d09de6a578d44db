//! Texts as people's programs write them, as UTF-8: UTF-16 in either order is decoded while it's read. Start at [`Utf8`].
//!
//! What is held is a step of the source and what it decodes to, whatever there is to read; UTF-8 passes through. A decoded text has
//! at most one and a half times the bytes.

use std::io::{self, Read};

/// Bytes that are decoded at a time.
const STEP_BYTES: usize = 8 * 1024;
/// Stands in the place of half a character: it's no UTF-8, so that who reads the line says so.
const INVALID: u8 = 0xff;

/// Which of two bytes comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

/// UTF-16 by its byte order mark, or by what begins with an ASCII character as all JSON and nearly all CSV does: where
/// bytes begin so, they aren't UTF-8. An empty line beside a NUL byte is of a text with NUL bytes.
fn utf16_order(head: &[u8]) -> Option<Order> {
    let begins = |letter: u8| !matches!(letter, 0 | b'\n' | b'\r');
    match head {
        [0xff, 0xfe, ..] => Some(Order::Little),
        [0xfe, 0xff, ..] => Some(Order::Big),
        [first, 0, ..] if begins(*first) => Some(Order::Little),
        [0, second, ..] if begins(*second) => Some(Order::Big),
        _ => None,
    }
}

/// Whether bytes are UTF-16 by how they begin.
#[must_use]
pub fn is_utf16(bytes: &[u8]) -> bool {
    utf16_order(bytes).is_some()
}

/// A source as UTF-8. A byte order mark stays, as UTF-8 has it.
pub struct Utf8<R> {
    source: R,
    /// Not known before the first bytes are there.
    state: State,
}

enum State {
    Unread,
    /// As it is, after so many bytes of the head.
    Plain {
        head: [u8; 2],
        length: usize,
        given: usize,
    },
    Utf16(Box<Utf16>),
}

struct Utf16 {
    order: Order,
    raw: Vec<u8>,
    /// Bytes of `raw` that are there.
    length: usize,
    /// The first half of a character.
    high: Option<u16>,
    decoded: Vec<u8>,
    given: usize,
}

impl<R: Read> Utf8<R> {
    /// The text of `source`.
    pub fn new(source: R) -> Self {
        Self { source, state: State::Unread }
    }

    fn begin(&mut self) -> io::Result<()> {
        let mut head = [0; 2];
        let length = read_full(&mut self.source, &mut head)?;
        self.state = match utf16_order(&head[..length]) {
            None => State::Plain { head, length, given: 0 },
            Some(order) => {
                let mut raw = vec![0; STEP_BYTES];
                raw[..length].copy_from_slice(&head[..length]);
                State::Utf16(Box::new(Utf16 { order, raw, length, high: None, decoded: Vec::new(), given: 0 }))
            }
        };
        Ok(())
    }
}

/// Reads until the buffer is full or the source ends.
fn read_full(source: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < out.len() {
        match source.read(&mut out[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

impl<R: Read> Read for Utf8<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if matches!(self.state, State::Unread) {
            self.begin()?;
        }
        match &mut self.state {
            State::Plain { head, length, given } if *given < *length => Ok(give(&head[..*length], given, out)),
            State::Utf16(utf16) => utf16.read(&mut self.source, out),
            State::Unread | State::Plain { .. } => self.source.read(out),
        }
    }
}

/// Copies what isn't given yet, as much as there is room for.
fn give(from: &[u8], given: &mut usize, out: &mut [u8]) -> usize {
    let length = (from.len() - *given).min(out.len());
    out[..length].copy_from_slice(&from[*given..*given + length]);
    *given += length;
    length
}

impl Utf16 {
    fn read(&mut self, source: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.decoded.len() {
            self.decoded.clear();
            self.given = 0;
            let read = match source.read(&mut self.raw[self.length..]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.length += read;
            if read == 0 {
                self.end();
                break;
            }
            self.decode();
        }
        Ok(give(&self.decoded, &mut self.given, out))
    }

    /// Decodes the whole units that are there.
    fn decode(&mut self) {
        let whole = self.length / 2 * 2;
        for at in (0..whole).step_by(2) {
            let pair = [self.raw[at], self.raw[at + 1]];
            let unit = match self.order {
                Order::Little => u16::from_le_bytes(pair),
                Order::Big => u16::from_be_bytes(pair),
            };
            self.unit(unit);
        }
        self.raw.copy_within(whole..self.length, 0);
        self.length -= whole;
    }

    fn unit(&mut self, unit: u16) {
        let low = matches!(unit, 0xDC00..=0xDFFF);
        match self.high.take() {
            Some(high) if low => {
                let pair = 0x10000 + ((u32::from(high) - 0xD800) << 10) + (u32::from(unit) - 0xDC00);
                return self.push(pair);
            }
            Some(_) => self.decoded.push(INVALID),
            None => {}
        }
        match unit {
            0xD800..=0xDBFF => self.high = Some(unit),
            unit => self.push(unit.into()),
        }
    }

    fn push(&mut self, point: u32) {
        match char::from_u32(point) {
            Some(c) => self.decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            None => self.decoded.push(INVALID),
        }
    }

    /// What is left over is half of something.
    fn end(&mut self) {
        if self.high.take().is_some() || std::mem::take(&mut self.length) > 0 {
            self.decoded.push(INVALID);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that gives so many bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(out.len());
            self.0.read(&mut out[..size])
        }
    }

    fn decoded(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Utf8::new(Drops(bytes, size)).read_to_end(&mut out).expect("reads");
        out
    }

    fn utf16(text: &str, order: Order) -> Vec<u8> {
        let bytes = |unit: u16| match order {
            Order::Little => unit.to_le_bytes(),
            Order::Big => unit.to_be_bytes(),
        };
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn a_text_is_the_same_in_every_encoding_and_every_piece() {
        let text = format!("{{\"name\":\"Zoë 例子 😀\"}}\r\n{}", "é😀".repeat(10_000));
        let marked = format!("\u{FEFF}{text}");
        for size in [1, 2, 3, 1_000, 1_000_000] {
            for order in [Order::Little, Order::Big] {
                assert!(decoded(&utf16(&text, order), size) == text.as_bytes(), "{order:?} {size}");
                assert!(decoded(&utf16(&marked, order), size) == marked.as_bytes(), "{order:?} {size}, marked");
            }
            assert!(decoded(text.as_bytes(), size) == text.as_bytes());
        }
        for short in ["", "a", "é"] {
            assert_eq!(decoded(short.as_bytes(), 1), short.as_bytes());
        }
    }

    /// A line of NUL bytes is a bad line, and those after it are none.
    #[test]
    fn nul_bytes_before_a_text_arent_an_encoding() {
        for text in ["\0\n{\"id\":1}", "\n\0\n{\"id\":1}", "\0\0\n{}", "\0\r\n{}"] {
            assert_eq!(decoded(text.as_bytes(), 7), text.as_bytes(), "{text:?}");
        }
    }

    /// Half a character is no text, and what is around it stays.
    #[test]
    fn halves_are_told() {
        let units: Vec<u8> =
            [0x61, 0xD83D, 0x62, 0xDE00, 0x63, 0xD83D].into_iter().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decoded(&units, 3), b"a\xffb\xffc\xff");
        assert_eq!(decoded(&[0x61, 0, 0x62], 1), b"a\xff");
    }
}
