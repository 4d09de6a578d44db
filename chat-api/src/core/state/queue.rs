//! Who waits, by department, and who could be served now.
//!
//! Ranks are the tenant's: the oldest is served first whatever its group, but a group whose agents are all busy holds
//! up nobody else. A conversation keeps the group it was given; where that group is deleted it waits with the default
//! group's, or, without one, with those of no group.

use super::{Agent, Group, State};
use ingest::id::{ConversationId, GroupId, TenantId};
use std::collections::BTreeMap;

/// Waiting conversations by the group they were given, each by rank.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Queue(BTreeMap<Option<GroupId>, BTreeMap<i64, ConversationId>>);

impl Queue {
    /// Puts a conversation in.
    pub fn insert(&mut self, group: Option<GroupId>, rank: i64, id: ConversationId) {
        self.0.entry(group).or_default().insert(rank, id);
    }

    /// Takes one out.
    pub fn remove(&mut self, group: Option<GroupId>, rank: i64) {
        if let Some(line) = self.0.get_mut(&group) {
            line.remove(&rank);
            if line.is_empty() {
                self.0.remove(&group);
            }
        }
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// The smallest rank.
    #[must_use]
    pub fn first_rank(&self) -> Option<i64> {
        self.0.values().filter_map(|line| line.first_key_value()).map(|(rank, _)| *rank).min()
    }

    /// The largest rank.
    #[must_use]
    pub fn last_rank(&self) -> Option<i64> {
        self.0.values().filter_map(|line| line.last_key_value()).map(|(rank, _)| *rank).max()
    }

    /// Everyone who waits, by rank.
    #[must_use]
    pub fn by_rank(&self) -> BTreeMap<i64, ConversationId> {
        self.0.values().flatten().map(|(rank, id)| (*rank, *id)).collect()
    }
}

/// The first of a line, by rank.
pub type Heads = Vec<(i64, ConversationId)>;

impl State {
    /// The tenant's default group, if it lives. Its roster has to be loaded.
    #[must_use]
    pub fn default_group(&self, tenant: TenantId) -> Option<&Group> {
        let groups = self.rosters.get(&tenant).into_iter().flat_map(|roster| &roster.groups);
        groups.filter_map(|id| self.groups.get(id)).find(|group| group.is_default && group.deleted_at.is_none())
    }

    /// The group that serves a conversation: its own while that lives, else the default; a conversation of no group
    /// is everybody's. The tenant's roster has to be loaded.
    #[must_use]
    pub fn serving_group(&self, tenant: TenantId, group: Option<GroupId>) -> Option<&Group> {
        let own = self.group(tenant, group?).filter(|group| group.deleted_at.is_none());
        own.or_else(|| self.default_group(tenant))
    }

    /// Whether an agent is one of those who serve a group; everyone serves conversations of no group.
    #[must_use]
    pub fn serves(&self, agent: &Agent, group: Option<&Group>) -> bool {
        group.is_none_or(|group| group.members.contains(&agent.id))
    }

    /// Of each serving group the longest waiting conversations, as many as its agents have free slots: more can't be
    /// assigned now.
    #[must_use]
    pub fn queue_heads(&self, tenant: TenantId) -> BTreeMap<Option<GroupId>, Heads> {
        let mut heads: BTreeMap<Option<GroupId>, Heads> = BTreeMap::new();
        let Some(roster) = self.rosters.get(&tenant) else { return heads };
        for (given, line) in &roster.queue.0 {
            let group = self.serving_group(tenant, *given);
            let agents = roster.agents.iter().filter_map(|id| self.agents.get(id));
            let free: u32 = agents
                .filter(|agent| self.serves(agent, group) && self.is_available(agent))
                .map(|agent| agent.max_concurrent_chats.saturating_sub(agent.active_chats))
                .fold(0, u32::saturating_add);
            if free > 0 {
                let first = line.iter().take(free as usize).map(|(rank, id)| (*rank, *id));
                heads.entry(group.map(|group| group.id)).or_default().extend(first);
            }
        }
        // Lines of deleted groups have joined others.
        heads.values_mut().for_each(|line| line.sort_unstable());
        heads
    }
}
