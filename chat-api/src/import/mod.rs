//! Transcripts in and out: NDJSON, a conversation a line.
//!
//! A line is checked whole before anything of it is written; a bad one goes to quarantine with its number and reason,
//! and the others go through. Ids follow from the tenant and the transcript's own ids, so importing again changes
//! nothing. Start at [`Importer::import`]; `transcript.rs` is a line and its checks, `export.rs` writes what it reads.

mod export;
mod transcript;

pub use export::{export, export_page};
pub use transcript::{LINE_BYTES_MAX, Line, Party, Transcript};

use crate::app::App;
use crate::core::command::{
    AgentDetails, Command, CommandKind, ImportedConversation, ImportedMessage, LookUp, NewAgent, NewVisitor,
};
use crate::core::state::Tenant;
use crate::domain::{ChatDomain, Submission};
use crate::store::read;
use crate::store::search::name_hmacs;
use futures_util::{Stream, StreamExt as _};
use ingest::event::Actor;
use ingest::id::{AgentId, ConversationId, EventId, PersonId, TenantId, VisitorId};
use ingest::payload::Role;
use ingest::seal::{KeyFile, PersonKey};
use ingest::sqlite::{NewPersonKey, PersonKeys, ReadPool};
use ingest::time::Timestamp;
use ingest::writer::{WriteError, Writer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use transcript::{Bad, check};

/// Transcripts under way at once; they share fsyncs.
const IN_FLIGHT: usize = 128;
/// Chats at once for an imported agent; the contract's default.
const MAX_CONCURRENT_CHATS: u32 = 6;

/// A line that was not imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quarantined {
    /// Its number, from 1.
    pub line: u64,
    /// A stable word.
    pub code: Cow<'static, str>,
    /// A sentence; never the line's own words.
    pub detail: String,
}

/// What an import came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportReport {
    /// Conversations written.
    pub imported: u64,
    /// Conversations that were there already.
    pub skipped: u64,
    /// Lines that were not imported.
    pub quarantined: Vec<Quarantined>,
}

/// Whose the transcripts are.
#[derive(Debug, Clone, Copy)]
pub enum Owner {
    /// All of this tenant, whatever a line says.
    Tenant(TenantId),
    /// Each line names its tenant's slug in `tenant`; missing tenants are made. The operator's right.
    TenantField,
}

/// The import stopped; lines before are written, and importing again skips them.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The writer failed. Retry later.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The input ended with an error.
    #[error("failed to read the import after line {line}: {source}")]
    Read {
        /// The last whole line.
        line: u64,
        /// What the source said.
        source: std::io::Error,
    },
    /// The state can't be read. Retry later.
    #[error("failed to import: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A person's key can't be had.
    #[error(transparent)]
    Key(#[from] ingest::sqlite::person_keys::PersonKeyError),
}

/// Reads transcripts into the log.
pub struct Importer {
    writer: Writer<ChatDomain>,
    pool: ReadPool,
    keys: Arc<PersonKeys>,
    key_file: Arc<KeyFile>,
    actor: Actor,
    tenants: HashMap<String, TenantId>,
}

enum Prepared {
    Bad(Bad),
    Ready(Box<Submission>),
}

impl Importer {
    /// An importer that writes as `actor`.
    #[must_use]
    pub fn new(
        writer: Writer<ChatDomain>,
        pool: ReadPool,
        keys: Arc<PersonKeys>,
        key_file: Arc<KeyFile>,
        actor: Actor,
    ) -> Self {
        Self { writer, pool, keys, key_file, actor, tenants: HashMap::new() }
    }

