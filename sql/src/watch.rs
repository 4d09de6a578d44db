//! Keeps a query stoppable: joins may compute for minutes between two batches, and a task that never pauses
//! cannot be aborted. Start at [`Watch`].
//!
//! Two measures. Every node that can give out more than it takes in pauses as the scans do ([`cooperative`]). And a
//! join's condition, which may reject pair after pair without giving anything out, asks whether anybody still
//! waits ([`Watch::conditions`]).

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

use crate::once::OnceExec;

/// Whether the caller of one query still waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Arc<AtomicBool>);

/// Held by the caller's side; dropping it tells the query to stop.
pub(crate) struct Waiting(Watch);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Watch {
    pub(crate) fn waiting(&self) -> Waiting {
        Waiting(self.clone())
    }

    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
}

/// Makes every node that multiplies rows pause now and then, and keeps joins from running an input twice.
pub(crate) fn cooperative(plan: Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|mut node| {
        if node.name() == "NestedLoopJoinExec" {
            let mut children: Vec<_> = node.children().into_iter().cloned().collect();
            if let Some(left) = children.first_mut() {
                *left = Arc::new(OnceExec::new(Arc::clone(left)));
            }
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            node = node.replace_children(children, options)?;
        }
        if node.name().ends_with("JoinExec") || node.name() == "UnnestExec" {
            let pausing: Arc<dyn ExecutionPlan> = Arc::new(CooperativeExec::new(node));
            return Ok(Transformed::yes(pausing));
        }
        Ok(Transformed::no(node))
    })
    .data()
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
        Arc::ptr_eq(&self.watch.0, &other.watch.0)
    }
}

impl Eq for StillWaiting {}

impl Hash for StillWaiting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.watch.0).hash(state);
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
        Ok(args.args.swap_remove(0))
    }
}
