//! The strategies and the group queues on the pure core: who gets what, and what is recorded about it.

use chat_api::core::command::{AgentDetails, Command, CommandKind as K, NewAgent, NewMessage, NewVisitor};
use chat_api::core::decide::Decision;
use chat_api::core::{Rejection, State, apply, decide};
use ingest::event::{Actor, Event};
use ingest::id::{AgentId, ChatbotId, ConversationId, EventId, GroupId, PersonId, TenantId, VisitorId};
use ingest::payload::{
    AgentAssigned, AgentStatus, ChatbotCreated, GroupCreated, GroupMembersChanged, GroupUpdated, Payload, Resource,
    Role, RoutingStrategy, Trigger,
};
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A tenant with a chatbot, driven without a server. Agents, groups and chats go by numbers.
struct World {
    state: State,
    tenant: TenantId,
    commands: u64,
    events: Vec<Event>,
}

fn sealed() -> Sealed {
    Sealed { person: PersonId::derived(&[b"p"]), ciphertext: "AAAA".to_owned() }
}

fn agent(number: u64) -> AgentId {
    AgentId(uuid::Uuid::from_u128(u128::from(number)))
}

fn group(number: u64) -> GroupId {
    GroupId::derived(&[&number.to_le_bytes()])
}

fn chat(number: u64) -> ConversationId {
    ConversationId::derived(&[&number.to_le_bytes()])
}

fn chatbot() -> ChatbotId {
    ChatbotId::derived(&[b"bot"])
}

impl World {
    /// With agents `1..=agents`, all online.
    fn new(agents: u64, capacity: u32) -> Self {
        let tenant = TenantId::derived(&[b"tenant"]);
        let mut world = Self { state: State::default(), tenant, commands: 0, events: Vec::new() };
        let kind = K::CreateTenant { name: "T".into(), slug: "t".into(), time_zone: "UTC".into(), owner: None };
        world.run(kind);
        for number in 1..=agents {
            world.run(K::CreateAgent(NewAgent {
                agent_id: agent(number),
                name: sealed(),
                email: None,
                email_hmac: None,
                password_hash: None,
                role: Role::Agent,
                max_concurrent_chats: capacity,
                external_id: None,
                details: AgentDetails::default(),
            }));
            world.status(number, AgentStatus::Online);
        }
        world.run(K::CreateChatbot(ChatbotCreated {
            chatbot_id: chatbot(),
            name: "b".into(),
            api_key: "k".into(),
            allowed_origins: vec![],
            greeting: String::new(),
            waiting_text: String::new(),
            theme: serde_json::Map::new(),
            default_group_id: None,
        }));
        world
    }

    fn try_run(&mut self, actor: Actor, kind: K) -> Result<Vec<Event>, Rejection> {
        self.commands += 1;
        let first_event = EventId::derived(&[&self.commands.to_le_bytes()]);
        let command = Command { tenant: self.tenant, actor, first_event, request: None, cause: None, kind };
        let now = Timestamp(1_700_000_000_000 + i64::try_from(self.commands).expect("few") * 1_000);
        let Decision::Events(events) = decide(&self.state, &command, now)? else { panic!("no keys here") };
        events.iter().for_each(|event| apply(&mut self.state, event));
        self.events.extend(events.iter().cloned());
        Ok(events)
    }

    fn run(&mut self, kind: K) -> Vec<Event> {
        self.try_run(Actor::Operator, kind).expect("allowed")
    }

    fn status(&mut self, number: u64, status: AgentStatus) {
        self.run(K::SetAgentStatus { agent_id: agent(number), status, accepting_chats: None });
    }

    fn group(&mut self, number: u64, strategy: RoutingStrategy, members: impl IntoIterator<Item = u64>) {
        self.run(K::CreateGroup(GroupCreated {
            group_id: group(number),
            name: format!("{number}"),
            description: String::new(),
            routing_strategy: strategy,
            is_default: false,
        }));
        let add = members.into_iter().map(agent).collect();
        self.run(K::ChangeMembers(GroupMembersChanged { group_id: group(number), add, remove: vec![] }));
    }

