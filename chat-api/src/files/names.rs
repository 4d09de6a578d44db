//! What a file is called when it's saved: a plain name that fits what the file is. It never becomes a path here.

use super::kinds::{Kind, extension};
use std::fmt::Write as _;

/// Characters of a name.
const NAME_CHARS_MAX: usize = 120;

/// The last part of what the sender calls it, without what file systems or readers trip over, ending as its kind does.
#[must_use]
pub fn plain(name: Option<&str>, kind: &Kind) -> String {
    let name = name.unwrap_or_default();
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = name.chars().filter(|c| !is_odd(*c)).collect();
    let kept = kept.trim_matches(|c: char| c == '.' || c.is_whitespace());
    let fits = kind.extensions.contains(&&*extension(kept));
    let (stem, end) = match kept.rsplit_once('.').filter(|_| fits) {
        Some((stem, end)) => (stem, end),
        None => (kept, kind.extensions[0]),
    };
    let stem: String = stem.chars().take(NAME_CHARS_MAX).collect();
    let stem = if stem.is_empty() { "file" } else { &stem };
    format!("{stem}.{end}")
}

/// Control characters, those that turn the direction of reading, and those with a meaning to shells or file systems.
fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || "<>:\"|?*".contains(c)
}

/// The value of `Content-Disposition` that saves a file under its name; only ASCII.
#[must_use]
pub fn attachment(name: &str) -> String {
    let mut value = "attachment; filename*=UTF-8''".to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            value.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(value, "%{byte:02X}");
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::kinds::Sniffer;

    fn png(name: &str) -> String {
        let mut sniffer = Sniffer::default();
        assert!(sniffer.take(b"\x89PNG\r\n\x1a\n"));
        plain(Some(name), sniffer.kind(None).expect("a picture"))
    }

    #[test]
    fn a_name_is_plain_and_ends_as_the_kind_does() {
        assert_eq!(png("photo.png"), "photo.png");
        assert_eq!(png("Photo.PNG"), "Photo.PNG");
        assert_eq!(png("../../etc/passwd"), "passwd.png");
        assert_eq!(png("C:\\Windows\\evil.exe"), "evil.exe.png");
        assert_eq!(png("a\u{202e}gnp.exe\r\nX: y"), "agnp.exeX y.png");
        assert_eq!(png("..."), "file.png");
        assert_eq!(png(".png"), "png.png");
        assert_eq!(png(&"é".repeat(500)).chars().count(), NAME_CHARS_MAX + 4);
    }

    #[test]
    fn the_header_takes_any_name() {
        assert_eq!(attachment("Größe 1.png"), "attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe%201.png");
        assert_eq!(attachment("a\"; x='b.png"), "attachment; filename*=UTF-8''a%22%3B%20x%3D%27b.png");
    }
}
