//! A client of the Postgres wire that sends what it is told, byte for byte, and hears everything. It waits where it is
//! called: whoever uses it runs beside the server, not on its threads.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rows as texts; NULL is `None`.
pub type Rows = Vec<Vec<Option<String>>>;

/// An error of the server, or the end of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// SQLSTATE, or `closed`.
    pub code: String,
    /// As it was sent.
    pub message: String,
    /// The connection ends with it.
    pub fatal: bool,
}

impl Refusal {
    fn closed(error: impl std::fmt::Display) -> Self {
        Self { code: "closed".to_owned(), message: error.to_string(), fatal: true }
    }

    fn read(body: &[u8]) -> Self {
        let mut refusal = Self { code: String::new(), message: String::new(), fatal: false };
        for field in body.split(|byte| *byte == 0).filter(|field| !field.is_empty()) {
            let text = String::from_utf8_lossy(&field[1..]).into_owned();
            match field[0] {
                b'C' => refusal.code = text,
                b'M' => refusal.message = text,
                b'V' => refusal.fatal = text == "FATAL",
                _ => {}
            }
        }
        refusal
    }
}

/// A connection.
pub struct Client<S = TcpStream> {
    pub stream: S,
    /// Its number and secret, by which another connection cancels its query.
    key: Vec<u8>,
}

impl Client {
    /// Connects, and says nothing.
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        Self::over(stream)
    }

    /// Connects and shows a password.
    pub fn start(address: &str, user: &str, password: &str) -> Result<Self, Refusal> {
        let mut client = Self::connect(address);
        client.start_up(user, password)?;
        Ok(client)
    }
}

impl<S: Read + Write> Client<S> {
    /// Speaks over a stream.
    pub fn over(stream: S) -> Self {
        Self { stream, key: Vec::new() }
    }

    /// The packet that cancels what this connection runs.
    pub fn cancellation(&self) -> Vec<u8> {
        [&length(4 + self.key.len())[..], &[4, 0xd2, 0x16, 0x2e], &self.key].concat()
    }

    /// Shows a password on a new connection.
    pub fn start_up(&mut self, user: &str, password: &str) -> Result<(), Refusal> {
        let body = format!("\0\x03\0\0user\0{user}\0database\0reports\0\0");
        self.raw(&[&length(body.len())[..], body.as_bytes()].concat()).map_err(Refusal::closed)?;
        match self.message().map_err(Refusal::closed)? {
            Some((b'R', _)) => {}
            Some((b'E', body)) => return Err(Refusal::read(&body)),
            None => return Err(Refusal::closed("before a password was asked for")),
            Some(other) => panic!("a password is asked for, not {other:?}"),
        }
        self.send(b'p', format!("{password}\0").as_bytes()).map_err(Refusal::closed)?;
        self.answer().map(drop)
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends a message.
    pub fn send(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        self.raw(&message(kind, body))
    }

    /// The next message; `None` when the server has closed the connection.
    pub fn message(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let mut head = [0; 5];
        let first = self.stream.read(&mut head[..1]);
        match first {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            first => first?,
        };
        self.stream.read_exact(&mut head[1..])?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok(Some((head[0], body)))
    }

    /// What comes up to `ReadyForQuery`: rows, or the first error.
    pub fn answer(&mut self) -> Result<Rows, Refusal> {
        let (mut rows, mut refused) = (Rows::new(), None);
        loop {
            let message = self.message().map_err(Refusal::closed)?;
            let Some((kind, body)) = message else {
                return Err(refused.unwrap_or_else(|| Refusal::closed("the server has closed the connection")));
            };
            match kind {
                b'D' => rows.push(row(&body)),
                b'E' => {
                    let refusal = Refusal::read(&body);
                    refused.get_or_insert(refusal);
                }
                b'K' => self.key = body,
                b'Z' => return refused.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// A simple query.
    pub fn simple(&mut self, sql: &str) -> Result<Rows, Refusal> {
        self.send(b'Q', &[sql.as_bytes(), &[0][..]].concat()).map_err(Refusal::closed)?;
        self.answer()
    }

    /// The same by Parse, Describe, Bind, Execute and Sync.
    pub fn extended(&mut self, sql: &str) -> Result<Rows, Refusal> {
        let parse = [&[0][..], sql.as_bytes(), &[0; 3]].concat();
        let all = [
            message(b'P', &parse),
            message(b'D', b"S\0"),
            message(b'B', &[0; 8]),
            message(b'E', &[0; 5]),
            message(b'S', b""),
        ];
        self.raw(&all.concat()).map_err(Refusal::closed)?;
        self.answer()
    }
}

/// A length that counts itself.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes + 4).expect("it fits").to_be_bytes()
}

/// A message's bytes.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &length(body.len()), body].concat()
}

fn row(body: &[u8]) -> Vec<Option<String>> {
    let (count, mut rest) = body.split_at(2);
    let mut cells = Vec::new();
    for _ in 0..u16::from_be_bytes([count[0], count[1]]) {
        let (length, after) = rest.split_at(4);
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        let (cell, after) = after.split_at(usize::try_from(length).unwrap_or(0));
        cells.push((length >= 0).then(|| String::from_utf8_lossy(cell).into_owned()));
        rest = after;
    }
    cells
}
