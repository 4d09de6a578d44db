//! Transcripts in and out: NDJSON, a conversation a line.
//!
//! A line is checked whole before anything of it is written; a bad one goes to quarantine with its number and reason,
//! and the others go through. Ids follow from the tenant and the line's own ids, so importing again changes nothing, and what
//! has grown is added to what is there. Start at [`Importer::run`]: it works on a thread of its own, at the lowest priority, and
//! holds a line and what the writer hasn't answered, counted in the tenant's [`Place`].
//!
//! `run.rs` is one import, `lines.rs` pulls the lines, `parse.rs` reads one, `cleaning.rs` is what is changed of it, `quarantine.rs` what
//! is wrong with some. `transcript.rs` is a line of format 1, which has messages, and its checks; `history/` is format 2, which has
//! all that happened. `export.rs` writes format 2.

pub(crate) mod cleaning;
mod export;
mod history;
mod lines;
pub(crate) mod parse;
mod quarantine;
mod run;
pub(crate) mod transcript;

pub use cleaning::{CLEANED_MAX, CleanedField};
pub use export::{Exporter, Shown};
pub use lines::{Lines, PullError, Pulled, Unpacking};
pub use parse::LINE_BYTES_MAX;
pub use quarantine::LISTED_MAX;
pub use transcript::{Line, Party, Transcript};

use crate::app::App;
use crate::check::canonical_email;
use crate::core::command::{
    AgentDetails, Command, CommandKind, ImportedConversation, ImportedMessage, LookUp, NewAgent, NewVisitor,
};
use crate::core::state::Tenant;
use crate::core::visibility::Visible;
use crate::domain::{ChatDomain, Submission};
use crate::http::surface::describe::may_lack;
use crate::limits::{NoSpace, Place, Room};
use crate::store::names::name_hmacs;
use crate::store::read;
use cleaning::Cleaner;
use history::History;
use ingest::event::Actor;
use ingest::id::{AgentId, ConversationId, EventId, PersonId, TenantId, VisitorId};
use ingest::log::ReadError;
use ingest::payload::Role;
use ingest::seal::{KeyFile, PersonKey};
use ingest::sqlite::person_keys::PersonKeyError;
use ingest::sqlite::{NewPersonKey, PersonKeys, ReadPool};
use ingest::time::Timestamp;
use ingest::writer::{WriteError, Writer};
use parse::Bad;
use run::Run;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use thread_priority::{ThreadPriority, set_current_thread_priority};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use transcript::check;

/// Chats at once for an imported agent; the contract's default.
const MAX_CONCURRENT_CHATS: u32 = 6;

/// A line that was not imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quarantined {
    /// Its number, from 1.
    pub line: u64,
    /// Which field, if it's one: `visitor.id`, `messages[3].at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<String>")]
    pub field: Option<String>,
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
    /// Lines that were not imported: the first 1,000 that were found.
    pub quarantined: Vec<Quarantined>,
    /// How many there are, when they aren't all listed.
    #[serde(rename = "quarantinedTotal", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<u64>")]
    pub quarantined_total: Option<u64>,
    /// Fields of imported lines that were changed or left out, since the API takes no such value: the first 1,000.
    pub cleaned: Vec<CleanedField>,
    /// How many there are, when they aren't all listed.
    #[serde(rename = "cleanedTotal", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<u64>")]
    pub cleaned_total: Option<u64>,
}

impl ImportReport {
    /// How many lines were not imported.
    #[must_use]
    pub fn bad_lines(&self) -> u64 {
        self.quarantined_total.unwrap_or(self.quarantined.len() as u64)
    }

