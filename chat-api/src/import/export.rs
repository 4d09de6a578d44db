//! A tenant's conversations as lines of format 2: what an import reads. Start at [`Exporter`].
//!
//! Conversations are written in order of their ids, a few events at a time: what is held is those, and the names of who took part
//! in a line, however long a conversation is and however many there are. A line's events are looked through twice: once for who
//! is in them, which stands first, and once to be written. A conversation with more than a line may hold goes on in a further one.

use super::history::check::{CANDIDATES_MAX, EVENTS_MAX, MERGED_VISITORS_MAX, PARTIES_MAX};
use super::history::describe::describe;
use super::history::{FORMAT, Name, Named, OwnFields, VisitorParty};
use super::parse::LINE_BYTES_MAX;
use super::transcript::Party;
use crate::core::state::Conversation;
use crate::store::read;
use crate::view::{Browser, ViewError, Views};
use ingest::event::Event;
use ingest::id::{AgentId, ChatbotId, ConversationId, GroupId, TenantId, VisitorId};
use ingest::seal::{Text, Unreadable};
use ingest::sqlite::{EmbeddedLog, ReadPool};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

/// Conversations whose ids are read at a time.
const IDS_PAGE: i64 = 500;
/// Events that are read at a time; an event has at most 256 KiB.
const HISTORY_PAGE: usize = 16;
/// A line ends after the event that takes it past this: the longest event, however it's spelled, still fits.
const LINE_BYTES: usize = LINE_BYTES_MAX - 2 * 1024 * 1024;

/// What an export shows of people beside what conversations do.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// Agents' addresses.
    pub agents: bool,
    /// Visitors' telephone numbers.
    pub visitors: bool,
}

/// A tenant's conversations being written.
pub struct Exporter {
    tenant: TenantId,
    shown: Shown,
    after: Option<ConversationId>,
    ids: VecDeque<ConversationId>,
    open: Option<Open>,
    done: u64,
}

/// A conversation of which a part is written.
struct Open {
    chat: Conversation,
    shown: Shown,
    /// The last event that was written, or passed.
    after: u64,
    /// Events that were written.
    place: u64,
    line: Line,
}

/// The line under way.
enum Line {
    /// Who is in it is looked for.
    Survey(Survey),
    /// It's written.
    Writing { names: Names, until: u64, bytes: usize, is_first: bool },
}

/// Who and what a line's events name, up to an event.
#[derive(Default)]
struct Survey {
    visitors: BTreeSet<VisitorId>,
    agents: BTreeSet<AgentId>,
    groups: BTreeSet<GroupId>,
    chatbot: Option<ChatbotId>,
    continues: Option<ConversationId>,
    events: usize,
    until: u64,
}

/// What a line calls whom.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

/// What a line says before its events.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    format: u8,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    visitor: VisitorParty,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    merged_visitors: Vec<VisitorParty>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    agents: Vec<Party>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chatbot: Option<Named>,
}

impl Exporter {
    /// All of the tenant's, from the first.
    #[must_use]
    pub fn new(tenant: TenantId, shown: Shown) -> Self {
        Self { tenant, shown, after: None, ids: VecDeque::new(), open: None, done: 0 }
    }

    /// Conversations that are done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Writes on, a little; `false` when all is written.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn step(&mut self, pool: &ReadPool, views: &Views, out: &mut Vec<u8>) -> Result<bool, ViewError> {
        if let Some(open) = &mut self.open {
            if !open.step(pool, views, out)? {
                self.open = None;
                self.done += 1;
            }
            return Ok(true);
        }
        if self.ids.is_empty() {
            self.ids = ids_after(pool, self.tenant, self.after)?;
        }
        let Some(id) = self.ids.pop_front() else { return Ok(false) };
        self.after = Some(id);
        let found = pool.read(|connection| {
            let Some(chat) = read::conversation(connection, self.tenant, id)? else { return Ok(None) };
            let visitor = read::visitor(connection, self.tenant, chat.visitor)?;
            // Of who was erased nothing is left to carry on.
            Ok(Some(chat).filter(|_| visitor.is_none_or(|visitor| visitor.erased_at.is_none())))
        })?;
        let words = found.as_ref().and_then(|chat| chat.last_message.as_ref());
        let gone = match words {
            Some(words) => matches!(views.text(&words.content)?, Text::Unreadable(Unreadable::Erased)),
            None => false,
        };
        if let Some(chat) = found.filter(|_| !gone) {
            let line = Line::Survey(Survey::default());
            self.open = Some(Open { chat, shown: self.shown, after: 0, place: 0, line });
        }
        Ok(true)
    }
}

