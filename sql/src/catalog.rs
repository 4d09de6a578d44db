//! The port through which the engine sees facts, and the catalog of one call.
//! [`TenantTables`] is implemented by the owner of the facts, and says what tables a tenant has; [`CallCatalog`] holds the caller's tables and no
//! others, and takes a table's snapshot only when a statement names it. A plan holds [`NamedTable`]s.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, Session, TableProvider};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::definitions::{MetricsVersion, TableView};
use crate::error::{QueryError, fault};
use crate::filter;
use crate::hours::Opening;
use crate::reads::{Readable, RowFilters};
use crate::scan::TenantTable;

/// The one catalog a call sees; never part of what a caller needs to write.
pub(crate) const CATALOG: &str = "tenant";
/// The one schema in it.
pub(crate) const SCHEMA: &str = "public";

/// An immutable Parquet file of one tenant and table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetFile {
    /// Absolute path. A path is never reused for other content.
    pub path: PathBuf,
    /// Exact size in bytes: the reader seeks the footer from the end.
    pub bytes: u64,
    /// Rows in the file.
    pub rows: u64,
}

/// Of the rows that share `key`, a table shows only the one with the greatest `version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestBy {
    /// A `Utf8` column.
    pub key: &'static str,
    /// An `Int64` column; of equal versions the first read stays.
    pub version: &'static str,
    /// Columns that all versions of a row have alike, `key` among them: what is asked of these is asked before versions are
    /// compared, and the rest isn't read.
    pub fixed: &'static [&'static str],
    /// Columns that no version has less of than an older one: what is below an asked least isn't read either.
    pub rising: &'static [&'static str],
}

/// A tenant's table at one moment: the union of files and rows not yet flushed.
/// Every batch has exactly `schema`; a file may lack columns that are newer than it (they read as NULL).
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    /// Columns in the order `SELECT *` shows them, but for what a [`TableView`] shows otherwise.
    pub schema: SchemaRef,
    /// Flushed rows. No row is both in a file and in a batch.
    pub files: Vec<ParquetFile>,
    /// Rows still in memory.
    pub batches: Vec<RecordBatch>,
    /// Set when rows are versions.
    pub newest_by: Option<NewestBy>,
    /// Held until the last query that reads `files` has ended, so that their owner knows when to delete them.
    pub guard: SnapshotGuard,
}

/// Something to be held; cheap to clone.
#[derive(Clone)]
pub struct SnapshotGuard(Arc<dyn std::any::Any + Send + Sync>);

impl SnapshotGuard {
    /// Holds `value`.
    pub fn new(value: impl std::any::Any + Send + Sync) -> Self {
        Self(Arc::new(value))
    }
}

impl std::fmt::Debug for SnapshotGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotGuard({} holders)", Arc::strong_count(&self.0))
    }
}

/// A table's name and columns: one that ships, or one of a tenant's own.
#[derive(Debug, Clone)]
pub struct TableDef {
    /// Lower case.
    pub name: Arc<str>,
    /// As in [`TableSnapshot::schema`], or as the table's [`TableView`] shows it.
    pub schema: SchemaRef,
}

/// Why a snapshot could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// Retry later (503).
    #[error("failed to open the facts: {0}")]
    Unavailable(String),
    /// A fault: logged, 500.
    #[error("failed to read the facts: {0}")]
    Fault(String),
}

/// The facts did not reach the log's end in time (503, retry).
#[derive(Debug, thiserror::Error)]
#[error("the facts are {behind_ms} ms behind the log")]
pub struct NotFresh {
    /// How far behind, as well as it is known.
    pub behind_ms: u64,
}

/// The tables of every tenant. Implementations are called on the engine's own threads.
#[async_trait]
pub trait TenantTables: Send + Sync + 'static {
    /// What tables there are for a tenant: those that ship, and its own. Cheap; called for every query, after
    /// [`TenantTables::wait_fresh`]. Another tenant's own are not among them.
    fn tables(&self, tenant: &str) -> Vec<TableDef>;

    /// One tenant's rows of one table of [`TenantTables::tables`]: that tenant's and nobody else's.
    /// Synchronous, may read SQLite; runs where blocking is allowed. Files it names must stay readable for as
    /// long as the snapshot lives.
    /// # Errors  See [`TablesError`].
    fn snapshot(&self, tenant: &str, table: &str) -> Result<TableSnapshot, TablesError>;

    /// How a table of [`TenantTables::tables`] shows the columns of its snapshot under a version of the metrics'
    /// definitions; `None` when it shows them as they are stored.
    fn view(&self, table: &str, metrics: MetricsVersion) -> Option<TableView> {
        let _ = (table, metrics);
        None
    }

    /// When one tenant answers, for `business_seconds`; the days are those of [`Caller::time_zone`](crate::Caller).
    /// Synchronous; asked once a call that counts business hours.
    /// # Errors  See [`TablesError`].
    fn opening(&self, tenant: &str) -> Result<Opening, TablesError> {
        let _ = tenant;
        Ok(Opening::default())
    }

    /// Waits until the facts hold every event that was acknowledged before this call, at most one second.
    /// # Errors  [`NotFresh`] after that second.
    async fn wait_fresh(&self) -> Result<(), NotFresh>;

    /// What a tenant's rows are a function of: a number that has changed whenever one of them has, for who has waited
    /// ([`TenantTables::wait_fresh`]). `None` when it isn't known; then no answer is kept.
    fn version(&self, tenant: &str) -> Option<u64>;
}

