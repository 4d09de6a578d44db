//! What aggregates take beside their rows: numbers and texts by which they allocate before a memory pool sees it. Start at [`check`].

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::Expr;

use crate::error::QueryError;

/// Centroids of an approximate percentile: each group allocates so many. Ten times the default.
const CENTROIDS_MAX: i64 = 1_000;
/// Bytes between the texts that `string_agg` joins: once a row, and a batch is joined before its memory counts.
const DELIMITER_BYTES_MAX: usize = 1_000;

/// Refuses an expression with an aggregate that is told to allocate a lot.
/// # Errors  `NotAllowed`.
pub(crate) fn check(expr: &Expr) -> DfResult<()> {
    expr.apply(|part| {
        let (name, args) = match part {
            Expr::AggregateFunction(call) => (call.func.name(), &call.params.args),
            Expr::WindowFunction(call) => (call.fun.name(), &call.params.args),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        let (argument, expected) = match name {
            "approx_percentile_cont" => (args.get(2), "a number of centroids up to 1000"),
            "approx_percentile_cont_with_weight" => (args.get(3), "a number of centroids up to 1000"),
            "string_agg" => (args.get(1), "a delimiter of up to 1000 bytes, written out"),
            // The others keep what comes in, which a pool accounts.
            _ => (None, ""),
        };
        if argument.is_some_and(|argument| !is_small(argument)) {
            let message = format!("this argument of {name}; {expected} is");
            return Err(DataFusionError::External(Box::new(QueryError::not_allowed(message, None))));
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(drop)
}

/// A constant as it's written: what would be computed isn't known yet.
fn is_small(argument: &Expr) -> bool {
    let Expr::Literal(value, _) = argument else { return false };
    match value {
        ScalarValue::Int64(Some(n)) => *n <= CENTROIDS_MAX,
        ScalarValue::UInt64(Some(_)) => false,
        value => value.try_as_str().flatten().is_none_or(|text| text.len() <= DELIMITER_BYTES_MAX),
    }
}
