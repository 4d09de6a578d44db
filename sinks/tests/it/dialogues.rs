//! 4,765 real support dialogues: the facts give the metrics that were computed apart from this project.

use crate::log::{Bench, rows};
use crate::story::{Story, agent, message, tenant};
use flate2::read::GzDecoder;
use ingest::event::{Actor, Event, Origin};
use ingest::id::{ThreadId, VisitorId};
use ingest::payload::{AuthorType, ConversationClosed, ConversationRated, ConversationResolved};
use ingest::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sinks::parquet::FactConfig;
use sinks::parquet::facts::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

#[derive(Deserialize)]
struct Person {
    id: String,
}

#[derive(Deserialize)]
struct Line {
    at: String,
    from: String,
    text: String,
}

#[derive(Deserialize)]
struct Transcript {
    id: String,
    tenant: String,
    visitor: Person,
    agent: Person,
    tags: Vec<String>,
    resolved: bool,
    rating: Option<u8>,
    messages: Vec<Line>,
}

fn data(file: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(file);
    File::open(&path).unwrap_or_else(|error| panic!("failed to open {}: {error}", path.display()))
}

/// A transcript as the import writes it.
fn events(transcript: Transcript) -> Vec<Event> {
    let mut story = Story::new(&transcript.tenant, &transcript.id);
    story.visitor = VisitorId::derived(&[transcript.tenant.as_bytes(), transcript.visitor.id.as_bytes()]);
    let (visitor, helper) = (Actor::Visitor(story.visitor), agent(&transcript.agent.id));
    let thread_id = ThreadId::derived(&[b"thread"]);
    let at = |line: &Line| Timestamp::parse_rfc3339(&line.at).unwrap();
    let (first, last) = (at(&transcript.messages[0]), at(transcript.messages.last().unwrap()));
    let started = story.started(transcript.tags);
    let mut events = vec![story.event(first, Origin::Import, visitor, started)];
    for line in &transcript.messages {
        let (actor, author) = match line.from.as_str() {
            "visitor" => (visitor, AuthorType::Visitor),
            "agent" => (Actor::Agent(helper), AuthorType::Agent),
            other => panic!("unknown author '{other}'"),
        };
        let chars = u32::try_from(line.text.chars().count()).unwrap();
        events.push(story.event(at(line), Origin::Import, actor, message(author, chars)));
    }
    if let Some(score) = transcript.rating {
        let rated = ConversationRated { thread_id, score, agent_id: Some(helper), comment: None, comment_mark: None };
        events.push(story.event(last, Origin::Import, visitor, rated));
    }
    let agent_id = Some(helper);
    events.push(if transcript.resolved {
        story.event(
            last,
            Origin::Import,
            Actor::Agent(helper),
            ConversationResolved { thread_id, agent_id, reason: None },
        )
    } else {
        let closed = ConversationClosed { reason: "imported_unresolved".into(), agent_id };
        story.event(last, Origin::Import, Actor::System, closed)
    });
    events
}

/// Ties to even, as the expected numbers were rounded.
fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round_ties_even() / scale
}

/// Linear interpolation between order statistics.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small counts"
)]
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = sorted[place.floor() as usize];
    below + (sorted[place.ceil() as usize] - below) * place.fract()
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn distribution(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let average = values.iter().sum::<f64>() / values.len() as f64;
    let (p50, p90) = (percentile(&values, 0.5), percentile(&values, 0.9));
    json!({"count": values.len(), "avg": round(average, 3), "p50": round(p50, 3), "p90": round(p90, 3)})
}

/// The metrics of one tenant, from its facts.
#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn metrics(bench: &Bench, name: &str) -> Value {
    let read = |table: Table| {
        let snapshot = bench.store.snapshot(tenant(name), table);
        let columns: BTreeMap<String, usize> =
            snapshot.schema.fields().iter().enumerate().map(|(at, field)| (field.name().clone(), at)).collect();
        let rows = rows(&snapshot);
        move |column: &str| rows.iter().map(|row| row[columns[column]].clone()).collect::<Vec<_>>()
    };
    let numbers = |texts: Vec<String>| {
        texts.iter().filter(|text| *text != "NULL").map(|text| text.parse().unwrap()).collect::<Vec<f64>>()
    };
    let (messages, conversations) = (read(Table::Messages), read(Table::Conversations));
    let authors = |kind: &str| {
        let of_kind = messages("author_type").into_iter().zip(messages("author_id")).filter(|(t, _)| t == kind);
        of_kind.map(|(_, id)| id).collect::<Vec<_>>()
    };
    let distinct = |ids: Vec<String>| ids.into_iter().collect::<BTreeSet<_>>().len();
    let mut days: BTreeMap<String, usize> = BTreeMap::new();
    let mut hours: BTreeMap<String, usize> = BTreeMap::new();
    for at in messages("occurred_at") {
        *days.entry(at[..10].to_owned()).or_default() += 1;
        *hours.entry(at[11..13].parse::<u32>().unwrap().to_string()).or_default() += 1;
    }
    let resolutions = numbers(read(Table::Resolutions)("resolution_seconds"));
    let scores = numbers(read(Table::Ratings)("score"));
    json!({
        "conversations": distinct(conversations("conversation_id")),
        "visitors": distinct(authors("visitor")),
        "agents": distinct(authors("agent")),
        "messages_visitor": authors("visitor").len(),
        "messages_agent": authors("agent").len(),
        "messages_by_day": days,
        "messages_by_hour_utc": hours,
        "first_response_seconds": distribution(numbers(messages("first_response_seconds"))),
        "reply_seconds": distribution(numbers(messages("reply_seconds"))),
        "resolved": resolutions.len(),
        "resolution_seconds": distribution(resolutions),
        "rating": {"count": scores.len(), "avg": round(scores.iter().sum::<f64>() / scores.len() as f64, 4)},
    })
}

/// Numbers compare by value: 20 and 20.0 are one.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), normal(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn real_dialogues_give_the_expected_metrics_for_every_tenant() {
    let mut bench = Bench::new(FactConfig { folds: 1_000, ..FactConfig::default() });
    for line in BufReader::new(GzDecoder::new(data("support_dialogues.ndjson.gz"))).lines() {
        bench.append(events(serde_json::from_str(&line.unwrap()).unwrap()));
    }
    assert_eq!(bench.log.len(), 85_111 + 2 * 4_765 + 4_605, "messages, starts, ends and ratings");
    // Some of it in files, some in memory.
    while bench.store.applied() < bench.log.len() as u64 {
        bench.apply(4_096);
        if bench.store.tail_rows() > 30_000 {
            bench.flush();
        }
    }
    let expected: BTreeMap<String, Value> = serde_json::from_reader(data("expected_metrics.json")).unwrap();
    assert_eq!(expected.len(), 13);
    for (name, expected) in &expected {
        assert_eq!(normal(&metrics(&bench, name)), normal(expected), "tenant {name}");
    }
}
