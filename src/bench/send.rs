//! Messages end to end: a visitor's HTTP request, its durable acknowledgement, the agent's socket.
//!
//! The server is a process of its own, on the same cores as this load generator. Each message in flight is a
//! conversation whose visitor sends the next message when the agent's socket has got the last.

use super::{Common, Scratch, Spread, disk};
use crate::client::{Api, Socket};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Conversations one agent's socket follows; a socket may follow 50.
const CONVERSATIONS_A_SOCKET: usize = 32;
/// Before measuring.
const WARM_UP: Duration = Duration::from_millis(500);
/// What visitors say.
pub(super) const TEXT: &str = "Hello, I would like to know when my order number 4711 will arrive, please.";
/// Messages in flight, and seconds between two looks, until the write-ahead log has been copied for the first time: from then
/// on a server is as it stays.
const SETTLE: (usize, Duration) = (64, Duration::from_secs(1));

/// Prints throughput and latencies for 1, 16, 64 and 256 messages in flight, beside the disk's fdatasync.
///
/// # Errors
/// When the server doesn't start or answer.
pub async fn run(common: &Common) -> anyhow::Result<()> {
    let scratch = Scratch::new(&common.dir)?;
    let time = Duration::from_secs(common.seconds);
    let path = scratch.path().to_owned();
    let baseline = tokio::task::spawn_blocking(move || disk::fdatasync(&path, time)).await??;
    println!("disk  fdatasync of 4 KiB                      {baseline}");
    let (mut server, base) = start_server(scratch.path()).await?;
    let api = Api::new(&base)?;
    let tenant = Tenant::create(&api).await?;
    settle(&api, &tenant).await?;
    for in_flight in [1, 16, 64, 256] {
        let before = Work::of(&api).await?;
        let sent = Conversations::open(&api, &tenant, in_flight).await?.measure(time).await?;
        let work = Work::of(&api).await?;
        let rate = sent.rate();
        println!("send  {in_flight:>3} in flight  {rate:>8.0} messages/s  acknowledged {}", Spread::of(sent.acked));
        println!("{:46}delivered    {}", "", Spread::of(sent.delivered));
        let (commits, copies) = (work.commits - before.commits, work.checkpoints - before.checkpoints);
        println!("{:46}{commits} commits, {copies} checkpoints", "");
    }
    server.start_kill()?;
    server.wait().await?;
    Ok(())
}

/// What the writer has done since the server's start.
struct Work {
    commits: u64,
    checkpoints: u64,
}

impl Work {
    async fn of(api: &Api) -> anyhow::Result<Self> {
        let commits = api.counter("parlance_commit_seconds_count").await?;
        Ok(Self { commits, checkpoints: api.counter("parlance_checkpoints_total").await? })
    }
}

/// Sends until the server has come to what it does in the long run.
async fn settle(api: &Api, tenant: &Tenant) -> anyhow::Result<()> {
    let (in_flight, pause) = SETTLE;
    let mut conversations = Conversations::open(api, tenant, in_flight).await?;
    while Work::of(api).await?.checkpoints == 0 {
        conversations.measure(pause).await?;
    }
    Ok(())
}

/// A server of its own process on this scratch directory, without limits, and where it is.
pub(super) async fn start_server(dir: &Path) -> anyhow::Result<(Child, String)> {
    start_server_with(dir, &[]).await
}

/// The same, with more flags.
pub(super) async fn start_server_with(dir: &Path, more: &[&str]) -> anyhow::Result<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", "--listen", "127.0.0.1:0", "--limit", "all=off", "--quota", "all=off", "--data-dir"])
        .arg(dir.join("data"))
        .args(more)
        // Slow reports are what some benchmarks ask for.
        .env("PARLANCE_LOG", "warn,sql::observed=error")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("failed to start the server")?;
    let out = child.stdout.take().context("the server has an output")?;
    let line = BufReader::new(out).lines().next_line().await?.context("the server ended at once")?;
    let base = line.split_whitespace().last().context("the server says where it is")?.to_owned();
    Ok((child, base))
}

pub(super) struct Tenant {
    pub(super) agent_token: String,
    pub(super) chatbot_key: String,
}

impl Tenant {
    pub(super) async fn create(api: &Api) -> anyhow::Result<Self> {
        let body = json!({
            "name": "Bench", "adminName": "Ada", "adminEmail": "ada@bench.example", "adminPassword": "a long password",
        });
        let made = api.post("/v1/tenants", "", body).await?;
        let agent_token = made["access_token"].as_str().context("a token")?.to_owned();
        let body = json!({ "name": "Site", "allowedOrigins": [] });
        let chatbot = api.post("/v1/chatbots", &agent_token, body).await?;
        Ok(Self { agent_token, chatbot_key: chatbot["apiKey"].as_str().context("a key")?.to_owned() })
    }
}

/// One conversation's visitor: a connection kept open.
pub(super) struct Visitor {
    connection: SendRequest<Full<Bytes>>,
    token: String,
}

