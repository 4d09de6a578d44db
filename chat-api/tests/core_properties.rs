//! Properties of the pure core, over random histories: seq is gapless, capacity is never exceeded by automatic
//! assignment, nobody waits while an agent is free, a replay gives the same state, a repeated key changes nothing.

use chat_api::core::command::{
    AgentDetails, Command, CommandKind as K, LookUp, MarkedComment, NewAgent, NewMessage, NewVisitor, TransferTo,
};
use chat_api::core::decide::Decision;
use chat_api::core::state::{Agent, Status};
use chat_api::core::{Rejection, State, apply, decide};
use ingest::event::{Actor, Event, RequestKey};
use ingest::id::{AgentId, ChatbotId, ConversationId, EventId, GroupId, TenantId, VisitorId};
use ingest::payload::{
    AgentStatus, ChatbotCreated, GroupCreated, GroupMembersChanged, GroupUpdated, Payload, Resource, Role,
    RoutingStrategy, Trigger,
};
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use proptest::prelude::*;
use std::collections::HashMap;

const AGENTS: usize = 3;
const CHATS: usize = 8;
const STRATEGIES: [RoutingStrategy; 4] =
    [RoutingStrategy::RoundRobin, RoutingStrategy::LeastLoaded, RoutingStrategy::Sticky, RoutingStrategy::Skills];

fn sealed(person: &[u8]) -> Sealed {
    Sealed { person: ingest::id::PersonId::derived(&[person]), ciphertext: "AAAA".to_owned() }
}

/// A tenant with agents and a chatbot, driven without a server.
struct World {
    state: State,
    events: Vec<Event>,
    tenant: TenantId,
    clock: i64,
    commands: u64,
}

fn agent_id(number: usize) -> AgentId {
    AgentId::derived(&[b"agent", &number.to_le_bytes()])
}

fn chat_id(number: usize) -> ConversationId {
    ConversationId::derived(&[b"chat", &number.to_le_bytes()])
}

fn group_id(number: usize) -> GroupId {
    GroupId::derived(&[b"group", &number.to_le_bytes()])
}

fn visitor_id(number: usize) -> VisitorId {
    VisitorId::derived(&[b"visitor", &number.to_le_bytes()])
}

fn new_agent(number: usize, role: Role, capacity: u32) -> NewAgent {
    NewAgent {
        agent_id: agent_id(number),
        name: sealed(b"agent"),
        email: Some(sealed(b"agent")),
        email_hmac: Some(format!("{number}")),
        password_hash: None,
        role,
        max_concurrent_chats: capacity,
        external_id: None,
        details: AgentDetails::default(),
    }
}

fn message() -> NewMessage {
    NewMessage { content: sealed(b"visitor"), content_chars: 2, client_id: None, metadata: None, file_id: None }
}

impl World {
    fn new() -> Self {
        let tenant = TenantId::derived(&[b"tenant"]);
        let mut world =
            Self { state: State::default(), events: Vec::new(), tenant, clock: 1_700_000_000_000, commands: 0 };
        let owner = Some(new_agent(0, Role::Owner, 0));
        let kind = K::CreateTenant { name: "T".into(), slug: "t".into(), time_zone: "UTC".into(), owner };
        world.run(Actor::Operator, kind).expect("a tenant");
        for number in 1..=AGENTS {
            let capacity = u32::try_from(number).expect("small");
            world.run(Actor::Operator, K::CreateAgent(new_agent(number, Role::Agent, capacity))).expect("an agent");
        }
        let chatbot = K::CreateChatbot(ChatbotCreated {
            chatbot_id: ChatbotId::derived(&[b"bot"]),
            name: "b".into(),
            api_key: "k".into(),
            allowed_origins: vec![],
            greeting: String::new(),
            waiting_text: String::new(),
            theme: serde_json::Map::new(),
            default_group_id: None,
        });
        world.run(Actor::Operator, chatbot).expect("a chatbot");
        for (number, routing_strategy) in STRATEGIES.into_iter().enumerate() {
            let group = GroupCreated {
                group_id: group_id(number),
                name: format!("{number}"),
                description: String::new(),
                routing_strategy,
                is_default: false,
            };
            world.run(Actor::Operator, K::CreateGroup(group)).expect("a group");
        }
        world
    }

