//! A mail server that does wrong at one step of the conversation: it answers no, hangs, hangs up, or never ends its line. At
//! the steps that know the recipient it does so to those whose address begins with `bad`, before to everybody.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A step of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Greeting,
    Hello,
    Sender,
    Recipient,
    Data,
    /// After the content.
    Content,
}

impl Step {
    pub const ALL: [Self; 6] = [Self::Greeting, Self::Hello, Self::Sender, Self::Recipient, Self::Data, Self::Content];

    /// The server knows by then whose mail it is.
    pub fn knows_recipient(self) -> bool {
        matches!(self, Self::Recipient | Self::Data | Self::Content)
    }
}

/// What it does there instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Answer(u16),
    Hang,
    HangUp,
    EndlessLine,
    EndlessLines,
}

impl Wrong {
    pub const ALL: [Self; 7] = [
        Self::Answer(421),
        Self::Answer(451),
        Self::Answer(550),
        Self::Hang,
        Self::HangUp,
        Self::EndlessLine,
        Self::EndlessLines,
    ];
}

/// A mail that the server took.
#[derive(Debug, Clone)]
pub struct Letter {
    pub to: String,
    /// Headers and bodies, as they came.
    pub content: String,
}

struct Shared {
    wrong: Mutex<Option<(Step, Wrong)>>,
    taken: Mutex<Vec<Letter>>,
    contents: AtomicUsize,
    said: AtomicUsize,
}

/// A running server; it ends with its value.
pub struct HostileServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl HostileServer {
    pub async fn start(wrong: Option<(Step, Wrong)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            wrong: Mutex::new(wrong),
            taken: Mutex::default(),
            contents: AtomicUsize::new(0),
            said: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move { Conversation::new(stream, shared).run().await });
            }
        });
        Self { address, shared, task }
    }

    /// From now on it does its work.
    pub fn mend(&self) {
        *self.shared.wrong.lock().unwrap() = None;
    }

    /// The mails that it took.
    pub fn taken(&self) -> Vec<Letter> {
        self.shared.taken.lock().unwrap().clone()
    }

    /// As if it had taken none yet.
    pub fn forget(&self) {
        self.shared.taken.lock().unwrap().clear();
    }

    /// Contents that it got, taken or not.
    pub fn contents(&self) -> usize {
        self.shared.contents.load(Ordering::Relaxed)
    }

    /// Bytes that it said without an end.
    pub fn said(&self) -> usize {
        self.shared.said.load(Ordering::Relaxed)
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Conversation {
    shared: Arc<Shared>,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    recipient: String,
}

impl Conversation {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        let (reader, writer) = stream.into_split();
        Self { shared, reader: BufReader::new(reader), writer, recipient: String::new() }
    }

    async fn run(mut self) -> Option<()> {
        self.answer(Step::Greeting, "220 hostile").await?;
        loop {
            let line = self.line().await?;
            match line.split([' ', ':']).next().unwrap_or_default().to_uppercase().as_str() {
                "EHLO" => self.answer(Step::Hello, "250-hostile\r\n250-SMTPUTF8\r\n250 8BITMIME").await?,
                "MAIL" => self.answer(Step::Sender, "250 ok").await?,
                "RCPT" => {
                    self.recipient = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    self.answer(Step::Recipient, "250 ok").await?;
                }
                "DATA" => {
                    self.answer(Step::Data, "354 go on").await?;
                    let content = self.content().await?;
                    self.shared.contents.fetch_add(1, Ordering::Relaxed);
                    self.answer(Step::Content, "250 taken").await?;
                    let to = self.recipient.clone();
                    self.shared.taken.lock().unwrap().push(Letter { to, content });
                }
                "QUIT" => {
                    self.say("221 bye\r\n").await?;
                    return None;
                }
                _ => self.say("250 ok\r\n").await?,
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).await.ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    }

    async fn content(&mut self) -> Option<String> {
        let mut content = String::new();
        loop {
            let line = self.line().await?;
            if line == "." {
                return Some(content);
            }
            content.push_str(&line);
            content.push('\n');
        }
    }

    async fn say(&mut self, text: &str) -> Option<()> {
        self.writer.write_all(text.as_bytes()).await.ok()
    }

    /// The answer, or what is wrong; `None` ends the conversation.
    async fn answer(&mut self, step: Step, right: &str) -> Option<()> {
        let wrong = *self.shared.wrong.lock().unwrap();
        let hits = !step.knows_recipient() || self.recipient.starts_with("bad");
        let wrong = wrong.filter(|(at, _)| *at == step && hits).map(|(_, wrong)| wrong);
        match wrong {
            None => self.say(&format!("{right}\r\n")).await,
            Some(Wrong::Answer(code)) => {
                self.say(&format!("{code} no\r\n")).await?;
                // A refused step is over; the content's answer must not count as taken.
                if code == 421 || matches!(step, Step::Greeting | Step::Data | Step::Content) { None } else { Some(()) }
            }
            Some(Wrong::Hang) => std::future::pending().await,
            Some(Wrong::HangUp) => None,
            Some(Wrong::EndlessLine) => self.endless("2").await,
            Some(Wrong::EndlessLines) => self.endless("250-more\r\n").await,
        }
    }

    async fn endless(&mut self, part: &str) -> Option<()> {
        let block = part.repeat(8_192);
        loop {
            self.say(&block).await?;
            self.shared.said.fetch_add(block.len(), Ordering::Relaxed);
        }
    }
}
