//! Domain names as IDNA 2008 has them (RFC 5891 to 5893), read after the mapping of UTS 46: what is typed in capitals, in
//! composed or decomposed letters, or in Punycode is one name.
//!
//! The steps and the memory are linear in the text, which its caller bounds by [`super::address`]'s 254 bytes.

use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, Script};
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

/// Bytes of a label, as DNS has it.
const LABEL_BYTES_MAX: usize = 63;
/// Bytes of a whole name, as DNS has it.
const NAME_BYTES_MAX: usize = 253;

/// The name in lower case, its international labels in their own letters; `None` for what is no domain name.
pub(super) fn canonical(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if text.is_ascii() && !lower.split('.').any(|label| label.starts_with("xn--")) {
        return (lower.len() <= NAME_BYTES_MAX && lower.split('.').all(is_plain)).then_some(lower);
    }
    let (unicode, valid) = Uts46::new().to_unicode(text.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
    valid.ok()?;
    // In the form that DNS has: that is where its lengths count.
    Uts46::new().to_ascii(unicode.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify).ok()?;
    let permitted = unicode.split('.').all(|label| {
        let label: Vec<char> = label.chars().collect();
        (0..label.len()).all(|at| is_permitted(&label, at))
    });
    permitted.then(|| unicode.into_owned())
}

/// A label of letters, digits and hyphens.
fn is_plain(label: &str) -> bool {
    let edge = label.starts_with('-') || label.ends_with('-');
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && !edge
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether a character may stand where it does, by RFC 5892. What UTS 46 has mapped or refused doesn't come here; what it
/// lets through and IDNA 2008 doesn't are symbols, pictures and punctuation.
fn is_permitted(label: &[char], at: usize) -> bool {
    let script = |c: &char| CodePointMapData::<Script>::new().get(*c);
    let before = at.checked_sub(1).and_then(|at| label.get(at));
    let after = label.get(at + 1);
    match label[at] {
        'a'..='z' | '0'..='9' | '-' => true,
        // Its exceptions, good and bad.
        '\u{DF}' | '\u{3C2}' | '\u{6FD}' | '\u{6FE}' | '\u{F0B}' | '\u{3007}' => true,
        '\u{640}' | '\u{7FA}' | '\u{302E}' | '\u{302F}' | '\u{3031}'..='\u{3035}' | '\u{303B}' => false,
        // Joiners; UTS 46 has looked at what is around them.
        '\u{200C}' | '\u{200D}' => true,
        // Those that are good in some places only.
        '\u{B7}' => before == Some(&'l') && after == Some(&'l'),
        '\u{375}' => after.is_some_and(|c| script(c) == Script::Greek),
        '\u{5F3}' | '\u{5F4}' => before.is_some_and(|c| script(c) == Script::Hebrew),
        '\u{30FB}' => label.iter().any(|c| matches!(script(c), Script::Hiragana | Script::Katakana | Script::Han)),
        '\u{660}'..='\u{669}' => !label.iter().any(|c| matches!(c, '\u{6F0}'..='\u{6F9}')),
        '\u{6F0}'..='\u{6F9}' => !label.iter().any(|c| matches!(c, '\u{660}'..='\u{669}')),
        // Old Hangul, and marks of symbols and of musical notation.
        '\u{1100}'..='\u{11FF}' | '\u{A960}'..='\u{A97F}' | '\u{D7B0}'..='\u{D7FF}' => false,
        '\u{20D0}'..='\u{20FF}' | '\u{1D100}'..='\u{1D24F}' => false,
        other => matches!(
            CodePointMapData::<GeneralCategory>::new().get(other),
            GeneralCategory::LowercaseLetter
                | GeneralCategory::OtherLetter
                | GeneralCategory::ModifierLetter
                | GeneralCategory::NonspacingMark
                | GeneralCategory::SpacingMark
                | GeneralCategory::DecimalNumber
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_form() {
        for (text, name) in [
            ("EXAMPLE.com", "example.com"),
            ("localhost", "localhost"),
            ("a--b.example", "a--b.example"),
            ("Müller.Example", "müller.example"),
            ("mu\u{308}ller.example", "müller.example"),
            ("xn--mller-kva.example", "müller.example"),
            ("XN--Mller-Kva.example", "müller.example"),
            ("straße.example", "straße.example"),
            ("例子.测试", "例子.测试"),
            ("例子。测试", "例子.测试"),
            ("उदाहरण.परीक्षा", "उदाहरण.परीक्षा"),
            ("موقع.وزارة-الاتصالات.مصر", "موقع.وزارة-الاتصالات.مصر"),
            ("παράδειγμα.δοκιμή", "παράδειγμα.δοκιμή"),
            ("אתר.דוגמה", "אתר.דוגמה"),
            ("paral·lel.example", "paral·lel.example"),
            ("ドメイン・名.例", "ドメイン・名.例"),
            ("क्\u{200D}ष.example", "क्\u{200D}ष.example"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(name), "{text}");
        }
    }

    #[test]
    fn what_idna_2008_refuses_is_none() {
        let long = "ü".repeat(60);
        let many = vec!["bücher"; 40].join(".");
        for text in [
            "",
            ".",
            "a..b",
            "-a.example",
            "a-.example",
            "a_b.example",
            "a b.example",
            "example.com.",
            &"a".repeat(64),
            &long,
            &many,
            "☃.example",
            "i❤.example",
            "💩.example",
            "xn--n3h.example",
            "xn--zzzzzzzz99999.example",
            "xn--.example",
            "ü-.example",
            "-ü.example",
            "ab--ü.example",
            "\u{301}a.example",
            "a·b.example",
            "abc\u{200D}d.ü.example",
            "・.example",
            "a\u{640}b.example",
            "א1\u{660}a.example",
            "\u{660}\u{6F0}.example",
            "a\u{20E3}.example",
            "\u{1100}\u{1161}\u{1161}.example",
            "a\u{202E}b.example",
            "\u{FFFD}.example",
            "½.example",
        ] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }
}
