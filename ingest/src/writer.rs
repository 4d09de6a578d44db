//! The one writer: a thread that owns the only write connection.
//!
//! It drains its queue without sleeping: whatever arrived while the last commit was syncing becomes the next batch, one
//! transaction and one fsync. [`Domain::execute`] is pure but for loading, so a refused command leaves nothing to undo;
//! what commands changed in memory is written once a batch by [`Domain::flush`]. A batch that fails is rolled back and
//! tried again one piece of work at a time, so that only the piece at fault is refused. Answers leave after the commit.

use crate::event::Event;
use crate::log::{AppendError, EventLog, LogReader, Offset, Record};
use crate::sqlite::checkpoint::Checkpoints;
use crate::sqlite::data_dir::set_consumer_offset;
use crate::sqlite::person_keys::NewPersonKey;
use crate::time::Timestamp;
use rusqlite::Connection;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Commands in one transaction at most: an fsync is shared by many, and no one waits for more than these.
pub const BATCH_COMMANDS_MAX: usize = 256;
/// Work that may wait; beyond it callers wait before they are queued.
const QUEUE_MAX: usize = 4_096;
/// Pauses before each try to empty the WAL; everyone else waits with it.
const TRUNCATE_PAUSES_MS: [u64; 8] = [0, 1, 5, 10, 20, 50, 100, 200];

/// What a command led to.
pub struct Decided<A> {
    /// To be appended, in order; already applied to the state in memory.
    pub events: Vec<Event>,
    /// Keys of persons that the events are sealed under and that aren't stored yet.
    pub keys: Vec<NewPersonKey>,
    /// For the caller, after the commit.
    pub answer: A,
}

/// A command that did not go through.
#[derive(Debug)]
pub enum ExecuteError<R> {
    /// Decided against; part of the answer, nothing changed.
    Rejected(R),
    /// The state couldn't be loaded; the batch is rolled back.
    Sqlite(rusqlite::Error),
}

impl<R> From<rusqlite::Error> for ExecuteError<R> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The state machine that the writer drives.
pub trait Domain: Send + 'static {
    /// What callers send.
    type Command: Send + 'static;
    /// What they get.
    type Answer: Send + 'static;
    /// Why not.
    type Rejection: Send + 'static;

    /// Loads what the command names, decides, applies the events to the state in memory.
    ///
    /// # Errors
    /// `Rejected` must leave the state in memory as it was.
    fn execute(
        &mut self,
        tx: &Connection,
        command: &Self::Command,
        now: Timestamp,
    ) -> Result<Decided<Self::Answer>, ExecuteError<Self::Rejection>>;

    /// Writes what changed in memory since the last flush.
    ///
    /// # Errors
    /// SQLite's; the batch is rolled back.
    fn flush(&mut self, tx: &Connection) -> rusqlite::Result<()>;

    /// Told after a commit: what is in memory is what is stored.
    fn committed(&mut self);

    /// Told after a rollback: forget what is in memory.
    fn discard(&mut self);
}

/// Why a caller got no decision. The work was not done; retry later with the same idempotency key.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The disk or the log refused.
    #[error("failed to write: {0}")]
    Failed(Arc<str>),
    /// An event would be too large. Never retry.
    #[error("failed to write: {0}")]
    TooLarge(Arc<str>),
    /// The server stops.
    #[error("failed to write: the server is shutting down")]
    Stopped,
}

/// What each command of a [`Writer::submit_all`] led to, in order.
pub type Outcomes<D> = Vec<Result<<D as Domain>::Answer, <D as Domain>::Rejection>>;
type Transaction = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

enum Work<D: Domain> {
    Commands {
        commands: Vec<D::Command>,
        consumer: Option<(&'static str, Offset)>,
        reply: oneshot::Sender<Result<Outcomes<D>, WriteError>>,
    },
    Transaction {
        run: Option<Transaction>,
        reply: oneshot::Sender<Result<(), WriteError>>,
    },
    TruncateWal {
        reply: oneshot::Sender<Result<(), WriteError>>,
    },
    Stop,
}

impl<D: Domain> Work<D> {
    fn weight(&self) -> usize {
        match self {
            Self::Commands { commands, .. } => commands.len().max(1),
            Self::Transaction { .. } | Self::TruncateWal { .. } | Self::Stop => 1,
        }
    }
}

/// A handle on the writer thread; clones share it.
pub struct Writer<D: Domain> {
    queue: mpsc::Sender<Work<D>>,
    reader: Arc<dyn LogReader>,
}

impl<D: Domain> Clone for Writer<D> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), reader: Arc::clone(&self.reader) }
    }
}

