//! A transcript, a line of NDJSON: its fields, and everything that can be wrong with them. Start at [`check`].

use super::cleaning::{Cleaner, NO_TEXT};
use super::parse::{self, Bad, at_most, id_text, or_default};
use crate::check::{self as fields, FieldFault, LIST_MAX};
use ingest::payload::AuthorType;
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// The most messages of one transcript: it is written in one transaction.
const MESSAGES_MAX: usize = 10_000;
/// Files of a message that are named: of any names, they are fewer characters than a message may have.
const FILES_NAMED: usize = 10;
/// How far in the future a message may be: as far as clocks are wrong, or zones forgotten.
pub(super) const AHEAD_MS_MAX: i64 = 24 * 60 * 60 * 1_000;

/// A conversation as it is imported and exported.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct Transcript {
    /// 1, if it's said at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u8>,
    #[serde(deserialize_with = "id_text")]
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    pub visitor: Party,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Party>,
    #[serde(default, deserialize_with = "tag_list")]
    pub tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub resolved: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<u8>,
    #[serde(deserialize_with = "at_most::<_, _, MESSAGES_MAX>")]
    pub messages: Vec<Line>,
}

/// A visitor or agent of a transcript.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of the contract")]
pub struct Party {
    #[serde(deserialize_with = "id_text")]
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
    /// `null` is how some write that there was only a picture.
    #[serde(deserialize_with = "or_default")]
    pub text: String,
    /// What was sent with it: only its name is carried, in the place of words that there aren't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<FileName>,
    #[serde(default, deserialize_with = "at_most::<_, _, LIST_MAX>", skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<FileName>,
}

impl Line {
    fn says_something(&self) -> bool {
        !self.text.trim().is_empty() || self.attachment.is_some() || !self.attachments.is_empty()
    }
}

/// A file, by what it's called; what else is said of it isn't read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct FileName {
    /// For example `invoice.pdf`.
    #[serde(default)]
    pub name: Option<String>,
}

/// Tags, of which `null` is a blank one.
fn tag_list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let list = at_most::<_, Option<String>, LIST_MAX>(from)?;
    Ok(list.into_iter().map(Option::unwrap_or_default).collect())
}

/// A line as it's imported, and what was changed of it for that; everything that can be wrong with it is found before anything
/// of it is written.
///
/// # Errors
/// Those of [`parse::object`], of a field, and of the whole: `message_count`, `empty_message`, `time_goes_back`, `missing_agent`.
pub(crate) fn check(line: &[u8], now: Timestamp) -> Result<(Transcript, Cleaner), Bad> {
    let mut transcript: Transcript = parse::object(line).map_err(|bad| match (bad.code, bad.field.as_deref()) {
        ("too_many", Some("messages")) => bad.coded("message_count"),
        ("invalid_field", Some("rating")) => bad.coded("invalid_rating"),
        _ => bad,
    })?;
    let mut cleaner = Cleaner::default();
    check_id("id", &transcript.id)?;
    clean_party(&mut cleaner, "visitor", &mut transcript.visitor)?;
    if let Some(agent) = &mut transcript.agent {
        clean_party(&mut cleaner, "agent", agent)?;
    }
    transcript.tags = cleaner.tags("tags", transcript.tags.iter().map(String::as_str));
    if let Some(rating) = transcript.rating {
        fields::rating("rating", rating).map_err(|fault| Bad::from(fault).coded("invalid_rating"))?;
    }
    if transcript.messages.is_empty() {
        return Err(Bad::field("messages", "message_count", format!("'messages' has 1 to {MESSAGES_MAX} items")));
    }
    if !transcript.messages.iter().any(Line::says_something) {
        return Err(Bad::field("messages[0].text", "empty_message", "no message has a text"));
    }
    let mut previous = fields::TIME_MIN;
    let latest = now.plus_ms(AHEAD_MS_MAX);
    for (index, message) in transcript.messages.iter_mut().enumerate() {
        let at = fields::time(&format!("messages[{index}].at"), &message.at)?;
        if at > latest {
            let detail = "it is in the future";
            return Err(Bad::field(format!("messages[{index}].at"), "time_in_future", detail));
        }
        if at < previous {
            let detail = "it is earlier than the message before";
            return Err(Bad::field(format!("messages[{index}].at"), "time_goes_back", detail));
        }
        previous = at;
        clean_message(&mut cleaner, index, message)?;
        if message.from == AuthorType::Agent && transcript.agent.is_none() {
            let detail = "a message is from an agent, but the line names none";
            return Err(Bad::field(format!("messages[{index}].from"), "missing_agent", detail));
        }
    }
    Ok((transcript, cleaner))
}

