//! Sign-up and the tenant itself: `/v1/tenants`.

use super::extract::{Write, require};
use super::problem::{Outcome, Problem};
use super::sign_in;
use super::surface::describe::may_lack;
use super::surface::{AGENT, ANYONE, Routes, Way};
use super::write::{self, Sealer, command};
use crate::app::App;
use crate::auth::{AgentCaller, passwords};
use crate::check;
use crate::core::CommandKind;
use crate::core::command::{AgentDetails, NewAgent};
use crate::core::decide::REQUEST_LIFE_MS;
use crate::core::state::{Agent, Tenant};
use crate::import::{email_hmac, slugify};
use crate::limits::ClientIp;
use crate::store::read;
use crate::view::{AgentView, TenantView};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use ingest::event::{Actor, RequestKey};
use ingest::id::{AgentId, TenantId};
use ingest::payload::{Holiday, OpeningHours, Permission, Role, SlaTargets, TenantUpdated};
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Chats at once for a new agent; the contract's default.
pub const MAX_CONCURRENT_CHATS: u32 = 6;
/// Minutes of standby or idleness: a week.
const MINUTES_MAX: u32 = 7 * 24 * 60;
/// Slugs tried before sign-up gives up: the name's own, then numbered ones.
const SLUGS_MAX: u32 = 20;
/// A key is taken for forgotten a little before it is: past its life the id it leads to must not be used again.
const KEY_LIFE_MS: i64 = REQUEST_LIFE_MS - 60 * 60 * 1_000;

