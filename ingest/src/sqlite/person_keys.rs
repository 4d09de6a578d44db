//! Keys of persons: table `person_keys`, wrapped by the key file. Neither log nor view: rebuild keeps it.

use crate::id::PersonId;
use crate::seal::{KeyFile, PersonKey, SealError, Sealed, Text, Unreadable};
use crate::sqlite::pool::ReadPool;
use lru::LruCache;
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Keys kept unwrapped in memory; about 200 bytes each.
const CACHED_KEYS_MAX: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// A key that a command brings along; the writer stores it in the transaction of the command's events.
#[derive(Debug, Clone)]
pub struct NewPersonKey {
    /// Whose.
    pub person: PersonId,
    /// As stored.
    pub wrapped: Vec<u8>,
}

impl NewPersonKey {
    /// Stores it, unless the same key is there already.
    ///
    /// # Errors
    /// SQLite's; a constraint violation when the person has another key: the events must not be written then, nobody
    /// could read them. The caller retries and finds the stored key.
    pub fn store(&self, tx: &Connection) -> rusqlite::Result<()> {
        let inserted = tx
            .prepare_cached("INSERT OR IGNORE INTO person_keys VALUES (?1, ?2)")?
            .execute((self.person.bytes(), &self.wrapped))?;
        if inserted == 1 {
            return Ok(());
        }
        let stored: Vec<u8> = tx
            .prepare_cached("SELECT wrapped FROM person_keys WHERE person = ?1")?
            .query_row([self.person.bytes()], |row| row.get(0))?;
        if stored == self.wrapped {
            return Ok(());
        }
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CONSTRAINT);
        Err(rusqlite::Error::SqliteFailure(code, Some("this person has another key by now".to_owned())))
    }
}

/// A key can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PersonKeyError {
    /// Reading the table failed. Retry later.
    #[error("failed to read a person's key: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// There is no randomness, or a text can't be sealed. Never retry.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The stored key is no key of this key file: nothing can be written about this person. Never retry.
    #[error("failed to read the key of person {0}: it's damaged, or of another key file; restore it from a backup")]
    Damaged(PersonId),
}

/// What is stored of a person's key.
enum Stored {
    /// It opens and seals.
    Key(Arc<PersonKey>),
    /// Nothing.
    Missing,
    /// Something that is no key.
    Damaged,
}

/// A key that travels in commands; every concurrent command about the same person must seal under the same one.
struct Pending {
    key: Arc<PersonKey>,
    wrapped: Vec<u8>,
    carriers: usize,
    stored: bool,
    /// The person was erased while it was on its way: it must not be kept in memory.
    forgotten: bool,
}

/// Looks keys up, makes them, and forgets them.
pub struct PersonKeys {
    pool: ReadPool,
    key_file: Arc<KeyFile>,
    cache: Mutex<LruCache<PersonId, Arc<PersonKey>>>,
    pending: Mutex<HashMap<PersonId, Pending>>,
    /// How often keys were forgotten: a key that was read before must not be kept after.
    forgotten: AtomicU64,
}

impl PersonKeys {
    /// Keys of the database behind `pool`, wrapped by `key_file`.
    #[must_use]
    pub fn new(pool: ReadPool, key_file: Arc<KeyFile>) -> Self {
        let cache = Mutex::new(LruCache::new(CACHED_KEYS_MAX));
        Self { pool, key_file, cache, pending: Mutex::default(), forgotten: AtomicU64::new(0) }
    }

    fn stored(&self, person: PersonId) -> rusqlite::Result<Stored> {
        if let Some(key) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&person) {
            return Ok(Stored::Key(Arc::clone(key)));
        }
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let wrapped: Option<Vec<u8>> = self.pool.read(|connection| {
            connection
                .prepare_cached("SELECT wrapped FROM person_keys WHERE person = ?1")?
                .query_row([person.bytes()], |row| row.get(0))
                .optional()
        })?;
        let Some(wrapped) = wrapped else { return Ok(Stored::Missing) };
        let Ok(key) = self.key_file.unwrap_key(person, wrapped) else { return Ok(Stored::Damaged) };
        let key = Arc::new(key);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if self.forgotten.load(Ordering::Acquire) == forgotten {
            cache.put(person, Arc::clone(&key));
        }
        drop(cache);
        Ok(Stored::Key(key))
    }

    /// The key of a person, to write about them; `None` when they were erased or never known.
    ///
    /// # Errors
    /// See [`PersonKeyError`].
    pub fn get(&self, person: PersonId) -> Result<Option<Arc<PersonKey>>, PersonKeyError> {
        match self.stored(person)? {
            Stored::Key(key) => Ok(Some(key)),
            Stored::Missing => Ok(None),
            Stored::Damaged => Err(PersonKeyError::Damaged(person)),
        }
    }

    /// Forgets keys that were destroyed; call it after the commit that took them away.
    pub fn forget(&self, persons: &[PersonId]) {
        // In this order everywhere: whoever confirms a key sees that it was forgotten, or forgets it here.
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for person in persons {
            if let Some(entry) = pending.get_mut(person) {
                entry.forgotten = true;
            }
        }
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        self.forgotten.fetch_add(1, Ordering::Release);
        persons.iter().for_each(|person| drop(cache.pop(person)));
    }

    /// The key of a person, made if there is none. A made key comes with what the command must carry; each carrier
    /// calls [`confirm`](Self::confirm) once.
    ///
    /// # Errors
    /// See [`PersonKeyError`].
    pub fn get_or_create(&self, person: PersonId) -> Result<(Arc<PersonKey>, Option<NewPersonKey>), PersonKeyError> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = pending.get_mut(&person) {
            entry.carriers += 1;
            return Ok((Arc::clone(&entry.key), Some(NewPersonKey { person, wrapped: entry.wrapped.clone() })));
        }
        if let Some(key) = self.get(person)? {
            return Ok((key, None));
        }
        let key = Arc::new(PersonKey::generate(person)?);
        let wrapped = self.key_file.wrap(&key)?;
        pending.insert(
            person,
            Pending { key: Arc::clone(&key), wrapped: wrapped.clone(), carriers: 1, stored: false, forgotten: false },
        );
        Ok((key, Some(NewPersonKey { person, wrapped })))
    }

    /// Says that one command which carried this person's key is done: stored (`true`) or refused (`false`).
    pub fn confirm(&self, person: PersonId, stored: bool) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = pending.get_mut(&person) else { return };
        entry.stored |= stored;
        entry.carriers -= 1;
        // The last carrier takes the entry away: until then nobody may make another key for this person.
        if entry.carriers == 0
            && let Some(entry) = pending.remove(&person)
            && entry.stored
            && !entry.forgotten
        {
            self.cache.lock().unwrap_or_else(PoisonError::into_inner).put(person, entry.key);
        }
    }

    /// Opens a text. Whatever is wrong with it or its key is part of what comes back, never an error.
    ///
    /// # Errors
    /// SQLite's, when the keys can't be read at all. Retry later.
    pub fn open(&self, sealed: &Sealed) -> rusqlite::Result<Text> {
        let damaged = match self.stored(sealed.person)? {
            Stored::Missing => return Ok(Text::Unreadable(Unreadable::Erased)),
            Stored::Key(key) => match key.open(sealed) {
                Ok(words) => return Ok(Text::Readable(words)),
                Err(_) => "text",
            },
            Stored::Damaged => "key",
        };
        metrics::counter!("parlance_unreadable_texts_total", "damaged" => damaged).increment(1);
        tracing::debug!(person = %sealed.person, damaged, "a sealed text can't be read");
        Ok(Text::Unreadable(Unreadable::Damaged))
    }
}
