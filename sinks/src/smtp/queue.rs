//! Which mail is tried when, of those that are due. Pure: time arrives as an argument, and nothing here sends.
//!
//! Codes, resets and invitations go first, and tenants take turns. What is put off is the store's, with its time, until it's
//! due again. A server that can't be reached closes the gate for all: then one mail at a time is the
//! probe, another each time, so that an outage costs one connection a try and no mail can keep the gate closed.

use super::hands::CONCURRENCY;
use super::outbox::{
    BACKOFF_FIRST_MS, BACKOFF_MAX_MS, FailureReason, OutboxStatus, Outcome, POLL_MS, PendingMail, Tries,
};
use ingest::id::{MailId, TenantId};
use ingest::time::Timestamp;
use std::collections::{HashMap, HashSet};

/// Mails in memory, but for urgent ones that come on top; some 300 bytes each.
const ENTRIES_MAX: usize = 1_000;
/// Codes, resets and invitations go first, but each so many turns, when the others do: even a flood of codes stops nobody's
/// mails.
const OTHERS_EVERY: u64 = 4;

/// Something to do now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    pub(super) mail: PendingMail,
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
    /// Later. `stored`: the store has it until then.
    PutOff { tries: Tries, due_at: Timestamp, stored: bool, reason: Option<String> },
    /// Try every mail later.
    Unreachable(String),
    /// The recipient couldn't be looked up; try this mail later.
    NotTried,
}

#[derive(Debug)]
struct Entry {
    mail: PendingMail,
    running: bool,
    /// When to try next.
    at: Timestamp,
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
    /// When each tenant had its last turn, counted.
    turns: HashMap<TenantId, u64>,
    turn: u64,
    down: Option<Down>,
    last_error: Option<String>,
}

/// 1 s, 2 s, 4 s … up to the longest.
pub(super) fn backoff_ms(failures: u32) -> i64 {
    BACKOFF_FIRST_MS.saturating_mul(1_i64 << failures.saturating_sub(1).min(30)).min(BACKOFF_MAX_MS)
}

impl Queue {
    /// Takes in what is due; what is known stays as it is.
    pub(super) fn refresh(&mut self, due: Vec<PendingMail>, now: Timestamp) {
        for mail in due {
            let fresh = Entry { mail, running: false, at: now, outcome: None };
            self.entries.entry(fresh.mail.mail_id).or_insert(fresh);
        }
        let tenants: HashSet<TenantId> = self.entries.values().map(|entry| entry.mail.tenant).collect();
        self.turns.retain(|tenant, _| tenants.contains(tenant));
    }

    /// The next thing to do, marked as under way; `None` when nothing is due.
    pub(super) fn start(&mut self, now: Timestamp) -> Option<Task> {
        let closed = self.down.is_some();
        let sending = self.entries.values().any(|entry| entry.running && entry.outcome.is_none());
        let open = self.down.as_ref().is_none_or(|down| now >= down.until && !sending);
        let turns = &self.turns;
        let others_first = self.turn % OTHERS_EVERY == OTHERS_EVERY - 1;
        let is_due = |entry: &&mut Entry| {
            let decided = entry.outcome.is_some() || entry.mail.until() <= now;
            !entry.running && entry.at <= now && (open || decided)
        };
        let place = |entry: &&mut Entry| {
            let mail = &entry.mail;
            // The least tried is the next probe.
            let probed = if closed { mail.tries.attempts } else { 0 };
            let turn = turns.get(&mail.tenant).copied().unwrap_or(0);
            (probed, mail.kind.is_urgent() == others_first, turn, mail.requested_at, mail.mail_id)
        };
        let entry = self.entries.values_mut().filter(is_due).min_by_key(place)?;
        entry.running = true;
        if entry.outcome.is_none() && entry.mail.until() <= now {
            entry.outcome = Some(entry.mail.too_late());
        }
        self.turn += 1;
        self.turns.insert(entry.mail.tenant, self.turn);
        Some(Task { mail: entry.mail.clone(), outcome: entry.outcome })
    }

