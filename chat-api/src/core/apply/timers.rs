//! What happens to a conversation by itself, and when: follows from its state after each of its events.

use crate::core::settings;
use crate::core::state::{Conversation, State, Status, Tenant, Timers};
use ingest::event::{Event, Origin};
use ingest::id::ConversationId;
use ingest::payload::Payload;

/// Imported events start no timers.
pub(super) fn sync(state: &mut State, event: &Event, id: ConversationId) {
    if event.origin == Origin::Import {
        return;
    }
    let Some(tenant) = state.tenants.get(&event.tenant) else { return };
    if let Some(conversation) = state.conversations.get_mut(&id) {
        conversation.timers = timers(conversation, event, tenant);
    }
}

fn timers(chat: &Conversation, event: &Event, tenant: &Tenant) -> Timers {
    let busy = chat.slot_of().is_some() && chat.snoozed_until.is_none() && chat.thread().closed.is_none();
    let auto_close = match &event.payload {
        Payload::ConversationResolved(_) => Some(event.occurred_at.plus_ms(settings::auto_close_ms(tenant))),
        _ => chat.timers.auto_close,
    };
    Timers {
        snooze: chat.snoozed_until.filter(|_| matches!(chat.status, Status::Pending | Status::Active)),
        idle: busy.then(|| chat.active_at.plus_ms(settings::idle_ms(tenant))),
        auto_close: auto_close.filter(|_| chat.status == Status::Resolved),
    }
}
