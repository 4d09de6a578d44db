//! What people do with a conversation beside talking: pass it on, put it aside, note things, read; and what time does.

use super::assignment::{back_rank, over};
use super::command::{Command, CommandKind as K, TransferTo};
use super::decide::{Emit, Rejection, conversation, may, require};
use super::state::{Conversation, State, Status, TimerKind};
use ingest::event::Actor;
use ingest::id::{AgentId, ConversationId, GroupId};
use ingest::payload::{
    AgentAssigned, AgentUnassigned, AuthorType, ConversationClosed, ConversationQueued, ConversationRead,
    ConversationSnoozed, ConversationStale, ConversationTransferred, ConversationUpdated, NotePosted, Permission,
    StaleReason, Trigger,
};
use ingest::seal::Sealed;
use ingest::time::Timestamp;

/// A conversation can be put aside for so long.
const SNOOZE_MS_MAX: i64 = 366 * 24 * 60 * 60 * 1_000;

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::Transfer { conversation_id, to, note } => {
            transfer(state, command, *conversation_id, *to, note.as_ref(), emit)
        }
        K::UpdateConversation { .. } => update(state, command, emit),
        K::MarkStale { conversation_id } => {
            let chat = open_conversation(state, command, *conversation_id, "mark conversations as stale")?;
            if !chat.stale {
                stale(chat, StaleReason::Manual, emit);
            }
            Ok(())
        }
        K::Snooze { conversation_id, until } => snooze(state, command, *conversation_id, *until, emit),
        K::Read { conversation_id, seq } => read(state, command, *conversation_id, *seq, emit),
        K::TimerDue { conversation_id, kind, due_at } => {
            let chat = conversation(state, command.tenant, *conversation_id)?;
            if command.actor == Actor::System && chat.timers.due(*kind) == Some(*due_at) {
                timer(chat, *kind, emit);
            }
            Ok(())
        }
        _ => return Ok(false),
    }
    .map(|()| true)
}

/// Whoever has the conversation, when that is another agent, and the one who asks doesn't steer.
pub(super) fn held_by_other(state: &State, command: &Command, chat: &Conversation) -> Option<AgentId> {
    let holder = chat.agent.filter(|_| chat.status == Status::Active)?;
    let own = command.actor == Actor::Agent(holder);
    (!own && !may(state, command, Permission::ConversationsSteer)).then_some(holder)
}

/// A lost race: another agent has the conversation.
pub(super) fn already_assigned(winner: AgentId) -> Rejection {
    let mut lost = Rejection::new(409, "already_assigned", "another agent has this conversation");
    lost.winner = Some(winner);
    lost
}

/// A conversation that still goes on and that the one who asks may work on.
fn open_conversation<'s>(
    state: &'s State,
    command: &Command,
    id: ConversationId,
    what: &str,
) -> Result<&'s Conversation, Rejection> {
    require(state, command, Permission::ConversationsReply, what)?;
    let chat = conversation(state, command.tenant, id)?;
    if matches!(chat.status, Status::Resolved | Status::Closed) {
        return Err(over(chat));
    }
    match held_by_other(state, command, chat) {
        Some(_) => Err(Rejection::forbidden(&format!("{what} that other agents have"))),
        None => Ok(chat),
    }
}

fn living_group(state: &State, command: &Command, id: GroupId) -> Result<(), Rejection> {
    let group = state.group(command.tenant, id).filter(|group| group.deleted_at.is_none());
    group.map(drop).ok_or_else(|| Rejection::not_found("group").at("groupId"))
}

fn check_target(state: &State, command: &Command, to: TransferTo) -> Result<(), Rejection> {
    match to {
        TransferTo::Group(id) => living_group(state, command, id),
        TransferTo::Agent(id) => {
            let agent = state.agent(command.tenant, id).filter(|agent| agent.deleted_at.is_none());
            let agent = agent.ok_or_else(|| Rejection::not_found("agent").at("agentId"))?;
            if state.may_reply(agent) {
                return Ok(());
            }
            let detail = "this agent's role doesn't allow to reply";
            Err(Rejection::new(422, "agent_may_not_reply", detail).at("agentId"))
        }
    }
}