    fn command(&mut self, actor: Actor, kind: K, request: Option<RequestKey>) -> Command {
        self.commands += 1;
        let first_event = EventId::derived(&[b"command", &self.commands.to_le_bytes()]);
        Command { tenant: self.tenant, actor, first_event, request, cause: None, kind }
    }

    fn run(&mut self, actor: Actor, kind: K) -> Result<Vec<Event>, Rejection> {
        let command = self.command(actor, kind, None);
        self.submit(&command)
    }

    fn submit(&mut self, command: &Command) -> Result<Vec<Event>, Rejection> {
        self.clock += 1_000;
        match decide(&self.state, command, Timestamp(self.clock))? {
            Decision::Events(events) => {
                events.iter().for_each(|event| apply(&mut self.state, event));
                self.events.extend(events.iter().cloned());
                Ok(events)
            }
            Decision::Repeated(_) => Ok(Vec::new()),
        }
    }
}

/// Something that a person, or the assignment job, does.
#[derive(Debug, Clone)]
enum Step {
    Start(usize, bool, Option<usize>),
    Join(usize, usize, bool),
    Default(usize, bool),
    Delete(usize, bool),
    VisitorWrites(usize),
    AgentWrites(usize, usize),
    Status(usize, AgentStatus),
    Take(usize, usize),
    Assign(usize, usize, usize),
    Unassign(usize, usize),
    Resolve(usize, usize),
    Reopen(usize, usize),
    Close(usize, usize),
    Rate(usize, u8),
    Job,
}

fn step() -> impl Strategy<Value = Step> {
    let (agent, chat, group) = (1..=AGENTS, 0..CHATS, 0..STRATEGIES.len());
    let status =
        prop_oneof![3 => Just(AgentStatus::Online), 1 => Just(AgentStatus::Offline), 1 => Just(AgentStatus::Away)];
    prop_oneof![
        4 => (chat.clone(), any::<bool>(), prop::option::of(group.clone()))
            .prop_map(|(chat, first, group)| Step::Start(chat, first, group)),
        1 => (agent.clone(), group.clone(), any::<bool>()).prop_map(|(agent, group, joins)| Step::Join(agent, group, joins)),
        1 => (group.clone(), any::<bool>()).prop_map(|(group, is)| Step::Default(group, is)),
        1 => (group, any::<bool>()).prop_map(|(group, deletes)| Step::Delete(group, deletes)),
        4 => chat.clone().prop_map(Step::VisitorWrites),
        2 => (agent.clone(), chat.clone()).prop_map(|(agent, chat)| Step::AgentWrites(agent, chat)),
        3 => (agent.clone(), status).prop_map(|(agent, status)| Step::Status(agent, status)),
        1 => (agent.clone(), chat.clone()).prop_map(|(agent, chat)| Step::Take(agent, chat)),
        1 => (agent.clone(), chat.clone(), agent.clone()).prop_map(|(by, chat, to)| Step::Assign(by, chat, to)),
        1 => (agent.clone(), chat.clone()).prop_map(|(agent, chat)| Step::Unassign(agent, chat)),
        2 => (agent.clone(), chat.clone()).prop_map(|(agent, chat)| Step::Resolve(agent, chat)),
        1 => (agent.clone(), chat.clone()).prop_map(|(agent, chat)| Step::Reopen(agent, chat)),
        1 => (agent, chat.clone()).prop_map(|(agent, chat)| Step::Close(agent, chat)),
        1 => (chat, 1..=5_u8).prop_map(|(chat, score)| Step::Rate(chat, score)),
        4 => Just(Step::Job),
    ]
}

