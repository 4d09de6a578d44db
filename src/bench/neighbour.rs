//! A hostile neighbour: what heavy SQL of one tenant, sent without pause, does to the messages of another.
//!
//! The quiet tenant's messages are measured alone and beside the hostile tenant in turn, several times, so that a machine
//! that gets slower or faster meanwhile decides nothing. Both ends share the cores: how late a thread of this process
//! wakes up, alone and beside, says what of the difference is the load generator's own ([`Lateness`]).
//!
//! - [`Hostile`]: the connections, on a thread of their own. [`STATEMENTS`]: what they send.

use super::ingest::{self, connect};
use super::send::{Conversations, Sent, Tenant, start_server};
use super::{Common, Scratch, Spread, disk};
use crate::client::Api;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The hostile tenant's rows.
const ROWS: usize = 50_000;
/// Its connections, each with a statement under way.
const CONNECTIONS: usize = 16;
/// Before a measurement: the hostile's queries run at full width, or have stopped.
const SETTLE: Duration = Duration::from_secs(1);
/// What the quiet tenant's p99 may be multiplied by.
const GOAL: f64 = 2.0;

/// What the hostile tenant sends, in turn: a name and the SQL. Each gets a `LIMIT` of its own, so that no answer is one that
/// was kept.
const STATEMENTS: [(&str, &str); 11] = [
    ("cross join", "SELECT count(*) AS n FROM views a, views b WHERE a.ms * b.ms > 1e9"),
    ("skewed join", "SELECT sum(a.ms + b.ms) AS s FROM views a JOIN views b ON a.kind = b.kind"),
    (
        "three-way join",
        "SELECT count(*) AS n FROM views a JOIN views b ON a.page = b.page JOIN views c ON b.page = c.page",
    ),
    ("sort, all rows", "SELECT *, reverse(user) AS r FROM views ORDER BY r, page DESC, ms, id"),
    (
        "wide aggregate",
        "SELECT user, page, count(*), count(DISTINCT id), min(at), max(at), sum(ms), avg(ms), stddev(ms), median(ms) \
         FROM views GROUP BY user, page",
    ),
    (
        "windows",
        "SELECT max(r) AS r, max(s) AS s FROM (SELECT row_number() OVER (PARTITION BY page ORDER BY ms, id) AS r, \
         sum(ms) OVER (PARTITION BY user ORDER BY id) AS s FROM views)",
    ),
    ("repeat", "SELECT sum(length(repeat(user, 300))) AS n FROM views"),
    (
        "regular expression",
        r"SELECT count(*) AS n FROM views WHERE regexp_like(page || user, '^(.*[a-z/]+)+([0-9]{1,3}u)+.*$')",
    ),
    (
        "pairs of texts",
        "SELECT count(*) AS n FROM views a, views b WHERE regexp_replace(a.page || b.user, '[0-9]+', 'x', 'g') = 'y'",
    ),
    ("recursive", "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"),
    (
        "rollup over pairs",
        "SELECT a.kind, count(DISTINCT a.id * 50000 + b.id) AS n FROM views a, views b GROUP BY a.kind",
    ),
];

/// Flags of `bench neighbour`.
#[derive(Args)]
pub struct NeighbourArgs {
    #[command(flatten)]
    common: Common,
    /// Measurements alone and beside, in turn
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Messages of the quiet tenant under way at once, one block of rounds each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    in_flight: Vec<usize>,
}

