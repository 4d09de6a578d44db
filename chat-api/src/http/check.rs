//! What a field must look like. Pure; each refusal is a 422 that names the field.

use super::problem::{Outcome, Problem};
use ingest::payload::{Holiday, OpeningHours, SlaTargets};
use ingest::time::Timestamp;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// Characters of a message or a note.
pub const CONTENT_CHARS_MAX: usize = 20_000;
/// Characters of a name or another short text.
pub const NAME_CHARS_MAX: usize = 200;
/// Characters of a longer text that isn't a message, as a greeting.
const TEXT_CHARS_MAX: usize = 2_000;
/// Bytes of a metadata object.
const METADATA_BYTES_MAX: usize = 8 * 1024;
/// Bytes of an address; the limit of SMTP's path.
const EMAIL_BYTES_MAX: usize = 254;
/// Characters of a password.
const PASSWORD_CHARS: RangeInclusive<usize> = 8..=200;
/// Origins of a chatbot or tags of a request.
const LIST_MAX: usize = 100;
/// Days off of a tenant: ten years of them.
const HOLIDAYS_MAX: usize = 366;

/// A name: 1 to 200 characters, trimmed, none of them a control character.
///
/// # Errors
/// 422 with the field; so for every check here.
pub fn name(field: &str, text: &str) -> Outcome<String> {
    let text = text.trim();
    let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Problem::invalid(field, format!("'{field}' has 1 to {NAME_CHARS_MAX} characters, no control characters")))
    }
}

/// A name that may be left out; blank is left out too, as forms send it.
///
/// # Errors
/// 422.
pub fn optional_name(field: &str, text: Option<&str>) -> Outcome<Option<String>> {
    text.filter(|text| !text.trim().is_empty()).map(|text| name(field, text)).transpose()
}

/// A text that may be empty, at most 2,000 characters.
///
/// # Errors
/// 422.
pub fn text(field: &str, text: &str) -> Outcome<String> {
    if text.chars().count() <= TEXT_CHARS_MAX && !text.contains('\0') {
        Ok(text.to_owned())
    } else {
        Err(Problem::invalid(field, format!("'{field}' has at most {TEXT_CHARS_MAX} characters, and no NUL")))
    }
}

/// What someone says: 1 to 20,000 characters, not blank, no NUL; kept as it is. Answers the number of characters.
///
/// # Errors
/// 422.
pub fn content(field: &str, text: &str) -> Outcome<u32> {
    let chars = text.chars().count();
    let problem = |detail: String| Err(Problem::invalid(field, detail));
    if text.trim().is_empty() {
        return problem(format!("'{field}' is blank"));
    }
    if text.contains('\0') {
        return problem(format!("'{field}' contains a NUL character"));
    }
    match u32::try_from(chars) {
        Ok(count) if chars <= CONTENT_CHARS_MAX => Ok(count),
        _ => problem(format!("'{field}' has {chars} characters, at most {CONTENT_CHARS_MAX} are allowed")),
    }
}

/// An address, trimmed, its domain in lower case.
///
/// # Errors
/// 422.
pub fn email(field: &str, text: &str) -> Outcome<String> {
    let text = text.trim();
    match text.rsplit_once('@') {
        Some((local, domain)) if is_email(text, local, domain) => Ok(format!("{local}@{}", domain.to_lowercase())),
        _ => Err(Problem::invalid(field, format!("'{field}' is not an e-mail address"))),
    }
}

