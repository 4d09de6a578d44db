//! Sizes: of a batch, of a plan's constants, and what a plan's scans have read.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
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
const CONSTANT_BYTES_MAX: usize = 2 * crate::gate::SQL_BYTES_MAX;

/// Bytes of the rows in a batch: a slice counts its own part of a shared buffer.
pub(crate) fn bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| array_bytes(c.as_ref())).sum()
}

fn array_bytes(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::Utf8View => {
            array.as_string_view().views().iter().map(|v| size_of_val(v) + (*v as u32) as usize).sum()
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    }
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
