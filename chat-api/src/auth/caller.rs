//! How a credential becomes a caller. Everything a caller may touch follows from the fields here.
//!
//! An agent's token is believed only as far as its session is open: whatever changes what the agent may do, or how they
//! sign in, ends every earlier session, so the next request with an old token is refused. Sockets use the same functions
//! as routes.

use super::tokens;
use crate::app::App;
use crate::core::state::Conversation;
use crate::store::read;
use axum::http::HeaderMap;
use ingest::event::Actor;
use ingest::id::{AgentId, ChatbotId, ConversationId, GroupId, RoleId, SessionId, TenantId, VisitorId};
use ingest::payload::{Permission, PermissionSet, Role, Scope};
use ingest::time::Timestamp;
use std::collections::BTreeSet;

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
    /// The groups they are in.
    pub groups: BTreeSet<GroupId>,
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

    /// Whether a conversation is theirs to see: all of the tenant, or those of own groups, of no group, and own ones.
    #[must_use]
    pub fn may_see(&self, chat: &Conversation) -> bool {
        chat.tenant == self.tenant
            && (self.may(Permission::ConversationsReadAll)
                || self.may(Permission::ConversationsRead)
                    && (chat.agent == Some(self.agent) || chat.group.is_none_or(|group| self.groups.contains(&group))))
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
    /// Who.
    pub visitor: VisitorId,
    /// The one conversation the token is for.
    pub conversation: ConversationId,
    /// The chatbot it came through.
    pub chatbot: ChatbotId,
    /// When the presented token ends.
    pub expires_at: Timestamp,
}

impl VisitorCaller {
    /// For commands.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Visitor(self.visitor)
    }

    /// Whose idempotency keys these are.
    #[must_use]
    pub fn sender(&self) -> String {
        format!("visitor:{}", self.visitor)
    }
}

/// A holder of a `/v0` token, or an agent who may read reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCaller {
    /// The tenant of the token.
    pub tenant: TenantId,
    /// What it may read; empty reads everything.
    pub scopes: Vec<Scope>,
}

impl TokenCaller {
    /// Whether it may do `kind` (`PIPES:READ`, `DATASOURCES:READ`) with `resource`.
    #[must_use]
    pub fn may(&self, kind: &str, resource: &str) -> bool {
        let grants = |scope: &Scope| scope.r#type == kind && (scope.resource == "*" || scope.resource == resource);
        self.scopes.is_empty() || self.scopes.iter().any(grants)
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
    let (session, agent, role, groups) = app.pool.read(|connection| {
        let agent = read::agent(connection, claims.tenant, claims.sub)?;
        let role = agent.as_ref().and_then(|agent| agent.custom_role);
        let role = role.map(|id| read::role(connection, claims.tenant, id)).transpose()?.flatten();
        let groups = read::groups_of(connection, claims.tenant, claims.sub)?;
        Ok((read::session(connection, claims.session)?, agent, role, groups))
    })?;
    let now = Timestamp::now();
    match (session, agent) {
        (Some(session), Some(agent)) if session.is_open(&agent, role.as_ref(), now) => Ok(AgentCaller {
            tenant: claims.tenant,
            agent: claims.sub,
            role: agent.role,
            custom_role: agent.custom_role,
            permissions: agent.permissions(role.as_ref()),
            groups,
            session: session.id,
            expires_at: Timestamp(claims.exp * 1_000),
        }),
        _ => Err(AuthError::Invalid),
    }
}

/// A visitor's session token. The conversation must still be that visitor's.
///
/// # Errors
/// See [`AuthError`].
pub fn visitor(app: &App, token: &str) -> Result<VisitorCaller, AuthError> {
    let claims = tokens::open_visitor(&app.key_file, token).ok_or(AuthError::Invalid)?;
    let chat = app.pool.read(|connection| read::conversation(connection, claims.tenant, claims.conversation))?;
    if chat.is_none_or(|chat| chat.visitor != claims.sub) {
        return Err(AuthError::Invalid);
    }
    Ok(VisitorCaller {
        tenant: claims.tenant,
        visitor: claims.sub,
        conversation: claims.conversation,
        chatbot: claims.chatbot,
        expires_at: Timestamp(claims.exp * 1_000),
    })
}

/// Either: what a socket's first frame carries.
///
/// # Errors
/// See [`AuthError`].
pub fn chat(app: &App, token: &str) -> Result<Caller, AuthError> {
    if token.starts_with(tokens::VISITOR_PREFIX) {
        visitor(app, token).map(Caller::Visitor)
    } else {
        agent(app, token).map(Caller::Agent)
    }
}

/// A `/v0` token, or the access token of an agent who may see the tenant's reports.
///
/// # Errors
/// See [`AuthError`].
pub fn reports(app: &App, token: &str) -> Result<TokenCaller, AuthError> {
    let sha256 = tokens::sha256_hex(token);
    let found = app.pool.read(|connection| read::token_by_sha256(connection, &sha256))?;
    if let Some(found) = found {
        let now = Timestamp::now();
        return if found.expires_at.is_some_and(|ends| ends <= now) {
            Err(AuthError::Invalid)
        } else {
            Ok(TokenCaller { tenant: found.tenant, scopes: found.scopes })
        };
    }
    let caller = agent(app, token)?;
    if !caller.may(Permission::ReportsRead) {
        return Err(AuthError::Invalid);
    }
    Ok(TokenCaller { tenant: caller.tenant, scopes: Vec::new() })
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
