//! What can go wrong with a report, as the caller sees it: a status, a stable code, a message, a place in the SQL.
//! Messages never hold file paths or another tenant's names; what only the operator may read goes to the log.
//! Start at [`QueryError`].

use std::{fmt, io};

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::object_store::Error as ObjectStoreError;

use parquet::errors::ParquetError;

use crate::catalog::{NotFresh, TablesError};
use crate::reads::Reader;

/// A place in the SQL text; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line of the statement as it was sent.
    pub line: u64,
    /// Column in characters.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a query has no result. [`QueryError::status`] is the HTTP status, [`QueryError::code`] never changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// 400: the text is not SQL, or names a column or function that is not there.
    #[error("failed to read the SQL: {message}{}", at(*.position))]
    Sql {
        /// What was expected.
        message: String,
        /// Where, when the parser or the planner knows.
        position: Option<Position>,
    },
    /// 400: the values met at run time do not fit the SQL (a division by zero, a bad cast).
    #[error("failed to run the SQL: {0}")]
    Run(String),
    /// 400: the engine fails at the statement, by an error of its own or a panic. That nothing of it is at fault but the statement
    /// can't be known; with the same statement it fails again.
    #[error("the engine can't run this statement: {0}")]
    Unsupported(String),
    /// 403: a statement, a function or a catalog that no caller may use.
    #[error("not allowed: {message}{}", at(*.position))]
    NotAllowed {
        /// What was refused and what is allowed.
        message: String,
        /// Where, when known.
        position: Option<Position>,
    },
    /// 403: a table that is read without a scope for it. Whether there is such a table isn't said.
    #[error("this needs DATASOURCES:READ:{table}, which {who} doesn't have")]
    NoScope {
        /// As the SQL names it.
        table: String,
        /// Who lacks it.
        who: Reader,
    },
    /// 400: the SQL is larger than a limit on its text.
    #[error("the SQL has {found} {what}, the limit is {limit}")]
    SqlTooLarge {
        /// Which limit: `bytes`, `operators`, `levels of nesting`, `tables` or `bytes of constants`.
        what: &'static str,
        /// How many there are (at least).
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// 400: an endpoint's text can't be served; what is wrong with it.
    #[error("{0}")]
    Unreadable(String),
    /// 400: an endpoint's template takes more than a limit, to be read or to be rendered.
    #[error("the template takes more than {limit} {what}")]
    TemplateTooLarge {
        /// `tags and tokens`, `steps`, `bytes`, `bytes of values`, `bytes of SQL` or `levels of lists`.
        what: &'static str,
        /// How many it may take.
        limit: usize,
    },
    /// 404: no table of this name.
    #[error("no table named `{0}`")]
    NoTable(String),
    /// 404: no endpoint of this name.
    #[error("no endpoint named `{0}`")]
    NoEndpoint(String),
    /// 400: an endpoint's parameter is missing, malformed or not one of the allowed values.
    #[error("parameter `{name}`: {message}")]
    Parameter {
        /// The parameter.
        name: String,
        /// What was expected.
        message: String,
    },
    /// An endpoint's own refusal: `error('…')` and `custom_error('…', status)` in its SQL.
    #[error("{message}")]
    Refused {
        /// 400 unless the endpoint says otherwise; always 400..=499.
        status: u16,
        /// The endpoint's text.
        message: String,
    },
    /// 408: the query ran into its time limit.
    #[error("the query took longer than {seconds} s")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// 413: the result has too many rows or bytes; narrow it or page through it.
    #[error("the result is larger than {limit} {what}")]
    ResultTooLarge {
        /// `rows` or `bytes`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// 413: the query needs more memory than its tenant may use.
    #[error("the query needs more memory than the tenant's {limit_bytes} bytes")]
    OutOfMemory {
        /// The limit.
        limit_bytes: usize,
    },
    /// 413: the query needs more temporary disk than its tenant may use.
    #[error("the query needs more temporary disk than the tenant's {limit_bytes} bytes")]
    OutOfDisk {
        /// The limit.
        limit_bytes: u64,
    },
    /// 413: a text function would make a value or a sum of values that is too large.
    #[error("a text function would make more than {limit} bytes {what}")]
    TextTooLarge {
        /// `in one value` or `in one query`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// 429: the tenant already has as many queries running and waiting as it may.
    #[error("too many queries at once, the limit is {limit}; retry in a second")]
    Busy {
        /// Running and waiting together.
        limit: usize,
    },
    /// 503: what results hold until they are read leaves no room for more. Retry.
    #[error(
        "the results that {whose} holds would need more than {limit} bytes of memory; read or close them, or retry in a second"
    )]
    ResultsFull {
        /// `the connection`, `the tenant` or `the server`.
        whose: &'static str,
        /// The limit.
        limit: usize,
    },
    /// 503: the facts have not caught up with the log, or the engine is stopping. Retry.
    #[error("failed to reach the newest events: {0}; retry in a second")]
    NotFresh(String),
    /// 500: a fault of ours; the details are in the log.
    #[error("internal error")]
    Internal,
}

