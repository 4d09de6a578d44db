//! The outbox over the state: pending mails are rows, addresses are opened when they are needed, outcomes are commands.

use async_trait::async_trait;
use chat_api::auth::challenges;
use chat_api::core::command::{Command, CommandKind, MailOutcome};
use chat_api::domain::ChatDomain;
use chat_api::store::read;
use chat_api::view::Views;
use ingest::event::Actor;
use ingest::id::{AgentId, EventId, InvitationId, MailId, PersonId, TenantId, VisitorId};
use ingest::payload::MailKind;
use ingest::seal::KeyFile;
use ingest::sqlite::ReadPool;
use ingest::writer::Writer;
use sinks::smtp::{MailSource, Outcome, PendingMail, Recipient, SourceError};
use std::sync::Arc;

/// Mails looked at in one go.
const PENDING_MAX: usize = 1_000;

/// The outbox of an installation.
pub struct StateOutbox {
    /// Takes the outcomes.
    pub writer: Writer<ChatDomain>,
    /// Has the pending mails.
    pub pool: ReadPool,
    /// Opens addresses.
    pub views: Arc<Views>,
    /// Makes codes and links.
    pub key_file: Arc<KeyFile>,
}

#[async_trait]
impl MailSource for StateOutbox {
    async fn pending(&self) -> Result<Vec<PendingMail>, SourceError> {
        let mails = self.pool.read(|connection| read::pending_mails(connection, PENDING_MAX))?;
        let pending = mails.into_iter().map(|mail| PendingMail {
            mail_id: mail.id,
            tenant: mail.tenant,
            kind: mail.kind,
            person_id: mail.person,
            about: mail.about,
            readable_id: mail.readable_id,
            requested_at: mail.requested_at,
        });
        Ok(pending.collect())
    }

    async fn address_of(&self, tenant: TenantId, person: PersonId) -> Result<Option<Recipient>, SourceError> {
        let (visitor, agent, invited) = self.pool.read(|connection| {
            let visitor = read::visitor(connection, tenant, VisitorId(person.0))?;
            let agent = read::agent(connection, tenant, AgentId(person.0))?;
            let invited = read::invitation(connection, InvitationId(person.0))?;
            Ok((visitor, agent, invited.filter(|invited| invited.tenant == tenant)))
        })?;
        let (name, email) = match (visitor, agent, invited) {
            (Some(visitor), _, _) => (visitor.name, visitor.email),
            (None, Some(agent), _) => (Some(agent.name), agent.email),
            (None, None, Some(invited)) => (None, Some(invited.email)),
            (None, None, None) => return Ok(None),
        };
        let Some(email) = self.views.shown(email.as_ref())? else { return Ok(None) };
        Ok(Some(Recipient { name: self.views.shown(name.as_ref())?, email }))
    }

    async fn secret(&self, mail_id: MailId) -> Result<Option<String>, SourceError> {
        let mail = self.pool.read(|connection| read::mail(connection, mail_id))?.ok_or("the mail is unknown")?;
        Ok(match (mail.kind, mail.challenge, mail.invitation) {
            (MailKind::Otp, Some(id), _) => Some(challenges::code(&self.key_file, id)),
            (MailKind::PasswordReset, Some(id), _) => Some(challenges::reset_token(&self.key_file, id)),
            (MailKind::Invitation, _, Some(id)) => Some(challenges::invitation_token(&self.key_file, id)),
            _ => None,
        })
    }

    async fn tenant_name(&self, tenant: TenantId) -> Result<String, SourceError> {
        let tenant = self.pool.read(|connection| read::tenant(connection, tenant))?;
        Ok(tenant.ok_or("the mail's tenant is unknown")?.name)
    }

    async fn record(&self, mail_id: MailId, outcome: Outcome) -> Result<(), SourceError> {
        let mail = self.pool.read(|connection| read::mail(connection, mail_id))?.ok_or("the mail is unknown")?;
        let (attempts, outcome) = match outcome {
            Outcome::Sent { attempts } => (attempts, MailOutcome::Sent),
            Outcome::Failed { attempts, reason } => (attempts, MailOutcome::Failed(reason.as_str().to_owned())),
        };
        let command = Command {
            tenant: mail.tenant,
            actor: Actor::System,
            // A mail has one outcome, so its event's id follows from it.
            first_event: EventId::derived(&[b"mail_outcome", mail_id.bytes()]),
            request: None,
            cause: None,
            kind: CommandKind::RecordMail { mail_id, attempts, outcome },
        };
        match self.writer.submit(command.into()).await? {
            Ok(_) => Ok(()),
            Err(rejection) => Err(rejection.detail.into()),
        }
    }
}
