//! Plans that are kept: the same statement again, and what has changed since.

use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use sql::{
    Caller, Limits, NotFresh, Opening, Reports, RowFilters, SnapshotGuard, TableDef, TableName, TableSnapshot,
    TablesError, TenantTables,
};

use crate::support::{Facts, caller, messages, run, show};

/// Facts that are exchanged between calls, and a table `orders` of the tenants' own whose columns come and go.
#[derive(Default)]
struct Changing {
    facts: Mutex<Arc<Facts>>,
    orders: Mutex<Option<Vec<&'static str>>>,
}

impl Changing {
    fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts.lock().expect("facts"))
    }

    fn now(&self, facts: Facts) {
        *self.facts.lock().expect("facts") = Arc::new(facts);
    }

    fn order(&self, columns: Option<Vec<&'static str>>) {
        *self.orders.lock().expect("columns") = columns;
    }

    fn orders(&self) -> Option<TableDef> {
        let columns = self.orders.lock().expect("columns").clone()?;
        let fields: Vec<_> = columns.into_iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
        Some(TableDef { name: "orders".into(), schema: Arc::new(Schema::new(fields)) })
    }
}

#[async_trait]
impl TenantTables for Changing {
    fn tables(&self, tenant: &str) -> Vec<TableDef> {
        self.facts().tables(tenant).into_iter().chain(self.orders()).collect()
    }

    /// Each order's cells are the names of its columns.
    fn snapshot(&self, tenant: &str, table: &str) -> Result<TableSnapshot, TablesError> {
        let Some(def) = self.orders().filter(|def| *def.name == *table) else {
            return self.facts().snapshot(tenant, table);
        };
        let cells = def.schema.fields().iter().map(|field| {
            Arc::new(arrow::array::StringArray::from(vec![field.name().clone()])) as arrow::array::ArrayRef
        });
        let batch = RecordBatch::try_new(Arc::clone(&def.schema), cells.collect())
            .map_err(|e| TablesError::Fault(e.to_string()))?;
        let guard = SnapshotGuard::new(());
        Ok(TableSnapshot { schema: def.schema, files: Vec::new(), batches: vec![batch], newest_by: None, guard })
    }

    fn opening(&self, tenant: &str) -> Result<Opening, TablesError> {
        self.facts().opening(tenant)
    }

    async fn wait_fresh(&self) -> Result<(), NotFresh> {
        Ok(())
    }

    /// No answer is kept.
    fn version(&self, _: &str) -> Option<u64> {
        None
    }
}

fn engine() -> (Arc<Changing>, Reports) {
    let tables = Arc::new(Changing::default());
    let reports = Reports::new(Arc::clone(&tables) as _, Limits::default()).expect("the engine starts");
    (tables, reports)
}

fn some(acme: i64, globex: i64) -> Facts {
    Facts::default().add("acme", "messages", &messages(0, acme)).add("globex", "messages", &messages(0, globex))
}

/// The newest rows, in memory and in files, and each tenant its own.
#[tokio::test]
async fn a_kept_plan_reads_the_rows_of_its_call() {
    let (tables, reports) = engine();
    let dir = tempfile::tempdir().expect("a directory");
    let sql = "SELECT count(*) AS n FROM messages WHERE seq >= 0";
    for (acme, globex) in [(10, 3), (11, 3), (11, 40), (0, 0), (5_000, 1)] {
        tables.now(some(acme, globex));
        assert_eq!(run(&reports, "acme", sql).await, format!("n Int64\n{acme}\n"));
        assert_eq!(run(&reports, "globex", sql).await, format!("n Int64\n{globex}\n"));
    }
    let rows = crate::support::rows("messages", &messages(0, 7));
    let file = crate::support::file(dir.path(), "seven.parquet", &rows);
    tables.now(some(2, 0).add_file("acme", "messages", file));
    assert_eq!(run(&reports, "acme", sql).await, "n Int64\n9\n");
    // The plan doesn't hold the file.
    tables.now(some(2, 0));
    drop(dir);
    assert_eq!(run(&reports, "acme", sql).await, "n Int64\n2\n");
}

