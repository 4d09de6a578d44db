//! A transcript, a line of NDJSON: its fields, and everything that can be wrong with it.

use ingest::payload::AuthorType;
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// The longest line read; a longer one is quarantined.
pub const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest message, in characters; the API's limit too, so that its event fits the log.
pub const MESSAGE_CHARS_MAX: usize = 20_000;
/// The most messages of one transcript: it is written in one transaction.
const MESSAGES_MAX: usize = 10_000;
/// The most tags of one transcript; the API's limit of one request.
const TAGS_MAX: usize = 100;
/// The longest name, address or tag, in bytes: 200 characters of any writing.
const NAME_BYTES_MAX: usize = 800;
/// How the error starts of a list that is too long.
pub(super) const TOO_MANY: &str = "more than";

/// A conversation as it is imported and exported.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct Transcript {
    /// 1, if it's said at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u8>,
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    pub visitor: Party,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Party>,
    #[serde(default, deserialize_with = "at_most::<_, _, TAGS_MAX>")]
    pub tags: Vec<String>,
    #[serde(default)]
    pub resolved: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<u8>,
    #[serde(deserialize_with = "at_most::<_, _, MESSAGES_MAX>")]
    pub messages: Vec<Line>,
}

/// A list that is refused as soon as it's too long: items take more memory than the few bytes that they are written with.
pub(super) fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct AtMost<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for AtMost<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
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

    from.deserialize_seq(AtMost::<T, MAX>(PhantomData))
}

/// A visitor or agent of a transcript.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct Party {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// A message of a transcript.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct Line {
    pub at: String,
    pub from: AuthorType,
    pub text: String,
}