impl<D: Domain> Writer<D> {
    /// Starts the thread. Join the handle after [`stop`](Self::stop).
    ///
    /// # Errors
    /// The system's, when it has no thread to give.
    pub fn spawn(
        mut connection: Connection,
        log: Box<dyn EventLog>,
        domain: D,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, work) = mpsc::channel(QUEUE_MAX);
        let reader = log.reader();
        let checkpoints = Checkpoints::watch(&mut connection).map_err(std::io::Error::other)?;
        let thread = WriterThread { connection, checkpoints, log, domain, work };
        let handle = std::thread::Builder::new().name("writer".to_owned()).spawn(move || thread.run())?;
        Ok((Self { queue, reader }, handle))
    }

    /// The log that this writer appends to.
    #[must_use]
    pub fn reader(&self) -> &Arc<dyn LogReader> {
        &self.reader
    }

    /// Sends one command and waits until its outcome is durable.
    ///
    /// # Errors
    /// [`WriteError`] when nothing was decided; the inner error is the decision against it.
    pub async fn submit(&self, command: D::Command) -> Result<Result<D::Answer, D::Rejection>, WriteError> {
        let mut outcomes = self.submit_all(vec![command], None).await?;
        Ok(outcomes.pop().expect("one command has one outcome"))
    }

    /// Sends commands that belong together, with the offset at which their consumer goes on: one transaction.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_all(
        &self,
        commands: Vec<D::Command>,
        consumer: Option<(&'static str, Offset)>,
    ) -> Result<Outcomes<D>, WriteError> {
        let (reply, outcome) = oneshot::channel();
        self.queue.send(Work::Commands { commands, consumer, reply }).await.map_err(|_| WriteError::Stopped)?;
        outcome.await.map_err(|_| WriteError::Stopped)?
    }

    /// Runs `run` in a savepoint of the next batch; for manifests and other stores that commit with their offset.
    ///
    /// # Errors
    /// `Failed` with what `run` gave.
    pub async fn transact(
        &self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), WriteError> {
        let (reply, outcome) = oneshot::channel();
        let work = Work::Transaction { run: Some(Box::new(run)), reply };
        self.queue.send(work).await.map_err(|_| WriteError::Stopped)?;
        outcome.await.map_err(|_| WriteError::Stopped)?
    }

    /// Moves the whole WAL into the database and empties its file: what was overwritten or deleted is nowhere then.
    ///
    /// # Errors
    /// `Failed` when readers were in the way all the time. Retry later.
    pub async fn truncate_wal(&self) -> Result<(), WriteError> {
        let (reply, outcome) = oneshot::channel();
        self.queue.send(Work::TruncateWal { reply }).await.map_err(|_| WriteError::Stopped)?;
        outcome.await.map_err(|_| WriteError::Stopped)?
    }

    /// Asks the thread to finish what was queued before and end.
    pub async fn stop(&self) {
        // A closed queue means that it has ended already.
        let _ended = self.queue.send(Work::Stop).await;
    }
}

enum BatchError {
    Failed(String),
    TooLarge(String),
}

impl From<rusqlite::Error> for BatchError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<AppendError> for BatchError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::TooLarge { .. } => Self::TooLarge(error.to_string()),
            AppendError::Unavailable(_) => Self::Failed(error.to_string()),
        }
    }
}

/// What a piece of work gets once the batch is durable.
enum Outcome<D: Domain> {
    Commands(Outcomes<D>),
    Transaction(Result<(), WriteError>),
    None,
}

struct WriterThread<D: Domain> {
    connection: Connection,
    checkpoints: Checkpoints,
    log: Box<dyn EventLog>,
    domain: D,
    work: mpsc::Receiver<Work<D>>,
}

