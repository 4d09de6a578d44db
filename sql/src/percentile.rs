//! `percentile_cont`, exact: linear interpolation between order statistics, as `docs/METRICS.md` defines it.
//! The engine's own function cuts the interpolation weight to six decimals (0.399999… for 0.4), which shows in
//! seconds once gaps are long. Only the accumulation is replaced; everything else is the engine's.

use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::functions_aggregate::percentile_cont::percentile_cont_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature};

/// The replacement, under the same name and alias.
pub(crate) fn exact() -> AggregateUDF {
    AggregateUDF::new_from_impl(PercentileCont { engine: percentile_cont_udaf() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PercentileCont {
    engine: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for PercentileCont {
    fn name(&self) -> &'static str {
        "percentile_cont"
    }

    fn aliases(&self) -> &[String] {
        self.engine.aliases()
    }

    fn signature(&self) -> &Signature {
        self.engine.signature()
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Float64)
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "values"), list, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        if args.is_distinct {
            return Err(DataFusionError::Plan("percentile_cont(DISTINCT …) is not there".to_owned()));
        }
        let share = share(&args)?;
        let descending = args.order_bys.first().is_some_and(|o| o.options.descending);
        Ok(Box::new(Values { values: Vec::new(), share: if descending { 1.0 - share } else { share } }))
    }
}

/// The second argument: a constant between 0 and 1.
fn share(args: &AccumulatorArgs) -> DfResult<f64> {
    let bad = || DataFusionError::Plan("percentile_cont needs a constant between 0 and 1".to_owned());
    let empty = RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
    let value = args.exprs.get(1).ok_or_else(bad)?.evaluate(&empty).map_err(|_| bad())?;
    match value {
        ColumnarValue::Scalar(ScalarValue::Float64(Some(share))) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(bad()),
    }
}

/// All values of one group: 8 bytes each, accounted to the tenant's memory.
#[derive(Debug)]
struct Values {
    values: Vec<f64>,
    share: f64,
}

impl Values {
    fn extend(&mut self, array: &dyn Array) -> DfResult<()> {
        let array = arrow::compute::cast(array, &DataType::Float64)?;
        self.values.extend(array.as_primitive::<Float64Type>().iter().flatten());
        Ok(())
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.extend(&values[0])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let lists = states[0].as_list::<i32>();
        lists.iter().flatten().try_for_each(|list| self.extend(&list))
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let values = Float64Array::from(std::mem::take(&mut self.values));
        let offsets = OffsetBuffer::from_lengths([values.len()]);
        let field = Arc::new(Field::new_list_field(DataType::Float64, true));
        let list = ListArray::try_new(field, offsets, Arc::new(values), None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(ScalarValue::Float64(percentile(&mut self.values, self.share)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<f64>()
    }
}

/// Interpolates at `share * (n - 1)` between the sorted values; `None` when there are none.
fn percentile(values: &mut [f64], share: f64) -> Option<f64> {
    let place = share * (values.len().checked_sub(1)? as f64);
    let (below, weight) = (place.floor(), place.fract());
    let (_, low, above) = values.select_nth_unstable_by(below as usize, f64::total_cmp);
    let low = *low;
    if weight == 0.0 {
        return Some(low);
    }
    let high = above.iter().copied().min_by(f64::total_cmp)?;
    Some(low + (high - low) * weight)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    /// 0.9 of 387 values lies at 347.4: the weight must be 0.4, not 0.399999.
    #[test]
    fn the_weight_is_not_cut() {
        let mut values: Vec<f64> = (0..387).map(|i| f64::from(i) * 60.0).collect();
        let p90 = percentile(&mut values, 0.9).unwrap_or_default();
        assert!((p90 - 20_844.0).abs() < 1e-6, "{p90}");
    }

    #[test]
    fn ends_and_emptiness() {
        assert_eq!(percentile(&mut [], 0.5), None);
        assert_eq!(percentile(&mut [3.0], 0.99), Some(3.0));
        assert_eq!(percentile(&mut [4.0, 1.0], 0.0), Some(1.0));
        assert_eq!(percentile(&mut [4.0, 1.0], 1.0), Some(4.0));
        assert_eq!(percentile(&mut [4.0, 1.0], 0.5), Some(2.5));
    }
}
