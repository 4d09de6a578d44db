//! Fact files on disk: written whole and synced before anyone hears of them, checked by size and SHA-256.

use super::facts::Table;
use super::merge::Merged;
use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use ingest::durable;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use ring::digest::{Context, SHA256};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows of a row group: small enough that a report over a day skips most of a month's file by its statistics.
const ROW_GROUP_ROWS: usize = 32_768;

/// Rows copied out of a merge at a time.
const PIECE_ROWS: usize = 8_192;

/// Buffer between the encoder and the file, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file of the facts. Whoever holds it can open it: a file that compaction replaced is deleted with its last holder.
#[derive(Debug)]
pub struct FactFile {
    path: PathBuf,
    bytes: u64,
    rows: u64,
    sha256: String,
    superseded: AtomicBool,
}

impl FactFile {
    pub(crate) fn new(path: PathBuf, written: Written) -> Self {
        let Written { bytes, rows, sha256 } = written;
        Self { path, bytes, rows, sha256, superseded: AtomicBool::new(false) }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Hex SHA-256 of its bytes.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The file goes away with its last holder.
    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    /// Its content, once the bytes are known to be those written.
    pub(crate) fn read(&self, table: Table) -> Result<Vec<RecordBatch>, FileError> {
        self.read_as(&table.schema())
    }

    /// The same for rows of any schema.
    pub(crate) fn read_as(&self, schema: &SchemaRef) -> Result<Vec<RecordBatch>, FileError> {
        let bytes = Bytes::from(fs::read(&self.path)?);
        let mut hash = Context::new(&SHA256);
        hash.update(&bytes);
        self.compare(bytes.len() as u64, &hex::encode(hash.finish()))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(PIECE_ROWS).build()?;
        reader.map(|batch| widened(&batch?, schema)).collect()
    }

    /// Existence and size only: what an open can afford for every file.
    pub(crate) fn check_size(&self) -> Result<(), FileError> {
        self.compare(fs::metadata(&self.path)?.len(), &self.sha256)
    }

    /// Every byte.
    pub(crate) fn verify(&self) -> Result<(), FileError> {
        let mut file = File::open(&self.path)?;
        let mut hash = Context::new(&SHA256);
        let mut buffer = vec![0_u8; BUFFER_BYTES];
        let mut bytes = 0_u64;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => {
                    hash.update(&buffer[..read]);
                    bytes += read as u64;
                }
            }
        }
        self.compare(bytes, &hex::encode(hash.finish()))
    }

    fn compare(&self, bytes: u64, sha256: &str) -> Result<(), FileError> {
        if bytes != self.bytes {
            return Err(FileError::Size { found: bytes, expected: self.bytes });
        }
        if sha256 != self.sha256 {
            return Err(FileError::Content);
        }
        Ok(())
    }
}

/// A batch of an older file has no columns that are newer than it: they are null.
fn widened(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, FileError> {
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    Ok(RecordBatch::try_new(Arc::clone(schema), schema.fields().iter().map(column).collect())?)
}

impl Drop for FactFile {
    fn drop(&mut self) {
        if self.superseded.load(Ordering::Acquire) {
            // Left behind, it is deleted at the next open: the manifest doesn't list it any more.
            if let Err(error) = fs::remove_file(&self.path) {
                tracing::warn!(path = %self.path.display(), %error, "failed to delete a merged fact file");
            }
        }
    }
}

/// What is wrong with a file, without its name.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused, or the file isn't there.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Cut short, or something was appended.
    #[error("it has {found} bytes, the manifest says {expected}")]
    Size {
        /// Bytes found.
        found: u64,
        /// Bytes written once.
        expected: u64,
    },
    /// The size is right, the bytes aren't.
    #[error("its bytes aren't those that were written (SHA-256 differs)")]
    Content,
    /// Not a Parquet file of this table.
    #[error("{0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Not rows of this table.
    #[error("{0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl FileError {
    /// The disk or the system failed, and not the file's content: a retry may help.
    pub(crate) fn is_io(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() != io::ErrorKind::NotFound)
    }
}

/// What the manifest records of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    pub(crate) sha256: String,
}

/// Hashes and counts what passes through to the file.
struct Hashing<W> {
    inner: W,
    hash: Context,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.hash.update(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What all files have in common.
pub(crate) fn base_properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page)
}

/// Columns by which one thing is looked for: a filter a row group says where it can't be.
const LOOKED_UP: [&str; 2] = ["conversation_id", "event_id"];

