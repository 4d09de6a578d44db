//! A tenant's own fields of a line: any JSON object, but as small as the API's. What is read as any value takes many times the
//! bytes that it's written with, so its values are counted while they are read. Start at [`OwnFields`].

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use std::cell::Cell;
use std::fmt;
use std::ops::Deref;

/// Values within one object: more than the API's bytes of metadata can have.
const VALUES_MAX: usize = 8 * 1024;

/// A JSON object of at most so many values.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct OwnFields(pub Map<String, Value>);

impl Deref for OwnFields {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl<'de> Deserialize<'de> for OwnFields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Counted(&Cell::new(VALUES_MAX)).deserialize(from)? {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(D::Error::custom("this is no JSON object")),
        }
    }
}

/// The next value, of as many as are left.
struct Counted<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| D::Error::custom(format!("more than {VALUES_MAX} values")))?);
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Counted(self.0))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key()? {
            object.insert(name, fields.next_value_seed(Counted(self.0))?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OwnFields, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn any_object_is_read_as_it_is_until_it_has_too_many_values() {
        let text = r#"{"a":[1,-2,2.5,"x",true,null,{"b":{}}],"c":18446744073709551615}"#;
        assert_eq!(serde_json::to_string(&read(text).expect("an object")).expect("JSON"), text);
        assert!(read("[1]").expect_err("a list").starts_with("this is no"));
        for item in ["[]", "0", r#"{"k":0}"#] {
            let many = format!(r#"{{"a":[{}]}}"#, vec![item; VALUES_MAX].join(","));
            assert!(read(&many).expect_err("too many").starts_with("more than"), "{item}");
        }
    }
}
