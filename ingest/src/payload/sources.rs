//! A tenant's own data sources and endpoints: tables that it fills itself, and SQL that it publishes.
//!
//! Rows are logged in chunks, checked against the columns before: an array a row, a value a column, in the columns'
//! order. Times are whole numbers since 1970, in the unit of the column's type; dates are days.

use crate::id::{DataSourceId, PipeId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A column's type, by ClickHouse's name. Whether it takes NULL is [`SourceColumn::nullable`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[expect(missing_docs, reason = "ClickHouse's types, under their names")]
pub enum ColumnType {
    String,
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float32,
    Float64,
    /// Days.
    Date,
    /// Seconds.
    DateTime,
    /// Milliseconds.
    DateTimeMs,
    /// Microseconds.
    DateTimeUs,
    /// A list of one of the others, none of them NULL.
    Array(Box<ColumnType>),
}

/// Types without an argument.
const PLAIN: [(&str, ColumnType); 16] = [
    ("String", ColumnType::String),
    ("Bool", ColumnType::Bool),
    ("Int8", ColumnType::Int8),
    ("Int16", ColumnType::Int16),
    ("Int32", ColumnType::Int32),
    ("Int64", ColumnType::Int64),
    ("UInt8", ColumnType::UInt8),
    ("UInt16", ColumnType::UInt16),
    ("UInt32", ColumnType::UInt32),
    ("UInt64", ColumnType::UInt64),
    ("Float32", ColumnType::Float32),
    ("Float64", ColumnType::Float64),
    ("Date", ColumnType::Date),
    ("DateTime", ColumnType::DateTime),
    ("DateTime64(3)", ColumnType::DateTimeMs),
    ("DateTime64(6)", ColumnType::DateTimeUs),
];

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array(item) => write!(f, "Array({item})"),
            plain => f.write_str(PLAIN.iter().find(|(_, known)| known == plain).map_or("String", |(name, _)| name)),
        }
    }
}

/// A name that is no column type of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the column type '{0}'")]
pub struct InvalidColumnType(pub String);

impl FromStr for ColumnType {
    type Err = InvalidColumnType;

    fn from_str(text: &str) -> Result<Self, InvalidColumnType> {
        let plain = |text: &str| PLAIN.iter().find(|(name, _)| *name == text).map(|(_, plain)| plain.clone());
        // No list of lists, so no recursion either.
        let item = || text.strip_prefix("Array(").and_then(|rest| rest.strip_suffix(')')).and_then(plain);
        plain(text)
            .or_else(|| item().map(|item| Self::Array(Box::new(item))))
            .ok_or_else(|| InvalidColumnType(text.to_owned()))
    }
}

impl TryFrom<String> for ColumnType {
    type Error = InvalidColumnType;

    fn try_from(text: String) -> Result<Self, InvalidColumnType> {
        text.parse()
    }
}

impl From<ColumnType> for String {
    fn from(kind: ColumnType) -> Self {
        kind.to_string()
    }
}

/// A column of a data source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceColumn {
    /// Its name in SQL.
    pub name: String,
    /// Its type.
    pub r#type: ColumnType,
    /// It takes NULL, and a row may lack it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nullable: bool,
    /// Where its value is in a row's JSON: keys from the outside in.
    pub path: Vec<String>,
}

/// Fields of `data_source_created`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataSourceCreated {
    /// The new source.
    pub source_id: DataSourceId,
    /// Lower case, unique among the living of the tenant.
    pub name: String,
    /// At least one; they never change.
    pub columns: Vec<SourceColumn>,
}

/// A JSON array of rows, as it is stored and hashed; each an array of values in the columns' order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rows(Arc<RawValue>);

impl Rows {
    /// Takes the text of a JSON array over.
    ///
    /// # Errors
    /// When it isn't JSON.
    pub fn from_json(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(|rows| Self(rows.into()))
    }

    /// The text.
    #[must_use]
    pub fn json(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

/// Fields of `rows_appended`: a chunk of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RowsAppended {
    /// The source.
    pub source_id: DataSourceId,
    /// Of which generation of the source's rows; a later one than the current is not seen until it is switched to.
    pub generation: u32,
    /// Rows of the source's quarantine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quarantined: bool,
    /// How many.
    pub count: u32,
    /// The rows.
    pub rows: Rows,
}

/// Fields of `data_source_replaced`: rows of earlier generations are gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataSourceReplaced {
    /// The source.
    pub source_id: DataSourceId,
    /// The generation that counts from here on.
    pub generation: u32,
}

/// Fields of `data_source_deleted`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataSourceDeleted {
    /// The source.
    pub source_id: DataSourceId,
}

/// Fields of `pipe_published`: a new endpoint, or a new version of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipePublished {
    /// The endpoint.
    pub pipe_id: PipeId,
    /// Lower case, unique among the living of the tenant.
    pub name: String,
    /// From 1 on.
    pub version: u32,
    /// The datafile.
    pub text: String,
    /// What its publisher could read; every call is held to it. v2; before, it was checked once, against what the text
    /// names by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<PublisherReads>,
}

/// What the publisher of an endpoint could read when it was published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublisherReads {
    /// Tables by name, lower case; `None` is all there are, and those of later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<BTreeSet<String>>,
    /// Conditions that a table's rows must all meet, by table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, Vec<String>>,
}

/// Fields of `pipe_deleted`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipeDeleted {
    /// The endpoint.
    pub pipe_id: PipeId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_types_keep_their_names() {
        for name in ["String", "UInt64", "DateTime64(3)", "Array(Int32)", "Array(String)"] {
            assert_eq!(name.parse::<ColumnType>().map(|kind| kind.to_string()).as_deref(), Ok(name));
        }
        for name in ["", "string", "Array(Array(Int8))", "Array(", "Decimal(3, 2)", "DateTime64(9)"] {
            assert!(name.parse::<ColumnType>().is_err(), "{name}");
        }
    }
}
