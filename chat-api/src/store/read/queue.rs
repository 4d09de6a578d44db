//! The queue as the API sees it: lines of conversations that wait for the same agents, and places in them.

use super::each;
use crate::core::state::Conversation;
use ingest::id::{ConversationId, GroupId, TenantId};
use rusqlite::Connection;
use uuid::Uuid;

/// The groups whose conversations wait in one line, the serving one first: where deleted groups' conversations have
/// come to it, those too.
fn line_of(
    connection: &Connection,
    tenant: TenantId,
    group: Option<GroupId>,
) -> rusqlite::Result<Vec<Option<[u8; 16]>>> {
    let own = group.map(|id| *id.bytes());
    let sql = "SELECT id, is_default, deleted FROM groups WHERE tenant = ?1 AND (is_default OR deleted OR id = ?2)";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((tenant.bytes(), own), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<([u8; 16], bool, bool)> = rows.collect::<rusqlite::Result<_>>()?;
    let default = rows.iter().find(|(_, is_default, deleted)| *is_default && !deleted).map(|(id, ..)| *id);
    let lives = |id: &[u8; 16]| rows.iter().any(|(row, _, deleted)| row == id && !deleted);
    let serving = own.and_then(|id| if lives(&id) { Some(id) } else { default });
    let mut line = vec![serving];
    if serving == default {
        line.extend(rows.iter().filter(|(_, _, deleted)| *deleted).map(|(id, ..)| Some(*id)));
    }
    Ok(line)
}

/// The group that serves a conversation of `group`: that one while it lives, else the default; none without one.
///
/// # Errors
/// SQLite's.
pub fn serving_group(
    connection: &Connection,
    tenant: TenantId,
    group: Option<GroupId>,
) -> rusqlite::Result<Option<GroupId>> {
    let line = line_of(connection, tenant, group)?;
    Ok(line.first().copied().flatten().map(|id| GroupId(Uuid::from_bytes(id))))
}

/// How many of those that wait for the same agents are served up to and with this rank: the position from 1.
///
/// # Errors
/// SQLite's.
pub fn queue_position(
    connection: &Connection,
    tenant: TenantId,
    group: Option<GroupId>,
    rank: i64,
) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM conversations WHERE tenant = ?1 AND group_id IS ?2 AND queue_rank <= ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let line = line_of(connection, tenant, group)?.into_iter();
    let counts = line.map(|group| statement.query_row((tenant.bytes(), group, rank), |row| row.get::<_, i64>(0)));
    Ok(counts.sum::<rusqlite::Result<i64>>()?.cast_unsigned())
}

/// The first `max` of those that wait for the same agents as a conversation of `group`, first served first.
///
/// # Errors
/// SQLite's.
pub fn queue_line(
    connection: &Connection,
    tenant: TenantId,
    group: Option<GroupId>,
    max: usize,
) -> rusqlite::Result<Vec<ConversationId>> {
    let sql = "SELECT queue_rank, id FROM conversations WHERE tenant = ?1 AND group_id IS ?2 AND queue_rank IS NOT NULL
         ORDER BY queue_rank LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut waiting: Vec<(i64, [u8; 16])> = Vec::new();
    for group in line_of(connection, tenant, group)? {
        let rows =
            statement.query_map((tenant.bytes(), group, max.cast_signed()), |row| Ok((row.get(0)?, row.get(1)?)))?;
        waiting.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    waiting.sort_unstable();
    waiting.truncate(max);
    Ok(waiting.into_iter().map(|(_, id)| ConversationId(Uuid::from_bytes(id))).collect())
}

/// Of the tenant's waiting conversations, longest first.
///
/// # Errors
/// SQLite's.
pub fn queue<R>(
    connection: &Connection,
    tenant: TenantId,
    make: impl FnMut(Conversation) -> R,
) -> rusqlite::Result<Vec<R>> {
    let sql = "SELECT body FROM conversations WHERE tenant = ?1 AND queue_rank IS NOT NULL ORDER BY queue_rank";
    each(connection, sql, [tenant.bytes()], make)
}
