//! Two lanes of threads, so that short queries don't wait behind long ones, and nobody's messages behind either.
//!
//! A query starts in the quick lane, at nice 19. What isn't done there within [`QUICK_MAX`] is stopped and starts anew in the
//! long lane, in the system's idle class: any other thread preempts it at once, but for the turn that it has now and then, which it
//! gives back ([`give_way`](crate::give_way)). There, too, starts at once what a tenant sends that has used up its
//! [`Allowance`]. Not everything runs in the idle class, since beside other programs that
//! keep all cores busy it gets a three-hundredth of a core at most (docs/BENCHMARKS.md). Start at [`Lanes::spawn`].

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_current_thread_priority,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::QueryError;
use crate::tenants::Seat;

/// What a query has in the quick lane.
const QUICK_MAX: Duration = Duration::from_millis(500);
/// Of a result whose text is made there: some tens of milliseconds.
pub(crate) const QUICK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Parsing and planning are recursive; [`gate::OPERATORS_MAX`](crate::gate::OPERATORS_MAX) operators need well under a
/// tenth of this.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Which threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Quick,
    Long,
}

/// The threads of an engine. Dropping it stops them. Nobody waits for a thread: what computes for long without a pause is left
/// behind, to end with the process.
pub(crate) struct Lanes {
    quick: Option<Runtime>,
    long: Option<Runtime>,
    stopping: CancellationToken,
}

impl Lanes {
    /// As many threads in each.
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let lane = |name: &str, lower: fn()| {
            Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_stack_size(STACK_BYTES)
                .thread_name(name)
                .on_thread_start(lower)
                .enable_all()
                .build()
        };
        let (quick, long) = (lane("reports", lower)?, lane("long-reports", lower_to_idle)?);
        Ok(Self { quick: Some(quick), long: Some(long), stopping: CancellationToken::new() })
    }

    /// From here on everything that is asked for is refused, what runs too; whoever waits for it hears so at once.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
    }

    /// Runs on a lane's threads; dropping the returned future aborts it at its next pause. Nothing runs there without its
    /// tenant's turn, which it has until it has really stopped.
    pub(crate) async fn spawn<T: Send + 'static>(
        &self,
        seat: Arc<Seat>,
        lane: Lane,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let task = self.start_in(seat, lane, work)?;
        tokio::select! {
            joined = task => outcome(joined),
            () = self.stopping.cancelled() => Err(stopping()),
        }
    }

    /// Runs in the quick lane. `None` when it wasn't done within [`QUICK_MAX`]: by then it has stopped, and what it held is
    /// free. `waiting` is dropped at once when the time is up.
    pub(crate) async fn quickly<T: Send + 'static>(
        &self,
        seat: Arc<Seat>,
        waiting: impl Sized,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Option<Result<T, QueryError>> {
        let mut task = match self.start_in(seat, Lane::Quick, work) {
            Ok(task) => task,
            Err(stopping) => return Some(Err(stopping)),
        };
        let done = async {
            if let Ok(joined) = tokio::time::timeout(QUICK_MAX, &mut task).await {
                return Some(outcome(joined));
            }
            drop(waiting);
            task.abort();
            // It may have been done in this very moment; what it failed with may come from being stopped.
            task.await.ok().filter(Result::is_ok)
        };
        tokio::select! {
            outcome = done => outcome,
            () = self.stopping.cancelled() => Some(Err(stopping())),
        }
    }

    fn start_in<T: Send + 'static>(
        &self,
        seat: Arc<Seat>,
        lane: Lane,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<AbortOnDropHandle<Result<T, QueryError>>, QueryError> {
        let runtime = match lane {
            Lane::Quick => &self.quick,
            Lane::Long => &self.long,
        };
        let runtime = runtime.as_ref().filter(|_| !self.stopping.is_cancelled());
        let seated = async move {
            let _seat = seat;
            work.await
        };
        Ok(AbortOnDropHandle::new(runtime.ok_or_else(stopping)?.spawn(seated)))
    }
}

fn stopping() -> QueryError {
    QueryError::NotFresh("the server is stopping".to_owned())
}

fn outcome<T>(joined: Result<Result<T, QueryError>, JoinError>) -> Result<T, QueryError> {
    match joined {
        Ok(result) => result,
        Err(e) if e.is_cancelled() => Err(stopping()),
        Err(e) => {
            tracing::error!(error = %e, "a report panicked");
            Err(QueryError::Unsupported("it panics".to_owned()))
        }
    }
}

