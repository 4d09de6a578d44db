//! Settings: flags win over `PARLANCE_*` variables, those over the TOML file, that over the defaults.
//!
//! Every setting has one name: `--data-dir`, `PARLANCE_DATA_DIR`, `data_dir = "…"`. Names that aren't known are errors. All
//! settings are read and checked before anything is opened, and every error is told.
//!
//! - [`args`]: the flags and variables as texts. [`sources`]: which text counts, and where it comes from.
//! - [`check`]: what each must be. [`names`]: names that nobody knows. [`problems`]: all that is wrong.

mod args;
mod check;
mod names;
mod problems;
mod sources;

pub use args::{ServeArgs, StoreArgs};
pub use problems::Problems;

use crate::connections::Waits;
use crate::connections::places::PlacesLimits;
use anyhow::Context as _;
use chat_api::limits::disk::Reserve;
use chat_api::limits::quotas::ByteQuotas;
use chat_api::limits::{Cidr, Rates};
use chat_api::live::Limits;
use chat_api::presence;
use sources::Sources;
use sql::pg::ServerLimits;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Connections for requests and the Postgres wire, beside the sockets.
const CONNECTIONS_BESIDE_SOCKETS: usize = 4_000;
/// The same of one address.
const CONNECTIONS_BESIDE_SOCKETS_PER_IP: usize = 1_000;
/// Who mails are from, unless somebody else is named.
const MAIL_FROM: &str = "Parlance <parlance@localhost>";

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
    /// All [`Problems`], a line each.
    pub fn resolve(self) -> anyhow::Result<Store> {
        let mut sources = Sources::open(self.config.clone());
        let store = self.read(&mut sources);
        sources.finish()?;
        Ok(store)
    }

    fn read(self, sources: &mut Sources) -> Store {
        let data_dir = sources.path("data_dir", self.data_dir, check::data_dir);
        Store {
            data_dir: data_dir.unwrap_or_else(|| PathBuf::from("parlance-data")),
            key_file: sources.path("key_file", self.key_file, check::key_file),
        }
    }
}

