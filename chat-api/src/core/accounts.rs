//! Tenants, their agents' presence and tokens.

use super::assignment;
use super::command::{Command, CommandKind as K};
use super::decide::{Emit, Rejection, require};
use super::grants::{self, Grant};
use super::reads::slug_word;
use super::state::{Conversation, State, Status};
use ingest::event::Actor;
use ingest::id::AgentId;
use ingest::payload::{
    AgentStatus, AgentStatusChanged, Permission, TenantCreated, TenantUpdated, TokenCreated, TokenRevoked, Trigger,
};

/// The metrics' definitions of tenants that sign up from now on.
const METRICS_VERSION_NEW: u32 = 2;

/// Tenants, presence, tokens. `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::CreateTenant { name, slug, time_zone, owner } => {
            if state.taken.contains(&slug_word(slug)) {
                let detail = format!("the name '{slug}' is taken");
                return Err(Rejection::new(409, "slug_taken", detail).at("name"));
            }
            emit.tenant(TenantCreated {
                name: name.clone(),
                slug: slug.clone(),
                time_zone: time_zone.clone(),
                metrics_version: Some(METRICS_VERSION_NEW),
            });
            owner.iter().for_each(|owner| emit.agent(owner, emit.now()));
        }
        K::UpdateTenant(change) => {
            require(state, command, Permission::SettingsWrite, "change the tenant")?;
            if **change != TenantUpdated::default() {
                emit.tenant(TenantUpdated::clone(change));
            }
        }
        K::SetAgentStatus { agent_id, status, accepting_chats } => {
            set_agent_status(state, command, *agent_id, *status, *accepting_chats, emit)?;
        }
        K::CreateToken { token_id, name, sha256, scopes, expires_at, limits } => {
            require(state, command, Permission::TokensWrite, "create tokens")?;
            grants::require(state, command, Grant::Token(scopes))?;
            emit.tenant(TokenCreated {
                token_id: *token_id,
                name: name.clone(),
                sha256: sha256.clone(),
                scopes: scopes.clone(),
                expires_at: *expires_at,
                limits: *limits,
            });
        }
        K::RevokeToken { token_id } => {
            require(state, command, Permission::TokensWrite, "revoke tokens")?;
            let found = state.tokens.get(token_id).filter(|token| token.tenant == command.tenant);
            let token =
                found.filter(|token| token.revoked_at.is_none()).ok_or_else(|| Rejection::not_found("token"))?;
            emit.tenant(TokenRevoked { token_id: token.id });
        }
        _ => return Ok(false),
    }
    Ok(true)
}

pub(super) fn set_agent_status(
    state: &State,
    command: &Command,
    agent_id: AgentId,
    status: AgentStatus,
    accepting: Option<bool>,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    let agent = state.agent(command.tenant, agent_id).filter(|agent| agent.deleted_at.is_none());
    let agent = agent.ok_or_else(|| Rejection::not_found("agent"))?;
    if command.actor != Actor::Agent(agent_id) {
        require(state, command, Permission::ConversationsSteer, "change another agent's status")?;
    }
    let accepting_chats = accepting.unwrap_or(agent.accepting_chats);
    if agent.status == status && agent.accepting_chats == accepting_chats {
        return Ok(());
    }
    emit.tenant(AgentStatusChanged { agent_id, status, accepting_chats });
    if status == AgentStatus::Offline {
        give_back_all(state, command, agent_id, emit);
    }
    Ok(())
}

/// The chats of an agent who leaves go back to the front of the queue.
pub(super) fn give_back_all(state: &State, command: &Command, agent_id: AgentId, emit: &mut Emit<'_>) {
    // Oldest last, so that the oldest ends up at the very front.
    let mut chats: Vec<&Conversation> = state
        .conversations
        .values()
        .filter(|chat| chat.tenant == command.tenant && chat.status == Status::Active && chat.agent == Some(agent_id))
        .collect();
    chats.sort_by_key(|chat| std::cmp::Reverse((chat.created_at, chat.id)));
    let front = assignment::front_rank(state, command.tenant);
    for (chat, rank) in chats.into_iter().zip((i64::MIN..=front).rev()) {
        assignment::give_back(chat, agent_id, Trigger::AgentOffline, rank, emit);
    }
}
