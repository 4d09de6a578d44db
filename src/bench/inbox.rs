//! The inbox of a tenant with a million conversations: lists, filters and searches over HTTP, until the last byte.
//!
//! The conversations are written straight as rows, by the store's own save path ([`rows`]); nothing happens to them while
//! they are read, so that every run asks the same. The baseline is what 50 rows by their keys and a page's JSON cost.

mod rows;

use super::{Common, Scratch, Spread};
use crate::client::Api;
use crate::config::Store;
use crate::engine::Engine;
use anyhow::{Context as _, bail};
use axum::Router;
use bytes::Bytes;
use chat_api::app::{ApiConfig, App, REQUEST_TIME_MAX};
use chat_api::auth::tokens::VisitorTokens;
use chat_api::files::Files;
use chat_api::http::page::time_cursor;
use chat_api::limits::{Limiter, Rates};
use chat_api::live::LiveHub;
use clap::Args;
use fastrand::Rng;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rows::Sample;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// What no list and no search may take longer than, at the 99th percentile.
const GOAL: Duration = Duration::from_millis(20);
/// Requests before measuring.
const WARM_UP: usize = 20;
/// Items of a page unless asked otherwise.
const PAGE: usize = 50;

/// Flags of `bench inbox`.
#[derive(Args)]
pub struct InboxArgs {
    #[command(flatten)]
    common: Common,
    /// Conversations in the tenant
    #[arg(long, default_value_t = 1_000_000)]
    conversations: usize,
}

/// Makes the conversations, and prints what each list, filter and search takes.
///
/// # Errors
/// When the data directory can't be made, or a request is refused.
pub async fn run(args: &InboxArgs) -> anyhow::Result<()> {
    let scratch = Scratch::new(&args.common.dir)?;
    let store = Store { data_dir: scratch.path().join("data"), key_file: None };
    let engine = Arc::new(Engine::open(&store, true)?);
    let outcome = bench(args, &engine).await;
    engine.close().await;
    outcome
}

async fn bench(args: &InboxArgs, engine: &Arc<Engine>) -> anyhow::Result<()> {
    let app = Arc::new(app(engine)?);
    let (address, serving) = serve(chat_api::http::router(Arc::clone(&app))).await?;
    let people = People::create(&Api::new(&format!("http://{address}"))?).await?;
    let started = Instant::now();
    let sample = rows::fill(&app, &people, args.conversations).await?;
    println!("inbox  {} conversations written in {:.0} s", args.conversations, started.elapsed().as_secs_f64());
    let mut client = Client::connect(&address).await?;
    let time = Duration::from_secs(args.common.seconds);
    baseline(&app, &mut client, &people, &sample, time).await?;
    let mut slow = Vec::new();
    let mut rng = Rng::with_seed(1);
    for (name, token, path) in asked(&people) {
        let mut times = Vec::new();
        for _ in 0..WARM_UP {
            client.get(&path(&mut rng, &sample), token).await?;
        }
        let (started, mut bytes) = (Instant::now(), 0);
        while started.elapsed() < time {
            let path = path(&mut rng, &sample);
            let at = Instant::now();
            bytes += client.get(&path, token).await?.len();
            times.push(at.elapsed());
        }
        let (count, spread) = (times.len(), Spread::of(times));
        println!("inbox  {name:<44} {spread}  {:>6} bytes", bytes / count.max(1));
        if spread.p99 > GOAL {
            slow.push(name);
        }
    }
    serving.abort();
    match slow.as_slice() {
        [] => println!("inbox  every p99 is under {} ms", GOAL.as_millis()),
        slow => println!("inbox  p99 over {} ms: {}", GOAL.as_millis(), slow.join(", ")),
    }
    Ok(())
}

