//! When the write-ahead log is copied into the database. [`Checkpoints`] counts its pages by SQLite's own hook, [`Plan`]
//! says when a copy is due. Start at [`Checkpoints::after_commit`].
//!
//! The file's size says nothing: SQLite writes it again from its beginning after a copy and leaves it as long as it was. What
//! counts is how many pages of it are in use, which falls when it begins anew. It begins anew at the first commit after all
//! of it was copied, unless a reader still looks at it then; so a copy that changed nothing is not tried again at every
//! commit.

use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Pages of WAL at which it is copied; 16 MiB keep reads fast and the copy rare.
pub const WAL_PAGES_MAX: i64 = 4_000;
/// Pages that come before the next try, when a reader kept the WAL from beginning anew: a quarter of the work at most is
/// done twice.
const RETRY_PAGES: i64 = WAL_PAGES_MAX / 4;
/// Pages from which a copy waits for readers, which may follow each other so closely that the WAL never begins anew by itself.
/// It then grows only for as long as one reader reads.
const WAL_PAGES_WAIT: i64 = 4 * WAL_PAGES_MAX;
/// Pages before the next wait, so that one long reader costs everyone this pause every 16 MiB and no more.
const WAIT_AGAIN_PAGES: i64 = WAL_PAGES_MAX;
/// So long the writer waits for readers, and with it everyone who writes.
const READERS_WAIT_MAX: Duration = Duration::from_millis(50);
/// For a lock that no reader holds; what rusqlite sets when it opens.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What of the WAL's file stays after a long reader made it longer: twice what it holds when all is well, so that it isn't cut
/// and made longer again all the time.
pub(super) const WAL_BYTES_KEPT: i64 = 2 * WAL_PAGES_MAX * 4_120;

/// How the WAL is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copying {
    /// What no reader is in the way of. Waits for nobody.
    Passing,
    /// All, waiting for readers for a moment; then the next commit begins anew.
    Waiting,
    /// The same, and the file is emptied.
    Emptying,
}

/// When a copy is due, by the pages in use after each commit.
#[derive(Debug)]
struct Plan {
    seen: i64,
    next: i64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { seen: 0, next: WAL_PAGES_MAX }
    }
}

impl Plan {
    fn after_commit(&mut self, pages: i64) -> Option<Copying> {
        if pages < self.seen {
            // It has begun anew.
            self.next = WAL_PAGES_MAX;
        }
        self.seen = pages;
        if pages < self.next {
            return None;
        }
        let (copy, step) =
            if pages < WAL_PAGES_WAIT { (Copying::Passing, RETRY_PAGES) } else { (Copying::Waiting, WAIT_AGAIN_PAGES) };
        self.next = pages + step;
        Some(copy)
    }
}

/// The copies of one write connection.
pub struct Checkpoints {
    pages: Arc<AtomicI64>,
    plan: Plan,
}

impl Checkpoints {
    /// Counts the connection's pages from here on. Setting `wal_autocheckpoint` later would end that.
    ///
    /// # Errors
    /// SQLite's.
    pub fn watch(connection: &mut Connection) -> rusqlite::Result<Self> {
        let pages = Arc::new(AtomicI64::new(0));
        let counted = Arc::clone(&pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, in_use| {
            counted.store(i64::from(in_use), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { pages, plan: Plan::default() })
    }

    /// Copies what is due.
    ///
    /// # Errors
    /// SQLite's. The WAL grows until the next try.
    pub fn after_commit(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        match self.plan.after_commit(self.pages.load(Ordering::Relaxed)) {
            Some(copy) => run(connection, copy).map(drop),
            None => Ok(()),
        }
    }

    /// Copies all and empties the file; false when readers were in the way, who were waited for a moment.
    ///
    /// # Errors
    /// SQLite's.
    pub fn empty(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let emptied = run(connection, Copying::Emptying)?;
        if emptied {
            self.pages.store(0, Ordering::Relaxed);
        }
        Ok(emptied)
    }
}

/// Whether no reader was in the way.
fn run(connection: &Connection, copy: Copying) -> rusqlite::Result<bool> {
    let mode = match copy {
        Copying::Passing => "PASSIVE",
        Copying::Waiting => "RESTART",
        Copying::Emptying => "TRUNCATE",
    };
    connection.busy_timeout(READERS_WAIT_MAX)?;
    let outcome = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok((row.get::<_, i64>(0)? != 0, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let (busy, pages, copied) = outcome?;
    metrics::counter!("parlance_checkpoints_total").increment(1);
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    metrics::gauge!("parlance_wal_pages").set(pages as f64);
    Ok(!busy && copied == pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits of `pages_a_commit` pages until so many were written; `restarts` says whether the WAL begins anew at the
    /// first commit after a copy. Gives the copies that passed and those that waited.
    fn copies(pages_a_commit: i64, written: i64, restarts: impl Fn(i64) -> bool) -> (i64, i64) {
        let mut plan = Plan::default();
        let (mut in_use, mut copied, mut passing, mut waiting) = (0, false, 0, 0);
        for commit in 1..=written / pages_a_commit {
            in_use = if copied && restarts(commit) { 0 } else { in_use } + pages_a_commit;
            let copy = plan.after_commit(in_use);
            copied = copy.is_some();
            match copy {
                Some(Copying::Waiting) => waiting += 1,
                Some(_) => passing += 1,
                None => {}
            }
        }
        (passing, waiting)
    }

    /// The copies follow the pages and not the commits, however small commits are.
    #[test]
    fn a_copy_every_so_many_pages() {
        for pages_a_commit in [1, 2, 3, 10, 100, 1_000] {
            let (passing, waiting) = copies(pages_a_commit, 400_000, |_| true);
            assert_eq!(waiting, 0);
            assert!((98..=100).contains(&passing), "{passing} copies of {pages_a_commit} pages");
        }
    }

    /// A reader that keeps an old moment, or readers without a pause: tries stay rare, and later ones wait.
    #[test]
    fn a_reader_in_the_way_is_no_reason_to_copy_at_every_commit() {
        let (passing, waiting) = copies(3, 400_000, |_| false);
        assert!((10..=14).contains(&passing), "{passing}");
        assert!((90..=100).contains(&waiting), "{waiting}");
        // One that begins anew at every other chance costs a quarter more.
        let (passing, waiting) = copies(3, 400_000, |commit| commit.wrapping_mul(2_654_435_761) >> 9 & 1 == 0);
        assert!((80..=200).contains(&passing) && waiting == 0, "{passing} {waiting}");
    }
}
