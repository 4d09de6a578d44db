//! How many mails an address gets and a tenant sends, by kind: what is over that waits, and what would wait until it's good
//! for nothing fails at once, by name. Whoever makes a server send mails to somebody's address gets no further than this, and
//! takes nothing away from mails of other kinds or to who has proven an address.

use super::address::mailbox;
use super::config::MailRate;
use ingest::id::TenantId;
use ingest::payload::MailKind;
use ingest::time::Timestamp;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Buckets kept of addresses, and as many of tenants; when more are in use, those that are nearest to full are forgotten.
const BUCKETS_MAX: usize = 10_000;
/// Of a tenant whose owner has proven an address, by as much more in each day of its age.
const VERIFIED_FACTOR: u32 = 10;
/// The most that a tenant's age gives.
const FACTOR_MAX: u32 = 100;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// What a tenant has to its name, for the size of its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// When it signed up.
    pub created_at: Timestamp,
    /// An owner has used something that was mailed to them.
    pub verified: bool,
}

impl Standing {
    /// By how much its budget is larger than a new tenant's of whose owner nothing is known.
    #[must_use]
    pub fn factor(self, now: Timestamp) -> u32 {
        if !self.verified {
            return 1;
        }
        let days = u32::try_from(now.since(self.created_at).max(0) / DAY_MS).unwrap_or(u32::MAX);
        days.saturating_add(1).saturating_mul(VERIFIED_FACTOR).min(FACTOR_MAX)
    }
}

/// A mail, as the budgets see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct BudgetRequest<'a> {
    pub(super) kind: MailKind,
    pub(super) tenant: TenantId,
    pub(super) address: &'a str,
    /// The recipient has proven that the address is theirs.
    pub(super) proven: bool,
    /// Until when it's good for something.
    pub(super) until: Timestamp,
}

/// Why a mail won't be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exceeded {
    Address,
    Tenant,
}

/// What keeps one kind's mails from using up another's: each has its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Bucket<Whose> {
    kind: MailKind,
    proven: bool,
    whose: Whose,
}

/// When each bucket is full again; one that isn't there is full.
type Buckets<Whose> = HashMap<Bucket<Whose>, Timestamp>;

#[derive(Default)]
struct InUse {
    addresses: Buckets<String>,
    tenants: Buckets<TenantId>,
}

pub(super) struct Budgets {
    /// Of an address, each kind for itself.
    address: Option<MailRate>,
    /// Of a new tenant, each kind for itself.
    tenant: Option<MailRate>,
    in_use: Mutex<InUse>,
}

impl Budgets {
    pub(super) fn new(address: Option<MailRate>, tenant: Option<MailRate>) -> Self {
        Self { address, tenant, in_use: Mutex::default() }
    }

    /// Takes one of both, and says in how many milliseconds the mail may go: 0 is now.
    ///
    /// # Errors
    /// Which of them has none before the mail is too late. Then none was taken.
    pub(super) fn take(&self, asked: BudgetRequest<'_>, standing: Standing, now: Timestamp) -> Result<i64, Exceeded> {
        let BudgetRequest { kind, proven, .. } = asked;
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let InUse { addresses, tenants } = &mut *in_use;
        let address = Bucket { kind, proven, whose: mailbox(asked.address) };
        let of_address = self.address.map(|rate| rate.after_one(addresses.get(&address).copied(), now));
        // Whoever has proven an address and asks to sign in is nobody's spam; what they may ask for is counted by account.
        let counts = !(proven && kind.is_urgent());
        let tenant = Bucket { kind, proven, whose: asked.tenant };
        let rate = self.tenant.filter(|_| counts).map(|rate| rate.times(standing.factor(now)));
        let of_tenant = rate.map(|rate| rate.after_one(tenants.get(&tenant).copied(), now));
        let in_time = |wait_ms: i64| now.plus_ms(wait_ms) < asked.until;
        let address_wait = of_address.map_or(0, |taken| taken.wait_ms);
        let tenant_wait = of_tenant.map_or(0, |taken| taken.wait_ms);
        if !in_time(address_wait) {
            return Err(Exceeded::Address);
        }
        if !in_time(tenant_wait) {
            return Err(Exceeded::Tenant);
        }
        if let Some(taken) = of_address {
            keep(addresses, address, taken.full_at, now);
        }
        if let Some(taken) = of_tenant {
            keep(tenants, tenant, taken.full_at, now);
        }
        Ok(address_wait.max(tenant_wait))
    }
}

/// A bucket from which one was taken.
#[derive(Debug, Clone, Copy)]
struct Taken {
    full_at: Timestamp,
    wait_ms: i64,
}

impl MailRate {
    fn after_one(self, full_at: Option<Timestamp>, now: Timestamp) -> Taken {
        let full_at = full_at.unwrap_or(now).max(now).plus_ms(self.every_ms);
        let wait_ms = full_at.since(now) - self.every_ms.saturating_mul(i64::from(self.burst));
        Taken { full_at, wait_ms: wait_ms.max(0) }
    }

