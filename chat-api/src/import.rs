//! Transcripts in and out: NDJSON, a conversation a line.
//!
//! A line is checked whole before anything of it is written; a bad one goes to quarantine with its number and reason,
//! and the others go through. Ids follow from the tenant and the transcript's own ids, so importing again changes
//! nothing. Start at [`Importer::import`]; [`export`] writes what it reads.

use crate::app::App;
use crate::core::command::{Command, CommandKind, ImportedConversation, ImportedMessage, NewAgent, NewVisitor};
use crate::core::state::{Conversation, Status, Tenant};
use crate::domain::{ChatDomain, Submission};
use crate::store::{load::parse, read};
use crate::view::{ViewError, Views};
use futures_util::{Stream, StreamExt as _};
use ingest::event::Actor;
use ingest::id::{AgentId, ConversationId, EventId, PersonId, TenantId, VisitorId};
use ingest::payload::{AuthorType, Payload, Role};
use ingest::seal::{KeyFile, PersonKey};
use ingest::sqlite::{EmbeddedLog, NewPersonKey, PersonKeys, ReadPool};
use ingest::time::Timestamp;
use ingest::writer::{WriteError, Writer};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// The longest line read; a longer one is quarantined.
pub const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest message, in characters; the API's limit too, so that its event fits the log.
pub const MESSAGE_CHARS_MAX: usize = 20_000;
/// The most messages of one transcript: it is written in one transaction.
const MESSAGES_MAX: usize = 10_000;
/// Transcripts under way at once; they share fsyncs.
const IN_FLIGHT: usize = 128;
/// Chats at once for an imported agent; the contract's default.
const MAX_CONCURRENT_CHATS: u32 = 6;

/// A conversation as it is imported and exported.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct Transcript {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    pub visitor: Party,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Party>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub resolved: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<u8>,
    pub messages: Vec<Line>,
}

/// A visitor or agent of a transcript.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct Party {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// A message of a transcript.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct Line {
    pub at: String,
    pub from: AuthorType,
    pub text: String,
}

/// A line that was not imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its number, from 1.
    pub line: u64,
    /// A stable word.
    pub code: Cow<'static, str>,
    /// A sentence; never the line's own words.
    pub detail: String,
}

/// What an import came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

