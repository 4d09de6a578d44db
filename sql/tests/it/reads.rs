//! Which tables a call reads: those that its token has scopes for, or an endpoint's publisher had, however they are named.

use crate::support::door::Door;
use crate::support::ways::ways;
use crate::support::{Facts, caller, show};
use serde_json::json;
use sql::pg::ServerLimits;
use sql::{Caller, Limits, OwnPipe, Params, Published, PublisherReads, Readable, Reports, RowFilters, TableName};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a hidden table's answers would show: a value, columns that no statement here names, its rows' count.
const MARKS: [&str; 4] = ["SECRET", "content_chars", "author_type", "reply_seconds"];

/// Three messages, which are hidden, and a rating.
fn facts() -> Facts {
    let message = |n: i64| json!({ "event_id": format!("SECRET{n}"), "seq": n, "author_id": "SECRET" });
    Facts::default().add("acme", "messages", &[message(1), message(2), message(3)]).add(
        "acme",
        "ratings",
        &[json!({ "event_id": "r1", "seq": 1, "score": 5 })],
    )
}

fn only(tables: &[&str]) -> Readable {
    Readable::Only(tables.iter().map(|table| TableName::of(table)).collect())
}

fn narrow() -> Caller {
    Caller { readable: only(&["ratings"]), ..caller("acme") }
}

#[track_caller]
fn nothing_shows(what: &str, answer: &str) {
    for mark in MARKS {
        assert!(!answer.contains(mark), "a table without a scope shows: {what}: {answer}");
    }
}

#[tokio::test]
async fn however_sql_names_a_table_it_needs_a_scope() {
    let (reports, all, mut good) = (facts().reports(), ways("messages", "ratings"), 0);
    for sql in &all {
        let refused = show(reports.query(&narrow(), sql).await);
        assert!(refused.starts_with("403 table_not_readable"), "a table without a scope shows: {sql}: {refused}");
        assert!(refused.contains("DATASOURCES:READ:messages"), "{sql}: {refused}");
        nothing_shows(sql, &refused);
        // A token that may hears what the statement says.
        let wide = show(reports.query(&caller("acme"), sql).await);
        assert!(!wide.starts_with("403"), "{sql}: {wide}");
        good += usize::from(!wide.starts_with('4'));
    }
    // Some name columns that aren't there, or what the engine doesn't plan; most are answered.
    assert!(good * 10 > all.len() * 8, "{good} of {} are good SQL", all.len());
    // Whether there is a table without a scope isn't told.
    let [hidden, missing] = ["messages", "nothing"].map(|table| format!("SELECT * FROM {table}"));
    let texts = [show(reports.query(&narrow(), &hidden).await), show(reports.query(&narrow(), &missing).await)];
    assert_eq!(texts[0].replace("messages", "nothing"), texts[1]);
    assert!(show(reports.query(&narrow(), "SELECT event_id FROM Ratings").await).contains("r1"));
    assert!(
        show(reports.query(&narrow(), "WITH messages AS (SELECT 7 AS x) SELECT * FROM messages").await).contains('7')
    );
}

/// The same over the Postgres wire, in both of its protocols, and in its catalogs.
#[test]
fn however_the_wire_names_a_table_it_needs_a_scope() {
    let door = Door::open(facts(), Limits::default(), ServerLimits::default());
    door.narrow(only(&["ratings"]));
    let mut client = door.enter("acme");
    let mut all = ways("messages", "ratings");
    all.extend(["SELECT 'messages'::regclass::oid", "SELECT to_regclass('messages')"].map(str::to_owned));
    for sql in all {
        for (protocol, answer) in [("simple", client.simple(&sql)), ("extended", client.extended(&sql))] {
            let text = format!("{answer:?}");
            nothing_shows(&format!("{protocol}: {sql}"), &text);
            let may_answer = sql.contains("regclass");
            assert!(answer.is_err() || may_answer, "a table without a scope shows: {protocol}: {sql}: {text}");
        }
    }
    for catalog in [
        "SELECT relname FROM pg_class",
        "SELECT attname FROM pg_attribute",
        "SELECT tablename FROM pg_tables",
        "SELECT table_name FROM information_schema.tables",
        "SELECT table_name || column_name FROM information_schema.columns",
    ] {
        let rows = format!("{:?}", client.simple(catalog).expect("rows"));
        nothing_shows(catalog, &rows);
        assert!(!rows.contains("messages"), "a table without a scope shows: {catalog}: {rows}");
        assert!(rows.contains("ratings") || catalog.contains("attname"), "{catalog}: {rows}");
    }
}

/// Answers and plans that others have asked for are not given to one who may not ask.
#[tokio::test]
async fn what_is_kept_is_kept_from_whom_it_is_hidden() {
    let mut facts = facts();
    facts.versions.insert("acme".to_owned(), Arc::new(AtomicU64::new(1)));
    let reports = facts.reports();
    for sql in ways("messages", "ratings") {
        for _ in 0..2 {
            show(reports.query(&caller("acme"), &sql).await);
        }
        let refused = show(reports.query(&narrow(), &sql).await);
        assert!(refused.starts_with("403 table_not_readable"), "a table without a scope shows: {sql}: {refused}");
    }
}

