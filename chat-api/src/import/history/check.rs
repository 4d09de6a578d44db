//! Everything that can be wrong with a line of format 2, before anything of it is written or compared.
//!
//! Lists end as soon as they are too long, and what a line may hold in memory is asked for before it's read ([`weight`]). Start
//! at [`check`].

use super::super::transcript::{Bad, MESSAGE_CHARS_MAX, TOO_MANY, at_most, data_error};
use super::{By, CandidateLine, EventType, FORMAT, History, HistoryEvent, VisitorParty};
use ingest::payload::IMPORTED_UNRESOLVED;
use ingest::time::Timestamp;
use serde::{Deserialize, Deserializer};

/// The most events of one line: it is written in one transaction.
pub const EVENTS_MAX: usize = 10_000;
/// The most agents or groups of one line.
pub const PARTIES_MAX: usize = 1_000;
/// The most visitors who turned out to be a line's visitor.
pub const MERGED_VISITORS_MAX: usize = 20;
/// The most agents who were looked at for an assignment: as many as are recorded.
pub const CANDIDATES_MAX: usize = 20;
/// The most tags or skills of one event; the API's limit of one request.
const EVENT_TAGS_MAX: usize = 100;
/// The longest id, in bytes: of a line, a person, a group, a thread.
const ID_BYTES_MAX: usize = 200;
/// The longest name, address, tag or word, in bytes: 200 characters of any writing.
const WORD_BYTES_MAX: usize = 800;
/// Bytes of a sender's or a page's own fields, as JSON; the API's limit.
const FIELDS_BYTES_MAX: usize = 8 * 1024;
/// The shortest event: `{"at":"","by":"bot"}` and a type. No fewer bytes become one.
const EVENT_BYTES_MIN: usize = 30;

/// Bytes that a line's events may take once they are read, beside the line's own; 0 for a line of format 1.
pub(in crate::import) fn weight(line: &[u8]) -> usize {
    let events = match format_of(line) {
        None | Some(Some(1)) => 0,
        Some(_) => (line.len() / EVENT_BYTES_MIN).min(EVENTS_MAX),
    };
    events * std::mem::size_of::<HistoryEvent>()
}

pub(super) fn events<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<HistoryEvent>, D::Error> {
    at_most::<_, _, EVENTS_MAX>(from)
}

pub(super) fn parties<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    at_most::<_, _, PARTIES_MAX>(from)
}

pub(super) fn visitors<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<VisitorParty>, D::Error> {
    at_most::<_, _, MERGED_VISITORS_MAX>(from)
}

pub(super) fn candidates<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<CandidateLine>, D::Error> {
    at_most::<_, _, CANDIDATES_MAX>(from)
}

pub(super) fn tags<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    at_most::<_, _, EVENT_TAGS_MAX>(from)
}

/// The number in a line's `format`; `None` where it says none, `Some(None)` where that isn't a small number.
pub(in crate::import) fn format_of(line: &[u8]) -> Option<Option<u8>> {
    #[derive(Deserialize)]
    struct Peek {
        #[serde(default, deserialize_with = "ingest::payload::present")]
        format: Option<Option<serde_json::Value>>,
    }

    // Most lines of format 1 don't have the word anywhere.
    let word = b"\"format\"";
    if !line.windows(word.len()).any(|part| part == word) {
        return None;
    }
    let found: Peek = serde_json::from_slice(line).ok()?;
    found.format.map(|format| format.and_then(|format| format.as_u64()).and_then(|format| u8::try_from(format).ok()))
}

/// What a type of event must have and may have, by the names of the fields.
pub(super) fn fields(of: EventType) -> (&'static [&'static str], &'static [&'static str]) {
    use EventType as T;
    match of {
        T::Message => (&["thread", "text"], &["from", "clientId", "attachment", "metadata"]),
        T::Note => (&["thread", "text"], &["clientId"]),
        T::ConversationStarted => (&["thread"], &["group", "chatbot", "continues", "exact", "tags", "skills"]),
        T::Queued => (&["thread", "trigger"], &["group"]),
        T::AgentJoined => (
            &["thread", "agent", "trigger", "strategy"],
            &["previousAgent", "waitedMs", "group", "candidates", "reason"],
        ),
        T::AgentLeft => (&["agent", "trigger"], &[]),
        T::Resolved => (&["thread"], &["agent", "reason"]),
        T::Reopened => (&["thread"], &[]),
        T::Closed => (&["reason"], &["agent"]),
        T::Rated => (&["thread", "score"], &["agent", "comment"]),
        T::Tagged => (&[], &["add", "remove"]),
        T::Changed => (&[], &["group", "notes"]),
        T::Transferred => (&["thread"], &["fromAgent", "agent", "group"]),
        T::Stale => (&["thread", "reason"], &["agent"]),
        T::Snoozed => (&[], &["until"]),
    }
}

