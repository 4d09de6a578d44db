//! The outbox.

use crate::core::state::{Key, Mail, MailStatus, State};
use ingest::event::Event;
use ingest::id::VisitorId;
use ingest::payload::{MailKind, Payload};

pub(super) fn apply(state: &mut State, event: &Event) {
    let (id, status) = match &event.payload {
        Payload::MailRequested(made) => {
            let mail = Mail {
                id: made.mail_id,
                tenant: event.tenant,
                kind: made.kind,
                person: made.person_id,
                about: made.about,
                challenge: made.challenge_id,
                invitation: made.invitation_id,
                readable_id: made.readable_id.clone(),
                requested_at: event.occurred_at,
                status: MailStatus::Pending,
            };
            if made.kind == MailKind::Welcome {
                let visitor = VisitorId(made.person_id.0);
                if let Some(found) = state.visitors.get_mut(&visitor) {
                    found.welcomed = true;
                    state.dirty.insert(Key::Visitor(visitor));
                }
            }
            state.mails.insert(made.mail_id, mail);
            (made.mail_id, MailStatus::Pending)
        }
        Payload::MailSent(done) => (done.mail_id, MailStatus::Sent),
        Payload::MailFailed(done) => (done.mail_id, MailStatus::Failed),
        _ => return,
    };
    if let Some(mail) = state.mails.get_mut(&id) {
        mail.status = status;
        state.dirty.insert(Key::Mail(id));
    }
}
