//! `cargo xtask fuzz`: looks for inputs that break what takes callers' bytes (`fuzz/`), by libFuzzer, on stable. Only the
//! workspace's own crates are compiled to say which of their branches ran, by this binary standing in for rustc
//! ([`compile`]); what they depend on is the same as in any build. Start at [`run`].

use anyhow::{Context as _, bail, ensure};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Set where this binary is asked to compile.
pub const AS_COMPILER: &str = "PARLANCE_FUZZ_COMPILER";
/// Crates that say which of their branches ran.
const WATCHED: [&str; 5] = ["chat_api", "fuzz", "ingest", "sinks", "sql"];
/// What the fuzzer reads while it runs.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// As long as an issue's end asks of each target.
const SECONDS: u32 = 120;
/// An input that takes longer is a fault.
const INPUT_SECONDS_MAX: u32 = 10;
/// Memory of the whole fuzzer, in MiB; an input that needs more is a fault.
const MEMORY_MIB_MAX: u32 = 2_048;
/// KiB of stack: what the engine's threads have.
const STACK_KIB: u32 = 16 * 1024;

/// `[TARGET…] [--seconds N]`; without targets all of them, one after the other.
pub fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let mut seconds = SECONDS;
    let mut targets = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--seconds" {
            seconds = args.next().context("--seconds wants a number")?.parse().context("--seconds wants a number")?;
        } else {
            targets.push(arg.clone());
        }
    }
    if targets.is_empty() {
        targets = names(root)?;
    }
    let out = root.join("target/fuzz");
    build(root, &out, &targets)?;
    for target in &targets {
        fuzz(root, &out, target, seconds)?;
    }
    Ok(())
}

/// The targets are the files of `fuzz/targets`.
fn names(root: &Path) -> anyhow::Result<Vec<String>> {
    let files = std::fs::read_dir(root.join("fuzz/targets")).context("failed to read fuzz/targets")?;
    let mut names = Vec::new();
    for file in files {
        let path = file?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The whole workspace is asked for, as any build here does: with the features of one package alone, dependencies would be compiled
/// once more.
fn build(root: &Path, out: &Path, targets: &[String]) -> anyhow::Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--workspace", "--features", "fuzz/libfuzzer"]).current_dir(root);
    for target in targets {
        cargo.args(["--bin", target]);
    }
    // Compiled dependencies are those of any other build; the fuzzers themselves lie apart.
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| root.join("target").into_os_string());
    cargo.env("CARGO_BUILD_BUILD_DIR", target).env("CARGO_TARGET_DIR", out);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", std::env::current_exe()?).env(AS_COMPILER, "1");
    ensure!(cargo.status().context("failed to run cargo")?.success(), "the fuzzers were not built");
    Ok(())
}

fn fuzz(root: &Path, out: &Path, target: &str, seconds: u32) -> anyhow::Result<()> {
    let corpus = root.join("fuzz/corpus").join(target);
    ensure!(corpus.is_dir(), "there is no corpus {}", corpus.display());
    // What is new goes to a folder of its own; what of it is worth keeping is for a person to say.
    let found = out.join("found").join(target);
    std::fs::create_dir_all(&found)?;
    println!("── {target}: {seconds} s");
    let fuzzer = out.join("release").join(target);
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -s {STACK_KIB} && exec \"$0\" \"$@\""))
        .arg(fuzzer)
        .args([&found, &corpus])
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .args(["-max_len=70000", "-len_control=20", "-print_final_stats=1", "-verbosity=1"])
        .status()
        .context("failed to run the fuzzer")?;
    if !status.success() {
        bail!("{target} was broken ({status}); the input is in {}", found.display());
    }
    Ok(())
}

/// Stands in for rustc: `arguments` are the compiler and what it is asked. Never returns where it can help it.
pub fn compile(arguments: &[OsString]) -> anyhow::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let (rustc, arguments) = arguments.split_first().context("cargo names the compiler")?;
    let text = |at: usize| arguments.get(at).and_then(|argument| argument.to_str());
    let after = |name: &str| (0..arguments.len()).find(|at| text(*at) == Some(name)).and_then(|at| text(at + 1));
    let in_targets =
        arguments.iter().any(|argument| argument.to_str().is_some_and(|path| path.starts_with("fuzz/targets")));
    let watched = after("--crate-name").is_some_and(|name| WATCHED.contains(&name)) || in_targets;
    let mut command = Command::new(rustc);
    command.args(arguments);
    if watched && after("--crate-type") != Some("proc-macro") {
        command.args(COVERAGE);
    }
    Err(command.exec()).context("failed to start the compiler")
}
