//! The bytes of files that were sent in conversations: `files/` in the data directory, each sealed under its visitor's key.
//!
//! A file is received into `files/incoming/`, synced, and durably moved to its id's name before the event that names it is
//! submitted; so an accepted event always has its bytes. What has no event (it was refused, the server was killed) is
//! an orphan, and [`prune`] deletes it. [`kinds`] decides what a file is, [`names`] what it may be called.

pub mod kinds;
pub mod names;

use crate::app::App;
use crate::limits::quotas::ByteQuota;
use crate::store::read;
use futures_util::{Stream, stream};
use ingest::durable;
use ingest::id::FileId;
use ingest::seal::SealError;
use ingest::seal::stream::{CHUNK_BYTES, FileCipher, TAG_BYTES};
use ingest::time::Timestamp;
use kinds::{Kind, Sniffer};
use ring::digest::{Context, SHA256};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

/// Bytes of a file.
pub const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Files received at once; each holds some 200 KiB of memory, never the whole file.
const UPLOADS_MAX: usize = 128;
/// Files received at once from one sender.
const UPLOADS_A_SENDER_MAX: usize = 4;
/// A file without an event that is older than this lost its request.
const ORPHAN_AFTER: Duration = Duration::from_secs(3_600);

/// A file couldn't be received.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// More than [`FILE_BYTES_MAX`].
    #[error("the file has more than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// Not one of [`kinds`].
    #[error("files of this type can't be sent")]
    Type,
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// Writing failed. Retry later.
    #[error("failed to store a file: {0}")]
    Io(#[from] io::Error),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The directory of the files.
pub struct Files {
    dir: PathBuf,
    incoming: PathBuf,
    opened: SystemTime,
    under_way: Mutex<HashMap<Uuid, usize>>,
}

impl Files {
    /// Opens the directory, makes it if missing, and deletes what was half received when the server ended.
    ///
    /// # Errors
    /// The system's.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let incoming = dir.join("incoming");
        durable::create_dirs(&incoming)?;
        for entry in fs::read_dir(&incoming)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(Self { dir: dir.to_owned(), incoming, opened: SystemTime::now(), under_way: Mutex::default() })
    }

    /// A place among those who send; `None` when there are too many, or too many of this sender.
    pub fn place(self: &Arc<Self>, sender: Uuid) -> Option<Place> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let own = under_way.get(&sender).copied().unwrap_or(0);
        if own >= UPLOADS_A_SENDER_MAX || under_way.values().sum::<usize>() >= UPLOADS_MAX {
            return None;
        }
        under_way.insert(sender, own + 1);
        Some(Place { files: Arc::clone(self), sender })
    }

    /// Starts receiving a file.
    ///
    /// # Errors
    /// The system's.
    pub async fn receive(&self, id: FileId, cipher: FileCipher) -> Result<Upload, UploadError> {
        let path = self.incoming.join(id.to_string());
        let file = tokio::fs::File::create_new(&path).await?;
        Ok(Upload {
            file,
            half: Half(Some(path)),
            target: self.path(id),
            cipher,
            chunk: Vec::with_capacity(CHUNK_BYTES + TAG_BYTES),
            bytes: 0,
            hash: Context::new(&SHA256),
            sniffer: Sniffer::default(),
        })
    }

    /// A file's plain bytes, a chunk at a time; `size` is what was received.
    ///
    /// # Errors
    /// The system's; `InvalidData` when it isn't as long as it must be.
    pub async fn read(
        &self,
        id: FileId,
        cipher: FileCipher,
        size: u64,
    ) -> io::Result<impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static> {
        let file = tokio::fs::File::open(self.path(id)).await?;
        let left = file.metadata().await?.len();
        let chunks = size.div_ceil(CHUNK_BYTES as u64).max(1);
        if left != size + chunks * TAG_BYTES as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("file {id} was cut off or changed")));
        }
        Ok(stream::try_unfold((file, cipher, left), move |(mut file, mut cipher, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let length = left.min((CHUNK_BYTES + TAG_BYTES) as u64);
            let mut chunk = vec![0; usize::try_from(length).unwrap_or(CHUNK_BYTES + TAG_BYTES)];
            file.read_exact(&mut chunk).await?;
            let left = left - length;
            cipher.open(&mut chunk, left == 0).map_err(io::Error::other)?;
            Ok(Some((chunk, (file, cipher, left))))
        }))
    }

    /// Deletes a file's bytes; that there are none is fine.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, id: FileId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// An id is the only thing that a path is made from.
    fn path(&self, id: FileId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// All files: their ids, their bytes, and whether they are old enough to have their event by now.
    fn all(&self) -> io::Result<Vec<(FileId, u64, bool)>> {
        let before = (SystemTime::now() - ORPHAN_AFTER).max(self.opened);
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let about = entry.metadata()?;
            all.push((id, about.len(), about.modified()? < before));
        }
        Ok(all)
    }
}

