//! `docs/CONTRACT.md` has a row for every line of the chat API's contract, and names tests that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// The names of all functions of all tests, and of the modules' own.
fn functions() -> BTreeSet<String> {
    let mut files = Vec::new();
    for place in ["chat-api", "ingest", "pipelines", "sinks", "sql", "src", "tests"] {
        rust_files(&root().join(place), &mut files);
    }
    let names = |file: PathBuf| {
        let text = std::fs::read_to_string(file).expect("UTF-8");
        let names = text.lines().filter_map(|line| line.split_once("fn ")?.1.split_once('('));
        names.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    files.into_iter().flat_map(names).collect()
}

fn rows() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs/CONTRACT.md")).expect("a document");
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    rows.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn every_test_that_is_named_exists() {
    let functions = functions();
    let mut named = 0;
    for row in rows() {
        let tests = if row.len() == 4 { &row[2] } else { &row[1] };
        for test in tests.split('`').skip(1).step_by(2) {
            assert!(functions.contains(test), "{}: there is no test {test}", row[0]);
            named += 1;
        }
    }
    assert!(named > 100, "the table is read: {named}");
}

#[test]
fn every_line_of_the_contract_has_a_row() {
    let contract = std::fs::read_to_string(root().join("docs/contracts/chat-api.md")).expect("the contract");
    let text = std::fs::read_to_string(root().join("docs/CONTRACT.md")).expect("a document");
    let mut covered = BTreeSet::new();
    for line in text.lines() {
        let lines = line.trim_start_matches("| ").split(" |").next().unwrap_or_default();
        let mut ends = lines.split('–').map(str::parse::<usize>);
        if let Some(Ok(first)) = ends.next() {
            covered.extend(first..=ends.next().and_then(Result::ok).unwrap_or(first));
        }
    }
    for (number, line) in (1..).zip(contract.lines()) {
        if !line.trim().is_empty() && !line.starts_with('#') {
            assert!(covered.contains(&number), "line {number} has no row: {line}");
        }
    }
}
