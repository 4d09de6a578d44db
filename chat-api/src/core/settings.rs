//! What a tenant may set, in the units that rules count in.

use super::state::Tenant;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// After so long without a message an active thread is idle.
#[must_use]
pub fn idle_ms(tenant: &Tenant) -> i64 {
    i64::from(tenant.settings.idle_minutes) * MINUTE_MS
}

/// So long after it was resolved a conversation is closed.
#[must_use]
pub fn auto_close_ms(tenant: &Tenant) -> i64 {
    i64::from(tenant.settings.auto_close_days) * DAY_MS
}
