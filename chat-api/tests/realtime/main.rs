//! Realtime over real sockets on loopback: who gets in, who hears what, and how a socket ends.
//!
//! `asides` has what is told and not stored, `stream` server-sent events.
//! `load` has the stories with many clients: resuming under concurrent writes, slow readers, memory of idle sockets.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod asides;
mod client;
mod load;
mod server;
mod stream;

use chat_api::auth::tokens;
use chat_api::core::command::{CommandKind, ImportedConversation, ImportedMessage, NewSession, NewVisitor};
use chat_api::live::Limits;
use client::{Came, Client};
use futures_util::SinkExt as _;
use ingest::event::Actor;
use ingest::id::{ConversationId, RoleId, SessionId, VisitorId};
use ingest::log::{LogReader, Offset, ReadError, Record};
use ingest::payload::{AgentUpdated, AuthorType, Permission, PermissionSet, Resource, Role, RoleCreated, RoleUpdated};
use ingest::time::Timestamp;
use serde_json::json;
use server::Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::protocol::Message;

fn not_found(id: &str) -> Came {
    Came::Frame(json!({"type": "error", "code": "not_found", "conversationId": id}))
}

#[tokio::test]
async fn a_socket_without_a_good_token_is_closed() {
    let server = Server::start(Limits { auth_timeout: Duration::from_millis(200), ..Limits::default() }).await;
    let tenant = server.tenant("acme").await;
    let mut silent = Client::open(&server, None, None).await;
    assert_eq!(silent.next().await, Came::Closed(4001), "nothing in time");
    drop(silent);
    let conversation = ConversationId::fresh();
    for wrong in [
        json!({"type": "auth", "token": "nonsense"}),
        json!({"type": "auth", "token": format!("{}x", tenant.owner.token)}),
        json!({"type": "auth", "token": format!("wst_{}", tenant.owner.token)}),
        json!({"type": "subscribe", "conversationId": conversation, "after": 0}),
        json!([1]),
    ] {
        let mut client = Client::open(&server, None, None).await;
        client.send(wrong.clone()).await;
        assert_eq!(client.next().await, Came::Closed(4001), "{wrong}");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.app.live.sockets(), 0, "closed sockets give their place back");
}

/// Two agents and a visitor: a message reaches all three at once and in order, a note the agents only.
#[tokio::test]
async fn a_message_reaches_everyone_in_its_conversation() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let ada = server.agent(&tenant, "Ada", Role::Agent).await;
    let guest = server.visitor(&tenant, "Gus").await;
    let (mut visitor, last) = Client::subscribed(&server, &guest.token, guest.conversation, Some(0)).await;
    assert_eq!((last, visitor.event().await), (1, (1, "Conversation started".to_owned())));
    let (mut first, _) = Client::subscribed(&server, &ada.token, guest.conversation, Some(last)).await;
    let (mut second, _) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, None).await;

    server.post(&guest, guest.actor(), "Hi").await;
    let frame = visitor.frame().await;
    assert_eq!(frame["event"]["content"], "Hi");
    assert_eq!(frame["event"]["author"], json!({"id": guest.id, "name": "Gus"}));
    for agent in [&mut first, &mut second] {
        assert_eq!(agent.frame().await, frame, "agents and visitors get the same");
    }
    assert_eq!(frame["event"]["seq"], 2);
    // The first message also queues the conversation.
    for client in [&mut visitor, &mut first, &mut second] {
        assert_eq!(client.event().await, (3, "One moment".to_owned()));
    }

    server.note(&guest, ada.actor(), "be nice").await;
    let seq = server.post(&guest, ada.actor(), "Hello").await;
    for agent in [&mut first, &mut second] {
        assert_eq!(agent.event().await, (seq - 1, "be nice".to_owned()));
        assert_eq!(agent.event().await, (seq, "Hello".to_owned()));
    }
    assert_eq!(visitor.event().await, (seq, "Hello".to_owned()));
    visitor.silent().await;
}

#[tokio::test]
async fn notes_are_in_no_visitors_history_either() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let guest = server.visitor(&tenant, "Gus").await;
    for note in 0..40 {
        server.note(&guest, tenant.owner.actor(), &format!("note {note}")).await;
    }
    let (mut visitor, last) = Client::subscribed(&server, &guest.token, guest.conversation, Some(0)).await;
    assert_eq!(last, 1, "the last seq a visitor will ever get, not that of a note");
    assert_eq!(visitor.event().await.0, 1);
    visitor.silent().await;
    let (mut agent, last) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, Some(39)).await;
    assert_eq!((last, agent.event().await.0, agent.event().await.0), (41, 40, 41));
    // After holes, live events are no gaps.
    let seq = server.post(&guest, guest.actor(), "Hi").await - 1;
    assert_eq!(visitor.event().await, (seq, "Hi".to_owned()));
}

