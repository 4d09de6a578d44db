//! Who may come in over the Postgres wire: the tokens of `/v0`, checked as there.

use super::scopes::{self, DATASOURCES_READ};
use super::{AuthError, TokenCaller, caller};
use crate::app::App;
use crate::store::read;
use ingest::time::Timestamp;
use sql::Caller;
use sql::pg::{Access, Admitted, Knock, Readable, Refused};
use std::sync::Arc;

/// The engine's view of a token's holder, as of now.
///
/// # Errors
/// SQLite's.
pub fn engine_caller(app: &App, token: &TokenCaller) -> rusqlite::Result<Caller> {
    let tenant = app.pool.read(|connection| read::tenant(connection, token.tenant))?;
    let time_zone = tenant.map_or_else(|| "UTC".to_owned(), |tenant| tenant.time_zone);
    let filters = scopes::filters(&token.scopes);
    Ok(Caller { tenant: token.tenant.to_string(), time_zone, now_ms: Timestamp::now().0, filters })
}

/// The tables that a token reads.
fn readable(token: &TokenCaller) -> Readable {
    if token.may(DATASOURCES_READ, "*") {
        return Readable::All;
    }
    let scopes = token.scopes.iter().filter(|scope| scope.r#type == DATASOURCES_READ);
    Readable::Only(scopes.map(|scope| scope.resource.clone()).collect())
}

/// The server's tokens.
pub struct WireAccess(pub Arc<App>);

impl Access for WireAccess {
    fn admit(&self, tenant: &str, token: &str, knock: Knock) -> Result<Admitted, Refused> {
        let unavailable = |error: rusqlite::Error| {
            tracing::warn!(%error, "failed to check a token");
            Refused::Unavailable
        };
        let found = caller::reports(&self.0, token).map_err(|error| match error {
            AuthError::Invalid => Refused::Invalid,
            AuthError::Sqlite(error) => unavailable(error),
        })?;
        if found.tenant.to_string() != tenant {
            return Err(Refused::Invalid);
        }
        if knock == Knock::Run {
            let quota = found.rate.map(|(key, rps)| self.0.limiter.take_of_token(key, rps));
            if let Some(seconds) = quota.and_then(|quota| quota.retry_after_s) {
                return Err(Refused::TooOften(seconds));
            }
        }
        let caller = engine_caller(&self.0, &found).map_err(unavailable)?;
        Ok(Admitted { caller, readable: readable(&found) })
    }
}
