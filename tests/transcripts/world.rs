//! A tenant's history, made up at random times by the real core, and written to a data directory by the real writer.
//!
//! Everybody of a support team does everything that can be done to a conversation, whenever the seeded numbers say so: what the
//! core refuses doesn't happen. In the end every conversation is resolved or closed.

use chat_api::core::command::{
    AgentDetails, Command, CommandKind as K, LookUp, MarkedComment, NewAgent, NewMessage, NewVisitor, TransferTo,
};
use chat_api::core::decide::Decision;
use chat_api::core::state::{Conversation, Status, TimerKind};
use chat_api::core::{State, apply, decide};
use chat_api::domain::ChatDomain;
use chat_api::store;
use fastrand::Rng;
use ingest::event::{Actor, Event, Origin};
use ingest::id::{AgentId, ChatbotId, ConversationId, EventId, GroupId, PersonId, TenantId, VisitorId};
use ingest::payload::{
    AgentStatus, AuthorType, ChatbotCreated, GroupCreated, GroupMembersChanged, MessagePosted, Role, RoutingStrategy,
    TenantUpdated, Trigger,
};
use ingest::seal::Sealed;
use ingest::sqlite::{DataDir, NewPersonKey, PersonKeys, ReadPool};
use ingest::time::Timestamp;
use ingest::writer::{Decided, Domain, ExecuteError, Writer};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const AGENTS: usize = 6;
const STRATEGIES: [RoutingStrategy; 4] =
    [RoutingStrategy::RoundRobin, RoutingStrategy::LeastLoaded, RoutingStrategy::Sticky, RoutingStrategy::Skills];
const TAGS: [&str; 4] = ["billing", "refund", "urgent", "grüße"];
/// When it begins: 2025-03-01.
pub const BEGINS: i64 = 1_740_787_200_000;
/// The tenant's slug.
pub const SLUG: &str = "source";

/// Events as they are, with their keys: the core has decided them already.
type Written = (Vec<Event>, Vec<NewPersonKey>);

/// Applies what was decided elsewhere.
struct Replay(ChatDomain);

impl Domain for Replay {
    type Command = Written;
    type Answer = ();
    type Rejection = ();

    fn execute(
        &mut self,
        tx: &Connection,
        (events, keys): &Written,
        _: Timestamp,
    ) -> Result<Decided<()>, ExecuteError<()>> {
        for event in events {
            self.0.replay(tx, event)?;
        }
        Ok(Decided { events: events.clone(), keys: keys.clone(), answer: () })
    }

    fn flush(&mut self, tx: &Connection) -> rusqlite::Result<()> {
        self.0.flush(tx)
    }

    fn committed(&mut self) {
        self.0.committed();
    }

    fn discard(&mut self) {
        self.0.discard();
    }
}

/// The team, its visitors and the time.
pub struct World {
    pub state: State,
    pub events: Vec<Event>,
    pub tenant: TenantId,
    rng: Rng,
    clock: i64,
    commands: u64,
    begun: usize,
    keys: PersonKeys,
    new_keys: Vec<NewPersonKey>,
    pool: ReadPool,
    /// Where the log is, until it's written.
    data: Option<(DataDir, Writer<Replay>, std::thread::JoinHandle<()>)>,
    written: usize,
}

fn numbered<T>(derive: impl Fn(&[&[u8]]) -> T, word: &str, number: usize) -> T {
    derive(&[word.as_bytes(), &number.to_le_bytes()])
}

fn agent_id(number: usize) -> AgentId {
    numbered(AgentId::derived, "agent", number)
}

fn group_id(number: usize) -> GroupId {
    numbered(GroupId::derived, "group", number)
}

fn chat_id(number: usize) -> ConversationId {
    numbered(ConversationId::derived, "chat", number)
}

/// When somebody is there, as the API takes it.
pub fn opening_hours() -> Value {
    json!([{ "day": "monday", "from": "08:00", "to": "18:00" }, { "day": "wednesday", "from": "10:00", "to": "24:00" }])
}

/// What is promised, as the API takes it.
pub fn sla_targets() -> Value {
    json!({ "firstResponseSeconds": 300, "nextResponseSeconds": 600, "resolutionSeconds": 3600, "businessHours": true })
}

pub fn chatbot_id() -> ChatbotId {
    ChatbotId::derived(&[b"bot"])
}

