//! The repository's own sources, for tests that hold documents to them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the product and its tests are.
const PLACES: [&str; 8] = ["chat-api", "fuzz", "ingest", "pipelines", "sinks", "sql", "src", "tests"];

/// The repository's folder.
pub fn root() -> &'static Path {
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

/// Every Rust file by its path from the root, and its text; the product's and its tests'.
pub fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for place in PLACES {
        rust_files(&root().join(place), &mut files);
    }
    let read = |file: PathBuf| {
        let path = file.strip_prefix(root()).expect("within").to_str().expect("UTF-8").to_owned();
        (path, std::fs::read_to_string(&file).expect("UTF-8"))
    };
    files.into_iter().map(read).collect()
}

/// The names of all functions of all tests, and of the modules' own.
pub fn functions() -> BTreeSet<String> {
    let name = |line: &str| Some(line.split_once("fn ")?.1.split_once('(')?.0.to_owned());
    files().iter().flat_map(|(_, text)| text.lines().filter_map(name)).collect()
}

/// The rows of a document's tables, a cell each.
pub fn rows(document: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join(document)).expect("a document");
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    rows.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands in backquotes.
pub fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}
