//! A plan node that runs each part of its input once. A nested-loop join that meets the memory limit would run its
//! left input a second time to spill it, and a repartitioning below it panics at that; with this node between
//! them, the query ends as one that needs too much memory.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::error::fault;

/// Passes its input through.
#[derive(Debug)]
pub(crate) struct OnceExec {
    input: Arc<dyn ExecutionPlan>,
    /// By partition.
    ran: Vec<AtomicBool>,
}

impl OnceExec {
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let partitions = input.properties().partitioning.partition_count();
        Self { input, ran: (0..partitions).map(|_| AtomicBool::new(false)).collect() }
    }
}

impl DisplayAs for OnceExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "OnceExec")
    }
}

impl ExecutionPlan for OnceExec {
    fn name(&self) -> &'static str {
        "OnceExec"
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
        let input = children.pop().ok_or_else(|| fault("OnceExec has one input"))?;
        Ok(Arc::new(Self::new(input)))
    }

    /// # Errors  `ResourcesExhausted` the second time.
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        match self.ran.get(partition) {
            Some(ran) if !ran.swap(true, Ordering::Relaxed) => self.input.execute(partition, context),
            _ => Err(DataFusionError::ResourcesExhausted("a join's left side does not fit into memory".to_owned())),
        }
    }
}
