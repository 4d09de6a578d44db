//! Signing in and out: `/v1/auth`. Access tokens live minutes; refresh tokens rotate, and a reused one ends its family.

use super::check;
use super::extract::Write;
use super::problem::{Outcome, Problem};
use super::write::{self, command};
use crate::app::App;
use crate::auth::{AgentCaller, passwords, tokens};
use crate::core::CommandKind;
use crate::core::state::{Agent, Session};
use crate::import::email_hmac;
use crate::store::read;
use crate::view::{AgentView, TenantView};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use ingest::event::Actor;
use ingest::id::{SessionId, TenantId};
use ingest::payload::Payload;
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// Tenants whose agents share an address and are tried with one password: each try costs a hash.
const SAME_ADDRESS_MAX: usize = 4;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/auth/login", post(log_in))
        .route("/v1/auth/refresh", post(refresh))
        .route("/v1/auth/logout", post(log_out))
        .route("/v1/auth/me", get(me))
}

/// The answer that opens a session; the token fields keep their usual names.
#[derive(Serialize)]
pub(super) struct Tokens {
    access_token: String,
    refresh_token: String,
    expires_in: i64,
}

#[derive(Serialize)]
struct SignedIn {
    #[serde(flatten)]
    tokens: Tokens,
    agent: AgentView,
}

/// Opens a session for an agent who has proved to be one.
pub(super) async fn open_session(app: &App, agent: &Agent) -> Outcome<Tokens> {
    let session_id = SessionId::fresh();
    let refresh_token = tokens::new_refresh_token(session_id)?;
    let now = Timestamp::now();
    let kind = CommandKind::OpenSession {
        session_id,
        agent_id: agent.id,
        refresh_sha256: tokens::sha256_hex(&refresh_token),
        expires_at: now.plus_ms(tokens::REFRESH_LIFE_S * 1_000),
    };
    write::submit(app, command(agent.tenant, Actor::Agent(agent.id), None, kind)).await?;
    let access_token = tokens::sign_agent(&app.key_file, agent.tenant, agent.id, session_id, now)?;
    Ok(Tokens { access_token, refresh_token, expires_in: tokens::ACCESS_TOKEN_LIFE_S })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogIn {
    email: String,
    password: String,
    tenant: Option<String>,
}

async fn log_in(State(app): State<Arc<App>>, write: Write<LogIn>) -> Outcome<Json<SignedIn>> {
    let LogIn { email, password, tenant } = write.body;
    let email = check::email("email", &email)?;
    let mut candidates = candidates(&app, &email, tenant.as_deref())?;
    candidates.truncate(SAME_ADDRESS_MAX);
    let ambiguous = candidates.len() > 1;
    let mut found = None;
    // At least one hash is computed, whether the address is known or not.
    let first = candidates.first().and_then(|agent| agent.password_hash.clone());
    if passwords::verify(password.clone(), first).await? {
        found = candidates.first();
    }
    for agent in candidates.iter().skip(1) {
        if passwords::verify(password.clone(), agent.password_hash.clone()).await? {
            found = Some(agent);
        }
    }
    let Some(agent) = found else {
        let detail = "the address or the password is wrong";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "invalid_credentials", detail));
    };
    if ambiguous {
        // Said only to someone who knows a password: others must not learn where an address is known.
        let detail = "this address is known in several tenants; name one in 'tenant', by its id or slug";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "tenant_required", detail).at("tenant"));
    }
    Ok(Json(SignedIn { tokens: open_session(&app, agent).await?, agent: app.views.agent(agent)? }))
}

fn candidates(app: &App, email: &str, tenant: Option<&str>) -> Outcome<Vec<Agent>> {
    let hmac = email_hmac(&app.key_file, email);
    let (mut agents, tenant_id) = app.pool.read(|connection| {
        let tenant_id = match tenant {
            None => None,
            Some(text) => Some(match text.parse::<TenantId>() {
                Ok(id) => Some(id),
                Err(_) => read::tenant_by_slug(connection, text)?.map(|found| found.id),
            }),
        };
        Ok((read::agents_by_email(connection, &hmac)?, tenant_id))
    })?;
    if let Some(tenant_id) = tenant_id {
        agents.retain(|agent| Some(agent.tenant) == tenant_id);
    }
    Ok(agents)
}

#[derive(Deserialize)]
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
    let agent = app
        .pool
        .read(|connection| read::agent(connection, session.tenant, session.agent))?
        .ok_or_else(invalid_refresh_token)?;
    let refresh_token = tokens::new_refresh_token(session.id)?;
    let kind = CommandKind::RefreshSession {
        session_id: session.id,
        presented_sha256: tokens::sha256_hex(presented),
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogOut {
    refresh_token: Option<String>,
}

/// By the access token, or by the refresh token when that one has ended.
async fn log_out(
    State(app): State<Arc<App>>,
    caller: Option<AgentCaller>,
    write: Write<LogOut>,
) -> Outcome<Json<Value>> {
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
    Ok(Json(json!({})))
}

#[derive(Serialize)]
struct Me {
    #[serde(flatten)]
    agent: AgentView,
    tenant: TenantView,
}

async fn me(State(app): State<Arc<App>>, caller: AgentCaller) -> Outcome<Json<Me>> {
    let tenant = super::tenants::tenant(&app, caller.tenant)?;
    let agent = super::agents::agent(&app, caller.tenant, caller.agent)?;
    Ok(Json(Me { agent: app.views.agent(&agent)?, tenant: TenantView::from(&tenant) }))
}