/// Another tenant's conversation, another visitor's, an unknown one and no id at all are the same to a client.
#[tokio::test]
async fn foreign_conversations_are_not_found() {
    let server = Server::start(Limits { subscriptions_max: 2, ..Limits::default() }).await;
    let (acme, evil) = (server.tenant("acme").await, server.tenant("evil").await);
    let (guest, other) = (server.visitor(&acme, "Gus").await, server.visitor(&acme, "Olaf").await);
    let ids = [guest.conversation.to_string(), ConversationId::fresh().to_string(), "nonsense".to_owned()];
    for token in [&evil.owner.token, &other.token] {
        let mut client = Client::ready(&server, token).await;
        for id in &ids {
            client.send(json!({"type": "subscribe", "conversationId": id, "after": 0})).await;
            assert_eq!(client.next().await, not_found(id));
            client.send(json!({"type": "typing", "conversationId": id})).await;
            assert_eq!(client.next().await, not_found(id));
        }
        server.post(&guest, guest.actor(), "secret").await;
        client.silent().await;
    }
    let mut client = Client::ready(&server, &acme.owner.token).await;
    client.subscribe(guest.conversation, None).await;
    client.subscribe(other.conversation, None).await;
    client.subscribe(other.conversation, None).await;
    let third = server.visitor(&acme, "Tom").await.conversation;
    client.send(json!({"type": "subscribe", "conversationId": third})).await;
    assert_eq!(client.frame().await["code"], "too_many_subscriptions");
}

#[tokio::test]
async fn the_inbox_shows_what_changes_in_the_tenant() {
    let server = Server::start(Limits::default()).await;
    let (acme, evil) = (server.tenant("acme").await, server.tenant("evil").await);
    let mut agent = Client::ready(&server, &acme.owner.token).await;
    let mut foreign = Client::ready(&server, &evil.owner.token).await;
    for client in [&mut agent, &mut foreign] {
        client.send(json!({"type": "subscribe", "topic": "inbox"})).await;
        assert_eq!(client.next().await, Came::Frame(json!({"type": "subscribed", "topic": "inbox"})));
    }
    let guest = server.visitor(&acme, "Gus").await;
    server.post(&guest, guest.actor(), "Hi").await;
    loop {
        let frame = agent.frame().await;
        assert_eq!(frame["type"], "conversation.updated");
        let conversation = &frame["conversation"];
        assert_eq!(conversation["id"], json!(guest.conversation));
        if conversation["lastSeq"] == 3 {
            assert_eq!(conversation["lastMessage"]["content"], "Hi");
            break;
        }
    }
    foreign.silent().await;
    let mut visitor = Client::ready(&server, &guest.token).await;
    visitor.send(json!({"type": "subscribe", "topic": "inbox"})).await;
    assert_eq!(visitor.frame().await["code"], "forbidden");

    let imported = VisitorId::fresh();
    let (content, keys) = server.seal(imported, "old");
    let at = Timestamp(1_589_305_480_000);
    let import = ImportedConversation {
        conversation_id: ConversationId::fresh(),
        external_id: "t-1".to_owned(),
        visitor: NewVisitor::anonymous(imported, "old".to_owned()),
        agent: None,
        tags: Vec::new(),
        resolved: true,
        rating: None,
        messages: vec![ImportedMessage { at, from: AuthorType::Visitor, content, content_chars: 3 }],
    };
    server.submit(acme.id, Actor::Operator, CommandKind::Import(Box::new(import)), keys).await;
    // The last state of a conversation may be shown twice, but nothing is said of the imported one.
    while let Ok(came) = tokio::time::timeout(Duration::from_millis(300), agent.frame()).await {
        assert_eq!(came["conversation"]["id"], json!(guest.conversation));
    }
}

