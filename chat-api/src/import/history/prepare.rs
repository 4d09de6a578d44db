//! A line to a command: a conversation that is new, or what was added to one that was imported before.
//!
//! Of what is there already a line may have a part from the beginning, all of it, or all of it and more: the first two are
//! skipped, more is added. A line that says something else than is stored is refused, by the number of the event. What is
//! compared is read only for who sees the conversation. Start at [`Importer::prepare_history`] and
//! [`Importer::prepare_grown_transcript`].

use super::payload::{Beginning, PayloadError, payload};
use super::resolve::{Parties, derived, resolve};
use super::stored::Stored;
use super::{By, EventType, History, HistoryEvent, VisitorParty};
use crate::core::command::{AgentDetails, CommandKind, ImportedEvent, ImportedHistory, NewAgent, NewVisitor};
use crate::core::state::{Conversation, Status};
use crate::import::parse::Bad;
use crate::import::transcript::{Party, Transcript};
use crate::import::{ImportError, Importer, MAX_CONCURRENT_CHATS, Prepared, email_hmac, look_up};
use crate::store::read;
use crate::view::Browser;
use ingest::id::{AgentId, ConversationId, PersonId, TenantId, ThreadId, VisitorId};
use ingest::payload::{AuthorType, Role};
use ingest::seal::PersonKey;
use ingest::sqlite::NewPersonKey;
use ingest::sqlite::person_keys::PersonKeyError;
use ingest::time::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;

/// The most events of an imported conversation, over all its lines: importing one again reads all of them.
pub const CONVERSATION_EVENTS_MAX: u64 = 100_000;
/// The most threads of an imported conversation, in one row of the state.
pub const THREADS_MAX: usize = 2_000;
/// The most tags that an import puts on a conversation, in the same row.
pub const CONVERSATION_TAGS_MAX: usize = 1_000;
/// The most conversations of a visitor who turned out to be another: they change hands in one event.
pub const MERGED_CONVERSATIONS_MAX: i64 = 1_000;

/// What of a line is new.
enum Compared {
    /// Nothing.
    Nothing,
    /// The events from this one on.
    From(usize),
    /// It says something else.
    Differs(Bad),
}

/// Keys of persons, those that are new among them.
struct Keys<'a> {
    importer: &'a Importer,
    new: Vec<NewPersonKey>,
}

impl Keys<'_> {
    fn of(&mut self, person: PersonId) -> Result<Arc<PersonKey>, ImportError> {
        let (key, new) = self.importer.keys.get_or_create(person)?;
        self.new.extend(new);
        Ok(key)
    }

    /// Nothing was written under the new ones.
    fn give_up(self) {
        self.new.into_iter().for_each(|new| self.importer.keys.confirm(new.person, false));
    }
}

impl Importer {
    /// The conversation that a line is about, if nothing about it is under way.
    fn conversation(&self, tenant: TenantId, id: &str) -> Result<(ConversationId, Option<Conversation>), ImportError> {
        let derived = derived!(ConversationId, tenant, id);
        let found = self.pool.read(|connection| read::conversation(connection, tenant, derived))?;
        Ok((derived, found))
    }

    /// Whether the line is this tenant's own, from an export: it has the conversation's own id.
    pub(in crate::import) fn is_own(&self, tenant: TenantId, id: &str) -> Result<bool, ImportError> {
        let Ok(own) = id.parse::<ConversationId>() else { return Ok(false) };
        Ok(self.pool.read(|connection| read::conversation(connection, tenant, own))?.is_some())
    }

    /// Whether nothing of it can be compared any more.
    fn is_erased(&self, chat: &Conversation) -> Result<bool, ImportError> {
        let visitor = self.pool.read(|connection| read::visitor(connection, chat.tenant, chat.visitor))?;
        Ok(visitor.is_some_and(|visitor| visitor.erased_at.is_some()))
    }

