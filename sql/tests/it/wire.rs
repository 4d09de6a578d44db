//! Results on the wire: every format, SQL over an endpoint's result, and the rows a token may see.

use crate::support::{self, Facts, caller, params, show};
use expect_test::expect;
use serde_json::{Value, json};
use sql::{Format, Limits, QueryError, QueryResult, Reports, RowFilters, TableName};

const VALUES: &str = r#"SELECT 1 AS i, 'a "q" , it''s	tab
nl\bs' AS s, CAST(NULL AS BIGINT) AS n, CAST('2024-05-01' AS DATE) AS d,
    arrow_cast('2024-05-01T01:02:03.456Z', 'Timestamp(Millisecond, Some("UTC"))') AS t, true AS b, 1.5 AS f,
    CAST('NaN' AS DOUBLE) AS na, CAST('inf' AS DOUBLE) AS inff, 
    (SELECT array_agg(x) FROM (VALUES ('x'), ('it''s "q"'), (NULL)) AS v (x)) AS arr,
    (SELECT array_agg(x) FROM (VALUES (1), (NULL)) AS v (x)) AS ai,
    (SELECT array_agg(x) FROM (VALUES (CAST('2024-05-01' AS DATE))) AS v (x)) AS ad, CAST('1.50' AS DECIMAL(9,2)) AS dec, CAST('0.1' AS REAL) AS f32,
    CAST('1e20' AS DOUBLE) AS big, CAST('1e-7' AS DOUBLE) AS small,
    (SELECT array_agg(y) FROM (SELECT array_agg(x) AS y FROM (VALUES (true)) AS v (x))) AS nested"#;

async fn written(reports: &Reports, sql: &str, format: Format) -> Result<Vec<u8>, QueryError> {
    let result = reports.query(&caller("acme"), sql).await?;
    reports.encode(result, format).await
}

async fn text(reports: &Reports, sql: &str, format: Format) -> String {
    String::from_utf8(written(reports, sql, format).await.expect("written")).expect("UTF-8")
}

/// What ClickHouse 25 writes for the same values, byte for byte (PyPI chdb, with its own literals).
#[tokio::test]
async fn texts_are_written_as_clickhouse_writes_them() {
    let reports = Facts::default().reports();
    let csv = "1,\"a \"\"q\"\" , it's\ttab\nnl\\bs\",\\N,\"2024-05-01\",\"2024-05-01 01:02:03.456\",true,1.5,nan,inf,\
        \"['x','it\\'s \"\"q\"\"',NULL]\",\"[1,NULL]\",\"['2024-05-01']\",1.5,0.1,100000000000000000000,1e-7,\"[[true]]\"\n";
    let names = "\"i\",\"s\",\"n\",\"d\",\"t\",\"b\",\"f\",\"na\",\"inff\",\"arr\",\"ai\",\"ad\",\"dec\",\"f32\",\"big\",\"small\",\"nested\"\n";
    assert_eq!(text(&reports, VALUES, Format::Csv).await, csv);
    assert_eq!(text(&reports, VALUES, Format::CsvWithNames).await, format!("{names}{csv}"));
    let tsv = "1\ta \"q\" , it\\'s\\ttab\\nnl\\\\bs\t\\N\t2024-05-01\t2024-05-01 01:02:03.456\ttrue\t1.5\tnan\tinf\t\
        ['x','it\\'s \"q\"',NULL]\t[1,NULL]\t['2024-05-01']\t1.5\t0.1\t100000000000000000000\t1e-7\t[[true]]\n";
    assert_eq!(text(&reports, VALUES, Format::Tsv).await, tsv);
    let names = names.replace('"', "").replace(',', "\t");
    assert_eq!(text(&reports, VALUES, Format::TsvWithNames).await, format!("{names}{tsv}"));
    let line = "{\"i\":1,\"s\":\"a \\\"q\\\" , it's\\ttab\\nnl\\\\bs\",\"n\":null,\"d\":\"2024-05-01\",\
        \"t\":\"2024-05-01 01:02:03.456\",\"b\":true,\"f\":1.5,\"na\":null,\"inff\":null,\
        \"arr\":[\"x\",\"it's \\\"q\\\"\",null],\"ai\":[1,null],\"ad\":[\"2024-05-01\"],\"dec\":1.5,\"f32\":0.1,\
        \"big\":100000000000000000000,\"small\":1e-7,\"nested\":[[true]]}\n";
    assert_eq!(text(&reports, VALUES, Format::JsonEachRow).await, line);
}

