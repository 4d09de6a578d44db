//! A power cut at any moment loses nothing that was acknowledged: no sign-up, message, upload or row, and nobody who was erased
//! comes back; the server starts on what the disk has, and `verify` finds no damage.
//!
//! The real server runs with a library before it ([`shim.rs`](shim.rs)) that writes down what it does to its files, while
//! [`traffic`] uses it and is stopped and started in between. [`disk`] makes of a random moment what a disk may hold then,
//! by two orders, ten times each. What a missing sync does is noticed: two controls leave some out.
//!
//! Seeds are printed; `PARLANCE_POWER_CUT=SEED:TRACE` cuts a trace again that a failure has left.

#[path = "../support/mod.rs"]
mod support;

mod disk;
mod trace;
mod traffic;

use disk::{Disk, Order};
use fastrand::Rng;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use support::{Server, parlance, run_any};
use trace::{Notes, Step};

/// Cuts by each order.
const CUTS: u64 = 10;
/// Cuts in which a control must find a loss; a few are enough, as a rule.
const CONTROL_CUTS: u64 = 50;
/// All come from one address.
const UNLIMITED: &[&str] = &["--limit", "all=off"];
/// The first start and the first sign-up, of some 90,000.
const FIRST_STEPS: usize = 2_000;
/// Between two restarts.
const ROUND: Duration = Duration::from_millis(1_500);

/// The library before the C library.
fn shim(dir: &Path) -> PathBuf {
    let library = dir.join("shim.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/power_cut/shim.rs");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "-O", "-C", "panic=abort", "--crate-type", "cdylib", source, "-o"]).arg(&library);
    let output = rustc.output().expect("rustc runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

/// A server whose files are watched, below `root`.
fn watched(place: &Path, root: &Path, trace: &Path) -> Server {
    let mut command = parlance();
    command.env("LD_PRELOAD", place.join("shim.so")).env("POWER_CUT_ROOT", root).env("POWER_CUT_TRACE", trace);
    Server::start_by(command, &root.join("data"), UNLIMITED).expect("the server starts")
}

/// Runs the server and those who use it, and stops and starts it in between. It isn't killed: a record would be cut off.
async fn record(place: &Path, trace: &Path) {
    let root = std::fs::canonicalize(place).expect("there").join("disk");
    std::fs::create_dir(&root).expect("made");
    shim(place);
    let notes = Arc::new(Notes::open(trace));
    let server = watched(place, &root, trace);
    let mut accounts = vec![traffic::account(&server, &notes, "Acme").await];
    traffic::write(&server, &notes, &accounts, 0, ROUND).await;
    server.stop();
    let server = watched(place, &root, trace);
    accounts.push(traffic::account(&server, &notes, "Bolt").await);
    traffic::write(&server, &notes, &accounts, 1, ROUND).await;
    server.stop();
    let server = watched(place, &root, trace);
    traffic::write(&server, &notes, &accounts, 2, ROUND).await;
    server.stop();
    let steps = trace::read(trace);
    the_trace_is_whole(&steps, &root);
}

/// What the trace makes is what is there: nothing was done that wasn't written down.
fn the_trace_is_whole(steps: &[Step], root: &Path) {
    let live = Disk::at(steps, steps.len(), &|_, _| false).live();
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !name.ends_with("-shm") && !name.contains("/tmp/") {
                found.insert(name, std::fs::read(path).expect("readable"));
            }
        }
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), live.files.keys().collect::<Vec<_>>(), "the names");
    for (name, bytes) in &found {
        assert!(live.files[name] == *bytes, "{name} has other bytes: {} and {}", bytes.len(), live.files[name].len());
    }
    assert!(found.keys().any(|name| name.ends_with(".parquet")), "rows were flushed: {:?}", found.keys());
}

