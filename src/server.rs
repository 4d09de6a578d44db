//! A running server: an engine with jobs, mail, live sockets, reports and HTTP; started and stopped in order.

use crate::config::{Serve, ServeArgs};
use crate::connections::places::{self, Places};
use crate::connections::{self, Waits};
use crate::ending::on_signal;
use crate::engine::Engine;
use crate::pg::PgDoor;
use crate::rebuild::{self, View};
use crate::verify::{self, Findings};
use crate::wiring::disk::{self, DiskProbe};
use crate::wiring::{jobs, mail::StateOutbox};
use anyhow::Context as _;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use chat_api::app::{ApiConfig, App, Health, Probe, REQUEST_TIME_MAX, RemoveMail};
use chat_api::auth::tokens::VisitorTokens;
use chat_api::files::{self, Files};
use chat_api::http::extract::Write;
use chat_api::http::problem::Problem;
use chat_api::http::surface::describe::Operation;
use chat_api::http::surface::{ANYONE, OPERATOR, Routes};
use chat_api::limits::disk::Disk;
use chat_api::limits::{Limit, Limiter, Room, usage};
use chat_api::live::LiveHub;
use chat_api::names;
use chat_api::presence::{self, Presence};
use chat_api::store::{read, save};
use ingest::sqlite::data_dir::consumer_offset;
use ingest::time::{Moment, Timestamp};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinks::smtp::{MailConfig, MailRate, Mailer, Outbox, OutboxStatus, SystemClock};
use socket2::SockRef;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Requests under way get this long to finish at shutdown; queries are refused at once.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// A peer that takes no byte of what is sent to it for this long is gone, whatever it asked for.
const UNREAD_MAX: Duration = Duration::from_secs(30);
/// Mails that are due and wait longer for their turn are told on `/readyz`.
const MAIL_LATE_MS: i64 = 60_000;
/// Open files that every system gives a process.
const OPEN_FILES_LEAST: u64 = 1_024;
/// Idempotency keys are forgotten after a day; looked at this often.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// `serve`: runs until Ctrl-C or SIGTERM.
///
/// # Errors
/// Names what keeps the server from starting.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let settings = args.resolve()?;
    init_logs(settings.log_json, "info");
    let mut server = Server::start(settings).await?;
    let outcome = serve(&mut server).await;
    server.stop().await;
    outcome
}

/// Says where the server is, and lets it be until a signal comes.
async fn serve(server: &mut Server) -> anyhow::Result<()> {
    let asked = on_signal()?;
    let pg = server.app.config.pg_address.as_ref().map(|address| format!("\nthe Postgres wire is at {address}"));
    // Whoever started it may read one line and no more; that is no reason to end.
    if let Err(error) =
        writeln!(std::io::stdout(), "parlance is at http://{}{}", server.address, pg.unwrap_or_default())
    {
        tracing::debug!(%error, "nobody reads where the server is");
    }
    tokio::select! {
        () = asked.cancelled() => Ok(()),
        error = server.failure() => Err(error),
    }
}

