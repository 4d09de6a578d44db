//! Constant times that nanoseconds can't hold: `TIMESTAMP '9999-12-31'` is one of milliseconds, as tables have them. The engine
//! reads such texts as nanoseconds, from 1677 to 2262, and compares columns with texts in them. The rule runs before the engine
//! looks for types, so that what is compared with the constant stays in milliseconds too. Start at [`WideTimes`].

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable as _, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

/// The rule, the first of the analyzer's.
#[derive(Debug)]
pub(crate) struct WideTimes;

impl AnalyzerRule for WideTimes {
    fn name(&self) -> &'static str {
        "wide_times"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        plan.transform_up_with_subqueries(node).data()
    }
}

fn node(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let changed = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(expr.transform_up(|part| Ok(part_of(part, &schema)))?.update_data(|expr| name.restore(expr)))
    })?;
    if changed.transformed { changed.map_data(LogicalPlan::recompute_schema) } else { Ok(changed) }
}

fn part_of(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::Cast(cast) => match wide(&cast.expr, cast.field.data_type()) {
            Some(time) => Transformed::yes(time),
            None => Transformed::no(Expr::Cast(cast)),
        },
        Expr::BinaryExpr(mut compared) if compares(compared.op) => {
            let BinaryExpr { left, right, .. } = &mut compared;
            let changed = beside(right, left, schema) || beside(left, right, schema);
            Transformed::new_transformed(Expr::BinaryExpr(compared), changed)
        }
        Expr::Between(mut between) => {
            let Between { expr, low, high, .. } = &mut between;
            let changed = beside(low, expr, schema);
            let changed = beside(high, expr, schema) || changed;
            Transformed::new_transformed(Expr::Between(between), changed)
        }
        Expr::InList(mut list) => {
            let InList { expr, list: items, .. } = &mut list;
            let mut changed = false;
            for item in items {
                changed |= beside(item, expr, schema);
            }
            Transformed::new_transformed(Expr::InList(list), changed)
        }
        other => Transformed::no(other),
    }
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Makes a text that stands beside a time one of milliseconds, if nanoseconds can't hold it; whether it did.
fn beside(text: &mut Expr, time: &Expr, schema: &DFSchema) -> bool {
    // Looked at first: a type is asked for of a whole tree.
    let any_zone = DataType::Timestamp(TimeUnit::Millisecond, None);
    if matches!(time, Expr::Literal(..)) || wide(text, &any_zone).is_none() {
        return false;
    }
    let Ok(kind @ DataType::Timestamp(..)) = time.get_type(schema) else { return false };
    match wide(text, &kind) {
        Some(wide) => {
            *text = wide;
            true
        }
        None => false,
    }
}

/// A constant text as a time of milliseconds in the zone of `kind`, if only these hold it.
fn wide(text: &Expr, kind: &DataType) -> Option<Expr> {
    let (Expr::Literal(value, _), DataType::Timestamp(_, zone)) = (text, kind) else { return None };
    value.try_as_str().flatten()?;
    if value.cast_to(&DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())).is_ok() {
        return None;
    }
    let time = value.cast_to(&DataType::Timestamp(TimeUnit::Millisecond, zone.clone())).ok()?;
    matches!(time, ScalarValue::TimestampMillisecond(Some(_), _)).then(|| Expr::Literal(time, None))
}
