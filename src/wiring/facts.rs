//! The log and the usage job into the Parquet facts, and the tenants' rows into theirs: one thread that applies, flushes
//! and compacts.

use super::follow::{Follower, follow};
use anyhow::Context as _;
use chat_api::core::state::DataSource;
use chat_api::domain::ChatDomain;
use chat_api::store::read;
use ingest::event::Event;
use ingest::id::{ConversationId, TenantId};
use ingest::log::{Offset, ReadError, Record};
use ingest::sqlite::{EmbeddedLog, ReadPool};
use ingest::writer::Writer;
use pipelines::{JobOutput, JobRunner, Sink};
use sinks::parquet::manifest::{self, FlushPlan, Manifest};
use sinks::parquet::sources::{
    self, SourceDef, SourceStore,
    manifest::{SourceManifest, SourcePlan},
};
use sinks::parquet::{FactConfig, FactError, FactStore, UsagePartial, Verified};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
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
    sources_dir: PathBuf,
    sources: RwLock<Arc<SourceStore>>,
    /// By tenant, the place of its last event; `None` while it's on its way into the views.
    versions: Mutex<HashMap<TenantId, Option<Offset>>>,
    rebuilds: (mpsc::Sender<Rebuild>, Mutex<Option<mpsc::Receiver<Rebuild>>>),
}

impl Facts {
    /// Opens the files that the manifests list: facts in `facts`, rows of the tenants' own data sources in `sources`,
    /// below `dir`.
    ///
    /// # Errors
    /// Names a damaged file, and what to do.
    pub fn open(
        dir: &Path,
        (manifest, sources): (Manifest, SourceManifest),
        writer: Writer<ChatDomain>,
        pool: ReadPool,
    ) -> anyhow::Result<Self> {
        let (dir, sources_dir) = (dir.join("facts"), dir.join("sources"));
        let store = FactStore::open(&dir, manifest, FactConfig::default())?;
        let sources = SourceStore::open(&sources_dir, sources, living_sources(&pool)?, FactConfig::default())?;
        let (send, receive) = mpsc::channel(1);
        Ok(Self {
            sources: RwLock::new(Arc::new(sources)),
            versions: Mutex::default(),
            sources_dir,
            dir,
            writer,
            pool,
            store: RwLock::new(Arc::new(store)),
            rebuilds: (send, Mutex::new(Some(receive))),
        })
    }

