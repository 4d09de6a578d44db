//! The outbox over the state: pending mails are rows, addresses are opened when they are needed, outcomes are commands.

use async_trait::async_trait;
use chat_api::auth::challenges;
use chat_api::core::command::{Command, CommandKind, MailOutcome};
use chat_api::domain::ChatDomain;
use chat_api::store::outbox::{self, DueMail, Tried};
use chat_api::store::read;
use chat_api::view::Views;
use ingest::event::Actor;
use ingest::id::{AgentId, EventId, InvitationId, MailId, PersonId, TenantId, VisitorId};
use ingest::payload::MailKind;
use ingest::seal::KeyFile;
use ingest::sqlite::ReadPool;
use ingest::time::Timestamp;
use ingest::writer::Writer;
use sinks::smtp::{DueMails, MailSource, Outcome, PendingMail, Recipient, SourceError, Standing, TenantCard, Tries};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// Where the next look goes on.
    pub place: Mutex<OutboxPlace>,
}

/// Looks go round among the tenants, those for urgent mails apart from those for the others.
#[derive(Debug, Default)]
pub struct OutboxPlace {
    urgent: Option<TenantId>,
    others: Option<TenantId>,
}

#[async_trait]
impl MailSource for StateOutbox {
    async fn due(&self, urgent_only: bool, now: Timestamp) -> Result<DueMails, SourceError> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let urgent = self.pool.read(|connection| outbox::due(connection, true, place.urgent, now))?;
        place.urgent = urgent.next;
        if urgent_only {
            return Ok(DueMails { mails: urgent.mails.into_iter().map(pending).collect(), more: true });
        }
        let others = self.pool.read(|connection| outbox::due(connection, false, place.others, now))?;
        place.others = others.next;
        let more = urgent.more || others.more;
        Ok(DueMails { mails: urgent.mails.into_iter().chain(others.mails).map(pending).collect(), more })
    }

    async fn put_off(&self, mail: MailId, tries: Tries, due_at: Timestamp) -> Result<(), SourceError> {
        let Tries { attempts, unknown, granted } = tries;
        let tried = Tried { attempts, unknown, granted };
        Ok(self.writer.transact(move |connection| outbox::put_off(connection, mail, tried, due_at)).await?)
    }

    async fn address_of(&self, tenant: TenantId, person: PersonId) -> Result<Option<Recipient>, SourceError> {
        let (visitor, agent, invited) = self.pool.read(|connection| {
            let visitor = read::visitor(connection, tenant, VisitorId(person.0))?;
            let agent = read::agent(connection, tenant, AgentId(person.0))?;
            let invited = read::invitation(connection, InvitationId(person.0))?;
            Ok((visitor, agent, invited.filter(|invited| invited.tenant == tenant)))
        })?;
        let (name, email, proven) = match (visitor, agent, invited) {
            (Some(visitor), _, _) => (visitor.name, visitor.email, false),
            (None, Some(agent), _) => (Some(agent.name), agent.email, agent.address_proven),
            (None, None, Some(invited)) => (None, Some(invited.email), false),
            (None, None, None) => return Ok(None),
        };
        let Some(email) = self.views.shown(email.as_ref())? else { return Ok(None) };
        Ok(Some(Recipient { name: self.views.shown(name.as_ref())?, email, proven }))
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

    async fn tenant(&self, id: TenantId) -> Result<TenantCard, SourceError> {
        let (tenant, verified) = self
            .pool
            .read(|connection| Ok((read::tenant(connection, id)?, read::has_verified_owner(connection, id)?)))?;
        let tenant = tenant.ok_or("the mail's tenant is unknown")?;
        Ok(TenantCard { name: tenant.name, standing: Standing { created_at: tenant.created_at, verified } })
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

fn pending(due: DueMail) -> PendingMail {
    let DueMail { mail, due_at, tried } = due;
    let Tried { attempts, unknown, granted } = tried;
    PendingMail {
        mail_id: mail.id,
        tenant: mail.tenant,
        kind: mail.kind,
        person_id: mail.person,
        about: mail.about,
        readable_id: mail.readable_id,
        requested_at: mail.requested_at,
        due_at,
        tries: Tries { attempts, unknown, granted },
    }
}
