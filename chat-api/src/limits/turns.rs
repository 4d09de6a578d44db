//! Who does something large: one of each caller's at a time, and so many in all.

use super::BucketKey;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Why it isn't somebody's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTurn {
    /// One of theirs is under way.
    Own,
    /// As many as may be are under way.
    All,
}

/// Those under way.
#[derive(Debug, Clone)]
pub struct Turns {
    max: usize,
    taken: Arc<Mutex<HashSet<BucketKey>>>,
}

/// A turn; dropping it ends it.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    key: BucketKey,
}

impl Turns {
    /// So many in all.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, taken: Arc::default() }
    }

    /// A turn for who this is.
    ///
    /// # Errors
    /// When there is none now; retry later.
    pub fn take(&self, key: BucketKey) -> Result<Turn, NoTurn> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.contains(&key) {
            return Err(NoTurn::Own);
        }
        if taken.len() >= self.max {
            return Err(NoTurn::All);
        }
        taken.insert(key);
        Ok(Turn { turns: self.clone(), key })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_turn_and_all_have_so_many() {
        let turns = Turns::new(2);
        let key = |number: u8| BucketKey::id([number; 16]);
        let first = turns.take(key(1)).expect("free");
        assert_eq!(turns.take(key(1)).err(), Some(NoTurn::Own));
        let _second = turns.take(key(2)).expect("free");
        assert_eq!(turns.take(key(3)).err(), Some(NoTurn::All));
        drop(first);
        assert!(turns.take(key(3)).is_ok());
    }
}
