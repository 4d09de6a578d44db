//! Tables as a caller sees them: its own, whole, newest, and within bounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{self, Facts, NOW_MS, caller, file, messages, rows, run, show};
use expect_test::expect;
use serde_json::{Value, json};
use sql::{Limits, QueryError, Reports};

/// Nothing of one tenant shows to another, under any spelling, in both kinds of storage.
#[tokio::test]
async fn a_tenant_sees_only_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let secret = json!({"event_id": "SECRET", "seq": 1, "author_id": "SECRET", "conversation_id": "SECRET"});
    let globex = file(dir.path(), "globex.parquet", &rows("messages", std::slice::from_ref(&secret)));
    let path = globex.path.display().to_string();
    let reports = Facts::default()
        .add("acme", "messages", &[json!({"event_id": "mine", "seq": 1})])
        .add_file("globex", "messages", globex)
        .add("globex", "messages", std::slice::from_ref(&secret))
        .add("globex", "conversations", &[json!({"conversation_id": "SECRET", "version": 1})])
        .reports();
    for sql in [
        "SELECT * FROM messages",
        "SELECT * FROM tenant.public.messages",
        "SELECT * FROM MESSAGES m, public.messages n",
        "SELECT * FROM conversations",
        "SELECT * FROM globex.messages",
        "SELECT * FROM globex.public.messages",
        "SELECT * FROM \"globex\".\"public\".\"messages\"",
        "WITH messages AS (SELECT * FROM messages) SELECT * FROM messages",
        &format!("SELECT * FROM '{path}'"),
        &format!("SELECT * FROM \"{path}\""),
    ] {
        let text = run(&reports, "acme", sql).await;
        assert!(!text.contains("SECRET"), "{sql}: {text}");
    }
    expect![[r#"
        event_id String
        "mine"
    "#]]
    .assert_eq(&run(&reports, "acme", "SELECT event_id FROM messages").await);
    expect![[r#"
        n Int64 | e Nullable(String)
        2 | "SECRET"
    "#]]
    .assert_eq(&run(&reports, "globex", "SELECT count(*) AS n, max(event_id) AS e FROM messages").await);
    expect![[r#"
        event_id String
    "#]]
    .assert_eq(&run(&reports, "Acme", "SELECT event_id FROM messages").await);
}

/// Files and memory are one table; filters give the same rows as without pruning, and read less.
#[tokio::test]
async fn files_and_memory_are_one_table() {
    let dir = tempfile::tempdir().expect("a directory");
    let reports = Facts::default()
        .add_file("acme", "messages", file(dir.path(), "1.parquet", &rows("messages", &messages(0, 10_000))))
        .add_file("acme", "messages", file(dir.path(), "2.parquet", &rows("messages", &messages(10_000, 20_000))))
        .add("acme", "messages", &messages(20_000, 20_100))
        .add("acme", "messages", &messages(20_100, 20_150))
        .reports();
    let all = reports.query(&caller("acme"), "SELECT count(*), sum(seq), min(event_id) FROM messages").await;
    assert_eq!(all.as_ref().map(|r| r.rows_read).ok(), Some(20_150));
    expect![[r#"
        count(*) Int64 | sum(messages.seq) Nullable(Int64) | min(messages.event_id) Nullable(String)
        20150 | 203001175 | "e000000"
    "#]]
    .assert_eq(&show(all));
    let narrow = reports
        .query(
            &caller("acme"),
            "SELECT count(*) AS n, min(seq) AS low, max(seq) AS high FROM messages \
             WHERE occurred_at >= '2024-05-01T05:30:00Z' AND seq < 20120 AND author_id <> 'a3'",
        )
        .await;
    let read = narrow.as_ref().map(|r| r.rows_read).ok();
    // 19,800 s into the day: 19 of the 20 row groups of a thousand rows are never read.
    assert_eq!(read, Some(1_150));
    expect![[r#"
        n Int64 | low Nullable(Int64) | high Nullable(Int64)
        275 | 19800 | 20119
    "#]]
    .assert_eq(&show(narrow));
    expect![[r#"
        event_id String | reply_seconds Nullable(Float64)
        "e020149" | null
        "e020001" | 2000.1
        "e010000" | null
        "e009999" | 999.9
    "#]].assert_eq(
        &run(
            &reports,
            "acme",
            "SELECT event_id, reply_seconds FROM messages WHERE seq IN (3, 9999, 10000, 20001, 20149) ORDER BY seq DESC LIMIT 4",
        )
        .await,
    );
    expect![[r#"
        n Int64
        13433
    "#]]
    .assert_eq(&run(&reports, "acme", "SELECT count(*) AS n FROM messages WHERE reply_seconds IS NULL").await);
    expect![[r#"
        n Int64
        150
    "#]]
    .assert_eq(
        &run(&reports, "acme", "SELECT count(*) AS n FROM messages a JOIN messages b ON a.seq = b.seq + 20000").await,
    );
}

/// A file written before a column was added.
#[tokio::test]
async fn an_older_file_reads_as_null() {
    let dir = tempfile::tempdir().expect("a directory");
    let batch = rows("messages", &messages(0, 3));
    let kept: Vec<usize> = (0..batch.num_columns() - 2).collect();
    let old = file(dir.path(), "old.parquet", &batch.project(&kept).expect("projects"));
    let reports = Facts::default().add_file("acme", "messages", old).reports();
    expect![[r#"
        n Int64 | r Int64
        3 | 0
    "#]]
    .assert_eq(&run(&reports, "acme", "SELECT count(*) AS n, count(reply_seconds) AS r FROM messages").await);
}

/// Of a conversation's versions only the newest shows, wherever they lie and whatever is asked.
#[tokio::test]
async fn only_the_newest_version() {
    let dir = tempfile::tempdir().expect("a directory");
    let version = |id: i64, version: i64, status: &str| json!({"conversation_id": format!("c{id}"), "version": version, "status": status, "tags": [status]});
    let old: Vec<Value> = (0..3_000).map(|i| version(i, 1, "pending")).collect();
    let newer: Vec<Value> = (0..2_000).map(|i| version(i, 5, "active")).collect();
    // Out of order: an older version arrives in a later batch.
    let newest: Vec<Value> = (0..1_000).flat_map(|i| [version(i, 9, "resolved"), version(i, 7, "active")]).collect();
    let reports = Facts::default()
        .add_file("acme", "conversations", file(dir.path(), "1.parquet", &rows("conversations", &old)))
        .add_file("acme", "conversations", file(dir.path(), "2.parquet", &rows("conversations", &newer)))
        .add("acme", "conversations", &newest)
        .reports();
    let sql = "SELECT status, count(*) AS n, max(version) AS v FROM conversations GROUP BY 1 ORDER BY 1";
    expect![[r#"
        status String | n Int64 | v Nullable(Int64)
        "active" | 1000 | 5
        "pending" | 1000 | 1
        "resolved" | 1000 | 9
    "#]]
    .assert_eq(&run(&reports, "acme", sql).await);
    expect![[r#"
        n Int64
        3000
    "#]]
    .assert_eq(&run(&reports, "acme", "SELECT count(*) AS n FROM conversations").await);
    // No older version comes through a filter that the newest fails.
    expect![[r#"
        n Int64
        1000
    "#]]
    .assert_eq(&run(&reports, "acme", "SELECT count(*) AS n FROM conversations WHERE status = 'pending'").await);
    let sql = "SELECT conversation_id, status, tags FROM conversations WHERE conversation_id IN ('c5', 'c1500', 'c2500') AND version > 0 ORDER BY 1";
    expect![[r#"
        conversation_id String | status String | tags Array(Nullable(String))
        "c1500" | "active" | ["active"]
        "c2500" | "pending" | ["pending"]
        "c5" | "resolved" | ["resolved"]
    "#]]
    .assert_eq(&run(&reports, "acme", sql).await);
    let sql = "SELECT unnest(tags) AS tag, count(*) AS n FROM conversations GROUP BY 1 ORDER BY 1";
    expect![[r#"
        tag Nullable(String) | n Int64
        "active" | 1000
        "pending" | 1000
        "resolved" | 1000
    "#]]
    .assert_eq(&run(&reports, "acme", sql).await);
    expect![[r#"
        conversation_id String
        "c0"
        "c1"
    "#]]
    .assert_eq(&run(&reports, "acme", "SELECT conversation_id FROM conversations ORDER BY 1 LIMIT 2").await);
}

/// What all versions have alike, and the least of what never falls, is asked before they are compared: of the rest of the
/// files nothing is read, and no older version shows instead of a newer one.
#[tokio::test]
async fn a_period_of_versions_reads_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let version = |id: i64, version: i64, status: &str| {
        let at = |day: i64| format!("2024-05-{:02}T{:02}:{:02}:00Z", day + id / 1_440, id / 60 % 24, id % 60);
        let updated = at(if version == 1 { 1 } else { 11 });
        json!({"conversation_id": format!("c{id}"), "version": version, "status": status, "started_at": at(1), "updated_at": updated})
    };
    let old: Vec<Value> = (0..20_000).map(|i| version(i, 1, "pending")).collect();
    let newer: Vec<Value> = (0..20_000).filter(|i| i % 2 == 0).map(|i| version(i, 5, "active")).collect();
    let reports = Facts::default()
        .add_file("acme", "conversations", file(dir.path(), "1.parquet", &rows("conversations", &old)))
        .add_file("acme", "conversations", file(dir.path(), "2.parquet", &rows("conversations", &newer)))
        .reports();
    let sql = "SELECT status, count(*) AS n FROM conversations \
               WHERE started_at >= '2024-05-02T00:00:00Z' AND started_at < '2024-05-02T10:00:00Z' GROUP BY 1 ORDER BY 1";
    let answer = reports.query(&caller("acme"), sql).await;
    let read = answer.as_ref().map(|answer| answer.rows_read).unwrap_or_default();
    assert!(read < 6_000, "{read} rows of 30,000 were read");
    expect![[r#"
        status String | n Int64
        "active" | 300
        "pending" | 300
    "#]]
    .assert_eq(&support::show(answer));

    let counted = async |condition: &str| {
        let sql = format!("SELECT status, count(*) AS n FROM conversations WHERE {condition} GROUP BY 1 ORDER BY 1");
        let answer = reports.query(&caller("acme"), &sql).await;
        let read = answer.as_ref().map(|answer| answer.rows_read).unwrap_or_default();
        (read, support::show(answer))
    };
    let (read, answer) = counted("updated_at >= '2024-05-20T00:00:00Z'").await;
    assert!(read < 6_000, "{read} rows of 30,000 were read");
    expect![[r#"
        status String | n Int64
        "active" | 3520
    "#]]
    .assert_eq(&answer);
    // Half of those that began then were changed later: their first versions don't show.
    let (read, answer) = counted("updated_at < '2024-05-03T00:00:00Z'").await;
    assert_eq!(read, 30_000);
    expect![[r#"
        status String | n Int64
        "pending" | 1440
    "#]]
    .assert_eq(&answer);
}

/// Many versions of few rows: old ones are dropped on the way, and the memory of the tenant suffices.
#[tokio::test]
async fn versions_pile_up() {
    let mut facts = Facts::default();
    for block in 0..40_i64 {
        let lines: Vec<Value> = (0..5_000_i64)
            .map(|i| json!({"conversation_id": format!("c{}", i % 50), "version": block * 5_000 + i, "status": "x".repeat(200)}))
            .collect();
        facts = facts.add("acme", "conversations", &lines);
    }
    let limits = Limits { memory_bytes_per_tenant: 32 * 1024 * 1024, ..Limits::default() };
    let reports = facts.reports_with(limits);
    let sql =
        "SELECT count(*) AS n, min(version) AS low, max(version) AS high, max(length(status)) AS l FROM conversations";
    expect![[r#"
        n Int64 | low Nullable(Int64) | high Nullable(Int64) | l Nullable(Int32)
        50 | 199950 | 199999 | 200
    "#]]
    .assert_eq(&run(&reports, "acme", sql).await);
}

#[tokio::test]
async fn results_are_bounded() {
    let limits = Limits { result_rows: 1_000, result_bytes: 20_000, ..Limits::default() };
    let reports = Facts::default().add("acme", "messages", &messages(0, 2_000)).reports_with(limits);
    expect![[r#"
        413 result_too_large: the result is larger than 1000 rows
    "#]]
    .assert_eq(&run(&reports, "acme", "SELECT seq FROM messages").await);
    expect![[r#"
        413 result_too_large: the result is larger than 20000 bytes
    "#]]
    .assert_eq(&run(&reports, "acme", "SELECT * FROM messages LIMIT 900").await);
    let fits = reports.query(&caller("acme"), "SELECT seq FROM messages LIMIT 1000").await;
    assert_eq!(fits.map(|r| r.rows), Ok(1_000));
}

#[tokio::test]
async fn stale_facts_are_503() {
    let reports = Facts::default().stale().reports();
    expect![[r#"
        503 not_fresh: failed to reach the newest events: the facts are 1500 ms behind the log; retry in a second
    "#]]
    .assert_eq(&run(&reports, "acme", "SELECT count(*) FROM messages").await);
    expect![[r#"
        one Int64
        1
    "#]]
    .assert_eq(&run(&reports, "acme", "SELECT 1 AS one").await);
}

/// Only the tables a statement names are opened, each once.
#[tokio::test]
async fn snapshots_are_lazy() {
    let facts = Arc::new(Facts::default());
    let reports = Reports::new(Arc::clone(&facts) as _, Limits::default()).expect("starts");
    let sql = "SELECT count(*) FROM messages a, messages b WHERE a.seq IN (SELECT seq FROM ratings)";
    reports.query(&caller("acme"), sql).await.expect("runs");
    assert_eq!(facts.snapshots.load(std::sync::atomic::Ordering::Relaxed), 2);
}

fn endless(limits: Limits) -> Arc<Reports> {
    Arc::new(Facts::default().add("acme", "messages", &messages(0, 5_000)).reports_with(limits))
}

const ENDLESS: &str = "SELECT sum(a.seq * b.seq + c.seq) FROM messages a CROSS JOIN messages b CROSS JOIN messages c";

/// One more than may run and wait is refused; others are served.
#[tokio::test]
async fn a_tenant_has_bounded_queries() {
    let limits =
        Limits { running_per_tenant: 1, waiting_per_tenant: 1, time: Duration::from_secs(5), ..Limits::default() };
    let reports = endless(limits);
    let running: Vec<_> = (0..2)
        .map(|_| {
            let reports = Arc::clone(&reports);
            tokio::spawn(async move { reports.query(&caller("acme"), ENDLESS).await.map(|r| r.rows) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let refused = reports.query(&caller("acme"), "SELECT 1").await;
    assert_eq!(refused.map(|r| r.rows), Err(QueryError::Busy { limit: 2 }));
    assert_eq!(reports.query(&caller("globex"), "SELECT 1").await.map(|r| r.rows), Ok(1));
    running.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // What was dropped has stopped and given its place back.
    assert_eq!(reports.query(&caller("acme"), "SELECT 1").await.map(|r| r.rows), Ok(1));
}

/// A caller that goes away stops its query: the processor is idle again long before the time limit.
#[tokio::test]
async fn dropping_the_future_stops_the_query() {
    let reports = endless(Limits { running_per_tenant: 1, time: Duration::from_secs(30), ..Limits::default() });
    for _ in 0..3 {
        let caller = caller("acme");
        let query = reports.query(&caller, ENDLESS);
        assert!(tokio::time::timeout(Duration::from_millis(200), query).await.is_err());
    }
    let started = Instant::now();
    // With one turn, this runs only when the others have stopped.
    assert_eq!(reports.query(&caller("acme"), "SELECT count(*) FROM messages").await.map(|r| r.rows), Ok(1));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn json_is_tinybirds() {
    let reports = Facts::default()
        .add("acme", "messages", &[json!({"event_id": "e\"1\n", "seq": 9_007_199_254_740_993_i64, "group_id": null})])
        .reports();
    let sql = "SELECT event_id, seq, group_id, occurred_at, CAST(occurred_at AS DATE) AS day, 1.5 AS f, 'NaN'::double AS nan, \
               true AS b, NULL AS nothing, arrow_cast(0, 'Timestamp(Second, None)') AS t, CAST(1.25 AS DECIMAL(5,2)) AS d, \
               count(*) OVER () AS n, now() AS now FROM messages FORMAT JSON";
    let result = reports.query(&caller("acme"), sql).await.expect("runs");
    let elapsed = format!("\"elapsed\":{:.6}", result.elapsed.as_secs_f64());
    let json = String::from_utf8(reports.json(result).await.expect("JSON")).expect("UTF-8");
    assert!(serde_json::from_str::<Value>(&json).is_ok());
    assert_eq!(NOW_MS, 1_717_243_200_000);
    expect![[r#"{"meta":[{"name":"event_id","type":"String"},{"name":"seq","type":"Int64"},{"name":"group_id","type":"Nullable(String)"},{"name":"occurred_at","type":"DateTime64(3, 'UTC')"},{"name":"day","type":"Nullable(Date)"},{"name":"f","type":"Float64"},{"name":"nan","type":"Float64"},{"name":"b","type":"Bool"},{"name":"nothing","type":"Nullable(Nothing)"},{"name":"t","type":"DateTime"},{"name":"d","type":"Decimal(5, 2)"},{"name":"n","type":"Int64"},{"name":"now","type":"DateTime64(9)"}],"data":[{"event_id":"e\"1\n","seq":9007199254740993,"group_id":null,"occurred_at":"2024-05-01 00:00:00.000","day":"2024-05-01","f":1.5,"nan":null,"b":true,"nothing":null,"t":"1970-01-01 00:00:00","d":1.25,"n":1,"now":"2024-06-01 12:00:00.000000000"}],"rows":1,"rows_before_limit_at_least":1,"statistics":{"elapsed":0,"rows_read":1,"bytes_read":116}}"#]].assert_eq(&json.replace(&elapsed, "\"elapsed\":0"));
}

/// Who looks for one thing reads its rows, not those that lie beside them.
#[tokio::test]
async fn a_lookup_decodes_its_rows_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let lines: Vec<Value> = (0..5_000)
        .map(|i| json!({"event_id": format!("e{i}"), "seq": i, "conversation_id": format!("c{}", i % 100)}))
        .collect();
    let facts = Facts::default().add_file("acme", "messages", file(dir.path(), "m.parquet", &rows("messages", &lines)));
    let reports = facts.reports();
    for (condition, found, read) in [
        ("conversation_id = 'c7'", 50, 50),
        ("conversation_id = 'c7' AND seq >= 2500", 25, 25),
        ("conversation_id = 'nobody'", 0, 0),
        // What may fail is asked above the scan, of all rows.
        ("conversation_id = 'c7' AND length(event_id) / seq < 1", 50, 5_000),
    ] {
        let sql = format!("SELECT event_id, author_id FROM messages WHERE {condition}");
        let result = reports.query(&caller("acme"), &sql).await.map(|result| (result.rows, result.rows_read));
        assert_eq!(result.expect(condition), (found, read), "{condition}");
    }
}
