//! A disk that somebody fills: quotas stop them long before it's full, a reserve keeps the log going when many do, and a
//! disk that is full all the same is said by name and recovers.

use crate::siege::{self, Siege};
use crate::support::{Server, Tenant, http_client};
use reqwest::Method;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const MIB: u64 = 1024 * 1024;

/// Bytes of all files in a directory, as the disk has them.
fn bytes_in(path: &Path) -> u64 {
    files_in(path).iter().filter_map(|path| path.metadata().ok()).map(|about| about.blocks() * 512).sum()
}

/// All files in a directory, and the directories; what goes meanwhile isn't there.
fn files_in(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    let Ok(entries) = std::fs::read_dir(path) else { return found };
    for entry in entries.flatten() {
        found.extend(files_in(&entry.path()));
    }
    found
}

/// Sends a picture of so many bytes; gives the status and the answer.
async fn upload(server: &Server, path: &str, token: &str, bytes: usize) -> (u16, Value) {
    let mut picture = b"\x89PNG\r\n\x1a\n".to_vec();
    picture.resize(bytes, 0x5a);
    let head = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n";
    let body = [head.as_bytes(), &picture, b"\r\n--x--\r\n"].concat();
    let request = http_client(30).post(format!("{}{path}", server.base)).bearer_auth(token);
    let request = request.header("content-type", "multipart/form-data; boundary=x").body(body);
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn session(server: &Server, tenant: &Tenant) -> (u16, Value) {
    let request = http_client(30).post(format!("{}/v1/widget/session", server.base));
    let request = request.header("x-chatbot-key", &tenant.chatbot_key).json(&json!({ "initialMessage": "Hi" }));
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn say(server: &Server, token: &str, chars: usize) -> (u16, Value) {
    let body = json!({ "content": "ä".repeat(chars) });
    let (status, answer) = server.call(Method::POST, "/v1/widget/events", token, Some(body)).await;
    (status.as_u16(), answer)
}

fn token(session: &Value) -> &str {
    session["sessionToken"].as_str().unwrap_or_else(|| panic!("no session: {session}"))
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

/// Whoever has a chatbot's public key fills nothing with files: a visitor's stop, and then the chatbot's.
#[tokio::test]
async fn files_stop_at_the_quotas() {
    let quotas = ["--quota", "visitor_files=4MiB/day,chatbot_files=12MiB/day"];
    siege::at_default_limits_and_with_rates_off(&quotas, async |siege: &Siege| {
        let (server, attacker) = (&siege.server, &siege.attacker);
        let before = bytes_in(siege.dir());
        let mut codes = std::collections::BTreeMap::new();
        for _ in 0..8 {
            let (_, session) = session(server, attacker).await;
            for _ in 0..4 {
                let answer = upload(server, "/v1/widget/files", token(&session), 1_500_000).await;
                *codes.entry(format!("{:?}", code(&answer))).or_insert(0) += 1;
            }
        }
        // Two of a visitor's fit, and eight of all.
        assert_eq!(codes[r#"(201, "")"#], 8, "{codes:?}");
        assert!(
            codes[r#"(429, "visitor_files_quota")"#] > 0 && codes[r#"(429, "chatbot_files_quota")"#] > 0,
            "{codes:?}"
        );
        let written = bytes_in(siege.dir()) - before;
        assert!(written < 20 * MIB, "{written} bytes were written");
        let (_, others) = session(server, &siege.neighbour).await;
        assert_eq!(upload(server, "/v1/widget/files", token(&others), 1_500_000).await.0, 201);
    })
    .await;
}

/// So with words: messages and sessions stop, and an agent of the same tenant writes on.
#[tokio::test]
async fn words_stop_at_the_quotas() {
    let quotas = ["--quota", "visitor_text=1MiB/day,chatbot_text=4MiB/day"];
    siege::at_default_limits_and_with_rates_off(&quotas, async |siege: &Siege| {
        let (server, attacker) = (&siege.server, &siege.attacker);
        let before = bytes_in(siege.dir());
        let started = Instant::now();
        let (mut visitors, mut last) = (0, String::new());
        let mut first = Value::Null;
        while last != "chatbot_text_quota" {
            assert!(started.elapsed() < Duration::from_secs(25), "{visitors} visitors wrote, and write on");
            let begun = session(server, attacker).await;
            if begun.0 == 429 {
                last = code(&begun).1.to_owned();
                continue;
            }
            first = if first.is_null() { begun.1.clone() } else { first };
            visitors += 1;
            for _ in 0..40 {
                let answer = say(server, token(&begun.1), 20_000).await;
                last = code(&answer).1.to_owned();
                if answer.0 == 429 && last != "rate_limited" {
                    break;
                }
            }
        }
        assert!((2..30).contains(&visitors), "{visitors} visitors");
        let written = bytes_in(siege.dir()) - before;
        println!("{visitors} visitors, {} MiB", written / MIB);
        assert!(written < 100 * MIB, "{written} bytes were written");
        // Their agents and everybody else go on.
        let thread = first["threadId"].as_str().expect("a thread");
        let reply = json!({ "type": "message", "content": "One moment" });
        server.post(&format!("/v1/threads/{thread}/events"), &attacker.token, reply).await;
        let (_, others) = session(server, &siege.neighbour).await;
        assert_eq!(say(server, token(&others), 20).await.0, 201);
    })
    .await;
}

/// What was used is known after a restart, however the server ended.
#[tokio::test]
async fn quotas_survive_a_restart() {
    let dir = tempfile::tempdir().expect("temp dir");
    let flags = ["--limit", "all=off", "--quota", "visitor_text=300KiB/day,tenant_files_kept=2MiB"];
    let server = Server::start(dir.path(), &flags);
    let tenant = server.tenant("Acme").await;
    let (_, session) = session(&server, &tenant).await;
    let uploaded = upload(&server, "/v1/widget/files", token(&session), 1_500_000).await;
    assert_eq!(uploaded.0, 201);
    let used_up = async |server: &Server| {
        let started = Instant::now();
        loop {
            let answer = say(server, token(&session), 20_000).await;
            if answer.0 == 429 {
                assert_eq!(code(&answer).1, "visitor_text_quota");
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "it's never used up");
        }
    };
    used_up(&server).await;
    server.kill();
    for killed in [true, false] {
        let server = Server::start(dir.path(), &flags);
        let started = Instant::now();
        let thread = session["threadId"].as_str().expect("a thread");
        // Counting goes on from where it was stored, a moment after the start.
        loop {
            let said = say(&server, token(&session), 1).await;
            let sent = upload(&server, &format!("/v1/threads/{thread}/files"), &tenant.token, 1_500_000).await;
            if (code(&said), code(&sent)) == ((429, "visitor_text_quota"), (413, "tenant_files_kept_quota")) {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "it goes on: {said:?}, {sent:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if killed { server.kill() } else { server.stop() }
    }
}

/// Below the reserve files, rows and imports stop, below half of it new conversations; messages go on.
#[tokio::test]
async fn a_reserve_keeps_the_log_going() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &["--limit", "all=off"]);
    let tenant = server.tenant("Acme").await;
    let (_, open) = session(&server, &tenant).await;
    let scopes = json!([{ "type": "DATASOURCES:CREATE" }]);
    let made = server.post("/v0/tokens/", &tenant.token, json!({ "name": "t", "scopes": scopes })).await;
    server.stop();
    // More than the disk has.
    let server = Server::start(dir.path(), &["--limit", "all=off", "--disk-reserve", "1000000GiB"]);
    let file = upload(&server, "/v1/widget/files", token(&open), 100_000).await;
    assert_eq!(code(&file), (507, "disk_nearly_full"));
    assert_eq!(code(&session(&server, &tenant).await), (503, "disk_nearly_full"));
    let post = |path: &str, token: &str, body: &'static str| {
        let request = http_client(30).post(format!("{}{path}", server.base)).bearer_auth(token);
        async move {
            let answer = request.body(body).send().await.expect("an answer");
            assert_eq!(answer.headers()["retry-after"], "60");
            answer.status().as_u16()
        }
    };
    let own = made["token"].as_str().expect("a token");
    assert_eq!(post("/v0/events?name=rows", own, "{\"a\":1}").await, 507);
    assert_eq!(post("/v0/datasources?name=rows&format=ndjson", own, "{\"a\":1}").await, 507);
    let line =
        r#"{"id":"t","visitor":{"id":"v"},"messages":[{"at":"2020-05-12T17:44:40Z","from":"visitor","text":"a"}]}"#;
    assert_eq!(post("/v1/import/conversations", &tenant.token, line).await, 507);
    assert_eq!(say(&server, token(&open), 20).await.0, 201);
    assert_eq!(server.get("/readyz", "").await["dependencies"]["disk"], "ok");
    server.stop();
}

/// A file system of its own, if this process may mount one.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(mib: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("temp dir");
        let size = format!("size={mib}m,mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                println!("not tested on a small disk: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("not tested on a small disk: {error}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // The directory can't be deleted otherwise; the test has ended already.
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

/// A real disk that fills: uploads stop at the reserve, messages at the end of it, by name; with room they go on, and
/// nothing that was acknowledged is lost.
#[tokio::test]
async fn a_full_disk_is_named_and_recovers() {
    let Some(disk) = Small::mount(96) else { return };
    let flags = ["--limit", "all=off", "--quota", "all=off", "--disk-reserve", "24MiB"];
    let data = disk.0.path().join("data");
    let server = Server::start(&data, &flags);
    let tenant = server.tenant("Acme").await;
    let (_, open) = session(&server, &tenant).await;
    let mut uploads = 0;
    let refused = loop {
        let answer = upload(&server, "/v1/widget/files", token(&open), 4_000_000).await;
        if answer.0 != 201 {
            break answer;
        }
        uploads += 1;
        assert!(uploads < 30, "nothing stops them");
    };
    assert_eq!(code(&refused), (507, "disk_nearly_full"), "after {uploads}");
    assert_eq!(say(&server, token(&open), 20).await.0, 201);
    // Somebody else fills the rest.
    let rest = disk.0.path().join("rest");
    let filled = Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", rest.display())).output();
    assert!(!filled.expect("dd").status.success(), "the disk is full");
    let mut said = 0;
    let refused = loop {
        let answer = say(&server, token(&open), 20_000).await;
        if answer.0 != 201 {
            break answer;
        }
        said += 1;
        assert!(said < 1_000, "where is it all written?");
    };
    assert_eq!(code(&refused), (503, "write_failed"), "after {said}");
    let mut ready = Value::Null;
    for _ in 0..40 {
        ready = server.call(Method::GET, "/readyz", "", None).await.1;
        if ready["dependencies"]["disk"] != "ok" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let problem = ready["dependencies"]["disk"].as_str().expect("a word");
    assert!(problem.contains("No space left"), "{ready}");
    std::fs::remove_file(&rest).expect("deleted");
    let started = Instant::now();
    while say(&server, token(&open), 20).await.0 != 201 {
        assert!(started.elapsed() < Duration::from_secs(10), "it doesn't recover");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while server.call(Method::GET, "/readyz", "", None).await.1["dependencies"]["disk"] != "ok" {
        assert!(started.elapsed() < Duration::from_secs(10), "it isn't ready again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.kill();
    let server = Server::start(&data, &flags);
    let chat = server.get("/v1/widget/conversation?after=0&limit=200", token(&open)).await;
    let events = chat["events"].as_array().expect("events").len();
    assert!(events > uploads, "{events} events after {uploads} files and {said} messages: {chat}");
    server.stop();
}

/// Nothing that a server writes can be read by others of the machine, whatever it did.
#[tokio::test]
async fn nobody_else_reads_the_data_directory() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("data");
    let server = Server::start(&data, &["--limit", "all=off"]);
    let tenant = server.tenant("Acme").await;
    let (_, open) = session(&server, &tenant).await;
    assert_eq!(upload(&server, "/v1/widget/files", token(&open), 100_000).await.0, 201);
    server.post("/v1/invitations", &tenant.token, json!({ "email": "bob@acme.example", "role": "agent" })).await;
    let scopes = json!([{ "type": "DATASOURCES:CREATE" }]);
    let made = server.post("/v0/tokens/", &tenant.token, json!({ "name": "t", "scopes": scopes })).await;
    let rows = http_client(30).post(format!("{}/v0/events?name=rows", server.base));
    let rows = rows.bearer_auth(made["token"].as_str().expect("a token")).body("{\"a\":1}\n".repeat(10_001));
    assert_eq!(rows.send().await.expect("an answer").status(), 202);
    // As many rows as are worth a file when the server stops.
    let message = r#"{"at":"2020-05-12T17:44:40Z","from":"visitor","text":"a"}"#;
    let line = format!(r#"{{"id":"t","visitor":{{"id":"v"}},"messages":[{}]}}"#, vec![message; 10_000].join(","));
    let import = http_client(30).post(format!("{}/v1/import/conversations", server.base)).bearer_auth(&tenant.token);
    assert_eq!(import.body(line).send().await.expect("an answer").status(), 200);
    server.get("/v0/sql?q=SELECT%20count(*)%20FROM%20messages", &tenant.report_token).await;
    server.get("/readyz", "").await;
    let started = Instant::now();
    while files_in(&data.join("spool")).len() < 2 {
        assert!(started.elapsed() < Duration::from_secs(20), "no mail was written");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let look = || {
        let all = files_in(&data);
        let open: Vec<String> = all
            .iter()
            .filter_map(|path| Some((path, path.metadata().ok()?.permissions().mode() & 0o7777)))
            .filter(|(_, mode)| mode & 0o077 != 0)
            .map(|(path, mode)| format!("{mode:o} {}", path.display()))
            .collect();
        assert!(open.is_empty(), "others may read:\n{}", open.join("\n"));
        all.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n")
    };
    look();
    server.stop();
    look();
    // So do the commands on the directory.
    crate::support::run(&data, &["rebuild"]);
    let all = look();
    for written in ["parlance.db", "parlance.keys", "log.head", "files/", "facts/", "sources/", "spool/", "tmp"] {
        assert!(all.contains(written), "there is no {written} in\n{all}");
    }
    assert!(all.contains(".parquet") && all.contains(".eml"), "{all}");
}
