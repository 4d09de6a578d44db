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
/// A name, the engine, and whether its statements are prepared: planned once, as ours are while a plan is kept.
const ENGINES: [(&str, &str, bool); 3] =
    [("duckdb", "duckdb", false), ("chdb", "chdb", false), ("prepared", "duckdb", true)];

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
    for (place, (_, peer, prepared)) in ENGINES.iter().enumerate() {
        for answer in asked(ask, engine, tenant, ours, (peer, *prepared))? {
            let all = said.entry(answer.name.clone()).or_insert_with(|| ENGINES.map(|_| None).into());
            all[place] = Some(answer);
        }
    }
    println!(
        "reports  each call planned anew beside DuckDB and chDB; with kept plans beside these and DuckDB's prepared statements"
    );
    let (anew, duckdb, chdb, kept, prepared, head) = ("anew", "duckdb", "chdb", "ours", "prepared", "medians, ms");
    println!(
        "reports  {head:<38} {anew:>8} {duckdb:>8} {chdb:>8} {:>6} {kept:>8} {prepared:>8} {:>6}",
        "ratio", "ratio"
    );
    let mut ahead = [0, 0, 0];
    for (name, peers) in &said {
        let mine = ours.get(name).context("only what was measured is asked")?;
        let mut different = Vec::new();
        for ((peer, ..), answer) in ENGINES.iter().zip(peers) {
            let other = answer.as_ref().map(|said| Answer { rows: said.rows, sum: said.sum });
            if other.is_some_and(|other| !other.is(mine.answer)) {
                different.push(format!("{peer} answers {other:?}, we {:?}", mine.answer));
            }
        }
        let median = |place: usize| peers[place].as_ref().map_or(f64::INFINITY, |said| said.median_ms);
        let (anew, kept, [duckdb, chdb, prepared]) = (ms(mine.anew), ms(mine.p50), [0, 1, 2].map(median));
        let better = duckdb.min(chdb);
        let ratios = [anew / better, kept / better, kept / better.min(prepared)];
        ahead.iter_mut().zip(ratios).for_each(|(ahead, ratio)| *ahead += usize::from(ratio <= 1.0));
        let [of_anew, _, of_kept] = ratios;
        println!(
            "reports  {name:<38} {anew:>8.2} {duckdb:>8.2} {chdb:>8.2} {of_anew:>6.2} {kept:>8.2} {prepared:>8.2} {of_kept:>6.2}  {}",
            different.join("; ")
        );
    }
    let ([anew, kept, all], questions) = (ahead, said.len());
    println!("reports  at or ahead of the better of DuckDB and chDB in {anew} of {questions} questions, planned anew");
    println!("reports  with kept plans in {kept}, and counting prepared statements in {all}");
    Ok(())
}

fn asked(
    ask: &Ask,
    engine: &Engine,
    tenant: TenantId,
    ours: &HashMap<String, Took>,
    (peer, prepared): (&str, bool),
) -> anyhow::Result<Vec<Said>> {
    let store = engine.facts.store();
    let files = |table: Table| -> Vec<String> {
        store.snapshot(tenant, table).files.iter().map(|file| file.path().display().to_string()).collect()
    };
    let tables: BTreeMap<&str, Vec<String>> =
        Table::ALL.into_iter().map(|table| (table.as_str(), files(table))).collect();
    let question = json!({
        "engine": peer,
        "prepared": prepared,
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
