//! Every function that a session has, with hostile arguments: each call is answered, or refused as what it is, soon. The functions
//! are those of the session, so that a new one is among them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListBuilder, StringArray, StringBuilder,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use chrono::DateTime;

use crate::call::{Caller, Limits};
use crate::catalog::{CallCatalog, NotFresh, SnapshotGuard, TableDef, TableSnapshot, TablesError, TenantTables};
use crate::definitions::MetricsVersion;
use crate::engine::Reports;
use crate::error::QueryError;
use crate::hours::Clock;
use crate::reads::{Readable, RowFilters};
use crate::session;

/// One table `t` with a column of each type that tables have, and in them what is hostile.
struct Hostile;

fn rows() -> RecordBatch {
    let zone = Some("UTC".into());
    let at = vec![Some(0), None, Some(i64::MAX), Some(i64::MIN), Some(1_717_243_200_000)];
    let at = TimestampMillisecondArray::from(at);
    let mut lists = ListBuilder::new(StringBuilder::new());
    for list in [Some(vec![Some("a"), None]), None, Some(vec![]), Some(vec![Some("%")]), Some(vec![Some("")])] {
        lists.append_option(list);
    }
    let columns: [(&str, DataType, ArrayRef); 6] = [
        (
            "n",
            DataType::Int64,
            Arc::new(Int64Array::from(vec![Some(0), None, Some(i64::MAX), Some(i64::MIN), Some(-1)])),
        ),
        (
            "f",
            DataType::Float64,
            Arc::new(Float64Array::from(vec![Some(0.0), None, Some(f64::NAN), Some(f64::INFINITY), Some(-1e308)])),
        ),
        (
            "s",
            DataType::Utf8,
            Arc::new(StringArray::from(vec![Some(""), None, Some("%"), Some("(((["), Some("é\u{1F600}")])),
        ),
        ("b", DataType::Boolean, Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), None, Some(true)]))),
        ("at", DataType::Timestamp(TimeUnit::Millisecond, zone), Arc::new(at.with_timezone("UTC"))),
        ("l", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))), Arc::new(lists.finish())),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, kind, _)| Field::new(*name, kind.clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, _, c)| c).collect()).expect("rows")
}

#[async_trait]
impl TenantTables for Hostile {
    fn tables(&self, _: &str) -> Vec<TableDef> {
        vec![TableDef { name: "t".into(), schema: schema() }]
    }

    fn snapshot(&self, _: &str, _: &str) -> Result<TableSnapshot, TablesError> {
        let guard = SnapshotGuard::new(());
        Ok(TableSnapshot { schema: schema(), files: Vec::new(), batches: vec![rows()], newest_by: None, guard })
    }

    async fn wait_fresh(&self) -> Result<(), NotFresh> {
        Ok(())
    }

    fn version(&self, _: &str) -> Option<u64> {
        None
    }
}

fn schema() -> SchemaRef {
    rows().schema()
}

fn reports() -> Reports {
    let limits = Limits { time: Duration::from_secs(30), running_per_tenant: 8, ..Limits::default() };
    Reports::new(Arc::new(Hostile), limits).expect("the engine starts")
}

pub(crate) fn caller() -> Caller {
    let (tenant, time_zone) = ("acme".to_owned(), "UTC".to_owned());
    let (readable, filters) = (Readable::All, RowFilters::new());
    let metrics = MetricsVersion::V1;
    Caller { tenant, time_zone, now_ms: 1_717_243_200_000, readable, filters, metrics }
}

