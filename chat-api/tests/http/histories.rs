//! Transcripts of format 2: each kind of bad line stands alone, what has grown is extended and nothing else is, and nothing of
//! it reaches what isn't the importer's.

use crate::support::{Call, Server, Tenant, text};
use axum::http::Method;
use chat_api::store::hash::state_hash;
use serde_json::{Value, json};

fn event(minute: usize, kind: &str, by: Value, fields: Value) -> Value {
    let mut event = json!({ "at": format!("2024-05-01T10:{minute:02}:00.250Z"), "type": kind, "by": by });
    event.as_object_mut().expect("an object").extend(fields.as_object().expect("fields").clone());
    event
}

fn visitor() -> Value {
    json!({ "visitor": "v-1" })
}

fn ada() -> Value {
    json!({ "agent": "a-1" })
}

/// A conversation that is resolved, and goes on: seven events until then, twelve in all.
fn events() -> Vec<Value> {
    vec![
        event(0, "conversation_started", visitor(), json!({ "thread": "1", "group": "g-1" })),
        event(0, "message", visitor(), json!({ "thread": "1", "text": "hello" })),
        event(0, "queued", visitor(), json!({ "thread": "1", "trigger": "first_message" })),
        event(
            1,
            "agent_joined",
            json!("system"),
            json!({ "thread": "2", "agent": "a-1", "trigger": "first_message", "strategy": "round_robin", "group": "g-1",
                    "waitedMs": 60_000, "candidates": [{ "agent": "a-1", "load": 1, "capacity": 2, "eligible": true, "reason": "next" }] }),
        ),
        event(2, "message", ada(), json!({ "thread": "2", "text": "hi" })),
        event(3, "note", ada(), json!({ "thread": "2", "text": "a quiet one" })),
        event(4, "resolved", ada(), json!({ "thread": "2", "agent": "a-1" })),
        event(5, "rated", visitor(), json!({ "thread": "2", "score": 4, "agent": "a-1", "comment": "fine" })),
        event(6, "reopened", visitor(), json!({ "thread": "3" })),
        event(6, "message", visitor(), json!({ "thread": "3", "text": "again" })),
        event(6, "queued", visitor(), json!({ "thread": "3", "trigger": "reopened" })),
        event(7, "closed", ada(), json!({ "reason": "agent" })),
    ]
}

fn history(id: &str, events: &[Value]) -> Value {
    json!({
        "format": 2, "id": id, "visitor": { "id": "v-1", "name": "Vera", "metadata": { "plan": "gold" } },
        "agents": [{ "id": "a-1", "name": "Ada" }], "groups": [{ "id": "g-1", "name": "Billing" }], "events": events,
    })
}

async fn import_by(server: &Server, token: &str, lines: &[Value]) -> Value {
    let body = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let call = Call::new(Method::POST, "/v1/import/conversations").raw(body).token(token);
    server.call(call.header("content-type", "application/x-ndjson")).await.expect(200)
}

async fn import(server: &Server, tenant: &Tenant, line: &Value) -> Value {
    import_by(server, &tenant.token, std::slice::from_ref(line)).await
}

/// `imported`, `skipped` or the code that the one line was quarantined with, and its field.
async fn outcome(server: &Server, tenant: &Tenant, line: &Value) -> String {
    let report = import(server, tenant, line).await;
    match &report["quarantined"][0] {
        Value::Null if report["imported"] == 1 => "imported".to_owned(),
        Value::Null => "skipped".to_owned(),
        bad => format!("{} {}", text(&bad["code"]), bad["field"].as_str().unwrap_or_default()).trim_end().to_owned(),
    }
}

async fn get(server: &Server, tenant: &Tenant, path: &str) -> Value {
    server.call(Call::get(path).token(&tenant.token)).await.expect(200)
}

async fn only_chat(server: &Server, tenant: &Tenant) -> Value {
    let listed = get(server, tenant, "/v1/conversations").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    listed["items"][0].clone()
}

fn rebuilt_is_the_same(server: &Server) {
    assert_eq!(server.app.pool.read(state_hash).expect("a hash"), server.replayed_state_hash());
}

/// A good line with one value changed, or taken away by `null`; `path` as JSON pointers have it.
fn with(path: &str, value: Value) -> Value {
    let mut line = history("bad", &events());
    let (parent, name) = path.rsplit_once('/').expect("a path");
    let parent = line.pointer_mut(parent).expect("it's there");
    match (parent, value) {
        (Value::Object(object), Value::Null) => drop(object.remove(name)),
        (Value::Object(object), value) => drop(object.insert(name.to_owned(), value)),
        (Value::Array(list), value) => list[name.parse::<usize>().expect("a place")] = value,
        _ => panic!("{path} leads nowhere"),
    }
    line
}

