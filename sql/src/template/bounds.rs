//! What a hostile template may cost: every function, every operator, every tag, with input that doubles; and every way to make
//! a tree deep or a reader loop. The tables are made of the lists that the code itself reads.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::budget::{RENDER_BYTES_MAX, RENDER_STEPS_MAX};
use super::functions::{ALL, Function, How};
use super::lex::SYMBOLS;
use super::parse::{DEPTH_MAX, TAGS};
use super::value::{Items, Value};
use super::*;

/// A rendering that meets its limits takes a tenth of a second; a machine that is busy, a hundred times that.
const TIME_MAX: Duration = Duration::from_secs(10);

fn read(template: &str) -> Result<Template, String> {
    parse(template, &mut Budget::of_reading()).map_err(|e| e.to_string())
}

fn call(template: &str, values: &[(&str, &str)]) -> Result<Rendered, QueryError> {
    let template = read(template).expect("a template");
    let params = values.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
    let started = Instant::now();
    let outcome = render(&template, &Args::new(&params, Tz::UTC), &mut Budget::of_rendering());
    assert!(started.elapsed() < TIME_MAX, "it took {:?}", started.elapsed());
    outcome
}

fn too_large(template: &str, values: &[(&str, &str)]) -> &'static str {
    match call(template, values) {
        Err(QueryError::TemplateTooLarge { what, .. }) => what,
        other => panic!("{}: {:?}", &template[..template.len().min(200)], other.map(|rendered| rendered.sql.len())),
    }
}

/// Bytes that a value holds and that `known` lists don't hold already.
fn held(value: &Value, known: &mut HashSet<*const u8>) -> usize {
    let bytes = size_of::<Value>();
    bytes
        + match value {
            Value::Text(text) if known.insert(text.as_ptr()) => text.len(),
            Value::List(items) if known.insert(items.as_ptr().cast()) => {
                items.iter().map(|item| held(item, known)).sum()
            }
            Value::Names(names) => names.iter().map(|name| size_of_val(name) + name.len()).sum(),
            _ => 0,
        }
}

/// What a function is tried with, all of about `size` bytes.
fn seeds(size: usize, budget: &mut Budget) -> Vec<Value> {
    let text = |text: String, budget: &mut Budget| Value::text_of(&text, budget).expect("within the budget");
    let list = |item: &Value, count: usize, budget: &mut Budget| {
        let mut items = Items::default();
        for _ in 0..count {
            items.push(item.clone(), budget).expect("within the budget");
        }
        items.list().expect("shallow")
    };
    let one = text("a".to_owned(), budget);
    let numbers = list(&Value::Int(1), size / 24, budget);
    vec![
        text("a,".repeat(size / 2), budget),
        text("ŉ".repeat(size / 2), budget),
        text(format!("[{}1]", "{},".repeat(size / 3)), budget),
        text(format!("{{\"a\":[{}1]}}", "[],".repeat(size / 3)), budget),
        list(&one, size / 24, budget),
        list(&numbers, 50, budget),
        numbers,
        Value::Int(1),
        text("2024-05-01".to_owned(), budget),
        Value::None,
    ]
}

