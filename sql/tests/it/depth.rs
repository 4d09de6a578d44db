//! Statements that are deep or long, through every door of the engine: each is answered, soon, and the engine lives.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Refusal, Rows};
use crate::support::constructs::{Bound, CONSTRUCTS};
use crate::support::door::Door as Wire;
use crate::support::{self, Facts, caller, params};
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use serde_json::json;
use sql::pg::ServerLimits;
use sql::{
    Limits, NESTING_MAX, OPERATORS_MAX, OwnPipe, Published, PublisherReads, QueryError, QueryResult, Readable, Reports,
    RowFilters, SUFFIXES_MAX, TableName,
};

/// Where SQL comes into the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Query,
    OverEndpoint,
    Publish,
    Own,
    OverOwn,
    CheckFilter,
    Filter,
    WireSimple,
    WireExtended,
}

impl Door {
    /// Every door: who adds one says after which it comes.
    fn all() -> impl Iterator<Item = Self> {
        std::iter::successors(Some(Self::Query), |door| match door {
            Self::Query => Some(Self::OverEndpoint),
            Self::OverEndpoint => Some(Self::Publish),
            Self::Publish => Some(Self::Own),
            Self::Own => Some(Self::OverOwn),
            Self::OverOwn => Some(Self::CheckFilter),
            Self::CheckFilter => Some(Self::Filter),
            Self::Filter => Some(Self::WireSimple),
            Self::WireSimple => Some(Self::WireExtended),
            Self::WireExtended => None,
        })
    }
}

/// What an answer may be: a result, or a refusal that says what is wrong with the text.
fn is_answer(code: &str) -> bool {
    let text_is_at_fault = [
        "sql_invalid",
        "sql_failed",
        "sql_unsupported",
        "sql_not_allowed",
        "sql_too_large",
        "table_not_found",
        "table_not_readable",
    ];
    let other = ["ok", "load", "endpoint_not_found", "result_too_large"];
    // Postgres' classes: done, and an error of the text, its values or its size.
    let wire = ["00", "0A", "22", "26", "42", "53", "54"];
    text_is_at_fault.contains(&code)
        || other.contains(&code)
        || (code.len() == 5 && wire.iter().any(|class| code.starts_with(class)))
}

fn code(result: Result<QueryResult, QueryError>) -> String {
    result.map_or_else(|e| e.code().to_owned(), |_| "ok".to_owned())
}

fn code_of_wire(result: Result<Rows, Refusal>) -> String {
    result.map_or_else(|refusal| refusal.code, |_| "00000".to_owned())
}

struct Doors {
    reports: Reports,
    own: Arc<OwnPipe>,
    wire: Wire,
}

fn facts() -> Facts {
    let lines: Vec<_> = (0..3).map(|i| json!({"event_id": format!("e{i}"), "seq": i, "author_id": "v"})).collect();
    Facts::default().add("acme", "messages", &lines)
}

fn pipe(sql: &str) -> Result<Arc<OwnPipe>, String> {
    let text = format!("NODE n\nSQL >\n    {sql}\n\nTYPE endpoint\n");
    OwnPipe::parse("mine", &text).map(Arc::new).map_err(|e| e.to_string())
}

fn published(pipe: Arc<OwnPipe>) -> Published {
    Published { pipe, reads: Some(PublisherReads { tables: Readable::All, filters: RowFilters::new() }) }
}

impl Doors {
    fn open() -> Self {
        let wire = Wire::open(facts(), Limits::default(), ServerLimits::default());
        Self { reports: facts().reports(), own: pipe("SELECT 1 AS seq").expect("a pipe"), wire }
    }

    async fn through(&self, door: Door, sql: &str) -> String {
        let who = caller("acme");
        let condition = sql.trim_start_matches("SELECT ");
        match door {
            Door::Query => code(self.reports.query(&who, sql).await),
            Door::OverEndpoint => {
                let sql = sql.replace("messages", "_");
                code(self.reports.endpoint_over(&who, "csat", &params(""), &sql).await)
            }
            Door::Publish => match pipe(sql) {
                Err(_) => "load".to_owned(),
                Ok(pipe) => self.reports.try_own(&who, pipe).await.map_or_else(|e| e.code(), |()| "ok").to_owned(),
            },
            Door::Own => match pipe(sql) {
                Err(_) => "load".to_owned(),
                Ok(pipe) => code(self.reports.own(&who, published(pipe), &params(""), None).await),
            },
            Door::OverOwn => {
                let sql = sql.replace("messages", "_");
                code(self.reports.own(&who, published(Arc::clone(&self.own)), &params(""), Some(sql)).await)
            }
            Door::CheckFilter => {
                let checked = self.reports.check_filter("acme", &TableName::of("messages"), condition).await;
                checked.map_or_else(|e| e.code(), |()| "ok").to_owned()
            }
            Door::Filter => {
                let mut who = who;
                who.filters.insert(TableName::of("messages"), vec![condition.to_owned()]);
                code(self.reports.query(&who, "SELECT count(*) FROM messages").await)
            }
            Door::WireSimple => self.wire(sql, Client::simple),
            Door::WireExtended => self.wire(sql, Client::extended),
        }
    }

