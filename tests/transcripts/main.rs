//! Export and import carry a tenant's history whole: reports, authors and words are the same where it's imported.
//!
//! [`world`] makes up 1,000 conversations by the real core; the real binary exports, imports and reports.

#[path = "../support/mod.rs"]
mod support;
mod world;

use ingest::event::Event;
use ingest::id::{AgentId, ConversationId, GroupId, TenantId, ThreadId, VisitorId};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use support::{Server, http_client, run};
use world::{BEGINS, SLUG, World, chatbot_id};

/// How many conversations are begun.
const CONVERSATIONS: usize = 1_000;
/// Columns that aren't carried, and why.
const LEFT_OUT: [(&str, &str); 7] = [
    ("event_id", "an event that is imported is a new one"),
    ("recorded_at", "when it was written here"),
    ("origin", "live there, import here"),
    ("online_s", "who was online is no conversation's"),
    ("occupancy", "the share of what was online"),
    ("online_agents", "who is online now"),
    ("available_slots", "of those who are online now"),
];
/// Endpoints that aren't compared, and why.
const OTHERS: [(&str, &str); 1] = [("notification_outcomes", "mails were sent from there")];

/// Endpoints that follow the tenant's version of the metrics' definitions, the second, unless they are asked for the first.
const VERSIONED: [&str; 4] = ["agent_performance", "csat", "reply_time", "sla"];

/// A tenant of the binary's and a token for its reports.
struct Place {
    server: Server,
    token: String,
}

impl Place {
    async fn serve(dir: &Path, slug: &str) -> Self {
        let all = ["--scope", "PIPES:READ:*", "--scope", "DATASOURCES:READ:*"];
        let token = run(dir, &[&["token", "create", "--tenant", slug, "--name", "r"], &all[..]].concat());
        Self { server: Server::start(dir, &[]), token: token.trim().to_owned() }
    }

    /// Rows of a call; asks again while the facts are behind the log.
    async fn rows(&self, pipe: &str, query: &[(String, String)]) -> Vec<Map<String, Value>> {
        for _ in 0..120 {
            let url = format!("{}/v0/pipes/{pipe}.json", self.server.base);
            let request = http_client(120).get(url).query(query).bearer_auth(&self.token);
            let answer = request.send().await.expect("an answer");
            if answer.status() == 503 {
                continue;
            }
            assert_eq!(answer.status(), 200, "{pipe} {query:?}: {}", answer.text().await.unwrap_or_default());
            let answer: Value = answer.json().await.expect("JSON");
            let rows = answer["data"].as_array().expect("rows").iter();
            return rows.map(|row| row.as_object().expect("an object").clone()).collect();
        }
        panic!("the facts stay behind the log");
    }
}

/// Makes an empty tenant with a chatbot that is called as there; gives its id and the chatbot's.
async fn empty_tenant(dir: &Path) -> (TenantId, String) {
    let made = run(dir, &["tenant", "create", "--name", "target", "--email", "owner@target.example"]);
    let word = |name: &str| {
        let start = made.find(&format!("{name}=")).expect("said") + name.len() + 1;
        made[start..].split_whitespace().next().expect("a word").to_owned()
    };
    let server = Server::start(dir, &[]);
    let body = serde_json::json!({ "email": "owner@target.example", "password": word("password"), "tenant": "target" });
    let token = server.post("/v1/auth/login", "", body).await["access_token"].as_str().expect("a token").to_owned();
    let (hours, targets) = (world::opening_hours(), world::sla_targets());
    let patch = serde_json::json!({ "timeZone": "Europe/Berlin", "openingHours": hours, "slaTargets": targets });
    let (status, answer) = server.call(reqwest::Method::PATCH, "/v1/tenants/me", &token, Some(patch)).await;
    assert!(status.is_success(), "{answer}");
    let body = serde_json::json!({ "name": "Site", "allowedOrigins": [] });
    let chatbot = server.post("/v1/chatbots", &token, body).await["id"].as_str().expect("an id").to_owned();
    server.stop();
    (word("tenant").parse().expect("an id"), chatbot)
}

/// What every id there is called here.
fn ids(world: &World, tenant: TenantId, chatbot: &str) -> HashMap<String, String> {
    let mut ids = HashMap::from([(chatbot_id().to_string(), chatbot.to_owned())]);
    macro_rules! derived {
        ($map:ident, $id:ident) => {
            for id in world.state.$map.keys().map(ToString::to_string) {
                ids.insert(id.clone(), $id::derived(&[tenant.bytes(), id.as_bytes()]).to_string());
            }
        };
    }
    derived!(agents, AgentId);
    derived!(groups, GroupId);
    derived!(visitors, VisitorId);
    derived!(conversations, ConversationId);
    for chat in world.state.conversations.values() {
        let here = ConversationId::derived(&[tenant.bytes(), chat.id.to_string().as_bytes()]);
        for thread in &chat.threads {
            let name = thread.id.to_string();
            ids.insert(format!("thread {name}"), ThreadId::derived(&[here.bytes(), name.as_bytes()]).to_string());
        }
    }
    ids
}

