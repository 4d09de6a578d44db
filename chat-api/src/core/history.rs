//! The events of a conversation as another system, or another Parlance, recorded them; those that were added since.
//!
//! What they were checked against is read before ([`import`](crate::import)): here it's only asked whether that still holds.
//! Whatever they say, nothing of it happens here: no agent's slot, no queue, no timer. A conversation that hadn't ended is
//! closed, and stands as before when more of it comes.

use super::command::{Command, CommandKind as K, ImportedEvent, ImportedHistory};
use super::decide::{Emit, Rejection, require};
use super::import::{import_agent, require_importable};
use super::state::{Conversation, State, Status};
use super::visibility::visible;
use ingest::id::{AgentId, ConversationId, VisitorId};
use ingest::payload::{
    ConversationClosed, GroupCreated, IMPORTED_UNRESOLVED, Payload, Permission, RoutingStrategy, VisitorMerged,
};
use ingest::time::Timestamp;

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    let K::ImportHistory(import) = &command.kind else { return Ok(false) };
    import_history(state, command, import, emit)?;
    Ok(true)
}

/// The closed conversation that a first event says it goes on from.
pub(super) fn continues(first: &ImportedEvent) -> Option<ConversationId> {
    match &first.payload {
        Payload::ConversationStarted(made) => made.continues,
        _ => None,
    }
}

fn import_history(
    state: &State,
    command: &Command,
    import: &ImportedHistory,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    let Some(first) = import.events.first() else { return Ok(()) };
    let chat = state.conversation(command.tenant, import.conversation_id);
    let exported = import.external_id.parse().ok().and_then(|id| state.conversation(command.tenant, id));
    if exported.is_some() || chat.is_some() && import.after_seq == 0 {
        return Ok(());
    }
    if import.after_seq != chat.map_or(0, |chat| chat.last_seq) {
        let detail = "the conversation changed while it was compared; import the line again";
        return Err(Rejection::new(409, "changed_meanwhile", detail));
    }
    if chat.is_some_and(|chat| !visible(state, command).covers_chat(chat)) {
        return Err(Rejection::not_found("conversation"));
    }
    let merged = import_visitors(state, command, import, chat, emit)?;
    import_groups(state, command, import, first.at, emit)?;
    for agent in &import.agents {
        import_agent(state, command, agent, first.at, emit);
    }
    let mut standing = Standing::of(chat);
    let mut last_at = first.at;
    for event in &import.events {
        standing.change(&event.payload);
        last_at = event.at;
        let payload = match &event.payload {
            Payload::ConversationStarted(made) => {
                let mut made = made.clone();
                made.continues = made.continues.filter(|closed| goes_on_from(state, command, import, *closed));
                made.into()
            }
            other => other.clone(),
        };
        emit.conversation_as(import.conversation_id, import.after_seq, event.at, event.actor, payload);
    }
    if standing.is_open {
        let closed = ConversationClosed { reason: IMPORTED_UNRESOLVED.to_owned(), agent_id: standing.agent };
        emit.conversation_as(import.conversation_id, import.after_seq, last_at, command.actor, closed);
    }
    merged.into_iter().for_each(|merged| emit.tenant(merged));
    Ok(())
}

/// Whether the closed conversation that the first event names is one of the same person.
fn goes_on_from(state: &State, command: &Command, import: &ImportedHistory, closed: ConversationId) -> bool {
    let known = |visitor: VisitorId| {
        visitor == import.visitor.visitor_id || import.merged.iter().any(|merged| merged.visitor_id == visitor)
    };
    let chat = state.conversation(command.tenant, closed);
    chat.is_some_and(|chat| chat.status == Status::Closed && chat.continued_in.is_none() && known(chat.visitor))
}

