//! Whose mail is being handed over. Most are a matter of milliseconds. A recipient's domain that takes long to say yes or no
//! (its server is asked meanwhile, or makes callers wait on purpose) may hold half the hands, and no more, so that everybody
//! else's mails go on.

use super::address::parts;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Mails being handed over at once, half of them to domains that take long: enough for a server half a second away to take
/// 1,000 mails a minute.
pub const CONCURRENCY: usize = 16;
/// A recipient that isn't taken after this long is a slow one.
pub(super) const SLOW_AFTER: Duration = Duration::from_secs(2);
/// A domain that was slow is taken for slow this long, unless it's quick again.
const SLOW_FOR: Duration = Duration::from_secs(5 * 60);
/// Domains that are known to be slow; those that were longest ago are forgotten.
const DOMAINS_MAX: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");

pub(super) struct Hands {
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    domains: Mutex<LruCache<String, Instant>>,
}

/// A place among those who hand over; free again when it's dropped.
pub(super) struct Hand {
    domain: String,
    slow: bool,
    permit: OwnedSemaphorePermit,
}

impl Hands {
    pub(super) fn new() -> Self {
        let half = || Arc::new(Semaphore::new(CONCURRENCY / 2));
        Self { quick: half(), slow: half(), domains: Mutex::new(LruCache::new(DOMAINS_MAX)) }
    }

    /// Waits for a hand; `None` when the recipient's domain is slow and has all it may have.
    pub(super) async fn take(&self, address: &str) -> Option<Hand> {
        let domain = parts(address).map_or_else(|| address.trim().to_lowercase(), |(_, domain)| domain);
        if !self.is_slow(&domain) {
            let permit = Arc::clone(&self.quick).acquire_owned().await.ok()?;
            // It may have turned out to be slow meanwhile.
            if !self.is_slow(&domain) {
                return Some(Hand { domain, slow: false, permit });
            }
        }
        let permit = Arc::clone(&self.slow).try_acquire_owned().ok()?;
        Some(Hand { domain, slow: true, permit })
    }

    fn is_slow(&self, domain: &str) -> bool {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        domains.get(domain).is_some_and(|since| since.elapsed() < SLOW_FOR)
    }

    /// The recipient isn't taken yet: the domain is slow. `false` when such mails have all hands that they may have.
    pub(super) fn is_taking_long(&self, hand: &mut Hand) -> bool {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        domains.put(hand.domain.clone(), Instant::now());
        drop(domains);
        hand.slow || self.give_way(hand)
    }

    /// Frees a quick hand for another mail, if there is one of the others for this.
    pub(super) fn give_way(&self, hand: &mut Hand) -> bool {
        let Ok(permit) = Arc::clone(&self.slow).try_acquire_owned() else { return false };
        hand.permit = permit;
        hand.slow = true;
        true
    }

    /// The recipient was taken or refused in good time.
    pub(super) fn was_quick(&self, hand: &Hand) {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        domains.pop(&hand.domain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn domains_that_take_long_have_half_the_hands() {
        let hands = Hands::new();
        let half = CONCURRENCY / 2;
        let mut held = Vec::new();
        for _ in 0..half {
            let mut hand = hands.take("a@slow.example").await.expect("nothing is known yet");
            assert!(hands.is_taking_long(&mut hand));
            held.push(hand);
        }
        assert!(hands.take("b@SLOW.example").await.is_none(), "known by now");
        let mut other = hands.take("c@other.example").await.expect("a quick hand");
        assert!(!hands.is_taking_long(&mut other), "they have all that they may have");
        drop(other);
        assert_eq!(hands.quick.available_permits(), half, "nobody else waits");

        held.pop();
        let hand = hands.take("b@slow.example").await.expect("one is free again");
        hands.was_quick(&hand);
        drop(hand);
        hands.take("b@slow.example").await.expect("it is quick again");
        assert_eq!(hands.slow.available_permits(), 1);
    }
}
