//! Files: sent by both sides, served as attachments, gone with their visitor.

use crate::support::{Call, Reply, Server, Tenant, text};
use axum::http::Method;
use chat_api::files::{self, FILE_BYTES_MAX};
use ingest::id::FileId;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n these bytes are told to nobody but the two who talk";
const FORM: &str = "multipart/form-data; boundary=XX";

/// A part of a form; one with a file name is a file.
fn part(name: &str, file: Option<&str>, content: &[u8]) -> Vec<u8> {
    let file = file.map(|file| format!("; filename=\"{file}\"\r\nContent-Type: image/png")).unwrap_or_default();
    let mut bytes = format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(content);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn form(path: &str, token: &str, parts: &[Vec<u8>]) -> Call {
    let mut body = parts.concat();
    body.extend_from_slice(b"--XX--\r\n");
    Call::new(Method::POST, path).token(token).header("content-type", FORM).raw(body)
}

fn upload(token: &str, name: &str, content: &[u8]) -> Call {
    form("/v1/widget/files", token, &[part("file", Some(name), content)])
}

/// The names in the directory of the files, without the half received ones.
fn on_disk(server: &Server) -> Vec<String> {
    let entries = std::fs::read_dir(server.data_dir().join("files")).expect("files");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    names.filter(|name| name != "incoming").collect()
}

fn half_received(server: &Server) -> usize {
    std::fs::read_dir(server.data_dir().join("files/incoming")).expect("files").count()
}

async fn session(server: &Server, tenant: &Tenant) -> (String, Value) {
    let session = server.session(tenant, json!({ "name": "Vera", "initialMessage": "hi" })).await;
    (text(&session["sessionToken"]), session)
}

async fn download(server: &Server, path: &str, token: &str) -> Reply {
    server.call(Call::get(path).token(token)).await
}

#[tokio::test]
async fn files_go_both_ways_and_are_served_as_attachments_from_safe_headers() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (visitor, session) = session(&server, &acme).await;
    let sent = server.call(upload(&visitor, "../Größe.png", PNG)).await.expect(201);
    let file = &sent["file"];
    assert_eq!(
        (&file["name"], &file["contentType"], &file["size"]),
        (&json!("Größe.png"), &json!("image/png"), &json!(PNG.len()))
    );
    assert_eq!(
        (&sent["content"], &sent["type"], &sent["authorType"]),
        (&file["name"], &json!("message"), &json!("visitor"))
    );
    let (of_agents, of_visitors) =
        (format!("/v1/files/{}", text(&file["id"])), format!("/v1/widget/files/{}", text(&file["id"])));
    for (path, token) in [(&of_agents, &acme.token), (&of_visitors, &visitor)] {
        let got = download(&server, path, token).await;
        assert_eq!((got.status.as_u16(), got.bytes.as_slice()), (200, PNG));
        assert_eq!(got.header("content-disposition"), Some("attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe.png"));
        for (name, value) in [
            ("content-type", "image/png"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "sandbox; default-src 'none'"),
            ("cache-control", "private"),
        ] {
            assert_eq!(got.header(name), Some(value));
        }
    }

    // The other way, with words, and larger than a chunk.
    let large: Vec<u8> = (0..200_000_u32).flat_map(|n| format!("{n},").into_bytes()).collect();
    let thread = text(&session["threadId"]);
    let parts = [part("content", None, "the list".as_bytes()), part("file", Some("list.csv"), &large)];
    let answered = server.call(form(&format!("/v1/threads/{thread}/files"), &acme.token, &parts)).await.expect(201);
    assert_eq!((&answered["content"], &answered["file"]["contentType"]), (&json!("the list"), &json!("text/csv")));
    let path = format!("/v1/widget/files/{}", text(&answered["file"]["id"]));
    assert!(download(&server, &path, &visitor).await.bytes == large);
    // Both are in the history that both see; what lies on the disk tells nothing.
    let opened = server.call(Call::get("/v1/widget/conversation").token(&visitor)).await.expect(200);
    let files = opened["events"].as_array().expect("events").iter().filter(|event| event["file"].is_object());
    assert_eq!(files.count(), 2);
    for name in on_disk(&server) {
        let bytes = std::fs::read(server.data_dir().join("files").join(name)).expect("a file");
        assert!(!bytes.windows(13).any(|part| part == &PNG[9..22] || part == &large[..13]));
    }
    assert_eq!((on_disk(&server).len(), half_received(&server)), (2, 0));
}

