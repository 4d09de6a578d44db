//! Mail as `.eml` files in a directory: what an installation without a mail server has, and the console shows.

use super::message::{Mail, build};
use super::sink::SendError;
use ingest::durable;
use ingest::id::MailId;
use lettre::message::Mailbox;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The spool. A file is named by its mail, written whole and synced: a repeat overwrites itself.
///
/// Its files hold names and addresses in plain text: erasing a person [removes](Self::remove) the mails to them.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
    from: Mailbox,
}

impl Spool {
    pub(crate) fn new(dir: PathBuf, from: Mailbox) -> Self {
        Self { dir, from }
    }

    /// Where a mail lies, if it does.
    #[must_use]
    pub fn path(&self, id: MailId) -> PathBuf {
        path(&self.dir, id)
    }

    /// Deletes a mail; one that isn't there is fine.
    ///
    /// # Errors
    /// What the system said. Retry later.
    pub fn remove(&self, id: MailId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => durable::sync_dir(&self.dir),
        }
    }

    pub(crate) async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let bytes = build(&self.from, mail)?.formatted();
        let (dir, id) = (self.dir.clone(), mail.id);
        let written = tokio::task::spawn_blocking(move || write(&dir, id, &bytes)).await;
        let unreachable =
            |reason: String| SendError::Unreachable { reason: format!("the spool can't be written: {reason}") };
        written.map_err(|error| unreachable(error.to_string()))?.map_err(|error| unreachable(error.to_string()))
    }
}

fn path(dir: &Path, id: MailId) -> PathBuf {
    dir.join(format!("{id}.eml"))
}

fn write(dir: &Path, id: MailId, bytes: &[u8]) -> io::Result<()> {
    durable::create_dirs(dir)?;
    // One mail is never sent twice at once, and a leftover is overwritten.
    durable::write(&path(dir, id), bytes)
}
