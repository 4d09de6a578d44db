//! The people who write through a widget: who they are, what they may, and how they are forgotten.
//!
//! What an agent may do to a conversation holds when it's done through its visitor: a visitor whom they don't see isn't
//! there, and a block or an erasure takes the right to close every conversation that it closes.

use super::actions::held_by_other;
use super::command::{Command, CommandKind as K, NewVisitor};
use super::decide::{Emit, Rejection, conversation, may, require};
use super::state::{Conversation, State, Status, Visitor};
use super::visibility::{self, require_visitor};
use ingest::event::Actor;
use ingest::id::{TenantId, VisitorId};
use ingest::payload::{
    ConversationClosed, ConversationResolved, Permission, VisitorBlocked, VisitorErased, VisitorMerged, VisitorTracked,
    VisitorUnblocked, VisitorUpdated,
};

/// Why the thread of a visitor who didn't come back closed.
const STANDBY_EXPIRED: &str = "standby_expired";

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::IdentifyVisitor { source, target } => identify(state, command, *source, target, emit),
        K::UpdateVisitor { .. } => update(state, command, emit),
        K::TrackVisitor { .. } => track(state, command, emit),
        K::BlockVisitor { visitor_id } => block(state, command, *visitor_id, emit),
        K::UnblockVisitor { visitor_id } => unblock(state, command, *visitor_id, emit),
        K::EraseVisitor { visitor_id } => erase(state, command, *visitor_id, emit),
        K::ExpireStandby { .. } => expire_standby(state, command, emit),
        _ => return Ok(false),
    }
    .map(|()| true)
}

/// Refuses a visitor who was blocked or erased.
pub(super) fn may_write(visitor: &Visitor) -> Result<(), Rejection> {
    if visitor.erased_at.is_some() {
        return Err(Rejection::new(410, "person_erased", "this person's data was erased"));
    }
    if visitor.blocked_at.is_some() {
        return Err(Rejection::new(403, "visitor_blocked", "this visitor is blocked"));
    }
    Ok(())
}

/// The visitor that a session or an identification names, if they are known already and may write.
pub(super) fn known<'s>(
    state: &'s State,
    tenant: TenantId,
    new: &NewVisitor,
) -> Result<Option<&'s Visitor>, Rejection> {
    let known = state.visitors.get(&new.visitor_id);
    if let Some(visitor) = known {
        if visitor.tenant != tenant {
            return Err(Rejection::not_found("visitor"));
        }
        may_write(visitor)?;
    }
    Ok(known)
}

/// What a session or an identification says about a visitor: all of it for a new one, what is new for a known one.
pub(super) fn seen(known: Option<&Visitor>, new: &NewVisitor, emit: &mut Emit<'_>) {
    let Some(known) = known else { return emit.visitor(new, emit.now()) };
    if new.name.is_some() || new.email.is_some() || new.phone.is_some() || new.metadata.is_some() {
        emit.tenant(VisitorUpdated {
            visitor_id: known.id,
            name: new.name.clone(),
            email: new.email.clone(),
            phone: new.phone.clone(),
            metadata: new.metadata.clone(),
        });
    }
}

fn visitor(state: &State, tenant: TenantId, id: VisitorId) -> Result<&Visitor, Rejection> {
    state.visitor(tenant, id).ok_or_else(|| Rejection::not_found("visitor"))
}

/// Anonymous history becomes the identified visitor's. Someone identified can't become someone else.
fn identify(
    state: &State,
    command: &Command,
    source: VisitorId,
    target: &NewVisitor,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    let source = visitor(state, command.tenant, source)?;
    if command.actor != Actor::Visitor(source.id) {
        return Err(Rejection::not_found("visitor"));
    }
    may_write(source)?;
    let known = known(state, command.tenant, target)?;
    if source.id == target.visitor_id || source.merged_into == Some(target.visitor_id) {
        seen(known, target, emit);
        return Ok(());
    }
    if source.is_identified() || source.merged_into.is_some() {
        let detail = "this session belongs to another userId; start a new session";
        return Err(Rejection::new(409, "identified_as_other", detail).at("userId"));
    }
    seen(known, target, emit);
    let conversations = state.conversations_of(command.tenant, source.id).iter().map(|chat| chat.id).collect();
    emit.tenant(VisitorMerged { source_visitor_id: source.id, target_visitor_id: target.visitor_id, conversations });
    Ok(())
}

