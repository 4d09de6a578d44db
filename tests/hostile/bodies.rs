//! Bodies that are small when they are sent and large when they are taken in, or that never end: every route that the
//! server's own document lists with a body, by every kind of them.

use crate::siege::{self, Siege};
use crate::support::{OPERATOR, Server};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const MIB: usize = 1024 * 1024;
/// Requests at once.
const AT_ONCE: usize = 16;
/// A body that isn't at its end has shown by then what it does.
const WAIT_MAX: Duration = Duration::from_millis(300);

/// What is sent after a request's head.
struct Attack {
    name: &'static str,
    headers: String,
    body: Arc<Vec<u8>>,
    /// Whether the body ends, so that an answer must come.
    ends: bool,
}

fn gzip(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    pieces.for_each(|piece| encoder.write_all(&piece).expect("packed"));
    encoder.finish().expect("packed")
}

fn attacks() -> Vec<Attack> {
    let whole = |name, more: &str, body: Vec<u8>| {
        let headers = format!("{more}content-length: {}\r\n", body.len());
        Attack { name, headers, body: Arc::new(body), ends: true }
    };
    let json = "content-type: application/json\r\n";
    let packed = "content-encoding: gzip\r\ncontent-type: application/x-ndjson\r\n";
    let keys = (0..20_000).fold(String::from("{"), |mut text, number| {
        write!(text, "\"k{number}\":1,").expect("written");
        text
    });
    let form = "content-type: multipart/form-data; boundary=x\r\n";
    let named = b"--x\r\ncontent-disposition: form-data; name=\"".to_vec();
    let empty = b"--x\r\ncontent-disposition: form-data; name=\"csv\"\r\n\r\n\r\n".to_vec();
    let chunks: Vec<u8> = b"1\r\n[\r\n".repeat(200_000);
    vec![
        whole("a gzip bomb of newlines", packed, gzip((0..256).map(|_| vec![b'\n'; MIB]))),
        whole("a gzip bomb of bad lines", packed, gzip((0..4).map(|_| b"x\n".repeat(MIB / 2)))),
        whole("a line without an end", "content-type: application/x-ndjson\r\n", vec![b'x'; 12 * MIB]),
        whole(
            "a quote that never closes",
            "content-type: text/csv\r\n",
            [b"a,b\n1,\"".to_vec(), b"x,\n".repeat(MIB)].concat(),
        ),
        whole("deep JSON", json, b"[".repeat(200_000)),
        whole("deep JSON in a field", json, [b"{\"metadata\":".to_vec(), b"[".repeat(200_000)].concat()),
        whole("many keys", json, format!("{keys}\"k\":1}}").into_bytes()),
        whole("a part's head without an end", form, [named, vec![b'a'; 8 * MIB]].concat()),
        whole("parts without an end", form, empty.repeat(MIB / empty.len() * 4)),
        Attack {
            name: "chunks without an end",
            headers: format!("{json}transfer-encoding: chunked\r\n"),
            body: Arc::new(chunks),
            ends: false,
        },
        Attack {
            name: "a length that is a lie",
            headers: format!("{json}content-length: 200000\r\n"),
            body: Arc::new(b"{\"name\":".to_vec()),
            ends: false,
        },
    ]
}

/// A route with a body, ready to be called.
struct Door {
    method: String,
    path: String,
    headers: String,
}

/// The ids and credentials that doors are opened with.
struct Keys {
    agent: String,
    chat: Value,
    scoped: String,
}

impl Keys {
    async fn of(siege: &Siege) -> Self {
        let (server, attacker) = (&siege.server, &siege.attacker);
        let chat = server.session(&attacker.chatbot_key, json!({ "initialMessage": "Hello" })).await;
        let scopes =
            json!([{ "type": "DATASOURCES:CREATE" }, { "type": "DATASOURCES:READ" }, { "type": "PIPES:CREATE" }]);
        let token = server.post("/v0/tokens/", &attacker.token, json!({ "name": "all", "scopes": scopes })).await;
        Self { agent: attacker.token.clone(), chat, scoped: token["token"].as_str().expect("a token").to_owned() }
    }

    fn chat(&self, key: &str) -> &str {
        self.chat[key].as_str().unwrap_or_else(|| panic!("no {key}: {}", self.chat))
    }

    fn door(&self, siege: &Siege, method: &str, path: &str) -> Door {
        let attacker = &siege.attacker;
        let id = match path.split('/').nth(2).unwrap_or_default() {
            "conversations" => self.chat("conversationId"),
            "threads" => self.chat("threadId"),
            "chatbots" => &attacker.chatbot_id,
            "agents" => &attacker.agent,
            "operator" => &attacker.slug,
            _ => "01890000-0000-7000-8000-000000000000",
        };
        let token = match path {
            _ if path.starts_with("/v1/widget") => self.chat("sessionToken"),
            _ if path.starts_with("/v0/") => &self.scoped,
            _ if path.starts_with("/v1/operator") => OPERATOR,
            _ => &self.agent,
        };
        let mut called = String::new();
        for part in path.split('/').skip(1) {
            called.push('/');
            called.push_str(if part.starts_with('{') { id } else { part });
        }
        let query = match path {
            "/v0/events" => "?name=rows",
            "/v0/datasources" => "?name=rows&mode=append&format=csv",
            "/v1/operator/import" => "?tenantField=tenant",
            _ => "",
        };
        let key = if path == "/v1/widget/session" || path == "/chats" {
            format!("x-chatbot-key: {}\r\n", attacker.chatbot_key)
        } else {
            format!("authorization: Bearer {token}\r\n")
        };
        Door { method: method.to_owned(), path: called + query, headers: key }
    }
}

