//! The lines that were not imported: counted all, listed and stored to a bound, stored in parts as they come.

use super::Quarantined;
use ingest::id::EventId;
use ingest::time::Timestamp;

/// Lines that an answer lists and the table keeps, of one import; the others are counted.
pub const LISTED_MAX: usize = 1_000;
/// Lines that are stored at a time.
const PART: usize = 100;
/// Lines that the table keeps, of all imports; the oldest go.
const STORED_MAX: i64 = 100_000;
/// Bytes of the words about a line: they may name a field that the line itself made up.
const DETAIL_BYTES_MAX: usize = 200;

/// What an import has found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    listed: Vec<Quarantined>,
    total: u64,
    stored: usize,
}

impl Quarantine {
    /// One more. Gives the lines that are to be stored now, if it's time.
    pub(super) fn add(&mut self, mut bad: Quarantined) -> Option<Vec<Quarantined>> {
        self.total += 1;
        if self.listed.len() == LISTED_MAX {
            return None;
        }
        for text in std::iter::once(&mut bad.detail).chain(&mut bad.field) {
            text.truncate(text.floor_char_boundary(DETAIL_BYTES_MAX));
        }
        self.listed.push(bad);
        (self.listed.len() - self.stored == PART).then(|| self.part())
    }

    /// What isn't stored yet.
    pub(super) fn part(&mut self) -> Vec<Quarantined> {
        let part = self.listed[self.stored..].to_vec();
        self.stored = self.listed.len();
        part
    }

    /// Those that are listed, by line, and how many there are when that's not all.
    pub(super) fn finish(mut self) -> (Vec<Quarantined>, Option<u64>) {
        self.listed.sort_by_key(|bad| bad.line);
        let cut = self.total > self.listed.len() as u64;
        (self.listed, cut.then_some(self.total))
    }
}

/// Stores a part of an import's.
pub(super) fn store(connection: &rusqlite::Connection, import: EventId, part: &[Quarantined]) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS quarantine (
             import TEXT NOT NULL, line INTEGER NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL, at INTEGER NOT NULL
         ) STRICT",
    )?;
    let (import, at) = (import.to_string(), Timestamp::now().0);
    let mut insert = connection.prepare_cached("INSERT INTO quarantine VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for bad in part {
        insert.execute((&import, bad.line.cast_signed(), bad.code.as_ref(), &bad.detail, at))?;
    }
    let old = "DELETE FROM quarantine WHERE rowid <= (SELECT max(rowid) FROM quarantine) - ?1";
    connection.prepare_cached(old)?.execute([STORED_MAX]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(line: u64) -> Quarantined {
        Quarantined { line, field: Some("é".repeat(1_000)), code: "not_json".into(), detail: "é".repeat(1_000) }
    }

    /// However many lines are bad, what is listed and what is stored are the first of them, and all are counted.
    #[test]
    fn a_million_bad_lines_are_a_number() {
        let connection = rusqlite::Connection::open_in_memory().expect("a database");
        let mut quarantine = Quarantine::default();
        for line in (1..=1_000_000).rev() {
            if let Some(part) = quarantine.add(bad(line)) {
                assert_eq!(part.len(), PART);
                store(&connection, EventId::fresh(), &part).expect("stored");
            }
        }
        assert!(quarantine.part().is_empty());
        let (listed, total) = quarantine.finish();
        assert_eq!((listed.len(), total), (LISTED_MAX, Some(1_000_000)));
        assert!(listed.is_sorted_by_key(|bad| bad.line) && listed.iter().all(|bad| bad.detail.len() == 200));
        let stored = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("counted");
        assert_eq!(stored("SELECT count(*) FROM quarantine"), 1_000);
    }

    #[test]
    fn the_table_keeps_the_newest() {
        let connection = rusqlite::Connection::open_in_memory().expect("a database");
        let part: Vec<_> = (0..50_000).map(bad).collect();
        (0..3).for_each(|_| store(&connection, EventId::fresh(), &part).expect("stored"));
        let count: i64 =
            connection.query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0)).expect("counted");
        assert_eq!(count, STORED_MAX);
    }

    #[test]
    fn a_few_are_listed_whole() {
        let mut quarantine = Quarantine::default();
        assert!(quarantine.add(bad(7)).is_none());
        assert_eq!(quarantine.part().len(), 1);
        assert_eq!(quarantine.finish().1, None);
    }
}
