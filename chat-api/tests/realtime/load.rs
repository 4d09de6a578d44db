//! Many clients, slow clients, idle clients.

use super::client::{Came, Client};
use super::server::{Server, Visitor};
use chat_api::live::Limits;
use ingest::event::Actor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MESSAGES: u64 = 2_000;
const CLIENTS: u64 = 20;
/// Another seed is another interleaving; `REALTIME_SEED` replays one.
const SEED: u64 = 20_261_121;

/// Reads from `after` on over as many connections as it takes; each lasts for a random number of events.
async fn read_all(
    server: &Server,
    token: &str,
    guest: &Visitor,
    random: &mut fastrand::Rng,
    end: u64,
) -> (Vec<u64>, u32) {
    let (mut seen, mut connections) = (Vec::new(), 0);
    while seen.last().is_none_or(|last| *last < end) {
        let after = seen.last().copied().unwrap_or(0);
        let (mut client, _) = Client::subscribed(server, token, guest.conversation, Some(after)).await;
        connections += 1;
        for _ in 0..random.u64(..300) + 1 {
            let (seq, _) = client.event().await;
            seen.push(seq);
            if seq >= end {
                break;
            }
        }
        // Every other time without a good-bye.
        if random.u64(..2) == 0 {
            let _closed = client.0.close(None).await;
        }
        drop(client);
        tokio::time::sleep(Duration::from_millis(random.u64(..20))).await;
    }
    (seen, connections)
}

/// Clients that come and go while messages are written miss none and get none twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn resuming_clients_miss_and_repeat_nothing() {
    let seed = std::env::var("REALTIME_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    println!("seed {seed}");
    let server = Arc::new(Server::start(Limits::default()).await);
    let tenant = server.tenant("acme").await;
    let guest = server.visitor(&tenant, "Gus").await;
    server.post(&guest, guest.actor(), "first").await;
    // Conversation started, first message, queued, then these.
    let end = 3 + MESSAGES;
    let started = Instant::now();
    let writing = {
        let (server, guest, agent) = (Arc::clone(&server), guest.clone(), tenant.owner.actor());
        tokio::spawn(async move {
            for batch in 0..MESSAGES / 20 {
                let posts = (0..20_u64).map(|message| {
                    let by = if message % 2 == 0 { guest.actor() } else { agent };
                    let (server, guest) = (Arc::clone(&server), guest.clone());
                    tokio::spawn(async move { server.post(&guest, by, &format!("{batch}.{message}")).await })
                });
                for post in posts.collect::<Vec<_>>() {
                    post.await.unwrap();
                }
            }
        })
    };
    let clients = (0..CLIENTS).map(|number| {
        let (server, guest) = (Arc::clone(&server), guest.clone());
        let token = if number % 2 == 0 { guest.token.clone() } else { tenant.owner.token.clone() };
        tokio::spawn(async move {
            read_all(&server, &token, &guest, &mut fastrand::Rng::with_seed(seed ^ (number << 32)), end).await
        })
    });
    let mut connections = 0;
    for client in clients.collect::<Vec<_>>() {
        let (seen, connected) = client.await.unwrap();
        assert!(seen.iter().copied().eq(1..=end), "seed {seed}: a gap or a repeat in {seen:?}");
        connections += connected;
    }
    writing.await.unwrap();
    println!("{CLIENTS} clients, {MESSAGES} messages, {connections} connections, {:?}", started.elapsed());
}

