//! `#[udf]` on functions of every accepted type, and the function that jobs use.
#![expect(clippy::unwrap_used, reason = "tests")]

use arroyo_udf_plugin::udf;
use datafusion::arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::common::cast::{as_int64_array, as_string_array};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use pipelines::readable_id;
use std::collections::HashSet;
use std::sync::Arc;

#[udf]
fn describe(name: &str, count: i64, share: Option<f64>) -> String {
    match share {
        Some(share) => format!("{name} {count} {share}"),
        None => format!("{name} {count}"),
    }
}

#[udf]
fn length(text: Option<&str>) -> Option<i64> {
    text.filter(|text| !text.is_empty()).map(|text| text.len() as i64)
}

#[udf]
fn half(number: i64) -> f64 {
    assert!(number >= 0, "negative");
    number as f64 / 2.0
}

fn call(udf: &ScalarUDF, args: Vec<ColumnarValue>, number_rows: usize) -> Result<ColumnarValue> {
    let types: Vec<DataType> = args.iter().map(ColumnarValue::data_type).collect();
    udf.invoke_with_args(ScalarFunctionArgs {
        arg_fields: types.iter().map(|ty| Arc::new(Field::new("a", ty.clone(), true))).collect(),
        return_field: Arc::new(Field::new("r", udf.return_type(&types)?, true)),
        args,
        number_rows,
        config_options: Arc::new(ConfigOptions::default()),
    })
}

fn column(array: impl Array + 'static) -> ColumnarValue {
    ColumnarValue::Array(Arc::new(array) as ArrayRef)
}

/// NULL in a plain argument gives NULL without a call; an `Option` sees it.
#[test]
fn nulls_reach_options_only() {
    let args = vec![
        column(StringArray::from(vec![Some("a"), None, Some("c")])),
        ColumnarValue::Scalar(ScalarValue::Int64(Some(3))),
        column(Float64Array::from(vec![Some(0.5), Some(1.0), None])),
    ];
    let result = call(&describe_udf(), args, 3).unwrap().into_array(3).unwrap();
    let texts: Vec<_> = as_string_array(&result).unwrap().iter().map(|text| text.map(str::to_owned)).collect();
    assert_eq!(texts, [Some("a 3 0.5".to_owned()), None, Some("c 3".to_owned())]);

    let result = call(&length_udf(), vec![column(StringArray::from(vec![Some("né"), Some(""), None]))], 3).unwrap();
    let lengths: Vec<_> = as_int64_array(&result.into_array(3).unwrap()).unwrap().iter().collect();
    assert_eq!(lengths, [Some(3), None, None]);
}

#[test]
fn constants_give_a_constant() {
    let result = call(&half_udf(), vec![ColumnarValue::Scalar(ScalarValue::Int64(Some(3)))], 9).unwrap();
    assert!(matches!(result, ColumnarValue::Scalar(ScalarValue::Float64(Some(half))) if half == 1.5));
}

#[test]
fn a_panic_is_an_error_that_names_the_function() {
    let error = call(&half_udf(), vec![column(Int64Array::from(vec![2, -1]))], 2).unwrap_err();
    assert!(error.to_string().contains("the function half panicked"), "{error}");
}

/// The function is kept as it is written, for Rust callers.
#[test]
fn the_function_itself_stays() {
    assert_eq!(half(4), 2.0);
}

/// Readable ids are stored and said aloud: they never change.
#[test]
fn readable_ids_are_stable_and_spread() {
    let ids = ["", "0190a5c0-0000-7000-8000-0000000000b1", "0190a5c0-0000-7000-8000-0000000000b2", "é\"\\🦀"];
    let names: Vec<_> = ids.iter().map(|id| readable_id(id)).collect();
    assert_eq!(names, ["misty-turtle-824", "sage-turtle-127", "patient-iguana-901", "lively-bobcat-343"]);
    let all: Vec<_> = (0..10_000).map(|n| readable_id(&format!("0190a5c0-0000-7000-8000-{n:012x}"))).collect();
    let bytes = all.iter().flat_map(|name| name.bytes());
    let sum = bytes.fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    assert_eq!(
        sum, 10_210_003_939_879_576_027,
        "no word was changed, moved or taken out of those that ids choose from"
    );
    let all: HashSet<_> = all.into_iter().collect();
    assert!(all.len() > 9_985, "{} of 10000 differ", all.len());
    let words: HashSet<_> = all.iter().filter_map(|name| name.split_once('-')).map(|(word, _)| word).collect();
    assert_eq!(words.len(), 128, "every adjective is chosen");
    let animals: HashSet<_> = all.iter().filter_map(|name| name.split('-').nth(1)).collect();
    assert_eq!(animals.len(), 128, "every animal is chosen");
}
