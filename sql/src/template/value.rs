//! The types a template declares, and how a parameter's text becomes a value of one.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use super::budget::{Budget, Spent};
use crate::own::PIPE_BYTES_MAX;
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
    pub(super) fn read(&self, texts: &[String], zone: Tz, budget: &mut Budget) -> Result<Option<Value>, Unread> {
        match self {
            Self::Array(item) => {
                let mut items = Items::default();
                for text in texts.iter().flat_map(|t| t.split(',')).map(str::trim).filter(|t| !t.is_empty()) {
                    items.push(item.read_one(text, zone, budget)?, budget)?;
                }
                Ok(if items.is_empty() { None } else { Some(items.list()?) })
            }
            kind => match texts.last() {
                None => Ok(None),
                Some(text) if text.is_empty() && *kind != Self::String => Ok(None),
                Some(text) => kind.read_one(text, zone, budget).map(Some),
            },
        }
    }

    fn read_one(&self, text: &str, zone: Tz, budget: &mut Budget) -> Result<Value, Unread> {
        budget.look(text.len())?;
        let value = match self {
            Self::String => Some(Value::Text(Text::new(text, budget)?)),
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
        value.ok_or_else(|| Unread::Wrong(format!("`{}` is not {}", shortened(text), self.expected())))
    }

    /// A constant of the template as this type: a default, or an allowed value.
    pub(super) fn adopt(&self, value: &Value, zone: Tz, budget: &mut Budget) -> Result<Value, Unread> {
        match (self, value) {
            (_, Value::None) => Ok(Value::None),
            (Self::Array(item), Value::List(items)) => {
                let mut adopted = Items::default();
                for value in items.iter() {
                    adopted.push(item.adopt(value, zone, budget)?, budget)?;
                }
                Ok(adopted.list()?)
            }
            (Self::Array(_), Value::Text(text)) => {
                let read = self.read(&[text.to_string()], zone, budget)?;
                Ok(read.map_or_else(|| Items::default().list(), Ok)?)
            }
            (Self::String, Value::Text(_)) => Ok(value.clone()),
            (kind, Value::Text(text)) => kind.read_one(text, zone, budget),
            (Self::Float(_), Value::Int(n)) => Ok(Value::Float(*n as f64)),
            (kind, Value::Int(n)) => kind.read_one(&n.to_string(), zone, budget),
            (Self::Float(_), Value::Float(n)) => Ok(Value::Float(*n)),
            (Self::Boolean, Value::Bool(b)) => Ok(Value::Bool(*b)),
            (kind, _) => Err(Unread::Wrong(format!("the default is not {}", kind.expected()))),
        }
    }
}

/// Why a parameter's text is no value.
#[derive(Debug)]
pub(super) enum Unread {
    /// What was expected.
    Wrong(String),
    Spent(Spent),
}

impl From<Spent> for Unread {
    fn from(spent: Spent) -> Self {
        Self::Spent(spent)
    }
}

/// An error message repeats at most this much of a value.
pub(super) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    cut(text, CHARS_MAX)
}

/// Lists within lists: what JSON may have, and some more. Values are walked and dropped recursively.
const LEVELS_MAX: u8 = 150;
/// What keeping a text or a list takes beside its bytes and items.
const KEEPING_BYTES: usize = 48;

/// A text that a budget has paid for.
#[derive(Debug, Clone)]
pub(crate) struct Text(Arc<str>);