    /// The facts as they are now.
    #[must_use]
    pub fn store(&self) -> Arc<FactStore> {
        Arc::clone(&self.store.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A number that changes with every event of the tenant: while it stays, so do the tenant's rows in every view. `None`
    /// while some views have more than others.
    #[must_use]
    pub fn version(&self, tenant: TenantId) -> Option<Offset> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.get(&tenant).map_or(Some(0), |last| last.map(|last| last + 1))
    }

    fn set_versions(&self, records: &[Arc<Record>], complete: bool) {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.extend(records.iter().map(|record| (record.event.tenant, complete.then_some(record.offset))));
    }

    /// Rows of the tenants' own data sources as they are now.
    #[must_use]
    pub fn sources(&self) -> Arc<SourceStore> {
        Arc::clone(&self.sources.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until every view holds the events below `offset`, each at most `timeout`.
    ///
    /// # Errors
    /// `Behind` after the timeout.
    pub async fn wait_for(&self, offset: Offset, timeout: Duration) -> Result<(), FactError> {
        let started = Instant::now();
        let left = || timeout.saturating_sub(started.elapsed());
        let (store, sources) = (self.store(), self.sources());
        store.wait_for(offset, left()).await?;
        store.wait_for_usage(offset, left()).await?;
        sources.wait_for(offset, left()).await
    }

    /// Reads every byte of every file.
    ///
    /// # Errors
    /// Names the first file that is damaged.
    pub fn verify(&self) -> Result<Verified, FactError> {
        Ok(both(self.store().verify()?, self.sources().verify()?))
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
        self.wait_for(self.writer.reader().end(), Duration::from_secs(24 * 60 * 60)).await?;
        Ok(())
    }

    fn commit_sources(&self, store: &SourceStore, plan: SourcePlan, runtime: &Handle) -> anyhow::Result<()> {
        let plan = Arc::new(plan);
        let committed = Arc::clone(&plan);
        let write = move |connection: &rusqlite::Connection| {
            sources::manifest::commit(connection, &committed)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
        };
        let outcome = runtime.block_on(self.writer.transact(write));
        let plan = Arc::into_inner(plan).context("the writer has answered, so it holds no plan")?;
        match outcome {
            Ok(()) => store.finish(plan),
            Err(error) => {
                store.abort(plan);
                return Err(error.into());
            }
        }
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

/// A conversation's events that come next after `after`, a page of them.
fn history(pool: &ReadPool, id: ConversationId, after: u64) -> Result<Vec<Event>, ReadError> {
    let page = EmbeddedLog::history(pool, id, after, HISTORY_PAGE)?;
    Ok(page.into_values().map(|record| record.event).collect())
}

impl Follower for FactsFollower {
    fn next(&self) -> Offset {
        let store = self.facts.store();
        store.applied().min(store.usage_applied()).min(self.facts.sources().applied())
    }

    fn handle(&mut self, records: &[Arc<Record>], _runtime: &Handle) -> anyhow::Result<()> {
        // Whoever waits for these events finds no version, or one that counts them: never an answer from before.
        self.facts.set_versions(records, false);
        self.facts.sources().apply(records)?;
        let store = self.facts.store();
        let pool = self.facts.pool.clone();
        store.apply(records, &|id, after| history(&pool, id, after).map_err(Into::into))?;
        let Some(last) = records.last() else { return Ok(()) };
        let JobOutput::Usage(rows) = self.usage.run(records)? else {
            anyhow::bail!("the usage job gives usage rows");
        };
        store.apply_usage(partials(records, rows), last.offset + 1);
        self.facts.set_versions(records, true);
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
        let sources = self.facts.sources();
        if sources.flush_due()
            && let Some(plan) = sources.begin_flush()?
        {
            self.facts.commit_sources(&sources, plan, runtime)?;
            while let Some(plan) = sources.begin_compaction()? {
                self.facts.commit_sources(&sources, plan, runtime)?;
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
        let sources = self.facts.sources();
        if sources.tail_rows() >= FLUSH_AT_STOP_ROWS
            && let Some(plan) = sources.begin_flush()?
        {
            self.facts.commit_sources(&sources, plan, runtime)?;
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
        sinks::parquet::sink::reset_dir(&self.facts.sources_dir)?;
        let living = living_sources(&self.facts.pool)?;
        let manifest = SourceManifest::default();
        let sources = SourceStore::open(&self.facts.sources_dir, manifest, living, FactConfig::default())?;
        *self.facts.sources.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sources);
        Ok(())
    }
}

/// The data sources there are now; those made or deleted in what is yet to be read are met there.
fn living_sources(pool: &ReadPool) -> anyhow::Result<Vec<SourceDef>> {
    Ok(source_defs(&pool.read(read::all_data_sources).context("failed to read the data sources")?))
}

fn source_defs(all: &[DataSource]) -> Vec<SourceDef> {
    all.iter().map(|source| SourceDef::new(source.tenant, source.id, &source.name, &source.columns)).collect()
}

/// The files of a data directory that no server holds, every byte of them.
///
/// # Errors
/// Names the first file that is damaged.
pub fn verify_offline(dir: &Path, connection: &rusqlite::Connection) -> anyhow::Result<Verified> {
    let facts = FactStore::open(&dir.join("facts"), manifest::load(connection)?, FactConfig::default())?;
    let living = source_defs(&read::all_data_sources(connection)?);
    let manifest = sources::manifest::load(connection)?;
    let sources = SourceStore::open(&dir.join("sources"), manifest, living, FactConfig::default())?;
    Ok(both(facts.verify()?, sources.verify()?))
}

fn both(facts: Verified, sources: Verified) -> Verified {
    let (files, bytes, rows) = (facts.files + sources.files, facts.bytes + sources.bytes, facts.rows + sources.rows);
    Verified { files, bytes, rows }
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