#[tokio::test]
async fn a_kept_plan_hides_what_its_caller_may_not_see() {
    let (tables, reports) = engine();
    tables.now(some(10, 3));
    let sql = "SELECT count(*) AS n, max(seq) AS last FROM messages WHERE seq > 1";
    let narrow = |condition: &str| Caller {
        filters: RowFilters::from([(TableName::of("messages"), vec![condition.to_owned()])]),
        ..caller("acme")
    };
    for _ in 0..2 {
        assert_eq!(run(&reports, "acme", sql).await, "n Int64 | last Nullable(Int64)\n8 | 9\n");
        let few = show(reports.query(&narrow("seq < 4"), sql).await);
        assert_eq!(few, "n Int64 | last Nullable(Int64)\n2 | 3\n");
        let fewer = show(reports.query(&narrow("seq < 3"), sql).await);
        assert_eq!(fewer, "n Int64 | last Nullable(Int64)\n1 | 2\n");
    }
}

/// A table that has other columns, is gone, and is there again.
#[tokio::test]
async fn a_plan_over_other_columns_is_not_taken() {
    let (tables, reports) = engine();
    let sql = "SELECT * FROM orders";
    for (columns, expected) in [
        (Some(vec!["a", "b"]), "a Nullable(String) | b Nullable(String)\n\"a\" | \"b\"\n"),
        (Some(vec!["b", "a"]), "b Nullable(String) | a Nullable(String)\n\"b\" | \"a\"\n"),
        (None, "404 table_not_found: no table named `orders`\n"),
        (Some(vec!["a"]), "a Nullable(String)\n\"a\"\n"),
        (Some(vec!["a", "b"]), "a Nullable(String) | b Nullable(String)\n\"a\" | \"b\"\n"),
    ] {
        tables.order(columns);
        assert_eq!(run(&reports, "acme", sql).await, expected);
        assert_eq!(run(&reports, "acme", sql).await, expected);
    }
}

/// Opening hours are the tenant's of now, also of spans that are known when the plan is made, and where a rule of the
/// optimizer wants to know them.
#[tokio::test]
async fn business_hours_are_those_of_the_call() {
    const DAY: &str = "business_seconds(TIMESTAMP '2024-05-20 00:00:00', TIMESTAMP '2024-05-21 00:00:00')";
    let (tables, reports) = engine();
    let statements = [
        format!("SELECT {DAY} AS s"),
        format!("SELECT s FROM (SELECT {DAY} AS s) WHERE s > 60"),
        "SELECT max(business_seconds(occurred_at, occurred_at + INTERVAL '1 day')) AS s FROM messages".to_owned(),
        format!(
            "SELECT (SELECT count(*) * {DAY} FROM messages b WHERE b.seq = a.seq) AS s FROM messages a WHERE seq = 3"
        ),
    ];
    let mut mornings = Opening::default();
    (0..7).for_each(|day| mornings.add(day, 8 * 60, 12 * 60));
    for (opening, seconds) in [(Opening::default(), "86400"), (mornings.clone(), "14400"), (mornings, "14400")] {
        tables.now(some(5, 0).open(opening));
        for sql in &statements {
            let answer = run(&reports, "acme", sql).await;
            assert_eq!(
                answer.split_once('\n').map(|(_, rows)| rows),
                Some(format!("{seconds}\n").as_str()),
                "{sql}: {answer}"
            );
        }
    }
}

/// What a call may make of text is each call's own.
#[tokio::test]
async fn texts_are_bounded_call_by_call() {
    let (tables, reports) = engine();
    tables.now(some(1_000, 0));
    let sql = "SELECT max(length(repeat(author_id, 5000))) AS n FROM messages";
    for _ in 0..20 {
        assert_eq!(run(&reports, "acme", sql).await, "n Nullable(Int32)\n10000\n");
    }
}
