//! The mail sink: the spool, a real server that misbehaves, an outage, and attempts to inject headers.

use crate::mail_server::{MailServer, closed_port, eventually};
use crate::story::tenant;
use async_trait::async_trait;
use ingest::id::{ConversationId, MailId, PersonId, TenantId};
use ingest::payload::MailKind;
use ingest::time::Timestamp;
use sinks::smtp::{
    CONCURRENCY, Clock, DueMails, FailureReason, Mail, MailConfig, MailRate, MailSource, Mailer, Outbox, Outcome,
    PendingMail, Recipient, SendError, SendProgress, SourceError, Standing, SystemClock, TenantCard, Tries, Words,
};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// An outbox and an address book in memory.
#[derive(Default)]
pub struct Memory {
    pending: Mutex<Vec<PendingMail>>,
    people: Mutex<HashMap<PersonId, Recipient>>,
    outcomes: Mutex<Vec<(MailId, Outcome)>>,
    /// The next record fails.
    broken: AtomicBool,
    /// When mails are requested; their Date.
    pub requested_at: Timestamp,
}

impl Memory {
    /// Requests a mail to an address; an empty one means that the person has none.
    pub fn request(&self, kind: MailKind, name: Option<&str>, email: &str) -> MailId {
        let mut pending = self.pending.lock().unwrap();
        let mail_id = MailId::fresh();
        let person_id = PersonId(mail_id.0);
        if !email.is_empty() {
            let recipient = Recipient { name: name.map(str::to_owned), email: email.to_owned(), proven: false };
            self.people.lock().unwrap().insert(person_id, recipient);
        }
        pending.push(PendingMail {
            mail_id,
            tenant: tenant("acme"),
            kind,
            person_id,
            about: Some(ConversationId::derived(&[b"c1"])),
            readable_id: "calm-otter-7".into(),
            requested_at: self.requested_at,
            due_at: self.requested_at,
            tries: Tries::default(),
        });
        mail_id
    }

    pub fn outcome(&self, mail: MailId) -> Option<Outcome> {
        let outcomes = self.outcomes.lock().unwrap();
        assert!(outcomes.iter().filter(|(id, _)| *id == mail).count() <= 1, "one outcome a mail");
        outcomes.iter().find(|(id, _)| *id == mail).map(|(_, outcome)| *outcome)
    }
}

#[async_trait]
impl MailSource for Memory {
    async fn due(&self, _: bool, now: Timestamp) -> Result<DueMails, SourceError> {
        let pending = self.pending.lock().unwrap();
        Ok(DueMails { mails: pending.iter().filter(|mail| mail.due_at <= now).cloned().collect(), more: false })
    }

    async fn put_off(&self, mail: MailId, tries: Tries, due_at: Timestamp) -> Result<(), SourceError> {
        for found in self.pending.lock().unwrap().iter_mut().filter(|found| found.mail_id == mail) {
            found.tries = tries;
            found.due_at = due_at;
        }
        Ok(())
    }

    async fn address_of(&self, _: TenantId, person: PersonId) -> Result<Option<Recipient>, SourceError> {
        Ok(self.people.lock().unwrap().get(&person).cloned())
    }

    async fn secret(&self, _: MailId) -> Result<Option<String>, SourceError> {
        Ok(Some("271828".to_owned()))
    }

    async fn tenant(&self, _: TenantId) -> Result<TenantCard, SourceError> {
        let standing = Standing { created_at: Timestamp(0), verified: false };
        Ok(TenantCard { name: "Bäckerei <Müller> 🥐".to_owned(), standing })
    }

    async fn record(&self, mail: MailId, outcome: Outcome) -> Result<(), SourceError> {
        if self.broken.swap(false, Ordering::Relaxed) {
            return Err("the log is away".into());
        }
        self.pending.lock().unwrap().retain(|pending| pending.mail_id != mail);
        self.outcomes.lock().unwrap().push((mail, outcome));
        Ok(())
    }
}

/// A clock on which waiting takes no time, and always too long: five seconds become five minutes.
#[derive(Default)]
pub struct Rushing(AtomicI64);

#[async_trait]
impl Clock for Rushing {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    async fn sleep_ms(&self, milliseconds: i64) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        self.0.fetch_add(milliseconds * 60, Ordering::Relaxed);
    }
}

