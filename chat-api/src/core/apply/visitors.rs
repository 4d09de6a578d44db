//! People who write through a widget.

use crate::core::state::{Key, State, Visitor};
use ingest::event::Event;
use ingest::payload::Payload;

pub(super) fn apply(state: &mut State, event: &Event) {
    match &event.payload {
        Payload::VisitorCreated(made) => {
            let visitor = Visitor {
                id: made.visitor_id,
                tenant: event.tenant,
                readable_id: made.readable_id.clone(),
                name: made.name.clone(),
                email: made.email.clone(),
                phone: made.phone.clone(),
                metadata: made.metadata.clone(),
                external_id: made.external_id.clone(),
                welcomed: false,
                created_at: event.occurred_at,
            };
            state.visitors.insert(made.visitor_id, visitor);
            state.dirty.insert(Key::Visitor(made.visitor_id));
        }
        Payload::VisitorUpdated(change) => {
            let Some(visitor) = state.visitors.get_mut(&change.visitor_id) else { return };
            for (field, change) in [
                (&mut visitor.name, &change.name),
                (&mut visitor.email, &change.email),
                (&mut visitor.phone, &change.phone),
            ] {
                if change.is_some() {
                    field.clone_from(change);
                }
            }
            state.dirty.insert(Key::Visitor(change.visitor_id));
        }
        _ => {}
    }
}