/// Prints the quiet tenant's times alone and beside the hostile one, and what the hostile one was answered.
///
/// # Errors
/// When the server doesn't start or answer, or no statement of the hostile tenant ran.
pub async fn run(args: &NeighbourArgs) -> anyhow::Result<()> {
    let scratch = Scratch::new(&args.common.dir)?;
    let time = Duration::from_secs(args.common.seconds);
    let path = scratch.path().to_owned();
    let baseline = tokio::task::spawn_blocking(move || disk::fdatasync(&path, time)).await??;
    println!("disk       fdatasync of 4 KiB        {baseline}");
    let (mut server, base) = start_server(scratch.path()).await?;
    let api = Api::new(&base)?;
    let quiet = Tenant::create(&api).await?;
    let token = hostile_token(&api).await?;
    let mut tally = Tally::default();
    for &in_flight in &args.in_flight {
        let mut conversations = Conversations::open(&api, &quiet, in_flight).await?;
        let (mut alone, mut beside) = (Side::default(), Side::default());
        for _ in 0..args.rounds {
            alone.measure(&mut conversations, time).await?;
            let hostile = Hostile::start(&base, &token)?;
            tokio::time::sleep(SETTLE).await;
            beside.measure(&mut conversations, time).await?;
            tally.add(hostile.stop()?);
            tokio::time::sleep(SETTLE).await;
        }
        alone.print(in_flight, "alone");
        beside.print(in_flight, "beside");
        print_factor(&alone, &beside);
    }
    tally.print();
    server.start_kill()?;
    server.wait().await?;
    if tally.answers.values().flatten().all(|(status, _)| *status != 200) {
        bail!("the hostile tenant's statements were never answered");
    }
    Ok(())
}

/// A token of another tenant, with rows.
async fn hostile_token(api: &Api) -> anyhow::Result<String> {
    let tenant = Tenant::create(api).await?;
    let token = ingest::token(api, &tenant).await?;
    let mut connection = connect(api).await?;
    for number in 0..ROWS / ingest::BATCH_ROWS {
        ingest::send(&mut connection, &token, ingest::batch(number).into()).await?;
    }
    Ok(token)
}

/// The quiet tenant's times, of all rounds and by round, and the load generator's own.
#[derive(Default)]
struct Side {
    acked: Vec<Duration>,
    delivered: Vec<Duration>,
    /// 99th percentiles to the acknowledgement, by round.
    rounds: Vec<Duration>,
    rates: Vec<f64>,
    late: Vec<Duration>,
}

impl Side {
    async fn measure(&mut self, conversations: &mut Conversations, time: Duration) -> anyhow::Result<()> {
        let lateness = Lateness::start()?;
        let sent = conversations.measure(time).await;
        self.late.extend(lateness.stop()?);
        let sent: Sent = sent?;
        self.rates.push(sent.rate());
        self.rounds.push(Spread::of(sent.acked.clone()).p99);
        self.acked.extend(sent.acked);
        self.delivered.extend(sent.delivered);
        Ok(())
    }

    fn print(&self, in_flight: usize, name: &str) {
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let rate = self.rates.iter().sum::<f64>() / self.rates.len().max(1) as f64;
        let acked = Spread::of(self.acked.clone());
        println!("neighbour  {in_flight:>2} in flight, {name:<6}  {rate:>6.0} messages/s  acknowledged {acked}");
        println!("{:51}delivered    {}", "", Spread::of(self.delivered.clone()));
        println!("{:51}generator    {}  late", "", Spread::of(self.late.clone()));
    }
}

/// By how much the neighbour multiplies what the quiet tenant waits.
fn print_factor(alone: &Side, beside: &Side) {
    let factor = |beside: Duration, alone: Duration| beside.as_secs_f64() / alone.as_secs_f64();
    let (a, b) = (Spread::of(alone.acked.clone()), Spread::of(beside.acked.clone()));
    let mut rounds: Vec<_> = beside.rounds.iter().zip(&alone.rounds).map(|(b, a)| factor(*b, *a)).collect();
    let shown: Vec<_> = rounds.iter().map(|factor| format!("{factor:.2}")).collect();
    rounds.sort_by(f64::total_cmp);
    let p99 = factor(b.p99, a.p99);
    let met = if p99 < GOAL { "under" } else { "NOT under" };
    println!(
        "factor     p50 {:.2}  p99 {p99:.2}, {met} {GOAL}; p99 by round {}, median {:.2}",
        factor(b.p50, a.p50),
        shown.join(" "),
        middle(&rounds),
    );
}

