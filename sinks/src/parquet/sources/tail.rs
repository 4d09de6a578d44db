//! The newest rows of one table of a data source, in memory.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

/// Rows of a batch that is large enough to stay as it is.
const FULL_ROWS: usize = 8_192;

/// Batches of one schema. A batch isn't smaller than half of the next, so there are few however small they came in.
#[derive(Debug, Default)]
pub(crate) struct ChunkTail {
    batches: Vec<RecordBatch>,
    rows: usize,
}

impl ChunkTail {
    pub(crate) fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() == 0 {
            return;
        }
        self.rows += batch.num_rows();
        self.batches.push(batch);
        while let [.., before, last] = self.batches.as_slice() {
            if before.num_rows() >= FULL_ROWS || before.num_rows() > 2 * last.num_rows() {
                break;
            }
            // If they can't be put together they stay apart: readers take any number.
            let Ok(both) = concat_batches(&before.schema(), [before, last]) else { break };
            self.batches.truncate(self.batches.len() - 2);
            self.batches.push(both);
        }
    }

    pub(crate) fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn take(&mut self) -> Vec<RecordBatch> {
        self.rows = 0;
        std::mem::take(&mut self.batches)
    }

    /// Puts rows back that [`take`](Self::take) gave, before those that came meanwhile.
    pub(crate) fn put_back(&mut self, mut batches: Vec<RecordBatch>) {
        self.rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        batches.append(&mut self.batches);
        self.batches = batches;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray as _, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use std::sync::Arc;

    #[test]
    fn single_rows_become_few_batches_in_their_order() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let mut tail = ChunkTail::default();
        for n in 0..20_000 {
            let column = Arc::new(Int64Array::from(vec![n]));
            tail.push(RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("a row"));
        }
        assert!(tail.batches().len() < 20, "{}", tail.batches().len());
        let values = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(tail.batches().iter().flat_map(values).collect::<Vec<_>>(), (0..20_000).collect::<Vec<_>>());
        assert_eq!(tail.rows(), 20_000);
    }
}
