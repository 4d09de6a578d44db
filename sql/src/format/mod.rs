//! Results as bytes: Tinybird's formats, written as ClickHouse writes them. Start at [`Encoder`].
//!
//! - `rows`: texts, row by row, as far as they are asked for: `json` (with `meta` and statistics, or a line a row), `text` (CSV
//!   and TSV). `columnar`: Parquet and Arrow, made whole.

mod columnar;
mod json;
mod rows;
mod text;

pub use json::type_name;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::error::ArrowError;
use bytes::Bytes;

use crate::call::QueryResult;
use crate::error::QueryError;
use crate::result_memory::Hold;
use rows::{RowEncoder, RowStyle};

/// How a result is written; the names are ClickHouse's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `meta`, `data`, counts and statistics in one object.
    Json,
    /// One object a line.
    JsonEachRow,
    /// Texts in double quotes, NULL as `\N`.
    Csv,
    /// The same under a line of names.
    CsvWithNames,
    /// Backslash escapes, NULL as `\N`.
    Tsv,
    /// The same under a line of names.
    TsvWithNames,
    /// A Parquet file, compressed with zstd.
    Parquet,
    /// An Arrow IPC file.
    Arrow,
}

impl Format {
    /// Every format by its name after `FORMAT`.
    pub const ALL: [(&'static str, Self); 8] = [
        ("JSON", Self::Json),
        ("JSONEachRow", Self::JsonEachRow),
        ("CSV", Self::Csv),
        ("CSVWithNames", Self::CsvWithNames),
        ("TSV", Self::Tsv),
        ("TSVWithNames", Self::TsvWithNames),
        ("Parquet", Self::Parquet),
        ("Arrow", Self::Arrow),
    ];

    /// By the name after `FORMAT`, whatever its case. ClickHouse's longer names of TSV are known too.
    /// # Errors  400 with the names there are.
    pub fn parse(name: &str) -> Result<Self, QueryError> {
        let plain = match name.to_ascii_lowercase().as_str() {
            "tabseparated" => return Ok(Self::Tsv),
            "tabseparatedwithnames" => return Ok(Self::TsvWithNames),
            _ => Self::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)),
        };
        let names = || Self::ALL.map(|(name, _)| name).join(", ");
        plain
            .map(|(_, format)| *format)
            .ok_or_else(|| QueryError::sql(format!("FORMAT {name} is not there; there are {}", names()), None))
    }

    /// By the ending of a pipe's path: `json`, `csv`, `ndjson`, `parquet`, `arrow`.
    pub fn of_extension(extension: &str) -> Option<Self> {
        Some(match extension {
            "json" => Self::Json,
            // Tinybird's `.csv` has names.
            "csv" => Self::CsvWithNames,
            "ndjson" => Self::JsonEachRow,
            "parquet" => Self::Parquet,
            "arrow" => Self::Arrow,
            _ => return None,
        })
    }

    /// The answer's `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonEachRow => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=absent",
            Self::CsvWithNames => "text/csv; charset=utf-8; header=present",
            Self::Tsv | Self::TsvWithNames => "text/tab-separated-values; charset=utf-8",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Arrow => "application/vnd.apache.arrow.file",
        }
    }
}

/// The bytes of a whole answer, at most about `bytes_max`.
/// # Errors  See [`Encoder`].
pub(crate) fn encode(result: QueryResult, format: Format, bytes_max: usize) -> Result<Vec<u8>, QueryError> {
    let mut whole = Vec::new();
    let mut encoder = Encoder::new(result, format, bytes_max)?;
    while let Some((bytes, _hold)) = encoder.part(bytes_max)? {
        if whole.is_empty() {
            whole = bytes.into();
        } else {
            whole.extend_from_slice(&bytes);
        }
    }
    Ok(whole)
}

/// Some of an answer's bytes, and what they hold beyond what was held before.
pub(crate) type Part = (Bytes, Option<Arc<Hold>>);

/// Makes an answer's bytes as they are asked for, at most about `bytes_max`: names repeat in text, so a result within the
/// limits of memory can be many times as large once it is written. What is written gives back what it held.
///
/// # Errors  `ResultTooLarge`, `Run` for a column that the format cannot hold, `ResultsFull`, `Internal`.
pub(crate) struct Encoder(Making);

enum Making {
    Rows(Box<RowEncoder>),
    File(VecDeque<Part>),
}

impl Encoder {
    /// Begins. A file is made here.
    pub(crate) fn new(result: QueryResult, format: Format, bytes_max: usize) -> Result<Self, QueryError> {
        let rows = |result, style| Making::Rows(Box::new(RowEncoder::new(result, style, bytes_max)));
        let text = |result, style, names| rows(result, RowStyle::Text { style, names });
        Ok(Self(match format {
            Format::Json => rows(result, RowStyle::Json),
            Format::JsonEachRow => rows(result, RowStyle::JsonEachRow),
            Format::Csv => text(result, text::Style::Csv, false),
            Format::CsvWithNames => text(result, text::Style::Csv, true),
            Format::Tsv => text(result, text::Style::Tsv, false),
            Format::TsvWithNames => text(result, text::Style::Tsv, true),
            Format::Parquet => Making::File(columnar::file(result, columnar::Kind::Parquet, bytes_max)?),
            Format::Arrow => Making::File(columnar::file(result, columnar::Kind::Arrow, bytes_max)?),
        }))
    }

    /// The next bytes, about so many: one value more at most, of a file a batch. `None` after the last.
    pub(crate) fn part(&mut self, bytes: usize) -> Result<Option<Part>, QueryError> {
        match &mut self.0 {
            Making::Rows(rows) => Ok(rows.part(bytes)?),
            Making::File(parts) => Ok(parts.pop_front()),
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        match &self.0 {
            Making::Rows(rows) => rows.is_done(),
            Making::File(parts) => parts.is_empty(),
        }
    }

    /// An encoder of the same rows, to find out before the first byte is sent whether they fit; `None` where it's sure
    /// that they do.
    pub(crate) fn rehearsal(&self) -> Option<Self> {
        match &self.0 {
            Making::Rows(rows) => rows.rehearsal().map(|rows| Self(Making::Rows(Box::new(rows)))),
            Making::File(_) => None,
        }
    }
}

/// Why there are no bytes.
enum EncodeError {
    TooLarge(usize),
    /// There is no memory for the bytes.
    Refused(QueryError),
    /// A column of a type that the format has no word for.
    Unsupported(String),
    Fault(ArrowError),
}

impl From<QueryError> for EncodeError {
    fn from(e: QueryError) -> Self {
        Self::Refused(e)
    }
}

impl From<ArrowError> for EncodeError {
    fn from(e: ArrowError) -> Self {
        match e {
            ArrowError::NotYetImplemented(m) => Self::Unsupported(m),
            e => Self::Fault(e),
        }
    }
}

impl From<EncodeError> for QueryError {
    fn from(e: EncodeError) -> Self {
        match e {
            EncodeError::Refused(refused) => refused,
            EncodeError::TooLarge(limit) => Self::ResultTooLarge { what: "bytes", limit },
            EncodeError::Unsupported(m) => Self::Run(format!("the format cannot hold a column: {m}")),
            EncodeError::Fault(e) => {
                tracing::error!(error = %e, "a report could not be written");
                Self::Internal
            }
        }
    }
}
