//! How a credential becomes a caller. Everything a caller may touch follows from the fields here.
//!
//! An agent's token is believed only as far as its session is open: whatever changes what the agent may do, or how they
//! sign in, ends every earlier session, so the next request with an old token is refused. Sockets use the same functions
//! as routes.

use super::scopes::{self, Right, Scopes};
use super::tokens;
use super::tokens::VisitorSession;
use crate::app::App;
use crate::core::grants::Holder;
use crate::core::state::{Chatbot, Conversation};
use crate::core::visibility::Visible;
use crate::limits::{BucketKey, Quota};
use crate::store::read;
use crate::view::Audience;
use axum::http::HeaderMap;
use ingest::event::Actor;
use ingest::id::{AgentId, ChatbotId, ConversationId, RoleId, SessionId, TenantId, VisitorId};
use ingest::payload::{Permission, PermissionSet, Role};
use ingest::time::Timestamp;
use sql::Readable;

/// A signed-in agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCaller {
    /// Where they work.
    pub tenant: TenantId,
    /// Who.
    pub agent: AgentId,
    /// The built-in role; for show. What counts is `permissions`.
    pub role: Role,
    /// The custom role, if they have one.
    pub custom_role: Option<RoleId>,
    /// What they may do, as of now.
    pub permissions: PermissionSet,
    /// The conversations that they see, as of now.
    pub visible: Visible,
    /// The session they signed in with.
    pub session: SessionId,
    /// When the presented token ends.
    pub expires_at: Timestamp,
}

impl AgentCaller {
    /// For commands.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Agent(self.agent)
    }

    /// Whether they may do something.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.has(permission)
    }

    /// Whether a conversation is theirs to see.
    #[must_use]
    pub fn may_see(&self, chat: &Conversation) -> bool {
        chat.tenant == self.tenant && self.visible.covers_chat(chat)
    }

    /// Whether an agent's address, telephone number and exceptions are for them: one's own, and for who manages agents.
    #[must_use]
    pub fn sees_contacts_of(&self, agent: AgentId) -> bool {
        self.agent == agent || self.may(Permission::AgentsWrite)
    }

    /// How a conversation is shown to them.
    #[must_use]
    pub fn audience_of(&self, chat: &Conversation) -> Audience {
        Audience::Agent { contacts: chat.agent.is_some_and(|agent| self.sees_contacts_of(agent)) }
    }

    /// What they hold who give something away.
    #[must_use]
    pub fn holder(&self) -> Holder<'_> {
        Holder { permissions: self.permissions, visible: &self.visible }
    }

    /// Whose idempotency keys these are.
    #[must_use]
    pub fn sender(&self) -> String {
        format!("agent:{}", self.agent)
    }
}

/// A visitor with a session token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisitorCaller {
    /// The tenant of the chatbot.
    pub tenant: TenantId,
    /// Whose the conversation is: who the token is for, or whom they were merged into.
    pub visitor: VisitorId,
    /// Who the token is for.
    pub subject: VisitorId,
    /// Who they were in this browser until they were identified: what was sent then may come again now.
    pub before: Option<VisitorId>,
    /// The one conversation the token is for.
    pub conversation: ConversationId,
    /// The chatbot it came through.
    pub chatbot: ChatbotId,
    /// May read, but not write.
    pub blocked: bool,
    /// When the presented token was made.
    pub issued_at: Timestamp,
    /// When the presented token ends.
    pub expires_at: Timestamp,
}

impl VisitorCaller {
    /// The token was for an anonymous visitor who was identified since. Whoever holds it was never vouched for: it reads
    /// the one conversation that it was for until that ends, and that's all. It isn't renewed and opens no socket; what it
    /// sends is sent as the anonymous visitor, whose conversation it isn't any more.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.subject != self.visitor
    }

    /// Whether this token reads a conversation.
    #[must_use]
    pub fn may_see(&self, chat: &Conversation) -> bool {
        (chat.tenant, chat.visitor) == (self.tenant, self.visitor)
            && (!self.is_limited() || chat.id == self.conversation && !chat.has_ended_since(self.issued_at))
    }

    /// For commands.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Visitor(self.subject)
    }

    /// Whose idempotency keys these are.
    #[must_use]
    pub fn sender(&self) -> String {
        sender_of(self.subject)
    }

    /// Whose they were until the visitor was identified.
    #[must_use]
    pub fn sender_before(&self) -> Option<String> {
        self.before.map(sender_of)
    }

    /// For tokens that follow this one: of the same person, for one of their conversations.
    #[must_use]
    pub fn session_in(&self, conversation: ConversationId) -> VisitorSession {
        let VisitorCaller { tenant, subject, before, chatbot, .. } = *self;
        VisitorSession { tenant, visitor: subject, before, conversation, chatbot }
    }
}

fn sender_of(visitor: VisitorId) -> String {
    format!("visitor:{visitor}")
}

