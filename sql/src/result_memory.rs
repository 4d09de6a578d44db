//! Memory that results hold, from the first batch that is collected until the last byte has gone to its reader: batches,
//! encoded parts, portals and their values, prepared statements, a connection's buffers, kept answers. A query's working
//! memory is another matter, DataFusion's pool. Every holder has an [`Account`] in a tree (a connection's in its tenant's,
//! that in the server's) and takes its bytes as a [`Hold`], which gives them back when it is dropped: by whatever way a
//! future, a portal or a connection ends. What has no room is refused by name ([`QueryError::ResultsFull`]). Start at
//! [`ResultMemory`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::QueryError;

const MIB: usize = 1024 * 1024;
/// Who holds no more than this may have the server's last part too: every tenant's small answers have room there when a few
/// others' large ones fill the rest.
pub(crate) const SMALL_BYTES_MAX: usize = MIB;
/// That part is one of so many.
const RESERVED_PARTS: usize = 4;
/// Below this many, accounts that nobody holds aren't looked for.
const TENANTS_MIN: usize = 256;

/// One holder: the server, a tenant, a connection.
#[derive(Debug)]
pub(crate) struct Account {
    whose: &'static str,
    parent: Option<Arc<Account>>,
    bytes_max: usize,
    /// Of `bytes_max`, for holders below that have no more than [`SMALL_BYTES_MAX`].
    reserve: usize,
    /// What shows the bytes on `/metrics`; only the server's is shown.
    gauge: Option<&'static str>,
    used: AtomicUsize,
}

impl Account {
    fn new(whose: &'static str, bytes_max: usize, gauge: &'static str, reserve: usize) -> Arc<Self> {
        let (parent, used) = (None, AtomicUsize::new(0));
        Arc::new(Self { whose, parent, bytes_max, reserve, gauge: Some(gauge), used })
    }

    /// An account in this one.
    pub(crate) fn child(self: &Arc<Self>, whose: &'static str, bytes_max: usize) -> Arc<Self> {
        let (parent, used) = (Some(Arc::clone(self)), AtomicUsize::new(0));
        Arc::new(Self { whose, parent, bytes_max, reserve: 0, gauge: None, used })
    }

    /// Bytes that are held now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes bytes here and in every account above, or none at all. `below` is what the account below has with them.
    fn take(&self, bytes: usize, below: usize) -> Result<(), QueryError> {
        let bytes_max = if below <= SMALL_BYTES_MAX { self.bytes_max } else { self.bytes_max - self.reserve };
        let grown = |used: usize| used.checked_add(bytes).filter(|used| *used <= bytes_max);
        let before = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown);
        let full = |_| QueryError::ResultsFull { whose: self.whose, limit: bytes_max };
        let used = before.map_err(full)? + bytes;
        if let Some(parent) = &self.parent
            && let Err(refused) = parent.take(bytes, used)
        {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(refused);
        }
        if let Some(gauge) = self.gauge {
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!(gauge).increment(bytes as f64);
        }
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(gauge) = self.gauge {
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!(gauge).decrement(bytes as f64);
        }
        if let Some(parent) = &self.parent {
            parent.give_back(bytes);
        }
    }
}

/// Bytes that somebody holds; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Hold {
    account: Arc<Account>,
    bytes: usize,
}

impl Hold {
    /// Takes bytes.
    /// # Errors  `ResultsFull`, and then nothing is taken.
    pub(crate) fn new(account: &Arc<Account>, bytes: usize) -> Result<Self, QueryError> {
        account.take(bytes, 0)?;
        Ok(Self { account: Arc::clone(account), bytes })
    }