fn node(name: &str, sql: &str) -> String {
    format!("NODE {name}\nSQL >\n    {sql}\n\n")
}

fn published(text: &str, reads: Option<PublisherReads>) -> Published {
    Published { pipe: Arc::new(OwnPipe::parse("own", text).expect(text)), reads }
}

fn reads(tables: Readable) -> Option<PublisherReads> {
    Some(PublisherReads { tables, filters: RowFilters::new() })
}

fn params(pairs: &[(&str, &str)]) -> Params {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect()
}

async fn call(reports: &Reports, who: &Caller, endpoint: &Published, with: &[(&str, &str)]) -> String {
    show(reports.own(who, endpoint.clone(), &params(with), None).await)
}

/// A text, and parameters with which it names `messages`, though by default it doesn't.
fn turncoats() -> Vec<(String, Vec<(&'static str, &'static str)>)> {
    let branch = "%\n    SELECT event_id FROM {% if String(t, 'r') == 'm' %} messages {% else %} ratings {% end %}";
    let refuses = "%\n    {% if not defined(t) %} {{ error('no') }} {% end %} SELECT event_id FROM messages";
    let looped = "%\n    {% for t in Array(ts, 'String', 'ratings') %} SELECT event_id FROM {{ table(t) }} {% end %}";
    vec![
        (node("a", branch), vec![("t", "m")]),
        (node("a", refuses), vec![("t", "x")]),
        (node("a", "%\n    SELECT event_id FROM {{ table(String(tbl, 'ratings')) }}"), vec![("tbl", "messages")]),
        (node("a", "%\n    SELECT event_id FROM {{ symbol(String(tbl, 'ratings')) }}"), vec![("tbl", "messages")]),
        (
            node("a", "%\n    SELECT event_id FROM {{ column(String(tbl, 'ratings'), 'ratings') }}"),
            vec![("tbl", "messages")],
        ),
        (
            node("a", "%\n    SELECT event_id FROM {{ columns(String(tbl, 'ratings'), 'ratings') }}"),
            vec![("tbl", "messages")],
        ),
        (node("a", looped), vec![("ts", "messages"), ("t", "x")]),
        (node("a", branch) + &node("b", "SELECT count(*) AS n FROM a"), vec![("t", "m")]),
        (
            node("messages", "SELECT 'x' AS event_id")
                + &node(
                    "b",
                    "%\n    SELECT event_id FROM {% if defined(t) %} public.messages {% else %} messages {% end %}",
                ),
            vec![("t", "1")],
        ),
    ]
}

#[tokio::test]
async fn an_endpoint_reads_what_its_publisher_could() {
    let reports = facts().reports();
    for (text, with) in turncoats() {
        let own = published(&text, reads(only(&["ratings"])));
        // Whoever calls it: a token with every scope doesn't lend them to the publisher.
        for who in [caller("acme"), narrow(), Caller { readable: only(&[]), ..caller("acme") }] {
            let refused = call(&reports, &who, &own, &with).await;
            assert!(
                refused.starts_with("403 table_not_readable"),
                "a table its publisher had no scope for shows: {text}: {refused}"
            );
            nothing_shows(&text, &refused);
            let by_default = call(&reports, &who, &own, &[]).await;
            assert!(!by_default.starts_with("403"), "{text}: {by_default}");
        }
        // One whose publisher could is open to who may call it, with no scope for a table.
        let own = published(&text, reads(Readable::All));
        let answer = call(&reports, &Caller { readable: only(&[]), ..caller("acme") }, &own, &with).await;
        assert!(answer.contains("SECRET") || answer.contains("\n3\n"), "{text}: {answer}");
    }
    for sql in ways("messages", "ratings") {
        for text in [node("a", &sql), node("a", &sql) + &node("b", "SELECT * FROM a")] {
            let own = published(&text, reads(only(&["ratings"])));
            let refused = call(&reports, &caller("acme"), &own, &[]).await;
            assert!(refused.starts_with("403"), "a table its publisher had no scope for shows: {text}: {refused}");
            nothing_shows(&text, &refused);
        }
    }
}

/// A node takes a table's place where it is named as the node is, and nowhere else.
#[tokio::test]
async fn a_node_that_shadows_a_table_hides_no_reading_of_it() {
    let reports = facts().reports();
    let shadow = node("messages", "SELECT 'mine' AS event_id");
    for sql in ways("messages", "ratings") {
        let text = shadow.clone() + &node("b", &sql);
        let answer = call(&reports, &caller("acme"), &published(&text, reads(only(&["ratings"]))), &[]).await;
        nothing_shows(&text, &answer);
    }
    let text = shadow + &node("b", "SELECT event_id FROM messages");
    let answer = call(&reports, &caller("acme"), &published(&text, reads(only(&[]))), &[]).await;
    assert!(answer.contains("mine"), "{answer}");
}

