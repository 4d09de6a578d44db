//! What a field must look like, whatever it comes in by: the routes' bodies and the import's lines. Pure; knows no HTTP.
//!
//! A check answers the value as it's kept, or a [`FieldFault`] that names the field. Routes make a 422 of it, an import
//! cleans what it can ([`crate::import`]) and sets the rest aside. Each check reads its text a few times at most, and
//! answers no more bytes than it was given.
//!
//! Here: texts, ids, lists and numbers. `address`: mail and web addresses. `domain`: international domain names.
//! `time`: instants and dates. `settings`: a tenant's hours and promises.

mod address;
mod domain;
mod settings;
mod time;

pub use address::{canonical_email, email, is_origin, optional_email, optional_url, origins, page_url};
pub use settings::{holidays, opening_hours, sla_targets, time_zone};
pub use time::{TIME_MAX, TIME_MIN, time};

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
/// Characters of a password.
const PASSWORD_CHARS: RangeInclusive<usize> = 8..=200;
/// Origins of a chatbot or tags of a request.
pub const LIST_MAX: usize = 100;

/// A field that isn't as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct FieldFault {
    /// Which, as the caller writes it: `tags`, `visitor.name`, `messages[3].text`.
    pub field: String,
    /// A stable word: `blank`, `too_long`, `control_character`, `nul`, `too_many`, …
    pub code: &'static str,
    /// A sentence; never the value's own words.
    pub detail: String,
}

impl FieldFault {
    /// A field, what is wrong with it, and a sentence.
    #[must_use]
    pub fn new(field: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { field: field.into(), code, detail: detail.into() }
    }
}

/// A value as it's kept.
pub type FieldResult<T> = Result<T, FieldFault>;

/// A name: 1 to 200 characters, trimmed, none of them a control character.
///
/// # Errors
/// `blank`, `too_long`, `control_character`.
pub fn name(field: &str, text: &str) -> FieldResult<String> {
    let text = text.trim();
    short(field, text, "characters, no control characters").map(|()| text.to_owned())
}

/// A name that may be left out; blank is left out too, as forms send it.
///
/// # Errors
/// See [`name`].
pub fn optional_name(field: &str, text: Option<&str>) -> FieldResult<Option<String>> {
    text.filter(|text| !text.trim().is_empty()).map(|text| name(field, text)).transpose()
}

/// Somebody else's id: of a visitor, an event, a conversation. 1 to 200 characters, taken as they are, no control characters.
///
/// # Errors
/// `blank`, `too_long`, `control_character`.
pub fn id(field: &str, text: &str) -> FieldResult<()> {
    short(field, text, "characters")
}

fn short(field: &str, text: &str, what: &str) -> FieldResult<()> {
    let code = if text.is_empty() {
        "blank"
    } else if text.chars().count() > NAME_CHARS_MAX {
        "too_long"
    } else if text.chars().any(char::is_control) {
        "control_character"
    } else {
        return Ok(());
    };
    Err(FieldFault::new(field, code, format!("'{field}' has 1 to {NAME_CHARS_MAX} {what}")))
}

/// A text that may be empty, at most 2,000 characters.
///
/// # Errors
/// `too_long`, `nul`.
pub fn text(field: &str, text: &str) -> FieldResult<String> {
    let code = if text.chars().count() > TEXT_CHARS_MAX {
        "too_long"
    } else if text.contains('\0') {
        "nul"
    } else {
        return Ok(text.to_owned());
    };
    Err(FieldFault::new(field, code, format!("'{field}' has at most {TEXT_CHARS_MAX} characters, and no NUL")))
}

/// What someone says: 1 to 20,000 characters, not blank, no NUL; kept as it is. Answers the number of characters.
///
/// # Errors
/// `blank`, `nul`, `too_long`.
pub fn content(field: &str, text: &str) -> FieldResult<u32> {
    let chars = text.chars().count();
    let fault = |code, detail: String| Err(FieldFault::new(field, code, detail));
    if text.trim().is_empty() {
        return fault("blank", format!("'{field}' is blank"));
    }
    if text.contains('\0') {
        return fault("nul", format!("'{field}' contains a NUL character"));
    }
    match u32::try_from(chars) {
        Ok(count) if chars <= CONTENT_CHARS_MAX => Ok(count),
        _ => fault("too_long", format!("'{field}' has {chars} characters, at most {CONTENT_CHARS_MAX} are allowed")),
    }
}

/// A new password.
///
/// # Errors
/// `password_length`, `nul`.
pub fn password(field: &str, text: &str) -> FieldResult<()> {
    let code = if text.contains('\0') {
        "nul"
    } else if !PASSWORD_CHARS.contains(&text.chars().count()) {
        "password_length"
    } else {
        return Ok(());
    };
    let (min, max) = (PASSWORD_CHARS.start(), PASSWORD_CHARS.end());
    Err(FieldFault::new(field, code, format!("'{field}' has {min} to {max} characters")))
}

