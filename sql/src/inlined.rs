//! How large expressions get once those below are put in the place of the columns that name them. The optimizer does that
//! when it moves a condition down, so a chain of `SELECT a || a AS a FROM (…)` under one condition would be one of any size. The sum
//! is known before: a column weighs what its expression does. Start at [`check`].

use std::collections::HashMap;

use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::common::{Column, DFSchema};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::QueryError;

/// Parts of one expression: operators and calls, those of the columns that it names counted each time. One that a person
/// or a tool writes, over views of views, has some hundreds.
const PARTS_MAX: usize = 20_000;

/// Refuses a plan in which one expression would be too large.
/// # Errors  `SqlTooLarge`.
pub(crate) fn check(plan: &LogicalPlan) -> DfResult<()> {
    plan.apply_with_subqueries(|node| {
        // Each query is looked at once, from its top; what it asks of the query around it weighs one.
        if let LogicalPlan::Subquery(query) = node {
            query.subquery.visit(&mut Weights::default())?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    plan.visit(&mut Weights::default()).map(drop)
}

/// What the columns of the nodes weigh whose parent is still to come.
#[derive(Default)]
struct Weights(Vec<Vec<usize>>);

impl<'n> TreeNodeVisitor<'n> for Weights {
    type Node = LogicalPlan;

    fn f_up(&mut self, node: &'n LogicalPlan) -> DfResult<TreeNodeRecursion> {
        let inputs = node.inputs();
        let below: Vec<Vec<usize>> = self.0.split_off(self.0.len().saturating_sub(inputs.len()));
        let mut known = HashMap::new();
        for (input, weights) in inputs.iter().zip(&below) {
            known.extend(names(input.schema()).zip(weights.iter().copied()));
        }
        let mut made = Vec::new();
        node.apply_expressions(|expr| {
            let weight = weight(expr, &known)?;
            if weight > PARTS_MAX {
                let what = "parts of an expression, those of the columns in it counted each time";
                let refused = QueryError::SqlTooLarge { what, found: weight, limit: PARTS_MAX };
                return Err(DataFusionError::External(Box::new(refused)));
            }
            made.push(weight);
            Ok(TreeNodeRecursion::Continue)
        })?;
        self.0.push(of_columns(node, &below, &made));
        Ok(TreeNodeRecursion::Continue)
    }
}

/// A schema's columns by all that an expression may call them.
fn names(schema: &DFSchema) -> impl Iterator<Item = Column> + '_ {
    schema.iter().map(|(qualifier, field)| Column::new(qualifier.cloned(), field.name()))
}

/// What a node's columns weigh, from those of its inputs and from its expressions.
fn of_columns(node: &LogicalPlan, below: &[Vec<usize>], made: &[usize]) -> Vec<usize> {
    let columns = node.schema().fields().len();
    let passed: Vec<usize> = below.concat();
    let heaviest = passed.iter().chain(made).copied().max().unwrap_or(1);
    let of = match node {
        LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => made.to_vec(),
        LogicalPlan::Window(_) => passed.into_iter().chain(made.iter().copied()).collect(),
        LogicalPlan::Union(_) => {
            (0..columns).map(|at| below.iter().filter_map(|w| w.get(at)).copied().max().unwrap_or(1)).collect()
        }
        // Columns go through as they are, or the node makes them of nothing.
        _ => passed,
    };
    // Where they don't line up, as after a join that keeps one side, each may be the heaviest.
    if of.len() == columns { of } else { vec![heaviest; columns] }
}

/// Values in a list weigh nothing: they are put nowhere.
fn weight(expr: &Expr, known: &HashMap<Column, usize>) -> DfResult<usize> {
    let mut sum = 0_usize;
    expr.apply(|part| {
        let more = match part {
            Expr::Column(column) => known.get(column).copied().unwrap_or(1),
            Expr::Literal(..) | Expr::Alias(_) => 0,
            _ => 1,
        };
        sum = sum.saturating_add(more);
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(sum.max(1))
}
