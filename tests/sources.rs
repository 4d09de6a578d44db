//! A tenant's own data sources and endpoints on the real server: rows are in the next query, in their quarantine, only in
//! their tenant's; they outlive `kill -9` and come out equal of a rebuild.

mod support;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::io::Write as _;
use support::{Server, Tenant, http_client, run};

async fn token(server: &Server, tenant: &Tenant, scopes: Value) -> String {
    let made = server.post("/v0/tokens/", &tenant.token, json!({ "name": "t", "scopes": scopes })).await;
    made["token"].as_str().expect("a token").to_owned()
}

/// A token that may do everything with data sources and endpoints.
async fn writer(server: &Server, tenant: &Tenant) -> String {
    let kinds = ["DATASOURCES:CREATE", "DATASOURCES:READ", "PIPES:CREATE", "PIPES:READ"];
    token(server, tenant, json!(kinds.map(|kind| json!({ "type": kind })))).await
}

async fn post(server: &Server, path: &str, token: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let request = http_client(60).post(format!("{}{path}", server.base)).bearer_auth(token).body(body);
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.expect("a body")).unwrap_or_default())
}

async fn sql(server: &Server, token: &str, q: &str) -> Value {
    // A thread that waits for a processor isn't behind for good.
    for _ in 0..30 {
        let (status, answer) = post(server, "/v0/sql", token, q.to_owned()).await;
        if status != 503 {
            assert_eq!(status, 200, "{q}: {answer}");
            return answer["data"].clone();
        }
    }
    panic!("the facts stay behind the log");
}

async fn refused(server: &Server, token: &str, q: &str) -> u16 {
    post(server, "/v0/sql", token, q.to_owned()).await.0
}

#[tokio::test]
async fn the_newest_row_is_in_the_next_query() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = server.tenant("Acme").await;
    let append = token(&server, &acme, json!([{ "type": "DATASOURCES:APPEND", "resource": "orders" }])).await;
    let rows = "{\"id\":1,\"userId\":\"u1\",\"shop\":{\"city\":\"Graz\"},\"tags\":[\"a\",\"b\"],\"at\":\"2024-05-01T10:00:00Z\"}\n{\"id\":2,\"userId\":\"u2\"}";
    let (status, answer) = post(&server, "/v0/events?name=Orders", &append, rows).await;
    assert_eq!((status, answer), (202, json!({ "successful_rows": 2, "quarantined_rows": 0 })));
    for id in 3..20 {
        let row = json!({ "id": id, "userId": "u3" }).to_string();
        let (status, _) = post(&server, "/v0/events?name=orders&wait=true", &append, row).await;
        assert_eq!(status, 200);
        let n = sql(&server, &acme.report_token, "SELECT count(*) AS n, max(id) AS m FROM orders").await;
        assert_eq!(n, json!([{ "n": id, "m": id }]));
    }
    // Columns keep their case, without quotes.
    let q = "SELECT o.userId, shop_city, tags, at FROM Orders o WHERE userId = 'u1'";
    let row = json!([{ "userId": "u1", "shop_city": "Graz", "tags": ["a", "b"], "at": "2024-05-01 10:00:00.000" }]);
    assert_eq!(sql(&server, &acme.report_token, q).await, row);
    let described = server.get("/v0/datasources/orders", &acme.report_token).await;
    assert_eq!(described["statistics"]["row_count"], 19);
    assert_eq!(
        described["columns"][0],
        json!({ "name": "id", "normalized_name": "id", "type": "Nullable(Int64)", "nullable": true, "jsonpath": "$.id" })
    );
    // They join with what ships.
    server.session(&acme.chatbot_key, json!({ "initialMessage": "hello" })).await;
    let q = "SELECT count(*) AS n FROM orders, messages WHERE id = seq";
    assert_eq!(sql(&server, &acme.report_token, q).await, json!([{ "n": 1 }]));
    server.stop();
}

