//! Conversations told as text: `10:00 start | 10:01 visitor | 10:02 agent ada` to events.

use ingest::event::{Actor, Event, Origin};
use ingest::id::{AgentId, ConversationId, EventId, GroupId, PersonId, TenantId, ThreadId, VisitorId};
use ingest::payload::{
    AgentAssigned, AgentUnassigned, AuthorType, Candidate, ConversationClosed, ConversationQueued, ConversationRated,
    ConversationReopened, ConversationResolved, ConversationSnoozed, ConversationStale, ConversationStarted,
    ConversationTagged, ConversationTransferred, MessagePosted, NotePosted, Payload, StaleReason, Trigger,
};
use ingest::seal::Sealed;
use ingest::time::Timestamp;

/// One conversation's events so far.
pub struct Story {
    pub tenant: TenantId,
    pub conversation: ConversationId,
    pub visitor: VisitorId,
    seq: u64,
    /// Number of the thread under way; the next event opens another one after an idle one.
    thread: u32,
    idle: bool,
}

pub fn tenant(name: &str) -> TenantId {
    TenantId::derived(&[name.as_bytes()])
}

pub fn agent(name: &str) -> AgentId {
    AgentId::derived(&[name.as_bytes()])
}

pub fn message(author_type: AuthorType, chars: u32) -> Payload {
    MessagePosted {
        thread_id: ThreadId::derived(&[b"thread"]),
        author_type,
        content: sealed(),
        content_chars: chars,
        client_id: None,
        metadata: None,
        file_id: None,
    }
    .into()
}

fn candidate(name: &str, eligible: bool) -> Candidate {
    Candidate { agent_id: agent(name), load: 1, capacity: 6, eligible, reason: "most free slots".into() }
}

fn sealed() -> Sealed {
    Sealed { person: PersonId::derived(&[]), ciphertext: String::new() }
}

impl Story {
    pub fn new(tenant_name: &str, name: &str) -> Self {
        let tenant = tenant(tenant_name);
        Self {
            tenant,
            conversation: ConversationId::derived(&[tenant.bytes(), name.as_bytes()]),
            visitor: VisitorId::derived(&[tenant.bytes(), name.as_bytes()]),
            seq: 0,
            thread: 1,
            idle: false,
        }
    }

    fn thread(&self) -> ThreadId {
        ThreadId::derived(&[self.conversation.bytes(), &self.thread.to_le_bytes()])
    }

    fn next_thread(&mut self) -> ThreadId {
        self.thread += 1;
        self.idle = false;
        self.thread()
    }

    fn message(&mut self, author_type: AuthorType, chars: u32) -> Payload {
        let Payload::MessagePosted(mut posted) = message(author_type, chars) else { unreachable!("a message") };
        posted.thread_id = if self.idle { self.next_thread() } else { self.thread() };
        posted.into()
    }

    /// The next event of the conversation.
    pub fn event(&mut self, at: Timestamp, origin: Origin, actor: Actor, payload: impl Into<Payload>) -> Event {
        self.seq += 1;
        Event {
            id: EventId::derived(&[self.conversation.bytes(), &self.seq.to_le_bytes()]),
            tenant: self.tenant,
            conversation: Some(self.conversation),
            seq: self.seq,
            occurred_at: at,
            recorded_at: at.plus_ms(5),
            origin,
            actor,
            cause: None,
            request: None,
            payload: payload.into(),
        }
    }

