//! Tinybird's own examples of its template language, as the independent reference of ours: the doctests of PyPI
//! `tinybird`'s `tinybird.sql_template`, taken from the installed package when the test runs.
//!
//! Compared is the SQL, however literals are quoted, escaped, cast or listed. What differs on purpose is in
//! [`DIFFERENT`], with the reason.

use crate::python;

use serde::Deserialize;
use std::path::Path;
use std::process::Command;

pub(crate) const PYPI: &str = "tinybird==5.0.2";

/// Examples whose source holds this word, and why they are not ours.
const DIFFERENT: &[(&str, &str)] = &[
    ("test_mode=True", "made-up values for a template without parameters: ours is checked when it is loaded"),
    ("tb_secret", "there are no secrets in a template"),
    ("Int128", "the engine's integers end at 64 bits"),
    ("Int256", "the engine's integers end at 64 bits"),
    ("max_threads", "how a query runs is the engine's to say"),
    ("sql_unescape", "a value is bound and so never escaped"),
];

/// Examples by the hash of their source, and why ours give something else.
const DIFFERENT_ONES: &[(&str, &str)] = &[
    ("bedc861bf238e4e1", "what a request says is text until a type reads it"),
    ("0c7a17ab6a9efb17", "a name is letters, digits and _, so that quoting can't be left"),
    ("7dc0ef448c656af3", "a name is letters, digits and _, so that quoting can't be left"),
    ("1b42c4c8f6460481", "a name is letters, digits and _, so that quoting can't be left"),
    ("dce8ca597a7b3d99", "what isn't given is NULL"),
    ("415e962bcab6185a", "what isn't given is NULL"),
    ("f761582121d1e080", "what isn't given is NULL"),
    ("8d1583b59d4e3289", "what isn't given is NULL, unless it says required=True"),
    ("35adaecb9630a05a", "what isn't given is NULL, unless it says required=True"),
    ("8f6ecf6f7bbf9f41", "an empty list is the list of NULL, which IN never finds"),
    ("e5717728508482a5", "an empty list is the list of NULL, which IN never finds"),
    ("b07910865d1cc1d8", "an empty list is the list of NULL, which IN never finds"),
    ("5fc8a0f6b6071ea6", "reserved names are refused when an endpoint is loaded, not when it's rendered"),
    ("882c1aff857319dc", "reserved names are refused when an endpoint is loaded, not when it's rendered"),
    ("03d6d7315eab9c4e", "reserved names are refused when an endpoint is loaded, not when it's rendered"),
];

#[derive(Deserialize)]
struct Example {
    source: String,
    template: String,
    parameters: sql::Params,
    /// `None`: an error.
    sql: Option<String>,
}

fn examples() -> Vec<Example> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/doctests.py");
    let python = python::environment(PYPI).join("bin/python");
    let output = Command::new(python).arg("-I").arg(script).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("examples")
}

/// FNV-1a: names an example without repeating it.
fn hash(source: &str) -> String {
    let hash = source
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// A literal is what it says: `toInt32('1')`, `CAST('1' AS DOUBLE)` and `1` are one, and so are `[a,b]` and `(a, b)`.
pub(crate) fn plain(sql: &str) -> String {
    let mut text = sql.replace("\\'", "''").replace("\\\"", "\"").replace('`', "\"");
    for (open, close) in [("CAST('", "' AS DOUBLE)"), ("CAST('", "' AS DATE)")] {
        while let Some((before, rest)) = text.split_once(open) {
            let (value, after) = rest.split_once(close).expect("a cast");
            let quote = if close.contains("DATE") { "'" } else { "" };
            text = format!("{before}{quote}{value}{quote}{after}");
        }
    }
    while let Some((before, rest)) = text.split_once("arrow_cast('") {
        let (value, after) = rest.split_once("', 'Timestamp(Millisecond, Some(\"UTC\"))')").expect("a cast");
        let value = value.replace('T', " ").trim_end_matches('Z').trim_end_matches(".000").to_owned();
        text = format!("{before}'{value}'{after}");
    }
    for kind in ["Float32", "Float64", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"] {
        let open = format!("to{kind}('");
        while let Some((before, rest)) = text.split_once(&open) {
            let (value, after) = rest.split_once("')").expect("a call");
            text = format!("{before}{value}{after}");
        }
    }
    let text = text.replace('[', "(").replace(']', ")").replace(".000'", "'");
    // A number with a point and nothing after it, and booleans, which ClickHouse has as numbers.
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'));
    let words = words.map(|word| {
        let (word, end) = match word.char_indices().last() {
            Some((at, last)) if !last.is_ascii_alphanumeric() && !matches!(last, '.' | '_' | '-') => word.split_at(at),
            _ => (word, ""),
        };
        let number = word.strip_suffix(".0").filter(|whole| whole.parse::<i64>().is_ok()).unwrap_or(word);
        let number = match number {
            "true" => "1",
            "false" => "0",
            number => number,
        };
        format!("{number}{end}")
    });
    let joined: String = words.collect();
    joined.replace(", ", ",").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn templates_render_as_in_tinybirds_examples() {
    let examples = examples();
    let mut wrong = Vec::new();
    let mut same = 0;
    let mut unused: Vec<&str> = DIFFERENT.iter().chain(DIFFERENT_ONES).map(|(mark, _)| *mark).collect();
    for example in &examples {
        let by_word = DIFFERENT.iter().find(|(word, _)| example.source.contains(word));
        let id = hash(&example.source);
        let by_hash = DIFFERENT_ONES.iter().find(|(known, _)| *known == id);
        if let Some((mark, _)) = by_word.or(by_hash) {
            unused.retain(|unused| unused != mark);
            continue;
        }
        let ours = sql::preview_template(&example.template, &example.parameters, chrono_tz::UTC);
        let agree = match (&ours, &example.sql) {
            (Ok(ours), Some(theirs)) => plain(ours) == plain(theirs),
            (Err(_), None) => true,
            _ => false,
        };
        if agree {
            same += 1;
        } else {
            wrong.push(format!("{id} {}\n  theirs {:?}\n  ours   {ours:?}", example.source, example.sql));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), examples.len(), wrong.join("\n"));
    assert!(same >= 60, "only {same} examples were compared");
    assert!(unused.is_empty(), "nothing differs by {unused:?} any more");
}