fn is_email(text: &str, local: &str, domain: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "<>()[]\\,;:\"@".contains(c);
    let label = |label: &str| {
        let edge = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && !edge && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    text.len() <= EMAIL_BYTES_MAX
        && (1..=64).contains(&local.len())
        && !local.contains(odd)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.split('.').all(label)
}

/// An address that may be left out; blank is left out too.
///
/// # Errors
/// 422.
pub fn optional_email(field: &str, text: Option<&str>) -> Outcome<Option<String>> {
    text.filter(|text| !text.trim().is_empty()).map(|text| email(field, text)).transpose()
}

/// A web address that may be left out; blank is left out too.
///
/// # Errors
/// 422.
pub fn optional_url(field: &str, text: Option<&str>) -> Outcome<Option<String>> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "<>\"'\\".contains(c);
    let web = text.starts_with("https://") || text.starts_with("http://");
    if web && text.chars().count() <= TEXT_CHARS_MAX && !text.contains(odd) {
        Ok(Some(text.to_owned()))
    } else {
        Err(Problem::invalid(
            field,
            format!("'{field}' is a web address (http or https) of at most {TEXT_CHARS_MAX} characters"),
        ))
    }
}

/// A new password.
///
/// # Errors
/// 422.
pub fn password(field: &str, text: &str) -> Outcome<()> {
    if PASSWORD_CHARS.contains(&text.chars().count()) && !text.contains('\0') {
        return Ok(());
    }
    let (min, max) = (PASSWORD_CHARS.start(), PASSWORD_CHARS.end());
    Err(Problem::invalid(field, format!("'{field}' has {min} to {max} characters")))
}

/// An IANA time zone.
///
/// # Errors
/// 422.
pub fn time_zone(field: &str, text: &str) -> Outcome<String> {
    match text.parse::<chrono_tz::Tz>() {
        Ok(zone) => Ok(zone.name().to_owned()),
        Err(_) => {
            Err(Problem::invalid(field, format!("'{field}' is not an IANA time zone, for example Europe/Berlin")))
        }
    }
}

/// A number that may be left out, within limits.
///
/// # Errors
/// 422.
pub fn number(field: &str, value: Option<u32>, limits: RangeInclusive<u32>) -> Outcome<Option<u32>> {
    match value {
        Some(value) if !limits.contains(&value) => {
            let detail = format!("'{field}' is a number from {} to {}", limits.start(), limits.end());
            Err(Problem::invalid(field, detail))
        }
        value => Ok(value),
    }
}

/// Opening hours: stretches that begin on a day and end on it or on the next; those of a day don't overlap. Answered by day
/// and time. What one day's night and the next day's morning have in common counts once.
///
/// # Errors
/// 422.
pub fn opening_hours(list: &[OpeningHours]) -> Outcome<Vec<OpeningHours>> {
    let invalid = |detail: &str| Problem::invalid("openingHours", format!("'openingHours' {detail}"));
    if list.len() > LIST_MAX {
        return Err(invalid("has at most 100 entries"));
    }
    let mut stretches = Vec::with_capacity(list.len());
    for stretch in list {
        match (clock_minutes(&stretch.from), clock_minutes(&stretch.to)) {
            (Some(from), Some(to)) if from < DAY_MINUTES => {
                let end = if to <= from { to + DAY_MINUTES } else { to };
                stretches.push((stretch.day, from, end, stretch));
            }
            _ => return Err(invalid("has times as HH:MM, 'from' before 24:00, 'to' at most 24:00")),
        }
    }
    stretches.sort_by_key(|(day, from, ..)| (*day, *from));
    if stretches.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[0].2 > pair[1].1) {
        return Err(invalid("has stretches that overlap"));
    }
    Ok(stretches.into_iter().map(|(.., stretch)| stretch.clone()).collect())
}

const DAY_MINUTES: u32 = 24 * 60;

/// Minutes of the day of `HH:MM`, 24:00 included.
fn clock_minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !two_digits(hours) || !two_digits(minutes) {
        return None;
    }
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (minutes < 60 && hours * 60 + minutes <= DAY_MINUTES).then_some(hours * 60 + minutes)
}

