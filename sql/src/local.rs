//! `to_local_time`, faster: the engine's own function looks the zone's offset up for every row. Rows of a batch lie close
//! together and share it. What isn't a column in a named zone is the engine's to answer.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute;
use arrow::datatypes::{
    ArrowTimestampType, DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use chrono_tz::Tz;
use datafusion::error::Result as DfResult;
use datafusion::functions::datetime::to_local_time as engine;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

use crate::zone;

/// A look-up for each half day between the first and the last row is worth it for so many rows.
const ROWS_A_LOOKUP: i64 = 4;
const LOOKUP_MS: i64 = 12 * 3_600_000;

/// The replacement, under the same name.
pub(crate) fn fast() -> ScalarUDF {
    ScalarUDF::new_from_impl(ToLocalTime { engine: engine() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToLocalTime {
    engine: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for ToLocalTime {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn signature(&self) -> &Signature {
        self.engine.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.engine.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if let [ColumnarValue::Array(times)] = args.args.as_slice()
            && let DataType::Timestamp(unit, Some(zone)) = times.data_type()
            && let Some(zone) = zone::parse_zone(zone)
        {
            let local = match unit {
                TimeUnit::Nanosecond => local::<TimestampNanosecondType>(times.as_primitive(), zone, 1_000_000),
                TimeUnit::Microsecond => local::<TimestampMicrosecondType>(times.as_primitive(), zone, 1_000),
                TimeUnit::Millisecond => local::<TimestampMillisecondType>(times.as_primitive(), zone, 1),
                TimeUnit::Second => None,
            };
            if let Some(local) = local {
                return Ok(ColumnarValue::Array(local));
            }
        }
        self.engine.invoke_with_args(args)
    }
}

/// Each instant, of so many units a millisecond, as the zone's wall clock shows it; `None` where rows lie too far apart for
/// the few that they are.
fn local<T: ArrowTimestampType>(times: &PrimitiveArray<T>, zone: Tz, a_ms: i64) -> Option<ArrayRef> {
    let (first, last) = (compute::min(times)?.div_euclid(a_ms), compute::max(times)?.div_euclid(a_ms));
    let rows = i64::try_from(times.len()).ok()?;
    if last.checked_sub(first)? / LOOKUP_MS > rows / ROWS_A_LOOKUP {
        return None;
    }
    let mut stretches = zone::steady(zone, first, last.checked_add(1)?);
    for (start, _, offset) in &mut stretches {
        (*start, *offset) = (start.checked_mul(a_ms)?, offset.checked_mul(a_ms)?);
    }
    let shifted: PrimitiveArray<T> = match stretches.as_slice() {
        [(_, _, offset)] => times.unary(|at| at.wrapping_add(*offset)),
        stretches => times.unary(|at| {
            // What a null hides may lie outside.
            let next = stretches.partition_point(|(start, _, _)| *start <= at);
            at.wrapping_add(next.checked_sub(1).map_or(0, |last| stretches[last].2))
        }),
    };
    Some(Arc::new(shifted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;
    use datafusion::common::config::ConfigOptions;
    use proptest::prelude::*;

    fn call(function: &ScalarUDF, times: ArrayRef) -> ArrayRef {
        let rows = times.len();
        let arg_fields = vec![Arc::new(Field::new("at", times.data_type().clone(), true))];
        let return_type = function.return_type(&[times.data_type().clone()]).expect("a type");
        let args = ScalarFunctionArgs {
            args: vec![ColumnarValue::Array(times)],
            arg_fields,
            number_rows: rows,
            return_field: Arc::new(Field::new("local", return_type, true)),
            config_options: Arc::new(ConfigOptions::default()),
        };
        function.invoke_with_args(args).expect("an answer").into_array(rows).expect("a column")
    }

    proptest! {
        /// Over clock changes, half-hour zones, days that were skipped, and nulls.
        #[test]
        fn it_answers_as_the_engine(
            zone in prop::sample::select(vec![
                "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "UTC", "+02:00",
            ]),
            from in 0_i64..2_000_000_000,
            gaps in prop::collection::vec((0_i64..90_000_000, any::<bool>()), 1..300),
        ) {
            let mut at = from * 1_000;
            let times: PrimitiveArray<TimestampMillisecondType> = gaps
                .iter()
                .map(|(gap, there)| {
                    at += gap;
                    there.then_some(at)
                })
                .collect();
            for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
                let zoned = DataType::Timestamp(unit, Some(zone.into()));
                let times = compute::cast(&times.clone().with_timezone(zone), &zoned).expect("fewer or more digits");
                prop_assert_eq!(&call(&fast(), Arc::clone(&times)), &call(&engine(), times));
            }
        }

        /// What reports ask for isn't left to the engine: a month of a batch's rows, as `AT TIME ZONE` makes them.
        #[test]
        fn a_month_is_answered_here(rows in 1_000_i64..4_096) {
            let month: PrimitiveArray<TimestampNanosecondType> =
                (0..rows).map(|row| Some(1_743_000_000_000_000_000 + row * (2_592_000_000_000_000 / rows))).collect();
            let local = local(&month, Tz::Europe__Berlin, 1_000_000);
            let whole: ArrayRef = Arc::new(month.with_timezone("Europe/Berlin"));
            prop_assert_eq!(local, Some(call(&engine(), whole)));
        }
    }
}
