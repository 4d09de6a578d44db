//! What comes in by an import: each kind of bad line is set aside alone, what can be mended is, and nothing is stored that the
//! API would refuse, in whatever encoding it came.

use crate::support::{Call, Server, Tenant, text};
use axum::http::Method;
use chat_api::check;
use chat_api::import::LINE_BYTES_MAX;
use ingest::time::Timestamp;
use serde_json::{Value, json};

fn message(text: &str) -> Value {
    json!({ "at": "2024-05-01T10:00:00Z", "from": "visitor", "text": text })
}

fn line(id: &str) -> Value {
    json!({
        "id": id, "visitor": { "id": format!("v-{id}") }, "agent": { "id": "a-1" }, "resolved": true,
        "messages": [message("hi")],
    })
}

/// A line with a field's value changed; `path` as JSON pointers have it.
fn with(path: &str, value: Value) -> Vec<u8> {
    let mut changed = line("changed");
    match changed.pointer_mut(path) {
        Some(place) => *place = value,
        None => {
            let (parent, name) = path.rsplit_once('/').expect("a path");
            changed.pointer_mut(parent).expect("an object")[name] = value;
        }
    }
    changed.to_string().into_bytes()
}

async fn import(server: &Server, tenant: &Tenant, body: impl Into<Vec<u8>>) -> Value {
    let call = Call::new(Method::POST, "/v1/import/conversations").raw(body).token(&tenant.token);
    server.call(call.header("content-type", "application/x-ndjson")).await.expect(200)
}

fn replaced(from: &str, to: &[u8]) -> Vec<u8> {
    let line = line("changed").to_string();
    let (before, after) = line.split_once(from).expect("it's there");
    [before.as_bytes(), to, after.as_bytes()].concat()
}

fn ahead(days: i64) -> String {
    Timestamp::now().plus_ms(days * 24 * 60 * 60 * 1_000).to_string()
}

