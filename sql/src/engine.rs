//! The engine: a caller's SQL or an endpoint's call in, a bounded result out.
//! Everything runs on the engine's own low-priority threads with large stacks ([`Lanes`]); the caller's thread only waits, and
//! a caller that stops waiting stops its query. Start at [`Reports::query`].

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::DateTime;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;

use crate::answers::Key;
use crate::call::{Caller, Limits, Params, QueryResult};
use crate::catalog::{CallCatalog, TableDef, TenantTables};
use crate::endpoint_node::{EndpointDescription, LoadError};
use crate::endpoints::Endpoints;
use crate::error::{QueryError, from_datafusion};
use crate::format::{self, Format};
use crate::gate::{self, Passed};
use crate::hours::Clock;
use crate::kept_pipes::KeptPipes;
use crate::lanes::{Lane, Lanes, QUICK_BYTES_MAX};
use crate::observed::{self, Observed, WithObserved};
use crate::own::OwnPipe;
use crate::pg::{Described, Job, Prepared, Types};
use crate::plans::{self, Optimized, Plans};
use crate::reads::{EndpointName, Published, Readable, Reader, RowFilters, TableName};
use crate::result_memory::{Account, Hold, ResultMemory};
use crate::sending::{Answer, Writer};
use crate::source::Source;
use crate::template::{self, Budget};
use crate::tenants::{Owner, Slot, Tenants};
use crate::watch::{Waiting, Watch};
use crate::{measure, names, session};

/// Rows of all tables of a query up to which it runs in one part, before anything is pruned.
const FEW_ROWS: u64 = 250_000;

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
    lanes: Arc<Lanes>,
}

struct Inner {
    tables: Arc<dyn TenantTables>,
    limits: Limits,
    endpoints: Endpoints,
    tenants: Tenants,
    memory: Arc<ResultMemory>,
    observed: Arc<Observed>,
    plans: Plans,
    pipes: KeptPipes,
}

/// A call that may have to be run twice.
#[derive(Clone)]
struct Call {
    caller: Arc<Caller>,
    work: Arc<Work>,
    slot: Arc<Slot>,
    started: Instant,
}

/// What to run: read on the engine's threads, since reading is recursive too.
enum Work {
    Sql(String),
    Endpoint {
        name: EndpointName,
        params: Params,
        over: Option<String>,
    },
    Own {
        published: Published,
        params: Params,
        over: Option<String>,
    },
    /// Plans it, and runs nothing.
    Try(Arc<OwnPipe>),
    /// A statement of the Postgres wire.
    Wire(Job),
}

impl Work {
    /// What the call is listed under; a trial isn't.
    fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Sql(_) | Self::Wire(_) => Some(observed::QUERY),
            Self::Endpoint { name, .. } => Some(name.as_str()),
            Self::Own { published, .. } => Some(published.pipe.name()),
            Self::Try(_) => None,
        }
    }

    /// As whom the call reads: SQL as the token, an endpoint that ships as one who reads every table, a tenant's own as its
    /// publisher could. The row filters of the token that calls hold in all of them.
    fn reader<'a>(&self, caller: &'a Caller) -> (Cow<'a, Caller>, Reader) {
        match self {
            Self::Sql(_) | Self::Wire(_) | Self::Try(_) => (Cow::Borrowed(caller), Reader::Token),
            Self::Endpoint { .. } if caller.readable == Readable::All => (Cow::Borrowed(caller), Reader::Publisher),
            Self::Endpoint { .. } => {
                (Cow::Owned(Caller { readable: Readable::All, ..caller.clone() }), Reader::Publisher)
            }
            Self::Own { published, .. } => (Cow::Owned(published.reader(caller)), Reader::Publisher),
        }
    }
}

