//! Statements that are deep or long, through every door of the real server that takes SQL.

use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use tokio::process::Command;

use crate::client::Client;
use crate::siege::{self, Siege};
use crate::support::{OPERATOR, Server, http_client, parlance};

#[path = "../../sql/tests/it/support/constructs.rs"]
mod constructs;

use constructs::CONSTRUCTS;

/// Where SQL comes into the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Sql,
    NarrowSql,
    Over,
    Publish,
    OwnOver,
    Filter,
    WireSimple,
    WireExtended,
}

impl Door {
    /// Every door: who adds one says after which it comes.
    fn all() -> impl Iterator<Item = Self> {
        std::iter::successors(Some(Self::Sql), |door| match door {
            Self::Sql => Some(Self::NarrowSql),
            Self::NarrowSql => Some(Self::Over),
            Self::Over => Some(Self::Publish),
            Self::Publish => Some(Self::OwnOver),
            Self::OwnOver => Some(Self::Filter),
            Self::Filter => Some(Self::WireSimple),
            Self::WireSimple => Some(Self::WireExtended),
            Self::WireExtended => None,
        })
    }
}

/// The attacker's credentials and addresses.
struct Attack<'a> {
    siege: &'a Siege,
    narrow: String,
    writer: String,
    wire: String,
    http: reqwest::Client,
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a text").to_owned()
}

impl<'a> Attack<'a> {
    async fn begin(siege: &'a Siege) -> Self {
        let (server, mallory) = (&siege.server, &siege.attacker);
        let token = async |name: &str, scopes: serde_json::Value| {
            let made = server.post("/v0/tokens/", &mallory.token, json!({ "name": name, "scopes": scopes })).await;
            text(&made["token"])
        };
        let narrow = token("narrow", json!([{ "type": "DATASOURCES:READ", "resource": "messages" }])).await;
        let scopes = json!([
            { "type": "PIPES:CREATE", "resource": "*" },
            { "type": "PIPES:READ", "resource": "*" },
            { "type": "DATASOURCES:READ", "resource": "*" },
        ]);
        let writer = token("writer", scopes).await;
        let status = server.get("/v1/status", OPERATOR).await;
        let attack = Self { siege, narrow, writer, wire: text(&status["pg"]), http: http_client(60) };
        let (published, said) = attack.publish("mine", "SELECT 1 AS seq").await;
        assert!(published.is_success(), "{said}");
        attack
    }

    async fn send(&self, path: &str, token: &str, body: String) -> (StatusCode, String) {
        let request = self.http.post(format!("{}{path}", self.siege.server.base)).bearer_auth(token);
        let answer = request.header("content-type", "text/plain").body(body).send().await.expect("the server answers");
        (answer.status(), answer.text().await.expect("a text"))
    }

    async fn publish(&self, name: &str, sql: &str) -> (StatusCode, String) {
        let datafile = format!("NODE n\nSQL >\n    {sql}\n\nTYPE endpoint\n");
        self.send(&format!("/v0/pipes?name={name}"), &self.writer, datafile).await
    }

    async fn over(&self, path: &str, sql: &str) -> (StatusCode, String) {
        let body = json!({ "q": sql.replace("messages", "_") });
        let request = self.http.post(format!("{}{path}", self.siege.server.base));
        let answer = request.bearer_auth(&self.writer).json(&body).send().await.expect("the server answers");
        (answer.status(), answer.text().await.expect("a text"))
    }

