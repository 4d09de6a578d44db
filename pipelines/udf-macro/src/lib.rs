//! `#[udf]` for the embedded runner: keeps the function and adds its DataFusion form, `<name>_udf()`.
//!
//! A file in `../udfs` is compiled twice: by Arroyo with the `udf` of its `arroyo-udf-plugin`, here with this one under
//! the same name. So [`signature`] accepts nothing that Arroyo refuses. Start at [`udf`].

mod signature;

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use signature::{Signature, SqlType, Value};
use syn::ItemFn;

/// Generates `pub fn <name>_udf() -> ScalarUDF` beside the function.
///
/// As in Arroyo, a NULL in an argument that isn't an `Option` gives NULL without a call. A panic becomes an error of the
/// query instead of unwinding through the engine. The caller's crate must depend on `datafusion`.
#[proc_macro_attribute]
pub fn udf(_options: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    match syn::parse::<ItemFn>(item).and_then(|function| expand(&function)) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.to_compile_error().into(),
    }
}

fn expand(function: &ItemFn) -> syn::Result<TokenStream> {
    let signature = Signature::of(function)?;
    let name = &function.sig.ident;
    let text = name.to_string();
    let constructor = format_ident!("{}_udf", name);
    let doc = format!("[`{text}`] as a scalar function of DataFusion, for jobs.");
    let failed = format!("the function {text} panicked");
    let argument_types: Vec<_> = signature.arguments.iter().map(|value| value.sql.data_type()).collect();
    let result_type = signature.result.sql.data_type();
    let body = rows(name, &signature);
    Ok(quote! {
        #function

        #[doc = #doc]
        pub fn #constructor() -> ::datafusion::logical_expr::ScalarUDF {
            use ::datafusion::arrow::array::{Array, ArrayRef, Float64Builder, Int64Builder, StringBuilder};
            use ::datafusion::arrow::datatypes::DataType;
            use ::datafusion::common::cast::{as_float64_array, as_int64_array, as_string_array};
            use ::datafusion::error::{DataFusionError, Result};

            fn evaluate(arrays: &[ArrayRef]) -> Result<ArrayRef> {
                #body
            }
            fn guarded(arrays: &[ArrayRef]) -> Result<ArrayRef> {
                ::std::panic::catch_unwind(::std::panic::AssertUnwindSafe(|| evaluate(arrays)))
                    .unwrap_or_else(|_| Err(DataFusionError::Execution(#failed.to_owned())))
            }
            ::datafusion::logical_expr::create_udf(
                #text,
                ::std::vec![#(#argument_types),*],
                #result_type,
                ::datafusion::logical_expr::Volatility::Immutable,
                ::std::sync::Arc::new(::datafusion::functions::utils::make_scalar_function(guarded, ::std::vec![])),
            )
        }
    })
}

/// The loop over the rows of a batch.
fn rows(name: &syn::Ident, signature: &Signature) -> TokenStream {
    let columns: Vec<_> = (0..signature.arguments.len()).map(|i| format_ident!("column_{i}")).collect();
    let arguments: Vec<_> = (0..signature.arguments.len()).map(|i| format_ident!("argument_{i}")).collect();
    let downcasts = signature.arguments.iter().map(|value| match value.sql {
        SqlType::Text => quote!(as_string_array),
        SqlType::BigInt => quote!(as_int64_array),
        SqlType::Double => quote!(as_float64_array),
    });
    let indices = 0..signature.arguments.len();
    let bindings = signature.arguments.iter().zip(&columns).zip(&arguments).map(|((value, column), argument)| {
        if value.nullable {
            quote!(let #argument = if #column.is_null(row) { None } else { Some(#column.value(row)) };)
        } else {
            quote! {
                if #column.is_null(row) {
                    results.append_null();
                    continue;
                }
                let #argument = #column.value(row);
            }
        }
    });
    let builder = match signature.result.sql {
        SqlType::Text => quote!(StringBuilder::with_capacity(rows, rows * 8)),
        SqlType::BigInt => quote!(Int64Builder::with_capacity(rows)),
        SqlType::Double => quote!(Float64Builder::with_capacity(rows)),
    };
    let append = match signature.result {
        Value { nullable: true, .. } => quote!(append_option),
        Value { nullable: false, .. } => quote!(append_value),
    };
    quote! {
        #(let #columns = #downcasts(arrays[#indices].as_ref())?;)*
        let rows = arrays[0].len();
        let mut results = #builder;
        for row in 0..rows {
            #(#bindings)*
            results.#append(#name(#(#arguments),*));
        }
        Ok(::std::sync::Arc::new(results.finish()))
    }
}

impl SqlType {
    fn data_type(self) -> TokenStream {
        match self {
            Self::Text => quote!(DataType::Utf8),
            Self::BigInt => quote!(DataType::Int64),
            Self::Double => quote!(DataType::Float64),
        }
    }
}
