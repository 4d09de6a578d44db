//! How a connection starts: encryption, cancelling another, the password. Start at [`start`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::buffers::Buffers;
use super::connection::{Connection, Kept};
use super::error::PgError;
use super::proto::{Frame, Hello, Out, Transaction};
use super::session::Session;
use super::{ALPN, Knock, Refused, Server};

/// Bytes of a password message: the longest token and some.
const PASSWORD_BYTES_MAX: usize = 4_096;
/// Bytes of names that a client gives.
const NAME_BYTES_MAX: usize = 128;
/// The first byte of a TLS handshake. The length of a packet of the protocol never begins so.
const TLS_HANDSHAKE: u8 = 0x16;

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

/// Whether a peer must encrypt: everyone but who is on this machine.
fn needs_tls(peer: IpAddr) -> bool {
    // A listener for both families sees 127.0.0.1 as an address of the sixth version.
    !peer.to_canonical().is_loopback()
}

/// The stream, and whether it is encrypted: a client may begin with TLS, as `sslnegotiation=direct` does. `None` when it
/// can't. It must name the protocol, so that nobody's browser is taken for a client.
async fn opened(server: &Server, stream: TcpStream) -> io::Result<Option<(Box<dyn Stream>, bool)>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 || first[0] != TLS_HANDSHAKE {
        return Ok(Some((Box::new(stream), false)));
    }
    // Without a certificate there is nothing to say that the client could read.
    let Some(tls) = &server.tls else { return Ok(None) };
    let stream = tls.accept(stream).await?;
    let named = stream.get_ref().1.alpn_protocol() == Some(ALPN);
    Ok(named.then(|| (Box::new(stream) as Box<dyn Stream>, true)))
}

async fn greet(server: &Arc<Server>, stream: TcpStream, peer: SocketAddr) -> io::Result<Option<Connection>> {
    let Some((mut stream, mut is_secure)) = opened(server, stream).await? else { return Ok(None) };
    let mut input = BytesMut::new();
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
    if !is_secure && needs_tls(peer.ip()) {
        return refuse(stream, &PgError::fatal("28000", "use TLS here: sslmode=require")).await;
    }
    let parameter = |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let user = parameter("user").unwrap_or_default().to_owned();
    let database = parameter("database").filter(|name| !name.is_empty()).unwrap_or(&user).to_owned();
    if user.is_empty() || user.len() > NAME_BYTES_MAX || database.len() > NAME_BYTES_MAX {
        return refuse(stream, &PgError::fatal("28000", "the user is the tenant's id or slug")).await;
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
    // From here on the tenant is the token's, however the client has called it.
    let tenant = match server.access.admit(&user, &token, Knock::Look) {
        Ok(admitted) => admitted.caller.tenant,
        Err(Refused::Invalid) => {
            return refuse(stream, &PgError::fatal("28P01", "the token is not one of this tenant")).await;
        }
        Err(Refused::TooOften(_) | Refused::Unavailable) => {
            return refuse(stream, &PgError::fatal("57P03", "the token can't be checked now; retry")).await;
        }
    };
    let Some(place) = server.place(&tenant) else {
        let limit = server.limits.connections_per_tenant_max;
        let error = PgError::fatal("53300", format!("the tenant has {limit} connections, which is the limit"));
        return refuse(stream, &error).await;
    };
    let Some(registered) = server.register() else {
        return refuse(stream, &PgError::fatal("XX000", "the system gives no random bytes")).await;
    };
    let memory = server.reports.connection_memory(&tenant, server.limits.held_bytes_max);
    let buffers = match Buffers::new(&memory) {
        Ok(buffers) => buffers,
        Err(full) => return refuse(stream, &PgError::fatal("53300", full.to_string())).await,
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
    let kept = Kept { input, buffers, memory };
    Ok(Some(Connection::new(stream, kept, session, (user, token, database), place, registered)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_do_without_tls() {
        let needs = |text: &str| needs_tls(text.parse().expect("an address"));
        for local in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(!needs(local), "{local}");
        }
        for remote in ["192.0.2.1", "10.0.0.1", "0.0.0.0", "2001:db8::1", "fe80::1", "::ffff:192.0.2.1", "::"] {
            assert!(needs(remote), "{remote}");
        }
    }
}