    /// `true` for what is answered as it should be.
    async fn through(&self, door: Door, sql: &str) -> (bool, String) {
        let full = &self.siege.attacker.report_token;
        let (status, said) = match door {
            Door::Sql => self.send("/v0/sql", full, sql.to_owned()).await,
            Door::NarrowSql => self.send("/v0/sql", &self.narrow, sql.to_owned()).await,
            Door::Over => self.over("/v0/pipes/csat.json", sql).await,
            Door::Publish => self.publish("other", sql).await,
            Door::OwnOver => self.over("/v0/pipes/mine.json", sql).await,
            Door::Filter => {
                let filter = sql.trim_start_matches("SELECT ");
                let scopes = json!([{ "type": "DATASOURCES:READ", "resource": "messages", "filter": filter }]);
                let body = json!({ "name": "filtered", "scopes": scopes });
                let server = &self.siege.server;
                let answer = server.call(reqwest::Method::POST, "/v0/tokens/", &self.siege.attacker.token, Some(body));
                let (status, said) = answer.await;
                (status, said.to_string())
            }
            Door::WireSimple | Door::WireExtended => return self.wire(door, sql).await,
        };
        let refused = [400, 403, 404, 408, 413, 422, 429].contains(&status.as_u16());
        (status.is_success() || refused, format!("{status} {said}"))
    }

    /// The client waits where it is called.
    async fn wire(&self, door: Door, sql: &str) -> (bool, String) {
        let (address, user, token) =
            (self.wire.clone(), self.siege.attacker.id.clone(), self.siege.attacker.report_token.clone());
        let sql = sql.to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            let mut client = Client::start(&address, &user, &token).expect("let in");
            let answer = if door == Door::WireSimple { client.simple(&sql) } else { client.extended(&sql) };
            (answer.map(drop), client.simple("SELECT 1").map(drop))
        });
        let (answer, after) = asked.await.expect("it has waited");
        let lives =
            answer.as_ref().err().is_none_or(|refusal| refusal.code != "closed" && !refusal.code.starts_with("XX"));
        let goes_on = after.as_ref().err().is_none_or(|refusal| refusal.code != "closed");
        (lives && goes_on, format!("{answer:?} {after:?}"))
    }
}

/// Each construct until 64 KB are full, and as often as it may be, at every door; and the two that ended a server, as they
/// were found.
#[tokio::test]
async fn deep_statements_are_answered_at_every_door() {
    siege::at_default_limits_and_with_rates_off(&["--pg-listen", "127.0.0.1:0"], async |siege| {
        let attack = Attack::begin(siege).await;
        let found = [
            format!("SELECT CAST(NULL AS INT{})", "[]".repeat(14_000)),
            format!(
                "SELECT arrow_cast(NULL, '{}Int64{}') AS a FORMAT Parquet",
                "List(".repeat(3_000),
                ")".repeat(3_000)
            ),
            format!("SELECT now(){}", " AT TIME ZONE 'UTC'".repeat(3_000)),
        ];
        let fullest = CONSTRUCTS.iter().filter_map(|construct| construct.texts().pop());
        let texts: Vec<String> = found.into_iter().chain(fullest).collect();
        for door in Door::all() {
            let started = Instant::now();
            for text in &texts {
                let (answered, said) = attack.through(door, text).await;
                let shown: String = text.chars().take(60).collect();
                assert!(answered, "{door:?} {shown}…: {said}");
            }
            println!("{door:?}: {} texts in {:?}", texts.len(), started.elapsed());
        }
    })
    .await;
}

/// `parlance sql` reads the same budget before it parses.
#[tokio::test]
async fn deep_statements_are_answered_on_the_command_line() {
    let dir = tempfile::tempdir().expect("temp dir");
    let slug = {
        let server = Server::start(dir.path(), &[]);
        let tenant = server.tenant("Acme").await;
        server.stop();
        tenant.slug
    };
    for sql in [
        format!("SELECT CAST(NULL AS INT{})", "[]".repeat(14_000)),
        format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT arrow_cast(NULL, '{}Int64{}')", "List(".repeat(3_000), ")".repeat(3_000)),
    ] {
        let mut command = Command::from(parlance());
        command.args(["sql", "--tenant", &slug, &sql, "--data-dir"]).arg(dir.path());
        let output = command.stdin(Stdio::null()).output();
        let output = tokio::time::timeout(Duration::from_secs(60), output).await.expect("soon").expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("the limit is"), "{said}");
    }
}
