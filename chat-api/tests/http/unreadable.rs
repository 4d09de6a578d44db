//! One text that can't be read, whatever was done to it or to its key, shows as such and fails nothing that it stands in:
//! every `GET` route there is is called with the damage in its way, and answers as before but for those words.

use crate::callers::{Ids, THINGS, World, own_path};
use crate::support::{Call, OPERATOR, Reply, text};
use chat_api::http::routes;
use chat_api::http::surface::{Route, Way};
use ingest::id::PersonId;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::path::Path;

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    KeyMissing,
    KeyGarbled,
    KeyTooShort,
    KeyOfSomebodyElse,
    TextGarbled,
    TextCutShort,
    TextNoBase64,
}

const DAMAGES: [Damage; 7] = [
    Damage::KeyMissing,
    Damage::KeyGarbled,
    Damage::KeyTooShort,
    Damage::KeyOfSomebodyElse,
    Damage::TextGarbled,
    Damage::TextCutShort,
    Damage::TextNoBase64,
];

/// Where sealed texts are, with the column that tells rows apart.
const SEALED: [(&str, &str); 6] = [
    ("log", "\"offset\""),
    ("visitors", "id"),
    ("conversations", "id"),
    ("agents", "id"),
    ("invitations", "id"),
    ("files", "id"),
];

impl Damage {
    /// Does it to these persons, behind the server's back.
    fn inflict(self, dir: &Path, persons: &[PersonId]) {
        let db = Connection::open(dir.join("parlance.db")).expect("the database");
        db.busy_timeout(std::time::Duration::from_secs(10)).expect("a timeout");
        let set = |wrapped: &dyn Fn(Vec<u8>) -> Vec<u8>| {
            for person in persons {
                let sql = "SELECT wrapped FROM person_keys WHERE person = ?1";
                let key: Vec<u8> = db.query_row(sql, [person.bytes()], |row| row.get(0)).expect("a key");
                let sql = "UPDATE person_keys SET wrapped = ?2 WHERE person = ?1";
                assert_eq!(db.execute(sql, (person.bytes(), wrapped(key))).expect("written"), 1);
            }
        };
        let garbled = |mut bytes: Vec<u8>| {
            bytes[20] ^= 1;
            bytes
        };
        match self {
            Self::KeyMissing => persons.iter().for_each(|person| {
                let sql = "DELETE FROM person_keys WHERE person = ?1";
                assert_eq!(db.execute(sql, [person.bytes()]).expect("deleted"), 1);
            }),
            Self::KeyGarbled => set(&garbled),
            Self::KeyTooShort => set(&|key| key[..3].to_vec()),
            Self::KeyOfSomebodyElse => {
                let mut select = db.prepare("SELECT person, wrapped FROM person_keys").expect("a table");
                let rows = select.query_map([], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, Vec<u8>>(1)?)));
                let mut rows = rows.expect("rows").map(|row| row.expect("a row"));
                let theirs = rows.find(|(person, _)| persons.iter().all(|own| own.bytes() != person));
                let (_, theirs) = theirs.expect("somebody else's key");
                set(&|_| theirs.clone());
            }
            Self::TextGarbled => change_texts(&db, persons, &|text| {
                let (head, tail) = text.split_at(30);
                let other = if tail.starts_with('A') { 'B' } else { 'A' };
                format!("{head}{other}{}", &tail[1..])
            }),
            Self::TextCutShort => change_texts(&db, persons, &|text| text[..8].to_owned()),
            Self::TextNoBase64 => change_texts(&db, persons, &|_| "no base64 at all!".to_owned()),
        }
    }
}

