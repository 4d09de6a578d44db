//! Every format's bytes, of results of no row, of one and of many, and that an answer which is made as it is read has the same;
//! what an answer holds until it is read, and what is given back.

use std::fmt::Write as _;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Facts, caller, messages};
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use arrow::ipc::reader::FileReader;
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use bytes::Bytes;
use expect_test::expect;
use futures_util::StreamExt as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sql::{Answer, CutOff, Format, Limits, QueryError, QueryResult, Reports};

const ONE: &str = r#"SELECT 1 AS i, 'a "q" , it''s	tab
nl\bs' AS s, CAST(NULL AS BIGINT) AS n, CAST('2024-05-01' AS DATE) AS d, true AS b, 1.5 AS f, CAST('NaN' AS DOUBLE) AS na,
    arrow_cast('2024-05-01T01:02:03.456Z', 'Timestamp(Millisecond, Some("UTC"))') AS t,
    (SELECT array_agg(x) FROM (VALUES ('x'), ('it''s "q"'), (NULL)) AS v (x)) AS arr"#;
/// Six batches and several parts in every format.
const MANY: &str = "SELECT event_id, seq, occurred_at, reply_seconds, upper(author_id) AS a, sqrt(seq) AS r, \
    sqrt(seq + 0.5) AS s, sqrt(seq * 3) AS t, sqrt(seq * 7) AS u FROM messages ORDER BY seq";
const NONE: &str = "SELECT event_id, seq, occurred_at FROM messages WHERE seq < 0";

/// Without tables: what a server that made every answer in one piece was asked too.
fn many_values() -> String {
    let values: Vec<String> = (0..7_000).map(|n| format!("({n})")).collect();
    let columns = r#"n, sqrt(n) AS r, sqrt(n * 3) AS s, sqrt(n * 7) AS t, concat('e"\', CAST(n AS TEXT)) AS e, n % 2 = 0 AS b, CASE WHEN n % 3 = 0 THEN n END AS o, CAST('2024-05-01' AS DATE) AS d"#;
    format!("SELECT {columns} FROM (VALUES {}) AS v (n) ORDER BY n", values.join(", "))
}

fn reports() -> Reports {
    Facts::default().add("acme", "messages", &messages(0, 24_000)).reports()
}

/// Without what differs from run to run.
async fn result(reports: &Reports, sql: &str) -> QueryResult {
    let mut result = reports.query(&caller("acme"), sql).await.expect("a result");
    (result.elapsed, result.rows_read, result.bytes_read) = (Duration::ZERO, 0, 0);
    result
}

/// FNV-1a, of 64 bits.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A file's rows as one batch; `None` for a text.
fn read_back(format: Format, bytes: &[u8]) -> Option<RecordBatch> {
    let batches: Vec<RecordBatch> = match format {
        Format::Parquet => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(bytes)).expect("Parquet");
            reader.build().expect("a reader").map(|batch| batch.expect("rows")).collect()
        }
        Format::Arrow => {
            let reader = FileReader::try_new(Cursor::new(bytes), None).expect("Arrow");
            reader.map(|batch| batch.expect("rows")).collect()
        }
        _ => return None,
    };
    let empty = || RecordBatch::new_empty(Arc::new(Schema::empty()));
    Some(batches.first().map_or_else(empty, |first| concat_batches(&first.schema(), &batches).expect("one schema")))
}

