//! The shipped endpoints over the facts of many tenants' traffic: for a large and a small tenant, cold and warm, and what
//! DuckDB and ClickHouse's engine need for the same questions of the same Parquet files on as many threads.
//!
//! - [`traffic`]: the events. [`fill`]: events to facts. [`growth`]: how cost grows with them. `peers.py`: the other engines, asked by [`peers`].

mod fill;
mod growth;
mod peers;
mod traffic;

use super::{Common, Scratch, send};
use crate::client::Api;
use crate::config::Store;
use crate::engine::Engine;
use anyhow::Context as _;
use clap::Args;
use growth::{Growth, Line, resident};
use ingest::id::TenantId;
use ingest::sqlite::DataDir;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sql::{Caller, MetricsVersion, Params, QueryResult, Readable, Reports, RowFilters};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use traffic::{FROM, SPAN_MS, Traffic};

/// What every endpoint is to answer within, at the 95th percentile, warm.
const GOAL: Duration = Duration::from_millis(50);
const TENANTS: usize = 100;
/// Place of the small tenant among the tenants.
const SMALL: usize = 60;
const SEED: u64 = 1;
/// Conversations that wait in each measured tenant's queue.
const WAITING: usize = 50;
/// The last 30 of the traffic's 180 days, as a caller in [`ZONE`] says it, and the same instants in UTC.
const PERIOD: [&str; 2] = ["2026-05-31", "2026-06-30"];
const PERIOD_UTC: [&str; 2] = ["2026-05-30 22:00:00", "2026-06-29 22:00:00"];
const ZONE: &str = "Europe/Berlin";

/// Every shipped endpoint, as dashboards call them.
const CALLS: [(&str, &str); 39] = [
    ("usage", "granularity=total"),
    ("usage", "granularity=day"),
    ("usage", "granularity=hour"),
    ("first_response", "by=none"),
    ("first_response", "by=agent"),
    ("first_response", "by=none&hours=business"),
    ("reply_time", "by=none"),
    ("reply_time", "by=day"),
    ("reply_time", "by=agent"),
    ("reply_time", "by=group"),
    ("reply_time", "by=tag"),
    ("reply_time", "by=none&hours=business"),
    ("resolution_time", "by=none"),
    ("resolution_time", "by=agent"),
    ("resolution_time", "by=none&hours=business"),
    ("waiting_time", "by=none"),
    ("waiting_time", "by=agent"),
    ("handle_time", "by=none"),
    ("handle_time", "by=agent"),
    ("handle_time", "by=none&hours=business"),
    ("csat", "by=none"),
    ("csat", "by=day"),
    ("csat", "by=tag"),
    ("live", ""),
    ("queue", ""),
    ("agent_performance", ""),
    ("busiest_hours", ""),
    ("assignment_quality", "by=none"),
    ("assignment_quality", "by=agent"),
    ("sla", "by=none"),
    ("sla", "by=day"),
    ("bot_outcomes", "by=none"),
    ("bot_outcomes", "by=day"),
    ("notification_outcomes", "by=none"),
    ("notification_outcomes", "by=day"),
    ("notification_outcomes", "by=kind"),
    ("conversation_list", ""),
    ("conversation_list", "tag=billing&page=3"),
    ("event_stream", ""),
];

