//! The Postgres wire of a running server: its listener and its certificate.

use crate::config::Pg;
use crate::connections::places::{Door, Place, Places};
use anyhow::Context as _;
use chat_api::app::App;
use chat_api::auth::wire::WireAccess;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sql::pg::{ALPN, Entered, Entrance, Server, ServerLimits, TlsAcceptor};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A listener, not yet served.
pub struct PgDoor {
    /// Where it listens.
    pub address: SocketAddr,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    limits: ServerLimits,
}

impl PgDoor {
    /// Reads the certificate and listens.
    ///
    /// # Errors
    /// Names the file, or the address that is taken.
    pub async fn open(settings: &Pg) -> anyhow::Result<Self> {
        let tls = settings.tls.as_ref().map(|(cert, key)| acceptor(cert, key)).transpose()?;
        let listener = TcpListener::bind(settings.listen).await;
        let listener = listener.with_context(|| format!("failed to listen on {}", settings.listen))?;
        let address = listener.local_addr()?;
        Ok(Self { address, listener, tls, limits: settings.limits.clone() })
    }

    /// Serves until `stop`.
    pub async fn serve(self, app: Arc<App>, places: Arc<Places>, set_up: fn(&mut TcpStream), stop: CancellationToken) {
        let reports = Arc::clone(&app.reports);
        let server = Server::new(reports, Arc::new(WireAccess(app)), self.limits, self.tls, stop);
        server.serve(self.listener, Arc::new(PgEntrance { places, set_up })).await;
    }
}

/// The Postgres wire's way to the places of all doors.
struct PgEntrance {
    places: Arc<Places>,
    set_up: fn(&mut TcpStream),
}

impl Entrance for PgEntrance {
    fn enter(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<Box<dyn Entered>> {
        (self.set_up)(stream);
        self.places.take(Door::Pg, peer.ip()).map(|place| Box::new(place) as Box<dyn Entered>)
    }

    fn failed<'a>(&'a self, error: &'a io::Error) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.places.failed_to_accept(Door::Pg, error))
    }
}

impl Entered for Place {
    fn must_leave(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.must_leave())
    }

    fn busy(&self) {
        self.busy();
    }

    fn idle(&self) {
        self.idle();
    }
}

/// TLS with a certificate chain and its key, both PEM.
///
/// # Errors
/// Names the file that can't be read, or says that the two don't belong together.
pub fn acceptor(cert: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let failed = |path: &Path| format!("failed to read {}", path.display());
    let chain = CertificateDer::pem_file_iter(cert).with_context(|| failed(cert))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().with_context(|| failed(cert))?;
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| failed(key))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| format!("{} is not the key of {}", key.display(), cert.display()))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
