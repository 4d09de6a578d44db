//! Lists that are long and heavy, asked for by many who read slowly or not at all, and streams of a long history that nobody reads.
//! Every `GET` of the server's own document is in it: a new list is by being listed.

use crate::siege::{Siege, at_default_limits_and_with_rates_off};
use crate::support::{PASSWORD, Tenant, http_client};
use futures_util::SinkExt as _;
use futures_util::stream::{self, StreamExt as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

/// Soon enough for a story to see that who doesn't read is let go; the default is 30 s.
const FLAGS: [&str; 2] = ["--unread-wait-s", "5"];
/// Messages of the long conversation, each of 20,000 emoji: 16 MB.
const MESSAGES: usize = 205;
/// Streams that nobody reads, half of them sockets.
const STREAMS: usize = 256;
/// Readers of each list.
const READERS: usize = 12;
/// A reader that isn't answered by then has waited for its turn in vain, and says so.
const ANSWER_WAIT: Duration = Duration::from_secs(35);
/// In the place of a status: closed without a word.
const TURNED_AWAY: u16 = 0;
/// What the neighbour's pages hold.
const IDLE_BYTES_MAX: f64 = 1024.0 * 1024.0;

fn emoji(count: usize) -> String {
    "😀".repeat(count)
}

/// An address within the attacker's tenant, and who calls.
struct Attack {
    base: String,
    attacker: Tenant,
    /// Agents of the tenant: each may have so many sockets.
    agents: Vec<String>,
    visitor: String,
    ids: BTreeMap<&'static str, String>,
}

impl Attack {
    /// Until the rate allows it.
    async fn post(siege: &Siege, path: &str, token: &str, body: Value) -> Value {
        loop {
            let (status, answer) = siege.server.call(Method::POST, path, token, Some(body.clone())).await;
            if status != StatusCode::TOO_MANY_REQUESTS {
                assert!(status.is_success(), "POST {path}: {status} {answer}");
                return answer;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Makes every list heavy.
    async fn prepare(siege: &Siege) -> Self {
        let (attacker, token) = (siege.attacker.clone(), siege.attacker.token.as_str());
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let session = siege.server.session(&attacker.chatbot_key, json!({ "initialMessage": "hello" })).await;
        let (conversation, thread) = (text(&session["conversationId"]), text(&session["threadId"]));
        let events = format!("/v1/threads/{thread}/events");
        let message = json!({ "type": "message", "content": emoji(20_000) });
        let posts = (0..MESSAGES).map(|_| Self::post(siege, &events, token, message.clone()));
        stream::iter(posts).buffer_unordered(8).collect::<Vec<_>>().await;
        let line = |id: usize| {
            json!({
                "id": format!("t{id}"), "visitor": { "id": "v", "name": emoji(100) }, "tags": [], "resolved": true,
                "messages": [{ "at": "2024-01-01T00:00:00Z", "from": "visitor", "text": emoji(20_000) }],
            })
        };
        let lines: String = (0..200).map(|id| format!("{}\n", line(id))).collect();
        let import = http_client(60).post(format!("{}/v1/import/conversations", siege.server.base));
        let imported = import.bearer_auth(token).body(lines).send().await.expect("an answer");
        assert_eq!(imported.status(), 200);
        for number in 0..60 {
            let name = format!("n{number}");
            let group = json!({ "name": name, "description": emoji(2_000) });
            Self::post(siege, "/v1/groups", token, group).await;
            Self::post(siege, "/v1/canned-responses", token, json!({ "shortcut": name, "text": emoji(20_000) })).await;
            let greeting = json!({ "name": name, "greeting": emoji(2_000), "waitingText": emoji(2_000) });
            Self::post(siege, "/v1/chatbots", token, greeting).await;
        }
        let fixed: BTreeMap<String, String> = (0..40).map(|key| (format!("p{key}"), "x".repeat(4_000))).collect();
        let scope = json!([{ "type": "PIPES:READ", "resource": "usage", "fixed_params": fixed }]);
        for number in 0..40 {
            Self::post(siege, "/v0/tokens/", token, json!({ "name": format!("n{number}"), "scopes": scope })).await;
        }
        let mut agents = vec![token.to_owned()];
        for number in 0..3 {
            let email = format!("a{number}@mallory.example");
            let agent = json!({ "name": "M", "email": email, "password": PASSWORD, "role": "admin" });
            Self::post(siege, "/v1/agents", token, agent).await;
            let login = json!({ "email": email, "password": PASSWORD, "tenant": attacker.id });
            agents.push(text(&Self::post(siege, "/v1/auth/login", "", login).await["access_token"]));
        }
        let ids = BTreeMap::from([
            ("conversations", conversation.clone()),
            ("chat_id", conversation.clone()),
            ("conversation_id", conversation),
            ("user_id", text(&session["visitorId"])),
            ("threads", thread),
            ("visitors", text(&session["visitorId"])),
            ("chatbots", attacker.chatbot_id.clone()),
            ("agents", attacker.agent.clone()),
        ]);
        let visitor = text(&session["sessionToken"]);
        Self { base: siege.server.base.clone(), attacker, agents, visitor, ids }
    }

    /// Every `GET` that answers with JSON or lines of it, in the attacker's tenant and as long as it gets.
    async fn lists(&self, siege: &Siege) -> Vec<(String, String)> {
        let document = siege.server.get("/openapi.json", "").await;
        let mut lists = Vec::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            let operation = &operations["get"];
            let kinds = operation["responses"]["200"]["content"].as_object();
            if kinds.is_none_or(|kinds| !kinds.keys().any(|kind| kind.contains("json"))) || path == "/v0/sql" {
                continue;
            }
            let mut called = String::new();
            for part in path.split('/').skip(1) {
                let name = part.trim_matches(['{', '}']);
                let topic = path.split('/').nth(2).unwrap_or_default();
                let id = self.ids.get(name).or_else(|| self.ids.get(topic)).map_or("unknown", String::as_str);
                called.push('/');
                called.push_str(if part.starts_with('{') { id } else { part });
            }
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            if parameters.into_iter().any(|parameter| parameter["name"] == "limit") {
                called.push_str("?limit=200");
            }
            let token = match path.as_str() {
                _ if path.starts_with("/v1/widget") => &self.visitor,
                _ if path.starts_with("/v0/tokens") => &self.attacker.token,
                _ if path.starts_with("/v0/") => &self.attacker.report_token,
                _ if path.starts_with("/v1/operator") => crate::support::OPERATOR,
                _ => &self.attacker.token,
            };
            lists.push((called, token.to_owned()));
        }
        let with_limit = lists.iter().filter(|(path, _)| path.ends_with("?limit=200")).count();
        assert!(lists.len() > 40 && with_limit >= 12, "the document is read: {} and {with_limit}", lists.len());
        lists
    }

    /// Asks and reads the status; what comes then is left where it is.
    async fn ask(&self, path: &str, token: &str) -> (Option<TcpStream>, u16) {
        let Ok(mut stream) = TcpStream::connect(self.base.trim_start_matches("http://")).await else {
            return (None, TURNED_AWAY);
        };
        let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
        let mut first = [0; 12];
        let read = async {
            stream.write_all(head.as_bytes()).await?;
            stream.read_exact(&mut first).await
        };
        let status = match timeout(ANSWER_WAIT, read).await.expect("an answer in time") {
            Ok(_) => String::from_utf8_lossy(&first[9..]).parse().expect("a status"),
            Err(_) => TURNED_AWAY,
        };
        (Some(stream), status)
    }

    /// A stream of the whole history; `true` for a socket.
    async fn unread_stream(&self, number: usize) -> bool {
        let (token, conversation) = (&self.agents[number % self.agents.len()], &self.ids["conversations"]);
        if number.is_multiple_of(2) {
            let path = format!("/v1/conversations/{conversation}/events/stream?after=0");
            let (stream, status) = self.ask(&path, token).await;
            // It stays open until the story is over.
            tokio::spawn(async move {
                sleep(Duration::from_secs(600)).await;
                drop(stream);
            });
            return status == 200;
        }
        let url = format!("{}/v1/realtime", self.base.replacen("http", "ws", 1));
        let Ok((mut socket, _)) = tokio_tungstenite::connect_async(&url).await else { return false };
        let subscribe = json!({ "type": "subscribe", "conversationId": conversation, "after": 0 });
        for frame in [json!({ "type": "auth", "token": token }), subscribe] {
            if socket.send(Message::text(frame.to_string())).await.is_err() {
                return false;
            }
        }
        tokio::spawn(async move {
            sleep(Duration::from_secs(600)).await;
            drop(socket);
        });
        true
    }
}

async fn held_bytes(siege: &Siege) -> Option<f64> {
    let text =
        reqwest::get(format!("{}/metrics", siege.server.base)).await.expect("metrics").text().await.expect("a text");
    let line = text.lines().find(|line| line.split_whitespace().next() == Some("parlance_reading_bytes"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The whole history, page by page, whoever else has asked for it.
async fn reads_all(siege: &Siege, attack: &Attack) {
    let (mut after, mut messages) = (0, 0);
    loop {
        let path = format!("/v1/threads/{}/events?limit=200&after={after}", attack.ids["threads"]);
        let (status, page) = siege.server.call(Method::GET, &path, &attack.attacker.token, None).await;
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status) {
            sleep(Duration::from_millis(200)).await;
            continue;
        }
        assert_eq!(status, 200, "{page}");
        let events = page["items"].as_array().expect("items");
        let Some(last) = events.last() else { break };
        for event in events {
            after += 1;
            assert_eq!(event["seq"], after, "nothing is left out");
            messages += usize::from(event["type"] == "message" && event["authorType"] == "agent");
        }
        assert_eq!(last["seq"], after);
    }
    assert_eq!(messages, MESSAGES);
}

/// The same as a stream, read as fast as it comes: each event once and in order.
async fn follows_all(siege: &Siege, attack: &Attack) {
    let path = format!("/v1/conversations/{}/events/stream?after=0", attack.ids["conversations"]);
    let request = http_client(60).get(format!("{}{path}", siege.server.base)).bearer_auth(&attack.agents[0]);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let (mut parts, mut text, mut seq) = (answer.bytes_stream(), Vec::new(), 0);
    while seq < MESSAGES {
        text.extend_from_slice(&parts.next().await.expect("the stream goes on").expect("a part"));
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            if let Some(id) = line.strip_prefix(b"id: ") {
                seq += 1;
                assert_eq!(String::from_utf8_lossy(id).trim(), seq.to_string(), "nothing is left out");
            }
        }
    }
}

/// 256 unread streams of 205 messages took 4.5 GB; every list was as heavy as its rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_who_take_nothing_hold_next_to_nothing() {
    at_default_limits_and_with_rates_off(&FLAGS, async |siege| {
        let attack = Attack::prepare(siege).await;
        println!("prepared: the server's peak is {} MB", siege.server.peak_bytes() / 1_000_000);
        let opening = stream::iter(0..STREAMS).map(|number| attack.unread_stream(number)).buffer_unordered(32);
        let opened = opening.filter(|open| std::future::ready(*open)).count().await;
        sleep(Duration::from_secs(2)).await;
        println!("{opened} streams: the server's peak is {} MB", siege.server.peak_bytes() / 1_000_000);
        assert!(opened > STREAMS / 2, "{opened} of {STREAMS} streams are open");
        let lists = attack.lists(siege).await;
        let asked = lists.iter().flat_map(|list| std::iter::repeat_n(list, READERS));
        let asking = stream::iter(asked).map(|(path, token)| attack.ask(path, token)).buffer_unordered(256);
        let answers: Vec<(Option<TcpStream>, u16)> = asking.collect().await;
        let mut statuses = BTreeMap::<u16, usize>::new();
        answers.iter().for_each(|(_, status)| *statuses.entry(*status).or_default() += 1);
        println!("{statuses:?}: the server's peak is {} MB", siege.server.peak_bytes() / 1_000_000);
        let ours = statuses.keys().find(|status| **status >= 500 && **status != 503);
        assert_eq!(ours, None, "{statuses:?}");
        assert!(statuses[&200] > lists.len(), "{statuses:?}");
        drop(answers);
        reads_all(siege, &attack).await;
        follows_all(siege, &attack).await;
        // Who has taken nothing for so long is let go, whether it's there or not.
        let began = Instant::now();
        while held_bytes(siege).await.is_some_and(|bytes| bytes > IDLE_BYTES_MAX) {
            assert!(began.elapsed() < Duration::from_secs(40), "{:?} bytes are still held", held_bytes(siege).await);
            sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
}