    /// Imports every line; `progress` gets the number of lines done.
    ///
    /// # Errors
    /// [`ImportError`] when it can't go on; bad lines are no error, they are in the report.
    pub async fn import(
        &mut self,
        owner: Owner,
        lines: impl Stream<Item = std::io::Result<Vec<u8>>> + Send,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<ImportReport, ImportError> {
        let mut report = ImportReport::default();
        let mut number = 0;
        let mut lines = std::pin::pin!(lines);
        let mut under_way = futures_util::stream::FuturesOrdered::new();
        loop {
            let line = lines.next().await;
            let done = line.is_none();
            if let Some(line) = line {
                let line = line.map_err(|source| ImportError::Read { line: number, source })?;
                number += 1;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                match self.prepare(owner, &line).await? {
                    Prepared::Bad(Bad(code, detail)) => {
                        report.quarantined.push(Quarantined { line: number, code: code.into(), detail });
                    }
                    Prepared::Ready(submission) => {
                        let (writer, keys) = (self.writer.clone(), Arc::clone(&self.keys));
                        under_way.push_back(submit(writer, keys, *submission, number));
                    }
                }
            }
            while under_way.len() >= if done { 1 } else { IN_FLIGHT } {
                if let Some(outcome) = under_way.next().await {
                    count(&mut report, outcome?);
                }
            }
            progress(number);
            if done {
                break;
            }
        }
        report.quarantined.sort_by_key(|bad| bad.line);
        self.store_quarantine(&report.quarantined).await?;
        Ok(report)
    }

    async fn prepare(&mut self, owner: Owner, line: &[u8]) -> Result<Prepared, ImportError> {
        let transcript = match check(line) {
            Ok(transcript) => transcript,
            Err(bad) => return Ok(Prepared::Bad(bad)),
        };
        let tenant = match (owner, &transcript.tenant) {
            (Owner::Tenant(tenant), _) => tenant,
            (Owner::TenantField, Some(slug)) => match self.tenant_by_slug(slug).await? {
                Ok(tenant) => tenant,
                Err(bad) => return Ok(Prepared::Bad(bad)),
            },
            (Owner::TenantField, None) => {
                let detail = "the line names no tenant in 'tenant'".to_owned();
                return Ok(Prepared::Bad(Bad("missing_tenant", detail)));
            }
        };
        Ok(Prepared::Ready(Box::new(self.seal(tenant, transcript)?)))
    }

    async fn tenant_by_slug(&mut self, slug: &str) -> Result<Result<TenantId, Bad>, ImportError> {
        if let Some(tenant) = self.tenants.get(slug) {
            return Ok(Ok(*tenant));
        }
        let found: Option<Tenant> = self.pool.read(|connection| read::tenant_by_slug(connection, slug))?;
        let tenant = match found {
            Some(tenant) => tenant.id,
            None if slugify(slug) != slug => {
                let detail = "a tenant's name in 'tenant' is lower-case letters, digits and hyphens".to_owned();
                return Ok(Err(Bad("invalid_tenant", detail)));
            }
            None => {
                let tenant = TenantId::fresh();
                let kind = CommandKind::CreateTenant {
                    name: slug.to_owned(),
                    slug: slug.to_owned(),
                    time_zone: "UTC".to_owned(),
                    owner: None,
                };
                let command = Command {
                    tenant,
                    actor: self.actor,
                    first_event: EventId::fresh(),
                    request: None,
                    cause: None,
                    kind,
                };
                match self.writer.submit(command.into()).await? {
                    Ok(_) => tenant,
                    Err(rejection) => return Ok(Err(Bad("invalid_tenant", rejection.detail))),
                }
            }
        };
        self.tenants.insert(slug.to_owned(), tenant);
        Ok(Ok(tenant))
    }

    fn seal(&self, tenant: TenantId, transcript: Transcript) -> Result<Submission, ImportError> {
        let mut new_keys: Vec<NewPersonKey> = Vec::new();
        let mut key_of = |person: PersonId| -> Result<Arc<PersonKey>, ImportError> {
            let (key, new) = self.keys.get_or_create(person)?;
            new_keys.extend(new);
            Ok(key)
        };
        let derived = |id: &str| [tenant.bytes().to_vec(), id.as_bytes().to_vec()];
        let visitor_id = VisitorId::derived(&derived(&transcript.visitor.id).each_ref().map(Vec::as_slice));
        let key = key_of(visitor_id.into())?;
        let seal = |key: &PersonKey, text: &Option<String>| {
            text.as_deref()
                .map(|text| key.seal(text))
                .transpose()
                .map_err(ingest::sqlite::person_keys::PersonKeyError::from)
        };
        let visitor = NewVisitor {
            visitor_id,
            readable_id: pipelines::readable_id(&visitor_id.to_string()),
            name: seal(&key, &transcript.visitor.name)?,
            email: seal(&key, &transcript.visitor.email)?,
            look_up: look_up(
                &self.key_file,
                tenant,
                transcript.visitor.email.as_deref(),
                transcript.visitor.name.as_deref(),
            ),
            phone: None,
            metadata: None,
            external_ref: seal(&key, &Some(transcript.visitor.id))?,
            user_id: None,
        };
        let agent = match transcript.agent {
            Some(party) => {
                let agent_id = AgentId::derived(&derived(&party.id).each_ref().map(Vec::as_slice));
                let key = key_of(agent_id.into())?;
                let name = party.name.clone().unwrap_or_else(|| party.id.clone());
                Some(NewAgent {
                    agent_id,
                    name: key.seal(&name).map_err(ingest::sqlite::person_keys::PersonKeyError::from)?,
                    email: seal(&key, &party.email)?,
                    email_hmac: party.email.map(|email| email_hmac(&self.key_file, &email)),
                    password_hash: None,
                    role: Role::Agent,
                    max_concurrent_chats: MAX_CONCURRENT_CHATS,
                    external_id: Some(party.id),
                    details: AgentDetails::default(),
                })
            }
            None => None,
        };
        let mut messages = Vec::with_capacity(transcript.messages.len());
        for line in transcript.messages {
            messages.push(ImportedMessage {
                at: Timestamp::parse_rfc3339(&line.at).unwrap_or_default(),
                from: line.from,
                content_chars: u32::try_from(line.text.chars().count()).unwrap_or(u32::MAX),
                content: key.seal(&line.text).map_err(ingest::sqlite::person_keys::PersonKeyError::from)?,
            });
        }
        let import = ImportedConversation {
            conversation_id: ConversationId::derived(&derived(&transcript.id).each_ref().map(Vec::as_slice)),
            external_id: transcript.id,
            visitor,
            agent,
            tags: transcript.tags,
            resolved: transcript.resolved,
            rating: transcript.rating,
            messages,
        };
        let command = Command {
            tenant,
            actor: self.actor,
            first_event: EventId::fresh(),
            request: None,
            cause: None,
            kind: CommandKind::Import(Box::new(import)),
        };
        Ok(Submission { command, keys: new_keys })
    }

    async fn store_quarantine(&self, bad: &[Quarantined]) -> Result<(), ImportError> {
        if bad.is_empty() {
            return Ok(());
        }
        let (import, at, bad) = (EventId::fresh().to_string(), Timestamp::now().0, bad.to_vec());
        let store = move |connection: &rusqlite::Connection| {
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS quarantine (
                     import TEXT NOT NULL, line INTEGER NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL, at INTEGER NOT NULL
                 ) STRICT",
            )?;
            let mut insert = connection.prepare_cached("INSERT INTO quarantine VALUES (?1, ?2, ?3, ?4, ?5)")?;
            bad.iter().try_for_each(|bad| {
                insert.execute((&import, bad.line.cast_signed(), bad.code.as_ref(), &bad.detail, at)).map(drop)
            })
        };
        Ok(self.writer.transact(store).await?)
    }
}