impl<D: Domain> WriterThread<D> {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_COMMANDS_MAX);
        let mut stopping = false;
        while !stopping {
            let Some(first) = self.work.blocking_recv() else { break };
            let mut weight = first.weight();
            stopping = matches!(first, Work::Stop);
            batch.push(first);
            while weight < BATCH_COMMANDS_MAX && !stopping {
                let Ok(next) = self.work.try_recv() else { break };
                weight += next.weight();
                stopping = matches!(next, Work::Stop);
                batch.push(next);
            }
            // Not part of any transaction: they come when the others are committed.
            let truncations: Vec<Work<D>> =
                batch.extract_if(.., |work| matches!(work, Work::TruncateWal { .. })).collect();
            if !batch.is_empty() {
                self.commit_or_split(&mut batch);
            }
            if !truncations.is_empty() {
                let outcome = self.truncate_wal();
                truncations.into_iter().for_each(|work| answer(work, Outcome::Transaction(outcome.clone())));
            }
            let outcome = self.checkpoints.after_commit(&self.connection);
            warn_of_checkpoint(outcome);
        }
        let outcome = self.checkpoints.empty(&self.connection);
        warn_of_checkpoint(outcome.map(drop));
    }

    /// Commits the batch; if it fails as a whole, each piece by itself.
    fn commit_or_split(&mut self, batch: &mut Vec<Work<D>>) {
        let Err(error) = self.commit(batch) else { return };
        if batch.len() == 1 {
            let error = match error {
                BatchError::Failed(reason) => WriteError::Failed(reason.into()),
                BatchError::TooLarge(reason) => WriteError::TooLarge(reason.into()),
            };
            batch.drain(..).for_each(|work| refuse(work, &error));
            return;
        }
        for work in std::mem::take(batch) {
            self.commit_or_split(&mut vec![work]);
        }
    }

    /// One transaction. On success the batch is empty and answered; on failure it is as it was.
    fn commit(&mut self, batch: &mut Vec<Work<D>>) -> Result<(), BatchError> {
        let started = Instant::now();
        match self.transaction(batch) {
            Ok((outcomes, records)) => {
                self.log.committed(&records);
                self.domain.committed();
                metrics::histogram!("parlance_commit_seconds").record(started.elapsed());
                metrics::counter!("parlance_log_events_total").increment(records.len() as u64);
                batch.drain(..).zip(outcomes).for_each(|(work, outcome)| answer(work, outcome));
                Ok(())
            }
            Err(error) => {
                if !self.connection.is_autocommit()
                    && let Err(error) = self.connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "failed to roll back; stopping rather than guessing");
                    std::process::abort();
                }
                self.log.rolled_back();
                self.domain.discard();
                Err(error)
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "two lists that only commit reads")]
    fn transaction(&mut self, batch: &mut [Work<D>]) -> Result<(Vec<Outcome<D>>, Vec<Arc<Record>>), BatchError> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut events = Vec::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for work in batch {
            outcomes.push(match work {
                Work::Commands { commands, consumer, .. } => {
                    let outcome = self.execute_all(commands, &mut events)?;
                    if let Some((name, next)) = consumer {
                        set_consumer_offset(&self.connection, name, *next)?;
                    }
                    Outcome::Commands(outcome)
                }
                Work::Transaction { run, .. } => Outcome::Transaction(self.savepoint(run.take())?),
                Work::TruncateWal { .. } | Work::Stop => Outcome::None,
            });
        }
        self.domain.flush(&self.connection)?;
        let records = self.log.append(&self.connection, events)?;
        if let Err(error) = self.connection.execute_batch("COMMIT") {
            abort_on_lost_sync(&error);
            return Err(error.into());
        }
        Ok((outcomes, records))
    }

    fn execute_all(&mut self, commands: &[D::Command], events: &mut Vec<Event>) -> Result<Outcomes<D>, BatchError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(match self.domain.execute(&self.connection, command, Timestamp::now()) {
                Ok(decided) => {
                    for key in &decided.keys {
                        key.store(&self.connection)?;
                    }
                    events.extend(decided.events);
                    Ok(decided.answer)
                }
                Err(ExecuteError::Rejected(rejection)) => Err(rejection),
                Err(ExecuteError::Sqlite(error)) => return Err(error.into()),
            });
        }
        Ok(outcomes)
    }

    /// A transaction's closure runs once: its own failure undoes only itself, the batch's failure refuses it.
    fn savepoint(&self, run: Option<Transaction>) -> Result<Result<(), WriteError>, BatchError> {
        let Some(run) = run else {
            return Ok(Err(WriteError::Failed("the batch it was part of failed; try again".into())));
        };
        self.connection.execute_batch("SAVEPOINT work")?;
        match run(&self.connection) {
            Ok(()) => {
                self.connection.execute_batch("RELEASE work")?;
                Ok(Ok(()))
            }
            Err(error) => {
                self.connection.execute_batch("ROLLBACK TO work; RELEASE work")?;
                Ok(Err(WriteError::Failed(error.to_string().into())))
            }
        }
    }

    /// Tries for as long as a reader may hold a snapshot; a second and a half at most.
    fn truncate_wal(&mut self) -> Result<(), WriteError> {
        for pause_ms in TRUNCATE_PAUSES_MS {
            std::thread::sleep(std::time::Duration::from_millis(pause_ms));
            match self.checkpoints.empty(&self.connection) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    abort_on_lost_sync(&error);
                    return Err(WriteError::Failed(error.to_string().into()));
                }
            }
        }
        Err(WriteError::Failed("readers hold the write-ahead log; try again".into()))
    }
}

fn warn_of_checkpoint(outcome: rusqlite::Result<()>) {
    if let Err(error) = outcome {
        abort_on_lost_sync(&error);
        tracing::warn!(%error, "failed to checkpoint; the WAL grows until the next try");
    }
}

/// After a failed fsync the page cache may claim bytes that the disk doesn't have; only a restart reads the truth.
fn abort_on_lost_sync(error: &rusqlite::Error) {
    if let Some(code) = error.sqlite_error()
        && code.code == rusqlite::ErrorCode::SystemIoFailure
    {
        tracing::error!(%error, "failed to sync the database; aborting, restart to recover from the disk");
        std::process::abort();
    }
}

fn answer<D: Domain>(work: Work<D>, outcome: Outcome<D>) {
    // A caller that stopped waiting doesn't need its answer.
    match (work, outcome) {
        (Work::Commands { reply, .. }, Outcome::Commands(outcome)) => drop(reply.send(Ok(outcome))),
        (Work::Transaction { reply, .. } | Work::TruncateWal { reply }, Outcome::Transaction(outcome)) => {
            drop(reply.send(outcome));
        }
        _ => {}
    }
}

fn refuse<D: Domain>(work: Work<D>, error: &WriteError) {
    match work {
        Work::Commands { reply, .. } => drop(reply.send(Err(error.clone()))),
        Work::Transaction { reply, .. } | Work::TruncateWal { reply } => drop(reply.send(Err(error.clone()))),
        Work::Stop => {}
    }
}
