//! What a tenant sets for itself: when it is open, and what it promises.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the days by their names")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// A stretch that begins on a day and in which the tenant answers; local time of the tenant's zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpeningHours {
    /// The day on which it begins.
    pub day: Weekday,
    /// `HH:MM`, from 00:00 to 23:59.
    pub from: String,
    /// `HH:MM`, up to 24:00; of the next day unless it is later than `from`.
    pub to: String,
}

/// A day on which the tenant is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Holiday {
    /// `YYYY-MM-DD`, of the tenant's zone.
    pub date: String,
    /// What is celebrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What the tenant promises, in seconds; none for what it doesn't promise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlaTargets {
    /// To the first answer of a person.
    #[serde(default)]
    pub first_response_seconds: Option<u32>,
    /// To any later answer.
    #[serde(default)]
    pub next_response_seconds: Option<u32>,
    /// To the end of the conversation.
    #[serde(default)]
    pub resolution_seconds: Option<u32>,
    /// Since v3 of `tenant_updated`: only time inside the opening hours counts.
    #[serde(default)]
    pub business_hours: bool,
}
