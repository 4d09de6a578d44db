//! `/v0` tokens, for admins: made once, shown once, stored as SHA-256.

use super::check;
use super::extract::{Write, form, require};
use super::problem::{Outcome, Problem};
use super::reports::V0Error;
use super::write::{self, command};
use crate::app::App;
use crate::auth::{AgentCaller, tokens};
use crate::core::CommandKind;
use crate::core::state::Token;
use crate::store::read;
use axum::extract::{FromRequestParts, RawQuery, State};
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Json, Router};
use ingest::event::{Actor, RequestKey};
use ingest::id::{TenantId, TokenId};
use ingest::payload::{Permission, Scope};
use ingest::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What a scope can be about.
const SCOPES: [&str; 3] = ["PIPES:READ", "DATASOURCES:READ", "DATASOURCES:APPEND"];
/// Scopes of a token.
const SCOPES_MAX: usize = 100;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v0/tokens", get(list).post(create))
        // Tinybird's clients send the slash.
        .route("/v0/tokens/", get(list).post(create))
}

/// An admin's access token, with `/v0`'s errors.
struct Admin(AgentCaller);

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = V0Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, V0Error> {
        let caller = <AgentCaller as FromRequestParts<Arc<App>>>::from_request_parts(parts, app).await?;
        require(&caller, Permission::TokensWrite, "manage tokens")?;
        Ok(Self(caller))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    scopes: Vec<Scope>,
}

/// A token to be made, not yet checked.
pub(super) struct NewToken<'a> {
    pub(super) name: &'a str,
    pub(super) scopes: &'a [Scope],
    pub(super) expires_at: Option<Timestamp>,
}

/// Makes a token; the answer to a repeat lacks the token itself.
pub(super) async fn make(
    app: &App,
    tenant: TenantId,
    actor: Actor,
    request: Option<RequestKey>,
    new: NewToken<'_>,
) -> Outcome<Value> {
    let name = check::name("name", new.name)?;
    if new.scopes.len() > SCOPES_MAX {
        return Err(Problem::invalid("scopes", format!("'scopes' has at most {SCOPES_MAX} entries")));
    }
    for scope in new.scopes {
        if !SCOPES.contains(&scope.r#type.as_str()) {
            return Err(Problem::invalid("scopes", format!("a scope's type is one of {}", SCOPES.join(", "))));
        }
        check::name("resource", &scope.resource)?;
    }
    if new.expires_at.is_some_and(|ends| ends <= Timestamp::now()) {
        return Err(Problem::invalid("expiresAt", "the token would be expired already"));
    }
    let (token_id, token) = (TokenId::fresh(), tokens::new_api_token()?);
    let kind = CommandKind::CreateToken {
        token_id,
        name,
        sha256: tokens::sha256_hex(&token),
        scopes: new.scopes.to_vec(),
        expires_at: new.expires_at,
    };
    let answer = write::submit(app, command(tenant, actor, request, kind)).await?;
    let repeated = answer.repeated.and_then(|record| record.resource).map(TokenId);
    let id = repeated.unwrap_or(token_id);
    let all = app.pool.read(|connection| read::tokens(connection, tenant))?;
    let made = all.iter().find(|token| token.id == id);
    let mut view = view(made.ok_or_else(|| Problem::internal(&"a token that was just made isn't there"))?);
    if repeated.is_none() {
        view["token"] = token.into();
    }
    Ok(view)
}

fn view(token: &Token) -> Value {
    json!({
        "id": token.id, "name": token.name, "scopes": token.scopes, "createdAt": token.created_at.to_string(),
        "expiresAt": token.expires_at.map(|at| at.to_string()),
    })
}

async fn create(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    RawQuery(query): RawQuery,
    write: Result<Write<Create>, Problem>,
) -> Result<Json<Value>, V0Error> {
    let write = write?;
    let expires_at = expiration(query.as_deref().unwrap_or_default())?;
    let request = write.request(&app, caller.sender());
    let new = NewToken { name: &write.body.name, scopes: &write.body.scopes, expires_at };
    Ok(Json(make(&app, caller.tenant, caller.actor(), request, new).await?))
}

/// `expiration_time`, in seconds since 1970.
fn expiration(query: &str) -> Outcome<Option<Timestamp>> {
    let found = form(query).into_iter().find(|(name, _)| name == "expiration_time");
    let Some((_, text)) = found else { return Ok(None) };
    let seconds: Option<i64> = text.parse().ok().filter(|seconds| (0..=253_402_300_799).contains(seconds));
    match seconds {
        Some(seconds) => Ok(Some(Timestamp(seconds * 1_000))),
        None => Err(Problem::invalid("expiration_time", "'expiration_time' is in seconds since 1970")),
    }
}

async fn list(State(app): State<Arc<App>>, Admin(caller): Admin) -> Result<Json<Value>, V0Error> {
    let tokens = app.pool.read(|connection| read::tokens(connection, caller.tenant)).map_err(Problem::from)?;
    Ok(Json(json!({ "tokens": tokens.iter().map(view).collect::<Vec<_>>() })))
}