    /// Takes the end of a task in.
    pub(super) fn finish(&mut self, mail: MailId, verdict: Verdict, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&mail) else { return };
        entry.running = false;
        match verdict {
            Verdict::Recorded(outcome) => {
                self.entries.remove(&mail);
                self.reached(outcome);
            }
            Verdict::Unrecorded(outcome) => {
                entry.outcome = Some(outcome);
                entry.at = now.plus_ms(POLL_MS);
                self.reached(outcome);
            }
            Verdict::PutOff { tries, due_at, stored, reason } => {
                let answered = tries.attempts > entry.mail.tries.attempts;
                entry.mail.tries = tries;
                entry.at = due_at;
                if stored {
                    self.entries.remove(&mail);
                }
                if answered {
                    self.down = None;
                }
                if reason.is_some() {
                    self.last_error = reason;
                }
            }
            Verdict::NotTried => {
                entry.at = now.plus_ms(POLL_MS);
                self.last_error = Some("a recipient can't be looked up".to_owned());
            }
            Verdict::Unreachable(reason) => {
                entry.mail.tries.attempts += 1;
                entry.mail.tries.granted = true;
                // When the gate opens again, at once.
                entry.at = now;
                // Mails that were under way together fail together: that is one failure of the server.
                if self.down.as_ref().is_none_or(|down| now >= down.until) {
                    let failures = self.down.as_ref().map_or(0, |down| down.failures) + 1;
                    self.down = Some(Down { failures, until: now.plus_ms(backoff_ms(failures)) });
                }
                self.last_error = Some(reason);
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
            Outcome::Failed { .. } => {}
        }
    }

    /// Something else went wrong.
    pub(super) fn trouble(&mut self, what: &str) {
        self.last_error = Some(what.to_owned());
    }

