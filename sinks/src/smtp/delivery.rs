//! One try of one mail: who gets it, whether their budget and their tenant's allow it, the words, the mailer, and what its
//! answer means. Start at [`Post::perform`].

use super::budgets::{BudgetRequest, Budgets, Exceeded};
use super::hands::{Hand, Hands, SLOW_AFTER};
use super::message::{Mail, Recipient};
use super::outbox::{
    Clock, FailureReason, MailSource, Outcome, PendingMail, STOP_MAX, SourceError, TenantCard, Tries, UNKNOWN_MAX,
};
use super::queue::{Task, Verdict, backoff_ms};
use super::sink::{Mailer, SendError, SendProgress, SendStage};
use super::templates::{About, words};
use ingest::id::MailId;
use std::pin::pin;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A domain that is slow and has all hands that it may have is asked again after this.
const BUSY_MS: i64 = 1_000;

/// What a task needs to deliver one mail.
pub(super) struct Post {
    pub(super) mailer: Mailer,
    pub(super) source: Arc<dyn MailSource>,
    pub(super) public_url: String,
    pub(super) budgets: Budgets,
    pub(super) hands: Hands,
    pub(super) clock: Arc<dyn Clock>,
}

/// No outcome yet.
enum Later {
    /// The store keeps it.
    In {
        wait_ms: i64,
        tries: Tries,
        reason: Option<String>,
    },
    /// The loop keeps it: it isn't the mail's doing, or it's soon.
    Soon {
        tries: Tries,
    },
    Unreachable(String),
    NotTried,
}

