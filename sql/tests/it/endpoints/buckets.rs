//! Weeks and months, and rows for what has no facts.

use super::{check, facts};
use crate::support::{caller, params};
use expect_test::expect;
use serde_json::Value;
use sql::{BUCKETS_MAX, Reports};

/// The endpoints with `by`, and what they are asked for; `usage` calls it `granularity`.
const CUT: [(&str, &str); 11] = [
    ("assignment_quality", "by"),
    ("bot_outcomes", "by"),
    ("csat", "by"),
    ("first_response", "by"),
    ("handle_time", "by"),
    ("notification_outcomes", "by"),
    ("reply_time", "by"),
    ("resolution_time", "by"),
    ("sla", "by"),
    ("usage", "granularity"),
    ("waiting_time", "by"),
];

/// Every endpoint that can be asked for days.
#[test]
fn they_are_all_here() {
    let r = facts().reports();
    let cut: Vec<&str> = r
        .endpoints()
        .filter(|e| e.parameters.iter().any(|p| p.allowed.iter().any(|value| value == "day")))
        .map(|e| e.name.as_str())
        .collect();
    assert_eq!(cut, CUT.map(|(name, _)| name));
    for endpoint in r.endpoints().filter(|e| cut.contains(&e.name.as_str())) {
        let fill = endpoint.parameters.iter().find(|p| p.name == "fill").expect("fill");
        assert_eq!(fill.allowed, ["auto", "true", "false"], "{}", endpoint.name);
    }
}

async fn rows(r: &Reports, tenant: &str, name: &str, query: &str) -> Vec<Vec<Value>> {
    let result = r.endpoint(&caller(tenant), name, &params(query)).await;
    let result = result.unwrap_or_else(|e| panic!("{name}?{query}: {e}"));
    let answer: Value = serde_json::from_slice(&result.to_json().expect("JSON")).expect("JSON");
    let columns: Vec<String> = result.schema.fields().iter().map(|field| field.name().clone()).collect();
    let data = answer["data"].as_array().expect("rows").clone();
    data.iter().map(|row| columns.iter().map(|column| row[column].clone()).collect()).collect()
}

/// Nothing happened: one row a bucket, counts are 0 and averages NULL, whatever is asked for.
#[tokio::test]
async fn a_row_for_each_bucket_of_the_period() {
    let r = facts().reports();
    let cases = [
        (
            "day",
            "date_from=2024-02-27&date_to=2024-03-02",
            vec!["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01"],
        ),
        ("week", "date_from=2024-02-28&date_to=2024-03-12", vec!["2024-02-26", "2024-03-04", "2024-03-11"]),
        ("week", "date_from=2024-12-29&date_to=2025-01-07", vec!["2024-12-23", "2024-12-30", "2025-01-06"]),
        ("month", "date_from=2023-11-30&date_to=2024-02-01", vec!["2023-11-01", "2023-12-01", "2024-01-01"]),
        // Midnight of the last day in Berlin is the day before in UTC.
        ("day", "date_from=2024-03-30&date_to=2024-04-01", vec!["2024-03-30", "2024-03-31"]),
        ("day", "date_from=2024-03-30&date_to=2024-03-30", vec![]),
    ];
    for (name, parameter) in CUT {
        for (unit, period, days) in &cases {
            let rows = rows(&r, "nobody", name, &format!("{parameter}={unit}&{period}")).await;
            let keys: Vec<&str> = rows.iter().map(|row| row[0].as_str().expect("a date")).collect();
            assert_eq!(&keys, days, "{name} {unit} {period}");
            let none = |value: &Value| value.is_null() || value.as_i64() == Some(0);
            assert!(rows.iter().all(|row| row[1..].iter().all(none)), "{name} {rows:?}");
            assert!(rows.iter().all(|row| row[1..].iter().any(|value| !value.is_null())), "{name} {rows:?}");
        }
    }
}

/// What there is stays what it was: the rows with facts are those of a call that isn't filled, among others.
#[tokio::test]
async fn filling_changes_no_row() {
    let r = facts().reports();
    let mut seen = 0;
    for (name, parameter) in CUT {
        for unit in ["day", "week", "month"] {
            let call = format!("{parameter}={unit}&date_from=2024-03-01&date_to=2024-06-01");
            let bare = rows(&r, "acme", name, &format!("{call}&fill=false")).await;
            let filled = rows(&r, "acme", name, &call).await;
            seen += bare.len();
            assert!(bare.iter().all(|row| filled.contains(row)), "{name} {unit}: {bare:?} {filled:?}");
            let all = match unit {
                "day" => 92,
                "week" => 14,
                _ => 3,
            };
            assert_eq!(filled.len(), all, "{name} {unit}");
            assert!(filled.is_sorted_by(|a, b| a[0].as_str() < b[0].as_str()), "{name} {unit}");
        }
    }
    assert!(seen > 20, "{seen}");
}

