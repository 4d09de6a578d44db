//! Who is there: the last sign of life of every visitor and agent, in memory, and what follows when there is none.
//!
//! A sign of life is a request or anything that came over a socket, the answer to a ping included; an open socket alone
//! is none, its peer may be long gone. [`Presence`] keeps the signs and tells changes; [`tick`] closes what a visitor
//! didn't come back to and sets agents offline; [`watch`] ticks, and tells agents of their visitors, until the server stops.
//!
//! Time is counted by the clock that nobody sets. After a restart, and after any other [break](crate::breaks) in the server's
//! own time, everyone counts as last seen then: who couldn't reach it has not gone.

use crate::app::App;
use crate::breaks::Breaks;
use crate::core::command::{Command, CommandKind};
use crate::core::state::Tenant;
use crate::live::Person;
use crate::store::read;
use ingest::event::Actor;
use ingest::id::{AgentId, EventId, TenantId, VisitorId};
use ingest::payload::AgentStatus;
use ingest::time::{Moment, Timestamp};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Without a sign of life for this long, a person is away, unless it's set otherwise.
pub const AWAY_AFTER: Duration = Duration::from_secs(60);
/// Looks in that time.
const TICKS: u32 = 12;
/// What one look ends at most, of agents and of conversations; the rest is for the next looks. Whatever goes wrong with the
/// time or the network, there is time to notice.
const ENDED_A_TICK_MAX: usize = 500;
/// Signs are forgotten after the longest standby that can be set, and some.
const KEPT_MS: i64 = 8 * 24 * 60 * 60 * 1_000;
/// Changes that a slow listener may be behind before it misses some.
const CHANGES_MAX: usize = 4_096;

/// Where the time comes from; tests bring their own.
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// Someone came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresenceChange {
    /// Where.
    pub tenant: TenantId,
    /// Who.
    pub person: Person,
    /// There from here on, or away.
    pub present: bool,
    /// Their last sign of life.
    pub last_seen: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    last: Moment,
    present: bool,
    /// Has had a socket, some time; an agent who never had one stays as set.
    socket: bool,
}

/// The last signs of life.
pub struct Presence {
    clock: Clock,
    away_after_ms: i64,
    /// The start, or the end of the last break, by the clock that nobody sets.
    since_ms: AtomicI64,
    people: Mutex<HashMap<(TenantId, Person), Seen>>,
    changes: broadcast::Sender<PresenceChange>,
}

impl Default for Presence {
    fn default() -> Self {
        Self::away_after(AWAY_AFTER)
    }
}

impl Presence {
    /// Nobody has been seen yet.
    #[must_use]
    pub fn away_after(away_after: Duration) -> Self {
        Self::new(Arc::new(Moment::now), away_after)
    }

    /// The same by another clock.
    #[must_use]
    pub fn new(clock: Clock, away_after: Duration) -> Self {
        let away_after_ms = i64::try_from(away_after.as_millis()).unwrap_or(i64::MAX);
        let since_ms = AtomicI64::new(clock().up_ms);
        let changes = broadcast::Sender::new(CHANGES_MAX);
        Self { clock, away_after_ms, since_ms, people: Mutex::default(), changes }
    }

    /// The server was away, so that nobody could give a sign of life: everyone has the whole time again.
    pub fn forgive(&self) {
        self.since_ms.store((self.clock)().up_ms, Ordering::Relaxed);
    }

