//! Results as bytes: Tinybird's formats, written as ClickHouse writes them. Start at [`encode`].
//!
//! - `json`: JSON with `meta` and statistics, and a line of JSON a row. `text`: CSV and TSV. `columnar`: Parquet, Arrow.

mod columnar;
mod json;
mod text;

pub use json::type_name;

use arrow::error::ArrowError;

use crate::call::QueryResult;
use crate::error::QueryError;

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

/// The bytes of a whole answer, at most about `bytes_max`: names repeat in text, so a result within the limits of
/// memory can be many times as large once it is written.
/// # Errors  `ResultTooLarge`, `Run` for a column that the format cannot hold, `Internal`.
pub(crate) fn encode(result: &QueryResult, format: Format, bytes_max: usize) -> Result<Vec<u8>, QueryError> {
    let mut out = Output { bytes: Vec::with_capacity((256 + result.bytes).min(bytes_max)), bytes_max };
    match format {
        Format::Json => json::whole(&mut out, result)?,
        Format::JsonEachRow => json::lines(&mut out, result)?,
        Format::Csv => text::rows(&mut out, result, text::Style::Csv, false)?,
        Format::CsvWithNames => text::rows(&mut out, result, text::Style::Csv, true)?,
        Format::Tsv => text::rows(&mut out, result, text::Style::Tsv, false)?,
        Format::TsvWithNames => text::rows(&mut out, result, text::Style::Tsv, true)?,
        Format::Parquet => columnar::parquet(&mut out, result)?,
        Format::Arrow => columnar::arrow(&mut out, result)?,
    }
    Ok(out.bytes)
}

/// Bytes written so far, and how many there may be.
struct Output {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Output {
    /// To be asked after every row or batch.
    fn check(&self) -> Result<(), EncodeError> {
        if self.bytes.len() > self.bytes_max { Err(EncodeError::TooLarge(self.bytes_max)) } else { Ok(()) }
    }
}

/// Why there are no bytes.
enum EncodeError {
    TooLarge(usize),
    /// A column of a type that the format has no word for.
    Unsupported(String),
    Fault(ArrowError),
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
            EncodeError::TooLarge(limit) => Self::ResultTooLarge { what: "bytes", limit },
            EncodeError::Unsupported(m) => Self::Run(format!("the format cannot hold a column: {m}")),
            EncodeError::Fault(e) => {
                tracing::error!(error = %e, "a report could not be written");
                Self::Internal
            }
        }
    }
}
