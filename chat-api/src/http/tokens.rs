//! `/v0` tokens, for admins: made once, shown once, stored as SHA-256, good until they end or are revoked. And the key under
//! which the tenant can sign JWTs of its own, with the same claims, for as many readers as it likes.

use super::extract::{PAGE_MAX, Write, form, require, require_to_give};
use super::page::Items;
use super::piecewise::{self, At};
use super::problem::{Outcome, Problem};
use super::reports::V0Error;
use super::surface::describe::{Operation, Part, may_lack};
use super::surface::{Routes, Way};
use super::write::{self, command};
use crate::app::App;
use crate::auth::scopes::{self, RPS_MAX, Scopes};
use crate::auth::{AgentCaller, tokens};
use crate::check;
use crate::core::CommandKind;
use crate::core::grants::Grant;
use crate::core::state::Token;
use crate::limits::Reader;
use crate::store::read;
use axum::Json;
use axum::extract::{FromRequestParts, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use ingest::event::{Actor, RequestKey};
use ingest::id::{TenantId, TokenId};
use ingest::payload::{Permission, Scope, TokenLimits};
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

pub(super) fn routes() -> Routes {
    use Permission::{ReportsRead, TokensWrite};
    const ADMIN: &[Way] = &[Way::May(TokensWrite)];
    // Every token reads something, and a signature can say anything.
    const GIVE: &[Way] = &[Way::Holding(&[ReportsRead, TokensWrite])];
    let routes = Routes::new("Report tokens")
        .get("/v0/tokens", list, ADMIN, "The tenant's /v0 tokens.")
        .answers::<TokenList>(&[200])
        .post("/v0/tokens", create, GIVE, "Makes a /v0 token; it is shown once.")
        .also(expiration_time);
    // Tinybird's clients send the slash.
    routes
        .get("/v0/tokens/", list, ADMIN, "The same.")
        .answers::<TokenList>(&[200])
        .post("/v0/tokens/", create, GIVE, "The same.")
        .also(expiration_time)
        .get("/v0/tokens/signing_key", signing_key, GIVE, "The key with which the tenant signs tokens of its own.")
        .delete("/v0/tokens/{token}", revoke, ADMIN, "Revokes a /v0 token, by its id or its name.")
        .statuses(&[204])
        .also(|operation| operation.refuses(&[409]))
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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    scopes: Vec<Scope>,
    limits: Option<TokenLimits>,
}

/// A token to be made, not yet checked.
pub(super) struct NewToken<'a> {
    pub(super) name: &'a str,
    pub(super) scopes: &'a [Scope],
    pub(super) expires_at: Option<Timestamp>,
    pub(super) limits: Option<TokenLimits>,
}

/// Makes a token; the answer to a repeat lacks the token itself.
pub(super) async fn make(
    app: &App,
    tenant: TenantId,
    actor: Actor,
    request: Option<RequestKey>,
    new: NewToken<'_>,
) -> Outcome<TokenView> {
    let name = check::name("name", new.name)?;
    scopes::check(new.scopes).map_err(|error| Problem::invalid("scopes", error))?;
    for (table, conditions) in Scopes::of(new.scopes).filters() {
        for condition in conditions {
            let checked = app.reports.check_filter(&tenant.to_string(), &table, &condition).await;
            checked.map_err(|error| Problem::invalid("scopes", format!("the filter of '{table}': {error}")))?;
        }
    }
    if new.limits.is_some_and(|limits| !(1..=RPS_MAX).contains(&limits.rps)) {
        return Err(Problem::invalid("limits", format!("'rps' is from 1 to {RPS_MAX}")));
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
        limits: new.limits,
    };
    let answer = write::submit(app, command(tenant, actor, request, kind)).await?;
    let repeated = answer.repeated.and_then(|record| record.resource).map(TokenId);
    let id = repeated.unwrap_or(token_id);
    let made = app.pool.read(|connection| read::token(connection, tenant, id))?;
    let made = made.ok_or_else(|| Problem::internal(&"a token that was just made isn't there"))?;
    let mut view = TokenView::from(&made);
    view.token = repeated.is_none().then_some(token);
    Ok(view)
}

/// A token as admins see it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenView {
    id: TokenId,
    name: String,
    scopes: Vec<ScopeView>,
    created_at: String,
    expires_at: Option<String>,
    limits: Option<TokenLimits>,
    /// Only when it was just made: it's shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<String>")]
    token: Option<String>,
}

