//! Answers that are kept while they are true, and what became of each call.

use crate::support::{self, Facts, caller, messages, params, run};
use expect_test::expect;
use sql::{Limits, Reports, RowFilters, TableName};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An engine over two tenants' messages whose answers are kept, and the version of the first.
fn engine() -> (Arc<Facts>, Arc<AtomicU64>, Reports) {
    let version = Arc::new(AtomicU64::new(1));
    let mut facts =
        Facts::default().add("acme", "messages", &messages(0, 10)).add("globex", "messages", &messages(0, 3));
    facts.versions =
        [("acme".to_owned(), Arc::clone(&version)), ("globex".to_owned(), Arc::new(AtomicU64::new(1)))].into();
    let facts = Arc::new(facts);
    let reports = Reports::new(Arc::clone(&facts) as _, Limits::default()).expect("the engine starts");
    (facts, version, reports)
}

fn computed(facts: &Facts) -> usize {
    facts.snapshots.load(Ordering::Relaxed)
}

#[tokio::test]
async fn an_answer_is_kept_until_something_of_the_tenant_changes() {
    let (facts, version, reports) = engine();
    let sql = "SELECT count(*) AS n FROM messages";
    let first = run(&reports, "acme", sql).await;
    assert_eq!((run(&reports, "acme", sql).await, computed(&facts)), (first.clone(), 1));
    version.fetch_add(1, Ordering::Relaxed);
    assert_eq!((run(&reports, "acme", sql).await, computed(&facts)), (first.clone(), 2));
    assert_eq!((run(&reports, "acme", sql).await, computed(&facts)), (first, 2));
}

/// Endpoints are the same statement with the same values; other values are another.
#[tokio::test]
async fn an_endpoint_is_kept_by_its_values() {
    let (facts, _, reports) = engine();
    let calls =
        [("by=day", 1), ("by=day", 1), ("by=agent", 2), ("by=day", 2), ("hours=business", 3), ("hours=business", 3)];
    for (call, expected) in calls {
        let answer = reports.endpoint(&caller("acme"), "reply_time", &params(call)).await;
        assert!(answer.is_ok(), "{answer:?}");
        assert_eq!(computed(&facts), expected, "{call}");
    }
    let mut elsewhere = caller("acme");
    elsewhere.time_zone = "America/New_York".to_owned();
    assert!(reports.endpoint(&elsewhere, "reply_time", &params("hours=business")).await.is_ok());
    assert_eq!(computed(&facts), 4, "business hours are those of the zone");
}

/// What is still going on counts up to now; a period that is over asks for no time.
#[tokio::test]
async fn a_period_that_has_ended_is_kept() {
    let (facts, _, reports) = engine();
    for (period, kept) in [
        ("date_from=2024-05-21&date_to=2024-05-22", true),
        ("date_from=2024-05-21&date_to=2024-06-01 14:00:00", true),
        ("date_from=2024-05-21&date_to=2024-06-01 14:00:01&ended=yes", false),
        ("", false),
    ] {
        let mut read = Vec::new();
        for _ in 0..2 {
            let before = computed(&facts);
            let answer = reports.endpoint(&caller("acme"), "agent_performance", &params(period)).await;
            assert!(answer.is_ok(), "{answer:?}");
            read.push(computed(&facts) > before);
        }
        assert_eq!(read, [true, !kept], "{period}");
    }
}

/// Another tenant's answer, or one with other rows hidden, is never given.
#[tokio::test]
async fn an_answer_is_its_tenants_and_its_filters() {
    let (facts, _, reports) = engine();
    let sql = "SELECT count(*) AS n FROM messages";
    let n = |text: String| text.lines().nth(1).expect("a row").to_owned();
    assert_eq!(n(run(&reports, "acme", sql).await), "10");
    assert_eq!(n(run(&reports, "globex", sql).await), "3");
    let mut narrow = caller("acme");
    narrow.filters = RowFilters::from([(TableName::of("messages"), vec!["seq < 4".to_owned()])]);
    assert_eq!(n(support::show(reports.query(&narrow, sql).await)), "4");
    assert_eq!(n(run(&reports, "acme", sql).await), "10");
    assert_eq!(computed(&facts), 3);
}

#[tokio::test]
async fn what_changes_by_itself_is_not_kept() {
    let (facts, _, reports) = engine();
    for sql in [
        "SELECT count(*) FROM messages WHERE occurred_at < now()",
        "SELECT count(*) FROM messages WHERE occurred_at < current_timestamp",
        "SELECT count(*) FROM messages WHERE random() < 2",
        "SELECT count(*), today() FROM messages",
        "SELECT count(*), \"now\"() FROM messages",
        "SELECT count(*) FROM messages WHERE occurred_at < (SELECT max(now()) FROM messages)",
        "WITH t AS (SELECT current_date AS d) SELECT count(*), max(d) FROM messages, t",
    ] {
        let before = computed(&facts);
        run(&reports, "acme", sql).await;
        run(&reports, "acme", sql).await;
        assert_eq!(computed(&facts), before + 2, "{sql}");
    }
}

/// Without a version nothing is kept, and an answer that is large for what may be kept isn't either.
#[tokio::test]
async fn only_what_fits_is_kept() {
    let facts = Arc::new(Facts::default().add("acme", "messages", &messages(0, 10)));
    let reports = Reports::new(Arc::clone(&facts) as _, Limits::default()).expect("the engine starts");
    let sql = "SELECT * FROM messages";
    run(&reports, "acme", sql).await;
    run(&reports, "acme", sql).await;
    assert_eq!(computed(&facts), 2);
    let mut facts = Facts::default().add("acme", "messages", &messages(0, 10));
    facts.versions = [("acme".to_owned(), Arc::new(AtomicU64::new(1)))].into();
    let facts = Arc::new(facts);
    let limits = Limits { kept_bytes_per_tenant: 512, ..Limits::default() };
    let reports = Reports::new(Arc::clone(&facts) as _, limits).expect("the engine starts");
    run(&reports, "acme", sql).await;
    run(&reports, "acme", sql).await;
    assert_eq!(computed(&facts), 2);
}