    /// Holds so many from now on.
    /// # Errors  `ResultsFull`, and then it holds what it held.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), QueryError> {
        if bytes > self.bytes {
            self.account.take(bytes - self.bytes, 0)?;
        } else if bytes < self.bytes {
            self.account.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

/// The accounts of one server.
pub(crate) struct ResultMemory {
    server: Arc<Account>,
    kept: Arc<Account>,
    tenant_bytes_max: usize,
    tenants: Mutex<Tenants>,
}

#[derive(Default)]
struct Tenants {
    /// Those that somebody holds; the same tenant never has two.
    accounts: HashMap<String, Weak<Account>>,
    /// When to look for those that nobody holds.
    look_at: usize,
}

impl ResultMemory {
    /// `kept_bytes_max` is what kept answers have, apart from the rest.
    pub(crate) fn new(bytes_max: usize, tenant_bytes_max: usize, kept_bytes_max: usize) -> Self {
        let server = Account::new("the server", bytes_max, "parlance_result_bytes", bytes_max / RESERVED_PARTS);
        let kept = Account::new("the server", kept_bytes_max, "parlance_kept_answer_bytes", 0);
        Self { server, kept, tenant_bytes_max, tenants: Mutex::default() }
    }

    /// Bytes that are held now; kept answers apart.
    pub(crate) fn used(&self) -> usize {
        self.server.used()
    }

    /// A tenant's account.
    pub(crate) fn tenant(&self, tenant: &str) -> Arc<Account> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = tenants.accounts.get(tenant).and_then(Weak::upgrade) {
            return account;
        }
        if tenants.accounts.len() >= tenants.look_at {
            tenants.accounts.retain(|_, account| account.strong_count() > 0);
            tenants.look_at = (2 * tenants.accounts.len()).max(TENANTS_MIN);
        }
        let account = self.server.child("the tenant", self.tenant_bytes_max);
        tenants.accounts.insert(tenant.to_owned(), Arc::downgrade(&account));
        account
    }

    /// An account for the answers that are kept for a tenant.
    pub(crate) fn kept(&self, bytes_max: usize) -> Arc<Account> {
        self.kept.child("the tenant", bytes_max)
    }

    /// Whether kept answers have little room left.
    pub(crate) fn kept_is_crowded(&self) -> bool {
        self.kept.used() > self.kept.bytes_max / 4 * 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(outcome: Result<Hold, QueryError>) -> &'static str {
        match outcome {
            Ok(_) => "taken",
            Err(QueryError::ResultsFull { whose, .. }) => whose,
            Err(_) => "another error",
        }
    }

    #[test]
    fn bytes_are_taken_on_every_level_and_given_back_when_dropped() {
        let memory = ResultMemory::new(8 * MIB, 4 * MIB, MIB);
        let tenant = memory.tenant("acme");
        let connection = tenant.child("the connection", 3 * MIB);
        let first = Hold::new(&connection, 2 * MIB).expect("room");
        assert_eq!((connection.used(), tenant.used(), memory.server.used()), (2 * MIB, 2 * MIB, 2 * MIB));
        assert_eq!(whose(Hold::new(&connection, 2 * MIB)), "the connection");
        assert_eq!(whose(Hold::new(&tenant, 3 * MIB)), "the tenant");
        assert_eq!((connection.used(), tenant.used(), memory.server.used()), (2 * MIB, 2 * MIB, 2 * MIB));
        let mut second = Hold::new(&tenant, MIB).expect("room");
        assert!(second.resize(3 * MIB).is_err());
        assert_eq!((second.bytes(), tenant.used()), (MIB, 3 * MIB), "as before");
        second.resize(MIB / 2).expect("less");
        drop((first, second));
        assert_eq!((connection.used(), tenant.used(), memory.server.used()), (0, 0, 0));
        assert_eq!(whose(Hold::new(&connection, usize::MAX)), "the connection");
        assert_eq!((connection.used(), tenant.used(), memory.server.used()), (0, 0, 0), "an error takes nothing");
    }

    /// However much a few tenants hold, every other has room for small answers.
    #[test]
    fn small_holders_have_room_beside_large_ones() {
        let memory = ResultMemory::new(8 * MIB, 4 * MIB, MIB);
        let (one, other, small) = (memory.tenant("one"), memory.tenant("other"), memory.tenant("small"));
        let _large = [Hold::new(&one, 4 * MIB).expect("room"), Hold::new(&other, 2 * MIB).expect("room")];
        assert_eq!(whose(Hold::new(&other, 1)), "the server");
        let held = Hold::new(&small, SMALL_BYTES_MAX).expect("room");
        assert_eq!(whose(Hold::new(&small, 1)), "the server");
        drop(held);
        assert_eq!(memory.server.used(), 6 * MIB);
    }

    #[test]
    fn a_tenant_has_one_account_as_long_as_anybody_holds_it() {
        let memory = ResultMemory::new(8 * MIB, 4 * MIB, MIB);
        let hold = Hold::new(&memory.tenant("acme"), MIB).expect("room");
        for number in 0..3 * TENANTS_MIN {
            memory.tenant(&number.to_string());
        }
        assert_eq!(memory.tenant("acme").used(), MIB);
        drop(hold);
        assert_eq!(memory.tenant("acme").used(), 0);
        let tenants = memory.tenants.lock().expect("nobody panicked");
        assert!(tenants.accounts.len() <= TENANTS_MIN, "accounts that nobody holds are forgotten");
    }
}