/// Logs to standard error; `PARLANCE_LOG` filters, for example `debug,hyper=warn`, else `default` does. A filter that is none
/// is among the [`Problems`](crate::config::Problems) of the environment.
pub fn init_logs(json: bool, default: &str) {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_from_env("PARLANCE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let logs = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let outcome = if json { logs.json().try_init() } else { logs.try_init() };
    if let Err(error) = outcome {
        eprintln!("parlance: failed to set logs up: {error}");
    }
}

/// A started server. [`stop`](Self::stop) finishes what it accepted.
pub struct Server {
    /// Where HTTP listens.
    pub address: SocketAddr,
    /// What the routes share.
    pub app: Arc<App>,
    engine: Arc<Engine>,
    tasks: JoinSet<()>,
    jobs_thread: JoinHandle<()>,
    // Ended in this order: no new requests, then sockets, then jobs and mail, then the engine.
    stop_http: CancellationToken,
    stop_live: CancellationToken,
    stop_work: CancellationToken,
}

/// What listens, before anything is behind it.
struct Doors {
    listener: TcpListener,
    address: SocketAddr,
    connections_max: usize,
    places: Arc<Places>,
    pg: Option<PgDoor>,
}

impl Server {
    /// Opens the data directory (made if missing), starts everything, listens.
    ///
    /// # Errors
    /// Names what is missing, taken or damaged.
    pub async fn start(settings: Serve) -> anyhow::Result<Self> {
        Self::start_with(settings, Router::new()).await
    }

    /// The same, with more pages.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(settings: Serve, pages: Router<Arc<App>>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await;
        let listener = listener.with_context(|| format!("failed to listen on {}", settings.listen))?;
        let address = listener.local_addr()?;
        let connections = settings.connections.clone().within(open_files());
        let connections_max = connections.max;
        let places = Arc::new(Places::new(connections, settings.waits));
        let pg = match &settings.pg {
            Some(pg) => Some(PgDoor::open(pg).await?),
            None => None,
        };
        let engine = Arc::new(Engine::open(&settings.store, true)?);
        let doors = Doors { listener, address, connections_max, places, pg };
        match Self::start_on(Arc::clone(&engine), settings, doors, pages) {
            Ok(server) => Ok(server),
            Err(error) => {
                // Its threads end before the runtime does.
                engine.close().await;
                Err(error)
            }
        }
    }

    /// Starts everything on an open engine; nothing that was started goes on when something can't be.
    fn start_on(engine: Arc<Engine>, settings: Serve, doors: Doors, pages: Router<Arc<App>>) -> anyhow::Result<Self> {
        let Doors { listener, address, connections_max, places, pg } = doors;
        let public_url = settings.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
        let stop_http = CancellationToken::new();
        let (stop_live, stop_work) = (CancellationToken::new(), CancellationToken::new());

        let outbox = Arc::new(outbox(&engine, &settings, &public_url)?);
        let next = engine.pool.read(|connection| consumer_offset(connection, jobs::CONSUMER))?;
        // However many sockets there are, requests find room.
        let sockets_max = settings.sockets.sockets_max.min(places::three_quarters(connections_max));
        let live = Arc::new(LiveHub::with_limits(chat_api::live::Limits { sockets_max, ..settings.sockets.clone() }));
        let app = Arc::new(App {
            config: ApiConfig {
                public_url,
                operator_token: settings.operator_token.clone(),
                allowed_origins: settings.allowed_origins.clone(),
                request_time_max: REQUEST_TIME_MAX,
                trusted_proxies: settings.trusted_proxies.clone(),
                http_address: Some(address.to_string()),
                pg_address: pg.as_ref().map(|pg| pg.address.to_string()),
                flight_address: None,
            },
            writer: engine.writer.clone(),
            pool: engine.pool.clone(),
            keys: Arc::clone(&engine.keys),
            key_file: Arc::clone(&engine.key_file),
            visitor_tokens: VisitorTokens::default(),
            views: Arc::clone(&engine.views),
            activity: chat_api::activity::Activity::default(),
            live: Arc::clone(&live),
            limiter: Limiter::new(settings.rates.clone())
                .within(Room::new(settings.quotas.clone(), watched_disk(&engine, &settings))),
            files: Arc::new(Files::open(&engine.dir.path().join("files")).context("failed to open the files")?),
            presence: Arc::new(Presence::away_after(settings.away_after)),
            remove_mail: remove_mail(&outbox),
            reports: Arc::new(engine.reports()?),
            probes: probes(&engine, &outbox),
        });
        let jobs_thread = jobs::spawn(engine.writer.clone(), next, Arc::clone(&outbox), stop_work.clone())?;

        let mut tasks = JoinSet::new();
        let (reader, end) = (Arc::clone(engine.writer.reader()), engine.writer.reader().end());
        tasks.spawn(live.run(reader, Arc::clone(&engine.views), engine.pool.clone(), end, stop_live.clone()));
        let stop = stop_work.clone();
        tasks.spawn(async move { outbox.run(stop).await });
        tasks.spawn(usage::follow(Arc::clone(&app), stop_work.clone()));
        tasks.spawn(prune(Arc::clone(&engine), Arc::clone(&app), stop_work.clone()));
        tasks.spawn(fold_names(Arc::clone(&app), stop_work.clone()));
        tasks.spawn(presence::watch(Arc::clone(&app), stop_work.clone()));
        let (writer, pool) = (engine.writer.clone(), engine.pool.clone());
        tasks.spawn(chat_api::timers::run(writer, pool, Moment::now, stop_work.clone()));
        let metrics = PrometheusBuilder::new().install_recorder().ok();
        let own = Own { engine: Arc::clone(&engine), app: Arc::clone(&app), metrics };
        let routes = routes().around(|router| router.layer(Extension(own)));
        let router = chat_api::http::router_with(Arc::clone(&app), routes, pages);
        tasks.spawn(places::watch(Arc::clone(&places), stop_live.clone()));
        if let Some(pg) = pg {
            tasks.spawn(pg.serve(Arc::clone(&app), Arc::clone(&places), set_up, stop_http.clone()));
        }
        let doors = (places, settings.waits);
        tasks.spawn(serve_http(listener, router, doors, stop_http.clone(), stop_live.clone()));
        tracing::info!(%address, "serving");
        Ok(Self { address, app, engine, tasks, jobs_thread, stop_http, stop_live, stop_work })
    }

    /// Waits until a part of the server ends by itself, which none does unless it's broken. A server without its
    /// sockets' hub or its mail must not go on as if all were well.
    pub async fn failure(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Err(error)) => anyhow::anyhow!("a part of the server has panicked: {error}"),
            _ => anyhow::anyhow!("a part of the server has ended by itself"),
        }
    }

    /// No new requests; those under way finish, but for queries, which are refused; sockets close; jobs and mail end; what was
    /// accepted is written. No thread that computes is waited for.
    pub async fn stop(self) {
        let Self { app, engine, mut tasks, jobs_thread, stop_http, stop_live, stop_work, .. } = self;
        stop_http.cancel();
        app.reports.stop();
        // The HTTP task cancels the sockets when requests are done; open sockets would keep it from being done.
        stop_live.cancel();
        stop_work.cancel();
        while tasks.join_next().await.is_some() {}
        let joined = tokio::task::spawn_blocking(move || jobs_thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the jobs' thread has panicked");
        }
        drop(app);
        // A request that outlived its time may still hold the engine: what it submits from here on is refused.
        engine.close().await;
        tracing::info!("stopped");
    }
}