/// Days off, by date, each once.
///
/// # Errors
/// 422.
pub fn holidays(list: &[Holiday]) -> Outcome<Vec<Holiday>> {
    if list.len() > HOLIDAYS_MAX {
        return Err(Problem::invalid("holidays", format!("'holidays' has at most {HOLIDAYS_MAX} entries")));
    }
    let mut days = Vec::with_capacity(list.len());
    for day in list {
        if day.date.len() != 10 || Timestamp::parse_rfc3339(&format!("{}T00:00:00Z", day.date)).is_none() {
            return Err(Problem::invalid("holidays", "'holidays' has dates as YYYY-MM-DD"));
        }
        days.push(Holiday { date: day.date.clone(), name: optional_name("holidays", day.name.as_deref())? });
    }
    days.sort_by(|left, right| left.date.cmp(&right.date));
    days.dedup_by(|later, earlier| later.date == earlier.date);
    Ok(days)
}

/// Promises: from a second to a year.
///
/// # Errors
/// 422.
pub fn sla_targets(targets: SlaTargets) -> Outcome<SlaTargets> {
    for seconds in [targets.first_response_seconds, targets.next_response_seconds, targets.resolution_seconds] {
        number("slaTargets", seconds, 1..=365 * 24 * 60 * 60)?;
    }
    Ok(targets)
}

/// A JSON object of at most 8 KiB, as text.
///
/// # Errors
/// 422.
pub fn metadata(field: &str, object: &Map<String, Value>) -> Outcome<String> {
    let text = Value::Object(object.clone()).to_string();
    if text.len() <= METADATA_BYTES_MAX && !text.contains("\\u0000") {
        Ok(text)
    } else {
        Err(Problem::invalid(
            field,
            format!("'{field}' is a JSON object of at most {METADATA_BYTES_MAX} bytes, without NUL"),
        ))
    }
}

/// Origins as browsers send them: scheme and host in lower case, a port unless it's the scheme's own, nothing after.
///
/// # Errors
/// 422.
pub fn origins(field: &str, list: &[String]) -> Outcome<Vec<String>> {
    if list.len() > LIST_MAX {
        return Err(Problem::invalid(field, format!("'{field}' has at most {LIST_MAX} entries")));
    }
    let mut origins: Vec<String> = Vec::new();
    for origin in list {
        if !is_origin(origin) {
            let detail = format!("'{field}' holds origins as browsers send them, for example https://www.example.com");
            return Err(Problem::invalid(field, detail));
        }
        if !origins.contains(origin) {
            origins.push(origin.clone());
        }
    }
    Ok(origins)
}

/// Whether it is an origin as browsers send it, for example `https://www.example.com`.
#[must_use]
pub fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let (host, port) = match rest.rsplit_once(':').filter(|_| !rest.ends_with(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let default_port = if scheme == "https" { "443" } else { "80" };
    let own_port = port.is_none_or(|port| {
        port != default_port && port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
    });
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good_host = match literal {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            (1..=253).contains(&host.len()) && host.chars().all(good)
        }
    };
    matches!(scheme, "http" | "https") && own_port && good_host
}

/// Tags: short words, trimmed.
///
/// # Errors
/// 422.
pub fn tags(field: &str, list: &[String]) -> Outcome<Vec<String>> {
    if list.len() > LIST_MAX {
        return Err(Problem::invalid(field, format!("'{field}' has at most {LIST_MAX} entries")));
    }
    list.iter().map(|tag| name(field, tag)).collect()
}

/// Skills: short words, trimmed, each once.
///
/// # Errors
/// 422.
pub fn skills(field: &str, list: &[String], max: usize) -> Outcome<Vec<String>> {
    if list.len() > max {
        return Err(Problem::invalid(field, format!("'{field}' has at most {max} entries")));
    }
    let mut skills = list.iter().map(|skill| name(field, skill)).collect::<Outcome<Vec<_>>>()?;
    skills.sort();
    skills.dedup();
    Ok(skills)
}

/// The tenant's own id of a visitor: 1 to 200 characters, taken as they are.
///
/// # Errors
/// 422.
pub fn user_id(field: &str, text: &str) -> Outcome<()> {
    if (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Problem::invalid(field, format!("'{field}' has 1 to {NAME_CHARS_MAX} characters")))
    }
}

