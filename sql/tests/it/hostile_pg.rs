//! The hostile corpus through the Postgres wire, as simple queries and as prepared statements, and hostile bytes: each is
//! refused with its own SQLSTATE, and the server goes on serving this client and others.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::support::client::{Client, Refusal, Rows, message};
use crate::support::corpus::{ENDLESS, LARGE_TEXTS, SPILLS, STATEMENTS, WAYS_AROUND, doubling, sizes};
use crate::support::door::Door;
use crate::support::{self, Facts};
use expect_test::expect;
use serde_json::json;
use sql::Limits;
use sql::pg::ServerLimits;

/// `acme` has so many messages, and its neighbour three.
fn facts(rows: usize) -> Facts {
    let lines: Vec<_> = (0..rows).map(|i| json!({"event_id": format!("e{i}"), "seq": i, "author_id": "v"})).collect();
    Facts::default().add("acme", "messages", &lines).add("globex", "messages", &support::messages(0, 3))
}

fn quick() -> Limits {
    Limits { time: Duration::from_millis(600), ..Limits::default() }
}

fn door(rows: usize, limits: Limits) -> Door {
    Door::open(facts(rows), limits, ServerLimits::default())
}

fn code(answer: Result<Rows, Refusal>) -> String {
    answer.map_or_else(|refusal| refusal.code, |_| "00000".to_owned())
}

/// Asks again while threads that are being freed keep it waiting for too long.
fn patiently(client: &mut Client, sql: &str) -> Result<Rows, Refusal> {
    let mut answer = client.simple(sql);
    for _ in 0..20 {
        if !answer.as_ref().is_err_and(|refusal| refusal.code == "57014") {
            break;
        }
        answer = client.simple(sql);
    }
    answer
}

/// What both protocols say to a statement; the session is as new afterwards, and the connection still answers.
fn both(client: &mut Client, sql: &str) -> [String; 2] {
    [Client::simple, Client::extended].map(|ask| {
        let said = code(ask(client, sql));
        for word in ["ROLLBACK", "DISCARD ALL"] {
            assert_eq!(code(client.simple(word)), "00000", "after {sql}");
        }
        assert_eq!(patiently(client, "SELECT 1"), Ok(vec![vec![Some("1".to_owned())]]), "after {sql}");
        said
    })
}

/// The neighbour is served, and sees its own.
fn served(neighbour: &mut Client) {
    let count = patiently(neighbour, "SELECT count(*) FROM messages");
    assert_eq!(count, Ok(vec![vec![Some("3".to_owned())]]), "the neighbour's rows");
}

/// A line a statement: what a simple query says, what a prepared one says.
fn refusals(corpus: &[&str]) -> String {
    let door = door(1, Limits::default());
    let (mut client, mut neighbour) = (door.enter("acme"), door.enter("globex"));
    let mut said = String::new();
    for sql in corpus {
        let [simple, extended] = both(&mut client, sql);
        assert!(!simple.starts_with("XX") && !extended.starts_with("XX"), "{sql}: {simple} {extended}");
        writeln!(said, "{simple} {extended} {sql}").expect("it is a text");
        served(&mut neighbour);
    }
    said
}

