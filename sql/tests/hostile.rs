//! SQL that must not run, or must stop.

mod support;

use std::time::{Duration, Instant};

use expect_test::expect;
use serde_json::json;
use sql::{Limits, QueryError, Reports};
use support::{Facts, caller, show};

fn facts(rows: usize) -> Facts {
    let lines: Vec<_> = (0..rows).map(|i| json!({"event_id": format!("e{i}"), "seq": i, "author_id": "v"})).collect();
    Facts::default().add("acme", "messages", &lines)
}

async fn status(reports: &Reports, sql: &str) -> (u16, &'static str) {
    match reports.query(&caller("acme"), sql).await {
        Ok(_) => (200, "ok"),
        Err(e) => (e.status(), e.code()),
    }
}

/// Everything that is not one SELECT.
#[tokio::test]
async fn statements_that_are_not_a_select() {
    let reports = facts(1).reports();
    for sql in [
        "CREATE TABLE t (a INT)",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT * FROM messages",
        "CREATE OR REPLACE VIEW messages AS SELECT 1",
        "CREATE SCHEMA s",
        "CREATE DATABASE d",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/etc/passwd'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'file:///etc/passwd'",
        "CREATE INDEX i ON messages (seq)",
        "DROP TABLE messages",
        "DROP VIEW messages",
        "DROP SCHEMA public CASCADE",
        "ALTER TABLE messages ADD COLUMN a INT",
        "TRUNCATE TABLE messages",
        "INSERT INTO messages SELECT * FROM messages",
        "UPDATE messages SET seq = 1",
        "DELETE FROM messages",
        "MERGE INTO messages USING messages m ON true WHEN MATCHED THEN DELETE",
        "COPY messages TO '/tmp/out.parquet'",
        "COPY (SELECT * FROM messages) TO '/tmp/out.csv' STORED AS CSV",
        "COPY messages FROM '/etc/passwd'",
        "SET datafusion.execution.batch_size = 1",
        "SET TIME ZONE 'UTC'",
        "RESET datafusion.execution.batch_size",
        "SHOW TABLES",
        "SHOW COLUMNS FROM messages",
        "SHOW ALL",
        "SHOW datafusion.execution.batch_size",
        "SHOW CREATE TABLE messages",
        "SHOW FUNCTIONS",
        "DESCRIBE messages",
        "DESC messages",
        "BEGIN",
        "START TRANSACTION",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DEALLOCATE p",
        "DECLARE c CURSOR FOR SELECT 1",
        "FETCH ALL FROM c",
        "GRANT SELECT ON messages TO bob",
        "REVOKE SELECT ON messages FROM bob",
        "USE other",
        "CALL f()",
        "EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN VERBOSE SELECT 1",
        "EXPLAIN FORMAT TREE SELECT 1",
        "EXPLAIN (ANALYZE) SELECT 1",
        "EXPLAIN DELETE FROM messages",
        "EXPLAIN COPY messages TO '/tmp/x'",
        "EXPLAIN EXPLAIN SELECT 1",
        "ANALYZE messages",
        "VACUUM",
        "ATTACH DATABASE 'x' AS y",
        "LOAD 'x'",
        "INSTALL x",
        "PRAGMA x",
        "KILL 1",
        "LOCK TABLES messages READ",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE messages",
        "SELECT * INTO t FROM messages",
        "WITH x AS (DELETE FROM messages RETURNING *) SELECT * FROM x",
        "WITH x AS (SELECT 1) INSERT INTO messages SELECT * FROM x",
        "TABLE messages",
        "FROM messages |> AGGREGATE count(*)",
        "",
        ";;",
        "-- nothing",
        "nonsense",
    ] {
        let (status, code) = status(&reports, sql).await;
        assert!(status == 400 || status == 403, "{sql}: {status} {code}");
        assert!(["sql_not_allowed", "sql_invalid"].contains(&code), "{sql}: {code}");
    }
}

