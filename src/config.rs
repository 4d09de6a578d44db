//! Settings: flags win over `PARLANCE_*` variables, those over the TOML file, that over the defaults.
//!
//! Every setting has one name: `--data-dir`, `PARLANCE_DATA_DIR`, `data_dir = "…"`. Unknown keys are errors.

use crate::connections::Waits;
use crate::connections::places::PlacesLimits;
use anyhow::{Context as _, bail};
use chat_api::limits::disk::Reserve;
use chat_api::limits::quotas::{ByteQuotas, bytes};
use chat_api::limits::{Cidr, Rates};
use chat_api::live::Limits;
use chat_api::presence;
use clap::Args;
use serde::Deserialize;
use sql::pg::ServerLimits;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Connections for requests and the Postgres wire, beside the sockets.
const CONNECTIONS_BESIDE_SOCKETS: usize = 4_000;
/// The same of one address.
const CONNECTIONS_BESIDE_SOCKETS_PER_IP: usize = 1_000;

/// Where the data is; for every command that opens it.
#[derive(Args, Clone, Default)]
pub struct StoreArgs {
    /// The data directory [default: ./parlance-data]
    #[arg(long, env = "PARLANCE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Signing and sealing keys, made on first start [default: parlance.keys in the data directory]
    #[arg(long, env = "PARLANCE_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// A TOML file with any of these settings
    #[arg(long, env = "PARLANCE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Flags of `serve`.
#[derive(Args, Clone, Default)]
pub struct ServeArgs {
    #[command(flatten)]
    pub store: StoreArgs,
    /// Address for HTTP; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "PARLANCE_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// spool, or smtp[s]://[user:password@]host[:port] [default: spool]
    #[arg(long, env = "PARLANCE_MAIL", value_name = "URL", hide_env_values = true)]
    pub mail: Option<String>,
    /// Sender of mails [default: Parlance <parlance@localhost>]
    #[arg(long, env = "PARLANCE_MAIL_FROM", value_name = "ADDRESS")]
    pub mail_from: Option<String>,
    /// Where people reach this server; for links [default: http://LISTEN]
    #[arg(long, env = "PARLANCE_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// May do what spans tenants
    #[arg(long, env = "PARLANCE_OPERATOR_TOKEN", value_name = "T", hide_env_values = true)]
    pub operator_token: Option<String>,
    /// Origins whose pages may call /v1 and /v0
    #[arg(long, env = "PARLANCE_ALLOWED_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    pub allowed_origins: Vec<String>,
    /// Proxies whose X-Forwarded-For is believed, as ranges of addresses [default: none]
    #[arg(long, env = "PARLANCE_TRUSTED_PROXIES", value_name = "RANGE", value_delimiter = ',')]
    pub trusted_proxies: Vec<String>,
    /// How often somebody may call, for example login_ip=20+20/min, visitor=off or all=off
    #[arg(long = "limit", env = "PARLANCE_LIMITS", value_name = "NAME=RATE", value_delimiter = ',')]
    pub limits: Vec<String>,
    /// How much somebody may write, for example visitor_files=100MiB/day, tenant_log=50GiB or all=off
    #[arg(long = "quota", env = "PARLANCE_QUOTAS", value_name = "NAME=AMOUNT", value_delimiter = ',')]
    pub quotas: Vec<String>,
    /// Room on the disk that files, rows and imports leave free, for example 2GiB, or off [default: 5 %, 1 to 16 GiB]
    #[arg(long, env = "PARLANCE_DISK_RESERVE", value_name = "BYTES")]
    pub disk_reserve: Option<String>,
    /// Open sockets at most [default: 20000]
    #[arg(long, env = "PARLANCE_SOCKETS_MAX", value_name = "N")]
    pub sockets_max: Option<usize>,
    /// Open sockets from one address at most [default: 1000]
    #[arg(long, env = "PARLANCE_SOCKETS_PER_IP_MAX", value_name = "N")]
    pub sockets_per_ip_max: Option<usize>,
    /// Connections at most, at every door together [default: 4000 and sockets_max]
    #[arg(long, env = "PARLANCE_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<usize>,
    /// Connections from one address at most, trusted proxies aside [default: 1000 and sockets_per_ip_max]
    #[arg(long, env = "PARLANCE_CONNECTIONS_PER_IP_MAX", value_name = "N")]
    pub connections_per_ip_max: Option<usize>,
    /// Seconds for a request's head, a socket's token, a password on the Postgres wire [default: 10]
    #[arg(long, env = "PARLANCE_HEADER_WAIT_S", value_name = "S")]
    pub header_wait_s: Option<u32>,
    /// Seconds between two requests on one connection, longer than a proxy in front keeps one, and between two signs of
    /// life on a socket [default: 75]
    #[arg(long, env = "PARLANCE_IDLE_WAIT_S", value_name = "S")]
    pub idle_wait_s: Option<u32>,
    /// Seconds without a byte of a body that has begun [default: 30]
    #[arg(long, env = "PARLANCE_BODY_WAIT_S", value_name = "S")]
    pub body_wait_s: Option<u32>,
    /// Seconds in which a client takes no byte of its answer [default: 30]
    #[arg(long, env = "PARLANCE_UNREAD_WAIT_S", value_name = "S")]
    pub unread_wait_s: Option<u32>,
    /// Seconds without a sign of life after which an agent is offline and a visitor away [default: 60]
    #[arg(long, env = "PARLANCE_AWAY_AFTER_S", value_name = "S")]
    pub away_after_s: Option<u32>,
    /// Address for the Postgres wire; port 0 takes a free one [default: off]
    #[arg(long, env = "PARLANCE_PG_LISTEN", value_name = "ADDR")]
    pub pg_listen: Option<SocketAddr>,
    /// Certificate chain of the Postgres wire, PEM; needed off this machine
    #[arg(long, env = "PARLANCE_PG_TLS_CERT", value_name = "FILE")]
    pub pg_tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, env = "PARLANCE_PG_TLS_KEY", value_name = "FILE")]
    pub pg_tls_key: Option<PathBuf>,
    /// Connections over the Postgres wire at most [default: 500]
    #[arg(long, env = "PARLANCE_PG_CONNECTIONS_MAX", value_name = "N")]
    pub pg_connections_max: Option<usize>,
    /// Connections of one tenant over the Postgres wire at most [default: 50]
    #[arg(long, env = "PARLANCE_PG_CONNECTIONS_PER_TENANT_MAX", value_name = "N")]
    pub pg_connections_per_tenant_max: Option<usize>,
    /// text or json [default: text]
    #[arg(long, env = "PARLANCE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// The TOML file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    key_file: Option<PathBuf>,
    listen: Option<SocketAddr>,
    mail: Option<String>,
    mail_from: Option<String>,
    public_url: Option<String>,
    operator_token: Option<String>,
    allowed_origins: Option<Vec<String>>,
    trusted_proxies: Option<Vec<String>>,
    limits: Option<BTreeMap<String, String>>,
    quotas: Option<BTreeMap<String, String>>,
    disk_reserve: Option<String>,
    sockets_max: Option<usize>,
    sockets_per_ip_max: Option<usize>,
    connections_max: Option<usize>,
    connections_per_ip_max: Option<usize>,
    header_wait_s: Option<u32>,
    idle_wait_s: Option<u32>,
    body_wait_s: Option<u32>,
    unread_wait_s: Option<u32>,
    away_after_s: Option<u32>,
    pg_listen: Option<SocketAddr>,
    pg_tls_cert: Option<PathBuf>,
    pg_tls_key: Option<PathBuf>,
    pg_connections_max: Option<usize>,
    pg_connections_per_tenant_max: Option<usize>,
    log_format: Option<String>,
}