    /// Milliseconds without a sign of life since then.
    fn silent_ms(&self, now: Moment, last: Moment) -> i64 {
        now.up_ms - last.up_ms.max(self.since_ms.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(TenantId, Person), Seen>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who comes and goes from here on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<PresenceChange> {
        self.changes.subscribe()
    }

    /// A request.
    pub fn seen(&self, tenant: TenantId, person: Person) {
        self.sign(tenant, person, false);
    }

    /// Something came over a socket.
    pub fn heard(&self, tenant: TenantId, person: Person) {
        self.sign(tenant, person, true);
    }

    fn sign(&self, tenant: TenantId, person: Person, socket: bool) {
        let last = (self.clock)();
        let mut people = self.lock();
        let seen = people.entry((tenant, person)).or_insert(Seen { last, present: false, socket: false });
        let came = !seen.present;
        *seen = Seen { last, present: true, socket: seen.socket || socket };
        drop(people);
        if came {
            self.tell(PresenceChange { tenant, person, present: true, last_seen: last.wall });
        }
    }

    fn tell(&self, change: PresenceChange) {
        // Without a listener nobody needs to know.
        let _listeners = self.changes.send(change);
    }

    /// Whether there was a sign of life in the last minute.
    #[must_use]
    pub fn is_present(&self, tenant: TenantId, person: Person) -> bool {
        let last = self.lock().get(&(tenant, person)).map(|seen| seen.last);
        last.is_some_and(|last| self.silent_ms((self.clock)(), last) < self.away_after_ms)
    }

    /// The last sign of life since the start.
    #[must_use]
    pub fn last_seen(&self, tenant: TenantId, person: Person) -> Option<Timestamp> {
        self.lock().get(&(tenant, person)).map(|seen| seen.last.wall)
    }

    /// Tells who has gone since the last look, and answers the agents who are away and have had a socket.
    fn sweep(&self) -> Vec<(TenantId, AgentId)> {
        let now = (self.clock)();
        let (mut gone, mut agents) = (Vec::new(), Vec::new());
        self.lock().retain(|(tenant, person), seen| {
            let away = self.silent_ms(now, seen.last) >= self.away_after_ms;
            if away && std::mem::replace(&mut seen.present, false) {
                let last_seen = seen.last.wall;
                gone.push(PresenceChange { tenant: *tenant, person: *person, present: false, last_seen });
            }
            if let (true, true, Person::Agent(agent)) = (away, seen.socket, person) {
                agents.push((*tenant, *agent));
            }
            seen.socket && matches!(person, Person::Agent(_)) || now.up_ms - seen.last.up_ms < KEPT_MS
        });
        gone.into_iter().for_each(|change| self.tell(change));
        agents
    }

    /// Milliseconds that a visitor has been away; 0 for one who is there. One of whom there was no sign counts as seen at
    /// `known_at`, or at the start if that is later.
    fn away_ms(&self, tenant: TenantId, visitor: VisitorId, known_at: Timestamp) -> i64 {
        let now = (self.clock)();
        let seen = self.lock().get(&(tenant, Person::Visitor(visitor))).map(|seen| seen.last);
        // One that is known from the future says nothing: the clock was set meanwhile.
        let known_ms = Some(now.wall.since(known_at)).filter(|ms| *ms >= 0);
        let last = seen.or_else(|| known_ms.map(|ms| now.plus_ms(-ms)));
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        let silent_ms = last.map_or(now.up_ms - since_ms, |last| self.silent_ms(now, last));
        (silent_ms - self.away_after_ms).max(0)
    }
}

/// Ticks, and tells agents which visitors come and go, until `stop`.
pub async fn watch(app: Arc<App>, stop: CancellationToken) {
    let mut changes = app.presence.changes();
    let tick_every = Duration::from_millis(app.presence.away_after_ms.unsigned_abs()) / TICKS;
    let mut every = tokio::time::interval(tick_every);
    let mut breaks = Breaks::new(tick_every);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {
                if let Some(came_between) = breaks.look(Moment::now()) {
                    tracing::info!(?came_between, "everyone counts as seen now");
                    app.presence.forgive();
                }
                tick(&app).await;
            }
            // One that was missed is told with the next change; a subscription begins with how it is.
            Ok(change) = changes.recv() => {
                if let Person::Visitor(visitor) = change.person {
                    app.live.show_visitor(&app.views, &app.pool, change.tenant, visitor, change.present);
                }
            }
        }
    }
}

/// One look: agents who are gone go offline, and what visitors didn't come back to ends.
pub async fn tick(app: &App) {
    let mut ended = 0;
    for (tenant, agent) in app.presence.sweep() {
        if ended == ENDED_A_TICK_MAX {
            tracing::warn!(ended, "many agents are gone at once; the rest waits for the next look");
            break;
        }
        ended += usize::from(set_offline(app, tenant, agent).await);
    }
    match expired(app) {
        Ok(expired) => {
            if expired.len() > ENDED_A_TICK_MAX {
                let waiting = expired.len() - ENDED_A_TICK_MAX;
                tracing::warn!(waiting, "many visitors are gone at once; the rest waits for the next look");
            }
            for (tenant, kind) in expired.into_iter().take(ENDED_A_TICK_MAX) {
                submit(app, tenant, kind).await;
            }
        }
        Err(error) => tracing::warn!(%error, "failed to look for visitors who left; trying again later"),
    }
}

/// Whether there was something to do.
async fn set_offline(app: &App, tenant: TenantId, agent_id: AgentId) -> bool {
    match app.pool.read(|connection| read::agent(connection, tenant, agent_id)) {
        Ok(Some(agent)) if agent.status == AgentStatus::Online && agent.deleted_at.is_none() => {
            let kind = CommandKind::SetAgentStatus { agent_id, status: AgentStatus::Offline, accepting_chats: None };
            submit(app, tenant, kind).await;
            true
        }
        Ok(_) => false,
        Err(error) => {
            tracing::warn!(%error, "failed to look an agent up; trying again later");
            false
        }
    }
}

/// The open conversations whose visitors have been away for longer than their tenants wait.
fn expired(app: &App) -> rusqlite::Result<Vec<(TenantId, CommandKind)>> {
    app.pool.read(|connection| {
        let mut tenants: HashMap<TenantId, Option<Tenant>> = HashMap::new();
        let mut expired = Vec::new();
        for open in read::open_conversations(connection)? {
            let away_ms = app.presence.away_ms(open.tenant, open.visitor, Timestamp(open.updated_at));
            if away_ms == 0 {
                continue;
            }
            if let std::collections::hash_map::Entry::Vacant(place) = tenants.entry(open.tenant) {
                place.insert(read::tenant(connection, open.tenant)?);
            }
            let minutes =
                tenants.get(&open.tenant).and_then(Option::as_ref).map(|tenant| tenant.settings.standby_minutes);
            if minutes.is_none_or(|minutes| away_ms < i64::from(minutes) * 60_000) {
                continue;
            }
            if let Some(chat) = read::conversation(connection, open.tenant, open.conversation)? {
                let (conversation_id, last_seq) = (chat.id, chat.last_seq);
                expired.push((open.tenant, CommandKind::ExpireStandby { conversation_id, last_seq }));
            }
        }
        Ok(expired)
    })
}