/// Ways around the catalog.
#[tokio::test]
async fn files_catalogs_and_generators() {
    let reports = facts(1).reports();
    for sql in [
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.df_settings",
        "SELECT * FROM pg_catalog.pg_class",
        "SELECT * FROM tenant.information_schema.tables",
        "SELECT * FROM datafusion.public.messages",
        "SELECT * FROM globex.public.messages",
        "SELECT * FROM system.tables",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM 'file:///etc/passwd'",
        "SELECT * FROM 'https://example.com/x.parquet'",
        "SELECT * FROM '../facts/globex/messages/1.parquet'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT * FROM url('https://example.com', CSV)",
        "SELECT * FROM file('/etc/passwd')",
        "SELECT * FROM s3('x')",
        "SELECT * FROM remote('x')",
        "SELECT * FROM generate_series(1, 1000000000)",
        "SELECT * FROM range(1, 1000000000)",
        "SELECT * FROM TABLE(generate_series(1, 10))",
        "SELECT * FROM messages, LATERAL generate_series(1, 1000000000)",
        "SELECT generate_series(1, 1000000000)",
        "SELECT range(1, 1000000000)",
        "SELECT unnest(range(1, 1000000000))",
        "SELECT array_repeat(1, 1000000000)",
        "SELECT array_resize([1], 1000000000)",
        "SELECT input_file_name() FROM messages",
        "SELECT version()",
        "SELECT levenshtein('a', 'b')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT current_setting('x')",
        "SELECT array_agg(event_id) OVER (ORDER BY seq) FROM messages",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seq) OVER () FROM messages",
        "SELECT @@version",
        "SELECT $1",
        "SELECT * FROM messages WHERE seq = ?",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r",
        "SELECT * FROM (WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n FROM r) SELECT * FROM r) x",
        "SELECT * FROM messages SETTINGS max_threads = 100",
        "SELECT * FROM messages FOR UPDATE",
        "SELECT 1 FORMAT Pretty",
        "SELECT nosuch FROM messages",
        "SELECT * FROM messages m JOIN nosuch n ON true",
    ] {
        let (status, code) = status(&reports, sql).await;
        assert!([400, 403, 404].contains(&status), "{sql}: {status} {code}");
    }
}

#[tokio::test]
async fn limits_on_the_text() {
    let reports = facts(1).reports();
    let not = |n| format!("SELECT {} true", "NOT ".repeat(n));
    let minus = |n| format!("SELECT {} 1", "- ".repeat(n));
    let parens = |n| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n));
    let calls = |n| format!("SELECT {}1{}", "abs(".repeat(n), ")".repeat(n));
    let queries = |n| format!("{}SELECT 1{}", "SELECT * FROM (".repeat(n), ") t".repeat(n));
    let cases = |n| format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(n), " END".repeat(n));
    let unions = |n| vec!["SELECT 1"; n].join(" UNION ALL ");
    let from = |n| format!("SELECT 1 FROM {}", (0..n).map(|i| format!("messages m{i}")).collect::<Vec<_>>().join(", "));
    let large = "SqlTooLarge";
    for (sql, expected) in [
        (format!("SELECT {}", vec!["1"; 2_000].join("+")), large),
        (format!("SELECT {}", vec!["true"; 2_000].join(" AND ")), large),
        (format!("SELECT {}", vec!["'a'"; 2_000].join("||")), large),
        (format!("SELECT 1{}", "::int".repeat(2_000)), large),
        (format!("SELECT 1{}", " IS NULL".repeat(2_000)), large),
        (unions(2_000), large),
        (not(101), large),
        (minus(101), large),
        (parens(101), large),
        (parens(20_000), large),
        (calls(101), large),
        (queries(101), large),
        (cases(101), large),
        (from(101), large),
        (format!("SELECT '{}'", "a".repeat(65_536)), large),
        (format!("SELECT {}", "[".repeat(30_000)), large),
        // Just inside the limits: these run (or fail for another reason), and never overflow a stack.
        (format!("SELECT {}", vec!["1"; 1_000].join("+")), "Ok"),
        (format!("SELECT {}", vec!["true"; 1_000].join(" AND ")), "Ok"),
        (format!("SELECT {}", vec!["'a'"; 1_000].join("||")), "Ok"),
        (format!("SELECT count(*) FROM messages WHERE {}", vec!["seq = 1"; 490].join(" OR ")), "Ok"),
        (format!("SELECT count(*) FROM messages WHERE seq IN ({})", vec!["1"; 10_000].join(",")), "Ok"),
        (not(98), "Ok"),
        (parens(99), "Ok"),
        (calls(99), "Ok"),
        (queries(99), "Ok"),
        (cases(99), "Ok"),
        (unions(400), "Ok"),
        (format!("SELECT '{}'", "a".repeat(60_000)), "Ok"),
    ] {
        let started = Instant::now();
        let result = reports.query(&caller("acme"), &sql).await;
        let found = match &result {
            Ok(_) => "Ok",
            Err(QueryError::SqlTooLarge { .. }) => large,
            Err(_) => "other",
        };
        let shown: String = sql.chars().take(60).collect();
        println!("{found} in {:?}: {shown}", started.elapsed());
        assert_eq!(found, expected, "{shown}… in {:?}: {:?}", started.elapsed(), result.err());
    }
}