/// The median of sorted numbers.
fn middle(sorted: &[f64]) -> f64 {
    let upper = sorted.len() / 2;
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
    if sorted.len() % 2 == 1 { at(upper) } else { f64::midpoint(at(upper.saturating_sub(1)), at(upper)) }
}

/// How late a thread that sleeps a millisecond wakes up: what the load generator's own threads wait for a core.
struct Lateness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Lateness {
    const SLEEP: Duration = Duration::from_millis(1);

    fn start() -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watch = move || {
            let mut late = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let started = Instant::now();
                std::thread::sleep(Self::SLEEP);
                late.push(started.elapsed().saturating_sub(Self::SLEEP));
            }
            late
        };
        let thread = std::thread::Builder::new().name("lateness".to_owned()).spawn(watch)?;
        Ok(Self { stop, thread })
    }

    fn stop(self) -> anyhow::Result<Vec<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the watching thread panicked")
    }
}

/// The hostile tenant at work: connections on a thread of their own, so that they never stand before the quiet
/// tenant's in this process.
struct Hostile {
    stop: CancellationToken,
    thread: JoinHandle<anyhow::Result<Tally>>,
}

impl Hostile {
    fn start(base: &str, token: &str) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let (stopped, api, token) = (stop.clone(), Api::new(base)?, token.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || runtime.block_on(storm(&api, &token, &stopped));
        let thread = std::thread::Builder::new().name("hostile".to_owned()).spawn(work)?;
        Ok(Self { stop, thread })
    }

    /// Closes the connections, with whatever is under way.
    fn stop(self) -> anyhow::Result<Tally> {
        self.stop.cancel();
        self.thread.join().ok().context("the hostile tenant's thread panicked")?
    }
}

async fn storm(api: &Api, token: &str, stop: &CancellationToken) -> anyhow::Result<Tally> {
    let mut tasks = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (mut connection, token, stop) = (connect(api).await?, token.to_owned(), stop.clone());
        tasks.spawn(async move {
            let mut tally = Tally::default();
            for (turn, (name, sql)) in STATEMENTS.iter().cycle().enumerate().skip(number) {
                let sql = format!("{sql} LIMIT {}", ROWS + turn * CONNECTIONS + number);
                tokio::select! {
                    () = stop.cancelled() => {
                        tally.count(name, UNDER_WAY);
                        break;
                    }
                    status = ask(&mut connection, &token, sql) => tally.count(name, status?),
                }
            }
            anyhow::Ok(tally)
        });
    }
    let mut all = Tally::default();
    while let Some(outcome) = tasks.join_next().await {
        all.add(outcome??);
    }
    Ok(all)
}

/// The answer's status; its body is read and thrown away.
async fn ask(connection: &mut SendRequest<Full<Bytes>>, token: &str, sql: String) -> anyhow::Result<u16> {
    let request = hyper::Request::post("/v0/sql")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {token}"))
        .body(Full::from(sql))?;
    connection.ready().await?;
    let mut response = connection.send_request(request).await?;
    while let Some(frame) = response.body_mut().frame().await {
        frame?;
    }
    Ok(response.status().as_u16())
}

/// In place of a status: it was still running when the measurement ended.
const UNDER_WAY: u16 = 0;

/// Answers, by statement and status.
#[derive(Default)]
struct Tally {
    answers: BTreeMap<&'static str, BTreeMap<u16, usize>>,
}

impl Tally {
    fn count(&mut self, name: &'static str, status: u16) {
        *self.answers.entry(name).or_default().entry(status).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        for (name, statuses) in other.answers {
            for (status, count) in statuses {
                *self.answers.entry(name).or_default().entry(status).or_default() += count;
            }
        }
    }

    fn print(&self) {
        for (name, statuses) in &self.answers {
            let shown = |(status, count): (&u16, &usize)| match *status {
                UNDER_WAY => format!("under way × {count}"),
                status => format!("{status} × {count}"),
            };
            let statuses: Vec<_> = statuses.iter().map(shown).collect();
            println!("hostile    {name:<20} {}", statuses.join(", "));
        }
    }
}
