//! Files and directories are made where their durability is seen to: in `ingest/src/durable.rs`. Whoever makes one by
//! themselves is listed here, with the reason why a power cut may take it; and whoever isn't fails.

mod support;

use std::collections::BTreeMap;
use support::sources::files;

/// What makes a file or a directory, or gives one another name.
const MAKES: [&str; 11] = [
    "fs::create_dir",
    "DirBuilder::new",
    "File::create",
    "create_new(",
    ".create(true)",
    "OpenOptions::new",
    "fs::write(",
    "fs::copy(",
    "fs::rename(",
    "fs::hard_link(",
    "fs::symlink(",
];

/// Where the product does so, how often, and why.
const LISTED: [(&str, usize, &str); 8] = [
    ("chat-api/src/files/mod.rs", 1, "half a file; `finish` syncs and moves it"),
    ("ingest/src/sqlite/data_dir.rs", 1, "the lock: it holds nothing"),
    ("ingest/src/sqlite/log.rs", 1, "the head: an older one, or none, only notices less"),
    ("sinks/src/parquet/files.rs", 1, "a temporary name; what is written there is synced and moved"),
    ("src/engine.rs", 1, "spills, which end with the process"),
    ("src/output.rs", 1, "an export; `finish` syncs it"),
    ("src/wiring/disk.rs", 1, "a probe, deleted at once"),
    ("ingest/src/durable.rs", 3, "here it's done"),
];

#[test]
fn files_are_only_made_where_their_durability_is_seen_to() {
    let product = |path: &str| {
        let is_source = path.starts_with("src/") || path.contains("/src/");
        is_source && !path.starts_with("src/bench/") && !path.starts_with("fuzz/")
    };
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for (path, text) in files().into_iter().filter(|(path, _)| product(path)) {
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let count = code.filter(|line| MAKES.iter().any(|makes| line.contains(makes))).count();
        if count > 0 {
            found.insert(path, count);
        }
    }
    let listed: BTreeMap<String, usize> = LISTED.iter().map(|(path, count, _)| ((*path).to_owned(), *count)).collect();
    assert_eq!(found, listed, "make it by ingest::durable, or say here why it needn't be there after a power cut");
}
