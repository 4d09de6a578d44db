//! `demo`: the first command of the README. Its page may run its script, its people talk, and Ctrl-C ends it cleanly.

mod support;

use reqwest::Method;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::{caller, http_client, parlance};

/// Killed when a check fails.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn the_demo_shows_live_traffic_and_stops_on_ctrl_c() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut demo = Demo(
        parlance()
            .args(["demo", "--listen", "127.0.0.1:0", "--speed", "40", "--data-dir"])
            .arg(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs"),
    );
    let mut lines = BufReader::new(demo.0.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("open http://")).expect("the demo says where it is");
    let start = line.find("http://").expect("an address");
    let base = line[start..].split('/').take(3).collect::<Vec<_>>().join("/");
    let http = http_client(30);

    for (path, kind) in [("/", "text/html"), ("/demo/demo.js", "text/javascript"), ("/demo/demo.css", "text/css")] {
        let page = http.get(format!("{base}{path}")).send().await.expect("an answer");
        let header = |name: &str| page.headers()[name].to_str().expect("text").to_owned();
        assert!(header("content-type").starts_with(kind), "{path}");
        // Without these words a browser shows the page bare and dead.
        let policy = header("content-security-policy");
        for word in ["script-src 'self'", "style-src 'self'", "connect-src 'self'", "default-src 'none'"] {
            assert!(policy.contains(word), "{path}: {policy}");
        }
    }

    let (_, facts) =
        caller(&http, &base, Method::GET, "/demo/tenants.json", "", None).await.expect("the demo's tenants");
    let tenants = facts["tenants"].as_array().expect("a list");
    assert_eq!(tenants.len(), 3);
    for tenant in tenants {
        let token = tenant["reportToken"].as_str().expect("a token");
        let mut row = Value::Null;
        for _ in 0..300 {
            let path = "/v0/pipes/usage.json?granularity=total&date_from=2000-01-01&date_to=2100-01-01";
            let (_, answer) = caller(&http, &base, Method::GET, path, token, None).await.expect("an answer");
            row = answer["data"][0].clone();
            if row["resolved"].as_u64() > Some(0) && row["messages_agent"].as_u64() > Some(0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(row["resolved"].as_u64() > Some(0), "people talk, and conversations end: {row}");
    }

    let interrupt = Command::new("kill").arg("-INT").arg(demo.0.id().to_string()).status();
    assert!(interrupt.expect("kill runs").success(), "the demo had ended before");
    assert!(demo.0.wait().expect("reaped").success(), "Ctrl-C ends it cleanly");
}
