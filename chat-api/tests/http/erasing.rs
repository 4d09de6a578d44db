//! Who was erased stays so, whatever is imported, repeated, merged or under way at the time. A rebuild says the same.

use crate::support::{Call, Reply, Server, Tenant, text};
use axum::http::Method;
use chat_api::core::command::{Command, CommandKind};
use chat_api::store::hash::state_hash;
use futures_util::future::join_all;
use ingest::event::Actor;
use ingest::id::{EventId, PersonId, TenantId, VisitorId};
use ingest::seal::Text;
use serde_json::{Value, json};

fn line(visitor: &str, chat: &str, words: &str) -> String {
    json!({
        "id": chat,
        "visitor": { "id": visitor, "name": "Zebulon", "email": "zebulon@quick.example" },
        "agent": { "id": "a1", "name": "Ada" },
        "tags": [], "resolved": true, "rating": 4,
        "messages": [
            { "at": "2024-01-01T00:00:00Z", "from": "visitor", "text": words },
            { "at": "2024-01-01T00:01:00Z", "from": "agent", "text": "we see to it" },
        ],
    })
    .to_string()
}

/// A transcript of somebody else.
fn bea(chat: &str) -> String {
    line("v2", chat, "bystander words").replace("Zebulon", "Bea").replace("zebulon@", "bea@")
}

async fn import(server: &Server, tenant: &Tenant, lines: &[String]) -> Value {
    loop {
        let call = Call::new(Method::POST, "/v1/import/conversations").token(&tenant.token);
        let call = call.header("content-type", "application/x-ndjson").raw(lines.join("\n"));
        let reply = server.call(call).await;
        // Those that are sent at once take turns.
        if reply.json["code"] != "import_under_way" {
            return reply.expect(200);
        }
        tokio::task::yield_now().await;
    }
}

async fn erase(server: &Server, tenant: &Tenant, visitor: &str) -> Reply {
    server.call(Call::delete(format!("/v1/visitors/{visitor}")).token(&tenant.token)).await
}

async fn all(server: &Server, tenant: &Tenant) -> String {
    let mut seen = String::new();
    for path in ["/v1/conversations", "/v1/visitors", "/v1/export/conversations", "/v1/audit"] {
        let reply = server.call(Call::get(path).token(&tenant.token)).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        seen.push_str(&reply.text);
    }
    seen
}

/// The visitor of an imported conversation.
async fn visitor_of(server: &Server, tenant: &Tenant, name: &str) -> String {
    let listed = server.call(Call::get("/v1/visitors").token(&tenant.token)).await.expect(200);
    let found = listed["items"].as_array().expect("items").iter().find(|visitor| visitor["name"] == name);
    text(&found.expect("a visitor of this name")["id"])
}

fn keys(server: &Server, visitor: &str) -> i64 {
    let id: uuid::Uuid = visitor.parse().expect("an id");
    let sql = "SELECT (SELECT count(*) FROM person_keys WHERE person = ?1)
             + (SELECT count(*) FROM visitor_emails WHERE visitor = ?1)
             + (SELECT count(*) FROM visitor_names WHERE visitor = ?1)";
    server.app.pool.read(|c| c.query_row(sql, [id.as_bytes()], |row| row.get(0))).expect("a count")
}

fn rebuilt_is_the_same(server: &Server) {
    assert_eq!(server.app.pool.read(state_hash).expect("a hash"), server.replayed_state_hash());
}

