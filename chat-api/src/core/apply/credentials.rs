//! Custom roles, sessions, passwords, challenges, invitations.

use super::set;
use crate::core::reads::role_word;
use crate::core::state::{Challenge, CustomRole, Invitation, Key, Session, State};
use ingest::event::Event;
use ingest::id::AgentId;
use ingest::payload::Payload;

/// Sign-ins whose addresses are remembered.
const RECENT_IPS_MAX: usize = 20;

pub(super) fn apply(state: &mut State, event: &Event) {
    apply_role(state, event);
    apply_session(state, event);
    apply_challenge(state, event);
}

fn apply_role(state: &mut State, event: &Event) {
    let (tenant, at) = (event.tenant, event.occurred_at);
    let id = match &event.payload {
        Payload::RoleCreated(made) => {
            let role = CustomRole {
                id: made.role_id,
                tenant,
                name: made.name.clone(),
                permissions: made.permissions,
                epoch: 0,
                created_at: at,
                updated_at: at,
                deleted_at: None,
            };
            state.taken.insert(role_word(tenant, &made.name));
            state.roles.insert(made.role_id, role);
            made.role_id
        }
        Payload::RoleUpdated(change) => {
            let Some(role) = state.roles.get_mut(&change.role_id) else { return };
            if let Some(name) = &change.name {
                state.taken.remove(&role_word(tenant, &role.name));
                state.taken.insert(role_word(tenant, name));
            }
            set(&mut role.name, change.name.as_ref());
            set(&mut role.permissions, change.permissions.as_ref());
            role.epoch += u32::from(change.permissions.is_some());
            role.updated_at = at;
            change.role_id
        }
        Payload::RoleDeleted(change) => {
            let Some(role) = state.roles.get_mut(&change.role_id) else { return };
            state.taken.remove(&role_word(tenant, &role.name));
            (role.deleted_at, role.updated_at) = (Some(at), at);
            role.epoch += 1;
            change.role_id
        }
        Payload::RoleRestored(change) => {
            let Some(role) = state.roles.get_mut(&change.role_id) else { return };
            state.taken.insert(role_word(tenant, &role.name));
            (role.deleted_at, role.updated_at) = (None, at);
            role.epoch += 1;
            change.role_id
        }
        _ => return,
    };
    state.dirty.insert(Key::Role(id));
}

fn apply_session(state: &mut State, event: &Event) {
    match &event.payload {
        Payload::SessionOpened(made) => {
            let session = Session {
                id: made.session_id,
                tenant: event.tenant,
                agent: made.agent_id,
                refresh_sha256: made.refresh_sha256.clone(),
                expires_at: made.expires_at,
                closed: false,
                epoch: made.epoch,
                role_epoch: made.role_epoch,
            };
            state.sessions.insert(made.session_id, session);
            state.dirty.insert(Key::Session(made.session_id));
            if let (Some(ip), Some(agent)) = (&made.ip, state.agents.get_mut(&made.agent_id)) {
                agent.recent_ips.insert(0, ip.clone());
                agent.recent_ips.truncate(RECENT_IPS_MAX);
                state.dirty.insert(Key::Agent(made.agent_id));
            }
        }
        Payload::SessionRefreshed(change) => {
            let Some(session) = state.sessions.get_mut(&change.session_id) else { return };
            session.refresh_sha256.clone_from(&change.refresh_sha256);
            state.dirty.insert(Key::Session(change.session_id));
        }
        Payload::SessionClosed(change) => {
            let Some(session) = state.sessions.get_mut(&change.session_id) else { return };
            session.closed = true;
            state.dirty.insert(Key::Session(change.session_id));
        }
        Payload::PasswordChanged(change) => {
            let Some(agent) = state.agents.get_mut(&change.agent_id) else { return };
            agent.password_hash = Some(change.password_hash.clone());
            agent.epoch += 1;
            state.dirty.insert(Key::Agent(change.agent_id));
        }
        _ => {}
    }
}

fn apply_challenge(state: &mut State, event: &Event) {
    let (tenant, at) = (event.tenant, event.occurred_at);
    match &event.payload {
        Payload::ChallengeIssued(made) => {
            let challenge = Challenge {
                id: made.challenge_id,
                tenant,
                agent: made.agent_id,
                kind: made.kind,
                epoch: made.epoch,
                issued_at: at,
                expires_at: made.expires_at,
                failures: 0,
                used: false,
            };
            state.challenges.insert(made.challenge_id, challenge);
            state.dirty.insert(Key::Challenge(made.challenge_id));
        }
        Payload::ChallengeFailed(change) => {
            let Some(challenge) = state.challenges.get_mut(&change.challenge_id) else { return };
            challenge.failures += 1;
            state.dirty.insert(Key::Challenge(change.challenge_id));
        }
        Payload::ChallengeUsed(change) => {
            let Some(challenge) = state.challenges.get_mut(&change.challenge_id) else { return };
            challenge.used = true;
            state.dirty.insert(Key::Challenge(change.challenge_id));
            prove_address(state, change.agent_id, change.proves_address);
        }
        Payload::InvitationCreated(made) => {
            let invitation = Invitation {
                id: made.invitation_id,
                tenant,
                email: made.email.clone(),
                email_hmac: made.email_hmac.clone(),
                role: made.role,
                custom_role: made.custom_role,
                created_at: at,
                expires_at: made.expires_at,
                accepted_at: None,
            };
            state.invitations.insert(made.invitation_id, invitation);
            state.dirty.insert(Key::Invitation(made.invitation_id));
        }
        Payload::InvitationAccepted(change) => {
            let Some(invitation) = state.invitations.get_mut(&change.invitation_id) else { return };
            invitation.accepted_at = Some(at);
            let agent = invitation.agent();
            state.dirty.insert(Key::Invitation(change.invitation_id));
            prove_address(state, agent, change.proves_address);
        }
        _ => {}
    }
}

fn prove_address(state: &mut State, agent: AgentId, proven: bool) {
    if let Some(agent) = state.agents.get_mut(&agent).filter(|agent| proven && !agent.address_proven) {
        agent.address_proven = true;
        state.dirty.insert(Key::Agent(agent.id));
    }
}
