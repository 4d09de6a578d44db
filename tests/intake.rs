//! Rows under way on the real server are bounded over all tenants: who finds no room is told to come again, nothing that was
//! acknowledged is lost, and what was refused passes later.

mod support;

use serde_json::json;
use std::io::Write as _;
use std::time::{Duration, Instant};
use support::{OPERATOR, Server, Tenant, http_client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const MIB: usize = 1024 * 1024;
/// Of all tenants.
const BYTES_MAX: usize = 256 * MIB;
/// Their bodies are more than that together, each less than a tenant may have.
const TENANTS: usize = 32;

async fn tenants(server: &Server) -> Vec<(Tenant, String)> {
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        let tenant = server.tenant(&format!("T{number}")).await;
        let scopes = json!([{ "type": "DATASOURCES:CREATE" }, { "type": "DATASOURCES:READ" }]);
        let made = server.post("/v0/tokens/", &tenant.token, json!({ "name": "t", "scopes": scopes })).await;
        let token = made["token"].as_str().expect("a token").to_owned();
        tenants.push((tenant, token));
    }
    tenants
}

/// What the server holds of rows, as it says.
async fn held(server: &Server) -> usize {
    let request = http_client(10).get(format!("{}/metrics", server.base)).bearer_auth(OPERATOR);
    let text = request.send().await.expect("an answer").text().await.expect("a text");
    let line = text.lines().find_map(|line| line.strip_prefix("parlance_intake_bytes ")).expect("the gauge");
    line.parse::<f64>().expect("a number") as usize
}

async fn none_held(server: &Server) {
    let started = Instant::now();
    while held(server).await > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "{} bytes are still held", held(server).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A request whose body isn't at its end.
struct Upload(TcpStream);

impl Upload {
    async fn start(server: &Server, token: &str, body: &[u8]) -> Self {
        let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).await.expect("a connection");
        let head = format!(
            "POST /v0/events?name=rows HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-length: {}\r\n\r\n",
            body.len() + 1
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.write_all(body).await.expect("sent");
        Self(stream)
    }

    /// Sends the last byte; gives the answer.
    async fn finish(mut self) -> String {
        self.0.write_all(b"\n").await.expect("sent");
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).await.expect("an answer");
        answer
    }
}

async fn rows(server: &Server, token: &str) -> u64 {
    for _ in 0..30 {
        let request = http_client(60).post(format!("{}/v0/sql", server.base)).bearer_auth(token);
        let answer = request.body("SELECT count(*) AS n FROM rows").send().await.expect("an answer");
        // A thread that waits for a processor isn't behind for good.
        if answer.status() != 503 {
            let answer: serde_json::Value = answer.json().await.expect("JSON");
            return answer["data"][0]["n"].as_u64().expect("a count");
        }
    }
    panic!("the facts stay behind the log");
}

#[tokio::test]
async fn what_all_tenants_send_at_once_is_bounded() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &["--limit", "all=off"]);
    let tenants = tenants(&server).await;
    // Nearly all of it is held, and nothing of it is logged but a row.
    let mut body = b"{\"a\":1}".to_vec();
    body.resize(10 * MIB - 1, b'\n');
    let mut uploads = Vec::new();
    for (_, token) in &tenants {
        uploads.push(Upload::start(&server, token, &body).await);
        let held = held(&server).await;
        assert!(held <= BYTES_MAX, "{held} bytes are held");
    }
    assert!(held(&server).await > BYTES_MAX / 2);
    let (mut accepted, mut refused) = (0, Vec::new());
    for (upload, (_, token)) in uploads.into_iter().zip(&tenants) {
        let answer = upload.finish().await;
        match answer.split(' ').nth(1) {
            Some("202") => accepted += 1,
            Some("503") => {
                assert!(answer.to_lowercase().contains("retry-after: 1\r\n"), "{answer}");
                assert!(answer.contains("too many rows are under way on this server"), "{answer}");
                refused.push(token);
            }
            _ => panic!("{answer}"),
        }
    }
    println!("{accepted} of {TENANTS} requests of 10 MiB at once were accepted");
    assert!(accepted >= TENANTS / 3 && refused.len() >= TENANTS / 8, "{accepted} accepted");
    none_held(&server).await;
    for token in refused {
        let answer = Upload::start(&server, token, &body).await.finish().await;
        assert_eq!(answer.split(' ').nth(1), Some("202"), "{answer}");
    }
    for (_, token) in &tenants {
        assert_eq!(rows(&server, token).await, 1);
    }
    server.stop();
}

#[tokio::test]
async fn a_packed_body_counts_as_what_it_becomes() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &["--limit", "all=off"]);
    let tenants = tenants(&server).await;
    let mut body = b"{\"a\":1}".to_vec();
    body.resize(31 * MIB, b'\n');
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&body).expect("packed");
    let packed = bytes::Bytes::from(encoder.finish().expect("packed"));
    assert!(packed.len() < MIB);
    let before = server.peak_bytes();
    let mut calls = JoinSet::new();
    for (_, token) in &tenants {
        let (url, token, packed) = (format!("{}/v0/events?name=rows", server.base), token.clone(), packed.clone());
        calls.spawn(async move {
            let mut refused = 0;
            // Those that are refused come again as they are told, for as long as it takes.
            loop {
                let request = http_client(60).post(&url).bearer_auth(&token).header("content-encoding", "gzip");
                let answer = request.body(packed.clone()).send().await.expect("an answer");
                match answer.status().as_u16() {
                    202 => return refused,
                    503 => assert_eq!(answer.headers()["retry-after"], "1"),
                    other => panic!("{other}: {}", answer.text().await.expect("a text")),
                }
                refused += 1;
                assert!(refused < 100, "it never passes");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }
    let refused: usize = calls.join_all().await.into_iter().sum();
    let more = server.peak_bytes() - before;
    println!("{TENANTS} bodies that unpack to 31 MiB: {refused} refusals, {} MiB of memory at most", more / MIB);
    // Beside the rows there is what the server needs to take in anything; all bodies together are twice as much as this.
    assert!(more < 2 * BYTES_MAX, "{more} bytes");
    none_held(&server).await;
    for (_, token) in &tenants {
        assert_eq!(rows(&server, token).await, 1);
    }
    server.stop();
}
