//! Conversations, their threads, the queue, and the agents' counters.

use super::actor_word;
use crate::core::state::{Conversation, Key, LastMessage, Queued, State, Status, Thread, ThreadClosed};
use ingest::event::Event;
use ingest::id::{AgentId, ConversationId, TenantId, ThreadId};
use ingest::payload::{AuthorType, MessagePosted, Payload};

pub(super) fn apply(state: &mut State, event: &Event) {
    let Some(id) = event.conversation else { return };
    if let Payload::ConversationStarted(made) = &event.payload {
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
            last_seq: event.seq,
            visitor_messages: 0,
            last_message: None,
            rating: None,
            external_id: made.external_id.clone(),
            created_at: event.occurred_at,
            updated_at: event.occurred_at,
        };
        state.conversations.insert(id, conversation);
        state.dirty.insert(Key::Conversation(id));
        return;
    }
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    conversation.last_seq = event.seq;
    conversation.updated_at = event.occurred_at;
    state.dirty.insert(Key::Conversation(id));
    match &event.payload {
        Payload::MessagePosted(message) => post(conversation, message, event),
        Payload::ConversationQueued(queued) => {
            conversation.status = Status::Pending;
            conversation.agent = None;
            conversation.queued = Some(Queued { rank: queued.rank, since: event.occurred_at });
            if let Some(roster) = state.rosters.get_mut(&event.tenant) {
                roster.queue.insert(queued.rank, id);
            }
        }
        Payload::AgentAssigned(assigned) => {
            close_thread(conversation, event, "agent_assigned");
            open_thread(conversation, event, assigned.thread_id);
            conversation.status = Status::Active;
            conversation.agent = Some(assigned.agent_id);
            leave_queue(state, event.tenant, id);
            if let Some(previous) = assigned.previous_agent_id {
                count_chat(state, previous, event, -1);
            }
            count_chat(state, assigned.agent_id, event, 1);
        }
        Payload::AgentUnassigned(unassigned) => {
            conversation.agent = None;
            conversation.status = Status::Pending;
            count_chat(state, unassigned.agent_id, event, -1);
        }
        Payload::ConversationResolved(resolved) => end(state, event, id, Status::Resolved, resolved.agent_id),
        Payload::ConversationClosed(closed) => end(state, event, id, Status::Closed, closed.agent_id),
        Payload::ConversationReopened(reopened) => {
            conversation.status = Status::Pending;
            conversation.agent = None;
            open_thread(conversation, event, reopened.thread_id);
        }
        Payload::ConversationRated(rated) => conversation.rating = Some(rated.score),
        Payload::ConversationTagged(tagged) => {
            conversation.tags.extend(tagged.add.iter().cloned());
            conversation.tags.retain(|tag| !tagged.remove.contains(tag));
        }
        _ => {}
    }
}

fn post(conversation: &mut Conversation, message: &MessagePosted, event: &Event) {
    conversation.visitor_messages += u64::from(message.author_type == AuthorType::Visitor);
    conversation.last_message = Some(LastMessage {
        content: message.content.clone(),
        author_type: message.author_type.as_str().to_owned(),
        at: event.occurred_at,
    });
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
    let Some(queued) = state.conversations.get_mut(&id).and_then(|conversation| conversation.queued.take()) else {
        return;
    };
    if let Some(roster) = state.rosters.get_mut(&tenant) {
        roster.queue.remove(&queued.rank);
    }
}

fn count_chat(state: &mut State, agent: AgentId, event: &Event, change: i32) {
    if let Some(found) = state.agents.get_mut(&agent) {
        found.active_chats = found.active_chats.saturating_add_signed(change);
        found.idle_since = event.occurred_at;
        state.dirty.insert(Key::Agent(agent));
    }
}

/// Resolved or closed: the thread ends, the slot is free, the queue forgets it; the agent stays for the credit.
fn end(state: &mut State, event: &Event, id: ConversationId, status: Status, agent: Option<AgentId>) {
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    let was_active = conversation.status == Status::Active;
    let holder = conversation.agent;
    conversation.status = status;
    conversation.agent = agent.or(holder);
    close_thread(conversation, event, if status == Status::Resolved { "resolved" } else { "closed" });
    leave_queue(state, event.tenant, id);
    if let (true, Some(holder)) = (was_active, holder) {
        count_chat(state, holder, event, -1);
    }
}
