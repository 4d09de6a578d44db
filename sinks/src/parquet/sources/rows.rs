//! Columns of a data source as Arrow, and its logged rows as batches. Pure.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow_json::StructMode;
use arrow_json::reader::ReaderBuilder;
use ingest::payload::{ColumnType, Rows, SourceColumn};
use std::sync::Arc;

/// Columns of a quarantine before those of its source: what was wrong with which column, of which batch, when, and the
/// row as it was sent.
const QUARANTINE: [(&str, ColumnType); 5] = [
    ("c__error_column", ColumnType::String),
    ("c__error", ColumnType::String),
    ("c__import_id", ColumnType::String),
    ("insertion_date", ColumnType::DateTime),
    ("c__row", ColumnType::String),
];

fn data_type(kind: &ColumnType) -> DataType {
    let utc = || Some("UTC".into());
    match kind {
        ColumnType::String => DataType::Utf8,
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int8 => DataType::Int8,
        ColumnType::Int16 => DataType::Int16,
        ColumnType::Int32 => DataType::Int32,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::UInt8 => DataType::UInt8,
        ColumnType::UInt16 => DataType::UInt16,
        ColumnType::UInt32 => DataType::UInt32,
        ColumnType::UInt64 => DataType::UInt64,
        ColumnType::Float32 => DataType::Float32,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Date => DataType::Date32,
        ColumnType::DateTime => DataType::Timestamp(TimeUnit::Second, utc()),
        ColumnType::DateTimeMs => DataType::Timestamp(TimeUnit::Millisecond, utc()),
        ColumnType::DateTimeUs => DataType::Timestamp(TimeUnit::Microsecond, utc()),
        ColumnType::Array(item) => DataType::new_list(data_type(item), false),
    }
}

/// The schema of a source's rows.
pub(crate) fn schema(columns: &[SourceColumn]) -> SchemaRef {
    let fields = columns.iter().map(|column| Field::new(&column.name, data_type(&column.r#type), column.nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The schema of its quarantine: every value as text.
pub(crate) fn quarantine_schema(columns: &[SourceColumn]) -> SchemaRef {
    let own = QUARANTINE.iter().enumerate().map(|(place, (name, kind))| {
        // The first two are lists: a row may have several faults.
        let kind = if place < 2 { DataType::new_list(data_type(kind), false) } else { data_type(kind) };
        Field::new(*name, kind, false)
    });
    let values = columns.iter().map(|column| Field::new(&column.name, DataType::Utf8, true));
    Arc::new(Schema::new(own.chain(values).collect::<Vec<_>>()))
}

/// Reads a chunk of rows.
///
/// # Errors
/// Rows that aren't those of the schema; whoever wrote them should have refused them.
pub(crate) fn batch(schema: &SchemaRef, rows: &Rows) -> Result<RecordBatch, ArrowError> {
    // A row whose one column is the list of all rows: so that the text is read as it is.
    let row = Field::new_list_field(DataType::Struct(schema.fields().clone()), false);
    let all = Schema::new(vec![Field::new("rows", DataType::List(Arc::new(row)), false)]);
    let mut decoder =
        ReaderBuilder::new(Arc::new(all)).with_struct_mode(StructMode::ListOnly).with_batch_size(1).build_decoder()?;
    for text in ["[", rows.json(), "]"] {
        let read = decoder.decode(text.as_bytes())?;
        if read != text.len() {
            return Err(ArrowError::JsonError("a chunk of rows goes on after its end".to_owned()));
        }
    }
    let Some(all) = decoder.flush()? else { return Ok(RecordBatch::new_empty(Arc::clone(schema))) };
    let rows = all.column(0).as_list::<i32>().value(0);
    let columns = rows.as_struct().columns().to_vec();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: &str, nullable: bool) -> SourceColumn {
        SourceColumn { name: name.into(), r#type: kind.parse().expect("a type"), nullable, path: vec![name.into()] }
    }

    #[test]
    fn rows_become_columns() {
        let columns = [
            column("n", "UInt64", false),
            column("t", "String", true),
            column("d", "Date", false),
            column("at", "DateTime64(3)", true),
            column("f", "Float64", true),
            column("b", "Bool", false),
            column("l", "Array(Int32)", false),
        ];
        let text =
            r#"[[18446744073709551615,"a\"ä\n",19723,1704067200123,1e300,true,[1,-2]],[0,null,0,null,null,false,[]]]"#;
        let batch = batch(&schema(&columns), &Rows::from_json(text.to_owned()).expect("JSON")).expect("rows");
        let shown = arrow::util::pretty::pretty_format_batches(&[batch]).expect("shown").to_string();
        for value in ["18446744073709551615", "a\"ä", "2024-01-01 ", "2024-01-01T00:00:00.123Z", "1e300", "[1, -2]"] {
            assert!(shown.contains(value), "{value} in\n{shown}");
        }
    }

    #[test]
    fn rows_of_other_columns_are_refused() {
        let columns = schema(&[column("n", "Int8", false)]);
        for text in ["[[null]]", "[[300]]", r#"[["x"]]"#, "[[1,2]]", "[1]", "{}"] {
            assert!(batch(&columns, &Rows::from_json(text.to_owned()).expect("JSON")).is_err(), "{text}");
        }
        assert_eq!(batch(&columns, &Rows::from_json("[]".to_owned()).expect("JSON")).expect("none").num_rows(), 0);
    }
}
