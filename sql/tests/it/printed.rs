//! A syntax tree that is printed is no key and is never parsed: trees that differ print alike. No lint can tell the printing of
//! a tree from that of a number, so the places that print at all, in files that know trees, are counted here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use expect_test::expect;

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Before changing a number: what is printed may be said to a person, or be a value that is bound; what tells statements apart
/// is a `Source`, and what is parsed is a caller's text.
#[test]
fn places_that_print_are_known() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&sources, &mut found);
    let mut places = BTreeMap::new();
    for path in found {
        let text = std::fs::read_to_string(&path).expect("a text");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let printing = ["to_string()", "format!(", "write!(", "writeln!(", "format_args!("];
        let count: usize = printing.iter().map(|word| code.matches(word).count()).sum();
        if code.contains("sqlparser") && count > 0 {
            places.insert(path.strip_prefix(&sources).expect("inside").display().to_string(), count);
        }
    }
    expect![[r#"
        {
            "budget.rs": 2,
            "filter.rs": 1,
            "gate.rs": 14,
            "own.rs": 7,
            "pg/job.rs": 3,
            "pg/params.rs": 16,
            "pg/rewrite.rs": 6,
            "pg/session.rs": 4,
            "template/bind.rs": 1,
        }
    "#]]
    .assert_debug_eq(&places);
}
