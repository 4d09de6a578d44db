//! SIGTERM ends the process soon, whatever its threads are at, and what was acknowledged is there afterwards.

use crate::support::{Server, http_client};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};

/// From the signal to the end of the process.
const END_MAX: Duration = Duration::from_secs(5);

/// More rows than any limit lets a query come through; without the signal it runs for ten seconds.
const ENDLESS: &str = "SELECT count(*) AS n FROM numbers a, numbers b, numbers c WHERE a.n * b.n * c.n > 7";

/// How long the threads of that name have had a core.
fn ran(pid: u32, name: &str) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let one = |task: std::io::Result<std::fs::DirEntry>| {
        let task = task.ok()?.path();
        let stat = std::fs::read_to_string(task.join("stat")).ok()?;
        stat.contains(&format!("({name})")).then_some(())?;
        let times = std::fs::read_to_string(task.join("schedstat")).ok()?;
        times.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    tasks.filter_map(one).sum()
}

#[tokio::test]
async fn a_signal_ends_the_process_while_its_threads_are_busy() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &["--limit", "all=off"]);
    let tenant = server.tenant("Busy").await;
    let rows: Vec<String> = (0..3_000).map(|n| format!("{{\"n\":{n}}}")).collect();
    let url = format!("{}/v0/events?name=numbers&wait=true", server.base);
    let sent = http_client(60).post(url).bearer_auth(&tenant.token).body(rows.join("\n")).send().await;
    assert_eq!(sent.expect("an answer").status(), 200);

    let ask = |sql: &'static str| {
        let request = http_client(60).post(format!("{}/v0/sql", server.base)).bearer_auth(&tenant.report_token);
        request.body(sql).send()
    };
    let endless = tokio::spawn(join_all((0..2).map(|_| ask(ENDLESS))));
    let pid = server.pid();
    // They start in the quick lane, and begin anew here after half a second; a busy machine has little time for it.
    let before = ran(pid, "long-reports");
    while ran(pid, "long-reports") < before + Duration::from_millis(5) {
        assert!(!endless.is_finished(), "they ended by themselves");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Written until the server doesn't take more.
    let writer = {
        let (base, key) = (server.base.clone(), tenant.chatbot_key.clone());
        tokio::spawn(async move {
            let http = http_client(60);
            let mut acknowledged = Vec::new();
            loop {
                let body = json!({ "initialMessage": "Hello?" });
                let request = http.post(format!("{base}/v1/widget/session")).header("x-chatbot-key", &key).json(&body);
                let Ok(answer) = request.send().await else { return acknowledged };
                if answer.status() != 201 {
                    return acknowledged;
                }
                let Ok(session) = answer.json::<serde_json::Value>().await else { return acknowledged };
                acknowledged.push(session["conversationId"].as_str().expect("an id").to_owned());
            }
        })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let signalled = Instant::now();
    tokio::task::spawn_blocking(move || server.stop()).await.expect("it stops cleanly");
    let took = signalled.elapsed();
    assert!(took < END_MAX, "it took {took:?}");
    println!("the process ended {took:?} after the signal");

    let answers = endless.await.expect("no panic");
    assert!(answers.iter().all(|answer| answer.as_ref().map_or(true, |answer| answer.status() == 503)), "{answers:?}");
    let acknowledged = writer.await.expect("no panic");
    assert!(!acknowledged.is_empty());
    let server = Server::start(dir.path(), &["--limit", "all=off"]);
    for conversation in acknowledged {
        let path = format!("/v1/conversations/{conversation}");
        let (status, answer) = server.call(Method::GET, &path, &tenant.token, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
}
