//! Everything that can be wrong with a line of format 2, before anything of it is written or compared.
//!
//! Lists end as soon as they are too long, and what a line may hold in memory is asked for before it's read ([`weight`]). Start
//! at [`check`].

use super::super::cleaning::Cleaner;
use super::super::parse::{self, Bad, at_most};
use super::super::transcript::{AHEAD_MS_MAX, check_id};
use super::{By, CandidateLine, EventType, FORMAT, History, HistoryEvent, VisitorParty};
use crate::check::{self as fields, LIST_MAX};
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
    at_most::<_, _, LIST_MAX>(from)
}

/// The number in a line's `format`; `None` where it says none, `Some(None)` where that isn't a small number.
pub(in crate::import) fn format_of(line: &[u8]) -> Option<Option<u8>> {
    #[derive(Deserialize)]
    struct Peek {
        #[serde(default, deserialize_with = "ingest::payload::present")]
        format: Option<Option<u8>>,
    }

    // Most lines of format 1 don't have the word anywhere.
    let word = b"\"format\"";
    if !line.windows(word.len()).any(|part| part == word) {
        return None;
    }
    // What is no JSON either format refuses by the same words; anything else than a small number is none of theirs.
    serde_json::from_slice::<Peek>(line).map_or(Some(None), |found| found.format)
}

/// What a type of event must have and may have, by the names of the fields.
pub(super) fn fields_of(of: EventType) -> (&'static [&'static str], &'static [&'static str]) {
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

/// Reads a line of format 2, checks all of it, and says what was changed of it.
///
/// # Errors
/// Those of [`parse::object`], of a field, and of the whole: `unknown_format`, `event_count`, `first_event`.
pub(in crate::import) fn check(line: &[u8], now: Timestamp) -> Result<(History, Cleaner), Bad> {
    let mut history: History = parse::object(line).map_err(|bad| match (bad.code, bad.field.as_deref()) {
        ("too_many", Some("events")) => bad.coded("event_count"),
        ("invalid_field", Some("format")) => bad.coded("unknown_format"),
        _ => bad,
    })?;
    if history.format != FORMAT {
        let detail = "'format' is 2, or 1 or left out for transcripts of messages";
        return Err(Bad::field("format", "unknown_format", detail));
    }
    if history.events.is_empty() {
        return Err(Bad::field("events", "event_count", format!("'events' has 1 to {EVENTS_MAX} items")));
    }
    let mut cleaner = Cleaner::default();
    check_head(&mut cleaner, &mut history)?;
    let is_first_line = history.after == 0;
    for (index, event) in history.events.iter_mut().enumerate() {
        let mut event = Checking { field: format!("events[{index}]"), event, cleaner: &mut cleaner };
        event.check(now)?;
        if (is_first_line && index == 0) != (event.event.r#type == EventType::ConversationStarted) {
            let detail = "'conversation_started' is a conversation's first event, and no other";
            return Err(event.bad("type", "first_event", detail));
        }
    }
    Ok((history, cleaner))
}

fn check_head(cleaner: &mut Cleaner, history: &mut History) -> Result<(), Bad> {
    check_id("id", &history.id)?;
    check_visitor(cleaner, "visitor", &mut history.visitor)?;
    for (index, visitor) in history.merged_visitors.iter_mut().enumerate() {
        check_visitor(cleaner, &format!("mergedVisitors[{index}]"), visitor)?;
    }
    for (index, agent) in history.agents.iter_mut().enumerate() {
        let field = format!("agents[{index}]");
        check_id(&format!("{field}.id"), &agent.id)?;
        agent.name = agent.name.as_deref().and_then(|name| cleaner.name(&format!("{field}.name"), name));
        agent.email = agent.email.as_deref().and_then(|email| cleaner.email(&format!("{field}.email"), email));
    }
    let groups = history.groups.iter_mut().enumerate().map(|(index, group)| (format!("groups[{index}]"), group));
    for (field, named) in groups.chain(history.chatbot.iter_mut().map(|chatbot| ("chatbot".to_owned(), chatbot))) {
        check_id(&format!("{field}.id"), &named.id)?;
        named.name = named.name.as_deref().and_then(|name| cleaner.name(&format!("{field}.name"), name));
    }
    Ok(())
}

fn check_visitor(cleaner: &mut Cleaner, field: &str, visitor: &mut VisitorParty) -> Result<(), Bad> {
    check_id(&format!("{field}.id"), &visitor.id)?;
    visitor.name = visitor.name.as_deref().and_then(|name| cleaner.name(&format!("{field}.name"), name));
    visitor.email = visitor.email.as_deref().and_then(|email| cleaner.email(&format!("{field}.email"), email));
    visitor.phone = visitor.phone.as_deref().and_then(|phone| cleaner.name(&format!("{field}.phone"), phone));
    visitor.metadata = visitor.metadata.take().filter(|object| !object.is_empty());
    if let Some(object) = &visitor.metadata {
        fields::metadata(&format!("{field}.metadata"), object)?;
    }
    Ok(())
}

/// An event that is being checked.
struct Checking<'a> {
    field: String,
    event: &'a mut HistoryEvent,
    cleaner: &'a mut Cleaner,
}