impl Reports {
    /// Starts the threads and reads the endpoints.
    /// # Errors  See [`StartError`].
    pub fn new(tables: Arc<dyn TenantTables>, limits: Limits) -> Result<Self, StartError> {
        let endpoints = Endpoints::shipped()?;
        let lanes = Arc::new(Lanes::start(limits.threads.max(1))?);
        let observed = Arc::new(Observed::default());
        let tables = Arc::new(WithObserved { tables, observed: Arc::clone(&observed) });
        let (plans, pipes) = (Plans::new(limits.kept_plan_bytes), KeptPipes::default());
        let memory = ResultMemory::new(limits.held_bytes, limits.held_bytes_per_tenant, limits.kept_bytes);
        let memory = Arc::new(memory);
        let tenants = Tenants::new(limits.clone(), Arc::clone(&memory));
        let inner = Arc::new(Inner { tables, tenants, memory, limits, endpoints, observed, plans, pipes });
        Ok(Self { inner, lanes })
    }

    /// Runs one SELECT over the caller's tables. Dropping the future stops it.
    /// # Errors  See [`QueryError`].
    pub async fn query(&self, caller: &Caller, sql: &str) -> Result<QueryResult, QueryError> {
        self.run(caller.clone(), Work::Sql(sql.to_owned())).await
    }

    /// Calls an endpoint. `params` are the request's; reserved and unknown ones are ignored.
    /// # Errors  See [`QueryError`].
    pub async fn endpoint(&self, caller: &Caller, name: &str, params: &Params) -> Result<QueryResult, QueryError> {
        let work = Work::Endpoint { name: EndpointName::of(name), params: params.clone(), over: None };
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
        let over = Some(sql.to_owned());
        let work = Work::Endpoint { name: EndpointName::of(name), params: params.clone(), over };
        self.run(caller.clone(), work).await
    }

    /// Calls a tenant's own endpoint, which reads what its publisher could; with `over`, a SELECT over its result, `_`.
    /// # Errors  See [`QueryError`].
    pub async fn own(
        &self,
        caller: &Caller,
        published: Published,
        params: &Params,
        over: Option<String>,
    ) -> Result<QueryResult, QueryError> {
        self.run(caller.clone(), Work::Own { published, params: params.clone(), over }).await
    }

    /// Refuses everything from here on, what runs too: whoever waits hears at once that the server is stopping. No thread
    /// is waited for.
    pub fn stop(&self) {
        self.lanes.stop();
    }

    /// Reads a tenant's own endpoint, on the engine's threads and in the tenant's turn. A version that was read before is
    /// kept, and takes no turn.
    /// # Errors  `Unreadable` with what is wrong with it; as running.
    pub async fn read_pipe(
        &self,
        tenant: &str,
        name: &str,
        version: Option<u32>,
        text: &str,
    ) -> Result<Arc<OwnPipe>, QueryError> {
        if let Some(kept) = version.and_then(|version| self.inner.pipes.get(tenant, name, version, text)) {
            return Ok(kept);
        }
        let inner = Arc::clone(&self.inner);
        let (of, name, text) = (tenant.to_owned(), name.to_owned(), text.to_owned());
        self.in_turn(tenant, move || inner.pipes.read(&of, &name, version, &text)).await
    }

    /// The same at once, for work that has its turn ([`Reports::in_turn`]).
    /// # Errors  `Unreadable`.
    pub fn read_pipe_here(
        &self,
        tenant: &str,
        name: &str,
        version: u32,
        text: &str,
    ) -> Result<Arc<OwnPipe>, QueryError> {
        self.inner.pipes.read(tenant, name, Some(version), text)
    }

