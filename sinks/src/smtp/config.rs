//! Where mail goes: `spool`, `smtp://…` or `smtps://…`, the sender, and the address of the installation for links.

use super::address::address;
use super::server::Server;
use lettre::message::Mailbox;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// Port of `smtp://` without one: message submission.
const SUBMISSION_PORT: u16 = 587;
/// Port of `smtps://` without one: submission over TLS.
const SUBMISSIONS_PORT: u16 = 465;

/// Everything the mail sink is told.
#[derive(Debug, Clone)]
pub struct MailConfig {
    pub(crate) target: MailTarget,
    pub(crate) from: Mailbox,
    pub(crate) public_url: String,
    pub(crate) address_rate: Option<MailRate>,
    pub(crate) tenant_rate: Option<MailRate>,
}

/// How many mails of a kind there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailRate {
    /// At once.
    pub burst: u32,
    /// Until one more.
    pub every_ms: i64,
}

/// Which adapter, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MailTarget {
    Spool(PathBuf),
    Server(ServerConfig),
}

/// A mail server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServerConfig {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: TlsMode,
    /// (user, password)
    pub(crate) credentials: Option<(String, String)>,
}

/// When a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// From the first byte (`smtps://`).
    Implicit,
    /// STARTTLS, or no mail (`?tls=required`, and the default with a password).
    Required,
    /// STARTTLS if the server offers it (the default without a password).
    WhenOffered,
    /// Never (`?tls=off`).
    Off,
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password stays out of logs.
        write!(f, "ServerConfig({}:{}, tls {:?})", self.host, self.port, self.tls)
    }
}

/// A setting that can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// `--mail`. The value isn't shown: it may hold a password.
    #[error("failed to read --mail: {}", self.expected())]
    Url {
        /// What is wrong.
        reason: &'static str,
    },
    /// `--mail-from`.
    #[error("failed to read --mail-from: {}", self.expected())]
    From,
    /// The certificates of the system can't be used.
    #[error("failed to read --mail: {}", self.expected())]
    Tls {
        /// What is wrong.
        reason: String,
    },
}

impl ConfigError {
    /// What is wrong and what was expected, without the setting's name.
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Self::Url { reason } => {
                format!("{reason}; expected spool, smtp://[user:password@]host[:port][?tls=off|required] or smtps://…")
            }
            Self::From => "expected 'Name <address>' or an address, on one line".to_owned(),
            Self::Tls { reason } => format!("TLS can't be set up for the mail server: {reason}"),
        }
    }
}

impl MailConfig {
    /// Whether `mail` can be used as in `--mail`; connects to nothing.
    ///
    /// # Errors
    /// [`ConfigError::Url`], or [`ConfigError::Tls`] when the system's certificates can't be used.
    pub fn check_target(mail: &str) -> Result<(), ConfigError> {
        if mail == "spool" {
            return Ok(());
        }
        let nobody = parse_sender("parlance@localhost")?;
        Server::new(parse_url(mail)?, nobody).map(drop)
    }

    /// Whether `from` can be used as in `--mail-from`.
    ///
    /// # Errors
    /// [`ConfigError::From`].
    pub fn check_sender(from: &str) -> Result<(), ConfigError> {
        parse_sender(from).map(drop)
    }

    /// `mail` as in `--mail`; `spool_dir` is used when it says `spool`; `from` as in `--mail-from`; `public_url` without
    /// a slash at its end.
    ///
    /// # Errors
    /// [`ConfigError`] names the flag and what it expects.
    pub fn new(mail: &str, spool_dir: &Path, from: &str, public_url: &str) -> Result<Self, ConfigError> {
        let target = match mail {
            "spool" => MailTarget::Spool(spool_dir.to_owned()),
            url => MailTarget::Server(parse_url(url)?),
        };
        let from = parse_sender(from)?;
        Ok(Self {
            target,
            from,
            public_url: public_url.trim_end_matches('/').to_owned(),
            address_rate: None,
            tenant_rate: None,
        })
    }

    /// What an address gets, and what a new tenant sends, of each kind; no bound unless it's said.
    #[must_use]
    pub fn with_rates(mut self, address: Option<MailRate>, tenant: Option<MailRate>) -> Self {
        self.address_rate = address;
        self.tenant_rate = tenant;
        self
    }
}

fn parse_sender(from: &str) -> Result<Mailbox, ConfigError> {
    if from.chars().any(char::is_control) {
        return Err(ConfigError::From);
    }
    let sender: Mailbox = from.parse().map_err(|_| ConfigError::From)?;
    let email = address(sender.email.as_ref()).ok_or(ConfigError::From)?;
    Ok(Mailbox { email, ..sender })
}

