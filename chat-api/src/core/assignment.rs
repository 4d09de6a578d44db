//! Who gets a conversation: the queue, automatic assignment, and people's own decisions.
//!
//! Automatic: the longest waiting conversation goes to the available agent with the most free slots, ties to the one
//! idle longest; capacity is never exceeded. A person's take or assign may exceed it.

use super::command::{Command, CommandKind as K};
use super::decide::{Emit, Rejection, conversation, may, require};
use super::state::{Agent, Conversation, State, Status};
use ingest::event::Actor;
use ingest::id::{AgentId, TenantId};
use ingest::payload::{AgentAssigned, AgentUnassigned, Candidate, ConversationQueued, Permission, Trigger};
use ingest::time::Timestamp;
use std::collections::HashMap;

/// Candidates recorded with an assignment: enough to explain it, few enough for one event.
const CANDIDATES_MAX: usize = 20;

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, now: Timestamp, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::AssignQueue { trigger } => assign_queue(state, command.tenant, *trigger, now, emit),
        K::Assign { conversation_id, agent_id } => {
            require(state, command, Permission::ConversationsReply, "assign conversations")?;
            let chat = conversation(state, command.tenant, *conversation_id)?;
            let agent = state.agent(command.tenant, *agent_id).ok_or_else(|| Rejection::not_found("agent"))?;
            if !state.may_reply(agent) {
                let detail = "this agent's role doesn't allow to reply";
                return Err(Rejection::new(422, "agent_may_not_reply", detail).at("agentId"));
            }
            assign_by_hand(chat, *agent_id, now, emit)?;
        }
        K::Take { conversation_id } => {
            require(state, command, Permission::ConversationsReply, "take conversations")?;
            let chat = conversation(state, command.tenant, *conversation_id)?;
            let Actor::Agent(taker) = command.actor else { return Err(Rejection::forbidden("take conversations")) };
            if let (Status::Active, Some(winner)) = (chat.status, chat.agent)
                && winner != taker
            {
                let mut lost = Rejection::new(409, "already_assigned", "another agent has this conversation");
                lost.winner = Some(winner);
                return Err(lost);
            }
            assign_by_hand(chat, taker, now, emit)?;
        }
        K::Unassign { conversation_id } => {
            require(state, command, Permission::ConversationsReply, "unassign conversations")?;
            let chat = conversation(state, command.tenant, *conversation_id)?;
            let (Status::Active, Some(holder)) = (chat.status, chat.agent) else {
                return if chat.status == Status::Pending { Ok(true) } else { Err(over(chat)) };
            };
            let own = command.actor == Actor::Agent(holder);
            if !own && !may(state, command, Permission::ConversationsSteer) {
                return Err(Rejection::forbidden("unassign another agent's conversation"));
            }
            give_back(chat, holder, Trigger::Unassigned, front_rank(state, command.tenant), emit);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The refusal for a conversation that is resolved or closed.
pub(super) fn over(chat: &Conversation) -> Rejection {
    match chat.status {
        Status::Closed => Rejection::new(409, "conversation_closed", "the conversation is closed, and read-only"),
        _ => Rejection::new(409, "conversation_resolved", "the conversation is resolved; reopen it first"),
    }
}

fn assign_by_hand(chat: &Conversation, agent: AgentId, now: Timestamp, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    if matches!(chat.status, Status::Resolved | Status::Closed) {
        return Err(over(chat));
    }
    if chat.status == Status::Active && chat.agent == Some(agent) {
        return Ok(());
    }
    emit.conversation(
        chat,
        AgentAssigned {
            agent_id: agent,
            previous_agent_id: chat.agent.filter(|_| chat.status == Status::Active),
            thread_id: emit.next_thread(),
            waited_ms: chat.queued.map(|queued| now.since(queued.since)),
            trigger: Trigger::Manual,
            strategy: "manual".to_owned(),
            candidates: Vec::new(),
        },
    );
    Ok(())
}

/// The rank behind everyone who waits.
pub(super) fn back_rank(state: &State, tenant: TenantId) -> i64 {
    let last = state.rosters.get(&tenant).and_then(|roster| roster.queue.last_key_value());
    last.map_or(0, |(rank, _)| rank.saturating_add(1))
}

/// The rank before everyone who waits.
pub(super) fn front_rank(state: &State, tenant: TenantId) -> i64 {
    let first = state.rosters.get(&tenant).and_then(|roster| roster.queue.first_key_value());
    first.map_or(0, |(rank, _)| rank.saturating_sub(1))
}

/// The agent loses the chat and it goes back to the queue at `rank`.
pub(super) fn give_back(chat: &Conversation, holder: AgentId, trigger: Trigger, rank: i64, emit: &mut Emit<'_>) {
    emit.conversation(chat, AgentUnassigned { agent_id: holder, trigger });
    emit.conversation(chat, ConversationQueued { thread_id: chat.thread().id, trigger, rank });
}

fn assign_queue(state: &State, tenant: TenantId, trigger: Trigger, now: Timestamp, emit: &mut Emit<'_>) {
    let Some(roster) = state.rosters.get(&tenant) else { return };
    let agents: Vec<&Agent> = roster.agents.iter().filter_map(|id| state.agents.get(id)).collect();
    let mut loads: HashMap<AgentId, u32> = agents.iter().map(|agent| (agent.id, agent.active_chats)).collect();
    let mut idle: HashMap<AgentId, Timestamp> = agents.iter().map(|agent| (agent.id, agent.idle_since)).collect();
    for chat in roster.queue.values().filter_map(|id| state.conversations.get(id)) {
        let Some(chosen) = least_loaded(state, &agents, &loads, &idle) else { return };
        emit.conversation(
            chat,
            AgentAssigned {
                agent_id: chosen,
                previous_agent_id: None,
                thread_id: emit.next_thread(),
                waited_ms: chat.queued.map(|queued| now.since(queued.since)),
                trigger,
                strategy: "least_loaded".to_owned(),
                candidates: candidates(state, &agents, &loads, chosen),
            },
        );
        *loads.entry(chosen).or_default() += 1;
        idle.insert(chosen, now);
    }
}

fn free_slots(agent: &Agent, loads: &HashMap<AgentId, u32>) -> u32 {
    agent.max_concurrent_chats.saturating_sub(loads.get(&agent.id).copied().unwrap_or(agent.active_chats))
}

fn least_loaded(
    state: &State,
    agents: &[&Agent],
    loads: &HashMap<AgentId, u32>,
    idle: &HashMap<AgentId, Timestamp>,
) -> Option<AgentId> {
    agents
        .iter()
        .filter(|agent| state.is_available(agent) && free_slots(agent, loads) > 0)
        .min_by_key(|agent| (std::cmp::Reverse(free_slots(agent, loads)), idle.get(&agent.id).copied(), agent.id))
        .map(|agent| agent.id)
}

/// The chosen agent first, then the eligible, then the others with the reason why not.
fn candidates(state: &State, agents: &[&Agent], loads: &HashMap<AgentId, u32>, chosen: AgentId) -> Vec<Candidate> {
    let describe = |agent: &&Agent| {
        let free = free_slots(agent, loads);
        let (eligible, reason) = match agent {
            agent if !state.may_reply(agent) => (false, "may not reply"),
            agent if agent.status != ingest::payload::AgentStatus::Online => (false, agent.status.as_str()),
            agent if !agent.accepting_chats => (false, "not accepting chats"),
            _ if free == 0 => (false, "at capacity"),
            agent if agent.id == chosen => (true, "most free slots"),
            _ => (true, "fewer free slots, or less long idle"),
        };
        Candidate {
            agent_id: agent.id,
            load: loads.get(&agent.id).copied().unwrap_or(agent.active_chats),
            capacity: agent.max_concurrent_chats,
            eligible,
            reason: reason.to_owned(),
        }
    };
    let mut all: Vec<Candidate> = agents.iter().map(describe).collect();
    all.sort_by_key(|candidate| (candidate.agent_id != chosen, !candidate.eligible, candidate.agent_id));
    all.truncate(CANDIDATES_MAX);
    all
}
