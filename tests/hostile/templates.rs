//! Texts that a tenant publishes as endpoints, and values that callers send to them: none loops, overflows a stack or takes
//! memory or turns from others, to be published, listed, described or called.

use crate::siege::{self, Siege};
use crate::support::http_client;
use futures_util::future::join_all;
use std::time::{Duration, Instant};

/// Whatever is sent, it's answered or refused within this, beside all the rest.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Calls at once: more than may run, fewer than may wait.
const AT_ONCE: usize = 8;

struct Attacker<'a> {
    siege: &'a Siege,
    http: reqwest::Client,
}

impl Attacker<'_> {
    async fn post(&self, path: &str, kind: &str, body: String) -> (u16, String) {
        let started = Instant::now();
        let request = self.http.post(format!("{}{path}", self.siege.server.base)).header("content-type", kind);
        let answer = request.bearer_auth(&self.siege.attacker.token).body(body).send().await.expect("it answers");
        let answer = (answer.status().as_u16(), answer.text().await.expect("a text"));
        assert!(started.elapsed() < ANSWER_MAX, "{path} took {:?}", started.elapsed());
        answer
    }

    /// Publishes a template as an endpoint of one node.
    async fn publish(&self, name: &str, template: &str) -> (u16, String) {
        self.post(&format!("/v0/pipes?name={name}"), "text/plain", datafile(template)).await
    }

    async fn published(&self, name: &str, template: &str) {
        let (status, answer) = self.publish(name, template).await;
        assert_eq!(status, 200, "{name}: {answer}");
    }

    /// Calls an endpoint with a parameter `x` that costs more than there is, several times at once: it's refused with that word,
    /// or after its time where the machine has none for it.
    async fn call_is_refused(&self, name: &str, x: &str, word: &str) {
        let answers = join_all((0..AT_ONCE).map(|_| self.call(name, x))).await;
        for (status, answer) in &answers {
            assert!(*status == 408 || (*status == 400 && answer.contains(word)), "{name}: {status} {answer}");
            assert!(answer.len() < 2_000, "{name}: an error of {} bytes", answer.len());
        }
        assert!(answers.iter().any(|(status, _)| *status == 400), "{name}: {answers:?}");
    }

    /// Calls an endpoint of the attacker's with a parameter `x`.
    async fn call(&self, name: &str, x: &str) -> (u16, String) {
        let path = format!("/v0/pipes/{name}.json?token={}", self.siege.attacker.report_token);
        self.post_as_reader(&path, serde_json::json!({ "x": x }).to_string()).await
    }

    async fn post_as_reader(&self, path: &str, body: String) -> (u16, String) {
        let started = Instant::now();
        let request = self.http.post(format!("{}{path}", self.siege.server.base)).body(body);
        let answer = request.send().await.expect("it answers");
        let answer = (answer.status().as_u16(), answer.text().await.expect("a text"));
        assert!(started.elapsed() < ANSWER_MAX, "{path} took {:?}", started.elapsed());
        answer
    }
}

fn datafile(template: &str) -> String {
    format!("NODE n\nSQL >\n    %\n    {template}\n")
}

/// One request with any of these stopped the server, filled its memory or held up everyone.
#[tokio::test]
async fn no_template_stops_the_server() {
    siege::at_default_limits_and_with_rates_off(&[], async |siege| {
        let attacker = Attacker { siege, http: http_client(60) };
        what_can_not_be_published(&attacker).await;
        many_nodes_with_a_long_name(&attacker).await;
        what_can_be_published(&attacker).await;
        many_large_ones(&attacker).await;
    })
    .await;
}

