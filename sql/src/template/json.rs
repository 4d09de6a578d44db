//! JSON as a template's values: read piece by piece, each paid for before the next is read. Numbers that are whole stay whole.
//! Levels are bounded by `serde_json`. Start at [`read`].

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::budget::{Budget, Spent};
use super::value::{Items, Object, Text, Value};
use crate::error::QueryError;

/// What keeping a list or an object takes beside its bytes and items.
const KEEPING_BYTES: usize = 96;

/// Reads one value.
/// # Errors  400 for what is no JSON, and for too much of it.
pub(super) fn read(text: &str, budget: &mut Budget) -> Result<Value, QueryError> {
    let mut spent = None;
    let mut from = serde_json::Deserializer::from_str(text);
    let read =
        Reading { budget, spent: &mut spent }.deserialize(&mut from).and_then(|value| from.end().map(|()| value));
    match (read, spent) {
        (_, Some(spent)) => Err(spent.into()),
        (Ok(value), None) => Ok(value),
        (Err(error), None) => {
            Err(QueryError::Refused { status: 400, message: format!("failed to read JSON: {error}") })
        }
    }
}

/// The state of reading: what pays, and what it was that didn't suffice.
struct Reading<'a> {
    budget: &'a mut Budget,
    spent: &'a mut Option<Spent>,
}

impl Reading<'_> {
    /// Stops the reader when the budget is spent.
    fn paid<T, E: serde::de::Error>(&mut self, outcome: Result<T, Spent>) -> Result<T, E> {
        outcome.map_err(|spent| {
            *self.spent = Some(spent);
            E::custom(spent)
        })
    }

    fn inner(&mut self) -> Reading<'_> {
        Reading { budget: self.budget, spent: self.spent }
    }
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_bool<E>(self, is: bool) -> Result<Value, E> {
        Ok(Value::Bool(is))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(i64::try_from(n).map_or(Value::Float(n as f64), Value::Int))
    }

    fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
        Ok(Value::Float(n))
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<Value, E> {
        let made = Value::text_of(text, self.budget);
        self.paid(made)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Items::default();
        let kept = self.budget.bytes(KEEPING_BYTES);
        self.paid(kept)?;
        while let Some(item) = from.next_element_seed(self.inner())? {
            let pushed = items.push(item, self.budget);
            self.paid(pushed)?;
        }
        self.paid(items.list())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut from: A) -> Result<Value, A::Error> {
        let (mut names, mut values) = (Vec::new(), Items::default());
        let kept = self.budget.bytes(2 * KEEPING_BYTES);
        self.paid(kept)?;
        while let Some(name) = from.next_key::<std::borrow::Cow<'_, str>>()? {
            let name = Text::new(&name, self.budget);
            names.push(self.paid(name)?);
            let value = from.next_value_seed(self.inner())?;
            let pushed = values.push(value, self.budget);
            self.paid(pushed)?;
        }
        let made = Object::new(names, values, self.budget);
        self.paid(made).map(Value::Object)
    }
}