/// A client that doesn't read is closed, the others hear everything in the meantime, and it resumes without loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_consumer_is_closed_and_resumes() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let guest = server.visitor(&tenant, "Gus").await;
    let mut slow = Client::open(&server, None, Some(4_096)).await;
    slow.authenticate(&tenant.owner.token).await;
    let last = slow.subscribe(guest.conversation, None).await;
    let (mut quick, _) = Client::subscribed(&server, &guest.token, guest.conversation, None).await;
    let text = "x".repeat(100_000);
    let end = Arc::new(AtomicBool::new(false));
    let reading = {
        let end = Arc::clone(&end);
        tokio::spawn(async move {
            let mut expected = last;
            while !end.load(Ordering::Relaxed) {
                expected += 1;
                assert_eq!(quick.event().await.0, expected);
            }
            expected
        })
    };
    // 15 MB: more than the kernel and the queue hold together.
    for _ in 0..150 {
        server.post(&guest, guest.actor(), &text).await;
    }
    end.store(true, Ordering::Relaxed);
    let newest = server.post(&guest, Actor::Agent(tenant.owner.id), "done").await;
    assert!(reading.await.unwrap() >= newest - 1);

    let mut seen = last;
    let code = loop {
        match slow.next().await {
            Came::Frame(frame) => {
                seen += 1;
                assert_eq!(frame["event"]["seq"], seen);
            }
            Came::Closed(code) => break code,
        }
    };
    assert_eq!(code, 4008);
    println!("closed after {} of {} events", seen - last, newest - last);
    assert!(seen < newest);
    let (mut again, _) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, Some(seen)).await;
    while seen < newest {
        seen += 1;
        assert_eq!(again.event().await.0, seen);
    }
    again.silent().await;
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}

/// A masked client frame, small enough for a two-byte length at most.
fn client_frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend(length.to_be_bytes());
    // The mask is zero: the text stands as it is.
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// Opens a socket with next to no memory on the client's side.
async fn bare_socket(server: &Server, token: &str, guest: &Visitor) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let upgrade = "GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    stream.write_all(&client_frame(&serde_json::json!({"type": "auth", "token": token}).to_string())).await.unwrap();
    let subscribe = serde_json::json!({"type": "subscribe", "conversationId": guest.conversation});
    stream.write_all(&client_frame(&subscribe.to_string())).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("lastSeq") {
        let mut part = [0; 512];
        let length = stream.read(&mut part).await.unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..length]);
    }
    stream
}

/// Prints what an idle socket costs. Run it alone for a number that means something: the memory is the process's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_sockets_are_small() {
    const SOCKETS: usize = 1_000;
    let server = Server::start(Limits { sockets_per_person_max: SOCKETS, ..Limits::default() }).await;
    let tenant = server.tenant("acme").await;
    let guest = server.visitor(&tenant, "Gus").await;
    let mut sockets = Vec::with_capacity(SOCKETS);
    for _ in 0..50 {
        sockets.push(bare_socket(&server, &guest.token, &guest).await);
    }
    let before = resident_bytes();
    for _ in 50..SOCKETS {
        sockets.push(bare_socket(&server, &guest.token, &guest).await);
    }
    assert_eq!(server.app.live.sockets(), SOCKETS);
    let each = resident_bytes().saturating_sub(before) / (SOCKETS as u64 - 50);
    println!("{each} bytes for each of {SOCKETS} idle sockets");
}

/// Prints how long it takes from the request to the socket, fsync included, with an agent and a visitor listening to
/// each of many conversations.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_are_prompt() {
    const CHATS: usize = 50;
    const MESSAGES_EACH: u64 = 40;
    let server = Arc::new(Server::start(Limits::default()).await);
    let tenant = server.tenant("acme").await;
    let started = Instant::now();
    let (mut readers, mut guests) = (Vec::new(), Vec::new());
    for _ in 0..CHATS {
        let guest = server.visitor(&tenant, "Gus").await;
        let first = server.post(&guest, guest.actor(), "first").await;
        for token in [&guest.token, &tenant.owner.token] {
            let (mut client, last) = Client::subscribed(&server, token, guest.conversation, None).await;
            assert_eq!(last, first);
            readers.push(tokio::spawn(async move {
                let mut waits = Vec::new();
                for _ in 0..MESSAGES_EACH {
                    let sent: u64 = client.event().await.1.parse().unwrap();
                    waits.push(u64::try_from(started.elapsed().as_micros()).unwrap() - sent);
                }
                waits
            }));
        }
        guests.push(guest);
    }
    let begun = Instant::now();
    let writers = guests.into_iter().map(|guest| {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            for _ in 0..MESSAGES_EACH {
                server.post(&guest, guest.actor(), &started.elapsed().as_micros().to_string()).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let took = begun.elapsed();
    let mut waits = Vec::new();
    for reader in readers {
        waits.extend(reader.await.unwrap());
    }
    waits.sort_unstable();
    let messages = CHATS as u64 * MESSAGES_EACH;
    println!(
        "{messages} messages in {took:?}, {} pushes; from request to socket p50 {} us, p99 {} us",
        waits.len(),
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100]
    );
}