async fn submit(
    writer: Writer<ChatDomain>,
    keys: Arc<PersonKeys>,
    submission: Submission,
    line: u64,
) -> Result<Result<bool, Quarantined>, ImportError> {
    let persons: Vec<PersonId> = submission.keys.iter().map(|key| key.person).collect();
    let outcome = writer.submit(submission).await;
    let written = matches!(&outcome, Ok(Ok(answer)) if !answer.events.is_empty());
    persons.into_iter().for_each(|person| keys.confirm(person, written));
    match outcome {
        Ok(Ok(_)) => Ok(Ok(written)),
        Ok(Err(refused)) => Ok(Err(Quarantined { line, code: refused.code.into(), detail: refused.detail })),
        Err(WriteError::TooLarge(reason)) => {
            Ok(Err(Quarantined { line, code: "too_large".into(), detail: reason.to_string() }))
        }
        Err(error) => Err(error.into()),
    }
}

fn count(report: &mut ImportReport, outcome: Result<bool, Quarantined>) {
    match outcome {
        Ok(true) => report.imported += 1,
        Ok(false) => report.skipped += 1,
        Err(bad) => report.quarantined.push(bad),
    }
}

/// A slug: lower-case letters, digits and single hyphens, at most 60; empty when nothing is left.
#[must_use]
pub fn slugify(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.chars().flat_map(char::to_lowercase) {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    slug.truncate(60);
    slug.trim_end_matches('-').to_owned()
}

/// By what an address is looked up: the HMAC of its trimmed lower-case form.
#[must_use]
pub fn email_hmac(key_file: &KeyFile, email: &str) -> String {
    key_file.lookup("email", email.trim().to_lowercase().as_bytes())
}

/// By what a visitor with this address and this name is looked up.
#[must_use]
pub fn look_up(key_file: &KeyFile, tenant: TenantId, email: Option<&str>, name: Option<&str>) -> LookUp {
    LookUp {
        email_hmac: email.map(|email| email_hmac(key_file, email)),
        name_hmacs: name.map(|name| name_hmacs(key_file, tenant, name)),
    }
}

impl App {
    /// An importer that writes as `actor`.
    #[must_use]
    pub fn importer(&self, actor: Actor) -> Importer {
        Importer::new(self.writer.clone(), self.pool.clone(), Arc::clone(&self.keys), Arc::clone(&self.key_file), actor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_plain() {
        assert_eq!(slugify("Café  Zürich & Söhne"), "caf-z-rich-s-hne");
        assert_eq!(slugify("  "), "");
    }
}
