//! Conversations, their threads, the queue, and the agents' counters.

use super::{actor_word, set, timers};
use crate::core::state::{
    Conversation, Ended, Key, LastMessage, Queued, Rated, State, Status, StoredFile, Thread, ThreadClosed, Timers,
    Unread, Unresolved, is_for_agents,
};
use ingest::event::{Event, Origin};
use ingest::id::{AgentId, ConversationId, GroupId, TenantId, ThreadId};
use ingest::payload::{
    AgentAssigned, AuthorType, ConversationQueued, ConversationRated, ConversationRead, ConversationStarted,
    IMPORTED_UNRESOLVED, MessagePosted, Payload, StaleReason,
};

pub(super) fn apply(state: &mut State, event: &Event) {
    if let Payload::ConversationRead(read) = &event.payload {
        apply_read(state, read);
    }
    let Some(id) = event.conversation else { return };
    if let Payload::ConversationStarted(made) = &event.payload {
        start(state, event, id, made);
        return;
    }
    change(state, event, id);
    timers::sync(state, event, id);
}

fn start(state: &mut State, event: &Event, id: ConversationId, made: &ConversationStarted) {
    let conversation = Conversation {
        id,
        tenant: event.tenant,
        visitor: made.visitor_id,
        chatbot: made.chatbot_id,
        group: made.group_id,
        status: Status::Pending,
        agent: None,
        queued: None,
        threads: vec![Thread { id: made.thread_id, created_at: event.occurred_at, closed: None }],
        tags: made.tags.iter().cloned().collect(),
        skills: made.skills.iter().cloned().collect(),
        last_seq: event.seq,
        shown_seq: None,
        visitor_messages: 0,
        last_message: None,
        rating: None,
        ended: None,
        rated: None,
        notes: None,
        stale: false,
        snoozed_until: None,
        unread_by_agents: Unread::default(),
        unread_by_visitor: Unread::default(),
        timers: Timers::default(),
        active_at: event.occurred_at,
        continued_in: None,
        external_id: made.external_id.clone(),
        unresolved: None,
        created_at: event.occurred_at,
        updated_at: event.occurred_at,
    };
    state.conversations.insert(id, conversation);
    state.dirty.insert(Key::Conversation(id));
    if let Some(closed) = made.continues.and_then(|closed| state.conversations.get_mut(&closed)) {
        closed.continued_in = Some(id);
        state.dirty.insert(Key::Conversation(closed.id));
    }
}

fn change(state: &mut State, event: &Event, id: ConversationId) {
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    let shown = conversation.last_shown_seq();
    conversation.shown_seq = is_for_agents(&event.payload).then_some(shown);
    conversation.last_seq = event.seq;
    conversation.updated_at = event.occurred_at;
    state.dirty.insert(Key::Conversation(id));
    let imported = event.origin == Origin::Import;
    if imported {
        resume(conversation, &event.payload);
    }
    match &event.payload {
        Payload::MessagePosted(message) => post(state, message, event, id),
        Payload::ConversationQueued(queued) => queue(state, event, id, queued),
        Payload::AgentAssigned(assigned) => assign(state, event, id, assigned),
        Payload::AgentUnassigned(_) => {
            let holder = conversation.slot_of();
            conversation.agent = None;
            conversation.status = Status::Pending;
            conversation.stale = false;
            if let Some(holder) = holder {
                count_chat(state, holder, event, -1);
            }
        }
        Payload::ConversationTransferred(passed) => {
            close_thread(conversation, event, "transferred");
            open_thread(conversation, event, passed.thread_id);
            conversation.snoozed_until = None;
            if passed.group_id.is_some() {
                set_group(state, event.tenant, id, passed.group_id);
            }
        }
        Payload::ConversationUpdated(changed) => {
            set(&mut conversation.notes, changed.notes.as_ref());
            if let Some(group) = changed.group_id {
                set_group(state, event.tenant, id, group);
            }
        }
        Payload::ConversationStale(stale) => {
            let holder = conversation.slot_of();
            if stale.reason == StaleReason::Idle {
                close_thread(conversation, event, "idle");
            }
            conversation.stale = true;
            leave_queue(state, event.tenant, id);
            if let Some(holder) = holder {
                count_chat(state, holder, event, -1);
            }
        }
        Payload::ConversationSnoozed(snoozed) => {
            conversation.snoozed_until = snoozed.until;
            conversation.active_at = event.occurred_at;
        }
        Payload::ConversationResolved(resolved) => {
            let reason = resolved.reason.as_deref().unwrap_or("resolved");
            end(state, event, id, Status::Resolved, resolved.agent_id, reason);
        }
        Payload::ConversationClosed(closed) => {
            let runs_out = imported && closed.reason == IMPORTED_UNRESOLVED;
            let ended = conversation.ended.clone();
            if runs_out {
                conversation.unresolved = Some(unresolved(conversation));
            }
            end(state, event, id, Status::Closed, closed.agent_id, "closed");
            // It may go on: nothing has ended that somebody rates.
            if let Some(conversation) = state.conversations.get_mut(&id).filter(|_| runs_out) {
                conversation.ended = ended;
            }
        }
        Payload::ConversationReopened(reopened) => {
            conversation.status = Status::Pending;
            conversation.agent = None;
            open_thread(conversation, event, reopened.thread_id);
        }
        Payload::ConversationRated(rated) => rate(conversation, rated),
        Payload::ConversationTagged(tagged) => {
            conversation.tags.extend(tagged.add.iter().cloned());
            conversation.tags.retain(|tag| !tagged.remove.contains(tag));
        }
        _ => {}
    }
}

