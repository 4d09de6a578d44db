//! Who did what, newest first: `/v1/audit`. Append-only: it is an index over the log.

use super::extract::{Params, page_size, require};
use super::page::{Held, Page, before_time, time_cursor};
use super::problem::Outcome;
use super::surface::{Routes, Way};
use crate::app::App;
use crate::auth::AgentCaller;
use crate::limits::Reader;
use crate::store::{read, visitor_access};
use crate::view::AuditView;
use axum::extract::State;
use ingest::payload::Permission;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    Routes::new("Audit").get("/v1/audit", list, &[Way::May(Permission::AuditRead)], "Who did what, newest first.")
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListParams {
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: AgentCaller,
    Params(params): Params<ListParams>,
) -> Outcome<Held<Page<AuditView>>> {
    require(&caller, Permission::AuditRead, "read the audit log")?;
    let limit = page_size(params.limit)?;
    let before = before_time(params.cursor.as_deref())?;
    let sees = |id| {
        app.pool.read(|connection| match read::visitor(connection, caller.tenant, id)? {
            Some(found) if caller.may(Permission::VisitorsRead) => {
                visitor_access::sees(connection, &caller.visible, &found)
            }
            _ => Ok(false),
        })
    };
    let hold = app.limiter.reading.hold(Reader::from(&caller)).await;
    let entries = app.pool.read(|connection| read::audit(connection, caller.tenant, before, limit))?;
    Page::of(hold, &entries, |(at, id)| time_cursor(*at, *id), |entry| Ok(Some(app.views.audit(entry, sees)?)))
}
