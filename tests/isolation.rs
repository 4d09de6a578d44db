//! Tenant B sees nothing of tenant A, through any route, socket or SQL.

mod support;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Server, Tenant, http_client};
use tokio_tungstenite::tungstenite::Message;

const SECRET: &str = "xylophone-4711";

/// A conversation of a tenant with a secret in it, and its visitor's token.
async fn conversation(server: &Server, tenant: &Tenant) -> (Value, Value) {
    let body = json!({ "name": SECRET, "email": format!("{SECRET}@mail.example"), "initialMessage": SECRET });
    let session = server.session(&tenant.chatbot_key, body).await;
    let id = session["conversationId"].as_str().expect("an id");
    let path = format!("/v1/conversations/{id}/take");
    let chat = server.post(&path, &tenant.token, json!({})).await;
    server.post(&format!("/v1/conversations/{id}/tags"), &tenant.token, json!({ "add": [SECRET] })).await;
    (session, chat)
}

/// Every route that takes an id, with A's id in it.
fn routes_with(a: &Tenant, session: &Value, chat: &Value) -> Vec<(Method, String, Option<Value>)> {
    let chat_id = session["conversationId"].as_str().expect("an id");
    let thread = chat["activeThreadId"].as_str().expect("a thread");
    let mut routes = vec![
        (Method::GET, format!("/v1/conversations/{chat_id}"), None),
        (Method::GET, format!("/v1/conversations/{chat_id}/threads"), None),
        (Method::GET, format!("/v1/conversations/{chat_id}/assignments"), None),
        (Method::GET, format!("/v1/threads/{thread}/events"), None),
        (Method::POST, format!("/v1/threads/{thread}/events"), Some(json!({ "type": "message", "content": "hi" }))),
        (Method::POST, format!("/v1/conversations/{chat_id}/assign"), Some(json!({ "agentId": a.agent }))),
        (Method::POST, format!("/v1/conversations/{chat_id}/tags"), Some(json!({ "add": ["x"] }))),
        (Method::GET, format!("/v1/agents/{}", a.agent), None),
        (Method::PATCH, format!("/v1/agents/{}", a.agent), Some(json!({ "name": "Eve" }))),
        (Method::PUT, format!("/v1/agents/{}/status", a.agent), Some(json!({ "status": "offline" }))),
        (Method::GET, format!("/v1/chatbots/{}", a.chatbot_id), None),
        (Method::PATCH, format!("/v1/chatbots/{}", a.chatbot_id), Some(json!({ "name": "Eve" }))),
    ];
    for turn in ["take", "unassign", "resolve", "reopen", "close"] {
        routes.push((Method::POST, format!("/v1/conversations/{chat_id}/{turn}"), Some(json!({}))));
    }
    routes
}

#[tokio::test]
async fn another_tenants_ids_are_as_unknown_as_ids_that_never_were() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let (a, b) = (server.tenant("Alpha").await, server.tenant("Beta").await);
    let (session, chat) = conversation(&server, &a).await;
    let before = server.get(&format!("/v1/conversations/{}", chat["id"].as_str().expect("an id")), &a.token).await;

    for (method, path, body) in routes_with(&a, &session, &chat) {
        let foreign = server.call(method.clone(), &path, &b.token, body.clone()).await;
        assert_eq!(foreign.0, 404, "{method} {path}: {}", foreign.1);
        let unknown = [chat["id"].as_str(), chat["activeThreadId"].as_str(), Some(&a.agent), Some(&a.chatbot_id)]
            .into_iter()
            .flatten()
            .fold(path.clone(), |path, id| path.replace(id, "01900000-0000-7000-8000-00000000dead"));
        let never = server.call(method.clone(), &unknown, &b.token, body).await;
        assert_eq!(foreign, never, "{method} {path}: a foreign id and one that never was look the same");
    }
    let after = server.get(&format!("/v1/conversations/{}", chat["id"].as_str().expect("an id")), &a.token).await;
    assert_eq!(before, after, "nothing has changed for A");

    let b_visitor = server.session(&b.chatbot_key, json!({})).await;
    let b_visitor_token = b_visitor["sessionToken"].as_str().expect("a token");
    for (path, token) in [
        ("/v1/conversations?status=active", b.token.as_str()),
        ("/v1/conversations?status=pending", &b.token),
        ("/v1/agents", &b.token),
        ("/v1/chatbots", &b.token),
        ("/v1/tenants/me", &b.token),
        ("/v1/widget/conversation", b_visitor_token),
        ("/v1/widget/conversations", b_visitor_token),
    ] {
        let answer = server.get(path, token).await.to_string();
        for word in [SECRET, &a.id, &a.agent, &a.chatbot_id] {
            assert!(!answer.contains(word), "{path} shows {word}: {answer}");
        }
    }
    // A visitor's token is no agent's, and the other way round.
    assert_eq!(server.call(Method::GET, "/v1/conversations?status=active", b_visitor_token, None).await.0, 401);
    assert_eq!(server.call(Method::GET, "/v1/widget/conversation", &b.token, None).await.0, 401);
    assert_eq!(server.call(Method::GET, "/v0/pipes/live.json", b_visitor_token, None).await.0, 403);
}

