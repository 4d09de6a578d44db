//! The contract at the head of a job's SQL file, parsed: what it reads, the rows it gives, where they go.
//!
//! ```text
//! -- job: usage_metrics v1 | source: events | sink: usage
//! -- What it is for, in words. Grain: (source_event).
//! -- reads: conversation_started, message_posted
//! -- columns: source_event TEXT, tenant TEXT, note TEXT (NULL: why)
//! SELECT … FROM events …
//! ```
//!
//! A line that starts with `--` and three spaces continues the one before. Start at [`Job::parse`].

use ingest::payload::Payload;
use std::fmt;

/// The table that jobs select from: one column, `value`, an event's JSON a row.
pub const SOURCE: &str = "events";

/// Where a job's rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Commands that look for an assignment.
    Assignments,
    /// Commands that request e-mails.
    Mails,
    /// Usage partials, for the metrics store.
    Usage,
}

impl Sink {
    /// The word in the header, and the table's name on a cluster.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assignments => "assignments",
            Self::Mails => "mails",
            Self::Usage => "usage",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Assignments, Self::Mails, Self::Usage].into_iter().find(|sink| sink.as_str() == word)
    }
}

/// A column's type, by its SQL name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8.
    Text,
    /// 64 bits, signed.
    BigInt,
    /// 64 bits, floating.
    Double,
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "TEXT",
            Self::BigInt => "BIGINT",
            Self::Double => "DOUBLE",
        })
    }
}

/// A column of a job's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in the SELECT.
    pub name: String,
    /// Its type.
    pub data_type: ColumnType,
    /// What NULL means there; without it the column is never NULL.
    pub null: Option<String>,
}

/// A stream job: its contract and its SQL. Stateless: some rows for each source event, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Unique, and the file's name; causes and consumer offsets are kept under it.
    pub name: String,
    /// Counts changes of what the rows mean.
    pub version: u32,
    /// Where the rows go.
    pub sink: Sink,
    /// What it is for.
    pub purpose: String,
    /// Columns that identify a row.
    pub grain: Vec<String>,
    /// The event types it can react to; the runner passes on no others.
    pub reads: Vec<String>,
    /// The rows' columns, in order; `source_event TEXT` and `tenant TEXT` come first.
    pub columns: Vec<Column>,
    /// The whole file: errors name lines in it.
    pub sql: String,
}

/// A job's file that doesn't open with its contract. Never retry: the file is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the header of job '{job}': {reason}")]
pub struct HeaderError {
    /// The job's name, as far as it is known.
    pub job: String,
    /// What is missing or wrong.
    pub reason: String,
}

impl Job {
    /// Reads a job's file. The SQL itself is looked at by [`JobRunner::new`](crate::JobRunner::new).
    ///
    /// # Errors
    /// [`HeaderError`] names the job and what is missing or wrong in its header.
    pub fn parse(text: &str) -> Result<Self, HeaderError> {
        let lines = header_lines(text);
        let field = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        let title = field("job").unwrap_or_default();
        let name = title.split([' ', '|']).next().unwrap_or_default();
        let wrong = |reason: String| HeaderError { job: name.to_owned(), reason };

        let (version, sink) = parse_title(title).map_err(&wrong)?;
        let words = |text: &str| text.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>();
        let reads = field("reads").map(words).ok_or_else(|| wrong("no 'reads:' line".to_owned()))?;
        if let Some(unknown) = reads.iter().find(|kind| Payload::KINDS.iter().all(|(known, _)| known != kind)) {
            return Err(wrong(format!("it reads '{unknown}', which is no event type")));
        }
        let columns = field("columns").ok_or_else(|| wrong("no 'columns:' line".to_owned()))?;
        let columns = parse_columns(columns).map_err(&wrong)?;
        let keys = columns.iter().map(|column| (column.name.as_str(), column.data_type, column.null.is_none()));
        if !keys.take(2).eq([("source_event", ColumnType::Text, true), ("tenant", ColumnType::Text, true)]) {
            return Err(wrong("the columns must begin with source_event TEXT, tenant TEXT".to_owned()));
        }
        let is_field = |line: &&String| ["job: ", "reads: ", "columns: "].iter().any(|key| line.starts_with(key));
        let purpose = lines.iter().filter(|line| !is_field(line)).map(String::as_str).collect::<Vec<_>>().join(" ");
        let grain = purpose.split_once("Grain: (").and_then(|(_, rest)| Some(words(rest.split_once(')')?.0)));
        let grain = grain.ok_or_else(|| wrong("no 'Grain: (column, …)' in its purpose".to_owned()))?;
        if let Some(unknown) = grain.iter().find(|name| columns.iter().all(|column| column.name != **name)) {
            return Err(wrong(format!("its grain names '{unknown}', which is no column")));
        }
        Ok(Self { name: name.to_owned(), version, sink, purpose, grain, reads, columns, sql: text.to_owned() })
    }