    /// The event that a step like `agent ada`, `resolve system` or `rate 4` means.
    pub fn step(&mut self, at: Timestamp, step: &str) -> Event {
        let (verb, who) = step.split_once(' ').unwrap_or((step, ""));
        let thread_id = self.thread();
        let visitor = Actor::Visitor(self.visitor);
        let credited = (!who.is_empty() && who != "system").then(|| agent(who));
        let actor = credited.map_or(Actor::System, Actor::Agent);
        let (actor, payload): (Actor, Payload) = match verb {
            "start" => (visitor, self.started(Vec::new()).into()),
            "visitor" => (visitor, self.message(AuthorType::Visitor, 2)),
            "agent" => (actor, self.message(AuthorType::Agent, 3)),
            "bot" => (Actor::System, self.message(AuthorType::Bot, 4)),
            "note" => (actor, NotePosted { thread_id, content: sealed(), client_id: None }.into()),
            "queue" => (
                Actor::System,
                ConversationQueued { thread_id, trigger: Trigger::FirstMessage, rank: 1, group_id: None }.into(),
            ),
            "assign" => (
                Actor::System,
                AgentAssigned {
                    agent_id: agent(who),
                    previous_agent_id: None,
                    thread_id: self.next_thread(),
                    waited_ms: None,
                    trigger: Trigger::FirstMessage,
                    strategy: "least_loaded".into(),
                    candidates: ["ada", "bob"].map(|name| candidate(name, name == who)).into(),
                    group_id: None,
                    reason: None,
                }
                .into(),
            ),
            "unassign" => (actor, AgentUnassigned { agent_id: agent(who), trigger: Trigger::Unassigned }.into()),
            "standby" => {
                let reason = Some("standby_expired".into());
                (Actor::System, ConversationResolved { thread_id, agent_id: None, reason }.into())
            }
            "stale" => (actor, ConversationStale { thread_id, reason: StaleReason::Manual, agent_id: credited }.into()),
            "idle" => {
                self.idle = true;
                (Actor::System, ConversationStale { thread_id, reason: StaleReason::Idle, agent_id: None }.into())
            }
            "snooze" => (actor, ConversationSnoozed { until: Some(at.plus_ms(1_000_000)) }.into()),
            "wake" => (Actor::System, ConversationSnoozed { until: None }.into()),
            // To a group; the rest follows as steps of its own.
            "transfer" => {
                let group_id = Some(GroupId::derived(&[b"sales"]));
                let thread_id = self.next_thread();
                (actor, ConversationTransferred { thread_id, from_agent_id: credited, agent_id: None, group_id }.into())
            }
            "takeover" => {
                let Payload::AgentAssigned(mut assigned) = self.step(at, &format!("assign {who}")).payload else {
                    unreachable!("an assignment")
                };
                // That step took a place; this one is it.
                self.seq -= 1;
                assigned.previous_agent_id = Some(agent("ada"));
                assigned.candidates.clear();
                (Actor::Agent(assigned.agent_id), AgentAssigned { strategy: "manual".into(), ..assigned }.into())
            }
            "resolve" => (actor, ConversationResolved { thread_id, agent_id: credited, reason: None }.into()),
            "run_out" => {
                let reason = "imported_unresolved".into();
                (Actor::System, ConversationClosed { reason, agent_id: credited }.into())
            }
            "end" => (visitor, ConversationResolved { thread_id, agent_id: None, reason: None }.into()),
            "reopen" => (visitor, ConversationReopened { thread_id: self.next_thread() }.into()),
            "close" => (actor, ConversationClosed { reason: "agent".into(), agent_id: credited }.into()),
            "rate" => {
                let score = who.parse().unwrap();
                (
                    visitor,
                    ConversationRated { thread_id, score, agent_id: None, comment: None, comment_mark: None }.into(),
                )
            }
            "tag" => {
                let pick =
                    |sign: char| who.split(' ').filter_map(|t| t.strip_prefix(sign)).map(str::to_owned).collect();
                (actor, ConversationTagged { add: pick('+'), remove: pick('-') }.into())
            }
            other => panic!("unknown step '{other}'"),
        };
        self.event(at, Origin::Live, actor, payload)
    }

    pub fn started(&self, tags: Vec<String>) -> ConversationStarted {
        ConversationStarted {
            visitor_id: self.visitor,
            visitor_has_email: false,
            chatbot_id: None,
            group_id: None,
            thread_id: self.thread(),
            tags,
            external_id: None,
            skills: Vec::new(),
            continues: None,
            exact: false,
        }
    }

    /// A whole script: `10:00 start | 10:01.5 visitor`, minutes and seconds (with fractions) of an hour.
    pub fn tell(&mut self, script: &str) -> Vec<Event> {
        let step = |part: &str| {
            let (at, step) = part.trim().split_once(' ').unwrap();
            let (minutes, seconds) = at.split_once(':').unwrap();
            let (minutes, seconds): (f64, f64) = (minutes.parse().unwrap(), seconds.parse().unwrap());
            #[expect(clippy::cast_possible_truncation, reason = "an hour of milliseconds")]
            let at = Timestamp(((minutes * 60.0 + seconds) * 1000.0).round() as i64);
            self.step(at, step)
        };
        script.split('|').map(step).collect()
    }
}
