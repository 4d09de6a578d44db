//! A job's SQL, compiled once to DataFusion expressions and evaluated on batches of events.
//!
//! DataFusion parses, plans and optimizes. Of the optimized plan only projections, filters and unions over the events
//! are taken, and their expressions are evaluated here, batch by batch: no operator keeps anything between two batches
//! (a plan with one that would is refused), nothing is polled, and each row keeps the place of its event. Start at
//! [`Compiled::new`].

use crate::job::SOURCE;
use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray, UInt32Array};
use datafusion::arrow::compute::{concat, concat_batches, filter, filter_record_batch, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{DFSchema, plan_err};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::prelude::SessionContext;
use futures_util::FutureExt as _;
use std::sync::Arc;

/// Rows with the place of their event in the batch they came from.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The rows, in the order of their events.
    pub(crate) batch: RecordBatch,
    /// For each row the index of its event; ascending.
    pub(crate) places: UInt32Array,
}

/// A job's SQL, ready to run. Holds no state, so batches may come in any number and order.
#[derive(Debug)]
pub(crate) struct Compiled {
    root: Node,
    schema: SchemaRef,
}

#[derive(Debug)]
enum Node {
    Source,
    Filter { input: Box<Node>, predicate: Arc<dyn PhysicalExpr> },
    Project { input: Box<Node>, expressions: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef },
    Union { inputs: Vec<Node>, schema: SchemaRef },
}

impl Compiled {
    /// Plans and optimizes `sql` over the table `events`, with the JSON functions and the UDFs.
    ///
    /// # Errors
    /// DataFusion's, with the position; or the name of an operator that is neither projection, filter nor union.
    pub(crate) fn new(sql: &str) -> Result<Self> {
        let state = SessionStateBuilder::new().with_default_features().build();
        let mut context = SessionContext::new_with_state(state);
        datafusion_functions_json::register_all(&mut context)?;
        context.register_udf(crate::readable_id::readable_id_udf());
        context.register_table(SOURCE, Arc::new(EmptyTable::new(source_schema())))?;
        let state = context.state();
        // The catalog is in memory, so that planning has nothing to wait for.
        let plan = state.create_logical_plan(sql).now_or_never();
        let plan = plan.ok_or_else(|| DataFusionError::Plan("planning has to wait for a catalog".to_owned()))??;
        let plan = state.optimize(&plan)?;
        let schema = arrow_schema(plan.schema());
        Ok(Self { root: Node::of(&plan)?, schema })
    }

    /// Names and types of the rows' columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows for a batch of events' JSON, in the order of the events.
    ///
    /// # Errors
    /// DataFusion's; it doesn't say which event it was.
    pub(crate) fn run<'a>(&self, bodies: impl ExactSizeIterator<Item = &'a str>) -> Result<Rows> {
        let count = u32::try_from(bodies.len()).map_err(|error| DataFusionError::External(error.into()))?;
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(bodies));
        let source = Rows {
            batch: RecordBatch::try_new(source_schema(), vec![column])?,
            places: UInt32Array::from_iter_values(0..count),
        };
        in_event_order(self.root.run(source)?)
    }
}

fn source_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, false)]))
}

fn arrow_schema(schema: &DFSchema) -> SchemaRef {
    Arc::clone(schema.inner())
}

impl Node {
    fn of(plan: &LogicalPlan) -> Result<Self> {
        match plan {
            LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => Ok(Self::Source),
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Filter(filter) => Ok(Self::Filter {
                predicate: physical(&filter.predicate, filter.input.schema())?,
                input: Box::new(Self::of(&filter.input)?),
            }),
            LogicalPlan::Projection(projection) => Ok(Self::Project {
                expressions: projection
                    .expr
                    .iter()
                    .map(|expression| physical(expression, projection.input.schema()))
                    .collect::<Result<_>>()?,
                input: Box::new(Self::of(&projection.input)?),
                schema: arrow_schema(&projection.schema),
            }),
            LogicalPlan::Union(union) => Ok(Self::Union {
                inputs: union.inputs.iter().map(|input| Self::of(input)).collect::<Result<_>>()?,
                schema: arrow_schema(&union.schema),
            }),
            other => plan_err!("a job only selects and filters, its plan has '{}'", other.display()),
        }
    }