fn update(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let K::UpdateVisitor { visitor_id, name, email, phone, metadata, .. } = &command.kind else { return Ok(()) };
    may_change(state, command, "change visitors")?;
    let found = require_visitor(state, command, *visitor_id)?;
    if found.erased_at.is_some() {
        return may_write(found);
    }
    if name.is_some() || email.is_some() || phone.is_some() || metadata.is_some() {
        emit.tenant(VisitorUpdated {
            visitor_id: *visitor_id,
            name: name.clone(),
            email: email.clone(),
            phone: phone.clone(),
            metadata: metadata.clone(),
        });
    }
    Ok(())
}

fn track(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let K::TrackVisitor { visitor_id, name, page, properties } = &command.kind else { return Ok(()) };
    if command.actor != Actor::Visitor(*visitor_id) {
        return Err(Rejection::not_found("visitor"));
    }
    may_write(visitor(state, command.tenant, *visitor_id)?)?;
    emit.tenant(VisitorTracked {
        visitor_id: *visitor_id,
        name: name.clone(),
        page: page.clone(),
        properties: properties.clone(),
    });
    Ok(())
}

/// A visitor stands in their conversations: to change one takes what it takes to change the other.
fn may_change(state: &State, command: &Command, what: &str) -> Result<(), Rejection> {
    require(state, command, Permission::VisitorsWrite, what)?;
    require(state, command, Permission::ConversationsReply, what)
}

/// The visitor's open conversations, if the one who asks may close each of them.
fn closable<'s>(
    state: &'s State,
    command: &Command,
    id: VisitorId,
    what: &str,
) -> Result<Vec<&'s Conversation>, Rejection> {
    let mut open = state.conversations_of(command.tenant, id);
    open.retain(|chat| chat.is_open());
    let may_reply = open.is_empty() || may(state, command, Permission::ConversationsReply);
    let others = open.iter().any(|chat| held_by_other(state, command, chat).is_some());
    if !may_reply || others || !visibility::covers_all(state, command, &open) {
        return Err(Rejection::forbidden(&format!("{what} who have open conversations that you may not close")));
    }
    Ok(open)
}

/// Nobody waits for, or holds a slot for, someone who can't write.
fn close_all(open: Vec<&Conversation>, reason: &str, emit: &mut Emit<'_>) {
    for chat in open {
        let agent_id = chat.agent.filter(|_| chat.status == Status::Active);
        emit.conversation(chat, ConversationClosed { reason: reason.to_owned(), agent_id });
    }
}

fn block(state: &State, command: &Command, id: VisitorId, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    may_change(state, command, "block visitors")?;
    let found = require_visitor(state, command, id)?;
    if found.blocked_at.is_none() {
        let open = closable(state, command, id, "block visitors")?;
        emit.tenant(VisitorBlocked { visitor_id: id });
        close_all(open, "visitor_blocked", emit);
    }
    Ok(())
}

fn unblock(state: &State, command: &Command, id: VisitorId, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    may_change(state, command, "unblock visitors")?;
    if require_visitor(state, command, id)?.blocked_at.is_some() {
        emit.tenant(VisitorUnblocked { visitor_id: id });
    }
    Ok(())
}

/// Erases a person: the one it's asked for, and everyone who was merged into them. One who was merged is part of
/// another person, who has the conversations now, so that one is erased. Of one who is erased already nothing more can
/// happen in the log; that whatever key is there goes all the same is [`persons::erase`](crate::store::persons::erase)'s.
fn erase(state: &State, command: &Command, id: VisitorId, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    require(state, command, Permission::VisitorsErase, "erase visitors")?;
    let found = require_visitor(state, command, id)?;
    if !visibility::covers_all(state, command, &state.conversations_of(command.tenant, id)) {
        return Err(Rejection::forbidden("erase visitors who have conversations that you may not see"));
    }
    let open = closable(state, command, id, "erase visitors")?;
    if found.erased_at.is_some() {
        close_all(open, "visitor_erased", emit);
        return Ok(());
    }
    if found.merged_into.is_some() {
        let detail = "this visitor was merged into another; erase that one";
        return Err(Rejection::new(409, "visitor_merged", detail));
    }
    emit.tenant(VisitorErased { visitor_id: id, merged: state.merged_into(command.tenant, id) });
    close_all(open, "visitor_erased", emit);
    Ok(())
}

/// The slot is free, and nobody gets the credit of a resolve.
fn expire_standby(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let K::ExpireStandby { conversation_id, last_seq } = &command.kind else { return Ok(()) };
    let chat: &Conversation = conversation(state, command.tenant, *conversation_id)?;
    // Whatever happened since it was looked at: the next look decides again.
    if chat.is_open() && chat.last_seq == *last_seq {
        let (thread_id, reason) = (chat.thread().id, Some(STANDBY_EXPIRED.to_owned()));
        emit.conversation(chat, ConversationResolved { thread_id, agent_id: chat.agent, reason });
    }
    Ok(())
}