#[tokio::test]
async fn typing_goes_to_the_others_and_into_no_history() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let viewer = server.agent(&tenant, "Vera", Role::Viewer).await;
    let guest = server.visitor(&tenant, "Gus").await;
    let (mut visitor, _) = Client::subscribed(&server, &guest.token, guest.conversation, None).await;
    let (mut agent, _) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, None).await;
    let typing = json!({"type": "typing", "conversationId": guest.conversation});
    for _ in 0..3 {
        visitor.send(typing.clone()).await;
    }
    let expected = json!({"type": "typing", "conversationId": guest.conversation, "authorType": "visitor",
        "author": {"id": guest.id, "name": "Gus"}});
    assert_eq!(agent.frame().await, expected);
    agent.silent().await;
    agent.send(typing.clone()).await;
    assert_eq!(visitor.frame().await["author"]["name"], "Olga");
    let (mut viewer, last) = Client::subscribed(&server, &viewer.token, guest.conversation, Some(0)).await;
    assert_eq!((last, viewer.event().await.0), (1, 1));
    viewer.send(typing).await;
    assert_eq!(viewer.frame().await["code"], "forbidden");
}

#[tokio::test]
async fn malformed_frames_are_answered_ten_times() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let mut client = Client::ready(&server, &tenant.owner.token).await;
    for wrong in ["", "{", "[]", "null", r#"{"type":"shout"}"#, r#"{"type":"ping","x":1}"#, r#"{"type":"subscribe"}"#] {
        client.0.send(Message::text(wrong)).await.unwrap();
        assert_eq!(client.frame().await["code"], "malformed", "{wrong}");
    }
    client.0.send(Message::binary(vec![0xff])).await.unwrap();
    assert_eq!(client.frame().await["code"], "malformed");
    client.send(json!({"type": "ping"})).await;
    assert_eq!(client.next().await, Came::Frame(json!({"type": "pong"})), "it's still served");
    for _ in 0..2 {
        client.send(json!({"type": "subscribe", "topic": "everything"})).await;
        assert_eq!(client.frame().await["code"], "malformed");
    }
    assert_eq!(client.next().await, Came::Closed(4002));
}

#[tokio::test]
async fn large_frames_and_broken_text_are_refused() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let mut client = Client::ready(&server, &tenant.owner.token).await;
    client.0.send(Message::text("x".repeat(64 * 1024))).await.unwrap();
    assert_eq!(client.frame().await["code"], "malformed", "64 KiB are read");
    client.0.send(Message::text("x".repeat(64 * 1024 + 1))).await.unwrap();
    assert_eq!(client.next().await, Came::Closed(1009));
    let mut early = Client::open(&server, None, None).await;
    // The server may refuse it by its header, before all of it is sent.
    let _sent = early.0.send(Message::text("x".repeat(1024 * 1024))).await;
    assert!(matches!(early.next().await, Came::Closed(1009 | 1006)));
    let mut flood = Client::ready(&server, &tenant.owner.token).await;
    for _ in 0..400 {
        if flood.0.send(Message::text(r#"{"type":"ping"}"#)).await.is_err() {
            break;
        }
    }
    let mut came = flood.next().await;
    while matches!(came, Came::Frame(_)) {
        came = flood.next().await;
    }
    assert_eq!(came, Came::Closed(4002), "too many frames");
}

#[tokio::test]
async fn a_socket_ends_with_its_session_its_role_and_its_token() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let (ada, bob) = (server.agent(&tenant, "Ada", Role::Agent).await, server.agent(&tenant, "Bob", Role::Agent).await);
    let (mut first, mut second) = (Client::ready(&server, &ada.token).await, Client::ready(&server, &bob.token).await);
    let kind = CommandKind::CloseSession { session_id: ada.session };
    server.submit(tenant.id, ada.actor(), kind, Vec::new()).await;
    assert_eq!(first.next().await, Came::Closed(4003));
    let mut again = Client::open(&server, None, None).await;
    again.send(json!({"type": "auth", "token": ada.token})).await;
    assert_eq!(again.next().await, Came::Closed(4001));
    let change = AgentUpdated { role: Some(Role::Viewer), ..AgentUpdated::nothing(bob.id) };
    let kind = CommandKind::UpdateAgent { change: Box::new(change), status: None, accepting_chats: None };
    server.submit(tenant.id, tenant.owner.actor(), kind, Vec::new()).await;
    assert_eq!(second.next().await, Came::Closed(4003));

    let token = |left_ms: i64| {
        let issued = Timestamp::now().plus_ms(left_ms - tokens::ACCESS_TOKEN_LIFE_S * 1_000);
        let owner = &tenant.owner;
        tokens::sign_agent(&server.app.key_file, tenant.id, owner.id, owner.session, issued).unwrap()
    };
    let mut ending = Client::ready(&server, &token(2_500)).await;
    let mut renewed = Client::ready(&server, &token(2_500)).await;
    renewed.authenticate(&tenant.owner.token).await;
    assert_eq!(ending.next().await, Came::Closed(4003), "at the token's end");
    renewed.send(json!({"type": "ping"})).await;
    assert_eq!(renewed.frame().await["type"], "pong", "another token put the end off");
    renewed.send(json!({"type": "auth", "token": token(-1_000)})).await;
    assert_eq!(renewed.next().await, Came::Closed(4001));
}

