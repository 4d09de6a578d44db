//! Names that people have typed, as mails show them: words to read, nothing to click on. Mail programs make links of
//! whatever looks like an address of the web or of mail, so what joins the parts of one is left out.

/// Characters of a name in a mail; what is longer is cut.
const NAME_CHARS_MAX: usize = 60;

/// A name in one line, without what makes a link of it: letters and digits of all scripts, spaces, and what stands in names
/// of people and companies. A dot stays only at a word's end ("Inc.", "J. R.").
pub(super) fn without_links(name: &str) -> String {
    let mut shown = String::new();
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        let ends_word = rest.peek().is_none_or(|next| next.is_whitespace());
        let stays = c.is_alphanumeric() || is_mark(c) || "'’&,!()-–#+".contains(c) || (c == '.' && ends_word);
        shown.push(if stays { c } else { ' ' });
    }
    let words: Vec<&str> = shown.split_whitespace().collect();
    words.join(" ").chars().take(NAME_CHARS_MAX).collect()
}

/// What is written above, below or joins letters in some scripts, and the pictures that people put into names.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036F}' | '\u{0591}'..='\u{05C7}' | '\u{064B}'..='\u{065F}' | '\u{0900}'..='\u{0DFF}')
        || matches!(c, '\u{0E31}'..='\u{0E4E}' | '\u{200D}' | '\u{FE0F}' | '\u{1F000}'..='\u{1FAFF}' | '\u{2600}'..='\u{27BF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_and_links_dont() {
        let cases = [
            ("Bäckerei Müller & Söhne, 2nd", "Bäckerei Müller & Söhne, 2nd"),
            ("J. R. O'Neil-Smith", "J. R. O'Neil-Smith"),
            ("Acme Inc.", "Acme Inc."),
            ("株式会社サンプル 🥐", "株式会社サンプル 🥐"),
            ("Zoë\u{301}", "Zoë\u{301}"),
            ("Booking.com", "Booking com"),
            ("https://evil.example/a?b=c", "https evil example a b c"),
            ("www。evil．example", "www evil example"),
            ("write to eve@evil.example", "write to eve evil example"),
            ("tel:+49-30", "tel +49-30"),
            ("a\r\nBcc: x\u{202E}y\u{0}", "a Bcc x y"),
            (" . ", "."),
        ];
        for (name, shown) in cases {
            assert_eq!(without_links(name), shown, "{name:?}");
        }
        assert_eq!(without_links(&"a".repeat(1_000)).len(), NAME_CHARS_MAX);
    }
}