/// Bad lines: the code, the field, the line.
fn bad_lines() -> Vec<(&'static str, Option<&'static str>, Vec<u8>)> {
    let good = line("changed").to_string();
    let at = "/messages/0/at";
    let long_id = json!("é".repeat(201));
    vec![
        ("invalid_encoding", None, replaced("hi", b"caf\xe9")),
        ("nul_byte", None, replaced("hi", b"a\0b")),
        ("json_array", None, format!("[{good}]").into_bytes()),
        ("not_json", None, b"id,visitor,messages".to_vec()),
        ("not_json", None, b"null".to_vec()),
        ("cut_off", None, good.as_bytes()[..80].to_vec()),
        ("more_than_one", None, format!("{good},").into_bytes()),
        ("control_character", None, replaced("hi", b"a\tb")),
        ("invalid_escape", None, replaced("hi", b"\\ud83d")),
        ("number_out_of_range", None, replaced("true", b"true,\"rating\":1e999")),
        ("line_too_long", None, vec![b'x'; LINE_BYTES_MAX + 1]),
        ("missing_field", Some("messages"), br#"{"id":"c","visitor":{"id":"v"}}"#.to_vec()),
        ("unknown_field", Some("mood"), with("/mood", json!(1))),
        ("duplicate_field", Some("id"), replaced("{", b"{\"id\":\"twice\",")),
        ("invalid_field", Some("messages[0].text"), with("/messages/0/text", json!({ "a": 1 }))),
        ("invalid_field", Some("messages[0].from"), with("/messages/0/from", json!("ghost"))),
        ("invalid_field", Some("messages[0].from"), with("/messages/0/from", Value::Null)),
        ("invalid_field", Some("visitor"), with("/visitor", json!(7))),
        ("invalid_id", Some("id"), with("/id", json!(1.5))),
        ("empty_id", Some("visitor.id"), with("/visitor/id", json!(""))),
        ("id_too_long", Some("agent.id"), with("/agent/id", long_id)),
        ("control_character", Some("id"), with("/id", json!("c\n1"))),
        ("too_many", Some("tags"), with("/tags", json!(vec!["a"; 101]))),
        ("message_count", Some("messages"), with("/messages", json!([]))),
        ("message_count", Some("messages"), with("/messages", json!(vec![message("x"); 10_001]))),
        ("message_too_long", Some("messages[0].text"), with("/messages/0/text", json!("x".repeat(20_001)))),
        ("empty_message", Some("messages[0].text"), with("/messages/0/text", json!(" \n"))),
        ("missing_agent", Some("messages[0].from"), replaced("\"agent\":{\"id\":\"a-1\"},", b"")),
        ("invalid_rating", Some("rating"), with("/rating", json!(6))),
        ("invalid_rating", Some("rating"), with("/rating", json!(300))),
        ("invalid_time", Some("messages[0].at"), with(at, json!("1 May 2024"))),
        ("time_without_zone", Some("messages[0].at"), with(at, json!("2024-05-01 10:00:00"))),
        ("time_out_of_range", Some("messages[0].at"), with(at, json!("0001-01-01T00:00:00Z"))),
        ("time_out_of_range", Some("messages[0].at"), with(at, json!("1601-01-01T00:00:00Z"))),
        ("time_out_of_range", Some("messages[0].at"), with(at, json!("1899-12-30T00:00:00Z"))),
        ("time_out_of_range", Some("messages[0].at"), with(at, json!("9999-12-31T00:00:00Z"))),
        ("time_in_future", Some("messages[0].at"), with(at, json!(ahead(2)))),
        (
            "time_goes_back",
            Some("messages[1].at"),
            with("/messages", json!([message("a"), { "at": "2020-01-01T00:00:00Z", "from": "visitor", "text": "b" }])),
        ),
    ]
}

/// Each has its own word and its field, and the lines around it are imported.
#[tokio::test]
async fn every_kind_of_bad_line_is_set_aside_alone() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    for (number, (code, field, mut bad)) in bad_lines().into_iter().enumerate() {
        if code == "missing_agent" {
            bad = String::from_utf8(bad)
                .expect("UTF-8")
                .replace("\"visitor\",\"text\"", "\"agent\",\"text\"")
                .into_bytes();
        }
        let shown = String::from_utf8_lossy(&bad[..bad.len().min(120)]).into_owned();
        let (before, after) =
            (line(&format!("{number}-before")).to_string(), line(&format!("{number}-after")).to_string());
        let report = import(&server, &acme, [before.as_bytes(), b"\n", &bad, b"\n", after.as_bytes()].concat()).await;
        assert_eq!((&report["imported"], &report["skipped"]), (&json!(2), &json!(0)), "{shown}: {report}");
        let [aside] = &report["quarantined"].as_array().expect("a list")[..] else { panic!("{shown}: {report}") };
        assert_eq!((&aside["line"], &aside["code"]), (&json!(2), &json!(code)), "{shown}: {report}");
        assert_eq!(aside["field"].as_str(), field, "{shown}: {report}");
        assert_eq!(report["cleaned"], json!([]), "what isn't imported isn't cleaned");
    }
}

/// A transcript with all that can be mended.
fn mendable() -> Value {
    json!({
        "id": "dirty", "resolved": true,
        "visitor": { "id": "v", "name": "N".repeat(100_000), "email": "nobody" },
        "agent": { "id": "a", "name": "Ann\u{0}\r\n", "email": "ann at work" },
        "tags": ["", "y".repeat(500), "n\u{0}l", null, " vip "],
        "messages": [
            { "at": "2024-05-01T10:00:00Z", "from": "visitor", "text": "a\u{0}b" },
            { "at": "2024-05-01T10:01:00Z", "from": "visitor", "text": "" },
            { "at": "2024-05-01T10:02:00Z", "from": "agent", "text": null },
        ],
    })
}

