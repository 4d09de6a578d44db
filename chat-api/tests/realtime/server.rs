//! A running API on loopback over a temporary data directory, and people for it, made through the writer.

use async_trait::async_trait;
use chat_api::app::{ApiConfig, App, REQUEST_TIME_MAX};
use chat_api::auth::tokens;
use chat_api::core::command::{AgentDetails, Command, CommandKind, NewAgent, NewMessage, NewSession, NewVisitor};
use chat_api::domain::{Answer, ChatDomain, Submission};
use chat_api::limits::{Limiter, Rates};
use chat_api::live::{Limits, LiveHub};
use chat_api::presence::{self, AWAY_AFTER, Clock, Presence};
use chat_api::store;
use chat_api::view::Views;
use ingest::event::Actor;
use ingest::id::{AgentId, ChatbotId, ConversationId, EventId, PersonId, SessionId, TenantId, VisitorId};
use ingest::log::LogReader;
use ingest::payload::{ChatbotCreated, Role};
use ingest::seal::Sealed;
use ingest::sqlite::{DataDir, NewPersonKey, PersonKeys};
use ingest::time::{Moment, Timestamp};
use ingest::writer::Writer;
use sql::{NotFresh, TableDef, TableSnapshot, TablesError, TenantTables};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No facts: these tests ask for no reports.
struct NoTables;

#[async_trait]
impl TenantTables for NoTables {
    fn tables(&self, _: &str) -> Vec<TableDef> {
        Vec::new()
    }

    fn snapshot(&self, _tenant: &str, table: &str) -> Result<TableSnapshot, TablesError> {
        unreachable!("there is no table {table}")
    }

    fn version(&self, _: &str) -> Option<u64> {
        None
    }

    async fn wait_fresh(&self) -> Result<(), NotFresh> {
        Ok(())
    }
}

/// A running server. Dropping it stops it.
pub struct Server {
    pub app: Arc<App>,
    pub address: SocketAddr,
    cancel: CancellationToken,
    hub: Option<JoinHandle<()>>,
    later_ms: Arc<AtomicI64>,
    _data: DataDir,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts the API on a free port.
    pub async fn start(limits: Limits) -> Self {
        Self::start_with(limits, |reader| reader).await
    }

