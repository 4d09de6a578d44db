//! Parquet and Arrow IPC files, for programs. Views are written as plain texts, which every reader knows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::{EncodeError, Output};
use crate::call::QueryResult;

/// A Parquet file.
pub(super) fn parquet(out: &mut Output, result: &QueryResult) -> Result<(), EncodeError> {
    let schema = plain(&result.schema);
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(&mut out.bytes, Arc::clone(&schema), Some(properties))?;
    for batch in &result.batches {
        writer.write(&cast(batch, &schema)?)?;
    }
    writer.close()?;
    out.check()
}

/// An Arrow IPC file.
pub(super) fn arrow(out: &mut Output, result: &QueryResult) -> Result<(), EncodeError> {
    let schema = plain(&result.schema);
    let mut writer = FileWriter::try_new(&mut out.bytes, &schema)?;
    for batch in &result.batches {
        writer.write(&cast(batch, &schema)?)?;
    }
    writer.finish()?;
    drop(writer);
    out.check()
}

fn plain(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let plain = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            other => other.clone(),
        };
        Field::new(field.name(), plain, field.is_nullable())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn cast(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

impl From<ParquetError> for EncodeError {
    fn from(e: ParquetError) -> Self {
        match e {
            ParquetError::NYI(m) => Self::Unsupported(m),
            ParquetError::ArrowError(m) if m.contains("not supported") => Self::Unsupported(m),
            e => Self::Fault(ArrowError::ExternalError(Box::new(e))),
        }
    }
}
