//! Records of the log to fact rows: each conversation's fold, from the cache or again from its own events.

use super::error::FactError;
use super::facts::FactRow;
use super::life::{NotificationRow, PresenceRow};
use super::metrics::ConversationMetrics;
use ingest::event::Event;
use ingest::id::{ConversationId, TenantId};
use ingest::payload::{AgentStatus, Payload};
use lru::LruCache;
use std::collections::HashMap;

/// Some of a conversation's own events, in order: those whose `seq` comes next after the given one, none at the end. What a fold
/// is made again from, a page at a time: a conversation may be larger than memory.
pub type History<'a> = &'a dyn Fn(ConversationId, u64) -> Result<Vec<Event>, HistoryError>;

/// Why a history can't be read; passed on as the source of [`FactError::History`].
pub type HistoryError = Box<dyn std::error::Error + Send + Sync>;

/// One call of `apply`: what its records make, kept apart until all of them are folded.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<(TenantId, FactRow)>,
    /// Folds of the conversations in it; dropped on an error, and then folded again from history.
    pub(crate) folds: HashMap<ConversationId, ConversationMetrics>,
    pub(crate) order: Vec<ConversationId>,
    made: Vec<FactRow>,
}

impl Batch {
    /// Folds the next event.
    pub(crate) fn fold(
        &mut self,
        event: &Event,
        cache: &mut LruCache<ConversationId, ConversationMetrics>,
        history: History<'_>,
    ) -> Result<(), FactError> {
        let Some(id) = event.conversation.filter(|_| event.seq > 0) else {
            // Outside of a conversation's seq: an event that is its own row, or none.
            self.rows.extend(outside(event).map(|row| (event.tenant, row)));
            return Ok(());
        };
        let mut fold = match self.folds.remove(&id) {
            Some(fold) => fold,
            None => {
                self.order.push(id);
                cache.pop(&id).unwrap_or_else(|| ConversationMetrics::new(event.tenant, id))
            }
        };
        if fold.seq() + 1 < event.seq {
            catch_up(&mut fold, id, event.seq - 1, history)?;
        }
        fold.apply(event, &mut self.made);
        self.rows.extend(self.made.drain(..).map(|row| (event.tenant, row)));
        self.folds.insert(id, fold);
        Ok(())
    }
}

/// The row of a tenant's event, if it makes one: what happens to mails and agents needs no memory.
fn outside(event: &Event) -> Option<FactRow> {
    let presence = |agent_id, status: AgentStatus, accepting_chats| {
        Some(FactRow::Presence(PresenceRow {
            event_id: event.id,
            agent_id,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            status: status.as_str(),
            accepting_chats,
        }))
    };
    let mail = |notification_id, outcome, reason: Option<&String>, attempts: Option<u32>| NotificationRow {
        event_id: event.id,
        notification_id,
        occurred_at: event.occurred_at,
        recorded_at: event.recorded_at,
        outcome,
        reason: reason.cloned(),
        attempts: attempts.map(i64::from),
        kind: None,
        person_id: None,
        conversation_id: None,
    };
    match &event.payload {
        Payload::AgentStatusChanged(data) => presence(data.agent_id, data.status, data.accepting_chats),
        // Who is removed is not there, and nobody is there yet who comes back.
        Payload::AgentDeleted(data) => presence(data.agent_id, AgentStatus::Offline, false),
        Payload::AgentRestored(data) => presence(data.agent_id, AgentStatus::Offline, false),
        Payload::MailRequested(data) => Some(FactRow::Notification(NotificationRow {
            kind: Some(data.kind.as_str()),
            person_id: Some(data.person_id),
            conversation_id: data.about,
            ..mail(data.mail_id, "requested", None, None)
        })),
        Payload::MailSent(data) => Some(FactRow::Notification(mail(data.mail_id, "sent", None, Some(data.attempts)))),
        Payload::MailFailed(data) => {
            let outcome = match data.reason.as_str() {
                // Nothing was sent on purpose: the person has no address, or was forgotten, or there were too many.
                "no_address" | "address_limit" | "tenant_limit" => "suppressed",
                "refused" => "bounced",
                _ => "failed",
            };
            Some(FactRow::Notification(mail(data.mail_id, outcome, Some(&data.reason), Some(data.attempts))))
        }
        _ => None,
    }
}

/// Folds a conversation's own events up to `seq`; their rows are in the facts already.
fn catch_up(
    fold: &mut ConversationMetrics,
    conversation: ConversationId,
    seq: u64,
    history: History<'_>,
) -> Result<(), FactError> {
    let mut rows = Vec::new();
    while fold.seq() < seq {
        let read = history(conversation, fold.seq());
        let events = read.map_err(|source| FactError::History { conversation, source })?;
        if events.is_empty() {
            return Err(FactError::SeqGap { conversation, expected: fold.seq() + 1, found: seq + 1 });
        }
        for event in events.iter().filter(|event| event.seq <= seq) {
            if event.seq != fold.seq() + 1 {
                return Err(FactError::SeqGap { conversation, expected: fold.seq() + 1, found: event.seq });
            }
            fold.apply(event, &mut rows);
        }
        rows.clear();
    }
    Ok(())
}