fn at(position: Option<Position>) -> String {
    position.map(|p| format!(" at {p}")).unwrap_or_default()
}

impl QueryError {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Sql { .. }
            | Self::Run(_)
            | Self::Unsupported(_)
            | Self::SqlTooLarge { .. }
            | Self::Unreadable(_)
            | Self::TemplateTooLarge { .. }
            | Self::Parameter { .. } => 400,
            Self::Refused { status, .. } => *status,
            Self::NotAllowed { .. } | Self::NoScope { .. } => 403,
            Self::NoTable(_) | Self::NoEndpoint(_) => 404,
            Self::TimedOut { .. } => 408,
            Self::ResultTooLarge { .. }
            | Self::OutOfMemory { .. }
            | Self::OutOfDisk { .. }
            | Self::TextTooLarge { .. } => 413,
            Self::Busy { .. } => 429,
            Self::Internal => 500,
            Self::NotFresh(_) | Self::ResultsFull { .. } => 503,
        }
    }

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sql { .. } => "sql_invalid",
            Self::Run(_) => "sql_failed",
            Self::Unsupported(_) => "sql_unsupported",
            Self::NotAllowed { .. } => "sql_not_allowed",
            Self::NoScope { .. } => "table_not_readable",
            Self::SqlTooLarge { .. } => "sql_too_large",
            Self::Unreadable(_) => "endpoint_invalid",
            Self::TemplateTooLarge { .. } => "template_too_large",
            Self::NoTable(_) => "table_not_found",
            Self::NoEndpoint(_) => "endpoint_not_found",
            Self::Parameter { .. } => "parameter_invalid",
            Self::Refused { .. } => "endpoint_refused",
            Self::TimedOut { .. } => "query_timed_out",
            Self::ResultTooLarge { .. } => "result_too_large",
            Self::OutOfMemory { .. } => "memory_exceeded",
            Self::OutOfDisk { .. } => "disk_exceeded",
            Self::TextTooLarge { .. } => "text_too_large",
            Self::Busy { .. } => "too_many_queries",
            Self::NotFresh(_) => "not_fresh",
            Self::ResultsFull { .. } => "results_full",
            Self::Internal => "internal",
        }
    }

    /// The place in the SQL, when known.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Sql { position, .. } | Self::NotAllowed { position, .. } => *position,
            _ => None,
        }
    }

    pub(crate) fn sql(message: impl Into<String>, position: Option<Position>) -> Self {
        Self::Sql { message: message.into(), position }
    }

    pub(crate) fn not_allowed(message: impl Into<String>, position: Option<Position>) -> Self {
        Self::NotAllowed { message: message.into(), position }
    }

    pub(crate) fn parameter(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Parameter { name: name.into(), message: message.into() }
    }
}

impl From<NotFresh> for QueryError {
    fn from(e: NotFresh) -> Self {
        Self::NotFresh(e.to_string())
    }
}

/// The caller's view of an engine error. `memory` and `disk` are the limits to name when one was met.
pub(crate) fn from_datafusion(e: &DataFusionError, memory: usize, disk: u64) -> QueryError {
    let position = e
        .diagnostic()
        .and_then(|d| d.span)
        .map(|s| Position { line: s.start.line, column: s.start.column })
        .filter(|p| p.line > 0);
    match e.find_root() {
        DataFusionError::External(inner) => from_external(inner.as_ref()),
        DataFusionError::ResourcesExhausted(m) if m.contains("disk space") => {
            QueryError::OutOfDisk { limit_bytes: disk }
        }
        DataFusionError::ResourcesExhausted(_) => QueryError::OutOfMemory { limit_bytes: memory },
        DataFusionError::SQL(inner, _) => from_parser(&inner.to_string()),
        DataFusionError::Plan(m) | DataFusionError::NotImplemented(m) => QueryError::sql(tidy(m), position),
        DataFusionError::SchemaError(inner, _) => QueryError::sql(schema_message(inner), position),
        DataFusionError::ArrowError(inner, _) => from_arrow(inner, memory, disk),
        DataFusionError::Execution(m) => QueryError::Run(tidy(m)),
        DataFusionError::Internal(m)
        | DataFusionError::Configuration(m)
        | DataFusionError::Substrait(m)
        | DataFusionError::Ffi(m) => unsupported(m),
        DataFusionError::ExecutionJoin(e) if e.is_panic() => unsupported("it panics"),
        DataFusionError::ExecutionJoin(_) => QueryError::NotFresh("the server is stopping".to_owned()),
        // The first of several; the planner collects them.
        DataFusionError::Collection(all) => match all.first() {
            Some(first) => from_datafusion(first, memory, disk),
            None => internal(&e),
        },
        // Files and disks are ours.
        DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => internal(e),
        // `find_root` goes through these.
        DataFusionError::Context(..) | DataFusionError::Diagnostic(..) | DataFusionError::Shared(_) => internal(e),
    }
}

