//! The engine's session of one call: the caller's catalog, the listed functions, the tenant's memory and disk.
//! Nothing is shared between calls but the tenant's pools and the cache of Parquet footers.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::cache::cache_manager::{CacheManagerConfig, FileMetadataCache};
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

use crate::catalog::{CATALOG, CallCatalog, SCHEMA};
use crate::functions;
use crate::hours::Clock;
use crate::text::Budget;

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

/// The session of one call.
pub(crate) fn state(
    catalog: &Arc<CallCatalog>,
    runtime: Arc<RuntimeEnv>,
    partitions: usize,
    now: DateTime<Utc>,
    clock: Clock,
) -> SessionState {
    let mut config = SessionConfig::new()
        .with_target_partitions(partitions)
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_extension(Arc::clone(catalog));
    let options = config.options_mut();
    options.execution.enable_recursive_ctes = false;
    options.sql_parser.collect_spans = true;
    // A physical plan shows where the files are.
    options.explain.logical_plan_only = true;
    let budget = Arc::new(Budget::default());
    SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_catalog_list(catalog.list())
        .with_scalar_functions(functions::scalar(&budget, clock))
        .with_aggregate_functions(functions::aggregate())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_expr_planners(functions::planners(&budget))
        .with_execution_props(ExecutionProps::new().with_query_execution_start_time(now))
        .build()
}