#[tokio::test]
async fn a_file_is_404_to_other_visitors_other_tenants_and_agents_who_may_not_see_the_conversation() {
    let server = Server::start();
    let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
    let body = json!({ "name": "Sales", "routingStrategy": "least_loaded" });
    let group = server.call(Call::post("/v1/groups", body).token(&acme.token)).await.expect(201);
    let started = server.session(&acme, json!({ "initialMessage": "hi", "groupId": group["id"] })).await;
    let visitor = text(&started["sessionToken"]);
    let sent = server.call(upload(&visitor, "a.png", PNG)).await.expect(201);
    let id = text(&sent["file"]["id"]);
    let (_, outsider) = server.agent(&acme, "Otto", "agent").await;
    let (other, _) = session(&server, &acme).await;
    let (foreign, _) = session(&server, &globex).await;
    let never = FileId::fresh().to_string();
    for (path, token) in
        [("files", &outsider), ("files", &globex.token), ("widget/files", &other), ("widget/files", &foreign)]
    {
        let refused = download(&server, &format!("/v1/{path}/{id}"), token).await.expect(404);
        let unknown = download(&server, &format!("/v1/{path}/{never}"), token).await.expect(404);
        assert_eq!(refused, unknown);
    }
    let path = format!("/v1/threads/{}/files", text(&started["threadId"]));
    for token in [&outsider, &globex.token] {
        let refused = server.call(form(&path, token, &[part("file", Some("a.png"), PNG)])).await;
        assert_eq!(refused.expect(404)["code"], "not_found");
    }
    download(&server, &format!("/v1/files/{id}"), "").await.expect(401);
    assert_eq!(on_disk(&server), [id]);
}

#[tokio::test]
async fn only_listed_types_of_at_most_10_mb_come_in_whatever_they_are_called() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (visitor, _) = session(&server, &acme).await;
    for content in [&b"<html><script>alert(1)</script></html>"[..], b"<svg xmlns='x'/>", b"MZ\x90\0\x03\0\0\0", b"\0\0"]
    {
        let refused = server.call(upload(&visitor, "photo.png", content)).await.expect(415);
        assert_eq!((&refused["code"], &refused["field"]), (&json!("unsupported_file_type"), &json!("file")));
    }
    let mut large = PNG.to_vec();
    large.resize(usize::try_from(FILE_BYTES_MAX).expect("fits"), b'x');
    server.call(upload(&visitor, "limit.png", &large)).await.expect(201);
    large.push(b'x');
    assert_eq!(server.call(upload(&visitor, "over.png", &large)).await.expect(413)["code"], "file_too_large");
    large.resize(large.len() * 2, b'x');
    assert_eq!(server.call(upload(&visitor, "over.png", &large)).await.expect(413)["code"], "file_too_large");
    assert_eq!((on_disk(&server).len(), half_received(&server)), (1, 0), "what was refused left nothing");
}

#[tokio::test]
async fn a_form_that_is_not_as_it_must_be_is_refused_with_its_field_and_leaves_nothing() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (visitor, _) = session(&server, &acme).await;
    let file = || part("file", Some("a.png"), PNG);
    let send = |parts: &[Vec<u8>]| server.call(form("/v1/widget/files", &visitor, parts));
    assert_eq!(send(&[part("clientId", None, b"c1")]).await.expect(422)["code"], "missing_field");
    assert_eq!(send(&[file(), file()]).await.expect(422)["field"], "file");
    assert_eq!(send(&[file(), part("tenantId", None, b"x")]).await.expect(422)["code"], "unknown_field");
    assert_eq!(send(&[file(), part("content", None, b"\xff")]).await.expect(422)["field"], "content");
    assert_eq!(send(&[part("file", Some("a.png"), b"")]).await.expect(422)["field"], "file");
    let json = Call::post("/v1/widget/files", json!({ "file": "x" })).token(&visitor);
    assert_eq!(server.call(json).await.expect(415)["code"], "unsupported_media_type");
    let whole = file();
    let cut = Call::new(Method::POST, "/v1/widget/files").token(&visitor).header("content-type", FORM);
    assert_eq!(server.call(cut.raw(whole[..whole.len() - 10].to_vec())).await.expect(400)["code"], "body_incomplete");
    assert_eq!((on_disk(&server).len(), half_received(&server)), (0, 0));
}

