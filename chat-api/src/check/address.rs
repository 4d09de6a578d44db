//! Mail and web addresses.

use super::{FieldFault, FieldResult, LIST_MAX, TEXT_CHARS_MAX, at_most, domain};

/// Bytes of an address; the limit of SMTP's path.
const EMAIL_BYTES_MAX: usize = 254;

/// An address, trimmed, its domain in lower case, international or not.
///
/// # Errors
/// `not_an_address`.
pub fn email(field: &str, text: &str) -> FieldResult<String> {
    let address = canonical_email(text);
    address.ok_or_else(|| FieldFault::new(field, "not_an_address", format!("'{field}' is not an e-mail address")))
}

/// An address as it's kept and looked up: trimmed, its domain in lower case and in its own letters. `None` for what is none.
#[must_use]
pub fn canonical_email(text: &str) -> Option<String> {
    let text = text.trim();
    // Its domain isn't read before its length is known.
    let (local, domain) = Some(text).filter(|text| text.len() <= EMAIL_BYTES_MAX)?.rsplit_once('@')?;
    let kept = format!("{local}@{}", domain::canonical(domain)?);
    (is_local_part(local) && kept.len() <= EMAIL_BYTES_MAX).then_some(kept)
}

fn is_local_part(local: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "<>()[]\\,;:\"@".contains(c);
    (1..=64).contains(&local.len())
        && !local.contains(odd)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
}

/// An address that may be left out; blank is left out too.
///
/// # Errors
/// `not_an_address`.
pub fn optional_email(field: &str, text: Option<&str>) -> FieldResult<Option<String>> {
    text.filter(|text| !text.trim().is_empty()).map(|text| email(field, text)).transpose()
}

/// A web address that may be left out; blank is left out too.
///
/// # Errors
/// `not_a_url`.
pub fn optional_url(field: &str, text: Option<&str>) -> FieldResult<Option<String>> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "<>\"'\\".contains(c);
    let web = text.starts_with("https://") || text.starts_with("http://");
    if web && text.chars().count() <= TEXT_CHARS_MAX && !text.contains(odd) {
        Ok(Some(text.to_owned()))
    } else {
        let detail = format!("'{field}' is a web address (http or https) of at most {TEXT_CHARS_MAX} characters");
        Err(FieldFault::new(field, "not_a_url", detail))
    }
}

/// Where a visitor is: at most 2,000 characters, none of them a control character. It's shown, never followed.
///
/// # Errors
/// `blank`, `too_long`, `control_character`.
pub fn page_url(field: &str, text: &str) -> FieldResult<String> {
    let text = text.trim();
    let code = if text.is_empty() {
        "blank"
    } else if text.chars().count() > TEXT_CHARS_MAX {
        "too_long"
    } else if text.chars().any(char::is_control) {
        "control_character"
    } else {
        return Ok(text.to_owned());
    };
    let detail = format!("'{field}' has 1 to {TEXT_CHARS_MAX} characters, no control characters");
    Err(FieldFault::new(field, code, detail))
}

/// Origins as browsers send them: scheme and host in lower case, a port unless it's the scheme's own, nothing after.
///
/// # Errors
/// `too_many`, `not_an_origin`.
pub fn origins(field: &str, list: &[String]) -> FieldResult<Vec<String>> {
    at_most(field, list.len(), LIST_MAX)?;
    let mut origins: Vec<String> = Vec::new();
    for origin in list {
        if !is_origin(origin) {
            let detail = format!("'{field}' holds origins as browsers send them, for example https://www.example.com");
            return Err(FieldFault::new(field, "not_an_origin", detail));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, kept) in [
            ("ada@example.com", "ada@example.com"),
            (" Ada.L+tag@EXAMPLE.com ", "Ada.L+tag@example.com"),
            ("ada@localhost", "ada@localhost"),
            ("ünï@bücher.example", "ünï@bücher.example"),
            ("user@xn--mller-kva.example", "user@müller.example"),
            ("用户@例子.测试", "用户@例子.测试"),
            ("o'neil@x.example", "o'neil@x.example"),
        ] {
            assert_eq!(email("email", text).as_deref(), Ok(kept), "{text}");
        }
        let (long, deep) = (format!("{}@x.example", "a".repeat(65)), format!("a@{}", "a.".repeat(1_000_000)));
        for bad in [
            "",
            "ada",
            "nobody",
            "@example.com",
            "ada@",
            "a b@example.com",
            "ada@-x.com",
            "ada@x..com",
            "a@b@c.d,",
            "a\n@b.c",
            "a\0@b.c",
            "a..b@c.d",
            ".a@b.c",
            "a.@b.c",
            "<a@b.c>",
            "ada@☃.example",
            "n/a",
            "-",
            &long,
            &deep,
        ] {
            assert_eq!(email("email", bad).map_err(|fault| fault.code), Err("not_an_address"), "{bad:.40}");
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
}
