//! Names and types of a data source's columns, in Tinybird's words.

use ingest::payload::{ColumnType, SourceColumn};
use sql::TableName;
use std::collections::HashMap;

/// Columns of a data source.
pub const COLUMNS_MAX: usize = 500;
/// Keys on the way to a column's value.
pub const PATH_MAX: usize = 16;
/// Types within a column's type: what there is has four.
const TYPE_LEVELS_MAX: usize = 8;
/// Characters of a schema that an error repeats.
const REPEATED_CHARS_MAX: usize = 200;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 100;
/// What the quarantine's own columns begin with.
const RESERVED_PREFIX: &str = "c__";
/// Tables that ship, or will; a tenant's own can't have their names.
const RESERVED: [&str; 14] = [
    "events",
    "messages",
    "threads",
    "conversations",
    "usage_minute",
    "agents",
    "groups",
    "visitors",
    "ratings",
    "assignments",
    "notifications",
    "presence",
    "endpoint_stats",
    "endpoint_errors",
];
/// What a quarantine's table is named: its source's name and this.
pub const QUARANTINE_SUFFIX: &str = "_quarantine";

/// The name of a data source or an endpoint, in lower case, as SQL reads it.
///
/// # Errors
/// What a name must look like.
pub fn own_name(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_');
    let goes_on = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !starts || !goes_on || name.len() > NAME_CHARS_MAX || name == "_" {
        return Err(format!(
            "'{}' is not a name: 1 to {NAME_CHARS_MAX} letters, digits and underscores, a letter first",
            text.chars().take(NAME_CHARS_MAX).collect::<String>()
        ));
    }
    Ok(name)
}

/// The name of a data source; `shipped` are the tables there are already.
///
/// # Errors
/// What is wrong with it.
pub fn source_name<'a>(text: &str, mut shipped: impl Iterator<Item = &'a str>) -> Result<TableName, String> {
    let name = own_name(text)?;
    if RESERVED.contains(&name.as_str()) || shipped.any(|table| table == name) {
        return Err(format!("'{name}' is a table that ships; choose another name"));
    }
    if name.ends_with(QUARANTINE_SUFFIX) {
        return Err(format!("'{name}' ends with {QUARANTINE_SUFFIX}, which is for quarantines; choose another name"));
    }
    Ok(TableName::of(&name))
}

/// A column's name.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_column_name(name: &str) -> Result<(), String> {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if !starts || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') || name.len() > NAME_CHARS_MAX {
        let name = repeated(name);
        return Err(format!(
            "'{name}' is not a column's name: 1 to {NAME_CHARS_MAX} letters, digits and underscores, a letter first"
        ));
    }
    if name.starts_with(RESERVED_PREFIX) || name == "insertion_date" {
        return Err(format!("the column's name '{name}' is for quarantines; choose another one"));
    }
    Ok(())
}

fn repeated(text: &str) -> String {
    text.chars().take(REPEATED_CHARS_MAX).collect()
}

/// A type with what is around it: `Nullable(LowCardinality(String))` is a String that takes NULL.
///
/// # Errors
/// Names the type that isn't there.
pub(super) fn column_type(text: &str) -> Result<(ColumnType, bool), String> {
    type_at(text, 1)
}

fn type_at(text: &str, level: usize) -> Result<(ColumnType, bool), String> {
    if level > TYPE_LEVELS_MAX {
        return Err(format!("a column's type has more than {TYPE_LEVELS_MAX} levels"));
    }
    let column_type = |inner: &str| type_at(inner, level + 1);
    let text = text.trim();
    let inside = |name: &str| text.strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')');
    if let Some(inner) = inside("Nullable") {
        return match column_type(inner)? {
            (ColumnType::Array(_), _) => Err("an Array can't be Nullable; a missing one is empty".to_owned()),
            (kind, _) => Ok((kind, true)),
        };
    }
    if let Some(inner) = inside("LowCardinality") {
        return column_type(inner);
    }
    if let Some(inner) = inside("SimpleAggregateFunction") {
        let kind = inner.split_once(',').map_or(inner, |(_, kind)| kind);
        return column_type(kind);
    }
    let unknown = || {
        format!(
            "the column type '{}' is not there; there are String, Bool, Int8 to Int64, UInt8 to UInt64, Float32, \
             Float64, Date, DateTime, DateTime64(0 to 6) and Array of one of them",
            repeated(text)
        )
    };
    if let Some(inner) = inside("Array") {
        return match column_type(inner)? {
            (ColumnType::Array(_), _) => Err(unknown()),
            (_, true) => Err("an Array of Nullable is not there".to_owned()),
            (item, false) => Ok((ColumnType::Array(Box::new(item)), false)),
        };
    }
    if let Some(argument) = inside("DateTime64") {
        let precision = argument.split(',').next().unwrap_or_default().trim();
        return match precision.parse() {
            Ok(0..=3) => Ok((ColumnType::DateTimeMs, false)),
            Ok(4..=6_u8) => Ok((ColumnType::DateTimeUs, false)),
            _ => Err(unknown()),
        };
    }
    if inside("DateTime").is_some() {
        return Ok((ColumnType::DateTime, false));
    }
    if inside("FixedString").is_some() {
        return Ok((ColumnType::String, false));
    }
    match text {
        "UUID" | "JSON" | "IPv4" | "IPv6" => Ok((ColumnType::String, false)),
        "Boolean" => Ok((ColumnType::Bool, false)),
        "Date32" => Ok((ColumnType::Date, false)),
        "DateTime64" => Ok((ColumnType::DateTimeMs, false)),
        plain => plain.parse().map(|kind| (kind, false)).map_err(|_| unknown()),
    }
}

