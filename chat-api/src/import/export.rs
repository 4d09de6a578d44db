//! Conversations as transcripts: what an import reads. Start at [`Exporter`].
//!
//! A tenant's conversations are written in order of their ids, one line each, a few messages at a time: what is held is
//! those messages, however long a conversation is and however many there are.

use super::transcript::{Line, Party};
use crate::core::state::{Conversation, Status};
use crate::store::read;
use crate::view::{ViewError, Views};
use ingest::id::{ConversationId, TenantId};
use ingest::payload::Payload;
use ingest::seal::{Text, Unreadable};
use ingest::sqlite::{EmbeddedLog, ReadPool};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::VecDeque;
use uuid::Uuid;

/// What an export says in the place of a message that can't be read.
const UNREADABLE: &str = "[this message can't be read]";
/// Conversations whose ids are read at a time.
const IDS_PAGE: i64 = 500;
/// Events that are read at a time; an event has at most 256 KiB.
const HISTORY_PAGE: usize = 16;

/// A tenant's conversations being written.
pub struct Exporter {
    tenant: TenantId,
    contacts: bool,
    after: Option<ConversationId>,
    ids: VecDeque<ConversationId>,
    open: Option<Open>,
    done: u64,
}

/// A conversation of which a part is written.
struct Open {
    chat: Conversation,
    contacts: bool,
    after: u64,
    messages: u64,
    resolved: bool,
}

/// What a transcript says before its messages.
#[derive(Serialize)]
struct Head<'a> {
    id: Cow<'a, str>,
    visitor: Party,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<Party>,
    tags: Vec<&'a str>,
}

impl Exporter {
    /// All of the tenant's, from the first; with `contacts`, agents come with their addresses.
    #[must_use]
    pub fn new(tenant: TenantId, contacts: bool) -> Self {
        Self { tenant, contacts, after: None, ids: VecDeque::new(), open: None, done: 0 }
    }

    /// Conversations that are done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Writes on, a little; `false` when all is written.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn step(&mut self, pool: &ReadPool, views: &Views, out: &mut Vec<u8>) -> Result<bool, ViewError> {
        if let Some(open) = &mut self.open {
            if !open.step(pool, views, out)? {
                self.open = None;
                self.done += 1;
            }
            return Ok(true);
        }
        if self.ids.is_empty() {
            self.ids = ids_after(pool, self.tenant, self.after)?;
        }
        let Some(id) = self.ids.pop_front() else { return Ok(false) };
        self.after = Some(id);
        if let Some(chat) = pool.read(|connection| read::conversation(connection, self.tenant, id))? {
            let resolved = chat.status == Status::Resolved;
            self.open = Some(Open { chat, contacts: self.contacts, after: 0, messages: 0, resolved });
        }
        Ok(true)
    }
}

fn ids_after(
    pool: &ReadPool,
    tenant: TenantId,
    after: Option<ConversationId>,
) -> rusqlite::Result<VecDeque<ConversationId>> {
    pool.read(|connection| {
        let sql = "SELECT id FROM conversations WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
        let after = after.map_or([0; 16], |id| *id.bytes());
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map((tenant.bytes(), after, IDS_PAGE), |row| row.get::<_, [u8; 16]>(0))?;
        rows.map(|id| id.map(|id| ConversationId(Uuid::from_bytes(id)))).collect()
    })
}

impl Open {
    /// Writes a few messages more; `false` when the line is ended, if there is one: what has no readable message has none.
    fn step(&mut self, pool: &ReadPool, views: &Views, out: &mut Vec<u8>) -> Result<bool, ViewError> {
        let page = EmbeddedLog::history(pool, self.chat.id, self.after, HISTORY_PAGE)?;
        let Some((last, _)) = page.items.last() else {
            if self.messages > 0 {
                out.extend_from_slice(b"],\"resolved\":");
                write(out, &self.resolved);
                if let Some(rating) = self.chat.rating {
                    out.extend_from_slice(b",\"rating\":");
                    write(out, &rating);
                }
                out.extend_from_slice(b"}\n");
            }
            return Ok(false);
        };
        self.after = *last;
        for record in page.values() {
            match &record.event.payload {
                Payload::MessagePosted(message) => {
                    let text = match views.text(&message.content)? {
                        Text::Readable(words) => words,
                        // Of who was erased nothing is left to carry on.
                        Text::Unreadable(Unreadable::Erased) => continue,
                        // That something was said there is no secret, and whoever looks for it must find out.
                        Text::Unreadable(Unreadable::Damaged) => UNREADABLE.to_owned(),
                    };
                    let at = record.event.occurred_at.to_string();
                    self.message(pool, views, out, &Line { at, from: message.author_type, text })?;
                }
                // Nobody resolved what ran out: it would count for an agent where it's imported.
                Payload::ConversationResolved(done) if done.reason.is_none() => self.resolved = true,
                _ => {}
            }
        }
        Ok(true)
    }

    fn message(&mut self, pool: &ReadPool, views: &Views, out: &mut Vec<u8>, message: &Line) -> Result<(), ViewError> {
        if self.messages == 0 {
            write(out, &self.head(pool, views)?);
            // The object goes on.
            out.pop();
            out.extend_from_slice(b",\"messages\":[");
        } else {
            out.push(b',');
        }
        self.messages += 1;
        write(out, message);
        Ok(())
    }

    fn head(&self, pool: &ReadPool, views: &Views) -> Result<Head<'_>, ViewError> {
        let chat = &self.chat;
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
                let (name, email) = (views.shown(found.name.as_ref())?, views.shown(found.email.as_ref())?);
                let external_id = views.shown(found.external_ref.as_ref())?.or(found.external_id);
                party(external_id, found.id.to_string(), name, email)
            }
            None => Party { id: chat.visitor.to_string(), name: None, email: None },
        };
        let agent = match agent {
            Some(found) => {
                let email = found.email.as_ref().filter(|_| self.contacts);
                let name = views.shown(Some(&found.name))?;
                let email = views.shown(email)?;
                Some(party(found.external_id, found.id.to_string(), name, email))
            }
            None => None,
        };
        let tags = chat.tags.iter().map(String::as_str).collect();
        let id = chat.external_id.as_deref().map_or_else(|| Cow::Owned(chat.id.to_string()), Cow::Borrowed);
        Ok(Head { id, visitor, agent, tags })
    }
}

fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("texts and numbers are written as JSON");
}