    /// A checked line of format 2 as what is to be done.
    pub(in crate::import) fn prepare_history(
        &mut self,
        tenant: TenantId,
        mut history: History,
    ) -> Result<Prepared, ImportError> {
        let (id, chat) = self.conversation(tenant, &history.id)?;
        if self.under_way.contains(&id) {
            return Ok(Prepared::Wait);
        }
        if self.is_own(tenant, &history.id)? {
            return Ok(Prepared::Skip);
        }
        if let Some(chat) = &chat {
            if !self.reach.visible.covers_chat(chat) {
                return Ok(Prepared::Skip);
            }
            if self.is_erased(chat)? {
                let ends = u64::from(chat.unresolved.is_some());
                let grew = history.after + history.events.len() as u64 > chat.last_seq - ends;
                return Ok(if grew { Prepared::Bad(erased()) } else { Prepared::Skip });
            }
        }
        let parties = match resolve(self, tenant, &mut history, id, chat.as_ref())? {
            Ok(parties) => parties,
            Err(bad) => return Ok(Prepared::Bad(bad)),
        };
        let compared = match &chat {
            Some(chat) => self.compare(chat, &mut history)?,
            None if history.after > 0 => Compared::Differs(missing(0)),
            None => Compared::From(0),
        };
        let from = match compared {
            Compared::Nothing => return Ok(Prepared::Skip),
            Compared::Differs(bad) => return Ok(Prepared::Bad(bad)),
            Compared::From(from) => from,
        };
        if let Some(bad) = too_much(&history, chat.as_ref()).or(self.other_visitor(tenant, &history, chat.as_ref())?) {
            return Ok(Prepared::Bad(bad));
        }
        if self.makes_groups && !parties.new_groups.is_empty() {
            return Ok(Prepared::Wait);
        }
        history.events.drain(..from);
        self.history_command(tenant, id, chat.map_or(0, |chat| chat.last_seq), history, parties)
    }

    /// Compares a line with what is stored.
    fn compare(&self, chat: &Conversation, history: &mut History) -> Result<Compared, ImportError> {
        let mut stored = Stored::of(&self.pool, &self.keys, chat.id);
        for before in 0..history.after {
            if stored.next()?.is_none() {
                return Ok(Compared::Differs(missing(before)));
            }
        }
        for (index, event) in history.events.iter().enumerate() {
            let Some(before) = stored.next()? else {
                let went_on = || Compared::Differs(went_on(format!("events[{index}]")));
                return Ok(if stored.went_on_here { went_on() } else { Compared::From(index) });
            };
            if comparable(before) != comparable(event.clone()) {
                return Ok(Compared::Differs(differs(format!("events[{index}]"))));
            }
        }
        Ok(Compared::Nothing)
    }

    /// Whether the line's visitors can't be the conversation's, or have too much to change hands.
    fn other_visitor(
        &self,
        tenant: TenantId,
        history: &History,
        chat: Option<&Conversation>,
    ) -> Result<Option<Bad>, ImportError> {
        let owner = derived!(VisitorId, tenant, history.visitor.id);
        let merged: Vec<VisitorId> =
            history.merged_visitors.iter().map(|visitor| derived!(VisitorId, tenant, visitor.id)).collect();
        let is_other = chat.is_some_and(|chat| chat.visitor != owner && !merged.contains(&chat.visitor));
        if is_other || merged.contains(&owner) {
            let detail = "the line's visitor isn't the one whose conversation this is";
            return Ok(Some(Bad::field("visitor", "visitor_differs", detail)));
        }
        for source in merged {
            let sql = "SELECT count(*) FROM (SELECT 1 FROM conversations WHERE visitor = ?1 LIMIT ?2)";
            let limit = MERGED_CONVERSATIONS_MAX + 1;
            let count = self.pool.read(|connection| {
                connection.prepare_cached(sql)?.query_row((source.bytes(), limit), |row| row.get::<_, i64>(0))
            })?;
            if count == limit {
                let detail = format!("a merged visitor has more than {MERGED_CONVERSATIONS_MAX} conversations here");
                return Ok(Some(Bad::field("mergedVisitors", "too_many", detail)));
            }
        }
        Ok(None)
    }

