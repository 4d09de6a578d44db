//! Templates: text and parameters in, SQL with its bound values out.

use expect_test::{Expect, expect};

use super::*;
use crate::error::QueryError;

fn call(template: &str, query: &str) -> Result<Rendered, QueryError> {
    let template = parse(template, &mut Budget::of_reading()).expect("a template");
    let mut values = Params::new();
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').expect("name=value");
        values.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    render(&template, &Args::new(&values, Tz::Europe__Berlin), &mut Budget::of_rendering())
}

fn check(template: &str, query: &str, expected: Expect) {
    let text = match call(template, query) {
        Ok(r) => format!("{} {:?}", r.sql.split_whitespace().collect::<Vec<_>>().join(" "), r.literals),
        Err(e) => format!("{} {e}", e.status()),
    };
    expected.assert_eq(&text);
}

#[test]
fn values_are_bound() {
    check("SELECT {{String(x)}}", "x=it's", expect![[r#"SELECT $1 [Text("it's")]"#]]);
    check("SELECT {{String(x)}}", "x=1&x=2", expect![[r#"SELECT $1 [Text("2")]"#]]);
    check("SELECT {{String(x, 'a')}}, {{String(x)}}", "", expect![[r#"SELECT $1, $2 [Text("a"), Text("a")]"#]]);
    check("SELECT {{String(x)}}", "", expect!["SELECT $1 [Null]"]);
    check("SELECT {{Int32(n, 5)}} + {{Int32(n)}}", "n=-7", expect!["SELECT $1 + $2 [Int(-7), Int(-7)]"]);
    check(
        "SELECT {{Float64(f, 1)}}, {{Boolean(b, True)}}",
        "b=0",
        expect![[r#"SELECT CAST($1 AS DOUBLE), $2 [Text("1"), Bool(false)]"#]],
    );
    check(
        "SELECT {{Date(d)}}, {{DateTime(t)}}",
        "d=2024-05-01&t=2024-05-01 10:00",
        expect![[
            r#"SELECT CAST($1 AS DATE), arrow_cast($2, 'Timestamp(Millisecond, Some("UTC"))') [Text("2024-05-01"), Text("2024-05-01T08:00:00.000Z")]"#
        ]],
    );
    check("x IN {{Array(ids, 'Int64')}}", "ids=1,2&ids=3", expect!["x IN ($1, $2, $3) [Int(1), Int(2), Int(3)]"]);
    check("x IN {{Array(ids, 'String', 'a,b')}}", "", expect![[r#"x IN ($1, $2) [Text("a"), Text("b")]"#]]);
    check("x IN {{Array(ids)}}", "ids=", expect!["x IN ($1) [Null]"]);
    check("a {# {{String(x)}} #} b {c}", "", expect!["a b {c} []"]);
}

#[test]
fn values_are_checked() {
    check("{{Int8(n)}}", "n=128", expect!["400 parameter `n`: `128` is not a whole number in range"]);
    check("{{UInt64(n)}}", "n=-1", expect!["400 parameter `n`: `-1` is not a whole number in range"]);
    check(
        "{{Int64(n)}}",
        "n=1; DROP TABLE x",
        expect!["400 parameter `n`: `1; DROP TABLE x` is not a whole number in range"],
    );
    check("{{Float64(n)}}", "n=inf", expect!["400 parameter `n`: `inf` is not a number"]);
    check("{{Boolean(n)}}", "n=maybe", expect!["400 parameter `n`: `maybe` is not true or false"]);
    check("{{Date(n)}}", "n=2024-02-30", expect!["400 parameter `n`: `2024-02-30` is not a date as 2024-05-31"]);
    check(
        "{{DateTime(n)}}",
        "n=now",
        expect!["400 parameter `n`: `now` is not a date or a date-time as 2024-05-31 or 2024-05-31 09:30:00"],
    );
    check("{{Array(n, 'Int64')}}", "n=1,x", expect!["400 parameter `n`: `x` is not a whole number in range"]);
    check("{{String(n, required=True)}}", "", expect!["400 parameter `n`: is required"]);
    check("{{String(n, 'a', enum=['a', 'b'])}}", "n=c", expect!["400 parameter `n`: `c` is not one of a, b"]);
    // Refused even where the template does not look.
    check(
        "{% if False %}{{Int32(n)}}{% end %}",
        "n=x",
        expect!["400 parameter `n`: `x` is not a whole number in range"],
    );
    check("{{Int32(n)}}", "n=", expect!["$1 [Null]"]);
}

#[test]
fn conditions() {
    let by = "{% if String(by, 'none') == 'day' %}D{% elif by in ['a', 'b'] %}AB{% elif not defined(x) and by != 'none' %}N{% else %}E{% end %}";
    for (query, expected) in
        [("", "E []"), ("by=day", "D []"), ("by=b", "AB []"), ("by=z", "N []"), ("by=z&x=1", "E []")]
    {
        let rendered = call(by, query).expect("renders");
        assert_eq!(format!("{} {:?}", rendered.sql, rendered.literals), expected, "{query}");
    }
    check("{% if n > 3 and Int32(n) <= 10 or b %}in{% end %}", "n=4", expect!["in []"]);
    check("{% if defined(a) %}{% if a == 'x' %}ax{% else %}a{% end %}{% end %}z", "a=y", expect!["az []"]);
    check("{% if Int32(n, 0) > 'a' %}{% end %}", "", expect!["400 `0` and `a` cannot be compared"]);
    check("{% if a not in ('x', 'y') %}out{% end %}", "a=z", expect!["out []"]);
}

#[test]
fn errors_of_the_template() {
    check("{% if x == 'no' %}{{error('not no')}}{% end %}ok", "x=no", expect!["400 not no"]);
    check("{{custom_error('gone', 404)}}", "", expect!["404 gone"]);
    check("{% if x == 'no' %}{{error('not no')}}{% end %}ok", "x=yes", expect!["ok []"]);
}

/// What cannot be served is an error when it is loaded.
#[test]
fn unknown_things_do_not_load() {
    let load =
        |template: &str| parse(template, &mut Budget::of_reading()).err().map(|e| e.to_string()).unwrap_or_default();
    expect![[r#"
        line 1: the name is missing
        line 1: the function `Symbol` is not known
        line 1: `(` is missing
        line 1: `colour` is not known here
        line 1: `String` needs a parameter's name
        line 1: `{% for %}` has no `{% end %}`
        line 1: expected `{% for name in list %}`
        line 1: expected `{% set name = value %}`
        line 1: the tag `while` is not known
        line 1: the method `popen` is not known
        line 1: the function takes 1 to 1 values, not 2
        line 1: `{% if %}` has no `{% end %}`
        line 1: `{% end %}` without `{% if %}`
        line 2: `{{` is not closed by `}}`
        line 1: `{{` is not closed by `}}`
        line 1: an error's status is from 400 to 499
        line 1: `x` is declared with two types
        line 1: `$1` and the like are reserved for values
        line 1: `__import__` needs a parameter's name
        line 1: `{% if %}` has no `{% end %}`"#]]
    .assert_eq(
        &[
            "{{columns()}}",
            "{{Symbol(x)}}",
            "{{x.y}}",
            "{{String(x, colour='red')}}",
            "{{String('x')}}",
            "{% for x in y %}",
            "{% for x y %}{% end %}",
            "{% set x %}",
            "{% while x %}{% end %}",
            "{{x.popen('a')}}",
            "{{len(a, b)}}",
            "{% if a %}b",
            "{% end %}",
            "a\nb {{String(x)",
            "{{String(x, 'a)}}",
            "{{custom_error('a', 200)}}",
            "{{Int32(x)}} {{String(x)}}",
            "SELECT $1",
            "{{__import__('os')}}",
            "{% if a %}{% else %}{% else %}{% end %}",
        ]
        .map(load)
        .join("\n"),
    );
}

#[test]
fn bound_values_meet_no_parser() {
    let rendered = call("SELECT {{String(x)}} AS a, {{Array(y)}}", "x=') UNION SELECT 'a&y=a,b").expect("renders");
    let mut statement = crate::gate::parse("SELECT $1 AS a, 'x' IN ($2, $3)").expect("parses");
    bind(&mut statement, &rendered.literals).expect("binds");
    expect!["SELECT ''') UNION SELECT ''a' AS a, 'x' IN ('a', 'b')"].assert_eq(&statement.to_string());
    let mut missing = crate::gate::parse("SELECT $9").expect("parses");
    assert!(bind(&mut missing, &rendered.literals).is_err());
}

#[test]
fn loops_and_locals() {
    check("{% for v in split_to_array(x) %}{{v}};{% end %}", "x=a, b", expect![[r#"$1;$2; [Text("a"), Text("b")]"#]]);
    check(
        "{% for last, v in enumerate_with_last(split_to_array(x)) %}{{v}}{% if not last %}, {% end %}{% end %}",
        "x=a,b",
        expect![[r#"$1, $2 [Text("a"), Text("b")]"#]],
    );
    check("{% set n = 1 %}{% for v in x %}{% set n = n + 1 %}{% end %}{{n}}", "x=a,b,c", expect!["$1 [Int(4)]"]);
    check(
        "{% for v in JSON(x) %}{{v['a']}} {{v.get('b')}};{% end %}",
        r#"x=[{"a":1}]"#,
        expect!["$1 $2; [Int(1), Null]"],
    );
    check("{{', '.join(split_to_array(x))}}", "x=a,b", expect![[r#"$1 [Text("a, b")]"#]]);
    check("{{day_diff(a, b)}}", "a=2024-05-01&b=2024-05-03", expect!["$1 [Int(2)]"]);
    check(
        "WHERE {{sql_and(a=String(a), b__in=Array(b), c=String(c))}}",
        "a=x&b=1,2",
        expect![[r#"WHERE a = $1 and b in ($2, $3) [Text("x"), Text("1"), Text("2")]"#]],
    );
}

/// `$` of one text and `1` of the next would be the place of a value.
#[test]
fn places_are_never_put_together() {
    for template in ["${# #}1", "${% if True %}1{% end %}", "${{1}}", "${# #}$", "${% set a = 1 %}a"] {
        let refused = call(template, "").expect_err(template);
        assert_eq!(refused.to_string(), "`$1` and the like are reserved for values", "{template}");
    }
    check("${# #} 1 {{1}}", "", expect!["$ 1 $1 [Int(1)]"]);
}

/// What names columns is a name, whatever is sent.
#[test]
fn names_are_quoted_and_plain() {
    check("SELECT {{columns(x, 'a,b')}}", "", expect![[r#"SELECT "a", "b" []"#]]);
    check("SELECT {{column(x, 'a')}}", "x=t.c", expect![[r#"SELECT "t"."c" []"#]]);
    for hostile in ["a\"b", "a b", "1a", "a--", "", "a,", "(SELECT 1)", "$1", "a;b", "é"] {
        let outcome = call("SELECT {{column(x, 'a')}}", &format!("x={hostile}"));
        let refused = outcome.as_ref().is_err_and(|e| e.status() == 400);
        let default = hostile.is_empty() && outcome.as_ref().is_ok_and(|r| r.sql == "SELECT \"a\"");
        assert!(refused || default, "{hostile}: {outcome:?}");
    }
}

/// As Python computes, and what its numbers can't be is refused.
#[test]
fn values_are_computed_with() {
    let size = "{{Int32(page, 0) * Int32(size, 10)}}";
    check(
        &format!("LIMIT {{{{Int32(size, 10)}}}} OFFSET {size}"),
        "page=3",
        expect!["LIMIT $1 OFFSET $2 [Int(10), Int(30)]"],
    );
    check(
        "{{1 + 2 * 3 - 4}} {{(1 + 2) * 3}} {{2 * -3}} {{--2}} {{-Int8(n, 4)}}",
        "",
        expect!["$1 $2 $3 $4 $5 [Int(3), Int(9), Int(-6), Int(2), Int(-4)]"],
    );
    check(
        "{{7 // 2}} {{-7 // 2}} {{7 % 3}} {{-7 % 3}} {{7 % -3}} {{7.5 % 2}} {{-7.5 // 2}}",
        "",
        expect![[
            r#"$1 $2 $3 $4 $5 CAST($6 AS DOUBLE) CAST($7 AS DOUBLE) [Int(3), Int(-4), Int(1), Int(2), Int(-2), Text("1.5"), Text("-4")]"#
        ]],
    );
    check(
        "{{7 / 2}} {{2 * 1.5}} {{'ab' * 2}} {{2 * [1, 2]}} {{'a' * -1}}",
        "",
        expect![[
            r#"CAST($1 AS DOUBLE) CAST($2 AS DOUBLE) $3 ($4, $5, $6, $7) $8 [Text("3.5"), Text("3"), Text("abab"), Int(1), Int(2), Int(1), Int(2), Text("")]"#
        ]],
    );
    check("{{1 / 0}}", "", expect!["400 `1 / 0` has no value"]);
    check("{{1 % 0}}", "", expect!["400 `1 % 0` has no value"]);
    check("{{9223372036854775807 * 2}}", "", expect!["400 `9223372036854775807 * 2` has no value"]);
    check("{{(-9223372036854775807 - 1) // -1}}", "", expect!["400 `-9223372036854775808 // -1` has no value"]);
    check("{{(-9223372036854775807 - 1) % -1}}", "", expect!["$1 [Int(0)]"]);
    check("{{'a' * 'b'}}", "", expect!["400 `a * b` has no value"]);
    check("{{'a' % 1}}", "", expect!["400 `a % 1` has no value"]);
    check("{{'a' * 1000000000}}", "", expect!["400 the template takes more than 500000 steps"]);
    check("{{'' * 1000000000}}", "", expect!["400 the template takes more than 500000 steps"]);
    check("{{[] * 1000000000}}", "", expect!["400 the template takes more than 500000 steps"]);
}

#[test]
fn values_are_chosen_and_compared_in_chains() {
    check("{{1 if defined(x) else 2}} {{1 if 0 else 2 if 0 else 3}}", "x=", expect!["$1 $2 [Int(1), Int(3)]"]);
    check("{{'in' if 1 < Int8(n, 2) <= 3 else 'out'}}", "n=1", expect![[r#"$1 [Text("out")]"#]]);
    check("{{'in' if 1 < Int8(n, 2) <= 3 else 'out'}}", "", expect![[r#"$1 [Text("in")]"#]]);
    check("{% if 1 < 0 < error('no') %}{% end %}a", "", expect!["a []"]);
    check("{% if x is None %}a{% end %}{% if y is not None %}b{% end %}", "y=1", expect!["ab []"]);
    check("{{'a-b'.replace('-', '+')}}{% comment a } b %}", "", expect![[r#"$1 [Text("a+b")]"#]]);
}

#[test]
fn texts_are_taken_apart_as_python_does() {
    check(
        "{{','.join(split_to_array(x, 'a;b', separator=';'))}} {{len(split_to_array(x, 'a, b'))}}",
        "",
        expect![[r#"$1 $2 [Text("a,b"), Int(2)]"#]],
    );
    check(
        "{{';'.join(split_to_array(x, 'd', ';'))}} {{len(split_to_array(x))}}",
        "x=a ; b,",
        expect![[r#"$1 $2 [Text("a;b,"), Int(2)]"#]],
    );
    check(
        "{{'|'.join('a, b,'.split(','))}} {{'|'.join(' a  b '.split())}}",
        "",
        expect![[r#"$1 $2 [Text("a| b|"), Text("a|b")]"#]],
    );
    check("{{'a'.split('')}}", "", expect!["400 `split` needs a separator that isn't empty"]);
}

/// Each mention has its own default, as in Tinybird; one without takes another's.
#[test]
fn a_default_is_that_of_its_mention() {
    check("{{Int8(n, 5)}} {{Int8(n, 7)}} {{Int8(n)}}", "", expect!["$1 $2 $3 [Int(5), Int(7), Int(5)]"]);
    check("{{Int8(n, 5)}} {{Int8(n, 7)}} {{Int8(n)}}", "n=1", expect!["$1 $2 $3 [Int(1), Int(1), Int(1)]"]);
    check("{{Int8(n, 5)}} {{Int8(n, 500)}}", "", expect!["400 parameter `n`: `500` is not a whole number in range"]);
}