/// A deleted chatbot's visitors lose their sockets and can't come back; another chatbot's and the agents keep theirs.
#[tokio::test]
async fn a_visitors_socket_ends_with_its_chatbot() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let other = server.tenant("other").await;
    let (guest, stranger) = (server.visitor(&tenant, "Gus").await, server.visitor(&other, "Olaf").await);
    let (mut socket, _) = Client::subscribed(&server, &guest.token, guest.conversation, None).await;
    let (mut bystander, _) = Client::subscribed(&server, &stranger.token, stranger.conversation, None).await;
    let mut agent = Client::ready(&server, &tenant.owner.token).await;
    let kind = CommandKind::Delete(Resource::Chatbot(tenant.chatbot));
    server.submit(tenant.id, tenant.owner.actor(), kind, Vec::new()).await;
    assert_eq!(socket.next().await, Came::Closed(4003));
    let mut again = Client::open(&server, None, None).await;
    again.send(json!({"type": "auth", "token": guest.token})).await;
    assert_eq!(again.next().await, Came::Closed(4001));
    bystander.silent().await;
    agent.silent().await;
}

/// Whatever ends an agent's sessions ends their open sockets at once, and nobody else's.
#[tokio::test]
async fn a_socket_ends_with_its_agents_password_rights_and_job() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let owner = tenant.owner.actor();
    let role_id = RoleId::fresh();
    let role = RoleCreated { role_id, name: "Night".to_owned(), permissions: PermissionSet::NONE };
    server.submit(tenant.id, owner, CommandKind::CreateRole(role), Vec::new()).await;
    let mut bystander = Client::ready(&server, &tenant.owner.token).await;
    let give = |agent_id| {
        let change =
            AgentUpdated { role: Some(Role::Agent), custom_role: Some(role_id), ..AgentUpdated::nothing(agent_id) };
        CommandKind::UpdateAgent { change: Box::new(change), status: None, accepting_chats: None }
    };
    let deny = |agent_id| {
        let deny = Some([Permission::VisitorsWrite].into_iter().collect());
        let change = AgentUpdated { deny, ..AgentUpdated::nothing(agent_id) };
        CommandKind::UpdateAgent { change: Box::new(change), status: None, accepting_chats: None }
    };
    let role_change = RoleUpdated { role_id, name: None, permissions: Some(Role::Viewer.permissions()) };
    for ending in ["password", "deny", "removal", "role"] {
        let agent = server.agent(&tenant, "Ada", Role::Agent).await;
        if ending == "role" {
            server.submit(tenant.id, owner, give(agent.id), Vec::new()).await;
        }
        let agent = if ending == "role" { server.sign_in(tenant.id, agent.id).await } else { agent };
        let mut socket = Client::ready(&server, &agent.token).await;
        let kind = match ending {
            "password" => CommandKind::ChangePassword {
                agent_id: agent.id,
                epoch: 0,
                password_hash: "$argon2id$none".to_owned(),
                session: NewSession {
                    session_id: SessionId::fresh(),
                    refresh_sha256: "00".to_owned(),
                    expires_at: Timestamp::now().plus_ms(3_600_000),
                    ip: None,
                },
            },
            "deny" => deny(agent.id),
            "removal" => CommandKind::DeleteAgent { agent_id: agent.id },
            _ => CommandKind::UpdateRole(role_change.clone()),
        };
        server.submit(tenant.id, owner, kind, Vec::new()).await;
        assert_eq!(socket.next().await, Came::Closed(4003), "{ending}");
        let mut again = Client::open(&server, None, None).await;
        again.send(json!({"type": "auth", "token": agent.token})).await;
        assert_eq!(again.next().await, Came::Closed(4001), "{ending}");
    }
    bystander.send(json!({"type": "ping"})).await;
    assert_eq!(bystander.frame().await["type"], "pong");
}

