//! Functions that can make text longer (`repeat`, `lpad`, `concat`, `||`, `replace`, …), bounded: a memory pool does
//! not see what a function allocates, and nested calls multiply. Each call is estimated before it runs, in slices
//! of rows if need be, and a query has one budget for all it makes. Start at [`bounded`].

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::error::{QueryError, fault};

/// One value: as large as the largest event.
pub const VALUE_BYTES_MAX: usize = 256 * 1024;
/// What all such calls of one query may make in total.
pub const QUERY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// One call on one slice of rows.
const SLICE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a query's text functions have made so far.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    used: AtomicUsize,
}

impl Budget {
    fn spend(&self, bytes: usize) -> DfResult<()> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > QUERY_BYTES_MAX { Err(too_large("in one query", QUERY_BYTES_MAX)) } else { Ok(()) }
    }
}

fn too_large(what: &'static str, limit: usize) -> DataFusionError {
    DataFusionError::External(Box::new(QueryError::TextTooLarge { what, limit }))
}

/// How long a result can get, from the lengths of the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// All arguments after one another.
    Joined,
    /// All arguments after one another, the first between them.
    JoinedBy,
    /// Every byte may become a character of four.
    Translated,
    /// The first argument, n times.
    Repeated,
    /// n characters.
    Padded,
    /// Every match of the second argument becomes the third.
    Replaced,
    /// Every match of a pattern, maybe of nothing, becomes the third.
    Rewritten,
    /// A format of which two bytes may become a long name.
    Formatted,
}

fn growth(name: &str) -> Option<Growth> {
    Some(match name {
        "concat" | "overlay" | "text_concat" => Growth::Joined,
        "concat_ws" => Growth::JoinedBy,
        "translate" => Growth::Translated,
        "repeat" => Growth::Repeated,
        "lpad" | "rpad" => Growth::Padded,
        "replace" => Growth::Replaced,
        "regexp_replace" => Growth::Rewritten,
        "to_char" => Growth::Formatted,
        _ => return None,
    })
}

/// The same function within bounds; `None` for one that is not on the list.
pub(crate) fn bounded(function: Arc<ScalarUDF>, budget: &Arc<Budget>) -> Option<ScalarUDF> {
    let growth = growth(function.name())?;
    Some(ScalarUDF::new_from_impl(Bounded { function, growth, budget: Arc::clone(budget) }))
}

struct Bounded {
    function: Arc<ScalarUDF>,
    growth: Growth,
    budget: Arc<Budget>,
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bounded").field(&self.function.name()).finish()
    }
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
    }
}

/// `simplify` is left at its default: the engine's folding would put the unbounded function back.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.function.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.function.coerce_types(types)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if self.growth == Growth::Padded
            && let Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(n)))) = args.args.get_mut(1)
        {
            // The same to the engine, but that it would allocate by it.
            *n = (*n).max(0);
        }
        let scalars = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { args.number_rows };
        let slices = slices(&estimate(self.growth, &args.args, rows)?)?;
        if slices.len() <= 1 {
            let made = self.function.invoke_with_args(args)?;
            self.budget.spend(bytes_of(&made))?;
            return Ok(made);
        }
        let mut parts: Vec<ArrayRef> = Vec::with_capacity(slices.len());
        for slice in slices {
            let made = self.function.invoke_with_args(sliced(&args, &slice))?;
            self.budget.spend(bytes_of(&made))?;
            parts.push(made.into_array(slice.len())?);
        }
        let refs: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(arrow::compute::concat(&refs)?))
    }
}

fn bytes_of(value: &ColumnarValue) -> usize {
    match value {
        ColumnarValue::Array(array) => array.get_array_memory_size(),
        ColumnarValue::Scalar(scalar) => scalar.size(),
    }
}

fn sliced(args: &ScalarFunctionArgs, rows: &Range<usize>) -> ScalarFunctionArgs {
    let cut = |value: &ColumnarValue| match value {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(rows.start, rows.len())),
        scalar @ ColumnarValue::Scalar(_) => scalar.clone(),
    };
    ScalarFunctionArgs {
        args: args.args.iter().map(cut).collect(),
        arg_fields: args.arg_fields.clone(),
        number_rows: rows.len(),
        return_field: Arc::clone(&args.return_field),
        config_options: Arc::clone(&args.config_options),
    }
}

/// Row ranges whose estimates stay under [`SLICE_BYTES_MAX`].
fn slices(estimates: &[usize]) -> DfResult<Vec<Range<usize>>> {
    let (mut ranges, mut start, mut bytes) = (Vec::new(), 0, 0_usize);
    for (row, estimate) in estimates.iter().enumerate() {
        if *estimate > VALUE_BYTES_MAX {
            return Err(too_large("in one value", VALUE_BYTES_MAX));
        }
        if bytes + estimate > SLICE_BYTES_MAX {
            ranges.push(start..row);
            (start, bytes) = (row, 0);
        }
        bytes += estimate;
    }
    ranges.push(start..estimates.len());
    Ok(ranges)
}