pub struct Running {
    pub source: Arc<Memory>,
    pub outbox: Arc<Outbox>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub fn config(url: &str, spool: &Path) -> MailConfig {
    MailConfig::new(url, spool, "Parlance <chat@parlance.example>", "https://chat.example/").unwrap()
}

pub fn deliver(config: &MailConfig, source: Arc<Memory>, clock: Arc<dyn Clock>) -> Running {
    let mailer = Mailer::new(config).unwrap();
    let outbox = Arc::new(Outbox::new(mailer, config, source.clone(), clock));
    let stop = CancellationToken::new();
    let (running, token) = (outbox.clone(), stop.clone());
    let task = tokio::spawn(async move { running.run(token).await });
    Running { source, outbox, stop, task }
}

impl Running {
    pub fn to(port: u16) -> Self {
        let config = config(&format!("smtp://127.0.0.1:{port}?tls=off"), Path::new("unused"));
        deliver(&config, now(), Arc::new(SystemClock))
    }

    pub async fn send(&self, kind: MailKind, name: Option<&str>, email: &str) -> Outcome {
        let mail = self.source.request(kind, name, email);
        self.outbox.wake();
        self.outcome(mail).await
    }

    pub async fn outcome(&self, mail: MailId) -> Outcome {
        eventually("an outcome", || self.source.outcome(mail).is_some()).await;
        self.source.outcome(mail).unwrap()
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// An outbox whose mails are requested now.
pub fn now() -> Arc<Memory> {
    Arc::new(Memory { requested_at: Timestamp::now(), ..Memory::default() })
}

pub const SENT: Outcome = Outcome::Sent { attempts: 1 };

pub fn failed(attempts: u32, reason: FailureReason) -> Outcome {
    Outcome::Failed { attempts, reason }
}

#[tokio::test]
async fn the_spool_holds_one_file_a_mail_however_often_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("spool", &dir.path().join("spool"));
    let running = deliver(&config, now(), Arc::new(SystemClock));
    let mail = running.source.request(MailKind::Welcome, Some("Zoë"), "zoe@example.com");
    running.outbox.wake();
    assert_eq!(running.outcome(mail).await, SENT);
    let path = running.outbox.mailer().spool().unwrap().path(mail);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("To: =?utf-8?b?") && text.contains("<zoe@example.com>"), "{text}");
    assert!(text.contains(&format!("Message-ID: <{mail}@parlance.example>")), "{text}");
    assert!(text.contains("Auto-Submitted: auto-generated"), "{text}");

    // A crash between the file and the outcome: another process sends it again.
    let words = Words { subject: "s".into(), text: "t".into(), html: "h".into() };
    let to = Recipient { name: None, email: "zoe@example.com".into(), proven: false };
    let again = Mail { id: mail, to, words, date: Timestamp(0) };
    let mailer = Mailer::new(&config).unwrap();
    mailer.send(&again, &SendProgress::default()).await.unwrap();
    let first = std::fs::read(&path).unwrap();
    mailer.send(&again, &SendProgress::default()).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first, "a repeat has the same bytes");
    assert_eq!(std::fs::read_dir(dir.path().join("spool")).unwrap().count(), 1);
    mailer.spool().unwrap().remove(mail).unwrap();
    mailer.spool().unwrap().remove(mail).unwrap();
    assert!(!path.exists());
    running.stop().await;
}

#[tokio::test]
async fn a_server_takes_both_mails_and_reads_what_was_written() {
    let server = MailServer::start();
    let running = Running::to(server.port);
    assert_eq!(running.send(MailKind::Welcome, Some("Zoë Ünal, 2nd"), "zoe@example.com").await, SENT);
    assert_eq!(running.send(MailKind::NewConversation, None, "ada@example.com").await, SENT);
    running.stop().await;

    let [welcome, new] = server.taken().try_into().unwrap();
    assert_eq!(welcome.rcpt_tos, ["zoe@example.com"]);
    assert_eq!(welcome.mail_from, "chat@parlance.example");
    assert_eq!(welcome.header("Subject"), "Bäckerei Müller 🥐: we have your message (calm-otter-7)");
    assert_eq!(welcome.header("To"), "\"Zoë Ünal, 2nd\" <zoe@example.com>");
    assert_eq!(welcome.header("From"), "Parlance <chat@parlance.example>");
    assert_eq!(welcome.header("Auto-Submitted"), "auto-generated");
    assert_eq!(welcome.header("Date"), new.header("Date"), "when they were requested");
    assert!(welcome.text.starts_with("Thank you for writing to Bäckerei Müller 🥐."), "{}", welcome.text);
    assert!(welcome.html.contains("Bäckerei Müller 🥐"), "{}", welcome.html);
    let link = format!("https://chat.example/inbox?conversation={}", ConversationId::derived(&[b"c1"]));
    assert!(new.text.contains(&link) && new.html.contains(&link), "{}", new.text);
    assert_ne!(welcome.header("Message-ID"), new.header("Message-ID"));
}

