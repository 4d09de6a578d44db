//! Files and directories that survive a power cut. Everything whose being there is promised is made here.
//!
//! A file's bytes are on the disk when it was synced; its name is when its directory was, and the directory's own when the
//! one above was. Nothing is acknowledged before all three. `tests/durability.rs` keeps other places from making files
//! by themselves, and `tests/power_cut/` cuts the power.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Directories remembered as synced, some 100 bytes each; then all are forgotten, and synced once more.
const REMEMBERED_DIRS: usize = 4_096;

/// Directories whose names are on the disk for sure.
static SYNCED: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);

/// Makes a directory and those above it that are missing, of mode 700, and syncs their names. One that is there already may
/// have been made by a process that was killed before it synced: its name is synced too, once a process.
///
/// # Errors
/// The system's.
pub fn create_dirs(path: &Path) -> io::Result<()> {
    let is_there = path.is_dir();
    if is_there && SYNCED.lock().unwrap_or_else(PoisonError::into_inner).contains(path) {
        return Ok(());
    }
    if is_there {
        // Whoever can't read the directory above, as that of a volume, didn't make this one.
        if let Err(error) = sync_dir(parent_of(path)) {
            tracing::debug!(path = %path.display(), %error, "failed to sync the name of a directory that was there");
        }
    } else {
        let parent = parent_of(path);
        if path.parent().is_some() {
            create_dirs(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => return Err(error),
            _ => sync_dir(parent)?,
        }
    }
    let mut synced = SYNCED.lock().unwrap_or_else(PoisonError::into_inner);
    if synced.len() >= REMEMBERED_DIRS {
        synced.clear();
    }
    synced.insert(path.to_owned());
    Ok(())
}

/// Where a relative path of one part is, too.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Syncs the names in a directory.
///
/// # Errors
/// The system's.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Gives a file that was synced the name that it stays under. The old name may come back after a power cut, the new one is
/// there for good.
///
/// # Errors
/// The system's; then it has either name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(parent_of(to))
}

/// Writes a file of mode 600 that is there whole or not at all, over one of that name. Only one may be written at a time.
///
/// # Errors
/// The system's; then the file is as it was before.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes).and_then(|()| file.sync_all())?;
    rename(&unfinished, path)
}

/// Ends a file that was written under its own name: bytes and name are synced. A pipe or a terminal has neither.
///
/// # Errors
/// The system's.
pub fn finish(file: &File, path: &Path) -> io::Result<()> {
    if !file.metadata()?.is_file() {
        return Ok(());
    }
    file.sync_all()?;
    sync_dir(parent_of(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn directories_are_made_where_they_are_missing_and_again_when_they_are_gone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let deep = dir.path().join("a/b/c");
        for _ in 0..2 {
            create_dirs(&deep).expect("made");
            create_dirs(&deep).expect("there");
            assert_eq!(fs::metadata(&deep).expect("there").permissions().mode() & 0o777, 0o700);
            fs::remove_dir_all(dir.path().join("a")).expect("deleted");
        }
        fs::write(dir.path().join("file"), "").expect("written");
        assert!(create_dirs(&dir.path().join("file")).is_err(), "a file is no directory");
        assert!(create_dirs(&dir.path().join("file/below")).is_err());
    }

    #[test]
    fn a_file_is_written_over_whole() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("file");
        fs::write(dir.path().join("file.new"), "what a crash left, and longer").expect("written");
        write(&path, b"first").expect("written");
        write(&path, b"second").expect("written");
        assert_eq!(fs::read(&path).expect("readable"), b"second");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1);
    }
}
