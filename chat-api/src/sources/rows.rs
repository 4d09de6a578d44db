//! A body to its rows: lines of JSON, a JSON array, one JSON object, or CSV. A row that can't be read is a row all the same.

use super::columns::Tree;
use super::{Fault, ROW_BYTES_MAX};
use ingest::payload::{ColumnType, SourceColumn};
use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;

/// How a body's rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    /// An object a line, an array of objects, or one object.
    Json,
    /// Fields with this between them.
    Csv {
        /// One byte.
        delimiter: u8,
    },
}

/// A request's rows.
#[derive(Debug)]
pub struct Body<'a> {
    /// As they were sent, unpacked.
    pub bytes: &'a [u8],
    /// How they are written.
    pub format: BodyFormat,
}

/// One row, as it was sent.
#[derive(Debug)]
pub(crate) enum Row<'a> {
    /// The text of one JSON value.
    Json(&'a [u8]),
    /// Fields of a record, and the columns they are for.
    Fields(&'a csv::ByteRecord, &'a [usize]),
    /// A record that can't be read.
    Broken(String),
}

impl<'a> Body<'a> {
    /// Calls `each` with every row, in order, until it breaks; for CSV `columns` says what the fields are when there is no line of names.
    ///
    /// # Errors
    /// When there are no rows at all.
    pub(crate) fn each(
        &self,
        columns: &[SourceColumn],
        mut each: impl FnMut(Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), String> {
        let mut any = false;
        match self.format {
            BodyFormat::Json => self.values(|value| {
                any = true;
                each(Row::Json(value))
            }),
            BodyFormat::Csv { delimiter } => {
                let mut header: Option<Vec<usize>> = None;
                self.records(delimiter, |record| {
                    any = true;
                    let record = match record {
                        Ok(record) => record,
                        Err(error) => return each(Row::Broken(error)),
                    };
                    if header.is_none() {
                        if let Some(places) = names(record, columns) {
                            header = Some(places);
                            return ControlFlow::Continue(());
                        }
                        header = Some((0..columns.len()).collect());
                    }
                    each(Row::Fields(record, header.as_deref().unwrap_or_default()))
                });
            }
        }
        if any { Ok(()) } else { Err("the body has no rows".to_owned()) }
    }

    /// The records of a CSV, until `each` breaks.
    pub(super) fn records(
        &self,
        delimiter: u8,
        mut each: impl FnMut(Result<&csv::ByteRecord, String>) -> ControlFlow<()>,
    ) {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.bytes));
        let mut record = csv::ByteRecord::new();
        loop {
            let flow = match reader.read_byte_record(&mut record) {
                Ok(false) => return,
                Ok(true) => each(Ok(&record)),
                Err(error) => each(Err(error.to_string())),
            };
            if flow.is_break() {
                return;
            }
        }
    }

    /// The values of a JSON body, until `each` breaks. They aren't listed before: there may be one every second byte.
    pub(super) fn values(&self, mut each: impl FnMut(&'a [u8]) -> ControlFlow<()>) {
        let bytes = self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.bytes).trim_ascii();
        let lines = || bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let is_json =
            |text: &[u8]| std::str::from_utf8(text).is_ok() && serde_json::from_slice::<IgnoredAny>(text).is_ok();
        match bytes.first() {
            Some(b'[') if is_json(bytes) => {
                let mut array = serde_json::Deserializer::from_slice(bytes);
                // It has been read to its end already; what fails is that `each` breaks off.
                let _ = array.deserialize_seq(Items(each));
            }
            // One object over several lines.
            Some(b'{') if !lines().next().is_some_and(is_json) && is_json(bytes) => {
                let _ = each(bytes);
            }
            _ => {
                let _ = lines().try_for_each(each);
            }
        }
    }
}

/// Calls itself with the text of every item of an array.
struct Items<F>(F);