/// Reads a line of format 2 and checks all of it.
pub(in crate::import) fn check(line: &[u8]) -> Result<History, Bad> {
    let mut history: History = serde_json::from_slice(line).map_err(|error| {
        // serde_json's words about data may quote it; its category and place don't.
        let text = error.to_string();
        let (code, what) = match error.classify() {
            serde_json::error::Category::Data if text.starts_with(TOO_MANY) => {
                let detail = format!(
                    "a line has 1 to {EVENTS_MAX} events, at most {PARTIES_MAX} agents or groups, {MERGED_VISITORS_MAX} merged \
                     visitors, {CANDIDATES_MAX} candidates and {EVENT_TAGS_MAX} tags of an event"
                );
                ("too_many", detail)
            }
            serde_json::error::Category::Data => ("invalid_field", data_error(&text)),
            _ => ("not_json", "the line is not a JSON object".to_owned()),
        };
        Bad(code, format!("{what} (column {})", error.column()))
    })?;
    if history.format != FORMAT {
        return Err(Bad("unknown_format", format!("'format' is {FORMAT}, or is left out for transcripts of messages")));
    }
    if history.events.is_empty() {
        return Err(Bad("too_many", format!("a line has 1 to {EVENTS_MAX} events")));
    }
    check_head(&history)?;
    for (index, event) in history.events.iter_mut().enumerate() {
        let place = index as u64 + 1 + history.after;
        check_event(event, place)?;
        if (place == 1) != (event.r#type == EventType::ConversationStarted) {
            let detail = format!("event {place}: 'conversation_started' is the first event, and no other");
            return Err(Bad("first_event", detail));
        }
    }
    Ok(history)
}

