//! What is kept of persons beside the log and the state, in the transaction of the command: the look-up of addresses, and
//! the end of keys. A rebuild leaves it alone; erasing a person takes it away.

use crate::core::command::{Command, CommandKind as K};
use ingest::event::Event;
use ingest::id::{TenantId, VisitorId};
use ingest::payload::Payload;
use rusqlite::Connection;

/// Makes the table that isn't there.
///
/// # Errors
/// SQLite's.
pub fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS visitor_emails (
             tenant BLOB NOT NULL, email_hmac TEXT NOT NULL, visitor BLOB NOT NULL, PRIMARY KEY (tenant, email_hmac, visitor)
         ) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS visitor_emails_visitor ON visitor_emails (visitor);",
    )
}

/// Keeps up with a command that went through.
///
/// # Errors
/// SQLite's; the batch is rolled back.
pub fn follow(connection: &Connection, command: &Command, events: &[Event]) -> rusqlite::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let address = match &command.kind {
        K::StartSession { visitor, .. } | K::IdentifyVisitor { target: visitor, .. } => {
            visitor.email_hmac.as_deref().map(|hmac| (visitor.visitor_id, hmac))
        }
        K::UpdateVisitor { visitor_id, email_hmac, .. } => email_hmac.as_deref().map(|hmac| (*visitor_id, hmac)),
        K::Import(import) => import.visitor.email_hmac.as_deref().map(|hmac| (import.visitor.visitor_id, hmac)),
        _ => None,
    };
    for event in events {
        match &event.payload {
            Payload::VisitorMerged(merged) => inherit(connection, merged.source_visitor_id, merged.target_visitor_id)?,
            Payload::VisitorErased(erased) => {
                std::iter::once(&erased.visitor_id).chain(&erased.merged).try_for_each(|id| forget(connection, *id))?;
            }
            _ => {}
        }
    }
    match address {
        Some((visitor, hmac)) => set_email(connection, command.tenant, visitor, hmac),
        None => Ok(()),
    }
}

fn set_email(connection: &Connection, tenant: TenantId, visitor: VisitorId, hmac: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM visitor_emails WHERE visitor = ?1")?.execute([visitor.bytes()])?;
    let sql = "INSERT OR IGNORE INTO visitor_emails VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute((tenant.bytes(), hmac, visitor.bytes())).map(drop)
}

/// The source's address leads to the target.
fn inherit(connection: &Connection, source: VisitorId, target: VisitorId) -> rusqlite::Result<()> {
    let sql = "UPDATE OR REPLACE visitor_emails SET visitor = ?2 WHERE visitor = ?1";
    connection.prepare_cached(sql)?.execute((source.bytes(), target.bytes())).map(drop)
}

/// Destroys the person's key: with it goes every text that was sealed under it, wherever it lies.
fn forget(connection: &Connection, visitor: VisitorId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM person_keys WHERE person = ?1")?.execute([visitor.bytes()])?;
    connection.prepare_cached("DELETE FROM visitor_emails WHERE visitor = ?1")?.execute([visitor.bytes()]).map(drop)
}
