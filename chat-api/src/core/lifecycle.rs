//! What happens in a conversation: sessions, messages, resolve, reopen, close, ratings, tags, mails, import.

use super::assignment::{back_rank, over};
use super::command::{Command, CommandKind as K, ImportedConversation, MailOutcome, NewMessage, email_word};
use super::decide::{Emit, Rejection, conversation, require};
use super::state::{Conversation, MailStatus, State, Status};
use ingest::event::Actor;
use ingest::id::{ConversationId, MailId, PersonId, ThreadId};
use ingest::payload::{
    AgentStatus, AuthorType, ConversationClosed, ConversationQueued, ConversationRated, ConversationReopened,
    ConversationResolved, ConversationStarted, ConversationTagged, MailFailed, MailKind, MailRequested, MailSent,
    MessagePosted, NotePosted, Role, Trigger,
};

pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    match &command.kind {
        K::StartSession { .. } => start_session(state, command, emit),
        K::PostMessage { conversation_id, message } => post_message(state, command, *conversation_id, message, emit),
        K::PostNote { conversation_id, content, client_id } => {
            require(state, command, Role::Agent, "write notes")?;
            let chat = conversation(state, command.tenant, *conversation_id)?;
            if chat.status == Status::Closed {
                return Err(over(chat));
            }
            let thread_id = chat.thread().id;
            emit.conversation(chat, NotePosted { thread_id, content: content.clone(), client_id: client_id.clone() });
            Ok(())
        }
        K::Resolve { .. } | K::Reopen { .. } | K::Close { .. } => turn(state, command, emit),
        K::Rate { conversation_id, score, comment } => {
            let chat = own_conversation(state, command, *conversation_id)?;
            if chat.rating == Some(*score) && comment.is_none() {
                return Ok(());
            }
            let thread_id = chat.thread().id;
            let rated = ConversationRated { thread_id, score: *score, agent_id: chat.agent, comment: comment.clone() };
            emit.conversation(chat, rated);
            Ok(())
        }
        K::Tag { conversation_id, add, remove } => tag(state, command, *conversation_id, add, remove, emit),
        K::RequestWelcome { .. } | K::RequestAgentMails { .. } | K::RecordMail { .. } => mail(state, command, emit),
        K::Import(import) => {
            import_conversation(state, command, import, emit);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A visitor's own conversation; to others it doesn't exist.
fn own_conversation<'s>(
    state: &'s State,
    command: &Command,
    id: ConversationId,
) -> Result<&'s Conversation, Rejection> {
    let chat = conversation(state, command.tenant, id)?;
    if command.actor == Actor::Visitor(chat.visitor) { Ok(chat) } else { Err(Rejection::not_found("conversation")) }
}