    fn run(&self, source: Rows) -> Result<Rows> {
        match self {
            Self::Source => Ok(source),
            Self::Filter { input, predicate } => {
                let rows = input.run(source)?;
                let kept = evaluate(predicate, &rows.batch)?;
                keep(&rows, as_boolean_array(&kept)?)
            }
            Self::Project { input, expressions, schema } => {
                let Rows { batch, places } = input.run(source)?;
                let columns = expressions.iter().map(|e| evaluate(e, &batch)).collect::<Result<_>>()?;
                Ok(Rows { batch: RecordBatch::try_new(Arc::clone(schema), columns)?, places })
            }
            Self::Union { inputs, schema } => {
                let copies = inputs.iter().map(|input| {
                    let copy = Rows { batch: source.batch.clone(), places: source.places.clone() };
                    let rows = input.run(copy)?;
                    let batch = RecordBatch::try_new(Arc::clone(schema), rows.batch.columns().to_vec())?;
                    Ok(Rows { batch, places: rows.places })
                });
                let parts = copies.collect::<Result<Vec<_>>>()?;
                let places = concat(&parts.iter().map(|rows| &rows.places as &dyn Array).collect::<Vec<_>>())?;
                Ok(Rows {
                    batch: concat_batches(schema, parts.iter().map(|rows| &rows.batch))?,
                    places: datafusion::common::cast::as_uint32_array(&places)?.clone(),
                })
            }
        }
    }
}

fn physical(expression: &Expr, input: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    create_physical_expr(expression, input, &ExecutionProps::new(), &PhysicalPlanningContext::default())
}

fn evaluate(expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
    expression.evaluate(batch)?.into_array_of_size(batch.num_rows())
}

/// The rows for which `kept` is true; NULL counts as false, as in SQL.
fn keep(rows: &Rows, kept: &BooleanArray) -> Result<Rows> {
    let places = filter(&rows.places, kept)?;
    Ok(Rows {
        batch: filter_record_batch(&rows.batch, kept)?,
        places: datafusion::common::cast::as_uint32_array(&places)?.clone(),
    })
}

/// A union gives its branches' rows one branch after the other; this puts them back in the order of their events, and
/// keeps the branches' order among the rows of one event.
fn in_event_order(rows: Rows) -> Result<Rows> {
    if rows.places.values().is_sorted() {
        return Ok(rows);
    }
    let mut order: Vec<u32> = (0..rows.places.len() as u32).collect();
    order.sort_by_key(|&row| rows.places.value(row as usize));
    let places = UInt32Array::from_iter_values(order.iter().map(|&row| rows.places.value(row as usize)));
    Ok(Rows { batch: take_record_batch(&rows.batch, &UInt32Array::from(order))?, places })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(sql: &str, events: &[&str]) -> (Vec<u32>, Vec<Option<String>>) {
        let rows = Compiled::new(sql).expect("compiles").run(events.iter().copied()).expect("runs");
        let column = datafusion::common::cast::as_string_array(rows.batch.column(0)).expect("text").clone();
        (rows.places.values().to_vec(), column.iter().map(|text| text.map(str::to_owned)).collect())
    }

    #[test]
    fn a_union_gives_rows_in_event_order_and_keeps_their_places() {
        let branch = |key: &str, filter: &str| {
            format!("SELECT json_get_str(value, '{key}') AS a FROM events WHERE json_get_int(value, 'n') {filter}")
        };
        let sql = format!("{} UNION ALL {}", branch("x", "<> 2"), branch("y", "> 1"));
        let events = [r#"{"n":1,"x":"x1"}"#, r#"{"n":2,"y":"y2"}"#, r#"{"n":3,"x":"x3","y":"y\n3"}"#, r#"{"n":null}"#];
        let text = |values: [&str; 4]| values.map(|value| Some(value.to_owned())).to_vec();
        assert_eq!(rows(&sql, &events), (vec![0, 1, 2, 2], text(["x1", "y2", "x3", "y\n3"])));
    }

    #[test]
    fn no_events_give_no_rows_and_constants_fill_every_row() {
        assert_eq!(rows("SELECT 'a' AS a FROM events", &[]).0, [] as [u32; 0]);
        assert_eq!(rows("SELECT 'a' AS a FROM events", &["{}", "{}"]).1.len(), 2);
    }

    #[test]
    fn a_plan_that_would_keep_state_is_refused_by_name() {
        for (sql, named) in [
            ("SELECT count(*) AS a FROM events", "Aggregate"),
            ("SELECT value AS a FROM events LIMIT 1", "Limit"),
            ("SELECT value AS a FROM events ORDER BY 1", "Sort"),
            ("SELECT e.value AS a FROM events AS e JOIN events AS f ON e.value = f.value", "Join"),
        ] {
            let error = Compiled::new(sql).expect_err(sql).to_string();
            assert!(error.contains(named), "{sql}: {error}");
        }
    }
}