impl Visitor {
    /// Starts a session; gives its conversation too.
    pub(super) async fn start(api: &Api, chatbot_key: &str) -> anyhow::Result<(Self, String)> {
        let session = api.start_session(chatbot_key, &json!({})).await?;
        let text =
            |key: &str| anyhow::Ok(session[key].as_str().with_context(|| format!("a session has {key}"))?.to_owned());
        let address = api.base().trim_start_matches("http://");
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok((Self { connection, token: text("sessionToken")? }, text("conversationId")?))
    }

    /// Sends one message; gives the time to its acknowledgement, and that.
    pub(super) async fn post(&mut self, message: &Value) -> anyhow::Result<(Duration, Bytes)> {
        let request = hyper::Request::post("/v1/widget/events")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::from(message.to_string()))?;
        let started = Instant::now();
        self.connection.ready().await?;
        let response = self.connection.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status != 201 {
            bail!("a message was answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok((started.elapsed(), body))
    }
}

/// A visitor, and word from the agent's socket.
struct Followed {
    visitor: Visitor,
    arrivals: mpsc::UnboundedReceiver<Instant>,
}

impl Followed {
    /// Sends one message and gives the times to its acknowledgement and to the agent's socket.
    async fn send(&mut self) -> anyhow::Result<(Duration, Duration)> {
        let started = Instant::now();
        let (acknowledged, _) = self.visitor.post(&json!({ "content": TEXT })).await?;
        let arrived = tokio::time::timeout(Duration::from_secs(10), self.arrivals.recv()).await;
        let arrived = arrived.context("a message didn't reach the socket in 10 s")?.context("the socket closed")?;
        Ok((acknowledged, arrived.saturating_duration_since(started)))
    }
}

/// What a measurement of messages gave.
#[derive(Default)]
pub(super) struct Sent {
    /// Times to the acknowledgement.
    pub(super) acked: Vec<Duration>,
    /// Times to the agent's socket.
    pub(super) delivered: Vec<Duration>,
    spent: Duration,
}

impl Sent {
    /// Messages a second.
    pub(super) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let messages = self.delivered.len() as f64;
        messages / self.spent.as_secs_f64()
    }
}

/// Conversations with a message in flight each, and the agent's sockets that follow them.
pub(super) struct Conversations {
    visitors: Vec<Followed>,
    _sockets: JoinSet<anyhow::Result<()>>,
}

impl Conversations {
    pub(super) async fn open(api: &Api, tenant: &Tenant, in_flight: usize) -> anyhow::Result<Self> {
        let mut visitors = Vec::with_capacity(in_flight);
        let mut sockets = JoinSet::new();
        let mut routes = HashMap::new();
        for number in 0..in_flight {
            let (arrived, arrivals) = mpsc::unbounded_channel();
            let (visitor, conversation) = Visitor::start(api, &tenant.chatbot_key).await?;
            visitors.push(Followed { visitor, arrivals });
            routes.insert(conversation, arrived);
            if routes.len() == CONVERSATIONS_A_SOCKET || number + 1 == in_flight {
                let mut socket = Socket::connect(api.base(), &tenant.agent_token).await?;
                for conversation in routes.keys() {
                    socket.subscribe(conversation, 0).await?;
                }
                sockets.spawn(listen(socket, std::mem::take(&mut routes)));
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(Self { visitors, _sockets: sockets })
    }

    /// Each visitor sends message after message, to warm up and then for `time`.
    pub(super) async fn measure(&mut self, time: Duration) -> anyhow::Result<Sent> {
        let started = Instant::now();
        let (measured_from, until) = (started + WARM_UP, started + WARM_UP + time);
        let mut tasks = JoinSet::new();
        for mut visitor in self.visitors.drain(..) {
            tasks.spawn(async move {
                let mut sent = Sent::default();
                while Instant::now() < until {
                    let at = Instant::now();
                    let (acked, delivered) = visitor.send().await?;
                    if at >= measured_from {
                        sent.acked.push(acked);
                        sent.delivered.push(delivered);
                    }
                }
                anyhow::Ok((visitor, sent))
            });
        }
        let mut all = Sent::default();
        while let Some(outcome) = tasks.join_next().await {
            let (visitor, sent) = outcome??;
            self.visitors.push(visitor);
            all.acked.extend(sent.acked);
            all.delivered.extend(sent.delivered);
        }
        all.spent = measured_from.elapsed();
        Ok(all)
    }
}

async fn listen(mut socket: Socket, routes: HashMap<String, mpsc::UnboundedSender<Instant>>) -> anyhow::Result<()> {
    loop {
        let frame: Value = socket.next().await?;
        let event = &frame["event"];
        if frame["type"] == "event"
            && event["type"] == "message"
            && let Some(arrived) = event["conversationId"].as_str().and_then(|id| routes.get(id))
            && arrived.send(Instant::now()).is_err()
        {
            return Ok(());
        }
    }
}
