//! Datafiles and templates as people write them, given to PyPI `tinybird` and to ours: some hundreds, made from seeds. What
//! both accept means the same; what only Tinybird's accepts is in [`FILES`] and [`TEMPLATES`], with our error.

use crate::doctests::{PYPI, plain};
use crate::python;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Files that Tinybird's parser accepts and ours doesn't: what ours says, and docs/TINYBIRD.md why.
const FILES: &[(&str, &str)] = &[
    ("NODE a b\nSQL >\n SELECT 1\n", "line 1: `NODE` takes one word, on its line"),
    ("NODE a\nSQL > SELECT 2\n SELECT 1\n", "line 2: what follows `>` begins on the next line"),
    ("NODE a\nSQL >\n SELECT 1\nSQL >\n SELECT 2\n", "line 4: the node has an `SQL` already"),
    ("NODE a-b\nSQL >\n SELECT 1\n", "the node's name `a-b` can't be one"),
    ("NODE a\nSQL >\n SELECT 1\nNODE a\nSQL >\n SELECT 2\n", "the node's name `a` can't be one, or is there twice"),
    (
        "NODE a\nSQL >\n SELECT 1\nTYPE materialized\nDATASOURCE d\n",
        "line 4: a node's `TYPE` is `endpoint` or `standard`: copies, sinks",
    ),
    ("NODE a\nSQL >\n SELECT 1\nTYPE copy\nTARGET_DATASOURCE d\n", "line 4: a node's `TYPE` is"),
    ("SCOPE a\nSQL >\n SELECT 1\n", "line 1: `SCOPE` is not served"),
    ("NODE a\nSQL >\n%\nSELECT {{Int8(x)}}, {{String(x)}}\n", "`x` is declared with two types"),
];

/// Templates that Tinybird's renders and ours can't be loaded with.
const TEMPLATES: &[(&str, &str)] = &[
    ("{% while False %}{% end %}1", "the tag `while` is not known"),
    ("{% for a in [1] %}{% break %}{% end %}1", "the tag `break` is not known"),
    ("{% set a = 1 %}{% set a += 1 %}{{a}}", "expected `{% set name = value %}`"),
    ("{{[1, 2, 3][1:]}}", "is not expected"),
    ("{{Int32(x, 2 * 3)}}", "a constant is expected"),
    ("{{int('1')}}", "`int` needs a parameter's name"),
    ("{% set a = {'a': 1} %}{{a['a']}}", "`{` is not expected"),
    ("{{f'a'}}", "is not expected"),
    ("{{Int128(x, 1)}}", "the function `Int128` is not known"),
];

#[derive(Serialize)]
struct Asked {
    files: Vec<String>,
    templates: Vec<(String, BTreeMap<String, String>)>,
}

