//! Which of a group's agents gets a conversation: the four strategies, and why, as recorded facts.
//!
//! Pure arithmetic over a [`Desk`]: the agents as they are during one run over the queue, each assignment counted at
//! once. Without a group everyone who may reply is looked at, least loaded first.

use super::state::{Agent, Conversation, Group, State};
use ingest::id::{AgentId, GroupId, TenantId};
use ingest::payload::{AgentStatus, Candidate, RoutingStrategy};
use ingest::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Candidates recorded with an assignment: enough to explain it, few enough for one event.
const CANDIDATES_MAX: usize = 20;
/// Why an agent was chosen, or would have been sooner.
const MOST_FREE: &str = "most free slots, then longest idle";

/// The agents of a tenant during one run.
pub(super) struct Desk<'s> {
    seats: BTreeMap<AgentId, Seat<'s>>,
    /// Who was last in turn, by group; where it differs from the group's own word.
    turns: HashMap<GroupId, AgentId>,
}

struct Seat<'s> {
    agent: &'s Agent,
    /// Why they can't get any, whatever their load.
    barred: Option<&'static str>,
    load: u32,
    idle_since: Timestamp,
}

impl Seat<'_> {
    fn free(&self) -> u32 {
        self.agent.max_concurrent_chats.saturating_sub(self.load)
    }

    fn is_eligible(&self) -> bool {
        self.barred.is_none() && self.free() > 0
    }
}

/// Who gets a conversation, and why.
pub(super) struct Choice {
    pub(super) agent: AgentId,
    pub(super) strategy: RoutingStrategy,
    pub(super) candidates: Vec<Candidate>,
}