/// It waits. What waited elsewhere waits for nobody here.
fn queue(state: &mut State, event: &Event, id: ConversationId, queued: &ConversationQueued) {
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    // One that waited already changes its place, and has waited since then.
    let since = conversation.queued.map_or(event.occurred_at, |queued| queued.since);
    leave_queue(state, event.tenant, id);
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    conversation.status = Status::Pending;
    conversation.agent = None;
    conversation.group = queued.group_id.or(conversation.group);
    conversation.stale = false;
    if event.origin == Origin::Import {
        return;
    }
    conversation.queued = Some(Queued { rank: queued.rank, since });
    if let Some(roster) = state.rosters.get_mut(&event.tenant) {
        roster.queue.insert(conversation.group, queued.rank, id);
    }
}

fn assign(state: &mut State, event: &Event, id: ConversationId, assigned: &AgentAssigned) {
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    let previous = conversation.slot_of();
    // A transfer has closed the thread before and opened this one.
    if conversation.thread().id != assigned.thread_id {
        close_thread(conversation, event, "agent_assigned");
        open_thread(conversation, event, assigned.thread_id);
    }
    conversation.status = Status::Active;
    conversation.agent = Some(assigned.agent_id);
    conversation.stale = false;
    conversation.active_at = event.occurred_at;
    let visitor = conversation.visitor;
    // Who is given the next conversation goes by what happened here.
    let live = event.origin == Origin::Live;
    if let Some(found) = state.visitors.get_mut(&visitor).filter(|_| live) {
        found.last_agent = Some(assigned.agent_id);
        state.dirty.insert(Key::Visitor(visitor));
    }
    leave_queue(state, event.tenant, id);
    if let Some(previous) = previous {
        count_chat(state, previous, event, -1);
    }
    count_chat(state, assigned.agent_id, event, 1);
}

/// How a conversation stands that an import ends.
fn unresolved(conversation: &Conversation) -> Unresolved {
    Unresolved {
        status: conversation.status,
        agent: conversation.agent,
        stale: conversation.stale,
        snoozed_until: conversation.snoozed_until,
        thread_open: conversation.thread().closed.is_none(),
    }
}

/// More of an import whose conversation hadn't ended: it stands as before its end here. A rating tells nothing about that.
fn resume(conversation: &mut Conversation, payload: &Payload) {
    if matches!(payload, Payload::ConversationRated(_)) {
        return;
    }
    let Some(before) = conversation.unresolved.take() else { return };
    conversation.status = before.status;
    conversation.agent = before.agent;
    conversation.stale = before.stale;
    conversation.snoozed_until = before.snoozed_until;
    if let Some(thread) = conversation.threads.last_mut().filter(|_| before.thread_open) {
        thread.closed = None;
    }
}