/// Why a line was not imported: a stable word and a sentence.
pub(crate) struct Bad(pub &'static str, pub String);

/// Everything that can be wrong with a line, before anything of it is written.
pub(crate) fn check(line: &[u8]) -> Result<Transcript, Bad> {
    let transcript: Transcript = serde_json::from_slice(line).map_err(|error| {
        // serde_json's words about data may quote it; its category and place don't.
        let text = error.to_string();
        let (code, what) = match error.classify() {
            serde_json::error::Category::Data if text.starts_with(TOO_MANY) => {
                let detail = format!("a transcript has 1 to {MESSAGES_MAX} messages and at most {TAGS_MAX} tags");
                ("message_count", detail)
            }
            serde_json::error::Category::Data => ("invalid_field", data_error(&text)),
            _ => ("not_json", "the line is not a JSON object".to_owned()),
        };
        Bad(code, format!("{what} (column {})", error.column()))
    })?;
    let parties = std::iter::once(&transcript.visitor).chain(&transcript.agent);
    if transcript.id.is_empty() || parties.clone().any(|party| party.id.is_empty()) {
        return Err(Bad("empty_id", "an id is empty".to_owned()));
    }
    if transcript.id.len() > 200 || parties.clone().any(|party| party.id.len() > 200) {
        return Err(Bad("id_too_long", "an id has more than 200 bytes".to_owned()));
    }
    let names = parties.flat_map(|party| party.name.iter().chain(&party.email)).chain(&transcript.tags);
    if names.into_iter().any(|name| name.len() > NAME_BYTES_MAX) {
        let detail = format!("a name, an address or a tag has more than {NAME_BYTES_MAX} bytes");
        return Err(Bad("name_too_long", detail));
    }
    if transcript.rating.is_some_and(|rating| !(1..=5).contains(&rating)) {
        return Err(Bad("invalid_rating", "a rating is 1 to 5".to_owned()));
    }
    if transcript.messages.is_empty() {
        return Err(Bad("message_count", format!("a transcript has 1 to {MESSAGES_MAX} messages")));
    }
    let mut previous = Timestamp(i64::MIN);
    for (index, message) in transcript.messages.iter().enumerate() {
        let number = index + 1;
        let Some(at) = Timestamp::parse_rfc3339(&message.at) else {
            return Err(Bad("invalid_time", format!("message {number}: 'at' is not an RFC 3339 time")));
        };
        if at < previous {
            return Err(Bad("time_goes_back", format!("message {number} is earlier than the one before")));
        }
        previous = at;
        if message.text.trim().is_empty() {
            return Err(Bad("empty_message", format!("message {number} has no text")));
        }
        if message.text.chars().count() > MESSAGE_CHARS_MAX {
            let detail = format!("message {number} has more than {MESSAGE_CHARS_MAX} characters");
            return Err(Bad("message_too_long", detail));
        }
        if message.from == AuthorType::Agent && transcript.agent.is_none() {
            return Err(Bad("missing_agent", format!("message {number} is from an agent, but the line names none")));
        }
    }
    Ok(transcript)
}

/// The part of a data error that names fields and types, not values.
pub(super) fn data_error(message: &str) -> String {
    let known = ["missing field", "unknown field", "unknown variant", "duplicate field"];
    if known.iter().any(|start| message.starts_with(start)) {
        let end = message.find(", expected").or_else(|| message.find(" at line")).unwrap_or(message.len());
        message[..end].to_owned()
    } else {
        "a field has the wrong type".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &str) -> &'static str {
        check(line.as_bytes()).err().map_or("ok", |bad| bad.0)
    }

    fn transcript(messages: &str) -> String {
        format!(r#"{{"id":"t","visitor":{{"id":"v"}},"agent":{{"id":"a"}},"messages":[{messages}]}}"#)
    }

    /// Each kind of bad line has its own word.
    #[test]
    fn bad_lines_are_told_apart() {
        let good = r#"{"at":"2020-05-12T17:44:40Z","from":"visitor","text":"Hello"}"#;
        assert_eq!(code(&transcript(good)), "ok");
        assert_eq!(code("{oops"), "not_json");
        assert_eq!(code("[1,2]"), "invalid_field");
        assert_eq!(code(&transcript("")), "message_count");
        let many = |item: &str, count: usize| vec![item; count].join(",");
        assert_eq!(code(&transcript(&many(good, MESSAGES_MAX))), "ok");
        assert_eq!(code(&transcript(&many(good, MESSAGES_MAX + 1))), "message_count");
        let tagged = |tags: &str| transcript(good).replacen('{', &format!("{{\"tags\":[{tags}],"), 1);
        assert_eq!(code(&tagged(&many("\"a\"", TAGS_MAX))), "ok");
        // Refused at the first that is too many, whatever follows.
        assert_eq!(code(&tagged(&many("\"a\"", 1_000_000))), "message_count");
        assert_eq!(code(&tagged(&format!("\"{}\"", "a".repeat(NAME_BYTES_MAX + 1)))), "name_too_long");
        assert_eq!(code(&transcript(&good.replace("2020-05-12T17:44:40Z", "yesterday"))), "invalid_time");
        assert_eq!(code(&transcript(&good.replace("Hello", " \\n "))), "empty_message");
        assert_eq!(code(&transcript(&good.replace("visitor", "ghost"))), "invalid_field");
        assert_eq!(code(&transcript(&format!("{good},{}", good.replace("2020", "2019")))), "time_goes_back");
        assert_eq!(code(&transcript(good).replace("\"id\":\"t\"", "\"id\":\"\"")), "empty_id");
        assert_eq!(code(&transcript(good).replace("\"id\":\"t\"", "\"id\":\"t\",\"rating\":6")), "invalid_rating");
        assert_eq!(code(&transcript(good).replace("\"id\":\"t\"", "\"id\":\"t\",\"mood\":1")), "invalid_field");
        let agentless = transcript(&good.replace("visitor", "agent")).replace(r#""agent":{"id":"a"},"#, "");
        assert_eq!(code(&agentless), "missing_agent");
    }

    /// Reasons never repeat a person's words.
    #[test]
    fn reasons_hold_no_text() {
        let line = transcript(r#"{"at":"2020-05-12T17:44:40Z","from":"visitor","text":{"secret":"words"}}"#);
        let Bad(_, detail) = check(line.as_bytes()).expect_err("a wrong type");
        assert!(!detail.contains("secret") && detail.contains("column"), "{detail}");
    }
}
