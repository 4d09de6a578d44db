//! Conversations as rows: two years of a busy tenant, oldest first.

use super::People;
use anyhow::Context as _;
use chat_api::app::App;
use chat_api::core::command::LookUp;
use chat_api::core::state::{
    Conversation, Key, LastMessage, Queued, State, Status, Thread, ThreadClosed, Timers, Unread, Visitor,
};
use chat_api::import::look_up;
use chat_api::store::{persons, save};
use fastrand::Rng;
use ingest::id::{AgentId, ConversationId, GroupId, PersonId, TenantId, ThreadId, VisitorId};
use ingest::seal::PersonKey;
use ingest::sqlite::NewPersonKey;
use ingest::time::Timestamp;
use std::collections::BTreeSet;

/// Conversations written in one transaction.
const BATCH: usize = 5_000;
/// The share of those that are still talked in is one in so many; of those that wait, a quarter of it.
const OPEN_ONE_IN: usize = 150;
/// One in so many starts with a new visitor, the others with one of the last.
const NEW_VISITOR_PERCENT: usize = 40;
/// Visitors of whom a new conversation may be.
const RECENT_VISITORS: usize = 5_000;
/// The time that all conversations span.
const SPAN_MS: i64 = 2 * 365 * 24 * 3_600_000;
/// What is remembered to ask for is one in so many.
const SAMPLE_ONE_IN: usize = 100;
/// Tags, the later the rarer.
const TAGS: usize = 30;
const FIRST_NAMES: usize = 200;
const LAST_NAMES: usize = 4_000;

/// Some of what was written: of each of these conversations all of this, at the same place.
#[derive(Default)]
pub struct Sample {
    /// Its id.
    pub ids: Vec<String>,
    /// When it last changed, in milliseconds.
    pub times: Vec<i64>,
    /// Its visitor's name.
    pub names: Vec<String>,
    /// Its visitor's address.
    pub emails: Vec<String>,
    /// Its visitor's readable id.
    pub readable: Vec<String>,
}

impl Sample {
    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.ids.len()
    }
}

/// A first name that many have.
pub fn first_name(number: usize) -> &'static str {
    const NAMES: [&str; 8] = ["anna", "ben", "clara", "david", "elif", "felix", "greta", "hugo"];
    NAMES[number % NAMES.len()]
}

/// Any tag, also the rare ones.
pub fn tag(rng: &mut Rng) -> String {
    format!("tag-{}", rng.usize(..TAGS))
}

#[derive(Clone)]
struct Known {
    visitor: VisitorId,
    name: String,
    email: String,
    readable: String,
}

struct Rows<'a> {
    app: &'a App,
    tenant: TenantId,
    agents: Vec<AgentId>,
    groups: Vec<GroupId>,
    total: usize,
    rng: Rng,
    started: Timestamp,
    recent: Vec<Known>,
    sample: Sample,
}

/// What goes into one transaction.
#[derive(Default)]
struct Batch {
    state: State,
    keys: Vec<NewPersonKey>,
    look_ups: Vec<(VisitorId, LookUp, Timestamp)>,
}

/// Writes `total` conversations of the tenant.
///
/// # Errors
/// When they can't be written.
pub async fn fill(app: &App, people: &People, total: usize) -> anyhow::Result<Sample> {
    let agents = people.agents.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
    let groups = people.groups.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
    let mut rows = Rows {
        app,
        tenant: people.tenant.parse()?,
        agents,
        groups,
        total,
        rng: Rng::with_seed(7),
        started: Timestamp::now().plus_ms(-SPAN_MS),
        recent: Vec::new(),
        sample: Sample::default(),
    };
    for first in (0..total).step_by(BATCH) {
        let mut batch = Batch::default();
        for number in first..(first + BATCH).min(total) {
            rows.conversation(&mut batch, number)?;
        }
        let Batch { mut state, keys, look_ups } = batch;
        let tenant = rows.tenant;
        let persons: Vec<PersonId> = keys.iter().map(|key| key.person).collect();
        let write = move |connection: &rusqlite::Connection| {
            keys.iter().try_for_each(|key| key.store(connection))?;
            look_ups.iter().try_for_each(|(id, look_up, at)| persons::set(connection, tenant, *id, look_up, *at))?;
            save::save(connection, &mut state)
        };
        app.writer.transact(write).await?;
        persons.into_iter().for_each(|person| app.keys.confirm(person, true));
    }
    Ok(rows.sample)
}