/// Every route of the server that takes a body, as it says itself; what is no page of the API stays out.
async fn doors(siege: &Siege, keys: &Keys) -> Vec<Door> {
    let document = siege.server.get("/openapi.json", "").await;
    let mut doors = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("methods").keys() {
            let method = method.to_uppercase();
            // What would end the attacker's own means; what it reads of a body is what all others do.
            let ends = path.ends_with("/logout") || path.ends_with("/transfer-ownership") || path.ends_with("/end");
            if matches!(&*method, "POST" | "PUT" | "PATCH") && !ends {
                doors.push(keys.door(siege, &method, path));
            }
        }
    }
    assert!(doors.len() > 60, "{} doors", doors.len());
    doors
}

/// Calls a door; gives the answer's head, if there is one. Who is answered stops sending.
async fn call(base: &str, door: &Door, attack: &Attack) -> Option<String> {
    let stream = TcpStream::connect(base.trim_start_matches("http://")).await.expect("a connection");
    let (mut read, mut write) = stream.into_split();
    let head = format!(
        "{} {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{}{}\r\n",
        door.method, door.path, door.headers, attack.headers
    );
    let body = Arc::clone(&attack.body);
    let sending = tokio::spawn(async move {
        // A server that has answered takes no more.
        if write.write_all(head.as_bytes()).await.is_ok() && write.write_all(&body).await.is_ok() {
            std::future::pending::<()>().await;
        }
    });
    let mut answer = vec![0; 4_096];
    let reading = read.read(&mut answer);
    let patience = if attack.ends { Duration::from_secs(30) } else { WAIT_MAX };
    let length = tokio::time::timeout(patience, reading).await;
    sending.abort();
    match length {
        Ok(Ok(0)) | Err(_) => None,
        Ok(Ok(length)) => Some(String::from_utf8_lossy(&answer[..length]).into_owned()),
        // It answered and closed while much was still on its way.
        Ok(Err(_)) => None,
    }
}

/// Whatever comes as a body at whatever door, it's refused or taken, and nobody else notices.
#[tokio::test]
async fn every_door_bounds_what_it_takes_in() {
    siege::at_default_limits_and_with_rates_off(&[], async |siege| {
        let keys = Keys::of(siege).await;
        let doors: Arc<Vec<Door>> = Arc::new(doors(siege, &keys).await);
        for attack in attacks() {
            let attack = Arc::new(attack);
            let turns = Arc::new(Semaphore::new(AT_ONCE));
            let mut calls = JoinSet::new();
            for number in 0..doors.len() {
                let (doors, attack, turns) = (Arc::clone(&doors), Arc::clone(&attack), Arc::clone(&turns));
                let base = siege.server.base.clone();
                calls.spawn(async move {
                    let _turn = turns.acquire().await.expect("never closed");
                    let door = &doors[number];
                    let answer = call(&base, door, &attack).await;
                    let status = answer.as_deref().and_then(|answer| answer.split(' ').nth(1)?.parse::<u16>().ok());
                    let (method, path, name) = (&door.method, &door.path, attack.name);
                    let fault = matches!(status, Some(500 | 501 | 502 | 504..));
                    assert!(!fault, "{method} {path} with {name}: {}", answer.unwrap_or_default());
                    let refused = matches!(status, Some(401 | 403 | 404));
                    (number, status.is_some() && !refused)
                });
            }
            let reached = calls.join_all().await.into_iter().filter(|(_, reached)| *reached).count();
            let peak = siege.server.peak_bytes() / 1_000_000;
            println!("{}: {reached} of {} doors read it; peak {peak} MB", attack.name, doors.len());
        }
    })
    .await;
}

