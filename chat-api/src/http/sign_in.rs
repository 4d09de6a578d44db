//! Signing in and out: `/v1/auth`. Access tokens live minutes; refresh tokens rotate, and a reused one ends its family.

use super::accounts::Asked;
use super::extract::Write;
use super::problem::{Outcome, Problem};
use super::surface::{AGENT, BODY, Routes};
use super::write::{self, Sealer, command};
use crate::app::App;
use crate::auth::{AgentCaller, tokens};
use crate::check;
use crate::core::CommandKind;
use crate::core::command::NewSession;
use crate::core::state::{Agent, Session};
use crate::limits::ClientIp;
use crate::store::read;
use crate::view::{AgentView, TenantView};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ingest::event::Actor;
use ingest::id::{AgentId, SessionId, TenantId};
use ingest::payload::{Payload, PermissionSet};
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    Routes::new("Sign-in")
        .post("/v1/auth/login", log_in, BODY, "Signs an agent in.")
        .post("/v1/auth/refresh", refresh, BODY, "Rotates the refresh token; a reused one ends its family.")
        .post("/v1/auth/logout", log_out, BODY, "Signs out, by the access token or the refresh token.")
        .get("/v1/auth/me", me, AGENT, "Who is signed in.")
}

/// The answer that opens a session; the token fields keep their usual names.
#[derive(Serialize, JsonSchema)]
pub(super) struct Tokens {
    access_token: String,
    refresh_token: String,
    expires_in: i64,
}

/// The answer to who has signed in.
#[derive(Serialize, JsonSchema)]
pub(super) struct SignedIn {
    #[serde(flatten)]
    tokens: Tokens,
    agent: AgentView,
}

/// A session that a command is about to open, and the refresh token that only its agent gets.
pub(super) struct Opening {
    pub(super) session: NewSession,
    refresh_token: String,
    now: Timestamp,
}

impl Opening {
    /// With the address of the request, sealed under the agent's key.
    pub(super) fn new(app: &App, agent: AgentId, ClientIp(address): ClientIp) -> Outcome<Self> {
        let session_id = SessionId::fresh();
        let refresh_token = tokens::new_refresh_token(&app.key_file, session_id)?;
        let now = Timestamp::now();
        let ip = match address {
            Some(address) => match Sealer::for_known(app, agent) {
                Ok(sealer) => Some(sealer.seal(&address.to_string())?),
                // Whose key is gone can sign in all the same; where from isn't kept.
                Err(problem) if problem.status() == StatusCode::GONE => None,
                Err(problem) => return Err(problem),
            },
            None => None,
        };
        let session = NewSession {
            session_id,
            refresh_sha256: tokens::sha256_hex(&refresh_token),
            expires_at: now.plus_ms(tokens::REFRESH_LIFE_S * 1_000),
            ip,
        };
        Ok(Self { session, refresh_token, now })
    }

    /// The tokens, once the session is open.
    pub(super) fn tokens(self, app: &App, tenant: TenantId, agent: AgentId) -> Outcome<Tokens> {
        let access_token = tokens::sign_agent(&app.key_file, tenant, agent, self.session.session_id, self.now)?;
        Ok(Tokens { access_token, refresh_token: self.refresh_token, expires_in: tokens::ACCESS_TOKEN_LIFE_S })
    }

    /// The answer, once the session is open.
    pub(super) fn signed_in(self, app: &App, tenant: TenantId, agent: AgentId) -> Outcome<SignedIn> {
        let found = super::agents::agent(app, tenant, agent)?;
        Ok(SignedIn { tokens: self.tokens(app, tenant, agent)?, agent: app.views.agent(&found)? })
    }
}