struct Bad(&'static str, String);

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
            phone: None,
            metadata: None,
            external_id: Some(transcript.visitor.id),
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

/// Everything that can be wrong with a line, before anything of it is written.
fn check(line: &[u8]) -> Result<Transcript, Bad> {
    if line.len() > LINE_BYTES_MAX {
        return Err(Bad(
            "line_too_long",
            format!("the line has {} bytes, at most {LINE_BYTES_MAX} are read", line.len()),
        ));
    }
    let transcript: Transcript = serde_json::from_slice(line).map_err(|error| {
        // serde_json's words about data may quote it; its category and place don't.
        let (code, what) = match error.classify() {
            serde_json::error::Category::Data => ("invalid_field", data_error(&error.to_string())),
            _ => ("not_json", "the line is not a JSON object".to_owned()),
        };
        Bad(code, format!("{what} (column {})", error.column()))
    })?;
    let parties = std::iter::once(&transcript.visitor).chain(&transcript.agent);
    if transcript.id.is_empty() || parties.clone().any(|party| party.id.is_empty()) {
        return Err(Bad("empty_id", "an id is empty".to_owned()));
    }
    if transcript.id.len() > 200 || parties.clone().any(|party| party.id.len() > 200) {
        return Err(Bad("id_too_long", "an id has more than 200 bytes".to_owned()));
    }
    if transcript.rating.is_some_and(|rating| !(1..=5).contains(&rating)) {
        return Err(Bad("invalid_rating", "a rating is 1 to 5".to_owned()));
    }
    if transcript.messages.is_empty() || transcript.messages.len() > MESSAGES_MAX {
        return Err(Bad("message_count", format!("a transcript has 1 to {MESSAGES_MAX} messages")));
    }
    let mut previous = Timestamp(i64::MIN);
    for (index, message) in transcript.messages.iter().enumerate() {
        let number = index + 1;
        let Some(at) = Timestamp::parse_rfc3339(&message.at) else {
            return Err(Bad("invalid_time", format!("message {number}: 'at' is not an RFC 3339 time")));
        };
        if at < previous {
            return Err(Bad("time_goes_back", format!("message {number} is earlier than the one before")));
        }
        previous = at;
        if message.text.trim().is_empty() {
            return Err(Bad("empty_message", format!("message {number} has no text")));
        }
        if message.text.chars().count() > MESSAGE_CHARS_MAX {
            let detail = format!("message {number} has more than {MESSAGE_CHARS_MAX} characters");
            return Err(Bad("message_too_long", detail));
        }
        if message.from == AuthorType::Agent && transcript.agent.is_none() {
            return Err(Bad("missing_agent", format!("message {number} is from an agent, but the line names none")));
        }
    }
    Ok(transcript)
}

/// The part of a data error that names fields and types, not values.
fn data_error(message: &str) -> String {
    let known = ["missing field", "unknown field", "unknown variant", "duplicate field"];
    if known.iter().any(|start| message.starts_with(start)) {
        let end = message.find(", expected").or_else(|| message.find(" at line")).unwrap_or(message.len());
        message[..end].to_owned()
    } else {
        "a field has the wrong type".to_owned()
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

/// The ids of a tenant's conversations after `after`, in order, at most 500: pages of an export.
///
/// # Errors
/// SQLite's.
pub fn export_page(
    pool: &ReadPool,
    tenant: TenantId,
    after: Option<ConversationId>,
) -> rusqlite::Result<Vec<Conversation>> {
    pool.read(|connection| {
        let sql = "SELECT body FROM conversations WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT 500";
        let after = after.map_or([0; 16], |id| *id.bytes());
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map((tenant.bytes(), after), |row| parse(&row.get::<_, String>(0)?))?;
        rows.collect()
    })
}

/// A conversation as a transcript; `None` when it has no readable messages.
///
/// # Errors
/// See [`ViewError`].
pub fn export(pool: &ReadPool, views: &Views, chat: &Conversation) -> Result<Option<Transcript>, ViewError> {
    let mut messages = Vec::new();
    let mut resolved = chat.status == Status::Resolved;
    let mut after = 0;
    loop {
        let page = EmbeddedLog::history(pool, chat.id, after, 500)?;
        let Some(last) = page.last() else { break };
        after = last.event.seq;
        for record in &page {
            match &record.event.payload {
                Payload::MessagePosted(message) => {
                    if let Some(text) = views.open(Some(&message.content))? {
                        let at = record.event.occurred_at.to_string();
                        messages.push(Line { at, from: message.author_type, text });
                    }
                }
                Payload::ConversationResolved(_) => resolved = true,
                _ => {}
            }
        }
    }
    if messages.is_empty() {
        return Ok(None);
    }
    let (visitor, agent) = pool.read(|connection| {
        let agent = chat.agent.map(|id| read::agent(connection, chat.tenant, id)).transpose()?.flatten();
        Ok((read::visitor(connection, chat.tenant, chat.visitor)?, agent))
    })?;
    let party = |id: Option<String>, own: String, name: Option<String>, email| {
        let id = id.unwrap_or(own);
        Party { name: name.filter(|name| *name != id), id, email }
    };
    let visitor = match visitor {
        Some(found) => {
            let (name, email) = (views.open(found.name.as_ref())?, views.open(found.email.as_ref())?);
            party(found.external_id, found.id.to_string(), name, email)
        }
        None => Party { id: chat.visitor.to_string(), name: None, email: None },
    };
    let agent = match agent {
        Some(found) => {
            let (name, email) = (views.open(Some(&found.name))?, views.open(found.email.as_ref())?);
            Some(party(found.external_id, found.id.to_string(), name, email))
        }
        None => None,
    };
    Ok(Some(Transcript {
        id: chat.external_id.clone().unwrap_or_else(|| chat.id.to_string()),
        tenant: None,
        visitor,
        agent,
        tags: chat.tags.iter().cloned().collect(),
        resolved,
        rating: chat.rating,
        messages,
    }))
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

    fn code(line: &str) -> &'static str {
        check(line.as_bytes()).err().map_or("ok", |bad| bad.0)
    }

    fn transcript(messages: &str) -> String {
        format!(r#"{{"id":"t","visitor":{{"id":"v"}},"agent":{{"id":"a"}},"messages":[{messages}]}}"#)
    }

    /// Each kind of bad line has its own word.
    #[test]
    fn bad_lines_are_told_apart() {
        let good = r#"{"at":"2020-05-12T17:44:40Z","from":"visitor","text":"Hello"}"#;
        assert_eq!(code(&transcript(good)), "ok");
        assert_eq!(code("{oops"), "not_json");
        assert_eq!(code("[1,2]"), "invalid_field");
        assert_eq!(code(&transcript("")), "message_count");
        assert_eq!(code(&transcript(&good.replace("2020-05-12T17:44:40Z", "yesterday"))), "invalid_time");
        assert_eq!(code(&transcript(&good.replace("Hello", " \\n "))), "empty_message");
        assert_eq!(code(&transcript(&good.replace("visitor", "ghost"))), "invalid_field");
        assert_eq!(code(&transcript(&format!("{good},{}", good.replace("2020", "2019")))), "time_goes_back");
        assert_eq!(code(&transcript(good).replace("\"id\":\"t\"", "\"id\":\"\"")), "empty_id");
        assert_eq!(code(&transcript(good).replace("\"id\":\"t\"", "\"id\":\"t\",\"rating\":6")), "invalid_rating");
        assert_eq!(code(&transcript(good).replace("\"id\":\"t\"", "\"id\":\"t\",\"mood\":1")), "invalid_field");
        let agentless = transcript(&good.replace("visitor", "agent")).replace(r#""agent":{"id":"a"},"#, "");
        assert_eq!(code(&agentless), "missing_agent");
    }

    /// Reasons never repeat a person's words.
    #[test]
    fn reasons_hold_no_text() {
        let line = transcript(r#"{"at":"2020-05-12T17:44:40Z","from":"visitor","text":{"secret":"words"}}"#);
        let Bad(_, detail) = check(line.as_bytes()).expect_err("a wrong type");
        assert!(!detail.contains("secret") && detail.contains("column"), "{detail}");
    }

    #[test]
    fn slugs_are_plain() {
        assert_eq!(slugify("Café  Zürich & Söhne"), "caf-z-rich-s-hne");
        assert_eq!(slugify("  "), "");
    }
}
