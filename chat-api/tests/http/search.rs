//! `GET /v1/conversations?q=`: what a search of the inbox finds, for whom, and what it doesn't.

use crate::support::{Call, Server, Tenant, next_millisecond, text};
use chat_api::auth::identity;
use chat_api::names;
use ingest::id::VisitorId;
use ingest::time::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

/// The conversations that a query finds, in their order.
async fn found(server: &Server, token: &str, query: &str) -> Vec<String> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let page = server.call(Call::get(format!("/v1/conversations?q={encoded}")).token(token)).await.expect(200);
    assert_eq!(page["nextCursor"], Value::Null);
    page["items"].as_array().expect("items").iter().map(|chat| text(&chat["id"])).collect()
}

async fn chat(server: &Server, tenant: &Tenant, body: Value) -> (String, String, String) {
    let session = server.session(tenant, body).await;
    (text(&session["conversationId"]), text(&session["visitorId"]), text(&session["sessionToken"]))
}

async fn visitor(server: &Server, tenant: &Tenant, id: &str) -> Value {
    server.call(Call::get(format!("/v1/visitors/{id}")).token(&tenant.token)).await.expect(200)
}

#[tokio::test]
async fn q_finds_ids_the_readable_id_the_address_the_names_words_and_tags() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body = json!({ "name": "Anna-Lena Größe", "email": "anna@example.com", "initialMessage": "hi" });
    let (id, person, _) = chat(&server, &acme, body).await;
    let (other, ..) = chat(&server, &acme, json!({ "name": "Anna Meier", "initialMessage": "hi" })).await;
    next_millisecond().await;
    let path = format!("/v1/conversations/{id}/tags");
    server.call(Call::post(path, json!({ "add": ["Refund"] })).token(&acme.token)).await.expect(200);
    let readable = text(&visitor(&server, &acme, &person).await["readableId"]);
    for query in [&id, &person, &readable, "Anna@Example.com", "Refund", "größe", "LENA anna", " lena größe anna "]
    {
        assert_eq!(found(&server, &acme.token, query).await, std::slice::from_ref(&id), "{query}");
    }
    assert_eq!(found(&server, &acme.token, "anna").await, [id.clone(), other], "the newest change first");
    for query in ["ann", "example.com", "anna huber", "lena meier", "refund it", "hi"] {
        assert_eq!(found(&server, &acme.token, query).await, [""; 0], "{query}");
    }
    // A changed name is found by what it is now.
    let path = format!("/v1/visitors/{person}");
    server.call(Call::patch(path, json!({ "name": "Zoë" })).token(&acme.token)).await.expect(200);
    assert_eq!(found(&server, &acme.token, "zoë").await, std::slice::from_ref(&id));
    assert_eq!(found(&server, &acme.token, "größe").await, [""; 0]);
    assert_eq!(found(&server, &acme.token, "anna@example.com").await, [id], "the address is as it was");
}

#[tokio::test]
async fn operators_and_wildcards_in_q_are_just_text() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    chat(&server, &acme, json!({ "name": "Percy", "initialMessage": "hi" })).await;
    for query in [
        "%",
        "_",
        "*",
        "' OR 1=1 --",
        "\" OR \"\"=\"",
        "NOT Percy OR",
        "P%",
        "perc*",
        "name:Percy x",
        "\u{0}",
        "Percy;",
    ] {
        let names = query.trim_end_matches(';');
        let expected = usize::from(names == "Percy");
        if query.contains('\0') {
            let refused = server.call(Call::get("/v1/conversations?q=%00").token(&acme.token)).await.expect(422);
            assert_eq!(refused["field"], "q");
        } else {
            assert_eq!(found(&server, &acme.token, query).await.len(), expected, "{query}");
        }
    }
    let blank = server.call(Call::get("/v1/conversations?q=%20").token(&acme.token)).await.expect(200);
    assert_eq!(blank["items"].as_array().map(Vec::len), Some(1), "nothing is asked for");
}

