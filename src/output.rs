//! What commands print: progress; what they read, and what they write.

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingest::durable;
use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Stdout, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
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

    /// The bar itself, for whoever takes it away when the progress is elsewhere.
    #[must_use]
    pub fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A file's bytes; `-` is standard input.
///
/// # Errors
/// When the file can't be opened.
pub fn open(path: &Path) -> anyhow::Result<File> {
    if path == Path::new("-") {
        let own = std::io::stdin().as_fd().try_clone_to_owned().context("failed to open standard input")?;
        return Ok(own.into());
    }
    File::open(path).with_context(|| format!("failed to open {}", path.display()))
}

/// Where an export goes: a file, or standard output.
pub enum ExportFile {
    /// The file, and its path.
    File(BufWriter<File>, PathBuf),
    /// Standard output.
    Stdout(BufWriter<Stdout>),
}

impl ExportFile {
    /// Makes the file, over one that is there.
    ///
    /// # Errors
    /// Names it.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout(BufWriter::new(std::io::stdout()))) };
        let file = File::create(path).with_context(|| format!("failed to make {}", path.display()))?;
        Ok(Self::File(BufWriter::new(file), path.to_owned()))
    }

    /// Writes more of it.
    ///
    /// # Errors
    /// The system's.
    pub fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::File(file, _) => file.write_all(bytes),
            Self::Stdout(out) => out.write_all(bytes),
        }
    }

    /// Ends it: whoever deletes the data after this has the export.
    ///
    /// # Errors
    /// Names the file.
    pub fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::File(mut file, path) => {
                let ended = file.flush().and_then(|()| durable::finish(file.get_ref(), &path));
                ended.with_context(|| format!("failed to write {}", path.display()))
            }
            Self::Stdout(mut out) => Ok(out.flush()?),
        }
    }
}