impl Text {
    pub(super) fn new(text: &str, budget: &mut Budget) -> Result<Self, Spent> {
        budget.bytes(KEEPING_BYTES + text.len())?;
        Ok(Self(text.into()))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A text in the making; each part is paid for before it's there.
#[derive(Debug, Default)]
pub(super) struct Writing(String);

impl Writing {
    pub(super) fn push(&mut self, text: &str, budget: &mut Budget) -> Result<(), Spent> {
        budget.look(text.len())?;
        budget.bytes(text.len())?;
        self.0.push_str(text);
        Ok(())
    }

    pub(super) fn text(self, budget: &mut Budget) -> Result<Text, Spent> {
        budget.bytes(KEEPING_BYTES)?;
        Ok(Text(self.0.into()))
    }
}

/// A list that a budget has paid for; what it holds is shared.
#[derive(Debug, Clone)]
pub(crate) struct List {
    items: Arc<Vec<Value>>,
    levels: u8,
}

impl Deref for List {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.items
    }
}

/// A list in the making; each item's place is paid for before it's there.
#[derive(Debug, Default)]
pub(super) struct Items {
    items: Vec<Value>,
    levels: u8,
}

impl Items {
    pub(super) fn push(&mut self, item: Value, budget: &mut Budget) -> Result<(), Spent> {
        budget.step()?;
        budget.bytes(size_of::<Value>())?;
        self.levels = self.levels.max(item.levels());
        self.items.push(item);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn finish(self) -> Result<List, Spent> {
        let levels = self.levels + 1;
        if levels > LEVELS_MAX {
            return Err(Spent { what: "levels of lists", limit: LEVELS_MAX.into() });
        }
        Ok(List { items: Arc::new(self.items), levels })
    }

    pub(super) fn list(self) -> Result<Value, Spent> {
        self.finish().map(Value::List)
    }
}

/// An object of JSON: its fields by name, and the values of those.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    names: Arc<Vec<Text>>,
    values: List,
}

impl Object {
    /// `values` has one for each name. Of a name that's there twice the last counts.
    pub(super) fn new(names: Vec<Text>, values: Items, budget: &mut Budget) -> Result<Self, Spent> {
        let mut fields: Vec<(Text, Value)> = names.into_iter().zip(values.items).collect();
        budget.steps(fields.len())?;
        // Stable: the last of a name comes last.
        fields.sort_by(|(a, _), (b, _)| a.0.cmp(&b.0));
        let (mut names, mut items) = (Vec::with_capacity(fields.len()), Items::default());
        for (name, value) in fields {
            if names.last().is_some_and(|last: &Text| last.0 == name.0) {
                names.pop();
                items.items.pop();
            }
            names.push(name);
            items.push(value, budget)?;
        }
        Ok(Self { names: Arc::new(names), values: items.finish()? })
    }

    /// The field of that name.
    pub(super) fn get(&self, name: &str, budget: &mut Budget) -> Result<Option<&Value>, Spent> {
        // A search by halves compares some of it a few times.
        budget.look(8 * name.len())?;
        let found = self.names.binary_search_by(|known| (**known).cmp(name));
        Ok(found.ok().and_then(|at| self.values.get(at)))
    }
}

/// A value of a template. To copy one copies no text and no list: that is why texts and lists can only be made with a
/// budget, where they come into being.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    None,
    Text(Text),
    Int(i64),
    Float(f64),
    Bool(bool),
    Date(NaiveDate),
    Instant(DateTime<Utc>),
    List(List),
    /// An object of JSON.
    Object(Object),
    /// Names of columns or tables: written as quoted identifiers, never as values.
    Names(Arc<Vec<Text>>),
}

impl Value {
    /// Names, taken apart at commas; each one a plain identifier, with dots between its parts.
    /// # Errors  What a name looks like.
    pub(super) fn names(text: &str, budget: &mut Budget) -> Result<Self, Unread> {
        const NAME_BYTES_MAX: usize = 200;
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let plain =
            |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && part.chars().all(letter);
        let mut names = Vec::new();
        for name in text.split(',') {
            let name = name.trim().trim_matches('"');
            budget.look(name.len())?;
            if name.len() > NAME_BYTES_MAX || !name.split('.').all(plain) {
                return Err(Unread::Wrong(format!("`{}` is not a name", shortened(name))));
            }
            names.push(Text::new(name, budget)?);
        }
        Ok(Self::Names(Arc::new(names)))
    }