fn take_step(world: &mut World, step: &Step) {
    let conversation_id = |chat: &usize| chat_id(*chat);
    let agent = |number: &usize| Actor::Agent(agent_id(*number));
    let (actor, kind) = match step {
        Step::Start(chat, first, group) => {
            if world.state.conversations.contains_key(&chat_id(*chat)) {
                return;
            }
            let visitor = NewVisitor::anonymous(visitor_id(*chat), "amber-otter-1".into());
            let kind = K::StartSession {
                visitor,
                conversation_id: chat_id(*chat),
                chatbot_id: ChatbotId::derived(&[b"bot"]),
                group_id: group.map(group_id),
                skills: Vec::new(),
                message: first.then(message),
            };
            (Actor::Visitor(visitor_id(*chat)), kind)
        }
        Step::VisitorWrites(chat) => {
            let kind = K::PostMessage { conversation_id: conversation_id(chat), message: message() };
            (Actor::Visitor(visitor_id(*chat)), kind)
        }
        Step::AgentWrites(by, chat) => {
            (agent(by), K::PostMessage { conversation_id: conversation_id(chat), message: message() })
        }
        Step::Status(of, status) => {
            (agent(of), K::SetAgentStatus { agent_id: agent_id(*of), status: *status, accepting_chats: None })
        }
        Step::Take(by, chat) => (agent(by), K::Take { conversation_id: conversation_id(chat) }),
        Step::Assign(by, chat, to) => {
            (agent(by), K::Assign { conversation_id: conversation_id(chat), agent_id: agent_id(*to), reason: None })
        }
        Step::Unassign(by, chat) => (agent(by), K::Unassign { conversation_id: conversation_id(chat) }),
        Step::Resolve(by, chat) => (agent(by), K::Resolve { conversation_id: conversation_id(chat) }),
        Step::Reopen(by, chat) => (agent(by), K::Reopen { conversation_id: conversation_id(chat) }),
        Step::Close(by, chat) => (agent(by), K::Close { conversation_id: conversation_id(chat) }),
        Step::Rate(chat, score) => {
            let kind = K::Rate { conversation_id: conversation_id(chat), score: *score, comment: None };
            (Actor::Visitor(visitor_id(*chat)), kind)
        }
        Step::Join(agent, group, joins) => {
            let (mut add, mut remove) = (vec![], vec![]);
            if *joins { &mut add } else { &mut remove }.push(agent_id(*agent));
            (Actor::Operator, K::ChangeMembers(GroupMembersChanged { group_id: group_id(*group), add, remove }))
        }
        Step::Default(group, is) => {
            let change = GroupUpdated { is_default: Some(*is), ..GroupUpdated::nothing(group_id(*group)) };
            (Actor::Operator, K::UpdateGroup(change))
        }
        Step::Delete(group, deletes) => {
            let resource = Resource::Group(group_id(*group));
            (Actor::Operator, if *deletes { K::Delete(resource) } else { K::Restore(resource) })
        }
        Step::Job => (Actor::System, K::AssignQueue { trigger: Trigger::AgentAvailable }),
    };
    // A refusal is an answer too; the properties hold after it.
    drop(world.run(actor, kind));
}

fn check_seqs(events: &[Event]) {
    let mut seqs: HashMap<ConversationId, u64> = HashMap::new();
    for event in events.iter().filter(|event| event.conversation.is_some()) {
        let seq = seqs.entry(event.conversation.expect("filtered")).or_default();
        *seq += 1;
        assert_eq!(event.seq, *seq, "seq is gapless: {:?}", event.payload);
    }
}

