//! The README's tour, run as it is written there: `curl` and a socket client against the real server.

#[path = "../sinks/tests/it/python.rs"]
mod python;
mod support;

use std::path::Path;
use std::process::Command;
use support::Server;

/// The shell commands of the section, put together.
fn tour() -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("a README");
    let (_, section) = readme.split_once("\n## A tour\n").expect("a tour");
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```bash\n").skip(1).filter_map(|block| block.split_once("```")).map(|(block, _)| block);
    blocks.collect()
}

#[test]
fn the_readmes_tour_works_as_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::start(&dir.path().join("data"), &[]);
    let script = tour().replace("http://localhost:8080", &server.base);
    assert!(script.contains(&server.base), "the tour talks to this server");
    let heard = dir.path().join("heard");
    let script = format!("set -euo pipefail\n{}", script.replace("/tmp/heard", &heard.display().to_string()));
    let bin = python::environment("websockets==17.4").join("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash").args(["-c", &script]).env("PATH", path).output().expect("bash runs");
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "it needs bash, curl and jq\n{text}\n{error}");
    let lines: Vec<&str> = text.lines().collect();
    let has = |line: &str| assert!(lines.contains(&line), "no {line}\n{text}");
    has(r#"{"name":"Ada","status":"online","acceptingChats":true}"#);
    has(r#"{"seq":4,"authorType":"system","content":"Agent Ada joined"}"#);
    // Said while nobody listened, heard after the resume, and nothing before it again.
    let resumed = lines.iter().position(|line| line.contains("It left the house on Monday.")).expect("resumed");
    assert!(lines[resumed - 1].starts_with(r#"{"seq":6,"#), "{text}");
    has(r#"{"status":"active","agentName":"Bob"}"#);
    has(r#"{"seq":11,"author":"Bob","content":"It arrives tomorrow."}"#);
    has("11\tagent\tIt arrives tomorrow.");
    assert!(!text.contains("knows the carrier"), "a note is not for visitors\n{text}");
    assert!(lines.iter().any(|line| line.ends_with("\tagent.created\tAda")), "{text}");
    assert_eq!(lines.last(), Some(&r#"[{"count":1,"avg":5,"csat":1}]"#));
    server.stop();
}
