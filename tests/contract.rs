//! `docs/CONTRACT.md` has a row for every line of the chat API's contract, and names tests that exist.

mod support;

use std::collections::BTreeSet;
use support::sources::{functions, quoted, root, rows};

#[test]
fn every_test_that_is_named_exists() {
    let functions = functions();
    let mut named = 0;
    for row in rows("docs/CONTRACT.md") {
        let tests = if row.len() == 4 { &row[2] } else { &row[1] };
        for test in quoted(tests) {
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
