//! A row that a function can't compute is NULL, and the rest of the report is there: a date of the year 9999 that no
//! nanoseconds hold, a month 13, the absolute value of -2⁶³. What fails for any row, as a unit that there is not, stays an error.
//!
//! The batch is computed as ever. Only when that fails, the call is tried with values that every function takes; if it fails with
//! these too, the error is the statement's. Else the batch is halved until what fails is one row: n rows that all fail take 2 n
//! calls, one among good ones as many as halves. Start at [`lenient`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use crate::error::is_foreign;

/// How long the rows of one batch may take one by one; nothing stops a query within a batch. Past it the error is answered.
const ROWS_TIME_MAX: Duration = Duration::from_secs(1);

/// The same function, NULL where it can't compute a row.
pub(crate) fn lenient(function: &Arc<ScalarUDF>) -> ScalarUDF {
    ScalarUDF::new_from_impl(Lenient(Arc::clone(function)))
}

/// Whether it is such a function already.
pub(crate) fn is_lenient(function: &ScalarUDF) -> bool {
    function.inner().is::<Lenient>()
}

/// What is computed of rows: a function, or an operator.
pub(crate) fn by_rows(
    args: ScalarFunctionArgs,
    call: &dyn Fn(ScalarFunctionArgs) -> DfResult<ColumnarValue>,
) -> DfResult<ColumnarValue> {
    let batch = call(cut(&args, 0, args.number_rows));
    let Err(error) = batch else { return batch };
    if !is_of_rows(&error) || call(harmless(&args)).is_err() {
        return Err(error);
    }
    if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_type())?));
    }
    let mut rows = Rows { args: &args, call, until: Instant::now() + ROWS_TIME_MAX, parts: Vec::new() };
    rows.halve(0, args.number_rows, Some(error))?;
    let parts: Vec<&dyn Array> = rows.parts.iter().map(AsRef::as_ref).collect();
    Ok(ColumnarValue::Array(arrow::compute::concat(&parts)?))
}

/// Whether a value can be the reason. Memory, disk and limits of ours are not.
fn is_of_rows(error: &DataFusionError) -> bool {
    use arrow::error::ArrowError as A;
    match error.find_root() {
        DataFusionError::Execution(_) => true,
        DataFusionError::ArrowError(inner, _) => matches!(
            inner.as_ref(),
            A::CastError(_)
                | A::ParseError(_)
                | A::ArithmeticOverflow(_)
                | A::ComputeError(_)
                | A::DivideByZero
                | A::InvalidArgumentError(_)
        ),
        // Of patterns.
        DataFusionError::External(inner) => is_foreign(inner.as_ref()),
        // The statement's, the engine's, or ours.
        _ => false,
    }
}

/// Rows `from` to `to` of a call.
fn cut(args: &ScalarFunctionArgs, from: usize, to: usize) -> ScalarFunctionArgs {
    let cut = |value: &ColumnarValue| match value {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, to - from)),
        scalar @ ColumnarValue::Scalar(_) => scalar.clone(),
    };
    with(args, args.args.iter().map(cut).collect(), to - from)
}

fn with(args: &ScalarFunctionArgs, values: Vec<ColumnarValue>, number_rows: usize) -> ScalarFunctionArgs {
    ScalarFunctionArgs {
        args: values,
        arg_fields: args.arg_fields.clone(),
        number_rows,
        return_field: Arc::clone(&args.return_field),
        config_options: Arc::clone(&args.config_options),
    }
}

