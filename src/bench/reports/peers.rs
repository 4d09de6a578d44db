//! DuckDB and ClickHouse's engine beside ours: asked the same of the same files, and held to the same answers.

use super::{Took, ms};
use crate::engine::Engine;
use anyhow::{Context as _, bail};
use ingest::id::TenantId;
use serde::Deserialize;
use serde_json::{Value, json};
use sinks::parquet::Table;
use sql::QueryResult;
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What they are asked with.
const SCRIPT: &str = include_str!("peers.py");
const ENGINES: [&str; 2] = ["duckdb", "chdb"];

/// How to ask.
pub struct Ask<'a> {
    /// Has the packages.
    pub python: &'a Path,
    /// A question.
    pub seconds: u64,
    /// From, inclusive, and to, exclusive; in UTC.
    pub period: [&'static str; 2],
    /// For `event_stream`.
    pub conversation: String,
}

/// Of an answer, what tells whether two are the same: the sum of all numbers in it, and the rows.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    rows: usize,
    sum: f64,
}

impl Answer {
    /// Sums of floats differ by the order in which they were added up.
    fn is(self, other: Self) -> bool {
        self.rows == other.rows && (self.sum - other.sum).abs() <= 1e-6 * self.sum.abs().max(1.0)
    }
}

/// Of our own answer.
///
/// # Errors
/// When it can't be shown.
pub fn answer(result: &QueryResult) -> anyhow::Result<Answer> {
    let shown: Value = serde_json::from_slice(&result.to_json()?)?;
    let rows = shown["data"].as_array().context("rows")?;
    let cells = rows.iter().filter_map(Value::as_object).flat_map(serde_json::Map::values);
    Ok(Answer { rows: rows.len(), sum: cells.filter_map(Value::as_f64).sum() })
}

#[derive(Deserialize)]
struct Said {
    name: String,
    first_ms: f64,
    median_ms: f64,
    rows: usize,
    sum: f64,
}

/// Asks each engine, and prints its medians beside ours.
///
/// # Errors
/// When an engine can't be asked.
pub fn compare(ask: &Ask, engine: &Engine, tenant: TenantId, ours: &HashMap<String, Took>) -> anyhow::Result<()> {
    let mut said: BTreeMap<String, Vec<Option<Said>>> = BTreeMap::new();
    for (place, peer) in ENGINES.iter().enumerate() {
        for answer in asked(ask, engine, tenant, ours, peer)? {
            let all = said.entry(answer.name.clone()).or_insert_with(|| vec![None, None]);
            all[place] = Some(answer);
        }
    }
    println!("reports  {:<44} {:>9} {:>9} {:>9}  ratio to the better", "medians, ms", "ours", "duckdb", "chdb");
    let mut ahead = 0;
    for (name, peers) in &said {
        let mine = ours.get(name).context("only what was measured is asked")?;
        let mut different = Vec::new();
        for (peer, answer) in ENGINES.iter().zip(peers) {
            let other = answer.as_ref().map(|said| Answer { rows: said.rows, sum: said.sum });
            if other.is_some_and(|other| !other.is(mine.answer)) {
                different.push(format!("{peer} answers {other:?}, we {:?}", mine.answer));
            }
        }
        let median = |place: usize| peers[place].as_ref().map_or(f64::INFINITY, |said| said.median_ms);
        let first = |place: usize| peers[place].as_ref().map_or(f64::INFINITY, |said| said.first_ms);
        let ratio = ms(mine.p50) / median(0).min(median(1));
        ahead += usize::from(ratio <= 1.0);
        let cold = format!("first {:.1} / {:.1} / {:.1}", ms(mine.cold), first(0), first(1));
        let (p50, duckdb, chdb) = (ms(mine.p50), median(0), median(1));
        println!(
            "reports  {name:<44} {p50:>9.2} {duckdb:>9.2} {chdb:>9.2}  {ratio:.2}  {cold} {}",
            different.join("; ")
        );
    }
    println!("reports  at or ahead of the better of the two in {ahead} of {} questions", said.len());
    Ok(())
}

fn asked(
    ask: &Ask,
    engine: &Engine,
    tenant: TenantId,
    ours: &HashMap<String, Took>,
    peer: &str,
) -> anyhow::Result<Vec<Said>> {
    let store = engine.facts.store();
    let files = |table: Table| -> Vec<String> {
        store.snapshot(tenant, table).files.iter().map(|file| file.path().display().to_string()).collect()
    };
    let tables: BTreeMap<&str, Vec<String>> =
        Table::ALL.into_iter().map(|table| (table.as_str(), files(table))).collect();
    let question = json!({
        "engine": peer,
        "threads": std::thread::available_parallelism()?,
        "seconds": ask.seconds,
        "tables": tables,
        "questions": ours.keys().collect::<Vec<_>>(),
        "from": ask.period[0],
        "to": ask.period[1],
        "conversation": ask.conversation,
    });
    let mut child = Command::new(ask.python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {}", ask.python.display()))?;
    child.stdin.take().context("it has an input")?.write_all(question.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("failed to ask {peer}: {}", output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