/// The API without what runs beside it: presence and timers would take the conversations up.
fn app(engine: &Arc<Engine>) -> anyhow::Result<App> {
    Ok(App {
        config: ApiConfig {
            public_url: "http://localhost".to_owned(),
            operator_token: None,
            allowed_origins: Vec::new(),
            request_time_max: REQUEST_TIME_MAX,
            trusted_proxies: Vec::new(),
            http_address: None,
            pg_address: None,
            flight_address: None,
        },
        writer: engine.writer.clone(),
        pool: engine.pool.clone(),
        keys: Arc::clone(&engine.keys),
        key_file: Arc::clone(&engine.key_file),
        visitor_tokens: VisitorTokens::default(),
        views: Arc::clone(&engine.views),
        activity: chat_api::activity::Activity::default(),
        live: Arc::new(LiveHub::new()),
        limiter: Limiter::new(Rates::off()),
        files: Arc::new(Files::open(&engine.dir.path().join("files"))?),
        presence: Arc::default(),
        remove_mail: Box::new(|_| Ok(())),
        reports: Arc::new(engine.reports()?),
        probes: Vec::new(),
    })
}

async fn serve(router: Router) -> anyhow::Result<(String, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let serving = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "failed to serve HTTP");
        }
    });
    Ok((address, serving))
}

/// Who works at the tenant.
pub struct People {
    tenant: String,
    owner_token: String,
    /// One of two groups, who sees only these.
    agent_token: String,
    agents: Vec<String>,
    groups: Vec<String>,
}

impl People {
    async fn create(api: &Api) -> anyhow::Result<Self> {
        const PASSWORD: &str = "a long password";
        let text = |value: &Value| {
            anyhow::Ok(value.as_str().with_context(|| format!("expected a text, got {value}"))?.to_owned())
        };
        let body = json!({
            "name": "Bench", "adminName": "Ada", "adminEmail": "ada@bench.example", "adminPassword": PASSWORD,
        });
        let made = api.post("/v1/tenants", "", body).await?;
        let owner_token = text(&made["access_token"])?;
        let (mut agents, mut groups) = (vec![text(&made["agent"]["id"])?], Vec::new());
        for number in 0..20 {
            let email = format!("agent{number}@bench.example");
            let body =
                json!({ "name": format!("Agent {number}"), "email": email, "password": PASSWORD, "role": "agent" });
            agents.push(text(&api.post("/v1/agents", &owner_token, body).await?["id"])?);
        }
        for number in 0..8 {
            let body = json!({ "name": format!("Group {number}"), "routingStrategy": "least_loaded" });
            let id = text(&api.post("/v1/groups", &owner_token, body).await?["id"])?;
            // The first agent is in the first two groups.
            let first = usize::from(number > 1) + 1;
            let members = json!({ "agentIds": agents[first..] });
            api.post(&format!("/v1/groups/{id}/agents"), &owner_token, members).await?;
            groups.push(id);
        }
        let body = json!({ "email": "agent0@bench.example", "password": PASSWORD });
        let signed_in = api.post("/v1/auth/login", "", body).await?;
        Ok(Self {
            tenant: text(&made["tenant"]["id"])?,
            owner_token,
            agent_token: text(&signed_in["access_token"])?,
            agents,
            groups,
        })
    }
}

type Path = Box<dyn Fn(&mut Rng, &Sample) -> String + Send>;

