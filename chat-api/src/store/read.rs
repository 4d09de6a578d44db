//! Reads for the API, on the read-only pool. Every look-up by id takes the tenant and finds only its rows.
//!
//! What a caller gets is a page, bounded by bytes ([`ingest::sqlite::page`]). What goes through all rows holds one of them at
//! a time, and of each what its `make` takes.

mod conversations;
mod lists;
mod queue;
mod sources;

pub use conversations::*;
pub use lists::*;
pub use queue::*;
pub use sources::*;

use super::load::{body, parse};
use crate::core::state::{
    Agent, CannedResponse, Challenge, Chatbot, CustomRole, Group, Invitation, Mail, RequestRecord, Session, StoredFile,
    Tag, Tenant, TimerKind, Token, Visitor,
};
use crate::core::visibility::{self, Membership};
use ingest::event::RequestKey;
use ingest::id::{
    AgentId, CannedResponseId, ChallengeId, ChatbotId, ConversationId, FileId, GroupId, InvitationId, MailId, PersonId,
    RoleId, SessionId, TagId, TenantId, TokenId, VisitorId,
};
use ingest::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Params};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use uuid::Uuid;

type Found<T> = rusqlite::Result<Option<T>>;

/// What `make` takes of each row's entity. One entity is held at a time.
fn each<T: DeserializeOwned, R>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    mut make: impl FnMut(T) -> R,
) -> rusqlite::Result<Vec<R>> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map(params, |row| parse(&row.get::<_, String>(0)?).map(&mut make))?.collect()
}

