//! Seeded, skewed traffic of many tenants, event by event in the order of time.
//!
//! Tenants are Zipf's: of 100, the first has a fifth of all conversations and the last a fivehundredth. Conversations start more often
//! at noon than at night and on weekdays than on Sundays; answers take as long as people take. Agents of tenants with much to do
//! come and go by the day, and who writes for the first time gets a mail. The same seed gives the same events.

use fastrand::Rng;
use ingest::event::{Actor, Event, Origin};
use ingest::id::{
    AgentId, ChatbotId, ConversationId, EventId, GroupId, MailId, PersonId, TenantId, ThreadId, VisitorId,
};
use ingest::payload::{
    AgentAssigned, AgentStatus, AgentStatusChanged, AuthorType, Candidate, ConversationClosed, ConversationQueued,
    ConversationRated, ConversationReopened, ConversationResolved, ConversationStarted, ConversationTagged, MailFailed,
    MailKind, MailRequested, MailSent, MessagePosted, Payload, Trigger,
};
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The first event.
pub const FROM: Timestamp = Timestamp(1_767_225_600_000);
/// The time that all conversations span.
pub const SPAN_MS: i64 = DAYS_IN_ALL * DAY_MS;
const DAYS_IN_ALL: i64 = 180;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Events of a conversation, on average; what the dice below come to.
const EVENTS_A_CONVERSATION: usize = 22;
/// Conversations that keep an agent busy for a day.
const CONVERSATIONS_AN_AGENT_A_DAY: usize = 15;
/// Chats an agent has at most.
const CAPACITY: u32 = 5;
const MAIL_SENT_PERCENT: u32 = 94;
/// Share of conversations whose visitor has been there before.
const RETURNING_PERCENT: u32 = 25;
const RESOLVED_PERCENT: u32 = 85;
const RATED_PERCENT: u32 = 35;
const REOPENED_PERCENT: u32 = 5;
const TAGGED_PERCENT: u32 = 60;
const GREETED_BY_BOT_PERCENT: u32 = 30;
const TAGS: [&str; 12] = [
    "billing",
    "shipping",
    "refund",
    "login",
    "bug",
    "feature",
    "pricing",
    "cancellation",
    "invoice",
    "returns",
    "feedback",
    "other",
];
/// How busy each hour is, in percent of the busiest.
const HOURS: [u32; 24] = [8, 5, 4, 4, 5, 10, 22, 45, 72, 92, 100, 98, 85, 88, 95, 96, 90, 78, 62, 50, 42, 32, 22, 13];
/// The same for days, from the one of [`FROM`], a Thursday.
const DAYS: [u32; 7] = [95, 90, 40, 35, 100, 98, 96];

/// One tenant of the traffic.
pub struct Profile {
    /// Its id.
    pub id: TenantId,
    agents: Vec<AgentId>,
    groups: Vec<GroupId>,
    chatbot: ChatbotId,
    recent: Vec<VisitorId>,
    /// Agents come and go by the day; else there is too little to do, and they are always there.
    shifts: bool,
}

impl Profile {
    /// `daily`: conversations a day.
    fn new(rank: usize, daily: usize) -> Self {
        let name = rank.to_le_bytes();
        let agents = (daily / CONVERSATIONS_AN_AGENT_A_DAY).max(2);
        let groups = (agents / 6).max(1);
        Self {
            id: TenantId::derived(&[b"bench", &name]),
            agents: (0..agents).map(|n| AgentId::derived(&[b"bench", &name, &n.to_le_bytes()])).collect(),
            groups: (0..groups).map(|n| GroupId::derived(&[b"bench", &name, &n.to_le_bytes()])).collect(),
            chatbot: ChatbotId::derived(&[b"bench", &name]),
            recent: Vec::new(),
            shifts: daily >= agents,
        }
    }
}

