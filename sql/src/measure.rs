//! Sizes: of a batch, of a plan's constants, and what a plan's scans have read.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MutableArrayData, make_array};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::ExecutionPlan;

use crate::error::QueryError;
use crate::filter::CurtainExec;

/// Text constants of a planned query: each may be written out once a row of a batch. Twice the largest statement,
/// so that only constants that the SQL computes or repeats can pass it.
const CONSTANT_BYTES_MAX: usize = 2 * crate::budget::SQL_BYTES_MAX;

/// Buffers that have so much more than their rows are let be,
const SLACK_BYTES: usize = 4 * 1024;
/// and an eighth.
const SLACK_PARTS: usize = 8;

/// Bytes of the rows in a batch: a slice counts its own part of a shared buffer.
pub(crate) fn bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| array_bytes(c.as_ref())).sum()
}

/// Bytes of an array's values, and where each begins.
pub(crate) fn array_bytes(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::Utf8View => {
            array.as_string_view().views().iter().map(|v| size_of_val(v) + (*v as u32) as usize).sum()
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

/// A batch as it is held until it is read, and the bytes of memory that it keeps. Rows may be a part of larger buffers, or in
/// buffers that have grown too large; then they are copied.
pub(crate) fn held(batch: RecordBatch) -> DfResult<(RecordBatch, usize)> {
    let (own, kept) = (bytes(&batch), kept_bytes(&batch));
    if kept <= own + own / SLACK_PARTS + SLACK_BYTES {
        return Ok((batch, kept));
    }
    let copied = copy(&batch)?;
    let kept = kept_bytes(&copied);
    Ok((copied, kept))
}

/// All of the buffers that a batch refers to, and what it is itself.
fn kept_bytes(batch: &RecordBatch) -> usize {
    size_of::<RecordBatch>() + batch.get_array_memory_size()
}

/// Whether values of a type can be copied out of larger buffers. Others keep the buffers, and count as what they keep.
fn is_copied(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null | DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 => true,
        DataType::Binary | DataType::LargeBinary | DataType::Dictionary(..) => true,
        DataType::List(item) | DataType::LargeList(item) => is_copied(item.data_type()),
        other => other.is_primitive(),
    }
}

fn copy(batch: &RecordBatch) -> DfResult<RecordBatch> {
    let copied = batch.columns().iter().map(|column| {
        Ok(match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()) as ArrayRef,
            other if !is_copied(other) => Arc::clone(column),
            _ => {
                let data = column.to_data();
                let mut copied = MutableArrayData::new(vec![&data], false, data.len());
                copied.try_extend(0, 0, data.len())?;
                make_array(copied.freeze())
            }
        })
    });
    let copied = copied.collect::<DfResult<Vec<_>>>()?;
    Ok(RecordBatch::try_new(batch.schema(), copied)?)
}

/// Refuses a plan whose constants would be large once written out.
pub(crate) fn constants(plan: &Arc<dyn ExecutionPlan>) -> DfResult<()> {
    let mut found = 0;
    plan.apply(|node| {
        node.apply_expressions(&mut |expr: &Arc<dyn PhysicalExpr>| {
            expr.apply(|e| {
                found += e.downcast_ref::<Literal>().map_or(0, |l| text_bytes(l.value()));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    if found > CONSTANT_BYTES_MAX {
        let refused = QueryError::SqlTooLarge { what: "bytes of constants", found, limit: CONSTANT_BYTES_MAX };
        return Err(DataFusionError::External(Box::new(refused)));
    }
    Ok(())
}

fn text_bytes(value: &ScalarValue) -> usize {
    value.try_as_str().flatten().map_or(0, str::len)
}

/// Rows and bytes that the scans of a finished plan gave out; of a table with a row filter, those it let through.
pub(crate) fn read(plan: &Arc<dyn ExecutionPlan>) -> (u64, u64) {
    let (mut rows, mut read) = (0, 0);
    // The closure never fails.
    let _ = plan.apply(|node| {
        if let Some(curtain) = node.downcast_ref::<CurtainExec>() {
            let (given, bytes) = curtain.given();
            rows += given;
            read += bytes;
            return Ok(TreeNodeRecursion::Jump);
        }
        if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
            match scan.data_source().downcast_ref::<MemorySourceConfig>() {
                Some(memory) => {
                    let batches = memory.partitions().iter().flatten();
                    for batch in batches {
                        rows += batch.num_rows() as u64;
                        read += bytes(batch) as u64;
                    }
                }
                None => {
                    let metrics = scan.metrics().unwrap_or_default();
                    rows += metrics.output_rows().unwrap_or(0) as u64;
                    read += metrics.sum_by_name("bytes_scanned").map_or(0, |m| m.as_usize()) as u64;
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    (rows, read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Int64Array, ListArray, NullArray, StringArray, StringViewArray};
    use arrow::datatypes::{Field, Int32Type, Int64Type, Schema};

    /// Two rows of many keep next to nothing of the many's memory.
    #[test]
    fn few_rows_of_a_large_batch_are_held_alone() {
        let text = |at: usize| Some(format!("a text that is too long for a view, number {at}"));
        let keys: DictionaryArray<Int32Type> = (0..10_000).map(|at| if at % 2 == 0 { "even" } else { "odd" }).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("views", Arc::new((0..10_000).map(text).collect::<StringViewArray>())),
            ("texts", Arc::new((0..10_000).map(text).collect::<StringArray>())),
            ("numbers", Arc::new((0..10_000).collect::<Int64Array>())),
            ("nothing", Arc::new(NullArray::new(10_000))),
            ("keys", Arc::new(keys)),
            (
                "lists",
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>((0..10_000).map(|at| Some([Some(at)])))),
            ),
        ];
        for (name, column) in columns {
            let schema = Arc::new(Schema::new(vec![Field::new(name, column.data_type().clone(), true)]));
            let whole = RecordBatch::try_new(schema, vec![column]).expect("a batch");
            let (_, bytes_of_all) = held(whole.clone()).expect("held");
            assert!(bytes_of_all >= bytes(&whole), "{name}");
            let part = whole.slice(5_000, 2);
            let (kept, bytes_of_part) = held(part.clone()).expect("held");
            assert_eq!(kept, part, "{name}");
            assert!(bytes_of_part <= SLACK_BYTES + 1_024, "{name}: {bytes_of_part} of {bytes_of_all}");
        }
    }
}