    fn times(self, factor: u32) -> Self {
        let every_ms = (self.every_ms / i64::from(factor)).max(1);
        Self { burst: self.burst.saturating_mul(factor), every_ms }
    }
}

fn keep<Whose: Eq + Hash>(buckets: &mut Buckets<Whose>, bucket: Bucket<Whose>, full_at: Timestamp, now: Timestamp) {
    if buckets.len() >= BUCKETS_MAX {
        buckets.retain(|_, full_at| *full_at > now);
    }
    if buckets.len() >= BUCKETS_MAX {
        let mut times: Vec<_> = buckets.values().copied().collect();
        let median = *times.select_nth_unstable(BUCKETS_MAX / 2).1;
        buckets.retain(|_, full_at| *full_at > median);
    }
    buckets.insert(bucket, full_at);
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: Standing = Standing { created_at: Timestamp(0), verified: false };
    const SECOND: MailRate = MailRate { burst: 2, every_ms: 1_000 };

    fn asked(kind: MailKind, address: &str, tenant: u8, proven: bool) -> BudgetRequest<'_> {
        BudgetRequest { kind, tenant: TenantId::derived(&[&[tenant]]), address, proven, until: Timestamp(10_000) }
    }

    #[test]
    fn an_address_gets_its_burst_then_its_rate_and_then_no_more() {
        let budgets = Budgets::new(Some(SECOND), None);
        let take =
            |address: &str, at| budgets.take(asked(MailKind::Welcome, address, 1, false), UNKNOWN, Timestamp(at));
        assert_eq!([take("Ada@x.example", 0), take("ada+shop@X.example ", 0)], [Ok(0); 2]);
        assert_eq!(take("ada@x.example", 400), Ok(600));
        assert_eq!(take("bob@x.example", 400), Ok(0), "another address");
        let waits: Vec<_> = (0..20).map(|_| take("ada@x.example", 1_000)).collect();
        assert_eq!(waits[..2], [Ok(1_000), Ok(2_000)]);
        assert_eq!(waits[8..], [Err(Exceeded::Address); 12], "they would come too late");
        let later = BudgetRequest { until: Timestamp(20_000), ..asked(MailKind::Welcome, "ada@x.example", 1, false) };
        assert_eq!(budgets.take(later, UNKNOWN, Timestamp(9_500)), Ok(500), "what failed has taken nothing");
    }

    /// One kind's mails, to whoever hasn't proven an address, use up nothing of another's.
    #[test]
    fn each_kind_has_its_own_and_so_has_who_has_proven_an_address() {
        let budgets = Budgets::new(Some(SECOND), None);
        let take = |kind, proven| budgets.take(asked(kind, "ada@x.example", 1, proven), UNKNOWN, Timestamp(9_000));
        for kind in MailKind::ALL {
            for proven in [false, true] {
                assert_eq!([take(kind, proven), take(kind, proven)], [Ok(0); 2], "{kind:?} {proven}");
                assert_eq!(take(kind, proven), Err(Exceeded::Address), "{kind:?} {proven}");
            }
        }
    }

    #[test]
    fn a_tenants_budget_grows_with_its_age_once_its_owner_is_known() {
        let day = |days| Timestamp(days * DAY_MS);
        let verified = Standing { created_at: day(0), verified: true };
        let factors = [0, 1, 8, 9, 400].map(|days| verified.factor(day(days)));
        assert_eq!(factors, [10, 20, 90, 100, 100]);
        assert_eq!(UNKNOWN.factor(day(400)), 1);

        let budgets = Budgets::new(None, Some(SECOND));
        let sent = |tenant, standing, proven, kind| {
            let take = |n: i32| {
                let address = format!("{n}@x.example");
                budgets.take(asked(kind, &address, tenant, proven), standing, Timestamp(0))
            };
            (0..100).map(take).filter(|taken| *taken == Ok(0)).count()
        };
        assert_eq!(sent(1, UNKNOWN, false, MailKind::Welcome), 2);
        assert_eq!(sent(1, UNKNOWN, true, MailKind::NewConversation), 2, "another kind");
        assert_eq!(sent(2, verified, false, MailKind::Welcome), 20, "another tenant");
        assert_eq!(sent(1, UNKNOWN, true, MailKind::Otp), 100, "who has proven an address signs in");
        assert_eq!(sent(1, UNKNOWN, false, MailKind::Otp), 2, "who hasn't may be anybody");
    }

    #[test]
    fn buckets_in_memory_are_bounded() {
        let budgets = Budgets::new(Some(SECOND), Some(SECOND));
        for number in 0..3 * BUCKETS_MAX {
            let address = format!("{number}@x.example");
            let tenant = TenantId::derived(&[address.as_bytes()]);
            let asked = BudgetRequest { tenant, ..asked(MailKind::Welcome, &address, 0, false) };
            budgets.take(asked, UNKNOWN, Timestamp(0)).expect("full buckets");
            let in_use = budgets.in_use.lock().expect("unpoisoned");
            assert!(in_use.addresses.len() <= BUCKETS_MAX && in_use.tenants.len() <= BUCKETS_MAX);
        }
    }
}