#[tokio::test]
async fn a_repeated_upload_is_200_and_the_first_one() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (visitor, _) = session(&server, &acme).await;
    let send = |content: &[u8]| {
        let parts = [part("file", Some("a.png"), content), part("clientId", None, b"c1")];
        server.call(form("/v1/widget/files", &visitor, &parts))
    };
    let first = send(PNG).await.expect(201);
    assert_eq!(send(PNG).await.expect(200), first);
    let other = [PNG, b"more"].concat();
    assert_eq!(send(&other).await.expect(422)["code"], "idempotency_mismatch");
    let keyed = || upload(&visitor, "b.png", PNG).key("a key of this upload");
    let second = server.call(keyed()).await.expect(201);
    assert_eq!(server.call(keyed()).await.expect(200), second);
    assert_eq!(on_disk(&server).len(), 2);
}

#[tokio::test]
async fn erasing_a_visitor_deletes_the_bytes_of_their_files() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (visitor, session) = session(&server, &acme).await;
    let (kept, _) = self::session(&server, &acme).await;
    let mine = text(&server.call(upload(&visitor, "secret.png", PNG)).await.expect(201)["file"]["id"]);
    let thread = text(&session["threadId"]);
    let parts = [part("file", Some("answer.png"), PNG)];
    let answer = server.call(form(&format!("/v1/threads/{thread}/files"), &acme.token, &parts)).await.expect(201);
    let other = text(&server.call(upload(&kept, "kept.png", PNG)).await.expect(201)["file"]["id"]);
    let person = format!("/v1/visitors/{}", text(&session["visitorId"]));
    server.call(Call::delete(person).token(&acme.token)).await.expect(200);
    assert_eq!(on_disk(&server), std::slice::from_ref(&other));
    for id in [mine, text(&answer["file"]["id"])] {
        download(&server, &format!("/v1/files/{id}"), &acme.token).await.expect(410);
    }
    let history = format!("/v1/threads/{thread}/events");
    let history = server.call(Call::get(history).token(&acme.token)).await;
    assert!(!history.text.contains("secret") && !history.text.contains("answer.png"), "{}", history.text);
    assert_eq!(download(&server, &format!("/v1/files/{other}"), &acme.token).await.bytes, PNG);
}

#[tokio::test]
async fn what_no_event_names_is_deleted_once_its_request_is_over() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let (visitor, _) = session(&server, &acme).await;
    let kept = text(&server.call(upload(&visitor, "a.png", PNG)).await.expect(201)["file"]["id"]);
    let path = |name: &str| -> PathBuf { server.data_dir().join("files").join(name) };
    let (orphan, fresh) = (FileId::fresh().to_string(), FileId::fresh().to_string());
    for name in [&orphan, &fresh] {
        std::fs::write(path(name), b"sealed").expect("written");
    }
    let old = SystemTime::now() - Duration::from_secs(7_200);
    for name in [&orphan, &kept] {
        let file = std::fs::File::options().write(true).open(path(name)).expect("a file");
        file.set_modified(old).expect("set");
    }
    assert_eq!(files::prune(&server.app).await.expect("pruned"), 1);
    let mut left = on_disk(&server);
    left.sort();
    let mut expected = [kept, fresh];
    expected.sort();
    assert_eq!(left, expected);
    // What was half received when the server ended is deleted at the next start.
    std::fs::write(path("incoming").join(orphan), b"half").expect("written");
    files::Files::open(&server.data_dir().join("files")).expect("opens");
    assert_eq!(half_received(&server), 0);
}
