//! Runs the real binary in a temporary directory, as its users do.

#![allow(dead_code, reason = "every test file uses its own part")]

pub mod sources;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// What spans tenants, in tests.
pub const OPERATOR: &str = "operator-token-of-the-tests";
/// Every password in tests.
pub const PASSWORD: &str = "correct horse battery";

/// The binary under test.
pub fn parlance() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlance"));
    // Those of whoever runs the tests are theirs, and the tests' own are no settings.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PARLANCE_")) {
        command.env_remove(name);
    }
    command.env("PARLANCE_LOG", "warn");
    command
}

/// Runs a command on a data directory and gives its output; fails the test when the command does.
pub fn run(dir: &Path, args: &[&str]) -> String {
    let output = run_any(dir, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "parlance {args:?} failed: {error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs a command on a data directory, whatever comes of it.
pub fn run_any(dir: &Path, args: &[&str]) -> Output {
    parlance().args(args).arg("--data-dir").arg(dir).output().expect("the binary runs")
}

/// Real dialogues and what is expected of them; `tests/data/README.md` says where they come from.
pub fn data_file(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file)
}

/// An HTTP client that gives up after `seconds`.
pub fn http_client(seconds: u64) -> Client {
    // One of the tests in this process is the first to install it.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().timeout(Duration::from_secs(seconds)).build().expect("a client")
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:…`
    pub base: String,
    http: Client,
}

impl Server {
    /// Starts one on a free port and waits until it says where it is.
    pub fn start(dir: &Path, more: &[&str]) -> Self {
        Self::start_by(parlance(), dir, more).expect("the server starts")
    }

    /// The same of a command that was prepared; `None` when it ends without saying where it is.
    pub fn start_by(mut command: Command, dir: &Path, more: &[&str]) -> Option<Self> {
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--operator-token", OPERATOR, "--data-dir"])
            .arg(dir)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let base = line.split_whitespace().last().unwrap_or_default().to_owned();
        if !base.starts_with("http://") {
            child.wait().expect("reaped");
            return None;
        }
        let http = http_client(60);
        Some(Self { child, base, http })
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    /// SIGTERM, and waits for the end; fails when it isn't clean.
    pub fn stop(mut self) {
        let signalled = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status();
        assert!(signalled.expect("a shell").success(), "the server had ended before");
        let status = self.child.wait().expect("reaped");
        assert!(status.success(), "the server did not stop cleanly: {status}");
    }

    /// The most resident memory that it ever had, in bytes (`VmHWM`).
    pub fn peak_bytes(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running process");
        let line = text.lines().find(|line| line.starts_with("VmHWM:")).expect("its memory");
        line.split_whitespace().nth(1).expect("a number").parse::<usize>().expect("a number") * 1024
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Calls a route; gives status and JSON (null when there is none).
    pub async fn call(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.try_call(method, path, token, body).await.expect("the server answers")
    }

    /// The same, for servers that may be killed meanwhile.
    pub async fn try_call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> reqwest::Result<(StatusCode, Value)> {
        caller(&self.http, &self.base, method, path, token, body).await
    }

    /// `GET` that must succeed.
    pub async fn get(&self, path: &str, token: &str) -> Value {
        let (status, answer) = self.call(Method::GET, path, token, None).await;
        assert!(status.is_success(), "GET {path}: {status} {answer}");
        answer
    }

    /// `POST` that must succeed.
    pub async fn post(&self, path: &str, token: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, token, Some(body)).await;
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    /// A visitor's session through a chatbot.
    pub async fn session(&self, chatbot_key: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}/v1/widget/session", self.base));
        let response = request.header("x-chatbot-key", chatbot_key).json(&body).send().await.expect("an answer");
        assert_eq!(response.status(), 201, "{:?}", response.text().await);
        response.json().await.expect("JSON")
    }

    /// Signs a tenant up, with an agent who is online and a chatbot.
    pub async fn tenant(&self, name: &str) -> Tenant {
        let email = format!("owner@{}.example", name.to_lowercase());
        let body = json!({ "name": name, "adminName": "Ada", "adminEmail": email, "adminPassword": PASSWORD });
        let made = self.post("/v1/tenants", "", body).await;
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let (id, slug) = (text(&made["tenant"]["id"]), text(&made["tenant"]["slug"]));
        let (token, agent) = (text(&made["access_token"]), text(&made["agent"]["id"]));
        let chatbot = self.post("/v1/chatbots", &token, json!({ "name": "Site", "allowedOrigins": [] })).await;
        let status = json!({ "status": "online", "acceptingChats": true });
        let (answered, _) = self.call(Method::PUT, &format!("/v1/agents/{agent}/status"), &token, Some(status)).await;
        assert!(answered.is_success());
        let (chatbot_id, chatbot_key) = (text(&chatbot["id"]), text(&chatbot["apiKey"]));
        let report = self.post("/v0/tokens/", &token, json!({ "name": "reports", "scopes": [] })).await;
        Tenant { id, slug, email, token, agent, chatbot_id, chatbot_key, report_token: text(&report["token"]) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Calls a route of the server at `base`.
pub async fn caller(
    http: &Client,
    base: &str,
    method: Method,
    path: &str,
    token: &str,
    body: Option<Value>,
) -> reqwest::Result<(StatusCode, Value)> {
    let mut request = http.request(method, format!("{base}{path}"));
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
}

/// A tenant with its credentials.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub id: String,
    pub slug: String,
    pub email: String,
    pub token: String,
    pub agent: String,
    pub chatbot_id: String,
    pub chatbot_key: String,
    pub report_token: String,
}
