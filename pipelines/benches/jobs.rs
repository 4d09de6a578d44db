//! Events a second through each job, and through all three, for batches of 1, 16 and 256 events.
//!
//! The mix is a chat's: of 20 events 16 are messages, and the rest a conversation's life and an agent's status.
#![allow(missing_docs, reason = "a program")]

use ingest::event::Event;
use ingest::log::Record;
use pipelines::{JobRunner, jobs};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MEASURED: Duration = Duration::from_millis(1500);

fn main() {
    let records = records();
    let bytes: usize = records.iter().map(|record| record.body.len()).sum();
    println!("{} bytes an event; events/s, and the share of a core at 5,000 events/s", bytes / records.len());
    let runners: Vec<_> = jobs().into_iter().map(|job| JobRunner::new(job).expect("compiles")).collect();
    for batch in [1, 16, 256] {
        let mut total = 0.0;
        for runner in &runners {
            let seconds = seconds_per_event(runner, &records, batch);
            total += seconds;
            report(runner.job().name.as_str(), batch, seconds);
        }
        report("all three", batch, total);
    }
}

fn report(name: &str, batch: usize, seconds: f64) {
    println!("{name:20} batch {batch:3}: {:9.0} events/s  {:5.2} %", 1.0 / seconds, seconds * 5_000.0 * 100.0);
}

fn seconds_per_event(runner: &JobRunner, records: &[Arc<Record>], batch: usize) -> f64 {
    let (start, mut events, mut rows) = (Instant::now(), 0_usize, 0_usize);
    while start.elapsed() < MEASURED {
        for chunk in records.chunks(batch) {
            rows += runner.run(chunk).expect("runs").len();
            events += chunk.len();
        }
    }
    assert!(rows > 0, "the mix gives rows");
    start.elapsed().as_secs_f64() / events as f64
}

fn records() -> Vec<Arc<Record>> {
    let id = |n: usize| format!("0190a5c0-0000-7000-8000-{n:012x}");
    let text = "A".repeat(240);
    let data = |n: usize| match n % 20 {
        0 => (
            "conversation_started",
            format!(r#"{{"visitorId":"{}","visitorHasEmail":true,"threadId":"{}"}}"#, id(3), id(4)),
        ),
        1 => ("conversation_queued", format!(r#"{{"threadId":"{}","trigger":"first_message","rank":{n}}}"#, id(4))),
        2 => ("agent_status_changed", format!(r#"{{"agentId":"{}","status":"online","acceptingChats":true}}"#, id(5))),
        19 => ("conversation_resolved", format!(r#"{{"threadId":"{}","agentId":"{}"}}"#, id(4), id(5))),
        _ => (
            "message_posted",
            format!(
                r#"{{"threadId":"{}","authorType":"{}","content":{{"p":"{}","c":"{text}"}},"contentChars":150,"clientId":"{}"}}"#,
                id(4),
                ["visitor", "agent"][n % 2],
                id(3),
                id(n)
            ),
        ),
    };
    let record = |n: usize| {
        let (kind, data) = data(n);
        let body = format!(
            r#"{{"id":"{}","tenant":"{}","conversation":"{}","seq":{},"occurredAt":{at},"recordedAt":{at},"origin":"live","actor":{{"kind":"agent","id":"{}"}},"type":"{kind}","v":1,"data":{data}}}"#,
            id(1000 + n),
            id(1),
            id(2),
            n + 1,
            id(5),
            at = 1_750_000_000_000_usize + n * 200,
        );
        let event = Event::decode(&body).expect("an event");
        Arc::new(Record { offset: n as u64, body, event })
    };
    (0..5_120).map(record).collect()
}
