//! Transcripts of another system as events at their own times.

use super::command::{Command, CommandKind as K, ImportedConversation, NewAgent};
use super::decide::{Emit, Rejection, may};
use super::grants::{self, Grant};
use super::reads::email_word;
use super::state::State;
use super::visibility;
use ingest::event::Actor;
use ingest::id::VisitorId;
use ingest::payload::{
    AuthorType, ConversationClosed, ConversationRated, ConversationResolved, ConversationStarted, IMPORTED_UNRESOLVED,
    MessagePosted, Permission,
};
use ingest::time::Timestamp;

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    let K::Import(import) = &command.kind else { return Ok(false) };
    import_conversation(state, command, import, emit)?;
    Ok(true)
}

/// A transcript becomes the events it would have been, at its own times. One that is there already is skipped; what was added to it
/// since comes as events ([`history`](super::history)).
fn import_conversation(
    state: &State,
    command: &Command,
    import: &ImportedConversation,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    let id = import.conversation_id;
    let (Some(first), Some(last)) = (import.messages.first(), import.messages.last()) else { return Ok(()) };
    let exported = import.external_id.parse().ok().and_then(|id| state.conversation(command.tenant, id));
    if state.conversations.contains_key(&id) || exported.is_some() {
        return Ok(());
    }
    require_importable(state, command, import.visitor.visitor_id)?;
    if !state.visitors.contains_key(&import.visitor.visitor_id) {
        emit.visitor(&import.visitor, first.at);
    }
    if let Some(agent) = &import.agent {
        import_agent(state, command, agent, first.at, emit);
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
        skills: Vec::new(),
        continues: None,
        exact: false,
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
            file_id: None,
        };
        emit.conversation_as(id, 0, message.at, actor, message_posted);
    }
    if import.resolved {
        emit.conversation_as(id, 0, last.at, agent, ConversationResolved { thread_id, agent_id, reason: None });
    } else {
        let closed = ConversationClosed { reason: IMPORTED_UNRESOLVED.to_owned(), agent_id };
        emit.conversation_as(id, 0, last.at, command.actor, closed);
    }
    if let Some(score) = import.rating {
        let rated = ConversationRated { thread_id, score, agent_id, comment: None, comment_mark: None };
        emit.conversation_as(id, 0, last.at, visitor, rated);
    }
    Ok(())
}

/// Adds an agent who isn't there. Who has an address can set a password, and an address signs in one agent: the words of one
/// whom the one who asks may not add, or whose address is taken, are kept without the sign-in.
pub(super) fn import_agent(state: &State, command: &Command, agent: &NewAgent, at: Timestamp, emit: &mut Emit<'_>) {
    if state.agents.contains_key(&agent.agent_id) {
        return;
    }
    let taken = |hmac: &String| state.taken.contains(&email_word(command.tenant, hmac));
    let mut agent = agent.clone();
    let may_add = may(state, command, Permission::AgentsWrite)
        && grants::require(state, command, Grant::Permissions(agent.role.permissions())).is_ok();
    if !may_add || agent.email_hmac.as_ref().is_some_and(taken) {
        agent.email_hmac = None;
        agent.email = None;
    }
    emit.agent(&agent, at);
}

/// Why an import writes nothing for this visitor, if they are there and it doesn't: an import can't tell what an erased person
/// said since from what they asked to be forgotten, and it opens nobody to more agents than see them.
pub(super) fn require_importable(state: &State, command: &Command, id: VisitorId) -> Result<(), Rejection> {
    let Some(found) = state.visitors.get(&id) else { return Ok(()) };
    if found.erased_at.is_some() {
        let detail = "this visitor's data was erased; who comes back is imported under another visitor id";
        return Err(Rejection::new(410, "person_erased", detail));
    }
    visibility::require_open(state, command, id)
}