fn check_head(history: &History) -> Result<(), Bad> {
    let visitors = std::iter::once(&history.visitor).chain(&history.merged_visitors);
    let ids = visitors.clone().map(|visitor| &visitor.id);
    let named = history.groups.iter().chain(&history.chatbot);
    let ids = ids.chain(history.agents.iter().map(|agent| &agent.id)).chain(named.clone().map(|named| &named.id));
    for id in ids.chain([&history.id]) {
        check_id(id)?;
    }
    let names = visitors.clone().flat_map(|visitor| visitor.name.iter().chain(&visitor.email).chain(&visitor.phone));
    let names = names.chain(history.agents.iter().flat_map(|agent| agent.name.iter().chain(&agent.email)));
    if names.chain(named.filter_map(|named| named.name.as_ref())).any(|name| name.len() > WORD_BYTES_MAX) {
        return Err(Bad("name_too_long", format!("a name or an address has more than {WORD_BYTES_MAX} bytes")));
    }
    if visitors.filter_map(|visitor| visitor.metadata.as_ref()).any(is_too_large) {
        return Err(Bad("fields_too_large", format!("a visitor's 'metadata' has more than {FIELDS_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn check_id(id: &str) -> Result<(), Bad> {
    if id.is_empty() {
        return Err(Bad("empty_id", "an id is empty".to_owned()));
    }
    if id.len() > ID_BYTES_MAX {
        return Err(Bad("id_too_long", format!("an id has more than {ID_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn is_too_large(object: &serde_json::Map<String, serde_json::Value>) -> bool {
    serde_json::to_string(object).map_or(usize::MAX, |text| text.len()) > FIELDS_BYTES_MAX
}

/// Checks an event, and writes what can be written in several ways in one.
fn check_event(event: &mut HistoryEvent, place: u64) -> Result<(), Bad> {
    let bad = |code, what: String| Err(Bad(code, format!("event {place}: {what}")));
    let (required, optional) = fields(event.r#type);
    let present = event.present();
    if let Some(missing) = required.iter().find(|name| !present.contains(name)) {
        return bad("missing_field", format!("an event of its type has '{missing}'"));
    }
    if let Some(other) = present.iter().find(|name| !required.contains(name) && !optional.contains(name)) {
        return bad("unexpected_field", format!("an event of its type has no '{other}'"));
    }
    if event.group == Some(None) && event.r#type != EventType::Changed {
        return bad("unexpected_field", "only a 'changed' takes the group away".to_owned());
    }
    let Some(at) = Timestamp::parse_rfc3339(&event.at) else {
        return bad("invalid_time", "'at' is not an RFC 3339 time".to_owned());
    };
    event.at = at.to_string();
    if let Some(until) = &mut event.until {
        let Some(parsed) = Timestamp::parse_rfc3339(until) else {
            return bad("invalid_time", "'until' is not an RFC 3339 time".to_owned());
        };
        *until = parsed.to_string();
    }
    event.exact = event.exact.filter(|exact| !exact);
    event.from = event.from.filter(|from| *from != event.by.author());
    event.metadata = event.metadata.take().filter(|object| !object.is_empty());
    check_words(event, place)?;
    check_values(event, place)
}

/// What people said.
fn check_words(event: &HistoryEvent, place: u64) -> Result<(), Bad> {
    let bad = |code, what: String| Err(Bad(code, format!("event {place}: {what}")));
    let text = event.text.as_deref().unwrap_or_default();
    let speaks = matches!(event.r#type, EventType::Message | EventType::Note);
    if speaks && text.trim().is_empty() && event.attachment.is_none() {
        return bad("empty_message", "it has no text".to_owned());
    }
    let reason = event.reason.as_ref().filter(|_| event.r#type == EventType::AgentJoined);
    let notes = event.notes.iter().flatten();
    for words in event.text.iter().chain(&event.comment).chain(reason).chain(notes) {
        if words.chars().count() > MESSAGE_CHARS_MAX {
            return bad("message_too_long", format!("a text has more than {MESSAGE_CHARS_MAX} characters"));
        }
    }
    if event.metadata.as_ref().is_some_and(is_too_large) {
        return bad("fields_too_large", format!("'metadata' has more than {FIELDS_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// What systems said.
fn check_values(event: &mut HistoryEvent, place: u64) -> Result<(), Bad> {
    event.each_name(|_, name| check_id(name)).map_err(|Bad(code, what)| Bad(code, format!("event {place}: {what}")))?;
    let bad = |code, what: String| Err(Bad(code, format!("event {place}: {what}")));
    if event.score.is_some_and(|score| !(1..=5).contains(&score)) {
        return bad("invalid_rating", "a rating is 1 to 5".to_owned());
    }
    if event.r#type == EventType::ConversationStarted && !matches!(event.by, By::Visitor(_)) {
        return bad("first_event", "a conversation is started by a visitor".to_owned());
    }
    if event.waited_ms.is_some_and(|waited| waited < 0) {
        return bad("invalid_field", "'waitedMs' is below 0".to_owned());
    }
    let reason = event.reason.as_deref().unwrap_or_default();
    if event.r#type == EventType::Stale && !matches!(reason, "manual" | "idle") {
        return bad("invalid_field", "the 'reason' of 'stale' is 'manual' or 'idle'".to_owned());
    }
    if event.r#type == EventType::Closed && reason == IMPORTED_UNRESOLVED {
        return bad("invalid_field", format!("'{IMPORTED_UNRESOLVED}' is what an import itself writes"));
    }
    let coded = event.reason.iter().filter(|_| event.r#type != EventType::AgentJoined);
    let tags = event.tags.iter().chain(&event.skills).chain(&event.add).chain(&event.remove);
    let looked_at = event.candidates.iter().map(|candidate| &candidate.reason);
    let file = event.attachment.iter().flat_map(|file| [&file.id, &file.name, &file.content_type]);
    let words = coded.chain(tags).chain(looked_at).chain(file).chain(&event.strategy).chain(&event.client_id);
    if words.into_iter().any(|word| word.len() > WORD_BYTES_MAX) {
        return bad("name_too_long", format!("a tag, a name or a word has more than {WORD_BYTES_MAX} bytes"));
    }
    Ok(())
}