/// A row without what isn't carried, with the ids from here: what stays the same to the letter, and its fractions.
fn comparable(row: Map<String, Value>, ids: &HashMap<String, String>) -> (String, BTreeMap<String, f64>) {
    let mut words = BTreeMap::new();
    let mut fractions = BTreeMap::new();
    for (name, cell) in row {
        if LEFT_OUT.iter().any(|(left_out, _)| *left_out == name) {
            continue;
        }
        match cell {
            Value::Number(number) if number.is_f64() => {
                fractions.insert(name, number.as_f64().expect("a fraction"));
            }
            Value::String(text) => {
                // A conversation and its first thread may have the same id.
                let kind = if name == "thread_id" { "thread " } else { "" };
                words.insert(name, Value::String(ids.get(&format!("{kind}{text}")).cloned().unwrap_or(text)));
            }
            other => {
                words.insert(name, other);
            }
        }
    }
    (serde_json::to_string(&words).expect("JSON"), fractions)
}

/// Fails unless both have the same rows; fractions may differ by how they were added up, not by a microsecond.
fn assert_same(
    what: &str,
    there: Vec<Map<String, Value>>,
    here: Vec<Map<String, Value>>,
    ids: &HashMap<String, String>,
) {
    let nothing = HashMap::new();
    let mut there: Vec<_> = there.into_iter().map(|row| comparable(row, ids)).collect();
    let mut here: Vec<_> = here.into_iter().map(|row| comparable(row, &nothing)).collect();
    there.sort_by(|a, b| a.0.cmp(&b.0));
    here.sort_by(|a, b| a.0.cmp(&b.0));
    let only = |left: &[(String, BTreeMap<String, f64>)], right: &[(String, BTreeMap<String, f64>)]| {
        let right: BTreeSet<&String> = right.iter().map(|row| &row.0).collect();
        left.iter().map(|row| row.0.clone()).filter(|row| !right.contains(row)).take(2).collect::<Vec<_>>()
    };
    assert_eq!(only(&there, &here), only(&here, &there), "{what}: rows that only one has");
    assert_eq!(there.len(), here.len(), "{what}: as many rows");
    for (there, here) in there.iter().zip(&here) {
        assert_eq!(there.0, here.0, "{what}");
        assert_eq!(there.1.keys().collect::<Vec<_>>(), here.1.keys().collect::<Vec<_>>(), "{what}: {}", here.0);
        for (name, value) in &there.1 {
            let other = here.1[name];
            assert!(
                (value - other).abs() <= 1e-6 * value.abs().max(1.0),
                "{what}: {name} {value} {other} of {}",
                here.0
            );
        }
    }
}

/// Every way to call an endpoint that its parameters' lists of values allow.
fn variants(pipe: &str) -> Vec<Vec<(String, String)>> {
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for part in pipe.split("String(").skip(1) {
        let call = part.split("}}").next().unwrap_or_default().split("%}").next().unwrap_or_default();
        let Some((_, list)) = call.split_once("enum=[") else { continue };
        let name = call.split(',').next().expect("a name").trim().to_owned();
        let values = list.split(']').next().expect("a list").split(',').map(|value| value.trim().trim_matches('\''));
        lists.insert(name, values.map(str::to_owned).collect());
    }
    let mut variants = vec![Vec::new()];
    for (name, values) in lists {
        variants = variants
            .into_iter()
            .flat_map(|variant| {
                let with = |value: &String| [&variant[..], &[(name.clone(), value.clone())]].concat();
                values.iter().map(with).collect::<Vec<_>>()
            })
            .collect();
    }
    variants
}

/// Every endpoint in every way, of the whole time.
async fn compare(there: &Place, here: &Place, world: &World, ids: &HashMap<String, String>) -> usize {
    let pipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/endpoints");
    let mut calls = 0;
    for entry in std::fs::read_dir(pipes).expect("endpoints") {
        let path = entry.expect("an endpoint").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        if name == "event_stream" || OTHERS.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a pipe");
        let mut said = 0;
        let mut asked = variants(&text);
        if VERSIONED.contains(&name.as_str()) {
            asked.push(vec![("version".to_owned(), "1".to_owned())]);
        }
        for mut query in asked {
            if text.contains("date_from") {
                query.push(("date_from".to_owned(), ingest::time::Timestamp(BEGINS).to_string()));
                query.push(("date_to".to_owned(), world.now().plus_ms(1_000).to_string()));
            }
            let pages = if name == "conversation_list" { 0..3 } else { 0..1 };
            let (mut all_there, mut all_here) = (Vec::new(), Vec::new());
            for page in pages {
                let mut query = query.clone();
                if name == "conversation_list" {
                    query.extend([("page_size".into(), "1000".into()), ("page".into(), page.to_string())]);
                }
                all_there.extend(there.rows(&name, &query).await);
                all_here.extend(here.rows(&name, &query).await);
            }
            said += all_there.len();
            assert_same(&format!("{name} {query:?}"), all_there, all_here, ids);
            calls += 1;
        }
        assert!(said > 0 || name == "queue", "{name} says nothing");
    }
    calls
}

