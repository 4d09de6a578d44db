//! How a connection starts: encryption, cancelling another, the password. Start at [`start`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connection::Connection;
use super::error::PgError;
use super::proto::{Frame, Hello, Out, Transaction};
use super::session::Session;
use super::{Knock, Refused, Server};

/// Bytes of a password message: the longest token and some.
const PASSWORD_BYTES_MAX: usize = 4_096;
/// Bytes of names that a client gives.
const NAME_BYTES_MAX: usize = 128;

/// A plain or an encrypted stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Tells a client that comes to a full server; not waited for.
pub(super) fn turn_away(stream: &TcpStream) {
    let mut out = Out::default();
    out.error(&PgError::fatal("53300", "there are too many connections; retry later"));
    // The first bytes of a socket always fit.
    let _ = stream.try_write(&out.0);
}

/// Leads a client to its first query; `None` for one that never comes to it.
/// # Errors  The stream's.
pub(super) async fn start(server: &Arc<Server>, stream: TcpStream, peer: SocketAddr) -> io::Result<Option<Connection>> {
    let started = tokio::time::timeout(server.limits.start, greet(server, stream, peer));
    tokio::select! {
        started = started => started.unwrap_or(Ok(None)),
        () = server.stop.cancelled() => Ok(None),
    }
}

async fn more(stream: &mut impl Stream, input: &mut BytesMut) -> io::Result<()> {
    match stream.read_buf(input).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

async fn refuse(mut stream: Box<dyn Stream>, error: &PgError) -> io::Result<Option<Connection>> {
    let mut out = Out::default();
    out.error(error);
    stream.write_all(&out.0).await?;
    stream.shutdown().await?;
    Ok(None)
}

async fn greet(server: &Arc<Server>, stream: TcpStream, peer: SocketAddr) -> io::Result<Option<Connection>> {
    let mut stream: Box<dyn Stream> = Box::new(stream);
    let mut input = BytesMut::new();
    let mut is_secure = false;
    let (minor, parameters) = loop {
        let hello = match Hello::read(&mut input) {
            Ok(Some(hello)) => hello,
            Ok(None) => {
                more(&mut stream, &mut input).await?;
                continue;
            }
            Err(error) => return refuse(stream, &error).await,
        };
        match hello {
            Hello::Startup { minor, parameters } => break (minor, parameters),
            Hello::Cancel { pid, secret } => {
                server.cancel(pid, &secret);
                return Ok(None);
            }
            Hello::Ssl if !is_secure => match &server.tls {
                // What came before the handshake was not encrypted, and must not count as if it were.
                Some(_) if !input.is_empty() => {
                    return refuse(stream, &PgError::fatal("08P01", "there is data before the handshake")).await;
                }
                Some(tls) => {
                    stream.write_all(b"S").await?;
                    stream = Box::new(tls.accept(stream).await?);
                    is_secure = true;
                }
                None => stream.write_all(b"N").await?,
            },
            Hello::Ssl | Hello::Gss => stream.write_all(b"N").await?,
        }
    };
    if !is_secure && !peer.ip().is_loopback() {
        return refuse(stream, &PgError::fatal("28000", "use TLS here: sslmode=require")).await;
    }
    let parameter = |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let user = parameter("user").unwrap_or_default().to_owned();
    let database = parameter("database").filter(|name| !name.is_empty()).unwrap_or(&user).to_owned();
    if user.is_empty() || user.len() > NAME_BYTES_MAX || database.len() > NAME_BYTES_MAX {
        return refuse(stream, &PgError::fatal("28000", "the user is the tenant's id")).await;
    }
    if parameter("replication").is_some_and(|value| !matches!(value, "false" | "off" | "no" | "0")) {
        return refuse(stream, &PgError::fatal("0A000", "there is no replication")).await;
    }
    let mut out = Out::default();
    let options: Vec<&str> =
        parameters.iter().map(|(name, _)| name.as_str()).filter(|n| n.starts_with("_pq_.")).collect();
    if minor > 0 || !options.is_empty() {
        out.negotiate(&options);
    }
    out.ask_for_password();
    stream.write_all(&out.0).await?;
    let token = match password(&mut stream, &mut input).await? {
        Ok(token) => token,
        Err(error) => return refuse(stream, &error).await,
    };
    let refused = match server.access.admit(&user, &token, Knock::Look) {
        Ok(_) => None,
        Err(Refused::Invalid) => Some(PgError::fatal("28P01", "the token is not one of this tenant")),
        Err(Refused::TooOften(_) | Refused::Unavailable) => {
            Some(PgError::fatal("57P03", "the token can't be checked now; retry"))
        }
    };
    if let Some(refused) = refused {
        return refuse(stream, &refused).await;
    }
    let Some(place) = server.place(&user) else {
        let limit = server.limits.connections_per_tenant_max;
        let error = PgError::fatal("53300", format!("the tenant has {limit} connections, which is the limit"));
        return refuse(stream, &error).await;
    };
    let Some(registered) = server.register() else {
        return refuse(stream, &PgError::fatal("XX000", "the system gives no random bytes")).await;
    };
    let mut session = Session::new(&user);
    for (name, value) in &parameters {
        session.start_with(name, value);
    }
    let mut out = Out::default();
    out.authentication_ok();
    for (name, value) in session.reported() {
        out.parameter_status(name, &value);
    }
    out.backend_key(registered.pid, &registered.secret);
    out.ready(Transaction::None);
    stream.write_all(&out.0).await?;
    Ok(Some(Connection::new(stream, input, session, (user, token, database), place, registered)))
}

async fn password(stream: &mut Box<dyn Stream>, input: &mut BytesMut) -> io::Result<Result<String, PgError>> {
    loop {
        match Frame::read(input, PASSWORD_BYTES_MAX) {
            Ok(Some(Frame::Password(token))) => return Ok(Ok(token)),
            Ok(Some(_)) => return Ok(Err(PgError::fatal("08P01", "a password was asked for"))),
            Ok(None) => more(stream, input).await?,
            Err(error) => return Ok(Err(error)),
        }
    }
}
