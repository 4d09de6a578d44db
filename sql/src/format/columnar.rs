//! Parquet and Arrow IPC files, for programs. Views are written as plain texts, which every reader knows. A file is made whole
//! before its first byte is sent, as the writers want it and so that what they refuse has a status; each batch gives back
//! what it holds once it is in the file. Start at [`file`].

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::{EncodeError, Part};
use crate::call::QueryResult;
use crate::result_memory::Hold;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Parquet,
    Arrow,
}

/// A file's parts, in order, of at most `bytes_max` together.
pub(super) fn file(mut result: QueryResult, kind: Kind, bytes_max: usize) -> Result<VecDeque<Part>, EncodeError> {
    let schema = plain(&result.schema);
    let mut writer = Writer::new(kind, &schema)?;
    let account = result.owner.as_ref().map(|owner| Arc::clone(&owner.account));
    let mut working = account.as_ref().map(|account| Hold::new(account, 0)).transpose()?;
    let (mut parts, mut written) = (VecDeque::new(), 0);
    let mut take = |bytes: Vec<u8>| -> Result<(), EncodeError> {
        written += bytes.len();
        if written > bytes_max {
            return Err(EncodeError::TooLarge(bytes_max));
        }
        if !bytes.is_empty() {
            let hold = account.as_ref().map(|account| Hold::new(account, bytes.capacity())).transpose()?;
            parts.push_back((Bytes::from(bytes), hold.map(Arc::new)));
        }
        Ok(())
    };
    for (batch, _hold) in result.take_batches() {
        writer.write(&cast(&batch, &schema)?)?;
        if let Some(working) = &mut working {
            working.resize(writer.memory_bytes())?;
        }
        take(writer.written())?;
    }
    writer.finish()?;
    take(writer.written())?;
    Ok(parts)
}

enum Writer {
    Parquet(Box<ArrowWriter<Vec<u8>>>),
    Arrow(Box<FileWriter<Vec<u8>>>),
}

impl Writer {
    fn new(kind: Kind, schema: &SchemaRef) -> Result<Self, EncodeError> {
        Ok(match kind {
            Kind::Parquet => {
                let zstd = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(zstd).build();
                Self::Parquet(Box::new(ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))?))
            }
            Kind::Arrow => Self::Arrow(Box::new(FileWriter::try_new(Vec::new(), schema)?)),
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        match self {
            Self::Parquet(writer) => writer.write(batch)?,
            Self::Arrow(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// What it has that isn't written yet.
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Parquet(writer) => writer.memory_size(),
            Self::Arrow(_) => 0,
        }
    }

    /// What has been written since the last call.
    fn written(&mut self) -> Vec<u8> {
        match self {
            Self::Parquet(writer) => mem::take(writer.inner_mut()),
            Self::Arrow(writer) => mem::take(writer.get_mut()),
        }
    }

    fn finish(&mut self) -> Result<(), EncodeError> {
        match self {
            Self::Parquet(writer) => drop(writer.finish()?),
            Self::Arrow(writer) => writer.finish()?,
        }
        Ok(())
    }
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