/// The issue's own story: the words stay gone, the inbox and the export stay whole, for everyone else too.
#[tokio::test]
async fn an_import_brings_no_erased_person_back() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let lines = [line("v1", "c1", "my xylophone broke"), bea("c2")];
    assert_eq!(import(&server, &acme, &lines).await["imported"], 2);
    let visitor = visitor_of(&server, &acme, "Zebulon").await;
    erase(&server, &acme, &visitor).await.expect(200);

    let more = [line("v1", "c3", "my harp broke"), bea("c4")];
    let report = import(&server, &acme, &more).await;
    assert_eq!((&report["imported"], &report["skipped"]), (&json!(1), &json!(0)));
    assert_eq!(report["quarantined"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&report["quarantined"][0]["line"], &report["quarantined"][0]["code"]),
        (&json!(1), &json!("person_erased"))
    );
    // What is there already is there already: importing it again changes nothing and is nobody's fault.
    assert_eq!(import(&server, &acme, &lines).await["skipped"], 2);
    erase(&server, &acme, &visitor).await.expect(200);

    let seen = all(&server, &acme).await;
    assert!(seen.contains("bystander words"));
    for word in ["xylophone", "harp", "Zebulon", "zebulon@quick.example"] {
        assert!(!seen.contains(word), "{word}: {seen}");
    }
    assert_eq!(keys(&server, &visitor), 0);
    // Who comes back comes as someone new.
    assert_eq!(import(&server, &acme, &[line("v1-again", "c5", "a new harp")]).await["imported"], 1);
    assert!(all(&server, &acme).await.contains("a new harp"));
    rebuilt_is_the_same(&server);
}

/// A directory in which it has happened: the texts show as gone, and erasing again destroys the key that came after.
#[tokio::test]
async fn erasing_again_destroys_whatever_key_is_there() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    import(&server, &acme, &[line("v1", "c1", "my xylophone broke"), bea("c2")]).await;
    let visitor = visitor_of(&server, &acme, "Zebulon").await;
    erase(&server, &acme, &visitor).await.expect(200);
    // As an earlier version left it: a new key for the erased person, an address, a name.
    let person = PersonId(visitor.parse().expect("an id"));
    let (key, new) = server.app.keys.get_or_create(person).expect("a key");
    let sealed = key.seal("read me").expect("sealed");
    let new = new.expect("a new key");
    let id = visitor.parse::<uuid::Uuid>().expect("an id");
    let tenant: TenantId = acme.id.parse().expect("an id");
    let store = move |c: &rusqlite::Connection| {
        new.store(c)?;
        c.execute("INSERT INTO visitor_emails VALUES (?1, 'h', ?2)", (tenant.bytes(), id.as_bytes()))?;
        c.execute("INSERT INTO visitor_names VALUES (?1, 'h', 1, ?2)", (tenant.bytes(), id.as_bytes())).map(drop)
    };
    server.app.writer.transact(store).await.expect("stored");
    server.app.keys.confirm(person, true);
    assert_eq!(keys(&server, &visitor), 3);
    assert_eq!(server.app.keys.open(&sealed).expect("reads"), Text::Readable("read me".to_owned()));
    assert!(all(&server, &acme).await.contains("bystander words"), "the texts of the first key fail nothing");

    erase(&server, &acme, &visitor).await.expect(200);
    assert_eq!(keys(&server, &visitor), 0);
    assert_eq!(server.app.keys.open(&sealed).expect("reads").or_none(), None, "the key is in memory no more");
    all(&server, &acme).await;
    rebuilt_is_the_same(&server);
}

