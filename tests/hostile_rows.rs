//! Whatever comes in as rows: what the API logs of it, the views can read, all of it. Seeded; a failure names its seed.

use chat_api::sources::rows::{Body, BodyFormat};
use chat_api::sources::{check, columns, infer};
use ingest::event::{Actor, Event, Origin};
use ingest::id::{DataSourceId, EventId, TenantId};
use ingest::log::Record;
use ingest::payload::{DataSourceCreated, Payload, RowsAppended, SourceColumn};
use ingest::time::Timestamp;
use sinks::parquet::sources::manifest::SourceManifest;
use sinks::parquet::{FactConfig, SourceStore};
use std::sync::Arc;

/// One of every type, with and without NULL.
const COLUMNS: &str = "s String, sn Nullable(String), b Bool, i8 Nullable(Int8), i Int64, u Nullable(UInt64), u16 Nullable(UInt16), \
    f Nullable(Float32), d Nullable(Float64), day Nullable(Date), at Nullable(DateTime), ms Nullable(DateTime64(3)), us DateTime64(6), \
    l Array(Int32), t Array(String), m Array(DateTime64(3)), deep Nullable(String) `json:$.o.a.b`";

/// Values that somebody sends some day.
const VALUES: [&str; 56] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "1.0",
    "1e2",
    "1E+2",
    "1e400",
    "-1e-400",
    "127",
    "128",
    "255",
    "65536",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "3.4e39",
    "0.1",
    "123456789012345678901234567890.5",
    "1e15",
    "1e16",
    "9007199254740993.0",
    "\"\"",
    "\"x\"",
    "\"a\\\"b\\\\\"",
    "\"\\u0000\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\\udc00x\"",
    "\"ä€😀\"",
    "\"NaN\"",
    "\"inf\"",
    "\"-Infinity\"",
    "\"+1\"",
    "\".5\"",
    "\" 7 \"",
    "\"1_000\"",
    "\"0x10\"",
    "\"2024-02-29\"",
    "\"2023-02-29\"",
    "\"1899-12-31\"",
    "\"2299-12-31T23:59:59.999999Z\"",
    "\"2024-01-01T00:00:00+14:00\"",
    "\"2024-01-01 25:00:00\"",
    "\"2024-01-01T00:00:60Z\"",
    "[]",
    "[1,2]",
    "[null]",
    "[\"a\",1,true]",
    "[[1]]",
    "{}",
    "{\"a\":{\"b\":[1]}}",
];

fn line(random: &mut fastrand::Rng, names: &[String]) -> String {
    match random.u8(0..40) {
        0 => return (0..random.usize(0..60)).map(|_| random.char(' '..='~')).collect(),
        1 => return VALUES[random.usize(0..VALUES.len())].to_owned(),
        2 => return format!("{}{}", "[".repeat(random.usize(1..3_000)), "{\"a\":1}"),
        _ => {}
    }
    let pairs: Vec<String> = (0..random.usize(0..20))
        .map(|_| {
            let value = VALUES[random.usize(0..VALUES.len())];
            let name = &names[random.usize(0..names.len())];
            format!("\"{name}\"{}:{value}", " ".repeat(random.usize(0..2)))
        })
        .collect();
    let mut text = format!("{{{}}}", pairs.join(","));
    if random.u8(0..20) == 0 {
        text.truncate(text.floor_char_boundary(random.usize(0..text.len())));
    }
    text
}

fn record(offset: u64, payload: Payload) -> Arc<Record> {
    let event = Event {
        id: EventId::fresh(),
        tenant: TenantId(uuid::Uuid::nil()),
        conversation: None,
        seq: 0,
        occurred_at: Timestamp(0),
        recorded_at: Timestamp(0),
        origin: Origin::Live,
        actor: Actor::System,
        cause: None,
        request: None,
        payload,
    };
    let body = event.encode();
    // As it is read again after a restart.
    let event = Event::decode(&body).expect("an event");
    Arc::new(Record { offset, body, event })
}

/// The rows of a source and of its quarantine, after these bytes came in.
fn stored(columns: &[SourceColumn], body: &Body<'_>) -> ((u64, u64), (u64, u64)) {
    let mut hold = |_| Ok::<_, std::convert::Infallible>(());
    let Ok(batch) = check(columns, body, "import", Timestamp(0), &mut hold) else { return ((0, 0), (0, 0)) };
    let source_id = DataSourceId::fresh();
    let made = DataSourceCreated { source_id, name: "s".to_owned(), columns: columns.to_vec() };
    let mut log = vec![record(0, made.into())];
    for chunk in batch.chunks {
        let (quarantined, count, rows) = (chunk.quarantined, chunk.count, chunk.rows);
        log.push(record(log.len() as u64, RowsAppended { source_id, generation: 1, quarantined, count, rows }.into()));
        assert!(log.last().is_some_and(|record| record.body.len() <= ingest::event::EVENT_BYTES_MAX));
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let store = SourceStore::open(dir.path(), SourceManifest::default(), Vec::new(), FactConfig::default());
    let store = store.expect("a store");
    store.apply(&log).expect("applied");
    let rows = |table: &str| {
        let snapshot = store.snapshot(TenantId(uuid::Uuid::nil()), table).expect("a table");
        snapshot.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    };
    ((batch.successful, batch.quarantined), (rows("s"), rows("s_quarantine")))
}

#[test]
fn whatever_is_logged_can_be_read() {
    let given = columns::schema(COLUMNS).expect("a schema");
    let mut names: Vec<String> = given.iter().map(|column| column.name.clone()).collect();
    names.extend(["o", "A b", "", "ä", "c__error", "insertion_date", "S", "1x"].map(str::to_owned));
    let (mut good, mut bad) = (0, 0);
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let lines: Vec<String> = (0..random.usize(1..60)).map(|_| line(&mut random, &names)).collect();
        let mut bytes = lines.join("\n").into_bytes();
        if random.u8(0..4) == 0 {
            let at = random.usize(0..=bytes.len());
            bytes.insert(at, random.u8(0..=255));
        }
        let formats = [BodyFormat::Json, BodyFormat::Csv { delimiter: b',' }];
        for format in formats {
            let body = Body { bytes: &bytes, format };
            let (said, found) = stored(&given, &body);
            assert_eq!(said, found, "seed {seed}, {format:?}");
            (good, bad) = (good + said.0, bad + said.1);
            if let Ok(inferred) = infer(&body) {
                let (said, found) = stored(&inferred, &body);
                assert_eq!(said, found, "seed {seed}, {format:?}, inferred {inferred:?}");
                good += said.0;
            }
        }
    }
    assert!(good > 1_000 && bad > 1_000, "{good} rows fit, {bad} don't: that tries nothing");
}
