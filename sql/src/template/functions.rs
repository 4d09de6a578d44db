//! The functions a template may call on values: lists, texts, JSON and dates. What they make is a value again, bound
//! like any other, or names. Start at [`Function::call`].

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

use super::value::Value;
use crate::error::QueryError;

/// A function of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    /// `split_to_array(text, separator)`.
    SplitToArray,
    /// Pairs of whether it is the last and the item.
    EnumerateWithLast,
    /// Days between two dates, never below zero.
    DayDiff,
    /// Whole units of so many seconds between two times, never below zero.
    TimeDiff(i64),
    Json,
    Len,
    Sum,
    Min,
    Max,
    Join,
    Lower,
    Upper,
    Strip,
    /// The value as names.
    Names,
}

fn refused(message: impl Into<String>) -> QueryError {
    QueryError::Refused { status: 400, message: message.into() }
}

impl Function {
    /// By Tinybird's name.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "split_to_array" => Self::SplitToArray,
            "enumerate_with_last" => Self::EnumerateWithLast,
            "day_diff" => Self::DayDiff,
            "date_diff_in_seconds" => Self::TimeDiff(1),
            "date_diff_in_minutes" => Self::TimeDiff(60),
            "date_diff_in_hours" => Self::TimeDiff(3_600),
            "date_diff_in_days" => Self::TimeDiff(86_400),
            "JSON" => Self::Json,
            "len" => Self::Len,
            "sum" => Self::Sum,
            "min" => Self::Min,
            "max" => Self::Max,
            _ => return None,
        })
    }

    /// By the name of a method; what it is called on is the first argument.
    pub(super) fn method(name: &str) -> Option<Self> {
        Some(match name {
            "join" => Self::Join,
            "split" => Self::SplitToArray,
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "strip" => Self::Strip,
            _ => return None,
        })
    }

    /// How many values it takes: at least, at most.
    pub(super) fn arguments(self) -> (usize, usize) {
        match self {
            Self::SplitToArray | Self::Json => (1, 2),
            Self::DayDiff | Self::TimeDiff(_) | Self::Join => (2, 2),
            _ => (1, 1),
        }
    }

    /// Whether formats of its values may follow them.
    pub(super) fn has_format(self) -> bool {
        matches!(self, Self::TimeDiff(_))
    }

    /// # Errors  What a value should have been.
    pub(super) fn call(self, values: &[Value]) -> Result<Value, QueryError> {
        let first = values.first().unwrap_or(&Value::None);
        let second = values.get(1).unwrap_or(&Value::None);
        Ok(match self {
            Self::SplitToArray => {
                let separator = match second.text() {
                    separator if separator.is_empty() => ",".to_owned(),
                    separator => separator,
                };
                match first {
                    Value::None => Value::List(Vec::new()),
                    Value::List(items) => Value::List(items.clone()),
                    text => {
                        let text = text.text();
                        let items = text.split(&separator).map(|item| Value::Text(item.trim().to_owned()));
                        Value::List(items.filter(|item| item.truth()).collect())
                    }
                }
            }
            Self::EnumerateWithLast => {
                let items = items(first)?;
                let last = items.len();
                let pair = |(at, item)| Value::List(vec![Value::Bool(at == last), item]);
                Value::List((1..).zip(items).map(pair).collect())
            }
            Self::DayDiff => Value::Int((instant(first)? - instant(second)?).num_days().abs()),
            Self::TimeDiff(unit) => Value::Int((instant(first)? - instant(second)?).num_seconds().abs() / unit),
            Self::Json => {
                let text = if *first == Value::None { second.text() } else { first.text() };
                // Not given, and no default: nothing.
                if *first == Value::None && values.len() == 1 {
                    return Ok(Value::List(Vec::new()));
                }
                let json = serde_json::from_str(&text).map_err(|e| refused(format!("failed to read JSON: {e}")))?;
                Value::of_json(json)
            }
            Self::Len => match first {
                Value::Text(text) => Value::Int(i64::try_from(text.chars().count()).unwrap_or(i64::MAX)),
                other => Value::Int(i64::try_from(items(other)?.len()).unwrap_or(i64::MAX)),
            },
            Self::Sum => items(first)?.iter().try_fold(Value::Int(0), |sum, item| add(&sum, item))?,
            Self::Min | Self::Max => {
                let items = items(first)?;
                let number = |value: &Value| match value {
                    Value::Int(n) => Ok(*n as f64),
                    Value::Float(n) => Ok(*n),
                    other => Err(refused(format!("`{}` is not a number", other.text()))),
                };
                let numbers = items.iter().map(number).collect::<Result<Vec<f64>, _>>()?;
                let better = |a: f64, b: f64| if self == Self::Min { a < b } else { a > b };
                let best = (0..items.len()).reduce(|a, b| if better(numbers[b], numbers[a]) { b } else { a });
                best.map_or(Value::None, |at| items[at].clone())
            }
            // `separator.join(list)`.
            Self::Join => {
                let texts: Vec<String> = items(second)?.iter().map(Value::text).collect();
                Value::Text(texts.join(&first.text()))
            }
            Self::Lower => Value::Text(first.text().to_lowercase()),
            Self::Upper => Value::Text(first.text().to_uppercase()),
            Self::Strip => Value::Text(first.text().trim().to_owned()),
            Self::Names if *first == Value::None => return Err(refused("a name is missing, and there is no default")),
            Self::Names => Value::names(&first.text()).map_err(refused)?,
        })
    }
}