    /// A visitor's first message; chat `n` is visitor `n`'s.
    fn start(&mut self, number: u64, in_group: Option<u64>) {
        let visitor_id = VisitorId::derived(&[&number.to_le_bytes()]);
        let visitor = NewVisitor::anonymous(visitor_id, "amber-otter-1".into());
        let message =
            NewMessage { content: sealed(), content_chars: 2, client_id: None, metadata: None, file_id: None };
        let kind = K::StartSession {
            visitor,
            conversation_id: chat(number),
            chatbot_id: chatbot(),
            group_id: in_group.map(group),
            skills: Vec::new(),
            message: Some(message),
        };
        self.try_run(Actor::Visitor(visitor_id), kind).expect("a session");
    }

    /// What the job does after a trigger; the assignments it made.
    fn job(&mut self) -> Vec<AgentAssigned> {
        let events = self.run(K::AssignQueue { trigger: Trigger::FirstMessage });
        let assigned = |event: Event| match event.payload {
            Payload::AgentAssigned(assigned) => assigned,
            other => panic!("the job only assigns, not {other:?}"),
        };
        events.into_iter().map(assigned).collect()
    }

    /// Starts a chat; who gets it.
    fn chosen(&mut self, number: u64, in_group: Option<u64>) -> Option<AgentId> {
        self.start(number, in_group);
        self.job();
        self.state.conversations[&chat(number)].agent
    }

    fn resolve(&mut self, number: u64) {
        self.run(K::Resolve { conversation_id: chat(number) });
    }

    fn waiting(&self) -> Vec<ConversationId> {
        self.state.rosters[&self.tenant].queue.by_rank().into_values().collect()
    }
}

fn reason(assigned: &AgentAssigned, of: u64) -> (bool, &str) {
    let found = assigned.candidates.iter().find(|one| one.agent_id == agent(of)).expect("looked at");
    (found.eligible, &found.reason)
}

#[test]
fn round_robin_rotates_and_goes_on_where_it_was_after_a_replay() {
    let mut world = World::new(3, 100);
    world.group(1, RoutingStrategy::RoundRobin, 1..=3);
    let turns: Vec<_> = (0..5).filter_map(|number| world.chosen(number, Some(1))).collect();
    assert_eq!(turns, [1, 2, 3, 1, 2].map(agent));
    let mut replayed = State::default();
    for event in &world.events {
        apply(&mut replayed, &Event::decode(&event.encode()).expect("decodes"));
    }
    assert_eq!(replayed.groups[&group(1)].last_assigned, Some(agent(2)));
    world.state = replayed;
    assert_eq!(world.chosen(5, Some(1)), Some(agent(3)));
    // Who isn't there is passed by; a person's decision takes no turn.
    world.status(1, AgentStatus::Away);
    world.start(6, Some(1));
    world.run(K::Assign { conversation_id: chat(6), agent_id: agent(3), reason: None });
    assert_eq!(world.chosen(7, Some(1)), Some(agent(2)));
    world.status(1, AgentStatus::Online);
    assert_eq!(world.chosen(8, Some(1)), Some(agent(3)));
}

#[test]
fn least_loaded_takes_the_most_free_slots_then_the_longest_idle() {
    let mut world = World::new(2, 2);
    world.group(1, RoutingStrategy::LeastLoaded, 1..=2);
    let turns: Vec<_> = (0..4).map(|number| world.chosen(number, Some(1))).collect();
    assert_eq!(turns, [1, 2, 1, 2].map(|number| Some(agent(number))));
    assert_eq!(world.chosen(4, Some(1)), None, "everyone is at capacity");
    world.resolve(1);
    let made = world.job();
    assert_eq!((made.len(), made[0].agent_id, &*made[0].strategy), (1, agent(2), "least_loaded"));
    assert_eq!(made[0].group_id, Some(group(1)));
    assert_eq!(reason(&made[0], 1), (false, "at capacity"));
}

