//! Facts and state as the tables that SQL sees; the port [`sql::TenantTables`].
//!
//! Facts come from the Parquet store and its tail, the tenant's own data sources from theirs; what is as of now is read from
//! the state when a query names it ([`StateTable`]).

use super::definitions;
use super::facts::Facts;
use super::state_tables::{self, StateTable};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use chat_api::store::read;
use ingest::id::TenantId;
use ingest::log::LogReader;
use ingest::sqlite::ReadPool;
use sinks::parquet::{Table, Versions};
use sql::{
    MetricsVersion, NewestBy, NotFresh, Opening, ParquetFile, SnapshotGuard, TableDef, TableSnapshot, TableView,
    TablesError, TenantTables,
};
use std::sync::Arc;
use std::time::Duration;

/// A query waits this long for the facts to reach the log's end.
const FRESH_MAX: Duration = Duration::from_secs(1);

/// Every tenant's tables.
pub struct Tables {
    facts: Arc<Facts>,
    reader: Arc<dyn LogReader>,
    pool: ReadPool,
}

impl Tables {
    /// Tables over the facts and the state.
    #[must_use]
    pub fn new(facts: Arc<Facts>, reader: Arc<dyn LogReader>, pool: ReadPool) -> Self {
        Self { facts, reader, pool }
    }

    /// One tenant's rows of a table, and nobody else's.
    fn rows_of(&self, tenant: TenantId, name: &str) -> Result<TableSnapshot, TablesError> {
        if let Some(state) = StateTable::parse(name) {
            let read = self.pool.read(|connection| state.read(connection, tenant));
            let batch = read.map_err(|error| TablesError::Unavailable(error.to_string()))?;
            return Ok(in_memory(batch.map_err(fault)?));
        }
        let table = Table::parse(name);
        let snapshot = match table {
            Some(table) => Some(self.facts.store().snapshot(tenant, table)),
            None => self.facts.sources().snapshot(tenant, name),
        };
        // A source may have been deleted since the statement was read.
        let snapshot = snapshot.ok_or_else(|| TablesError::Unavailable(format!("{name} is gone")))?;
        Ok(TableSnapshot {
            schema: snapshot.schema,
            files: snapshot.files.iter().map(|found| file(found)).collect(),
            batches: snapshot.batches,
            newest_by: table.and_then(Table::versions).map(newest_by),
            // A merged file is deleted when nobody holds it any more.
            guard: SnapshotGuard::new(snapshot.files),
        })
    }
}

/// A table of the state is one batch, made when a query names it.
fn in_memory(batch: RecordBatch) -> TableSnapshot {
    let guard = SnapshotGuard::new(());
    TableSnapshot { schema: batch.schema(), files: Vec::new(), batches: vec![batch], newest_by: None, guard }
}

fn fault(error: impl std::fmt::Display) -> TablesError {
    TablesError::Fault(error.to_string())
}

#[async_trait]
impl TenantTables for Tables {
    fn tables(&self, tenant: &str) -> Vec<TableDef> {
        let def = |name: &str, schema| TableDef { name: name.into(), schema };
        let facts = Table::ALL.into_iter().map(|table| def(table.as_str(), definitions::shown(table)));
        let state = StateTable::ALL.into_iter().map(|table| def(table.as_str(), table.schema()));
        let own = tenant.parse().map(|tenant| self.facts.sources().tables(tenant)).unwrap_or_default();
        let own = own.into_iter().map(|(name, schema)| TableDef { name, schema });
        facts.chain(state).chain(own).collect()
    }

    /// Here the tenant chooses the rows. What notices when it doesn't: `cargo xtask mutants`.
    fn snapshot(&self, tenant: &str, name: &str) -> Result<TableSnapshot, TablesError> {
        self.rows_of(tenant.parse().map_err(fault)?, name)
    }

    fn view(&self, table: &str, metrics: MetricsVersion) -> Option<TableView> {
        Table::parse(table).and_then(|table| definitions::view(table, metrics))
    }

    fn opening(&self, tenant: &str) -> Result<Opening, TablesError> {
        let tenant: TenantId = tenant.parse().map_err(fault)?;
        let found = self.pool.read(|connection| read::tenant(connection, tenant));
        let found = found.map_err(|error| TablesError::Unavailable(error.to_string()))?;
        found.map_or_else(|| Ok(Opening::default()), |tenant| state_tables::opening(&tenant.settings).map_err(fault))
    }

    fn version(&self, tenant: &str) -> Option<u64> {
        tenant.parse().ok().and_then(|tenant| self.facts.version(tenant))
    }

    async fn wait_fresh(&self) -> Result<(), NotFresh> {
        let end = self.reader.end();
        let started = std::time::Instant::now();
        let behind = |_| NotFresh { behind_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX) };
        self.facts.wait_for(end, FRESH_MAX).await.map_err(behind)?;
        metrics::histogram!("parlance_fresh_wait_seconds").record(started.elapsed());
        Ok(())
    }
}

fn file(file: &sinks::parquet::FactFile) -> ParquetFile {
    ParquetFile { path: file.path().to_owned(), bytes: file.bytes(), rows: file.rows() }
}

fn newest_by(Versions { key, fixed, rising }: Versions) -> NewestBy {
    NewestBy { key, version: "version", fixed, rising }
}
