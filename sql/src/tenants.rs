//! What a tenant's queries share: places in a queue, turns to run, memory and disk.
//! A slot lives while a query uses it; a few idle ones are kept for their warm pools.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::session_state::SessionState;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answers::Answers;
use crate::call::Limits;
use crate::error::QueryError;
use crate::lanes::{Allowance, Lane};
use crate::result_memory::{Account, ResultMemory};
use crate::session;

/// Above this many, idle slots are dropped; so they are when all tenants' kept answers have little room left.
const IDLE_MAX: usize = 256;

/// One tenant's share.
pub(crate) struct Slot {
    places: Arc<Semaphore>,
    places_max: usize,
    turns: Arc<Semaphore>,
    /// Turns to write answers, which don't wait behind queries.
    writing: Arc<Semaphore>,
    allowance: Allowance,
    /// What the sessions of its calls have alike, its memory and disk among it.
    pub(crate) session: SessionState,
    pub(crate) answers: Answers,
    /// What its results hold until they are read.
    pub(crate) results: Arc<Account>,
}

impl Slot {
    /// A place among the running and waiting queries.
    /// # Errors  `Busy` when there is none.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| QueryError::Busy { limit: self.places_max })
    }

    /// Waits for a turn to run.
    pub(crate) async fn seat(self: Arc<Self>, place: OwnedSemaphorePermit) -> Result<Seat, QueryError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| QueryError::Internal)?;
        Ok(Seat { slot: self, unpaid_since: Mutex::new(Instant::now()), _turn: turn, _place: Some(place) })
    }

    /// Waits for a turn to write a part of an answer. How many wait is bounded by what answers hold.
    pub(crate) async fn writing_seat(self: Arc<Self>) -> Result<Seat, QueryError> {
        let turn = Arc::clone(&self.writing).acquire_owned().await.map_err(|_| QueryError::Internal)?;
        Ok(Seat { slot: self, unpaid_since: Mutex::new(Instant::now()), _turn: turn, _place: None })
    }

    /// Where the tenant's next query starts.
    pub(crate) fn lane(&self) -> Lane {
        self.allowance.lane(Instant::now())
    }
}

/// A query that runs, or an answer that is written: it has its turn, and the tenant's allowance pays for it ([`Seat::pay`]), at the latest when it ends.
pub(crate) struct Seat {
    slot: Arc<Slot>,
    unpaid_since: Mutex<Instant>,
    _turn: OwnedSemaphorePermit,
    _place: Option<OwnedSemaphorePermit>,
}

impl Seat {
    /// The allowance pays for the time since the last call. Not only at the end, or a few queries that run for long would
    /// let others start as if nothing had been used.
    pub(crate) fn pay(&self) {
        let now = Instant::now();
        let since = mem::replace(&mut *self.unpaid_since.lock().unwrap_or_else(PoisonError::into_inner), now);
        self.slot.allowance.take(now.saturating_duration_since(since), now);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pay();
    }
}

/// Whose a result is.
#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) slot: Arc<Slot>,
    /// The tenant's account or a connection's in it.
    pub(crate) account: Arc<Account>,
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.account.fmt(f)
    }
}

/// The slots of all tenants, made as they come.
pub(crate) struct Tenants {
    limits: Limits,
    memory: Arc<ResultMemory>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    slots: HashMap<String, Arc<Slot>>,
    /// Footers of Parquet files: shared, since a path belongs to one tenant.
    footers: Option<Arc<FileMetadataCache>>,
}

impl Tenants {
    pub(crate) fn new(limits: Limits, memory: Arc<ResultMemory>) -> Self {
        Self { limits, memory, state: Mutex::default() }
    }

    /// The tenant's slot.
    /// # Errors  `Internal` when its pools cannot be made (no temporary directory).
    pub(crate) fn slot(&self, tenant: &str) -> Result<Arc<Slot>, QueryError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = self.find_or_make(&mut state, tenant)?;
        self.share_disk(&state)?;
        Ok(slot)
    }

    /// Gives each tenant whose queries run an equal part of the temporary disk that nobody uses, so that all together never
    /// use more than there is.
    fn share_disk(&self, state: &State) -> Result<(), QueryError> {
        let running = state.slots.values().filter(|slot| Arc::strong_count(slot) > 1);
        let disks: Vec<_> = running.map(|slot| &slot.session.runtime_env().disk_manager).collect();
        let used: u64 = disks.iter().map(|disk| disk.used_disk_space()).sum();
        let part = self.limits.temp_bytes.saturating_sub(used) / disks.len().max(1) as u64;
        for disk in disks {
            let bytes = (disk.used_disk_space() + part).min(self.limits.temp_bytes_per_tenant);
            disk.set_max_temp_directory_size(bytes).map_err(|error| {
                tracing::error!(%error, "a tenant's temporary disk can't be bounded");
                QueryError::Internal
            })?;
        }
        Ok(())
    }

    fn find_or_make(&self, state: &mut State, tenant: &str) -> Result<Arc<Slot>, QueryError> {
        if let Some(slot) = state.slots.get(tenant) {
            return Ok(Arc::clone(slot));
        }
        if state.slots.len() >= IDLE_MAX || self.memory.kept_is_crowded() {
            state.slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let l = &self.limits;
        let footers = state.footers.clone();
        let runtime =
            session::runtime(l.memory_bytes_per_tenant, l.temp_bytes_per_tenant, l.temp_dir.as_ref(), footers)
                .map_err(|e| {
                    tracing::error!(error = %e, "a tenant's report pools failed");
                    QueryError::Internal
                })?;
        if state.footers.is_none() {
            state.footers = Some(runtime.cache_manager.get_file_metadata_cache());
        }
        let places_max = l.running_per_tenant + l.waiting_per_tenant;
        let slot = Arc::new(Slot {
            places: Arc::new(Semaphore::new(places_max)),
            places_max,
            turns: Arc::new(Semaphore::new(l.running_per_tenant)),
            writing: Arc::new(Semaphore::new(l.running_per_tenant)),
            allowance: Allowance::full(Instant::now()),
            session: session::template(runtime),
            answers: Answers::new(self.memory.kept(l.kept_bytes_per_tenant), l.kept_bytes_per_tenant),
            results: self.memory.tenant(tenant),
        });
        state.slots.insert(tenant.to_owned(), Arc::clone(&slot));
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many tenants' queries run, what they may spill is together no more than there is; one alone has its whole part.
    #[test]
    fn all_tenants_together_spill_so_much() {
        let limits = Limits { temp_bytes: 4_000, temp_bytes_per_tenant: 1_000, ..Limits::default() };
        let memory = ResultMemory::new(limits.held_bytes, limits.held_bytes_per_tenant, limits.kept_bytes);
        let tenants = Tenants::new(limits, Arc::new(memory));
        let max = |slot: &Slot| slot.session.runtime_env().disk_manager.max_temp_directory_size();
        let first = tenants.slot("first").expect("a slot");
        assert_eq!(max(&first), 1_000);
        let others: Vec<_> = (0..39).map(|number| tenants.slot(&number.to_string()).expect("a slot")).collect();
        let all: u64 = others.iter().chain([&first]).map(|slot| max(slot)).sum();
        assert!(all <= 4_000 && max(&first) == 100, "{all}, {}", max(&first));
        drop(others);
        drop(tenants.slot("first").expect("a slot"));
        assert_eq!(max(&first), 1_000, "those that don't run leave it");
    }
}
