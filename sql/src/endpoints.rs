//! The endpoints that ship: `endpoints/*.pipe`, read once at start. Start at [`Endpoints::shipped`].
//! Every call of one gets `date_from`, `date_to` and `time_zone`, by default the last 30 days in the tenant's zone.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;

use crate::buckets::{BUCKETS_MAX, Unit};
use crate::call::{Caller, Params};
use crate::datafile;
use crate::definitions::{self, MetricsVersion};
use crate::endpoint_node::{self, EndpointDescription, EndpointNode, LoadError, ParameterDescription};
use crate::error::QueryError;
use crate::reads::EndpointName;
use crate::template::{Budget, Rendered};
use crate::zone;

/// What ships: name and file.
const SHIPPED: &[(&str, &str)] = &[
    ("agent_performance", include_str!("../endpoints/agent_performance.pipe")),
    ("assignment_quality", include_str!("../endpoints/assignment_quality.pipe")),
    ("bot_outcomes", include_str!("../endpoints/bot_outcomes.pipe")),
    ("busiest_hours", include_str!("../endpoints/busiest_hours.pipe")),
    ("conversation_list", include_str!("../endpoints/conversation_list.pipe")),
    ("csat", include_str!("../endpoints/csat.pipe")),
    ("event_stream", include_str!("../endpoints/event_stream.pipe")),
    ("first_response", include_str!("../endpoints/first_response.pipe")),
    ("handle_time", include_str!("../endpoints/handle_time.pipe")),
    ("live", include_str!("../endpoints/live.pipe")),
    ("notification_outcomes", include_str!("../endpoints/notification_outcomes.pipe")),
    ("queue", include_str!("../endpoints/queue.pipe")),
    ("reply_time", include_str!("../endpoints/reply_time.pipe")),
    ("resolution_time", include_str!("../endpoints/resolution_time.pipe")),
    ("sla", include_str!("../endpoints/sla.pipe")),
    ("usage", include_str!("../endpoints/usage.pipe")),
    ("waiting_time", include_str!("../endpoints/waiting_time.pipe")),
];

/// One that ships. What its parameters are by default is said here, and a tenant's own endpoint has no way to it.
pub(crate) struct Endpoint(EndpointNode);

/// All endpoints by name.
pub(crate) struct Endpoints(BTreeMap<String, Endpoint>);