/// Scalar functions, aggregates and window functions by all their names.
pub(crate) fn functions() -> [BTreeSet<String>; 3] {
    let (source, tenant): (Arc<dyn TenantTables>, Arc<str>) = (Arc::new(Hostile), "acme".into());
    let catalog = CallCatalog::new(&source, &tenant, &Readable::All);
    let runtime = session::runtime(1 << 20, 1 << 20, None, None).expect("pools");
    let clock = Clock::new(&source, &tenant, "UTC");
    let state =
        session::state(&session::template(runtime), &catalog, 1, DateTime::UNIX_EPOCH, clock).expect("a session");
    [
        state.scalar_functions().keys().cloned().collect(),
        state.aggregate_functions().keys().cloned().collect(),
        state.window_functions().keys().cloned().collect(),
    ]
}

/// Of every type, as constants and as columns.
const ARGUMENTS: &[&str] = &[
    "NULL",
    "-1",
    "0",
    "1",
    "9223372036854775807",
    "-9223372036854775808",
    "1e308",
    "CAST('NaN' AS DOUBLE)",
    "1.5",
    "''",
    "'%'",
    "'a'",
    "'((('",
    "'\\'",
    "'day'",
    "'%Y-%m-%d'",
    "'UTC'",
    "'+99:99'",
    "repeat('x', 5000)",
    "repeat('(a*)*', 30)",
    "true",
    "DATE '0001-01-01'",
    "DATE '9999-12-31'",
    "TIMESTAMP '2024-01-01'",
    "TIMESTAMP '1677-09-22 00:00:00'",
    "now()",
    "INTERVAL '1 month'",
    "INTERVAL '-999999 days'",
    "X'00ff'",
    "CAST(NULL AS INT[])",
    "n",
    "f",
    "s",
    "b",
    "at",
    "l",
];

/// The same numbers each time.
struct Chance(u64);

impl Chance {
    fn argument(&mut self) -> &'static str {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ARGUMENTS[(self.0 >> 33) as usize % ARGUMENTS.len()]
    }
}

/// Lists of arguments: none, each, and many of more.
fn arguments() -> Vec<String> {
    let mut chance = Chance(7);
    let mut all = vec![String::new()];
    all.extend(ARGUMENTS.iter().map(|one| (*one).to_owned()));
    for (many, times) in [(2, 150), (3, 120), (4, 40), (5, 10), (9, 3)] {
        all.extend((0..times).map(|_| (0..many).map(|_| chance.argument()).collect::<Vec<_>>().join(", ")));
    }
    all
}

/// What may not be: a fault of ours, a panic, or a call that takes seconds.
async fn ask(reports: &Reports, sql: &str) -> Option<String> {
    let started = Instant::now();
    let answer = reports.query(&caller(), sql).await;
    let took = started.elapsed();
    if took > Duration::from_secs(4) {
        return Some(format!("{took:?}: {sql}"));
    }
    match answer {
        Ok(result) => result.to_json().err().map(|e| format!("{e}, as JSON: {sql}")),
        Err(QueryError::Internal) => Some(format!("internal: {sql}")),
        Err(QueryError::Unsupported(m)) if m == "it panics" => Some(format!("panics: {sql}")),
        Err(e) if e.to_string().to_lowercase().contains("internal error") => Some(format!("{e}: {sql}")),
        Err(_) => None,
    }
}

