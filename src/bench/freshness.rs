//! Freshness: a message or a row is acknowledged, and the query that follows at once has to find it.
//!
//! One prober writes and asks, again and again, while visitors send messages and rows come in at a steady pace. An
//! acknowledged event that its query doesn't find fails the benchmark. How long a query waited for the views to reach the
//! log's end is what the server says (`Server-Timing`), so that the load generator's own delays aren't in it.
//!
//! - [`Prober`]: writes, asks, and notes ([`Seen`]). [`pace`]: the rows. The visitors are those of [`send`](super::send).

use super::ingest::{self, connect};
use super::send::{Conversations, TEXT, Tenant, Visitor, start_server};
use super::{Common, Scratch, Spread, disk};
use crate::client::Api;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Response, body::Incoming};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Messages in flight of a visitors' load; 0 for none.
const IN_FLIGHT: [usize; 3] = [1, 16, 64];
/// A batch of a thousand rows this often: 10,000 rows a second.
const ROWS_EVERY: Duration = Duration::from_millis(100);
/// For the baseline: the views have long reached the log's end when the query comes.
const PAUSE: Duration = Duration::from_millis(20);
/// What the wait is to stay under, at the 99th percentile.
const GOAL: Duration = Duration::from_millis(100);

/// Prints what a query takes and how long it waited for what was acknowledged before it, by load, beside the same query
/// when there is nothing to wait for.
///
/// # Errors
/// When the server doesn't start or answer, or a query doesn't find what was acknowledged before it.
pub async fn run(common: &Common) -> anyhow::Result<()> {
    let scratch = Scratch::new(&common.dir)?;
    let time = Duration::from_secs(common.seconds);
    let path = scratch.path().to_owned();
    let baseline = tokio::task::spawn_blocking(move || disk::fdatasync(&path, time)).await??;
    println!("disk       fdatasync of 4 KiB      {baseline}");
    let (mut server, base) = start_server(scratch.path()).await?;
    let api = Api::new(&base)?;
    let tenant = Tenant::create(&api).await?;
    let token = ingest::token(&api, &tenant).await?;
    let mut prober = Prober::new(&api, &tenant, token.clone()).await?;
    // The first statements pay for what later ones find warm.
    prober.probe(Instant::now() + Duration::from_millis(500), PAUSE).await?;

    let mut faults = prober.probe(Instant::now() + time, PAUSE).await?.print("nothing to wait for");
    faults += prober.probe(Instant::now() + time, Duration::ZERO).await?.print("no load");
    for in_flight in IN_FLIGHT {
        let mut visitors = Conversations::open(&api, &tenant, in_flight).await?;
        let stop = CancellationToken::new();
        let rows = AbortOnDropHandle::new(tokio::spawn(pace(connect(&api).await?, token.clone(), stop.clone())));
        let until = Instant::now() + time;
        let (load, seen) = tokio::join!(visitors.measure(time), prober.probe(until, Duration::ZERO));
        stop.cancel();
        let (messages, seen) = (load?.rate(), seen?);
        let rows = rows.await??;
        println!("load       {in_flight:>2} messages in flight: {messages:.0} messages/s, {rows:.0} rows/s");
        faults += seen.print(&format!("{in_flight} in flight, and rows"));
    }
    server.start_kill()?;
    server.wait().await?;
    if faults > 0 {
        bail!("{faults} queries didn't find what was acknowledged before them");
    }
    Ok(())
}

/// Sends batches of rows at a steady pace until `stop`; gives the rows a second.
async fn pace(mut connection: SendRequest<Full<Bytes>>, token: String, stop: CancellationToken) -> anyhow::Result<f64> {
    let batch = Bytes::from(ingest::batch(0));
    let (started, mut rows) = (Instant::now(), 0.0);
    let mut ticks = tokio::time::interval(ROWS_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(rows / started.elapsed().as_secs_f64()),
            _ = ticks.tick() => {}
        }
        ingest::send(&mut connection, &token, batch.clone()).await?;
        rows += 1_000.0;
    }
}

/// Writes, and asks for it at once.
struct Prober {
    visitor: Visitor,
    connection: SendRequest<Full<Bytes>>,
    token: String,
    rows: u64,
}

