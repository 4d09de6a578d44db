//! What a connection of the Postgres wire keeps counts: in portals, values, statements, names and half messages. It is
//! refused with 53200 when it is too much, and given back by every way in which it ends.

use std::time::Duration;

use crate::support::client::{Client, Refusal, message};
use crate::support::door::Door;
use crate::support::{Facts, messages};
use sql::Limits;
use sql::pg::ServerLimits;

const MIB: usize = 1024 * 1024;
/// What the connections here may hold.
const HELD_BYTES_MAX: usize = 8 * MIB;
/// What each keeps at least: buffers, settings.
const IDLE_BYTES_MAX: usize = 300 * 1024;

fn door() -> Door {
    let facts = Facts::default().add("acme", "messages", &messages(0, 10_000));
    let limits = ServerLimits { held_bytes_max: HELD_BYTES_MAX, ..ServerLimits::default() };
    Door::open(facts, Limits::default(), limits)
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), &[0], sql.as_bytes(), &[0, 0, 0]].concat())
}

/// A portal of `s` with at most one value, of text.
fn bind(portal: &str, value: Option<&[u8]>) -> Vec<u8> {
    let length = |value: &[u8]| u32::try_from(value.len()).expect("short").to_be_bytes();
    let values = match value {
        None => vec![0, 0],
        Some(value) => [&[0, 1][..], &length(value), value].concat(),
    };
    message(b'B', &[portal.as_bytes(), b"\0s\0\0\0", &values, &[0, 0]].concat())
}

fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), &[0], &rows.to_be_bytes()].concat())
}

/// A way to make a connection keep more and more: what comes first, what is sent again and again, and what ends it.
struct Keeping {
    what: &'static str,
    first: Vec<u8>,
    again: fn(usize) -> Vec<u8>,
    end: &'static str,
}

/// A number as a long name.
fn long(number: usize) -> String {
    format!("{number}{}", "x".repeat(500_000))
}

fn keepings() -> [Keeping; 5] {
    [
        Keeping {
            what: "rows of portals that are read a little",
            first: parse("s", "SELECT *, repeat(event_id, 20) AS r FROM messages"),
            again: |n| [bind(&n.to_string(), None), execute(&n.to_string(), 1)].concat(),
            end: "ROLLBACK",
        },
        Keeping {
            what: "values that are bound",
            first: parse("s", "SELECT $1::text AS t"),
            again: |n| bind(&n.to_string(), Some(&vec![b'x'; 900_000])),
            end: "ROLLBACK",
        },
        Keeping {
            what: "lists that are bound: short as texts, long as values",
            first: parse("s", "SELECT count(*) FROM messages WHERE seq = ANY ($1::bigint[])"),
            again: |n| bind(&n.to_string(), Some(format!("{{{}1}}", "1,".repeat(10_000)).as_bytes())),
            end: "COMMIT",
        },
        Keeping {
            what: "names of portals",
            first: parse("s", "SELECT 1 AS one"),
            again: |n| bind(&long(n), None),
            end: "ROLLBACK",
        },
        Keeping {
            what: "prepared statements",
            first: parse("s", "SELECT 1 AS one"),
            again: |n| parse(&long(n), "SELECT 1 AS one"),
            end: "DISCARD ALL",
        },
    ]
}

/// Keeps until it is refused; gives the refusal.
fn keep(client: &mut Client, keeping: &Keeping) -> Refusal {
    client.simple("DEALLOCATE ALL").expect("nothing is prepared");
    client.raw(&[keeping.first.clone(), message(b'S', b"")].concat()).expect("sent");
    client.answer().expect(keeping.what);
    client.simple("BEGIN").expect("a transaction, so that portals outlive Sync");
    for number in 0..500 {
        client.raw(&[(keeping.again)(number), message(b'S', b"")].concat()).expect("sent");
        if let Err(refusal) = client.answer() {
            return refusal;
        }
    }
    panic!("{}: nothing was refused", keeping.what);
}

#[test]
fn what_a_connection_keeps_is_bounded_and_given_back() {
    let door = door();
    for keeping in keepings() {
        let what = keeping.what;
        let mut client = door.enter("acme");
        let refusal = keep(&mut client, &keeping);
        assert_eq!((refusal.code.as_str(), refusal.fatal), ("53200", false), "{what}: {}", refusal.message);
        let held = door.held_bytes();
        assert!(held > HELD_BYTES_MAX / 2 && held <= HELD_BYTES_MAX, "{what}: {held} bytes");
        // The neighbour has its own, and the connection goes on.
        assert!(door.enter("globex").simple("SELECT 1 AS one").is_ok(), "{what}");
        client.simple("ROLLBACK").expect("the transaction had failed");
        client.simple(keeping.end).expect(what);
        door.holds_at_most(IDLE_BYTES_MAX, what);
        assert!(client.simple("SELECT count(*) FROM messages").is_ok(), "{what}: the connection goes on");
        // Once more, and it just goes away.
        keep(&mut client, &keeping);
        drop(client);
        door.holds_at_most(0, what);
    }
}

/// A message that isn't whole yet is kept too: who sends parts of large ones on many connections is refused.
#[test]
fn half_messages_count() {
    let limits = Limits { held_bytes_per_tenant: 4 * MIB, ..Limits::default() };
    let door = Door::open(Facts::default(), limits, ServerLimits::default());
    let half = &message(b'Q', &vec![b' '; 900_000])[..800_000];
    let mut clients = Vec::new();
    let refused = (0..20).find_map(|_| {
        let mut client = match door.try_enter("acme") {
            Ok(client) => client,
            Err(refusal) => return Some(refusal),
        };
        client.raw(half).expect("sent");
        // Whether there is room shows when the server has read it: it then waits for the rest, or says that it doesn't.
        client.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
        match client.answer() {
            Err(refusal) if refusal.code != "closed" => return Some(refusal),
            waits => drop(waits),
        }
        clients.push(client);
        None
    });
    let refused = refused.expect("one is too many");
    assert!(matches!(refused.code.as_str(), "53200" | "53300") && refused.fatal, "{refused:?}");
    assert!(door.held_bytes() <= 4 * MIB);
    drop(clients);
    door.holds_at_most(0, "half messages");
}

/// Answers that nobody asks for are sent all the same, and don't gather.
#[test]
fn answers_of_a_client_that_never_syncs_do_not_gather() {
    let door = door();
    let mut client = door.enter("acme");
    let wide = (0..200).map(|n| format!("1 AS a_rather_long_name_for_a_column_{n}")).collect::<Vec<_>>().join(", ");
    client.raw(&parse("s", &format!("SELECT {wide}"))).expect("sent");
    let describe = message(b'D', b"Ss\0").repeat(2_000);
    let mut writer = client.stream.try_clone().expect("cloned");
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &describe));
    let mut bytes = 0;
    while bytes < 10 * MIB {
        let (_, body) = client.message().expect("read").expect("open");
        bytes += body.len();
    }
    assert!(door.held_bytes() <= MIB, "{} bytes", door.held_bytes());
    drop(client);
    // The server has closed, or has read it all.
    drop(sending.join().expect("no panic"));
    door.holds_at_most(0, "answers");
}