    /// Something short that a tenant asks for, a tenth of a second at most: in its turn, on the engine's threads, within
    /// the time of a query.
    /// # Errors  `Busy`, `TimedOut`; the work's own.
    pub async fn in_turn<T: Send + 'static>(
        &self,
        tenant: &str,
        work: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        self.take_turn(tenant, |_| async move { work() }).await
    }

    async fn take_turn<T: Send + 'static, F: Future<Output = Result<T, QueryError>> + Send + 'static>(
        &self,
        tenant: &str,
        work: impl FnOnce(Arc<Slot>) -> F,
    ) -> Result<T, QueryError> {
        let limit = self.inner.limits.time;
        let slot = self.inner.tenants.slot(tenant)?;
        let place = slot.place()?;
        let run = async {
            let seat = Arc::new(Arc::clone(&slot).seat(place).await?);
            self.lanes.spawn(seat, slot.lane(), work(slot)).await
        };
        tokio::time::timeout(limit, run).await.unwrap_or(Err(QueryError::TimedOut { seconds: limit.as_secs() }))
    }

    /// Whether an endpoint that is to be published can be planned over the tables that the caller reads, with its defaults, and
    /// with something for each parameter that has none. What it reads with others is looked at when it's called.
    /// # Errors  What is wrong with it.
    pub async fn try_own(&self, caller: &Caller, pipe: Arc<OwnPipe>) -> Result<(), QueryError> {
        match self.run(caller.clone(), Work::Try(pipe)).await {
            // It refuses the values it was tried with.
            Ok(_) | Err(QueryError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Runs a statement of the Postgres wire. Dropping the future stops it.
    pub(crate) async fn wire(&self, caller: &Caller, job: Job) -> Result<QueryResult, QueryError> {
        self.run(caller.clone(), Work::Wire(job)).await
    }

    /// The parameters and columns of a statement of the Postgres wire. `types` are those the client knows. Takes the
    /// tenant's turn, as running does.
    pub(crate) async fn describe(&self, caller: &Caller, job: Job, types: Types) -> Result<Described, QueryError> {
        let (inner, caller) = (Arc::clone(&self.inner), caller.clone());
        let tenant = caller.tenant.clone();
        self.take_turn(&tenant, move |slot| async move {
            inner.tables.wait_fresh().await?;
            let tables = inner.tables.tables(&caller.tenant);
            let plan = move |job: Job, statement: Statement| -> BoxFuture<'static, Result<LogicalPlan, QueryError>> {
                let (inner, slot, caller) = (Arc::clone(&inner), Arc::clone(&slot), caller.clone());
                Box::pin(async move {
                    let state = inner.session(&caller, &slot, &inner.catalog(&caller, Some(&job))?, 1)?;
                    let plan = state.statement_to_plan(statement).await.map_err(|e| inner.error(&e))?;
                    gate::verify(&plan).map_err(|e| inner.error(&e))?;
                    Ok(plan)
                })
            };
            job.describe(&tables, types, &plan).await
        })
        .await
    }

    /// Whether a row filter can be read, and fits its table if there is one of that name.
    /// # Errors  What is wrong with it.
    pub async fn check_filter(&self, tenant: &str, table: &TableName, condition: &str) -> Result<(), QueryError> {
        let (inner, condition, of) = (Arc::clone(&self.inner), condition.to_owned(), Arc::<str>::from(tenant));
        let filters = RowFilters::from([(table.clone(), vec![condition.clone()])]);
        self.take_turn(tenant, |slot| async move {
            gate::condition(&condition)?;
            inner.tables.wait_fresh().await?;
            let catalog = CallCatalog::new(&inner.tables, &of, &Readable::All);
            let clock = Clock::new(&inner.tables, &of, "UTC");
            let state =
                session::state(&slot.session, &catalog, 1, DateTime::UNIX_EPOCH, clock).map_err(|e| inner.error(&e))?;
            catalog.open(&state, &filters)
        })
        .await
    }

    /// The answer's bytes, made on the engine's threads: all of a small one, of a large one part by part as they are read.
    /// `ResultTooLarge` when they would pass [`Limits::result_bytes`]; an answer that is begun is refused no more.
    /// # Errors  See [`QueryError`].
    pub async fn answer(&self, result: QueryResult, format: Format) -> Result<Answer, QueryError> {
        let (bytes_max, unread) = (self.inner.limits.result_bytes, self.inner.limits.unread);
        self.writer(&result)?.answer(result, format, bytes_max, unread).await
    }

    /// The same in one piece.
    /// # Errors  See [`QueryError`].
    pub async fn encode(&self, result: QueryResult, format: Format) -> Result<Vec<u8>, QueryError> {
        let bytes_max = self.inner.limits.result_bytes;
        self.writer(&result)?.run(async move { format::encode(result, format, bytes_max) }).await
    }

    /// What writes a result.
    fn writer(&self, result: &QueryResult) -> Result<Writer, QueryError> {
        let owner = result.owner.as_ref().ok_or(QueryError::Internal)?;
        let (lanes, slot) = (Arc::clone(&self.lanes), Arc::clone(&owner.slot));
        let lane = if result.bytes <= QUICK_BYTES_MAX { slot.lane() } else { Lane::Long };
        Ok(Writer { lanes, slot, lane })
    }

    /// [`Reports::encode`] as JSON.
    /// # Errors  See [`QueryError`].
    pub async fn json(&self, result: QueryResult) -> Result<Vec<u8>, QueryError> {
        self.encode(result, Format::Json).await
    }

    /// Bytes of memory that results hold now, of all tenants, until they are read; kept answers apart.
    pub fn held_bytes(&self) -> usize {
        self.inner.memory.used()
    }

    /// What a connection's results may hold of its tenant's memory.
    pub(crate) fn connection_memory(&self, tenant: &str, bytes_max: usize) -> Arc<Account> {
        self.inner.memory.tenant(tenant).child("the connection", bytes_max)
    }

    /// The tables that every tenant has.
    pub fn shipped_tables(&self) -> Vec<TableDef> {
        // Nobody's own tables.
        self.inner.tables.tables("")
    }

    /// A tenant's tables and their columns, as of the newest acknowledged event.
    /// # Errors  `NotFresh`.
    pub async fn tables(&self, tenant: &str) -> Result<Vec<TableDef>, QueryError> {
        self.inner.tables.wait_fresh().await?;
        Ok(self.inner.tables.tables(tenant))
    }

    /// Every endpoint, by name.
    pub fn endpoints(&self) -> impl Iterator<Item = &EndpointDescription> {
        self.inner.endpoints.descriptions()
    }

    /// Boxed here, so that this crate alone compiles the planner's futures and not every crate that awaits one.
    fn run(&self, caller: Caller, work: Work) -> BoxFuture<'_, Result<QueryResult, QueryError>> {
        let started = Instant::now();
        let (tenant, at_ms, endpoint) = (caller.tenant.clone(), caller.now_ms, work.endpoint().map(str::to_owned));
        let is_ours = matches!(work, Work::Endpoint { over: None, .. });
        Box::pin(async move {
            let outcome = match self.attempt(caller, work, started).await {
                // Nobody but us wrote the statement.
                Err(QueryError::Unsupported(_)) if is_ours => Err(QueryError::Internal),
                outcome => outcome,
            };
            // A name that is nobody's is no endpoint's call.
            if let Some(endpoint) = endpoint.filter(|_| !matches!(outcome, Err(QueryError::NoEndpoint(_)))) {
                self.inner.observed.note((&tenant, at_ms), &endpoint, started.elapsed(), &outcome);
            }
            outcome.map(|(result, _)| result)
        })
    }

    /// The answer, and whether it was remembered.
    async fn attempt(&self, caller: Caller, work: Work, started: Instant) -> Result<(QueryResult, bool), QueryError> {
        let limit = self.inner.limits.time;
        let slot = self.inner.tenants.slot(&caller.tenant)?;
        // Taken on the caller's side, so that a full queue is refused at once; moved into the tasks, so that it is
        // given back only when the work has really stopped.
        let place = slot.place()?;
        let call = Call { caller: Arc::new(caller), work: Arc::new(work), slot, started };
        let run = async {
            let seat = Arc::new(Arc::clone(&call.slot).seat(place).await?);
            if call.slot.lane() == Lane::Quick {
                let (waiting, work) = self.task(Lane::Quick, &call);
                if let Some(outcome) = self.lanes.quickly(Arc::clone(&seat), waiting, work).await {
                    return outcome;
                }
                seat.pay();
            }
            let (_waiting, work) = self.task(Lane::Long, &call);
            self.lanes.spawn(seat, Lane::Long, work).await
        };
        tokio::time::timeout(limit, run).await.unwrap_or(Err(QueryError::TimedOut { seconds: limit.as_secs() }))
    }

    /// A call as a task, and what the caller's side holds as long as it waits for it.
    fn task(
        &self,
        lane: Lane,
        call: &Call,
    ) -> (Waiting, impl Future<Output = Result<(QueryResult, bool), QueryError>> + Send + 'static) {
        let (inner, call) = (Arc::clone(&self.inner), call.clone());
        let watch = Watch::new(lane);
        let waiting = watch.waiting();
        let work = async move { inner.work(&call, lane, &watch).await };
        (waiting, work)
    }
}

