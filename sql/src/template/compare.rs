//! Whether one value is to another what a template says: each look at what they hold is paid for. Start at [`Compare::holds`].

use super::budget::{Budget, Spent};
use super::value::Value;
use crate::error::QueryError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

impl Compare {
    /// # Errors  400 for two that have no order.
    pub(super) fn holds(self, left: &Value, right: &Value, budget: &mut Budget) -> Result<bool, QueryError> {
        let ordered = |budget: &mut Budget| {
            budget.look(left.extent().min(right.extent()))?;
            let order = match (left, right) {
                (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
                (Value::Int(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
                (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
                (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
                (Value::Text(a), Value::Text(b)) => Some((**a).cmp(&**b)),
                (Value::Date(a), Value::Date(b)) => Some(a.cmp(b)),
                (Value::Instant(a), Value::Instant(b)) => Some(a.cmp(b)),
                _ => None,
            };
            let refused = || QueryError::Refused {
                status: 400,
                message: format!("`{}` and `{}` cannot be compared", left.brief(), right.brief()),
            };
            order.ok_or_else(refused)
        };
        Ok(match self {
            Self::Eq => left.same(right, budget)?,
            Self::Ne => !left.same(right, budget)?,
            Self::Lt => ordered(budget)?.is_lt(),
            Self::Le => ordered(budget)?.is_le(),
            Self::Gt => ordered(budget)?.is_gt(),
            Self::Ge => ordered(budget)?.is_ge(),
            Self::In => contains(left, right, budget)?,
            Self::NotIn => !contains(left, right, budget)?,
        })
    }
}

fn contains(item: &Value, of: &Value, budget: &mut Budget) -> Result<bool, Spent> {
    match of {
        Value::List(items) => {
            for other in items.iter() {
                if other.same(item, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Text(text) => {
            let wanted = item.text(budget)?;
            budget.look(text.len() + wanted.len())?;
            Ok(text.contains(&*wanted))
        }
        _ => Ok(false),
    }
}