fn check_counters(world: &World) {
    for agent in world.state.agents.values() {
        let chats = world.state.conversations.values();
        let active = chats.filter(|chat| chat.status == Status::Active && chat.agent == Some(agent.id)).count();
        assert_eq!(agent.active_chats as usize, active, "the counter is what a recount gives");
    }
    let roster = &world.state.rosters[&world.tenant];
    let mut waiting: Vec<_> =
        world.state.conversations.values().filter_map(|chat| Some((chat.queued?.rank, chat.id))).collect();
    waiting.sort_unstable();
    assert_eq!(roster.queue.by_rank().into_iter().collect::<Vec<_>>(), waiting);
    let defaults = world.state.groups.values().filter(|group| group.is_default).count();
    assert!(defaults <= 1, "one default a tenant");
    for chat in world.state.conversations.values() {
        assert!(chat.queued.is_none() || chat.status == Status::Pending, "only pending conversations wait");
        assert!(chat.status != Status::Active || chat.agent.is_some(), "an active conversation has an agent");
    }
}

/// What the job must leave behind: no one waits while an available agent has a free slot, and it overfilled nobody.
fn check_assignment(world: &World, made: &[Event]) {
    for event in made {
        if let Payload::AgentAssigned(assigned) = &event.payload {
            let chosen = assigned.candidates.iter().find(|one| one.agent_id == assigned.agent_id).expect("recorded");
            assert!(chosen.eligible && chosen.load < chosen.capacity, "capacity is never exceeded: {chosen:?}");
            let group = assigned.group_id.map(|id| &world.state.groups[&id]);
            assert!(group.is_none_or(|group| group.members.contains(&assigned.agent_id)), "only members serve a group");
        }
    }
    let roster = &world.state.rosters[&world.tenant];
    let free = |agent: &&Agent| world.state.is_available(agent) && agent.active_chats < agent.max_concurrent_chats;
    let agents: Vec<&Agent> = roster.agents.iter().map(|id| &world.state.agents[id]).filter(free).collect();
    for chat in roster.queue.by_rank().values().map(|id| &world.state.conversations[id]) {
        let group = world.state.serving_group(world.tenant, chat.group);
        let idle = agents.iter().find(|agent| world.state.serves(agent, group));
        assert!(idle.is_none(), "{} waits for {group:?} while {idle:?} is free", chat.id);
    }
}

fn without_caches(state: &State) -> State {
    let mut state = state.clone();
    state.dirty.clear();
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_over_any_history(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            take_step(&mut world, step);
            check_counters(&world);
        }
        let made = world.run(Actor::System, K::AssignQueue { trigger: Trigger::SlotFreed }).expect("the job");
        check_assignment(&world, &made);
        check_seqs(&world.events);
        let again = world.run(Actor::System, K::AssignQueue { trigger: Trigger::SlotFreed }).expect("the job");
        prop_assert!(again.is_empty(), "a second run finds nothing to do");

        let mut replayed = State::default();
        for event in &world.events {
            let stored = Event::decode(&event.encode()).expect("decodes");
            prop_assert_eq!(&stored, event, "the log keeps events whole");
            apply(&mut replayed, &stored);
        }
        prop_assert_eq!(format!("{:?}", sorted(&without_caches(&replayed))), format!("{:?}", sorted(&without_caches(&world.state))));
    }

    #[test]
    fn a_repeated_key_changes_nothing(steps in prop::collection::vec(step(), 1..30), chat in 0..CHATS) {
        let mut world = World::new();
        steps.iter().for_each(|step| take_step(&mut world, step));
        let request = |body: &str| Some(RequestKey { sender: "v".into(), key: "k".into(), body: body.into() });
        let kind = K::PostMessage { conversation_id: chat_id(chat), message: message() };
        let first = world.command(Actor::Visitor(visitor_id(chat)), kind.clone(), request("a"));
        let Ok(events) = world.submit(&first) else { return Ok(()) };
        let before = world.events.len();
        let retry = world.command(Actor::Visitor(visitor_id(chat)), kind.clone(), request("a"));
        let Decision::Repeated(record) = decide(&world.state, &retry, Timestamp(world.clock)).expect("a repeat") else {
            panic!("a retry is recognized");
        };
        prop_assert_eq!(record.event, events[0].id, "a repeat gives the first answer");
        let other = world.command(Actor::Visitor(visitor_id(chat)), kind, request("b"));
        let refused = decide(&world.state, &other, Timestamp(world.clock)).expect_err("another body");
        prop_assert_eq!(refused.code, "idempotency_mismatch");
        prop_assert_eq!(world.events.len(), before);
    }
}