/// Reads Tinybird's schema text: `` `id` Int64 `json:$.id`, tags Array(String) `json:$.tags[:]` ``, by commas or lines.
///
/// # Errors
/// Names the column at fault.
pub fn schema(text: &str) -> Result<Vec<SourceColumn>, String> {
    let mut columns: Vec<SourceColumn> = Vec::new();
    for part in parts(text) {
        if columns.len() == COLUMNS_MAX {
            return Err(format!("a data source has at most {COLUMNS_MAX} columns"));
        }
        let column = column(part)?;
        check_column_name(&column.name)?;
        if columns.iter().any(|known| known.name.eq_ignore_ascii_case(&column.name)) {
            return Err(format!("there are two columns '{}'", column.name));
        }
        if columns.iter().any(|known| known.path == column.path) {
            return Err(format!("the column '{}' reads what another column reads", column.name));
        }
        columns.push(column);
    }
    if columns.is_empty() { Err("the schema has no columns".to_owned()) } else { Ok(columns) }
}

/// Cuts at commas that are in no brackets and no backticks.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let (mut depth, mut quoted) = (0_usize, false);
    let cut = move |c: char| {
        match c {
            '`' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        (c == ',' || c == '\n') && depth == 0 && !quoted
    };
    text.split(cut).map(str::trim).filter(|part| !part.is_empty())
}

