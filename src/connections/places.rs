//! All connections of the process, whatever door they came through: how many there may be, in all and from one address,
//! and who goes when there is no room. Start at [`Places::take`].
//!
//! Who waits for something of a client (a whole request head, the next request, a password, the next statement outside of a
//! transaction) can be let go at any time: no answer is lost, and clients that are well come back. So a full house turns
//! nobody away as long as someone in it only sits there: of those with the most connections, who has sat longest goes. Where
//! all are at work, the last places are for addresses that hold few, and for this machine and the trusted proxies, so that a
//! probe of health finds room.
//!
//! A connection's stage is one number that its task sets without a lock; [`watch`] looks at all of them now and then and lets
//! those go whose time is up.

use super::Waits;
use chat_api::limits::Cidr;
use chat_api::limits::client::network;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Open files that are kept back for the log, the facts, spills and uploads; half of all where there are few. A reader of the
/// database takes three and 512 may read at once at the very worst; 128 uploads take one each.
const FILES_KEPT: u64 = 1_024;
/// One part of so many of all places is kept for addresses that hold few.
const KEPT_SHARE: usize = 16;
/// An address that holds fewer than this holds few.
const FEW: usize = 4;
/// One part of so many of those who only sit there goes at once, so that a flood costs no look at all connections each.
const LET_GO_SHARE: usize = 16;
/// Connections that were told to go and whose tasks haven't yet. More than these means that nothing gets done, and then
/// nobody is let in.
const LEAVING_MAX: usize = 512;
/// Bytes of a head that always find room. Longer ones share [`HEADS_BYTES_MAX`], and where that is used up they end.
const HEAD_BYTES_FREE: usize = 8 * 1024;
/// Bytes of unfinished heads over [`HEAD_BYTES_FREE`], of all connections together.
const HEADS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacesLimits {
    /// At every door together.
    pub max: usize,
    /// Of these, over the Postgres wire.
    pub pg_max: usize,
    /// From one address, or one /64 of the sixth version; never more than three quarters of all. Trusted proxies have all of them.
    pub per_ip_max: usize,
    /// Behind these are many.
    pub proxies: Vec<Cidr>,
}

impl PlacesLimits {
    /// As many as wanted, and as the system's limit of open files allows.
    pub fn within(self, open_files: u64) -> Self {
        let max = self.max;
        let allowed = open_files - FILES_KEPT.min(open_files / 2);
        let allowed = usize::try_from(allowed).unwrap_or(usize::MAX);
        if allowed < max {
            tracing::info!(open_files, max, allowed, "the limit of open files allows fewer connections than are set");
        }
        let max = max.min(allowed).max(1);
        Self { max, per_ip_max: self.per_ip_max.min(three_quarters(max)), ..self }
    }
}

/// What one kind or one address may have of all; the rest is for others.
pub fn three_quarters(max: usize) -> usize {
    (max - max / 4).max(1)
}

/// Where a connection came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    Http,
    Pg,
}

impl Door {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Pg => "pg",
        }
    }

    /// How long one may sit there between requests; the Postgres wire sees to that itself.
    fn idle(self, waits: &Waits) -> Option<Duration> {
        match self {
            Self::Http => Some(waits.idle),
            Self::Pg => None,
        }
    }
}

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The client owes us the rest of a request's head, or of its introduction.
    Head,
    /// The client may send something, or not.
    Idle,
    /// The client waits for us, or is served for long.
    Busy,
    /// It was told to go.
    Leaving,
}

/// A stage, and since when: two bits, and milliseconds since the start of the process's count.
fn packed(stage: Stage, since_ms: u64) -> u64 {
    since_ms << 2 | stage as u64
}

fn unpacked(value: u64) -> (Stage, u64) {
    let stage = match value & 3 {
        0 => Stage::Head,
        1 => Stage::Idle,
        2 => Stage::Busy,
        _ => Stage::Leaving,
    };
    (stage, value >> 2)
}

