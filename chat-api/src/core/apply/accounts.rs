//! Tenants, agents and what they set up.

use super::set;
use crate::core::reads::{email_word, slug_word};
use crate::core::state::{Agent, Key, Roster, State, Tenant, TenantSettings, Token};
use ingest::event::Event;
use ingest::payload::{
    AgentDeleted, AgentRestored, AgentStatus, AgentUpdated, Payload, PermissionSet, Role, TenantUpdated,
};

pub(super) fn apply(state: &mut State, event: &Event) {
    apply_configuration(state, event);
    apply_agent(state, event);
}

fn apply_configuration(state: &mut State, event: &Event) {
    let (tenant, at) = (event.tenant, event.occurred_at);
    match &event.payload {
        Payload::TenantCreated(made) => {
            state.taken.insert(slug_word(&made.slug));
            let mut settings = TenantSettings::default();
            set(&mut settings.metrics_version, made.metrics_version.as_ref());
            state.tenants.insert(
                tenant,
                Tenant {
                    id: tenant,
                    name: made.name.clone(),
                    slug: made.slug.clone(),
                    time_zone: made.time_zone.clone(),
                    settings,
                    created_at: at,
                },
            );
            // A new tenant's roster is known whole: it's empty.
            state.rosters.insert(tenant, Roster::default());
            state.dirty.insert(Key::Tenant(tenant));
        }
        Payload::TenantUpdated(change) => {
            let Some(found) = state.tenants.get_mut(&tenant) else { return };
            set(&mut found.name, change.name.as_ref());
            set(&mut found.time_zone, change.time_zone.as_ref());
            apply_settings(&mut found.settings, change);
            state.dirty.insert(Key::Tenant(tenant));
        }
        Payload::TokenCreated(made) => {
            let token = Token {
                id: made.token_id,
                tenant,
                name: made.name.clone(),
                sha256: made.sha256.clone(),
                scopes: made.scopes.clone(),
                expires_at: made.expires_at,
                limits: made.limits,
                created_at: at,
                revoked_at: None,
            };
            state.tokens.insert(made.token_id, token);
            state.dirty.insert(Key::Token(made.token_id));
        }
        Payload::TokenRevoked(change) => {
            let Some(found) = state.tokens.get_mut(&change.token_id) else { return };
            found.revoked_at = Some(at);
            state.dirty.insert(Key::Token(change.token_id));
        }
        _ => {}
    }
}

fn apply_settings(settings: &mut TenantSettings, change: &TenantUpdated) {
    set(&mut settings.opening_hours, change.opening_hours.as_ref());
    set(&mut settings.holidays, change.holidays.as_ref());
    set(&mut settings.sla_targets, change.sla_targets.as_ref());
    set(&mut settings.session_hours, change.session_hours.as_ref());
    set(&mut settings.standby_minutes, change.standby_minutes.as_ref());
    set(&mut settings.idle_minutes, change.idle_minutes.as_ref());
    set(&mut settings.auto_close_days, change.auto_close_days.as_ref());
    set(&mut settings.require_email, change.require_email.as_ref());
    set(&mut settings.metrics_version, change.metrics_version.as_ref());
}

fn apply_agent(state: &mut State, event: &Event) {
    let (tenant, at) = (event.tenant, event.occurred_at);
    match &event.payload {
        Payload::AgentCreated(made) => {
            if let Some(hmac) = &made.email_hmac {
                state.taken.insert(email_word(tenant, hmac));
            }
            let agent = Agent {
                id: made.agent_id,
                tenant,
                name: made.name.clone(),
                email: made.email.clone(),
                email_hmac: made.email_hmac.clone(),
                address_proven: false,
                password_hash: made.password_hash.clone(),
                epoch: 0,
                phone: made.phone.clone(),
                avatar: made.avatar.clone(),
                recent_ips: Vec::new(),
                role: made.role,
                custom_role: made.custom_role,
                allow: made.allow,
                deny: made.deny,
                skills: made.skills.clone(),
                status: AgentStatus::Offline,
                accepting_chats: true,
                max_concurrent_chats: made.max_concurrent_chats,
                active_chats: 0,
                idle_since: at,
                external_id: made.external_id.clone(),
                created_at: at,
                deleted_at: None,
            };
            state.agents.insert(made.agent_id, agent);
            if let Some(roster) = state.rosters.get_mut(&tenant) {
                roster.agents.insert(made.agent_id);
            }
            state.dirty.insert(Key::Agent(made.agent_id));
        }
        Payload::AgentUpdated(change) => {
            let Some(agent) = state.agents.get_mut(&change.agent_id) else { return };
            if let Some(hmac) = &change.email_hmac {
                let before = agent.email_hmac.replace(hmac.clone());
                agent.address_proven &= before.as_ref() == Some(hmac);
                if let Some(before) = before {
                    state.taken.remove(&email_word(tenant, &before));
                }
                state.taken.insert(email_word(tenant, hmac));
            }
            update_agent(agent, change);
            state.dirty.insert(Key::Agent(change.agent_id));
        }
        Payload::AgentDeleted(AgentDeleted { agent_id }) => {
            let Some(agent) = state.agents.get_mut(agent_id) else { return };
            agent.deleted_at = Some(at);
            agent.status = AgentStatus::Offline;
            agent.epoch += 1;
            if let Some(hmac) = &agent.email_hmac {
                state.taken.remove(&email_word(tenant, hmac));
            }
            state.dirty.insert(Key::Agent(*agent_id));
        }
        Payload::AgentRestored(AgentRestored { agent_id }) => {
            let Some(agent) = state.agents.get_mut(agent_id) else { return };
            agent.deleted_at = None;
            if let Some(hmac) = &agent.email_hmac {
                state.taken.insert(email_word(tenant, hmac));
            }
            state.dirty.insert(Key::Agent(*agent_id));
        }
        Payload::OwnershipTransferred(change) => {
            for (id, role) in [(change.from_agent_id, Role::Admin), (change.to_agent_id, Role::Owner)] {
                let Some(agent) = state.agents.get_mut(&id) else { continue };
                agent.role = role;
                (agent.custom_role, agent.allow, agent.deny) = (None, PermissionSet::NONE, PermissionSet::NONE);
                agent.epoch += 1;
                state.dirty.insert(Key::Agent(id));
            }
        }
        Payload::AgentStatusChanged(change) => {
            let Some(agent) = state.agents.get_mut(&change.agent_id) else { return };
            agent.status = change.status;
            agent.accepting_chats = change.accepting_chats;
            state.dirty.insert(Key::Agent(change.agent_id));
        }
        _ => {}
    }
}

fn update_agent(agent: &mut Agent, change: &AgentUpdated) {
    set(&mut agent.name, change.name.as_ref());
    if let Some(role) = change.role {
        (agent.role, agent.custom_role) = (role, change.custom_role);
    }
    if change.email.is_some() {
        agent.email.clone_from(&change.email);
    }
    set(&mut agent.phone, change.phone.as_ref());
    set(&mut agent.avatar, change.avatar.as_ref());
    set(&mut agent.skills, change.skills.as_ref());
    set(&mut agent.allow, change.allow.as_ref());
    set(&mut agent.deny, change.deny.as_ref());
    set(&mut agent.max_concurrent_chats, change.max_concurrent_chats.as_ref());
    if change.ends_sessions() {
        agent.epoch += 1;
    }
}
