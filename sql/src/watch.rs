//! Keeps a query stoppable: joins may compute for minutes between two batches, and a task that never pauses
//! cannot be aborted. And keeps a long one out of the way of messages. Start at [`Watch`].
//!
//! Every node that can give out more than it takes in pauses as the scans do ([`Watch::pauses`]). A join's condition, which
//! may reject pair after pair without giving anything out, asks whether anybody still waits ([`Watch::conditions`]). In the
//! long lane both let threads of other classes go first ([`give_way`](crate::give_way)), as every node does after a batch.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};

use crate::give_way::{GiveWayExec, give_way};
use crate::lanes::Lane;
use crate::once::OnceExec;

/// Whether the caller of one query still waits.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    over: Arc<AtomicBool>,
    lane: Lane,
}

/// Held by the caller's side; dropping it tells the query to stop.
pub(crate) struct Waiting(Watch);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Watch {
    /// Of a query that runs in that lane.
    pub(crate) fn new(lane: Lane) -> Self {
        Self { over: Arc::default(), lane }
    }

    pub(crate) fn waiting(&self) -> Waiting {
        Waiting(self.clone())
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Wraps the conditions of all joins. To be called after the optimizer: it could not see through the wrapping.
    pub(crate) fn conditions<'p>(&self, plan: &'p LogicalPlan) -> DfResult<Cow<'p, LogicalPlan>> {
        let mut asked = false;
        plan.apply_with_subqueries(|node| {
            asked |= matches!(node, LogicalPlan::Join(join) if join.filter.is_some());
            Ok(if asked { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !asked {
            return Ok(Cow::Borrowed(plan));
        }
        let asks = Arc::new(ScalarUDF::new_from_impl(StillWaiting::new(self.clone())));
        let wrapped = plan.clone().transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(mut join) if join.filter.is_some() => {
                let call = |filter| Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&asks), vec![filter]));
                join.filter = join.filter.take().map(call);
                Ok(Transformed::yes(LogicalPlan::Join(join)))
            }
            other => Ok(Transformed::no(other)),
        });
        Ok(Cow::Owned(wrapped.data()?))
    }

    /// Makes every node that multiplies rows pause now and then, in the long lane every node give way, and keeps joins from
    /// running an input twice.
    pub(crate) fn pauses(&self, plan: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let multiplies = node.name().ends_with("JoinExec") || node.name() == "UnnestExec";
            let mut pausing = if node.name() == "NestedLoopJoinExec" { left_once(node)? } else { node };
            if multiplies {
                pausing = Arc::new(CooperativeExec::new(pausing));
            }
            if self.lane == Lane::Long {
                pausing = Arc::new(GiveWayExec::new(pausing));
            }
            let changed = multiplies || self.lane == Lane::Long;
            Ok(if changed { Transformed::yes(pausing) } else { Transformed::no(pausing) })
        })
        .data()
    }
}

/// The join, its left input run once.
fn left_once(join: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    let mut children: Vec<_> = join.children().into_iter().cloned().collect();
    if let Some(left) = children.first_mut() {
        *left = Arc::new(OnceExec::new(Arc::clone(left)));
    }
    join.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// Returns its argument, as long as somebody waits.
#[derive(Debug)]
struct StillWaiting {
    watch: Watch,
    signature: Signature,
}

impl StillWaiting {
    fn new(watch: Watch) -> Self {
        Self { watch, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl PartialEq for StillWaiting {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.watch.over, &other.watch.over)
    }
}

impl Eq for StillWaiting {}

impl Hash for StillWaiting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.watch.over).hash(state);
    }
}

impl ScalarUDFImpl for StillWaiting {
    fn name(&self) -> &'static str {
        "still_waiting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::clone(&args.arg_fields[0]))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if self.watch.is_over() {
            return Err(DataFusionError::Execution("nobody waits for this query".to_owned()));
        }
        if self.watch.lane == Lane::Long {
            give_way();
        }
        Ok(args.args.swap_remove(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::physical_plan::collect;
    use datafusion::prelude::SessionContext;

    /// The answer, and how many nodes give way and don't.
    #[expect(clippy::disallowed_methods, reason = "the tests' own statements")]
    async fn run(sql: &str, lane: Lane) -> (String, usize, usize) {
        let (context, watch) = (SessionContext::new(), Watch::new(lane));
        let state = context.state();
        let plan = state.create_logical_plan(sql).await.expect("a statement");
        let plan = watch.conditions(&state.optimize(&plan).expect("optimized")).expect("wrapped").into_owned();
        let physical = state.query_planner().create_physical_plan(&plan, &state).await.expect("a plan");
        let physical = watch.pauses(physical).expect("wrapped");
        let (mut giving_way, mut others) = (0, 0);
        physical
            .apply(|node| {
                *(if node.is::<GiveWayExec>() { &mut giving_way } else { &mut others }) += 1;
                Ok(TreeNodeRecursion::Continue)
            })
            .expect("walked");
        let batches = collect(physical, context.task_ctx()).await.expect("an answer");
        (pretty_format_batches(&batches).expect("text").to_string(), giving_way, others)
    }

    /// Joins, sorts with a limit and aggregates, which look at what is below them.
    #[tokio::test]
    async fn long_queries_give_way_and_answer_the_same() {
        for sql in [
            "SELECT value FROM range(100000) ORDER BY value % 7, value DESC LIMIT 3",
            "SELECT value % 3 AS k, count(*) AS n FROM range(100000) GROUP BY 1 ORDER BY 1",
            "SELECT count(*) FROM range(500) a JOIN range(500) b ON a.value * b.value > 70000",
            "SELECT a.value FROM range(5000) a JOIN range(5000) b ON a.value = 2 * b.value ORDER BY 1 DESC LIMIT 2",
            "SELECT a.value FROM range(3) a CROSS JOIN range(2) b ORDER BY 1",
        ] {
            let (quick, none, _) = run(sql, Lane::Quick).await;
            let (long, giving_way, others) = run(sql, Lane::Long).await;
            assert_eq!((long, none), (quick, 0), "{sql}");
            // A join's left side that runs once, and what pauses as scans do, stand beside the node that they are for.
            assert!(giving_way > 1 && giving_way <= others && others <= giving_way + 2, "{sql}: {giving_way} {others}");
        }
    }
}