struct Seen {
    door: Door,
    network: Ipv6Addr,
    stage: AtomicU64,
    /// Bytes of the head so far.
    head: AtomicUsize,
    leave: Notify,
}

#[derive(Default)]
struct Taken {
    all: HashMap<u64, Arc<Seen>>,
    networks: HashMap<Ipv6Addr, usize>,
    pg: usize,
    leaving: usize,
    next: u64,
}

impl Taken {
    fn held(&self, network: &Ipv6Addr) -> usize {
        self.networks.get(network).copied().unwrap_or(0)
    }

    fn remove(&mut self, id: u64) -> bool {
        let Some(seen) = self.all.remove(&id) else { return false };
        if let Some(count) = self.networks.get_mut(&seen.network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&seen.network);
            }
        }
        self.pg -= usize::from(seen.door == Door::Pg);
        metrics::gauge!("parlance_connections", "door" => seen.door.name()).decrement(1);
        true
    }

    /// Tells one to go, if it still sits as it was seen; its place is free at once.
    fn let_go(&mut self, id: u64, was: u64, why: &'static str) -> bool {
        let Some(seen) = self.all.get(&id) else { return false };
        let leaving = packed(Stage::Leaving, 0);
        if seen.stage.compare_exchange(was, leaving, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        count_ended(seen.door, why);
        seen.leave.notify_one();
        self.leaving += 1;
        self.remove(id)
    }

    /// Lets some of those go who only sit there: of whom the most are here, and the longest first.
    fn make_room(&mut self, of: impl Fn(&Seen) -> bool) -> bool {
        if self.leaving >= LEAVING_MAX {
            return false;
        }
        let sitting = self.all.iter().filter(|(_, seen)| of(seen));
        let mut sitting: Vec<_> = sitting
            .map(|(id, seen)| (self.held(&seen.network), seen.stage.load(Ordering::Relaxed), *id))
            .filter(|(_, stage, _)| matches!(unpacked(*stage).0, Stage::Head | Stage::Idle))
            .collect();
        sitting.sort_unstable_by_key(|(held, stage, id)| (std::cmp::Reverse(*held), unpacked(*stage).1, *id));
        sitting.truncate((sitting.len() / LET_GO_SHARE).max(1));
        let mut made = false;
        for (_, was, id) in sitting {
            made |= self.let_go(id, was, "room");
        }
        made
    }
}

fn count_ended(door: Door, why: &'static str) {
    metrics::counter!("parlance_connections_ended_total", "door" => door.name(), "why" => why).increment(1);
}

/// All connections of the process.
pub struct Places {
    limits: PlacesLimits,
    waits: Waits,
    start: Instant,
    taken: Mutex<Taken>,
    /// Bytes of unfinished heads over what is free.
    heads: AtomicUsize,
}

/// One connection's place; given back when dropped.
pub struct Place {
    places: Arc<Places>,
    id: u64,
    seen: Arc<Seen>,
}

impl Places {
    /// All free.
    pub fn new(limits: PlacesLimits, waits: Waits) -> Self {
        Self { limits, waits, start: Instant::now(), taken: Mutex::default(), heads: AtomicUsize::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX >> 2)
    }