/// An international domain needs nothing of the server; a name before the `@` that is beyond ASCII does.
#[tokio::test]
async fn international_domains_are_written_as_dns_has_them() {
    let server = MailServer::start();
    let running = Running::to(server.port);
    assert_eq!(running.send(MailKind::Welcome, Some("Zoë"), "zoe@müller.example").await, SENT);
    assert_eq!(running.send(MailKind::Welcome, None, "用户@例子.测试").await, SENT);
    running.stop().await;
    let [plain, international] = server.taken().try_into().unwrap();
    assert_eq!(plain.rcpt_tos, ["zoe@xn--mller-kva.example"]);
    assert_eq!(plain.header("To"), "Zoë <zoe@xn--mller-kva.example>");
    assert_eq!(international.rcpt_tos, ["用户@xn--fsqu00a.xn--0zwm56d"]);
}

#[tokio::test]
async fn a_refused_recipient_is_a_failure_for_good_and_others_go_on() {
    let server = MailServer::start();
    let running = Running::to(server.port);
    assert_eq!(running.send(MailKind::Welcome, None, "refuse@example.com").await, failed(1, FailureReason::Refused));
    assert_eq!(running.send(MailKind::Welcome, None, "not an address").await, failed(1, FailureReason::Refused));
    assert_eq!(running.send(MailKind::Welcome, None, "").await, failed(0, FailureReason::NoAddress));
    assert_eq!(running.send(MailKind::Welcome, None, "fine@example.com").await, SENT);
    assert!(running.outbox.status().borrow().reachable);
    running.stop().await;
    assert_eq!(server.taken().len(), 1);
}

#[tokio::test]
async fn a_greylisted_mail_and_a_dropped_connection_are_retried_once() {
    let server = MailServer::start();
    let running = Running::to(server.port);
    assert_eq!(running.send(MailKind::Welcome, None, "later@example.com").await, Outcome::Sent { attempts: 2 });
    assert_eq!(running.send(MailKind::Welcome, None, "drop@example.com").await, Outcome::Sent { attempts: 2 });
    running.stop().await;
    assert_eq!(server.taken().len(), 2);
}

#[tokio::test]
async fn mails_wait_for_a_server_that_is_away_and_none_is_lost_or_doubled() {
    let port = closed_port();
    let running = Running::to(port);
    let mails: Vec<_> =
        (0..20).map(|n| running.source.request(MailKind::Welcome, None, &format!("visitor{n}@example.com"))).collect();
    running.outbox.wake();
    let mut status = running.outbox.status();
    let away = status.wait_for(|status| !status.reachable).await.unwrap().clone();
    assert_eq!(away.pending, 20);
    let error = away.last_error.unwrap();
    assert!(error.contains("connection") && !error.contains('@'), "{error}");

    let server = MailServer::start_at(port, &[]);
    let back = status.wait_for(|status| status.reachable && status.pending == 0).await.unwrap().clone();
    assert_eq!(back.last_error, None);
    for mail in mails {
        assert!(matches!(running.source.outcome(mail), Some(Outcome::Sent { .. })));
    }
    running.stop().await;
    let mut recipients: Vec<_> = server.taken().into_iter().flat_map(|mail| mail.rcpt_tos).collect();
    recipients.sort();
    recipients.dedup();
    assert_eq!((recipients.len(), server.taken().len()), (20, 20));
}

/// The mail is out, its outcome isn't in the log: only the outcome is tried again.
#[tokio::test]
async fn an_outcome_that_cant_be_recorded_sends_nothing_twice() {
    let server = MailServer::start();
    let config = config(&format!("smtp://127.0.0.1:{}?tls=off", server.port), Path::new("unused"));
    let running = deliver(&config, Arc::default(), Arc::new(Rushing::default()));
    running.source.broken.store(true, Ordering::Relaxed);
    assert_eq!(running.send(MailKind::Welcome, None, "zoe@example.com").await, SENT);
    running.stop().await;
    assert_eq!(server.taken().len(), 1);
}

#[tokio::test]
async fn after_a_day_without_a_server_a_mail_is_given_up() {
    let config = config(&format!("smtp://127.0.0.1:{}?tls=off", closed_port()), Path::new("unused"));
    let clock = Arc::new(Rushing::default());
    let running = deliver(&config, Arc::default(), clock.clone());
    let outcome = running.send(MailKind::Welcome, None, "zoe@example.com").await;
    let Outcome::Failed { attempts, reason: FailureReason::GaveUp } = outcome else { panic!("{outcome:?}") };
    assert!(attempts > 50, "{attempts}");
    assert!(clock.now().0 >= MailKind::Welcome.valid_ms());
    running.stop().await;
}