/// A holder of a `/v0` token, or an agent who may read reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCaller {
    /// The tenant of the token.
    pub tenant: TenantId,
    /// What it may do.
    pub scopes: Scopes,
    /// How often it may call, and whose bucket that is.
    pub rate: Option<(BucketKey, u32)>,
    /// What is left of that, after this call.
    pub quota: Option<Quota>,
    /// The token, for idempotency keys.
    pub key: BucketKey,
    /// Whose access token it is, if it's an agent's.
    pub agent: Option<AgentId>,
}

impl TokenCaller {
    /// Whether it may do something.
    #[must_use]
    pub fn may(&self, right: Right<'_>) -> bool {
        self.scopes.may(right)
    }

    /// The tables that it reads.
    #[must_use]
    pub fn readable(&self) -> Readable {
        self.scopes.readable()
    }

    /// For commands. What a token does, the tenant's own programs do.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.agent.map_or(Actor::System, Actor::Agent)
    }

    /// Whose idempotency keys these are.
    #[must_use]
    pub fn sender(&self) -> String {
        self.agent.map_or_else(|| format!("token:{}", self.key), |agent| format!("agent:{agent}"))
    }
}

/// Whoever holds a bearer token of a socket or a chat route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A signed-in agent.
    Agent(AgentCaller),
    /// A visitor with a session token.
    Visitor(VisitorCaller),
}

/// A credential that isn't good.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Not ours, expired, signed out, or its owner is gone. Sign in again.
    #[error("the token is invalid or expired")]
    Invalid,
    /// It couldn't be checked. Retry later.
    #[error("failed to check a token: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// An agent's access token.
///
/// # Errors
/// See [`AuthError`].
pub fn agent(app: &App, token: &str) -> Result<AgentCaller, AuthError> {
    let claims = tokens::open_agent(&app.key_file, token).ok_or(AuthError::Invalid)?;
    agent_in_session(app, claims.tenant, claims.sub, claims.session, Timestamp(claims.exp * 1_000))
}

/// An agent whose token was checked before, with the rights of now.
///
/// # Errors
/// See [`AuthError`].
pub fn agent_now(app: &App, caller: &AgentCaller) -> Result<AgentCaller, AuthError> {
    agent_in_session(app, caller.tenant, caller.agent, caller.session, caller.expires_at)
}

fn agent_in_session(
    app: &App,
    tenant: TenantId,
    id: AgentId,
    session: SessionId,
    expires_at: Timestamp,
) -> Result<AgentCaller, AuthError> {
    let (session, agent, role, groups) = app.pool.read(|connection| {
        let agent = read::agent(connection, tenant, id)?;
        let role = agent.as_ref().and_then(|agent| agent.custom_role);
        let role = role.map(|id| read::role(connection, tenant, id)).transpose()?.flatten();
        let groups = read::groups_of(connection, tenant, id)?;
        Ok((read::session(connection, session)?, agent, role, groups))
    })?;
    let now = Timestamp::now();
    match (session, agent) {
        (Some(session), Some(agent)) if session.is_open(&agent, role.as_ref(), now) => {
            let permissions = agent.permissions(role.as_ref());
            Ok(AgentCaller {
                tenant,
                agent: id,
                role: agent.role,
                custom_role: agent.custom_role,
                permissions,
                visible: Visible::of(permissions, id, || groups),
                session: session.id,
                expires_at,
            })
        }
        _ => Err(AuthError::Invalid),
    }
}

/// A visitor's session token, and the chatbot it's of. The chatbot must be there, and the conversation still be that
/// visitor's, or of the one they were merged into.
///
/// # Errors
/// See [`AuthError`].
pub fn visitor(app: &App, token: &str) -> Result<(VisitorCaller, Chatbot), AuthError> {
    let claims = app.visitor_tokens.open(&app.key_file, token).ok_or(AuthError::Invalid)?;
    let said = VisitorCaller {
        tenant: claims.tenant,
        visitor: claims.sub,
        subject: claims.sub,
        before: claims.before,
        conversation: claims.conversation,
        chatbot: claims.chatbot,
        blocked: false,
        issued_at: Timestamp(claims.iat * 1_000),
        expires_at: Timestamp(claims.exp * 1_000),
    };
    visitor_now(app, &said)
}

/// A visitor whose token was checked before, as who they are now. Of one who was identified since, while the conversation
/// it was for hasn't ended.
///
/// # Errors
/// See [`AuthError`].
pub fn visitor_now(app: &App, caller: &VisitorCaller) -> Result<(VisitorCaller, Chatbot), AuthError> {
    let (place, owner, chatbot) = app.pool.read(|connection| {
        let subject = read::visitor(connection, caller.tenant, caller.subject)?;
        let owner = match subject.as_ref().and_then(|subject| subject.merged_into) {
            Some(target) => read::visitor(connection, caller.tenant, target)?,
            None => subject,
        };
        let place = read::place(connection, caller.tenant, caller.conversation)?;
        Ok((place, owner, read::chatbot(connection, caller.tenant, caller.chatbot)?))
    })?;
    let chatbot = chatbot.filter(|chatbot| chatbot.deleted_at.is_none()).ok_or(AuthError::Invalid)?;
    let owner = owner.filter(|owner| place.is_some_and(|place| place.visitor == owner.id) && owner.erased_at.is_none());
    let owner = owner.ok_or(AuthError::Invalid)?;
    let caller = VisitorCaller { visitor: owner.id, blocked: owner.blocked_at.is_some(), ..caller.clone() };
    if caller.is_limited() {
        let chat = app.pool.read(|connection| read::conversation(connection, caller.tenant, caller.conversation))?;
        if !chat.is_some_and(|chat| caller.may_see(&chat)) {
            return Err(AuthError::Invalid);
        }
    }
    Ok((caller, chatbot))
}

