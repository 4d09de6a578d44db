//! Codes and links by mail, passwords, invitations: `/v1/auth/otp`, `/v1/auth/password`, `/v1/invitations`.
//!
//! What a stranger asks about an address answers the same, after the same time, whether it's known or not.

use super::accounts::Asked;
use super::extract::Write;
use super::problem::{Outcome, Problem};
use super::roles::parse_role;
use super::sign_in::{Done, Opening, SignedIn};
use super::surface::{AGENT, ANYONE, BODY, Routes, Way};
use super::tenants::MAX_CONCURRENT_CHATS;
use super::write::{self, Sealer, command};
use crate::app::App;
use crate::auth::passwords::{self, Salt};
use crate::auth::{AgentCaller, challenges};
use crate::check;
use crate::core::CommandKind;
use crate::core::command::ChallengeUse;
use crate::core::state::{Agent, Challenge};
use crate::import::email_hmac;
use crate::limits::ClientIp;
use crate::store::read;
use crate::view::InvitationView;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ingest::event::Actor;
use ingest::id::{AgentId, ChallengeId, InvitationId, TenantId};
use ingest::payload::{ChallengeKind, InvitationCreated, MailKind, Permission};
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What a stranger waits for, known address or not; a write takes much less.
const ANSWER_AFTER: Duration = Duration::from_millis(300);

pub(super) fn routes() -> Routes {
    Routes::new("Credentials")
        .post("/v1/auth/otp", otp, ANYONE, "Mails a code; answers the same for unknown addresses.")
        .post("/v1/auth/otp/verify", verify, BODY, "Signs in by a mailed code.")
        .post("/v1/auth/password/forgot", forgot, ANYONE, "Mails a link; answers the same for unknown addresses.")
        .post("/v1/auth/password/reset", reset, BODY, "Sets the password by a mailed link.")
        .post("/v1/auth/password/change", change, AGENT, "Changes the own password and ends all own sessions.")
        .post("/v1/invitations", invite, &[Way::May(Permission::AgentsWrite)], "Mails an invitation.")
        .post("/v1/invitations/accept", accept, BODY, "Becomes an agent by a mailed invitation.")
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ask {
    email: String,
    tenant: Option<String>,
}

async fn otp(State(app): State<Arc<App>>, ip: ClientIp, write: Write<Ask>) -> Outcome<Json<Done>> {
    issue(&app, &write.body, ip, ChallengeKind::Otp).await
}

async fn forgot(State(app): State<Arc<App>>, ip: ClientIp, write: Write<Ask>) -> Outcome<Json<Done>> {
    issue(&app, &write.body, ip, ChallengeKind::PasswordReset).await
}

/// Mails the agents with the address, in whatever tenant; each mail is for one account and names its tenant. The work goes
/// on by itself: how long it takes must not show.
async fn issue(app: &Arc<App>, ask: &Ask, ip: ClientIp, kind: ChallengeKind) -> Outcome<Json<Done>> {
    let answer_at = Instant::now() + ANSWER_AFTER;
    let email = check::email("email", &ask.email)?;
    let asked = Asked::new(app, &email, ask.tenant.as_deref(), ip)?;
    let agents = asked.to_mail(app)?;
    let work = Arc::clone(app);
    tokio::spawn(async move {
        for agent in agents {
            let kind = CommandKind::IssueChallenge {
                challenge_id: ChallengeId::fresh(),
                agent_id: agent.id,
                kind,
                from_known: asked.is_known(&work, &agent),
                expires_at: Timestamp::now().plus_ms(kind.mail().valid_ms()),
            };
            if let Err(problem) = write::submit(&work, command(agent.tenant, Actor::System, None, kind)).await {
                tracing::warn!(agent = %agent.id, detail = problem.detail(), "failed to issue a challenge");
            }
        }
    });
    sleep_until(answer_at).await;
    Ok(Json(Done {}))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Verify {
    email: String,
    code: String,
    tenant: Option<String>,
}

fn wrong_code() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_code", "the code or link is wrong, used or expired")
}

async fn verify(State(app): State<Arc<App>>, ip: ClientIp, write: Write<Verify>) -> Outcome<Json<SignedIn>> {
    let answer_at = Instant::now() + ANSWER_AFTER;
    let Verify { email, code, tenant } = &write.body;
    let email = check::email("email", email)?;
    if code.len() != 6 || !code.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Problem::invalid("code", "'code' has six digits"));
    }
    let asked = Asked::new(&app, &email, tenant.as_deref(), ip)?;
    let outcome = try_code(&app, &asked, code, ip).await;
    if outcome.is_err() {
        sleep_until(answer_at).await;
    }
    outcome.map(Json)
}

