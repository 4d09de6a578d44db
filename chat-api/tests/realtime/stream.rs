//! Server-sent events: the same frames over HTTP.

use super::client::{Came, Client};
use super::server::{Server, Tenant, Visitor};
use chat_api::core::command::{CommandKind, NewMessage, NewVisitor};
use chat_api::live::Limits;
use ingest::event::Actor;
use ingest::id::{ConversationId, PersonId, VisitorId};
use ingest::payload::Role;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// A stream being read; HTTP/1.0, so that the body is plain and ends with the connection.
struct Stream {
    reader: BufReader<TcpStream>,
    status: u16,
    head: String,
}

impl Stream {
    async fn open(server: &Server, path: &str, headers: &[(&str, &str)], receive_bytes: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let mut stream = socket.connect(server.address).await.unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).await.unwrap() > 0, "{head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { reader, status, head: head.to_lowercase() }
    }

    async fn of_agent(server: &Server, token: &str, id: ConversationId, rest: &str) -> Self {
        let path = format!("/v1/conversations/{id}/events/stream{rest}");
        Self::open(server, &path, &[("authorization", &format!("Bearer {token}"))], None).await
    }

    async fn of_visitor(server: &Server, guest: &Visitor, rest: &str) -> Self {
        let path = format!("/v1/widget/events/stream{rest}");
        Self::open(server, &path, &[("authorization", &format!("Bearer {}", guest.token))], None).await
    }

    /// The next message's lines; empty at the end.
    async fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.reader.read_line(&mut line)).await.expect("something in time");
            let line = line.trim_end().to_owned();
            if read.unwrap_or(0) == 0 || (line.is_empty() && !lines.is_empty()) {
                return lines;
            }
            lines.push(line);
        }
    }

    /// The next frame with its id, but for presence and queue; `None` at the end.
    async fn frame(&mut self) -> Option<(Option<u64>, Value)> {
        loop {
            let lines = self.lines().await;
            if lines.is_empty() {
                return None;
            }
            let field = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
            let Some(data) = field("data: ") else { continue };
            let frame: Value = serde_json::from_str(data).unwrap();
            if frame["type"] != "presence" && frame["type"] != "queue" {
                return Some((field("id: ").map(|id| id.parse().unwrap()), frame));
            }
        }
    }

    async fn event(&mut self) -> (u64, String) {
        let (id, frame) = self.frame().await.expect("a frame");
        assert_eq!(frame["type"], "event", "{frame}");
        assert_eq!(frame["event"]["seq"].as_u64(), id, "an event's id is its seq");
        (id.unwrap(), frame["event"]["content"].as_str().unwrap_or_default().to_owned())
    }

    async fn begun(&mut self, conversation: ConversationId) -> u64 {
        assert_eq!(self.status, 200, "{}", self.head);
        let (_, frame) = self.frame().await.expect("a frame");
        assert_eq!((&frame["type"], &frame["conversationId"]), (&json!("subscribed"), &json!(conversation)));
        frame["lastSeq"].as_u64().unwrap()
    }
}

async fn chat(server: &Server) -> (Tenant, Visitor) {
    let tenant = server.tenant("acme").await;
    let guest = server.visitor(&tenant, "Gus").await;
    server.post(&guest, guest.actor(), "Hi").await;
    (tenant, guest)
}

#[tokio::test]
async fn a_stream_has_the_frames_of_a_socket() {
    let server = Server::start(Limits::default()).await;
    let (tenant, guest) = chat(&server).await;
    let mut agent = Stream::of_agent(&server, &tenant.owner.token, guest.conversation, "?after=0").await;
    assert_eq!(agent.begun(guest.conversation).await, 3);
    assert!(agent.head.contains("content-type: text/event-stream"), "{}", agent.head);
    assert!(agent.head.contains("cache-control: no-store") && agent.head.contains("x-accel-buffering: no"));
    let mut visitor = Stream::of_visitor(&server, &guest, "").await;
    visitor.begun(guest.conversation).await;
    let (mut socket, _) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, Some(0)).await;
    for _ in 1..=3 {
        assert_eq!(agent.frame().await.unwrap().1, socket.frame().await);
    }
    let note = server.note(&guest, tenant.owner.actor(), "be nice").await;
    let seq = server.post(&guest, guest.actor(), "Are you there?").await;
    assert_eq!(agent.event().await, (note, "be nice".to_owned()));
    assert_eq!(agent.event().await, (seq, "Are you there?".to_owned()));
    assert_eq!(visitor.event().await, (seq, "Are you there?".to_owned()), "no note, and from now on only");
    server.app.live.typing(&server.app.views, tenant.id, guest.conversation, chat_api::live::Person::Visitor(guest.id));
    assert_eq!(agent.frame().await.unwrap().1["type"], "typing");
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_id() {
    let server = Server::start(Limits::default()).await;
    let (tenant, guest) = chat(&server).await;
    let path = format!("/v1/conversations/{}/events/stream?after=0", guest.conversation);
    let authorization = format!("Bearer {}", tenant.owner.token);
    let open = |last: &'static str| {
        let headers = [("authorization", authorization.clone()), ("last-event-id", last.to_owned())];
        let (server, path) = (&server, path.clone());
        async move {
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            Stream::open(server, &path, &headers, None).await
        }
    };
    let mut again = open("2").await;
    again.begun(guest.conversation).await;
    assert_eq!(again.event().await.0, 3, "what came last counts, not what was asked for first");
    assert_eq!(open("two").await.status, 422);
}