    fn history_command(
        &mut self,
        tenant: TenantId,
        conversation_id: ConversationId,
        after_seq: u64,
        history: History,
        parties: Parties,
    ) -> Result<Prepared, ImportError> {
        let makes_groups = !parties.new_groups.is_empty();
        let mut keys = Keys { importer: self, new: Vec::new() };
        match seal_history(&mut keys, tenant, (conversation_id, after_seq), history, parties) {
            Ok(import) => {
                let kind = CommandKind::ImportHistory(Box::new(import));
                let submission = crate::domain::Submission { keys: keys.new, command: self.command(tenant, kind) };
                self.makes_groups |= makes_groups;
                Ok(Prepared::Ready(Box::new(submission), conversation_id))
            }
            Err(error) => {
                keys.give_up();
                Err(error)
            }
        }
    }

    /// A transcript of format 1 whose conversation is there already: what was added to it. `None` when it's a new one.
    pub(in crate::import) fn prepare_grown_transcript(
        &mut self,
        tenant: TenantId,
        transcript: &Transcript,
    ) -> Result<Option<Prepared>, ImportError> {
        let (id, chat) = self.conversation(tenant, &transcript.id)?;
        if self.under_way.contains(&id) {
            return Ok(Some(Prepared::Wait));
        }
        if self.is_own(tenant, &transcript.id)? {
            return Ok(Some(Prepared::Skip));
        }
        let Some(chat) = chat else { return Ok(None) };
        if !self.reach.visible.covers_chat(&chat) {
            return Ok(Some(Prepared::Skip));
        }
        if self.is_erased(&chat)? {
            let said = transcript.messages.iter().filter(|message| message.from == AuthorType::Visitor).count() as u64;
            return Ok(Some(if said > chat.visitor_messages { Prepared::Bad(erased()) } else { Prepared::Skip }));
        }
        let from = match self.compare_messages(&chat, transcript)? {
            Compared::Nothing => return Ok(Some(Prepared::Skip)),
            Compared::Differs(bad) => return Ok(Some(Prepared::Bad(bad))),
            Compared::From(from) => from,
        };
        let (history, agents) = grown(tenant, &chat, transcript, from);
        let new = agents.into_iter().filter_map(|(agent, party)| {
            let known = self.pool.read(|connection| read::agent(connection, tenant, agent));
            known.map(|known| known.is_none().then_some((agent, party))).transpose()
        });
        let parties = Parties { new_agents: new.collect::<Result<_, _>>()?, new_groups: Vec::new() };
        if let Some(bad) = too_much(&history, Some(&chat)) {
            return Ok(Some(Prepared::Bad(bad)));
        }
        self.history_command(tenant, id, chat.last_seq, history, parties).map(Some)
    }

    fn compare_messages(&self, chat: &Conversation, transcript: &Transcript) -> Result<Compared, ImportError> {
        let mut stored = Stored::of(&self.pool, &self.keys, chat.id);
        let mut index = 0;
        while let Some(event) = stored.next()? {
            if event.r#type == EventType::ConversationStarted && event.exact.is_none() {
                return Ok(Compared::Differs(differs("format".to_owned())));
            }
            if event.r#type != EventType::Message {
                continue;
            }
            let Some(message) = transcript.messages.get(index) else { return Ok(Compared::Nothing) };
            index += 1;
            let author = event.from.unwrap_or_else(|| event.by.author());
            let at = Timestamp::parse_rfc3339(&message.at).unwrap_or_default().to_string();
            if (at, author, Some(&message.text)) != (event.at, message.from, event.text.as_ref()) {
                return Ok(Compared::Differs(differs(format!("messages[{}]", index - 1))));
            }
        }
        Ok(match index {
            index if index == transcript.messages.len() => Compared::Nothing,
            index if stored.went_on_here => Compared::Differs(went_on(format!("messages[{index}]"))),
            index => Compared::From(index),
        })
    }
}

