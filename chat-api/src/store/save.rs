//! Writes what changed in memory, once a batch.

use super::{outbox, visitor_access};
use crate::core::state::{Conversation, Key, MailStatus, State, TimerKind, name_key};
use rusqlite::{Connection, ToSql};
use serde::Serialize;
use std::cell::Cell;

/// Writes every entity in [`State::dirty`] and empties it.
///
/// # Errors
/// SQLite's; the batch must be rolled back and the state discarded.
pub fn save(connection: &Connection, state: &mut State) -> rusqlite::Result<()> {
    let weigh = Cell::new(0);
    for key in std::mem::take(&mut state.dirty) {
        save_one(connection, state, &key, &weigh)?;
    }
    state.bytes += weigh.get();
    let mut audit = connection.prepare_cached("INSERT OR IGNORE INTO audit VALUES (?1, ?2, ?3, ?4)")?;
    for entry in std::mem::take(&mut state.audit) {
        audit.execute((entry.tenant.bytes(), entry.at.0, entry.id.bytes(), json(&entry, &Cell::default())))?;
    }
    Ok(())
}

/// An entity's JSON, whose bytes are added up.
fn json(entity: &impl Serialize, weigh: &Cell<usize>) -> String {
    let text = serde_json::to_string(entity).expect("an entity's fields all have a JSON form");
    weigh.set(weigh.get() + text.len());
    text
}

fn upsert(connection: &Connection, sql: &str, params: &[&dyn ToSql]) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute(params).map(drop)
}

fn save_one(connection: &Connection, state: &State, key: &Key, weigh: &Cell<usize>) -> rusqlite::Result<()> {
    match key {
        Key::Tenant(id) => state.tenants.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO tenants VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET body = ?3";
            upsert(connection, sql, &[id.bytes(), &row.slug, &json(row, weigh)])
        }),
        Key::Agent(id) => state.agents.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO agents VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET email_hmac = ?3, body = ?4";
            let email_hmac = row.email_hmac.as_ref().filter(|_| row.deleted_at.is_none());
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &email_hmac, &json(row, weigh)])
        }),
        Key::Role(id) => state.roles.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO roles VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET name = ?3, body = ?4";
            let name = row.deleted_at.is_none().then(|| row.name.to_lowercase());
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &name, &json(row, weigh)])
        }),
        Key::Group(id) => state.groups.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO groups VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE SET is_default = ?3, deleted = ?4, body = ?5";
            let deleted = row.deleted_at.is_some();
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &row.is_default, &deleted, &json(row, weigh)])
        }),
        Key::Tag(id) => state.tags.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO tags VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET name_key = ?3, body = ?4";
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &name_key(&row.name), &json(row, weigh)])
        }),
        Key::CannedResponse(id) => state.canned_responses.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO canned_responses VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (id) DO UPDATE SET name_key = ?3, body = ?4";
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &name_key(&row.shortcut), &json(row, weigh)])
        }),
        Key::Session(id) => state.sessions.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO sessions VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET body = ?2";
            upsert(connection, sql, &[id.bytes(), &json(row, weigh)])
        }),
        Key::Challenge(id) => state.challenges.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO challenges VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET body = ?3";
            upsert(connection, sql, &[id.bytes(), row.agent.bytes(), &json(row, weigh)])
        }),
        Key::Invitation(id) => state.invitations.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO invitations VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET body = ?3";
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &json(row, weigh)])
        }),
        Key::Chatbot(id) => state.chatbots.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO chatbots VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET api_key = ?3, body = ?4";
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &row.api_key, &json(row, weigh)])
        }),
        Key::Token(id) => state.tokens.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO tokens VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET body = ?4";
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &row.sha256, &json(row, weigh)])
        }),
        Key::DataSource(id) => state.data_sources.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO data_sources VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET name = ?3, body = ?4";
            let name = row.deleted_at.is_none().then_some(&row.name);
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &name, &json(row, weigh)])
        }),
        Key::Pipe(id) => state.pipes.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO pipes VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET name = ?3, body = ?4";
            let name = row.deleted_at.is_none().then_some(&row.name);
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &name, &json(row, weigh)])
        }),
        Key::Visitor(id) => state.visitors.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO visitors VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (id) DO UPDATE SET merged_into = ?4, erased = ?5, body = ?7";
            let merged_into = row.merged_into.as_ref().map(ingest::id::VisitorId::bytes);
            let (tenant, erased) = (row.tenant.bytes(), row.erased_at.is_some());
            let (readable, created) = (&row.readable_id, row.created_at.0);
            let body = json(row, weigh);
            upsert(connection, sql, &[id.bytes(), tenant, readable, &merged_into, &erased, &created, &body])?;
            visitor_access::visitor_saved(connection, row)
        }),
        Key::Conversation(id) => state.conversations.get(id).map_or(Ok(()), |row| {
            save_conversation(connection, row, weigh)?;
            save_tags(connection, row)?;
            save_timers(connection, row)?;
            save_threads(connection, row)
        }),
        Key::File(id) => state.files.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO files VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET body = ?4";
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), row.visitor.bytes(), &json(row, weigh)])
        }),
        Key::Mail(id) => state.mails.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO mails VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO UPDATE SET status = ?4, body = ?5";
            let status = match row.status {
                MailStatus::Pending => "pending",
                MailStatus::Sent => "sent",
                MailStatus::Failed => "failed",
            };
            let body = json(row, weigh);
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), row.person.bytes(), &status, &body])?;
            outbox::follow(connection, row)
        }),
        Key::Request(sender, key) => state.requests.get(&(sender.clone(), key.clone())).map_or(Ok(()), |row| {
            let sql = "INSERT INTO requests VALUES (?1, ?2, ?3, ?4) ON CONFLICT (sender, key) DO UPDATE SET at = ?3, body = ?4";
            upsert(connection, sql, &[sender, key, &row.at.0, &json(row, weigh)])
        }),
    }
}