async fn import(server: &Server, token: &str, body: Vec<u8>) -> (u16, Value) {
    let http = crate::support::http_client(60);
    let request = http.post(format!("{}/v1/import/conversations", server.base)).bearer_auth(token);
    let answer = request.body(body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

fn transcript(id: usize, messages: usize) -> String {
    let message = r#"{"at":"2020-05-12T17:44:40Z","from":"visitor","text":"a"}"#;
    let messages = vec![message; messages].join(",");
    format!("{{\"id\":\"t{id}\",\"visitor\":{{\"id\":\"v\"}},\"messages\":[{messages}]}}\n")
}

/// An import's lines are pulled, never collected: 254 KB of packed newlines took 4.9 GB, 63 KB of bad lines 6 GB.
#[tokio::test]
async fn an_import_is_read_a_line_at_a_time() {
    siege::at_default_limits_and_with_rates_off(&[], async |siege| {
        let (server, token) = (&siege.server, &siege.attacker.token);
        let (status, answer) = import(server, token, gzip((0..256).map(|_| vec![b'\n'; MIB]))).await;
        assert_eq!((status, answer["code"].as_str()), (413, Some("body_too_large")), "{answer}");
        let (status, answer) = import(server, token, gzip((0..4).map(|_| b"x\n".repeat(MIB / 2)))).await;
        assert_eq!(status, 200, "{answer}");
        let listed = answer["quarantined"].as_array().expect("a list");
        assert_eq!((listed.len(), &answer["quarantinedTotal"]), (1_000, &json!(2 * MIB)));
        assert_eq!((&listed[0]["line"], &listed[0]["code"]), (&json!(1), &json!("not_json")));
        // A line that is too long is passed by its number, and the next is read.
        let long = [&[b'{'; 40][..], &vec![b' '; 40 * MIB], b"\n", transcript(1, 3).as_bytes()].concat();
        let (status, answer) = import(server, token, long).await;
        assert_eq!((status, &answer["imported"]), (200, &json!(1)), "{answer}");
        assert_eq!(answer["quarantined"][0]["code"], "line_too_long");
        assert_eq!(answer.get("quarantinedTotal"), None);
        // Small lines that become many events each.
        let many: Vec<_> = (10..18).map(|id| transcript(id, 10_000).into_bytes()).collect();
        let (status, answer) = import(server, token, gzip(many.into_iter())).await;
        assert_eq!((status, &answer["imported"]), (200, &json!(8)), "{answer}");
        println!("peak {} MB", server.peak_bytes() / 1_000_000);
    })
    .await;
}

/// A tenant has one import at a time, and one that sends nothing keeps nobody else from theirs.
#[tokio::test]
async fn imports_take_turns() {
    siege::at_default_limits_and_with_rates_off(&[], async |siege| {
        let (server, attacker) = (&siege.server, &siege.attacker);
        let mut slow = TcpStream::connect(server.base.trim_start_matches("http://")).await.expect("a connection");
        let head = format!(
            "POST /v1/import/conversations HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: 100000\r\n\r\n\n",
            attacker.token
        );
        slow.write_all(head.as_bytes()).await.expect("sent");
        let mut refused = (0, Value::Null);
        for _ in 0..100 {
            refused = import(server, &attacker.token, b"\n".to_vec()).await;
            if refused.0 == 429 {
                break;
            }
        }
        assert_eq!(refused.1["code"], "import_under_way", "{refused:?}");
        let (status, answer) = import(server, &siege.neighbour.token, transcript(1, 3).into_bytes()).await;
        assert_eq!((status, &answer["imported"]), (200, &json!(1)), "{answer}");
        drop(slow);
        // The turn is free as soon as its sender is gone.
        for _ in 0..500 {
            let (status, _) = import(server, &attacker.token, b"\n".to_vec()).await;
            if status == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the turn is still taken");
    })
    .await;
}

/// An export is made as it's taken: who reads slowly holds a piece, and one of a tenant's is under way.
#[tokio::test]
async fn exports_take_turns() {
    siege::at_default_limits_and_with_rates_off(&[], async |siege| {
        let (server, attacker) = (&siege.server, &siege.attacker);
        // More than the system keeps for a connection that nobody reads.
        let many: String = (0..4)
            .map(|id| transcript(id, 350).replace(r#""text":"a""#, &format!(r#""text":"{}""#, "b".repeat(20_000))))
            .collect();
        let (status, answer) = import(server, &attacker.token, many.into_bytes()).await;
        assert_eq!((status, &answer["imported"]), (200, &json!(4)), "{answer}");
        let http = crate::support::http_client(60);
        let export =
            || http.get(format!("{}/v1/export/conversations", server.base)).bearer_auth(&attacker.token).send();
        let slow = export().await.expect("an answer");
        assert_eq!(slow.status(), 200);
        let refused = export().await.expect("an answer");
        assert_eq!(refused.status(), 429);
        let problem: Value = refused.json().await.expect("JSON");
        assert_eq!(problem["code"], "export_under_way");
        let whole = slow.text().await.expect("the whole");
        let lines: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        // What is more than a line may have goes on in a further one.
        let mut messages: BTreeMap<String, usize> = BTreeMap::new();
        for line in &lines {
            let events = line["events"].as_array().expect("events").iter();
            let said = events.filter(|event| event["type"] == "message").count();
            *messages.entry(line["id"].to_string()).or_default() += said;
        }
        assert_eq!(messages.into_values().collect::<Vec<_>>(), [350; 4]);
        let (status, answer) = server.call(Method::GET, "/v1/export/conversations", &attacker.token, None).await;
        assert_eq!(status, 200, "{answer}");
    })
    .await;
}