fn ids_after(
    pool: &ReadPool,
    tenant: TenantId,
    after: Option<ConversationId>,
) -> rusqlite::Result<VecDeque<ConversationId>> {
    pool.read(|connection| {
        let sql = "SELECT id FROM conversations WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
        let after = after.map_or([0; 16], |id| *id.bytes());
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map((tenant.bytes(), after, IDS_PAGE), |row| row.get::<_, [u8; 16]>(0))?;
        rows.map(|id| id.map(|id| ConversationId(Uuid::from_bytes(id)))).collect()
    })
}

impl Survey {
    /// Takes in one more event, if the line has room for it and who is in it.
    fn see(&mut self, event: &Event) -> bool {
        if self.events == EVENTS_MAX
            || self.agents.len() + 4 + CANDIDATES_MAX > PARTIES_MAX
            || self.groups.len() == PARTIES_MAX
            || self.visitors.len() == MERGED_VISITORS_MAX
        {
            return false;
        }
        self.until = event.seq;
        let words = |_: &_| Ok::<_, std::convert::Infallible>(Text::Readable(String::new()));
        let Ok(Some(mut line)) = describe(event, words) else { return true };
        self.events += 1;
        let Ok(()) = line.each_name(|kind, name| {
            match kind {
                Name::Visitor => self.visitors.extend(name.parse::<VisitorId>()),
                Name::Agent => self.agents.extend(name.parse::<AgentId>()),
                Name::Group => self.groups.extend(name.parse::<GroupId>()),
                Name::Chatbot => self.chatbot = name.parse().ok(),
                Name::Conversation => self.continues = name.parse().ok(),
                Name::Thread => {}
            }
            Ok::<_, std::convert::Infallible>(())
        });
        true
    }
}

impl Open {
    /// Looks through a few events more, or writes them; `false` when the conversation is done.
    fn step(&mut self, pool: &ReadPool, views: &Views, out: &mut Vec<u8>) -> Result<bool, ViewError> {
        match &mut self.line {
            Line::Survey(survey) => {
                let page = EmbeddedLog::history(pool, self.chat.id, self.after.max(survey.until), HISTORY_PAGE)?;
                let is_full = page.items.is_empty() || !page.values().all(|record| survey.see(&record.event));
                if !is_full {
                    return Ok(true);
                }
                if survey.events == 0 {
                    return Ok(false);
                }
                let survey = std::mem::take(survey);
                let until = survey.until;
                let (head, names) = self.head(survey, pool, views)?;
                write(out, &head);
                // The object goes on.
                out.pop();
                out.extend_from_slice(b",\"events\":[");
                self.line = Line::Writing { names, until, bytes: 0, is_first: true };
                Ok(true)
            }
            Line::Writing { .. } => self.write_events(pool, views, out).map(|()| true),
        }
    }

    fn write_events(&mut self, pool: &ReadPool, views: &Views, out: &mut Vec<u8>) -> Result<(), ViewError> {
        let Line::Writing { names, until, bytes, is_first } = &mut self.line else { return Ok(()) };
        let page = EmbeddedLog::history(pool, self.chat.id, self.after, HISTORY_PAGE)?;
        let mut is_over = page.items.is_empty();
        for record in page.values() {
            is_over |= self.after >= *until || *bytes > LINE_BYTES;
            if is_over {
                break;
            }
            self.after = record.event.seq;
            let Some(mut line) = describe(&record.event, |sealed| views.text(sealed))? else { continue };
            names.put(&mut line);
            if !std::mem::take(is_first) {
                out.push(b',');
            }
            let before = out.len();
            write(out, &line);
            *bytes += out.len() - before;
            self.place += 1;
        }
        if is_over || self.after >= *until {
            out.extend_from_slice(b"]}\n");
            self.line = Line::Survey(Survey { until: self.after, ..Survey::default() });
        }
        Ok(())
    }