impl Post {
    pub(super) async fn perform(self: Arc<Self>, task: Task, stop: CancellationToken) -> (MailId, Verdict) {
        let Task { mail, outcome } = task;
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => match self.deliver(&mail, &stop).await {
                Ok(outcome) => outcome,
                Err(later) => return (mail.mail_id, self.put_off(&mail, later).await),
            },
        };
        let verdict = match self.source.record(mail.mail_id, outcome).await {
            Ok(()) => {
                tracing::info!(mail = %mail.mail_id, ?outcome, "mail done");
                Verdict::Recorded(outcome)
            }
            Err(error) => {
                tracing::warn!(mail = %mail.mail_id, %error, "failed to record the outcome of a mail, will retry");
                Verdict::Unrecorded(outcome)
            }
        };
        (mail.mail_id, verdict)
    }

    async fn put_off(&self, mail: &PendingMail, later: Later) -> Verdict {
        let (wait_ms, tries, reason) = match later {
            Later::In { wait_ms, tries, reason } => (wait_ms, tries, reason),
            Later::Soon { tries } => {
                let due_at = self.clock.now().plus_ms(BUSY_MS);
                return Verdict::PutOff { tries, due_at, stored: false, reason: None };
            }
            Later::Unreachable(reason) => return Verdict::Unreachable(reason),
            Later::NotTried => return Verdict::NotTried,
        };
        let due_at = self.clock.now().plus_ms(wait_ms);
        let stored = self.source.put_off(mail.mail_id, tries, due_at).await;
        if let Err(error) = &stored {
            tracing::warn!(mail = %mail.mail_id, %error, "failed to store until when a mail waits");
        }
        Verdict::PutOff { tries, due_at, stored: stored.is_ok(), reason }
    }

    /// One try.
    async fn deliver(&self, mail: &PendingMail, stop: &CancellationToken) -> Result<Outcome, Later> {
        let source_down = |error: SourceError| {
            tracing::warn!(mail = %mail.mail_id, %error, "failed to look a recipient up, will retry");
            Later::NotTried
        };
        let attempts = mail.tries.attempts;
        let Some(to) = self.source.address_of(mail.tenant, mail.person_id).await.map_err(source_down)? else {
            return Ok(Outcome::Failed { attempts, reason: FailureReason::NoAddress });
        };
        let tenant = self.source.tenant(mail.tenant).await.map_err(source_down)?;
        // A mail that waited has had its turn.
        if !mail.tries.granted {
            match self.granted(mail, &to, &tenant) {
                Ok(0) => {}
                Ok(wait_ms) => {
                    tracing::warn!(mail = %mail.mail_id, wait_ms, "too many mails of a kind, will send later");
                    let tries = Tries { granted: true, ..mail.tries };
                    return Err(Later::In { wait_ms, tries, reason: None });
                }
                Err(reason) => {
                    tracing::warn!(mail = %mail.mail_id, reason = reason.as_str(), "too many mails of a kind");
                    return Ok(Outcome::Failed { attempts, reason });
                }
            }
        }
        let secret = self.source.secret(mail.mail_id).await.map_err(source_down)?.unwrap_or_default();
        let tries = Tries { granted: true, ..mail.tries };
        let Some(hand) = self.hands.take(&to.email).await else { return Err(Later::Soon { tries }) };
        let about = About {
            tenant: &tenant.name,
            readable_id: &mail.readable_id,
            conversation: mail.about,
            secret: &secret,
            public_url: &self.public_url,
        };
        let letter = Mail { id: mail.mail_id, to, words: words(mail.kind, about), date: mail.requested_at };
        let Some(answer) = self.hand_over(&letter, hand, stop).await else { return Err(Later::Soon { tries }) };
        judge(mail, tries, answer)
    }

    fn granted(&self, mail: &PendingMail, to: &Recipient, tenant: &TenantCard) -> Result<i64, FailureReason> {
        let asked = BudgetRequest {
            kind: mail.kind,
            tenant: mail.tenant,
            address: &to.email,
            proven: to.proven,
            until: mail.until(),
        };
        self.budgets.take(asked, tenant.standing, self.clock.now()).map_err(|exceeded| match exceeded {
            Exceeded::Address => FailureReason::AddressLimit,
            Exceeded::Tenant => FailureReason::TenantLimit,
        })
    }

    /// Waits for the mailer, and frees the hand for others when it takes long. `None`: stopped before the server had any of
    /// the mail.
    async fn hand_over(
        &self,
        letter: &Mail,
        mut hand: Hand,
        stop: &CancellationToken,
    ) -> Option<Result<(), SendError>> {
        let progress = SendProgress::default();
        let mut sending = pin!(self.mailer.send(letter, &progress));
        let stopped = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_MAX).await;
        };
        let mut stopped = pin!(stopped);
        let mut was_slow = false;
        loop {
            let slow = tokio::time::sleep(SLOW_AFTER);
            tokio::select! {
                answer = &mut sending => {
                    if !was_slow && progress.stage() != SendStage::Connecting {
                        self.hands.was_quick(&hand);
                    }
                    return Some(answer);
                }
                () = &mut stopped => return match progress.stage() {
                    SendStage::Connecting | SendStage::Envelope => None,
                    SendStage::Content => Some(Err(SendError::Unknown { reason: "the server is shutting down".to_owned() })),
                },
                () = slow => match progress.stage() {
                    // The whole server is slow: that is nothing of the recipient's.
                    SendStage::Connecting => {}
                    SendStage::Envelope => {
                        was_slow = true;
                        if !self.hands.is_taking_long(&mut hand) {
                            let reason = "too many recipients take long".to_owned();
                            return Some(Err(SendError::Retry { reason }));
                        }
                    }
                    SendStage::Content => {
                        self.hands.give_way(&mut hand);
                    }
                },
            }
        }
    }
}

/// What the mailer's answer means for the mail. `tries` are those before it.
fn judge(mail: &PendingMail, tries: Tries, answer: Result<(), SendError>) -> Result<Outcome, Later> {
    let attempts = tries.attempts + 1;
    let tries = Tries { attempts, ..tries };
    let (reason, tries) = match answer {
        Ok(()) => return Ok(Outcome::Sent { attempts }),
        Err(SendError::Refused { reason }) => {
            tracing::warn!(mail = %mail.mail_id, attempts, reason, "mail refused");
            return Ok(Outcome::Failed { attempts, reason: FailureReason::Refused });
        }
        Err(SendError::Unreachable { reason }) => {
            tracing::warn!(mail = %mail.mail_id, attempts, reason, "failed to reach the mail server, will retry");
            return Err(Later::Unreachable(reason));
        }
        Err(SendError::Unknown { reason }) => (reason, Tries { unknown: tries.unknown + 1, ..tries }),
        Err(SendError::Retry { reason }) => (reason, tries),
    };
    if tries.unknown >= UNKNOWN_MAX {
        tracing::warn!(mail = %mail.mail_id, attempts, reason, "the server never said whether it took a mail");
        return Ok(Outcome::Failed { attempts, reason: FailureReason::Unknown });
    }
    tracing::warn!(mail = %mail.mail_id, attempts, reason, "failed to send a mail, will retry");
    Err(Later::In { wait_ms: backoff_ms(attempts), tries, reason: Some(reason) })
}