fn start_session(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let K::StartSession { visitor, conversation_id, chatbot_id, group_id, message } = &command.kind else {
        return Ok(());
    };
    state
        .chatbots
        .get(chatbot_id)
        .filter(|found| found.tenant == command.tenant)
        .ok_or_else(|| Rejection::not_found("chatbot"))?;
    if group_id.is_some() {
        return Err(Rejection::not_found("group").at("groupId"));
    }
    let at = emit.now();
    emit.visitor(visitor, at);
    let thread_id = emit.next_thread();
    let started = ConversationStarted {
        visitor_id: visitor.visitor_id,
        visitor_has_email: visitor.email.is_some(),
        chatbot_id: Some(*chatbot_id),
        group_id: None,
        thread_id,
        tags: Vec::new(),
        external_id: None,
    };
    emit.conversation_as(*conversation_id, 0, at, command.actor, started);
    if let Some(message) = message {
        emit.conversation_as(*conversation_id, 0, at, command.actor, posted(message, AuthorType::Visitor, thread_id));
        let rank = back_rank(state, command.tenant);
        let queued = ConversationQueued { thread_id, trigger: Trigger::FirstMessage, rank };
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
        require(state, command, Role::Agent, "write to visitors")?;
        let chat = conversation(state, command.tenant, id)?;
        if matches!(chat.status, Status::Resolved | Status::Closed) {
            return Err(over(chat));
        }
        emit.conversation(chat, posted(message, AuthorType::Agent, chat.thread().id));
        return Ok(());
    };
    let chat = own_conversation(state, command, id)?;
    let mut thread_id = chat.thread().id;
    let trigger = match chat.status {
        Status::Closed => return Err(over(chat)),
        Status::Resolved => {
            thread_id = emit.next_thread();
            emit.conversation(chat, ConversationReopened { thread_id });
            Some(Trigger::Reopened)
        }
        Status::Pending if chat.queued.is_none() => Some(Trigger::FirstMessage),
        Status::Pending | Status::Active => None,
    };
    emit.conversation(chat, posted(message, AuthorType::Visitor, thread_id));
    if let Some(trigger) = trigger {
        let rank = back_rank(state, command.tenant);
        emit.conversation(chat, ConversationQueued { thread_id, trigger, rank });
    }
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
        require(state, command, Role::Agent, "resolve, reopen or close conversations")?;
        conversation(state, command.tenant, *conversation_id)?
    };
    match (&command.kind, chat.status) {
        (K::Resolve { .. }, Status::Resolved) | (K::Close { .. }, Status::Closed) => {}
        (K::Reopen { .. }, Status::Pending | Status::Active) => {}
        (_, Status::Closed) => return Err(over(chat)),
        (K::Resolve { .. }, _) => {
            let holder = chat.agent.or(match command.actor {
                Actor::Agent(agent) => Some(agent),
                _ => None,
            });
            emit.conversation(chat, ConversationResolved { thread_id: chat.thread().id, agent_id: holder });
        }
        (K::Reopen { .. }, _) => {
            let thread_id = emit.next_thread();
            emit.conversation(chat, ConversationReopened { thread_id });
            let rank = back_rank(state, command.tenant);
            emit.conversation(chat, ConversationQueued { thread_id, trigger: Trigger::Reopened, rank });
        }
        (_, status) => {
            let reason = if matches!(command.actor, Actor::Visitor(_)) { "visitor" } else { "agent" }.to_owned();
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
    require(state, command, Role::Agent, "tag conversations")?;
    let chat = conversation(state, command.tenant, id)?;
    let add: Vec<String> = add.iter().filter(|tag| !chat.tags.contains(*tag)).cloned().collect();
    let remove: Vec<String> = remove.iter().filter(|tag| chat.tags.contains(*tag)).cloned().collect();
    if !add.is_empty() || !remove.is_empty() {
        emit.conversation(chat, ConversationTagged { add, remove });
    }
    Ok(())
}

fn mail(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let cause = command.cause.as_ref().map(|cause| cause.event.0);
    let mail_id = |person: PersonId| {
        MailId::derived(&[b"email_notifications", cause.unwrap_or_default().as_bytes(), person.bytes()])
    };
    match &command.kind {
        K::RequestWelcome { conversation_id, readable_id } => {
            let chat = conversation(state, command.tenant, *conversation_id)?;
            let wanted = state.visitors.get(&chat.visitor).filter(|who| who.email.is_some() && !who.welcomed);
            if let Some(visitor) = wanted {
                let person_id = visitor.id.into();
                emit.tenant(MailRequested {
                    mail_id: mail_id(person_id),
                    kind: MailKind::Welcome,
                    person_id,
                    about: chat.id,
                    readable_id: readable_id.clone(),
                });
            }
        }
        K::RequestAgentMails { conversation_id, readable_id } => {
            let chat = conversation(state, command.tenant, *conversation_id)?;
            let roster = state.rosters.get(&command.tenant);
            let agents = roster.into_iter().flat_map(|roster| &roster.agents).filter_map(|id| state.agents.get(id));
            for agent in agents
                .filter(|agent| agent.status == AgentStatus::Offline && agent.email.is_some() && agent.role.may_reply())
            {
                let person_id = agent.id.into();
                emit.tenant(MailRequested {
                    mail_id: mail_id(person_id),
                    kind: MailKind::NewConversation,
                    person_id,
                    about: chat.id,
                    readable_id: readable_id.clone(),
                });
            }
        }
        K::RecordMail { mail_id, attempts, outcome } => {
            let found = state.mails.get(mail_id).filter(|mail| mail.tenant == command.tenant);
            if found.ok_or_else(|| Rejection::not_found("mail"))?.status != MailStatus::Pending {
                return Ok(());
            }
            match outcome {
                MailOutcome::Sent => emit.tenant(MailSent { mail_id: *mail_id, attempts: *attempts }),
                MailOutcome::Failed(reason) => {
                    emit.tenant(MailFailed { mail_id: *mail_id, attempts: *attempts, reason: reason.clone() });
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// A transcript becomes the events it would have been, at its own times. One that is there already is skipped.
fn import_conversation(state: &State, command: &Command, import: &ImportedConversation, emit: &mut Emit<'_>) {
    let id = import.conversation_id;
    let (Some(first), Some(last)) = (import.messages.first(), import.messages.last()) else { return };
    let exported = import.external_id.parse().ok().and_then(|id| state.conversation(command.tenant, id));
    if state.conversations.contains_key(&id) || exported.is_some() {
        return;
    }
    if !state.visitors.contains_key(&import.visitor.visitor_id) {
        emit.visitor(&import.visitor, first.at);
    }
    if let Some(agent) = &import.agent
        && !state.agents.contains_key(&agent.agent_id)
    {
        let taken = |hmac: &String| state.taken.contains(&email_word(command.tenant, hmac));
        let mut agent = agent.clone();
        if agent.email_hmac.as_ref().is_some_and(taken) {
            // An address signs in one agent; the imported one keeps its words, not the sign-in.
            agent.email_hmac = None;
            agent.email = None;
        }
        emit.agent(&agent, first.at);
    }
    let visitor = Actor::Visitor(import.visitor.visitor_id);
    let agent_id = import.agent.as_ref().map(|agent| agent.agent_id);
    let agent = agent_id.map_or(Actor::System, Actor::Agent);
    let thread_id = emit.next_thread();
    let started = ConversationStarted {
        visitor_id: import.visitor.visitor_id,
        visitor_has_email: import.visitor.email.is_some(),
        chatbot_id: None,
        group_id: None,
        thread_id,
        tags: import.tags.clone(),
        external_id: Some(import.external_id.clone()),
    };
    emit.conversation_as(id, 0, first.at, visitor, started);
    for message in &import.messages {
        let actor = match message.from {
            AuthorType::Visitor => visitor,
            AuthorType::Agent => agent,
            AuthorType::Bot => Actor::System,
        };
        let message_posted = MessagePosted {
            thread_id,
            author_type: message.from,
            content: message.content.clone(),
            content_chars: message.content_chars,
            client_id: None,
            metadata: None,
        };
        emit.conversation_as(id, 0, message.at, actor, message_posted);
    }
    if import.resolved {
        emit.conversation_as(id, 0, last.at, agent, ConversationResolved { thread_id, agent_id });
    } else {
        let closed = ConversationClosed { reason: "imported_unresolved".to_owned(), agent_id };
        emit.conversation_as(id, 0, last.at, command.actor, closed);
    }
    if let Some(score) = import.rating {
        let rated = ConversationRated { thread_id, score, agent_id, comment: None };
        emit.conversation_as(id, 0, last.at, visitor, rated);
    }
}
