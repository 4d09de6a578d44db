//! A session's settings: which there are, which a client may set, and to what. Start at [`SETTINGS`].

use chrono_tz::Tz;

use super::error::PgError;

const VERSION_NUMBER: &str = concat!("15.0 (Parlance ", env!("CARGO_PKG_VERSION"), ")");
/// Bytes of a setting's value.
const VALUE_BYTES_MAX: usize = 256;

/// Whether a client may set it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Client,
    Server,
}
use Who::{Client, Server};

/// Name, value at the start, who sets it, and whether the client hears of every change.
pub(super) const SETTINGS: &[(&str, &str, Who, bool)] = &[
    ("application_name", "", Client, true),
    ("bytea_output", "hex", Client, false),
    ("client_encoding", "UTF8", Client, true),
    ("client_min_messages", "notice", Client, false),
    ("DateStyle", "ISO, MDY", Client, true),
    ("default_transaction_isolation", "read committed", Client, false),
    ("default_transaction_read_only", "on", Client, true),
    ("extra_float_digits", "1", Client, false),
    ("geqo", "on", Client, false),
    ("idle_in_transaction_session_timeout", "0", Client, false),
    ("in_hot_standby", "off", Server, true),
    ("integer_datetimes", "on", Server, true),
    ("IntervalStyle", "postgres", Client, true),
    ("is_superuser", "off", Server, true),
    ("jit", "off", Client, false),
    ("lc_collate", "C.UTF-8", Server, false),
    ("lc_ctype", "C.UTF-8", Server, false),
    ("lock_timeout", "0", Client, false),
    ("max_identifier_length", "63", Server, false),
    ("max_index_keys", "32", Server, false),
    ("row_security", "on", Client, false),
    ("search_path", "public", Client, false),
    ("server_encoding", "UTF8", Server, true),
    ("server_version", VERSION_NUMBER, Server, true),
    ("server_version_num", "150000", Server, false),
    ("session_authorization", "", Server, true),
    ("standard_conforming_strings", "on", Client, true),
    ("statement_timeout", "0", Client, false),
    ("synchronous_commit", "on", Client, false),
    ("TimeZone", "UTC", Client, true),
    ("transaction_isolation", "read committed", Client, false),
    ("transaction_read_only", "on", Client, false),
    ("work_mem", "4MB", Client, false),
];

/// Names and values.
pub(super) type Values = Vec<(&'static str, String)>;

pub(super) fn unknown(name: &str) -> PgError {
    PgError::error("42704", format!("there is no setting \"{name}\""))
}

pub(super) fn defaults(user: &str) -> Values {
    let value =
        |name: &str, value: &str| if name == "session_authorization" { user.to_owned() } else { value.to_owned() };
    SETTINGS.iter().map(|(name, default, ..)| (*name, value(name, default))).collect()
}

pub(super) fn set(values: &mut Values, name: &str, value: &str) {
    for (known, old) in values.iter_mut().filter(|(known, _)| known.eq_ignore_ascii_case(name)) {
        *old = match *known {
            // However it was spelt.
            "client_encoding" => "UTF8".to_owned(),
            "DateStyle" => "ISO, MDY".to_owned(),
            "TimeZone" => zone(value).map_or_else(|| value.to_owned(), |zone| zone.name().to_owned()),
            _ => value.to_owned(),
        };
    }
}

/// A zone by its name, whatever its case, or an offset of nothing.
fn zone(text: &str) -> Option<Tz> {
    match text.trim_matches('\'') {
        "0" | "+00" | "+00:00" | "Z" | "z" => Some(Tz::UTC),
        name => chrono_tz::TZ_VARIANTS.into_iter().find(|zone| zone.name().eq_ignore_ascii_case(name)),
    }
}

/// Whether a client may set this to that.
pub(super) fn checked(name: &str, value: &str) -> Result<(), PgError> {
    let known = SETTINGS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)).ok_or_else(|| unknown(name))?;
    if known.2 == Server {
        return Err(PgError::error("55P02", format!("\"{}\" can't be changed", known.0)));
    }
    let lower = value.to_lowercase();
    let fits = value.len() <= VALUE_BYTES_MAX
        && match known.0 {
            "client_encoding" => matches!(lower.replace(['-', '_'], "").as_str(), "utf8" | "unicode"),
            "DateStyle" => lower.split(',').all(|part| matches!(part.trim(), "iso" | "mdy" | "dmy" | "ymd")),
            "IntervalStyle" => lower == "postgres",
            "bytea_output" => lower == "hex",
            "standard_conforming_strings" => matches!(lower.as_str(), "on" | "true" | "1"),
            "TimeZone" => zone(value).is_some(),
            "statement_timeout" => milliseconds(value).is_some(),
            _ => true,
        };
    let message = || format!("\"{}\" can't be {value:?} here", known.0);
    if fits { Ok(()) } else { Err(PgError::error("22023", message())) }
}

/// `500`, `500ms`, `2s`, `1min`.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim().trim_matches('\'');
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let factor = match text[end..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(factor)
}
