//! How many bytes of rows may be under way: they are held in memory until they are in the log.

use ingest::id::TenantId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Of all tenants.
const BYTES_MAX: usize = 256 * 1024 * 1024;
/// Of one tenant.
const TENANT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes under way, by tenant.
#[derive(Debug, Default)]
pub struct Intake(Mutex<HashMap<TenantId, usize>>);

impl Intake {
    /// Room for a request's bytes until the place is dropped; `None` when there is none now. A tenant's only request
    /// always has room.
    pub fn place(&self, tenant: TenantId, bytes: usize) -> Option<Place<'_>> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = under_way.get(&tenant).copied().unwrap_or(0);
        let all: usize = under_way.values().sum();
        if own > 0 && (own + bytes > TENANT_BYTES_MAX || all + bytes > BYTES_MAX) {
            return None;
        }
        *under_way.entry(tenant).or_default() += bytes;
        Some(Place { intake: self, tenant, bytes })
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Place<'a> {
    intake: &'a Intake,
    tenant: TenantId,
    bytes: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut under_way = self.intake.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = under_way.get_mut(&self.tenant) {
            *own -= self.bytes;
            if *own == 0 {
                under_way.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_sends_much_waits_and_others_dont() {
        let (intake, one, other) = (Intake::default(), TenantId::fresh(), TenantId::fresh());
        let first = intake.place(one, TENANT_BYTES_MAX).expect("room");
        assert!(intake.place(one, 1).is_none());
        assert!(intake.place(other, 1).is_some());
        drop(first);
        let large = intake.place(one, 2 * TENANT_BYTES_MAX).expect("the only one");
        assert!(intake.place(one, 1).is_none());
        drop(large);
        assert!(intake.0.lock().expect("nobody panicked").is_empty());
    }
}