#[tokio::test]
async fn weeks_and_months() {
    let r = facts().reports();
    check(&r, "acme", "usage?granularity=week&date_from=2024-05-13&date_to=2024-06-03", expect![[r#"
        bucket Nullable(Date) | conversations Int64 | resolved Int64 | messages_visitor Int64 | messages_agent Int64 | messages_bot Int64 | visitors Int64 | agents Int64
        "2024-05-13" | 0 | 0 | 0 | 0 | 0 | 0 | 0
        "2024-05-20" | 2 | 2 | 3 | 3 | 1 | 2 | 2
        "2024-05-27" | 0 | 0 | 0 | 0 | 0 | 0 | 0
    "#]]).await;
    check(&r, "acme", "usage?granularity=month&date_from=2024-04-01&date_to=2024-06-01", expect![[r#"
        bucket Nullable(Date) | conversations Int64 | resolved Int64 | messages_visitor Int64 | messages_agent Int64 | messages_bot Int64 | visitors Int64 | agents Int64
        "2024-04-01" | 0 | 0 | 1 | 0 | 0 | 1 | 0
        "2024-05-01" | 2 | 2 | 3 | 3 | 1 | 2 | 2
    "#]]).await;
    check(
        &r,
        "acme",
        "csat?by=week&date_from=2024-05-13&date_to=2024-05-27",
        expect![[r#"
        week Nullable(Date) | count Int64 | avg Nullable(Float64) | csat Nullable(Float64)
        "2024-05-13" | 0 | null | null
        "2024-05-20" | 3 | 3.6666666666666665 | 0.6666666666666666
    "#]],
    )
    .await;
    check(&r, "acme", "reply_time?by=month&fill=true&date_from=2024-04-30&date_to=2024-05-31", expect![[r#"
        month Nullable(Date) | count Int64 | avg_s Nullable(Float64) | p50_s Nullable(Float64) | p90_s Nullable(Float64) | p99_s Nullable(Float64)
        "2024-04-01" | 0 | null | null | null | null
        "2024-05-01" | 3 | 53.5 | 40 | 88 | 98.8
    "#]]).await;
}

/// Hours and minutes of the wall clock: one that a clock change skips has no row, one that it repeats has one.
#[tokio::test]
async fn hours_of_clock_changes() {
    let r = facts().reports();
    for (day, next, hours) in [("2024-03-31", "2024-04-01", 23), ("2024-10-27", "2024-10-28", 24)] {
        let call = format!("granularity=hour&date_from={day}&date_to={next}");
        let rows = rows(&r, "nobody", "usage", &call).await;
        assert_eq!(rows.len(), hours, "{day}");
        assert_eq!(rows[1][0], format!("{day} 01:00:00"));
        assert_eq!(rows[2][0] == format!("{day} 02:00:00"), hours == 24, "{day}");
    }
    let minutes = rows(&r, "nobody", "usage", "granularity=minute&date_from=2024-03-31&date_to=2024-04-01").await;
    assert_eq!(minutes.len(), 23 * 60);
    let half = "granularity=hour&time_zone=Asia/Kolkata&date_from=2024-05-01 09:45&date_to=2024-05-01 11:05";
    assert_eq!(rows(&r, "nobody", "usage", half).await.len(), 3);
}

/// A period of too many rows isn't filled, and says so when it was asked to be.
#[tokio::test]
async fn what_is_too_much_stays_unfilled() {
    let r = facts().reports();
    let ten_years = "usage?granularity=minute&date_from=2014-06-01&date_to=2024-06-01";
    let count = rows(&r, "acme", "usage", &ten_years["usage?".len()..]).await.len();
    assert_eq!(count, 7, "those with facts");
    check(&r, "acme", &format!("{ten_years}&fill=true"), expect![[r#"
        400 parameter_invalid: parameter `fill`: is for at most 20000 rows and days: ask for a shorter period or larger pieces
    "#]]).await;
    check(&r, "acme", "csat?by=day&date_from=1901-01-01&date_to=2100-01-01&fill=true", expect![[r#"
        400 parameter_invalid: parameter `fill`: is for at most 20000 rows and days: ask for a shorter period or larger pieces
    "#]]).await;
    check(
        &r,
        "acme",
        "csat?by=day&fill=maybe",
        expect![[r#"
        400 parameter_invalid: parameter `fill`: `maybe` is not one of auto, true, false
    "#]],
    )
    .await;
    let most = format!("granularity=minute&date_from=2024-01-01T00:00:00Z&date_to=2024-01-{}", "14T21:20:00Z");
    assert_eq!(i64::try_from(rows(&r, "acme", "usage", &most).await.len()).ok(), Some(BUCKETS_MAX));
}

/// A query over a filled result sees its rows.
#[tokio::test]
async fn over_a_filled_result() {
    let r = facts().reports();
    let params = params("by=day&date_from=2024-05-01&date_to=2024-06-01");
    let sql = "SELECT count(*) AS days, sum(count) AS ratings FROM _";
    let answer = r.endpoint_over(&caller("acme"), "csat", &params, sql).await;
    expect![[r#"
        days Int64 | ratings Nullable(Int64)
        31 | 3
    "#]]
    .assert_eq(&crate::support::show(answer));
}

/// In SQL, with constants only, and few.
#[tokio::test]
async fn the_functions() {
    let r = facts().reports();
    for (sql, expected) in [
        (
            "SELECT first_day('week', DATE '2024-05-26') AS w, first_day('month', TIMESTAMP '2024-05-26 10:00:00') AS m",
            expect![[r#"
                w Date | m Date
                "2024-05-20" | "2024-05-01"
            "#]],
        ),
        (
            "SELECT unnest(bucket_starts('day', TIMESTAMP '2024-03-30 12:00:00', TIMESTAMP '2024-04-01 00:00:00', 'Europe/Berlin')) AS at",
            expect![[r#"
                at Nullable(DateTime64(3, 'UTC'))
                "2024-03-30 12:00:00.000"
                "2024-03-30 23:00:00.000"
                "2024-03-31 22:00:00.000"
            "#]],
        ),
        (
            "SELECT d.day, count(m.event_id) AS messages
             FROM (SELECT CAST(to_local_time(unnest(bucket_starts('day', TIMESTAMP '2024-05-20', TIMESTAMP '2024-05-23', 'UTC'))) AS DATE) AS day) d
             LEFT JOIN messages m ON CAST(m.occurred_at AS DATE) = d.day GROUP BY 1 ORDER BY 1",
            expect![[r#"
                day Nullable(Date) | messages Int64
                "2024-05-20" | 5
                "2024-05-21" | 2
                "2024-05-22" | 0
            "#]],
        ),
        (
            "SELECT first_day('decade', DATE '2024-05-26') AS w",
            expect![[r#"
            400 sql_failed: failed to run the SQL: the unit is one of minute, hour, day, week and month
        "#]],
        ),
        (
            "SELECT first_day(author_type, occurred_at) AS w FROM messages",
            expect![[r#"
            400 sql_failed: failed to run the SQL: the unit is a constant: minute, hour, day, week or month
        "#]],
        ),
        (
            "SELECT bucket_starts('day', occurred_at, now(), 'UTC') AS w FROM messages",
            expect![[r#"
            400 sql_failed: failed to run the SQL: bucket_starts takes constants, no columns
        "#]],
        ),
        (
            "SELECT bucket_starts('minute', TIMESTAMP '2000-01-01', TIMESTAMP '2024-01-01', 'UTC') AS w",
            expect![[r#"
                400 sql_failed: failed to run the SQL: bucket_starts lists at most 20000 buckets of at most 20000 days, from 1900 to 2199
            "#]],
        ),
        (
            "SELECT bucket_starts('minute', NULL, TIMESTAMP '2024-01-01', 'UTC') AS w",
            expect![[r#"
            400 sql_invalid: failed to read the SQL: Execution error: Function 'bucket_starts' user-defined coercion failed with: Error during planning: bucket_starts takes a unit, two timestamps and a time zone: the start, the end. No function matches the given name and argument types 'bucket_starts(Utf8, Null, Timestamp(ns), Utf8)'. You might need to add explicit type casts.
            	Candidate functions:
            	bucket_starts(UserDefined)
        "#]],
        ),
        (
            "SELECT bucket_starts('hour', TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-01', 'Mars') AS w",
            expect![[r#"
            400 sql_failed: failed to run the SQL: bucket_starts takes a time zone of the IANA list
        "#]],
        ),
    ] {
        expected.assert_eq(&crate::support::show(r.query(&caller("acme"), sql).await));
    }
}
