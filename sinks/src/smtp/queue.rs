//! Which mail is tried when. Pure: time arrives as an argument, and nothing here sends.
//!
//! A mail that the server turned away for now backs off by itself. A server that can't be reached closes the gate for
//! all: then one mail at a time is the probe, so that an outage costs one connection a try and not one a mail.

use super::outbox::{
    BACKOFF_FIRST_MS, BACKOFF_MAX_MS, FailureReason, GIVE_UP_MS, OutboxStatus, Outcome, POLL_MS, PendingMail,
};
use ingest::id::MailId;
use ingest::time::Timestamp;
use std::collections::{HashMap, HashSet};

/// Something to do now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    pub(super) mail: PendingMail,
    /// Tries, this one included.
    pub(super) attempts: u32,
    /// Already decided: only to be recorded.
    pub(super) outcome: Option<Outcome>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// The outcome is in the log.
    Recorded(Outcome),
    /// The outcome is known and must still be recorded; the mail must not be sent again.
    Unrecorded(Outcome),
    /// Try this mail later.
    Retry(String),
    /// Try every mail later.
    Unreachable(String),
    /// Its recipient has had enough for now.
    Deferred {
        /// Until they may get this one.
        wait_ms: i64,
    },
    /// The recipient couldn't be looked up; try this mail later.
    NotTried,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    /// Recorded. Kept until a later look at the outbox has it no more, as a look may be older than the record.
    Done,
}

#[derive(Debug)]
struct Entry {
    mail: PendingMail,
    state: State,
    /// Tries that reached the server, or failed to.
    attempts: u32,
    /// When to try next.
    at: Timestamp,
    /// Since when this process tries.
    first_seen: Timestamp,
    outcome: Option<Outcome>,
}

/// The gate is closed: the server can't be reached.
#[derive(Debug)]
struct Down {
    failures: u32,
    /// When the next probe may go.
    until: Timestamp,
}

/// The mails of one loop.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: HashMap<MailId, Entry>,
    down: Option<Down>,
    last_error: Option<String>,
}

/// 1 s, 2 s, 4 s … up to the longest.
fn backoff_ms(failures: u32) -> i64 {
    BACKOFF_FIRST_MS.saturating_mul(1_i64 << failures.saturating_sub(1).min(30)).min(BACKOFF_MAX_MS)
}

impl Queue {
    /// Takes the outbox's content in.
    pub(super) fn refresh(&mut self, pending: Vec<PendingMail>, now: Timestamp) {
        let ids: HashSet<MailId> = pending.iter().map(|mail| mail.mail_id).collect();
        self.entries.retain(|id, entry| ids.contains(id) || entry.state == State::Running || entry.outcome_is_open());
        for mail in pending {
            let fresh = Entry { mail, state: State::Waiting, attempts: 0, at: now, first_seen: now, outcome: None };
            self.entries.entry(fresh.mail.mail_id).or_insert(fresh);
        }
    }

    /// The next thing to do, marked as under way; `None` when nothing is due. The oldest request goes first.
    pub(super) fn start(&mut self, now: Timestamp) -> Option<Task> {
        let sending = self.entries.values().any(|entry| entry.state == State::Running && entry.outcome.is_none());
        let open = match &self.down {
            None => true,
            Some(down) => now >= down.until && !sending,
        };
        let due =
            |entry: &&mut Entry| entry.state == State::Waiting && entry.at <= now && (open || entry.outcome.is_some());
        let entry =
            self.entries.values_mut().filter(due).min_by_key(|entry| (entry.mail.requested_at, entry.mail.mail_id))?;
        entry.state = State::Running;
        Some(Task { mail: entry.mail.clone(), attempts: entry.attempts + 1, outcome: entry.outcome })
    }

