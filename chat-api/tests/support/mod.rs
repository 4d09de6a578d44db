//! A server for tests: a temporary data directory, the real writer, the real router, no listener. Start at [`Server`].

#![allow(dead_code, reason = "each test binary uses its part")]

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use chat_api::app::{ApiConfig, App, Health, REQUEST_TIME_MAX};
use chat_api::core::state::Mail;
use chat_api::domain::ChatDomain;
use chat_api::files::Files;
use chat_api::limits::{Limiter, Rates, Room};
use chat_api::live::LiveHub;
use chat_api::presence::{self, AWAY_AFTER, Clock, Presence};
use chat_api::store;
use chat_api::view::Views;
use futures_util::StreamExt as _;
use ingest::event::Event;
use ingest::payload::MailKind;
use ingest::sqlite::{DataDir, PersonKeys};
use ingest::time::{Moment, Timestamp};
use ingest::writer::{Domain as _, Writer};
use serde_json::{Value, json};
use sql::{Limits, NotFresh, Reports, TableDef, TableSnapshot, TablesError, TenantTables};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tower::ServiceExt as _;

/// The operator token of test servers.
pub const OPERATOR: &str = "operator-token-of-the-tests";
/// An origin that the tests' chatbots allow.
pub const ORIGIN: &str = "https://shop.example";
/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery";

/// No facts at all: reports have their own tests.
struct NoTables;

#[async_trait]
impl TenantTables for NoTables {
    fn tables(&self, _: &str) -> Vec<TableDef> {
        Vec::new()
    }

    fn snapshot(&self, _: &str, table: &str) -> Result<TableSnapshot, TablesError> {
        Err(TablesError::Fault(format!("there is no table {table}")))
    }

    fn version(&self, _: &str) -> Option<u64> {
        None
    }

    async fn wait_fresh(&self) -> Result<(), NotFresh> {
        Ok(())
    }
}

/// A running server; everything in it goes with it.
pub struct Server {
    /// What the routes share.
    pub app: Arc<App>,
    router: Router,
    data: DataDir,
    writer: Option<JoinHandle<()>>,
    dir: tempfile::TempDir,
    later_ms: Arc<AtomicI64>,
}

/// How a server differs from the others.
pub struct Setup {
    /// How often somebody may call; without limits unless they are what is tested.
    pub rates: Rates,
    /// More routes.
    pub more: Router<Arc<App>>,
    /// For a request.
    pub request_time_max: Duration,
    /// What may be written; everything unless it's what is tested.
    pub room: Room,
}

impl Default for Setup {
    fn default() -> Self {
        Self { rates: Rates::off(), more: Router::new(), request_time_max: REQUEST_TIME_MAX, room: Room::unlimited() }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as JSON; `null` when it isn't.
    pub json: Value,
    /// The body as text.
    pub text: String,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Reply {
    /// The body, after checking the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A request being put together.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    peer: Option<SocketAddr>,
}

impl Call {
    /// A request without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: None, peer: None }
    }

    /// A `GET`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A `POST` of JSON.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::POST, path).json(body)
    }

    /// With a JSON body.
    pub fn json(self, body: Value) -> Self {
        self.header("content-type", "application/json").raw(body.to_string())
    }

    /// With any body.
    pub fn raw(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A `PATCH` of JSON.
    pub fn patch(path: impl Into<String>, body: Value) -> Self {
        Self::new(Method::PATCH, path).json(body)
    }

    /// A `DELETE`.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// From an address, over a connection.
    pub fn by_ip(mut self, address: &str) -> Self {
        self.peer = Some(SocketAddr::new(address.parse().expect("an address"), 40_000));
        self
    }

    /// With a bearer token.
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With this bearer token and no other.
    pub fn only_token(mut self, token: &str) -> Self {
        self.headers.retain(|(name, _)| name != "authorization");
        self.token(token)
    }

    /// With an idempotency key.
    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }
}

impl Server {
    /// An empty server.
    pub fn start() -> Self {
        Self::start_with(Setup::default())
    }

