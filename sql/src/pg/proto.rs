//! The messages of the Postgres protocol, version 3.0: what a client sends, read with every length checked, and what
//! the server answers. No state. Start at [`Frame::read`] and [`Out`].

use bytes::{Buf, Bytes, BytesMut};

use super::error::PgError;
use super::types::PgType;

/// A start-up packet is names and short values; Postgres has the same limit.
const STARTUP_BYTES_MAX: usize = 10_000;
const VERSION_3: u32 = 3;
const CANCEL: i32 = 80_877_102;
const SSL: i32 = 80_877_103;
const GSS: i32 = 80_877_104;

/// The first packet of a connection; it has no type byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// May be encrypted? Answered with one byte.
    Ssl,
    /// The same for GSSAPI.
    Gss,
    /// Stop what another connection runs.
    Cancel { pid: i32, secret: Vec<u8> },
    /// Parameters as pairs; `minor` is the protocol's.
    Startup { minor: u16, parameters: Vec<(String, String)> },
}

impl Hello {
    /// Takes the packet off `input`; `None` until it is whole.
    pub(super) fn read(input: &mut BytesMut) -> Result<Option<Self>, PgError> {
        let Some(mut body) = take(input, 0, STARTUP_BYTES_MAX)? else { return Ok(None) };
        let mut reader = Reader(&mut body);
        let code = reader.i32()?;
        Ok(Some(match code {
            SSL => Self::Ssl,
            GSS => Self::Gss,
            CANCEL => Self::Cancel { pid: reader.i32()?, secret: reader.rest() },
            version if version.cast_unsigned() >> 16 == VERSION_3 => {
                let mut parameters = Vec::new();
                loop {
                    let name = reader.text()?;
                    if name.is_empty() {
                        break;
                    }
                    parameters.push((name, reader.text()?));
                }
                Self::Startup { minor: (version & 0xffff) as u16, parameters }
            }
            _ => return Err(PgError::fatal("0A000", "only version 3 of the protocol is spoken")),
        }))
    }
}

/// What a statement or a portal is closed or described by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Statement,
    Portal,
}

/// A client's message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Password(String),
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target, String),
    Execute {
        portal: String,
        rows_max: usize,
    },
    Close(Target, String),
    Flush,
    Sync,
    Terminate,
    /// A part of COPY: its end may follow a refused COPY, and is skipped.
    Copy,
}

/// Values for a statement's parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    /// None: all text. One: for all. Else one a value.
    pub(super) formats: Vec<i16>,
    pub(super) values: Vec<Option<Bytes>>,
    /// As `formats`, for the columns of the result.
    pub(super) result_formats: Vec<i16>,
}

impl Frame {
    /// Takes a message off `input`; `None` until it is whole. `bytes_max` holds before anything is kept.
    pub(super) fn read(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Self>, PgError> {
        let Some(kind) = input.first().copied() else { return Ok(None) };
        let Some(mut body) = take(input, 1, bytes_max)? else { return Ok(None) };
        let mut reader = Reader(&mut body);
        let frame = match kind {
            b'p' => Self::Password(reader.text()?),
            b'Q' => Self::Query(reader.text()?),
            b'P' => {
                let (name, sql) = (reader.text()?, reader.text()?);
                let count = reader.u16()?;
                let types = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
                Self::Parse { name, sql, types }
            }
            b'B' => Self::Bind(reader.bind()?),
            b'D' => Self::Describe(reader.target()?, reader.text()?),
            b'C' => Self::Close(reader.target()?, reader.text()?),
            b'E' => {
                let portal = reader.text()?;
                // Zero or less: all.
                Self::Execute { portal, rows_max: usize::try_from(reader.i32()?).unwrap_or(0) }
            }
            b'H' => Self::Flush,
            b'S' => Self::Sync,
            b'X' => Self::Terminate,
            b'd' | b'c' | b'f' => return Ok(Some(Self::Copy)),
            b'F' => return Err(PgError::fatal("0A000", "function calls of the protocol are not there")),
            _ => return Err(malformed()),
        };
        if reader.0.has_remaining() { Err(malformed()) } else { Ok(Some(frame)) }
    }
}

fn malformed() -> PgError {
    PgError::fatal("08P01", "the message is malformed")
}

/// A body whose length follows `before` bytes.
fn take(input: &mut BytesMut, before: usize, bytes_max: usize) -> Result<Option<BytesMut>, PgError> {
    let Some(mut length) = input.get(before..before + 4) else { return Ok(None) };
    let length = usize::try_from(length.get_i32()).ok().filter(|length| *length >= 4).ok_or_else(malformed)?;
    if length > bytes_max {
        return Err(PgError::fatal("54000", format!("a message has at most {bytes_max} bytes")));
    }
    if input.len() < before + length {
        return Ok(None);
    }
    input.advance(before + 4);
    Ok(Some(input.split_to(length - 4)))
}

struct Reader<'a>(&'a mut BytesMut);

