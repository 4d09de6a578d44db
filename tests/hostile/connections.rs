//! Connections that keep the server waiting, at every door and in every way, and more of them than it takes.
//!
//! [`ends`] is the table: what each way comes to at each door. A new door or a new way doesn't compile without its line, and a
//! door that the server counts and the table doesn't know fails the test.

use crate::siege::{self, Siege};
use crate::support::Tenant;
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

/// The waits that these stories set; the defaults are 10, 75, 30 and 30 s.
const FLAGS: [&str; 8] = ["--header-wait-s", "2", "--idle-wait-s", "3", "--body-wait-s", "2", "--unread-wait-s", "2"];
const HEADER: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(3);
const BODY: Duration = Duration::from_secs(2);
const UNREAD: Duration = Duration::from_secs(2);
/// What a time-out may be late on a machine that is busy otherwise.
const LATE: Duration = Duration::from_secs(4);
/// Whoever knocks here gets at most this much while nobody reads: what the kernel's buffers take.
const UNREAD_BYTES_MAX: usize = 24 * 1024 * 1024;
/// The attackers' addresses: every address of 127.0.0.0/8 is this machine's.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Http,
    /// A WebSocket, after its upgrade.
    Socket,
    /// A stream of server-sent events, after its head.
    Events,
    Pg,
    /// The same port; TLS comes first.
    PgTls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    SaysNothing,
    /// Half of what a client says first.
    HalfHead,
    /// That, a byte now and then.
    SlowHead,
    /// A whole request, and half of the next one's head.
    HalfHeadLater,
    /// Half of what comes after the head: a body, a frame, a statement.
    HalfBody,
    /// That, a byte now and then.
    SlowBody,
    /// Asks for much and takes nothing.
    NeverReads,
    /// Asks, takes the answer, and stays.
    StaysIdle,
}

const DOORS: [Door; 5] = [Door::Http, Door::Socket, Door::Events, Door::Pg, Door::PgTls];
const WAYS: [Way; 8] = [
    Way::SaysNothing,
    Way::HalfHead,
    Way::SlowHead,
    Way::HalfHeadLater,
    Way::HalfBody,
    Way::SlowBody,
    Way::NeverReads,
    Way::StaysIdle,
];

/// What ends it, or why it isn't a way to this door.
enum Ends {
    Within(Duration),
    /// Another line of the table says it.
    As(Door),
    /// It may stay, bounded by something else.
    Stays(&'static str),
}

fn ends(door: Door, way: Way) -> Ends {
    use Ends::{As, Stays, Within};
    match (door, way) {
        (Door::Http, Way::SaysNothing | Way::HalfHead | Way::SlowHead) => Within(HEADER),
        (Door::Http, Way::HalfHeadLater) => Within(HEADER),
        (Door::Http, Way::HalfBody | Way::SlowBody) => Within(BODY),
        (Door::Http, Way::NeverReads) => Within(UNREAD),
        (Door::Http, Way::StaysIdle) => Within(IDLE),
        // Its token's frame.
        (Door::Socket, Way::SaysNothing | Way::HalfHead | Way::SlowHead) => Within(HEADER),
        (Door::Socket, Way::HalfHeadLater) => Stays("a socket has one head"),
        // No answer to its pings.
        (Door::Socket, Way::HalfBody | Way::SlowBody | Way::NeverReads | Way::StaysIdle) => Within(IDLE),
        (Door::Events, Way::SaysNothing | Way::HalfHead | Way::SlowHead | Way::HalfHeadLater) => As(Door::Http),
        (Door::Events, Way::HalfBody | Way::SlowBody) => Stays("a GET has no body"),
        // What is said in the conversation fills its window.
        (Door::Events, Way::NeverReads) => Within(UNREAD),
        (Door::Events, Way::StaysIdle) => {
            Stays("that is what a stream is for; sockets are bounded by person and address")
        }
        (Door::Pg, Way::SaysNothing | Way::HalfHead | Way::SlowHead) => Within(HEADER),
        (Door::Pg, Way::HalfHeadLater) => Stays("a connection has one start-up packet"),
        (Door::Pg, Way::HalfBody | Way::SlowBody) => Within(BODY),
        (Door::Pg, Way::NeverReads) => Within(UNREAD),
        (Door::Pg, Way::StaysIdle) => Stays("pools do for an hour; 50 a tenant, and it goes where there is no room"),
        (Door::PgTls, Way::SaysNothing | Way::HalfHead | Way::SlowHead) => Within(HEADER),
        (Door::PgTls, Way::HalfHeadLater | Way::HalfBody | Way::SlowBody) => As(Door::Pg),
        (Door::PgTls, Way::NeverReads | Way::StaysIdle) => As(Door::Pg),
    }
}

/// Where the doors are, and with what an attacker is let in.
struct Target {
    http: SocketAddr,
    pg: SocketAddr,
    attacker: Tenant,
    conversation: String,
    thread: String,
}

impl Target {
    async fn of(siege: &Siege) -> Self {
        let status = siege.server.get("/v1/status", "").await;
        let session = siege.server.session(&siege.attacker.chatbot_key, json!({ "initialMessage": "hello" })).await;
        let conversation = session["conversationId"].as_str().expect("an id").to_owned();
        Self {
            http: siege.server.base.trim_start_matches("http://").parse().expect("an address"),
            pg: status["pg"].as_str().expect("the wire is on").parse().expect("an address"),
            attacker: siege.attacker.clone(),
            thread: session["threadId"].as_str().expect("an id").to_owned(),
            conversation,
        }
    }

