//! A client of the public API, for the demo's people and the benchmarks: HTTP calls and the socket.

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// An answer or a frame that takes longer is a failure of the server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Calls the API of one server.
#[derive(Clone)]
pub struct Api {
    http: Client,
    base: String,
}

impl Api {
    /// A client of the server at `base`, for example `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When the HTTP client can't be built.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        let http = Client::builder().timeout(PATIENCE).build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// The server's address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Calls a route with a bearer token (none when empty) and gives the JSON answer.
    ///
    /// # Errors
    /// The problem's detail.
    pub async fn call(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.with_context(|| format!("failed to call {path}"))?;
        let status = response.status();
        let answer: Value = response.json().await.unwrap_or_default();
        if !status.is_success() {
            bail!("{path} answered {status}: {}", answer["detail"].as_str().unwrap_or_default());
        }
        Ok(answer)
    }

    /// `POST` with a body.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn post(&self, path: &str, token: &str, body: Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, token, Some(body)).await
    }

    /// `GET`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get(&self, path: &str, token: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, token, None).await
    }

    /// What a counter of `/metrics` has counted, all labels together; 0 for one that hasn't counted yet.
    ///
    /// # Errors
    /// When the server doesn't answer.
    pub async fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let response =
            self.http.get(format!("{}/metrics", self.base)).send().await.context("failed to call /metrics")?;
        let text = response.error_for_status()?.text().await?;
        let values = text.lines().filter_map(|line| {
            let (counter, value) = line.rsplit_once(' ')?;
            let is_it = counter.strip_prefix(name).is_some_and(|labels| labels.is_empty() || labels.starts_with('{'));
            is_it.then(|| value.parse::<u64>().ok())?
        });
        Ok(values.sum())
    }

    /// Starts a visitor's session through a chatbot; gives the whole answer.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn start_session(&self, chatbot_key: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}/v1/widget/session", self.base);
        let request = self.http.post(url).header("x-chatbot-key", chatbot_key).json(body);
        let response = request.send().await.context("failed to start a session")?.error_for_status()?;
        Ok(response.json().await?)
    }
}

/// The realtime socket, signed in.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Connects and signs in with an agent's or a visitor's token.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn connect(base: &str, token: &str) -> anyhow::Result<Self> {
        let url = format!("{}/v1/realtime", base.replacen("http", "ws", 1));
        let (stream, _) = tokio_tungstenite::connect_async(&url).await.context("failed to open the socket")?;
        let mut socket = Self { stream };
        socket.send(&json!({ "type": "auth", "token": token })).await?;
        socket.expect("ready").await?;
        Ok(socket)
    }

    /// Follows a conversation after `after`; what it has said since arrives as frames.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn subscribe(&mut self, conversation: &str, after: u64) -> anyhow::Result<()> {
        self.send(&json!({ "type": "subscribe", "conversationId": conversation, "after": after })).await
    }

    /// Follows the tenant's inbox.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn subscribe_inbox(&mut self) -> anyhow::Result<()> {
        self.send(&json!({ "type": "subscribe", "topic": "inbox" })).await
    }

    async fn send(&mut self, frame: &Value) -> anyhow::Result<()> {
        self.stream.send(Message::text(frame.to_string())).await.context("failed to write to the socket")
    }

    async fn expect(&mut self, kind: &str) -> anyhow::Result<Value> {
        loop {
            let frame = self.next().await?;
            if frame["type"] == kind {
                return Ok(frame);
            }
            if frame["type"] == "error" {
                bail!("the socket answered {}", frame["code"]);
            }
        }
    }

    /// The next frame; pings are answered on the way.
    ///
    /// # Errors
    /// When the socket is closed.
    pub async fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            match self.stream.next().await.context("the socket was closed")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(frame) => bail!("the server closed the socket: {frame:?}"),
                _ => {}
            }
        }
    }
}