    pub(super) fn text_of(text: &str, budget: &mut Budget) -> Result<Self, Spent> {
        Text::new(text, budget).map(Self::Text)
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
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
            Self::Object(fields) => !fields.names.is_empty(),
            Self::Names(names) => !names.is_empty(),
        }
    }

    fn levels(&self) -> u8 {
        match self {
            Self::List(items) => items.levels,
            Self::Object(fields) => fields.values.levels,
            Self::None
            | Self::Text(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Bool(_)
            | Self::Date(_)
            | Self::Instant(_)
            | Self::Names(_) => 0,
        }
    }

    /// What it takes to look at it, without what it holds: bytes of a text, items of a list.
    pub(super) fn extent(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::List(items) => items.len(),
            Self::Object(fields) => fields.names.len(),
            Self::Names(names) => names.len(),
            Self::None | Self::Int(_) | Self::Float(_) | Self::Bool(_) | Self::Date(_) | Self::Instant(_) => 0,
        }
    }

    /// Whether two values are the same; each pair that is compared is a step.
    pub(super) fn same(&self, other: &Self, budget: &mut Budget) -> Result<bool, Spent> {
        budget.step()?;
        let lists = |a: &[Self], b: &[Self], budget: &mut Budget| {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(b) {
                if !a.same(b, budget)? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let texts = |a: &[Text], b: &[Text], budget: &mut Budget| {
            budget.look(a.iter().map(|text| text.len()).sum())?;
            budget.steps(a.len())?;
            Ok(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0))
        };
        Ok(match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Text(a), Self::Text(b)) => {
                budget.look(a.len().min(b.len()))?;
                a.0 == b.0
            }
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Int(a), Self::Float(b)) | (Self::Float(b), Self::Int(a)) => *a as f64 == *b,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Date(a), Self::Date(b)) => a == b,
            (Self::Instant(a), Self::Instant(b)) => a == b,
            (Self::List(a), Self::List(b)) => lists(a, b, budget)?,
            (Self::Object(a), Self::Object(b)) => {
                texts(&a.names, &b.names, budget)? && lists(&a.values, &b.values, budget)?
            }
            (Self::Names(a), Self::Names(b)) => texts(a, b, budget)?,
            _ => false,
        })
    }

    /// As text, all of it.
    pub(super) fn write(&self, to: &mut Writing, budget: &mut Budget) -> Result<(), Spent> {
        let joined = |to: &mut Writing, texts: &[Text], budget: &mut Budget| {
            for (at, text) in texts.iter().enumerate() {
                to.push(if at == 0 { "" } else { "," }, budget)?;
                to.push(text, budget)?;
            }
            Ok(())
        };
        match self {
            Self::Text(text) => to.push(text, budget),
            Self::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    to.push(if at == 0 { "" } else { "," }, budget)?;
                    item.write(to, budget)?;
                }
                Ok(())
            }
            Self::Object(fields) => joined(to, &fields.names, budget),
            Self::Names(names) => joined(to, names, budget),
            Self::None | Self::Int(_) | Self::Float(_) | Self::Bool(_) | Self::Date(_) | Self::Instant(_) => {
                to.push(&self.short(), budget)
            }
        }
    }

    /// The same as a text; one that is a text already is shared.
    pub(super) fn text(&self, budget: &mut Budget) -> Result<Text, Spent> {
        if let Self::Text(text) = self {
            return Ok(text.clone());
        }
        let mut writing = Writing::default();
        self.write(&mut writing, budget)?;
        writing.text(budget)
    }

    /// What is no text and holds nothing.
    fn short(&self) -> String {
        match self {
            Self::Int(n) => n.to_string(),
            Self::Float(n) => n.to_string(),
            Self::Bool(b) => b.to_string(),
            Self::Date(d) => d.to_string(),
            Self::Instant(t) => zone::instant_text(*t),
            Self::None | Self::Text(_) | Self::List(_) | Self::Object(_) | Self::Names(_) => String::new(),
        }
    }

    /// For messages: the first characters of its text.
    pub(super) fn brief(&self) -> String {
        self.beginning(BRIEF_CHARS_MAX)
    }

    /// That many characters of its text at most, with `…` where it goes on.
    pub(super) fn beginning(&self, chars_max: usize) -> String {
        let mut text = String::new();
        self.begin(&mut text, 4 * chars_max);
        cut(&text, chars_max)
    }

    /// All of a template's constant, for descriptions: it isn't longer than its template.
    pub(crate) fn constant_text(&self) -> String {
        self.beginning(PIPE_BYTES_MAX)
    }

    /// Stops soon after `bytes_max`.
    fn begin(&self, text: &mut String, bytes_max: usize) {
        let parts: &mut dyn Iterator<Item = &Self> = match self {
            Self::Text(found) => {
                let end = found.floor_char_boundary((bytes_max + 4).saturating_sub(text.len()));
                return text.push_str(&found[..end]);
            }
            Self::List(items) => &mut items.iter(),
            Self::Object(fields) => return begin_all(&fields.names, text, bytes_max),
            Self::Names(names) => return begin_all(names, text, bytes_max),
            Self::None | Self::Int(_) | Self::Float(_) | Self::Bool(_) | Self::Date(_) | Self::Instant(_) => {
                return text.push_str(&self.short());
            }
        };
        for (at, item) in parts.enumerate() {
            if text.len() > bytes_max {
                return;
            }
            text.push_str(if at == 0 { "" } else { "," });
            item.begin(text, bytes_max);
        }
    }
}

/// Characters of a value in a message.
const BRIEF_CHARS_MAX: usize = 60;

fn begin_all(texts: &[Text], text: &mut String, bytes_max: usize) {
    for (at, found) in texts.iter().enumerate() {
        if text.len() > bytes_max {
            return;
        }
        text.push_str(if at == 0 { "" } else { "," });
        text.push_str(&found[..found.floor_char_boundary(bytes_max + 4)]);
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A parameter as the template declares it, wherever it first says so.
#[derive(Debug, Clone)]
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
            ("description", Value::Text(text)) => self.description = Some(text.to_string()),
            ("required", Value::Bool(required)) => self.required = required,
            ("default", value) => self.default = Some(value),
            ("enum", Value::List(allowed)) => self.allowed = allowed.to_vec(),
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
