//! Mail to a server: lettre's connections, kept open between mails.
//!
//! Reaching the server and handing it a mail are told apart: a wrong password or a greeting of 554 says nothing about
//! the mail, so only an answer to the mail itself can refuse it.

use super::config::{ConfigError, ServerConfig, TlsMode};
use super::message::{Mail, build};
use super::sink::{SendError, SendProgress, SendStage};
use super::stream::{ImplicitTls, connect};
use lettre::address::Envelope;
use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use std::error::Error as _;
use std::future::Future;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// To connect, encrypt and sign in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For the answer to a sender, a recipient or the wish to send.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// For the answer to a mail's content; servers scan it before.
const CONTENT_TIMEOUT: Duration = Duration::from_secs(120);
/// An idle connection older than this is not used again: servers hang up after a few minutes at the latest.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// The reply "closing transmission channel".
const CLOSING: u16 = 421;

pub(crate) struct Server {
    config: ServerConfig,
    from: Mailbox,
    encryption: Encryption,
    hello: ClientId,
    /// At most as many as mails were sent at once.
    idle: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
}

enum Encryption {
    None,
    Implicit(ImplicitTls),
    StartTls(TlsParameters),
}

impl Server {
    pub(crate) fn new(config: ServerConfig, from: Mailbox) -> Result<Self, ConfigError> {
        let encryption = match config.tls {
            TlsMode::Off => Encryption::None,
            TlsMode::Implicit => {
                Encryption::Implicit(ImplicitTls::new(&config.host).map_err(|reason| ConfigError::Tls { reason })?)
            }
            TlsMode::Required | TlsMode::WhenOffered => Encryption::StartTls(
                TlsParameters::new(config.host.clone())
                    .map_err(|error| ConfigError::Tls { reason: error.to_string() })?,
            ),
        };
        Ok(Self { config, from, encryption, hello: ClientId::default(), idle: Mutex::default() })
    }

    /// Hands one mail over. The connection is used again only after the server has taken the mail.
    pub(crate) async fn send(&self, mail: &Mail, progress: &SendProgress) -> Result<(), SendError> {
        let message = build(&self.from, mail)?;
        let bytes = message.formatted();
        let mut connection = self.connection().await?;
        let outcome = hand_over(&mut connection, message.envelope(), &bytes, progress).await;
        if outcome.is_ok() {
            self.idle().push((Instant::now(), connection));
        } else {
            // After a refusal the server would take another mail, but one that has lost count would not.
            hang_up(connection).await;
        }
        outcome
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
                hang_up(connection).await;
            }
            self.connect().await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(reason)) => Err(SendError::Unreachable { reason }),
            Err(_) => Err(SendError::Unreachable { reason: "the server took too long to connect".to_owned() }),
        }
    }

    /// A connection that is signed in, or why there is none.
    async fn connect(&self) -> Result<AsyncSmtpConnection, String> {
        let ServerConfig { host, port, tls, credentials } = &self.config;
        let implicit = match &self.encryption {
            Encryption::Implicit(implicit) => Some(implicit),
            Encryption::None | Encryption::StartTls(_) => None,
        };
        let stream = connect(host, *port, implicit).await.map_err(|error| format!("the connection failed: {error}"))?;
        let greeted = AsyncSmtpConnection::connect_with_transport(stream, &self.hello).await;
        let mut connection = greeted.map_err(|error| describe(&error))?;
        if let Encryption::StartTls(parameters) = &self.encryption
            && (*tls == TlsMode::Required || connection.can_starttls())
        {
            connection.starttls(parameters.clone(), &self.hello).await.map_err(|error| describe(&error))?;
        }
        if let Some((user, password)) = credentials {
            let credentials = Credentials::new(user.clone(), password.clone());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(|error| describe(&error))?;
        }
        Ok(connection)
    }

    /// Says goodbye on the idle connections.
    pub(crate) async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for (_, connection) in idle {
            hang_up(connection).await;
        }
    }
}