    /// A connection, as far as the way needs it to be let in.
    async fn knock(&self, door: Door, way: Way) -> TcpStream {
        match door {
            Door::Http => connect(self.http, FIRST).await,
            Door::Socket => {
                let mut stream = connect(self.http, FIRST).await;
                let upgrade = "GET /v1/realtime HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
                stream.write_all(upgrade.as_bytes()).await.expect("written");
                read_until(&mut stream, b"\r\n\r\n").await;
                if matches!(way, Way::HalfBody | Way::SlowBody | Way::NeverReads | Way::StaysIdle) {
                    let auth = json!({ "type": "auth", "token": self.attacker.token }).to_string();
                    stream.write_all(&frame(auth.as_bytes())).await.expect("written");
                    read_until(&mut stream, b"ready").await;
                }
                stream
            }
            Door::Events => {
                let mut stream = connect(self.http, FIRST).await;
                let (id, token) = (&self.conversation, &self.attacker.token);
                let head = format!(
                    "GET /v1/conversations/{id}/events/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await.expect("written");
                read_until(&mut stream, b"event-stream").await;
                stream
            }
            Door::Pg => {
                let mut stream = connect(self.pg, FIRST).await;
                if matches!(way, Way::HalfBody | Way::SlowBody | Way::NeverReads) {
                    stream.write_all(&start_up(&self.attacker.id)).await.expect("written");
                    read_until(&mut stream, b"R").await;
                    stream.write_all(&message(b'p', &self.attacker.report_token)).await.expect("written");
                    // ReadyForQuery, outside of a transaction.
                    read_until(&mut stream, b"Z\0\0\0\x05I").await;
                }
                stream
            }
            Door::PgTls => {
                let mut stream = connect(self.pg, FIRST).await;
                stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.expect("written");
                read_until(&mut stream, b"S").await;
                stream
            }
        }
    }

    /// All that the way says in the end, were it not half or slow.
    fn says(&self, door: Door, way: Way) -> Vec<u8> {
        let get = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
        let post =
            "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n";
        match (door, way) {
            (Door::Http, Way::HalfBody | Way::SlowBody) => [post.as_bytes(), &[b' '; 5_000]].concat(),
            (Door::Http, Way::NeverReads) => get.repeat(2_000).into_bytes(),
            (Door::Http | Door::Events, _) => get.as_bytes().to_vec(),
            (Door::Socket, _) => frame(json!({ "type": "auth", "token": self.attacker.token }).to_string().as_bytes()),
            (Door::Pg, Way::HalfBody | Way::SlowBody) => message(b'Q', &" ".repeat(5_000)),
            (Door::Pg, Way::NeverReads) => {
                message(b'Q', &format!("SELECT '{}' AS text", "x".repeat(30_000))).repeat(2_000)
            }
            (Door::Pg, _) => start_up(&self.attacker.id),
            // The beginning of a handshake whose rest never comes.
            (Door::PgTls, _) => [&[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 500]].concat(),
        }
    }

    /// Keeps the server waiting in this way until it ends the connection; gives how long that took.
    async fn keep_waiting(&self, door: Door, way: Way) -> Duration {
        let mut stream = self.knock(door, way).await;
        let text = self.says(door, way);
        let started = Instant::now();
        match way {
            Way::SaysNothing => {}
            Way::HalfHead => stream.write_all(&text[..text.len() / 2]).await.expect("written"),
            Way::HalfHeadLater | Way::StaysIdle if door == Door::Http => {
                stream.write_all(&text).await.expect("written");
                read_until(&mut stream, b"\"openapi\"").await;
                sleep(Duration::from_millis(500)).await;
                if way == Way::HalfHeadLater {
                    stream.write_all(&text[..text.len() / 2]).await.expect("written");
                }
            }
            Way::HalfHeadLater | Way::StaysIdle => {}
            Way::HalfBody => stream.write_all(&text[..text.len() - 2_000.min(text.len() / 2)]).await.expect("written"),
            Way::SlowHead | Way::SlowBody => return slowly(stream, &text, (door, way), started).await,
            Way::NeverReads => return self.unread(stream, &text, door).await,
        }
        drained(&mut stream).await;
        started.elapsed()
    }

    /// Reads only when the server must have given up, and then finds no more than what was under way.
    async fn unread(&self, mut stream: TcpStream, text: &[u8], door: Door) -> Duration {
        // What it asks for may itself find no room any more.
        let asking = async {
            match door {
                Door::Socket => Ok(()),
                Door::Events => {
                    self.fill_conversation().await;
                    Ok(())
                }
                Door::Http | Door::Pg | Door::PgTls => stream.write_all(text).await,
            }
        };
        let asked = timeout(Duration::from_secs(15), asking).await;
        let given_up = if door == Door::Socket { IDLE } else { UNREAD };
        sleep(given_up + LATE / 2).await;
        let bytes = drained(&mut stream).await;
        assert!(bytes < UNREAD_BYTES_MAX, "{door:?} went on: {bytes} bytes, asked {asked:?}");
        given_up
    }

    /// More than a stream's buffers take, the kernel's included.
    async fn fill_conversation(&self) {
        let http = crate::support::http_client(30);
        let path = format!("http://{}/v1/threads/{}/events", self.http, self.thread);
        let mut sent = 0;
        while sent < 300 {
            let body = json!({ "type": "message", "content": "n".repeat(19_000) });
            let answer = http.post(&path).bearer_auth(&self.attacker.token).json(&body).send().await;
            let status = answer.expect("an answer").status();
            if status.is_success() {
                sent += 1;
            } else {
                assert_eq!(status, 429, "a rate may say that it's enough");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn connect(to: SocketAddr, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((from, 0))).expect("an address of this machine");
    // What is sent and not read is then soon in the server's hands.
    socket.set_recv_buffer_size(16 * 1024).expect("set");
    timeout(Duration::from_secs(10), socket.connect(to)).await.expect("in time").expect("connected")
}

/// Sends a byte every 100 ms until the server ends it.
async fn slowly(mut stream: TcpStream, text: &[u8], what: (Door, Way), started: Instant) -> Duration {
    // A body is what comes slowly, not the head before it.
    let first = match what {
        (Door::Http, Way::SlowBody) => text.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4,
        _ => 1,
    };
    stream.write_all(&text[..first]).await.expect("written");
    for byte in text[first..].chunks(1) {
        let written = stream.write_all(byte).await;
        let read = timeout(Duration::from_millis(100), stream.read(&mut [0; 4_096])).await;
        if written.is_err() || matches!(read, Ok(Ok(0) | Err(_))) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{what:?} may go on for ever");
    }
    started.elapsed()
}

/// Reads to the end, however it comes; gives the bytes. That there is none fails the test.
async fn drained(stream: &mut TcpStream) -> usize {
    let reading = async {
        let (mut bytes, mut buffer) = (0, vec![0; 256 * 1024]);
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            bytes += read;
        }
        bytes
    };
    timeout(Duration::from_secs(20), reading).await.expect("the server ends it")
}

async fn read_until(stream: &mut TcpStream, wanted: &[u8]) {
    let mut read = Vec::new();
    while !read.windows(wanted.len()).any(|window| window == wanted) {
        let more = timeout(Duration::from_secs(20), stream.read_buf(&mut read)).await.expect("an answer");
        assert!(more.expect("an answer") > 0, "the end came first: {}", String::from_utf8_lossy(&read));
    }
}

/// A text frame of a WebSocket's client, under the mask of zeros.
fn frame(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    let mut frame = vec![0x81, 0xfe];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text);
    frame
}

fn start_up(user: &str) -> Vec<u8> {
    let body = [b"\0\x03\0\0user\0", user.as_bytes(), b"\0\0"].concat();
    let length = u32::try_from(body.len() + 4).expect("a short packet");
    [&length.to_be_bytes()[..], &body].concat()
}

fn message(kind: u8, text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len() + 5).expect("a short message");
    [&[kind][..], &length.to_be_bytes(), text.as_bytes(), b"\0"].concat()
}

/// A certificate and its key for the Postgres wire.
fn certificate(dir: &Path) -> [String; 2] {
    let file = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    let [cert, key] = [file("cert.pem"), file("key.pem")];
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-keyout", &key, "-out", &cert])
        .output()
        .expect("the tests need openssl, to make a certificate");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    [cert, key]
}

/// Every way at every door ends within its time, and the neighbour feels nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_keeps_the_server_waiting_is_let_go() {
    let dir = tempfile::tempdir().expect("temp dir");
    let [cert, key] = certificate(dir.path());
    let more = ["--pg-listen", "127.0.0.1:0", "--pg-tls-cert", &cert, "--pg-tls-key", &key];
    siege::at_default_limits_and_with_rates_off(&[&FLAGS[..], &more].concat(), async |siege| {
        let target = Target::of(siege).await;
        let all = DOORS.iter().flat_map(|door| WAYS.iter().map(|way| (*door, *way)));
        let tried = all.filter_map(|(door, way)| match ends(door, way) {
            Ends::Within(wait) => Some((door, way, wait)),
            Ends::As(other) => {
                assert!(matches!(ends(other, way), Ends::Within(_) | Ends::Stays(_)));
                None
            }
            Ends::Stays(why) => {
                assert!(!why.is_empty());
                None
            }
        });
        let tried = tried.map(async |(door, way, wait)| {
            let took = target.keep_waiting(door, way).await;
            println!("{door:?} {way:?}: {took:?}");
            assert!(took <= wait + LATE, "{door:?} {way:?} took {took:?}, and may take {wait:?}");
        });
        futures_util::future::join_all(tried).await;
        let metrics = text_of(siege, "/metrics").await;
        let counted = metrics.lines().filter_map(|line| line.strip_prefix("parlance_connections{door=\""));
        let mut doors: Vec<_> = counted.filter_map(|rest| rest.split('"').next()).collect();
        doors.sort_unstable();
        assert_eq!(doors, ["http", "pg"], "a new door needs its lines in the table");
        for why in ["header", "idle", "unread"] {
            let ended = format!("parlance_connections_ended_total{{door=\"http\",why=\"{why}\"}}");
            assert!(metrics.contains(&ended), "{ended} isn't counted");
        }
    })
    .await;
}

async fn text_of(siege: &Siege, path: &str) -> String {
    let http = crate::support::http_client(3);
    let answer = http.get(format!("{}{path}", siege.server.base)).send().await.expect("in time");
    answer.text().await.expect("a text")
}

/// The issue's: 200 half requests and 925 idle connections. The health is asked for by others all the while, on new connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_there_are_places() {
    let bounds = ["--connections-max", "64", "--connections-per-ip-max", "24"];
    siege::at_default_limits_and_with_rates_off(&[&FLAGS[..], &bounds].concat(), async |siege| {
        let http = siege.server.base.trim_start_matches("http://").parse().expect("an address");
        let mut held = Vec::new();
        for number in 0..925 {
            held.push(connect(http, if number % 2 == 0 { FIRST } else { SECOND }).await);
            if number % 100 == 0 {
                is_well(siege).await;
            }
        }
        for stream in held.iter_mut().rev().take(200) {
            // Some were let go already.
            drop(stream.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await);
        }
        is_well(siege).await;
        // At work as far as the server can tell: nobody goes, and these addresses get no more. Others do.
        let mut bodies = Vec::new();
        for number in 0..200 {
            let mut stream = connect(http, if number % 2 == 0 { FIRST } else { SECOND }).await;
            let head = b"POST /v1/operator/rebuild HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf";
            drop(stream.write_all(head).await);
            bodies.push(stream);
            if number % 20 == 0 {
                is_well(siege).await;
            }
        }
        is_well(siege).await;
        // All of them end by themselves.
        let ends = Instant::now();
        for stream in held.iter_mut().chain(&mut bodies) {
            drained(stream).await;
        }
        assert!(ends.elapsed() < HEADER.max(BODY) + LATE, "{:?}", ends.elapsed());
        let metrics = text_of(siege, "/metrics").await;
        for (counter, labels) in [("ended", "door=\"http\",why=\"room\""), ("refused", "door=\"http\",why=\"ip\"")] {
            let counted = format!("parlance_connections_{counter}_total{{{labels}}}");
            assert!(metrics.contains(&counted), "{counted} isn't counted");
        }
    })
    .await;
}

/// From this machine, on connections of its own.
async fn is_well(siege: &Siege) {
    let asked = Instant::now();
    assert!(text_of(siege, "/healthz").await.contains("ok"));
    assert!(text_of(siege, "/readyz").await.contains("ready"));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}