/// Functions that make text: bounded each and together, however they are nested.
#[tokio::test]
async fn text_does_not_explode() {
    let reports = facts(20_000).reports();
    for sql in [
        "SELECT repeat('a', 1000000000)",
        "SELECT repeat(author_id, 1000000000) FROM messages",
        "SELECT lpad('a', 1000000000, 'b')",
        "SELECT rpad(author_id, 2000000000, 'xyz') FROM messages",
        "SELECT replace(repeat('a', 1000), 'a', repeat('b', 1000))",
        "SELECT replace(replace(replace(repeat('a', 60), 'a', repeat('a', 60)), 'a', repeat('a', 60)), 'a', repeat('a', 60))",
        "SELECT regexp_replace(repeat('a', 100000), 'a', repeat('b', 1000), 'g')",
        "SELECT sum(length(repeat(author_id, 200000))) FROM messages",
        "SELECT sum(length(lpad(author_id, 60000, 'x'))) FROM messages",
        "SELECT to_char(now(), repeat('%c', 20000))",
    ] {
        let (status, code) = status(&reports, sql).await;
        // What is constant becomes one before it runs, and is refused as such.
        let refused = [(413, "text_too_large"), (400, "sql_too_large")];
        assert!(refused.contains(&(status, code)), "{sql}: {status} {code}");
    }
    let mut doubling = "SELECT 'aaaaaaaaaaaaaaaa' AS a".to_owned();
    for _ in 0..40 {
        doubling = format!("SELECT a || a AS a FROM ({doubling}) t");
    }
    assert_eq!(status(&reports, &doubling).await, (413, "text_too_large"));
    let spread = "SELECT repeat('a', 200000) AS a, seq FROM messages";
    let (status, code) = status(&reports, &format!("SELECT count(*) FROM ({spread}) t WHERE a || seq <> ''")).await;
    assert!([400, 413].contains(&status), "{status} {code}");
    // Everyday use is not in the way.
    expect![[r#"
        r String | l String | c String | n Nullable(String) | m String | p String | d Int64
        "ababab" | "007" | "a1" | null | "a1" | "bANANa" | 20000
    "#]]
    .assert_eq(&show(
        reports
            .query(
                &caller("acme"),
                "SELECT repeat('ab', 3) r, lpad('7', 3, '0') l, concat('a', 1, NULL) c, 'a' || NULL n, 'a' || 1 m, \
                 replace('banana', 'an', 'AN') p, count(DISTINCT event_id || '-' || seq) d FROM messages",
            )
            .await,
    ));
}

fn quick() -> Limits {
    Limits { time: Duration::from_millis(600), ..Limits::default() }
}

#[tokio::test]
async fn long_queries_are_stopped() {
    let reports = facts(5_000).reports_with(quick());
    for sql in [
        "SELECT count(*) FROM messages a, messages b, messages c WHERE a.seq + b.seq + c.seq = 7",
        "SELECT sum(a.seq * b.seq + c.seq) FROM messages a CROSS JOIN messages b CROSS JOIN messages c",
        "SELECT a.event_id FROM messages a, messages b, messages c ORDER BY a.event_id, b.event_id LIMIT 1",
        "SELECT count(*) FROM messages a JOIN messages b ON a.seq * b.seq >= 0 JOIN messages c ON a.seq * b.seq * c.seq < -1",
        "SELECT count(*) FROM messages a JOIN messages b ON a.author_id = b.author_id JOIN messages c ON a.author_id = c.author_id AND a.seq + b.seq + c.seq < 0",
        "SELECT count(*) FROM messages a LEFT JOIN (messages b CROSS JOIN messages c) ON a.seq + b.seq + c.seq < 0",
        "SELECT count(*) FROM messages a WHERE EXISTS (SELECT 1 FROM messages b, messages c WHERE a.seq + b.seq + c.seq < 0)",
        "SELECT sum(DISTINCT a.seq * b.seq) FROM messages a, messages b, messages c",
        "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY a.seq) AS n FROM messages a, messages b, messages c) t",
    ] {
        let started = Instant::now();
        let (status, _) = status(&reports, sql).await;
        assert!(status == 408 || status == 413, "{sql}: {status}");
        assert!(started.elapsed() < Duration::from_secs(3), "{sql}: {:?}", started.elapsed());
        println!("{status} in {:?}: {sql}", started.elapsed());
    }
    // The threads are free again, soon.
    for attempt in 0.. {
        if status(&reports, "SELECT count(*) FROM messages").await == (200, "ok") {
            break;
        }
        assert!(attempt < 10, "the threads are still busy");
    }
}

#[tokio::test]
async fn memory_is_bounded() {
    let limits = Limits { memory_bytes_per_tenant: 512 * 1024, temp_bytes_per_tenant: 1024 * 1024, ..quick() };
    let reports = facts(20_000).reports_with(limits);
    let sql =
        "SELECT array_agg(event_id) FROM messages a CROSS JOIN (SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3) b";
    assert_eq!(status(&reports, sql).await.0, 413);
    // A nested loop whose left side, behind a repartitioning, does not fit.
    let sql = "SELECT count(*) FROM messages a JOIN messages b ON a.seq * b.seq >= 0 JOIN messages c ON a.seq * b.seq * c.seq < -1";
    assert!([413, 408].contains(&status(&reports, sql).await.0));
    let sql = "SELECT a.event_id, b.event_id FROM messages a JOIN messages b ON a.author_id = b.author_id ORDER BY 1, 2 LIMIT 90000";
    let (status, _) = status(&reports, sql).await;
    assert!(status == 413 || status == 408, "{status}");
}

#[tokio::test]
async fn errors_name_the_place() {
    let reports = facts(1).reports();
    let show = async |sql: &str| show(reports.query(&caller("acme"), sql).await);
    expect![[r#"
        400 sql_invalid: failed to read the SQL: Expected: an expression, found: = at line 3, column 13
    "#]]
    .assert_eq(&show("SELECT seq\nFROM messages\nWHERE seq = = 1").await);
    expect![[r#"
        400 sql_invalid: failed to read the SQL: Unterminated string literal at line 1, column 8
    "#]]
    .assert_eq(&show("SELECT 'a").await);
    expect![[r#"
        400 sql_invalid: failed to read the SQL: No field named authr_id. Did you mean 'messages.author_id'?
        Valid fields are messages.event_id, messages.conversation_id, messages.thread_id, messages.seq, messages.occurred_at, messages.recorded_at, messages.origin, messages.author_type, messages.author_id, messages.group_id, messages.content_chars, messages.reply_seconds, messages.first_response_seconds. at line 2, column 3
    "#]].assert_eq(&show("SELECT seq,\n  authr_id FROM messages").await);
    expect![[r#"
        400 sql_invalid: failed to read the SQL: Invalid function 'nosuch'.
        Did you mean 'cosh'? at line 1, column 8
    "#]]
    .assert_eq(&show("SELECT nosuch(1)").await);
    expect![[r#"
        404 table_not_found: no table named `mesages`
    "#]]
    .assert_eq(&show("SELECT * FROM mesages").await);
    expect![[r#"
        400 sql_failed: failed to run the SQL: Divide by zero error
    "#]]
    .assert_eq(&show("SELECT 1 / 0").await);
    expect![[r#"
        400 sql_failed: failed to run the SQL: Cast error: Cannot cast string 'x' to value of Int32 type
    "#]]
    .assert_eq(&show("SELECT CAST('x' AS INT)").await);
    expect![[r#"
        400 sql_failed: failed to run the SQL: Cast error: Cannot cast string 'x' to value of Int64 type
    "#]]
    .assert_eq(&show("SELECT * FROM messages WHERE seq = 'x'").await);
    expect![[r#"
        403 sql_not_allowed: not allowed: DELETE statements; only one SELECT (or WITH … SELECT, or EXPLAIN SELECT) is
    "#]]
    .assert_eq(&show("DELETE FROM messages").await);
    expect![[r#"
        403 sql_not_allowed: not allowed: recursive WITH at line 1, column 1
    "#]]
    .assert_eq(&show("WITH RECURSIVE r AS (SELECT 1) SELECT * FROM r").await);
}

#[tokio::test]
async fn explain_shows_no_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = support::file(dir.path(), "1.parquet", &support::rows("messages", &[json!({"seq": 1})]));
    let reports = Facts::default().add_file("acme", "messages", file).reports();
    let text = show(reports.query(&caller("acme"), "EXPLAIN SELECT seq FROM messages WHERE seq > 0").await);
    assert!(text.contains("TableScan: messages"), "{text}");
    assert!(!text.contains("parquet"), "{text}");
}