impl Prober {
    async fn new(api: &Api, tenant: &Tenant, token: String) -> anyhow::Result<Self> {
        // Nobody follows the conversation: the acknowledgement is what counts.
        let (visitor, _) = Visitor::start(api, &tenant.chatbot_key).await?;
        api.post("/v0/datasources?name=probes&schema=id%20Int64", &token, Value::Null).await?;
        Ok(Self { visitor, connection: connect(api).await?, token, rows: 0 })
    }

    /// A message and a row in turn until `until`, each asked for `pause` after its acknowledgement.
    async fn probe(&mut self, until: Instant, pause: Duration) -> anyhow::Result<Seen> {
        let mut seen = Seen::default();
        while Instant::now() < until {
            let sql = match seen.asked() % 2 {
                0 => self.write_message().await?,
                _ => self.write_row().await?,
            };
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            self.ask(sql, &mut seen).await?;
        }
        Ok(seen)
    }

    async fn write_message(&mut self) -> anyhow::Result<String> {
        let (_, acknowledged) = self.visitor.post(&json!({ "content": TEXT })).await?;
        let message: Value = serde_json::from_slice(&acknowledged)?;
        let id = message["id"].as_str().context("a message has an id")?;
        Ok(format!("SELECT count(*) AS n FROM messages WHERE event_id = '{id}'"))
    }

    async fn write_row(&mut self) -> anyhow::Result<String> {
        self.rows += 1;
        let row = json!({ "id": self.rows }).to_string();
        let response = self.call("/v0/events?name=probes&wait=true", row).await?;
        let (status, body) = (response.status(), response.into_body().collect().await?.to_bytes());
        if status != 200 {
            bail!("a row was answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(format!("SELECT count(*) AS n FROM probes WHERE id = {}", self.rows))
    }

    async fn ask(&mut self, sql: String, seen: &mut Seen) -> anyhow::Result<()> {
        let started = Instant::now();
        let response = self.call("/v0/sql", sql.clone()).await?;
        let (status, waited) = (response.status(), waited(&response));
        let body = response.into_body().collect().await?.to_bytes();
        let elapsed = started.elapsed();
        if status == 503 {
            seen.behind += 1;
            return Ok(());
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let found = answer["data"][0]["n"].as_u64();
        let (200, Some(found)) = (status.as_u16(), found) else {
            bail!("a query was answered {status}: {}", String::from_utf8_lossy(&body));
        };
        if found != 1 {
            eprintln!("{found} rows, not one: {sql}");
            seen.missing += 1;
        }
        seen.queries.push(elapsed);
        seen.waits.push(waited.context("an answer says how long its query waited")?);
        Ok(())
    }

    async fn call(&mut self, path: &str, body: String) -> anyhow::Result<Response<Incoming>> {
        let request = hyper::Request::post(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::from(body))?;
        self.connection.ready().await?;
        Ok(self.connection.send_request(request).await?)
    }
}

/// `fresh` of an answer's `Server-Timing`, which is in milliseconds.
fn waited(response: &Response<Incoming>) -> Option<Duration> {
    let timings = response.headers().get("server-timing")?.to_str().ok()?;
    let fresh = timings.split(',').find_map(|timing| timing.trim().strip_prefix("fresh;dur="))?;
    Duration::try_from_secs_f64(fresh.parse::<f64>().ok()? / 1_000.0).ok()
}

/// What the queries met.
#[derive(Default)]
struct Seen {
    queries: Vec<Duration>,
    waits: Vec<Duration>,
    /// Answers without what was acknowledged before.
    missing: usize,
    /// Answered 503: the views took longer than a query waits.
    behind: usize,
}

impl Seen {
    fn asked(&self) -> usize {
        self.queries.len() + self.behind
    }

    /// Gives how many queries didn't find what they asked for.
    fn print(self, load: &str) -> usize {
        let (asked, waits) = (self.asked(), Spread::of(self.waits));
        let met = if waits.p99 < GOAL && self.behind == 0 { "under" } else { "NOT under" };
        println!("freshness  {load:<22}  query  {}", Spread::of(self.queries));
        println!("{:35}waited {waits}, {met} {} ms", "", GOAL.as_millis());
        println!("{:35}{asked} queries, {} missed, {} answered 503", "", self.missing, self.behind);
        self.missing + self.behind
    }
}
