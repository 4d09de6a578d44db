//! The end of the process: a signal is heard by a thread of its own, and soon after it the process has ended, whatever its
//! other threads are at. Start at [`on_signal`].

use anyhow::Context as _;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// From the signal to the end at the latest. What was acknowledged is on the disk by then; what wasn't may be lost, as by
/// `kill -9`.
const STOP_MAX: Duration = Duration::from_secs(20);
/// What threads still do when everything was stopped gets this long.
const THREADS_MAX: Duration = Duration::from_millis(500);

/// Cancelled at Ctrl-C or SIGTERM. It needs none of the runtime's threads, which may all be busy; and if they stay so, it
/// ends the process.
///
/// # Errors
/// When signals can't be listened to.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        let listen = |kind| signal(kind).context("failed to listen for signals");
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?)
    };
    let asked = CancellationToken::new();
    let heard = asked.clone();
    let listening = move || {
        runtime.block_on(async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        });
        heard.cancel();
        std::thread::sleep(STOP_MAX);
        tracing::error!("the server has not stopped within {} s and is ended", STOP_MAX.as_secs());
        std::process::exit(1);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listening).context("failed to listen for signals")?;
    Ok(asked)
}

/// Ends a runtime without waiting for threads that compute.
pub fn leave(runtime: Runtime) {
    runtime.shutdown_timeout(THREADS_MAX);
}
