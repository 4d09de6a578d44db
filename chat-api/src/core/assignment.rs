//! Who gets a conversation: the queue, automatic assignment, and people's own decisions.
//!
//! Automatic: the longest waiting conversation that someone can take goes to the agent that its group's strategy picks
//! ([`routing`](super::routing)); capacity is never exceeded, and nobody waits behind a group that is busy. Only what
//! waits is given out, so a person's decision stands. A person's take or assign may exceed the capacity.

use super::actions::{already_assigned, held_by_other};
use super::command::{Command, CommandKind as K};
use super::decide::{Emit, Rejection, conversation, may, require};
use super::routing::Desk;
use super::state::{Chatbot, Conversation, Group, Heads, State, Status};
use ingest::event::Actor;
use ingest::id::{AgentId, GroupId, TenantId};
use ingest::payload::{AgentAssigned, AgentUnassigned, ConversationQueued, Permission, Trigger};
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, now: Timestamp, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::AssignQueue { trigger } => assign_queue(state, command.tenant, *trigger, now, emit),
        K::Assign { conversation_id, agent_id, reason } => {
            require(state, command, Permission::ConversationsReply, "assign conversations")?;
            let chat = conversation(state, command.tenant, *conversation_id)?;
            let agent = state.agent(command.tenant, *agent_id).ok_or_else(|| Rejection::not_found("agent"))?;
            if !state.may_reply(agent) {
                let detail = "this agent's role doesn't allow to reply";
                return Err(Rejection::new(422, "agent_may_not_reply", detail).at("agentId"));
            }
            let holds_already = chat.status == Status::Active && chat.agent == Some(*agent_id);
            if let Some(winner) = held_by_other(state, command, chat).filter(|_| !holds_already) {
                return Err(already_assigned(winner));
            }
            assign_by_hand(state, chat, *agent_id, reason.as_ref(), now, emit)?;
        }
        K::Take { conversation_id } => {
            require(state, command, Permission::ConversationsReply, "take conversations")?;
            let chat = conversation(state, command.tenant, *conversation_id)?;
            let Actor::Agent(taker) = command.actor else { return Err(Rejection::forbidden("take conversations")) };
            if let (Status::Active, Some(winner)) = (chat.status, chat.agent)
                && winner != taker
            {
                return Err(already_assigned(winner));
            }
            assign_by_hand(state, chat, taker, None, now, emit)?;
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

fn assign_by_hand(
    state: &State,
    chat: &Conversation,
    agent: AgentId,
    reason: Option<&Sealed>,
    now: Timestamp,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
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
            group_id: state.serving_group(chat.tenant, chat.group).map(|group| group.id),
            reason: reason.cloned(),
        },
    );
    Ok(())
}

/// The rank behind everyone who waits.
pub(super) fn back_rank(state: &State, tenant: TenantId) -> i64 {
    let last = state.rosters.get(&tenant).and_then(|roster| roster.queue.last_rank());
    last.map_or(0, |rank| rank.saturating_add(1))
}

/// The rank before everyone who waits.
pub(super) fn front_rank(state: &State, tenant: TenantId) -> i64 {
    let first = state.rosters.get(&tenant).and_then(|roster| roster.queue.first_rank());
    first.map_or(0, |rank| rank.saturating_sub(1))
}

/// The agent loses the chat and it goes back to the queue at `rank`.
pub(super) fn give_back(chat: &Conversation, holder: AgentId, trigger: Trigger, rank: i64, emit: &mut Emit<'_>) {
    emit.conversation(chat, AgentUnassigned { agent_id: holder, trigger });
    emit.conversation(chat, ConversationQueued { thread_id: chat.thread().id, trigger, rank, group_id: None });
}

/// The group of a new conversation: the one asked for, else the chatbot's, else the tenant's default, else none.
pub(super) fn group_of_session(
    state: &State,
    chatbot: &Chatbot,
    asked: Option<GroupId>,
) -> Result<Option<GroupId>, Rejection> {
    let living = |id: GroupId| state.group(chatbot.tenant, id).filter(|group| group.deleted_at.is_none());
    if let Some(asked) = asked {
        let group = living(asked).ok_or_else(|| Rejection::not_found("group").at("groupId"))?;
        return Ok(Some(group.id));
    }
    let group = chatbot.default_group.and_then(living).or_else(|| state.default_group(chatbot.tenant));
    Ok(group.map(|group| group.id))
}

/// Gives out what waits, by rank over all groups that have room.
fn assign_queue(state: &State, tenant: TenantId, trigger: Trigger, now: Timestamp, emit: &mut Emit<'_>) {
    let mut lines: BTreeMap<Option<GroupId>, VecDeque<_>> =
        state.queue_heads(tenant).into_iter().map(|(group, heads): (_, Heads)| (group, heads.into())).collect();
    let mut desk = Desk::new(state, tenant);
    let group = |id: Option<GroupId>| -> Option<&Group> { id.and_then(|id| state.groups.get(&id)) };
    loop {
        // Loads only grow during a run: who has no room now gets none.
        lines.retain(|id, line| !line.is_empty() && desk.has_room(group(*id)));
        let next = lines.iter_mut().min_by_key(|(_, line)| line.front().map(|(rank, _)| *rank));
        let Some((group_id, line)) = next else { return };
        let Some(chat) = line.pop_front().and_then(|(_, id)| state.conversations.get(&id)) else { continue };
        let last_agent = state.visitors.get(&chat.visitor).and_then(|visitor| visitor.last_agent);
        let Some(choice) = desk.choose(group(*group_id), chat, last_agent) else { continue };
        desk.take(&choice, *group_id, now);
        emit.conversation(
            chat,
            AgentAssigned {
                agent_id: choice.agent,
                previous_agent_id: None,
                thread_id: emit.next_thread(),
                waited_ms: chat.queued.map(|queued| now.since(queued.since)),
                trigger,
                strategy: choice.strategy.as_str().to_owned(),
                candidates: choice.candidates,
                group_id: *group_id,
                reason: None,
            },
        );
    }
}