    /// What stands before the events, and what these call whom.
    fn head(&self, survey: Survey, pool: &ReadPool, views: &Views) -> Result<(Head, Names), ViewError> {
        let (chat, tenant) = (&self.chat, self.chat.tenant);
        let mut names = Names::default();
        let visitor = self.visitor(chat.visitor, pool, views, &mut names)?;
        let others = survey.visitors.into_iter().filter(|id| *id != chat.visitor);
        let merged_visitors =
            others.map(|id| self.visitor(id, pool, views, &mut names)).collect::<Result<Vec<_>, _>>()?;
        let agents = survey.agents.into_iter().map(|id| self.agent(id, pool, views, &mut names));
        let agents = agents.collect::<Result<Vec<_>, _>>()?;
        let (groups, chatbot, before) = pool.read(|connection| {
            let group = |id: GroupId| {
                let found = read::group(connection, tenant, id)?;
                rusqlite::Result::Ok(Named { id: id.to_string(), name: found.map(|group| group.name) })
            };
            let groups = survey.groups.into_iter().map(group).collect::<rusqlite::Result<Vec<_>>>()?;
            let chatbot = match survey.chatbot {
                Some(id) => {
                    let found = read::chatbot(connection, tenant, id)?;
                    Some(Named { id: id.to_string(), name: found.map(|chatbot| chatbot.name) })
                }
                None => None,
            };
            let before = survey.continues.map(|id| read::conversation(connection, tenant, id)).transpose()?.flatten();
            Ok((groups, chatbot, before))
        })?;
        if let Some((id, external)) = before.and_then(|before| Some((before.id, before.external_id?))) {
            names.0.insert(id.to_string(), external);
        }
        let id = chat.external_id.clone().unwrap_or_else(|| chat.id.to_string());
        let after = Some(self.place).filter(|place| *place > 0);
        Ok((Head { format: FORMAT, id, after, visitor, merged_visitors, agents, groups, chatbot }, names))
    }

    fn visitor(
        &self,
        id: VisitorId,
        pool: &ReadPool,
        views: &Views,
        names: &mut Names,
    ) -> Result<VisitorParty, ViewError> {
        let own = id.to_string();
        let found = pool.read(|connection| read::visitor(connection, self.chat.tenant, id))?;
        let Some(found) = found else {
            return Ok(VisitorParty { id: own, name: None, email: None, phone: None, metadata: None });
        };
        let external = views.shown(found.external_ref.as_ref())?.or(found.external_id);
        let id = names.call(own, external);
        let about = views.shown(found.metadata.as_ref())?;
        let about = about.and_then(|about| serde_json::from_str::<Browser>(&about).ok()).unwrap_or_default();
        Ok(VisitorParty {
            name: views.shown(found.name.as_ref())?.filter(|name| *name != id),
            id,
            email: views.shown(found.email.as_ref())?,
            phone: views.shown(found.phone.as_ref().filter(|_| self.shown.visitors))?,
            metadata: about.metadata.filter(|own| !own.is_empty()).map(OwnFields),
        })
    }

    fn agent(&self, id: AgentId, pool: &ReadPool, views: &Views, names: &mut Names) -> Result<Party, ViewError> {
        let own = id.to_string();
        let found = pool.read(|connection| read::agent(connection, self.chat.tenant, id))?;
        let Some(found) = found else { return Ok(Party { id: own, name: None, email: None }) };
        let id = names.call(own, found.external_id);
        let name = views.shown(Some(&found.name))?.filter(|name| *name != id);
        let email = views.shown(found.email.as_ref().filter(|_| self.shown.agents))?;
        Ok(Party { id, name, email })
    }
}

impl Names {
    /// Notes what somebody is called who has an id of their own here.
    fn call(&mut self, own: String, external: Option<String>) -> String {
        let Some(external) = external else { return own };
        self.0.insert(own, external.clone());
        external
    }

    fn put(&self, line: &mut super::history::HistoryEvent) {
        let Ok(()) = line.each_name(|_, name| {
            if let Some(external) = self.0.get(name) {
                name.clone_from(external);
            }
            Ok::<_, std::convert::Infallible>(())
        });
    }
}

fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("texts and numbers are written as JSON");
}