    /// On a thread of its own kind: the client waits where it is called.
    fn wire(&self, sql: &str, ask: impl Fn(&mut Client, &str) -> Result<Rows, Refusal>) -> String {
        let mut client = self.wire.enter("acme");
        let said = code_of_wire(ask(&mut client, sql));
        assert_eq!(code_of_wire(client.simple("SELECT 1")), "00000", "the connection goes on");
        said
    }
}

/// What a statement may take, planning and all, while others use the machine.
const SLOWEST: Duration = Duration::from_secs(8);

#[test]
fn the_limits_are_those_that_the_constructs_are_made_for() {
    let said = [Bound::Suffixes, Bound::Nesting, Bound::Operators(1)].map(Bound::repetitions);
    assert_eq!(said, [SUFFIXES_MAX, NESTING_MAX, OPERATORS_MAX]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_construct_is_answered_at_every_door() {
    let doors = Doors::open();
    let mut wrong = String::new();
    for construct in CONSTRUCTS {
        let texts = construct.texts();
        for door in Door::all() {
            let some = if door == Door::Query { &texts[..] } else { &texts[texts.len() - 1..] };
            let at_the_edge = (door != Door::Query).then(|| &texts[0]);
            for text in some.iter().chain(at_the_edge) {
                let started = Instant::now();
                let shown: String = text.chars().take(50).collect();
                let what = format!("{}: {door:?} {} bytes {shown}…", construct.name, text.len());
                // Seen when the process ends here.
                println!("{what}");
                let said = doors.through(door, text).await;
                let took = started.elapsed();
                if took > Duration::from_millis(500) {
                    println!("{said} in {took:?}");
                }
                if !is_answer(&said) || took > SLOWEST {
                    writeln!(wrong, "{what}: {said} in {took:?}").expect("a text");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(support::run(&doors.reports, "acme", "SELECT 1 AS n").await, "n Int64\n1\n");
}

/// What is said to be as much as may be is let through, and what is more isn't.
#[tokio::test(flavor = "multi_thread")]
async fn the_budget_is_neither_smaller_nor_larger_than_it_says() {
    let (reports, mut wrong) = (facts().reports(), String::new());
    for construct in CONSTRUCTS {
        if matches!(construct.bound, Bound::Other(_)) {
            continue;
        }
        let often = construct.bound.repetitions();
        for (times, may) in [(often - often / 20 - 4, true), (often + often / 20 + 4, false)] {
            let text = construct.text(times);
            if text.len() > 65_536 {
                continue;
            }
            let result = reports.query(&caller("acme"), &text).await;
            let large = matches!(result, Err(QueryError::SqlTooLarge { .. }));
            if large == may {
                writeln!(wrong, "{} {times} times: {:?}", construct.name, result.map(|_| ())).expect("a text");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// No word of any dialect begins or goes on with what isn't counted.
#[tokio::test(flavor = "multi_thread")]
async fn every_keyword_in_every_place() {
    let reports = facts().reports();
    let started = Instant::now();
    for keyword in ALL_KEYWORDS {
        let repeated = |each: &str, times: usize| each.replace('K', keyword).repeat(times);
        for text in [
            repeated("K ", 4_000) + "SELECT 1",
            repeated("K x ", 4_000) + "SELECT 1",
            format!("SELECT {}1", repeated("K ", 4_000)),
            format!("SELECT {}1", repeated("K x ", 4_000)),
            format!("SELECT 1{}", repeated(" K", 4_000)),
            format!("SELECT 1{}", repeated(" K 1", 4_000)),
            format!("SELECT 1{}", repeated(" NOT K 1", 3_000)),
            format!("SELECT now(){}", repeated(" AT TIME ZONE 'UTC' K 1", 2_000)),
            format!("SELECT 1{}", repeated("::K", 4_000)),
            format!("SELECT CAST(NULL AS {}INT{})", repeated("K<", 3_000), ">".repeat(3_000)),
            format!("SELECT CAST(NULL AS K{})", "[]".repeat(4_000)).replace('K', keyword),
            format!("SELECT {}1{}", repeated("K(", 3_000), ")".repeat(3_000)),
            format!("SELECT {}1", repeated("CASE WHEN K THEN ", 2_000)),
            format!("SELECT * FROM messages{}", repeated(" K messages", 3_000)),
            format!("SELECT * FROM messages{}", repeated(" K JOIN messages", 3_000)),
            format!("SELECT * FROM messages {}", repeated(" K seq", 3_000)),
        ] {
            let asked = Instant::now();
            let shown: String = text.chars().take(70).collect();
            // Seen when the process ends here.
            println!("{keyword}: {shown}");
            let said = code(reports.query(&caller("acme"), &text).await);
            assert!(is_answer(&said), "{keyword}: {shown}…: {said}");
            assert!(asked.elapsed() < SLOWEST, "{keyword}: {shown}…: {said} in {:?}", asked.elapsed());
        }
    }
    println!("{} words in {:?}", ALL_KEYWORDS.len(), started.elapsed());
}
