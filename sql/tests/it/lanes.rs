//! Which threads run a query: those of short ones, or those of long ones in the system's idle class. Linux tells by thread.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::time::Duration;

use crate::support::{Facts, caller};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sql::{Limits, QueryError, Reports};

/// Three of its rows joined are more than any limit lets through.
const ENDLESS: &str = "SELECT count(*) AS n FROM messages a, messages b, messages c WHERE a.seq * b.seq * c.seq > 7";

/// A tenth of a second's work.
const PAIRS: &str = "SELECT count(*) AS n FROM messages a, messages b WHERE a.seq * b.seq > 7";
/// More than a thread needs to start or to wake, less than any query to be planned and to begin.
const BRIEF: Duration = Duration::from_micros(1_500);

/// A thread of this process as `/proc` shows it.
struct Thread {
    name: String,
    nice: i64,
    policy: i64,
    ran: Duration,
}

fn threads() -> Vec<Thread> {
    let read = |task: &Path| {
        let stat = std::fs::read_to_string(task.join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        // Fields are counted from 1, and the third follows the name.
        let field = |number: usize| rest.split_whitespace().nth(number - 3)?.parse::<i64>().ok();
        let schedstat = std::fs::read_to_string(task.join("schedstat")).ok()?;
        let ran = Duration::from_nanos(schedstat.split_whitespace().next()?.parse().ok()?);
        Some(Thread { name: name.to_owned(), nice: field(19)?, policy: field(41)?, ran })
    };
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    tasks.filter_map(|task| read(&task.ok()?.path())).collect()
}

/// How long the threads of that name have had a core.
fn ran(name: &str) -> Duration {
    threads().iter().filter(|t| t.name == name).map(|t| t.ran).sum()
}

fn reports(limits: Limits) -> Reports {
    let lines: Vec<Value> = (0..3_000).map(|i| json!({"event_id": format!("e{i}"), "seq": i})).collect();
    Facts::default().add("acme", "messages", &lines).add("globex", "messages", &lines).reports_with(limits)
}

/// The writer and the sockets go first, and short reports before long ones.
#[tokio::test]
async fn long_reports_run_in_the_idle_class() {
    const SCHED_OTHER: i64 = 0;
    const SCHED_IDLE: i64 = 5;
    let reports = reports(Limits { time: Duration::from_secs(3), ..Limits::default() });
    reports.query(&caller("acme"), "SELECT count(*) FROM messages").await.expect("runs");
    let threads = threads();
    let of = |name: &str| threads.iter().filter(|t| t.name == name).map(|t| (t.policy, t.nice)).collect::<Vec<_>>();
    assert!(!of("reports").is_empty() && of("reports").iter().all(|t| *t == (SCHED_OTHER, 19)), "{:?}", of("reports"));
    assert!(!of("long-reports").is_empty());
    assert!(of("long-reports").iter().all(|(policy, _)| *policy == SCHED_IDLE), "{:?}", of("long-reports"));
    let before = ran("long-reports");
    assert!(before < BRIEF, "they have only started: {before:?}");

    let stopped = reports.query(&caller("acme"), ENDLESS).await;
    assert!(matches!(stopped, Err(QueryError::TimedOut { .. })), "{stopped:?}");
    assert!(ran("long-reports") > before + BRIEF);
}

/// A tenant whose queries run for long has used its allowance before they end; another tenant has its own.
#[tokio::test]
async fn a_query_beside_long_ones_of_its_tenant_starts_among_them() {
    let reports = reports(Limits { running_per_tenant: 8, time: Duration::from_secs(60), ..Limits::default() });
    let caller_acme = caller("acme");
    let endless = join_all((0..5).map(|_| reports.query(&caller_acme, ENDLESS)));
    let asked = async {
        loop {
            let before = ran("reports");
            tokio::time::sleep(Duration::from_millis(300)).await;
            if ran("long-reports") > BRIEF && ran("reports") < before + BRIEF {
                break;
            }
        }
        let mut used = Vec::new();
        for tenant in ["acme", "globex"] {
            let (before, caller) = (ran("reports"), caller(tenant));
            // Where others keep the cores busy, neither is done soon.
            let asked = tokio::time::timeout(Duration::from_secs(2), reports.query(&caller, PAIRS)).await;
            drop(asked);
            used.push(ran("reports") - before);
        }
        used
    };
    let used = tokio::select! {
        ended = endless => panic!("{ended:?}"),
        used = asked => used,
    };
    assert!(used[0] < BRIEF && used[1] > BRIEF, "{used:?}");
}
