//! One tenant's table as the engine scans it: Parquet files and in-memory batches, one union.
//! Filters prune row groups and pages by statistics and Bloom filters and are always checked again above the scan (`Inexact`),
//! so pruning can only save work. Who looks for one thing reads its rows alone ([`is_lookup`]). Start at [`TenantTable`].

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use tokio::sync::OnceCell;

use crate::catalog::{NewestBy, TableDef, TableSnapshot, TablesError, TenantTables};
use crate::definitions::{MetricsVersion, TableView};
use crate::newest::NewestExec;

/// A table of one tenant within one call. Every scan in the call sees the same snapshot.
pub(crate) struct TenantTable {
    def: TableDef,
    tenant: Arc<str>,
    source: Arc<dyn TenantTables>,
    /// `None`: as it is stored.
    view: Option<TableView>,
    snapshot: OnceCell<Arc<TableSnapshot>>,
}

impl TenantTable {
    pub(crate) fn new(def: TableDef, tenant: Arc<str>, source: Arc<dyn TenantTables>, metrics: MetricsVersion) -> Self {
        let view = source.view(&def.name, metrics);
        Self { def, tenant, source, view, snapshot: OnceCell::new() }
    }

    pub(crate) fn def(&self) -> &TableDef {
        &self.def
    }

    /// Those columns of the rows, about those that meet the filters.
    /// # Errors  The snapshot's.
    pub(crate) async fn scan(
        &self,
        state: &dyn Session,
        wanted: &[usize],
        filters: &[Expr],
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let snapshot = self.snapshot().await?;
        let Some(view) = &self.view else { return stored(state, snapshot, wanted, filters, snapshot.newest_by) };
        let places = view.places(&self.def.schema, &snapshot.schema, wanted)?;
        let filters = filters.iter().map(|filter| view.condition(filter)).collect::<DfResult<Vec<_>>>()?;
        let rows = stored(state, snapshot, &places, &filters, view.newest_by.or(snapshot.newest_by))?;
        view.named(&self.def.schema, wanted, rows)
    }

    /// Before anything is pruned, and older versions among them.
    pub(crate) async fn rows(&self) -> DfResult<u64> {
        let snapshot = self.snapshot().await?;
        let flushed: u64 = snapshot.files.iter().map(|file| file.rows).sum();
        Ok(flushed + snapshot.batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>())
    }

    /// Taken once, on a thread that may block.
    async fn snapshot(&self) -> DfResult<&Arc<TableSnapshot>> {
        let take = || async {
            let (source, tenant) = (Arc::clone(&self.source), Arc::clone(&self.tenant));
            let table = Arc::clone(&self.def.name);
            let taken = tokio::task::spawn_blocking(move || source.snapshot(&tenant, &table)).await;
            let snapshot = taken
                .map_err(|e| TablesError::Fault(e.to_string()))
                .and_then(|s| s)
                .map_err(|e| DataFusionError::External(Box::new(e)))?;
            if self.view.is_none() && snapshot.schema.fields() != self.def.schema.fields() {
                let fault = format!("table {} does not have its declared columns", self.def.name);
                return Err(DataFusionError::External(Box::new(TablesError::Fault(fault))));
            }
            Ok(Arc::new(snapshot))
        };
        self.snapshot.get_or_try_init(take).await
    }
}

/// Those stored columns of the rows.
fn stored(
    state: &dyn Session,
    snapshot: &TableSnapshot,
    wanted: &[usize],
    filters: &[Expr],
    newest_by: Option<NewestBy>,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    match newest_by {
        None => union(state, snapshot, wanted, filters),
        Some(newest_by) => newest(state, snapshot, wanted, filters, newest_by),
    }
}

/// Versions are compared before anything is filtered but what they have alike, and what is less than asked in a column that
/// only rises: a filter on another column could hide the newest row and let an older one through.
fn newest(
    state: &dyn Session,
    snapshot: &TableSnapshot,
    wanted: &[usize],
    filters: &[Expr],
    by: NewestBy,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let mut columns = wanted.to_vec();
    let mut place = |name: &str| -> DfResult<usize> {
        let index = snapshot.schema.index_of(name)?;
        Ok(columns.iter().position(|c| *c == index).unwrap_or_else(|| {
            columns.push(index);
            columns.len() - 1
        }))
    };
    let (key, version) = (place(by.key)?, place(by.version)?);
    let before = |filter: &&Expr| only_columns(filter, by.fixed) || is_least(filter, by.rising);
    let before: Vec<Expr> = filters.iter().filter(before).cloned().collect();
    let mut input = union(state, snapshot, &columns, &before)?;
    if input.properties().partitioning.partition_count() > 1 {
        input = Arc::new(CoalescePartitionsExec::new(input));
    }
    Ok(Arc::new(NewestExec::try_new(input, key, version, wanted.len())?))
}