/// The items of a list; a text is taken apart at its commas.
pub(super) fn items(value: &Value) -> Result<Vec<Value>, QueryError> {
    match value {
        Value::List(items) => Ok(items.clone()),
        Value::None => Ok(Vec::new()),
        Value::Text(text) => Ok(text.split(',').map(|item| Value::Text(item.trim().to_owned())).collect()),
        other => Err(refused(format!("`{}` is not a list", other.text()))),
    }
}

/// Numbers are added, texts and lists joined.
pub(super) fn add(left: &Value, right: &Value) -> Result<Value, QueryError> {
    let wrong = || refused(format!("`{}` and `{}` can't be added", left.text(), right.text()));
    Ok(match (left, right) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or_else(wrong)?),
        (Value::Float(a), Value::Float(b)) => Value::Float(a + b),
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => Value::Float(*a as f64 + b),
        (Value::Text(a), Value::Text(b)) => Value::Text(format!("{a}{b}")),
        (Value::List(a), Value::List(b)) => Value::List(a.iter().chain(b).cloned().collect()),
        _ => return Err(wrong()),
    })
}

pub(super) fn subtract(left: &Value, right: &Value) -> Result<Value, QueryError> {
    let wrong = || refused(format!("`{}` can't be subtracted from `{}`", right.text(), left.text()));
    Ok(match (left, right) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_sub(*b).ok_or_else(wrong)?),
        (Value::Float(a), Value::Float(b)) => Value::Float(a - b),
        (Value::Int(a), Value::Float(b)) => Value::Float(*a as f64 - b),
        (Value::Float(a), Value::Int(b)) => Value::Float(a - *b as f64),
        _ => return Err(wrong()),
    })
}

/// A date or a date-time, with `-` or `/`, with `T` or a space, with `Z` or without.
fn instant(value: &Value) -> Result<DateTime<Utc>, QueryError> {
    let text = match value {
        Value::Instant(at) => return Ok(*at),
        other => other.text(),
    };
    let plain = text.trim().trim_end_matches(['Z', 'z']).replacen('T', " ", 1).replace('/', "-");
    let date = || NaiveDate::parse_from_str(&plain, "%Y-%m-%d").ok().and_then(|date| date.and_hms_opt(0, 0, 0));
    let at = NaiveDateTime::parse_from_str(&plain, "%Y-%m-%d %H:%M:%S%.f").ok().or_else(date);
    at.map(|at| at.and_utc()).ok_or_else(|| refused(format!("`{text}` is not a date")))
}
