//! Frames in sockets' queues, and the bytes of all of them. A frame is made once for all who get it and counts once, until the last of
//! them has taken it. What has no room isn't queued: its readers fall behind and read it later, from the log or as it is then.

use axum::extract::ws::Utf8Bytes;
use ingest::id::TenantId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of all tenants.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Of one tenant: some hundred of the largest frames that nobody has read yet.
const TENANT_BYTES_MAX: usize = BYTES_MAX / 4;

/// A frame; clones share it.
#[derive(Debug, Clone)]
pub(super) struct LiveFrame {
    /// JSON.
    pub(super) text: Utf8Bytes,
    /// `None` for what nobody misses: queues drop it when they are half full.
    _count: Option<Arc<Count>>,
}

impl From<Utf8Bytes> for LiveFrame {
    fn from(text: Utf8Bytes) -> Self {
        Self { text, _count: None }
    }
}

/// A frame's bytes; dropping it gives them back.
#[derive(Debug)]
struct Count {
    queued: Queued,
    tenant: TenantId,
    bytes: usize,
}

impl Drop for Count {
    fn drop(&mut self) {
        let mut counts = self.queued.lock();
        counts.all -= self.bytes;
        if let Some(own) = counts.tenants.get_mut(&self.tenant) {
            *own -= self.bytes;
            if *own == 0 {
                counts.tenants.remove(&self.tenant);
            }
        }
    }
}

/// The bytes in all queues; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Queued(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    tenants: HashMap<TenantId, usize>,
}

impl Queued {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame for queues of the tenant's sockets; `None` when there is no room for it now.
    pub(super) fn frame(&self, tenant: TenantId, text: Utf8Bytes) -> Option<LiveFrame> {
        let bytes = text.len();
        let mut counts = self.lock();
        let own = counts.tenants.get(&tenant).copied().unwrap_or_default() + bytes;
        if own > TENANT_BYTES_MAX || counts.all + bytes > BYTES_MAX {
            metrics::counter!("parlance_live_frames_deferred_total").increment(1);
            return None;
        }
        counts.all += bytes;
        counts.tenants.insert(tenant, own);
        let count = Count { queued: self.clone(), tenant, bytes };
        Some(LiveFrame { text, _count: Some(Arc::new(count)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_count_once_until_the_last_has_taken_them() {
        let queued = Queued::default();
        let frame = |tenant, bytes: usize| queued.frame(tenant, "x".repeat(bytes).into());
        let (one, half) = (TenantId::fresh(), TENANT_BYTES_MAX / 2);
        let first = frame(one, half).expect("room");
        let copies = vec![first.clone(); 100];
        let second = frame(one, half).expect("room: copies are the same frame");
        assert!(frame(one, 1).is_none(), "a tenant has a quarter");
        let others: Vec<_> = (0..3).map(|_| frame(TenantId::fresh(), TENANT_BYTES_MAX).expect("room")).collect();
        assert!(frame(TenantId::fresh(), 1).is_none(), "that was all");
        drop((first, others));
        assert!(frame(one, 1).is_none(), "its copies hold it");
        drop((copies, second));
        assert_eq!(queued.lock().all, 0);
        assert!(queued.lock().tenants.is_empty());
    }
}
