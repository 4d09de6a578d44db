//! The engine's session of one call ([`state`]): the caller's catalog, the listed functions, the tenant's memory and disk.
//! Nothing is shared between calls but the tenant's pools and the cache of Parquet footers.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::error::Result as DfResult;
use datafusion::execution::FunctionRegistry as _;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::cache::cache_manager::{CacheManagerConfig, FileMetadataCache};
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::optimizer::Analyzer;
use datafusion::prelude::SessionConfig;

use crate::catalog::{CATALOG, CallCatalog, SCHEMA};
use crate::functions;
use crate::hours::Clock;
use crate::lenient::LenientRows;
use crate::text::Budget;
use crate::wide_times::WideTimes;

/// Rows of a batch: half the engine's default, so that a wide or a joined batch stays small.
const BATCH_ROWS: usize = 4_096;
/// Footers of files, of all tenants together.
const FOOTER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The pools of one tenant, for all its queries together.
pub(crate) fn runtime(
    memory_bytes: usize,
    temp_bytes: u64,
    temp_dir: Option<&PathBuf>,
    footers: Option<Arc<FileMetadataCache>>,
) -> DfResult<Arc<RuntimeEnv>> {
    let mode = match temp_dir {
        Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(temp_bytes);
    let cache = CacheManagerConfig { file_metadata_cache: footers, ..CacheManagerConfig::default() };
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
        .with_disk_manager_builder(disk)
        .with_cache_manager(cache)
        .with_metadata_cache_limit(FOOTER_BYTES_MAX)
        .build_arc()
}

/// What the sessions of a tenant's calls have alike.
pub(crate) fn template(runtime: Arc<RuntimeEnv>) -> SessionState {
    let mut config = SessionConfig::new()
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA);
    let options = config.options_mut();
    options.execution.enable_recursive_ctes = false;
    options.sql_parser.collect_spans = true;
    // It allocates a place for each row of a LIMIT, before there is one.
    options.optimizer.enable_topk_aggregation = false;
    // A physical plan shows where the files are.
    options.explain.logical_plan_only = true;
    let mut rules = Analyzer::new().rules;
    rules.insert(0, Arc::new(WideTimes));
    rules.push(Arc::new(LenientRows));
    SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_scalar_functions(functions::shared())
        .with_aggregate_functions(functions::aggregate())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_expr_planners(Vec::new())
        .with_analyzer_rules(rules)
        .build()
}

/// The session of one call.
/// # Errors  A function that cannot be registered.
pub(crate) fn state(
    template: &SessionState,
    catalog: &Arc<CallCatalog>,
    partitions: usize,
    now: DateTime<Utc>,
    clock: Clock,
) -> DfResult<SessionState> {
    let mut state = template.clone();
    state.config_mut().options_mut().execution.target_partitions = partitions;
    state.config_mut().set_extension(Arc::clone(catalog));
    state.register_catalog_list(catalog.list());
    *state.execution_props_mut() = ExecutionProps::new().with_query_execution_start_time(now);
    let budget = Arc::new(Budget::default());
    for function in functions::own(&budget, clock) {
        state.register_udf(function)?;
    }
    for planner in functions::planners(&budget) {
        state.register_expr_planner(planner)?;
    }
    Ok(state)
}
