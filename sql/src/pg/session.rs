//! A session: its settings, its transaction, and the statements that are about nothing else. Every other statement is
//! the engine's. Start at [`split`] and [`Session::run`].

use std::time::Duration;

use chrono_tz::Tz;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

use super::error::PgError;
use super::proto::Transaction;
use super::settings::{SETTINGS, Values, checked, defaults, milliseconds, set, unknown};

/// What `version()` says; drivers read the number behind the first word.
pub(super) const VERSION: &str = concat!("PostgreSQL 15.0 (Parlance ", env!("CARGO_PKG_VERSION"), ")");

/// One statement of a text.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// Characters of the whole text before it.
    pub(super) before: usize,
    /// Without white space and comments.
    tokens: Vec<Token>,
}

/// The statements of a text, without empty ones. A text that is no SQL is one, for the engine to refuse.
#[expect(clippy::disallowed_methods, reason = "it only cuts: each piece is read with its budget")]
pub(super) fn split(sql: &str) -> Vec<Piece<'_>> {
    let dialect = GenericDialect {};
    let Ok(tokens) = Tokenizer::new(&dialect, sql).tokenize_with_location() else {
        return vec![Piece { text: sql, before: 0, tokens: Vec::new() }];
    };
    let mut places = Places { letters: sql.char_indices(), line: 1, column: 1, count: 0 };
    let (mut pieces, mut kept, mut start) = (Vec::new(), Vec::new(), (0, 0));
    for token in tokens {
        match token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => {
                let (byte, count) = places.find(token.span.start, sql);
                if !kept.is_empty() {
                    let (text, before) = (&sql[start.0..byte], start.1);
                    pieces.push(Piece { text, before, tokens: std::mem::take(&mut kept) });
                }
                start = (byte + 1, count + 1);
            }
            token => kept.push(token),
        }
    }
    if !kept.is_empty() {
        pieces.push(Piece { text: &sql[start.0..], before: start.1, tokens: kept });
    }
    pieces
}

/// Walks a text once, from place to place.
struct Places<'a> {
    letters: std::str::CharIndices<'a>,
    line: u64,
    column: u64,
    count: usize,
}

impl Places<'_> {
    /// The byte and the number of characters before a place that comes after the last one.
    fn find(&mut self, place: Location, sql: &str) -> (usize, usize) {
        while (self.line, self.column) < (place.line, place.column) {
            let Some((_, letter)) = self.letters.next() else { return (sql.len(), self.count) };
            self.count += 1;
            (self.line, self.column) = if letter == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
        (self.letters.offset(), self.count)
    }
}

/// Of a command; what is longer is the engine's to read or to refuse. Commands are read on the connection's own thread.
const COMMAND_TOKENS_MAX: usize = 100;

