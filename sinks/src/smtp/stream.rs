//! The connection to a mail server under lettre, which reads a line until it ends: here an answer without an end is an
//! error. With `smtps://` it's encrypted, and what is counted is what the server says.

use lettre::transport::smtp::client::AsyncTokioStream;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Bytes that a server says between two of ours: a greeting, a list of extensions or a TLS handshake is a few thousand.
const ANSWER_BYTES_MAX: usize = 32 * 1_024;

/// Ends when the server says too much in a row.
#[derive(Debug)]
struct Bounded<Stream> {
    stream: Stream,
    /// Bytes that may still come before something is written.
    left: usize,
}

impl<Stream: AsyncRead + Unpin> AsyncRead for Bounded<Stream> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let error = io::Error::new(io::ErrorKind::InvalidData, "the server's answer has no end");
            return Poll::Ready(Err(error));
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        self.left = self.left.saturating_sub(into.filled().len() - before);
        polled
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for Bounded<Stream> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.left = ANSWER_BYTES_MAX;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Bounded<TcpStream> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncTokioStream for Bounded<TlsStream<TcpStream>> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().0.peer_addr()
    }
}

/// TLS from the first byte, with the certificates that the system trusts.
#[derive(Clone)]
pub(super) struct ImplicitTls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl ImplicitTls {
    /// To the server of this name.
    ///
    /// # Errors
    /// What is wrong with the name or with the system's certificates.
    pub(super) fn new(host: &str) -> Result<Self, String> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let reason = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
            return Err(format!("the system's certificates can't be used: {reason}"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("'{host}' is no name of a server"))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

/// Connects.
///
/// # Errors
/// The system's, or TLS's.
pub(super) async fn connect(host: &str, port: u16, tls: Option<&ImplicitTls>) -> io::Result<Box<dyn AsyncTokioStream>> {
    let stream = TcpStream::connect((host, port)).await?;
    // A mail's end is a packet of its own, and would wait for the answer to the one before.
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(Bounded { stream, left: ANSWER_BYTES_MAX })) };
    let stream = tls.connector.connect(tls.name.clone(), stream).await?;
    Ok(Box::new(Bounded { stream, left: ANSWER_BYTES_MAX }))
}