    /// Takes the end of a task in.
    pub(super) fn finish(&mut self, mail: MailId, verdict: Verdict, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&mail) else { return };
        entry.state = State::Waiting;
        match verdict {
            Verdict::Recorded(outcome) => {
                entry.state = State::Done;
                entry.outcome = Some(outcome);
                self.reached(outcome);
            }
            Verdict::Unrecorded(outcome) => {
                entry.outcome = Some(outcome);
                entry.at = now.plus_ms(POLL_MS);
                self.reached(outcome);
            }
            Verdict::Deferred { wait_ms } => entry.at = now.plus_ms(wait_ms),
            Verdict::NotTried => {
                entry.at = now.plus_ms(POLL_MS);
                self.last_error = Some("a recipient can't be looked up".to_owned());
            }
            Verdict::Retry(reason) => {
                entry.attempts += 1;
                entry.at = now.plus_ms(backoff_ms(entry.attempts));
                entry.give_up_if_old(now);
                self.down = None;
                self.last_error = Some(reason);
            }
            Verdict::Unreachable(reason) => {
                entry.attempts += 1;
                // When the gate opens again, at once.
                entry.at = now;
                // Mails that were under way together fail together: that is one failure of the server.
                if self.down.as_ref().is_none_or(|down| now >= down.until) {
                    let failures = self.down.as_ref().map_or(0, |down| down.failures) + 1;
                    self.down = Some(Down { failures, until: now.plus_ms(backoff_ms(failures)) });
                }
                self.last_error = Some(reason);
                self.entries.values_mut().for_each(|entry| entry.give_up_if_old(now));
            }
        }
    }

    /// The server has answered, unless there was nobody to send to.
    fn reached(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Sent { .. } => {
                self.down = None;
                self.last_error = None;
            }
            Outcome::Failed { reason: FailureReason::Refused, .. } => self.down = None,
            Outcome::Failed { reason: FailureReason::NoAddress | FailureReason::GaveUp, .. } => {}
        }
    }

    /// Something else went wrong.
    pub(super) fn trouble(&mut self, what: &str) {
        self.last_error = Some(what.to_owned());
    }

    /// Everything known is done: the outbox may have more.
    pub(super) fn is_drained(&self) -> bool {
        !self.entries.is_empty() && self.entries.values().all(|entry| entry.state == State::Done)
    }

    /// When something that waits is due.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let gate = self.down.as_ref().map(|down| down.until);
        let at = |entry: &Entry| match gate {
            Some(until) if entry.outcome.is_none() => entry.at.max(until),
            _ => entry.at,
        };
        self.entries.values().filter(|entry| entry.state == State::Waiting).map(at).min()
    }

    pub(super) fn status(&self) -> OutboxStatus {
        OutboxStatus {
            reachable: self.down.is_none(),
            pending: self.entries.values().filter(|entry| entry.state != State::Done).count(),
            last_error: self.last_error.clone(),
        }
    }
}

impl Entry {
    /// Decided, but not yet in the log.
    fn outcome_is_open(&self) -> bool {
        self.state == State::Waiting && self.outcome.is_some()
    }

