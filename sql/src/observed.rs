//! What became of each call: two tables of the tenant's own, `endpoint_stats` and `endpoint_errors`, and a line in the
//! server's log for a slow one. They are kept in memory, the last [`CALLS_MAX`] calls a tenant, since the server started.
//! Start at [`Observed::note`].

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use lru::LruCache;

use crate::call::QueryResult;
use crate::catalog::{NotFresh, SnapshotGuard, TableDef, TableSnapshot, TablesError, TenantTables};
use crate::definitions::{MetricsVersion, TableView};
use crate::error::QueryError;
use crate::hours::Opening;

/// The tables that are made here.
pub(crate) const TABLES: [&str; 2] = ["endpoint_stats", "endpoint_errors"];
/// The word for a call that is no endpoint's: `/v0/sql` and the Postgres wire.
pub(crate) const QUERY: &str = "query_api";
/// Calls kept a tenant; about 150 bytes each.
const CALLS_MAX: usize = 1_000;
/// Tenants of whom calls are kept, those who called last.
const TENANTS_MAX: NonZeroUsize = NonZeroUsize::new(500).expect("it isn't zero");
/// Of an error's text.
const ERROR_BYTES_MAX: usize = 500;
/// A call that takes longer is in the server's log.
const SLOW: Duration = Duration::from_secs(1);

struct Call {
    at_ms: i64,
    endpoint: String,
    seconds: f64,
    status: u16,
    cached: bool,
    rows: u64,
    rows_read: u64,
    bytes_read: u64,
    /// Its code and its text.
    error: Option<(&'static str, String)>,
}

/// The last calls of every tenant.
pub(crate) struct Observed(Mutex<LruCache<String, VecDeque<Call>>>);

impl Default for Observed {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(TENANTS_MAX)))
    }
}

impl Observed {
    /// Takes down a call that has ended, and logs it if it was slow: by its endpoint and its costs, never by its text.
    pub(crate) fn note(
        &self,
        (tenant, at_ms): (&str, i64),
        endpoint: &str,
        took: Duration,
        outcome: &Result<(QueryResult, bool), QueryError>,
    ) {
        let mut call = Call {
            at_ms,
            endpoint: endpoint.to_owned(),
            seconds: took.as_secs_f64(),
            status: 200,
            cached: false,
            rows: 0,
            rows_read: 0,
            bytes_read: 0,
            error: None,
        };
        match outcome {
            Ok((result, cached)) => {
                (call.cached, call.rows) = (*cached, result.rows as u64);
                (call.rows_read, call.bytes_read) = (result.rows_read, result.bytes_read);
            }
            Err(error) => {
                let mut text = error.to_string();
                text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
                (call.status, call.error) = (error.status(), Some((error.code(), text)));
            }
        }
        if took >= SLOW {
            tracing::warn!(
                tenant,
                endpoint,
                elapsed_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                status = call.status,
                rows_read = call.rows_read,
                bytes_read = call.bytes_read,
                "slow report"
            );
        }
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = tenants.get_or_insert_mut(tenant.to_owned(), VecDeque::new);
        if calls.len() == CALLS_MAX {
            calls.pop_front();
        }
        calls.push_back(call);
    }

    fn batch(&self, tenant: &str, errors: bool) -> Result<RecordBatch, arrow::error::ArrowError> {
        let tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = tenants.peek(tenant).into_iter().flatten();
        let calls: Vec<&Call> = calls.filter(|call| !errors || call.error.is_some()).collect();
        let times: TimestampMillisecondArray = calls.iter().map(|call| Some(call.at_ms)).collect();
        let ints = |of: fn(&Call) -> u64| -> ArrayRef {
            Arc::new(calls.iter().map(|call| of(call).cast_signed()).collect::<Int64Array>())
        };
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(times.with_timezone("UTC")),
            Arc::new(calls.iter().map(|call| Some(call.endpoint.as_str())).collect::<StringArray>()),
            Arc::new(calls.iter().map(|call| call.seconds).collect::<Float64Array>()),
            ints(|call| u64::from(call.status)),
        ];
        if errors {
            let of = |error: &dyn Fn(&Call) -> Option<String>| -> ArrayRef {
                Arc::new(calls.iter().map(|call| error(call)).collect::<StringArray>())
            };
            columns.push(of(&|call| call.error.as_ref().map(|(code, _)| (*code).to_owned())));
            columns.push(of(&|call| call.error.as_ref().map(|(_, text)| text.clone())));
            return RecordBatch::try_new(Arc::clone(&SCHEMAS[1]), columns);
        }
        columns.push(Arc::new(calls.iter().map(|call| Some(call.cached)).collect::<BooleanArray>()));
        columns.extend([ints(|call| call.rows), ints(|call| call.rows_read), ints(|call| call.bytes_read)]);
        RecordBatch::try_new(Arc::clone(&SCHEMAS[0]), columns)
    }
}

static SCHEMAS: LazyLock<[SchemaRef; 2]> = LazyLock::new(|| {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let shared = [
        Field::new("start_datetime", time, false),
        Field::new("endpoint", DataType::Utf8, false),
        Field::new("duration_seconds", DataType::Float64, false),
        Field::new("status", DataType::Int64, false),
    ];
    let int = |name: &str| Field::new(name, DataType::Int64, false);
    let stats = [Field::new("cached", DataType::Boolean, false), int("rows"), int("rows_read"), int("bytes_read")];
    let errors = [Field::new("code", DataType::Utf8, false), Field::new("error", DataType::Utf8, false)];
    let with = |more: &[Field]| Arc::new(Schema::new([&shared, more].concat()));
    [with(&stats), with(&errors)]
});

/// The tenants' tables, and what became of their calls beside them.
pub(crate) struct WithObserved {
    pub(crate) tables: Arc<dyn TenantTables>,
    pub(crate) observed: Arc<Observed>,
}

#[async_trait]
impl TenantTables for WithObserved {
    fn tables(&self, tenant: &str) -> Vec<TableDef> {
        let mut tables = self.tables.tables(tenant);
        let own = TABLES.iter().zip(SCHEMAS.iter());
        tables.extend(own.map(|(name, schema)| TableDef { name: (*name).into(), schema: Arc::clone(schema) }));
        tables
    }

    fn snapshot(&self, tenant: &str, table: &str) -> Result<TableSnapshot, TablesError> {
        let Some(place) = TABLES.iter().position(|name| *name == table) else {
            return self.tables.snapshot(tenant, table);
        };
        let batch = self.observed.batch(tenant, place == 1).map_err(|e| TablesError::Fault(e.to_string()))?;
        let schema = Arc::clone(&SCHEMAS[place]);
        let guard = SnapshotGuard::new(());
        Ok(TableSnapshot { schema, files: Vec::new(), batches: vec![batch], newest_by: None, guard })
    }

    fn view(&self, table: &str, metrics: MetricsVersion) -> Option<TableView> {
        self.tables.view(table, metrics)
    }

    fn opening(&self, tenant: &str) -> Result<Opening, TablesError> {
        self.tables.opening(tenant)
    }

    async fn wait_fresh(&self) -> Result<(), NotFresh> {
        self.tables.wait_fresh().await
    }

    fn version(&self, tenant: &str) -> Option<u64> {
        self.tables.version(tenant)
    }
}
