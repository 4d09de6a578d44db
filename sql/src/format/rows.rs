//! Texts, written row by row and value by value as far as they are asked for. Start at [`RowEncoder::part`].

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;

use super::text::Style;
use super::{EncodeError, Part, json, text};
use crate::call::{HeldBatch, QueryResult};
use crate::measure;
use crate::result_memory::{Account, Hold};

/// A part that is larger holds its bytes; what is smaller is held by who sends it.
const UNCOUNTED_BYTES_MAX: usize = 128 * 1024;
/// Bytes of a few columns' names and types, for a start.
const HEAD_BYTES: usize = 256;
/// Of most values, for the one that makes a part whole.
const VALUE_BYTES: usize = 4 * 1024;
/// Bytes that stand around a value at most, names aside: quotes, commas, braces, the line's end.
const AROUND_BYTES_MAX: usize = 6;

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowStyle {
    /// One object with everything.
    Json,
    /// One object a line.
    JsonEachRow,
    /// Lines of values, under a line of names if asked.
    Text { style: Style, names: bool },
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Rows,
    Done,
}

/// A result on its way into text.
pub(super) struct RowEncoder {
    style: RowStyle,
    schema: SchemaRef,
    /// Of JSON's objects.
    names: Vec<Vec<u8>>,
    batches: VecDeque<HeldBatch>,
    row: usize,
    column: usize,
    /// Whether the row is begun.
    in_row: bool,
    /// Whether a row has been written.
    any: bool,
    stage: Stage,
    /// Of JSON, after the rows.
    tail: String,
    account: Option<Arc<Account>>,
    /// Of the result in memory, about those of its text.
    bytes: usize,
    /// Bytes of the parts before.
    written: usize,
    bytes_max: usize,
}

impl RowEncoder {
    pub(super) fn new(mut result: QueryResult, style: RowStyle, bytes_max: usize) -> Self {
        let names = match style {
            RowStyle::Json | RowStyle::JsonEachRow => {
                result.schema.fields().iter().map(|field| json::name_and_colon(field.name())).collect()
            }
            RowStyle::Text { .. } => Vec::new(),
        };
        let tail = if style == RowStyle::Json { json::tail(&result) } else { String::new() };
        let batches = result.take_batches();
        let (schema, account) = (result.schema, result.owner.map(|owner| owner.account));
        let (row, column, bytes, written) = (0, 0, result.bytes, 0);
        let (in_row, any, stage) = (false, false, Stage::Head);
        Self {
            style,
            schema,
            names,
            batches,
            row,
            column,
            in_row,
            any,
            stage,
            tail,
            account,
            bytes,
            written,
            bytes_max,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The next bytes, about so many and one value more.
    pub(super) fn part(&mut self, bytes: usize) -> Result<Option<Part>, EncodeError> {
        if self.is_done() {
            return Ok(None);
        }
        let mut out = Vec::with_capacity((HEAD_BYTES + self.bytes).min(bytes.saturating_add(VALUE_BYTES)));
        self.fill(&mut out, bytes)?;
        self.written += out.len();
        let counted = self.account.as_ref().filter(|_| out.capacity() > UNCOUNTED_BYTES_MAX);
        let hold = counted.map(|account| Hold::new(account, out.capacity())).transpose()?;
        Ok(Some((Bytes::from(out), hold.map(Arc::new))))
    }

    fn fill(&mut self, out: &mut Vec<u8>, bytes: usize) -> Result<(), EncodeError> {
        if self.stage == Stage::Head {
            match self.style {
                RowStyle::Json => json::head(out, &self.schema),
                RowStyle::Text { style, names: true } => text::names(out, &self.schema, style),
                RowStyle::Text { names: false, .. } | RowStyle::JsonEachRow => {}
            }
            self.stage = Stage::Rows;
        }
        while let Some((batch, _)) = self.batches.front() {
            let (batch, columns) = (batch.clone(), batch.num_columns());
            while self.row < batch.num_rows() {
                self.begin_row(out);
                while self.column < columns {
                    self.value(out, &batch)?;
                    self.column += 1;
                    if self.written + out.len() > self.bytes_max {
                        return Err(EncodeError::TooLarge(self.bytes_max));
                    }
                    if out.len() >= bytes {
                        return Ok(());
                    }
                }
                self.end_row(out);
                self.row += 1;
            }
            self.row = 0;
            self.batches.pop_front();
        }
        out.extend_from_slice(self.tail.as_bytes());
        self.stage = Stage::Done;
        Ok(())
    }

    fn begin_row(&mut self, out: &mut Vec<u8>) {
        if self.in_row {
            return;
        }
        match self.style {
            RowStyle::Json if self.any => out.extend_from_slice(b",{"),
            RowStyle::Json | RowStyle::JsonEachRow => out.push(b'{'),
            RowStyle::Text { .. } => {}
        }
        (self.in_row, self.any, self.column) = (true, true, 0);
    }

    fn value(&self, out: &mut Vec<u8>, batch: &RecordBatch) -> Result<(), EncodeError> {
        let value = batch.column(self.column).as_ref();
        match self.style {
            RowStyle::Json | RowStyle::JsonEachRow => {
                if self.column > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&self.names[self.column]);
                json::value(out, value, self.row)?;
            }
            RowStyle::Text { style, .. } => {
                if self.column > 0 {
                    out.push(style.separator());
                }
                text::value(out, value, self.row, style)?;
            }
        }
        Ok(())
    }

    fn end_row(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.style {
            RowStyle::Json => b"}",
            RowStyle::JsonEachRow => b"}\n",
            RowStyle::Text { .. } => b"\n",
        });
        self.in_row = false;
    }

    /// The same from here on, to find out whether it will be too large; `None` where it can't be.
    pub(super) fn rehearsal(&self) -> Option<Self> {
        let names: usize = self.names.iter().map(|name| name.len()).sum();
        let most = |batch: &RecordBatch| {
            let values = batch.columns().iter().map(|column| value_bytes_max(column.as_ref()));
            let values = values.sum::<Option<usize>>()?;
            Some(values + batch.num_rows() * (names + batch.num_columns() * AROUND_BYTES_MAX))
        };
        let most: Option<usize> = self.batches.iter().map(|(batch, _)| most(batch)).sum();
        if most.is_some_and(|most| self.written + most <= self.bytes_max) {
            return None;
        }
        Some(Self {
            style: self.style,
            schema: Arc::clone(&self.schema),
            names: self.names.clone(),
            batches: self.batches.iter().map(|(batch, _)| (batch.clone(), None)).collect(),
            row: self.row,
            column: self.column,
            in_row: self.in_row,
            any: self.any,
            stage: self.stage,
            tail: self.tail.clone(),
            account: None,
            bytes: self.bytes,
            written: self.written,
            bytes_max: self.bytes_max,
        })
    }
}

/// Bytes that a column's values have at most once they are written; `None` where a few may become many.
fn value_bytes_max(column: &dyn Array) -> Option<usize> {
    let each = match column.data_type() {
        DataType::Null => 4,
        DataType::Boolean => 5,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => 20,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => 20,
        DataType::Float32 | DataType::Float64 => 32,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => 48,
        DataType::Decimal128(..) => 48,
        // A control character becomes six in JSON.
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            return Some(6 * measure::array_bytes(column));
        }
        _ => return None,
    };
    Some(column.len() * each)
}
