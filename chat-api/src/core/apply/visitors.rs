//! People who write through a widget.

use crate::core::state::{Key, State, Visitor};
use ingest::event::Event;
use ingest::id::VisitorId;
use ingest::payload::{Payload, VisitorCreated, VisitorMerged, VisitorUpdated};
use ingest::seal::Sealed;

pub(super) fn apply(state: &mut State, event: &Event) {
    match &event.payload {
        Payload::VisitorCreated(made) => create(state, event, made),
        Payload::VisitorUpdated(change) => change_visitor(state, change.visitor_id, |found| update(found, change)),
        Payload::VisitorTracked(tracked) if tracked.page.is_some() => {
            change_visitor(state, tracked.visitor_id, |found| found.page.clone_from(&tracked.page));
        }
        Payload::VisitorBlocked(change) => {
            change_visitor(state, change.visitor_id, |found| found.blocked_at = Some(event.occurred_at));
        }
        Payload::VisitorUnblocked(change) => change_visitor(state, change.visitor_id, |found| found.blocked_at = None),
        Payload::VisitorMerged(merged) => merge(state, merged),
        Payload::VisitorErased(erased) => {
            for id in std::iter::once(&erased.visitor_id).chain(&erased.merged) {
                change_visitor(state, *id, |found| erase(found, event));
            }
        }
        _ => {}
    }
}

fn change_visitor(state: &mut State, id: VisitorId, change: impl FnOnce(&mut Visitor)) {
    if let Some(found) = state.visitors.get_mut(&id) {
        change(found);
        state.dirty.insert(Key::Visitor(id));
    }
}

fn create(state: &mut State, event: &Event, made: &VisitorCreated) {
    let visitor = Visitor {
        id: made.visitor_id,
        tenant: event.tenant,
        readable_id: made.readable_id.clone(),
        name: made.name.clone(),
        email: made.email.clone(),
        phone: made.phone.clone(),
        metadata: made.metadata.clone(),
        page: None,
        external_id: made.external_id.clone(),
        external_ref: made.external_ref.clone(),
        user_id: made.user_id.clone(),
        merged_into: None,
        welcomed: false,
        last_agent: None,
        blocked_at: None,
        erased_at: None,
        created_at: event.occurred_at,
    };
    state.visitors.insert(made.visitor_id, visitor);
    state.dirty.insert(Key::Visitor(made.visitor_id));
}

fn update(visitor: &mut Visitor, change: &VisitorUpdated) {
    for (field, change) in [
        (&mut visitor.name, &change.name),
        (&mut visitor.email, &change.email),
        (&mut visitor.phone, &change.phone),
        (&mut visitor.metadata, &change.metadata),
    ] {
        if change.is_some() {
            field.clone_from(change);
        }
    }
}

/// The target takes the conversations, and what it doesn't know of itself. Texts stay under the source's key.
fn merge(state: &mut State, merged: &VisitorMerged) {
    for id in &merged.conversations {
        if let Some(chat) = state.conversations.get_mut(id) {
            chat.visitor = merged.target_visitor_id;
            state.dirty.insert(Key::Conversation(*id));
        }
    }
    let source = state.visitors.get(&merged.source_visitor_id).cloned();
    change_visitor(state, merged.source_visitor_id, |found| found.merged_into = Some(merged.target_visitor_id));
    let Some(source) = source else { return };
    let fill = |field: &mut Option<Sealed>, from: Option<Sealed>| {
        if field.is_none() {
            *field = from;
        }
    };
    change_visitor(state, merged.target_visitor_id, |target| {
        fill(&mut target.name, source.name);
        fill(&mut target.email, source.email);
        fill(&mut target.phone, source.phone);
        fill(&mut target.metadata, source.metadata);
        fill(&mut target.page, source.page);
        target.welcomed |= source.welcomed;
    });
}

/// The row stays, for the counts; what it said about the person goes.
fn erase(visitor: &mut Visitor, event: &Event) {
    visitor.name = None;
    visitor.email = None;
    visitor.phone = None;
    visitor.metadata = None;
    visitor.page = None;
    visitor.external_id = None;
    visitor.external_ref = None;
    visitor.user_id = None;
    visitor.erased_at = Some(event.occurred_at);
}