/// Only the newest code of an agent counts. A wrong one is counted wherever it could have been meant for.
async fn try_code(app: &App, asked: &Asked, code: &str, ip: ClientIp) -> Outcome<SignedIn> {
    let mut tried = Vec::new();
    for agent in asked.accounts(app)? {
        let newest = app.pool.read(|connection| read::challenges_of(connection, agent.id))?;
        let newest = newest.into_iter().find(|challenge| challenge.kind == ChallengeKind::Otp);
        let Some(challenge) = newest.filter(|found| !found.used && found.expires_at > Timestamp::now()) else {
            continue;
        };
        let from_known = asked.is_known(app, &agent);
        if challenges::is_code(&app.key_file, challenge.id, code) {
            let opening = Opening::new(app, agent.id, ip)?;
            attempt(app, &challenge, from_known, ChallengeUse::SignIn(opening.session.clone())).await?;
            return opening.signed_in(app, agent.tenant, agent.id);
        }
        tried.push((challenge, from_known));
    }
    for (challenge, from_known) in tried {
        match attempt(app, &challenge, from_known, ChallengeUse::Wrong).await {
            // It has had its wrong tries; others may be left.
            Err(problem) if problem.is("invalid_code") => {}
            outcome => outcome?,
        }
    }
    Err(wrong_code())
}