/// Where a running server is, and the token to call it with; both checked.
///
/// # Errors
/// All [`Problems`], a line each.
pub fn remote(server: Option<String>, token: Option<String>) -> anyhow::Result<(String, String)> {
    let mut sources = Sources::open(None);
    let server = sources.one("server", server, check::public_url);
    let token = sources.secret("token", token, check::operator_token);
    if token.is_none() && !sources.is_wrong("token") {
        sources.problems.add("--server needs --token (or PARLANCE_TOKEN)".to_owned());
    }
    sources.finish()?;
    server.zip(token).context("--server is missing")
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
    /// All [`Problems`], a line each.
    pub fn resolve(self) -> anyhow::Result<Serve> {
        self.resolve_over(Rates::default())
    }

    /// The same, with other limits than the defaults where none are given.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_over(mut self, mut rates: Rates) -> anyhow::Result<Serve> {
        let mut sources = Sources::open(self.store.config.clone());
        let from = &mut sources;
        let store = std::mem::take(&mut self.store).read(from);
        let waits = self.waits(from);
        let pg = self.pg(from, waits);
        let away_after = from.one("away_after_s", self.away_after_s, check::seconds);
        let log_json = from.one("log_format", self.log_format, check::log_format);
        from.pairs("limits", self.limits, |name, rate| check::rate(&mut rates, name, rate));
        let mut quotas = ByteQuotas::default();
        from.pairs("quotas", self.quotas, |name, amount| check::quota(&mut quotas, name, amount));
        let defaults = Limits::default();
        let sockets_max = from.one("sockets_max", self.sockets_max, check::count);
        let sockets_per_ip_max = from.one("sockets_per_ip_max", self.sockets_per_ip_max, check::count);
        let sockets = Limits {
            sockets_max: sockets_max.unwrap_or(defaults.sockets_max),
            sockets_per_ip_max: sockets_per_ip_max.unwrap_or(defaults.sockets_per_ip_max),
            auth_timeout: waits.header,
            // Two pings without an answer, and the third would be due.
            ping_every: waits.idle / 3,
            write_timeout: defaults.write_timeout.min(waits.unread),
            ..defaults
        };
        let trusted_proxies: Vec<Cidr> = from.list("trusted_proxies", self.trusted_proxies, check::range);
        let connections_max = from.one("connections_max", self.connections_max, check::count);
        let per_ip_max = from.one("connections_per_ip_max", self.connections_per_ip_max, check::count);
        let connections = PlacesLimits {
            max: connections_max.unwrap_or(sockets.sockets_max + CONNECTIONS_BESIDE_SOCKETS),
            pg_max: pg.as_ref().map_or(0, |pg| pg.limits.connections_max),
            per_ip_max: per_ip_max.unwrap_or(sockets.sockets_per_ip_max + CONNECTIONS_BESIDE_SOCKETS_PER_IP),
            proxies: trusted_proxies.clone(),
        };
        let listen = from.one("listen", self.listen, check::address);
        let settings = Serve {
            store,
            listen: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            mail: from.secret("mail", self.mail, check::mail).unwrap_or_else(|| "spool".to_owned()),
            mail_from: from.one("mail_from", self.mail_from, check::mail_from).unwrap_or_else(|| MAIL_FROM.to_owned()),
            public_url: from.one("public_url", self.public_url, check::public_url),
            operator_token: from.secret("operator_token", self.operator_token, check::operator_token),
            allowed_origins: from.list("allowed_origins", self.allowed_origins, check::origin),
            trusted_proxies,
            rates,
            quotas,
            disk_reserve: from.one("disk_reserve", self.disk_reserve, check::reserve).unwrap_or_default(),
            sockets,
            connections,
            waits,
            away_after: away_after.unwrap_or(presence::AWAY_AFTER),
            pg,
            log_json: log_json.unwrap_or(false),
        };
        sources.finish()?;
        Ok(settings)
    }

    fn waits(&mut self, from: &mut Sources) -> Waits {
        let defaults = Waits::default();
        let mut wait =
            |key, given: &mut Option<String>, default| from.one(key, given.take(), check::seconds).unwrap_or(default);
        Waits {
            header: wait("header_wait_s", &mut self.header_wait_s, defaults.header),
            idle: wait("idle_wait_s", &mut self.idle_wait_s, defaults.idle),
            body: wait("body_wait_s", &mut self.body_wait_s, defaults.body),
            unread: wait("unread_wait_s", &mut self.unread_wait_s, defaults.unread),
        }
    }

    /// Tokens are passwords here, so they cross a network only under TLS.
    fn pg(&mut self, from: &mut Sources, waits: Waits) -> Option<Pg> {
        let cert = from.path("pg_tls_cert", self.pg_tls_cert.take(), check::file);
        let key = from.path("pg_tls_key", self.pg_tls_key.take(), check::file);
        let connections_max = from.one("pg_connections_max", self.pg_connections_max.take(), check::count);
        let per_tenant = self.pg_connections_per_tenant_max.take();
        let per_tenant = from.one("pg_connections_per_tenant_max", per_tenant, check::count);
        let listen = from.one("pg_listen", self.pg_listen.take(), check::address_or_off).flatten();
        let given = [from.has("pg_tls_cert"), from.has("pg_tls_key")];
        if given[0] != given[1] {
            from.problems.add("pg_tls_cert and pg_tls_key: expected both or none".to_owned());
        }
        if given[0] && listen.is_none() && !from.is_wrong("pg_listen") {
            from.problems.add("pg_tls_cert: expected a pg_listen that it is for".to_owned());
        }
        let tls = cert.zip(key);
        if let Some((cert, key)) = &tls
            && let Err(error) = crate::pg::acceptor(cert, key)
        {
            from.problems.add(format!("pg_tls_cert and pg_tls_key: {error:#}"));
        }
        let listen = listen?;
        if given == [false, false] && !listen.ip().is_loopback() {
            let what = "off this machine it needs pg_tls_cert and pg_tls_key";
            from.problems.add(format!("pg_listen '{listen}': {what}"));
        }
        let defaults = ServerLimits::default();
        let limits = ServerLimits {
            connections_max: connections_max.unwrap_or(defaults.connections_max),
            connections_per_tenant_max: per_tenant.unwrap_or(defaults.connections_per_tenant_max),
            start: waits.header,
            message: waits.body,
            unread: waits.unread,
            ..defaults
        };
        Some(Pg { listen, tls, limits })
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
        // Files that can't be read aren't certificates, whatever listens.
        let error =
            pg("pg_listen = \"127.0.0.1:5432\"\npg_tls_cert = \"a\"\npg_tls_key = \"b\"").expect_err("no files");
        assert_eq!(format!("{error:#}").matches("expected a file that can be read").count(), 2, "{error:#}");
        let off = "pg_listen = \"off\"";
        assert!(pg(off).expect("resolves").is_none());
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
    fn an_unknown_key_is_an_error_that_names_the_nearest() {
        let error = with_file("data_dri = \"/tmp\"", ServeArgs::default()).expect_err("unknown key");
        assert!(format!("{error:#}").contains("no key 'data_dri'; did you mean 'data_dir'?"), "{error:#}");
    }

    /// Whatever is wrong in the file, and with whatever else, a line says so.
    #[test]
    fn every_error_is_told_at_once() {
        let file = "listen = 5\nmail = true\nsockets_max = 0\nlimits = 3\nallowed_origins = [1.5]\nlog_fromat = \"json\"\n\
                    [quotas]\ntenant_logs = \"1GiB\"\nvisitor_text = 5.5";
        let flags = ServeArgs { idle_wait_s: Some("-1".to_owned()), ..ServeArgs::default() };
        let error = format!("{:#}", with_file(file, flags).expect_err("all wrong"));
        for named in [
            "listen in",
            "mail in",
            "sockets_max in",
            "limits in",
            "allowed_origins in",
            "did you mean 'log_format'?",
            "did you mean 'tenant_log'?",
            "visitor_text in quotas in",
            "--idle-wait-s '-1'",
        ] {
            assert_eq!(error.lines().filter(|line| line.contains(named)).count(), 1, "{named}: {error}");
        }
        assert_eq!(error.lines().count(), 10, "{error}");
    }

    #[test]
    fn a_public_url_is_what_a_link_begins_with() {
        for (good, kept) in [
            ("https://chat.example", "https://chat.example"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("HTTPS://Chat.Example:443/support/", "https://chat.example/support"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(check::public_url(good).as_deref(), Ok(kept), "{good}");
        }
        for wrong in [
            "",
            " ",
            "chat.example",
            "javascript:alert(1)",
            "javascript://chat.example/%0aalert(1)",
            "ftp://chat.example",
            "//chat.example",
            "https:",
            "https://",
            "https:///x",
            "https:chat.example",
            "https:/chat.example",
            "https://chat.example\n",
            "https://chat.exa\nmple",
            "https://chat.example\t",
            "https://chat example",
            "https://user@chat.example",
            "https://user:secret@chat.example",
            "https://@chat.example",
            "https://chat.example?x=1",
            "https://chat.example?",
            "https://chat.example#top",
            "https://chat.example#",
            "https://chat.example:0",
            "https://chat.example:99999",
            "https:\\\\chat.example",
            "https://chat.example\u{7f}",
        ] {
            assert!(check::public_url(wrong).is_err(), "{wrong:?}");
        }
    }
}