#[tokio::test]
async fn browsers_are_held_to_the_lists_of_origins() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let guest = server.visitor(&tenant, "Gus").await;
    let own = format!("http://{}", server.address);
    for (token, origin, allowed) in [
        (&guest.token, "https://shop.example", true),
        (&guest.token, "https://agents.example", false),
        (&guest.token, "https://shop.example.evil", false),
        (&tenant.owner.token, "https://agents.example", true),
        (&tenant.owner.token, own.as_str(), true),
        (&tenant.owner.token, "https://shop.example", false),
        (&tenant.owner.token, "null", false),
    ] {
        let mut client = Client::open(&server, Some(origin), None).await;
        client.send(json!({"type": "auth", "token": token})).await;
        let expected = if allowed { Came::Frame(json!({"type": "ready"})) } else { Came::Closed(4004) };
        assert_eq!(client.next().await, expected, "{origin}");
    }
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_closed() {
    let server = Server::start(Limits { ping_every: Duration::from_millis(100), ..Limits::default() }).await;
    let tenant = server.tenant("acme").await;
    let mut dead = Client::ready(&server, &tenant.owner.token).await;
    let mut alive = Client::ready(&server, &tenant.owner.token).await;
    let reading = tokio::spawn(async move { alive.next().await });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(dead.next().await, Came::Closed(4008));
    assert!(!reading.is_finished(), "who reads answers pings");
}

#[tokio::test]
async fn a_stopping_server_says_so_after_the_last_event() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let guest = server.visitor(&tenant, "Gus").await;
    let (mut agent, last) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, None).await;
    let mut unknown = Client::open(&server, None, None).await;
    server.post(&guest, guest.actor(), "last words").await;
    let reading = tokio::spawn(async move {
        let heard = (agent.event().await, agent.event().await.0, agent.next().await);
        (heard, unknown.next().await)
    });
    server.stop().await;
    let (heard, unknown) = reading.await.unwrap();
    assert_eq!(heard, ((last + 1, "last words".to_owned()), last + 2, Came::Closed(1001)));
    assert_eq!(unknown, Came::Closed(1001));
}

#[tokio::test]
async fn a_full_server_takes_no_more_sockets() {
    let server = Server::start(Limits { sockets_max: 5, sockets_per_person_max: 1, ..Limits::default() }).await;
    let tenant = server.tenant("acme").await;
    let _held = Client::ready(&server, &tenant.owner.token).await;
    let mut second = Client::open(&server, None, None).await;
    second.send(json!({"type": "auth", "token": tenant.owner.token})).await;
    assert_eq!(second.next().await, Came::Closed(1013), "one a person");
    let mut unknown = Vec::new();
    let refused = loop {
        let url = format!("ws://{}/v1/realtime", server.address);
        let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        match tokio_tungstenite::client_async(url, stream).await {
            Ok((socket, _)) => unknown.push(socket),
            Err(error) => break error,
        }
    };
    assert!(unknown.len() <= 2, "a quarter of the places is for sockets that haven't said whose they are");
    assert!(refused.to_string().contains("503"), "{refused}");
}

/// Fails two reads of three.
struct Flaky(Arc<dyn LogReader>, AtomicUsize);

impl LogReader for Flaky {
    fn end(&self) -> Offset {
        self.0.end()
    }

    fn read(&self, from: Offset, max: usize) -> Result<Vec<Arc<Record>>, ReadError> {
        if self.1.fetch_add(1, Ordering::Relaxed) % 3 != 2 {
            return Err(ReadError::Unavailable("the log is away".into()));
        }
        self.0.read(from, max)
    }

    fn watch_end(&self) -> watch::Receiver<Offset> {
        self.0.watch_end()
    }
}

#[tokio::test]
async fn a_log_that_fails_is_read_again_and_nothing_skipped() {
    let flaky = |reader| -> Arc<dyn LogReader> { Arc::new(Flaky(reader, AtomicUsize::new(0))) };
    let server = Server::start_with(Limits::default(), flaky).await;
    let tenant = server.tenant("acme").await;
    let guest = server.visitor(&tenant, "Gus").await;
    let (mut agent, last) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, None).await;
    for _ in 0..3 {
        server.post(&guest, guest.actor(), "Hi").await;
    }
    for seq in last + 1..=last + 4 {
        assert_eq!(agent.event().await.0, seq);
    }
}