impl File {
    fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("failed to read {}", path.display()))
    }
}

/// Where the data is, decided.
#[derive(Debug, Clone)]
pub struct Store {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The key file, if it isn't in the data directory.
    pub key_file: Option<PathBuf>,
}

impl StoreArgs {
    /// Flags, variables, file, defaults, in this order.
    ///
    /// # Errors
    /// Names the file and the key.
    pub fn resolve(&self) -> anyhow::Result<Store> {
        Ok(self.merge(&File::read(self.config.as_deref())?))
    }

    fn merge(&self, file: &File) -> Store {
        let data_dir = self.data_dir.clone().or_else(|| file.data_dir.clone());
        Store {
            data_dir: data_dir.unwrap_or_else(|| PathBuf::from("parlance-data")),
            key_file: self.key_file.clone().or_else(|| file.key_file.clone()),
        }
    }
}

/// Settings of a server, decided.
#[derive(Debug, Clone)]
pub struct Serve {
    pub store: Store,
    pub listen: SocketAddr,
    pub mail: String,
    pub mail_from: String,
    pub public_url: Option<String>,
    pub operator_token: Option<String>,
    pub allowed_origins: Vec<String>,
    pub trusted_proxies: Vec<Cidr>,
    pub rates: Rates,
    pub quotas: ByteQuotas,
    pub disk_reserve: Reserve,
    pub sockets: Limits,
    pub connections: PlacesLimits,
    pub waits: Waits,
    pub away_after: Duration,
    pub pg: Option<Pg>,
    pub log_json: bool,
}