fn change_texts(db: &Connection, persons: &[PersonId], change: &dyn Fn(&str) -> String) {
    let persons: Vec<String> = persons.iter().map(|person| person.0.to_string()).collect();
    let mut changed = 0;
    for (table, id) in SEALED {
        let mut select = db.prepare(&format!("SELECT {id}, body FROM {table}")).expect("a table");
        let rows = select.query_map([], |row| Ok((row.get::<_, rusqlite::types::Value>(0)?, row.get::<_, String>(1)?)));
        let rows: Vec<_> = rows.expect("rows").collect::<Result<_, _>>().expect("rows");
        for (key, body) in rows {
            let mut value: Value = serde_json::from_str(&body).expect("JSON");
            let found = change_in(&mut value, &persons, change);
            if found > 0 {
                let sql = format!("UPDATE {table} SET body = ?2 WHERE {id} = ?1");
                db.execute(&sql, (key, value.to_string())).expect("written");
            }
            changed += found;
        }
    }
    assert!(changed > 10, "only {changed} texts were found");
}

fn change_in(value: &mut Value, persons: &[String], change: &dyn Fn(&str) -> String) -> usize {
    match value {
        Value::Object(fields) => {
            let whose = fields.get("p").filter(|_| fields.len() == 2).and_then(Value::as_str);
            let sealed = whose.is_some_and(|whose| persons.iter().any(|person| person == whose));
            if sealed && let Some(text) = fields.get("c").and_then(Value::as_str) {
                let text = change(text);
                fields.insert("c".to_owned(), json!(text));
                return 1;
            }
            fields.values_mut().map(|value| change_in(value, persons, change)).sum()
        }
        Value::Array(items) => items.iter_mut().map(|value| change_in(value, persons, change)).sum(),
        _ => 0,
    }
}

/// Says and does all that leaves a sealed text: words both ways, a note, notes, a reason, a rating, a page, a file.
async fn talk(world: &World, ids: &Ids, visitor: &str) {
    let (server, owner) = (&world.server, &world.acme.token);
    let chat = &ids["chat"];
    let post = |path: String, body: Value, token: &str| server.call(Call::post(path, body).token(token));
    let patch = Call::patch(
        format!("/v1/visitors/{}", ids["visitor"]),
        json!({
            "name": "Damaged", "email": "damaged@mail.example", "phone": "1", "page": "https://shop.example/", "metadata": { "a": "b" },
        }),
    );
    server.call(patch.token(owner)).await.expect(200);
    let assign = json!({ "agentId": ids["agent"], "reason": "knows it" });
    post(format!("/v1/conversations/{chat}/assign"), assign, owner).await.expect(200);
    let notes = Call::patch(format!("/v1/conversations/{chat}"), json!({ "notes": "damaged notes" }));
    server.call(notes.token(owner)).await.expect(200);
    let shown = server.call(Call::get(format!("/v1/conversations/{chat}")).token(owner)).await.expect(200);
    for kind in ["message", "note"] {
        let path = format!("/v1/threads/{}/events", text(&shown["activeThreadId"]));
        post(path, json!({ "type": kind, "content": "damaged answer" }), owner).await.expect(201);
    }
    post("/v1/widget/rating".to_owned(), json!({ "score": 4, "comment": "damaged praise" }), visitor).await.expect(200);
    let track = json!({ "name": "damaged", "page": "https://shop.example/x" });
    post("/v1/widget/track".to_owned(), track, visitor).await.expect(200);
    let said = json!({ "content": "damaged words", "metadata": { "k": "v" } });
    post("/v1/widget/events".to_owned(), said, visitor).await.expect(201);
    let invite = json!({ "email": "invited@acme.example", "role": "agent" });
    post("/v1/invitations".to_owned(), invite, owner).await.expect(201);
}

/// The call of a `GET` route by whoever may.
fn get(world: &World, route: &Route, ids: &Ids, visitor: &str) -> Call {
    let call = Call::get(own_path(route, ids));
    let agents = |way: &Way| {
        matches!(way, Way::Agent | Way::May(_) | Way::Holding(_) | Way::Oneself | Way::Reports | Way::Scoped)
    };
    match route.who {
        who if who.iter().any(agents) => call.token(&world.acme.token),
        who if who.contains(&Way::Visitor) => call.token(visitor),
        who if who.contains(&Way::Operator) => call.token(OPERATOR),
        _ => call,
    }
}