fn only_columns(filter: &Expr, names: &[&str]) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty() && columns.iter().all(|c| names.contains(&c.name.as_str()))
}

/// Whether one thing is looked for, `column = text`, besides nothing but comparisons with constants. Then these are asked while
/// the file is decoded, of their own columns first; what can fail, or tell of rows by failing, isn't.
fn is_lookup(filters: &[Expr]) -> bool {
    let compares = |filter: &Expr| match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
            let text = matches!(&**right, Expr::Literal(value, _) if value.try_as_str().flatten().is_some());
            let plain = matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
                && matches!((&**left, &**right), (Expr::Column(_), Expr::Literal(..)));
            plain.then_some(text && *op == Eq)
        }
        _ => None,
    };
    let all: Option<Vec<bool>> = filters.iter().map(compares).collect();
    all.is_some_and(|equal| equal.contains(&true))
}

/// `column >= constant` of one of the columns, either way round. Where the newest version of a row has less, all have.
fn is_least(filter: &Expr, names: &[&str]) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return false };
    let (column, constant) = match op {
        Operator::Gt | Operator::GtEq => (left, right),
        Operator::Lt | Operator::LtEq => (right, left),
        _ => return false,
    };
    matches!((&**column, &**constant), (Expr::Column(c), Expr::Literal(..)) if names.contains(&c.name.as_str()))
}

fn union(
    state: &dyn Session,
    snapshot: &TableSnapshot,
    columns: &[usize],
    filters: &[Expr],
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(2);
    if !snapshot.files.is_empty() {
        inputs.push(parquet(state, snapshot, columns, filters)?);
    }
    if !snapshot.batches.is_empty() {
        let partitions = [snapshot.batches.clone()];
        let memory = MemorySourceConfig::try_new(&partitions, Arc::clone(&snapshot.schema), Some(columns.to_vec()))?;
        inputs.push(DataSourceExec::from_data_source(memory));
    }
    match inputs.len() {
        0 => Ok(Arc::new(EmptyExec::new(Arc::new(snapshot.schema.project(columns)?)))),
        1 => Ok(inputs.remove(0)),
        _ => UnionExec::try_new(inputs),
    }
}

fn parquet(
    state: &dyn Session,
    snapshot: &TableSnapshot,
    columns: &[usize],
    filters: &[Expr],
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let runtime = state.runtime_env();
    let url = ObjectStoreUrl::local_filesystem();
    let store = runtime.object_store(&url)?;
    // Files never change, so footers are worth keeping between queries.
    let footers = runtime.cache_manager.get_file_metadata_cache();
    let mut source = ParquetSource::new(Arc::clone(&snapshot.schema))
        .with_table_parquet_options(TableParquetOptions::default())
        .with_parquet_file_reader_factory(Arc::new(CachedParquetFileReaderFactory::new(store, footers)))
        .with_enable_page_index(true);
    if is_lookup(filters) {
        source = source.with_pushdown_filters(true);
    }
    if let Some(filter) = conjunction(filters.to_vec()) {
        let schema = DFSchema::try_from(Arc::clone(&snapshot.schema))?;
        source = source.with_predicate(state.create_physical_expr(filter, &schema)?);
    }
    let files = snapshot
        .files
        .iter()
        .map(|f| {
            let path = f.path.to_str().ok_or_else(|| TablesError::Fault("a path is not UTF-8".to_owned()));
            let path = path.map_err(|e| DataFusionError::External(Box::new(e)))?;
            // The plan holds its files, and with them the guard, until the query has ended.
            Ok(PartitionedFile::new(path, f.bytes).with_extension(snapshot.guard.clone()))
        })
        .collect::<DfResult<Vec<_>>>()?;
    let groups = FileGroup::new(files).split_files(state.config().target_partitions());
    let config = FileScanConfigBuilder::new(url, Arc::new(source))
        .with_file_groups(groups)
        .with_projection_indices(Some(columns.to_vec()))?
        .build();
    Ok(DataSourceExec::from_data_source(config))
}