/// What a visitor types as a name stays a name.
#[tokio::test]
async fn a_name_or_an_address_cant_add_a_header_or_a_recipient() {
    let server = MailServer::start();
    let running = Running::to(server.port);
    let name = "Eve\r\nBcc: victim@example.com\r\n\r\nbody";
    assert_eq!(running.send(MailKind::Welcome, Some(name), "eve@example.com").await, SENT);
    for email in ["eve@example.com\r\nRCPT TO:<victim@example.com>", "eve@example.com, victim@example.com", "<eve>@x y"]
    {
        assert_eq!(running.send(MailKind::Welcome, None, email).await, failed(1, FailureReason::Refused), "{email:?}");
    }
    running.stop().await;
    let [mail] = server.taken().try_into().unwrap();
    assert_eq!(mail.rcpt_tos, ["eve@example.com"]);
    assert!(mail.headers.iter().all(|(header, _)| !header.eq_ignore_ascii_case("bcc")), "{:?}", mail.headers);
    assert!(
        mail.header("To").ends_with("<eve@example.com>") && mail.text.starts_with("Thank you"),
        "{:?}",
        mail.headers
    );
}

/// A wrong password says nothing about the mail: it waits. Without TLS no password leaves unless that was asked for.
#[tokio::test]
async fn a_sign_in_that_fails_refuses_no_mail_and_a_password_needs_tls() {
    let server = MailServer::start_at(0, &["me", "p:w"]);
    let send = async |credentials: &str, query: &str| {
        let config = config(&format!("smtp://{credentials}@127.0.0.1:{}{query}", server.port), Path::new("unused"));
        let words = Words { subject: "s".into(), text: "t".into(), html: "h".into() };
        let to = Recipient { name: None, email: "zoe@example.com".into(), proven: false };
        let mailer = Mailer::new(&config).unwrap();
        let mail = Mail { id: MailId::fresh(), to, words, date: Timestamp(0) };
        let result = mailer.send(&mail, &SendProgress::default()).await;
        mailer.close().await;
        result
    };
    let wrong = send("me:wrong", "?tls=off").await.unwrap_err();
    assert_eq!(wrong, SendError::Unreachable { reason: "the server answered 535".into() });
    let no_tls = send("me:p:w", "").await.unwrap_err();
    assert!(matches!(&no_tls, SendError::Unreachable { reason } if reason.contains("TLS")), "{no_tls}");
    send("me:p%3Aw", "?tls=off").await.unwrap();
    let [mail] = server.taken().try_into().unwrap();
    assert!(mail.signed_in);
}

/// Stopping waits for what is under way, and starts nothing new.
#[tokio::test]
async fn a_stop_finishes_what_is_under_way() {
    let server = MailServer::start();
    let running = Running::to(server.port);
    let mails: Vec<_> =
        (0..50).map(|n| running.source.request(MailKind::Welcome, None, &format!("v{n}@example.com"))).collect();
    running.outbox.wake();
    eventually("a first mail", || !running.source.outcomes.lock().unwrap().is_empty()).await;
    let source = running.source.clone();
    running.stop().await;
    let recorded = mails.iter().filter(|mail| source.outcome(**mail) == Some(SENT)).count();
    assert_eq!(server.taken().len(), recorded, "what was sent is recorded");
    assert!(recorded >= 1 && CONCURRENCY < mails.len());
}

/// Somebody makes the server write to one address again and again: the first mails go out, the others wait their turn,
/// and nobody else waits for them.
#[tokio::test]
async fn an_address_that_gets_many_mails_gets_them_in_time() {
    let spool = tempfile::tempdir().unwrap();
    let rate = MailRate { burst: 2, every_ms: 1_500 };
    let config = config("spool", spool.path()).with_rates(Some(rate), None);
    let source = now();
    let flood: Vec<_> = (0..4).map(|_| source.request(MailKind::Welcome, None, "Zoe@mail.example")).collect();
    let other = source.request(MailKind::Welcome, None, "ada@mail.example");
    let running = deliver(&config, source, Arc::new(SystemClock));
    let started = std::time::Instant::now();
    let sent = |running: &Running| flood.iter().filter(|mail| running.source.outcome(**mail).is_some()).count();
    running.outcome(other).await;
    eventually("two mails", || sent(&running) == 2).await;
    assert!(started.elapsed().as_millis() < 1_500, "the burst doesn't wait");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(sent(&running), 2);
    eventually("all mails", || sent(&running) == 4).await;
    assert!(started.elapsed().as_millis() >= 3_000, "one every 1.5 s");
}