/// The engine's own error, as far as a caller may read it: what the statement does with it is in the log.
pub(crate) fn unsupported(message: &str) -> QueryError {
    tracing::warn!(error = %message, "the engine failed at a statement");
    QueryError::Unsupported(tidy(message))
}

/// A fault of ours in a place that gives the engine's errors.
pub(crate) fn fault(message: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(Fault(message.into())))
}

/// Whether an error was made by a library for a value, rather than here: a limit, a table, a fault.
pub(crate) fn is_foreign(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    !(error.is::<QueryError>() || error.is::<Fault>() || error.is::<TablesError>() || error.is::<NotFresh>())
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Fault(String);

fn from_arrow(e: &datafusion::arrow::error::ArrowError, memory: usize, disk: u64) -> QueryError {
    use datafusion::arrow::error::ArrowError as A;
    match e {
        A::DivideByZero
        | A::CastError(_)
        | A::ParseError(_)
        | A::ArithmeticOverflow(_)
        | A::ComputeError(_)
        | A::InvalidArgumentError(_)
        | A::SchemaError(_)
        | A::DictionaryKeyOverflowError
        | A::RunEndIndexOverflowError
        | A::OffsetOverflowError(_)
        | A::NotYetImplemented(_) => QueryError::Run(tidy(&e.to_string())),
        A::MemoryError(_) => QueryError::OutOfMemory { limit_bytes: memory },
        A::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(inner) => from_datafusion(inner, memory, disk),
            None => from_external(inner.as_ref()),
        },
        other => internal(other),
    }
}

/// Our own errors travel through the engine as `External`. The others are what its functions' libraries say to their arguments, as
/// to a regular expression, but for those of files.
fn from_external(e: &(dyn std::error::Error + Send + Sync + 'static)) -> QueryError {
    if let Some(ours) = e.downcast_ref::<QueryError>() {
        return ours.clone();
    }
    match e.downcast_ref::<TablesError>() {
        Some(TablesError::Unavailable(m)) => return QueryError::NotFresh(m.clone()),
        Some(TablesError::Fault(_)) => return internal(&e),
        None => {}
    }
    let of_files = e.is::<Fault>() || e.is::<ParquetError>() || e.is::<ObjectStoreError>() || e.is::<io::Error>();
    if of_files { internal(&e) } else { QueryError::Run(tidy(&e.to_string())) }
}

fn internal(e: &dyn fmt::Display) -> QueryError {
    tracing::error!(error = %e, "a report failed");
    QueryError::Internal
}

/// The parser puts the place at the end of its message: `… at Line: 1, Column: 8`.
pub(crate) fn from_parser(message: &str) -> QueryError {
    let message = message.trim_start_matches("sql parser error: ");
    if message == "recursion limit exceeded" {
        return QueryError::sql("brackets in brackets can be read in too many ways", None);
    }
    let Some(start) = message.rfind("at Line: ") else {
        return QueryError::sql(message, None);
    };
    let mut numbers = message[start..].split(|c: char| !c.is_ascii_digit()).filter(|s| !s.is_empty());
    let position = match (numbers.next().map(str::parse), numbers.next().map(str::parse)) {
        (Some(Ok(line)), Some(Ok(column))) => Some(Position { line, column }),
        _ => None,
    };
    QueryError::sql(message[..start].trim_end_matches([' ', ',']), position)
}

fn schema_message(e: &SchemaError) -> String {
    tidy(&e.to_string().replace("Schema error: ", ""))
}

/// Cuts long engine messages: a plan or an array may be printed into them.
fn tidy(message: &str) -> String {
    const CHARS_MAX: usize = 600;
    // The engine asks for a report to its authors.
    let message = message.split("\nThis issue was likely caused by").next().unwrap_or_default();
    let message = message.replace("tenant.public.", "").replace("Internal error: ", "");
    match message.char_indices().nth(CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &message[..cut]),
        None => message,
    }
}
