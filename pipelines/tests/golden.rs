//! Each job on its golden fixture: events in, the same multiset of rows out, on whichever engine runs the SQL.
//!
//! A changed job, or a new version of a payload, needs `UPDATE_EXPECT=1` and a look at the difference.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use ingest::event::{Event, Origin};
use ingest::log::Record;
use ingest::payload::Payload;
use pipelines::{JobRunner, jobs};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use support::{job, ndjson, reading_everything, record};

fn fixture(job: &str, side: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(format!("{job}.{side}.ndjson"))
}

fn events(job: &str) -> Vec<Arc<Record>> {
    let text = std::fs::read_to_string(fixture(job, "in")).unwrap();
    (0..).zip(text.lines()).map(|(offset, line)| record(offset, line)).collect()
}

fn golden(name: &str) {
    let runner = JobRunner::new(job(name)).unwrap();
    let records = events(name);
    let rows = ndjson(runner.job(), &runner.run_columns(&records).unwrap());
    let path = fixture(name, "out");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, rows.iter().flat_map(|row| [row, "\n"]).collect::<String>()).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let multiset = |rows: Vec<&str>| {
        let mut rows = rows;
        rows.sort_unstable();
        rows.join("\n")
    };
    assert_eq!(multiset(rows.iter().map(String::as_str).collect()), multiset(expected.lines().collect()), "{name}");
    assert_eq!(runner.run(&records).unwrap().len(), rows.len(), "every row has its type");
}

#[test]
fn assignment_triggers_gives_its_golden_rows() {
    golden("assignment_triggers");
}

#[test]
fn email_notifications_gives_its_golden_rows() {
    golden("email_notifications");
}

#[test]
fn usage_metrics_gives_its_golden_rows() {
    golden("usage_metrics");
}

/// The fixtures hold what the log would hold, byte for byte: every event type, live and imported events.
#[test]
fn the_fixtures_hold_every_event_type_as_it_is_encoded() {
    for job in jobs() {
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let encoded = events(&job.name).into_iter().map(|record| record.event.encode() + "\n");
            std::fs::write(fixture(&job.name, "in"), encoded.collect::<String>()).unwrap();
        }
        let records = events(&job.name);
        for record in &records {
            assert_eq!(Event::decode(&record.body).unwrap().encode(), record.body, "{}", job.name);
        }
        let kinds: BTreeSet<_> = records.iter().map(|record| record.event.payload.kind()).collect();
        let known: BTreeSet<_> = Payload::KINDS.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, known, "{}", job.name);
        for read in &job.reads {
            for origin in [Origin::Live, Origin::Import] {
                let found = records.iter().any(|r| r.event.payload.kind() == read && r.event.origin == origin);
                assert!(found, "{}: no {read} of origin {origin:?}", job.name);
            }
        }
    }
}

/// The runner passes on only the types in `reads:`; that may not change what a job gives.
#[test]
fn types_that_a_job_does_not_read_give_no_rows() {
    for job in jobs() {
        let records = events(&job.name);
        let chosen = JobRunner::new(job.clone()).unwrap();
        let all = JobRunner::new(reading_everything(job)).unwrap();
        assert!(records.iter().any(|record| !chosen.reads(record) && all.reads(record)));
        assert_eq!(chosen.run(&records).unwrap(), all.run(&records).unwrap());
    }
}

/// Batches may be cut anywhere: one event at a time gives the rows of all at once, in the same order.
#[test]
fn the_rows_do_not_depend_on_the_batches() {
    for job in jobs() {
        let (records, runner) = (events(&job.name), JobRunner::new(job).unwrap());
        let whole = ndjson(runner.job(), &runner.run_columns(&records).unwrap());
        let single = records
            .iter()
            .flat_map(|record| ndjson(runner.job(), &runner.run_columns(std::slice::from_ref(record)).unwrap()));
        assert_eq!(single.collect::<Vec<_>>(), whole);
        // More events than are evaluated together.
        let many: Vec<_> = records.iter().cycle().take(records.len() * 40).cloned().collect();
        assert_eq!(runner.run(&many).unwrap().len(), whole.len() * 40);
    }
}

/// A row is identified by its grain.
#[test]
fn no_two_rows_have_the_same_grain() {
    for job in jobs() {
        let (records, runner) = (events(&job.name), JobRunner::new(job).unwrap());
        let mut seen = BTreeMap::new();
        for row in ndjson(runner.job(), &runner.run_columns(&records).unwrap()) {
            let fields: serde_json::Value = serde_json::from_str(&row).unwrap();
            let grain: Vec<_> = runner.job().grain.iter().map(|column| fields[column].to_string()).collect();
            assert_eq!(seen.insert(grain, row.clone()), None, "{row}");
        }
    }
}