    /// A place for a connection that was just accepted; `None` when there is none, which is counted.
    pub fn take(self: &Arc<Self>, door: Door, peer: IpAddr) -> Option<Place> {
        let network = network(peer);
        let is_proxy = self.limits.proxies.iter().any(|proxies| proxies.contains(peer.to_canonical()));
        let mut taken = self.lock();
        let held = taken.held(&network);
        let full_for_one = !is_proxy && held >= self.limits.per_ip_max;
        let favoured = is_proxy || peer.to_canonical().is_loopback() || held < FEW;
        let kept = if favoured { 0 } else { (self.limits.max / KEPT_SHARE).max(1) };
        let full_for_pg = door == Door::Pg && taken.pg >= self.limits.pg_max;
        let refused = if full_for_one && !taken.make_room(|seen| seen.network == network) {
            Some("ip")
        } else if full_for_pg && !taken.make_room(|seen| seen.door == Door::Pg) {
            Some("door")
        } else if taken.all.len() + kept >= self.limits.max && !taken.make_room(|_| true) {
            Some("all")
        } else {
            None
        };
        if let Some(why) = refused {
            drop(taken);
            metrics::counter!("parlance_connections_refused_total", "door" => door.name(), "why" => why).increment(1);
            return None;
        }
        let stage = AtomicU64::new(packed(Stage::Head, self.now_ms()));
        let seen = Arc::new(Seen { door, network, stage, head: AtomicUsize::new(0), leave: Notify::new() });
        let id = taken.next;
        taken.next += 1;
        taken.all.insert(id, Arc::clone(&seen));
        *taken.networks.entry(network).or_default() += 1;
        taken.pg += usize::from(door == Door::Pg);
        drop(taken);
        metrics::gauge!("parlance_connections", "door" => door.name()).increment(1);
        Some(Place { places: Arc::clone(self), id, seen })
    }

    /// What to do when the system gives no connection: without a free file it gives none until one is closed, and asking
    /// again at once would only spin.
    pub async fn failed_to_accept(&self, door: Door, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            return;
        }
        metrics::counter!("parlance_connections_refused_total", "door" => door.name(), "why" => "system").increment(1);
        let made_room = self.lock().make_room(|_| true);
        tracing::warn!(%error, door = door.name(), made_room, "failed to accept a connection");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    /// Lets those go whose time is up.
    fn sweep(&self) {
        let now = self.now_ms();
        let mut taken = self.lock();
        let over = |wait: Duration, since: u64| u128::from(now.saturating_sub(since)) >= wait.as_millis();
        let late = taken.all.iter().filter_map(|(id, seen)| {
            let stage = seen.stage.load(Ordering::Relaxed);
            let why = match unpacked(stage) {
                (Stage::Head, since) => over(self.waits.header, since).then_some("header"),
                (Stage::Idle, since) => {
                    seen.door.idle(&self.waits).is_some_and(|idle| over(idle, since)).then_some("idle")
                }
                (Stage::Busy | Stage::Leaving, _) => None,
            };
            why.map(|why| (*id, stage, why))
        });
        let late: Vec<_> = late.collect();
        for (id, was, why) in late {
            taken.let_go(id, was, why);
        }
    }
}

/// Looks for connections whose time is up, until `stop`. A time-out comes a quarter late at most.
pub async fn watch(places: Arc<Places>, stop: CancellationToken) {
    let shortest = places.waits.header.min(places.waits.idle);
    let mut every = tokio::time::interval((shortest / 4).clamp(Duration::from_millis(20), Duration::from_secs(1)));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! { () = stop.cancelled() => return, _ = every.tick() => places.sweep() }
    }
}

impl Place {
    /// Ends when the connection has to go.
    pub async fn must_leave(&self) {
        self.seen.leave.notified().await;
    }

