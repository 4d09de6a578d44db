//! Tinybird's datafile form of a pipe: `DESCRIPTION`, `NODE`, `SQL >`, `TYPE endpoint`. Pure. Start at [`parse`].
//!
//! A block follows a line that ends in `>`, indented or not: it goes on until a line that begins, without an indentation,
//! with an instruction. As PyPI `tinybird` reads it, whose parser is the reference: words of a line may be quoted, `#` begins
//! a comment, and lines of a block that begin with `#` aren't part of it. Each line is looked at a fixed number of times.

/// A `.pipe` file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Datafile {
    pub(crate) description: String,
    pub(crate) nodes: Vec<Node>,
}

/// One named query of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) sql: String,
    /// The SQL started with `%`.
    pub(crate) template: bool,
    /// `TYPE endpoint`.
    pub(crate) endpoint: bool,
}

/// A malformed file; `line` counts from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the datafile: line {line}: {message}")]
pub(crate) struct DatafileError {
    line: usize,
    message: String,
}

/// What a line can begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instruction {
    Description,
    Node,
    Sql,
    Type,
    /// It says nothing about what is answered: a token is made through the API, tags sort pipes on a page.
    Ignored,
    /// Of copies, sinks, materialized views and files that include others.
    NotServed,
}

/// Every instruction of a pipe's file that Tinybird knows, so that a block ends where it does there.
const INSTRUCTIONS: [(&str, Instruction); 28] = [
    ("DESCRIPTION", Instruction::Description),
    ("NODE", Instruction::Node),
    ("SQL", Instruction::Sql),
    ("TYPE", Instruction::Type),
    ("TAGS", Instruction::Ignored),
    ("TOKEN", Instruction::Ignored),
    ("VERSION", Instruction::Ignored),
    ("SCOPE", Instruction::NotServed),
    ("DATASOURCE", Instruction::NotServed),
    ("TARGET_DATASOURCE", Instruction::NotServed),
    ("COPY_SCHEDULE", Instruction::NotServed),
    ("COPY_MODE", Instruction::NotServed),
    ("MODE", Instruction::NotServed),
    ("ON_DEMAND_COMPUTE", Instruction::NotServed),
    ("FILTER", Instruction::NotServed),
    ("INCLUDE", Instruction::NotServed),
    ("DEPLOYMENT_METHOD", Instruction::NotServed),
    ("EXPORT_SERVICE", Instruction::NotServed),
    ("EXPORT_CONNECTION_NAME", Instruction::NotServed),
    ("EXPORT_SCHEDULE", Instruction::NotServed),
    ("EXPORT_BUCKET_URI", Instruction::NotServed),
    ("EXPORT_FILE_TEMPLATE", Instruction::NotServed),
    ("EXPORT_FORMAT", Instruction::NotServed),
    ("EXPORT_STRATEGY", Instruction::NotServed),
    ("EXPORT_COMPRESSION", Instruction::NotServed),
    ("EXPORT_WRITE_STRATEGY", Instruction::NotServed),
    ("EXPORT_KAFKA_TOPIC", Instruction::NotServed),
    // Of data sources, and easily put here.
    ("SETTINGS", Instruction::NotServed),
];

fn instruction(word: &str) -> Option<Instruction> {
    INSTRUCTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, found)| *found)
}

/// What follows an instruction.
enum Argument<'a> {
    /// The words on its line, and the same as it's written.
    Line(&'a [&'a str], &'a str),
    Block(String),
}

impl Argument<'_> {
    /// As a text.
    fn text(self) -> String {
        match self {
            Self::Line(words, _) => words.join(" "),
            Self::Block(text) => text.trim().to_owned(),
        }
    }

    /// The one word that it may be, without quotes.
    fn word(self, of: &str) -> Result<String, String> {
        match self {
            Self::Line([], _) => Err(missing(of)),
            Self::Line([word], _) => Ok(unquoted(word).to_owned()),
            Self::Line(..) | Self::Block(_) => Err(format!("`{of}` takes one word, on its line")),
        }
    }
}

fn missing(of: &str) -> String {
    format!("`{of}` has no value")
}

/// Reads a file.
/// # Errors  An unknown instruction, or one that isn't served; an empty `NODE`, `SQL` or `TYPE`; two `SQL` of a node.
pub(crate) fn parse(text: &str) -> Result<Datafile, DatafileError> {
    let mut file = Datafile::default();
    let mut lines = lines(text).enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let words = words(line);
        let Some((word, rest)) = words.split_first() else { continue };
        let fail = |message: String| DatafileError { line: index + 1, message };
        let argument = match rest {
            [">"] => {
                let mut block = Vec::new();
                while let Some((_, line)) = lines.next_if(|(_, line)| !begins_instruction(line)) {
                    // A comment's line stays, empty, so that errors name the right one.
                    block.push(if line.trim_start().starts_with('#') { "" } else { line });
                }
                Argument::Block(unindented(&block))
            }
            [">", ..] => return Err(fail("what follows `>` begins on the next line".to_owned())),
            words => Argument::Line(words, line.trim_start().get(word.len()..).unwrap_or_default().trim()),
        };
        file.take(word, argument).map_err(fail)?;
    }
    Ok(file)
}