/// A server that doesn't answer any more is not waited for.
async fn hang_up(mut connection: AsyncSmtpConnection) {
    // It's gone either way.
    let _ended = tokio::time::timeout(Duration::from_secs(1), connection.abort()).await;
}

/// Sender, recipient and content, with what each answer means for the mail.
async fn hand_over(
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    bytes: &[u8],
    progress: &SendProgress,
) -> Result<(), SendError> {
    let options = options(connection, envelope, bytes)?;
    let is_plain = options.is_empty();
    progress.reached(SendStage::Envelope);
    let sender = connection.command(MailFrom::new(envelope.from().cloned(), options));
    answered(sender, ANSWER_TIMEOUT).await.map_err(|error| error.of_sender(is_plain))?;
    for to in envelope.to() {
        let recipient = connection.command(Rcpt::new(to.clone(), Vec::new()));
        answered(recipient, ANSWER_TIMEOUT).await.map_err(Unanswered::of_mail)?;
    }
    answered(connection.command(Data), ANSWER_TIMEOUT).await.map_err(Unanswered::of_mail)?;
    progress.reached(SendStage::Content);
    answered(connection.message(bytes), CONTENT_TIMEOUT).await.map_err(Unanswered::of_content)
}

/// What the mail needs of the server (RFC 6152, RFC 6531).
fn options(
    connection: &AsyncSmtpConnection,
    envelope: &Envelope,
    bytes: &[u8],
) -> Result<Vec<MailParameter>, SendError> {
    let server = connection.server_info();
    let mut options = Vec::new();
    let addresses = envelope.to().iter().chain(envelope.from());
    if addresses.map(|address| address.to_string()).any(|address| !address.is_ascii()) {
        if !server.supports_feature(Extension::SmtpUtfEight) {
            return Err(SendError::Refused { reason: "the server takes no addresses beyond ASCII".to_owned() });
        }
        options.push(MailParameter::SmtpUtfEight);
    }
    if !bytes.is_ascii() {
        if !server.supports_feature(Extension::EightBitMime) {
            return Err(SendError::Refused { reason: "the server takes no mail beyond ASCII".to_owned() });
        }
        options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    Ok(options)
}

/// What came instead of a yes.
enum Unanswered {
    /// An answer of the server's, or what became of the connection.
    Error(Error),
    TooLong,
}

async fn answered<Answer>(
    answer: impl Future<Output = Result<Answer, Error>>,
    within: Duration,
) -> Result<(), Unanswered> {
    match tokio::time::timeout(within, answer).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Unanswered::Error(error)),
        Err(_) => Err(Unanswered::TooLong),
    }
}

impl Unanswered {
    fn reason(&self) -> String {
        match self {
            Self::Error(error) => describe(error),
            Self::TooLong => "the server took too long".to_owned(),
        }
    }

    /// The sender is the same for all mails: a server that is closing, or doesn't let us send, says so here. Only what the
    /// mail needs beside is the mail's.
    fn of_sender(self, is_plain: bool) -> SendError {
        match &self {
            Self::Error(error)
                if error.status().map(u16::from) == Some(CLOSING) || (is_plain && error.is_permanent()) =>
            {
                SendError::Unreachable { reason: self.reason() }
            }
            Self::Error(_) | Self::TooLong => self.of_mail(),
        }
    }

    /// From here on, every answer is about this mail, whatever its number: another one may be taken.
    fn of_mail(self) -> SendError {
        let reason = self.reason();
        match self {
            Self::Error(error) if error.is_permanent() => SendError::Refused { reason },
            Self::Error(_) | Self::TooLong => SendError::Retry { reason },
        }
    }

    /// Without an answer the mail may have been taken.
    fn of_content(self) -> SendError {
        match &self {
            Self::Error(error) if error.status().is_some() => self.of_mail(),
            Self::Error(_) | Self::TooLong => SendError::Unknown { reason: self.reason() },
        }
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
