//! What is told and not stored: typing, presence, places in the queue; and who is told.

use super::client::{Came, Client};
use super::not_found;
use super::server::{Server, Tenant, Visitor};
use chat_api::core::command::{CommandKind, TransferTo};
use chat_api::live::{Limits, Person};
use chat_api::store::read;
use ingest::id::{ConversationId, GroupId};
use ingest::payload::{AgentStatus, AgentUpdated, GroupCreated, Resource, Role, RoutingStrategy};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// `POST` without a body; answers the status.
async fn post(server: &Server, path: &str, token: &str) -> u16 {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.0\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn typing_over_http_reaches_the_other_side() {
    let server = Server::start(Limits::default()).await;
    let (tenant, evil) = (server.tenant("acme").await, server.tenant("evil").await);
    let guest = server.visitor(&tenant, "Gus").await;
    let viewer = server.agent(&tenant, "Vi", Role::Viewer).await;
    let (mut agent, _) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, None).await;
    let (mut visitor, _) = Client::subscribed(&server, &guest.token, guest.conversation, None).await;
    assert_eq!(post(&server, "/v1/widget/typing", &guest.token).await, 200);
    let frame = agent.frame().await;
    assert_eq!((&frame["type"], &frame["author"]["name"]), (&json!("typing"), &json!("Gus")));
    let path = format!("/v1/conversations/{}/typing", guest.conversation);
    assert_eq!(post(&server, &path, &tenant.owner.token).await, 200);
    let frame = visitor.frame().await;
    assert_eq!((&frame["type"], &frame["authorType"]), (&json!("typing"), &json!("agent")));
    assert_eq!(post(&server, &path, &viewer.token).await, 403);
    assert_eq!(post(&server, &path, &evil.owner.token).await, 404);
    let unknown = format!("/v1/conversations/{}/typing", ConversationId::fresh());
    assert_eq!(post(&server, &unknown, &tenant.owner.token).await, 404);
    agent.silent().await;
    visitor.silent().await;
}

#[tokio::test]
async fn both_sides_see_how_far_was_read_and_history_does_not() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let (guest, other) = (server.visitor(&tenant, "Gus").await, server.visitor(&tenant, "Olaf").await);
    server.post(&guest, guest.actor(), "Hi").await;
    let (mut agent, _) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, None).await;
    let (mut visitor, _) = Client::subscribed(&server, &guest.token, guest.conversation, None).await;
    let (mut stranger, _) = Client::subscribed(&server, &other.token, other.conversation, None).await;
    for (actor, reader) in [(tenant.owner.actor(), "agent"), (guest.actor(), "visitor")] {
        let kind = CommandKind::Read { conversation_id: guest.conversation, seq: 2 };
        server.submit(tenant.id, actor, kind, Vec::new()).await;
        let frame = json!({ "type": "read", "conversationId": guest.conversation, "authorType": reader, "seq": 2 });
        assert_eq!(agent.frame().await, frame);
        assert_eq!(visitor.frame().await, frame);
    }
    stranger.silent().await;
    let (mut again, _) = Client::subscribed(&server, &guest.token, guest.conversation, Some(0)).await;
    for _ in 0..3 {
        assert_eq!(again.frame().await["type"], "event");
    }
    again.silent().await;
}

async fn take(server: &Server, tenant: &Tenant, guest: &Visitor) {
    let kind = CommandKind::Take { conversation_id: guest.conversation };
    server.submit(tenant.id, tenant.owner.actor(), kind, Vec::new()).await;
}

#[tokio::test]
async fn each_side_sees_whether_the_other_is_there() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let (guest, other) = (server.visitor(&tenant, "Gus").await, server.visitor(&tenant, "Olaf").await);
    let (mut agent, _) = Client::subscribed(&server, &tenant.owner.token, guest.conversation, None).await;
    let visitor_is = |status: &str| {
        json!({ "type": "presence", "conversationId": guest.conversation, "authorType": "visitor",
            "author": { "id": guest.id, "name": "Gus" }, "status": status })
    };
    assert_eq!(agent.aside("presence").await, visitor_is("away"), "how it is comes first");
    let _elsewhere = Client::ready(&server, &other.token).await;
    let (mut visitor, _) = Client::subscribed(&server, &guest.token, guest.conversation, None).await;
    assert_eq!(agent.aside("presence").await, visitor_is("online"));

    server.post(&guest, guest.actor(), "Hi").await;
    take(&server, &tenant, &guest).await;
    let offline = visitor.aside("presence").await;
    assert_eq!((&offline["authorType"], &offline["author"]["id"]), (&json!("agent"), &json!(tenant.owner.id)));
    assert_eq!(offline["status"], "offline");
    let (agent_id, status) = (tenant.owner.id, AgentStatus::Online);
    let kind = CommandKind::SetAgentStatus { agent_id, status, accepting_chats: None };
    server.submit(tenant.id, tenant.owner.actor(), kind, Vec::new()).await;
    assert_eq!(visitor.aside("presence").await["status"], "online");
    drop(visitor);
    // A page that is loaded anew isn't away in between.
    server.pass(59).await;
    assert!(server.app.presence.is_present(tenant.id, Person::Visitor(guest.id)));
    server.pass(2).await;
    assert_eq!(agent.aside("presence").await, visitor_is("away"));
}

