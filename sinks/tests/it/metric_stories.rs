//! The metric definitions, version 1: a conversation in, its rows and its last version out.

use crate::story::{Story, agent};
use expect_test::{Expect, expect};
use ingest::event::Actor;
use ingest::id::AgentId;
use sinks::parquet::facts::FactRow;
use sinks::parquet::metrics::ConversationMetrics;

fn name(id: AgentId) -> &'static str {
    ["ada", "bob"].into_iter().find(|name| agent(name) == id).unwrap_or("?")
}

fn show(row: &FactRow) -> String {
    let seconds = |label: &str, value: Option<f64>| value.map_or(String::new(), |value| format!(" {label}={value}"));
    match row {
        FactRow::Message(m) => {
            let author = match m.author {
                Actor::Agent(id) => name(id),
                _ => m.author_type.as_str(),
            };
            let reply = seconds("reply", m.reply_seconds);
            format!("{} message {author}{reply}{}", m.seq, seconds("first", m.first_response_seconds))
        }
        FactRow::Resolution(r) => {
            format!("{} resolution by {}{}", r.seq, name(r.resolved_by), seconds("after", Some(r.resolution_seconds)))
        }
        FactRow::Rating(r) => format!("{} rating {}", r.seq, r.score),
    }
}

fn check(script: &str, expected: Expect) {
    let mut story = Story::new("acme", "c1");
    let mut metrics = ConversationMetrics::new(story.tenant, story.conversation);
    let mut rows = Vec::new();
    for event in story.tell(script) {
        metrics.apply(&event, &mut rows);
        // At-least-once delivery must not count twice.
        metrics.apply(&event, &mut rows);
    }
    let mut lines: Vec<String> = rows.iter().map(show).collect();
    let c = metrics.row().expect("started");
    lines.push(format!(
        "v{} {} agent={} tags={} first={:?} resolved_at={:?} resolutions={} messages={}/{}/{} rating={:?}",
        c.version,
        c.status.as_str(),
        c.agent_id.map_or("-", name),
        c.tags.join(","),
        c.first_response_seconds,
        c.resolved_at.map(|at| at.0),
        c.resolutions,
        c.messages_visitor,
        c.messages_agent,
        c.messages_bot,
        c.rating
    ));
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

/// The wait begins with the earliest unanswered message, and ends with one answer.
#[test]
fn a_reply_counts_from_the_earliest_unanswered_message() {
    check(
        "0:00 start | 0:01 visitor | 0:31 visitor | 1:01 agent ada | 1:02 agent ada | 2:00 visitor | 2:00.25 agent ada",
        expect![[r#"
            2 message visitor
            3 message visitor
            4 message ada reply=60 first=60
            5 message ada
            6 message visitor
            7 message ada reply=0.25
            v7 pending agent=- tags= first=Some(60.0) resolved_at=None resolutions=0 messages=3/3/0 rating=None
        "#]],
    );
}

/// A bot greets and answers; the visitor still waits for a person.
#[test]
fn a_bot_ends_no_wait() {
    check(
        "0:00 start | 0:01 visitor | 0:02 bot | 0:41 agent ada",
        expect![[r#"
            2 message visitor
            3 message bot
            4 message ada reply=40 first=40
            v4 pending agent=- tags= first=Some(40.0) resolved_at=None resolutions=0 messages=1/1/1 rating=None
        "#]],
    );
}

/// An agent who speaks first answers nobody; the first response is the first message after the visitor's first.
#[test]
fn an_agent_who_speaks_first_is_no_response() {
    check(
        "0:00 start | 0:01 agent ada | 0:10 visitor | 0:15 agent bob",
        expect![[r#"
            2 message ada
            3 message visitor
            4 message bob reply=5 first=5
            v4 pending agent=- tags= first=Some(5.0) resolved_at=None resolutions=0 messages=1/2/0 rating=None
        "#]],
    );
}

/// Notes are seen by agents only: they answer nobody and are no messages.
#[test]
fn a_note_answers_nobody() {
    check(
        "0:00 start | 0:01 visitor | 0:05 note ada | 0:11 agent ada",
        expect![[r#"
            2 message visitor
            4 message ada reply=10 first=10
            v4 pending agent=- tags= first=Some(10.0) resolved_at=None resolutions=0 messages=1/1/0 rating=None
        "#]],
    );
}

/// Each resolve is a row: the first from the beginning, the next from the reopen.
#[test]
fn a_reopened_conversation_adds_a_second_resolution() {
    check(
        "0:00 start | 0:01 visitor | 0:02 assign ada | 1:00 resolve ada | 10:00 reopen | 10:01 visitor | 12:00 resolve bob",
        expect![[r#"
            2 message visitor
            4 resolution by ada after=60
            6 message visitor
            7 resolution by bob after=120
            v7 resolved agent=bob tags= first=None resolved_at=Some(720000) resolutions=2 messages=2/0/0 rating=None
        "#]],
    );
}

/// Standby and idle resolve as the system: no resolution, but the next period begins at the reopen.
#[test]
fn a_resolve_by_the_system_does_not_count() {
    check(
        "0:00 start | 0:01 visitor | 0:02 assign ada | 10:00 resolve system | 20:00 reopen | 21:00 resolve ada",
        expect![[r#"
            2 message visitor
            6 resolution by ada after=60
            v6 resolved agent=ada tags= first=None resolved_at=Some(1260000) resolutions=1 messages=1/0/0 rating=None
        "#]],
    );
}

#[test]
fn assignment_tags_and_ratings_are_in_the_last_version() {
    check(
        "0:00 start | 0:01 visitor | 0:02 queue | 0:03 assign ada | 0:04 unassign ada | 0:05 assign bob | 0:06 tag +vip +vip +new \
         | 0:07 tag -new | 0:08 rate 2 | 0:09 rate 5 | 0:10 close bob",
        expect![[r#"
            2 message visitor
            9 rating 2
            10 rating 5
            v11 closed agent=bob tags=vip first=None resolved_at=None resolutions=0 messages=1/0/0 rating=Some(5)
        "#]],
    );
}
