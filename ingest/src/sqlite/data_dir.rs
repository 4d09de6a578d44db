//! The data directory: `parlance.db`, the lock, the key file, the head file.
//!
//! [`DataDir::open`] refuses what it can't trust: a directory another process holds, a database file that is shorter
//! than it says, a log that ends before what was acknowledged, a key file that isn't the database's. It never repairs by
//! dropping.

use crate::durable;
use crate::seal::{KeyFile, KeyFileError};
use crate::sqlite::checkpoint::WAL_BYTES_KEPT;
use crate::sqlite::key_check::{self, Verdict};
use crate::sqlite::log::{EmbeddedLog, HeadFile};
use crate::sqlite::pool::ReadPool;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Prepared statements kept by the writer's connection.
const STATEMENTS_MAX: usize = 128;
/// Bytes of a data directory's path: SQLite takes 512, those of `/parlance.db` and what it puts after it included.
const DIR_BYTES_MAX: usize = 492;
/// Page cache of the writer's connection.
const CACHE_KIB: i64 = 16 * 1024;

/// Why a data directory can't be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works on it.
    #[error("failed to open data directory {path}: process {pid} holds it; stop it, or use --server")]
    Locked {
        /// The directory.
        path: PathBuf,
        /// What the lock file says.
        pid: String,
    },
    /// It isn't there and wasn't to be made.
    #[error("failed to open data directory {path}: there is none; give --data-dir, or start the server once")]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// Its path is longer than SQLite's can be.
    #[error(
        "failed to open data directory: its path has {bytes} bytes, {DIR_BYTES_MAX} are the most that SQLite takes; give a shorter one"
    )]
    TooLong {
        /// Of the whole path.
        bytes: usize,
    },
    /// Reading or writing a file failed.
    #[error("failed to open {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database can't be read.
    #[error("failed to open {path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A file is not what it was when its contents were acknowledged.
    #[error("failed to open {path}: {reason}; restore the directory from a backup, nothing was changed")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The key file.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// There are data, and no key file: a new one could read nothing of them.
    #[error(
        "failed to open {path}: its key file {key_file} isn't there; give the right one with --key-file, or restore it from a backup; nothing was changed"
    )]
    NoKeys {
        /// The database.
        path: PathBuf,
        /// Where the key file should be.
        key_file: PathBuf,
    },
    /// The key file is another installation's.
    #[error(
        "failed to open {path}: {key_file} is not the key file that it was written with: {reason}; give the right one with --key-file, or restore it from a backup; nothing was changed"
    )]
    ForeignKeys {
        /// The database.
        path: PathBuf,
        /// The key file.
        key_file: PathBuf,
        /// What tells.
        reason: String,
    },
}

/// An open, locked data directory.
pub struct DataDir {
    path: PathBuf,
    key_path: PathBuf,
    // Held for as long as the directory is open; the system releases it when the process ends, however it ends.
    _lock: File,
}

