//! Tables under the versions of the metrics' definitions: what each shows of the same rows, in memory, in files and in files
//! that are older than a column.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use sql::{
    Caller, Limits, MetricsVersion, NewestBy, NotFresh, ParquetFile, Reports, RowFilters, SnapshotGuard, TableDef,
    TableName, TableSnapshot, TableView, TablesError, TenantTables,
};

use crate::support::{caller, file, show};

/// A table `scores`: of version 1 each row, of version 2 the last of each thread, to another agent's credit.
struct Scores {
    files: Vec<ParquetFile>,
    batches: Vec<RecordBatch>,
    version: Option<u64>,
}

fn shown() -> SchemaRef {
    let stored = stored();
    let first = Field::new("agent_v1", DataType::Utf8, true);
    Arc::new(Schema::new(stored.fields().iter().cloned().chain([Arc::new(first)]).collect::<Vec<_>>()))
}

fn stored() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let fields = [Field::new("seq", DataType::Int64, false), text("agent"), text("agent_v2"), text("thread_v2")];
    Arc::new(Schema::new(fields.to_vec()))
}

/// (seq, agent, agent by version 2, thread)
fn rows(rows: &[(i64, &str, &str, &str)]) -> RecordBatch {
    let text = |cell: fn(&(i64, &str, &str, &str)) -> String| {
        Arc::new(rows.iter().map(|row| Some(cell(row))).collect::<StringArray>()) as ArrayRef
    };
    let seqs: Int64Array = rows.iter().map(|row| Some(row.0)).collect();
    let columns = vec![
        Arc::new(seqs) as ArrayRef,
        text(|row| row.1.to_owned()),
        text(|row| row.2.to_owned()),
        text(|row| row.3.to_owned()),
    ];
    RecordBatch::try_new(stored(), columns).expect("rows")
}

#[async_trait]
impl TenantTables for Scores {
    fn tables(&self, _: &str) -> Vec<TableDef> {
        vec![TableDef { name: "scores".into(), schema: shown() }]
    }

    fn snapshot(&self, _: &str, _: &str) -> Result<TableSnapshot, TablesError> {
        let (files, batches, guard) = (self.files.clone(), self.batches.clone(), SnapshotGuard::new(()));
        Ok(TableSnapshot { schema: stored(), files, batches, newest_by: None, guard })
    }

    fn view(&self, _: &str, metrics: MetricsVersion) -> Option<TableView> {
        let newest_by = NewestBy { key: "thread_v2", version: "seq", fixed: &["thread_v2"], rising: &["seq"] };
        Some(match metrics {
            MetricsVersion::V1 => TableView { columns: &[("agent_v1", "agent")], newest_by: None },
            MetricsVersion::V2 => {
                TableView { columns: &[("agent", "agent_v2"), ("agent_v1", "agent")], newest_by: Some(newest_by) }
            }
        })
    }

    async fn wait_fresh(&self) -> Result<(), NotFresh> {
        Ok(())
    }

    fn version(&self, _: &str) -> Option<u64> {
        self.version
    }
}

fn engine(dir: &std::path::Path, version: Option<u64>) -> Reports {
    // As a build wrote it that knew no version 2.
    let old = rows(&[(1, "ann", "", ""), (2, "ann", "", "")]).project(&[0, 1]).expect("columns");
    let flushed = rows(&[(3, "ann", "bob", "t1"), (4, "ann", "bob", "t2")]);
    let files = vec![file(dir, "old.parquet", &old), file(dir, "new.parquet", &flushed)];
    let batches = vec![rows(&[(5, "eve", "bob", "t1"), (6, "eve", "cat", "t3")])];
    Reports::new(Arc::new(Scores { files, batches, version }), Limits::default()).expect("the engine starts")
}

fn under(metrics: MetricsVersion) -> Caller {
    Caller { metrics, ..caller("acme") }
}

#[tokio::test]
async fn each_version_shows_its_own_columns_and_rows() {
    let dir = tempfile::tempdir().expect("a directory");
    // Plans and answers are kept, or not.
    for version in [None, Some(1)] {
        let reports = engine(dir.path(), version);
        for (sql, first, second) in [
            ("SELECT count(*) AS n FROM scores", "6", "5"),
            ("SELECT string_agg(agent, ' ' ORDER BY seq) AS n FROM scores", "ann ann ann ann eve eve", "bob bob cat"),
            (
                "SELECT string_agg(agent_v1, ' ' ORDER BY seq) AS n FROM scores",
                "ann ann ann ann eve eve",
                "ann ann ann eve eve",
            ),
            ("SELECT string_agg(agent_v2, ' ' ORDER BY seq) AS n FROM scores", "bob bob bob cat", "bob bob cat"),
            (
                "SELECT string_agg(agent || agent_v1, ' ' ORDER BY seq) AS n FROM scores",
                "annann annann annann annann eveeve eveeve",
                "bobann bobeve cateve",
            ),
            ("SELECT count(*) AS n FROM scores WHERE agent = 'bob'", "0", "2"),
            ("SELECT count(*) AS n FROM scores WHERE agent_v1 = 'ann'", "4", "3"),
            ("SELECT count(*) AS n FROM scores WHERE agent IS NULL", "0", "2"),
            // What was replaced isn't there, whatever is asked of it.
            ("SELECT count(*) AS n FROM scores WHERE seq < 5 AND thread_v2 = 't1'", "1", "0"),
            ("SELECT count(*) AS n FROM scores WHERE seq >= 4", "3", "3"),
            ("SELECT count(*) AS n FROM scores a JOIN scores b ON a.agent = b.agent_v1", "20", "0"),
        ] {
            // Again after the other: neither's plan or answer is the other's.
            for _ in 0..2 {
                for (metrics, expected) in [(MetricsVersion::V1, first), (MetricsVersion::V2, second)] {
                    let answer = show(reports.query(&under(metrics), sql).await);
                    let cell = answer.lines().nth(1).unwrap_or(&answer).trim_matches('"').to_owned();
                    assert_eq!(cell, expected, "{metrics:?}: {sql}\n{answer}");
                }
            }
        }
    }
}

/// A filter is asked of what its caller would see.
#[tokio::test]
async fn a_row_filter_is_of_the_shown_columns() {
    let dir = tempfile::tempdir().expect("a directory");
    let reports = engine(dir.path(), Some(1));
    let filters = RowFilters::from([(TableName::of("scores"), vec!["agent = 'bob'".to_owned()])]);
    for (metrics, expected) in [(MetricsVersion::V1, "0"), (MetricsVersion::V2, "2")] {
        let who = Caller { filters: filters.clone(), ..under(metrics) };
        let answer = show(reports.query(&who, "SELECT count(*) AS n FROM scores").await);
        assert_eq!(answer.lines().nth(1), Some(expected), "{metrics:?}: {answer}");
    }
}