/// What is answered with 00000 is about the session only, or says nothing.
#[test]
fn statements_that_are_not_a_select() {
    expect![[r#"
        42501 42501 CREATE TABLE t (a INT)
        42501 42501 CREATE TABLE t AS SELECT 1
        42501 42501 CREATE VIEW v AS SELECT * FROM messages
        42501 42501 CREATE OR REPLACE VIEW messages AS SELECT 1
        42501 42501 CREATE SCHEMA s
        42501 42501 CREATE DATABASE d
        42501 42501 CREATE FUNCTION f() RETURNS INT RETURN 1
        42501 42501 CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/etc/passwd'
        42501 42501 CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'file:///etc/passwd'
        42501 42501 CREATE INDEX i ON messages (seq)
        42501 42501 DROP TABLE messages
        42501 42501 DROP VIEW messages
        42501 42501 DROP SCHEMA public CASCADE
        42501 42501 ALTER TABLE messages ADD COLUMN a INT
        42501 42501 TRUNCATE TABLE messages
        42501 42501 INSERT INTO messages SELECT * FROM messages
        42501 42501 UPDATE messages SET seq = 1
        42501 42501 DELETE FROM messages
        42501 42501 MERGE INTO messages USING messages m ON true WHEN MATCHED THEN DELETE
        42501 42501 COPY messages TO '/tmp/out.parquet'
        42501 42501 COPY (SELECT * FROM messages) TO '/tmp/out.csv' STORED AS CSV
        42501 42501 COPY messages FROM '/etc/passwd'
        42704 42704 SET datafusion.execution.batch_size = 1
        00000 00000 SET TIME ZONE 'UTC'
        42704 42704 RESET datafusion.execution.batch_size
        42704 42704 SHOW TABLES
        42704 42704 SHOW COLUMNS FROM messages
        00000 00000 SHOW ALL
        42704 42704 SHOW datafusion.execution.batch_size
        42704 42704 SHOW CREATE TABLE messages
        42704 42704 SHOW FUNCTIONS
        42501 42501 DESCRIBE messages
        42501 42501 DESC messages
        00000 00000 BEGIN
        00000 00000 START TRANSACTION
        00000 00000 COMMIT
        00000 00000 ROLLBACK
        25P01 25P01 SAVEPOINT a
        42501 42501 PREPARE p AS SELECT 1
        42501 42501 EXECUTE p
        26000 26000 DEALLOCATE p
        42501 42501 DECLARE c CURSOR FOR SELECT 1
        42501 42501 FETCH ALL FROM c
        42501 42501 GRANT SELECT ON messages TO bob
        42501 42501 REVOKE SELECT ON messages FROM bob
        42501 42501 USE other
        42501 42501 CALL f()
        42501 42501 EXPLAIN ANALYZE SELECT 1
        42501 42501 EXPLAIN VERBOSE SELECT 1
        42501 42501 EXPLAIN FORMAT TREE SELECT 1
        42501 42501 EXPLAIN (ANALYZE) SELECT 1
        42501 42501 EXPLAIN DELETE FROM messages
        42501 42501 EXPLAIN COPY messages TO '/tmp/x'
        42501 42501 EXPLAIN EXPLAIN SELECT 1
        42501 42501 ANALYZE messages
        42501 42501 VACUUM
        42501 42501 ATTACH DATABASE 'x' AS y
        42501 42501 LOAD 'x'
        42501 42501 INSTALL x
        42501 42501 PRAGMA x
        42501 42501 KILL 1
        42501 42501 LOCK TABLES messages READ
        00000 42601 SELECT 1; SELECT 2
        42501 42601 SELECT 1; DROP TABLE messages
        42501 42501 SELECT * INTO t FROM messages
        42501 42501 WITH x AS (DELETE FROM messages RETURNING *) SELECT * FROM x
        42501 42501 WITH x AS (SELECT 1) INSERT INTO messages SELECT * FROM x
        42601 42601 TABLE messages
        42501 42501 FROM messages |> AGGREGATE count(*)
        42501 42501 COPY messages TO PROGRAM 'sh'
        42501 42501 COPY messages TO STDOUT
        42501 42501 COPY messages FROM STDIN
        42501 42501 LISTEN c
        42501 42501 NOTIFY c, 'x'
        42501 42501 DO $$ BEGIN PERFORM 1; END $$
        42501 42501 PREPARE p (int) AS SELECT $1
        42501 42501 EXECUTE p(1)
        42501 42501 DECLARE c CURSOR WITH HOLD FOR SELECT 1
        42501 42501 FETCH 1 FROM c
        42501 42501 MOVE 1 IN c
        42501 42501 CLOSE c
        42501 42501 SET ROLE postgres
        42501 42501 SET SESSION AUTHORIZATION postgres
        42501 42501 CREATE ROLE r SUPERUSER
        42501 42501 ALTER ROLE r SUPERUSER
        42501 42501 ALTER SYSTEM SET x = 1
        42501 42501 CREATE EXTENSION dblink
        42501 42501 CREATE TRIGGER t AFTER INSERT ON messages EXECUTE FUNCTION f()
        42501 42501 COMMENT ON TABLE messages IS 'x'
        42501 42501 SECURITY LABEL ON TABLE messages IS 'x'
        42501 42501 CHECKPOINT
        42501 42501 CLUSTER messages
        42501 42501 REINDEX TABLE messages
        00000 00000 
        00000 00000 ;;
        00000 00000 -- nothing
        42601 42601 nonsense
    "#]]
    .assert_eq(&refusals(STATEMENTS));
}

#[test]
fn files_catalogs_and_generators() {
    expect![[r#"
        00000 00000 SELECT * FROM information_schema.tables
        42P01 42P01 SELECT * FROM information_schema.df_settings
        00000 00000 SELECT * FROM pg_catalog.pg_class
        00000 00000 SELECT * FROM tenant.information_schema.tables
        42501 42501 SELECT * FROM datafusion.public.messages
        42501 42501 SELECT * FROM globex.public.messages
        42501 42501 SELECT * FROM system.tables
        42P01 42P01 SELECT * FROM sqlite_master
        42501 42501 SELECT * FROM '/etc/passwd'
        42501 42501 SELECT * FROM "/etc/passwd"
        42501 42501 SELECT * FROM 'file:///etc/passwd'
        42501 42501 SELECT * FROM 'https://example.com/x.parquet'
        42501 42501 SELECT * FROM '../facts/globex/messages/1.parquet'
        42501 42501 SELECT * FROM read_csv('/etc/passwd')
        42501 42501 SELECT * FROM read_parquet('/etc/passwd')
        42501 42501 SELECT * FROM parquet_metadata('/etc/passwd')
        42501 42501 SELECT * FROM url('https://example.com', CSV)
        42501 42501 SELECT * FROM file('/etc/passwd')
        42501 42501 SELECT * FROM s3('x')
        42501 42501 SELECT * FROM remote('x')
        42501 42501 SELECT * FROM generate_series(1, 1000000000)
        42501 42501 SELECT * FROM range(1, 1000000000)
        42501 42501 SELECT * FROM TABLE(generate_series(1, 10))
        42501 42501 SELECT * FROM messages, LATERAL generate_series(1, 1000000000)
        42883 42883 SELECT generate_series(1, 1000000000)
        42883 42883 SELECT range(1, 1000000000)
        42883 42883 SELECT unnest(range(1, 1000000000))
        42883 42883 SELECT array_repeat(1, 1000000000)
        42883 42883 SELECT array_resize([1], 1000000000)
        42883 42883 SELECT input_file_name() FROM messages
        00000 00000 SELECT version()
        42883 42883 SELECT levenshtein('a', 'b')
        42883 42883 SELECT pg_read_file('/etc/passwd')
        42601 42601 SELECT current_setting('x')
        00000 00000 SELECT set_config('x', 'y', false)
        42883 42883 SELECT pg_sleep(100)
        42501 42501 SELECT * FROM pg_ls_dir('/')
        42883 42883 SELECT lo_import('/etc/passwd')
        42883 42883 SELECT dblink('host=example.com', 'SELECT 1')
        42883 42883 SELECT pg_terminate_backend(1)
        42883 42883 SELECT query_to_xml('SELECT 1', true, true, '')
        42883 42883 SELECT nextval('s')
        42P01 42P01 SELECT * FROM pg_shadow
        00000 00000 SELECT * FROM pg_stat_activity
        42P01 42P01 SELECT * FROM pg_authid
        42501 42501 SELECT array_agg(event_id) OVER (ORDER BY seq) FROM messages
        42601 42601 SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seq) OVER () FROM messages
        42601 42601 SELECT @@version
        42601 08P01 SELECT $1
        42501 42501 SELECT * FROM messages WHERE seq = ?
        42501 42501 WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r
        42501 42501 SELECT * FROM (WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n FROM r) SELECT * FROM r) x
        42501 42501 SELECT * FROM messages SETTINGS max_threads = 100
        42501 42501 SELECT * FROM messages FOR UPDATE
        42501 42501 SELECT 1 FORMAT Pretty
        42703 42703 SELECT nosuch FROM messages
        42P01 42P01 SELECT * FROM messages m JOIN nosuch n ON true
    "#]]
    .assert_eq(&refusals(WAYS_AROUND));
}

#[test]
fn limits_on_the_text() {
    let door = door(1, Limits::default());
    let (mut client, mut neighbour) = (door.enter("acme"), door.enter("globex"));
    for (sql, may) in sizes() {
        let said = both(&mut client, &sql);
        let shown: String = sql.chars().take(60).collect();
        let wanted = if may { "00000" } else { "54000" };
        assert!(said.iter().all(|code| code == wanted), "{shown}… {said:?}");
        served(&mut neighbour);
    }
}

#[test]
fn text_does_not_explode() {
    let door = door(20_000, Limits::default());
    let (mut client, mut neighbour) = (door.enter("acme"), door.enter("globex"));
    let doubling = doubling();
    for sql in LARGE_TEXTS.iter().copied().chain([doubling.as_str()]) {
        let said = both(&mut client, sql);
        assert!(said.iter().all(|code| code == "54000"), "{sql}: {said:?}");
        served(&mut neighbour);
    }
}

/// What never ends is ended, and the neighbour is served while it runs.
#[test]
fn long_queries_are_stopped() {
    let door = door(5_000, quick());
    let mut client = door.enter("acme");
    let heavy = std::thread::spawn(move || {
        for sql in ENDLESS {
            let started = Instant::now();
            let said = both(&mut client, sql);
            assert!(
                said.iter().all(|code| ["57014", "53200", "53100", "54000"].contains(&code.as_str())),
                "{sql}: {said:?}"
            );
            assert!(started.elapsed() < Duration::from_secs(8), "{sql}: {:?}", started.elapsed());
        }
    });
    let mut neighbour = door.enter("globex");
    let mut waits = Vec::new();
    while !heavy.is_finished() {
        let started = Instant::now();
        let said = code(neighbour.simple("SELECT count(*) FROM messages"));
        assert!(said == "00000" || said == "57014", "the neighbour: {said}");
        waits.push((started.elapsed(), said));
        std::thread::sleep(Duration::from_millis(20));
    }
    heavy.join().expect("each was stopped");
    let late = waits.iter().filter(|(_, said)| said != "00000").count();
    let longest = waits.iter().map(|(took, _)| *took).max().unwrap_or_default();
    println!("the neighbour was served {} times meanwhile, {late} too late, longest {longest:?}", waits.len());
    assert!(waits.len() >= 10 && late * 2 <= waits.len(), "{late} of {}", waits.len());
}

#[test]
fn memory_is_bounded() {
    let limits = Limits { memory_bytes_per_tenant: 512 * 1024, temp_bytes_per_tenant: 1024 * 1024, ..quick() };
    let door = door(20_000, limits);
    let (mut client, mut neighbour) = (door.enter("acme"), door.enter("globex"));
    for sql in SPILLS {
        let said = both(&mut client, sql);
        let wanted = ["53200", "53100", "54000", "57014"];
        assert!(said.iter().all(|code| wanted.contains(&code.as_str())), "{sql}: {said:?}");
        served(&mut neighbour);
    }
}

/// Nothing of a text runs after its first error, and what ran before it is answered.
#[test]
fn many_statements_end_at_the_first_error() {
    let door = door(1, Limits::default());
    let mut client = door.enter("acme");
    client.send(b'Q', b"SELECT 1; DROP TABLE messages; SELECT 2\0").expect("sent");
    let mut heard = String::new();
    loop {
        let (kind, _) = client.message().expect("heard").expect("open");
        heard.push(kind.into());
        if kind == b'Z' {
            break;
        }
    }
    assert_eq!(heard, "TDCEZ");
    let many = "SELECT 1;".repeat(500);
    assert_eq!(code(client.simple(&many)), "00000");
    assert_eq!(code(client.extended("SELECT 1; SELECT 2")), "42601");
}

/// What the server says to bytes, and then that it closes the connection.
fn last_words(client: &mut Client) -> String {
    let mut words = Vec::new();
    // A connection that is reset was closed, too.
    while let Ok(Some((kind, body))) = client.message() {
        let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
        let code = String::from_utf8_lossy(code.unwrap_or_default()).into_owned();
        words.push(if kind == b'E' { code } else { char::from(kind).to_string() });
    }
    words.push("closed".to_owned());
    words.join(" ")
}

fn packet(body: &[u8]) -> Vec<u8> {
    message(b'x', body).split_off(1)
}

#[test]
fn garbage_before_start_up() {
    let door = door(1, Limits::default());
    let mut neighbour = door.enter("globex");
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 512]].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "54000 closed"),
        ("TLS where there is none", hello, "closed"),
        ("nothing but zeros", vec![0; 64], "08P01 closed"),
        ("nothing but ones", vec![0xff; 64], "08P01 closed"),
        ("a length of 3", vec![0, 0, 0, 3, 0], "08P01 closed"),
        ("a length of 10,001", [&10_001_i32.to_be_bytes()[..], &[0; 64]].concat(), "54000 closed"),
        ("version 2", packet(&[0, 2, 0, 0]), "0A000 closed"),
        ("version 4", packet(&[0, 4, 0, 0]), "0A000 closed"),
        ("no end of the parameters", packet(b"\0\x03\0\0user\0acme"), "08P01 closed"),
        ("no UTF-8", packet(b"\0\x03\0\0user\0\xff\xfe\0\0"), "22021 closed"),
        ("nobody", packet(b"\0\x03\0\0\0"), "28000 closed"),
        ("a long name", packet(format!("\0\x03\0\0user\0{}\0\0", "a".repeat(5_000)).as_bytes()), "28000 closed"),
        ("replication", packet(b"\0\x03\0\0user\0acme\0replication\0database\0\0"), "0A000 closed"),
        ("a cancellation of nobody", packet(b"\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\0"), "closed"),
        ("a cancellation cut off", packet(b"\x04\xd2\x16\x2e\0\0"), "08P01 closed"),
    ];
    for (name, bytes, wanted) in cases {
        let mut client = door.knock();
        client.raw(&bytes).expect("sent");
        assert_eq!(last_words(&mut client), wanted, "{name}");
        served(&mut neighbour);
    }
    let start = packet(b"\0\x03\0\0user\0acme\0\0");
    for (name, bytes, wanted) in [
        ("a query for a password", message(b'Q', b"SELECT 1\0"), "R 08P01 closed"),
        ("a password without end", message(b'p', &[b'x'; 100]), "R 08P01 closed"),
        ("a large password", message(b'p', &[b'x'; 5_000]), "R 54000 closed"),
        ("a wrong one", message(b'p', b"globex-token\0"), "R 28P01 closed"),
    ] {
        let mut client = door.knock();
        client.raw(&[start.clone(), bytes].concat()).expect("sent");
        assert_eq!(last_words(&mut client), wanted, "{name}");
        served(&mut neighbour);
    }
}