/// Bad lines: the code, the field.
fn bad_lines() -> Vec<(&'static str, &'static str, Value)> {
    let long = "x".repeat(20_001);
    let first = event(0, "conversation_started", json!("system"), json!({ "thread": "1" }));
    let many = vec![event(0, "note", ada(), json!({ "thread": "1", "text": "n" })); 10_001];
    let threads: Vec<Value> =
        (0..2_001).map(|n| event(9, "reopened", visitor(), json!({ "thread": n.to_string() }))).collect();
    let tags: Vec<Value> = (0..11)
        .map(|n| {
            event(9, "tagged", ada(), json!({ "add": (0..100).map(|tag| format!("{n}-{tag}")).collect::<Vec<_>>() }))
        })
        .collect();
    let grown = |more: &[Value]| json!([&events()[..], more].concat());
    vec![
        ("unknown_format", "format", with("/format", json!(3))),
        ("unknown_format", "format", with("/format", json!("two"))),
        ("event_count", "events", with("/events", json!([]))),
        ("event_count", "events", with("/events", json!(many))),
        ("missing_field", "events", with("/events", Value::Null)),
        ("unknown_field", "mood", with("/mood", json!(1))),
        ("unknown_field", "events[1].mood", with("/events/1/mood", json!(1))),
        ("empty_id", "id", with("/id", json!(""))),
        ("id_too_long", "agents[0].id", with("/agents/0/id", json!("é".repeat(201)))),
        ("too_many", "mergedVisitors", with("/mergedVisitors", json!(vec![json!({ "id": "m" }); 21]))),
        ("too_many", "agents", with("/agents", json!(vec![json!({ "id": "m" }); 1_001]))),
        (
            "too_many",
            "events[3].candidates",
            with("/events/3/candidates", json!(vec![events()[3]["candidates"][0].clone(); 21])),
        ),
        ("too_long", "visitor.metadata", with("/visitor/metadata", json!({ "a": "x".repeat(9_000) }))),
        ("first_event", "events[0].by", with("/events/0", first)),
        ("first_event", "events[0].type", with("/events", json!(&events()[1..]))),
        ("first_event", "events[1].type", with("/events/1", events()[0].clone())),
        ("missing_field", "events[1].text", with("/events/1/text", Value::Null)),
        ("unexpected_field", "events[1].score", with("/events/1/score", json!(5))),
        (
            "unexpected_field",
            "events[0].group",
            with("/events/0", {
                let mut first = events()[0].clone();
                first["group"] = Value::Null;
                first
            }),
        ),
        ("invalid_field", "events[1].type", with("/events/1/type", json!("sang"))),
        ("invalid_field", "events[2].trigger", with("/events/2/trigger", json!("whim"))),
        ("invalid_time", "events[1].at", with("/events/1/at", json!("yesterday"))),
        ("time_without_zone", "events[1].at", with("/events/1/at", json!("2024-05-01T10:00:00"))),
        ("time_out_of_range", "events[1].at", with("/events/1/at", json!("1601-01-01T00:00:00Z"))),
        ("time_in_future", "events[1].at", with("/events/1/at", json!("2099-01-01T00:00:00Z"))),
        ("empty_message", "events[1].text", with("/events/1/text", json!("  "))),
        ("message_too_long", "events[1].text", with("/events/1/text", json!(long))),
        ("message_too_long", "events[7].comment", with("/events/7/comment", json!(long))),
        ("invalid_rating", "events[7].score", with("/events/7/score", json!(6))),
        ("out_of_range", "events[3].waitedMs", with("/events/3/waitedMs", json!(-1))),
        ("invalid_field", "events[11].reason", with("/events/11/reason", json!("imported_unresolved"))),
        ("unknown_name", "events[4]", with("/events/4/by", json!({ "agent": "nobody" }))),
        ("unknown_name", "events[1]", with("/events/1/by", json!({ "visitor": "nobody" }))),
        ("unknown_name", "events[0]", with("/events/0/group", json!("g-9"))),
        ("unknown_group", "groups", with("/groups/0", json!({ "id": "g-1" }))),
        ("visitor_differs", "visitor", with("/mergedVisitors", json!([{ "id": "v-1" }]))),
        ("events_missing", "after", {
            let mut line = with("/after", json!(3));
            line["events"] = json!(&events()[3..]);
            line
        }),
        ("conversation_too_large", "", with("/events", grown(&threads))),
        ("conversation_too_large", "", with("/events", grown(&tags))),
        ("not_json", "", json!("words")),
    ]
}