/// Most changes leave what the other indexes go by as it is, and SQLite writes every index of a column that is set, also to
/// the value that it has: so those are set only when one of them has changed.
fn save_conversation(connection: &Connection, row: &Conversation, weigh: &Cell<usize>) -> rusqlite::Result<()> {
    let (id, tenant, visitor, status) = (row.id.bytes(), row.tenant.bytes(), row.visitor.bytes(), row.status.as_str());
    let agent = row.agent.as_ref().map(ingest::id::AgentId::bytes);
    let group = row.group.as_ref().map(ingest::id::GroupId::bytes);
    let rank = row.queued.map(|queued| queued.rank);
    let (updated, created, body) = (row.updated_at.0, row.created_at.0, json(row, weigh));
    let sql = "UPDATE conversations SET updated_at = ?7, body = ?8
         WHERE id = ?1 AND visitor = ?2 AND status = ?3 AND agent IS ?4 AND queue_rank IS ?5 AND group_id IS ?6";
    let same = (id, visitor, status, agent, rank, group, updated, &body);
    if connection.prepare_cached(sql)?.execute(same)? == 1 {
        return Ok(());
    }
    let before = visitor_access::stored(connection, row.id)?;
    let sql = "INSERT INTO conversations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (id) DO UPDATE SET visitor = ?3, status = ?4, agent = ?5, queue_rank = ?6, group_id = ?7,
             updated_at = ?8, body = ?10";
    let all: [&dyn ToSql; 10] = [id, tenant, visitor, &status, &agent, &rank, &group, &updated, &created, &body];
    upsert(connection, sql, &all)?;
    visitor_access::conversation_saved(connection, row, before)
}

/// Indexes the threads that are new: the newest come first, and before a known one all are known.
fn save_threads(connection: &Connection, conversation: &Conversation) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO threads VALUES (?1, ?2)")?;
    for thread in conversation.threads.iter().rev() {
        if insert.execute((thread.id.bytes(), conversation.id.bytes()))? == 0 {
            break;
        }
    }
    Ok(())
}

/// The tags' rows carry what lists go by, so that a tag's conversations are read in order, and filtered, off its index.
fn save_tags(connection: &Connection, conversation: &Conversation) -> rusqlite::Result<()> {
    let id = conversation.id.bytes();
    if conversation.tags.is_empty() {
        // The usual case, for a fraction of what the other costs.
        connection.prepare_cached("DELETE FROM conversation_tags WHERE id = ?1")?.execute([id])?;
        return Ok(());
    }
    let tags = serde_json::Value::from_iter(conversation.tags.iter().cloned()).to_string();
    let sql = "DELETE FROM conversation_tags WHERE id = ?1 AND tag NOT IN (SELECT value FROM json_each(?2))";
    connection.prepare_cached(sql)?.execute((id, tags))?;
    let sql = "UPDATE conversation_tags SET updated_at = ?6
         WHERE id = ?1 AND tag = ?2 AND status = ?3 AND agent IS ?4 AND group_id IS ?5";
    let mut touch = connection.prepare_cached(sql)?;
    let sql = "INSERT INTO conversation_tags VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (id, tag) DO UPDATE SET status = ?4, agent = ?5, group_id = ?6, updated_at = ?7";
    let mut insert = connection.prepare_cached(sql)?;
    let agent = conversation.agent.as_ref().map(ingest::id::AgentId::bytes);
    let group = conversation.group.as_ref().map(ingest::id::GroupId::bytes);
    let (updated, created) = (conversation.updated_at.0, conversation.created_at.0);
    for tag in &conversation.tags {
        let (tenant, status) = (conversation.tenant.bytes(), conversation.status.as_str());
        if touch.execute((id, tag, status, agent, group, updated))? == 0 {
            insert.execute((id, tag, tenant, status, agent, group, updated, created))?;
        }
    }
    Ok(())
}

fn save_timers(connection: &Connection, conversation: &Conversation) -> rusqlite::Result<()> {
    for kind in TimerKind::ALL {
        let (id, word) = (conversation.id.bytes(), kind.as_str());
        if let Some(due) = conversation.timers.due(kind) {
            let sql = "INSERT INTO timers VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id, kind) DO UPDATE SET due_at = ?4";
            upsert(connection, sql, &[id, &word, conversation.tenant.bytes(), &due.0])?;
        } else {
            upsert(connection, "DELETE FROM timers WHERE id = ?1 AND kind = ?2", &[id, &word])?;
        }
    }
    Ok(())
}

/// Forgets idempotency keys recorded before `before` (milliseconds).
///
/// # Errors
/// SQLite's.
pub fn prune_requests(connection: &Connection, before: i64) -> rusqlite::Result<usize> {
    connection.execute("DELETE FROM requests WHERE at < ?1", [before])
}