impl Reader<'_> {
    fn has(&self, bytes: usize) -> Result<(), PgError> {
        if self.0.remaining() < bytes { Err(malformed()) } else { Ok(()) }
    }

    fn u16(&mut self) -> Result<u16, PgError> {
        self.has(2).map(|()| self.0.get_u16())
    }

    fn i16(&mut self) -> Result<i16, PgError> {
        self.has(2).map(|()| self.0.get_i16())
    }

    fn u32(&mut self) -> Result<u32, PgError> {
        self.has(4).map(|()| self.0.get_u32())
    }

    fn i32(&mut self) -> Result<i32, PgError> {
        self.has(4).map(|()| self.0.get_i32())
    }

    fn text(&mut self) -> Result<String, PgError> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        let not_utf8 = |_| PgError::error("22021", "a text is not UTF-8");
        std::str::from_utf8(&text).map(str::to_owned).map_err(not_utf8)
    }

    fn rest(&mut self) -> Vec<u8> {
        self.0.split().to_vec()
    }

    fn target(&mut self) -> Result<Target, PgError> {
        self.has(1)?;
        match self.0.get_u8() {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            _ => Err(malformed()),
        }
    }

    fn formats(&mut self) -> Result<Vec<i16>, PgError> {
        let count = self.u16()?;
        (0..count).map(|_| self.i16()).collect()
    }

    fn bind(&mut self) -> Result<Bind, PgError> {
        let (portal, statement) = (self.text()?, self.text()?);
        let formats = self.formats()?;
        let count = self.u16()?;
        let mut values = Vec::new();
        for _ in 0..count {
            let length = self.i32()?;
            values.push(match usize::try_from(length) {
                // -1 is NULL.
                Err(_) => None,
                Ok(length) => {
                    self.has(length)?;
                    Some(self.0.split_to(length).freeze())
                }
            });
        }
        Ok(Bind { portal, statement, formats, values, result_formats: self.formats()? })
    }
}

/// A column as a client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(super) name: String,
    pub(super) kind: PgType,
}

/// The state of a session's transaction, for `ReadyForQuery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Transaction {
    #[default]
    None,
    Open,
    /// An error came; everything but its end is refused.
    Failed,
}

/// Messages to the client, one after the other.
#[derive(Debug, Default)]
pub(super) struct Out(pub(super) Vec<u8>);