/// Statements, values and filters that a printed syntax tree shows alike, over one engine that keeps all it can.
#[tokio::test]
async fn what_prints_alike_is_told_apart() {
    let (_, _, reports) = engine();
    let first = |text: String| text.lines().nth(1).expect("a row").to_owned();
    for (sql, expected) in [
        ("SELECT 'it''s' AS a", r#""it's""#),
        ("SELECT 'it''''s' AS a", r#""it''s""#),
        (r"SELECT E'it\'s' AS a", r#""it's""#),
        (r"SELECT E'it\'\'s' AS a", r#""it''s""#),
        ("SELECT '1' AS a", r#""1""#),
        ("SELECT 1 AS a", "1"),
        ("SELECT 1.0 AS a", "1"),
        ("SELECT 'TRUE' AS a", r#""TRUE""#),
        ("SELECT TRUE AS a", "true"),
        ("SELECT count(*) AS a FROM messages WHERE author_id = 'a''1'", "0"),
        ("SELECT count(*) AS a FROM messages WHERE author_id = 'a1'", "2"),
        ("SELECT 1 AS a FROM messages WHERE author_id <> 'a''''1' LIMIT 1", "1"),
    ] {
        for time in ["the first time", "again"] {
            assert_eq!(first(run(&reports, "acme", sql).await), expected, "{sql} {time}");
        }
    }
    let filtered = [
        (vec!["author_id <> 'x'", "seq < 4"], "4"),
        (vec!["author_id <> 'x' OR seq < 4"], "10"),
        (vec!["author_id = 'a''1'"], "0"),
        (vec!["author_id = 'a1'"], "2"),
        (vec!["author_id = 'a''''1'"], "0"),
    ];
    for (filters, expected) in filtered {
        let mut narrow = caller("acme");
        let conditions = filters.iter().map(|condition| (*condition).to_owned()).collect();
        narrow.filters = RowFilters::from([(TableName::of("messages"), conditions)]);
        let answer = reports.query(&narrow, "SELECT count(*) AS n FROM messages").await;
        assert_eq!(first(support::show(answer)), expected, "{filters:?}");
    }
}

/// A value that a token is fixed to is never another's.
#[tokio::test]
async fn values_that_print_alike_are_told_apart() {
    let (_, _, reports) = engine();
    let pipe =
        "NODE n\nSQL >\n    %\n    SELECT {{String(who)}} AS who, count(*) AS n FROM messages\n\nTYPE endpoint\n";
    let pipe = Arc::new(sql::OwnPipe::parse("mine", pipe).expect("a pipe"));
    let reads = Some(sql::PublisherReads { tables: sql::Readable::All, filters: RowFilters::new() });
    let published = sql::Published { pipe, reads };
    for who in ["o'neil", "o''neil", "o'''neil", r"o\'neil", "1", "true", "o'neil"] {
        let params = [("who".to_owned(), vec![who.to_owned()])].into();
        for (over, expected) in [(None, who.to_owned()), (Some("SELECT who || '''' AS who FROM _"), format!("{who}'"))]
        {
            let answer = reports.own(&caller("acme"), published.clone(), &params, over.map(str::to_owned)).await;
            let json = answer.expect("rows").to_json().expect("JSON");
            let said: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
            assert_eq!(said["data"][0]["who"], expected);
        }
    }
}

#[tokio::test]
async fn calls_are_in_the_tenants_own_tables() {
    let (_, _, reports) = engine();
    let sql = "SELECT sum(seq) AS n FROM messages";
    run(&reports, "acme", sql).await;
    run(&reports, "acme", sql).await;
    run(&reports, "acme", "SELECT nothing FROM messages").await;
    let bad = reports.endpoint(&caller("acme"), "reply_time", &params("by=moon")).await;
    assert!(bad.is_err());
    assert!(reports.endpoint(&caller("acme"), "no_such", &params("")).await.is_err());
    let stats =
        "SELECT endpoint, status, cached, rows, rows_read FROM endpoint_stats ORDER BY start_datetime, status, cached";
    expect![[r#"
        endpoint String | status Int64 | cached Bool | rows Int64 | rows_read Int64
        "query_api" | 200 | false | 1 | 10
        "query_api" | 200 | true | 1 | 10
        "query_api" | 400 | false | 0 | 0
        "reply_time" | 400 | false | 0 | 0
    "#]]
    .assert_eq(&run(&reports, "acme", stats).await);
    let errors = "SELECT endpoint, status, code, error FROM endpoint_errors ORDER BY endpoint";
    expect![[r#"
        endpoint String | status Int64 | code String | error String
        "query_api" | 400 | "sql_invalid" | "failed to read the SQL: No field named nothing.\nValid fields are messages.event_id, messages.conversation_id, messages.thread_id, messages.seq, messages.occurred_at, messages.recorded_at, messages.origin, messages.author_type, messages.author_id, messages.group_id, messages.content_chars, messages.reply_seconds, messages.first_response_seconds. at line 1, column 8"
        "reply_time" | 400 | "parameter_invalid" | "parameter `by`: `moon` is not one of none, day, week, month, agent, group, tag"
    "#]]
    .assert_eq(&run(&reports, "acme", errors).await);
    expect![[r#"
        n Int64
        0
    "#]]
    .assert_eq(&run(&reports, "globex", "SELECT count(*) AS n FROM endpoint_stats").await);
}
