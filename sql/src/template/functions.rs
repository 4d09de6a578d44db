//! The functions a template may call on values: lists, texts, JSON and dates. What they make is a value again, bound
//! like any other, or names. Start at [`Function::call`].

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

use super::arithmetic::Operator;
use super::budget::Budget;
use super::json;
use super::value::{Items, List, Unread, Value, Writing};
use crate::error::QueryError;

/// How a function is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// `name(value, …)`.
    Called,
    /// `value.name(…)`.
    Method,
}

/// Makes [`Function`] and [`ALL`] of one list, so that the tests try every function there is.
macro_rules! functions {
    ($($(#[$doc:meta])* $variant:ident ($least:literal to $most:literal): $($how:ident $name:literal),+;)+) => {
        /// A function of values.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Function {
            $($(#[$doc])* $variant,)+
        }

        impl Function {
            /// How many values it takes: at least, at most.
            pub(super) fn arguments(self) -> (usize, usize) {
                match self {
                    $(Self::$variant => ($least, $most),)+
                }
            }
        }

        /// Every function under every name that it has.
        pub(super) const ALL: &[(How, &str, Function)] = &[$($((How::$how, $name, Function::$variant),)+)+];
    };
}

functions! {
    /// `split_to_array(text, default, separator)`: the parts, trimmed.
    SplitToArray (1 to 3): Called "split_to_array";
    /// `text.split(separator)`: the parts as they are, or the words.
    Split (1 to 2): Method "split";
    /// Pairs of whether it is the last and the item.
    EnumerateWithLast (1 to 1): Called "enumerate_with_last";
    /// Days between two dates, never below zero.
    DayDiff (2 to 2): Called "day_diff";
    /// Whole units between two times, never below zero.
    Seconds (2 to 2): Called "date_diff_in_seconds";
    Minutes (2 to 2): Called "date_diff_in_minutes";
    Hours (2 to 2): Called "date_diff_in_hours";
    Days (2 to 2): Called "date_diff_in_days";
    /// `JSON(text, default)`.
    Json (1 to 2): Called "JSON";
    Len (1 to 1): Called "len";
    Sum (1 to 1): Called "sum";
    Min (1 to 1): Called "min";
    Max (1 to 1): Called "max";
    /// `separator.join(list)`.
    Join (2 to 2): Method "join";
    Lower (1 to 1): Method "lower";
    Upper (1 to 1): Method "upper";
    Strip (1 to 1): Method "strip";
    /// `text.replace(what, by)`.
    Replace (3 to 3): Method "replace";
    /// The value as names.
    Names (1 to 1): Called "column", Called "columns", Called "symbol", Called "table", Called "TABLE";
}

fn refused(message: impl Into<String>) -> QueryError {
    QueryError::Refused { status: 400, message: message.into() }
}

fn unread(unread: Unread) -> QueryError {
    match unread {
        Unread::Wrong(message) => refused(message),
        Unread::Spent(spent) => spent.into(),
    }
}

impl Function {
    /// By Tinybird's name; of a method, what it is called on is the first argument.
    pub(super) fn by_name(how: How, name: &str) -> Option<Self> {
        ALL.iter().find(|known| (known.0, known.1) == (how, name)).map(|known| known.2)
    }

    /// Whether formats of its values may follow them.
    pub(super) fn has_format(self) -> bool {
        matches!(self, Self::Seconds | Self::Minutes | Self::Hours | Self::Days)
    }

    /// The budget pays for a look at the values first, whichever function it is; what it makes it can't make without.
    /// # Errors  What a value should have been.
    pub(super) fn call(self, values: &[Value], budget: &mut Budget) -> Result<Value, QueryError> {
        for value in values {
            budget.look(value.extent())?;
        }
        let first = values.first().unwrap_or(&Value::None);
        let second = values.get(1).unwrap_or(&Value::None);
        Ok(match self {
            Self::SplitToArray => match first {
                Value::List(_) => first.clone(),
                text => {
                    let text = if text.is_none() { second } else { text }.text(budget)?;
                    let separator = values.get(2).unwrap_or(&Value::None).text(budget)?;
                    split(&text, if separator.is_empty() { "," } else { &separator }, budget)?
                }
            },
            Self::Split => {
                let (text, separator) = (first.text(budget)?, second.text(budget)?);
                match (second, separator.is_empty()) {
                    (Value::None, _) => listed(text.split_whitespace(), budget)?,
                    (_, true) => return Err(refused("`split` needs a separator that isn't empty")),
                    (_, false) => listed(text.split(&*separator), budget)?,
                }
            }
            Self::EnumerateWithLast => {
                let items = items(first, budget)?;
                let last = items.len();
                let mut pairs = Items::default();
                for (at, item) in (1..).zip(items.iter()) {
                    let mut pair = Items::default();
                    pair.push(Value::Bool(at == last), budget)?;
                    pair.push(item.clone(), budget)?;
                    budget.bytes(PAIR_BYTES)?;
                    pairs.push(pair.list()?, budget)?;
                }
                pairs.list()?
            }
            Self::DayDiff => Value::Int((instant(first)? - instant(second)?).num_days().abs()),
            Self::Seconds => whole(1, first, second)?,
            Self::Minutes => whole(60, first, second)?,
            Self::Hours => whole(3_600, first, second)?,
            Self::Days => whole(86_400, first, second)?,
            // Not given, and no default: nothing.
            Self::Json if first.is_none() && values.len() == 1 => Items::default().list()?,
            Self::Json => {
                let text = if first.is_none() { second } else { first }.text(budget)?;
                json::read(&text, budget)?
            }
            Self::Len => match first {
                Value::Text(text) => Value::Int(i64::try_from(text.chars().count()).unwrap_or(i64::MAX)),
                other => Value::Int(i64::try_from(items(other, budget)?.len()).unwrap_or(i64::MAX)),
            },
            Self::Sum => {
                let mut sum = Value::Int(0);
                for item in items(first, budget)?.iter() {
                    sum = Operator::Plus.apply(&sum, item, budget)?;
                }
                sum
            }
            Self::Min => best(&items(first, budget)?, |a, b| a < b, budget)?,
            Self::Max => best(&items(first, budget)?, |a, b| a > b, budget)?,
            Self::Join => {
                let (between, mut joined) = (first.text(budget)?, Writing::default());
                for (at, item) in items(second, budget)?.iter().enumerate() {
                    joined.push(if at == 0 { "" } else { &between }, budget)?;
                    item.write(&mut joined, budget)?;
                }
                Value::Text(joined.text(budget)?)
            }
            Self::Lower => Value::text_of(&first.text(budget)?.to_lowercase(), budget)?,
            Self::Upper => Value::text_of(&first.text(budget)?.to_uppercase(), budget)?,
            Self::Strip => Value::text_of(first.text(budget)?.trim(), budget)?,
            Self::Replace => {
                let (text, what) = (first.text(budget)?, second.text(budget)?);
                replace(&text, &what, &values.get(2).unwrap_or(&Value::None).text(budget)?, budget)?
            }
            Self::Names if first.is_none() => return Err(refused("a name is missing, and there is no default")),
            Self::Names => Value::names(&first.text(budget)?, budget).map_err(unread)?,
        })
    }
}

/// What keeping a list of two takes beside its items.
const PAIR_BYTES: usize = 64;

/// The parts of a text, trimmed.
fn split(text: &str, separator: &str, budget: &mut Budget) -> Result<Value, QueryError> {
    listed(text.split(separator).map(str::trim), budget)
}

fn listed<'a>(parts: impl Iterator<Item = &'a str>, budget: &mut Budget) -> Result<Value, QueryError> {
    let mut items = Items::default();
    for part in parts {
        budget.look(part.len())?;
        items.push(Value::text_of(part, budget)?, budget)?;
    }
    Ok(items.list()?)
}

/// The text with `by` in each place of `what`.
fn replace(text: &str, what: &str, by: &str, budget: &mut Budget) -> Result<Value, QueryError> {
    if what.is_empty() {
        return Err(refused("`replace` needs a text to look for"));
    }
    let mut replaced = Writing::default();
    for (at, part) in text.split(what).enumerate() {
        replaced.push(if at == 0 { "" } else { by }, budget)?;
        replaced.push(part, budget)?;
    }
    Ok(Value::Text(replaced.text(budget)?))
}

/// The number that none of the others is better than.
fn best(items: &[Value], better: fn(f64, f64) -> bool, budget: &mut Budget) -> Result<Value, QueryError> {
    budget.steps(items.len())?;
    let mut best: Option<(f64, &Value)> = None;
    for item in items {
        let number = match item {
            Value::Int(n) => *n as f64,
            Value::Float(n) => *n,
            other => return Err(refused(format!("`{}` is not a number", other.brief()))),
        };
        if best.is_none_or(|(known, _)| better(number, known)) {
            best = Some((number, item));
        }
    }
    Ok(best.map_or(Value::None, |(_, item)| item.clone()))
}

fn whole(unit_s: i64, first: &Value, second: &Value) -> Result<Value, QueryError> {
    Ok(Value::Int((instant(first)? - instant(second)?).num_seconds().abs() / unit_s))
}

/// The items of a list; a text is taken apart at its commas.
pub(super) fn items(value: &Value, budget: &mut Budget) -> Result<List, QueryError> {
    budget.look(value.extent())?;
    match value {
        Value::List(items) => Ok(items.clone()),
        Value::None => Ok(Items::default().finish()?),
        Value::Text(text) => match split(text, ",", budget)? {
            Value::List(items) => Ok(items),
            _ => Err(QueryError::Internal),
        },
        other => Err(refused(format!("`{}` is not a list", other.brief()))),
    }
}

/// A date or a date-time, with `-` or `/`, with `T` or a space, with `Z` or without.
fn instant(value: &Value) -> Result<DateTime<Utc>, QueryError> {
    /// Longer than every form of a time.
    const TIME_BYTES_MAX: usize = 100;
    let no_date = || refused(format!("`{}` is not a date", value.brief()));
    let plain = match value {
        Value::Instant(at) => return Ok(*at),
        Value::Date(date) => date.to_string(),
        Value::Text(text) if text.len() <= TIME_BYTES_MAX => {
            text.trim().trim_end_matches(['Z', 'z']).replacen('T', " ", 1).replace('/', "-")
        }
        _ => return Err(no_date()),
    };
    let date = || NaiveDate::parse_from_str(&plain, "%Y-%m-%d").ok().and_then(|date| date.and_hms_opt(0, 0, 0));
    let at = NaiveDateTime::parse_from_str(&plain, "%Y-%m-%d %H:%M:%S%.f").ok().or_else(date);
    at.map(|at| at.and_utc()).ok_or_else(no_date)
}