/// What comes next in a conversation.
#[derive(Clone, Copy)]
enum Step {
    Start,
    Visitor,
    Greeting,
    Queue,
    Assign,
    Agent,
    Tag,
    Resolve,
    Close,
    Rate,
    Reopen,
    Mail,
    Mailed,
}

/// An agent comes or goes.
struct Shift {
    tenant: usize,
    agent: AgentId,
    status: AgentStatus,
}

struct Talk {
    tenant: usize,
    conversation: ConversationId,
    visitor: VisitorId,
    thread: ThreadId,
    agent: AgentId,
    group: Option<GroupId>,
    queued_at: i64,
    seq: u64,
    step: Step,
    /// Messages still to come.
    left: u32,
    may_reopen: bool,
    /// Its visitor wasn't there before.
    is_new: bool,
}

/// The events, an endless iterator.
pub struct Traffic {
    rng: Rng,
    /// By rank, the largest first.
    pub tenants: Vec<Profile>,
    /// Of 1, up to and with each tenant.
    shares: Vec<f64>,
    /// When each open conversation goes on, and its place in `talks`.
    due: BinaryHeap<Reverse<(i64, usize)>>,
    talks: Vec<Option<Talk>>,
    free: Vec<usize>,
    /// The last comes first.
    shifts: Vec<(i64, Shift)>,
    next_start: f64,
    gap_ms: f64,
    made: u64,
}