/// What is measured: its name, who asks, and each request's path.
fn asked(people: &People) -> Vec<(&'static str, &str, Path)> {
    let list = |query: &'static str| -> Path { Box::new(move |_, _| format!("/v1/conversations?{query}")) };
    let (owner, agent) = (people.owner_token.as_str(), people.agent_token.as_str());
    let (agents, groups) = (people.agents.clone(), people.groups.clone());
    let any = |from: Vec<String>, query: &'static str| -> Path {
        Box::new(move |rng, _| format!("/v1/conversations?{query}{}", from[rng.usize(..from.len())]))
    };
    let tag = |query: &'static str| -> Path {
        Box::new(move |rng, _| format!("/v1/conversations?{query}{}", rows::tag(rng)))
    };
    let search = |query: fn(&Sample, usize) -> &str| -> Path {
        Box::new(move |rng, sample| {
            let text: String =
                query(sample, rng.usize(..sample.len())).bytes().map(|byte| format!("%{byte:02x}")).collect();
            format!("/v1/conversations?q={text}")
        })
    };
    let deep: Path = Box::new(|rng, sample| {
        let cursor = time_cursor(sample.times[rng.usize(..sample.len())], Uuid::max());
        format!("/v1/conversations?cursor={cursor}")
    });
    let (one, other) = (any(groups.clone(), "groupId="), agents.clone());
    let both: Path = Box::new(move |rng, sample| {
        let agent = &other[rng.usize(..other.len())];
        format!("{}&assignee={agent}", one(rng, sample))
    });
    vec![
        ("list, the first page", owner, list("")),
        ("list, any page", owner, deep),
        ("list, by creation", owner, list("sort=-createdAt")),
        ("list, of an agent of two groups", agent, list("")),
        ("status=pending", owner, list("status=pending")),
        ("status=active", owner, list("status=active")),
        ("status=closed, oldest first", owner, list("status=closed&sort=updatedAt")),
        ("assignee=ID", owner, any(agents.clone(), "assignee=")),
        ("assignee=ID, active", owner, any(agents, "status=active&assignee=")),
        ("assignee=none", owner, list("assignee=none")),
        ("assignee=me, active, of an agent", agent, list("status=active&assignee=me")),
        ("groupId", owner, any(groups.clone(), "groupId=")),
        ("groupId, active, by creation", owner, any(groups, "status=active&sort=createdAt&groupId=")),
        ("groupId and assignee", owner, both),
        ("tag", owner, tag("tag=")),
        ("tag, active", owner, tag("status=active&tag=")),
        ("tag, of an agent of two groups", agent, tag("tag=")),
        ("q, a common first name", owner, search(|_, at| rows::first_name(at))),
        ("q, a last name", owner, search(|sample, at| sample.names[at].rsplit(' ').next().unwrap_or_default())),
        ("q, both names", owner, search(|sample, at| &sample.names[at])),
        ("q, both names, of an agent", agent, search(|sample, at| &sample.names[at])),
        ("q, an address", owner, search(|sample, at| &sample.emails[at])),
        ("q, a readable id", owner, search(|sample, at| &sample.readable[at])),
        ("q, a conversation's id", owner, search(|sample, at| &sample.ids[at])),
        ("q, a tag", owner, tag("q=")),
        ("q, nothing", owner, search(|_, _| "nobody is called so")),
    ]
}

/// 50 rows by their keys, and a page's JSON.
async fn baseline(
    app: &Arc<App>,
    client: &mut Client,
    people: &People,
    sample: &Sample,
    time: Duration,
) -> anyhow::Result<()> {
    let page: Value = serde_json::from_slice(&client.get("/v1/conversations", &people.owner_token).await?)?;
    let ids: Vec<Uuid> = sample.ids.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
    let app = Arc::clone(app);
    let times = tokio::task::spawn_blocking(move || {
        let (started, mut rng, mut times) = (Instant::now(), Rng::with_seed(2), Vec::new());
        while started.elapsed() < time {
            let at = Instant::now();
            app.pool.read(|connection| {
                let mut statement = connection.prepare_cached("SELECT body FROM conversations WHERE id = ?1")?;
                (0..PAGE).try_for_each(|_| {
                    let id = ids[rng.usize(..ids.len())].into_bytes();
                    statement
                        .query_row([id], |row| row.get::<_, String>(0))
                        .map(|body| drop(std::hint::black_box(body)))
                })
            })?;
            std::hint::black_box(serde_json::to_vec(&page)?);
            times.push(at.elapsed());
        }
        anyhow::Ok(times)
    });
    println!("disk   {PAGE} rows by key, and the JSON of a page         {}", Spread::of(times.await??));
    Ok(())
}

/// One connection that is kept open.
struct Client(SendRequest<Empty<Bytes>>);

impl Client {
    async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self(connection))
    }

    async fn get(&mut self, path: &str, token: &str) -> anyhow::Result<Bytes> {
        let request = hyper::Request::get(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::new())?;
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status != 200 {
            bail!("{path} was answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}
