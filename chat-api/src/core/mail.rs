//! Which mails are due, each once, and what became of them.

use super::command::{Command, CommandKind as K, MailOutcome};
use super::decide::{Emit, Rejection, conversation};
use super::state::{MailStatus, State};
use ingest::id::{MailId, PersonId};
use ingest::payload::{AgentStatus, MailFailed, MailKind, MailRequested, MailSent};

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
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
                    about: Some(chat.id),
                    readable_id: readable_id.clone(),
                    challenge_id: None,
                    invitation_id: None,
                });
            }
        }
        K::RequestAgentMails { conversation_id, readable_id } => {
            let chat = conversation(state, command.tenant, *conversation_id)?;
            let roster = state.rosters.get(&command.tenant);
            let agents = roster.into_iter().flat_map(|roster| &roster.agents).filter_map(|id| state.agents.get(id));
            let group = state.serving_group(command.tenant, chat.group);
            // Anyone can give anyone's address: only who has proven that it's theirs is told of conversations.
            for agent in agents
                .filter(|agent| agent.status == AgentStatus::Offline && agent.email.is_some() && agent.address_proven)
                .filter(|agent| state.serves(agent, group) && state.may_reply(agent))
            {
                let person_id = agent.id.into();
                emit.tenant(MailRequested {
                    mail_id: mail_id(person_id),
                    kind: MailKind::NewConversation,
                    person_id,
                    about: Some(chat.id),
                    readable_id: readable_id.clone(),
                    challenge_id: None,
                    invitation_id: None,
                });
            }
        }
        K::RecordMail { mail_id, attempts, outcome } => {
            let found = state.mails.get(mail_id).filter(|mail| mail.tenant == command.tenant);
            if found.ok_or_else(|| Rejection::not_found("mail"))?.status != MailStatus::Pending {
                return Ok(true);
            }
            match outcome {
                MailOutcome::Sent => emit.tenant(MailSent { mail_id: *mail_id, attempts: *attempts }),
                MailOutcome::Failed(reason) => {
                    emit.tenant(MailFailed { mail_id: *mail_id, attempts: *attempts, reason: reason.clone() });
                }
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}