/// No header, a token in the URL, another tenant's, another visitor's, an unknown conversation.
#[tokio::test]
async fn a_stream_is_for_who_may_see_it() {
    let server = Server::start(Limits::default()).await;
    let (tenant, guest) = chat(&server).await;
    let other = server.visitor(&tenant, "Olaf").await;
    let evil = server.tenant("evil").await;
    let path = format!("/v1/conversations/{}/events/stream", guest.conversation);
    let in_url = format!("{path}?token={}", tenant.owner.token);
    for (path, headers) in [(&path, vec![]), (&in_url, vec![])] {
        assert_eq!(Stream::open(&server, path, &headers, None).await.status, 401);
    }
    assert_eq!(Stream::of_agent(&server, &evil.owner.token, guest.conversation, "").await.status, 404);
    assert_eq!(Stream::of_agent(&server, &tenant.owner.token, ConversationId::fresh(), "").await.status, 404);
    assert_eq!(Stream::of_agent(&server, &guest.token, guest.conversation, "").await.status, 401);
    // A visitor's stream is their own conversation's; there is no other to name.
    let mut theirs = Stream::of_visitor(&server, &other, "?after=0").await;
    theirs.begun(other.conversation).await;
    assert_eq!(theirs.event().await, (1, "Conversation started".to_owned()));
    let origin = [("authorization", format!("Bearer {}", guest.token)), ("origin", "https://evil.example".to_owned())];
    let origin = origin.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(Stream::open(&server, "/v1/widget/events/stream", &origin, None).await.status, 403);
}

#[tokio::test]
async fn a_stream_ends_with_its_credential_its_server_and_counts_as_a_socket() {
    let limits = Limits { sockets_per_person_max: 2, ping_every: Duration::from_millis(100), ..Limits::default() };
    let server = Server::start(limits).await;
    let (tenant, guest) = chat(&server).await;
    let ada = server.agent(&tenant, "Ada", Role::Agent).await;
    let mut stream = Stream::of_agent(&server, &ada.token, guest.conversation, "").await;
    stream.begun(guest.conversation).await;
    loop {
        if stream.lines().await == [": ping"] {
            break;
        }
    }
    let second = Stream::of_agent(&server, &ada.token, guest.conversation, "").await;
    assert_eq!(second.status, 200);
    assert_eq!(Stream::of_agent(&server, &ada.token, guest.conversation, "").await.status, 503);
    drop(second);
    for tries in 0.. {
        if server.app.live.sockets() == 1 {
            break;
        }
        assert!(tries < 100, "a closed stream gives its place back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let close = CommandKind::CloseSession { session_id: ada.session };
    server.submit(tenant.id, Actor::System, close, Vec::new()).await;
    let (_, last) = stream.frame().await.expect("why");
    assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("token_ended")));
    assert!(stream.frame().await.is_none(), "the stream is over");

    let mut stopping = Stream::of_visitor(&server, &guest, "").await;
    stopping.begun(guest.conversation).await;
    let reading =
        tokio::spawn(async move { (stopping.frame().await.unwrap().1["code"].clone(), stopping.frame().await) });
    server.stop().await;
    assert_eq!(reading.await.unwrap(), (json!("going_away"), None));
}