#[tokio::test]
async fn q_finds_only_what_is_the_tenants_and_what_the_agent_may_see_within_the_other_filters() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let (ada, token) = server.agent(&acme, "Ada", "agent").await;
    let group = |name: &str, members: Vec<String>| {
        let body = json!({ "name": name, "routingStrategy": "least_loaded" });
        let (server, acme) = (&server, &acme);
        async move {
            let made = server.call(Call::post("/v1/groups", body).token(&acme.token)).await.expect(201);
            let path = format!("/v1/groups/{}/agents", text(&made["id"]));
            if !members.is_empty() {
                server.call(Call::post(path, json!({ "agentIds": members })).token(&acme.token)).await.expect(200);
            }
            text(&made["id"])
        }
    };
    let (own, others) = (group("Own", vec![ada]).await, group("Others", Vec::new()).await);
    let body = |group: &str| json!({ "name": "Vera", "email": "v@x.com", "initialMessage": "hi", "groupId": group });
    let (mine, ..) = chat(&server, &acme, body(&own)).await;
    let (hidden, hidden_person, _) = chat(&server, &acme, body(&others)).await;
    let foreign = json!({ "name": "Vera", "email": "v@x.com", "initialMessage": "hi" });
    let (foreign, foreign_person, _) = chat(&server, &globex, foreign).await;
    for query in ["vera", "v@x.com"] {
        assert_eq!(found(&server, &token, query).await, std::slice::from_ref(&mine));
        assert_eq!(found(&server, &acme.token, query).await, [hidden.clone(), mine.clone()]);
        assert_eq!(found(&server, &globex.token, query).await, std::slice::from_ref(&foreign));
    }
    for query in [&hidden, &hidden_person, &foreign, &foreign_person] {
        assert_eq!(found(&server, &token, query).await, [""; 0], "{query}");
    }
    for query in [&foreign, &foreign_person] {
        assert_eq!(found(&server, &acme.token, query).await, [""; 0], "{query}");
    }
    for (filters, count) in [
        (format!("groupId={own}"), 1),
        ("status=pending".to_owned(), 2),
        ("status=closed".to_owned(), 0),
        ("assignee=none&sort=createdAt".to_owned(), 2),
        ("assignee=me".to_owned(), 0),
        ("tag=none".to_owned(), 0),
    ] {
        let path = format!("/v1/conversations?q=vera&{filters}");
        let page = server.call(Call::get(path).token(&acme.token)).await.expect(200);
        assert_eq!(page["items"].as_array().map(Vec::len), Some(count), "{filters}");
    }
    // Page by page, in both orders.
    for sort in ["updatedAt", "-createdAt"] {
        let path = format!("/v1/conversations?q=vera&limit=1&sort={sort}");
        let one = server.call(Call::get(&path).token(&acme.token)).await.expect(200);
        let path = format!("{path}&cursor={}", text(&one["nextCursor"]));
        let two = server.call(Call::get(path).token(&acme.token)).await.expect(200);
        let mut both = [text(&one["items"][0]["id"]), text(&two["items"][0]["id"])];
        assert_eq!(both[0] == hidden, sort == "-createdAt");
        both.sort();
        let mut expected = [mine.clone(), hidden.clone()];
        expected.sort();
        assert_eq!((both, &two["nextCursor"]), (expected, &Value::Null));
    }
}

#[tokio::test]
async fn who_was_merged_is_found_as_who_they_turned_out_to_be() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body = json!({ "name": "Vera", "email": "v@x.com", "initialMessage": "hi" });
    let (id, person, token) = chat(&server, &acme, body).await;
    let readable = text(&visitor(&server, &acme, &person).await["readableId"]);
    let secret = identity::secret(&server.app.key_file, acme.chatbot.parse().expect("an id"), 1);
    let expires = Timestamp::now().0 / 1_000 + 300;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let hash = hex::encode(hmac::sign(&key, format!("u1.{expires}").as_bytes()));
    let body = json!({ "userId": "u1", "userHash": hash, "userHashExp": expires });
    server.call(Call::post("/v1/widget/identify", body).token(&token)).await.expect(200);
    for query in ["vera", "v@x.com", &readable, &person] {
        assert_eq!(found(&server, &acme.token, query).await, std::slice::from_ref(&id), "{query}");
    }
}

