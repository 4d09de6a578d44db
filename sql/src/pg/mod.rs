//! The Postgres wire: another door to the same catalog, under the same tokens, gate, limits and filters as HTTP.
//!
//! - `proto`: messages. `start`: TLS, cancelling, the password. `connection`: the loop of one client, simple queries.
//!   `extended`: prepared statements and portals. `buffers`: what a connection keeps in memory, counted. `session`, `settings`: what needs no engine.
//! - `job`: a statement on the engine's threads. `params`: values for `$n`. `rewrite`, `empty`: Postgres' dialect. `catalog`:
//!   `pg_catalog` and `information_schema` of the caller's tables.
//! - `types`, `encode`: values as Postgres writes them. `error`: SQLSTATEs.
//!
//! Start at [`Server::serve`]. Who may come in is asked through the port [`Access`]. The protocol is read here and not
//! by a crate, because those there are take a gigabyte before the password, and don't notice a client that goes away
//! while its query runs.

mod buffers;
mod catalog;
mod connection;
mod empty;
mod encode;
mod error;
mod extended;
pub(crate) mod fuzzing;
mod job;
mod params;
mod proto;
mod rewrite;
mod session;
mod settings;
mod start;
mod types;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::call::Caller;
use crate::engine::Reports;

pub use tokio_rustls::TlsAcceptor;

/// What a client that begins with TLS calls this protocol; the acceptor's configuration lists it.
pub const ALPN: &[u8] = b"postgresql";

pub(crate) use job::{Described, Job, Prepared, Types};

/// A connection that was told to make room has gone within this.
const PLACE_WAIT: Duration = Duration::from_millis(200);

/// What connections may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections at once, those that have not shown a password yet included (53300).
    pub connections_max: usize,
    /// Connections of one tenant at once (53300).
    pub connections_per_tenant_max: usize,
    /// From the connection to the password.
    pub start: Duration,
    /// From a message's first byte to its last.
    pub message: Duration,
    /// Without a statement (57P05).
    pub idle: Duration,
    /// A client that takes no byte of its answer for this long is gone; so is one that takes rows more slowly than
    /// [`READ_BYTES_PER_S_MIN`](crate::READ_BYTES_PER_S_MIN) after that.
    pub unread: Duration,
    /// Bytes of one message (54000).
    pub message_bytes_max: usize,
    /// Prepared statements of one connection (53400), and portals.
    pub statements_max: usize,
    /// Bytes of memory that one connection has for its portals' rows and values, its prepared statements and its buffers
    /// (53200); one of the largest results fits.
    pub held_bytes_max: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 500,
            connections_per_tenant_max: 50,
            start: Duration::from_secs(10),
            message: Duration::from_secs(30),
            idle: Duration::from_secs(60 * 60),
            unread: Duration::from_secs(30),
            message_bytes_max: 1024 * 1024,
            statements_max: 1_000,
            held_bytes_max: 80 * 1024 * 1024,
        }
    }
}

/// Why a token is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knock {
    /// For a connection, or for a statement that is only described: costs nothing of its rate.
    Look,
    /// For a statement that runs.
    Run,
}

/// A token that is good.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Whose tables and rows it sees, and which.
    pub caller: Caller,
}

/// Why a token isn't let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Not a token, not of this tenant, or it has ended: nobody is told which.
    Invalid,
    /// Its rate is used up; retry after this many seconds.
    TooOften(u64),
    /// It couldn't be checked; retry.
    Unavailable,
}

/// Who may come in.
pub trait Access: Send + Sync + 'static {
    /// Checks a token for a tenant by the name that the client gives, which is its id or its slug, at the start of a connection and before each of its statements: one that ends
    /// meanwhile ends the connection. May read a database for a moment.
    /// # Errors  See [`Refused`].
    fn admit(&self, user: &str, token: &str, knock: Knock) -> Result<Admitted, Refused>;
}

