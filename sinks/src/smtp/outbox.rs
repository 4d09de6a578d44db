//! The delivery loop: pending mails to the mailer, with retries, and the outcome back to whoever keeps the outbox.
//!
//! Start at [`Outbox::run`]. What is pending comes from a [`MailSource`]; which mail is tried when is decided by
//! `queue`, without IO. Retry times are in memory only: after a restart every pending mail is tried again at once.

use super::config::MailConfig;
use super::message::{Mail, Recipient};
use super::queue::{Queue, Task, Verdict};
use super::recipients::Recipients;
use super::sink::{Mailer, SendError};
use super::templates::{About, words};
use async_trait::async_trait;
use ingest::id::{ConversationId, MailId, PersonId, TenantId};
use ingest::payload::MailKind;
use ingest::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Mails under way at once: enough for a server half a second away to take 1,000 mails a minute.
pub const CONCURRENCY: usize = 8;
/// The outbox is asked again after this, even if nobody called [`Outbox::wake`].
pub const POLL_MS: i64 = 5_000;
/// Wait after the first failed try; doubles with each.
pub const BACKOFF_FIRST_MS: i64 = 1_000;
/// Longest wait between two tries.
pub const BACKOFF_MAX_MS: i64 = 5 * 60 * 1_000;
/// A mail that could not be sent for so long is given up: late news is no news.
pub const GIVE_UP_MS: i64 = 24 * 60 * 60 * 1_000;

/// A requested mail without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingMail {
    /// The mail.
    pub mail_id: MailId,
    /// Whose.
    pub tenant: TenantId,
    /// What it says.
    pub kind: MailKind,
    /// The recipient.
    pub person_id: PersonId,
    /// The conversation, if it's about one.
    pub about: Option<ConversationId>,
    /// The visitor's readable id; empty without a visitor.
    pub readable_id: String,
    /// When it was requested.
    pub requested_at: Timestamp,
}

/// How a mail ended. It becomes `mail_sent` or `mail_failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server took it, or it lies in the spool.
    Sent {
        /// Tries, the last one included.
        attempts: u32,
    },
    /// It won't be sent, ever.
    Failed {
        /// Tries, the last one included; 0 when there was nobody to send to.
        attempts: u32,
        /// Why.
        reason: FailureReason,
    },
}

/// Why a mail won't be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// The person has no address (any more).
    NoAddress,
    /// The server refused it for good, or the address is none.
    Refused,
    /// It could not be sent for [`GIVE_UP_MS`].
    GaveUp,
}

impl FailureReason {
    /// The word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAddress => "no_address",
            Self::Refused => "refused",
            Self::GaveUp => "gave_up",
        }
    }
}

/// The outbox can't be read or written now; the loop tries again.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// The outbox and the address book, as the wiring has them.
#[async_trait]
pub trait MailSource: Send + Sync {
    /// Requested mails without an outcome, oldest first; a bounded number will do.
    async fn pending(&self) -> Result<Vec<PendingMail>, SourceError>;
    /// Name and address of a person; `None` when there is none for good (never had one, or erased).
    async fn address_of(&self, tenant: TenantId, person: PersonId) -> Result<Option<Recipient>, SourceError>;
    /// The code, or the token of the link, that the mail carries; `None` for a mail without one. It's looked up for every
    /// try and kept nowhere.
    async fn secret(&self, mail: MailId) -> Result<Option<String>, SourceError>;
    /// A tenant's display name.
    async fn tenant_name(&self, tenant: TenantId) -> Result<String, SourceError>;
    /// Appends the outcome; after `Ok`, [`pending`](Self::pending) no longer has the mail. Harmless when repeated.
    async fn record(&self, mail: MailId, outcome: Outcome) -> Result<(), SourceError>;
}

/// Time for the loop; tests bring their own.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Waits.
    async fn sleep_ms(&self, milliseconds: i64);
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_ms(&self, milliseconds: i64) {
        tokio::time::sleep(Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))).await;
    }
}

/// How delivery is doing; for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxStatus {
    /// The mailer could be reached when it was last tried; `true` before the first try.
    pub reachable: bool,
    /// Mails that wait or are under way.
    pub pending: usize,
    /// The last failure since the last success, without addresses.
    pub last_error: Option<String>,
}

/// The delivery loop of one installation.
pub struct Outbox {
    post: Arc<Post>,
    clock: Arc<dyn Clock>,
    wake: Notify,
    status: watch::Sender<OutboxStatus>,
}

/// What a task needs to deliver one mail.
struct Post {
    mailer: Mailer,
    source: Arc<dyn MailSource>,
    public_url: String,
    recipients: Recipients,
    clock: Arc<dyn Clock>,
}

impl Outbox {
    /// A loop that isn't running yet.
    #[must_use]
    pub fn new(mailer: Mailer, config: &MailConfig, source: Arc<dyn MailSource>, clock: Arc<dyn Clock>) -> Self {
        let status = OutboxStatus { reachable: true, pending: 0, last_error: None };
        Self {
            post: Arc::new(Post {
                mailer,
                source,
                public_url: config.public_url.clone(),
                recipients: Recipients::new(config.recipient_rate),
                clock: Arc::clone(&clock),
            }),
            clock,
            wake: Notify::new(),
            status: watch::Sender::new(status),
        }
    }