/// Whole entities; for what is few and small.
fn list<T: DeserializeOwned>(connection: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<Vec<T>> {
    each(connection, sql, params, |entity| entity)
}

/// A tenant by id.
///
/// # Errors
/// SQLite's; so for every read here.
pub fn tenant(connection: &Connection, id: TenantId) -> Found<Tenant> {
    body(connection, "SELECT body FROM tenants WHERE id = ?1", [id.bytes()])
}

/// A tenant by its slug.
///
/// # Errors
/// SQLite's.
pub fn tenant_by_slug(connection: &Connection, slug: &str) -> Found<Tenant> {
    body(connection, "SELECT body FROM tenants WHERE slug = ?1", [slug])
}

/// All tenants by slug; for the operator.
///
/// # Errors
/// SQLite's.
pub fn tenants(connection: &Connection) -> rusqlite::Result<Vec<Tenant>> {
    list(connection, "SELECT body FROM tenants ORDER BY slug", [])
}

/// An agent of the tenant.
///
/// # Errors
/// SQLite's.
pub fn agent(connection: &Connection, tenant: TenantId, id: AgentId) -> Found<Agent> {
    body(connection, "SELECT body FROM agents WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// Of all agents of the tenant, by id.
///
/// # Errors
/// SQLite's.
pub fn agents<R>(connection: &Connection, tenant: TenantId, make: impl FnMut(Agent) -> R) -> rusqlite::Result<Vec<R>> {
    each(connection, "SELECT body FROM agents WHERE tenant = ?1 ORDER BY id", [tenant.bytes()], make)
}

/// The living agents with this address, one a tenant: first those who have proven that it's theirs, then the oldest. Who
/// signs up with it later pushes nobody out of the first `limit`.
///
/// # Errors
/// SQLite's.
pub fn agents_by_email(connection: &Connection, email_hmac: &str, limit: usize) -> rusqlite::Result<Vec<Agent>> {
    let sql = "SELECT body FROM agents WHERE email_hmac = ?1
         ORDER BY json_extract(body, '$.address_proven') IS NULL, json_extract(body, '$.created_at'), id LIMIT ?2";
    list(connection, sql, (email_hmac, limit.cast_signed()))
}

/// The living agent of the tenant with this address.
///
/// # Errors
/// SQLite's.
pub fn agent_by_email(connection: &Connection, tenant: TenantId, email_hmac: &str) -> Found<Agent> {
    body(connection, "SELECT body FROM agents WHERE email_hmac = ?1 AND tenant = ?2", (email_hmac, tenant.bytes()))
}

/// Whether any of this address's agents has a password whose hash starts so.
///
/// # Errors
/// SQLite's.
pub fn any_password_starts(connection: &Connection, email_hmac: &str, prefix: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM agents WHERE email_hmac = ?1
         AND substr(json_extract(body, '$.password_hash'), 1, length(?2)) = ?2)";
    connection.prepare_cached(sql)?.query_row((email_hmac, prefix), |row| row.get(0))
}

/// Those of this address's agents whose password has this hash; two at most, more is no other answer.
///
/// # Errors
/// SQLite's.
pub fn agents_by_password(connection: &Connection, email_hmac: &str, phc: &str) -> rusqlite::Result<Vec<Agent>> {
    let sql = "SELECT body FROM agents WHERE email_hmac = ?1 AND json_extract(body, '$.password_hash') = ?2 LIMIT 2";
    list(connection, sql, (email_hmac, phc))
}

/// Those of this address's agents who have a password whose hash doesn't start so, in the order of [`agents_by_email`].
///
/// # Errors
/// SQLite's.
pub fn agents_by_other_passwords(
    connection: &Connection,
    email_hmac: &str,
    prefix: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Agent>> {
    let sql = "SELECT body FROM agents WHERE email_hmac = ?1
         AND substr(json_extract(body, '$.password_hash'), 1, length(?2)) <> ?2
         ORDER BY json_extract(body, '$.address_proven') IS NULL, json_extract(body, '$.created_at'), id LIMIT ?3";
    list(connection, sql, (email_hmac, prefix, limit.cast_signed()))
}

/// A custom role of the tenant.
///
/// # Errors
/// SQLite's.
pub fn role(connection: &Connection, tenant: TenantId, id: RoleId) -> Found<CustomRole> {
    body(connection, "SELECT body FROM roles WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// A challenge.
///
/// # Errors
/// SQLite's.
pub fn challenge(connection: &Connection, id: ChallengeId) -> Found<Challenge> {
    body(connection, "SELECT body FROM challenges WHERE id = ?1", [id.bytes()])
}

/// An agent's newest challenges, the newest first.
///
/// # Errors
/// SQLite's.
pub fn challenges_of(connection: &Connection, agent: AgentId) -> rusqlite::Result<Vec<Challenge>> {
    list(connection, "SELECT body FROM challenges WHERE agent = ?1 ORDER BY id DESC LIMIT 50", [agent.bytes()])
}

/// An invitation.
///
/// # Errors
/// SQLite's.
pub fn invitation(connection: &Connection, id: InvitationId) -> Found<Invitation> {
    body(connection, "SELECT body FROM invitations WHERE id = ?1", [id.bytes()])
}

/// A group of the tenant.
///
/// # Errors
/// SQLite's.
pub fn group(connection: &Connection, tenant: TenantId, id: GroupId) -> Found<Group> {
    body(connection, "SELECT body FROM groups WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// Of all groups of the tenant, by id.
///
/// # Errors
/// SQLite's.
pub fn groups<R>(connection: &Connection, tenant: TenantId, make: impl FnMut(Group) -> R) -> rusqlite::Result<Vec<R>> {
    each(connection, "SELECT body FROM groups WHERE tenant = ?1 ORDER BY id", [tenant.bytes()], make)
}

/// The groups whose conversations an agent works on; see [`visibility::groups_of`].
///
/// # Errors
/// SQLite's.
pub fn groups_of(connection: &Connection, tenant: TenantId, agent: AgentId) -> rusqlite::Result<BTreeSet<GroupId>> {
    let groups = groups(connection, tenant, |group: Group| Membership::of(&group, agent))?;
    Ok(visibility::groups_of(&groups))
}

/// A tag of the tenant.
///
/// # Errors
/// SQLite's.
pub fn tag(connection: &Connection, tenant: TenantId, id: TagId) -> Found<Tag> {
    body(connection, "SELECT body FROM tags WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// A canned response of the tenant.
///
/// # Errors
/// SQLite's.
pub fn canned_response(connection: &Connection, tenant: TenantId, id: CannedResponseId) -> Found<CannedResponse> {
    let sql = "SELECT body FROM canned_responses WHERE id = ?1 AND tenant = ?2";
    body(connection, sql, (id.bytes(), tenant.bytes()))
}

/// What the command under an idempotency key led to.
///
/// # Errors
/// SQLite's.
pub fn request(connection: &Connection, request: &RequestKey) -> Found<RequestRecord> {
    let sql = "SELECT body FROM requests WHERE sender = ?1 AND key = ?2";
    body(connection, sql, (&request.sender, &request.key))
}

/// A signed-in session.
///
/// # Errors
/// SQLite's.
pub fn session(connection: &Connection, id: SessionId) -> Found<Session> {
    body(connection, "SELECT body FROM sessions WHERE id = ?1", [id.bytes()])
}

/// A chatbot of the tenant.
///
/// # Errors
/// SQLite's.
pub fn chatbot(connection: &Connection, tenant: TenantId, id: ChatbotId) -> Found<Chatbot> {
    body(connection, "SELECT body FROM chatbots WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// A living chatbot by its public key.
///
/// # Errors
/// SQLite's.
pub fn chatbot_by_key(connection: &Connection, api_key: &str) -> Found<Chatbot> {
    let found: Option<Chatbot> = body(connection, "SELECT body FROM chatbots WHERE api_key = ?1", [api_key])?;
    Ok(found.filter(|chatbot| chatbot.deleted_at.is_none()))
}

/// Of all chatbots of the tenant, by id.
///
/// # Errors
/// SQLite's.
pub fn chatbots<R>(
    connection: &Connection,
    tenant: TenantId,
    make: impl FnMut(Chatbot) -> R,
) -> rusqlite::Result<Vec<R>> {
    each(connection, "SELECT body FROM chatbots WHERE tenant = ?1 ORDER BY id", [tenant.bytes()], make)
}

/// A `/v0` token by the hex SHA-256 of what was presented.
///
/// # Errors
/// SQLite's.
pub fn token_by_sha256(connection: &Connection, sha256: &str) -> Found<Token> {
    body(connection, "SELECT body FROM tokens WHERE sha256 = ?1", [sha256])
}

/// A `/v0` token of the tenant.
///
/// # Errors
/// SQLite's.
pub fn token(connection: &Connection, tenant: TenantId, id: TokenId) -> Found<Token> {
    body(connection, "SELECT body FROM tokens WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// Of all tokens of the tenant, revoked ones too, by id.
///
/// # Errors
/// SQLite's.
pub fn tokens<R>(connection: &Connection, tenant: TenantId, make: impl FnMut(Token) -> R) -> rusqlite::Result<Vec<R>> {
    each(connection, "SELECT body FROM tokens WHERE tenant = ?1 ORDER BY id", [tenant.bytes()], make)
}

/// A visitor of the tenant.
///
/// # Errors
/// SQLite's.
pub fn visitor(connection: &Connection, tenant: TenantId, id: VisitorId) -> Found<Visitor> {
    body(connection, "SELECT body FROM visitors WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// Of every visitor of the tenant, merged and erased ones too.
///
/// # Errors
/// SQLite's.
pub fn all_visitors<R>(
    connection: &Connection,
    tenant: TenantId,
    make: impl FnMut(Visitor) -> R,
) -> rusqlite::Result<Vec<R>> {
    each(connection, "SELECT body FROM visitors WHERE tenant = ?1 ORDER BY created_at, id", [tenant.bytes()], make)
}

/// Who was merged into a visitor, by id.
///
/// # Errors
/// SQLite's.
pub fn merged_into(connection: &Connection, visitor: VisitorId) -> rusqlite::Result<Vec<VisitorId>> {
    let mut statement = connection.prepare_cached("SELECT id FROM visitors WHERE merged_into = ?1 ORDER BY id")?;
    let rows = statement.query_map([visitor.bytes()], |row| row.get::<_, [u8; 16]>(0))?;
    rows.map(|id| id.map(|id| VisitorId(Uuid::from_bytes(id)))).collect()
}

/// Whether any chatbot of the installation allows this origin.
///
/// # Errors
/// SQLite's.
pub fn any_chatbot_allows(connection: &Connection, origin: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM chatbots, json_each(chatbots.body, '$.allowed_origins') AS allowed
         WHERE allowed.value = ?1 AND json_extract(chatbots.body, '$.deleted_at') IS NULL)";
    connection.prepare_cached(sql)?.query_row([origin], |row| row.get(0))
}

/// Whether an owner of the tenant has proven that the address they gave is theirs.
///
/// # Errors
/// SQLite's.
pub fn has_verified_owner(connection: &Connection, tenant: TenantId) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM agents WHERE tenant = ?1 AND json_extract(body, '$.role') = 'owner'
         AND json_extract(body, '$.address_proven') AND json_extract(body, '$.deleted_at') IS NULL)";
    connection.prepare_cached(sql)?.query_row([tenant.bytes()], |row| row.get(0))
}

/// The mails to a person.
///
/// # Errors
/// SQLite's.
pub fn mails_to(connection: &Connection, tenant: TenantId, person: PersonId) -> rusqlite::Result<Vec<MailId>> {
    let mut statement = connection.prepare_cached("SELECT id FROM mails WHERE person = ?1 AND tenant = ?2")?;
    let rows = statement.query_map((person.bytes(), tenant.bytes()), |row| row.get::<_, [u8; 16]>(0))?;
    rows.map(|id| id.map(|id| MailId(Uuid::from_bytes(id)))).collect()
}

/// The mails to people who were erased.
///
/// # Errors
/// SQLite's.
pub fn mails_to_erased(connection: &Connection) -> rusqlite::Result<Vec<MailId>> {
    let sql = "SELECT mails.id FROM visitors JOIN mails ON mails.person = visitors.id WHERE visitors.erased";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| row.get::<_, [u8; 16]>(0))?;
    rows.map(|id| id.map(|id| MailId(Uuid::from_bytes(id)))).collect()
}

/// A mail.
///
/// # Errors
/// SQLite's.
pub fn mail(connection: &Connection, id: MailId) -> Found<Mail> {
    body(connection, "SELECT body FROM mails WHERE id = ?1", [id.bytes()])
}

/// A file of the tenant.
///
/// # Errors
/// SQLite's.
pub fn file(connection: &Connection, tenant: TenantId, id: FileId) -> Found<StoredFile> {
    body(connection, "SELECT body FROM files WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// The files that were sent in a visitor's conversations.
///
/// # Errors
/// SQLite's.
pub fn files_of(connection: &Connection, tenant: TenantId, visitor: VisitorId) -> rusqlite::Result<Vec<FileId>> {
    let mut statement = connection.prepare_cached("SELECT id FROM files WHERE visitor = ?1 AND tenant = ?2")?;
    let rows = statement.query_map((visitor.bytes(), tenant.bytes()), |row| row.get::<_, [u8; 16]>(0))?;
    rows.map(|id| id.map(|id| FileId(Uuid::from_bytes(id)))).collect()
}

/// The tenant of a file whose bytes are to be kept: an event names it, and its visitor wasn't erased.
///
/// # Errors
/// SQLite's.
pub fn file_keeper(connection: &Connection, id: FileId) -> rusqlite::Result<Option<TenantId>> {
    let sql = "SELECT files.tenant FROM files JOIN visitors ON visitors.id = files.visitor
               WHERE files.id = ?1 AND NOT visitors.erased";
    let tenant = connection.prepare_cached(sql)?.query_row([id.bytes()], |row| row.get(0)).optional()?;
    Ok(tenant.map(|tenant| TenantId(Uuid::from_bytes(tenant))))
}

/// Something that is due.
#[derive(Debug, Clone, Copy)]
pub struct DueTimer {
    /// The tenant.
    pub tenant: TenantId,
    /// What it is about.
    pub conversation: ConversationId,
    /// What is due.
    pub kind: TimerKind,
    /// Since when.
    pub due_at: Timestamp,
}

/// Timers that are due at `now`, earliest first, without the first `skip` of them.
///
/// # Errors
/// SQLite's.
pub fn due_timers(
    connection: &Connection,
    now: Timestamp,
    only: Option<TimerKind>,
    skip: usize,
    limit: usize,
) -> rusqlite::Result<Vec<DueTimer>> {
    let sql = "SELECT tenant, id, kind, due_at FROM timers WHERE due_at <= ?1 AND (?4 IS NULL OR kind = ?4) \
               ORDER BY due_at, id LIMIT ?2 OFFSET ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let only = only.map(TimerKind::as_str);
    let rows = statement.query_map((now.0, limit.cast_signed(), skip.cast_signed(), only), |row| {
        let word: String = row.get(2)?;
        let kind = TimerKind::ALL.into_iter().find(|kind| kind.as_str() == word);
        let unknown = || rusqlite::Error::InvalidColumnType(2, word.clone(), rusqlite::types::Type::Text);
        Ok(DueTimer {
            tenant: TenantId(Uuid::from_bytes(row.get(0)?)),
            conversation: ConversationId(Uuid::from_bytes(row.get(1)?)),
            kind: kind.ok_or_else(unknown)?,
            due_at: Timestamp(row.get(3)?),
        })
    })?;
    rows.collect()
}
