//! Who is there, as the other side of a conversation sees it: agents the visitor, visitors their agent.
//!
//! A visitor's presence is what their signs of life say ([`Presence`](crate::presence::Presence)); an agent's is what their row
//! says, and the log tells when it changes. Neither is stored, and neither is sent twice in a row for nothing: a
//! subscription begins with how it is.

use super::LiveHub;
use super::credential::Person;
use super::frames;
use super::topics::Key;
use crate::app::App;
use crate::core::state::{Conversation, Status};
use crate::store::read;
use crate::view::{ViewError, Views};
use axum::extract::ws::Utf8Bytes;
use ingest::id::{AgentId, TenantId, VisitorId};
use ingest::payload::AgentStatus;
use ingest::sqlite::ReadPool;

fn word(there: bool) -> &'static str {
    if there { "online" } else { "away" }
}

fn agent_word(status: AgentStatus) -> &'static str {
    match status {
        AgentStatus::Online => "online",
        AgentStatus::Away => "away",
        AgentStatus::Offline => "offline",
    }
}

/// How it is with the other side; `None` when there is no other side yet, or it can't be read now.
pub(super) fn of_other(app: &App, chat: &Conversation, reader: Person) -> Option<Utf8Bytes> {
    let frame = if reader.is_agent() {
        let person = Person::Visitor(chat.visitor);
        let status = word(app.presence.is_present(chat.tenant, person));
        visitor_frame(&app.views, (chat.tenant, chat.id), chat.visitor, status).map(Some)
    } else {
        agent_frame(&app.views, &app.pool, chat)
    };
    frame.unwrap_or_else(|error| {
        tracing::warn!(%error, "failed to show presence; the next change does");
        None
    })
}

fn visitor_frame(
    views: &Views,
    (tenant, conversation): Key,
    visitor: VisitorId,
    status: &str,
) -> Result<Utf8Bytes, ViewError> {
    let name = views.visitor_name(tenant, visitor)?;
    Ok(frames::presence(conversation, Person::Visitor(visitor), name.as_deref(), status))
}

fn agent_frame(views: &Views, pool: &ReadPool, chat: &Conversation) -> Result<Option<Utf8Bytes>, ViewError> {
    let Some(id) = chat.agent.filter(|_| chat.status == Status::Active) else { return Ok(None) };
    let Some(agent) = pool.read(|connection| read::agent(connection, chat.tenant, id))? else { return Ok(None) };
    let name = views.agent_name(chat.tenant, id)?;
    Ok(Some(frames::presence(chat.id, Person::Agent(id), name.as_deref(), agent_word(agent.status))))
}

impl LiveHub {
    /// A visitor has come or gone: the agents in their conversations see it.
    pub fn show_visitor(&self, views: &Views, pool: &ReadPool, tenant: TenantId, visitor: VisitorId, there: bool) {
        let shown = || -> Result<(), ViewError> {
            for id in pool.read(|connection| read::conversations_of(connection, tenant, visitor))? {
                let key: Key = (tenant, id);
                if self.topics.has(key, true) {
                    self.topics.relay_to(key, true, &visitor_frame(views, key, visitor, word(there))?);
                }
            }
            Ok(())
        };
        warn(shown());
    }

    /// An agent has come or gone: the visitors they talk to see it.
    pub(super) fn show_agent(&self, views: &Views, pool: &ReadPool, tenant: TenantId, agent: AgentId) {
        let shown = || -> Result<(), ViewError> {
            for id in pool.read(|connection| read::active_conversations_of(connection, tenant, agent))? {
                self.show_agent_in(views, pool, (tenant, id))?;
            }
            Ok(())
        };
        warn(shown());
    }

    /// A conversation has got an agent: its visitor sees whether they are there.
    pub(super) fn show_agent_of(&self, views: &Views, pool: &ReadPool, key: Key) {
        warn(self.show_agent_in(views, pool, key));
    }

    fn show_agent_in(&self, views: &Views, pool: &ReadPool, key: Key) -> Result<(), ViewError> {
        if self.topics.has(key, false)
            && let Some(chat) = pool.read(|connection| read::conversation(connection, key.0, key.1))?
            && let Some(frame) = agent_frame(views, pool, &chat)?
        {
            self.topics.relay_to(key, false, &frame);
        }
        Ok(())
    }
}

fn warn(shown: Result<(), ViewError>) {
    if let Err(error) = shown {
        tracing::warn!(%error, "failed to show presence; the next change does");
    }
}