/// An id: what two people might share, cut or cleaned, is set aside.
pub(crate) fn check_id(field: &str, id: &str) -> Result<(), Bad> {
    if id.trim().is_empty() {
        return Err(Bad::field(field, "empty_id", format!("'{field}' is empty")));
    }
    fields::id(field, id).map_err(|fault| match fault.code {
        "too_long" => Bad::from(fault).coded("id_too_long"),
        _ => fault.into(),
    })
}

fn clean_party(cleaner: &mut Cleaner, field: &str, party: &mut Party) -> Result<(), Bad> {
    check_id(&format!("{field}.id"), &party.id)?;
    party.name = party.name.as_deref().and_then(|name| cleaner.name(&format!("{field}.name"), name));
    party.email = party.email.as_deref().and_then(|email| cleaner.email(&format!("{field}.email"), email));
    Ok(())
}

fn clean_message(cleaner: &mut Cleaner, index: usize, message: &mut Line) -> Result<(), Bad> {
    let text = std::mem::take(&mut message.text);
    let field = format!("messages[{index}].text");
    let files: Vec<FileName> = message.attachment.take().into_iter().chain(message.attachments.drain(..)).collect();
    let mut instead = NO_TEXT.to_owned();
    if !files.is_empty() {
        let place = format!("messages[{index}].attachments");
        let named = files.iter().filter_map(|file| cleaner.name(&place, file.name.as_deref()?));
        let named: Vec<String> = named.take(FILES_NAMED).collect();
        if !named.is_empty() {
            instead = format!("[{}]", named.join(", "));
        }
        let fault = FieldFault::new(place, "attachment_left_out", "files aren't carried by this format");
        cleaner.note(fault, "its message is imported without them");
    }
    let cleaned = cleaner.content(&field, text, &instead);
    message.text = cleaned.map_err(|fault: FieldFault| Bad::from(fault).coded("message_too_long"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"at":"2020-05-12T17:44:40Z","from":"visitor","text":"Hello"}"#;

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-06-01T00:00:00Z").expect("a time")
    }

    fn transcript(messages: &str) -> String {
        format!(r#"{{"id":"t","visitor":{{"id":"v"}},"agent":{{"id":"a"}},"messages":[{messages}]}}"#)
    }

    /// A good line with more fields.
    fn with(more: &str) -> String {
        transcript(GOOD).replacen('{', &format!("{{{more},"), 1)
    }

    /// A good line in which one text is another.
    fn instead(text: &str, other: &str) -> String {
        let line = transcript(GOOD);
        assert!(line.contains(text));
        line.replacen(text, other, 1)
    }

    /// The code and the field.
    fn bad(line: &[u8]) -> (&'static str, Option<String>) {
        check(line, now()).map_or_else(|bad| (bad.code, bad.field), |_| ("ok", None))
    }

    /// Each kind of bad line has its own word.
    #[test]
    fn bad_lines_are_told_apart() {
        let line = transcript(GOOD);
        let items = |item: &str, count: usize| vec![item; count].join(",");
        let cases = [
            ("cut_off", "{".to_owned()),
            ("cut_off", line[..60].to_owned()),
            ("not_json", "oops".to_owned()),
            ("not_json", "\"text\"".to_owned()),
            ("not_json", "{oops".to_owned()),
            ("json_array", format!("[{line}]")),
            ("json_array", "[".repeat(1_000_000)),
            ("more_than_one", format!("{line},")),
            ("more_than_one", format!("{line}{line}")),
            ("control_character", instead("Hello", "a\tb")),
            ("nul_byte", instead("Hello", "a\0b")),
            ("invalid_escape", instead("Hello", "\\ud83d")),
            ("invalid_escape", instead("Hello", "\\x41")),
            ("number_out_of_range", with("\"rating\":1e999")),
        ];
        for (code, line) in cases {
            assert_eq!(bad(line.as_bytes()), (code, None), "{line:.80}");
        }
        let latin =
            instead("Hello", "caf?").into_bytes().into_iter().map(|byte| if byte == b'?' { 0xe9 } else { byte });
        assert_eq!(bad(&latin.collect::<Vec<_>>()), ("invalid_encoding", None));
        let good = items(GOOD, MESSAGES_MAX);
        assert_eq!(bad(transcript(&good).as_bytes()).0, "ok");
        assert_eq!(bad(transcript(&format!("{good},{GOOD}")).as_bytes()).0, "message_count");
    }

    /// And says which field it is.
    #[test]
    fn bad_fields_are_told_apart() {
        let items = |item: &str, count: usize| vec![item; count].join(",");
        let two = |second: &str| transcript(&format!("{GOOD},{second}"));
        let (long_id, long_text) = ("é".repeat(201), "x".repeat(20_001));
        for (code, field, line) in [
            ("message_count", "messages", transcript("")),
            ("message_count", "messages", transcript(GOOD).replace(&format!("[{GOOD}]"), "null")),
            ("too_many", "tags", with(&format!("\"tags\":[{}]", items("\"a\"", LIST_MAX + 1)))),
            // Refused at the first that is too many, whatever follows.
            ("too_many", "tags", with(&format!("\"tags\":[{}]", items("\"a\"", 1_000_000)))),
            ("empty_message", "messages[0].text", two(GOOD).replace("Hello", " ")),
            ("missing_field", "id", instead("\"id\":\"t\",", "")),
            ("missing_field", "messages[0].text", instead(",\"text\":\"Hello\"", "")),
            ("unknown_field", "mood", with("\"mood\":1")),
            ("unknown_field", "visitor.age", instead("\"id\":\"v\"", "\"id\":\"v\",\"age\":1")),
            ("duplicate_field", "visitor", with("\"visitor\":{\"id\":\"w\"}")),
            ("invalid_field", "messages[1].from", two(&GOOD.replace("visitor", "ghost"))),
            ("invalid_field", "messages[0].text", instead("\"Hello\"", "{\"a\":1}")),
            ("invalid_field", "messages[0].text", instead("\"Hello\"", &"[".repeat(100_000))),
            ("invalid_field", "resolved", with("\"resolved\":1")),
            ("invalid_field", "tags[0]", with("\"tags\":[1]")),
            ("invalid_rating", "rating", with("\"rating\":6")),
            ("invalid_rating", "rating", with("\"rating\":0")),
            ("invalid_rating", "rating", with("\"rating\":-1")),
            ("invalid_rating", "rating", with("\"rating\":300")),
            ("invalid_rating", "rating", with("\"rating\":4.5")),
            ("empty_id", "id", instead("\"t\"", "\" \"")),
            ("empty_id", "agent.id", instead("\"a\"", "\"\"")),
            ("id_too_long", "visitor.id", instead("\"v\"", &format!("\"{long_id}\""))),
            ("control_character", "visitor.id", instead("\"v\"", "\"v\\u0000\"")),
            ("invalid_id", "id", instead("\"t\"", "1.5")),
            ("invalid_id", "id", instead("\"t\"", "123456789012345678901234567890")),
            ("invalid_id", "id", instead("\"t\"", "null")),
            ("invalid_time", "messages[1].at", two(&GOOD.replace("2020-05-12T17:44:40Z", "yesterday"))),
            ("time_without_zone", "messages[0].at", instead("40Z", "40")),
            ("time_out_of_range", "messages[0].at", instead("2020", "0001")),
            ("time_out_of_range", "messages[0].at", instead("2020", "1601")),
            ("time_out_of_range", "messages[0].at", instead("2020", "1899")),
            ("time_out_of_range", "messages[0].at", instead("2020", "9999")),
            ("time_in_future", "messages[0].at", instead("2020-05-12", "2026-06-02")),
            ("time_goes_back", "messages[1].at", two(&GOOD.replace("2020", "2019"))),
            ("message_too_long", "messages[0].text", instead("Hello", &long_text)),
            (
                "missing_agent",
                "messages[0].from",
                instead("\"agent\":{\"id\":\"a\"},", "").replace("\"visitor\",", "\"agent\","),
            ),
        ] {
            assert_eq!(bad(line.as_bytes()), (code, Some(field.to_owned())), "{line:.200}");
        }
    }

    /// What isn't there may be `null`, ids may be numbers, and times may be written in every way of RFC 3339.
    #[test]
    fn what_means_the_same_is_the_same() {
        let nulls = "\"tenant\":null,\"tags\":null,\"resolved\":null,\"rating\":null";
        let party = "{\"id\":7,\"name\":null,\"email\":null}";
        let line =
            with(nulls).replace("{\"id\":\"v\"}", party).replace("{\"id\":\"a\"}", "null").replace("\"t\"", "-12");
        let line = line.replace("12T17:44:40Z", "12 19:44:40.5+02:00");
        let (transcript, cleaner) = check(line.as_bytes(), now()).expect("good");
        assert!(cleaner.is_empty());
        assert_eq!(
            (transcript.id, transcript.visitor.id, transcript.agent.is_none()),
            ("-12".into(), "7".into(), true)
        );
        assert!(transcript.tags.is_empty() && !transcript.resolved && transcript.rating.is_none());
    }

    /// A message that was only a picture stays where it was, by the picture's name.
    #[test]
    fn files_are_named_in_the_place_of_words() {
        for (more, text) in [
            (
                r#""text":"","attachments":[{"name":"a.png","url":"https://x.example/a.png"},{"name":"b.png"}]"#,
                "[a.png, b.png]",
            ),
            (r#""text":null,"attachment":{"name":"a\u0000.png"}"#, "[a .png]"),
            (r#""text":" ","attachment":{}"#, NO_TEXT),
            (r#""text":"see","attachments":[{"name":"a.png"}]"#, "see"),
        ] {
            let line = transcript(&GOOD.replace(r#""text":"Hello""#, more));
            let (read, cleaner) = check(line.as_bytes(), now()).unwrap_or_else(|bad| panic!("{more}: {bad:?}"));
            assert_eq!(read.messages[0].text, text);
            assert!(cleaner.told().contains(&("messages[0].attachments", "attachment_left_out")), "{more}");
        }
        let many = format!(r#""text":"","attachments":[{}]"#, vec!["{}"; LIST_MAX + 1].join(","));
        let line = transcript(&GOOD.replace(r#""text":"Hello""#, &many));
        assert_eq!(bad(line.as_bytes()), ("too_many", Some("messages[0].attachments".to_owned())));
    }

    /// What is imported passes the API's own checks, whatever it was.
    #[test]
    fn what_is_cleaned_passes_the_api() {
        let long = "N".repeat(100_000);
        let line = with(&format!("\"tags\":[\"\",null,\"{}\",\"n\\u0000l\",\"vip\"]", "y".repeat(500)))
            .replace("\"id\":\"v\"", &format!("\"id\":\"v\",\"name\":\"{long}\",\"email\":\"nobody\""))
            .replace("\"Hello\"", "\"a\\u0000b\"")
            .replace("]}", &format!(",{},{}]}}", GOOD.replace("Hello", ""), GOOD.replace("\"Hello\"", "null")));
        let (cleaned, cleaner) = check(line.as_bytes(), now()).expect("cleaned");
        assert_eq!(fields::tags("tags", &cleaned.tags).as_ref(), Ok(&cleaned.tags));
        assert_eq!(cleaned.tags.len(), 3);
        assert!(cleaned.visitor.name.is_some_and(|name| fields::name("name", &name) == Ok(name)));
        assert_eq!(cleaned.visitor.email, None);
        let texts: Vec<&str> = cleaned.messages.iter().map(|message| &*message.text).collect();
        assert_eq!(texts, ["a\u{FFFD}b", NO_TEXT, NO_TEXT]);
        assert!(texts.iter().all(|text| fields::content("text", text).is_ok()));
        assert_eq!(
            cleaner.told(),
            [
                ("visitor.name", "too_long"),
                ("visitor.email", "not_an_address"),
                ("tags[0]", "blank"),
                ("tags[1]", "blank"),
                ("tags[2]", "too_long"),
                ("tags[3]", "control_character"),
                ("messages[0].text", "nul"),
                ("messages[1].text", "empty_message"),
                ("messages[2].text", "empty_message"),
            ]
        );
    }

    /// Reasons never repeat a person's words.
    #[test]
    fn reasons_hold_no_text() {
        for line in [
            instead("\"Hello\"", "{\"secret\":\"secret\"}"),
            instead("\"from\":\"visitor\"", "\"from\":\"secret\""),
            instead("\"v\"", "{\"secret\":1}"),
            instead("2020-05-12T17:44:40Z", "secret"),
            instead("Hello", "secret\u{1}"),
            with("\"rating\":\"secret\""),
        ] {
            let bad = check(line.as_bytes(), now()).expect_err("bad");
            assert!(
                !bad.detail.contains("secret") && !bad.field.unwrap_or_default().contains("secret"),
                "{}",
                bad.detail
            );
        }
        let line = instead("{\"id\":\"v\"}", "{\"id\":\"v\",\"name\":\"secret\\u0001\",\"email\":\"secret\"}");
        let (_, cleaner) = check(line.as_bytes(), now()).expect("cleaned");
        assert!(!format!("{cleaner:?}").contains("secret"));
    }
}
