//! What happens in a conversation: sessions, messages, resolve, reopen, close, ratings, tags.

use super::actions::held_by_other;
use super::assignment::{back_rank, group_of_session, over};
use super::command::{Command, CommandKind as K, NewMessage};
use super::decide::{Emit, Rejection, conversation, require};
use super::state::{Conversation, Rated, State, Status};
use super::visitors;
use ingest::event::Actor;
use ingest::id::{ConversationId, ThreadId};
use ingest::payload::{
    AuthorType, ConversationClosed, ConversationQueued, ConversationRated, ConversationReopened, ConversationResolved,
    ConversationStarted, ConversationTagged, MessagePosted, NotePosted, Permission, Trigger,
};

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::StartSession { .. } => start_session(state, command, emit),
        K::PostMessage { conversation_id, message } => post_message(state, command, *conversation_id, message, emit),
        K::PostNote { .. } => post_note(state, command, emit),
        K::Resolve { .. } | K::Reopen { .. } | K::Close { .. } => turn(state, command, emit),
        K::Rate { .. } => rate(state, command, emit),
        K::Tag { conversation_id, add, remove } => tag(state, command, *conversation_id, add, remove, emit),
        _ => return Ok(false),
    }
    .map(|()| true)
}

fn post_note(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let K::PostNote { conversation_id, content, client_id } = &command.kind else { return Ok(()) };
    require(state, command, Permission::ConversationsReply, "write notes")?;
    let chat = conversation(state, command.tenant, *conversation_id)?;
    if chat.status == Status::Closed {
        return Err(over(chat));
    }
    let thread_id = chat.thread().id;
    emit.conversation(chat, NotePosted { thread_id, content: content.clone(), client_id: client_id.clone() });
    Ok(())
}

/// A rating is of the thread that ended last, also when it comes after a reopen, and of the one under way before any has
/// ended. Another score, or other words, replaces what was said of that thread.
fn rate(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let K::Rate { conversation_id, score, comment } = &command.kind else { return Ok(()) };
    let chat = own_conversation(state, command, *conversation_id)?;
    let (thread_id, agent_id) = match &chat.ended {
        Some(ended) => (ended.thread, ended.agent),
        None => (chat.thread().id, chat.agent),
    };
    let comment_mark = comment.as_ref().map(|comment| comment.mark.clone());
    let repeats = |last: &Rated| {
        let says_nothing_new = comment_mark.is_none() || comment_mark == last.comment_mark;
        last.thread == thread_id && last.score == *score && says_nothing_new
    };
    if chat.rated.as_ref().is_some_and(repeats) {
        return Ok(());
    }
    let comment = comment.as_ref().map(|comment| comment.text.clone());
    emit.conversation(chat, ConversationRated { thread_id, score: *score, agent_id, comment, comment_mark });
    Ok(())
}

/// A visitor's own conversation; to others it doesn't exist. Blocked visitors can't write in theirs either.
fn own_conversation<'s>(
    state: &'s State,
    command: &Command,
    id: ConversationId,
) -> Result<&'s Conversation, Rejection> {
    let chat = conversation(state, command.tenant, id)?;
    if command.actor != Actor::Visitor(chat.visitor) {
        return Err(Rejection::not_found("conversation"));
    }
    if let Some(visitor) = state.visitor(command.tenant, chat.visitor) {
        visitors::may_write(visitor)?;
    }
    Ok(chat)
}

fn start_session(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let K::StartSession { visitor, conversation_id, chatbot_id, group_id, skills, message } = &command.kind else {
        return Ok(());
    };
    let chatbot = state
        .chatbots
        .get(chatbot_id)
        .filter(|found| found.tenant == command.tenant && found.deleted_at.is_none())
        .ok_or_else(|| Rejection::not_found("chatbot"))?;
    let group_id = group_of_session(state, chatbot, *group_id)?;
    let known = visitors::known(state, command.tenant, visitor)?;
    let has_email = visitor.email.is_some() || known.is_some_and(|known| known.email.is_some());
    if !has_email && state.tenants.get(&command.tenant).is_some_and(|tenant| tenant.settings.require_email) {
        let detail = "this tenant asks its visitors for an e-mail address";
        return Err(Rejection::new(422, "email_required", detail).at("email"));
    }
    let at = emit.now();
    let thread_id = emit.next_thread();
    let started = ConversationStarted {
        visitor_id: visitor.visitor_id,
        visitor_has_email: has_email,
        chatbot_id: Some(*chatbot_id),
        group_id,
        thread_id,
        tags: Vec::new(),
        external_id: None,
        skills: skills.clone(),
        continues: None,
        exact: false,
    };
    // First, so that a repeat of the request finds the conversation.
    emit.conversation_as(*conversation_id, 0, at, command.actor, started);
    visitors::seen(known, visitor, emit);
    if let Some(message) = message {
        emit.conversation_as(*conversation_id, 0, at, command.actor, posted(message, AuthorType::Visitor, thread_id));
        let rank = back_rank(state, command.tenant);
        let queued = ConversationQueued { thread_id, trigger: Trigger::FirstMessage, rank, group_id: None };
        emit.conversation_as(*conversation_id, 0, at, command.actor, queued);
    }
    Ok(())
}

fn posted(message: &NewMessage, author_type: AuthorType, thread_id: ThreadId) -> MessagePosted {
    MessagePosted {
        thread_id,
        author_type,
        content: message.content.clone(),
        content_chars: message.content_chars,
        client_id: message.client_id.clone(),
        metadata: message.metadata.clone(),
        file_id: message.file_id,
    }
}