impl<'de, F: FnMut(&'de [u8]) -> ControlFlow<()>> Visitor<'de> for Items<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<&RawValue>()? {
            if (self.0)(item.get().as_bytes()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The columns that a line of names is for; `None` when it's a line of values.
fn names(record: &csv::ByteRecord, columns: &[SourceColumn]) -> Option<Vec<usize>> {
    let place = |field: &[u8]| {
        let name = std::str::from_utf8(field).ok()?.trim();
        columns.iter().position(|column| column.name.eq_ignore_ascii_case(name) || column.path.join(".") == name)
    };
    let places: Vec<usize> = record.iter().map(place).collect::<Option<_>>()?;
    (!places.is_empty()).then_some(places)
}

/// A column's value as JSON; `None` when the row lacks it.
pub(crate) type Values<'a> = Vec<Option<Cow<'a, str>>>;

impl Row<'_> {
    /// The values of the columns.
    pub(crate) fn values(&self, columns: &[SourceColumn], tree: &Tree) -> Result<Values<'_>, Fault> {
        match self {
            Self::Broken(reason) => Err(Fault::row(reason.clone())),
            Self::Json(bytes) => {
                if bytes.len() > ROW_BYTES_MAX {
                    return Err(Fault::row(format!("the row has more than {ROW_BYTES_MAX} bytes")));
                }
                let text = std::str::from_utf8(bytes).map_err(|error| Fault::row(format!("not UTF-8: {error}")))?;
                let mut values = vec![None; columns.len()];
                read(text, tree, &mut values).map_err(|error| Fault::row(format!("not a JSON object: {error}")))?;
                Ok(values)
            }
            Self::Fields(record, places) => fields(record, places, columns),
        }
    }

    /// The row as text, at most so many bytes of it.
    pub(crate) fn text(&self, max: usize) -> String {
        let whole = match self {
            Self::Broken(_) => Cow::Borrowed(""),
            Self::Json(bytes) => String::from_utf8_lossy(&bytes[..bytes.len().min(max)]),
            Self::Fields(record, _) => {
                let fields = record.iter().map(String::from_utf8_lossy).collect::<Vec<_>>();
                Cow::Owned(fields.join(","))
            }
        };
        whole[..whole.floor_char_boundary(max)].to_owned()
    }
}

fn fields<'a>(record: &csv::ByteRecord, places: &[usize], columns: &[SourceColumn]) -> Result<Values<'a>, Fault> {
    if record.len() != places.len() {
        return Err(Fault::row(format!("the record has {} fields, {} are expected", record.len(), places.len())));
    }
    if record.as_slice().len() > ROW_BYTES_MAX {
        return Err(Fault::row(format!("the row has more than {ROW_BYTES_MAX} bytes")));
    }
    let mut values = vec![None; columns.len()];
    for (field, place) in record.iter().zip(places) {
        let text = std::str::from_utf8(field).map_err(|error| Fault::row(format!("not UTF-8: {error}")))?;
        let kind = &columns[*place].r#type;
        let lacks = text == "\\N" || (text.is_empty() && *kind != ColumnType::String);
        values[*place] = match kind {
            _ if lacks => None,
            ColumnType::Array(_) => Some(Cow::Owned(text.to_owned())),
            _ => Some(Cow::Owned(serde_json::to_string(text).map_err(|error| Fault::row(error.to_string()))?)),
        };
    }
    Ok(values)
}

/// Reads an object's values along the tree; of a key that comes twice the last counts.
fn read<'a>(text: &'a str, tree: &Tree, values: &mut Values<'a>) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(Object { tree, values })?;
    deserializer.end()
}

struct Object<'t, 'v, 'a> {
    tree: &'t Tree,
    values: &'v mut Values<'a>,
}

impl<'a> Visitor<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(found) = map.next_key_seed(Key(self.tree))? {
            let Some(place) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw = map.next_value::<&'a RawValue>()?.get();
            place.columns.iter().for_each(|at| self.values[*at] = Some(Cow::Borrowed(raw)));
            if !place.keys.is_empty() && raw.starts_with('{') {
                read(raw, place, self.values).map_err(serde::de::Error::custom)?;
            }
        }
        Ok(())
    }
}

/// Looks a key up without taking it out of the text.
struct Key<'t>(&'t Tree);

impl<'a, 't> DeserializeSeed<'a> for Key<'t> {
    type Value = Option<&'t Tree>;

    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'t> Visitor<'_> for Key<'t> {
    type Value = Option<&'t Tree>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.keys.get(key))
    }
}