impl World {
    /// A team on an empty data directory.
    pub fn start(dir: &Path, seed: u64) -> Self {
        let data = DataDir::open(dir, None, true).expect("a data directory");
        let (connection, log, key_file) = data.open_database().expect("a database");
        store::create_tables(&connection).expect("tables");
        let pool = data.read_pool();
        let keys = PersonKeys::new(pool.clone(), Arc::new(key_file));
        let (writer, handle) =
            Writer::spawn(connection, Box::new(log), Replay(ChatDomain::default())).expect("a writer");
        let mut world = Self {
            state: State::default(),
            events: Vec::new(),
            tenant: TenantId::derived(&[&seed.to_le_bytes()]),
            rng: Rng::with_seed(seed),
            clock: BEGINS,
            commands: 0,
            begun: 0,
            keys,
            new_keys: Vec::new(),
            pool,
            data: Some((data, writer, handle)),
            written: 0,
        };
        world.set_up();
        world
    }

    fn set_up(&mut self) {
        let owner = Some(self.agent(0, Role::Owner));
        let kind = K::CreateTenant { name: SLUG.into(), slug: SLUG.into(), time_zone: "Europe/Berlin".into(), owner };
        self.must(Actor::Operator, kind);
        // What is resolved stays so while it's looked at.
        let settings = TenantUpdated {
            auto_close_days: Some(3_650),
            opening_hours: Some(serde_json::from_value(opening_hours()).expect("opening hours")),
            sla_targets: Some(serde_json::from_value(sla_targets()).expect("targets")),
            ..TenantUpdated::default()
        };
        self.must(Actor::Operator, K::UpdateTenant(Box::new(settings)));
        for number in 1..=AGENTS {
            let agent = self.agent(number, Role::Agent);
            self.must(Actor::Operator, K::CreateAgent(agent));
        }
        self.must(
            Actor::Operator,
            K::CreateChatbot(ChatbotCreated {
                chatbot_id: chatbot_id(),
                name: "Site".into(),
                api_key: "k".into(),
                allowed_origins: vec![],
                greeting: String::new(),
                waiting_text: String::new(),
                theme: serde_json::Map::new(),
                default_group_id: None,
            }),
        );
        for (number, routing_strategy) in STRATEGIES.into_iter().enumerate() {
            let (name, description) = (format!("Group {number}"), String::new());
            let group_id = group_id(number);
            let group = GroupCreated { group_id, name, description, routing_strategy, is_default: false };
            self.must(Actor::Operator, K::CreateGroup(group));
            let add = (1..=AGENTS).filter(|agent| agent % 2 == number % 2 || number == 3).map(agent_id).collect();
            self.must(Actor::Operator, K::ChangeMembers(GroupMembersChanged { group_id, add, remove: vec![] }));
        }
        for number in 1..=AGENTS {
            self.status(number, AgentStatus::Online);
        }
    }

    fn agent(&mut self, number: usize, role: Role) -> NewAgent {
        let agent_id = agent_id(number);
        NewAgent {
            agent_id,
            name: self.seal(agent_id.into(), &format!("Agent {number}")),
            email: None,
            email_hmac: None,
            password_hash: None,
            role,
            max_concurrent_chats: 4,
            external_id: None,
            details: AgentDetails::default(),
        }
    }

    fn seal(&mut self, person: PersonId, text: &str) -> Sealed {
        let (key, new) = self.keys.get_or_create(person).expect("a key");
        self.new_keys.extend(new);
        key.seal(text).expect("sealed")
    }

    fn words(&mut self, person: VisitorId, what: &str) -> Sealed {
        let text = format!("{what} {}", self.rng.u32(..));
        self.seal(person.into(), &text)
    }

    fn status(&mut self, number: usize, status: AgentStatus) {
        let agent_id = agent_id(number);
        self.run(Actor::Agent(agent_id), K::SetAgentStatus { agent_id, status, accepting_chats: None });
    }

    fn must(&mut self, actor: Actor, kind: K) {
        let shown = format!("{kind:?}");
        assert!(self.run(actor, kind), "{shown}");
    }

    /// Whether it was done; a refusal is an answer too.
    fn run(&mut self, actor: Actor, kind: K) -> bool {
        self.commands += 1;
        let first_event = EventId::derived(&[self.tenant.bytes(), &self.commands.to_le_bytes()]);
        let command = Command { tenant: self.tenant, actor, first_event, request: None, cause: None, kind };
        let Ok(Decision::Events(events)) = decide(&self.state, &command, Timestamp(self.clock)) else { return false };
        for event in events {
            apply(&mut self.state, &event);
            self.events.push(event);
        }
        true
    }

    /// So many conversations more, one after the other and beside each other.
    pub fn live(&mut self, conversations: usize) {
        for number in self.begun..self.begun + conversations {
            self.begin(number);
            for _ in 0..self.rng.usize(6..24) {
                // The newest, mostly.
                let chat = number.saturating_sub(self.rng.usize(0..5));
                self.clock += self.rng.i64(1..150_000);
                self.something(chat_id(chat));
                if self.rng.u8(..) < 96 {
                    self.must(Actor::System, K::AssignQueue { trigger: Trigger::AgentAvailable });
                }
            }
            if self.rng.u8(..) < 24 {
                let number = self.rng.usize(1..=AGENTS);
                self.status(number, AgentStatus::Offline);
                self.clock += self.rng.i64(1..60_000);
                self.status(number, AgentStatus::Online);
            }
        }
        self.begun += conversations;
    }

