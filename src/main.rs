//! The `parlance` binary: the command line, and the wiring that alone sees every crate.
//!
//! - [`client`]: a client of the public API, for the demo and the benchmarks.
//! - [`cli`], [`config`]: what is said on the command line, in `PARLANCE_*` variables and in the TOML file.
//! - [`connections`]: what comes in through the doors, and for how long it may stay.
//! - [`ending`]: signals, and the end of the process. [`engine`]: an open data directory with its writer and its facts. [`wiring`]: followers of the log, and ports.
//! - [`server`]: an engine with jobs, mail, sockets and HTTP. [`demo`]: a server with live traffic.
//! - [`offline`], [`remote`]: the commands on a data directory, and on a running server.
//! - [`verify`], [`rebuild`]: the log is the truth. [`bench`]: what it costs.

mod bench;
mod cli;
mod client;
mod config;
mod connections;
mod demo;
mod ending;
mod engine;
mod offline;
mod output;
mod pg;
mod rebuild;
mod remote;
mod server;
mod verify;
mod wiring;

use clap::Parser as _;
use mimalloc::MiMalloc;

/// A message makes some hundreds of small allocations on one thread that another frees; glibc's allocator takes a sixth of
/// its time for them. Without huge pages, which the kernel clears whole: a report that reads a few columns took twice the
/// memory, and its first call several times as long.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    keep_files_private();
    // One TLS and hash implementation in the tree; the libraries ask for the process's default.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a crypto provider was installed before");
    }
    let cli = cli::Cli::parse();
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let outcome = runtime.block_on(cli::run(cli));
        ending::leave(runtime);
        outcome
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("parlance: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// What this process writes is about people: nobody else on the machine reads it, whichever file it is.
#[expect(unsafe_code, reason = "it sets a number of the process; no library of the tree has it")]
fn keep_files_private() {
    // SAFETY: it takes and gives a number, and can't fail.
    unsafe { libc::umask(0o077) };
}
