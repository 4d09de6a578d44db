//! Both versions of the definitions, as `definitions.py` computes them apart from the product, over random histories: several
//! agents, bots, resolves by everyone, reopens, late and changed ratings.

use crate::story::Story;
use ingest::event::Event;
use ingest::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use sinks::parquet::facts::FactRow;
use sinks::parquet::metrics::ConversationMetrics;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const HISTORIES: usize = 600;
const STEPS: [&str; 27] = [
    "visitor",
    "visitor",
    "visitor",
    "agent ada",
    "agent bob",
    "agent bob",
    "bot",
    "note ada",
    "queue",
    "assign ada",
    "assign bob",
    "unassign ada",
    "transfer ada",
    "resolve ada",
    "resolve bob",
    "resolve system",
    "end",
    "standby",
    "reopen",
    "reopen",
    "close bob",
    "run_out",
    "idle",
    "rate 1",
    "rate 3",
    "rate 5",
    "tag +vip",
];

fn history(steps: &[(usize, i64)]) -> Vec<Event> {
    let mut story = Story::new("acme", "c1");
    let mut now = 0;
    let mut events = vec![story.step(Timestamp(now), "start")];
    for (step, wait) in steps {
        now += wait;
        events.push(story.step(Timestamp(now), STEPS[*step]));
    }
    events
}

/// What the product makes of it.
fn numbers(events: &[Event]) -> Value {
    let mut metrics = ConversationMetrics::new(events[0].tenant, events[0].conversation.expect("a conversation"));
    let mut rows = Vec::new();
    events.iter().for_each(|event| metrics.apply(event, &mut rows));
    let (mut replies_v1, mut replies_v2) = (Vec::new(), Vec::new());
    let (mut ratings_v1, mut ratings_v2) = (Vec::new(), Map::new());
    for row in &rows {
        match row {
            FactRow::Message(message) => {
                replies_v1.push(message.reply_seconds);
                replies_v2.push(message.reply_seconds_v2);
            }
            FactRow::Rating(rating) => {
                ratings_v1.push(rating.score);
                let (agent, group) = (rating.agent_id_v2, rating.group_id_v2);
                let newest = json!({ "score": rating.score, "agent": agent, "group": group });
                ratings_v2.insert(rating.thread_id_v2.to_string(), newest);
            }
            _ => {}
        }
    }
    let resolved_as = metrics.row().and_then(|row| row.resolved_as);
    json!({
        "replies_v1": replies_v1, "replies_v2": replies_v2, "ratings_v1": ratings_v1, "ratings_v2": ratings_v2,
        "resolved_as": resolved_as,
    })
}

/// What Python makes of them, a line a history.
fn computed_apart(histories: &[Vec<Event>]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/definitions.py");
    let mut python = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tests need python3");
    let mut stdin = python.stdin.take().expect("piped");
    let lines: Vec<String> = histories
        .iter()
        .map(|events| format!("[{}]\n", events.iter().map(Event::encode).collect::<Vec<_>>().join(",")))
        .collect();
    let feed = std::thread::spawn(move || lines.iter().try_for_each(|line| stdin.write_all(line.as_bytes())));
    let output = python.wait_with_output().expect("python ends");
    feed.join().expect("no panic").expect("python reads all of it");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn both_versions_are_what_python_computes() {
    let mut runner = TestRunner::deterministic();
    let steps = vec((0..STEPS.len(), 0..90_000_i64), 1..60);
    let draw = |runner: &mut TestRunner| history(&steps.new_tree(runner).expect("a history").current());
    let histories: Vec<Vec<Event>> = (0..HISTORIES).map(|_| draw(&mut runner)).collect();
    let apart = computed_apart(&histories);
    assert_eq!(apart.len(), HISTORIES);
    let mut moved = 0;
    for (events, apart) in histories.iter().zip(&apart) {
        let kinds: Vec<_> = events.iter().map(|event| event.payload.kind()).collect();
        assert_eq!(&numbers(events), apart, "{kinds:?}");
        moved += usize::from(apart["replies_v1"] != apart["replies_v2"]);
    }
    assert!(moved > HISTORIES / 4, "the versions differ in {moved} histories only");
}
