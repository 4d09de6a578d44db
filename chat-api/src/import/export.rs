//! Conversations as transcripts: what an import reads.

use super::transcript::{Line, Party, Transcript};
use crate::core::state::{Conversation, Status};
use crate::store::{load::parse, read};
use crate::view::{ViewError, Views};
use ingest::id::{ConversationId, TenantId};
use ingest::payload::Payload;
use ingest::sqlite::{EmbeddedLog, ReadPool};

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
                // Nobody resolved what ran out: it would count for an agent where it's imported.
                Payload::ConversationResolved(done) if done.reason.is_none() => resolved = true,
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
            let external_id = views.open(found.external_ref.as_ref())?.or(found.external_id);
            party(external_id, found.id.to_string(), name, email)
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
