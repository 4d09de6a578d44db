//! Endpoints of tenants' own that were read, for the next call. Bounded by bytes, by tenant and in all: who publishes much
//! displaces their own. What is kept is found by tenant, name and version, and only if the text is the same. Start at [`KeptPipes`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::error::QueryError;
use crate::own::OwnPipe;

/// Of one tenant: the largest there can be, or a hundred usual ones.
const TENANT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Of all tenants.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// The endpoints, the last used ones.
#[derive(Default)]
pub(crate) struct KeptPipes(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    tenants: HashMap<String, Pipes>,
    bytes: usize,
}

/// Of one tenant, by name and version.
struct Pipes {
    pipes: LruCache<(String, u32), KeptPipe>,
    bytes: usize,
}

struct KeptPipe {
    text: Arc<str>,
    pipe: Arc<OwnPipe>,
    bytes: usize,
}

impl Pipes {
    /// Gives the bytes that are free now.
    fn pop(&mut self) -> usize {
        let bytes = self.pipes.pop_lru().map_or(0, |(_, gone)| gone.bytes);
        self.bytes -= bytes;
        bytes
    }
}

impl KeptPipes {
    /// That version of the tenant's endpoint, if it was read from this very text.
    pub(crate) fn get(&self, tenant: &str, name: &str, version: u32, text: &str) -> Option<Arc<OwnPipe>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.tenants.get_mut(tenant)?.pipes.get(&(name.to_owned(), version))?;
        // A name that was deleted and published anew begins with the first version again.
        (*found.text == *text).then(|| Arc::clone(&found.pipe))
    }

    /// Reads a text, unless that version of it is kept; one without a version isn't.
    /// # Errors  `Unreadable` with what is wrong with it.
    pub(crate) fn read(
        &self,
        tenant: &str,
        name: &str,
        version: Option<u32>,
        text: &str,
    ) -> Result<Arc<OwnPipe>, QueryError> {
        if let Some(kept) = version.and_then(|version| self.get(tenant, name, version, text)) {
            return Ok(kept);
        }
        let pipe = OwnPipe::parse(name, text).map_err(|e| QueryError::Unreadable(e.message().to_owned()))?;
        let pipe = Arc::new(pipe);
        if let Some(version) = version {
            self.put(tenant, name, version, text, &pipe);
        }
        Ok(pipe)
    }

    fn put(&self, tenant: &str, name: &str, version: u32, text: &str, pipe: &Arc<OwnPipe>) {
        let bytes = tenant.len() + name.len() + text.len() + pipe.bytes();
        if bytes > TENANT_BYTES_MAX {
            return;
        }
        let new = KeptPipe { text: text.into(), pipe: Arc::clone(pipe), bytes };
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *guard;
        let own = kept.tenants.entry(tenant.to_owned());
        let own = own.or_insert_with(|| Pipes { pipes: LruCache::unbounded(), bytes: 0 });
        let mut freed = own.pipes.push((name.to_owned(), version), new).map_or(0, |(_, old)| old.bytes);
        own.bytes = own.bytes + bytes - freed;
        while own.bytes > TENANT_BYTES_MAX {
            freed += own.pop();
        }
        kept.bytes = kept.bytes + bytes - freed;
        while kept.bytes > BYTES_MAX {
            // Who holds the most has to give.
            let Some((most, own)) = kept.tenants.iter_mut().max_by_key(|(_, own)| own.bytes) else { return };
            kept.bytes -= own.pop();
            if own.pipes.is_empty() {
                let most = most.clone();
                kept.tenants.remove(&most);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// About 40 KB each.
    fn text(of: &str) -> String {
        format!("NODE n\nSQL >\n    SELECT '{of}'{}\n", " ".repeat(8_000))
    }

    fn put(kept: &KeptPipes, tenant: &str, name: &str, version: u32, text: &str) {
        kept.read(tenant, name, Some(version), text).expect("a pipe");
    }

    #[test]
    fn what_is_kept_is_its_tenants_its_versions_and_its_texts() {
        let (kept, text) = (KeptPipes::default(), text("a"));
        put(&kept, "acme", "sales", 1, &text);
        assert!(kept.get("acme", "sales", 1, &text).is_some());
        for (tenant, name, version, of) in [
            ("globex", "sales", 1, "a"),
            ("acme", "sale", 1, "a"),
            ("acme", "sales", 2, "a"),
            // Deleted and published anew.
            ("acme", "sales", 1, "b"),
        ] {
            assert!(
                kept.get(tenant, name, version, &super::tests::text(of)).is_none(),
                "{tenant} {name} {version} {of}"
            );
        }
    }

    /// Many tenants that publish as much as they can leave what a small one published.
    #[test]
    fn who_publishes_much_displaces_their_own() {
        let (kept, text) = (KeptPipes::default(), text("a"));
        put(&kept, "small", "sales", 1, &text);
        for tenant in 0..40 {
            for version in 0..300 {
                put(&kept, &format!("large-{tenant}"), "sales", version, &text);
            }
        }
        assert!(kept.get("small", "sales", 1, &text).is_some());
        let inner = kept.0.lock().expect("no panic");
        let sums: Vec<usize> =
            inner.tenants.values().map(|own| own.pipes.iter().map(|(_, pipe)| pipe.bytes).sum()).collect();
        assert!(inner.tenants.values().map(|own| own.bytes).eq(sums.iter().copied()));
        assert_eq!(inner.bytes, sums.iter().sum::<usize>());
        assert!(inner.bytes <= BYTES_MAX && sums.iter().all(|bytes| *bytes <= TENANT_BYTES_MAX));
        assert!(inner.bytes > BYTES_MAX / 2, "{} are kept", inner.bytes);
    }
}
