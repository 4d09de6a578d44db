//! How many bytes of rows may be under way. They are held in memory until they are in the log: as they were sent, unpacked,
//! and checked. What is held is counted as it grows, so that a small body that becomes a large one counts as that.
//!
//! - [`Intake`]: the count. [`Place`]: one request's part of it. [`Buffer`]: bytes that are counted as they grow.

use ingest::id::TenantId;
use memmap2::MmapMut;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Of all tenants.
const BYTES_MAX: usize = 256 * 1024 * 1024;
/// Of one tenant; a single request of the largest size fits: as it was sent, unpacked, and checked.
const TENANT_BYTES_MAX: usize = 96 * 1024 * 1024;
/// Buffers are counted by so many bytes.
const BUFFER_STEP: usize = 16 * 1024;
/// A larger buffer is a memory map.
const SMALL_BYTES_MAX: usize = 256 * 1024;

/// Why there is no room for more rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// The request needs more than any may; never retry.
    Request,
    /// With the tenant's other requests it's too much; retry.
    Tenant,
    /// With all tenants' requests it's too much; retry.
    Server,
}

/// Bytes under way, of all and by tenant.
#[derive(Debug, Clone, Default)]
pub struct Intake(Arc<Mutex<UnderWay>>);

#[derive(Debug, Default)]
struct UnderWay {
    all: usize,
    tenants: HashMap<TenantId, usize>,
}

impl UnderWay {
    fn set(&mut self, all: usize) {
        self.all = all;
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("parlance_intake_bytes").set(all as f64);
    }
}

impl Intake {
    /// A place that holds nothing yet.
    #[must_use]
    pub fn place(&self, tenant: TenantId) -> Place {
        Place { intake: self.clone(), tenant, bytes: 0 }
    }

    /// Bytes under way, of all tenants.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

/// A request under way; dropping it gives its bytes back.
#[derive(Debug)]
pub struct Place {
    intake: Intake,
    tenant: TenantId,
    bytes: usize,
}

impl Place {
    /// Room for so many bytes more.
    ///
    /// # Errors
    /// When there is none; then nothing is taken.
    pub fn hold(&mut self, bytes: usize) -> Result<(), NoRoom> {
        if self.bytes + bytes > TENANT_BYTES_MAX {
            return Err(NoRoom::Request);
        }
        let mut under_way = self.intake.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = under_way.all + bytes;
        let own = under_way.tenants.get(&self.tenant).copied().unwrap_or_default() + bytes;
        if own > TENANT_BYTES_MAX {
            return Err(NoRoom::Tenant);
        }
        if all > BYTES_MAX {
            return Err(NoRoom::Server);
        }
        under_way.set(all);
        under_way.tenants.insert(self.tenant, own);
        self.bytes += bytes;
        Ok(())
    }

    /// What is held no more, of what it holds.
    pub fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let mut under_way = self.intake.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = under_way.all - bytes;
        under_way.set(all);
        if let Some(own) = under_way.tenants.get_mut(&self.tenant) {
            *own -= bytes;
            if *own == 0 {
                under_way.tenants.remove(&self.tenant);
            }
        }
    }

    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

/// Bytes that a place holds as they grow.
///
/// Many of them get a memory map of their own, as large as it may become: the system gives memory only to what is
/// written, nothing is copied, and what is dropped is the system's again at once. An allocator keeps it for a while.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    bytes_max: usize,
    held: usize,
}

#[derive(Debug)]
enum Memory {
    Small(Vec<u8>),
    /// So many bytes of it are written.
    Large(MmapMut, usize),
}

