//! The engine: a caller's SQL or an endpoint's call in, a bounded result out.
//! Everything runs on the engine's own low-priority threads with large stacks; the caller's thread only waits, and a
//! caller that stops waiting stops its query. Start at [`Reports::query`].

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use chrono::DateTime;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

use crate::catalog::{CallCatalog, TableDef, TenantTables};
use crate::endpoints::{EndpointDescription, Endpoints, LoadError};
use crate::error::{QueryError, from_datafusion};
use crate::format::{self, Format};
use crate::gate::{self, Passed};
use crate::hours::Clock;
use crate::tenants::{Slot, Tenants};
use crate::watch::{self, Watch};
use crate::{measure, session, template};

/// Parsing and planning are recursive; [`gate::OPERATORS_MAX`] operators need well under a tenth of this.
const STACK_BYTES: usize = 16 * 1024 * 1024;
/// What the caller's side waits on top of the limit: the engine's own timer answers first unless its thread is stuck.
const GRACE: Duration = Duration::from_millis(200);

/// What a query may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Threads that run queries; also how many parts a query is cut into.
    pub threads: usize,
    /// Queries of one tenant that run at once.
    pub running_per_tenant: usize,
    /// Queries of one tenant that wait for their turn; one more is refused (429).
    pub waiting_per_tenant: usize,
    /// From the call to the last row, waiting included (408).
    pub time: Duration,
    /// Working memory of all running queries of a tenant (413).
    pub memory_bytes_per_tenant: usize,
    /// Temporary disk of all running queries of a tenant (413).
    pub temp_bytes_per_tenant: u64,
    /// Where temporary files go; the system's directory when `None`.
    pub temp_dir: Option<PathBuf>,
    /// Rows of a result (413).
    pub result_rows: usize,
    /// Bytes of a result in memory, about those of its text (413).
    pub result_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            threads: cores.clamp(2, 8),
            running_per_tenant: 4,
            waiting_per_tenant: 60,
            time: Duration::from_secs(10),
            memory_bytes_per_tenant: 256 * 1024 * 1024,
            temp_bytes_per_tenant: 1024 * 1024 * 1024,
            temp_dir: None,
            result_rows: 100_000,
            result_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A request's parameters: each one's texts in the order they came.
pub type Params = BTreeMap<String, Vec<String>>;

/// Conditions that a table's rows must all meet for a caller, by table: SQL over that table's columns.
pub type RowFilters = BTreeMap<String, Vec<String>>;

/// Who asks, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// From the credential, never from the request.
    pub tenant: String,
    /// The tenant's IANA zone; UTC when it is not one.
    pub time_zone: String,
    /// Milliseconds since 1970: `now()`, and the end of the default period.
    pub now_ms: i64,
    /// From the credential, never from the request. They hold wherever the tables are named, in endpoints too.
    pub filters: RowFilters,
}

/// All rows of a query, within [`Limits`].
#[derive(Debug, Clone)]
pub struct QueryResult {
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// The rows, in order.
    pub batches: Vec<RecordBatch>,
    /// How many.
    pub rows: usize,
    /// At least `rows`.
    pub rows_before_limit_at_least: usize,
    /// From the call to the last row.
    pub elapsed: Duration,
    /// Rows that the scans gave out, after pruning.
    pub rows_read: u64,
    /// Bytes that the scans read.
    pub bytes_read: u64,
    /// Bytes of `batches`.
    pub bytes: usize,
    /// The statement's own `FORMAT`, if it has one.
    pub format: Option<Format>,
}

