//! How rows of a table combine: sorted by time, superseded versions dropped, usage partials summed.
//!
//! Pure. The same [`Merged`] serves the tail in memory, a flush and a compaction, so that they can't disagree.

use super::facts::{Table, UsageRow, usage_batch};
use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use arrow::error::ArrowError;
use ingest::time::Timestamp;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Rows of one table, merged; copied out in pieces, so that a merge needs its inputs and one piece in memory.
pub(crate) struct Merged {
    inputs: Vec<RecordBatch>,
    /// (input, row) of each row that stays, sorted by the table's time column.
    order: Vec<(usize, usize)>,
}

impl Merged {
    /// Rows that stay.
    pub(crate) fn rows(&self) -> usize {
        self.order.len()
    }

    /// The rows in order, at most `rows` at a time.
    pub(crate) fn pieces(&self, rows: usize) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> {
        let inputs: Vec<&RecordBatch> = self.inputs.iter().collect();
        self.order.chunks(rows).map(move |indices| interleave_record_batch(&inputs, indices))
    }
}

/// Combines batches of `table`; they have its schema.
pub(crate) fn merge(table: Table, inputs: Vec<RecordBatch>) -> Merged {
    if table == Table::UsageMinute {
        let sums = sum_usage(&inputs);
        let order = (0..sums.num_rows()).map(|row| (0, row)).collect();
        return Merged { inputs: vec![sums], order };
    }
    let order = if let Some(versions) = table.versions() {
        newest_versions(&inputs, versions.key)
    } else {
        let rows = |(input, batch): (usize, &RecordBatch)| (0..batch.num_rows()).map(move |row| (input, row));
        inputs.iter().enumerate().flat_map(rows).collect()
    };
    sorted(table, inputs, order)
}

fn sorted(table: Table, inputs: Vec<RecordBatch>, mut order: Vec<(usize, usize)>) -> Merged {
    let times: Vec<&[i64]> = inputs.iter().map(|batch| times(batch, table.time_column())).collect();
    // Place in the log breaks ties: the same rows give the same file.
    order.sort_unstable_by_key(|&(input, row)| (times[input][row], input, row));
    Merged { inputs, order }
}

fn times<'a>(batch: &'a RecordBatch, column: &str) -> &'a [i64] {
    let array = batch.column_by_name(column).expect("the table's time column");
    array.as_primitive::<TimestampMillisecondType>().values()
}

fn ints<'a>(batch: &'a RecordBatch, column: &str) -> &'a [i64] {
    batch.column_by_name(column).expect("a column of the table").as_primitive::<Int64Type>().values()
}

fn texts<'a>(batch: &'a RecordBatch, column: &str) -> &'a StringArray {
    batch.column_by_name(column).expect("a column of the table").as_string::<i32>()
}

fn newest_versions(inputs: &[RecordBatch], key: &str) -> Vec<(usize, usize)> {
    let mut newest: HashMap<&str, (i64, usize, usize)> = HashMap::new();
    for (input, batch) in inputs.iter().enumerate() {
        let versions = ints(batch, "version");
        for (row, id) in texts(batch, key).iter().enumerate() {
            let id = id.expect("what names a version is never null");
            let candidate = (versions[row], input, row);
            let kept = newest.entry(id).or_insert(candidate);
            *kept = candidate.max(*kept);
        }
    }
    newest.into_values().map(|(_, input, row)| (input, row)).collect()
}

fn sum_usage(inputs: &[RecordBatch]) -> RecordBatch {
    let mut sums: HashMap<(i64, &str), i64> = HashMap::new();
    for batch in inputs {
        let (minutes, values) = (times(batch, "minute"), ints(batch, "value"));
        for (row, metric) in texts(batch, "metric").iter().enumerate() {
            match sums.entry((minutes[row], metric.expect("metric is never null"))) {
                Entry::Occupied(mut sum) => *sum.get_mut() = sum.get().saturating_add(values[row]),
                Entry::Vacant(slot) => {
                    slot.insert(values[row]);
                }
            }
        }
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable();
    let row = |((minute, metric), value): ((i64, &str), i64)| UsageRow {
        minute: Timestamp(minute),
        metric: metric.to_owned(),
        value,
    };
    usage_batch(&sums.into_iter().map(row).collect::<Vec<_>>())
}