/// Opens a session for an agent who has proved to be one, as they were when they did.
pub(super) async fn open_session(app: &App, agent: &Agent, ip: ClientIp) -> Outcome<Tokens> {
    let opening = Opening::new(app, agent.id, ip)?;
    let kind =
        CommandKind::OpenSession { agent_id: agent.id, epoch: Some(agent.epoch), session: opening.session.clone() };
    write::submit(app, command(agent.tenant, Actor::Agent(agent.id), None, kind)).await?;
    opening.tokens(app, agent.tenant, agent.id)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogIn {
    email: String,
    password: String,
    tenant: Option<String>,
}

async fn log_in(State(app): State<Arc<App>>, ip: ClientIp, write: Write<LogIn>) -> Outcome<Json<SignedIn>> {
    let LogIn { email, password, tenant } = write.body;
    let email = check::email("email", &email)?;
    let found = Asked::new(&app, &email, tenant.as_deref(), ip)?.with_password(&app, password).await?;
    let agent = match &found[..] {
        [agent] => agent,
        [] => {
            let detail = "the address or the password is wrong";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "invalid_credentials", detail));
        }
        _ => {
            // Said only to someone who knows the password of several: others must not learn where an address is known.
            let detail = "this address has this password in several tenants; name one in 'tenant', by its id or slug";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "tenant_required", detail).at("tenant"));
        }
    };
    let tokens = open_session(&app, agent, ip).await?;
    let agent = super::agents::agent(&app, agent.tenant, agent.id)?;
    Ok(Json(SignedIn { tokens, agent: app.views.agent(&agent)? }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    refresh_token: String,
}

fn invalid_refresh_token() -> Problem {
    let detail = "the refresh token is expired, used or unknown; sign in again";
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_refresh_token", detail)
}

fn session_of(app: &App, refresh_token: &str) -> Outcome<Session> {
    let id = tokens::session_of(refresh_token).ok_or_else(invalid_refresh_token)?;
    app.pool.read(|connection| read::session(connection, id))?.ok_or_else(invalid_refresh_token)
}

async fn refresh(State(app): State<Arc<App>>, write: Write<Refresh>) -> Outcome<Json<SignedIn>> {
    let presented = &write.body.refresh_token;
    let session = session_of(&app, presented)?;
    let presented_sha256 = tokens::sha256_hex(presented);
    // Anyone can put a token together that names this session. It's refused, and nothing else happens.
    if session.refresh_sha256 != presented_sha256 && !tokens::is_genuine(&app.key_file, presented) {
        return Err(invalid_refresh_token());
    }
    let agent = app
        .pool
        .read(|connection| read::agent(connection, session.tenant, session.agent))?
        .ok_or_else(invalid_refresh_token)?;
    let refresh_token = tokens::new_refresh_token(&app.key_file, session.id)?;
    let kind = CommandKind::RefreshSession {
        session_id: session.id,
        presented_sha256,
        refresh_sha256: tokens::sha256_hex(&refresh_token),
    };
    let answer = write::submit(&app, command(session.tenant, Actor::Agent(agent.id), None, kind)).await?;
    if !answer.events.iter().any(|event| matches!(event.payload, Payload::SessionRefreshed(_))) {
        return Err(invalid_refresh_token());
    }
    let access_token = tokens::sign_agent(&app.key_file, session.tenant, agent.id, session.id, Timestamp::now())?;
    let tokens = Tokens { access_token, refresh_token, expires_in: tokens::ACCESS_TOKEN_LIFE_S };
    Ok(Json(SignedIn { tokens, agent: app.views.agent(&agent)? }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogOut {
    refresh_token: Option<String>,
}

/// Nothing to say but that it's done.
#[derive(Serialize, JsonSchema)]
pub(super) struct Done {}

/// By the access token, or by the refresh token when that one has ended.
async fn log_out(
    State(app): State<Arc<App>>,
    caller: Option<AgentCaller>,
    write: Write<LogOut>,
) -> Outcome<Json<Done>> {
    let (tenant, agent, session_id) = match (caller, &write.body.refresh_token) {
        (Some(caller), _) => (caller.tenant, caller.agent, caller.session),
        (None, Some(refresh_token)) => {
            let session = session_of(&app, refresh_token)?;
            if session.refresh_sha256 != tokens::sha256_hex(refresh_token) {
                return Err(invalid_refresh_token());
            }
            (session.tenant, session.agent, session.id)
        }
        (None, None) => return Err(Problem::unauthorized("send the access token, or the refresh token in the body")),
    };
    let kind = CommandKind::CloseSession { session_id };
    write::submit(&app, command(tenant, Actor::Agent(agent), None, kind)).await?;
    Ok(Json(Done {}))
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Me {
    #[serde(flatten)]
    agent: AgentView,
    /// All that the agent holds now, by role and exceptions.
    effective_permissions: PermissionSet,
    tenant: TenantView,
}

async fn me(State(app): State<Arc<App>>, caller: AgentCaller) -> Outcome<Json<Me>> {
    let tenant = super::tenants::tenant(&app, caller.tenant)?;
    let agent = super::agents::agent(&app, caller.tenant, caller.agent)?;
    let agent = app.views.agent(&agent)?;
    Ok(Json(Me { agent, effective_permissions: caller.permissions, tenant: TenantView::from(&tenant) }))
}