impl DataDir {
    /// Opens the directory at `path` and locks it; with `create`, makes it.
    ///
    /// # Errors
    /// `Locked` names the process, `Missing` the path, `Damaged` the file and the place.
    pub fn open(path: &Path, key_file: Option<&Path>, create: bool) -> Result<Self, OpenError> {
        if !path.join("parlance.db").exists() && !create {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        Self::check_path(path)?;
        durable::create_dirs(path).map_err(io(path))?;
        // Absolute from here on: readers of its files don't all resolve a relative path in the same way.
        let path = fs::canonicalize(path).map_err(io(path))?;
        Self::check_path(&path)?;
        let path = path.as_path();
        let lock_path = path.join("parlance.lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                lock.read_to_string(&mut pid).map_err(io(&lock_path))?;
                return Err(OpenError::Locked { path: path.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::Io { path: lock_path, source }),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(io(&lock_path))?;
        keep_others_out(path);
        let key_path = key_file.map_or_else(|| path.join("parlance.keys"), Path::to_owned);
        Ok(Self { path: path.to_owned(), key_path, _lock: lock })
    }

    /// Whether a directory can be at `path`, there or not.
    ///
    /// # Errors
    /// `TooLong`; `Io` when a relative path leads nowhere.
    pub fn check_path(path: &Path) -> Result<(), OpenError> {
        let whole = std::path::absolute(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let bytes = whole.as_os_str().len();
        if bytes > DIR_BYTES_MAX { Err(OpenError::TooLong { bytes }) } else { Ok(()) }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `parlance.db`.
    #[must_use]
    pub fn database_path(&self) -> PathBuf {
        self.path.join("parlance.db")
    }

    /// The installation's keys; made before the database, never after it.
    fn key_file(&self) -> Result<KeyFile, OpenError> {
        let io = |source| OpenError::Io { path: self.key_path.clone(), source };
        let holds_data = self.holds_data();
        if holds_data && !self.key_path.try_exists().map_err(io)? {
            return Err(OpenError::NoKeys { path: self.database_path(), key_file: self.key_path.clone() });
        }
        Ok(KeyFile::open(&self.key_path, !holds_data)?)
    }

    /// Whether something was written here: there is a database, or what says that there was one.
    fn holds_data(&self) -> bool {
        let bytes = |file: &str| fs::metadata(self.path.join(file)).map_or(0, |about| about.len());
        ["parlance.db", "parlance.db-wal", "log.head"].into_iter().any(|file| bytes(file) > 0)
    }

    /// A pool of read-only connections.
    #[must_use]
    pub fn read_pool(&self) -> ReadPool {
        ReadPool::new(&self.database_path())
    }

    /// Opens the one write connection, the embedded log on it and the keys that belong to it, after the checks. The key file
    /// is made if there is nothing here yet.
    ///
    /// # Errors
    /// `Damaged` when the database was cut short or lost acknowledged events; `Keys`, `NoKeys` and `ForeignKeys` with the
    /// key file. Nothing was written then.
    pub fn open_database(&self) -> Result<(Connection, EmbeddedLog, KeyFile), OpenError> {
        let path = self.database_path();
        check_length(&path)?;
        let key_file = self.key_file()?;
        let sqlite = |source| OpenError::Sqlite { path: path.clone(), source };
        let connection = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .map_err(sqlite)?;
        let known = self.compare_keys(&connection, &key_file)?;
        configure(&connection).map_err(sqlite)?;
        if !known {
            key_check::keep(&connection, &key_file).map_err(sqlite)?;
        }
        let head = HeadFile::open(&self.path.join("log.head"))
            .map_err(|source| OpenError::Io { path: self.path.join("log.head"), source })?;
        let log = EmbeddedLog::open(&connection, self.read_pool(), head)
            .map_err(|reason| OpenError::Damaged { path: path.clone(), reason: reason.to_string() })?;
        Ok((connection, log, key_file))
    }

    /// Whether the database knows the key file already.
    fn compare_keys(&self, connection: &Connection, key_file: &KeyFile) -> Result<bool, OpenError> {
        let path = self.database_path();
        let sqlite = |source| OpenError::Sqlite { path: path.clone(), source };
        let at_close = |checkpoint: bool| {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !checkpoint).map_err(sqlite)
        };
        // A connection that is closed copies the WAL into the database; a refusal leaves both as they are.
        at_close(false)?;
        match key_check::compare(connection, key_file).map_err(sqlite)? {
            Verdict::Foreign(reason) => {
                Err(OpenError::ForeignKeys { path: path.clone(), key_file: key_file.path().to_owned(), reason })
            }
            verdict => at_close(true).map(|_| verdict == Verdict::Known),
        }
    }
}

/// What a data directory holds beside `parlance.*`.
const OWN: [&str; 7] = ["log.head", "disk.probe", "facts", "files", "sources", "spool", "tmp"];

/// Takes a data directory that others may enter, made by an earlier version or by hand, from everybody but its owner, with
/// all that is in it. One that belongs to somebody else stays as it is: who mounted it so knows why.
fn keep_others_out(path: &Path) {
    let open = |path: &Path| fs::symlink_metadata(path).map(|about| about.permissions().mode() & 0o077 != 0);
    if let Err(error) = open(path).and_then(|open| if open { tighten(path) } else { Ok(()) }) {
        let path = path.display();
        tracing::warn!(%path, %error, "failed to keep others out of the data directory; its modes stay as they are");
    }
}

/// The directory itself comes last: one that is closed was done to its end. Where somebody keeps other things too, only what
/// is ours is closed.
fn tighten(path: &Path) -> std::io::Result<()> {
    let mut all_own = true;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let own = name.to_str().is_some_and(|name| name.starts_with("parlance.") || OWN.contains(&name));
        all_own &= own;
        if own {
            close(&entry)?;
        }
    }
    if all_own { fs::set_permissions(path, fs::Permissions::from_mode(0o700)) } else { Ok(()) }
}

/// A file, or a directory with what is in it; links are left alone.
fn close(entry: &fs::DirEntry) -> std::io::Result<()> {
    let kind = entry.file_type()?;
    if kind.is_dir() {
        for entry in fs::read_dir(entry.path())? {
            close(&entry?)?;
        }
    }
    match (kind.is_dir(), kind.is_file()) {
        (true, _) => fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700)),
        (_, true) => fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o600)),
        _ => Ok(()),
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: every commit is synced before it is answered.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Deleted content is overwritten with zeros: a destroyed person key must not lie in a free page.
    connection.pragma_update(None, "secure_delete", true)?;
    // The writer checkpoints between batches, so that no commit pays for it unawares.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.execute_batch(key_check::TABLE)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS consumers (name TEXT PRIMARY KEY, next_offset INTEGER NOT NULL) WITHOUT ROWID, STRICT;
         CREATE TABLE IF NOT EXISTS person_keys (person BLOB PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID, STRICT;",
    )
}