fn erased() -> Bad {
    let detail = "this visitor's data was erased; who comes back is imported under another visitor id";
    Bad::line("person_erased", detail)
}

fn missing(there: u64) -> Bad {
    Bad::field("after", "events_missing", format!("the line goes on after events of which only {there} are there"))
}

fn differs(what: String) -> Bad {
    Bad::field(what, "conversation_differs", "the conversation is there already, and says something else here")
}

fn went_on(what: String) -> Bad {
    Bad::field(what, "went_on_here", "the conversation went on here since, so this can't follow")
}

/// What is compared: the chatbot and the conversation before may have come since, or not have been taken.
fn comparable(mut event: HistoryEvent) -> HistoryEvent {
    (event.chatbot, event.continues) = (None, None);
    event
}

/// Whether the conversation would become too large.
fn too_much(history: &History, chat: Option<&Conversation>) -> Option<Bad> {
    let threads: HashSet<&str> = history.events.iter().filter_map(|event| event.thread.as_deref()).collect();
    let known = chat.map_or(0, |chat| chat.threads.len());
    let tags: usize = history.events.iter().map(|event| event.tags.len() + event.add.len()).sum();
    let tagged = chat.map_or(0, |chat| chat.tags.len());
    let what = if history.after + history.events.len() as u64 > CONVERSATION_EVENTS_MAX {
        format!("{CONVERSATION_EVENTS_MAX} events")
    } else if threads.len() + known > THREADS_MAX {
        format!("{THREADS_MAX} threads")
    } else if tags + tagged > CONVERSATION_TAGS_MAX {
        format!("{CONVERSATION_TAGS_MAX} tags")
    } else {
        return None;
    };
    Some(Bad::line("conversation_too_large", format!("the conversation would have more than {what}")))
}

/// What a grown transcript adds, as events; its one agent.
fn grown(
    tenant: TenantId,
    chat: &Conversation,
    transcript: &Transcript,
    from: usize,
) -> (History, Option<(AgentId, Party)>) {
    let agent = transcript.agent.as_ref().map(|party| (derived!(AgentId, tenant, party.id), party.clone()));
    let visitor = By::Visitor(derived!(VisitorId, tenant, transcript.visitor.id).to_string());
    let agent_id = agent.as_ref().map(|(id, _)| id.to_string());
    let helper = agent_id.clone().map_or(By::System, By::Agent);
    let by = |from: AuthorType| match from {
        AuthorType::Visitor => visitor.clone(),
        AuthorType::Agent => helper.clone(),
        AuthorType::Bot => By::Bot,
    };
    let reopened = chat.status == Status::Resolved;
    let place = from.to_le_bytes();
    let thread = if reopened { ThreadId::derived(&[chat.id.bytes(), b"message", &place]) } else { chat.thread().id };
    let thread = Some(thread.to_string());
    let new = &transcript.messages[from..];
    let event = |r#type, by: By, at: &str| HistoryEvent { at: at.to_owned(), r#type, by, ..HistoryEvent::default() };
    let mut events = Vec::with_capacity(new.len() + 4);
    if let Some(first) = new.first().filter(|_| reopened) {
        events.push(HistoryEvent { thread: thread.clone(), ..event(EventType::Reopened, by(first.from), &first.at) });
    }
    events.extend(new.iter().map(|message| HistoryEvent {
        thread: thread.clone(),
        text: Some(message.text.clone()),
        ..event(EventType::Message, by(message.from), &message.at)
    }));
    if let Some(last) = new.last() {
        let add: Vec<String> = transcript.tags.iter().filter(|tag| !chat.tags.contains(*tag)).cloned().collect();
        if !add.is_empty() {
            events.push(HistoryEvent { add, ..event(EventType::Tagged, By::System, &last.at) });
        }
        if transcript.resolved {
            let resolved = event(EventType::Resolved, helper.clone(), &last.at);
            events.push(HistoryEvent { thread: thread.clone(), agent: agent_id.clone(), ..resolved });
        }
        if transcript.rating.is_some() && transcript.rating != chat.rating {
            let rated = event(EventType::Rated, visitor.clone(), &last.at);
            events.push(HistoryEvent { thread, agent: agent_id, score: transcript.rating, ..rated });
        }
    }
    let Party { id, name, email } = transcript.visitor.clone();
    let history = History {
        format: super::FORMAT,
        id: transcript.id.clone(),
        tenant: None,
        after: 0,
        visitor: VisitorParty { id, name, email, phone: None, metadata: None },
        merged_visitors: Vec::new(),
        agents: Vec::new(),
        groups: Vec::new(),
        chatbot: None,
        events,
    };
    (history, agent)
}

