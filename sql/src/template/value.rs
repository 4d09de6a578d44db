//! The types a template declares, and how a parameter's text becomes a value of one.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::zone;

/// A declared type. Integer widths are checked; a value outside is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    /// From and to, inclusive.
    Int {
        name: &'static str,
        min: i64,
        max: i64,
    },
    Float(&'static str),
    Date,
    DateTime,
    Boolean,
    Array(Box<Kind>),
}

impl Kind {
    /// By Tinybird's name; `None` when there is no such type.
    pub(super) fn scalar(name: &str) -> Option<Self> {
        let int = |name, min, max| Some(Self::Int { name, min, max });
        match name {
            "String" => Some(Self::String),
            "Int8" => int("Int8", i64::from(i8::MIN), i64::from(i8::MAX)),
            "Int16" => int("Int16", i64::from(i16::MIN), i64::from(i16::MAX)),
            "Int32" | "Integer" => int("Int32", i64::from(i32::MIN), i64::from(i32::MAX)),
            "Int64" | "Int" => int("Int64", i64::MIN, i64::MAX),
            "UInt8" => int("UInt8", 0, i64::from(u8::MAX)),
            "UInt16" => int("UInt16", 0, i64::from(u16::MAX)),
            "UInt32" => int("UInt32", 0, i64::from(u32::MAX)),
            "UInt64" => int("UInt64", 0, i64::MAX),
            "Float32" => Some(Self::Float("Float32")),
            "Float64" => Some(Self::Float("Float64")),
            "Date" => Some(Self::Date),
            "DateTime" | "DateTime64" => Some(Self::DateTime),
            "Boolean" => Some(Self::Boolean),
            _ => None,
        }
    }

    /// As a description shows it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::String => "String".to_owned(),
            Self::Int { name, .. } | Self::Float(name) => (*name).to_owned(),
            Self::Date => "Date".to_owned(),
            Self::DateTime => "DateTime".to_owned(),
            Self::Boolean => "Boolean".to_owned(),
            Self::Array(item) => format!("Array({})", item.name()),
        }
    }

    fn expected(&self) -> &'static str {
        match self {
            Self::String | Self::Array(_) => "text",
            Self::Int { .. } => "a whole number in range",
            Self::Float(_) => "a number",
            Self::Date => "a date as 2024-05-31",
            Self::DateTime => "a date or a date-time as 2024-05-31 or 2024-05-31 09:30:00",
            Self::Boolean => "true or false",
        }
    }

    /// Reads the texts of one parameter; `None` when they count as not given (empty, and not a text).
    /// # Errors  What was expected.
    pub(super) fn read(&self, texts: &[String], zone: Tz) -> Result<Option<Value>, String> {
        match self {
            Self::Array(item) => {
                let items = texts.iter().flat_map(|t| t.split(',')).map(str::trim).filter(|t| !t.is_empty());
                let items = items.map(|t| item.read_one(t, zone)).collect::<Result<Vec<_>, _>>()?;
                Ok((!items.is_empty()).then_some(Value::List(items)))
            }
            kind => match texts.last() {
                None => Ok(None),
                Some(text) if text.is_empty() && *kind != Self::String => Ok(None),
                Some(text) => kind.read_one(text, zone).map(Some),
            },
        }
    }

    fn read_one(&self, text: &str, zone: Tz) -> Result<Value, String> {
        let value = match self {
            Self::String => Some(Value::Text(text.to_owned())),
            Self::Int { min, max, .. } => text.parse().ok().filter(|n| (*min..=*max).contains(n)).map(Value::Int),
            Self::Float(_) => text.parse().ok().filter(|n: &f64| n.is_finite()).map(Value::Float),
            Self::Date => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(Value::Date),
            Self::DateTime => zone::parse_instant(text, zone).map(Value::Instant),
            Self::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" => Some(Value::Bool(true)),
                "false" | "0" | "no" => Some(Value::Bool(false)),
                _ => None,
            },
            Self::Array(_) => None,
        };
        value.ok_or_else(|| format!("`{}` is not {}", shortened(text), self.expected()))
    }

    /// A constant of the template as this type: a default, or an allowed value.
    pub(super) fn adopt(&self, value: &Value, zone: Tz) -> Result<Value, String> {
        match (self, value) {
            (_, Value::None) => Ok(Value::None),
            (Self::Array(item), Value::List(items)) => {
                Ok(Value::List(items.iter().map(|i| item.adopt(i, zone)).collect::<Result<_, _>>()?))
            }
            (Self::Array(_), Value::Text(text)) => {
                Ok(self.read(std::slice::from_ref(text), zone)?.unwrap_or(Value::List(vec![])))
            }
            (kind, Value::Text(text)) => kind.read_one(text, zone),
            (Self::Float(_), Value::Int(n)) => Ok(Value::Float(*n as f64)),
            (Self::String, Value::Int(n)) => Ok(Value::Text(n.to_string())),
            (kind, Value::Int(n)) => kind.read_one(&n.to_string(), zone),
            (Self::Float(_), Value::Float(n)) => Ok(Value::Float(*n)),
            (Self::Boolean, Value::Bool(b)) => Ok(Value::Bool(*b)),
            (kind, _) => Err(format!("the default is not {}", kind.expected())),
        }
    }
}

