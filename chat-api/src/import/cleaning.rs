//! What of a line is changed so that the rest of it can be imported: nobody loses a conversation for a tag that is too long.
//!
//! Each method holds a value to the API's own check ([`crate::check`]) and, where that refuses it, makes one that passes and
//! says so, or leaves the value out. A text that is too long isn't cut: its line is set aside. Steps and memory are those of
//! the value, which [`super::LINE_BYTES_MAX`] bounds. Start at [`Cleaner::name`].

use crate::check::{self, FieldFault, FieldResult};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Cleaned fields that an answer lists; the others are counted.
pub const CLEANED_MAX: usize = 1_000;
/// Cleaned fields of one line that are told apart.
const LINE_CLEANED_MAX: usize = 100;
/// Bytes of what is kept of a fault: a field's name, ours, and a sentence.
const FAULT_BYTES: usize = 512;
/// What stands for words that aren't there.
pub(crate) const NO_TEXT: &str = "[no text]";

/// A field that was changed or left out of a line that was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CleanedField {
    /// The line's number, from 1.
    pub line: u64,
    /// Which field: `visitor.name`, `tags[2]`, `messages[0].text`.
    pub field: String,
    /// A stable word.
    pub code: Cow<'static, str>,
    /// A sentence; never the field's own words.
    pub detail: String,
}

/// What was changed of one line.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    faults: Vec<FieldFault>,
    total: u64,
}

impl Cleaner {
    /// A name, a phone number, a tag: trimmed, control characters become spaces, and what is past 200 characters is cut. What
    /// has nothing left is left out; so is, without a word, what was blank, as forms send it.
    pub(crate) fn name(&mut self, field: &str, text: &str) -> Option<String> {
        let fault = match check::optional_name(field, Some(text)) {
            Ok(name) => return name,
            Err(fault) => fault,
        };
        let spaced = text.trim().chars().take(check::NAME_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c });
        let kept = spaced.collect::<String>().trim().to_owned();
        if kept.is_empty() {
            self.left_out(fault);
            return None;
        }
        let what = if fault.code == "too_long" { "it was cut" } else { "they were replaced by spaces" };
        self.note(fault, what);
        Some(kept)
    }

    /// An address, or none: what is no address is left out.
    pub(crate) fn email(&mut self, field: &str, text: &str) -> Option<String> {
        check::optional_email(field, Some(text)).unwrap_or_else(|fault| {
            self.left_out(fault);
            None
        })
    }

    /// Tags, each as a name and once; blank ones are left out.
    pub(crate) fn tags<'a>(&mut self, field: &str, list: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut tags = Vec::new();
        for (index, tag) in list.into_iter().enumerate() {
            let field = format!("{field}[{index}]");
            if tag.trim().is_empty() {
                let detail = format!("'{field}' is blank");
                self.left_out(FieldFault::new(field, "blank", detail));
                continue;
            }
            let kept = self.name(&field, tag);
            tags.extend(kept.filter(|tag| !tags.contains(tag)));
        }
        tags
    }

    /// What someone said: NUL becomes U+FFFD, and where there are no words `instead` stands for them.
    ///
    /// # Errors
    /// `too_long`: a message isn't cut.
    pub(crate) fn content(&mut self, field: &str, text: String, instead: &str) -> FieldResult<String> {
        match check::content(field, &text) {
            Ok(_) => Ok(text),
            Err(fault) if fault.code == "nul" => {
                let replaced = text.replace('\0', "\u{FFFD}");
                check::content(field, &replaced)?;
                self.note(fault, "it was replaced by U+FFFD");
                Ok(replaced)
            }
            Err(fault) if fault.code == "blank" => {
                self.note(FieldFault { code: "empty_message", ..fault }, &format!("'{instead}' stands for it"));
                Ok(instead.to_owned())
            }
            Err(fault) => Err(fault),
        }
    }

    fn left_out(&mut self, fault: FieldFault) {
        self.note(fault, "it was left out");
    }

    /// Keeps what was wrong, and what was done about it.
    pub(crate) fn note(&mut self, fault: FieldFault, done: &str) {
        self.total += 1;
        if self.faults.len() < LINE_CLEANED_MAX {
            let detail = format!("{}; {done}", fault.detail);
            self.faults.push(FieldFault { detail, ..fault });
        }
    }

    /// Bytes that are held of it, at most.
    pub(super) fn bytes(&self) -> usize {
        self.faults.len() * FAULT_BYTES
    }

    /// Whether nothing was.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The fields and the codes.
    #[cfg(test)]
    pub(crate) fn told(&self) -> Vec<(&str, &'static str)> {
        self.faults.iter().map(|fault| (&*fault.field, fault.code)).collect()
    }
}

/// What an import has cleaned so far: counted all, listed to a bound.
#[derive(Debug, Default)]
pub(super) struct CleanedFields {
    listed: Vec<CleanedField>,
    total: u64,
}

impl CleanedFields {
    /// What was changed of a line that was imported.
    pub(super) fn add(&mut self, line: u64, cleaner: Cleaner) {
        self.total += cleaner.total;
        let room = CLEANED_MAX - self.listed.len();
        let fields = cleaner.faults.into_iter().take(room);
        self.listed.extend(fields.map(|fault| CleanedField {
            line,
            field: fault.field,
            code: fault.code.into(),
            detail: fault.detail,
        }));
    }