pub(super) fn routes() -> Routes {
    Routes::new("Tenant")
        .post("/v1/tenants", sign_up, ANYONE, "Signs a tenant up; its first agent is the owner.")
        .answers::<SignedUp>(&[201])
        .get("/v1/tenants/me", show, AGENT, "The caller's tenant.")
        .patch("/v1/tenants/me", change, &[Way::May(Permission::SettingsWrite)], "Changes the tenant's settings.")
        .post(
            "/v1/tenants/me/transfer-ownership",
            transfer_ownership,
            &[Way::May(Permission::Ownership)],
            "Hands the tenant to another agent; both sign in again.",
        )
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignUp {
    name: String,
    admin_name: String,
    admin_email: String,
    admin_password: String,
    time_zone: Option<String>,
}

/// A tenant to be made, checked.
pub(super) struct NewTenant {
    pub(super) name: String,
    pub(super) time_zone: String,
    pub(super) owner_name: String,
    pub(super) owner_email: String,
    pub(super) owner_password: Option<String>,
}

/// A tenant that was made.
pub(super) struct MadeTenant {
    pub(super) tenant: Tenant,
    pub(super) owner: Agent,
    /// By an earlier request with the same key.
    pub(super) repeated: bool,
}

#[derive(Serialize, JsonSchema)]
struct SignedUp {
    tenant: TenantView,
    agent: AgentView,
    #[serde(flatten)]
    #[schemars(schema_with = "may_lack::<sign_in::Tokens>")]
    tokens: Option<sign_in::Tokens>,
}

async fn sign_up(State(app): State<Arc<App>>, ip: ClientIp, write: Write<SignUp>) -> Outcome<Response> {
    write.public_key()?;
    let body = &write.body;
    check::password("adminPassword", &body.admin_password)?;
    let new = NewTenant {
        name: check::name("name", &body.name)?,
        time_zone: check::time_zone("timeZone", body.time_zone.as_deref().unwrap_or("UTC"))?,
        owner_name: check::name("adminName", &body.admin_name)?,
        owner_email: check::email("adminEmail", &body.admin_email)?,
        owner_password: Some(body.admin_password.clone()),
    };
    let made = create(&app, &write, "sign-up", Actor::Agent, new).await?;
    // A repeat answers what was made, without secrets: whoever has only the key must not sign in with it.
    let tokens = if made.repeated { None } else { Some(sign_in::open_session(&app, &made.owner, ip).await?) };
    let agent = app.views.agent(&made.owner)?;
    let body = SignedUp { tenant: TenantView::from(&made.tenant), agent, tokens };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// Makes a tenant and its owner. With an idempotency key the ids follow from it, so that a repeat finds them.
pub(super) async fn create<T>(
    app: &App,
    write: &Write<T>,
    sender: &str,
    actor: impl Fn(AgentId) -> Actor,
    new: NewTenant,
) -> Outcome<MadeTenant> {
    let (tenant, owner) = ids(app, sender, write.key.as_deref())?;
    // Without the password: a fast hash of it must not be stored anywhere.
    let told = [&new.name, &new.time_zone, &new.owner_name, &new.owner_email].map(String::as_str).join("\n");
    let request = write.request_as(app, sender.to_owned(), told.as_bytes());
    let hash = match &new.owner_password {
        Some(password) => {
            let salt = passwords::Salt::of_address(&app.key_file, &email_hmac(&app.key_file, &new.owner_email));
            Some(passwords::hash(password.clone(), salt).await?)
        }
        None => None,
    };
    let base = slugify(&new.name);
    let base = if base.is_empty() { "tenant" } else { &base };
    for number in 1..=SLUGS_MAX {
        let slug = if number == 1 { base.to_owned() } else { format!("{base}-{number}") };
        let known = app.pool.read(|connection| read::tenant_by_slug(connection, &slug))?;
        // A repeat must meet its own first outcome, so the slug of that very tenant is tried all the same.
        if known.is_some_and(|found| found.id != tenant) {
            continue;
        }
        match create_as(app, tenant, owner, slug, actor(owner), request.clone(), &new, hash.clone()).await {
            Err(problem) if problem.is("slug_taken") => {}
            Ok(repeated) => return made(app, tenant, owner, repeated),
            Err(problem) => return Err(problem),
        }
    }
    Err(Problem::new(StatusCode::CONFLICT, "slug_taken", "too many tenants have this name").at("name"))
}

fn ids(app: &App, sender: &str, key: Option<&str>) -> Outcome<(TenantId, AgentId)> {
    let Some(key) = key else { return Ok((TenantId::fresh(), AgentId::fresh())) };
    let parts: [&[u8]; 2] = [sender.as_bytes(), key.as_bytes()];
    let tenant = TenantId::derived(&parts);
    let known = app.pool.read(|connection| read::tenant(connection, tenant))?;
    let forgotten = known.is_some_and(|found| Timestamp::now().since(found.created_at) > KEY_LIFE_MS);
    Ok(if forgotten { (TenantId::fresh(), AgentId::fresh()) } else { (tenant, AgentId::derived(&parts)) })
}

#[expect(clippy::too_many_arguments, reason = "one attempt of `create`, with all it has worked out")]
async fn create_as(
    app: &App,
    tenant: TenantId,
    owner: AgentId,
    slug: String,
    actor: Actor,
    request: Option<RequestKey>,
    new: &NewTenant,
    password_hash: Option<String>,
) -> Outcome<bool> {
    let sealer = Sealer::for_new(app, owner)?;
    let agent = NewAgent {
        agent_id: owner,
        name: sealer.seal(&new.owner_name)?,
        email: Some(sealer.seal(&new.owner_email)?),
        email_hmac: Some(email_hmac(&app.key_file, &new.owner_email)),
        password_hash,
        role: Role::Owner,
        max_concurrent_chats: MAX_CONCURRENT_CHATS,
        external_id: None,
        details: AgentDetails::default(),
    };
    let (name, time_zone) = (new.name.clone(), new.time_zone.clone());
    let kind = CommandKind::CreateTenant { name, slug, time_zone, owner: Some(agent) };
    let answer = write::submit(app, sealer.submission(command(tenant, actor, request, kind))).await?;
    Ok(answer.repeated.is_some())
}

fn made(app: &App, tenant: TenantId, owner: AgentId, repeated: bool) -> Outcome<MadeTenant> {
    let (found, agent) =
        app.pool.read(|connection| Ok((read::tenant(connection, tenant)?, read::agent(connection, tenant, owner)?)))?;
    match (found, agent) {
        (Some(tenant), Some(owner)) => Ok(MadeTenant { tenant, owner, repeated }),
        _ => Err(Problem::internal(&"a tenant that was just made isn't there")),
    }
}

/// The caller's tenant.
pub(super) fn tenant(app: &App, id: TenantId) -> Outcome<Tenant> {
    app.pool.read(|connection| read::tenant(connection, id))?.ok_or_else(|| Problem::not_found("tenant"))
}

async fn show(State(app): State<Arc<App>>, caller: AgentCaller) -> Outcome<Json<TenantView>> {
    Ok(Json(TenantView::from(&tenant(&app, caller.tenant)?)))
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Change {
    name: Option<String>,
    time_zone: Option<String>,
    opening_hours: Option<Vec<OpeningHours>>,
    holidays: Option<Vec<Holiday>>,
    sla_targets: Option<SlaTargets>,
    session_hours: Option<u32>,
    standby_minutes: Option<u32>,
    idle_minutes: Option<u32>,
    auto_close_days: Option<u32>,
    require_email: Option<bool>,
}

fn checked(body: &Change) -> Outcome<TenantUpdated> {
    Ok(TenantUpdated {
        name: body.name.as_deref().map(|name| check::name("name", name)).transpose()?,
        time_zone: body.time_zone.as_deref().map(|zone| check::time_zone("timeZone", zone)).transpose()?,
        opening_hours: body.opening_hours.as_deref().map(check::opening_hours).transpose()?,
        holidays: body.holidays.as_deref().map(check::holidays).transpose()?,
        sla_targets: body.sla_targets.map(check::sla_targets).transpose()?,
        session_hours: check::number("sessionHours", body.session_hours, 1..=168)?,
        standby_minutes: check::number("standbyMinutes", body.standby_minutes, 1..=MINUTES_MAX)?,
        idle_minutes: check::number("idleMinutes", body.idle_minutes, 1..=MINUTES_MAX)?,
        auto_close_days: check::number("autoCloseDays", body.auto_close_days, 1..=365)?,
        require_email: body.require_email,
    })
}

async fn change(State(app): State<Arc<App>>, caller: AgentCaller, write: Write<Change>) -> Outcome<Json<TenantView>> {
    require(&caller, Permission::SettingsWrite, "change the tenant")?;
    let change = checked(&write.body)?;
    let request = write.request(&app, caller.sender());
    let kind = CommandKind::UpdateTenant(Box::new(change));
    write::submit(&app, command(caller.tenant, caller.actor(), request, kind)).await?;
    Ok(Json(TenantView::from(&tenant(&app, caller.tenant)?)))
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TransferOwnership {
    agent_id: String,
}

/// An owner hands the tenant to another agent, and is an admin from then on. Both must sign in again.
async fn transfer_ownership(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    write: Write<TransferOwnership>,
) -> Outcome<Json<TenantView>> {
    let agent_id = write.body.agent_id.parse().map_err(|_| Problem::not_found("agent"))?;
    let request = write.request(&app, caller.sender());
    let kind = CommandKind::TransferOwnership { agent_id };
    write::submit(&app, command(caller.tenant, caller.actor(), request, kind)).await?;
    Ok(Json(TenantView::from(&tenant(&app, caller.tenant)?)))
}