/// The Postgres wire, if it is on.
#[derive(Debug, Clone)]
pub struct Pg {
    pub listen: SocketAddr,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub limits: ServerLimits,
}

impl ServeArgs {
    /// Flags, variables, file, defaults, in this order.
    ///
    /// # Errors
    /// Names the file and the key.
    pub fn resolve(self) -> anyhow::Result<Serve> {
        self.resolve_over(Rates::default())
    }

    /// The same, with other limits than the defaults where none are given.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_over(self, rates: Rates) -> anyhow::Result<Serve> {
        let file = File::read(self.store.config.as_deref())?;
        let waits = self.waits(&file)?;
        let pg = self.pg(&file, waits)?;
        let away_after = seconds("away_after_s", self.away_after_s.or(file.away_after_s), presence::AWAY_AFTER)?;
        let log_json = match self.log_format.or(file.log_format.clone()).as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => bail!("failed to read log_format '{other}': expected text or json"),
        };
        let rates = rates_over(rates, file.limits.as_ref(), &self.limits)?;
        let quotas = quotas(file.quotas.as_ref(), &self.quotas)?;
        let disk_reserve = reserve(self.disk_reserve.as_ref().or(file.disk_reserve.as_ref()))?;
        let proxies = if self.trusted_proxies.is_empty() { file.trusted_proxies.clone() } else { None };
        let proxies = proxies.unwrap_or(self.trusted_proxies);
        let trusted_proxies = proxies.iter().map(|range| range.parse().context("failed to read trusted_proxies"));
        let trusted_proxies = trusted_proxies.collect::<anyhow::Result<Vec<Cidr>>>()?;
        let defaults = Limits::default();
        let sockets = Limits {
            sockets_max: self.sockets_max.or(file.sockets_max).unwrap_or(defaults.sockets_max),
            sockets_per_ip_max: self
                .sockets_per_ip_max
                .or(file.sockets_per_ip_max)
                .unwrap_or(defaults.sockets_per_ip_max),
            auth_timeout: waits.header,
            // Two pings without an answer, and the third would be due.
            ping_every: waits.idle / 3,
            write_timeout: defaults.write_timeout.min(waits.unread),
            ..defaults
        };
        let per_ip_max = self.connections_per_ip_max.or(file.connections_per_ip_max);
        let connections = PlacesLimits {
            max: self
                .connections_max
                .or(file.connections_max)
                .unwrap_or_else(|| sockets.sockets_max.saturating_add(CONNECTIONS_BESIDE_SOCKETS)),
            pg_max: pg.as_ref().map_or(0, |pg| pg.limits.connections_max),
            per_ip_max: per_ip_max
                .unwrap_or_else(|| sockets.sockets_per_ip_max.saturating_add(CONNECTIONS_BESIDE_SOCKETS_PER_IP)),
            proxies: trusted_proxies.clone(),
        };
        let origins = if self.allowed_origins.is_empty() { file.allowed_origins.clone() } else { None };
        Ok(Serve {
            store: self.store.merge(&file),
            listen: self.listen.or(file.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            mail: self.mail.or(file.mail).unwrap_or_else(|| "spool".to_owned()),
            mail_from: self.mail_from.or(file.mail_from).unwrap_or_else(|| "Parlance <parlance@localhost>".to_owned()),
            public_url: self.public_url.or(file.public_url),
            operator_token: self.operator_token.or(file.operator_token).filter(|token| !token.is_empty()),
            allowed_origins: origins.unwrap_or(self.allowed_origins),
            trusted_proxies,
            rates,
            quotas,
            disk_reserve,
            sockets,
            connections,
            waits,
            away_after,
            pg,
            log_json,
        })
    }

    fn waits(&self, file: &File) -> anyhow::Result<Waits> {
        let defaults = Waits::default();
        Ok(Waits {
            header: seconds("header_wait_s", self.header_wait_s.or(file.header_wait_s), defaults.header)?,
            idle: seconds("idle_wait_s", self.idle_wait_s.or(file.idle_wait_s), defaults.idle)?,
            body: seconds("body_wait_s", self.body_wait_s.or(file.body_wait_s), defaults.body)?,
            unread: seconds("unread_wait_s", self.unread_wait_s.or(file.unread_wait_s), defaults.unread)?,
        })
    }

    /// Tokens are passwords here, so they cross a network only under TLS.
    fn pg(&self, file: &File, waits: Waits) -> anyhow::Result<Option<Pg>> {
        let tls = match (
            self.pg_tls_cert.clone().or_else(|| file.pg_tls_cert.clone()),
            self.pg_tls_key.clone().or_else(|| file.pg_tls_key.clone()),
        ) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => bail!("failed to read pg_tls_cert and pg_tls_key: both are needed, or none"),
        };
        let Some(listen) = self.pg_listen.or(file.pg_listen) else {
            if tls.is_some() {
                bail!("failed to read pg_tls_cert: there is no pg_listen that it is for");
            }
            return Ok(None);
        };
        if tls.is_none() && !listen.ip().is_loopback() {
            bail!("failed to read pg_listen '{listen}': off this machine it needs pg_tls_cert and pg_tls_key");
        }
        let defaults = ServerLimits::default();
        let per_tenant = self.pg_connections_per_tenant_max.or(file.pg_connections_per_tenant_max);
        let limits = ServerLimits {
            connections_max: self.pg_connections_max.or(file.pg_connections_max).unwrap_or(defaults.connections_max),
            connections_per_tenant_max: per_tenant.unwrap_or(defaults.connections_per_tenant_max),
            start: waits.header,
            message: waits.body,
            unread: waits.unread,
            ..defaults
        };
        Ok(Some(Pg { listen, tls, limits }))
    }
}