/// A stream that isn't read is ended, and goes on elsewhere without loss.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_stream_is_ended_and_resumes() {
    let server = Server::start(Limits::default()).await;
    let (tenant, guest) = chat(&server).await;
    let path = format!("/v1/conversations/{}/events/stream", guest.conversation);
    let headers = [("authorization", format!("Bearer {}", tenant.owner.token))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut slow = Stream::open(&server, &path, &headers, Some(4_096)).await;
    let mut seen = slow.begun(guest.conversation).await;
    let text = "x".repeat(100_000);
    for _ in 0..150 {
        server.post(&guest, guest.actor(), &text).await;
    }
    let newest = server.post(&guest, guest.actor(), "done").await;
    let code = loop {
        match slow.frame().await.expect("a last word") {
            (Some(seq), _) => {
                assert_eq!(seq, seen + 1);
                seen = seq;
            }
            (None, frame) => break frame["code"].clone(),
        }
    };
    assert_eq!(code, "too_slow");
    assert!(seen < newest, "15 MB are more than anything holds");
    let mut rest = Vec::new();
    slow.reader.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    let mut again = Stream::of_agent(&server, &tenant.owner.token, guest.conversation, &format!("?after={seen}")).await;
    again.begun(guest.conversation).await;
    while seen < newest {
        seen += 1;
        assert_eq!(again.event().await.0, seen);
    }
}

/// A text whose key is damaged holds up neither those who read it from the log nor those who follow.
#[tokio::test]
async fn an_unreadable_text_stops_no_socket_and_no_stream() {
    let server = Server::start(Limits::default()).await;
    let (tenant, guest) = chat(&server).await;
    let seq = server.post(&guest, tenant.owner.actor(), "Hello").await;
    let (mut live, _) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, None).await;
    let person: PersonId = guest.id.into();
    let damage = move |connection: &rusqlite::Connection| {
        let sql = "UPDATE person_keys SET wrapped = zeroblob(60) WHERE person = ?1";
        connection.execute(sql, [person.bytes()]).map(drop)
    };
    let (late, _) = server.seal(guest.id, "said while it broke");
    server.app.writer.transact(damage).await.unwrap();
    server.app.keys.forget(&[person]);
    server.app.views.forget_names(&[person]);

    let message = NewMessage { content: late, content_chars: 19, client_id: None, metadata: None, file_id: None };
    let kind = CommandKind::PostMessage { conversation_id: guest.conversation, message };
    server.submit(tenant.id, guest.actor(), kind, Vec::new()).await;
    let resolve = CommandKind::Resolve { conversation_id: guest.conversation };
    server.submit(tenant.id, tenant.owner.actor(), resolve, Vec::new()).await;
    assert_eq!(live.event().await, (seq + 1, String::new()));
    assert_eq!(live.event().await, (seq + 2, "Conversation resolved".to_owned()));

    let (mut agent, _) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, Some(0)).await;
    let (mut visitor, _) = Client::subscribed(&server, &guest.token, guest.conversation, Some(0)).await;
    let mut stream = Stream::of_agent(&server, &tenant.owner.token, guest.conversation, "?after=0").await;
    stream.begun(guest.conversation).await;
    for expected in 1..=seq + 2 {
        let (got, words) = agent.event().await;
        assert_eq!(got, expected);
        assert!(!["Hi", "Hello"].contains(&&*words), "{words}");
        assert_eq!(visitor.event().await, (got, words.clone()));
        assert_eq!(stream.event().await, (got, words));
    }
}

/// What a browser holds from before its visitor was identified listens to nothing any more; what is open ends.
#[tokio::test]
async fn a_token_from_before_identify_opens_no_socket_and_no_stream() {
    let server = Server::start(Limits::default()).await;
    let (tenant, guest) = chat(&server).await;
    let (mut socket, _) = Client::subscribed(&server, &guest.token, guest.conversation, None).await;
    let mut stream = Stream::of_visitor(&server, &guest, "").await;
    stream.begun(guest.conversation).await;
    let user = VisitorId::fresh();
    let (user_id, keys) = server.seal(user, "u");
    let target = NewVisitor { user_id: Some(user_id), ..NewVisitor::anonymous(user, user.to_string()) };
    let kind = CommandKind::IdentifyVisitor { source: guest.id, target };
    server.submit(tenant.id, guest.actor(), kind, keys).await;
    assert!(matches!(socket.next().await, Came::Closed(_)));
    assert_eq!(stream.frame().await.expect("why").1["code"], "token_ended");

    let mut again = Client::open(&server, None, None).await;
    again.send(json!({"type": "auth", "token": guest.token})).await;
    assert_eq!(again.next().await, Came::Closed(4001));
    assert_eq!(Stream::of_visitor(&server, &guest, "").await.status, 401);
    let now = chat_api::auth::tokens::sign_visitor(
        &server.app.key_file,
        tenant.id,
        user,
        guest.conversation,
        tenant.chatbot,
        ingest::time::Timestamp::now(),
        24,
    );
    Client::subscribed(&server, &now.unwrap().0, guest.conversation, Some(0)).await;
}