/// Whatever a function makes was paid for, and whatever it looks at was; so it is for one that will be written.
#[test]
fn every_function_pays_for_what_it_reads_and_makes() {
    for (_, name, function) in ALL {
        let mut tried = 0;
        for size in [3_000, 12_000, 48_000] {
            let seeds = seeds(size, &mut Budget::of_rendering());
            let (_, most) = function.arguments();
            for first in &seeds {
                for second in &seeds[..if most == 1 { 1 } else { seeds.len() }] {
                    let values = &[first.clone(), second.clone(), second.clone()][..most];
                    let (mut known, mut budget) = (HashSet::new(), Budget::of_rendering());
                    for value in values {
                        held(value, &mut known);
                    }
                    let outcome = function.call(values, &mut budget);
                    let (steps, bytes) = budget.spent();
                    let extent: usize = values.iter().map(Value::extent).sum();
                    assert!(steps >= extent / 64, "{name} looked at {extent} for {steps} steps");
                    if let Ok(made) = outcome {
                        let made = held(&made, &mut known);
                        assert!(made <= bytes + size_of::<Value>(), "{name} made {made} bytes and paid for {bytes}");
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 0, "{name} takes none of the seeds");
    }
}

/// Each function on its own result, on a value that doubles, in loops: it ends within the budget.
#[test]
fn every_function_ends_when_its_input_doubles() {
    for (how, name, function) in ALL {
        let called = |value: &str| match (how, function.arguments()) {
            (How::Called, (_, 1)) => format!("{name}({value})"),
            (How::Called, _) => format!("{name}({value}, {value})"),
            (How::Method, (_, 1)) => format!("{value}.{name}()"),
            (How::Method, (_, 2)) => format!("{value}.{name}({value})"),
            (How::Method, _) => format!("{value}.{name}('a', {value})"),
        };
        for seed in ["'a,'", "'ŉ'", "'a'", "['a']", "[1]", "[['a'], ['b']]", "'[1,{}]'", "'2024-05-01'", "x"] {
            let doubled = "{% set v = v + v %}".repeat(40);
            let grown = format!("{{% set w = {} %}}{{% set v = w %}}", called("v")).repeat(40);
            let in_loops =
                format!("{{% for a in y %}}{{% for b in y %}}{{% set w = {} %}}{{% end %}}{{% end %}}", called("v"));
            for body in [format!("{doubled}{grown}"), grown, format!("{}{in_loops}", "{% set v = v + v %}".repeat(10))]
            {
                let template = format!("{{% set v = {seed} %}}{body}{{{{v}}}}");
                // Of the wrong kind, too much, or done: `call` holds it to its time.
                let outcome = call(&template, &[("x", &"a,".repeat(100_000)), ("y", &"a,".repeat(1_000))]);
                assert!(outcome.as_ref().map_or_else(|e| e.status() == 400, |_| true), "{name}: {outcome:?}");
            }
        }
    }
    assert_eq!(ALL.iter().map(|(how, name, _)| (*how as u8, name)).collect::<HashSet<_>>().len(), ALL.len());
    assert!(Function::by_name(How::Called, "lower").is_none(), "a method is no function");
}

/// `x` is a text of many items, `l` is their list, `m` and `n` are short lists alike.
const PREPARED: &str = "{% set l = split_to_array(x) %}{% set m = split_to_array(y) %}{% set n = split_to_array(y) %}";

/// In a loop within a loop.
fn rounds(inside: &str) -> String {
    format!("{{% for a in l %}}{{% for b in l %}}{inside}{{% end %}}{{% end %}}")
}

/// For each operator a template that would take more than there is, were there no budget.
fn with_operator(symbol: &str) -> String {
    let value = |expr: &str| rounds(&format!("{{% set v = {expr} %}}"));
    match symbol {
        "+" => format!("{{% set v = 'a' %}}{}", "{% set v = v + v %}".repeat(26)),
        "-" => value("1 - 1 - 1"),
        "*" => "{% set v = 'a' * 1000000000 %}".to_owned(),
        "/" | "//" | "%" => value(&format!("7 {symbol} 2 {symbol} 1")),
        "==" | "!=" => value(&format!("m {symbol} n")),
        "<" | "<=" | ">" | ">=" => value(&format!("x {symbol} x")),
        "=" => with_word("sql_and"),
        "(" | ")" => value("(x, (x))"),
        "[" | "]" => value("[x, [x]][1]"),
        "," => value("[x, x, x, x]"),
        "." => value("x.upper().lower()"),
        other => panic!("the operator {other} is new: write a template that makes the most of it"),
    }
}

/// The same for each tag, and for the words of expressions.
fn with_word(word: &str) -> String {
    match word {
        "for" | "end" => rounds(""),
        "comment" => rounds("{% comment a %}"),
        "set" => rounds("{% set c = a %}"),
        "if" => rounds("{% if a %}{% end %}"),
        "elif" => rounds("{% if 0 %}{% elif 0 %}{% end %}"),
        "else" => rounds("{% if 0 %}{% else %}{% end %}"),
        "in" | "not" => rounds("{% if 'z' not in l %}{% end %}"),
        "and" | "or" => rounds(&format!("{{% if {} %}}{{% end %}}", "0 or x and ".repeat(50) + "0")),
        "error" => format!("{{% set v = x %}}{}{{{{error(v)}}}}", "{% set v = v + v %}".repeat(26)),
        "sql_and" => rounds("{{sql_and(a=x, b__in=l)}}"),
        "defined" => rounds("{% if defined(x) %}{% end %}"),
        "columns" => rounds("{{columns(c)}}"),
        "{{" => rounds("{{x}}{{l}}"),
        "Array" => "{{Array(x, 'String')}}".to_owned(),
        other => panic!("{other} is new: write a template that makes the most of it"),
    }
}

#[test]
fn every_operator_and_tag_ends_within_its_budget() {
    const WORDS: [&str; 10] = ["in", "not", "and", "or", "error", "sql_and", "defined", "columns", "{{", "Array"];
    let (x, c) = ("a,".repeat(20_000), ["c"; 20_000].join(","));
    let values = [("x", x.as_str()), ("y", "b,b,b,b,b,b,b,b"), ("c", &c)];
    let operators = SYMBOLS.into_iter().map(|symbol| (symbol, with_operator(symbol)));
    let words = TAGS.map(|(word, _)| word).into_iter().chain(WORDS).map(|word| (word, with_word(word)));
    let mut met = HashSet::new();
    for (of, template) in operators.chain(words) {
        let started = Instant::now();
        let what = too_large(&format!("{PREPARED}{template}"), &values);
        println!("{of}: {what} in {:?}", started.elapsed());
        met.insert(what);
    }
    assert_eq!(met, HashSet::from(["steps", "bytes of values", "bytes of SQL"]), "each limit was met by one of them");
}

/// The examples of the attack, as they were.
#[test]
fn what_looped_or_grew_without_end_is_refused() {
    assert_eq!(read("SELECT {{ 'abc\\").expect_err("it isn't closed"), "line 1: `{{` is not closed by `}}`");
    let doubled = format!("{{% set a = 'a' %}}{}", "{% set a = a + a %}".repeat(26));
    assert_eq!(too_large(&doubled, &[]), "bytes of values");
    let nested = "{% for a in x %}{% for b in x %}{% for c in x %}{% end %}{% end %}{% end %}";
    assert_eq!(too_large(nested, &[("x", &"a,".repeat(100_000))]), "bytes of values");
    let of_list = format!("{{% set x = split_to_array(x) %}}{nested}");
    assert_eq!(too_large(&of_list, &[("x", &"a,".repeat(100_000))]), "steps");
    let refused = read(&format!("{{{{1{}}}}}", "+1".repeat(31_000))).expect_err("too many");
    assert_eq!(refused, "line 1: the template takes more than 20000 tags and tokens");
}

/// A message repeats some of what was sent, never all.
#[test]
fn messages_are_short() {
    let long = "é".repeat(100_000);
    let values = [("x", long.as_str()), ("l", &"a,".repeat(100_000))];
    for template in [
        "{{error(x)}}",
        "{{custom_error(split_to_array(l), 404)}}",
        "{% if x < 1 %}{% end %}",
        "{{x - 1}}",
        "{{split_to_array(l) + 1}}",
        "{{max(l)}}",
        "{{JSON(x)}}",
        "{{day_diff(x, l)}}",
        "{{column(x)}}",
        "{{x[1]}}",
        "{{Int32(x)}}",
        "{{Array(l, 'Int32')}}",
        "{{String(x, enum=['a', 'b'])}}",
    ] {
        let refused = call(template, &values).expect_err(template).to_string();
        assert!(refused.chars().count() <= 1_001, "{template}: {} characters", refused.chars().count());
    }
    let many: Vec<String> = (0..5_000).map(|n| format!("'value-{n}'")).collect();
    let template = format!("{{{{String(x, enum=[{}])}}}}", many.join(","));
    assert!(call(&template, &values).expect_err("none of them").to_string().len() < 1_000);
    let word = "a".repeat(30_000);
    for template in [
        format!("{{% {word} %}}"),
        format!("{{{{{word}(x)}}}}"),
        format!("{{{{x.{word}()}}}}"),
        format!("{{{{1{word}}}}}"),
        format!("{{{{x 1 {word}}}}}"),
        format!("{{{{? {word}}}}}"),
        format!("{{{{sql_and({word}__no=1)}}}}"),
        format!("{{{{String(x, {word}=1)}}}}"),
        format!("{{{{Int8({word})}}}}{{{{Int16({word})}}}}"),
    ] {
        assert!(read(&template).expect_err("it can't be read").len() < 1_000);
    }
}

/// Runs on a stack of the size that threads have at least.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(work);
    thread.expect("a thread").join().expect("no panic");
}

/// Chains are no levels, and levels are counted: no template is deeper than a small stack holds, to be read, rendered and
/// dropped.
#[test]
fn no_tree_is_deep() {
    on_a_small_stack(|| {
        const LINKS: usize = 3_900;
        for link in ["+1", "-1", " or 0", " and 1", "[0]", ".get('a')", ".lower()", " not in [1]", " == 1", "(1)"] {
            let chain = format!("{{{{1{}}}}}", link.repeat(LINKS));
            if let Ok(template) = read(&chain) {
                let params = Params::new();
                drop(render(&template, &Args::new(&params, Tz::UTC), &mut Budget::of_rendering()));
            }
        }
        for (open, close) in [("(", ")"), ("[", "]"), ("len(", ")"), ("x[", "]"), ("not (", ")"), ("x.join(", ")")] {
            for levels in [DEPTH_MAX - 1, DEPTH_MAX, 10_000] {
                let nested = format!("{{{{{}1{}}}}}", open.repeat(levels), close.repeat(levels));
                assert_eq!(read(&nested).is_ok(), levels < DEPTH_MAX, "{levels} levels of {open}");
            }
        }
        for (open, close) in [("{% if 1 %}", "{% end %}"), ("{% for a in 'a' %}", "{% end %}")] {
            for levels in [DEPTH_MAX, DEPTH_MAX + 1, 3_000] {
                let inside = format!("{{{{{}1{}}}}}", "(".repeat(DEPTH_MAX - 1), ")".repeat(DEPTH_MAX - 1));
                let template = read(&format!("{}{inside}{}", open.repeat(levels), close.repeat(levels)));
                assert_eq!(template.is_ok(), levels <= DEPTH_MAX, "{levels} levels of {open}");
                let Ok(template) = template else { continue };
                let params = Params::new();
                render(&template, &Args::new(&params, Tz::UTC), &mut Budget::of_rendering()).expect("it renders");
            }
        }
        let elifs = format!("{{% if 0 %}}{}{{% end %}}", "{% elif 0 %}".repeat(3_000));
        call(&elifs, &[]).expect("not deep");
    });
}

/// Nor is a value: a list in a list in a list, or an object.
#[test]
fn no_value_is_deep() {
    on_a_small_stack(|| {
        let nested = "{% set v = [] %}{% for a in x %}{% set v = [v, v] %}{% end %}";
        let (few, many) = ("a,".repeat(140), "a,".repeat(1_000));
        assert_eq!(too_large(nested, &[("x", &many)]), "levels of lists");
        // It's small, since what it holds is shared, and has more leaves than there are atoms.
        for end in ["{{v}}", "{{v == [v]}}{% if v == v %}{% end %}", "{{','.join(v)}}", "{% if v in [v] %}{% end %}"] {
            let refused = call(&format!("{nested}{end}"), &[("x", &few)]).expect_err("too large");
            assert!(matches!(refused, QueryError::TemplateTooLarge { .. }), "{end}: {refused}");
        }
        let refused = call(&format!("{nested}{{{{error(v)}}}}"), &[("x", &few)]).expect_err("its own error");
        assert!(refused.to_string().len() < 5_000, "{refused}");
        for json in ["[", "{\"a\":", "[{\"a\":"] {
            let refused = call("{{JSON(x)}}", &[("x", &json.repeat(50_000))]).expect_err("too deep");
            assert_eq!(refused.status(), 400, "{refused}");
        }
    });
}

/// What it takes to meet the limits; for whoever changes them.
#[test]
fn the_largest_request_fits() {
    let ids = "12345678,".repeat(28_000);
    assert!(ids.len() < 256 * 1024);
    let sql = call("{{len(Array(ids, 'Int64'))}} {{len(split_to_array(text))}}", &[("ids", &ids), ("text", &ids)]);
    assert_eq!(sql.expect("it renders").literals.len(), 2);
    assert_eq!(too_large("{{Array(ids)}}", &[("ids", &ids)]), "bytes of SQL");
    assert_eq!((RENDER_STEPS_MAX, RENDER_BYTES_MAX), (500_000, 8 * 1024 * 1024));
}

proptest! {
    /// Whatever the text: it's read or refused, and what is read renders or is refused.
    #[test]
    fn any_text_is_read_or_refused(text in r#"(\{\{|\}\}|\{%|%\}|\{#|#\}|[ \\'"\[\]()a+=.,é$1-]|if |for a in |end|set a=|not |in |error|\n){0,60}"#) {
        if let Ok(template) = read(&text) {
            let params = Params::from([("a".to_owned(), vec!["1,2".to_owned()])]);
            drop(render(&template, &Args::new(&params, Tz::UTC), &mut Budget::of_rendering()));
        }
    }
}

/// Every beginning of a template, with a backslash behind it too.
#[test]
fn every_beginning_is_read_or_refused() {
    let whole = "a {{String(x, 'é\\'b', description=\"c\\\\\")}} {# d #} {% if x == 'e' and not y in [1, 2.5] %}{{sql_and(f__in=Array(g))}}\
        {% elif h[0].get('i') %}{% for j, k in enumerate_with_last(l) %}{{m.join(n) + o - 3}}{% end %}{% else %}{{error('p')}}{% end %}";
    read(whole).expect("a template");
    for (end, _) in whole.char_indices() {
        for more in ["", "\\", "'", "'\\", "'\\é", "\"\\\\", "{", "{{", "{%"] {
            drop(read(&format!("{}{more}", &whole[..end])));
        }
    }
}