#[test]
fn sticky_takes_the_visitors_last_agent_else_the_least_loaded() {
    let mut world = World::new(3, 2);
    world.group(1, RoutingStrategy::Sticky, [1, 2]);
    assert_eq!(world.chosen(0, Some(1)), Some(agent(1)));
    world.run(K::Assign { conversation_id: chat(0), agent_id: agent(2), reason: None });
    world.resolve(0);
    world.run(K::Reopen { conversation_id: chat(0) });
    let back = world.job();
    assert_eq!((back[0].agent_id, reason(&back[0], 2)), (agent(2), (true, "the visitor's last agent")));
    world.resolve(0);
    world.status(2, AgentStatus::Away);
    world.run(K::Reopen { conversation_id: chat(0) });
    let other = world.job();
    assert_eq!((other[0].agent_id, reason(&other[0], 2)), (agent(1), (false, "away")));
    assert!(reason(&other[0], 1).1.starts_with("the visitor's last agent isn't eligible"));
    // One who left the group isn't taken, however well known.
    world.run(K::Assign { conversation_id: chat(0), agent_id: agent(3), reason: None });
    world.resolve(0);
    world.run(K::Reopen { conversation_id: chat(0) });
    assert_eq!(world.job()[0].agent_id, agent(1));
}

#[test]
fn skills_takes_who_has_all_else_the_best_overlap_else_the_least_loaded() {
    let mut world = World::new(3, 1);
    world.group(1, RoutingStrategy::Skills, 1..=3);
    let skills = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    for (number, words) in [(2, &["billing"][..]), (3, &["billing", "french", "german"])] {
        world.state.agents.get_mut(&agent(number)).expect("there").skills = skills(words);
    }
    for number in 0..4 {
        world.start(number, Some(1));
        world.state.conversations.get_mut(&chat(number)).expect("there").skills = skills(&["billing", "french"]);
    }
    let made = world.job();
    assert_eq!(made.iter().map(|one| one.agent_id).collect::<Vec<_>>(), [3, 2, 1].map(agent), "never above capacity");
    assert!(reason(&made[0], 3).1.starts_with("all skills"));
    assert!(reason(&made[0], 2).1.starts_with("1 of 2 skills"));
    assert!(reason(&made[1], 2).1.starts_with("1 of 2 skills"));
    assert_eq!(reason(&made[1], 3), (false, "at capacity"));
    assert!(reason(&made[2], 1).1.starts_with("0 of 2 skills"), "better anyone than nobody");
    assert_eq!(world.waiting(), [chat(3)]);
}

#[test]
fn a_groups_conversation_goes_only_to_its_members_and_a_busy_group_holds_up_nobody() {
    let mut world = World::new(2, 1);
    world.group(1, RoutingStrategy::RoundRobin, [1]);
    world.group(2, RoutingStrategy::LeastLoaded, [2]);
    for number in 0..3 {
        world.start(number, Some(1));
    }
    world.start(3, Some(2));
    let made = world.job();
    let got: Vec<_> = made.iter().map(|one| (one.agent_id, one.candidates.len())).collect();
    assert_eq!(got, [(agent(1), 1), (agent(2), 1)], "the fourth doesn't wait for the second and third");
    assert_eq!(world.waiting(), [chat(1), chat(2)]);
    world.run(K::ChangeMembers(GroupMembersChanged { group_id: group(1), add: vec![agent(2)], remove: vec![] }));
    world.resolve(3);
    assert_eq!(world.job()[0].agent_id, agent(2));
    assert_eq!(world.waiting(), [chat(2)]);
}

/// Named in the session, else the chatbot's, else the tenant's default, else none: then everybody qualifies.
#[test]
fn a_session_gets_its_group() {
    let mut world = World::new(1, 9);
    let of = |world: &mut World, number: u64, asked: Option<u64>| {
        world.start(number, asked);
        world.state.conversations[&chat(number)].group
    };
    assert_eq!(of(&mut world, 0, None), None);
    (1..=3).for_each(|number| world.group(number, RoutingStrategy::LeastLoaded, []));
    let default = |number: u64| GroupUpdated { is_default: Some(true), ..GroupUpdated::nothing(group(number)) };
    world.run(K::UpdateGroup(default(1)));
    world.run(K::UpdateGroup(default(2)));
    assert!(!world.state.groups[&group(1)].is_default, "one default a tenant, the last one set");
    assert_eq!(of(&mut world, 1, None), Some(group(2)));
    world.state.chatbots.get_mut(&chatbot()).expect("there").default_group = Some(group(3));
    assert_eq!(of(&mut world, 2, None), Some(group(3)));
    assert_eq!(of(&mut world, 3, Some(1)), Some(group(1)));
    world.run(K::Delete(Resource::Group(group(3))));
    assert_eq!(of(&mut world, 4, None), Some(group(2)), "a deleted one serves nobody");
    let waiting = world.job();
    assert_eq!(waiting.len(), 1, "only the first: the groups are empty");
}

