//! The disk of the data directory: how full it is, and whether it takes a write.

use chat_api::limits::disk::Space;
use rustix::fs::statvfs;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The file that a probe writes.
const PROBE_FILE: &str = "disk.probe";
/// What it writes: a page of a file system.
const PROBE_BYTES: usize = 4_096;
/// A probe's outcome is good for this long: anyone may ask whether the server is ready.
const PROBE_LIFE: Duration = Duration::from_secs(1);

/// How full the file system of a path is.
///
/// # Errors
/// The system's.
pub fn space(path: &Path) -> io::Result<Space> {
    let about = statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
    Ok(Space { free: bytes(about.f_bavail), total: bytes(about.f_blocks) })
}

/// What all queries together may spill to the file system of a path: a twentieth of it, so that on a small disk too they
/// leave most of the reserve to the log. One that doesn't say how large it is doesn't bound it.
#[must_use]
pub fn spill_bytes(path: &Path) -> u64 {
    space(path).map_or(u64::MAX, |space| space.total / 20)
}

/// Writes and syncs a page in a directory, at most once a second.
pub struct DiskProbe {
    path: PathBuf,
    last: Mutex<Option<(Instant, Option<String>)>>,
}

impl DiskProbe {
    /// A probe of the file system of a directory.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join(PROBE_FILE), last: Mutex::default() }
    }

    /// What is wrong with writing there, if anything is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, problem)) = &*last
            && at.elapsed() < PROBE_LIFE
        {
            return problem.clone();
        }
        let problem = self.write().err().map(|error| format!("failed to write to the data directory: {error}"));
        *last = Some((Instant::now(), problem.clone()));
        problem
    }

    /// Not over what is there: that needs no room.
    fn write(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::create_new(&self.path)?;
        // Not zeros, which some file systems don't keep.
        let written = file.write_all(&[0xa5; PROBE_BYTES]).and_then(|()| file.sync_all());
        std::fs::remove_file(&self.path)?;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The real file system says what `df` says.
    #[test]
    fn a_file_system_has_room() {
        let dir = tempfile::tempdir().expect("temp dir");
        let space = space(dir.path()).expect("a file system");
        assert!(space.free > 0 && space.free <= space.total, "{space:?}");
        let df = std::process::Command::new("df").args(["-B1", "--output=size"]).arg(dir.path()).output().expect("df");
        let total: u64 =
            String::from_utf8_lossy(&df.stdout).split_whitespace().last().expect("a size").parse().expect("a number");
        assert_eq!(space.total, total);
        assert!(super::space(&dir.path().join("nothing")).is_err());
    }

    #[test]
    fn a_probe_writes_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(DiskProbe::new(dir.path()).problem(), None);
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
        let probe = DiskProbe::new(&dir.path().join("gone"));
        let problem = probe.problem().expect("nowhere to write");
        assert!(problem.starts_with("failed to write to the data directory"), "{problem}");
        assert_eq!(probe.problem(), Some(problem), "it isn't asked again at once");
    }
}