    /// Ends every conversation that goes on, one way or another.
    pub fn end(&mut self) {
        loop {
            let going = self.state.conversations.values();
            let going = going.filter(|chat| !matches!(chat.status, Status::Resolved | Status::Closed));
            let mut going: Vec<ConversationId> = going.map(|chat| chat.id).collect();
            going.sort_unstable();
            if going.is_empty() {
                return;
            }
            for conversation_id in going {
                self.clock += self.rng.i64(1..90_000);
                let kind = if self.rng.bool() { K::Resolve { conversation_id } } else { K::Close { conversation_id } };
                self.must(Actor::Agent(agent_id(0)), kind);
            }
        }
    }

    fn begin(&mut self, number: usize) {
        let visitor_id: VisitorId = numbered(VisitorId::derived, "visitor", number);
        let mut visitor = NewVisitor::anonymous(visitor_id, format!("amber-otter-{number}"));
        if self.rng.bool() {
            visitor.name = Some(self.seal(visitor_id.into(), &format!("Vera {number}")));
            let about = r#"{"userAgent":"x","metadata":{"plan":"gold","seats":12}}"#;
            visitor.metadata = Some(self.seal(visitor_id.into(), about));
        }
        let message = self.message(visitor_id);
        let kind = K::StartSession {
            visitor,
            conversation_id: chat_id(number),
            chatbot_id: chatbot_id(),
            group_id: self.rng.bool().then(|| group_id(self.rng.usize(0..STRATEGIES.len()))),
            skills: if self.rng.u8(..) < 32 { vec!["french".to_owned()] } else { Vec::new() },
            message: self.rng.bool().then_some(message),
        };
        self.clock += self.rng.i64(1..60_000);
        self.must(Actor::Visitor(visitor_id), kind);
    }