#[tokio::test]
async fn who_waits_sees_their_place_change() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let mut guests = Vec::new();
    for name in ["First", "Second", "Third"] {
        let guest = server.visitor(&tenant, name).await;
        let (client, _) = Client::subscribed(&server, &guest.token, guest.conversation, None).await;
        guests.push((guest, client));
    }
    for (guest, _) in &guests {
        server.post(guest, guest.actor(), "Hi").await;
    }
    let (mut agent, _) = Client::subscribed(&server, &tenant.owner.token, guests[2].0.conversation, None).await;
    for (place, (guest, client)) in (1..).zip(&mut guests) {
        let mut frame = client.aside("queue").await;
        while frame["position"] != place {
            frame = client.aside("queue").await;
        }
        assert_eq!(frame["conversationId"], json!(guest.conversation));
        assert!(frame.as_object().unwrap().contains_key("etaSeconds"));
    }
    take(&server, &tenant, &guests[0].0).await;
    assert_eq!(guests[0].1.aside("queue").await["position"], json!(null), "waits no longer");
    assert_eq!(guests[1].1.aside("queue").await["position"], 1);
    assert_eq!(guests[2].1.aside("queue").await["position"], 2);
    // Only the visitor is told; the agent reads on without a queue frame.
    while let Ok(came) = tokio::time::timeout(Duration::from_millis(300), agent.any()).await {
        assert_ne!(came["type"], "queue");
    }
}

/// Passes a conversation on to a group that nobody is in.
async fn hide(server: &Server, tenant: &Tenant, guest: &Visitor) {
    let group_id = GroupId::fresh();
    let group = GroupCreated {
        group_id,
        name: "Elsewhere".into(),
        description: String::new(),
        routing_strategy: RoutingStrategy::LeastLoaded,
        is_default: false,
    };
    let transfer =
        CommandKind::Transfer { conversation_id: guest.conversation, to: TransferTo::Group(group_id), note: None };
    for kind in [CommandKind::CreateGroup(group), transfer] {
        server.submit(tenant.id, tenant.owner.actor(), kind, Vec::new()).await;
    }
}

#[tokio::test]
async fn a_group_s_conversations_are_for_its_agents() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let ada = server.agent(&tenant, "Ada", Role::Agent).await;
    let (open, hidden) = (server.visitor(&tenant, "Gus").await, server.visitor(&tenant, "Olaf").await);
    let (mut agent, _) = Client::subscribed(&server, &ada.token, hidden.conversation, None).await;
    let mut inbox = Client::ready(&server, &ada.token).await;
    let mut supervisor = Client::ready(&server, &tenant.owner.token).await;
    for client in [&mut inbox, &mut supervisor] {
        client.send(json!({"type": "subscribe", "topic": "inbox"})).await;
        assert_eq!(client.frame().await["type"], "subscribed");
    }
    server.post(&hidden, hidden.actor(), "Hi").await;
    // The change of hands lets go of those who may no longer listen.
    hide(&server, &tenant, &hidden).await;
    loop {
        match agent.next().await {
            Came::Frame(frame) if frame["type"] == "event" => {}
            came => {
                assert_eq!(came, not_found(&hidden.conversation.to_string()));
                break;
            }
        }
    }
    server.post(&hidden, hidden.actor(), "a secret").await;
    agent.silent().await;
    agent.send(json!({"type": "subscribe", "conversationId": hidden.conversation, "after": 0})).await;
    assert_eq!(agent.next().await, not_found(&hidden.conversation.to_string()));
    assert_eq!(post(&server, &format!("/v1/conversations/{}/typing", hidden.conversation), &ada.token).await, 404);

    let read = |connection: &rusqlite::Connection| read::conversation(connection, tenant.id, hidden.conversation);
    let last_seq = server.app.pool.read(read).unwrap().unwrap().last_seq;
    while supervisor.frame().await["conversation"]["lastSeq"] != last_seq {}
    while let Ok(frame) = tokio::time::timeout(Duration::from_millis(300), inbox.frame()).await {
        assert_ne!(frame["conversation"]["lastSeq"], json!(last_seq), "nothing after it was passed on: {frame}");
    }
    server.post(&open, open.actor(), "Hi").await;
    assert_eq!(inbox.frame().await["conversation"]["id"], json!(open.conversation));
}

