//! The flags and variables as they are given: texts. What they must be is said where they are read, so that all errors are
//! told at once.

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::path::PathBuf;

/// An empty one too: it's told with everything else that is wrong.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Where the data is; for every command that opens it.
#[derive(Args, Clone, Default)]
pub struct StoreArgs {
    /// The data directory [default: ./parlance-data]
    #[arg(long, env = "PARLANCE_DATA_DIR", value_name = "DIR", value_parser = any_path())]
    pub data_dir: Option<PathBuf>,
    /// Signing and sealing keys, made on first start [default: parlance.keys in the data directory]
    #[arg(long, env = "PARLANCE_KEY_FILE", value_name = "FILE", value_parser = any_path())]
    pub key_file: Option<PathBuf>,
    /// A TOML file with any of these settings
    #[arg(long, env = "PARLANCE_CONFIG", value_name = "FILE", value_parser = any_path())]
    pub config: Option<PathBuf>,
}

/// Flags of `serve`.
#[derive(Args, Clone, Default)]
pub struct ServeArgs {
    #[command(flatten)]
    pub store: StoreArgs,
    /// Address for HTTP; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "PARLANCE_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
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
    pub sockets_max: Option<String>,
    /// Open sockets from one address at most [default: 1000]
    #[arg(long, env = "PARLANCE_SOCKETS_PER_IP_MAX", value_name = "N")]
    pub sockets_per_ip_max: Option<String>,
    /// Connections at most, at every door together [default: 4000 and sockets_max]
    #[arg(long, env = "PARLANCE_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<String>,
    /// Connections from one address at most, trusted proxies aside [default: 1000 and sockets_per_ip_max]
    #[arg(long, env = "PARLANCE_CONNECTIONS_PER_IP_MAX", value_name = "N")]
    pub connections_per_ip_max: Option<String>,
    /// Seconds for a request's head, a socket's token, a password on the Postgres wire [default: 10]
    #[arg(long, env = "PARLANCE_HEADER_WAIT_S", value_name = "S")]
    pub header_wait_s: Option<String>,
    /// Seconds between two requests on one connection, longer than a proxy in front keeps one, and between two signs of
    /// life on a socket [default: 75]
    #[arg(long, env = "PARLANCE_IDLE_WAIT_S", value_name = "S")]
    pub idle_wait_s: Option<String>,
    /// Seconds without a byte of a body that has begun [default: 30]
    #[arg(long, env = "PARLANCE_BODY_WAIT_S", value_name = "S")]
    pub body_wait_s: Option<String>,
    /// Seconds in which a client takes no byte of its answer [default: 30]
    #[arg(long, env = "PARLANCE_UNREAD_WAIT_S", value_name = "S")]
    pub unread_wait_s: Option<String>,
    /// Seconds without a sign of life after which an agent is offline and a visitor away [default: 60]
    #[arg(long, env = "PARLANCE_AWAY_AFTER_S", value_name = "S")]
    pub away_after_s: Option<String>,
    /// Address for the Postgres wire, or off; port 0 takes a free one [default: off]
    #[arg(long, env = "PARLANCE_PG_LISTEN", value_name = "ADDR")]
    pub pg_listen: Option<String>,
    /// Certificate chain of the Postgres wire, PEM; needed off this machine
    #[arg(long, env = "PARLANCE_PG_TLS_CERT", value_name = "FILE", value_parser = any_path())]
    pub pg_tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, env = "PARLANCE_PG_TLS_KEY", value_name = "FILE", value_parser = any_path())]
    pub pg_tls_key: Option<PathBuf>,
    /// Connections over the Postgres wire at most [default: 500]
    #[arg(long, env = "PARLANCE_PG_CONNECTIONS_MAX", value_name = "N")]
    pub pg_connections_max: Option<String>,
    /// Connections of one tenant over the Postgres wire at most [default: 50]
    #[arg(long, env = "PARLANCE_PG_CONNECTIONS_PER_TENANT_MAX", value_name = "N")]
    pub pg_connections_per_tenant_max: Option<String>,
    /// text or json [default: text]
    #[arg(long, env = "PARLANCE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}