impl<'s> Desk<'s> {
    /// As the state has it; the tenant's roster must be loaded.
    pub(super) fn new(state: &'s State, tenant: TenantId) -> Self {
        let agents = state.rosters.get(&tenant).into_iter().flat_map(|roster| &roster.agents);
        let seat = |agent: &'s Agent| {
            let barred = match agent {
                agent if agent.deleted_at.is_some() => Some("deleted"),
                agent if !state.may_reply(agent) => Some("may not reply"),
                agent if agent.status != AgentStatus::Online => Some(agent.status.as_str()),
                agent if !agent.accepting_chats => Some("not accepting chats"),
                _ => None,
            };
            Seat { agent, barred, load: agent.active_chats, idle_since: agent.idle_since }
        };
        let seats = agents.filter_map(|id| state.agents.get(id)).map(|agent| (agent.id, seat(agent))).collect();
        Self { seats, turns: HashMap::new() }
    }

    fn team<'d>(&'d self, group: Option<&'d Group>) -> impl Iterator<Item = &'d Seat<'s>> {
        self.seats.values().filter(move |seat| group.is_none_or(|group| group.members.contains(&seat.agent.id)))
    }

    /// Whether anyone of the group can take one more.
    pub(super) fn has_room(&self, group: Option<&Group>) -> bool {
        self.team(group).any(Seat::is_eligible)
    }

    /// Picks for a conversation of `group`; `None` when nobody is eligible. `last_agent` is the visitor's.
    pub(super) fn choose(
        &self,
        group: Option<&Group>,
        chat: &Conversation,
        last_agent: Option<AgentId>,
    ) -> Option<Choice> {
        let eligible: Vec<&Seat<'_>> = self.team(group).filter(|seat| seat.is_eligible()).collect();
        let strategy = group.map_or(RoutingStrategy::LeastLoaded, |group| group.strategy);
        let least_loaded = least_loaded(eligible.iter().copied())?;
        let (agent, why) = match (strategy, group) {
            (RoutingStrategy::RoundRobin, Some(group)) => {
                let last = self.turns.get(&group.id).copied().or(group.last_assigned);
                (next_in_turn(&eligible, last)?, "next in turn".to_owned())
            }
            (RoutingStrategy::Sticky, _) => match last_agent {
                Some(last) if eligible.iter().any(|seat| seat.agent.id == last) => {
                    (last, "the visitor's last agent".to_owned())
                }
                Some(_) => (least_loaded, format!("the visitor's last agent isn't eligible: {MOST_FREE}")),
                None => (least_loaded, format!("the visitor's first agent: {MOST_FREE}")),
            },
            (RoutingStrategy::Skills, _) => best_skilled(&eligible, chat)?,
            (RoutingStrategy::LeastLoaded | RoutingStrategy::RoundRobin, _) => (least_loaded, MOST_FREE.to_owned()),
        };
        Some(Choice { agent, strategy, candidates: self.candidates(group, chat, strategy, agent, &why) })
    }

    /// Counts an assignment.
    pub(super) fn take(&mut self, choice: &Choice, group: Option<GroupId>, now: Timestamp) {
        if let Some(seat) = self.seats.get_mut(&choice.agent) {
            seat.load += 1;
            seat.idle_since = now;
        }
        if let (RoutingStrategy::RoundRobin, Some(group)) = (choice.strategy, group) {
            self.turns.insert(group, choice.agent);
        }
    }

    /// The chosen agent first, then the eligible, then the others with the reason why not.
    fn candidates(
        &self,
        group: Option<&Group>,
        chat: &Conversation,
        strategy: RoutingStrategy,
        chosen: AgentId,
        why: &str,
    ) -> Vec<Candidate> {
        let passed_over = |seat: &Seat<'_>| match strategy {
            RoutingStrategy::RoundRobin => "later in turn".to_owned(),
            RoutingStrategy::Skills if !chat.skills.is_empty() => {
                format!("{}, more chats or less long idle", overlap_words(overlap(seat, chat), chat.skills.len()))
            }
            RoutingStrategy::LeastLoaded | RoutingStrategy::Sticky | RoutingStrategy::Skills => {
                "fewer free slots, or less long idle".to_owned()
            }
        };
        let describe = |seat: &Seat<'_>| {
            let (eligible, reason) = match seat.barred {
                Some(barred) => (false, barred.to_owned()),
                None if seat.free() == 0 => (false, "at capacity".to_owned()),
                None if seat.agent.id == chosen => (true, why.to_owned()),
                None => (true, passed_over(seat)),
            };
            let capacity = seat.agent.max_concurrent_chats;
            Candidate { agent_id: seat.agent.id, load: seat.load, capacity, eligible, reason }
        };
        let mut all: Vec<Candidate> = self.team(group).map(describe).collect();
        all.sort_by_key(|candidate| (candidate.agent_id != chosen, !candidate.eligible, candidate.agent_id));
        all.truncate(CANDIDATES_MAX);
        all
    }
}

fn least_loaded<'d>(seats: impl Iterator<Item = &'d Seat<'d>>) -> Option<AgentId> {
    seats.min_by_key(|seat| (Reverse(seat.free()), seat.idle_since, seat.agent.id)).map(|seat| seat.agent.id)
}

/// The first after the last one, by id, round and round. An agent who left keeps their place in the order.
fn next_in_turn(eligible: &[&Seat<'_>], last: Option<AgentId>) -> Option<AgentId> {
    let after = eligible.iter().find(|seat| last.is_none_or(|last| seat.agent.id > last));
    after.or(eligible.first()).map(|seat| seat.agent.id)
}

fn overlap(seat: &Seat<'_>, chat: &Conversation) -> usize {
    chat.skills.iter().filter(|skill| seat.agent.skills.contains(*skill)).count()
}

fn overlap_words(known: usize, asked: usize) -> String {
    if known == asked { "all skills".to_owned() } else { format!("{known} of {asked} skills") }
}

/// Who knows most of what was asked for; among equals the least loaded.
fn best_skilled(eligible: &[&Seat<'_>], chat: &Conversation) -> Option<(AgentId, String)> {
    let best = eligible.iter().map(|seat| overlap(seat, chat)).max()?;
    let agent = least_loaded(eligible.iter().copied().filter(|seat| overlap(seat, chat) == best))?;
    let why = match (best, chat.skills.len()) {
        (_, 0) => format!("no skills were asked for: {MOST_FREE}"),
        (best, asked) => format!("{}: {MOST_FREE}", overlap_words(best, asked)),
    };
    Some((agent, why))
}
