//! `cargo xtask test`: every test of the repository, with what it needs. Steps print what they do; the first failure
//! ends the run with its code. `cargo xtask mutants`: the control of the isolation tests ([`mutants`]). `cargo xtask fuzz`:
//! the search for inputs that break what takes callers' bytes ([`fuzz`]).

mod fuzz;
mod mutants;

use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const HELP: &str = "usage: cargo xtask test [FILTER…] | mutants [NAME…] | fuzz [TARGET…] [--seconds N]
  test     format, lints, dependency rules, all tests (with FILTER: only tests whose names match, nothing else)
  mutants  takes out what keeps tenants apart, in a copy, and counts the isolation tests that notice
  fuzz     runs the fuzzers of fuzz/, two minutes each";

fn main() -> anyhow::Result<()> {
    if std::env::var_os(fuzz::AS_COMPILER).is_some() {
        return fuzz::compile(&std::env::args_os().skip(1).collect::<Vec<_>>());
    }
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("test") => test(&args.collect::<Vec<_>>()),
        Some("fuzz") => fuzz::run(&root(), &args.collect::<Vec<_>>()),
        Some("mutants") => mutants::run(&root(), &args.collect::<Vec<_>>()),
        _ => bail!("{HELP}"),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Runs a step, showing its command.
fn step(name: &str, command: &mut Command) -> anyhow::Result<()> {
    let started = Instant::now();
    println!("── {name}");
    let status = command.current_dir(root()).status().with_context(|| format!("failed to start: {command:?}"))?;
    if !status.success() {
        bail!("{name} failed ({status}): {command:?}");
    }
    println!("── {name}: ok, {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

fn test(filter: &[String]) -> anyhow::Result<()> {
    needs_tools()?;
    if filter.is_empty() {
        step("format", &mut cargo(&["fmt", "--all", "--check"]))?;
        step("dependency rules", &mut dependency_rules()?)?;
        step(
            "lints",
            cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])
                .env("CARGO_INCREMENTAL", "0"),
        )?;
    }
    // The release profile, as the demo: the large dependencies are compiled once for both.
    let nextest = Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|out| out.status.success());
    let mut tests = if nextest {
        cargo(&["nextest", "run", "--release", "--workspace", "--no-fail-fast"])
    } else {
        cargo(&["test", "--release", "--workspace", "--no-fail-fast"])
    };
    tests.args(filter);
    step("tests", &mut tests)
}

/// What the tests run beside the compiler: real servers and clients from PyPI and npm in folders of their own, npm's
/// package that makes the web's types, and the README's tour.
fn needs_tools() -> anyhow::Result<()> {
    let tools: [(&str, &[&str], &str); 5] = [
        ("python3", &["-c", "import venv, ensurepip"], "python3-venv"),
        ("npm", &["--version"], "npm"),
        ("bash", &["--version"], "bash"),
        ("curl", &["--version"], "curl"),
        ("jq", &["--version"], "jq"),
    ];
    let missing = tools
        .into_iter()
        .filter(|(tool, args, _)| !Command::new(tool).args(*args).output().is_ok_and(|output| output.status.success()));
    let packages: Vec<&str> = missing.map(|(_, _, package)| package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    bail!("the tests need more tools: apt-get install {}", packages.join(" "))
}

/// Which crate may know which, one version of arrow and datafusion, and cargo-deny where it's installed.
fn dependency_rules() -> anyhow::Result<Command> {
    let tree = cargo(&["tree", "--workspace", "--edges", "normal,build", "--prefix", "none", "--locked"])
        .current_dir(root())
        .output()
        .context("failed to run cargo tree")?;
    let tree = String::from_utf8(tree.stdout).context("cargo tree prints UTF-8")?;
    for only_once in ["arrow", "datafusion", "parquet", "tokio", "rusqlite"] {
        let mut versions: Vec<&str> =
            tree.lines().filter_map(|line| line.strip_prefix(&format!("{only_once} v"))?.split(' ').next()).collect();
        versions.sort_unstable();
        versions.dedup();
        if versions.len() != 1 {
            bail!("there must be one version of {only_once}, found {versions:?}");
        }
    }
    for (crate_name, may_know) in [
        ("ingest", &[][..]),
        ("pipelines", &["ingest", "udf-macro"]),
        ("sinks", &["ingest"]),
        ("sql", &["ingest"]),
        ("chat-api", &["ingest", "pipelines", "sql", "sinks"]),
    ] {
        let listed =
            cargo(&["tree", "-p", crate_name, "--depth", "1", "--edges", "normal", "--prefix", "none", "--locked"])
                .current_dir(root())
                .output()
                .context("failed to run cargo tree")?;
        let listed = String::from_utf8(listed.stdout).context("cargo tree prints UTF-8")?;
        for line in listed.lines().skip(1).filter(|line| line.contains("(/")) {
            let known = line.split(' ').next().unwrap_or_default();
            if known != crate_name && !may_know.contains(&known) {
                bail!("{crate_name} must not know {known}: arrows go one way");
            }
        }
    }
    let deny = Command::new("cargo").args(["deny", "--version"]).output().is_ok_and(|out| out.status.success());
    Ok(if deny {
        cargo(&["deny", "--offline", "check", "licenses", "bans", "sources"])
    } else {
        println!("cargo-deny isn't installed: licenses were not checked (cargo install cargo-deny)");
        cargo(&["--version"])
    })
}
