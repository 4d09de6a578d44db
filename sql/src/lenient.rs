//! Which calls of a plan may fail for a row, put so that they don't: functions ([`row_errors`](crate::row_errors)), casts of times,
//! and `+` and `-` of times. The rule runs when the engine has found all types, so that casts of its own are among them. Casts
//! of texts and numbers stay errors, but for a text that is a time which its type can't hold. Start at [`LenientRows`].

use std::sync::Arc;

use arrow::array::Array;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Cast, ColumnarValue, Expr, ExprSchemable as _, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, TryCast, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{self, Column, Literal};

use crate::error::fault;
use crate::functions;
use crate::row_errors::{by_rows, lenient};

/// The rule, the last of the analyzer's.
#[derive(Debug)]
pub(crate) struct LenientRows;

impl AnalyzerRule for LenientRows {
    fn name(&self) -> &'static str {
        "lenient_rows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        plan.transform_up_with_subqueries(node).data()
    }
}

fn node(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    if plan.expressions().is_empty() {
        // What is below may be NULL now.
        return plan.recompute_schema().map(Transformed::yes);
    }
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let changed = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(expr.transform_up(|part| part_of(part, &schema))?.update_data(|expr| name.restore(expr)))
    })?;
    changed.map_data(LogicalPlan::recompute_schema)
}

