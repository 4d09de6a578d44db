//! Mail against servers that do wrong at every step, floods, and recipients that hang: others' mails go on, nothing is
//! sent again and again, and memory and time are bounded.

use crate::hostile_mail_server::{HostileServer, Step, Wrong};
use crate::mail::{Running, Rushing, SENT, config, deliver, now};
use crate::mail_server::eventually;
use ingest::id::MailId;
use ingest::payload::MailKind;
use ingest::time::Timestamp;
use sinks::smtp::outbox::{STOP_MAX, UNKNOWN_MAX};
use sinks::smtp::{
    Clock, FailureReason, Mail, MailRate, Mailer, Outcome, Recipient, SendError, SendProgress, SendStage, SystemClock,
    Words,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn url(server: &HostileServer) -> String {
    format!("smtp://{}?tls=off", server.address)
}

fn to(server: &HostileServer) -> Running {
    deliver(&config(&url(server), Path::new("unused")), now(), Arc::new(SystemClock))
}

/// What one try comes to; `None` when it takes longer than three seconds.
async fn one_try(server: &HostileServer) -> Option<(Result<(), SendError>, SendStage)> {
    let mailer = Mailer::new(&config(&url(server), Path::new("unused"))).unwrap();
    let words = Words { subject: "s".into(), text: "t".into(), html: "h".into() };
    let to = Recipient { name: None, email: "bad@mail.example".into(), proven: false };
    let mail = Mail { id: MailId::fresh(), to, words, date: Timestamp(0) };
    let progress = SendProgress::default();
    let answer = tokio::time::timeout(Duration::from_secs(3), mailer.send(&mail, &progress)).await;
    answer.ok().map(|answer| (answer, progress.stage()))
}

/// Every wrong at every step: what it means for the mail and for the others.
#[tokio::test]
async fn every_wrong_at_every_step_is_understood() {
    for step in Step::ALL {
        for wrong in Wrong::ALL {
            let server = HostileServer::start(Some((step, wrong))).await;
            let tried = one_try(&server).await;
            let kind = match tried {
                None => "waits",
                Some((Ok(()), _)) => "sent",
                Some((Err(SendError::Refused { .. }), _)) => "refused",
                Some((Err(SendError::Retry { .. }), _)) => "retry",
                Some((Err(SendError::Unknown { .. }), _)) => "unknown",
                Some((Err(SendError::Unreachable { .. }), _)) => "unreachable",
            };
            let expected = match (step, wrong) {
                (_, Wrong::Hang) => "waits",
                (Step::Greeting | Step::Hello, _) => "unreachable",
                (Step::Sender, Wrong::Answer(421 | 550)) => "unreachable",
                (_, Wrong::Answer(550)) => "refused",
                (_, Wrong::Answer(_)) => "retry",
                // lettre reads a line that goes on as an answer of more lines; all of it is bounded.
                (Step::Content, _) => "unknown",
                (_, _) => "retry",
            };
            assert_eq!(kind, expected, "{step:?} {wrong:?}");
            assert!(server.said() < 8 << 20, "{step:?} {wrong:?}: {} bytes were read", server.said());
        }
    }
}

/// One mail that the server closes on, or says no to, at whatever step, stops no other.
#[tokio::test]
async fn a_mail_that_fails_stops_no_other() {
    for step in Step::ALL.into_iter().filter(|step| step.knows_recipient()) {
        for wrong in Wrong::ALL {
            let server = HostileServer::start(Some((step, wrong))).await;
            let running = to(&server);
            let bad = running.source.request(MailKind::Welcome, None, "bad@mail.example");
            tokio::time::sleep(Duration::from_millis(50)).await;
            let started = Instant::now();
            for number in 0..10 {
                let email = format!("visitor{number}@other.example");
                assert_eq!(running.send(MailKind::Welcome, None, &email).await, SENT, "{step:?} {wrong:?}");
            }
            assert!(started.elapsed() < Duration::from_secs(2), "{step:?} {wrong:?}: {:?}", started.elapsed());
            assert!(running.outbox.status().borrow().reachable, "{step:?} {wrong:?}");
            assert!(!matches!(running.source.outcome(bad), Some(Outcome::Sent { .. })));
            // The one under way isn't waited for.
            let stopping = Instant::now();
            running.stop().await;
            assert!(
                stopping.elapsed() < STOP_MAX + Duration::from_secs(3),
                "{step:?} {wrong:?}: {:?}",
                stopping.elapsed()
            );
        }
    }
}

/// A server that is away for all is probed with another mail each time: the one that it says no to doesn't keep it away.
#[tokio::test]
async fn a_server_that_closes_on_all_is_found_again() {
    let server = HostileServer::start(Some((Step::Sender, Wrong::Answer(421)))).await;
    let running = to(&server);
    let mails: Vec<_> =
        (0..5).map(|n| running.source.request(MailKind::Welcome, None, &format!("v{n}@mail.example"))).collect();
    running.outbox.wake();
    let mut status = running.outbox.status();
    status.wait_for(|status| !status.reachable).await.unwrap();
    server.mend();
    for mail in mails {
        assert!(matches!(running.outcome(mail).await, Outcome::Sent { .. }));
    }
    running.stop().await;
    assert_eq!(server.taken().len(), 5);
}

/// The server takes the content and hangs up: nobody knows what it did with it, so it gets it twice and no more.
#[tokio::test]
async fn a_mail_of_which_nobody_knows_is_sent_twice_at_most() {
    for wrong in [Wrong::HangUp, Wrong::EndlessLine] {
        let server = HostileServer::start(Some((Step::Content, wrong))).await;
        let config = config(&url(&server), Path::new("unused"));
        let running = deliver(&config, Arc::default(), Arc::new(Rushing::default()));
        let outcome = running.send(MailKind::Welcome, None, "bad@mail.example").await;
        assert_eq!(outcome, Outcome::Failed { attempts: UNKNOWN_MAX, reason: FailureReason::Unknown });
        running.stop().await;
        assert_eq!(server.contents(), 2);
    }
}

/// Recipients that hang, of one domain or of many, leave hands to all others; and theirs are tried again.
#[tokio::test]
async fn recipients_that_hang_leave_hands_to_others() {
    for domains in [1, 100] {
        let server = HostileServer::start(Some((Step::Recipient, Wrong::Hang))).await;
        let running = to(&server);
        for number in 0..100 {
            running.source.request(MailKind::Welcome, None, &format!("bad{number}@{}.example", number % domains));
        }
        running.outbox.wake();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut waits = Vec::new();
        for number in 0..50 {
            let started = Instant::now();
            let email = format!("visitor{number}@other.example");
            assert_eq!(running.send(MailKind::Otp, None, &email).await, SENT);
            waits.push(started.elapsed());
        }
        waits.sort();
        // With a hundred domains nothing is known of the next one: it has a hand for two seconds.
        assert!(waits[49] < Duration::from_secs(5), "{domains} domains: {waits:?}");
        running.stop().await;
    }
}

/// A flood to one address: what would come too late fails at once, by name, and others' mails and other kinds go out.
#[tokio::test]
async fn a_flood_to_an_address_fails_by_name() {
    let server = HostileServer::start(None).await;
    let rate = MailRate { burst: 20, every_ms: 180_000 };
    let config = config(&url(&server), Path::new("unused")).with_rates(Some(rate), None);
    let running = deliver(&config, now(), Arc::new(SystemClock));
    let flood: Vec<_> =
        (0..2_000).map(|_| running.source.request(MailKind::Otp, None, "victim@mail.example")).collect();
    running.outbox.wake();
    let started = Instant::now();
    assert_eq!(running.send(MailKind::PasswordReset, None, "victim@mail.example").await, SENT);
    assert_eq!(running.send(MailKind::Otp, None, "other@mail.example").await, SENT);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let count = |wanted: Option<Outcome>| flood.iter().filter(|mail| running.source.outcome(**mail) == wanted).count();
    // A code is good for ten minutes: the rate gives three in them.
    eventually("an end of the flood", || count(None) <= 3).await;
    let failed = Outcome::Failed { attempts: 0, reason: FailureReason::AddressLimit };
    assert_eq!((count(Some(SENT)), count(Some(failed)), count(None)), (20, 1_977, 3));
    running.stop().await;
}

/// A code that couldn't be sent while it was good isn't sent.
#[tokio::test]
async fn what_has_expired_is_not_sent() {
    let server = HostileServer::start(Some((Step::Sender, Wrong::Answer(451)))).await;
    let clock = Arc::new(Rushing::default());
    let running = deliver(&config(&url(&server), Path::new("unused")), Arc::default(), clock.clone());
    let outcome = running.send(MailKind::Otp, None, "zoe@mail.example").await;
    assert!(matches!(outcome, Outcome::Failed { reason: FailureReason::Expired, .. }), "{outcome:?}");
    assert!(clock.now().0 >= MailKind::Otp.valid_ms());
    server.mend();
    running.stop().await;
    assert!(server.taken().is_empty());
}
