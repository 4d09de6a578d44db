//! The log and the usage job into the Parquet facts: one thread that applies, flushes and compacts.

use super::follow::{Follower, follow};
use anyhow::Context as _;
use chat_api::domain::ChatDomain;
use ingest::id::ConversationId;
use ingest::log::{Offset, Record};
use ingest::sqlite::{EmbeddedLog, ReadPool};
use ingest::writer::Writer;
use pipelines::{JobOutput, JobRunner, Sink};
use sinks::parquet::manifest::{self, FlushPlan, Manifest};
use sinks::parquet::{FactConfig, FactStore, UsagePartial};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Events of one conversation read at a time when its fold isn't in memory.
const HISTORY_PAGE: usize = 1_000;

/// Rows in memory that are worth a flush at the end: folding them again would take some 20 ms.
const FLUSH_AT_STOP_ROWS: usize = 10_000;

type Rebuild = oneshot::Sender<anyhow::Result<()>>;

/// The facts, and the thread that keeps them up with the log.
pub struct Facts {
    dir: PathBuf,
    writer: Writer<ChatDomain>,
    pool: ReadPool,
    store: RwLock<Arc<FactStore>>,
    rebuilds: (mpsc::Sender<Rebuild>, std::sync::Mutex<Option<mpsc::Receiver<Rebuild>>>),
}

impl Facts {
    /// Opens the files that `manifest` lists.
    ///
    /// # Errors
    /// Names a damaged file, and what to do.
    pub fn open(dir: &Path, manifest: Manifest, writer: Writer<ChatDomain>, pool: ReadPool) -> anyhow::Result<Self> {
        let store = FactStore::open(dir, manifest, FactConfig::default())?;
        let (send, receive) = mpsc::channel(1);
        Ok(Self {
            dir: dir.to_owned(),
            writer,
            pool,
            store: RwLock::new(Arc::new(store)),
            rebuilds: (send, std::sync::Mutex::new(Some(receive))),
        })
    }

