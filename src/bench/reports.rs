//! The shipped endpoints over the facts of many tenants' traffic: for a large and a small tenant, cold and warm, and what
//! DuckDB and ClickHouse's engine need for the same questions of the same Parquet files on as many threads.
//!
//! - [`traffic`]: the events. [`fill`]: events to facts. `peers.py`: the other engines, asked by [`peers`].

mod fill;
mod peers;
mod traffic;

use super::{Common, Scratch, send};
use crate::client::Api;
use crate::config::Store;
use crate::engine::Engine;
use anyhow::Context as _;
use clap::Args;
use ingest::id::TenantId;
use ingest::sqlite::DataDir;
use serde_json::{Value, json};
use sql::{Caller, Params, QueryResult, Reports, RowFilters};
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
const CALLS: [(&str, &str); 37] = [
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
}

/// Makes the facts, and prints what each endpoint takes.
///
/// # Errors
/// When the data directory can't be made, or an endpoint fails.
pub async fn run(args: &ReportsArgs) -> anyhow::Result<()> {
    let sizes = if args.growth { vec![args.events / 100, args.events / 10, args.events] } else { vec![args.events] };
    for events in sizes {
        let scratch = Scratch::new(&args.common.dir)?;
        let tenants = tenants(&scratch).await?;
        write(&scratch, events, &tenants)?;
        let engine = Engine::open(&store(&scratch), false)?;
        let outcome = measure(args, &engine, &tenants).await;
        engine.close().await;
        outcome?;
    }
    Ok(())
}

fn store(scratch: &Scratch) -> Store {
    Store { data_dir: scratch.path().join("data"), key_file: None }
}

/// A tenant that is measured.
struct Measured {
    name: &'static str,
    rank: usize,
    id: TenantId,
}

/// The measured tenants as they sign up, each with a queue.
async fn tenants(scratch: &Scratch) -> anyhow::Result<Vec<Measured>> {
    let (mut server, base) = send::start_server(scratch).await?;
    let api = Api::new(&base)?;
    let mut tenants = Vec::new();
    for (name, rank) in [("large", 0), ("small", SMALL)] {
        let email = format!("ada@{name}.example");
        let body = json!({ "name": name, "adminName": "Ada", "adminEmail": email, "adminPassword": "a long password" });
        let made = api.post("/v1/tenants", "", body).await?;
        let token = made["access_token"].as_str().context("a token")?;
        let chatbot = api.post("/v1/chatbots", token, json!({ "name": "Site", "allowedOrigins": [] })).await?;
        let key = chatbot["apiKey"].as_str().context("a key")?;
        for _ in 0..WAITING {
            api.start_session(key, &json!({ "initialMessage": "Hello?" })).await?;
        }
        let id = made["tenant"]["id"].as_str().context("an id")?.parse()?;
        tenants.push(Measured { name, rank, id });
    }
    server.start_kill()?;
    server.wait().await?;
    Ok(tenants)
}

fn write(scratch: &Scratch, events: usize, tenants: &[Measured]) -> anyhow::Result<()> {
    let known: Vec<_> = tenants.iter().map(|tenant| (tenant.rank, tenant.id)).collect();
    let mut traffic = Traffic::new(SEED, TENANTS, events, &known);
    let data = store(scratch);
    let dir = DataDir::open(&data.data_dir, None, false)?;
    let (connection, _log) = dir.open_database()?;
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
    p50: Duration,
    p95: Duration,
    answer: peers::Answer,
}

async fn measure(args: &ReportsArgs, engine: &Engine, tenants: &[Measured]) -> anyhow::Result<()> {
    let mut slow = Vec::new();
    for tenant in tenants {
        let reports = uncached(engine)?;
        let conversation = some_conversation(&reports, tenant).await?;
        let mut took = HashMap::new();
        println!("\nreports  {} tenant: {}", tenant.name, sizes(&reports, tenant).await?);
        println!("reports  {:<44} {:>9} {:>9} {:>9}", "", "cold ms", "p50 ms", "p95 ms");
        for (endpoint, params) in CALLS {
            let name = format!("{endpoint} {params}").trim_end().to_owned();
            let call = Call { caller: caller(tenant), endpoint, params: parsed(params, &conversation) };
            let one = time(args, engine, &reports, &call).await.with_context(|| format!("failed to call {name}"))?;
            println!("reports  {name:<44} {:>9.2} {:>9.2} {:>9.2}", ms(one.cold), ms(one.p50), ms(one.p95));
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
    Ok(())
}

/// An engine that keeps no answers: what is measured is answering.
fn uncached(engine: &Engine) -> anyhow::Result<Reports> {
    engine.reports_within(sql::Limits { kept_bytes_per_tenant: 0, ..sql::Limits::default() })
}

struct Call {
    caller: Caller,
    endpoint: &'static str,
    params: Params,
}

/// Cold is the first call of a fresh engine: no footer was read yet. The files are in the system's cache.
async fn time(args: &ReportsArgs, engine: &Engine, reports: &Reports, call: &Call) -> anyhow::Result<Took> {
    let fresh = uncached(engine)?;
    let at = Instant::now();
    let first = fresh.endpoint(&call.caller, call.endpoint, &call.params).await?;
    let cold = at.elapsed();
    let (started, mut times) = (Instant::now(), Vec::new());
    reports.endpoint(&call.caller, call.endpoint, &call.params).await?;
    while times.len() < 20 || started.elapsed() < Duration::from_secs(args.common.seconds.min(2)) {
        let at = Instant::now();
        std::hint::black_box(reports.endpoint(&call.caller, call.endpoint, &call.params).await?);
        times.push(at.elapsed());
    }
    times.sort_unstable();
    Ok(Took { cold, p50: times[times.len() / 2], p95: times[times.len() * 95 / 100], answer: peers::answer(&first)? })
}

fn caller(tenant: &Measured) -> Caller {
    let now_ms = FROM.plus_ms(SPAN_MS).0;
    Caller { tenant: tenant.id.to_string(), time_zone: ZONE.to_owned(), now_ms, filters: RowFilters::default() }
}

fn parsed(params: &str, conversation: &str) -> Params {
    let said = params.split('&').filter_map(|pair| pair.split_once('='));
    let period = [("date_from", PERIOD[0]), ("date_to", PERIOD[1]), ("conversation_id", conversation)];
    said.chain(period).map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).collect()
}

async fn some_conversation(reports: &Reports, tenant: &Measured) -> anyhow::Result<String> {
    let found = one(reports, tenant, "SELECT max(conversation_id) AS id FROM messages").await?;
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

/// Resident memory of this process in MiB.
fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("there is a VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}
