//! The Postgres wire on a port of this machine, on threads of its own, for a client that waits.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sql::pg::{Access, Admitted, Entered, Entrance, Knock, Refused, Server, ServerLimits};
use sql::{Caller, Limits, Readable, Reports};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::client::{Client, Refusal};
use super::{Facts, caller};

/// Every tenant's token is its name and `-token`, until it ends.
#[derive(Default)]
struct Tokens {
    ended: Mutex<BTreeSet<String>>,
    /// The tables that they read, if not all.
    readable: Mutex<Option<Readable>>,
}

fn token(tenant: &str) -> String {
    format!("{tenant}-token")
}

impl Access for Tokens {
    fn admit(&self, tenant: &str, shown: &str, _: Knock) -> Result<Admitted, Refused> {
        let ended = self.ended.lock().expect("not poisoned").contains(tenant);
        if ended || shown != token(tenant) {
            return Err(Refused::Invalid);
        }
        let readable = self.readable.lock().expect("not poisoned").clone().unwrap_or(Readable::All);
        Ok(Admitted { caller: Caller { readable, ..caller(tenant) } })
    }
}

/// No other doors, and nobody has to make room.
struct Anyone;

impl Entrance for Anyone {
    fn enter(&self, _: &mut TcpStream, _: SocketAddr) -> Option<Box<dyn Entered>> {
        Some(Box::new(Self))
    }

    fn failed<'a>(&'a self, error: &'a io::Error) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        panic!("failed to accept: {error}")
    }
}

impl Entered for Anyone {
    fn must_leave(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(pending())
    }

    fn busy(&self) {}

    fn idle(&self) {}
}

/// A server; stopped when dropped.
pub struct Door {
    pub address: String,
    reports: Arc<Reports>,
    tokens: Arc<Tokens>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Listens on 127.0.0.1.
    pub fn open(facts: Facts, limits: Limits, server_limits: ServerLimits) -> Self {
        Self::open_at("127.0.0.1:0".parse().expect("an address"), facts, limits, server_limits)
    }

    /// Listens, without TLS.
    pub fn open_at(listen: SocketAddr, facts: Facts, limits: Limits, server_limits: ServerLimits) -> Self {
        let (tokens, stop) = (Arc::new(Tokens::default()), CancellationToken::new());
        let (send, receive) = mpsc::channel();
        let (access, stopped) = (Arc::clone(&tokens), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::bind(listen).await.expect("a port");
                let reports = Arc::new(facts.reports_with(limits));
                let address = listener.local_addr().expect("an address");
                send.send((address, Arc::clone(&reports))).expect("it is waited for");
                Server::new(reports, access, server_limits, None, stopped).serve(listener, Arc::new(Anyone)).await;
            });
        });
        let (address, reports) = receive.recv().expect("it listens");
        Self { address: address.to_string(), reports, tokens, stop, thread: Some(thread) }
    }

    /// A tenant's connection.
    pub fn enter(&self, tenant: &str) -> Client {
        self.try_enter(tenant).expect("let in")
    }

    /// The same, if it is let in.
    pub fn try_enter(&self, tenant: &str) -> Result<Client, Refusal> {
        Client::start(&self.address, tenant, &token(tenant))
    }

    /// A connection that hasn't said anything.
    pub fn knock(&self) -> Client {
        Client::connect(&self.address)
    }

    /// Bytes that results and connections hold now.
    pub fn held_bytes(&self) -> usize {
        self.reports.held_bytes()
    }

    /// Waits until they hold no more than that.
    pub fn holds_at_most(&self, bytes: usize, what: &str) {
        let started = Instant::now();
        while self.held_bytes() > bytes {
            assert!(started.elapsed() < Duration::from_secs(20), "{what}: {} bytes are held", self.held_bytes());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// From now on tokens read these tables.
    pub fn narrow(&self, readable: Readable) {
        *self.tokens.readable.lock().expect("not poisoned") = Some(readable);
    }

    /// From now on the tenant's token is none.
    pub fn end_token(&self, tenant: &str) {
        self.tokens.ended.lock().expect("not poisoned").insert(tenant.to_owned());
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
        // A thread that has panicked has said so.
        drop(self.thread.take().map(JoinHandle::join));
    }
}