/// A time that is set, or its default.
fn seconds(name: &str, set: Option<u32>, default: Duration) -> anyhow::Result<Duration> {
    match set {
        Some(0) => bail!("failed to read {name} '0': expected at least a second"),
        Some(seconds) => Ok(Duration::from_secs(seconds.into())),
        None => Ok(default),
    }
}

/// The file's limits over these, and the flags' over those.
fn rates_over(mut rates: Rates, file: Option<&BTreeMap<String, String>>, flags: &[String]) -> anyhow::Result<Rates> {
    // `all` comes first in the alphabet, so single limits in the file count over it.
    for (name, rate) in file.into_iter().flatten() {
        rates.set(name, rate).context("failed to read limits")?;
    }
    for flag in flags {
        let (name, rate) =
            flag.split_once('=').with_context(|| format!("failed to read limit '{flag}': expected NAME=RATE"))?;
        rates.set(name.trim(), rate).context("failed to read limits")?;
    }
    Ok(rates)
}

/// The file's quotas over the defaults, and the flags' over those.
fn quotas(file: Option<&BTreeMap<String, String>>, flags: &[String]) -> anyhow::Result<ByteQuotas> {
    let mut quotas = ByteQuotas::default();
    for (name, amount) in file.into_iter().flatten() {
        quotas.set(name, amount).context("failed to read quotas")?;
    }
    for flag in flags {
        let (name, amount) =
            flag.split_once('=').with_context(|| format!("failed to read quota '{flag}': expected NAME=AMOUNT"))?;
        quotas.set(name.trim(), amount).context("failed to read quotas")?;
    }
    Ok(quotas)
}