/// Files for programs hold the same rows, and can be read back.
#[tokio::test]
async fn files_for_programs_hold_the_rows() {
    let reports = Facts::default().reports();
    let sql = "SELECT upper(v) AS v, n FROM (VALUES ('a', 1), ('b', NULL)) AS t (v, n) ORDER BY v";
    let file = bytes::Bytes::from(written(&reports, sql, Format::Parquet).await.expect("a file"));
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    let parquet: Vec<_> = reader.build().expect("a reader").map(|b| b.expect("rows")).collect();
    let file = std::io::Cursor::new(written(&reports, sql, Format::Arrow).await.expect("a file"));
    let arrow: Vec<_> =
        arrow::ipc::reader::FileReader::try_new(file, None).expect("Arrow").map(|b| b.expect("rows")).collect();
    assert_eq!(parquet, arrow);
    assert_eq!(arrow[0].num_rows(), 2);
    assert_eq!(arrow[0].schema().field(0).data_type(), &arrow::datatypes::DataType::Utf8);
    // No rows are a file too.
    let empty = written(&reports, &format!("SELECT * FROM ({sql}) LIMIT 0"), Format::Parquet).await.expect("a file");
    assert!(empty.starts_with(b"PAR1") && empty.ends_with(b"PAR1"));
}

#[tokio::test]
async fn the_statement_says_its_format_and_an_unknown_one_is_refused() {
    let reports = Facts::default().reports();
    for (name, format) in Format::ALL {
        let asked = format!("SELECT 1 AS one FORMAT {name}");
        assert_eq!(reports.query(&caller("acme"), &asked).await.expect("a result").format, Some(format), "{name}");
        let lower = asked.replace(name, &name.to_lowercase());
        assert_eq!(reports.query(&caller("acme"), &lower).await.expect("a result").format, Some(format), "{name}");
    }
    for sql in [
        "SELECT 1 FORMAT CSV",
        "SELECT 1 AS format FORMAT CSV;",
        "SELECT count(*) FORMAT CSV",
        "SELECT 'a' FORMAT csv ; ",
        "SELECT * FROM (SELECT 1) FORMAT CSV",
        "SELECT 1 AS x ORDER BY x DESC LIMIT 1 FORMAT CSV",
        "(SELECT 1) FORMAT CSV",
    ] {
        assert_eq!(reports.query(&caller("acme"), sql).await.expect(sql).format, Some(Format::Csv), "{sql}");
    }
    // A name is a name.
    for sql in [
        "WITH format AS (SELECT 1 AS csv) SELECT csv FROM format csv",
        "SELECT format csv FROM (SELECT 1 AS format) t",
        "SELECT 1 AS format",
    ] {
        assert_eq!(reports.query(&caller("acme"), sql).await.expect(sql).format, None, "{sql}");
    }
    expect!["400 sql_invalid: failed to read the SQL: FORMAT Pretty is not there; there are JSON, JSONEachRow, CSV, CSVWithNames, TSV, TSVWithNames, Parquet, Arrow\n"]
        .assert_eq(&show(reports.query(&caller("acme"), "SELECT 1 FORMAT Pretty").await));
}

/// Rows of NULLs weigh nothing in memory, but their names do on the wire.
#[tokio::test]
async fn an_answer_is_bounded_after_it_is_written_too() {
    let many: Vec<Value> = (0..1_000).map(|i| json!({"event_id": format!("e{i}"), "seq": i})).collect();
    let limits = Limits { result_bytes: 1024 * 1024, ..Limits::default() };
    let reports = Facts::default().add("acme", "messages", &many).reports_with(limits);
    let columns: Vec<String> = (0..100).map(|i| format!("NULL AS a_rather_long_name_for_a_column_{i}")).collect();
    let sql = format!("SELECT {} FROM messages", columns.join(", "));
    let refused = written(&reports, &sql, Format::Json).await.expect_err("refused");
    assert_eq!(refused, QueryError::ResultTooLarge { what: "bytes", limit: 1024 * 1024 });
    assert!(written(&reports, &sql, Format::Csv).await.is_ok(), "without names it is small");
}