impl Inner {
    async fn work(&self, call: &Call, lane: Lane, watch: &Watch) -> Result<(QueryResult, bool), QueryError> {
        let Call { caller, work, slot, started } = call;
        let work = work.as_ref();
        let (caller, who) = work.reader(caller);
        let caller = self.under_asked_version(caller, work)?;
        let caller = caller.as_ref();
        let (mut wire, mut waited) = (None, Duration::ZERO);
        let run = !matches!(work, Work::Try(_));
        let mut passed = match work {
            Work::Sql(sql) => gate::read(sql)?,
            Work::Own { published, params, over } => {
                let passed = published.pipe.statement(params)?;
                match over {
                    Some(sql) => passed.under(sql)?,
                    None => passed,
                }
            }
            Work::Wire(job) => {
                // First: it looks names up, and the newest event may have made the table.
                waited += self.fresh().await?;
                match job.prepare(&self.tables.tables(&caller.tenant))? {
                    Prepared::Plan(passed) => {
                        wire = Some(job);
                        *passed
                    }
                    Prepared::NoRows(schema) => {
                        return Ok((QueryResult { elapsed: started.elapsed(), ..QueryResult::empty(schema) }, false));
                    }
                }
            }
            Work::Try(pipe) => pipe.statement(&pipe.sample())?,
            Work::Endpoint { name, params, over } => {
                let passed = self.read_endpoint(caller, name, params)?;
                match over {
                    Some(sql) => passed.under(sql)?,
                    None => passed,
                }
            }
        };
        caller.readable.check(&passed.tables, who)?;
        let format = passed.format.as_deref().map(Format::parse).transpose()?;
        if !passed.tables.is_empty() {
            // First: the newest event may have made the table.
            waited += self.fresh().await?;
            let known = self.tables.tables(&caller.tenant);
            if let Some(unknown) = passed.tables.iter().find(|t| known.iter().all(|k| &*k.name != t.as_str())) {
                return Err(QueryError::NoTable(unknown.clone()));
            }
            let named = known.iter().filter(|k| passed.tables.iter().any(|t| *k.name == **t));
            names::keep(&mut passed.statement, named.map(|k| &k.schema));
        }
        // After the wait: whatever was acknowledged before the call has its part in the version.
        let version = self.tables.version(&caller.tenant);
        let key = if run && wire.is_none() { Key::of(caller, &passed) } else { None };
        let answer = key.as_ref().zip(version).and_then(|(key, version)| slot.answers.get(key, version));
        if let Some(answer) = answer {
            let owner = Some(Owner { slot: Arc::clone(slot), account: Arc::clone(&slot.results) });
            return Ok((QueryResult { format, waited, elapsed: started.elapsed(), owner, ..answer }, true));
        }
        let catalog = self.catalog(caller, wire)?;
        let partitions = self.partitions(&catalog, &passed.tables, lane).await?;
        let state = self.session(caller, slot, &catalog, partitions)?;
        let optimized = self.optimized((caller, key.as_ref()), &catalog, &state, passed).await;
        let optimized = optimized.map_err(|e| self.error(&e))?;
        let plan = plans::physical(&state, &optimized, watch).await.map_err(|e| self.error(&e))?;
        if !run {
            return Ok((QueryResult::empty(plan.schema()), false));
        }
        let account = wire.map_or(&slot.results, |job| job.memory());
        let owner = Owner { slot: Arc::clone(slot), account: Arc::clone(account) };
        let answer = QueryResult { format, waited, ..self.collect(&state, plan, owner, *started).await? };
        if let Some((key, version)) = key.zip(version).filter(|_| optimized.steady) {
            slot.answers.put(key, version, &answer);
        }
        Ok((answer, false))
    }

