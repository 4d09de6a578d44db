//! Writes what changed in memory, once a batch.

use crate::core::state::{Conversation, Key, MailStatus, State};
use rusqlite::{Connection, ToSql};
use serde::Serialize;

/// Writes every entity in [`State::dirty`] and empties it.
///
/// # Errors
/// SQLite's; the batch must be rolled back and the state discarded.
pub fn save(connection: &Connection, state: &mut State) -> rusqlite::Result<()> {
    for key in std::mem::take(&mut state.dirty) {
        save_one(connection, state, &key)?;
    }
    let mut audit = connection.prepare_cached("INSERT OR IGNORE INTO audit VALUES (?1, ?2, ?3, ?4)")?;
    for entry in std::mem::take(&mut state.audit) {
        audit.execute((entry.tenant.bytes(), entry.at.0, entry.id.bytes(), json(&entry)))?;
    }
    Ok(())
}

fn json(entity: &impl Serialize) -> String {
    serde_json::to_string(entity).expect("an entity's fields all have a JSON form")
}

fn upsert(connection: &Connection, sql: &str, params: &[&dyn ToSql]) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute(params).map(drop)
}

fn save_one(connection: &Connection, state: &State, key: &Key) -> rusqlite::Result<()> {
    match key {
        Key::Tenant(id) => state.tenants.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO tenants VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET body = ?3";
            upsert(connection, sql, &[id.bytes(), &row.slug, &json(row)])
        }),
        Key::Agent(id) => state.agents.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO agents VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET email_hmac = ?3, body = ?4";
            let email_hmac = row.email_hmac.as_ref().filter(|_| row.deleted_at.is_none());
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &email_hmac, &json(row)])
        }),
        Key::Role(id) => state.roles.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO roles VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET name = ?3, body = ?4";
            let name = row.deleted_at.is_none().then(|| row.name.to_lowercase());
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &name, &json(row)])
        }),
        Key::Group(id) => state.groups.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO groups VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET body = ?3";
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &json(row)])
        }),
        Key::Session(id) => state.sessions.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO sessions VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET body = ?2";
            upsert(connection, sql, &[id.bytes(), &json(row)])
        }),
        Key::Challenge(id) => state.challenges.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO challenges VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET body = ?3";
            upsert(connection, sql, &[id.bytes(), row.agent.bytes(), &json(row)])
        }),
        Key::Invitation(id) => state.invitations.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO invitations VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET body = ?3";
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &json(row)])
        }),
        Key::Chatbot(id) => state.chatbots.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO chatbots VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET api_key = ?3, body = ?4";
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &row.api_key, &json(row)])
        }),
        Key::Token(id) => state.tokens.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO tokens VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET body = ?4";
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &row.sha256, &json(row)])
        }),
        Key::Visitor(id) => state.visitors.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO visitors VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET body = ?3";
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &json(row)])
        }),
        Key::Conversation(id) => state.conversations.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO conversations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (id) DO UPDATE SET status = ?4, agent = ?5, queue_rank = ?6, updated_at = ?7, body = ?8";
            let agent = row.agent.as_ref().map(ingest::id::AgentId::bytes);
            let rank = row.queued.map(|queued| queued.rank);
            let (tenant, visitor, status) = (row.tenant.bytes(), row.visitor.bytes(), row.status.as_str());
            upsert(connection, sql, &[id.bytes(), tenant, visitor, &status, &agent, &rank, &row.updated_at.0, &json(row)])?;
            save_threads(connection, row)
        }),
        Key::Mail(id) => state.mails.get(id).map_or(Ok(()), |row| {
            let sql = "INSERT INTO mails VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET status = ?3, body = ?4";
            let status = match row.status {
                MailStatus::Pending => "pending",
                MailStatus::Sent => "sent",
                MailStatus::Failed => "failed",
            };
            upsert(connection, sql, &[id.bytes(), row.tenant.bytes(), &status, &json(row)])
        }),
        Key::Request(sender, key) => state.requests.get(&(sender.clone(), key.clone())).map_or(Ok(()), |row| {
            let sql = "INSERT INTO requests VALUES (?1, ?2, ?3, ?4) ON CONFLICT (sender, key) DO UPDATE SET at = ?3, body = ?4";
            upsert(connection, sql, &[sender, key, &row.at.0, &json(row)])
        }),
    }
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

/// Forgets idempotency keys recorded before `before` (milliseconds).
///
/// # Errors
/// SQLite's.
pub fn prune_requests(connection: &Connection, before: i64) -> rusqlite::Result<usize> {
    connection.execute("DELETE FROM requests WHERE at < ?1", [before])
}
