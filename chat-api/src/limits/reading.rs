//! How many bytes of what was read may be held until its readers have taken it: pages of lists and histories, parts of event
//! streams, frames on their way into a socket. Whoever wants more waits for a turn before anything is read.
//!
//! Turns go round by tenant, and within one by who asked first. A tenant has a part of all, its visitors half of that, a person
//! a small part; some is kept for tenants that hold next to nothing. So who reads slowly, or not at all, keeps waiting whom
//! it shares a part with, until it's let go. Start at [`Reading::hold`].

use crate::auth::{AgentCaller, VisitorCaller};
use ingest::id::{AgentId, TenantId, VisitorId};
use ingest::sqlite::PAGE_BYTES_MAX;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Of all tenants.
const BYTES_MAX: usize = 128 * 1024 * 1024;
/// Of those that hold more than [`SMALL_BYTES_MAX`] already; the rest is for the others.
const CROWDED_BYTES_MAX: usize = BYTES_MAX / 4 * 3;
/// A tenant that holds no more than this has room when others fill theirs.
const SMALL_BYTES_MAX: usize = 4 * PAGE_BYTES_MAX;
/// Of one tenant.
const TENANT_BYTES_MAX: usize = BYTES_MAX / 4;
/// Of a tenant's visitors, all together: anybody can be one, and agents must read on.
const VISITORS_BYTES_MAX: usize = TENANT_BYTES_MAX / 2;
/// Of a person, or of a tenant's `/v0` tokens.
const PERSON_BYTES_MAX: usize = 16 * PAGE_BYTES_MAX;

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reader {
    tenant: TenantId,
    person: Uuid,
    is_visitor: bool,
}

impl Reader {
    /// An agent.
    #[must_use]
    pub fn agent(tenant: TenantId, agent: AgentId) -> Self {
        Self { tenant, person: agent.0, is_visitor: false }
    }

    /// A visitor.
    #[must_use]
    pub fn visitor(tenant: TenantId, visitor: VisitorId) -> Self {
        Self { tenant, person: visitor.0, is_visitor: true }
    }

    /// A `/v0` token of the tenant.
    #[must_use]
    pub fn token(tenant: TenantId) -> Self {
        Self { tenant, person: tenant.0, is_visitor: false }
    }

    /// The operator.
    #[must_use]
    pub fn operator() -> Self {
        Self::token(TenantId(Uuid::nil()))
    }
}

impl From<&AgentCaller> for Reader {
    fn from(caller: &AgentCaller) -> Self {
        Self::agent(caller.tenant, caller.agent)
    }
}

impl From<&VisitorCaller> for Reader {
    fn from(caller: &VisitorCaller) -> Self {
        // By who the token is for: one from before an identification takes nothing from the identified visitor.
        Self::visitor(caller.tenant, caller.subject)
    }
}

/// What all readers hold; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Reading(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    tenants: HashMap<TenantId, Tenant>,
    /// Tenants of whom somebody waits; the first one's turn is next.
    turns: VecDeque<TenantId>,
}

#[derive(Debug, Default)]
struct Tenant {
    bytes: usize,
    by_visitors: usize,
    persons: HashMap<Uuid, usize>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    reader: Reader,
    turn: oneshot::Sender<Hold>,
}

impl Tenant {
    /// Whether one page more fits, the rest of the server aside.
    fn has_room(&self, reader: Reader) -> bool {
        let own = self.persons.get(&reader.person).copied().unwrap_or_default();
        self.bytes + PAGE_BYTES_MAX <= TENANT_BYTES_MAX
            && own + PAGE_BYTES_MAX <= PERSON_BYTES_MAX
            && (!reader.is_visitor || self.by_visitors + PAGE_BYTES_MAX <= VISITORS_BYTES_MAX)
    }
}

impl Held {
    fn has_room(&self, reader: Reader) -> bool {
        let Some(tenant) = self.tenants.get(&reader.tenant) else { return self.bytes + PAGE_BYTES_MAX <= BYTES_MAX };
        let small = tenant.bytes + PAGE_BYTES_MAX <= SMALL_BYTES_MAX;
        let bytes_max = if small { BYTES_MAX } else { CROWDED_BYTES_MAX };
        self.bytes + PAGE_BYTES_MAX <= bytes_max && tenant.has_room(reader)
    }

