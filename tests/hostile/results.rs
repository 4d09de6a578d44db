//! Results that nobody reads: portals that stay open, values that are bound and kept, readers that take nothing, clients that
//! vanish. What they hold is bounded by connection, tenant and server, and is given back.

use crate::client::{Client, message};
use crate::siege::{Siege, at_default_limits_and_with_rates_off};
use crate::support::{OPERATOR, Tenant};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const PG: [&str; 2] = ["--pg-listen", "127.0.0.1:0"];
/// What the server's results may hold, all together.
const HELD_BYTES_MAX: f64 = 256.0 * 1024.0 * 1024.0;
/// Nobody but the neighbour, with its small answers.
const IDLE_BYTES_MAX: f64 = 64.0 * 1024.0;

/// In the place of a status.
const TURNED_AWAY: u16 = 0;
/// Rows of the largest results here: about 60 MB.
const ROWS: usize = 300;

/// A result of so many rows of 200 KB.
fn large(rows: usize) -> String {
    let numbers: Vec<String> = (0..rows).map(|number| format!("({number})")).collect();
    format!("SELECT n, repeat('x', 200000 + n) AS t FROM (VALUES {}) AS v (n)", numbers.join(","))
}

async fn gauge(siege: &Siege, name: &str) -> f64 {
    let text =
        reqwest::get(format!("{}/metrics", siege.server.base)).await.expect("metrics").text().await.expect("a text");
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_else(|| panic!("{name} is shown"))
}

/// Waits until results hold next to nothing.
async fn given_back(siege: &Siege) {
    let started = Instant::now();
    loop {
        let held = gauge(siege, "parlance_result_bytes").await;
        if held <= IDLE_BYTES_MAX {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{held} bytes are still held");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn pg_address(siege: &Siege) -> String {
    let status = siege.server.get("/v1/status", OPERATOR).await;
    status["pg"].as_str().expect("an address").to_owned()
}

fn parse(sql: &str) -> Vec<u8> {
    message(b'P', &[b"s\0", sql.as_bytes(), &[0, 0, 0]].concat())
}

/// Opens portals of `s` with these values and reads one row of each, as long as it is let; gives how many stay open.
fn open_portals(client: &mut Client, sql: &str, value: Option<&[u8]>, count: usize) -> usize {
    client.raw(&[parse(sql), message(b'S', b"")].concat()).expect("sent");
    client.answer().expect("prepared");
    client.simple("BEGIN").expect("a transaction, so that portals outlive Sync");
    let value = match value {
        None => vec![0, 0],
        Some(value) => [&[0, 1][..], &u32::try_from(value.len()).expect("short").to_be_bytes(), value].concat(),
    };
    for number in 0..count {
        let name = number.to_string();
        let bind = message(b'B', &[name.as_bytes(), b"\0s\0\0\0", &value, &[0, 0]].concat());
        let mut messages = bind;
        if value.len() == 2 {
            messages.extend(message(b'E', &[name.as_bytes(), &[0], &1_u32.to_be_bytes()].concat()));
        }
        messages.extend(message(b'S', b""));
        // A connection that has no room for a message is ended.
        if client.raw(&messages).is_err() {
            return number;
        }
        if let Err(refusal) = client.answer() {
            assert!(matches!(refusal.code.as_str(), "53200" | "57014" | "closed"), "{refusal:?}");
            return number;
        }
    }
    count
}

/// One connection, and several; all stay open until the gauge has been read.
#[tokio::test]
async fn portals_that_stay_open() {
    at_default_limits_and_with_rates_off(&PG, async |siege| {
        let (address, attacker) = (pg_address(siege).await, siege.attacker.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let enter = || Client::start(&address, &attacker.id, &attacker.report_token).expect("let in");
            let mut clients: Vec<Client> = (0..6).map(|_| enter()).collect();
            let opened: Vec<usize> =
                clients.iter_mut().map(|client| open_portals(client, &large(ROWS), None, 60)).collect();
            (clients, opened)
        });
        let (clients, opened) = opened.await.expect("no panic");
        assert!(opened[0] >= 1, "a result of the largest size can be read piece by piece");
        assert!(opened.iter().all(|open| *open <= 1) && opened.iter().sum::<usize>() <= 2, "{opened:?}");
        assert!(gauge(siege, "parlance_result_bytes").await <= HELD_BYTES_MAX);
        drop(clients);
        given_back(siege).await;
    })
    .await;
}

/// Values of a megabyte, bound to portals that never run.
#[tokio::test]
async fn values_that_are_bound_and_kept() {
    at_default_limits_and_with_rates_off(&PG, async |siege| {
        let (address, attacker) = (pg_address(siege).await, siege.attacker.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let value = vec![b'x'; 1_000_000];
            let enter = || Client::start(&address, &attacker.id, &attacker.report_token).expect("let in");
            let mut clients: Vec<Client> = (0..4).map(|_| enter()).collect();
            let opened: Vec<usize> = clients
                .iter_mut()
                .map(|client| open_portals(client, "SELECT $1::text AS t", Some(&value), 2_000))
                .collect();
            (clients, opened)
        });
        let (clients, opened) = opened.await.expect("no panic");
        assert!(opened[0] < 90 && opened.iter().sum::<usize>() < 140, "{opened:?}");
        assert!(gauge(siege, "parlance_result_bytes").await <= HELD_BYTES_MAX);
        drop(clients);
        given_back(siege).await;
    })
    .await;
}