/// Where connections of all doors are counted, in all and by address.
pub trait Entrance: Send + Sync + 'static {
    /// A place for a connection that was just accepted, and sets its socket up; `None` when there is none.
    fn enter(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<Box<dyn Entered>>;

    /// The system gave no connection; returns when it may be asked again.
    fn failed<'a>(&'a self, error: &'a io::Error) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// One connection's place there; given back when dropped.
pub trait Entered: Send + Sync {
    /// Ends when the connection has to make room for others.
    fn must_leave(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// From here on it's served, and stays.
    fn busy(&self);

    /// It has nothing under way and may have to make room.
    fn idle(&self);
}

/// What all connections share.
pub struct Server {
    reports: Arc<Reports>,
    access: Arc<dyn Access>,
    limits: ServerLimits,
    tls: Option<TlsAcceptor>,
    tenants: Mutex<HashMap<String, usize>>,
    running: Mutex<HashMap<i32, Cancel>>,
    next_pid: AtomicI32,
    stop: CancellationToken,
}

/// How another connection stops this one's query.
struct Cancel {
    secret: [u8; 4],
    notify: Arc<Notify>,
}

impl Server {
    /// A server; with `tls`, clients that aren't on this machine must use it.
    pub fn new(
        reports: Arc<Reports>,
        access: Arc<dyn Access>,
        limits: ServerLimits,
        tls: Option<TlsAcceptor>,
        stop: CancellationToken,
    ) -> Self {
        let (tenants, running) = (Mutex::default(), Mutex::default());
        Self { reports, access, limits, tls, tenants, running, next_pid: AtomicI32::new(1), stop }
    }

    /// Takes connections until `stop`; then ends them all.
    pub async fn serve(self, listener: TcpListener, entrance: Arc<dyn Entrance>) {
        let server = Arc::new(self);
        let places = Arc::new(Semaphore::new(server.limits.connections_max));
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = server.stop.cancelled() => break,
                accepted = listener.accept() => accepted,
                Some(ended) = clients.join_next() => {
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        tracing::error!(%error, "a Postgres connection has panicked");
                    }
                    continue;
                }
            };
            let (mut stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    entrance.failed(&error).await;
                    continue;
                }
            };
            let Some(entered) = entrance.enter(&mut stream, peer) else {
                start::turn_away(&stream);
                continue;
            };
            let (server, places) = (Arc::clone(&server), Arc::clone(&places));
            clients.spawn(async move {
                match tokio::time::timeout(PLACE_WAIT, places.acquire_owned()).await {
                    Ok(Ok(_place)) => server.client(stream, peer, entered).await,
                    _ => start::turn_away(&stream),
                }
            });
        }
        while clients.join_next().await.is_some() {}
    }

    async fn client(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, entered: Box<dyn Entered>) {
        let started = tokio::select! {
            started = start::start(&self, stream, peer) => started,
            () = entered.must_leave() => return,
        };
        match started {
            Ok(Some(connection)) => {
                entered.busy();
                connection.run(&*entered).await;
            }
            // A cancellation, or somebody who only looked.
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "a Postgres connection ended at its start"),
        }
    }

    /// A place for a connection of a tenant, by its id.
    fn place(self: &Arc<Self>, tenant: &str) -> Option<Place> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let count = tenants.entry(tenant.to_owned()).or_default();
        if *count >= self.limits.connections_per_tenant_max {
            return None;
        }
        *count += 1;
        Some(Place { server: Arc::clone(self), tenant: tenant.to_owned() })
    }

    /// A connection's number and secret, under which its queries can be stopped.
    fn register(self: &Arc<Self>) -> Option<Registered> {
        let mut secret = [0; 4];
        SystemRandom::new().fill(&mut secret).ok()?;
        let pid = self.next_pid.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let notify = Arc::new(Notify::new());
        let cancel = Cancel { secret, notify: Arc::clone(&notify) };
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, cancel);
        Some(Registered { server: Arc::clone(self), pid, secret, notify })
    }

    /// Stops what a connection runs; a wrong secret does nothing, and nobody is told.
    fn cancel(&self, pid: i32, secret: &[u8]) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = running.get(&pid).filter(|cancel| cancel.secret == secret) {
            // Only who waits now hears it: it can't stop the next query.
            cancel.notify.notify_waiters();
        }
    }
}

/// A tenant's place; given back when dropped.
struct Place {
    server: Arc<Server>,
    tenant: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut tenants = self.server.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = tenants.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

/// A connection that can be asked to stop its query; forgotten when dropped.
struct Registered {
    server: Arc<Server>,
    pid: i32,
    secret: [u8; 4],
    notify: Arc<Notify>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.server.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.pid);
    }
}
