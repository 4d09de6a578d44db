//! Who holds a socket: what `auth` found out, as far as sockets need it.

use super::seats::Owner;
use crate::app::App;
use crate::auth::AgentCaller;
use crate::auth::caller::{self, AuthError, Caller};
use crate::core::state::Conversation;
use axum::http::{HeaderMap, Uri, header};
use ingest::id::{AgentId, TenantId, VisitorId};
use ingest::payload::Permission;
use ingest::time::Timestamp;

/// Someone who takes part in conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Person {
    /// A person of the tenant.
    Agent(AgentId),
    /// A visitor.
    Visitor(VisitorId),
}

impl Person {
    /// Whether notes, tags and the inbox are for them.
    pub(super) fn is_agent(self) -> bool {
        matches!(self, Self::Agent(_))
    }
}

/// A verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credential(Caller);

impl From<Caller> for Credential {
    fn from(caller: Caller) -> Self {
        Self(caller)
    }
}

impl Credential {
    /// Verifies what an auth frame carries. A blocked visitor gets no socket.
    pub(super) fn verify(app: &App, token: &str) -> Result<Self, AuthError> {
        match caller::chat(app, token)? {
            Caller::Visitor(visitor) if visitor.blocked => Err(AuthError::Invalid),
            caller => Self::live(caller),
        }
    }

    /// Nothing is pushed to a token from before its visitor was identified.
    fn live(caller: Caller) -> Result<Self, AuthError> {
        match caller {
            Caller::Visitor(visitor) if visitor.is_limited() => Err(AuthError::Invalid),
            caller => Ok(Self(caller)),
        }
    }

    pub(super) fn tenant(&self) -> TenantId {
        match &self.0 {
            Caller::Agent(agent) => agent.tenant,
            Caller::Visitor(visitor) => visitor.tenant,
        }
    }

    pub(super) fn person(&self) -> Person {
        match &self.0 {
            Caller::Agent(agent) => Person::Agent(agent.agent),
            Caller::Visitor(visitor) => Person::Visitor(visitor.visitor),
        }
    }

    /// Its place among the open sockets.
    pub(super) fn owner(&self) -> Owner {
        let (session, role) = match &self.0 {
            Caller::Agent(agent) => (Some(agent.session), agent.custom_role),
            Caller::Visitor(_) => (None, None),
        };
        Owner { tenant: self.tenant(), person: self.person(), session, role }
    }

    pub(super) fn expires_at(&self) -> Timestamp {
        match &self.0 {
            Caller::Agent(agent) => agent.expires_at,
            Caller::Visitor(visitor) => visitor.expires_at,
        }
    }

    /// The same one with the rights of now.
    pub(super) fn now(&self, app: &App) -> Result<Self, AuthError> {
        match &self.0 {
            Caller::Agent(agent) => Ok(Self(Caller::Agent(caller::agent_now(app, agent)?))),
            Caller::Visitor(visitor) => Self::live(Caller::Visitor(caller::visitor_now(app, visitor)?.0)),
        }
    }

    /// The agent, if it's one who may read conversations.
    pub(super) fn inbox_reader(&self) -> Option<&AgentCaller> {
        match &self.0 {
            Caller::Agent(agent)
                if agent.may(Permission::ConversationsRead) || agent.may(Permission::ConversationsReadAll) =>
            {
                Some(agent)
            }
            _ => None,
        }
    }

    /// A conversation is for the agents who may see it, and for its visitor.
    pub(super) fn may_see(&self, chat: &Conversation) -> bool {
        match &self.0 {
            Caller::Agent(agent) => agent.may_see(chat),
            Caller::Visitor(visitor) => visitor.may_see(chat),
        }
    }

    /// May write, so may be seen typing.
    pub(super) fn may_reply(&self) -> bool {
        match &self.0 {
            Caller::Agent(agent) => agent.may(Permission::ConversationsReply),
            Caller::Visitor(_) => true,
        }
    }

    /// The same person with the same session and rights; only the end of the token may differ.
    pub(super) fn renews(&self, before: &Self) -> bool {
        match (&self.0, &before.0) {
            (Caller::Agent(new), Caller::Agent(old)) => {
                (new.tenant, new.agent, new.session, new.permissions)
                    == (old.tenant, old.agent, old.session, old.permissions)
            }
            (Caller::Visitor(new), Caller::Visitor(old)) => {
                (new.tenant, new.visitor, new.subject) == (old.tenant, old.visitor, old.subject)
            }
            _ => false,
        }
    }

    /// Whether the page that opened the socket may; without an `Origin` it wasn't a browser's.
    pub(super) fn allows_origin(&self, app: &App, headers: &HeaderMap) -> Result<bool, AuthError> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(true) };
        let Ok(origin) = origin.to_str() else { return Ok(false) };
        match &self.0 {
            Caller::Agent(_) => Ok(caller::config_allows(app, origin) || is_same_host(origin, headers)),
            Caller::Visitor(visitor) => Ok(caller::chatbot_allows(app, visitor, origin)?),
        }
    }
}

/// The agents' pages come from the server that they connect to, under whatever name it's reached.
fn is_same_host(origin: &str, headers: &HeaderMap) -> bool {
    let origin: Option<Uri> = origin.parse().ok();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match (origin.as_ref().and_then(Uri::authority), host) {
        (Some(authority), Some(host)) => authority.as_str().eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_host_is_compared_with_its_port() {
        let headers: HeaderMap = [(header::HOST, "chat.example:8080".parse().expect("a host"))].into_iter().collect();
        assert!(is_same_host("http://chat.example:8080", &headers));
        for other in ["http://chat.example", "http://evil.example:8080", "null", "http://chat.example:8080.evil"] {
            assert!(!is_same_host(other, &headers), "{other}");
        }
    }
}
