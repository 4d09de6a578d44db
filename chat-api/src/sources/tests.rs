//! Hostile and ordinary rows: what is logged of them, what is quarantined and why.

use super::columns::schema;
use super::rows::{Body, BodyFormat};
use super::*;
use expect_test::{Expect, expect};
use serde_json::Value;
use std::convert::Infallible;

const CSV: BodyFormat = BodyFormat::Csv { delimiter: b',' };

fn batch(columns: &[SourceColumn], bytes: &[u8], format: BodyFormat) -> Batch {
    let mut held = 0;
    let mut hold = |bytes| {
        held += bytes;
        Ok::<_, Infallible>(())
    };
    let body = Body { bytes, format };
    let batch = check(columns, &body, "import", Timestamp(1_700_000_000_123), &mut hold).expect("rows");
    assert!(held >= batch.chunks.iter().map(|chunk| chunk.rows.json().len()).sum(), "all of it is asked for");
    batch
}

/// The logged rows, and of those in quarantine the columns, the reasons and the values.
fn shown(columns: &str, bytes: &[u8], format: BodyFormat) -> String {
    let columns = schema(columns).expect("a schema");
    let batch = batch(&columns, bytes, format);
    let mut text = String::new();
    for chunk in &batch.chunks {
        let rows: Vec<Value> = serde_json::from_str(chunk.rows.json()).expect("JSON");
        assert_eq!(rows.len(), chunk.count as usize);
        for row in rows {
            if chunk.quarantined {
                assert_eq!((&row[2], &row[3]), (&"import".into(), &1_700_000_000.into()));
                let values = Value::from(row.as_array().expect("a row")[5..].to_vec());
                text += &format!("bad {} {} {values}\n", row[0], row[1]);
            } else {
                text += &format!("{row}\n");
            }
        }
    }
    assert_eq!(text.lines().count() as u64, batch.successful + batch.quarantined);
    text
}

fn ndjson(columns: &str, lines: &[&str], expected: &Expect) {
    expected.assert_eq(&shown(columns, lines.join("\n").as_bytes(), BodyFormat::Json));
}