/// Texts as the server wrote them (at 4167b5c) when it made every answer in one piece; files hold the result's rows.
#[tokio::test]
async fn every_format_writes_the_same_as_ever() {
    let (reports, many) = (reports(), many_values());
    let mut written = String::new();
    for (name, format) in Format::ALL {
        for (what, sql) in [("none", "SELECT 1 AS n, 'x' AS t WHERE false"), ("one", ONE), ("many", many.as_str())] {
            let result = result(&reports, sql).await;
            let rows = concat_batches(&result.schema, &result.batches).expect("one schema");
            let bytes = reports.encode(result, format).await.expect("written");
            match read_back(format, &bytes) {
                None => {
                    let print = fingerprint(&bytes);
                    writeln!(written, "{name} {what}: {} bytes, {print:016x}", bytes.len()).expect("a text");
                }
                Some(read) => {
                    let same =
                        |of: &RecordBatch| pretty_format_batches(std::slice::from_ref(of)).expect("shown").to_string();
                    assert!(rows.num_rows() == 0 || same(&read) == same(&rows), "{name} {what}");
                }
            }
        }
    }
    expect![[r#"
        JSON none: 180 bytes, 0d8b77b46df6662b
        JSON one: 578 bytes, b6304f064208bdf1
        JSON many: 902365 bytes, ba18dbd4b696600c
        JSONEachRow none: 0 bytes, cbf29ce484222325
        JSONEachRow one: 155 bytes, 2b5dd5c46097649b
        JSONEachRow many: 901958 bytes, eaac7e27c34137ca
        CSV none: 0 bytes, cbf29ce484222325
        CSV one: 111 bytes, 8bcbf75100f4869b
        CSV many: 647626 bytes, 30a81e01bd8f5da4
        CSVWithNames none: 8 bytes, 6edb342ae07febe1
        CSVWithNames one: 150 bytes, a9e27812e6a2b201
        CSVWithNames many: 647658 bytes, 754c2a85a294e95f
        TSV none: 0 bytes, cbf29ce484222325
        TSV one: 103 bytes, 492e761bc89f4264
        TSV many: 619626 bytes, 3a8acf9e7b4abdfe
        TSVWithNames none: 4 bytes, 47fb1ebc8b44a8fa
        TSVWithNames one: 124 bytes, a952077d4f1bed36
        TSVWithNames many: 619642 bytes, 1fee2476be40e150
    "#]]
    .assert_eq(&written);
}

/// An answer's bytes as a reader gets them, and in how many parts.
async fn read(answer: Answer) -> Result<(Vec<u8>, usize), CutOff> {
    let mut parts = match answer {
        Answer::Whole(bytes) => return Ok((bytes.to_vec(), 1)),
        Answer::Parts(parts) => parts,
    };
    let (mut bytes, mut count) = (Vec::new(), 0);
    while let Some(part) = parts.next().await {
        bytes.extend_from_slice(&part?);
        count += 1;
    }
    Ok((bytes, count))
}

/// Waits until results hold no more than so many bytes.
async fn given_back(reports: &Reports, bytes: usize) {
    for _ in 0..1_000 {
        if reports.held_bytes() <= bytes {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} bytes are still held", reports.held_bytes());
}

#[tokio::test]
async fn an_answer_that_is_made_as_it_is_read_is_the_same() {
    let reports = reports();
    for (name, format) in Format::ALL {
        for (what, sql) in [("none", NONE), ("one", ONE), ("many", MANY)] {
            let whole = reports.encode(result(&reports, sql).await, format).await.expect("written");
            let answer = reports.answer(result(&reports, sql).await, format).await.expect("begun");
            let (bytes, parts) = read(answer).await.expect("to its end");
            assert!(bytes == whole, "{name} {what}");
            assert_eq!(parts > 1, what == "many", "{name} {what}: {} bytes in {parts} parts", whole.len());
            given_back(&reports, 0).await;
        }
    }
}

/// What doesn't fit once it is written is refused before its first byte, however late that shows.
#[tokio::test]
async fn an_answer_that_is_too_large_is_never_begun() {
    let limits = Limits { result_bytes: 4 * 1024 * 1024, ..Limits::default() };
    let reports = Facts::default().add("acme", "messages", &messages(0, 24_000)).reports_with(limits);
    let names: Vec<_> = (0..10).map(|i| format!("seq AS a_rather_long_name_for_a_column_{i}")).collect();
    let sql = format!("SELECT {} FROM messages", names.join(", "));
    let refused = QueryError::ResultTooLarge { what: "bytes", limit: 4 * 1024 * 1024 };
    assert_eq!(reports.answer(result(&reports, &sql).await, Format::Json).await.err(), Some(refused));
    assert!(reports.answer(result(&reports, &sql).await, Format::Csv).await.is_ok(), "without names it fits");
    given_back(&reports, 0).await;
}

#[tokio::test]
async fn a_reader_that_goes_away_gives_everything_back() {
    let reports = reports();
    for (name, format) in Format::ALL {
        let Answer::Parts(mut parts) = reports.answer(result(&reports, MANY).await, format).await.expect("begun")
        else {
            panic!("{name} is made as it is read")
        };
        let part = parts.next().await.expect("a part").expect("bytes");
        drop(parts);
        assert!(reports.held_bytes() >= part.len(), "{name}: what is read and not sent is held");
        drop(part);
        given_back(&reports, 0).await;
    }
}

/// Whoever takes nothing of an answer is cut off; what its rows hold is given back even while it stays.
#[tokio::test]
async fn a_reader_that_reads_nothing_is_cut_off() {
    let limits = Limits { unread: Duration::from_millis(200), ..Limits::default() };
    let reports = Facts::default().add("acme", "messages", &messages(0, 24_000)).reports_with(limits);
    for (name, format) in Format::ALL {
        let result = result(&reports, MANY).await;
        let answer = reports.answer(result, format).await.expect("begun");
        assert!(reports.held_bytes() > 500_000, "{name}: {}", reports.held_bytes());
        given_back(&reports, 400_000).await;
        assert_eq!(read(answer).await, Err(CutOff), "{name}");
        given_back(&reports, 0).await;
    }
}

/// A tenant whose results hold all it may have is refused by name, until they are read; nobody else is.
#[tokio::test]
async fn results_that_nobody_reads_leave_no_room_for_more_of_their_tenant() {
    let limits = Limits { held_bytes_per_tenant: 3 * 1024 * 1024, ..Limits::default() };
    let facts = Facts::default().add("acme", "messages", &messages(0, 24_000));
    let reports = facts.add("globex", "messages", &messages(0, 24_000)).reports_with(limits);
    let first = result(&reports, MANY).await;
    let refused = reports.query(&caller("acme"), MANY).await.expect_err("no room");
    assert_eq!((refused.status(), refused.code()), (503, "results_full"));
    expect!["the results that the tenant holds would need more than 3145728 bytes of memory; read or close them, or retry in a second"]
        .assert_eq(&refused.to_string());
    let other = reports.query(&caller("globex"), MANY).await.expect("the neighbour has its own room");
    drop((first, other));
    assert_eq!(reports.held_bytes(), 0);
    reports.query(&caller("acme"), MANY).await.expect("room again");
}
