//! An open data directory at work: the writer, the facts, the keys, the views.
//!
//! [`Engine::open`] is the one way in for the server and for every command that writes or asks SQL.

use crate::config::Store;
use crate::wiring::disk;
use crate::wiring::facts::Facts;
use crate::wiring::tables::Tables;
use anyhow::Context as _;
use chat_api::domain::ChatDomain;
use chat_api::import::Importer;
use chat_api::store;
use chat_api::view::Views;
use ingest::event::Actor;
use ingest::seal::KeyFile;
use ingest::sqlite::{DataDir, PersonKeys, ReadPool};
use ingest::writer::Writer;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio_util::sync::CancellationToken;

/// An open data directory. [`close`](Self::close) it to finish what was accepted.
pub struct Engine {
    /// The directory, locked.
    pub dir: DataDir,
    /// The only way to change anything.
    pub writer: Writer<ChatDomain>,
    /// The only way to read.
    pub pool: ReadPool,
    /// Keys of the installation.
    pub key_file: Arc<KeyFile>,
    /// Keys of persons.
    pub keys: Arc<PersonKeys>,
    /// JSON of what is stored.
    pub views: Arc<Views>,
    /// The facts, following the log.
    pub facts: Arc<Facts>,
    /// The writer's and the facts', until they are joined.
    threads: Mutex<Option<(JoinHandle<()>, JoinHandle<()>)>>,
    stop_facts: CancellationToken,
}

impl Engine {
    /// Opens the data directory; with `create`, makes it. Starts the writer and the facts' follower.
    ///
    /// # Errors
    /// Names the file, and what to do.
    pub fn open(settings: &Store, create: bool) -> anyhow::Result<Self> {
        let dir = DataDir::open(&settings.data_dir, settings.key_file.as_deref(), create)?;
        let (connection, log, key_file) = dir.open_database()?;
        let key_file = Arc::new(key_file);
        store::create_tables(&connection).context("failed to make the state's tables")?;
        sinks::parquet::manifest::create_tables(&connection).context("failed to make the facts' manifest")?;
        let manifest = sinks::parquet::manifest::load(&connection).context("failed to read the facts' manifest")?;
        let sources =
            sinks::parquet::sources::manifest::load(&connection).context("failed to read the rows' manifest")?;
        let pool = dir.read_pool();
        let (writer, writer_thread) = Writer::spawn(connection, Box::new(log), ChatDomain::default())
            .context("failed to start the writer's thread")?;
        let keys = Arc::new(PersonKeys::new(pool.clone(), Arc::clone(&key_file)));
        let views = Arc::new(Views::new(pool.clone(), Arc::clone(&keys)));
        let facts = Arc::new(Facts::open(dir.path(), (manifest, sources), writer.clone(), pool.clone())?);
        let stop_facts = CancellationToken::new();
        let facts_thread = Arc::clone(&facts).spawn(stop_facts.clone())?;
        let threads = Mutex::new(Some((writer_thread, facts_thread)));
        Ok(Self { dir, writer, pool, key_file, keys, views, facts, threads, stop_facts })
    }

    /// The report engine over this engine's facts and state.
    ///
    /// # Errors
    /// When its threads can't be started.
    pub fn reports(&self) -> anyhow::Result<sql::Reports> {
        self.reports_within(sql::Limits::default())
    }

    /// The same within other limits.
    ///
    /// # Errors
    /// When its threads can't be started.
    pub fn reports_within(&self, limits: sql::Limits) -> anyhow::Result<sql::Reports> {
        let tables = Tables::new(Arc::clone(&self.facts), Arc::clone(self.writer.reader()), self.pool.clone());
        let temp_bytes = limits.temp_bytes.min(disk::spill_bytes(self.dir.path()));
        let limits = sql::Limits { temp_dir: Some(self.dir.path().join("tmp")), temp_bytes, ..limits };
        std::fs::create_dir_all(self.dir.path().join("tmp")).context("failed to make the directory for spills")?;
        sql::Reports::new(Arc::new(tables), limits).context("failed to start the report engine")
    }

    /// An importer that writes as the operator.
    #[must_use]
    pub fn importer(&self) -> Importer {
        let (keys, key_file) = (Arc::clone(&self.keys), Arc::clone(&self.key_file));
        Importer::new(self.writer.clone(), self.pool.clone(), keys, key_file, Actor::Operator)
    }

    /// Finishes what the writer has accepted, and ends its threads; nothing can be written afterwards.
    pub async fn close(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((writer, facts)) = threads else { return };
        self.stop_facts.cancel();
        let joined = tokio::task::spawn_blocking(move || facts.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the facts' thread has panicked");
        }
        self.writer.stop().await;
        let joined = tokio::task::spawn_blocking(move || writer.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the writer's thread has panicked");
        }
    }
}
