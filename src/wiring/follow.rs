//! How a thread follows the log: wait for the end to move, read, handle, in order, for ever.

use ingest::log::{LogReader, Offset, Record};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Records in one batch: enough to amortize a job's run, few enough to stay fresh.
pub const BATCH_RECORDS: usize = 512;
/// Wait after a failure; doubles up to the second.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What a follower does with records.
pub trait Follower {
    /// Where to read on.
    fn next(&self) -> Offset;

    /// Handles the records from [`next`](Self::next) on; on `Err` they come again.
    ///
    /// # Errors
    /// Whatever stands in the way; it is logged and tried again.
    fn handle(&mut self, records: &[Arc<Record>], runtime: &Handle) -> anyhow::Result<()>;

    /// Called between batches and at least once a second.
    ///
    /// # Errors
    /// Logged, and tried again.
    fn idle(&mut self, runtime: &Handle) -> anyhow::Result<()>;
}

/// Follows until `stop`. Nothing is skipped: a record that can't be handled is tried again until it can.
pub fn follow(
    name: &'static str,
    reader: &dyn LogReader,
    runtime: &Handle,
    stop: &CancellationToken,
    follower: &mut impl Follower,
) {
    let mut end = reader.watch_end();
    let mut retry = RETRY_FIRST;
    while !stop.is_cancelled() {
        end.borrow_and_update();
        match step(reader, runtime, follower) {
            Ok(true) => retry = RETRY_FIRST,
            Ok(false) => {
                let wait = async {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = tokio::time::timeout(Duration::from_secs(1), end.changed()) => {}
                    }
                };
                runtime.block_on(wait);
            }
            Err(error) => {
                metrics::counter!("parlance_follower_failures_total", "follower" => name).increment(1);
                tracing::error!(
                    follower = name,
                    error = format!("{error:#}"),
                    "failed to follow the log; trying again"
                );
                runtime.block_on(async {
                    tokio::select! { () = stop.cancelled() => {} () = tokio::time::sleep(retry) => {} }
                });
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
        let lag = reader.end().saturating_sub(follower.next());
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("parlance_follower_lag_events", "follower" => name).set(lag as f64);
    }
}

/// One batch; `false` when there was nothing to read.
fn step(reader: &dyn LogReader, runtime: &Handle, follower: &mut impl Follower) -> anyhow::Result<bool> {
    let records = reader.read(follower.next(), BATCH_RECORDS)?;
    if !records.is_empty() {
        follower.handle(&records, runtime)?;
    }
    follower.idle(runtime)?;
    Ok(!records.is_empty())
}