async fn attempt(app: &App, challenge: &Challenge, from_known: bool, then: ChallengeUse) -> Outcome<()> {
    let actor = if matches!(then, ChallengeUse::Wrong) { Actor::System } else { Actor::Agent(challenge.agent) };
    let (challenge_id, agent_id, kind) = (challenge.id, challenge.agent, challenge.kind);
    let kind = CommandKind::TryChallenge { challenge_id, agent_id, kind, from_known, then };
    write::submit(app, command(challenge.tenant, actor, None, kind)).await.map(drop)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Reset {
    token: String,
    password: String,
}

/// What an agent's password is hashed with.
fn salt(app: &App, agent: &Agent) -> Salt {
    Salt::of_address(&app.key_file, agent.email_hmac.as_deref().unwrap_or_default())
}

/// Sets the password and signs nobody in: the agent does that, with the new password.
async fn reset(State(app): State<Arc<App>>, write: Write<Reset>) -> Outcome<Json<Done>> {
    let Reset { token, password } = &write.body;
    check::password("password", password)?;
    let wrong = || Problem::new(StatusCode::UNAUTHORIZED, "invalid_token", "the link is wrong, used or expired");
    let id = challenges::open_reset_token(&app.key_file, token).ok_or_else(wrong)?;
    let challenge = app.pool.read(|connection| read::challenge(connection, id))?;
    // A look before the hash, which isn't cheap; the writer decides.
    let open = |found: &Challenge| {
        found.kind == ChallengeKind::PasswordReset && !found.used && found.expires_at > Timestamp::now()
    };
    let challenge = challenge.filter(open).ok_or_else(wrong)?;
    let agent = super::agents::agent(&app, challenge.tenant, challenge.agent).map_err(|_| wrong())?;
    let hash = passwords::hash(password.clone(), salt(&app, &agent)).await?;
    match attempt(&app, &challenge, false, ChallengeUse::SetPassword(hash)).await {
        Err(problem) if problem.is("invalid_code") => Err(wrong()),
        outcome => outcome.map(|()| Json(Done {})),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChangePassword {
    current_password: String,
    new_password: String,
}

/// Ends every session of the agent, this one too; the answer opens a new one.
async fn change(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    ip: ClientIp,
    write: Write<ChangePassword>,
) -> Outcome<Json<SignedIn>> {
    let ChangePassword { current_password, new_password } = &write.body;
    check::password("newPassword", new_password)?;
    let agent = super::agents::agent(&app, caller.tenant, caller.agent)?;
    if !passwords::verify(current_password.clone(), agent.password_hash.clone()).await? {
        let detail = "the current password is wrong";
        return Err(Problem::new(StatusCode::FORBIDDEN, "invalid_credentials", detail).at("currentPassword"));
    }
    let opening = Opening::new(&app, agent.id, ip)?;
    let kind = CommandKind::ChangePassword {
        agent_id: agent.id,
        epoch: agent.epoch,
        password_hash: passwords::hash(new_password.clone(), salt(&app, &agent)).await?,
        session: opening.session.clone(),
    };
    write::submit(&app, command(caller.tenant, caller.actor(), None, kind)).await?;
    Ok(Json(opening.signed_in(&app, caller.tenant, caller.agent)?))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Invite {
    email: String,
    role: String,
}

async fn invite(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    write: Write<Invite>,
) -> Outcome<(StatusCode, Json<InvitationView>)> {
    super::extract::require(&caller, Permission::AgentsWrite, "invite agents")?;
    let email = check::email("email", &write.body.email)?;
    let (role, custom_role) = parse_role(&write.body.role)?;
    let invitation_id = InvitationId::fresh();
    // The invited will be the agent of this id, so the address is sealed under their key from the start.
    let sealer = Sealer::for_new(&app, AgentId(invitation_id.0))?;
    let made = InvitationCreated {
        invitation_id,
        email: sealer.seal(&email)?,
        email_hmac: email_hmac(&app.key_file, &email),
        role,
        custom_role,
        expires_at: Timestamp::now().plus_ms(MailKind::Invitation.valid_ms()),
    };
    let request = write.request(&app, caller.sender());
    let command = command(caller.tenant, caller.actor(), request, CommandKind::Invite(made));
    let answer = write::submit(&app, sealer.submission(command)).await?;
    let id = answer.repeated.and_then(|record| record.resource).map_or(invitation_id, InvitationId);
    let invitation = app.pool.read(|connection| read::invitation(connection, id))?;
    let invitation = invitation.ok_or_else(|| Problem::internal(&"an invitation that was just made isn't there"))?;
    Ok((StatusCode::CREATED, Json(app.views.invitation(&invitation)?)))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Accept {
    token: String,
    name: String,
    password: String,
}

async fn accept(
    State(app): State<Arc<App>>,
    ip: ClientIp,
    write: Write<Accept>,
) -> Outcome<(StatusCode, Json<SignedIn>)> {
    let Accept { token, name, password } = &write.body;
    let name = check::name("name", name)?;
    check::password("password", password)?;
    let wrong =
        || Problem::new(StatusCode::UNAUTHORIZED, "invalid_token", "the invitation is unknown, used or expired");
    let id = challenges::open_invitation_token(&app.key_file, token).ok_or_else(wrong)?;
    let invitation = app.pool.read(|connection| read::invitation(connection, id))?;
    let open = |accepted_at: Option<Timestamp>, ends: Timestamp| accepted_at.is_none() && ends > Timestamp::now();
    let invitation = invitation.filter(|found| open(found.accepted_at, found.expires_at)).ok_or_else(wrong)?;
    let (tenant, agent): (TenantId, AgentId) = (invitation.tenant, invitation.agent());
    let opening = Opening::new(&app, agent, ip)?;
    let of_address = Salt::of_address(&app.key_file, &invitation.email_hmac);
    let kind = CommandKind::AcceptInvitation {
        invitation_id: id,
        name: Sealer::for_known(&app, agent)?.seal(&name)?,
        password_hash: passwords::hash(password.clone(), of_address).await?,
        max_concurrent_chats: MAX_CONCURRENT_CHATS,
        session: opening.session.clone(),
    };
    write::submit(&app, command(tenant, Actor::Agent(agent), None, kind)).await?;
    Ok((StatusCode::CREATED, Json(opening.signed_in(&app, tenant, agent)?)))
}
