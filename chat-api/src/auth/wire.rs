//! Who may come in over the Postgres wire: the tokens of `/v0`, checked as there.

use super::{AuthError, TokenCaller, caller};
use crate::app::App;
use crate::core::state::{Tenant, TenantSettings};
use crate::store::read;
use ingest::time::Timestamp;
use sql::pg::{Access, Admitted, Knock, Refused};
use sql::{Caller, MetricsVersion};
use std::sync::Arc;

/// The engine's view of a token's holder, as of now.
///
/// # Errors
/// SQLite's.
pub fn engine_caller(app: &App, token: &TokenCaller) -> rusqlite::Result<Caller> {
    let tenant = app.pool.read(|connection| read::tenant(connection, token.tenant))?;
    Ok(caller_of(token, tenant.as_ref()))
}

fn caller_of(token: &TokenCaller, tenant: Option<&Tenant>) -> Caller {
    let time_zone = tenant.map_or_else(|| "UTC".to_owned(), |tenant| tenant.time_zone.clone());
    let (readable, filters) = (token.readable(), token.scopes.filters());
    let metrics = tenant.map(|tenant| metrics_version(&tenant.settings)).unwrap_or_default();
    Caller { tenant: token.tenant.to_string(), time_zone, now_ms: Timestamp::now().0, readable, filters, metrics }
}

/// Which definitions a tenant's numbers follow; the first, if it's one that this build doesn't know.
#[must_use]
pub fn metrics_version(settings: &TenantSettings) -> MetricsVersion {
    MetricsVersion::of(settings.metrics_version).unwrap_or_default()
}

/// Whether a client means the token's tenant: by its id or its slug, in letters of any case.
fn names(user: &str, token: &TokenCaller, tenant: Option<&Tenant>) -> bool {
    let is = |name: &str| user.trim().eq_ignore_ascii_case(name);
    is(&token.tenant.to_string()) || tenant.is_some_and(|tenant| is(&tenant.slug))
}

/// The server's tokens.
pub struct WireAccess(pub Arc<App>);

impl Access for WireAccess {
    fn admit(&self, user: &str, token: &str, knock: Knock) -> Result<Admitted, Refused> {
        let unavailable = |error: rusqlite::Error| {
            tracing::warn!(%error, "failed to check a token");
            Refused::Unavailable
        };
        let found = caller::reports(&self.0, token).map_err(|error| match error {
            AuthError::Invalid => Refused::Invalid,
            AuthError::Sqlite(error) => unavailable(error),
        })?;
        let tenant = self.0.pool.read(|connection| read::tenant(connection, found.tenant)).map_err(unavailable)?;
        if !names(user, &found, tenant.as_ref()) {
            return Err(Refused::Invalid);
        }
        if knock == Knock::Run {
            let quota = found.rate.map(|(key, rps)| self.0.limiter.take_of_token(key, rps));
            if let Some(seconds) = quota.and_then(|quota| quota.retry_after_s) {
                return Err(Refused::TooOften(seconds));
            }
        }
        Ok(Admitted { caller: caller_of(&found, tenant.as_ref()) })
    }
}
