//! Every sealed text of an event, found by its type and not by its form: what a tenant sends as JSON may look like one.

use super::Sealed;
use crate::event::Event;
use serde::ser::{self, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// The texts of an event that are sealed, in the order of its fields; those of an event are bounded by its bytes.
#[must_use]
pub fn sealed_texts(event: &Event) -> Vec<Sealed> {
    let mut found = Vec::new();
    let finder = Finder { found: &mut found };
    event.payload.serialize_data(finder).expect("nothing of an event fails to be walked");
    found
}

/// Walks a value as if it were written somewhere.
struct Finder<'a> {
    found: &'a mut Vec<Sealed>,
}

/// A value of several; the fields of a [`Sealed`] are kept.
struct Parts<'a> {
    found: &'a mut Vec<Sealed>,
    sealed: Option<Map<String, Value>>,
}

impl Parts<'_> {
    fn walk(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), WalkError> {
        value.serialize(Finder { found: self.found })
    }
}

/// A type of ours said that it can't be written.
#[derive(Debug)]
struct WalkError(String);

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WalkError {}

impl ser::Error for WalkError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

macro_rules! nothing_in {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, _: $type) -> Result<(), WalkError> {
            Ok(())
        })*
    };
}

impl<'a> ser::Serializer for Finder<'a> {
    type Ok = ();
    type Error = WalkError;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    nothing_in!(serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
        serialize_unit_struct: &'static str);

    fn serialize_none(self) -> Result<(), WalkError> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), WalkError> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), WalkError> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), WalkError> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), WalkError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), WalkError> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, WalkError> {
        Ok(Parts { found: self.found, sealed: None })
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, WalkError> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, WalkError> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, WalkError> {
        self.serialize_seq(None)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, WalkError> {
        self.serialize_seq(None)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts<'a>, WalkError> {
        let sealed = (name == "Sealed").then(Map::new);
        Ok(Parts { found: self.found, sealed })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, WalkError> {
        self.serialize_seq(None)
    }
}

macro_rules! walked {
    ($($trait:ident::$method:ident),*) => {
        $(impl ser::$trait for Parts<'_> {
            type Ok = ();
            type Error = WalkError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WalkError> {
                self.walk(value)
            }

            fn end(self) -> Result<(), WalkError> {
                Ok(())
            }
        })*
    };
}

walked!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = WalkError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), WalkError> {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WalkError> {
        self.walk(value)
    }

    fn end(self) -> Result<(), WalkError> {
        Ok(())
    }
}

impl ser::SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = WalkError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), WalkError> {
        match &mut self.sealed {
            Some(fields) => {
                fields.insert(name.to_owned(), serde_json::to_value(value).map_err(ser::Error::custom)?);
                Ok(())
            }
            None => self.walk(value),
        }
    }

    fn end(self) -> Result<(), WalkError> {
        if let Some(fields) = self.sealed {
            self.found.push(serde_json::from_value(Value::Object(fields)).map_err(ser::Error::custom)?);
        }
        Ok(())
    }
}

impl ser::SerializeStructVariant for Parts<'_> {
    type Ok = ();
    type Error = WalkError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), WalkError> {
        self.walk(value)
    }

    fn end(self) -> Result<(), WalkError> {
        Ok(())
    }
}
