//! `+ - * / // %` between values, as Python has them: of numbers, and `+` and `*` of texts and lists. What is made of texts and
//! lists is paid for part by part, before it's there. Start at [`Operator::apply`].

use super::budget::Budget;
use super::value::{Items, Value, Writing};
use crate::error::QueryError;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Plus,
    Minus,
    Times,
    /// `/`, which makes a number with a point.
    Over,
    /// `//`: whole times, rounded down.
    Whole,
    /// `%`: what `//` leaves, with the sign of what it's divided by.
    Rest,
}

impl Operator {
    fn symbol(self) -> &'static str {
        match self {
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Times => "*",
            Self::Over => "/",
            Self::Whole => "//",
            Self::Rest => "%",
        }
    }

    /// # Errors  400 for values that it isn't between, for one past 64 bits, for a division by zero; `TemplateTooLarge`.
    pub(super) fn apply(self, left: &Value, right: &Value, budget: &mut Budget) -> Result<Value, QueryError> {
        budget.step()?;
        let made = match (left, right) {
            (Value::Int(a), Value::Int(b)) => self.integers(*a, *b),
            (Value::Float(a), Value::Float(b)) => self.floats(*a, *b),
            (Value::Int(a), Value::Float(b)) => self.floats(*a as f64, *b),
            (Value::Float(a), Value::Int(b)) => self.floats(*a, *b as f64),
            (Value::Text(_), Value::Text(_)) | (Value::List(_), Value::List(_)) if self == Self::Plus => {
                Some(joined(&[left, right], 1, budget)?)
            }
            (Value::Text(_) | Value::List(_), Value::Int(times)) if self == Self::Times => {
                Some(joined(&[left], *times, budget)?)
            }
            (Value::Int(times), Value::Text(_) | Value::List(_)) if self == Self::Times => {
                Some(joined(&[right], *times, budget)?)
            }
            _ => None,
        };
        made.ok_or_else(|| {
            let message = format!("`{} {} {}` has no value", left.brief(), self.symbol(), right.brief());
            QueryError::Refused { status: 400, message }
        })
    }

    fn integers(self, a: i64, b: i64) -> Option<Value> {
        let down = || a.checked_div(b).map(|whole| if a % b != 0 && (a < 0) != (b < 0) { whole - 1 } else { whole });
        match self {
            Self::Plus => a.checked_add(b),
            Self::Minus => a.checked_sub(b),
            Self::Times => a.checked_mul(b),
            Self::Over => return self.floats(a as f64, b as f64),
            Self::Whole => down(),
            // The least integer has a rest of 0 by -1, though `//` overflows.
            Self::Rest if b == -1 => Some(0),
            Self::Rest => down().and_then(|whole| a.checked_sub(whole.checked_mul(b)?)),
        }
        .map(Value::Int)
    }

    fn floats(self, a: f64, b: f64) -> Option<Value> {
        let by_zero = b == 0.0 && matches!(self, Self::Over | Self::Whole | Self::Rest);
        let made = match self {
            Self::Plus => a + b,
            Self::Minus => a - b,
            Self::Times => a * b,
            Self::Over => a / b,
            Self::Whole => (a / b).floor(),
            Self::Rest => {
                let rest = a % b;
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            }
        };
        (!by_zero && made.is_finite()).then_some(Value::Float(made))
    }
}

/// Texts, or lists, one after the other, so many times; each time is a step, that of an empty text too.
fn joined(parts: &[&Value], times: i64, budget: &mut Budget) -> Result<Value, QueryError> {
    let (mut text, mut items) = (Writing::default(), Items::default());
    for _ in 0..times {
        budget.step()?;
        for part in parts {
            match part {
                Value::Text(part) => text.push(part, budget)?,
                Value::List(part) => {
                    for item in part.iter() {
                        items.push(item.clone(), budget)?;
                    }
                }
                _ => return Err(QueryError::Internal),
            }
        }
    }
    Ok(match parts.first() {
        Some(Value::List(_)) => items.list()?,
        _ => Value::Text(text.text(budget)?),
    })
}
