//! The metric definitions: a conversation in, its rows and its last version out.

use crate::story::{Story, agent};
use expect_test::{Expect, expect};
use ingest::event::Actor;
use ingest::id::AgentId;
use sinks::parquet::facts::FactRow;
use sinks::parquet::metrics::ConversationMetrics;
use std::collections::BTreeMap;

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
            let mut reply = seconds("reply", m.reply_seconds);
            if m.reply_seconds_v2 != m.reply_seconds {
                reply += &format!(" v2={:?}", m.reply_seconds_v2);
            }
            format!("{} message {author}{reply}{}", m.seq, seconds("first", m.first_response_seconds))
        }
        FactRow::Resolution(r) => {
            format!("{} resolution by {}{}", r.seq, name(r.resolved_by), seconds("after", Some(r.resolution_seconds)))
        }
        FactRow::Rating(r) => format!("{} rating {}", r.seq, r.score),
        FactRow::Thread(t) => format!(
            "{} thread {}{}{}{}{}{}",
            t.version,
            t.number,
            t.agent_id.map_or(String::new(), |id| format!(" of {}", name(id))),
            if t.group_id.is_some() { " in a group" } else { "" },
            seconds("waited", t.waiting_seconds),
            t.end_reason.as_ref().map_or(String::new(), |reason| format!(
                " {reason} by {} at {}",
                t.ended_by.unwrap_or("?"),
                t.ended_at.map_or(0, |at| at.0)
            )),
            seconds("handled", t.handle_seconds),
        ),
        FactRow::Assignment(a) => format!(
            "{} assignment of {} {} {} after {}{} eligible={:?}",
            a.seq,
            name(a.agent_id),
            a.strategy,
            a.trigger,
            a.queue_trigger.unwrap_or("no wait"),
            seconds("waited", a.waiting_seconds),
            a.eligible
        ),
        FactRow::Activity(a) => {
            let snoozed = if a.snoozed { " snoozed" } else { "" };
            format!("activity of {} {} to {}{snoozed}", name(a.agent_id), a.started_at.0, a.ended_at.0)
        }
        FactRow::Event(e) => {
            let agent = e.agent_id.map_or("-", name);
            format!("{} event {} by {:?}: {} {agent}", e.seq, e.kind, actor(e.actor), e.status)
        }
        FactRow::Notification(n) => format!("notification {} {:?}", n.outcome, n.reason),
        FactRow::Presence(p) => format!("presence {} {}", name(p.agent_id), p.status),
    }
}

fn actor(actor: Actor) -> &'static str {
    match actor {
        Actor::Visitor(_) => "visitor",
        Actor::Agent(id) => name(id),
        Actor::System | Actor::Operator => "system",
    }
}

fn fold(script: &str) -> (Vec<FactRow>, ConversationMetrics) {
    let mut story = Story::new("acme", "c1");
    let mut metrics = ConversationMetrics::new(story.tenant, story.conversation);
    let mut rows = Vec::new();
    for event in story.tell(script) {
        metrics.apply(&event, &mut rows);
        // At-least-once delivery must not count twice.
        metrics.apply(&event, &mut rows);
    }
    (rows, metrics)
}

