//! What a type may be: how deep, how wide one of fixed size, and of which zone. Comparing, printing, encoding and dropping a
//! type recurse in it, and a type of a type comes from `INT[][]`, from nested aggregates, and from texts such as
//! `'List(List(…))'` ([`bound`]). A value of `INT[99999][99999]` takes its forty gigabytes even as NULL. Nothing here recurses.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TryCast,
};

use crate::error::QueryError;
use crate::lenient::lenient_cast;

/// Levels of a type: `INT` has one, `INT[]` two. Rows of tables have two at most.
pub const TYPE_DEPTH_MAX: usize = 32;
/// Values in one value of a type of fixed size, or its bytes: `INT[3][3]` has nine. A NULL takes them all, in every row.
pub const FIXED_MAX: usize = 1_000;

fn too_deep(found: usize) -> DataFusionError {
    let what = "levels of a type";
    DataFusionError::External(Box::new(QueryError::SqlTooLarge { what, found, limit: TYPE_DEPTH_MAX }))
}

fn too_wide(found: usize) -> DataFusionError {
    let what = "values or bytes in one value of its type";
    DataFusionError::External(Box::new(QueryError::SqlTooLarge { what, found, limit: FIXED_MAX }))
}

/// Refuses columns whose types are too deep or too wide.
/// # Errors  `SqlTooLarge`.
pub(crate) fn check<'a>(fields: impl IntoIterator<Item = &'a Arc<Field>>) -> DfResult<()> {
    fields.into_iter().try_for_each(|field| check_type(field.data_type()))
}

/// Refuses an expression that casts to such a type on its way.
/// # Errors  `SqlTooLarge`.
pub(crate) fn check_casts(expr: &Expr) -> DfResult<()> {
    expr.apply(|part| {
        if let Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) = part {
            check_type(field.data_type())?;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(drop)
}

fn check_type(kind: &DataType) -> DfResult<()> {
    let mut left: Vec<(&DataType, usize, usize)> = vec![(kind, 1, 1)];
    while let Some((kind, depth, width)) = left.pop() {
        if depth > TYPE_DEPTH_MAX {
            return Err(too_deep(depth));
        }
        if let DataType::Timestamp(_, Some(zone)) = kind {
            check_zone(zone)?;
        }
        let width = match kind {
            DataType::FixedSizeList(_, size) | DataType::FixedSizeBinary(size) => {
                width.saturating_mul(usize::try_from(*size).unwrap_or(usize::MAX).max(1))
            }
            // All others take what is in them.
            _ => width,
        };
        if width > FIXED_MAX {
            return Err(too_wide(width));
        }
        let mut inside = |kind| left.push((kind, depth + 1, width));
        match kind {
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::FixedSizeList(item, _)
            | DataType::Map(item, _) => inside(item.data_type()),
            DataType::Struct(fields) => fields.iter().for_each(|field| inside(field.data_type())),
            DataType::Union(fields, _) => fields.iter().for_each(|(_, field)| inside(field.data_type())),
            DataType::Dictionary(key, value) => [key, value].into_iter().for_each(|kind| inside(kind)),
            DataType::RunEndEncoded(ends, values) => [ends, values].into_iter().for_each(|f| inside(f.data_type())),
            // All others hold no type.
            _ => {}
        }
    }
    Ok(())
}

/// A wall clock of a zone that isn't one can't be read, in no format.
fn check_zone(zone: &str) -> DfResult<()> {
    if zone.parse::<Tz>().is_ok() {
        return Ok(());
    }
    Err(DataFusionError::Execution(format!("'{zone}' is not a time zone")))
}

/// The same of a type's text, before it is read: each bracket may be a level.
fn check_text(text: &str) -> DfResult<()> {
    let mut depth = 1_usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' | b'<' => depth += 1,
            b')' | b']' | b'}' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > TYPE_DEPTH_MAX {
            return Err(too_deep(depth));
        }
    }
    Ok(())
}

/// Puts a bound around a function that reads a type from a text.
pub(crate) fn bound(function: &mut Arc<ScalarUDF>) {
    if ["arrow_cast", "arrow_try_cast"].contains(&function.name()) {
        *function = Arc::new(ScalarUDF::new_from_impl(OfText(Arc::clone(function))));
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfText(Arc<ScalarUDF>);

impl ScalarUDFImpl for OfText {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.0.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        for text in args.scalar_arguments.iter().flatten().filter_map(|value| value.try_as_str().flatten()) {
            check_text(text)?;
        }
        let field = self.0.return_field_from_args(args)?;
        check_type(field.data_type())?;
        Ok(field)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        for arg in &args {
            if let Expr::Literal(value, _) = arg
                && let Some(text) = value.try_as_str().flatten()
            {
                check_text(text)?;
            }
        }
        // It becomes a cast, of types that were checked.
        Ok(match self.0.simplify(args, context)? {
            ExprSimplifyResult::Simplified(Expr::Cast(cast)) => {
                let from = context.get_data_type(&cast.expr)?;
                ExprSimplifyResult::Simplified(lenient_cast(cast, &from).data)
            }
            other => other,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        self.0.invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Arc<Field> {
        let inner = Arc::new(Field::new_list_field(DataType::Int64, true));
        (1..levels).fold(inner, |item, _| Arc::new(Field::new_list_field(DataType::List(item), true)))
    }

    #[test]
    fn a_type_is_as_deep_as_its_levels() {
        assert!(check([&nested(TYPE_DEPTH_MAX)]).is_ok());
        assert!(check([&nested(1), &nested(TYPE_DEPTH_MAX + 1)]).is_err());
        let beside: Vec<_> = (0..100).map(|_| nested(TYPE_DEPTH_MAX - 1)).collect();
        assert!(check([&Arc::new(Field::new("many", DataType::Struct(beside.into()), true))]).is_ok());
    }

    #[test]
    fn a_type_of_fixed_size_is_as_wide_as_its_sizes_together() {
        let sized = |sizes: &[i32]| {
            let inner = Arc::new(Field::new_list_field(DataType::Int64, true));
            let of = |item, size: &i32| Arc::new(Field::new_list_field(DataType::FixedSizeList(item, *size), true));
            sizes.iter().fold(inner, of)
        };
        assert!(check([&sized(&[10, 10, 10])]).is_ok());
        for wide in [&[1_001][..], &[i32::MAX], &[-1], &[40, 40], &[3; 20]] {
            assert!(check([&sized(wide)]).is_err(), "{wide:?}");
        }
        assert!(check_type(&DataType::FixedSizeBinary(1_001)).is_err());
    }

    /// What a text says is no deeper than its brackets.
    #[test]
    fn a_text_is_as_deep_as_its_type() {
        let text = |levels: usize| format!("{}Int64{}", "List(".repeat(levels - 1), ")".repeat(levels - 1));
        assert!(check_text(&text(TYPE_DEPTH_MAX)).is_ok());
        assert!(check_text(&text(TYPE_DEPTH_MAX + 1)).is_err());
        assert!(text(TYPE_DEPTH_MAX).parse::<DataType>().is_ok());
    }
}
