//! What window functions may be asked for: what the engine would collect a frame at a time, and what it panics at. Start at [`check`].

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};

use crate::error::QueryError;

/// Aggregates that keep all values of their frame: one frame a row, so quadratic in memory or time.
const COLLECTORS: [&str; 6] =
    ["array_agg", "string_agg", "median", "percentile_cont", "approx_percentile_cont", "approx_median"];
/// Functions that take the value of a row.
const OF_A_VALUE: [&str; 5] = ["first_value", "lag", "last_value", "lead", "nth_value"];
/// Rows or groups between a row and the end of its frame: adding two of them overflows nothing.
const FRAME_REACH_MAX: u64 = 1 << 62;

/// Refuses a window expression that the engine would not survive, or would only with too much memory.
/// # Errors  `NotAllowed`, `Sql`.
pub(crate) fn check(expr: &Expr) -> DfResult<()> {
    expr.apply(|part| {
        if let Expr::WindowFunction(call) = part {
            check_call(call).map_err(|refused| DataFusionError::External(Box::new(refused)))?;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(drop)
}

fn check_call(call: &WindowFunction) -> Result<(), QueryError> {
    let name = call.fun.name();
    match &call.fun {
        WindowFunctionDefinition::AggregateUDF(_) if COLLECTORS.contains(&name) => {
            return Err(QueryError::not_allowed("an aggregate that keeps its values, OVER a window", None));
        }
        _ if OF_A_VALUE.contains(&name) && call.params.args.is_empty() => {
            return Err(QueryError::sql(format!("{name} takes an argument"), None));
        }
        WindowFunctionDefinition::AggregateUDF(_) | WindowFunctionDefinition::WindowUDF(_) => {}
    }
    check_frame(&call.params.window_frame)
}

fn check_frame(frame: &WindowFrame) -> Result<(), QueryError> {
    // The offsets of RANGE are values of the column that it is over.
    let counts = matches!(frame.units, WindowFrameUnits::Rows | WindowFrameUnits::Groups);
    let far = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(ScalarValue::UInt64(Some(n)))
        | WindowFrameBound::Following(ScalarValue::UInt64(Some(n))) => *n > FRAME_REACH_MAX,
        WindowFrameBound::Preceding(_) | WindowFrameBound::Following(_) | WindowFrameBound::CurrentRow => false,
    };
    if counts && (far(&frame.start_bound) || far(&frame.end_bound)) {
        let message = format!("a window's frame ends after {FRAME_REACH_MAX} rows or groups, or is UNBOUNDED");
        return Err(QueryError::sql(message, None));
    }
    Ok(())
}