    /// A reader holds `after` instead of `before`.
    fn change(&mut self, reader: Reader, before: usize, after: usize) {
        let change = |bytes: &mut usize| *bytes = *bytes - before + after;
        change(&mut self.bytes);
        let tenant = self.tenants.entry(reader.tenant).or_default();
        change(&mut tenant.bytes);
        if reader.is_visitor {
            change(&mut tenant.by_visitors);
        }
        let own = tenant.persons.entry(reader.person).or_default();
        change(own);
        if *own == 0 {
            tenant.persons.remove(&reader.person);
        }
        if tenant.persons.is_empty() && tenant.waiting.is_empty() {
            self.tenants.remove(&reader.tenant);
        }
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("parlance_reading_bytes").set(self.bytes as f64);
    }

    /// The next whose turn it is and who has room; who doesn't wait any more is forgotten.
    fn next(&mut self) -> Option<Waiting> {
        for _ in 0..self.turns.len() {
            let id = self.turns.pop_front()?;
            let Some(tenant) = self.tenants.get_mut(&id) else { continue };
            tenant.waiting.retain(|waiting| !waiting.turn.is_closed());
            let readers: Vec<Reader> = tenant.waiting.iter().map(|waiting| waiting.reader).collect();
            let place = readers.into_iter().position(|reader| self.has_room(reader));
            let Some(tenant) = self.tenants.get_mut(&id) else { continue };
            let waiting = place.and_then(|place| tenant.waiting.remove(place));
            if !tenant.waiting.is_empty() {
                self.turns.push_back(id);
            } else if tenant.persons.is_empty() && waiting.is_none() {
                self.tenants.remove(&id);
            }
            if waiting.is_some() {
                return waiting;
            }
        }
        None
    }
}

impl Reading {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a page, [`PAGE_BYTES_MAX`]; waits for it. Ask before the page is read: what waits has read nothing.
    pub async fn hold(&self, reader: Reader) -> Hold {
        let turn = {
            let mut held = self.lock();
            if held.has_room(reader) {
                return self.take(&mut held, reader);
            }
            let (turn, mine) = oneshot::channel();
            let tenant = held.tenants.entry(reader.tenant).or_default();
            tenant.waiting.push_back(Waiting { reader, turn });
            if tenant.waiting.len() == 1 {
                held.turns.push_back(reader.tenant);
            }
            mine
        };
        metrics::counter!("parlance_reading_waits_total").increment(1);
        turn.await.expect("a turn that is forgotten is one that nobody waits for")
    }

    fn take(&self, held: &mut Held, reader: Reader) -> Hold {
        held.change(reader, 0, PAGE_BYTES_MAX);
        Hold { reading: self.clone(), reader, bytes: PAGE_BYTES_MAX }
    }

    /// Gives turns to those who have room now.
    fn give_turns(&self) {
        loop {
            let (waiting, hold) = {
                let mut held = self.lock();
                let Some(waiting) = held.next() else { return };
                let hold = self.take(&mut held, waiting.reader);
                (waiting, hold)
            };
            // Who has gone meanwhile gives it back, without the lock.
            drop(waiting.turn.send(hold));
        }
    }

