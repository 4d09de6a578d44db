//! Connections of the Postgres wire that end before their time, and what becomes of what they ran.

use std::time::{Duration, Instant};

use crate::support::client::{Client, message};
use crate::support::door::Door;
use crate::support::{Facts, messages};
use sql::Limits;
use sql::pg::ServerLimits;

/// Far more work than any limit's time.
const HEAVY: &str = "SELECT count(*) FROM messages a, messages b, messages c WHERE a.seq + b.seq + c.seq = -1";

/// A tenant with three places for queries, each of which may run for a minute.
fn door() -> Door {
    let limits =
        Limits { running_per_tenant: 2, waiting_per_tenant: 1, time: Duration::from_secs(60), ..Limits::default() };
    Door::open(Facts::default().add("acme", "messages", &messages(0, 5_000)), limits, ServerLimits::default())
}

fn code(client: &mut Client, sql: &str) -> String {
    client.simple(sql).map_or_else(|refusal| refusal.code, |_| "00000".to_owned())
}

/// A client that doesn't wait for a turn.
fn probe(door: &Door) -> Client {
    let mut probe = door.enter("acme");
    assert_eq!(code(&mut probe, "SET statement_timeout = '300ms'"), "00000");
    probe
}

/// Asks until the tenant has a place again; how long that took.
fn freed(probe: &mut Client) -> Duration {
    let started = Instant::now();
    while code(probe, "SELECT 1") != "00000" {
        assert!(started.elapsed() < Duration::from_secs(10), "there never was a place");
        std::thread::sleep(Duration::from_millis(10));
    }
    started.elapsed()
}

/// Three clients that run something heavy, so that there is no place for a fourth.
fn fill(door: &Door, probe: &mut Client, heavy: &[u8]) -> Vec<Client> {
    for _ in 0..10 {
        let mut clients: Vec<Client> = (0..3).map(|_| door.enter("acme")).collect();
        for client in &mut clients {
            client.raw(heavy).expect("sent");
        }
        // A question now could take the place of one of them.
        std::thread::sleep(Duration::from_millis(300));
        if code(probe, "SELECT 1") == "53400" {
            return clients;
        }
        drop(clients);
        freed(probe);
    }
    panic!("three clients never filled three places");
}

/// Twelve clients go away in the middle of a query, and three places are enough for all of them: a query ends with its
/// client, long before its time is over.
#[test]
fn a_client_that_goes_away_takes_its_query_with_it() {
    let door = door();
    let mut probe = probe(&door);
    for round in 0..4 {
        let simple = message(b'Q', format!("{HEAVY}\0").as_bytes());
        let parse = message(b'P', format!("\0{HEAVY}\0\0\0").as_bytes());
        let extended = [parse, message(b'B', &[0; 8]), message(b'E', &[0; 5]), message(b'S', b"")].concat();
        let clients = fill(&door, &mut probe, if round % 2 == 0 { &simple } else { &extended });
        drop(clients);
        println!("round {round}: a place was free after {:?}", freed(&mut probe));
    }
    assert_eq!(code(&mut door.enter("acme"), "SELECT count(*) FROM messages"), "00000");
}

/// A cancellation from another connection frees the place, too, and the connection stays.
#[test]
fn a_cancelled_query_frees_its_place() {
    let door = door();
    let mut probe = probe(&door);
    let mut clients = fill(&door, &mut probe, &message(b'Q', format!("{HEAVY}\0").as_bytes()));
    for client in &mut clients {
        door.knock().raw(&client.cancellation()).expect("sent");
        assert_eq!(client.answer().expect_err("stopped").code, "57014");
    }
    println!("a place was free after {:?}", freed(&mut probe));
    assert!(clients.iter_mut().all(|client| code(client, "SELECT 1") == "00000"), "the connections stay");
}

/// A token that ends takes its connections with it, at their next statement.
#[test]
fn a_token_that_ends_is_refused_at_the_next_statement() {
    let door = door();
    let [mut simple, mut extended, mut prepared] = [(); 3].map(|()| door.enter("acme"));
    let mut neighbour = door.enter("globex");
    assert_eq!(code(&mut simple, "SELECT count(*) FROM messages"), "00000");
    assert!(extended.extended("SELECT count(*) FROM messages").is_ok());
    let parse = message(b'P', b"p\0SELECT count(*) FROM messages\0\0\0");
    prepared.raw(&[parse, message(b'S', b"")].concat()).expect("sent");
    assert!(prepared.answer().is_ok());

    door.end_token("acme");
    for refused in
        [simple.simple("SELECT count(*) FROM messages"), extended.extended("SELECT count(*) FROM messages"), {
            let run = [message(b'B', b"\0p\0\0\0\0\0\0\0"), message(b'E', &[0; 5]), message(b'S', b"")].concat();
            prepared.raw(&run).expect("sent");
            prepared.answer()
        }]
    {
        let refusal = refused.expect_err("refused");
        assert_eq!((refusal.code.as_str(), refusal.fatal), ("28000", true), "{}", refusal.message);
    }
    for client in [&mut simple, &mut extended, &mut prepared] {
        assert!(matches!(client.message(), Ok(None)), "the connection has ended");
    }
    assert_eq!(door.try_enter("acme").err().expect("refused").code, "28P01");
    assert_eq!(code(&mut neighbour, "SELECT 1"), "00000");
}

/// Whoever comes from another machine must encrypt; the machine's own address off loopback stands for one.
#[test]
fn a_remote_peer_without_tls_is_refused() {
    let Some(address) = own_address() else {
        println!("this machine has no address but loopback; `only_this_machine_may_do_without_tls` holds the decision");
        return;
    };
    let listen = std::net::SocketAddr::new(address, 0);
    let door = Door::open_at(listen, Facts::default(), Limits::default(), ServerLimits::default());
    let refusal = door.try_enter("acme").err().expect("refused");
    assert_eq!((refusal.code.as_str(), refusal.fatal), ("28000", true));
    assert!(refusal.message.contains("TLS"), "{}", refusal.message);
}

/// The address from which this machine would reach another; nothing is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