/// A state's entities in one order, as text: maps have none.
fn sorted(state: &State) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    all.extend(state.groups.values().map(|entity| format!("{entity:?}")));
    all.extend(state.agents.values().map(|entity| format!("{entity:?}")));
    all.extend(state.conversations.values().map(|entity| format!("{entity:?}")));
    all.extend(state.visitors.values().map(|entity| format!("{entity:?}")));
    all.extend(state.chatbots.values().map(|entity| format!("{entity:?}")));
    all.extend(state.tenants.values().map(|entity| format!("{entity:?}")));
    all.extend(state.rosters.values().map(|entity| format!("{entity:?}")));
    all.sort();
    all
}

/// The longest waiting conversation is served first, and one that comes back goes to the very front.
#[test]
fn who_comes_back_from_an_agent_who_leaves_is_served_first() {
    let mut world = World::new();
    let online = |of: usize, status| K::SetAgentStatus { agent_id: agent_id(of), status, accepting_chats: None };
    world.run(Actor::Agent(agent_id(2)), online(2, AgentStatus::Online)).expect("online");
    for chat in 0..4 {
        take_step(&mut world, &Step::Start(chat, true, None));
    }
    take_step(&mut world, &Step::Job);
    // Agent 2 has two slots: chats 0 and 1 are with them, 2 and 3 wait.
    world.run(Actor::Agent(agent_id(2)), online(2, AgentStatus::Offline)).expect("offline");
    let queue: Vec<ConversationId> = world.state.rosters[&world.tenant].queue.by_rank().into_values().collect();
    assert_eq!(queue, [chat_id(0), chat_id(1), chat_id(2), chat_id(3)]);
}

/// `take` says who won; `assign` by a person may go over the capacity.
#[test]
fn people_may_do_what_the_job_may_not() {
    let mut world = World::new();
    for chat in 0..2 {
        take_step(&mut world, &Step::Start(chat, true, None));
        let kind = K::Assign { conversation_id: chat_id(chat), agent_id: agent_id(1), reason: None };
        world.run(Actor::Agent(agent_id(2)), kind).expect("over the capacity of 1, by hand");
    }
    assert_eq!(world.state.agents[&agent_id(1)].active_chats, 2);
    let lost = world.run(Actor::Agent(agent_id(3)), K::Take { conversation_id: chat_id(0) }).expect_err("taken");
    assert_eq!((lost.status, lost.winner), (409, Some(agent_id(1))));
    assert!(world.run(Actor::Agent(agent_id(1)), K::Take { conversation_id: chat_id(0) }).expect("mine").is_empty());
}

