//! Sockets that follow every conversation, of either side.

use crate::client::{Api, Socket};
use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Conversations that one socket follows.
const A_SOCKET: usize = 32;
/// A message that has not been delivered by then is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// When each message came, by its client id.
type Arrivals = Arc<Mutex<HashMap<String, Instant>>>;

/// The sockets; they close when it goes.
pub(super) struct Listener {
    arrivals: Arrivals,
    sockets: JoinSet<anyhow::Result<()>>,
}

impl Listener {
    /// Follows the conversations: with an agent's token ours, without one the peer's.
    pub(super) async fn open(api: &Api, token: Option<&str>, conversations: &[String]) -> anyhow::Result<Self> {
        let (arrivals, mut sockets) = (Arrivals::default(), JoinSet::new());
        for followed in conversations.chunks(A_SOCKET) {
            let arrivals = Arc::clone(&arrivals);
            if let Some(token) = token {
                let mut socket = Socket::connect(api.base(), token).await?;
                for conversation in followed {
                    socket.subscribe(conversation, 0).await?;
                }
                sockets.spawn(listen(socket, arrivals));
            } else {
                sockets.spawn(PeerSocket::open(api.base(), followed).await?.listen(arrivals));
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(Self { arrivals, sockets })
    }

    /// What has come since it was asked last.
    pub(super) fn take(&mut self) -> HashMap<String, Instant> {
        std::mem::take(&mut *self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long each message took from its sending to its socket.
    pub(super) async fn delivered(&mut self, sent: &[(String, Instant)]) -> anyhow::Result<Vec<Duration>> {
        let asked = Instant::now();
        loop {
            if let Some(ended) = self.sockets.try_join_next() {
                ended??;
                bail!("a socket was closed");
            }
            let missing = {
                let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
                sent.iter().filter(|(key, _)| !arrivals.contains_key(key)).count()
            };
            if missing == 0 {
                break;
            }
            anyhow::ensure!(asked.elapsed() < PATIENCE, "{missing} messages didn't reach their socket in {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let arrivals = self.take();
        Ok(sent.iter().map(|(key, at)| arrivals[key].saturating_duration_since(*at)).collect())
    }
}

fn arrived(arrivals: &Arrivals, event: &Value) {
    if let Some(key) = event["clientId"].as_str() {
        arrivals.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), Instant::now());
    }
}

async fn listen(mut socket: Socket, arrivals: Arrivals) -> anyhow::Result<()> {
    loop {
        arrived(&arrivals, &socket.next().await?["event"]);
    }
}

/// A client of socket.io's protocol over a WebSocket.
struct PeerSocket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl PeerSocket {
    /// Connects, and follows the conversations.
    async fn open(base: &str, conversations: &[String]) -> anyhow::Result<Self> {
        let url = format!("{}/socket.io/?EIO=4&transport=websocket", base.replacen("http", "ws", 1));
        let (stream, _) = tokio_tungstenite::connect_async(&url).await.context("failed to open the peer's socket")?;
        let mut socket = Self(stream);
        // Engine.io's `open`, then socket.io's `connect` and its answer.
        socket.expect("0").await?;
        socket.0.send(Message::text("40")).await?;
        socket.expect("40").await?;
        for (number, conversation) in conversations.iter().enumerate() {
            let follow = json!(["follow", conversation]);
            socket.0.send(Message::text(format!("42{number}{follow}"))).await?;
            socket.expect(&format!("43{number}")).await?;
        }
        Ok(socket)
    }

    async fn expect(&mut self, start: &str) -> anyhow::Result<()> {
        let frame = self.next().await?;
        anyhow::ensure!(frame.starts_with(start), "the peer's socket said {frame}");
        Ok(())
    }

    /// The next text; pings are answered on the way.
    async fn next(&mut self) -> anyhow::Result<String> {
        loop {
            match self.0.next().await.context("the peer closed its socket")?? {
                Message::Text(text) if text.as_str() == "2" => self.0.send(Message::text("3")).await?,
                Message::Text(text) => return Ok(text.to_string()),
                Message::Close(frame) => bail!("the peer closed its socket: {frame:?}"),
                _ => {}
            }
        }
    }

    async fn listen(mut self, arrivals: Arrivals) -> anyhow::Result<()> {
        loop {
            if let Some(event) = self.next().await?.strip_prefix("42") {
                arrived(&arrivals, &serde_json::from_str::<Value>(event)?[1]);
            }
        }
    }
}