    /// There may be a new mail: look now, don't wait for the poll.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// How delivery is doing, now and on every change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<OutboxStatus> {
        self.status.subscribe()
    }

    /// The mailer, for its spool.
    #[must_use]
    pub fn mailer(&self) -> &Mailer {
        &self.post.mailer
    }

    /// Delivers until `stop`; then finishes what is under way and returns. Run it once.
    pub async fn run(&self, stop: CancellationToken) {
        let mut queue = Queue::default();
        let mut running = JoinSet::new();
        let mut poll_at = self.clock.now();
        while !stop.is_cancelled() {
            if self.clock.now() >= poll_at || queue.is_drained() {
                self.refresh(&mut queue).await;
                poll_at = self.clock.now().plus_ms(POLL_MS);
            }
            while running.len() < CONCURRENCY
                && let Some(task) = queue.start(self.clock.now())
            {
                running.spawn(Arc::clone(&self.post).perform(task));
            }
            self.publish(&queue);
            let now = self.clock.now();
            // What is due already waits for a task under way (all hands busy, or a probe), not for the time.
            let due = queue.next_at().filter(|at| *at > now).map_or(poll_at, |at| at.min(poll_at));
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = running.join_next() => self.finish(&mut queue, done),
                () = self.wake.notified() => poll_at = now,
                () = self.clock.sleep_ms(due.since(now).max(0)) => {}
            }
        }
        while let Some(done) = running.join_next().await {
            self.finish(&mut queue, done);
        }
        self.publish(&queue);
        self.post.mailer.close().await;
    }

    async fn refresh(&self, queue: &mut Queue) {
        match self.post.source.pending().await {
            Ok(pending) => queue.refresh(pending, self.clock.now()),
            Err(error) => {
                tracing::warn!(%error, "failed to read the outbox, will retry");
                queue.trouble("the outbox can't be read");
            }
        }
    }

    fn finish(&self, queue: &mut Queue, done: Result<(MailId, Verdict), tokio::task::JoinError>) {
        match done {
            Ok((mail, verdict)) => queue.finish(mail, verdict, self.clock.now()),
            // The mail stays marked as under way: what made the task panic would do it again.
            Err(error) => tracing::error!(%error, "failed to deliver a mail: its task panicked"),
        }
    }

    fn publish(&self, queue: &Queue) {
        self.status.send_if_modified(|status| {
            let now = queue.status();
            let changed = *status != now;
            *status = now;
            changed
        });
    }
}

impl Post {
    async fn perform(self: Arc<Self>, task: Task) -> (MailId, Verdict) {
        let Task { mail, attempts, outcome } = task;
        let id = mail.mail_id;
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => match self.deliver(&mail, attempts).await {
                Ok(outcome) => outcome,
                Err(verdict) => return (id, verdict),
            },
        };
        match self.source.record(id, outcome).await {
            Ok(()) => {
                tracing::info!(mail = %id, ?outcome, "mail done");
                (id, Verdict::Recorded(outcome))
            }
            Err(error) => {
                tracing::warn!(mail = %id, %error, "failed to record the outcome of a mail, will retry");
                (id, Verdict::Unrecorded(outcome))
            }
        }
    }

    /// One try. `attempts` counts this one.
    async fn deliver(&self, mail: &PendingMail, attempts: u32) -> Result<Outcome, Verdict> {
        let source_down = |error: SourceError| {
            tracing::warn!(mail = %mail.mail_id, %error, "failed to look a recipient up, will retry");
            Verdict::NotTried
        };
        let Some(to) = self.source.address_of(mail.tenant, mail.person_id).await.map_err(source_down)? else {
            return Ok(Outcome::Failed { attempts: attempts - 1, reason: FailureReason::NoAddress });
        };
        // A mail that waits for its server has had its turn.
        if attempts == 1
            && let Err(wait_ms) = self.recipients.take(&to.email, self.clock.now())
        {
            tracing::warn!(mail = %mail.mail_id, wait_ms, "too many mails to one address, will send later");
            return Err(Verdict::Deferred { wait_ms });
        }
        let tenant = self.source.tenant_name(mail.tenant).await.map_err(source_down)?;
        let secret = self.source.secret(mail.mail_id).await.map_err(source_down)?.unwrap_or_default();
        let about = About {
            tenant: &tenant,
            readable_id: &mail.readable_id,
            conversation: mail.about,
            secret: &secret,
            public_url: &self.public_url,
        };
        let letter = Mail { id: mail.mail_id, to, words: words(mail.kind, about), date: mail.requested_at };
        match self.mailer.send(&letter).await {
            Ok(()) => Ok(Outcome::Sent { attempts }),
            Err(SendError::Refused { reason }) => {
                tracing::warn!(mail = %mail.mail_id, attempts, reason, "mail refused");
                Ok(Outcome::Failed { attempts, reason: FailureReason::Refused })
            }
            Err(SendError::Retry { reason }) => {
                tracing::warn!(mail = %mail.mail_id, attempts, reason, "failed to send a mail, will retry");
                Err(Verdict::Retry(reason))
            }
            Err(SendError::Unreachable { reason }) => {
                tracing::warn!(mail = %mail.mail_id, attempts, reason, "failed to reach the mail server, will retry");
                Err(Verdict::Unreachable(reason))
            }
        }
    }
}
