//! Who is there: the last sign of life of every visitor and agent, in memory, and what follows when there is none.
//!
//! A sign of life is a request or anything that came over a socket, the answer to a ping included; an open socket alone
//! is none, its peer may be long gone. [`Presence`] keeps the signs and tells changes; [`tick`] closes what a visitor
//! didn't come back to and sets agents offline; [`watch`] ticks, and tells agents of their visitors, until the server stops. After a restart everyone counts
//! as last seen at the start.

use crate::app::App;
use crate::core::command::{Command, CommandKind};
use crate::core::state::Tenant;
use crate::live::Person;
use crate::store::read;
use ingest::event::Actor;
use ingest::id::{AgentId, EventId, TenantId, VisitorId};
use ingest::payload::AgentStatus;
use ingest::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Without a sign of life for this long, a person is away.
pub const AWAY_AFTER_MS: i64 = 60_000;
/// Between two looks.
const TICK_EVERY: Duration = Duration::from_secs(5);
/// Signs are forgotten after the longest standby that can be set, and some.
const KEPT_MS: i64 = 8 * 24 * 60 * 60 * 1_000;
/// Changes that a slow listener may be behind before it misses some.
const CHANGES_MAX: usize = 4_096;

/// Where the time comes from; tests bring their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

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
    last: Timestamp,
    present: bool,
    /// Has had a socket, some time; an agent who never had one stays as set.
    socket: bool,
}

/// The last signs of life.
pub struct Presence {
    clock: Clock,
    started: Timestamp,
    people: Mutex<HashMap<(TenantId, Person), Seen>>,
    changes: broadcast::Sender<PresenceChange>,
}

impl Default for Presence {
    fn default() -> Self {
        Self::new(Arc::new(Timestamp::now))
    }
}

impl Presence {
    /// Nobody has been seen yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { started: clock(), clock, people: Mutex::default(), changes: broadcast::Sender::new(CHANGES_MAX) }
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
            self.tell(PresenceChange { tenant, person, present: true, last_seen: last });
        }
    }

    fn tell(&self, change: PresenceChange) {
        // Without a listener nobody needs to know.
        let _listeners = self.changes.send(change);
    }

    /// Whether there was a sign of life in the last minute.
    #[must_use]
    pub fn is_present(&self, tenant: TenantId, person: Person) -> bool {
        self.last_seen(tenant, person).is_some_and(|last| (self.clock)().since(last) < AWAY_AFTER_MS)
    }

    /// The last sign of life since the start.
    #[must_use]
    pub fn last_seen(&self, tenant: TenantId, person: Person) -> Option<Timestamp> {
        self.lock().get(&(tenant, person)).map(|seen| seen.last)
    }

    /// Tells who has gone since the last look, and answers the agents who are away and have had a socket.
    fn sweep(&self) -> Vec<(TenantId, AgentId)> {
        let now = (self.clock)();
        let (mut gone, mut agents) = (Vec::new(), Vec::new());
        self.lock().retain(|(tenant, person), seen| {
            let away = now.since(seen.last) >= AWAY_AFTER_MS;
            if away && std::mem::replace(&mut seen.present, false) {
                gone.push(PresenceChange { tenant: *tenant, person: *person, present: false, last_seen: seen.last });
            }
            if let (true, true, Person::Agent(agent)) = (away, seen.socket, person) {
                agents.push((*tenant, *agent));
            }
            seen.socket && matches!(person, Person::Agent(_)) || now.since(seen.last) < KEPT_MS
        });
        gone.into_iter().for_each(|change| self.tell(change));
        agents
    }

    /// Milliseconds that a visitor has been away; 0 for one who is there. One of whom there was no sign counts as seen at
    /// `known_at`, or at the start if that is later.
    fn away_ms(&self, tenant: TenantId, visitor: VisitorId, known_at: Timestamp) -> i64 {
        let last = self.last_seen(tenant, Person::Visitor(visitor));
        let last = last.unwrap_or_else(|| known_at.max(self.started));
        ((self.clock)().since(last) - AWAY_AFTER_MS).max(0)
    }
}

/// Ticks, and tells agents which visitors come and go, until `stop`.
pub async fn watch(app: Arc<App>, stop: CancellationToken) {
    let mut changes = app.presence.changes();
    let mut every = tokio::time::interval(TICK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => tick(&app).await,
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
    for (tenant, agent) in app.presence.sweep() {
        set_offline(app, tenant, agent).await;
    }
    match expired(app) {
        Ok(expired) => {
            for (tenant, kind) in expired {
                submit(app, tenant, kind).await;
            }
        }
        Err(error) => tracing::warn!(%error, "failed to look for visitors who left; trying again later"),
    }
}

async fn set_offline(app: &App, tenant: TenantId, agent_id: AgentId) {
    match app.pool.read(|connection| read::agent(connection, tenant, agent_id)) {
        Ok(Some(agent)) if agent.status == AgentStatus::Online && agent.deleted_at.is_none() => {
            let kind = CommandKind::SetAgentStatus { agent_id, status: AgentStatus::Offline, accepting_chats: None };
            submit(app, tenant, kind).await;
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "failed to look an agent up; trying again later"),
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
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Someone comes with a sign of life and goes a minute after the last one; each is told once.
    #[test]
    fn coming_and_going_is_told_once() {
        let now = Arc::new(AtomicI64::new(1_000_000));
        let time = Arc::clone(&now);
        let presence = Presence::new(Arc::new(move || Timestamp(time.load(Ordering::Relaxed))));
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