    /// The same, with the hub following what `follow` makes of the log.
    pub async fn start_with(limits: Limits, follow: impl FnOnce(Arc<dyn LogReader>) -> Arc<dyn LogReader>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path(), None, true).unwrap();
        let (connection, log, key_file) = data.open_database().unwrap();
        let key_file = Arc::new(key_file);
        store::create_tables(&connection).unwrap();
        let pool = data.read_pool();
        let keys = Arc::new(PersonKeys::new(pool.clone(), Arc::clone(&key_file)));
        let views = Arc::new(Views::new(pool.clone(), Arc::clone(&keys)));
        let (writer, _thread) = Writer::spawn(connection, Box::new(log), ChatDomain::default()).unwrap();
        let live = Arc::new(LiveHub::with_limits(limits));
        let cancel = CancellationToken::new();
        let reader = follow(Arc::clone(writer.reader()));
        let from = reader.end();
        let following = Arc::clone(&live).run(reader, Arc::clone(&views), pool.clone(), from, cancel.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = ApiConfig {
            public_url: format!("http://{address}"),
            operator_token: None,
            allowed_origins: vec!["https://agents.example".to_owned()],
            request_time_max: REQUEST_TIME_MAX,
            trusted_proxies: Vec::new(),
            http_address: None,
            pg_address: None,
            flight_address: None,
        };
        let later_ms = Arc::new(AtomicI64::new(0));
        let later = Arc::clone(&later_ms);
        let clock: Clock = Arc::new(move || Moment::now().plus_ms(later.load(Ordering::Relaxed)));
        let reports = Arc::new(sql::Reports::new(Arc::new(NoTables), sql::Limits::default()).unwrap());
        let app = Arc::new(App {
            config,
            writer,
            pool,
            keys,
            key_file,
            visitor_tokens: chat_api::auth::tokens::VisitorTokens::default(),
            views,
            activity: chat_api::activity::Activity::default(),
            live,
            limiter: Limiter::new(Rates::off()),
            files: Arc::new(chat_api::files::Files::open(&data.path().join("files")).unwrap()),
            presence: Arc::new(Presence::new(clock, AWAY_AFTER)),
            remove_mail: Box::new(|_| Ok(())),
            reports,
            probes: Vec::new(),
        });
        let service = chat_api::http::router(Arc::clone(&app));
        let stopped = cancel.clone();
        tokio::spawn(async move {
            let service = service.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, service).with_graceful_shutdown(stopped.cancelled_owned()).await
        });
        tokio::spawn(presence::watch(Arc::clone(&app), cancel.clone()));
        let hub = Some(tokio::spawn(following));
        Self { app, address, cancel, hub, later_ms, _data: data, _dir: dir }
    }

    /// Stops it and waits until every socket is closed.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        self.hub.take().unwrap().await.unwrap();
    }

    /// Lets time pass for presence, which then looks who is gone.
    pub async fn pass(&self, seconds: i64) {
        self.later_ms.fetch_add(seconds * 1_000, Ordering::Relaxed);
        presence::tick(&self.app).await;
    }

    /// Sends a command that must go through.
    pub async fn submit(&self, tenant: TenantId, actor: Actor, kind: CommandKind, keys: Vec<NewPersonKey>) -> Answer {
        let command = Command { tenant, actor, first_event: EventId::fresh(), request: None, cause: None, kind };
        self.app.submit(Submission { command, keys }).await.unwrap().unwrap()
    }

    /// A text about a person, and the person's key if it's new.
    pub fn seal(&self, person: impl Into<PersonId>, text: &str) -> (Sealed, Vec<NewPersonKey>) {
        let (key, new) = self.app.keys.get_or_create(person.into()).unwrap();
        (key.seal(text).unwrap(), new.into_iter().collect())
    }

    fn new_agent(&self, name: &str, role: Role) -> (NewAgent, Vec<NewPersonKey>) {
        let agent_id = AgentId::fresh();
        let (name, keys) = self.seal(agent_id, name);
        let agent = NewAgent {
            agent_id,
            name,
            email: None,
            email_hmac: None,
            password_hash: None,
            role,
            max_concurrent_chats: 6,
            external_id: None,
            details: AgentDetails::default(),
        };
        (agent, keys)
    }

    /// A tenant with its owner, signed in, and a chatbot that `https://shop.example` may use.
    pub async fn tenant(&self, slug: &str) -> Tenant {
        let id = TenantId::fresh();
        let (owner, keys) = self.new_agent("Olga", Role::Owner);
        let owner_id = owner.agent_id;
        let (name, time_zone) = (slug.to_owned(), "UTC".to_owned());
        let kind = CommandKind::CreateTenant { name, slug: slug.to_owned(), time_zone, owner: Some(owner) };
        self.submit(id, Actor::Operator, kind, keys).await;
        let chatbot = ChatbotId::fresh();
        let kind = CommandKind::CreateChatbot(ChatbotCreated {
            chatbot_id: chatbot,
            name: "shop".to_owned(),
            api_key: format!("pk_{chatbot}"),
            allowed_origins: vec!["https://shop.example".to_owned()],
            greeting: "Hello".to_owned(),
            waiting_text: "One moment".to_owned(),
            theme: serde_json::Map::new(),
            default_group_id: None,
        });
        self.submit(id, Actor::Agent(owner_id), kind, Vec::new()).await;
        Tenant { id, owner: self.sign_in(id, owner_id).await, chatbot }
    }

    /// Another agent, signed in.
    pub async fn agent(&self, tenant: &Tenant, name: &str, role: Role) -> Agent {
        let (agent, keys) = self.new_agent(name, role);
        let id = agent.agent_id;
        self.submit(tenant.id, tenant.owner.actor(), CommandKind::CreateAgent(agent), keys).await;
        self.sign_in(tenant.id, id).await
    }

    /// Signs an agent in.
    pub async fn sign_in(&self, tenant: TenantId, id: AgentId) -> Agent {
        let session = SessionId::fresh();
        let expires_at = Timestamp::now().plus_ms(3_600_000);
        let refresh_sha256 = tokens::sha256_hex(&session.to_string());
        let kind = CommandKind::OpenSession {
            agent_id: id,
            epoch: None,
            session: NewSession { session_id: session, refresh_sha256, expires_at, ip: None },
        };
        self.submit(tenant, Actor::System, kind, Vec::new()).await;
        let token = tokens::sign_agent(&self.app.key_file, tenant, id, session, Timestamp::now()).unwrap();
        Agent { id, session, token }
    }

    /// A visitor with a conversation and a session token.
    pub async fn visitor(&self, tenant: &Tenant, name: &str) -> Visitor {
        let (id, conversation) = (VisitorId::fresh(), ConversationId::fresh());
        let (name, keys) = self.seal(id, name);
        let visitor = NewVisitor { name: Some(name), ..NewVisitor::anonymous(id, id.to_string()) };
        let kind = CommandKind::StartSession {
            visitor,
            conversation_id: conversation,
            chatbot_id: tenant.chatbot,
            group_id: None,
            skills: Vec::new(),
            message: None,
        };
        self.submit(tenant.id, Actor::Visitor(id), kind, keys).await;
        let now = Timestamp::now();
        let (token, _) =
            tokens::sign_visitor(&self.app.key_file, tenant.id, id, conversation, tenant.chatbot, now, 24).unwrap();
        Visitor { tenant: tenant.id, id, conversation, token }
    }

    /// Posts a message; answers its `seq`.
    pub async fn post(&self, visitor: &Visitor, by: Actor, text: &str) -> u64 {
        let (content, keys) = self.seal(visitor.id, text);
        let content_chars = u32::try_from(text.chars().count()).unwrap();
        let message = NewMessage { content, content_chars, client_id: None, metadata: None, file_id: None };
        let kind = CommandKind::PostMessage { conversation_id: visitor.conversation, message };
        self.submit(visitor.tenant, by, kind, keys).await.conversation.unwrap().last_seq
    }

    /// Posts a note; answers its `seq`.
    pub async fn note(&self, visitor: &Visitor, by: Actor, text: &str) -> u64 {
        let (content, keys) = self.seal(visitor.id, text);
        let kind = CommandKind::PostNote { conversation_id: visitor.conversation, content, client_id: None };
        self.submit(visitor.tenant, by, kind, keys).await.conversation.unwrap().last_seq
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

pub struct Tenant {
    pub id: TenantId,
    pub owner: Agent,
    pub chatbot: ChatbotId,
}

pub struct Agent {
    pub id: AgentId,
    pub session: SessionId,
    pub token: String,
}

impl Agent {
    pub fn actor(&self) -> Actor {
        Actor::Agent(self.id)
    }
}

#[derive(Clone)]
pub struct Visitor {
    pub tenant: TenantId,
    pub id: VisitorId,
    pub conversation: ConversationId,
    pub token: String,
}

impl Visitor {
    pub fn actor(&self) -> Actor {
        Actor::Visitor(self.id)
    }
}
