//! How much room the disk has. Uploads, tenants' own rows and imports stop while less than a reserve is free, so that the
//! log, which everything else needs, goes on long after them; when half of the reserve is gone, new conversations of
//! visitors stop too. Messages in those there are go on to the end.

use std::fmt;
use std::io;

const GIB: u64 = 1 << 30;

/// A file system's size and what is free of it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// That this process may still write.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// Asks for the space there is. It costs a system call, so it's asked each time.
pub type ReadSpace = Box<dyn Fn() -> io::Result<Space> + Send + Sync>;

/// How much is to stay free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reserve {
    /// 5 % of the disk, at least 1 GiB and at most 16 GiB; of a disk under 4 GiB a quarter.
    #[default]
    Share,
    /// So many bytes; 0 is none.
    Bytes(u64),
}

impl Reserve {
    /// In bytes, of a disk of this size.
    #[must_use]
    pub fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Share => (total / 20).clamp(GIB, 16 * GIB).min(total / 4),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// Files, rows, imports: much at once, and nothing that can't wait.
    Bulk,
    /// A conversation that begins.
    Conversation,
}

/// There is too little room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowDisk {
    /// For what.
    pub writes: Writes,
}

impl fmt::Display for LowDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.writes {
            Writes::Bulk => "this server's disk is nearly full: files, rows and imports wait until there is room",
            Writes::Conversation => "this server's disk is nearly full: no new conversations begin until there is room",
        })
    }
}

/// The disk of the data directory.
pub struct Disk {
    space: ReadSpace,
    reserve: Reserve,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("reserve", &self.reserve).finish_non_exhaustive()
    }
}

impl Disk {
    /// A disk that `space` asks for.
    #[must_use]
    pub fn new(space: ReadSpace, reserve: Reserve) -> Self {
        Self { space, reserve }
    }

    /// One of which nothing is kept free.
    #[must_use]
    pub fn unwatched() -> Self {
        Self::new(Box::new(|| Ok(Space { free: u64::MAX, total: u64::MAX })), Reserve::Bytes(0))
    }

    /// Whether there is room for so many bytes of this. A disk that doesn't say how full it is has room: the write itself
    /// finds out.
    ///
    /// # Errors
    /// When less than the reserve would be left.
    pub fn room(&self, writes: Writes, bytes: u64) -> Result<(), LowDisk> {
        let space = match (self.space)() {
            Ok(space) => space,
            Err(error) => {
                tracing::warn!(%error, "failed to ask how full the disk is");
                return Ok(());
            }
        };
        let reserve = self.reserve.bytes(space.total);
        let kept = match writes {
            Writes::Bulk => reserve,
            Writes::Conversation => reserve / 2,
        };
        if space.free >= kept.saturating_add(bytes) || kept == 0 {
            return Ok(());
        }
        metrics::counter!("parlance_disk_refused_total").increment(1);
        tracing::warn!(free = space.free, reserve, ?writes, "the disk is nearly full: refused a write");
        Err(LowDisk { writes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_reserve_fits_its_disk() {
        let share = |total_gib: u64| Reserve::Share.bytes(total_gib * GIB) / (GIB / 4);
        assert_eq!([share(1), share(2), share(4), share(10)], [1, 2, 4, 4], "in quarters of a GiB");
        assert_eq!([share(40), share(200), share(1_000)], [8, 40, 64]);
        assert_eq!(Reserve::Bytes(5).bytes(1), 5);
    }

    /// As the disk fills, what can wait stops first.
    #[test]
    fn what_can_wait_stops_first() {
        let free = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&free);
        let space = move || Ok(Space { free: read.load(Ordering::Relaxed), total: 1_000 });
        let disk = Disk::new(Box::new(space), Reserve::Bytes(100));
        let room = |now: u64| {
            free.store(now, Ordering::Relaxed);
            (disk.room(Writes::Bulk, 10).is_ok(), disk.room(Writes::Conversation, 10).is_ok())
        };
        assert_eq!(
            [room(110), room(109), room(60), room(59)],
            [(true, true), (false, true), (false, true), (false, false)]
        );
        assert!(Disk::unwatched().room(Writes::Bulk, u64::MAX).is_ok());
        let mute = Disk::new(Box::new(|| Err(io::Error::other("mute"))), Reserve::Share);
        assert_eq!(mute.room(Writes::Bulk, u64::MAX), Ok(()));
    }
}