fn two_tenants() -> Facts {
    let rows = |who: &str| {
        let row = |seq: i64, author: &str, chars: i64| {
            json!({"event_id": format!("{who}{seq}"), "conversation_id": format!("c{seq}"), "seq": seq,
                   "author_id": author, "author_type": "agent", "content_chars": chars,
                   "occurred_at": "2024-05-20T12:00:00Z"})
        };
        [row(1, "anna", 0), row(2, "anna", 5), row(3, "ben", 7)]
    };
    Facts::default().add("acme", "messages", &rows("a")).add("globex", "messages", &rows("g"))
}

#[tokio::test]
async fn sql_over_an_endpoint_sees_its_result_and_nothing_else() {
    let reports = two_tenants().reports();
    let over = async |q: &str| {
        let params = params("granularity=day&fill=false&date_from=2024-05-19&date_to=2024-05-22");
        show(reports.endpoint_over(&caller("acme"), "usage", &params, q).await)
    };
    expect![[r#"
        n Int64 | sent Nullable(Int64)
        1 | 3
    "#]]
    .assert_eq(&over("SELECT count(*) AS n, sum(messages_agent) AS sent FROM _").await);
    expect![[r#"
        n Int64
        2
    "#]]
    .assert_eq(&over("WITH more AS (SELECT 1 FROM _ UNION ALL SELECT 2) SELECT count(*) AS n FROM more").await);
    expect!["403 sql_not_allowed: not allowed: `messages`: a query over an endpoint reads only its result, `_`\n"]
        .assert_eq(&over("SELECT * FROM _, messages").await);
    expect!["403 sql_not_allowed: not allowed: EXPLAIN over an endpoint\n"]
        .assert_eq(&over("EXPLAIN SELECT * FROM _").await);
    for hostile in ["SELECT * FROM _; SELECT 1", "DROP TABLE _", "SELECT * FROM tenant.public._", ") SELECT 1"] {
        let answer = over(hostile).await;
        assert!(answer.starts_with('4'), "{hostile}: {answer}");
    }
    // The endpoint's own tables are not the caller's to replace.
    let shadow = "WITH messages AS (SELECT 1 AS x) SELECT sum(messages_agent) AS n FROM _";
    assert!(over(shadow).await.contains("\n3\n"), "{}", over(shadow).await);
    assert!(over("WITH _ AS (SELECT 1) SELECT * FROM _").await.starts_with("400"));
}

async fn filtered(reports: &Reports, condition: &str, sql: &str) -> Result<QueryResult, QueryError> {
    let mut caller = caller("acme");
    caller.filters = RowFilters::from([(TableName::of("messages"), vec![condition.to_owned()])]);
    reports.query(&caller, sql).await
}

/// However the table is named, and whatever is done with it.
#[tokio::test]
async fn a_row_filter_holds_everywhere() {
    let reports = two_tenants().reports();
    for sql in [
        "SELECT count(*) AS n FROM messages",
        "SELECT count(*) AS n FROM public.messages",
        "SELECT count(*) AS n FROM tenant.public.messages WHERE author_id = 'ben' OR true",
        "SELECT count(DISTINCT m.event_id) AS n FROM messages m JOIN messages o ON true",
        "SELECT count(*) AS n FROM (SELECT * FROM messages UNION SELECT * FROM messages)",
        "WITH messages AS (SELECT event_id FROM public.messages) SELECT count(*) AS n FROM messages",
        "SELECT (SELECT count(*) FROM messages) AS n",
        "SELECT count(*) AS n FROM messages WHERE event_id IN (SELECT event_id FROM messages)",
    ] {
        let answer = show(filtered(&reports, "author_id = 'anna'", sql).await);
        assert!(answer.ends_with("\n2\n"), "{sql}: {answer}");
    }
    let both =
        RowFilters::from([(TableName::of("messages"), vec!["seq > 1".to_owned(), "author_id = 'anna'".to_owned()])]);
    let narrow = sql::Caller { filters: both, ..caller("acme") };
    expect![[r#"
        event_id String
        "a2"
    "#]]
    .assert_eq(&show(reports.query(&narrow, "SELECT event_id FROM messages").await));
    // In endpoints too.
    let day = params("granularity=total&date_from=2024-05-20&date_to=2024-05-21");
    let result = reports.endpoint_over(&narrow, "usage", &day, "SELECT messages_agent AS n FROM _").await;
    assert!(show(result).ends_with("\n1\n"));
}

/// The caller's SQL computes nothing on hidden rows: what fails on them would tell what they hold.
#[tokio::test]
async fn hidden_rows_do_not_show_in_errors() {
    let reports = two_tenants().reports();
    for sql in [
        "SELECT count(*) AS n FROM messages WHERE CAST(author_id AS BIGINT) = 1",
        "SELECT count(*) AS n FROM messages WHERE 10 / content_chars > 0",
        "SELECT sum(10 / content_chars) AS n FROM messages",
        "SELECT count(*) AS n FROM messages m JOIN (VALUES (1)) AS v (x) ON 10 / m.content_chars >= v.x",
    ] {
        let open = show(reports.query(&caller("acme"), sql).await);
        assert!(open.starts_with("400 sql_failed"), "it fails on all rows: {open}");
        if sql.contains("content_chars") {
            let answer = show(filtered(&reports, "content_chars > 0", sql).await);
            assert!(!answer.starts_with('4'), "{sql}: {answer}");
        } else {
            let answer = show(filtered(&reports, "author_id = 'nobody'", sql).await);
            assert!(answer.ends_with("\n0\n"), "{sql}: {answer}");
        }
    }
}

/// Nor in the counts of what was read, which a condition on their values could change.
#[tokio::test]
async fn hidden_rows_do_not_show_in_statistics() {
    let dir = tempfile::tempdir().expect("a directory");
    let row = |seq: i64, author: &str| json!({"event_id": format!("e{seq}"), "seq": seq, "author_id": author});
    let many: Vec<Value> = (0..5_000).map(|seq| row(seq, if seq < 10 { "anna" } else { "ben" })).collect();
    let file = support::file(dir.path(), "1.parquet", &support::rows("messages", &many));
    let reports = Facts::default().add_file("acme", "messages", file).reports();
    for hidden in ["seq > 4000", "seq = 2500", "seq > 9999", "true"] {
        let sql = format!("SELECT seq FROM messages WHERE {hidden}");
        let result = filtered(&reports, "author_id = 'anna'", &sql).await.expect("a result");
        assert_eq!(result.rows_read, 10, "{hidden}");
        let all = reports.query(&caller("acme"), &sql).await.expect("a result");
        assert!(hidden == "seq > 9999" || all.rows_read >= 1_000, "without a filter it counts them");
    }
}

/// A filter is one condition over one table; anything else is refused when it is made, and stops the query.
#[tokio::test]
async fn a_filter_that_is_no_condition_is_refused() {
    let reports = two_tenants().reports();
    for (condition, word) in [
        ("author_id = 'anna') OR (1 = 1", "ends before `)`"),
        ("1 = 1; DROP TABLE messages", "ends before `;`"),
        ("true UNION SELECT * FROM messages", "ends before `UNION`"),
        ("author_id IN (SELECT author_id FROM messages)", "a query inside a condition"),
        ("EXISTS (SELECT 1)", "a query inside a condition"),
        ("author_id", "a row filter is a condition"),
        ("count(*) > 1", "aggregate"),
        ("nothing = 1", "nothing"),
        ("author_id = $1", "placeholder"),
        ("", "xpected"),
    ] {
        let refused = reports.check_filter("acme", &TableName::of("messages"), condition).await.expect_err(condition);
        assert!((400..404).contains(&refused.status()), "{condition}: {refused}");
        assert!(refused.to_string().contains(word), "{condition}: {refused}");
        let stopped = filtered(&reports, condition, "SELECT * FROM messages").await;
        assert!(stopped.is_err(), "{condition}");
    }
    for good in ["author_id = 'anna'", "seq BETWEEN 1 AND 2 AND (author_type = 'agent' OR reply_seconds IS NULL)"] {
        reports.check_filter("acme", &TableName::of("messages"), good).await.expect(good);
    }
    reports.check_filter("acme", &TableName::of("not_yet_there"), "org = 'x'").await.expect("it can come later");
    reports
        .check_filter("acme", &TableName::of("not_yet_there"), "org = 'x' ;")
        .await
        .expect_err("but must be a condition");
}
