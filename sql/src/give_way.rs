//! What runs in the system's idle class still gets its turn: a three-hundredth of a core, in slices that end only at the
//! clock's tick, milliseconds later. A message that waits for a core at that moment waits for the tick. A thread that
//! yields gives that turn back, so long queries yield after each batch of each node ([`GiveWayExec`]). The quick
//! lane's don't: beside programs that keep all cores busy they took twice as long with it (docs/BENCHMARKS.md).

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures_util::StreamExt as _;

use crate::error::fault;

/// Lets the threads go first that wait for this core.
pub(crate) fn give_way() {
    std::thread::yield_now();
}

/// Passes its input through, and gives way after each batch.
#[derive(Debug)]
pub(crate) struct GiveWayExec {
    input: Arc<dyn ExecutionPlan>,
}

impl GiveWayExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input }
    }
}

impl DisplayAs for GiveWayExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "GiveWayExec")
    }
}

impl ExecutionPlan for GiveWayExec {
    fn name(&self) -> &'static str {
        "GiveWayExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let input = children.pop().ok_or_else(|| fault("GiveWayExec has one input"))?;
        Ok(Arc::new(Self::new(input)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let batches = self.input.execute(partition, context)?.inspect(|_| give_way());
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