/// The same but for texts: as many of everything, under the same names.
fn same_but_for_texts(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Array(before), Value::Array(after)) => {
            before.len() == after.len()
                && before.iter().zip(after).all(|(before, after)| same_but_for_texts(before, after))
        }
        (Value::Object(before), Value::Object(after)) => {
            let texts = ["metadata", "file"];
            let names = |fields: &serde_json::Map<String, Value>| {
                fields.keys().filter(|name| !texts.contains(&name.as_str())).cloned().collect::<Vec<_>>()
            };
            names(before) == names(after)
                && names(before).iter().all(|name| same_but_for_texts(&before[name], &after[name]))
        }
        (Value::Bool(before), Value::Bool(after)) => before == after,
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => false,
        _ => true,
    }
}

/// What is wrong with an answer after the damage, if anything.
fn wrong(route: &Route, before: &Reply, after: &Reply) -> Option<String> {
    let file = route.path.contains("/files/");
    if file && after.status == 410 {
        return None;
    }
    if before.status != after.status {
        return Some(format!("{} became {}: {}", before.status, after.status, after.text));
    }
    // Two contracts have lists of plain words; those that can't be read are left out of them. An export leaves out what was
    // erased, and a conversation of which nothing else is left.
    let plain = ["/chats/", "/api/v1/", "/v1/export/"].iter().any(|start| route.path.starts_with(start));
    if !plain && !same_but_for_texts(&before.json, &after.json) {
        return Some(format!("it was\n{}\nand is\n{}", before.text, after.text));
    }
    let kept = before.text.matches("bystander words").count();
    (kept != after.text.matches("bystander words").count()).then(|| "another's words are gone".to_owned())
}

#[tokio::test]
async fn an_unreadable_text_fails_no_route() {
    let (list, _) = routes().take();
    let list: Vec<Route> = list.into_iter().filter(|route| route.method == "GET").collect();
    let mut problems = Vec::new();
    for damage in DAMAGES {
        let mut world = World::new().await;
        let (acme, wants) = (world.acme.clone(), THINGS.map(|thing| format!("{{{thing}}}")).concat());
        let (ids, visitor) = world.fresh(&acme, &format!("{wants}{{pipe}}{{source}}")).await;
        talk(&world, &ids, &visitor).await;
        let bystander = json!({ "name": "B", "initialMessage": "bystander words" });
        world.server.session(&acme, bystander).await;
        let mut before = Vec::new();
        for route in &list {
            before.push(world.server.call(get(&world, route, &ids, &visitor)).await);
        }
        let seen = before.iter().filter(|reply| reply.text.contains("bystander words")).count();
        assert!(seen >= 2, "the inbox and the export show the others too: {seen}");

        let persons: Vec<PersonId> = ["visitor", "agent"]
            .map(|name| PersonId(ids[name].parse().expect("an id")))
            .into_iter()
            .chain([PersonId(acme.owner.parse().expect("an id"))])
            .collect();
        damage.inflict(world.server.data_dir(), &persons);
        world.server.app.keys.forget(&persons);
        world.server.app.views.forget_names(&persons);
        let mut lost = 0;
        for (route, before) in list.iter().zip(&before) {
            let after = world.server.call(get(&world, route, &ids, &visitor)).await;
            assert!(!after.text.contains("damaged words"), "{damage:?}: {} still reads them", route.path);
            lost += usize::from(before.text.contains("damaged words"));
            if let Some(problem) = wrong(route, before, &after) {
                problems.push(format!("{damage:?}, GET {}: {problem}", route.path));
            }
        }
        assert!(lost >= 5, "too few routes showed the words before: {lost}");
    }
    assert!(problems.is_empty(), "{} answers fail for one text:\n{}", problems.len(), problems.join("\n"));
}

