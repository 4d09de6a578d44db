//! Mail to a server: lettre's connections, kept open between mails.
//!
//! Reaching the server and handing it a mail are told apart: a wrong password or a greeting of 554 says nothing about
//! the mail, so only an answer to the mail itself can refuse it.

use super::config::{ConfigError, ServerConfig, TlsMode};
use super::message::{Mail, build};
use super::sink::SendError;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use std::error::Error as _;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// To connect, encrypt and sign in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// To hand over one mail; servers scan it before they answer.
const SEND_TIMEOUT: Duration = Duration::from_secs(120);
/// An idle connection older than this is not used again: servers hang up after a few minutes at the latest.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// The reply "closing transmission channel": about the server, not about the mail.
const CLOSING: u16 = 421;

pub(crate) struct Server {
    config: ServerConfig,
    from: Mailbox,
    tls: Option<TlsParameters>,
    hello: ClientId,
    /// At most as many as mails were sent at once.
    idle: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
}

impl Server {
    pub(crate) fn new(config: ServerConfig, from: Mailbox) -> Result<Self, ConfigError> {
        let tls = match config.tls {
            TlsMode::Off => None,
            TlsMode::Implicit | TlsMode::Required | TlsMode::WhenOffered => Some(
                TlsParameters::new(config.host.clone())
                    .map_err(|error| ConfigError::Tls { reason: error.to_string() })?,
            ),
        };
        Ok(Self { config, from, tls, hello: ClientId::default(), idle: Mutex::default() })
    }

    /// Hands one mail over.
    pub(crate) async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let message = build(&self.from, mail)?;
        let bytes = message.formatted();
        let mut connection = self.connection().await?;
        match tokio::time::timeout(SEND_TIMEOUT, connection.send(message.envelope(), &bytes)).await {
            Ok(Ok(_)) => {
                self.idle().push((Instant::now(), connection));
                Ok(())
            }
            Ok(Err(error)) => {
                // After a refusal lettre has hung up already.
                Err(about_mail(&error))
            }
            Err(_) => Err(SendError::Retry { reason: "the server took too long".to_owned() }),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, AsyncSmtpConnection)>> {
        self.idle.lock().expect("nobody panics while taking a connection")
    }

    async fn connection(&self) -> Result<AsyncSmtpConnection, SendError> {
        let connect = async {
            loop {
                // In a statement of its own, so that the lock isn't held while waiting for the server.
                let parked = self.idle().pop();
                let Some((since, mut connection)) = parked else { break };
                if since.elapsed() < IDLE_MAX && connection.test_connected().await {
                    return Ok(connection);
                }
                connection.abort().await;
            }
            self.connect().await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(SendError::Unreachable { reason: describe(&error) }),
            Err(_) => Err(SendError::Unreachable { reason: "the server took too long to connect".to_owned() }),
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, lettre::transport::smtp::Error> {
        let ServerConfig { host, port, tls, credentials } = &self.config;
        let implicit = self.tls.clone().filter(|_| *tls == TlsMode::Implicit);
        let place = (host.as_str(), *port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(place, Some(CONNECT_TIMEOUT), &self.hello, implicit, None).await?;
        let upgrade = match tls {
            TlsMode::Required => true,
            TlsMode::WhenOffered => connection.can_starttls(),
            TlsMode::Implicit | TlsMode::Off => false,
        };
        if let (true, Some(parameters)) = (upgrade, self.tls.clone()) {
            connection.starttls(parameters, &self.hello).await?;
        }
        if let Some((user, password)) = credentials {
            let credentials = Credentials::new(user.clone(), password.clone());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }

    /// Says goodbye on the idle connections.
    pub(crate) async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for (_, mut connection) in idle {
            // A server that doesn't answer any more is not waited for.
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.abort()).await;
        }
    }
}

/// What the server's answer to a mail means for it.
fn about_mail(error: &lettre::transport::smtp::Error) -> SendError {
    let reason = describe(error);
    match error.status().map(u16::from) {
        Some(CLOSING) => SendError::Unreachable { reason },
        _ if error.is_permanent() => SendError::Refused { reason },
        // The only one while sending: an address beyond ASCII, and a server that takes none.
        _ if error.is_client() => SendError::Refused { reason },
        _ => SendError::Retry { reason },
    }
}

/// Without the server's words: they may repeat the address.
fn describe(error: &lettre::transport::smtp::Error) -> String {
    if let Some(code) = error.status() {
        return format!("the server answered {code}");
    }
    let kind = match () {
        () if error.is_tls() => "TLS failed",
        () if error.is_client() => "the server lacks what is needed (TLS, sign-in or SMTPUTF8)",
        () if error.is_response() => "the server's answer is no SMTP",
        () => "the connection failed",
    };
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return format!("{kind}: {io}");
        }
        source = error.source();
    }
    kind.to_owned()
}
