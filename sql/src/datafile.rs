//! Tinybird's datafile form: `DESCRIPTION`, `NODE`, `SQL >`, `TYPE endpoint`. Pure.
//! An indented block follows a line that ends in `>`. Start at [`parse`].

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

/// Reads a file.
/// # Errors  An unknown instruction, an empty block, two of what may be once.
pub(crate) fn parse(text: &str) -> Result<Datafile, DatafileError> {
    let mut file = Datafile::default();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let fail = |message: &str| DatafileError { line: index + 1, message: message.to_owned() };
        let line = line.trim_end();
        if line.trim_start().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (word, rest) = line.trim_start().split_once(char::is_whitespace).unwrap_or((line.trim_start(), ""));
        let rest = rest.trim();
        let value = if rest == ">" {
            let mut block = Vec::new();
            while let Some((_, next)) = lines.peek() {
                if !next.trim().is_empty() && !next.starts_with([' ', '\t']) {
                    break;
                }
                block.push(*next);
                lines.next();
            }
            unindent(&block)
        } else {
            rest.to_owned()
        };
        if value.is_empty() {
            return Err(fail("a value is missing"));
        }
        match (word.to_ascii_uppercase().as_str(), file.nodes.last_mut()) {
            ("DESCRIPTION", None) => file.description = value,
            ("DESCRIPTION", Some(node)) => node.description = value,
            ("NODE", _) => file.nodes.push(Node { name: value, ..Node::default() }),
            ("SQL", Some(node)) if node.sql.is_empty() => {
                node.template = value.starts_with('%');
                node.sql = value.trim_start_matches('%').trim_start_matches('\n').to_owned();
            }
            ("TYPE", Some(node)) if value.eq_ignore_ascii_case("endpoint") => node.endpoint = true,
            // A token is made through the API; the file may name one.
            ("TOKEN", _) => {}
            (word, _) => return Err(fail(&format!("`{word}` is not expected here"))),
        }
    }
    Ok(file)
}

fn unindent(block: &[&str]) -> String {
    let width = |line: &&&str| line.len() - line.trim_start().len();
    let indent = block.iter().filter(|l| !l.trim().is_empty()).map(|l| width(&l)).min().unwrap_or(0);
    let lines: Vec<&str> = block.iter().map(|l| l.get(indent..).unwrap_or("").trim_end()).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_blocks_and_lines() {
        let file = parse(
            "DESCRIPTION >\n    Two\n    lines\n\nNODE one\nSQL >\n    %\n    SELECT 1\n      AS x\n\nTYPE endpoint\n",
        );
        let node = Node {
            name: "one".into(),
            sql: "SELECT 1\n  AS x".into(),
            template: true,
            endpoint: true,
            ..Node::default()
        };
        assert_eq!(file, Ok(Datafile { description: "Two\nlines".into(), nodes: vec![node] }));
    }

    #[test]
    fn names_the_line_it_cannot_read() {
        let error = parse("NODE one\nSQL >\n    SELECT 1\nENGINE MergeTree\n").map_err(|e| e.to_string());
        assert_eq!(error, Err("failed to read the datafile: line 4: `ENGINE` is not expected here".to_owned()));
        assert!(parse("NODE one\nSQL >\nTYPE endpoint").is_err());
    }
}
