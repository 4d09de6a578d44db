//! SQL that must not run, or must stop.

use std::time::{Duration, Instant};

use crate::support::corpus::{ALLOCATIONS, ENDLESS, LARGE_TEXTS, SPILLS, STATEMENTS, WAYS_AROUND, doubling, sizes};
use crate::support::{self, Facts, caller, show};
use expect_test::expect;
use serde_json::json;
use sql::{Limits, QueryError, Reports};

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

#[tokio::test]
async fn statements_that_are_not_a_select() {
    let reports = facts(1).reports();
    for sql in STATEMENTS {
        let (status, code) = status(&reports, sql).await;
        assert!(status == 400 || status == 403, "{sql}: {status} {code}");
        assert!(["sql_not_allowed", "sql_invalid"].contains(&code), "{sql}: {code}");
    }
}

#[tokio::test]
async fn files_catalogs_and_generators() {
    let reports = facts(1).reports();
    for sql in WAYS_AROUND {
        let (status, code) = status(&reports, sql).await;
        assert!([400, 403, 404].contains(&status), "{sql}: {status} {code}");
    }
}

#[tokio::test]
async fn limits_on_the_text() {
    let reports = facts(1).reports();
    for (sql, may) in sizes() {
        let started = Instant::now();
        let result = reports.query(&caller("acme"), &sql).await;
        let large = matches!(result, Err(QueryError::SqlTooLarge { .. }));
        let shown: String = sql.chars().take(60).collect();
        println!("{may} in {:?}: {shown}", started.elapsed());
        assert_eq!((result.is_ok(), large), (may, !may), "{shown}… in {:?}: {:?}", started.elapsed(), result.err());
    }
}

/// Sizes that a statement names are no sizes to allocate.
#[tokio::test]
async fn nothing_is_allocated_by_a_number() {
    let reports = facts(20_000).reports();
    for sql in ALLOCATIONS {
        let started = Instant::now();
        let (status, code) = status(&reports, sql).await;
        assert!([200, 400, 403, 413].contains(&status), "{sql}: {status} {code}");
        assert!(started.elapsed() < Duration::from_secs(5), "{sql} in {:?}", started.elapsed());
    }
}

/// Functions that make text: bounded each and together, however they are nested.
#[tokio::test]
async fn text_does_not_explode() {
    let (reports, doubling) = (facts(20_000).reports(), doubling());
    for sql in LARGE_TEXTS.iter().copied().chain([&*doubling]) {
        let (status, code) = status(&reports, sql).await;
        // What is constant becomes one before it runs, and is refused as such; so is an expression that grows too large.
        let refused = [(413, "text_too_large"), (400, "sql_too_large")];
        assert!(refused.contains(&(status, code)), "{sql}: {status} {code}");
    }
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
    for sql in ENDLESS {
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
    for (place, sql) in SPILLS.iter().enumerate() {
        let (status, _) = status(&reports, sql).await;
        assert!(status == 413 || (status == 408 && place > 0), "{sql}: {status}");
    }
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

/// What wraps an operand again and again would overflow the stack of whatever walks over it; what people write passes.
#[tokio::test]
async fn suffixes_types_and_statements_in_statements_are_counted() {
    let reports = facts(1).reports();
    for sql in [
        format!("SELECT CAST(NULL AS INT{})", "[]".repeat(14_000)),
        format!("SELECT NULL::INT{}", "[]".repeat(14_000)),
        format!("SELECT 1{}", "::int".repeat(10_000)),
        format!("SELECT a{}", ".a".repeat(20_000)),
        format!("SELECT a{}", "[(1,2)]".repeat(9_000)),
        format!("SELECT now(){}", " AT TIME ZONE 'UTC'".repeat(3_000)),
        format!("SELECT 1{}", " IS NOT NULL".repeat(4_000)),
        format!("SELECT arrow_cast(NULL, '{}Int8{}') FORMAT Parquet", "List(".repeat(3_000), ")".repeat(3_000)),
        format!("SELECT arrow_cast(NULL, $${}Int8{}$$)", "List(".repeat(3_000), ")".repeat(3_000)),
        format!("SELECT CAST(NULL AS INT{})", "[3]".repeat(30)),
        "SELECT NULL::INT[99999][99999]".to_owned(),
        "SELECT CAST(CAST(NULL AS STRUCT<a INT[2000]>) AS TEXT)".to_owned(),
        "SELECT arrow_cast(NULL, 'FixedSizeBinary(2147483647)')".to_owned(),
        "SELECT arrow_cast(NULL, 'FixedSizeList(99999 x FixedSizeList(99999 x Int64))')".to_owned(),
        format!("{}SELECT 1", "CASE WHEN x THEN ".repeat(2_000)),
        format!("SELECT 1{}", ", 1".repeat(1_664)),
        format!("SELECT {}1{}", "(SELECT ".repeat(9), ")".repeat(9)),
        format!("SELECT {}1{}", "count(*) FILTER (WHERE 1 = ".repeat(5), ")".repeat(5)),
        format!("WITH a AS (SELECT {0}1{1} AS x) SELECT {0}x{1} FROM a", "(SELECT ".repeat(5), " FROM a)".repeat(5)),
        "SELECT seq FROM messages GROUP BY CUBE (seq, seq, seq, seq, seq, seq, seq, seq, seq)".to_owned(),
    ] {
        let shown: String = sql.chars().take(60).collect();
        let refused = reports.query(&caller("acme"), &sql).await;
        assert!(matches!(refused, Err(QueryError::SqlTooLarge { .. })), "{shown}: {refused:?}");
    }
    for statement in ["WHILE x ", "IF x THEN ", "EXPLAIN WHILE x ", "DECLARE x "] {
        let refused = reports.query(&caller("acme"), &format!("{}SELECT 1", statement.repeat(90))).await;
        assert!(matches!(refused, Err(QueryError::NotAllowed { .. })), "{statement}: {refused:?}");
    }
    let deep = format!("SELECT 1 WHERE 1 {}= 1{}", "IN (SELECT 1 WHERE 1 ".repeat(8), ")".repeat(8));
    reports.query(&caller("acme"), &deep).await.expect("more than anybody writes");
    let columns: Vec<String> = (0..200).map(|n| format!("m.seq::int IS NOT NULL AS c{n}")).collect();
    let wide = format!("SELECT {} FROM messages m WHERE m.seq > 0 AND m.seq < 9", columns.join(", "));
    reports.query(&caller("acme"), &wide).await.expect("what a tool writes");
}