impl Out {
    /// A message of this kind, whose length is filled in after `body`.
    fn message(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
        self.0.push(kind);
        let at = self.0.len();
        self.0.extend([0; 4]);
        body(&mut self.0);
        // Rows are bounded by the result's limit and texts by the SQL's, so the length fits.
        let length = u32::try_from(self.0.len() - at).unwrap_or(u32::MAX);
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub(super) fn authentication_ok(&mut self) {
        self.message(b'R', |out| out.extend(0_i32.to_be_bytes()));
    }

    pub(super) fn ask_for_password(&mut self) {
        self.message(b'R', |out| out.extend(3_i32.to_be_bytes()));
    }

    /// What the server can't do of what was asked for: newer minor versions and options.
    pub(super) fn negotiate(&mut self, options: &[&str]) {
        self.message(b'v', |out| {
            out.extend((VERSION_3 << 16).to_be_bytes());
            out.extend(u32::try_from(options.len()).unwrap_or(0).to_be_bytes());
            options.iter().for_each(|option| text(out, option));
        });
    }

    pub(super) fn backend_key(&mut self, pid: i32, secret: &[u8]) {
        self.message(b'K', |out| {
            out.extend(pid.to_be_bytes());
            out.extend(secret);
        });
    }

    pub(super) fn parameter_status(&mut self, name: &str, value: &str) {
        self.message(b'S', |out| {
            text(out, name);
            text(out, value);
        });
    }

    pub(super) fn ready(&mut self, transaction: Transaction) {
        let status = match transaction {
            Transaction::None => b'I',
            Transaction::Open => b'T',
            Transaction::Failed => b'E',
        };
        self.message(b'Z', |out| out.push(status));
    }

    pub(super) fn complete(&mut self, tag: &str) {
        self.message(b'C', |out| text(out, tag));
    }

    pub(super) fn empty_query(&mut self) {
        self.message(b'I', |_| {});
    }

    pub(super) fn parse_complete(&mut self) {
        self.message(b'1', |_| {});
    }

    pub(super) fn bind_complete(&mut self) {
        self.message(b'2', |_| {});
    }

    pub(super) fn close_complete(&mut self) {
        self.message(b'3', |_| {});
    }

    pub(super) fn portal_suspended(&mut self) {
        self.message(b's', |_| {});
    }

    pub(super) fn no_data(&mut self) {
        self.message(b'n', |_| {});
    }

    pub(super) fn parameters(&mut self, types: &[PgType]) {
        self.message(b't', |out| {
            count(out, types.len());
            types.iter().for_each(|kind| out.extend(kind.oid().to_be_bytes()));
        });
    }

    pub(super) fn row_description(&mut self, columns: &[Column], formats: &[i16]) {
        self.message(b'T', |out| {
            count(out, columns.len());
            for (at, column) in columns.iter().enumerate() {
                text(out, &column.name);
                // Of no table's column.
                out.extend([0; 6]);
                out.extend(column.kind.oid().to_be_bytes());
                out.extend(column.kind.bytes().to_be_bytes());
                out.extend((-1_i32).to_be_bytes());
                out.extend(format_of(formats, at).to_be_bytes());
            }
        });
    }

    /// A row of `columns` values; each is written by `value`, which says whether it is NULL.
    pub(super) fn row<E>(
        &mut self,
        columns: usize,
        mut value: impl FnMut(usize, &mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut outcome = Ok(());
        self.message(b'D', |out| {
            count(out, columns);
            for column in 0..columns {
                let at = out.len();
                out.extend([0; 4]);
                let length = match value(column, out) {
                    Ok(true) => -1,
                    Ok(false) => i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX),
                    Err(e) => {
                        outcome = Err(e);
                        return;
                    }
                };
                out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
        });
        outcome
    }

    pub(super) fn error(&mut self, error: &PgError) {
        self.report(b'E', if error.fatal { "FATAL" } else { "ERROR" }, error);
    }

    pub(super) fn notice(&mut self, warning: &PgError) {
        self.report(b'N', "WARNING", warning);
    }

    fn report(&mut self, kind: u8, severity: &str, error: &PgError) {
        self.message(kind, |out| {
            let mut field = |name: u8, value: &str| {
                out.push(name);
                text(out, value);
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', error.code);
            field(b'M', &error.message);
            if let Some(position) = error.position {
                field(b'P', &position.to_string());
            }
            out.push(0);
        });
    }
}

/// The format of the value at `at`: text unless it is asked for otherwise.
pub(super) fn format_of(formats: &[i16], at: usize) -> i16 {
    match formats {
        [] => 0,
        [one] => *one,
        many => many.get(at).copied().unwrap_or(0),
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    // A zero would end the text in the middle of the message.
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

fn count(out: &mut Vec<u8>, count: usize) {
    out.extend(u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u8, body: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::from(&[kind][..]);
        bytes.extend_from_slice(&u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_message_waits_until_it_is_whole() {
        let whole = framed(b'Q', b"SELECT 1\0");
        for end in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..end]);
            assert_eq!(Frame::read(&mut part, 100), Ok(None), "{end}");
            assert_eq!(part.len(), end, "nothing is taken off");
        }
        let mut input = whole;
        assert_eq!(Frame::read(&mut input, 100), Ok(Some(Frame::Query("SELECT 1".to_owned()))));
        assert!(input.is_empty());
    }

    /// No length or count in a message is believed before the bytes are there.
    #[test]
    fn lengths_that_lie_are_refused() {
        for (kind, body) in [
            (b'Q', &b"no end"[..]),
            (b'Q', b"\xff\0"),
            (b'Q', b"a\0b"),
            (b'P', b"a\0b\0"),
            (b'P', b"a\0b\0\xff\xff"),
            (b'B', b"\0\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
            (b'B', b"\0\0\0\0\xff\xff"),
            (b'D', b""),
            (b'D', b"Xa\0"),
            (b'E', b"\0\0"),
            (b'S', b"more"),
            (b'?', b""),
        ] {
            let read = Frame::read(&mut framed(kind, body), 100);
            assert!(matches!(&read, Err(e) if e.code == "08P01" || e.code == "22021"), "{body:?}: {read:?}");
        }
        for length in [0_i32, 3, -1, i32::MIN] {
            let mut input = BytesMut::from(&b"Q"[..]);
            input.extend_from_slice(&length.to_be_bytes());
            assert_eq!(Frame::read(&mut input, 100).map_err(|e| e.code), Err("08P01"));
        }
        let mut large = BytesMut::from(&b"Q\x00\x00\x00\x65"[..]);
        assert_eq!(Frame::read(&mut large, 100).map_err(|e| e.code), Err("54000"), "before it is there");
    }

    #[test]
    fn the_first_packet_is_one_of_four() {
        let packet = |body: &[u8]| {
            let mut bytes = BytesMut::from(&u32::try_from(body.len() + 4).expect("short").to_be_bytes()[..]);
            bytes.extend_from_slice(body);
            Hello::read(&mut bytes)
        };
        assert_eq!(packet(&SSL.to_be_bytes()), Ok(Some(Hello::Ssl)));
        assert_eq!(packet(&GSS.to_be_bytes()), Ok(Some(Hello::Gss)));
        let startup = packet(b"\x00\x03\x00\x02user\0a\0database\0b\0\0");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let parameters = vec![pair("user", "a"), pair("database", "b")];
        assert_eq!(startup, Ok(Some(Hello::Startup { minor: 2, parameters })));
        assert!(packet(b"\x00\x02\x00\x00").is_err(), "version 2");
        assert!(packet(b"\x00\x03\x00\x00user\0a").is_err(), "cut off");
        assert!(packet(b"\x04\xd2\x16\x2e\x00").is_err(), "a cancellation of nothing");
    }
}