#[derive(Deserialize)]
struct Answered {
    files: Vec<Option<File>>,
    templates: Vec<Option<String>>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct File {
    description: String,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Node {
    name: String,
    description: String,
    sql: String,
    endpoint: bool,
    parameters: Vec<Parameter>,
}

#[derive(Debug, Deserialize, PartialEq, Clone)]
struct Parameter {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    default: Option<serde_json::Value>,
}

fn ask(asked: &Asked) -> Answered {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/datafiles.py");
    let python = python::environment(PYPI).join("bin/python");
    let mut command = Command::new(python);
    command.arg("-I").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("python runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&serde_json::to_vec(asked).expect("JSON")).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("python ends");
    assert!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).expect("answers")
}

/// Numbers from a seed: xorshift.
struct Seeded(u64);

impl Seeded {
    fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % count as u64).expect("small")
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// An instruction in letters of some case, with a block laid out in some way.
fn block(seeded: &mut Seeded, word: &str, lines: &[&str]) -> String {
    let indent = seeded.one(&["", "", "    ", "\t", " "]);
    let mut text = format!("{word} {}\n", seeded.one(&[">", ">", "  >  ", "> # a comment"]));
    text.push_str(seeded.one(&["", "", "\n", "  \n\n"]));
    for line in lines {
        text.push_str(seeded.one(&["", "", "", "\n", "# it's \"one\n", "   # another\n"]));
        let _ = writeln!(text, "{indent}{line}");
    }
    text.push_str(seeded.one(&["", "\n", "\n   \n"]));
    text
}

fn word(seeded: &mut Seeded, word: &str) -> String {
    match seeded.below(4) {
        0 => word.to_lowercase(),
        1 => word.char_indices().map(|(at, c)| if at == 0 { c } else { c.to_ascii_lowercase() }).collect(),
        _ => word.to_owned(),
    }
}

/// A pipe's file.
fn file(seed: u64) -> String {
    let mut seeded = Seeded::of(seed);
    let seeded = &mut seeded;
    let mut text = String::new();
    let describe = |seeded: &mut Seeded, text: &mut String| match seeded.below(4) {
        0 => *text += "DESCRIPTION   What  it counts # and not\n",
        1 => {
            let word = word(seeded, "DESCRIPTION");
            *text += &block(seeded, &word, &["What it counts,", "  by day"]);
        }
        2 => *text += seeded.one(&["DESCRIPTION\n", "DESCRIPTION >\n\n", "DESCRIPTION \"quoted\" text\n"]),
        _ => {}
    };
    let between = [
        "",
        "",
        "\n",
        "# a comment\n",
        "   \n",
        "TAGS \"a,b\"\n",
        "tags a\n",
        "TOKEN \"reader\" READ\n",
        "VERSION 1\n",
    ];
    describe(seeded, &mut text);
    let nodes = 1 + seeded.below(3);
    let answers = seeded.below(nodes + 1);
    for at in 0..nodes {
        text.push_str(seeded.one(&between));
        let name = word(seeded, "NODE");
        let _ = writeln!(
            text,
            "{name} {}",
            seeded.one(&[&format!("n{at}"), &format!("\"n{at}\""), &format!("n{at} # first")])
        );
        describe(seeded, &mut text);
        text.push_str(seeded.one(&between));
        let sql = word(seeded, "SQL");
        let body: &[&str] = match seeded.below(6) {
            0 => &["SELECT 1 AS a"],
            1 => &["SELECT", "  a, -- not b", "  'it''s # no comment' AS b", "FROM t WHERE c % 2 = 0"],
            2 => &["%", "SELECT {{Int32(size, 10)}} AS a", "LIMIT {{Int32(page, 0) * Int32(size, 10)}}"],
            3 => &["%SELECT {{String(name, 'x')}}", "  {% if defined(day) %}, {{Date(day)}}{% end %}"],
            4 => &["% SELECT 1", "WHERE a = {{String(name, \"it's\", description='whose')}}"],
            _ => &["WITH types AS (SELECT 1)", "SELECT nodes FROM types"],
        };
        text.push_str(&block(seeded, &sql, body));
        if at == answers {
            let kind = word(seeded, "TYPE");
            let _ = writeln!(text, "{kind} {}", seeded.one(&["endpoint", "ENDPOINT", "\"endpoint\"", "endpoint # it"]));
        } else if seeded.coin() {
            text.push_str("TYPE standard\n");
        }
    }
    match seeded.below(4) {
        0 => text.replace('\n', "\r\n"),
        1 => text.trim_end().to_owned(),
        _ => text,
    }
}

/// Lines without what surrounds them, and without empty ones.
fn lines(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Ours, as theirs is.
fn read(text: &str) -> Result<File, String> {
    let pipe = sql::OwnPipe::parse("own", text).map_err(|error| error.message().to_owned())?;
    let nodes: Vec<Node> = pipe
        .nodes()
        .map(|node| Node {
            name: node.name.clone(),
            description: lines(&node.description),
            sql: lines(&node.sql),
            endpoint: node.name == pipe.answering(),
            parameters: node
                .parameters
                .iter()
                .map(|p| Parameter {
                    name: p.name.clone(),
                    kind: p.kind.clone(),
                    default: p.default.clone().map(serde_json::Value::String),
                })
                .collect(),
        })
        .collect();
    // The file's own, or the answering node's.
    Ok(File { description: lines(&pipe.description().description), nodes })
}

/// Theirs, in a form that can be compared: without a type the last node answers; a parameter is there once.
fn comparable(mut file: File) -> File {
    if file.nodes.iter().all(|node| !node.endpoint)
        && let Some(last) = file.nodes.last_mut()
    {
        last.endpoint = true;
    }
    for node in &mut file.nodes {
        node.description = lines(&node.description);
        node.sql = lines(&node.sql);
        let mut once: Vec<Parameter> = Vec::new();
        for mut parameter in std::mem::take(&mut node.parameters) {
            let text = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            parameter.default = parameter.default.map(|value| serde_json::Value::String(text(value)));
            if once.iter().all(|known| known.name != parameter.name) {
                once.push(parameter);
            }
        }
        node.parameters = once;
    }
    if file.description.is_empty()
        && let Some(answering) = file.nodes.iter().find(|node| node.endpoint)
    {
        file.description.clone_from(&answering.description);
    }
    file.description = lines(&file.description);
    file
}

/// An expression of a kind, at most so deep: `i` whole numbers, `t` texts, `l` lists of texts, `b` conditions.
fn expression(seeded: &mut Seeded, kind: char, depth: usize) -> String {
    let inner = |kind: char, seeded: &mut Seeded| expression(seeded, kind, depth.saturating_sub(1));
    let is_leaf = depth == 0;
    match kind {
        'i' => match if is_leaf { seeded.below(3) } else { seeded.below(10) } {
            0 => seeded.below(20).to_string(),
            1 => format!("Int32(a, {})", seeded.below(9)),
            2 => format!("Int64(b, {})", seeded.below(9)),
            3 | 4 => {
                let operator = seeded.one(&["+", "-", "*"]);
                format!("({} {operator} {})", inner('i', seeded), inner('i', seeded))
            }
            5 => format!("{} {} {}", inner('i', seeded), seeded.one(&["+", "-", "*"]), seeded.below(5)),
            6 => format!("-({})", inner('i', seeded)),
            7 => format!("len({})", inner('l', seeded)),
            8 => format!("({} if {} else {})", inner('i', seeded), inner('b', seeded), inner('i', seeded)),
            _ => format!("- -({})", inner('i', seeded)),
        },
        't' => match if is_leaf { seeded.below(3) } else { seeded.below(8) } {
            0 => seeded.one(&["'x'", "'a,b'", "\"y z\"", "''"]).to_owned(),
            1 => "String(s, 'of it')".to_owned(),
            2 => "String(t, 'p,q')".to_owned(),
            3 => format!("({} + {})", inner('t', seeded), inner('t', seeded)),
            4 => format!("({} * {})", inner('t', seeded), seeded.below(4)),
            5 => format!("({}).replace('a', 'bb')", inner('t', seeded)),
            6 => format!("','.join({})", inner('l', seeded)),
            _ => format!("({} if {} else {})", inner('t', seeded), inner('b', seeded), inner('t', seeded)),
        },
        'l' => match if is_leaf { 0 } else { seeded.below(4) } {
            0 => seeded.one(&["['a', 'b']", "['c']"]).to_owned(),
            1 => format!("({} + {})", inner('l', seeded), inner('l', seeded)),
            2 => format!("({} * {})", inner('l', seeded), 1 + seeded.below(3)),
            _ => "split_to_array(t, 'p,q')".to_owned(),
        },
        _ => match if is_leaf { seeded.below(2) } else { seeded.below(8) } {
            0 => "defined(s)".to_owned(),
            1 => seeded.one(&["True", "False"]).to_owned(),
            2 => {
                let operators = ["<", "<=", ">", ">=", "==", "!="];
                let (one, two) = (seeded.one(&operators), seeded.one(&operators));
                format!("({} {one} {} {two} {})", inner('i', seeded), inner('i', seeded), inner('i', seeded))
            }
            3 => format!("({} {} {})", inner('t', seeded), seeded.one(&["in", "not in"]), inner('l', seeded)),
            4 => format!("({} {} {})", inner('b', seeded), seeded.one(&["and", "or"]), inner('b', seeded)),
            5 => format!("(not {})", inner('b', seeded)),
            6 => format!("({} // 2 % 3 > 0)", inner('i', seeded)),
            _ => format!("({} is {})", inner('t', seeded), seeded.one(&["None", "not None"])),
        },
    }
}

/// A template and the values of a call.
fn template(seed: u64) -> (String, BTreeMap<String, String>) {
    let mut seeded = Seeded::of(seed);
    let seeded = &mut seeded;
    let mut text = "SELECT ".to_owned();
    // In `{{ }}` Tinybird allows no comparison.
    let depth = 1 + seeded.below(3);
    for _ in 0..1 + seeded.below(4) {
        let kind = if seeded.coin() { 'i' } else { 't' };
        let value = expression(seeded, kind, depth);
        match seeded.below(4) {
            0 => {
                let _ = write!(text, "{{% if {} %}}1{{% else %}}2{{% end %}}, ", expression(seeded, 'b', depth));
            }
            1 => {
                let _ = write!(text, "{{% for v in {} %}}{{{{v}}}}, {{% end %}}", expression(seeded, 'l', depth));
            }
            _ => {
                let _ = write!(text, "{{% set v = {value} %}}{{{{v}}}}, ");
            }
        }
    }
    text.push_str("{% comment the end %}0");
    let mut values = BTreeMap::new();
    for (name, value) in [("a", "4"), ("b", "-3"), ("s", "it's"), ("t", "m, n")] {
        if seeded.coin() {
            values.insert(name.to_owned(), value.to_owned());
        }
    }
    (text, values)
}

#[test]
fn files_and_templates_mean_what_they_mean_to_tinybird() {
    let made: Vec<String> = (1..=300).map(file).collect();
    let templates: Vec<_> = (1..=400).map(template).collect();
    let listed_files = FILES.iter().map(|(text, _)| (*text).to_owned());
    let listed_templates = TEMPLATES.iter().map(|(text, _)| ((*text).to_owned(), BTreeMap::new()));
    let asked = Asked {
        files: made.iter().cloned().chain(listed_files).collect(),
        templates: templates.iter().cloned().chain(listed_templates).collect(),
    };
    let answered = ask(&asked);
    let mut wrong = Vec::new();
    let mut same = (0, 0);
    for (text, theirs) in asked.files.iter().zip(answered.files) {
        let ours = read(text);
        let listed = FILES.iter().find(|(listed, _)| listed == text);
        let agree = match (&ours, theirs.map(comparable), listed) {
            (Err(message), Some(_), Some((_, expected))) => message.contains(expected),
            (Ok(ours), Some(theirs), None) if *ours == theirs => {
                same.0 += 1;
                true
            }
            (_, theirs, _) => {
                wrong.push(format!("theirs {theirs:#?}"));
                false
            }
        };
        if !agree {
            wrong.push(format!("{text}\nours {ours:#?}"));
        }
    }
    for ((text, values), theirs) in asked.templates.iter().zip(answered.templates) {
        let params = values.iter().map(|(name, value)| (name.clone(), vec![value.clone()])).collect();
        let ours = sql::preview_template(text, &params, chrono_tz::UTC);
        let listed = TEMPLATES.iter().find(|(listed, _)| listed == text);
        let agree = match (&ours, &theirs, listed) {
            (Err(error), Some(_), Some((_, expected))) => error.to_string().contains(expected),
            (Ok(ours), Some(theirs), None) => {
                same.1 += 1;
                plain(ours) == plain(theirs)
            }
            // What a call makes of values may be refused by both.
            (Err(_), None, None) => true,
            _ => false,
        };
        if !agree {
            wrong.push(format!("{text} {values:?}\n  theirs {theirs:?}\n  ours   {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(same.0 >= 300 && same.1 >= 300, "only {same:?} were compared");
}