/// The call with one row that is harmless, its constants kept. Of constants alone the times are replaced, else the numbers,
/// else the first: what is left says how to compute.
fn harmless(args: &ScalarFunctionArgs) -> ScalarFunctionArgs {
    let columns = args.args.iter().any(|arg| matches!(arg, ColumnarValue::Array(_)));
    let any = |is: fn(&DataType) -> bool| args.args.iter().any(|arg| is(&arg.data_type()));
    let replaced = |place: usize, arg: &ColumnarValue| match arg {
        ColumnarValue::Array(_) => true,
        ColumnarValue::Scalar(_) if columns => false,
        ColumnarValue::Scalar(_) if any(is_time) => is_time(&arg.data_type()),
        ColumnarValue::Scalar(_) if any(DataType::is_numeric) => arg.data_type().is_numeric(),
        ColumnarValue::Scalar(_) => place == 0,
    };
    let value = |(place, arg): (usize, &ColumnarValue)| {
        if !replaced(place, arg) {
            return arg.clone();
        }
        let value = harmless_value(&arg.data_type());
        match (arg, value) {
            (ColumnarValue::Array(_), Some(value)) => {
                value.to_array().map_or_else(|_| arg.clone(), ColumnarValue::Array)
            }
            (ColumnarValue::Array(array), None) => ColumnarValue::Array(new_null_array(array.data_type(), 1)),
            (ColumnarValue::Scalar(_), Some(value)) => ColumnarValue::Scalar(value),
            (ColumnarValue::Scalar(old), None) => {
                ScalarValue::try_from(old.data_type()).map_or_else(|_| arg.clone(), ColumnarValue::Scalar)
            }
        }
    };
    with(args, args.args.iter().enumerate().map(value).collect(), 1)
}

fn is_time(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

/// Of a type: a moment of 2001, or one; `None` where NULL has to do.
fn harmless_value(kind: &DataType) -> Option<ScalarValue> {
    const MOMENT_S: i64 = 1_000_000_000;
    match kind {
        DataType::Timestamp(unit, zone) => {
            let zone = zone.clone();
            Some(match unit {
                TimeUnit::Second => ScalarValue::TimestampSecond(Some(MOMENT_S), zone),
                TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(MOMENT_S * 1_000), zone),
                TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(MOMENT_S * 1_000_000), zone),
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(MOMENT_S * 1_000_000_000), zone),
            })
        }
        DataType::Date32 => Some(ScalarValue::Date32(Some(11_574))),
        DataType::Date64 => Some(ScalarValue::Date64(Some(11_574 * 86_400_000))),
        kind if kind.is_numeric() => ScalarValue::new_one(kind).ok(),
        _ => None,
    }
}

/// The rows of a call that failed, so far.
struct Rows<'a> {
    args: &'a ScalarFunctionArgs,
    call: &'a dyn Fn(ScalarFunctionArgs) -> DfResult<ColumnarValue>,
    until: Instant,
    parts: Vec<ArrayRef>,
}

impl Rows<'_> {
    /// Computes rows `from` to `to`, which failed with an error if there is one. As deep as a batch can be halved.
    fn halve(&mut self, from: usize, to: usize, failed: Option<DataFusionError>) -> DfResult<()> {
        let error = match failed {
            Some(error) => error,
            None => match (self.call)(cut(self.args, from, to)) {
                Ok(value) => {
                    self.parts.push(value.into_array(to - from)?);
                    return Ok(());
                }
                Err(error) => error,
            },
        };
        if !is_of_rows(&error) || Instant::now() > self.until {
            return Err(error);
        }
        if to - from == 1 {
            self.parts.push(new_null_array(self.args.return_type(), 1));
            return Ok(());
        }
        let middle = from + (to - from) / 2;
        self.halve(from, middle, None)?;
        self.halve(middle, to, None)
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Lenient(Arc<ScalarUDF>);

/// What says how results are ordered is left at its default: NULL is between none of them.
impl ScalarUDFImpl for Lenient {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        self.0.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.0.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let field = self.0.return_field_from_args(args)?;
        Ok(Arc::new(field.as_ref().clone().with_nullable(true)))
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.0.coerce_types(types)
    }

    fn is_strict(&self) -> bool {
        self.0.is_strict()
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        // As an operator it would fail for a row's pattern again.
        if self.name() == "regexp_like" && !matches!(args.get(1), Some(Expr::Literal(..))) {
            return Ok(ExprSimplifyResult::Original(args));
        }
        self.0.simplify(args, context)
    }

    fn preimage(&self, args: &[Expr], value: &Expr, context: &SimplifyContext) -> DfResult<PreimageResult> {
        self.0.preimage(args, value, context)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        by_rows(args, &|args| self.0.invoke_with_args(args))
    }
}