impl QueryResult {
    /// The answer as Tinybird's JSON. Takes milliseconds a megabyte: [`Reports::encode`] does it off the caller's thread.
    /// # Errors  `Internal` for a value that cannot be shown.
    pub fn to_json(&self) -> Result<Vec<u8>, QueryError> {
        format::encode(self, Format::Json, usize::MAX)
    }
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file that is built in cannot be served.
    #[error(transparent)]
    Endpoint(#[from] LoadError),
    /// The threads could not be started.
    #[error("failed to start the report threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// The report engine of an installation. Dropping it stops its threads.
pub struct Reports {
    inner: Arc<Inner>,
    runtime: Option<Runtime>,
}

struct Inner {
    tables: Arc<dyn TenantTables>,
    limits: Limits,
    endpoints: Endpoints,
    tenants: Tenants,
}

/// What to run: read on the engine's threads, since reading is recursive too.
enum Work {
    Sql(String),
    Endpoint { name: String, params: Params, over: Option<String> },
}

impl Reports {
    /// Starts the threads and reads the endpoints.
    /// # Errors  See [`StartError`].
    pub fn new(tables: Arc<dyn TenantTables>, limits: Limits) -> Result<Self, StartError> {
        let endpoints = Endpoints::shipped()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(limits.threads.max(1))
            .thread_stack_size(STACK_BYTES)
            .thread_name("reports")
            .on_thread_start(lower_priority)
            .enable_all()
            .build()?;
        let inner = Arc::new(Inner { tables, tenants: Tenants::new(limits.clone()), limits, endpoints });
        Ok(Self { inner, runtime: Some(runtime) })
    }

    /// Runs one SELECT over the caller's tables. Dropping the future stops it.
    /// # Errors  See [`QueryError`].
    pub async fn query(&self, caller: &Caller, sql: &str) -> Result<QueryResult, QueryError> {
        self.run(caller.clone(), Work::Sql(sql.to_owned())).await
    }

    /// Calls an endpoint. `params` are the request's; reserved and unknown ones are ignored.
    /// # Errors  See [`QueryError`].
    pub async fn endpoint(&self, caller: &Caller, name: &str, params: &Params) -> Result<QueryResult, QueryError> {
        let work = Work::Endpoint { name: name.to_owned(), params: params.clone(), over: None };
        self.run(caller.clone(), work).await
    }

    /// Calls an endpoint and runs a SELECT over its result, which is the one table there is: `_`.
    /// # Errors  See [`QueryError`].
    pub async fn endpoint_over(
        &self,
        caller: &Caller,
        name: &str,
        params: &Params,
        sql: &str,
    ) -> Result<QueryResult, QueryError> {
        let work = Work::Endpoint { name: name.to_owned(), params: params.clone(), over: Some(sql.to_owned()) };
        self.run(caller.clone(), work).await
    }

    /// The tables that a statement names, for a route to check scopes before it runs the statement. Without
    /// duplicates, sorted; a name that is no table is among them.
    /// # Errors  As [`Reports::query`] for a statement that may not run at all.
    pub async fn tables_named(&self, sql: &str) -> Result<Vec<String>, QueryError> {
        let sql = sql.to_owned();
        self.spawn(async move { gate::read(&sql).map(|passed| passed.tables) }).await
    }

    /// Whether a row filter can be read, and fits its table if there is one of that name.
    /// # Errors  What is wrong with it.
    pub async fn check_filter(&self, tenant: &str, table: &str, condition: &str) -> Result<(), QueryError> {
        let inner = Arc::clone(&self.inner);
        let (condition, tenant) = (condition.to_owned(), Arc::<str>::from(tenant));
        let filters = RowFilters::from([(table.to_owned(), vec![condition.clone()])]);
        self.spawn(async move {
            gate::condition(&condition)?;
            let slot = inner.tenants.slot(&tenant)?;
            let catalog = CallCatalog::new(&inner.tables, &tenant);
            let clock = Clock::new(&inner.tables, &tenant, "UTC");
            let state = session::state(&catalog, Arc::clone(&slot.runtime), 1, DateTime::UNIX_EPOCH, clock);
            catalog.open(&state, &filters)
        })
        .await
    }

    /// The answer's bytes, made on the engine's threads. `ResultTooLarge` when they pass [`Limits::result_bytes`].
    /// # Errors  See [`QueryError`].
    pub async fn encode(&self, result: QueryResult, format: Format) -> Result<Vec<u8>, QueryError> {
        let bytes_max = self.inner.limits.result_bytes;
        self.spawn(async move { format::encode(&result, format, bytes_max) }).await
    }

    /// [`Reports::encode`] as JSON.
    /// # Errors  See [`QueryError`].
    pub async fn json(&self, result: QueryResult) -> Result<Vec<u8>, QueryError> {
        self.encode(result, Format::Json).await
    }

    /// Every table and its columns.
    pub fn tables(&self) -> Vec<TableDef> {
        self.inner.tables.tables()
    }

    /// Every endpoint, by name.
    pub fn endpoints(&self) -> impl Iterator<Item = &EndpointDescription> {
        self.inner.endpoints.descriptions()
    }

    /// Boxed here, so that this crate alone compiles the planner's futures and not every crate that awaits one.
    fn run(&self, caller: Caller, work: Work) -> BoxFuture<'_, Result<QueryResult, QueryError>> {
        let started = Instant::now();
        let limit = self.inner.limits.time;
        let timed_out = move || QueryError::TimedOut { seconds: limit.as_secs() };
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let slot = inner.tenants.slot(&caller.tenant)?;
            // Taken on the caller's side, so that a full queue is refused at once; moved into the task, so that it is
            // given back only when the work has really stopped.
            let place = slot.place()?;
            let watch = Watch::default();
            let _waiting = watch.waiting();
            let task = self.spawn(async move {
                let run = async {
                    let _turn = slot.turn().await?;
                    inner.work(&caller, work, &slot, &watch, started).await
                };
                let result = tokio::time::timeout(limit, run).await;
                drop(place);
                result.unwrap_or_else(|_| Err(timed_out()))
            });
            tokio::time::timeout(limit + GRACE, task).await.unwrap_or_else(|_| Err(timed_out()))
        })
    }

    /// Runs on the engine's threads; dropping the returned future aborts it at its next pause.
    async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let stopping = || QueryError::NotFresh("the server is stopping".to_owned());
        let runtime = self.runtime.as_ref().ok_or_else(stopping)?;
        match AbortOnDropHandle::new(runtime.spawn(work)).await {
            Ok(result) => result,
            Err(e) if e.is_cancelled() => Err(stopping()),
            Err(e) => {
                tracing::error!(error = %e, "a report panicked");
                Err(QueryError::Internal)
            }
        }
    }
}