impl Rows<'_> {
    fn conversation(&mut self, batch: &mut Batch, number: usize) -> anyhow::Result<()> {
        let step = SPAN_MS / i64::try_from(self.total)?;
        let created_at = self.started.plus_ms(step * i64::try_from(number)?);
        let known = self.visitor(batch, created_at)?;
        let key = self.app.keys.get_or_create(known.visitor.into())?;
        if let Some(new) = key.1 {
            batch.keys.push(new);
        }
        let chat = self.chat(&key.0, number, known.visitor, created_at)?;
        if number.is_multiple_of(SAMPLE_ONE_IN) {
            self.sample.ids.push(chat.id.to_string());
            self.sample.times.push(chat.updated_at.0);
            self.sample.names.push(known.name);
            self.sample.emails.push(known.email);
            self.sample.readable.push(known.readable);
        }
        batch.state.dirty.insert(Key::Conversation(chat.id));
        batch.state.conversations.insert(chat.id, chat);
        Ok(())
    }

    fn visitor(&mut self, batch: &mut Batch, created_at: Timestamp) -> anyhow::Result<Known> {
        let old = !self.recent.is_empty() && self.rng.usize(..100) >= NEW_VISITOR_PERCENT;
        if old {
            let at = self.rng.usize(..self.recent.len());
            return Ok(self.recent[at].clone());
        }
        let id = VisitorId::fresh();
        let first = self.rng.usize(..FIRST_NAMES);
        let first = if first < 8 { first_name(first).to_owned() } else { format!("first{first}") };
        let last = format!("last{}", self.rng.usize(..LAST_NAMES));
        let (name, email) = (format!("{first} {last}"), format!("{id}@mail.example"));
        let (key, new) = self.app.keys.get_or_create(id.into())?;
        batch.keys.push(new.context("a new person's key is new")?);
        let readable = pipelines::readable_id(&id.to_string());
        let about = r#"{"userAgent":"Mozilla/5.0","referrer":null,"ipAddress":"192.0.2.7","metadata":{"plan":"pro"}}"#;
        let visitor = Visitor {
            id,
            tenant: self.tenant,
            readable_id: readable.clone(),
            name: Some(key.seal(&name)?),
            email: Some(key.seal(&email)?),
            phone: None,
            metadata: Some(key.seal(about)?),
            page: None,
            external_id: None,
            external_ref: None,
            user_id: None,
            merged_into: None,
            welcomed: true,
            last_agent: None,
            blocked_at: None,
            erased_at: None,
            created_at,
        };
        let look_up = look_up(&self.app.key_file, self.tenant, Some(&email), Some(&name));
        batch.look_ups.push((id, look_up, created_at));
        batch.state.dirty.insert(Key::Visitor(id));
        batch.state.visitors.insert(id, visitor);
        let known = Known { visitor: id, name, email, readable };
        if self.recent.len() == RECENT_VISITORS {
            let at = self.rng.usize(..RECENT_VISITORS);
            self.recent[at] = known.clone();
        } else {
            self.recent.push(known.clone());
        }
        Ok(known)
    }

    fn chat(
        &mut self,
        key: &PersonKey,
        number: usize,
        visitor: VisitorId,
        created_at: Timestamp,
    ) -> anyhow::Result<Conversation> {
        // The newest are open.
        let left = self.total - number;
        let status = match left {
            left if left <= self.total / OPEN_ONE_IN / 4 => Status::Pending,
            left if left <= self.total / OPEN_ONE_IN => Status::Active,
            left if left <= self.total / 50 => Status::Resolved,
            _ => Status::Closed,
        };
        let updated_at = created_at.plus_ms(self.rng.i64(1_000..3 * 24 * 3_600_000));
        let agent = self.agents[self.rng.usize(..self.agents.len())];
        let waits = status == Status::Pending;
        let thread = ThreadId::fresh();
        let closed = ThreadClosed { at: updated_at, by: "agent".to_owned(), reason: "resolved".to_owned() };
        let over = matches!(status, Status::Resolved | Status::Closed);
        let threads = vec![
            Thread {
                id: ThreadId::fresh(),
                created_at,
                closed: Some(ThreadClosed { reason: "agent_assigned".to_owned(), ..closed.clone() }),
            },
            Thread { id: thread, created_at, closed: over.then_some(closed) },
        ];
        let tags =
            (0..self.rng.usize(..3)).map(|_| format!("tag-{}", self.rng.usize(..TAGS).min(self.rng.usize(..TAGS))));
        let tags: BTreeSet<String> = tags.collect();
        let words = "Hello, I would like to know when my order number 4711 will arrive, please.";
        Ok(Conversation {
            id: ConversationId::fresh(),
            tenant: self.tenant,
            visitor,
            chatbot: None,
            group: self.rng.u8(..).checked_rem(9).and_then(|group| self.groups.get(usize::from(group)).copied()),
            status,
            agent: (!waits).then_some(agent),
            queued: waits.then_some(Queued { rank: i64::try_from(number)?, since: created_at }),
            threads,
            tags,
            skills: BTreeSet::new(),
            last_seq: 12,
            shown_seq: None,
            visitor_messages: 4,
            last_message: Some(LastMessage {
                content: key.seal(words)?,
                author_type: "visitor".to_owned(),
                at: updated_at,
            }),
            rating: number.is_multiple_of(5).then_some(5),
            ended: None,
            rated: None,
            notes: None,
            stale: false,
            snoozed_until: None,
            unread_by_agents: Unread::default(),
            unread_by_visitor: Unread::default(),
            timers: Timers::default(),
            active_at: updated_at,
            continued_in: None,
            external_id: None,
            unresolved: None,
            created_at,
            updated_at,
        })
    }
}