impl Datafile {
    fn take(&mut self, word: &str, argument: Argument<'_>) -> Result<(), String> {
        let word = word.to_ascii_uppercase();
        let Some(found) = instruction(&word) else {
            let shown: String = word.chars().take(WORD_CHARS_SHOWN).collect();
            return Err(format!("`{shown}` is no instruction of a pipe's file"));
        };
        match (found, self.nodes.last_mut()) {
            (Instruction::Description, None) => self.description = argument.text(),
            (Instruction::Description, Some(node)) => node.description = argument.text(),
            (Instruction::Node, _) => self.nodes.push(Node { name: argument.word(&word)?, ..Node::default() }),
            (Instruction::Sql, Some(node)) if node.sql.is_empty() => node.read(argument)?,
            (Instruction::Sql, Some(_)) => return Err("the node has an `SQL` already".to_owned()),
            (Instruction::Type, Some(node)) => match argument.word(&word)?.to_ascii_lowercase().as_str() {
                "endpoint" => node.endpoint = true,
                "standard" => node.endpoint = false,
                "materialized" | "copy" | "sink" | "stream" => {
                    return Err(
                        "a node's `TYPE` is `endpoint` or `standard`: copies, sinks and materialized views are \
                                not there"
                            .to_owned(),
                    );
                }
                _ => return Err("a node's `TYPE` is `endpoint` or `standard`".to_owned()),
            },
            (Instruction::Sql | Instruction::Type, None) => return Err(format!("`{word}` comes after a `NODE`")),
            (Instruction::Ignored, _) => {}
            (Instruction::NotServed, _) => {
                return Err(format!("`{word}` is not served; in a block, indent a line that begins with this word"));
            }
        }
        Ok(())
    }
}

/// Characters of an unknown instruction that an error repeats.
const WORD_CHARS_SHOWN: usize = 60;

impl Node {
    fn read(&mut self, argument: Argument<'_>) -> Result<(), String> {
        let sql = match argument {
            Argument::Line(_, line) => line.to_owned(),
            Argument::Block(text) => text,
        };
        let sql = sql.trim_end();
        self.template = sql.trim_start().starts_with('%');
        self.sql = match sql.trim_start().strip_prefix('%') {
            Some(template) => unindented(&template.lines().collect::<Vec<_>>()).trim().to_owned(),
            None => sql.to_owned(),
        };
        if self.sql.is_empty() { Err(missing("SQL")) } else { Ok(()) }
    }
}

/// The lines, whichever system has ended them.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    // The other of a pair of ends makes no line of its own.
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn begins_instruction(line: &str) -> bool {
    let end = line.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(line.len());
    instruction(&line[..end]).is_some()
}

/// The words of a line up to its comment. A quote that begins one keeps it together up to the next; one that has no next is a
/// letter.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next().filter(|first| *first != '#') {
        let quoted = match first {
            '"' | '\'' => rest[1..].find(first).map(|end| end + 2),
            _ => None,
        };
        let plain = || rest.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(rest.len());
        let (word, after) = rest.split_at(quoted.unwrap_or_else(plain));
        words.push(word);
        rest = after.trim_start();
    }
    words
}

