//! Reads for the API, on the read-only pool. Every look-up by id takes the tenant and finds only its rows.

use super::load::{body, parse};
use crate::core::state::{
    Agent, AuditEntry, Challenge, Chatbot, Conversation, CustomRole, Group, Invitation, Mail, Session, Status, Tenant,
    Token, Visitor,
};
use ingest::id::{
    AgentId, ChallengeId, ChatbotId, ConversationId, GroupId, InvitationId, MailId, RoleId, SessionId, TenantId,
    ThreadId, VisitorId,
};
use rusqlite::{Connection, OptionalExtension as _, Params};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use uuid::Uuid;

type Found<T> = rusqlite::Result<Option<T>>;

fn list<T: DeserializeOwned>(connection: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map(params, |row| parse(&row.get::<_, String>(0)?))?.collect()
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

/// All agents of the tenant, by id.
///
/// # Errors
/// SQLite's.
pub fn agents(connection: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<Agent>> {
    list(connection, "SELECT body FROM agents WHERE tenant = ?1 ORDER BY id", [tenant.bytes()])
}

/// The agents with this address, one a tenant.
///
/// # Errors
/// SQLite's.
pub fn agents_by_email(connection: &Connection, email_hmac: &str) -> rusqlite::Result<Vec<Agent>> {
    list(connection, "SELECT body FROM agents WHERE email_hmac = ?1", [email_hmac])
}

/// A custom role of the tenant.
///
/// # Errors
/// SQLite's.
pub fn role(connection: &Connection, tenant: TenantId, id: RoleId) -> Found<CustomRole> {
    body(connection, "SELECT body FROM roles WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// All custom roles of the tenant, by id.
///
/// # Errors
/// SQLite's.
pub fn roles(connection: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<CustomRole>> {
    list(connection, "SELECT body FROM roles WHERE tenant = ?1 ORDER BY id", [tenant.bytes()])
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

/// The tenant's audit log, newest first, from `before` (exclusive: time and event) on.
///
/// # Errors
/// SQLite's.
pub fn audit(
    connection: &Connection,
    tenant: TenantId,
    before: Option<(i64, Uuid)>,
    limit: usize,
) -> rusqlite::Result<Vec<AuditEntry>> {
    let (at, event) = before.map_or((i64::MAX, [0xff; 16]), |(at, event)| (at, *event.as_bytes()));
    let sql =
        "SELECT body FROM audit WHERE tenant = ?1 AND (at, event) < (?2, ?3) ORDER BY at DESC, event DESC LIMIT ?4";
    list(connection, sql, (tenant.bytes(), at, event, limit.cast_signed()))
}

/// A group of the tenant.
///
/// # Errors
/// SQLite's.
pub fn group(connection: &Connection, tenant: TenantId, id: GroupId) -> Found<Group> {
    body(connection, "SELECT body FROM groups WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// All groups of the tenant, by id.
///
/// # Errors
/// SQLite's.
pub fn groups(connection: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<Group>> {
    list(connection, "SELECT body FROM groups WHERE tenant = ?1 ORDER BY id", [tenant.bytes()])
}

/// The living groups that an agent is in.
///
/// # Errors
/// SQLite's.
pub fn groups_of(connection: &Connection, tenant: TenantId, agent: AgentId) -> rusqlite::Result<BTreeSet<GroupId>> {
    let groups = groups(connection, tenant)?;
    let own = groups.into_iter().filter(|group| group.deleted_at.is_none() && group.members.contains(&agent));
    Ok(own.map(|group| group.id).collect())
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

/// A chatbot by its public key.
///
/// # Errors
/// SQLite's.
pub fn chatbot_by_key(connection: &Connection, api_key: &str) -> Found<Chatbot> {
    body(connection, "SELECT body FROM chatbots WHERE api_key = ?1", [api_key])
}

/// All chatbots of the tenant, by id.
///
/// # Errors
/// SQLite's.
pub fn chatbots(connection: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<Chatbot>> {
    list(connection, "SELECT body FROM chatbots WHERE tenant = ?1 ORDER BY id", [tenant.bytes()])
}

/// A `/v0` token by the hex SHA-256 of what was presented.
///
/// # Errors
/// SQLite's.
pub fn token_by_sha256(connection: &Connection, sha256: &str) -> Found<Token> {
    body(connection, "SELECT body FROM tokens WHERE sha256 = ?1", [sha256])
}

/// All tokens of the tenant, by id.
///
/// # Errors
/// SQLite's.
pub fn tokens(connection: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<Token>> {
    list(connection, "SELECT body FROM tokens WHERE tenant = ?1 ORDER BY id", [tenant.bytes()])
}

/// A visitor of the tenant.
///
/// # Errors
/// SQLite's.
pub fn visitor(connection: &Connection, tenant: TenantId, id: VisitorId) -> Found<Visitor> {
    body(connection, "SELECT body FROM visitors WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// A conversation of the tenant.
///
/// # Errors
/// SQLite's.
pub fn conversation(connection: &Connection, tenant: TenantId, id: ConversationId) -> Found<Conversation> {
    body(connection, "SELECT body FROM conversations WHERE id = ?1 AND tenant = ?2", (id.bytes(), tenant.bytes()))
}

/// A visitor's conversations, newest first.
///
/// # Errors
/// SQLite's.
pub fn conversations_of(connection: &Connection, visitor: VisitorId) -> rusqlite::Result<Vec<Conversation>> {
    let sql = "SELECT body FROM conversations WHERE visitor = ?1 ORDER BY updated_at DESC, id DESC LIMIT 200";
    list(connection, sql, [visitor.bytes()])
}

/// The conversation of a thread, whoever's it is: read it with the tenant next.
///
/// # Errors
/// SQLite's.
pub fn conversation_of_thread(connection: &Connection, thread: ThreadId) -> Found<ConversationId> {
    connection
        .prepare_cached("SELECT conversation FROM threads WHERE id = ?1")?
        .query_row([thread.bytes()], |row| row.get::<_, [u8; 16]>(0))
        .optional()
        .map(|id| id.map(|id| ConversationId(Uuid::from_bytes(id))))
}

/// Whether any chatbot of the installation allows this origin.
///
/// # Errors
/// SQLite's.
pub fn any_chatbot_allows(connection: &Connection, origin: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM chatbots, json_each(chatbots.body, '$.allowed_origins') AS allowed
         WHERE allowed.value = ?1)";
    connection.prepare_cached(sql)?.query_row([origin], |row| row.get(0))
}

/// Conversations of the tenant in one status, newest change first, from `before` (exclusive: time and id) on.
///
/// # Errors
/// SQLite's.
pub fn conversations(
    connection: &Connection,
    tenant: TenantId,
    status: Status,
    before: Option<(i64, ConversationId)>,
    limit: usize,
) -> rusqlite::Result<Vec<Conversation>> {
    let (at, id) = before.map_or((i64::MAX, [0xff; 16]), |(at, id)| (at, *id.bytes()));
    let sql = "SELECT body FROM conversations WHERE tenant = ?1 AND status = ?2 AND (updated_at, id) < (?3, ?4)
         ORDER BY updated_at DESC, id DESC LIMIT ?5";
    list(connection, sql, (tenant.bytes(), status.as_str(), at, id, limit.cast_signed()))
}

/// How many of the tenant's waiting conversations are served up to and with this rank: the position from 1.
///
/// # Errors
/// SQLite's.
pub fn queue_position(connection: &Connection, tenant: TenantId, rank: i64) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM conversations WHERE tenant = ?1 AND queue_rank <= ?2";
    let count = connection.prepare_cached(sql)?.query_row((tenant.bytes(), rank), |row| row.get::<_, i64>(0))?;
    Ok(count.cast_unsigned())
}

/// The tenant's waiting conversations, longest first.
///
/// # Errors
/// SQLite's.
pub fn queue(connection: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<Conversation>> {
    let sql = "SELECT body FROM conversations WHERE tenant = ?1 AND queue_rank IS NOT NULL ORDER BY queue_rank";
    list(connection, sql, [tenant.bytes()])
}

/// Mails that wait to be sent, oldest first.
///
/// # Errors
/// SQLite's.
pub fn pending_mails(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<Mail>> {
    list(connection, "SELECT body FROM mails WHERE status = 'pending' ORDER BY id LIMIT ?1", [limit.cast_signed()])
}

/// A mail.
///
/// # Errors
/// SQLite's.
pub fn mail(connection: &Connection, id: MailId) -> Found<Mail> {
    body(connection, "SELECT body FROM mails WHERE id = ?1", [id.bytes()])
}