    /// There is enough to do: what isn't urgent may stay in the store.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= ENTRIES_MAX
    }

    /// Hands are about to be free: the store may have more. What waits for its time, as for a slow domain's hand, doesn't count.
    pub(super) fn has_few(&self, now: Timestamp) -> bool {
        self.entries.values().filter(|entry| !entry.running && entry.at <= now).count() < CONCURRENCY
    }

    /// When something that waits is due.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let gate = self.down.as_ref().map(|down| down.until);
        let at = |entry: &Entry| match gate {
            Some(until) if entry.outcome.is_none() => entry.at.max(until.min(entry.mail.until())),
            _ => entry.at,
        };
        self.entries.values().filter(|entry| !entry.running).map(at).min()
    }

    pub(super) fn status(&self, now: Timestamp) -> OutboxStatus {
        let waiting = self.entries.values().filter(|entry| !entry.running && entry.at <= now);
        let oldest = waiting.map(|entry| entry.mail.due_at).min();
        OutboxStatus {
            reachable: self.down.is_none(),
            pending: self.entries.len(),
            late_ms: oldest.map_or(0, |due_at| now.since(due_at).max(0)),
            last_error: self.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest::id::{ConversationId, PersonId};
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
            due_at: Timestamp(n),
            tries: Tries::default(),
        }
    }

    fn of(tenant: u8, kind: MailKind, n: i64) -> PendingMail {
        PendingMail { tenant: TenantId::derived(&[&[tenant]]), kind, ..mail(n) }
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

    fn put_off(attempts: u32, due_at: i64, stored: bool) -> Verdict {
        let tries = Tries { attempts, ..Tries::default() };
        Verdict::PutOff { tries, due_at: Timestamp(due_at), stored, reason: Some("451".into()) }
    }

    const SENT: Outcome = Outcome::Sent { attempts: 1 };

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<i64> = (1..=11).map(|failures| backoff_ms(failures) / 1_000).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff_ms(u32::MAX), BACKOFF_MAX_MS);
    }

    /// A mail that was put off is the store's; one that couldn't be stored waits here.
    #[test]
    fn a_mail_that_is_put_off_waits_by_itself() {
        let mut queue = queue(2);
        assert_eq!(started(&mut queue, 0), [0, 1]);
        queue.finish(mail(0).mail_id, put_off(1, 1_000, true), Timestamp(0));
        queue.finish(mail(1).mail_id, put_off(1, 1_000, false), Timestamp(0));
        assert!(queue.status(Timestamp(0)).reachable, "the server did answer");
        assert_eq!(started(&mut queue, 999), [0_i64; 0]);
        assert_eq!(started(&mut queue, 1_000), [1]);
    }

    /// A tenant with many mails has one turn, and then the others have theirs.
    #[test]
    fn tenants_take_turns() {
        let mut queue = Queue::default();
        let mut mails: Vec<_> = (0..100).map(|n| of(1, MailKind::Welcome, n)).collect();
        mails.extend([of(2, MailKind::Welcome, 200), of(2, MailKind::Welcome, 201), of(3, MailKind::Welcome, 300)]);
        queue.refresh(mails, Timestamp(1_000));
        let order: Vec<i64> =
            (0..7).map(|_| queue.start(Timestamp(1_000)).expect("a mail").mail.requested_at.0).collect();
        assert_eq!(order, [0, 200, 300, 1, 201, 2, 3]);
    }

    /// Codes and links go first, but not every time.
    #[test]
    fn codes_go_first_and_the_others_go_on() {
        let mut queue = Queue::default();
        let mut mails: Vec<_> = (100..110).map(|n| of(1, MailKind::Otp, n)).collect();
        mails.extend((0..3).map(|n| of(2, MailKind::Welcome, n)));
        queue.refresh(mails, Timestamp(1_000));
        let order: Vec<i64> =
            (0..8).map(|_| queue.start(Timestamp(1_000)).expect("a mail").mail.requested_at.0).collect();
        assert_eq!(order, [100, 101, 102, 0, 103, 104, 105, 1]);
    }

    /// An outage costs one connection a try, each with another mail, and what failed together counts as one failure.
    #[test]
    fn an_unreachable_server_is_probed_with_one_mail_at_a_time() {
        let mut queue = queue(3);
        assert_eq!(started(&mut queue, 0), [0, 1, 2]);
        (0..3).for_each(|n| queue.finish(mail(n).mail_id, unreachable(), Timestamp(10)));
        assert!(!queue.status(Timestamp(10)).reachable);
        assert_eq!(started(&mut queue, 1_009), [0_i64; 0]);
        assert_eq!(started(&mut queue, 1_010), [0], "the probe");
        queue.finish(mail(0).mail_id, unreachable(), Timestamp(1_010));
        assert_eq!(started(&mut queue, 3_009), [0_i64; 0]);
        assert_eq!(started(&mut queue, 3_010), [1], "another");
        queue.finish(mail(1).mail_id, Verdict::Recorded(SENT), Timestamp(3_011));
        assert_eq!(started(&mut queue, 3_011), [0, 2], "the gate is open again");
        assert_eq!(queue.status(Timestamp(3_011)).last_error, None);
    }

    /// What is under way is not started again by a look that still has it.
    #[test]
    fn a_look_at_the_store_sends_nothing_twice() {
        let mut queue = queue(1);
        assert_eq!(started(&mut queue, 0), [0]);
        queue.refresh(vec![mail(0)], Timestamp(1));
        assert_eq!(started(&mut queue, 1), [0_i64; 0], "it is under way");
        assert!(queue.has_few(Timestamp(1)));
        queue.finish(mail(0).mail_id, Verdict::Recorded(SENT), Timestamp(2));
        assert!(queue.entries.is_empty());
    }

    /// What waits for its time is no reason not to ask the store for more.
    #[test]
    fn the_store_is_asked_when_few_are_due() {
        let mut queue = queue(100);
        assert!(!queue.has_few(Timestamp(0)));
        for _ in 0..100 {
            let task = queue.start(Timestamp(0)).expect("due");
            queue.finish(task.mail.mail_id, put_off(1, 1_000, false), Timestamp(0));
        }
        assert!(queue.has_few(Timestamp(999)) && !queue.has_few(Timestamp(1_000)));
    }

    /// Sent but not recorded: only the record is tried again.
    #[test]
    fn an_unrecorded_outcome_is_recorded_later_and_not_sent_again() {
        let mut queue = queue(1);
        started(&mut queue, 0);
        queue.finish(mail(0).mail_id, Verdict::Unrecorded(SENT), Timestamp(0));
        queue.refresh(vec![mail(0)], Timestamp(1));
        assert_eq!(started(&mut queue, 1), [0_i64; 0]);
        let task = queue.start(Timestamp(POLL_MS)).expect("due");
        assert_eq!(task.outcome, Some(SENT));
    }

    /// What is good for nothing any more isn't sent, whether the server can be reached or not.
    #[test]
    fn what_is_too_late_is_not_sent() {
        let mut queue = Queue::default();
        let code = of(1, MailKind::Otp, 0);
        queue.refresh(vec![code.clone(), of(1, MailKind::Welcome, 1), of(1, MailKind::Welcome, 2)], Timestamp(0));
        started(&mut queue, 2);
        let ids = [0, 1, 2].map(|n| mail(n).mail_id);
        ids.iter().for_each(|id| queue.finish(*id, unreachable(), Timestamp(3)));
        let probe = queue.start(code.until()).expect("a probe");
        assert_eq!(probe.outcome, None);
        let late = queue.start(code.until()).expect("the code, whether the server can be reached or not");
        let failed = |attempts, reason| Some(Outcome::Failed { attempts, reason });
        assert_eq!((late.mail.mail_id, late.outcome), (ids[0], failed(1, FailureReason::Expired)));
        let day = Timestamp(MailKind::Welcome.valid_ms() + 2);
        queue.finish(probe.mail.mail_id, unreachable(), day);
        let mut outcomes: Vec<_> = std::iter::from_fn(|| queue.start(day)).map(|task| task.outcome).collect();
        outcomes.sort_by_key(|outcome| format!("{outcome:?}"));
        assert_eq!(outcomes, [failed(1, FailureReason::GaveUp), failed(2, FailureReason::GaveUp)]);
    }
}