fn unquoted(word: &str) -> &str {
    let quoted = |quote: char| word.strip_prefix(quote).and_then(|word| word.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(word)
}

/// The lines without the indentation that all of them have, and without empty ones at the ends.
fn unindented(block: &[&str]) -> String {
    const BLANKS: [char; 2] = [' ', '\t'];
    let is_blank = |line: &str| line.trim_start_matches(BLANKS).is_empty();
    let width = |line: &str| line.len() - line.trim_start_matches(BLANKS).len();
    let indent = block.iter().filter(|line| !is_blank(line)).map(|line| width(line)).min().unwrap_or(0);
    let lines: Vec<&str> =
        block.iter().map(|line| if is_blank(line) { "" } else { line.get(indent..).unwrap_or(line) }).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, sql: &str) -> Node {
        Node { name: name.into(), sql: sql.into(), ..Node::default() }
    }

    #[test]
    fn reads_blocks_and_lines() {
        let file = parse(
            "DESCRIPTION >\n    Two\n    lines\n\nNODE one\nSQL >\n    %\n    SELECT 1\n      AS x\n\nTYPE endpoint\n",
        );
        let node = Node { template: true, endpoint: true, ..node("one", "SELECT 1\n  AS x") };
        assert_eq!(file, Ok(Datafile { description: "Two\nlines".into(), nodes: vec![node] }));
    }

    /// The same node, as people write it.
    #[test]
    fn a_block_needs_no_indentation() {
        for (text, sql, template) in [
            ("NODE n\nSQL >\nSELECT 1\n", "SELECT 1", false),
            ("NODE n\nSQL >\n\nSELECT 1\n\nTYPE standard\n", "SELECT 1", false),
            ("NODE n\nSQL >\n\n%\nSELECT 1\nTYPE standard", "SELECT 1", true),
            ("NODE n\nSQL >\n%SELECT 1", "SELECT 1", true),
            ("NODE n\nSQL >\n    %\nSELECT 1", "SELECT 1", true),
            ("node n\nsql >\n\tSELECT 1\n\t  + 2", "SELECT 1\n  + 2", false),
            ("NODE n\r\nSQL > # of one line\r\n  SELECT 1\r\n", "SELECT 1", false),
            ("NODE n\rSQL >\rSELECT 1\r", "SELECT 1", false),
            ("NODE \"n\" # the first\nTAGS \"a,b\"\nVERSION 1\nTOKEN \"t\" READ\nSQL >\n SELECT 1", "SELECT 1", false),
            ("TAGS >\n  a,b\nNODE n\nDESCRIPTION >\nSQL >\n SELECT 1\n TYPE\n", "SELECT 1\nTYPE", false),
            (
                "NODE n\nSQL >\nSELECT 1,\n# two, it's\n  2 # of them\nTYPE standard",
                "SELECT 1,\n\n  2 # of them",
                false,
            ),
            ("NODE n\nSQL SELECT 1", "SELECT 1", false),
            ("NODE n\nSQL >\n \u{a0}SELECT 1\n  2", "\u{a0}SELECT 1\n 2", false),
        ] {
            let expected = Node { template, ..node("n", sql) };
            assert_eq!(parse(text).map(|file| file.nodes), Ok(vec![expected]), "{text:?}");
        }
    }

    #[test]
    fn a_description_is_the_file_s_or_its_node_s() {
        let file = parse("DESCRIPTION it's   all # here\nNODE a\nDESCRIPTION\nNODE b\nDESCRIPTION >\ntwo\n\n lines\n");
        let file = file.expect("a file");
        let nodes: Vec<&str> = file.nodes.iter().map(|node| node.description.as_str()).collect();
        assert_eq!((file.description.as_str(), nodes), ("it's all", vec!["", "two\n\n lines"]));
    }

    #[test]
    fn names_the_line_it_cannot_read() {
        for (text, line, message) in [
            ("NODE one\nSQL >\n    SELECT 1\nNODE two\nENGINE Log\n", 5, "`ENGINE` is no instruction of a pipe's file"),
            ("NODE one\n\nSQL >\nTYPE endpoint", 3, "`SQL` has no value"),
            ("NODE one\nSQL >\n%\n\n", 2, "`SQL` has no value"),
            ("# a\r\nNODE\r\n", 2, "`NODE` has no value"),
            ("NODE a b", 1, "`NODE` takes one word, on its line"),
            ("NODE >\n a\n", 1, "`NODE` takes one word, on its line"),
            ("NODE a\nTYPE", 2, "`TYPE` has no value"),
            ("NODE a\nTYPE table", 2, "a node's `TYPE` is `endpoint` or `standard`"),
            ("SQL >\n SELECT 1", 1, "`SQL` comes after a `NODE`"),
            ("NODE a\nSQL >\n SELECT 1\nSQL >\n SELECT 2", 4, "the node has an `SQL` already"),
            ("NODE a\nSQL > SELECT 1", 2, "what follows `>` begins on the next line"),
            (
                "NODE a\nSQL >\nSELECT count(*)\nFILTER (WHERE true)\n",
                4,
                "`FILTER` is not served; in a block, indent a line that begins with this word",
            ),
            ("'NODE a'", 1, "`'NODE A'` is no instruction of a pipe's file"),
        ] {
            assert_eq!(parse(text), Err(DatafileError { line, message: message.to_owned() }), "{text:?}");
        }
        assert!(parse("NODE a\nTYPE copy").is_err_and(|error| error.message.contains("copies")));
    }

    /// Texts that make a reader go back and forth are read about as fast as any.
    #[test]
    fn hostile_files_are_read_in_one_pass() {
        let started = std::time::Instant::now();
        for part in
            ["'", "\"", "' \"", "\r", "\n", "#\n", " \n", "NODE a\n", "SQL >\n", "a ", "%", "> ", "\u{a0}", "' "]
        {
            for begin in ["", "NODE a\nSQL >\n", "DESCRIPTION "] {
                drop(parse(&format!("{begin}{}", part.repeat(65_536 / part.len()))));
            }
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "it took {:?}", started.elapsed());
    }
}