/// Where a visitor is: at most 2,000 characters, none of them a control character. It's shown, never followed.
///
/// # Errors
/// 422.
pub fn page_url(field: &str, text: &str) -> Outcome<String> {
    let text = text.trim();
    if (1..=TEXT_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(Problem::invalid(field, format!("'{field}' has 1 to {TEXT_CHARS_MAX} characters, no control characters")))
    }
}

/// The sender's own id for an event.
///
/// # Errors
/// 422.
pub fn client_id(text: &str) -> Outcome<()> {
    if (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Problem::invalid("clientId", format!("'clientId' has 1 to {NAME_CHARS_MAX} characters")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["ada@example.com", " Ada.L+tag@EXAMPLE.com ", "ada@localhost", "ünï@bücher.example"] {
            assert!(email("email", good).is_ok(), "{good}");
        }
        assert_eq!(email("email", " Ada@EXAMPLE.com ").expect("good"), "Ada@example.com");
        for bad in
            ["", "ada", "@example.com", "ada@", "a b@example.com", "ada@-x.com", "ada@x..com", "a@b@c.d,", "a\n@b.c"]
        {
            assert!(email("email", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_are_what_browsers_send() {
        let check = |origin: &str| origins("allowedOrigins", &[origin.to_owned()]).is_ok();
        for good in ["https://shop.example", "http://localhost:8080", "http://127.0.0.1:3000", "https://[::1]:8443"] {
            assert!(check(good), "{good}");
        }
        for bad in [
            "*",
            "https://shop.example/",
            "shop.example",
            "https://Shop.example",
            "https://shop.example:443",
            "null",
            "ftp://x",
            "https://a b",
        ] {
            assert!(!check(bad), "{bad}");
        }
    }

    #[test]
    fn opening_hours_are_stretches_of_days() {
        let stretch = |day, from: &str, to: &str| OpeningHours { day, from: from.to_owned(), to: to.to_owned() };
        let (mon, tue) = (ingest::payload::Weekday::Monday, ingest::payload::Weekday::Tuesday);
        let sorted = opening_hours(&[
            stretch(tue, "00:00", "24:00"),
            stretch(mon, "13:00", "17:30"),
            stretch(mon, "09:00", "13:00"),
        ]);
        let from: Vec<String> = sorted.expect("good").into_iter().map(|stretch| stretch.from).collect();
        assert_eq!(from, ["09:00", "13:00", "00:00"]);
        for (from, to) in
            [("9:00", "17:00"), ("24:00", "09:00"), ("24:00", "24:00"), ("09:60", "10:00"), ("23:00", "24:01")]
        {
            assert!(opening_hours(&[stretch(mon, from, to)]).is_err(), "{from} to {to}");
        }
        for (from, to) in [("22:00", "06:00"), ("22:00", "00:00"), ("09:00", "09:00"), ("00:00", "00:00")] {
            assert_eq!(opening_hours(&[stretch(mon, from, to)]).expect("good"), [stretch(mon, from, to)]);
        }
        assert!(opening_hours(&[stretch(mon, "22:00", "06:00"), stretch(tue, "05:00", "14:00")]).is_ok());
        assert!(opening_hours(&[stretch(mon, "09:00", "13:00"), stretch(mon, "12:00", "14:00")]).is_err());
        assert!(opening_hours(&[stretch(mon, "20:00", "06:00"), stretch(mon, "22:00", "23:00")]).is_err());
    }

    #[test]
    fn content_limits() {
        assert_eq!(content("content", "héllo").expect("good"), 5);
        assert!(content("content", &"x".repeat(CONTENT_CHARS_MAX)).is_ok());
        for bad in ["", "  \n", "a\0b", &"x".repeat(CONTENT_CHARS_MAX + 1)] {
            assert!(content("content", bad).is_err());
        }
    }
}