    /// The facts as they are now.
    #[must_use]
    pub fn store(&self) -> Arc<FactStore> {
        Arc::clone(&self.store.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts the thread; call it once, on a runtime.
    ///
    /// # Errors
    /// When there is no thread to be had, or the usage job doesn't compile.
    pub fn spawn(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<JoinHandle<()>> {
        let job = pipelines::jobs().into_iter().find(|job| job.sink == Sink::Usage);
        let usage = JobRunner::new(job.context("there is no usage job")?)?;
        let rebuilds = self.rebuilds.1.lock().unwrap_or_else(PoisonError::into_inner).take();
        let rebuilds = rebuilds.context("the facts are followed already")?;
        let runtime = Handle::current();
        let thread = std::thread::Builder::new().name("facts".to_owned());
        let run = move || {
            let reader = Arc::clone(self.writer.reader());
            let mut follower = FactsFollower { facts: self, usage, rebuilds };
            follow("facts", reader.as_ref(), &runtime, &stop, &mut follower);
            if let Err(error) = follower.flush_before_stop(&runtime) {
                tracing::warn!(error = format!("{error:#}"), "failed to flush facts; the next start folds them again");
            }
        };
        thread.spawn(run).context("failed to start the facts' thread")
    }

    /// Deletes the facts and folds them again from the log's beginning; returns when they have caught up.
    ///
    /// # Errors
    /// When the files can't be deleted, or the thread has ended.
    pub async fn rebuild(&self) -> anyhow::Result<()> {
        let (done, outcome) = oneshot::channel();
        self.rebuilds.0.send(done).await.ok().context("the facts' thread has ended")?;
        outcome.await.context("the facts' thread has ended")??;
        let (store, end) = (self.store(), self.writer.reader().end());
        store.wait_for(end, Duration::from_secs(24 * 60 * 60)).await?;
        store.wait_for_usage(end, Duration::from_secs(24 * 60 * 60)).await?;
        Ok(())
    }

    fn commit(&self, store: &FactStore, plan: FlushPlan, runtime: &Handle) -> anyhow::Result<()> {
        let plan = Arc::new(plan);
        let committed = Arc::clone(&plan);
        let write = move |connection: &rusqlite::Connection| {
            manifest::commit_flush(connection, &committed)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
        };
        let outcome = runtime.block_on(self.writer.transact(write));
        let plan = Arc::into_inner(plan).context("the writer has answered, so it holds no plan")?;
        match outcome {
            Ok(()) => store.finish_flush(plan),
            Err(error) => {
                store.abort_flush(plan);
                return Err(error.into());
            }
        }
        Ok(())
    }
}

struct FactsFollower {
    facts: Arc<Facts>,
    usage: JobRunner,
    rebuilds: mpsc::Receiver<Rebuild>,
}

/// Earlier events of a conversation, up to and with `through`.
fn history(pool: &ReadPool, id: ConversationId, through: u64) -> anyhow::Result<Vec<ingest::event::Event>> {
    let mut events = Vec::new();
    loop {
        let after = events.last().map_or(0, |event: &ingest::event::Event| event.seq);
        if after >= through {
            return Ok(events);
        }
        let page = EmbeddedLog::history(pool, id, after, HISTORY_PAGE)?;
        anyhow::ensure!(!page.is_empty(), "the log has no event {} of conversation {id}", after + 1);
        events.extend(page.into_iter().map(|record| record.event).filter(|event| event.seq <= through));
    }
}

impl Follower for FactsFollower {
    fn next(&self) -> Offset {
        let store = self.facts.store();
        store.applied().min(store.usage_applied())
    }

    fn handle(&mut self, records: &[Arc<Record>], _runtime: &Handle) -> anyhow::Result<()> {
        let store = self.facts.store();
        let pool = self.facts.pool.clone();
        store.apply(records, &|id, through| history(&pool, id, through).map_err(Into::into))?;
        let Some(last) = records.last() else { return Ok(()) };
        let JobOutput::Usage(rows) = self.usage.run(records)? else {
            anyhow::bail!("the usage job gives usage rows");
        };
        store.apply_usage(partials(records, rows), last.offset + 1);
        Ok(())
    }

    fn idle(&mut self, runtime: &Handle) -> anyhow::Result<()> {
        let store = self.facts.store();
        if let Ok(done) = self.rebuilds.try_recv() {
            drop(store);
            let outcome = self.reset(runtime);
            // Whoever asked may have stopped waiting.
            drop(done.send(outcome));
            return Ok(());
        }
        if store.flush_due()
            && let Some(plan) = store.begin_flush()?
        {
            self.facts.commit(&store, plan, runtime)?;
            while let Some(plan) = store.begin_compaction()? {
                self.facts.commit(&store, plan, runtime)?;
            }
        }
        Ok(())
    }
}

impl FactsFollower {
    /// Many rows in memory would have to be folded again at the next start.
    fn flush_before_stop(&self, runtime: &Handle) -> anyhow::Result<()> {
        let store = self.facts.store();
        if store.tail_rows() >= FLUSH_AT_STOP_ROWS
            && let Some(plan) = store.begin_flush()?
        {
            self.facts.commit(&store, plan, runtime)?;
        }
        Ok(())
    }

    fn reset(&self, runtime: &Handle) -> anyhow::Result<()> {
        let clear = |connection: &rusqlite::Connection| {
            manifest::reset(connection).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
        };
        runtime.block_on(self.facts.writer.transact(clear))?;
        sinks::parquet::sink::reset_dir(&self.facts.dir)?;
        let store = FactStore::open(&self.facts.dir, Manifest::default(), FactConfig::default())?;
        *self.facts.store.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(store);
        Ok(())
    }
}

/// Usage rows with the offsets of their events: both come in the events' order.
pub(crate) fn partials(records: &[Arc<Record>], rows: Vec<pipelines::UsageRow>) -> Vec<UsagePartial> {
    let mut records = records.iter().peekable();
    let mut partials = Vec::with_capacity(rows.len());
    for row in rows {
        while records.next_if(|record| record.event.id != row.source_event).is_some() {}
        let Some(record) = records.peek() else { break };
        partials.push(UsagePartial {
            offset: record.offset,
            tenant: row.tenant,
            minute: row.minute,
            metric: row.metric.as_str().into(),
            value: row.value,
        });
    }
    partials
}