/// Each kind of bad line has its own code and says which field it is; the lines around it are imported.
#[tokio::test]
async fn each_bad_line_is_told_apart_and_stands_alone() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let groups = json!({ "name": "Other" });
    server.call(Call::post("/v1/groups", groups).token(&acme.token)).await.expect(201);
    let bad = bad_lines();
    let mut lines = Vec::new();
    for (index, (_, _, line)) in bad.iter().enumerate() {
        let good: Vec<Value> = events()
            .into_iter()
            .take(7)
            .map(|mut event| {
                // No group: the bad ones that name it must find it missing.
                event.as_object_mut().expect("an object").remove("group");
                event
            })
            .collect();
        lines.push(history(&format!("good-{index}"), &good));
        lines.push(line.clone());
    }
    let report = import_by(&server, &acme.token, &lines).await;
    let told = |bad: &Value| {
        format!(
            "{} {} {}",
            bad["line"],
            bad["code"].as_str().unwrap_or_default(),
            bad["field"].as_str().unwrap_or_default()
        )
    };
    let found: Vec<String> = report["quarantined"].as_array().expect("a list").iter().map(told).collect();
    let wanted = bad.iter().enumerate().map(|(index, (code, field, _))| format!("{} {code} {field}", 2 * index + 2));
    assert_eq!(found, wanted.collect::<Vec<_>>());
    assert_eq!(report["imported"], bad.len(), "{report}");
}

/// What a line has more is added, whatever it cuts a conversation into; the same and less are skipped, and something else is
/// refused by the event.
#[tokio::test]
async fn a_line_extends_what_has_grown_and_nothing_else() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let all = events();
    let steps = [
        (history("c", &all[..5]), "imported"),
        (history("c", &all[..5]), "skipped"),
        (history("c", &all[..3]), "skipped"),
        (history("c", &all[..7]), "imported"),
        (history("c", &all[..9]), "imported"),
    ];
    for (line, wanted) in &steps {
        assert_eq!(outcome(&server, &acme, line).await, *wanted, "{line}");
        rebuilt_is_the_same(&server);
        // Nothing of it waits, and nobody has it.
        let chat = only_chat(&server, &acme).await;
        assert!(matches!(chat["status"].as_str(), Some("closed" | "resolved")), "{chat}");
        assert_eq!(chat["queuePosition"], Value::Null);
        let agents = get(&server, &acme, "/v1/agents").await;
        assert!(agents["items"].as_array().expect("items").iter().all(|agent| agent["activeChats"] == 0), "{agents}");
    }
    for (index, field, value) in [
        (1, "text", json!("other words")),
        (4, "at", json!("2024-05-01T10:02:00.251Z")),
        (4, "by", visitor()),
        (3, "strategy", json!("sticky")),
        (7, "comment", json!("bad")),
        (8, "thread", json!("4")),
    ] {
        let mut other = all.clone();
        other[index][field] = value;
        let wanted = format!("conversation_differs events[{index}]");
        assert_eq!(outcome(&server, &acme, &history("c", &other)).await, wanted, "{field}");
    }
    let mut rest = history("c", &all[9..]);
    rest["after"] = json!(10);
    assert_eq!(outcome(&server, &acme, &rest).await, "events_missing after");
    rest["after"] = json!(9);
    assert_eq!(outcome(&server, &acme, &rest).await, "imported");
    assert_eq!(outcome(&server, &acme, &history("c", &all)).await, "skipped");
    let chat = only_chat(&server, &acme).await;
    assert_eq!((&chat["status"], &chat["rating"]), (&json!("closed"), &json!(4)));
    rebuilt_is_the_same(&server);
    // An export of it is nothing new here, and the same as what came in where it's new.
    let exported = server.call(Call::get("/v1/export/conversations").token(&acme.token)).await.text;
    let exported: Value = serde_json::from_str(&exported).expect("a line");
    assert_eq!(outcome(&server, &acme, &exported).await, "skipped");
    let globex = server.tenant("Globex").await;
    assert_eq!(outcome(&server, &globex, &exported).await, "imported");
    assert_eq!(outcome(&server, &globex, &exported).await, "skipped");
}

/// The lines of one conversation in one file follow on each other, though they are under way at once.
#[tokio::test]
async fn lines_of_one_conversation_follow_on_each_other() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let lines: Vec<Value> = (0..events().len())
        .map(|index| {
            let mut line = history("c", &events()[index..=index]);
            if index > 0 {
                line["after"] = json!(index);
            }
            line
        })
        .collect();
    let report = import_by(&server, &acme.token, &lines).await;
    assert_eq!((&report["imported"], &report["quarantined"]), (&json!(lines.len()), &json!([])));
    assert_eq!(outcome(&server, &acme, &history("c", &events())).await, "skipped");
    rebuilt_is_the_same(&server);
}

