//! Starts `mail_server.py`, a real SMTP server from PyPI's `aiosmtpd`, in a process of its own.

use super::python::environment;
use serde::Deserialize;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const AIOSMTPD: &str = "aiosmtpd==1.4.6";

/// A running server; it ends with its value.
pub struct MailServer {
    process: Child,
    pub port: u16,
    pub dir: tempfile::TempDir,
}

/// A mail that the server took, as Python's e-mail parser reads it.
#[derive(Debug, Deserialize)]
pub struct Taken {
    pub mail_from: String,
    pub rcpt_tos: Vec<String>,
    pub headers: Vec<(String, String)>,
    pub text: String,
    pub html: String,
    pub signed_in: bool,
}

impl Taken {
    pub fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = found.next().unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        assert!(found.next().is_none(), "two of {name}");
        &value.1
    }
}

impl MailServer {
    pub fn start() -> Self {
        Self::start_at(0, &[])
    }

    /// Listens at `port` (0: a free one); with a user and a password, wants them.
    pub fn start_at(port: u16, credentials: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("mail_server.py");
        std::fs::write(&script, include_str!("mail_server.py")).unwrap();
        // It warns about signing in without TLS, which is what a test wants.
        let mut process = Command::new(environment(AIOSMTPD).join("bin/python"))
            .args(["-W", "ignore"])
            .arg(script)
            .arg(dir.path())
            .arg(port.to_string())
            .args(credentials)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the mail server prints its port; its error is above");
        Self { process, port, dir }
    }

    /// What it has taken so far.
    pub fn taken(&self) -> Vec<Taken> {
        let mut paths: Vec<_> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths.iter().map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A loopback port where nothing listens.
pub fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for something that happens on another task.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} didn't happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