#[test]
fn a_deleted_groups_conversations_fall_to_the_default_else_to_everyone() {
    let mut world = World::new(2, 1);
    world.group(1, RoutingStrategy::LeastLoaded, []);
    world.group(2, RoutingStrategy::LeastLoaded, [2]);
    world.run(K::UpdateGroup(GroupUpdated { is_default: Some(true), ..GroupUpdated::nothing(group(2)) }));
    world.start(0, Some(1));
    world.start(1, Some(1));
    assert_eq!(world.job().len(), 0);
    world.run(K::Delete(Resource::Group(group(1))));
    let made = world.job();
    assert_eq!((made.len(), made[0].agent_id, made[0].group_id), (1, agent(2), Some(group(2))));
    world.run(K::Delete(Resource::Group(group(2))));
    let made = world.job();
    assert_eq!((made.len(), made[0].agent_id, made[0].group_id), (1, agent(1), None));
}

/// Those who wait and can't be served now aren't even looked at.
#[test]
fn no_more_heads_are_read_than_can_be_assigned() {
    let mut world = World::new(3, 2);
    world.group(1, RoutingStrategy::LeastLoaded, [1]);
    world.group(2, RoutingStrategy::LeastLoaded, [2, 3]);
    for number in 0..30 {
        world.start(number, [Some(1), Some(2), None][usize::try_from(number % 3).expect("small")]);
    }
    let heads = world.state.queue_heads(world.tenant);
    let lengths: Vec<_> = [Some(group(1)), Some(group(2)), None].iter().map(|group| heads[group].len()).collect();
    assert_eq!(lengths, [2, 4, 6]);
    assert_eq!(world.job().len(), 6, "every slot is filled");
    assert!(world.state.queue_heads(world.tenant).is_empty());
}

#[test]
fn who_waits_keeps_waiting_from_then_when_handed_to_another_group() {
    let mut world = World::new(1, 1);
    world.group(1, RoutingStrategy::LeastLoaded, []);
    world.group(2, RoutingStrategy::LeastLoaded, [1]);
    world.start(0, Some(1));
    let since = world.state.conversations[&chat(0)].queued.expect("waits").since;
    let thread_id = world.state.conversations[&chat(0)].thread().id;
    let queued = ingest::payload::ConversationQueued {
        thread_id,
        trigger: Trigger::Transferred,
        rank: 7,
        group_id: Some(group(2)),
    };
    let mut event = world.events.last().expect("some").clone();
    (event.seq, event.payload) = (event.seq + 1, queued.into());
    apply(&mut world.state, &event);
    assert_eq!(world.state.conversations[&chat(0)].queued.expect("waits").since, since);
    assert_eq!(world.waiting().len(), 1, "in one line only");
    assert_eq!(world.job()[0].agent_id, agent(1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever is there all the time gets as many as any other who is, give or take one; others come and go as they like.
    #[test]
    fn round_robin_differs_by_at_most_one(steps in prop::collection::vec((0..6_u64, any::<bool>()), 1..120)) {
        let mut world = World::new(5, 1_000);
        world.group(1, RoutingStrategy::RoundRobin, 1..=5);
        let always = [1, 3, 4];
        for (number, (who, online)) in (0..).zip(steps) {
            if who == 2 || who == 5 {
                world.status(who, if online { AgentStatus::Online } else { AgentStatus::Away });
            } else {
                prop_assert!(world.chosen(number, Some(1)).is_some());
            }
        }
        let mut counts: BTreeMap<AgentId, usize> = always.iter().map(|number| (agent(*number), 0)).collect();
        for event in &world.events {
            if let Payload::AgentAssigned(assigned) = &event.payload {
                counts.entry(assigned.agent_id).and_modify(|count| *count += 1);
            }
        }
        let (most, least) = (counts.values().max(), counts.values().min());
        prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{counts:?}");
    }
}
