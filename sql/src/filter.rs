//! The rows of a table that a token may see. A filter is a condition of its own in the plan, bound to the table's
//! columns, and nothing of the caller's SQL is computed on rows that it hides: a cast that fails, a division by zero
//! would tell what is in them. Nor does it choose what is read, or the counts of what was read would tell.
//! Start at [`bind`] and [`scan`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use datafusion::sql::sqlparser::ast::ExprWithAlias;
use futures_util::StreamExt;

use crate::error::{QueryError, fault, from_datafusion};
use crate::scan::TenantTable;
use crate::{gate, measure, types};

/// The conditions, all of which must hold, over a table's columns.
/// # Errors  A condition that is no condition, or names what is not there.
pub(crate) fn bind(state: &SessionState, schema: &SchemaRef, conditions: &[String]) -> Result<Expr, QueryError> {
    let failed = |e: DataFusionError| from_datafusion(&e, 0, 0);
    let columns = DFSchema::try_from(Arc::clone(schema)).map_err(failed)?;
    let bound = conditions.iter().map(|text| {
        let expr = ExprWithAlias { expr: gate::condition(text)?, alias: None };
        let expr = state.create_logical_expr_from_sql_expr(expr, &columns).map_err(failed)?;
        types::check_casts(&expr).map_err(failed)?;
        let aggregates = expr.exists(|e| Ok(matches!(e, Expr::AggregateFunction(_) | Expr::WindowFunction(_))));
        if aggregates.unwrap_or(true) {
            return Err(QueryError::not_allowed("an aggregate in a row filter", None));
        }
        let physical = state.create_physical_expr(expr.clone(), &columns).map_err(failed)?;
        if physical.data_type(schema).map_err(failed)? != DataType::Boolean {
            return Err(QueryError::sql("a row filter is a condition, true or false", None));
        }
        Ok(expr)
    });
    let bound = bound.collect::<Result<Vec<_>, QueryError>>()?;
    conjunction(bound).ok_or(QueryError::Internal)
}

/// Those columns of a table, of the rows that meet a condition.
/// # Errors  As the table's own scan.
pub(crate) async fn scan(
    table: &TenantTable,
    predicate: &Expr,
    state: &dyn Session,
    wanted: &[usize],
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let mut columns = wanted.to_vec();
    for column in predicate.column_refs() {
        let index = table.def().schema.index_of(&column.name)?;
        if !columns.contains(&index) {
            columns.push(index);
        }
    }
    let input = table.scan(state, &columns, std::slice::from_ref(predicate)).await?;
    let physical = state.create_physical_expr(predicate.clone(), &DFSchema::try_from(input.schema())?)?;
    let filtered = Arc::new(FilterExec::try_new(physical, input)?);
    Ok(Arc::new(CurtainExec::new(filtered, wanted.len(), Arc::default())))
}

/// Gives out the first `width` columns of its input, and lets nothing through in the other direction: conditions,
/// limits and projections of the nodes above stay above.
#[derive(Debug)]
pub(crate) struct CurtainExec {
    input: Arc<dyn ExecutionPlan>,
    width: usize,
    properties: Arc<PlanProperties>,
    given: Arc<Given>,
}

/// What came through.
#[derive(Debug, Default)]
struct Given {
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl CurtainExec {
    fn new(input: Arc<dyn ExecutionPlan>, width: usize, given: Arc<Given>) -> Self {
        let schema = Arc::new(Schema::new(input.schema().fields()[..width].to_vec()));
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            input.properties().partitioning.clone(),
            input.properties().emission_type,
            input.properties().boundedness,
        ));
        Self { input, width, properties, given }
    }

    /// Rows and bytes that came through: all that a caller may know of what was read.
    pub(crate) fn given(&self) -> (u64, u64) {
        (self.given.rows.load(Ordering::Relaxed), self.given.bytes.load(Ordering::Relaxed))
    }
}

/// A condition that can't be computed on a row says which value it met there, and that row may be hidden.
fn covered(error: DataFusionError) -> DataFusionError {
    use datafusion::arrow::error::ArrowError as A;
    let of_a_value = match error.find_root() {
        DataFusionError::Execution(_) => true,
        DataFusionError::ArrowError(inner, _) => matches!(
            inner.as_ref(),
            A::DivideByZero
                | A::CastError(_)
                | A::ParseError(_)
                | A::ArithmeticOverflow(_)
                | A::ComputeError(_)
                | A::InvalidArgumentError(_)
                | A::NotYetImplemented(_)
        ),
        // Limits, files.
        _ => false,
    };
    if of_a_value {
        DataFusionError::Execution("a row filter can't be computed on every row".to_owned())
    } else {
        error
    }
}

impl DisplayAs for CurtainExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "CurtainExec")
    }
}

impl ExecutionPlan for CurtainExec {
    fn name(&self) -> &'static str {
        "CurtainExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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
        let input = children.pop().ok_or_else(|| fault("CurtainExec has one input"))?;
        Ok(Arc::new(Self::new(input, self.width, Arc::clone(&self.given))))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let columns: Vec<usize> = (0..self.width).collect();
        let given = Arc::clone(&self.given);
        let rows = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch.map_err(covered)?.project(&columns)?;
            given.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            given.bytes.fetch_add(measure::bytes(&batch) as u64, Ordering::Relaxed);
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