impl Traffic {
    /// Traffic that spreads `events` over [`SPAN_MS`]. `known` are the ids of tenants that there are already, by rank.
    pub fn new(seed: u64, tenants: usize, events: usize, known: &[(usize, TenantId)]) -> Self {
        let weights: Vec<f64> =
            (1..=tenants).map(|rank| 1.0 / f64::from(u32::try_from(rank).unwrap_or(u32::MAX))).collect();
        let total: f64 = weights.iter().sum();
        let conversations = (events / EVENTS_A_CONVERSATION).max(1);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "conversations of one day"
        )]
        let daily = |weight: f64| (conversations as f64 / DAYS_IN_ALL as f64 * weight / total) as usize;
        let mut profiles: Vec<_> =
            weights.iter().enumerate().map(|(rank, &weight)| Profile::new(rank, daily(weight))).collect();
        let mut sum = 0.0;
        let shares = weights.iter().map(|weight| {
            sum += weight / total;
            sum
        });
        // Hours and days refuse some of the starts that are proposed.
        let busy = mean(&HOURS) * mean(&DAYS);
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let gap_ms = SPAN_MS as f64 / conversations as f64 * busy;
        for &(rank, id) in known {
            profiles[rank].id = id;
        }
        let mut rng = Rng::with_seed(seed);
        let shifts = shifts(&mut rng, &profiles);
        Self {
            rng,
            tenants: profiles,
            shares: shares.collect(),
            due: BinaryHeap::new(),
            talks: Vec::new(),
            free: Vec::new(),
            shifts,
            next_start: 0.0,
            gap_ms,
            made: 0,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(..100) < percent
    }

    /// Exponential, at least a millisecond.
    #[expect(clippy::cast_possible_truncation, reason = "days of milliseconds at most")]
    fn wait(&mut self, mean_ms: f64) -> i64 {
        1 + (-mean_ms * (1.0 - self.rng.f64()).ln()) as i64
    }

    /// When the next conversation starts.
    fn propose(&mut self) {
        loop {
            self.next_start += -self.gap_ms * (1.0 - self.rng.f64()).ln();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hours since the first event")]
            let hours = (self.next_start / 3_600_000.0) as usize;
            let busy = HOURS[hours % 24] * DAYS[hours / 24 % 7];
            if self.rng.u32(..10_000) < busy {
                return;
            }
        }
    }

    fn start(&mut self, at: i64) {
        let share = self.rng.f64();
        let tenant = self.shares.partition_point(|&sum| sum < share).min(self.tenants.len() - 1);
        self.made += 1;
        let name = self.made.to_le_bytes();
        let returning = self.chance(RETURNING_PERCENT);
        let profile = &mut self.tenants[tenant];
        let known = self.rng.choice(&profile.recent).copied().filter(|_| returning);
        let visitor = known.unwrap_or_else(|| VisitorId::derived(&[b"bench", &name]));
        if profile.recent.len() < 2_000 {
            profile.recent.push(visitor);
        } else {
            let place = self.rng.usize(..2_000);
            profile.recent[place] = visitor;
        }
        // The first agents get more: they are online more.
        let agent = profile.agents[self.rng.usize(..profile.agents.len()).min(self.rng.usize(..profile.agents.len()))];
        let group = self.rng.choice(&profile.groups).copied();
        let left = 3 + u32::try_from(self.wait(9.0)).unwrap_or(0).min(60);
        let talk = Talk {
            tenant,
            conversation: ConversationId::derived(&[b"bench", &name]),
            visitor,
            thread: ThreadId::derived(&[b"bench", &name]),
            agent,
            group,
            queued_at: at,
            seq: 0,
            step: Step::Start,
            left,
            may_reopen: true,
            is_new: known.is_none(),
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.talks.push(None);
            self.talks.len() - 1
        });
        self.talks[place] = Some(talk);
        self.due.push(Reverse((at, place)));
    }

    /// The step's event, and what follows it after how many milliseconds.
    fn play(&mut self, talk: &mut Talk, at: i64) -> (Event, Option<(Step, i64)>) {
        let visitor = Actor::Visitor(talk.visitor);
        let agent = Actor::Agent(talk.agent);
        let thread_id = talk.thread;
        let (actor, payload): (Actor, Payload) = match talk.step {
            Step::Start => (visitor, self.started(talk).into()),
            Step::Visitor => (visitor, self.message(talk, AuthorType::Visitor)),
            Step::Greeting => (Actor::System, self.message(talk, AuthorType::Bot)),
            Step::Agent => (agent, self.message(talk, AuthorType::Agent)),
            Step::Queue => {
                talk.queued_at = at;
                let trigger = Trigger::FirstMessage;
                (Actor::System, ConversationQueued { thread_id, trigger, rank: at, group_id: talk.group }.into())
            }
            Step::Assign => (Actor::System, self.assigned(talk, at).into()),
            Step::Tag => {
                let add = vec![TAGS[self.rng.usize(..TAGS.len()).min(self.rng.usize(..TAGS.len()))].to_owned()];
                (agent, ConversationTagged { add, remove: Vec::new() }.into())
            }
            Step::Resolve => {
                (agent, ConversationResolved { thread_id, agent_id: Some(talk.agent), reason: None }.into())
            }
            Step::Close => {
                (visitor, ConversationClosed { reason: "visitor".to_owned(), agent_id: Some(talk.agent) }.into())
            }
            Step::Rate => {
                let score = [5, 5, 5, 4, 4, 3, 2, 1][self.rng.usize(..8)];
                (
                    visitor,
                    ConversationRated {
                        thread_id,
                        score,
                        agent_id: Some(talk.agent),
                        comment: None,
                        comment_mark: None,
                    }
                    .into(),
                )
            }
            Step::Reopen => (visitor, ConversationReopened { thread_id }.into()),
            Step::Mail => (Actor::System, requested(talk).into()),
            Step::Mailed => (Actor::System, self.mailed(talk)),
        };
        let id = EventId::derived(&[talk.conversation.bytes(), &talk.seq.to_le_bytes(), &[talk.step as u8]]);
        let event = event(self.tenants[talk.tenant].id, id, at, actor, payload);
        if matches!(talk.step, Step::Mail | Step::Mailed) {
            return (event, self.after(talk));
        }
        talk.seq += 1;
        (Event { conversation: Some(talk.conversation), seq: talk.seq, ..event }, self.after(talk))
    }

    fn mailed(&mut self, talk: &Talk) -> Payload {
        let mail_id = mail_id(talk);
        let dice = self.rng.u32(..100);
        match dice {
            ..MAIL_SENT_PERCENT => MailSent { mail_id, attempts: 1 }.into(),
            97.. => MailFailed { mail_id, attempts: 8, reason: "gave_up".to_owned() }.into(),
            _ => MailFailed { mail_id, attempts: 1, reason: "refused".to_owned() }.into(),
        }
    }

    fn after(&mut self, talk: &mut Talk) -> Option<(Step, i64)> {
        let next = match talk.step {
            Step::Start => (Step::Visitor, 1),
            Step::Visitor if talk.seq == 2 && talk.is_new => (Step::Mail, 1),
            Step::Mail => (Step::Mailed, 400),
            Step::Visitor | Step::Mailed if talk.seq == 2 && self.chance(GREETED_BY_BOT_PERCENT) => {
                (Step::Greeting, 800)
            }
            Step::Visitor | Step::Mailed if talk.seq == 2 => (Step::Queue, 1),
            Step::Greeting => (Step::Queue, 1),
            Step::Queue if self.chance(8) => (Step::Assign, self.wait(1_500_000.0)),
            Step::Queue => (Step::Assign, self.wait(40_000.0)),
            Step::Assign => (Step::Agent, self.wait(45_000.0)),
            Step::Reopen => (Step::Visitor, 1),
            Step::Visitor | Step::Agent if talk.left > 0 => {
                talk.left -= 1;
                let visitors_turn = matches!(talk.step, Step::Agent) != self.chance(20);
                if visitors_turn { (Step::Visitor, self.wait(60_000.0)) } else { (Step::Agent, self.wait(50_000.0)) }
            }
            Step::Visitor | Step::Agent if talk.may_reopen && self.chance(TAGGED_PERCENT) => {
                (Step::Tag, self.wait(20_000.0))
            }
            Step::Visitor | Step::Agent | Step::Tag if self.chance(RESOLVED_PERCENT) => {
                (Step::Resolve, self.wait(90_000.0))
            }
            Step::Visitor | Step::Agent | Step::Tag => (Step::Close, self.wait(600_000.0)),
            Step::Resolve if self.chance(RATED_PERCENT) => (Step::Rate, self.wait(30_000.0)),
            Step::Resolve | Step::Rate if talk.may_reopen && self.chance(REOPENED_PERCENT) => {
                (talk.may_reopen, talk.left) = (false, 2);
                (Step::Reopen, self.wait(20_000_000.0))
            }
            Step::Resolve | Step::Rate | Step::Close | Step::Mailed => return None,
        };
        Some(next)
    }

    fn started(&self, talk: &Talk) -> ConversationStarted {
        ConversationStarted {
            visitor_id: talk.visitor,
            visitor_has_email: true,
            chatbot_id: Some(self.tenants[talk.tenant].chatbot),
            group_id: talk.group,
            thread_id: talk.thread,
            tags: Vec::new(),
            external_id: None,
            skills: Vec::new(),
            continues: None,
            exact: false,
        }
    }

    fn assigned(&mut self, talk: &Talk, at: i64) -> AgentAssigned {
        let chosen = Candidate {
            agent_id: talk.agent,
            load: self.rng.u32(..CAPACITY),
            capacity: CAPACITY,
            eligible: true,
            reason: "the fewest chats".to_owned(),
        };
        AgentAssigned {
            agent_id: talk.agent,
            previous_agent_id: None,
            thread_id: talk.thread,
            waited_ms: Some(at - talk.queued_at),
            trigger: Trigger::FirstMessage,
            strategy: "least_loaded".to_owned(),
            candidates: vec![chosen],
            group_id: talk.group,
            reason: None,
        }
    }

    fn shift(&self, at: i64, shift: &Shift) -> Event {
        let Shift { tenant, agent, status } = *shift;
        let id = EventId::derived(&[agent.bytes(), &at.to_le_bytes()]);
        let payload =
            AgentStatusChanged { agent_id: agent, status, accepting_chats: status == AgentStatus::Online }.into();
        event(self.tenants[tenant].id, id, at, Actor::Agent(agent), payload)
    }

    fn message(&mut self, talk: &Talk, author_type: AuthorType) -> Payload {
        MessagePosted {
            thread_id: talk.thread,
            author_type,
            content: Sealed { person: PersonId(talk.visitor.0), ciphertext: String::new() },
            content_chars: 10 + self.rng.u32(..180),
            client_id: None,
            metadata: None,
            file_id: None,
        }
        .into()
    }
}