impl Checking<'_> {
    fn name(&self, of: &str) -> String {
        format!("{}.{of}", self.field)
    }

    fn bad(&self, of: &str, code: &'static str, detail: impl Into<String>) -> Bad {
        Bad::field(self.name(of), code, detail)
    }

    /// Checks the event, and writes what can be written in several ways in one.
    fn check(&mut self, now: Timestamp) -> Result<(), Bad> {
        let (required, optional) = fields_of(self.event.r#type);
        let present = self.event.present();
        if let Some(missing) = required.iter().find(|name| !present.contains(name)) {
            return Err(self.bad(missing, "missing_field", "an event of its type has it"));
        }
        if let Some(other) = present.iter().find(|name| !required.contains(name) && !optional.contains(name)) {
            return Err(self.bad(other, "unexpected_field", "no event of its type has it"));
        }
        if self.event.group == Some(None) && self.event.r#type != EventType::Changed {
            return Err(self.bad("group", "unexpected_field", "only 'changed' takes the group away"));
        }
        let at = fields::time(&self.name("at"), &self.event.at)?;
        if at > now.plus_ms(AHEAD_MS_MAX) {
            return Err(self.bad("at", "time_in_future", "it is in the future"));
        }
        self.event.at = at.to_string();
        if let Some(until) = &self.event.until {
            self.event.until = Some(fields::time(&self.name("until"), until)?.to_string());
        }
        self.event.exact = self.event.exact.filter(|exact| !exact);
        self.event.from = self.event.from.filter(|from| *from != self.event.by.author());
        self.event.metadata = self.event.metadata.take().filter(|object| !object.is_empty());
        self.check_words()?;
        self.check_names()?;
        self.check_values()
    }

    /// What people said.
    fn check_words(&mut self) -> Result<(), Bad> {
        let is_blank = |text: &String| text.trim().is_empty();
        let silent = self.event.attachment.is_none() && self.event.text.as_ref().is_some_and(is_blank);
        if silent {
            return Err(self.bad("text", "empty_message", "it has no text"));
        }
        let reason = self.event.r#type == EventType::AgentJoined;
        let (field, cleaner, event) = (&self.field, &mut self.cleaner, &mut self.event);
        let texts = [("text", event.text.as_mut()), ("comment", event.comment.as_mut())];
        let notes = [("notes", event.notes.as_mut().and_then(Option::as_mut))];
        let reasons = [("reason", event.reason.as_mut().filter(|_| reason))];
        for (of, text) in texts.into_iter().chain(notes).chain(reasons) {
            let Some(text) = text.filter(|text| !is_blank(text)) else { continue };
            let words = cleaner.content(&format!("{field}.{of}"), std::mem::take(text), "");
            *text = words.map_err(|fault| Bad::from(fault).coded("message_too_long"))?;
        }
        if let Some(object) = &event.metadata {
            fields::metadata(&format!("{field}.metadata"), object)?;
        }
        let lists = [
            ("tags", &mut event.tags),
            ("skills", &mut event.skills),
            ("add", &mut event.add),
            ("remove", &mut event.remove),
        ];
        for (of, list) in lists {
            *list = cleaner.tags(&format!("{field}.{of}"), list.iter().map(String::as_str));
        }
        Ok(())
    }

    /// Who and what it names.
    fn check_names(&mut self) -> Result<(), Bad> {
        let field = &self.field;
        self.event.each_name(|kind, name| check_id(&format!("{field} ({})", kind.word()), name))?;
        let coded = self.event.reason.iter().filter(|_| self.event.r#type != EventType::AgentJoined);
        let candidates = self.event.candidates.iter().map(|candidate| &candidate.reason);
        let file = self.event.attachment.iter().flat_map(|file| [&file.id, &file.name, &file.content_type]);
        let words = coded.chain(candidates).chain(&self.event.strategy).chain(&self.event.client_id);
        for word in words.chain(file) {
            fields::id(field, word)?;
        }
        Ok(())
    }

    /// What systems said.
    fn check_values(&self) -> Result<(), Bad> {
        let event = &*self.event;
        if let Some(score) = event.score {
            let rating = fields::rating(&self.name("score"), score);
            rating.map_err(|fault| Bad::from(fault).coded("invalid_rating"))?;
        }
        if event.r#type == EventType::ConversationStarted && !matches!(event.by, By::Visitor(_)) {
            return Err(self.bad("by", "first_event", "a conversation is started by a visitor"));
        }
        if event.waited_ms.is_some_and(|waited| waited < 0) {
            return Err(self.bad("waitedMs", "out_of_range", "it is 0 or more"));
        }
        let reason = event.reason.as_deref().unwrap_or_default();
        if event.r#type == EventType::Stale && !matches!(reason, "manual" | "idle") {
            return Err(self.bad("reason", "invalid_field", "it is 'manual' or 'idle'"));
        }
        if event.r#type == EventType::Closed && reason == IMPORTED_UNRESOLVED {
            return Err(self.bad("reason", "invalid_field", "this one is what an import itself writes"));
        }
        Ok(())
    }
}