/// SQLite notices a missing page only when it reads it; the header says how long the file was at the last checkpoint.
fn check_length(path: &Path) -> Result<(), OpenError> {
    let Ok(mut file) = File::open(path) else { return Ok(()) };
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let length = file.metadata().map_err(io)?.len();
    if length == 0 {
        return Ok(());
    }
    let mut header = [0_u8; 100];
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    file.read_exact(&mut header)
        .map_err(|_| damaged(format!("the file is cut off at byte {length}, inside its header")))?;
    if &header[..16] != b"SQLite format 3\0" {
        return Err(damaged("byte 0: not a SQLite database".to_owned()));
    }
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let pages = u64::from(u32::from_be_bytes([header[28], header[29], header[30], header[31]]));
    // A kill in the middle of a checkpoint leaves the header of the longer file and the missing pages in the WAL.
    let in_wal = if length < pages * page { pages_in_wal(path).map_err(io)? } else { HashSet::new() };
    if (length / page + 1..=pages).any(|number| !in_wal.contains(&number)) {
        return Err(damaged(format!("the file is cut off at byte {length}, its header says {}", pages * page)));
    }
    Ok(())
}

/// The numbers of the pages that the WAL beside the database has frames for.
fn pages_in_wal(database: &Path) -> std::io::Result<HashSet<u64>> {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    let mut pages = HashSet::new();
    let Ok(wal) = File::open(&path) else { return Ok(pages) };
    let length = wal.metadata()?.len();
    let mut header = [0_u8; 32];
    if length < 32 {
        return Ok(pages);
    }
    wal.read_exact_at(&mut header, 0)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let frame = 24 + number(&header[8..12]);
    let mut at = 32;
    while at + frame <= length {
        let mut start = [0_u8; 24];
        wal.read_exact_at(&mut start, at)?;
        // Frames of an earlier round of the WAL have other salts.
        if start[8..16] != header[16..24] {
            break;
        }
        pages.insert(number(&start[..4]));
        at += frame;
    }
    Ok(pages)
}

/// Where a consumer of the log goes on; 0 for a new one.
///
/// # Errors
/// SQLite's.
pub fn consumer_offset(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    use rusqlite::OptionalExtension as _;
    let offset = connection
        .prepare_cached("SELECT next_offset FROM consumers WHERE name = ?1")?
        .query_row([name], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(u64::try_from(offset.unwrap_or(0)).unwrap_or(0))
}

/// Stores where a consumer goes on, inside the writer's transaction.
///
/// # Errors
/// SQLite's.
pub fn set_consumer_offset(connection: &Connection, name: &str, next: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO consumers VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET next_offset = ?2")?
        .execute((name, i64::try_from(next).unwrap_or(i64::MAX)))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().expect("temp dir");
        let _held = DataDir::open(dir.path(), None, true).expect("opens");
        _held.open_database().expect("database");
        let error = DataDir::open(dir.path(), None, false).err().expect("locked").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    }

    /// A directory that others could read, of an earlier version or made by hand, is closed to them, and what is in it.
    #[test]
    fn others_are_kept_out() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("data");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        drop(DataDir::open(&path, None, true).expect("opens"));
        assert_eq!(mode(&path), 0o700, "a new one");
        fs::create_dir_all(path.join("spool")).expect("made");
        let mail = path.join("spool/a.eml");
        fs::write(&mail, "To: somebody").expect("written");
        for (path, mode) in [(&mail, 0o644), (&path.join("spool"), 0o755), (&path, 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        }
        drop(DataDir::open(&path, None, true).expect("opens"));
        assert_eq!((mode(&path), mode(&path.join("spool")), mode(&mail)), (0o700, 0o700, 0o600));
        // Where other things lie too, only what is ours is closed.
        let shared = dir.path().join("shared");
        fs::create_dir_all(shared.join("facts")).expect("made");
        fs::write(shared.join("notes"), "somebody's").expect("written");
        for (path, mode) in [(&shared.join("notes"), 0o644), (&shared.join("facts"), 0o755), (&shared, 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        }
        drop(DataDir::open(&shared, None, true).expect("opens"));
        let modes = (mode(&shared), mode(&shared.join("facts")), mode(&shared.join("notes")));
        assert_eq!(modes, (0o755, 0o700, 0o644));
    }

    /// The longest path that SQLite takes works, and one that is longer by a byte says why it doesn't.
    #[test]
    fn a_path_that_is_too_long_is_refused_with_its_reason() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = fs::canonicalize(dir.path()).expect("there");
        let path_of = |bytes: usize| {
            let mut path = root.clone();
            while bytes - path.as_os_str().len() > 201 {
                path.push("d".repeat(150));
            }
            path.join("d".repeat(bytes - path.as_os_str().len() - 1))
        };
        let longest = path_of(DIR_BYTES_MAX);
        DataDir::open(&longest, None, true).expect("opens").open_database().expect("a database");
        for bytes in [DIR_BYTES_MAX + 1, 700] {
            let error = DataDir::open(&path_of(bytes), None, true).err().expect("too long").to_string();
            assert!(error.contains(&format!("{bytes} bytes")) && error.contains("492"), "{error}");
        }
    }

    #[test]
    fn a_missing_directory_is_not_made_by_a_reader() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("nothing");
        assert!(matches!(DataDir::open(&path, None, false), Err(OpenError::Missing { .. })));
        assert!(!path.exists());
    }
}
