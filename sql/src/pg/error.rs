//! Errors as Postgres clients know them: SQLSTATE, message, the place in the text.

use crate::error::{Position, QueryError};

/// An error or a warning for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PgError {
    /// SQLSTATE.
    pub(super) code: &'static str,
    pub(super) message: String,
    /// In characters of the query's text, from 1.
    pub(super) position: Option<usize>,
    /// The connection ends with it.
    pub(super) fatal: bool,
}

impl PgError {
    pub(super) fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), position: None, fatal: false }
    }

    pub(super) fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::error(code, message) }
    }

    /// An engine's error about `text`, which begins after `before` characters of what the client sent.
    pub(super) fn of_query(error: &QueryError, text: &str, before: usize) -> Self {
        let position = error.position().and_then(|position| character(text, position)).map(|at| at + before);
        Self { position, ..Self::error(sqlstate(error), error.to_string()) }
    }
}

fn sqlstate(error: &QueryError) -> &'static str {
    match error {
        // The planner has one kind for both; its words tell them apart.
        QueryError::Sql { message, .. } if message.contains("No field named") => "42703",
        QueryError::Sql { message, .. } if message.contains("Invalid function") => "42883",
        QueryError::Sql { .. } | QueryError::Unreadable(_) => "42601",
        QueryError::Run(message) if message.to_lowercase().contains("divide by zero") => "22012",
        QueryError::Run(_) | QueryError::Parameter { .. } | QueryError::Refused { .. } => "22000",
        QueryError::Unsupported(_) => "0A000",
        QueryError::NotAllowed { .. } | QueryError::NoScope { .. } => "42501",
        QueryError::SqlTooLarge { .. }
        | QueryError::TemplateTooLarge { .. }
        | QueryError::ResultTooLarge { .. }
        | QueryError::TextTooLarge { .. } => "54000",
        QueryError::NoTable(_) => "42P01",
        QueryError::NoEndpoint(_) => "42883",
        QueryError::TimedOut { .. } => "57014",
        QueryError::OutOfMemory { .. } | QueryError::ResultsFull { .. } => "53200",
        QueryError::OutOfDisk { .. } => "53100",
        QueryError::Busy { .. } => "53400",
        QueryError::NotFresh(_) => "57P03",
        QueryError::Internal => "XX000",
    }
}

/// A place as the character it is, from 1.
fn character(text: &str, place: Position) -> Option<usize> {
    let line = usize::try_from(place.line.checked_sub(1)?).ok()?;
    let before: usize = text.split_inclusive('\n').take(line).map(|line| line.chars().count()).sum();
    Some(before + usize::try_from(place.column).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_character() {
        let at = |line, column| character("é\nab\nc", Position { line, column });
        assert_eq!([at(1, 1), at(2, 1), at(2, 2), at(3, 1)], [Some(1), Some(3), Some(4), Some(6)]);
    }
}
