//! Answers that are still true. A dashboard asks the same again and again; as long as nothing of the tenant has changed,
//! the answer is the same. What an answer is kept under is everything that it follows from: the statement with its
//! values, the rows that the caller may see, the time zone, the metrics' definitions, and the version of the tenant's rows
//! ([`TenantTables::version`]). What asks for the time or for chance is never kept ([`Optimized`](crate::plans::Optimized)). Start at [`Answers`].
//!
//! [`TenantTables::version`]: crate::TenantTables::version

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::call::{Caller, QueryResult};
use crate::gate::Passed;
use crate::observed;
use crate::result_memory::{Account, Hold};

/// Answers kept a tenant, however small.
const KEPT: NonZeroUsize = NonZeroUsize::new(256).expect("it isn't zero");

/// What an answer is kept under.
pub(crate) struct Key(String);

impl Key {
    /// `None` for a statement that reads what every call changes, or that can't be told from others.
    pub(crate) fn of(caller: &Caller, passed: &Passed) -> Option<Self> {
        if passed.tables.iter().any(|table| observed::TABLES.contains(&table.as_str())) {
            return None;
        }
        Some(Self(passed.source?.asked_by(caller).to_string()))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// The answers of one tenant, the last used ones.
pub(crate) struct Answers {
    /// All of them together; none is more than a quarter of it.
    bytes_max: usize,
    account: Arc<Account>,
    kept: Mutex<LruCache<String, KeptAnswer>>,
}

struct KeptAnswer {
    version: u64,
    answer: QueryResult,
    /// Who reads it holds it too.
    _hold: Arc<Hold>,
}

impl Answers {
    pub(crate) fn new(account: Arc<Account>, bytes_max: usize) -> Self {
        Self { bytes_max, account, kept: Mutex::new(LruCache::new(KEPT)) }
    }

    /// The answer under `key`, if it was given at `version`. It has no owner.
    pub(crate) fn get(&self, key: &Key, version: u64) -> Option<QueryResult> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(&key.0)?;
        (found.version == version).then(|| found.answer.clone())
    }

    /// Keeps an answer that was computed when the rows were at least at `version`. The last used ones make room for it.
    pub(crate) fn put(&self, key: Key, version: u64, answer: &QueryResult) {
        let bytes = answer.held_bytes() + key.0.len();
        if bytes > self.bytes_max / 4 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let hold = loop {
            match Hold::new(&self.account, bytes) {
                Ok(hold) => break Arc::new(hold),
                Err(_) if kept.pop_lru().is_some() => {}
                Err(_) => return,
            }
        };
        let held = vec![Arc::clone(&hold); answer.batches.len()];
        let answer = QueryResult { held, owner: None, ..answer.clone() };
        kept.push(key.0, KeptAnswer { version, answer, _hold: hold });
    }
}
