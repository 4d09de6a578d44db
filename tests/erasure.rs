//! Erasing a person on the real server: afterwards their words and address are in no file of the data directory, log,
//! facts, files and spool included, and what happened stays countable.

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{Server, http_client, run};

const WORDS: [&str; 5] = ["Zebulon", "zebulon@quick.example", "xylophone", "harpsichord", "knows a carrier"];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Files in which one of the words is, whatever its case, also in base64 and in UTF-16.
fn files_with_words(dir: &Path) -> Vec<String> {
    use base64::Engine as _;
    let mut paths = Vec::new();
    files(dir, &mut paths);
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD;
    // The middle of a word's base64 is the same wherever the word begins in the text, but for three shifts.
    let spelled = WORDS.iter().flat_map(|word| {
        let lower = word.to_lowercase();
        let shifted = (0..3).map(|shift| base64.encode(&word.as_bytes()[shift..]).into_bytes());
        let shifted = shifted.map(|text| text[..(text.len() / 4 * 4).saturating_sub(4)].to_vec());
        // Shorter ones are found by chance.
        let shifted = shifted.filter(|text| text.len() >= 8);
        let wide = word.encode_utf16().flat_map(u16::to_le_bytes).collect();
        [lower.into_bytes(), word.as_bytes().to_vec(), wide].into_iter().chain(shifted).collect::<Vec<_>>()
    });
    let spelled: Vec<Vec<u8>> = spelled.collect();
    let holds = |path: &&PathBuf| {
        let bytes = std::fs::read(path).expect("readable");
        let lower = bytes.to_ascii_lowercase();
        let has = |text: &[u8], word: &[u8]| text.windows(word.len()).any(|window| window == word);
        spelled.iter().any(|word| has(&bytes, word) || has(&lower, word))
    };
    paths.iter().filter(holds).map(|path| path.display().to_string()).collect()
}

async fn counts(server: &Server, token: &str) -> Value {
    let rows =
        server.get("/v0/pipes/usage.json?granularity=total&date_from=2020-01-01&date_to=2100-01-01", token).await;
    rows["data"].clone()
}

async fn send_file(server: &Server, token: &str) {
    let form = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"harpsichord.txt\"\r\n\r\n\
                my harpsichord, in full\r\n--XX--\r\n";
    let request = http_client(30).post(format!("{}/v1/widget/files", server.base)).bearer_auth(token);
    let request = request.header("content-type", "multipart/form-data; boundary=XX").body(form);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 201, "{:?}", answer.text().await);
}

fn spooled(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir.join("spool")) else { return 0 };
    entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some())).count()
}

#[tokio::test]
async fn an_erased_person_is_in_no_file_and_the_counts_stay() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let tenant = server.tenant("Acme").await;
    let body = json!({ "name": WORDS[0], "email": WORDS[1], "initialMessage": format!("my {} is broken", WORDS[2]) });
    let session = server.session(&tenant.chatbot_key, body).await;
    let text = |name: &str| session[name].as_str().expect("a text").to_owned();
    let (token, visitor, chat) = (text("sessionToken"), text("visitorId"), text("conversationId"));
    send_file(&server, &token).await;
    let note = json!({ "notes": format!("{} {}", WORDS[0], WORDS[4]) });
    let path = format!("/v1/conversations/{chat}");
    let (status, _) = server.call(Method::PATCH, &path, &tenant.token, Some(note)).await;
    assert!(status.is_success());
    server.post("/v1/widget/rating", &token, json!({ "score": 4, "comment": WORDS[2] })).await;
    let other = json!({ "name": "Olaf", "email": "olaf@other.example", "initialMessage": "I stay" });
    server.session(&tenant.chatbot_key, other).await;
    for _ in 0..200 {
        if spooled(dir.path()) >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!files_with_words(dir.path()).is_empty(), "the welcome mail names them, so the search can find something");
    let before = counts(&server, &tenant.report_token).await;

    let (status, erased) = server.call(Method::DELETE, &format!("/v1/visitors/{visitor}"), &tenant.token, None).await;
    assert!(status.is_success(), "{erased}");
    assert_eq!(files_with_words(dir.path()), [""; 0], "while the server runs");
    assert_eq!(counts(&server, &tenant.report_token).await, before, "the counts stay");
    server.stop();
    assert_eq!(files_with_words(dir.path()), [""; 0], "after it has stopped and written its facts");

    let verified = run(dir.path(), &["verify"]);
    run(dir.path(), &["rebuild"]);
    assert_eq!(run(dir.path(), &["verify"]), verified, "the state's hash is the same after a rebuild");
    assert_eq!(files_with_words(dir.path()), [""; 0], "and a rebuild brings nothing back");
    let server = Server::start(dir.path(), &[]);
    let login = json!({ "email": tenant.email, "password": support::PASSWORD });
    let signed_in = server.post("/v1/auth/login", "", login).await;
    let token = signed_in["access_token"].as_str().expect("a token");
    assert_eq!(counts(&server, &tenant.report_token).await, before, "the counts stay after a rebuild");
    let shown = server.get(&format!("/v1/conversations/{chat}"), token).await;
    assert!(shown["name"].is_null() && shown["notes"].is_null(), "{shown}");
    server.stop();
}
