//! The delivery loop: pending mails to the mailer, with retries, and the outcome back to whoever keeps the outbox.
//!
//! Start at [`Outbox::run`]. What is due comes from a [`MailSource`], which also keeps what is put off; which mail is tried
//! when is decided by `queue`, without IO; how often an address and a tenant may, by `budgets`; whose mail is being handed
//! over, by `hands`.

use super::budgets::{Budgets, Standing};
use super::config::MailConfig;
use super::delivery::Post;
use super::hands::{CONCURRENCY, Hands};
use super::message::Recipient;
use super::queue::{Queue, Verdict};
use super::sink::Mailer;
use async_trait::async_trait;
use ingest::id::{ConversationId, MailId, PersonId, TenantId};
use ingest::payload::MailKind;
use ingest::time::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The outbox is asked again after this, even if nobody called [`Outbox::wake`].
pub const POLL_MS: i64 = 5_000;
/// Between two looks at the outbox, however many new mails there are.
const LOOK_EVERY_MS: i64 = 50;
/// Wait after the first failed try; doubles with each.
pub const BACKOFF_FIRST_MS: i64 = 1_000;
/// Longest wait between two tries.
pub const BACKOFF_MAX_MS: i64 = 5 * 60 * 1_000;
/// Tries after which nobody knows whether the server took the mail: one more could be one copy more.
pub const UNKNOWN_MAX: u32 = 2;
/// What is being handed over when delivery stops may take this long to come to an end.
pub const STOP_MAX: Duration = Duration::from_secs(3);

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
    /// Since when it may be tried.
    pub due_at: Timestamp,
    /// What was tried before.
    pub tries: Tries,
}

/// What a mail has behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Tries that reached the server, or failed to.
    pub attempts: u32,
    /// Those of them after which nobody knows whether the server took it.
    pub unknown: u32,
    /// It has what it takes of its address's and its tenant's budget.
    pub granted: bool,
}

impl PendingMail {
    /// When it's good for nothing any more.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.requested_at.plus_ms(self.kind.valid_ms())
    }

    /// What becomes of it then: a code or a link is void, and news are no news any more.
    pub(super) fn too_late(&self) -> Outcome {
        let reason = if self.kind.is_urgent() { FailureReason::Expired } else { FailureReason::GaveUp };
        Outcome::Failed { attempts: self.tries.attempts, reason }
    }
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
    /// It could not be sent for so long that it is no news any more.
    GaveUp,
    /// Its code or link was void before it could be sent.
    Expired,
    /// Its address gets too many mails of this kind: it would have come too late.
    AddressLimit,
    /// Its tenant sends too many mails of this kind: it would have come too late.
    TenantLimit,
    /// The server got it [`UNKNOWN_MAX`] times and never said whether it takes it.
    Unknown,
}

impl FailureReason {
    /// The word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAddress => "no_address",
            Self::Refused => "refused",
            Self::GaveUp => "gave_up",
            Self::Expired => "expired",
            Self::AddressLimit => "address_limit",
            Self::TenantLimit => "tenant_limit",
            Self::Unknown => "unknown",
        }
    }
}

/// The outbox can't be read or written now; the loop tries again.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// What mails need to know of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantCard {
    /// Display name.
    pub name: String,
    /// For the size of its budget.
    pub standing: Standing,
}

/// Mails that are due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueMails {
    /// Some of every tenant's, or of many tenants'.
    pub mails: Vec<PendingMail>,
    /// There are more.
    pub more: bool,
}