/// It shows as what it is: erased or damaged; an export keeps the place of what is damaged.
#[tokio::test]
async fn an_unreadable_text_says_so() {
    for (damage, word, exported) in [(Damage::KeyMissing, "erased", 0), (Damage::TextGarbled, "damaged", 1)] {
        let world = World::new().await;
        let (server, acme) = (&world.server, &world.acme);
        let session = server.session(acme, json!({ "name": "V", "initialMessage": "damaged words" })).await;
        let said = Call::post("/v1/widget/events", json!({ "content": "more" })).token(&text(&session["sessionToken"]));
        server.call(said).await.expect(201);
        let persons = [PersonId(text(&session["visitorId"]).parse().expect("an id"))];
        let track = json!({ "name": "seen", "page": "https://shop.example/", "properties": { "a": 1 } });
        for _ in 0..10 {
            let track = Call::post("/v1/widget/track", track.clone()).token(&text(&session["sessionToken"]));
            server.call(track).await.expect(200);
        }
        damage.inflict(server.data_dir(), &persons);
        server.app.keys.forget(&persons);
        let path = format!("/v1/threads/{}/events", text(&session["threadId"]));
        let page = server.call(Call::get(path).token(&acme.token)).await.expect(200);
        let messages: Vec<&Value> =
            page["items"].as_array().expect("items").iter().filter(|event| event["type"] == "message").collect();
        assert_eq!(messages.len(), 2);
        for message in messages {
            assert_eq!((&message["content"], &message["metadata"]), (&Value::Null, &json!({ "unreadable": word })));
        }
        let lines = server.call(Call::get("/v1/export/conversations").token(&acme.token)).await;
        assert_eq!(lines.text.lines().count(), exported, "{}", lines.text);
        assert_eq!(lines.text.matches("[this message can't be read]").count(), 2 * exported);
        // Nothing more is written about them; that is said, not failed.
        let more = Call::post("/v1/widget/events", json!({ "content": "more" })).token(&text(&session["sessionToken"]));
        if damage == Damage::KeyMissing {
            assert_eq!(server.call(more).await.expect(410)["code"], "person_erased");
        } else {
            server.call(more).await.expect(201);
        }
    }
}

/// An agent whose key is gone still signs in, and an import goes past a person whose key is damaged.
#[tokio::test]
async fn a_damaged_key_stops_neither_a_sign_in_nor_an_import() {
    let world = World::new().await;
    let (server, acme) = (&world.server, &world.acme);
    let line = |visitor: &str, chat: &str| {
        json!({
            "id": chat, "visitor": { "id": visitor, "name": "V" }, "tags": [], "resolved": true, "rating": null,
            "messages": [{ "at": "2024-01-01T00:00:00Z", "from": "visitor", "text": "hello" }],
        })
        .to_string()
    };
    let import = |lines: Vec<String>| {
        let call = Call::new("POST".parse().expect("a method"), "/v1/import/conversations").token(&acme.token);
        server.call(call.header("content-type", "application/x-ndjson").raw(lines.join("\n")))
    };
    let report = import(vec![line("broken", "one")]).await.expect(200);
    assert_eq!(report["imported"], 1, "{report}");
    let listed = server.call(Call::get("/v1/visitors").token(&acme.token)).await.expect(200);
    let visitor = PersonId(text(&listed["items"][0]["id"]).parse().expect("an id"));
    let owner = PersonId(acme.owner.parse().expect("an id"));
    Damage::KeyGarbled.inflict(server.data_dir(), &[visitor, owner]);
    server.app.keys.forget(&[visitor, owner]);
    let report = import(vec![line("broken", "two"), line("whole", "three")]).await.expect(200);
    assert_eq!((&report["imported"], &report["quarantined"][0]["code"]), (&json!(1), &json!("person_unreadable")));
    let body = json!({ "email": acme.email, "password": crate::support::PASSWORD });
    server.call(Call::post("/v1/auth/login", body).by_ip("203.0.113.9")).await.expect(200);
}