/// Serves until `stop`, and then for [`DRAIN_MAX`] at most; sockets end after the requests.
async fn serve_http(
    listener: TcpListener,
    router: Router,
    doors: (Arc<Places>, Waits),
    stop: CancellationToken,
    stop_live: CancellationToken,
) {
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        () = connections::http::serve(listener, router, doors, set_up, stop.clone()) => {}
        () = drained => tracing::warn!("requests were still under way when the server stopped"),
    }
    stop_live.cancel();
}

/// Connections are open files: as many as the system allows.
fn open_files() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "failed to raise the limit of open files; connections may be refused");
        OPEN_FILES_LEAST
    })
}

/// A connection that can't be set up works all the same, only worse.
fn set_up(stream: &mut TcpStream) {
    let socket = SockRef::from(&*stream);
    // Small pushes must not wait for the acknowledgement of the one before.
    let outcome = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_user_timeout(Some(UNREAD_MAX)));
    if let Err(error) = outcome {
        tracing::debug!(%error, "failed to set a connection up");
    }
}

/// The disk of the data directory.
fn watched_disk(engine: &Engine, settings: &Serve) -> Disk {
    let path = engine.dir.path().to_owned();
    Disk::new(Box::new(move || disk::space(&path)), settings.disk_reserve)
}