/// Lengths that lie, sizes beyond the limits, and messages that are none, of a client that is in.
#[test]
fn broken_messages_end_their_connection_only() {
    let door = door(1, Limits::default());
    let mut neighbour = door.enter("globex");
    let head = |kind: u8, length: i32| [&[kind][..], &length.to_be_bytes(), b"SELECT 1\0"].concat();
    for (name, bytes, wanted) in [
        ("no length", head(b'Q', 0), "08P01 closed"),
        ("a length of 3", head(b'Q', 3), "08P01 closed"),
        ("a negative length", head(b'Q', -1), "08P01 closed"),
        ("two gigabytes", head(b'Q', i32::MAX), "54000 closed"),
        ("a byte over a megabyte", head(b'P', 1024 * 1024 + 1), "54000 closed"),
        ("no such message", head(b'?', 13), "08P01 closed"),
        ("a query without end", message(b'Q', b"SELECT 1"), "08P01 closed"),
        ("a query with more behind it", message(b'Q', b"SELECT 1\0 DROP\0"), "08P01 closed"),
        ("values that aren't there", message(b'B', b"\0\0\0\0\xff\xff"), "08P01 closed"),
        ("types that aren't there", message(b'P', b"\0SELECT 1\0\xff\xff"), "08P01 closed"),
        ("a call of a function", message(b'F', &[0; 12]), "0A000 closed"),
        ("a second password", message(b'p', b"x\0"), "08P01 closed"),
        ("bytes that are no text", message(b'Q', b"SELECT '\xff'\0"), "22021 closed"),
    ] {
        let mut client = door.enter("acme");
        client.raw(&bytes).expect("sent");
        assert_eq!(last_words(&mut client), wanted, "{name}");
        served(&mut neighbour);
    }
    // Noise, the same in every run.
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..100 {
        let mut client = door.enter("acme");
        let random = std::iter::repeat_with(|| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise.to_le_bytes()[0]
        });
        let bytes: Vec<u8> = random.take(200).collect();
        // It may have been closed at the first byte.
        drop(client.raw(&bytes));
        drop(client);
    }
    served(&mut neighbour);
    assert_eq!(code(door.enter("acme").simple("SELECT 1")), "00000");
}