#[test]
fn values_take_the_form_of_their_columns() {
    ndjson(
        "i Nullable(Int64), u UInt8, f Nullable(Float64), b Bool, s String, d Nullable(Date), t Nullable(DateTime64(3)), l Array(Int32)",
        &[
            r#"{"i":1,"u":2,"f":1.5,"b":true,"s":"x","d":"2024-02-29","t":"2024-02-29T12:00:00.5+01:00","l":[1,-2]}"#,
            r#"{"i":"-3","u":"255","f":"1e3","b":"false","s":7,"d":"2024-02-29 10:00:00","t":1709200800123,"l":[]}"#,
            r#"{"i":2.0,"u":true,"f":3,"b":0,"s":{"a":[1, "ä"]},"t":"2024-02-29","l":null}"#,
            r#"{"i":null,"u":0,"b":1,"s":"a\"\u00e4\n","extra":{"deep":[1]}}"#,
        ],
        &expect![[r#"
            [1,2,1.5,true,"x",19782,1709204400500,[1,-2]]
            [-3,255,1000.0,false,"7",19782,1709200800123,[]]
            [2,1,3.0,false,"{\"a\":[1, \"ä\"]}",null,1709164800000,[]]
            [null,0,null,true,"a\"ä\n",null,null,[]]
        "#]],
    );
}

#[test]
fn what_does_not_fit_is_named_by_column() {
    ndjson(
        "i Int8, t DateTime, s String, l Array(Int8)",
        &[
            r#"{"i":128,"t":"2024-01-01 00:00:00","s":"a"}"#,
            r#"{"i":1.5,"t":"yesterday","s":null}"#,
            r#"{"i":1e400,"t":0,"s":"b"}"#,
            r#"{"i":1,"t":99999999999999,"s":"c","l":[1,null]}"#,
            r#"{"i":1,"t":1,"s":"c","l":[300]}"#,
            r#"{"i":99999999999999999999999999999999999999999999,"t":1,"s":"c"}"#,
            r#"{"i":"NaN","t":1,"s":"\ud800"}"#,
        ],
        &expect![[r#"
            bad ["i"] ["expected a whole number from -128 to 127, found 128"] ["128","2024-01-01 00:00:00","a",null]
            bad ["i","t","s"] ["expected a whole number from -128 to 127, found 1.5","expected a time as 2024-05-31 09:30:00, 2024-05-31T09:30:00Z or in units since 1970, found \"yesterday\"","NULL, which the column doesn't take"] ["1.5","yesterday",null,null]
            bad ["i"] ["expected a whole number from -128 to 127, found 1e400"] ["1e400","0","b",null]
            bad ["t","l"] ["expected a time as 2024-05-31 09:30:00, 2024-05-31T09:30:00Z or in units since 1970, found 99999999999999","NULL in a list"] ["1","99999999999999","c","[1,null]"]
            bad ["l"] ["expected a whole number from -128 to 127, found 300"] ["1","1","c","[300]"]
            bad ["i"] ["expected a whole number from -128 to 127, found 9999999999999999999999999999999999999999…"] ["99999999999999999999999999999999999999999999","1","c",null]
            bad ["i","s"] ["expected a whole number from -128 to 127, found \"NaN\"","not a text: unexpected end of hex escape at line 1 column 8"] ["NaN","1","\"\\ud800\"",null]
        "#]],
    );
}

#[test]
fn lines_that_are_no_rows_are_kept_as_they_were_sent() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = format!("{}1{}", "{\"x\":".repeat(5_000), "}".repeat(5_000));
    let mut bytes = b"{\"a\":1,\"a\":2}\nnot json\n[1,2]\n\"text\"\n{\"a\":}\n{\"a\":NaN}\n{\"a\":1\n{\"a\":3} {\"a\":4}\n{\"b\":1}\n\n".to_vec();
    bytes.extend_from_slice(b"{\"a\":\"\xff\xfe\"}\n");
    bytes.extend_from_slice(deep.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(nested.as_bytes());
    expect![[r#"
        [2]
        [null]
        [null]
        bad [] ["not a JSON object: expected ident at line 1 column 2"] [null]
        bad [] ["not a JSON object: invalid type: sequence, expected an object at line 1 column 0"] [null]
        bad [] ["not a JSON object: invalid type: string \"text\", expected an object at line 1 column 6"] [null]
        bad [] ["not a JSON object: expected value at line 1 column 6"] [null]
        bad [] ["not a JSON object: expected value at line 1 column 6"] [null]
        bad [] ["not a JSON object: EOF while parsing an object at line 1 column 6"] [null]
        bad [] ["not a JSON object: trailing characters at line 1 column 9"] [null]
        bad [] ["not UTF-8: invalid utf-8 sequence of 1 bytes from index 6"] [null]
        bad [] ["the row has more than 131072 bytes"] [null]
    "#]]
    .assert_eq(&shown("a Nullable(Int64)", &bytes, BodyFormat::Json));
    let columns = schema("a Nullable(Int64)").expect("a schema");
    let batch = batch(&columns, &bytes, BodyFormat::Json);
    let bad = batch.chunks.iter().filter(|chunk| chunk.quarantined).map(|chunk| chunk.rows.json()).collect::<String>();
    assert!(bad.contains("not json") && bad.contains('\u{fffd}'), "{}", &bad[..2_000]);
}

#[test]
fn bodies_are_lines_an_array_or_one_object() {
    for body in [
        "{\"a\":1}\n{\"a\":2}",
        "\u{feff}{\"a\":1}\r\n\r\n{\"a\":2}\r\n",
        " [ {\"a\":1},\n {\"a\":2} ] ",
        "[{\"a\":1}\n,{\"a\":2}]",
    ] {
        assert_eq!(shown("a Int64", body.as_bytes(), BodyFormat::Json), "[1]\n[2]\n", "{body}");
    }
    assert_eq!(
        shown("a Int64, b Int64 `json:$.o.b`", b"{\n \"a\":1,\n \"o\": {\"b\":2}\n}", BodyFormat::Json),
        "[1,2]\n"
    );
    let columns = schema("a Int64").expect("a schema");
    for (body, format) in [(" \n ", BodyFormat::Json), ("[ ]", BodyFormat::Json), ("", CSV)] {
        let mut hold = |_| Ok::<_, Infallible>(());
        let empty = check(&columns, &Body { bytes: body.as_bytes(), format }, "", Timestamp(0), &mut hold)
            .expect_err("no rows");
        assert_eq!(empty, CheckError::Unreadable("the body has no rows".to_owned()), "{body}");
    }
}

#[test]
fn records_have_names_or_places() {
    let columns = "id Int64, name String, at Nullable(DateTime), tags Array(String)";
    let expected = "[1,\"a, \\\"b\\\"\",1704067200,[\"x\"]]\n[2,\"\",null,[]]\n";
    let named = "name,id,tags,at\n\"a, \"\"b\"\"\",1,\"[\"\"x\"\"]\",2024-01-01 00:00:00\n,2,,\n";
    assert_eq!(shown(columns, named.as_bytes(), CSV), expected);
    let placed = "1,\"a, \"\"b\"\"\",2024-01-01 00:00:00,\"[\"\"x\"\"]\"\n2,,\\N,\n";
    assert_eq!(shown(columns, placed.as_bytes(), CSV), expected);
    let broken = shown(columns, b"1,a\nx,y,z,[]\n\xff,1,,\n", CSV);
    for reason in ["has 2 fields, 4 are expected", "\"id\",\"at\"", "not UTF-8"] {
        assert!(broken.contains(reason), "{broken}");
    }
}

/// Chunks are as large as they may be and no larger, whatever the rows.
#[test]
fn chunks_fit_into_events() {
    let columns = schema("s String").expect("a schema");
    let row = |bytes: usize| format!("{{\"s\":\"{}\"}}", "\\\"".repeat(bytes / 2));
    let mut lines = vec![row(100); 20_000];
    lines.push(row(130_000));
    lines.push(row(200_000));
    let batch = batch(&columns, lines.join("\n").as_bytes(), BodyFormat::Json);
    assert_eq!((batch.successful, batch.quarantined), (20_001, 1));
    assert!(batch.chunks.iter().all(|chunk| chunk.rows.json().len() <= CHUNK_BYTES_MAX));
    assert!(batch.chunks.len() < 14, "{}", batch.chunks.len());
    // Control characters are six times as long once they are escaped.
    let csv = format!("s\n\"{}\"\n", "\u{1}".repeat(120_000));
    let batch = self::batch(&columns, csv.as_bytes(), CSV);
    assert_eq!((batch.successful, batch.quarantined), (0, 1));
    assert!(batch.chunks.iter().all(|chunk| chunk.rows.json().len() <= CHUNK_BYTES_MAX));
}

/// Short rows become long ones: of many columns, or in the quarantine. It ends where there is no more room.
#[test]
fn what_comes_of_rows_is_bounded() {
    let wide: Vec<_> = (0..500).map(|n| format!("c{n} Nullable(Int64)")).collect();
    let (wide, narrow) = (schema(&wide.join(",")).expect("a schema"), schema("a Int64").expect("a schema"));
    let array = format!("[{}{{}}]", "{},".repeat(99_999));
    for (columns, body, format) in [
        (&wide, "{}\n".repeat(100_000), BodyFormat::Json),
        (&wide, array, BodyFormat::Json),
        (&narrow, "x\n".repeat(100_000), BodyFormat::Json),
        (&narrow, "x\n".repeat(100_000), CSV),
    ] {
        let mut left: usize = 1024 * 1024;
        let mut hold = |bytes| {
            left = left.checked_sub(bytes).ok_or("full")?;
            Ok(())
        };
        let body = Body { bytes: body.as_bytes(), format };
        let outcome = check(columns, &body, "import", Timestamp(0), &mut hold);
        assert_eq!(outcome.map(|batch| batch.successful).expect_err("no room"), CheckError::Full("full"));
        assert!(left < HOLD_STEP, "it was used before: {left}");
    }
}

fn inferred(bytes: &[u8], format: BodyFormat) -> String {
    infer(&Body { bytes, format }).map(|columns| super::columns::sql_schema(&columns)).unwrap_or_else(|error| error)
}

#[test]
fn columns_are_inferred_from_all_rows() {
    let lines = br#"{"id":1,"n":1,"mixed":1,"at":"2024-01-01T00:00:00Z","day":"2024-01-01","o":{"a":1,"b":{"c":true}},"l":[],"objects":[{"a":1}],"none":null,"Weird key!":"x"}
garbage
{"id":18446744073709551615,"n":1.5,"mixed":"x","day":"2024-01-01","o":{"a":null},"l":[1,2],"c__x":1}"#;
    expect![[r#"
        `id` Nullable(String) `json:$.id`, `n` Nullable(Float64) `json:$.n`, `mixed` Nullable(String) `json:$.mixed`, `at` Nullable(DateTime64(3)) `json:$.at`, `day` Nullable(Date) `json:$.day`, `o_a` Nullable(Int64) `json:$.o.a`, `o_b_c` Nullable(Bool) `json:$.o.b.c`, `l` Array(Int64) `json:$.l[:]`, `objects` Nullable(String) `json:$.objects`, `none` Nullable(String) `json:$.none`, `Weird_key_` Nullable(String) `json:$.Weird key!`, `_c__x` Nullable(Int64) `json:$.c__x`"#]]
    .assert_eq(&inferred(lines, BodyFormat::Json));
    let csv = b"id,code,price,at,note\n1,007,1.5,2024-01-01 10:00:00,a\n2,12,2,,b\n";
    expect![[r#"
        `id` Nullable(Int64) `json:$.id`, `code` Nullable(String) `json:$.code`, `price` Nullable(Float64) `json:$.price`, `at` Nullable(DateTime64(3)) `json:$.at`, `note` Nullable(String) `json:$.note`"#]]
    .assert_eq(&inferred(csv, CSV));
    assert!(inferred(b"garbage\n[1]\n{}", BodyFormat::Json).contains("no columns"));
    let many: String = (0..600).map(|n| format!("{{\"k{n}\":1}}\n")).collect();
    assert!(inferred(many.as_bytes(), BodyFormat::Json).contains("more than 500"));
}

/// What was inferred takes the rows that it was inferred from.
#[test]
fn inferred_columns_take_their_rows() {
    let lines = br#"{"a":1,"b":"2024-01-01","c":[1,"x"],"d":{"e":1}}
{"a":"x","b":"2024-01-01T10:00:00.123456Z","c":[],"d":5}
{"b":null,"c":null,"A":true}"#;
    let columns = infer(&Body { bytes: lines, format: BodyFormat::Json }).expect("columns");
    let batch = batch(&columns, lines, BodyFormat::Json);
    assert_eq!((batch.successful, batch.quarantined), (3, 0), "{columns:?}");
}

/// A quote that never closes makes one field of everything that follows: of it the start is kept, as of any row that is too
/// long, and what was before it is in.
#[test]
fn a_record_without_an_end_is_one_bad_row() {
    let columns = schema("a Int64, b String").expect("a schema");
    let endless = [&b"a,b\n1,good\n2,\""[..], &b"x,\n".repeat(5_000_000)].concat();
    let commas = [&b"a,b\n1,good\n"[..], &b",".repeat(15_000_000)].concat();
    for bytes in [endless, commas] {
        let batch = batch(&columns, &bytes, CSV);
        assert_eq!((batch.successful, batch.quarantined), (1, 1));
        let bad = batch.chunks.iter().find(|chunk| chunk.quarantined).expect("a bad row").rows.json();
        assert!(bad.contains("the row has more than 131072 bytes"), "{}", &bad[..500]);
        assert!(bad.len() < 2 * ROW_BYTES_MAX);
        // The same rows are what columns are inferred from.
        assert_eq!(infer(&Body { bytes: &bytes, format: CSV }).expect("columns").len(), 2);
    }
}

/// What follows a record that is too long is read.
#[test]
fn a_long_record_is_passed() {
    let columns = schema("a Int64, b String").expect("a schema");
    let long = |bytes: usize| format!("a,b\n1,\"{}\"\n2,\"y\"\n", "x".repeat(bytes));
    let counts = |text: &str| {
        let batch = batch(&columns, text.as_bytes(), CSV);
        (batch.successful, batch.quarantined)
    };
    assert_eq!(counts(&long(ROW_BYTES_MAX + 100_000)), (1, 1));
    assert_eq!(counts(&long(ROW_BYTES_MAX - 1_000)), (2, 0));
    assert_eq!(counts(&format!("a,b\n{}\n2,y\n", "1,".repeat(ROW_BYTES_MAX))), (1, 1));
}

/// An object of more keys than a row may have bytes is no row to infer from.
#[test]
fn columns_are_inferred_from_rows_that_can_be_rows() {
    let keys: String = (0..200_000).map(|number| format!("\"k{number}\":1,")).collect();
    let bytes = format!("{{{}\"a\":1}}\n{{\"b\":1}}\n", keys);
    let columns = infer(&Body { bytes: bytes.as_bytes(), format: BodyFormat::Json }).expect("columns");
    assert_eq!(columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["b"]);
}
