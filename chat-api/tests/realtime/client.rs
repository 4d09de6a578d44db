//! A client of `/v1/realtime`.

use super::server::Server;
use futures_util::{SinkExt as _, StreamExt as _};
use ingest::id::ConversationId;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Message;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An open socket.
pub struct Client(pub WebSocketStream<TcpStream>);

/// What came.
#[derive(Debug, PartialEq)]
pub enum Came {
    Frame(Value),
    /// Closed with this code; 1006 without one.
    Closed(u16),
}

impl Client {
    /// Connects; `Origin` as a browser would send it. With `receive_bytes`, a small window.
    pub async fn open(server: &Server, origin: Option<&str>, receive_bytes: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = socket.connect(server.address).await.unwrap();
        let mut request = format!("ws://{}/v1/realtime", server.address).into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        Self(socket)
    }

    /// Connects and authenticates.
    pub async fn ready(server: &Server, token: &str) -> Self {
        let mut client = Self::open(server, None, None).await;
        client.authenticate(token).await;
        client
    }

    pub async fn authenticate(&mut self, token: &str) {
        self.send(json!({"type": "auth", "token": token})).await;
        assert_eq!(self.next().await, Came::Frame(json!({"type": "ready"})));
    }

    /// Connects, authenticates and subscribes; answers `lastSeq` too.
    pub async fn subscribed(
        server: &Server,
        token: &str,
        conversation: ConversationId,
        after: Option<u64>,
    ) -> (Self, u64) {
        let mut client = Self::ready(server, token).await;
        let last = client.subscribe(conversation, after).await;
        (client, last)
    }

    pub async fn subscribe(&mut self, conversation: ConversationId, after: Option<u64>) -> u64 {
        let mut frame = json!({"type": "subscribe", "conversationId": conversation});
        if let Some(after) = after {
            frame["after"] = after.into();
        }
        self.send(frame).await;
        let answer = self.frame().await;
        assert_eq!((&answer["type"], &answer["conversationId"]), (&json!("subscribed"), &json!(conversation)));
        answer["lastSeq"].as_u64().unwrap()
    }

    pub async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// The next frame or close but for presence and queue; protocol pings are answered on the way.
    pub async fn next(&mut self) -> Came {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("something in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if frame["type"] != "presence" && frame["type"] != "queue" {
                        return Came::Frame(frame);
                    }
                }
                Some(Ok(Message::Close(Some(frame)))) => return Came::Closed(frame.code.into()),
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Came::Closed(1006),
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Value {
        match self.next().await {
            Came::Frame(frame) => frame,
            Came::Closed(code) => panic!("closed with {code}"),
        }
    }

    /// The next event's `seq` and content.
    pub async fn event(&mut self) -> (u64, String) {
        let frame = self.frame().await;
        assert_eq!(frame["type"], "event", "{frame}");
        let event = &frame["event"];
        (event["seq"].as_u64().unwrap(), event["content"].as_str().unwrap_or_default().to_owned())
    }

    /// The next frame of any kind.
    pub async fn any(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.next().await.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// The next presence or queue frame; others are passed over.
    pub async fn aside(&mut self, kind: &str) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("something in time");
            let Some(Ok(Message::Text(text))) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Nothing comes for a while, but for presence and queue.
    pub async fn silent(&mut self) {
        if let Ok(came) = tokio::time::timeout(Duration::from_millis(250), self.next()).await {
            panic!("came {came:?}");
        }
    }
}