fn reserve(text: Option<&String>) -> anyhow::Result<Reserve> {
    match text.map(|text| text.trim()) {
        None => Ok(Reserve::default()),
        Some("off") => Ok(Reserve::Bytes(0)),
        Some(text) => {
            let expected = || format!("failed to read disk_reserve '{text}': expected for example 2GiB, or off");
            bytes(text).map(Reserve::Bytes).with_context(expected)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_api::limits::quotas::ByteQuota;

    fn with_file(text: &str, flags: ServeArgs) -> anyhow::Result<Serve> {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("parlance.toml");
        std::fs::write(&path, text).expect("written");
        ServeArgs { store: StoreArgs { config: Some(path), ..flags.store }, ..flags }.resolve()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let flags = ServeArgs { mail_from: Some("a@b.example".to_owned()), ..ServeArgs::default() };
        let settings = with_file("listen = \"0.0.0.0:9\"\nmail_from = \"x@y.example\"", flags).expect("resolves");
        assert_eq!(settings.listen.port(), 9);
        assert_eq!(settings.mail_from, "a@b.example");
        assert_eq!(settings.mail, "spool");
    }

    #[test]
    fn limits_and_proxies_are_read_and_checked() {
        use chat_api::limits::Limit;
        let file = "trusted_proxies = [\"10.0.0.0/8\"]\n[limits]\nvisitor = \"off\"\nagent = \"5+5/s\"";
        let flags = ServeArgs { limits: vec!["agent=7+7/min".to_owned()], ..ServeArgs::default() };
        let settings = with_file(file, flags).expect("resolves");
        assert_eq!(settings.rates.get(Limit::Visitor), None);
        assert_eq!(settings.rates.get(Limit::Agent), "7+7/min".parse().ok());
        assert_eq!(settings.rates.get(Limit::LoginIp), "20+20/min".parse().ok());
        assert!(settings.trusted_proxies[0].contains("10.1.2.3".parse().expect("an address")));
        for (wrong, named) in [
            ("trusted_proxies = [\"10.0.0.0/64\"]", "10.0.0.0/64"),
            ("[limits]\nvisitors = \"off\"", "visitors"),
            ("[limits]\nvisitor = \"10\"", "10+10/min"),
        ] {
            let error = with_file(wrong, ServeArgs::default()).expect_err(wrong);
            assert!(format!("{error:#}").contains(named), "{error:#}");
        }
    }

    #[test]
    fn the_postgres_wire_is_off_and_needs_tls_off_this_machine() {
        let pg = |text: &str| with_file(text, ServeArgs::default()).map(|settings| settings.pg);
        assert!(pg("").expect("resolves").is_none());
        assert!(pg("pg_listen = \"127.0.0.1:5432\"").expect("resolves").is_some());
        for (wrong, named) in [
            ("pg_listen = \"0.0.0.0:5432\"", "pg_tls_cert"),
            ("pg_listen = \"[::]:5432\"", "pg_tls_cert"),
            ("pg_listen = \"0.0.0.0:5432\"\npg_tls_cert = \"a\"", "pg_tls_key"),
            ("pg_tls_cert = \"a\"\npg_tls_key = \"b\"", "pg_listen"),
        ] {
            let error = pg(wrong).expect_err(wrong);
            assert!(format!("{error:#}").contains(named), "{error:#}");
        }
        let tls = "pg_listen = \"0.0.0.0:5432\"\npg_tls_cert = \"a\"\npg_tls_key = \"b\"";
        assert!(pg(tls).expect("resolves").is_some());
    }

    #[test]
    fn quotas_and_the_reserve_are_set_one_by_one() {
        let text = "disk_reserve = \"2GiB\"\n[quotas]\nvisitor_text = \"1MiB/day\"\ntenant_log = \"off\"";
        let flags = ServeArgs { quotas: vec!["visitor_text=2MiB/h".to_owned()], ..ServeArgs::default() };
        let settings = with_file(text, flags).expect("resolves");
        assert_eq!(settings.quotas.get(ByteQuota::VisitorText), "2MiB/h".parse().ok());
        assert_eq!(settings.quotas.get(ByteQuota::TenantLog), None);
        assert_eq!(settings.quotas.get(ByteQuota::ChatbotText), ByteQuotas::default().get(ByteQuota::ChatbotText));
        assert_eq!(settings.disk_reserve, Reserve::Bytes(2 << 30));
        let settings = with_file("disk_reserve = \"off\"", ServeArgs::default()).expect("resolves");
        assert_eq!(settings.disk_reserve, Reserve::Bytes(0));
        for (wrong, named) in [
            ("disk_reserve = \"2GB\"", "2GiB"),
            ("[quotas]\nvisitors = \"off\"", "visitor_text"),
            ("[quotas]\nvisitor_text = \"1MiB\"", "/day"),
            ("[quotas]\ntenant_log = \"1MiB/day\"", "no period"),
        ] {
            let error = with_file(wrong, ServeArgs::default()).expect_err(wrong);
            assert!(format!("{error:#}").contains(named), "{error:#}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = with_file("data_dri = \"/tmp\"", ServeArgs::default()).expect_err("unknown key");
        assert!(format!("{error:#}").contains("data_dri"), "{error:#}");
    }
}