/// Everything one call can name: one catalog, the caller's tables with the rows the caller may see in one schema, and
/// whatever schemas the call brings.
pub(crate) struct CallCatalog {
    tables: HashMap<Arc<str>, Arc<TenantTable>>,
    /// Schemas besides [`SCHEMA`], made for this call.
    extra: Vec<(&'static str, Arc<dyn SchemaProvider>)>,
    /// Bound once there is a session that knows the functions; until then no table opens.
    filters: OnceLock<HashMap<String, Expr>>,
}

impl CallCatalog {
    pub(crate) fn new(source: &Arc<dyn TenantTables>, tenant: &Arc<str>, readable: &Readable) -> Arc<Self> {
        Self::with(source, tenant, readable, MetricsVersion::default(), Vec::new())
    }

    /// The same, under a version of the metrics and with more schemas. What isn't readable isn't there, however a statement comes to name it.
    pub(crate) fn with(
        source: &Arc<dyn TenantTables>,
        tenant: &Arc<str>,
        readable: &Readable,
        metrics: MetricsVersion,
        extra: Vec<(&'static str, Arc<dyn SchemaProvider>)>,
    ) -> Arc<Self> {
        let readable = source.tables(tenant).into_iter().filter(|def| readable.has(&def.name));
        let tables = readable.map(|def| {
            let name = Arc::clone(&def.name);
            (name, Arc::new(TenantTable::new(def, Arc::clone(tenant), Arc::clone(source), metrics)))
        });
        Arc::new(Self { tables: tables.collect(), extra, filters: OnceLock::new() })
    }

    /// The catalog list for the session of the call.
    pub(crate) fn list(self: &Arc<Self>) -> Arc<dyn CatalogProviderList> {
        Arc::new(OneCatalog(Arc::new(OneSchema(Arc::clone(self)))))
    }

    /// Rows of some tables together, each counted once. Takes their snapshots.
    /// # Errors  A snapshot's.
    pub(crate) async fn rows(&self, tables: &[String]) -> DfResult<u64> {
        let mut rows = 0;
        for table in tables.iter().filter_map(|name| self.tables.get(name.as_str())) {
            rows += table.rows().await?;
        }
        Ok(rows)
    }

    /// Those tables of the call, in its order.
    pub(crate) fn defs(&self, tables: &[String]) -> Vec<TableDef> {
        tables.iter().filter_map(|name| self.tables.get(name.as_str())).map(|table| table.def().clone()).collect()
    }

    /// Binds the caller's filters and opens the tables.
    /// # Errors  A filter that does not fit its table.
    pub(crate) fn open(&self, state: &SessionState, filters: &RowFilters) -> Result<(), QueryError> {
        let mut bound = HashMap::new();
        for (name, conditions) in filters {
            // A filter of a table that is not there hides nothing that is.
            if let Some(table) = self.tables.get(name.as_str()) {
                bound.insert(name.as_str().to_owned(), filter::bind(state, &table.def().schema, conditions)?);
            }
        }
        self.filters.set(bound).map_err(|_| QueryError::Internal)
    }

    fn filters(&self) -> DfResult<&HashMap<String, Expr>> {
        let closed = || fault("a table was named before the caller's filters were bound");
        self.filters.get().ok_or_else(closed)
    }

    /// Those columns of the rows that the caller may see.
    async fn scan(
        &self,
        name: &str,
        state: &dyn Session,
        wanted: &[usize],
        filters: &[Expr],
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let gone = || fault(format!("there is no table {name} in this call"));
        let table = self.tables.get(name).ok_or_else(gone)?;
        match self.filters()?.get(name) {
            None => table.scan(state, wanted, filters).await,
            Some(predicate) => filter::scan(table, predicate, state, wanted).await,
        }
    }
}

impl std::fmt::Debug for CallCatalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.tables.keys()).finish()
    }
}

#[async_trait]
impl SchemaProvider for CallCatalog {
    fn table_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tables.keys().map(|n| n.to_string()).collect();
        names.sort();
        names
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some(table) = self.tables.get(name) else { return Ok(None) };
        let filtered = self.filters()?.contains_key(name);
        Ok(Some(Arc::new(NamedTable { def: table.def().clone(), filtered })))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}

/// A table as a plan holds it: a name and its columns. Its rows are those of the call that runs the plan.
#[derive(Debug)]
pub(crate) struct NamedTable {
    def: TableDef,
    /// The caller sees not all of its rows, and nothing of the SQL is asked of those it doesn't see.
    filtered: bool,
}

#[async_trait]
impl TableProvider for NamedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.def.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        use TableProviderFilterPushDown::{Inexact, Unsupported};
        Ok(vec![if self.filtered { Unsupported } else { Inexact }; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let outside = || fault("a plan was run outside a call");
        let call = state.config().get_extension::<CallCatalog>().ok_or_else(outside)?;
        let all = || (0..self.def.schema.fields().len()).collect();
        let wanted = projection.cloned().unwrap_or_else(all);
        call.scan(&self.def.name, state, &wanted, filters).await
    }
}

#[derive(Debug)]
struct OneSchema(Arc<CallCatalog>);

impl CatalogProvider for OneSchema {
    fn schema_names(&self) -> Vec<String> {
        std::iter::once(SCHEMA).chain(self.0.extra.iter().map(|(name, _)| *name)).map(str::to_owned).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == SCHEMA {
            return Some(Arc::clone(&self.0) as Arc<dyn SchemaProvider>);
        }
        self.0.extra.iter().find(|(known, _)| *known == name).map(|(_, schema)| Arc::clone(schema))
    }
}

#[derive(Debug)]
struct OneCatalog(Arc<OneSchema>);

impl CatalogProviderList for OneCatalog {
    /// Nothing can be added: the engine never registers, and a caller has no statement that would.
    fn register_catalog(&self, _: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        Some(catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::clone(&self.0) as Arc<dyn CatalogProvider>)
    }
}
