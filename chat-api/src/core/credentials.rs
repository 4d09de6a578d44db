//! Sessions, passwords, mailed codes and links, invitations.
//!
//! A session and a challenge carry the agent's epoch. Whatever makes an agent sign in again raises it, so that every
//! earlier session and challenge is void at once, however many there are.

use super::agents::{require_all, require_free, role_permissions};
use super::command::{ChallengeUse, Command, CommandKind as K, NewAgent, NewSession};
use super::decide::{Emit, Rejection, require};
use super::state::{Agent, Challenge, State};
use ingest::id::{AgentId, ChallengeId, InvitationId, MailId};
use ingest::payload::{
    ChallengeFailed, ChallengeIssued, ChallengeKind, ChallengeUsed, InvitationAccepted, InvitationCreated, MailKind,
    MailRequested, PasswordChanged, Permission, SessionClosed, SessionOpened, SessionRefreshed,
};
use ingest::seal::Sealed;
use ingest::time::Timestamp;

/// Wrong tries of a code, from wherever.
pub const CHALLENGE_TRIES: u32 = 5;
/// As many more are kept for where the agent has signed in from before: whoever else knows the address can use up the
/// first ones, and not these.
const CHALLENGE_TRIES_KNOWN: u32 = 2 * CHALLENGE_TRIES;
/// Challenges of a kind that an agent gets in [`CHALLENGE_WINDOW_MS`]: more mails would only help who guesses codes.
const CHALLENGES_MAX: usize = 5;
/// As many more for who asks from where the agent has signed in before: nobody else can use these up.
const CHALLENGES_KNOWN_MAX: usize = 2 * CHALLENGES_MAX;
const CHALLENGE_WINDOW_MS: i64 = 60 * 60 * 1_000;

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::OpenSession { agent_id, epoch, session } => {
            let agent = living(state, command, *agent_id)?;
            if epoch.is_some_and(|epoch| epoch != agent.epoch) {
                return Err(changed_meanwhile());
            }
            open_session(state, agent, agent.epoch, session, emit);
        }
        K::RefreshSession { .. } | K::CloseSession { .. } => sessions(state, command, emit)?,
        K::ChangePassword { agent_id, epoch, password_hash, session } => {
            let agent = living(state, command, *agent_id)?;
            if *epoch != agent.epoch {
                return Err(changed_meanwhile());
            }
            set_password(agent, password_hash, "change", emit);
            open_session(state, agent, agent.epoch + 1, session, emit);
        }
        K::IssueChallenge { challenge_id, agent_id, kind, from_known, expires_at } => {
            let agent = living(state, command, *agent_id)?;
            let most = if *from_known { CHALLENGES_KNOWN_MAX } else { CHALLENGES_MAX };
            issue(state, agent, most, (*challenge_id, *kind, *expires_at), emit);
        }
        K::TryChallenge { .. } => try_challenge(state, command, emit)?,
        K::Invite(made) => invite(state, command, made, emit)?,
        K::AcceptInvitation { invitation_id, name, password_hash, max_concurrent_chats, session } => {
            let who = Newcomer { name, password_hash, max_concurrent_chats: *max_concurrent_chats };
            accept(state, command, *invitation_id, &who, session, emit)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn living<'a>(state: &'a State, command: &Command, id: AgentId) -> Result<&'a Agent, Rejection> {
    let agent = state.agent(command.tenant, id).filter(|agent| agent.deleted_at.is_none());
    agent.ok_or_else(|| Rejection::not_found("agent"))
}

fn changed_meanwhile() -> Rejection {
    Rejection::new(401, "invalid_credentials", "the credentials changed meanwhile; sign in again")
}

fn open_session(state: &State, agent: &Agent, epoch: u32, session: &NewSession, emit: &mut Emit<'_>) {
    emit.tenant(SessionOpened {
        session_id: session.session_id,
        agent_id: agent.id,
        refresh_sha256: session.refresh_sha256.clone(),
        expires_at: session.expires_at,
        ip: session.ip.clone(),
        epoch,
        role_epoch: state.role_of(agent).map_or(0, |role| role.epoch),
    });
}