    /// The statement without its header and closing semicolon, to be put after `INSERT INTO …` on a cluster.
    #[must_use]
    pub fn statement(&self) -> &str {
        let header: usize =
            self.sql.split_inclusive('\n').take_while(|line| line.starts_with("--")).map(str::len).sum();
        self.sql[header..].trim().trim_end_matches(';')
    }
}

/// The comment lines at the top, without their dashes, continued lines joined.
fn header_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map_while(|line| line.strip_prefix("--")) {
        match (line.starts_with("   "), lines.last_mut()) {
            (true, Some(last)) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push(line.trim().to_owned()),
        }
    }
    lines
}

/// `usage_metrics v1 | source: events | sink: usage` to its version and sink.
fn parse_title(title: &str) -> Result<(u32, Sink), String> {
    const SHAPE: &str = "it must open with '-- job: NAME vN | source: events | sink: SINK'";
    let mut parts = title.split('|').map(str::trim);
    let (name, version) = parts.next().and_then(|part| part.split_once(" v")).ok_or(SHAPE)?;
    let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let version = version.parse().ok().filter(|_| is_word).ok_or(SHAPE)?;
    if parts.next().and_then(|part| part.strip_prefix("source: ")) != Some(SOURCE) {
        return Err(SHAPE.to_owned());
    }
    let sink = parts.next().and_then(|part| part.strip_prefix("sink: ")).ok_or(SHAPE)?;
    let sink = Sink::parse(sink).ok_or_else(|| format!("'{sink}' is no sink: assignments, mails, usage"))?;
    Ok((version, sink))
}

/// `name TYPE, name TYPE (NULL: why), …`; a reason may hold commas.
fn parse_columns(text: &str) -> Result<Vec<Column>, String> {
    let mut depth = 0_i32;
    text.split(|character| {
        depth += i32::from(character == '(') - i32::from(character == ')');
        character == ',' && depth == 0
    })
    .map(|column| {
        let wrong = || format!("column '{}' is not 'name TYPE' or 'name TYPE (NULL: why)'", column.trim());
        let (declared, null) = match column.trim().split_once(" (NULL: ") {
            Some((declared, reason)) => (declared, Some(reason.strip_suffix(')').ok_or_else(wrong)?.to_owned())),
            None => (column.trim(), None),
        };
        let (name, data_type) = declared.split_once(' ').ok_or_else(wrong)?;
        let data_type = match data_type {
            "TEXT" => ColumnType::Text,
            "BIGINT" => ColumnType::BigInt,
            "DOUBLE" => ColumnType::Double,
            _ => return Err(wrong()),
        };
        Ok(Column { name: name.to_owned(), data_type, null })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "-- job: j v2 | source: events | sink: usage\n-- Counts. Grain: (source_event).\n";

    #[test]
    fn a_header_is_read_with_continued_lines_and_null_reasons() {
        let text = format!(
            "{HEAD}-- reads: message_posted,\n--   note_posted\n\
             -- columns: source_event TEXT, tenant TEXT, a BIGINT (NULL: none, or gone),\n--   b DOUBLE\nSELECT 1 -- one\n;\n"
        );
        let job = Job::parse(&text).expect("valid");
        assert_eq!((job.name.as_str(), job.version, job.sink), ("j", 2, Sink::Usage));
        assert_eq!(job.reads, ["message_posted", "note_posted"]);
        assert_eq!(job.grain, ["source_event"]);
        assert_eq!(job.columns[2].null.as_deref(), Some("none, or gone"));
        assert_eq!(job.columns[3], Column { name: "b".to_owned(), data_type: ColumnType::Double, null: None });
        assert_eq!(job.statement().trim(), "SELECT 1 -- one");
    }

    #[test]
    fn a_wrong_header_says_what_is_missing() {
        let error = |text: &str| Job::parse(text).expect_err("refused").to_string();
        assert!(error("SELECT 1").contains("must open with"));
        assert!(error("-- job: j v1 | source: events | sink: moon").contains("'moon' is no sink"));
        assert!(error(HEAD).contains("failed to read the header of job 'j': no 'reads:' line"));
        let reads = format!("{HEAD}-- reads: message_posted\n");
        assert!(error(&reads.replace("message_posted", "x")).contains("'x', which is no event type"));
        assert!(error(&reads).contains("no 'columns:' line"));
        assert!(error(&format!("{reads}-- columns: tenant TEXT")).contains("must begin with source_event TEXT"));
        assert!(error(&format!("{reads}-- columns: tenant VARCHAR")).contains("column 'tenant VARCHAR'"));
        let grain = format!("{reads}-- columns: source_event TEXT, tenant TEXT").replace("(source_event)", "(day)");
        assert!(error(&grain).contains("'day', which is no column"));
    }
}
