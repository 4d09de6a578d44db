//! What a UDF takes and gives: the part of `arroyo-udf-plugin` 0.2's rules that both engines run.
//!
//! Arguments are `&str`, `i64`, `f64`, results `String`, `i64`, `f64`, each also in an `Option`. Arroyo has more (other
//! numbers, bytes, async and aggregate functions); those are refused here until a job needs one. Start at
//! [`Signature::of`].

use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericArgument, ItemFn, PathArguments, ReturnType, Type};

/// A column type that a UDF can take or give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SqlType {
    Text,
    BigInt,
    Double,
}

/// An argument or the result; nullable when it is an `Option`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) sql: SqlType,
    pub(crate) nullable: bool,
}

/// A function's arguments, one or more, and its result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) arguments: Vec<Value>,
    pub(crate) result: Value,
}

impl Signature {
    /// Reads the signature of an annotated function.
    ///
    /// # Errors
    /// Names the part that one of the engines would refuse, at its place in the source.
    pub(crate) fn of(function: &ItemFn) -> syn::Result<Self> {
        let declared = &function.sig;
        if let Some(token) = &declared.asyncness {
            return Err(Error::new(token.span(), "a UDF is a plain function: embedded jobs have nothing to wait on"));
        }
        if !declared.generics.params.is_empty() {
            return Err(Error::new(declared.generics.span(), "a UDF has concrete types: SQL can't choose them"));
        }
        // Arroyo reads the number of rows off the first argument.
        if declared.inputs.is_empty() {
            return Err(Error::new(declared.span(), "a UDF takes at least one argument"));
        }
        let arguments = declared.inputs.iter().map(argument).collect::<syn::Result<_>>()?;
        let ReturnType::Type(_, result) = &declared.output else {
            return Err(Error::new(declared.span(), "a UDF gives a value: String, i64 or f64"));
        };
        Ok(Self { arguments, result: value(result, true)? })
    }
}

fn argument(input: &FnArg) -> syn::Result<Value> {
    match input {
        FnArg::Receiver(receiver) => Err(Error::new(receiver.span(), "a UDF has no self")),
        FnArg::Typed(typed) => value(&typed.ty, false),
    }
}

fn value(ty: &Type, owned: bool) -> syn::Result<Value> {
    match option_of(ty) {
        Some(inner) => Ok(Value { sql: sql_type(inner, owned)?, nullable: true }),
        None => Ok(Value { sql: sql_type(ty, owned)?, nullable: false }),
    }
}

fn option_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == "Option")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) => Some(inner),
        _ => None,
    }
}

fn sql_type(ty: &Type, owned: bool) -> syn::Result<SqlType> {
    let refused = |why: &str| Err(Error::new(ty.span(), why));
    match ty {
        Type::Reference(reference) => match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") && owned => refused("a UDF gives String, not &str"),
            Type::Path(path) if path.path.is_ident("str") => Ok(SqlType::Text),
            Type::Path(path) if path.path.is_ident("String") => refused("a UDF takes &str, not &String"),
            _ => refused("a UDF takes numbers by value and text as &str"),
        },
        Type::Path(path) if path.path.is_ident("String") && owned => Ok(SqlType::Text),
        Type::Path(path) if path.path.is_ident("String") => refused("a UDF takes &str, not String"),
        Type::Path(path) if path.path.is_ident("i64") => Ok(SqlType::BigInt),
        Type::Path(path) if path.path.is_ident("f64") => Ok(SqlType::Double),
        Type::Path(path) if path.path.is_ident("bool") => {
            refused("Arroyo's plugin passes no bool; take or give an i64 of 0 and 1")
        }
        _ => refused("a UDF takes &str, i64 or f64 and gives String, i64 or f64, each also in an Option"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use syn::Item;

    fn accepted(function: &str) -> Signature {
        Signature::of(&syn::parse_str(function).expect("valid Rust")).expect("accepted")
    }

    fn refused(function: &str) -> String {
        Signature::of(&syn::parse_str(function).expect("valid Rust")).expect_err("refused").to_string()
    }

    #[test]
    fn the_common_types_are_accepted_alone_and_in_an_option() {
        let plain = |sql| Value { sql, nullable: false };
        let option = |sql| Value { sql, nullable: true };
        assert_eq!(
            accepted("fn f(a: &str, b: Option<i64>, c: f64) -> Option<String> { None }"),
            Signature {
                arguments: vec![plain(SqlType::Text), option(SqlType::BigInt), plain(SqlType::Double)],
                result: option(SqlType::Text),
            }
        );
        assert_eq!(accepted("pub fn f(a: Option<&str>) -> f64 { 0.0 }").arguments, vec![option(SqlType::Text)]);
    }

    #[test]
    fn what_arroyo_refuses_is_refused() {
        assert!(refused("fn f(a: bool) -> i64 { 0 }").contains("no bool"));
        assert!(refused("fn f(a: i64) -> bool { true }").contains("no bool"));
        assert!(refused("fn f(a: String) -> i64 { 0 }").contains("&str, not String"));
        assert!(refused("fn f(a: &String) -> i64 { 0 }").contains("&str, not &String"));
        assert!(refused("fn f(a: &str) -> &str { a }").contains("String, not &str"));
        assert!(refused("fn f(a: &i64) -> i64 { 0 }").contains("by value"));
        assert!(refused("fn f(a: SystemTime) -> i64 { 0 }").contains("also in an Option"));
        assert!(refused("fn f(a: i64) { }").contains("gives a value"));
        assert!(refused("fn f() -> i64 { 0 }").contains("at least one"));
    }

    /// Arroyo compiles a UDF file by itself and looks for exactly one annotated function at its top level, of that name.
    #[test]
    fn every_udf_file_has_one_udf_named_as_the_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../udfs");
        let mut files = 0;
        for entry in std::fs::read_dir(folder).expect("folder") {
            let path = entry.expect("entry").path();
            let source = std::fs::read_to_string(&path).expect("readable");
            let udfs: Vec<_> = syn::parse_file(&source)
                .expect("valid Rust")
                .items
                .into_iter()
                .filter_map(|item| match item {
                    Item::Fn(function) if function.attrs.iter().any(|a| a.path().is_ident("udf")) => Some(function),
                    _ => None,
                })
                .collect();
            assert_eq!(udfs.len(), 1, "{}", path.display());
            assert_eq!(Some(udfs[0].sig.ident.to_string().as_str()), path.file_stem().and_then(|stem| stem.to_str()));
            Signature::of(&udfs[0]).expect("accepted");
            assert!(source.contains("use arroyo_udf_plugin::udf;"), "{}", path.display());
            files += 1;
        }
        assert!(files > 0);
    }
}
