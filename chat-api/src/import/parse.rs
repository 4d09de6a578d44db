//! One line of an import as a value: what it may be written like, and everything that makes it no such value.
//!
//! [`object`] takes any type, so that every format has the same words for the same faults. Its steps and memory are linear in the
//! line, of which serde_json reads at most 128 levels; a line that is bad is read twice. Lists are bounded by [`at_most`] while
//! they are read, and texts by the line.

use super::Quarantined;
use crate::check::FieldFault;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::error::Category;
use std::fmt;
use std::marker::PhantomData;

/// The longest line read; a longer one is quarantined.
pub const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How UTF-8 may begin; files that are put together have it in the middle.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// How the error starts of a list that is too long.
const TOO_MANY: &str = "more than";
/// How the error starts of what is no id.
const NO_ID: &str = "an id is";

/// Why a line was not imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    /// A stable word.
    pub(crate) code: &'static str,
    /// Which field, if it is one.
    pub(crate) field: Option<String>,
    /// A sentence; never the line's own words.
    pub(crate) detail: String,
}

impl Bad {
    /// What is wrong with the whole line.
    pub(crate) fn line(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, field: None, detail: detail.into() }
    }

    /// What is wrong with a field.
    pub(crate) fn field(field: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, field: Some(field.into()), detail: detail.into() }
    }

    /// It, of this line.
    pub(super) fn at(self, line: u64) -> Quarantined {
        let Self { code, field, detail } = self;
        Quarantined { line, field, code: code.into(), detail }
    }

    /// The same under another word.
    pub(crate) fn coded(self, code: &'static str) -> Self {
        Self { code, ..self }
    }
}

impl From<FieldFault> for Bad {
    fn from(fault: FieldFault) -> Self {
        Self { code: fault.code, field: Some(fault.field), detail: fault.detail }
    }
}

/// A line's text, which may come after a byte order mark.
pub(crate) fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
}

/// The JSON object on a line, as it stands after [`without_mark`].
///
/// # Errors
/// Of the line: `invalid_encoding`, `nul_byte`, `json_array`, `not_json`, `cut_off`, `more_than_one`, `control_character`,
/// `invalid_escape`, `too_deep`, `number_out_of_range`. Of a field: `missing_field`, `unknown_field`, `duplicate_field`,
/// `invalid_id`, `too_many`, `invalid_field`.
pub(crate) fn object<T: DeserializeOwned>(line: &[u8]) -> Result<T, Bad> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let place = error.valid_up_to() + 1;
        Bad::line("invalid_encoding", format!("byte {place} is not UTF-8"))
    })?;
    if line.contains(&0) {
        return Err(Bad::line("nul_byte", "the line has NUL bytes"));
    }
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => {}
        Some(b'[') => {
            let detail = "this is a JSON array; an import is NDJSON: an object a line, without commas between them";
            return Err(Bad::line("json_array", detail));
        }
        _ => return Err(Bad::line("not_json", "the line is not a JSON object")),
    }
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => data_error::<T>(text),
        // `null` in the place of one of several words counts there as what is no JSON.
        Category::Syntax if no_value(&error) && serde_json::from_str::<IgnoredAny>(text).is_ok() => {
            data_error::<T>(text)
        }
        _ => syntax_error(&error),
    })
}

fn no_value(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("expected value")
}

/// serde_json's words about data may quote it; its place doesn't.
fn syntax_error(error: &serde_json::Error) -> Bad {
    let words = error.to_string();
    let (code, detail) = match error.classify() {
        Category::Eof => ("cut_off", "the JSON object doesn't end on its line"),
        _ if words.starts_with("trailing characters") => {
            ("more_than_one", "something follows the JSON object: an object a line, without commas between them")
        }
        _ if words.starts_with("control character") => {
            ("control_character", "a text has a control character that isn't escaped")
        }
        _ if words.contains("hex escape")
            || words.contains("invalid escape")
            || words.contains("unicode code point") =>
        {
            ("invalid_escape", "a text has an escape that is no character, as half of one beyond U+FFFF")
        }
        _ if words.starts_with("recursion limit") => ("too_deep", "there are more than 128 levels"),
        _ if words.starts_with("number out of range") => ("number_out_of_range", "a number is too large"),
        _ => ("not_json", "the line is not a JSON object"),
    };
    Bad::line(code, format!("{detail} (column {})", error.column()))
}

/// What is wrong with a value, and where: the line is read again, with the way to where it is.
fn data_error<T: DeserializeOwned>(text: &str) -> Bad {
    let mut json = serde_json::Deserializer::from_str(text);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut json) else {
        return Bad::line("invalid_field", "a field has the wrong type");
    };
    let path = error.path().to_string();
    let words = error.inner().to_string();
    // What is quoted in these is a field's name; values are not repeated.
    let quoted = |start: &str| words.strip_prefix(start)?.strip_prefix(" `")?.split('`').next().map(str::to_owned);
    let within = |name: &str| match path.as_str() {
        "." => name.to_owned(),
        path if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        path => format!("{path}.{name}"),
    };
    let at = |code, what: &str| {
        Bad::field(path.clone(), code, format!("'{path}' {what} (column {})", error.inner().column()))
    };
    if let Some(name) = quoted("missing field") {
        let field = within(&name);
        let detail = format!("'{field}' is missing");
        return Bad::field(field, "missing_field", detail);
    }
    if let Some(name) = quoted("unknown field") {
        let field = within(&name);
        let detail = format!("'{field}' is not a field of the format");
        return Bad::field(field, "unknown_field", detail);
    }
    if let Some(name) = quoted("duplicate field") {
        let field = within(&name);
        let detail = format!("'{field}' comes twice");
        return Bad::field(field, "duplicate_field", detail);
    }
    let until_place = words.split(" at line").next().unwrap_or_default();
    match until_place {
        text if text.starts_with(TOO_MANY) => at("too_many", &format!("has {text}")),
        text if text.starts_with(NO_ID) => at("invalid_id", "is a text or a whole number"),
        text if text.starts_with("unknown variant") => at("invalid_field", "is none of the words that it may be"),
        _ => at("invalid_field", "has the wrong type"),
    }
}

/// For `deserialize_with`: an id, which many systems write as a whole number. Fractions and what is beyond 64 bits are none:
/// two of them might become one.
pub(crate) fn id_text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    struct Id;

    impl Visitor<'_> for Id {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a whole number")
        }

        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_u64<E>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_i64<E>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<String, E> {
            Err(E::custom(format!("{NO_ID} no fraction")))
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<String, E> {
            Err(E::custom(format!("{NO_ID} not null")))
        }

        fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<String, E> {
            Err(E::custom(format!("{NO_ID} not true or false")))
        }
    }

    from.deserialize_any(Id)
}

/// For `deserialize_with`: `null` as if the field weren't there.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// For `deserialize_with`: a list, empty for `null`, that is refused as soon as it's too long: items take more memory than the
/// few bytes that they are written with.
pub(crate) fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct AtMost<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for AtMost<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == MAX {
                    return Err(A::Error::custom(format!("{TOO_MANY} {MAX} items")));
                }
                list.push(item);
            }
            Ok(list)
        }
    }

    from.deserialize_any(AtMost::<T, MAX>(PhantomData))
}