/// Every event of every conversation: its kind, its author, its time, its thread, and how the conversation then stood.
async fn compare_events(
    there: &Place,
    here: &Place,
    conversations: impl Iterator<Item = ConversationId>,
    ids: &HashMap<String, String>,
) -> usize {
    let mut events = 0;
    for id in conversations.map(|id| id.to_string()) {
        let query = |id: &str| [("conversation_id".to_owned(), id.to_owned())];
        let rows = there.rows("event_stream", &query(&id)).await;
        events += rows.len();
        assert_same(&format!("event_stream of {id}"), rows, here.rows("event_stream", &query(&ids[&id])).await, ids);
    }
    events
}

fn imported(dir: &Path, file: &Path) -> String {
    run(dir, &["import", "--tenant", "target", file.to_str().expect("a path")]).trim().to_owned()
}

fn exported(dir: &Path, slug: &str, file: &Path) {
    run(dir, &["export", "--tenant", slug, file.to_str().expect("a path")]);
}

fn lines(file: &Path) -> usize {
    std::fs::read_to_string(file).expect("a file").lines().count()
}

/// Every endpoint and every event's author are the same where a history is imported; importing it again changes nothing, and
/// neither does what is exported from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_the_same_elsewhere() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    let mut world = World::start(&source, 7);
    world.live(CONVERSATIONS);
    world.end();
    world.write().await;
    world.close().await;
    let kinds = world.kinds();
    let needed = ["visitor_merged", "conversation_reopened", "conversation_rated", "note_posted", "conversation_stale"];
    assert!(needed.iter().all(|kind| kinds.get(kind).is_some_and(|count| *count > 20)), "{kinds:?}");

    let file = dir.path().join("history.ndjson");
    exported(&source, SLUG, &file);
    let (tenant, chatbot) = empty_tenant(&target).await;
    let chats = world.state.conversations.len();
    assert_eq!(lines(&file), chats);
    assert_eq!(imported(&target, &file), format!("imported={chats} skipped=0 quarantined=0"));
    assert_eq!(imported(&target, &file), format!("imported=0 skipped={chats} quarantined=0"));
    let again = dir.path().join("again.ndjson");
    exported(&target, "target", &again);
    assert_eq!(imported(&target, &again), format!("imported=0 skipped={chats} quarantined=0"));

    let ids = ids(&world, tenant, &chatbot);
    let there = Place::serve(&source, SLUG).await;
    let here = Place::serve(&target, "target").await;
    let calls = compare(&there, &here, &world, &ids).await;
    let events = compare_events(&there, &here, world.state.conversations.keys().copied(), &ids).await;
    println!("{calls} calls, {chats} conversations and {events} events are the same: {kinds:?}");
}

/// What was imported while it still went on is extended, and then its reports are those of one that was imported once.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_has_grown_is_the_same_elsewhere() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    let (tenant, chatbot) = empty_tenant(&target).await;
    let mut world = World::start(&source, 8);
    let file = dir.path().join("history.ndjson");
    world.live(CONVERSATIONS / 5);
    world.write().await;
    world.close().await;
    exported(&source, SLUG, &file);
    let first = lines(&file);
    assert_eq!(imported(&target, &file), format!("imported={first} skipped=0 quarantined=0"));
    let known = world.events.len();
    let went_on: BTreeSet<ConversationId> = {
        world.reopen(&source);
        world.live(CONVERSATIONS / 5);
        world.end();
        world.write().await;
        world.close().await;
        world.events[known..].iter().filter_map(|event: &Event| event.conversation).collect()
    };
    exported(&source, SLUG, &file);
    let all = lines(&file);
    let report = imported(&target, &file);
    let grown = went_on.len();
    assert_eq!(report, format!("imported={grown} skipped={} quarantined=0", all - grown));
    assert!(
        went_on.iter().filter(|id| world.events[..known].iter().any(|event| event.conversation == Some(**id))).count()
            > 20
    );
    assert_eq!(imported(&target, &file), format!("imported=0 skipped={all} quarantined=0"));

    let ids = ids(&world, tenant, &chatbot);
    let there = Place::serve(&source, SLUG).await;
    let here = Place::serve(&target, "target").await;
    compare(&there, &here, &world, &ids).await;
    // Of one that went on there's the end that the first import wrote, too.
    let whole = world.state.conversations.keys().copied().filter(|id| {
        let at_first = world.events[..known].iter().any(|event| event.conversation == Some(*id));
        !(at_first && went_on.contains(id))
    });
    compare_events(&there, &here, whole, &ids).await;
}
