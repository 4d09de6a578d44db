//! Pages of rows: the one way in which lists are read, bounded by number, by bytes, and by what is looked at.
//!
//! SQLite gives a row at a time, so a page holds what it takes and no more, whatever its rows weigh. Where a page ends its
//! last key says where the next one goes on. Start at [`read`]; [`PageFill`] is for lists that aren't one statement.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row};

/// Bytes of a page, as its rows are stored and again as its items are written; a larger one is a page by itself.
pub const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of rows that are looked at for a page, those that aren't in the list included. A list of which most is passed over
/// has short pages, or empty ones, and goes on.
const LOOKED_AT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a row counts for besides its bytes.
const ROW_BYTES: usize = 64;

/// Some of a list: items by their keys, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct RowPage<K, T> {
    /// Each with its key.
    pub items: Vec<(K, T)>,
    /// The list may go on: after this key.
    pub next: Option<K>,
}

impl<K, T> RowPage<K, T> {
    /// The same page of what is made from each item.
    ///
    /// # Errors
    /// The first that `make` gives.
    pub fn try_map<U, E>(self, mut make: impl FnMut(T) -> Result<U, E>) -> Result<RowPage<K, U>, E> {
        let items = self.items.into_iter().map(|(key, item)| Ok((key, make(item)?)));
        Ok(RowPage { items: items.collect::<Result<_, E>>()?, next: self.next })
    }

    /// The items without their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.iter().map(|(_, item)| item)
    }

    /// The items without their keys, taken out.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = T> {
        self.items.into_iter().map(|(_, item)| item)
    }
}

/// A page that is being filled.
#[derive(Debug)]
pub struct PageFill<K, T> {
    limit: usize,
    bytes: usize,
    looked_at: usize,
    last: Option<K>,
    items: Vec<(K, T)>,
    is_full: bool,
}

impl<K: Clone, T> PageFill<K, T> {
    /// A page of at most `limit` items; at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), bytes: 0, looked_at: 0, last: None, items: Vec::new(), is_full: false }
    }

    /// The row that comes next, of so many bytes; `None` for one that isn't in the list. `false` when the page ends before
    /// it: then no other row may follow.
    pub fn add(&mut self, key: K, item: Option<T>, bytes: usize) -> bool {
        let looked_at = self.looked_at + bytes + ROW_BYTES;
        let begun = self.last.is_some();
        let filled = self.items.len() >= self.limit || self.bytes + bytes > PAGE_BYTES_MAX;
        let no_room = item.is_some() && filled && !self.items.is_empty();
        if no_room || (begun && looked_at > LOOKED_AT_BYTES_MAX) {
            self.is_full = true;
            return false;
        }
        self.looked_at = looked_at;
        if let Some(item) = item {
            self.bytes += bytes;
            self.items.push((key.clone(), item));
        }
        self.last = Some(key);
        true
    }

    /// Nothing is in it yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The page, when it's full or there are no more rows.
    #[must_use]
    pub fn done(self) -> RowPage<K, T> {
        RowPage { items: self.items, next: self.last.filter(|_| self.is_full) }
    }
}

/// Reads a page of at most `limit` items of a statement. `look` gives a row's key, and the item unless it isn't in the list; rows
/// come in the order of their keys.
///
/// # Errors
/// SQLite's, and those of `look`.
pub fn read<K: Clone, T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    limit: usize,
    mut look: impl FnMut(&Row<'_>) -> rusqlite::Result<(K, Option<T>)>,
) -> rusqlite::Result<RowPage<K, T>> {
    let mut page = PageFill::new(limit);
    let mut statement = connection.prepare_cached(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        let bytes = bytes_of(row, columns)?;
        let (key, item) = look(row)?;
        if !page.add(key, item, bytes) {
            break;
        }
    }
    Ok(page.done())
}