#[tokio::test]
async fn erased_people_are_not_found() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let body = json!({ "name": "Vera Unforgotten", "email": "v@x.com", "initialMessage": "hi" });
    let (_, person, _) = chat(&server, &acme, body).await;
    let readable = text(&visitor(&server, &acme, &person).await["readableId"]);
    server.call(Call::delete(format!("/v1/visitors/{person}")).token(&acme.token)).await.expect(200);
    for query in ["vera", "unforgotten", "vera unforgotten", "v@x.com", &readable] {
        assert_eq!(found(&server, &acme.token, query).await, [""; 0], "{query}");
    }
    let rows = |table: &'static str| {
        let sql = format!("SELECT count(*) FROM {table}");
        server.app.pool.read(|connection| connection.query_row(&sql, [], |row| row.get::<_, i64>(0))).expect("a count")
    };
    assert_eq!((rows("visitor_names"), rows("visitor_emails")), (0, 0));
}

#[tokio::test]
async fn accents_and_case_of_names_dont_count() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (jose, ..) = chat(&server, &acme, json!({ "name": "José Müller-Łukasz", "initialMessage": "hi" })).await;
    let (plain, ..) = chat(&server, &acme, json!({ "name": "Jose Strasse", "initialMessage": "hi" })).await;
    for query in ["jose muller", "JOSÉ MÜLLER", "Lukasz", "łukasz josé", "Jose\u{301} muller"] {
        assert_eq!(found(&server, &acme.token, query).await, std::slice::from_ref(&jose), "{query}");
    }
    assert_eq!(found(&server, &acme.token, "José Straße").await, [plain], "what is written without is found with");
    assert_eq!(found(&server, &acme.token, "mueller").await, [""; 0], "an accent is left out, not written otherwise");
}

/// What was written before accents were left out: found as it was, and by both once it is brought up to date.
#[tokio::test]
async fn names_that_were_there_before_are_brought_up_to_date() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (chat_of, person, _) = chat(&server, &acme, json!({ "name": "José Müller", "initialMessage": "hi" })).await;
    let (_, erased, _) = chat(&server, &acme, json!({ "name": "Zoë", "initialMessage": "hi" })).await;
    chat(&server, &acme, json!({ "name": "Plain", "initialMessage": "hi" })).await;
    let old = |words: &str| server.app.key_file.lookup("name", format!("{}\n{words}", acme.id).as_bytes());
    let rows = [(person, old("josé")), (erased.clone(), old("zoë"))];
    let forget = move |connection: &rusqlite::Connection| {
        for (visitor, hmac) in &rows {
            let id = *visitor.parse::<VisitorId>().expect("an id").bytes();
            let (tenant, at): ([u8; 16], i64) =
                connection.query_row("SELECT tenant, at FROM visitor_names WHERE visitor = ?1", [id], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            connection.execute("DELETE FROM visitor_names WHERE visitor = ?1", [id])?;
            connection.execute("INSERT INTO visitor_names VALUES (?1, ?2, ?3, ?4)", (tenant, hmac, at, id))?;
        }
        connection.execute("UPDATE names_folded SET done = 0", ()).map(drop)
    };
    server.app.writer.transact(forget).await.expect("written");
    let path = format!("/v1/visitors/{erased}");
    server.call(Call::delete(path).token(&acme.token)).await.expect(200);
    assert_eq!(found(&server, &acme.token, "José").await, std::slice::from_ref(&chat_of), "as it was");
    assert_eq!(found(&server, &acme.token, "jose").await, [""; 0]);
    assert_eq!(names::bring_up_to_date(&server.app).await.expect("read and written"), 1);
    for query in ["jose", "José", "muller jose"] {
        assert_eq!(found(&server, &acme.token, query).await, std::slice::from_ref(&chat_of), "{query}");
    }
    assert_eq!(found(&server, &acme.token, "zoe").await, [""; 0], "who was erased is found by nothing");
    assert_eq!(names::bring_up_to_date(&server.app).await.expect("nothing to do"), 0);
}