fn transfer(
    state: &State,
    command: &Command,
    id: ConversationId,
    to: TransferTo,
    note: Option<&Sealed>,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    require(state, command, Permission::ConversationsReply, "transfer conversations")?;
    let chat = conversation(state, command.tenant, id)?;
    if matches!(chat.status, Status::Resolved | Status::Closed) {
        return Err(over(chat));
    }
    check_target(state, command, to)?;
    let holder = chat.agent.filter(|_| chat.status == Status::Active);
    let holds_already = match to {
        TransferTo::Agent(agent) => holder == Some(agent),
        TransferTo::Group(group) => chat.status == Status::Pending && chat.group == Some(group),
    };
    if holds_already {
        return Ok(());
    }
    if let Some(winner) = held_by_other(state, command, chat) {
        return Err(already_assigned(winner));
    }
    if let Some(note) = note {
        let thread_id = chat.thread().id;
        emit.conversation(chat, NotePosted { thread_id, content: note.clone(), client_id: None });
    }
    let thread_id = emit.next_thread();
    let mut passed = ConversationTransferred { thread_id, from_agent_id: holder, agent_id: None, group_id: None };
    match to {
        TransferTo::Agent(agent_id) => {
            passed.agent_id = Some(agent_id);
            emit.conversation(chat, passed);
            let assigned = AgentAssigned {
                agent_id,
                previous_agent_id: holder,
                thread_id,
                waited_ms: chat.queued.map(|queued| emit.now().since(queued.since)),
                trigger: Trigger::Transferred,
                strategy: "manual".to_owned(),
                candidates: Vec::new(),
                group_id: state.serving_group(chat.tenant, chat.group).map(|group| group.id),
                reason: None,
            };
            emit.conversation(chat, assigned);
        }
        TransferTo::Group(group_id) => {
            passed.group_id = Some(group_id);
            emit.conversation(chat, passed);
            if let Some(agent_id) = holder {
                emit.conversation(chat, AgentUnassigned { agent_id, trigger: Trigger::Transferred });
            }
            // One that was never queued waits for its first message.
            if holder.is_some() || chat.queued.is_some() {
                let rank = chat.queued.map_or_else(|| back_rank(state, command.tenant), |queued| queued.rank);
                emit.conversation(
                    chat,
                    ConversationQueued { thread_id, trigger: Trigger::Transferred, rank, group_id: None },
                );
            }
        }
    }
    Ok(())
}

fn update(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let K::UpdateConversation { conversation_id, notes, group_id } = &command.kind else { return Ok(()) };
    require(state, command, Permission::ConversationsReply, "change conversations")?;
    let chat = conversation(state, command.tenant, *conversation_id)?;
    if chat.status == Status::Closed {
        return Err(over(chat));
    }
    let group_id = group_id.filter(|group| *group != chat.group);
    if let Some(Some(group)) = group_id {
        living_group(state, command, group)?;
    }
    if group_id.is_some() && held_by_other(state, command, chat).is_some() {
        return Err(Rejection::forbidden("move conversations that other agents have").at("groupId"));
    }
    let notes = notes.clone().filter(|notes| notes.is_some() || chat.notes.is_some());
    if notes.is_none() && group_id.is_none() {
        return Ok(());
    }
    emit.conversation(chat, ConversationUpdated { notes, group_id });
    if let (Some(_), Some(queued)) = (group_id, chat.queued) {
        // Others may take it now: the assignment looks at it again.
        let (thread_id, rank) = (chat.thread().id, queued.rank);
        emit.conversation(chat, ConversationQueued { thread_id, trigger: Trigger::Transferred, rank, group_id: None });
    }
    Ok(())
}

fn stale(chat: &Conversation, reason: StaleReason, emit: &mut Emit<'_>) {
    let (thread_id, agent_id) = (chat.thread().id, chat.slot_of());
    emit.conversation(chat, ConversationStale { thread_id, reason, agent_id });
}

fn snooze(
    state: &State,
    command: &Command,
    id: ConversationId,
    until: Option<Timestamp>,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    let chat = open_conversation(state, command, id, "put conversations aside")?;
    if until == chat.snoozed_until {
        return Ok(());
    }
    if until.is_some_and(|until| !(1..=SNOOZE_MS_MAX).contains(&until.since(emit.now()))) {
        return Err(Rejection::new(422, "invalid_field", "'until' is a time in the next 366 days").at("until"));
    }
    emit.conversation(chat, ConversationSnoozed { until });
    Ok(())
}

fn read(
    state: &State,
    command: &Command,
    conversation_id: ConversationId,
    seq: u64,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    let chat = conversation(state, command.tenant, conversation_id)?;
    let (reader, before) = if let Actor::Visitor(visitor) = command.actor {
        if visitor != chat.visitor {
            return Err(Rejection::not_found("conversation"));
        }
        (AuthorType::Visitor, chat.unread_by_visitor.read)
    } else {
        require(state, command, Permission::ConversationsReply, "mark conversations as read")?;
        (AuthorType::Agent, chat.unread_by_agents.read)
    };
    if seq > chat.last_seq {
        return Err(Rejection::new(422, "invalid_field", format!("there is no event {seq} yet")).at("seq"));
    }
    if seq > before {
        emit.tenant(ConversationRead { conversation_id, reader, seq });
    }
    Ok(())
}

fn timer(chat: &Conversation, kind: TimerKind, emit: &mut Emit<'_>) {
    match kind {
        TimerKind::Snooze => emit.conversation(chat, ConversationSnoozed { until: None }),
        TimerKind::Idle => stale(chat, StaleReason::Idle, emit),
        TimerKind::AutoClose => {
            emit.conversation(chat, ConversationClosed { reason: "auto_close".to_owned(), agent_id: None });
        }
    }
}