/// An upper bound of each row's result in bytes.
fn estimate(growth: Growth, args: &[ColumnarValue], rows: usize) -> DfResult<Vec<usize>> {
    let texts = args.iter().map(|a| Texts::new(a, rows)).collect::<DfResult<Vec<_>>>()?;
    let count = |row| match args.get(1) {
        Some(n) => integer(n, row),
        None => Ok(0),
    };
    let length = |i: usize, row: usize| texts.get(i).map_or(0, |t| t.len(row));
    (0..rows)
        .map(|row| {
            Ok(match growth {
                Growth::Joined => (0..texts.len()).map(|i| length(i, row)).sum(),
                Growth::JoinedBy => {
                    let all: usize = (0..texts.len()).map(|i| length(i, row)).sum();
                    all + length(0, row).saturating_mul(texts.len())
                }
                Growth::Translated => length(0, row).saturating_mul(4),
                Growth::Repeated => length(0, row).saturating_mul(count(row)?),
                // A character takes up to four bytes.
                Growth::Padded => count(row)?.saturating_mul(4),
                Growth::Replaced => {
                    let grown = length(2, row).saturating_sub(length(1, row));
                    if grown == 0 {
                        length(0, row)
                    } else {
                        length(0, row).saturating_add(texts[0].matches(&texts[1], row).saturating_mul(grown))
                    }
                }
                Growth::Rewritten => {
                    (length(0, row) + 1).saturating_mul(1 + length(2, row)).saturating_add(length(0, row))
                }
                Growth::Formatted => length(1, row).saturating_mul(20),
            })
        })
        .collect()
}

/// The texts of one argument, by row.
enum Texts {
    Array(ArrayRef),
    One(String),
    /// Numbers and the like become short texts.
    Short,
}

impl Texts {
    fn new(value: &ColumnarValue, rows: usize) -> DfResult<Self> {
        let is_text = matches!(value.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        Ok(match value {
            _ if !is_text => Self::Short,
            ColumnarValue::Scalar(scalar) => Self::One(scalar.try_as_str().flatten().unwrap_or_default().to_owned()),
            ColumnarValue::Array(array) if array.len() >= rows => {
                Self::Array(arrow::compute::cast(array, &DataType::Utf8View)?)
            }
            ColumnarValue::Array(_) => return Err(fault("an argument lacks rows")),
        })
    }

    fn get(&self, row: usize) -> &str {
        match self {
            Self::Array(array) if array.is_valid(row) => array.as_string_view().value(row),
            Self::Array(_) | Self::Short => "",
            Self::One(text) => text,
        }
    }

    fn len(&self, row: usize) -> usize {
        match self {
            Self::Short => 48,
            texts => texts.get(row).len(),
        }
    }

    fn matches(&self, other: &Self, row: usize) -> usize {
        match other.get(row) {
            "" => self.get(row).len() + 1,
            from => self.get(row).matches(from).count(),
        }
    }
}

fn integer(value: &ColumnarValue, row: usize) -> DfResult<usize> {
    let n = match value {
        ColumnarValue::Scalar(scalar) => match scalar.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(n) => n,
            _ => None,
        },
        ColumnarValue::Array(array) => {
            let array = arrow::compute::cast(&array.slice(row, 1), &DataType::Int64)?;
            array.is_valid(0).then(|| array.as_primitive::<Int64Type>().value(0))
        }
    };
    Ok(n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0))
}

/// Plans `a || b` as a bounded call: as an operator it would run outside any function.
#[derive(Debug)]
pub(crate) struct ConcatPlanner {
    concat: Arc<ScalarUDF>,
}

impl ConcatPlanner {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        let plain = Arc::new(ScalarUDF::new_from_impl(TextConcat::new()));
        let concat = bounded(Arc::clone(&plain), budget).unwrap_or_else(|| plain.as_ref().clone());
        Self { concat: Arc::new(concat) }
    }
}

impl ExprPlanner for ConcatPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> DfResult<PlannerResult<RawBinaryExpr>> {
        if expr.op != BinaryOperator::StringConcat {
            return Ok(PlannerResult::Original(expr));
        }
        // `a || b || c` becomes one call of three: as calls within calls, planning would be quadratic.
        let mut args = match expr.left {
            Expr::ScalarFunction(call) if call.func == self.concat => call.args,
            left => {
                let is_list = |e: &Expr| e.get_type(schema).is_ok_and(|t| t.is_nested());
                if is_list(&left) || is_list(&expr.right) {
                    return Ok(PlannerResult::Original(RawBinaryExpr { left, ..expr }));
                }
                vec![left]
            }
        };
        args.push(expr.right);
        let call = ScalarFunction::new_udf(Arc::clone(&self.concat), args);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

/// A chain of `||` as one function of all its texts: NULL when one is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextConcat {
    signature: Signature,
}

impl TextConcat {
    fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for TextConcat {
    fn name(&self) -> &'static str {
        "text_concat"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(vec![DataType::Utf8; types.len()])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let texts: Vec<_> = arrays.iter().map(|a| a.as_string::<i32>()).collect();
        let rows = arrays.first().map_or(0, |a| a.len());
        let bytes = texts.iter().map(|t| t.value_data().len()).sum();
        let mut joined = StringBuilder::with_capacity(rows, bytes);
        let mut buffer = String::new();
        for row in 0..rows {
            if texts.iter().any(|t| t.is_null(row)) {
                joined.append_null();
                continue;
            }
            buffer.clear();
            texts.iter().for_each(|t| buffer.push_str(t.value(row)));
            joined.append_value(&buffer);
        }
        let array: ArrayRef = Arc::new(joined.finish());
        if args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_))) {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}