impl Drop for Reports {
    /// May run inside another runtime, where waiting is not allowed.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Writers and sockets go first. Best effort: a report at normal priority is still a report.
fn lower_priority() {
    use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};
    /// Of 0..=99, where about half is normal: nice 10 or so.
    const LOW: u8 = 23;
    let low = ThreadPriorityValue::try_from(LOW).map(ThreadPriority::Crossplatform);
    if let Ok(low) = low
        && let Err(e) = set_current_thread_priority(low)
    {
        tracing::debug!(error = ?e, "report threads keep their priority");
    }
}

impl Inner {
    async fn work(
        &self,
        caller: &Caller,
        work: Work,
        slot: &Slot,
        watch: &Watch,
        started: Instant,
    ) -> Result<QueryResult, QueryError> {
        let passed = match work {
            Work::Sql(sql) => gate::read(&sql)?,
            Work::Endpoint { name, params, over } => {
                let passed = self.read_endpoint(caller, &name, &params)?;
                match over {
                    Some(sql) => passed.under(&sql)?,
                    None => passed,
                }
            }
        };
        let format = passed.format.as_deref().map(Format::parse).transpose()?;
        if !passed.tables.is_empty() {
            let known = self.tables.tables();
            if let Some(unknown) = passed.tables.iter().find(|t| known.iter().all(|k| k.name != t.as_str())) {
                return Err(QueryError::NoTable(unknown.clone()));
            }
            self.tables.wait_fresh().await?;
        }
        let tenant: Arc<str> = Arc::from(caller.tenant.as_str());
        let now = DateTime::from_timestamp_millis(caller.now_ms).ok_or(QueryError::Internal)?;
        let runtime = Arc::clone(&slot.runtime);
        let catalog = CallCatalog::new(&self.tables, &tenant);
        let clock = Clock::new(&self.tables, &tenant, &caller.time_zone);
        let state = session::state(&catalog, runtime, self.limits.threads.max(1), now, clock);
        catalog.open(&state, &caller.filters)?;
        let plan = self.plan(&state, passed, watch).await.map_err(|e| self.error(&e))?;
        Ok(QueryResult { format, ..self.collect(&state, plan, started).await? })
    }

    fn read_endpoint(&self, caller: &Caller, name: &str, params: &Params) -> Result<Passed, QueryError> {
        let endpoint = self.endpoints.get(name).ok_or_else(|| QueryError::NoEndpoint(name.to_owned()))?;
        let rendered = endpoint.render(caller, params)?;
        let mut statement = gate::parse(&rendered.sql)?;
        template::bind(&mut statement, &rendered.literals)?;
        gate::check(statement)
    }

    async fn plan(
        &self,
        state: &SessionState,
        passed: Passed,
        watch: &Watch,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let logical = state.statement_to_plan(passed.statement).await?;
        gate::verify(&logical)?;
        let logical = watch.conditions(state.optimize(&logical)?)?;
        let physical = state.query_planner().create_physical_plan(&logical, state).await?;
        measure::constants(&physical)?;
        watch::cooperative(physical)
    }

    async fn collect(
        &self,
        state: &SessionState,
        plan: Arc<dyn ExecutionPlan>,
        started: Instant,
    ) -> Result<QueryResult, QueryError> {
        let mut stream = execute_stream(Arc::clone(&plan), state.task_ctx()).map_err(|e| self.error(&e))?;
        let (mut batches, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|e| self.error(&e))?;
            rows += batch.num_rows();
            bytes += measure::bytes(&batch);
            if rows > self.limits.result_rows {
                return Err(QueryError::ResultTooLarge { what: "rows", limit: self.limits.result_rows });
            }
            if bytes > self.limits.result_bytes {
                return Err(QueryError::ResultTooLarge { what: "bytes", limit: self.limits.result_bytes });
            }
            if batch.num_rows() > 0 {
                batches.push(batch);
            }
        }
        let schema = stream.schema();
        drop(stream);
        let (rows_read, bytes_read) = measure::read(&plan);
        let elapsed = started.elapsed();
        let rows_before_limit_at_least = rows;
        Ok(QueryResult {
            schema,
            batches,
            rows,
            rows_before_limit_at_least,
            elapsed,
            rows_read,
            bytes_read,
            bytes,
            format: None,
        })
    }

    fn error(&self, e: &DataFusionError) -> QueryError {
        from_datafusion(e, self.limits.memory_bytes_per_tenant, self.limits.temp_bytes_per_tenant)
    }
}
