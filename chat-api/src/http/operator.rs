//! What spans tenants: `/v1/operator`, for whoever holds the installation's operator token. Without one configured
//! these routes aren't there.

use super::extract::{Params, Write, page_size};
use super::page::{Held, Page, after_word, word_cursor};
use super::problem::{Outcome, Problem};
use super::surface::describe::{Operation, Part};
use super::surface::{OPERATOR, Routes};
use super::tenants::{self, NewTenant};
use super::tokens;
use crate::app::App;
use crate::auth;
use crate::check;
use crate::core::state::Tenant;
use crate::limits::Reader;
use crate::store::read;
use crate::view::{AgentView, TenantView};
use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use ingest::event::Actor;
use ingest::payload::Scope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whose idempotency keys these are.
const SENDER: &str = "operator";

pub(super) fn routes() -> Routes {
    Routes::new("Operator")
        .post("/v1/operator/tenants", create_tenant, OPERATOR, "Makes a tenant with its owner.")
        .get("/v1/operator/tenants", list_tenants, OPERATOR, "All tenants.")
        .post("/v1/operator/tenants/{slug}/tokens", create_token, OPERATOR, "Makes a /v0 token for a tenant.")
}

/// Whoever runs the installation.
pub(super) struct Operator;

impl Part for Operator {
    fn describe(operation: &mut Operation<'_>) {
        // 404: no operator is configured, so these routes aren't there.
        operation.refuses(&[404]);
    }
}

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        auth::operator(app, &parts.headers)?;
        Ok(Self)
    }
}

/// A tenant by its slug.
pub(super) fn tenant_by_slug(app: &App, slug: &str) -> Outcome<Tenant> {
    app.pool.read(|connection| read::tenant_by_slug(connection, slug))?.ok_or_else(|| Problem::not_found("tenant"))
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateTenant {
    name: String,
    owner_name: String,
    owner_email: String,
    owner_password: Option<String>,
    time_zone: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct MadeTenant {
    tenant: TenantView,
    agent: AgentView,
}

async fn create_tenant(
    State(app): State<Arc<App>>,
    _: Operator,
    write: Write<CreateTenant>,
) -> Outcome<(StatusCode, Json<MadeTenant>)> {
    let body = &write.body;
    body.owner_password.as_deref().map(|password| check::password("ownerPassword", password)).transpose()?;
    let new = NewTenant {
        name: check::name("name", &body.name)?,
        time_zone: check::time_zone("timeZone", body.time_zone.as_deref().unwrap_or("UTC"))?,
        owner_name: check::name("ownerName", &body.owner_name)?,
        owner_email: check::email("ownerEmail", &body.owner_email)?,
        owner_password: body.owner_password.clone(),
    };
    let made = tenants::create(&app, &write, SENDER, |_| Actor::Operator, new).await?;
    let agent = app.views.agent(&made.owner)?;
    Ok((StatusCode::CREATED, Json(MadeTenant { tenant: TenantView::from(&made.tenant), agent })))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListParams {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// By slug.
async fn list_tenants(
    State(app): State<Arc<App>>,
    _: Operator,
    Params(params): Params<ListParams>,
) -> Outcome<Held<Page<TenantView>>> {
    let (limit, after) = (page_size(params.limit)?, after_word(params.cursor.as_deref())?);
    let hold = app.limiter.reading.hold(Reader::operator()).await;
    let tenants = app.pool.read(|connection| read::tenants_after(connection, &after, limit))?;
    Page::of(hold, &tenants, |slug| word_cursor(slug), |tenant| Ok(Some(TenantView::from(tenant))))
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateToken {
    name: Option<String>,
    #[serde(default)]
    scopes: Vec<Scope>,
    expires_at: Option<String>,
}

async fn create_token(
    State(app): State<Arc<App>>,
    _: Operator,
    Path(slug): Path<String>,
    write: Write<CreateToken>,
) -> Outcome<(StatusCode, Json<tokens::TokenView>)> {
    let tenant = tenant_by_slug(&app, &slug)?;
    let body = &write.body;
    let expires_at = body.expires_at.as_deref().map(|text| check::time("expiresAt", text)).transpose()?;
    let new = tokens::NewToken {
        name: body.name.as_deref().unwrap_or("operator"),
        scopes: &body.scopes,
        expires_at,
        limits: None,
    };
    let request = write.request(&app, SENDER.to_owned());
    let made = tokens::make(&app, tenant.id, Actor::Operator, request, new).await?;
    Ok((StatusCode::CREATED, Json(made)))
}
