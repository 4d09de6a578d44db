//! How many mails an address gets in a time: more wait. Whoever makes a server send mails to somebody else's address gets
//! no further than this.

use super::config::RecipientRate;
use ingest::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Addresses kept; when more are in use, those that are nearest to a full allowance are forgotten.
const ADDRESSES_MAX: usize = 10_000;

/// A token bucket for each address: when it is full again. One that isn't there is full.
pub(super) struct Recipients {
    rate: Option<RecipientRate>,
    full_at: Mutex<HashMap<String, Timestamp>>,
}

impl Recipients {
    pub(super) fn new(rate: Option<RecipientRate>) -> Self {
        Self { rate, full_at: Mutex::default() }
    }

    /// Takes one, or says in how many milliseconds there is one.
    pub(super) fn take(&self, address: &str, now: Timestamp) -> Result<(), i64> {
        let Some(rate) = self.rate else { return Ok(()) };
        let address = address.to_lowercase();
        let mut addresses = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = addresses.get(&address).copied().unwrap_or(now).max(now).plus_ms(rate.every_ms);
        let wait = full_at.since(now) - rate.every_ms * i64::from(rate.burst);
        if wait > 0 {
            return Err(wait);
        }
        if addresses.len() >= ADDRESSES_MAX {
            addresses.retain(|_, full_at| *full_at > now);
        }
        if addresses.len() >= ADDRESSES_MAX {
            let mut times: Vec<_> = addresses.values().copied().collect();
            let median = *times.select_nth_unstable(ADDRESSES_MAX / 2).1;
            addresses.retain(|_, full_at| *full_at > median);
        }
        addresses.insert(address, full_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_burst_and_then_its_rate() {
        let recipients = Recipients::new(Some(RecipientRate { burst: 2, every_ms: 1_000 }));
        let take = |address: &str, at| recipients.take(address, Timestamp(at));
        assert_eq!([take("Ada@x.example", 0), take("ada@X.example", 0)], [Ok(()); 2]);
        assert_eq!(take("ada@x.example", 400), Err(600));
        assert_eq!(take("bob@x.example", 400), Ok(()), "another address");
        assert_eq!([take("ada@x.example", 1_000), take("ada@x.example", 1_000)], [Ok(()), Err(1_000)]);
    }

    #[test]
    fn addresses_in_memory_are_bounded() {
        let recipients = Recipients::new(Some(RecipientRate { burst: 1, every_ms: 1_000 }));
        for number in 0..3 * ADDRESSES_MAX {
            recipients.take(&format!("{number}@x.example"), Timestamp(0)).expect("a full allowance");
            assert!(recipients.full_at.lock().expect("unpoisoned").len() <= ADDRESSES_MAX);
        }
    }
}