/// Nothing is lost for what can be mended; each field that was is named, and whatever is stored is what the API takes.
#[tokio::test]
async fn what_is_imported_is_what_the_api_takes() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let report = import(&server, &acme, mendable().to_string()).await;
    assert_eq!((&report["imported"], &report["quarantined"]), (&json!(1), &json!([])), "{report}");
    let cleaned = report["cleaned"].as_array().expect("a list");
    let told: Vec<(&str, &str)> = cleaned
        .iter()
        .map(|cleaned| (cleaned["field"].as_str().expect("a field"), cleaned["code"].as_str().expect("a code")))
        .collect();
    assert_eq!(
        told,
        [
            ("visitor.name", "too_long"),
            ("visitor.email", "not_an_address"),
            ("agent.name", "control_character"),
            ("agent.email", "not_an_address"),
            ("tags[0]", "blank"),
            ("tags[1]", "too_long"),
            ("tags[2]", "control_character"),
            ("tags[3]", "blank"),
            ("messages[0].text", "nul"),
            ("messages[1].text", "empty_message"),
            ("messages[2].text", "empty_message"),
        ]
    );
    assert!(cleaned.iter().all(|cleaned| cleaned["line"] == 1));

    let get = |path: String| server.call(Call::get(path).token(&acme.token));
    let visitor = get("/v1/visitors".to_owned()).await.expect(200)["items"][0].clone();
    assert!(check::name("name", visitor["name"].as_str().expect("a name")).is_ok());
    assert_eq!(visitor["email"], Value::Null);
    let agents = get("/v1/agents".to_owned()).await.expect(200);
    let names = agents["items"].as_array().expect("items").iter().map(|agent| text(&agent["name"]));
    let names: Vec<String> = names.collect();
    assert!(
        names.contains(&"Ann".to_owned()) && names.iter().all(|name| check::name("name", name).is_ok()),
        "{names:?}"
    );
    let chat = get("/v1/conversations".to_owned()).await.expect(200)["items"][0].clone();
    let tags: Vec<String> = chat["tags"].as_array().expect("tags").iter().map(text).collect();
    assert_eq!(tags.len(), 3);
    assert_eq!(check::tags("tags", &tags), Ok(tags));
    let threads = get(format!("/v1/conversations/{}/threads", text(&chat["id"]))).await.expect(200);
    let thread = text(&threads["items"][0]["id"]);
    let events = get(format!("/v1/threads/{thread}/events")).await.expect(200);
    let said: Vec<&Value> =
        events["items"].as_array().expect("items").iter().filter(|event| event["type"] == "message").collect();
    assert_eq!(said.len(), 3);
    for event in said {
        assert!(check::content("content", event["content"].as_str().expect("a text")).is_ok(), "{event}");
        assert!(check::time("createdAt", event["createdAt"].as_str().expect("a time")).is_ok(), "{event}");
    }
    // What goes out comes in again without another word.
    let globex = server.tenant("Globex").await;
    let exported = get("/v1/export/conversations".to_owned()).await.text;
    let again = import(&server, &globex, exported).await;
    assert_eq!((&again["imported"], &again["cleaned"], &again["quarantined"]), (&json!(1), &json!([]), &json!([])));
}

/// One message that was only a picture costs nobody the conversation.
#[tokio::test]
async fn a_message_without_words_keeps_its_place() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    for (id, nothing) in [("empty", json!("")), ("null", Value::Null), ("blank", json!(" \n"))] {
        let mut chat = line(id);
        let at = |minute: u8| format!("2024-05-01T10:0{minute}:00Z");
        chat["messages"] = json!([
            { "at": at(0), "from": "visitor", "text": "see the picture" },
            { "at": at(1), "from": "visitor", "text": nothing },
            { "at": at(2), "from": "agent", "text": "thanks" },
        ]);
        let report = import(&server, &acme, chat.to_string()).await;
        assert_eq!(report["imported"], 1, "{report}");
        assert_eq!(report["cleaned"][0]["field"], "messages[1].text");
        assert_eq!(report["cleaned"][0]["code"], "empty_message");
    }
}