fn properties(table: Table) -> WriterProperties {
    let mut properties = base_properties();
    let schema = table.schema();
    for column in LOOKED_UP.into_iter().filter(|column| schema.column_with_name(column).is_some()) {
        properties = properties.set_column_bloom_filter_enabled(ColumnPath::from(column), true);
    }
    // An event's id never repeats: a dictionary of them is work without gain.
    if schema.column_with_name("event_id").is_some() {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from("event_id"), false);
    }
    properties.build()
}

/// Writes a file that survives a power cut, or nothing: temp name, sync, rename, sync of the directory.
pub(crate) fn write(path: &Path, table: Table, rows: &Merged) -> Result<Written, FileError> {
    write_rows(path, &table.schema(), properties(table), rows.pieces(PIECE_ROWS))
}

/// The same for rows of any schema.
pub(crate) fn write_rows(
    path: &Path,
    schema: &SchemaRef,
    properties: WriterProperties,
    rows: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<Written, FileError> {
    let directory = path.parent().expect("a fact file lies in its table's directory");
    durable::create_dirs(directory)?;
    let temporary = path.with_extension("tmp");
    let result = write_temporary(&temporary, schema, properties, rows).and_then(|written| {
        durable::rename(&temporary, path)?;
        Ok(written)
    });
    if result.is_err() {
        // It may never have been made; what is left is deleted at the next open.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_temporary(
    path: &Path,
    schema: &SchemaRef,
    properties: WriterProperties,
    rows: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<Written, FileError> {
    let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
    let sink = Hashing { inner: file, hash: Context::new(&SHA256), bytes: 0 };
    let mut writer = ArrowWriter::try_new(sink, Arc::clone(schema), Some(properties))?;
    let mut count = 0;
    for piece in rows {
        let piece = piece?;
        count += piece.num_rows() as u64;
        writer.write(&piece)?;
    }
    let sink = writer.into_inner()?;
    let file = sink.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(Written { bytes: sink.bytes, rows: count, sha256: hex::encode(sink.hash.finish()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array as _;

    /// A file of an earlier version lacks columns: they are null, in a merge as in a query.
    #[test]
    fn columns_newer_than_the_file_are_null() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("old.parquet");
        let whole = Table::Resolutions.schema();
        let older: Vec<usize> = (0..whole.fields().len() - 2).collect();
        let row =
            RecordBatch::try_new(whole.clone(), whole.fields().iter().map(|field| filler(field.data_type())).collect());
        let row = row.expect("a row").project(&older).expect("fewer columns");
        let sink = Hashing { inner: File::create(&path).expect("a file"), hash: Context::new(&SHA256), bytes: 0 };
        let mut writer = ArrowWriter::try_new(sink, row.schema(), None).expect("a writer");
        writer.write(&row).expect("written");
        let sink = writer.into_inner().expect("closed");
        let written = Written { bytes: sink.bytes, rows: 1, sha256: hex::encode(sink.hash.finish()) };
        let read = FactFile::new(path, written).read(Table::Resolutions).expect("readable");
        assert_eq!(read[0].schema(), whole);
        assert_eq!(read[0].column_by_name("handle_seconds").map(|column| column.null_count()), Some(1));
        assert_eq!(read[0].column_by_name("resolution_seconds").map(|column| column.null_count()), Some(0));
    }

    /// One conversation is found without reading the others.
    #[test]
    fn what_is_looked_up_has_its_filter() {
        for table in [Table::Events, Table::Messages] {
            let dir = tempfile::tempdir().expect("temp dir");
            let path = dir.path().join("one.parquet");
            let schema = table.schema();
            let columns = schema.fields().iter().map(|field| filler(field.data_type())).collect();
            let row = RecordBatch::try_new(schema.clone(), columns).expect("a row");
            write_rows(&path, &schema, properties(table), std::iter::once(Ok(row))).expect("written");
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("a file")).expect("Parquet");
            let with_filter: Vec<&str> = reader
                .metadata()
                .row_group(0)
                .columns()
                .iter()
                .filter(|column| column.bloom_filter_offset().is_some())
                .map(|column| column.column_descr().name())
                .collect();
            assert_eq!(with_filter.len(), LOOKED_UP.len(), "{with_filter:?}");
            assert!(LOOKED_UP.iter().all(|column| with_filter.contains(column)), "{with_filter:?}");
        }
    }

    fn filler(data_type: &arrow::datatypes::DataType) -> arrow::array::ArrayRef {
        let text: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["1"]));
        match data_type {
            arrow::datatypes::DataType::Timestamp(..) => {
                let number = arrow::compute::cast(&text, &arrow::datatypes::DataType::Int64).expect("a number");
                arrow::compute::cast(&number, data_type).expect("an instant")
            }
            other => arrow::compute::cast(&text, other).expect("a value"),
        }
    }
}