    /// The same, set up otherwise.
    pub fn start_with(setup: Setup) -> Self {
        let later_ms = Arc::new(AtomicI64::new(0));
        let later = Arc::clone(&later_ms);
        let clock: Clock = Arc::new(move || Moment::now().plus_ms(later.load(Ordering::Relaxed)));
        let dir = tempfile::tempdir().expect("temp dir");
        let data = DataDir::open(&dir.path().join("data"), None, true).expect("data directory");
        let (connection, log, key_file) = data.open_database().expect("database");
        let key_file = Arc::new(key_file);
        store::create_tables(&connection).expect("tables");
        let pool = data.read_pool();
        let keys = Arc::new(PersonKeys::new(pool.clone(), Arc::clone(&key_file)));
        let (writer, handle) = Writer::spawn(connection, Box::new(log), ChatDomain::default()).expect("writer");
        let limits = Limits { threads: 1, ..Limits::default() };
        let app = Arc::new(App {
            config: ApiConfig {
                public_url: "http://chat.test".to_owned(),
                operator_token: Some(OPERATOR.to_owned()),
                allowed_origins: vec!["https://inbox.example".to_owned()],
                request_time_max: setup.request_time_max,
                trusted_proxies: vec!["10.0.0.0/8".parse().expect("a range")],
                http_address: Some("127.0.0.1:8080".to_owned()),
                pg_address: None,
                flight_address: None,
            },
            writer,
            pool: pool.clone(),
            keys: Arc::clone(&keys),
            key_file,
            visitor_tokens: chat_api::auth::tokens::VisitorTokens::default(),
            views: Arc::new(Views::new(pool, keys)),
            activity: chat_api::activity::Activity::default(),
            live: Arc::new(LiveHub::new()),
            limiter: Limiter::new(setup.rates).within(setup.room),
            files: Arc::new(Files::open(&data.path().join("files")).expect("files")),
            presence: Arc::new(Presence::new(clock, AWAY_AFTER)),
            remove_mail: Box::new(|_| Ok(())),
            reports: Arc::new(Reports::new(Arc::new(NoTables), limits).expect("reports")),
            probes: vec![("log", Box::new(|| Health::Fine))],
        });
        let router = chat_api::http::router_with(Arc::clone(&app), chat_api::http::routes(), setup.more);
        Self { app, router, data, writer: Some(handle), dir, later_ms }
    }

    /// Where its data is.
    pub fn data_dir(&self) -> &std::path::Path {
        self.data.path()
    }

    /// The bytes of the database, as a thief would have them.
    pub fn database(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for file in ["parlance.db", "parlance.db-wal"] {
            bytes.extend(std::fs::read(self.data_dir().join(file)).expect("a database file"));
        }
        bytes
    }