fn sessions(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let expired = || Rejection::new(401, "invalid_refresh_token", "the refresh token is expired, used or unknown");
    match &command.kind {
        K::RefreshSession { session_id, presented_sha256, refresh_sha256 } => {
            let session = state.sessions.get(session_id).filter(|found| found.tenant == command.tenant);
            let open = session.filter(|found| {
                let agent = state.agent(command.tenant, found.agent);
                agent.is_some_and(|agent| found.is_open(agent, state.role_of(agent), emit.now()))
            });
            if open.ok_or_else(expired)?.refresh_sha256 == *presented_sha256 {
                emit.tenant(SessionRefreshed { session_id: *session_id, refresh_sha256: refresh_sha256.clone() });
            } else {
                // Someone uses a token that was replaced: a thief or the robbed. The whole family ends. One that was
                // never given out doesn't come this far.
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

fn set_password(agent: &Agent, password_hash: &str, reason: &str, emit: &mut Emit<'_>) {
    let (password_hash, reason) = (password_hash.to_owned(), reason.to_owned());
    emit.tenant(PasswordChanged { agent_id: agent.id, password_hash, reason });
}

/// Makes a challenge and asks for its mail; nothing for who can't use it, or got `most` of its kind already.
fn issue(
    state: &State,
    agent: &Agent,
    most: usize,
    (challenge_id, kind, expires_at): (ChallengeId, ChallengeKind, Timestamp),
    emit: &mut Emit<'_>,
) {
    let recent = |found: &&Challenge| {
        (found.agent, found.kind) == (agent.id, kind) && emit.now().since(found.issued_at) < CHALLENGE_WINDOW_MS
    };
    // Whoever never had a password has to set one before they sign in.
    let usable = agent.email.is_some() && (kind == ChallengeKind::PasswordReset || agent.password_hash.is_some());
    if !usable || state.challenges.values().filter(recent).count() >= most {
        return;
    }
    emit.tenant(ChallengeIssued { challenge_id, agent_id: agent.id, kind, epoch: agent.epoch, expires_at });
    emit.tenant(MailRequested {
        mail_id: MailId::derived(&[b"challenge", challenge_id.bytes()]),
        kind: kind.mail(),
        person_id: agent.id.into(),
        about: None,
        readable_id: String::new(),
        challenge_id: Some(challenge_id),
        invitation_id: None,
    });
}

fn try_challenge(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let K::TryChallenge { challenge_id, agent_id, kind, from_known, then } = &command.kind else { return Ok(()) };
    let agent_id = *agent_id;
    let tries = if *from_known { CHALLENGE_TRIES_KNOWN } else { CHALLENGE_TRIES };
    let void = || Rejection::new(401, "invalid_code", "the code or link is wrong, used or expired");
    let agent = living(state, command, agent_id).map_err(|_| void())?;
    let challenge = state.challenges.get(challenge_id).filter(|found| {
        (found.tenant, found.agent, found.kind, found.epoch) == (command.tenant, agent_id, *kind, agent.epoch)
            && !found.used
            && found.failures < tries
            && found.expires_at > emit.now()
    });
    let challenge_id = challenge.ok_or_else(void)?.id;
    match then {
        ChallengeUse::Wrong => emit.tenant(ChallengeFailed { challenge_id, agent_id }),
        ChallengeUse::SignIn(session) => {
            emit.tenant(ChallengeUsed { challenge_id, agent_id, proves_address: true });
            open_session(state, agent, agent.epoch, session, emit);
        }
        ChallengeUse::SetPassword(password_hash) => {
            emit.tenant(ChallengeUsed { challenge_id, agent_id, proves_address: true });
            set_password(agent, password_hash, "reset", emit);
        }
    }
    Ok(())
}

fn invite(state: &State, command: &Command, made: &InvitationCreated, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    require(state, command, Permission::AgentsWrite, "invite agents")?;
    require_all(state, command, role_permissions(state, command, made.role, made.custom_role)?)?;
    require_free(state, command, &made.email_hmac)?;
    emit.tenant(made.clone());
    emit.tenant(MailRequested {
        mail_id: MailId::derived(&[b"invitation", made.invitation_id.bytes()]),
        kind: MailKind::Invitation,
        person_id: AgentId(made.invitation_id.0).into(),
        about: None,
        readable_id: String::new(),
        challenge_id: None,
        invitation_id: Some(made.invitation_id),
    });
    Ok(())
}

/// Who accepts an invitation.
struct Newcomer<'a> {
    name: &'a Sealed,
    password_hash: &'a str,
    max_concurrent_chats: u32,
}

fn accept(
    state: &State,
    command: &Command,
    id: InvitationId,
    who: &Newcomer<'_>,
    session: &NewSession,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    let open = state
        .invitations
        .get(&id)
        .filter(|found| found.tenant == command.tenant && found.accepted_at.is_none() && found.expires_at > emit.now());
    let invitation =
        open.ok_or_else(|| Rejection::new(401, "invalid_token", "the invitation is unknown, used or expired"))?;
    require_free(state, command, &invitation.email_hmac)?;
    let mut new = NewAgent {
        agent_id: invitation.agent(),
        name: who.name.clone(),
        email: Some(invitation.email.clone()),
        email_hmac: Some(invitation.email_hmac.clone()),
        password_hash: Some(who.password_hash.to_owned()),
        role: invitation.role,
        max_concurrent_chats: who.max_concurrent_chats,
        external_id: None,
        details: super::command::AgentDetails::default(),
    };
    new.details.custom_role = invitation.custom_role;
    emit.agent(&new, emit.now());
    emit.tenant(InvitationAccepted { invitation_id: id, proves_address: true });
    let role = invitation.custom_role.and_then(|id| state.role(command.tenant, id));
    emit.tenant(SessionOpened {
        session_id: session.session_id,
        agent_id: new.agent_id,
        refresh_sha256: session.refresh_sha256.clone(),
        expires_at: session.expires_at,
        ip: session.ip.clone(),
        epoch: 0,
        role_epoch: role.map_or(0, |role| role.epoch),
    });
    Ok(())
}