    fn give_up_if_old(&mut self, now: Timestamp) {
        if self.state == State::Waiting && self.outcome.is_none() && now.since(self.first_seen) >= GIVE_UP_MS {
            self.outcome = Some(Outcome::Failed { attempts: self.attempts, reason: FailureReason::GaveUp });
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest::id::{ConversationId, PersonId, TenantId};
    use ingest::payload::MailKind;

    fn mail(n: i64) -> PendingMail {
        PendingMail {
            mail_id: MailId::derived(&[&n.to_le_bytes()]),
            tenant: TenantId::derived(&[]),
            kind: MailKind::Welcome,
            person_id: PersonId::derived(&[]),
            about: Some(ConversationId::derived(&[])),
            readable_id: "calm-otter-7".into(),
            requested_at: Timestamp(n),
        }
    }

    fn queue(mails: i64) -> Queue {
        let mut queue = Queue::default();
        queue.refresh((0..mails).map(mail).collect(), Timestamp(0));
        queue
    }

    /// What is started at `at`, as request times.
    fn started(queue: &mut Queue, at: i64) -> Vec<i64> {
        std::iter::from_fn(|| queue.start(Timestamp(at))).map(|task| task.mail.requested_at.0).collect()
    }

    fn unreachable() -> Verdict {
        Verdict::Unreachable("down".into())
    }

    const SENT: Outcome = Outcome::Sent { attempts: 1 };

    /// 1 s, 2 s, 4 s … five minutes.
    #[test]
    fn a_mail_turned_away_backs_off_by_itself() {
        let mut queue = queue(1);
        let mut waits = Vec::new();
        let mut now = 0;
        for _ in 0..11 {
            assert_eq!(started(&mut queue, now), [0]);
            queue.finish(mail(0).mail_id, Verdict::Retry("451".into()), Timestamp(now));
            let next = queue.next_at().expect("waits").0;
            waits.push((next - now) / 1_000);
            assert!(queue.start(Timestamp(next - 1)).is_none());
            now = next;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(queue.status().reachable, "the server did answer");
    }

    /// An outage costs one connection a try, and the mails that failed together count as one failure.
    #[test]
    fn an_unreachable_server_is_probed_with_one_mail_at_a_time() {
        let mut queue = queue(3);
        assert_eq!(started(&mut queue, 0), [0, 1, 2]);
        (0..3).for_each(|n| queue.finish(mail(n).mail_id, unreachable(), Timestamp(10)));
        assert!(!queue.status().reachable);
        assert_eq!(started(&mut queue, 1_009), [0_i64; 0]);
        assert_eq!(started(&mut queue, 1_010), [0], "the probe");
        queue.finish(mail(0).mail_id, unreachable(), Timestamp(1_010));
        assert_eq!(started(&mut queue, 3_009), [0_i64; 0]);
        assert_eq!(started(&mut queue, 3_010), [0]);
        queue.finish(mail(0).mail_id, Verdict::Recorded(SENT), Timestamp(3_011));
        assert_eq!(started(&mut queue, 3_011), [1, 2], "the gate is open again");
        assert_eq!(queue.status().last_error, None);
    }

    /// A look at the outbox that is older than the record must not send a mail again.
    #[test]
    fn a_stale_look_at_the_outbox_sends_nothing_twice() {
        let mut queue = queue(1);
        assert_eq!(started(&mut queue, 0), [0]);
        queue.refresh(vec![mail(0)], Timestamp(1));
        assert_eq!(started(&mut queue, 1), [0_i64; 0], "it is under way");
        queue.finish(mail(0).mail_id, Verdict::Recorded(SENT), Timestamp(2));
        queue.refresh(vec![mail(0)], Timestamp(3));
        assert_eq!(started(&mut queue, 3), [0_i64; 0], "it is done");
        queue.refresh(vec![], Timestamp(4));
        assert!(queue.entries.is_empty());
    }

    /// Sent but not recorded: only the record is tried again.
    #[test]
    fn an_unrecorded_outcome_is_recorded_later_and_not_sent_again() {
        let mut queue = queue(1);
        started(&mut queue, 0);
        queue.finish(mail(0).mail_id, Verdict::Unrecorded(SENT), Timestamp(0));
        queue.refresh(vec![], Timestamp(1));
        let task = queue.start(Timestamp(POLL_MS)).expect("due");
        assert_eq!(task.outcome, Some(SENT));
    }

    #[test]
    fn a_day_without_the_server_gives_up_every_mail_that_waited_so_long() {
        let mut queue = queue(2);
        started(&mut queue, 0);
        (0..2).for_each(|n| queue.finish(mail(n).mail_id, unreachable(), Timestamp(0)));
        queue.refresh((0..3).map(mail).collect(), Timestamp(GIVE_UP_MS / 2));
        assert_eq!(started(&mut queue, GIVE_UP_MS), [0]);
        queue.finish(mail(0).mail_id, unreachable(), Timestamp(GIVE_UP_MS));
        let outcomes: Vec<_> =
            std::iter::from_fn(|| queue.start(Timestamp(GIVE_UP_MS))).map(|task| task.outcome).collect();
        let gave_up = |attempts| Some(Outcome::Failed { attempts, reason: FailureReason::GaveUp });
        assert_eq!(outcomes, [gave_up(2), gave_up(1)], "the third has waited half a day only");
    }
}