impl Buffer {
    /// An empty one, which will have at most so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { memory: Memory::Small(Vec::new()), bytes_max, held: 0 }
    }

    /// More bytes at its end.
    ///
    /// # Errors
    /// When there is no room, or it would have more bytes than it may; then it is as it was.
    pub fn extend(&mut self, piece: &[u8], place: &mut Place) -> Result<(), NoRoom> {
        let written = self.bytes().len();
        let needed = written + piece.len();
        if needed > self.bytes_max {
            return Err(NoRoom::Request);
        }
        if needed > self.held {
            let step = (needed - self.held).next_multiple_of(BUFFER_STEP);
            place.hold(step)?;
            self.held += step;
        }
        if let Memory::Small(small) = &self.memory
            && needed > SMALL_BYTES_MAX
        {
            // The system has no more address space for the process.
            let mut map = MmapMut::map_anon(self.bytes_max).map_err(|_| NoRoom::Server)?;
            map[..written].copy_from_slice(small);
            self.memory = Memory::Large(map, written);
        }
        match &mut self.memory {
            Memory::Small(small) => small.extend_from_slice(piece),
            Memory::Large(map, end) => {
                map[written..needed].copy_from_slice(piece);
                *end = needed;
            }
        }
        Ok(())
    }

    /// Empties it for what comes next; the memory of a small one stays its own, so that many short lines cost little.
    pub fn reset(&mut self, place: &mut Place) {
        match &mut self.memory {
            Memory::Small(small) => small.clear(),
            Memory::Large(..) => self.clear(place),
        }
    }

    /// Empties it and gives its memory back.
    pub fn clear(&mut self, place: &mut Place) {
        self.memory = Memory::Small(Vec::new());
        place.give_back(std::mem::take(&mut self.held));
    }

    /// What is in it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Small(small) => small,
            Memory::Large(map, end) => &map[..*end],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn a_tenant_that_sends_much_waits_and_others_dont() {
        let (intake, one, other) = (Intake::default(), TenantId::fresh(), TenantId::fresh());
        let (mut first, mut second, mut others) = (intake.place(one), intake.place(one), intake.place(other));
        assert_eq!(first.hold(TENANT_BYTES_MAX), Ok(()));
        assert_eq!(
            (first.hold(1), second.hold(1), others.hold(1)),
            (Err(NoRoom::Request), Err(NoRoom::Tenant), Ok(()))
        );
        first.give_back(1);
        assert_eq!((second.hold(1), first.hold(1)), (Ok(()), Err(NoRoom::Tenant)));
        drop(first);
        assert_eq!(second.hold(TENANT_BYTES_MAX), Err(NoRoom::Request), "never, however long it waits");
        assert_eq!(intake.bytes(), 2);
        drop((second, others));
        assert_eq!(intake.bytes(), 0);
        assert!(intake.0.lock().expect("nobody panicked").tenants.is_empty());
    }

    /// A tenant's only request is one too many all the same when all tenants' together are.
    #[test]
    fn all_tenants_together_are_bounded() {
        let intake = Intake::default();
        let mut places: Vec<_> = (0..100).map(|_| intake.place(TenantId::fresh())).collect();
        let held = places.iter_mut().filter_map(|place| place.hold(10 * MIB).ok()).count();
        assert_eq!((held, intake.bytes()), (25, 250 * MIB));
        assert_eq!(places[99].hold(10 * MIB), Err(NoRoom::Server));
        places.remove(0);
        assert_eq!(places[98].hold(10 * MIB), Ok(()));
        drop(places);
        assert_eq!(intake.bytes(), 0);
    }

    #[test]
    fn a_buffer_is_counted_as_it_grows() {
        let intake = Intake::default();
        let mut place = intake.place(TenantId::fresh());
        let mut buffer = Buffer::new(2_000_000);
        for number in 0..200 {
            buffer.extend(&[number; 10_000], &mut place).expect("room");
            let (held, written) = (intake.bytes(), buffer.bytes().len());
            assert!(held >= written && held < written + BUFFER_STEP, "{held} bytes for {written}");
        }
        let held = intake.bytes();
        assert_eq!(buffer.extend(&[1], &mut place), Err(NoRoom::Request));
        assert_eq!((buffer.bytes().len(), intake.bytes()), (2_000_000, held), "nothing is taken");
        assert!(buffer.bytes().chunks(10_000).enumerate().all(|(n, piece)| piece.iter().all(|b| usize::from(*b) == n)));
        buffer.clear(&mut place);
        assert_eq!((intake.bytes(), buffer.bytes()), (0, &[][..]));
    }
}
