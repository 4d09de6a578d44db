//! The message path beside support chat as it's usually built: fastify, PostgreSQL, socket.io.
//!
//! Both get the same requests of one generator, both answer when a message is durable, and of both a socket follows every
//! conversation. They are measured in turn, after both have come past their first checkpoints. Start at [`run`].
//!
//! - [`peer`](start::Peer): the peer's processes. [`Listener`](listen::Listener): the sockets. [`Work`](work::Work): what
//!   the processes of a side have cost.

mod listen;
mod start;
mod work;

use super::send::{TEXT, Tenant, Visitor, start_server};
use super::{Common, Scratch, Spread, disk};
use crate::client::Api;
use anyhow::Context as _;
use clap::Args;
use listen::Listener;
use serde_json::json;
use start::Peer;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::process::Child;
use tokio::task::JoinSet;
use work::Work;

/// Messages in flight while a side is brought to where it stays.
const SETTLE_IN_FLIGHT: usize = 64;
/// Before each measurement.
const WARM_UP: Duration = Duration::from_millis(500);

/// Flags of `bench peer`.
#[derive(Args)]
pub struct PeerArgs {
    #[command(flatten)]
    common: Common,
    /// Measurements of each side, in turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Messages under way at once, one block of rounds each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    in_flight: Vec<usize>,
    /// Messages that each side has before it's measured
    #[arg(long, default_value_t = 20_000)]
    after: usize,
}

/// Prints rates, times, processor time and pages written of both sides, and their ratios.
///
/// # Errors
/// When a side doesn't start or answer, or loses a message.
pub async fn run(args: &PeerArgs) -> anyhow::Result<()> {
    let scratch = Scratch::new(&args.common.dir)?;
    let time = Duration::from_secs(args.common.seconds);
    let path = scratch.path().to_owned();
    let baseline = tokio::task::spawn_blocking(move || disk::fdatasync(&path, time)).await??;
    println!("disk  fdatasync of 4 KiB                {baseline}");
    let mut ours = Side::ours(scratch.path()).await?;
    let mut theirs = Side::peer(scratch.path()).await?;
    for side in [&mut ours, &mut theirs] {
        side.settle(args.after).await?;
    }
    for &in_flight in &args.in_flight {
        ours.open(in_flight).await?;
        theirs.open(in_flight).await?;
        let mut rounds = Vec::new();
        for _ in 0..args.rounds {
            let peer = theirs.measure(time).await?;
            rounds.push((ours.measure(time).await?, peer));
        }
        report(in_flight, rounds);
    }
    ours.stop().await?;
    theirs.stop().await
}

/// What one measurement gave.
struct Measured {
    acked: Vec<Duration>,
    delivered: Vec<Duration>,
    spent: Duration,
    work: Work,
}

impl Measured {
    fn messages(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let messages = self.acked.len() as f64;
        messages
    }

    fn rate(&self) -> f64 {
        self.messages() / self.spent.as_secs_f64()
    }

    fn p50_ms(&self) -> f64 {
        Spread::of(self.acked.clone()).p50.as_secs_f64() * 1_000.0
    }

    fn processor_ms(&self) -> f64 {
        self.work.processor.as_secs_f64() * 1_000.0 / self.messages()
    }

    fn pages(&self) -> f64 {
        self.work.pages / self.messages()
    }
}

/// Median and quartiles.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

fn report(in_flight: usize, rounds: Vec<(Measured, Measured)>) {
    let ratio = |of: fn(&Measured) -> f64| {
        let [low, median, high] = quartiles(rounds.iter().map(|(ours, peer)| of(ours) / of(peer)).collect());
        format!("{median:.2} ({low:.2} to {high:.2})")
    };
    let (rates, times) = (ratio(Measured::rate), ratio(Measured::p50_ms));
    println!(
        "{in_flight:>4} in flight  ours / peer, medians (quartiles) of {} rounds: rate {rates}, p50 {times}",
        rounds.len()
    );
    let (ours, peers): (Vec<_>, Vec<_>) = rounds.into_iter().unzip();
    for (name, side) in [("ours", ours), ("peer", peers)] {
        let median = |of: fn(&Measured) -> f64| quartiles(side.iter().map(of).collect())[1];
        let (rate, processor, pages) =
            (median(Measured::rate), median(Measured::processor_ms), median(Measured::pages));
        let acked = Spread::of(side.iter().flat_map(|round| round.acked.iter().copied()).collect());
        let delivered = Spread::of(side.iter().flat_map(|round| round.delivered.iter().copied()).collect());
        println!("  {name}  {rate:>8.0} messages/s  acknowledged {acked}");
        println!("  {:28}delivered    {delivered}", "");
        println!("  {:28}a message: {processor:.3} ms of processor time, {pages:.1} pages of 4 KiB written", "");
    }
}