/// What one of `chat 0`'s people does: `take 2`, `resolve 2`, `write`, `rate 5 words`.
fn act(world: &mut World, step: &str) -> Vec<Event> {
    let conversation_id = chat_id(0);
    let words: Vec<&str> = step.split(' ').collect();
    let agent = || Actor::Agent(agent_id(words[1].parse().expect("a number")));
    let visitor = Actor::Visitor(visitor_id(0));
    let (actor, kind) = match words[0] {
        "write" => (visitor, K::PostMessage { conversation_id, message: message() }),
        "end" => (visitor, K::Resolve { conversation_id }),
        "leave" => (visitor, K::Close { conversation_id }),
        "take" => (agent(), K::Take { conversation_id }),
        "pass" => {
            let to = TransferTo::Agent(agent_id(words[2].parse().expect("a number")));
            (agent(), K::Transfer { conversation_id, to, note: None })
        }
        "resolve" => (agent(), K::Resolve { conversation_id }),
        "reopen" => (agent(), K::Reopen { conversation_id }),
        "close" => (agent(), K::Close { conversation_id }),
        "dismiss" => (Actor::Operator, K::DeleteAgent { agent_id: agent_id(words[1].parse().expect("a number")) }),
        "rate" => {
            let mark = |word: &&str| MarkedComment { text: sealed(b"visitor"), mark: (*word).to_owned() };
            let score = words[1].parse().expect("a number");
            (visitor, K::Rate { conversation_id, score, comment: words.get(2).map(mark) })
        }
        other => panic!("nobody can {other}"),
    };
    world.run(actor, kind).unwrap_or_else(|refusal| panic!("{step}: {refusal:?}"))
}

/// A rating is of the thread that ended last and its agent's; what repeats it writes nothing, and what differs replaces it.
#[test]
fn ratings_are_of_the_thread_that_ended() {
    for (steps, expected) in [
        // Before any end: the thread under way.
        ("rate 2", "2 of 1 to 0"),
        ("take 1|rate 2|rate 2", "2 of 2 to 1"),
        ("take 1|rate 2|resolve 1|rate 2|rate 4", "2 of 2 to 1|4 of 2 to 1"),
        // A double click, a changed mind, words, the same words.
        ("take 1|resolve 1|rate 5|rate 5", "5 of 2 to 1"),
        ("take 1|resolve 1|rate 1|rate 3|rate 1", "1 of 2 to 1|3 of 2 to 1|1 of 2 to 1"),
        ("take 1|resolve 1|rate 5|rate 5 nice|rate 5 nice|rate 5", "5 of 2 to 1|5 of 2 to 1"),
        ("take 1|resolve 1|rate 5 nice|rate 5 good|rate 4 good", "5 of 2 to 1|5 of 2 to 1|4 of 2 to 1"),
        // Late, after a reopen, with another agent by then, or none any more.
        ("take 1|resolve 1|write|rate 5", "5 of 2 to 1"),
        ("take 1|resolve 1|rate 4|write|take 2|rate 4|rate 5", "4 of 2 to 1|5 of 2 to 1"),
        ("take 1|resolve 1|reopen 2|take 2|rate 3", "3 of 2 to 1"),
        ("take 1|pass 1 2|resolve 2|rate 3", "3 of 3 to 2"),
        ("take 1|resolve 1|dismiss 1|rate 3", "3 of 2 to 1"),
        // The next resolve is rated anew, by the same score too.
        ("take 1|resolve 1|rate 5|write|take 2|resolve 2|rate 5", "5 of 2 to 1|5 of 4 to 2"),
        ("take 1|resolve 1|rate 5 nice|write|end|rate 5 nice", "5 of 2 to 1|5 of 3 to 0"),
        // Closed: what was resolved before ended there; what wasn't ends here.
        ("take 1|resolve 1|close 1|rate 5|rate 5", "5 of 2 to 1"),
        ("take 1|close 1|rate 5", "5 of 2 to 1"),
        ("take 1|resolve 1|rate 5|write|take 2|leave|rate 5", "5 of 2 to 1|5 of 4 to 2"),
        ("end|rate 1", "1 of 1 to 0"),
    ] {
        let mut world = World::new();
        take_step(&mut world, &Step::Start(0, true, None));
        let made: Vec<Event> = steps.split('|').flat_map(|step| act(&mut world, step)).collect();
        let threads: Vec<_> = world.state.conversations[&chat_id(0)].threads.iter().map(|thread| thread.id).collect();
        let said = made.iter().filter_map(|event| match &event.payload {
            Payload::ConversationRated(rated) => {
                let thread = threads.iter().position(|id| *id == rated.thread_id).expect("a thread") + 1;
                let agent = (1..=AGENTS).find(|number| Some(agent_id(*number)) == rated.agent_id).unwrap_or(0);
                Some(format!("{} of {thread} to {agent}", rated.score))
            }
            _ => None,
        });
        assert_eq!(said.collect::<Vec<_>>().join("|"), expected, "{steps}");
    }
}

