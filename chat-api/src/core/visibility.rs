//! What an agent sees: conversations by their group and their agent, and visitors by their conversations. Start at [`Visible`].
//!
//! Routes, sockets and lists ask the same that [`decide`](super::decide()) asks here, so what can't be seen can't be changed
//! either, whether it's named by its own id or through its visitor.

use super::command::Command;
use super::decide::Rejection;
use super::state::{Agent, Conversation, Group, State, Visitor};
use ingest::event::Actor;
use ingest::id::{AgentId, GroupId, TenantId, VisitorId};
use ingest::payload::{Permission, PermissionSet};
use std::collections::BTreeSet;

/// Which of a tenant's conversations somebody sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// None.
    Nothing,
    /// All of them.
    All,
    /// Those of these groups, of no group, and own ones.
    Own {
        /// Whose.
        agent: AgentId,
        /// The groups whose conversations come to this agent; see [`groups_of`].
        groups: BTreeSet<GroupId>,
    },
}

impl Visible {
    /// By what an agent may do and the groups they work for, which are asked for only where they count.
    #[must_use]
    pub fn of(permissions: PermissionSet, agent: AgentId, groups: impl FnOnce() -> BTreeSet<GroupId>) -> Self {
        if permissions.has(Permission::ConversationsReadAll) {
            Self::All
        } else if permissions.has(Permission::ConversationsRead) {
            Self::Own { agent, groups: groups() }
        } else {
            Self::Nothing
        }
    }

    /// Whether a conversation that this agent has, in this group, is among them.
    #[must_use]
    pub fn covers(&self, holder: Option<AgentId>, group: Option<GroupId>) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Own { agent, groups } => holder == Some(*agent) || group.is_none_or(|group| groups.contains(&group)),
        }
    }

    /// Whether a conversation of the same tenant is among them.
    #[must_use]
    pub fn covers_chat(&self, chat: &Conversation) -> bool {
        self.covers(chat.agent, chat.group)
    }

    /// Whether all conversations of a group are.
    #[must_use]
    pub fn covers_group(&self, group: GroupId) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Own { groups, .. } => groups.contains(&group),
        }
    }
}

/// The groups whose conversations an agent works on, of all groups of a tenant: the living ones they are in, and deleted
/// ones whose conversations have come to the default group that they are in, or, without a default, to everyone.
#[must_use]
pub fn groups_of(groups: &[Membership]) -> BTreeSet<GroupId> {
    let default = groups.iter().find(|group| group.is_default && group.lives);
    let inherits = default.is_none_or(|group| group.has_agent);
    let own = |group: &&Membership| if group.lives { group.has_agent } else { inherits };
    groups.iter().filter(own).map(|group| group.id).collect()
}

/// What a group is to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    id: GroupId,
    lives: bool,
    is_default: bool,
    has_agent: bool,
}

impl Membership {
    /// Of this agent in this group.
    #[must_use]
    pub fn of(group: &Group, agent: AgentId) -> Self {
        Self {
            id: group.id,
            lives: group.deleted_at.is_none(),
            is_default: group.is_default,
            has_agent: group.members.contains(&agent),
        }
    }
}

impl State {
    /// All groups of a tenant, deleted ones too. Its roster has to be loaded.
    pub(super) fn groups_of_tenant(&self, tenant: TenantId) -> Vec<&Group> {
        let groups = self.rosters.get(&tenant).into_iter().flat_map(|roster| &roster.groups);
        groups.filter_map(|id| self.groups.get(id)).collect()
    }

    fn group_ids_of(&self, agent: &Agent) -> BTreeSet<GroupId> {
        let groups = self.groups_of_tenant(agent.tenant).into_iter();
        groups_of(&groups.map(|group| Membership::of(group, agent.id)).collect::<Vec<_>>())
    }

    /// What an agent sees. The tenant's roster has to be loaded.
    #[must_use]
    pub fn visible_to(&self, agent: &Agent) -> Visible {
        let groups = || self.group_ids_of(agent);
        Visible::of(self.permissions(agent), agent.id, groups)
    }
}

/// What the one who asks sees: the system and the operator everything. Visitors' own conversations are looked at where they
/// are written in.
pub(super) fn visible(state: &State, command: &Command) -> Visible {
    match command.actor {
        Actor::Agent(id) => state.agent(command.tenant, id).map_or(Visible::Nothing, |agent| state.visible_to(agent)),
        Actor::System | Actor::Operator => Visible::All,
        Actor::Visitor(_) => Visible::Nothing,
    }
}

/// Refuses an agent's command about a conversation that they don't see, as if it weren't there.
pub(super) fn require_conversation(state: &State, command: &Command) -> Result<(), Rejection> {
    let Actor::Agent(_) = command.actor else { return Ok(()) };
    let chat = command.conversation().and_then(|id| state.conversation(command.tenant, id));
    match chat {
        Some(chat) if !visible(state, command).covers_chat(chat) => Err(Rejection::not_found("conversation")),
        _ => Ok(()),
    }
}

/// The visitor, if the one who asks sees them: by one of their conversations, or for seeing all. Whoever was merged is seen
/// as the one they turned out to be. To others they aren't there.
pub(super) fn require_visitor<'s>(
    state: &'s State,
    command: &Command,
    id: VisitorId,
) -> Result<&'s Visitor, Rejection> {
    let unknown = || Rejection::not_found("visitor");
    let found = state.visitor(command.tenant, id).ok_or_else(unknown)?;
    let visible = visible(state, command);
    let owner = found.merged_into.unwrap_or(found.id);
    let chats = || state.conversations_of(command.tenant, owner);
    if visible == Visible::All || chats().into_iter().any(|chat| visible.covers_chat(chat)) {
        Ok(found)
    } else {
        Err(unknown())
    }
}

/// Refuses to write in the name of a visitor, as an import does, whom that would open to more agents than see them. One who
/// has a conversation of no group is open to all who read conversations.
pub(super) fn require_open(state: &State, command: &Command, id: VisitorId) -> Result<(), Rejection> {
    let owner = state.visitor(command.tenant, id).map_or(id, |found| found.merged_into.unwrap_or(found.id));
    match require_visitor(state, command, id) {
        Err(_) if state.conversations_of(command.tenant, owner).iter().any(|chat| chat.group.is_none()) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Whether the one who asks sees all of these.
pub(super) fn covers_all(state: &State, command: &Command, chats: &[&Conversation]) -> bool {
    let visible = visible(state, command);
    chats.iter().all(|chat| visible.covers_chat(chat))
}
