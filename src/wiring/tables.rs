//! Facts and state as the tables that SQL sees; the port [`sql::TenantTables`].
//!
//! Facts come from the Parquet store and its tail; `agents` and `queue` are read from the state when a query names them.

use super::facts::Facts;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use chat_api::core::state::{Agent, Conversation};
use chat_api::store::read;
use ingest::id::TenantId;
use ingest::log::LogReader;
use ingest::sqlite::ReadPool;
use sinks::parquet::Table;
use sql::{NewestBy, NotFresh, ParquetFile, SnapshotGuard, TableDef, TableSnapshot, TablesError, TenantTables};
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
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn agents_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("agent_id", DataType::Utf8, false),
        Field::new("role", DataType::Utf8, false),
        Field::new("status", DataType::Utf8, false),
        Field::new("accepting_chats", DataType::Boolean, false),
        Field::new("max_concurrent_chats", DataType::Int64, false),
        Field::new("active_chats", DataType::Int64, false),
        Field::new("created_at", timestamp(), false),
        Field::new("deleted_at", timestamp(), true),
    ]))
}

fn queue_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("conversation_id", DataType::Utf8, false),
        Field::new("position", DataType::Int64, false),
        Field::new("waiting_since", timestamp(), false),
        Field::new("group_id", DataType::Utf8, true),
    ]))
}

fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

fn agents_batch(agents: &[Agent]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let text = |value: fn(&Agent) -> String| -> ArrayRef {
        Arc::new(agents.iter().map(|agent| Some(value(agent))).collect::<StringArray>())
    };
    let count = |value: fn(&Agent) -> u32| -> ArrayRef {
        Arc::new(agents.iter().map(|agent| i64::from(value(agent))).collect::<Int64Array>())
    };
    RecordBatch::try_new(
        agents_schema(),
        vec![
            text(|agent| agent.id.to_string()),
            text(|agent| agent.role.as_str().to_owned()),
            text(|agent| agent.status.as_str().to_owned()),
            Arc::new(agents.iter().map(|agent| Some(agent.accepting_chats)).collect::<BooleanArray>()),
            count(|agent| agent.max_concurrent_chats),
            count(|agent| agent.active_chats),
            times(agents.iter().map(|agent| Some(agent.created_at.0))),
            times(agents.iter().map(|_| None)),
        ],
    )
}

fn queue_batch(queue: &[Conversation]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let since = |chat: &Conversation| chat.queued.map(|queued| queued.since.0);
    RecordBatch::try_new(
        queue_schema(),
        vec![
            Arc::new(queue.iter().map(|chat| Some(chat.id.to_string())).collect::<StringArray>()),
            Arc::new((1..).take(queue.len()).collect::<Int64Array>()),
            times(queue.iter().map(since)),
            Arc::new(queue.iter().map(|chat| chat.group.map(|group| group.to_string())).collect::<StringArray>()),
        ],
    )
}

fn in_memory(batch: Result<RecordBatch, arrow::error::ArrowError>) -> Result<TableSnapshot, TablesError> {
    let batch = batch.map_err(|error| TablesError::Fault(error.to_string()))?;
    let guard = SnapshotGuard::new(());
    Ok(TableSnapshot { schema: batch.schema(), files: Vec::new(), batches: vec![batch], newest_by: None, guard })
}

#[async_trait]
impl TenantTables for Tables {
    fn tables(&self) -> Vec<TableDef> {
        let facts = Table::ALL.into_iter().map(|table| TableDef { name: table.as_str(), schema: table.schema() });
        let agents = TableDef { name: "agents", schema: agents_schema() };
        facts.chain([agents, TableDef { name: "queue", schema: queue_schema() }]).collect()
    }

    fn snapshot(&self, tenant: &str, table: &str) -> Result<TableSnapshot, TablesError> {
        let tenant: TenantId = tenant.parse().map_err(|error| TablesError::Fault(format!("{error}")))?;
        let unavailable = |error: rusqlite::Error| TablesError::Unavailable(error.to_string());
        match table {
            "agents" => in_memory(agents_batch(&self.pool.read(|c| read::agents(c, tenant)).map_err(unavailable)?)),
            "queue" => in_memory(queue_batch(&self.pool.read(|c| read::queue(c, tenant)).map_err(unavailable)?)),
            name => {
                let table =
                    Table::parse(name).ok_or_else(|| TablesError::Fault(format!("there is no table {name}")))?;
                let snapshot = self.facts.store().snapshot(tenant, table);
                let newest = NewestBy { key: "conversation_id", version: "version" };
                Ok(TableSnapshot {
                    schema: snapshot.schema,
                    files: snapshot.files.iter().map(|found| file(found)).collect(),
                    batches: snapshot.batches,
                    newest_by: (table == Table::Conversations).then_some(newest),
                    // A merged file is deleted when nobody holds it any more.
                    guard: SnapshotGuard::new(snapshot.files),
                })
            }
        }
    }

    async fn wait_fresh(&self) -> Result<(), NotFresh> {
        let (end, store) = (self.reader.end(), self.facts.store());
        let started = std::time::Instant::now();
        let behind = |_| NotFresh { behind_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX) };
        store.wait_for(end, FRESH_MAX).await.map_err(behind)?;
        store.wait_for_usage(end, FRESH_MAX.saturating_sub(started.elapsed())).await.map_err(behind)?;
        metrics::histogram!("parlance_fresh_wait_seconds").record(started.elapsed());
        Ok(())
    }
}

fn file(file: &sinks::parquet::FactFile) -> ParquetFile {
    ParquetFile { path: file.path().to_owned(), bytes: file.bytes(), rows: file.rows() }
}