/// A statement about the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Begin,
    Commit,
    Rollback,
    /// A savepoint of a session that changes nothing.
    Savepoint(&'static str),
    RollbackTo,
    DiscardAll,
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    ResetAll,
    Show(String),
    /// Of a prepared statement; `None` of all.
    Deallocate(Option<String>),
    /// Nothing to be done, and its tag.
    Nothing(&'static str),
}

impl Piece<'_> {
    /// The command it is, if it is one; `None` for the engine's.
    /// # Errors  For settings that can't be read.
    pub(super) fn command(&self) -> Result<Option<Command>, PgError> {
        if self.tokens.len() > COMMAND_TOKENS_MAX {
            return Ok(None);
        }
        let words: Vec<String> = self.tokens.iter().map(lower).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(Some(match words.as_slice() {
            ["begin", modes @ ..] | ["start", "transaction", modes @ ..] if modes.iter().all(|w| is_mode(w)) => {
                Command::Begin
            }
            ["commit" | "end"] | ["commit" | "end", "work" | "transaction"] => Command::Commit,
            ["rollback" | "abort"] | ["rollback" | "abort", "work" | "transaction"] => Command::Rollback,
            ["savepoint", _] => Command::Savepoint("SAVEPOINT"),
            ["release", _] | ["release", "savepoint", _] => Command::Savepoint("RELEASE"),
            ["rollback", "to", _] | ["rollback", "to", "savepoint", _] => Command::RollbackTo,
            ["discard", "all"] => Command::DiscardAll,
            ["discard", "plans" | "sequences" | "temp" | "temporary"] => Command::Nothing("DISCARD"),
            ["close", "all"] => Command::Nothing("CLOSE CURSOR ALL"),
            ["unlisten", ..] => Command::Nothing("UNLISTEN"),
            ["deallocate", "all"] | ["deallocate", "prepare", "all"] => Command::Deallocate(None),
            ["deallocate", _] | ["deallocate", "prepare", _] => Command::Deallocate(self.tokens.last().map(plain)),
            ["reset", "all"] => Command::ResetAll,
            ["reset", rest @ ..] => Command::Set { name: setting_name(rest)?, value: None, local: false },
            ["show", rest @ ..] => Command::Show(setting_name(rest)?),
            ["set", ..] => self.set(&words)?,
            // The engine's parser has other words for some of them, and none for others.
            [
                word @ ("copy" | "declare" | "fetch" | "move" | "close" | "listen" | "notify" | "prepare" | "execute"
                | "lock" | "vacuum" | "analyze" | "cluster" | "reindex" | "checkpoint" | "load" | "do"
                | "comment" | "security"),
                ..,
            ] => {
                let word = word.to_uppercase();
                return Err(PgError::error("42501", format!("not allowed: {word}; only one SELECT at a time is")));
            }
            _ => return Ok(None),
        }))
    }

    fn set(&self, words: &[&str]) -> Result<Command, PgError> {
        let refused = || PgError::error("42501", "not allowed: SET of anything but the session's settings");
        let (local, at) = match words {
            [_, "local", ..] => (true, 2),
            [_, "session", "characteristics", ..] => return Ok(Command::Nothing("SET")),
            [_, "session", "authorization", ..] | [_, "role", ..] => return Err(refused()),
            [_, "session", ..] => (false, 2),
            _ => (false, 1),
        };
        let values = |from: usize| -> Option<String> {
            let tokens = self.tokens.get(from..)?.iter().filter(|token| **token != Token::Comma);
            let texts: Vec<String> = tokens.map(plain).collect();
            match texts.as_slice() {
                [] => None,
                [word] if word.eq_ignore_ascii_case("default") => None,
                // A sign is a token of its own.
                [sign, number] if sign == "-" => Some(format!("-{number}")),
                texts => Some(texts.join(", ")),
            }
        };
        Ok(match &words[at..] {
            ["transaction", ..] => Command::Nothing("SET"),
            ["time", "zone", _, ..] => {
                let value = values(at + 2).filter(|zone| !zone.eq_ignore_ascii_case("local"));
                Command::Set { name: "timezone".to_owned(), value, local }
            }
            ["names", _] => Command::Set { name: "client_encoding".to_owned(), value: values(at + 1), local },
            [name, "=" | "to", _, ..] => Command::Set { name: (*name).to_owned(), value: values(at + 2), local },
            [_, ".", ..] => return Err(unknown(&words[at..].concat())),
            _ => return Err(PgError::error("42601", "failed to read SET: expected SET name = value")),
        })
    }
}

fn is_mode(word: &str) -> bool {
    const MODES: [&str; 16] = [
        "transaction",
        "work",
        "isolation",
        "level",
        "serializable",
        "repeatable",
        "read",
        "committed",
        "uncommitted",
        "only",
        "write",
        "not",
        "deferrable",
        ",",
        "snapshot",
        "and",
    ];
    MODES.contains(&word)
}

fn lower(token: &Token) -> String {
    match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase(),
        token => token.to_string(),
    }
}

/// A token's text without quotes.
fn plain(token: &Token) -> String {
    match token {
        Token::Word(word) => word.value.clone(),
        Token::SingleQuotedString(text) => text.clone(),
        token => token.to_string(),
    }
}

fn setting_name(words: &[&str]) -> Result<String, PgError> {
    Ok(match words {
        ["time", "zone"] => "timezone".to_owned(),
        ["transaction", "isolation", "level"] => "transaction_isolation".to_owned(),
        ["session", "authorization"] => "session_authorization".to_owned(),
        [name] => (*name).to_owned(),
        words => return Err(unknown(&words.concat())),
    })
}

/// A session's settings and its transaction.
pub(super) struct Session {
    user: String,
    values: Values,
    pub(super) transaction: Transaction,
    /// What ROLLBACK goes back to, and what COMMIT keeps.
    around: Option<(Values, Values)>,
}