fn mean(percents: &[u32]) -> f64 {
    let sum: u32 = percents.iter().sum();
    f64::from(sum) / 100.0 / f64::from(u32::try_from(percents.len()).unwrap_or(1))
}

fn mail_id(talk: &Talk) -> MailId {
    MailId::derived(&[b"bench", talk.conversation.bytes()])
}

fn requested(talk: &Talk) -> MailRequested {
    MailRequested {
        mail_id: mail_id(talk),
        kind: MailKind::Welcome,
        person_id: PersonId(talk.visitor.0),
        about: Some(talk.conversation),
        readable_id: String::new(),
        challenge_id: None,
        invitation_id: None,
    }
}

/// An event of the tenant, outside of any conversation.
fn event(tenant: TenantId, id: EventId, at: i64, actor: Actor, payload: Payload) -> Event {
    Event {
        id,
        tenant,
        conversation: None,
        seq: 0,
        occurred_at: FROM.plus_ms(at),
        recorded_at: FROM.plus_ms(at),
        origin: Origin::Live,
        actor,
        cause: None,
        request: None,
        payload,
    }
}

/// From about eight to about five, five days a week; the last comes first.
fn shifts(rng: &mut Rng, tenants: &[Profile]) -> Vec<(i64, Shift)> {
    let mut shifts = Vec::new();
    for (tenant, profile) in tenants.iter().enumerate() {
        for (number, &agent) in profile.agents.iter().enumerate() {
            let mut add = |at, status| shifts.push((at, Shift { tenant, agent, status }));
            if !profile.shifts {
                add(0, AgentStatus::Online);
                continue;
            }
            // Days off aren't the same for all: somebody is there at weekends too.
            for day in (0..DAYS_IN_ALL).filter(|day| (day + i64::try_from(number).unwrap_or(0)) % 7 < 5) {
                let mut about = |hour| day * DAY_MS + hour * HOUR_MS + rng.i64(0..HOUR_MS);
                let (from, to) = (about(8), about(17));
                add(from, AgentStatus::Online);
                add(to, AgentStatus::Offline);
            }
        }
    }
    shifts.sort_unstable_by_key(|&(at, ref shift)| Reverse((at, shift.agent.0)));
    shifts
}

impl Iterator for Traffic {
    type Item = Event;

    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of some months")]
    fn next(&mut self) -> Option<Event> {
        if self.next_start == 0.0 {
            self.propose();
        }
        while self.due.peek().is_none_or(|Reverse((at, _))| *at >= self.next_start as i64) {
            self.start(self.next_start as i64);
            self.propose();
        }
        let &Reverse((at, _)) = self.due.peek()?;
        if let Some((at, shift)) = self.shifts.pop_if(|(shift_at, _)| *shift_at <= at) {
            return Some(self.shift(at, &shift));
        }
        let Reverse((at, place)) = self.due.pop()?;
        let mut talk = self.talks[place].take()?;
        let (event, next) = self.play(&mut talk, at);
        match next {
            Some((step, after)) => {
                talk.step = step;
                self.talks[place] = Some(talk);
                self.due.push(Reverse((at + after, place)));
            }
            None => self.free.push(place),
        }
        Some(event)
    }
}