/// A number that may be left out, within limits.
///
/// # Errors
/// `out_of_range`.
pub fn number(field: &str, value: Option<u32>, limits: RangeInclusive<u32>) -> FieldResult<Option<u32>> {
    match value {
        Some(value) if !limits.contains(&value) => {
            let detail = format!("'{field}' is a number from {} to {}", limits.start(), limits.end());
            Err(FieldFault::new(field, "out_of_range", detail))
        }
        value => Ok(value),
    }
}

/// A visitor's rating, 1 to 5.
///
/// # Errors
/// `out_of_range`.
pub fn rating(field: &str, value: u8) -> FieldResult<u8> {
    number(field, Some(value.into()), 1..=5).map(|_| value)
}

/// A JSON object of at most 8 KiB, as text.
///
/// # Errors
/// `too_long`, `nul`.
pub fn metadata(field: &str, object: &Map<String, Value>) -> FieldResult<String> {
    let text = Value::Object(object.clone()).to_string();
    let code = if text.len() > METADATA_BYTES_MAX {
        "too_long"
    } else if text.contains("\\u0000") {
        "nul"
    } else {
        return Ok(text);
    };
    let detail = format!("'{field}' is a JSON object of at most {METADATA_BYTES_MAX} bytes, without NUL");
    Err(FieldFault::new(field, code, detail))
}

/// Tags: short words, trimmed.
///
/// # Errors
/// `too_many`; those of [`name`].
pub fn tags(field: &str, list: &[String]) -> FieldResult<Vec<String>> {
    at_most(field, list.len(), LIST_MAX)?;
    list.iter().map(|tag| name(field, tag)).collect()
}

/// Skills: short words, trimmed, each once.
///
/// # Errors
/// `too_many`; those of [`name`].
pub fn skills(field: &str, list: &[String], max: usize) -> FieldResult<Vec<String>> {
    at_most(field, list.len(), max)?;
    let mut skills = list.iter().map(|skill| name(field, skill)).collect::<FieldResult<Vec<_>>>()?;
    skills.sort();
    skills.dedup();
    Ok(skills)
}

fn at_most(field: &str, length: usize, max: usize) -> FieldResult<()> {
    if length > max {
        return Err(FieldFault::new(field, "too_many", format!("'{field}' has at most {max} entries")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check's code for a text, "" for a good one.
    fn code<T>(checked: FieldResult<T>) -> &'static str {
        checked.err().map_or("", |fault| fault.code)
    }

    #[test]
    fn texts_have_limits() {
        let long = |chars| "ü".repeat(chars);
        for (text, as_name, as_id, as_text, as_content) in [
            ("héllo", "", "", "", ""),
            ("", "blank", "blank", "", "blank"),
            (" \n", "blank", "control_character", "", "blank"),
            ("a\nb", "control_character", "control_character", "", ""),
            ("a\0b", "control_character", "control_character", "nul", "nul"),
            (&long(200), "", "", "", ""),
            (&long(201), "too_long", "too_long", "", ""),
            (&long(2_000), "too_long", "too_long", "", ""),
            (&long(2_001), "too_long", "too_long", "too_long", ""),
            (&long(20_000), "too_long", "too_long", "too_long", ""),
            (&long(20_001), "too_long", "too_long", "too_long", "too_long"),
        ] {
            let shown: String = text.chars().take(10).collect();
            assert_eq!(code(name("f", text)), as_name, "name {shown:?}");
            assert_eq!(code(id("f", text)), as_id, "id {shown:?}");
            assert_eq!(code(super::text("f", text)), as_text, "text {shown:?}");
            assert_eq!(code(content("f", text)), as_content, "content {shown:?}");
        }
        assert_eq!(content("f", "héllo"), Ok(5));
        assert_eq!(name("f", " a "), Ok("a".to_owned()));
    }

    #[test]
    fn lists_and_numbers_have_limits() {
        assert_eq!(code(tags("f", &vec!["a".to_owned(); 100])), "");
        assert_eq!(code(tags("f", &vec!["a".to_owned(); 101])), "too_many");
        assert_eq!([0, 1, 5, 6].map(|value| code(rating("f", value))), ["out_of_range", "", "", "out_of_range"]);
        assert_eq!(["x".repeat(7), "x".repeat(8)].map(|text| code(password("f", &text))), ["password_length", ""]);
        let object = |text: &str| Map::from_iter([("a".to_owned(), Value::from(text))]);
        assert_eq!(code(metadata("f", &object("b"))), "");
        assert_eq!(code(metadata("f", &object("\0"))), "nul");
        assert_eq!(code(metadata("f", &object(&"b".repeat(METADATA_BYTES_MAX)))), "too_long");
    }
}