    /// The caller, under the definitions that a call of an endpoint names.
    fn under_asked_version<'a>(&self, caller: Cow<'a, Caller>, work: &Work) -> Result<Cow<'a, Caller>, QueryError> {
        let Work::Endpoint { name, params, .. } = work else { return Ok(caller) };
        let asked = self.endpoints.get(name).map(|endpoint| endpoint.metrics(params)).transpose()?.flatten();
        Ok(match asked {
            Some(metrics) if metrics != caller.metrics => Cow::Owned(Caller { metrics, ..caller.into_owned() }),
            _ => caller,
        })
    }

    /// Waits until the tables hold every event acknowledged before; gives how long that took.
    async fn fresh(&self) -> Result<Duration, QueryError> {
        let started = Instant::now();
        self.tables.wait_fresh().await?;
        Ok(started.elapsed())
    }

    /// The caller's tables; on the Postgres wire with what is known about them.
    fn catalog(&self, caller: &Caller, wire: Option<&Job>) -> Result<Arc<CallCatalog>, QueryError> {
        let tenant: Arc<str> = Arc::from(caller.tenant.as_str());
        let extra =
            wire.map(|job| job.schemas(&self.tables.tables(&caller.tenant))).transpose().map_err(|e| self.error(&e))?;
        let extra = extra.unwrap_or_default();
        Ok(CallCatalog::with(&self.tables, &tenant, &caller.readable, caller.metrics, extra))
    }

    /// Into how many parts a query is cut: few rows are done before a second thread has begun.
    async fn partitions(&self, catalog: &CallCatalog, tables: &[String], lane: Lane) -> Result<usize, QueryError> {
        let few = lane == Lane::Quick && catalog.rows(tables).await.map_err(|e| self.error(&e))? <= FEW_ROWS;
        Ok(if few { 1 } else { self.limits.threads.max(1) })
    }

    fn session(
        &self,
        caller: &Caller,
        slot: &Slot,
        catalog: &Arc<CallCatalog>,
        partitions: usize,
    ) -> Result<SessionState, QueryError> {
        let now = DateTime::from_timestamp_millis(caller.now_ms).ok_or(QueryError::Internal)?;
        let tenant: Arc<str> = Arc::from(caller.tenant.as_str());
        let clock = Clock::new(&self.tables, &tenant, &caller.time_zone);
        let state = session::state(&slot.session, catalog, partitions, now, clock).map_err(|e| self.error(&e))?;
        // What is wrong with it would name columns to one who may only call an endpoint over that table.
        let unfit = |_| QueryError::sql("a row filter doesn't fit its table's columns (any more)", None);
        catalog.open(&state, &caller.filters).map_err(unfit)?;
        Ok(state)
    }

    fn read_endpoint(&self, caller: &Caller, name: &EndpointName, params: &Params) -> Result<Passed, QueryError> {
        let endpoint = self.endpoints.get(name).ok_or_else(|| QueryError::NoEndpoint(name.to_string()))?;
        let rendered = endpoint.render(caller, params, &mut Budget::of_rendering())?;
        let mut statement = gate::parse(&rendered.sql)?;
        template::bind(&mut statement, &rendered.literals)?;
        gate::check(statement, Source::rendered(&rendered))
    }

    /// The statement's plan, kept or new.
    async fn optimized(
        &self,
        (caller, key): (&Caller, Option<&Key>),
        catalog: &CallCatalog,
        state: &SessionState,
        passed: Passed,
    ) -> Result<Optimized, DataFusionError> {
        let Some(key) = key else { return plans::optimized(state, passed.statement).await };
        let tables = catalog.defs(&passed.tables);
        if let Some(plan) = self.plans.get(&caller.tenant, key, &tables) {
            return Ok(plan);
        }
        let plan = plans::optimized(state, passed.statement).await?;
        self.plans.put(&caller.tenant, key, tables, &plan)?;
        Ok(plan)
    }

    async fn collect(
        &self,
        state: &SessionState,
        plan: Arc<dyn ExecutionPlan>,
        owner: Owner,
        started: Instant,
    ) -> Result<QueryResult, QueryError> {
        let mut stream = execute_stream(Arc::clone(&plan), state.task_ctx()).map_err(|e| self.error(&e))?;
        let (mut batches, mut held, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
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
                let (batch, kept) = measure::held(batch).map_err(|e| self.error(&e))?;
                held.push(Arc::new(Hold::new(&owner.account, kept)?));
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
            waited: Duration::ZERO,
            rows_read,
            bytes_read,
            bytes,
            format: None,
            held,
            owner: Some(owner),
        })
    }

    fn error(&self, e: &DataFusionError) -> QueryError {
        from_datafusion(e, self.limits.memory_bytes_per_tenant, self.limits.temp_bytes_per_tenant)
    }
}