impl From<&Token> for TokenView {
    fn from(token: &Token) -> Self {
        Self {
            id: token.id,
            name: token.name.clone(),
            scopes: token.scopes.iter().map(ScopeView::from).collect(),
            created_at: token.created_at.to_string(),
            expires_at: token.expires_at.map(|at| at.to_string()),
            limits: token.limits,
            token: None,
        }
    }
}

/// What a token may do with a resource, in Tinybird's words.
#[derive(Serialize, JsonSchema)]
struct ScopeView {
    r#type: String,
    resource: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "may_lack::<BTreeMap<String, Value>>")]
    fixed_params: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "may_lack::<Option<String>>")]
    filter: Option<String>,
}

impl From<&Scope> for ScopeView {
    fn from(scope: &Scope) -> Self {
        Self {
            r#type: scope.r#type.clone(),
            resource: scope.resource.clone(),
            fixed_params: scope.fixed_params.clone(),
            filter: scope.filter.clone(),
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct TokenList {
    tokens: Vec<TokenView>,
}

fn expiration_time(operation: &mut Operation<'_>) {
    operation.query("expiration_time", "When the token ends, in seconds since 1970.", json!({ "type": "integer" }));
}

impl Part for Admin {
    fn describe(operation: &mut Operation<'_>) {
        operation.refuses(&[403]);
    }
}

async fn create(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    RawQuery(query): RawQuery,
    write: Result<Write<Create>, Problem>,
) -> Result<Json<TokenView>, V0Error> {
    let write = write?;
    // Before filters are tried on tables that the caller may not read; the writer asks the same.
    require_to_give(&caller, Grant::Token(&write.body.scopes))?;
    let expires_at = expiration(query.as_deref().unwrap_or_default())?;
    let request = write.request(&app, caller.sender());
    let new = NewToken { name: &write.body.name, scopes: &write.body.scopes, expires_at, limits: write.body.limits };
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

/// The key of a tenant's own tokens.
#[derive(Serialize, JsonSchema)]
struct SigningKey {
    workspace_id: TenantId,
    algorithm: &'static str,
    key: String,
}

/// Whoever has the key can sign tokens with any scopes.
async fn signing_key(State(app): State<Arc<App>>, Admin(caller): Admin) -> Result<Json<SigningKey>, V0Error> {
    require_to_give(&caller, Grant::SigningKey)?;
    let key = tokens::report_key(&app.key_file, caller.tenant);
    Ok(Json(SigningKey { workspace_id: caller.tenant, algorithm: "HS256", key }))
}

/// Whole, as Tinybird has it, and made as it's read.
async fn list(State(app): State<Arc<App>>, Admin(caller): Admin) -> Result<Response, V0Error> {
    let (shared, reader) = (Arc::clone(&app), Reader::from(&caller));
    let make = move |at: At<TokenId>| {
        let (app, tenant) = (Arc::clone(&shared), caller.tenant);
        async move {
            let read = app.pool.read(|connection| read::tokens_after(connection, tenant, at.after, PAGE_MAX));
            let tokens = read.map_err(Problem::from)?;
            let (items, next) = Items::of(&tokens, |token| Ok(Some(TokenView::from(token))))?;
            Ok::<_, V0Error>(piecewise::array("{\"tokens\":[", &at, &items, next))
        }
    };
    piecewise::answer(&app.limiter.reading, reader, At::start(TokenId(Uuid::nil())), make).await
}

/// From the next request on, on connections that are open too, the token is nobody's.
async fn revoke(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(named): Path<String>,
) -> Result<Response, V0Error> {
    let is_it = |token: Token| {
        let by_id = named.parse() == Ok(token.id);
        (token.revoked_at.is_none() && (by_id || token.name == named)).then_some((token.id, by_id))
    };
    let found: Vec<Option<(TokenId, bool)>> =
        app.pool.read(|connection| read::tokens(connection, caller.tenant, is_it)).map_err(Problem::from)?;
    let by_id = found.iter().flatten().find(|(_, by_id)| *by_id);
    let mut by_name = found.iter().flatten().filter(|(_, by_id)| !by_id);
    let (token_id, _) = match (by_id, by_name.next(), by_name.next()) {
        (Some(found), ..) | (None, Some(found), None) => *found,
        (None, Some(_), Some(_)) => {
            let detail = format!("several tokens are named '{named}'; say which by its id");
            return Err(Problem::new(StatusCode::CONFLICT, "ambiguous", detail).into());
        }
        (None, None, _) => return Err(Problem::not_found("token").into()),
    };
    let kind = CommandKind::RevokeToken { token_id };
    write::submit(&app, command(caller.tenant, caller.actor(), None, kind)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