/// What a command gave.
pub(super) enum Done {
    Tag(&'static str),
    /// A warning before the tag.
    Warned(PgError, &'static str),
    /// Columns' names and rows of texts.
    Rows(Vec<&'static str>, Vec<Vec<String>>),
    /// Prepared statements are forgotten: one, or all.
    Forget(Option<String>, &'static str),
}

impl Session {
    pub(super) fn new(user: &str) -> Self {
        Self { user: user.to_owned(), values: defaults(user), transaction: Transaction::None, around: None }
    }

    /// Names and values of all settings.
    pub(super) fn values(&self) -> &Values {
        &self.values
    }

    /// Those that a client is told.
    pub(super) fn reported(&self) -> Values {
        let reported = |name: &str| SETTINGS.iter().any(|(known, _, _, reported)| *known == name && *reported);
        self.values.iter().filter(|(name, _)| reported(name)).cloned().collect()
    }

    fn value(&self, name: &str) -> Option<&(&'static str, String)> {
        self.values.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// How times with a zone are written.
    pub(super) fn zone(&self) -> Tz {
        self.value("TimeZone").and_then(|(_, zone)| zone.parse().ok()).unwrap_or(Tz::UTC)
    }

    /// The session's own limit, below the engine's.
    pub(super) fn statement_timeout(&self) -> Option<Duration> {
        let (_, text) = self.value("statement_timeout")?;
        milliseconds(text).filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// A setting of the start-up packet. What is not known there is left out, as drivers send names of their own.
    pub(super) fn start_with(&mut self, name: &str, value: &str) {
        let value = value.trim_matches('\'');
        if checked(name, value).is_ok() {
            set(&mut self.values, name, value);
        }
    }

    /// After an error, whatever it was.
    pub(super) fn failed(&mut self) {
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
    }

    /// Whether statements are refused until the transaction ends.
    pub(super) fn check(&self, command: Option<&Command>) -> Result<(), PgError> {
        let ends = matches!(command, Some(Command::Commit | Command::Rollback | Command::RollbackTo));
        if self.transaction == Transaction::Failed && !ends {
            let message = "the transaction has failed; nothing but its end is taken";
            return Err(PgError::error("25P02", message));
        }
        Ok(())
    }

    pub(super) fn run(&mut self, command: Command) -> Result<Done, PgError> {
        Ok(match command {
            Command::Begin if self.transaction == Transaction::None => {
                self.transaction = Transaction::Open;
                self.around = Some((self.values.clone(), self.values.clone()));
                Done::Tag("BEGIN")
            }
            Command::Begin => Done::Warned(PgError::error("25001", "there is already a transaction"), "BEGIN"),
            Command::Commit | Command::Rollback if self.transaction == Transaction::None => {
                let tag = if command == Command::Commit { "COMMIT" } else { "ROLLBACK" };
                Done::Warned(PgError::error("25P01", "there is no transaction"), tag)
            }
            Command::Commit if self.transaction == Transaction::Open => self.end(false),
            Command::Commit | Command::Rollback => self.end(true),
            Command::Savepoint(_) | Command::RollbackTo if self.transaction == Transaction::None => {
                return Err(PgError::error("25P01", "savepoints are for transactions"));
            }
            Command::Savepoint(tag) => Done::Tag(tag),
            Command::RollbackTo => {
                self.transaction = Transaction::Open;
                Done::Tag("ROLLBACK")
            }
            Command::DiscardAll if self.transaction != Transaction::None => {
                return Err(PgError::error("25001", "DISCARD ALL is not for transactions"));
            }
            Command::DiscardAll => {
                self.values = defaults(&self.user);
                Done::Forget(None, "DISCARD ALL")
            }
            Command::Set { name, value, local } => {
                self.set(&name, value.as_deref(), local)?;
                Done::Tag("SET")
            }
            Command::ResetAll => {
                self.values = defaults(&self.user);
                Done::Tag("RESET")
            }
            Command::Show(name) if name == "all" => {
                let row =
                    |(name, value): &(&'static str, String)| vec![(*name).to_owned(), value.clone(), String::new()];
                Done::Rows(vec!["name", "setting", "description"], self.values.iter().map(row).collect())
            }
            Command::Show(name) => {
                let (known, value) = self.value(&name).ok_or_else(|| unknown(&name))?;
                Done::Rows(vec![*known], vec![vec![value.clone()]])
            }
            Command::Deallocate(None) => Done::Forget(None, "DEALLOCATE ALL"),
            Command::Deallocate(name) => Done::Forget(name, "DEALLOCATE"),
            Command::Nothing(tag) => Done::Tag(tag),
        })
    }

    fn end(&mut self, back: bool) -> Done {
        if let Some((before, lasting)) = self.around.take() {
            self.values = if back { before } else { lasting };
        }
        self.transaction = Transaction::None;
        Done::Tag(if back { "ROLLBACK" } else { "COMMIT" })
    }

    fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<(), PgError> {
        let defaults = defaults(&self.user);
        let default =
            || defaults.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
        let value = value.or_else(default).ok_or_else(|| unknown(name))?;
        checked(name, value)?;
        // Outside a transaction SET LOCAL holds for nothing.
        if !local || self.around.is_some() {
            set(&mut self.values, name, value);
        }
        if let Some((_, lasting)) = self.around.as_mut().filter(|_| !local) {
            set(lasting, name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(sql: &str) -> Result<Option<Command>, &'static str> {
        let pieces = split(sql);
        assert_eq!(pieces.len(), 1, "{sql}");
        pieces[0].command().map_err(|e| e.code)
    }

    #[test]
    fn texts_are_split_where_statements_end() {
        let of = |sql| split(sql).iter().map(|p| (p.text.to_owned(), p.before)).collect::<Vec<_>>();
        let piece = |text: &str, before| (text.to_owned(), before);
        assert_eq!(of("SELECT ';' ;\n-- é;\n SELECT 2;;"), [piece("SELECT ';' ", 0), piece("\n-- é;\n SELECT 2", 12)]);
        assert_eq!(of(" ; -- nothing\n;"), []);
        assert_eq!(of("é 'open"), [piece("é 'open", 0)]);
    }

    #[test]
    fn only_the_sessions_own_statements_are_commands() {
        let set = |name: &str, value: Option<&str>, local| {
            Ok(Some(Command::Set { name: name.to_owned(), value: value.map(str::to_owned), local }))
        };
        assert_eq!(command("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"), Ok(Some(Command::Begin)));
        assert_eq!(command("begin /* now */ transaction"), Ok(Some(Command::Begin)));
        assert_eq!(command("SET TIME ZONE 'Europe/Berlin'"), set("timezone", Some("Europe/Berlin"), false));
        assert_eq!(command("SET LOCAL DateStyle TO ISO, DMY"), set("datestyle", Some("ISO, DMY"), true));
        assert_eq!(command("SET extra_float_digits = -1"), set("extra_float_digits", Some("-1"), false));
        assert_eq!(command("SET search_path TO DEFAULT"), set("search_path", None, false));
        assert_eq!(command("SET datafusion.execution.batch_size = 1"), Err("42704"));
        assert_eq!(command("SET ROLE other"), Err("42501"));
        assert_eq!(command("SHOW datafusion.execution.batch_size"), Err("42704"));
        for other in ["BEGIN; SELECT 1", "SELECT 1"] {
            assert!(split(other).last().is_some_and(|piece| matches!(piece.command(), Ok(None))), "{other}");
        }
        assert_eq!(command("COPY messages TO STDOUT"), Err("42501"));
        assert_eq!(command("BEGIN x"), Ok(None));
        assert_eq!(command("\"begin\""), Ok(None), "a name");
    }

    #[test]
    fn settings_come_back_after_a_rollback_and_stay_after_a_commit() {
        let mut session = Session::new("acme");
        let mut run = |sql: &str| {
            let command = command(sql).expect("read").expect("a command");
            let done = session.check(Some(&command)).and_then(|()| session.run(command));
            match done {
                Ok(Done::Rows(_, rows)) => rows[0][0].clone(),
                Ok(Done::Tag(tag) | Done::Warned(_, tag) | Done::Forget(_, tag)) => tag.to_owned(),
                Err(e) => e.code.to_owned(),
            }
        };
        let story = [
            ("SET timezone = 'europe/berlin'", "SET"),
            ("SHOW TIME ZONE", "Europe/Berlin"),
            ("BEGIN", "BEGIN"),
            ("SET application_name = 'a'", "SET"),
            ("ROLLBACK", "ROLLBACK"),
            ("SHOW application_name", ""),
            ("BEGIN", "BEGIN"),
            ("SET LOCAL application_name = 'b'", "SET"),
            ("SET jit = on", "SET"),
            ("SHOW application_name", "b"),
            ("COMMIT", "COMMIT"),
            ("SHOW application_name", ""),
            ("SHOW jit", "on"),
            ("SET client_encoding = latin1", "22023"),
            ("SET server_version = '9'", "55P02"),
            ("SET statement_timeout = '1 day'", "22023"),
            ("SET timezone = 'Mars'", "22023"),
            ("DISCARD ALL", "DISCARD ALL"),
            ("SHOW timezone", "UTC"),
            ("SHOW session_authorization", "acme"),
        ];
        for (sql, expected) in story {
            assert_eq!(run(sql), expected, "{sql}");
        }
    }
}