/// The same lines, in every way that programs write them.
fn written() -> Vec<(&'static str, Vec<u8>)> {
    let good = || [line("one"), line("zwei-äöü-😀")].map(|line| line.to_string());
    let joined = |end: &str| good().map(|line| line + end).concat();
    let plain = joined("\n");
    let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let marked = format!("\u{FEFF}{plain}");
    vec![
        ("LF", plain.clone().into_bytes()),
        ("no last newline", plain.trim_end().as_bytes().to_vec()),
        ("CRLF", joined("\r\n").into_bytes()),
        ("CR", joined("\r").into_bytes()),
        ("spaces and empty lines", format!("\n  \n{}\t \n\n", joined(" \t\n\r\n")).into_bytes()),
        ("a byte order mark", marked.clone().into_bytes()),
        (
            "a mark with each line, and alone",
            format!("{}\u{FEFF}\n", good().map(|line| format!("\u{FEFF}{line}\r\n")).concat()).into_bytes(),
        ),
        ("UTF-16, little end first", utf16(&marked, u16::to_le_bytes)),
        ("UTF-16, big end first", utf16(&marked, u16::to_be_bytes)),
        ("UTF-16 without a mark, little end first", utf16(&joined("\r\n"), u16::to_le_bytes)),
        ("UTF-16 without a mark, big end first", utf16(&joined("\r\n"), u16::to_be_bytes)),
    ]
}

#[tokio::test]
async fn lines_are_read_in_every_encoding() {
    let server = Server::start();
    for (number, (what, body)) in written().into_iter().enumerate() {
        let tenant = server.tenant(&format!("T{number}")).await;
        let report = import(&server, &tenant, body).await;
        assert_eq!((&report["imported"], &report["quarantined"]), (&json!(2), &json!([])), "{what}: {report}");
        let exported = server.call(Call::get("/v1/export/conversations").token(&tenant.token)).await.text;
        assert!(exported.contains("\"zwei-äöü-😀\""), "{what}: {exported}");
    }
}

/// Half a character spoils its own line.
#[tokio::test]
async fn half_a_character_is_one_bad_line() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let lines = ["one", "two", "three"].map(|id| line(id).to_string());
    let mut units: Vec<u16> = lines.join("\n").encode_utf16().collect();
    let place = String::from_utf16(&units).expect("UTF-16").match_indices("\"hi\"").nth(1).expect("the second").0;
    units[place + 1] = 0xD83D;
    let body: Vec<u8> = units.into_iter().flat_map(u16::to_le_bytes).collect();
    let report = import(&server, &acme, body).await;
    assert_eq!((&report["imported"], &report["quarantined"][0]["line"]), (&json!(2), &json!(2)), "{report}");
    assert_eq!(report["quarantined"][0]["code"], "invalid_encoding");
}

/// `123` and `"123"` are one id.
#[tokio::test]
async fn ids_may_be_numbers() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let mut chat = line("x");
    (chat["id"], chat["visitor"]["id"], chat["agent"]["id"]) = (json!(123), json!(u64::MAX), json!(-5));
    assert_eq!(import(&server, &acme, chat.to_string()).await["imported"], 1);
    chat["id"] = json!("123");
    assert_eq!(import(&server, &acme, chat.to_string()).await["skipped"], 1);
}

/// Addresses of all scripts are addresses, each in one form; what IDNA 2008 refuses is none.
#[tokio::test]
async fn international_addresses_are_kept_in_one_form() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    for (number, (typed, kept)) in [
        ("user@müller.example", Some("user@müller.example")),
        ("user@xn--mller-kva.example", Some("user@müller.example")),
        ("user@MÜLLER.example", Some("user@müller.example")),
        ("用户@例子.测试", Some("用户@例子.测试")),
        ("user@☃.example", None),
        ("user@ab--ü.example", None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut chat = line(&format!("c{number}"));
        chat["visitor"]["email"] = json!(typed);
        let report = import(&server, &acme, chat.to_string()).await;
        assert_eq!((&report["imported"], report["cleaned"] == json!([])), (&json!(1), kept.is_some()), "{report}");
        let body = json!({ "email": typed, "initialMessage": "hi" });
        let session = Call::post("/v1/widget/session", body).header("x-chatbot-key", &acme.chatbot_key);
        let status = server.call(session).await.status.as_u16();
        assert_eq!(status, if kept.is_some() { 201 } else { 422 }, "{typed}: the API says the same");
    }
    let query = "/v1/visitors?q=user%40xn--mller-kva.example";
    let found = server.call(Call::get(query).token(&acme.token)).await.expect(200);
    let emails: Vec<&str> =
        found["items"].as_array().expect("items").iter().filter_map(|one| one["email"].as_str()).collect();
    assert_eq!(emails, ["user@müller.example"; 6]);
}