/// Starts the server on what a cut leaves, and looks for all that was acknowledged before it.
async fn check(steps: &[Step], cut: usize, image: &disk::Image) -> Result<(), String> {
    let place = tempfile::tempdir().expect("temp dir");
    image.write(place.path());
    let data = place.path().join("data");
    let acknowledged: Vec<&Value> = steps[..cut]
        .iter()
        .filter_map(|step| match step {
            Step::Acknowledged(what) => Some(what),
            _ => None,
        })
        .collect();
    let Some(server) = Server::start_by(parlance(), &data, UNLIMITED) else {
        let output = run_any(&data, &["verify"]);
        return Err(format!("the server doesn't start: {}", String::from_utf8_lossy(&output.stderr)));
    };
    traffic::look_for(&server, &acknowledged).await?;
    server.stop();
    let output = run_any(&data, &["verify"]);
    if !output.status.success() {
        return Err(format!("verify: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(())
}

/// A moment to cut at: any, one before the first stop, one in the first start, or just after an answer.
fn moment(steps: &[Step], dice: &mut Rng) -> usize {
    let any = dice.usize(..=steps.len());
    match dice.usize(..4) {
        0 => any,
        1 => any / 4,
        2 => any % FIRST_STEPS,
        _ => {
            let is_answer = |step: &Step| matches!(step, Step::Acknowledged(_));
            steps[any..].iter().position(is_answer).map_or(steps.len(), |after| any + after + 1)
        }
    }
}

/// A moment of the trace, and what the disk holds then.
async fn cut(steps: &[Step], order: Order, seed: u64, skipped: &dyn Fn(usize, &str) -> bool) -> Result<(), String> {
    let mut dice = Rng::with_seed(seed);
    let at = moment(steps, &mut dice);
    let image = Disk::at(steps, at, skipped).cut(order, &mut dice);
    check(steps, at, &image)
        .await
        .map_err(|loss| format!("{order:?}, seed {seed}, step {at} of {}: {loss}", steps.len()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let given = std::env::var("PARLANCE_POWER_CUT").ok();
    let given = given.as_deref().and_then(|given| given.split_once(':'));
    let first = given.map_or_else(|| u64::from(std::process::id()) * 1_000, |(seed, _)| seed.parse().expect("a seed"));
    let place = tempfile::tempdir().expect("temp dir");
    let trace = given.map_or_else(|| place.path().join("trace"), |(_, trace)| PathBuf::from(trace));
    if given.is_none() {
        record(place.path(), &trace).await;
    }
    let steps = trace::read(&trace);
    let acknowledged = steps.iter().filter(|step| matches!(step, Step::Acknowledged(_))).count();
    println!("{} steps, {acknowledged} acknowledgements, seeds from {first}", steps.len());
    assert!(acknowledged > 100, "the traffic flowed");

    let mut losses = Vec::new();
    for seed in first..first + CUTS {
        for order in [Order::Strict, Order::Ext4] {
            losses.extend(cut(&steps, order, seed, &|_, _| false).await.err());
        }
    }
    if !losses.is_empty() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power_cut.{first}.trace"));
        std::fs::copy(&trace, &kept).expect("kept");
        panic!("PARLANCE_POWER_CUT={first}:{} cuts again: {losses:#?}", kept.display());
    }
    // Had the server not synced names, or its database, it would have been noticed.
    let made = steps.iter().position(|step| matches!(step, Step::Mkdir(path) if path == "data/files")).expect("files");
    let is_its_sync = |step: &Step| matches!(step, Step::DirSyncEnds { path, .. } if path == "data");
    let synced = made + steps[made..].iter().position(is_its_sync).expect("the directory's name is synced");
    a_loss_is_noticed(&steps, first, "the name of the files' directory", &|at, _| at == synced).await;
    a_loss_is_noticed(&steps, first, "the names of files", &|_, path| path == "data/files").await;
    a_loss_is_noticed(&steps, first, "the database", &|_, path| path.starts_with("data/parlance.db")).await;
}

async fn a_loss_is_noticed(steps: &[Step], first: u64, what: &str, skipped: &dyn Fn(usize, &str) -> bool) {
    for seed in first..first + CONTROL_CUTS {
        if let Err(loss) = cut(steps, Order::Strict, seed, skipped).await {
            println!("without syncs of {what}: {loss}");
            return;
        }
    }
    panic!("{what} needn't be synced, if this test is right");
}