/// An error message repeats at most this much of a value.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    text.chars().take(CHARS_MAX).collect()
}

/// A value of a template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    None,
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Date(NaiveDate),
    Instant(DateTime<Utc>),
    List(Vec<Value>),
    /// An object of JSON.
    Object(BTreeMap<String, Value>),
    /// Names of columns or tables: written as quoted identifiers, never as values.
    Names(Vec<String>),
}

impl Value {
    /// Names, taken apart at commas; each one a plain identifier, with dots between its parts.
    /// # Errors  What a name looks like.
    pub(super) fn names(text: &str) -> Result<Self, String> {
        const NAME_BYTES_MAX: usize = 200;
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let plain =
            |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && part.chars().all(letter);
        let name = |name: &str| {
            let name = name.trim().trim_matches('"');
            let fits = name.len() <= NAME_BYTES_MAX && name.split('.').all(plain);
            if fits { Ok(name.to_owned()) } else { Err(format!("`{}` is not a name", shortened(name))) }
        };
        text.split(',').map(name).collect::<Result<_, _>>().map(Self::Names)
    }

    /// A value of JSON; numbers that are whole stay whole.
    pub(super) fn of_json(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::None,
            Json::Bool(b) => Self::Bool(b),
            Json::Number(n) => n.as_i64().map_or_else(|| Self::Float(n.as_f64().unwrap_or(f64::NAN)), Self::Int),
            Json::String(text) => Self::Text(text),
            Json::Array(items) => Self::List(items.into_iter().map(Self::of_json).collect()),
            Json::Object(fields) => Self::Object(fields.into_iter().map(|(k, v)| (k, Self::of_json(v))).collect()),
        }
    }

    /// Python's truth.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::None => false,
            Self::Text(t) => !t.is_empty(),
            Self::Int(n) => *n != 0,
            Self::Float(n) => *n != 0.0,
            Self::Bool(b) => *b,
            Self::Date(_) | Self::Instant(_) => true,
            Self::List(items) => !items.is_empty(),
            Self::Object(fields) => !fields.is_empty(),
            Self::Names(names) => !names.is_empty(),
        }
    }

    /// For messages and for descriptions.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Text(t) => t.clone(),
            Self::Int(n) => n.to_string(),
            Self::Float(n) => n.to_string(),
            Self::Bool(b) => b.to_string(),
            Self::Date(d) => d.to_string(),
            Self::Instant(t) => zone::instant_text(*t),
            Self::List(items) => items.iter().map(Self::text).collect::<Vec<_>>().join(","),
            Self::Object(fields) => fields.keys().cloned().collect::<Vec<_>>().join(","),
            Self::Names(names) => names.join(","),
        }
    }
}

/// A parameter as the template declares it, wherever it first says so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) default: Option<Value>,
    pub(crate) description: Option<String>,
    pub(crate) required: bool,
    /// `enum=[…]`: any other value is refused.
    pub(crate) allowed: Vec<Value>,
}

impl Declared {
    pub(super) fn new(name: String, kind: Kind) -> Self {
        Self { name, kind, default: None, description: None, required: false, allowed: Vec::new() }
    }

    /// Takes a keyword argument; false when it is not one.
    pub(super) fn set(&mut self, keyword: &str, value: Value) -> bool {
        match (keyword, value) {
            ("description", Value::Text(text)) => self.description = Some(text),
            ("required", Value::Bool(required)) => self.required = required,
            ("default", value) => self.default = Some(value),
            ("enum", Value::List(allowed)) => self.allowed = allowed,
            ("example" | "format" | "defined", _) => {}
            _ => return false,
        }
        true
    }

    /// A later mention adds what the earlier ones left out.
    pub(super) fn merge(&mut self, later: Self) {
        self.default = self.default.take().or(later.default);
        self.description = self.description.take().or(later.description);
        self.required |= later.required;
        if self.allowed.is_empty() {
            self.allowed = later.allowed;
        }
    }
}