#[tokio::test]
async fn a_query_over_an_endpoint_reads_its_result_alone() {
    let reports = facts().reports();
    let own = published(&node("a", "SELECT event_id FROM ratings"), reads(only(&["ratings"])));
    let shadow =
        published(&(node("messages", "SELECT 1 AS x") + &node("b", "SELECT * FROM messages")), reads(Readable::All));
    for sql in ways("messages", "_").into_iter().chain(ways("messages", "ratings")) {
        for endpoint in [&own, &shadow] {
            let refused = show(reports.own(&caller("acme"), endpoint.clone(), &Params::new(), Some(sql.clone())).await);
            assert!(refused.starts_with("403"), "a table shows over an endpoint: {sql}: {refused}");
            nothing_shows(&sql, &refused);
        }
    }
    let over = show(reports.own(&narrow(), own, &Params::new(), Some("SELECT * FROM _".to_owned())).await);
    assert!(over.contains("r1"), "{over}");
}

/// The rows that the publisher saw, less those that the caller doesn't see.
#[tokio::test]
async fn row_filters_of_publisher_and_caller_both_hold() {
    let reports = facts().reports();
    let filter = |condition: &str| RowFilters::from([(TableName::of("messages"), vec![condition.to_owned()])]);
    let text = node("a", "SELECT count(*) AS n, max(seq) AS m FROM messages");
    for (publisher, token, expected) in [
        (None, None, "3 | 3"),
        (Some("seq < 3"), None, "2 | 2"),
        (None, Some("seq > 1"), "2 | 3"),
        (Some("seq < 3"), Some("seq > 1"), "1 | 2"),
        (Some("seq < 3"), Some("seq < 3"), "2 | 2"),
        (Some("seq < 2"), Some("seq > 2"), "0 | null"),
    ] {
        let filters = publisher.map(filter).unwrap_or_default();
        let own = published(&text, Some(PublisherReads { tables: only(&["messages"]), filters }));
        let who = Caller { filters: token.map(filter).unwrap_or_default(), ..narrow() };
        let answer = call(&reports, &who, &own, &[]).await;
        assert!(answer.ends_with(&format!("\n{expected}\n")), "hidden rows show: {publisher:?} {token:?}: {answer}");
    }
    // One that no longer fits stops the endpoint, and says nothing of the table.
    let filters = filter("no_such_column = 1");
    let own = published(&text, Some(PublisherReads { tables: Readable::All, filters }));
    let refused = call(&reports, &narrow(), &own, &[]).await;
    assert!(refused.starts_with("400") && !refused.contains("no_such_column"), "{refused}");
    nothing_shows("a filter that doesn't fit", &refused);
    // Nor does one that can't be computed on a row that it should have hidden.
    let failing = Caller { filters: filter("CAST(event_id AS INT) > 1"), ..caller("acme") };
    let refused = show(reports.query(&failing, "SELECT count(*) AS n FROM messages").await);
    assert!(refused.starts_with("400"), "{refused}");
    nothing_shows("a filter that fails", &refused);
}

/// Published before the publisher's rights were kept: it was held to what it names by default.
#[tokio::test]
async fn an_old_endpoint_reads_what_it_names_by_default() {
    let reports = facts().reports();
    let old = published(&node("a", "SELECT count(*) AS n FROM messages"), None);
    assert!(call(&reports, &narrow(), &old, &[]).await.contains("\n3\n"));
    for (text, with) in turncoats() {
        let refused = call(&reports, &caller("acme"), &published(&text, None), &with).await;
        assert!(
            refused.starts_with("403 table_not_readable"),
            "a table its publisher had no scope for shows: {text}: {refused}"
        );
        nothing_shows(&text, &refused);
    }
    let shadow = node("messages", "SELECT 1 AS x") + &node("b", "SELECT * FROM public.messages");
    let refused = call(&reports, &caller("acme"), &published(&shadow, None), &[]).await;
    assert!(refused.starts_with("403 table_not_readable"), "{refused}");
}

/// Publishing tries it with the publisher's rights, and an error names no column of what they can't read.
#[tokio::test]
async fn a_trial_is_its_publishers() {
    let reports = facts().reports();
    for sql in ways("messages", "ratings") {
        let pipe = Arc::new(OwnPipe::parse("own", &node("a", &sql)).expect("a pipe"));
        let refused = reports.try_own(&narrow(), pipe).await.expect_err(&sql).to_string();
        nothing_shows(&sql, &refused);
    }
    for (text, _) in turncoats() {
        let pipe = Arc::new(OwnPipe::parse("own", &text).expect("a pipe"));
        reports.try_own(&narrow(), pipe).await.expect(&text);
    }
}

/// What ships reads its own tables for whoever may call it.
#[tokio::test]
async fn a_shipped_endpoint_needs_no_scope_for_its_tables() {
    let reports = facts().reports();
    let nothing = Caller { readable: only(&[]), ..caller("acme") };
    for name in ["usage", "USAGE"] {
        let answer = show(reports.endpoint(&nothing, name, &params(&[("granularity", "total")])).await);
        assert!(!answer.starts_with('4'), "{name}: {answer}");
    }
}