fn part_of(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    match expr {
        Expr::ScalarFunction(call) if functions::takes_what_it_gets(&call.func) => {
            let func = if functions::may_fail(&call.func) { Arc::new(lenient(&call.func)) } else { call.func };
            let args = call.args.into_iter().map(|arg| argument(arg, schema)).collect::<DfResult<_>>()?;
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
        }
        Expr::Cast(cast) => {
            let from = cast.expr.get_type(schema)?;
            Ok(lenient_cast(cast, &from))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if may_fail(&left, op, &right, schema)? => {
            Ok(Transformed::yes(row_operator(*left, op, *right)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether a row's value can make an operator fail: sums of times, and patterns that rows have.
fn may_fail(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> DfResult<bool> {
    use Operator::{Minus, Plus, RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    match op {
        Plus | Minus => Ok(is_time(left, schema)? || is_time(right, schema)?),
        RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch => Ok(!matches!(right, Expr::Literal(..))),
        // Of numbers they stay errors; comparing fails for no value.
        _ => Ok(false),
    }
}

/// `a - b - c` becomes one call of three: as calls within calls, planning would be quadratic.
fn row_operator(left: Expr, op: Operator, right: Expr) -> Expr {
    let (mut ops, mut args) = match left {
        Expr::ScalarFunction(call) => match call.func.inner().downcast_ref::<RowOperator>() {
            Some(before) => (before.ops.clone(), call.args),
            None => (Vec::new(), vec![Expr::ScalarFunction(call)]),
        },
        left => (Vec::new(), vec![left]),
    };
    ops.push(op);
    args.push(right);
    let signature = Signature::any(args.len(), Volatility::Immutable);
    ScalarUDF::new_from_impl(RowOperator { ops, signature }).call(args)
}

fn is_time(expr: &Expr, schema: &DFSchema) -> DfResult<bool> {
    match expr {
        // Of times already.
        Expr::ScalarFunction(call) if call.func.inner().is::<RowOperator>() => Ok(true),
        // One of times would be a call by now. A chain of a thousand is asked about at each of its links.
        Expr::BinaryExpr(BinaryExpr { op: Operator::Plus | Operator::Minus, .. }) => Ok(false),
        other => Ok(other.get_type(schema)?.is_temporal()),
    }
}

/// An argument as its function takes it: what the row's value can't be made into is NULL, as what can't be computed.
fn argument(arg: Expr, schema: &DFSchema) -> DfResult<Expr> {
    match arg {
        Expr::Cast(cast) if !matches!(*cast.expr, Expr::Literal(..)) => {
            let from = cast.expr.get_type(schema)?;
            Ok(try_cast(cast, &from))
        }
        Expr::ScalarFunction(mut call) if !call.args.iter().any(|arg| matches!(arg, Expr::Literal(..))) => {
            match call.func.inner().downcast_ref::<TextToTime>() {
                Some(cast) => {
                    let field = Arc::clone(&cast.to);
                    let text = call.args.pop().map(Box::new);
                    text.map(|expr| Expr::TryCast(TryCast { expr, field })).ok_or_else(|| fault("a cast of nothing"))
                }
                None => Ok(Expr::ScalarFunction(call)),
            }
        }
        other => Ok(other),
    }
}

fn try_cast(cast: Cast, from: &DataType) -> Expr {
    let to = cast.field.data_type();
    // The kernel's own look at each value passes over those that no calendar has.
    let shown = from.is_temporal() && !matches!(to, DataType::Timestamp(..)) && !to.is_numeric();
    if shown {
        return row_cast(cast);
    }
    Expr::TryCast(TryCast { expr: cast.expr, field: cast.field })
}

fn row_cast(cast: Cast) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::new_from_impl(RowCast { to: cast.field, signature }).call(vec![*cast.expr])
}

/// A cast that gives NULL for a time which the type can't hold.
pub(crate) fn lenient_cast(cast: Cast, from: &DataType) -> Transformed<Expr> {
    let to = cast.field.data_type();
    if from == to {
        return Transformed::no(Expr::Cast(cast));
    }
    if from.is_temporal() {
        return Transformed::yes(try_cast(cast, from));
    }
    let is_text = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if is_text && matches!(to, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
        let to = Arc::clone(&cast.field);
        let signature = Signature::any(1, Volatility::Immutable);
        let call = ScalarUDF::new_from_impl(TextToTime { to, signature });
        return Transformed::yes(call.call(vec![*cast.expr]));
    }
    Transformed::no(Expr::Cast(cast))
}

/// Operators between operands, from the left, computed as the engine does.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RowOperator {
    ops: Vec<Operator>,
    signature: Signature,
}

impl ScalarUDFImpl for RowOperator {
    fn name(&self) -> &'static str {
        "row_operator"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        let (first, others) = types.split_first().ok_or_else(|| fault("an operator of nothing"))?;
        let step = |left: DataType, (op, right): (&Operator, &DataType)| {
            BinaryTypeCoercer::new(&left, op, right).get_result_type()
        };
        self.ops.iter().zip(others).try_fold(first.clone(), step)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        by_rows(args, &|args| {
            let (first, others) = args.args.split_first().ok_or_else(|| fault("an operator of nothing"))?;
            let step = |left: ColumnarValue, (op, right): (&Operator, &ColumnarValue)| {
                apply(left, *op, right.clone(), args.number_rows)
            };
            self.ops.iter().zip(others).try_fold(first.clone(), step)
        })
    }
}

fn apply(left: ColumnarValue, op: Operator, right: ColumnarValue, rows: usize) -> DfResult<ColumnarValue> {
    let operands = [("left", left), ("right", right)];
    let fields: Vec<Field> = operands.iter().map(|(name, value)| Field::new(*name, value.data_type(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let operand = |place: usize| -> Arc<dyn PhysicalExpr> {
        match &operands[place] {
            (name, ColumnarValue::Array(_)) => Arc::new(Column::new(name, place)),
            (_, ColumnarValue::Scalar(value)) => Arc::new(Literal::new(value.clone())),
        }
    };
    let result = expressions::binary(operand(0), op, operand(1), &schema)?;
    let columns = operands.iter().map(|(_, value)| value.to_array(rows)).collect::<DfResult<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    result.evaluate(&RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// A cast that is NULL where it fails.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RowCast {
    to: FieldRef,
    signature: Signature,
}

impl ScalarUDFImpl for RowCast {
    fn name(&self) -> &'static str {
        "row_cast"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.to.data_type().clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        by_rows(args, &|args| args.args[0].cast_to(self.to.data_type(), None))
    }
}

/// A text as a time: NULL for a time that the type can't hold, an error for a text that is none.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextToTime {
    to: FieldRef,
    signature: Signature,
}

impl ScalarUDFImpl for TextToTime {
    fn name(&self) -> &'static str {
        "text_to_time"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.to.data_type().clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let texts = args.args[0].to_array(if scalar { 1 } else { args.number_rows })?;
        let cast = |safe: bool, to: &DataType| {
            let options = CastOptions { safe, ..CastOptions::default() };
            cast_with_options(&texts, to, &options)
        };
        let to = self.to.data_type();
        let strict = cast(false, to);
        let times = match strict {
            Ok(times) => times,
            Err(error) => {
                let (times, seconds) = (cast(true, to)?, cast(true, &DataType::Timestamp(TimeUnit::Second, None))?);
                let is_none = |row: usize| texts.is_valid(row) && times.is_null(row) && seconds.is_null(row);
                if (0..times.len()).any(is_none) {
                    return Err(error.into());
                }
                times
            }
        };
        Ok(if scalar { ScalarValue::try_from_array(&times, 0)?.into() } else { ColumnarValue::Array(times) })
    }
}
