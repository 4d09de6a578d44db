//! Long statements from many connections at once, by a token that reads one table. Whatever the server does with a statement before it
//! runs is done in its tenant's turn, so that the neighbour's queries find a free thread.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::json;

use crate::siege;
use crate::support::http_client;

/// How long the attacker keeps at it.
const FOR: Duration = Duration::from_secs(5);
/// Of each kind of request.
const CONNECTIONS: usize = 24;

/// Statements that take long to be read and planned, as long as they may be; the first of them name a table that the token
/// has no scope for, so that they are all read and none is run.
fn statements() -> Vec<String> {
    let sum = |table: &str| format!("SELECT seq{} FROM {table}", "+seq*2".repeat(490));
    let list = |table: &str| {
        let numbers: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
        format!("SELECT count(*) FROM {table} WHERE seq IN ({})", numbers.join(","))
    };
    let any = |table: &str| format!("SELECT 1 FROM {table} WHERE seq = 1{}", " OR seq = 7 AND seq > 2".repeat(240));
    let union = |table: &str| {
        let one = format!("SELECT seq FROM {table}");
        vec![one.as_str(); 99].join(" UNION ALL ")
    };
    ["conversations", "messages"]
        .into_iter()
        .flat_map(|table| [sum(table), list(table), any(table), union(table)])
        .collect()
}

async fn ask(http: &Client, url: String, token: &str, text: String) -> StatusCode {
    let request = http.post(url).bearer_auth(token).header("content-type", "text/plain").body(text);
    request.send().await.expect("the server answers").status()
}

#[tokio::test]
async fn reading_statements_takes_the_tenants_turn() {
    siege::at_default_limits_and_with_rates_off(&[], async |siege| {
        let (server, mallory) = (&siege.server, &siege.attacker);
        let scopes = json!([{ "type": "DATASOURCES:READ", "resource": "messages" }]);
        let made = server.post("/v0/tokens/", &mallory.token, json!({ "name": "narrow", "scopes": scopes })).await;
        let narrow = made["token"].as_str().expect("a token").to_owned();
        let (base, owner, until) = (server.base.clone(), mallory.token.clone(), Instant::now() + FOR);
        let mut connections = tokio::task::JoinSet::new();
        for n in 0..CONNECTIONS {
            let (base, narrow, owner, http) = (base.clone(), narrow.clone(), owner.clone(), http_client(60));
            connections.spawn(async move {
                let (mut asked, statements) = (0, statements());
                while Instant::now() < until {
                    let text = statements[(n + asked) % statements.len()].clone();
                    let condition = text.trim_start_matches("SELECT ").split(" FROM").next().unwrap_or_default();
                    let scopes = json!([{ "type": "DATASOURCES:READ", "resource": "messages", "filter": condition }]);
                    let filter = json!({ "name": "filtered", "scopes": scopes });
                    let datafile = format!("NODE n\nSQL >\n    {text}\n\nTYPE endpoint\n");
                    let status = match n % 3 {
                        0 => ask(&http, format!("{base}/v0/sql"), &narrow, text).await,
                        1 => {
                            let request = http.post(format!("{base}/v0/tokens/")).bearer_auth(&owner).json(&filter);
                            request.send().await.expect("the server answers").status()
                        }
                        _ => ask(&http, format!("{base}/v0/pipes?name=p{n}"), &owner, datafile).await,
                    };
                    assert!(status != 500 && status != 502, "{status}");
                    asked += 1;
                }
                asked
            });
        }
        let asked: usize = connections.join_all().await.into_iter().sum();
        assert!(asked > CONNECTIONS, "the attacker was heard: {asked}");
        println!("{asked} long statements");
    })
    .await;
}