fn post_message(
    state: &State,
    command: &Command,
    id: ConversationId,
    message: &NewMessage,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    let Actor::Visitor(_) = command.actor else {
        require(state, command, Permission::ConversationsReply, "write to visitors")?;
        let chat = conversation(state, command.tenant, id)?;
        if matches!(chat.status, Status::Resolved | Status::Closed) {
            return Err(over(chat));
        }
        emit.conversation(chat, posted(message, AuthorType::Agent, message_thread(chat, emit)));
        return Ok(());
    };
    let chat = own_conversation(state, command, id)?;
    let mut thread_id = message_thread(chat, emit);
    let trigger = match chat.status {
        Status::Closed => return go_on(state, command, chat, message, emit),
        Status::Resolved => {
            thread_id = emit.next_thread();
            emit.conversation(chat, ConversationReopened { thread_id });
            Some(Trigger::Reopened)
        }
        Status::Pending if chat.queued.is_none() && chat.visitor_messages == 0 => Some(Trigger::FirstMessage),
        // It was stale, and so waited no longer.
        Status::Pending if chat.queued.is_none() => Some(Trigger::Reopened),
        Status::Pending | Status::Active => None,
    };
    emit.conversation(chat, posted(message, AuthorType::Visitor, thread_id));
    if let Some(trigger) = trigger {
        let rank = back_rank(state, command.tenant);
        emit.conversation(chat, ConversationQueued { thread_id, trigger, rank, group_id: None });
    }
    Ok(())
}

/// Where a message goes: the active thread, or the next one after a thread that went idle.
fn message_thread(chat: &Conversation, emit: &Emit<'_>) -> ThreadId {
    if chat.thread().closed.is_some() { emit.next_thread() } else { chat.thread().id }
}

/// A closed conversation is read-only: what its visitor writes starts the next one.
fn go_on(
    state: &State,
    command: &Command,
    closed: &Conversation,
    message: &NewMessage,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    if closed.continued_in.is_some() {
        let detail = "the conversation is closed, and goes on in another one";
        return Err(Rejection::new(409, "conversation_continued", detail));
    }
    let at = emit.now();
    let thread_id = emit.next_thread();
    // A conversation that an event starts has the event's id, as its thread.
    let id = ConversationId(thread_id.0);
    let started = ConversationStarted {
        visitor_id: closed.visitor,
        visitor_has_email: state.visitors.get(&closed.visitor).is_some_and(|visitor| visitor.email.is_some()),
        chatbot_id: closed.chatbot,
        group_id: closed.group,
        thread_id,
        tags: Vec::new(),
        external_id: None,
        skills: closed.skills.iter().cloned().collect(),
        continues: Some(closed.id),
        exact: false,
    };
    emit.conversation_as(id, 0, at, command.actor, started);
    emit.conversation_as(id, 0, at, command.actor, posted(message, AuthorType::Visitor, thread_id));
    let rank = back_rank(state, command.tenant);
    let queued = ConversationQueued { thread_id, trigger: Trigger::FirstMessage, rank, group_id: None };
    emit.conversation_as(id, 0, at, command.actor, queued);
    Ok(())
}

/// Resolve, reopen, close. Repeating what already holds writes nothing.
fn turn(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let (K::Resolve { conversation_id } | K::Reopen { conversation_id } | K::Close { conversation_id }) = &command.kind
    else {
        return Ok(());
    };
    let chat = if let Actor::Visitor(_) = command.actor {
        own_conversation(state, command, *conversation_id)?
    } else {
        require(state, command, Permission::ConversationsReply, "resolve, reopen or close conversations")?;
        conversation(state, command.tenant, *conversation_id)?
    };
    let by_visitor = matches!(command.actor, Actor::Visitor(_));
    match (&command.kind, chat.status) {
        (K::Resolve { .. }, Status::Resolved) | (K::Close { .. }, Status::Closed) => {}
        (K::Reopen { .. }, Status::Pending | Status::Active) => {}
        (_, Status::Closed) => return Err(over(chat)),
        (_, Status::Active) if held_by_other(state, command, chat).is_some() && !by_visitor => {
            return Err(Rejection::forbidden("end conversations that other agents have"));
        }
        (K::Resolve { .. }, _) => {
            let holder = chat.agent.or(match command.actor {
                Actor::Agent(agent) => Some(agent),
                _ => None,
            });
            emit.conversation(
                chat,
                ConversationResolved { thread_id: chat.thread().id, agent_id: holder, reason: None },
            );
        }
        (K::Reopen { .. }, _) => {
            let thread_id = emit.next_thread();
            emit.conversation(chat, ConversationReopened { thread_id });
            let rank = back_rank(state, command.tenant);
            emit.conversation(chat, ConversationQueued { thread_id, trigger: Trigger::Reopened, rank, group_id: None });
        }
        (_, status) => {
            let reason = if by_visitor { "visitor" } else { "agent" }.to_owned();
            let agent_id = chat.agent.filter(|_| status == Status::Active);
            emit.conversation(chat, ConversationClosed { reason, agent_id });
        }
    }
    Ok(())
}

fn tag(
    state: &State,
    command: &Command,
    id: ConversationId,
    add: &[String],
    remove: &[String],
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    require(state, command, Permission::ConversationsReply, "tag conversations")?;
    let chat = conversation(state, command.tenant, id)?;
    let add: Vec<String> = add.iter().filter(|tag| !chat.tags.contains(*tag)).cloned().collect();
    let remove: Vec<String> = remove.iter().filter(|tag| chat.tags.contains(*tag)).cloned().collect();
    if !add.is_empty() || !remove.is_empty() {
        emit.conversation(chat, ConversationTagged { add, remove });
    }
    Ok(())
}