/// A conversation that somebody went on with here, or that was never imported, isn't added to.
#[tokio::test]
async fn what_went_on_here_is_not_extended() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    assert_eq!(outcome(&server, &acme, &history("c", &events()[..7])).await, "imported");
    let id = text(&only_chat(&server, &acme).await["id"]);
    let tag = Call::post(format!("/v1/conversations/{id}/tags"), json!({ "add": ["vip"], "remove": [] }));
    server.call(tag.token(&acme.token)).await.expect(200);
    assert_eq!(outcome(&server, &acme, &history("c", &events()[..7])).await, "skipped");
    assert_eq!(outcome(&server, &acme, &history("c", &events())).await, "conversation_differs events[7]");
    let exported = server.call(Call::get("/v1/export/conversations").token(&acme.token)).await.text;
    let mut exported: Value = serde_json::from_str(&exported).expect("a line");
    assert_eq!(outcome(&server, &acme, &exported).await, "skipped");
    exported["events"].as_array_mut().expect("events").push(events()[11].clone());
    assert_eq!(outcome(&server, &acme, &exported).await, "went_on_here events[8]");

    let session = server.session(&acme, json!({ "initialMessage": "hello" })).await;
    let line = history(&text(&session["conversationId"]), &events());
    assert_eq!(outcome(&server, &acme, &line).await, "skipped");
}

/// A transcript of messages extends too, when it has more of them.
#[tokio::test]
async fn a_transcript_of_messages_grows() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let message = |minute: usize, from: &str, text: &str| json!({ "at": format!("2024-05-01T10:{minute:02}:00Z"), "from": from, "text": text });
    let all = [
        message(0, "visitor", "hello"),
        message(1, "agent", "hi"),
        message(9, "visitor", "again"),
        message(10, "agent", "done"),
    ];
    let line = |count: usize, resolved: bool| json!({ "id": "m", "visitor": { "id": "v-1" }, "agent": { "id": "a-1" }, "tags": ["a"], "resolved": resolved, "messages": all[..count] });
    for (line, wanted, status) in [
        (line(1, false), "imported", "closed"),
        (line(1, true), "skipped", "closed"),
        (line(2, true), "imported", "resolved"),
        (line(2, true), "skipped", "resolved"),
        (line(4, true), "imported", "resolved"),
        (line(3, true), "skipped", "resolved"),
    ] {
        assert_eq!(outcome(&server, &acme, &line).await, wanted, "{line}");
        assert_eq!(only_chat(&server, &acme).await["status"], status, "{line}");
        rebuilt_is_the_same(&server);
    }
    let mut other = line(4, true);
    other["messages"][2]["text"] = json!("never");
    assert_eq!(outcome(&server, &acme, &other).await, "conversation_differs messages[2]");
    assert_eq!(outcome(&server, &acme, &history("m", &events())).await, "conversation_differs events[0]");
    assert_eq!(outcome(&server, &acme, &history("n", &events())).await, "imported");
    let mut other = line(4, true);
    other["id"] = json!("n");
    assert_eq!(outcome(&server, &acme, &other).await, "conversation_differs format");
}

async fn agent_with(server: &Server, tenant: &Tenant, name: &str, permissions: &[&str]) -> String {
    let body = json!({ "name": name, "permissions": permissions });
    let role = server.call(Call::post("/v1/roles", body).token(&tenant.token)).await.expect(201);
    server.agent(tenant, name, &text(&role["id"])).await.1
}

