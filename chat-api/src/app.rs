//! What every route, socket and background task shares.

use crate::activity::Activity;
use crate::auth::tokens::VisitorTokens;
use crate::domain::{Answer, ChatDomain, Submission};
use crate::files::Files;
use crate::limits::{Cidr, Limiter};
use crate::live::LiveHub;
use crate::presence::Presence;
use crate::view::Views;
use ingest::id::MailId;
use ingest::seal::KeyFile;
use ingest::sqlite::{PersonKeys, ReadPool};
use ingest::writer::Writer;
use std::sync::Arc;
use std::time::Duration;

/// The time limit of a request, unless a test has a shorter one.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// Settings of the API; from the binary's configuration.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Where people reach this server; links in mails and the realtime URL are made from it.
    pub public_url: String,
    /// May do what spans tenants, if set.
    pub operator_token: Option<String>,
    /// Origins that may call `/v1` and `/v0` from browsers; the widget's come from its chatbot.
    pub allowed_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// A request that takes longer has lost its caller.
    pub request_time_max: Duration,
    /// Where HTTP listens; `GET /v1/status` says so, and so for the others.
    pub http_address: Option<String>,
    /// Where the Postgres wire listens, if it does.
    pub pg_address: Option<String>,
    /// Where Arrow Flight listens, if it does.
    pub flight_address: Option<String>,
}

/// The state of one running server.
pub struct App {
    /// Settings.
    pub config: ApiConfig,
    /// The only way to change anything.
    pub writer: Writer<ChatDomain>,
    /// The only way to read.
    pub pool: ReadPool,
    /// Keys of persons.
    pub keys: Arc<PersonKeys>,
    /// Keys of the installation.
    pub key_file: Arc<KeyFile>,
    /// Visitors' tokens that were found good.
    pub visitor_tokens: VisitorTokens,
    /// JSON of what is stored.
    pub views: Arc<Views>,
    /// What widgets did lately.
    pub activity: Activity,
    /// Open sockets.
    pub live: Arc<LiveHub>,
    /// How often somebody may call.
    pub limiter: Limiter,
    /// The bytes of files.
    pub files: Arc<Files>,
    /// Who is there.
    pub presence: Arc<Presence>,
    /// Deletes a mail that lies in the spool; one that isn't there is fine.
    pub remove_mail: RemoveMail,
    /// SQL over the tenant's facts.
    pub reports: Arc<sql::Reports>,
    /// Dependencies by name, for `/readyz`.
    pub probes: Vec<(&'static str, Probe)>,
}

/// Deletes a mail from the spool, for the person who was erased.
pub type RemoveMail = Box<dyn Fn(MailId) -> std::io::Result<()> + Send + Sync>;

/// How a dependency is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Fine.
    Fine,
    /// It does its work, and something is to be said of it.
    Slow(String),
    /// Its work isn't done.
    Failing(String),
}

impl From<Option<String>> for Health {
    fn from(problem: Option<String>) -> Self {
        problem.map_or(Self::Fine, Self::Failing)
    }
}

/// A check of one dependency.
pub type Probe = Box<dyn Fn() -> Health + Send + Sync>;

impl App {
    /// Sends a command, with its new person keys, and waits until its outcome is durable.
    ///
    /// # Errors
    /// As [`Writer::submit`].
    pub async fn submit(
        &self,
        submission: impl Into<Submission>,
    ) -> Result<Result<Answer, crate::core::Rejection>, ingest::writer::WriteError> {
        let submission = submission.into();
        let persons: Vec<_> = submission.keys.iter().map(|key| key.person).collect();
        let confirm = ConfirmKeys { keys: Arc::clone(&self.keys), persons, stored: false };
        let outcome = self.writer.submit(submission).await;
        confirm.done(matches!(&outcome, Ok(Ok(answer)) if !answer.events.is_empty()));
        outcome
    }
}

/// Tells [`PersonKeys`] what became of the keys a command carried, also when the caller stops waiting.
struct ConfirmKeys {
    keys: Arc<PersonKeys>,
    persons: Vec<ingest::id::PersonId>,
    stored: bool,
}

impl ConfirmKeys {
    fn done(mut self, stored: bool) {
        self.stored = stored;
    }
}

impl Drop for ConfirmKeys {
    fn drop(&mut self) {
        self.persons.iter().for_each(|person| self.keys.confirm(*person, self.stored));
    }
}