/// A read position rises; nothing else of the conversation changes, not even when it last did.
fn apply_read(state: &mut State, read: &ConversationRead) {
    let Some(conversation) = state.conversations.get_mut(&read.conversation_id) else { return };
    match read.reader {
        AuthorType::Visitor => conversation.unread_by_visitor.read_to(read.seq),
        AuthorType::Agent | AuthorType::Bot => conversation.unread_by_agents.read_to(read.seq),
    }
    state.dirty.insert(Key::Conversation(read.conversation_id));
}

fn post(state: &mut State, message: &MessagePosted, event: &Event, id: ConversationId) {
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    if let Some(file) = message.file_id {
        let metadata = message.metadata.clone();
        let stored =
            StoredFile { id: file, tenant: event.tenant, conversation: id, visitor: conversation.visitor, metadata };
        state.files.insert(file, stored);
        state.dirty.insert(Key::File(file));
    }
    // The thread before went idle.
    if conversation.thread().id != message.thread_id {
        open_thread(conversation, event, message.thread_id);
    }
    conversation.active_at = event.occurred_at;
    conversation.last_message = Some(LastMessage {
        content: message.content.clone(),
        author_type: message.author_type.as_str().to_owned(),
        at: event.occurred_at,
    });
    if message.author_type != AuthorType::Visitor {
        conversation.unread_by_visitor.add(event.seq);
        return;
    }
    conversation.visitor_messages += 1;
    conversation.unread_by_agents.add(event.seq);
    conversation.snoozed_until = None;
    if std::mem::take(&mut conversation.stale)
        && let Some(holder) = conversation.slot_of()
    {
        count_chat(state, holder, event, 1);
    }
}

fn open_thread(conversation: &mut Conversation, event: &Event, id: ThreadId) {
    conversation.threads.push(Thread { id, created_at: event.occurred_at, closed: None });
}

fn close_thread(conversation: &mut Conversation, event: &Event, reason: &str) {
    if let Some(thread) = conversation.threads.last_mut()
        && thread.closed.is_none()
    {
        let by = actor_word(event.actor).to_owned();
        thread.closed = Some(ThreadClosed { at: event.occurred_at, by, reason: reason.to_owned() });
    }
}

fn leave_queue(state: &mut State, tenant: TenantId, id: ConversationId) {
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    let Some(queued) = conversation.queued.take() else { return };
    if let Some(roster) = state.rosters.get_mut(&tenant) {
        roster.queue.remove(conversation.group, queued.rank);
    }
}

/// One that waits goes to the line of its new group.
fn set_group(state: &mut State, tenant: TenantId, id: ConversationId, group: Option<GroupId>) {
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    let before = std::mem::replace(&mut conversation.group, group);
    if let (Some(queued), Some(roster)) = (conversation.queued, state.rosters.get_mut(&tenant)) {
        roster.queue.remove(before, queued.rank);
        roster.queue.insert(group, queued.rank, id);
    }
}

fn count_chat(state: &mut State, agent: AgentId, event: &Event, change: i32) {
    // What an agent had elsewhere takes no slot here.
    if event.origin == Origin::Import {
        return;
    }
    if let Some(found) = state.agents.get_mut(&agent) {
        found.active_chats = found.active_chats.saturating_add_signed(change);
        found.idle_since = event.occurred_at;
        state.dirty.insert(Key::Agent(agent));
    }
}

fn rate(conversation: &mut Conversation, rated: &ConversationRated) {
    let (thread, score, comment_mark) = (rated.thread_id, rated.score, rated.comment_mark.clone());
    conversation.rating = Some(score);
    conversation.rated = Some(Rated { thread, score, comment_mark });
}

/// Resolved or closed: the thread ends, the slot is free, the queue forgets it; the agent stays for the credit.
fn end(
    state: &mut State,
    event: &Event,
    id: ConversationId,
    status: Status,
    agent: Option<AgentId>,
    thread_reason: &str,
) {
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    let slot = conversation.slot_of();
    conversation.agent = agent.or(conversation.agent);
    // What is closed after it was resolved has ended there.
    if conversation.status != Status::Resolved {
        conversation.ended = Some(Ended { thread: conversation.thread().id, agent: conversation.agent });
    }
    conversation.status = status;
    conversation.stale = false;
    conversation.snoozed_until = None;
    close_thread(conversation, event, thread_reason);
    leave_queue(state, event.tenant, id);
    if let Some(holder) = slot {
        count_chat(state, holder, event, -1);
    }
}
