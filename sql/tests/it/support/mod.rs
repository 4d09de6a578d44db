//! Facts for tests: tenants with tables in memory and in Parquet files, written as NDJSON.

pub mod client;
pub mod constructs;
pub mod corpus;
pub mod door;
pub mod ways;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use sql::{
    Caller, Limits, MetricsVersion, NewestBy, NotFresh, Opening, ParquetFile, QueryError, QueryResult, Readable,
    Reports, RowFilters, SnapshotGuard, TableDef, TableSnapshot, TablesError, TenantTables,
};

/// 2024-06-01T12:00:00Z.
pub const NOW_MS: i64 = 1_717_243_200_000;

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// `name:type`, with `?` for nullable.
fn schema(columns: &str) -> SchemaRef {
    let fields = columns.split_whitespace().map(|c| {
        let (name, kind) = c.split_once(':').expect("name:type");
        let kind_only = kind.trim_end_matches('?');
        let data_type = match kind_only {
            "text" => DataType::Utf8,
            "int" => DataType::Int64,
            "float" => DataType::Float64,
            "bool" => DataType::Boolean,
            "time" => time(),
            "texts" => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
            other => panic!("{other}"),
        };
        Field::new(name, data_type, kind.ends_with('?'))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

const FACT: &str =
    "event_id:text conversation_id:text thread_id:text seq:int occurred_at:time recorded_at:time origin:text";

/// The tables, as the owner of the facts declares them.
pub fn defs() -> Vec<TableDef> {
    let table = |name: &str, columns: &str| TableDef { name: name.into(), schema: schema(columns) };
    vec![
        table(
            "messages",
            &format!(
                "{FACT} author_type:text author_id:text group_id:text? content_chars:int reply_seconds:float? first_response_seconds:float?"
            ),
        ),
        table(
            "conversations",
            "conversation_id:text version:int status:text visitor_id:text chatbot_id:text? group_id:text? agent_id:text? \
             tags:texts started_at:time updated_at:time origin:text first_response_seconds:float? resolved_at:time? \
             resolutions:int messages_visitor:int messages_agent:int messages_bot:int rating:int? \
             resolved_by:text? resolve_reason:text? active_since:time? assignments:int? sessions:int? session_seconds:float? \
             resolved_as:text?",
        ),
        table(
            "resolutions",
            &format!(
                "{FACT} agent_id:text? resolved_by:text group_id:text? resolution_seconds:float handle_seconds:float? assigned_at:time?"
            ),
        ),
        table("ratings", &format!("{FACT} agent_id:text? group_id:text? score:int")),
        table("usage_minute", "minute:time metric:text value:int"),
        table(
            "agents",
            "agent_id:text role:text status:text accepting_chats:bool max_concurrent_chats:int active_chats:int created_at:time deleted_at:time?",
        ),
        table(
            "events",
            &format!("{FACT} kind:text actor_type:text actor_id:text? status:text agent_id:text? group_id:text?"),
        ),
        table(
            "threads",
            "thread_id:text version:int conversation_id:text number:int started_at:time ended_at:time? end_reason:text? \
             ended_by:text? origin:text agent_id:text? group_id:text? waiting_seconds:float? handle_seconds:float?",
        ),
        table(
            "assignments",
            &format!(
                "{FACT} actor_type:text actor_id:text? agent_id:text previous_agent_id:text? group_id:text? strategy:text \
                 trigger:text queue_trigger:text? waiting_seconds:float? reason:text? candidates:int? eligible:int? \
                 agent_load:int? agent_capacity:int?"
            ),
        ),
        table(
            "activity",
            "event_id:text conversation_id:text agent_id:text started_at:time ended_at:time snoozed:bool",
        ),
        table(
            "notifications",
            "event_id:text notification_id:text occurred_at:time recorded_at:time outcome:text reason:text? attempts:int? \
             kind:text? person_id:text? conversation_id:text?",
        ),
        table(
            "presence",
            "event_id:text agent_id:text occurred_at:time recorded_at:time status:text accepting_chats:bool",
        ),
        table(
            "groups",
            "group_id:text name:text routing_strategy:text is_default:bool members:int created_at:time updated_at:time \
             deleted_at:time?",
        ),
        table(
            "visitors",
            "visitor_id:text readable_id:text identified:bool has_email:bool last_agent_id:text? merged_into:text? \
             created_at:time blocked_at:time? erased_at:time?",
        ),
        table("sla_targets", "target:text target_seconds:int business_hours:bool"),
        table("queue", "conversation_id:text position:int waiting_since:time group_id:text?"),
    ]
}

pub fn schema_of(table: &str) -> SchemaRef {
    defs().into_iter().find(|d| &*d.name == table).expect("a table").schema
}

/// Rows from NDJSON; columns that are left out get a filler (nullable ones NULL).
pub fn rows(table: &str, lines: &[serde_json::Value]) -> RecordBatch {
    let schema = schema_of(table);
    let mut text = String::new();
    for line in lines {
        let mut line = line.as_object().expect("an object").clone();
        for field in schema.fields().iter().filter(|f| !f.is_nullable()) {
            let filler = match field.data_type() {
                DataType::Utf8 => serde_json::json!("-"),
                DataType::Boolean => serde_json::json!(true),
                DataType::Timestamp(..) => serde_json::json!("2024-05-01T00:00:00Z"),
                DataType::List(_) => serde_json::json!([]),
                _ => serde_json::json!(0),
            };
            line.entry(field.name().clone()).or_insert(filler);
        }
        text.push_str(&serde_json::to_string(&line).expect("JSON"));
        text.push('\n');
    }
    let mut reader = arrow::json::ReaderBuilder::new(Arc::clone(&schema))
        .with_batch_size(lines.len().max(1))
        .build(text.as_bytes())
        .expect("a reader");
    reader.next().map_or_else(|| RecordBatch::new_empty(schema), |b| b.expect("rows"))
}

/// Writes a file with small row groups, so that pruning shows.
pub fn file(dir: &Path, name: &str, batch: &RecordBatch) -> ParquetFile {
    let path = dir.join(name);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1_000)).build();
    let file = File::create(&path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
    writer.write(batch).expect("write");
    writer.close().expect("close");
    let bytes = std::fs::metadata(&path).expect("metadata").len();
    ParquetFile { path, bytes, rows: batch.num_rows() as u64 }
}

type Stored = (Vec<ParquetFile>, Vec<RecordBatch>);

#[derive(Default)]
pub struct Facts {
    tables: HashMap<(String, &'static str), Stored>,
    stale: bool,
    opening: Opening,
    /// Of tenants whose answers are kept.
    pub versions: HashMap<String, Arc<AtomicU64>>,
    /// How often a snapshot was taken.
    pub snapshots: AtomicUsize,
}

impl Facts {
    pub fn add(mut self, tenant: &str, table: &'static str, lines: &[serde_json::Value]) -> Self {
        let batch = rows(table, lines);
        self.tables.entry((tenant.to_owned(), table)).or_default().1.push(batch);
        self
    }

    pub fn add_file(mut self, tenant: &str, table: &'static str, file: ParquetFile) -> Self {
        self.tables.entry((tenant.to_owned(), table)).or_default().0.push(file);
        self
    }

    /// The facts never catch up.
    pub fn stale(mut self) -> Self {
        self.stale = true;
        self
    }

    /// When every tenant answers.
    pub fn open(mut self, opening: Opening) -> Self {
        self.opening = opening;
        self
    }

    pub fn reports(self) -> Reports {
        self.reports_with(Limits::default())
    }

    pub fn reports_with(self, limits: Limits) -> Reports {
        Reports::new(Arc::new(self), limits).expect("the engine starts")
    }
}

#[async_trait]
impl TenantTables for Facts {
    fn tables(&self, _: &str) -> Vec<TableDef> {
        defs()
    }

    fn snapshot(&self, tenant: &str, table: &str) -> Result<TableSnapshot, TablesError> {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
        let found = self.tables.iter().find(|((t, name), _)| t == tenant && *name == table);
        let (files, batches) = found.map(|(_, rows)| rows.clone()).unwrap_or_default();
        let versions: Option<(_, &[&str], &[&str])> = match table {
            "conversations" => Some(("conversation_id", &["conversation_id", "started_at"], &["updated_at"])),
            "threads" => Some(("thread_id", &["thread_id", "started_at"], &[])),
            _ => None,
        };
        let newest_by = versions.map(|(key, fixed, rising)| NewestBy { key, version: "version", fixed, rising });
        Ok(TableSnapshot { schema: schema_of(table), files, batches, newest_by, guard: SnapshotGuard::new(()) })
    }

    fn opening(&self, _: &str) -> Result<Opening, TablesError> {
        Ok(self.opening.clone())
    }

    fn version(&self, tenant: &str) -> Option<u64> {
        self.versions.get(tenant).map(|version| version.load(Ordering::Relaxed))
    }

    async fn wait_fresh(&self) -> Result<(), NotFresh> {
        if self.stale { Err(NotFresh { behind_ms: 1_500 }) } else { Ok(()) }
    }
}

pub fn caller(tenant: &str) -> Caller {
    let time_zone = "Europe/Berlin".to_owned();
    let (readable, filters) = (Readable::All, RowFilters::new());
    let metrics = MetricsVersion::V1;
    Caller { tenant: tenant.to_owned(), time_zone, now_ms: NOW_MS, readable, filters, metrics }
}

/// `a=1 b=2` as parameters.
pub fn params(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut params: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').expect("name=value");
        params.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    params
}

/// The rows as `a | b` lines under a line of `name type`, or `status message`.
pub fn show(result: Result<QueryResult, QueryError>) -> String {
    let result = match result {
        Ok(result) => result,
        Err(e) => return format!("{} {}: {e}\n", e.status(), e.code()),
    };
    let json: serde_json::Value = serde_json::from_slice(&result.to_json().expect("JSON")).expect("valid JSON");
    let names: Vec<&str> = json["meta"].as_array().expect("meta").iter().filter_map(|m| m["name"].as_str()).collect();
    let head: Vec<String> = json["meta"]
        .as_array()
        .expect("meta")
        .iter()
        .map(|m| format!("{} {}", m["name"].as_str().unwrap_or("?"), m["type"].as_str().unwrap_or("?")))
        .collect();
    let mut text = head.join(" | ") + "\n";
    for row in json["data"].as_array().expect("data") {
        let cells: Vec<String> = names.iter().map(|n| row[*n].to_string()).collect();
        text += &(cells.join(" | ") + "\n");
    }
    text
}

/// [`show`] of a query.
pub async fn run(reports: &Reports, tenant: &str, sql: &str) -> String {
    show(reports.query(&caller(tenant), sql).await)
}

/// Agents' messages, one a second.
pub fn messages(from: i64, to: i64) -> Vec<serde_json::Value> {
    (from..to)
        .map(|i| {
            let second = i % 60;
            let minute = i / 60 % 60;
            let hour = i / 3600 % 24;
            serde_json::json!({"event_id": format!("e{i:06}"), "seq": i, "author_type": "agent", "author_id": format!("a{}", i % 7),
                   "occurred_at": format!("2024-05-{:02}T{hour:02}:{minute:02}:{second:02}Z", 1 + i / 86_400),
                   "reply_seconds": if i % 3 == 0 { serde_json::json!(i as f64 / 10.0) } else { serde_json::Value::Null }})
        })
        .collect()
}