/// A request whose answer is never read; gives its status once that is there.
fn ask(base: &str, tenant: &Tenant, rows: usize, format: &str) -> (TcpStream, u16) {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let sql = format!("{} FORMAT {format}", large(rows));
    let (length, token) = (sql.len(), &tenant.report_token);
    let head = format!(
        "POST /v0/sql HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n"
    );
    // Who is turned away at once may not be able to send.
    let sent = stream.write_all(&[head.as_bytes(), sql.as_bytes()].concat());
    if sent.is_err() {
        return (stream, TURNED_AWAY);
    }
    let mut first = [0; 12];
    let status = match stream.read_exact(&mut first) {
        Ok(()) => String::from_utf8_lossy(&first[9..]).parse().expect("a status"),
        // There are too many connections.
        Err(_) => TURNED_AWAY,
    };
    (stream, status)
}

/// So many at once, which read the status and no more.
fn slow_readers(base: &str, tenant: &Tenant, count: usize, rows: usize) -> (Vec<TcpStream>, Vec<u16>) {
    let formats = ["JSON", "CSV", "TSV", "JSONEachRow", "Parquet", "Arrow"];
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || ask(base, tenant, rows, formats[number % formats.len()])))
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("no panic")).unzip()
    })
}

#[tokio::test]
async fn readers_that_take_nothing() {
    at_default_limits_and_with_rates_off(&[], async |siege| {
        let mut kept = Vec::new();
        for (count, rows) in [(40, ROWS), (360, ROWS / 10)] {
            let (base, attacker) = (siege.server.base.clone(), siege.attacker.clone());
            let asked = tokio::task::spawn_blocking(move || slow_readers(&base, &attacker, count, rows));
            let (streams, statuses) = asked.await.expect("no panic");
            assert!(statuses.iter().all(|status| [TURNED_AWAY, 200, 408, 429, 503].contains(status)), "{statuses:?}");
            assert!(count > 40 || statuses.contains(&200), "somebody is served: {statuses:?}");
            kept.extend(streams);
            assert!(gauge(siege, "parlance_result_bytes").await <= HELD_BYTES_MAX);
        }
        drop(kept);
        given_back(siege).await;
        let (base, attacker) = (siege.server.base.clone(), siege.attacker.clone());
        let status = tokio::task::spawn_blocking(move || ask(&base, &attacker, ROWS, "CSV").1).await.expect("no panic");
        assert!([200, 429].contains(&status), "there is room again: {status}");
    })
    .await;
}
