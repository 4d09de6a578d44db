//! `bench`: what things cost here, beside what the disk itself costs.
//!
//! - [`append`]: the log alone. [`send`]: a message from one party to the other's socket. [`disk`]: the baseline.
//! - [`ingest`]: rows into a tenant's own data source.
//! - [`freshness`]: how long a query waits for what was acknowledged before it. [`neighbour`]: messages beside a tenant that
//!   sends heavy SQL.
//! - [`peer`]: messages beside support chat as it's usually built, on fastify, PostgreSQL and socket.io.
//! - [`mail`]: mails through a server of which one recipient's domain hangs.
//! - [`inbox`]: lists, filters and searches of a tenant with a million conversations.
//! - [`reports`]: the shipped endpoints over millions of events of many tenants, beside DuckDB and ClickHouse's engine.

pub mod append;
pub mod disk;
pub mod freshness;
pub mod inbox;
pub mod ingest;
pub mod mail;
pub mod neighbour;
pub mod peer;
pub mod reports;
pub mod send;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Flags of `bench`.
#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Events into the log, by batch size
    Append(Common),
    /// Messages: send, durable acknowledgement, the other party's socket; by messages in flight
    Send(Common),
    /// Rows through `/v0/events` in batches of a thousand, by connections at once
    Ingest(Common),
    /// Queries for what was acknowledged just before them, by load
    Freshness(Common),
    /// Messages of one tenant, alone and beside another that sends heavy SQL without pause
    Neighbour(neighbour::NeighbourArgs),
    /// Messages, in turn with a server on fastify, PostgreSQL and socket.io
    Peer(peer::PeerArgs),
    /// Mails of a hundred tenants through a mail server of which one recipient's domain hangs
    Mail(Common),
    /// Lists, filters and searches of an inbox with a million conversations
    Inbox(inbox::InboxArgs),
    /// The shipped endpoints over millions of events of many tenants
    Reports(reports::ReportsArgs),
}

/// Flags of every benchmark.
#[derive(Args)]
pub struct Common {
    /// Seconds a measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Make the temporary data directory in this one: the disk to measure
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
}

/// A directory that is deleted at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in `dir`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(dir: &std::path::Path) -> anyhow::Result<Self> {
        let path = dir.join(format!("parlance-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("failed to make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("failed to delete {}: {error}", self.0.display());
        }
    }
}

/// Order statistics of durations.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// Median.
    pub p50: Duration,
    /// 99th percentile.
    pub p99: Duration,
}

impl Spread {
    /// Of at least one duration; zeros for none.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1))).copied();
        Self { p50: at(50).unwrap_or_default(), p99: at(99).unwrap_or_default() }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        write!(f, "p50 {:8.3} ms  p99 {:8.3} ms", ms(self.p50), ms(self.p99))
    }
}

/// Runs one benchmark.
///
/// # Errors
/// When the data directory can't be made or the server doesn't answer.
pub async fn run(args: BenchArgs) -> anyhow::Result<()> {
    match args.what {
        What::Append(common) => tokio::task::spawn_blocking(move || append::run(&common)).await?,
        What::Send(common) => send::run(&common).await,
        What::Ingest(common) => ingest::run(&common).await,
        What::Freshness(common) => freshness::run(&common).await,
        What::Neighbour(args) => neighbour::run(&args).await,
        What::Peer(args) => peer::run(&args).await,
        What::Mail(common) => mail::run(&common).await,
        What::Inbox(args) => inbox::run(&args).await,
        What::Reports(args) => reports::run(&args).await,
    }
}