    fn message(&mut self, visitor: VisitorId) -> NewMessage {
        let content = self.words(visitor, "hello");
        let metadata = (self.rng.u8(..) < 32).then(|| self.seal(visitor.into(), r#"{"sku":"A-1","n":1.5}"#));
        let client_id = (self.rng.u8(..) < 32).then(|| format!("c-{}", self.rng.u32(..)));
        NewMessage { content, content_chars: 16, client_id, metadata, file_id: None }
    }

    /// Something that somebody does to a conversation, or to the one that goes on from it.
    fn something(&mut self, id: ConversationId) {
        let mut chat: Conversation = self.state.conversations[&id].clone();
        while let Some(next) = chat.continued_in {
            chat = self.state.conversations[&next].clone();
        }
        let (conversation_id, visitor) = (chat.id, chat.visitor);
        let holder = Actor::Agent(chat.agent.unwrap_or_else(|| agent_id(self.rng.usize(1..=AGENTS))));
        let anyone = agent_id(self.rng.usize(1..=AGENTS));
        let group = group_id(self.rng.usize(0..STRATEGIES.len()));
        let tag = |rng: &mut Rng| vec![TAGS[rng.usize(0..TAGS.len())].to_owned()];
        let (actor, kind) = match self.rng.usize(0..32) {
            0..8 => {
                let message = self.message(visitor);
                (Actor::Visitor(visitor), K::PostMessage { conversation_id, message })
            }
            8..14 => {
                let message = self.message(visitor);
                (holder, K::PostMessage { conversation_id, message })
            }
            14 => return self.bot(&chat),
            15 => {
                let content = self.words(visitor, "note");
                (Actor::Agent(anyone), K::PostNote { conversation_id, content, client_id: None })
            }
            16 => {
                let (add, remove) = (tag(&mut self.rng), tag(&mut self.rng));
                (Actor::Agent(anyone), K::Tag { conversation_id, add, remove })
            }
            17 => {
                let note = self.rng.bool().then(|| self.words(visitor, "why"));
                (holder, K::Transfer { conversation_id, to: TransferTo::Agent(anyone), note })
            }
            18 => (holder, K::Transfer { conversation_id, to: TransferTo::Group(group), note: None }),
            19 => {
                let reason = self.rng.bool().then(|| self.words(visitor, "because"));
                (Actor::Agent(agent_id(0)), K::Assign { conversation_id, agent_id: anyone, reason })
            }
            20 => (Actor::Agent(anyone), K::Take { conversation_id }),
            21 => (holder, K::Unassign { conversation_id }),
            22..24 => (holder, K::Resolve { conversation_id }),
            24 => (holder, K::Reopen { conversation_id }),
            25 => (if self.rng.bool() { Actor::Visitor(visitor) } else { holder }, K::Close { conversation_id }),
            26 => {
                let comment = self.rng.bool().then(|| MarkedComment {
                    text: self.words(visitor, "comment"),
                    mark: format!("{:032x}", self.rng.u128(..)),
                });
                (Actor::Visitor(visitor), K::Rate { conversation_id, score: self.rng.u8(1..=5), comment })
            }
            27 => {
                let notes = self.rng.bool().then(|| self.rng.bool().then(|| self.words(visitor, "notes")));
                let group_id = self.rng.bool().then(|| self.rng.bool().then_some(group));
                (Actor::Agent(agent_id(0)), K::UpdateConversation { conversation_id, notes, group_id })
            }
            28 => (holder, K::MarkStale { conversation_id }),
            29 => {
                let until = self.rng.bool().then(|| Timestamp(self.clock + 3_600_000));
                (holder, K::Snooze { conversation_id, until })
            }
            30 => (Actor::System, K::ExpireStandby { conversation_id, last_seq: chat.last_seq }),
            _ => return self.time_or_identity(&chat),
        };
        self.run(actor, kind);
    }

    /// A timer comes due, or the visitor turns out to be somebody.
    fn time_or_identity(&mut self, chat: &Conversation) {
        let due = TimerKind::ALL.into_iter().find_map(|kind| Some((kind, chat.timers.due(kind)?)));
        if let (true, Some((kind, due_at))) = (self.rng.bool(), due.filter(|(kind, _)| *kind != TimerKind::AutoClose)) {
            self.run(Actor::System, K::TimerDue { conversation_id: chat.id, kind, due_at });
            return;
        }
        let user = self.rng.usize(0..40);
        let visitor_id: VisitorId = numbered(VisitorId::derived, "user", user);
        let target = NewVisitor {
            name: Some(self.seal(visitor_id.into(), &format!("User {user}"))),
            user_id: Some(self.seal(visitor_id.into(), &format!("{user}"))),
            look_up: LookUp::default(),
            ..NewVisitor::anonymous(visitor_id, format!("user-{user}"))
        };
        self.run(Actor::Visitor(chat.visitor), K::IdentifyVisitor { source: chat.visitor, target });
    }

    /// An automation says something, as those of other systems do: no door of this one lets it.
    fn bot(&mut self, chat: &Conversation) {
        if matches!(chat.status, Status::Resolved | Status::Closed) || chat.thread().closed.is_some() {
            return;
        }
        let content = self.words(chat.visitor, "beep");
        self.commands += 1;
        let event = Event {
            id: EventId::derived(&[self.tenant.bytes(), &self.commands.to_le_bytes()]),
            tenant: self.tenant,
            conversation: Some(chat.id),
            seq: chat.last_seq + 1,
            occurred_at: Timestamp(self.clock),
            recorded_at: Timestamp(self.clock),
            origin: Origin::Live,
            actor: Actor::System,
            cause: None,
            request: None,
            payload: MessagePosted {
                thread_id: chat.thread().id,
                author_type: AuthorType::Bot,
                content,
                content_chars: 16,
                client_id: None,
                metadata: None,
                file_id: None,
            }
            .into(),
        };
        apply(&mut self.state, &event);
        self.events.push(event);
    }

    /// Writes what has happened since the last time.
    pub async fn write(&mut self) {
        let (_, writer, _) = self.data.as_ref().expect("it's open");
        let mut keys = std::mem::take(&mut self.new_keys);
        for events in self.events[self.written..].chunks(2_000) {
            let keys = std::mem::take(&mut keys);
            let persons: Vec<PersonId> = keys.iter().map(|key| key.person).collect();
            writer.submit((events.to_vec(), keys)).await.expect("written").expect("never refused");
            persons.into_iter().for_each(|person| self.keys.confirm(person, true));
        }
        self.written = self.events.len();
    }

    /// Lets go of the data directory.
    pub async fn close(&mut self) {
        let (data, writer, handle) = self.data.take().expect("it's open");
        writer.stop().await;
        handle.join().expect("the writer ends");
        drop(data);
    }

    /// Opens it again.
    pub fn reopen(&mut self, dir: &Path) {
        let data = DataDir::open(dir, None, false).expect("a data directory");
        let (connection, log, key_file) = data.open_database().expect("a database");
        self.pool = data.read_pool();
        self.keys = PersonKeys::new(self.pool.clone(), Arc::new(key_file));
        let (writer, handle) =
            Writer::spawn(connection, Box::new(log), Replay(ChatDomain::default())).expect("a writer");
        self.data = Some((data, writer, handle));
    }

    /// How often each kind of event is there.
    pub fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for event in &self.events {
            *kinds.entry(event.payload.kind()).or_default() += 1;
        }
        kinds
    }

    /// The time of the last event.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock)
    }
}