async fn all(statements: impl IntoIterator<Item = String>) {
    let (reports, started) = (Arc::new(reports()), Instant::now());
    let (mut asked, mut wrong) = (0, Vec::new());
    let statements: Vec<String> = statements.into_iter().collect();
    let parts: Vec<Vec<String>> =
        (0..4).map(|part| statements.iter().skip(part).step_by(4).cloned().collect()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for part in parts {
        let reports = Arc::clone(&reports);
        tasks.spawn(async move {
            let mut wrong = Vec::new();
            for sql in &part {
                wrong.extend(ask(&reports, sql).await);
            }
            (part.len(), wrong)
        });
    }
    for (some, more) in tasks.join_all().await {
        asked += some;
        wrong.extend(more);
    }
    println!("{asked} statements in {:?}", started.elapsed());
    assert!(
        wrong.is_empty(),
        "{} of {asked}:\n{}",
        wrong.len(),
        wrong.iter().take(60).cloned().collect::<Vec<_>>().join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scalar_functions() {
    let [scalar, ..] = functions();
    assert!(scalar.len() > 100, "{}", scalar.len());
    let arguments = arguments();
    all(scalar.iter().flat_map(|name| arguments.iter().map(move |list| format!("SELECT {name}({list}) AS x FROM t"))))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_and_window_functions() {
    let [_, aggregates, windows] = functions();
    let arguments: Vec<String> = arguments().into_iter().step_by(2).collect();
    let frames = [
        "",
        " OVER ()",
        " OVER (ORDER BY n)",
        " OVER (PARTITION BY s ORDER BY at ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
        " OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 day' PRECEDING AND INTERVAL '1 month' FOLLOWING)",
        " OVER (ORDER BY n RANGE BETWEEN 9223372036854775807 PRECEDING AND 9223372036854775807 FOLLOWING)",
        " OVER (ORDER BY s RANGE BETWEEN 1 PRECEDING AND CURRENT ROW)",
        " OVER (ORDER BY at RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
        " OVER (ORDER BY n, s GROUPS BETWEEN 1 PRECEDING AND 18446744073709551615 FOLLOWING)",
        " IGNORE NULLS OVER (ORDER BY n)",
        " FILTER (WHERE b) OVER (ORDER BY f)",
    ];
    let ends = ["", " FILTER (WHERE n / 0 = 1)", " WITHIN GROUP (ORDER BY n)", " WITHIN GROUP (ORDER BY s DESC)"];
    let calls = |names: BTreeSet<String>, ends: Vec<&'static str>| {
        let arguments = arguments.clone();
        let mut at = 0;
        names.into_iter().flat_map(move |name| {
            let mut calls = Vec::new();
            for list in &arguments {
                // Each list with one end or another; together all of them.
                at += 1;
                calls.push(format!("SELECT {name}({list}){} AS x FROM t", ends[at % ends.len()]));
                calls.push(format!(
                    "SELECT {name}(DISTINCT {list}){} AS x FROM t GROUP BY s",
                    ends[(at / 3) % ends.len()]
                ));
            }
            calls
        })
    };
    let all_ends: Vec<&'static str> = frames.iter().chain(&ends).copied().collect();
    all(calls(aggregates, all_ends).chain(calls(windows, frames.into()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_casts() {
    let operators = [
        "+",
        "-",
        "*",
        "/",
        "%",
        "||",
        "=",
        "<>",
        "<",
        ">=",
        "AND",
        "OR",
        "XOR",
        "&",
        "|",
        "^",
        "<<",
        ">>",
        "~",
        "!~*",
        "LIKE",
        "NOT ILIKE",
        "SIMILAR TO",
        "IS DISTINCT FROM",
        "AT TIME ZONE",
        "IN (1, NULL,",
        "BETWEEN 1 AND",
        "->",
        "@>",
        "<@",
        "::text ||",
    ];
    let types = [
        "INT",
        "SMALLINT",
        "BIGINT",
        "TINYINT UNSIGNED",
        "DOUBLE",
        "REAL",
        "DECIMAL(38, 10)",
        "DECIMAL(76, 0)",
        "DECIMAL(0, 0)",
        "DECIMAL(5, 9)",
        "VARCHAR",
        "TEXT",
        "BYTEA",
        "BOOLEAN",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "TIMESTAMPTZ",
        "TIMESTAMP(0)",
        "TIMESTAMP(9)",
        "INTERVAL",
        "INT[]",
        "TEXT[]",
        "INT[0]",
        "INT[99999999]",
        "STRUCT<a INT>",
        "JSON",
        "UUID",
        "nosuch",
    ];
    let mut statements = Vec::new();
    for left in ARGUMENTS {
        for kind in types {
            statements.push(format!("SELECT CAST({left} AS {kind}) AS x FROM t"));
            statements.push(format!("SELECT TRY_CAST({left} AS {kind}) AS x FROM t"));
        }
        for prefix in ["-", "NOT ", "+", "~", "EXTRACT(day FROM ", "EXTRACT(nosuch FROM ", "INTERVAL "] {
            let close = if prefix.contains('(') { ")" } else { "" };
            statements.push(format!("SELECT {prefix}{left}{close} AS x FROM t"));
        }
        let mut chance = Chance(left.len() as u64);
        for operator in operators {
            let close = if operator.starts_with("IN") { ")" } else { "" };
            for _ in 0..6 {
                statements.push(format!("SELECT {left} {operator} {}{close} AS x FROM t", chance.argument()));
            }
        }
    }
    all(statements).await;
}

/// Statements that were answered as a fault of ours, and their siblings.
const CLAUSES: &[&str] = &[
    "SELECT (-1 AT TIME ZONE '%')",
    "SELECT 1 FROM t a JOIN t b ON (a.n, a.s) = (b.n)",
    "SELECT 1 FROM t a JOIN t b ON abs(a.n, b.n)",
    "SELECT 1 FROM t a JOIN t b ON nosuch(a.n)",
    "SELECT 1 FROM t a JOIN t b ON sum(a.n) > 1",
    "SELECT 1 FROM t a JOIN t b ON count(*) OVER () > 1",
    "SELECT 1 FROM t a JOIN t b ON a.n",
    "SELECT 1 FROM t a JOIN t b ON 'x'",
    "SELECT 1 FROM t a JOIN t b USING (nosuch)",
    "SELECT 1 FROM t a JOIN t b USING ()",
    "SELECT 1 FROM t a JOIN t b ON a.n = (SELECT max(n) FROM t c WHERE c.n = b.n)",
    "SELECT 1 FROM t a LEFT JOIN t b ON EXISTS (SELECT 1 FROM t c WHERE c.n = a.n AND c.n = b.n)",
    "SELECT nth_value(n, 0) OVER (ORDER BY n) FROM t",
    "SELECT nth_value(n, -9223372036854775808) OVER (ORDER BY n) FROM t",
    "SELECT ntile(0) OVER (ORDER BY n) FROM t",
    "SELECT lag(n, 9223372036854775807) OVER (ORDER BY n) FROM t",
    "SELECT sum(n) OVER (ORDER BY at RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW) FROM t",
    "SELECT sum(n) OVER (ORDER BY n RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW) FROM t",
    "SELECT sum(n) OVER (ORDER BY s RANGE BETWEEN 'a' PRECEDING AND CURRENT ROW) FROM t",
    "SELECT sum(n) OVER (ORDER BY n, f RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
    "SELECT sum(n) OVER (RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
    "SELECT sum(n) OVER (ROWS BETWEEN 1 FOLLOWING AND 1 PRECEDING) FROM t",
    "SELECT sum(n) OVER (ROWS BETWEEN -1 PRECEDING AND CURRENT ROW) FROM t",
    "SELECT sum(n) OVER (ROWS BETWEEN n PRECEDING AND CURRENT ROW) FROM t",
    "SELECT sum(n) OVER w FROM t",
    "SELECT sum(n) OVER (w ORDER BY n) FROM t WINDOW w AS (w)",
    "SELECT sum(s) FROM t",
    "SELECT sum(INTERVAL '1 day') FROM t",
    "SELECT sum(at) FROM t",
    "SELECT sum(b) FROM t",
    "SELECT avg(l) FROM t",
    "SELECT sum(sum(n)) FROM t",
    "SELECT n FROM t GROUP BY 99",
    "SELECT n FROM t ORDER BY 99",
    "SELECT n FROM t ORDER BY -1",
    "SELECT n FROM t GROUP BY sum(n)",
    "SELECT n FROM t WHERE sum(n) > 1",
    "SELECT n FROM t HAVING n > 1",
    "SELECT n FROM t LIMIT -1",
    "SELECT n FROM t LIMIT n",
    "SELECT n FROM t LIMIT 'a'",
    "SELECT n FROM t LIMIT 1.5",
    "SELECT n FROM t LIMIT NULL",
    "SELECT n FROM t LIMIT 18446744073709551616",
    "SELECT n FROM t OFFSET 18446744073709551615",
    "SELECT n FROM t LIMIT 9223372036854775807 OFFSET 9223372036854775807",
    "SELECT n FROM t LIMIT (SELECT 1)",
    "SELECT n FROM t WHERE n",
    "SELECT n FROM t WHERE 'a'",
    "SELECT n FROM t WHERE (n, s) IN (SELECT n, s FROM t)",
    "SELECT n FROM t WHERE n IN (SELECT n, s FROM t)",
    "SELECT n FROM t WHERE n = (SELECT n FROM t)",
    "SELECT n FROM t WHERE n = (SELECT n, s FROM t)",
    "SELECT n FROM t WHERE n > ALL (SELECT n FROM t)",
    "SELECT n FROM t WHERE n = ANY (1)",
    "SELECT n FROM t WHERE n = ANY (SELECT n FROM t)",
    "SELECT (SELECT a.n FROM t b WHERE b.n > a.n) FROM t a",
    "SELECT (SELECT count(*) FROM t b WHERE b.n > a.n GROUP BY a.n) FROM t a",
    "SELECT EXISTS (SELECT 1 FROM t b WHERE b.n > a.n LIMIT 0) FROM t a",
    "SELECT n FROM t UNION SELECT n, s FROM t",
    "SELECT n FROM t UNION ALL SELECT l FROM t",
    "SELECT l FROM t UNION SELECT b FROM t",
    "SELECT * FROM t INTERSECT SELECT * FROM t",
    "SELECT *, * FROM t",
    "SELECT t.* FROM t, t",
    "SELECT * EXCEPT (nosuch) FROM t",
    "SELECT * EXCEPT (n, s, f, b, at, l) FROM t",
    "SELECT * REPLACE (1 AS nosuch) FROM t",
    "SELECT * EXCLUDE (n) FROM t",
    "SELECT DISTINCT ON (nosuch) n FROM t",
    "SELECT DISTINCT ON (n) s FROM t ORDER BY f",
    "SELECT l[1], l[0], l[-9223372036854775808], l[9223372036854775807] FROM t",
    "SELECT l[1:2] FROM t",
    "SELECT n[1] FROM t",
    "SELECT n.a FROM t",
    "SELECT t.n.a FROM t",
    "SELECT l.a FROM t",
    "SELECT [1, 'a', NULL]",
    "SELECT {'a': 1}",
    "SELECT MAP {'a': 1}",
    "SELECT struct(1, 2)",
    "SELECT named_struct('a', 1)",
    "SELECT ROW(1, 2)",
    "SELECT (1, 2)",
    "SELECT INTERVAL 'nonsense'",
    "SELECT INTERVAL '1' nosuch",
    "SELECT INTERVAL '99999999999999999999 years'",
    "SELECT INTERVAL 1 + 1 DAY",
    "SELECT DATE 'nonsense'",
    "SELECT TIMESTAMP '99999-99-99'",
    "SELECT DATE '2024-01-01' + INTERVAL '9999999 years'",
    "SELECT TIMESTAMP '2024-01-01' - TIMESTAMP '1677-09-22'",
    "SELECT at + INTERVAL '1 month' FROM t",
    "SELECT at - at FROM t",
    "SELECT now() AT TIME ZONE s FROM t",
    "SELECT 9223372036854775807 + 1",
    "SELECT -9223372036854775808 / -1",
    "SELECT n / -1 FROM t",
    "SELECT n % 0 FROM t",
    "SELECT abs(n) FROM t",
    "SELECT 99999999999999999999999999999999999999999999999999999999999999999999999999999999",
    "SELECT 1e999",
    "SELECT 0x",
    "SELECT X'0'",
    "SELECT U&'\\D800'",
    "SELECT E'\\xff'",
    "SELECT n FROM t GROUP BY GROUPING SETS ((n), (s), ())",
    "SELECT grouping(n), grouping(s) FROM t GROUP BY CUBE (n, s)",
    "SELECT grouping(f) FROM t GROUP BY n",
    "SELECT n FROM t GROUP BY ALL",
    "SELECT n FROM t ORDER BY ALL",
    "SELECT n FROM t QUALIFY row_number() OVER () = 1",
    "SELECT n FROM t QUALIFY n = 1",
    "SELECT unnest(l) FROM t",
    "SELECT unnest(n) FROM t",
    "SELECT unnest(unnest(l)) FROM t",
    "SELECT * FROM unnest([1, 2])",
    "SELECT * FROM UNNEST(1)",
    "SELECT * FROM t, UNNEST(t.l)",
    "SELECT * FROM t, LATERAL (SELECT t.n) x",
    "SELECT * FROM t TABLESAMPLE BERNOULLI (10)",
    "SELECT * FROM t PIVOT (sum(n) FOR s IN ('a'))",
    "SELECT * FROM t UNPIVOT (x FOR y IN (n, f))",
    "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (a) DEFINE a AS true)",
    "SELECT * FROM (VALUES (1), (1, 2)) v",
    "SELECT * FROM (VALUES (1), ('a'), (NULL)) v",
    "VALUES ()",
    "SELECT * FROM (SELECT 1) v (a, b)",
    "SELECT a.n FROM t",
    "SELECT n AS a, a + 1 FROM t",
    "SELECT s COLLATE \"C\" FROM t",
    "SELECT s LIKE 'a' ESCAPE '' FROM t",
    "SELECT s LIKE 'a' ESCAPE 'ab' FROM t",
    "SELECT s SIMILAR TO '(((' FROM t",
    "SELECT s ~ '(((' FROM t",
    "SELECT s ~ s FROM t",
    "SELECT CASE WHEN 'a' THEN 1 END",
    "SELECT CASE n WHEN 'a' THEN 1 WHEN l THEN 's' END FROM t",
    "SELECT array_agg(l ORDER BY n, f DESC NULLS FIRST) FROM t",
    "SELECT string_agg(s) FROM t",
    "SELECT string_agg(s, n) FROM t",
    "SELECT percentile_cont(2) WITHIN GROUP (ORDER BY n) FROM t",
    "SELECT percentile_cont(n) WITHIN GROUP (ORDER BY n) FROM t",
    "SELECT approx_percentile_cont(n, -1) FROM t",
    "SELECT approx_percentile_cont(0.5, 0) WITHIN GROUP (ORDER BY n) FROM t",
    "SELECT first_value(n) FROM t",
    "SELECT count(DISTINCT n, s) FROM t",
    "SELECT count(DISTINCT *) FROM t",
    "SELECT count(*) FILTER (WHERE sum(n) > 1) FROM t",
    "SELECT business_seconds(at, at) FROM t",
    "SELECT covered_ms(at, at) FROM t",
    "EXPLAIN SELECT n FROM t",
    "SELECT n FROM t FORMAT Parquet",
];

#[tokio::test(flavor = "multi_thread")]
async fn clauses() {
    let mut statements: Vec<String> = CLAUSES.iter().map(|sql| (*sql).to_owned()).collect();
    // The same over no rows, and below another query.
    let around: Vec<String> = statements
        .iter()
        .filter(|sql| sql.starts_with("SELECT") && !sql.contains("FORMAT"))
        .flat_map(|sql| {
            [format!("SELECT * FROM ({sql}) q WHERE 1 = 0"), format!("WITH q AS ({sql}) SELECT count(*) FROM q, q r")]
        })
        .collect();
    statements.extend(around);
    all(statements).await;
}