async fn what_can_not_be_published(attacker: &Attacker<'_>) {
    let doubled = format!("{{% set a = 'a' %}}{}SELECT {{{{a}}}} AS a", "{% set a = a + a %}".repeat(26));
    let sum = format!("SELECT {{{{1{}}}}} AS n", "+1".repeat(31_000));
    let deep = format!("SELECT {{{{{}1{}}}}} AS n", "(".repeat(5_000), ")".repeat(5_000));
    for (template, word) in [
        // It ends in a backslash inside a string.
        ("SELECT {{ 'abc\\", "not closed"),
        ("SELECT {% if 'abc\\", "not closed"),
        ("SELECT {{ \"é\\", "not closed"),
        (&*doubled, "bytes of values"),
        (&*sum, "tags and tokens"),
        (&*deep, "too deep"),
    ] {
        let sql = serde_json::json!({ "name": "bad", "sql": format!("%\n{template}") }).to_string();
        let nodes = serde_json::json!({ "name": "bad", "nodes": [{ "name": "n", "sql": format!("%\n{template}") }] });
        let path = "/v0/pipes";
        for (status, answer) in [
            attacker.publish("bad", template).await,
            attacker.post(path, "application/json", sql).await,
            attacker.post(path, "application/json", nodes.to_string()).await,
        ] {
            assert_eq!(status, 400, "{answer}");
            assert!(answer.contains(word) && answer.len() < 2_000, "{answer}");
        }
    }
}

/// Nodes without a name are named after the pipe: that would be hundreds of megabytes.
async fn many_nodes_with_a_long_name(attacker: &Attacker<'_>) {
    for (name, nodes, word) in [("x".repeat(60_000), 20, "is not a name"), ("many".to_owned(), 5_000, "nodes")] {
        let nodes = vec![serde_json::json!({ "sql": "" }); nodes];
        let pipe = serde_json::json!({ "name": name, "nodes": nodes }).to_string();
        let (status, answer) = attacker.post("/v0/pipes", "application/json", pipe).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains(word) && answer.len() < 2_000, "{answer}");
    }
}

/// Only with the values of a call do they take more than there is.
async fn what_can_be_published(attacker: &Attacker<'_>) {
    let list = "a,".repeat(100_000);
    let nested =
        "{% set l = split_to_array(String(x, '')) %}{% for a in l %}{% for b in l %}{% end %}{% end %}SELECT 1 AS n";
    let joined = "SELECT length({{String(x, '').join(split_to_array(x))}}) AS n";
    let searched =
        "{% set l = split_to_array(String(x, '')) %}{% for a in l %}{% if 'z' in l %}{% end %}{% end %}SELECT 1 AS n";
    let json = "SELECT {{len(JSON(String(x, '[]')))}} AS n";
    let objects = format!("[{}{{}}]", "{\"a\":{}},".repeat(22_000));
    for (name, template, x, word) in [
        ("nested", nested, &list, "steps"),
        ("joined", joined, &list, "bytes of values"),
        ("searched", searched, &list, "steps"),
        ("listed", "SELECT 1 AS n WHERE 'a' IN {{Array(x, 'String', 'a')}}", &list, "bytes of "),
        ("objects", json, &objects, "bytes of values"),
    ] {
        attacker.published(name, template).await;
        attacker.call_is_refused(name, x, word).await;
        let (status, answer) = attacker.call(name, "[1]").await;
        assert_eq!(status, 200, "{name} is of use: {answer}");
    }
    // A message as large as there is room for, which is more than the answer has.
    attacker.published("repeated", "{% if defined(x) %}{{error(x + x)}}{% end %}SELECT 1 AS n").await;
    attacker.call_is_refused("repeated", &list, "a,a,a,").await;
}

/// A list reads every one of them.
async fn many_large_ones(attacker: &Attacker<'_>) {
    const COUNT: usize = 30;
    let template = format!("{}SELECT 1 AS n", "{% if defined(a) %}{% end %}".repeat(2_200));
    for n in 0..COUNT {
        attacker.published(&format!("large_{n}"), &template).await;
    }
    let path = format!("{}/v0/pipes?token={}", attacker.siege.server.base, attacker.siege.attacker.report_token);
    let lists = join_all((0..AT_ONCE).map(|_| async {
        let answer = attacker.http.get(&path).send().await.expect("it answers");
        answer.json::<serde_json::Value>().await.expect("JSON")
    }));
    for list in lists.await {
        let names = list["pipes"].as_array().expect("endpoints").iter().map(|pipe| pipe["name"].clone());
        assert_eq!(names.filter(|name| name.as_str().is_some_and(|name| name.starts_with("large_"))).count(), COUNT);
    }
}