fn parse_url(url: &str) -> Result<ServerConfig, ConfigError> {
    let wrong = |reason| ConfigError::Url { reason };
    let (scheme, rest) = url.split_once("://").ok_or(wrong("no scheme"))?;
    let implicit = match scheme {
        "smtp" => false,
        "smtps" => true,
        _ => return Err(wrong("unknown scheme")),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user_info, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
    let credentials = user_info.map(parse_credentials).transpose()?;
    let (host, port) = parse_place(place)?;
    let tls = match (implicit, query) {
        (true, "") => TlsMode::Implicit,
        (true, _) => return Err(wrong("smtps:// takes no options")),
        (false, "tls=off") => TlsMode::Off,
        (false, "tls=required") => TlsMode::Required,
        // A password over a connection that somebody stripped of its STARTTLS would be in the clear.
        (false, "") if credentials.is_some() => TlsMode::Required,
        (false, "") => TlsMode::WhenOffered,
        (false, _) => return Err(wrong("unknown option")),
    };
    let port = port.unwrap_or(if implicit { SUBMISSIONS_PORT } else { SUBMISSION_PORT });
    Ok(ServerConfig { host, port, tls, credentials })
}

fn parse_credentials(text: &str) -> Result<(String, String), ConfigError> {
    let (user, password) = text.split_once(':').ok_or(ConfigError::Url { reason: "a user without a password" })?;
    let decode = |text| {
        let decoded = percent_decode(text).ok_or(ConfigError::Url { reason: "a wrong percent escape" })?;
        // They are told apart by NULs when they are sent.
        if decoded.chars().any(char::is_control) {
            return Err(ConfigError::Url { reason: "a control character in the user or the password" });
        }
        Ok(decoded)
    };
    Ok((decode(user)?, decode(password)?))
}

fn parse_place(place: &str) -> Result<(String, Option<u16>), ConfigError> {
    let wrong = |reason| ConfigError::Url { reason };
    let (host, port) = match place.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']').ok_or(wrong("no ]"))?;
            host.parse::<Ipv6Addr>().map_err(|_| wrong("what is in [] isn't an address"))?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or(wrong("something after the ]"))?),
            };
            (host, port)
        }
        None => {
            let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
            if !is_host(host) {
                return Err(wrong("no host"));
            }
            (host, port)
        }
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err(wrong("the port isn't a number from 1 to 65535")),
    };
    Ok((host.to_owned(), port))
}

/// A name or an address of IPv4, as DNS has names.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let mut byte = [0_u8; 1];
            hex::decode_to_slice(after.get(..2)?, &mut byte).ok()?;
            bytes.push(byte[0]);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host, port, TLS, user and password.
    type Parts = (String, u16, TlsMode, Option<(String, String)>);

    fn server(url: &str) -> Result<Parts, String> {
        parse_url(url).map(|s| (s.host, s.port, s.tls, s.credentials)).map_err(|error| error.to_string())
    }

    #[test]
    fn urls_choose_host_port_and_tls() {
        assert_eq!(server("smtp://mail.example"), Ok(("mail.example".into(), 587, TlsMode::WhenOffered, None)));
        assert_eq!(server("smtps://mail.example/"), Ok(("mail.example".into(), 465, TlsMode::Implicit, None)));
        assert_eq!(server("smtp://[::1]:2525?tls=off"), Ok(("::1".into(), 2525, TlsMode::Off, None)));
        let credentials = Some(("me@x".to_owned(), "p:@ß".to_owned()));
        assert_eq!(server("smtp://me%40x:p:%40%C3%9F@h:25"), Ok(("h".into(), 25, TlsMode::Required, credentials)));
    }

    /// An error about a URL must not repeat it: it may hold a password.
    #[test]
    fn wrong_urls_are_named_without_their_password() {
        let urls = [
            "smtp:host",
            "imap://u:secret@h",
            "smtp://u:secret@",
            "smtp://u:secret@h:x",
            "smtp://u:secret@h:0",
            "smtp://u:secret@h:65536",
            "smtp://u:secret@h?tls=no",
            "smtp://u:secret@[::1",
            "smtp://u:secret@[h]",
            "smtp://u:secret@[::1]x",
            "smtp://u:secret@-h",
            "smtp://u:secret@a..b",
            "smtp://u:secret@h\n",
            "smtp://u:secret%00@h",
            "smtp://u:secret%zz@h",
        ];
        for url in urls {
            let error = server(url).expect_err(url);
            assert!(error.contains("--mail") && !error.contains("secret"), "{error}");
        }
    }

    /// Message ids and envelopes have the sender's domain, so it's as DNS has it.
    #[test]
    fn the_senders_domain_is_as_dns_has_it() {
        let sender = |from: &str| parse_sender(from).map(|sender| sender.email.to_string()).map_err(|_| ());
        assert_eq!(sender("Hilfe <hilfe@bücher.example>"), Ok("hilfe@xn--bcher-kva.example".to_owned()));
        assert_eq!(sender("chat@"), Err(()));
    }

    #[test]
    fn debug_hides_the_password() {
        let config = MailConfig::new("smtp://u:secret@h", Path::new("spool"), "Help <help@x.example>", "https://x/");
        let config = config.expect("valid");
        assert!(!format!("{config:?}").contains("secret"));
        assert_eq!(config.public_url, "https://x");
    }
}