/// Either: what a socket's first frame carries.
///
/// # Errors
/// See [`AuthError`].
pub fn chat(app: &App, token: &str) -> Result<Caller, AuthError> {
    if token.starts_with(tokens::VISITOR_PREFIX) {
        visitor(app, token).map(|(visitor, _)| Caller::Visitor(visitor))
    } else {
        agent(app, token).map(Caller::Agent)
    }
}

/// A `/v0` token, a JWT that the tenant signed, or the access token of an agent who may see the tenant's reports.
///
/// # Errors
/// See [`AuthError`].
pub fn reports(app: &App, token: &str) -> Result<TokenCaller, AuthError> {
    let sha256 = tokens::sha256_hex(token);
    let found = app.pool.read(|connection| read::token_by_sha256(connection, &sha256))?;
    if let Some(found) = found {
        let now = Timestamp::now();
        return if found.revoked_at.is_some() || found.expires_at.is_some_and(|ends| ends <= now) {
            Err(AuthError::Invalid)
        } else {
            let key = BucketKey::text(&sha256);
            let rate = found.limits.map(|limits| (key, limits.rps));
            let scopes = Scopes::of(&found.scopes);
            Ok(TokenCaller { tenant: found.tenant, scopes, rate, quota: None, key, agent: None })
        };
    }
    if let Some(claims) = tokens::open_report(&app.key_file, token) {
        return signed_by_tenant(app, claims, &sha256);
    }
    let caller = agent(app, token)?;
    if !caller.may(Permission::ReportsRead) {
        return Err(AuthError::Invalid);
    }
    let scopes = Scopes::of_agent(caller.permissions);
    let key = BucketKey::text(&sha256);
    Ok(TokenCaller { tenant: caller.tenant, scopes, rate: None, quota: None, key, agent: Some(caller.agent) })
}

/// A JWT says itself what it may do; one that doesn't, or not in a way that can be understood, may nothing.
fn signed_by_tenant(app: &App, claims: tokens::ReportClaims, sha256: &str) -> Result<TokenCaller, AuthError> {
    let tenant = claims.workspace_id;
    let known = app.pool.read(|connection| read::tenant(connection, tenant))?.is_some();
    if !known || claims.scopes.is_empty() || scopes::check(&claims.scopes).is_err() {
        return Err(AuthError::Invalid);
    }
    let key = BucketKey::text(sha256);
    let rate = claims.limits.map(|limits| (key, limits.rps));
    Ok(TokenCaller { tenant, scopes: Scopes::of(&claims.scopes), rate, quota: None, key, agent: None })
}

/// Why someone isn't the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorRefusal {
    /// No operator token is configured: these routes aren't there.
    Hidden,
    /// Not the operator's token.
    Invalid,
}

/// Lets the operator of the installation through; what spans tenants is theirs.
///
/// # Errors
/// See [`OperatorRefusal`].
pub fn operator(app: &App, headers: &HeaderMap) -> Result<(), OperatorRefusal> {
    let token = app.config.operator_token.as_deref().filter(|token| !token.is_empty());
    let token = token.ok_or(OperatorRefusal::Hidden)?;
    let presented = tokens::bearer(headers).ok_or(OperatorRefusal::Invalid)?;
    if tokens::same_secret(&app.key_file, presented, token) { Ok(()) } else { Err(OperatorRefusal::Invalid) }
}

/// Whether a browser at `origin` may use this chatbot: an exact match, never a pattern.
///
/// # Errors
/// SQLite's.
pub fn chatbot_allows(app: &App, caller: &VisitorCaller, origin: &str) -> rusqlite::Result<bool> {
    let chatbot = app.pool.read(|connection| read::chatbot(connection, caller.tenant, caller.chatbot))?;
    Ok(chatbot.is_some_and(|chatbot| chatbot.allowed_origins.iter().any(|allowed| allowed == origin)))
}

/// Whether a browser at `origin` may use the agents' API: the server's own page, or one of the configured list.
#[must_use]
pub fn config_allows(app: &App, origin: &str) -> bool {
    let own = app.config.public_url.trim_end_matches('/');
    own == origin || app.config.allowed_origins.iter().any(|allowed| allowed == origin)
}
