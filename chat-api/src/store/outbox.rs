//! Which mails are due: an index over those without an outcome, with what their delivery must remember. Delivery writes it
//! itself; a rebuild makes it anew, and then every mail is due at once.
//!
//! Looks are fair: tenants one after the other, some mails of each, so that a tenant with many keeps nobody's away.

use super::load::parse;
use crate::core::state::{Mail, MailStatus};
use ingest::id::{MailId, TenantId};
use ingest::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};
use uuid::Uuid;

/// Mails of one look.
const LOOK_MAX: usize = 500;
/// Of them, of one tenant: more than are handed over at once, so that some are left when these are under way.
const TENANT_MAX: usize = 32;
/// Tenants of one look, those included that have nothing due.
const TENANTS_MAX: usize = 1_000;

/// What is remembered between two tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// Tries that reached the server, or failed to.
    pub attempts: u32,
    /// Those of them after which nobody knows whether the server took it.
    pub unknown: u32,
    /// It has what it takes of its address's and its tenant's budget.
    pub granted: bool,
}

/// A mail that is due.
#[derive(Debug, Clone, PartialEq)]
pub struct DueMail {
    /// The mail.
    pub mail: Mail,
    /// Since when.
    pub due_at: Timestamp,
    /// What was tried before.
    pub tried: Tried,
}

/// What a look has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Some mails of each tenant that it came to.
    pub mails: Vec<DueMail>,
    /// Where the next look goes on; `None`: at the beginning.
    pub next: Option<TenantId>,
    /// There may be more than these.
    pub more: bool,
}

pub(super) fn create_table(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS mails_due (
             id BLOB PRIMARY KEY, tenant BLOB NOT NULL, urgent INTEGER NOT NULL, due_at INTEGER NOT NULL,
             attempts INTEGER NOT NULL, unknown INTEGER NOT NULL, granted INTEGER NOT NULL
         ) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS mails_due_turn ON mails_due (urgent, tenant, due_at, id);",
    )?;
    // Those of a database from before there was this table.
    let mut pending = connection
        .prepare("SELECT body FROM mails WHERE status = 'pending' AND id NOT IN (SELECT id FROM mails_due)")?;
    let mails = pending.query_map([], |row| parse::<Mail>(&row.get::<_, String>(0)?))?;
    for mail in mails {
        follow(connection, &mail?)?;
    }
    Ok(())
}

/// Takes a change of a mail in.
pub(super) fn follow(connection: &Connection, mail: &Mail) -> rusqlite::Result<()> {
    match mail.status {
        MailStatus::Pending => {
            let sql = "INSERT OR IGNORE INTO mails_due VALUES (?1, ?2, ?3, ?4, 0, 0, FALSE)";
            let row = (mail.id.bytes(), mail.tenant.bytes(), mail.kind.is_urgent(), mail.requested_at.0);
            connection.prepare_cached(sql)?.execute(row).map(drop)
        }
        MailStatus::Sent | MailStatus::Failed => {
            connection.prepare_cached("DELETE FROM mails_due WHERE id = ?1")?.execute([mail.id.bytes()]).map(drop)
        }
    }
}

/// Mails that are due now: those that somebody waits for (`MailKind::is_urgent`), or the others. `after`: where the last
/// look ended.
///
/// # Errors
/// SQLite's.
pub fn due(connection: &Connection, urgent: bool, after: Option<TenantId>, now: Timestamp) -> rusqlite::Result<Look> {
    let sql = "SELECT tenant FROM mails_due WHERE urgent = ?1 AND tenant > ?2 ORDER BY tenant LIMIT 1";
    let mut tenants = connection.prepare_cached(sql)?;
    let mut place: Vec<u8> = after.map_or_else(Vec::new, |tenant| tenant.bytes().to_vec());
    let mut look = Look { mails: Vec::new(), next: None, more: after.is_some() };
    for _ in 0..TENANTS_MAX {
        let tenant: Option<[u8; 16]> = tenants.query_row((urgent, &place), |row| row.get(0)).optional()?;
        let Some(tenant) = tenant else { return Ok(look) };
        let found = of_tenant(connection, urgent, &tenant, now)?;
        look.more |= found.len() == TENANT_MAX;
        look.mails.extend(found);
        look.next = Some(TenantId(Uuid::from_bytes(tenant)));
        place = tenant.to_vec();
        if look.mails.len() >= LOOK_MAX {
            break;
        }
    }
    look.more = true;
    Ok(look)
}

fn of_tenant(
    connection: &Connection,
    urgent: bool,
    tenant: &[u8; 16],
    now: Timestamp,
) -> rusqlite::Result<Vec<DueMail>> {
    let sql = "SELECT m.body, d.due_at, d.attempts, d.unknown, d.granted
         FROM mails_due d JOIN mails m ON m.id = d.id
         WHERE d.urgent = ?1 AND d.tenant = ?2 AND d.due_at <= ?3 ORDER BY d.due_at, d.id LIMIT ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((urgent, tenant, now.0, TENANT_MAX.cast_signed()), |row| {
        let tried = Tried { attempts: row.get(2)?, unknown: row.get(3)?, granted: row.get(4)? };
        Ok(DueMail { mail: parse(&row.get::<_, String>(0)?)?, due_at: Timestamp(row.get(1)?), tried })
    })?;
    rows.collect()
}