/// Who is measured: its processes, and what drives it.
struct Side {
    api: Api,
    /// The agent's token and the chatbot's key; the peer takes any.
    tenant: Option<Tenant>,
    server: Child,
    peer: Option<Peer>,
    listener: Option<Listener>,
    visitors: Vec<Sender>,
}

/// A conversation with one message under way.
struct Sender {
    visitor: Visitor,
    conversation: String,
    sent: u64,
}

impl Side {
    async fn ours(dir: &Path) -> anyhow::Result<Self> {
        let (server, base) = start_server(dir).await?;
        let api = Api::new(&base)?;
        let tenant = Some(Tenant::create(&api).await?);
        Ok(Self { api, tenant, server, peer: None, listener: None, visitors: Vec::new() })
    }

    async fn peer(dir: &Path) -> anyhow::Result<Self> {
        let peer = Peer::start(dir).await?;
        let (server, base) = peer.serve().await?;
        let api = Api::new(&base)?;
        Ok(Self { api, tenant: None, server, peer: Some(peer), listener: None, visitors: Vec::new() })
    }

    /// Sends what it is to have before it's measured, and goes on until it has come past a checkpoint.
    async fn settle(&mut self, messages: usize) -> anyhow::Result<()> {
        self.open(SETTLE_IN_FLIGHT).await?;
        let mut sent = 0;
        while sent < messages {
            sent += self.measure(Duration::from_secs(1)).await?.acked.len();
        }
        if let Some(peer) = &self.peer {
            return peer.checkpoint().await;
        }
        while self.api.counter("parlance_checkpoints_total").await? == 0 {
            self.measure(Duration::from_secs(1)).await?;
        }
        Ok(())
    }

    /// New conversations, one for each message in flight, and who listens to them.
    async fn open(&mut self, in_flight: usize) -> anyhow::Result<()> {
        let key = self.tenant.as_ref().map_or("", |tenant| tenant.chatbot_key.as_str());
        self.visitors.clear();
        for _ in 0..in_flight {
            let (visitor, conversation) = Visitor::start(&self.api, key).await?;
            self.visitors.push(Sender { visitor, conversation, sent: 0 });
        }
        let conversations: Vec<String> = self.visitors.iter().map(|sender| sender.conversation.clone()).collect();
        let token = self.tenant.as_ref().map(|tenant| tenant.agent_token.as_str());
        self.listener = Some(Listener::open(&self.api, token, &conversations).await?);
        Ok(())
    }

    /// Each conversation sends message after message, to warm up and then for `time`.
    async fn measure(&mut self, time: Duration) -> anyhow::Result<Measured> {
        let listener = self.listener.as_mut().context("who is measured has listeners")?;
        drop(listener.take());
        let start = Instant::now();
        let (from, until) = (start + WARM_UP, start + WARM_UP + time);
        let mut tasks = JoinSet::new();
        for sender in self.visitors.drain(..) {
            tasks.spawn(send(sender, from, until));
        }
        tokio::time::sleep_until(from.into()).await;
        let before = work::of(&self.server, self.peer.as_ref())?;
        let (mut acked, mut asked) = (Vec::new(), Vec::new());
        while let Some(outcome) = tasks.join_next().await {
            let (sender, sent) = outcome??;
            self.visitors.push(sender);
            for (key, at, took) in sent {
                asked.push((key, at));
                acked.push(took);
            }
        }
        let work = work::of(&self.server, self.peer.as_ref())?.since(&before);
        let spent = from.elapsed();
        let delivered = listener.delivered(&asked).await?;
        Ok(Measured { acked, delivered, spent, work })
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.server.start_kill()?;
        self.server.wait().await?;
        match self.peer {
            Some(peer) => peer.stop().await,
            None => Ok(()),
        }
    }
}

/// A message's own id, when it was sent, and how long its acknowledgement took.
type Sent = (String, Instant, Duration);

/// Sends until `until`; gives what was sent since `from`.
async fn send(mut sender: Sender, from: Instant, until: Instant) -> anyhow::Result<(Sender, Vec<Sent>)> {
    let mut sent = Vec::new();
    while Instant::now() < until {
        sender.sent += 1;
        let key = format!("{}-{}", sender.conversation, sender.sent);
        let at = Instant::now();
        let (took, _) = sender.visitor.post(&json!({ "content": TEXT, "clientId": key })).await?;
        if at >= from {
            sent.push((key, at, took));
        }
    }
    Ok((sender, sent))
}
