//! What is kept of persons beside the log and the state, in the transaction of the command: the look-up of addresses and
//! names, and the end of keys. A rebuild leaves it alone; erasing a person takes it away.

use crate::core::command::{Command, CommandKind as K, LookUp};
use crate::core::state::State;
use ingest::event::Event;
use ingest::id::{TenantId, VisitorId};
use ingest::payload::Payload;
use ingest::time::Timestamp;
use rusqlite::Connection;

/// Makes the tables that aren't there.
///
/// # Errors
/// SQLite's.
pub fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS visitor_emails (
             tenant BLOB NOT NULL, email_hmac TEXT NOT NULL, visitor BLOB NOT NULL, PRIMARY KEY (tenant, email_hmac, visitor)
         ) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS visitor_emails_visitor ON visitor_emails (visitor);
         CREATE TABLE IF NOT EXISTS visitor_names (
             tenant BLOB NOT NULL, name_hmac TEXT NOT NULL, at INTEGER NOT NULL, visitor BLOB NOT NULL,
             PRIMARY KEY (tenant, name_hmac, at, visitor)
         ) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS visitor_names_visitor ON visitor_names (visitor, name_hmac);",
    )
}

/// Keeps up with a command that went through.
///
/// # Errors
/// SQLite's; the batch is rolled back.
pub fn follow(connection: &Connection, command: &Command, events: &[Event]) -> rusqlite::Result<()> {
    let Some(at) = events.first().map(|event| event.occurred_at) else { return Ok(()) };
    let made = |id: VisitorId| {
        events.iter().any(|event| matches!(&event.payload, Payload::VisitorCreated(made) if made.visitor_id == id))
    };
    let said = match &command.kind {
        K::StartSession { visitor, .. } | K::IdentifyVisitor { target: visitor, .. } => {
            Some((visitor.visitor_id, &visitor.look_up))
        }
        K::UpdateVisitor { visitor_id, look_up, .. } => Some((*visitor_id, look_up)),
        K::Import(import) => Some((import.visitor.visitor_id, &import.visitor.look_up)),
        K::ImportHistory(import) if made(import.visitor.visitor_id) => {
            Some((import.visitor.visitor_id, &import.visitor.look_up))
        }
        _ => None,
    };
    if let K::ImportHistory(import) = &command.kind {
        // The visitor's own words last: they stay when others are merged into them.
        for visitor in import.merged.iter().filter(|visitor| made(visitor.visitor_id)) {
            set(connection, command.tenant, visitor.visitor_id, &visitor.look_up, at)?;
        }
    }
    for event in events {
        if let Payload::VisitorMerged(merged) = &event.payload {
            inherit(connection, merged.source_visitor_id, merged.target_visitor_id)?;
        }
    }
    match said {
        Some((visitor, look_up)) => set(connection, command.tenant, visitor, look_up, at),
        None => Ok(()),
    }
}

/// Keeps by what a visitor is looked up from `at` on.
///
/// # Errors
/// SQLite's.
pub fn set(
    connection: &Connection,
    tenant: TenantId,
    visitor: VisitorId,
    look_up: &LookUp,
    at: Timestamp,
) -> rusqlite::Result<()> {
    if let Some(hmac) = &look_up.email_hmac {
        set_email(connection, tenant, visitor, hmac)?;
    }
    match &look_up.name_hmacs {
        Some(hmacs) => set_name(connection, tenant, visitor, hmacs, at),
        None => Ok(()),
    }
}

fn set_email(connection: &Connection, tenant: TenantId, visitor: VisitorId, hmac: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM visitor_emails WHERE visitor = ?1")?.execute([visitor.bytes()])?;
    let sql = "INSERT OR IGNORE INTO visitor_emails VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute((tenant.bytes(), hmac, visitor.bytes())).map(drop)
}

fn set_name(
    connection: &Connection,
    tenant: TenantId,
    visitor: VisitorId,
    hmacs: &[String],
    at: Timestamp,
) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM visitor_names WHERE visitor = ?1")?.execute([visitor.bytes()])?;
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO visitor_names VALUES (?1, ?2, ?3, ?4)")?;
    hmacs.iter().try_for_each(|hmac| insert.execute((tenant.bytes(), hmac, at.0, visitor.bytes())).map(drop))
}

/// The source's address and name lead to the target.
fn inherit(connection: &Connection, source: VisitorId, target: VisitorId) -> rusqlite::Result<()> {
    for table in ["visitor_emails", "visitor_names"] {
        let sql = format!("UPDATE OR REPLACE {table} SET visitor = ?2 WHERE visitor = ?1");
        connection.prepare_cached(&sql)?.execute((source.bytes(), target.bytes()))?;
    }
    Ok(())
}

/// Destroys the keys of a person whom `command` erases, and of those who were merged into them. Whether they were erased
/// before doesn't matter: no key of theirs may be there after.
///
/// # Errors
/// SQLite's; the batch is rolled back.
pub fn erase(connection: &Connection, state: &State, command: &Command) -> rusqlite::Result<()> {
    let K::EraseVisitor { visitor_id } = command.kind else { return Ok(()) };
    let merged = state.merged_into(command.tenant, visitor_id);
    std::iter::once(visitor_id).chain(merged).try_for_each(|id| forget(connection, id))
}

/// Destroys the person's key: with it goes every text that was sealed under it, wherever it lies.
fn forget(connection: &Connection, visitor: VisitorId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM person_keys WHERE person = ?1")?.execute([visitor.bytes()])?;
    connection.prepare_cached("DELETE FROM visitor_names WHERE visitor = ?1")?.execute([visitor.bytes()])?;
    connection.prepare_cached("DELETE FROM visitor_emails WHERE visitor = ?1")?.execute([visitor.bytes()]).map(drop)
}
