//! Tenants, agents, their sessions, chatbots and tokens.

use super::assignment;
use super::command::{Command, CommandKind as K, NewAgent};
use super::decide::{Emit, Rejection, may, require};
use super::reads::{email_word, slug_word};
use super::state::{Conversation, State, Status};
use ingest::event::Actor;
use ingest::id::AgentId;
use ingest::payload::{
    AgentStatus, AgentStatusChanged, AgentUpdated, ChatbotCreated, ChatbotUpdated, Permission, Role, SessionClosed,
    SessionOpened, SessionRefreshed, TenantCreated, TenantUpdated, TokenCreated, Trigger,
};

/// Tenants, agents, sessions, chatbots, tokens. `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::CreateTenant { name, slug, time_zone, owner } => {
            if state.taken.contains(&slug_word(slug)) {
                let detail = format!("the name '{slug}' is taken");
                return Err(Rejection::new(409, "slug_taken", detail).at("name"));
            }
            emit.tenant(TenantCreated { name: name.clone(), slug: slug.clone(), time_zone: time_zone.clone() });
            owner.iter().for_each(|owner| emit.agent(owner, emit.now()));
        }
        K::UpdateTenant(change) => {
            require(state, command, Permission::SettingsWrite, "change the tenant")?;
            if **change != TenantUpdated::default() {
                emit.tenant(TenantUpdated::clone(change));
            }
        }
        K::CreateAgent(new) => create_agent(state, command, new, emit)?,
        K::UpdateAgent { .. } => update_agent(state, command, emit)?,
        K::SetAgentStatus { agent_id, status, accepting_chats } => {
            set_agent_status(state, command, *agent_id, *status, *accepting_chats, emit)?;
        }
        K::OpenSession { .. } | K::RefreshSession { .. } | K::CloseSession { .. } => sessions(state, command, emit)?,
        K::CreateChatbot { chatbot_id, name, api_key, allowed_origins, greeting, waiting_text } => {
            require(state, command, Permission::ChatbotsWrite, "create chatbots")?;
            emit.tenant(ChatbotCreated {
                chatbot_id: *chatbot_id,
                name: name.clone(),
                api_key: api_key.clone(),
                allowed_origins: allowed_origins.clone(),
                greeting: greeting.clone(),
                waiting_text: waiting_text.clone(),
            });
        }
        K::UpdateChatbot { chatbot_id, name, allowed_origins, greeting, waiting_text } => {
            require(state, command, Permission::ChatbotsWrite, "change chatbots")?;
            state
                .chatbots
                .get(chatbot_id)
                .filter(|found| found.tenant == command.tenant)
                .ok_or_else(|| Rejection::not_found("chatbot"))?;
            emit.tenant(ChatbotUpdated {
                chatbot_id: *chatbot_id,
                name: name.clone(),
                allowed_origins: allowed_origins.clone(),
                greeting: greeting.clone(),
                waiting_text: waiting_text.clone(),
            });
        }
        K::CreateToken { token_id, name, sha256, scopes, expires_at } => {
            require(state, command, Permission::TokensWrite, "create tokens")?;
            emit.tenant(TokenCreated {
                token_id: *token_id,
                name: name.clone(),
                sha256: sha256.clone(),
                scopes: scopes.clone(),
                expires_at: *expires_at,
            });
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn create_agent(state: &State, command: &Command, new: &NewAgent, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    require(state, command, Permission::AgentsWrite, "add agents")?;
    if new.role == Role::Owner && !may(state, command, Permission::Ownership) {
        return Err(Rejection::forbidden("make owners").at("role"));
    }
    if let Some(hmac) = &new.email_hmac
        && state.taken.contains(&email_word(command.tenant, hmac))
    {
        return Err(Rejection::new(409, "email_taken", "an agent of this tenant has this address").at("email"));
    }
    emit.agent(new, emit.now());
    Ok(())
}

fn update_agent(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let K::UpdateAgent { agent_id, name, role, max_concurrent_chats } = &command.kind else { return Ok(()) };
    let agent = state.agent(command.tenant, *agent_id).ok_or_else(|| Rejection::not_found("agent"))?;
    let own = command.actor == Actor::Agent(*agent_id);
    if !own || role.is_some() || max_concurrent_chats.is_some() {
        require(state, command, Permission::AgentsWrite, "change agents")?;
    }
    let touches_owner = agent.role == Role::Owner || *role == Some(Role::Owner);
    if role.is_some() && touches_owner && *role != Some(agent.role) {
        return Err(Rejection::forbidden("make or unmake owners; transfer the ownership instead").at("role"));
    }
    if name.is_some() || role.is_some() || max_concurrent_chats.is_some() {
        emit.tenant(AgentUpdated {
            agent_id: *agent_id,
            name: name.clone(),
            role: *role,
            max_concurrent_chats: *max_concurrent_chats,
        });
    }
    Ok(())
}

fn set_agent_status(
    state: &State,
    command: &Command,
    agent_id: AgentId,
    status: AgentStatus,
    accepting: Option<bool>,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    let agent = state.agent(command.tenant, agent_id).ok_or_else(|| Rejection::not_found("agent"))?;
    if command.actor != Actor::Agent(agent_id) {
        require(state, command, Permission::ConversationsSteer, "change another agent's status")?;
    }
    let accepting_chats = accepting.unwrap_or(agent.accepting_chats);
    if agent.status == status && agent.accepting_chats == accepting_chats {
        return Ok(());
    }
    emit.tenant(AgentStatusChanged { agent_id, status, accepting_chats });
    if status == AgentStatus::Offline {
        // Oldest last, so that the oldest ends up at the very front.
        let mut chats: Vec<&Conversation> = state
            .conversations
            .values()
            .filter(|chat| {
                chat.tenant == command.tenant && chat.status == Status::Active && chat.agent == Some(agent_id)
            })
            .collect();
        chats.sort_by_key(|chat| std::cmp::Reverse((chat.created_at, chat.id)));
        let front = assignment::front_rank(state, command.tenant);
        for (chat, rank) in chats.into_iter().zip((i64::MIN..=front).rev()) {
            assignment::give_back(chat, agent_id, Trigger::AgentOffline, rank, emit);
        }
    }
    Ok(())
}

fn sessions(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let expired = || Rejection::new(401, "invalid_refresh_token", "the refresh token is expired, used or unknown");
    match &command.kind {
        K::OpenSession { session_id, agent_id, refresh_sha256, expires_at } => {
            state.agent(command.tenant, *agent_id).ok_or_else(|| Rejection::not_found("agent"))?;
            emit.tenant(SessionOpened {
                session_id: *session_id,
                agent_id: *agent_id,
                refresh_sha256: refresh_sha256.clone(),
                expires_at: *expires_at,
            });
        }
        K::RefreshSession { session_id, presented_sha256, refresh_sha256 } => {
            let session = state.sessions.get(session_id).filter(|found| found.tenant == command.tenant);
            let session = session.filter(|found| !found.closed && found.expires_at > emit.now()).ok_or_else(expired)?;
            if session.refresh_sha256 == *presented_sha256 {
                emit.tenant(SessionRefreshed { session_id: *session_id, refresh_sha256: refresh_sha256.clone() });
            } else {
                // Someone uses a token that was replaced: a thief or the robbed. The whole family ends.
                emit.tenant(SessionClosed { session_id: *session_id, reason: "refresh_reused".to_owned() });
            }
        }
        K::CloseSession { session_id } => {
            let session = state.sessions.get(session_id).filter(|found| found.tenant == command.tenant);
            if session.ok_or_else(expired)?.closed {
                return Ok(());
            }
            emit.tenant(SessionClosed { session_id: *session_id, reason: "logout".to_owned() });
        }
        _ => {}
    }
    Ok(())
}
