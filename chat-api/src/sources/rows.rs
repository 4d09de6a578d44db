//! A body to its rows: lines of JSON, a JSON array, one JSON object, or CSV. A row that can't be read is a row all the same.

use super::columns::Tree;
use super::{Fault, ROW_BYTES_MAX};
use csv_core::ReadRecordResult;
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
    Fields(&'a Record, &'a [usize]),
}

/// A record of a CSV: its fields one after the other, and where each ends. Of one that is longer than a row may be, as when
/// a quote never closes, only the start is kept.
#[derive(Debug, Default)]
pub(crate) struct Record {
    text: Vec<u8>,
    text_bytes: usize,
    ends: Vec<usize>,
    fields: usize,
    cut: bool,
}

impl Record {
    /// The next of the input; `false` when there is none.
    fn read(&mut self, reader: &mut csv_core::Reader, input: &mut &[u8]) -> bool {
        (self.text_bytes, self.fields, self.cut) = (0, 0, false);
        // What is past a row's bytes is written over and over.
        let mut passed = (Vec::new(), Vec::new());
        loop {
            let (text, ends) = if self.cut {
                passed.0.resize(4_096, 0);
                passed.1.resize(512, 0);
                (&mut passed.0[..], &mut passed.1[..])
            } else {
                (&mut self.text[self.text_bytes..], &mut self.ends[self.fields..])
            };
            let (result, read, written, ended) = reader.read_record(input, text, ends);
            *input = &input[read..];
            if !self.cut {
                self.text_bytes += written;
                self.fields += ended;
            }
            match result {
                // Without input it says where the last record ends.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.cut |= !grow(&mut self.text),
                ReadRecordResult::OutputEndsFull => self.cut |= !grow(&mut self.ends),
                ReadRecordResult::Record => return true,
                ReadRecordResult::End => return false,
            }
        }
    }

    /// How many fields it has.
    pub(super) fn len(&self) -> usize {
        self.fields
    }

    /// Whether it's longer than a row may be, and only its start is here.
    pub(super) fn is_cut(&self) -> bool {
        self.cut || self.text_bytes > ROW_BYTES_MAX
    }

    /// The fields that are here, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends[..self.fields].iter().copied());
        starts.zip(&self.ends[..self.fields]).map(|(start, end)| &self.text[start..*end])
    }

    /// The fields with commas between them, at most so many bytes of it.
    fn joined(&self, max: usize) -> String {
        let mut text = Vec::new();
        let rest = if self.cut {
            &self.text[self.ends[..self.fields].last().copied().unwrap_or(0)..self.text_bytes]
        } else {
            &[]
        };
        for field in self.iter().chain((!rest.is_empty()).then_some(rest)) {
            if text.len() > max {
                break;
            }
            text.extend_from_slice(&field[..field.len().min(max)]);
            text.push(b',');
        }
        text.pop();
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Makes room for more of a record; `false` when it has what a row may have.
fn grow<T: Clone + Default>(room: &mut Vec<T>) -> bool {
    if room.len() > ROW_BYTES_MAX {
        return false;
    }
    let length = (2 * room.len()).clamp(1_024, ROW_BYTES_MAX + 1);
    room.resize(length, T::default());
    true
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
                    if header.is_none() {
                        if !record.is_cut()
                            && let Some(places) = names(record, columns)
                        {
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
    pub(super) fn records(&self, delimiter: u8, mut each: impl FnMut(&Record) -> ControlFlow<()>) {
        let mut input = self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.bytes);
        let mut reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        let mut record = Record::default();
        while record.read(&mut reader, &mut input) {
            if each(&record).is_break() {
                return;
            }
        }
    }

    /// The values of a JSON body, until `each` breaks. They aren't listed before: there may be one every second byte.
    pub(super) fn values(&self, mut each: impl FnMut(&'a [u8]) -> ControlFlow<()>) {
        let bytes = self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.bytes).trim_ascii();
        // Files that are put together have a byte order mark in the middle.
        let unmarked = |line: &'a [u8]| line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii();
        let ends = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let lines = || bytes.split(ends).map(<[u8]>::trim_ascii).map(unmarked).filter(|line| !line.is_empty());
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
fn names(record: &Record, columns: &[SourceColumn]) -> Option<Vec<usize>> {
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
            Self::Json(bytes) => String::from_utf8_lossy(&bytes[..bytes.len().min(max)]),
            Self::Fields(record, _) => Cow::Owned(record.joined(max)),
        };
        whole[..whole.floor_char_boundary(max)].to_owned()
    }
}

fn fields<'a>(record: &Record, places: &[usize], columns: &[SourceColumn]) -> Result<Values<'a>, Fault> {
    if record.is_cut() {
        return Err(Fault::row(format!("the row has more than {ROW_BYTES_MAX} bytes")));
    }
    if record.len() != places.len() {
        return Err(Fault::row(format!("the record has {} fields, {} are expected", record.len(), places.len())));
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