/// Keeps a mail until it's due again; one that has an outcome by now is left alone.
///
/// # Errors
/// SQLite's.
pub fn put_off(connection: &Connection, mail: MailId, tried: Tried, due_at: Timestamp) -> rusqlite::Result<()> {
    let sql = "UPDATE mails_due SET due_at = ?2, attempts = ?3, unknown = ?4, granted = ?5 WHERE id = ?1";
    let Tried { attempts, unknown, granted } = tried;
    connection.prepare_cached(sql)?.execute((mail.bytes(), due_at.0, attempts, unknown, granted)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::create_tables;
    use ingest::id::PersonId;
    use ingest::payload::MailKind;
    use std::collections::HashSet;

    fn mail(tenant: u32, number: u32, kind: MailKind) -> Mail {
        Mail {
            id: MailId::derived(&[&tenant.to_le_bytes(), &number.to_le_bytes()]),
            tenant: TenantId::derived(&[&tenant.to_le_bytes()]),
            kind,
            person: PersonId::derived(&[]),
            about: None,
            challenge: None,
            invitation: None,
            readable_id: String::new(),
            requested_at: Timestamp(i64::from(number)),
            status: MailStatus::Pending,
        }
    }

    fn save(connection: &Connection, mail: &Mail) {
        let sql = "INSERT OR REPLACE INTO mails VALUES (?1, ?2, ?3, 'pending', ?4)";
        let body = serde_json::to_string(mail).expect("JSON");
        connection.execute(sql, (mail.id.bytes(), mail.tenant.bytes(), mail.person.bytes(), body)).expect("saved");
        follow(connection, mail).expect("followed");
    }

    fn database() -> Connection {
        let connection = Connection::open_in_memory().expect("SQLite");
        create_tables(&connection).expect("tables");
        connection
    }

    /// A thousand mails that wait, and thousands that are due, of one tenant, and every other tenant is looked at.
    #[test]
    fn a_tenant_with_many_mails_keeps_nobodys_away() {
        let connection = database();
        let now = Timestamp(100_000);
        for number in 0..3_000 {
            let mail = mail(0, number, MailKind::Welcome);
            save(&connection, &mail);
            if number < 1_000 {
                let tried = Tried { attempts: 1, unknown: 0, granted: true };
                put_off(&connection, mail.id, tried, now.plus_ms(1)).expect("put off");
            }
        }
        for tenant in 1..=20 {
            save(&connection, &mail(tenant, 9, MailKind::NewConversation));
            save(&connection, &mail(tenant, 8, MailKind::Otp));
        }
        let look = due(&connection, false, None, now).expect("a look");
        let of = |tenant: u32| {
            let id = TenantId::derived(&[&tenant.to_le_bytes()]);
            look.mails.iter().filter(|found| found.mail.tenant == id).count()
        };
        assert_eq!((of(0), look.more, look.next), (TENANT_MAX, true, look.next));
        assert!((1..=20).all(|tenant| of(tenant) == 1));
        assert!(look.mails.iter().all(|found| found.tried.attempts == 0), "what was put off isn't due");
        let urgent = due(&connection, true, None, now).expect("a look");
        assert_eq!((urgent.mails.len(), urgent.more), (20, false));
    }

    /// More tenants than a look has room for: looks go round, and each tenant is in one.
    #[test]
    fn looks_go_round() {
        let connection = database();
        for tenant in 0..1_200 {
            save(&connection, &mail(tenant, 1, MailKind::Welcome));
        }
        let mut seen = HashSet::new();
        let mut after = None;
        for _ in 0..4 {
            let look = due(&connection, false, after, Timestamp(2)).expect("a look");
            assert!(look.mails.len() <= LOOK_MAX && look.more);
            seen.extend(look.mails.into_iter().map(|found| found.mail.id));
            after = look.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((seen.len(), after), (1_200, None));
    }

    /// Also those from before there was the table; and what has an outcome is gone.
    #[test]
    fn a_database_from_before_gets_its_rows() {
        let connection = database();
        let mut old = mail(1, 1, MailKind::Invitation);
        save(&connection, &old);
        connection.execute("DELETE FROM mails_due", []).expect("emptied");
        create_tables(&connection).expect("tables");
        let found = due(&connection, true, None, Timestamp(2)).expect("a look").mails;
        assert_eq!(found.into_iter().map(|found| found.mail).collect::<Vec<_>>(), [old.clone()]);
        old.status = MailStatus::Sent;
        follow(&connection, &old).expect("followed");
        assert!(due(&connection, true, None, Timestamp(2)).expect("a look").mails.is_empty());
    }
}