    /// The hash of the state that the log gives when it's applied from its beginning.
    pub fn replayed_state_hash(&self) -> String {
        let target = rusqlite::Connection::open_in_memory().expect("a database");
        store::create_tables(&target).expect("tables");
        let replay = |connection: &rusqlite::Connection| {
            let mut domain = ChatDomain::default();
            let mut statement = connection.prepare("SELECT body FROM log ORDER BY \"offset\"")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let event = Event::decode(row.get_ref(0)?.as_str()?).expect("an event");
                domain.replay(&target, &event)?;
                // From rows each time: what `apply` needs must be loaded for it.
                domain.flush(&target)?;
                domain.discard();
            }
            store::hash::state_hash(&target)
        };
        self.app.pool.read(replay).expect("a replay")
    }

    /// Lets time pass for presence, which then looks who is gone.
    pub async fn pass(&self, seconds: i64) {
        self.later_ms.fetch_add(seconds * 1_000, Ordering::Relaxed);
        presence::tick(&self.app).await;
    }

    /// Sends a request.
    pub async fn call(&self, call: Call) -> Reply {
        let mut request = Request::builder().method(call.method).uri(call.path);
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(call.body.map_or_else(Body::empty, Body::from)).expect("a request");
        if let Some(peer) = call.peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        // A stream goes on as long as somebody listens.
        let endless = parts.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let body = if endless { Body::empty() } else { body };
        let bytes = read_all(body).await;
        Reply {
            status: parts.status,
            headers: parts.headers,
            json: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
        }
    }

    /// Signs a tenant up and makes it a chatbot that allows [`ORIGIN`].
    pub async fn tenant(&self, name: &str) -> Tenant {
        let email = format!("owner@{}.example", name.to_lowercase());
        let body = json!({ "name": name, "adminName": "Owner", "adminEmail": email, "adminPassword": PASSWORD });
        let made = self.call(Call::post("/v1/tenants", body)).await.expect(201);
        let token = text(&made["access_token"]);
        let body = json!({ "name": "Site", "allowedOrigins": [ORIGIN] });
        let chatbot = self.call(Call::post("/v1/chatbots", body).token(&token)).await.expect(201);
        Tenant {
            id: text(&made["tenant"]["id"]),
            slug: text(&made["tenant"]["slug"]),
            owner: text(&made["agent"]["id"]),
            email,
            token,
            refresh_token: text(&made["refresh_token"]),
            chatbot: text(&chatbot["id"]),
            chatbot_key: text(&chatbot["apiKey"]),
        }
    }

    /// Adds an agent and signs them in.
    pub async fn agent(&self, tenant: &Tenant, name: &str, role: &str) -> (String, String) {
        let email = format!("{}@{}.example", name.to_lowercase(), tenant.slug);
        let body = json!({ "name": name, "email": email, "password": PASSWORD, "role": role });
        let made = self.call(Call::post("/v1/agents", body).token(&tenant.token)).await.expect(201);
        let body = json!({ "email": email, "password": PASSWORD, "tenant": tenant.slug });
        let signed_in = self.call(Call::post("/v1/auth/login", body)).await.expect(200);
        (text(&made["id"]), text(&signed_in["access_token"]))
    }

    /// Signs an agent of the tenant in.
    pub async fn log_in(&self, tenant: &Tenant, email: &str, password: &str) -> Reply {
        let body = json!({ "email": email, "password": password, "tenant": tenant.slug });
        self.call(Call::post("/v1/auth/login", body)).await
    }

    /// Mails of a kind that wait to be sent, the oldest first.
    pub fn mails(&self, kind: MailKind) -> Vec<Mail> {
        let look = |connection: &rusqlite::Connection| {
            store::outbox::due(connection, kind.is_urgent(), None, Timestamp(i64::MAX))
        };
        let look = self.app.pool.read(look).expect("mails");
        assert!(!look.more, "a tenant has more mails than one look shows");
        let mails = look.mails.into_iter().map(|due| due.mail);
        let mut mails: Vec<Mail> = mails.filter(|mail| mail.kind == kind).collect();
        mails.sort_by_key(|mail| (mail.challenge, mail.invitation));
        mails
    }

    /// The same, once there are so many: some are asked for beside the answer.
    pub async fn wait_for_mails(&self, kind: MailKind, count: usize) -> Vec<Mail> {
        for _ in 0..500 {
            let mails = self.mails(kind);
            if mails.len() >= count {
                return mails;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("there are {} mails, not {count}", self.mails(kind).len());
    }

    /// Starts a visitor's session.
    pub async fn session(&self, tenant: &Tenant, body: Value) -> Value {
        let call = Call::post("/v1/widget/session", body).header("x-chatbot-key", &tenant.chatbot_key);
        self.call(call).await.expect(201)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The directory must not be removed under the writer: it ends once its queue is closed.
        let writer = self.app.writer.clone();
        let stopping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            if let Ok(runtime) = runtime {
                runtime.block_on(writer.stop());
            }
        });
        drop(stopping.join());
        if let Some(handle) = self.writer.take() {
            drop(handle.join());
        }
    }
}

/// A tenant with its owner signed in.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its id.
    pub id: String,
    /// Its slug.
    pub slug: String,
    /// The owner's id.
    pub owner: String,
    /// The owner's address.
    pub email: String,
    /// The owner's access token.
    pub token: String,
    /// The owner's refresh token.
    pub refresh_token: String,
    /// Its chatbot.
    pub chatbot: String,
    /// The chatbot's key.
    pub chatbot_key: String,
}

/// A body's bytes, each part let go once it's read, as a connection does.
async fn read_all(body: Body) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        bytes.extend_from_slice(&part.expect("a part of the body"));
    }
    bytes
}

/// A JSON string's text.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected a text, found {value}")).to_owned()
}

/// Waits until the clock shows another millisecond: what changes in one is listed by id, whichever changed last.
pub async fn next_millisecond() {
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
}