impl Endpoints {
    /// Reads the files that are built in.
    /// # Errors  The first file that cannot be served; the tests hold this to none.
    pub(crate) fn shipped() -> Result<Self, LoadError> {
        SHIPPED
            .iter()
            .map(|(name, text)| Ok(((*name).to_owned(), load(name, text)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn get(&self, name: &EndpointName) -> Option<&Endpoint> {
        self.0.get(name.as_str())
    }

    pub(crate) fn descriptions(&self) -> impl Iterator<Item = &EndpointDescription> {
        self.0.values().map(|endpoint| &endpoint.0.description)
    }
}

/// Reads one file.
pub(crate) fn load(name: &str, text: &str) -> Result<Endpoint, LoadError> {
    let fail = |message: String| LoadError::new(name, message);
    let file = datafile::parse(text).map_err(|e| fail(e.to_string()))?;
    let [node] = file.nodes.as_slice() else {
        return Err(fail(format!("one node is expected, there are {}", file.nodes.len())));
    };
    if !node.endpoint {
        return Err(fail("`TYPE endpoint` is missing".to_owned()));
    }
    let description = [file.description.as_str(), node.description.as_str()];
    let description = description.into_iter().find(|d| !d.is_empty()).unwrap_or_default();
    let mut node = endpoint_node::load(name, name, description, node, &mut Budget::of_reading())?;
    // The dates of a period are read in it, whether the SQL names it or not.
    if node.declares("date_from") && !node.declares("time_zone") {
        node.description.parameters.push(ParameterDescription {
            name: "time_zone".to_owned(),
            kind: "String".to_owned(),
            required: false,
            default: None,
            description: Some("IANA name, the tenant zone by default".to_owned()),
            allowed: Vec::new(),
        });
    }
    if DEFINED_ANEW.iter().any(|words| node.description.sql.contains(words)) {
        node.description.parameters.push(ParameterDescription {
            name: definitions::PARAMETER.to_owned(),
            kind: "Int32".to_owned(),
            required: false,
            default: None,
            description: Some("Of the metrics' definitions: 1 or 2, the tenant's by default".to_owned()),
            allowed: MetricsVersion::ALL.iter().map(|version| version.number().to_string()).collect(),
        });
    }
    Ok(Endpoint(node))
}

/// What has more than one definition; an endpoint whose SQL reads it can be asked under each.
const DEFINED_ANEW: [&str; 2] = ["reply_seconds", "FROM ratings"];
/// Whether a period cuts no minute, `yes` or `no`; templates may ask for it, to read sums of minutes.
const WHOLE_MINUTES: &str = "whole_minutes";
/// Whether a row for each piece of the period is asked for and few enough, `yes` or `no`; templates may ask for it.
const FILLED: &str = "filled";
/// Whether a period has ended, `yes` or `no`; templates may ask for it, since what doesn't ask for the time can be kept.
const ENDED: &str = "ended";

impl Endpoint {
    /// The version of the definitions that a call asks for; `None` for the tenant's, or when all are the same here.
    /// # Errors  `Parameter` for what is no version.
    pub(crate) fn metrics(&self, params: &Params) -> Result<Option<MetricsVersion>, QueryError> {
        let known = self.0.description.parameters.iter().any(|parameter| parameter.name == definitions::PARAMETER);
        given(params, definitions::PARAMETER).filter(|_| known).map(MetricsVersion::parse).transpose()
    }

    /// The SQL of one call.
    /// # Errors  `Parameter` for a bad value, `Refused` for the endpoint's own errors, `TemplateTooLarge`.
    pub(crate) fn render(&self, caller: &Caller, params: &Params, budget: &mut Budget) -> Result<Rendered, QueryError> {
        let zone = zone_of(caller, params)?;
        let mut args = endpoint_node::args(params, zone);
        args.set("time_zone", Some(zone.name().to_owned()));
        if self.0.declares("date_from") {
            let (from, to) = period(caller, params, zone)?;
            let whole = [from, to].iter().all(|at| at.timestamp_millis() % 60_000 == 0);
            let filled = self.filled(params, from, to)?;
            let ended = to.timestamp_millis() <= caller.now_ms;
            for (name, is) in [(WHOLE_MINUTES, whole), (ENDED, ended), (FILLED, filled)] {
                // A caller can't say otherwise.
                args.set(name, Some(if is { "yes" } else { "no" }.to_owned()));
            }
            args.set("date_from", Some(zone::instant_text(from)));
            args.set("date_to", Some(zone::instant_text(to)));
        }
        self.0.render(&args, budget)
    }

    /// Whether the pieces of a period without facts get rows: unless the call says no, if there aren't too many.
    /// # Errors  `fill=true` for too many.
    fn filled(&self, params: &Params, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<bool, QueryError> {
        let named = ["granularity", "by"].into_iter().filter(|name| self.0.declares(name));
        let unit = named.filter_map(|name| given(params, name)).find_map(Unit::parse);
        let Some(unit) = unit else { return Ok(false) };
        let fits = unit.fits(from.timestamp_millis(), to.timestamp_millis());
        if !fits && given(params, "fill") == Some("true") {
            let limit =
                format!("is for at most {BUCKETS_MAX} rows and days: ask for a shorter period or larger pieces");
            return Err(QueryError::parameter("fill", limit));
        }
        Ok(fits)
    }
}

fn given<'a>(values: &'a BTreeMap<String, Vec<String>>, name: &str) -> Option<&'a str> {
    values.get(name).and_then(|v| v.last()).map(String::as_str).filter(|v| !v.trim().is_empty())
}

fn zone_of(caller: &Caller, values: &BTreeMap<String, Vec<String>>) -> Result<Tz, QueryError> {
    match given(values, "time_zone") {
        Some(name) => zone::parse_zone(name.trim()).ok_or_else(|| {
            QueryError::parameter("time_zone", "is not a time zone of the IANA list, as Europe/Berlin or UTC")
        }),
        // The tenant's own zone was checked when it was set; an unknown one must not stop its reports.
        None => Ok(zone::parse_zone(&caller.time_zone).unwrap_or(Tz::UTC)),
    }
}

/// `date_from` (inclusive) and `date_to` (exclusive). Without `date_to` the period ends with the minute that is
/// now: what was posted in this very millisecond counts, and who asks again within the minute asks the same.
fn period(
    caller: &Caller,
    values: &BTreeMap<String, Vec<String>>,
    zone: Tz,
) -> Result<(DateTime<Utc>, DateTime<Utc>), QueryError> {
    let read = |name: &str| match given(values, name) {
        None => Ok(None),
        Some(text) => zone::parse_instant(text, zone).map(Some).ok_or_else(|| {
            let expected = "is not a date or a date-time as 2024-05-31 or 2024-05-31 09:30:00";
            QueryError::parameter(name, expected)
        }),
    };
    let minute_end = caller.now_ms.div_euclid(60_000).saturating_add(1).saturating_mul(60_000);
    let minute_end = DateTime::from_timestamp_millis(minute_end).ok_or(QueryError::Internal)?;
    let to = read("date_to")?.unwrap_or(minute_end);
    let from = read("date_from")?.unwrap_or_else(|| to - Duration::days(zone::DEFAULT_DAYS));
    if from > to && given(values, "date_to").is_some() {
        return Err(QueryError::parameter("date_to", "is before `date_from`"));
    }
    Ok((from, to))
}