/// Makes the visitors who aren't there, and says who turned out to be whom.
fn import_visitors(
    state: &State,
    command: &Command,
    import: &ImportedHistory,
    chat: Option<&Conversation>,
    emit: &mut Emit<'_>,
) -> Result<Vec<VisitorMerged>, Rejection> {
    let Some(first) = import.events.first() else { return Ok(Vec::new()) };
    let target = import.visitor.visitor_id;
    for visitor in std::iter::once(&import.visitor).chain(&import.merged) {
        require_importable(state, command, visitor.visitor_id)?;
        if !state.visitors.contains_key(&visitor.visitor_id) {
            emit.visitor(visitor, first.at);
        }
    }
    let starter = match &first.payload {
        Payload::ConversationStarted(made) => Some(made.visitor_id),
        _ => chat.map(|chat| chat.visitor),
    };
    // Nobody becomes part of who is part of another: they could be part of each other.
    let is_part = state.visitors.get(&target).is_some_and(|found| found.merged_into.is_some());
    let mut merges = Vec::new();
    for source in import.merged.iter().map(|visitor| visitor.visitor_id) {
        let found = state.visitors.get(&source);
        let other = found.is_some_and(|found| {
            found.merged_into.is_some_and(|owner| owner != target)
                || found.is_identified() && found.merged_into.is_none()
        });
        if other || is_part {
            let detail = "one of the line's visitors is somebody else here";
            return Err(Rejection::new(409, "visitor_differs", detail));
        }
        let mut conversations: Vec<ConversationId> =
            state.conversations_of(command.tenant, source).iter().map(|chat| chat.id).collect();
        if starter == Some(source) && !conversations.contains(&import.conversation_id) {
            conversations.push(import.conversation_id);
        }
        let is_merged = found.is_some_and(|found| found.merged_into.is_some());
        if !is_merged || !conversations.is_empty() {
            merges.push(VisitorMerged { source_visitor_id: source, target_visitor_id: target, conversations });
        }
    }
    Ok(merges)
}

fn import_groups(
    state: &State,
    command: &Command,
    import: &ImportedHistory,
    at: Timestamp,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    for group in &import.groups {
        if state.group(command.tenant, group.group_id).is_some() {
            continue;
        }
        require(state, command, Permission::GroupsWrite, "make the groups that the line names")?;
        let mut living = state.groups_of_tenant(command.tenant).into_iter().filter(|other| other.deleted_at.is_none());
        if living.any(|other| other.name.to_lowercase() == group.name.to_lowercase()) {
            let detail = "a group of this name was made meanwhile; import the line again";
            return Err(Rejection::new(409, "changed_meanwhile", detail));
        }
        let made = GroupCreated {
            group_id: group.group_id,
            name: group.name.clone(),
            description: String::new(),
            routing_strategy: RoutingStrategy::LeastLoaded,
            is_default: false,
        };
        emit.tenant_at(at, made);
    }
    Ok(())
}

/// Whether a conversation still goes on, and who has it.
struct Standing {
    is_open: bool,
    agent: Option<AgentId>,
}

impl Standing {
    /// Before the events that are added.
    fn of(chat: Option<&Conversation>) -> Self {
        let Some(chat) = chat else { return Self { is_open: true, agent: None } };
        match &chat.unresolved {
            Some(before) => Self { is_open: true, agent: before.agent.filter(|_| before.status == Status::Active) },
            None => Self { is_open: !matches!(chat.status, Status::Resolved | Status::Closed), agent: None },
        }
    }

    fn change(&mut self, payload: &Payload) {
        match payload {
            Payload::AgentAssigned(assigned) => (self.is_open, self.agent) = (true, Some(assigned.agent_id)),
            Payload::ConversationQueued(_) | Payload::AgentUnassigned(_) | Payload::ConversationReopened(_) => {
                (self.is_open, self.agent) = (true, None);
            }
            Payload::ConversationResolved(_) | Payload::ConversationClosed(_) => {
                (self.is_open, self.agent) = (false, None);
            }
            // What else belongs to a conversation neither ends it nor gives it to anybody.
            _ => {}
        }
    }
}