/// The texts and blobs of a row.
fn bytes_of(row: &Row<'_>, columns: usize) -> rusqlite::Result<usize> {
    let mut bytes = 0;
    for column in 0..columns {
        bytes += match row.get_ref(column)? {
            ValueRef::Text(text) | ValueRef::Blob(text) => text.len(),
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    /// Rows of these sizes; one of an odd size isn't in the list.
    fn list(sizes: &[usize]) -> Connection {
        let connection = Connection::open_in_memory().expect("a database");
        connection.execute("CREATE TABLE list (id INTEGER PRIMARY KEY, body TEXT NOT NULL)", ()).expect("a table");
        for size in sizes {
            connection.execute("INSERT INTO list (body) VALUES (?1)", ["x".repeat(*size)]).expect("a row");
        }
        connection
    }

    fn page(connection: &Connection, after: i64, limit: usize) -> RowPage<i64, usize> {
        let look = |row: &Row<'_>| {
            let size = row.get::<_, String>(1)?.len();
            Ok((row.get(0)?, (size % 2 == 0).then_some(size)))
        };
        read(connection, "SELECT id, body FROM list WHERE id > ?1 ORDER BY id", [after], limit, look).expect("a page")
    }

    /// All pages, each with its sizes.
    fn walk(connection: &Connection, limit: usize) -> Vec<Vec<usize>> {
        let (mut pages, mut after) = (Vec::new(), 0);
        loop {
            let page = page(connection, after, limit);
            pages.push(page.values().copied().collect());
            let Some(next) = page.next else { return pages };
            assert!(next > after, "each page goes on");
            after = next;
        }
    }

    /// Small and large ones, larger than a page, in runs and alone, in the list and not: every walk gives each once, in order.
    #[test]
    fn all_pages_together_are_the_list_whatever_its_items_weigh() {
        let kinds = [2, 3, 40 * KIB, 40 * KIB + 1, 200 * KIB, 256 * KIB, 300 * KIB, 300 * KIB + 1, 5_000 * KIB + 1];
        let mut seed = 7_usize;
        for length in [0, 1, 2, 7, 60] {
            let sizes: Vec<usize> = (0..length)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    kinds[(seed >> 33) % kinds.len()]
                })
                .collect();
            let connection = list(&sizes);
            let expected: Vec<usize> = sizes.iter().copied().filter(|size| size % 2 == 0).collect();
            for limit in [1, 2, 7, 200] {
                let pages = walk(&connection, limit);
                assert_eq!(pages.concat(), expected, "limit {limit} of {sizes:?}");
                for page in pages {
                    assert!(page.len() <= limit);
                    assert!(page.len() <= 1 || page.iter().sum::<usize>() <= PAGE_BYTES_MAX, "{page:?}");
                }
            }
        }
    }

    #[test]
    fn a_page_ends_by_number_or_by_bytes_and_says_when_the_list_ends() {
        assert_eq!(walk(&list(&[2, 2, 2]), 2), [vec![2, 2], vec![2]]);
        assert_eq!(walk(&list(&[2, 2]), 2), [[2, 2]], "a full page that is the last one says so");
        assert_eq!(walk(&list(&[2, 3, 2, 3, 3]), 2), [[2, 2]], "what is passed over at the end is no further page");
        let large = 100 * KIB;
        assert_eq!(walk(&list(&[large; 5]), 200), [vec![large; 2], vec![large; 2], vec![large]]);
        assert_eq!(walk(&list(&[600 * KIB, 2, 600 * KIB]), 200), [vec![600 * KIB], vec![2], vec![600 * KIB]]);
    }

    /// What isn't in the list takes time too.
    #[test]
    fn a_page_is_over_when_much_was_looked_at() {
        let pages = walk(&list(&[100 * KIB + 1; 100]), 200);
        assert_eq!(pages, vec![Vec::<usize>::new(); 3]);
        let many = walk(&list(&[3; 100_000]), 200);
        assert!((2..4).contains(&many.len()), "{} pages", many.len());
    }
}
