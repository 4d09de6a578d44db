//! What of the keys and texts of a database can be read, for `verify`: every one is opened.
//!
//! Nothing is reported of persons who were erased: their keys were destroyed, and a key from after that opens nothing from
//! before.

use crate::event::Event;
use crate::id::PersonId;
use crate::log::Offset;
use crate::payload::Payload;
use crate::seal::{KeyFile, PersonKey, Sealed, sealed_texts};
use lru::LruCache;
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Keys kept unwrapped in memory while texts are opened; about 200 bytes each.
const CACHED_KEYS_MAX: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");
/// Persons that a report names.
const NAMED: usize = 10;

/// Opens what is sealed, in the order of the log. Give it all events with [`event`](Self::event), then [`finish`](Self::finish).
pub struct ReadableCheck<'a> {
    connection: &'a Connection,
    key_file: &'a KeyFile,
    keys: LruCache<PersonId, Option<PersonKey>>,
    erased: HashSet<PersonId>,
    /// Persons whose stored key doesn't open.
    unreadable_keys: Vec<PersonId>,
    /// Texts that don't open, by whose they are: the first one's offset, and how many.
    unreadable_texts: BTreeMap<PersonId, (Offset, u64)>,
}

/// What can't be read, though nobody was erased.
#[derive(Debug, PartialEq, Eq)]
pub struct SealedDamage {
    /// The file that it was tried with.
    pub key_file: PathBuf,
    /// Persons whose stored key doesn't open.
    pub keys: Vec<PersonId>,
    /// Persons with texts that don't open: the first one's offset in the log, and how many.
    pub texts: Vec<(PersonId, Offset, u64)>,
}

impl<'a> ReadableCheck<'a> {
    /// A check of what `connection` sees, with the keys of `key_file`.
    #[must_use]
    pub fn new(connection: &'a Connection, key_file: &'a KeyFile) -> Self {
        Self {
            connection,
            key_file,
            keys: LruCache::new(CACHED_KEYS_MAX),
            erased: HashSet::new(),
            unreadable_keys: Vec::new(),
            unreadable_texts: BTreeMap::new(),
        }
    }

    /// Opens every text of the log's next event.
    ///
    /// # Errors
    /// SQLite's.
    pub fn event(&mut self, offset: Offset, event: &Event) -> rusqlite::Result<()> {
        if let Payload::VisitorErased(erased) = &event.payload {
            for visitor in std::iter::once(&erased.visitor_id).chain(&erased.merged) {
                let person = PersonId::from(*visitor);
                self.erased.insert(person);
                self.unreadable_texts.remove(&person);
            }
        }
        for sealed in sealed_texts(event) {
            if !self.opens(&sealed)? {
                let (_, count) = self.unreadable_texts.entry(sealed.person).or_insert((offset, 0));
                *count += 1;
            }
        }
        Ok(())
    }

    fn opens(&mut self, sealed: &Sealed) -> rusqlite::Result<bool> {
        if self.keys.get(&sealed.person).is_none() {
            let key = self.stored(sealed.person)?;
            self.keys.put(sealed.person, key);
        }
        Ok(match self.keys.get(&sealed.person) {
            Some(Some(key)) => key.open(sealed).is_ok(),
            _ => self.erased.contains(&sealed.person),
        })
    }

    fn stored(&self, person: PersonId) -> rusqlite::Result<Option<PersonKey>> {
        let wrapped: Option<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT wrapped FROM person_keys WHERE person = ?1")?
            .query_row([person.bytes()], |row| row.get(0))
            .optional()?;
        Ok(wrapped.and_then(|wrapped| self.key_file.unwrap_key(person, wrapped).ok()))
    }

    /// Opens every stored key, and gives what can't be read of all.
    ///
    /// # Errors
    /// SQLite's.
    pub fn finish(mut self) -> rusqlite::Result<Option<SealedDamage>> {
        let connection = self.connection;
        let mut statement = connection.prepare("SELECT person, wrapped FROM person_keys")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let person = PersonId(uuid::Uuid::from_bytes(row.get(0)?));
            if self.key_file.unwrap_key(person, row.get(1)?).is_err() {
                self.unreadable_keys.push(person);
            }
        }
        if self.unreadable_keys.is_empty() && self.unreadable_texts.is_empty() {
            return Ok(None);
        }
        let texts = self.unreadable_texts.into_iter().map(|(person, (first, count))| (person, first, count));
        Ok(Some(SealedDamage {
            key_file: self.key_file.path().to_owned(),
            keys: self.unreadable_keys,
            texts: texts.collect(),
        }))
    }
}

impl fmt::Display for SealedDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: u64 = self.texts.iter().map(|(_, _, count)| count).sum();
        write!(
            f,
            "{} keys of persons and {texts} texts can't be read with key file {}",
            self.keys.len(),
            self.key_file.display()
        )?;
        for person in self.keys.iter().take(NAMED) {
            write!(f, "; the key of person {person}")?;
        }
        for (person, offset, count) in self.texts.iter().take(NAMED) {
            write!(f, "; {count} texts of person {person}, the first at offset {offset}")?;
        }
        let more = self.keys.len().saturating_sub(NAMED) + self.texts.len().saturating_sub(NAMED);
        if more > 0 {
            write!(f, "; and {more} more")?;
        }
        write!(f, "; restore the key file or the directory from a backup")
    }
}
