//! Ten thousand idle sockets on the real server: what each costs, and that the server is none the worse for them.

mod support;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::{Server, Tenant};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const SOCKETS: usize = 10_000;
/// With fewer the number means nothing.
const SOCKETS_MIN: usize = 2_000;
/// Open files that are no sockets of clients.
const FILES_BESIDE: usize = 300;
/// A person has at most 64; these many share the sockets.
const VISITORS: usize = 200;
/// A socket takes some 9 KiB of the server's memory; far more means that a buffer of a fixed size has come back.
const BYTES_EACH_MAX: u64 = 64 * 1024;

/// Resident memory of a process, in bytes.
fn resident_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1_024
}

struct Visitor {
    token: String,
    conversation: String,
}

async fn visitor(server: &Server, tenant: &Tenant) -> Visitor {
    let session = server.session(&tenant.chatbot_key, json!({})).await;
    let text = |name: &str| session[name].as_str().expect("a text").to_owned();
    Visitor { token: text("sessionToken"), conversation: text("conversationId") }
}

/// A socket that listens to the visitor's conversation.
async fn open(server: &Server, visitor: &Visitor) -> WebSocketStream<TcpStream> {
    let address = server.base.trim_start_matches("http://");
    let stream = TcpStream::connect(address).await.expect("a connection");
    let url = format!("ws://{address}/v1/realtime");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("a socket");
    let auth = json!({ "type": "auth", "token": visitor.token });
    let subscribe = json!({ "type": "subscribe", "conversationId": visitor.conversation });
    for frame in [auth, subscribe] {
        socket.send(Message::text(frame.to_string())).await.expect("sent");
    }
    while frame(&mut socket).await["type"] != "subscribed" {}
    socket
}

async fn frame(socket: &mut WebSocketStream<TcpStream>) -> Value {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("in time");
        if let Message::Text(text) = message.expect("open").expect("readable") {
            return serde_json::from_str(&text).expect("JSON");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_sockets_are_small_and_hear_what_is_theirs() {
    let most = rlimit::increase_nofile_limit(u64::MAX).expect("the limit of open files");
    // Where the system allows fewer open files (`ulimit -Hn`), as many as it allows.
    let allowed = usize::try_from(most).unwrap_or(SOCKETS).saturating_sub(FILES_BESIDE);
    let count = SOCKETS.min(allowed) / VISITORS * VISITORS;
    assert!(count >= SOCKETS_MIN, "the system allows {most} open files only");
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &["--limit", "all=off", "--sockets-per-ip-max", "20000"]);
    let tenant = server.tenant("Acme").await;
    let mut visitors = Vec::with_capacity(VISITORS);
    for _ in 0..VISITORS {
        visitors.push(visitor(&server, &tenant).await);
    }
    // The first ones load code and fill caches.
    let mut sockets = Vec::with_capacity(count);
    for visitor in &visitors {
        sockets.push(open(&server, visitor).await);
    }
    let before = resident_bytes(server.pid());
    for number in VISITORS..count {
        sockets.push(open(&server, &visitors[number % VISITORS]).await);
    }
    let each = resident_bytes(server.pid()).saturating_sub(before) / (count - VISITORS) as u64;
    println!("{each} bytes of resident memory for each of {count} idle sockets");
    assert!(each < BYTES_EACH_MAX, "{each} bytes a socket");

    let started = Instant::now();
    server.post("/v1/widget/events", &visitors[7].token, json!({ "content": "hello" })).await;
    let mut heard = 0;
    for socket in sockets.iter_mut().skip(7).step_by(VISITORS) {
        while frame(socket).await["event"]["content"] != "hello" {}
        heard += 1;
    }
    println!("{heard} sockets of one visitor heard a message within {} ms", started.elapsed().as_millis());
    assert_eq!(heard, count / VISITORS);
    drop(sockets);
    server.stop();
}