/// A place among those who send a file.
pub struct Place {
    files: Arc<Files>,
    sender: Uuid,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = self.files.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = under_way.get_mut(&self.sender) {
            *own -= 1;
            if *own == 0 {
                under_way.remove(&self.sender);
            }
        }
    }
}

/// A half received file; deleted unless it becomes whole.
struct Half(Option<PathBuf>);

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(%error, "failed to delete a half received file; the next start does");
        }
    }
}

/// A file being received.
pub struct Upload {
    file: tokio::fs::File,
    half: Half,
    target: PathBuf,
    cipher: FileCipher,
    chunk: Vec<u8>,
    bytes: u64,
    hash: Context,
    sniffer: Sniffer,
}

/// A file that was received: it is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// What it is, by its content.
    pub kind: &'static Kind,
    /// Its bytes.
    pub size: u64,
    /// Hex of its hash, by which a repeated request is recognized.
    pub sha256: String,
}

impl Upload {
    /// Takes more of the file.
    ///
    /// # Errors
    /// See [`UploadError`]; nothing of the file stays then.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), UploadError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > FILE_BYTES_MAX {
            return Err(UploadError::TooLarge);
        }
        self.hash.update(bytes);
        while !bytes.is_empty() {
            // A full chunk waits until there is more: only then it's known not to be the last.
            if self.chunk.len() == CHUNK_BYTES {
                self.seal(false).await?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    async fn seal(&mut self, last: bool) -> Result<(), UploadError> {
        if !self.sniffer.take(&self.chunk) {
            return Err(UploadError::Type);
        }
        self.cipher.seal(&mut self.chunk, last)?;
        self.file.write_all(&self.chunk).await?;
        self.chunk.clear();
        Ok(())
    }

    /// Ends the file: synced, and at its place. `name` only chooses among kinds that the content can't tell apart.
    ///
    /// # Errors
    /// See [`UploadError`]; nothing of the file stays then.
    pub async fn finish(mut self, name: Option<&str>) -> Result<Received, UploadError> {
        if self.bytes == 0 {
            return Err(UploadError::Empty);
        }
        self.seal(true).await?;
        let kind = self.sniffer.kind(name).ok_or(UploadError::Type)?;
        self.file.sync_all().await?;
        let (half, target) = (self.half, self.target);
        let moved = tokio::task::spawn_blocking(move || settle(half, &target));
        moved.await.map_err(io::Error::other)??;
        Ok(Received { kind, size: self.bytes, sha256: hex::encode(self.hash.finish()) })
    }
}

/// Moves a whole file to its place, where it's found after a power cut too.
fn settle(mut half: Half, target: &Path) -> io::Result<()> {
    let Some(path) = &half.0 else { return Ok(()) };
    let moved = durable::rename(path, target);
    if moved.is_ok() || !path.exists() {
        half.0 = None;
    }
    moved
}

/// Deletes the bytes that no event names, and those of erased persons; gives how many files. What is kept is counted for
/// the tenants' quotas.
///
/// # Errors
/// The system's, or SQLite's.
pub async fn prune(app: &App) -> io::Result<usize> {
    let (files, pool, room) = (Arc::clone(&app.files), app.pool.clone(), Arc::clone(&app.limiter.room));
    let pruned = tokio::task::spawn_blocking(move || {
        let (mut pruned, mut kept) = (0, HashMap::new());
        for (id, bytes, settled) in files.all()? {
            match pool.read(|connection| read::file_keeper(connection, id)).map_err(io::Error::other)? {
                Some(tenant) => *kept.entry(*tenant.bytes()).or_default() += bytes,
                None if settled => {
                    files.remove(id)?;
                    pruned += 1;
                }
                None => {}
            }
        }
        room.usage.set_all(ByteQuota::TenantFilesKept, &kept, Timestamp::now().0);
        Ok(pruned)
    });
    pruned.await.map_err(io::Error::other)?
}