/// Whatever is under way when a person is erased, and whenever it arrives: nothing of it can be read after.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn erasing_wins_over_what_is_under_way() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    for round in 0..6 {
        let who = format!("v{round}");
        import(&server, &acme, &[line(&who, &format!("first{round}"), "secret words")]).await;
        let visitor = visitor_of(&server, &acme, "Zebulon").await;
        let session =
            server.session(&acme, json!({ "name": format!("W{round}"), "initialMessage": "secret words" })).await;
        let (writer, token) = (text(&session["visitorId"]), text(&session["sessionToken"]));
        let imports = (0..8).map(|number| {
            let lines = [line(&who, &format!("c{round}-{number}"), "secret words")];
            let (server, acme) = (&server, &acme);
            async move { import(server, acme, &lines).await }
        });
        let say = |number: usize| {
            Call::post("/v1/widget/events", json!({ "content": format!("secret words {number}") })).token(&token)
        };
        let says = (0..8).map(|number| server.call(say(number)));
        let (imported, said, first, second) = tokio::join!(
            join_all(imports),
            join_all(says),
            erase(&server, &acme, &visitor),
            erase(&server, &acme, &writer)
        );
        first.expect(200);
        second.expect(200);
        for report in imported {
            let refused = report["quarantined"].as_array().expect("a list");
            assert!(refused.iter().all(|line| line["code"] == "person_erased"), "{report}");
        }
        let codes: Vec<u16> = said.iter().map(|reply| reply.status.as_u16()).collect();
        assert!(codes.iter().all(|code| [201, 401, 404, 410].contains(code)), "{codes:?}");
        for id in [&visitor, &writer] {
            assert_eq!(keys(&server, id), 0);
            let person = PersonId(id.parse().expect("an id"));
            assert!(server.app.keys.get(person).expect("reads").is_none(), "a destroyed key is in memory");
        }
    }
    assert!(!all(&server, &acme).await.contains("secret words"));
    rebuilt_is_the_same(&server);
}

/// Aliases: who was merged goes with who they turned out to be; neither can be merged, written as or imported after.
#[tokio::test]
async fn merged_people_are_erased_together() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let vouched = |user: &str| crate::visitors::vouched(&server, &acme, user, json!({}));
    let mut sessions = Vec::new();
    for name in ["Ann", "Bob"] {
        let session = server.session(&acme, json!({ "name": name, "initialMessage": "secret words" })).await;
        let call = Call::post("/v1/widget/identify", vouched("u")).token(&text(&session["sessionToken"]));
        let identified = server.call(call).await.expect(200);
        sessions.push((session, text(&identified["sessionToken"]), text(&identified["visitorId"])));
    }
    let user = sessions[0].2.clone();
    assert_eq!(user, sessions[1].2);
    let aliases: Vec<String> = sessions.iter().map(|(session, _, _)| text(&session["visitorId"])).collect();
    assert_eq!(erase(&server, &acme, &aliases[0]).await.expect(409)["code"], "visitor_merged");
    assert!(keys(&server, &aliases[0]) > 0);
    erase(&server, &acme, &user).await.expect(200);
    // Now the alias is erased too, and erasing it is a repeat.
    erase(&server, &acme, &aliases[0]).await.expect(200);
    for id in aliases.iter().chain([&user]) {
        assert_eq!(keys(&server, id), 0);
    }
    for (session, token, _) in &sessions {
        for token in [token, &text(&session["sessionToken"])] {
            server.call(Call::get("/v1/widget/conversation").token(token)).await.expect(401);
            server.call(Call::post("/v1/widget/identify", vouched("u")).token(token)).await.expect(401);
        }
    }
    // A merge that was decided before and arrives after is refused by the writer.
    let target = chat_api::core::command::NewVisitor::anonymous(user.parse().expect("an id"), "x".to_owned());
    let stranger = server.session(&acme, json!({})).await;
    let source: VisitorId = text(&stranger["visitorId"]).parse().expect("an id");
    let command = Command {
        tenant: acme.id.parse().expect("an id"),
        actor: Actor::Visitor(source),
        first_event: EventId::fresh(),
        request: None,
        cause: None,
        kind: CommandKind::IdentifyVisitor { source, target },
    };
    let refused = server.app.submit(command).await.expect("decided").expect_err("refused");
    assert_eq!(refused.code, "person_erased");
    // The person may come back: as someone new, under another id and another key.
    let back = server.session(&acme, vouched("u")).await;
    assert_ne!(text(&back["visitorId"]), user);
    assert!(!all(&server, &acme).await.contains("secret words"));
    rebuilt_is_the_same(&server);
}