    /// How many fields were changed or left out.
    #[must_use]
    pub fn cleaned_fields(&self) -> u64 {
        self.cleaned_total.unwrap_or(self.cleaned.len() as u64)
    }
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
    /// Too many rows are under way. Retry later.
    #[error("failed to import after line {line}: too much is being sent at once")]
    Full {
        /// The last line that was read.
        line: u64,
    },
    /// The tenant has written as much as it may, or the disk is nearly full.
    #[error("failed to import after line {line}: there is no room for more")]
    NoSpace {
        /// The last line that was read.
        line: u64,
        /// Why.
        none: NoSpace,
    },
    /// The thread that it runs on can't be had, or has ended. Retry later.
    #[error("failed to import: {0}")]
    Thread(std::io::Error),
    /// The state can't be read. Retry later.
    #[error("failed to import: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The log can't be read. Retry later.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// A person's key can't be had.
    #[error(transparent)]
    Key(#[from] PersonKeyError),
}

/// What whoever imports sees of what is there.
#[derive(Debug, Clone)]
pub struct Reach {
    /// The conversations that may be compared with lines, and added to.
    pub visible: Visible,
    /// Who has an address: an agent is found by it.
    pub addresses: bool,
}

impl Reach {
    /// All of it: of the operator.
    pub const ALL: Self = Self { visible: Visible::All, addresses: true };
}

/// Reads transcripts into the log.
pub struct Importer {
    writer: Writer<ChatDomain>,
    pool: ReadPool,
    keys: Arc<PersonKeys>,
    key_file: Arc<KeyFile>,
    actor: Actor,
    reach: Reach,
    tenants: HashMap<String, TenantId>,
    /// Conversations of lines that the writer hasn't answered: what follows on them is compared when it has.
    under_way: HashSet<ConversationId>,
    /// Some of those lines make groups.
    makes_groups: bool,
    /// What may be written; of whoever has the data directory, all there is.
    room: Arc<Room>,
}

/// What is to be done with a line.
enum Prepared {
    Bad(Bad),
    /// It's there already.
    Skip,
    /// What is under way has to be settled before; then it's prepared again.
    Wait,
    /// To be sent, about this conversation.
    Ready(Box<Submission>, ConversationId),
}

/// A line, checked, of either format.
enum Checked {
    Messages(Box<Transcript>),
    Events(Box<History>),
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
        let room = Arc::new(Room::unlimited());
        let (tenants, under_way) = (HashMap::new(), HashSet::new());
        Self { writer, pool, keys, key_file, actor, reach: Reach::ALL, tenants, under_way, makes_groups: false, room }
    }