/// Flags of `bench reports`.
#[derive(Args)]
pub struct ReportsArgs {
    #[command(flatten)]
    common: Common,
    /// Events of all tenants together
    #[arg(long, default_value_t = 10_000_000)]
    events: usize,
    /// Measure at a hundredth and a tenth of the events before, to see how cost grows
    #[arg(long)]
    growth: bool,
    /// A Python that has the packages `duckdb`, `pytz` and `chdb-core`, to ask these engines the same
    #[arg(long)]
    python: Option<PathBuf>,
    /// Only endpoints of which the name holds this
    #[arg(long, default_value = "")]
    only: String,
    /// Keep the facts in this directory, or use those that are there
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Makes the facts, and prints what each endpoint takes.
///
/// # Errors
/// When the data directory can't be made, or an endpoint fails.
pub async fn run(args: &ReportsArgs) -> anyhow::Result<()> {
    let sizes = if args.growth { vec![args.events / 100, args.events / 10, args.events] } else { vec![args.events] };
    let mut growth = Growth::default();
    for events in sizes {
        let scratch = Scratch::new(&args.common.dir)?;
        let dir = match &args.keep {
            Some(keep) => keep.join(events.to_string()),
            None => scratch.path().to_owned(),
        };
        let tenants = facts(&dir, events).await?;
        let before = resident()?;
        let engine = Engine::open(&store(&dir), false)?;
        let outcome = measure(args, &engine, &tenants).await;
        engine.close().await;
        growth.add(events, outcome?, before);
    }
    growth.print();
    Ok(())
}

fn store(dir: &Path) -> Store {
    Store { data_dir: dir.join("data"), key_file: None }
}

/// A tenant that is measured.
#[derive(Serialize, Deserialize)]
struct Measured {
    name: String,
    rank: usize,
    id: TenantId,
}

/// The facts of `events` events, made unless they are there.
async fn facts(dir: &Path, events: usize) -> anyhow::Result<Vec<Measured>> {
    let listed = dir.join("tenants.json");
    if let Ok(text) = std::fs::read(&listed) {
        return Ok(serde_json::from_slice(&text)?);
    }
    std::fs::create_dir_all(dir)?;
    let tenants = tenants(dir).await?;
    write(dir, events, &tenants)?;
    std::fs::write(&listed, serde_json::to_vec(&tenants)?)?;
    Ok(tenants)
}

/// The measured tenants as they sign up, each with targets, opening hours and a queue.
async fn tenants(dir: &Path) -> anyhow::Result<Vec<Measured>> {
    let (mut server, base) = send::start_server(dir).await?;
    let api = Api::new(&base)?;
    let mut tenants = Vec::new();
    for (name, rank) in [("large", 0), ("small", SMALL)] {
        let email = format!("ada@{name}.example");
        let body = json!({ "name": name, "adminName": "Ada", "adminEmail": email, "adminPassword": "a long password" });
        let made = api.post("/v1/tenants", "", body).await?;
        let token = made["access_token"].as_str().context("a token")?;
        let chatbot = api.post("/v1/chatbots", token, json!({ "name": "Site", "allowedOrigins": [] })).await?;
        let key = chatbot["apiKey"].as_str().context("a key")?;
        api.call(Method::PATCH, "/v1/tenants/me", token, Some(settings())).await?;
        for _ in 0..WAITING {
            api.start_session(key, &json!({ "initialMessage": "Hello?" })).await?;
        }
        let id = made["tenant"]["id"].as_str().context("an id")?.parse()?;
        tenants.push(Measured { name: name.to_owned(), rank, id });
    }
    server.start_kill()?;
    server.wait().await?;
    Ok(tenants)
}

fn settings() -> Value {
    let day = |day| json!({ "day": day, "from": "08:00", "to": "18:00" });
    let days = ["monday", "tuesday", "wednesday", "thursday", "friday"].map(day);
    let targets = json!({ "firstResponseSeconds": 60, "nextResponseSeconds": 120, "resolutionSeconds": 3_600 });
    json!({ "timeZone": ZONE, "openingHours": days, "slaTargets": targets })
}

fn write(dir: &Path, events: usize, tenants: &[Measured]) -> anyhow::Result<()> {
    let known: Vec<_> = tenants.iter().map(|tenant| (tenant.rank, tenant.id)).collect();
    let mut traffic = Traffic::new(SEED, TENANTS, events, &known);
    let data = store(dir);
    let dir = DataDir::open(&data.data_dir, None, false)?;
    let (connection, _log, _key_file) = dir.open_database()?;
    let started = Instant::now();
    fill::fill(&connection, &dir.path().join("facts"), &mut traffic, events)?;
    let (spent, bytes) = (started.elapsed().as_secs_f64(), size(&dir.path().join("facts"))?);
    println!("reports  {events} events of {TENANTS} tenants to facts in {spent:.0} s, {} MiB", bytes / 1024 / 1024);
    Ok(())
}

fn size(dir: &Path) -> anyhow::Result<u64> {
    let entries = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.iter().try_fold(0, |sum, entry| {
        let found = entry.metadata()?;
        Ok(sum + if found.is_dir() { size(&entry.path())? } else { found.len() })
    })
}

/// What one call took.
struct Took {
    cold: Duration,
    /// Where no plan is kept, the median.
    anew: Duration,
    p50: Duration,
    p95: Duration,
    /// Of an answer that was kept, the median; an endpoint whose answer changes by itself is computed.
    kept: Duration,
    answer: peers::Answer,
}

/// Gives what each call of each tenant took.
async fn measure(args: &ReportsArgs, engine: &Engine, tenants: &[Measured]) -> anyhow::Result<Vec<Line>> {
    let (mut slow, mut lines) = (Vec::new(), Vec::new());
    for tenant in tenants {
        let reports = keeping(engine, Keep::Plans)?;
        let conversation = some_conversation(&reports, tenant).await?;
        let mut took = HashMap::new();
        println!("\nreports  {} tenant: {}", tenant.name, sizes(&reports, tenant).await?);
        println!("reports  {:<44} {:>8} {:>8} {:>8} {:>8} {:>8}", "ms", "cold", "anew", "p50", "p95", "kept");
        for (endpoint, params) in CALLS.into_iter().filter(|(endpoint, _)| endpoint.contains(&args.only)) {
            let name = format!("{endpoint} {params}").trim_end().to_owned();
            let call = Call { caller: caller(tenant), endpoint, params: parsed(params, &conversation) };
            let one = match time(args, engine, &reports, &call).await {
                Ok(one) => one,
                // Of so many events some answers take too long.
                Err(error) => {
                    println!("reports  {name:<44} {error:#}");
                    slow.push(format!("{name} ({})", tenant.name));
                    continue;
                }
            };
            let [cold, anew, p50, p95, kept] = [one.cold, one.anew, one.p50, one.p95, one.kept].map(ms);
            println!("reports  {name:<44} {cold:>8.2} {anew:>8.2} {p50:>8.2} {p95:>8.2} {kept:>8.2}");
            lines.push(Line { call: format!("{name} ({})", tenant.name), p50: one.p50 });
            if one.p95 > GOAL {
                slow.push(format!("{name} ({})", tenant.name));
            }
            took.insert(name, one);
        }
        println!("reports  resident {} MiB", resident()?);
        if let Some(python) = &args.python {
            drop(reports);
            let ask = peers::Ask { python, seconds: args.common.seconds.min(2), period: PERIOD_UTC, conversation };
            peers::compare(&ask, engine, tenant.id, &took)?;
        }
    }
    match slow.as_slice() {
        [] => println!("reports  every p95 is under {} ms", GOAL.as_millis()),
        slow => println!("reports  p95 over {} ms: {}", GOAL.as_millis(), slow.join(", ")),
    }
    Ok(lines)
}

/// What is kept of a call for the next.
#[derive(PartialEq)]
enum Keep {
    Nothing,
    /// Answers aren't, where what is measured is answering.
    Plans,
    Answers,
}

fn keeping(engine: &Engine, keep: Keep) -> anyhow::Result<Reports> {
    let mut limits = sql::Limits::default();
    if keep != Keep::Answers {
        limits.kept_bytes_per_tenant = 0;
    }
    if keep == Keep::Nothing {
        limits.kept_plan_bytes = 0;
    }
    engine.reports_within(limits)
}

struct Call {
    caller: Caller,
    endpoint: &'static str,
    params: Params,
}

/// Cold is the first call of a fresh engine: no footer was read yet. The files are in the system's cache.
async fn time(args: &ReportsArgs, engine: &Engine, reports: &Reports, call: &Call) -> anyhow::Result<Took> {
    let fresh = keeping(engine, Keep::Nothing)?;
    let at = Instant::now();
    let first = fresh.endpoint(&call.caller, call.endpoint, &call.params).await?;
    let cold = at.elapsed();
    let time = Duration::from_secs(args.common.seconds.min(2));
    let anew = repeat(&fresh, call, time).await?;
    let times = repeat(reports, call, time).await?;
    let kept = repeat(&keeping(engine, Keep::Answers)?, call, Duration::ZERO).await?;
    let (middle, late) = (times.len() / 2, times.len() * 95 / 100);
    let answer = peers::answer(&first)?;
    Ok(Took {
        cold,
        anew: anew[anew.len() / 2],
        p50: times[middle],
        p95: times[late],
        kept: kept[kept.len() / 2],
        answer,
    })
}

/// What the call takes from its second time on, sorted; at least 20 times.
async fn repeat(reports: &Reports, call: &Call, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let (started, mut times) = (Instant::now(), Vec::new());
    reports.endpoint(&call.caller, call.endpoint, &call.params).await?;
    while times.len() < 20 || started.elapsed() < time {
        let at = Instant::now();
        std::hint::black_box(reports.endpoint(&call.caller, call.endpoint, &call.params).await?);
        times.push(at.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

fn caller(tenant: &Measured) -> Caller {
    let now_ms = FROM.plus_ms(SPAN_MS).0;
    let (tenant, time_zone) = (tenant.id.to_string(), ZONE.to_owned());
    let (readable, filters, metrics) = (Readable::All, RowFilters::new(), MetricsVersion::V1);
    Caller { tenant, time_zone, now_ms, readable, filters, metrics }
}

fn parsed(params: &str, conversation: &str) -> Params {
    let said = params.split('&').filter_map(|pair| pair.split_once('='));
    let period = [("date_from", PERIOD[0]), ("date_to", PERIOD[1]), ("conversation_id", conversation)];
    said.chain(period).map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).collect()
}

/// The longest of the period. It is in the files, which the other engines know; those that wait are in memory.
async fn some_conversation(reports: &Reports, tenant: &Measured) -> anyhow::Result<String> {
    let [from, to] = PERIOD_UTC;
    let sql = format!(
        "SELECT conversation_id AS id FROM messages WHERE occurred_at >= '{from}' AND occurred_at < '{to}' \
         GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
    );
    let found = one(reports, tenant, &sql).await?;
    Ok(found["id"].as_str().context("a conversation")?.to_owned())
}

async fn sizes(reports: &Reports, tenant: &Measured) -> anyhow::Result<String> {
    let sql = "SELECT (SELECT count(*) FROM messages) AS m, (SELECT count(*) FROM conversations) AS c";
    let found = one(reports, tenant, sql).await?;
    Ok(format!("{} messages in {} conversations", found["m"], found["c"]))
}

async fn one(reports: &Reports, tenant: &Measured, sql: &str) -> anyhow::Result<Value> {
    let result: QueryResult = reports.query(&caller(tenant), sql).await?;
    let mut answer: Value = serde_json::from_slice(&result.to_json()?)?;
    Ok(answer["data"][0].take())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
