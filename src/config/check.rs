//! What each setting must be. What isn't so is answered with what was expected.

use super::names;
use chat_api::limits::disk::Reserve;
use chat_api::limits::quotas::{ByteQuota, ByteQuotas, InvalidQuota, bytes};
use chat_api::limits::{Cidr, InvalidRate, Limit, Rates};
use ingest::seal::KeyFile;
use ingest::sqlite::DataDir;
use sinks::smtp::MailConfig;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use url::Url;

/// Connections and sockets that can be asked for; the system's limit of open files is far below.
const COUNT_MAX: usize = 1_000_000;
/// The longest wait that can be set: a day.
const WAIT_S_MAX: u64 = 86_400;

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an address and a port, for example 127.0.0.1:8080 or [::]:8080".to_owned())
}

pub(super) fn address_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" { Ok(None) } else { address(text).map(Some).map_err(|expected| format!("{expected}, or off")) }
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=COUNT_MAX).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to {COUNT_MAX}"))
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|number| (1..=WAIT_S_MAX).contains(number));
    number.map(Duration::from_secs).ok_or_else(|| format!("expected seconds, from 1 to {WAIT_S_MAX}"))
}

/// Whether it says json.
pub(super) fn log_format(text: &str) -> Result<bool, String> {
    match text {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => Err("expected text or json".to_owned()),
    }
}

pub(super) fn range(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|_| "expected an address or a range of them, for example 10.0.0.0/8".to_owned())
}

pub(super) fn origin(text: &str) -> Result<String, String> {
    if chat_api::check::is_origin(text) {
        return Ok(text.to_owned());
    }
    Err("expected an origin as browsers send it, for example https://www.example.com".to_owned())
}

pub(super) fn rate(rates: &mut Rates, name: &str, rate: &str) -> Result<(), String> {
    rates.set(name, rate).map_err(|error| match error {
        InvalidRate::Name(_) => {
            names::unknown("limit", name, Limit::ALL.iter().map(|limit| limit.name()).chain(["all"]))
        }
        InvalidRate::Rate(_) => error.to_string(),
    })
}

pub(super) fn quota(quotas: &mut ByteQuotas, name: &str, amount: &str) -> Result<(), String> {
    quotas.set(name, amount).map_err(|error| match error {
        InvalidQuota::Name(_) => {
            names::unknown("quota", name, ByteQuota::ALL.iter().map(|quota| quota.name()).chain(["all"]))
        }
        InvalidQuota::Amount(_) | InvalidQuota::Period(..) => error.to_string(),
    })
}

pub(super) fn reserve(text: &str) -> Result<Reserve, String> {
    match text.trim() {
        "off" => Ok(Reserve::Bytes(0)),
        text => bytes(text).map(Reserve::Bytes).ok_or_else(|| "expected for example 2GiB, or off".to_owned()),
    }
}

pub(super) fn mail(text: &str) -> Result<String, String> {
    MailConfig::check_target(text).map_err(|error| error.expected())?;
    Ok(text.to_owned())
}

pub(super) fn mail_from(text: &str) -> Result<String, String> {
    MailConfig::check_sender(text).map_err(|error| error.expected())?;
    Ok(text.to_owned())
}

/// As links begin with it: a scheme, a host and perhaps a port and a path.
pub(super) fn public_url(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let rest = ["http://", "https://"].iter().find_map(|scheme| lower.strip_prefix(scheme)).unwrap_or_default();
    // The parser takes what browsers put up with: more slashes, backslashes, tabs and newlines in between.
    let is_plain = rest.starts_with(|c: char| c.is_alphanumeric() || c == '[')
        && !rest.contains(|c: char| c.is_control() || c.is_whitespace() || "\\@".contains(c));
    let url = Url::parse(text).ok().filter(|url| {
        is_plain
            && url.host_str().is_some_and(|host| !host.is_empty())
            && url.query().is_none()
            && url.fragment().is_none()
            && url.port() != Some(0)
    });
    let expected =
        "expected http:// or https:// and a host, perhaps a port and a path, for example https://chat.example";
    url.map(|url| url.as_str().trim_end_matches('/').to_owned()).ok_or_else(|| expected.to_owned())
}

/// It comes in a header, so it's made of what stands in one.
pub(super) fn operator_token(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err("expected a token of visible ASCII characters, without spaces".to_owned())
}

/// It may be missing: it's made then.
pub(super) fn data_dir(path: &Path) -> Result<(), String> {
    if path.as_os_str().is_empty() {
        return Err("expected a directory".to_owned());
    }
    DataDir::check_path(path).map_err(|error| error.to_string())?;
    if path.exists() && !path.is_dir() {
        return Err("expected a directory, it is a file".to_owned());
    }
    Ok(())
}

/// It may be missing: it's made on the first start.
pub(super) fn key_file(path: &Path) -> Result<(), String> {
    if path.as_os_str().is_empty() {
        return Err("expected a file".to_owned());
    }
    if path.try_exists().map_err(|error| error.to_string())? {
        return KeyFile::open(path, false).map(drop).map_err(|error| error.to_string());
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            Err(format!("expected a file in a directory that is there; {} isn't", parent.display()))
        }
        _ => Ok(()),
    }
}

/// One that can be read.
pub(super) fn file(path: &Path) -> Result<(), String> {
    match File::open(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("expected a file that can be read: {error}")),
    }
}
