//! A row with an odd value stops no report: every function of the session, casts, operators, clauses and formats over a table
//! with one plain row and rows of the years 1 to 9999, the ends of the types and NULL. What is answered for the plain row alone is
//! answered beside them too, and the same. The functions are the session's, so that a new one is among them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use chrono::NaiveDate;

use crate::call::{Limits, QueryResult};
use crate::catalog::{NotFresh, SnapshotGuard, TableDef, TableSnapshot, TablesError, TenantTables};
use crate::engine::Reports;
use crate::error::QueryError;
use crate::format::Format;
use crate::hostile_calls::{caller, functions};

/// `plain` has one row, `odd` that one (`k = 0`) and others.
struct Tables;

fn rows(count: usize) -> RecordBatch {
    let day = |year: i32| {
        let date = NaiveDate::from_ymd_opt(year, 12, 31).expect("a date");
        i32::try_from((date - NaiveDate::default()).num_days()).expect("near")
    };
    let years = [2023, 1, 1601, 1677, 1899, 2262, 9999];
    let mut days: Vec<Option<i32>> = years.iter().map(|year| Some(day(*year))).collect();
    let mut at: Vec<Option<i64>> = days.iter().flatten().map(|day| Some(i64::from(*day) * 86_400_000 + 1)).collect();
    days.extend([Some(i32::MIN), Some(i32::MAX), None]);
    at.extend([Some(i64::MIN), Some(i64::MAX), None]);
    let n =
        [Some(3), Some(0), Some(-1), Some(13), Some(i64::MIN), Some(i64::MAX), Some(99), Some(1 << 40), Some(7), None];
    let f = [0.5, 0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, 1e-300, 2.0].map(Some);
    let s = ["2023-12-31", "", "%", "(((", "9999-12-31", "0001-01-01", "é\u{1F600}", "-", "\\"].map(Some);
    let columns: [(&str, DataType, ArrayRef); 6] = [
        ("k", DataType::Int64, Arc::new(Int64Array::from_iter_values(0..10))),
        ("n", DataType::Int64, Arc::new(Int64Array::from(n.to_vec()))),
        ("f", DataType::Float64, Arc::new(Float64Array::from(f.to_vec()))),
        ("s", DataType::Utf8, Arc::new(StringArray::from_iter(s.into_iter().chain([None])))),
        ("day", DataType::Date32, Arc::new(Date32Array::from(days))),
        (
            "at",
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            Arc::new(TimestampMillisecondArray::from(at).with_timezone("UTC")),
        ),
    ];
    // As declared by schemas whose columns are never NULL too: what a function makes may be.
    let fields: Vec<Field> =
        columns.iter().map(|(name, kind, _)| Field::new(*name, kind.clone(), *name != "k")).collect();
    let columns = columns.into_iter().map(|(_, _, column)| column.slice(0, count)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("rows")
}

fn schema() -> SchemaRef {
    rows(1).schema()
}

#[async_trait]
impl TenantTables for Tables {
    fn tables(&self, _: &str) -> Vec<TableDef> {
        ["plain", "odd"].map(|name| TableDef { name: name.into(), schema: schema() }).into()
    }

    fn snapshot(&self, _: &str, table: &str) -> Result<TableSnapshot, TablesError> {
        let batches = vec![rows(if table == "plain" { 1 } else { 10 })];
        Ok(TableSnapshot {
            schema: schema(),
            files: Vec::new(),
            batches,
            newest_by: None,
            guard: SnapshotGuard::new(()),
        })
    }

    async fn wait_fresh(&self) -> Result<(), NotFresh> {
        Ok(())
    }

    fn version(&self, _: &str) -> Option<u64> {
        None
    }
}

fn reports() -> Reports {
    Reports::new(Arc::new(Tables), Limits { running_per_tenant: 8, ..Limits::default() }).expect("the engine starts")
}

async fn ask(reports: &Reports, sql: &str) -> Result<(QueryResult, serde_json::Value), QueryError> {
    let result = reports.query(&caller(), sql).await?;
    let answer = serde_json::from_slice::<serde_json::Value>(&result.to_json()?).expect("JSON")["data"].take();
    Ok((result, answer))
}

/// Whether an expression is answered for the plain row; what is wrong with it beside the odd ones.
async fn odd(reports: &Reports, expression: &str) -> Option<Result<(), String>> {
    let over = |table: &str| format!("SELECT k, {expression} AS x FROM {table} ORDER BY k");
    let (_, plain) = ask(reports, &over("plain")).await.ok()?;
    Some(match ask(reports, &over("odd")).await {
        // Bounds of ours stay.
        Err(QueryError::TextTooLarge { .. } | QueryError::SqlTooLarge { .. }) => Ok(()),
        Err(error) => Err(format!("{expression}: {error}")),
        // Chance is another each time.
        Ok((_, odd)) if odd[0] == plain[0] || expression.starts_with("rand") => Ok(()),
        Ok((_, odd)) => Err(format!("{expression}: {} instead of {}", odd[0], plain[0])),
    })
}

/// Lists of arguments of which each function takes at least one.
fn arguments() -> Vec<String> {
    let columns = ["n", "f", "s", "day", "at"];
    let others = ["1", "n", "f", "s", "at", "'a'", "'%Y'", "'day'", "'UTC'", "'Int64'", "TIMESTAMP '2024-01-01'"];
    let mut all = vec![String::new()];
    all.extend(columns.map(str::to_owned));
    for column in columns {
        all.extend(others.map(|other| format!("{column}, {other}")));
        all.extend(
            ["'day'", "INTERVAL '1 day'", "'%Y'", "'week'", "'month'", "','"].map(|first| format!("{first}, {column}")),
        );
        all.extend(
            [("1", "1"), ("'a'", "'b'"), ("'a'", "1"), ("'a'", "n"), ("n", "n"), ("s", "s"), ("f", "f")]
                .map(|(second, third)| format!("{column}, {second}, {third}")),
        );
    }
    all.extend(
        ["at, at", "s, 1, 1, 'a'", "s, 'a', 1, 1", "INTERVAL '1 day', at, TIMESTAMP '2024-01-01'"].map(str::to_owned),
    );
    all.push("'day', TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-02', 'UTC'".to_owned());
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_answer() {
    let [scalar, ..] = functions();
    let (reports, arguments) = (reports(), arguments());
    let (mut wrong, mut unasked) = (Vec::new(), Vec::new());
    // A cast by another name, and what is for structs, which tables have none of.
    for name in scalar.iter().filter(|name| !["arrow_cast", "get_field"].contains(&name.as_str())) {
        let mut taken = 0;
        for list in &arguments {
            if let Some(outcome) = odd(&reports, &format!("{name}({list})")).await {
                taken += 1;
                wrong.extend(outcome.err());
            }
        }
        if taken == 0 {
            unasked.push(name);
        }
    }
    assert!(wrong.is_empty(), "{} calls:\n{}", wrong.len(), wrong.join("\n"));
    assert!(unasked.is_empty(), "no arguments suit {unasked:?}");
}

/// Casts, operators and what the engine puts in by itself.
const EXPRESSIONS: &[&str] = &[
    "at + INTERVAL '1 month'",
    "at - INTERVAL '1 day'",
    "INTERVAL '12000 years' + at",
    "day + INTERVAL '1 month'",
    "day - INTERVAL '1 day'",
    "day - DATE '2024-01-01'",
    "DATE '2024-01-01' - day",
    "at - TIMESTAMP '2024-01-01'",
    "now() - at",
    "at - at",
    "at - day",
    "at < now()",
    "now() >= at",
    "at BETWEEN TIMESTAMP '2020-01-01' AND now()",
    "at IN (TIMESTAMP '2020-01-01', now())",
    "at < DATE '2024-01-01'",
    "day < at",
    "day < now()",
    "day = '2024-01-01'",
    "at > '2024-01-01'",
    "greatest(at, now()) > at",
    "coalesce(at, now()) > at",
    "nullif(at, now())",
    "CASE WHEN k > 1 THEN at ELSE now() END > at",
    "at AT TIME ZONE 'Europe/Berlin'",
    "to_local_time(at AT TIME ZONE 'Europe/Berlin')",
    "CAST(to_local_time(at AT TIME ZONE 'Asia/Tokyo') AS DATE)",
    "date_trunc('day', to_local_time(at AT TIME ZONE 'Europe/Berlin'))",
    "date_trunc('week', at AT TIME ZONE 'America/New_York')",
    "date_trunc('day', day)",
    "EXTRACT(year FROM at)",
    "EXTRACT(dow FROM day)",
    "EXTRACT(epoch FROM at)",
    "date_part('nanosecond', at)",
    "date_bin(INTERVAL '15 minutes', at)",
    "date_bin(INTERVAL '1 month', at)",
    "to_char(at, '%Y-%m-%d')",
    "to_char(day, '%A')",
    "to_timestamp(n)",
    "to_timestamp(f)",
    "from_unixtime(n)",
    "to_timestamp_nanos(at)",
    "make_date(n, n, n)",
    "business_seconds(at, at)",
    "business_seconds(TIMESTAMP '2023-12-01', at)",
    "first_day('month', at)",
    "arrow_cast(at, 'Timestamp(Nanosecond, None)')",
    "arrow_cast(day, 'Timestamp(Nanosecond, None)')",
    "abs(n)",
    "-n",
    "n + n",
    "n - 9223372036854775807",
    "n * n",
    "n << 70",
    "sqrt(f)",
    "power(n, n)",
    "factorial(n)",
    "chr(n)",
    "substr(s, n)",
    "substr(s, n, n)",
    "left(s, n)",
    "split_part(s, '-', n)",
    "s LIKE s",
    "s ~ 'a'",
    "regexp_like(s, s)",
    "to_date(s)",
    "to_timestamp(s)",
    "to_unixtime(s)",
];

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_casts_answer() {
    let reports = reports();
    let mut wrong = Vec::new();
    for expression in EXPRESSIONS {
        match odd(&reports, expression).await {
            Some(outcome) => wrong.extend(outcome.err()),
            None => {
                let error = ask(&reports, &format!("SELECT {expression} FROM plain")).await.err();
                wrong.push(format!("{expression} isn't answered for the plain row: {error:?}"));
            }
        }
    }
    for column in ["at", "day"] {
        for kind in ["DATE", "TIMESTAMP", "TIMESTAMP(0)", "TIMESTAMP(9)", "TIMESTAMPTZ", "VARCHAR", "BIGINT", "TIME"] {
            let outcome = odd(&reports, &format!("CAST({column} AS {kind})")).await;
            wrong.extend(outcome.and_then(Result::err));
        }
    }
    assert!(wrong.is_empty(), "{} expressions:\n{}", wrong.len(), wrong.join("\n"));
}

/// Where a value is compared, sorted, counted or joined rather than shown.
const STATEMENTS: &[&str] = &[
    "SELECT date_trunc('day', at) AS d, count(*) AS n FROM odd GROUP BY 1 ORDER BY 1",
    "SELECT date_trunc('month', at AT TIME ZONE 'Europe/Berlin') AS d, count(*) AS n FROM odd GROUP BY 1 ORDER BY 1",
    "SELECT k FROM odd WHERE at < now()",
    "SELECT k FROM odd WHERE at >= now() - INTERVAL '30 days'",
    "SELECT k FROM odd WHERE date_trunc('day', at) = DATE '2023-12-31'",
    "SELECT k FROM odd WHERE date_trunc('year', at) < now() ORDER BY date_trunc('day', at) DESC",
    "SELECT k FROM odd WHERE CAST(at AS DATE) = '2023-12-31'",
    "SELECT count(DISTINCT date_trunc('hour', at)) AS n, min(at) AS a, max(at) AS b, min(day) AS c, max(day) AS d FROM odd",
    "SELECT a.k FROM odd a JOIN plain b ON date_trunc('day', a.at) = date_trunc('day', b.at)",
    "SELECT a.k FROM odd a JOIN plain b ON a.day = CAST(b.at AS DATE)",
    "SELECT k, lag(date_trunc('day', at)) OVER (ORDER BY at) AS x FROM odd",
    "SELECT k, sum(n) OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW) AS x FROM odd",
    "SELECT k, count(*) OVER (ORDER BY day RANGE BETWEEN INTERVAL '1 day' PRECEDING AND INTERVAL '1 day' FOLLOWING) AS x FROM odd",
    "SELECT avg(EXTRACT(epoch FROM at)) AS a FROM odd",
    "SELECT covered_ms(at, at + INTERVAL '1 day') AS a FROM odd",
    "SELECT count(*) AS n FROM odd HAVING max(date_trunc('day', at)) IS NOT NULL",
    "SELECT d FROM (SELECT date_trunc('day', at) AS d FROM odd UNION ALL SELECT now()) x ORDER BY d",
    "SELECT date_trunc('day', TIMESTAMP '9999-12-31 00:00:00') AS d",
    "SELECT date_trunc('day', DATE '9999-12-31') AS d, TIMESTAMP '0001-01-01 00:00:00' AS t",
    "SELECT DATE '9999-12-31' + INTERVAL '1 day' AS d, to_timestamp('9999-12-31') AS t",
    "SELECT TIMESTAMP '9999-12-31 00:00:00' - TIMESTAMP '0001-01-01 00:00:00' AS d",
    "SELECT k FROM odd WHERE at < TIMESTAMP '9999-12-31 00:00:00' AND at IS NOT NULL",
    "SELECT k FROM odd WHERE at < '9999-12-31' AND day > '0001-01-01'",
];

#[tokio::test(flavor = "multi_thread")]
async fn statements_answer() {
    let reports = reports();
    let mut wrong = Vec::new();
    for sql in STATEMENTS {
        match ask(&reports, sql).await {
            Ok((_, rows)) => println!("{sql}\n    {rows}"),
            Err(error) => wrong.push(format!("{sql}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} statements:\n{}", wrong.len(), wrong.join("\n"));
}

/// A constant that only milliseconds hold is compared as what it is.
#[tokio::test(flavor = "multi_thread")]
async fn constants_of_odd_years_compare() {
    let reports = reports();
    for (condition, rows) in [
        ("at < TIMESTAMP '9999-12-31 00:00:00'", 7),
        ("at < '9999-12-31'", 7),
        ("at <= TIMESTAMP '9999-12-31 00:00:00.001'", 8),
        ("at BETWEEN '0001-01-01' AND '9999-12-30'", 6),
        ("at = TIMESTAMP '9999-12-31 00:00:00.001'", 1),
        ("at IN ('9999-12-31 00:00:00.001', '1601-12-31 00:00:00.001')", 2),
        ("day < '9999-12-31'", 7),
        ("at >= now() - INTERVAL '30 days' AND at < TIMESTAMP '9000-01-01'", 1),
    ] {
        let (_, answer) = ask(&reports, &format!("SELECT k FROM odd WHERE {condition}")).await.expect(condition);
        assert_eq!(answer.as_array().map(Vec::len), Some(rows), "{condition}: {answer}");
    }
}

/// What is wrong for every row says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_row_can_take_is_an_error() {
    let reports = reports();
    let mut wrong = Vec::new();
    for expression in [
        "date_trunc('nosuch', at)",
        "date_trunc('nosuch', TIMESTAMP '2024-01-01')",
        "date_part('nosuch', at)",
        "date_bin(INTERVAL '0 days', at)",
        "date_bin(INTERVAL '0 days', TIMESTAMP '2024-01-01')",
        "regexp_like(s, '(((')",
        "at AT TIME ZONE 'Mars'",
        "arrow_cast(at, 'nosuch')",
        "first_day('nosuch', at)",
        "CAST('abc' AS TIMESTAMP)",
        "CAST(s AS TIMESTAMP)",
        "CAST(s AS INT)",
        "CAST('abc' AS DATE)",
        "n / 0",
    ] {
        let answer = ask(&reports, &format!("SELECT {expression} AS x FROM odd")).await;
        if !matches!(answer, Err(ref error) if error.status() == 400) {
            wrong.push(format!("{expression}: {:?}", answer.map(|(_, rows)| rows)));
        }
    }
    assert!(wrong.is_empty(), "{} expressions:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every value in every format.
#[tokio::test(flavor = "multi_thread")]
async fn formats_answer() {
    let reports = reports();
    let mut wrong = Vec::new();
    for sql in [
        "SELECT * FROM odd",
        "SELECT at AT TIME ZONE 'Asia/Tokyo' AS t, CAST(at AS TIMESTAMP(0)) AS s, CAST(at AS TIMESTAMP(6)) AS m, at - at AS d, CAST(day AS TIMESTAMP(0)) AS w FROM odd",
        "SELECT arrow_cast(n, 'Timestamp(Second, None)') AS a, arrow_cast(n, 'Timestamp(Nanosecond, Some(\"Europe/Berlin\"))') AS b, arrow_cast(n, 'Date64') AS c, arrow_cast(n, 'Time64(Nanosecond)') AS d, arrow_cast(n, 'Duration(Millisecond)') AS e FROM odd",
        "SELECT arrow_cast(8210266876799999, 'Timestamp(Millisecond, Some(\"Asia/Tokyo\"))') AS a",
    ] {
        for format in ["JSON", "JSONEachRow", "CSV", "CSVWithNames", "TSV", "TSVWithNames", "Parquet", "Arrow"] {
            let result = match reports.query(&caller(), sql).await {
                Ok(result) => result,
                Err(error) => {
                    wrong.push(format!("{sql}: {error}"));
                    break;
                }
            };
            let format_of = Format::parse(format).expect("a format");
            if let Err(error) = reports.encode(result, format_of).await {
                wrong.push(format!("{sql} as {format}: {error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} answers:\n{}", wrong.len(), wrong.join("\n"));
}