/// New tenants follow the newest definitions; who signed up before there was a choice stays with the first.
#[test]
fn only_new_tenants_follow_the_newest_definitions() {
    let world = World::new();
    assert_eq!(world.state.tenants[&world.tenant].settings.metrics_version, 2);
    for (version, follows) in [(1, 1), (2, 2)] {
        let golden = format!("../ingest/tests/golden/tenant_created.v{version}.json");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(golden);
        let event = Event::decode(std::fs::read_to_string(path).expect("readable").trim_end()).expect("decodes");
        let mut state = State::default();
        apply(&mut state, &event);
        let settings = &state.tenants[&event.tenant].settings;
        assert_eq!(settings.metrics_version, follows);
        let stored = serde_json::to_string(settings).expect("JSON");
        assert_eq!(stored.contains("metrics_version"), version > 1, "rows of older tenants stay as they are: {stored}");
    }
}

/// The core knows no clock, runtime, database or web framework: it can be driven from anywhere.
#[test]
fn the_core_imports_nothing_impure() {
    let mut paths = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core")];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(path).expect("a folder").map(|file| file.expect("an entry").path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        for word in ["tokio", "axum", "rusqlite", "Timestamp::now", "SystemTime", "Instant::", "::fresh()", "rand::"] {
            assert!(!text.contains(word), "{} mentions {word}", path.display());
        }
    }
}

/// What an agent doesn't see they can't change, by its own id or through its visitor: the core itself refuses, as if nothing
/// were there, whatever looked at it before the command came.
#[test]
fn what_an_agent_does_not_see_they_cannot_change() {
    let mut world = World::new();
    take_step(&mut world, &Step::Start(0, true, Some(0)));
    let conversation_id = chat_id(0);
    let visitor_id = visitor_id(0);
    let agent_id = agent_id(1);
    let by = Actor::Agent(agent_id);
    let commands = || {
        vec![
            K::PostMessage { conversation_id, message: message() },
            K::PostNote { conversation_id, content: sealed(b"visitor"), client_id: None },
            K::Assign { conversation_id, agent_id, reason: None },
            K::Transfer { conversation_id, to: TransferTo::Agent(agent_id), note: None },
            K::Unassign { conversation_id },
            K::UpdateConversation { conversation_id, notes: Some(Some(sealed(b"visitor"))), group_id: Some(None) },
            K::MarkStale { conversation_id },
            K::Snooze { conversation_id, until: None },
            K::Read { conversation_id, seq: 1 },
            K::Tag { conversation_id, add: vec!["x".into()], remove: vec![] },
            K::Resolve { conversation_id },
            K::Reopen { conversation_id },
            K::Close { conversation_id },
            K::UpdateVisitor {
                visitor_id,
                name: Some(sealed(b"visitor")),
                email: None,
                look_up: LookUp::default(),
                phone: None,
                metadata: None,
            },
            K::BlockVisitor { visitor_id },
            K::UnblockVisitor { visitor_id },
            K::Take { conversation_id },
        ]
    };
    for kind in commands() {
        let what = format!("{kind:?}");
        let refused = world.run(by, kind).expect_err(&what);
        assert_eq!((refused.status, refused.code), (404, "not_found"), "{what}");
    }
    take_step(&mut world, &Step::Join(1, 0, true));
    let taken = world.run(by, commands().pop().expect("a command")).expect("theirs to take");
    assert!(!taken.is_empty());
}