async fn submit(app: &App, tenant: TenantId, kind: CommandKind) {
    let first_event = EventId::fresh();
    let command = Command { tenant, actor: Actor::System, first_event, request: None, cause: None, kind };
    match app.submit(command).await {
        Ok(Ok(_)) => {}
        // It has changed since it was looked at: the next look decides again.
        Ok(Err(rejection)) => tracing::debug!(code = rejection.code, "what presence asked for was refused"),
        Err(error) => tracing::warn!(%error, "failed to write what presence asked for; trying again later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY_AFTER_MS: i64 = 60_000;

    /// A clock that goes on when it's told to, and the clock's jumps.
    fn tested() -> (Presence, Arc<AtomicI64>, Arc<AtomicI64>) {
        let (up, ahead) = (Arc::new(AtomicI64::new(1_000_000)), Arc::new(AtomicI64::new(1_700_000_000_000)));
        let (time, jumps) = (Arc::clone(&up), Arc::clone(&ahead));
        let clock = move || {
            let up_ms = time.load(Ordering::Relaxed);
            Moment { up_ms, wall: Timestamp(up_ms + jumps.load(Ordering::Relaxed)) }
        };
        (Presence::new(Arc::new(clock), AWAY_AFTER), up, ahead)
    }

    /// The server stood still for an hour, or its clock was set: nobody is gone who comes back within a minute of that.
    #[test]
    fn a_break_is_forgiven_and_a_jump_is_none() {
        let (presence, up, ahead) = tested();
        let (tenant, agent, visitor, silent) =
            (TenantId::fresh(), AgentId::fresh(), VisitorId::fresh(), VisitorId::fresh());
        presence.heard(tenant, Person::Agent(agent));
        presence.seen(tenant, Person::Visitor(visitor));
        let known_at = (presence.clock)().wall;
        let away = |who: VisitorId, known_at: Timestamp| presence.away_ms(tenant, who, known_at);
        let day = 24 * 60 * 60 * 1_000;
        for jump in [day, -day, 80 * 365 * day] {
            ahead.fetch_add(jump, Ordering::Relaxed);
            assert!(presence.sweep().is_empty(), "{jump}");
            assert_eq!(away(visitor, known_at), 0, "{jump}");
            ahead.fetch_sub(jump, Ordering::Relaxed);
        }
        up.fetch_add(3_600_000, Ordering::Relaxed);
        presence.forgive();
        assert!(presence.sweep().is_empty() && presence.is_present(tenant, Person::Agent(agent)));
        assert_eq!((away(visitor, known_at), away(silent, known_at)), (0, 0));
        up.fetch_add(AWAY_AFTER_MS + 7, Ordering::Relaxed);
        assert_eq!(presence.sweep(), [(tenant, agent)], "who doesn't come back is gone");
        assert_eq!((away(visitor, known_at), away(silent, known_at)), (7, 7));
        // Known from a time that hasn't come: no reason to be there for ever.
        assert_eq!(away(silent, known_at.plus_ms(70 * 365 * day)), 7);
    }

    /// Someone comes with a sign of life and goes a minute after the last one; each is told once.
    #[test]
    fn coming_and_going_is_told_once() {
        let (presence, now, _) = tested();
        let mut changes = presence.changes();
        let tenant = TenantId::fresh();
        let (agent, quiet) = (AgentId::fresh(), AgentId::fresh());
        let (ada, bob, gus) = (Person::Agent(agent), Person::Agent(quiet), Person::Visitor(VisitorId::fresh()));
        presence.heard(tenant, ada);
        presence.seen(tenant, bob);
        presence.seen(tenant, gus);
        presence.seen(tenant, gus);
        let mut told =
            || std::iter::from_fn(|| changes.try_recv().ok()).map(|c| (c.person, c.present)).collect::<Vec<_>>();
        assert_eq!(told(), [(ada, true), (bob, true), (gus, true)]);
        now.fetch_add(AWAY_AFTER_MS - 1, Ordering::Relaxed);
        assert!(presence.sweep().is_empty() && told().is_empty());
        presence.heard(tenant, gus);
        now.fetch_add(1, Ordering::Relaxed);
        assert_eq!(presence.sweep(), [(tenant, agent)], "who never had a socket stays as set");
        let mut gone = told();
        gone.sort_by_key(|(person, _)| *person != ada);
        assert_eq!(gone, [(ada, false), (bob, false)]);
        assert!(presence.is_present(tenant, gus) && !presence.is_present(tenant, ada));
        assert!(!presence.is_present(TenantId::fresh(), gus), "another tenant's is another person");
        presence.sweep();
        assert!(told().is_empty());
    }
}