/// Whoever imports learns nothing of conversations that they don't see, adds nothing to them, makes no groups without the
/// permission, and finds nobody by an address that they may not see.
#[tokio::test]
async fn an_import_reaches_what_its_sender_sees() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let importer = agent_with(&server, &acme, "Imp", &["conversations:import"]).await;
    let code = |report: &Value| report["quarantined"][0]["code"].as_str().unwrap_or_default().to_owned();
    let report = import_by(&server, &importer, &[history("c", &events()[..7])]).await;
    assert_eq!(code(&report), "forbidden", "a group is made by who may make groups");
    assert_eq!(outcome(&server, &acme, &history("c", &events()[..7])).await, "imported");
    // Told apart by the content they would be an oracle.
    let mut guess = events();
    guess[1]["text"] = json!("a guess");
    for line in [history("c", &guess), history("c", &events())] {
        let report = import_by(&server, &importer, &[line]).await;
        assert_eq!((&report["skipped"], &report["imported"]), (&json!(1), &json!(0)), "{report}");
    }

    let (ada, _) = server.agent(&acme, "Ada", "agent").await;
    let address = format!("ada@{}.example", acme.slug);
    let by_address = |id: &str| {
        let events: Vec<Value> = events()
            .into_iter()
            .map(|mut event| {
                event.as_object_mut().expect("an object").remove("group");
                event
            })
            .collect();
        let mut line = history(id, &events);
        line["agents"] = json!([{ "id": "a-1", "name": "Somebody", "email": address }]);
        line["visitor"] = json!({ "id": format!("v-{id}") });
        let line = line.to_string().replace("\"v-1\"", &format!("\"v-{id}\""));
        serde_json::from_str::<Value>(&line.replace("\"a-1\"", &format!("\"a-{id}\""))).expect("JSON")
    };
    let agent_of = async |id: &str| {
        let listed = get(&server, &acme, "/v1/conversations?limit=50").await;
        let exported = server.call(Call::get("/v1/export/conversations").token(&acme.token)).await.text;
        let line = exported.lines().find(|line| line.contains(&format!("\"id\":\"{id}\""))).expect("a line");
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert!(listed["items"].as_array().is_some());
        text(&line["agents"][0]["id"])
    };
    let report = import_by(&server, &importer, &[by_address("x")]).await;
    assert_eq!(report["imported"], 1, "{report}");
    assert_eq!(agent_of("x").await, "a-x", "an address that isn't shown finds nobody");
    assert_eq!(outcome(&server, &acme, &by_address("y")).await, "imported");
    assert_eq!(agent_of("y").await, ada, "and one that is finds its agent");
    assert_eq!(outcome(&server, &acme, &by_address("y")).await, "skipped");

    // Another tenant's ids are words.
    let globex = server.tenant("Globex").await;
    let line = by_address("z").to_string().replace("\"a-z\"", &format!("\"{ada}\""));
    assert_eq!(outcome(&server, &globex, &serde_json::from_str(&line).expect("JSON")).await, "imported");
    let before = get(&server, &acme, "/v1/agents").await;
    let theirs = get(&server, &globex, "/v1/agents").await;
    let made = theirs["items"].as_array().expect("items").iter().find(|agent| agent["name"] == "Somebody");
    assert_ne!(made.expect("made anew")["id"], json!(ada));
    assert!(before["items"].as_array().expect("items").iter().any(|agent| agent["id"] == json!(ada)));
}

/// Visitors who turned out to be one are one here, and what is erased stays so.
#[tokio::test]
async fn merged_visitors_are_one_and_are_erased_as_one() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    assert_eq!(outcome(&server, &acme, &history("c", &events()[..7])).await, "imported");
    let mut later = history("c", &events());
    later["visitor"] = json!({ "id": "v-2", "name": "Vera Two" });
    assert_eq!(outcome(&server, &acme, &later).await, "unknown_name events[0]");
    later["mergedVisitors"] = json!([{ "id": "v-1" }]);
    assert_eq!(outcome(&server, &acme, &later).await, "imported");
    rebuilt_is_the_same(&server);
    let chat = only_chat(&server, &acme).await;
    assert_eq!(chat["name"], "Vera Two");
    // Who was merged is nobody else any more.
    let mut third = history("d", &events());
    third["visitor"] = json!({ "id": "v-3" });
    third["mergedVisitors"] = json!([{ "id": "v-1" }]);
    assert_eq!(outcome(&server, &acme, &third).await, "visitor_differs");
    let mut back = history("f", &events());
    back["mergedVisitors"] = json!([{ "id": "v-2" }]);
    assert_eq!(outcome(&server, &acme, &back).await, "visitor_differs");

    let erase = Call::delete(format!("/v1/visitors/{}", text(&chat["visitorId"])));
    server.call(erase.token(&acme.token)).await.expect(200);
    assert_eq!(outcome(&server, &acme, &later).await, "skipped");
    let mut grown = later.clone();
    grown["events"].as_array_mut().expect("events").push(event(
        9,
        "rated",
        visitor(),
        json!({ "thread": "3", "score": 1 }),
    ));
    assert_eq!(outcome(&server, &acme, &grown).await, "person_erased");
    assert_eq!(outcome(&server, &acme, &history("e", &events())).await, "person_erased");
    let exported = server.call(Call::get("/v1/export/conversations").token(&acme.token)).await.text;
    assert_eq!(exported, "");
    rebuilt_is_the_same(&server);
}