#[tokio::test]
async fn tenants_see_their_own_sources_only() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let (ours, theirs) = (writer(&server, &acme).await, writer(&server, &globex).await);
    post(&server, "/v0/events?name=orders", &ours, r#"{"secret":"acme's"}"#).await;
    post(&server, "/v0/events?name=orders", &theirs, r#"{"secret":"globex's","n":1}"#).await;
    post(&server, "/v0/events?name=only_ours", &ours, r#"{"secret":"acme's"}"#).await;
    assert_eq!(sql(&server, &ours, "SELECT * FROM orders").await, json!([{ "secret": "acme's" }]));
    assert_eq!(sql(&server, &theirs, "SELECT * FROM orders").await, json!([{ "secret": "globex's", "n": 1 }]));
    assert_eq!(refused(&server, &theirs, "SELECT * FROM only_ours").await, 404);
    assert_eq!(refused(&server, &theirs, "SELECT * FROM only_ours_quarantine").await, 404);
    for (method, path) in [
        (Method::GET, "/v0/datasources/only_ours"),
        (Method::DELETE, "/v0/datasources/only_ours"),
        (Method::POST, "/v0/datasources/only_ours/truncate"),
        (Method::GET, "/v0/pipes/secret.json"),
        (Method::GET, "/v0/pipes/secret"),
        (Method::DELETE, "/v0/pipes/secret"),
    ] {
        if path.contains("pipes") {
            let (status, answer) =
                post(&server, "/v0/pipes?name=secret", &ours, "NODE n\nSQL >\n    SELECT * FROM only_ours\n").await;
            assert_eq!(status, 200, "{answer}");
        }
        assert_eq!(server.call(method, path, &theirs, None).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let listed =
        server.get("/v0/datasources", &theirs).await.to_string() + &server.get("/v0/pipes", &theirs).await.to_string();
    assert!(!listed.contains("only_ours") && !listed.contains("secret.json"), "{listed}");
    assert_eq!(sql(&server, &ours, "SELECT * FROM only_ours").await, json!([{ "secret": "acme's" }]));
    server.stop();
}

#[tokio::test]
async fn scopes_and_filters_hold_for_own_sources() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = server.tenant("Acme").await;
    let all = writer(&server, &acme).await;
    post(&server, "/v0/events?name=orders", &all, "{\"id\":1,\"shop\":\"a\"}\n{\"id\":2,\"shop\":\"b\"}\noops").await;
    let read = |filter: &str| json!([{ "type": "DATASOURCES:READ", "resource": "orders", "filter": filter }]);
    let narrow = token(&server, &acme, read("shop = 'a'")).await;
    for q in ["SELECT id FROM orders", "SELECT id FROM public.orders WHERE shop = 'b' OR true"] {
        assert_eq!(sql(&server, &narrow, q).await, json!([{ "id": 1 }]), "{q}");
    }
    // The quarantine is a table of its own: who may read some rows of a source may not read those.
    assert_eq!(refused(&server, &narrow, "SELECT * FROM orders_quarantine").await, 403);
    let append = token(&server, &acme, json!([{ "type": "DATASOURCES:APPEND", "resource": "orders" }])).await;
    assert_eq!(post(&server, "/v0/events?name=orders", &append, r#"{"id":3}"#).await.0, 202);
    for (path, token, status) in [
        ("/v0/events?name=other", &append, 403),
        ("/v0/datasources?name=orders&mode=replace&format=ndjson", &append, 403),
        ("/v0/datasources/orders/truncate", &append, 403),
        ("/v0/events?name=orders", &narrow, 403),
        // Without scopes a token reads.
        ("/v0/events?name=orders", &acme.report_token, 403),
        ("/v0/pipes?name=p", &acme.report_token, 403),
        ("/v0/pipes?name=p", &append, 403),
        ("/v0/events?name=messages", &all, 400),
        ("/v0/events?name=threads", &all, 400),
        ("/v0/events?name=x_quarantine", &all, 400),
        ("/v0/events?name=a-b", &all, 400),
        ("/v0/events", &all, 400),
        ("/v0/pipes?name=usage", &all, 400),
    ] {
        assert_eq!(post(&server, path, token, r#"{"id":4}"#).await.0, status, "{path}");
    }
    assert_eq!(refused(&server, &append, "SELECT * FROM orders").await, 403);
    let body = json!({ "name": "t", "scopes": read("no_such_column = 1") });
    assert_eq!(server.call(Method::POST, "/v0/tokens/", &acme.token, Some(body)).await.0, 400);
    // An agent who may make tokens may do what any of them may.
    assert_eq!(post(&server, "/v0/events?name=by_agent", &acme.token, r#"{"id":1}"#).await.0, 202);
    server.stop();
}

#[tokio::test]
async fn bad_rows_are_in_the_quarantine() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = server.tenant("Acme").await;
    let all = writer(&server, &acme).await;
    let schema = "id%20Int64,name%20Nullable(String),at%20DateTime";
    let (status, made) = post(&server, &format!("/v0/datasources?name=strict&schema={schema}"), &all, "").await;
    assert_eq!((status, &made["datasource"]["columns"][0]["type"]), (200, &json!("Int64")));
    let rows = "{\"id\":1,\"at\":\"2024-01-01 00:00:00\"}\n{\"id\":\"x\",\"name\":\"n\",\"at\":null}\nnot json\n{\"id\":1e400,\"at\":0}";
    let (_, answer) = post(&server, "/v0/events?name=strict&wait=true", &all, rows).await;
    assert_eq!(answer, json!({ "successful_rows": 1, "quarantined_rows": 3 }));
    assert_eq!(sql(&server, &all, "SELECT id FROM strict").await, json!([{ "id": 1 }]));
    let q =
        "SELECT c__error_column, c__error, c__import_id, insertion_date, id, name, at, c__row FROM strict_quarantine";
    let bad = sql(&server, &all, q).await;
    assert_eq!(bad[0]["c__error_column"], json!(["id", "at"]));
    assert_eq!(bad[0]["c__error"][1], "NULL, which the column doesn't take");
    assert_eq!((&bad[0]["id"], &bad[0]["name"], &bad[0]["at"]), (&json!("x"), &json!("n"), &Value::Null));
    assert_eq!(
        (&bad[1]["c__error_column"], &bad[1]["c__row"], &bad[1]["id"]),
        (&json!([]), &json!("not json"), &Value::Null)
    );
    assert_eq!((&bad[2]["c__error_column"], &bad[2]["id"]), (&json!(["id"]), &json!("1e400")));
    assert_eq!(bad[0]["c__import_id"], bad[2]["c__import_id"]);
    assert_eq!(bad[0]["c__import_id"].as_str().map(str::len), Some(36));
    assert_eq!(bad[0]["insertion_date"].as_str().map(str::len), Some(19), "{}", bad[0]);
    server.stop();
}

#[tokio::test]
async fn bodies_are_bounded_whatever_they_say() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = server.tenant("Acme").await;
    let all = writer(&server, &acme).await;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("packed");
        encoder.finish().expect("packed")
    };
    let packed = async |bytes: Vec<u8>, encoding: &str| {
        let request = http_client(60).post(format!("{}/v0/events?name=packed", server.base)).bearer_auth(&all);
        let answer = request.header("content-encoding", encoding).body(bytes).send().await.expect("an answer");
        answer.status().as_u16()
    };
    assert_eq!(packed(gzip(b"{\"a\":1}\n{\"a\":2}"), "gzip").await, 202);
    assert_eq!(packed(b"{\"a\":3}".to_vec(), "gzip").await, 400);
    assert_eq!(packed(gzip(b"{\"a\":3}")[..20].to_vec(), "gzip").await, 400);
    assert_eq!(packed(b"{\"a\":3}".to_vec(), "br").await, 400);
    let bomb = gzip(&vec![b' '; 200 * 1024 * 1024]);
    assert!(bomb.len() < 1024 * 1024);
    assert_eq!(packed(bomb, "gzip").await, 413);
    assert_eq!(post(&server, "/v0/events?name=packed", &all, vec![b'x'; 11 * 1024 * 1024]).await.0, 413);
    assert_eq!(post(&server, "/v0/events?name=packed", &all, "").await.0, 411);
    assert_eq!(post(&server, "/v0/events?name=packed", &all, "\n").await.0, 400);
    assert_eq!(post(&server, "/v0/events?name=fresh", &all, "no\nrow\nat all").await.0, 400);
    let (status, answer) =
        post(&server, "/v0/datasources?name=packed&mode=append&url=http://127.0.0.1/x.csv", &all, "").await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("not fetched")), "{answer}");
    assert_eq!(post(&server, "/v0/datasources?name=packed&mode=append&format=parquet", &all, "PAR1").await.0, 400);
    assert_eq!(sql(&server, &all, "SELECT sum(a) AS n FROM packed").await, json!([{ "n": 3 }]));
    assert_eq!(server.call(Method::GET, "/v0/datasources/fresh", &all, None).await.0, 404);
    server.stop();
}

#[tokio::test]
async fn sources_are_made_appended_to_replaced_and_deleted() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = server.tenant("Acme").await;
    let all = writer(&server, &acme).await;
    let (status, made) = post(&server, "/v0/datasources?name=prices", &all, "sku,price\na,1.5\nb,2\n").await;
    assert_eq!((status, &made["successful_rows"], &made["quarantine_rows"]), (200, &json!(2), &json!(0)));
    assert_eq!(post(&server, "/v0/datasources?name=prices", &all, "sku,price\n").await.0, 409);
    let (status, _) = post(&server, "/v0/datasources?name=prices&mode=append", &all, "c,3\n").await;
    assert_eq!(status, 200);
    let form = "--XX\r\nContent-Disposition: form-data; name=\"ndjson\"; filename=\"a.ndjson\"\r\n\r\n{\"sku\":\"d\",\"price\":4}\r\n--XX--\r\n";
    let request =
        http_client(60).post(format!("{}/v0/datasources?name=prices&mode=append", server.base)).bearer_auth(&all);
    let answer = request.header("content-type", "multipart/form-data; boundary=XX").body(form).send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
    let q = "SELECT string_agg(sku, ',' ORDER BY sku) AS skus, sum(price) AS sum FROM prices";
    assert_eq!(sql(&server, &all, q).await, json!([{ "skus": "a,b,c,d", "sum": 10.5 }]));
    // A replacement is seen whole.
    let large: String = (0..60_000).map(|n| format!("{{\"sku\":\"s{n}\",\"price\":1}}\n")).collect();
    let replace = tokio::spawn({
        let (base, all) = (server.base.clone(), all.clone());
        async move {
            let url = format!("{base}/v0/datasources?name=prices&mode=replace&format=ndjson");
            http_client(60).post(url).bearer_auth(all).body(large).send().await.expect("an answer").status().as_u16()
        }
    });
    loop {
        let n = sql(&server, &all, "SELECT count(*) AS n FROM prices").await[0]["n"].clone();
        assert!(n == 4 || n == 60_000, "{n}");
        if n == 60_000 {
            break;
        }
    }
    assert_eq!(replace.await.expect("done"), 200);
    let described = server.post("/v0/datasources/prices/truncate", &all, Value::Null).await;
    assert_eq!(described["statistics"]["row_count"], 0);
    assert_eq!(sql(&server, &all, "SELECT count(*) AS n FROM prices").await, json!([{ "n": 0 }]));
    assert_eq!(
        server.call(Method::DELETE, "/v0/datasources/prices", &all, None).await,
        (StatusCode::NO_CONTENT, Value::Null)
    );
    assert_eq!(refused(&server, &all, "SELECT * FROM prices").await, 404);
    // A new one of the same name has nothing of the old.
    post(&server, "/v0/events?name=prices", &all, r#"{"other":true}"#).await;
    assert_eq!(sql(&server, &all, "SELECT * FROM prices").await, json!([{ "other": true }]));
    server.stop();
}

/// What was acknowledged is there after `kill -9`, after a stop, and after a rebuild, and `verify` agrees.
#[tokio::test]
async fn rows_outlive_everything() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut server = Server::start(dir.path(), &[]);
    let acme = server.tenant("Acme").await;
    let all = writer(&server, &acme).await;
    let rows =
        |from: usize| (from..from + 20_000).map(|n| format!("{{\"n\":{n},\"t\":\"{}\"}}\n", n % 7)).collect::<String>();
    post(&server, "/v0/events?name=big", &all, rows(0) + "oops").await;
    post(&server, "/v0/datasources?name=swapped&mode=append&format=ndjson", &all, rows(0)).await;
    post(&server, "/v0/datasources?name=swapped&mode=replace&format=ndjson", &all, r#"{"n":1,"t":"x"}"#).await;
    post(&server, "/v0/events?name=gone", &all, rows(0)).await;
    server.call(Method::DELETE, "/v0/datasources/gone", &all, None).await;
    post(&server, "/v0/pipes?name=total", &all, "NODE one\nSQL >\n    SELECT sum(n) AS s FROM big\n").await;
    let summary = async |server: &Server| {
        let q = "SELECT (SELECT count(*) FROM big) AS a, (SELECT sum(n) FROM big) AS b, (SELECT count(*) FROM big_quarantine) AS c, (SELECT max(t) FROM swapped) AS d, (SELECT count(*) FROM swapped) AS e";
        let pipe = server.get("/v0/pipes/total.json", &all).await["data"].clone();
        json!([sql(server, &all, q).await, pipe])
    };
    let before = summary(&server).await;
    assert_eq!(before[0], json!([{ "a": 20_000, "b": 199_990_000, "c": 1, "d": "x", "e": 1 }]));
    assert_eq!(before[1], json!([{ "s": 199_990_000 }]));
    server.kill();
    server = Server::start(dir.path(), &[]);
    assert_eq!(summary(&server).await, before, "after kill -9");
    // So many rows are flushed at a stop.
    server.stop();
    assert!(dir.path().join("sources").join(&acme.id).is_dir(), "in files");
    let verified = run(dir.path(), &["verify"]);
    server = Server::start(dir.path(), &[]);
    assert_eq!(summary(&server).await, before, "from files");
    assert_eq!(refused(&server, &all, "SELECT * FROM gone").await, 404);
    server.stop();
    assert_eq!(run(dir.path(), &["rebuild"]), verified);
    server = Server::start(dir.path(), &[]);
    assert_eq!(summary(&server).await, before, "after a rebuild");
    server.stop();
}

#[tokio::test]
async fn endpoints_are_published_called_and_replaced() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = server.tenant("Acme").await;
    let all = writer(&server, &acme).await;
    let rows = "{\"shop\":\"a\",\"n\":1}\n{\"shop\":\"b\",\"n\":2}\n{\"shop\":\"b\",\"n\":3}";
    post(&server, "/v0/events?name=orders", &all, rows).await;
    let text = "DESCRIPTION >\n    Orders by shop\n\nNODE wanted\nSQL >\n    %\n    SELECT shop, n FROM orders WHERE n >= {{Int32(least, 0, description='At least')}}\n\nNODE by_shop\nSQL >\n    %\n    SELECT shop, sum(n) AS total FROM wanted {% if defined(shop) %} WHERE shop = {{String(shop)}} {% end %} GROUP BY shop ORDER BY shop\n\nTYPE endpoint\n";
    let (status, made) = post(&server, "/v0/pipes?name=Shops", &all, text).await;
    assert_eq!((status, &made["name"], &made["version"]), (200, &json!("shops"), &json!(1)), "{made}");
    assert_eq!(made["nodes"].as_array().map(Vec::len), Some(2));
    let call = async |query: &str| server.get(&format!("/v0/pipes/shops.json?{query}"), &all).await["data"].clone();
    assert_eq!(call("").await, json!([{ "shop": "a", "total": 1 }, { "shop": "b", "total": 5 }]));
    assert_eq!(call("least=3").await, json!([{ "shop": "b", "total": 3 }]));
    assert_eq!(call("shop=a").await, json!([{ "shop": "a", "total": 1 }]));
    assert_eq!(call("shop=a'%20OR%20true%20--").await, json!([]), "a value is a value");
    assert_eq!(call("q=SELECT%20sum(total)%20AS%20s%20FROM%20_").await, json!([{ "s": 6 }]));
    for extension in ["csv", "ndjson", "parquet", "arrow"] {
        let path = format!("{}/v0/pipes/shops.{extension}", server.base);
        assert_eq!(http_client(60).get(path).bearer_auth(&all).send().await.expect("an answer").status(), 200);
    }
    let document = server.get("/v0/pipes/shops/openapi.json", &all).await;
    assert_eq!(document["paths"]["/v0/pipes/shops.json"]["get"]["parameters"].as_array().map(Vec::len), Some(2));
    assert_eq!(server.call(Method::GET, "/v0/pipes/shops.json?least=x", &all, None).await.0, 400);
    let listed = server.get("/v0/pipes", &all).await.to_string();
    assert!(listed.contains("\"shops\"") && listed.contains("\"usage\""), "{listed}");

    // Tinybird's JSON; the old version stays readable.
    let body = json!({ "name": "shops", "nodes": [{ "name": "only", "sql": "SELECT count(*) AS n FROM orders", "type": "endpoint" }] });
    assert_eq!(server.post("/v0/pipes", &all, body).await["version"], 2);
    assert_eq!(call("").await, json!([{ "n": 3 }]));
    let first = server.get("/v0/pipes/shops?version=1", &all).await;
    assert_eq!((&first["version"], first["nodes"][1]["name"].as_str()), (&json!(1), Some("by_shop")));
    let request = http_client(60).get(format!("{}/v0/pipes/shops.pipe?version=1", server.base)).bearer_auth(&all);
    assert_eq!(request.send().await.expect("an answer").text().await.expect("a text"), text);
    assert_eq!(server.call(Method::GET, "/v0/pipes/shops?version=9", &all, None).await.0, 404);

    // A narrow token calls it, with its rows and no others.
    let scopes = json!([{ "type": "PIPES:READ", "resource": "shops" }, { "type": "DATASOURCES:READ", "resource": "orders", "filter": "shop = 'b'" }]);
    let narrow = token(&server, &acme, scopes).await;
    assert_eq!(server.get("/v0/pipes/shops.json", &narrow).await["data"], json!([{ "n": 2 }]));
    let other = token(&server, &acme, json!([{ "type": "PIPES:READ", "resource": "usage" }])).await;
    assert_eq!(server.call(Method::GET, "/v0/pipes/shops.json", &other, None).await.0, 403);
    assert_eq!(server.call(Method::DELETE, "/v0/pipes/shops", &narrow, None).await.0, 403);
    assert_eq!(server.call(Method::DELETE, "/v0/pipes/usage", &all, None).await.0, 400);
    assert_eq!(server.call(Method::DELETE, "/v0/pipes/shops", &all, None).await, (StatusCode::NO_CONTENT, Value::Null));
    assert_eq!(server.call(Method::GET, "/v0/pipes/shops.json", &all, None).await.0, 404);
    server.stop();
}

#[tokio::test]
async fn endpoints_that_cannot_be_served_are_not_published() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(dir.path(), &[]);
    let acme = server.tenant("Acme").await;
    let all = writer(&server, &acme).await;
    let doubled: String =
        (1..20).map(|n| format!("NODE n{n}\nSQL >\n    SELECT a.* FROM n{} a, n{} b\n\n", n - 1, n - 1)).collect();
    let doubled = format!("NODE n0\nSQL >\n    SELECT 1 AS x\n\n{doubled}");
    for (text, status, word) in [
        ("", 411, "Content-Length"),
        ("DESCRIPTION nothing\n", 400, "no node"),
        ("NODE a\nSQL >\n    SELEKT 1\n", 400, "failed to read the SQL"),
        ("NODE a\nSQL >\n    DROP TABLE messages\n", 403, "DROP"),
        ("NODE a\nSQL >\n    SELECT * FROM nothing\n", 404, "nothing"),
        ("NODE a\nSQL >\n    SELECT no_such FROM messages\n", 400, "no_such"),
        ("NODE a\nSQL >\n    SELECT * FROM b\nNODE b\nSQL >\n    SELECT * FROM a\n", 400, "circle"),
        ("NODE a\nSQL >\n    SELECT * FROM a\n", 400, "circle"),
        ("NODE a\nSQL >\n    SELECT 1\nNODE a\nSQL >\n    SELECT 2\n", 400, "twice"),
        ("NODE a\nSQL >\n    SELECT {{String(x)}}\n", 400, "%"),
        ("NODE a\nSQL >\n    %\n    SELECT {{String(from)}}\n", 400, "reserved"),
        ("NODE a\nSQL >\n    %\n    SELECT {{Nothing(x)}}\n", 400, "Nothing"),
        (
            "NODE a\nSQL >\n    SELECT 1\nTYPE endpoint\nNODE b\nSQL >\n    SELECT 1\nTYPE endpoint\n",
            400,
            "more than one",
        ),
        (doubled.as_str(), 400, "counted each time"),
    ] {
        let (found, answer) = post(&server, "/v0/pipes?name=broken", &all, text.to_owned()).await;
        assert_eq!(found, status, "{text}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(word)), "{text}: {answer}");
    }
    assert_eq!(server.call(Method::GET, "/v0/pipes/broken", &all, None).await.0, 404);
    // The same doubling in one statement.
    let chain: String = (1..60).map(|n| format!(", n{n} AS (SELECT a.* FROM n{} a, n{} b)", n - 1, n - 1)).collect();
    assert_eq!(refused(&server, &all, &format!("WITH n0 AS (SELECT 1 AS x){chain} SELECT * FROM n59")).await, 400);
    // What must be sent is tried with a value of its type.
    let required = "NODE a\nSQL >\n    %\n    SELECT {{DateTime(at, required=True)}} AS at, {{Array(ids, 'Int32', required=True)}} AS x\n";
    let (status, answer) =
        post(&server, "/v0/pipes?name=needy", &all, required.replace(" AS x", " IS NULL AS x")).await;
    assert!(status == 200 || status == 400, "{answer}");
    // Who may publish, but not read a table, doesn't publish it.
    let publisher = token(&server, &acme, json!([{ "type": "PIPES:CREATE" }, { "type": "PIPES:READ" }])).await;
    assert_eq!(
        post(&server, "/v0/pipes?name=sly", &publisher, "NODE a\nSQL >\n    SELECT * FROM messages\n").await.0,
        403
    );
    assert_eq!(post(&server, "/v0/pipes?name=fine", &publisher, "NODE a\nSQL >\n    SELECT 1 AS one\n").await.0, 200);
    server.stop();
}