/// The outbox and the address book, as the wiring has them.
#[async_trait]
pub trait MailSource: Send + Sync {
    /// Requested mails without an outcome that are due, of those that are urgent and of the others, or `urgent_only`: a
    /// bounded number, fair to all tenants, so that one with many keeps no other's away. Each look goes on where the last
    /// one ended.
    async fn due(&self, urgent_only: bool, now: Timestamp) -> Result<DueMails, SourceError>;
    /// Keeps a mail until it is due again. Harmless when repeated.
    async fn put_off(&self, mail: MailId, tries: Tries, due_at: Timestamp) -> Result<(), SourceError>;
    /// Name and address of a person; `None` when there is none for good (never had one, or erased).
    async fn address_of(&self, tenant: TenantId, person: PersonId) -> Result<Option<Recipient>, SourceError>;
    /// The code, or the token of the link, that the mail carries; `None` for a mail without one. It's looked up for every
    /// try and kept nowhere.
    async fn secret(&self, mail: MailId) -> Result<Option<String>, SourceError>;
    /// A tenant.
    async fn tenant(&self, tenant: TenantId) -> Result<TenantCard, SourceError>;
    /// Appends the outcome; after `Ok`, [`due`](Self::due) no longer has the mail. Harmless when repeated.
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
    /// Mails that are due and wait, or are under way, as far as the loop has looked.
    pub pending: usize,
    /// How long the one that is due longest has waited for its turn.
    pub late_ms: i64,
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

impl Outbox {
    /// A loop that isn't running yet.
    #[must_use]
    pub fn new(mailer: Mailer, config: &MailConfig, source: Arc<dyn MailSource>, clock: Arc<dyn Clock>) -> Self {
        let status = OutboxStatus { reachable: true, pending: 0, late_ms: 0, last_error: None };
        Self {
            post: Arc::new(Post {
                mailer,
                source,
                public_url: config.public_url.clone(),
                budgets: Budgets::new(config.address_rate, config.tenant_rate),
                hands: Hands::new(),
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

    /// Delivers until `stop`; then lets what is under way finish, for [`STOP_MAX`] at most, and returns. Run it once.
    pub async fn run(&self, stop: CancellationToken) {
        let mut queue = Queue::default();
        let mut running = JoinSet::new();
        let mut poll_at = self.clock.now();
        let mut looked_at = Timestamp(0);
        // The store has more, and something has ended since it was asked: its place is free.
        let (mut more, mut ended) = (false, false);
        while !stop.is_cancelled() {
            if more && ended && queue.has_few(self.clock.now()) {
                poll_at = poll_at.min(looked_at.plus_ms(LOOK_EVERY_MS));
            }
            if self.clock.now() >= poll_at {
                more = self.refresh(&mut queue).await;
                ended = false;
                looked_at = self.clock.now();
                poll_at = looked_at.plus_ms(POLL_MS);
            }
            while running.len() < CONCURRENCY
                && let Some(task) = queue.start(self.clock.now())
            {
                running.spawn(Arc::clone(&self.post).perform(task, stop.clone()));
            }
            self.publish(&queue);
            let now = self.clock.now();
            // What is due already waits for a task under way (all hands busy, or a probe), not for the time.
            let due = queue.next_at().filter(|at| *at > now).map_or(poll_at, |at| at.min(poll_at));
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = running.join_next() => {
                    ended = true;
                    self.finish(&mut queue, done);
                }
                () = self.wake.notified() => poll_at = poll_at.min(now.max(looked_at.plus_ms(LOOK_EVERY_MS))),
                () = self.clock.sleep_ms(due.since(now).max(0)) => {}
            }
        }
        while let Some(done) = running.join_next().await {
            self.finish(&mut queue, done);
        }
        self.publish(&queue);
        self.post.mailer.close().await;
    }

    /// Asks the store what is due; `true` when it has more.
    async fn refresh(&self, queue: &mut Queue) -> bool {
        let now = self.clock.now();
        match self.post.source.due(queue.is_full(), now).await {
            Ok(due) => {
                queue.refresh(due.mails, now);
                due.more
            }
            Err(error) => {
                tracing::warn!(%error, "failed to read the outbox, will retry");
                queue.trouble("the outbox can't be read");
                false
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
        let now = self.clock.now();
        self.status.send_if_modified(|status| {
            let next = queue.status(now);
            let changed = *status != next;
            *status = next;
            changed
        });
    }
}