/// Prepared statements and portals that are not there, too many of them, and parts of a COPY nobody began: the
/// connection stays.
#[test]
fn wrong_turns_of_the_extended_protocol() {
    let limits = ServerLimits { statements_max: 20, ..ServerLimits::default() };
    let door = Door::open(facts(1), Limits::default(), limits);
    let mut client = door.enter("acme");
    let sync = message(b'S', b"");
    let parse = |name: &str, sql: &str| message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes());
    let types = [&b"\0SELECT 1\0\xff\xff"[..], &[0; 4 * 65_535]].concat();
    for (bytes, wanted) in [
        (message(b'B', b"\0nothing\0\0\0\0\0\0\0"), "26000"),
        (message(b'D', b"Snothing\0"), "26000"),
        (message(b'D', b"Pnothing\0"), "34000"),
        (message(b'E', b"nothing\0\0\0\0\0"), "34000"),
        (message(b'C', b"Snothing\0"), "00000"),
        (message(b'd', b"rows of a COPY"), "00000"),
        (message(b'c', b""), "00000"),
        (parse("p", "SELECT $1::int"), "00000"),
        (parse("p", "SELECT 2"), "42P05"),
        // A value is missing; one is no number; there are too many types, or places for values.
        (message(b'B', b"\0p\0\0\0\0\0\0\0"), "08P01"),
        (message(b'B', b"\0p\0\0\0\0\x01\0\0\0\x01x\0\0"), "22P02"),
        (message(b'P', &types), "54000"),
        (parse("", "SELECT $70000"), "54000"),
    ] {
        client.raw(&[bytes.clone(), sync.clone()].concat()).expect("sent");
        assert_eq!(code(client.answer()), wanted, "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
    }
    let mut client = door.enter("acme");
    for n in 0..25 {
        let sql = message(b'P', format!("s{n}\0SELECT {n}\0\0\0").as_bytes());
        client.raw(&[sql, message(b'S', b"")].concat()).expect("sent");
        assert_eq!(code(client.answer()), if n < 20 { "00000" } else { "53400" }, "{n}");
    }
    assert_eq!(code(client.simple("SELECT 1")), "00000");
    assert_eq!(code(client.simple("DEALLOCATE ALL")), "00000");
    assert_eq!(code(client.extended("SELECT 1")), "00000");
}

/// Who says who they are a byte at a time is let go after the time that is given, and keeps nobody out for longer.
#[test]
fn slow_start_up() {
    let limits = ServerLimits { connections_max: 12, start: Duration::from_secs(3), ..ServerLimits::default() };
    let door = Door::open(facts(1), Limits::default(), limits);
    let mut neighbour = door.enter("globex");
    let started = Instant::now();
    let mut slow: Vec<Client> = (0..11).map(|_| door.knock()).collect();
    let start = packet(b"\0\x03\0\0user\0acme\0\0");
    let mut turned_away = 0;
    for byte in start.chunks(1).cycle().take(15) {
        for client in &mut slow {
            // Once it is closed there is nobody to hear.
            drop(client.stream.write_all(byte));
        }
        served(&mut neighbour);
        turned_away += usize::from(door.try_enter("acme").is_err_and(|refusal| refusal.code == "53300"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(turned_away > 5, "the places are taken: {turned_away}");
    for client in &mut slow {
        let mut rest = Vec::new();
        // Closed with bytes unread, it is reset.
        drop(client.stream.read_to_end(&mut rest));
        assert_eq!(rest, b"", "nothing was said");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(code(door.enter("acme").simple("SELECT 1")), "00000", "the places are free again");
}