fn outbox(engine: &Engine, settings: &Serve, public_url: &str) -> anyhow::Result<Outbox> {
    let spool = engine.dir.path().join("spool");
    let rate = |limit| {
        settings.rates.get(limit).map(|rate| MailRate {
            burst: rate.burst,
            every_ms: i64::try_from(rate.every.as_millis()).unwrap_or(i64::MAX),
        })
    };
    let config = MailConfig::new(&settings.mail, &spool, &settings.mail_from, public_url)?
        .with_rates(rate(Limit::MailRecipient), rate(Limit::MailTenant));
    let source = StateOutbox {
        writer: engine.writer.clone(),
        pool: engine.pool.clone(),
        views: Arc::clone(&engine.views),
        key_file: Arc::clone(&engine.key_file),
        place: Mutex::default(),
    };
    Ok(Outbox::new(Mailer::new(&config)?, &config, Arc::new(source), Arc::new(SystemClock)))
}

/// Erased persons' mails go from the spool; a mail server has taken what it has.
fn remove_mail(outbox: &Arc<Outbox>) -> RemoveMail {
    let outbox = Arc::clone(outbox);
    Box::new(move |mail| match outbox.mailer().spool() {
        Some(spool) => spool.remove(mail),
        None => Ok(()),
    })
}

fn probes(engine: &Engine, outbox: &Outbox) -> Vec<(&'static str, Probe)> {
    let pool = engine.pool.clone();
    let log: Probe = Box::new(move || {
        let read = pool.read(|connection| connection.query_row("SELECT 1", [], |_| Ok(())));
        read.err().map(|error| error.to_string()).into()
    });
    let (facts, reader) = (Arc::clone(&engine.facts), Arc::clone(engine.writer.reader()));
    let facts: Probe = Box::new(move || {
        let behind = reader.end().saturating_sub(facts.store().applied());
        (behind > 100_000).then(|| format!("{behind} events behind the log")).into()
    });
    let status = outbox.status();
    let mail: Probe = Box::new(move || {
        let OutboxStatus { reachable, pending, late_ms, last_error } = status.borrow().clone();
        let error = last_error.unwrap_or_else(|| if reachable { "too many" } else { "not reachable" }.to_owned());
        match (reachable, late_ms > MAIL_LATE_MS) {
            (false, _) => Health::Failing(format!("{pending} mails wait: {error}")),
            // Anybody can ask for many mails, or for some that take long: no reason to take no more visitors.
            (true, true) => Health::Slow(format!("mails wait {} s for their turn: {error}", late_ms / 1_000)),
            (true, false) => Health::Fine,
        }
    });
    let disk = DiskProbe::new(engine.dir.path());
    let disk: Probe = Box::new(move || disk.problem().into());
    vec![("log", log), ("disk", disk), ("facts", facts), ("mail", mail)]
}

/// After an update, once: visitors are found by their names without accents. It ends with the server, as every task does.
async fn fold_names(app: Arc<App>, stop: CancellationToken) {
    let outcome =
        tokio::select! { () = stop.cancelled() => return, outcome = names::bring_up_to_date(&app) => outcome };
    match outcome {
        Ok(0) => {}
        Ok(changed) => tracing::info!(changed, "visitors are found by their names without accents too"),
        Err(error) => tracing::warn!(%error, "failed to bring names up to date; the next start goes on with it"),
    }
    stop.cancelled().await;
}

async fn prune(engine: Arc<Engine>, app: Arc<App>, stop: CancellationToken) {
    let mut every = tokio::time::interval(PRUNE_EVERY);
    loop {
        tokio::select! { () = stop.cancelled() => return, _ = every.tick() => {} }
        let before = Timestamp::now().0 - chat_api::core::decide::REQUEST_LIFE_MS;
        let prune = move |connection: &rusqlite::Connection| save::prune_requests(connection, before).map(drop);
        if let Err(error) = engine.writer.transact(prune).await {
            tracing::warn!(%error, "failed to forget old idempotency keys; trying again later");
        }
        match files::prune(&app).await {
            Ok(0) => {}
            Ok(pruned) => tracing::info!(pruned, "deleted files that no event names"),
            Err(error) => tracing::warn!(%error, "failed to delete files that no event names; trying again later"),
        }
        // One that was under way when its person was erased, or when the server was killed in the middle of erasing.
        match engine.pool.read(read::mails_to_erased) {
            Ok(mails) => {
                if let Err(error) = mails.into_iter().try_for_each(|mail| (app.remove_mail)(mail)) {
                    tracing::warn!(%error, "failed to delete a mail to an erased person; trying again later");
                }
            }
            Err(error) => tracing::warn!(%error, "failed to look for mails to erased persons; trying again later"),
        }
    }
}