    /// Bytes that are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

/// What a reader holds; dropping it gives it back.
#[derive(Debug)]
pub struct Hold {
    reading: Reading,
    reader: Reader,
    bytes: usize,
}

impl Hold {
    /// What was read has so many bytes: less than a page, or one item that is more. Waits for nothing.
    pub fn becomes(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        self.reading.lock().change(self.reader, before, bytes);
        if bytes < before {
            self.reading.give_turns();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.becomes(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::pin::Pin;

    type Asked = Pin<Box<dyn Future<Output = Hold> + Send>>;

    fn ask(reading: &Reading, reader: Reader) -> Asked {
        let reading = reading.clone();
        Box::pin(async move { reading.hold(reader).await })
    }

    /// Holds as many pages as this reader gets at once.
    fn fill(reading: &Reading, reader: Reader) -> Vec<Hold> {
        std::iter::from_fn(|| reading.hold(reader).now_or_never()).collect()
    }

    fn agents(tenant: TenantId) -> impl Iterator<Item = Reader> {
        std::iter::repeat_with(move || Reader::agent(tenant, AgentId::fresh()))
    }

    fn visitors(tenant: TenantId) -> impl Iterator<Item = Reader> {
        std::iter::repeat_with(move || Reader::visitor(tenant, VisitorId::fresh()))
    }

    /// As many pages as this many readers get.
    fn fill_by(reading: &Reading, readers: impl Iterator<Item = Reader>) -> Vec<Hold> {
        readers.take(100).flat_map(|reader| fill(reading, reader)).collect()
    }

    fn pages(bytes: usize) -> usize {
        bytes / PAGE_BYTES_MAX
    }

    #[test]
    fn every_part_has_its_bound_and_a_small_tenant_always_room() {
        let (reading, tenant) = (Reading::default(), TenantId::fresh());
        let one = fill(&reading, Reader::visitor(tenant, VisitorId::fresh()));
        assert_eq!(one.len(), pages(PERSON_BYTES_MAX), "a person");
        let visitors = fill_by(&reading, visitors(tenant));
        assert_eq!(one.len() + visitors.len(), pages(VISITORS_BYTES_MAX), "visitors");
        let agents_of_it = fill_by(&reading, agents(tenant));
        assert_eq!(one.len() + visitors.len() + agents_of_it.len(), pages(TENANT_BYTES_MAX), "a tenant");
        let others: Vec<_> = (0..9).map(|_| fill_by(&reading, agents(TenantId::fresh()))).collect();
        assert_eq!(reading.bytes(), CROWDED_BYTES_MAX + 7 * SMALL_BYTES_MAX);
        let small = fill_by(&reading, agents(TenantId::fresh()));
        assert_eq!(small.len(), pages(SMALL_BYTES_MAX), "one that holds nothing yet");
        drop((one, visitors, agents_of_it, others, small));
        assert_eq!(reading.bytes(), 0);
        assert!(reading.lock().tenants.is_empty(), "nothing is kept of who holds nothing");
    }

    /// Whoever waits gets a turn as soon as there is room, tenants one after the other and not those who ask most.
    #[test]
    fn turns_go_round_by_tenant() {
        let reading = Reading::default();
        let tenants: Vec<TenantId> = (0..3).map(|_| TenantId::fresh()).collect();
        let mut held: Vec<Hold> = (0..200).flat_map(|_| fill_by(&reading, agents(TenantId::fresh()).take(1))).collect();
        assert_eq!(reading.bytes(), BYTES_MAX);
        // The first has asked ten times before the others come.
        let order = [[0; 10].as_slice(), &[1, 1], &[2, 2]].concat();
        let ask_as = |tenant: usize| (tenant, ask(&reading, Reader::token(tenants[tenant])));
        let mut asked: Vec<(usize, Asked)> = order.into_iter().map(ask_as).collect();
        asked.iter_mut().for_each(|(_, asked)| assert!(asked.now_or_never().is_none()));
        let mut served = Vec::new();
        for _ in 0..6 {
            drop(held.pop());
            let place = asked.iter_mut().position(|(_, asked)| match asked.now_or_never() {
                Some(hold) => {
                    held.insert(0, hold);
                    true
                }
                None => false,
            });
            served.push(asked.remove(place.expect("somebody's turn")).0);
        }
        assert_eq!(served, [0, 1, 2, 0, 1, 2]);
    }

    /// One who waits for their own others to be read keeps nobody waiting behind them; one who left takes no turn.
    #[test]
    fn who_has_no_room_is_passed_over_and_who_left_is_forgotten() {
        let (reading, tenant) = (Reading::default(), TenantId::fresh());
        let greedy = Reader::agent(tenant, AgentId::fresh());
        let mut own = fill(&reading, greedy);
        let mut rest = fill_by(&reading, agents(tenant));
        assert_eq!(reading.bytes(), TENANT_BYTES_MAX);
        let (mut left, mut second) = (ask(&reading, greedy), ask(&reading, greedy));
        let mut other = ask(&reading, Reader::agent(tenant, AgentId::fresh()));
        assert!([&mut left, &mut second, &mut other].into_iter().all(|asked| asked.now_or_never().is_none()));
        drop(rest.pop());
        assert!(second.as_mut().now_or_never().is_none());
        let other = other.now_or_never().expect("room for another person");
        drop(left);
        drop(own.pop());
        let second = second.now_or_never().expect("the one before left");
        drop((other, second, own, rest));
        assert_eq!(reading.bytes(), 0);
        assert!(reading.lock().tenants.is_empty());
    }

    #[test]
    fn what_was_read_may_be_less_or_one_large_item() {
        let (reading, reader) = (Reading::default(), Reader::token(TenantId::fresh()));
        let mut hold = reading.hold(reader).now_or_never().expect("room");
        hold.becomes(100);
        assert_eq!(reading.bytes(), 100);
        hold.becomes(3 * PAGE_BYTES_MAX);
        assert_eq!(reading.bytes(), 3 * PAGE_BYTES_MAX);
        drop(hold);
        assert_eq!(reading.bytes(), 0);
    }
}
