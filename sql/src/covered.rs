//! `covered_ms(start, end)`: how long at least one of many stretches of time went on, in milliseconds. An agent who has
//! two conversations at once is busy once. Exact, whatever the order of the rows.

use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit, TimestampMillisecondType};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

/// The function.
pub(crate) fn function() -> AggregateUDF {
    let instant = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let signature = Signature::exact(vec![instant.clone(), instant], Volatility::Immutable);
    AggregateUDF::new_from_impl(Covered { signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Covered {
    signature: Signature,
}

impl AggregateUDFImpl for Covered {
    fn name(&self) -> &'static str {
        "covered_ms"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Int64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "stretches"), list, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        if args.is_distinct {
            return Err(DataFusionError::Plan("covered_ms(DISTINCT …) is not there".to_owned()));
        }
        Ok(Box::new(Stretches::default()))
    }
}

/// The stretches of one group: 16 bytes each, accounted to the tenant's memory.
#[derive(Debug, Default)]
struct Stretches(Vec<(i64, i64)>);

impl Accumulator for Stretches {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let [starts, ends] = [0, 1].map(|place| values[place].as_primitive::<TimestampMillisecondType>());
        let pairs = starts.iter().zip(ends.iter()).filter_map(|(start, end)| Some((start?, end?)));
        self.0.extend(pairs.filter(|(start, end)| start < end));
        Ok(())
    }

    /// A state is a list of starts and ends in turn.
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        for list in states[0].as_list::<i32>().iter().flatten() {
            let ends = list.as_primitive::<Int64Type>().values().chunks_exact(2);
            self.0.extend(ends.map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let ends =
            Int64Array::from_iter_values(std::mem::take(&mut self.0).into_iter().flat_map(|(start, end)| [start, end]));
        let offsets = OffsetBuffer::from_lengths([ends.len()]);
        let field = Arc::new(Field::new_list_field(DataType::Int64, true));
        let list = ListArray::try_new(field, offsets, Arc::new(ends), None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(ScalarValue::Int64(Some(covered(&mut self.0))))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.capacity() * size_of::<(i64, i64)>()
    }
}

/// The length of the union. A sum that no 64 bits hold is cut at what they do.
fn covered(stretches: &mut [(i64, i64)]) -> i64 {
    stretches.sort_unstable();
    let mut until = i64::MIN;
    stretches.iter().fold(0_i64, |sum, &(start, end)| {
        let more = end.saturating_sub(start.max(until)).max(0);
        until = until.max(end);
        sum.saturating_add(more)
    })
}

#[cfg(test)]
mod tests {
    use super::covered;
    use proptest::prelude::*;

    #[test]
    fn what_overlaps_counts_once() {
        assert_eq!(covered(&mut []), 0);
        assert_eq!(covered(&mut [(5, 9), (0, 4)]), 8);
        assert_eq!(covered(&mut [(0, 10), (2, 3), (8, 12), (12, 13)]), 13);
        assert_eq!(covered(&mut [(i64::MIN, i64::MAX)]), i64::MAX);
    }

    proptest! {
        /// As counting every millisecond would.
        #[test]
        fn it_is_the_union(mut stretches in prop::collection::vec((0_i64..60, 1_i64..20), 0..12)) {
            for stretch in &mut stretches {
                stretch.1 += stretch.0;
            }
            let inside = |at: &i64| stretches.iter().any(|(start, end)| start <= at && at < end);
            let counted = (0..80).filter(inside).count();
            prop_assert_eq!(usize::try_from(covered(&mut stretches.clone())).ok(), Some(counted));
        }
    }
}