    /// Bytes came in.
    ///
    /// # Errors
    /// When they are a long head's, and there are too many of those.
    pub fn reads(&self, bytes: usize) -> io::Result<()> {
        let (stage, _) = unpacked(self.seen.stage.load(Ordering::Relaxed));
        match stage {
            Stage::Idle if bytes > 0 => self.set(Stage::Head),
            Stage::Head => {}
            Stage::Idle | Stage::Busy | Stage::Leaving => return Ok(()),
        }
        let before = self.seen.head.fetch_add(bytes, Ordering::Relaxed);
        let paid = |bytes: usize| bytes.saturating_sub(HEAD_BYTES_FREE);
        let more = paid(before + bytes) - paid(before);
        if more > 0 && self.places.heads.fetch_add(more, Ordering::Relaxed) + more > HEADS_BYTES_MAX {
            count_ended(self.seen.door, "heads");
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "too many long heads of requests are under way"));
        }
        Ok(())
    }

    /// The head is whole, or the client has shown who it is.
    pub fn busy(&self) {
        self.forget_head();
        self.set(Stage::Busy);
    }

    /// It's the client's turn, if it wants.
    pub fn idle(&self) {
        self.set(Stage::Idle);
    }

    /// Whether it's served just now.
    pub fn is_busy(&self) -> bool {
        unpacked(self.seen.stage.load(Ordering::Relaxed)).0 == Stage::Busy
    }

    /// It ends by itself for a reason that is counted.
    pub fn ended(&self, why: &'static str) {
        count_ended(self.seen.door, why);
    }

    fn set(&self, stage: Stage) {
        self.seen.stage.store(packed(stage, self.places.now_ms()), Ordering::Relaxed);
    }

    fn forget_head(&self) {
        let head = self.seen.head.swap(0, Ordering::Relaxed);
        let paid = head.saturating_sub(HEAD_BYTES_FREE);
        if paid > 0 {
            self.places.heads.fetch_sub(paid, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.forget_head();
        let mut taken = self.places.lock();
        if !taken.remove(self.id) {
            taken.leaving -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(max: usize, per_ip_max: usize, proxies: &[&str]) -> Arc<Places> {
        let proxies = proxies.iter().map(|text| text.parse().expect("a range")).collect();
        Arc::new(Places::new(PlacesLimits { max, pg_max: 4, per_ip_max, proxies }, Waits::default()))
    }

    fn from(places: &Arc<Places>, address: &str) -> Option<Place> {
        places.take(Door::Http, address.parse().expect("an address"))
    }

    fn told_to_go(place: &Place) -> bool {
        unpacked(place.seen.stage.load(Ordering::Relaxed)).0 == Stage::Leaving
    }

    /// The issue's: one address opens as many as it can and says nothing.
    #[test]
    fn who_only_sits_there_makes_room_for_who_comes() {
        let places = places(64, 32, &[]);
        let mut sitting = Vec::new();
        for _ in 0..925 {
            sitting.push(from(&places, "192.0.2.1").expect("the new one sits, old ones go"));
            // Whose task hears it, and ends.
            sitting.retain(|place| !told_to_go(place));
            assert!(sitting.len() <= 32);
        }
        let other = from(&places, "192.0.2.2").expect("a place");
        assert!(sitting.len() >= 30 && sitting.iter().all(|place| !told_to_go(place)));
        drop(sitting);
        let taken = places.lock();
        assert_eq!((taken.leaving, taken.all.len()), (0, 1));
        drop(taken);
        assert!(!told_to_go(&other));
    }

    /// Tasks that don't get to run hold their sockets: then nobody new is let in.
    #[test]
    fn who_was_told_to_go_and_does_not_is_bounded() {
        let places = places(64, 32, &[]);
        let held: Vec<_> = (0..2_000).filter_map(|_| from(&places, "192.0.2.1")).collect();
        assert!(held.len() <= LEAVING_MAX + 64, "{}", held.len());
        drop(held);
        assert_eq!(places.lock().leaving, 0);
    }

    /// Who is served is never told to go: then it's the new one that finds no place.
    #[test]
    fn who_is_served_stays_and_the_rest_find_room() {
        let places = places(64, 32, &["203.0.113.0/24"]);
        let take_busy = |address: &str| from(&places, address).inspect(|place| place.busy());
        let mut held: Vec<_> = (0..32).map(|_| take_busy("192.0.2.1").expect("a place")).collect();
        assert!(from(&places, "192.0.2.1").is_none(), "one address has half");
        held.extend((0..28).map(|_| take_busy("192.0.2.2").expect("a place")));
        assert!(take_busy("192.0.2.2").is_none(), "the last places are for others");
        held.push(take_busy("192.0.2.3").expect("an address that holds few"));
        held.push(take_busy("127.0.0.1").expect("this machine"));
        held.extend((0..2).map(|_| take_busy("203.0.113.9").expect("a proxy")));
        assert_eq!(held.len(), 64);
        assert!(take_busy("127.0.0.1").is_none(), "all is all");
        held[40].idle();
        assert!(take_busy("192.0.2.4").is_some() && told_to_go(&held[40]), "who is between requests goes");
    }

    /// Ten tenants' idle connections would else keep everyone from the Postgres wire for an hour.
    #[test]
    fn the_postgres_wire_has_its_own_number_and_makes_room_too() {
        let places = places(64, 32, &[]);
        let pg = |address: &str| places.take(Door::Pg, address.parse().expect("an address"));
        let held: Vec<_> = (0..4).map(|_| pg("192.0.2.1").expect("a place")).collect();
        held.iter().for_each(Place::busy);
        assert!(pg("192.0.2.2").is_none());
        held[2].idle();
        let other = pg("192.0.2.2").expect("a place");
        other.busy();
        assert!(told_to_go(&held[2]) && pg("192.0.2.3").is_none());
        assert!(from(&places, "192.0.2.3").is_some(), "another door has room");
        drop((held, other));
        assert_eq!(places.lock().pg, 0);
    }

    #[test]
    fn behind_a_proxy_are_many_and_a_network_of_ipv6_is_one() {
        let places = places(64, 4, &["10.0.0.0/8"]);
        let of = |address: &str| {
            let taken = (0..40).map(|_| from(&places, address).inspect(|place| place.busy()));
            taken.collect::<Vec<_>>().iter().flatten().count()
        };
        assert_eq!((of("10.1.1.1"), of("192.0.2.1"), of("::ffff:10.1.1.1")), (40, 4, 40));
        let held: Vec<_> =
            (1..9).map(|host| from(&places, &format!("2001:db8::{host}")).inspect(|place| place.busy())).collect();
        assert_eq!(held.iter().flatten().count(), 4);
    }

    /// Heads may be long, but not of everyone at once.
    #[test]
    fn long_heads_share_a_budget() {
        let places = places(8_192, 8_192, &[]);
        let held: Vec<_> = (0..4_000).map(|_| from(&places, "10.0.0.1").expect("a place")).collect();
        assert!(held.iter().all(|place| place.reads(HEAD_BYTES_FREE).is_ok()), "short ones always go on");
        let long = held.iter().take_while(|place| place.reads(64 * 1024).is_ok()).count();
        assert_eq!(long, HEADS_BYTES_MAX / (64 * 1024));
        held.iter().for_each(Place::busy);
        assert_eq!(places.heads.load(Ordering::Relaxed), 0);
        held[0].idle();
        held[0].reads(100_000).expect("room again");
        drop(held);
        assert_eq!(places.heads.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn files_are_kept_back() {
        let wanted = PlacesLimits { max: 24_000, pg_max: 500, per_ip_max: 2_000, proxies: Vec::new() };
        let limits = |open_files| wanted.clone().within(open_files);
        assert_eq!((limits(1_024).max, limits(1_024).per_ip_max), (512, 384));
        assert_eq!((limits(20_000).max, limits(20_000).per_ip_max), (18_976, 2_000));
        assert_eq!((limits(u64::MAX).max, limits(u64::MAX).per_ip_max), (24_000, 2_000));
    }

    #[tokio::test]
    async fn a_stage_ends_when_its_time_is_up() {
        let waits = Waits { header: Duration::from_millis(50), idle: Duration::from_millis(200), ..Waits::default() };
        let limits = PlacesLimits { max: 8, pg_max: 8, per_ip_max: 8, proxies: Vec::new() };
        let places = Arc::new(Places::new(limits, waits));
        let stop = CancellationToken::new();
        let watching = tokio::spawn(watch(Arc::clone(&places), stop.clone()));
        let [half, idle, busy] = [(); 3].map(|()| from(&places, "::1").expect("a place"));
        idle.busy();
        busy.busy();
        idle.idle();
        let started = Instant::now();
        half.must_leave().await;
        assert!(started.elapsed() >= Duration::from_millis(45) && !told_to_go(&idle));
        idle.must_leave().await;
        assert!(started.elapsed() >= Duration::from_millis(195) && !told_to_go(&busy));
        stop.cancel();
        watching.await.expect("ends");
    }
}
