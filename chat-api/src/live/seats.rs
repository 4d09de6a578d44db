//! Open sockets: how many a tenant and a person have, and which end when a session does.

use super::credential::Person;
use super::hub::Limits;
use super::outbox::{Ending, Item, Outbox};
use crate::limits::client::network;
use ingest::id::{RoleId, SessionId, TenantId};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// No room for another socket, or the server stops. The client tries again later.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// Whose socket it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) tenant: TenantId,
    pub(super) person: Person,
    /// An agent's.
    pub(super) session: Option<SessionId>,
    /// An agent's custom role.
    pub(super) role: Option<RoleId>,
}

#[derive(Default)]
struct Taken {
    all: HashMap<u64, Arc<Outbox>>,
    owned: usize,
    networks: HashMap<Ipv6Addr, usize>,
    tenants: HashMap<TenantId, usize>,
    persons: HashMap<(TenantId, Person), Vec<Arc<Outbox>>>,
    sessions: HashMap<SessionId, Vec<Arc<Outbox>>>,
    roles: HashMap<RoleId, Vec<Arc<Outbox>>>,
    stopping: bool,
}

/// All sockets of the process.
#[derive(Default)]
pub(super) struct Seats {
    taken: Mutex<Taken>,
    emptied: Notify,
}

/// One socket's place; dropping it gives the place back.
pub(super) struct Seat {
    seats: Arc<Seats>,
    pub(super) outbox: Arc<Outbox>,
    owner: Option<Owner>,
    network: Option<Ipv6Addr>,
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a socket that hasn't said yet whose it is. A quarter of all places may be such.
    pub(super) fn take(self: &Arc<Self>, limits: &Limits, client: Option<IpAddr>) -> Result<Seat, NoRoom> {
        let network = client.map(network);
        let mut taken = self.lock();
        let neighbours = network.and_then(|network| taken.networks.get(&network)).copied().unwrap_or(0);
        if neighbours >= limits.sockets_per_ip_max {
            return Err(NoRoom);
        }
        let unknown = taken.all.len() - taken.owned;
        if taken.stopping || taken.all.len() >= limits.sockets_max || unknown >= limits.sockets_max.div_ceil(4) {
            return Err(NoRoom);
        }
        let outbox = Arc::new(Outbox::new(limits));
        taken.all.insert(outbox.id, Arc::clone(&outbox));
        if let Some(network) = network {
            *taken.networks.entry(network).or_default() += 1;
        }
        metrics::gauge!("parlance_sockets").increment(1);
        Ok(Seat { seats: Arc::clone(self), outbox, owner: None, network })
    }

    /// Ends the sockets of a closed session.
    pub(super) fn end_session(&self, session: SessionId) {
        if let Some(outboxes) = self.lock().sessions.get(&session) {
            outboxes.iter().for_each(|outbox| outbox.end(Ending::Revoked));
        }
    }

    /// Ends the sockets of a person whose rights changed.
    pub(super) fn end_person(&self, tenant: TenantId, person: Person) {
        if let Some(outboxes) = self.lock().persons.get(&(tenant, person)) {
            outboxes.iter().for_each(|outbox| outbox.end(Ending::Revoked));
        }
    }

    /// What a person may see has changed.
    pub(super) fn review_person(&self, tenant: TenantId, person: Person) {
        for outbox in self.lock().persons.get(&(tenant, person)).into_iter().flatten() {
            outbox.push(Item::Review { subscription: None });
        }
    }

    /// What the agents of a tenant may see has changed, or its visitors.
    pub(super) fn review(&self, tenant: TenantId, agents: bool) {
        let taken = self.lock();
        let them = taken.persons.iter().filter(|((of, person), _)| *of == tenant && person.is_agent() == agents);
        them.flat_map(|(_, outboxes)| outboxes).for_each(|outbox| outbox.push(Item::Review { subscription: None }));
    }

    /// Ends the sockets of everyone who has a custom role that changed.
    pub(super) fn end_role(&self, role: RoleId) {
        if let Some(outboxes) = self.lock().roles.get(&role) {
            outboxes.iter().for_each(|outbox| outbox.end(Ending::Revoked));
        }
    }

    /// Ends every socket and takes no more.
    pub(super) fn stop(&self) {
        let mut taken = self.lock();
        taken.stopping = true;
        taken.all.values().for_each(|outbox| outbox.end(Ending::GoingAway));
    }