fn column(part: &str) -> Result<SourceColumn, String> {
    let fail = |what: &str| format!("failed to read the column `{}`: {what}", repeated(part));
    let (name, rest) = match part.strip_prefix('`') {
        Some(quoted) => quoted.split_once('`').ok_or_else(|| fail("a backtick is not closed"))?,
        None => part.split_once(char::is_whitespace).ok_or_else(|| fail("a type is missing"))?,
    };
    let (kind, path) = match rest.split_once('`') {
        Some((kind, path)) => {
            let path = path.split_once('`').map_or(path, |(path, _)| path);
            let path = path.strip_prefix("json:").ok_or_else(|| fail("expected `json:$.…`"))?;
            (kind, Some(json_path(path).map_err(|error| fail(&error))?))
        }
        None => (rest, None),
    };
    // A default is what a row without a value would get; here such rows are refused or have NULL.
    if kind.split_whitespace().any(|word| word == "DEFAULT") {
        return Err(fail("DEFAULT is not there; make the column Nullable"));
    }
    let kind = kind.split_once(" CODEC").map_or(kind, |(kind, _)| kind);
    let (r#type, nullable) = column_type(kind).map_err(|error| fail(&error))?;
    let path = path.unwrap_or_else(|| vec![name.to_owned()]);
    Ok(SourceColumn { name: name.to_owned(), r#type, nullable, path })
}

/// `$.a.b` and `$.a.b[:]`, to the keys.
fn json_path(text: &str) -> Result<Vec<String>, String> {
    let keys = text.trim().strip_prefix("$.").ok_or("a path begins with `$.`")?;
    let keys = keys.strip_suffix("[:]").unwrap_or(keys);
    let keys: Vec<String> = keys.split('.').map(|key| key.trim_matches(['[', ']', '\'', '"']).to_owned()).collect();
    if keys.len() > PATH_MAX || keys.iter().any(String::is_empty) || keys.iter().any(|key| key.contains('[')) {
        return Err("a path is keys with dots between them, with `[:]` at the end for a list".to_owned());
    }
    Ok(keys)
}

/// The columns as Tinybird's schema text.
#[must_use]
pub fn sql_schema(columns: &[SourceColumn]) -> String {
    let one = |column: &SourceColumn| {
        let list = if matches!(column.r#type, ColumnType::Array(_)) { "[:]" } else { "" };
        format!("`{}` {} `json:$.{}{list}`", column.name, type_text(column), column.path.join("."))
    };
    columns.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A column's type with whether it takes NULL.
#[must_use]
pub fn type_text(column: &SourceColumn) -> String {
    if column.nullable { format!("Nullable({})", column.r#type) } else { column.r#type.to_string() }
}

/// Where values are in a row's JSON.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(super) keys: HashMap<String, Self>,
    pub(super) columns: Vec<usize>,
}

impl Tree {
    pub(super) fn new(columns: &[SourceColumn]) -> Self {
        let mut root = Self::default();
        for (at, column) in columns.iter().enumerate() {
            let place = column.path.iter().fold(&mut root, |tree, key| tree.keys.entry(key.clone()).or_default());
            place.columns.push(at);
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tinybirds_schemas_are_read() {
        let text = "`id` UInt64 `json:$.id`, `shop city` x";
        assert!(schema(text).is_err());
        let text = "`id` UInt64 `json:$.id`, at DateTime64(3, 'UTC') `json:$.meta.at`,\n tags Array(LowCardinality(String)) `json:$.tags[:]`, n Nullable(Float32), u UUID";
        let columns = schema(text).expect("a schema");
        let shown = "`id` UInt64 `json:$.id`, `at` DateTime64(3) `json:$.meta.at`, `tags` Array(String) `json:$.tags[:]`, `n` Nullable(Float32) `json:$.n`, `u` String `json:$.u`";
        assert_eq!(sql_schema(&columns), shown);
        assert_eq!(schema(shown), Ok(columns), "and as they are shown");
    }

    #[test]
    fn schemas_that_cannot_be_are_refused_by_name() {
        for (text, word) in [
            ("", "no columns"),
            ("id", "type is missing"),
            ("id Decimal(3, 2)", "Decimal(3, 2)"),
            ("id Int64, ID String", "two columns"),
            ("a Int64 `json:$.x`, b Int64 `json:$.x`", "another column"),
            ("c__error String", "quarantine"),
            ("a Nullable(Array(Int8))", "Array"),
            ("a Array(Nullable(Int8))", "Array of Nullable"),
            ("a Int64 DEFAULT 3", "DEFAULT"),
            ("`a;b` Int64", "name"),
            ("a Int64 `csv:1`", "json:"),
            ("a DateTime64(9)", "DateTime64(9)"),
        ] {
            let error = schema(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
        let many = (0..=COLUMNS_MAX).map(|n| format!("c{n} Int8")).collect::<Vec<_>>().join(",");
        assert!(schema(&many).expect_err("too many").contains("500"));
    }

    /// What a request can carry: each is refused at once, on a thread's small stack, and in few words.
    #[test]
    fn hostile_schemas_are_refused_at_once() {
        let around = |open: &str, levels: usize| format!("a {}Int8{}", open.repeat(levels), ")".repeat(levels));
        let levels = 256 * 1024 / 10;
        let many = (0..40_000).map(|n| format!("c{n} Int8")).collect::<Vec<_>>().join(",");
        let texts = ["Nullable(", "LowCardinality(", "Array(", "Array (", "SimpleAggregateFunction(x,", "FixedString("]
            .map(|open| around(open, levels));
        let long =
            ["x".repeat(256_000), format!("a {}", "x".repeat(256_000)), format!("`{}` Int8", "x".repeat(256_000))];
        for text in texts.into_iter().chain(long).chain([many, format!("a Int8 `json:$.{}`", "a.".repeat(100_000))]) {
            let started = std::time::Instant::now();
            // A `FixedString` of anything is a text.
            let error = schema(&text).err().unwrap_or_default();
            assert!(error.len() < 1_000 && started.elapsed().as_secs() < 2, "{} bytes of an error", error.len());
        }
        for levels in [1, 3, TYPE_LEVELS_MAX - 1] {
            schema(&around("LowCardinality(", levels)).expect("as deep as types get");
        }
        schema(&around("Array(", levels)).expect_err("an array of arrays");
        assert!("Array(".repeat(100_000).parse::<ColumnType>().is_err());
        assert!(format!("{}Int8{}", "Array(".repeat(50_000), ")".repeat(50_000)).parse::<ColumnType>().is_err());
    }

    #[test]
    fn names_are_those_that_sql_reads() {
        assert_eq!(source_name(" Orders_2 ", std::iter::empty()), Ok(TableName::of("orders_2")));
        for bad in ["", "2x", "a-b", "a.b", "messages", "EVENTS", "x_quarantine", "a b", "ä", "_", &"x".repeat(101)] {
            assert!(source_name(bad, std::iter::empty()).is_err(), "{bad}");
        }
        assert!(source_name("queue", ["queue"].into_iter()).is_err());
    }
}