    /// The same, of somebody who doesn't see all.
    #[must_use]
    pub fn seeing(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// The same, within what may be written.
    #[must_use]
    pub fn within(self, room: Arc<Room>) -> Self {
        Self { room, ..self }
    }

    /// Imports every line of `source`, on a thread of its own; `progress` gets the number of lines done. What is under way is
    /// held by `place`. Who stops waiting doesn't stop it: it ends with its source.
    ///
    /// # Errors
    /// [`ImportError`] when it can't go on; bad lines are no error, they are in the report.
    pub async fn run<R: Read + Send + 'static>(
        self,
        owner: Owner,
        (source, unpacking): (R, Unpacking),
        place: Place,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<ImportReport, ImportError> {
        let (send, outcome) = oneshot::channel();
        let runtime = Handle::current();
        let work = move || {
            // Whoever sends messages goes first.
            if let Err(error) = set_current_thread_priority(ThreadPriority::Min) {
                tracing::debug!(?error, "an import keeps its thread's priority");
            }
            let mut run = Run::new(self, owner, place, runtime);
            let read = run.import(source, unpacking, progress);
            // What was sent before it broke off is in, and what was wrong with it is stored.
            let report = run.finish();
            // Nobody may be waiting any more.
            drop(send.send(read.and(report)));
        };
        std::thread::Builder::new().name("import".to_owned()).spawn(work).map_err(ImportError::Thread)?;
        let ended = |_| ImportError::Thread(std::io::Error::other("its thread has ended"));
        outcome.await.map_err(ended)?
    }

    async fn prepare(&mut self, owner: Owner, line: &[u8]) -> Result<(Prepared, Cleaner), ImportError> {
        let (checked, cleaner) = match read_line(line, Timestamp::now()) {
            Ok(checked) => checked,
            Err(bad) => return Ok((Prepared::Bad(bad), Cleaner::default())),
        };
        let slug = match &checked {
            Checked::Messages(transcript) => &transcript.tenant,
            Checked::Events(history) => &history.tenant,
        };
        let tenant = match (owner, slug) {
            (Owner::Tenant(tenant), _) => tenant,
            (Owner::TenantField, Some(slug)) => match self.tenant_by_slug(slug).await? {
                Ok(tenant) => tenant,
                Err(bad) => return Ok((Prepared::Bad(bad), Cleaner::default())),
            },
            (Owner::TenantField, None) => {
                let detail = "the line names no tenant in 'tenant'";
                let bad = Bad::field("tenant", "missing_tenant", detail);
                return Ok((Prepared::Bad(bad), cleaner));
            }
        };
        let prepared = match checked {
            Checked::Events(history) => self.prepare_history(tenant, *history),
            Checked::Messages(transcript) => match self.prepare_grown_transcript(tenant, &transcript)? {
                Some(prepared) => Ok(prepared),
                None => self.seal(tenant, *transcript),
            },
        };
        match prepared {
            Err(ImportError::Key(PersonKeyError::Damaged(_))) => {
                let detail = "what is known of the visitor or the agent can't be read, so nothing is added to it";
                Ok((Prepared::Bad(Bad::line("person_unreadable", detail)), cleaner))
            }
            outcome => Ok((outcome?, cleaner)),
        }
    }

    /// A command of whoever imports.
    fn command(&self, tenant: TenantId, kind: CommandKind) -> Command {
        let actor = self.actor;
        Command { tenant, actor, first_event: EventId::fresh(), request: None, cause: None, kind }
    }

    async fn tenant_by_slug(&mut self, slug: &str) -> Result<Result<TenantId, Bad>, ImportError> {
        if let Some(tenant) = self.tenants.get(slug) {
            return Ok(Ok(*tenant));
        }
        let found: Option<Tenant> = self.pool.read(|connection| read::tenant_by_slug(connection, slug))?;
        let tenant = match found {
            Some(tenant) => tenant.id,
            None if slugify(slug) != slug => {
                let detail = "a tenant's name in 'tenant' is lower-case letters, digits and hyphens";
                return Ok(Err(Bad::field("tenant", "invalid_tenant", detail)));
            }
            None => {
                let tenant = TenantId::fresh();
                let kind = CommandKind::CreateTenant {
                    name: slug.to_owned(),
                    slug: slug.to_owned(),
                    time_zone: "UTC".to_owned(),
                    owner: None,
                };
                match self.writer.submit(self.command(tenant, kind).into()).await? {
                    Ok(_) => tenant,
                    Err(rejection) => return Ok(Err(Bad::field("tenant", "invalid_tenant", rejection.detail))),
                }
            }
        };
        self.tenants.insert(slug.to_owned(), tenant);
        Ok(Ok(tenant))
    }

    fn seal(&self, tenant: TenantId, transcript: Transcript) -> Result<Prepared, ImportError> {
        let mut new_keys: Vec<NewPersonKey> = Vec::new();
        let mut key_of = |person: PersonId| -> Result<Arc<PersonKey>, ImportError> {
            match self.keys.get_or_create(person) {
                Ok((key, new)) => {
                    new_keys.extend(new);
                    Ok(key)
                }
                Err(error) => {
                    new_keys.drain(..).for_each(|new| self.keys.confirm(new.person, false));
                    Err(error.into())
                }
            }
        };
        let derived = |id: &str| [tenant.bytes().to_vec(), id.as_bytes().to_vec()];
        let visitor_id = VisitorId::derived(&derived(&transcript.visitor.id).each_ref().map(Vec::as_slice));
        let key = key_of(visitor_id.into())?;
        let seal = |key: &PersonKey, text: &Option<String>| {
            text.as_deref().map(|text| key.seal(text)).transpose().map_err(PersonKeyError::from)
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
                // An id has a name's limits.
                let name = party.name.clone().unwrap_or_else(|| party.id.trim().to_owned());
                Some(NewAgent {
                    agent_id,
                    name: key.seal(&name).map_err(PersonKeyError::from)?,
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
                content: key.seal(&line.text).map_err(PersonKeyError::from)?,
            });
        }
        let conversation_id = ConversationId::derived(&derived(&transcript.id).each_ref().map(Vec::as_slice));
        let import = ImportedConversation {
            conversation_id,
            external_id: transcript.id,
            visitor,
            agent,
            tags: transcript.tags,
            resolved: transcript.resolved,
            rating: transcript.rating,
            messages,
        };
        let command = self.command(tenant, CommandKind::Import(Box::new(import)));
        Ok(Prepared::Ready(Box::new(Submission { command, keys: new_keys }), conversation_id))
    }
}

/// Reads a line of either format, with what was changed of it: one that says no format has messages.
fn read_line(line: &[u8], now: Timestamp) -> Result<(Checked, Cleaner), Bad> {
    match history::check::format_of(line) {
        None | Some(Some(1)) => check(line, now).map(|(line, cleaner)| (Checked::Messages(Box::new(line)), cleaner)),
        Some(_) => history::check::check(line, now).map(|(line, cleaner)| (Checked::Events(Box::new(line)), cleaner)),
    }
}

/// Whether a line of either format is one.
pub(crate) fn is_readable(line: &[u8], now: Timestamp) -> bool {
    read_line(line, now).is_ok()
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

/// By what an address is looked up: the HMAC of its lower-case form, which it has once however its domain is written.
#[must_use]
pub fn email_hmac(key_file: &KeyFile, email: &str) -> String {
    let kept = canonical_email(email).unwrap_or_else(|| email.trim().to_owned());
    key_file.lookup("email", kept.to_lowercase().as_bytes())
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
    /// An importer that writes as `actor`, who sees so much.
    #[must_use]
    pub fn importer(&self, actor: Actor, reach: Reach) -> Importer {
        let (keys, key_file) = (Arc::clone(&self.keys), Arc::clone(&self.key_file));
        let importer = Importer::new(self.writer.clone(), self.pool.clone(), keys, key_file, actor);
        importer.seeing(reach).within(Arc::clone(&self.limiter.room))
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