    /// Waits until every socket is gone.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().all.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Open sockets.
    pub(super) fn count(&self) -> usize {
        self.lock().all.len()
    }
}

impl Seat {
    /// Says whose socket it is; from now on it ends with the session.
    pub(super) fn own(&mut self, owner: Owner, limits: &Limits) -> Result<(), NoRoom> {
        let mut taken = self.seats.lock();
        let person = (owner.tenant, owner.person);
        if taken.tenants.get(&owner.tenant).is_some_and(|count| *count >= limits.sockets_per_tenant_max)
            || taken.persons.get(&person).is_some_and(|sockets| sockets.len() >= limits.sockets_per_person_max)
        {
            return Err(NoRoom);
        }
        taken.owned += 1;
        *taken.tenants.entry(owner.tenant).or_default() += 1;
        taken.persons.entry(person).or_default().push(Arc::clone(&self.outbox));
        if let Some(session) = owner.session {
            taken.sessions.entry(session).or_default().push(Arc::clone(&self.outbox));
        }
        if let Some(role) = owner.role {
            taken.roles.entry(role).or_default().push(Arc::clone(&self.outbox));
        }
        self.owner = Some(owner);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        fn leave<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Vec<Arc<Outbox>>>, key: K, id: u64) {
            if let Some(outboxes) = map.get_mut(&key) {
                outboxes.retain(|outbox| outbox.id != id);
                if outboxes.is_empty() {
                    map.remove(&key);
                }
            }
        }
        fn give_back<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
            if let Some(count) = counts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&key);
                }
            }
        }
        let id = self.outbox.id;
        let mut taken = self.seats.lock();
        taken.all.remove(&id);
        if let Some(network) = self.network {
            give_back(&mut taken.networks, network);
        }
        if let Some(owner) = self.owner {
            taken.owned -= 1;
            leave(&mut taken.persons, (owner.tenant, owner.person), id);
            if let Some(session) = owner.session {
                leave(&mut taken.sessions, session, id);
            }
            if let Some(role) = owner.role {
                leave(&mut taken.roles, role, id);
            }
            give_back(&mut taken.tenants, owner.tenant);
        }
        let empty = taken.all.is_empty();
        drop(taken);
        metrics::gauge!("parlance_sockets").decrement(1);
        if empty {
            self.seats.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest::id::AgentId;

    #[test]
    fn places_are_bounded_and_given_back() {
        let limits =
            Limits { sockets_max: 8, sockets_per_tenant_max: 3, sockets_per_person_max: 2, ..Limits::default() };
        let seats = Arc::new(Seats::default());
        let tenant = TenantId::fresh();
        let role = Some(RoleId::fresh());
        let owner = |person| Owner { tenant, person, session: Some(SessionId::fresh()), role };
        let (ada, bob) = (Person::Agent(AgentId::fresh()), Person::Agent(AgentId::fresh()));
        let take = |who| {
            let mut seat = seats.take(&limits, None)?;
            seat.own(owner(who), &limits).map(|()| seat)
        };
        let held: Vec<_> = [ada, ada, bob].into_iter().map(|who| take(who).expect("room")).collect();
        assert_eq!(take(ada).err(), Some(NoRoom), "two a person");
        assert_eq!(take(bob).err(), Some(NoRoom), "three a tenant");
        let unknown: Vec<_> = (0..2).map(|_| seats.take(&limits, None).expect("room")).collect();
        assert_eq!(seats.take(&limits, None).err(), Some(NoRoom), "a quarter may be unknown");
        drop((held, unknown));
        assert_eq!(seats.count(), 0);
        assert!(take(ada).is_ok());
        assert!(seats.lock().sessions.is_empty() && seats.lock().roles.is_empty());
    }

    #[test]
    fn an_address_has_so_many_sockets_and_a_64_is_one_address() {
        let limits = Limits { sockets_per_ip_max: 2, ..Limits::default() };
        let seats = Arc::new(Seats::default());
        let take = |address: &str| seats.take(&limits, Some(address.parse().expect("an address")));
        let held = [take("2001:db8::1").expect("room"), take("2001:db8::2").expect("room")];
        assert_eq!(take("2001:db8::3").err(), Some(NoRoom));
        assert!(take("2001:db8:0:1::3").is_ok() && take("1.2.3.4").is_ok());
        drop(held);
        assert!(take("2001:db8::3").is_ok());
        assert!(seats.lock().networks.is_empty());
    }

    impl std::fmt::Debug for Seat {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "Seat({})", self.outbox.id)
        }
    }
}