/// The server stops in time although a peer reads nothing and something waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_nothing_does_not_hold_the_stop_up() {
    let limits = Limits {
        queue_frames_max: 10_000,
        queue_bytes_max: 1 << 30,
        write_timeout: Duration::from_secs(60),
        shutdown_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let tenant = server.tenant("acme").await;
    let guest = server.visitor(&tenant, "Gus").await;
    let mut stalled = Client::open(&server, None, Some(4_096)).await;
    stalled.authenticate(&tenant.owner.token).await;
    stalled.subscribe(guest.conversation, None).await;
    let text = "x".repeat(100_000);
    for _ in 0..100 {
        server.post(&guest, guest.actor(), &text).await;
    }
    let app = std::sync::Arc::clone(&server.app);
    assert_eq!(app.live.sockets(), 1);
    let started = std::time::Instant::now();
    server.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(app.live.sockets(), 0);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(std::sync::Arc::strong_count(&app), 1, "nothing holds on to the server");
}

#[tokio::test]
async fn an_address_takes_so_many_sockets() {
    let server = Server::start(Limits { sockets_per_ip_max: 2, ..Limits::default() }).await;
    let tenant = server.tenant("acme").await;
    let _held = [Client::ready(&server, &tenant.owner.token).await, Client::open(&server, None, None).await];
    let url = format!("ws://{}/v1/realtime", server.address);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let refused = tokio_tungstenite::client_async(url, stream).await.expect_err("refused");
    assert!(refused.to_string().contains("503"), "{refused}");
}

/// A deleted group's conversations come to the default group, and without one to everyone: when that changes, open sockets
/// end what isn't theirs any more.
#[tokio::test]
async fn a_socket_ends_what_another_default_group_takes_away() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let ada = server.agent(&tenant, "Ada", Role::Agent).await;
    let guest = server.visitor(&tenant, "Gus").await;
    let owner = tenant.owner.actor();
    let group = |name: &str, is_default: bool| GroupCreated {
        group_id: GroupId::fresh(),
        name: name.to_owned(),
        description: String::new(),
        routing_strategy: RoutingStrategy::LeastLoaded,
        is_default,
    };
    let old = group("Old", false);
    let old_id = old.group_id;
    let moved = CommandKind::UpdateConversation {
        conversation_id: guest.conversation,
        notes: None,
        group_id: Some(Some(old_id)),
    };
    let deleted = CommandKind::Delete(Resource::Group(old_id));
    for kind in [CommandKind::CreateGroup(old), moved, deleted] {
        server.submit(tenant.id, owner, kind, Vec::new()).await;
    }
    let (mut socket, _) = Client::subscribed(&server, &ada.token, guest.conversation, None).await;
    let default = CommandKind::CreateGroup(group("Default", true));
    server.submit(tenant.id, owner, default, Vec::new()).await;
    let told = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.expect("told in time");
    assert_eq!(told, not_found(&guest.conversation.to_string()));
    server.stop().await;
}

/// The address of a conversation's agent is for themselves and for who manages agents; others get `null` for it.
#[tokio::test]
async fn the_inbox_shows_colleagues_without_addresses() {
    let server = Server::start(Limits::default()).await;
    let tenant = server.tenant("acme").await;
    let vera = server.agent(&tenant, "Vera", Role::Viewer).await;
    let guest = server.visitor(&tenant, "Gus").await;
    let (email, _) = server.seal(tenant.owner.id, "olga@secret.example");
    let change = AgentUpdated { email: Some(email), ..AgentUpdated::nothing(tenant.owner.id) };
    let kind = CommandKind::UpdateAgent { change: Box::new(change), status: None, accepting_chats: None };
    server.submit(tenant.id, tenant.owner.actor(), kind, Vec::new()).await;
    let owner = server.sign_in(tenant.id, tenant.owner.id).await;
    let mut shown = Vec::new();
    let mut sockets = [Client::ready(&server, &owner.token).await, Client::ready(&server, &vera.token).await];
    for socket in &mut sockets {
        socket.send(json!({"type": "subscribe", "topic": "inbox"})).await;
        socket.frame().await;
    }
    let take = CommandKind::Take { conversation_id: guest.conversation };
    server.submit(tenant.id, owner.actor(), take, Vec::new()).await;
    for socket in &mut sockets {
        let conversation = loop {
            let frame = socket.frame().await;
            if frame["conversation"]["agentName"] == "Olga" {
                break frame["conversation"].clone();
            }
        };
        shown.push(conversation["agentEmail"].clone());
    }
    assert_eq!(shown, [json!("olga@secret.example"), json!(null)]);
    server.stop().await;
}