impl Drop for Lanes {
    /// May run inside another runtime, where waiting is not allowed.
    fn drop(&mut self) {
        for runtime in [self.quick.take(), self.long.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

/// Writers and sockets go first. Best effort: a report at normal priority is still a report.
fn lower() {
    if let Err(e) = set_current_thread_priority(ThreadPriority::Min) {
        tracing::debug!(error = ?e, "report threads keep their priority");
    }
}

/// A thread that isn't the system's own can't come back from there, so that it can't be lent to a short query.
fn lower_to_idle() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(e) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
        tracing::debug!(error = ?e, "threads of long reports don't get the idle class");
        lower();
    }
}

/// How long a tenant's queries may still run in the quick lane: two seconds together, which come back at a fifth of the time
/// that passes. A query pays when it leaves the quick lane, and for the rest when it ends. Below nothing it is at most ten times that.
#[derive(Debug)]
pub(crate) struct Allowance(Mutex<Left>);

#[derive(Debug)]
struct Left {
    seconds: f64,
    at: Instant,
}

impl Allowance {
    const FULL_S: f64 = 2.0;
    const BACK: f64 = 0.2;

    pub(crate) fn full(at: Instant) -> Self {
        Self(Mutex::new(Left { seconds: Self::FULL_S, at }))
    }

    /// Where a query starts.
    pub(crate) fn lane(&self, now: Instant) -> Lane {
        if self.take(Duration::ZERO, now) > 0.0 { Lane::Quick } else { Lane::Long }
    }

    /// A query ran that long, in either lane. Gives the seconds that are left.
    pub(crate) fn take(&self, ran: Duration, now: Instant) -> f64 {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let back = now.saturating_duration_since(left.at).as_secs_f64() * Self::BACK;
        left.at = left.at.max(now);
        left.seconds = ((left.seconds + back).min(Self::FULL_S) - ran.as_secs_f64()).max(-10.0 * Self::FULL_S);
        left.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Limits;
    use crate::result_memory::ResultMemory;
    use crate::tenants::Tenants;
    use std::sync::mpsc;

    /// Somebody's turn.
    async fn seat() -> Arc<Seat> {
        let memory = Arc::new(ResultMemory::new(1 << 20, 1 << 20, 1 << 20));
        let slot = Tenants::new(Limits::default(), memory).slot("acme").expect("a slot");
        let place = slot.place().expect("a place");
        Arc::new(slot.seat(place).await.expect("a turn"))
    }

    /// A thread that computes without a pause holds nobody up: neither those who wait for it nor the end.
    #[tokio::test]
    async fn a_busy_thread_is_not_waited_for() {
        let lanes = std::sync::Arc::new(Lanes::start(1).expect("threads"));
        let (started, has_started) = tokio::sync::oneshot::channel();
        let (release, is_released) = mpsc::channel::<()>();
        let busy = async move {
            started.send(()).expect("someone waits");
            // As a loop that doesn't end: until the test does.
            assert!(is_released.recv().is_err());
            Ok(())
        };
        let (running, waiting) = (Arc::clone(&lanes), Arc::clone(&lanes));
        let (busy_seat, waiting_seat) = (seat().await, seat().await);
        let running = tokio::spawn(async move { running.spawn(busy_seat, Lane::Quick, busy).await });
        has_started.await.expect("it runs");
        let waiting = tokio::spawn(async move { waiting.quickly(waiting_seat, (), async { Ok(()) }).await });
        lanes.stop();
        assert_eq!(running.await.expect("no panic"), Err(stopping()));
        assert_eq!(waiting.await.expect("no panic"), Some(Err(stopping())));
        assert_eq!(lanes.spawn(seat().await, Lane::Long, async { Ok(()) }).await, Err(stopping()));
        // Would wait for ever if it waited.
        drop(lanes);
        drop(release);
    }

    #[test]
    fn an_allowance_is_used_up_and_comes_back() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let allowance = Allowance::full(start);
        assert_eq!(allowance.lane(start), Lane::Quick);
        // A dashboard: a second's worth of queries every ten seconds, for an hour.
        for round in 1..=360 {
            allowance.take(Duration::from_secs(1), at(10 * round));
            assert_eq!(allowance.lane(at(10 * round)), Lane::Quick);
        }
        // Sixteen queries that run to their limit.
        for _ in 0..16 {
            allowance.take(Duration::from_secs(10), at(3_610));
        }
        assert_eq!(allowance.lane(at(3_700)), Lane::Long);
        assert_eq!(allowance.lane(at(3_711)), Lane::Quick);
        // A clock that is read late takes nothing back.
        assert_eq!(allowance.lane(at(3_000)), Lane::Quick);
    }
}