#[tokio::test]
async fn sql_and_endpoints_show_the_tokens_tenant_only() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let (a, b) = (server.tenant("Alpha").await, server.tenant("Beta").await);
    conversation(&server, &a).await;
    let http = http_client(60);
    let sql = async |token: &str, q: &str| -> (u16, Value) {
        let request = http.get(format!("{}/v0/sql", server.base)).query(&[("q", q)]).bearer_auth(token);
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    };
    for table in ["messages", "conversations", "resolutions", "ratings", "usage_minute", "queue"] {
        let (status, answer) = sql(&b.report_token, &format!("SELECT * FROM {table}")).await;
        assert_eq!((status, &answer["rows"]), (200, &json!(0)), "{table}: {answer}");
    }
    assert_eq!(sql(&a.report_token, "SELECT count(*) AS n FROM messages").await.1["data"][0]["n"], 1);
    let (_, agents) = sql(&b.report_token, "SELECT agent_id FROM agents").await;
    assert_eq!(agents["data"], json!([{ "agent_id": b.agent }]));

    for hostile in [
        format!("SELECT * FROM messages WHERE conversation_id IN (SELECT id FROM '{}')", a.id),
        "SELECT * FROM information_schema.tables".to_owned(),
        "SELECT * FROM read_parquet('facts/**/*.parquet')".to_owned(),
        format!("SELECT * FROM '{}/facts'", dir.path().display()),
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/'".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
        "COPY messages TO '/tmp/x'".to_owned(),
        "SET datafusion.catalog.default_schema = 'x'".to_owned(),
    ] {
        let (status, answer) = sql(&b.report_token, &hostile).await;
        assert!((400..500).contains(&status), "{hostile}: {status} {answer}");
        // A refusal may repeat what the caller sent, but nothing that only A knows.
        for word in [SECRET, &a.agent, &a.chatbot_id] {
            assert!(!answer.to_string().contains(word), "{hostile} must not show A: {answer}");
        }
    }
    let usage = server.get("/v0/pipes/usage.json?granularity=total", &b.report_token).await;
    assert_eq!(usage["data"][0]["messages_visitor"], 0);
    // Scopes hold: a token for one endpoint reads neither others nor tables.
    let body = json!({ "name": "narrow", "scopes": [{ "type": "PIPES:READ", "resource": "usage" }] });
    let narrow = server.post("/v0/tokens/", &a.token, body).await;
    let narrow = narrow["token"].as_str().expect("a token");
    assert_eq!(server.call(Method::GET, "/v0/pipes/usage.json", narrow, None).await.0, 200);
    assert_eq!(server.call(Method::GET, "/v0/pipes/live.json", narrow, None).await.0, 403);
    assert_eq!(sql(narrow, "SELECT * FROM messages").await.0, 403);
}

/// Frames of a socket until it says nothing for half a second.
async fn frames(base: &str, sent: &[Value]) -> Vec<Value> {
    let url = format!("{}/v1/realtime", base.replacen("http", "ws", 1));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("opens");
    for frame in sent {
        socket.send(Message::text(frame.to_string())).await.expect("sent");
    }
    let mut seen = Vec::new();
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(std::time::Duration::from_millis(500), socket.next()).await {
        if let Message::Text(text) = frame {
            seen.push(serde_json::from_str(&text).expect("JSON"));
        }
    }
    seen
}

#[tokio::test]
async fn sockets_show_the_tokens_tenant_only() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let (a, b) = (server.tenant("Alpha").await, server.tenant("Beta").await);
    let (session, _) = conversation(&server, &a).await;
    let subscribe = json!({ "type": "subscribe", "conversationId": session["conversationId"], "after": 0 });
    let inbox = json!({ "type": "subscribe", "topic": "inbox" });
    let auth = |token: &str| json!({ "type": "auth", "token": token });

    let own = frames(&server.base, &[auth(&a.token), subscribe.clone()]).await;
    assert!(own.iter().any(|frame| frame.to_string().contains(SECRET)), "A's agent sees it: {own:?}");

    let b_visitor = server.session(&b.chatbot_key, json!({})).await;
    let a_other = server.session(&a.chatbot_key, json!({})).await;
    for token in [&json!(b.token), &b_visitor["sessionToken"], &a_other["sessionToken"]] {
        let token = token.as_str().expect("a token");
        let listening = tokio::spawn({
            let (base, sent) = (server.base.clone(), vec![auth(token), subscribe.clone(), inbox.clone()]);
            async move { frames(&base, &sent).await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let visitor = session["sessionToken"].as_str().expect("a token");
        server.post("/v1/widget/events", visitor, json!({ "content": SECRET })).await;
        let seen = listening.await.expect("listened");
        let text = json!(seen).to_string();
        assert!(!text.contains(SECRET) && !text.contains(&a.agent), "a stranger's socket shows {text}");
        assert!(seen.iter().any(|frame| frame["code"] == "not_found"), "and says so: {text}");
    }
}
