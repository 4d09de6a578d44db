//! What an agent has to do and has done: `/v1/agents/{id}/stats`.

use super::agents::agent;
use super::extract::{Id, require};
use super::problem::{Outcome, Problem};
use super::tenants::tenant;
use crate::app::App;
use crate::auth::AgentCaller;
use crate::auth::wire::metrics_version;
use crate::store::read;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ingest::id::AgentId;
use ingest::payload::{AgentStatus, Permission};
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sql::QueryError;
use std::sync::Arc;

/// An agent's numbers; those of the reports have their definitions (docs/METRICS.md).
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    active_chats: u32,
    /// Gets chats automatically: online, accepting, allowed to reply, and with a free slot.
    available: bool,
    available_slots: u32,
    /// Of the last 30 days; `null` without an answer.
    first_response_seconds_p50: Option<f64>,
    /// Since midnight in the tenant's zone.
    resolved_today: u64,
}

#[derive(Deserialize, JsonSchema)]
struct Report {
    data: Vec<Row>,
}

#[derive(Deserialize, JsonSchema)]
struct Row {
    p50_s: Option<f64>,
    resolved: u64,
}

/// Both numbers as the reports define them: an answer is its author's, a resolve the assigned agent's, else the
/// resolver's. Ids and zones hold nothing that could end a literal.
fn statement(agent: AgentId, zone: &str) -> String {
    let day = |instant: &str| format!("CAST(to_local_time({instant} AT TIME ZONE '{zone}') AS DATE)");
    format!(
        "SELECT (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY first_response_seconds) FROM messages
           WHERE author_id = '{agent}' AND first_response_seconds IS NOT NULL
             AND occurred_at >= now() - INTERVAL '30 days') AS p50_s,
         (SELECT count(*) FROM resolutions WHERE coalesce(agent_id, resolved_by) = '{agent}'
             AND {} = {}) AS resolved",
        day("occurred_at"),
        day("now()")
    )
}

async fn report(app: &App, caller: &AgentCaller, id: AgentId) -> Outcome<Row> {
    let found = tenant(app, caller.tenant)?;
    let (metrics, time_zone) = (metrics_version(&found.settings), found.time_zone);
    let sql = statement(id, &time_zone);
    let (tenant, now_ms) = (caller.tenant.to_string(), Timestamp::now().0);
    let (readable, filters) = (sql::Readable::All, sql::RowFilters::new());
    let asked = sql::Caller { tenant, time_zone, now_ms, readable, filters, metrics };
    let json = match app.reports.query(&asked, &sql).await {
        Ok(result) => app.reports.json(result).await.map_err(unavailable)?,
        Err(error) => return Err(unavailable(error)),
    };
    let report: Report = serde_json::from_slice(&json).map_err(|error| Problem::internal(&error))?;
    report.data.into_iter().next().ok_or_else(|| Problem::internal(&"a report of one row has none"))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: QueryError) -> Problem {
    tracing::warn!(%error, "failed to count an agent's work");
    let detail = "the reports can't be asked now; try again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "reports_unavailable", detail).retry_after(1)
}

/// One's own, or a colleague's for who may read reports.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Id(id): Id<AgentId>,
) -> Outcome<Json<Stats>> {
    let agent = agent(&app, caller.tenant, id)?;
    if caller.agent != id {
        require(&caller, Permission::ReportsRead, "read a colleague's numbers")?;
    }
    let role = match agent.custom_role {
        Some(role) => app.pool.read(|connection| read::role(connection, caller.tenant, role))?,
        None => None,
    };
    let may_reply = agent.deleted_at.is_none() && agent.permissions(role.as_ref()).has(Permission::ConversationsReply);
    let available_slots = agent.max_concurrent_chats.saturating_sub(agent.active_chats);
    let ready = agent.status == AgentStatus::Online && agent.accepting_chats && may_reply;
    let Row { p50_s, resolved } = report(&app, &caller, id).await?;
    Ok(Json(Stats {
        active_chats: agent.active_chats,
        available: ready && available_slots > 0,
        available_slots,
        first_response_seconds_p50: p50_s,
        resolved_today: resolved,
    }))
}
