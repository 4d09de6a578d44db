//! `to_local_time`, faster: the engine's own function looks the zone's offset up for every row. Rows of a batch lie close
//! together and share it. What isn't a column of milliseconds in a named zone is the engine's to answer.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute;
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};
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
            && let DataType::Timestamp(TimeUnit::Millisecond, Some(zone)) = times.data_type()
            && let Some(zone) = zone::parse_zone(zone)
            && let Some(local) = local(times.as_primitive(), zone)
        {
            return Ok(ColumnarValue::Array(local));
        }
        self.engine.invoke_with_args(args)
    }
}

/// Each instant as the zone's wall clock shows it; `None` where rows lie too far apart for the few that they are.
fn local(times: &PrimitiveArray<TimestampMillisecondType>, zone: Tz) -> Option<ArrayRef> {
    let (first, last) = (compute::min(times)?, compute::max(times)?);
    let rows = i64::try_from(times.len()).ok()?;
    if last.checked_sub(first)? / LOOKUP_MS > rows / ROWS_A_LOOKUP {
        return None;
    }
    let stretches = zone::steady(zone, first, last.checked_add(1)?);
    let shifted: PrimitiveArray<TimestampMillisecondType> = match stretches.as_slice() {
        [(_, _, offset_ms)] => times.unary(|at| at.wrapping_add(*offset_ms)),
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
            let times: ArrayRef = Arc::new(times.with_timezone(zone));
            prop_assert_eq!(&call(&fast(), Arc::clone(&times)), &call(&engine(), times));
        }
    }
}