    /// Those that are listed, by line, and how many there are when that's not all.
    pub(super) fn finish(mut self) -> (Vec<CleanedField>, Option<u64>) {
        self.listed.sort_by_key(|cleaned| cleaned.line);
        let cut = self.total > self.listed.len() as u64;
        (self.listed, cut.then_some(self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::NAME_CHARS_MAX;
    use proptest::prelude::*;

    fn codes(cleaner: &Cleaner) -> Vec<&'static str> {
        cleaner.faults.iter().map(|fault| fault.code).collect()
    }

    #[test]
    fn names_pass_the_api_when_they_are_clean() {
        let long = "é".repeat(100_000);
        let cut = "é".repeat(NAME_CHARS_MAX);
        let bordered = format!("{}\u{0} and more", "a".repeat(NAME_CHARS_MAX - 1));
        for (text, kept, code) in [
            ("Ada", Some("Ada"), None),
            (" Ada ", Some("Ada"), None),
            ("", None, None),
            (" \n", None, None),
            (&long, Some(&cut[..]), Some("too_long")),
            ("n\0l", Some("n l"), Some("control_character")),
            ("a\r\nb", Some("a  b"), Some("control_character")),
            ("\0\0", None, Some("control_character")),
            (&bordered, Some(&"a".repeat(NAME_CHARS_MAX - 1)[..]), Some("too_long")),
        ] {
            let mut cleaner = Cleaner::default();
            let name = cleaner.name("visitor.name", text);
            assert_eq!((name.as_deref(), codes(&cleaner).first().copied()), (kept, code), "{text:.20?}");
            assert!(name.is_none_or(|name| check::name("f", &name) == Ok(name)));
            assert!(cleaner.faults.iter().all(|fault| fault.detail.contains("; ")), "it says what was done");
        }
    }

    #[test]
    fn tags_and_addresses_are_cleaned_or_left_out() {
        let mut cleaner = Cleaner::default();
        let long = "y".repeat(500);
        let tags = cleaner.tags("tags", ["vip", "", "  ", &long, "n\0l", "vip"]);
        assert_eq!(tags, ["vip", &long[..NAME_CHARS_MAX], "n l"]);
        assert_eq!(codes(&cleaner), ["blank", "blank", "too_long", "control_character"]);
        assert_eq!(cleaner.faults[3].field, "tags[4]");
        let mut cleaner = Cleaner::default();
        let emails = ["nobody", " Ada@X.Example ", "", "user@müller.example"].map(|text| cleaner.email("email", text));
        let kept = [None, Some("Ada@x.example"), None, Some("user@müller.example")];
        assert_eq!(emails.each_ref().map(Option::as_deref), kept);
        assert_eq!(codes(&cleaner), ["not_an_address"]);
    }

    #[test]
    fn words_are_replaced_and_never_cut() {
        let mut cleaner = Cleaner::default();
        let mut clean = |text: &str| cleaner.content("text", text.to_owned(), NO_TEXT).map_err(|fault| fault.code);
        assert_eq!(clean(" a\tb\n"), Ok(" a\tb\n".to_owned()));
        assert_eq!(clean("a\0b"), Ok("a\u{FFFD}b".to_owned()));
        assert_eq!(clean(" \n"), Ok(NO_TEXT.to_owned()));
        assert_eq!(clean("\0"), Ok("\u{FFFD}".to_owned()));
        assert_eq!(clean(&"a".repeat(20_001)), Err("too_long"));
        assert_eq!(clean(&"\0".repeat(20_001)), Err("too_long"));
        assert_eq!(codes(&cleaner), ["nul", "empty_message", "nul"]);
    }

    /// Texts of all characters, some with many of those that no name may have.
    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![".*", "[\\PC\u{0}\u{85}\n a]{0,300}", "[ \u{0}\t]{0,10}", "[a-z.]{1,5}@[ü例a☃.-]{1,12}"]
    }

    proptest! {
        /// Whatever there was, what is left passes the API, is as it would be sent again, and nothing else happened without a word.
        #[test]
        fn whatever_is_cleaned_passes_the_api(text in texts()) {
            let mut cleaner = Cleaner::default();
            let name = cleaner.name("f", &text);
            let told = !cleaner.is_empty();
            prop_assert_eq!(name.as_deref().map(|name| check::name("f", name)), name.clone().map(Ok));
            prop_assert!(told || name.unwrap_or_default() == text.trim());
            for tag in cleaner.tags("f", [&*text]) {
                prop_assert_eq!(check::name("f", &tag), Ok(tag));
            }
            if let Some(email) = cleaner.email("f", &text) {
                prop_assert_eq!(check::email("f", &email), Ok(email));
            }
            if let Ok(said) = cleaner.content("f", text, NO_TEXT) {
                prop_assert!(check::content("f", &said).is_ok());
            }
        }
    }

    /// However much is wrong, what is kept is bounded and what is counted is all.
    #[test]
    fn a_million_faults_are_a_number() {
        let mut cleaned = CleanedFields::default();
        for line in (1..=100).rev() {
            let mut cleaner = Cleaner::default();
            (0..10_000).for_each(|_| cleaner.left_out(FieldFault::new("f", "blank", "it is")));
            assert_eq!(cleaner.faults.len(), LINE_CLEANED_MAX);
            cleaned.add(line, cleaner);
        }
        let (listed, total) = cleaned.finish();
        assert_eq!((listed.len(), total), (CLEANED_MAX, Some(1_000_000)));
        assert!(listed.is_sorted_by_key(|cleaned| cleaned.line));
    }
}
