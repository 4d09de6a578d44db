//! What the jobs' tests share: events from a line of text, rows as lines of JSON.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::common::cast::{as_int64_array, as_string_array};
use ingest::event::Event;
use ingest::log::{Offset, Record};
use pipelines::{ColumnType, Job, JobRunner, jobs};
use serde_json::{Value, json};
use std::sync::Arc;

/// One of the jobs that Parlance ships.
pub fn job(name: &str) -> Job {
    jobs().into_iter().find(|job| job.name == name).expect("a job of this name")
}

/// The job as it would run without the runner's choice of events by type.
pub fn reading_everything(mut job: Job) -> Job {
    job.reads = ingest::payload::Payload::KINDS.iter().map(|(kind, _)| (*kind).to_owned()).collect();
    job
}

/// A record of the log from an event's JSON.
pub fn record(offset: Offset, body: &str) -> Arc<Record> {
    let event = Event::decode(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    Arc::new(Record { offset, body: body.to_owned(), event })
}

/// The record of `origin actor type {data}`, for example `live agent conversation_resolved {"threadId":"$1"}`.
///
/// `$` and a hex digit stand for an id. The event's id is `$e`, its tenant `$a`, its conversation `$c`.
pub fn event(line: &str) -> Arc<Record> {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("four words: {line}"));
    let (origin, actor, kind, data) = (word(), word(), word(), word());
    let actor = match actor {
        "agent" | "visitor" => json!({ "kind": actor, "id": "$b" }),
        _ => json!({ "kind": actor }),
    };
    let data: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {line}"));
    let body = json!({
        "id": "$e", "tenant": "$a", "conversation": "$c", "seq": 1, "occurredAt": 1_750_000_030_000_i64,
        "recordedAt": 1_750_000_030_001_i64, "origin": origin, "actor": actor, "type": kind, "v": 1, "data": data,
    });
    let event = Event::decode(&expand(&body.to_string())).unwrap_or_else(|error| panic!("{error}: {line}"));
    Arc::new(Record { offset: 7, body: event.encode(), event })
}

/// `"$c"` to the id that it stands for.
pub fn expand(text: &str) -> String {
    let mut parts = text.split("\"$");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("\"00000000-0000-7000-8000-00000000000");
        out.push_str(part);
    }
    out
}

/// Holds a job to the rows of one event: their columns after source_event and tenant, with spaces between, NULL as `-`.
pub fn check(job_name: &str, line: &str, rows: &[&str]) {
    let runner = JobRunner::new(job(job_name)).expect("compiles");
    let records = [event(line)];
    runner.run(&records).expect("typed rows");
    let found = lines(runner.job(), &runner.run_columns(&records).expect("runs"), |values| {
        let words = values[2..].iter().map(|(_, value)| match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        words.collect::<Vec<_>>().join(" ")
    });
    let expected: Vec<_> = rows.iter().map(|row| expand(&row.replace('$', "\"$")).replace('"', "")).collect();
    assert_eq!(found, expected, "{line}");
}

/// Rows as JSON objects with the columns in their order, a line each.
pub fn ndjson(job: &Job, batch: &RecordBatch) -> Vec<String> {
    lines(job, batch, |values| {
        let fields = values.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    })
}

fn lines(job: &Job, batch: &RecordBatch, line: impl Fn(&[(&str, Value)]) -> String) -> Vec<String> {
    let value = |column: usize, row: usize| {
        let array = batch.column(column);
        match job.columns[column].data_type {
            _ if array.is_null(row) => Value::Null,
            ColumnType::Text => Value::from(as_string_array(array).expect("text").value(row)),
            ColumnType::BigInt => Value::from(as_int64_array(array).expect("bigint").value(row)),
            ColumnType::Double => unreachable!("no job has a DOUBLE column"),
        }
    };
    let row = |row: usize| {
        let named = job.columns.iter().enumerate().map(|(column, c)| (c.name.as_str(), value(column, row)));
        line(&named.collect::<Vec<_>>())
    };
    (0..batch.num_rows()).map(row).collect()
}
