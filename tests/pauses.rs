//! The server itself stands still, as on a machine that sleeps or a process that is stopped: nobody is held to that time.

mod support;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Server, Tenant};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// What the server is told; the default is 60.
const AWAY_AFTER: Duration = Duration::from_secs(3);
/// Longer than that, and than what counts as a busy machine.
const PAUSE: Duration = Duration::from_secs(12);

fn signal(server: &Server, name: &str) {
    let sent = Command::new("sh").arg("-c").arg(format!("kill {name} {}", server.pid())).status();
    assert!(sent.expect("a shell").success());
}

/// The agent's socket; every ping of its own is a sign of life.
struct Agent(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Agent {
    async fn connect(server: &Server, tenant: &Tenant) -> Self {
        let url = format!("{}/v1/realtime", server.base.replacen("http", "ws", 1));
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a socket");
        let auth = json!({ "type": "auth", "token": tenant.token }).to_string();
        socket.send(Message::text(auth)).await.expect("sent");
        let mut agent = Self(socket);
        agent.hear("ready").await;
        agent
    }

    async fn hear(&mut self, kind: &str) {
        loop {
            let frame = self.0.next().await.expect("the socket is open").expect("a frame");
            let Message::Text(text) = frame else { continue };
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            if frame["type"] == kind {
                return;
            }
        }
    }

    async fn lives(&mut self) {
        self.0.send(Message::text(json!({ "type": "ping" }).to_string())).await.expect("sent");
        self.hear("pong").await;
    }
}

/// The conversation's status as its visitor sees it, which is no sign of the agent's life.
async fn status(server: &Server, visitor: &str) -> String {
    let shown = server.get("/v1/widget/conversation", visitor).await;
    shown["conversation"]["status"].as_str().expect("a status").to_owned()
}

#[tokio::test]
async fn a_server_that_stood_still_holds_nobody_to_that_time() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &["--away-after-s", &AWAY_AFTER.as_secs().to_string()]);
    let tenant = server.tenant("Acme").await;
    let mut agent = Agent::connect(&server, &tenant).await;
    let session = server.session(&tenant.chatbot_key, json!({ "initialMessage": "hello" })).await;
    let visitor = session["sessionToken"].as_str().expect("a token").to_owned();
    let id = session["conversationId"].as_str().expect("an id").to_owned();
    while status(&server, &visitor).await != "active" {
        agent.lives().await;
        sleep(Duration::from_millis(100)).await;
    }

    signal(&server, "-STOP");
    sleep(PAUSE).await;
    signal(&server, "-CONT");
    // Several looks go by before anyone has said anything.
    sleep(AWAY_AFTER / 3).await;
    agent.lives().await;
    sleep(AWAY_AFTER / 3).await;
    agent.lives().await;
    let found = server.get(&format!("/v1/agents/{}", tenant.agent), &tenant.token).await;
    assert_eq!(found["status"], "online", "{found}");
    let found = server.get(&format!("/v1/conversations/{id}"), &tenant.token).await;
    assert_eq!((&found["status"], &found["assignedAgentId"]), (&json!("active"), &json!(tenant.agent)), "{found}");

    // Who then really goes is gone.
    let started = Instant::now();
    drop(agent);
    while status(&server, &visitor).await != "pending" {
        assert!(started.elapsed() < 5 * AWAY_AFTER, "who doesn't come back is gone");
        sleep(Duration::from_millis(200)).await;
    }
    assert!(started.elapsed() >= AWAY_AFTER / 2);
    server.stop();
}