/// What the routes of this file share.
#[derive(Clone)]
struct Own {
    engine: Arc<Engine>,
    app: Arc<App>,
    metrics: Option<PrometheusHandle>,
}

/// Every route of the server: the API's, `/metrics`, and the operator's `verify` and `rebuild`, which need the engine,
/// which no other crate sees.
pub fn routes() -> Routes {
    let own = Routes::new("Operations")
        .get("/metrics", render_metrics, ANYONE, "Prometheus: requests, errors, latency, the log, jobs, sockets.")
        .also(|operation| operation.gives("text/plain"))
        .post("/v1/operator/verify", operator_verify, OPERATOR, "Reads the whole log and every view.")
        .answers::<Findings>(&[200])
        .also(operator_refuses)
        .post("/v1/operator/rebuild", operator_rebuild, OPERATOR, "Deletes views and replays the log.")
        .answers::<Rebuilt>(&[200])
        .also(|operation| operation.takes_json::<RebuildBody>())
        .also(operator_refuses);
    chat_api::http::routes().merge(own)
}

fn operator_refuses(operation: &mut Operation<'_>) {
    // 404: no operator is configured. 500: the data are damaged; the answer says where.
    operation.refuses(&[401, 404, 500]);
}

async fn render_metrics(Extension(own): Extension<Own>) -> Response {
    match own.metrics {
        Some(handle) => {
            handle.run_upkeep();
            handle.render().into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "another recorder was installed first").into_response(),
    }
}

async fn operator_verify(Extension(own): Extension<Own>, headers: HeaderMap) -> Response {
    if let Err(refusal) = chat_api::auth::operator(&own.app, &headers) {
        return refusal.into_response();
    }
    let engine = own.engine;
    let checked = tokio::task::spawn_blocking(move || {
        let facts = Arc::clone(&engine.facts);
        let mut outcome = Err(anyhow::anyhow!("nothing was checked"));
        engine.pool.read(|connection| {
            outcome = verify::check(connection, &engine.key_file, || Ok(facts.verify()?), |_| {});
            Ok(())
        })?;
        outcome
    });
    answer(checked.await.map_err(anyhow::Error::from).and_then(|outcome| outcome))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RebuildBody {
    views: Vec<View>,
}

#[derive(Serialize, JsonSchema)]
struct Rebuilt {
    /// Hex SHA-256 over the state.
    state_hash: String,
}

async fn operator_rebuild(
    Extension(own): Extension<Own>,
    headers: HeaderMap,
    write: Result<Write<RebuildBody>, Problem>,
) -> Response {
    // Who it is comes before what they sent.
    if let Err(refusal) = chat_api::auth::operator(&own.app, &headers) {
        return refusal.into_response();
    }
    let write = match write {
        Ok(write) => write,
        Err(refusal) => return refusal.into_response(),
    };
    let hash = rebuild::rebuild(&own.engine, &write.body.views).await;
    answer(hash.map(|state_hash| Rebuilt { state_hash }))
}

fn answer(outcome: anyhow::Result<impl serde::Serialize>) -> Response {
    match outcome {
        Ok(found) => Json(found).into_response(),
        Err(error) => {
            let detail = format!("{error:#}");
            let problem = serde_json::json!({ "type": "about:blank", "status": 500, "title": "Damaged", "code": "damaged", "detail": detail });
            let kind = [(axum::http::header::CONTENT_TYPE, "application/problem+json")];
            (StatusCode::INTERNAL_SERVER_ERROR, kind, problem.to_string()).into_response()
        }
    }
}