/// The rows of threads, assignments and slots; and what the last version says of sessions and resolves.
fn check_life(script: &str, expected: Expect) {
    let (rows, metrics) = fold(script);
    let mut lines: Vec<String> = rows
        .iter()
        .filter(|row| {
            matches!(row, FactRow::Thread(_) | FactRow::Assignment(_) | FactRow::Activity(_) | FactRow::Resolution(_))
        })
        .map(|row| match row {
            FactRow::Resolution(r) => show(row) + &format!(" handled={:?}", r.handle_seconds),
            row => show(row),
        })
        .collect();
    let c = metrics.row().expect("started");
    lines.push(format!(
        "assignments={} active_since={:?} resolved_by={:?}{} sessions={} of {:?}",
        c.assignments,
        c.active_since.map(|at| at.0),
        c.resolved_by,
        c.resolve_reason.map_or(String::new(), |reason| format!(" ({reason})")),
        c.sessions,
        c.session_seconds
    ));
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

fn check(script: &str, expected: Expect) {
    let (rows, metrics) = fold(script);
    let told =
        rows.iter().filter(|row| matches!(row, FactRow::Message(_) | FactRow::Resolution(_) | FactRow::Rating(_)));
    let mut lines: Vec<String> = told.map(show).collect();
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

/// One row an event, with how the conversation stood after it.
#[test]
fn every_event_is_a_row() {
    let (rows, _) = fold("0:00 start | 0:01 visitor | 0:02 queue | 0:03 assign ada | 0:04 note ada | 0:05 resolve ada");
    let events: Vec<String> = rows.iter().filter(|row| matches!(row, FactRow::Event(_))).map(show).collect();
    expect![[r#"
        1 event conversation_started by "visitor": pending -
        2 event message_posted by "visitor": pending -
        3 event conversation_queued by "system": pending -
        4 event agent_assigned by "system": active ada
        5 event note_posted by "ada": active ada
        6 event conversation_resolved by "ada": resolved ada"#]]
    .assert_eq(&events.join("\n"));
}

/// Waiting ends with the assignment; handling begins there and ends with the resolve.
#[test]
fn waiting_and_handling_meet_at_the_assignment() {
    check_life(
        "0:00 start | 0:01 visitor | 0:02 queue | 0:32 assign ada | 1:00 agent ada | 2:02 resolve ada",
        expect![[r#"
            1 thread 1
            4 thread 1 agent_assigned by system at 32000
            4 assignment of ada least_loaded first_message after first_message waited=30 eligible=Some(1)
            4 thread 2 of ada waited=30
            6 thread 2 of ada waited=30 resolved by agent at 122000 handled=90
            6 resolution by ada after=122 handled=Some(90.0)
            activity of ada 32000 to 122000
            assignments=1 active_since=None resolved_by=Some("agent") sessions=1 of Some(1.0)
        "#]],
    );
}

/// Put aside, or nobody waits for an answer: the agent doesn't work on it. Stale frees the slot, a snooze doesn't.
#[test]
fn standby_and_snoozed_time_is_left_out() {
    check_life(
        "0:00 start | 0:01 visitor | 0:01 queue | 1:00 assign ada | 2:00 snooze ada | 5:00 wake | 6:00 stale ada | 16:00 visitor \
         | 16:30 snooze ada | 17:00 visitor | 17:10 resolve ada",
        expect![[r#"
            1 thread 1
            4 thread 1 agent_assigned by system at 60000
            4 assignment of ada least_loaded first_message after first_message waited=59 eligible=Some(1)
            4 thread 2 of ada waited=59
            activity of ada 60000 to 120000
            activity of ada 120000 to 300000 snoozed
            activity of ada 300000 to 360000
            activity of ada 960000 to 990000
            activity of ada 990000 to 1020000 snoozed
            11 thread 2 of ada waited=59 resolved by agent at 1030000 handled=160
            11 resolution by ada after=1030 handled=Some(160.0)
            activity of ada 1020000 to 1030000
            assignments=1 active_since=None resolved_by=Some("agent") sessions=1 of Some(1020.0)
        "#]],
    );
}

/// An idle thread is over; the next message opens the next one, for the same agent and the same assignment.
#[test]
fn an_idle_thread_ends_and_the_next_goes_on() {
    check_life(
        "0:00 start | 0:01 visitor | 0:01 queue | 1:00 assign ada | 2:00 idle | 30:00 visitor | 31:00 resolve ada",
        expect![[r#"
            1 thread 1
            4 thread 1 agent_assigned by system at 60000
            4 assignment of ada least_loaded first_message after first_message waited=59 eligible=Some(1)
            4 thread 2 of ada waited=59
            5 thread 2 of ada waited=59 idle by system at 120000 handled=60
            activity of ada 60000 to 120000
            6 thread 3 of ada
            7 thread 3 of ada resolved by agent at 1860000 handled=60
            7 resolution by ada after=1860 handled=Some(120.0)
            activity of ada 1800000 to 1860000
            assignments=1 active_since=None resolved_by=Some("agent") sessions=1 of Some(1800.0)
        "#]],
    );
}

/// Handling is from the assignment of who has it at the resolve; each thread tells its own agent's time.
#[test]
fn who_takes_over_begins_anew() {
    check_life(
        "0:00 start | 0:01 visitor | 0:01 queue | 1:00 assign ada | 3:00 takeover bob | 4:00 resolve bob",
        expect![[r#"
            1 thread 1
            4 thread 1 agent_assigned by system at 60000
            4 assignment of ada least_loaded first_message after first_message waited=59 eligible=Some(1)
            4 thread 2 of ada waited=59
            5 thread 2 of ada waited=59 agent_assigned by agent at 180000 handled=120
            5 assignment of bob manual first_message after no wait eligible=None
            activity of ada 60000 to 180000
            5 thread 3 of bob
            6 thread 3 of bob resolved by agent at 240000 handled=60
            6 resolution by bob after=240 handled=Some(60.0)
            activity of bob 180000 to 240000
            assignments=2 active_since=None resolved_by=Some("agent") sessions=1 of Some(1.0)
        "#]],
    );
    check_life(
        "0:00 start | 0:01 visitor | 0:01 queue | 1:00 assign ada | 2:00 transfer ada | 2:00 unassign ada | 2:00 queue \
         | 5:00 assign bob | 6:00 close bob",
        expect![[r#"
            1 thread 1
            4 thread 1 agent_assigned by system at 60000
            4 assignment of ada least_loaded first_message after first_message waited=59 eligible=Some(1)
            4 thread 2 of ada waited=59
            5 thread 2 of ada waited=59 transferred by agent at 120000 handled=60
            5 thread 3 of ada in a group
            activity of ada 60000 to 120000
            8 thread 3 in a group agent_assigned by system at 300000
            8 assignment of bob least_loaded first_message after first_message waited=180 eligible=Some(1)
            8 thread 4 of bob in a group waited=180
            9 thread 4 of bob in a group waited=180 closed by agent at 360000 handled=60
            activity of bob 300000 to 360000
            assignments=2 active_since=None resolved_by=None sessions=1 of Some(1.0)
        "#]],
    );
}

/// One that waited already changes its place, and has waited since then.
#[test]
fn queued_again_is_no_new_wait() {
    check_life(
        "0:00 start | 0:01 visitor | 0:10 queue | 0:20 queue | 0:40 assign ada",
        expect![[r#"
            1 thread 1
            5 thread 1 agent_assigned by system at 40000
            5 assignment of ada least_loaded first_message after first_message waited=30 eligible=Some(1)
            5 thread 2 of ada waited=30
            assignments=1 active_since=Some(40000) resolved_by=None sessions=1 of Some(1.0)
        "#]],
    );
}

/// The visitor went away for good and came back: two sessions, and nobody resolved it.
#[test]
fn a_session_ends_where_standby_expires() {
    check_life(
        "0:00 start | 0:10 visitor | 0:10 queue | 1:00 assign ada | 1:40 visitor | 3:00 agent ada | 15:00 standby \
         | 40:00 reopen | 40:00 visitor | 40:00 queue | 41:00 assign bob | 42:30 visitor | 43:00 resolve bob",
        expect![[r#"
            1 thread 1
            4 thread 1 agent_assigned by system at 60000
            4 assignment of ada least_loaded first_message after first_message waited=50 eligible=Some(1)
            4 thread 2 of ada waited=50
            7 thread 2 of ada waited=50 standby_expired by system at 900000 handled=120
            activity of ada 60000 to 900000
            8 thread 3
            11 thread 3 agent_assigned by system at 2460000
            11 assignment of bob least_loaded first_message after first_message waited=60 eligible=Some(1)
            11 thread 4 of bob waited=60
            13 thread 4 of bob waited=60 resolved by agent at 2580000 handled=120
            13 resolution by bob after=180 handled=Some(120.0)
            activity of bob 2460000 to 2580000
            assignments=2 active_since=None resolved_by=Some("agent") sessions=2 of Some(250.0)
        "#]],
    );
}

/// By definition 2 nobody waits over a resolve or a close, whoever did it; who reopens waits from the next message.
#[test]
fn a_wait_does_not_outlast_an_end() {
    for (script, expected) in [
        (
            "visitor | 0:10 agent ada | 0:20 visitor | 0:30 resolve ada | 9:00 reopen | 9:00 visitor | 9:04 agent ada",
            "9 9, 524 4",
        ),
        ("visitor | 0:30 resolve system | 9:00 reopen | 9:10 visitor | 9:40 visitor | 9:50 agent bob", "589 40"),
        ("visitor | 0:30 standby | 9:00 reopen | 9:01 visitor | 9:03 agent bob", "542 2"),
        ("visitor | 0:30 resolve ada | 9:00 reopen | 9:30 agent ada", "569 -"),
        ("visitor | 0:30 resolve ada | 9:00 reopen | 9:30 agent ada | 9:40 visitor | 9:41 agent ada", "569 -, 1 1"),
        (
            "visitor | 0:30 resolve ada | 0:40 note ada | 9:00 reopen | 9:01 bot | 9:02 visitor | 9:03 bot | 9:05 agent ada",
            "544 3",
        ),
        ("visitor | 0:30 close ada | 0:40 agent ada", "39 -"),
        // Nothing of the kind happened: both say the same. An import that runs out may go on.
        ("visitor | 0:10 run_out | 0:31 agent ada", "30 30"),
        ("visitor | 0:10 idle | 0:20 visitor | 0:31 agent ada", "30 30"),
        ("visitor | 0:10 transfer ada | 0:20 assign bob | 0:31 agent bob", "30 30"),
    ] {
        let (rows, _) = fold(&format!("0:00 start | 0:01 {script}"));
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| value.to_string());
        let replies = rows.iter().filter_map(|row| match row {
            FactRow::Message(m) if m.reply_seconds.is_some() || m.reply_seconds_v2.is_some() => {
                Some(format!("{} {}", seconds(m.reply_seconds), seconds(m.reply_seconds_v2)))
            }
            _ => None,
        });
        assert_eq!(replies.collect::<Vec<_>>().join(", "), expected, "{script}");
    }
}

/// What the visitor said so is kept apart from what was closed by silence; what goes on is neither.
#[test]
fn a_resolve_is_confirmed_or_assumed() {
    for (script, expected) in [
        ("resolve ada", Some("assumed")),
        ("resolve system", Some("assumed")),
        ("resolve ada | 1:00 close", Some("assumed")),
        ("resolve ada | 1:00 rate 1", Some("confirmed")),
        ("resolve ada | 1:00 close | 2:00 rate 5", Some("confirmed")),
        ("rate 4 | 1:00 resolve ada", Some("confirmed")),
        ("idle | 1:00 resolve ada", Some("assumed")),
        ("idle | 1:00 resolve ada | 2:00 rate 5", Some("confirmed")),
        ("end", Some("confirmed")),
        ("end | 1:00 reopen", None),
        ("resolve ada | 1:00 rate 5 | 2:00 reopen", None),
        ("resolve ada | 1:00 reopen | 2:00 rate 5", None),
        ("resolve ada | 1:00 rate 5 | 2:00 reopen | 3:00 resolve ada", Some("assumed")),
        ("resolve ada | 1:00 reopen | 2:00 assign bob | 3:00 resolve bob | 4:00 rate 2", Some("confirmed")),
        // Its visitor left: it wasn't resolved.
        ("standby", None),
        ("standby | 1:00 rate 3", None),
        ("close ada | 1:00 rate 3", None),
    ] {
        let (rows, metrics) = fold(&format!("0:00 start | 0:01 visitor | 0:02 assign ada | 0:30 {script}"));
        assert_eq!(metrics.row().expect("started").resolved_as, expected, "{script}");
        let mut threads: BTreeMap<i64, Option<&str>> = BTreeMap::new();
        for row in &rows {
            if let FactRow::Thread(thread) = row {
                threads.insert(thread.number, thread.resolved_as);
            }
        }
        let stands: Vec<&str> = threads.into_values().flatten().collect();
        assert_eq!(stands, expected.into_iter().collect::<Vec<_>>(), "of a thread: {script}");
    }
}