/// The line's words under their persons' keys.
fn seal_history(
    keys: &mut Keys<'_>,
    tenant: TenantId,
    (conversation_id, after_seq): (ConversationId, u64),
    history: History,
    parties: Parties,
) -> Result<ImportedHistory, ImportError> {
    let visitor = new_visitor(keys, tenant, &history.visitor)?;
    let merged = history.merged_visitors.iter().map(|merged| new_visitor(keys, tenant, merged));
    let merged = merged.collect::<Result<Vec<_>, _>>()?;
    let agents = parties.new_agents.into_iter().map(|(id, party)| new_agent(keys, id, party));
    let agents = agents.collect::<Result<Vec<_>, _>>()?;
    let key = keys.of(visitor.visitor_id.into())?;
    let beginning = Beginning { external_id: &history.id, visitor_has_email: visitor.email.is_some() };
    let events = history.events.into_iter().map(|event| match payload(event, &key, &beginning) {
        Ok(event) => Ok(event),
        Err(PayloadError::Seal(error)) => Err(ImportError::Key(PersonKeyError::from(error))),
        Err(PayloadError::Unchecked) => Err(ImportError::Thread(std::io::Error::other("an event wasn't checked"))),
    });
    let events = events.collect::<Result<Vec<ImportedEvent>, ImportError>>()?;
    let external_id = history.id;
    let groups = parties.new_groups;
    Ok(ImportedHistory { conversation_id, external_id, after_seq, visitor, merged, agents, groups, events })
}

fn new_visitor(keys: &mut Keys<'_>, tenant: TenantId, party: &VisitorParty) -> Result<NewVisitor, ImportError> {
    let visitor_id = derived!(VisitorId, tenant, party.id);
    let key = keys.of(visitor_id.into())?;
    let seal = |text: Option<&str>| text.map(|text| key.seal(text)).transpose().map_err(PersonKeyError::from);
    let metadata = party.metadata.clone().map(|own| Browser { metadata: Some(own.0), ..Browser::default() });
    let metadata = metadata.map(|about| serde_json::to_string(&about).expect("an object of texts is written as JSON"));
    Ok(NewVisitor {
        visitor_id,
        readable_id: pipelines::readable_id(&visitor_id.to_string()),
        name: seal(party.name.as_deref())?,
        email: seal(party.email.as_deref())?,
        look_up: look_up(&keys.importer.key_file, tenant, party.email.as_deref(), party.name.as_deref()),
        phone: seal(party.phone.as_deref())?,
        metadata: seal(metadata.as_deref())?,
        external_ref: seal(Some(&party.id))?,
        user_id: None,
    })
}

fn new_agent(keys: &mut Keys<'_>, agent_id: AgentId, party: Party) -> Result<NewAgent, ImportError> {
    let key = keys.of(agent_id.into())?;
    let seal = |text: &str| key.seal(text).map_err(PersonKeyError::from);
    Ok(NewAgent {
        agent_id,
        name: seal(party.name.as_deref().unwrap_or(&party.id))?,
        email: party.email.as_deref().map(seal).transpose()?,
        email_hmac: party.email.map(|email| email_hmac(&keys.importer.key_file, &email)),
        password_hash: None,
        role: Role::Agent,
        max_concurrent_chats: MAX_CONCURRENT_CHATS,
        external_id: Some(party.id),
        details: AgentDetails::default(),
    })
}
