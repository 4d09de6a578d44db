//! What commands print: progress, and lines from files.

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;
use futures_util::Stream;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read};
use std::path::Path;
use std::time::{Duration, Instant};

/// A bar on a terminal, a line a second elsewhere; on standard error.
pub struct Progress {
    what: &'static str,
    bar: ProgressBar,
    terminal: bool,
    said: Instant,
}

impl Progress {
    /// Progress of counting `what`.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} {msg} ({per_sec}, {elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self { what, bar, terminal, said: Instant::now() }
    }

    /// `done` so far.
    pub fn at(&mut self, done: u64) {
        if self.terminal {
            self.bar.set_position(done);
        } else if self.said.elapsed() >= Duration::from_secs(1) {
            self.said = Instant::now();
            eprintln!("{done} {}", self.what);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The lines of a file, unpacked if they are gzip; `-` is standard input. Reading runs on its own thread.
///
/// # Errors
/// When the file can't be opened.
pub fn lines(path: &Path) -> anyhow::Result<impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static> {
    let source: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("failed to open {}", path.display()))?)
    };
    let (send, receive) = tokio::sync::mpsc::channel(256);
    std::thread::Builder::new().name("lines".to_owned()).spawn(move || {
        let mut source = BufReader::new(source);
        let packed = source.fill_buf().is_ok_and(|start| start.starts_with(&[0x1f, 0x8b]));
        let source: Box<dyn BufRead> =
            if packed { Box::new(BufReader::new(MultiGzDecoder::new(source))) } else { Box::new(source) };
        send_lines(source, &send);
    })?;
    Ok(futures_util::stream::unfold(receive, async |mut receive| receive.recv().await.map(|line| (line, receive))))
}

fn send_lines(mut source: Box<dyn BufRead>, send: &tokio::sync::mpsc::Sender<std::io::Result<Vec<u8>>>) {
    // One byte over the limit is kept, so that the line is refused for its length and not for being cut.
    let limit = chat_api::import::LINE_BYTES_MAX as u64 + 1;
    loop {
        let mut line = Vec::new();
        let read = source.by_ref().take(limit).read_until(b'\n', &mut line);
        let outcome = match read {
            Ok(0) => return,
            Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 == limit => skip_line(&mut source).map(|()| line),
            Ok(_) => Ok(line),
            Err(error) => Err(error),
        };
        let failed = outcome.is_err();
        if send.blocking_send(outcome).is_err() || failed {
            return;
        }
    }
}

fn skip_line(source: &mut Box<dyn BufRead>) -> std::io::Result<()> {
    loop {
        let buffer = source.fill_buf()?;
        let (length, found) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        source.consume(length);
        if found {
            return Ok(());
        }
    }
}
